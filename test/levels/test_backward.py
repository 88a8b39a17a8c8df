"""The IR after every pass down to L1 computes what `fa.attention_backward` means."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))
from execute import backward_stages, compile_function
from programs import BIAS, CAUSAL, RELATIVE, Backward, Program
from reference import attention, attention_backward
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

# Largest error of an element over 1 + the largest element: data is of order 1,
# and dp - delta cancels, so that an element has no relative error of its own.
BOUNDS = {"f16": 2e-3, "f32": 1e-5, "f64": 1e-13}


@dataclasses.dataclass
class Score:
    """A score with its derivative. `draw(rng, shape)` gives the extra arguments;
    of these, `score` and `derivative` (as in reference.py) are made."""

    program: Program
    draw: object
    score: object
    derivative: object
    captures: tuple[tuple[int, int], ...] = ()


def table(*dims):
    def draw(rng, shape):
        sizes = dict(zip("bmnhd", (*shape[:3], shape[3], shape[5]), strict=True)) | {"t": 37}
        return rng.standard_normal([sizes[d] for d in dims]).astype(np.float32)

    return draw


SOFTCAP = """        %t0 = arith.divf %s, %c : f32
        %t1 = math.tanh %t0 : f32
        %r = arith.mulf %t1, %c : f32"""


def softcap_derivative(x, raw, b, h, m, n, ds):
    t = np.tanh(raw / x)
    return ds * (1 - t * t), [((), ds * (t - raw / x * (1 - t * t)))]


SCORES = {
    "bias": Score(
        Program(**BIAS),
        table("h", "m", "n"),
        lambda x, s, b, h, m, n: s + x[h, m, n],
        lambda x, raw, b, h, m, n, ds: (ds, [((h, m, n), ds)]),
        ((0, 3),),
    ),
    "bias-rows": Score(
        Program(mask=CAUSAL, **capture(2, "b, m", ADD)),
        table("b", "m"),
        lambda x, s, b, h, m, n: s + x[b, m],
        lambda x, raw, b, h, m, n, ds: (ds, [((b, m), ds)]),
        ((0, 2),),
    ),
    "factor-columns": Score(
        Program(**capture(2, "n, h", ADD.replace("addf", "mulf"))),
        table("n", "h"),
        lambda x, s, b, h, m, n: s * x[n, h],
        lambda x, raw, b, h, m, n, ds: (ds * x[n, h], [((n, h), ds * raw)]),
        ((0, 2),),
    ),
    "alibi": Score(
        Program(mask=CAUSAL, **capture(1, "h", ALIBI)),
        table("h"),
        lambda x, s, b, h, m, n: s + x[h] * (n - m),
        lambda x, raw, b, h, m, n, ds: (ds, [((h,), ds * (n - m))]),
        ((0, 1),),
    ),
    "relative": Score(
        Program(**RELATIVE),
        table("t"),
        lambda x, s, b, h, m, n: s + x[np.clip(m - n + 20, 0, 36)],
        lambda x, raw, b, h, m, n, ds: (ds, [((np.clip(m - n + 20, 0, 36),), ds)]),
        ((0, 1),),
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
        softcap_derivative,
        ((0, 0),),
    ),
}

# Cases of the forward whose score, if any, is not differentiated here.
PLAIN = [name for name, case in CASES.items() if not case.program.score]


def check(name, result, expected, bound):
    result = np.asarray(result).astype(np.float64)
    error = np.abs(result - expected).max() / (1 + np.abs(expected).max())
    assert error <= bound, f"{name}: error {error:.3g} > {bound:.3g}"


def run(backward, extra, folder, stage, name, draw_derivative=None, scale=None, bound=None):
    """`extra(rng, shape)`: extra arguments and meaning, as in test_levels."""
    program = dataclasses.replace(backward.program, head_dim=5, head_dim_v=3)
    if program.init_lse:
        program = dataclasses.replace(program, init_lse="", arguments=())
    backward = dataclasses.replace(backward, program=program)
    dtype = NUMPY[program.dtype]
    acc = np.float64 if program.dtype == "f64" else np.float32
    bound = bound or BOUNDS[program.dtype]
    function = compile_function(backward.text(), backward_stages(TILE_M, TILE_N)[stage], folder)
    rng = np.random.default_rng([SEED, *name.encode()])
    for shape in SHAPES:
        batch, sq, sk, heads, heads_k, d, dv = shape
        q, k, v, d_o = (
            rng.standard_normal(s).astype(dtype)
            for s in (
                (batch, sq, heads, d),
                (batch, sk, heads_k, d),
                (batch, sk, heads_k, dv),
                (batch, sq, heads, dv),
            )
        )
        d_lse = rng.standard_normal((batch, heads, sq)).astype(acc) if backward.d_lse else None
        arguments, meaning = extra(rng, shape)
        factor = float(acc(d**-0.5 if scale is None else scale))
        o, lse = attention(q, k, v, scale=factor, **meaning)
        o, lse = o.astype(dtype), lse.astype(acc)
        for key in ("init_lse", "dead_lse"):
            if meaning.pop(key, None) is not None and key == "init_lse":
                arguments = ()
        more = {}
        if draw_derivative:
            more = draw_derivative(arguments)
        *expected, delta, captures = attention_backward(
            q, k, v, o, lse, d_o, d_lse, scale=factor, **meaning, **more
        )
        expected = dict(zip("qkv", expected, strict=True))
        # Data beyond the lengths never leaks.
        for lengths, arrays in (("q_lengths", (q, o, d_o)), ("k_lengths", (k, v))):
            for b, length in enumerate(meaning.get(lengths, ())):
                for array in arrays:
                    array[b, length:] = np.nan
        outs = {
            x: with_layout(np.full(expected[x].shape, np.nan, dtype), program.layout)
            for x in backward.gradients
        }
        d_captures = [np.full(x.shape, np.nan, acc) for x in captures]
        out_delta = delta.astype(acc) if backward.delta_known else np.full(lse.shape, np.nan, acc)
        q, k, v, o, d_o = (with_layout(x, program.layout) for x in (q, k, v, o, d_o))
        function(
            *(q, k, v, lse, d_o),
            *([] if backward.delta_known else [o]),
            *([] if d_lse is None else [d_lse]),
            *(acc(factor), *arguments, out_delta, *outs.values(), *d_captures),
        )
        try:
            check("delta", out_delta, delta, bound)
            assert (out_delta[np.isinf(lse)] == 0).all(), "delta of dead rows"
            unused = ~expected["v"].any(axis=-1)  # keys that no row keeps
            for x, out in outs.items():
                out = out if program.layout == "bshd" else out.transpose(0, 2, 1, 3)
                check(f"d_{x}", out, expected[x], bound)
                dead = np.isinf(lse).transpose(0, 2, 1) if x == "q" else unused
                assert (out[dead] == 0).all(), f"d_{x} is not exactly zero where nothing is kept"
            for result, gradient in zip(d_captures, captures, strict=True):
                check("d_capture", result, gradient, bound * max(1, sq))
        except AssertionError as error:
            raise AssertionError(f"shape {shape}, seed {SEED}: {error}") from error


@pytest.mark.parametrize("stage", list(backward_stages(1, 1)))
@pytest.mark.parametrize("name", PLAIN)
def test_backward(name, stage, tmp_path):
    case = CASES[name]
    backward = Backward(case.program, d_lse="causal" in name)
    run(backward, case.extra, tmp_path, stage, name, scale=case.scale)


@pytest.mark.parametrize("stage", list(backward_stages(1, 1)))
@pytest.mark.parametrize("name", list(SCORES))
def test_scores(name, stage, tmp_path):
    case = SCORES[name]

    def extra(rng, shape):
        x = case.draw(rng, shape)
        score = lambda *at: case.score(np.float64(x), *at)  # noqa: E731
        meaning = {"score": score}
        if case.program.mask:
            meaning["mask"] = lambda b, h, m, n: n <= m + shape[2] - shape[1]
        return (x,), meaning

    def derivative(arguments):
        x = np.float64(arguments[0])
        return {"derivative": lambda *at: case.derivative(x, *at), "captures": [x.shape]}

    backward = Backward(case.program, capture_grads=case.captures)
    run(backward, extra, tmp_path, stage, name, derivative)


@pytest.mark.parametrize("stage", list(backward_stages(1, 1)))
@pytest.mark.parametrize("delta_known", [False, True])
@pytest.mark.parametrize("gradients", ["", "q", "k", "v", "qv"])
def test_subsets(gradients, delta_known, stage, tmp_path):
    if delta_known and not gradients:
        gradients = "qkv"
    case = CASES["causal"]
    backward = Backward(case.program, gradients=gradients, delta_known=delta_known)
    run(backward, case.extra, tmp_path, stage, gradients)


# Each operation that fa-differentiate knows: %r is a function of the raw score %s
# and of the scalar %c, and its meaning; %p is positive.
POSITIVE = """        %one = arith.constant 1.0 : f64
        %square = arith.mulf %s, %s : f64
        %p = arith.addf %square, %one : f64
"""
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


def compare_with_differences(body, function, folder, name):
    """`function(s, c)` is what `body` computes; c = 0.7 is a scalar capture."""
    program = Program(
        "f64",
        arguments=(("x", "f64"),),
        captures="%x : f64",
        capture_maps="unit",
        region_arguments=", %c: f64",
        score=body,
    )

    def derivative(arguments):
        x, step = float(arguments[0]), 1e-6

        def of(raw, b, h, m, n, ds):
            slope = (function(raw + step, x) - function(raw - step, x)) / (2 * step)
            by_x = (function(raw, x + step) - function(raw, x - step)) / (2 * step)
            return ds * slope, [((), ds * by_x)]

        return {"derivative": of, "captures": [()]}

    def extra(rng, shape):
        return (np.float64(0.7),), {"score": lambda s, *at: function(s, 0.7)}

    backward = Backward(program, capture_grads=((0, 0),))
    run(backward, extra, folder, "decompose", name, derivative, bound=1e-7)


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_function(name, tmp_path):
    operation, function = FUNCTIONS[name]
    body = f"{POSITIVE}        %r = {operation} : f64"
    compare_with_differences(body, lambda s, c: function(s, s * s + 1, c), tmp_path, name)


def test_select(tmp_path):
    """A branch on a comparison."""
    body = """        %low = arith.mulf %s, %c : f64
        %is = arith.cmpf olt, %s, %c : f64
        %r = arith.select %is, %low, %s : f64"""
    compare_with_differences(body, lambda s, c: np.where(s < c, s * c, s), tmp_path, "select")
