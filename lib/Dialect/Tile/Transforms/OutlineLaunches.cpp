//===- OutlineLaunches.cpp - One function per launch ----------------------===//

#include "fa/Conversion/Launch.h"
#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;
using namespace mlir::tl;

namespace mlir::tl {
#define GEN_PASS_DEF_TILEOUTLINELAUNCHES
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
} // namespace mlir::tl

/// Whether `func` is a sequence of the loops `loops` with nothing but scalar
/// computation beside them; says why not.
static LogicalResult checkSequence(func::FuncOp func,
                                   ArrayRef<scf::ForallOp> loops) {
  if (func.getNumResults())
    return func.emitOpError("returns values; a program of several launches "
                            "writes to memrefs");
  if (!func.getBody().hasOneBlock())
    return func.emitOpError("has branches; the launches of a program run one "
                            "after another, unconditionally");
  for (scf::ForallOp loop : loops) {
    if (loop->getParentOp() != func)
      return loop.emitOpError("is nested in another operation; each of several "
                              "launches is at the top level of the function");
    if (loop->getNumResults())
      return loop.emitOpError("has results; launches hand values to each other "
                              "through memrefs only");
  }
  for (Operation &op : func.getBody().front().without_terminator())
    if (!isa<scf::ForallOp>(op) && !isMemoryEffectFree(&op))
      return op.emitOpError("stands between launches and is not pure; only "
                            "scalar computation is repeated in each: move it "
                            "into an scf.forall");
  return success();
}

/// The plan of a loop wins over its function's.
static void hoistPlan(func::FuncOp func, scf::ForallOp loop) {
  if (Attribute plan = loop->removeAttr(kPlanAttrName))
    func->setAttr(kPlanAttrName, plan);
}

/// A copy of `func` with its loop number `index` only.
static func::FuncOp makeLaunch(func::FuncOp func, int64_t index) {
  func::FuncOp launch = func.clone();
  launch.setName((func.getName() + "_" + Twine(index)).str());
  Builder builder(func.getContext());
  launch->setAttr(fa::kOrderAttrName, builder.getI64IntegerAttr(index));
  SmallVector<scf::ForallOp> loops(launch.getOps<scf::ForallOp>());
  for (auto [position, loop] : llvm::enumerate(loops)) {
    if (int64_t(position) == index)
      hoistPlan(launch, loop);
    else
      loop->erase();
  }
  // Users come after what they use; all of it is pure: see checkSequence.
  Block &body = launch.getBody().front();
  for (Operation *op = body.getTerminator()->getPrevNode(); op;) {
    Operation *before = op->getPrevNode();
    if (op->use_empty() && !isa<scf::ForallOp>(op))
      op->erase();
    op = before;
  }
  return launch;
}

namespace {
struct TileOutlineLaunches
    : tl::impl::TileOutlineLaunchesBase<TileOutlineLaunches> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    SymbolTable symbols(module);
    for (func::FuncOp func :
         llvm::make_early_inc_range(module.getOps<func::FuncOp>())) {
      SmallVector<scf::ForallOp> loops;
      func.walk([&](scf::ForallOp loop) { loops.push_back(loop); });
      if (loops.size() == 1)
        hoistPlan(func, loops.front());
      if (loops.size() < 2)
        continue;
      if (failed(checkSequence(func, loops)))
        return signalPassFailure();
      if (!SymbolTable::symbolKnownUseEmpty(func, module)) {
        func.emitOpError("is called; a program of several launches is started "
                         "by the runtime only");
        return signalPassFailure();
      }
      for (int64_t index = 0; index < int64_t(loops.size()); ++index)
        symbols.insert(makeLaunch(func, index), func->getIterator());
      symbols.erase(func);
    }
  }
};
} // namespace
