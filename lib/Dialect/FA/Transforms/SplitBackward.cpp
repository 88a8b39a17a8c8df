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

  /// Drops the gradients of captures from `op`, all but that of number `kept`
  /// in capture_grads (if not negative).
  static void keepCapture(AttentionBackwardOp op, int64_t kept) {
    if (op.getDCaptures().empty())
      return;
    SmallVector<int64_t> captures(op.getDifferentiatedCaptures());
    SmallVector<Value> gradients(op.getDCaptures());
    if (!op.getDerivative().empty()) {
      Block &body = op.getDerivative().front();
      for (auto add : llvm::make_early_inc_range(body.getOps<AccumulateOp>()))
        if (kept < 0 || int64_t(add.getCapture()) != captures[kept])
          add.erase();
      auto yield = cast<YieldOp>(body.getTerminator());
      SmallVector<Value> yielded = {yield.getValues().front()};
      unsigned next = 1;
      for (auto [number, capture] : llvm::enumerate(captures)) {
        if (op.isGathered(capture))
          continue;
        if (int64_t(number) == kept)
          yielded.push_back(yield.getValues()[next]);
        ++next;
      }
      yield.getValuesMutable().assign(yielded);
    }
    if (kept < 0) {
      op.getDCapturesMutable().clear();
      op.removeCaptureGradsAttr();
      return;
    }
    op.getDCapturesMutable().assign(gradients[kept]);
    op.setCaptureGrads(ArrayRef(captures[kept]));
  }

  /// A copy of `op` before it that computes these `parts` and the gradient of
  /// a capture: see keepCapture.
  static void emit(AttentionBackwardOp op, unsigned parts,
                   int64_t capture = -1) {
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
    keepCapture(clone, capture);
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
      for (int64_t i = 0, e = op.getDCaptures().size(); i < e; ++i)
        emit(op, 0, i);
      op.erase();
    }
  }
};
} // namespace
