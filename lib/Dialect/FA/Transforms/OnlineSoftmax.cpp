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
#include "llvm/Support/SaveAndRestore.h"

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
/// How far, in base-2 units, scores may exceed a lazy maximum: f16 holds what
/// these are exponents of, and no row of 2^20 keys overflows f32.
static constexpr double kLead = 8.0;

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
        isLazy(schedule.getLazyMaximum() && !isFixed && !op.getInitLse()),
        inParts(schedule.getPartialSums() &&
                schedule.getPlan().getMma() != "vector"),
        isPacked(schedule.getPacked()), plan(schedule.getPlan()) {}

  LogicalResult run();

private:
  /// What rows' exponentials are relative to, in base-2 units; their sum so
  /// far; and what sums of products before are multiplied by.
  struct Base {
    Value reference, sum, alpha;

    SmallVector<Value> values() const { return {reference, sum, alpha}; }
    static Base of(ValueRange v) { return {v[0], v[1], v[2]}; }
  };
  /// Exponentials, and the base after them; `alpha` counts where `scales`
  /// holds. With a fixed reference, whether it follows the maximum from now on.
  struct Softmax {
    Value p;
    Base base;
    Value scales, follows;

    SmallVector<Value> values() const {
      return {p, base.reference, base.sum, base.alpha, scales, follows};
    }
    static Softmax of(ValueRange v) {
      return {v[0], Base::of(v.slice(1, 3)), v[4], v[5]};
    }
  };
  Softmax runningMaximum(Value scores, Value max, Value sum, Value factor);
  FailureOr<Softmax> fixedReference(Value scores, const Base &before,
                                    Value factor, Value isFirst, Value follows,
                                    function_ref<FailureOr<Value>()> again);
  Softmax lazyMaximum(Value scores, const Base &before, Value factor);
  Softmax relativeTo(const Base &base, Value scores, Value factor,
                     Value scales);
  Base raised(const Base &before, Value larger);
  Base raisedIf(Value condition, const Base &before,
                function_ref<Value()> larger);
  Value exponentials(Value scores, Value reference, Value factor);
  Value largerMaximum(Value scores, Value factor, Value max);
  Value sumOfRows(Value p);
  RankedTensorType sumType();
  Value blockSums(Value p);
  Value alongSums(Value rows);
  Value widened(Value tile);
  Value flag(bool value);
  FailureOr<ValueRange>
  branch(Value condition, TypeRange types,
         function_ref<FailureOr<SmallVector<Value>>()> yes,
         function_ref<SmallVector<Value>()> no);
  /// Steps of the loop over blocks of keys: [first, end).
  struct Steps {
    Value first, end;
  };
  Steps stepsOfHeld(const MaskQuery &mask, const KeyBlocks &blocks);
  Value columnsOf(Value memref, AffineMap map, Value key, Value column);
  FailureOr<Value> sumOverLiveKeys(const MaskQuery &mask,
                                   const KeyBlocks &blocks, const Rows &q,
                                   Value multiplier, Value factor,
                                   Value reference, Value column);

  AttentionOp attention;
  bool isFixed, isLazy, inParts, isPacked;
  tl::PlanAttr plan;
};
} // namespace

//===----------------------------------------------------------------------===//
// Products and scores
//===----------------------------------------------------------------------===//

/// The steps at whose blocks the rows held here see a key; where the mask cuts
/// both sides, those of the cut blocks, which come first. None where these rows
/// do not exist, whatever the mask says of none.
Emitter::Steps Emitter::stepsOfHeld(const MaskQuery &mask,
                                    const KeyBlocks &blocks) {
  auto held = tl::RowsHeldOp::create(builder, loc, tileM);
  Value from = arith::AddIOp::create(builder, loc, m0, held.getFirst());
  Value to = arith::AddIOp::create(builder, loc, from, held.getCount());
  to = arith::MinSIOp::create(builder, loc, to, lq);
  MaskQuery::Range live = mask.liveColumns(
      builder, loc, {getAsOpFoldResult(from), getAsOpFoldResult(to)});
  AffineExpr d0 = builder.getAffineDimExpr(0);
  auto blockOf = [&](OpFoldResult key, AffineExpr divided) -> Value {
    return getValueOrCreateConstantIndexOp(
        builder, loc,
        affine::makeComposedFoldedAffineApply(builder, loc, divided, {key}));
  };
  Value first = blocks.first, end = blockOf(live.hi, d0.ceilDiv(tileN));
  if (blocks.cutEnd) {
    first = blockOf(live.lo, d0.floorDiv(tileN));
    // What lies right of the full blocks follows what lies left of them.
    Value right = arith::SubIOp::create(builder, loc, end, blocks.rightFirst);
    end = arith::AddIOp::create(
        builder, loc, arith::MinSIOp::create(builder, loc, end, blocks.leftEnd),
        arith::MaxSIOp::create(builder, loc, right, index(0)));
  }
  Value none =
      arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::sge, from, lq);
  return {first,
          arith::SelectOp::create(builder, loc, none, blocks.first, end)};
}

/// How many columns are computed at a time where it is done key by key.
static constexpr int64_t kFewColumns = 16;

/// Some columns of row `key` of K or V, on every row of a tile.
Value Emitter::columnsOf(Value memref, AffineMap map, Value key, Value column) {
  unsigned rowPos = map.getResult(0).isFunctionOfDim(AttentionOp::N) ? 0 : 1;
  auto type = cast<MemRefType>(memref.getType());
  SmallVector<OpFoldResult> offsets(2, builder.getIndexAttr(0)),
      ones(2, builder.getIndexAttr(1)), sizes(2, builder.getIndexAttr(1));
  offsets[rowPos] = key;
  int64_t extent = type.getDimSize(1 - rowPos);
  sizes[1 - rowPos] = builder.getIndexAttr(extent);
  auto lineType = memref::SubViewOp::inferRankReducedResultType(
      {extent}, type, offsets, sizes, ones);
  Value line = memref::SubViewOp::create(builder, loc, lineType, memref,
                                         offsets, sizes, ones);
  Value values = tl::LoadOp::create(
      builder, loc, RankedTensorType::get({kFewColumns}, type.getElementType()),
      line, ValueRange{column}, DenseI64ArrayAttr());
  return tl::BroadcastOp::create(
      builder, loc, matrix(tileM, kFewColumns, accType), widened(values), 0);
}

/// Columns of the sum of values, each times its probability relative to
/// `reference` (in base-2 units), one key at a time and of those only that a
/// row keeps: what lies under the mask, or has a score of -inf, is not
/// multiplied. Slow and short; for values that hold NaN or infinity.
FailureOr<Value> Emitter::sumOverLiveKeys(const MaskQuery &mask,
                                          const KeyBlocks &blocks,
                                          const Rows &q, Value multiplier,
                                          Value factor, Value reference,
                                          Value column) {
  AffineMap qMap = op.getMap(AttentionOp::Q), kMap = op.getMap(AttentionOp::K),
            vMap = op.getMap(AttentionOp::V);
  int64_t d =
      paddedExtent(op.getQ(), *op.findDim(AttentionOp::Q, AttentionOp::D));
  auto times = [&](Value blocks) -> Value {
    return arith::MulIOp::create(builder, loc, blocks, index(tileN));
  };
  Value end = arith::MinSIOp::create(builder, loc, times(blocks.end), lk);
  auto keys = scf::ForOp::create(
      builder, loc, times(blocks.first), end, index(1),
      ValueRange{constant(matrix(tileM, kFewColumns, accType), 0.0)});
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(keys.getBody());
  Value key = keys.getInductionVar(), acc = keys.getRegionIterArg(0);

  auto depth =
      scf::ForOp::create(builder, loc, index(0), index(d), index(kFewColumns),
                         ValueRange{constant(vectorType(), 0.0)});
  {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(depth.getBody());
    Value from = depth.getInductionVar();
    Value products =
        fused<arith::MulFOp>(widened(load(q.memref, qMap, AttentionOp::M,
                                          q.offset, tileM, kFewColumns, from)),
                             columnsOf(op.getK(), kMap, key, from));
    Value dots =
        fused<arith::AddFOp>(depth.getRegionIterArg(0), sumOfRows(products));
    scf::YieldOp::create(builder, loc, dots);
  }

  // Scores of a narrow tile that begins at the key: its first column counts.
  llvm::SaveAndRestore<int64_t> narrow(tileN, 8);
  Value scores = scaled(alongColumns(depth.getResult(0), tileN), multiplier);
  if (!op.getScore().empty()) {
    SmallVector<Value> yielded;
    if (failed(inlineRegion(op.getScore(), scores, {}, key, yielded)))
      return failure();
    scores = yielded.front();
  }
  auto coordinates = matrix(tileM, tileN, builder.getI32Type());
  Value live = arith::CmpIOp::create(
      builder, loc, arith::CmpIPredicate::eq,
      tl::IotaOp::create(builder, loc, coordinates, 1),
      splat(arith::ConstantIntOp::create(builder, loc, 0, 32), coordinates));
  auto restrict = [&](Value more) {
    live = arith::AndIOp::create(builder, loc, live, more);
  };
  restrict(arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::UNE,
                                 scores, infinity(scoreType())));
  if (Value keep = mask.emitPredicate(builder, loc, tileM, tileN, m0, key))
    restrict(keep);
  auto ofKey = [&](Value tile) -> Value {
    return sumOfRows(arith::SelectOp::create(builder, loc, live, tile,
                                             constant(scoreType(), 0.0)));
  };
  Value weight = ofKey(exponentials(scores, reference, factor));
  Value isLive = arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OGT,
                                       ofKey(constant(scoreType(), 1.0)),
                                       constant(vectorType(), 0.0));

  Value product = fused<arith::MulFOp>(alongColumns(weight, kFewColumns),
                                       columnsOf(op.getV(), vMap, key, column));
  Value next =
      arith::SelectOp::create(builder, loc, alongColumns(isLive, kFewColumns),
                              fused<arith::AddFOp>(acc, product), acc);
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
  Value newSum = fused<arith::AddFOp>(
      fused<arith::MulFOp>(sum, alongSums(alpha)), blockSums(p));
  return {p, {newMax, newSum, alpha}, flag(true), Value()};
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

/// `tile` with elements of the accumulators' type.
Value Emitter::widened(Value tile) {
  auto type = cast<RankedTensorType>(tile.getType());
  if (type.getElementType() == accType)
    return tile;
  return arith::ExtFOp::create(builder, loc, type.clone(accType), tile);
}

/// What sums of rows are kept in.
RankedTensorType Emitter::sumType() {
  return inParts ? matrix(tileM, tl::PartialSumsOp::kParts, accType)
                 : vectorType();
}

Value Emitter::blockSums(Value p) {
  if (!inParts)
    return sumOfRows(p);
  return tl::PartialSumsOp::create(builder, loc, sumType(), p);
}

Value Emitter::alongSums(Value rows) {
  return inParts ? alongColumns(rows, tl::PartialSumsOp::kParts) : rows;
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

/// The base `before` where rows have the `larger` reference.
Emitter::Base Emitter::raised(const Base &before, Value larger) {
  Value alpha = math::Exp2Op::create(
      builder, loc,
      arith::SubFOp::create(builder, loc, before.reference, larger));
  return {larger, fused<arith::MulFOp>(before.sum, alongSums(alpha)), alpha};
}

Emitter::Base Emitter::raisedIf(Value condition, const Base &before,
                                function_ref<Value()> larger) {
  Value one = constant(vectorType(), 1.0);
  auto values = branch(
      condition, {vectorType(), sumType(), vectorType()},
      [&]() -> FailureOr<SmallVector<Value>> {
        return raised(before, larger()).values();
      },
      [&] { return Base{before.reference, before.sum, one}.values(); });
  return Base::of(*values);
}

Emitter::Softmax Emitter::relativeTo(const Base &base, Value scores,
                                     Value factor, Value scales) {
  Value p = exponentials(scores, base.reference, factor);
  Value sum = fused<arith::AddFOp>(base.sum, blockSums(p));
  return {p, {base.reference, sum, base.alpha}, scales, Value()};
}

/// Relative to a maximum that is replaced only where scores exceed it by more
/// than kLead.
Emitter::Softmax Emitter::lazyMaximum(Value scores, const Base &before,
                                      Value factor) {
  Value larger = largerMaximum(scores, factor, before.reference);
  Value lead = arith::ConstantOp::create(builder, loc,
                                         builder.getFloatAttr(accType, kLead));
  Value exceeds = tl::ExceedsOp::create(
      builder, loc,
      arith::SubFOp::create(builder, loc, larger, before.reference), lead);
  Base base = raisedIf(exceeds, before, [&] { return larger; });
  return relativeTo(base, scores, factor, exceeds);
}

/// Relative to the maximum of the first block, without a maximum of the others:
/// the exponentials of a block that has much larger scores sum to more than
/// kLimit, infinity included. Such a block's scores are made again (`again`; to
/// keep them would take as many registers as they are), and later blocks take
/// their maxima (`follows`): where scores rise once they often do again, and to
/// make them twice takes longer. Exact for every input.
FailureOr<Emitter::Softmax>
Emitter::fixedReference(Value scores, const Base &before, Value factor,
                        Value isFirst, Value follows,
                        function_ref<FailureOr<Value>()> again) {
  Value takes = arith::OrIOp::create(builder, loc, isFirst, follows);
  Base base = raisedIf(takes, before, [&] {
    return largerMaximum(scores, factor, before.reference);
  });
  Value p = exponentials(scores, base.reference, factor),
        blockSum = blockSums(p);
  Value limit = arith::ConstantOp::create(
      builder, loc, builder.getFloatAttr(accType, kLimit));
  Value over = arith::AndIOp::create(
      builder, loc, arith::XOrIOp::create(builder, loc, takes, flag(true)),
      tl::ExceedsOp::create(builder, loc, blockSum, limit));
  Softmax fixed = {p,
                   {base.reference,
                    arith::AddFOp::create(builder, loc, base.sum, blockSum),
                    base.alpha},
                   takes,
                   follows};
  auto exact = branch(
      over, ValueRange(fixed.values()).getTypes(),
      [&]() -> FailureOr<SmallVector<Value>> {
        FailureOr<Value> scores = again();
        if (failed(scores))
          return failure();
        Value larger = largerMaximum(*scores, factor, base.reference);
        Softmax result = relativeTo(raised(base, larger), *scores, factor,
                                    /*scales=*/flag(true));
        result.follows = flag(true);
        return result.values();
      },
      [&] { return fixed.values(); });
  if (failed(exact))
    return failure();
  return Softmax::of(*exact);
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
  Value first = clipRows(q, qMap, AttentionOp::M, m0, lq);
  Value qTile = load(q.memref, qMap, AttentionOp::M, first, tileM, d);
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

  // What is carried as the maximum is a reference in base-2 units.
  bool isReference = isFixed || isLazy;
  Value maxInit = isReference ? constant(vectorType(), kNoReference) : noRows;
  Value sumInit = constant(sumType(), 0.0);
  if (initLse) {
    Value given = loadVector(rowsOf(initLse, lseMap));
    Value none = arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OEQ,
                                       given, noRows);
    // All parts of a sum are 1 together.
    double part = inParts ? 1.0 / tl::PartialSumsOp::kParts : 1.0;
    sumInit = alongSums(arith::SelectOp::create(builder, loc, none, zeroRows,
                                                constant(vectorType(), part)));
    // A null factor means base-2 units.
    maxInit = factor ? given : scaled(given, log2e);
  }

  // Teams of warps skip cut blocks of which none of their rows sees a key.
  // Packed rows are heads, too: which of them a team holds says no position.
  int64_t teams = plan.getTeams();
  std::optional<Steps> held;
  if (plan.getProducers() > 0 && teams > 1 && tileM - tileM / teams >= tileN &&
      !packed)
    held = stepsOfHeld(mask, blocks);
  bool isCut = false; // some scores are under the mask
  SmallVector<Value> inits = {accInit, maxInit, sumInit};
  if (isFixed)
    inits.push_back(flag(false));
  auto loop = scf::ForOp::create(builder, loc, blocks.first, blocks.end,
                                 index(1), inits);
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
    scf::IfOp needed;
    Value vTile, inFull;
    if (held) {
      vTile = load(op.getV(), vMap, AttentionOp::N, n0, tileN, e);
      auto compare = [&](arith::CmpIPredicate predicate, Value bound) -> Value {
        return arith::CmpIOp::create(builder, loc, predicate, step, bound);
      };
      // Full blocks first: where the loop is split there, the rest folds.
      if (blocks.cutEnd)
        inFull = isFullBlock(blocks, step);
      Value isNeeded = compare(arith::CmpIPredicate::slt, held->end);
      if (inFull)
        isNeeded = arith::OrIOp::create(
            builder, loc, inFull,
            arith::AndIOp::create(
                builder, loc, compare(arith::CmpIPredicate::sge, held->first),
                isNeeded));
      ValueRange carried = loop.getRegionIterArgs();
      needed =
          scf::IfOp::create(builder, loc, carried.getTypes(), isNeeded, true);
      scf::YieldOp::create(builder, loc, needed.getResults());
      builder.setInsertionPointToStart(needed.elseBlock());
      tl::UnusedOp::create(builder, loc, ValueRange{kTile, vTile});
      scf::YieldOp::create(builder, loc, carried);
      builder.setInsertionPointToStart(needed.thenBlock());
    }
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

    Base before = {max, sum, Value()};
    Value follows = isFixed ? loop.getRegionIterArg(3) : Value();
    auto fixed = [&] {
      Value isFirst = arith::CmpIOp::create(
          builder, loc, arith::CmpIPredicate::eq, step, blocks.first);
      return fixedReference(scores, before, factor, isFirst, follows,
                            [&] { return makeScores(/*again=*/true); });
    };
    FailureOr<Softmax> softmax;
    if (isLazy) {
      softmax = lazyMaximum(scores, before, factor);
    } else if (!isFixed) {
      softmax = runningMaximum(scores, max, sum, factor);
    } else if (!inFull) {
      softmax = fixed();
    } else {
      // Few blocks are cut: their maxima cost less than a second copy of the
      // code that makes scores again.
      Type rows = vectorType(), isSo = builder.getI1Type();
      auto chosen = branch(
          inFull, {scoreType(), rows, sumType(), rows, isSo, isSo},
          [&]() -> FailureOr<SmallVector<Value>> {
            FailureOr<Softmax> softmax = fixed();
            if (failed(softmax))
              return failure();
            return softmax->values();
          },
          [&] {
            Value larger = largerMaximum(scores, factor, max);
            Softmax softmax = relativeTo(raised(before, larger), scores, factor,
                                         /*scales=*/flag(true));
            softmax.follows = follows;
            return softmax.values();
          });
      if (succeeded(chosen))
        softmax = Softmax::of(*chosen);
    }
    if (failed(softmax))
      return failure();
    auto &[p, base, scales, newFollows] = *softmax;
    if (!vTile)
      vTile = load(op.getV(), vMap, AttentionOp::N, n0, tileN, e);
    Value factors = p;
    if (element != accType)
      factors = arith::TruncFOp::create(builder, loc,
                                        matrix(tileM, tileN, element), p);
    Value scaledAcc = acc;
    auto scale = [&, alpha = base.alpha]() -> SmallVector<Value> {
      return {arith::MulFOp::create(builder, loc, acc, alongColumns(alpha, e))};
    };
    if (isReference)
      scaledAcc = branch(scales, acc.getType(), scale, [&] {
                    return SmallVector<Value>{acc};
                  })->front();
    else
      scaledAcc = scale().front();
    Value newAcc =
        contract(factors, vTile, scaledAcc, /*rhsIsTransposed=*/false);
    isCut |= bool(inFull);
    SmallVector<Value> carried = {newAcc, base.reference, base.sum};
    if (isFixed)
      carried.push_back(newFollows);
    scf::YieldOp::create(builder, loc, carried);
  }
  moveLoopInvariantCode(cast<LoopLikeOpInterface>(loop.getOperation()));

  Value acc = loop.getResult(0), max = loop.getResult(1),
        sum = loop.getResult(2);
  if (inParts)
    sum = sumOfRows(sum);
  // Normalise. Rows without a live key, and rows from lq on whatever their
  // data, are exactly 0 and dead_lse.
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
  // The sums of rows without a live key are 0 themselves, unless 0 * NaN has
  // spoilt them (below).
  Value inverse = arith::SelectOp::create(
      builder, loc, dead, zeroRows,
      arith::DivFOp::create(builder, loc, one, safeSum));
  auto finish = [&](Value acc, Value column) {
    auto type = cast<RankedTensorType>(acc.getType());
    int64_t width = type.getDimSize(1);
    Value out =
        arith::MulFOp::create(builder, loc, acc, alongColumns(inverse, width));
    if (blocks.rowsEndEarly)
      out = arith::SelectOp::create(builder, loc, alongColumns(dead, width),
                                    constant(type, 0.0), out);
    Type outElement = op.getShaped(AttentionOp::O).getType().getElementType();
    if (outElement != accType)
      out = arith::TruncFOp::create(builder, loc, type.clone(outElement), out);
    store(out, o.memref, oMap, AttentionOp::M, o.offset, column);
  };
  // A masked probability is 0, and 0 * NaN spoils the rows that do not see that
  // key: then acc is not finite. (Keys beyond the end are loaded as zeros.)
  if ((isCut && op.getMaskAttr()) || mayDropKeys(attention)) {
    // A row's sum tells (it may also overflow: the branch is right then, too).
    // Rows whose scores are NaN are NaN by right.
    Value isNumber = arith::CmpFOp::create(builder, loc,
                                           arith::CmpFPredicate::ORD, sum, sum);
    Value spoilt = tl::NonfiniteOp::create(
        builder, loc,
        arith::SelectOp::create(builder, loc, isNumber, sumOfRows(acc),
                                zeroRows));
    auto branch = scf::IfOp::create(builder, loc, spoilt, true);
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(branch.thenBlock());
    Value reference = max;
    if (!isReference) {
      Value none = arith::CmpFOp::create(
          builder, loc, arith::CmpFPredicate::OEQ, max, noRows);
      reference = scaled(
          arith::SelectOp::create(builder, loc, none, zeroRows, max), factor);
    }
    auto columns = scf::ForOp::create(builder, loc, index(0), index(e),
                                      index(kFewColumns));
    builder.setInsertionPointToStart(columns.getBody());
    Value column = columns.getInductionVar();
    FailureOr<Value> again =
        sumOverLiveKeys(mask, blocks, q, multiplier, factor, reference, column);
    if (failed(again))
      return failure();
    finish(*again, column);
    builder.setInsertionPointToStart(branch.elseBlock());
    finish(acc, {});
  } else {
    finish(acc, {});
  }

  Value log = math::Log2Op::create(builder, loc, safeSum);
  log = fused<arith::AddFOp>(log, isReference ? max : scaled(max, factor));
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
