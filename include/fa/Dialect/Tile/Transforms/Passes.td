//===- Passes.td - Passes of the tile dialect --------------*- tablegen -*-===//

#ifndef FA_DIALECT_TILE_TRANSFORMS_PASSES
#define FA_DIALECT_TILE_TRANSFORMS_PASSES

include "mlir/Pass/PassBase.td"

//===----------------------------------------------------------------------===//
// CPU
//===----------------------------------------------------------------------===//

def TileOrientForVectors : Pass<"tile-orient-for-vectors", "func::FuncOp"> {
  let summary = "transpose matrix tiles so that vectors need no horizontal ops";
  let description = [{
    Chooses for each matrix tile of an L1 program whether to keep it or its
    transpose. On the CPU vectors run along the last dimension of a tile, so:

    - tiles that are reduced or broadcast are turned so that the reduced (or
      inserted) dimension is the first one; the majority decides for all tiles
      that elementwise operations and loops tie together;
    - the operand of a `tile.contract` that shares the last dimension of the
      accumulator is turned so that this dimension is its last one too;
    - anything else keeps its orientation.

    The choice costs nothing but a permutation in `tile.load` and `tile.store`
    (`order`), in contraction maps and in the `dim` of reductions.

    Input:
    ```mlir
    %s = tile.load %m[%i, %j] : memref<?x?xf32> -> tensor<32x16xf32>
    %r = tile.reduce max %s dim 1 : tensor<32x16xf32> -> tensor<32xf32>
    ```
    Output:
    ```mlir
    %s = tile.load %m[%i, %j] order array<i64: 1, 0> : memref<?x?xf32> -> tensor<16x32xf32>
    %r = tile.reduce max %s dim 0 : tensor<16x32xf32> -> tensor<32xf32>
    ```
  }];
  let dependentDialects = ["::mlir::tl::TileDialect"];
}

#endif // FA_DIALECT_TILE_TRANSFORMS_PASSES
