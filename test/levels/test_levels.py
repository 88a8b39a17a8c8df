"""The IR after every pass down to L1 computes what `fa.attention` means.

Each program is executed after fa-decompose, fa-simplify-mask, fa-tile,
fa-online-softmax and fa-split-mask-loops, and compared with float64 NumPy; on tensors
too, bufferized before fa-decompose and after it.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))
from execute import CLEAN, TEAMS, compile_function, parts_stages, stages, tensor_form
from programs import BIAS, CAUSAL, LENGTHS, RELATIVE, Program
from reference import attention, band, check

SEED = int(os.environ.get("FA_TEST_SEED", "0")) or int.from_bytes(os.urandom(3), "little")
NUMPY = {"f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32, "f64": np.float64}

# Small tiles: many blocks, ragged ends and all kinds of loops in small problems.
TILE_M, TILE_N = 8, 4

# (B, Sq, Sk, H, Hk, D, Dv)
SHAPES = [
    (1, 1, 1, 1, 1, 5, 3),
    (2, 8, 4, 2, 1, 5, 3),
    (2, 19, 23, 4, 2, 5, 3),
    (1, 31, 9, 3, 1, 5, 3),
    (1, 7, 33, 2, 2, 5, 3),
    (1, 16, 32, 1, 1, 5, 3),
]

WINDOW = ("affine_set<(b, h, m, n)[lq, lk, l, r] : "
          "(m + lk - lq + r - n >= 0, n - m - lk + lq + l >= 0)>")  # fmt: skip
PREFIX = f"{CAUSAL}, affine_set<(b, h, m, n)[lq, lk, p] : (p - 1 - n >= 0)>".replace(
    "[lq, lk] : (m", "[lq, lk, p] : (m"
)
BLOCKS = "affine_set<(b, h, m, n)[lq, lk] : (m floordiv 5 - n floordiv 5 == 0)>"
STRIDED = "affine_set<(b, h, m, n)[lq, lk] : (m - n >= 0, (m - n) mod 3 == 0)>"
DIAGONAL = "affine_set<(b, h, m, n)[lq, lk] : (m - n == 0)>"
TWICE = "affine_set<(b, h, m, n)[lq, lk] : (2 * m - 3 * n + 4 >= 0)>"
HEADS = "affine_set<(b, h, m, n)[lq, lk] : (h - 1 >= 0)>"
ROWS = "affine_set<(b, h, m, n)[lq, lk] : (m - 3 >= 0)>"
SOFTCAP = """        %t0 = arith.divf %s, %cap : f32
        %t1 = math.tanh %t0 : f32
        %r = arith.mulf %t1, %cap : f32"""


@dataclasses.dataclass
class Case:
    program: Program
    # (rng, shape) -> (extra arguments in the function's order, meaning)
    extra: object = lambda rng, shape: ((), {})
    scale: float | None = None
    nonnegative: bool = False


def window(left, right):
    def make(rng, shape):
        return (left, right), {"mask": band(shape[1], shape[2], left=left, right=right)}

    return make


def mask(keep):
    return lambda rng, shape: ((), {"mask": keep})


def causal(rng, shape):
    return (), {"mask": band(shape[1], shape[2], causal=True)}


def draw_lengths(rng, shape):
    ql = rng.integers(0, shape[1] + 1, shape[0]).astype(np.int32)
    kl = rng.integers(0, shape[2] + 1, shape[0]).astype(np.int32)
    return ql, kl


def lengths(rng, shape):
    ql, kl = draw_lengths(rng, shape)
    return (ql, kl), {"q_lengths": ql, "k_lengths": kl}


def causal_lengths(rng, shape):
    ql, kl = draw_lengths(rng, shape)
    return (ql, kl), {"q_lengths": ql, "k_lengths": kl, "mask": band(ql, kl, causal=True)}


def bias(rng, shape):
    table = rng.standard_normal((shape[3], shape[1], shape[2])).astype(np.float32)
    table[rng.random(table.shape) < 0.1] = -np.inf
    return (table,), {"score": lambda s, b, h, m, n: s + table[h]}


def dropping_bias(rng, shape):
    """As bias; no row keeps every third key, whose value is NaN."""
    (table,), meaning = bias(rng, shape)
    table[..., 1::3] = -np.inf
    return (table,), meaning | {"spoiled": slice(1, None, 3)}


def causal_dropping_bias(rng, shape):
    arguments, meaning = dropping_bias(rng, shape)
    return arguments, meaning | causal(rng, shape)[1]


def row_bias(rng, shape):
    table = rng.standard_normal((shape[0], shape[1])).astype(np.float32)
    return (table,), {"score": lambda s, b, h, m, n: s + table[b][:, None]}


def column_bias(rng, shape):
    table = rng.standard_normal((shape[2], shape[3])).astype(np.float32)
    return (table,), {"score": lambda s, b, h, m, n: s * table[:, h]}


def relative(rng, shape):
    table = rng.standard_normal(37).astype(np.float32)
    score = lambda s, b, h, m, n: s + table[np.clip(m - n + 20, 0, 36)]  # noqa: E731
    return (table,), {"score": score}


def slopes(rng, shape):
    table = rng.standard_normal(shape[3]).astype(np.float32)
    return (table,), {"score": lambda s, b, h, m, n: s + table[h] * (n - m)}


def softcap(rng, shape):
    return (np.float32(0.7),), {"score": lambda s, b, h, m, n: 0.7 * np.tanh(s / 0.7)}


def start(rng, shape):
    lse = rng.standard_normal((shape[0], shape[3], shape[1])).astype(np.float32)
    lse[rng.random(lse.shape) < 0.3] = -np.inf
    return (lse,), {"init_lse": lse}


def causal_start(rng, shape):
    arguments, meaning = start(rng, shape)
    return arguments, meaning | causal(rng, shape)[1]


def capture(rank, map_results, body):
    shape = "x".join("?" * rank)
    kind = f"memref<{shape}xf32, strided<[{', '.join('?' * rank)}], offset: ?>>"
    return {
        "arguments": (("x", kind),),
        "captures": f"%x : {kind}",
        "capture_maps": f"affine_map<(b, h, m, n) -> ({map_results})>",
        "region_arguments": ", %c: f32",
        "score": body,
    }


_LSE = "memref<?x?x?xf32, strided<[?, ?, 1], offset: ?>>"
INIT = {"arguments": (("start", _LSE),), "init_lse": "%start"}
ADD = "        %r = arith.addf %s, %c : f32"
ALIBI = """        %i = arith.subi %n, %m : index
        %j = arith.index_cast %i : index to i32
        %d = arith.sitofp %j : i32 to f32
        %e = arith.mulf %c, %d : f32
        %r = arith.addf %s, %e : f32"""
TWO_SYMBOLS = (("l", "index"), ("r", "index"))

CASES = {
    "plain": Case(Program()),
    "plain-f64": Case(Program("f64")),
    "plain-f16": Case(Program("f16")),
    "plain-bf16": Case(Program("bf16")),
    "bhsd": Case(Program(layout="bhsd")),
    "causal": Case(Program(mask=CAUSAL), causal),
    "causal-f64": Case(Program("f64", mask=CAUSAL), causal),
    "causal-f16": Case(Program("f16", mask=CAUSAL), causal),
    "causal-bf16": Case(Program("bf16", mask=CAUSAL), causal),
    "causal-nonnegative": Case(Program(mask=CAUSAL), causal, nonnegative=True),
    "negative-scale": Case(Program(mask=CAUSAL), causal, scale=-3.0),
    "zero-scale": Case(Program(mask=CAUSAL), causal, scale=0.0, nonnegative=True),
    "large-scale": Case(Program(mask=CAUSAL), causal, scale=8.0, nonnegative=True),
    "window": Case(Program(mask=WINDOW, arguments=TWO_SYMBOLS, symbols="%l, %r"), window(7, 3)),
    "window-left": Case(Program(mask=WINDOW, arguments=TWO_SYMBOLS, symbols="%l, %r"), window(5, 0)),
    "window-huge": Case(
        Program(mask=WINDOW, arguments=TWO_SYMBOLS, symbols="%l, %r"), window(2**60, 2**60)
    ),
    "prefix": Case(
        Program(mask=PREFIX, arguments=(("p", "index"),), symbols="%p"),
        lambda rng, s: ((6,), {"mask": lambda b, h, m, n: (n <= m + s[2] - s[1]) | (n < 6)}),
    ),
    "blocks": Case(Program(mask=BLOCKS), mask(lambda b, h, m, n: m // 5 == n // 5)),
    "strided": Case(Program(mask=STRIDED), mask(lambda b, h, m, n: (n <= m) & ((m - n) % 3 == 0))),
    "diagonal": Case(Program(mask=DIAGONAL), mask(lambda b, h, m, n: m == n)),
    "twice": Case(Program(mask=TWICE), mask(lambda b, h, m, n: 2 * m - 3 * n + 4 >= 0)),
    "heads": Case(Program(mask=HEADS), mask(lambda b, h, m, n: (h >= 1) & (m >= 0) & (n >= 0))),
    "rows": Case(Program(mask=ROWS), mask(lambda b, h, m, n: (m >= 3) & (n >= 0))),
    "nothing": Case(
        Program(mask=" ", dead_lse="0x7FF0000000000000"),
        lambda rng, s: ((), {"mask": lambda b, h, m, n: (m < 0) & (n < 0), "dead_lse": np.inf}),
    ),
    "dead-lse": Case(
        Program(mask=CAUSAL, dead_lse="0x7FF0000000000000"),
        lambda rng, s: ((), causal(rng, s)[1] | {"dead_lse": np.inf}),
    ),
    "lengths": Case(Program(**LENGTHS), lengths),
    "causal-lengths": Case(Program(mask=CAUSAL, **LENGTHS), causal_lengths),
    "bias": Case(Program(**BIAS), bias),
    "bias-drops": Case(Program(**BIAS), dropping_bias),
    "bias-drops-f16": Case(Program("f16", **BIAS), dropping_bias),
    "causal-bias-drops": Case(Program(mask=CAUSAL, **BIAS), causal_dropping_bias),
    "bias-rows": Case(Program(**capture(2, "b, m", ADD)), row_bias),
    "bias-columns": Case(
        Program(**capture(2, "n, h", ADD.replace("addf", "mulf"))), column_bias
    ),
    "relative": Case(Program(**RELATIVE), relative),
    "alibi": Case(Program(**capture(1, "h", ALIBI)), slopes),
    "softcap": Case(
        Program(arguments=(("cap", "f32"),), score=SOFTCAP), softcap
    ),
    "init": Case(Program(**INIT), start),
    "causal-init": Case(Program(mask=CAUSAL, **INIT), causal_start),
}  # fmt: skip


def with_layout(array, layout):
    """A view in (B, S, H, D) order of memory in `layout`, with odd strides."""
    if layout == "bshd":
        return array
    return np.ascontiguousarray(array.transpose(0, 2, 1, 3))


def run_case(case, stage, folder, name, passes=None):
    program = case.program
    dtype = NUMPY[program.dtype]
    acc = np.float64 if program.dtype == "f64" else np.float32
    program = dataclasses.replace(program, head_dim=5, head_dim_v=3)
    text = program.text()
    if case.nonnegative:
        text = text.replace("%scale: f32", "%scale: f32 {fa.nonnegative}")
    if stage in ("tensors", "bufferized"):
        text = tensor_form(text)
    function = compile_function(text, passes or stages(TILE_M, TILE_N)[stage], folder)
    rng = np.random.default_rng([SEED, *name.encode()])
    for shape in SHAPES:
        batch, sq, sk, heads, heads_k, d, dv = shape
        q, k, v = (
            rng.standard_normal(s).astype(dtype)
            for s in ((batch, sq, heads, d), (batch, sk, heads_k, d), (batch, sk, heads_k, dv))
        )
        extra, meaning = case.extra(rng, shape)
        # The value of a key that no row keeps never leaks.
        v[:, meaning.pop("spoiled", slice(0))] = np.nan
        # Data beyond the lengths never leaks.
        for lengths, arrays in (("q_lengths", (q,)), ("k_lengths", (k, v))):
            for b, length in enumerate(meaning.get(lengths, ())):
                for array in arrays:
                    array[b, length:] = np.nan
        scale = d**-0.5 if case.scale is None else case.scale
        out = np.full((batch, sq, heads, dv), np.nan, dtype)
        lse = np.full((batch, heads, sq), np.nan, acc)
        layout = program.layout
        views = [with_layout(x, layout) for x in (q, k, v, out)]
        partials = []
        if program.partials:
            count = int(rng.integers(1, 12))
            partials = [np.full((count, *x.shape), np.nan, acc) for x in (views[3], lse)]
        function(*views[:3], acc(scale), *extra, views[3], lse, *partials)
        result = views[3] if layout == "bshd" else views[3].transpose(0, 2, 1, 3)
        if case.nonnegative or case.scale is not None:
            scale = float(acc(scale))
        expected = attention(q, k, v, scale=scale, **meaning)
        try:
            check(np.dtype(dtype).name, result, lse, *expected)
        except AssertionError as error:
            raise AssertionError(f"shape {shape}, seed {SEED}: {error}") from error


@pytest.mark.parametrize("stage", list(stages(1, 1)))
@pytest.mark.parametrize("name", list(CASES))
def test_level(name, stage, tmp_path):
    run_case(CASES[name], stage, tmp_path, name)


def with_partials(name):
    case = CASES[name]
    return dataclasses.replace(case, program=dataclasses.replace(case.program, partials=True))


@pytest.mark.parametrize("name", list(CASES))
def test_parts(name, tmp_path):
    """Keys are split, and partial results combined."""
    passes = parts_stages(TILE_M, TILE_N)["all"]
    run_case(with_partials(name), "all", tmp_path, name, passes)


@pytest.mark.parametrize("stage", list(parts_stages(1, 1)))
@pytest.mark.parametrize("name", ["window", "causal-lengths", "causal-init", "bhsd", "plain-f64"])
def test_parts_level(name, stage, tmp_path):
    passes = parts_stages(TILE_M, TILE_N)[stage]
    run_case(with_partials(name), stage, tmp_path, name, passes)


# Heads decide what is kept or captured, or lengths which rows exist.
UNPACKED = {"heads", "lengths", "causal-lengths", "alibi"}
UNPACKED |= {name for name in CASES if "bias" in name}


@pytest.mark.parametrize("stage", ["tile", "all"])
@pytest.mark.parametrize("name", [name for name in CASES if name not in UNPACKED])
def test_packed(name, stage, tmp_path):
    """The query heads that share a key head are the rows of a tile."""
    passes = parts_stages(2, TILE_N, packed=True)[stage]
    run_case(with_partials(name), stage, tmp_path, name, passes)


@pytest.mark.parametrize("stage", ["online", "split"])
@pytest.mark.parametrize("name", ["causal", "plain"])
def test_teams(name, stage, tmp_path):
    """What teams of warps may skip, a program on its own computes."""
    passes = [f"--fa-select-schedule=override={TEAMS}", "--fa-tile", *CLEAN, "--fa-online-softmax"]
    passes += [*CLEAN, "--fa-split-mask-loops"] if stage == "split" else []
    run_case(CASES[name], stage, tmp_path, name, [*passes, "--convert-tile-to-linalg"])


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "f64"])
def test_nonfinite(dtype, tmp_path):
    """The scan finds a single NaN or infinity, and nothing in large numbers."""
    text = f"""
func.func @scan(%x: memref<5x7x{dtype}>, %y: memref<1xi32>) {{
  %c0 = arith.constant 0 : index
  %t = tile.load %x[%c0, %c0] : memref<5x7x{dtype}> -> tensor<5x7x{dtype}>
  %any = tile.nonfinite %t : tensor<5x7x{dtype}>
  %i = arith.extui %any : i1 to i32
  memref.store %i, %y[%c0] : memref<1xi32>
  return
}}"""
    function = compile_function(text, ["--convert-tile-to-linalg"], tmp_path, name="scan")
    for poison in (0, ml_dtypes.finfo(NUMPY[dtype]).max, np.nan, np.inf, -np.inf):
        x = np.random.default_rng(SEED).standard_normal((5, 7)).astype(NUMPY[dtype])
        x[4, 6] = poison
        y = np.full(1, -1, np.int32)
        function(x, y)
        assert y[0] == (not np.isfinite(poison)), poison
