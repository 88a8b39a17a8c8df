//===- FAInterfaces.td - What attention operations share ---*- tablegen -*-===//

#ifndef FA_DIALECT_FA_IR_FAINTERFACES
#define FA_DIALECT_FA_IR_FAINTERFACES

include "mlir/IR/OpBase.td"

/// An accessor that ODS generates for an argument of the operation.
class FA_Accessor<string type, string name>
    : InterfaceMethod<"", type, name>;

def FA_AttentionOpInterface : OpInterface<"AttentionOpInterface"> {
  let cppNamespace = "::mlir::fa";
  let description = [{
    Operations over the scores of attention: the iteration space (b, h, m, n, d,
    e), indexing maps, mask, score region and captures are those of
    `fa.attention`.
  }];
  let methods = [
    FA_Accessor<"::mlir::Value", "getQ">,
    FA_Accessor<"::mlir::Value", "getK">,
    FA_Accessor<"::mlir::Value", "getV">,
    FA_Accessor<"::mlir::Value", "getLse">,
    FA_Accessor<"::mlir::Value", "getScale">,
    FA_Accessor<"::mlir::OperandRange", "getOrigin">,
    FA_Accessor<"::mlir::MutableOperandRange", "getOriginMutable">,
    FA_Accessor<"::mlir::OperandRange", "getLengths">,
    FA_Accessor<"::mlir::MutableOperandRange", "getLengthsMutable">,
    FA_Accessor<"::mlir::OperandRange", "getCaptures">,
    FA_Accessor<"::mlir::OperandRange", "getSymbols">,
    FA_Accessor<"::mlir::MutableOperandRange", "getSymbolsMutable">,
    FA_Accessor<"::mlir::ArrayAttr", "getIndexingMaps">,
    InterfaceMethod<"", "void", "setIndexingMapsAttr",
                    (ins "::mlir::ArrayAttr":$maps)>,
    FA_Accessor<"std::optional<::mlir::ArrayAttr>", "getCaptureMaps">,
    FA_Accessor<"::mlir::fa::MaskAttr", "getMaskAttr">,
    InterfaceMethod<"", "void", "setMaskAttr", (ins "::mlir::fa::MaskAttr":$mask)>,
    FA_Accessor<"::mlir::Region &", "getScore">,
    InterfaceMethod<
      "All operands that an indexing map describes, with the map's name; of a "
      "name, the operand that decides its type and extents comes first.",
      "::llvm::SmallVector<std::pair<::mlir::OpOperand *, "
      "::mlir::fa::AttentionRoles::Operand>>", "getShapedOperands">,
  ];
  let extraSharedClassDeclaration = [{
    using Dim = ::mlir::fa::AttentionRoles::Dim;
    using Operand = ::mlir::fa::AttentionRoles::Operand;
    static constexpr Dim B = Dim::B, H = Dim::H, M = Dim::M, N = Dim::N,
                         D = Dim::D, E = Dim::E;
    static constexpr Operand Q = Operand::Q, K = Operand::K, V = Operand::V,
                             O = Operand::O, LSE = Operand::LSE;
    ::mlir::AffineMap getMap(Operand operand) {
      return ::llvm::cast<::mlir::AffineMapAttr>($_op.getIndexingMaps()[operand])
          .getValue();
    }
    /// The operand that `operand` names.
    ::mlir::TypedValue<::mlir::ShapedType> getShaped(Operand operand) {
      return ::mlir::fa::detail::getShaped($_op.getOperation(), operand);
    }
    bool hasTensorSemantics() {
      return ::llvm::isa<::mlir::RankedTensorType>($_op.getQ().getType());
    }
    /// The type in which scores are computed: f64 for f64 inputs, else f32.
    ::mlir::FloatType getAccType() {
      return ::mlir::fa::detail::getAccType($_op.getOperation());
    }
    /// The dimension of `operand` that runs along `dim`, if there is one.
    std::optional<unsigned> findDim(Operand operand, Dim dim) {
      return ::mlir::fa::detail::findDim($_op.getOperation(), operand, dim);
    }
    /// Extent of `dim` for queries; 1 when no operand has it.
    ::mlir::OpFoldResult getExtent(::mlir::OpBuilder &builder, Dim dim) {
      return ::mlir::fa::detail::getExtent($_op.getOperation(), builder, dim);
    }
    /// The head of k and v that query head `head` reads.
    ::mlir::Value getKeyHead(::mlir::OpBuilder &builder, ::mlir::Value head) {
      return ::mlir::fa::detail::getKeyHead($_op.getOperation(), builder, head);
    }
    /// Query heads per key head.
    ::mlir::OpFoldResult getGroup(::mlir::OpBuilder &builder) {
      return ::mlir::fa::detail::getGroup($_op.getOperation(), builder);
    }
  }];
}

#endif // FA_DIALECT_FA_IR_FAINTERFACES
