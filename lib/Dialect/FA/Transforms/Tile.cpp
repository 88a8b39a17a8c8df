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
/// Tiles one attention, or the backward of one.
class Tiler {
public:
  Tiler(AttentionOpInterface op, ScheduleAttr schedule)
      : op(op), schedule(schedule), builder(op), loc(op.getLoc()) {}

  /// `isOnly`: the function has no other attention.
  LogicalResult run(bool isOnly);

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

  /// The window of a block of query rows.
  void emitRows(ValueRange ivs);
  /// The window of a block of keys, with all query heads that read them.
  void emitKeys(ValueRange ivs);
  void emitWindow(const Parts &rows, const Parts &keys, ValueRange origin,
                  OpFoldResult lq, OpFoldResult lk);
  Value multiple(Value index, int64_t tile);
  Value addOrigin(unsigned position, Value coordinate);
  /// `tile` elements from `first` on, at most up to `extent`.
  Part block(Value first, int64_t tile, OpFoldResult extent);
  Value slice(Value source, AffineMap map, const Parts &parts,
              AffineMap &windowMap);

  AttentionOpInterface op;
  ScheduleAttr schedule;
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

Value Tiler::multiple(Value index, int64_t tile) {
  return asValue(builder, loc,
                 affine::makeComposedFoldedAffineApply(
                     builder, loc,
                     AffineMap::get(1, 0, builder.getAffineDimExpr(0) * tile),
                     {OpFoldResult(index)}));
}

void Tiler::emitWindow(const Parts &rows, const Parts &keys, ValueRange origin,
                       OpFoldResult lq, OpFoldResult lk) {
  auto window = cast<AttentionOpInterface>(builder.clone(*op));
  SmallVector<Attribute> maps(5);
  builder.setInsertionPoint(window);
  for (auto [operand, role] : op.getShapedOperands()) {
    bool isKey = role == AttentionSpace::K || role == AttentionSpace::V;
    AffineMap windowMap;
    Value part =
        slice(operand->get(), op.getMap(role), isKey ? keys : rows, windowMap);
    window->setOperand(operand->getOperandNumber(), part);
    maps[role] = AffineMapAttr::get(windowMap);
  }
  window.getOriginMutable().assign(origin);
  window.getLengthsMutable().assign(
      {asValue(builder, loc, lq), asValue(builder, loc, lk)});
  window.setIndexingMapsAttr(builder.getArrayAttr(maps));
}

void Tiler::emitRows(ValueRange ivs) {
  Value b = ivs[0], h = ivs[1], keyHead = op.getKeyHead(builder, h);
  Value m0 = multiple(ivs[2], schedule.getTileM());
  Parts rows, keys;
  rows[AttentionSpace::B] = keys[AttentionSpace::B] = {Part::Point, b, {}};
  rows[AttentionSpace::H] = {Part::Point, h, {}};
  keys[AttentionSpace::H] = {Part::Point, keyHead, {}};
  rows[AttentionSpace::M] = block(m0, schedule.getTileM(), numRows);

  Value bOrigin = addOrigin(0, b), hOrigin = addOrigin(1, h);
  Value mOrigin = addOrigin(2, m0);
  OpFoldResult lq = op.getLength(builder, AttentionSpace::M, bOrigin, numRows);
  OpFoldResult lk = op.getLength(builder, AttentionSpace::N, bOrigin, numKeys);
  if (!op.getLengths().empty())
    keys[AttentionSpace::N] = {Part::Prefix, {}, lk};
  emitWindow(rows, keys, {bOrigin, hOrigin, mOrigin}, lq, lk);
}

void Tiler::emitKeys(ValueRange ivs) {
  Value b = ivs[0], keyHead = ivs[1];
  Value n0 = multiple(ivs[2], schedule.getTileN());
  Parts rows, keys;
  rows[AttentionSpace::B] = keys[AttentionSpace::B] = {Part::Point, b, {}};
  keys[AttentionSpace::H] = {Part::Point, keyHead, {}};
  keys[AttentionSpace::N] = block(n0, schedule.getTileN(), numKeys);
  // The query heads of the group; one is no window.
  OpFoldResult group = op.getGroup(builder);
  Value h = keyHead;
  if (isConstantIntValue(group, 1)) {
    rows[AttentionSpace::H] = {Part::Point, h, {}};
  } else {
    h = arith::MulIOp::create(builder, loc, keyHead,
                              asValue(builder, loc, group));
    rows[AttentionSpace::H] = {Part::Window, h, group};
  }
  Value zero = arith::ConstantIndexOp::create(builder, loc, 0);
  emitWindow(rows, keys, {b, h, zero, n0},
             op.getLength(builder, AttentionSpace::M, b, numRows),
             op.getLength(builder, AttentionSpace::N, b, numKeys));
}

LogicalResult Tiler::run(bool isOnly) {
  auto backward = dyn_cast<AttentionBackwardOp>(op.getOperation());
  bool byKeys = backward && (backward.getDK() || backward.getDV());
  if (byKeys && (backward.getDQ() || !backward.getDeltaKnown()))
    return op->emitOpError("computes what belongs to rows and gradients of "
                           "keys; run fa-split-backward first");
  if (byKeys && !op.getOrigin().empty())
    return op->emitOpError("has an origin and gradients of keys, which are "
                           "tiled as a whole problem; tile before it is cut");
  numRows = op.getExtent(builder, AttentionSpace::M);
  numKeys = op.getExtent(builder, AttentionSpace::N);
  AffineExpr d0 = builder.getAffineDimExpr(0);
  auto count = [&](OpFoldResult extent, int64_t tile) {
    return affine::makeComposedFoldedAffineApply(builder, loc, d0.ceilDiv(tile),
                                                 {extent});
  };
  OpFoldResult blocks = byKeys ? count(numKeys, schedule.getTileN())
                               : count(numRows, schedule.getTileM());
  OpFoldResult batch = op.getExtent(builder, AttentionSpace::B);
  OpFoldResult heads = op.getExtent(builder, AttentionSpace::H);
  if (byKeys) {
    heads = builder.getIndexAttr(1);
    for (auto operand : {AttentionSpace::V, AttentionSpace::K})
      if (std::optional<unsigned> pos = op.findDim(operand, AttentionSpace::H))
        heads = memref::getMixedSize(builder, loc, op.getShaped(operand), *pos);
  }
  auto forall =
      scf::ForallOp::create(builder, loc, {batch, heads, blocks}, ValueRange(),
                            /*mapping=*/std::nullopt);
  // One loop of several has a plan of its own.
  (isOnly ? forall->getParentOp() : forall.getOperation())
      ->setAttr(tl::kPlanAttrName, schedule.getPlan());
  builder.setInsertionPointToStart(forall.getBody());
  SmallVector<Value> ivs = forall.getInductionVars();
  if (byKeys) {
    // The first keys have the most rows in causal masks: they come last, where
    // launches start.
    AffineExpr last = builder.getAffineDimExpr(1) - 1 - d0;
    ivs[2] = asValue(builder, loc,
                     affine::makeComposedFoldedAffineApply(
                         builder, loc, AffineMap::get(2, 0, last),
                         {OpFoldResult(ivs[2]), blocks}));
    emitKeys(ivs);
  } else {
    emitRows(ivs);
  }
  op->erase();
  return success();
}

namespace {
struct TilePass : public fa::impl::FATileBase<TilePass> {
  void runOnOperation() override {
    SmallVector<AttentionOpInterface> ops;
    getOperation().walk([&](AttentionOpInterface op) { ops.push_back(op); });
    for (AttentionOpInterface op : ops) {
      auto schedule = op->getAttrOfType<ScheduleAttr>(kScheduleAttrName);
      if (!schedule) {
        op->emitOpError("has no fa.schedule; run fa-select-schedule first");
        return signalPassFailure();
      }
      if (op.hasTensorSemantics()) {
        op->emitOpError("is on tensors; run one-shot-bufferize first");
        return signalPassFailure();
      }
      // Their loop is over captures: fa-recompute-softmax makes it.
      auto backward = dyn_cast<AttentionBackwardOp>(op.getOperation());
      if (backward && !backward.getDCaptures().empty())
        continue;
      if (failed(Tiler(op, schedule).run(ops.size() == 1)))
        return signalPassFailure();
    }
  }
};
} // namespace
