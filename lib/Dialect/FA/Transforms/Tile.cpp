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
  /// What a window takes of one dimension of its operand.
  struct Part {
    enum Kind {
      Whole,  // all of it
      Prefix, // the first `size` elements
      Window, // `size` elements from `offset` on
      Point   // the element at `offset`; the dimension is dropped
    } kind = Whole;
    OpFoldResult offset, size;
  };
  /// By dimension of the iteration space.
  using Parts = std::array<Part, 6>;

  void emitBody(ValueRange ivs);
  Value addOrigin(unsigned position, Value coordinate);
  OpFoldResult length(unsigned which, Value batch, OpFoldResult extent);
  /// `tile` elements from `first` on, at most up to `extent`.
  Part block(Value first, int64_t tile, OpFoldResult extent);
  Value slice(Value source, AffineMap map, const Parts &parts,
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

Tiler::Part Tiler::block(Value first, int64_t tile, OpFoldResult extent) {
  AffineExpr d0 = builder.getAffineDimExpr(0), d1 = builder.getAffineDimExpr(1);
  AffineExpr whole = builder.getAffineConstantExpr(tile);
  OpFoldResult size = affine::makeComposedFoldedAffineMin(
      builder, loc,
      AffineMap::get(2, 0, {whole, d1 - d0}, builder.getContext()),
      {OpFoldResult(first), extent});
  return {Part::Window, first, size};
}

/// The parts of `source`. Windows are taken in a second step, so that the first
/// subview spans the whole extent and passes below can address it with bounds
/// checks.
Value Tiler::slice(Value source, AffineMap map, const Parts &parts,
                   AffineMap &windowMap) {
  SmallVector<OpFoldResult> offsets, sizes, windowOffsets, windowSizes;
  SmallVector<AffineExpr> kept;
  SmallVector<int64_t> keptShape;
  OpFoldResult zero = builder.getIndexAttr(0), one = builder.getIndexAttr(1);
  bool hasWindow = false;
  for (auto [pos, expr] : llvm::enumerate(map.getResults())) {
    const Part *part = nullptr;
    for (unsigned dim = 0; dim < parts.size(); ++dim)
      if (expr.isFunctionOfDim(dim))
        part = &parts[dim];
    if (part->kind == Part::Point) {
      offsets.push_back(part->offset);
      sizes.push_back(one);
      continue;
    }
    // Each operand's own extent (C5: they agree) shows passes below that the
    // view is whole.
    OpFoldResult size = part->kind == Part::Prefix
                            ? part->size
                            : memref::getMixedSize(builder, loc, source, pos);
    offsets.push_back(zero);
    sizes.push_back(size);
    kept.push_back(expr);
    keptShape.push_back(
        getConstantIntValue(size).value_or(ShapedType::kDynamic));
    bool isWindow = part->kind == Part::Window;
    hasWindow |= isWindow;
    windowOffsets.push_back(isWindow ? part->offset : zero);
    windowSizes.push_back(isWindow ? part->size : size);
  }
  windowMap = AffineMap::get(6, 0, kept, builder.getContext());
  SmallVector<OpFoldResult> ones(offsets.size(), one);
  auto sourceType = cast<MemRefType>(source.getType());
  auto type = memref::SubViewOp::inferRankReducedResultType(
      keptShape, sourceType, offsets, sizes, ones);
  Value view = memref::SubViewOp::create(builder, loc, type, source, offsets,
                                         sizes, ones);
  if (!hasWindow)
    return view;
  ones.resize(windowOffsets.size());
  return memref::SubViewOp::create(builder, loc, view, windowOffsets,
                                   windowSizes, ones);
}

void Tiler::emitBody(ValueRange ivs) {
  Value b = ivs[0], h = ivs[1], keyHead = op.getKeyHead(builder, h);
  AffineExpr d0 = builder.getAffineDimExpr(0);
  Value m0 = asValue(builder, loc,
                     affine::makeComposedFoldedAffineApply(
                         builder, loc, AffineMap::get(1, 0, d0 * tileM),
                         {OpFoldResult(ivs[2])}));
  Parts rows, keys;
  rows[AttentionOp::B] = keys[AttentionOp::B] = {Part::Point, b, {}};
  rows[AttentionOp::H] = {Part::Point, h, {}};
  keys[AttentionOp::H] = {Part::Point, keyHead, {}};
  rows[AttentionOp::M] = block(m0, tileM, numRows);

  Value bOrigin = addOrigin(0, b), hOrigin = addOrigin(1, h);
  Value mOrigin = addOrigin(2, m0);
  OpFoldResult lq = length(0, bOrigin, numRows);
  OpFoldResult lk = length(1, bOrigin, numKeys);
  if (!op.getLengths().empty())
    keys[AttentionOp::N] = {Part::Prefix, {}, lk};

  auto window = cast<AttentionOp>(builder.clone(*op));
  SmallVector<Attribute> maps(5);
  for (auto [operand, role] : op.getShapedOperands()) {
    bool isKey = role == AttentionOp::K || role == AttentionOp::V;
    AffineMap windowMap;
    builder.setInsertionPoint(window);
    Value part =
        slice(operand->get(), op.getMap(role), isKey ? keys : rows, windowMap);
    window->setOperand(operand->getOperandNumber(), part);
    maps[role] = AffineMapAttr::get(windowMap);
  }
  window.getOriginMutable().assign({bOrigin, hOrigin, mOrigin});
  window.getLengthsMutable().assign(
      {asValue(builder, loc, lq), asValue(builder, loc, lk)});
  window.setIndexingMapsAttr(builder.getArrayAttr(maps));
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
