// RUN: fa-opt %s -split-input-file -fa-select-schedule=chip=sm_80 -verify-diagnostics | FileCheck %s --check-prefixes=CHECK,SM80
// RUN: fa-opt %s -split-input-file -fa-select-schedule=chip=sm_90a -verify-diagnostics | FileCheck %s --check-prefixes=CHECK,SM90A

// fa.attention_backward: tiles by what is computed, delta, gradients of rows or of keys.

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]

// Row sums have no factors to stage.
// CHECK-LABEL: @delta
// CHECK: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 64, plan = <chip = "sm_{{[0-9a]+}}", mma = "mma_sync", copy = "direct", warps = 4, producers = 0, stages = 1>>
func.func @delta(%q: memref<?x64xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>) {
  fa.attention_backward ins(%q, %q, %q, %l, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>, memref<?xf32>, memref<?x64xf16>) o(%q : memref<?x64xf16>) scale(%s : f32)
    delta(%l : memref<?xf32>) {indexing_maps = #maps}
  return
}

// CHECK-LABEL: @rows
// SM80: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 64, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1, hold_left = true>>
// SM90A: fa.schedule = #fa.schedule<tile_m = 128, tile_n = 64, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2, overlap = true>>
func.func @rows(%q: memref<?x128xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>) {
  fa.attention_backward ins(%q, %q, %q, %l, %q : memref<?x128xf16>, memref<?x128xf16>, memref<?x128xf16>, memref<?xf32>, memref<?x128xf16>) scale(%s : f32)
    delta(%l : memref<?xf32>) d_q(%q : memref<?x128xf16>) {delta_known, indexing_maps = #maps}
  return
}

// CHECK-LABEL: @long_rows
// SM80: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 32, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>>
// SM90A: fa.schedule = #fa.schedule<tile_m = 128, tile_n = 32, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2>>
func.func @long_rows(%q: memref<?x256xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>) {
  fa.attention_backward ins(%q, %q, %q, %l, %q : memref<?x256xf16>, memref<?x256xf16>, memref<?x256xf16>, memref<?xf32>, memref<?x256xf16>) scale(%s : f32)
    delta(%l : memref<?xf32>) d_q(%q : memref<?x256xf16>) {delta_known, indexing_maps = #maps}
  return
}

// Rows and keys change places.
// CHECK-LABEL: @keys
// SM80: fa.schedule = #fa.schedule<tile_m = 32, tile_n = 128, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>>
// SM90A: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 128, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2, overlap = true>>
func.func @keys(%q: memref<?x64xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>) {
  fa.attention_backward ins(%q, %q, %q, %l, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>, memref<?xf32>, memref<?x64xf16>) scale(%s : f32)
    delta(%l : memref<?xf32>) d_k(%q : memref<?x64xf16>) d_v(%q : memref<?x64xf16>) {delta_known, indexing_maps = #maps}
  return
}

// One gradient of keys is enough.
// CHECK-LABEL: @key
// SM80: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 64, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1, square = true>>
// SM90A: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 128, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2, overlap = true>>
func.func @key(%q: memref<?x128xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>) {
  fa.attention_backward ins(%q, %q, %q, %l, %q : memref<?x128xf16>, memref<?x128xf16>, memref<?x128xf16>, memref<?xf32>, memref<?x128xf16>) scale(%s : f32)
    delta(%l : memref<?xf32>) d_v(%q : memref<?x128xf16>) {delta_known, indexing_maps = #maps}
  return
}

// CHECK-LABEL: @long_keys
// SM80: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 64, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 8, producers = 0, stages = 1, square = true>>
// SM90A: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 128, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 1>>
func.func @long_keys(%q: memref<?x256xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>) {
  fa.attention_backward ins(%q, %q, %q, %l, %q : memref<?x256xf16>, memref<?x256xf16>, memref<?x256xf16>, memref<?xf32>, memref<?x256xf16>) scale(%s : f32)
    delta(%l : memref<?xf32>) d_k(%q : memref<?x256xf16>) {delta_known, indexing_maps = #maps}
  return
}

// With a sum of d_q, the gradients of keys take other tiles; what sets or reads the sum
// copies only.
// CHECK-LABEL: @sum
// CHECK: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 64, plan = <chip = "sm_{{[0-9a]+}}", mma = "mma_sync", copy = "direct", warps = 4, producers = 0, stages = 1>>
// SM80: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 128, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 8, producers = 0, stages = 1, square = true>>
// SM90A: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 128, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2, overlap = true>>
// CHECK: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 64, plan = <chip = "sm_{{[0-9a]+}}", mma = "mma_sync", copy = "direct", warps = 4, producers = 0, stages = 1>>
func.func @sum(%q: memref<?x128xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>, %sum: memref<?x128xf32> {tile.align = 16 : i64}) {
  fa.attention_backward ins(%q, %q, %q, %l, %q : memref<?x128xf16>, memref<?x128xf16>, memref<?x128xf16>, memref<?xf32>, memref<?x128xf16>) o(%q : memref<?x128xf16>) scale(%s : f32)
    delta(%l : memref<?xf32>) d_q_sum(%sum : memref<?x128xf32>) {indexing_maps = #maps}
  fa.attention_backward ins(%q, %q, %q, %l, %q : memref<?x128xf16>, memref<?x128xf16>, memref<?x128xf16>, memref<?xf32>, memref<?x128xf16>) scale(%s : f32)
    delta(%l : memref<?xf32>) d_q_sum(%sum : memref<?x128xf32>) d_k(%q : memref<?x128xf16>) {delta_known, indexing_maps = #maps}
  fa.attention_backward ins(%q, %q, %q, %l, %q : memref<?x128xf16>, memref<?x128xf16>, memref<?x128xf16>, memref<?xf32>, memref<?x128xf16>) scale(%s : f32)
    delta(%l : memref<?xf32>) d_q_sum(%sum : memref<?x128xf32>) d_q(%q : memref<?x128xf16>) {delta_known, indexing_maps = #maps}
  return
}

// Without a promise of 16-byte alignment, no tensor maps.
// CHECK-LABEL: @unaligned
// CHECK: fa.schedule = #fa.schedule<tile_m = 32, tile_n = 128, plan = <chip = "sm_{{[0-9a]+}}", mma = "mma_sync", copy = "direct", warps = 4, producers = 0, stages = 1>>
func.func @unaligned(%q: memref<?x64xf16>, %s: f32, %l: memref<?xf32>) {
  fa.attention_backward ins(%q, %q, %q, %l, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>, memref<?xf32>, memref<?x64xf16>) scale(%s : f32)
    delta(%l : memref<?xf32>) d_k(%q : memref<?x64xf16>) d_v(%q : memref<?x64xf16>) {delta_known, indexing_maps = #maps}
  return
}

// Lengths end inside of the tensor: what tensor maps read behind them is cleared.
// CHECK-LABEL: @lengths
// SM80: fa.schedule = #fa.schedule<tile_m = 32, tile_n = 128, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>>
// SM90A: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 128, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2, overlap = true>>
func.func @lengths(%q: memref<?x64xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>, %n: memref<?xi32>) {
  fa.attention_backward ins(%q, %q, %q, %l, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>, memref<?xf32>, memref<?x64xf16>) scale(%s : f32)
    lengths(%n, %n : memref<?xi32>, memref<?xi32>)
    delta(%l : memref<?xf32>) d_k(%q : memref<?x64xf16>) d_v(%q : memref<?x64xf16>) {delta_known, indexing_maps = #maps}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]

func.func @f32(%q: memref<?x64xf32>, %s: f32, %l: memref<?xf32>) {
  // expected-error-re @+1 {{has element type 'f32', which chip sm_{{[0-9a]+}} has no schedule for; use f16 or bf16, or chip cpu}}
  fa.attention_backward ins(%q, %q, %q, %l, %q : memref<?x64xf32>, memref<?x64xf32>, memref<?x64xf32>, memref<?xf32>, memref<?x64xf32>) scale(%s : f32)
    delta(%l : memref<?xf32>) d_k(%q : memref<?x64xf32>) {delta_known, indexing_maps = #maps}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]

func.func @d512(%q: memref<?x512xf16>, %s: f32, %l: memref<?xf32>) {
  // expected-error-re @+1 {{has head size 512 on chip sm_{{[0-9a]+}}, which has no schedule}}
  fa.attention_backward ins(%q, %q, %q, %l, %q : memref<?x512xf16>, memref<?x512xf16>, memref<?x512xf16>, memref<?xf32>, memref<?x512xf16>) scale(%s : f32)
    delta(%l : memref<?xf32>) d_q(%q : memref<?x512xf16>) {delta_known, indexing_maps = #maps}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]

func.func @dynamic(%q: memref<?x?xf16>, %s: f32, %l: memref<?xf32>) {
  // expected-error-re @+1 {{has a dynamic head size; head sizes must be static}}
  fa.attention_backward ins(%q, %q, %q, %l, %q : memref<?x?xf16>, memref<?x?xf16>, memref<?x?xf16>, memref<?xf32>, memref<?x?xf16>) scale(%s : f32)
    delta(%l : memref<?xf32>) d_v(%q : memref<?x?xf16>) {delta_known, indexing_maps = #maps}
  return
}
