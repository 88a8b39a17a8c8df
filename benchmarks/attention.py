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
from flash_attn_mlir._attention import _one_pass_is_faster


def median(values):
    return statistics.median(values) if values else math.nan


def shape_of(seqlen, head_dim, tokens, width):
    """(batch, seqlen, heads, head_dim) of `tokens` tokens and `width` channels."""
    return max(1, tokens // seqlen), seqlen, max(1, width // head_dim), head_dim


# Matrix products in units of the forward's: the backward has five where it has two.
WORK = {"forward": 1.0, "backward": 2.5, "both": 3.5}


def flop_count(shape, causal, what="forward"):
    batch, seqlen, heads, head_dim = shape
    return 4 * batch * heads * seqlen**2 * head_dim * (0.5 if causal else 1.0) * WORK[what]


def print_table(rows, columns):
    widths = [max(len(title), *(len(row[i]) for row in rows)) for i, title in enumerate(columns)]
    for line in (columns, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.rjust(w) for cell, w in zip(line, widths)) + " |", flush=True)


# ---------------------------------------------------------------------------
# GPU
# ---------------------------------------------------------------------------


def own_gpu(chip, dtype, causal, inputs, dout, one_pass=False):
    """A call of an explicit artifact: () -> out, or the gradients where dout is given.

    one_pass: d_q is summed in memory, as the library does where that is faster.
    """
    import torch

    q, k, v = inputs
    batch, seqlen, heads, head_dim = q.shape
    short = {"float16": "f16", "bfloat16": "bf16"}[dtype]
    specification = {"chip": chip, "dtype": short, "head_dim": head_dim, "causal": causal}
    kernel = fa.compile(**specification)
    scale = head_dim**-0.5

    def forward():
        out = torch.empty_like(q)
        lse = torch.empty((batch, heads, seqlen), device=q.device, dtype=torch.float32)
        kernel(q, k, v, scale, out, lse)
        return out, lse

    if dout is None:
        return lambda: forward()[0]
    out, lse = forward()
    backward_kernel = fa.compile(**specification, backward=True, d_q_sum=one_pass)
    filled = (batch, heads, -(-seqlen // 8) * 8, -(-head_dim // 16) * 16)

    def backward():
        workspaces = [torch.empty_like(lse)]
        if one_pass:
            workspaces.append(torch.empty(filled, device=q.device).transpose(1, 2))
        gradients = [torch.empty_like(x) for x in inputs]
        backward_kernel(q, k, v, out, lse, dout, scale, *workspaces, *gradients)
        return gradients

    return backward


def sdpa(backend, causal, inputs, dout):
    """The same of PyTorch's operator with one of its backends."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    backend = getattr(SDPBackend, backend)
    views = [x.transpose(1, 2).requires_grad_(dout is not None) for x in inputs]

    def forward():
        with sdpa_kernel(backend):
            return torch.nn.functional.scaled_dot_product_attention(*views, is_causal=causal)

    if dout is None:
        return lambda: forward().transpose(1, 2)
    out = forward()

    def backward():
        grads = torch.autograd.grad(out, views, dout.transpose(1, 2), retain_graph=True)
        return [grad.transpose(1, 2) for grad in grads]

    return backward


def relative_error(result, inputs, causal, dout=None):
    """Relative L2 against float64 on the first batch and head; the largest of three gradients."""
    import torch

    def head(x):
        return x[:1, :, :1].detach().double().transpose(1, 2)

    wide = [head(x).requires_grad_(dout is not None) for x in inputs]
    out = torch.nn.functional.scaled_dot_product_attention(*wide, is_causal=causal)
    if dout is None:
        expected, result = [out], [result]
    else:
        expected = torch.autograd.grad(out, wide, head(dout))
    return max(float((head(r) - e).norm() / e.norm()) for r, e in zip(result, expected))


def contestants_gpu(args, causal, inputs, dout):
    """name -> () -> call; a factory raises where the contestant refuses the problem."""
    made = {}
    for chip in args.chips:
        one_pass = dout is not None and _one_pass_is_faster(chip, inputs[0].shape[3])
        for passes in [True, False] if one_pass else [False]:
            name = f"fa {chip}, deterministic" if one_pass and not passes else f"fa {chip}"
            made[name] = lambda chip=chip, passes=passes: own_gpu(
                chip, args.dtype, causal, inputs, dout, passes
            )
    made["torch flash"] = lambda: sdpa("FLASH_ATTENTION", causal, inputs, dout)
    made["torch cudnn"] = lambda: sdpa("CUDNN_ATTENTION", causal, inputs, dout)
    return made


def time_calls(call, flush, count):
    """Milliseconds of `count` calls, each with a cold L2 cache."""
    import torch

    events = [
        (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
        for _ in range(count)
    ]
    for start, end in events:
        flush.zero_()
        start.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in events]


def run_gpu_cell(args, shape, causal, flush):
    """One shape: every contestant in every round; returns a record per contestant."""
    import torch

    dtype = getattr(torch, args.dtype)

    def draw():
        return torch.randn(shape, device="cuda", dtype=torch.float32).to(dtype)

    inputs = [draw() for _ in range(3)]
    dout = draw() if args.backward else None
    calls, records = {}, {}
    for name, make in contestants_gpu(args, causal, inputs, dout).items():
        records[name] = {"name": name, "shape": shape, "causal": causal, "dtype": args.dtype}
        try:
            call = make()
            result = call()
            torch.cuda.synchronize()
            records[name]["error"] = relative_error(result, inputs, causal, dout)
            del result
            for _ in range(2):
                call()
            calls[name] = call
        except Exception as error:
            records[name]["refused"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    times = {name: [] for name in calls}
    rounds = {name: [] for name in calls}
    for _ in range(args.rounds):
        order = list(calls)
        random.shuffle(order)
        for name in order:
            measured = time_calls(calls[name], flush, args.calls)
            times[name] += measured
            rounds[name].append(median(measured))
    for name in calls:
        record = records[name]
        record["ms"] = median(times[name])
        what = "backward" if args.backward else "forward"
        record["tflops"] = flop_count(shape, causal, what) / record["ms"] / 1e9
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
    what = "backward" if args.backward else "forward"
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, {args.dtype}, {what}")
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


def contestants_cpu(args, shape, causal):
    """name -> call, and the error of this project's result."""
    import torch

    dtype = getattr(torch, args.dtype)

    def draw():
        return torch.randn(shape, dtype=torch.float32).to(dtype).requires_grad_(args.backward)

    inputs = [draw() for _ in range(3)]
    dout = draw().detach() if args.backward else None

    def own():
        return fa.flash_attn_func(*inputs, causal=causal)

    def peer():
        views = (x.transpose(1, 2) for x in inputs)
        out = torch.nn.functional.scaled_dot_product_attention(*views, is_causal=causal)
        return out.transpose(1, 2)

    def with_gradients(forward):
        if dout is None:
            return forward
        return lambda: torch.autograd.grad(forward(), inputs, dout)

    calls = {"fa": with_gradients(own), "torch": with_gradients(peer)}
    calls["torch"]()
    return calls, relative_error(calls["fa"](), inputs, causal, dout)


def cpu(args):
    import torch

    clock = time.process_time if args.process_time else time.perf_counter
    torch.set_num_threads(args.threads)
    fa.set_num_threads(args.threads)
    print(f"{platform.processor() or platform.machine()}, {args.threads} threads, {args.dtype}")
    results, rows = [], []
    for head_dim in args.head_dims:
        for causal in (False, True):
            for seqlen in args.seqlens:
                shape = (1, seqlen, 8, head_dim)
                calls, error = contestants_cpu(args, shape, causal)
                times = {name: [] for name in calls}
                for _ in range(args.rounds):
                    for name in random.sample(list(calls), 2):
                        start = clock()
                        calls[name]()
                        times[name].append(clock() - start)
                flops = flop_count(shape, causal, "both" if args.backward else "forward")
                gflops = {n: flops / median(t) / 1e9 for n, t in times.items()}
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
    that the driver has loaded them. With --backward: until a call of flash_attn_func
    and its gradients are done.
    """
    chips = args.chips or ["cpu", "sm_80", "sm_90a"]
    results, rows = [], []
    fa.compile(chip="cpu", dtype="f32", head_dim=8, cache=False)  # the library is loaded
    measure = train_once if args.backward else compile_once
    for chip in chips:
        for head_dim in args.head_dims:
            cold, hit = [], []
            for _ in range(args.rounds):
                with tempfile.TemporaryDirectory() as cache:
                    cold.append(measure(chip, head_dim, args.features, cache))
                    hit.append(measure(chip, head_dim, args.features, cache))
            results.append(
                {
                    "chip": chip,
                    "head_dim": head_dim,
                    "cold_s": median(cold),
                    "cached_s": median(hit),
                }
            )
            rows.append(
                [chip, str(head_dim), f"{median(cold) * 1e3:.0f}", f"{median(hit) * 1e3:.2f}"]
            )
    print_table(rows, ["chip", "D", "compile ms", "from disk cache ms"])
    return {"cells": results}


def compile_once(chip, head_dim, features, cache):
    """Seconds until a forward kernel is compiled and, where this machine can, has run."""
    from flash_attn_mlir import _fa

    dtype = "f32" if chip == "cpu" else "f16"
    options = {name: True for name in features}
    start = time.perf_counter()
    kernel = fa.compile(
        chip=chip, head_dim=head_dim, dtype=dtype, causal=True, cache=cache, **options
    )
    launch_once(kernel, _fa)
    return time.perf_counter() - start


def train_once(chip, head_dim, features, cache):
    """Seconds of a causal flash_attn_func and its gradients, nothing compiled before."""
    import torch
    from flash_attn_mlir import _attention

    if features:
        raise SystemExit("--features: not with --backward")
    _attention._kernels.clear()
    _attention._chips.clear()
    device, dtype = ("cpu", torch.float32) if chip == "cpu" else ("cuda", torch.float16)
    if chip != "cpu":
        _attention._chips[0] = chip
    os.environ["FA_CACHE_DIR"] = cache
    x = torch.randn(1, 64, 1, head_dim, device=device, dtype=dtype, requires_grad=True)
    start = time.perf_counter()
    fa.flash_attn_func(x, x, x, causal=True).sum().backward()
    if chip != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def launch_once(kernel, native):
    """Runs a kernel on one small problem where this machine can: it is loaded then."""
    on_cpu = kernel.chip == "cpu"
    if not on_cpu and not native.device_count():
        return
    arguments = []
    for entry in kernel.metadata["args"]:
        if "sizes" not in entry:
            arguments.append(1)
            continue
        shape = [size or 1 for size in entry["sizes"]]
        if on_cpu:
            import numpy as np

            arguments.append(np.zeros(shape, {"f32": np.float32}[entry["dtype"]]))
        else:
            import torch

            dtype = {"f16": torch.float16, "f32": torch.float32}[entry["dtype"]]
            arguments.append(torch.zeros(shape, device="cuda", dtype=dtype))
    kernel(*arguments)
    if not on_cpu:
        torch.cuda.synchronize()


def overhead(args):
    """Host microseconds of one call on the smallest problem, and of its pieces."""
    try:
        import torch
    except ImportError:
        torch = None
    import numpy as np

    x = np.zeros((1, 1, 1, 8), np.float32)
    results = {"numpy cpu": {"fa": time_host(lambda: fa.flash_attn_func(x, x, x))}}
    devices = [] if torch is None else ["cpu"] + ["cuda"] * torch.cuda.is_available()
    for device in devices:
        results[f"torch {device}"] = {
            name: time_host(call, torch.cuda.synchronize if device == "cuda" else None)
            for name, call in host_calls(torch, device).items()
        }
    importing = "import time; start = time.perf_counter(); import flash_attn_mlir; "
    importing += "print(time.perf_counter() - start)"
    results["import after torch" if torch else "import"] = {
        "fa": 1e6
        * median(
            [float(python(f"import torch; {importing}" if torch else importing)) for _ in range(5)]
        )
    }
    rows = [
        [where, name, f"{us:.1f}"] for where, calls in results.items() for name, us in calls.items()
    ]
    print_table(rows, ["arrays", "call", "us"])
    return {"microseconds": results, "torch": torch and torch.__version__}


def python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def time_host(call, wait=None):
    """Median microseconds of `call`, whose work on a device is waited for outside."""
    times = []
    for _ in range(21):
        if wait:
            wait()
        start = time.perf_counter()
        for _ in range(100):
            call()
        times.append((time.perf_counter() - start) / 100 * 1e6)
    return median(times)


def host_calls(torch, device):
    """Name -> call, ours and PyTorch's."""
    from flash_attn_mlir import _attention

    # More rows than programs for few queries take. On the CPU the kernel is part of the call.
    on_gpu = device == "cuda"
    shape, dtype = ((1, 64, 1, 64), torch.float16) if on_gpu else ((1, 17, 1, 8), None)
    x = torch.zeros(shape, device=device, dtype=dtype)
    y = x.detach().clone().requires_grad_()
    attention = fa.flash_attn_func
    sdpa = torch.nn.functional.scaled_dot_product_attention
    swapped, leaf = x.transpose(1, 2), y.transpose(1, 2)

    def general(x, **options):
        is_closed = _attention._short_way_is_closed
        _attention._short_way_is_closed = lambda: True
        try:
            attention(x, x, x, **options)
        finally:
            _attention._short_way_is_closed = is_closed

    out = attention(y, y, y)
    keys = torch.zeros((1, 4096, 1, shape[3]), device=device, dtype=dtype)
    calls = {
        "fa": lambda: attention(x, x, x),
        "fa, with lse": lambda: attention(x, x, x, return_attn_probs=True),
        "fa, with gradients": lambda: attention(y, y, y),
        "fa, the general way": lambda: general(x),
        "fa, the general way, with gradients": lambda: general(y),
        "fa, one query, 4096 keys": lambda: attention(x[:, :1], keys, keys),
        "backward of fa": lambda: torch.autograd.grad(out, y, out, retain_graph=True),
    }
    chips = ["cpu"]
    if on_gpu:  # without tensor maps and with them
        chips = ["sm_80"] + ["sm_90a"] * (torch.cuda.get_device_capability() == (9, 0))
    lse = torch.empty((1, 1, shape[1]), device=device)
    library = _attention._arrays.library("", x)
    for chip in chips:
        kernel = fa.compile(chip=chip, dtype="f16" if on_gpu else "f32", head_dim=shape[3])
        views = [library.view(array) for array in (x, x, x, torch.empty_like(x), lse)]
        arguments = [*views[:3], 1.0, *views[3:]]
        artifact = kernel._artifact
        calls[f"launch of {chip} alone"] = lambda artifact=artifact, arguments=arguments: (
            artifact.launch(arguments, "mmmfmm", 0, 0)
        )
    calls |= {
        "torch.empty_like": lambda: torch.empty_like(x),
        "torch.add": lambda: torch.add(x, x),
        "torch sdpa": lambda: sdpa(swapped, swapped, swapped),
        "torch sdpa, with gradients": lambda: sdpa(leaf, leaf, leaf),
    }
    for call in calls.values():
        call()
    return calls


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
        sub.add_argument(
            "--process-time",
            action="store_true",
            help="cpu: processor time, which other programs disturb less; with --threads 1",
        )
        sub.add_argument(
            "--features",
            type=lambda text: text.split(","),
            default=[],
            help="compile: beside causal, e.g. window_left,softcap",
        )
        sub.add_argument("--chips", type=lambda text: text.split(","), help="artifacts to measure")
        sub.add_argument(
            "--backward",
            action="store_true",
            help="gpu, compile: backward alone; cpu: forward and backward",
        )
        sub.add_argument("--json", metavar="FILE")
        sub.set_defaults(run=run)

    command("gpu", gpu, [64, 128, 256], [1024, 4096, 16384], "float16", 7)
    command("cpu", cpu, [64, 128], [512, 1024, 2048, 4096], "float32", 9)
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
