#!/usr/bin/env python3
"""Speed of this project's attention beside public peers: see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time

import flash_attn_mlir as fa


def median(values):
    return statistics.median(values) if values else math.nan


def shape_of(seqlen, head_dim, tokens, width):
    """(batch, seqlen, heads, head_dim) of `tokens` tokens and `width` channels."""
    return max(1, tokens // seqlen), seqlen, max(1, width // head_dim), head_dim


def flop_count(shape, causal):
    batch, seqlen, heads, head_dim = shape
    return 4 * batch * heads * seqlen**2 * head_dim * (0.5 if causal else 1.0)


def print_table(rows, columns):
    widths = [max(len(title), *(len(row[i]) for row in rows)) for i, title in enumerate(columns)]
    for line in (columns, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.rjust(w) for cell, w in zip(line, widths)) + " |", flush=True)


# ---------------------------------------------------------------------------
# GPU
# ---------------------------------------------------------------------------


def own_gpu(chip, dtype, head_dim, causal):
    """A function (q, k, v) -> out over an explicit artifact."""
    import torch

    short = {"float16": "f16", "bfloat16": "bf16"}[dtype]
    kernel = fa.compile(chip=chip, dtype=short, head_dim=head_dim, causal=causal)
    scale = head_dim**-0.5

    def call(q, k, v):
        batch, seqlen, heads, _ = q.shape
        out = torch.empty_like(q)
        lse = torch.empty((batch, heads, seqlen), device=q.device, dtype=torch.float32)
        kernel(q, k, v, scale, out, lse)
        return out

    return call


def sdpa(backend, causal):
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    backend = getattr(SDPBackend, backend)

    def call(q, k, v):
        with sdpa_kernel(backend):
            return torch.nn.functional.scaled_dot_product_attention(
                q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=causal
            ).transpose(1, 2)

    return call


def relative_error(out, q, k, v, causal, heads=1):
    """Relative L2 against float64, on the first batch and head."""
    import torch

    q, k, v = (x[:1, :, :heads].double().transpose(1, 2) for x in (q, k, v))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    difference = out[:1, :, :heads].double().transpose(1, 2) - expected
    return float(difference.norm() / expected.norm())


def contestants_gpu(args, head_dim, causal):
    """name -> (q, k, v) -> out; those that refuse the problem map to None."""
    made = {}
    for chip in args.chips:
        made[f"fa {chip}"] = lambda chip=chip: own_gpu(chip, args.dtype, head_dim, causal)
    made["torch flash"] = lambda: sdpa("FLASH_ATTENTION", causal)
    made["torch cudnn"] = lambda: sdpa("CUDNN_ATTENTION", causal)
    return made


def time_calls(call, inputs, flush, count):
    """Milliseconds of `count` calls, each with a cold L2 cache."""
    import torch

    events = [
        (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
        for _ in range(count)
    ]
    for start, end in events:
        flush.zero_()
        start.record()
        call(*inputs)
        end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in events]


def run_gpu_cell(args, shape, causal, flush):
    """One shape: every contestant in every round; returns a record per contestant."""
    import torch

    dtype = getattr(torch, args.dtype)
    inputs = [torch.randn(shape, device="cuda", dtype=torch.float32).to(dtype) for _ in range(3)]
    calls, records = {}, {}
    for name, make in contestants_gpu(args, shape[3], causal).items():
        records[name] = {"name": name, "shape": shape, "causal": causal, "dtype": args.dtype}
        try:
            call = make()
            out = call(*inputs)
            torch.cuda.synchronize()
            records[name]["error"] = relative_error(out, *inputs, causal)
            del out
            for _ in range(2):
                call(*inputs)
            calls[name] = call
        except Exception as error:
            records[name]["refused"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    times = {name: [] for name in calls}
    rounds = {name: [] for name in calls}
    for _ in range(args.rounds):
        order = list(calls)
        random.shuffle(order)
        for name in order:
            measured = time_calls(calls[name], inputs, flush, args.calls)
            times[name] += measured
            rounds[name].append(median(measured))
    for name in calls:
        record = records[name]
        record["ms"] = median(times[name])
        record["tflops"] = flop_count(shape, causal) / record["ms"] / 1e9
        for peer in ("torch flash", "torch cudnn"):
            if peer in calls and name != peer:
                ratios = [p / own for p, own in zip(rounds[peer], rounds[name])]
                record[f"ratio to {peer}"] = median(ratios)
    return list(records.values())


def gpu(args):
    import torch

    major, minor = torch.cuda.get_device_capability()
    if not args.chips:
        args.chips = ["sm_80", "sm_90a"] if (major, minor) == (9, 0) else ["sm_80"]
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, {args.dtype}, TFLOP/s")
    flush = torch.empty(256 << 20, dtype=torch.int8, device="cuda")
    results, rows = [], []
    for head_dim in args.head_dims:
        for causal in (False, True):
            for seqlen in args.seqlens:
                shape = shape_of(seqlen, head_dim, args.tokens, args.width)
                records = run_gpu_cell(args, shape, causal, flush)
                results += records
                for record in records:
                    if "ms" not in record:
                        rows.append([*label(record), "-", "-", "-", "-"])
                        print(f"  {record['name']} refused {shape}: {record['refused']}")
                        continue
                    ratios = [
                        record.get(f"ratio to torch {p}", math.nan) for p in ("flash", "cudnn")
                    ]
                    rows.append(
                        [
                            *label(record),
                            f"{record['tflops']:.1f}",
                            *(f"{r:.2f}" if not math.isnan(r) else "" for r in ratios),
                            f"{record['error']:.1e}",
                        ]
                    )
    print_table(
        rows, ["D", "mask", "S", "kernel", "TFLOP/s", "x torch flash", "x torch cudnn", "error"]
    )
    return {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "cells": results}


def label(record):
    _, seqlen, _, head_dim = record["shape"]
    return [str(head_dim), "causal" if record["causal"] else "full", str(seqlen), record["name"]]


# ---------------------------------------------------------------------------
# CPU
# ---------------------------------------------------------------------------


def cpu(args):
    import torch

    torch.set_num_threads(args.threads)
    fa.set_num_threads(args.threads)
    dtype = getattr(torch, args.dtype)
    print(f"{platform.processor() or platform.machine()}, {args.threads} threads, {args.dtype}")
    results, rows = [], []
    for head_dim in args.head_dims:
        for causal in (False, True):
            for seqlen in args.seqlens:
                shape = (1, seqlen, 8, head_dim)
                q, k, v = (torch.randn(shape, dtype=torch.float32).to(dtype) for _ in range(3))
                calls = {
                    "fa": lambda: fa.flash_attn_func(q, k, v, causal=causal),
                    "torch": lambda: torch.nn.functional.scaled_dot_product_attention(
                        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=causal
                    ).transpose(1, 2),
                }
                error = relative_error(calls["fa"](), q, k, v, causal)
                calls["torch"]()
                times = {name: [] for name in calls}
                for _ in range(args.rounds):
                    for name in random.sample(list(calls), 2):
                        start = time.perf_counter()
                        calls[name]()
                        times[name].append(time.perf_counter() - start)
                gflops = {n: flop_count(shape, causal) / median(t) / 1e9 for n, t in times.items()}
                ratio = median([t / own for t, own in zip(times["torch"], times["fa"])])
                results.append(
                    {
                        "shape": shape,
                        "causal": causal,
                        "dtype": args.dtype,
                        "gflops": gflops,
                        "ratio to torch": ratio,
                        "error": error,
                    }
                )
                rows.append(
                    [
                        str(head_dim),
                        "causal" if causal else "full",
                        str(seqlen),
                        f"{gflops['fa']:.1f}",
                        f"{gflops['torch']:.1f}",
                        f"{ratio:.2f}",
                        f"{error:.1e}",
                    ]
                )
    print_table(rows, ["D", "mask", "S", "GFLOP/s", "torch GFLOP/s", "x torch", "error"])
    return {"threads": args.threads, "torch": torch.__version__, "cells": results}


# ---------------------------------------------------------------------------
# Compile time and host overhead
# ---------------------------------------------------------------------------


def compile_times(args):
    """Specification -> kernel, without a cache and from the cache on disk.

    On a machine with a CUDA device the GPU kernels are also launched once, so
    that the driver has loaded them.
    """
    from flash_attn_mlir import _fa

    chips = args.chips or ["cpu", "sm_80", "sm_90a"]
    results, rows = [], []
    fa.compile(chip="cpu", dtype="f32", head_dim=8, cache=False)  # the library is loaded
    with tempfile.TemporaryDirectory() as folder:
        for chip in chips:
            for head_dim in args.head_dims:
                specification = {"chip": chip, "head_dim": head_dim, "causal": True}
                specification["dtype"] = "f32" if chip == "cpu" else "f16"
                cold, hit = [], []
                for repeat in range(args.rounds):
                    start = time.perf_counter()
                    kernel = fa.compile(**specification, cache=False)
                    launch_once(kernel, _fa)
                    cold.append(time.perf_counter() - start)
                    cache = os.path.join(folder, f"{chip}-{head_dim}")
                    if repeat == 0:
                        fa.compile(**specification, cache=cache)
                    start = time.perf_counter()
                    kernel = fa.compile(**specification, cache=cache)
                    launch_once(kernel, _fa)
                    hit.append(time.perf_counter() - start)
                results.append({**specification, "cold_s": median(cold), "cached_s": median(hit)})
                rows.append(
                    [chip, str(head_dim), f"{median(cold) * 1e3:.0f}", f"{median(hit) * 1e3:.2f}"]
                )
    print_table(rows, ["chip", "D", "compile ms", "from disk cache ms"])
    return {"cells": results}


def launch_once(kernel, native):
    """Runs a kernel on one small problem where this machine can: it is loaded then."""
    head_dim = kernel.metadata["args"][0]["sizes"][-1]
    shape, lse_shape = (1, 1, 1, head_dim), (1, 1, 1)
    if kernel.chip == "cpu":
        import numpy as np

        q, lse = np.zeros(shape, np.float32), np.zeros(lse_shape, np.float32)
        kernel(q, q, q, 1.0, np.zeros_like(q), lse)
    elif native.device_count():
        import torch

        q = torch.zeros(shape, device="cuda", dtype=torch.float16)
        lse = torch.zeros(lse_shape, device="cuda", dtype=torch.float32)
        kernel(q, q, q, 1.0, torch.empty_like(q), lse)
        torch.cuda.synchronize()


def overhead(args):
    """Host microseconds of one call on the smallest problem."""
    results = {}
    try:
        import torch
    except ImportError:
        torch = None
    import numpy as np

    inputs = {"numpy cpu": np.zeros((1, 1, 1, 64), np.float32)}
    if torch:
        inputs["torch cpu"] = torch.zeros(1, 1, 1, 64)
        if torch.cuda.is_available():
            inputs["torch cuda"] = torch.zeros(1, 1, 1, 64, device="cuda", dtype=torch.float16)
    for name, x in inputs.items():
        fa.flash_attn_func(x, x, x)
        times = []
        for _ in range(20):
            start = time.perf_counter()
            for _ in range(100):
                fa.flash_attn_func(x, x, x)
            times.append((time.perf_counter() - start) / 100 * 1e6)
        results[name] = median(times)
    print_table([[name, f"{us:.1f}"] for name, us in results.items()], ["arrays", "us per call"])
    return {"microseconds": results}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name, run, head_dims, seqlens, dtype, rounds):
        sub = commands.add_parser(name, help=(run.__doc__ or "").split("\n")[0])
        integers = lambda text: [int(x) for x in text.split(",")]  # noqa: E731
        sub.add_argument("--head-dims", type=integers, default=head_dims)
        sub.add_argument("--seqlens", type=integers, default=seqlens)
        sub.add_argument("--dtype", default=dtype)
        sub.add_argument("--rounds", type=int, default=rounds)
        sub.add_argument("--calls", type=int, default=10, help="timed calls per round (gpu)")
        sub.add_argument("--tokens", type=int, default=16384)
        sub.add_argument("--width", type=int, default=2048, help="heads * head_dim")
        sub.add_argument("--threads", type=int, default=2, help="cpu")
        sub.add_argument("--chips", type=lambda text: text.split(","), help="artifacts to measure")
        sub.add_argument("--json", metavar="FILE")
        sub.set_defaults(run=run)

    command("gpu", gpu, [64, 128, 256], [1024, 4096, 16384], "float16", 7)
    command("cpu", cpu, [64], [1024, 2048, 4096], "float32", 9)
    command("compile", compile_times, [64, 128], [], "", 3)
    command("overhead", overhead, [], [], "", 1)
    args = parser.parse_args()
    if args.rounds < 5 and args.command in ("gpu", "cpu"):
        print("note: a ratio should be the median of at least 5 rounds", file=sys.stderr)
    result = {"command": " ".join(sys.argv[1:]), "version": fa.__version__, **args.run(args)}
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        cwd=os.path.dirname(os.path.abspath(__file__)),
    )
    result["commit"] = commit.stdout.strip()
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
