"""FlashAttention-2's functions on top of compiled kernels."""

from __future__ import annotations

import math
import operator
import sys
import threading

from . import _arrays, _compiler

_MAX_HEAD_DIM = 256
_DTYPES_ON = {_arrays.CPU: ("f16", "bf16", "f32", "f64"), _arrays.CUDA: ("f16", "bf16")}
_DEVICES = {_arrays.CPU: "CPU", _arrays.CUDA: "CUDA"}

# ===-----------------------------------------------------------------------=== #
# Kernels, cached by specialisation key
# ===-----------------------------------------------------------------------=== #

_kernels: dict[tuple, _compiler.Kernel] = {}
_locks: dict[tuple, threading.Lock] = {}
_chips: dict[int, str] = {}


def _kernel(key: tuple) -> _compiler.Kernel:
    found = _kernels.get(key)
    if found is not None:
        return found
    # One compilation per key; other keys compile meanwhile.
    with _locks.setdefault(key, threading.Lock()):
        if key not in _kernels:
            chip, dtype, d, dv, causal, left, right, softcap, alignment, negative = key
            _kernels[key] = _compiler.compile(
                chip=chip,
                dtype=dtype,
                head_dim=d,
                head_dim_v=dv,
                causal=causal,
                window_left=left,
                window_right=right,
                softcap=softcap,
                alignment=alignment,
                negative_scale=negative,
            )
    return _kernels[key]


def _device_chip(device: int) -> str:
    chip = _chips.get(device)
    if chip is None:
        chip = _chips[device] = _compiler.default_chip(device)
    return chip


# ===-----------------------------------------------------------------------=== #
# Checks
# ===-----------------------------------------------------------------------=== #


def _number(name: str, value) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: {value!r} is not a number") from None


def _check_options(dropout_p, softmax_scale, window_size, softcap, alibi_slopes):
    """Returns (scale or None, window left, window right, softcap)."""
    dropout_p = _number("dropout_p", dropout_p)
    if not 0.0 <= dropout_p < 1.0:
        raise ValueError(f"dropout_p: {dropout_p} is not allowed; allowed: 0 <= dropout_p < 1")
    if dropout_p > 0.0:
        raise NotImplementedError(
            f"dropout_p: dropout ({dropout_p}) is not supported yet; pass dropout_p=0.0"
        )
    if alibi_slopes is not None:
        raise NotImplementedError(
            "alibi_slopes: ALiBi is not supported yet; pass alibi_slopes=None"
        )
    if softmax_scale is not None:
        softmax_scale = _number("softmax_scale", softmax_scale)
        if not math.isfinite(softmax_scale):
            raise ValueError(
                f"softmax_scale: {softmax_scale} is not allowed; allowed: a finite number, or "
                "None for head_dim ** -0.5"
            )
    softcap = _number("softcap", softcap)
    if not (softcap >= 0.0 and math.isfinite(softcap)):
        raise ValueError(
            f"softcap: {softcap} is not allowed; allowed: 0 (off) or a positive finite number"
        )
    try:
        left, right = window_size
        left, right = operator.index(left), operator.index(right)
    except (TypeError, ValueError):
        raise TypeError(
            f"window_size: {window_size!r} is not a pair of integers; allowed: "
            "(left, right), each -1 (unlimited) or a number of keys"
        ) from None
    return softmax_scale, left, right, softcap


def _needs_grad(name: str, array) -> None:
    if array.requires_grad and sys.modules["torch"].is_grad_enabled():
        raise NotImplementedError(
            f"{name}: gradients are not supported yet (the backward pass is not there); call "
            f"it under torch.no_grad() or pass {name}.detach()"
        )


class _Operand:
    """One named input: the caller's array and its view."""

    __slots__ = ("array", "lib", "name", "view")

    def __init__(self, name, array, rank):
        self.name = name
        self.lib = _arrays.library(name, array)
        if self.lib.name == "PyTorch":
            _needs_grad(name, array)
        view = _arrays.view(name, array, self.lib)
        if view.rank != rank:
            raise ValueError(
                f"{name}: rank {view.rank} (shape {view.shape}) is not supported; allowed: {rank} "
                f"dimensions, {_SHAPES[rank]}"
            )
        # As FlashAttention-2: the head dimension must be contiguous, else copied.
        if (view.strides[-1] != 1 and view.shape[-1] > 1) or view.negative_stride:
            array = self.lib.contiguous(array)
            view = _arrays.view(name, array, self.lib)
        self.array = array
        self.view = view


_SHAPES = {
    4: "(batch, seqlen, heads, head_dim)",
    5: "(batch, seqlen, 3 for qkv or 2 for kv, heads, head_dim)",
}


def _check_shapes(q, k, v) -> None:
    """Checks views of q, k and v."""
    allowed = _DTYPES_ON[q.device_type]
    if q.dtype not in allowed:
        raise TypeError(
            f"q: dtype {_arrays.long_name(q.dtype)} is not supported on "
            f"{_DEVICES[q.device_type]}; allowed: {', '.join(map(_arrays.long_name, allowed))}"
        )
    q_shape, k_shape, v_shape = q.shape, k.shape, v.shape
    for name, view in (("k", k), ("v", v)):
        if view.dtype != q.dtype:
            raise TypeError(
                f"{name}: dtype {_arrays.long_name(view.dtype)} differs from q's; allowed: "
                f"{_arrays.long_name(q.dtype)}"
            )
        if view.device_type != q.device_type or view.device_id != q.device_id:
            raise ValueError(
                f"{name}: on {_DEVICES[view.device_type]} device {view.device_id}, but q is on "
                f"{_DEVICES[q.device_type]} device {q.device_id}; allowed: one device"
            )
    batch, _, heads, head_dim = q_shape
    for name, size in (("batch", batch), ("heads", heads), ("head_dim", head_dim)):
        if size == 0:
            raise ValueError(f"q: {name} is 0 (shape {q_shape}); allowed: at least 1")
    if head_dim > _MAX_HEAD_DIM:
        raise ValueError(f"q: head_dim {head_dim} is not supported; allowed: 1 to {_MAX_HEAD_DIM}")
    if k_shape[0] != batch:
        raise ValueError(f"k: batch {k_shape[0]} differs from q's; allowed: {batch}")
    if k_shape[3] != head_dim:
        raise ValueError(f"k: head_dim {k_shape[3]} differs from q's; allowed: {head_dim}")
    if k_shape[2] == 0 or heads % k_shape[2]:
        raise ValueError(
            f"k: {k_shape[2]} heads do not divide q's {heads} heads; allowed: a divisor of {heads}"
        )
    for dim, name in enumerate(("batch", "seqlen", "heads", "head_dim")):
        if v_shape[dim] != k_shape[dim]:
            raise ValueError(f"v: {name} {v_shape[dim]} differs from k's; allowed: {k_shape[dim]}")


# ===-----------------------------------------------------------------------=== #
# Running
# ===-----------------------------------------------------------------------=== #


def _launch(kernel, arguments, kinds, lib, view) -> None:
    artifact = kernel._artifact
    if view.device_type == _arrays.CPU:
        artifact.launch(arguments, kinds, 0, 0)
        return
    device = view.device_id
    stream = lib.current_stream(device)
    if lib.name == "PyTorch":
        cuda = lib.torch.cuda
        if cuda.current_device() != device:
            with cuda.device(device):
                artifact.launch(arguments, kinds, device, stream)
            return
    artifact.launch(arguments, kinds, device, stream)


def _candidates(view, alignment: int, broadcast: bool) -> tuple[str, ...]:
    """Chips to compile for, best first: all give the same results."""
    if view.device_type == _arrays.CPU:
        return ("cpu",)
    chip = _device_chip(view.device_id)
    if chip == "sm_90a":
        # Tensor maps need 16-byte strides that are not 0.
        return ("sm_90a", "sm_80") if alignment == 16 and not broadcast else ("sm_80",)
    return (chip,)


def _attention(lib, like, q, k, v, options, causal, return_attn_probs, chip=None):
    """Attention on views. `like` is an array beside which results are made."""
    scale, left, right, softcap = options
    _check_shapes(q, k, v)
    batch, seqlen_q, heads, head_dim = q.shape
    dtype = q.dtype
    lse_dtype = "f64" if dtype == "f64" else "f32"
    if scale is None:
        scale = head_dim**-0.5
    out, o = lib.empty((batch, seqlen_q, heads, head_dim), dtype, like)
    softmax_lse, lse = lib.empty((batch, heads, seqlen_q), lse_dtype, like)

    if seqlen_q > 0:
        # As FlashAttention-2: causal means a right window of 0, whatever it says.
        causal = bool(causal) or right == 0
        arguments = [q, k, v, scale]
        kinds = "mmmd" if lse_dtype == "f64" else "mmmf"
        if softcap > 0.0:
            arguments.append(softcap)
            kinds += kinds[3]
        if left >= 0:
            arguments.append(left)
            kinds += "x"
        if right >= 0 and not causal:
            arguments.append(right)
            kinds += "x"
        arguments += (o, lse)
        kinds += "mm"
        # The CPU's kernels take any address: one class.
        on_gpu = q.device_type == _arrays.CUDA
        alignment = min(x.alignment for x in (q, k, v, o)) if on_gpu else 1
        broadcast = q.broadcast or k.broadcast or v.broadcast
        chips = _candidates(q, alignment, broadcast) if chip is None else (chip,)
        rest = (
            dtype,
            head_dim,
            head_dim,
            causal,
            left >= 0,
            right >= 0 and not causal,
            softcap > 0.0,
            alignment,
            scale < 0.0,
        )
        _launch(_first_supported(chips, rest), arguments, kinds, lib, q)

    if not return_attn_probs:
        return out
    # FlashAttention-2 fills S_dmask only with dropout.
    return out, softmax_lse, lib.empty((0,), dtype, like)[0]


def _first_supported(chips, rest):
    key = (chips[0], *rest)
    found = _kernels.get(key)
    if found is not None:
        return found
    try:
        return _kernel(key)
    except NotImplementedError:
        if len(chips) == 1:
            raise
        # The sm_80 program runs on every newer device, with the same results.
        kernel = _kernels[key] = _first_supported(chips[1:], rest)
        return kernel


def flash_attn_func(
    q,
    k,
    v,
    dropout_p=0.0,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
    softcap=0.0,
    alibi_slopes=None,
    deterministic=False,
    return_attn_probs=False,
):
    """softmax(mask(scale * q k^T)) v, as FlashAttention-2's function of this name.

    q is (batch, seqlen_q, heads, head_dim); k and v are (batch, seqlen_k,
    heads_k, head_dim) where heads_k divides heads: consecutive query heads share
    a key head. float16 and bfloat16, on the CPU also float32 and float64;
    head_dim 1 to 256.

    causal and window_size=(left, right) are aligned to the bottom right corner:
    query i sees keys from i + seqlen_k - seqlen_q - left to i + seqlen_k -
    seqlen_q + right, inclusive; -1 means unlimited. A row without a live key
    gives 0. softcap > 0 turns a score s into softcap * tanh(s / softcap).
    deterministic is accepted: the forward always is.

    Returns out, or (out, softmax_lse, S_dmask) with return_attn_probs, where
    softmax_lse is (batch, heads, seqlen_q), the natural logarithm of the sum of
    exp(score), -inf in a row without a live key, and S_dmask is empty.

    Not supported yet, and refused: dropout_p > 0, alibi_slopes, gradients.
    """
    options = _check_options(dropout_p, softmax_scale, window_size, softcap, alibi_slopes)
    return _from_operands(
        _Operand("q", q, 4),
        _Operand("k", k, 4),
        _Operand("v", v, 4),
        options,
        causal,
        return_attn_probs,
    )


def _from_operands(q, k, v, options, causal, return_attn_probs, chip=None):
    for other in (k, v):
        if other.lib is not q.lib:
            raise TypeError(
                f"{other.name}: a {other.lib.name} array beside q, a {q.lib.name} array; "
                "allowed: arrays of one library"
            )
    return _attention(
        q.lib, q.array, q.view, k.view, v.view, options, causal, return_attn_probs, chip
    )


def flash_attn_kvpacked_func(
    q,
    kv,
    dropout_p=0.0,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
    softcap=0.0,
    alibi_slopes=None,
    deterministic=False,
    return_attn_probs=False,
):
    """As flash_attn_func, with k and v in kv: (batch, seqlen_k, 2, heads_k, head_dim)."""
    options = _check_options(dropout_p, softmax_scale, window_size, softcap, alibi_slopes)
    q = _Operand("q", q, 4)
    kv = _Operand("kv", kv, 5)
    if kv.lib is not q.lib:
        raise TypeError(
            f"kv: a {kv.lib.name} array beside q, a {q.lib.name} array; allowed: one library"
        )
    if kv.view.shape[2] != 2:
        raise ValueError(f"kv: dimension 2 has extent {kv.view.shape[2]}; allowed: 2 (k, v)")
    return _attention(
        q.lib,
        q.array,
        q.view,
        kv.view.select(2, 0),
        kv.view.select(2, 1),
        options,
        causal,
        return_attn_probs,
    )


def flash_attn_qkvpacked_func(
    qkv,
    dropout_p=0.0,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
    softcap=0.0,
    alibi_slopes=None,
    deterministic=False,
    return_attn_probs=False,
):
    """As flash_attn_func, with q, k and v in qkv: (batch, seqlen, 3, heads, head_dim)."""
    options = _check_options(dropout_p, softmax_scale, window_size, softcap, alibi_slopes)
    qkv = _Operand("qkv", qkv, 5)
    view = qkv.view
    if view.shape[2] != 3:
        raise ValueError(f"qkv: dimension 2 has extent {view.shape[2]}; allowed: 3 (q, k, v)")
    return _attention(
        qkv.lib,
        qkv.array,
        view.select(2, 0),
        view.select(2, 1),
        view.select(2, 2),
        options,
        causal,
        return_attn_probs,
    )
