"""fa.combine as MLIR text, partial results with dead parts, and what they merge to."""

from __future__ import annotations

import numpy as np

SCHEDULE = (
    '#fa.schedule<tile_m = {m}, tile_n = {n}, plan = #tile.plan<chip = "cpu", '
    'mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>'
)
# (parts, B, M, H, E)
SHAPES = [(1, 1, 1, 1, 1), (3, 2, 3, 2, 5), (9, 1, 2, 3, 40), (70, 1, 1, 2, 33)]
MAPS = [
    "affine_map<(s, b, h, m, e) -> (s, b, m, h, e)>",
    "affine_map<(s, b, h, m, e) -> (s, b, h, m)>",
    "affine_map<(s, b, h, m, e) -> (b, m, h, e)>",
    "affine_map<(s, b, h, m, e) -> (b, h, m)>",
]


def program(dtype="f16", acc="f32", init=False, dead_lse=None, schedule=None):
    types = {
        "o_parts": f"memref<?x?x?x?x?x{acc}>",
        "lse_parts": f"memref<?x?x?x?x{acc}>",
        "init": f"memref<?x?x?x{acc}>",
        "o": f"memref<?x?x?x?x{dtype}>",
        "lse": f"memref<?x?x?x{acc}>",
    }
    if not init:
        del types["init"]
    attributes = [f"indexing_maps = [{', '.join(MAPS)}]"]
    attributes += [f"dead_lse = {dead_lse} : f64"] if dead_lse else []
    attributes += [f"fa.schedule = {schedule}"] if schedule else []
    start = f"init_lse(%init : {types['init']})" if init else ""
    return f"""
func.func @attention({", ".join(f"%{name}: {kind}" for name, kind in types.items())}) {{
  fa.combine ins(%o_parts, %lse_parts : {types["o_parts"]}, {types["lse_parts"]}) {start}
    outs(%o, %lse : {types["o"]}, {types["lse"]}) {{{", ".join(attributes)}}}
  return
}}
"""


def draw(rng, shape, acc, init):
    parts, b, m, h, e = shape
    o_parts = rng.standard_normal((parts, b, m, h, e)).astype(acc)
    lse_parts = (rng.standard_normal((parts, b, h, m)) * 20).astype(acc)
    dead = rng.random(lse_parts.shape) < 0.4
    dead[:, 0, 0, 0] = rng.random() < 0.5  # sometimes all parts of a row
    lse_parts[dead] = -np.inf
    # What a dead part holds never leaks.
    o_parts.transpose(0, 1, 3, 2, 4)[dead] = np.nan
    start = None
    if init:
        start = (rng.standard_normal((b, h, m)) * 20).astype(acc)
        start[rng.random(start.shape) < 0.4] = -np.inf
    return o_parts, lse_parts, start


def reference(o_parts, lse_parts, start, dead_lse):
    o_parts = o_parts.astype(np.float64).transpose(0, 1, 3, 2, 4)
    weights = lse_parts.astype(np.float64)
    every = weights if start is None else np.concatenate([weights, start[None]])
    top = every.max(0)
    top = np.where(np.isinf(top), 0.0, top)
    total = np.exp(every - top).sum(0)
    dead = total == 0
    with np.errstate(divide="ignore"):
        lse = np.where(dead, dead_lse, np.log(total) + top)
    p = np.exp(weights - np.where(dead, 0.0, lse))[..., None]
    o = np.where(p == 0, 0.0, p * np.where(weights[..., None] == -np.inf, 0.0, o_parts)).sum(0)
    return o.transpose(0, 2, 1, 3), lse


def check(call, rng, dtype="f16", acc="f32", init=False, dead_lse=-np.inf):
    numpy = {"f16": np.float16, "f32": np.float32, "f64": np.float64}
    for shape in SHAPES:
        o_parts, lse_parts, start = draw(rng, shape, numpy[acc], init)
        o = np.full(shape[1:], np.nan, numpy[dtype])
        lse = np.full((shape[1], shape[3], shape[2]), np.nan, numpy[acc])
        call(o_parts, lse_parts, *([start] if init else []), o, lse)
        want, want_lse = reference(o_parts, lse_parts, start, dead_lse)
        dead = np.isinf(want_lse)
        np.testing.assert_array_equal(lse[dead], want_lse[dead])
        assert (o.transpose(0, 2, 1, 3)[dead] == 0).all()
        # Base 2 and back costs some roundings of numbers up to 60 * log2(e).
        tolerance = {"f16": 2e-3, "f32": 3e-5, "f64": 1e-12}[dtype]
        np.testing.assert_allclose(
            lse[~dead], want_lse[~dead], rtol=1e-12 if acc == "f64" else 1e-5
        )
        np.testing.assert_allclose(o, want, rtol=tolerance, atol=tolerance)
