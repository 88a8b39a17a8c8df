// RUN: fa-opt %s --split-input-file --verify-diagnostics --convert-tile-to-threads -o /dev/null

// A vector that is spread over the lanes goes to the columns of an accumulator with as many
// columns per warp, as f32; elsewhere a broadcast takes slices.
#acc = #tile.frag<reg = [2:1:1, 2:0:8, 4:1:8], lane = [4:1:2, 8:0:1], warp = [1:0:16]>
#spread = #tile.frag<reg = [2:0:32], lane = [32:0:1], warp = [1:0:0]>
func.func @other_columns(%m: memref<64xf32>, %o: memref<16x32xf32>) attributes {
    tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "direct", warps = 1, producers = 0, stages = 1>,
    tile.launch = {}, tile.shared_bytes = 0 : i64} {
  %c0 = arith.constant 0 : index
  %v = tile.load %m[%c0] : memref<64xf32> -> tensor<32xf32, #spread>
  // expected-error @below {{the source is not laid out as a slice of the result}}
  // expected-error @below {{failed to legalize}}
  %b = tile.broadcast %v dim 0 : tensor<32xf32, #spread> -> tensor<16x32xf32, #acc>
  tile.store %b, %o[%c0, %c0] : tensor<16x32xf32, #acc>, memref<16x32xf32>
  return
}

// -----

#acc = #tile.frag<reg = [2:1:1, 2:0:8, 4:1:8], lane = [4:1:2, 8:0:1], warp = [1:0:16]>
#spread = #tile.frag<reg = [1:0:32], lane = [32:0:1], warp = [1:0:0]>
func.func @other_element(%m: memref<32xf16>, %o: memref<16x32xf16>) attributes {
    tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "direct", warps = 1, producers = 0, stages = 1>,
    tile.launch = {}, tile.shared_bytes = 0 : i64} {
  %c0 = arith.constant 0 : index
  %v = tile.load %m[%c0] : memref<32xf16> -> tensor<32xf16, #spread>
  // expected-error @below {{the source is not laid out as a slice of the result}}
  // expected-error @below {{failed to legalize}}
  %b = tile.broadcast %v dim 0 : tensor<32xf16, #spread> -> tensor<16x32xf16, #acc>
  tile.store %b, %o[%c0, %c0] : tensor<16x32xf16, #acc>, memref<16x32xf16>
  return
}
