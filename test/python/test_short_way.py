"""The short way of calls with PyTorch tensors (python/src/TorchCalls.cpp).

The second of two calls of a kind takes it. It must return what the general way
returns, and leave to that everything that it does not know.
"""

from __future__ import annotations

import contextlib
import threading

import flash_attn_mlir as fa
import numpy as np
import pytest
from flash_attn_mlir import _arrays, _attention

_remember = _attention._remember  # a fixture of conftest.py closes the short way

FUNCTIONS = {3: fa.flash_attn_func, 2: fa.flash_attn_kvpacked_func, 1: fa.flash_attn_qkvpacked_func}
SHAPES = {
    3: ((2, 29, 4, 24), (2, 33, 2, 24), (2, 33, 2, 24)),
    2: ((2, 29, 4, 24), (2, 33, 2, 2, 24)),
    1: ((2, 29, 3, 2, 24),),
}
OPTIONS = [
    {},
    {"causal": True},
    {"window_size": (3, 2), "softmax_scale": 0.3},
    {"window_size": (-1, 0), "softcap": 2.0},
    {"softmax_scale": -0.4, "deterministic": True},
    {"softmax_scale": 1, "softcap": 3, "dropout_p": 0},  # integers
]


class ShortWay:
    """The short way, open; notes what each call got from it."""

    def __init__(self, calls):
        self.calls = calls
        self.function = calls.call
        self.results = []

    def __call__(self, *arguments):
        result = self.function(*arguments)
        self.results.append(result)
        return result

    def taken(self):
        """Whether the last call took it."""
        return self.results[-1] is not None


@pytest.fixture
def short_way(torch, monkeypatch, poisoned_results):
    calls = _arrays.library("", torch.empty(0)).calls
    if calls is None:
        pytest.skip("PyTorch before 2.10: there is no short way")
    calls.forget()
    guards = []
    guard = 64

    def empty(shape, strides, dtype):
        size = torch.Size(shape).numel()
        flat = torch.full((size + 2 * guard,), float("nan"), dtype=dtype)
        guards.append((flat, size))
        return flat[guard : guard + size].as_strided(shape, strides, guard)

    monkeypatch.setattr(calls, "empty_on_cpu", empty)
    monkeypatch.setattr(_attention, "_remember", _remember)
    monkeypatch.setattr(_attention, "_short_way_is_closed", torch.compiler.is_compiling)
    way = ShortWay(calls)
    monkeypatch.setattr(_attention, "_short_way", way)
    yield way
    calls.forget()
    for flat, size in guards:
        for part in (flat[:guard], flat[guard + size :]):
            assert bool(part.isnan().all()), "memory outside a result was written"


def draw(torch, rng, *shapes, dtype="float32"):
    return [
        torch.from_numpy(rng.standard_normal(shape)).to(getattr(torch, dtype)) for shape in shapes
    ]


def equal(torch, results, expected):
    assert type(results) is type(expected)
    if not isinstance(results, tuple):
        results, expected = (results,), (expected,)
    assert len(results) == len(expected)
    for one, other in zip(results, expected):
        assert one.dtype == other.dtype and one.shape == other.shape
        assert one.is_contiguous() and one.device == other.device
        assert torch.equal(one, other)


@pytest.mark.parametrize("count", FUNCTIONS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_like_the_general_way(torch, rng, short_way, count, options):
    arrays = draw(torch, rng, *SHAPES[count])
    for flag in (False, True):
        call = lambda *arrays: FUNCTIONS[count](*arrays, return_attn_probs=flag, **options)  # noqa: E731
        short_way.calls.forget()
        expected = call(*arrays)
        assert not short_way.taken()
        equal(torch, call(*arrays), expected)
        assert short_way.taken()
        fresh = draw(torch, rng, *SHAPES[count])
        result = call(*fresh)
        assert short_way.taken()
        short_way.calls.forget()
        equal(torch, result, call(*fresh))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("queries", [1, 2, 16])
def test_few_queries(torch, rng, short_way, queries, options, threads):
    """These have programs of their own, which compute parts of the keys at a time."""
    fa.set_num_threads(4)

    def check(batch, keys, is_known):
        shapes = (batch, queries, 4, 24), (batch, keys, 2, 24), (batch, keys, 2, 24)
        arrays = draw(torch, rng, *shapes)
        for flag in (False, True):
            result = fa.flash_attn_func(*arrays, return_attn_probs=flag, **options)
            assert short_way.taken() == is_known
            with closed(short_way):
                expected = fa.flash_attn_func(*arrays, return_attn_probs=flag, **options)
            equal(torch, result, expected)
            is_known = True

    check(1, 300, False)
    check(1, 300, True)
    check(1, 30, False)  # parts of another size
    check(2, 300, False)
    fa.set_num_threads(2)
    check(1, 300, False)
    fa.set_num_threads(4)
    check(1, 300, True)


@pytest.fixture
def threads():
    yield
    fa.set_num_threads(0)


@contextlib.contextmanager
def closed(short_way):
    """Calls of the general way, which nobody remembers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_attention, "_short_way_is_closed", lambda: True)
        patch.setattr(_attention, "_remember", lambda *arguments: None)
        yield


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtypes(torch, rng, short_way, dtype):
    arrays = draw(torch, rng, *SHAPES[3], dtype=dtype)
    expected = fa.flash_attn_func(*arrays, return_attn_probs=True)
    equal(torch, fa.flash_attn_func(*arrays, return_attn_probs=True), expected)
    assert short_way.taken()
    # Another type or another length is another kind.
    fa.flash_attn_func(arrays[0], *(x[:, :-1] for x in arrays[1:]))
    assert not short_way.taken()
    other = [x.to(torch.float64 if dtype != "float64" else torch.float32) for x in arrays]
    fa.flash_attn_func(*other)
    assert not short_way.taken()


def strided(torch, rng, change):
    """q, k and v whose memory is laid out as `change` says."""
    q, k, v = draw(torch, rng, *SHAPES[3])
    if change == "heads first":
        return [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]
    if change == "offset":
        return [torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape) for x in (q, k, v)]
    if change == "part of rows":
        return [torch.cat([x, x], 3)[..., :24] for x in (q, k, v)]
    if change == "broadcast":
        return q, k[:, :1].expand(k.shape), v[:1].expand(v.shape)
    if change == "parameters":
        return [torch.nn.Parameter(x, requires_grad=False) for x in (q, k, v)]
    return [x[:1] for x in (q, k, v)]


@pytest.mark.parametrize(
    "change", ["heads first", "offset", "part of rows", "broadcast", "parameters", "one batch"]
)
def test_layouts(torch, rng, short_way, change):
    """After a call with plain tensors, too: nothing of its layout is left over."""
    fa.flash_attn_func(*draw(torch, rng, *SHAPES[3]))
    arrays = strided(torch, rng, change)
    results = [fa.flash_attn_func(*arrays, return_attn_probs=True) for _ in range(2)]
    assert short_way.taken()
    dense = [x.detach().clone(memory_format=torch.contiguous_format) for x in arrays]
    short_way.calls.forget()
    for result in results:
        equal(torch, result, fa.flash_attn_func(*dense, return_attn_probs=True))


def unusual(torch, arrays):
    """name -> arguments of calls that the short way leaves to the general one."""
    q, k, v = arrays

    class Subclass(torch.Tensor):
        pass

    return {
        "strided head": ((q.transpose(1, 3).contiguous().transpose(1, 3), k, v), {}),
        "list": ((q, k, v), {"window_size": [3, 2]}),
        "number of NumPy": ((q, k, v), {"softmax_scale": np.float32(0.5)}),
        "flag that is no bool": ((q, k, v), {"causal": 1}),
        "other dtype beside q": ((q, k.double(), v), {}),
        "subclass": ((q.as_subclass(Subclass), k, v), {}),
        "NumPy array": ((q.numpy(), k, v), {}),
        "rank": ((q[0], k, v), {}),
        "no keys": ((q, k[:, :0], v[:, :0]), {}),
        "no queries": ((q[:, :0], k, v), {}),
        "no memory": ((q.to("meta"), k, v), {}),
        "sparse": ((q.to_sparse(), k, v), {}),
        "batches differ": ((q[:1], k, v), {}),
        "lengths differ": ((q, k, v[:, :25]), {}),
        "heads": ((q[:, :, :3], k, v), {}),
        "nan": ((q, k, v), {"softmax_scale": float("nan")}),
        "large": ((q, k, v), {"window_size": (1 << 70, 0)}),
        "dropout": ((q, k, v), {"dropout_p": 0.5}),
        "slopes": ((q, k, v), {"alibi_slopes": torch.ones(4)}),
        "a word": ((q, k, v), {"softcap": "much"}),
        "nothing": ((None, k, v), {}),
        "nothing last": ((q, k, None), {}),
    }


UNUSUAL = [
    "strided head",
    "list",
    "number of NumPy",
    "flag that is no bool",
    "other dtype beside q",
    "subclass",
    "NumPy array",
    "rank",
    "no keys",
    "no queries",
    "no memory",
    "sparse",
    "batches differ",
    "lengths differ",
    "heads",
    "nan",
    "large",
    "dropout",
    "slopes",
    "a word",
    "nothing",
    "nothing last",
]


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_unusual_goes_the_general_way(torch, rng, short_way, name, monkeypatch):
    arrays = draw(torch, rng, *SHAPES[3])
    for options in OPTIONS:
        fa.flash_attn_func(*arrays, **options)
    positional, options = unusual(torch, arrays)[name]

    def outcome():
        try:
            return fa.flash_attn_func(*positional, **options)
        except Exception as error:
            return type(error), str(error)

    got = outcome()
    assert not short_way.taken()
    monkeypatch.setattr(_attention, "_short_way_is_closed", lambda: True)
    expected = outcome()
    if isinstance(expected, tuple):
        assert got == expected
    else:
        assert torch.equal(torch.as_tensor(got), torch.as_tensor(expected))


# ===-----------------------------------------------------------------------=== #
# What PyTorch must see
# ===-----------------------------------------------------------------------=== #


@pytest.mark.parametrize("count", FUNCTIONS)
@pytest.mark.parametrize("use", ["out", "lse", "both"])
def test_gradients(torch, rng, short_way, count, use):
    arrays = draw(torch, rng, *SHAPES[count], dtype="float64")
    for wanted in range(1, 1 << count):
        leaves = [x.clone().requires_grad_(bool(wanted >> i & 1)) for i, x in enumerate(arrays)]

        def gradients(leaves=leaves):
            out, lse, _ = FUNCTIONS[count](*leaves, causal=True, return_attn_probs=True)
            loss = {"out": out.square(), "lse": lse.square(), "both": out[..., 0].mT * lse}[use]
            return torch.autograd.grad(loss.sum(), [x for x in leaves if x.requires_grad])

        short_way.calls.forget()
        expected = gradients()
        assert not short_way.taken()
        for one, other in zip(gradients(), expected):
            assert torch.equal(one, other)
        assert short_way.taken()


def test_out_alone_has_gradients(torch, rng, short_way):
    leaves = [x.requires_grad_() for x in draw(torch, rng, *SHAPES[3])]
    results = [fa.flash_attn_func(*leaves) for _ in range(3)]
    assert short_way.taken() and all(out.requires_grad for out in results)
    first, *others = [torch.autograd.grad(out.square().sum(), leaves) for out in results]
    for gradients in others:
        assert all(map(torch.equal, gradients, first))
    with torch.no_grad():
        assert not fa.flash_attn_func(*leaves).requires_grad
        assert short_way.taken()
    with torch.inference_mode():
        out = fa.flash_attn_func(*leaves)
        assert short_way.taken() and not out.requires_grad


def test_saved_tensors_notice_changes_in_place(torch, rng, short_way):
    leaves = [x.requires_grad_() for x in draw(torch, rng, *SHAPES[3])]
    fa.flash_attn_func(*leaves)
    out = fa.flash_attn_func(*leaves)
    assert short_way.taken()
    with torch.no_grad():
        leaves[1].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_second_derivatives_are_refused(torch, rng, short_way):
    leaves = [x.requires_grad_() for x in draw(torch, rng, *SHAPES[3])]
    fa.flash_attn_func(*leaves)
    out = fa.flash_attn_func(*leaves)
    assert short_way.taken()
    first = torch.autograd.grad(out.square().sum(), leaves, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives"):
        first[0].sum().backward()


def test_saved_tensor_hooks(torch, rng, short_way):
    leaves = [x.requires_grad_() for x in draw(torch, rng, *SHAPES[3])]
    expected = torch.autograd.grad(fa.flash_attn_func(*leaves).sum(), leaves)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        out = fa.flash_attn_func(*leaves)
    assert short_way.taken() and len(saved) == 5
    assert all(map(torch.equal, torch.autograd.grad(out.sum(), leaves), expected))


def test_transforms_and_modes(torch, rng, short_way):
    arrays = draw(torch, rng, *SHAPES[3])
    expected = fa.flash_attn_func(*arrays)
    attention = lambda q: fa.flash_attn_func(q, *arrays[1:])  # noqa: E731

    batched = torch.func.vmap(attention)(arrays[0][None])
    assert not short_way.taken() and torch.equal(batched[0], expected)
    with pytest.raises(RuntimeError, match="functorch"):  # operators have no rule for it
        torch.func.grad(lambda q: attention(q).sum())(arrays[0])
    assert not short_way.taken()
    with torch.autograd.forward_ad.dual_level():
        attention(arrays[0])
        assert not short_way.taken()
        dual = torch.autograd.forward_ad.make_dual(arrays[0], arrays[0])
        with pytest.raises(NotImplementedError, match="forward-mode"):
            attention(dual)

    from torch.utils._python_dispatch import TorchDispatchMode

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    seen = []
    with Mode():
        attention(arrays[0])
    assert any("flash_attn_mlir" in name for name in seen)
    attention(arrays[0])
    assert short_way.taken()


def test_torch_compile(torch, rng, short_way):
    arrays = draw(torch, rng, *SHAPES[3])
    expected = fa.flash_attn_func(*arrays, causal=True)
    fa.flash_attn_func(*arrays, causal=True)
    assert short_way.taken()
    before = len(short_way.results)
    compiled = torch.compile(
        lambda *arrays: fa.flash_attn_func(*arrays, causal=True) * 2,
        fullgraph=True,
        backend="eager",
    )
    torch.testing.assert_close(compiled(*arrays), expected * 2)
    assert len(short_way.results) == before


def test_autocast_changes_nothing(torch, rng, short_way):
    arrays = draw(torch, rng, *SHAPES[3])
    expected = fa.flash_attn_func(*arrays)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        equal(torch, fa.flash_attn_func(*arrays), expected)
    assert short_way.taken()


# ===-----------------------------------------------------------------------=== #
# The memory of calls
# ===-----------------------------------------------------------------------=== #


def test_capacity(torch, rng, short_way, monkeypatch):
    monkeypatch.setattr(short_way.calls, "capacity", 3)
    for head_dim in range(8, 24):
        arrays = draw(torch, rng, *((1, 3, 1, head_dim),) * 3)
        expected = fa.flash_attn_func(*arrays)
        assert len(short_way.calls) <= 3
        equal(torch, fa.flash_attn_func(*arrays), expected)
        assert short_way.taken()


def test_a_launch_that_fails_goes_the_general_way(torch, rng, short_way, monkeypatch):
    arrays = draw(torch, rng, *SHAPES[3])
    expected = fa.flash_attn_func(*arrays)
    # An address that the kernel was not compiled for.
    monkeypatch.setattr(short_way.calls, "empty_on_cpu", lambda shape, *_: torch.empty((*shape, 1)))
    equal(torch, fa.flash_attn_func(*arrays), expected)
    assert not short_way.taken()


def test_errors_of_the_allocation_are_raised(torch, rng, short_way, monkeypatch):
    arrays = draw(torch, rng, *SHAPES[3])
    fa.flash_attn_func(*arrays)

    def empty(*_):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(short_way.calls, "empty_on_cpu", empty)
    with pytest.raises(torch.OutOfMemoryError, match="no memory"):
        fa.flash_attn_func(*arrays)


def test_threads(torch, rng, short_way):
    problems = [draw(torch, rng, *((1, 7, 2, size),) * 3) for size in (8, 16, 24, 32)]
    expected = [fa.flash_attn_func(*arrays) for arrays in problems]
    failures = []

    def work(index):
        for turn in range(100):
            if index == 0 and turn % 10 == 0:
                short_way.calls.forget()
            which = (index + turn) % len(problems)
            if not torch.equal(fa.flash_attn_func(*problems[which]), expected[which]):
                failures.append((index, turn))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert any(result is not None for result in short_way.results)


def test_older_pytorch(torch, rng, monkeypatch):
    """Without DLPack's C exchange API every call goes the general way."""
    arrays = draw(torch, rng, *SHAPES[3])
    expected = fa.flash_attn_func(*arrays)
    monkeypatch.delattr(torch.Tensor, "__dlpack_c_exchange_api__", raising=False)
    monkeypatch.setattr(_arrays, "_library_of_type", {})
    monkeypatch.setattr(_attention, "_remember", _remember)
    assert _arrays.library("", arrays[0]).calls is None
    for _ in range(2):
        equal(torch, fa.flash_attn_func(*arrays), expected)
    assert _attention._short_way_is_closed()
