"""Few queries with many keys: parts of the keys, query heads as rows, merged results."""

from __future__ import annotations

import combine
import flash_attn_mlir as fa
import numpy as np
import pytest
from cases import Case, unaligned_numpy
from emulate import emulate
from reference import attention, band, check
from test_kernels import CHIPS, TYPES, compile_case, scalars, type_for

# Groups of 1, 4, 8 and more query heads than a tile has rows.
CASES = [
    Case(1, 1, 300, 4, 4, 64),
    Case(2, 1, 200, 8, 2, 128),
    Case(1, 1, 260, 8, 1, 64, window=(100, 0)),
    Case(1, 1, 130, 40, 2, 64, softcap=3.0),
    Case(1, 1, 70, 4, 1, 40),
    Case(1, 1, 100, 4, 2, 72, scale=-0.2),
    Case(1, 1, 90, 2, 1, 256),
    Case(1, 1, 0, 4, 2, 64),  # no key at all
    Case(1, 5, 300, 4, 1, 64, causal=True),
    Case(1, 16, 150, 2, 2, 128, window=(20, 3)),
    Case(1, 9, 4, 4, 2, 64, causal=True),  # dead rows
    Case(1, 20, 100, 2, 1, 64, causal=True),  # more than a tile
    Case(1, 1, 130, 6, 3, 59, unaligned=True),
    Case(1, 3, 130, 6, 3, 80, unaligned=True),
]


def compile_few(case, chip, dtype, **more):
    rows = 1 if case.seqlen_q == 1 else 16
    return compile_case(case, chip, dtype, query_rows=rows, **more)


# Positions and heads in one tile: groups that fill it, that leave rows, that are larger.
PACKED = [
    Case(1, 2, 300, 8, 1, 64, causal=True),
    Case(2, 4, 200, 8, 2, 128, causal=True),
    Case(1, 5, 150, 6, 2, 64, window=(20, 3)),
    Case(1, 16, 130, 10, 2, 64, causal=True, softcap=3.0),
    Case(1, 3, 70, 40, 2, 40, causal=True),
    Case(1, 9, 4, 4, 1, 64, causal=True),  # dead rows
    Case(1, 20, 100, 4, 1, 64, causal=True),  # more than few
    Case(1, 7, 90, 4, 4, 72, scale=-0.2),  # no group
    Case(1, 3, 90, 4, 1, 256, causal=True),
    Case(1, 6, 0, 4, 2, 64),  # no key at all
    Case(1, 3, 130, 6, 3, 59, unaligned=True, causal=True),
]


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("index", range(len(PACKED)))
def test_packed(index, chip, rng):
    case = PACKED[index]
    if chip == "sm_90a" and (case.unaligned or case.head_dim % 8):
        return  # the same as sm_80
    dtype = type_for(chip, index)
    q, k, v, want = drawn(case, dtype, rng)
    for parts in (0, 1, int(rng.integers(2, 9))):
        kernel = compile_few(case, chip, dtype, partials=parts > 0, pack_heads=True)
        outputs = results(case, dtype, max(1, parts))[: 4 if parts else 2]
        emulate(kernel, q, k, v, *scalars(case), *outputs, seed=parts, optimized=parts == 1)
        check(dtype, *outputs[:2], *want)


@pytest.mark.parametrize("chip", ["sm_80", "sm_90a"])
def test_packed_init_lse(chip, rng):
    case = Case(2, 3, 130, 8, 2, 64, causal=True)
    arrays = [x.astype(np.float16) for x in case.draw(rng)]
    start = rng.standard_normal((2, 8, 3)).astype(np.float32)
    start[0, ::3] = -np.inf
    mask = band(3, 130, causal=True)
    for partials in (False, True):
        kernel = compile_few(
            case, chip, "float16", partials=partials, init_lse=True, pack_heads=True
        )
        outputs = results(case, "float16", 3)[: 4 if partials else 2]
        emulate(kernel, *arrays, *scalars(case), start, *outputs)
        check("float16", *outputs[:2], *attention(*arrays, init_lse=start, mask=mask))


def drawn(case, dtype, rng):
    """q, k, v as the kernel gets them, and the results."""
    arrays = [x.astype(TYPES[dtype][1]) for x in case.draw(rng)]
    inputs = map(unaligned_numpy, arrays) if case.unaligned else arrays
    return *inputs, case.reference(*arrays)


def results(case, dtype, parts):
    shape = (case.batch, case.seqlen_q, case.heads, case.head_dim)
    out = np.full(shape, np.nan).astype(TYPES[dtype][1])
    lse = np.full((case.batch, case.heads, case.seqlen_q), np.nan, np.float32)
    return out, lse, *(np.full((parts, *x.shape), np.nan, np.float32) for x in (out, lse))


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("index", range(len(CASES)))
def test_parts(index, chip, rng):
    case = CASES[index]
    if chip == "sm_90a" and (case.unaligned or case.head_dim % 8):
        return  # the same as sm_80
    dtype = type_for(chip, index)
    q, k, v, want = drawn(case, dtype, rng)
    kernel = compile_few(case, chip, dtype, partials=True)
    for seed, parts in enumerate((1, 3, int(rng.integers(2, 80)))):
        outputs = results(case, dtype, parts)
        emulate(kernel, q, k, v, *scalars(case), *outputs, seed=seed, optimized=bool(seed % 2))
        check(dtype, *outputs[:2], *want)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("index", [1, 3, 8])
def test_whole(index, chip, rng):
    """Without parts: nothing is merged."""
    case = CASES[index]
    dtype = type_for(chip, index)
    arrays = [x.astype(TYPES[dtype][1]) for x in case.draw(rng)]
    kernel = compile_few(case, chip, dtype)
    out, lse, *_ = results(case, dtype, 1)
    emulate(kernel, *arrays, *scalars(case), out, lse, seed=int(rng.integers(1 << 30)))
    check(dtype, out, lse, *case.reference(*arrays))


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("causal", [False, True])
def test_many_queries(causal, chip, rng):
    """Parts of the keys for the large tiles of prefill, too."""
    case = Case(1, 70, 500, 2, 1, 64, causal=causal)
    arrays = [x.astype(np.float16) for x in case.draw(rng)]
    kernel = fa.compile(chip=chip, head_dim=64, causal=causal, partials=True, ptxas=False)
    for seed in range(2):
        outputs = results(case, "float16", 3)
        emulate(kernel, *arrays, *scalars(case), *outputs, seed=seed, optimized=bool(seed))
        check("float16", *outputs[:2], *case.reference(*arrays))


@pytest.mark.parametrize("chip", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("seqlen_q", [1, 6])
def test_lengths(seqlen_q, chip, rng):
    """Sequences end in different parts; some have no key, or no query."""
    case = Case(5, seqlen_q, 200, 4, 2, 64, causal=True)
    q, k, v = (x.astype(np.float16) for x in case.draw(rng))
    q_lengths = np.array([seqlen_q, seqlen_q, 0, seqlen_q, 1], np.int32)
    k_lengths = np.array([200, 0, 70, 65, 1], np.int32)
    mask = band(q_lengths, k_lengths, causal=True)
    want = attention(q, k, v, None, mask=mask, q_lengths=q_lengths, k_lengths=k_lengths)
    for b in range(case.batch):
        q[b, q_lengths[b] :], k[b, k_lengths[b] :], v[b, k_lengths[b] :] = np.nan, np.nan, np.nan
    kernel = compile_few(case, chip, "float16", partials=True, lengths=True)
    for seed in range(3):
        outputs = results(case, "float16", 4)
        emulate(kernel, q, k, v, *scalars(case), q_lengths, k_lengths, *outputs, seed=seed)
        check("float16", *outputs[:2], *want)


@pytest.mark.parametrize("chip", ["sm_80", "sm_90a"])
def test_init_lse(chip, rng):
    case = Case(2, 1, 130, 8, 2, 64)
    arrays = [x.astype(np.float16) for x in case.draw(rng)]
    start = rng.standard_normal((2, 8, 1)).astype(np.float32)
    start[0, ::3] = -np.inf
    kernel = compile_few(case, chip, "float16", partials=True, init_lse=True)
    outputs = results(case, "float16", 5)
    emulate(kernel, *arrays, *scalars(case), start, *outputs, seed=int(rng.integers(1 << 30)))
    check("float16", *outputs[:2], *attention(*arrays, init_lse=start))


@pytest.mark.parametrize("chip", CHIPS)
def test_interleavings(chip, rng):
    """The same result bit for bit, however the threads take turns."""
    case = Case(1, 1, 400, 8, 2, 64)
    arrays = [x.astype(np.float16) for x in case.draw(rng)]
    kernel = compile_few(case, chip, "float16", partials=True)
    first = None
    for seed in range(8):
        outputs = results(case, "float16", 3)
        emulate(kernel, *arrays, *scalars(case), *outputs, seed=seed, optimized=bool(seed % 2))
        first = first or {}
        for got, want in zip(outputs, first.setdefault(seed % 2, outputs)):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("chip", ["sm_80", "sm_90a"])
def test_nan_in_other_parts_does_not_leak(chip, rng):
    """A window leaves the last keys; blocks that it cuts hold NaN, too."""
    case = Case(1, 1, 300, 4, 2, 64, window=(40, 0))
    q, k, v = (x.astype(np.float16) for x in case.draw(rng))
    want = case.reference(q, k, v)
    k[:, :250], v[:, :250] = np.nan, np.inf
    kernel = compile_few(case, chip, "float16", partials=True)
    outputs = results(case, "float16", 3)
    emulate(kernel, q, k, v, *scalars(case), *outputs, seed=int(rng.integers(1 << 30)))
    check("float16", *outputs[:2], *want)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("init", [False, True])
def test_combine(init, chip, rng):
    kernel = fa.compile(mlir=combine.program("f16", init=init), chip=chip, ptxas=False)
    for seed in range(3):
        combine.check(
            lambda *a, seed=seed: emulate(kernel, *a, seed=seed, optimized=bool(seed)),
            rng,
            init=init,
        )
