// RUN: fa-opt %s -split-input-file -fa-select-schedule=chip=sm_80 -verify-diagnostics | FileCheck %s --check-prefixes=CHECK,SM80
// RUN: fa-opt %s -split-input-file -fa-select-schedule=chip=sm_86 -verify-diagnostics | FileCheck %s --check-prefixes=CHECK,SM80
// RUN: fa-opt %s -split-input-file -fa-select-schedule=chip=sm_90a -verify-diagnostics | FileCheck %s --check-prefixes=CHECK,SM90A
// RUN: not fa-opt %s -split-input-file -fa-select-schedule=chip=gfx90a 2>&1 | FileCheck %s --check-prefix=CHIP
// RUN: not fa-opt %s -split-input-file -fa-select-schedule="chip=cpu override=bogus" 2>&1 | FileCheck %s --check-prefix=OVERRIDE

// CHIP: error: chip is 'gfx90a'; allowed are cpu, sm_75, sm_80, sm_86, sm_89, sm_90a
// OVERRIDE: error: override is 'bogus'; it must be a #fa.schedule<...>

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]

// CHECK-LABEL: @d64
// SM80: fa.schedule = #fa.schedule<tile_m = 128, tile_n = 128, plan = <chip = "sm_8{{[06]}}", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>, partial_sums = true>
// SM90A: fa.schedule = #fa.schedule<tile_m = 192, tile_n = 128, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 12, producers = 4, stages = 2, overlap = true, persistent = true, bulk_stores = true>, fixed_reference = true, partial_sums = true>
func.func @d64(%q: memref<?x64xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>) {
  fa.attention ins(%q, %q, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>) scale(%s : f32)
    outs(%q, %l : memref<?x64xf16>, memref<?xf32>) {indexing_maps = #maps}
  return
}

// Rows for short sequences serve where those are expected.
// CHECK-LABEL: @d64_short
// SM80: fa.schedule = #fa.schedule<tile_m = 128, tile_n = 128, plan = <chip = "sm_8{{[06]}}", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>, partial_sums = true>
// SM90A: fa.schedule = #fa.schedule<tile_m = 256, tile_n = 64, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 16, producers = 4, stages = 4, overlap = true, persistent = true, bulk_stores = true>, fixed_reference = true, partial_sums = true>
func.func @d64_short(%q: memref<?x64xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>) {
  fa.attention ins(%q, %q, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>) scale(%s : f32)
    outs(%q, %l : memref<?x64xf16>, memref<?xf32>) {indexing_maps = #maps, fa.short_sequences}
  return
}

// The larger head size decides.
// CHECK-LABEL: @d64_e256
// SM80: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 64, {{.*}} stages = 1>, partial_sums = true>
// SM90A: fa.schedule = #fa.schedule<tile_m = 128, tile_n = 64, plan = <chip = "sm_90a", mma = "wgmma",
func.func @d64_e256(%q: memref<?x64xbf16> {tile.align = 16 : i64}, %v: memref<?x256xbf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>) {
  fa.attention ins(%q, %q, %v : memref<?x64xbf16>, memref<?x64xbf16>, memref<?x256xbf16>) scale(%s : f32)
    outs(%v, %l : memref<?x256xbf16>, memref<?xf32>) {indexing_maps = #maps}
  return
}

// 4 bytes of alignment are enough for asynchronous copies, not for tensor maps.
// CHECK-LABEL: @aligned4
// CHECK: fa.schedule = #fa.schedule<tile_m = 128, tile_n = 128, plan = <chip = "sm_{{[0-9a]+}}", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0,
func.func @aligned4(%q: memref<?x64xf16> {tile.align = 16 : i64}, %k: memref<?x64xf16> {tile.align = 4 : i64}, %s: f32, %l: memref<?xf32>) {
  fa.attention ins(%q, %k, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>) scale(%s : f32)
    outs(%q, %l : memref<?x64xf16>, memref<?xf32>) {indexing_maps = #maps}
  return
}

// CHECK-LABEL: @aligned2
// CHECK: fa.schedule = #fa.schedule<{{.*}}copy = "direct"
func.func @aligned2(%q: memref<?x64xf16> {tile.align = 16 : i64}, %k: memref<?x64xf16> {tile.align = 2 : i64}, %s: f32, %l: memref<?xf32>) {
  fa.attention ins(%q, %k, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>) scale(%s : f32)
    outs(%q, %l : memref<?x64xf16>, memref<?xf32>) {indexing_maps = #maps}
  return
}

// Without a promise of alignment, copies go through registers.
// CHECK-LABEL: @unaligned
// CHECK: fa.schedule = #fa.schedule<tile_m = 128, tile_n = 128, plan = <chip = "sm_{{[0-9a]+}}", mma = "mma_sync", copy = "direct", warps = 4, producers = 0,
func.func @unaligned(%q: memref<?x64xf16>, %s: f32, %l: memref<?xf32>) {
  fa.attention ins(%q, %q, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>) scale(%s : f32)
    outs(%q, %l : memref<?x64xf16>, memref<?xf32>) {indexing_maps = #maps}
  return
}

// Lengths end inside of the tensor: the forward clears what tensor maps read behind them.
// CHECK-LABEL: @lengths
// SM80: fa.schedule = #fa.schedule<tile_m = 128, tile_n = 128, plan = <chip = "sm_8{{[06]}}", mma = "mma_sync", copy = "cp_async", warps = 4,
// Tiles of sequences that differ are dealt out by the hardware, a block each.
// SM90A: fa.schedule = #fa.schedule<tile_m = 256, tile_n = 64, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 16, producers = 4, stages = 4, overlap = true>,
func.func @lengths(%q: memref<?x64xf16> {tile.align = 16 : i64}, %s: f32, %n: memref<?xi32>, %l: memref<?xf32>) {
  fa.attention ins(%q, %q, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>) scale(%s : f32)
    lengths(%n, %n : memref<?xi32>, memref<?xi32>)
    outs(%q, %l : memref<?x64xf16>, memref<?xf32>) {indexing_maps = #maps}
  return
}

// At D 128 that is faster without a mask only.
// CHECK-LABEL: @lengths_128
// SM90A: fa.schedule = #fa.schedule<tile_m = 128, tile_n = 128, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2, overlap = true>,
func.func @lengths_128(%q: memref<?x128xf16> {tile.align = 16 : i64}, %s: f32, %n: memref<?xi32>, %l: memref<?xf32>) {
  fa.attention ins(%q, %q, %q : memref<?x128xf16>, memref<?x128xf16>, memref<?x128xf16>) scale(%s : f32)
    lengths(%n, %n : memref<?xi32>, memref<?xi32>)
    outs(%q, %l : memref<?x128xf16>, memref<?xf32>) {indexing_maps = #maps}
  return
}
// CHECK-LABEL: @lengths_causal_128
// SM90A: warps = 8, producers = 4, stages = 2, overlap = true, persistent = true, bulk_stores = true>,
func.func @lengths_causal_128(%q: memref<?x128xf16> {tile.align = 16 : i64}, %s: f32, %n: memref<?xi32>, %l: memref<?xf32>) {
  fa.attention ins(%q, %q, %q : memref<?x128xf16>, memref<?x128xf16>, memref<?x128xf16>) scale(%s : f32)
    lengths(%n, %n : memref<?xi32>, memref<?xi32>) mask <affine_set<(b,h,m,n)[lq,lk] : (m + lk - lq - n >= 0)>>
    outs(%q, %l : memref<?x128xf16>, memref<?xf32>) {indexing_maps = #maps}
  return
}

// Rows for plain programs serve neither such as have lengths nor masks that leave out the
// first keys of rows nor score regions that read tensors.
// CHECK-LABEL: @plain_right
// SM90A: fa.schedule = #fa.schedule<tile_m = 256, tile_n = 96,
func.func @plain_right(%q: memref<?x64xf16> {tile.align = 16 : i64}, %s: f32, %w: index, %l: memref<?xf32>) {
  fa.attention ins(%q, %q, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>) scale(%s : f32)
    mask <affine_set<(b,h,m,n)[lq,lk,w] : (m + lk - lq - n + w >= 0)>> symbols(%w)
    outs(%q, %l : memref<?x64xf16>, memref<?xf32>) {indexing_maps = #maps}
  return
}

// CHECK-LABEL: @plain_left
// SM90A: fa.schedule = #fa.schedule<tile_m = 256, tile_n = 64,
func.func @plain_left(%q: memref<?x64xf16> {tile.align = 16 : i64}, %s: f32, %w: index, %l: memref<?xf32>) {
  fa.attention ins(%q, %q, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>) scale(%s : f32)
    mask <affine_set<(b,h,m,n)[lq,lk,w] : (n + w - m - lk + lq >= 0)>> symbols(%w)
    outs(%q, %l : memref<?x64xf16>, memref<?xf32>) {indexing_maps = #maps}
  return
}

// Keys of one parity: neither end is known.
// CHECK-LABEL: @plain_mod
// SM90A: fa.schedule = #fa.schedule<tile_m = 256, tile_n = 64,
func.func @plain_mod(%q: memref<?x64xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>) {
  fa.attention ins(%q, %q, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>) scale(%s : f32)
    mask <affine_set<(b,h,m,n)[lq,lk] : (n mod 2 - 1 >= 0)>>
    outs(%q, %l : memref<?x64xf16>, memref<?xf32>) {indexing_maps = #maps}
  return
}

// CHECK-LABEL: @plain_number
// SM90A: fa.schedule = #fa.schedule<tile_m = 256, tile_n = 96,
func.func @plain_number(%q: memref<?x64xf16> {tile.align = 16 : i64}, %s: f32, %l: memref<?xf32>) {
  fa.attention ins(%q, %q, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>) scale(%s : f32)
    captures(%s : f32) outs(%q, %l : memref<?x64xf16>, memref<?xf32>) {indexing_maps = #maps, capture_maps = [unit]} score {
    ^bb0(%x: f32, %b: index, %h: index, %m: index, %n: index, %c: f32):
      %y = arith.addf %x, %c : f32
      fa.yield %y : f32
    }
  return
}

// CHECK-LABEL: @plain_tensor
// SM90A: fa.schedule = #fa.schedule<tile_m = 256, tile_n = 64,
func.func @plain_tensor(%q: memref<?x64xf16> {tile.align = 16 : i64}, %s: f32, %t: memref<?xf32>, %l: memref<?xf32>) {
  fa.attention ins(%q, %q, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>) scale(%s : f32)
    captures(%t : memref<?xf32>) outs(%q, %l : memref<?x64xf16>, memref<?xf32>) {indexing_maps = #maps,
      capture_maps = [affine_map<(b,h,m,n) -> (n)>]} score {
    ^bb0(%x: f32, %b: index, %h: index, %m: index, %n: index, %c: f32):
      %y = arith.addf %x, %c : f32
      fa.yield %y : f32
    }
  return
}

// An attribute that is there stays.
// CHECK-LABEL: @given
// CHECK: fa.schedule = #fa.schedule<tile_m = 32, tile_n = 16, plan = <chip = "sm_80"
func.func @given(%q: memref<?x64xf16>, %s: f32, %l: memref<?xf32>) {
  fa.attention ins(%q, %q, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>) scale(%s : f32)
    outs(%q, %l : memref<?x64xf16>, memref<?xf32>) {indexing_maps = #maps, fa.schedule =
    #fa.schedule<tile_m = 32, tile_n = 16, plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "direct", warps = 2, producers = 0, stages = 1>>}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]

func.func @f32(%q: memref<?x64xf32>, %s: f32, %l: memref<?xf32>) {
  // expected-error-re @+1 {{has element type 'f32', which chip sm_{{[0-9a]+}} has no schedule for; use f16 or bf16, or chip cpu}}
  fa.attention ins(%q, %q, %q : memref<?x64xf32>, memref<?x64xf32>, memref<?x64xf32>) scale(%s : f32)
    outs(%q, %l : memref<?x64xf32>, memref<?xf32>) {indexing_maps = #maps}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]

func.func @d512(%q: memref<?x512xf16>, %s: f32, %l: memref<?xf32>) {
  // expected-error-re @+1 {{has head size 512 on chip sm_{{[0-9a]+}}, which has no schedule}}
  fa.attention ins(%q, %q, %q : memref<?x512xf16>, memref<?x512xf16>, memref<?x512xf16>) scale(%s : f32)
    outs(%q, %l : memref<?x512xf16>, memref<?xf32>) {indexing_maps = #maps}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]

func.func @dynamic(%q: memref<?x?xf16>, %s: f32, %l: memref<?xf32>) {
  // expected-error @+1 {{has a dynamic head size; head sizes must be static}}
  fa.attention ins(%q, %q, %q : memref<?x?xf16>, memref<?x?xf16>, memref<?x?xf16>) scale(%s : f32)
    outs(%q, %l : memref<?x?xf16>, memref<?xf32>) {indexing_maps = #maps}
  return
}
