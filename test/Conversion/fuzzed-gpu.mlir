// Programs that once crashed convert-tile-to-threads (scripts/fuzz.sh found them).
// RUN: fa-opt %s --split-input-file --verify-diagnostics --convert-tile-to-threads -o /dev/null

func.func @no_layout(%m: memref<?x?xf32>) attributes {tile.shared_bytes = 0 : i64,
    tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "direct", warps = 4, producers = 0, stages = 1>} {
  // expected-error @below {{has a tile without a layout: run tile-assign-layouts first}}
  %t = arith.constant dense<0.0> : tensor<8x4xf32>
  return
}

// -----

#acc = #tile.frag<reg = [2:1:1, 2:0:8, 2:1:8], lane = [4:1:2, 8:0:1], warp = [1:0:16]>
#row = #tile.frag<reg = [2:1:1, 2:0:8], lane = [4:1:2, 8:0:1], warp = [1:0:16]>

func.func @shallow(%m: memref<16x8xf16>, %o: memref<16x16xf32>) attributes {
    tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "direct", warps = 1, producers = 0, stages = 1>,
    tile.launch = {}, tile.shared_bytes = 1024 : i64} {
  %c0 = arith.constant 0 : index
  %p = tile.pipe {offset = 0 : i64} : !tile.pipe<1, !tile.buffer<8x16xf16, swizzle = 32>>
  %b = tile.consume %p[%c0] {pending = 0 : i64} : !tile.pipe<1, !tile.buffer<8x16xf16, swizzle = 32>> -> !tile.buffer<8x16xf16, swizzle = 32>
  %a = tile.load %m[%c0, %c0] : memref<16x8xf16> -> tensor<16x8xf16, #row>
  %zero = arith.constant dense<0.0> : tensor<16x16xf32, #acc>
  // expected-error @below {{reduces over 8 elements; products on a GPU take multiples of 16: use tiles that are}}
  // expected-error @below {{failed to legalize}}
  %r = tile.contract %a, %b, %zero {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]}
      : tensor<16x8xf16, #row>, !tile.buffer<8x16xf16, swizzle = 32>, tensor<16x16xf32, #acc>
  tile.store %r, %o[%c0, %c0] : tensor<16x16xf32, #acc>, memref<16x16xf32>
  return
}
