//===- Stage.cpp - Factors in registers go to shared memory ---------------===//

#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;
using namespace mlir::tl;

namespace mlir::tl {
#define GEN_PASS_DEF_TILESTAGE
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
} // namespace mlir::tl

/// Whether the product needs its factor `operand` in shared memory.
static bool needsBuffer(ContractOp op, unsigned operand, PlanAttr plan) {
  auto type = dyn_cast<RankedTensorType>(op.getOperand(operand).getType());
  if (!type || type.getElementTypeBitWidth() != 16)
    return false;
  // What could not be copied there asynchronously: for a whole loop it would
  // occupy as many registers as a result.
  if (auto load = op.getOperand(operand).getDefiningOp<LoadOp>())
    if (load.getMerged())
      return true;
  // Warps that share the rows of a tile hold some of its columns each.
  return operand == 1 || !op.isReductionMinor(0) || plan.getSquare() ||
         plan.getTeamsAlong(type.getDimSize(0)) < plan.getTeams();
}

namespace {
struct TileStage : tl::impl::TileStageBase<TileStage> {
  void runOnOperation() override {
    auto plan = getOperation()->getAttrOfType<PlanAttr>(kPlanAttrName);
    if (!plan) {
      getOperation().emitError(
          "has no 'tile.plan' attribute; run fa-tile or set one");
      return signalPassFailure();
    }
    // In program order: the first product of a tile places the stage.
    llvm::MapVector<Value, SmallVector<OpOperand *>> staged;
    getOperation().walk([&](ContractOp op) {
      for (unsigned operand : {0u, 1u})
        if (needsBuffer(op, operand, plan))
          staged[op.getOperand(operand)].push_back(&op->getOpOperand(operand));
    });
    for (auto &[tile, uses] : staged) {
      auto type = cast<RankedTensorType>(tile.getType());
      Location loc = tile.getLoc();
      auto bufferType =
          BufferType::getForTile([&] { return emitError(loc); }, type);
      if (!bufferType)
        return signalPassFailure();
      Block *block = tile.getParentBlock();
      Operation *first = nullptr;
      for (OpOperand *use : uses) {
        Operation *user = block->findAncestorOpInBlock(*use->getOwner());
        if (!first || user->isBeforeInBlock(first))
          first = user;
      }
      OpBuilder builder(first);
      Value buffer = StageOp::create(builder, tile.getLoc(), bufferType, tile,
                                     IntegerAttr());
      for (OpOperand *use : uses)
        use->set(buffer);
    }
  }
};
} // namespace
