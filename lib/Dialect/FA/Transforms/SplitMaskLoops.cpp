//===- SplitMaskLoops.cpp - fa-split-mask-loops ---------------------------===//

#include "fa/Dialect/FA/Transforms/Passes.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

namespace mlir::fa {
#define GEN_PASS_DEF_FASPLITMASKLOOPS
#include "fa/Dialect/FA/Transforms/Passes.h.inc"
} // namespace mlir::fa

using namespace mlir;

/// The bound of `j < bound` or `bound <= j`; null for any other comparison.
static Value getBound(arith::CmpIOp compare, scf::ForOp loop) {
  auto predicate = compare.getPredicate();
  if (compare->getBlock() != loop.getBody() ||
      compare.getLhs() != loop.getInductionVar() ||
      !loop.isDefinedOutsideOfLoop(compare.getRhs()) ||
      (predicate != arith::CmpIPredicate::slt &&
       predicate != arith::CmpIPredicate::sge))
    return {};
  return compare.getRhs();
}

/// Splits `loop` at `compare`'s bound. The first loop keeps the original
/// operation; both have the comparison replaced by a constant.
static std::pair<scf::ForOp, scf::ForOp> splitAt(scf::ForOp loop,
                                                 arith::CmpIOp compare) {
  OpBuilder builder(loop);
  Location loc = loop.getLoc();
  AffineExpr d0 = builder.getAffineDimExpr(0), d1 = builder.getAffineDimExpr(1);
  AffineMap both = AffineMap::get(2, 0, {d0, d1}, builder.getContext());
  // max(lower, min(bound, upper)): inside of the range even when the range is
  // empty, so the second loop then runs from lower to upper, not at all.
  OpFoldResult middle = affine::makeComposedFoldedAffineMin(
      builder, loc, both,
      {OpFoldResult(compare.getRhs()), OpFoldResult(loop.getUpperBound())});
  middle = affine::makeComposedFoldedAffineMax(
      builder, loc, both, {OpFoldResult(loop.getLowerBound()), middle});
  Value split = getValueOrCreateConstantIndexOp(builder, loc, middle);

  bool isTrueFirst = compare.getPredicate() == arith::CmpIPredicate::slt;
  IRMapping mapping;
  builder.setInsertionPointAfter(loop);
  auto second = cast<scf::ForOp>(builder.clone(*loop, mapping));
  auto secondCompare =
      cast<arith::CmpIOp>(mapping.lookup(compare.getResult()).getDefiningOp());
  loop.replaceAllUsesWith(second.getResults());
  second.getInitArgsMutable().assign(loop.getResults());
  second.setLowerBound(split);
  loop.setUpperBound(split);
  auto fold = [&](arith::CmpIOp op, bool value) {
    OpBuilder inside(op);
    Value constant = arith::ConstantIntOp::create(inside, loc, value, 1);
    op.replaceAllUsesWith(constant);
    op.erase();
  };
  fold(compare, isTrueFirst);
  fold(secondCompare, !isTrueFirst);
  return {loop, second};
}

/// Folds what the constants imply and drops what is no longer used.
static void simplify(scf::ForOp loop) {
  SmallVector<Operation *> ops;
  loop.walk([&](Operation *op) {
    if (op != loop)
      ops.push_back(op);
  });
  RewritePatternSet patterns(loop.getContext());
  scf::IfOp::getCanonicalizationPatterns(patterns, loop.getContext());
  arith::AndIOp::getCanonicalizationPatterns(patterns, loop.getContext());
  arith::OrIOp::getCanonicalizationPatterns(patterns, loop.getContext());
  arith::SelectOp::getCanonicalizationPatterns(patterns, loop.getContext());
  GreedyRewriteConfig config;
  config.setStrictness(GreedyRewriteStrictness::ExistingOps);
  (void)applyOpPatternsGreedily(ops, std::move(patterns), config);
}

namespace {
struct SplitMaskLoops : public fa::impl::FASplitMaskLoopsBase<SplitMaskLoops> {
  /// Splits `loop` as often as it has comparisons to split at.
  void split(scf::ForOp loop) {
    arith::CmpIOp found;
    // `bound <= j` first: where it is false, `j < bound` does not matter.
    for (auto wanted : {arith::CmpIPredicate::sge, arith::CmpIPredicate::slt})
      for (auto compare : loop.getBody()->getOps<arith::CmpIOp>())
        if (!found && compare.getPredicate() == wanted &&
            getBound(compare, loop))
          found = compare;
    if (!found)
      return;
    auto [before, after] = splitAt(loop, found);
    for (scf::ForOp part : {before, after}) {
      simplify(part);
      split(part);
    }
  }

  void runOnOperation() override {
    SmallVector<scf::ForOp> loops;
    getOperation().walk([&](scf::ForOp loop) {
      if (getConstantIntValue(loop.getStep()) == 1)
        loops.push_back(loop);
    });
    for (scf::ForOp loop : loops)
      split(loop);
  }
};
} // namespace
