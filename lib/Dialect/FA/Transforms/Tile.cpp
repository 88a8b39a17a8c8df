//===- Tile.cpp - fa-tile -------------------------------------------------===//

#include "fa/Dialect/FA/Transforms/Passes.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

namespace mlir::fa {
#define GEN_PASS_DEF_FATILE
#include "fa/Dialect/FA/Transforms/Passes.h.inc"
} // namespace mlir::fa

using namespace mlir;
using namespace mlir::fa;

namespace {
/// Tiles one attention.
class Tiler {
public:
  Tiler(AttentionOp op, int64_t tileM)
      : op(op), tileM(tileM), builder(op), loc(op.getLoc()) {}

  void run();

private:
  /// What one grid point computes.
  struct Point {
    Value b, h, keyHead, m0; // Coordinates in the operands.
    OpFoldResult rows;       // Query rows of this block.
    OpFoldResult keys;       // Keys of this sequence.
  };

  void emitBody(ValueRange ivs);
  Value addOrigin(unsigned position, Value coordinate);
  OpFoldResult length(unsigned which, Value batch, OpFoldResult extent);
  Value slice(Value source, AffineMap map, const Point &point, bool isKey,
              AffineMap &windowMap);

  AttentionOp op;
  int64_t tileM;
  OpBuilder builder;
  Location loc;
  OpFoldResult numRows, numKeys;
};
} // namespace

static Value asValue(OpBuilder &builder, Location loc, OpFoldResult value) {
  return getValueOrCreateConstantIndexOp(builder, loc, value);
}

/// `coordinate` in the whole problem.
Value Tiler::addOrigin(unsigned position, Value coordinate) {
  if (op.getOrigin().empty())
    return coordinate;
  AffineExpr sum = builder.getAffineDimExpr(0) + builder.getAffineDimExpr(1);
  return asValue(builder, loc,
                 affine::makeComposedFoldedAffineApply(
                     builder, loc, AffineMap::get(2, 0, sum),
                     {op.getOrigin()[position], coordinate}));
}

/// lq (`which` 0) or lk (1) of `batch`, clamped to [0, extent].
OpFoldResult Tiler::length(unsigned which, Value batch, OpFoldResult extent) {
  if (op.getLengths().empty())
    return extent;
  Value value = op.getLengths()[which];
  if (isa<MemRefType>(value.getType())) {
    value = memref::LoadOp::create(builder, loc, value, batch);
    value =
        arith::IndexCastOp::create(builder, loc, builder.getIndexType(), value);
  }
  Value zero = arith::ConstantIndexOp::create(builder, loc, 0);
  value = arith::MaxSIOp::create(builder, loc, value, zero);
  return arith::MinSIOp::create(builder, loc, value,
                                asValue(builder, loc, extent))
      .getResult();
}

/// The part of `source` that `point` uses; batch and head are dropped. Rows are
/// sliced in a second step, so that the first subview spans the whole extent
/// and passes below can address it with bounds checks.
Value Tiler::slice(Value source, AffineMap map, const Point &point, bool isKey,
                   AffineMap &windowMap) {
  SmallVector<OpFoldResult> offsets, sizes, rowOffsets, rowSizes;
  SmallVector<AffineExpr> kept;
  SmallVector<int64_t> keptShape;
  OpFoldResult zero = builder.getIndexAttr(0), one = builder.getIndexAttr(1);
  bool hasRows = false;
  for (auto [pos, expr] : llvm::enumerate(map.getResults())) {
    if (expr.isFunctionOfDim(AttentionOp::B) ||
        expr.isFunctionOfDim(AttentionOp::H)) {
      bool isBatch = expr.isFunctionOfDim(AttentionOp::B);
      offsets.push_back(isBatch ? point.b : isKey ? point.keyHead : point.h);
      sizes.push_back(one);
      continue;
    }
    bool isRow = expr.isFunctionOfDim(AttentionOp::M);
    // Each operand's own extent (C5: they agree) shows passes below that the
    // view is whole; only lengths cut it.
    bool isCut =
        expr.isFunctionOfDim(AttentionOp::N) && !op.getLengths().empty();
    OpFoldResult size =
        isCut ? point.keys : memref::getMixedSize(builder, loc, source, pos);
    offsets.push_back(zero);
    sizes.push_back(size);
    kept.push_back(expr);
    keptShape.push_back(
        getConstantIntValue(size).value_or(ShapedType::kDynamic));
    hasRows |= isRow;
    rowOffsets.push_back(isRow ? OpFoldResult(point.m0) : zero);
    rowSizes.push_back(isRow ? point.rows : size);
  }
  windowMap = AffineMap::get(6, 0, kept, builder.getContext());
  SmallVector<OpFoldResult> ones(offsets.size(), one);
  auto sourceType = cast<MemRefType>(source.getType());
  auto type = memref::SubViewOp::inferRankReducedResultType(
      keptShape, sourceType, offsets, sizes, ones);
  Value view = memref::SubViewOp::create(builder, loc, type, source, offsets,
                                         sizes, ones);
  if (!hasRows)
    return view;
  ones.resize(rowOffsets.size());
  return memref::SubViewOp::create(builder, loc, view, rowOffsets, rowSizes,
                                   ones);
}

void Tiler::emitBody(ValueRange ivs) {
  AffineExpr d0 = builder.getAffineDimExpr(0), d1 = builder.getAffineDimExpr(1);
  Point point;
  point.b = ivs[0];
  point.h = ivs[1];
  point.keyHead = op.getKeyHead(builder, point.h);
  point.m0 = asValue(builder, loc,
                     affine::makeComposedFoldedAffineApply(
                         builder, loc, AffineMap::get(1, 0, d0 * tileM),
                         {OpFoldResult(ivs[2])}));
  AffineExpr tile = builder.getAffineConstantExpr(tileM);
  point.rows = affine::makeComposedFoldedAffineMin(
      builder, loc, AffineMap::get(2, 0, {tile, d1 - d0}, builder.getContext()),
      {OpFoldResult(point.m0), numRows});

  Value b = addOrigin(0, point.b), h = addOrigin(1, point.h);
  Value m = addOrigin(2, point.m0);
  OpFoldResult rows = length(0, b, numRows);
  point.keys = length(1, b, numKeys);

  SmallVector<Attribute> maps;
  SmallVector<Value> windows;
  for (auto operand : {AttentionOp::Q, AttentionOp::K, AttentionOp::V,
                       AttentionOp::O, AttentionOp::LSE}) {
    bool isKey = operand == AttentionOp::K || operand == AttentionOp::V;
    AffineMap windowMap;
    windows.push_back(slice(op.getShaped(operand), op.getMap(operand), point,
                            isKey, windowMap));
    maps.push_back(AffineMapAttr::get(windowMap));
  }
  Value initLse = op.getInitLse();
  if (initLse) {
    AffineMap unused;
    initLse = slice(initLse, op.getMap(AttentionOp::LSE), point, false, unused);
  }
  auto window = AttentionOp::create(
      builder, loc, TypeRange(), windows[0], windows[1], windows[2],
      op.getScale(), ValueRange{b, h, m},
      ValueRange{asValue(builder, loc, rows),
                 asValue(builder, loc, point.keys)},
      initLse, op.getCaptures(), op.getSymbols(), windows[3], windows[4],
      builder.getArrayAttr(maps), op.getCaptureMapsAttr(), op.getMaskAttr(),
      op.getDeadLseAttr());
  window.getScore().takeBody(op.getScore());
  window->setAttr(kScheduleAttrName, op->getAttr(kScheduleAttrName));
}

void Tiler::run() {
  numRows = op.getExtent(builder, AttentionOp::M);
  numKeys = op.getExtent(builder, AttentionOp::N);
  OpFoldResult blocks = affine::makeComposedFoldedAffineApply(
      builder, loc, builder.getAffineDimExpr(0).ceilDiv(tileM), {numRows});
  SmallVector<OpFoldResult> grid = {op.getExtent(builder, AttentionOp::B),
                                    op.getExtent(builder, AttentionOp::H),
                                    blocks};
  auto forall = scf::ForallOp::create(builder, loc, grid, ValueRange(),
                                      /*mapping=*/std::nullopt);
  builder.setInsertionPointToStart(forall.getBody());
  emitBody(forall.getInductionVars());
  op.erase();
}

namespace {
struct TilePass : public fa::impl::FATileBase<TilePass> {
  void runOnOperation() override {
    SmallVector<AttentionOp> ops;
    getOperation().walk([&](AttentionOp op) { ops.push_back(op); });
    for (AttentionOp op : ops) {
      auto schedule = op->getAttrOfType<ScheduleAttr>(kScheduleAttrName);
      if (!schedule) {
        op.emitOpError("has no fa.schedule; run fa-select-schedule first");
        return signalPassFailure();
      }
      if (op.hasTensorSemantics()) {
        op.emitOpError("is on tensors; run one-shot-bufferize first");
        return signalPassFailure();
      }
      Attribute plan = getOperation()->getAttr(tl::kPlanAttrName);
      if (plan && plan != schedule.getPlan()) {
        op.emitOpError("has the plan ")
            << schedule.getPlan() << " in a function of plan " << plan
            << "; give all attentions of a function one plan";
        return signalPassFailure();
      }
      getOperation()->setAttr(tl::kPlanAttrName, schedule.getPlan());
      Tiler(op, schedule.getTileM()).run();
    }
  }
};
} // namespace
