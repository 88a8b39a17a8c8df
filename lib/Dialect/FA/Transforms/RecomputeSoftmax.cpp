//===- RecomputeSoftmax.cpp - fa-recompute-softmax ------------------------===//

#include "BackwardEmitter.h"
#include "fa/Dialect/FA/IR/Mask.h"
#include "fa/Dialect/FA/Transforms/Passes.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Transforms/LoopInvariantCodeMotionUtils.h"
#include <numeric>

namespace mlir::fa {
#define GEN_PASS_DEF_FARECOMPUTESOFTMAX
#include "fa/Dialect/FA/Transforms/Passes.h.inc"
} // namespace mlir::fa

using namespace mlir;
using namespace mlir::fa;

using Emitter = BackwardEmitter;

Value Emitter::beyond(Value start, Value end, int64_t rows) {
  Type i32 = builder.getI32Type();
  auto type = RankedTensorType::get({rows}, i32);
  auto splat32 = [&](Value value) {
    return splat(arith::IndexCastOp::create(builder, loc, i32, value), type);
  };
  Value row = arith::AddIOp::create(builder, loc, splat32(start),
                                    tl::IotaOp::create(builder, loc, type, 0));
  return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::sge, row,
                               splat32(end));
}

/// Rows of the block at m0 that do not exist, or saw no key.
Value Emitter::deadRows(Value lse) {
  Value magnitude = math::AbsFOp::create(builder, loc, lse);
  Value noKey =
      arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OEQ, magnitude,
                            infinity(vectorType(), /*negative=*/false));
  return arith::OrIOp::create(builder, loc, noKey, beyond(m0, lq, tileM));
}

Emitter::Statistics Emitter::loadStatistics(const Rows &lseRows,
                                            const Rows &deltaRows) {
  Statistics rows;
  Value lse = loadVector(lseRows);
  rows.dead = deadRows(lse);
  Value log2e = arith::ConstantOp::create(
      builder, loc, builder.getFloatAttr(accType, kLog2E));
  // exp2(x - inf) is 0 whatever x.
  rows.lse2 = arith::SelectOp::create(builder, loc, rows.dead,
                                      infinity(vectorType(), false),
                                      scaled(lse, log2e));
  rows.delta = loadVector(deltaRows);
  return rows;
}

Value Emitter::keptRows(const Statistics &rows, Value keep) {
  auto type = cast<RankedTensorType>(rows.dead.getType());
  Value all = arith::ConstantOp::create(builder, loc,
                                        DenseElementsAttr::get(type, true));
  Value alive = arith::XOrIOp::create(builder, loc, rows.dead, all);
  Value kept = tl::BroadcastOp::create(
      builder, loc, matrix(tileM, tileN, builder.getI1Type()), alive, 1);
  return keep ? arith::AndIOp::create(builder, loc, keep, kept) : kept;
}

LogicalResult Emitter::emitBlock(Value q, Value k, Value dO, Value v,
                                 const Statistics &rows, Value keep,
                                 Value inFull, Value n0, Block &block) {
  bool hasRegion = !op.getScore().empty();
  Value log2e = arith::ConstantOp::create(
      builder, loc, builder.getFloatAttr(accType, kLog2E));
  Value dp, raw;
  auto makeDP = [&] {
    if (dO)
      dp =
          contract(dO, v, constant(scoreType(), 0.0), /*rhsIsTransposed=*/true);
  };
  // First, so that v's, or d_o's, slot of shared memory is free early; last
  // where it can run beside what is done with the scores.
  bool overlaps = schedule.getPlan().getOverlap();
  if (!overlaps)
    makeDP();
  raw = contract(q, k, constant(scoreType(), 0.0), /*rhsIsTransposed=*/true);
  if (overlaps)
    makeDP();
  Value scores = raw, factor;
  if (hasRegion) {
    raw = scaled(raw, op.getScale());
    SmallVector<Value> yielded;
    if (failed(inlineRegion(op.getScore(), raw, {}, n0, yielded)))
      return failure();
    scores = yielded.front();
    factor = log2e;
  } else {
    factor = arith::MulFOp::create(builder, loc, op.getScale(), log2e);
  }
  /// Zero where the mask drops the element.
  auto masked = [&](Value tile) -> Value {
    if (!keep)
      return tile;
    Value zero = constant(scoreType(), 0.0);
    Value kept = arith::SelectOp::create(builder, loc, keep, tile, zero);
    if (!inFull)
      return kept;
    return arith::SelectOp::create(builder, loc, inFull, tile, kept);
  };
  Value exponent = fused<arith::SubFOp>(scaled(scores, factor),
                                        alongColumns(rows.lse2, tileN));
  block.p = masked(math::Exp2Op::create(builder, loc, exponent));
  if (!dO)
    return success();
  Value difference =
      arith::SubFOp::create(builder, loc, dp, alongColumns(rows.delta, tileN));
  // Selected, not multiplied, where p is 0: dp may be NaN there.
  Value ds = masked(arith::MulFOp::create(builder, loc, block.p, difference));
  block.dr = ds;
  if (!hasRegion)
    return success();
  SmallVector<Value> yielded;
  if (failed(inlineRegion(backward.getDerivative(), raw, ds, n0, yielded)))
    return failure();
  // A derivative may be infinite where the mask drops the element.
  block.dr = masked(yielded.front());
  block.captures.assign(yielded.begin() + 1, yielded.end());
  return success();
}

Value Emitter::loadRows(const Rows &rows, AffineMap map, int64_t columns) {
  return load(rows.memref, map, AttentionSpace::M,
              clipRows(rows, map, AttentionSpace::M, m0, lq), tileM, columns);
}

void Emitter::storeGradient(Value tile, Value dead, Value factor, Value memref,
                            AffineMap map, unsigned rowDim, Value offset) {
  auto type = cast<RankedTensorType>(tile.getType());
  tile = scaled(tile, factor);
  if (dead) {
    Value isDead = tl::BroadcastOp::create(
        builder, loc, type.clone(builder.getI1Type()), dead, 1);
    tile = arith::SelectOp::create(builder, loc, isDead, constant(type, 0.0),
                                   tile);
  }
  Type element = cast<MemRefType>(memref.getType()).getElementType();
  if (element != accType)
    tile = arith::TruncFOp::create(builder, loc, type.clone(element), tile);
  store(tile, memref, map, rowDim, offset);
}

//===----------------------------------------------------------------------===//
// Programs
//===----------------------------------------------------------------------===//

/// delta = rowsum(o * d_o) - d_lse; 0 in dead rows.
void Emitter::emitDelta() {
  AffineMap oMap = op.getMap(AttentionSpace::O),
            lseMap = op.getMap(AttentionSpace::LSE);
  int64_t e = extentOf(AttentionSpace::O, AttentionSpace::E);
  Rows o = rowsOf(backward.getO(), oMap), dO = rowsOf(backward.getDO(), oMap);
  Rows delta = rowsOf(backward.getDelta(), lseMap);
  Value oTile = loadRows(o, oMap, e), dOTile = loadRows(dO, oMap, e);
  Value product =
      arith::MulFOp::create(builder, loc, widen(oTile), widen(dOTile));
  Value sum = tl::ReduceOp::create(builder, loc, vectorType(),
                                   tl::ReduceKind::add, product, 1);
  if (backward.getDLse())
    sum = arith::SubFOp::create(builder, loc, sum,
                                loadVector(rowsOf(backward.getDLse(), lseMap)));
  Value dead = deadRows(loadVector(rowsOf(op.getLse(), lseMap)));
  sum = arith::SelectOp::create(builder, loc, dead, constant(vectorType(), 0.0),
                                sum);
  tl::StoreOp::create(builder, loc, sum, delta.memref, ValueRange{delta.offset},
                      DenseI64ArrayAttr());
  if (Value dQSum = backward.getDQSum()) {
    AffineMap qMap = op.getMap(AttentionSpace::Q);
    int64_t d = extentOf(AttentionSpace::Q, AttentionSpace::D);
    // Nor are sums of tiles without rows zero: nobody reads them.
    Rows rows = rowsOf(dQSum, qMap);
    store(constant(matrix(tileM, d, accType), 0.0), rows.memref, qMap,
          AttentionSpace::M, clipRows(rows, qMap, AttentionSpace::M, m0, lq));
  }
}

/// d_q of a block of query rows, from its sum.
void Emitter::emitConversion() {
  AffineMap qMap = op.getMap(AttentionSpace::Q),
            lseMap = op.getMap(AttentionSpace::LSE);
  int64_t d = extentOf(AttentionSpace::Q, AttentionSpace::D);
  Rows sum = rowsOf(backward.getDQSum(), qMap);
  Rows dQ = rowsOf(backward.getDQ(), qMap);
  Value tile = loadRows(sum, qMap, d);
  tile.getDefiningOp<tl::LoadOp>().setShuffled(true);
  Value dead = deadRows(loadVector(rowsOf(op.getLse(), lseMap)));
  storeGradient(tile, dead, op.getScale(), dQ.memref, qMap, AttentionSpace::M,
                dQ.offset);
}

/// d_q of a block of query rows: a loop over the blocks of keys.
LogicalResult Emitter::emitRows() {
  AffineMap qMap = op.getMap(AttentionSpace::Q),
            kMap = op.getMap(AttentionSpace::K),
            vMap = op.getMap(AttentionSpace::V),
            oMap = op.getMap(AttentionSpace::O),
            lseMap = op.getMap(AttentionSpace::LSE);
  int64_t d = extentOf(AttentionSpace::Q, AttentionSpace::D);
  int64_t e = extentOf(AttentionSpace::V, AttentionSpace::E);
  Rows q = rowsOf(op.getQ(), qMap), dQ = rowsOf(backward.getDQ(), qMap);
  Rows dO = rowsOf(backward.getDO(), oMap);
  MaskQuery mask(builder.getContext(), op.getMaskAttr(), b, h,
                 getAsOpFoldResult(lq), getAsOpFoldResult(lk), op.getSymbols());
  KeyBlocks blocks = keyBlocks(mask, q.memref, qMap);

  Value qTile = loadRows(q, qMap, d), dOTile = loadRows(dO, oMap, e);
  Statistics rows = loadStatistics(rowsOf(op.getLse(), lseMap),
                                   rowsOf(backward.getDelta(), lseMap));
  Value accInit = constant(matrix(tileM, d, accType), 0.0);
  auto loop = scf::ForOp::create(builder, loc, blocks.first, blocks.end,
                                 index(1), ValueRange{accInit});
  {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(loop.getBody());
    Value step = loop.getInductionVar();
    Value j = blockOfStep(blocks, step);
    Value n0 =
        asValue(apply(builder.getAffineDimExpr(0) * tileN, {OpFoldResult(j)}));
    Value kTile = load(op.getK(), kMap, AttentionSpace::N, n0, tileN, d);
    Value vTile = load(op.getV(), vMap, AttentionSpace::N, n0, tileN, e);
    Value keep = mask.emitPredicate(builder, loc, tileM, tileN, m0, n0);
    Value inFull = keep ? isFullBlock(blocks, step) : Value();
    Block block;
    if (failed(emitBlock(qTile, kTile, dOTile, vTile, rows, keep, inFull, n0,
                         block)))
      return failure();
    Value next = contract(narrow(block.dr), kTile, loop.getRegionIterArg(0),
                          /*rhsIsTransposed=*/false);
    scf::YieldOp::create(builder, loc, next);
  }
  moveLoopInvariantCode(cast<LoopLikeOpInterface>(loop.getOperation()));
  storeGradient(loop.getResult(0), rows.dead, op.getScale(), dQ.memref, qMap,
                AttentionSpace::M, dQ.offset);
  return success();
}

/// d_k and d_v of a block of keys: a loop over the query heads of the group
/// and their blocks of rows, to whose d_q_sum it adds.
LogicalResult Emitter::emitColumns() {
  AffineMap kMap = op.getMap(AttentionSpace::K),
            vMap = op.getMap(AttentionSpace::V);
  int64_t d = extentOf(AttentionSpace::K, AttentionSpace::D);
  int64_t e = extentOf(AttentionSpace::V, AttentionSpace::E);
  MLIRContext *context = builder.getContext();
  AffineExpr d0 = builder.getAffineDimExpr(0), d1 = builder.getAffineDimExpr(1);
  Rows k = rowsOf(op.getK(), kMap, AttentionSpace::N);
  Rows v = rowsOf(op.getV(), vMap, AttentionSpace::N);
  // Keys from lk on are loaded as zeros, their gradients are zero.
  bool keysEndEarly =
      k.memref == op.getK() || mayExceed(k.memref, kMap, AttentionSpace::N, lk);
  auto cut = [&](Rows &rows, AffineMap map) {
    if (!keysEndEarly)
      return;
    rows.offset =
        clipRows(rows, map, AttentionSpace::N, origin(AttentionSpace::N), lk);
    rows.memref = prefix(rows.memref, map, AttentionSpace::N, lk);
  };
  cut(k, kMap);
  cut(v, vMap);
  Value kTile = load(k.memref, kMap, AttentionSpace::N, k.offset, tileN, d);
  Value vTile = load(v.memref, vMap, AttentionSpace::N, v.offset, tileN, e);

  // Blocks of rows that may keep one of these keys.
  Value n0 = origin(AttentionSpace::N);
  OpFoldResult columnEnd = affine::makeComposedFoldedAffineMin(
      builder, loc, AffineMap::get(2, 0, {d0 + tileN, d1}, context),
      {OpFoldResult(n0), OpFoldResult(lk)});
  auto maskOf = [&](Value head) {
    return MaskQuery(context, op.getMaskAttr(), b, head, getAsOpFoldResult(lq),
                     getAsOpFoldResult(lk), op.getSymbols());
  };
  MaskQuery::Range live = {builder.getIndexAttr(0), getAsOpFoldResult(lq)};
  bool perHead = false;
  if (op.getMaskAttr())
    for (IntegerSet set : op.getMaskAttr().getSets())
      for (AffineExpr expr : set.getConstraints())
        perHead |= expr.isFunctionOfDim(AttentionSpace::H);
  if (!perHead)
    live = maskOf(h).liveRows(builder, loc, {OpFoldResult(n0), columnEnd});
  Value first = asValue(apply(d0.floorDiv(tileM), {live.lo}));
  Value end = asValue(apply(d0.ceilDiv(tileM), {live.hi}));
  Value count = arith::SubIOp::create(builder, loc, end, first);
  count = arith::MaxSIOp::create(builder, loc, count, index(0));
  if (keysEndEarly) {
    Value dead =
        arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::sge, n0, lk);
    count = arith::SelectOp::create(builder, loc, dead, index(0), count);
  }
  bool grouped = op.findDim(AttentionSpace::Q, AttentionSpace::H).has_value();
  Value total = count;
  if (grouped)
    total = arith::MulIOp::create(
        builder, loc, count, asValue(op.getExtent(builder, AttentionSpace::H)));

  SmallVector<Value> inits;
  if (backward.getDK())
    inits.push_back(constant(matrix(tileN, d, accType), 0.0));
  if (backward.getDV())
    inits.push_back(constant(matrix(tileN, e, accType), 0.0));
  bool rowsEndEarly =
      mayExceed(op.getQ(), op.getMap(AttentionSpace::Q), AttentionSpace::M, lq);
  Value firstHead = h;
  auto loop =
      scf::ForOp::create(builder, loc, index(0), total, index(1), inits);
  {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(loop.getBody());
    Value step = loop.getInductionVar(), head;
    if (grouped) {
      // 32 bits: a division of 64 is a long sequence of instructions.
      Type i32 = builder.getI32Type();
      Value step32 = arith::IndexCastOp::create(builder, loc, i32, step);
      // Copies ahead of the loop divide too, when it has no iteration.
      Value count32 = arith::MaxUIOp::create(
          builder, loc, arith::IndexCastOp::create(builder, loc, i32, count),
          arith::ConstantIntOp::create(builder, loc, 1, 32));
      Value head32 = arith::DivUIOp::create(builder, loc, step32, count32);
      step32 = arith::RemUIOp::create(builder, loc, step32, count32);
      head = arith::IndexCastOp::create(builder, loc, builder.getIndexType(),
                                        head32);
      step = arith::IndexCastOp::create(builder, loc, builder.getIndexType(),
                                        step32);
      h = arith::AddIOp::create(builder, loc, firstHead, head);
    }
    m0 = asValue(
        apply((d0 + d1) * tileM, {OpFoldResult(first), OpFoldResult(step)}));
    auto rowsView = [&](Value window, AffineMap map, AffineMap &viewMap) {
      Value view = headOf(window, map, head, viewMap);
      return rowsEndEarly ? prefix(view, viewMap, AttentionSpace::M, lq) : view;
    };
    AffineMap qMap, oMap, lseMap, sumMap;
    Value q = rowsView(op.getQ(), op.getMap(AttentionSpace::Q), qMap);
    Value dO = rowsView(backward.getDO(), op.getMap(AttentionSpace::O), oMap);
    Value lse = rowsView(op.getLse(), op.getMap(AttentionSpace::LSE), lseMap);
    Value delta =
        rowsView(backward.getDelta(), op.getMap(AttentionSpace::LSE), lseMap);
    Value qTile = load(q, qMap, AttentionSpace::M, m0, tileM, d);
    Value dOTile = load(dO, oMap, AttentionSpace::M, m0, tileM, e);
    Statistics rows = loadStatistics({lse, m0}, {delta, m0});
    // Keys that do not exist reach rows of the accumulators that are dropped.
    MaskQuery mask = maskOf(h);
    Value keep = mask.keepsAll()
                     ? Value()
                     : mask.emitPredicate(builder, loc, tileM, tileN, m0, n0);
    if (rowsEndEarly && !op.getCaptures().empty())
      keep = keptRows(rows, keep);
    Block block;
    bool needsDr = backward.getDK() || backward.getDQSum();
    if (failed(emitBlock(qTile, kTile, needsDr ? dOTile : Value(), vTile, rows,
                         keep, /*inFull=*/Value(), n0, block)))
      return failure();
    // By the order of their last uses: probabilities and d_o, then q. Where
    // products run beside other work, all start one after another, and d_q is
    // on its way to memory while d_k is made; elsewhere what a product takes
    // is computed before it, and the registers of d_q are free again soon.
    bool overlap = schedule.getPlan().getOverlap();
    Value p = narrow(block.p), dr, nextDK, nextDV;
    ValueRange sums = loop.getRegionIterArgs();
    auto emitDV = [&] {
      if (backward.getDV())
        nextDV = contract(p, dOTile, sums.back(),
                          /*rhsIsTransposed=*/false, /*lhsIsTransposed=*/true);
    };
    auto emitDK = [&] {
      if (backward.getDK())
        nextDK = contract(dr, qTile, sums.front(),
                          /*rhsIsTransposed=*/false, /*lhsIsTransposed=*/true);
    };
    if (!overlap)
      emitDV();
    if (needsDr)
      dr = narrow(block.dr);
    if (overlap)
      emitDV();
    else
      emitDK();
    Value dQSum = backward.getDQSum(), dQ, view;
    // Only this grid point adds to it, or several at once.
    bool owned = schedule.getSequential();
    if (dQSum) {
      // All rows, with those that fill its last block.
      view = headOf(dQSum, op.getMap(AttentionSpace::Q), head, sumMap);
      Value before = owned ? load(view, sumMap, AttentionSpace::M, m0, tileM, d)
                           : constant(matrix(tileM, d, accType), 0.0);
      dQ = contract(dr, kTile, before, /*rhsIsTransposed=*/false);
    }
    if (overlap)
      emitDK();
    if (dQSum && owned)
      store(dQ, view, sumMap, AttentionSpace::M, m0);
    else if (dQSum)
      accumulate(dQ, view, sumMap, AttentionSpace::M, m0);
    SmallVector<Value> next;
    for (Value sum : {nextDK, nextDV})
      if (sum)
        next.push_back(sum);
    scf::YieldOp::create(builder, loc, next);
  }
  h = firstHead;
  moveLoopInvariantCode(cast<LoopLikeOpInterface>(loop.getOperation()));

  Value dead = keysEndEarly ? beyond(n0, lk, tileN) : Value();
  unsigned next = 0;
  if (backward.getDK()) {
    Rows dK = rowsOf(backward.getDK(), kMap, AttentionSpace::N);
    storeGradient(loop.getResult(next++), dead, op.getScale(), dK.memref, kMap,
                  AttentionSpace::N, dK.offset);
  }
  if (backward.getDV()) {
    Rows dV = rowsOf(backward.getDV(), vMap, AttentionSpace::N);
    storeGradient(loop.getResult(next++), dead, Value(), dV.memref, vMap,
                  AttentionSpace::N, dV.offset);
  }
  return success();
}

LogicalResult Emitter::run() {
  if (!backward.getDCaptures().empty())
    return emitCaptureGradient(backward, schedule);
  bool columns = backward.getDK() || backward.getDV();
  if (failed(verifyWindow(columns ? AttentionSpace::N : AttentionSpace::M)))
    return failure();
  b = origin(AttentionSpace::B);
  h = origin(AttentionSpace::H);
  m0 = origin(AttentionSpace::M);
  lq = op.getLengths()[0];
  lk = op.getLengths()[1];
  if (!backward.getDeltaKnown()) {
    if (columns || backward.getDQ())
      return backward.emitOpError(
          "computes delta and a gradient; run fa-split-backward first");
    emitDelta();
    return success();
  }
  if (!op.getScore().empty() && backward.getDerivative().empty())
    return backward.emitOpError("has a score region and no derivative region; "
                                "run fa-differentiate first");
  if (columns && backward.getDQ())
    return backward.emitOpError("computes gradients of rows and of keys; run "
                                "fa-split-backward first");
  if (columns)
    return emitColumns();
  if (!backward.getDQSum())
    return emitRows();
  emitConversion();
  return success();
}

namespace {
struct RecomputeSoftmax
    : public fa::impl::FARecomputeSoftmaxBase<RecomputeSoftmax> {
  void runOnOperation() override {
    if (failed(emitWindows<AttentionBackwardOp, Emitter>(getOperation())))
      signalPassFailure();
  }
};
} // namespace
