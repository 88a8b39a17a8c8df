// Programs that once crashed the lowering for CPUs (scripts/fuzz.sh found them).
// RUN: fa-opt %s --split-input-file --verify-diagnostics --convert-tile-to-vector -o /dev/null

func.func private @declared()

// -----

// expected-error @below {{argument 0 is a tile; take a memref and load tiles from it}}
func.func @argument(%t: tensor<8x4xf32>, %m: memref<?x?xf32>, %i: index) {
  tile.store %t, %m[%i, %i] : tensor<8x4xf32>, memref<?x?xf32>
  return
}
