//===- LoopChain.h - Loops that continue each other -------------*- C++ -*-===//

#ifndef FA_DIALECT_TILE_TRANSFORMS_LOOPCHAIN_H
#define FA_DIALECT_TILE_TRANSFORMS_LOOPCHAIN_H

#include "mlir/Dialect/SCF/IR/SCF.h"

namespace mlir::tl {

/// Loops of step 1 in one block, in order, where each begins at the value where
/// the one before ends: one iteration range, cut into pieces.
struct LoopChain {
  SmallVector<scf::ForOp> loops;
  Value lowerBound() { return loops.front().getLowerBound(); }
  Value upperBound() { return loops.back().getUpperBound(); }
};

/// All chains directly inside `block`; a loop on its own is a chain of one.
/// Loops whose step is not the constant 1 are left out.
SmallVector<LoopChain> findLoopChains(Block *block);

} // namespace mlir::tl

#endif // FA_DIALECT_TILE_TRANSFORMS_LOOPCHAIN_H
