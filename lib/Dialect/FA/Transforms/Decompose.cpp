//===- Decompose.cpp - fa-decompose, and the steps of fa.attention --------===//

#include "Decomposer.h"
#include "fa/Dialect/FA/Transforms/Passes.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

namespace mlir::fa {
#define GEN_PASS_DEF_FADECOMPOSE
#include "fa/Dialect/FA/Transforms/Passes.h.inc"
} // namespace mlir::fa

using namespace mlir;
using namespace mlir::fa;

namespace {
class Forward : public Decomposer {
public:
  explicit Forward(AttentionOp op) : Decomposer(op), op(op) {}
  void run();

private:
  AttentionOp op;
};
} // namespace

void Forward::run() {
  Value zero = constant(0.0),
        ninf = constant(-std::numeric_limits<double>::infinity());

  // s = scale * q k^T, then score and mask; -inf where not kept.
  Dims scoreDims = with({M, N}), rowDims = with({M});
  Value s = products();
  s = generic(scoreDims, std::nullopt, {}, {s, over(scoreDims)},
              [&](const Coordinates &local, ValueRange args) -> Value {
                Coordinates at = global(local);
                Value scaled =
                    arith::MulFOp::create(builder, loc, args[0], op.getScale());
                return select(keeps(at), score(scaled, at), ninf);
              });

  // The reference of the exponentials is the largest score, NaN aside.
  Value max = allocate(rowDims, ninf);
  Value sum = allocate(rowDims, zero);
  Value initLse = op.getInitLse();
  AffineMap lseMap = op.getMap(op.LSE);
  if (initLse)
    max = generic(
        rowDims, std::nullopt, {{initLse, lseMap}}, {max, over(rowDims)},
        [&](const Coordinates &, ValueRange args) -> Value { return args[0]; });
  max =
      generic(scoreDims, N, {{s, over(scoreDims)}}, {max, over(rowDims)},
              [&](const Coordinates &, ValueRange args) -> Value {
                return arith::MaxNumFOp::create(builder, loc, args[1], args[0]);
              });
  // exp(x - reference); 0 for -inf, even when the reference is -inf too.
  auto exponential = [&](Value x, Value reference) {
    Value difference = arith::SubFOp::create(builder, loc, x, reference);
    Value e = math::ExpOp::create(builder, loc, difference);
    return select(compare(arith::CmpFPredicate::OEQ, x, ninf), zero, e);
  };
  if (initLse)
    sum =
        generic(rowDims, std::nullopt,
                {{initLse, lseMap}, {max, over(rowDims)}}, {sum, over(rowDims)},
                [&](const Coordinates &, ValueRange args) -> Value {
                  return exponential(args[0], args[1]);
                });
  sum = generic(scoreDims, N, {{s, over(scoreDims)}, {max, over(rowDims)}},
                {sum, over(rowDims)},
                [&](const Coordinates &, ValueRange args) -> Value {
                  return arith::AddFOp::create(builder, loc, args[2],
                                               exponential(args[0], args[1]));
                });

  // A key that is not kept adds nothing, whatever its value.
  Dims outDims = with({M, E});
  Value acc = allocate(outDims, zero);
  acc = generic(
      with({M, N, E}), N, {{s, over(scoreDims)}, {max, over(rowDims)}},
      {acc, over(outDims)},
      [&](const Coordinates &at, ValueRange args) -> Value {
        Value product =
            arith::MulFOp::create(builder, loc, exponential(args[0], args[1]),
                                  element(op.V, op.getV(), at));
        Value dropped = compare(arith::CmpFPredicate::OEQ, args[0], ninf);
        return arith::AddFOp::create(builder, loc, args[2],
                                     select(dropped, zero, product));
      });

  auto isDead = [&](const Coordinates &local, Value sum) -> Value {
    Coordinates at = global(local);
    Value beyond = compare(arith::CmpIPredicate::sge, at[M], length(0, at));
    Value none = compare(arith::CmpFPredicate::OEQ, sum, zero);
    return arith::OrIOp::create(builder, loc, beyond, none);
  };
  Value o = generic(
      outDims, std::nullopt, {{acc, over(outDims)}, {sum, over(rowDims)}},
      {op.getO(), op.getMap(op.O)},
      [&](const Coordinates &at, ValueRange args) -> Value {
        Value value = arith::DivFOp::create(builder, loc, args[0], args[1]);
        value = select(isDead(at, args[1]), zero, value);
        if (args[2].getType() != accType)
          value =
              arith::TruncFOp::create(builder, loc, args[2].getType(), value);
        return value;
      });
  Value lse = generic(
      rowDims, std::nullopt, {{sum, over(rowDims)}, {max, over(rowDims)}},
      {op.getLse(), lseMap},
      [&](const Coordinates &at, ValueRange args) -> Value {
        Value value = arith::AddFOp::create(
            builder, loc, math::LogOp::create(builder, loc, args[0]), args[1]);
        return select(isDead(at, args[0]), constant(op.getDeadLseValue()),
                      value);
      });

  deallocate();
  if (op.hasTensorSemantics())
    op->replaceAllUsesWith(ValueRange{o, lse});
  op.erase();
}

void fa::decompose(AttentionOp op) { Forward(op).run(); }

namespace {
struct Decompose : public fa::impl::FADecomposeBase<Decompose> {
  void runOnOperation() override {
    SmallVector<CombineOp> combines;
    getOperation().walk([&](CombineOp op) { combines.push_back(op); });
    for (CombineOp op : combines)
      decompose(op);
    SmallVector<Operation *> ops;
    getOperation().walk([&](AttentionOpInterface op) { ops.push_back(op); });
    for (Operation *op : ops) {
      if (auto forward = dyn_cast<AttentionOp>(op)) {
        decompose(forward);
        continue;
      }
      auto backward = cast<AttentionBackwardOp>(op);
      if (!backward.getScore().empty() && backward.getDerivative().empty()) {
        backward.emitOpError("has a score region and no derivative region; run "
                             "fa-differentiate first");
        return signalPassFailure();
      }
      decompose(backward);
    }
  }
};
} // namespace
