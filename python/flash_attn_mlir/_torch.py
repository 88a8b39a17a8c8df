"""PyTorch's side: gradients, and operators that its compiler can see.

Imported when a call first needs it. Eager calls without gradients do not pass
here; eager calls with gradients go through one autograd.Function. Under
torch.compile, torch.export, torch.func, dispatch modes and for tensor subclasses the
operators `flash_attn_mlir::attention` and `::attention_backward` stand for the
kernels.
"""

from __future__ import annotations

import types

import torch

from . import _arrays, _attention

_NO_SECOND = (
    "flash_attn_mlir: second derivatives of attention are not supported; "
    "differentiate once, or use a composition of torch operators here"
)


def attention(names, arrays, options, causal, with_lse):
    """out, or out and softmax_lse, of tensors that PyTorch must see."""
    _refuse_tangents(arrays)
    if _is_traced(arrays):
        scale, *rest = options
        results = torch.ops.flash_attn_mlir.attention.default(
            *_split(names, arrays), scale, bool(causal), *rest
        )
    elif torch.is_grad_enabled() and any(getattr(a, "requires_grad", False) for a in arrays):
        return _Attention.apply((names, options, causal), None, with_lse, *arrays)
    else:
        operands = _attention._operands(names, arrays)
        results = _attention._forward(operands, options, causal, with_lse=with_lse)
    return results if with_lse else results[0]


def _refuse_tangents(arrays):
    # An operator without a forward derivative would drop tangents silently.
    forward_ad = torch.autograd.forward_ad
    if torch.compiler.is_compiling() or forward_ad._current_level < 0:
        return
    for array in arrays:
        if isinstance(array, torch.Tensor) and forward_ad.unpack_dual(array).tangent is not None:
            raise NotImplementedError(
                "flash_attn_mlir: forward-mode derivatives of attention are not supported; "
                "use reverse mode (backward, torch.autograd.grad)"
            )


def _is_traced(arrays):
    if (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._are_functorch_transforms_active()
    ):
        return True
    plain = (torch.Tensor, torch.nn.Parameter)
    return any(isinstance(a, torch.Tensor) and type(a) not in plain for a in arrays)


def _split(names, arrays):
    """q, k and v; parts of a packed tensor are views of it."""
    *first, last = arrays
    if len(arrays) == 3:
        return arrays
    count = len(names[-1])
    if last.dim() != 5 or last.shape[2] != count:
        raise ValueError(
            f"{names[-1]}: shape {tuple(last.shape)} is not supported; allowed: (batch, seqlen, "
            f"{count}, heads, head_dim)"
        )
    return (*first, *last.unbind(2))


# ===-----------------------------------------------------------------------=== #
# Eager gradients
# ===-----------------------------------------------------------------------=== #


class _Attention(torch.autograd.Function):
    """call is names, options, causal; plan, of calls that came the short way, runs it."""

    @staticmethod
    def forward(ctx, call, plan, with_lse, *arrays):
        results = None if plan is None else _run(plan, *arrays)
        if results is None:
            names, options, causal = call
            operands = _attention._operands(names, arrays)
            wanted = ctx.needs_input_grad[3:]
            results = _attention._forward(operands, options, causal, wanted=wanted)
            # The arrays that were read: copies where the head dimension is strided.
            arrays = [operand.array for operand in operands]
        ctx.save_for_backward(*arrays, *results)
        ctx.call = call
        if not with_lse:
            return results[0]
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    def backward(ctx, dout, dsoftmax_lse=None):
        names, options, causal = ctx.call
        wanted = ctx.needs_input_grad[3:]
        if dout is None and dsoftmax_lse is None:
            return (None,) * (3 + len(wanted))
        *arrays, out, softmax_lse = ctx.saved_tensors
        arguments = names, options, causal, wanted, out, softmax_lse, dout, dsoftmax_lse, *arrays
        if torch.is_grad_enabled():
            return None, None, None, *_Gradients.apply(*arguments)
        return None, None, None, *_gradients(*arguments)


_calls = _arrays.library("", torch.empty(0)).calls
if _calls is not None:
    _run = _calls.run
    # torch.autograd.Function.apply without its cases for functorch.
    _calls.attention = super(torch.autograd.Function, _Attention).apply


def _gradients(names, options, causal, wanted, out, softmax_lse, dout, dlse, *arrays):
    """The backward kernels."""
    operands = _attention._operands(names, arrays)
    if dout is None:
        dout = torch.zeros_like(out)
    rest = _attention._gradient_operands(operands, out, softmax_lse, dout, dlse)
    return _attention._backward(operands, *rest, options, causal, wanted)


class _Gradients(torch.autograd.Function):
    """`_gradients`, where something may ask for their derivative: refused by name."""

    @staticmethod
    def forward(ctx, *arguments):
        return tuple(_gradients(*arguments))

    @staticmethod
    def backward(ctx, *_):
        raise NotImplementedError(_NO_SECOND)


# ===-----------------------------------------------------------------------=== #
# Operators
# ===-----------------------------------------------------------------------=== #

_OPTIONS = (
    "float? softmax_scale, bool causal, int window_left, int window_right, float softcap, "
    "bool deterministic"
)


@torch.library.custom_op(
    "flash_attn_mlir::attention",
    mutates_args=(),
    schema=f"(Tensor q, Tensor k, Tensor v, {_OPTIONS}) -> (Tensor, Tensor)",
)
def _attention_op(
    q, k, v, softmax_scale, causal, window_left, window_right, softcap, deterministic
):
    options = softmax_scale, window_left, window_right, softcap, deterministic
    return _attention._forward(_attention._operands(_attention._QKV, (q, k, v)), options, causal)


@torch.library.custom_op(
    "flash_attn_mlir::attention_backward",
    mutates_args=(),
    schema="(Tensor dout, Tensor? dsoftmax_lse, Tensor q, Tensor k, Tensor v, Tensor out, "
    f"Tensor softmax_lse, {_OPTIONS}, str gradients) -> (Tensor, Tensor, Tensor)",
)
def _backward_op(
    dout,
    dsoftmax_lse,
    q,
    k,
    v,
    out,
    softmax_lse,
    softmax_scale,
    causal,
    window_left,
    window_right,
    softcap,
    deterministic,
    gradients,
):
    """A gradient that is not in `gradients` is an empty tensor."""
    options = softmax_scale, window_left, window_right, softcap, deterministic
    operands = _attention._operands(_attention._QKV, (q, k, v))
    rest = _attention._gradient_operands(operands, out, softmax_lse, dout, dsoftmax_lse)
    wanted = [letter in gradients for letter in "qkv"]
    results = _attention._backward(operands, *rest, options, causal, wanted)
    return tuple(q.new_empty((0,)) if grad is None else grad for grad in results)


def _described(tensor):
    """What the checks look at, of a tensor without memory."""
    library = _arrays.library("q", tensor)
    dtype = library.dtypes.get(tensor.dtype, str(tensor.dtype))
    device = tensor.device
    kind = _arrays.CUDA if device.type == "cuda" else _arrays.CPU
    return types.SimpleNamespace(
        shape=tuple(tensor.shape), dtype=dtype, device_type=kind, device_id=device.index or 0
    )


@_attention_op.register_fake
def _(q, k, v, *_):
    for name, tensor in zip(_attention._QKV, (q, k, v)):
        if tensor.dim() != 4:
            raise ValueError(
                f"{name}: rank {tensor.dim()} is not supported; allowed: 4 dimensions, "
                f"{_attention._SHAPES[4]}"
            )
    _attention._check_shapes(*map(_described, (q, k, v)))
    batch, seqlen_q, heads, head_dim = q.shape
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    out = q.new_empty((batch, seqlen_q, heads, head_dim))
    return out, q.new_empty((batch, heads, seqlen_q), dtype=dtype)


@_backward_op.register_fake
def _(dout, dsoftmax_lse, q, k, v, out, softmax_lse, *rest):
    gradients = rest[-1]
    return tuple(
        x.new_empty(x.shape) if letter in gradients else x.new_empty((0,))
        for letter, x in zip("qkv", (q, k, v))
    )


def _setup(ctx, inputs, output):
    q, k, v, *ctx.options = inputs
    ctx.save_for_backward(q, k, v, *output)
    ctx.set_materialize_grads(False)


def _differentiate(ctx, dout, dsoftmax_lse):
    unused = [None] * len(ctx.options)
    wanted = ctx.needs_input_grad[:3]
    if dout is None and dsoftmax_lse is None:
        return None, None, None, *unused
    q, k, v, out, softmax_lse = ctx.saved_tensors
    if dout is None:
        dout = torch.zeros_like(out)
    gradients = torch.ops.flash_attn_mlir.attention_backward.default(
        dout,
        dsoftmax_lse,
        q,
        k,
        v,
        out,
        softmax_lse,
        *ctx.options,
        "".join(letter for letter, want in zip("qkv", wanted) if want),
    )
    return *(grad if want else None for grad, want in zip(gradients, wanted)), *unused


def _refuse(ctx, *_):
    raise NotImplementedError(_NO_SECOND)


_attention_op.register_autograd(_differentiate, setup_context=_setup)
_backward_op.register_autograd(_refuse)
