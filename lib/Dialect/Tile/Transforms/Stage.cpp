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
static bool needsBuffer(ContractOp op, unsigned operand) {
  auto type = dyn_cast<RankedTensorType>(op.getOperand(operand).getType());
  if (!type || type.getElementTypeBitWidth() != 16)
    return false;
  return operand == 1 || !op.isReductionMinor(0);
}

namespace {
struct TileStage : tl::impl::TileStageBase<TileStage> {
  void runOnOperation() override {
    // In program order: the first product of a tile places the stage.
    llvm::MapVector<Value, SmallVector<OpOperand *>> staged;
    getOperation().walk([&](ContractOp op) {
      for (unsigned operand : {0u, 1u})
        if (needsBuffer(op, operand))
          staged[op.getOperand(operand)].push_back(&op->getOpOperand(operand));
    });
    for (auto &[tile, uses] : staged) {
      auto type = cast<RankedTensorType>(tile.getType());
      auto bufferType = BufferType::get(
          type.getContext(), type.getShape(), type.getElementType(),
          BufferType::chooseSwizzle(type.getDimSize(1), type.getElementType()));
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
