//===- FA.h - The attention dialect -----------------------------*- C++ -*-===//

#ifndef FA_DIALECT_FA_IR_FA_H
#define FA_DIALECT_FA_IR_FA_H

#include "fa/Dialect/Tile/IR/Tile.h"
#include "mlir/IR/IntegerSet.h"
#include "mlir/IR/TypeUtilities.h"

namespace mlir::fa {
/// The discardable attribute that holds an attention's `#fa.schedule`.
inline constexpr llvm::StringLiteral kScheduleAttrName = "fa.schedule";
/// The discardable attribute of an attention of which few query rows are
/// expected: a hint to fa-select-schedule.
inline constexpr llvm::StringLiteral kFewRowsAttrName = "fa.few_rows";
/// The discardable attribute of an attention whose sequences are expected to be
/// short, as short as a table's rows for such say: a hint, too.
inline constexpr llvm::StringLiteral kShortSequencesAttrName =
    "fa.short_sequences";
/// A discardable attribute: its query heads are worth packing (see `packed` of
/// the schedule) though there are several query rows.
inline constexpr llvm::StringLiteral kPackHeadsAttrName = "fa.pack_heads";

/// The discardable attribute of a module that holds `#fa.schedules`: rows
/// before those of the compiler.
inline constexpr llvm::StringLiteral kSchedulesAttrName = "fa.schedules";

/// Positions in the iteration space of attention and of its indexing maps.
struct AttentionSpace {
  enum Dim : unsigned { B = 0, H = 1, M = 2, N = 3, D = 4, E = 5 };
  enum Operand : unsigned { Q = 0, K = 1, V = 2, O = 3, LSE = 4 };
};

/// What AttentionOpInterface declares on the interface and on the operations.
class AttentionOpInterface;
namespace impl {
FloatType getAccType(AttentionOpInterface op);
TypedValue<ShapedType> getShaped(AttentionOpInterface op,
                                 AttentionSpace::Operand operand);
std::optional<unsigned> findDim(AttentionOpInterface op,
                                AttentionSpace::Operand operand,
                                AttentionSpace::Dim dim);
OpFoldResult getExtent(AttentionOpInterface op, OpBuilder &builder,
                       AttentionSpace::Dim dim);
OpFoldResult getGroup(AttentionOpInterface op, OpBuilder &builder);
Value getKeyHead(AttentionOpInterface op, OpBuilder &builder, Value head);
OpFoldResult getLength(AttentionOpInterface op, OpBuilder &builder,
                       AttentionSpace::Dim dim, Value batch,
                       OpFoldResult extent);
} // namespace impl
} // namespace mlir::fa

#include "fa/Dialect/FA/IR/FADialect.h.inc"
#include "fa/Dialect/FA/IR/FAEnums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "fa/Dialect/FA/IR/FAAttrs.h.inc"
#include "fa/Dialect/FA/IR/FAInterfaces.h.inc"
#define GET_OP_CLASSES
#include "fa/Dialect/FA/IR/FAOps.h.inc"

#endif // FA_DIALECT_FA_IR_FA_H
