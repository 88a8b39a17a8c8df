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
/// Quotient and remainder of 32 bits by means of a reciprocal.
struct Divider {
  Divider(OpBuilder &builder, Location loc, Value number, Value divisor,
          Value reciprocal)
      : builder(builder), loc(loc), divisor(divisor) {
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

  Value getRemainder() {
    Value less = arith::SubIOp::create(builder, loc, rest, divisor);
    return arith::SelectOp::create(builder, loc, isExact, rest, less);
  }

private:
  OpBuilder &builder;
  Location loc;
  Value divisor;
  Value low, rest, isExact;
};

struct TileInvertDivisors
    : tl::impl::TileInvertDivisorsBase<TileInvertDivisors> {
  void runOnOperation() override {
    SmallVector<Operation *> divisions;
    getOperation().walk([&](Operation *op) {
      if (isa<arith::DivUIOp, arith::RemUIOp>(op) && !isConstant(divisorOf(op)))
        divisions.push_back(op);
    });
    // In order: a quotient that moves out of a loop may be a divisor there.
    for (Operation *op : divisions)
      if (scf::ForOp loop = findLoop(op, divisorOf(op)))
        simplify(op, loop);
  }

private:
  static Value divisorOf(Operation *op) { return op->getOperand(1); }

  /// What LLVM makes shifts or products of.
  static bool isConstant(Value value) {
    return matchPattern(value, m_Constant());
  }

  /// `loop` does not change the divisor of `op`.
  void simplify(Operation *op, scf::ForOp loop) {
    bool isQuotient = isa<arith::DivUIOp>(op);
    OpBuilder builder(op);
    Location loc = op->getLoc();
    if (scf::ForOp outer = findLoop(op, op->getOperand(0))) {
      if (outer->isProperAncestor(loop))
        outer = loop;
      op->setOperand(1, makePositive(outer, divisorOf(op)));
      op->moveBefore(outer);
      return;
    }
    Type type = op->getResult(0).getType();
    auto extension = op->getOperand(0).getDefiningOp<arith::IndexCastUIOp>();
    bool isIndex = type.isIndex() && extension &&
                   extension.getIn().getType().isInteger(32);
    if (!type.isInteger(32) && !isIndex)
      return;
    Value number = isIndex ? extension.getIn() : op->getOperand(0);
    auto [divisor, reciprocal] = invert(loop, divisorOf(op));
    Divider divider(builder, loc, number, divisor, reciprocal);
    Value result = isQuotient ? divider.getQuotient() : divider.getRemainder();
    if (isIndex)
      result = arith::IndexCastUIOp::create(builder, loc, type, result);
    op->replaceAllUsesWith(ValueRange{result});
    op->erase();
  }

  /// Before `loop`, whose iterations may be none: there 0 is no divisor yet.
  static Value makePositive(scf::ForOp loop, Value divisor) {
    OpBuilder builder(loop);
    Location loc = loop.getLoc();
    Value one = arith::ConstantOp::create(
        builder, loc, builder.getIntegerAttr(divisor.getType(), 1));
    return arith::MaxUIOp::create(builder, loc, divisor, one);
  }

  /// The divisor in 32 bits, where it divides such numbers, and
  /// (2^32 - 1) / divisor, before `loop`.
  std::pair<Value, Value> invert(scf::ForOp loop, Value divisor) {
    auto &[narrow, reciprocal] = inverses[{loop, divisor}];
    if (reciprocal)
      return {narrow, reciprocal};
    OpBuilder builder(loop);
    Location loc = loop.getLoc();
    narrow = divisor;
    if (divisor.getType().isIndex()) {
      // Both quotients of a smaller number by a larger divisor are 0.
      Value limit = arith::ConstantIndexOp::create(
          builder, loc, std::numeric_limits<uint32_t>::max());
      narrow = arith::IndexCastUIOp::create(
          builder, loc, builder.getI32Type(),
          arith::MinUIOp::create(builder, loc, divisor, limit));
    }
    Value most = arith::ConstantIntOp::create(builder, loc, -1, 32);
    reciprocal =
        arith::DivUIOp::create(builder, loc, most, makePositive(loop, narrow));
    return {narrow, reciprocal};
  }

  /// By loop and divisor.
  DenseMap<std::pair<Operation *, Value>, std::pair<Value, Value>> inverses;
};
} // namespace
