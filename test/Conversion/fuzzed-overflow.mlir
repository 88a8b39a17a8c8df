// Offsets at the ends of 64 bits once overflowed (scripts/fuzz.sh found them).
// RUN: fa-opt %s --convert-tile-to-vector -o /dev/null

func.func @largest_offset(%m: memref<64x16xf32>, %o: memref<64x16xf32>) {
  %c0 = arith.constant 0 : index
  %end = arith.constant 9223372036854775807 : index
  %t = tile.load %m[%end, %c0] : memref<64x16xf32> -> tensor<64x16xf32>
  tile.store %t, %o[%c0, %c0] : tensor<64x16xf32>, memref<64x16xf32>
  return
}
