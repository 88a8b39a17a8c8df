"""Results on the CPU target against float64, for all types and many shapes."""

from __future__ import annotations

import platform

import flash_attn_mlir as fa
import numpy as np
import pytest
from cases import EDGES, JUMPS, Case, jumping_factors, random_case, unaligned_numpy
from reference import attention, band, check
from sparse import SUPPORTED, far_apart, spread

DTYPES = ["float16", "bfloat16", "float32", "float64"]


def cast(array, dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    return array.astype(dtype)


def run(case, dtype, rng):
    q, k, v = (cast(x, dtype) for x in case.draw(rng))
    if case.unaligned:
        q, k, v = (unaligned_numpy(x) for x in (q, k, v))
    out, lse, _ = fa.flash_attn_func(q, k, v, **case.options(), return_attn_probs=True)
    assert out.dtype == q.dtype
    assert out.shape == q.shape
    check(dtype, out, lse, *case.reference(q, k, v))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", EDGES, ids=range(len(EDGES)))
def test_edges(case, dtype, rng):
    run(case, dtype, rng)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("head_dim", [*range(8, 257, 8), 1, 2, 3, 7, 59, 111, 255])
def test_head_dims(head_dim, dtype, rng):
    case = random_case(rng, 100, [head_dim])
    run(case, dtype, rng)


@pytest.mark.parametrize("index", range(40))
def test_random(index, rng):
    case = random_case(rng)
    run(case, str(rng.choice(DTYPES)), rng)


def test_large_scores_do_not_overflow(rng):
    q, k, v = (rng.standard_normal((1, 80, 2, 64)).astype(np.float32) * 30 for _ in range(3))
    out, lse, _ = fa.flash_attn_func(q, k, v, return_attn_probs=True)
    _, expected_lse, _ = attention(q, k, v)
    assert np.abs(expected_lse).max() > 1000
    # A score of some thousand has an absolute error of some 1e-4 in f32.
    np.testing.assert_allclose(lse, expected_lse, rtol=1e-5)
    assert np.isfinite(out).all()


def test_scores_of_minus_infinity_are_not_kept(rng):
    q, k, v = (rng.standard_normal((1, 40, 1, 16)).astype(np.float32) for _ in range(3))
    q[..., 0], k[..., 0] = 1.0, 0.0
    k[0, ::3, 0, 0] = -np.inf
    out, lse, _ = fa.flash_attn_func(q, k, v, return_attn_probs=True)
    check("float32", out, lse, *attention(q, k, v))


def nan_rows(rng, **nan_keys):
    """Causal attention with and without NaN in the named keys of k or v."""
    arrays = {name: rng.standard_normal((1, 64, 1, 32)).astype(np.float32) for name in "qkv"}
    results = []
    for _ in range(2):
        results.append(fa.flash_attn_func(**arrays, causal=True, return_attn_probs=True)[:2])
        for name, key in nan_keys.items():
            arrays[name][0, key] = np.nan
    return results


def test_nan_in_live_keys_propagates(rng):
    _, (out, lse) = nan_rows(rng, k=40)
    assert np.isnan(out[:, 40:]).all()
    assert np.isnan(lse[..., 40:]).all()
    _, (out, lse) = nan_rows(rng, v=40)
    assert np.isnan(out[:, 40:]).all()
    assert np.isfinite(lse).all()


def test_nan_in_masked_k_does_not_leak(rng):
    (clean, clean_lse), (out, lse) = nan_rows(rng, k=40)
    np.testing.assert_array_equal(out[:, :40], clean[:, :40])
    np.testing.assert_array_equal(lse[..., :40], clean_lse[..., :40])


@pytest.mark.parametrize("key", [0, 13, 40, 63])
def test_nan_in_masked_v_does_not_leak(rng, key):
    (clean, _), (out, _) = nan_rows(rng, v=key)
    # Blocks with NaN sum in another order.
    np.testing.assert_allclose(out[:, :key], clean[:, :key], rtol=1e-4, atol=1e-6)
    assert np.isnan(out[:, key:]).all()


def test_broadcast_and_transposed_inputs(rng):
    q = rng.standard_normal((2, 4, 50, 32)).astype(np.float32).transpose(0, 2, 1, 3)
    k = np.broadcast_to(rng.standard_normal((1, 60, 1, 32)).astype(np.float32), (2, 60, 4, 32))
    v = rng.standard_normal((2, 60, 32, 4)).astype(np.float32).transpose(0, 1, 3, 2)  # copied
    w = rng.standard_normal((2, 60, 4, 32)).astype(np.float32)[:, ::-1]  # negative stride
    for values in (v, w):
        out, lse, _ = fa.flash_attn_func(q, k, values, return_attn_probs=True)
        check("float32", out, lse, *attention(q, k, values))


def test_inputs_are_not_written(rng):
    q, k, v = (rng.standard_normal((2, 70, 2, 64)).astype(np.float32) for _ in range(3))
    copies = [x.copy() for x in (q, k, v)]
    for x in (q, k, v):
        x.flags.writeable = False
    fa.flash_attn_func(q, k, v, causal=True)
    for x, copy in zip((q, k, v), copies):
        np.testing.assert_array_equal(x, copy)


def test_results_repeat_bit_for_bit(rng):
    q, k, v = (rng.standard_normal((2, 300, 4, 64)).astype(np.float16) for _ in range(3))
    first = fa.flash_attn_func(q, k, v, causal=True, deterministic=True)
    threads = fa.get_num_threads()
    try:
        for count in (1, 2, 3):
            fa.set_num_threads(count)
            np.testing.assert_array_equal(first, fa.flash_attn_func(q, k, v, causal=True))
    finally:
        fa.set_num_threads(threads)


def test_many_heads():
    # More than 65,535 (batch, head) pairs.
    q = np.ones((700, 1, 100, 1), np.float32)
    out = fa.flash_attn_func(q, q, q)
    np.testing.assert_array_equal(out, q)


@pytest.mark.skipif(not SUPPORTED, reason="Linux of 64 bits only")
@pytest.mark.parametrize("query_rows", [0, 1, 16])
def test_distant_elements(query_rows, rng):
    """Offsets of rows, heads and sequences that 32 bits do not hold."""
    case = Case(2, 40 if query_rows == 0 else min(query_rows, 5), 50, 6, 3, 64, causal=True)
    arrays = case.draw(rng)
    kernel = fa.compile(
        chip="cpu", dtype="f32", head_dim=64, causal=True, query_rows=query_rows, alignment=1
    )
    out = far_apart(arrays[0].shape, np.float32)
    lse = far_apart((2, 6, case.seqlen_q), np.float32)
    kernel(*map(spread, arrays), 64**-0.5, out, lse)
    check("float32", out, lse, *case.reference(*arrays))


@pytest.mark.parametrize("seqlen_q", [0, 1, 5, 40])
def test_nothing(seqlen_q):
    """No query or no key; no sequence is an error, as in FlashAttention-2."""
    q, k = np.ones((2, seqlen_q, 4, 64), np.float32), np.ones((2, 0, 2, 64), np.float32)
    out, lse, _ = fa.flash_attn_func(q, k, k, causal=True, return_attn_probs=True)
    assert out.shape == q.shape and lse.shape == (2, 4, seqlen_q)
    assert (out == 0).all() and (lse == -np.inf).all()
    with pytest.raises(ValueError, match="q: batch is 0 .*; allowed: at least 1"):
        fa.flash_attn_func(q[:0], k[:0], k[:0])
    # The program itself has no such limit.
    kernel = fa.compile(chip="cpu", dtype="f32", head_dim=64, alignment=1)
    kernel(q[:0], k[:0], k[:0], 0.125, out[:0], lse[:0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cpu", ["x86-64", "x86-64-v3", "x86-64-v4", "sapphirerapids", None])
def test_processors(cpu, dtype, rng):
    """One head each of shapes with and without whole vectors and pairs."""
    if cpu and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("x86-64 only")
    short = {"float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64"}[dtype]
    for head_dim, rows, keys in ((64, 130, 200), (33, 70, 70)):
        q, k, v = (
            cast(rng.standard_normal((1, length, 1, head_dim)).astype(np.float32), dtype)
            for length in (rows, keys, keys)
        )
        kernel = fa.compile(
            chip="cpu", cpu=cpu, dtype=short, head_dim=head_dim, causal=True, alignment=1
        )
        if cpu == "sapphirerapids":
            # Matrices of bf16 whose sides fill registers.
            uses_amx = dtype == "bfloat16" and head_dim == 64
            assert ("@llvm.x86.tdpbf16ps(" in kernel.llvm_ir) == uses_amx
        out = np.full_like(q, np.nan)
        lse = np.full((1, 1, rows), np.nan, np.float64 if dtype == "float64" else np.float32)
        try:
            kernel(q, k, v, head_dim**-0.5, out, lse)
        except NotImplementedError as error:
            assert "another processor" in str(error)
            pytest.skip(f"this processor lacks what {cpu} has")
        expected = attention(q, k, v, mask=band(rows, keys, causal=True))
        check(dtype, out, lse, *expected)


@pytest.mark.parametrize("reference", ["fixed_reference", "lazy_maximum"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", [None, *JUMPS])
def test_references(kind, causal, reference, rng):
    """The GPU's ways to the softmax, as the CPU's tile program."""
    schedule = (
        '#fa.schedule<tile_m = 32, tile_n = 48, plan = #tile.plan<chip = "cpu", mma = "vector", '
        f'copy = "direct", warps = 1, producers = 0, stages = 1>, {reference} = true>'
    )
    case = Case(2, 100, 230, 2, 1, 32, causal=causal)
    q, k, v = case.draw(rng)
    if kind:
        k = k * jumping_factors(kind, 230, rng)[None, :, None, None]
    q, k, v = (x.astype(np.float32) for x in (q, k, v))
    kernel = fa.compile(chip="cpu", dtype="f32", head_dim=32, causal=causal, schedule=schedule)
    out, lse = np.full(q.shape, np.nan, np.float32), np.full((2, 2, 100), np.nan, np.float32)
    kernel(q, k, v, 32**-0.5, out, lse)
    check("float32", out, lse, *case.reference(q, k, v))
