//===- Mask.cpp - Questions to an attention mask --------------------------===//

#include "fa/Dialect/FA/IR/Mask.h"
#include "mlir/Analysis/FlatLinearValueConstraints.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"

using namespace mlir;
using namespace mlir::fa;

/// Positions in a mask set; the symbols of an expression follow as dimensions
/// when it is applied (run-time values need not be affine symbols).
static constexpr unsigned kB = 0, kH = 1, kM = 2, kN = 3, kDims = 4;
/// Bound that keeps 32-bit tile arithmetic on coordinates from overflowing.
static constexpr int64_t kLimit = int64_t(1) << 30;

MaskQuery::MaskQuery(MLIRContext *context, MaskAttr mask, Value b, Value h,
                     OpFoldResult lq, OpFoldResult lk, ValueRange symbols)
    : context(context), all(!mask), b(b), h(h), lq(lq), lk(lk),
      symbols(symbols) {
  if (!mask)
    return;
  for (IntegerSet set : mask.getSets()) {
    Set &constraints = sets.emplace_back();
    // Symbols become dimensions behind the four of the set.
    SmallVector<AffineExpr> asDims;
    for (unsigned i = 0; i < set.getNumSymbols(); ++i)
      asDims.push_back(getAffineDimExpr(kDims + i, context));
    AffineExpr zero = getAffineConstantExpr(0, context);
    auto add = [&](AffineExpr expr) {
      Constraint c;
      c.expr = expr;
      for (unsigned i = 2; i < set.getNumSymbols(); ++i)
        c.hasUserSymbol |= expr.isFunctionOfDim(kDims + i);
      SmallVector<int64_t> flat;
      FlatLinearConstraints locals;
      unsigned numDims = kDims + set.getNumSymbols();
      // A quotient or remainder of the row or the column is not linear; one of
      // lengths and symbols alone is a constant here.
      bool divides = false;
      expr.walk([&](AffineExpr e) {
        if (isa<AffineBinaryOpExpr>(e) && e.getKind() != AffineExprKind::Add &&
            e.getKind() != AffineExprKind::Mul)
          divides |= e.isFunctionOfDim(kM) || e.isFunctionOfDim(kN);
      });
      if (!divides &&
          succeeded(getFlattenedAffineExpr(expr, numDims, 0, &flat, &locals))) {
        c.linear = true;
        c.m = flat[kM];
        c.n = flat[kN];
        c.rest = expr.replaceDims({getAffineDimExpr(kB, context),
                                   getAffineDimExpr(kH, context), zero, zero});
      }
      constraints.push_back(c);
    };
    for (unsigned i = 0; i < set.getNumConstraints(); ++i) {
      AffineExpr expr = set.getConstraint(i).replaceSymbols(asDims);
      add(expr);
      if (set.isEq(i))
        add(-expr);
    }
  }
}

SmallVector<OpFoldResult> MaskQuery::operands(OpFoldResult m,
                                              OpFoldResult n) const {
  SmallVector<OpFoldResult> result = {b, h, m, n, lq, lk};
  llvm::append_range(result, symbols);
  return result;
}

//===----------------------------------------------------------------------===//
// Ranges
//===----------------------------------------------------------------------===//

static Value materialize(OpBuilder &builder, Location loc, OpFoldResult value) {
  return getValueOrCreateConstantIndexOp(builder, loc, value);
}

/// `condition ? yes : no` of index values.
static OpFoldResult selectIndex(OpBuilder &builder, Location loc,
                                Value condition, OpFoldResult yes,
                                OpFoldResult no) {
  return arith::SelectOp::create(builder, loc, condition,
                                 materialize(builder, loc, yes),
                                 materialize(builder, loc, no))
      .getResult();
}

static Value isLess(OpBuilder &builder, Location loc, OpFoldResult a,
                    OpFoldResult b) {
  return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::slt,
                               materialize(builder, loc, a),
                               materialize(builder, loc, b));
}

MaskQuery::Range MaskQuery::solveSet(OpBuilder &builder, Location loc,
                                     const Set &set, Kind kind,
                                     bool freeIsColumn, Range fixed) const {
  AffineExpr zero = getAffineConstantExpr(0, context);
  // The free dimension is absent from every bound; the fixed one takes its
  // first or last value, passed as the operands m and n.
  SmallVector<OpFoldResult> ops = operands(fixed.lo, fixed.hi);
  AffineExpr first = getAffineDimExpr(kM, context);
  AffineExpr last = getAffineDimExpr(kN, context) - 1;
  AffineExpr limit =
      getAffineDimExpr(freeIsColumn ? kDims + 1 : kDims, context);

  SmallVector<AffineExpr> lower = {zero}, upper = {limit}, conditions;
  for (const Constraint &c : set) {
    if (!c.linear) {
      // Not known: it may keep everything and drop everything.
      if (kind == Kind::Full)
        upper.assign({zero});
      continue;
    }
    int64_t fixedFactor = freeIsColumn ? c.m : c.n;
    int64_t freeFactor = freeIsColumn ? c.n : c.m;
    // Live asks for the most permissive fixed value, full for the least.
    bool takeLast = (fixedFactor > 0) == (kind == Kind::Live);
    AffineExpr e = c.rest + (takeLast ? last : first) * fixedFactor;
    if (freeFactor > 0)
      lower.push_back((-e).ceilDiv(freeFactor));
    else if (freeFactor < 0)
      upper.push_back(e.floorDiv(-freeFactor) + 1);
    else
      conditions.push_back(e);
  }
  auto map = [&](ArrayRef<AffineExpr> exprs) {
    return AffineMap::get(ops.size(), 0, exprs, context);
  };
  Range range;
  range.lo = affine::makeComposedFoldedAffineMax(builder, loc, map(lower), ops);
  range.hi = affine::makeComposedFoldedAffineMin(builder, loc, map(upper), ops);
  for (AffineExpr condition : conditions) {
    OpFoldResult value = affine::makeComposedFoldedAffineApply(
        builder, loc, map(condition), ops);
    Value violated = isLess(builder, loc, value, builder.getIndexAttr(0));
    range.hi = selectIndex(builder, loc, violated, range.lo, range.hi);
  }
  return range;
}

MaskQuery::Range MaskQuery::solve(OpBuilder &builder, Location loc, Kind kind,
                                  bool freeIsColumn, Range fixed) const {
  if (all)
    return solveSet(builder, loc, {}, kind, freeIsColumn, fixed);
  Range result = {builder.getIndexAttr(0), builder.getIndexAttr(0)};
  for (auto [i, set] : llvm::enumerate(sets)) {
    Range range = solveSet(builder, loc, set, kind, freeIsColumn, fixed);
    if (i == 0) {
      result = range;
      continue;
    }
    AffineMap pair = AffineMap::getMultiDimIdentityMap(2, context);
    if (kind == Kind::Live) {
      result.lo = affine::makeComposedFoldedAffineMin(builder, loc, pair,
                                                      {result.lo, range.lo});
      result.hi = affine::makeComposedFoldedAffineMax(builder, loc, pair,
                                                      {result.hi, range.hi});
      continue;
    }
    // A row may be full in one set here and in another there; one set's range
    // is a safe answer, so take the longer.
    AffineExpr length =
        getAffineDimExpr(1, context) - getAffineDimExpr(0, context);
    auto lengthOf = [&](Range r) {
      return affine::makeComposedFoldedAffineApply(
          builder, loc, AffineMap::get(2, 0, length), {r.lo, r.hi});
    };
    Value longer = isLess(builder, loc, lengthOf(result), lengthOf(range));
    result = {selectIndex(builder, loc, longer, range.lo, result.lo),
              selectIndex(builder, loc, longer, range.hi, result.hi)};
  }
  return result;
}

MaskQuery::Range MaskQuery::liveColumns(OpBuilder &builder, Location loc,
                                        Range rows) const {
  return solve(builder, loc, Kind::Live, /*freeIsColumn=*/true, rows);
}

MaskQuery::Range MaskQuery::fullColumns(OpBuilder &builder, Location loc,
                                        Range rows) const {
  return solve(builder, loc, Kind::Full, /*freeIsColumn=*/true, rows);
}

MaskQuery::Range MaskQuery::liveRows(OpBuilder &builder, Location loc,
                                     Range columns) const {
  return solve(builder, loc, Kind::Live, /*freeIsColumn=*/false, columns);
}

MaskQuery::Range MaskQuery::fullRows(OpBuilder &builder, Location loc,
                                     Range columns) const {
  return solve(builder, loc, Kind::Full, /*freeIsColumn=*/false, columns);
}

//===----------------------------------------------------------------------===//
// Predicates
//===----------------------------------------------------------------------===//

/// An i32 scalar of an index value, clamped where `mayBeLarge`.
static Value toI32(OpBuilder &builder, Location loc, OpFoldResult index,
                   bool mayBeLarge) {
  Value value = materialize(builder, loc, index);
  if (mayBeLarge) {
    value = arith::MaxSIOp::create(
        builder, loc, value,
        arith::ConstantIndexOp::create(builder, loc, -kLimit));
    value = arith::MinSIOp::create(
        builder, loc, value,
        arith::ConstantIndexOp::create(builder, loc, kLimit));
  }
  return arith::IndexCastOp::create(builder, loc, builder.getI32Type(), value);
}

static Value splat(OpBuilder &builder, Location loc, Value scalar,
                   ArrayRef<int64_t> shape) {
  auto type = RankedTensorType::get(shape, scalar.getType());
  return tl::SplatOp::create(builder, loc, type, scalar);
}

/// `factor * tile` of an i32 tile.
static Value scaleTile(OpBuilder &builder, Location loc, Value tile,
                       int64_t factor) {
  if (factor == 1)
    return tile;
  auto type = cast<RankedTensorType>(tile.getType());
  Value constant = arith::ConstantOp::create(
      builder, loc,
      DenseElementsAttr::get(type, builder.getI32IntegerAttr(factor)));
  return arith::MulIOp::create(builder, loc, tile, constant);
}

/// The i32 tile `start + iota(dim)`.
static Value coordinates(OpBuilder &builder, Location loc, Value start,
                         ArrayRef<int64_t> shape, int64_t dim) {
  auto type = RankedTensorType::get(shape, builder.getI32Type());
  Value first = splat(builder, loc, toI32(builder, loc, start, false), shape);
  Value iota = tl::IotaOp::create(builder, loc, type, dim);
  return arith::AddIOp::create(builder, loc, first, iota);
}

/// The rows of a tile, from its first one on.
Value MaskQuery::rowsOfTile(OpBuilder &builder, Location loc,
                            int64_t tileM) const {
  if (tileRows)
    return tileRows;
  auto type = RankedTensorType::get({tileM}, builder.getI32Type());
  return tl::IotaOp::create(builder, loc, type, 0);
}

Value MaskQuery::emitExpr(OpBuilder &builder, Location loc, AffineExpr expr,
                          int64_t tileM, int64_t tileN, Value m0,
                          Value n0) const {
  SmallVector<int64_t> shape = {tileM, tileN};
  auto type = RankedTensorType::get(shape, builder.getI32Type());
  auto recurse = [&](AffineExpr e) {
    return emitExpr(builder, loc, e, tileM, tileN, m0, n0);
  };
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return arith::ConstantOp::create(
        builder, loc,
        DenseElementsAttr::get(type,
                               builder.getI32IntegerAttr(constant.getValue())));
  if (auto dim = dyn_cast<AffineDimExpr>(expr)) {
    unsigned pos = dim.getPosition();
    if (pos == kM) {
      Value first =
          splat(builder, loc, toI32(builder, loc, m0, false), {tileM});
      Value rows = arith::AddIOp::create(builder, loc, first,
                                         rowsOfTile(builder, loc, tileM));
      return tl::BroadcastOp::create(builder, loc, type, rows, 1);
    }
    if (pos == kN)
      return coordinates(builder, loc, n0, shape, 1);
    OpFoldResult value = operands(m0, n0)[pos];
    return splat(builder, loc,
                 toI32(builder, loc, value, /*mayBeLarge=*/pos >= kDims + 2),
                 shape);
  }
  auto binary = cast<AffineBinaryOpExpr>(expr);
  Value lhs = recurse(binary.getLHS());
  Value rhs = recurse(binary.getRHS());
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    return arith::AddIOp::create(builder, loc, lhs, rhs);
  case AffineExprKind::Mul:
    return arith::MulIOp::create(builder, loc, lhs, rhs);
  case AffineExprKind::FloorDiv:
    return arith::FloorDivSIOp::create(builder, loc, lhs, rhs);
  case AffineExprKind::CeilDiv:
    return arith::CeilDivSIOp::create(builder, loc, lhs, rhs);
  default: {
    // Affine mod is the non-negative remainder.
    Value quotient = arith::FloorDivSIOp::create(builder, loc, lhs, rhs);
    Value whole = arith::MulIOp::create(builder, loc, quotient, rhs);
    return arith::SubIOp::create(builder, loc, lhs, whole);
  }
  }
}

Value MaskQuery::emitConstraint(OpBuilder &builder, Location loc,
                                const Constraint &c, int64_t tileM,
                                int64_t tileN, Value m0, Value n0) const {
  SmallVector<int64_t> shape = {tileM, tileN};
  auto tileType = RankedTensorType::get(shape, builder.getI32Type());
  auto compare = [&](arith::CmpIPredicate predicate, Value lhs,
                     Value rhs) -> Value {
    return arith::CmpIOp::create(builder, loc, predicate, lhs, rhs);
  };
  if (!c.linear) {
    Value value = emitExpr(builder, loc, c.expr, tileM, tileN, m0, n0);
    Value zero = arith::ConstantOp::create(
        builder, loc,
        DenseElementsAttr::get(tileType, builder.getI32IntegerAttr(0)));
    return compare(arith::CmpIPredicate::sge, value, zero);
  }

  // |n| * column <= or >= bound(row), with sign the side of the column. The
  // bound does not depend on the column block, so it leaves the KV loop.
  int64_t sign = c.n > 0 ? -1 : 1;
  AffineExpr start = (c.rest + getAffineDimExpr(kM, context) * c.m) * sign;
  SmallVector<OpFoldResult> ops = operands(m0, n0);
  OpFoldResult startValue = affine::makeComposedFoldedAffineApply(
      builder, loc, AffineMap::get(ops.size(), 0, start), ops);
  Value start32 = toI32(builder, loc, startValue, c.hasUserSymbol);
  Value bound;
  if (c.m == 0) {
    bound = splat(builder, loc, start32, shape);
  } else {
    Value rows =
        scaleTile(builder, loc, rowsOfTile(builder, loc, tileM), c.m * sign);
    Value bounds = arith::AddIOp::create(
        builder, loc, splat(builder, loc, start32, {tileM}), rows);
    bound = tl::BroadcastOp::create(builder, loc, tileType, bounds, 1);
  }
  if (c.n == 0) {
    Value zero = arith::ConstantOp::create(
        builder, loc,
        DenseElementsAttr::get(tileType, builder.getI32IntegerAttr(0)));
    return compare(arith::CmpIPredicate::sge, bound, zero);
  }
  Value columns = scaleTile(
      builder, loc, coordinates(builder, loc, n0, shape, 1), std::abs(c.n));
  return compare(c.n > 0 ? arith::CmpIPredicate::sge
                         : arith::CmpIPredicate::sle,
                 columns, bound);
}

Value MaskQuery::emitPredicate(OpBuilder &builder, Location loc, int64_t tileM,
                               int64_t tileN, Value m0, Value n0) const {
  SmallVector<int64_t> shape = {tileM, tileN};
  auto both = [&](Value a, Value b) -> Value {
    return a && b ? arith::AndIOp::create(builder, loc, a, b).getResult()
                  : (a ? a : b);
  };
  // A set may hold the limit already: with lq - 1 for the row (the larger the
  // more permissive) its constraint says no more than n < lk.
  auto impliesLimit = [&](const Constraint &c) {
    if (!c.linear || c.n != -1 || c.m < 0)
      return false;
    AffineExpr lq = getAffineDimExpr(kDims, context);
    AffineExpr lk = getAffineDimExpr(kDims + 1, context);
    AffineExpr excess = simplifyAffineExpr(c.rest + (lq - 1) * c.m + 1 - lk,
                                           kDims + 2 + symbols.size(), 0);
    auto constant = dyn_cast<AffineConstantExpr>(excess);
    return constant && constant.getValue() <= 0;
  };
  bool implied = !all && llvm::all_of(sets, [&](const Set &set) {
    return llvm::any_of(set, impliesLimit);
  });
  Value keep;
  std::optional<int64_t> staticLk = getConstantIntValue(lk);
  if (!implied && (!staticLk || *staticLk % tileN != 0)) {
    Value columns = coordinates(builder, loc, n0, shape, 1);
    Value end = splat(builder, loc, toI32(builder, loc, lk, false), shape);
    keep = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::slt,
                                 columns, end);
  }
  if (all)
    return keep;
  Value any;
  for (const Set &set : sets) {
    Value inSet;
    for (const Constraint &c : set)
      inSet =
          both(inSet, emitConstraint(builder, loc, c, tileM, tileN, m0, n0));
    if (!inSet)
      return keep; // A set without constraints holds everything.
    any = any ? arith::OrIOp::create(builder, loc, any, inSet).getResult()
              : inSet;
  }
  if (!any) // No set: nothing is kept.
    return arith::ConstantOp::create(
        builder, loc,
        DenseElementsAttr::get(
            RankedTensorType::get(shape, builder.getI1Type()), false));
  return both(keep, any);
}
