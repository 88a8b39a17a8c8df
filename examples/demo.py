#!/usr/bin/env python3
"""The main job on real arrays: compile attention, run it, check it, time it.

On the CPU target always; on the GPU too where there is one and PyTorch with CUDA
is installed. Exits non-zero when an error exceeds its bound.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "test" / "python"))

import flash_attn_mlir as fa
import reference  # the independent float64 reference of the tests

# name, batch, seqlen, heads, heads_k, head_dim, options
PROBLEMS = [
    ("full", 2, 1024, 4, 4, 64, {}),
    ("causal", 2, 1024, 4, 4, 64, {"causal": True}),
    ("causal GQA", 1, 1024, 8, 2, 128, {"causal": True}),
    ("window", 1, 1500, 4, 4, 64, {"causal": True, "window_size": (255, 0)}),
    ("soft cap", 1, 777, 4, 2, 96, {"softcap": 20.0}),
]


def live_scores(seqlen, options):
    """Scores that the mask keeps, per head."""
    keep = reference.band(
        seqlen, seqlen, options.get("causal"), *options.get("window_size", (-1, -1))
    )
    m, n = np.arange(seqlen)[:, None], np.arange(seqlen)[None, :]
    return int(keep(0, 0, m, n).sum())


def meaning(q, k, v, options):
    seqlen = q.shape[1]
    cap = options.get("softcap")
    return reference.attention(
        q,
        k,
        v,
        mask=reference.band(
            seqlen, seqlen, options.get("causal"), *options.get("window_size", (-1, -1))
        ),
        score=reference.softcap(cap) if cap else None,
    )


def best_time(call, synchronize, repeats=7):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def run(device, dtype, move, back, synchronize):
    """Runs all problems on one device; returns whether all errors are in bounds."""
    good = True
    rng = np.random.default_rng()
    for name, batch, seqlen, heads, heads_k, head_dim, options in PROBLEMS:
        shapes = [(batch, seqlen, n, head_dim) for n in (heads, heads_k, heads_k)]
        arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
        inputs = [move(x) for x in arrays]

        start = time.perf_counter()
        out, lse, _ = fa.flash_attn_func(*inputs, **options, return_attn_probs=True)
        synchronize()
        first = time.perf_counter() - start
        median = best_time(lambda: fa.flash_attn_func(*inputs, **options), synchronize)

        expected = meaning(*arrays, options)
        error, row = reference.errors(back(out), expected[0])
        bound, row_bounds, _ = reference.bounds(dtype, expected[2].score)
        verdict = "ok"
        try:
            reference.check(dtype, back(out), back(lse), *expected)
        except AssertionError as problem:
            good, verdict = False, f"WRONG: {problem}"
        flops = 4 * batch * heads * head_dim * live_scores(seqlen, options)
        shape = f"B{batch} S{seqlen} H{heads}/{heads_k} D{head_dim}"
        print(
            f"  {device:5} {dtype:8} {name:11} {shape:20} first call {first:6.2f} s   "
            f"then {median * 1e3:8.2f} ms {flops / median / 1e9:9.1f} GFLOP/s   "
            f"error {error:.1e} (<= {bound:.0e}), worst row {row:.1e} (<= {row_bounds.max():.0e})  "
            f"{verdict}",
            flush=True,
        )
    return good


def main():
    print(f"flash_attn_mlir {fa.__version__}, {fa.get_num_threads()} CPU threads")
    good = True
    for dtype in ("float32", "float16"):
        good &= run("CPU", dtype, lambda x: x, lambda x: x, lambda: None)
    try:
        import torch

        has_gpu = torch.cuda.is_available()
    except ImportError:
        has_gpu = False
    if has_gpu:
        good &= run(
            "GPU",
            "float16",
            lambda x: torch.from_numpy(x).cuda(),
            lambda x: x.cpu().numpy(),
            torch.cuda.synchronize,
        )
    else:
        print("  GPU   not run: PyTorch with a CUDA device is needed")
    print("All errors are within their bounds." if good else "FAILED: an error exceeds its bound.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
