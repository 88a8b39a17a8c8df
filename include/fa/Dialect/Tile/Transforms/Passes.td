//===- Passes.td - Passes of the tile dialect --------------*- tablegen -*-===//

#ifndef FA_DIALECT_TILE_TRANSFORMS_PASSES
#define FA_DIALECT_TILE_TRANSFORMS_PASSES

include "mlir/Pass/PassBase.td"

#endif // FA_DIALECT_TILE_TRANSFORMS_PASSES
