//===- FAInterfaces.td - What attention operations share ---*- tablegen -*-===//

#ifndef FA_DIALECT_FA_IR_FAINTERFACES
#define FA_DIALECT_FA_IR_FAINTERFACES

include "mlir/IR/OpBase.td"

def FA_AttentionOpInterface : OpInterface<"AttentionOpInterface"> {
  let cppNamespace = "::mlir::fa";
  let description = [{
    The problem that `fa.attention` and `fa.attention_backward` have in common:
    the iteration space, the five indexing maps, lengths, mask and score. Passes
    that ask about the problem only are written against this.
  }];
  let methods = [
    InterfaceMethod<"", "::mlir::Value", "getQ">,
    InterfaceMethod<"", "::mlir::Value", "getK">,
    InterfaceMethod<"", "::mlir::Value", "getV">,
    InterfaceMethod<"Null when the operation does not read o.",
                    "::mlir::Value", "getO">,
    InterfaceMethod<"", "::mlir::Value", "getLse">,
    InterfaceMethod<"", "::mlir::Value", "getScale">,
    InterfaceMethod<"", "::mlir::Operation::operand_range", "getOrigin">,
    InterfaceMethod<"", "::mlir::MutableOperandRange", "getOriginMutable">,
    InterfaceMethod<"", "::mlir::Operation::operand_range", "getLengths">,
    InterfaceMethod<"", "::mlir::MutableOperandRange", "getLengthsMutable">,
    InterfaceMethod<"", "::mlir::Operation::operand_range", "getCaptures">,
    InterfaceMethod<"", "::mlir::Operation::operand_range", "getSymbols">,
    InterfaceMethod<"", "::mlir::MutableOperandRange", "getSymbolsMutable">,
    InterfaceMethod<"", "::mlir::ArrayAttr", "getIndexingMaps">,
    InterfaceMethod<"", "void", "setIndexingMapsAttr",
                    (ins "::mlir::ArrayAttr":$maps)>,
    InterfaceMethod<"", "std::optional<::mlir::ArrayAttr>", "getCaptureMaps">,
    InterfaceMethod<"", "std::optional<::mlir::fa::MaskAttr>", "getMask">,
    InterfaceMethod<"", "::mlir::fa::MaskAttr", "getMaskAttr">,
    InterfaceMethod<"Null removes the mask.", "void", "setMaskAttr",
                    (ins "::mlir::fa::MaskAttr":$mask)>,
    InterfaceMethod<"", "::mlir::Region &", "getScore">,
    InterfaceMethod<"A value that has the indexing map of o: o, or d_o.",
                    "::mlir::Value", "getOutputLike">,
    InterfaceMethod<"All operands that an indexing map describes, with the map's "
                    "name.",
                    "::llvm::SmallVector<std::pair<::mlir::OpOperand *, "
                    "::mlir::fa::AttentionSpace::Operand>>",
                    "getShapedOperands">,
    InterfaceMethod<"The operands that are written, in the order of the results "
                    "that tensors have for them.",
                    "::llvm::SmallVector<::mlir::OpOperand *>",
                    "getDestinations">,
  ];
  // The names of AttentionSpace and the questions about the problem, on the
  // interface and on the operations.
  let extraSharedClassDeclaration = [{
    using Dim = AttentionSpace::Dim;
    using Operand = AttentionSpace::Operand;
    static constexpr Dim B = AttentionSpace::B, H = AttentionSpace::H,
                         M = AttentionSpace::M, N = AttentionSpace::N,
                         D = AttentionSpace::D, E = AttentionSpace::E;
    static constexpr Operand Q = AttentionSpace::Q, K = AttentionSpace::K,
                             V = AttentionSpace::V, O = AttentionSpace::O,
                             LSE = AttentionSpace::LSE;

    AffineMap getMap(Operand operand) {
      return cast<AffineMapAttr>($_op.getIndexingMaps()[operand]).getValue();
    }
    bool hasTensorSemantics() {
      return isa<RankedTensorType>($_op.getQ().getType());
    }
    /// The type in which scores are computed: f64 for f64 inputs, else f32.
    FloatType getAccType() { return impl::getAccType($_op); }
    /// The operand that `operand` names; d_o for an absent o.
    TypedValue<ShapedType> getShaped(Operand operand) {
      return impl::getShaped($_op, operand);
    }
    /// The dimension of `operand` that runs along `dim`, if there is one.
    std::optional<unsigned> findDim(Operand operand, Dim dim) {
      return impl::findDim($_op, operand, dim);
    }
    /// Extent of `dim` for queries; 1 when no operand has it.
    OpFoldResult getExtent(OpBuilder &builder, Dim dim) {
      return impl::getExtent($_op, builder, dim);
    }
    /// Query heads that read one head of k and v.
    OpFoldResult getGroup(OpBuilder &builder) {
      return impl::getGroup($_op, builder);
    }
    /// How much of `dim`, M or N, `batch` has: lq or lk, clamped to [0, extent]
    /// for the extent of `dim`. For memrefs.
    OpFoldResult getLength(OpBuilder &builder, Dim dim, Value batch,
                           OpFoldResult extent) {
      return impl::getLength($_op, builder, dim, batch, extent);
    }
    /// The head of k and v that query head `head` reads.
    Value getKeyHead(OpBuilder &builder, Value head) {
      return impl::getKeyHead($_op, builder, head);
    }
  }];
}

#endif // FA_DIALECT_FA_IR_FAINTERFACES
