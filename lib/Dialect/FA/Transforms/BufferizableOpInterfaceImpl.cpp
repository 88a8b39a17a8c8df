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
/// fa.attention, fa.attention_backward and fa.combine.
template <typename OpTy>
struct AttentionModel
    : public BufferizableOpInterface::ExternalModel<AttentionModel<OpTy>,
                                                    OpTy> {
  /// The result of a destination, of which every element is written and none is
  /// read.
  static std::optional<unsigned> resultOf(Operation *op, OpOperand &operand) {
    auto destinations = cast<OpTy>(op).getDestinations();
    auto found = llvm::find(destinations, &operand);
    if (found == destinations.end())
      return std::nullopt;
    return found - destinations.begin();
  }

  bool bufferizesToMemoryRead(Operation *op, OpOperand &operand,
                              const AnalysisState &) const {
    return !resultOf(op, operand);
  }
  bool bufferizesToMemoryWrite(Operation *op, OpOperand &operand,
                               const AnalysisState &) const {
    return resultOf(op, operand).has_value();
  }
  AliasingValueList getAliasingValues(Operation *op, OpOperand &operand,
                                      const AnalysisState &) const {
    if (std::optional<unsigned> result = resultOf(op, operand))
      return {{op->getResult(*result), BufferRelation::Equivalent}};
    return {};
  }

  /// Captures passed as they are reach a region as memrefs, too.
  static void convertCaptures(RewriterBase &rewriter, OpTy op, Region &region) {
    if (region.empty())
      return;
    Block &body = region.front();
    rewriter.setInsertionPointToStart(&body);
    for (auto [number, capture] : llvm::enumerate(op.getCaptures())) {
      BlockArgument argument = body.getArgument(5 + number);
      auto tensor = dyn_cast<TensorType>(argument.getType());
      if (!tensor)
        continue;
      rewriter.modifyOpInPlace(
          op, [&, type = capture.getType()] { argument.setType(type); });
      // Gathers inside, bufferized before, read through these.
      for (Operation *user : llvm::make_early_inc_range(argument.getUsers()))
        if (isa<ToBufferOp>(user))
          rewriter.replaceOp(user, argument);
      if (llvm::all_of(argument.getUsers(), llvm::IsaPred<GatherOp>))
        continue;
      auto view = ToTensorOp::create(rewriter, op.getLoc(), tensor, argument);
      rewriter.replaceAllUsesExcept(argument, view, view);
    }
  }

  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &options,
                          BufferizationState &state) const {
    if (!cast<OpTy>(op).hasTensorSemantics())
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
    OperationState newState(op->getLoc(), OpTy::getOperationName(), operands,
                            TypeRange(), op->getAttrs());
    for (unsigned i = 0; i < op->getNumRegions(); ++i)
      newState.addRegion();
    auto onMemRefs = cast<OpTy>(rewriter.create(newState));
    if constexpr (!std::is_same_v<OpTy, CombineOp>)
      for (auto [from, to] :
           llvm::zip(op->getRegions(), onMemRefs->getRegions())) {
        rewriter.inlineRegionBefore(from, to, to.begin());
        convertCaptures(rewriter, onMemRefs, to);
      }
    SmallVector<Value> buffers;
    for (OpOperand *destination : onMemRefs.getDestinations())
      buffers.push_back(destination->get());
    replaceOpWithBufferizedValues(rewriter, op, buffers);
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
    AttentionOp::attachInterface<AttentionModel<AttentionOp>>(*context);
    AttentionBackwardOp::attachInterface<AttentionModel<AttentionBackwardOp>>(
        *context);
    CombineOp::attachInterface<AttentionModel<CombineOp>>(*context);
    GatherOp::attachInterface<GatherModel>(*context);
    context->loadDialect<BufferizationDialect, memref::MemRefDialect>();
  });
}
