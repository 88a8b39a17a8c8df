"""Executes tile programs on the host and compares with float64 NumPy."""

import os
import sys

import numpy as np
import pytest

sys.path.insert(0, os.path.dirname(__file__))
from hostcode import attention_text, call, compile_text

SAMPLE = os.path.join(os.path.dirname(__file__), "../Dialect/Tile/l1-attention.mlir")
MM = (
    "maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, "
    "affine_map<(m, n, k) -> (m, n)>]"
)
NT = (
    "maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, "
    "affine_map<(m, n, k) -> (m, n)>]"
)
# Relative L2 error: rounding of the inputs' type where results have it.
TOLERANCE = {"f64": 1e-14, "f32": 3e-6, "f16": 1e-3, "bf16": 8e-3}


def to_bf16(x):
    """Round to nearest even, kept in uint16."""
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def cast(x, dtype):
    if dtype == "bf16":
        return to_bf16(x)
    return x.astype({"f16": np.float16, "f32": np.float32, "f64": np.float64}[dtype])


def value(x):
    """As float64; uint16 is bf16."""
    if x.dtype == np.uint16:
        return (x.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return x.astype(np.float64)


def poisoned(shape, dtype):
    if dtype == "bf16":
        return np.full(shape, 0x7FC0, np.uint16)
    return cast(np.full(shape, np.nan), dtype)


def rng():
    seed = int.from_bytes(os.urandom(4), "little")
    print("seed", seed)
    return np.random.default_rng(seed)


def check(got, want, tolerance):
    got = value(got)
    assert np.isfinite(got).all()
    error = np.linalg.norm(got - want) / np.linalg.norm(want)
    assert error < tolerance, error
    rows = np.linalg.norm(got - want, axis=-1) / np.maximum(np.linalg.norm(want, axis=-1), 1e-6)
    assert rows.max() < 10 * tolerance, rows.max()


_cache = {}


def program(text, pipeline="fa-lower-tiles-to-cpu"):
    if text not in _cache:
        _cache[text] = compile_text(text, pipeline)
    return _cache[text]


def sample_text(dtype):
    text = open(SAMPLE).read()
    if dtype in ("f32", "f64"):
        for line in (
            "%ph = arith.truncf %p : tensor<128x64xf32> to tensor<128x64xf16>",
            "%oh = arith.truncf %of : tensor<128x64xf32> to tensor<128x64xf16>",
        ):
            assert line in text
            text = text.replace(line, "")
        text = text.replace("%ph", "%p").replace("%oh", "%of")
    if dtype == "f64":
        text = text.replace("xf32", "xf64").replace(": f32", ": f64")
        text = text.replace("0xFF800000", "0xFFF0000000000000")
        text = text.replace("1.44269504", "1.4426950408889634")
        text = text.replace("0.69314718", "0.6931471805599453")
    return text.replace("xf16", "x" + dtype)


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "f64"])
@pytest.mark.parametrize("lq,lk", [(128, 64), (1, 1), (130, 67), (300, 257), (5, 700)])
def test_attention(dtype, lq, lk):
    r = rng()
    b, h, hk, d = 2, 4, 2, 64
    q = cast(r.standard_normal((b, lq, h, d)), dtype)
    k = cast(r.standard_normal((b, lk, hk, d)), dtype)
    v = cast(r.standard_normal((b, lk, hk, d)), dtype)
    acc = np.float64 if dtype == "f64" else np.float32
    o = poisoned(q.shape, dtype)
    lse = np.full((b, h, lq), np.nan, acc)
    call(program(sample_text(dtype)), b * h * -(-lq // 128), q, k, v, acc(d**-0.5), o, lse)
    kk = np.repeat(value(k), h // hk, axis=2)
    vv = np.repeat(value(v), h // hk, axis=2)
    s = np.einsum("bmhd,bnhd->bhmn", value(q), kk) * d**-0.5
    m = s.max(-1, keepdims=True)
    p = np.exp(s - m)
    total = p.sum(-1, keepdims=True)
    want = np.einsum("bhmn,bnhe->bmhe", p / total, vv)
    check(o, want, TOLERANCE[dtype])
    # Also absolute: a single score may be nearly zero, its rounding is not.
    tolerance = 1e-14 if dtype == "f64" else 2e-6
    np.testing.assert_allclose(lse, (m + np.log(total))[..., 0], tolerance, tolerance)


def test_attention_offset_view_and_strides():
    """Views with odd strides, heads before rows."""
    r = rng()
    b, h, lq, lk, d = 1, 2, 70, 90, 64
    base = [r.standard_normal((b, h, n, d + 3)).astype(np.float32) for n in (lq, lk, lk)]
    q, k, v = (x[..., 1 : d + 1].transpose(0, 2, 1, 3) for x in base)
    store = np.full((b, h, lq, d + 5), np.nan, np.float32)
    o = store[..., 2 : d + 2].transpose(0, 2, 1, 3)
    lse = np.full((b, h, lq), np.nan, np.float32)
    call(program(sample_text("f32")), b * h, q, k, v, np.float32(0.3), o, lse)
    s = np.einsum("bmhd,bnhd->bhmn", value(q), value(k)) * np.float64(np.float32(0.3))
    p = np.exp(s - s.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    check(o, np.einsum("bhmn,bnhe->bmhe", p, value(v)), TOLERANCE["f32"])
    assert np.isnan(store[..., :2]).all() and np.isnan(store[..., d + 2 :]).all()


def exact_text(dtype, partial):
    """The sample, causal, with products that spare masked keys NaN and infinity:
    where V has them, blocks with `partial` true go key by key."""
    acc = "f64" if dtype == "f64" else "f32"
    narrow = dtype in ("f16", "bf16")
    text = sample_text(dtype)
    S, A = f"tensor<128x64x{acc}>", f"tensor<128x{acc}>"
    I, B = "tensor<128x64xi32>", "tensor<128x64xi1>"
    V = f"memref<?x64x{dtype}, strided<[?, 1], offset: ?>>"
    R = f"memref<64x{dtype}, strided<[1], offset: ?>>"
    keep = f"%keep = arith.cmpi slt, %n, %lkt : {I}"
    assert keep in text
    text = text.replace(
        keep,
        f"""
      %gap = arith.subi %lk, %lq : index
      %diagonal = arith.addi %m0, %gap : index
      %diagonal32 = arith.index_cast %diagonal : index to i32
      %diagonalt = tile.splat %diagonal32 : i32 -> {I}
      %row32 = tile.iota dim 0 : {I}
      %last = arith.addi %diagonalt, %row32 : {I}
      %inside = arith.cmpi slt, %n, %lkt : {I}
      %below = arith.cmpi sle, %n, %last : {I}
      %keep = arith.andi %inside, %below : {B}""",
    )
    start, end = text.index("%acc2 = tile.contract"), text.index("scf.yield %acc2")
    contract = text[start:end]
    widened = f"%v2 = arith.extf %v1 : tensor<64x{dtype}> to tensor<64x{acc}>" if narrow else ""
    return (
        text[:start]
        + f"""
      %c64 = arith.constant 64 : index
      %left = arith.subi %lk, %n0 : index
      %limit = arith.minsi %left, %c64 : index
      %any = tile.nonfinite %vt : tensor<64x64x{dtype}>
      %end = arith.addi %n0, %c64 : index
      %masked = arith.cmpi sgt, %end, %diagonal : index
      %ragged = arith.cmpi sgt, %end, %lk : index
      %partial = {partial}
      %exact = arith.andi %any, %partial : i1
      %acc2 = scf.if %exact -> ({S}) {{
        %r2 = scf.for %x = %c0 to %limit step %c1 iter_args(%a = %acc1) -> ({S}) {{
          %nx = arith.addi %n0, %x : index
          %row = memref.subview %vs[%nx, 0] [1, 64] [1, 1] : {V} to {R}
          %v1 = tile.load %row[%c0] : {R} -> tensor<64x{dtype}>
          {widened}
          %vb = tile.broadcast {"%v2" if narrow else "%v1"} dim 0 : tensor<64x{acc}> -> {S}
          %xi = arith.index_cast %x : index to i32
          %xs = tile.splat %xi : i32 -> {I}
          %is = arith.cmpi eq, %col, %xs : {I}
          %pc = arith.select %is, %p, %zero : {B}, {S}
          %px = tile.reduce add %pc dim 1 : {S} -> {A}
          %sc = arith.select %is, %s2, %ninf2 : {B}, {S}
          %sx = tile.reduce max %sc dim 1 : {S} -> {A}
          %live0 = arith.cmpf une, %sx, %ninf : {A}
          %nan = arith.cmpf uno, %px, %px : {A}
          %live = arith.ori %live0, %nan : tensor<128xi1>
          %lb = tile.broadcast %live dim 1 : tensor<128xi1> -> {B}
          %pb = tile.broadcast %px dim 1 : {A} -> {S}
          %prod = arith.mulf %pb, %vb : {S}
          %sel = arith.select %lb, %prod, %zero : {B}, {S}
          %a2 = arith.addf %a, %sel : {S}
          scf.yield %a2 : {S}
        }}
        scf.yield %r2 : {S}
      }} else {{
        {contract.replace("%acc2", "%acc3")}
        scf.yield %acc3 : {S}
      }}
      """
        + text[end:]
    )


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "f64"])
@pytest.mark.parametrize(
    "partial", ["arith.ori %masked, %ragged : i1", "arith.constant true", "arith.constant false"]
)
@pytest.mark.parametrize("lq,lk", [(130, 67), (200, 333), (5, 70), (256, 256)])
def test_nonfinite_values(dtype, partial, lq, lk):
    """NaN and infinity in V reach exactly the queries that see their keys."""
    r = rng()
    b, h, hk, d = 1, 2, 1, 64
    q = cast(r.standard_normal((b, lq, h, d)), dtype)
    k = cast(r.standard_normal((b, lk, hk, d)), dtype)
    clean = cast(r.standard_normal((b, lk, hk, d)), dtype)
    acc = np.float64 if dtype == "f64" else np.float32
    function = program(exact_text(dtype, partial))
    s = np.einsum("bmhd,bnhd->bhmn", value(q), np.repeat(value(k), h // hk, axis=2)) * d**-0.5
    m_, n_ = np.ogrid[:lq, :lk]
    keep = m_ + lk - lq >= n_
    s = np.where(keep, s, -np.inf)
    top = s.max(-1, keepdims=True)
    p = np.exp(s - np.where(np.isfinite(top), top, 0))
    p /= np.maximum(p.sum(-1, keepdims=True), 1e-30)
    bad = [] if "false" in partial else [np.nan, np.inf, -np.inf]
    for poison in [None, *bad]:
        v = clean.copy()
        if poison is not None:
            for n in {lk - 1, lk // 2, min(lk - 1, 64)}:
                v[0, n, 0, r.integers(0, d, 3)] = cast(np.array(poison), dtype)
        o = poisoned(q.shape, dtype)
        lse = np.full((b, h, lq), np.nan, acc)
        call(function, b * h * -(-lq // 128), q, k, v, acc(d**-0.5), o, lse)
        vv = value(v)[:, :, 0]
        with np.errstate(invalid="ignore"):
            terms = p[..., None] * vv[:, None, None]
        want = np.where(keep[..., None], terms, 0).sum(-2).transpose(0, 2, 1, 3)
        got = value(o)
        finite = np.isfinite(want)
        assert np.isnan(got[np.isnan(want)]).all()
        assert not np.isfinite(got[~finite]).any()
        check(np.where(finite, got, 0), np.where(finite, want, 0), TOLERANCE[dtype])
        if poison is not None:
            assert finite.any() and not finite.all()


def matmul_text(dtype, acc, tm, tn, tk, tail=""):
    trunc = f"%rt = arith.truncf %r : tensor<{tm}x{tn}x{acc}> to tensor<{tm}x{tn}x{dtype}>"
    result = "%rt"
    if dtype == acc:
        trunc, result = "", "%r"
    return f"""
func.func @matmul(%a: memref<?x?x{dtype}, strided<[?, 1], offset: ?>>,
                  %b: memref<?x?x{dtype}, strided<[?, 1], offset: ?>>,
                  %c: memref<?x?x{dtype}, strided<[?, 1], offset: ?>>) {{
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %m = memref.dim %a, %c0 : memref<?x?x{dtype}, strided<[?, 1], offset: ?>>
  %n = memref.dim %b, %c1 : memref<?x?x{dtype}, strided<[?, 1], offset: ?>>
  %k = memref.dim %a, %c1 : memref<?x?x{dtype}, strided<[?, 1], offset: ?>>
  %gm = affine.apply affine_map<()[s0] -> (s0 ceildiv {tm})>()[%m]
  %gn = affine.apply affine_map<()[s0] -> (s0 ceildiv {tn})>()[%n]
  %gk = affine.apply affine_map<()[s0] -> (s0 ceildiv {tk})>()[%k]
  scf.forall (%i, %j) in (%gm, %gn) {{
    %m0 = affine.apply affine_map<(d0) -> (d0 * {tm})>(%i)
    %n0 = affine.apply affine_map<(d0) -> (d0 * {tn})>(%j)
    %zero = arith.constant dense<0.0> : tensor<{tm}x{tn}x{acc}>
    %r = scf.for %kk = %c0 to %gk step %c1 iter_args(%acc = %zero) -> (tensor<{tm}x{tn}x{acc}>) {{
      %k0 = affine.apply affine_map<(d0) -> (d0 * {tk})>(%kk)
      %at = tile.load %a[%m0, %k0] : memref<?x?x{dtype}, strided<[?, 1], offset: ?>> -> tensor<{tm}x{tk}x{dtype}>
      %bt = tile.load %b[%k0, %n0] : memref<?x?x{dtype}, strided<[?, 1], offset: ?>> -> tensor<{tk}x{tn}x{dtype}>
      %p = tile.contract %at, %bt, %acc {{{MM}}}
          : tensor<{tm}x{tk}x{dtype}>, tensor<{tk}x{tn}x{dtype}>, tensor<{tm}x{tn}x{acc}>
      scf.yield %p : tensor<{tm}x{tn}x{acc}>
    }}
    {tail}
    {trunc}
    tile.store {result}, %c[%m0, %n0] : tensor<{tm}x{tn}x{dtype}>, memref<?x?x{dtype}, strided<[?, 1], offset: ?>>
  }}
  return
}}"""


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "f64"])
@pytest.mark.parametrize("tile", [(32, 32, 16), (24, 40, 24), (7, 5, 3), (64, 64, 64)])
@pytest.mark.parametrize("shape", [(64, 64, 64), (33, 71, 45), (1, 1, 1)])
def test_matmul(dtype, tile, shape):
    r = rng()
    m, n, k = shape
    a, b = cast(r.standard_normal((m, k)), dtype), cast(r.standard_normal((k, n)), dtype)
    c = poisoned((m, n), dtype)
    acc = "f64" if dtype == "f64" else "f32"
    points = -(-m // tile[0]) * -(-n // tile[1])
    call(program(matmul_text(dtype, acc, *tile)), points, a, b, c)
    check(c, value(a) @ value(b), TOLERANCE[dtype])


def test_row_normalised_product():
    """c = (a b) / rowsum(a b) with one tile over all columns."""
    tm, tn = 32, 48
    tail = f"""
    %sum = tile.reduce add %r0 dim 1 : tensor<{tm}x{tn}xf32> -> tensor<{tm}xf32>
    %sb = tile.broadcast %sum dim 1 : tensor<{tm}xf32> -> tensor<{tm}x{tn}xf32>
    %r = arith.divf %r0, %sb : tensor<{tm}x{tn}xf32>"""
    text = matmul_text("f32", "f32", tm, tn, 16, tail).replace("%r = scf.for", "%r0 = scf.for")
    r = rng()
    a = r.random((50, 37)).astype(np.float32)
    b = r.random((37, 48)).astype(np.float32)
    c = poisoned((50, 48), "f32")
    call(program(text), 2, a, b, c)
    product = value(a) @ value(b)
    check(c, product / product.sum(-1, keepdims=True), TOLERANCE["f32"])


@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_chained_contractions(dtype):
    """o = (q k^T) v without softmax, ragged."""
    M = f"memref<?x40x{dtype}, strided<[?, 1], offset: ?>>"
    trunc = (
        ""
        if dtype == "f32"
        else f"%st = arith.truncf %s : tensor<32x24xf32> to tensor<32x24x{dtype}>"
    )
    st = "%s" if dtype == "f32" else "%st"
    end = (
        ""
        if dtype == "f32"
        else f"%rt = arith.truncf %r : tensor<32x40xf32> to tensor<32x40x{dtype}>"
    )
    rt = "%r" if dtype == "f32" else "%rt"
    text = f"""
func.func @chain(%q: {M}, %k: {M}, %v: {M}, %o: {M}) {{
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %lq = memref.dim %q, %c0 : {M}
  %lk = memref.dim %k, %c0 : {M}
  %g = affine.apply affine_map<()[s0] -> (s0 ceildiv 32)>()[%lq]
  %e = affine.apply affine_map<()[s0] -> (s0 ceildiv 24)>()[%lk]
  scf.forall (%i) in (%g) {{
    %m0 = affine.apply affine_map<(d0) -> (d0 * 32)>(%i)
    %qt = tile.load %q[%m0, %c0] : {M} -> tensor<32x40x{dtype}>
    %z = arith.constant dense<0.0> : tensor<32x40xf32>
    %zs = arith.constant dense<0.0> : tensor<32x24xf32>
    %r = scf.for %j = %c0 to %e step %c1 iter_args(%acc = %z) -> (tensor<32x40xf32>) {{
      %n0 = affine.apply affine_map<(d0) -> (d0 * 24)>(%j)
      %kt = tile.load %k[%n0, %c0] : {M} -> tensor<24x40x{dtype}>
      %vt = tile.load %v[%n0, %c0] : {M} -> tensor<24x40x{dtype}>
      %s = tile.contract %qt, %kt, %zs {{{NT}}}
          : tensor<32x40x{dtype}>, tensor<24x40x{dtype}>, tensor<32x24xf32>
      {trunc}
      %a = tile.contract {st}, %vt, %acc {{{MM}}}
          : tensor<32x24x{dtype}>, tensor<24x40x{dtype}>, tensor<32x40xf32>
      scf.yield %a : tensor<32x40xf32>
    }}
    {end}
    tile.store {rt}, %o[%m0, %c0] : tensor<32x40x{dtype}>, {M}
  }}
  return
}}"""
    r = rng()
    q, k, v = (cast(r.standard_normal((n, 40)), dtype) for n in (45, 61, 61))
    o = poisoned((45, 40), dtype)
    call(program(text), 2, q, k, v, o)
    check(o, value(q) @ value(k).T @ value(v), TOLERANCE[dtype])


def pointwise_text(body, dtype="f32", shape=(10, 20)):
    T = f"tensor<{shape[0]}x{shape[1]}x{dtype}>"
    I = f"tensor<{shape[0]}x{shape[1]}xi32>"
    M = f"memref<?x?x{dtype}, strided<[?, ?], offset: ?>>"
    body = body.replace("TI", I).replace("TT", T)
    return f"""
func.func @pointwise(%x: {M}, %table: memref<?xf32>, %y: {M}) {{
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c3 = arith.constant 3 : index
  scf.forall (%point) in (1) {{
    %t = tile.load %x[%c0, %c0] : {M} -> {T}
    {body}
    tile.store %r, %y[%c0, %c0] : {T}, {M}
  }}
  return
}}"""


def run_pointwise(body, x, dtype="f32", table=None):
    y = np.full_like(x, np.nan)
    if table is None:
        table = np.zeros(1, np.float32)
    call(program(pointwise_text(body, dtype, x.shape)), 1, x, table, y)
    return y


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(
    "op,want",
    [
        ("exp2", np.exp2),
        ("exp", np.exp),
        ("tanh", np.tanh),
        ("sin", np.sin),
        ("cos", np.cos),
        ("erf", None),
        ("log", np.log),
        ("log2", np.log2),
        ("log1p", np.log1p),
        ("sqrt", np.sqrt),
        ("rsqrt", lambda x: 1 / np.sqrt(x)),
        ("absf", np.abs),
        ("floor", np.floor),
        ("powf", lambda x: np.power(x, x)),
    ],
)
def test_functions(dtype, op, want):
    r = rng()
    x = cast(r.random((10, 20)) * 5 + 0.1, dtype)
    if op == "erf":
        import math

        want = np.vectorize(math.erf)
    operands = "%t, %t" if op == "powf" else "%t"
    y = run_pointwise(f"%r = math.{op} {operands} : TT", x, dtype)
    np.testing.assert_allclose(
        value(y),
        want(value(x)),
        rtol=2e-15
        if dtype == "f64" and op in ("sqrt", "exp2")
        else 1e-13
        if dtype == "f64"
        else 1e-6,
        atol=1e-6 if dtype == "f32" else 1e-14,
    )


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_exp2(dtype):
    r = rng()
    big = 1020 if dtype == "f64" else 125
    x = cast(r.uniform(-big, big, (64, 64)), dtype)
    x.flat[:12] = [0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e30, -1e30, big + 2.9, -1e5, 0.5]
    y = run_pointwise("%r = math.exp2 %t : TT", x, dtype)
    with np.errstate(over="ignore"):
        want = np.exp2(x.astype(np.longdouble))
        limit = np.finfo(x.dtype)
        want = np.where(want > limit.max, np.inf, want).astype(x.dtype)
    assert np.isnan(y.flat[6]) and y.flat[5] == 0 and y.flat[4] == np.inf and y.flat[0] == 1
    assert y.flat[7] == np.inf and y.flat[8] == 0 and y.flat[10] == 0
    keep = np.isfinite(want) & (want > 0)
    ulp = np.abs(y[keep] - want[keep]) / np.spacing(want[keep])
    assert ulp.max() <= 1.5, ulp.max()


def test_reductions_both_ways():
    """Column and row statistics of one tile; NaN is ignored by max."""
    r = rng()
    x = r.standard_normal((10, 20)).astype(np.float32)
    body = """
    %a = tile.reduce add %t dim 1 : TT -> tensor<10xf32>
    %b = tile.reduce max %t dim 0 : TT -> tensor<20xf32>
    %ab = tile.broadcast %a dim 1 : tensor<10xf32> -> TT
    %bb = tile.broadcast %b dim 0 : tensor<20xf32> -> TT
    %p = arith.mulf %ab, %bb : TT
    %r = arith.addf %p, %t : TT"""
    y = run_pointwise(body, x)
    want = value(x).sum(1)[:, None] * value(x).max(0)[None] + value(x)
    check(y, want, 1e-6)
    x[3, 4] = np.nan
    body = """
    %b = tile.reduce max %t dim 0 : TT -> tensor<20xf32>
    %r = tile.broadcast %b dim 0 : tensor<20xf32> -> TT"""
    np.testing.assert_array_equal(run_pointwise(body, x)[0], np.fmax.reduce(x, 0))
    body = """
    %b = tile.reduce max %t dim 1 : TT -> tensor<10xf32>
    %r = tile.broadcast %b dim 1 : tensor<10xf32> -> TT"""
    np.testing.assert_array_equal(run_pointwise(body, x)[:, 0], np.fmax.reduce(x, 1))


def test_gather_and_integers():
    r = rng()
    x = r.standard_normal((10, 20)).astype(np.float32)
    table = r.standard_normal(9).astype(np.float32)
    body = """
    %i = tile.iota dim 0 : TI
    %j = tile.iota dim 1 : TI
    %three = arith.constant dense<3> : TI
    %q = arith.divsi %j, %three : TI
    %one = arith.constant dense<1> : TI
    %ii = arith.addi %i, %one : TI
    %rem = arith.remsi %j, %ii : TI
    %d = arith.subi %rem, %q : TI
    %g = tile.gather %table[%d] : memref<?xf32>, TI -> TT
    %r = arith.addf %g, %t : TT"""
    i, j = np.meshgrid(np.arange(10), np.arange(20), indexing="ij")
    want = table[np.clip(j % (i + 1) - j // 3, 0, 8)] + x
    np.testing.assert_array_equal(run_pointwise(body, x, table=table), want)


def test_loop_carried_tiles():
    """Carried tiles that swap, an old value used after the new one is made, and
    a nested loop."""
    r = rng()
    x = r.standard_normal((10, 20)).astype(np.float32)
    body = """
    %two = arith.constant dense<2.0> : TT
    %s:3 = scf.for %k = %c0 to %c3 step %c1 iter_args(%a = %t, %b = %two, %c = %t)
        -> (TT, TT, TT) {
      %n = arith.mulf %c, %two : TT
      %in = scf.for %l = %c0 to %c3 step %c1 iter_args(%e = %n) -> (TT) {
        %m = arith.addf %e, %c : TT
        scf.yield %m : TT
      }
      %o = arith.subf %in, %a : TT
      scf.yield %b, %a, %o : TT, TT, TT
    }
    %u = arith.addf %s#0, %s#2 : TT
    %r = arith.subf %u, %t : TT"""
    a, b, c = value(x), np.full(x.shape, 2.0), value(x)
    for _ in range(3):
        a, b, c = b, a, c * 2 + 3 * c - a
    check(run_pointwise(body, x), a + c - value(x), 1e-6)


def test_conditional_tiles():
    r = rng()
    x = r.standard_normal((10, 20)).astype(np.float32)
    body = """
    %two = arith.constant dense<2.0> : TT
    %s = scf.for %k = %c0 to %c3 step %c1 iter_args(%a = %t) -> (TT) {
      %first = arith.cmpi eq, %k, %c1 : index
      %n = scf.if %first -> (TT) {
        %m = arith.mulf %a, %two : TT
        scf.yield %m : TT
      } else {
        scf.yield %a : TT
      }
      %p = arith.addf %n, %t : TT
      scf.yield %p : TT
    }
    %r = arith.addf %s, %two : TT"""
    check(run_pointwise(body, x), (value(x) * 2) * 2 + 2 * value(x) + 2, 1e-6)


@pytest.mark.parametrize(
    "dtype,d", [("f32", 64), ("f16", 40), ("bf16", 128), ("f64", 8), ("f32", 256)]
)
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("lq,lk", [(1, 130), (200, 333), (200, 70)])
def test_attention_from_the_op(dtype, d, causal, lq, lk):
    """From fa.attention; rows without a live key are exact."""
    r = rng()
    b, h, hk = 2, 4, 2
    q = cast(r.standard_normal((b, lq, h, d)), dtype)
    k = cast(r.standard_normal((b, lk, hk, d)), dtype)
    v = cast(r.standard_normal((b, lk, hk, d)), dtype)
    acc = np.float64 if dtype == "f64" else np.float32
    o = poisoned(q.shape, dtype)
    lse = np.full((b, h, lq), np.nan, acc)
    text = attention_text(dtype, d, causal)
    tile_m = 128 if 64 < d <= 128 else 64
    call(program(text, "fa-lower-to-cpu"), b * h * -(-lq // tile_m), q, k, v, acc(d**-0.5), o, lse)
    s = np.einsum("bmhd,bnhd->bhmn", value(q), np.repeat(value(k), 2, axis=2))
    s = s * np.float64(acc(d**-0.5))
    m_, n_ = np.ogrid[:lq, :lk]
    if causal:
        s = np.where(m_ + lk - lq >= n_, s, -np.inf)
    top = s.max(-1, keepdims=True)
    live = np.isfinite(top)
    p = np.exp(s - np.where(live, top, 0))
    total = p.sum(-1, keepdims=True)
    want = np.einsum(
        "bhmn,bnhe->bmhe", p / np.where(live, total, 1), np.repeat(value(v), 2, axis=2)
    )
    dead = ~live[0, 0, :, 0]
    assert (value(o)[:, dead] == 0).all() and (lse[:, :, dead] == -np.inf).all()
    check(o, want, TOLERANCE[dtype])
    alive = ~dead
    check(
        lse[:, :, alive],
        (top + np.log(np.where(live, total, 1)))[:, :, alive, 0],
        1e-14 if dtype == "f64" else 2e-6,
    )


def test_large_scratch():
    """More scratch than a thread's stack should hold."""
    r = rng()
    a = r.standard_normal((600, 70)).astype(np.float32)
    b = r.standard_normal((70, 530)).astype(np.float32)
    c = poisoned((600, 530), "f32")
    call(program(matmul_text("f32", "f32", 512, 512, 64)), 4, a, b, c)
    check(c, value(a) @ value(b), TOLERANCE["f32"])


@pytest.mark.parametrize(
    "options", ["vector-bits=512 registers=32", "vector-bits=128 registers=16"]
)
def test_other_vector_widths(options, monkeypatch):
    monkeypatch.setenv("FA_CPU_OPTIONS", options)
    monkeypatch.setitem(globals(), "_cache", {})
    test_attention_from_the_op("f32", 64, 1, 200, 333)
    test_attention_from_the_op("f16", 40, 0, 200, 70)
    test_matmul("f64", (24, 40, 24), (33, 71, 45))
    test_row_normalised_product()
    test_reductions_both_ways()
    test_gather_and_integers()
    test_nonfinite_values("f16", "arith.constant true", 130, 67)


def test_score_region_lengths_and_poison():
    """A softcap with a bias from a table; NaN beyond the lengths stays there."""
    matrix = "memref<?x?x?x32xf32, strided<[?, ?, ?, 1], offset: ?>>"
    rows = "memref<?x?x?xf32, strided<[?, ?, 1], offset: ?>>"
    text = f"""
func.func @attention(%q: {matrix}, %k: {matrix}, %v: {matrix}, %scale: f32,
    %ql: memref<?xi32>, %kl: memref<?xi32>, %cap: f32, %table: memref<?xf32>,
    %o: {matrix}, %lse: {rows}) {{
  fa.attention ins(%q, %k, %v : {matrix}, {matrix}, {matrix}) scale(%scale : f32)
    lengths(%ql, %kl : memref<?xi32>, memref<?xi32>)
    captures(%cap, %table : f32, memref<?xf32>)
    outs(%o, %lse : {matrix}, {rows})
    {{indexing_maps = [
      affine_map<(b, h, m, n, d, e)[g] -> (b, m, h, d)>,
      affine_map<(b, h, m, n, d, e)[g] -> (b, n, h floordiv g, d)>,
      affine_map<(b, h, m, n, d, e)[g] -> (b, n, h floordiv g, e)>,
      affine_map<(b, h, m, n, d, e)[g] -> (b, m, h, e)>,
      affine_map<(b, h, m, n, d, e)[g] -> (b, h, m)>], capture_maps = [unit, unit]}}
    score {{
    ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index, %c: f32, %t: memref<?xf32>):
      %x = arith.divf %s, %c : f32
      %y = math.tanh %x : f32
      %z = arith.mulf %y, %c : f32
      %d = arith.subi %m, %n : index
      %bias = fa.gather %t[%d] : memref<?xf32> -> f32
      %r = arith.addf %z, %bias : f32
      fa.yield %r : f32
    }}
  return
}}"""
    r = rng()
    b, h, lq, lk, d = 2, 2, 90, 150, 32
    q, k, v = (r.standard_normal((b, n, h, d)).astype(np.float32) for n in (lq, lk, lk))
    ql, kl = np.array([90, 33], np.int32), np.array([101, 150], np.int32)
    q[1, 33:] = k[0, 101:] = v[0, 101:] = np.nan
    table = r.standard_normal(40).astype(np.float32)
    o, lse = poisoned(q.shape, "f32"), np.full((b, h, lq), np.nan, np.float32)
    call(
        program(text, "fa-lower-to-cpu"),
        b * h * 2,
        q,
        k,
        v,
        np.float32(0.25),
        ql,
        kl,
        np.float32(3),
        table,
        o,
        lse,
    )
    for i in range(b):
        m, n = ql[i], kl[i]
        s = np.einsum("mhd,nhd->hmn", value(q[i, :m]), value(k[i, :n])) * 0.25
        s = 3 * np.tanh(s / 3)
        s += table[np.clip(np.arange(m)[:, None] - np.arange(n), 0, 39)]
        top = s.max(-1, keepdims=True)
        p = np.exp(s - top)
        total = p.sum(-1, keepdims=True)
        check(o[i, :m], np.einsum("hmn,nhe->mhe", p / total, value(v[i, :n])), 3e-6)
        check(lse[i, :, :m], (top + np.log(total))[..., 0], 3e-6)
        assert (o[i, m:] == 0).all() and (lse[i, :, m:] == -np.inf).all()
