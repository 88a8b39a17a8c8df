//===- InvertDivisors.cpp - Divisions in loops become products ------------===//

#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;

namespace mlir::tl {
#define GEN_PASS_DEF_TILEINVERTDIVISORS
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
} // namespace mlir::tl

/// The outermost loop around `op` that does not change `value`; null if none.
static scf::ForOp findLoop(Operation *op, Value value) {
  scf::ForOp found;
  for (auto loop = op->getParentOfType<scf::ForOp>();
       loop && loop.isDefinedOutsideOfLoop(value);
       loop = loop->getParentOfType<scf::ForOp>())
    found = loop;
  return found;
}

namespace {
/// arith.divui and arith.remui of 32 bits by means of a reciprocal.
struct Divider {
  Divider(Operation *op, Value reciprocal) : builder(op), loc(op->getLoc()) {
    Value number = op->getOperand(0), divisor = op->getOperand(1);
    // Too small by one at most.
    low = arith::MulUIExtendedOp::create(builder, loc, number, reciprocal)
              .getHigh();
    rest = arith::SubIOp::create(
        builder, loc, number,
        arith::MulIOp::create(builder, loc, low, divisor));
    isExact = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult,
                                    rest, divisor);
  }

  Value getQuotient() {
    Value one = arith::ConstantIntOp::create(builder, loc, 1, 32);
    Value next = arith::AddIOp::create(builder, loc, low, one);
    return arith::SelectOp::create(builder, loc, isExact, low, next);
  }

  Value getRemainder(Value divisor) {
    Value less = arith::SubIOp::create(builder, loc, rest, divisor);
    return arith::SelectOp::create(builder, loc, isExact, rest, less);
  }

private:
  OpBuilder builder;
  Location loc;
  Value low, rest, isExact;
};

struct TileInvertDivisors
    : tl::impl::TileInvertDivisorsBase<TileInvertDivisors> {
  void runOnOperation() override {
    // By loop and divisor: (2^32 - 1) / divisor.
    DenseMap<std::pair<Operation *, Value>, Value> reciprocals;
    getOperation().walk([&](Operation *op) {
      if (!isa<arith::DivUIOp, arith::RemUIOp>(op) ||
          !op->getResult(0).getType().isInteger(32))
        return;
      Value divisor = op->getOperand(1);
      scf::ForOp loop = findLoop(op, divisor);
      if (!loop || isConstant(divisor))
        return;
      Value &reciprocal = reciprocals[{loop, divisor}];
      if (!reciprocal)
        reciprocal = invert(loop, divisor);
      Divider divider(op, reciprocal);
      op->replaceAllUsesWith(ValueRange{isa<arith::DivUIOp>(op)
                                            ? divider.getQuotient()
                                            : divider.getRemainder(divisor)});
      op->erase();
    });
  }

  /// What LLVM makes shifts or products of.
  static bool isConstant(Value value) {
    return matchPattern(value, m_Constant());
  }

  /// The reciprocal, before `loop`, whose iterations may be none: there 0 is
  /// no divisor yet.
  static Value invert(scf::ForOp loop, Value divisor) {
    OpBuilder builder(loop);
    Location loc = loop.getLoc();
    Value one = arith::ConstantIntOp::create(builder, loc, 1, 32);
    Value most = arith::ConstantIntOp::create(builder, loc, -1, 32);
    Value positive = arith::MaxUIOp::create(builder, loc, divisor, one);
    return arith::DivUIOp::create(builder, loc, most, positive);
  }
};
} // namespace
