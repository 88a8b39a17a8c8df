// RUN: %{both-ways:mma8} | fa-opt --pass-pipeline='builtin.module(tile-outline-launches,func.func(tile-map-grid,tile-orient-for-products,tile-async-copy,tile-stage))' | FileCheck %s
// RUN: %{rectified-matmul:mma8} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-orient-for-products,tile-async-copy,tile-stage))' | FileCheck %s --check-prefix=RIGHT
// RUN: %{both-ways:square} | fa-opt --pass-pipeline='builtin.module(tile-outline-launches,func.func(tile-map-grid,tile-orient-for-products,tile-async-copy,tile-stage,tile-pipeline,tile-assign-layouts,tile-plan-resources))' | FileCheck %s --check-prefix=SQUARE
// RUN: %{chain:mma8} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-orient-for-products,tile-async-copy,tile-stage))' | FileCheck %s --check-prefix=NONE

// One product takes the tile from registers, the other one, which has k as its
// rows, from shared memory.
// CHECK: #[[KM:.*]] = affine_map<(d0, d1, d2) -> (d2, d0)>
// CHECK-LABEL: func.func @both_ways_1
// CHECK: %[[H:.*]] = arith.truncf %{{.*}} : tensor<128x64xf32> to tensor<128x64xf16>
// CHECK: tile.contract %[[H]], %{{.*}} : tensor<128x64xf16>, !tile.buffer<64x64xf16, swizzle = 128>, tensor<128x64xf32>
// CHECK: %[[S:.*]] = tile.stage %[[H]] : tensor<128x64xf16> -> <128x64xf16, swizzle = 128>
// CHECK: tile.contract %[[S]], {{.*}} {maps = [#[[KM]], {{.*}} : !tile.buffer<128x64xf16, swizzle = 128>, !tile.buffer<128x128xf16, swizzle = 128>, tensor<64x128xf32>

// The right factor is computed, too; the left one has 64 rows for 8 warps.
// RIGHT: %[[A:.*]] = arith.maximumf
// RIGHT: %[[B:.*]] = arith.maximumf
// RIGHT-DAG: %[[L:.*]] = tile.stage %[[A]] : tensor<64x64xf16> -> <64x64xf16, swizzle = 128>
// RIGHT-DAG: %[[R:.*]] = tile.stage %[[B]] : tensor<64x64xf16> -> <64x64xf16, swizzle = 128>
// RIGHT: tile.contract %[[L]], %[[R]], {{.*}} : !tile.buffer<64x64xf16, swizzle = 128>, !tile.buffer<64x64xf16, swizzle = 128>, tensor<64x64xf32>

// NONE-NOT: tile.stage

// Square: both products read the buffer, and 8 warps hold 32x32 of each of the three
// products: as little as possible of their factors. A wait for a pipe has been a
// barrier since the products of the last iteration.
// SQUARE-LABEL: func.func @both_ways_1
// SQUARE: scf.for
// SQUARE: %[[S:.*]] = tile.stage %{{.*}} {offset = {{[0-9]+}} : i64, unread} : tensor<128x64xf16, #tile.frag<reg = [2:1:1, 2:0:8, 4:1:8, 2:0:16], lane = [4:1:2, 8:0:1], warp = [4:0:32, 2:1:32]>> -> <128x64xf16, swizzle = 128>
// SQUARE: tile.contract %[[S]], {{.*}}, tensor<128x64xf32, #tile.frag<reg = [2:1:1, 2:0:8, 4:1:8, 2:0:16], lane = [4:1:2, 8:0:1], warp = [4:0:32, 2:1:32]>>
// SQUARE: tile.contract %[[S]], {{.*}}, tensor<64x128xf32, #tile.frag<reg = [2:1:1, 2:0:8, 4:1:8, 2:0:16], lane = [4:1:2, 8:0:1], warp = [2:0:32, 4:1:32]>>
