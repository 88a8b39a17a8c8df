//===- Turns.cpp - Teams of warps start products one after the other ------===//

#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "mlir/Analysis/SliceAnalysis.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Remarks.h"

using namespace mlir;
using namespace mlir::tl;

namespace mlir::tl {
#define GEN_PASS_DEF_TILETURNS
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
} // namespace mlir::tl

/// Whether `value` is carried by a loop: as far as can be seen, anything.
static bool isCarried(Value value) {
  auto argument = dyn_cast<BlockArgument>(value);
  auto loop = argument
                  ? dyn_cast<scf::ForOp>(argument.getOwner()->getParentOp())
                  : scf::ForOp();
  return loop && argument != loop.getInductionVar();
}

/// Whether warps of one role may differ in `value`.
static bool mayDiffer(Value value) {
  SetVector<Operation *> slice;
  BackwardSliceOptions options;
  options.inclusive = true;
  options.omitBlockArguments = true;
  (void)getBackwardSlice(value, &slice, options);
  return isCarried(value) || llvm::any_of(slice, [](Operation *op) {
           return isa<RowsHeldOp, ExceedsOp, NonfiniteOp>(op) ||
                  llvm::any_of(op->getOperands(), isCarried);
         });
}

/// Whether all warps of a role come to `op` equally often.
static bool isReachedByAll(Operation *op) {
  for (Operation *around = op; !isa<func::FuncOp, RolesOp>(around);
       around = around->getParentOp()) {
    SmallVector<Value> deciding;
    if (auto loop = dyn_cast<scf::ForOp>(around))
      deciding = {loop.getLowerBound(), loop.getUpperBound(), loop.getStep()};
    else if (auto branch = dyn_cast<scf::IfOp>(around))
      deciding = {branch.getCondition()};
    if (llvm::any_of(deciding, mayDiffer))
      return false;
  }
  return true;
}

namespace {
struct TileTurns : tl::impl::TileTurnsBase<TileTurns> {
  void runOnOperation() override {
    func::FuncOp func = getOperation();
    auto plan = func->getAttrOfType<PlanAttr>(kPlanAttrName);
    if (!plan || !plan.getTurns())
      return;
    for (RolesOp roles : func.getOps<RolesOp>())
      for (Region &body : roles.getBodies())
        visit(body);
  }

  static void visit(Region &role) {
    bool takes = false;
    role.walk([&](scf::ForOp loop) {
      auto products = llvm::make_filter_range(
          loop.getBody()->getOps<ContractOp>(),
          [](ContractOp product) { return product.getAsync(); });
      if (products.empty())
        return;
      if (!isReachedByAll(loop)) {
        remark::missed(loop.getLoc(),
                       remark::RemarkOpts::name("turns").category("tile-turns"))
            << remark::reason("teams of warps run the loop unequally often");
        return;
      }
      ContractOp first = *products.begin(), last = first;
      for (ContractOp product : products) {
        auto isBefore = [&](AwaitOp wait) {
          return wait->isBeforeInBlock(product);
        };
        if (llvm::none_of(loop.getBody()->getOps<AwaitOp>(), isBefore))
          last = product;
      }
      OpBuilder builder(first);
      TakeTurnOp::create(builder, first.getLoc());
      builder.setInsertionPointAfter(last);
      PassTurnOp::create(builder, last.getLoc(), /*first=*/false);
      takes = true;
    });
    if (!takes)
      return;
    OpBuilder builder = OpBuilder::atBlockBegin(&role.front());
    PassTurnOp::create(builder, role.getLoc(), /*first=*/true);
  }
};
} // namespace
