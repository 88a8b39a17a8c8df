"""fa-differentiate: gradients through score regions, against finite differences."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))
from execute import TILE, compile_function
from reference import attention

Q = "memref<?x?x?x3xf64>"
LSE = "memref<?x?x?xf64>"
PROGRAM = """
#q = affine_map<(b, h, m, n, d, e) -> (b, m, h, d)>
#k = affine_map<(b, h, m, n, d, e) -> (b, n, h, d)>
#v = affine_map<(b, h, m, n, d, e) -> (b, n, h, e)>
#o = affine_map<(b, h, m, n, d, e) -> (b, m, h, e)>
#lse = affine_map<(b, h, m, n, d, e) -> (b, h, m)>
func.func @attention(%q: @Q@, %k: @Q@, %v: @Q@, %o: @Q@, %lse: @LSE@, %do: @Q@, %dlse: @LSE@,
    %scale: f64, %delta: @LSE@, %dq: @Q@, %dk: @Q@, %dv: @Q@) {
  fa.attention_backward ins(%q, %k, %v, %lse, %do : @Q@, @Q@, @Q@, @LSE@, @Q@) o(%o : @Q@)
      d_lse(%dlse : @LSE@) scale(%scale : f64) delta(%delta : @LSE@)
      d_q(%dq : @Q@) d_k(%dk : @Q@) d_v(%dv : @Q@) {indexing_maps = [#q, #k, #v, #o, #lse]}
      score {
      ^bb0(%s: f64, %b: index, %h: index, %m: index, %n: index):
        %one = arith.constant 1.0 : f64
        %half = arith.constant 0.5 : f64
        %ss = arith.mulf %s, %s : f64
        %p = arith.addf %ss, %one : f64
@BODY@
        fa.yield %y : f64
      }
  return
}
""".replace("@Q@", Q).replace("@LSE@", LSE)

# In the regions: ss = s * s, p = s * s + 1.
REGIONS = {
    "arithmetic": (
        """%a = arith.divf %s, %p : f64
        %c = arith.subf %ss, %a : f64
        %d = arith.negf %s : f64
        %y = math.fma %c, %half, %d : f64""",
        lambda s: (s * s - s / (s * s + 1)) * 0.5 - s,
    ),
    "choices": (
        """%a = math.absf %s : f64
        %c = arith.mulf %s, %half : f64
        %d = arith.minimumf %c, %half : f64
        %e = arith.maximumf %a, %d : f64
        %f = arith.minnumf %e, %p : f64
        %g = arith.maxnumf %f, %c : f64
        %less = arith.cmpf olt, %s, %half : f64
        %i = arith.select %less, %ss, %s : f64
        %y = arith.addf %g, %i : f64""",
        lambda s: (
            np.maximum(np.minimum(np.maximum(np.abs(s), np.minimum(s / 2, 0.5)), s * s + 1), s / 2)
            + np.where(s < 0.5, s * s, s)
        ),
    ),
    "exponentials": (
        """%a = math.exp %s : f64
        %c = arith.addf %a, %one : f64
        %d = math.log %c : f64
        %e = arith.mulf %s, %half : f64
        %f = math.exp2 %e : f64
        %g = math.log1p %f : f64
        %y = arith.addf %d, %g : f64""",
        lambda s: np.log(np.exp(s) + 1) + np.log1p(np.exp2(s / 2)),
    ),
    "roots": (
        """%a = math.sqrt %p : f64
        %c = math.rsqrt %p : f64
        %y = arith.subf %a, %c : f64""",
        lambda s: np.sqrt(s * s + 1) - 1 / np.sqrt(s * s + 1),
    ),
    "waves": (
        """%a = math.tanh %s : f64
        %c = math.erf %s : f64
        %d = math.sin %s : f64
        %e = math.cos %s : f64
        %f = arith.mulf %a, %c : f64
        %g = arith.mulf %d, %e : f64
        %y = arith.addf %f, %g : f64""",
        lambda s: np.tanh(s) * erf(s) + np.sin(s) * np.cos(s),
    ),
    "powers": (
        """%a = math.powf %p, %half : f64
        %c = math.powf %p, %s : f64
        %y = arith.subf %a, %c : f64""",
        lambda s: (s * s + 1) ** 0.5 - (s * s + 1) ** s,
    ),
    "no dependence": (
        """%i = arith.index_cast %n : index to i32
        %y = arith.sitofp %i : i32 to f64""",
        lambda s: np.broadcast_to(np.arange(s.shape[1]) * 1.0, s.shape),
    ),
}


def erf(x):
    """By its power series, to double precision for |x| < 4."""
    term, total = x.copy(), x.copy()
    for i in range(1, 100):
        term = -term * x * x / i
        total = total + term / (2 * i + 1)
    return 2 / np.sqrt(np.pi) * total


@pytest.mark.parametrize("name", list(REGIONS))
def test_gradients(name, tmp_path):
    # Always the same: a score at a kink has no difference quotient.
    rng = np.random.default_rng(list(name.encode()))
    body, score = REGIONS[name]
    function = compile_function(
        PROGRAM.replace("@BODY@", "        " + body),
        [f"--fa-lower-to-tile=override={TILE.format(m=4, n=2)}", "--convert-tile-to-linalg"],
        tmp_path,
    )
    inputs = [rng.standard_normal((1, n, 2, 3)) for n in (3, 5, 5)]
    d_o, d_lse = rng.standard_normal((1, 3, 2, 3)), rng.standard_normal((1, 2, 3))
    scale = 0.6

    def forward():
        return attention(*inputs, scale=scale, score=lambda s, b, h, m, n: score(s))[:2]

    def loss():
        o, lse = forward()
        return (o * d_o).sum() + (lse * d_lse).sum()

    o, lse = forward()
    gradients = [np.full(x.shape, np.nan) for x in inputs]
    delta = np.full(lse.shape, np.nan)
    function(*inputs, o, lse, d_o, d_lse, np.float64(scale), delta, *gradients)
    step = 1e-5
    for array, gradient in zip(inputs, gradients):
        numeric = np.empty_like(array)
        for place in np.ndindex(array.shape):
            value = array[place]
            array[place] = value + step
            above = loss()
            array[place] = value - step
            numeric[place] = (above - loss()) / (2 * step)
            array[place] = value
        assert np.linalg.norm(gradient - numeric) <= 1e-7 * (1 + np.linalg.norm(numeric))
