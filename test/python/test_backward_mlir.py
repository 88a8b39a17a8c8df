"""Whole `fa.attention_backward` through compile(mlir=...): masks as sets, score regions,
lengths, other layouts and head sizes, some of the gradients; on the CPU and, through the
emulator and where there is one on a GPU, for sm_80 and sm_90a.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

import flash_attn_mlir as fa
import ml_dtypes
import numpy as np
import pytest
from programs import BIAS, CAUSAL, LENGTHS, RELATIVE, Program
from reference import (
    attention,
    attention_backward,
    band,
    check_gradients,
    softcap,
    softcap_derivative,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "emulator"))
from emulate import SUPPORTED, emulate

DTYPES = {
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "f32": np.float32,
    "f64": np.float64,
}

needs_emulator = pytest.mark.skipif(not SUPPORTED, reason="the emulator needs x86-64 Linux")


def targets(dtypes, chips):
    """What runs a program, its element type, and the alignment that it is promised:
    without one, a GPU kernel copies element by element."""
    return [
        *(f"cpu-{dtype}-1" for dtype in dtypes),
        *(pytest.param(f"emulated-{chip}", marks=needs_emulator) for chip in chips),
        *(pytest.param(f"gpu-{chip}", marks=pytest.mark.gpu) for chip in chips),
    ]


EVERY = targets(DTYPES, ["sm_80-f16-1", "sm_80-bf16-16", "sm_90a-f16-16"])
every_target = pytest.mark.parametrize("target", EVERY)


@pytest.fixture(params=targets(["f16", "f32"], ["sm_80-bf16-16", "sm_90a-f16-16"]))
def target(request):
    return request.param


def backward_text(program, outputs, uses_lse):
    """The gradients of a program. @attention takes q, k, v, lse, d_o, o, d_lse if it is
    used, scale, the program's arguments, delta and `outputs`."""
    text = program.text()
    qk, _, v, lse = re.findall(r"%(?:q|k|v|lse): (memref<[^>]*>>)", text)
    kinds = {"d_q": qk, "d_k": qk, "d_v": v}
    align = f" {{tile.align = {program.alignment} : i64}}" if program.alignment > 1 else ""

    def parameters(*pairs):
        return "".join(f"%{name}: {kind}{align if kind != lse else ''}, " for name, kind in pairs)

    def operands(*pairs):
        return " ".join(f"{name}(%{name} : {kind})" for name, kind in pairs)

    inputs = [("lse", lse), ("d_o", v), ("o", v)] + [("d_lse", lse)] * uses_lse
    results = [(name, kinds[name]) for name in outputs]
    head, body = text.split("\n", 1)
    head = head[: head.index("%o: ")] + parameters(("delta", lse), *results)[:-2] + ") {"
    head = head.replace("%scale: ", parameters(*inputs) + "%scale: ")
    body = re.sub(
        r"fa.attention ins\(.*\)",
        f"fa.attention_backward ins(%q, %k, %v, %lse, %d_o : {qk}, {qk}, {v}, {lse}, {v}) "
        + operands(*inputs[2:]),
        body,
    )
    outs = operands(("delta", lse), *results)
    return f"{head}\n" + re.sub(r"outs\([^{]*\) \{", lambda _: outs + " {", body)


def run_kernel(runner, chip, text, arguments, seed):
    """Runs it on NumPy arrays; results are written in place."""
    if chip == "sm_90a" and runner == "gpu":
        torch = pytest.importorskip("torch")
        if torch.cuda.get_device_capability() != (9, 0):
            pytest.skip("sm_90a artifacts run on compute capability 9.0 only")
    kernel = fa.compile(mlir=text, chip=chip, ptxas=runner == "gpu")
    if runner == "cpu":
        kernel(*arguments)
    elif runner == "emulated":
        emulate(kernel, *arguments, seed=seed, optimized=bool(seed % 2))
    else:
        import torch

        def move(array):
            if array.dtype == ml_dtypes.bfloat16:
                return torch.from_numpy(array.view(np.int16).copy()).cuda().view(torch.bfloat16)
            return torch.from_numpy(np.ascontiguousarray(array)).cuda()

        moved = [move(x) if isinstance(x, np.ndarray) else x for x in arguments]
        kernel(*moved)
        for array, tensor in zip(arguments, moved):
            if isinstance(array, np.ndarray):
                result = tensor.cpu()
                if array.dtype == ml_dtypes.bfloat16:
                    array[...] = result.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
                else:
                    array[...] = result.numpy()


def with_gaps(array):
    """A view with odd strides; what is between its elements is NaN."""
    wide = np.full((*array.shape[:-2], array.shape[-2] + 1, array.shape[-1] + 3), np.nan)
    view = wide.astype(array.dtype)[..., :-1, :-3]
    view[...] = array
    return view


def check_program(
    target,
    rng,
    program=None,
    extra=(),
    shape=(2, 70, 90, 4, 2),
    head_dims=(32, 32),
    outputs=("d_q", "d_k", "d_v"),
    uses_lse=False,
    strided=False,
    **meaning,
):
    """One program on random data, against the reference. `shape` is (batch, queries,
    keys, heads, key heads)."""
    runner, chip, *rest = target.split("-")
    if runner == "cpu":
        rest, chip = [chip, *rest], "cpu"
    dtype, alignment = rest
    batch, sq, sk, heads, heads_k = shape
    d, dv = head_dims
    aligned = all(size % 8 == 0 for size in head_dims) and not strided
    program = dataclasses.replace(
        program or Program(),
        dtype=dtype,
        head_dim=d,
        head_dim_v=dv,
        alignment=int(alignment) if aligned else 1,
    )
    kind, acc = DTYPES[dtype], np.float64 if dtype == "f64" else np.float32
    q, k, v, d_o = (
        rng.standard_normal(dims).astype(kind)
        for dims in (
            (batch, sq, heads, d),
            (batch, sk, heads_k, d),
            (batch, sk, heads_k, dv),
            (batch, sq, heads, dv),
        )
    )
    d_lse = rng.standard_normal((batch, heads, sq)).astype(acc) if uses_lse else None
    scale = float(acc(d**-0.5))
    forward = {key: value for key, value in meaning.items() if key != "d_score"}
    o, lse, sizes = attention(q, k, v, scale, **forward)
    o, lse = o.astype(kind), lse.astype(acc)
    expected, magnitudes = attention_backward(
        q, k, v, d_o, scale, d_lse=d_lse, magnitudes=True, **meaning
    )
    # Nothing beyond the lengths is ever seen, NaN included.
    for b, length in enumerate(meaning.get("q_lengths", ())):
        for array in (q, o, d_o):
            array[b, length:] = np.nan
    for b, length in enumerate(meaning.get("k_lengths", ())):
        for array in (k, v):
            array[b, length:] = np.nan

    def result(name):
        array = np.full(getattr(expected, name).shape, np.nan)
        return array.astype(acc if name == "delta" else kind)

    def laid_out(array):
        if array.ndim != 4:
            return array
        if program.layout == "bhsd":
            array = np.ascontiguousarray(array.transpose(0, 2, 1, 3))
        return with_gaps(array) if strided else array

    results = {name: laid_out(result(name)) for name in ("delta", *outputs)}
    arguments = [laid_out(q), laid_out(k), laid_out(v), lse, laid_out(d_o), laid_out(o)]
    arguments += [] if d_lse is None else [d_lse]
    arguments += [scale, *extra, *results.values()]
    run_kernel(
        runner,
        chip,
        backward_text(program, outputs, uses_lse),
        arguments,
        int(rng.integers(1 << 30)),
    )
    if program.layout == "bhsd":
        for name in outputs:
            results[name] = results[name].transpose(0, 2, 1, 3)
    terms = d + dv + max(sk, sq * heads // heads_k) + 4 * sizes.score.max()
    check_gradients(np.dtype(kind).name, results, expected, magnitudes, terms)


@every_target
@pytest.mark.parametrize("uses_lse", [False, True])
def test_plain(target, rng, uses_lse):
    check_program(target, rng, uses_lse=uses_lse)


def test_causal(target, rng):
    check_program(target, rng, Program(mask=CAUSAL), mask=band(70, 90, True))


def test_dead_rows(target, rng):
    check_program(
        target,
        rng,
        Program(mask=CAUSAL),
        shape=(1, 90, 40, 2, 1),
        uses_lse=True,
        mask=band(90, 40, True),
    )


@every_target
def test_window(target, rng):
    sets = "affine_set<(b, h, m, n)[lq, lk, l, r] : (m + lk - lq + r - n >= 0, n - m - lk + lq + l >= 0)>"  # noqa: E501
    program = Program(mask=sets, arguments=(("l", "index"), ("r", "index")), symbols="%l, %r")
    check_program(target, rng, program, (20, 7), mask=band(70, 90, left=20, right=7))


def test_prefix(target, rng):
    causal = CAUSAL.replace("[lq, lk]", "[lq, lk, p]")
    prefix = "affine_set<(b, h, m, n)[lq, lk, p] : (p - 1 - n >= 0)>"
    program = Program(mask=f"{causal}, {prefix}", arguments=(("p", "index"),), symbols="%p")
    keep = band(70, 90, True)
    check_program(target, rng, program, (45,), mask=lambda b, h, m, n: keep(b, h, m, n) | (n < 45))


@every_target
@pytest.mark.parametrize("causal", [False, True])
def test_lengths(target, rng, causal):
    q_lengths = np.array([70, 0, 33], np.int32)
    k_lengths = np.array([11, 90, 65], np.int32)
    check_program(
        target,
        rng,
        Program(mask=CAUSAL if causal else "", **LENGTHS),
        (q_lengths, k_lengths),
        shape=(3, 70, 90, 2, 1),
        uses_lse=causal,
        mask=band(q_lengths, k_lengths, True) if causal else None,
        q_lengths=q_lengths,
        k_lengths=k_lengths,
    )


def acc_of(target):
    return "f64" if "f64" in target else "f32"


def in_acc(target, fields):
    """Pieces of a program, written for f32, for the accumulator of the target."""

    def convert(value):
        if isinstance(value, tuple):
            return tuple(map(convert, value))
        return value.replace("f32", acc_of(target))

    return {key: convert(value) for key, value in fields.items()}


def numbers(target, array):
    return array.astype({"f32": np.float32, "f64": np.float64}[acc_of(target)])


@every_target
def test_softcap(target, rng):
    score = """        %cap = arith.constant 2.0 : f32
        %x = arith.divf %s, %cap : f32
        %t = math.tanh %x : f32
        %r = arith.mulf %t, %cap : f32"""
    program = Program(mask=CAUSAL, **in_acc(target, {"score": score}))
    check_program(
        target,
        rng,
        program,
        mask=band(70, 90, True),
        score=softcap(2.0),
        d_score=softcap_derivative(2.0),
    )


def test_bias(target, rng):
    bias = numbers(target, rng.standard_normal((4, 70, 90)))
    bias[rng.random(bias.shape) < 0.1] = -np.inf
    check_program(
        target,
        rng,
        Program(mask=CAUSAL, **in_acc(target, BIAS)),
        (bias,),
        mask=band(70, 90, True),
        score=lambda s, b, h, m, n: s + bias[h],
    )


def test_gathered_bias(target, rng):
    table = numbers(target, rng.standard_normal(41))
    check_program(
        target,
        rng,
        Program(**in_acc(target, RELATIVE)),
        (table,),
        score=lambda s, b, h, m, n: s + table[np.clip(m - n + 20, 0, 40)],
    )


@pytest.mark.parametrize("outputs", [(), ("d_k",), ("d_q", "d_v")], ids="-".join)
def test_some_gradients(target, rng, outputs):
    check_program(target, rng, Program(mask=CAUSAL), outputs=outputs, mask=band(70, 90, True))


@pytest.mark.parametrize(("d", "dv"), [(40, 72), (128, 128)])
def test_head_sizes(target, rng, d, dv):
    check_program(target, rng, shape=(1, 50, 70, 2, 2), head_dims=(d, dv))


@pytest.mark.parametrize(("d", "dv"), [(1, 1), (7, 3), (192, 128), (256, 256)])
def test_extreme_head_sizes(target, rng, d, dv):
    check_program(
        target,
        rng,
        Program(mask=CAUSAL),
        shape=(1, 30, 40, 2, 1),
        head_dims=(d, dv),
        mask=band(30, 40, True),
    )


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (1, 1, 200, 2, 1), (1, 200, 1, 2, 1)], ids=str)
def test_tiny(target, rng, shape):
    check_program(target, rng, Program(mask=CAUSAL), shape=shape, mask=band(*shape[1:3], True))


@pytest.mark.parametrize(
    "shape", [(1, 64, 128, 3, 3), (2, 33, 65, 6, 2), (1, 40, 50, 5, 1)], ids=str
)
def test_groups(target, rng, shape):
    check_program(target, rng, shape=shape, uses_lse=True)


def test_bhsd_layout(target, rng):
    program = Program(mask=CAUSAL, layout="bhsd")
    check_program(target, rng, program, head_dims=(16, 24), mask=band(70, 90, True))


@every_target
def test_strided(target, rng):
    check_program(target, rng, shape=(1, 40, 50, 2, 1), strided=True)
