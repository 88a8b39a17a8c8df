"""The functions' signatures, containers, layouts and results."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading

import flash_attn_mlir as fa
import numpy as np
import pytest
from reference import attention, band, check

TAIL = {
    "dropout_p": 0.0,
    "softmax_scale": None,
    "causal": False,
    "window_size": (-1, -1),
    "softcap": 0.0,
    "alibi_slopes": None,
    "deterministic": False,
    "return_attn_probs": False,
}


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (fa.flash_attn_func, ["q", "k", "v"]),
        (fa.flash_attn_kvpacked_func, ["q", "kv"]),
        (fa.flash_attn_qkvpacked_func, ["qkv"]),
    ],
)
def test_signatures_are_those_of_flash_attention_2(function, inputs):
    parameters = inspect.signature(function).parameters
    assert list(parameters) == inputs + list(TAIL)
    assert {name: parameters[name].default for name in TAIL} == TAIL
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters.values())


def test_version():
    assert fa.__version__.count(".") == 2


def test_import_needs_neither_numpy_nor_torch():
    code = (
        "import sys; sys.modules['numpy'] = sys.modules['torch'] = None\n"
        "import flash_attn_mlir as fa\n"
        "assert fa.FlashAttention().forward\n"
        "from flash_attn_mlir.__main__ import main\n"
        "sys.exit(main(['info']))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert '"llvm"' in result.stdout


def draw(rng, *shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


def test_packed_functions(rng):
    qkv = draw(rng, 2, 50, 3, 4, 32)
    expected = fa.flash_attn_func(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], causal=True)
    np.testing.assert_array_equal(fa.flash_attn_qkvpacked_func(qkv, causal=True), expected)
    np.testing.assert_array_equal(
        fa.flash_attn_kvpacked_func(qkv[:, :, 0], qkv[:, :, 1:], causal=True), expected
    )
    check_against_reference = attention(
        qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], mask=band(50, 50, True)
    )
    np.testing.assert_allclose(expected, check_against_reference[0], atol=1e-5)


def test_positional_order(rng):
    q, k, v = (draw(rng, 1, 60, 2, 32) for _ in range(3))
    out, lse, dmask = fa.flash_attn_func(q, k, v, 0.0, 0.2, True, (10, -1), 3.0, None, True, True)
    expected = attention(
        q, k, v, 0.2, band(60, 60, True, 10), lambda s, b, h, m, n: 3 * np.tanh(s / 3)
    )
    check("float32", out, lse, *expected)
    assert lse.shape == (1, 2, 60)
    assert lse.dtype == np.float32
    assert dmask.shape == (0,)


def test_results_are_new_dense_arrays(rng):
    q = draw(rng, 2, 4, 9, 32).transpose(0, 2, 1, 3)
    out = fa.flash_attn_func(q, q, q)
    assert isinstance(out, np.ndarray)
    assert out.flags.c_contiguous
    assert not np.shares_memory(out, q)


def test_causal_overrides_the_right_window(rng):
    q, k, v = (draw(rng, 1, 40, 2, 16) for _ in range(3))
    expected = fa.flash_attn_func(q, k, v, causal=True)
    for options in (
        {"causal": True, "window_size": (-1, 7)},
        {"window_size": (-1, 0)},
        {"window_size": (40, 0)},
    ):
        np.testing.assert_allclose(
            fa.flash_attn_func(q, k, v, **options), expected, rtol=1e-6, atol=1e-6
        )


def test_dead_rows(rng):
    q, k = draw(rng, 1, 30, 2, 16), draw(rng, 1, 10, 2, 16)
    out, lse, _ = fa.flash_attn_func(q, k, k, causal=True, return_attn_probs=True)
    assert (out[:, :20] == 0).all()
    assert np.isneginf(lse[..., :20]).all()
    assert np.isfinite(lse[..., 20:]).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_torch_cpu(torch, rng, dtype):
    kind = getattr(torch, dtype)
    q, k, v = (torch.from_numpy(draw(rng, 2, 70, 4, 64)).to(kind) for _ in range(3))
    out, lse, dmask = fa.flash_attn_func(q, k, v, causal=True, return_attn_probs=True)
    assert out.dtype == kind and out.shape == q.shape
    assert lse.dtype == (torch.float64 if dtype == "float64" else torch.float32)
    assert dmask.shape == (0,)
    expected = attention(*(x.double().numpy() for x in (q, k, v)), mask=band(70, 70, True))
    check(dtype, out.double().numpy(), lse.numpy(), *expected)


def test_torch_and_numpy_agree_bit_for_bit(torch, rng):
    q, k, v = (draw(rng, 2, 70, 4, 64) for _ in range(3))
    out = fa.flash_attn_func(*(torch.from_numpy(x) for x in (q, k, v)))
    np.testing.assert_array_equal(out.numpy(), fa.flash_attn_func(q, k, v))


def test_torch_without_grad(torch, rng):
    q = torch.from_numpy(draw(rng, 1, 10, 1, 16)).requires_grad_()
    assert fa.flash_attn_func(q, q, q).requires_grad
    with torch.no_grad():
        assert not fa.flash_attn_func(q, q, q).requires_grad
    assert not fa.flash_attn_func(q.detach(), q.detach(), q.detach()).requires_grad


class OnlyDLPack:
    """An array of an unknown library: DLPack and the array API's namespace."""

    shape_of = None

    def __init__(self, array):
        self.array = array
        self.device = "cpu"

    def __dlpack__(self, **_):
        return self.array.__dlpack__()

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __array_namespace__(self):
        class Namespace:
            float32 = np.float32

            @staticmethod
            def empty(shape, dtype, device):
                assert device == "cpu"
                return OnlyDLPack(np.full(shape, np.nan, dtype))

        return Namespace


def test_dlpack(rng):
    q, k, v = (draw(rng, 1, 40, 2, 16) for _ in range(3))
    out = fa.flash_attn_func(OnlyDLPack(q), OnlyDLPack(k), OnlyDLPack(v))
    assert isinstance(out, OnlyDLPack)
    np.testing.assert_array_equal(out.array, fa.flash_attn_func(q, k, v))


def test_module(rng):
    q, k, v = (draw(rng, 1, 40, 2, 16) for _ in range(3))
    module = fa.FlashAttention(causal=True, softmax_scale=0.1)
    expected = fa.flash_attn_func(q, k, v, causal=True, softmax_scale=0.1)
    np.testing.assert_array_equal(module(q, k, v), expected)
    np.testing.assert_array_equal(module(q, np.stack([k, v], 2)), expected)
    np.testing.assert_array_equal(module(np.stack([q, k, v], 2)), expected)


def test_module_is_a_torch_module(torch):
    assert isinstance(fa.FlashAttention(), torch.nn.Module)


def test_threads_share_kernels(rng, monkeypatch):
    from flash_attn_mlir import _attention, _compiler

    compiled = []
    original = _compiler.compile
    monkeypatch.setattr(
        _compiler, "compile", lambda **spec: compiled.append(spec) or original(**spec)
    )
    monkeypatch.setattr(_attention, "_kernels", {})
    q, k, v = (draw(rng, 2, 65, 2, 24) for _ in range(3))
    results = []

    def work():
        for _ in range(5):
            results.append(fa.flash_attn_func(q, k, v, causal=True))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(compiled) == 1
    assert len(results) == 40
    for result in results:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize(
    ("offset", "pitch", "size", "alignment"),
    [
        (0, 64, 64, 16),
        (8, 72, 64, 16),
        (0, 64, 62, 4),  # the rows are no multiple of 16 bytes
        (2, 72, 64, 4),
        (0, 66, 64, 4),
        (0, 64, 59, 4),
        (0, 59, 59, 1),
        (1, 64, 64, 1),
        (4, 68, 64, 4),
    ],
)
def test_alignment_class(offset, pitch, size, alignment):
    """Of a float16 view: 16 or 4 bytes that divide its address and strides, or 1."""
    from flash_attn_mlir import _fa

    memory = np.zeros(2 * 3 * 2 * 72 + 16, np.float16)
    start = -memory.ctypes.data % 16 // 2 + offset
    rows = memory[start : start + 2 * 3 * 2 * pitch - offset]
    view = np.lib.stride_tricks.as_strided(
        rows, (2, 3, 2, size), (12 * pitch, 4 * pitch, 2 * pitch, 2)
    )
    assert _fa.view_numpy(view, "f16").alignment == alignment


def test_alignment_of_a_program():
    from flash_attn_mlir import _compiler

    for alignment in (16, 4):
        text = _compiler.build(head_dim=64, alignment=alignment)
        assert text.count(f"tile.align = {alignment} : i64") == 4
    assert "tile.align" not in _compiler.build(head_dim=64, alignment=1)
    with pytest.raises(ValueError, match="alignment 8 is not supported; allowed: 16, 4 or 1"):
        _compiler.build(head_dim=64, alignment=8)


def test_programs_of_few_queries():
    from flash_attn_mlir import _compiler

    one = _compiler.build(head_dim=64, query_rows=1, partials=True)
    assert "%q: memref<?x1x?x64xf16" in one
    assert "partials(%o_parts, %lse_parts" in one
    assert "fa.few_rows" in _compiler.build(head_dim=64, query_rows=16)
    assert "fa.short_sequences" in _compiler.build(head_dim=64, query_rows=4096)
    with pytest.raises(
        ValueError, match=r"query_rows 2 is not supported; allowed: 0 .*1, 16 .*4096"
    ):
        _compiler.build(head_dim=64, query_rows=2)
    packed = _compiler.build(head_dim=64, query_rows=16, pack_heads=True)
    assert "fa.few_rows, fa.pack_heads" in packed
    for rows in (0, 1):
        with pytest.raises(ValueError, match=f"pack_heads with query_rows {rows} is not support"):
            _compiler.build(head_dim=64, query_rows=rows, pack_heads=True)
    with pytest.raises(ValueError, match="query_rows and partials are no options of backward"):
        _compiler.build(head_dim=64, backward=True, partials=True)
