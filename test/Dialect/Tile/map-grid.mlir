// RUN: %{matmul:mma2} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid))' | FileCheck %s
// RUN: not fa-opt %s --pass-pipeline='builtin.module(func.func(tile-map-grid))' 2>&1 | FileCheck %s --check-prefix=NONE

// The grid of the launcher: rows x columns of 128, from the arguments' extents.
// CHECK: #[[$GRID:.*]] = affine_map<()[s0, s1] -> (s0 ceildiv 128, s1 ceildiv 128)>
// CHECK-LABEL: func.func @matmul
// CHECK-SAME: tile.launch = {grid = #[[$GRID]], grid_symbols = array<i64: 0, 0, 1, 1>}
// CHECK: %[[ID:.*]] = gpu.block_id x
// CHECK: %[[LINEAR:.*]] = arith.index_cast %[[ID]]
// CHECK: %[[ROWS:.*]] = arith.index_cast
// CHECK: %[[COLS:.*]] = arith.index_cast
// CHECK: %[[COL:.*]] = arith.remui %[[LINEAR]], %[[COLS]]
// CHECK: %[[ROW:.*]] = arith.divui %[[LINEAR]], %[[COLS]]
// The last dimension runs backwards.
// CHECK: %[[LAST:.*]] = arith.subi %[[COLS]], %{{.*}}
// CHECK: %[[J:.*]] = arith.subi %[[LAST]], %[[COL]]
// CHECK-NOT: scf.forall

// NONE: error: {{.*}}scf.forall
func.func @no_grid(%m: memref<?xf32>) {
  return
}
