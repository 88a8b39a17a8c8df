//===- Orientation.h - Which way round matrix tiles are held ----*- C++ -*-===//

#ifndef FA_DIALECT_TILE_TRANSFORMS_ORIENTATION_H
#define FA_DIALECT_TILE_TRANSFORMS_ORIENTATION_H

#include "fa/Dialect/Tile/IR/Tile.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/EquivalenceClasses.h"

namespace mlir::tl {

/// The matrix tiles of a function, in classes that elementwise operations and
/// loops tie to one orientation. Votes decide for each class whether its tiles
/// are held as they are written or transposed; `apply` rewrites the function
/// so. Constants, splats and iotas tie nothing: each user gets a copy in its
/// own orientation.
class Orientation {
public:
  explicit Orientation(func::FuncOp func);

  /// Adds `weight` to the votes of `value`'s class; a positive sum transposes
  /// it. Does nothing for values that are no matrices, or of no class.
  void vote(Value value, int64_t weight);
  /// The sum of votes of `value`'s class so far.
  int64_t votesOf(Value value) const;
  bool isTransposed(Value value) const { return votesOf(value) > 0; }
  /// Turns the tiles, and with them the dimensions that loads and stores,
  /// reductions, broadcasts, coordinates and contraction maps name.
  void apply();

private:
  void tie(ValueRange values);
  void collect();
  /// Makes `operand`, a rematerializable tile, agree with the orientation.
  void rematerialize(OpOperand &operand, bool transpose);

  func::FuncOp func;
  llvm::EquivalenceClasses<void *> classes;
  DenseMap<void *, int64_t> votes; // by leader of the class
};

} // namespace mlir::tl

#endif // FA_DIALECT_TILE_TRANSFORMS_ORIENTATION_H
