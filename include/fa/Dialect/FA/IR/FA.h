//===- FA.h - The attention dialect -----------------------------*- C++ -*-===//

#ifndef FA_DIALECT_FA_IR_FA_H
#define FA_DIALECT_FA_IR_FA_H

#include "fa/Dialect/Tile/IR/Tile.h"
#include "mlir/IR/IntegerSet.h"

namespace mlir::fa {
/// The discardable attribute that holds an attention's `#fa.schedule`.
inline constexpr llvm::StringLiteral kScheduleAttrName = "fa.schedule";
} // namespace mlir::fa

#include "fa/Dialect/FA/IR/FADialect.h.inc"
#define GET_ATTRDEF_CLASSES
#include "fa/Dialect/FA/IR/FAAttrs.h.inc"
#define GET_OP_CLASSES
#include "fa/Dialect/FA/IR/FAOps.h.inc"

#endif // FA_DIALECT_FA_IR_FA_H
