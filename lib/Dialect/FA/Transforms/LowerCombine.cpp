//===- LowerCombine.cpp - fa-lower-combine --------------------------------===//

#include "Utils.h"
#include "fa/Dialect/FA/IR/FA.h"
#include "fa/Dialect/FA/Transforms/Passes.h"
#include "fa/Dialect/Tile/IR/Tile.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

namespace mlir::fa {
#define GEN_PASS_DEF_FALOWERCOMBINE
#include "fa/Dialect/FA/Transforms/Passes.h.inc"
} // namespace mlir::fa

using namespace mlir;
using namespace mlir::fa;

static constexpr double kLn2 = 0.6931471805599453;
static constexpr double kLog2E = 1.4426950408889634;

namespace {
/// Emits the grid loop and the tile program of one fa.combine. The rows of a
/// tile are parts: what they hold is independent, so all of it is under way at
/// once.
class Emitter {
public:
  Emitter(CombineOp op, ScheduleAttr schedule)
      : op(op), schedule(schedule), parts(schedule.getTileM()),
        columns(schedule.getTileN()), builder(op), loc(op.getLoc()),
        accType(op.getAccType()) {}
  void run(bool isOnly);

private:
  /// `value` at the row `point` of the grid: its dimensions s and e, in this
  /// order, as far as it has them.
  Value atRow(Value value, AffineMap map, ValueRange point);
  void emitRow(ValueRange point);

  RankedTensorType matrix(Type element) {
    return RankedTensorType::get({parts, columns}, element);
  }
  RankedTensorType vector(Type element) {
    return RankedTensorType::get({parts}, element);
  }
  RankedTensorType line() { return RankedTensorType::get({columns}, accType); }
  Value constant(RankedTensorType type, double number) {
    Attribute value = rounded(accType, APFloat(number));
    return arith::ConstantOp::create(builder, loc,
                                     DenseElementsAttr::get(type, value));
  }
  Value index(int64_t value) {
    return arith::ConstantIndexOp::create(builder, loc, value);
  }
  Value select(Value condition, Value yes, Value no) {
    return arith::SelectOp::create(builder, loc, condition, yes, no);
  }
  template <typename Op> Value fused(Value lhs, Value rhs) {
    return Op::create(builder, loc, lhs, rhs, arith::FastMathFlags::contract);
  }
  Value isInfinite(Value tile) {
    auto type = cast<RankedTensorType>(tile.getType());
    return arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OEQ, tile,
                                 constant(type, -INFINITY));
  }
  /// exp2(x - reference), for a reference that is 0 while nothing is live.
  Value exponential(Value x, Value reference) {
    return math::Exp2Op::create(builder, loc,
                                fused<arith::SubFOp>(x, reference));
  }
  Value orZero(Value tile) {
    auto type = cast<RankedTensorType>(tile.getType());
    return select(isInfinite(tile), constant(type, 0.0), tile);
  }
  /// i1 by part: `bound` of the tile's parts exist.
  Value below(Value bound) {
    Type i32 = builder.getI32Type();
    Value limit = arith::IndexCastOp::create(builder, loc, i32, bound);
    return arith::CmpIOp::create(
        builder, loc, arith::CmpIPredicate::slt,
        tl::IotaOp::create(builder, loc, vector(i32), 0),
        tl::SplatOp::create(builder, loc, vector(i32), limit));
  }
  Value alongColumns(Value tile) {
    Type element = cast<RankedTensorType>(tile.getType()).getElementType();
    return tl::BroadcastOp::create(builder, loc, matrix(element), tile, 1);
  }
  Value alongParts(Value tile) {
    return tl::BroadcastOp::create(builder, loc, matrix(accType), tile, 0);
  }
  Value reduce(tl::ReduceKind kind, Value tile) {
    return tl::ReduceOp::create(builder, loc, line(), kind, tile, 0);
  }
  /// Scores are in units of log2 here.
  Value toBase2(Value tile) {
    return fused<arith::MulFOp>(
        tile, constant(cast<RankedTensorType>(tile.getType()), kLog2E));
  }

  CombineOp op;
  ScheduleAttr schedule;
  int64_t parts, columns;
  OpBuilder builder;
  Location loc;
  FloatType accType;
};
} // namespace

Value Emitter::atRow(Value value, AffineMap map, ValueRange point) {
  unsigned last = map.getNumDims() - 1;
  return sliceAt(builder, loc, value, map,
                 [&](AffineExpr expr) -> OpFoldResult {
                   unsigned dim = cast<AffineDimExpr>(expr).getPosition();
                   if (dim == 0 || dim == last)
                     return {};
                   return point[dim - 1];
                 });
}

void Emitter::emitRow(ValueRange point) {
  Value e0 = arith::MulIOp::create(builder, loc, point.back(), index(columns));
  AffineMap partsMap = op.getMap(CombineOp::OParts);
  Value oParts = atRow(op.getOParts(), partsMap, point);
  Value lseParts =
      atRow(op.getLseParts(), op.getMap(CombineOp::LseParts), point);
  Value o = atRow(op.getO(), op.getMap(CombineOp::O), point);
  Value lse = atRow(op.getLse(), op.getMap(CombineOp::LSE), point);
  Value none = constant(vector(accType), -INFINITY);
  Value zeros = constant(vector(accType), 0.0);
  Value ones = constant(vector(accType), 1.0);

  // Row i of the tiles has the parts i, i + tile, ... : their weighted sum,
  // their largest lse and the sum of their weights. init_lse is a part, too,
  // of which o has nothing.
  Value maxInit = none, sumInit = zeros;
  if (op.getInitLse()) {
    Value init = atRow(op.getInitLse(), op.getMap(CombineOp::LSE), point);
    Value loaded =
        tl::LoadOp::create(builder, loc, vector(accType), init,
                           ValueRange{index(0)}, DenseI64ArrayAttr());
    maxInit = select(below(index(1)), toBase2(loaded), none);
    sumInit = select(isInfinite(maxInit), zeros, ones);
  }
  Value accInit = constant(matrix(accType), 0.0);
  Value count = memref::DimOp::create(builder, loc, lseParts, 0);
  AffineExpr d0 = builder.getAffineDimExpr(0);
  Value blocks = getValueOrCreateConstantIndexOp(
      builder, loc,
      affine::makeComposedFoldedAffineApply(
          builder, loc, AffineMap::get(1, 0, d0.ceilDiv(parts)),
          {OpFoldResult(count)}));
  auto loop = scf::ForOp::create(builder, loc, index(0), blocks, index(1),
                                 ValueRange{accInit, maxInit, sumInit});
  {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(loop.getBody());
    Value s0 = arith::MulIOp::create(builder, loc, loop.getInductionVar(),
                                     index(parts));
    Value acc = loop.getRegionIterArg(0), max = loop.getRegionIterArg(1),
          sum = loop.getRegionIterArg(2);
    // Where e comes before s in memory.
    bool isTurned =
        cast<AffineDimExpr>(
            llvm::find_if(partsMap.getResults(),
                          [&](AffineExpr e) {
                            return e.isFunctionOfDim(0) ||
                                   e.isFunctionOfDim(partsMap.getNumDims() - 1);
                          })[0])
            .getPosition() != 0;
    SmallVector<Value> offsets = {s0, e0};
    DenseI64ArrayAttr order;
    if (isTurned) {
      std::swap(offsets[0], offsets[1]);
      order = builder.getDenseI64ArrayAttr({1, 0});
    }
    Value values = tl::LoadOp::create(builder, loc, matrix(accType), oParts,
                                      offsets, order);
    Value weights = tl::LoadOp::create(builder, loc, vector(accType), lseParts,
                                       ValueRange{s0}, DenseI64ArrayAttr());
    Value left = arith::SubIOp::create(builder, loc, count, s0);
    weights = select(below(left), toBase2(weights), none);
    Value newMax = arith::MaxNumFOp::create(builder, loc, max, weights);
    Value reference = orZero(newMax);
    Value alpha = exponential(max, reference);
    Value p = exponential(weights, reference);
    Value newSum = fused<arith::AddFOp>(fused<arith::MulFOp>(sum, alpha), p);
    Value product = fused<arith::MulFOp>(alongColumns(p), values);
    product = select(alongColumns(isInfinite(weights)), accInit, product);
    Value newAcc = fused<arith::AddFOp>(
        fused<arith::MulFOp>(acc, alongColumns(alpha)), product);
    scf::YieldOp::create(builder, loc, ValueRange{newAcc, newMax, newSum});
  }

  // The rows of the tiles to one.
  Value acc = loop.getResult(0);
  Value maxima = alongColumns(loop.getResult(1));
  Value max = reduce(tl::ReduceKind::max, maxima);
  Value reference = orZero(max);
  Value factor = exponential(maxima, alongParts(reference));
  Value sum =
      reduce(tl::ReduceKind::add,
             fused<arith::MulFOp>(alongColumns(loop.getResult(2)), factor));
  acc = reduce(tl::ReduceKind::add, fused<arith::MulFOp>(acc, factor));

  Value zero = constant(line(), 0.0);
  Value dead =
      arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OEQ, sum, zero);
  Value safeSum = select(dead, constant(line(), 1.0), sum);
  Value out = arith::DivFOp::create(builder, loc, acc, safeSum);
  out = select(dead, zero, out);
  Type element = cast<MemRefType>(o.getType()).getElementType();
  if (element != accType)
    out = arith::TruncFOp::create(builder, loc, line().clone(element), out);
  tl::StoreOp::create(builder, loc, out, o, ValueRange{e0},
                      DenseI64ArrayAttr());

  Value log = math::Log2Op::create(builder, loc, safeSum);
  log = fused<arith::MulFOp>(fused<arith::AddFOp>(log, reference),
                             constant(line(), kLn2));
  log = select(dead, constant(line(), op.getDeadLseValue().convertToDouble()),
               log);
  // Each column has it. There is one element: of all grid points of the row
  // only that at column 0 writes it, the others' begin beyond it.
  tl::StoreOp::create(builder, loc, log, lse, ValueRange{e0},
                      DenseI64ArrayAttr());
}

void Emitter::run(bool isOnly) {
  AffineMap map = op.getMap(CombineOp::O);
  unsigned last = map.getNumDims() - 1;
  SmallVector<OpFoldResult> bounds(last);
  for (auto [pos, expr] : llvm::enumerate(map.getResults())) {
    unsigned dim = cast<AffineDimExpr>(expr).getPosition();
    OpFoldResult size = memref::getMixedSize(builder, loc, op.getO(), pos);
    if (dim == last)
      size = affine::makeComposedFoldedAffineApply(
          builder, loc,
          AffineMap::get(1, 0, builder.getAffineDimExpr(0).ceilDiv(columns)),
          {size});
    bounds[dim - 1] = size;
  }
  auto forall = scf::ForallOp::create(builder, loc, bounds, ValueRange(),
                                      /*mapping=*/std::nullopt);
  (isOnly ? forall->getParentOp() : forall.getOperation())
      ->setAttr(tl::kPlanAttrName, schedule.getPlan());
  builder.setInsertionPointToStart(forall.getBody());
  emitRow(forall.getInductionVars());
  op.erase();
}

namespace {
struct LowerCombine : public fa::impl::FALowerCombineBase<LowerCombine> {
  void runOnOperation() override {
    SmallVector<CombineOp> ops;
    bool hasOthers = false;
    getOperation().walk([&](Operation *op) {
      if (auto combine = dyn_cast<CombineOp>(op))
        ops.push_back(combine);
      hasOthers |= isa<scf::ForallOp, AttentionOpInterface>(op);
    });
    for (CombineOp op : ops) {
      auto schedule = op->getAttrOfType<ScheduleAttr>(kScheduleAttrName);
      if (!schedule) {
        op.emitOpError("has no fa.schedule; run fa-select-schedule first");
        return signalPassFailure();
      }
      if (op.hasTensorSemantics()) {
        op.emitOpError("is on tensors; run one-shot-bufferize first");
        return signalPassFailure();
      }
      Emitter(op, schedule).run(ops.size() == 1 && !hasOthers);
    }
  }
};
} // namespace
