// RUN: fa-opt %s --split-input-file --tile-assign-layouts | FileCheck %s
// RUN: sed '/^\/\/ -----/,$d' %s | fa-opt --tile-assign-layouts --tile-plan-resources --convert-tile-to-threads | FileCheck %s --check-prefix=THREADS

#plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4, producers = 0, stages = 1>
#nt = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]
!b = !tile.buffer<64x64xf16, swizzle = 128>

// A vector along the columns, from memory: each lane has two elements, loads them once,
// and gives them to the others where they are used. The store has the slice's layout.
// CHECK-LABEL: func.func @spread
// CHECK: tile.load {{.*}} tensor<64xf32, #[[SPREAD:tile.frag<reg = \[2:0:32\], lane = \[32:0:1\], warp = \[4:0:0, 1:0:0\]>]]>
// CHECK: tile.iota dim 0 : tensor<64xi32, #[[SPREAD]]>
// CHECK: arith.select {{.*}} tensor<64xf32, #[[SPREAD]]>
// CHECK: tile.broadcast %{{.*}} dim 0 : tensor<64xf32, #[[SPREAD]]> -> tensor<64x64xf32, #tile.frag<reg = [2:1:1, 2:0:8, 8:1:8], lane = [4:1:2, 8:0:1], warp = [4:0:16, 1:0:64]>>
// THREADS-LABEL: func.func @spread
// THREADS-COUNT-2: memref.load
// THREADS-NOT: memref.load
// THREADS-COUNT-16: nvvm.shfl.sync idx
// THREADS-NOT: nvvm.shfl.sync
func.func @spread(%x: memref<64x64xf16> {tile.align = 16}, %m: memref<64xf32>, %o: memref<64x64xf32>) attributes {tile.plan = #plan, tile.launch = {}} {
  %c0 = arith.constant 0 : index
  %p = tile.pipe : !tile.pipe<1, !b>
  %a = tile.consume %p[%c0] : !tile.pipe<1, !b> -> !b
  %zero = arith.constant dense<0.0> : tensor<64x64xf32>
  %s = tile.contract %a, %a, %zero {maps = #nt} : !b, !b, tensor<64x64xf32>
  %v = tile.load %m[%c0] : memref<64xf32> -> tensor<64xf32>
  %i = tile.iota dim 0 : tensor<64xi32>
  %end = arith.constant dense<40> : tensor<64xi32>
  %dead = arith.cmpi sge, %i, %end : tensor<64xi32>
  %none = arith.constant dense<0.0> : tensor<64xf32>
  %w = arith.select %dead, %none, %v : tensor<64xi1>, tensor<64xf32>
  %b = tile.broadcast %w dim 0 : tensor<64xf32> -> tensor<64x64xf32>
  %r = arith.subf %s, %b : tensor<64x64xf32>
  tile.store %r, %o[%c0, %c0] : tensor<64x64xf32>, memref<64x64xf32>
  return
}

// -----

#plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4, producers = 0, stages = 1>
#nt = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]
!b = !tile.buffer<64x64xf16, swizzle = 128>

// What a reduction gives, and what decides about elements, are slices of the matrix.
// CHECK-LABEL: func.func @slices
// CHECK: tile.load {{.*}} tensor<64xf32, #[[SLICE:tile.frag<reg = \[2:0:1, 8:0:8\], lane = \[4:0:2, 8:0:0\], warp = \[4:0:0, 1:0:0\]>]]>
// CHECK: tile.reduce max %{{.*}} dim 0 {{.*}} -> tensor<64xf32, #[[SLICE]]>
// CHECK: tile.broadcast %{{.*}} dim 0 : tensor<64xf32, #[[SLICE]]>
// CHECK: tile.broadcast %{{.*}} dim 0 : tensor<64xi1, #[[SLICE]]>
func.func @slices(%a: !b, %m: memref<64xf32>, %n: memref<64xi32>, %o: memref<64x64xf32>) attributes {tile.plan = #plan} {
  %c0 = arith.constant 0 : index
  %zero = arith.constant dense<0.0> : tensor<64x64xf32>
  %s = tile.contract %a, %a, %zero {maps = #nt} : !b, !b, tensor<64x64xf32>
  %v = tile.load %m[%c0] : memref<64xf32> -> tensor<64xf32>
  %t = tile.reduce max %s dim 0 : tensor<64x64xf32> -> tensor<64xf32>
  %w = arith.addf %v, %t : tensor<64xf32>
  %b = tile.broadcast %w dim 0 : tensor<64xf32> -> tensor<64x64xf32>
  %r = arith.subf %s, %b : tensor<64x64xf32>
  %l = tile.load %n[%c0] : memref<64xi32> -> tensor<64xi32>
  %i = tile.iota dim 0 : tensor<64xi32>
  %dead = arith.cmpi sge, %i, %l : tensor<64xi32>
  %d = tile.broadcast %dead dim 0 : tensor<64xi1> -> tensor<64x64xi1>
  %u = arith.select %d, %zero, %r : tensor<64x64xi1>, tensor<64x64xf32>
  tile.store %u, %o[%c0, %c0] : tensor<64x64xf32>, memref<64x64xf32>
  return
}

// Sums in parts: one for each of the four lanes that share a row.
// CHECK-LABEL: func.func @parts
// CHECK: tile.partial_sums {{.*}} -> tensor<64x4xf32, #tile.frag<reg = [2:0:8], lane = [4:1:1, 8:0:1], warp = [4:0:16]>>
// CHECK: tile.reduce add {{.*}} -> tensor<64xf32, #tile.frag<reg = [2:0:8], lane = [4:0:0, 8:0:1], warp = [4:0:16]>>
func.func @parts(%m: memref<64x64xf32>, %o: memref<64xf32>) attributes {
    tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>} {
  %c0 = arith.constant 0 : index
  %t = tile.load %m[%c0, %c0] : memref<64x64xf32> -> tensor<64x64xf32>
  %p = tile.partial_sums %t : tensor<64x64xf32> -> tensor<64x4xf32>
  %r = tile.reduce add %p dim 1 : tensor<64x4xf32> -> tensor<64xf32>
  tile.store %r, %o[%c0] : tensor<64xf32>, memref<64xf32>
  return
}
