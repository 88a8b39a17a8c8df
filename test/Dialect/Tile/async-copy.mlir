// RUN: %{chain:mma2} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-async-copy))' | FileCheck %s
// RUN: %{matmul:mma1} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-async-copy))' | FileCheck %s --check-prefix=MATMUL
// RUN: not fa-opt %s --pass-pipeline='builtin.module(func.func(tile-async-copy))' 2>&1 | FileCheck %s --check-prefix=PLAN

// A tile that stays gets one slot, tiles of the loop the plan's number.
// CHECK-LABEL: func.func @chain(
// CHECK-DAG: %[[PA:.*]] = tile.pipe : <1, <128x64xf16, swizzle = 128>>
// CHECK-DAG: tile.pipe : <2, <64x64xf16, swizzle = 128>>
// CHECK-DAG: tile.pipe : <2, <64x64xf16, swizzle = 128>>
// CHECK: tile.produce %[[PA]][%[[ZERO:.*]]], %arg0
// CHECK: %[[BA:.*]] = tile.consume %[[PA]][%[[ZERO]]]
// CHECK: scf.for %[[I:[a-z0-9]+]] =
// CHECK:   %[[FILL:.*]] = arith.subi %[[I]], %{{.*}}
// CHECK:   tile.produce %[[PB:.*]][%[[FILL]]], %arg1
// CHECK:   %[[BB:.*]] = tile.consume %[[PB]][%[[FILL]]]
// CHECK:   tile.contract %[[BA]], %[[BB]]
// CHECK:   tile.release %[[PB]][%[[FILL]]]
// CHECK-NOT: tile.load

// MATMUL: tile.pipe : <1, <64x128xf16, swizzle = 128>>

// PLAN: error: {{.*}}has no 'tile.plan' attribute; run fa-tile or set one
func.func @no_plan(%m: memref<?xf32>) {
  return
}
