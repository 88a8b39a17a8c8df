#!/usr/bin/env python3
"""GPU time of one query token, or a few, with many keys: see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import random

import torch
from attention import median, print_table
from flash_attn_mlir import _attention, _compiler

# (batch, keys): with 32 query heads, 8 key heads and head size 128 by default.
CELLS = [(1, 8192), (32, 8192), (1, 65536), (8, 65536)]

PLAN = (
    '#fa.schedule<tile_m = 16, tile_n = {n}, plan = #tile.plan<chip = "{chip}", '
    'mma = "mma_sync", copy = "cp_async", warps = 1, producers = 0, stages = {stages}>, '
    "packed = true>"
)


def own(chip, inputs, pack=True):
    """flash_attn_func with an artifact of `chip`; not `pack`: a block per query head."""
    operands = [_attention._Operand(name, x, 4) for name, x in zip("qkv", inputs)]
    options = _attention._check_options(0.0, None, (-1, -1), 0.0, None, False)
    causal = inputs[0].shape[1] > 1

    def call():
        blocks = _attention._few_blocks
        if not pack:
            _attention._few_blocks = lambda queries, group: (group, False)
        try:
            return _attention._forward(operands, options, causal, chip)[0]
        finally:
            _attention._few_blocks = blocks

    return call


def explicit(chip, inputs, schedule, parts):
    """The program with a given schedule and number of parts."""
    q, k, v = inputs
    dtype = {torch.float16: "f16", torch.bfloat16: "bf16"}[q.dtype]
    kernel = _compiler.compile(
        chip=chip,
        dtype=dtype,
        head_dim=q.shape[3],
        query_rows=1,
        partials=parts > 1,
        schedule=schedule,
    )
    out = torch.empty_like(q)
    lse = torch.empty((q.shape[0], q.shape[2], 1), device=q.device)
    partials = []
    if parts > 1:
        partials = [torch.empty((parts, *x.shape), device=q.device) for x in (out, lse)]

    def call():
        kernel(q, k, v, q.shape[3] ** -0.5, out, lse, *partials)
        return out

    return call


def sdpa(backend, inputs):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.attention.bias import causal_lower_right

    views = [x.transpose(1, 2) for x in inputs]
    queries, keys = inputs[0].shape[1], inputs[1].shape[1]
    mask = causal_lower_right(queries, keys) if queries > 1 else None

    def call():
        with sdpa_kernel(getattr(SDPBackend, backend)):
            return torch.nn.functional.scaled_dot_product_attention(
                *views, attn_mask=mask, enable_gqa=True
            ).transpose(1, 2)

    return call


def flash_attention(inputs):
    """FlashAttention's own function for decoding, where its package is installed."""
    import flash_attn

    q, k, v = inputs
    return lambda: flash_attn.flash_attn_with_kvcache(q, k, v, causal=q.shape[1] > 1)


def contestants(args, inputs):
    """name -> () -> call."""
    made = {f"fa {chip}": lambda chip=chip: own(chip, inputs) for chip in args.chips}
    batch, keys, heads_k, _ = inputs[1].shape
    if args.queries > 1:
        for chip in args.chips:
            made[f"fa {chip}, not packed"] = lambda chip=chip: own(chip, inputs, pack=False)
    for chip in args.chips if args.sweep and args.queries == 1 else []:
        for n, stages in [(64, 1), (32, 2), (64, 2), (128, 1)]:
            for at_once in (2, 4, 6, 8, 12):
                slots = torch.cuda.get_device_properties(0).multi_processor_count * at_once
                parts = max(1, min(slots // (batch * heads_k), 128, -(-keys // 64)))
                schedule = PLAN.format(chip=chip, n=n, stages=stages)
                name = f"{chip} n {n} stages {stages} parts {parts}"
                made[name] = lambda chip=chip, s=schedule, p=parts: explicit(chip, inputs, s, p)
    made["torch flash"] = lambda: sdpa("FLASH_ATTENTION", inputs)
    made["torch cudnn"] = lambda: sdpa("CUDNN_ATTENTION", inputs)
    made["flash_attn kvcache"] = lambda: flash_attention(inputs)
    return made


def captured(call):
    """`call` as a CUDA graph: its launches without the time of the host."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()
    return graph, result


def time_graph(graph, flush, count):
    """Microseconds of `count` replays, each with a cold L2 cache."""
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(count)]
    for start, end in events:
        flush.zero_()
        start.record()
        graph.replay()
        end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) * 1e3 for start, end in events]


def expected(inputs):
    """float64, of the first sequence."""
    q, k, v = (x[:1].double().transpose(1, 2) for x in inputs)
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, 1) for x in (k, v))
    scores = q @ k.transpose(2, 3) * q.shape[3] ** -0.5
    rows, columns = scores.shape[2:]
    dropped = torch.ones(rows, columns, dtype=torch.bool, device=q.device).triu(columns - rows + 1)
    p = torch.softmax(scores.masked_fill(dropped, -torch.inf), -1)
    return (p @ v).transpose(1, 2)


def run_cell(args, batch, keys, flush):
    dtype = getattr(torch, args.dtype)
    inputs = [
        torch.randn(batch, length, heads, args.head_dim, device="cuda", dtype=dtype)
        for length, heads in (
            (args.queries, args.heads),
            (keys, args.heads_k),
            (keys, args.heads_k),
        )
    ]
    want = expected(inputs)
    graphs, records = {}, {}
    for name, make in contestants(args, inputs).items():
        records[name] = {"name": name, "batch": batch, "keys": keys}
        try:
            graphs[name], result = captured(make())
            graphs[name].replay()
            error = (result[:1].double() - want).norm() / want.norm()
            records[name]["error"] = float(error)
        except Exception as error:
            torch.cuda.synchronize()
            records[name]["refused"] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    times = {name: [] for name in graphs}
    for _ in range(args.rounds):
        order = list(graphs)
        random.shuffle(order)
        for name in order:
            times[name].append(median(time_graph(graphs[name], flush, args.calls)))
    size = 2 * inputs[1].numel() * inputs[1].element_size()
    for name, values in times.items():
        records[name]["us"] = median(values)
        records[name]["TB/s"] = size / records[name]["us"] / 1e6
    return list(records.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    cells = lambda text: [tuple(map(int, x.split("x"))) for x in text.split(",")]  # noqa: E731
    parser.add_argument("--cells", type=cells, default=CELLS, help="batch x keys: 1x8192,32x8192")
    parser.add_argument("--queries", type=int, default=1, help="causal at the bottom right")
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--heads-k", type=int, default=8)
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--dtype", default="float16")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=20, help="timed calls per round")
    parser.add_argument("--chips", type=lambda text: text.split(","), default=None)
    parser.add_argument("--sweep", action="store_true", help="other schedules and parts, too")
    parser.add_argument("--json", help="write the results to this file")
    args = parser.parse_args()
    if not args.chips:
        args.chips = [_compiler.default_chip(0)]
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, {args.dtype}, "
          f"{args.heads}/{args.heads_k} heads of {args.head_dim}, one query")  # fmt: skip
    flush = torch.empty(256 << 20, dtype=torch.int8, device="cuda")
    results = []
    for batch, keys in args.cells:
        results += run_cell(args, batch, keys, flush)
    rows = []
    for record in results:
        cell = f"{record['batch']}x{record['keys']}"
        if "us" not in record:
            print(f"  {record['name']} refused {cell}: {record['refused']}")
            continue
        numbers = [f"{record['us']:.1f}", f"{record['TB/s']:.2f}", f"{record['error']:.1e}"]
        rows.append([cell, record["name"], *numbers])
    print_table(rows, ["cell", "kernel", "us", "TB/s of K and V", "error"])
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"device": torch.cuda.get_device_name(), "cells": results}, file, indent=1)


if __name__ == "__main__":
    main()
