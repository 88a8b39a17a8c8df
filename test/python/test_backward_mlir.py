"""Whole `fa.attention_backward` through compile(mlir=...): masks as sets, score regions,
lengths, other layouts and head sizes, some of the gradients; on the CPU and, through the
emulator and where there is one on a GPU, for sm_80 and sm_90a.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import flash_attn_mlir as fa
import ml_dtypes
import numpy as np
import pytest
from programs import (
    BIAS,
    CAUSAL,
    LENGTHS,
    OFFSET,
    RELATIVE,
    Program,
    capture_of,
    table_of,
)
from reference import (
    Capture,
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


def backward_text(program, outputs, uses_lse, capture_ranks=()):
    """The gradients of a program. @attention takes q, k, v, lse, d_o, o, d_lse if it is
    used, scale, the program's arguments, delta, `outputs` and the gradients of its first
    captures, of these ranks."""
    text = program.text()
    qk, _, v, lse = re.findall(r"%(?:q|k|v|lse): (memref<[^>]*>>)", text)
    kinds = {"d_q": qk, "d_k": qk, "d_v": v}
    captures = [
        (f"d_c{i}", f"memref<{'?x' * rank}{program.acc}>") for i, rank in enumerate(capture_ranks)
    ]
    align = f" {{tile.align = {program.alignment} : i64}}" if program.alignment > 1 else ""

    def parameters(*pairs):
        return "".join(
            f"%{name}: {kind}{align if kind in (qk, v) else ''}, " for name, kind in pairs
        )

    def operands(*pairs):
        return " ".join(f"{name}(%{name} : {kind})" for name, kind in pairs)

    inputs = [("lse", lse), ("d_o", v), ("o", v)] + [("d_lse", lse)] * uses_lse
    results = [(name, kinds[name]) for name in outputs]
    head, body = text.split("\n", 1)
    head = head[: head.index("%o: ")] + parameters(("delta", lse), *results, *captures)[:-2] + ") {"
    head = head.replace("%scale: ", parameters(*inputs) + "%scale: ")
    body = re.sub(
        r"fa.attention ins\(.*\)",
        f"fa.attention_backward ins(%q, %k, %v, %lse, %d_o : {qk}, {qk}, {v}, {lse}, {v}) "
        + operands(*inputs[2:]),
        body,
    )
    outs = operands(("delta", lse), *results) + " {"
    if captures:
        names = ", ".join(f"%{name}" for name, _ in captures)
        types = ", ".join(kind for _, kind in captures)
        numbers = ", ".join(map(str, range(len(captures))))
        outs = f"{outs[:-1]}d_captures({names} : {types}) {{capture_grads = array<i64: {numbers}>, "
    return f"{head}\n" + re.sub(r"outs\([^{]*\)\s*\{", lambda _: outs, body)


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
            return torch.from_numpy(array.copy()).cuda()  # 0-d stays 0-d

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
    captures = meaning.get("captures", ())
    forward = {k: value for k, value in meaning.items() if k not in ("d_score", "captures")}
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
    expected, magnitudes = (SimpleNamespace(**x._asdict()) for x in (expected, magnitudes))
    for i, capture in enumerate(captures):
        results[f"d_c{i}"] = np.full(capture.gradient.shape, np.nan, acc)
        setattr(expected, f"d_c{i}", capture.gradient)
        setattr(magnitudes, f"d_c{i}", capture.size)
    arguments = [laid_out(q), laid_out(k), laid_out(v), lse, laid_out(d_o), laid_out(o)]
    arguments += [] if d_lse is None else [d_lse]
    arguments += [scale, *extra, *results.values()]
    run_kernel(
        runner,
        chip,
        backward_text(program, outputs, uses_lse, [x.gradient.ndim for x in captures]),
        arguments,
        int(rng.integers(1 << 30)),
    )
    if program.layout == "bhsd":
        for name in outputs:
            results[name] = results[name].transpose(0, 2, 1, 3)
    terms = d + dv + max(sk, sq * heads // heads_k) + 4 * sizes.score.max()
    if captures:
        terms += batch * heads * sq * sk
    check_gradients(np.dtype(kind).name, results, expected, magnitudes, terms)
    return results


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


BUCKETS = """        %four = arith.constant 4 : index
        %i = arith.remui %n, %four : index"""


def check_capture(target, rng, fields, x, at, slope=None, **meaning):
    """`at(b, h, m, n)` are the indices of the element of x that a score reads; it is
    added to it, or (with the slope "mulf") multiplies it."""
    x = numbers(target, x)
    wide = np.float64(x)
    factor = slope == "mulf"
    capture = Capture(
        np.zeros(x.shape),
        np.zeros(x.shape),
        lambda s, b, h, m, n: (at(b, h, m, n), s if factor else 1.0),
    )

    def read(*point):
        return wide[at(*point)]

    def score(s, *point):
        return s * read(*point) if factor else s + read(*point)

    program = dataclasses.replace(
        meaning.pop("program", None) or Program(), **in_acc(target, fields)
    )
    if factor:
        meaning["d_score"] = lambda s, *point: read(*point) + np.zeros(s.shape)
    extra = (*meaning.pop("extra", ()), x)
    return check_program(target, rng, program, extra, score=score, captures=[capture], **meaning)


@every_target
@pytest.mark.parametrize("dims", ["bhmn", "hmn", "mn", "bnm"])
def test_bias_gradient(target, rng, dims):
    """By row and key; broadcast over the batch, the heads, both."""
    x = rng.standard_normal([{"b": 2, "h": 4, "m": 70, "n": 90}[d] for d in dims])
    check_capture(
        target,
        rng,
        capture_of(dims),
        x,
        lambda b, h, m, n: tuple({"b": b, "h": h, "m": m, "n": n}[d] for d in dims),
        program=Program(mask=CAUSAL),
        mask=band(70, 90, True),
    )


@pytest.mark.parametrize("dims", ["bm", "nh", "h", ""])
def test_factor_gradient(target, rng, dims):
    """Summed over rows, keys, everything."""
    x = rng.standard_normal([{"b": 2, "h": 4, "m": 70, "n": 90}[d] for d in dims])
    check_capture(
        target,
        rng,
        capture_of(dims, "mulf"),
        x,
        lambda b, h, m, n: tuple({"b": b, "h": h, "m": m, "n": n}[d] for d in dims),
        "mulf",
    )


@every_target
@pytest.mark.parametrize("kind", ["relative", "per-head", "buckets"])
def test_table_gradient(target, rng, kind):
    """Gathered: by relative position, by head too, by what no affine map says."""

    def relative(m, n):
        return np.clip(m - n + 20, 0, 40)

    fields, shape, at = {
        "relative": (table_of("%i", OFFSET, 1), (41,), lambda b, h, m, n: (relative(m, n),)),
        "per-head": (table_of("%i, %h", OFFSET, 2), (41, 3),
                     lambda b, h, m, n: (relative(m, n), min(h, 2))),
        "buckets": (table_of("%b, %i", BUCKETS, 2), (2, 4), lambda b, h, m, n: (b, n % 4)),
    }[kind]  # fmt: skip
    check_capture(
        target,
        rng,
        fields,
        rng.standard_normal(shape),
        at,
        program=Program(mask=CAUSAL),
        mask=band(70, 90, True),
    )


def test_capture_gradients_with_lengths(target, rng):
    """What the lengths leave out adds nothing, NaN in the capture included."""
    q_lengths, k_lengths = np.array([70, 0, 33], np.int32), np.array([11, 90, 65], np.int32)
    x = rng.standard_normal((3, 70, 90))
    for b in range(3):
        x[b, q_lengths[b] :] = x[b, :, k_lengths[b] :] = np.nan
    fields = capture_of("bmn", "mulf")
    fields["arguments"] = LENGTHS["arguments"] + fields["arguments"]
    check_capture(
        target,
        rng,
        fields,
        x,
        lambda b, h, m, n: (b, m, n),
        "mulf",
        program=Program(mask=CAUSAL, lengths=LENGTHS["lengths"]),
        extra=(q_lengths, k_lengths),
        shape=(3, 70, 90, 2, 1),
        mask=band(q_lengths, k_lengths, True),
        q_lengths=q_lengths,
        k_lengths=k_lengths,
    )


@every_target
@pytest.mark.parametrize("kind", ["dense", "sum", "table"])
def test_capture_gradients_are_deterministic(target, kind):
    """The same bits in every run, whatever the order in which blocks and threads run."""
    fields, shape, at = {
        "dense": (capture_of("hmn"), (4, 70, 90), lambda b, h, m, n: (h, m, n)),
        "sum": (capture_of("h"), (4,), lambda b, h, m, n: (h,)),
        "table": (table_of("%i", OFFSET, 1), (41,),
                  lambda b, h, m, n: (np.clip(m - n + 20, 0, 40),)),
    }[kind]  # fmt: skip

    def run(seed):
        # The data is the same, the interleaving of the emulator is not.
        class Generator:
            def __init__(self):
                self.data = np.random.default_rng(7)

            def __getattr__(self, name):
                return getattr(self.data, name)

            def integers(self, *_):
                return seed

        generator = Generator()
        x = generator.standard_normal(shape)
        results = check_capture(target, generator, fields, x, at, outputs=())
        return results["d_c0"]

    first = run(2)
    assert np.abs(first).max() > 0
    for seed in (4, 6):
        np.testing.assert_array_equal(run(seed).view(np.uint8), first.view(np.uint8))


@every_target
def test_nonfinite_values_that_are_not_kept(target, rng):
    """What fa-recompute-softmax promises: NaN in blocks that the mask drops reaches
    nothing, NaN in v and d_o only what keeps it (and d_v of the blocks that do)."""
    runner, chip, *rest = target.split("-")
    if runner == "cpu":
        rest, chip = [chip, *rest], "cpu"
    dtype, alignment = rest
    kind, acc = DTYPES[dtype], np.float64 if dtype == "f64" else np.float32
    program = Program(dtype, mask=CAUSAL, alignment=int(alignment))
    size, row, key = 300, 20, 280
    shape = (1, size, 1, 32)
    clean = [rng.standard_normal(shape).astype(kind) for _ in range(4)]
    o, lse, _ = attention(*clean[:3], mask=band(size, size, True))

    def gradients(q, k, v, d_o):
        outs = [np.full(shape, np.nan, kind) for _ in range(3)]
        delta = np.full(lse.shape, np.nan, acc)
        run_kernel(
            runner,
            chip,
            backward_text(program, ("d_q", "d_k", "d_v"), False),
            [q, k, v, lse.astype(acc), d_o, o.astype(kind), float(32**-0.5), delta, *outs],
            int(rng.integers(1 << 30)),
        )
        return outs

    def spoiled(number, position):
        arrays = [x.copy() for x in clean]
        arrays[number][:, position] = np.nan
        return gradients(*arrays)

    # Blocks have at most 128 rows and keys: row 255 is in none with key 280.
    expected = gradients(*clean)
    d_q, d_k, d_v = spoiled(1, key)
    np.testing.assert_array_equal(d_q[:, :256], expected[0][:, :256])
    d_q, d_k, d_v = spoiled(2, key)
    np.testing.assert_array_equal(d_q[:, :key], expected[0][:, :key])
    d_q, d_k, d_v = spoiled(3, row)
    others = np.arange(size) != row
    np.testing.assert_array_equal(d_q[:, others], expected[0][:, others])
    np.testing.assert_array_equal(d_k[:, row + 1 :], expected[1][:, row + 1 :])
    np.testing.assert_array_equal(d_v[:, 128:], expected[2][:, 128:])
