//===- RecomputeCaptures.cpp - Gradients of captures in tile programs -----===//
//
// Every element of the gradient belongs to one grid point, which walks over the
// blocks of scores that may read it in a fixed order.
//
//===----------------------------------------------------------------------===//

#include "BackwardEmitter.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/IntegerSet.h"
#include "mlir/Transforms/LoopInvariantCodeMotionUtils.h"

using namespace mlir;
using namespace mlir::fa;

/// Entries of a table that one grid point owns; also the columns of the tile in
/// which numbers per row are summed over the rows.
static constexpr int64_t kEntries = 8;
/// Beyond every index that can be computed.
static constexpr int64_t kFar = int64_t(1) << 40;

namespace {
class CaptureEmitter : public BackwardEmitter {
public:
  using BackwardEmitter::BackwardEmitter;
  LogicalResult run();

private:
  /// Coordinates [first, first + count) of B or H that a grid point walks.
  struct Walk {
    Value first, count;
  };

  LogicalResult prepare();
  scf::ForallOp emitGrid();
  Walk walkOf(AttentionSpace::Dim dim);
  /// lq (for M) or lk (for N) of batch b.
  Value lengthOf(AttentionSpace::Dim dim);
  Value pointOf(Value operand, AffineMap map, AffineMap &viewMap);
  /// The sums of one more block of scores.
  LogicalResult addBlock(Value n0, Value q, Value dO, const Statistics &rows,
                         SmallVectorImpl<Value> &sums);
  MaskAttr narrowedMask(SmallVectorImpl<Value> &symbols);
  AffineExpr asAffine(Value index);
  void storeSums(ValueRange sums);

  Value clampedMax(OpFoldResult value, int64_t low) {
    return arith::MaxSIOp::create(builder, loc, asValue(value), index(low));
  }
  Value toI32(Value value) {
    return arith::IndexCastOp::create(builder, loc, builder.getI32Type(),
                                      value);
  }
  Value compare(arith::CmpIPredicate predicate, Value lhs, Value rhs) {
    return arith::CmpIOp::create(builder, loc, predicate, lhs, rhs);
  }
  RankedTensorType indexType() {
    return matrix(tileM, tileN, builder.getI32Type());
  }

  Value gradient;
  AffineMap map; // null when the capture is gathered from
  SmallVector<AccumulateOp> adds;
  /// Which dimension of the gradient runs along B, H, M, N; those of a gathered
  /// one are owned where every index is the batch or the head.
  std::array<std::optional<unsigned>, 4> dims;
  /// The dimension of a table whose entries are owned kEntries at a time.
  std::optional<unsigned> entries;
  /// Where the grid point's part begins, by dimension of the gradient.
  SmallVector<Value> at;
};
} // namespace

LogicalResult CaptureEmitter::prepare() {
  if (op.hasTensorSemantics())
    return op->emitOpError("is on tensors; run one-shot-bufferize first");
  if (backward.getDCaptures().size() != 1 || !backward.getDeltaKnown() ||
      backward.getDQ() || backward.getDK() || backward.getDV())
    return op->emitOpError("computes the gradient of a capture and others; run "
                           "fa-split-backward first");
  if (!op.getOrigin().empty())
    return op->emitOpError("has an origin and gradients of captures, which are "
                           "sums over the whole problem; drop the origin");
  if (backward.getDerivative().empty())
    return op->emitOpError("has gradients of captures and no derivative "
                           "region; run fa-differentiate first");
  for (auto [operand, size] : {std::pair(AttentionSpace::Q, AttentionSpace::D),
                               std::pair(AttentionSpace::V, AttentionSpace::E)})
    if (op.getShaped(operand).getType().isDynamicDim(
            *op.findDim(operand, size)))
      return op->emitOpError("has a dynamic head size; head sizes must be "
                             "static");

  gradient = backward.getDCaptures().front();
  unsigned capture = backward.getDifferentiatedCaptures().front();
  unsigned rank = cast<MemRefType>(gradient.getType()).getRank();
  if (auto attr = dyn_cast<AffineMapAttr>((*op.getCaptureMaps())[capture])) {
    map = attr.getValue();
    for (auto [pos, expr] : llvm::enumerate(map.getResults()))
      dims[cast<AffineDimExpr>(expr).getPosition()] = pos;
    return success();
  }
  if (!backward.isGathered(capture)) { // a scalar
    map = AffineMap::get(4, 0, builder.getContext());
    return success();
  }
  backward.getDerivative().walk([&](AccumulateOp add) { adds.push_back(add); });
  for (unsigned pos = 0; pos < rank; ++pos) {
    auto isDim = [&](AttentionSpace::Dim dim) {
      return !dims[dim] && llvm::all_of(adds, [&](AccumulateOp add) {
        return add.getIndices()[pos] ==
               backward.getDerivative().getArgument(1 + dim);
      });
    };
    if (isDim(AttentionSpace::B))
      dims[AttentionSpace::B] = pos;
    else if (isDim(AttentionSpace::H))
      dims[AttentionSpace::H] = pos;
    else
      entries = pos;
  }
  return success();
}

scf::ForallOp CaptureEmitter::emitGrid() {
  unsigned rank = cast<MemRefType>(gradient.getType()).getRank();
  SmallVector<int64_t> steps(rank, 1);
  if (map && dims[AttentionSpace::M])
    steps[*dims[AttentionSpace::M]] = tileM;
  if (map && dims[AttentionSpace::N])
    steps[*dims[AttentionSpace::N]] = tileN;
  if (entries)
    steps[*entries] = kEntries;
  SmallVector<OpFoldResult> extents;
  AffineExpr d0 = builder.getAffineDimExpr(0);
  for (auto [pos, step] : llvm::enumerate(steps))
    extents.push_back(apply(
        d0.ceilDiv(step), {memref::getMixedSize(builder, loc, gradient, pos)}));
  if (extents.empty())
    extents.push_back(builder.getIndexAttr(1));
  auto forall = scf::ForallOp::create(builder, loc, extents, ValueRange(),
                                      /*mapping=*/std::nullopt);
  forall->setAttr(tl::kPlanAttrName, schedule.getPlan());
  builder.setInsertionPointToStart(forall.getBody());
  for (auto [iv, step] : llvm::zip(forall.getInductionVars(), steps))
    at.push_back(asValue(apply(d0 * step, {OpFoldResult(iv)})));
  return forall;
}

/// An owned coordinate may be one that no score has, and the last of a table
/// stands for those beyond it, too.
CaptureEmitter::Walk CaptureEmitter::walkOf(AttentionSpace::Dim dim) {
  Value extent = asValue(op.getExtent(builder, dim));
  if (!dims[dim])
    return {index(0), extent};
  Value first = at[*dims[dim]];
  Value next = arith::AddIOp::create(builder, loc, first, index(1));
  Value end = arith::MinSIOp::create(builder, loc, next, extent);
  if (!map) {
    Value size =
        asValue(memref::getMixedSize(builder, loc, gradient, *dims[dim]));
    end = arith::SelectOp::create(builder, loc,
                                  compare(arith::CmpIPredicate::eq, next, size),
                                  extent, end);
  }
  Value count = arith::SubIOp::create(builder, loc, end, first);
  return {first, clampedMax(count, 0)};
}

Value CaptureEmitter::lengthOf(AttentionSpace::Dim dim) {
  return asValue(op.getLength(builder, dim, b, op.getExtent(builder, dim)));
}

/// `operand` at batch b and head h, up to the lengths.
Value CaptureEmitter::pointOf(Value operand, AffineMap map,
                              AffineMap &viewMap) {
  SmallVector<OpFoldResult> offsets, sizes,
      ones(map.getNumResults(), builder.getIndexAttr(1));
  SmallVector<int64_t> shape;
  SmallVector<AffineExpr> kept;
  for (auto [pos, expr] : llvm::enumerate(map.getResults())) {
    bool isBatch = expr.isFunctionOfDim(AttentionSpace::B);
    if (isBatch || expr.isFunctionOfDim(AttentionSpace::H)) {
      Value head = isa<AffineDimExpr>(expr) ? h : op.getKeyHead(builder, h);
      offsets.push_back(isBatch ? b : head);
      sizes.push_back(builder.getIndexAttr(1));
      continue;
    }
    offsets.push_back(builder.getIndexAttr(0));
    OpFoldResult size = memref::getMixedSize(builder, loc, operand, pos);
    if (!op.getLengths().empty() && expr.isFunctionOfDim(AttentionSpace::M))
      size = lq;
    if (!op.getLengths().empty() && expr.isFunctionOfDim(AttentionSpace::N))
      size = lk;
    sizes.push_back(size);
    shape.push_back(getConstantIntValue(size).value_or(ShapedType::kDynamic));
    kept.push_back(expr);
  }
  viewMap = AffineMap::get(6, 0, kept, builder.getContext());
  auto type = memref::SubViewOp::inferRankReducedResultType(
      shape, cast<MemRefType>(operand.getType()), offsets, sizes, ones);
  return memref::SubViewOp::create(builder, loc, type, operand, offsets, sizes,
                                   ones);
}

LogicalResult CaptureEmitter::addBlock(Value n0, Value q, Value dO,
                                       const Statistics &rows,
                                       SmallVectorImpl<Value> &sums) {
  AffineMap kMap, vMap;
  Value k = pointOf(op.getK(), op.getMap(AttentionSpace::K), kMap);
  Value v = pointOf(op.getV(), op.getMap(AttentionSpace::V), vMap);
  Value kTile = load(k, kMap, AttentionSpace::N, n0, tileN,
                     extentOf(AttentionSpace::K, AttentionSpace::D));
  Value vTile = load(v, vMap, AttentionSpace::N, n0, tileN,
                     extentOf(AttentionSpace::V, AttentionSpace::E));
  MaskQuery mask(builder.getContext(), op.getMaskAttr(), b, h,
                 getAsOpFoldResult(lq), getAsOpFoldResult(lk), op.getSymbols());
  Value keep =
      keptRows(rows, mask.emitPredicate(builder, loc, tileM, tileN, m0, n0));
  Block block;
  addends.clear();
  if (failed(emitBlock(q, kTile, dO, vTile, rows, keep, /*inFull=*/Value(), n0,
                       block)))
    return failure();
  if (map) {
    Addend &addend = addends.emplace_back();
    addend.value = block.captures.front();
  }

  // What is not kept has p = 0, a score of -inf included; its derivative may be
  // anything.
  Value zero = constant(scoreType(), 0.0);
  Value none = arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OEQ,
                                     block.p, zero);
  for (Addend &addend : addends) {
    Value value =
        arith::SelectOp::create(builder, loc, none, zero, addend.value);
    Value entry;
    for (auto [pos, tile] : llvm::enumerate(addend.indices)) {
      if (dims[AttentionSpace::B] == pos || dims[AttentionSpace::H] == pos)
        continue;
      // Clamped, as by fa.gather; counted from what the grid point owns.
      Value size = asValue(memref::getMixedSize(builder, loc, gradient, pos));
      Value last = arith::SubIOp::create(builder, loc, size, index(1));
      auto splat32 = [&](Value scalar) {
        return splat(toI32(scalar), indexType());
      };
      Value clamped = arith::MinSIOp::create(builder, loc, tile, splat32(last));
      clamped =
          arith::MaxSIOp::create(builder, loc, clamped, splat32(index(0)));
      Value local =
          arith::SubIOp::create(builder, loc, clamped, splat32(at[pos]));
      if (entries == pos) {
        entry = local;
        continue;
      }
      Value here = compare(arith::CmpIPredicate::eq, local, splat32(index(0)));
      value = arith::SelectOp::create(builder, loc, here, value, zero);
    }
    if (!entry) {
      sums[0] = arith::AddFOp::create(builder, loc, sums[0], value);
      continue;
    }
    for (int64_t i = 0; i < kEntries; ++i) {
      Value number = arith::ConstantOp::create(
          builder, loc,
          DenseElementsAttr::get(indexType(), builder.getI32IntegerAttr(i)));
      Value here = compare(arith::CmpIPredicate::eq, entry, number);
      Value part = tl::ReduceOp::create(
          builder, loc, vectorType(), tl::ReduceKind::add,
          arith::SelectOp::create(builder, loc, here, value, zero), 1);
      sums[i] = arith::AddFOp::create(builder, loc, sums[i], part);
    }
  }
  return success();
}

/// `index` of a derivative region over (b, h, m, n); null when it is not
/// affine.
AffineExpr CaptureEmitter::asAffine(Value index) {
  if (auto arg = dyn_cast<BlockArgument>(index)) {
    bool isCoordinate = arg.getParentRegion() == &backward.getDerivative() &&
                        arg.getArgNumber() >= 1 && arg.getArgNumber() <= 4;
    return isCoordinate ? builder.getAffineDimExpr(arg.getArgNumber() - 1)
                        : AffineExpr();
  }
  if (std::optional<int64_t> value = getConstantIntValue(index))
    return builder.getAffineConstantExpr(*value);
  Operation *def = index.getDefiningOp();
  if (isa_and_nonnull<arith::IndexCastOp>(def))
    return asAffine(def->getOperand(0));
  if (!isa_and_nonnull<arith::AddIOp, arith::SubIOp, arith::MulIOp>(def))
    return {};
  AffineExpr lhs = asAffine(def->getOperand(0));
  AffineExpr rhs = asAffine(def->getOperand(1));
  if (!lhs || !rhs)
    return {};
  if (isa<arith::AddIOp>(def))
    return lhs + rhs;
  if (isa<arith::SubIOp>(def))
    return lhs - rhs;
  if (!lhs.isSymbolicOrConstant() && !rhs.isSymbolicOrConstant())
    return {};
  return lhs * rhs;
}

/// The mask, and of it only what may read an entry that the grid point owns:
/// `first <= index <= last`, two new symbols for each index.
MaskAttr CaptureEmitter::narrowedMask(SmallVectorImpl<Value> &symbols) {
  symbols.assign(op.getSymbols().begin(), op.getSymbols().end());
  SmallVector<SmallVector<AffineExpr>> limits;
  for (AccumulateOp add : adds) {
    auto &constraints = limits.emplace_back();
    for (auto [pos, value] : llvm::enumerate(add.getIndices())) {
      if (dims[AttentionSpace::B] == pos || dims[AttentionSpace::H] == pos)
        continue;
      AffineExpr expr = asAffine(value);
      if (!expr)
        continue;
      Value size = asValue(memref::getMixedSize(builder, loc, gradient, pos));
      Value end = arith::AddIOp::create(builder, loc, at[pos],
                                        index(entries == pos ? kEntries : 1));
      Value first = arith::SelectOp::create(
          builder, loc, compare(arith::CmpIPredicate::eq, at[pos], index(0)),
          index(-kFar), at[pos]);
      end = arith::SelectOp::create(
          builder, loc, compare(arith::CmpIPredicate::sge, end, size),
          index(kFar), end);
      AffineExpr firstSymbol = builder.getAffineSymbolExpr(2 + symbols.size());
      AffineExpr endSymbol = builder.getAffineSymbolExpr(3 + symbols.size());
      symbols.append({first, end});
      constraints.append({expr - firstSymbol, endSymbol - expr - 1});
    }
  }
  SmallVector<IntegerSet> sets;
  if (op.getMaskAttr())
    llvm::append_range(sets, op.getMaskAttr().getSets());
  else
    sets.push_back(IntegerSet());
  SmallVector<IntegerSet> narrowed;
  for (IntegerSet set : sets)
    for (ArrayRef<AffineExpr> limit : limits) {
      SmallVector<AffineExpr> constraints(limit);
      SmallVector<bool> equalities(limit.size(), false);
      if (set) {
        llvm::append_range(constraints, set.getConstraints());
        llvm::append_range(equalities, set.getEqFlags());
      }
      if (constraints.empty())
        return {};
      narrowed.push_back(
          IntegerSet::get(4, 2 + symbols.size(), constraints, equalities));
    }
  return MaskAttr::get(builder.getContext(), narrowed);
}

/// Stores what the grid point owns.
void CaptureEmitter::storeSums(ValueRange sums) {
  auto type = cast<MemRefType>(gradient.getType());
  bool hasM = map && dims[AttentionSpace::M],
       hasN = map && dims[AttentionSpace::N];
  // A view without the dimensions that are points; one is left.
  Value view = gradient;
  SmallVector<OpFoldResult> offsets, sizes,
      ones(type.getRank(), builder.getIndexAttr(1));
  SmallVector<int64_t> shape;
  SmallVector<Value> tileOffsets;
  for (int64_t pos = 0; pos < type.getRank(); ++pos) {
    bool isTile = entries == pos || (hasM && dims[AttentionSpace::M] == pos) ||
                  (hasN && dims[AttentionSpace::N] == pos);
    bool isLast = pos + 1 == type.getRank() && tileOffsets.empty();
    offsets.push_back(isTile ? OpFoldResult(builder.getIndexAttr(0))
                             : OpFoldResult(at[pos]));
    sizes.push_back(isTile ? memref::getMixedSize(builder, loc, gradient, pos)
                           : OpFoldResult(builder.getIndexAttr(1)));
    if (!isTile && !isLast)
      continue;
    shape.push_back(
        getConstantIntValue(sizes.back()).value_or(ShapedType::kDynamic));
    tileOffsets.push_back(isTile ? at[pos] : index(0));
  }
  if (type.getRank() == 0) {
    view = memref::ExpandShapeOp::create(builder, loc, ArrayRef<int64_t>{1},
                                         gradient,
                                         ArrayRef<ReassociationIndices>());
    tileOffsets.push_back(index(0));
  } else {
    auto viewType = memref::SubViewOp::inferRankReducedResultType(
        shape, type, offsets, sizes, ones);
    view = memref::SubViewOp::create(builder, loc, viewType, gradient, offsets,
                                     sizes, ones);
  }

  auto reduce = [&](Value tile, int64_t dim) -> Value {
    auto from = cast<RankedTensorType>(tile.getType());
    return tl::ReduceOp::create(
        builder, loc,
        RankedTensorType::get({from.getDimSize(1 - dim)}, accType),
        tl::ReduceKind::add, tile, dim);
  };
  auto wide = matrix(tileM, kEntries, accType);
  auto widened = [&](Value vector) -> Value {
    return tl::BroadcastOp::create(builder, loc, wide, vector, 1);
  };
  Value tile = sums[0];
  DenseI64ArrayAttr order;
  if (entries) {
    // Column i holds the sums of entry i.
    auto columns = matrix(tileM, kEntries, builder.getI32Type());
    Value column = tl::IotaOp::create(builder, loc, columns, 1);
    tile = widened(sums[0]);
    for (int64_t i = 1; i < kEntries; ++i) {
      Value number = arith::ConstantOp::create(
          builder, loc,
          DenseElementsAttr::get(columns, builder.getI32IntegerAttr(i)));
      tile = arith::SelectOp::create(
          builder, loc, compare(arith::CmpIPredicate::eq, column, number),
          widened(sums[i]), tile);
    }
    tile = reduce(tile, 0);
  } else if (hasM && hasN) {
    if (*dims[AttentionSpace::N] < *dims[AttentionSpace::M])
      order = builder.getDenseI64ArrayAttr({1, 0});
  } else if (hasM) {
    tile = reduce(tile, 1);
  } else if (hasN) {
    tile = reduce(tile, 0);
  } else {
    tile = reduce(widened(reduce(tile, 1)), 0);
  }
  tl::StoreOp::create(builder, loc, tile, view, tileOffsets, order);
}

LogicalResult CaptureEmitter::run() {
  if (failed(prepare()))
    return failure();
  AffineExpr d0 = builder.getAffineDimExpr(0), d1 = builder.getAffineDimExpr(1);
  bool hasM = map && dims[AttentionSpace::M],
       hasN = map && dims[AttentionSpace::N];
  emitGrid();
  Walk batches = walkOf(AttentionSpace::B), heads = walkOf(AttentionSpace::H);
  Value rowBlocks = index(1);
  if (!hasM)
    rowBlocks = asValue(
        apply(d0.ceilDiv(tileM), {op.getExtent(builder, AttentionSpace::M)}));
  Value total = arith::MulIOp::create(builder, loc, batches.count, heads.count);
  total = arith::MulIOp::create(builder, loc, total, rowBlocks);
  b = batches.first;
  h = heads.first;
  Value n0 = hasN ? at[*dims[AttentionSpace::N]] : Value();

  // Blocks of rows and keys that exist in no batch and head are skipped, where
  // one answer serves all of them.
  bool uniform =
      hasM && hasN &&
      (op.getLengths().empty() || op.getLengths()[0].getType().isIndex());
  if (op.getMaskAttr())
    for (IntegerSet set : op.getMaskAttr().getSets())
      for (AffineExpr expr : set.getConstraints())
        uniform &= !expr.isFunctionOfDim(AttentionSpace::B) &&
                   !expr.isFunctionOfDim(AttentionSpace::H);
  auto rowRange = [&]() -> MaskQuery::Range {
    return {getAsOpFoldResult(m0),
            affine::makeComposedFoldedAffineMin(
                builder, loc,
                AffineMap::get(2, 0, {d0 + tileM, d1}, builder.getContext()),
                {OpFoldResult(m0), OpFoldResult(lq)})};
  };
  if (uniform) {
    m0 = at[*dims[AttentionSpace::M]];
    lq = lengthOf(AttentionSpace::M);
    lk = lengthOf(AttentionSpace::N);
    MaskQuery mask(builder.getContext(), op.getMaskAttr(), b, h,
                   getAsOpFoldResult(lq), getAsOpFoldResult(lk),
                   op.getSymbols());
    MaskQuery::Range live = mask.liveColumns(builder, loc, rowRange());
    Value end = asValue(apply(d0 + tileN, {OpFoldResult(n0)}));
    for (auto [low, high] : {std::pair(m0, lq), std::pair(n0, asValue(live.hi)),
                             std::pair(asValue(live.lo), end)})
      total = arith::SelectOp::create(
          builder, loc, compare(arith::CmpIPredicate::slt, low, high), total,
          index(0));
  }

  SmallVector<Value> inits;
  for (int64_t i = 0; i < (entries ? kEntries : 1); ++i)
    inits.push_back(constant(entries ? vectorType() : scoreType(), 0.0));
  auto loop =
      scf::ForOp::create(builder, loc, index(0), total, index(1), inits);
  {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(loop.getBody());
    // 32 bits: a division of 64 is a long sequence of instructions. Copies
    // ahead of the loop divide too, when it has no iteration.
    Value rest = toI32(loop.getInductionVar());
    auto next = [&](Value count) -> Value {
      Value count32 = arith::MaxUIOp::create(
          builder, loc, toI32(count),
          arith::ConstantIntOp::create(builder, loc, 1, 32));
      Value digit = arith::RemUIOp::create(builder, loc, rest, count32);
      rest = arith::DivUIOp::create(builder, loc, rest, count32);
      return arith::IndexCastOp::create(builder, loc, builder.getIndexType(),
                                        digit);
    };
    m0 = hasM ? at[*dims[AttentionSpace::M]]
              : asValue(apply(d0 * tileM, {OpFoldResult(next(rowBlocks))}));
    h = arith::AddIOp::create(builder, loc, heads.first, next(heads.count));
    b = arith::AddIOp::create(builder, loc, batches.first, next(batches.count));
    lq = lengthOf(AttentionSpace::M);
    lk = lengthOf(AttentionSpace::N);
    AffineMap qMap, oMap, lseMap;
    Value q = pointOf(op.getQ(), op.getMap(AttentionSpace::Q), qMap);
    Value dO = pointOf(backward.getDO(), op.getMap(AttentionSpace::O), oMap);
    Value lse = pointOf(op.getLse(), op.getMap(AttentionSpace::LSE), lseMap);
    Value delta =
        pointOf(backward.getDelta(), op.getMap(AttentionSpace::LSE), lseMap);
    Value qTile = load(q, qMap, AttentionSpace::M, m0, tileM,
                       extentOf(AttentionSpace::Q, AttentionSpace::D));
    Value dOTile = load(dO, oMap, AttentionSpace::M, m0, tileM,
                        extentOf(AttentionSpace::O, AttentionSpace::E));
    Statistics rows = loadStatistics({lse, m0}, {delta, m0});

    SmallVector<Value> sums(loop.getRegionIterArgs());
    if (hasN) {
      if (failed(addBlock(n0, qTile, dOTile, rows, sums)))
        return failure();
    } else {
      SmallVector<Value> symbols(op.getSymbols());
      MaskAttr set = op.getMaskAttr();
      if (!adds.empty())
        set = narrowedMask(symbols);
      MaskQuery mask(builder.getContext(), set, b, h, getAsOpFoldResult(lq),
                     getAsOpFoldResult(lk), symbols);
      MaskQuery::Range live = mask.liveColumns(builder, loc, rowRange());
      Value first = asValue(apply(d0.floorDiv(tileN), {live.lo}));
      Value end = asValue(apply(d0.ceilDiv(tileN), {live.hi}));
      end = arith::SelectOp::create(
          builder, loc, compare(arith::CmpIPredicate::slt, m0, lq), end, first);
      auto keys = scf::ForOp::create(builder, loc, first, end, index(1), sums);
      builder.setInsertionPointToStart(keys.getBody());
      Value start =
          asValue(apply(d0 * tileN, {OpFoldResult(keys.getInductionVar())}));
      sums.assign(keys.getRegionIterArgs().begin(),
                  keys.getRegionIterArgs().end());
      if (failed(addBlock(start, qTile, dOTile, rows, sums)))
        return failure();
      scf::YieldOp::create(builder, loc, sums);
      moveLoopInvariantCode(cast<LoopLikeOpInterface>(keys.getOperation()));
      builder.setInsertionPointAfter(keys);
      sums.assign(keys.getResults().begin(), keys.getResults().end());
    }
    scf::YieldOp::create(builder, loc, sums);
  }
  moveLoopInvariantCode(cast<LoopLikeOpInterface>(loop.getOperation()));
  storeSums(loop.getResults());
  return success();
}

LogicalResult fa::emitCaptureGradient(AttentionBackwardOp op,
                                      ScheduleAttr schedule) {
  return CaptureEmitter(op, schedule).run();
}
