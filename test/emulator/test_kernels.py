"""Compiled kernels, run by the emulator, against float64.

Small problems with the edges at which kernels go wrong: every result of a GPU
artifact is checked here, and that it synchronises, where there is no GPU.
"""

from __future__ import annotations

import dataclasses
import math

import flash_attn_mlir as fa
import ml_dtypes
import numpy as np
import pytest
from cases import (
    EDGES,
    JUMPS,
    Case,
    jumping_factors,
    numpy_in_pairs,
    random_case,
    unaligned_numpy,
)
from emulate import emulate
from programs import BIAS, CAUSAL, LENGTHS, RELATIVE, Program
from reference import Sizes, attention, attention_backward, band, check
from test_gradients import check as check_gradients
from test_programs import PLANS, PROGRAMS, ROOMY

CHIPS = ["sm_75", "sm_80", "sm_90a"]
# And one whose schedules differ for some head sizes (sm_89 has the same code).
TILES = [*CHIPS, "sm_86"]
TYPES = {"float16": ("f16", np.float16), "bfloat16": ("bf16", ml_dtypes.bfloat16)}


def type_for(chip, index):
    """One of the types that the chip multiplies."""
    return "float16" if chip == "sm_75" else list(TYPES)[index % 2]


def draw(rng, *shape):
    return rng.standard_normal(shape).astype(np.float16)


# ===-----------------------------------------------------------------------=== #
# Tile programs
# ===-----------------------------------------------------------------------=== #


def compile_program(name, target):
    text = (PROGRAMS / f"{name}.mlir").read_text().replace("@PLAN@", PLANS[target])
    return fa.compile(mlir=text, chip=target.split("-")[0], ptxas=False)


def program(name, rng, m, n, k=64):
    """Inputs and the result of a program of test/programs."""
    if name in ("matmul", "split-matmul"):
        a, b = draw(rng, m, k), draw(rng, k, n)
        return (a, b), a.astype(np.float64) @ b
    if name == "transposed-matmul":
        a, b = draw(rng, k, m), draw(rng, k, n)
        return (a, b), a.astype(np.float64).T @ b
    if name == "narrow-matmul":
        a, b, d, e = draw(rng, m, k), draw(rng, k, n), draw(rng, m, k), draw(rng, n, k)
        return (a, b, d, e), a.astype(np.float64) @ b + d.astype(np.float64) @ e.T
    if name == "rectified-matmul":
        a, b = draw(rng, m, k), draw(rng, k, n)
        return (a, b), np.maximum(a, 0).astype(np.float64) @ np.maximum(b, 0)
    if name == "row-normalised":
        a, b = draw(rng, m, k), draw(rng, k, 128)
        p = a.astype(np.float64) @ b
        return (a, b), p / np.abs(p).sum(axis=1, keepdims=True)
    if name == "chain":
        a, b, c = draw(rng, m, 64), draw(rng, n, 64), draw(rng, n, 64)
        return (a, b, c), (a.astype(np.float64) @ b.T) @ c
    assert name == "transposed-chain"
    a, b, c = draw(rng, m, 64), draw(rng, n, 64), draw(rng, m, 64)
    x = rng.standard_normal(m).astype(np.float32)
    return (a, b, c, x), (x[:, None] + a.astype(np.float64) @ b.T).T @ c


@pytest.mark.parametrize("target", [target for target in PLANS if target != "cpu"])
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("matmul", (200, 136, 72)),
        ("matmul", (1, 8, 520)),
        ("transposed-matmul", (200, 136, 72)),
        ("transposed-matmul", (8, 16, 520)),
        ("narrow-matmul", (72, 136, 72)),
        ("split-matmul", (130, 128, 136)),
        ("rectified-matmul", (200, 136, 72)),
        ("chain", (130, 333)),
        ("chain", (1, 1)),
        ("transposed-chain", (333, 130)),
        ("transposed-chain", (1, 1)),
        ("row-normalised", (77, 0, 200)),
    ],
)
def test_program(name, shape, target, rng):
    inputs, want = program(name, rng, *shape)
    kernel = compile_program(name, target)
    for seed in range(2):
        out = np.full(want.shape, np.nan, np.float32)
        emulate(kernel, *inputs, out, seed=seed, optimized=bool(seed))
        assert np.linalg.norm(out - want) < 1e-3 * np.linalg.norm(want)


@pytest.mark.parametrize("copy", ["cp_async", "direct"])
@pytest.mark.parametrize("stages", [1, 2])
def test_one_warp(stages, copy, rng):
    """A warp copies four rows of a panel at once, half as many as a swizzle has."""
    inputs, want = program("matmul", rng, 40, 136, 72)
    plan = (
        f'#tile.plan<chip = "sm_80", mma = "mma_sync", copy = "{copy}", warps = 1, '
        f"producers = 0, stages = {stages}>"
    )
    text = (PROGRAMS / "matmul.mlir").read_text().replace("@PLAN@", plan)
    text = text.replace("128", "64")  # tiles that the registers of a warp hold
    kernel = fa.compile(mlir=text, chip="sm_80", ptxas=False)
    for seed in range(2):
        out = np.full(want.shape, np.nan, np.float32)
        emulate(kernel, *inputs, out, seed=seed, optimized=bool(seed))
        assert np.linalg.norm(out - want) < 1e-3 * np.linalg.norm(want)


@pytest.mark.parametrize("target", [target for target in ROOMY if target != "cpu"])
@pytest.mark.parametrize(("m", "n"), [(130, 200), (300, 1)])
def test_both_ways(m, n, target, rng):
    """A tile goes through shared memory while registers keep it."""
    a, d = draw(rng, m, 64), draw(rng, m, 128)
    b, c = draw(rng, n, 64), draw(rng, n, 64)
    p = a.astype(np.float64) @ b.T
    kernel = compile_program("both-ways", target)
    for seed in range(3):
        x, y = np.full((m, 64), np.nan, np.float32), np.full((n, 128), np.nan, np.float32)
        emulate(kernel, a, b, c, d, x, y, seed=seed, optimized=bool(seed))
        for got, want in [(x, p @ c), (y, p.T @ d)]:
            assert np.linalg.norm(got - want) < 1e-3 * np.linalg.norm(want)


# ===-----------------------------------------------------------------------=== #
# Attention
# ===-----------------------------------------------------------------------=== #


def compile_case(case, chip, dtype, **more):
    left, right = case.window
    return fa.compile(
        chip=chip,
        dtype=TYPES[dtype][0],
        head_dim=case.head_dim,
        causal=case.causal,
        window_left=left >= 0,
        window_right=right >= 0 and not case.causal,
        softcap=case.softcap > 0,
        alignment=1 if case.unaligned or case.head_dim % 8 else 16,
        negative_scale=(case.scale or 0) < 0,
        ptxas=False,
        **more,
    )


def scalars(case):
    """The scale and the options that the kernel of a case takes."""
    left, right = case.window
    values = [case.head_dim**-0.5 if case.scale is None else case.scale]
    values += [case.softcap] if case.softcap else []
    values += [left] if left >= 0 else []
    values += [right] if right >= 0 and not case.causal else []
    return values


def run_case(case, chip, dtype, arrays, seed, optimized=False, **more):
    q, k, v = map(unaligned_numpy, arrays) if case.unaligned else arrays
    out = np.full(q.shape, np.nan).astype(q.dtype)
    lse = np.full((case.batch, case.heads, case.seqlen_q), np.nan, np.float32)
    kernel = compile_case(case, chip, dtype, **more)
    emulate(kernel, q, k, v, *scalars(case), out, lse, seed=seed, optimized=optimized)
    return out, lse


def check_case(case, chip, dtype, rng):
    if chip == "sm_90a" and (case.unaligned or case.head_dim % 8):
        chip = "sm_80"  # as the functions do
    arrays = [x.astype(TYPES[dtype][1]) for x in case.draw(rng)]
    seed = int(rng.integers(1 << 30))
    result = run_case(case, chip, dtype, arrays, seed, optimized=bool(seed % 2))
    check(dtype, *result, *case.reference(*arrays))


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("index", range(len(EDGES)))
def test_edges(index, chip, rng):
    case = EDGES[index]
    if chip == "sm_90a" and (case.unaligned or case.head_dim % 8):
        return  # the same as sm_80
    check_case(case, chip, type_for(chip, index), rng)


@pytest.mark.parametrize("chip", TILES)
@pytest.mark.parametrize("head_dim", [24, 72, 96, 128, 192, 256])
def test_head_dims(head_dim, chip, rng):
    case = Case(1, 70, 150, 2, 1, head_dim, causal=head_dim % 3 == 0)
    check_case(case, chip, type_for(chip, head_dim // 8), rng)


@pytest.mark.parametrize("index", range(6))
def test_random(index, rng):
    case = dataclasses.replace(random_case(rng, 150), batch=1)
    chip = CHIPS[index % 3]
    check_case(case, chip, type_for(chip, index), rng)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("head_dim", [1, 2, 7, 10, 59, 64, 90, 128, 255])
def test_four_byte_alignment(head_dim, dtype, rng):
    """Copies of 4 bytes; the last one of an odd row reads one element, not the NaN
    beside it."""
    case = Case(1, 70, 100, 2, 1, head_dim, causal=head_dim % 3 == 0)
    q, k, v = (numpy_in_pairs(x.astype(TYPES[dtype][1])) for x in case.draw(rng))
    out = numpy_in_pairs(np.full(q.shape, np.nan).astype(q.dtype))
    lse = np.full((1, 2, 70), np.nan, np.float32)
    kernel = fa.compile(
        chip="sm_80",
        dtype=TYPES[dtype][0],
        head_dim=head_dim,
        causal=case.causal,
        alignment=4,
        ptxas=False,
    )
    assert "cp.async.ca.shared.global" in kernel.ptx
    emulate(kernel, q, k, v, head_dim**-0.5, out, lse, seed=int(rng.integers(1 << 30)))
    check(dtype, out, lse, *case.reference(q, k, v))


def in_rows_of_16_bytes(array):
    """The same values of 2 bytes, with NaN after each row up to a multiple of 16 bytes."""
    size = array.shape[-1]
    big = np.full((*array.shape[:-1], -(-size // 8) * 8), np.nan).astype(array.dtype)
    big[..., :size] = array
    return big[..., :size]


@pytest.mark.parametrize(("alignment", "place"), [(16, in_rows_of_16_bytes), (4, numpy_in_pairs)])
@pytest.mark.parametrize("head_dim", [1, 2, 7, 10, 59, 64, 90, 128, 250, 255])
def test_copies_through_registers(head_dim, alignment, place, rng):
    """As wide as the alignment and the length of rows allow, so that the NaN beside
    them is not read."""
    case = Case(1, 70, 100, 2, 1, head_dim, causal=head_dim % 3 == 0)
    q, k, v = (place(x.astype(np.float16)) for x in case.draw(rng))
    out = place(np.full(q.shape, np.nan, np.float16))
    lse = np.full((1, 2, 70), np.nan, np.float32)
    kernel = fa.compile(
        chip="sm_75", head_dim=head_dim, causal=case.causal, alignment=alignment, ptxas=False
    )
    assert "cp.async" not in kernel.ptx
    width = math.gcd(2 * head_dim, alignment)
    load = {16: "ld.global.v4.b32", 4: "ld.global.b32", 2: "ld.global.b16"}[width]
    assert load in kernel.ptx
    emulate(kernel, q, k, v, head_dim**-0.5, out, lse, seed=int(rng.integers(1 << 30)))
    check("float16", out, lse, *case.reference(q, k, v))


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("causal", [False, True])
def test_interleavings(causal, chip, rng):
    """The same result bit for bit, however the threads take turns."""
    case = Case(1, 60, 400, 1, 1, 64, causal=causal)
    arrays = [x.astype(np.float16) for x in case.draw(rng)]
    for optimized in (False, True):
        first = run_case(case, chip, "float16", arrays, 0, optimized)
        check("float16", *first, *case.reference(*arrays))
        for seed in range(1, 12):
            for got, want in zip(run_case(case, chip, "float16", arrays, seed, optimized), first):
                np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("chip", TILES)
@pytest.mark.parametrize("head_dim", [40, 64, 128, 256])
def test_lse_without_rows(head_dim, chip, rng):
    """Who does not want lse gives no memory for it; out is the same."""
    q = draw(rng, 1, 133, 2, head_dim)
    k, v = (draw(rng, 1, 150, 1, head_dim) for _ in range(2))
    kernel = fa.compile(chip=chip, dtype="f16", head_dim=head_dim, causal=True, ptxas=False)
    outs = []
    for rows in (133, 0):
        out, lse = np.empty_like(q), np.empty((1, 2, rows), np.float32)
        emulate(kernel, q, k, v, head_dim**-0.5, out, lse, seed=int(rng.integers(1 << 30)))
        outs.append(out)
    np.testing.assert_array_equal(*outs)


@pytest.mark.parametrize("chip", CHIPS)
def test_nan_under_the_mask_does_not_leak(chip, rng):
    case = Case(1, 200, 200, 1, 1, 64, causal=True)
    q, k, v = (x.astype(np.float16) for x in case.draw(rng))
    v[0, 150], v[0, 180, 0, 7] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        want, want_lse, sizes = case.reference(q, k, v)
    out, lse = run_case(case, chip, "float16", (q, k, v), int(rng.integers(1 << 30)))
    sizes = Sizes(*(size[..., :150] for size in sizes))
    check("float16", out[:, :150], lse[..., :150], want[:, :150], want_lse[..., :150], sizes)
    assert np.isnan(out[:, 150:]).all()


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("kind", JUMPS)
@pytest.mark.parametrize("causal", [False, True])
def test_jumping_scores(causal, kind, head_dim, rng):
    """Rows whose first block says nothing about their maximum: exact all the same."""
    case = Case(1, 220, 430, 1, 1, head_dim, causal=causal)
    q, k, v = case.draw(rng)
    k = k * jumping_factors(kind, 430, rng)[None, :, None, None]
    arrays = [x.astype(np.float16) for x in (q, k, v)]
    out, lse = run_case(case, "sm_90a", "float16", arrays, int(rng.integers(1 << 30)))
    check("float16", out, lse, *case.reference(*arrays))


LAZY = {
    "sm_80": '#fa.schedule<tile_m = 64, tile_n = 64, plan = <chip = "sm_80", mma = "mma_sync", '
    'copy = "cp_async", warps = 4, producers = 0, stages = 1>, lazy_maximum = true>',
    "sm_90a": '#fa.schedule<tile_m = 128, tile_n = 64, plan = <chip = "sm_90a", mma = "wgmma", '
    'copy = "tma", warps = 8, producers = 4, stages = 2, overlap = true, persistent = true>, '
    "lazy_maximum = true, partial_sums = true>",
}


@pytest.mark.parametrize("kind", JUMPS)
@pytest.mark.parametrize("chip", LAZY)
def test_lazy_maximum(chip, kind, rng):
    case = Case(1, 220, 430, 1, 1, 64, causal=True)
    q, k, v = case.draw(rng)
    k = k * jumping_factors(kind, 430, rng)[None, :, None, None]
    arrays = [x.astype(np.float16) for x in (q, k, v)]
    out, lse = run_case(
        case, chip, "float16", arrays, int(rng.integers(1 << 30)), schedule=LAZY[chip]
    )
    check("float16", out, lse, *case.reference(*arrays))


def test_rows_that_become_live_late(rng):
    """Windows whose first block has no live key for some rows."""
    case = Case(1, 300, 700, 1, 1, 64, window=(150, 20))
    arrays = [x.astype(np.float16) for x in case.draw(rng)]
    out, lse = run_case(case, "sm_90a", "float16", arrays, int(rng.integers(1 << 30)))
    check("float16", out, lse, *case.reference(*arrays))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_scores_stay_in_their_rows(bad, rng):
    case = Case(1, 200, 300, 1, 1, 64)
    q, k, v = (x.astype(np.float16) for x in case.draw(rng))
    q[0, 77, 0, 3] = bad
    with np.errstate(invalid="ignore"):
        want, want_lse, sizes = case.reference(q, k, v)
    out, lse = run_case(case, "sm_90a", "float16", (q, k, v), int(rng.integers(1 << 30)))
    good = np.arange(200) != 77
    sizes = Sizes(*(size[..., good] for size in sizes))
    check("float16", out[:, good], lse[..., good], want[:, good], want_lse[..., good], sizes)


class Setup:
    """Data of whole `fa.attention` programs, and how to run one."""

    def __init__(self, target, rng, batch=2, sq=70, sk=90, heads=4, heads_k=2, d=32, dv=None):
        self.chip, _, alignment = target.partition("-")
        self.alignment = int(alignment or 1)
        self.q = draw(rng, batch, sq, heads, d)
        self.k = draw(rng, batch, sk, heads_k, d)
        self.v = draw(rng, batch, sk, heads_k, dv or d)
        self.seed = int(rng.integers(1 << 30))

    def run(self, program, *extra):
        program = dataclasses.replace(program, dtype="f16", alignment=self.alignment)
        kernel = fa.compile(mlir=program.text(), chip=self.chip, ptxas=False)
        batch, sq, heads, d = self.q.shape
        out = np.full((batch, sq, heads, self.v.shape[3]), np.nan, np.float16)
        lse = np.full((batch, heads, sq), np.nan, np.float32)
        emulate(kernel, self.q, self.k, self.v, d**-0.5, *extra, out, lse, seed=self.seed)
        return out, lse

    def check(self, result, **meaning):
        check("float16", *result, *attention(self.q, self.k, self.v, **meaning))


@pytest.fixture(params=["sm_75-4", "sm_75-16", "sm_80", "sm_80-4", "sm_80-16", "sm_90a-16"])
def target(request):
    return request.param


@pytest.mark.parametrize("causal", [False, True])
def test_lengths(target, causal, rng):
    setup = Setup(target, rng, batch=3)
    q_lengths, k_lengths = np.array([70, 0, 33], np.int32), np.array([11, 90, 65], np.int32)
    # Data beyond the lengths must never be seen, NaN included.
    for b in range(3):
        setup.q[b, q_lengths[b] :] = np.nan
        setup.k[b, k_lengths[b] :] = np.nan
        setup.v[b, k_lengths[b] :] = np.nan
    result = setup.run(Program(mask=CAUSAL if causal else "", **LENGTHS), q_lengths, k_lengths)
    mask = band(q_lengths, k_lengths, True) if causal else None
    setup.check(result, mask=mask, q_lengths=q_lengths, k_lengths=k_lengths)


def test_bias(target, rng):
    setup = Setup(target, rng)
    bias = rng.standard_normal((4, 70, 90)).astype(np.float32)
    setup.check(
        setup.run(Program(mask=CAUSAL, **BIAS), bias),
        mask=band(70, 90, True),
        score=lambda s, b, h, m, n: s + bias[h],
    )


def test_values_of_dropped_keys_do_not_leak(target, rng):
    """NaN in v reaches the rows whose bias keeps the key, no other."""
    setup = Setup(target, rng)
    bias = rng.standard_normal((4, 70, 90)).astype(np.float32)
    bias[:, :40, 8] = -np.inf  # rows from 40 on keep it
    bias[:, :, 33] = -np.inf  # no row does
    clean = setup.v.copy()
    setup.v[:, 8, :, 5], setup.v[:, 33] = np.inf, np.nan
    out, lse = setup.run(Program(**BIAS), bias)
    assert not np.isfinite(out[:, 40:, :, 5]).any()
    meaning = {"score": lambda s, b, h, m, n: s + bias[h]}
    expected, expected_lse, sizes = attention(setup.q, setup.k, clean, **meaning)
    out[:, 40:, :, 5] = expected[:, 40:, :, 5] = 0
    check("float16", out, lse, expected, expected_lse, sizes)


def test_gather(target, rng):
    setup = Setup(target, rng)
    table = rng.standard_normal(41).astype(np.float32)
    setup.check(
        setup.run(Program(**RELATIVE), table),
        score=lambda s, b, h, m, n: s + table[np.clip(m - n + 20, 0, 40)],
    )


def test_mask_with_no_set(target, rng):
    """No key is live: no loop, and sums that nothing is added to."""
    setup = Setup(target, rng)
    nothing = np.zeros((70, 90), bool)
    setup.check(setup.run(Program(mask=" ")), mask=lambda *_: nothing)


def test_init_lse(target, rng):
    setup = Setup(target, rng)
    start = rng.standard_normal((2, 4, 70)).astype(np.float32)
    start[0, 1] = -np.inf
    start_type = "memref<?x?x?xf32, strided<[?, ?, 1], offset: ?>>"
    program = Program(arguments=(("start", start_type),), init_lse="%start", mask=CAUSAL)
    setup.check(setup.run(program, start), init_lse=start, mask=band(70, 90, True))


def test_other_value_dimension(target, rng):
    setup = Setup(target, rng, d=48, dv=80)
    setup.check(setup.run(Program(head_dim=48, head_dim_v=80)))


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("cap", [0.5, 50.0, 1e4, 1e6, 1e9])
def test_soft_cap(cap, chip, rng):
    """A cap far above the scores changes nothing: tanh is accurate near zero too."""
    check_case(Case(1, 70, 80, 1, 1, 64, softcap=cap, scale=1.0), chip, "float16", rng)


# ===-----------------------------------------------------------------------=== #
# Gradients
# ===-----------------------------------------------------------------------=== #

GRADIENTS = [
    Case(1, 70, 150, 2, 1, 64),
    Case(1, 129, 127, 1, 1, 64, causal=True),
    Case(2, 100, 37, 2, 2, 32, window=(5, 3)),
    Case(1, 130, 140, 1, 1, 128, causal=True, softcap=2.0),
    Case(1, 33, 65, 2, 1, 59, causal=True),
    Case(1, 65, 65, 2, 2, 80, scale=-0.3, unaligned=True),
    Case(1, 70, 40, 1, 1, 256, causal=True),
]


@pytest.mark.parametrize("chip", TILES)
@pytest.mark.parametrize("index", range(len(GRADIENTS)))
def test_gradients(index, chip, rng):
    case, dtype = GRADIENTS[index], type_for(chip, index)
    if chip == "sm_90a" and (case.unaligned or case.head_dim % 8):
        return  # the same as sm_80
    q, k, v = (x.astype(TYPES[dtype][1]) for x in case.draw(rng))
    dout = rng.standard_normal(q.shape).astype(q.dtype)
    with np.errstate(invalid="ignore", divide="ignore"):
        want = case.gradients(q, k, v, dout)
        out, lse, _ = case.reference(q, k, v)
    arrays = [q, k, v, out.astype(q.dtype), dout]
    if case.unaligned:
        arrays = list(map(unaligned_numpy, arrays))
    results = [np.full(x.shape, np.nan).astype(x.dtype) for x in (q, k, v)]
    delta = np.full(lse.shape, np.nan, np.float32)
    kernel = compile_case(case, chip, dtype, backward=True)
    inputs = (*arrays[:4], lse.astype(np.float32), arrays[4], *scalars(case))
    seed = int(rng.integers(1 << 30))
    emulate(kernel, *inputs, delta, *results, seed=seed, optimized=bool(seed % 2))
    check_gradients(dtype, results, *want)


@pytest.mark.parametrize("chip", ["sm_75", "sm_80", "sm_86", "sm_90a"])
@pytest.mark.parametrize("head_dim", [16, 40, 64, 112, 128, 256])
def test_gradients_in_one_pass(head_dim, chip, rng):
    """d_q added to memory."""
    case = Case(1, 70, 90, 2, 1, head_dim, causal=True)
    q, k, v = (x.astype(np.float16) for x in case.draw(rng))
    dout = rng.standard_normal(q.shape).astype(q.dtype)
    with np.errstate(invalid="ignore", divide="ignore"):
        want = case.gradients(q, k, v, dout)
        out, lse, _ = case.reference(q, k, v)
    results = [np.full(x.shape, np.nan).astype(x.dtype) for x in (q, k, v)]
    columns = -(-head_dim // 16) * 16
    d_q_sum = np.full((1, 2, 72, columns), np.nan, np.float32).swapaxes(1, 2)
    workspaces = (np.full(lse.shape, np.nan, np.float32), d_q_sum)
    kernel = compile_case(case, chip, "float16", backward=True, d_q_sum=True)
    inputs = (q, k, v, out.astype(q.dtype), lse.astype(np.float32), dout, *scalars(case))
    seed = int(rng.integers(1 << 30))
    emulate(kernel, *inputs, *workspaces, *results, seed=seed, optimized=bool(seed % 2))
    check_gradients("float16", results, *want)


@pytest.mark.parametrize("chip", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("d_q_sum", [False, True])
@pytest.mark.parametrize("head_dim", [64, 96, 128, 256])
def test_gradients_with_lengths(head_dim, d_q_sum, chip, rng):
    """Queries and keys that end in the first, a later and the last block, NaN behind them."""
    causal = bool(rng.integers(2))
    case = Case(3, 200, 330, 2, 1, head_dim, causal=causal)
    q_lengths, k_lengths = np.array([130, 5, 200], np.int32), np.array([70, 290, 330], np.int32)
    q, k, v = (x.astype(np.float16) for x in case.draw(rng))
    dout = rng.standard_normal(q.shape).astype(q.dtype)
    meaning = {"q_lengths": q_lengths, "k_lengths": k_lengths}
    meaning["mask"] = band(q_lengths, k_lengths, True) if causal else None
    with np.errstate(invalid="ignore", divide="ignore"):
        out, lse, _ = attention(q, k, v, **meaning)
        want = attention_backward(q, k, v, dout, magnitudes=2, **meaning)
    out = out.astype(q.dtype)
    for b in range(3):
        for array in (q, out, dout):
            array[b, q_lengths[b] :] = np.nan
        for array in (k, v):
            array[b, k_lengths[b] :] = np.nan
    results = [np.full(x.shape, np.nan).astype(x.dtype) for x in (q, k, v)]
    workspaces = [np.full(lse.shape, np.nan, np.float32)]
    if d_q_sum:
        workspaces.append(np.full((3, 2, 200, head_dim), np.nan, np.float32).swapaxes(1, 2))
    kernel = compile_case(case, chip, "float16", backward=True, d_q_sum=d_q_sum, lengths=True)
    assert ("wgmma" in kernel.ptx) == (chip == "sm_90a")
    inputs = (q, k, v, out, lse.astype(np.float32), dout, *scalars(case), q_lengths, k_lengths)
    seed = int(rng.integers(1 << 30))
    emulate(kernel, *inputs, *workspaces, *results, seed=seed, optimized=bool(seed % 2))
    check_gradients("float16", results, *want)
