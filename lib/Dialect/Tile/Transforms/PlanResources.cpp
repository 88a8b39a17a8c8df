//===- PlanResources.cpp - Pipes and barriers in shared memory ------------===//

#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "fa/Target/Chip.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::tl;

namespace mlir::tl {
#define GEN_PASS_DEF_TILEPLANRESOURCES
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
} // namespace mlir::tl

namespace {
struct TilePlanResources : tl::impl::TilePlanResourcesBase<TilePlanResources> {
  void runOnOperation() override {
    func::FuncOp func = getOperation();
    auto plan = func->getAttrOfType<PlanAttr>(kPlanAttrName);
    if (!plan)
      return;
    bool roles = !func.getOps<RolesOp>().empty();
    Builder builder(func.getContext());
    // The 128-byte swizzle repeats every 1024 bytes.
    constexpr int64_t kAlignment = 1024;
    int64_t offset = 0;
    for (PipeOp pipe : func.getOps<PipeOp>()) {
      PipeType type = pipe.getPipe().getType();
      pipe.setOffsetAttr(builder.getI64IntegerAttr(offset));
      offset = llvm::alignTo(
          offset +
              type.getStages() *
                  llvm::alignTo(type.getSlot().getSizeInBytes(), kAlignment),
          kAlignment);
    }
    func.walk([&](StageOp stage) {
      stage.setOffset(offset);
      offset = llvm::alignTo(
          offset + stage.getBuffer().getType().getSizeInBytes(), kAlignment);
      // Where all warps copy, waiting for a pipe is a barrier; the products of
      // the last iteration come before it.
      Block *block = stage->getBlock();
      stage.setUnread(
          !roles && any_of(block->getOps<ConsumeOp>(), [&](ConsumeOp consume) {
            return consume->isBeforeInBlock(stage);
          }));
    });
    if (roles)
      for (PipeOp pipe : func.getOps<PipeOp>()) {
        pipe.setBarriersAttr(builder.getI64IntegerAttr(offset));
        offset += 16 * pipe.getPipe().getType().getStages();
      }
    func->setAttr("tile.shared_bytes", builder.getI64IntegerAttr(offset));
    const fa::Chip *chip = fa::findChip(plan.getChip());
    if (chip && offset > chip->sharedBytes) {
      func.emitError("needs ")
          << offset << " bytes of shared memory; " << plan.getChip().getValue()
          << " has " << chip->sharedBytes
          << " per block: use smaller tiles or fewer stages";
      signalPassFailure();
    }
  }
};
} // namespace
