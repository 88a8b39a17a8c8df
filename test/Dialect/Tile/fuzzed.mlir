// Programs that once crashed a pass (scripts/fuzz.sh found them).
// RUN: fa-opt %s --split-input-file --verify-diagnostics --fa-lower-tile-to-nvvm -o /dev/null

// Sums of sizes overflowed.
// expected-error @below {{warps is 9223372036854775807 and producers 4; use warps >= 1, producers >= 0 and at most 32 in all}}
#plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 9223372036854775807, producers = 4, stages = 1>

// -----

// expected-error @below {{a buffer is a matrix with extents of 1 to 65536}}
func.func private @large(!tile.buffer<64x9223372036854775807xf16, swizzle = 128>)

// -----

// expected-error @below {{modes span more than 65536 registers, lanes or warps}}
func.func private @lanes(tensor<64x8xf16, #tile.frag<reg = [2:1:1], lane = [9223372036854775807:1:2, 8:0:1], warp = [4:0:16]>>)

// -----

// A factor that fits no buffer.
func.func @narrow(%a: memref<?x?xf16>, %b: memref<?x?xf16>, %c: memref<?x?xf32>, %n: index)
    attributes {tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>} {
  %c0 = arith.constant 0 : index
  scf.forall (%i) in (%n) {
    %zero = arith.constant dense<0.0> : tensor<64x64xf32>
    // expected-error @below {{a row has 16 bytes; it must be a multiple of 32}}
    %x = tile.load %a[%i, %c0] : memref<?x?xf16> -> tensor<64x8xf16>
    %y = tile.load %b[%c0, %i] : memref<?x?xf16> -> tensor<8x64xf16>
    %z = tile.contract %x, %y, %zero {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]}
        : tensor<64x8xf16>, tensor<8x64xf16>, tensor<64x64xf32>
    tile.store %z, %c[%i, %c0] : tensor<64x64xf32>, memref<?x?xf32>
  }
  return
}

// -----

// More elements than any chip has registers for.
func.func @huge(%m: memref<?x?xf32>, %n: index)
    attributes {tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "direct", warps = 4, producers = 0, stages = 1>} {
  scf.forall (%i) in (%n) {
    // expected-error @below {{a tile in registers has 1 to 262144 elements: use smaller tiles}}
    %t = tile.load %m[%i, %i] : memref<?x?xf32> -> tensor<2147483648x64xf32>
    tile.store %t, %m[%i, %i] : tensor<2147483648x64xf32>, memref<?x?xf32>
  }
  return
}

// -----

// The extent of a dimension that is not there.
// expected-error @below {{the extents of the grid must be composed of}}
func.func @dimension(%a: memref<?xf32>)
    attributes {tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "direct", warps = 4, producers = 0, stages = 1>} {
  %c3 = arith.constant 3 : index
  // expected-note @below {{but this value is none of them}}
  %n = memref.dim %a, %c3 : memref<?xf32>
  scf.forall (%i) in (%n) {
  }
  return
}
