"""Attention by persistent kernels and in sections of the grid, run by the emulator.

What a schedule may say and the table does not: `section` and `persistent` of the plan. A
seed picks also how many blocks share the grid, so that each has several tiles.
"""

from __future__ import annotations

import numpy as np
import pytest
from cases import Case
from emulate import emulate
from reference import check
from schedules import forward_schedule
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


@pytest.mark.parametrize(
    "more", ["section = 2", "persistent = true", "section = 2, persistent = true"]
)
@pytest.mark.parametrize("index", range(len(CASES)))
def test_forward(index, more, rng):
    case = CASES[index]
    q, k, v = (x.astype(np.float16) for x in case.draw(rng))
    schedule = forward_schedule(case.head_dim, more)
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


@pytest.mark.parametrize("section", [1, 2, 3, 100])
def test_every_tile_is_computed_once(section, rng):
    """Any number of blocks and sections: a tile that is left out stays NaN."""
    case = Case(2, 300, 64, 5, 1, 128)
    q, k, v = (x.astype(np.float16) for x in case.draw(rng))
    kernels = [
        compile_case(
            case,
            "sm_90a",
            "float16",
            schedule=forward_schedule(128, f"section = {section}{persistent}"),
        )
        for persistent in ("", ", persistent = true")
    ]
    assert "per_multiprocessor" not in kernels[0].metadata["launches"][0]
    assert kernels[1].metadata["launches"][0]["per_multiprocessor"] == 1
    outs = []
    for kernel, seed in [(kernels[0], 0), *((kernels[1], seed) for seed in range(4))]:
        out = np.full(q.shape, np.nan, np.float16)
        lse = np.full((2, 5, 300), np.nan, np.float32)
        emulate(kernel, q, k, v, *scalars(case), out, lse, seed=seed)
        outs.append(out)
    assert np.isfinite(outs[0]).all()
    for out in outs[1:]:
        np.testing.assert_array_equal(out, outs[0])
