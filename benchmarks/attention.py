#!/usr/bin/env python3
"""Speed of this project's attention beside public peers: see benchmarks/README.md."""

from __future__ import annotations

import argparse
import importlib.util
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
from flash_attn_mlir._attention import _one_pass, _query_rows


def median(values):
    return statistics.median(values) if values else math.nan


def shape_of(seqlen, head_dim, tokens, width):
    """(batch, seqlen, heads, head_dim) of `tokens` tokens and `width` channels."""
    return max(1, tokens // seqlen), seqlen, max(1, width // head_dim), head_dim


# Matrix products as long as head_dim, and as long as head_dim_v.
PRODUCTS = {"forward": (1, 1), "backward": (3, 2), "both": (4, 3)}


# What a GPU cell may be besides full and causal: each is causal, too.
VARIANTS = ("full", "causal", "window", "softcap", "bias")
WINDOW = 1024  # keys to the left
SOFTCAP = 30.0


def flop_count(shape, variant, what="forward", head_dim_v=None):
    batch, seqlen, heads, head_dim = shape
    if variant == "window":
        live = sum(min(row, WINDOW) + 1 for row in range(seqlen))
    else:
        live = seqlen**2 * (1.0 if variant == "full" else 0.5)
    long, short = PRODUCTS[what]
    return 2 * batch * heads * live * (long * head_dim + short * (head_dim_v or head_dim))


def bias_program(dtype, head_dim):
    """Causal attention with a bias by head and distance, the table a tensor of the caller."""
    # The program with a soft cap has all but another capture and another score.
    text = fa._compiler.build(dtype=dtype, head_dim=head_dim, causal=True, softcap=True)
    real = "f64" if dtype == "f64" else "f32"
    table = f"memref<?x?x{real}, strided<[?, 1], offset: ?>>"
    head = text.split("score {")[0]
    head = head.replace(f"%softcap: {real} ", f"%softcap: {table} ")
    head = head.replace(f"captures(%softcap : {real})", f"captures(%softcap : {table})")
    head = head.replace('tile.name = "softcap"', 'tile.name = "table"')
    return f"""{head}score {{
      ^bb0(%s: {real}, %b: index, %h: index, %m: index, %n: index, %t: {table}):
        %distance = arith.subi %m, %n : index
        %x = fa.gather %t[%h, %distance] : {table} -> {real}
        %r = arith.addf %s, %x : {real}
        fa.yield %r : {real}
      }}
  return
}}
"""


def print_table(rows, columns):
    widths = [max(len(title), *(len(row[i]) for row in rows)) for i, title in enumerate(columns)]
    for line in (columns, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.rjust(w) for cell, w in zip(line, widths)) + " |", flush=True)


# ---------------------------------------------------------------------------
# GPU
# ---------------------------------------------------------------------------


SHORT = {"float16": "f16", "bfloat16": "bf16", "float32": "f32"}


def own(chip, dtype, variant, inputs, dout, table=None, one_pass=False):
    """A call of an explicit artifact: () -> out, or the gradients where dout is given.

    one_pass: d_q is summed in memory, as the library does where that is faster.
    """
    import torch

    q, k, v = inputs
    batch, seqlen, heads, head_dim = q.shape
    specification = {"dtype": SHORT[dtype], "head_dim": head_dim, "head_dim_v": v.shape[3]}
    specification["causal"] = variant != "full"
    extra = []
    if variant == "bias":
        if dout is not None:
            raise NotImplementedError("no gradients of the program with a bias here")
        specification = {"mlir": bias_program(SHORT[dtype], head_dim)}
        extra = [table]
    elif variant == "window":
        specification["window_left"] = True
        extra = [WINDOW]
    elif variant == "softcap":
        specification["softcap"] = True
        extra = [SOFTCAP]
    # As the library compiles it; no option of gradients.
    most = {}
    if "mlir" not in specification:
        most["query_rows"] = _query_rows(chip, head_dim, seqlen, k.shape[1])
    kernel = fa.compile(chip=chip, **specification, **most)
    scale = head_dim**-0.5

    def forward():
        out = torch.empty((batch, seqlen, heads, v.shape[3]), device=q.device, dtype=q.dtype)
        lse = torch.empty((batch, heads, seqlen), device=q.device, dtype=torch.float32)
        kernel(q, k, v, scale, *extra, out, lse)
        return out, lse

    if dout is None:
        return lambda: forward()[0]
    out, lse = forward()
    backward_kernel = fa.compile(chip=chip, **specification, backward=True, d_q_sum=one_pass)
    filled = (batch, heads, -(-seqlen // 8) * 8, -(-head_dim // 16) * 16)

    def backward():
        workspaces = [torch.empty_like(lse)]
        if one_pass:
            workspaces.append(torch.empty(filled, device=q.device).transpose(1, 2))
        gradients = [torch.empty_like(x) for x in inputs]
        backward_kernel(q, k, v, out, lse, dout, scale, *extra, *workspaces, *gradients)
        return gradients

    return backward


def with_gradients(forward, views, dout):
    """`forward` in (B, H, S, D), or the gradients of `views`; as (B, S, H, D)."""
    import torch

    if dout is None:
        return lambda: forward().transpose(1, 2)
    out = forward()

    def backward():
        grads = torch.autograd.grad(out, views, dout.transpose(1, 2), retain_graph=True)
        return [grad.transpose(1, 2) for grad in grads]

    return backward


def flex(variant, inputs, dout, table=None):
    """PyTorch's FlexAttention (compiled, on a GPU)."""
    import torch
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    views = [x.transpose(1, 2).detach().requires_grad_(dout is not None) for x in inputs]
    seqlen, device = inputs[0].shape[1], inputs[0].device

    def keep(b, h, m, n):
        return (m >= n) & (m - n <= WINDOW) if variant == "window" else m >= n

    def score(s, b, h, m, n):
        if variant == "softcap":
            return SOFTCAP * torch.tanh(s / SOFTCAP)
        if variant == "bias":  # masked ones are computed, too
            return s + table[h, (m - n).clamp(min=0)]
        return s

    mask = None
    if variant != "full":
        mask = create_block_mask(keep, None, None, seqlen, seqlen, device=device)
    call = flex_attention
    if device.type == "cuda":
        torch._dynamo.reset()  # each cell is compiled for itself
        call = torch.compile(flex_attention, dynamic=False)
    score = score if variant in ("softcap", "bias") else None
    return with_gradients(lambda: call(*views, score_mod=score, block_mask=mask), views, dout)


def sdpa(backend, causal, inputs, dout):
    """The same of PyTorch's operator with one of its backends."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    backend = getattr(SDPBackend, backend)
    views = [x.transpose(1, 2).detach().requires_grad_(dout is not None) for x in inputs]

    def forward():
        with sdpa_kernel(backend):
            return torch.nn.functional.scaled_dot_product_attention(*views, is_causal=causal)

    return with_gradients(forward, views, dout)


def has_flash3():
    return importlib.util.find_spec("flash_attn_interface") is not None


def flash3(causal, inputs, dout):
    """FlashAttention-3's package, where it is installed."""
    from flash_attn_interface import flash_attn_func

    views = [x.transpose(1, 2).detach().requires_grad_(dout is not None) for x in inputs]

    def forward():
        result = flash_attn_func(*(x.transpose(1, 2) for x in views), causal=causal)
        out = result[0] if isinstance(result, tuple) else result
        return out.transpose(1, 2)

    return with_gradients(forward, views, dout)


def meaning(q, k, v, variant, table):
    """The output in float64 for (B, H, S, D)."""
    import torch

    if variant in ("full", "causal"):
        is_causal = variant == "causal"
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
    s = q @ k.transpose(2, 3) * q.shape[3] ** -0.5
    m, n = (torch.arange(q.shape[2], device=q.device).unsqueeze(x) for x in (1, 0))
    if variant == "softcap":
        s = SOFTCAP * torch.tanh(s / SOFTCAP)
    if variant == "bias":
        s = s + table.double()[: q.shape[1], (m - n).clamp(min=0)]
    dead = m < n if variant != "window" else (m < n) | (m - n > WINDOW)
    return s.masked_fill(dead, -math.inf).softmax(-1) @ v


def relative_error(result, inputs, variant, dout=None, table=None):
    """Relative L2 against float64 on the first batch and head; the largest of three gradients."""
    import torch

    def head(x):
        return x[:1, :, :1].detach().double().transpose(1, 2)

    wide = [head(x).requires_grad_(dout is not None) for x in inputs]
    out = meaning(*wide, variant, table)
    if dout is None:
        expected, result = [out], [result]
    else:
        expected = torch.autograd.grad(out, wide, head(dout))
    return max(float((head(r) - e).norm() / e.norm()) for r, e in zip(result, expected))


def contestants_gpu(args, variant, inputs, dout, table):
    """name -> () -> call; a factory raises where the contestant refuses the problem."""
    made = {}
    batch, _, heads, head_dim = inputs[1].shape
    for chip in args.chips:
        one_pass = dout is not None and _one_pass(chip, head_dim, batch * heads)
        for passes in [True, False] if one_pass else [False]:
            name = f"fa {chip}, deterministic" if one_pass and not passes else f"fa {chip}"
            made[name] = lambda chip=chip, passes=passes: own(
                chip, args.dtype, variant, inputs, dout, table, passes
            )
    if variant in ("full", "causal"):
        causal = variant == "causal"
        made["torch flash"] = lambda: sdpa("FLASH_ATTENTION", causal, inputs, dout)
        made["torch cudnn"] = lambda: sdpa("CUDNN_ATTENTION", causal, inputs, dout)
        if has_flash3():
            made["FlashAttention-3"] = lambda: flash3(causal, inputs, dout)
    else:
        made["torch flex"] = lambda: flex(variant, inputs, dout, table)
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


PEERS = ("torch flash", "torch cudnn", "torch flex", "FlashAttention-3")


def shape_scores(q, k, scores):
    """Makes q and k such that rows' scores rise along the keys, or are large."""
    import torch

    if scores == "rising":  # by 1,000 from the first key to the last
        first = 30.0
        places = torch.arange(k.shape[1], device=k.device) / k.shape[1]
        q[..., 0] = first
        k[..., 0] = (1000 * k.shape[3] ** 0.5 / first * places).to(k.dtype)[:, None]
    elif scores == "large":
        q *= 30


def run_gpu_cell(args, shape, variant, flush):
    """One shape: every contestant in every round; returns a record per contestant."""
    import torch

    dtype = getattr(torch, args.dtype)

    def draw(head_dim):
        size = (*shape[:3], head_dim)
        return torch.randn(size, device="cuda", dtype=torch.float32).to(dtype)

    head_dim_v = args.head_dim_v or shape[3]
    inputs = [draw(shape[3]), draw(shape[3]), draw(head_dim_v)]
    shape_scores(*inputs[:2], args.scores)
    dout = draw(head_dim_v) if args.backward else None
    table = torch.randn(shape[2], shape[1], device="cuda")  # heads, distances
    calls, records = {}, {}
    for name, make in contestants_gpu(args, variant, inputs, dout, table).items():
        records[name] = {"name": name, "shape": shape, "mask": variant, "dtype": args.dtype}
        try:
            call = make()
            result = call()
            torch.cuda.synchronize()
            records[name]["error"] = relative_error(result, inputs, variant, dout, table)
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
        flops = flop_count(shape, variant, what, head_dim_v)
        record["tflops"] = flops / record["ms"] / 1e9
        for peer in PEERS:
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
        for variant in args.variants:
            for seqlen in args.seqlens:
                shape = shape_of(seqlen, head_dim, args.tokens, args.width)
                records = run_gpu_cell(args, shape, variant, flush)
                results += records
                for record in records:
                    if "ms" not in record:
                        rows.append([*label(record), *"-----"])
                        print(f"  {record['name']} refused {shape}: {record['refused']}")
                        continue
                    ratios = [record.get(f"ratio to {peer}", math.nan) for peer in PEERS]
                    rows.append(
                        [
                            *label(record),
                            f"{record['tflops']:.1f}",
                            *(f"{r:.2f}" if not math.isnan(r) else "" for r in ratios),
                            f"{record['error']:.1e}",
                        ]
                    )
    peers = [f"x {peer}" for peer in PEERS]
    print_table(rows, ["D", "mask", "S", "kernel", "TFLOP/s", *peers, "error"])
    return {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "cells": results}


def label(record):
    _, seqlen, _, head_dim = record["shape"]
    return [str(head_dim), record["mask"], str(seqlen), record["name"]]


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
    variant = "causal" if causal else "full"
    return calls, relative_error(calls["fa"](), inputs, variant, dout)


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
                variant = "causal" if causal else "full"
                flops = flop_count(shape, variant, "both" if args.backward else "forward")
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
    from flash_attn_mlir import _arrays, _attention

    if features:
        raise SystemExit("--features: not with --backward")
    _attention._kernels.clear()
    _attention._chips.clear()
    device, dtype = ("cpu", torch.float32) if chip == "cpu" else ("cuda", torch.float16)
    if chip != "cpu":
        _attention._chips[0] = chip
    os.environ["FA_CACHE_DIR"] = cache
    x = torch.randn(1, 64, 1, head_dim, device=device, dtype=dtype, requires_grad=True)
    calls = _arrays.library("x", x).calls  # with the kernels of earlier calls
    if calls is not None:
        calls.forget()
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

    start = time.perf_counter()
    results, rows = {}, []

    def note(where, name, measure):
        """Says what is measured, and the figure as soon as it is there."""
        seconds = time.perf_counter() - start
        print(f"[{seconds:4.1f} s] {where}: {name}", end=": ", file=sys.stderr, flush=True)
        us = measure()
        print(f"{us:.1f} us", file=sys.stderr, flush=True)
        results.setdefault(where, {})[name] = us
        rows.append([where, name, f"{us:.1f}"])

    x = np.zeros((1, 1, 1, 8), np.float32)
    note("numpy cpu", "fa", lambda: time_host(lambda: fa.flash_attn_func(x, x, x)))
    devices = [] if torch is None else ["cpu"] + ["cuda"] * torch.cuda.is_available()
    for device in devices:
        wait = torch.cuda.synchronize if device == "cuda" else None
        for name, call in host_calls(torch, device):
            note(f"torch {device}", name, lambda: time_host(call, wait))
    # It imports neither NumPy nor PyTorch, whose import would take many times as long.
    importing = "import time; start = time.perf_counter(); import flash_attn_mlir; "
    importing += "print(time.perf_counter() - start)"
    note("import", "fa", lambda: 1e6 * median([float(python(importing)) for _ in range(5)]))
    print_table(rows, ["arrays", "call", "us"])
    for device in devices:
        of = results[f"torch {device}"]
        print(
            f"three {device.upper()} tensors to output and log-sum-exp: {of[WITH_LSE]:.1f} us, "
            f"with gradients {of[WITH_LSE_AND_GRADIENTS]:.1f} us (empty queue, median)"
        )
    return {"microseconds": results, "torch": torch and torch.__version__}


def python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def time_host(call, wait=None):
    """Median microseconds of single calls, each after the device has done all work before it.

    At most 300, of half a second in all.
    """
    call()
    times = []
    end = time.perf_counter() + 0.5
    while len(times) < 300 and (len(times) < 5 or time.perf_counter() < end):
        if wait:
            wait()
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e6)
    if wait:
        wait()
    return median(times)


WITH_LSE, WITH_LSE_AND_GRADIENTS = "fa, with lse", "fa, with lse and gradients"


def host_calls(torch, device):
    """Yields (name, call): ours, its pieces and PyTorch's, each made when it is its turn."""
    from flash_attn_mlir import _attention

    # More rows than programs for few queries take. On the CPU the kernel is part of the call.
    on_gpu = device == "cuda"
    shape, dtype = ((1, 64, 1, 64), torch.float16) if on_gpu else ((1, 17, 1, 8), None)
    plain = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(3)]
    leaves = [x.detach().clone().requires_grad_() for x in plain]
    attention = fa.flash_attn_func
    sdpa = torch.nn.functional.scaled_dot_product_attention
    yield "fa", lambda: attention(*plain)
    yield WITH_LSE, lambda: attention(*plain, return_attn_probs=True)
    yield "fa, with gradients", lambda: attention(*leaves)
    yield WITH_LSE_AND_GRADIENTS, lambda: attention(*leaves, return_attn_probs=True)

    def general(tensors):
        is_closed = _attention._short_way_is_closed
        _attention._short_way_is_closed = lambda: True
        try:
            attention(*tensors)
        finally:
            _attention._short_way_is_closed = is_closed

    yield "fa, the general way", lambda: general(plain)
    yield "fa, the general way, with gradients", lambda: general(leaves)
    x = plain[0]
    keys = torch.zeros((1, 4096, 1, shape[3]), device=device, dtype=dtype)
    yield "fa, one query, 4096 keys", lambda: attention(x[:, :1], keys, keys)
    out = attention(*leaves)
    yield (
        "backward of fa",
        lambda: torch.autograd.grad(out, leaves, x, retain_graph=True),
    )
    chips = ["cpu"]
    if on_gpu:  # without tensor maps and with them
        chips = ["sm_80"] + ["sm_90a"] * (torch.cuda.get_device_capability() == (9, 0))
    lse = torch.empty((1, 1, shape[1]), device=device)
    library = _attention._arrays.library("", x)
    for chip in chips:
        kernel = fa.compile(chip=chip, dtype="f16" if on_gpu else "f32", head_dim=shape[3])
        views = [library.view(array) for array in (*plain, torch.empty_like(x), lse)]
        arguments = [*views[:3], 1.0, *views[3:]]
        artifact = kernel._artifact
        yield (
            f"launch of {chip} alone",
            lambda artifact=artifact, arguments=arguments: artifact.launch(
                arguments, "mmmfmm", 0, 0
            ),
        )
    yield "torch.empty_like", lambda: torch.empty_like(x)
    yield "torch.add", lambda: torch.add(x, x)
    swapped, swapped_leaves = ([x.transpose(1, 2) for x in xs] for xs in (plain, leaves))
    yield "torch sdpa", lambda: sdpa(*swapped)
    yield "torch sdpa, with gradients", lambda: sdpa(*swapped_leaves)


def long_dtype(text):
    return {short: long for long, short in SHORT.items()}.get(text, text)


def variants(text):
    names = text.split(",")
    if unknown := set(names) - set(VARIANTS):
        raise argparse.ArgumentTypeError(f"{unknown}: not among {', '.join(VARIANTS)}")
    return names


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name, run, head_dims, seqlens, dtype, rounds):
        sub = commands.add_parser(name, help=(run.__doc__ or "").split("\n")[0])
        integers = lambda text: [int(x) for x in text.split(",")]  # noqa: E731
        sub.add_argument("--head-dims", type=integers, default=head_dims)
        sub.add_argument("--head-dim-v", type=int, help="gpu: that of v and the output")
        sub.add_argument("--seqlens", type=integers, default=seqlens)
        sub.add_argument("--dtype", type=long_dtype, default=dtype, help="bf16, f16 or f32")
        sub.add_argument(
            "--variants",
            type=variants,
            default=VARIANTS[:2],
            help=f"gpu: of {','.join(VARIANTS)} (default: full,causal)",
        )
        sub.add_argument(
            "--scores",
            choices=["normal", "large", "rising"],
            default="normal",
            help="gpu: of deviation 1 or 30, or rising by 1,000 along each row",
        )
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
