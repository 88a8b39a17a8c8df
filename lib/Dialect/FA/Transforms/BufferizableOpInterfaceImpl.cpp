//===- BufferizableOpInterfaceImpl.cpp - Bufferization of the fa dialect --===//

#include "fa/Dialect/FA/Transforms/BufferizableOpInterfaceImpl.h"
#include "fa/Dialect/FA/IR/FA.h"
#include "mlir/Dialect/Bufferization/IR/BufferizableOpInterface.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace mlir::bufferization;
using namespace mlir::fa;

namespace {
struct AttentionModel
    : public BufferizableOpInterface::ExternalModel<AttentionModel,
                                                    AttentionOp> {
  /// o or lse, of which every element is written and none is read.
  static bool isDestination(Operation *op, OpOperand &operand) {
    auto attention = cast<AttentionOp>(op);
    return &operand == &attention.getOMutable() ||
           &operand == &attention.getLseMutable();
  }

  bool bufferizesToMemoryRead(Operation *op, OpOperand &operand,
                              const AnalysisState &) const {
    return !isDestination(op, operand);
  }
  bool bufferizesToMemoryWrite(Operation *op, OpOperand &operand,
                               const AnalysisState &) const {
    return isDestination(op, operand);
  }
  AliasingValueList getAliasingValues(Operation *op, OpOperand &operand,
                                      const AnalysisState &) const {
    auto attention = cast<AttentionOp>(op);
    if (!isDestination(op, operand))
      return {};
    unsigned result = &operand == &attention.getOMutable() ? 0 : 1;
    return {{op->getResult(result), BufferRelation::Equivalent}};
  }

  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &options,
                          BufferizationState &state) const {
    auto attention = cast<AttentionOp>(op);
    if (!attention.hasTensorSemantics())
      return success();
    OpBuilder::InsertionGuard guard(rewriter);
    rewriter.setInsertionPoint(op);
    SmallVector<Value> operands;
    for (Value operand : op->getOperands()) {
      if (!isa<TensorType>(operand.getType())) {
        operands.push_back(operand);
        continue;
      }
      FailureOr<Value> buffer = getBuffer(rewriter, operand, options, state);
      if (failed(buffer))
        return failure();
      operands.push_back(*buffer);
    }
    OperationState newState(op->getLoc(), AttentionOp::getOperationName(),
                            operands, TypeRange(), op->getAttrs());
    newState.addRegion();
    auto onMemRefs = cast<AttentionOp>(rewriter.create(newState));

    // Captures passed as they are reach the region as memrefs, too.
    Region &score = onMemRefs.getScore();
    rewriter.inlineRegionBefore(attention.getScore(), score, score.begin());
    if (!score.empty()) {
      Block &body = score.front();
      rewriter.setInsertionPointToStart(&body);
      for (unsigned number = 0; number < onMemRefs.getCaptures().size();
           ++number) {
        Value capture = onMemRefs.getCaptures()[number];
        BlockArgument argument = body.getArgument(5 + number);
        auto tensor = dyn_cast<TensorType>(argument.getType());
        if (!tensor)
          continue;
        rewriter.modifyOpInPlace(onMemRefs,
                                 [&] { argument.setType(capture.getType()); });
        // Gathers inside, bufferized before, read through these.
        for (Operation *user : llvm::make_early_inc_range(argument.getUsers()))
          if (isa<ToBufferOp>(user))
            rewriter.replaceOp(user, argument);
        if (llvm::all_of(argument.getUsers(), llvm::IsaPred<GatherOp>))
          continue;
        auto view =
            ToTensorOp::create(rewriter, op->getLoc(), tensor, argument);
        rewriter.replaceAllUsesExcept(argument, view, view);
      }
    }
    replaceOpWithBufferizedValues(
        rewriter, op, ValueRange{onMemRefs.getO(), onMemRefs.getLse()});
    return success();
  }
};

struct GatherModel
    : public BufferizableOpInterface::ExternalModel<GatherModel, GatherOp> {
  bool bufferizesToMemoryRead(Operation *, OpOperand &,
                              const AnalysisState &) const {
    return true;
  }
  bool bufferizesToMemoryWrite(Operation *, OpOperand &,
                               const AnalysisState &) const {
    return false;
  }
  AliasingValueList getAliasingValues(Operation *, OpOperand &,
                                      const AnalysisState &) const {
    return {};
  }
  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &options,
                          BufferizationState &state) const {
    auto gather = cast<GatherOp>(op);
    FailureOr<Value> source =
        getBuffer(rewriter, gather.getSource(), options, state);
    if (failed(source))
      return failure();
    rewriter.replaceOpWithNewOp<GatherOp>(op, gather.getResult().getType(),
                                          *source, gather.getIndices());
    return success();
  }
};
} // namespace

void fa::registerBufferizableOpInterfaceExternalModels(
    DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, FADialect *) {
    AttentionOp::attachInterface<AttentionModel>(*context);
    GatherOp::attachInterface<GatherModel>(*context);
    context->loadDialect<BufferizationDialect, memref::MemRefDialect>();
  });
}
