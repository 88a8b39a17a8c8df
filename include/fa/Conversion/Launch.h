//===- Launch.h - How a compiled function is launched -----------*- C++ -*-===//

#ifndef FA_CONVERSION_LAUNCH_H
#define FA_CONVERSION_LAUNCH_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

namespace mlir::fa {

/// Discardable attributes of a final llvm.func, read by the runtime.
inline constexpr llvm::StringLiteral kArgsAttrName = "tile.args";
inline constexpr llvm::StringLiteral kLaunchAttrName = "tile.launch";
/// The position among the launches of a program with several; made by
/// tile-outline-launches.
inline constexpr llvm::StringLiteral kOrderAttrName = "tile.order";

/// What the runtime needs to compute the extents of a launch from the
/// arguments of a call.
struct LaunchGrid {
  /// `()[s0, ...] -> (g0, g1, ...)`: the extents of the scf.forall.
  AffineMap extents;
  /// (argument, dimension) per symbol, flattened: dimension `dim` of the memref
  /// argument `arg`, or the value of the scalar argument `arg` when dim is -1.
  SmallVector<int64_t> symbols;

  /// The attribute `tile.launch` with `grid`, `grid_symbols` and `extra`.
  DictionaryAttr getAttr(MLIRContext *context,
                         ArrayRef<NamedAttribute> extra = {}) const;
};

/// The one scf.forall of `func`: it must start at 0 with step 1 and have no
/// results. Emits an error otherwise.
FailureOr<scf::ForallOp> getGridLoop(func::FuncOp func);

/// The grid of `func`'s scf.forall as a map of its arguments. The upper bounds
/// must be composed of affine.apply, arith.addi/subi/muli, memref.dim of
/// function arguments, index arguments and constants; anything else is an
/// error that names the operation.
FailureOr<LaunchGrid> computeLaunchGrid(func::FuncOp func);

/// The attribute `tile.args`: the types of `func`'s arguments.
ArrayAttr getArgsAttr(func::FuncOp func);

} // namespace mlir::fa

#endif // FA_CONVERSION_LAUNCH_H
