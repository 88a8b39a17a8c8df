//===- Utils.h - What passes of the attention dialect share -----*- C++ -*-===//

#ifndef FA_LIB_DIALECT_FA_TRANSFORMS_UTILS_H
#define FA_LIB_DIALECT_FA_TRANSFORMS_UTILS_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"

namespace mlir::fa {

/// `value` as `type` has it.
FloatAttr rounded(FloatType type, APFloat value);

/// `source`, whose dimensions are the results of `map`, without those for which
/// `pointOf` gives an index: there it is the part at the index. What would have
/// no dimension left has one of one element, which tiles can be loaded from.
Value sliceAt(OpBuilder &builder, Location loc, Value source, AffineMap map,
              function_ref<OpFoldResult(AffineExpr)> pointOf);

} // namespace mlir::fa

#endif // FA_LIB_DIALECT_FA_TRANSFORMS_UTILS_H
