// RUN: sed 's/COPY/tma/' %s | fa-opt --tile-async-copy --tile-plan-resources | FileCheck %s --check-prefix=TMA
// RUN: sed 's/COPY/cp_async/' %s | fa-opt --tile-async-copy --tile-plan-resources | FileCheck %s --check-prefix=THREADS

// A tensor copy fills panels of 64 or 128 bytes, though the last is used in
// part; what threads copy has the panels that divide a row: no space is lost.
#nt = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]
// TMA-LABEL: @padded
// TMA-SAME: tile.shared_bytes = 30720
// TMA-DAG: tile.pipe {{.*}} : <1, <64x112xf16, swizzle = 128>>
// TMA-DAG: tile.pipe {{.*}} : <1, <64x80xf16, swizzle = 64>>
// TMA-DAG: tile.pipe {{.*}} : <1, <64x16xf16, swizzle = 32>>
// THREADS-LABEL: @padded
// THREADS-SAME: tile.shared_bytes = 26624
// THREADS-DAG: tile.pipe {{.*}} : <1, <64x112xf16, swizzle = 32>>
// THREADS-DAG: tile.pipe {{.*}} : <1, <64x80xf16, swizzle = 32>>
// THREADS-DAG: tile.pipe {{.*}} : <1, <64x16xf16, swizzle = 32>>
func.func @padded(%wide: memref<64x112xf16>, %middle: memref<64x80xf16>, %narrow: memref<64x16xf16>)
    -> (tensor<64x64xf32>, tensor<64x64xf32>, tensor<64x64xf32>)
    attributes {tile.plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "COPY", warps = 4, producers = 0, stages = 1>} {
  %c0 = arith.constant 0 : index
  %zero = arith.constant dense<0.0> : tensor<64x64xf32>
  %a = tile.load %wide[%c0, %c0] : memref<64x112xf16> -> tensor<64x112xf16>
  %r = tile.contract %a, %a, %zero {maps = #nt} : tensor<64x112xf16>, tensor<64x112xf16>, tensor<64x64xf32>
  %b = tile.load %middle[%c0, %c0] : memref<64x80xf16> -> tensor<64x80xf16>
  %s = tile.contract %b, %b, %zero {maps = #nt} : tensor<64x80xf16>, tensor<64x80xf16>, tensor<64x64xf32>
  %c = tile.load %narrow[%c0, %c0] : memref<64x16xf16> -> tensor<64x16xf16>
  %t = tile.contract %c, %c, %zero {maps = #nt} : tensor<64x16xf16>, tensor<64x16xf16>, tensor<64x64xf32>
  return %r, %s, %t : tensor<64x64xf32>, tensor<64x64xf32>, tensor<64x64xf32>
}
