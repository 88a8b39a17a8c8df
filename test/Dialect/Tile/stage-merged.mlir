// RUN: fa-opt %s -tile-stage | FileCheck %s

// A factor loaded from merged dimensions goes through shared memory; one that is
// loaded as it is stays in registers.

#plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 1, producers = 0, stages = 1>
#nt = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]
!b = !tile.buffer<32x64xf16, swizzle = 128>

// CHECK-LABEL: func.func @merged
// CHECK-SAME: (%[[Q:.*]]: memref<{{.*}}>, %[[P:.*]]: memref<{{.*}}>, %[[B:.*]]: !tile.buffer
// CHECK: %[[MERGED:.*]] = tile.load %[[Q]]{{.*}} merged [0, 1]
// CHECK: %[[STAGED:.*]] = tile.stage %[[MERGED]]
// CHECK: tile.contract %[[STAGED]], %[[B]]
// CHECK: %[[PLAIN:.*]] = tile.load %[[P]]
// CHECK-NOT: tile.stage
// CHECK: tile.contract %[[PLAIN]], %[[B]]
func.func @merged(%q: memref<?x?x64xf16, strided<[?, ?, 1], offset: ?>>,
    %p: memref<?x64xf16, strided<[?, 1], offset: ?>>, %b: !b)
    -> (tensor<16x32xf32>, tensor<16x32xf32>) attributes {tile.plan = #plan} {
  %c0 = arith.constant 0 : index
  %zero = arith.constant dense<0.0> : tensor<16x32xf32>
  %m = tile.load %q[%c0, %c0] merged [0, 1]
      : memref<?x?x64xf16, strided<[?, ?, 1], offset: ?>> -> tensor<16x64xf16>
  %s = tile.contract %m, %b, %zero {maps = #nt} : tensor<16x64xf16>, !b, tensor<16x32xf32>
  %l = tile.load %p[%c0, %c0]
      : memref<?x64xf16, strided<[?, 1], offset: ?>> -> tensor<16x64xf16>
  %t = tile.contract %l, %b, %zero {maps = #nt} : tensor<16x64xf16>, !b, tensor<16x32xf32>
  return %s, %t : tensor<16x32xf32>, tensor<16x32xf32>
}
