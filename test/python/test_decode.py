"""Few queries with many keys, through the functions: CPU, and a GPU with `-m gpu`."""

from __future__ import annotations

import types

import flash_attn_mlir as fa
import numpy as np
import pytest
from cases import Case, unaligned_numpy
from flash_attn_mlir import _arrays, _attention, _fa
from reference import check
from test_gpu import check as check_gpu
from test_gpu import chips, draw, generator, inputs, reference64, run  # noqa: F401

# Masks, dead rows, groups of 1, 4 and 8, and more heads than a tile has rows.
CASES = [
    Case(1, 1, 3000, 4, 4, 64),
    Case(1, 1, 3000, 8, 2, 128, causal=True),
    Case(2, 1, 2000, 8, 1, 64, window=(700, 0)),
    Case(1, 1, 2000, 8, 1, 128, window=(-1, 5), softcap=3.0),
    Case(1, 1, 1000, 40, 2, 64, scale=0.3),
    Case(1, 1, 1000, 2, 1, 80, scale=-0.3),
    Case(1, 1, 0, 4, 2, 64),
    Case(1, 1, 1, 4, 2, 64, causal=True),
    Case(2, 2, 1500, 8, 2, 128, causal=True),
    Case(1, 16, 1500, 4, 1, 64, causal=True, window=(100, 0)),
    Case(1, 16, 9, 4, 1, 64, causal=True),  # dead rows
    Case(1, 7, 1500, 8, 2, 128, window=(30, 40)),
    Case(1, 17, 1500, 8, 2, 64, causal=True),  # not few
    Case(1, 1, 900, 6, 3, 59, unaligned=True),
    Case(1, 4, 900, 6, 3, 72, unaligned=True, causal=True),
]


@pytest.fixture(params=[1, 3, 16])
def threads(request):
    """The number of parts depends on it."""
    before = fa.get_num_threads()
    fa.set_num_threads(request.param)
    yield request.param
    fa.set_num_threads(before)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("index", range(len(CASES)))
def test_cpu(index, dtype, threads, rng):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    case = CASES[index]
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    arrays = [x.astype(kind) for x in case.draw(rng)]
    q, k, v = map(unaligned_numpy, arrays) if case.unaligned else arrays
    out, lse, _ = fa.flash_attn_func(q, k, v, **case.options(), return_attn_probs=True)
    check(dtype, out, lse, *case.reference(*arrays))


@pytest.mark.parametrize("index", [1, 2, 9, 10])
def test_gradients(index, threads, torch, rng):
    """The saved softmax_lse is that of all keys."""
    case = CASES[index]
    q, k, v = (torch.from_numpy(x).double() for x in case.draw(rng))
    want = [x.clone().requires_grad_() for x in (q, k, v)]
    got = [x.clone().requires_grad_() for x in (q, k, v)]
    out, lse, _ = fa.flash_attn_func(*got, **case.options(), return_attn_probs=True)
    expected, expected_lse, _ = reference64(torch, *want, case)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(lse, expected_lse)
    dout = torch.from_numpy(rng.standard_normal(out.shape))
    (out * dout).sum().backward()
    for one, other in zip(got, torch.autograd.grad((expected * dout).sum(), want)):
        torch.testing.assert_close(one.grad, other.nan_to_num(0.0))


def device(kind, index=0):
    return types.SimpleNamespace(device_type=kind, device_id=index)


@pytest.mark.parametrize(
    ("chip", "blocks", "keys", "parts"),
    [
        # At most 6 * 132 blocks at once, of at least 64 keys each and equally many.
        ("sm_90a", 8, 8192, 64),
        ("sm_90a", 8, 65536, 94),
        ("sm_90a", 256, 8192, 3),
        ("sm_90a", 64, 65536, 12),
        ("sm_90a", 1, 1 << 20, 128),
        ("sm_90a", 396, 8192, 2),
        ("sm_90a", 397, 8192, 1),
        ("sm_90a", 8, 64, 1),
        ("sm_90a", 8, 65, 2),
        ("sm_90a", 8, 0, 1),
        ("sm_80", 8, 65536, 64),
        ("sm_86", 8, 65536, 32),
    ],
)
def test_number_of_parts(chip, blocks, keys, parts, monkeypatch):
    monkeypatch.setattr(_attention, "_multiprocessors", lambda device: 132)
    assert _attention._parts(device(_arrays.CUDA), chip, blocks, keys) == parts


@pytest.mark.parametrize(
    ("queries", "group", "blocks", "pack"),
    [
        # One query: its heads alone are rows.
        (1, 1, 1, False),
        (1, 16, 1, False),
        (1, 17, 2, False),
        (2, 1, 1, False),
        (2, 8, 1, True),
        (4, 4, 1, True),
        (5, 4, 2, True),
        (16, 2, 2, False),
        (13, 4, 4, False),
        (16, 7, 7, False),
        (2, 40, 6, True),
    ],
)
def test_packing(queries, group, blocks, pack):
    """Where it takes fewer blocks of 16 rows than one for each head."""
    assert _attention._few_blocks(queries, group) == (blocks, pack)


def test_number_of_parts_on_the_cpu(threads):
    on_cpu = device(_arrays.CPU)
    assert _attention._parts(on_cpu, "cpu", 1, 1 << 20) == threads
    assert _attention._parts(on_cpu, "cpu", 16, 1 << 20) == 1
    assert _attention._parts(on_cpu, "cpu", 1, 100) == min(threads, 2)


def test_workspaces_are_for_parts_only(threads, rng, monkeypatch):
    """One query of one head: as many parts as threads; of many heads none."""
    shapes = []
    empty = _arrays._NumPy.empty

    def recorded(self, shape, dtype, like):
        shapes.append(tuple(shape))
        return empty(self, shape, dtype, like)

    monkeypatch.setattr(_arrays._NumPy, "empty", recorded)
    for heads in (1, 16):
        shapes.clear()
        x = rng.standard_normal((1, 2048, heads, 64)).astype(np.float32)
        fa.flash_attn_func(x[:, :1], x, x)
        want = [(1, 1, heads, 64), (1, heads, 1)]
        if threads > heads:
            want += [(threads, 1, 1, heads, 64), (threads, 1, heads, 1)]
        assert shapes == want


def test_one_program_per_kind():
    """Programs of one and of few queries do not depend on how many few are."""
    x = np.ones((1, 200, 1, 8), np.float32)
    before = len(_attention._kernels)
    fa.set_num_threads(1)
    try:
        for seqlen_q in (1, 2, 3, 16):
            fa.flash_attn_func(x[:, :seqlen_q], x, x, softcap=0.7)
            fa.flash_attn_func(x[:, :seqlen_q], x, x, softcap=0.7)
        # The last query sees all keys, causal or not.
        fa.flash_attn_func(x[:, :1], x, x, softcap=0.7, causal=True)
        fa.flash_attn_func(x[:, :1], x, x, softcap=0.7, window_size=(-1, 3))
    finally:
        fa.set_num_threads(0)
    assert len(_attention._kernels) - before <= 2


@pytest.mark.gpu
@pytest.mark.parametrize("chip", chips())
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("index", range(len(CASES)))
def test_gpu(index, dtype, chip, torch, generator):  # noqa: F811
    case = CASES[index]
    q, k, v = inputs(torch, generator, case, dtype)
    result = run(chip, q, k, v, **case.options())
    check_gpu(torch, dtype, *result, *reference64(torch, q, k, v, case))


@pytest.mark.gpu
@pytest.mark.parametrize("chip", chips())
@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("group", [1, 4, 8])
@pytest.mark.parametrize("batch", [1, 6])
def test_gpu_long(batch, group, head_dim, chip, torch, generator):  # noqa: F811
    """Many parts, and few of them."""
    case = Case(batch, 1, 20_000, 2 * group, 2, head_dim)
    q, k, v = inputs(torch, generator, case, "float16")
    result = run(chip, q, k, v)
    check_gpu(torch, "float16", *result, *reference64(torch, q, k, v, case))
    assert all(torch.equal(a, b) for a, b in zip(result, run(chip, q, k, v)))


@pytest.mark.gpu
def test_gpu_in_a_graph(torch, generator):  # noqa: F811
    """Both launches are captured, the workspaces with them."""
    case = Case(1, 1, 5000, 8, 2, 128)
    q, k, v = inputs(torch, generator, case, "float16")
    fa.flash_attn_func(q, k, v)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = fa.flash_attn_func(q, k, v)
    for x in (q, k, v):
        x.copy_(draw(torch, generator, "float16", *x.shape))
    graph.replay()
    want = fa.flash_attn_func(q, k, v)
    assert torch.equal(out, want)


@pytest.mark.gpu
def test_multiprocessors(torch):
    properties = torch.cuda.get_device_properties(0)
    assert _fa.device_multiprocessors(0) == properties.multi_processor_count
