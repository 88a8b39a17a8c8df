// RUN: %{matmul:mma2} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid))' | FileCheck %s
// RUN: %{matmul:sections} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid))' | FileCheck %s --check-prefix=SECTIONS
// RUN: %{chain:sections} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid))' | FileCheck %s --check-prefix=ALONE
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

// Three rows side by side: column by column, the last one first.
// SECTIONS: %[[ID:.*]] = gpu.block_id x
// SECTIONS: %[[LINEAR:.*]] = arith.index_cast %[[ID]] : index to i32
// SECTIONS: %[[ROWS:.*]] = arith.index_cast %{{.*}} : index to i32
// SECTIONS: %[[COLS:.*]] = arith.index_cast %{{.*}} : index to i32
// SECTIONS: %[[OUTER:.*]] = arith.muli %{{.*}}, %[[ROWS]]
// SECTIONS: %[[C3:.*]] = arith.constant 3 : i32
// SECTIONS: %[[MOST:.*]] = arith.minui %[[C3]], %[[OUTER]]
// SECTIONS: %[[SIZE:.*]] = arith.muli %[[MOST]], %[[COLS]]
// SECTIONS: %[[PLACE:.*]] = arith.remui %[[LINEAR]], %[[SIZE]]
// SECTIONS: %[[NUMBER:.*]] = arith.divui %[[LINEAR]], %[[SIZE]]
// SECTIONS: %[[FIRST:.*]] = arith.muli %[[NUMBER]], %[[MOST]]
// SECTIONS: %[[LEFT:.*]] = arith.subi %[[OUTER]], %[[FIRST]]
// SECTIONS: %[[HERE:.*]] = arith.minui %[[MOST]], %[[LEFT]]
// SECTIONS: %[[WITHIN:.*]] = arith.remui %[[PLACE]], %[[HERE]]
// SECTIONS: %[[STEP:.*]] = arith.divui %[[PLACE]], %[[HERE]]
// SECTIONS: %[[ROW:.*]] = arith.addi %[[FIRST]], %[[WITHIN]]
// SECTIONS: %[[LAST:.*]] = arith.subi %[[COLS]], %{{.*}}
// SECTIONS: %[[COL:.*]] = arith.subi %[[LAST]], %[[STEP]]
// SECTIONS: %[[I:.*]] = arith.index_cast %[[ROW]] : i32 to index
// SECTIONS: %[[J:.*]] = arith.index_cast %[[COL]] : i32 to index
// SECTIONS: affine.apply #{{.*}}(%[[I]])
// SECTIONS: affine.apply #{{.*}}(%[[J]])

// One dimension has no sections.
// ALONE: gpu.block_id x
// ALONE-NOT: arith.remui
// ALONE-NOT: arith.divui
// ALONE: arith.subi

// NONE: error: {{.*}}scf.forall
func.func @no_grid(%m: memref<?xf32>) {
  return
}
