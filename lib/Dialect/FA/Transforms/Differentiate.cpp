//===- Differentiate.cpp - fa-differentiate -------------------------------===//

#include "fa/Dialect/FA/Transforms/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

namespace mlir::fa {
#define GEN_PASS_DEF_FADIFFERENTIATE
#include "fa/Dialect/FA/Transforms/Passes.h.inc"
} // namespace mlir::fa

using namespace mlir;
using namespace mlir::fa;

namespace {
/// Makes the derivative region of one backward: the score region once more,
/// then its operations in reverse, each of which hands the gradient of its
/// result on to its operands.
class Differentiator {
public:
  explicit Differentiator(AttentionBackwardOp op)
      : op(op), builder(op.getContext()), loc(op.getLoc()),
        accType(op.getAccType()) {}

  LogicalResult run();

private:
  void findActive(Block &body);
  LogicalResult reverse(Operation *inner, Value g);
  /// Adds `g` to the gradient of `value`, if that depends on anything that has
  /// a gradient. `make` is called only then.
  void add(Value value, function_ref<Value()> make);

  /// Gradients of a narrower type than the accumulator's are kept in that.
  FloatType gradientType(Value value) {
    auto type = cast<FloatType>(value.getType());
    return type.getWidth() > accType.getWidth() ? type : accType;
  }
  Value convert(Value value, FloatType type) {
    auto from = cast<FloatType>(value.getType());
    if (from == type)
      return value;
    if (from.getWidth() < type.getWidth())
      return arith::ExtFOp::create(builder, loc, type, value);
    return arith::TruncFOp::create(builder, loc, type, value);
  }
  Value constant(double value, Type type) {
    return arith::ConstantOp::create(builder, loc,
                                     builder.getFloatAttr(type, value));
  }
  template <typename OpTy> Value make(ValueRange operands) {
    return OpTy::create(builder, loc, operands);
  }
  Value mul(Value x, Value y) { return make<arith::MulFOp>({x, y}); }
  Value div(Value x, Value y) { return make<arith::DivFOp>({x, y}); }
  Value neg(Value x) { return make<arith::NegFOp>(x); }
  Value scaled(Value x, double factor) {
    return mul(x, constant(factor, x.getType()));
  }
  Value select(Value condition, Value yes, Value no) {
    return arith::SelectOp::create(builder, loc, condition, yes, no);
  }
  Value compare(arith::CmpFPredicate predicate, Value x, Value y) {
    return arith::CmpFOp::create(builder, loc, predicate, x, y);
  }

  AttentionBackwardOp op;
  OpBuilder builder;
  Location loc;
  FloatType accType;
  /// Values that depend on the raw score or on a differentiated capture.
  DenseSet<Value> active;
  DenseMap<Value, Value> gradients;
};
} // namespace

void Differentiator::findActive(Block &body) {
  active.insert(body.getArgument(0));
  for (int64_t capture : op.getDifferentiatedCaptures())
    active.insert(body.getArgument(5 + capture));
  for (Operation &inner : body) {
    // Steps: their derivative is zero wherever there is one.
    if (isa<arith::CmpFOp, arith::FPToSIOp, arith::FPToUIOp>(inner))
      continue;
    if (llvm::any_of(inner.getOperands(),
                     [&](Value operand) { return active.contains(operand); }))
      active.insert_range(inner.getResults());
  }
}

void Differentiator::add(Value value, function_ref<Value()> make) {
  if (!active.contains(value))
    return;
  Value g = make();
  // Not a float: refused when the operation that made it is reversed.
  if (isa<FloatType>(value.getType()))
    g = convert(g, gradientType(value));
  Value &sum = gradients[value];
  sum = sum ? arith::AddFOp::create(builder, loc, sum, g).getResult() : g;
}

LogicalResult Differentiator::reverse(Operation *inner, Value g) {
  // Operands and the result in the type in which gradients are kept.
  auto in = [&](unsigned i) {
    return convert(inner->getOperand(i), cast<FloatType>(g.getType()));
  };
  auto out = [&] {
    return convert(inner->getResult(0), cast<FloatType>(g.getType()));
  };
  auto addTo = [&](unsigned i, function_ref<Value()> make) {
    add(inner->getOperand(i), make);
  };
  auto unary = [&](function_ref<Value()> make) {
    addTo(0, make);
    return success();
  };
  Type type = g.getType();

  return TypeSwitch<Operation *, LogicalResult>(inner)
      .Case([&](arith::AddFOp) {
        addTo(0, [&] { return g; });
        addTo(1, [&] { return g; });
        return success();
      })
      .Case([&](arith::SubFOp) {
        addTo(0, [&] { return g; });
        addTo(1, [&] { return neg(g); });
        return success();
      })
      .Case([&](arith::MulFOp) {
        addTo(0, [&] { return mul(g, in(1)); });
        addTo(1, [&] { return mul(g, in(0)); });
        return success();
      })
      .Case([&](math::FmaOp) {
        addTo(0, [&] { return mul(g, in(1)); });
        addTo(1, [&] { return mul(g, in(0)); });
        addTo(2, [&] { return g; });
        return success();
      })
      .Case([&](arith::DivFOp) {
        addTo(0, [&] { return div(g, in(1)); });
        addTo(1, [&] { return neg(div(mul(g, out()), in(1))); });
        return success();
      })
      .Case<arith::MinimumFOp, arith::MaximumFOp, arith::MinNumFOp,
            arith::MaxNumFOp>([&](Operation *) {
        // The operand that is taken; half each when both are equal.
        bool ignoresNaN = isa<arith::MinNumFOp, arith::MaxNumFOp>(inner);
        auto equal =
            ignoresNaN ? arith::CmpFPredicate::OEQ : arith::CmpFPredicate::UEQ;
        for (unsigned i : {0, 1})
          addTo(i, [&] {
            Value isOther = compare(equal, in(1 - i), out());
            Value share = select(isOther, scaled(g, 0.5), g);
            Value isTaken = compare(equal, in(i), out());
            return select(isTaken, share, constant(0.0, type));
          });
        return success();
      })
      .Case([&](arith::SelectOp choice) {
        Value none = constant(0.0, type);
        addTo(1, [&] { return select(choice.getCondition(), g, none); });
        addTo(2, [&] { return select(choice.getCondition(), none, g); });
        return success();
      })
      .Case([&](arith::NegFOp) { return unary([&] { return neg(g); }); })
      .Case<arith::ExtFOp, arith::TruncFOp>(
          [&](Operation *) { return unary([&] { return g; }); })
      .Case([&](math::AbsFOp) {
        // Zero at zero.
        return unary([&] {
          Value x = in(0), none = constant(0.0, type);
          Value isZero = compare(arith::CmpFPredicate::OEQ, x, none);
          Value isNegative = compare(arith::CmpFPredicate::OLT, x, none);
          return select(isZero, none, select(isNegative, neg(g), g));
        });
      })
      .Case([&](math::ExpOp) { return unary([&] { return mul(g, out()); }); })
      .Case([&](math::Exp2Op) {
        return unary([&] { return mul(g, scaled(out(), llvm::numbers::ln2)); });
      })
      .Case([&](math::LogOp) { return unary([&] { return div(g, in(0)); }); })
      .Case([&](math::Log1pOp) {
        return unary([&] {
          return div(g, make<arith::AddFOp>({in(0), constant(1.0, type)}));
        });
      })
      .Case([&](math::SqrtOp) {
        return unary([&] { return div(scaled(g, 0.5), out()); });
      })
      .Case([&](math::RsqrtOp) {
        return unary([&] { return div(mul(scaled(g, -0.5), out()), in(0)); });
      })
      .Case([&](math::TanhOp) {
        return unary([&] {
          Value square = mul(out(), out());
          return mul(g, make<arith::SubFOp>({constant(1.0, type), square}));
        });
      })
      .Case([&](math::ErfOp) {
        return unary([&] {
          Value bell = make<math::ExpOp>(neg(mul(in(0), in(0))));
          return mul(g, scaled(bell, 2 * llvm::numbers::inv_sqrtpi));
        });
      })
      .Case([&](math::SinOp) {
        return unary([&] { return mul(g, make<math::CosOp>(in(0))); });
      })
      .Case([&](math::CosOp) {
        return unary([&] { return neg(mul(g, make<math::SinOp>(in(0)))); });
      })
      .Case([&](math::PowFOp) {
        // A zero exponent makes a constant, and a zero base with a positive
        // exponent too.
        Value none = constant(0.0, type);
        addTo(0, [&] {
          Value lower = make<arith::SubFOp>({in(1), constant(1.0, type)});
          Value slope = mul(in(1), make<math::PowFOp>({in(0), lower}));
          Value isConstant = compare(arith::CmpFPredicate::OEQ, in(1), none);
          return select(isConstant, none, mul(g, slope));
        });
        addTo(1, [&] {
          Value slope = mul(out(), make<math::LogOp>(in(0)));
          Value isConstant = compare(arith::CmpFPredicate::OEQ, out(), none);
          return select(isConstant, none, mul(g, slope));
        });
        return success();
      })
      .Case([&](GatherOp gather) -> LogicalResult {
        auto source = dyn_cast<BlockArgument>(gather.getSource());
        if (!source)
          return gather.emitOpError(
              "reads a value that is computed in the score region, which has "
              "no derivative; gather from captures");
        AccumulateOp::create(builder, loc, convert(g, accType),
                             source.getArgNumber() - 5, gather.getIndices());
        return success();
      })
      .Default([&](Operation *) -> LogicalResult {
        return inner->emitOpError(
            "has no derivative, and the score region applies it to the score "
            "or to a capture with gradients; use add, sub, mul, fma, div, neg, "
            "abs, "
            "min, max, select, compare, exp, exp2, log, log1p, sqrt, rsqrt, "
            "tanh, erf, sin, cos, pow, casts and fa.gather, or write the "
            "derivative region");
      });
}

LogicalResult Differentiator::run() {
  Block &score = op.getScore().front();
  auto &body = op.getDerivative().emplaceBlock();
  IRMapping mapping;
  for (BlockArgument argument : score.getArguments())
    mapping.map(argument,
                body.addArgument(argument.getType(), argument.getLoc()));
  Value ds = body.addArgument(accType, loc);
  builder.setInsertionPointToEnd(&body);
  for (Operation &inner : score.without_terminator())
    builder.clone(inner, mapping);
  Value result = mapping.lookupOrDefault(score.getTerminator()->getOperand(0));

  findActive(body);
  SmallVector<Operation *> inOrder;
  for (Operation &inner : body)
    inOrder.push_back(&inner);
  add(result, [&] { return ds; });
  for (Operation *inner : llvm::reverse(inOrder)) {
    loc = inner->getLoc();
    Value g;
    for (Value output : inner->getResults())
      if (Value found = gradients.lookup(output))
        g = found;
    if (g && failed(reverse(inner, g)))
      return failure();
  }

  loc = op.getLoc();
  auto gradientOf = [&](unsigned argument) {
    Value g = gradients.lookup(body.getArgument(argument));
    return g ? convert(g, accType) : constant(0.0, accType);
  };
  SmallVector<Value> yielded = {gradientOf(0)};
  for (int64_t capture : op.getDifferentiatedCaptures())
    if (!op.isGathered(capture))
      yielded.push_back(gradientOf(5 + capture));
  YieldOp::create(builder, loc, yielded);

  // What only the score needed.
  inOrder.clear();
  for (Operation &inner : body)
    inOrder.push_back(&inner);
  for (Operation *inner : llvm::reverse(inOrder))
    if (isOpTriviallyDead(inner))
      inner->erase();
  return success();
}

namespace {
struct Differentiate : public fa::impl::FADifferentiateBase<Differentiate> {
  void runOnOperation() override {
    WalkResult result = getOperation().walk([](AttentionBackwardOp op) {
      if (op.getScore().empty() || !op.getDerivative().empty())
        return WalkResult::advance();
      return WalkResult(Differentiator(op).run());
    });
    if (result.wasInterrupted())
      signalPassFailure();
  }
};
} // namespace
