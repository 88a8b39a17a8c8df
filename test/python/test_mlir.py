"""Whole `fa.attention` through compile(mlir=...): masks as sets, captures, lengths,
init_lse, other layouts, d_qk != d_v; on the CPU and, where there is one, on a GPU.
"""

from __future__ import annotations

import dataclasses

import flash_attn_mlir as fa
import numpy as np
import pytest
from programs import BIAS, CAUSAL, LENGTHS, RELATIVE, Program
from reference import attention, band, check

# Without a promise of alignment a GPU kernel copies element by element; with one of 4
# or 16 bytes, by cp.async of that width (sm_80), or of 16 by tensor maps into wgmma
# (sm_90a).
GPU_TARGETS = ("sm_80", "sm_80-4", "sm_80-16", "sm_90a-16")
TARGETS = ["cpu", *(pytest.param(target, marks=pytest.mark.gpu) for target in GPU_TARGETS)]


@pytest.fixture(params=TARGETS)
def chip(request):
    return request.param


def draw(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def run(chip, program, arrays, extra, out_shape, lse_shape):
    """Runs a program on float16 (GPU) or float32 (CPU) data; returns o and lse."""
    dtype = np.float32 if program.dtype == "f32" else np.float16
    q, k, v = arrays
    out, lse = np.full(out_shape, np.nan, dtype), np.full(lse_shape, np.nan, np.float32)
    chip, _, alignment = chip.partition("-")
    program = dataclasses.replace(program, alignment=int(alignment or 1))
    if chip == "sm_90a":
        torch = pytest.importorskip("torch")
        if torch.cuda.get_device_capability() != (9, 0):
            pytest.skip("sm_90a artifacts run on compute capability 9.0 only")
    kernel = fa.compile(mlir=program.text(), chip=chip)
    scale = q.shape[-1] ** -0.5
    if chip == "cpu":
        kernel(q, k, v, scale, *extra, out, lse)
        return out, lse
    import torch

    def move(x):
        return torch.from_numpy(np.ascontiguousarray(x)).cuda() if isinstance(x, np.ndarray) else x

    out, lse = move(out), move(lse)
    kernel(move(q), move(k), move(v), scale, *map(move, extra), out, lse)
    return out.cpu().numpy(), lse.cpu().numpy()


class Setup:
    """Data for one problem in (B, S, H, D)."""

    def __init__(self, chip, rng, batch=2, sq=70, sk=90, heads=4, heads_k=2, d=32, dv=None):
        self.dtype = "f32" if chip == "cpu" else "f16"
        kind = np.float32 if chip == "cpu" else np.float16
        self.name = np.dtype(kind).name
        self.chip = chip
        self.q = draw(rng, batch, sq, heads, d).astype(kind)
        self.k = draw(rng, batch, sk, heads_k, d).astype(kind)
        self.v = draw(rng, batch, sk, heads_k, dv or d).astype(kind)
        self.out_shape = (batch, sq, heads, dv or d)
        self.lse_shape = (batch, heads, sq)

    def run(self, program, *extra):
        return run(
            self.chip, program, (self.q, self.k, self.v), extra, self.out_shape, self.lse_shape
        )

    def check(self, result, **meaning):
        check(self.name, *result, *attention(self.q, self.k, self.v, **meaning))


def test_plain(chip, rng):
    setup = Setup(chip, rng)
    setup.check(setup.run(Program(setup.dtype)))


@pytest.mark.parametrize(("d", "dv"), [(64, 32), (32, 128), (192, 128), (40, 72)])
def test_other_head_dim_of_v(chip, rng, d, dv):
    setup = Setup(chip, rng, d=d, dv=dv)
    result = setup.run(Program(setup.dtype, d, dv, mask=CAUSAL))
    setup.check(result, mask=band(70, 90, True))


def test_bhsd_layout(chip, rng):
    setup = Setup(chip, rng)
    program = Program(setup.dtype, layout="bhsd", mask=CAUSAL)
    batch, sq, heads, d = setup.out_shape
    arrays = [x.transpose(0, 2, 1, 3) for x in (setup.q, setup.k, setup.v)]
    out, lse = run(chip, program, arrays, (), (batch, heads, sq, d), setup.lse_shape)
    setup.check((out.transpose(0, 2, 1, 3), lse), mask=band(70, 90, True))


@pytest.mark.parametrize("causal", [False, True])
def test_lengths(chip, rng, causal):
    setup = Setup(chip, rng, batch=5)
    q_lengths = np.array([70, 0, 33, 1, 64], np.int32)
    k_lengths = np.array([90, 20, 0, 64, 17], np.int32)
    # Data beyond the lengths must never be seen, NaN included.
    for b in range(5):
        setup.q[b, q_lengths[b] :] = np.nan
        setup.k[b, k_lengths[b] :] = np.nan
        setup.v[b, k_lengths[b] :] = np.nan
    program = Program(setup.dtype, mask=CAUSAL if causal else "", **LENGTHS)
    result = setup.run(program, q_lengths, k_lengths)
    mask = band(q_lengths, k_lengths, True) if causal else None
    setup.check(result, mask=mask, q_lengths=q_lengths, k_lengths=k_lengths)


def test_bias(chip, rng):
    setup = Setup(chip, rng)
    bias = draw(rng, 4, 70, 90) * 3
    setup.check(
        setup.run(Program(setup.dtype, mask=CAUSAL, **BIAS), bias),
        mask=band(70, 90, True),
        score=lambda s, b, h, m, n: s + bias[h],
    )


def test_gathered_bias(chip, rng):
    setup = Setup(chip, rng)
    table = draw(rng, 41) * 3
    setup.check(
        setup.run(Program(setup.dtype, **RELATIVE), table),
        score=lambda s, b, h, m, n: s + table[np.clip(m - n + 20, 0, 40)],
    )


def test_bias_of_minus_infinity(chip, rng):
    setup = Setup(chip, rng)
    bias = np.where(rng.random((4, 70, 90)) < 0.5, -np.inf, 0).astype(np.float32)
    bias[:, 3] = -np.inf  # dead rows
    setup.check(
        setup.run(Program(setup.dtype, **BIAS), bias), score=lambda s, b, h, m, n: s + bias[h]
    )


@pytest.mark.parametrize("causal", [False, True])
def test_values_of_dropped_keys_do_not_leak(chip, rng, causal):
    """NaN in v reaches the rows whose bias keeps the key, no other."""
    setup = Setup(chip, rng)
    bias = draw(rng, 4, 70, 90)
    bias[:, :40, 8] = -np.inf  # rows from 40 on keep it
    bias[:, :, 33] = -np.inf  # no row does
    bias[2, 50, :] = -np.inf  # a dead row
    clean = setup.v.copy()
    setup.v[:, 8, :, 5] = np.inf
    setup.v[:, 33] = np.nan
    program = Program(setup.dtype, mask=CAUSAL if causal else "", **BIAS)
    out, lse = setup.run(program, bias)
    rows = np.ones((70, 4), bool)
    rows[:40] = False
    rows[50, 2] = False
    assert not np.isfinite(out[:, rows, 5]).any()
    assert np.isfinite(out[:, ~rows]).all()
    # Everything else is what finite values give.
    out[:, rows, 5] = np.nan
    mask = band(70, 90, True) if causal else None
    meaning = {"mask": mask, "score": lambda s, b, h, m, n: s + bias[h]}
    expected, expected_lse, sizes = attention(setup.q, setup.k, clean, **meaning)
    without = attention(setup.q, setup.k, np.where(np.isfinite(setup.v), clean, 0), **meaning)[0]
    assert np.abs(expected - without)[:, 50, 2].max() == 0
    out[..., 5] = expected[..., 5] = 0
    check(setup.name, out, lse, expected, expected_lse, sizes)


def test_tanh_softcap_region(chip, rng):
    setup = Setup(chip, rng)
    score = """        %cap = arith.constant 2.0 : f32
        %x = arith.divf %s, %cap : f32
        %t = math.tanh %x : f32
        %r = arith.mulf %t, %cap : f32"""
    setup.check(
        setup.run(Program(setup.dtype, score=score)),
        score=lambda s, b, h, m, n: 2 * np.tanh(s / 2),
    )


def test_score_depends_on_positions(chip, rng):
    # An ALiBi of the head: -2^-(h+1) * |m - n|.
    setup = Setup(chip, rng)
    score = """        %d = arith.subi %m, %n : index
        %i = arith.index_cast %d : index to i32
        %f = arith.sitofp %i : i32 to f32
        %a = math.absf %f : f32
        %h1 = arith.index_cast %h : index to i32
        %h2 = arith.sitofp %h1 : i32 to f32
        %one = arith.constant -1.0 : f32
        %e = arith.subf %one, %h2 : f32
        %slope = math.exp2 %e : f32
        %x = arith.mulf %slope, %a : f32
        %r = arith.subf %s, %x : f32"""
    setup.check(
        setup.run(Program(setup.dtype, score=score)),
        score=lambda s, b, h, m, n: s - 2.0 ** -(h + 1) * np.abs(m - n),
    )


def test_union_of_sets(chip, rng):
    # Prefix-LM: causal, or a key below the prefix.
    setup = Setup(chip, rng)
    prefix = "affine_set<(b, h, m, n)[lq, lk, p] : (p - 1 - n >= 0)>"
    causal = "affine_set<(b, h, m, n)[lq, lk, p] : (m + lk - lq - n >= 0)>"
    program = Program(
        setup.dtype,
        arguments=(("p", "index"),),
        mask=f"{causal}, {prefix}",
        symbols="%p",
    )
    causal_mask = band(70, 90, True)
    for p in (0, 1, 45, 90, 1000):
        setup.check(
            setup.run(program, p),
            mask=lambda b, h, m, n, p=p: causal_mask(b, h, m, n) | (n < p),
        )


def test_mask_with_no_set_keeps_nothing(chip, rng):
    setup = Setup(chip, rng)
    setup.check(
        setup.run(Program(setup.dtype, mask=" ")),
        mask=lambda b, h, m, n: np.zeros(np.broadcast_shapes(m.shape, n.shape), bool),
    )


def test_mask_on_heads(chip, rng):
    setup = Setup(chip, rng)
    # Head h sees keys n >= 10 h.
    setup.check(
        setup.run(
            Program(setup.dtype, mask="affine_set<(b, h, m, n)[lq, lk] : (n - 10 * h >= 0)>")
        ),
        mask=lambda b, h, m, n: (n >= 10 * h) & (m == m),
    )


def test_init_lse(chip, rng):
    setup = Setup(chip, rng)
    start = draw(rng, *setup.lse_shape)
    start[0, 0, :10] = -np.inf
    # A start that outweighs the keys; float16 outputs cannot hold exp(-50).
    start[1, 1, :10] = 50 if chip == "cpu" else 8
    lse_type = "memref<?x?x?xf32, strided<[?, ?, 1], offset: ?>>"
    program = Program(setup.dtype, arguments=(("start", lse_type),), init_lse="%start", mask=CAUSAL)
    setup.check(setup.run(program, start), init_lse=start, mask=band(70, 90, True))


def test_dead_lse(chip, rng):
    setup = Setup(chip, rng, sq=50, sk=20)
    program = Program(setup.dtype, mask=CAUSAL, dead_lse="0x7FF0000000000000")
    result = setup.run(program)
    assert np.isposinf(result[1][..., :30]).all()
    setup.check(result, mask=band(50, 20, True), dead_lse=np.inf)


def test_schedule_changes_no_result(rng):
    """Other tile sizes give the same attention."""
    setup = Setup("cpu", rng, sq=130, sk=170)
    program = Program("f32", mask=CAUSAL)
    plan = (
        '#tile.plan<chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, '
        "stages = 1>"
    )
    for tile_m, tile_n in ((16, 16), (32, 64), (64, 32)):
        schedule = f"#fa.schedule<tile_m = {tile_m}, tile_n = {tile_n}, plan = {plan}>"
        kernel = fa.compile(mlir=program.text(), chip="cpu", schedule=schedule)
        out, lse = np.full(setup.out_shape, np.nan, "f4"), np.full(setup.lse_shape, np.nan, "f4")
        kernel(setup.q, setup.k, setup.v, 32**-0.5, out, lse)
        setup.check((out, lse), mask=band(130, 170, True))
