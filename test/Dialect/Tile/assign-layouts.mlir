// RUN: %{row-normalised:mma2} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-async-copy,canonicalize,cse,tile-pipeline,canonicalize,cse,tile-assign-layouts))' | FileCheck %s
// RUN: %{chain:wgmma} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-async-copy,canonicalize,cse,tile-roles,canonicalize,cse,tile-assign-layouts))' | FileCheck %s --check-prefix=WGMMA
// RUN: not fa-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(tile-assign-layouts))' 2>&1 | FileCheck %s --check-prefix=ERR

// 128x128 over four warps of mma.m16n8k16: 32 rows per warp, two blocks of 16.
// CHECK: tile.contract {{.*}} tensor<128x128xf32, #tile.frag<reg = [2:1:1, 2:0:8, 16:1:8, 2:0:16], lane = [4:1:2, 8:0:1], warp = [4:0:32]>>
// A row sum: the lanes that shared a row hold copies.
// CHECK: tile.reduce add {{.*}} -> tensor<128xf32, #tile.frag<reg = [2:0:8, 2:0:16], lane = [4:0:0, 8:0:1], warp = [4:0:32]>>
// CHECK: tile.broadcast {{.*}} -> tensor<128x128xf32, #tile.frag<reg = [2:1:1, 2:0:8, 16:1:8, 2:0:16], lane = [4:1:2, 8:0:1], warp = [4:0:32]>>

// Two warp groups of 64 rows; the left factor has the accumulator's layout.
// WGMMA: arith.truncf {{.*}} to tensor<128x64xf16, #tile.frag<reg = [2:1:1, 2:0:8, 8:1:8], lane = [4:1:2, 8:0:1], warp = [4:0:16, 2:0:64]>>

// 64x128 over eight warps: four have 16 rows each, times two halves of the
// columns. Of a left factor in registers every warp has all columns: a tile
// that is computed by columns cannot be one.
// RUN: %{narrow-matmul:mma8} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-async-copy,canonicalize,cse,tile-pipeline,canonicalize,cse,tile-assign-layouts))' | FileCheck %s --check-prefix=SPREAD
// SPREAD: %[[R:.*]] = tile.contract {{.*}} tensor<64x128xf32, #[[SPREAD:.*]]>
// SPREAD: %[[S:.*]] = tile.contract %{{.*}}, %{{.*}}, %[[R]] {{.*}} tensor<64x128xf32, #[[SPREAD]]>
// SPREAD: scf.yield %[[S]] : tensor<64x128xf32, #[[SPREAD]]>

// ERR: error: a tile of 40x64 does not divide over 4 warps of 16 rows and blocks of 8 columns
func.func @rows(%m: memref<40x64xf32>) attributes {tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>} {
  %c0 = arith.constant 0 : index
  %t = tile.load %m[%c0, %c0] : memref<40x64xf32> -> tensor<40x64xf32>
  tile.store %t, %m[%c0, %c0] : tensor<40x64xf32>, memref<40x64xf32>
  return
}

// -----

// ERR: error: wgmma needs a multiple of 4 warps, the plan has 2
func.func @groups(%m: memref<96x64xf32>) attributes {tile.plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 2, producers = 4, stages = 1>} {
  %c0 = arith.constant 0 : index
  %t = tile.load %m[%c0, %c0] : memref<96x64xf32> -> tensor<96x64xf32>
  tile.store %t, %m[%c0, %c0] : tensor<96x64xf32>, memref<96x64xf32>
  return
}

// -----

// ERR: error: the right factor must be in a shared buffer
func.func @right(%m: memref<64x64xf16>) attributes {tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>} {
  %c0 = arith.constant 0 : index
  %zero = arith.constant dense<0.0> : tensor<64x64xf32>
  %t = tile.load %m[%c0, %c0] : memref<64x64xf16> -> tensor<64x64xf16>
  %u = arith.addf %t, %t : tensor<64x64xf16>
  %r = tile.contract %u, %u, %zero {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]} : tensor<64x64xf16>, tensor<64x64xf16>, tensor<64x64xf32>
  %h = arith.truncf %r : tensor<64x64xf32> to tensor<64x64xf16>
  tile.store %h, %m[%c0, %c0] : tensor<64x64xf16>, memref<64x64xf16>
  return
}

// -----

// ERR: error: the left factor has 64 rows, too few for rows of their own in each of 8 teams of warps; put it into shared memory: run tile-stage
func.func @both(%x: !tile.buffer<64x64xf16, swizzle = 128>) attributes {tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 8, producers = 0, stages = 1>} {
  %zero = arith.constant dense<0.0> : tensor<64x64xf32>
  %s = tile.contract %x, %x, %zero {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]} : !tile.buffer<64x64xf16, swizzle = 128>, !tile.buffer<64x64xf16, swizzle = 128>, tensor<64x64xf32>
  %t = arith.truncf %s : tensor<64x64xf32> to tensor<64x64xf16>
  %r = tile.contract %t, %x, %zero {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]} : tensor<64x64xf16>, !tile.buffer<64x64xf16, swizzle = 128>, tensor<64x64xf32>
  return
}

// -----

// ERR: error: 'tile.partial_sums' op adds up columns that are spread over warps; give each warp whole rows
func.func @spread_sums(%x: !tile.buffer<64x64xf16, swizzle = 128>) -> tensor<64x4xf32> attributes {tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 8, producers = 0, stages = 1>} {
  %zero = arith.constant dense<0.0> : tensor<64x64xf32>
  %s = tile.contract %x, %x, %zero {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]} : !tile.buffer<64x64xf16, swizzle = 128>, !tile.buffer<64x64xf16, swizzle = 128>, tensor<64x64xf32>
  %p = tile.partial_sums %s : tensor<64x64xf32> -> tensor<64x4xf32>
  return %p : tensor<64x4xf32>
}
