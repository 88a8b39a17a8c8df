// RUN: %{chain:mma2} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-async-copy,canonicalize,cse,tile-pipeline,canonicalize,cse))' | FileCheck %s
// RUN: %{chain:mma1} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-async-copy,canonicalize,cse,tile-pipeline,canonicalize,cse))' | FileCheck %s --check-prefix=ONE
// RUN: %{matmul:mma1} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-async-copy,canonicalize,cse,tile-pipeline,canonicalize,cse))' | FileCheck %s --check-prefix=MATMUL
// RUN: %{chain:wgmma} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-async-copy,canonicalize,cse,tile-roles,tile-pipeline))' | FileCheck %s --check-prefix=ROLES

// Two slots. Fills before the loop: a; b and c of iteration 0; b of iteration 1
// (c's second slot is filled by the first iteration). So a may wait with three
// fills under way, b and c with two.
// CHECK-LABEL: func.func @chain(
// CHECK: tile.produce %[[PA:.*]][%c0], %arg0
// CHECK: tile.produce %[[PB:.*]][%c0], %arg1[%c0, %c0] if
// CHECK: tile.produce %[[PC:.*]][%c0], %arg2[%c0, %c0] if
// CHECK: tile.produce %[[PB]][%c1], %arg1[%c64, %c0] if
// CHECK-NOT: tile.produce
// CHECK: tile.consume %[[PA]][%c0] {pending = 3 : i64}
// CHECK: scf.for %[[I:[a-z0-9]+]] = %c0 to %[[END:[0-9]+]]
// CHECK:   tile.consume %[[PB]][%[[I]]] {pending = 2 : i64}
// CHECK:   %[[NEXT:.*]] = arith.addi %[[I]], %c1
// CHECK:   %[[MORE:.*]] = arith.cmpi slt, %[[NEXT]], %[[END]]
// CHECK:   tile.produce %[[PC]][%[[NEXT]]], %arg2{{.*}} if %[[MORE]]
// CHECK:   tile.contract
// CHECK:   tile.consume %[[PC]][%[[I]]] {pending = 2 : i64}
// CHECK:   %[[NEXT2:.*]] = arith.addi %[[I]], %c2
// CHECK:   %[[MORE2:.*]] = arith.cmpi slt, %[[NEXT2]], %[[END]]
// CHECK:   tile.produce %[[PB]][%[[NEXT2]]], %arg1{{.*}} if %[[MORE2]]
// CHECK:   tile.contract

// One slot each: c is filled during the first product, b during the second.
// ONE: tile.consume %{{.*}}[%c0] {pending = 1 : i64}
// ONE: scf.for %[[I:[a-z0-9]+]] =
// ONE:   tile.consume %[[PB:.*]][%[[I]]] {pending = 0 : i64} : <1,
// ONE:   tile.produce %[[PC:.*]][%[[I]]]
// ONE:   tile.contract
// ONE:   tile.consume %[[PC]][%[[I]]] {pending = 0 : i64} : <1,
// ONE:   tile.produce %[[PB]][%{{.*}}]

// Both factors are released together at the end of the iteration: the first
// one's slot could never be filled in time, so it gets a second.
// MATMUL-DAG: tile.pipe : <2, <128x64xf16, swizzle = 128>>
// MATMUL-DAG: tile.pipe : <1, <64x128xf16, swizzle = 128>>

// With producer warps the pass leaves the program alone.
// ROLES-NOT: pending
