// RUN: sed 's/COPY/tma/' %s | fa-opt --tile-async-copy | FileCheck %s --check-prefix=TMA
// RUN: sed 's/COPY/cp_async/' %s | fa-opt --tile-async-copy | FileCheck %s --check-prefix=THREADS

// A tensor copy reads on behind the first %n rows of %m. Blocks that are known to lie
// before their end are read as they are, others are cleared from there on.
#nt = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]
#plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "COPY", warps = 4, producers = 4, stages = 2>
// TMA-LABEL: @blocks
// TMA: %[[VIEW:.*]] = memref.subview
// TMA: tile.produce {{.*}}, %{{.*}}[%{{.*}}, %{{.*}}] : <1,
// TMA: scf.for
// TMA: tile.produce {{.*}} open :
// TMA: tile.consume %{{.*}}[%{{.*}}] : <2,
// TMA: scf.for
// TMA: %[[FROM:.*]] = affine.apply
// TMA: tile.produce {{.*}} open :
// TMA: %[[LENGTH:.*]] = memref.dim %[[VIEW]], %{{.*}}
// TMA: %[[LEFT:.*]] = arith.subi %[[LENGTH]], %[[FROM]]
// TMA: tile.consume %{{.*}}[%{{.*}}] rows %[[LEFT]] : <2,
// THREADS-LABEL: @blocks
// THREADS-NOT: open
// THREADS-NOT: rows
// THREADS: return
func.func @blocks(%q: memref<64x64xf16>, %m: memref<?x64xf16>, %n: index) -> tensor<64x64xf32> attributes {tile.plan = #plan} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant dense<0.0> : tensor<64x64xf32>
  %view = memref.subview %m[0, 0] [%n, 64] [1, 1] : memref<?x64xf16> to memref<?x64xf16, strided<[64, 1]>>
  %a = tile.load %q[%c0, %c0] : memref<64x64xf16> -> tensor<64x64xf16>
  %whole = affine.apply affine_map<()[s0] -> (s0 floordiv 64)>()[%n]
  %first = affine.max affine_map<(d0) -> (0, d0)>(%whole)
  %all = affine.apply affine_map<()[s0] -> (s0 ceildiv 64)>()[%n]
  %full = scf.for %i = %c0 to %first step %c1 iter_args(%acc = %zero) -> tensor<64x64xf32> {
    %at = affine.apply affine_map<(d0) -> (d0 * 64)>(%i)
    %b = tile.load %view[%at, %c0] : memref<?x64xf16, strided<[64, 1]>> -> tensor<64x64xf16>
    %next = tile.contract %a, %b, %acc {maps = #nt} : tensor<64x64xf16>, tensor<64x64xf16>, tensor<64x64xf32>
    scf.yield %next : tensor<64x64xf32>
  }
  %cut = scf.for %i = %first to %all step %c1 iter_args(%acc = %full) -> tensor<64x64xf32> {
    %at = affine.apply affine_map<(d0) -> (d0 * 64)>(%i)
    %b = tile.load %view[%at, %c0] : memref<?x64xf16, strided<[64, 1]>> -> tensor<64x64xf16>
    %next = tile.contract %a, %b, %acc {maps = #nt} : tensor<64x64xf16>, tensor<64x64xf16>, tensor<64x64xf32>
    scf.yield %next : tensor<64x64xf32>
  }
  return %cut : tensor<64x64xf32>
}
