//===- FA.h - The attention dialect -----------------------------*- C++ -*-===//

#ifndef FA_DIALECT_FA_IR_FA_H
#define FA_DIALECT_FA_IR_FA_H

#include "fa/Dialect/Tile/IR/Tile.h"
#include "mlir/IR/IntegerSet.h"

namespace mlir::fa {
/// The discardable attribute that holds an attention's `#fa.schedule`.
inline constexpr llvm::StringLiteral kScheduleAttrName = "fa.schedule";

/// The iteration space of attention and the operands that its maps describe, by
/// position in `indexing_maps`.
struct AttentionRoles {
  enum Dim : unsigned { B = 0, H = 1, M = 2, N = 3, D = 4, E = 5 };
  enum Operand : unsigned { Q = 0, K = 1, V = 2, O = 3, LSE = 4 };
};

/// Shared methods of AttentionOpInterface, for its operations and itself.
namespace detail {
TypedValue<ShapedType> getShaped(Operation *op,
                                 AttentionRoles::Operand operand);
FloatType getAccType(Operation *op);
std::optional<unsigned> findDim(Operation *op, AttentionRoles::Operand operand,
                                AttentionRoles::Dim dim);
OpFoldResult getExtent(Operation *op, OpBuilder &builder,
                       AttentionRoles::Dim dim);
Value getKeyHead(Operation *op, OpBuilder &builder, Value head);
OpFoldResult getGroup(Operation *op, OpBuilder &builder);
} // namespace detail
} // namespace mlir::fa

#include "fa/Dialect/FA/IR/FADialect.h.inc"
#define GET_ATTRDEF_CLASSES
#include "fa/Dialect/FA/IR/FAAttrs.h.inc"
#include "fa/Dialect/FA/IR/FAInterfaces.h.inc"
#define GET_OP_CLASSES
#include "fa/Dialect/FA/IR/FAOps.h.inc"

#endif // FA_DIALECT_FA_IR_FA_H
