//===- Passes.h - Passes of the Tile dialect ---------------------*- C++
//-*-===//

#ifndef FA_DIALECT_TILE_TRANSFORMS_PASSES_H
#define FA_DIALECT_TILE_TRANSFORMS_PASSES_H

#include "fa/Dialect/Tile/IR/Tile.h"
#include "mlir/Pass/Pass.h"

namespace mlir::tl {
#define GEN_PASS_DECL
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
#define GEN_PASS_REGISTRATION
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
} // namespace mlir::tl

#endif // FA_DIALECT_TILE_TRANSFORMS_PASSES_H
