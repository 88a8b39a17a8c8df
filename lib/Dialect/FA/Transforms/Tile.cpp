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
    /// Of a window: it lies in these elements; null: in all.
    OpFoldResult base, extent;
    static Part point(Value at) { return {Point, at, {}, {}, {}}; }
  };
  /// By dimension of the iteration space.
  using Parts = std::array<Part, 6>;

  /// The loop around the operation, if any, becomes the outermost dimensions of
  /// the grid over `bounds`.
  scf::ForallOp createGrid(scf::ForallOp outer, ArrayRef<OpFoldResult> bounds);
  /// The window of a block of query rows.
  void emitRows(ValueRange ivs);
  /// The window of a block of the query heads that read one key head, at one
  /// query position: heads are its rows.
  void emitHeads(ValueRange ivs);
  /// The window of such a block at several query positions.
  void emitGroups(ValueRange ivs);
  /// The window of a block of keys, with all query heads that read them.
  void emitKeys(ValueRange ivs);
  AttentionOpInterface emitWindow(const Parts &rows, const Parts &keys,
                                  ValueRange origin, OpFoldResult lq,
                                  OpFoldResult lk);
  Value multiple(Value index, int64_t tile);
  Value addOrigin(unsigned position, Value coordinate);
  /// `tile` elements from `first` on, at most up to `extent`.
  Part block(Value first, OpFoldResult tile, OpFoldResult extent);
  /// How many positions a tile has whose rows are those of all heads of a
  /// group: as many as fit, at least one.
  Value positionsOfTile();
  Value slice(Value source, AffineMap map, const Parts &parts,
              AffineMap &windowMap);

  AttentionOpInterface op;
  ScheduleAttr schedule;
  OpBuilder builder;
  Location loc;
  OpFoldResult numRows, numKeys, group;
  Value positions; // of a tile
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

Tiler::Part Tiler::block(Value first, OpFoldResult tile, OpFoldResult extent) {
  AffineExpr d0 = builder.getAffineDimExpr(0), d1 = builder.getAffineDimExpr(1);
  AffineExpr whole = builder.getAffineDimExpr(2);
  OpFoldResult size = affine::makeComposedFoldedAffineMin(
      builder, loc,
      AffineMap::get(3, 0, {whole, d1 - d0}, builder.getContext()),
      {OpFoldResult(first), extent, tile});
  return {Part::Window, first, size, {}, {}};
}

/// max(1, tile floordiv group), of what grids are computed from.
Value Tiler::positionsOfTile() {
  Value tile =
      arith::ConstantIndexOp::create(builder, loc, schedule.getTileM());
  Value one = arith::ConstantIndexOp::create(builder, loc, 1);
  auto divideUp = [&](Value a, Value b) -> Value {
    Value sum = arith::AddIOp::create(builder, loc, a, b);
    return arith::DivUIOp::create(
        builder, loc, arith::SubIOp::create(builder, loc, sum, one), b);
  };
  Value fit =
      arith::DivUIOp::create(builder, loc, tile, asValue(builder, loc, group));
  // 1 if any fits.
  Value any = divideUp(fit, tile);
  return arith::SubIOp::create(
      builder, loc, arith::AddIOp::create(builder, loc, fit, one), any);
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
    bool isPacked = bool(part->extent);
    if (isPacked)
      size = part->extent;
    // A constant is part of the type.
    if (auto constant = getConstantIntValue(size))
      size = builder.getIndexAttr(*constant);
    offsets.push_back(isPacked ? part->base : zero);
    sizes.push_back(size);
    // Heads that are rows.
    kept.push_back(isPacked ? builder.getAffineDimExpr(AttentionSpace::M)
                            : expr);
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

AttentionOpInterface Tiler::emitWindow(const Parts &rows, const Parts &keys,
                                       ValueRange origin, OpFoldResult lq,
                                       OpFoldResult lk) {
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
  return window;
}

void Tiler::emitRows(ValueRange ivs) {
  Value b = ivs[0], h = ivs[1], keyHead = op.getKeyHead(builder, h);
  Value m0 = multiple(ivs[2], schedule.getTileM());
  Parts rows, keys;
  rows[AttentionSpace::B] = keys[AttentionSpace::B] = Part::point(b);
  rows[AttentionSpace::H] = Part::point(h);
  keys[AttentionSpace::H] = Part::point(keyHead);
  rows[AttentionSpace::M] =
      block(m0, builder.getIndexAttr(schedule.getTileM()), numRows);

  Value bOrigin = addOrigin(0, b), hOrigin = addOrigin(1, h);
  Value mOrigin = addOrigin(2, m0);
  OpFoldResult lq = op.getLength(builder, AttentionSpace::M, bOrigin, numRows);
  OpFoldResult lk = op.getLength(builder, AttentionSpace::N, bOrigin, numKeys);
  if (!op.getLengths().empty())
    keys[AttentionSpace::N] = {Part::Prefix, {}, lk, {}, {}};
  emitWindow(rows, keys, {bOrigin, hOrigin, mOrigin}, lq, lk);
}

void Tiler::emitHeads(ValueRange ivs) {
  Value b = ivs[0], keyHead = ivs[1], m = ivs[2];
  Value first = multiple(ivs[3], schedule.getTileM());
  Parts rows, keys;
  rows[AttentionSpace::B] = keys[AttentionSpace::B] = Part::point(b);
  rows[AttentionSpace::M] = Part::point(m);
  keys[AttentionSpace::H] = Part::point(keyHead);
  Value groupSize = asValue(builder, loc, group);
  Part &heads = rows[AttentionSpace::H];
  heads = block(first, builder.getIndexAttr(schedule.getTileM()), group);
  heads.base =
      arith::MulIOp::create(builder, loc, keyHead, groupSize).getResult();
  heads.extent = group;
  auto window = cast<AttentionOp>(
      emitWindow(rows, keys, {b, keyHead, first}, group, numKeys)
          .getOperation());

  // Row r of the window is head keyHead * group + r at position m.
  if (MaskAttr mask = window.getMaskAttr()) {
    MLIRContext *context = builder.getContext();
    unsigned numSymbols = 2 + window.getSymbols().size();
    SmallVector<AffineExpr> dims, symbols;
    for (unsigned i = 0; i < 4; ++i)
      dims.push_back(i == AttentionSpace::M
                         ? builder.getAffineSymbolExpr(numSymbols)
                         : builder.getAffineDimExpr(i));
    for (unsigned i = 0; i < numSymbols; ++i)
      symbols.push_back(builder.getAffineSymbolExpr(i ? i : numSymbols + 1));
    SmallVector<IntegerSet> sets;
    for (IntegerSet set : mask.getSets())
      sets.push_back(
          set.replaceDimsAndSymbols(dims, symbols, 4, numSymbols + 2));
    window.setMaskAttr(MaskAttr::get(context, sets));
    window.getSymbolsMutable().append({m, asValue(builder, loc, numRows)});
  }
  if (window.getScore().empty())
    return;
  Block &body = window.getScore().front();
  BlockArgument head = body.getArgument(2), row = body.getArgument(3);
  row.replaceAllUsesWith(m);
  if (head.use_empty())
    return;
  OpBuilder inside = OpBuilder::atBlockBegin(&body);
  auto firstHead = arith::MulIOp::create(inside, loc, head, groupSize);
  Value sum = arith::AddIOp::create(inside, loc, firstHead, row);
  head.replaceAllUsesExcept(sum, firstHead);
}

void Tiler::emitGroups(ValueRange ivs) {
  Value b = ivs[0], keyHead = ivs[1];
  Value m0 = arith::MulIOp::create(builder, loc, ivs[2], positions);
  Value groupSize = asValue(builder, loc, group);
  Value head = arith::MulIOp::create(builder, loc, keyHead, groupSize);
  Value inGroup = multiple(ivs[3], schedule.getTileM());
  Parts rows, keys;
  rows[AttentionSpace::B] = keys[AttentionSpace::B] = Part::point(b);
  keys[AttentionSpace::H] = Part::point(keyHead);
  rows[AttentionSpace::M] = block(m0, OpFoldResult(positions), numRows);
  Part &heads = rows[AttentionSpace::H];
  heads = block(inGroup, builder.getIndexAttr(schedule.getTileM()), group);
  Value first = arith::AddIOp::create(builder, loc, head, inGroup);
  heads.offset = first;
  emitWindow(rows, keys, {b, first, m0}, numRows, numKeys);
}

void Tiler::emitKeys(ValueRange ivs) {
  Value b = ivs[0], keyHead = ivs[1];
  Value n0 = multiple(ivs[2], schedule.getTileN());
  Parts rows, keys;
  rows[AttentionSpace::B] = keys[AttentionSpace::B] = Part::point(b);
  keys[AttentionSpace::H] = Part::point(keyHead);
  keys[AttentionSpace::N] =
      block(n0, builder.getIndexAttr(schedule.getTileN()), numKeys);
  // The query heads of the group; one is no window.
  OpFoldResult group = op.getGroup(builder);
  Value h = keyHead;
  if (isConstantIntValue(group, 1)) {
    rows[AttentionSpace::H] = Part::point(h);
  } else {
    h = arith::MulIOp::create(builder, loc, keyHead,
                              asValue(builder, loc, group));
    rows[AttentionSpace::H] = {Part::Window, h, group, {}, {}};
  }
  Value zero = arith::ConstantIndexOp::create(builder, loc, 0);
  emitWindow(rows, keys, {b, h, zero, n0},
             op.getLength(builder, AttentionSpace::M, b, numRows),
             op.getLength(builder, AttentionSpace::N, b, numKeys));
}

scf::ForallOp Tiler::createGrid(scf::ForallOp outer,
                                ArrayRef<OpFoldResult> bounds) {
  SmallVector<OpFoldResult> all;
  if (outer)
    all = outer.getMixedUpperBound();
  llvm::append_range(all, bounds);
  auto forall = scf::ForallOp::create(builder, loc, all, ValueRange(),
                                      /*mapping=*/std::nullopt);
  builder.setInsertionPointToStart(forall.getBody());
  if (!outer)
    return forall;
  for (auto [from, to] :
       llvm::zip(outer.getInductionVars(), forall.getInductionVars()))
    from.replaceAllUsesWith(to);
  for (Operation &inner :
       llvm::make_early_inc_range(outer.getBody()->without_terminator()))
    inner.moveBefore(forall.getBody()->getTerminator());
  outer.erase();
  builder.setInsertionPoint(op);
  return forall;
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
  auto forward = dyn_cast<AttentionOp>(op.getOperation());
  if (forward && forward.getOParts())
    return op->emitOpError("has memory for partial results; run fa-split-keys "
                           "first");
  bool packed = schedule.getPacked();
  if (packed && (!forward || !forward.canPackHeads()))
    return op->emitOpError(
        "has a packed schedule, but the head decides what is kept or captured, "
        "lengths say which rows exist, or rows and heads are no neighbours in "
        "memory; drop `packed` from the schedule");
  auto outer = dyn_cast<scf::ForallOp>(op->getParentOp());
  if (outer) {
    if (outer->getNumResults() || !outer.isNormalized() ||
        !outer.isDefinedOutsideOfLoop(op.getQ()) ||
        !outer.isDefinedOutsideOfLoop(op.getK()) ||
        !outer.isDefinedOutsideOfLoop(op.getV()) ||
        llvm::any_of(outer.getBody()->without_terminator(), [&](Operation &o) {
          return &o != op.getOperation() && !isMemoryEffectFree(&o);
        }))
      return op->emitOpError(
          "is in a loop that can't be the outermost dimension of its grid; q, "
          "k "
          "and v come from outside of it, and nothing else has effects in it");
    builder.setInsertionPoint(outer);
  }
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
  // Of one query, heads alone are the rows.
  bool hasOneRow = isConstantIntValue(numRows, 1);
  if (packed)
    group = op.getGroup(builder);
  if (byKeys || packed) {
    heads = builder.getIndexAttr(1);
    for (auto operand : {AttentionSpace::V, AttentionSpace::K})
      if (std::optional<unsigned> pos = op.findDim(operand, AttentionSpace::H))
        heads = memref::getMixedSize(builder, loc, op.getShaped(operand), *pos);
  }
  bool sequential = byKeys && schedule.getSequential();
  SmallVector<OpFoldResult> bounds = {batch, heads, blocks};
  if (sequential)
    bounds.pop_back();
  if (packed) {
    bounds[2] = numRows;
    if (!hasOneRow) {
      positions = positionsOfTile();
      Value one = arith::ConstantIndexOp::create(builder, loc, 1);
      Value last = arith::SubIOp::create(builder, loc, positions, one);
      Value end = arith::AddIOp::create(builder, loc,
                                        asValue(builder, loc, numRows), last);
      bounds[2] =
          arith::DivUIOp::create(builder, loc, end, positions).getResult();
    }
    bounds.push_back(count(group, schedule.getTileM()));
  }
  scf::ForallOp forall = createGrid(outer, bounds);
  // One loop of several has a plan of its own.
  (isOnly ? forall->getParentOp() : forall.getOperation())
      ->setAttr(tl::kPlanAttrName, schedule.getPlan());
  SmallVector<Value> all = forall.getInductionVars();
  auto ivs = llvm::to_vector(ArrayRef(all).take_back(bounds.size()));
  if (sequential) {
    auto loop = scf::ForOp::create(
        builder, loc, arith::ConstantIndexOp::create(builder, loc, 0),
        asValue(builder, loc, blocks),
        arith::ConstantIndexOp::create(builder, loc, 1));
    builder.setInsertionPointToStart(loop.getBody());
    ivs.push_back(loop.getInductionVar());
    emitKeys(ivs);
  } else if (byKeys) {
    // The first keys have the most rows in causal masks: they come last, where
    // launches start.
    AffineExpr last = builder.getAffineDimExpr(1) - 1 - d0;
    ivs[2] = asValue(builder, loc,
                     affine::makeComposedFoldedAffineApply(
                         builder, loc, AffineMap::get(2, 0, last),
                         {OpFoldResult(ivs[2]), blocks}));
    emitKeys(ivs);
  } else if (packed) {
    hasOneRow ? emitHeads(ivs) : emitGroups(ivs);
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
    bool isOnly = ops.size() == 1;
    getOperation().walk([&](CombineOp) { isOnly = false; });
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
      if (failed(Tiler(op, schedule).run(isOnly)))
        return signalPassFailure();
    }
  }
};
} // namespace
