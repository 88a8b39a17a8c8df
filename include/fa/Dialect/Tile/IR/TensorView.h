//===- TensorView.h - Memory as tensor copies see it ------------*- C++ -*-===//

#ifndef FA_DIALECT_TILE_IR_TENSORVIEW_H
#define FA_DIALECT_TILE_IR_TENSORVIEW_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/Diagnostics.h"

namespace mlir::tl {

/// A memref of rank 2 as a tensor map sees it: whole dimensions of a function
/// argument, which a chain of views leads to.
class TensorView {
public:
  /// Fails where a view keeps a part of a dimension, which no map can bound,
  /// or does not lead to an argument of the function. A part of the rows that
  /// begins with the first will do if `isOpen`.
  static FailureOr<TensorView>
  get(Value memref, bool isOpen,
      function_ref<InFlightDiagnostic()> emitError = nullptr);

  /// Number of the argument of the function.
  int64_t getArgument() const { return argument; }
  /// Dimensions of the argument as a tensor map counts them: columns, rows,
  /// and the others, last to first.
  ArrayRef<int64_t> getDims() const { return dims; }
  /// The place of memref[row, col] along each of them, i32.
  SmallVector<Value> getCoordinates(OpBuilder &builder, Location loc, Value row,
                                    Value col) const;

private:
  int64_t argument = 0;
  SmallVector<int64_t> dims;
  Value memref;
};

} // namespace mlir::tl

#endif // FA_DIALECT_TILE_IR_TENSORVIEW_H
