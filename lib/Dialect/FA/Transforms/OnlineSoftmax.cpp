//===- OnlineSoftmax.cpp - fa-online-softmax ------------------------------===//

#include "fa/Dialect/FA/IR/Mask.h"
#include "fa/Dialect/FA/Transforms/Passes.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/Matchers.h"
#include "mlir/Interfaces/ValueBoundsOpInterface.h"
#include "mlir/Transforms/LoopInvariantCodeMotionUtils.h"

namespace mlir::fa {
#define GEN_PASS_DEF_FAONLINESOFTMAX
#include "fa/Dialect/FA/Transforms/Passes.h.inc"
} // namespace mlir::fa

using namespace mlir;
using namespace mlir::fa;

static constexpr double kLog2E = 1.4426950408889634;
static constexpr double kLn2 = 0.6931471805599453;

namespace {
/// Emits the tile program of one attention window.
class Emitter {
public:
  Emitter(AttentionOp op, ScheduleAttr schedule)
      : op(op), tileM(schedule.getTileM()), tileN(schedule.getTileN()),
        headMultiple(schedule.getPlan().getChip() == "cpu" ? 1 : 16),
        builder(op), loc(op.getLoc()), accType(op.getAccType()) {}

  LogicalResult run();

private:
  /// Where the rows of a window are: a memref and the offset of the first row.
  struct Rows {
    Value memref;
    Value offset;
  };
  /// The units in which the running maximum is kept: raw value times `factor`
  /// is a base-2 exponent; a null factor is 1.
  struct Units {
    Value factor;
  };

  Rows rowsOf(Value window, AffineMap map);
  int64_t paddedExtent(Value shaped, unsigned pos);
  LogicalResult verifyWindow();

  Value load(Value memref, AffineMap map, unsigned rowDim, Value rowOffset,
             int64_t rows, int64_t columns);
  void store(Value tile, Value memref, AffineMap map, unsigned columnDim,
             Value rowOffset);
  Value loadVector(const Rows &rows);

  LogicalResult emitScore(Value scores, Value n0, Value &result);
  LogicalResult inlineRegion(Value scores, Value n0, Value &result);
  FailureOr<Value> loadCapture(unsigned index, Value n0);

  // Builders of tiles.
  RankedTensorType matrix(int64_t rows, int64_t columns, Type element) {
    return RankedTensorType::get({rows, columns}, element);
  }
  RankedTensorType scoreType() { return matrix(tileM, tileN, accType); }
  RankedTensorType vectorType() {
    return RankedTensorType::get({tileM}, accType);
  }
  Value constant(RankedTensorType type, double value) {
    return arith::ConstantOp::create(
        builder, loc,
        DenseElementsAttr::get(
            type, builder.getFloatAttr(type.getElementType(), value)));
  }
  Value infinity(RankedTensorType type) {
    auto element = cast<FloatType>(type.getElementType());
    APFloat value =
        APFloat::getInf(element.getFloatSemantics(), /*Negative=*/true);
    return arith::ConstantOp::create(
        builder, loc,
        DenseElementsAttr::get(type, builder.getFloatAttr(element, value)));
  }
  Value index(int64_t value) {
    return arith::ConstantIndexOp::create(builder, loc, value);
  }
  Value splat(Value scalar, RankedTensorType type) {
    return tl::SplatOp::create(builder, loc, type, scalar);
  }
  Value alongColumns(Value rows, int64_t columns) {
    Type element = cast<RankedTensorType>(rows.getType()).getElementType();
    return tl::BroadcastOp::create(builder, loc,
                                   matrix(tileM, columns, element), rows, 1);
  }
  template <typename Op> Value fused(Value lhs, Value rhs) {
    return Op::create(builder, loc, lhs, rhs, arith::FastMathFlags::contract);
  }
  /// `tile * factor`, the tile itself for a null factor.
  Value scaled(Value tile, Value factor) {
    if (!factor)
      return tile;
    auto type = cast<RankedTensorType>(tile.getType());
    FloatAttr value;
    Value factors = matchPattern(factor, m_Constant(&value))
                        ? arith::ConstantOp::create(
                              builder, loc, DenseElementsAttr::get(type, value))
                        : splat(factor, type);
    return fused<arith::MulFOp>(tile, factors);
  }
  Value productOfLiveKeys(Value p, Value acc, const MaskQuery &mask, Value n0);
  Value contract(Value lhs, Value rhs, Value acc, bool rhsIsTransposed);

  AttentionOp op;
  int64_t tileM, tileN, headMultiple;
  OpBuilder builder;
  Location loc;
  FloatType accType;
  Value b, h, m0, lq, lk;
};
} // namespace

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

static int64_t roundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

int64_t Emitter::paddedExtent(Value shaped, unsigned pos) {
  return roundUp(cast<MemRefType>(shaped.getType()).getDimSize(pos),
                 headMultiple);
}

/// A window of `fa-tile` is a subview, along the rows only, of a view that
/// holds all rows, and ends at min(tile_m, what is left). Then the view and an
/// offset address the same rows, with bounds checks in place of a size. Any
/// other window is used as it is. All operands have as many rows as q (C5).
Emitter::Rows Emitter::rowsOf(Value window, AffineMap map) {
  Rows whole = {window, index(0)};
  auto view = window.getDefiningOp<memref::SubViewOp>();
  if (!view || view.getSourceType().getRank() != view.getType().getRank() ||
      !view.hasUnitStride())
    return whole;
  unsigned rowPos = 0;
  for (auto [pos, expr] : llvm::enumerate(map.getResults())) {
    if (expr.isFunctionOfDim(AttentionOp::M)) {
      rowPos = pos;
      continue;
    }
    OpFoldResult extent =
        memref::getMixedSize(builder, loc, view.getSource(), pos);
    FailureOr<bool> sameSize =
        ValueBoundsConstraintSet::areEqual(view.getMixedSizes()[pos], extent);
    if (!isConstantIntValue(view.getMixedOffsets()[pos], 0) ||
        failed(sameSize) || !*sameSize)
      return whole;
  }
  OpFoldResult offset = view.getMixedOffsets()[rowPos];
  OpFoldResult size = view.getMixedSizes()[rowPos];
  auto isLeft = [&](AffineMap map, ValueRange operands) {
    using Variable = ValueBoundsConstraintSet::Variable;
    AffineMap difference = AffineMap::get(
        2, 0, builder.getAffineDimExpr(0) - builder.getAffineDimExpr(1));
    SmallVector<Variable> extents = {Variable(view.getSource(), rowPos)};
    if (auto q = op.getQ().getDefiningOp<memref::SubViewOp>())
      extents.emplace_back(q.getSource(),
                           *op.findDim(AttentionOp::Q, AttentionOp::M));
    return llvm::any_of(extents, [&](Variable extent) {
      FailureOr<bool> equal = ValueBoundsConstraintSet::areEqual(
          Variable(difference, {extent, Variable(offset)}),
          Variable(map, operands));
      return succeeded(equal) && *equal;
    });
  };
  bool matches = false;
  if (auto sizeValue = dyn_cast<Value>(size)) {
    if (auto min = sizeValue.getDefiningOp<affine::AffineMinOp>()) {
      bool others = true;
      for (AffineExpr expr : min.getMap().getResults()) {
        AffineMap result = AffineMap::get(min.getMap().getNumDims(),
                                          min.getMap().getNumSymbols(), expr);
        auto limit = dyn_cast<AffineConstantExpr>(expr);
        if (limit)
          others &= limit.getValue() >= tileM;
        else if (isLeft(result, min.getOperands()))
          matches = true;
        else
          others = false;
      }
      matches &= others;
    }
  } else {
    // A whole tile: it may be followed by rows only if they fill no tile.
    matches = getConstantIntValue(size) == tileM;
  }
  if (!matches)
    return whole;
  return {view.getSource(),
          getValueOrCreateConstantIndexOp(builder, loc, offset)};
}

/// A matrix tile whose rows run along `rowDim` of the iteration space.
Value Emitter::load(Value memref, AffineMap map, unsigned rowDim,
                    Value rowOffset, int64_t rows, int64_t columns) {
  unsigned rowPos = map.getResult(0).isFunctionOfDim(rowDim) ? 0 : 1;
  Value zero = index(0);
  SmallVector<Value> offsets(2, zero);
  offsets[rowPos] = rowOffset;
  DenseI64ArrayAttr order;
  if (rowPos == 1)
    order = builder.getDenseI64ArrayAttr({1, 0});
  Type element = cast<MemRefType>(memref.getType()).getElementType();
  return tl::LoadOp::create(builder, loc, matrix(rows, columns, element),
                            memref, offsets, order);
}

void Emitter::store(Value tile, Value memref, AffineMap map, unsigned rowDim,
                    Value rowOffset) {
  unsigned rowPos = map.getResult(0).isFunctionOfDim(rowDim) ? 0 : 1;
  Value zero = index(0);
  SmallVector<Value> offsets(2, zero);
  offsets[rowPos] = rowOffset;
  DenseI64ArrayAttr order;
  if (rowPos == 1)
    order = builder.getDenseI64ArrayAttr({1, 0});
  tl::StoreOp::create(builder, loc, tile, memref, offsets, order);
}

Value Emitter::loadVector(const Rows &rows) {
  Type element = cast<MemRefType>(rows.memref.getType()).getElementType();
  return tl::LoadOp::create(
      builder, loc, RankedTensorType::get({tileM}, element), rows.memref,
      ValueRange{rows.offset}, DenseI64ArrayAttr());
}

LogicalResult Emitter::verifyWindow() {
  if (op.hasTensorSemantics())
    return op.emitOpError("is on tensors; run one-shot-bufferize and fa-tile");
  static constexpr unsigned kRanks[] = {2, 2, 2, 2, 1};
  for (unsigned i = 0; i < 5; ++i)
    if (op.getMap(AttentionOp::Operand(i)).getNumResults() != kRanks[i])
      return op.emitOpError("is not a window of one batch and head; run "
                            "fa-tile first");
  if (op.getOrigin().empty() || op.getLengths().empty() ||
      !op.getLengths()[0].getType().isIndex())
    return op.emitOpError("has no origin or no index lengths; run fa-tile "
                          "first");
  unsigned rowPos = *op.findDim(AttentionOp::Q, AttentionOp::M);
  if (!ValueBoundsConstraintSet::compare(
          ValueBoundsConstraintSet::Variable(op.getQ(), rowPos),
          ValueBoundsConstraintSet::LE,
          OpFoldResult(builder.getIndexAttr(tileM))))
    return op.emitOpError(
               "has a window that may exceed the schedule's tile_m, ")
           << tileM << "; run fa-tile first";
  for (auto [operand, dim] : {std::pair(AttentionOp::Q, AttentionOp::D),
                              std::pair(AttentionOp::K, AttentionOp::D),
                              std::pair(AttentionOp::V, AttentionOp::E),
                              std::pair(AttentionOp::O, AttentionOp::E)})
    if (op.getShaped(operand).getType().isDynamicDim(*op.findDim(operand, dim)))
      return op.emitOpError("has a dynamic head size; head sizes must be "
                            "static");
  return success();
}

//===----------------------------------------------------------------------===//
// Products and scores
//===----------------------------------------------------------------------===//

Value Emitter::contract(Value lhs, Value rhs, Value acc, bool rhsIsTransposed) {
  MLIRContext *context = builder.getContext();
  AffineExpr m, n, k;
  bindDims(context, m, n, k);
  auto map = [&](AffineExpr row, AffineExpr column) {
    return AffineMap::get(3, 0, {row, column}, context);
  };
  ArrayAttr maps = builder.getAffineMapArrayAttr(
      {map(m, k), rhsIsTransposed ? map(n, k) : map(k, n), map(m, n)});
  return tl::ContractOp::create(builder, loc, acc.getType(), lhs, rhs, acc,
                                maps);
}

/// `acc` plus the product of `p` with the values from `n0` on, one key at a
/// time and only for rows that keep the key: what lies under the mask is not
/// multiplied. Slow; for values that hold NaN or infinity.
Value Emitter::productOfLiveKeys(Value p, Value acc, const MaskQuery &mask,
                                 Value n0) {
  AffineMap vMap = op.getMap(AttentionOp::V);
  unsigned rowPos = vMap.getResult(0).isFunctionOfDim(AttentionOp::N) ? 0 : 1;
  auto accTile = cast<RankedTensorType>(acc.getType());
  int64_t e = accTile.getDimSize(1);
  auto vType = cast<MemRefType>(op.getV().getType());
  AffineExpr d0 = builder.getAffineDimExpr(0), d1 = builder.getAffineDimExpr(1);
  Value count = getValueOrCreateConstantIndexOp(
      builder, loc,
      affine::makeComposedFoldedAffineMin(
          builder, loc,
          AffineMap::get(2, 0, {builder.getAffineConstantExpr(tileN), d1 - d0},
                         builder.getContext()),
          {OpFoldResult(n0), OpFoldResult(lk)}));
  auto keys = scf::ForOp::create(builder, loc, index(0), count, index(1),
                                 ValueRange{acc});
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(keys.getBody());
  Value key = keys.getInductionVar();

  // This key's row of v, on every row of the tile.
  SmallVector<OpFoldResult> offsets(2, builder.getIndexAttr(0)),
      ones(2, builder.getIndexAttr(1)), sizes(2, builder.getIndexAttr(1));
  offsets[rowPos] = arith::AddIOp::create(builder, loc, n0, key).getResult();
  int64_t width = vType.getDimSize(1 - rowPos);
  sizes[1 - rowPos] = builder.getIndexAttr(width);
  auto lineType = memref::SubViewOp::inferRankReducedResultType(
      {width}, vType, offsets, sizes, ones);
  Value line = memref::SubViewOp::create(builder, loc, lineType, op.getV(),
                                         offsets, sizes, ones);
  Value values = tl::LoadOp::create(
      builder, loc, RankedTensorType::get({e}, vType.getElementType()), line,
      ValueRange{index(0)}, DenseI64ArrayAttr());
  if (vType.getElementType() != accType)
    values = arith::ExtFOp::create(builder, loc,
                                   RankedTensorType::get({e}, accType), values);
  Value onRows = tl::BroadcastOp::create(builder, loc, accTile, values, 0);

  // This key's column of p.
  Type i32 = builder.getI32Type();
  auto coordinates = matrix(tileM, tileN, i32);
  Value isKey = arith::CmpIOp::create(
      builder, loc, arith::CmpIPredicate::eq,
      tl::IotaOp::create(builder, loc, coordinates, 1),
      splat(arith::IndexCastOp::create(builder, loc, i32, key), coordinates));
  // Picked before it is widened, so that the widened tile is no loop invariant
  // that occupies registers.
  Value picked = arith::SelectOp::create(
      builder, loc, isKey, p,
      constant(cast<RankedTensorType>(p.getType()), 0.0));
  if (cast<RankedTensorType>(p.getType()).getElementType() != accType)
    picked = arith::ExtFOp::create(builder, loc, scoreType(), picked);
  Value weight = tl::ReduceOp::create(builder, loc, vectorType(),
                                      tl::ReduceKind::add, picked, 1);

  // The rows that keep it: the mask again, on a narrow tile that begins at the
  // key (a weight may also be 0 by underflow, and the scores themselves would
  // have to stay in registers for this).
  constexpr int64_t kNarrow = 8;
  Value column = arith::AddIOp::create(builder, loc, n0, key);
  Value keeps = mask.emitPredicate(builder, loc, tileM, kNarrow, m0, column);
  auto narrow = matrix(tileM, kNarrow, accType);
  auto narrowIndex = matrix(tileM, kNarrow, i32);
  Value isFirst = arith::CmpIOp::create(
      builder, loc, arith::CmpIPredicate::eq,
      tl::IotaOp::create(builder, loc, narrowIndex, 1),
      splat(arith::ConstantIntOp::create(builder, loc, 0, 32), narrowIndex));
  Value marks = arith::SelectOp::create(
      builder, loc, arith::AndIOp::create(builder, loc, keeps, isFirst),
      constant(narrow, 1.0), constant(narrow, 0.0));
  Value mark = tl::ReduceOp::create(builder, loc, vectorType(),
                                    tl::ReduceKind::add, marks, 1);
  Value live = arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OGT,
                                     mark, constant(vectorType(), 0.0));
  Value product =
      arith::MulFOp::create(builder, loc, alongColumns(weight, e), onRows);
  Value sum =
      arith::AddFOp::create(builder, loc, keys.getRegionIterArg(0), product);
  Value next = arith::SelectOp::create(builder, loc, alongColumns(live, e), sum,
                                       keys.getRegionIterArg(0));
  scf::YieldOp::create(builder, loc, next);
  return keys.getResult(0);
}

/// The tile of capture `index` for the current block; a shaped value for
/// `unit`.
FailureOr<Value> Emitter::loadCapture(unsigned number, Value n0) {
  Value capture = op.getCaptures()[number];
  Attribute access = (*op.getCaptureMaps())[number];
  if (isa<UnitAttr>(access))
    return capture;
  AffineMap map = cast<AffineMapAttr>(access).getValue();
  auto type = dyn_cast<MemRefType>(capture.getType());
  if (!type)
    return op.emitOpError("capture ")
           << number << " has type " << capture.getType()
           << " and a map; only memrefs are addressed by maps, use unit";
  // Batch and head select a slice; rows and columns become the tile.
  SmallVector<OpFoldResult> offsets, sizes,
      ones(map.getNumResults(), builder.getIndexAttr(1));
  SmallVector<int64_t> shape, tileShape;
  SmallVector<Value> tileOffsets;
  SmallVector<unsigned> kept;
  for (auto [pos, expr] : llvm::enumerate(map.getResults())) {
    unsigned dim = cast<AffineDimExpr>(expr).getPosition();
    if (dim == AttentionOp::B || dim == AttentionOp::H) {
      offsets.push_back(dim == AttentionOp::B ? b : h);
      sizes.push_back(builder.getIndexAttr(1));
      continue;
    }
    OpFoldResult size = memref::getMixedSize(builder, loc, capture, pos);
    offsets.push_back(builder.getIndexAttr(0));
    sizes.push_back(size);
    shape.push_back(getConstantIntValue(size).value_or(ShapedType::kDynamic));
    kept.push_back(dim);
    tileOffsets.push_back(dim == AttentionOp::M ? m0 : n0);
  }
  if (kept.empty()) {
    SmallVector<Value> at;
    for (OpFoldResult offset : offsets)
      at.push_back(getValueOrCreateConstantIndexOp(builder, loc, offset));
    Value scalar = memref::LoadOp::create(builder, loc, capture, at);
    return splat(scalar, matrix(tileM, tileN, type.getElementType()));
  }
  Value view = capture;
  if (kept.size() != map.getNumResults()) {
    MemRefType viewType = memref::SubViewOp::inferRankReducedResultType(
        shape, type, offsets, sizes, ones);
    view = memref::SubViewOp::create(builder, loc, viewType, capture, offsets,
                                     sizes, ones);
  }
  if (kept.size() == 1) {
    bool isRow = kept[0] == AttentionOp::M;
    Value line = tl::LoadOp::create(
        builder, loc,
        RankedTensorType::get({isRow ? tileM : tileN}, type.getElementType()),
        view, tileOffsets, DenseI64ArrayAttr());
    return tl::BroadcastOp::create(builder, loc,
                                   matrix(tileM, tileN, type.getElementType()),
                                   line, isRow ? 1 : 0)
        .getResult();
  }
  DenseI64ArrayAttr order;
  if (kept[0] == AttentionOp::N)
    order = builder.getDenseI64ArrayAttr({1, 0});
  return tl::LoadOp::create(builder, loc,
                            matrix(tileM, tileN, type.getElementType()), view,
                            tileOffsets, order)
      .getResult();
}

/// The score region on a tile: every scalar op becomes the same op on tiles,
/// index becomes i32.
LogicalResult Emitter::inlineRegion(Value scores, Value n0, Value &result) {
  Block &body = op.getScore().front();
  SmallVector<int64_t> shape = {tileM, tileN};
  Type i32 = builder.getI32Type();
  auto tileTypeOf = [&](Type scalar) {
    return RankedTensorType::get(shape, scalar.isIndex() ? i32 : scalar);
  };
  auto toTile = [&](Value scalar) -> Value {
    if (scalar.getType().isIndex())
      scalar = arith::IndexCastOp::create(builder, loc, i32, scalar);
    return splat(scalar, tileTypeOf(scalar.getType()));
  };
  auto coordinate = [&](Value start, int64_t extent, unsigned dim) -> Value {
    auto type = RankedTensorType::get({extent}, i32);
    Value first = arith::IndexCastOp::create(builder, loc, i32, start);
    Value line =
        arith::AddIOp::create(builder, loc, splat(first, type),
                              tl::IotaOp::create(builder, loc, type, 0));
    return tl::BroadcastOp::create(builder, loc, matrix(tileM, tileN, i32),
                                   line, 1 - dim);
  };

  IRMapping mapping;
  mapping.map(body.getArgument(0), scores);
  auto bind = [&](unsigned number, function_ref<Value()> make) {
    if (!body.getArgument(number).use_empty())
      mapping.map(body.getArgument(number), make());
  };
  bind(1, [&] { return toTile(b); });
  bind(2, [&] { return toTile(h); });
  bind(3, [&] { return coordinate(m0, tileM, 0); });
  bind(4, [&] { return coordinate(n0, tileN, 1); });
  for (unsigned i = 0; i < op.getCaptures().size(); ++i) {
    if (body.getArgument(5 + i).use_empty())
      continue;
    FailureOr<Value> tile = loadCapture(i, n0);
    if (failed(tile))
      return failure();
    if (!isa<ShapedType>((*tile).getType()))
      tile = toTile(*tile);
    mapping.map(body.getArgument(5 + i), *tile);
  }
  auto lookup = [&](Value value) -> Value {
    if (Value mapped = mapping.lookupOrNull(value))
      return mapped;
    // Defined outside of the region.
    Value tile = isa<ShapedType>(value.getType()) ? value : toTile(value);
    mapping.map(value, tile);
    return tile;
  };

  for (Operation &inner : body.without_terminator()) {
    if (auto constant = dyn_cast<arith::ConstantOp>(inner)) {
      auto type = tileTypeOf(constant.getType());
      Attribute value = constant.getValue();
      if (constant.getType().isIndex())
        value = builder.getI32IntegerAttr(cast<IntegerAttr>(value).getInt());
      mapping.map(
          constant.getResult(),
          arith::ConstantOp::create(builder, inner.getLoc(),
                                    DenseElementsAttr::get(type, value)));
      continue;
    }
    if (auto gather = dyn_cast<GatherOp>(inner)) {
      SmallVector<Value> indices;
      for (Value at : gather.getIndices())
        indices.push_back(lookup(at));
      mapping.map(gather.getResult(),
                  tl::GatherOp::create(builder, inner.getLoc(),
                                       tileTypeOf(gather.getResult().getType()),
                                       lookup(gather.getSource()), indices));
      continue;
    }
    if (isa<arith::IndexCastOp, arith::IndexCastUIOp>(inner)) {
      // Indices are 32 bits wide here.
      Value from = lookup(inner.getOperand(0));
      Type fromType = getElementTypeOrSelf(from.getType());
      auto type = tileTypeOf(inner.getResult(0).getType());
      unsigned have = fromType.getIntOrFloatBitWidth();
      unsigned want = type.getElementTypeBitWidth();
      Value to = from;
      if (have > want)
        to = arith::TruncIOp::create(builder, inner.getLoc(), type, from);
      else if (have < want && isa<arith::IndexCastOp>(inner))
        to = arith::ExtSIOp::create(builder, inner.getLoc(), type, from);
      else if (have < want)
        to = arith::ExtUIOp::create(builder, inner.getLoc(), type, from);
      mapping.map(inner.getResult(0), to);
      continue;
    }
    if (!OpTrait::hasElementwiseMappableTraits(&inner))
      return op.emitOpError("has a score region with ")
             << inner.getName()
             << ", which has no meaning on tiles; use elementwise arith and "
                "math operations and fa.gather";
    OperationState state(inner.getLoc(), inner.getName());
    for (Value operand : inner.getOperands())
      state.addOperands(lookup(operand));
    for (Type type : inner.getResultTypes())
      state.addTypes(tileTypeOf(type));
    state.attributes = inner.getAttrs();
    Operation *clone = builder.create(state);
    mapping.map(&inner, clone);
    for (auto [from, to] : llvm::zip(inner.getResults(), clone->getResults()))
      mapping.map(from, to);
  }
  result = lookup(body.getTerminator()->getOperand(0));
  return success();
}

//===----------------------------------------------------------------------===//
// The loop
//===----------------------------------------------------------------------===//

/// True when `scale` can't be negative: a constant, or a function argument
/// that promises so.
static bool isNonNegative(Value scale) {
  APFloat value(0.0);
  if (matchPattern(scale, m_ConstantFloat(&value)))
    return !value.isNegative() && !value.isNaN();
  auto argument = dyn_cast<BlockArgument>(scale);
  if (!argument)
    return false;
  auto function = dyn_cast<func::FuncOp>(argument.getOwner()->getParentOp());
  return function &&
         function.getArgAttr(argument.getArgNumber(), "fa.nonnegative");
}

LogicalResult Emitter::run() {
  if (failed(verifyWindow()))
    return failure();
  b = op.getOrigin()[0];
  h = op.getOrigin()[1];
  m0 = op.getOrigin()[2];
  lq = op.getLengths()[0];
  lk = op.getLengths()[1];
  bool hasRegion = !op.getScore().empty();
  Value initLse = op.getInitLse();

  AffineMap qMap = op.getMap(AttentionOp::Q), kMap = op.getMap(AttentionOp::K),
            vMap = op.getMap(AttentionOp::V), oMap = op.getMap(AttentionOp::O);
  Rows q = rowsOf(op.getQ(), qMap), o = rowsOf(op.getO(), oMap);
  Rows lse = rowsOf(op.getLse(), op.getMap(AttentionOp::LSE));
  int64_t d =
      paddedExtent(op.getQ(), *op.findDim(AttentionOp::Q, AttentionOp::D));
  int64_t e =
      paddedExtent(op.getV(), *op.findDim(AttentionOp::V, AttentionOp::E));
  Type element = op.getShaped(AttentionOp::Q).getType().getElementType();

  // Blocks of keys. Rows that do not exist have no say in them.
  AffineExpr d0 = builder.getAffineDimExpr(0), d1 = builder.getAffineDimExpr(1);
  MLIRContext *context = builder.getContext();
  OpFoldResult rowEnd = affine::makeComposedFoldedAffineMin(
      builder, loc, AffineMap::get(2, 0, {d0 + tileM, d1}, context),
      {OpFoldResult(m0), OpFoldResult(lq)});
  MaskQuery mask(context, op.getMaskAttr(), b, h, getAsOpFoldResult(lq),
                 getAsOpFoldResult(lk), op.getSymbols());
  MaskQuery::Range rows = {getAsOpFoldResult(m0), rowEnd};
  MaskQuery::Range live = mask.liveColumns(builder, loc, rows);
  MaskQuery::Range full = mask.fullColumns(builder, loc, rows);
  auto divide = [&](OpFoldResult value, bool up) {
    return affine::makeComposedFoldedAffineApply(
        builder, loc, up ? d0.ceilDiv(tileN) : d0.floorDiv(tileN), {value});
  };
  Value first =
      getValueOrCreateConstantIndexOp(builder, loc, divide(live.lo, false));
  Value end =
      getValueOrCreateConstantIndexOp(builder, loc, divide(live.hi, true));
  OpFoldResult fullFirst = divide(full.lo, true);
  OpFoldResult fullEnd = divide(full.hi, false);

  // Rows from lq on are dead; a block of them has no key block.
  unsigned rowPos = *op.findDim(AttentionOp::Q, AttentionOp::M);
  FailureOr<bool> allRowsLive = ValueBoundsConstraintSet::areEqual(
      ValueBoundsConstraintSet::Variable(lq),
      ValueBoundsConstraintSet::Variable(q.memref, int64_t(rowPos)));
  bool mayEndEarly =
      q.memref == op.getQ() || failed(allRowsLive) || !*allRowsLive;
  if (mayEndEarly) {
    Value dead =
        arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::sge, m0, lq);
    end = arith::SelectOp::create(builder, loc, dead, first, end);
  }

  // Values before the loop.
  Value qTile = load(q.memref, qMap, AttentionOp::M, q.offset, tileM, d);
  Value zeroScores = constant(scoreType(), 0.0);
  Value zeroRows = constant(vectorType(), 0.0);
  Value noRows = infinity(vectorType());
  Value accInit = constant(matrix(tileM, e, accType), 0.0);
  Value log2e = arith::ConstantOp::create(
      builder, loc, builder.getFloatAttr(accType, kLog2E));

  // `multiplier` is applied to each score before the maximum is taken, `factor`
  // together with the subtraction of the maximum.
  Value multiplier, factor;
  if (hasRegion) {
    multiplier = op.getScale();
    factor = log2e;
  } else {
    Value scale2 = arith::MulFOp::create(builder, loc, op.getScale(), log2e);
    if (isNonNegative(op.getScale()) && !initLse) {
      // Zero would turn a masked -inf into NaN.
      Value least = arith::ConstantOp::create(
          builder, loc,
          FloatAttr::get(accType, APFloat::getSmallestNormalized(
                                      accType.getFloatSemantics())));
      Value tiny = arith::CmpFOp::create(
          builder, loc, arith::CmpFPredicate::OLT, scale2, least);
      factor = arith::SelectOp::create(builder, loc, tiny, least, scale2);
    } else {
      multiplier = scale2;
    }
  }

  Value maxInit = noRows, sumInit = zeroRows;
  if (initLse) {
    Value given = loadVector(rowsOf(initLse, op.getMap(AttentionOp::LSE)));
    Value none = arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OEQ,
                                       given, noRows);
    sumInit = arith::SelectOp::create(builder, loc, none, zeroRows,
                                      constant(vectorType(), 1.0));
    // A null factor means base-2 units.
    maxInit = factor ? given : scaled(given, log2e);
  }

  auto loop = scf::ForOp::create(builder, loc, first, end, index(1),
                                 ValueRange{accInit, maxInit, sumInit});
  {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(loop.getBody());
    Value j = loop.getInductionVar();
    Value acc = loop.getRegionIterArg(0), max = loop.getRegionIterArg(1),
          sum = loop.getRegionIterArg(2);
    Value n0 = getValueOrCreateConstantIndexOp(
        builder, loc,
        affine::makeComposedFoldedAffineApply(builder, loc, d0 * tileN,
                                              {OpFoldResult(j)}));
    Value kTile = load(op.getK(), kMap, AttentionOp::N, n0, tileN, d);
    Value scores = contract(qTile, kTile, zeroScores, /*rhsIsTransposed=*/true);
    scores = scaled(scores, multiplier);
    if (hasRegion && failed(inlineRegion(scores, n0, scores)))
      return failure();

    Value inFull;
    if (Value keep = mask.emitPredicate(builder, loc, tileM, tileN, m0, n0)) {
      Value masked = arith::SelectOp::create(builder, loc, keep, scores,
                                             infinity(scoreType()));
      auto require = [&](arith::CmpIPredicate predicate, OpFoldResult bound) {
        Value compare = arith::CmpIOp::create(
            builder, loc, predicate, j,
            getValueOrCreateConstantIndexOp(builder, loc, bound));
        inFull = inFull ? arith::AndIOp::create(builder, loc, inFull, compare)
                              .getResult()
                        : compare;
      };
      if (!isConstantIntValue(fullFirst, 0))
        require(arith::CmpIPredicate::sge, fullFirst);
      require(arith::CmpIPredicate::slt, fullEnd);
      scores = arith::SelectOp::create(builder, loc, inFull, scores, masked);
    }

    // The reference is the maximum so far; 0 while no key is live, so that
    // -inf - -inf does not arise.
    Value blockMax = tl::ReduceOp::create(builder, loc, vectorType(),
                                          tl::ReduceKind::max, scores, 1);
    Value newMax = arith::MaxNumFOp::create(builder, loc, max, blockMax);
    Value none = arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OEQ,
                                       newMax, noRows);
    Value reference = scaled(
        arith::SelectOp::create(builder, loc, none, zeroRows, newMax), factor);
    Value exponent = fused<arith::SubFOp>(scaled(scores, factor),
                                          alongColumns(reference, tileN));
    Value p = math::Exp2Op::create(builder, loc, exponent);
    Value alpha = math::Exp2Op::create(
        builder, loc, fused<arith::SubFOp>(scaled(max, factor), reference));
    Value blockSum = tl::ReduceOp::create(builder, loc, vectorType(),
                                          tl::ReduceKind::add, p, 1);
    Value newSum =
        fused<arith::AddFOp>(fused<arith::MulFOp>(sum, alpha), blockSum);
    Value scaledAcc =
        arith::MulFOp::create(builder, loc, acc, alongColumns(alpha, e));
    Value vTile = load(op.getV(), vMap, AttentionOp::N, n0, tileN, e);
    Value factors = p;
    if (element != accType)
      factors = arith::TruncFOp::create(builder, loc,
                                        matrix(tileM, tileN, element), p);
    auto product = [&]() -> Value {
      return contract(factors, vTile, scaledAcc, /*rhsIsTransposed=*/false);
    };
    auto choose = [&](Value condition, function_ref<Value()> yes,
                      function_ref<Value()> no) -> Value {
      auto yielding = [&](function_ref<Value()> make) {
        return [this, make](OpBuilder &, Location) {
          Value result = make();
          scf::YieldOp::create(builder, loc, result);
        };
      };
      return scf::IfOp::create(builder, loc, condition, yielding(yes),
                               yielding(no))
          .getResult(0);
    };
    // A masked probability is 0, and 0 * NaN would spoil the rows that do not
    // see that key. Blocks without masked scores have no such rows, and keys
    // beyond the end are loaded as zeros.
    Value newAcc =
        !inFull || !op.getMaskAttr()
            ? product()
            : choose(inFull, product, [&]() -> Value {
                Value spoils = tl::NonfiniteOp::create(builder, loc, vTile);
                return choose(
                    spoils,
                    [&] {
                      return productOfLiveKeys(factors, scaledAcc, mask, n0);
                    },
                    product);
              });
    scf::YieldOp::create(builder, loc, ValueRange{newAcc, newMax, newSum});
  }
  moveLoopInvariantCode(cast<LoopLikeOpInterface>(loop.getOperation()));

  // Normalise. Rows without a live key, and rows from lq on whatever their
  // data, are exactly 0 and dead_lse.
  Value acc = loop.getResult(0), max = loop.getResult(1),
        sum = loop.getResult(2);
  Value one = constant(vectorType(), 1.0);
  Value dead = arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OEQ,
                                     sum, zeroRows);
  if (mayEndEarly) {
    auto rowType = RankedTensorType::get({tileM}, builder.getI32Type());
    auto cast = [&](Value value) -> Value {
      return splat(
          arith::IndexCastOp::create(builder, loc, builder.getI32Type(), value),
          rowType);
    };
    Value row = arith::AddIOp::create(
        builder, loc, cast(m0), tl::IotaOp::create(builder, loc, rowType, 0));
    Value beyond = arith::CmpIOp::create(
        builder, loc, arith::CmpIPredicate::sge, row, cast(lq));
    dead = arith::OrIOp::create(builder, loc, dead, beyond);
  }
  Value safeSum = arith::SelectOp::create(builder, loc, dead, one, sum);
  Value inverse = arith::DivFOp::create(builder, loc, one, safeSum);
  Value out =
      arith::MulFOp::create(builder, loc, acc, alongColumns(inverse, e));
  out = arith::SelectOp::create(builder, loc, alongColumns(dead, e), accInit,
                                out);
  Type outElement = op.getShaped(AttentionOp::O).getType().getElementType();
  if (outElement != accType)
    out = arith::TruncFOp::create(builder, loc, matrix(tileM, e, outElement),
                                  out);
  store(out, o.memref, oMap, AttentionOp::M, o.offset);

  Value log = math::Log2Op::create(builder, loc, safeSum);
  log = fused<arith::AddFOp>(log, scaled(max, factor));
  log = arith::MulFOp::create(builder, loc, log, constant(vectorType(), kLn2));
  APFloat deadLse = op.getDeadLseValue();
  bool losesInfo;
  deadLse.convert(accType.getFloatSemantics(), APFloat::rmNearestTiesToEven,
                  &losesInfo);
  Value deadRows = arith::ConstantOp::create(
      builder, loc,
      DenseElementsAttr::get(vectorType(),
                             builder.getFloatAttr(accType, deadLse)));
  log = arith::SelectOp::create(builder, loc, dead, deadRows, log);
  tl::StoreOp::create(builder, loc, log, lse.memref, ValueRange{lse.offset},
                      DenseI64ArrayAttr());
  return success();
}

namespace {
struct OnlineSoftmax : public fa::impl::FAOnlineSoftmaxBase<OnlineSoftmax> {
  void runOnOperation() override {
    SmallVector<AttentionOp> ops;
    getOperation().walk([&](AttentionOp op) { ops.push_back(op); });
    for (AttentionOp op : ops) {
      auto schedule = op->getAttrOfType<ScheduleAttr>(kScheduleAttrName);
      if (!schedule) {
        op.emitOpError("has no fa.schedule; run fa-select-schedule and fa-tile "
                       "first");
        return signalPassFailure();
      }
      if (failed(Emitter(op, schedule).run()))
        return signalPassFailure();
      SmallVector<Value> windows(op->getOperands());
      op.erase();
      for (Value window : windows)
        if (auto view = window.getDefiningOp<memref::SubViewOp>())
          if (view.use_empty())
            view.erase();
    }
  }
};
} // namespace
