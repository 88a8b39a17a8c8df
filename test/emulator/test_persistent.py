"""Attention by persistent kernels, run by the emulator.

A seed picks also how many blocks share the grid, so that each has several tiles.
"""

from __future__ import annotations

import flash_attn_mlir as fa
import numpy as np
import pytest
from cases import Case
from emulate import emulate
from reference import attention, band, check
from schedules import forward_schedule
from test_gradients import check as check_gradients
from test_kernels import compile_case, scalars

CASES = [
    Case(1, 300, 300, 3, 1, 64),
    Case(1, 410, 410, 4, 2, 64, causal=True),
    Case(1, 400, 300, 3, 3, 64, window=(100, 30)),
    Case(2, 200, 450, 4, 2, 128, causal=True),
    Case(1, 333, 257, 3, 1, 128),
    Case(1, 300, 300, 2, 2, 128, window=(70, 0)),
    # Tiles without a live key fill no slot but that of their rows.
    Case(1, 400, 30, 3, 1, 128, causal=True),
    Case(1, 200, 190, 3, 1, 256, causal=True),
    Case(1, 130, 70, 2, 2, 256),
    Case(1, 200, 220, 2, 1, 256, window=(40, 60)),
    # Fewer tiles than blocks; rows that no warp group has in full.
    Case(1, 5, 33, 1, 1, 128, causal=True),
]


@pytest.mark.parametrize("index", range(len(CASES)))
def test_forward(index, rng):
    case = CASES[index]
    q, k, v = (x.astype(np.float16) for x in case.draw(rng))
    schedule = forward_schedule(case.head_dim, persistent=True)
    kernel = compile_case(case, "sm_90a", "float16", schedule=schedule)
    with np.errstate(invalid="ignore"):
        want = case.reference(q, k, v)
    start = int(rng.integers(1 << 30))
    for seed in range(start, start + 4):  # 1 to 4 multiprocessors
        out = np.full(q.shape, np.nan, np.float16)
        lse = np.full((case.batch, case.heads, case.seqlen_q), np.nan, np.float32)
        args = (q, k, v, *scalars(case), out, lse)
        emulate(kernel, *args, seed=seed, optimized=bool(seed % 2))
        check("float16", out, lse, *want)


@pytest.mark.parametrize("head_dim", [64, 128, 256])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("persistent", [False, True])
def test_lengths(persistent, causal, head_dim, rng):
    """Tensor maps bound tensors: what lies behind a sequence is loaded and cleared."""
    q, k, v = (
        rng.standard_normal((4, n, heads, head_dim)).astype(np.float16)
        for n, heads in ((300, 2), (330, 1), (330, 1))
    )
    q_lengths, k_lengths = np.array([[300, 0, 129, 40], [200, 330, 1, 0]], np.int32)
    for b in range(4):
        q[b, q_lengths[b] :] = np.nan
        k[b, k_lengths[b] :], v[b, k_lengths[b] :] = np.inf, np.nan
    kernel = fa.compile(
        chip="sm_90a",
        head_dim=head_dim,
        causal=causal,
        lengths=True,
        alignment=16,
        schedule=forward_schedule(head_dim, persistent) if persistent else None,
        ptxas=False,
    )
    (launch,) = kernel.metadata["launches"]
    assert ("per_multiprocessor" in launch) == (persistent or (causal and head_dim == 128))
    assert launch["tensor_maps"]
    mask = band(q_lengths, k_lengths, causal) if causal else None
    want = attention(q, k, v, mask=mask, q_lengths=q_lengths, k_lengths=k_lengths)
    start = int(rng.integers(1 << 30))
    for seed in range(start, start + 4):
        out = np.full(q.shape, np.nan, np.float16)
        lse = np.full((4, 2, 300), np.nan, np.float32)
        inputs = (q, k, v, head_dim**-0.5, q_lengths, k_lengths)
        emulate(kernel, *inputs, out, lse, seed=seed, optimized=bool(seed % 2))
        check("float16", out, lse, *want)


@pytest.mark.parametrize("causal", [False, True])
def test_every_tile_is_computed_once(causal, rng):
    """Any number of blocks, with lengths that vary or not: what is left out stays NaN."""
    case = Case(2, 300, 300, 5, 1, 128, causal=causal)
    q, k, v = (x.astype(np.float16) for x in case.draw(rng))
    kernels = [
        compile_case(case, "sm_90a", "float16", schedule=forward_schedule(128, persistent))
        for persistent in (False, True)
    ]
    assert "per_multiprocessor" not in kernels[0].metadata["launches"][0]
    assert kernels[1].metadata["launches"][0]["per_multiprocessor"] == 1
    outs = []
    for kernel, seed in [(kernels[0], 0), *((kernels[1], seed) for seed in range(6))]:
        out = np.full(q.shape, np.nan, np.float16)
        lse = np.full((2, 5, 300), np.nan, np.float32)
        emulate(kernel, q, k, v, *scalars(case), out, lse, seed=seed)
        outs.append(out)
    assert np.isfinite(outs[0]).all()
    for out in outs[1:]:
        np.testing.assert_array_equal(out, outs[0])


@pytest.mark.parametrize("causal", [False, True])
def test_gradients(causal, rng):
    """The passes are the forward's; launches without copies stay as they are."""
    case = Case(1, 300, 260, 2, 1, 64, causal=causal)
    q, k, v = (x.astype(np.float16) for x in case.draw(rng))
    dout = rng.standard_normal(q.shape).astype(q.dtype)
    with np.errstate(invalid="ignore", divide="ignore"):
        want = case.gradients(q, k, v, dout)
        out, lse, _ = case.reference(q, k, v)
    schedule = (
        "#fa.schedule<tile_m = 128, tile_n = 128, plan = #tile.plan<"
        'chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 1, '
        "persistent = true>>"
    )
    kernel = compile_case(case, "sm_90a", "float16", backward=True, schedule=schedule)
    delta, rows, keys = kernel.metadata["launches"]
    assert "per_multiprocessor" not in delta
    assert rows["per_multiprocessor"] == keys["per_multiprocessor"] == 1
    inputs = (q, k, v, out.astype(q.dtype), lse.astype(np.float32), dout, *scalars(case))
    for seed in range(4):
        results = [np.full(x.shape, np.nan).astype(x.dtype) for x in (q, k, v)]
        workspace = np.full(lse.shape, np.nan, np.float32)
        emulate(kernel, *inputs, workspace, *results, seed=seed, optimized=bool(seed % 2))
        check_gradients("float16", results, *want)
