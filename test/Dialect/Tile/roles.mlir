// RUN: %{chain:wgmma} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-async-copy,canonicalize,cse,tile-roles,canonicalize,cse))' | FileCheck %s
// RUN: %{chain:mma2} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-async-copy,canonicalize,cse,tile-roles,canonicalize,cse))' | FileCheck %s --check-prefix=NONE

// CHECK-LABEL: func.func @chain
// CHECK: %[[PA:.*]] = tile.pipe : <1, <128x64xf16
// CHECK: tile.roles warps [4, 8] registers [24, 240] {
// Copies: the loop carries nothing.
// CHECK-NOT: tile.consume
// CHECK: tile.produce %[[PA]]
// CHECK: scf.for %{{.*}} = %{{.*}} to %{{.*}} step %{{.*}} {
// CHECK-COUNT-2: tile.produce
// CHECK: }, {
// Products.
// CHECK-NOT: tile.produce
// CHECK: tile.consume %[[PA]]
// CHECK: scf.for {{.*}} iter_args
// CHECK: tile.consume
// CHECK: tile.contract
// CHECK: tile.release
// CHECK: tile.consume
// CHECK: tile.contract
// CHECK: tile.release
// CHECK: tile.store

// NONE-NOT: tile.roles
