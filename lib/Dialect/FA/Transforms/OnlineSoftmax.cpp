//===- OnlineSoftmax.cpp - fa-online-softmax ------------------------------===//

#include "Utils.h"
#include "WindowEmitter.h"
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

static constexpr double kLn2 = 0.6931471805599453;

/// The reference of a row without a live key so far: anything exceeds it.
static constexpr double kNoReference = -1e30;
/// What a block's exponentials may sum to: f16 holds each of them.
static constexpr double kLimit = 32768.0;

/// Whether to emit `score` twice as often is worth it: a tanh of each score is
/// most of the code, and more of the time than the maximum that it would save.
static bool isCheap(Region &score) {
  constexpr int64_t kFewOperations = 8;
  if (score.empty())
    return true;
  auto operations = score.front().without_terminator();
  return llvm::range_size(operations) <= kFewOperations &&
         llvm::none_of(operations, [](Operation &op) {
           return isa<math::MathDialect>(op.getDialect());
         });
}

namespace {
/// Emits the tile program of one attention window.
class Emitter : WindowEmitter {
public:
  Emitter(AttentionOp op, ScheduleAttr schedule)
      : WindowEmitter(op, schedule), attention(op),
        // A reference from elsewhere may be too small for the first block.
        isFixed(schedule.getFixedReference() && !op.getInitLse() &&
                isCheap(op.getScore())),
        isPacked(schedule.getPacked()) {}

  LogicalResult run();

private:
  /// A row's exponentials, what they are relative to, their sum so far, and
  /// what the sums before are multiplied by where `scales` holds.
  struct Softmax {
    Value p, max, sum, alpha, scales;

    SmallVector<Value> values() const { return {p, max, sum, alpha, scales}; }
    static Softmax of(ValueRange v) { return {v[0], v[1], v[2], v[3], v[4]}; }
  };
  Softmax runningMaximum(Value scores, Value max, Value sum, Value factor);
  FailureOr<Softmax> fixedReference(Value scores, Value reference, Value sum,
                                    Value factor, Value isFirst,
                                    function_ref<FailureOr<Value>()> again);
  Softmax largerReference(Value scores, Value reference, Value sum,
                          Value factor);
  Value exponentials(Value scores, Value reference, Value factor);
  Value largerMaximum(Value scores, Value factor, Value max);
  Value sumOfRows(Value p);
  Value flag(bool value);
  FailureOr<ValueRange>
  branch(Value condition, TypeRange types,
         function_ref<FailureOr<SmallVector<Value>>()> yes,
         function_ref<SmallVector<Value>()> no);
  Value productOfLiveKeys(Value p, Value acc, const MaskQuery &mask, Value n0,
                          Value scores);

  AttentionOp attention;
  bool isFixed, isPacked;
};
} // namespace

//===----------------------------------------------------------------------===//
// Products and scores
//===----------------------------------------------------------------------===//

/// `acc` plus the product of `p` with the values from `n0` on, one key at a
/// time and only for rows that keep the key: what lies under the mask is not
/// multiplied, nor, with `scores`, what has a score of -inf. Slow; for values
/// that hold NaN or infinity.
Value Emitter::productOfLiveKeys(Value p, Value acc, const MaskQuery &mask,
                                 Value n0, Value scores) {
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

  // The rows that keep it (a weight may also be 0 by underflow). Only where a
  // score region drops keys the scores stay in registers for this; else the
  // mask is evaluated again, on a narrow tile that begins at the key.
  constexpr int64_t kNarrow = 8;
  Value keeps, isFirst;
  RankedTensorType marksType;
  if (scores) {
    marksType = scoreType();
    isFirst = isKey;
    keeps = arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::UNE,
                                  scores, infinity(scoreType()));
  } else {
    marksType = matrix(tileM, kNarrow, accType);
    auto narrowIndex = matrix(tileM, kNarrow, i32);
    isFirst = arith::CmpIOp::create(
        builder, loc, arith::CmpIPredicate::eq,
        tl::IotaOp::create(builder, loc, narrowIndex, 1),
        splat(arith::ConstantIntOp::create(builder, loc, 0, 32), narrowIndex));
    Value column = arith::AddIOp::create(builder, loc, n0, key);
    keeps = mask.emitPredicate(builder, loc, tileM, kNarrow, m0, column);
  }
  Value marks = arith::SelectOp::create(
      builder, loc, arith::AndIOp::create(builder, loc, keeps, isFirst),
      constant(marksType, 1.0), constant(marksType, 0.0));
  Value mark = tl::ReduceOp::create(builder, loc, vectorType(),
                                    tl::ReduceKind::add, marks, 1);
  Value live = arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OGT,
                                     mark, constant(vectorType(), 0.0));
  Value product = fused<arith::MulFOp>(alongColumns(weight, e), onRows);
  Value sum = fused<arith::AddFOp>(keys.getRegionIterArg(0), product);
  Value next = arith::SelectOp::create(builder, loc, alongColumns(live, e), sum,
                                       keys.getRegionIterArg(0));
  scf::YieldOp::create(builder, loc, next);
  return keys.getResult(0);
}

//===----------------------------------------------------------------------===//
// Keys that a score region drops
//===----------------------------------------------------------------------===//

/// Whether `value` of a score region is finite where the products are, as far
/// as can be seen. Sums and products are taken not to overflow, and a captured
/// number that is a factor (a cap, a slope) to be finite; anything else that is
/// captured can be infinite.
static bool isFinite(Value value, AttentionOp attention) {
  constexpr unsigned kFirstCapture = 5; // after the score and b, h, m, n
  // Arguments of what is around the region are like captures.
  auto isOwn = [&](BlockArgument arg) {
    return arg.getOwner() == &attention.getScore().front();
  };
  if (auto arg = dyn_cast<BlockArgument>(value))
    return isOwn(arg) && arg.getArgNumber() < kFirstCapture;
  FloatAttr constant;
  if (matchPattern(value, m_Constant(&constant)))
    return constant.getValue().isFinite();
  auto areFinite = [&](ValueRange values) {
    return llvm::all_of(values,
                        [&](Value v) { return isFinite(v, attention); });
  };
  auto isFactor = [&](Value factor) {
    auto arg = dyn_cast<BlockArgument>(factor);
    if (!arg || (isOwn(arg) && arg.getArgNumber() < kFirstCapture))
      return isFinite(factor, attention);
    Value number =
        isOwn(arg) ? attention.getCaptures()[arg.getArgNumber() - kFirstCapture]
                   : factor;
    return !isa<ShapedType>(number.getType());
  };
  Operation *op = value.getDefiningOp();
  if (isa<math::TanhOp, arith::SIToFPOp, arith::UIToFPOp>(op))
    return true;
  if (isa<arith::MulFOp>(op))
    return llvm::all_of(op->getOperands(), isFactor);
  if (isa<arith::DivFOp>(op)) {
    FloatAttr divisor;
    return matchPattern(op->getOperand(1), m_Constant(&divisor)) &&
           !divisor.getValue().isZero() && areFinite(op->getOperand(0));
  }
  if (isa<arith::SelectOp>(op))
    return areFinite(op->getOperands().drop_front());
  return isa<arith::AddFOp, arith::SubFOp, arith::NegFOp, arith::MaximumFOp,
             arith::MinimumFOp, arith::MaxNumFOp, arith::MinNumFOp,
             math::AbsFOp>(op) &&
         areFinite(op->getOperands());
}

/// Whether the score that the region yields may be -inf, so that a key is not
/// kept that the mask keeps.
static bool mayDropKeys(AttentionOp op) {
  return !op.getScore().empty() &&
         !isFinite(op.getScore().front().getTerminator()->getOperand(0), op);
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

/// Online softmax (Milakov and Gimelshein, 2018): relative to the maximum so
/// far.
Emitter::Softmax Emitter::runningMaximum(Value scores, Value max, Value sum,
                                         Value factor) {
  // 0 while no key is live, so that -inf - -inf does not arise.
  Value blockMax = tl::ReduceOp::create(builder, loc, vectorType(),
                                        tl::ReduceKind::max, scores, 1);
  Value newMax = arith::MaxNumFOp::create(builder, loc, max, blockMax);
  Value none = arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OEQ,
                                     newMax, infinity(vectorType()));
  Value reference =
      scaled(arith::SelectOp::create(builder, loc, none,
                                     constant(vectorType(), 0.0), newMax),
             factor);
  Value p = exponentials(scores, reference, factor);
  Value alpha = math::Exp2Op::create(
      builder, loc, fused<arith::SubFOp>(scaled(max, factor), reference));
  Value newSum =
      fused<arith::AddFOp>(fused<arith::MulFOp>(sum, alpha), sumOfRows(p));
  return {p, newMax, newSum, alpha, flag(true)};
}

Value Emitter::exponentials(Value scores, Value reference, Value factor) {
  return math::Exp2Op::create(
      builder, loc,
      fused<arith::SubFOp>(scaled(scores, factor),
                           alongColumns(reference, tileN)));
}

Value Emitter::sumOfRows(Value p) {
  return tl::ReduceOp::create(builder, loc, vectorType(), tl::ReduceKind::add,
                              p, 1);
}

Value Emitter::flag(bool value) {
  return arith::ConstantIntOp::create(builder, loc, value, /*width=*/1);
}

/// What `yes` or `no` makes, each emitted in its branch.
FailureOr<ValueRange>
Emitter::branch(Value condition, TypeRange types,
                function_ref<FailureOr<SmallVector<Value>>()> yes,
                function_ref<SmallVector<Value>()> no) {
  auto op = scf::IfOp::create(builder, loc, types, condition, true);
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(op.thenBlock());
  FailureOr<SmallVector<Value>> made = yes();
  if (failed(made))
    return failure();
  scf::YieldOp::create(builder, loc, *made);
  builder.setInsertionPointToStart(op.elseBlock());
  SmallVector<Value> others = no();
  scf::YieldOp::create(builder, loc, others);
  return ValueRange(op.getResults());
}

/// The larger of `max` and the rows' maxima, in base-2 units.
Value Emitter::largerMaximum(Value scores, Value factor, Value max) {
  Value blockMax = tl::ReduceOp::create(builder, loc, vectorType(),
                                        tl::ReduceKind::max, scores, 1);
  return arith::MaxNumFOp::create(builder, loc, max, scaled(blockMax, factor));
}

/// Relative to the rows' maxima if they are larger than `reference`, to which
/// the sums before are scaled.
Emitter::Softmax Emitter::largerReference(Value scores, Value reference,
                                          Value sum, Value factor) {
  Value larger = largerMaximum(scores, factor, reference);
  Value p = exponentials(scores, larger, factor);
  Value alpha = math::Exp2Op::create(
      builder, loc, arith::SubFOp::create(builder, loc, reference, larger));
  Value total =
      fused<arith::AddFOp>(fused<arith::MulFOp>(sum, alpha), sumOfRows(p));
  return {p, larger, total, alpha, flag(true)};
}

/// Relative to the maximum of the first block, without a maximum of the others:
/// the exponentials of a block that has much larger scores sum to more than
/// kLimit, infinity included. Such a block's scores are made again (`again`; to
/// keep them would take as many registers as they are). Exact for every input.
FailureOr<Emitter::Softmax>
Emitter::fixedReference(Value scores, Value reference, Value sum, Value factor,
                        Value isFirst, function_ref<FailureOr<Value>()> again) {
  using Values = SmallVector<Value>;
  auto first = branch(
      isFirst, reference.getType(),
      [&] { return Values{largerMaximum(scores, factor, reference)}; },
      [&] { return Values{reference}; });
  reference = first->front();
  Value p = exponentials(scores, reference, factor), blockSum = sumOfRows(p);
  Value limit = arith::ConstantOp::create(
      builder, loc, builder.getFloatAttr(accType, kLimit));
  Value isLater = arith::XOrIOp::create(builder, loc, isFirst, flag(true));
  Value over = arith::AndIOp::create(
      builder, loc, isLater,
      tl::ExceedsOp::create(builder, loc, blockSum, limit));
  Softmax fixed = {p, reference,
                   arith::AddFOp::create(builder, loc, sum, blockSum),
                   constant(vectorType(), 1.0), flag(false)};
  auto exact = branch(
      over, ValueRange(fixed.values()).getTypes(),
      [&]() -> FailureOr<Values> {
        FailureOr<Value> scores = again();
        if (failed(scores))
          return failure();
        return largerReference(*scores, reference, sum, factor).values();
      },
      [&] { return fixed.values(); });
  if (failed(exact))
    return failure();
  Softmax result = Softmax::of(*exact);
  result.scales = over;
  return result;
}

LogicalResult Emitter::run() {
  // Heads in the window are rows of its tile.
  bool packed = op.findDim(AttentionOp::Q, AttentionOp::H).has_value();
  if (failed(verifyWindow(AttentionOp::M, packed && isPacked)))
    return failure();
  if (packed)
    packRows();
  b = op.getOrigin()[0];
  h = op.getOrigin()[1];
  m0 = op.getOrigin()[2];
  lq = op.getLengths()[0];
  lk = op.getLengths()[1];
  bool hasRegion = !op.getScore().empty();
  Value initLse = attention.getInitLse();

  AffineMap qMap = op.getMap(AttentionOp::Q), kMap = op.getMap(AttentionOp::K),
            vMap = op.getMap(AttentionOp::V), oMap = op.getMap(AttentionOp::O),
            lseMap = op.getMap(AttentionOp::LSE);
  Rows q = rowsOf(op.getQ(), qMap), o = rowsOf(attention.getO(), oMap);
  Rows lse = rowsOf(op.getLse(), lseMap);
  int64_t d =
      paddedExtent(op.getQ(), *op.findDim(AttentionOp::Q, AttentionOp::D));
  int64_t e =
      paddedExtent(op.getV(), *op.findDim(AttentionOp::V, AttentionOp::E));
  Type element = op.getShaped(AttentionOp::Q).getType().getElementType();

  MaskQuery mask(builder.getContext(), op.getMaskAttr(), b, h,
                 getAsOpFoldResult(lq), getAsOpFoldResult(lk), op.getSymbols());
  mask.setTileRows(tilePositions);
  KeyBlocks blocks = keyBlocks(mask, q.memref, qMap);

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

  Value maxInit = isFixed ? constant(vectorType(), kNoReference) : noRows;
  Value sumInit = zeroRows;
  if (initLse) {
    Value given = loadVector(rowsOf(initLse, lseMap));
    Value none = arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OEQ,
                                       given, noRows);
    sumInit = arith::SelectOp::create(builder, loc, none, zeroRows,
                                      constant(vectorType(), 1.0));
    // A null factor means base-2 units.
    maxInit = factor ? given : scaled(given, log2e);
  }

  auto loop =
      scf::ForOp::create(builder, loc, blocks.first, blocks.end, index(1),
                         ValueRange{accInit, maxInit, sumInit});
  {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(loop.getBody());
    Value step = loop.getInductionVar();
    Value j = blockOfStep(blocks, step);
    Value acc = loop.getRegionIterArg(0), max = loop.getRegionIterArg(1),
          sum = loop.getRegionIterArg(2);
    Value n0 = getValueOrCreateConstantIndexOp(
        builder, loc,
        affine::makeComposedFoldedAffineApply(
            builder, loc, builder.getAffineDimExpr(0) * tileN,
            {OpFoldResult(j)}));
    Value kTile = load(op.getK(), kMap, AttentionOp::N, n0, tileN, d);
    Value inFull;
    auto makeScores = [&](bool again) -> FailureOr<Value> {
      Value scores =
          contract(qTile, kTile, zeroScores, /*rhsIsTransposed=*/true);
      // Not the same operation: one product for both would be kept for both.
      scores.getDefiningOp<tl::ContractOp>().setEachWarp(again);
      scores = scaled(scores, multiplier);
      if (hasRegion) {
        SmallVector<Value> yielded;
        if (failed(inlineRegion(op.getScore(), scores, {}, n0, yielded)))
          return failure();
        scores = yielded.front();
      }
      if (Value keep = mask.emitPredicate(builder, loc, tileM, tileN, m0, n0)) {
        Value masked = arith::SelectOp::create(builder, loc, keep, scores,
                                               infinity(scoreType()));
        if (!inFull)
          inFull = isFullBlock(blocks, step);
        scores = arith::SelectOp::create(builder, loc, inFull, scores, masked);
      }
      return scores;
    };
    FailureOr<Value> made = makeScores(/*again=*/false);
    if (failed(made))
      return failure();
    Value scores = *made;

    auto fixed = [&] {
      Value isFirst = arith::CmpIOp::create(
          builder, loc, arith::CmpIPredicate::eq, step, blocks.first);
      return fixedReference(scores, max, sum, factor, isFirst,
                            [&] { return makeScores(/*again=*/true); });
    };
    FailureOr<Softmax> softmax;
    if (!isFixed) {
      softmax = runningMaximum(scores, max, sum, factor);
    } else if (!inFull) {
      softmax = fixed();
    } else {
      // Few blocks are cut: their maxima cost less than a second copy of the
      // code that makes scores again.
      Type rows = vectorType();
      auto chosen = branch(
          inFull, {scoreType(), rows, rows, rows, builder.getI1Type()},
          [&]() -> FailureOr<SmallVector<Value>> {
            FailureOr<Softmax> softmax = fixed();
            if (failed(softmax))
              return failure();
            return softmax->values();
          },
          [&] { return largerReference(scores, max, sum, factor).values(); });
      if (succeeded(chosen))
        softmax = Softmax::of(*chosen);
    }
    if (failed(softmax))
      return failure();
    auto [p, newMax, newSum, alpha, scales] = *softmax;
    Value vTile = load(op.getV(), vMap, AttentionOp::N, n0, tileN, e);
    Value factors = p;
    if (element != accType)
      factors = arith::TruncFOp::create(builder, loc,
                                        matrix(tileM, tileN, element), p);
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
    auto scale = [&, alpha = alpha]() -> Value {
      return arith::MulFOp::create(builder, loc, acc, alongColumns(alpha, e));
    };
    Value scaledAcc =
        isFixed ? choose(scales, scale, [&] { return acc; }) : scale();
    auto product = [&]() -> Value {
      return contract(factors, vTile, scaledAcc, /*rhsIsTransposed=*/false);
    };
    // A masked probability is 0, and 0 * NaN would spoil the rows that do not
    // see that key. Blocks without masked scores have no such rows, and keys
    // beyond the end are loaded as zeros. A score region may drop keys in any
    // block.
    bool regionDrops = mayDropKeys(attention);
    auto careful = [&]() -> Value {
      Value spoils = tl::NonfiniteOp::create(builder, loc, vTile);
      return choose(
          spoils,
          [&] {
            return productOfLiveKeys(factors, scaledAcc, mask, n0,
                                     regionDrops ? scores : Value());
          },
          product);
    };
    Value newAcc = regionDrops ? careful()
                   : inFull && op.getMaskAttr()
                       ? choose(inFull, product, careful)
                       : product();
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
  if (blocks.rowsEndEarly) {
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
  // A fixed reference is in base-2 units.
  log = fused<arith::AddFOp>(log, isFixed ? max : scaled(max, factor));
  log = arith::MulFOp::create(builder, loc, log, constant(vectorType(), kLn2));
  Attribute deadLse = rounded(accType, attention.getDeadLseValue());
  Value deadRows = arith::ConstantOp::create(
      builder, loc, DenseElementsAttr::get(vectorType(), deadLse));
  log = arith::SelectOp::create(builder, loc, dead, deadRows, log);
  storeVector(log, lse);
  return success();
}

namespace {
struct OnlineSoftmax : public fa::impl::FAOnlineSoftmaxBase<OnlineSoftmax> {
  void runOnOperation() override {
    if (failed(emitWindows<AttentionOp, Emitter>(getOperation())))
      signalPassFailure();
  }
};
} // namespace
