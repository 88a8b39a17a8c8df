// A program that once crashed convert-tile-to-threads (scripts/fuzz.sh found it).
// RUN: fa-opt %s --verify-diagnostics --convert-tile-to-threads -o /dev/null

func.func @no_layout(%m: memref<?x?xf32>) attributes {tile.shared_bytes = 0 : i64,
    tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "direct", warps = 4, producers = 0, stages = 1>} {
  // expected-error @below {{has a tile without a layout: run tile-assign-layouts first}}
  %t = arith.constant dense<0.0> : tensor<8x4xf32>
  return
}
