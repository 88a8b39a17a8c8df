// RUN: fa-opt %s -split-input-file -fa-select-schedule=chip=sm_75 -verify-diagnostics | FileCheck %s --check-prefixes=CHECK,SM75
// RUN: fa-opt %s -split-input-file -fa-select-schedule=chip=sm_86 | FileCheck %s --check-prefixes=CHECK,SM86
// RUN: fa-opt %s -split-input-file -fa-select-schedule=chip=sm_89 | FileCheck %s --check-prefixes=CHECK,SM86
// RUN: fa-opt %s -split-input-file -fa-select-schedule=chip=sm_80 | FileCheck %s --check-prefixes=CHECK,SM80
// RUN: not fa-opt %s -split-input-file -fa-select-schedule=chip=sm_70 2>&1 | FileCheck %s --check-prefix=VOLTA
// RUN: not fa-opt %s -split-input-file -fa-select-schedule=chip=sm_100 2>&1 | FileCheck %s --check-prefix=SM100
// RUN: not fa-opt %s -split-input-file -fa-select-schedule=chip=sm_120a 2>&1 | FileCheck %s --check-prefix=SM120

// VOLTA: error: chip is 'sm_70' (Volta), which is planned and not supported yet; allowed are cpu, sm_75, sm_80, sm_86, sm_89, sm_90a
// SM100: error: chip is 'sm_100', which has no code of its own: its devices run what is compiled for sm_80; allowed are
// SM120: error: chip is 'sm_120a', which has no code of its own: its devices run what is compiled for sm_89; allowed are

// What the shared memory of a chip holds decides, and whether it copies
// asynchronously: one table for all.

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]

// CHECK-LABEL: @d64
// SM75: fa.schedule = #fa.schedule<tile_m = 128, tile_n = 64, plan = <chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 4, producers = 0, stages = 1>>
// SM80: fa.schedule = #fa.schedule<tile_m = 128, tile_n = 128, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>, partial_sums = true>
// SM86: fa.schedule = #fa.schedule<tile_m = 128, tile_n = 128, plan = <chip = "sm_8{{[69]}}", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>, partial_sums = true>
func.func @d64(%q: memref<?x64xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>) {
  fa.attention ins(%q, %q, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>) scale(%s : f32)
    outs(%q, %l : memref<?x64xf16>, memref<?xf32>) {indexing_maps = #maps}
  return
}

// Two blocks of 64 KB share the multiprocessors of sm_80 only.
// CHECK-LABEL: @d128
// SM75: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 32, plan = <chip = "sm_75", mma = "mma_sync", copy = "direct",
// SM80: fa.schedule = #fa.schedule<tile_m = 128, tile_n = 64, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async",
// SM86: fa.schedule = #fa.schedule<tile_m = 128, tile_n = 32, plan = <chip = "sm_8{{[69]}}", mma = "mma_sync", copy = "cp_async",
func.func @d128(%q: memref<?x128xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>) {
  fa.attention ins(%q, %q, %q : memref<?x128xf16>, memref<?x128xf16>, memref<?x128xf16>) scale(%s : f32)
    outs(%q, %l : memref<?x128xf16>, memref<?xf32>) {indexing_maps = #maps}
  return
}

// CHECK-LABEL: @long_rows
// SM75: fa.schedule = #fa.schedule<tile_m = 32, tile_n = 16, plan = <chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 2,
// SM80: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 32, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4,
// SM86: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 16, plan = <chip = "sm_8{{[69]}}", mma = "mma_sync", copy = "cp_async", warps = 4,
func.func @long_rows(%q: memref<?x256xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>) {
  fa.attention_backward ins(%q, %q, %q, %l, %q : memref<?x256xf16>, memref<?x256xf16>, memref<?x256xf16>, memref<?xf32>, memref<?x256xf16>) scale(%s : f32)
    delta(%l : memref<?xf32>) d_q(%q : memref<?x256xf16>) {delta_known, indexing_maps = #maps}
  return
}

// CHECK-LABEL: @long_keys
// SM75: fa.schedule = #fa.schedule<tile_m = 32, tile_n = 16, plan = <chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 2,
// SM80: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 64, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 8,
// SM86: fa.schedule = #fa.schedule<tile_m = 32, tile_n = 32, plan = <chip = "sm_8{{[69]}}", mma = "mma_sync", copy = "cp_async", warps = 4,
func.func @long_keys(%q: memref<?x256xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>) {
  fa.attention_backward ins(%q, %q, %q, %l, %q : memref<?x256xf16>, memref<?x256xf16>, memref<?x256xf16>, memref<?xf32>, memref<?x256xf16>) scale(%s : f32)
    delta(%l : memref<?xf32>) d_k(%q : memref<?x256xf16>) {delta_known, indexing_maps = #maps}
  return
}
