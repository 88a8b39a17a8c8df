// RUN: fa-opt %s -fa-select-schedule=chip=sm_80 | FileCheck %s --check-prefixes=CHECK,GPU
// RUN: fa-opt %s -fa-select-schedule=chip=sm_90a | FileCheck %s --check-prefixes=CHECK,GPU
// RUN: fa-opt %s -fa-select-schedule=chip=cpu | FileCheck %s --check-prefixes=CHECK,CPU

// Gradients of captures: blocks of rows and keys, or what one warp sums over them.

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]

// CHECK-LABEL: @blocks
// GPU: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 64, plan = <chip = "sm_{{[0-9a]+}}", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>>
// CPU: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 64, plan = <chip = "cpu", mma = "vector"
func.func @blocks(%q: memref<?x64xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>, %x: memref<?x?xf32>) {
  fa.attention_backward ins(%q, %q, %q, %l, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>, memref<?xf32>, memref<?x64xf16>) scale(%s : f32)
    captures(%x : memref<?x?xf32>) delta(%l : memref<?xf32>) d_captures(%x : memref<?x?xf32>)
    {delta_known, indexing_maps = #maps, capture_maps = [affine_map<(b,h,m,n) -> (n, m)>], capture_grads = array<i64: 0>}
    score {
    ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %c: f32):
      %t = arith.addf %r, %c : f32
      fa.yield %t : f32
    }
  return
}

// CHECK-LABEL: @rows
// GPU: fa.schedule = #fa.schedule<tile_m = 16, tile_n = 32, plan = <chip = "sm_{{[0-9a]+}}", mma = "mma_sync", copy = "direct", warps = 1, producers = 0, stages = 1>>
// CPU: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 64, plan = <chip = "cpu", mma = "vector"
func.func @rows(%q: memref<?x64xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>, %x: memref<?xf32>) {
  fa.attention_backward ins(%q, %q, %q, %l, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>, memref<?xf32>, memref<?x64xf16>) scale(%s : f32)
    captures(%x : memref<?xf32>) delta(%l : memref<?xf32>) d_captures(%x : memref<?xf32>)
    {delta_known, indexing_maps = #maps, capture_maps = [affine_map<(b,h,m,n) -> (m)>], capture_grads = array<i64: 0>}
    score {
    ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %c: f32):
      %t = arith.addf %r, %c : f32
      fa.yield %t : f32
    }
  return
}

// CHECK-LABEL: @table
// GPU: fa.schedule = #fa.schedule<tile_m = 16, tile_n = 16, plan = <chip = "sm_{{[0-9a]+}}", mma = "mma_sync", copy = "direct", warps = 1, producers = 0, stages = 1>>
// CPU: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 64, plan = <chip = "cpu", mma = "vector"
func.func @table(%q: memref<?x128xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>, %x: memref<?xf32>) {
  fa.attention_backward ins(%q, %q, %q, %l, %q : memref<?x128xf16>, memref<?x128xf16>, memref<?x128xf16>, memref<?xf32>, memref<?x128xf16>) scale(%s : f32)
    captures(%x : memref<?xf32>) delta(%l : memref<?xf32>) d_captures(%x : memref<?xf32>)
    {delta_known, indexing_maps = #maps, capture_maps = [unit], capture_grads = array<i64: 0>}
    score {
    ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %c: memref<?xf32>):
      %y = fa.gather %c[%n] : memref<?xf32> -> f32
      %t = arith.addf %r, %y : f32
      fa.yield %t : f32
    }
  return
}
