// RUN: %{both-ways:mma8} | fa-opt --pass-pipeline='builtin.module(tile-outline-launches,func.func(tile-map-grid,tile-orient-for-products,tile-async-copy,tile-stage))' | FileCheck %s
// RUN: %{rectified-matmul:mma8} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-orient-for-products,tile-async-copy,tile-stage))' | FileCheck %s --check-prefix=RIGHT
// RUN: %{chain:mma8} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-orient-for-products,tile-async-copy,tile-stage))' | FileCheck %s --check-prefix=NONE

// One product takes the tile from registers, the other one, which has k as its
// rows, from shared memory.
// CHECK: #[[KM:.*]] = affine_map<(d0, d1, d2) -> (d2, d0)>
// CHECK-LABEL: func.func @both_ways_1
// CHECK: %[[H:.*]] = arith.truncf %{{.*}} : tensor<128x64xf32> to tensor<128x64xf16>
// CHECK: tile.contract %[[H]], %{{.*}} : tensor<128x64xf16>, !tile.buffer<64x64xf16, swizzle = 128>, tensor<128x64xf32>
// CHECK: %[[S:.*]] = tile.stage %[[H]] : tensor<128x64xf16> -> <128x64xf16, swizzle = 128>
// CHECK: tile.contract %[[S]], {{.*}} {maps = [#[[KM]], {{.*}} : !tile.buffer<128x64xf16, swizzle = 128>, !tile.buffer<128x128xf16, swizzle = 128>, tensor<64x128xf32>

// The right factor is computed, too.
// RIGHT: %[[A:.*]] = arith.maximumf
// RIGHT: %[[B:.*]] = arith.maximumf
// RIGHT: %[[S:.*]] = tile.stage %[[B]] : tensor<64x64xf16> -> <64x64xf16, swizzle = 128>
// RIGHT: tile.contract %[[A]], %[[S]], {{.*}} : tensor<64x64xf16>, !tile.buffer<64x64xf16, swizzle = 128>, tensor<64x64xf32>

// NONE-NOT: tile.stage
