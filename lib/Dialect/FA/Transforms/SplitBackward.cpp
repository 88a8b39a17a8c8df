//===- SplitBackward.cpp - fa-split-backward ------------------------------===//

#include "fa/Dialect/FA/IR/FA.h"
#include "fa/Dialect/FA/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace mlir::fa {
#define GEN_PASS_DEF_FASPLITBACKWARD
#include "fa/Dialect/FA/Transforms/Passes.h.inc"
} // namespace mlir::fa

using namespace mlir;
using namespace mlir::fa;

namespace {
struct SplitBackward : public fa::impl::FASplitBackwardBase<SplitBackward> {
  using FASplitBackwardBase::FASplitBackwardBase;

  /// A copy of `op` before it with delta known or computed, and those of its
  /// gradients that are wanted.
  static void emitPart(AttentionBackwardOp op, bool computesDelta, bool dQ,
                       bool dK, bool dV) {
    OpBuilder builder(op);
    auto part = cast<AttentionBackwardOp>(builder.clone(*op));
    if (!computesDelta) {
      part.setDeltaKnown(true);
      part.getOMutable().clear();
      part.getDLseMutable().clear();
    }
    if (!dQ)
      part.getDQMutable().clear();
    if (!dK)
      part.getDKMutable().clear();
    if (!dV)
      part.getDVMutable().clear();
  }

  void runOnOperation() override {
    SmallVector<AttentionBackwardOp> ops;
    getOperation().walk([&](AttentionBackwardOp op) { ops.push_back(op); });
    for (AttentionBackwardOp op : ops) {
      if (op.hasTensorSemantics()) {
        op.emitOpError("is on tensors; run one-shot-bufferize first");
        return signalPassFailure();
      }
      if (!op.getDeltaKnown())
        emitPart(op, true, false, false, false);
      bool dQ = bool(op.getDQ()), dK = bool(op.getDK()), dV = bool(op.getDV());
      if (dQ)
        emitPart(op, false, true, false, false);
      int64_t size = 0;
      for (auto [operand, dim] :
           {std::pair(AttentionSpace::K, AttentionSpace::D),
            std::pair(AttentionSpace::V, AttentionSpace::E)}) {
        int64_t extent = op.getShaped(operand).getType().getDimSize(
            *op.findDim(operand, dim));
        size += ShapedType::isDynamic(extent) ? 0 : extent;
      }
      if (dK && dV && size > maxHeadSizes) {
        emitPart(op, false, false, true, false);
        emitPart(op, false, false, false, true);
      } else if (dK || dV) {
        emitPart(op, false, false, dK, dV);
      }
      op.erase();
    }
  }
};
} // namespace
