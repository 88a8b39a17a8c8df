//===- Differentiate.cpp - fa-differentiate -------------------------------===//

#include "fa/Dialect/FA/IR/FA.h"
#include "fa/Dialect/FA/Transforms/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/TypeSwitch.h"

namespace mlir::fa {
#define GEN_PASS_DEF_FADIFFERENTIATE
#include "fa/Dialect/FA/Transforms/Passes.h.inc"
} // namespace mlir::fa

using namespace mlir;
using namespace mlir::fa;

namespace {
/// Reverse-mode differentiation of one straight-line region: a copy of its
/// operations, then, from the last one to the first, what each passes on of the
/// gradient of its result.
class Differentiator {
public:
  explicit Differentiator(AttentionBackwardOp op)
      : op(op), builder(op.getContext()), loc(op.getLoc()) {}

  LogicalResult run();

private:
  /// Adds to the gradients of the operands of `inner` what its result's
  /// gradient `g` makes of them.
  LogicalResult differentiate(Operation *inner, Value g);
  /// Whether `value` depends on the score.
  bool isActive(Value value) const { return active.contains(value); }
  void accumulate(Value value, function_ref<Value()> gradient);

  Value constant(Type type, double value) {
    return arith::ConstantOp::create(builder, loc,
                                     builder.getFloatAttr(type, value));
  }
  Value mul(Value a, Value b) {
    return arith::MulFOp::create(builder, loc, a, b);
  }
  Value mul(Value a, double factor) {
    return mul(a, constant(a.getType(), factor));
  }
  Value div(Value a, Value b) {
    return arith::DivFOp::create(builder, loc, a, b);
  }
  Value neg(Value a) { return arith::NegFOp::create(builder, loc, a); }
  Value zero(Value like) { return constant(like.getType(), 0.0); }
  Value select(Value condition, Value yes, Value no) {
    return arith::SelectOp::create(builder, loc, condition, yes, no);
  }
  Value compare(arith::CmpFPredicate predicate, Value a, Value b) {
    return arith::CmpFOp::create(builder, loc, predicate, a, b);
  }

  AttentionBackwardOp op;
  OpBuilder builder;
  Location loc;
  DenseSet<Value> active;
  DenseMap<Value, Value> gradients;
};
} // namespace

void Differentiator::accumulate(Value value, function_ref<Value()> gradient) {
  if (!isActive(value))
    return;
  Value addend = gradient();
  Value &sum = gradients[value];
  sum = sum ? arith::AddFOp::create(builder, loc, sum, addend).getResult()
            : addend;
}

LogicalResult Differentiator::differentiate(Operation *inner, Value g) {
  Value y = inner->getResult(0);
  auto x = [&](unsigned i) { return inner->getOperand(i); };
  auto pass = [&](unsigned i, function_ref<Value()> gradient) {
    accumulate(x(i), gradient);
  };
  // The larger (or smaller) operand takes the gradient, the first of equals.
  auto passToChosen = [&](arith::CmpFPredicate predicate) {
    Value first = compare(predicate, x(0), x(1));
    pass(0, [&] { return select(first, g, zero(g)); });
    pass(1, [&] { return select(first, zero(g), g); });
  };
  auto cast = [&](unsigned i) {
    pass(i, [&]() -> Value {
      Type type = x(i).getType();
      if (type.getIntOrFloatBitWidth() > g.getType().getIntOrFloatBitWidth())
        return arith::ExtFOp::create(builder, loc, type, g);
      return arith::TruncFOp::create(builder, loc, type, g);
    });
  };
  return llvm::TypeSwitch<Operation *, LogicalResult>(inner)
      .Case([&](arith::AddFOp) {
        pass(0, [&] { return g; });
        pass(1, [&] { return g; });
        return success();
      })
      .Case([&](arith::SubFOp) {
        pass(0, [&] { return g; });
        pass(1, [&] { return neg(g); });
        return success();
      })
      .Case([&](arith::MulFOp) {
        pass(0, [&] { return mul(g, x(1)); });
        pass(1, [&] { return mul(g, x(0)); });
        return success();
      })
      .Case([&](math::FmaOp) {
        pass(0, [&] { return mul(g, x(1)); });
        pass(1, [&] { return mul(g, x(0)); });
        pass(2, [&] { return g; });
        return success();
      })
      .Case([&](arith::DivFOp) {
        pass(0, [&] { return div(g, x(1)); });
        pass(1, [&] { return neg(div(mul(g, y), x(1))); });
        return success();
      })
      .Case([&](arith::NegFOp) {
        pass(0, [&] { return neg(g); });
        return success();
      })
      .Case([&](math::AbsFOp) {
        // 0 at 0.
        pass(0, [&] {
          Value below = compare(arith::CmpFPredicate::OLT, x(0), zero(g));
          Value above = compare(arith::CmpFPredicate::OGT, x(0), zero(g));
          return select(above, g, select(below, neg(g), zero(g)));
        });
        return success();
      })
      .Case<arith::MaximumFOp, arith::MaxNumFOp>([&](auto) {
        passToChosen(arith::CmpFPredicate::OGE);
        return success();
      })
      .Case<arith::MinimumFOp, arith::MinNumFOp>([&](auto) {
        passToChosen(arith::CmpFPredicate::OLE);
        return success();
      })
      .Case([&](arith::SelectOp) {
        pass(1, [&] { return select(x(0), g, zero(g)); });
        pass(2, [&] { return select(x(0), zero(g), g); });
        return success();
      })
      .Case<arith::ExtFOp, arith::TruncFOp>([&](auto) {
        cast(0);
        return success();
      })
      .Case([&](math::ExpOp) {
        pass(0, [&] { return mul(g, y); });
        return success();
      })
      .Case([&](math::Exp2Op) {
        pass(0, [&] { return mul(mul(g, y), 0.6931471805599453); });
        return success();
      })
      .Case([&](math::LogOp) {
        pass(0, [&] { return div(g, x(0)); });
        return success();
      })
      .Case([&](math::Log1pOp) {
        pass(0, [&] {
          return div(g, arith::AddFOp::create(builder, loc, x(0),
                                              constant(g.getType(), 1.0)));
        });
        return success();
      })
      .Case([&](math::SqrtOp) {
        pass(0, [&] { return div(mul(g, 0.5), y); });
        return success();
      })
      .Case([&](math::RsqrtOp) {
        pass(0, [&] { return div(mul(mul(g, y), -0.5), x(0)); });
        return success();
      })
      .Case([&](math::TanhOp) {
        pass(0, [&] {
          Value slope = arith::SubFOp::create(
              builder, loc, constant(g.getType(), 1.0), mul(y, y));
          return mul(g, slope);
        });
        return success();
      })
      .Case([&](math::ErfOp) {
        pass(0, [&] {
          Value e = math::ExpOp::create(builder, loc, neg(mul(x(0), x(0))));
          return mul(mul(g, e), 1.1283791670955126); // 2 / sqrt(pi)
        });
        return success();
      })
      .Case([&](math::SinOp) {
        pass(0,
             [&] { return mul(g, math::CosOp::create(builder, loc, x(0))); });
        return success();
      })
      .Case([&](math::CosOp) {
        pass(0, [&] {
          return neg(mul(g, math::SinOp::create(builder, loc, x(0))));
        });
        return success();
      })
      .Case([&](math::PowFOp) {
        pass(0, [&] {
          Value less = arith::SubFOp::create(builder, loc, x(1),
                                             constant(g.getType(), 1.0));
          return mul(mul(g, x(1)),
                     math::PowFOp::create(builder, loc, x(0), less));
        });
        pass(1, [&] {
          return mul(mul(g, y), math::LogOp::create(builder, loc, x(0)));
        });
        return success();
      })
      .Default([&](Operation *other) {
        return op.emitOpError("has a score region with ")
               << other->getName()
               << ", which fa-differentiate has no derivative of; use add, "
                  "sub, mul, div, fma, neg, abs, min, max, select, casts, exp, "
                  "exp2, log, log1p, sqrt, rsqrt, tanh, erf, sin, cos or pow, "
                  "or give the derivative region yourself";
      });
}

LogicalResult Differentiator::run() {
  Block &score = op.getScore().front();
  Block &body = op.getDerivative().emplaceBlock();
  IRMapping mapping;
  for (BlockArgument argument : score.getArguments())
    mapping.map(argument,
                body.addArgument(argument.getType(), argument.getLoc()));
  Value g = body.addArgument(op.getAccType(), loc);
  builder.setInsertionPointToStart(&body);

  // Integers and conditions are constants to the derivative.
  active.insert(body.getArgument(0));
  SmallVector<Operation *> ops;
  for (Operation &inner : score.without_terminator()) {
    Operation *copy = builder.clone(inner, mapping);
    ops.push_back(copy);
    if (copy->getNumResults() == 1 &&
        isa<FloatType>(copy->getResult(0).getType()) &&
        llvm::any_of(copy->getOperands(), [&](Value v) { return isActive(v); }))
      active.insert(copy->getResult(0));
  }
  accumulate(mapping.lookupOrDefault(score.getTerminator()->getOperand(0)),
             [&] { return g; });
  for (Operation *inner : llvm::reverse(ops)) {
    if (inner->getNumResults() != 1)
      continue;
    if (Value gradient = gradients.lookup(inner->getResult(0)))
      if (failed(differentiate(inner, gradient)))
        return failure();
  }
  Value result = gradients.lookup(body.getArgument(0));
  YieldOp::create(builder, loc, result ? result : zero(g));

  // What only the score needed.
  ops.clear();
  for (Operation &inner : body)
    ops.push_back(&inner);
  for (Operation *inner : llvm::reverse(ops))
    if (isOpTriviallyDead(inner))
      inner->erase();
  return success();
}

namespace {
struct Differentiate : public fa::impl::FADifferentiateBase<Differentiate> {
  void runOnOperation() override {
    WalkResult result = getOperation().walk([](AttentionBackwardOp op) {
      bool isDone = op.getScore().empty() || !op.getDerivative().empty();
      return isDone || succeeded(Differentiator(op).run())
                 ? WalkResult::advance()
                 : WalkResult::interrupt();
    });
    if (result.wasInterrupted())
      signalPassFailure();
  }
};
} // namespace
