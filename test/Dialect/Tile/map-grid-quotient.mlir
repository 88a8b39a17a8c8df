// RUN: fa-opt %s --pass-pipeline='builtin.module(func.func(tile-map-grid))' | FileCheck %s

// A quotient of two extents, rounded up to tiles: the launcher divides.
// CHECK: #[[$GRID:.*]] = affine_map<()[s0, s1] -> (s0, (s1 floordiv s0) ceildiv 16)>
// CHECK-LABEL: func.func @quotient
// CHECK-SAME: tile.launch = {grid = #[[$GRID]], grid_symbols = array<i64: 1, 0, 0, 0>}
func.func @quotient(%a: memref<?xf32>, %b: memref<?xf32>) {
  %c0 = arith.constant 0 : index
  %m = memref.dim %a, %c0 : memref<?xf32>
  %n = memref.dim %b, %c0 : memref<?xf32>
  %q = arith.divui %m, %n : index
  %blocks = affine.apply affine_map<()[s0] -> (s0 ceildiv 16)>()[%q]
  scf.forall (%i, %j) in (%n, %blocks) {
    %x = memref.load %b[%i] : memref<?xf32>
    memref.store %x, %a[%i] : memref<?xf32>
  }
  return
}
