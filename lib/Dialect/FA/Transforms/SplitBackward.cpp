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

  /// What an operation computes, or has.
  enum Part { Delta = 1, DQSum = 2, DQ = 4, DK = 8, DV = 16 };

  /// A copy of `op` before it that computes these `parts`.
  static void emit(AttentionBackwardOp op, unsigned parts) {
    OpBuilder builder(op);
    auto clone = cast<AttentionBackwardOp>(builder.clone(*op));
    if (!(parts & Delta)) {
      clone.setDeltaKnown(true);
      clone.getOMutable().clear();
      clone.getDLseMutable().clear();
    }
    if (!(parts & DQSum))
      clone.getDQSumMutable().clear();
    if (!(parts & DQ))
      clone.getDQMutable().clear();
    if (!(parts & DK))
      clone.getDKMutable().clear();
    if (!(parts & DV))
      clone.getDVMutable().clear();
  }

  void runOnOperation() override {
    SmallVector<AttentionBackwardOp> ops;
    getOperation().walk([&](AttentionBackwardOp op) { ops.push_back(op); });
    for (AttentionBackwardOp op : ops) {
      if (op.hasTensorSemantics()) {
        op.emitOpError("is on tensors; run one-shot-bufferize first");
        return signalPassFailure();
      }
      unsigned dK = op.getDK() ? DK : 0, dV = op.getDV() ? DV : 0;
      unsigned dQSum = op.getDQSum() ? DQSum : 0;
      if (!op.getDeltaKnown())
        emit(op, Delta | dQSum);
      if (op.getDQ() && !dQSum)
        emit(op, DQ);
      int64_t size = 0;
      for (auto [operand, dim] :
           {std::pair(AttentionSpace::K, AttentionSpace::D),
            std::pair(AttentionSpace::V, AttentionSpace::E)}) {
        int64_t extent = op.getShaped(operand).getType().getDimSize(
            *op.findDim(operand, dim));
        size += ShapedType::isDynamic(extent) ? 0 : extent;
      }
      if (dK && dV && size > maxHeadSizes) {
        emit(op, DK | dQSum);
        emit(op, DV);
      } else if (dK || dV) {
        emit(op, dK | dV | dQSum);
      }
      if (op.getDQ() && dQSum)
        emit(op, DQ | DQSum);
      op.erase();
    }
  }
};
} // namespace
