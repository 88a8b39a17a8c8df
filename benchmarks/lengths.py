#!/usr/bin/env python3
"""Sequences of different lengths in one batch, on a GPU: see benchmarks/README.md."""

from __future__ import annotations

import argparse
import functools
import inspect
import json
import math
import random

import flash_attn_mlir as fa
import torch
from attention import PRODUCTS, median, print_table, relative_error, time_calls

LONGEST = 4096
PEER = "torch varlen"


def draw_lengths(kind, generator):
    """Lengths of the sequences of a batch, int32."""
    if kind == "1k-4k":  # uniform
        return torch.randint(1024, LONGEST + 1, (8,), generator=generator, dtype=torch.int32)
    if kind == "64-4k":  # uniform in the logarithm
        return (2 ** (6 + 6 * torch.rand(32, generator=generator))).int()
    return torch.full((4,), LONGEST, dtype=torch.int32)


def own(chip, head_dim, causal, inputs, lengths, dout=None):
    """Padded tensors and lengths: () -> out, or the three gradients where dout is given."""
    q, k, v = inputs
    batch, seqlen, heads, _ = q.shape
    specification = {"dtype": "f16", "head_dim": head_dim, "causal": causal, "lengths": True}
    kernel = fa.compile(chip=chip, **specification)
    scale = head_dim**-0.5

    def forward():
        out = torch.empty_like(q)
        lse = torch.empty((batch, heads, seqlen), device="cuda")
        kernel(q, k, v, scale, lengths, lengths, out, lse)
        return out, lse

    if dout is None:
        return lambda: forward()[0]
    out, lse = forward()
    backward_kernel = fa.compile(chip=chip, **specification, backward=True, d_q_sum=True)
    width = -(-head_dim // 16) * 16

    def backward():
        delta = torch.empty_like(lse)
        d_q_sum = torch.empty((batch, heads, seqlen, width), device="cuda").transpose(1, 2)
        gradients = [torch.empty_like(x) for x in inputs]
        arguments = (q, k, v, out, lse, dout, scale, lengths, lengths)
        backward_kernel(*arguments, delta, d_q_sum, *gradients)
        return gradients

    return backward


def varlen(causal, inputs, lengths, dout=None):
    """PyTorch's varlen_attn (FlashAttention-2) of the same sequences, one behind the other."""
    from torch.nn.attention.varlen import varlen_attn

    options = {"window_size": (-1, 0 if causal else -1)}
    if "is_causal" in inspect.signature(varlen_attn).parameters:
        options = {"is_causal": causal}
    exists = torch.arange(inputs[0].shape[1], device="cuda") < lengths[:, None]
    packed = [x[exists].detach().requires_grad_(dout is not None) for x in inputs]
    ends = torch.nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))
    longest = int(lengths.max())

    def padded(x):
        result = x.new_zeros(inputs[0].shape)
        result[exists] = x
        return result

    call = functools.partial(varlen_attn, *packed, ends, ends, longest, longest, **options)
    if dout is None:
        return call, padded
    out, d_packed = call(), dout[exists]
    return (
        lambda: torch.autograd.grad(out, packed, d_packed, retain_graph=True),
        lambda gradients: [padded(x) for x in gradients],
    )


def measure(args, head_dim, causal, kind, flush):
    """A record per contestant."""
    lengths = draw_lengths(kind, torch.Generator().manual_seed(args.seed)).cuda()
    shape = (len(lengths), LONGEST, max(1, args.width // head_dim), head_dim)
    count = 4 if args.backward else 3
    tensors = [torch.randn(shape, device="cuda").half() for _ in range(count)]
    inputs, dout = tensors[:3], tensors[3] if args.backward else None
    calls, shown = {}, {}
    for chip in args.chips:
        calls[f"fa {chip}"] = own(chip, head_dim, causal, inputs, lengths, dout)
        shown[f"fa {chip}"] = lambda result: result
    calls[PEER], shown[PEER] = varlen(causal, inputs, lengths, dout)
    records = {}
    first = int(lengths[0])
    mask = "causal" if causal else "full"
    for name, call in calls.items():
        result = shown[name](call())

        def head(x):
            return x[:1, :first, :1]

        result = [head(x) for x in result] if args.backward else head(result)
        error = relative_error(
            result, [head(x) for x in inputs], mask, None if dout is None else head(dout)
        )
        records[name] = {"name": name, "shape": shape, "mask": mask, "lengths": kind}
        records[name]["error"] = error
    rounds = {name: [] for name in calls}
    for _ in range(args.rounds):
        for name in random.sample(list(calls), len(calls)):
            rounds[name].append(median(time_calls(calls[name], flush, args.calls)))
    pairs = float((lengths.double() ** 2).sum()) * (0.5 if causal else 1.0)
    products = sum(PRODUCTS["backward" if args.backward else "forward"])
    for name, record in records.items():
        record["ms"] = median(rounds[name])
        record["tflops"] = 2 * products * shape[2] * head_dim * pairs / record["ms"] / 1e9
        ratios = [p / own for p, own in zip(rounds[PEER], rounds[name])]
        record[f"ratio to {PEER}"] = median(ratios)
    return list(records.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--head-dims", default="64,128,256")
    parser.add_argument("--chips", default="sm_80,sm_90a")
    parser.add_argument("--kinds", default="1k-4k,64-4k,equal", help="how lengths are drawn")
    parser.add_argument("--backward", action="store_true", help="the gradients alone")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=3, help="timed calls per round")
    parser.add_argument("--width", type=int, default=2048, help="heads * head_dim")
    parser.add_argument("--seed", type=int, default=1, help="of the lengths")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    args.chips = args.chips.split(",")
    flush = torch.empty(256 << 20, dtype=torch.int8, device="cuda")
    records = []
    for head_dim in map(int, args.head_dims.split(",")):
        for causal in (False, True):
            for kind in args.kinds.split(","):
                records += measure(args, head_dim, causal, kind, flush)
    rows = [
        [
            str(x["shape"][3]),
            x["mask"],
            x["lengths"],
            x["name"],
            f"{x['tflops']:.1f}",
            "" if math.isclose(x[f"ratio to {PEER}"], 1.0) else f"{x[f'ratio to {PEER}']:.2f}",
            f"{x['error']:.1e}",
        ]
        for x in records
    ]
    print_table(rows, ["D", "mask", "lengths", "kernel", "TFLOP/s", f"x {PEER}", "error"])
    if args.json:
        with open(args.json, "w") as file:
            result = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
            json.dump({**result, "cells": records}, file, indent=1)


if __name__ == "__main__":
    main()
