"""Gradients: values against finite formulas in float64, and PyTorch's machinery."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys

import flash_attn_mlir as fa
import numpy as np
import pytest
from cases import EDGES, Case, random_case, unaligned_numpy
from flash_attn_mlir import _attention

# Relative L2 over a gradient. One rounding of the result, and of p and ds as
# factors of 16-bit products, about one unit roundoff each.
BOUNDS = {"float16": 2.0e-3, "bfloat16": 1.6e-2, "float32": 2.5e-6, "float64": 6.0e-15}


def check(dtype, got, expected, sizes, of="qkv"):
    """The gradients `got` of the inputs `of`; the others come from `Case.gradients`.

    Where terms cancel (one key: the gradient of its score is 0), their errors do not:
    these are compared with the terms' size."""
    for letter, array in zip(of, got, strict=True):
        name = f"d_{letter}"
        array, wanted = np.asarray(array).astype(np.float64), getattr(expected, name)
        assert array.shape == wanted.shape, name
        assert np.isfinite(array).all(), f"{name} is not finite"
        size = max(np.linalg.norm(wanted), np.linalg.norm(getattr(sizes, name)))
        error = np.linalg.norm(array - wanted)
        assert error <= BOUNDS[dtype] * size, f"{name}: relative L2 {error / size:.3g}"


def draw_all(case, rng):
    dout = rng.standard_normal((case.batch, case.seqlen_q, case.heads, case.head_dim))
    dlse = rng.standard_normal((case.batch, case.heads, case.seqlen_q))
    return [*case.draw(rng), dout.astype(np.float32)], dlse.astype(np.float32)


def run_numpy(case, dtype, arrays, dlse):
    """attention_backward on NumPy arrays, and the inputs as it saw them."""
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    q, k, v, dout = (x.astype(dtype) for x in arrays)
    if case.unaligned:
        q, k, v, dout = map(unaligned_numpy, (q, k, v, dout))
    out, lse, _ = fa.flash_attn_func(q, k, v, return_attn_probs=True, **case.options())
    dlse = None if dlse is None else dlse.astype(lse.dtype)
    got = fa.attention_backward(dout, q, k, v, out, lse, dsoftmax_lse=dlse, **case.options())
    return got, *case.gradients(q, k, v, dout, dlse)


@pytest.mark.parametrize("case", EDGES, ids=str)
def test_edges(case, rng):
    arrays, dlse = draw_all(case, rng)
    check("float32", *run_numpy(case, "float32", arrays, dlse))


@pytest.mark.parametrize("dtype", list(BOUNDS))
@pytest.mark.parametrize("index", range(8))
def test_random(index, dtype, rng):
    case = random_case(rng)
    arrays, dlse = draw_all(case, rng)
    check(dtype, *run_numpy(case, dtype, arrays, dlse if index % 2 else None))


def test_reference_is_the_derivative_of_the_forward(rng):
    """The formulas above against differences of the forward's reference."""
    case = Case(1, 7, 9, 2, 1, 8, causal=True, softcap=2.0)
    arrays, dlse = draw_all(case, rng)
    q, k, v, dout = (x.astype(np.float64) for x in arrays)

    def value(*inputs):
        out, lse, _ = case.reference(*inputs)
        return (out * dout).sum() + (lse * dlse).sum()

    gradients, _ = case.gradients(q, k, v, dout, dlse)
    for index, gradient in enumerate(gradients[1:]):  # without delta
        direction = rng.standard_normal(gradient.shape)
        step = 1e-5
        ahead, behind = [q, k, v], [q, k, v]
        ahead[index] = ahead[index] + step * direction
        behind[index] = behind[index] - step * direction
        slope = (value(*ahead) - value(*behind)) / (2 * step)
        np.testing.assert_allclose(slope, (gradient * direction).sum(), rtol=1e-7, atol=1e-8)


# ===-----------------------------------------------------------------------=== #
# attention_backward
# ===-----------------------------------------------------------------------=== #


@dataclasses.dataclass
class Problem:
    """Arrays of a small problem, as attention_backward takes them."""

    case: Case
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    dout: np.ndarray

    @staticmethod
    def draw(rng, **options):
        case = Case(1, 20, 30, 4, 2, 16, **options)
        return Problem(case, *draw_all(case, rng)[0])

    def arguments(self):
        out, lse, _ = fa.flash_attn_func(
            self.q, self.k, self.v, return_attn_probs=True, **self.case.options()
        )
        return [self.dout, self.q, self.k, self.v, out, lse]


def test_only_what_is_wanted(rng):
    arguments = Problem.draw(rng).arguments()
    everything = fa.attention_backward(*arguments)
    for count in range(4):
        for letters in itertools.combinations("qkv", count):
            got = fa.attention_backward(*arguments, gradients="".join(letters))
            for letter, gradient, expected in zip("qkv", got, everything):
                if letter in letters:
                    np.testing.assert_array_equal(gradient, expected)
                else:
                    assert gradient is None


def test_same_bits_again(rng):
    arguments = Problem.draw(rng, causal=True).arguments()
    for first, second in zip(fa.attention_backward(*arguments), fa.attention_backward(*arguments)):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    "options",
    [{}, {"causal": True}, {"softcap": 5.0}, {"window_size": (40, 9), "deterministic": True}],
    ids=["full", "causal", "softcap", "window"],
)
def test_same_bits_by_any_number_of_threads(rng, monkeypatch, dtype, options):
    """One thread has a pass for all gradients, four threads for two key heads have two."""
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    shapes = [(1, 150, 4, 40), (1, 213, 2, 40), (1, 213, 2, 40), (1, 150, 4, 40)]
    q, k, v, dout = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    out, lse, _ = fa.flash_attn_func(q, k, v, return_attn_probs=True, **options)
    passes, has_sum = [], _attention._has_sum

    def spy(*arguments):
        passes.append(has_sum(*arguments))
        return passes[-1]

    monkeypatch.setattr(_attention, "_has_sum", spy)
    results = []
    try:
        for count in (1, 4):
            fa.set_num_threads(count)
            results.append(fa.attention_backward(dout, q, k, v, out, lse, **options))
    finally:
        fa.set_num_threads(0)
    assert passes == [options.get("window_size") is None, False]
    for first, second in zip(*results):
        np.testing.assert_array_equal(first, second)


def test_dead_rows_and_unread_keys_have_no_gradient(rng):
    case = Case(1, 30, 10, 2, 1, 16, causal=True)  # the first 20 rows are dead
    arrays, dlse = draw_all(case, rng)
    (dq, _, _), *_ = run_numpy(case, "float32", arrays, dlse)
    assert (dq[:, :20] == 0).all() and (dq[:, 20:] != 0).any()
    case = Case(1, 10, 30, 2, 1, 16, window=(0, 0))  # the first 20 keys are never read
    arrays, dlse = draw_all(case, rng)
    (_, dk, dv), *_ = run_numpy(case, "float32", arrays, dlse)
    assert (dk[:, :20] == 0).all() and (dv[:, :20] == 0).all() and (dv[:, 20:] != 0).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dout": "f64"}, TypeError, "dout: dtype float64 is not supported; allowed: float32"),
        ({"softmax_lse": "f64"}, TypeError, "softmax_lse: dtype float64"),
        ({"out": "half"}, ValueError, r"out: shape \(1, 10, 4, 16\) is not supported"),
        ({"softmax_lse": "half"}, ValueError, "softmax_lse: shape"),
        ({"dsoftmax_lse": "flat"}, ValueError, "dsoftmax_lse: rank 1 .* 3 dimensions"),
        ({"q": "f16"}, TypeError, "k: dtype float32 differs from q's"),
        ({"gradients": "qx"}, ValueError, "gradients: 'qx' is not allowed; .* letters of 'qkv'"),
        ({"softcap": -1.0}, ValueError, "softcap: -1.0"),
        ({"dout": "torch"}, TypeError, "dout: a PyTorch array beside q, a NumPy array"),
    ],
)
def test_errors(rng, change, error, message):
    names = ["dout", "q", "k", "v", "out", "softmax_lse"]
    arguments = dict(zip(names, Problem.draw(rng).arguments()))
    for name, what in change.items():
        array = arguments.get(name, arguments["softmax_lse"])
        if what == "torch":
            what = pytest.importorskip("torch").from_numpy(array)
        elif what == "half":
            what = array[:, : array.shape[1] // 2]
        elif what == "flat":
            what = array.ravel()
        elif what in ("f64", "f16"):
            what = array.astype({"f64": np.float64, "f16": np.float16}[what])
        arguments[name] = what
    with pytest.raises(error, match=message):
        fa.attention_backward(**arguments)


def test_compile_and_call(rng):
    """The kernel itself, in the documented order of arguments."""
    problem = Problem.draw(rng, causal=True)
    dout, q, k, v, out, lse = problem.arguments()
    kernel = fa.compile(
        head_dim=16, dtype="f32", causal=True, alignment=1, backward=True, d_lse=True,
        gradients="qv", chip="cpu",
    )  # fmt: skip
    dlse = rng.standard_normal(lse.shape).astype(np.float32)
    delta, dq, dv = np.full_like(lse, np.nan), np.full_like(q, np.nan), np.full_like(v, np.nan)
    kernel(q, k, v, out, lse, dout, dlse, 0.25, delta, dq, dv)
    check("float32", (dq, dv), *problem.case.gradients(q, k, v, dout, dlse), of="qv")
    np.testing.assert_allclose(
        delta, np.einsum("bmhd,bmhd->bhm", out, dout) - dlse, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradients": "x", "backward": True}, "gradients 'x' is not supported"),
        ({"gradients": "", "backward": True}, "gradients '' is not supported"),
        ({"d_lse": True}, "d_lse, gradients and d_q_sum are options of backward=True"),
    ],
)
def test_compile_errors(options, message):
    with pytest.raises(ValueError, match=message):
        fa.compile(head_dim=16, chip="cpu", **options)


# ===-----------------------------------------------------------------------=== #
# PyTorch
# ===-----------------------------------------------------------------------=== #


@pytest.fixture
def plain_results(monkeypatch, torch):
    """Results without poison, which makes them views of larger tensors."""
    from flash_attn_mlir import _arrays

    def empty(self, shape, dtype, like):
        array = self.torch.empty(shape, dtype=self.types[dtype], device=like.device)
        return array, self.view(array)

    monkeypatch.setattr(_arrays._Torch, "empty", empty)


def leaves(torch, rng, *shapes, dtype="float64"):
    return [
        torch.from_numpy(rng.standard_normal(shape)).to(getattr(torch, dtype)).requires_grad_()
        for shape in shapes
    ]


QKV = ((2, 12, 4, 8), (2, 15, 2, 8), (2, 15, 2, 8))
OPTIONS = [
    {},
    {"causal": True},
    {"window_size": (3, 2)},
    {"softcap": 2.0, "causal": True},
    {"softmax_scale": -0.4},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradcheck(torch, rng, options):
    q, k, v = leaves(torch, rng, (1, 5, 2, 4), (1, 6, 1, 4), (1, 6, 1, 4))

    def function(q, k, v):
        out, lse, _ = fa.flash_attn_func(q, k, v, return_attn_probs=True, **options)
        return out, lse.clamp_min(-1e30)  # dead rows: -inf has no difference quotient

    assert torch.autograd.gradcheck(function, (q, k, v), fast_mode=False)


def test_gradcheck_packed(torch, rng):
    (qkv,) = leaves(torch, rng, (1, 5, 3, 2, 4))
    assert torch.autograd.gradcheck(lambda x: fa.flash_attn_qkvpacked_func(x, causal=True), qkv)
    q, kv = leaves(torch, rng, (1, 5, 2, 4), (1, 6, 2, 1, 4))
    assert torch.autograd.gradcheck(fa.flash_attn_kvpacked_func, (q, kv))


def test_packed_gradients_are_packed(torch, rng):
    (qkv,) = leaves(torch, rng, (2, 20, 3, 4, 16))
    parts = [x.detach().clone().requires_grad_() for x in qkv.unbind(2)]
    fa.flash_attn_qkvpacked_func(qkv, causal=True).square().sum().backward()
    fa.flash_attn_func(*parts, causal=True).square().sum().backward()
    assert qkv.grad.is_contiguous() and qkv.grad.shape == qkv.shape
    torch.testing.assert_close(qkv.grad, torch.stack([x.grad for x in parts], 2), rtol=0, atol=0)

    q = parts[0].detach().clone().requires_grad_()
    kv = qkv.detach()[:, :, 1:].clone().requires_grad_()
    fa.flash_attn_kvpacked_func(q, kv, causal=True).square().sum().backward()
    torch.testing.assert_close(q.grad, parts[0].grad, rtol=0, atol=0)
    torch.testing.assert_close(kv.grad, qkv.grad[:, :, 1:], rtol=0, atol=0)


def test_only_wanted_gradients_are_computed(torch, rng, monkeypatch):
    from flash_attn_mlir import _attention

    asked = []
    original = _attention._backward
    monkeypatch.setattr(
        _attention, "_backward", lambda *args: asked.append(args[-1]) or original(*args)
    )
    full = leaves(torch, rng, *QKV)
    fa.flash_attn_func(*full).sum().backward()
    assert tuple(asked.pop()) == (True, True, True)
    for wanted in itertools.product([False, True], repeat=3):
        some = [x.detach().requires_grad_(want) for x, want in zip(full, wanted)]
        out = fa.flash_attn_func(*some)
        assert out.requires_grad == any(wanted)
        if not any(wanted):
            assert not asked
            continue
        out.sum().backward()
        assert tuple(asked.pop()) == wanted
        for x, reference, want in zip(some, full, wanted):
            if want:
                torch.testing.assert_close(x.grad, reference.grad, rtol=0, atol=0)
            else:
                assert x.grad is None


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("queries", [7, 27])
def test_backward_compiles_beside_forward(torch, rng, monkeypatch, packed, queries):
    """The forward of a new variant asks for just the kernels that the backward needs."""
    from flash_attn_mlir import _attention

    monkeypatch.setattr(_attention, "_kernels", {})
    ahead = []
    start = _attention._compile_ahead
    monkeypatch.setattr(_attention, "_compile_ahead", lambda *key: (ahead.append(key), start(*key)))
    shape = (1, queries, 3, 2, 24) if packed else (1, queries, 2, 24)
    x = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)).requires_grad_()
    call = (
        fa.flash_attn_qkvpacked_func if packed else lambda x, **o: fa.flash_attn_func(x, x, x, **o)
    )
    out = call(x, causal=True)
    (((chip,), rest),) = ahead
    torch.autograd.grad(out.sum(), x)
    forward = rest[:-3]  # without gradients, d_lse, d_q_sum
    if queries <= 16:  # a program of its own; its keys are one part
        forward = *forward, (16, False, False)
    assert set(_attention._kernels) == {(chip, *forward), (chip, *rest)}
    call(x, causal=True)
    assert len(ahead) == 1


@pytest.mark.parametrize("use", ["out", "lse", "both"])
def test_which_output_is_used(torch, rng, use):
    q, k, v = leaves(torch, rng, *QKV)
    out, lse, _ = fa.flash_attn_func(q, k, v, return_attn_probs=True)
    weight, row_weight = torch.randn_like(out), torch.randn_like(lse)
    loss = 0
    if use in ("out", "both"):
        loss = loss + (out * weight).sum()
    if use in ("lse", "both"):
        loss = loss + (lse * row_weight).sum()
    got = torch.autograd.grad(loss, (q, k, v))
    case = Case(2, 12, 15, 4, 2, 8)
    want = case.gradients(
        *(x.detach().numpy() for x in (q, k, v)),
        (weight if use != "lse" else torch.zeros_like(weight)).detach().numpy(),
        row_weight.detach().numpy() if use != "out" else None,
    )
    check("float64", [x.numpy() for x in got], *want)


def test_strides_of_the_incoming_gradient(torch, rng):
    """Expanded, transposed, strided in the head dimension."""
    q, k, v = leaves(torch, rng, *QKV)
    out = fa.flash_attn_func(q, k, v)
    dense = torch.randn_like(out)
    shapes = {
        "expanded everywhere": torch.ones((), dtype=out.dtype).expand_as(out),
        "expanded rows": dense[:, :1].expand_as(out),
        "expanded head dimension": dense[..., :1].expand_as(out),
        "transposed": dense.transpose(1, 2).contiguous().transpose(1, 2),
        "strided": torch.stack([dense, dense], -1)[..., 0],
        "flipped": dense.flip(1),
    }
    for name, gradient in shapes.items():
        got = torch.autograd.grad(out, (q, k, v), gradient, retain_graph=True)
        want = torch.autograd.grad(out, (q, k, v), gradient.contiguous(), retain_graph=True)
        for a, b in zip(got, want):
            torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)


def test_strides_of_the_inputs(torch, rng):
    dense = leaves(torch, rng, *QKV)
    want = torch.autograd.grad(fa.flash_attn_func(*dense).sum(), dense)
    strided = [torch.stack([x, x], -1)[..., 0] for x in dense]  # copied: head dimension
    moved = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in dense]
    for arrays in (strided, moved):
        got = torch.autograd.grad(fa.flash_attn_func(*arrays).sum(), dense)
        for a, b in zip(got, want):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", list(BOUNDS))
def test_dtypes(torch, rng, dtype):
    case = Case(2, 50, 70, 4, 2, 32, causal=True)
    arrays, _ = draw_all(case, rng)
    q, k, v, dout = (torch.from_numpy(x).to(getattr(torch, dtype)) for x in arrays)
    for x in (q, k, v):
        x.requires_grad_()
    fa.flash_attn_func(q, k, v, causal=True).backward(dout)
    assert all(x.grad.dtype == x.dtype and x.grad.shape == x.shape for x in (q, k, v))
    want = case.gradients(*(x.detach().double().numpy() for x in (q, k, v, dout)))
    check(dtype, [x.grad.double().numpy() for x in (q, k, v)], *want)


def test_empty_sequences(torch, rng):
    q, k, v = leaves(torch, rng, (2, 0, 4, 8), (2, 5, 2, 8), (2, 5, 2, 8))
    fa.flash_attn_func(q, k, v).sum().backward()
    assert q.grad.shape == q.shape and (k.grad == 0).all() and (v.grad == 0).all()
    q, k, v = leaves(torch, rng, (2, 5, 4, 8), (2, 0, 2, 8), (2, 0, 2, 8))
    fa.flash_attn_func(q, k, v).sum().backward()
    assert (q.grad == 0).all() and k.grad.shape == k.shape


def test_without_grad_there_is_no_graph(torch, rng, monkeypatch):
    q, k, v = leaves(torch, rng, *QKV)
    with torch.no_grad():
        out, lse, _ = fa.flash_attn_func(q, k, v, return_attn_probs=True)
    assert not out.requires_grad and not lse.requires_grad
    # Plain tensors take the short way.
    monkeypatch.setitem(sys.modules, "flash_attn_mlir._torch", None)
    with torch.no_grad():
        fa.flash_attn_func(q, k, v)
    fa.flash_attn_func(q.detach(), k.detach(), v.detach())


def test_saved_tensors_notice_changes_in_place(torch, rng, plain_results):
    q, k, v = leaves(torch, rng, *QKV)
    out = fa.flash_attn_func(q, k, v)
    with torch.no_grad():
        k.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()
    out = fa.flash_attn_func(q, k, v)
    out.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_backward_twice(torch, rng):
    q, k, v = leaves(torch, rng, *QKV)
    loss = fa.flash_attn_func(q, k, v).square().sum()
    first = torch.autograd.grad(loss, (q, k, v), retain_graph=True)
    second = torch.autograd.grad(loss, (q, k, v))
    for a, b in zip(first, second):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, (q, k, v))


def test_second_derivatives_are_refused(torch, rng):
    q, k, v = leaves(torch, rng, *QKV)
    loss = fa.flash_attn_func(q, k, v).square().sum()
    (dq,) = torch.autograd.grad(loss, q, create_graph=True)  # allowed as long as it is not used
    with pytest.raises(NotImplementedError, match="second derivatives of attention"):
        dq.sum().backward()


def test_forward_mode_is_refused(torch, rng):
    """Tangents are never dropped silently; tensors without one are not affected."""
    from torch.autograd import forward_ad

    q, k, v = (x.detach() for x in leaves(torch, rng, *QKV))
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(k, torch.ones_like(k))
        for arrays in ((q, dual, v), (q.clone().requires_grad_(), dual, v)):
            with pytest.raises(NotImplementedError, match="forward-mode derivatives"):
                fa.flash_attn_func(*arrays)
        torch.testing.assert_close(fa.flash_attn_func(q, k, v), fa.flash_attn_func(q, k, v))
    with pytest.raises(NotImplementedError, match="forward-mode derivatives"):
        torch.func.jvp(fa.flash_attn_func, (q, k, v), (q, k, v))


def test_vmap(torch, rng, plain_results):
    q, k, v = (torch.stack([x, 2 * x]).detach() for x in leaves(torch, rng, *QKV))
    want = torch.stack([fa.flash_attn_func(*x) for x in zip(q, k, v)])
    torch.testing.assert_close(torch.vmap(fa.flash_attn_func)(q, k, v), want)


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing(torch, rng, reentrant):
    from torch.utils.checkpoint import checkpoint

    q, k, v = leaves(torch, rng, *QKV)
    want = torch.autograd.grad(fa.flash_attn_func(q, k, v, causal=True).square().sum(), (q, k, v))
    out = checkpoint(
        lambda *x: fa.flash_attn_func(*x, causal=True), q, k, v, use_reentrant=reentrant
    )
    out.square().sum().backward()
    for x, b in zip((q, k, v), want):
        torch.testing.assert_close(x.grad, b, rtol=0, atol=0)


def test_module_trains(torch, rng):
    """A layer around the module: gradients reach its parameters."""
    projection = torch.nn.Linear(32, 3 * 32).double()
    x = torch.from_numpy(rng.standard_normal((2, 9, 32)))
    module = fa.FlashAttention(causal=True)
    qkv = projection(x).view(2, 9, 3, 4, 8)
    module(qkv).square().sum().backward()
    got = projection.weight.grad.clone()
    projection.zero_grad()
    q, k, v = (t.transpose(1, 2) for t in projection(x).view(2, 9, 3, 4, 8).unbind(2))
    peer = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    peer.square().sum().backward()
    torch.testing.assert_close(got, projection.weight.grad, rtol=1e-10, atol=1e-10)


def test_parameters_as_inputs(torch, rng):
    q = torch.nn.Parameter(torch.from_numpy(rng.standard_normal((1, 6, 2, 8))))
    fa.flash_attn_func(q, q, q).sum().backward()
    assert q.grad is not None
    with torch.no_grad():
        assert not fa.flash_attn_func(q, q, q).requires_grad


# ===-----------------------------------------------------------------------=== #
# Operators and tracing
# ===-----------------------------------------------------------------------=== #


def test_opcheck(torch, rng, plain_results):
    import flash_attn_mlir._torch  # noqa: F401

    ops = torch.ops.flash_attn_mlir
    for dtype, (causal, left, right, softcap) in itertools.product(
        ("float64", "float32"), ((True, -1, -1, 0.0), (False, 4, 3, 0.0))
    ):
        q, k, v = leaves(torch, rng, *QKV, dtype=dtype)
        options = (None, causal, left, right, softcap, False)
        torch.library.opcheck(ops.attention.default, (q, k, v, *options))
        out, lse = (x.detach() for x in ops.attention(q, k, v, *options))
        inputs = [torch.randn_like(out), torch.randn_like(lse), *(x.detach() for x in (q, k, v))]
        for gradients in ("qkv", "qv"):
            torch.library.opcheck(
                ops.attention_backward.default, (*inputs, out, lse, *options, gradients)
            )


@pytest.mark.parametrize("dynamic", [False, True])
def test_torch_compile(torch, rng, plain_results, dynamic):
    """No graph break, the same gradients; packed and separate, with lse."""

    def separate(q, k, v):
        out, lse, dmask = fa.flash_attn_func(
            q * 2, k, v, causal=True, window_size=(5, -1), return_attn_probs=True
        )
        return (out * out).sum() + lse.clamp_min(-100.0).sum() + dmask.sum()

    def packed(qkv):
        return fa.flash_attn_qkvpacked_func(qkv, causal=True).square().sum()

    def kvpacked(q, kv):
        return fa.flash_attn_kvpacked_func(q, kv, softmax_scale=0.3).square().sum()

    for function, shapes in (
        (separate, ((2, 12, 4, 8), (2, 15, 2, 8), (2, 15, 2, 8))),
        (packed, ((2, 12, 3, 4, 8),)),
        (kvpacked, ((2, 12, 4, 8), (2, 15, 2, 2, 8))),
    ):
        torch._dynamo.reset()
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=dynamic)
        for extra in (0, 7) if dynamic else (0,):
            sizes = [(s[0], s[1] + extra, *s[2:]) for s in shapes]
            arrays = leaves(torch, rng, *sizes)
            want = torch.autograd.grad(function(*arrays), arrays)
            got = torch.autograd.grad(compiled(*arrays), arrays)
            for a, b in zip(got, want):
                torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_torch_compile_without_gradients(torch, rng, plain_results):
    q, k, v = (x.detach() for x in leaves(torch, rng, *QKV))
    compiled = torch.compile(
        lambda *x: fa.flash_attn_func(*x, causal=True), fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(compiled(q, k, v), fa.flash_attn_func(q, k, v, causal=True))


def test_torch_export(torch, rng, plain_results):
    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = fa.FlashAttention(causal=True)

        def forward(self, q, k, v):
            return self.attention(q, k, v) + 1

    q, k, v = (x.detach() for x in leaves(torch, rng, *QKV))
    for strict in (False, True):
        program = torch.export.export(Layer(), (q, k, v), strict=strict)
        targets = [str(node.target) for node in program.graph.nodes]
        assert targets.count("flash_attn_mlir.attention.default") == 1
        torch.testing.assert_close(program.module()(q, k, v), Layer()(q, k, v))


def test_fake_tensors(torch):
    """Shapes and errors without memory or kernels."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        q = torch.empty(2, 12, 4, 8, dtype=torch.float16, requires_grad=True)
        k = torch.empty(2, 15, 2, 8, dtype=torch.float16)
        out, lse, dmask = fa.flash_attn_func(q, k, k, return_attn_probs=True)
        assert out.shape == q.shape and out.dtype == torch.float16
        assert lse.shape == (2, 4, 12) and lse.dtype == torch.float32 and dmask.shape == (0,)
        out.sum().backward()
        assert q.grad.shape == q.shape
        with pytest.raises(ValueError, match="k: 3 heads do not divide q's 4 heads"):
            fa.flash_attn_func(q, *[torch.empty(2, 15, 3, 8, dtype=torch.float16)] * 2)
        with pytest.raises(ValueError, match="k: rank 3 is not supported"):
            fa.flash_attn_func(q, k[0], k)


def test_operator_refuses_second_derivatives(torch, rng, plain_results):
    import flash_attn_mlir._torch  # noqa: F401

    q, k, v = leaves(torch, rng, *QKV)
    out, _ = torch.ops.flash_attn_mlir.attention(q, k, v, None, False, -1, -1, 0.0, False)
    (dq,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives of attention"):
        dq.sum().backward()


def test_operators_are_registered_at_first_need_only():
    code = (
        "import sys, flash_attn_mlir as fa\n"
        "assert 'torch' not in sys.modules\n"
        "import torch\n"
        "q = torch.zeros(1, 4, 1, 8)\n"
        "fa.flash_attn_func(q, q, q)\n"
        "assert 'flash_attn_mlir._torch' not in sys.modules\n"
        "q.requires_grad_()\n"
        "fa.flash_attn_func(q, q, q).sum().backward()\n"
        "assert 'flash_attn_mlir._torch' in sys.modules\n"
    )
    pytest.importorskip("torch")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_forward_reference_agrees(rng):
    """The forward that these gradients belong to."""
    case = Case(1, 20, 30, 4, 2, 16, causal=True)
    arrays, _ = draw_all(case, rng)
    out, lse, _ = fa.flash_attn_func(*arrays[:3], causal=True, return_attn_probs=True)
    want = case.reference(*arrays[:3])
    np.testing.assert_allclose(out, want[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(lse, want[1], rtol=1e-4, atol=1e-5)
