//===- OutlineLaunches.cpp - tile-outline-launches ------------------------===//

#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;
using namespace mlir::tl;

namespace mlir::tl {
#define GEN_PASS_DEF_TILEOUTLINELAUNCHES
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
} // namespace mlir::tl

/// Lets the plan of its one loop be the function's.
static void movePlan(func::FuncOp func, scf::ForallOp loop) {
  if (Attribute plan = loop->removeAttr(kPlanAttrName))
    func->setAttr(kPlanAttrName, plan);
}

/// A function of `func`'s arguments that runs loop number `number` only.
static void outline(func::FuncOp func, int64_t number) {
  OpBuilder builder(func);
  auto part = cast<func::FuncOp>(builder.clone(*func));
  part.setSymName((func.getSymName() + "_" + Twine(number)).str());
  part->setAttr(kSequenceAttrName, builder.getI64IntegerAttr(number));
  auto loops = llvm::to_vector(part.getOps<scf::ForallOp>());
  for (auto [i, loop] : llvm::enumerate(loops)) {
    if (int64_t(i) == number)
      movePlan(part, loop);
    else
      loop.erase();
  }
  // What only the other loops used.
  SmallVector<Operation *> ops;
  for (Operation &op : part.getBody().front().without_terminator())
    ops.push_back(&op);
  for (Operation *op : llvm::reverse(ops))
    if (isOpTriviallyDead(op))
      op->erase();
}

namespace {
struct TileOutlineLaunches
    : tl::impl::TileOutlineLaunchesBase<TileOutlineLaunches> {
  void runOnOperation() override {
    SmallVector<func::FuncOp> funcs(getOperation().getOps<func::FuncOp>());
    for (func::FuncOp func : funcs) {
      if (func.isDeclaration())
        continue;
      auto loops = llvm::to_vector(func.getOps<scf::ForallOp>());
      if (loops.size() == 1)
        movePlan(func, loops.front());
      if (loops.size() < 2)
        continue;
      if (failed(verify(func)))
        return signalPassFailure();
      for (size_t i = 0; i < loops.size(); ++i)
        outline(func, i);
      func.erase();
    }
  }

  /// Each part repeats what stands between the loops, so that must be pure.
  static LogicalResult verify(func::FuncOp func) {
    if (func.getNumResults())
      return func.emitOpError("has several scf.forall and returns values; what "
                              "is launched writes its results to memrefs");
    for (Operation &op : func.getBody().front().without_terminator()) {
      if (isa<scf::ForallOp>(op)) {
        if (op.getNumResults())
          return op.emitOpError("is one of several launches and has results; "
                                "launches hand values over in memrefs");
        continue;
      }
      if (!isMemoryEffectFree(&op))
        return op.emitOpError("stands between launches and touches memory; "
                              "move it into one of the scf.forall");
    }
    return success();
  }
};
} // namespace
