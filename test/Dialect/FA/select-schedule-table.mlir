// RUN: fa-opt %s -split-input-file -fa-select-schedule=chip=sm_90a | FileCheck %s
// RUN: fa-opt %s -split-input-file -fa-select-schedule=chip=sm_86 | FileCheck %s --check-prefix=OLDER
// RUN: fa-opt %s -split-input-file -fa-select-schedule=chip=sm_90a --remarks-filter='fa-.*' -o /dev/null 2>&1 | FileCheck %s --check-prefix=REMARK
// The compiler's own table is a file of the same kind.
// RUN: fa-opt %S/../../../lib/Dialect/FA/Transforms/Schedules.mlir | FileCheck %s --check-prefix=OWN
// OWN: fa.schedules = #fa.schedules<"{{[0-9.]+}}", [<work = output,

// A module's rows come before the compiler's. Each condition of a row is one that
// some operation here does not meet.

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]
#other = affine_set<(b, h, m, n)[lq, lk] : (n - m >= 0)>
#causal = affine_set<(b, h, m, n)[lq, lk] : (m + lk - lq - n >= 0)>

module attributes {fa.schedules = #fa.schedules<"0.1.0", [
  <work = output, min_head_size = 64, max_head_size = 64, element = f16, mask = "(d0, d1, d2, d3)[s0, s1] : (d2 + s1 - s0 - d3 >= 0)", scored = false,
   schedule = <tile_m = 64, tile_n = 32, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4, producers = 4, stages = 3>>>,
  <work = output, min_head_size = 64, max_head_size = 64, element = f16, mask = "none",
   schedule = <tile_m = 128, tile_n = 16, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 4>>>,
  <work = few, schedule = <tile_m = 16, tile_n = 8, plan = <chip = "sm_90a", mma = "mma_sync", copy = "direct", warps = 1, producers = 0, stages = 1>>>
]>} {

// Products of sm_90a are those of no other chip.
// CHECK-LABEL: @causal
// CHECK: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 32, {{.*}} warps = 4, producers = 4, stages = 3>>
// OLDER-LABEL: @causal
// OLDER: fa.schedule = #fa.schedule<tile_m = 128, tile_n = 128,
// What has just been chosen, as a row of a table.
// REMARK: [Analysis] row | Category:fa-select-schedule | Function=causal | row="#fa.choice<work = output, min_head_size = 64, max_head_size = 64, element = f16, mask = "(d0, d1, d2, d3)[s0, s1] : (d2 + s1 - s0 - d3 >= 0)", scored = false, lengths = false, plain = true, short_sequences = false, schedule = <tile_m = 64, tile_n = 32, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4, producers = 4, stages = 3>>>"
// REMARK: [Passed] schedule | {{.*}} Function=causal | {{.*}} from=tuned,
func.func @causal(%q: memref<?x64xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>) {
  fa.attention ins(%q, %q, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>) scale(%s : f32)
    mask #fa.mask<#causal> outs(%q, %l : memref<?x64xf16>, memref<?xf32>) {indexing_maps = #maps}
  return
}

// A row of an older chip serves newer ones, in whose name the schedule is.
// CHECK-LABEL: @full
// CHECK: fa.schedule = #fa.schedule<tile_m = 128, tile_n = 16, plan = <chip = "sm_90a", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 4>>
// OLDER-LABEL: @full
// OLDER: fa.schedule = #fa.schedule<tile_m = 128, tile_n = 16, plan = <chip = "sm_86",
func.func @full(%q: memref<?x64xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>) {
  fa.attention ins(%q, %q, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>) scale(%s : f32)
    outs(%q, %l : memref<?x64xf16>, memref<?xf32>) {indexing_maps = #maps}
  return
}

// Another element type; a score region; another head size; another mask: the table of
// the compiler.
// CHECK-LABEL: @element
// CHECK: fa.schedule = #fa.schedule<tile_m = 256, tile_n = 96,
// REMARK: [Passed] schedule | {{.*}} Function=element | {{.*}} from=table,
func.func @element(%q: memref<?x64xbf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>) {
  fa.attention ins(%q, %q, %q : memref<?x64xbf16>, memref<?x64xbf16>, memref<?x64xbf16>) scale(%s : f32)
    mask #fa.mask<#causal> outs(%q, %l : memref<?x64xbf16>, memref<?xf32>) {indexing_maps = #maps}
  return
}

// CHECK-LABEL: @scored
// CHECK: fa.schedule = #fa.schedule<tile_m = 256, tile_n = 96,
func.func @scored(%q: memref<?x64xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>) {
  fa.attention ins(%q, %q, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>) scale(%s : f32)
    mask #fa.mask<#causal> outs(%q, %l : memref<?x64xf16>, memref<?xf32>) {indexing_maps = #maps} score {
    ^bb0(%x: f32, %b: index, %h: index, %m: index, %n: index):
      %y = arith.addf %x, %x : f32
      fa.yield %y : f32
    }
  return
}

// CHECK-LABEL: @size
// CHECK: fa.schedule = #fa.schedule<tile_m = 256, tile_n = 96,
func.func @size(%q: memref<?x48xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>) {
  fa.attention ins(%q, %q, %q : memref<?x48xf16>, memref<?x48xf16>, memref<?x48xf16>) scale(%s : f32)
    mask #fa.mask<#causal> outs(%q, %l : memref<?x48xf16>, memref<?xf32>) {indexing_maps = #maps}
  return
}

// CHECK-LABEL: @mask
// CHECK: fa.schedule = #fa.schedule<tile_m = 256, tile_n = 64,
func.func @mask(%q: memref<?x64xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>) {
  fa.attention ins(%q, %q, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>) scale(%s : f32)
    mask #fa.mask<#other>
    outs(%q, %l : memref<?x64xf16>, memref<?xf32>) {indexing_maps = #maps}
  return
}

// Another loop nest.
// CHECK-LABEL: @few
// CHECK: fa.schedule = #fa.schedule<tile_m = 16, tile_n = 8, plan = <chip = "sm_90a", mma = "mma_sync", copy = "direct",
// OLDER-LABEL: @few
// OLDER: fa.schedule = #fa.schedule<tile_m = 16, tile_n = 64,
func.func @few(%q: memref<4x64xf16>, %k: memref<?x64xf16>, %s: f32, %l: memref<4xf32>) {
  fa.attention ins(%q, %k, %k : memref<4x64xf16>, memref<?x64xf16>, memref<?x64xf16>) scale(%s : f32)
    outs(%q, %l : memref<4x64xf16>, memref<4xf32>) {indexing_maps = #maps}
  return
}
}
