// RUN: fa-opt %s --pass-pipeline='builtin.module(func.func(tile-async-copy,tile-pipeline))' | FileCheck %s

// Two factors that an iteration holds to its end: both slots are refilled after
// the first wait of the next iteration, in the order of the waits, which the
// numbers of fills under way count on. What a copy reads depends on the
// iteration too: the view is made again for each fill.

#mk = affine_map<(m, n, k) -> (m, k)>
#nk = affine_map<(m, n, k) -> (n, k)>
#kn = affine_map<(m, n, k) -> (k, n)>
#mn = affine_map<(m, n, k) -> (m, n)>

// CHECK-LABEL: func.func @held
// CHECK-SAME: (%[[A:.*]]: memref<?x64xf16>, %[[Q:.*]]: memref<?x64x64xf16>, %[[R:.*]]: memref<?x64x64xf16>,
// CHECK: scf.for %[[I:[a-z0-9]+]] =
// CHECK:   tile.consume %[[PQ:.*]][%{{.*}}] {pending = 1 : i64} : <2,
// CHECK:   %[[VQ:.*]] = memref.subview %[[Q]][%[[NEXT:.*]], 0, 0]
// CHECK:   tile.produce %[[PQ]][%{{.*}}], %[[VQ]][%{{.*}}, %{{.*}}] if
// CHECK:   %[[VR:.*]] = memref.subview %[[R]][%{{.*}}, 0, 0]
// CHECK:   tile.produce %[[PR:.*]][%{{.*}}], %[[VR]][%{{.*}}, %{{.*}}] if
// CHECK:   tile.contract
// CHECK:   tile.consume %[[PR]][%{{.*}}] {pending = 2 : i64} : <2,
// CHECK-NOT: tile.produce
// CHECK:   scf.yield
func.func @held(%a: memref<?x64xf16>, %q: memref<?x64x64xf16>, %r: memref<?x64x64xf16>, %n: index)
    attributes {tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 2>} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant dense<0.0> : tensor<64x64xf32>
  %at = tile.load %a[%c0, %c0] : memref<?x64xf16> -> tensor<64x64xf16>
  %s:2 = scf.for %i = %c0 to %n step %c1 iter_args(%x = %zero, %y = %zero) -> (tensor<64x64xf32>, tensor<64x64xf32>) {
    %qv = memref.subview %q[%i, 0, 0] [1, 64, 64] [1, 1, 1] : memref<?x64x64xf16> to memref<64x64xf16, strided<[64, 1], offset: ?>>
    %rv = memref.subview %r[%i, 0, 0] [1, 64, 64] [1, 1, 1] : memref<?x64x64xf16> to memref<64x64xf16, strided<[64, 1], offset: ?>>
    %qt = tile.load %qv[%c0, %c0] : memref<64x64xf16, strided<[64, 1], offset: ?>> -> tensor<64x64xf16>
    %rt = tile.load %rv[%c0, %c0] : memref<64x64xf16, strided<[64, 1], offset: ?>> -> tensor<64x64xf16>
    %u = tile.contract %at, %qt, %zero {maps = [#mk, #nk, #mn]} : tensor<64x64xf16>, tensor<64x64xf16>, tensor<64x64xf32>
    %v = tile.contract %at, %rt, %zero {maps = [#mk, #nk, #mn]} : tensor<64x64xf16>, tensor<64x64xf16>, tensor<64x64xf32>
    %uh = arith.truncf %u : tensor<64x64xf32> to tensor<64x64xf16>
    %vh = arith.truncf %v : tensor<64x64xf32> to tensor<64x64xf16>
    %x1 = tile.contract %uh, %qt, %x {maps = [#mk, #kn, #mn]} : tensor<64x64xf16>, tensor<64x64xf16>, tensor<64x64xf32>
    %y1 = tile.contract %vh, %rt, %y {maps = [#mk, #kn, #mn]} : tensor<64x64xf16>, tensor<64x64xf16>, tensor<64x64xf32>
    scf.yield %x1, %y1 : tensor<64x64xf32>, tensor<64x64xf32>
  }
  %o = memref.subview %q[%c0, 0, 0] [1, 64, 64] [1, 1, 1] : memref<?x64x64xf16> to memref<64x64xf16, strided<[64, 1], offset: ?>>
  %sum = arith.addf %s#0, %s#1 : tensor<64x64xf32>
  %h = arith.truncf %sum : tensor<64x64xf32> to tensor<64x64xf16>
  tile.store %h, %o[%c0, %c0] : tensor<64x64xf16>, memref<64x64xf16, strided<[64, 1], offset: ?>>
  return
}
