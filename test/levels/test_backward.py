"""The IR after every pass down to L1 computes what `fa.attention_backward` means."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))
from execute import backward_stages, compile_function
from programs import BIAS, CAUSAL, RELATIVE, Backward, Program
from reference import Capture, attention, attention_backward, check_gradients
from test_levels import (
    ADD,
    ALIBI,
    CASES,
    NUMPY,
    SEED,
    SHAPES,
    TILE_M,
    TILE_N,
    capture,
    with_layout,
)


@dataclasses.dataclass
class Score:
    """A score of an argument x, which is a capture with a gradient of that rank."""

    program: Program
    draw: object  # (rng, shape) -> x
    score: object  # (x, raw, b, h, m, n) -> score
    # As `score`: the derivative by raw; the indices of x and the derivative by x.
    by_raw: object
    by_x: object
    rank: int
    # Of the derivative by raw, where it is a difference: the sum of its terms' sizes.
    by_raw_size: object = None


# How near is too near for a difference quotient and for what f32 rounds.
KINK_MARGIN = 1e-5


def table(*dims):
    def draw(rng, shape):
        sizes = dict(zip("bmnhd", (*shape[:3], shape[3], shape[5]), strict=True)) | {"t": 37}
        return rng.standard_normal([sizes[d] for d in dims]).astype(np.float32)

    return draw


SOFTCAP = """        %t0 = arith.divf %s, %c : f32
        %t1 = math.tanh %t0 : f32
        %r = arith.mulf %t1, %c : f32"""


def one(x, raw, b, h, m, n):
    return np.ones(raw.shape)


SCORES = {
    "bias": Score(
        Program(**BIAS),
        table("h", "m", "n"),
        lambda x, s, b, h, m, n: s + x[h, m, n],
        one,
        lambda x, s, b, h, m, n: ((h, m, n), 1.0),
        3,
    ),
    "bias-rows": Score(
        Program(mask=CAUSAL, **capture(2, "b, m", ADD)),
        table("b", "m"),
        lambda x, s, b, h, m, n: s + x[b, m],
        one,
        lambda x, s, b, h, m, n: ((b, m), 1.0),
        2,
    ),
    "factor-columns": Score(
        Program(**capture(2, "n, h", ADD.replace("addf", "mulf"))),
        table("n", "h"),
        lambda x, s, b, h, m, n: s * x[n, h],
        lambda x, s, b, h, m, n: x[n, h],
        lambda x, s, b, h, m, n: ((n, h), s),
        2,
    ),
    "alibi": Score(
        Program(mask=CAUSAL, **capture(1, "h", ALIBI)),
        table("h"),
        lambda x, s, b, h, m, n: s + x[h] * (n - m),
        one,
        lambda x, s, b, h, m, n: ((h,), n - m),
        1,
    ),
    "relative": Score(
        Program(**RELATIVE),
        table("t"),
        lambda x, s, b, h, m, n: s + x[np.clip(m - n + 20, 0, 36)],
        one,
        lambda x, s, b, h, m, n: ((np.clip(m - n + 20, 0, 36),), 1.0),
        1,
    ),
    "softcap": Score(
        Program(
            arguments=(("x", "f32"),),
            captures="%x : f32",
            capture_maps="unit",
            region_arguments=", %c: f32",
            score=SOFTCAP,
        ),
        lambda rng, shape: np.float32(0.7),
        lambda x, s, b, h, m, n: x * np.tanh(s / x),
        lambda x, s, b, h, m, n: 1 - np.tanh(s / x) ** 2,
        lambda x, s, b, h, m, n: ((), np.tanh(s / x) - s / x * (1 - np.tanh(s / x) ** 2)),
        0,
        lambda x, s, b, h, m, n: 1 + np.tanh(s / x) ** 2,
    ),
}

STAGES = list(backward_stages(1, 1))

# Cases of the forward whose score, if any, is not differentiated here.
PLAIN = [name for name, case in CASES.items() if not case.program.score]


def meaning_of(case, captures=True):
    """`extra` of `run`: the score of x and, if asked for, the gradient of x."""

    def extra(rng, shape):
        x = case.draw(rng, shape)
        wide = np.float64(x)
        meaning = {
            "score": lambda *at: case.score(wide, *at),
            "d_score": lambda *at: case.by_raw(wide, *at),
        }
        if case.by_raw_size:
            meaning["d_score_size"] = lambda *at: case.by_raw_size(wide, *at)
        if captures:
            gradient, size = np.zeros(wide.shape), np.zeros(wide.shape)
            meaning["captures"] = [Capture(gradient, size, lambda *at: case.by_x(wide, *at))]
        if case.program.mask:
            meaning["mask"] = lambda b, h, m, n: n <= m + shape[2] - shape[1]
        return (x,), meaning

    return extra


def run(backward, extra, folder, stage, name, scale=None, kinks=()):
    """`extra(rng, shape)` gives extra arguments and meaning, as in test_levels."""
    program = dataclasses.replace(backward.program, head_dim=5, head_dim_v=3)
    if "start" in dict(program.arguments):  # init_lse is part of lse here
        program = dataclasses.replace(program, arguments=())
    backward = dataclasses.replace(backward, program=program)
    dtype = NUMPY[program.dtype]
    acc = np.float64 if program.dtype == "f64" else np.float32
    function = compile_function(backward.text(), backward_stages(TILE_M, TILE_N)[stage], folder)
    rng = np.random.default_rng([SEED, *name.encode()])
    for shape in SHAPES:
        batch, sq, sk, heads, heads_k, d, dv = shape
        factor = float(acc(d**-0.5 if scale is None else scale))
        while True:
            q, k, v, d_o = (
                rng.standard_normal(s).astype(dtype)
                for s in (
                    (batch, sq, heads, d),
                    (batch, sk, heads_k, d),
                    (batch, sk, heads_k, dv),
                    (batch, sq, heads, dv),
                )
            )
            wide = q.astype(np.float64), k.astype(np.float64).repeat(heads // heads_k, axis=2)
            raw = factor * np.einsum("bmhd,bnhd->bhmn", *wide)
            if all((np.abs(raw - kink) > KINK_MARGIN).all() for kink in kinks):
                break
        d_lse = rng.standard_normal((batch, heads, sq)).astype(acc) if backward.d_lse else None
        arguments, meaning = extra(rng, shape)
        if "init_lse" in meaning:
            arguments = ()
        gradients_of = ("d_score", "d_score_size", "captures")
        forward = {key: value for key, value in meaning.items() if key not in gradients_of}
        o, lse, about = attention(q, k, v, scale=factor, **forward)
        o, lse = o.astype(dtype), lse.astype(acc)
        meaning.pop("dead_lse", None)
        expected, sizes = attention_backward(
            q, k, v, d_o, scale=factor, d_lse=d_lse, magnitudes=True, **meaning
        )
        expected, sizes = (dict(x._asdict()) for x in (expected, sizes))
        for number, x in enumerate(meaning.get("captures", ())):
            expected[f"d_capture {number}"], sizes[f"d_capture {number}"] = x.gradient, x.size
        # Data beyond the lengths never leaks.
        for lengths, arrays in (("q_lengths", (q, o, d_o)), ("k_lengths", (k, v))):
            for b, length in enumerate(meaning.get(lengths, ())):
                for array in arrays:
                    array[b, length:] = np.nan
        outs = {
            x: with_layout(np.full(expected[f"d_{x}"].shape, np.nan, dtype), program.layout)
            for x in backward.gradients
        }
        d_captures = {
            f"d_capture {number}": np.full(expected[f"d_capture {number}"].shape, np.nan, acc)
            for number in range(len(backward.capture_grads))
        }
        delta = np.full(lse.shape, np.nan, acc)
        if backward.delta_known:
            delta = expected["delta"].astype(acc)
        d_q_sum = np.full((batch, -(-sq // 8) * 8, heads, 16), np.nan, acc)
        q, k, v, o, d_o = (with_layout(x, program.layout) for x in (q, k, v, o, d_o))
        function(
            *(q, k, v, lse, d_o),
            *([] if backward.delta_known else [o]),
            *([] if d_lse is None else [d_lse]),
            *(acc(factor), *arguments, delta, *([d_q_sum] if backward.d_q_sum else [])),
            *(*outs.values(), *d_captures.values()),
        )
        if program.layout == "bhsd":
            outs = {x: out.transpose(0, 2, 1, 3) for x, out in outs.items()}
        actual = {"delta": delta} | {f"d_{x}": out for x, out in outs.items()} | d_captures
        terms = d + dv + sk + sq * heads
        if d_captures:
            terms += batch * heads * sq * sk
        try:
            check_gradients(
                np.dtype(dtype).name,
                actual,
                SimpleNamespace(**expected),
                SimpleNamespace(**sizes),
                terms,
                scores=float(about.score.max()),
            )
        except AssertionError as error:
            raise AssertionError(f"shape {shape}, seed {SEED}: {error}") from error


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", PLAIN)
def test_backward(name, stage, tmp_path):
    case = CASES[name]
    backward = Backward(case.program, d_lse="causal" in name)
    run(backward, case.extra, tmp_path, stage, name, scale=case.scale)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", list(SCORES))
def test_captures(name, stage, tmp_path):
    case = SCORES[name]
    backward = Backward(case.program, capture_grads=((0, case.rank),))
    run(backward, meaning_of(case), tmp_path, stage, name)


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in ("simplify", "split")])
@pytest.mark.parametrize("name", list(SCORES))
def test_scores(name, stage, tmp_path):
    run(Backward(SCORES[name].program), meaning_of(SCORES[name], False), tmp_path, stage, name)


@pytest.mark.parametrize("stage", ["decompose", "tile", "all"])
@pytest.mark.parametrize("delta_known", [False, True])
@pytest.mark.parametrize("gradients", ["", "q", "k", "v", "qv"])
def test_subsets(gradients, delta_known, stage, tmp_path):
    if delta_known and not gradients:
        gradients = "qkv"
    case = CASES["causal"]
    backward = Backward(case.program, gradients=gradients, delta_known=delta_known)
    run(backward, case.extra, tmp_path, stage, gradients)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", ["causal", "lengths"])
@pytest.mark.parametrize("gradients", ["qkv", "qv"])
def test_sum_of_dq(name, gradients, stage, tmp_path):
    case = CASES[name]
    backward = Backward(case.program, gradients=gradients, d_q_sum=True)
    run(backward, case.extra, tmp_path, stage, name, scale=case.scale)


# Each operation that fa-differentiate knows: %r is a function of the raw score %s
# and of the scalar %c, and its meaning; %p is positive.
POSITIVE = """        %one = arith.constant 1.0 : f32
        %square = arith.mulf %s, %s : f32
        %p = arith.addf %square, %one : f32
"""
C = np.float32(0.7)
FUNCTIONS = {
    "add": ("arith.addf %s, %c", lambda s, p, c: s + c),
    "sub": ("arith.subf %c, %s", lambda s, p, c: c - s),
    "mul": ("arith.mulf %s, %c", lambda s, p, c: s * c),
    "div": ("arith.divf %c, %p", lambda s, p, c: c / p),
    "neg": ("arith.negf %s", lambda s, p, c: -s),
    "abs": ("math.absf %s", lambda s, p, c: np.abs(s)),
    "minimum": ("arith.minimumf %s, %c", lambda s, p, c: np.minimum(s, c)),
    "maximum": ("arith.maximumf %s, %c", lambda s, p, c: np.maximum(s, c)),
    "minnum": ("arith.minnumf %c, %s", lambda s, p, c: np.minimum(s, c)),
    "maxnum": ("arith.maxnumf %c, %s", lambda s, p, c: np.maximum(s, c)),
    "exp": ("math.exp %s", lambda s, p, c: np.exp(s)),
    "exp2": ("math.exp2 %s", lambda s, p, c: np.exp2(s)),
    "log": ("math.log %p", lambda s, p, c: np.log(p)),
    "log1p": ("math.log1p %p", lambda s, p, c: np.log1p(p)),
    "sqrt": ("math.sqrt %p", lambda s, p, c: np.sqrt(p)),
    "rsqrt": ("math.rsqrt %p", lambda s, p, c: 1 / np.sqrt(p)),
    "tanh": ("math.tanh %s", lambda s, p, c: np.tanh(s)),
    "erf": ("math.erf %s", lambda s, p, c: np.vectorize(math.erf, [float])(s)),
    "sin": ("math.sin %s", lambda s, p, c: np.sin(s)),
    "cos": ("math.cos %s", lambda s, p, c: np.cos(s)),
    "pow-base": ("math.powf %p, %c", lambda s, p, c: p**c),
    "pow-exponent": ("math.powf %c, %s", lambda s, p, c: c**s),
}
# Scores where the derivative jumps; the data keep away from them.
KINKS = {"abs": (0,), **dict.fromkeys(("minimum", "maximum", "minnum", "maxnum"), (C,))}


def compare_with_differences(body, function, folder, name, kinks=()):
    """`function(s, c)` is what `body` computes; c = C is a scalar capture.

    Difference quotients are exact to about 1e-10, far below what f32 rounds.
    """
    program = Program(
        "f32",
        arguments=(("x", "f32"),),
        captures="%x : f32",
        capture_maps="unit",
        region_arguments=", %c: f32",
        score=body,
    )
    step = 1e-6
    case = Score(
        program,
        lambda rng, shape: C,
        lambda x, s, *at: function(s, x),
        lambda x, s, *at: (function(s + step, x) - function(s - step, x)) / (2 * step),
        lambda x, s, *at: ((), (function(s, x + step) - function(s, x - step)) / (2 * step)),
        0,
    )
    backward = Backward(program, capture_grads=((0, 0),))
    run(backward, meaning_of(case), folder, "decompose", name, kinks=kinks)


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_function(name, tmp_path):
    operation, function = FUNCTIONS[name]
    body = f"{POSITIVE}        %r = {operation} : f32"
    compare_with_differences(
        body, lambda s, c: function(s, s * s + 1, c), tmp_path, name, KINKS.get(name, ())
    )


def test_select(tmp_path):
    """A branch on a comparison."""
    body = """        %low = arith.mulf %s, %c : f32
        %is = arith.cmpf olt, %s, %c : f32
        %r = arith.select %is, %low, %s : f32"""
    compare_with_differences(body, lambda s, c: np.where(s < c, s * c, s), tmp_path, "select", (C,))
