// RUN: %{chain:wgmma-hold} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-orient-for-products,tile-async-copy,tile-stage,canonicalize,cse,tile-hold-factors))' | FileCheck %s
// RUN: %{chain:wgmma} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-orient-for-products,tile-async-copy,tile-stage,canonicalize,cse,tile-hold-factors))' | FileCheck %s --check-prefix=NONE
// RUN: %{matmul:hold} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-orient-for-products,tile-async-copy,tile-stage,canonicalize,cse,tile-hold-factors))' | FileCheck %s --check-prefix=NONE
// RUN: %{chain:hold} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-async-copy,canonicalize,cse,tile-hold-factors,tile-pipeline,canonicalize,cse,tile-assign-layouts))' | FileCheck %s --check-prefix=PIPELINE
// RUN: fa-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(tile-hold-factors))' | FileCheck %s --check-prefix=EACH

// The left factor of the first product is the same in all iterations; the slot is
// released where it was.
// CHECK-LABEL: func.func @chain(
// CHECK: %[[A:.*]] = tile.consume %[[P:.*]][%c0] : <1, <128x64xf16, swizzle = 128>> -> <128x64xf16, swizzle = 128>
// CHECK-NEXT: %[[T:.*]] = tile.fetch %[[A]] : <128x64xf16, swizzle = 128> -> tensor<128x64xf16>
// CHECK: scf.for
// CHECK:   tile.contract %[[T]], %{{.*}} : tensor<128x64xf16>, !tile.buffer<64x64xf16, swizzle = 128>, tensor<128x64xf32>
// CHECK: }
// CHECK: tile.release %[[P]][%c0]

// Without `hold_left`; and factors that change in the loop.
// NONE-NOT: tile.fetch

// Copies for later iterations start first; each warp holds its 32 rows.
// PIPELINE: tile.produce
// PIPELINE: tile.produce
// PIPELINE: tile.produce
// PIPELINE: %[[A:.*]] = tile.consume %{{.*}}[%c0] {pending = 3 : i64}
// PIPELINE-NEXT: tile.fetch %[[A]] : <128x64xf16, swizzle = 128> -> tensor<128x64xf16, #tile.frag<reg = [2:1:1, 2:0:8, 8:1:8, 2:0:16], lane = [4:1:2, 8:0:1], warp = [4:0:32]>>
// PIPELINE: scf.for

#mk = affine_map<(m, n, k) -> (m, k)>
#km = affine_map<(m, n, k) -> (k, m)>
#nk = affine_map<(m, n, k) -> (n, k)>
#mn = affine_map<(m, n, k) -> (m, n)>
#plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2, hold_left = true>

// Products that each warp makes for itself, that reduce over rows, or that stand
// before a loop go on reading the slot.
// EACH-LABEL: func.func @others(
// EACH: %[[A:.*]] = tile.consume
// EACH-NOT: tile.fetch
// EACH: tile.contract %[[A]], %[[A]]
// EACH: scf.for
// EACH: tile.contract each_warp %[[A]], %[[A]]
// EACH: tile.contract %[[A]], %[[A]]
func.func @others(%p: !tile.pipe<1, !tile.buffer<128x128xf16, swizzle = 128>>, %n: index)
    attributes {tile.plan = #plan} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant dense<0.0> : tensor<128x128xf32>
  %a = tile.consume %p[%c0] : <1, <128x128xf16, swizzle = 128>> -> <128x128xf16, swizzle = 128>
  %before = tile.contract %a, %a, %zero {maps = [#mk, #nk, #mn]} : !tile.buffer<128x128xf16, swizzle = 128>, !tile.buffer<128x128xf16, swizzle = 128>, tensor<128x128xf32>
  %r = scf.for %i = %c0 to %n step %c1 iter_args(%acc = %before) -> (tensor<128x128xf32>) {
    %x = tile.contract each_warp %a, %a, %acc {maps = [#mk, #nk, #mn]} : !tile.buffer<128x128xf16, swizzle = 128>, !tile.buffer<128x128xf16, swizzle = 128>, tensor<128x128xf32>
    %y = tile.contract %a, %a, %x {maps = [#km, #nk, #mn]} : !tile.buffer<128x128xf16, swizzle = 128>, !tile.buffer<128x128xf16, swizzle = 128>, tensor<128x128xf32>
    scf.yield %y : tensor<128x128xf32>
  }
  tile.release %p[%c0] : <1, <128x128xf16, swizzle = 128>>
  return
}

// -----

#mk = affine_map<(m, n, k) -> (m, k)>
#nk = affine_map<(m, n, k) -> (n, k)>
#mn = affine_map<(m, n, k) -> (m, n)>
#plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2, hold_left = true>

// Three products of wgmma in a loop: each may hold its left factor. ptxas is not
// trusted with four, and 64 rows are too few for two teams.
// EACH-LABEL: func.func @three(
// EACH: tile.fetch
// EACH-NOT: tile.fetch
// EACH: scf.for
// EACH-COUNT-3: tile.contract %{{.*}}, %{{.*}} : tensor<128x64xf16>
func.func @three(%p: !tile.pipe<1, !tile.buffer<128x64xf16, swizzle = 128>>, %n: index)
    attributes {tile.plan = #plan} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant dense<0.0> : tensor<128x128xf32>
  %a = tile.consume %p[%c0] : <1, <128x64xf16, swizzle = 128>> -> <128x64xf16, swizzle = 128>
  %r = scf.for %i = %c0 to %n step %c1 iter_args(%acc = %zero) -> (tensor<128x128xf32>) {
    %x = tile.contract %a, %a, %acc {maps = [#mk, #nk, #mn]} : !tile.buffer<128x64xf16, swizzle = 128>, !tile.buffer<128x64xf16, swizzle = 128>, tensor<128x128xf32>
    %y = tile.contract %a, %a, %x {maps = [#mk, #nk, #mn]} : !tile.buffer<128x64xf16, swizzle = 128>, !tile.buffer<128x64xf16, swizzle = 128>, tensor<128x128xf32>
    %z = tile.contract %a, %a, %y {maps = [#mk, #nk, #mn]} : !tile.buffer<128x64xf16, swizzle = 128>, !tile.buffer<128x64xf16, swizzle = 128>, tensor<128x128xf32>
    scf.yield %z : tensor<128x128xf32>
  }
  return
}

// EACH-LABEL: func.func @four(
// EACH-NOT: tile.fetch
// EACH: return
func.func @four(%p: !tile.pipe<1, !tile.buffer<128x64xf16, swizzle = 128>>, %n: index)
    attributes {tile.plan = #plan} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant dense<0.0> : tensor<128x128xf32>
  %a = tile.consume %p[%c0] : <1, <128x64xf16, swizzle = 128>> -> <128x64xf16, swizzle = 128>
  %r = scf.for %i = %c0 to %n step %c1 iter_args(%acc = %zero) -> (tensor<128x128xf32>) {
    %x = tile.contract %a, %a, %acc {maps = [#mk, #nk, #mn]} : !tile.buffer<128x64xf16, swizzle = 128>, !tile.buffer<128x64xf16, swizzle = 128>, tensor<128x128xf32>
    %y = tile.contract %a, %a, %x {maps = [#mk, #nk, #mn]} : !tile.buffer<128x64xf16, swizzle = 128>, !tile.buffer<128x64xf16, swizzle = 128>, tensor<128x128xf32>
    %z = tile.contract %a, %a, %y {maps = [#mk, #nk, #mn]} : !tile.buffer<128x64xf16, swizzle = 128>, !tile.buffer<128x64xf16, swizzle = 128>, tensor<128x128xf32>
    %w = tile.contract %a, %a, %z {maps = [#mk, #nk, #mn]} : !tile.buffer<128x64xf16, swizzle = 128>, !tile.buffer<128x64xf16, swizzle = 128>, tensor<128x128xf32>
    scf.yield %w : tensor<128x128xf32>
  }
  return
}

// EACH-LABEL: func.func @few_rows(
// EACH-NOT: tile.fetch
// EACH: return
func.func @few_rows(%p: !tile.pipe<1, !tile.buffer<64x64xf16, swizzle = 128>>, %n: index)
    attributes {tile.plan = #plan} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant dense<0.0> : tensor<64x64xf32>
  %a = tile.consume %p[%c0] : <1, <64x64xf16, swizzle = 128>> -> <64x64xf16, swizzle = 128>
  %r = scf.for %i = %c0 to %n step %c1 iter_args(%acc = %zero) -> (tensor<64x64xf32>) {
    %x = tile.contract %a, %a, %acc {maps = [#mk, #nk, #mn]} : !tile.buffer<64x64xf16, swizzle = 128>, !tile.buffer<64x64xf16, swizzle = 128>, tensor<64x64xf32>
    scf.yield %x : tensor<64x64xf32>
  }
  return
}
