"""FlashAttention-2's functions on top of compiled kernels."""

from __future__ import annotations

import contextlib
import functools
import math
import operator
import sys
import threading

from . import _arrays, _compiler, _fa

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
            chip, dtype, d, dv, causal, left, right, softcap, alignment, negative, *rest = key
            more = {}
            if len(rest) == 1:
                more = dict(zip(("query_rows", "pack_heads", "partials"), rest[0]))
            elif rest:
                gradients, d_lse, d_q_sum = rest
                more = {
                    "backward": True,
                    "gradients": gradients,
                    "d_lse": d_lse,
                    "d_q_sum": d_q_sum,
                }
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
                **more,
            )
    return _kernels[key]


def _device_chip(device: int) -> str:
    chip = _chips.get(device)
    if chip is None:
        chip = _chips[device] = _compiler.default_chip(device)
    return chip


@functools.cache
def _multiprocessors(device: int) -> int:
    return _fa.device_multiprocessors(device)


# ===-----------------------------------------------------------------------=== #
# Checks
# ===-----------------------------------------------------------------------=== #


def _number(name: str, value) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: {value!r} is not a number") from None


def _check_options(dropout_p, softmax_scale, window_size, softcap, alibi_slopes, deterministic):
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
        if not -math.inf < softmax_scale < math.inf:
            raise ValueError(
                f"softmax_scale: {softmax_scale} is not allowed; allowed: a finite number, or "
                "None for head_dim ** -0.5"
            )
    softcap = _number("softcap", softcap)
    if not 0.0 <= softcap < math.inf:
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
    return softmax_scale, left, right, softcap, bool(deterministic)


class _Operand:
    """One named input: the caller's array and its view."""

    __slots__ = ("array", "lib", "name", "view")

    def __init__(self, name, array, rank):
        self.name = name
        self.lib = _arrays.library(name, array)
        view = _arrays.view(name, array, self.lib)
        if view.rank != rank:
            raise ValueError(
                f"{name}: rank {view.rank} (shape {view.shape}) is not supported; allowed: {rank} "
                f"dimensions, {_SHAPES[rank]}"
            )
        # As FlashAttention-2: the head dimension must be contiguous, else copied.
        if not view.has_dense_rows:
            array = self.lib.contiguous(array)
            view = _arrays.view(name, array, self.lib)
        self.array = array
        self.view = view


_SHAPES = {
    3: "(batch, heads, seqlen)",
    4: "(batch, seqlen, heads, head_dim)",
    5: "(batch, seqlen, 3 for qkv or 2 for kv, heads, head_dim)",
}


def _check_shapes(q, k, v) -> None:
    """Checks views of q, k and v."""
    dtype, device_type = q.dtype, q.device_type
    allowed = _DTYPES_ON[device_type]
    if dtype not in allowed:
        raise TypeError(
            f"q: dtype {_arrays.long_name(dtype)} is not supported on "
            f"{_DEVICES[device_type]}; allowed: {', '.join(map(_arrays.long_name, allowed))}"
        )
    for name, view in (("k", k), ("v", v)):
        if view.dtype != dtype:
            raise TypeError(
                f"{name}: dtype {_arrays.long_name(view.dtype)} differs from q's; allowed: "
                f"{_arrays.long_name(dtype)}"
            )
        if view.device_type != device_type or view.device_id != q.device_id:
            raise ValueError(
                f"{name}: on {_DEVICES[view.device_type]} device {view.device_id}, but q is on "
                f"{_DEVICES[device_type]} device {q.device_id}; allowed: one device"
            )
    q_shape, k_shape, v_shape = q.shape, k.shape, v.shape
    batch, _, heads, head_dim = q_shape
    if not (batch and heads and head_dim):
        name = "batch" if not batch else "head_dim" if heads else "heads"
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
    if v_shape != k_shape:
        for dim, name in enumerate(("batch", "seqlen", "heads", "head_dim")):
            if v_shape[dim] != k_shape[dim]:
                raise ValueError(
                    f"v: {name} {v_shape[dim]} differs from k's; allowed: {k_shape[dim]}"
                )


# ===-----------------------------------------------------------------------=== #
# Running
# ===-----------------------------------------------------------------------=== #


def _launch(kernel, arguments, kinds, lib, view) -> None:
    on_gpu = view.device_type == _arrays.CUDA
    device = view.device_id if on_gpu else 0
    stream = lib.current_stream(device) if on_gpu else 0
    kernel._artifact.launch(arguments, kinds, device, stream)


def _candidates(view, alignment: int, broadcast: bool) -> tuple[str, ...]:
    """Chips to compile for, best first: all give the same results."""
    if view.device_type == _arrays.CPU:
        return ("cpu",)
    chip = _device_chip(view.device_id)
    if chip == "sm_90a":
        # Tensor maps need 16-byte strides that are not 0.
        return ("sm_90a", "sm_80") if alignment == 16 and not broadcast else ("sm_80",)
    return (chip,)


# At most so many queries have programs of their own: one of one query, one of few.
_FEW_QUERIES = 16
# Blocks of these programs that run at the same time on a multiprocessor.
_BLOCKS_AT_ONCE = {"sm_90a": 6, "sm_80": 4}
# Parts of the keys are multiples of this number, and there are at most so many.
_PART, _MOST_PARTS = 64, 128


# Where the compiler's table has rows for short sequences: smallest and largest head size,
# and how many queries and keys they are the fastest for.
_SHORT_SEQUENCES = ((49, 64, 4096), (81, 112, 1024), (145, 192, 2048))
_SHORT_ROWS = 4096  # what `query_rows` calls them


def _query_rows(chip: str, head_dim: int, seqlen_q: int, seqlen_k: int) -> int:
    """How many queries to compile for, when they are more than few; 0: any number."""
    longest = max(seqlen_q, seqlen_k)
    is_short = any(
        low <= head_dim <= high and longest <= most for low, high, most in _SHORT_SEQUENCES
    )
    return _SHORT_ROWS if is_short and chip == "sm_90a" else 0


def _few_blocks(queries: int, group: int) -> tuple[int, bool]:
    """Blocks of the few queries of `group` heads that share a key head, and whether to pack.

    A block has one head's queries or, packed, several heads' as well: where that takes
    fewer blocks. One query's heads are always packed.
    """
    packed = -(-queries // max(1, _FEW_QUERIES // group)) * -(-group // _FEW_QUERIES)
    return min(packed, group), 1 < queries and packed < group


def _parts(view, chip: str, blocks: int, keys: int) -> int:
    """In how many parts of `keys` keys `blocks` blocks of few queries are computed.

    As many as run at the same time; a function of the shapes and the device only.
    """
    if view.device_type == _arrays.CPU:
        slots = _fa.get_num_threads()
    else:
        slots = _multiprocessors(view.device_id) * _BLOCKS_AT_ONCE.get(chip, 2)
    steps = -(-keys // _PART)
    parts = max(1, min(slots // blocks, _MOST_PARTS, steps))
    # As few as do with the longest of them.
    return -(-steps // -(-steps // parts)) if steps else 1


def _one_pass(
    chip: str, head_dim: int, points: int, window_left: int = -1, deterministic: bool = False
) -> bool:
    """Whether the gradients of q and others come from one pass, with d_q_sum: where
    that takes less time and may be done.

    `points`: batches times key heads.
    """
    if chip == "cpu":
        # The same bits as without the sum, by any number of threads, unless a window
        # cuts blocks of keys on the left.
        if deterministic and window_left >= 0:
            return False
        # Each of the points is one of the grid then: five products by as many threads
        # as have one, not seven by all.
        threads = _fa.get_num_threads()
        return 5 * -(-points // threads) * threads < 7 * points
    # The order of the additions to the sum is not fixed. Where two groups of warps share
    # rows, wgmma pads heads to 128, and computes the scores twice in less time.
    return not deterministic and (chip != "sm_90a" or not 64 < head_dim <= 112)


def _has_sum(chip: str, k, letters: str, options, lib) -> bool:
    """Whether the gradients `letters` come from one pass, with d_q_sum; `k`: a view."""
    if letters[0] != "q" or len(letters) == 1:
        return False
    batch, _, heads, head_dim = k.shape
    deterministic = options[-1] or lib.wants_determinism()
    return _one_pass(chip, head_dim, batch * heads, options[1], deterministic)


def _views(operands):
    """Views of q, k and v: one operand each, q and kv, or qkv."""
    if len(operands) == 3:
        q, k, v = operands
        return q.view, k.view, v.view
    packed = operands[-1].view
    if len(operands) == 2:
        return operands[0].view, packed.select(2, 0), packed.select(2, 1)
    return packed.select(2, 0), packed.select(2, 1), packed.select(2, 2)


def _option_arguments(options, causal, real):
    """The optional scalar arguments of a kernel, their kinds, and their part of its key."""
    _, left, right, softcap, _ = options
    # As FlashAttention-2: causal means a right window of 0, whatever it says.
    causal = bool(causal) or right == 0
    arguments = []
    kinds = ""
    if softcap > 0.0:
        arguments.append(softcap)
        kinds += real
    if left >= 0:
        arguments.append(left)
        kinds += "x"
    if right >= 0 and not causal:
        arguments.append(right)
        kinds += "x"
    return arguments, kinds, (causal, left >= 0, right >= 0 and not causal, softcap > 0.0)


def _forward(operands, options, causal, chip=None, wanted=(), with_lse=True):
    """Attention of checked operands: out and softmax_lse, without rows unless with_lse.

    chip: the one to compile for, when it is not for the device to say (tests).
    `wanted` says for each operand whether it will have a gradient: a new variant's
    backward kernel is compiled beside the forward kernel then.
    """
    first = operands[0]
    lib, like = first.lib, first.array
    q, k, v = _views(operands)
    _check_shapes(q, k, v)
    batch, seqlen_q, heads, head_dim = q.shape
    dtype = q.dtype
    lse_dtype, real = ("f64", "d") if dtype == "f64" else ("f32", "f")
    scale = head_dim**-0.5 if options[0] is None else options[0]
    out, o = lib.empty((batch, seqlen_q, heads, head_dim), dtype, like)
    # Kernels write nothing outside of lse: without rows it is neither memory nor work.
    few = seqlen_q <= _FEW_QUERIES
    rows = seqlen_q if with_lse or few else 0
    softmax_lse, lse = lib.empty((batch, heads, rows), lse_dtype, like)

    if seqlen_q > 0:
        extra, extra_kinds, flags = _option_arguments(options, causal, real)
        # The CPU's kernels take any address: one class.
        on_gpu = q.device_type == _arrays.CUDA
        alignment = min(x.alignment for x in (q, k, v, o)) if on_gpu else 1
        broadcast = q.broadcast or k.broadcast or v.broadcast
        chips = _candidates(q, alignment, broadcast) if chip is None else (chip,)
        key = (dtype, head_dim, head_dim, *flags, alignment, scale < 0.0)
        variant = key
        outputs = [o, lse]
        parts = 0
        if few:
            if seqlen_q == 1:
                # The last query sees every key to its left.
                unbounded = (*options[:2], -1, *options[3:])
                extra, extra_kinds, flags = _option_arguments(unbounded, False, real)
                key = (dtype, head_dim, head_dim, *flags, alignment, scale < 0.0)
            blocks, pack = _few_blocks(seqlen_q, heads // k.shape[2])
            blocks *= batch * k.shape[2]
            parts = _parts(q, chips[0], blocks, k.shape[1])
            if parts > 1:
                shape = (parts, batch, seqlen_q, heads, head_dim)
                outputs.append(lib.empty(shape, lse_dtype, like)[1])
                outputs.append(lib.empty((parts, batch, heads, seqlen_q), lse_dtype, like)[1])
            key = (*key, (1 if seqlen_q == 1 else _FEW_QUERIES, pack, parts > 1))
        elif most := _query_rows(chips[0], head_dim, seqlen_q, k.shape[1]):
            key = (*key, (most, False, False))
        if True in wanted and (chips[0], *key) not in _kernels:
            letters = "".join(operand.name for operand, want in zip(operands, wanted) if want)
            has_sum = _has_sum(chips[0], k, letters, options, lib)
            _compile_ahead(chips, (*variant, letters, False, has_sum))
        kernel = _first_supported(chips, key)
        kinds = "mmm" + real + extra_kinds + "m" * len(outputs)
        _launch(kernel, [q, k, v, scale, *extra, *outputs], kinds, lib, q)
        if lib.calls is not None and chip is None:
            scalars = [None, None, None, scale, *extra, *[None] * len(outputs)]
            _remember(lib, operands, options, causal, kernel, kinds, scalars, parts)
    return out, softmax_lse


def _backward(operands, out, softmax_lse, dout, dlse, options, causal, wanted, chip=None):
    """Gradients of checked operands, None where `wanted` (one for each) is false.

    `out` and `softmax_lse` are what `_forward` gave, `dout` and `dlse` their
    gradients as operands; `dlse` None where softmax_lse has none.
    """
    first = operands[0]
    lib, like = first.lib, first.array
    q, k, v = _views(operands)
    batch, seqlen_q, heads, head_dim = q.shape
    dtype = q.dtype
    lse_dtype, real = ("f64", "d") if dtype == "f64" else ("f32", "f")
    scale = head_dim**-0.5 if options[0] is None else options[0]

    results = []
    gradients = []  # views of the gradients of q, k and v, or None
    for operand, want in zip(operands, wanted):
        view = operand.view
        parts = view.shape[2] if view.rank == 5 else 1
        if not want:
            results.append(None)
            gradients += [None] * parts
            continue
        array, grad = lib.empty(view.shape, dtype, like)
        results.append(array)
        gradients += [grad] if view.rank == 4 else [grad.select(2, i) for i in range(parts)]
    letters = "".join(letter for letter, grad in zip("qkv", gradients) if grad is not None)
    if not letters:
        return results
    gradients = [grad for grad in gradients if grad is not None]
    _, delta = lib.empty((batch, heads, seqlen_q), lse_dtype, like)

    o, do = out.view, dout.view
    extra, extra_kinds, flags = _option_arguments(options, causal, real)
    inputs = (q, k, v, o, do)
    on_gpu = q.device_type == _arrays.CUDA
    alignment = min(view.alignment for view in (*inputs, *gradients)) if on_gpu else 1
    broadcast = any(view.broadcast for view in inputs)
    chips = _candidates(q, alignment, broadcast) if chip is None else (chip,)
    workspaces = [delta]
    has_sum = _has_sum(chips[0], k, letters, options, lib)
    if has_sum:
        shape = (batch, heads, -(-seqlen_q // 8) * 8, -(-head_dim // 16) * 16)
        workspaces.append(lib.empty(shape, lse_dtype, like)[1].swap(1, 2))
    key = (
        *(dtype, head_dim, head_dim, *flags, alignment, scale < 0.0, letters),
        *(dlse is not None, has_sum),
    )
    kernel = _first_supported(chips, key)
    arguments = [q, k, v, o, softmax_lse.view, do]
    if dlse is not None:
        arguments.append(dlse.view)
    outputs = [*workspaces, *gradients]
    kinds = "m" * len(arguments) + real + extra_kinds + "m" * len(outputs)
    _launch(kernel, [*arguments, scale, *extra, *outputs], kinds, lib, q)
    return results


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


def _compile_ahead(chips, rest) -> None:
    """Compiles a kernel in a thread of its own; who needs it soon waits for less."""

    def body():
        # Whoever calls for the kernel gets the error again.
        with contextlib.suppress(Exception):
            _first_supported(chips, rest)

    threading.Thread(target=body, name="flash_attn_mlir compile").start()


# ===-----------------------------------------------------------------------=== #
# The short way: calls like an earlier one (python/src/TorchCalls.cpp)
# ===-----------------------------------------------------------------------=== #


def _short_way(*arguments):
    """What a call that is like an earlier one returns; else None.

    A function of `_fa.TorchCalls` once there is an earlier one.
    """
    return None


def _short_way_is_closed():
    """PyTorch's is_compiling once there is a short way: its compiler traces the general one."""
    return True


def _remember(lib, operands, options, causal, kernel, kinds, scalars, parts):
    """Opens the short way for calls like this one.

    What `_forward` decides by must be in the key that TorchCalls makes.
    """
    global _short_way, _short_way_is_closed

    scale, left, right, softcap, deterministic = options
    arrays = [operand.array for operand in operands]
    call = tuple(operand.name for operand in operands), options, causal
    known = lib.calls.remember(
        arrays,
        scale,
        bool(causal),
        (left, right),
        softcap,
        deterministic,
        kernel._artifact,
        kinds,
        scalars,
        parts,
        call,
    )
    if known and _short_way_is_closed():
        _short_way = lib.calls.call
        _short_way_is_closed = lib.torch.compiler.is_compiling


# ===-----------------------------------------------------------------------=== #
# Functions
# ===-----------------------------------------------------------------------=== #


def _torch_route(arrays):
    """The module that calls PyTorch's autograd or dispatcher, if it must see this call.

    The short way past both is for plain tensors that need no gradient.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    if not torch.compiler.is_compiling():
        tensor = torch.Tensor
        for array in arrays:
            kind = type(array)
            if kind is tensor:
                if array.requires_grad and torch.is_grad_enabled():
                    break
            elif issubclass(kind, tensor):
                break
        else:
            # No dispatch mode, functorch transform or forward derivative is active.
            state = torch._C
            if not (
                state._len_torch_dispatch_stack()
                or state._are_functorch_transforms_active()
                or torch.autograd.forward_ad._current_level >= 0
            ):
                return None
    from . import _torch

    return _torch


def _run(names, arrays, options, causal, return_attn_probs):
    torch_module = _torch_route(arrays)
    if torch_module is not None:
        result = torch_module.attention(names, arrays, options, causal, return_attn_probs)
        if not return_attn_probs:
            return result
        out, softmax_lse = result
        return out, softmax_lse, out.new_empty((0,))
    operands = _operands(names, arrays)
    out, softmax_lse = _forward(operands, options, causal, with_lse=return_attn_probs)
    if not return_attn_probs:
        return out
    # FlashAttention-2 fills S_dmask only with dropout.
    first = operands[0]
    return out, softmax_lse, first.lib.empty((0,), first.view.dtype, first.array)[0]


_QKV, _Q_KV, _PACKED = ("q", "k", "v"), ("q", "kv"), ("qkv",)
_RANKS = {"q": 4, "k": 4, "v": 4, "kv": 5, "qkv": 5}


def _operands(names, arrays):
    """Checked operands: q, k, v; q, kv; or qkv."""
    operands = [_Operand(name, array, _RANKS[name]) for name, array in zip(names, arrays)]
    first = operands[0]
    lib = first.lib
    for other in operands:
        if other.lib is not lib:
            raise TypeError(
                f"{other.name}: a {other.lib.name} array beside {first.name}, a {lib.name} array; "
                "allowed: arrays of one library"
            )
    if len(operands) < 3:
        name = names[-1]
        extent = operands[-1].view.shape[2]
        if extent != len(name):
            raise ValueError(
                f"{name}: dimension 2 has extent {extent}; allowed: {len(name)} ({', '.join(name)})"
            )
    return operands


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
    deterministic: the same gradients, bit for bit, run after run. Without it, dq may
    differ in its last bits on a GPU; all else is deterministic anyway. (As with
    PyTorch's own operators, torch.use_deterministic_algorithms has this effect, too.)

    At most 16 queries with many keys (decoding) get programs whose blocks share the
    keys of each sequence, if heads alone leave the device idle, and then merge their
    results; how many is a function of the shapes and the device. With one query, the
    heads that share a key head read keys together.

    Returns out, or (out, softmax_lse, S_dmask) with return_attn_probs, where
    softmax_lse is (batch, heads, seqlen_q), the natural logarithm of the sum of
    exp(score), -inf in a row without a live key, and S_dmask is empty.

    PyTorch tensors have gradients, softmax_lse's included.

    Not supported yet, and refused: dropout_p > 0, alibi_slopes.
    """
    # Called in each of these functions, not in one for all: one more Python function with
    # eleven arguments is noticed in a way that takes two microseconds (docs/performance.md).
    if not _short_way_is_closed():
        result = _short_way(
            q,
            k,
            v,
            dropout_p,
            softmax_scale,
            causal,
            window_size,
            softcap,
            alibi_slopes,
            deterministic,
            return_attn_probs,
        )
        if result is not None:
            return result
    options = _check_options(
        dropout_p, softmax_scale, window_size, softcap, alibi_slopes, deterministic
    )
    return _run(_QKV, (q, k, v), options, causal, return_attn_probs)


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
    if not _short_way_is_closed():
        result = _short_way(
            q,
            kv,
            None,
            dropout_p,
            softmax_scale,
            causal,
            window_size,
            softcap,
            alibi_slopes,
            deterministic,
            return_attn_probs,
        )
        if result is not None:
            return result
    options = _check_options(
        dropout_p, softmax_scale, window_size, softcap, alibi_slopes, deterministic
    )
    return _run(_Q_KV, (q, kv), options, causal, return_attn_probs)


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
    if not _short_way_is_closed():
        result = _short_way(
            qkv,
            None,
            None,
            dropout_p,
            softmax_scale,
            causal,
            window_size,
            softcap,
            alibi_slopes,
            deterministic,
            return_attn_probs,
        )
        if result is not None:
            return result
    options = _check_options(
        dropout_p, softmax_scale, window_size, softcap, alibi_slopes, deterministic
    )
    return _run(_PACKED, (qkv,), options, causal, return_attn_probs)


def attention_backward(
    dout,
    q,
    k,
    v,
    out,
    softmax_lse,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
    softcap=0.0,
    dsoftmax_lse=None,
    gradients="qkv",
    deterministic=False,
):
    """The gradients of flash_attn_func, for arrays of any library.

    With PyTorch, flash_attn_func differentiates by itself; this is for NumPy,
    DLPack and hand-written training loops.

    q (batch, seqlen_q, heads, head_dim), k and v (batch, seqlen_k, heads_k,
    head_dim) and the options are those that flash_attn_func got; out like q and
    softmax_lse (batch, heads, seqlen_q) are what it returned with
    return_attn_probs; dout, like out, is the gradient of out and dsoftmax_lse,
    like softmax_lse, that of softmax_lse if it was used. dout and out have q's
    dtype; softmax_lse and dsoftmax_lse are float32, float64 beside float64.

    Returns (dq, dk, dv), new arrays with the shapes and the dtype of q, k and v,
    and None for each that `gradients`, letters of "qkv", leaves out. Rows without
    a live key take no part. deterministic as in flash_attn_func.

    Raises TypeError for a wrong dtype, ValueError for a wrong shape or option.
    """
    options = _check_options(0.0, softmax_scale, window_size, softcap, None, deterministic)
    if not isinstance(gradients, str) or set(gradients) - set("qkv"):
        raise ValueError(f"gradients: {gradients!r} is not allowed; allowed: letters of 'qkv'")
    operands = _operands(_QKV, (q, k, v))
    _check_shapes(*_views(operands))
    rest = _gradient_operands(operands, out, softmax_lse, dout, dsoftmax_lse)
    wanted = [letter in gradients for letter in "qkv"]
    return tuple(_backward(operands, *rest, options, causal, wanted))


def _gradient_operands(operands, out, softmax_lse, dout, dsoftmax_lse):
    """Checked operands of out, softmax_lse, dout and dsoftmax_lse (may be None)."""
    q = _views(operands)[0]
    batch, seqlen_q, heads, _ = q.shape
    lse_dtype = "f64" if q.dtype == "f64" else "f32"
    matrix, row = (q.shape, q.dtype), ((batch, heads, seqlen_q), lse_dtype)
    result = []
    for name, array, (shape, dtype) in (
        ("out", out, matrix),
        ("softmax_lse", softmax_lse, row),
        ("dout", dout, matrix),
        ("dsoftmax_lse", dsoftmax_lse, row),
    ):
        if array is None and name == "dsoftmax_lse":
            result.append(None)
            continue
        operand = _Operand(name, array, len(shape))
        view = operand.view
        if operand.lib is not operands[0].lib:
            raise TypeError(
                f"{name}: a {operand.lib.name} array beside {operands[0].name}, a "
                f"{operands[0].lib.name} array; allowed: arrays of one library"
            )
        if view.dtype != dtype:
            raise TypeError(
                f"{name}: dtype {_arrays.long_name(view.dtype)} is not supported; allowed: "
                f"{_arrays.long_name(dtype)}"
            )
        if view.shape != shape:
            raise ValueError(f"{name}: shape {view.shape} is not supported; allowed: {shape}")
        if (view.device_type, view.device_id) != (q.device_type, q.device_id):
            raise ValueError(f"{name}: must be on the device of {operands[0].name}")
        result.append(operand)
    return result
