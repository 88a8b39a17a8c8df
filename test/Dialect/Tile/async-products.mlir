// RUN: fa-opt %s -split-input-file -tile-async-products | FileCheck %s

#plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4, producers = 4, stages = 2, overlap = true>
#nt = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]
#nn = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]
!b = !tile.buffer<64x64xf16, swizzle = 128>
!p = !tile.pipe<2, <64x64xf16, swizzle = 128>>

// The first product is waited for while the second runs; a slot is given back
// when the product that reads it is done.
// CHECK-LABEL: func.func @two(
// CHECK-SAME: %[[A:[a-z0-9]*]]: !tile.buffer{{.*}}, %[[H:[a-z0-9]*]]: tensor<64x64xf16>
// CHECK: %[[B:.*]] = tile.consume %[[PB:.*]][%[[I:.*]]]
// CHECK: %[[S0:.*]] = tile.contract async %[[A]], %[[B]]
// CHECK-NOT: tile.release
// CHECK: %[[C:.*]] = tile.consume %[[PC:.*]][%[[I]]]
// CHECK: %[[O0:.*]] = tile.contract async %[[H]], %[[C]]
// CHECK-NEXT: %[[S:.*]] = tile.await %[[S0]] {younger = 1 : i64} : tensor<64x64xf32>
// CHECK-NEXT: tile.release %[[PB]][%[[I]]]
// CHECK-NEXT: %[[E:.*]] = math.exp2 %[[S]]
// CHECK-NEXT: %[[O:.*]] = tile.await %[[O0]] {younger = 0 : i64}
// CHECK-NEXT: tile.release %[[PC]][%[[I]]]
// CHECK-NEXT: arith.addf %[[E]], %[[O]]
func.func @two(%a: !b, %h: tensor<64x64xf16>, %acc: tensor<64x64xf32>, %i: index) -> tensor<64x64xf32>
    attributes {tile.plan = #plan} {
  %zero = arith.constant dense<0.0> : tensor<64x64xf32>
  %pb = tile.pipe : <2, <64x64xf16, swizzle = 128>>
  %pc = tile.pipe : <2, <64x64xf16, swizzle = 128>>
  %bt = tile.consume %pb[%i] : <2, <64x64xf16, swizzle = 128>> -> <64x64xf16, swizzle = 128>
  %s = tile.contract %a, %bt, %zero {maps = #nt} : !b, !b, tensor<64x64xf32>
  tile.release %pb[%i] : <2, <64x64xf16, swizzle = 128>>
  %ct = tile.consume %pc[%i] : <2, <64x64xf16, swizzle = 128>> -> <64x64xf16, swizzle = 128>
  %o = tile.contract %h, %ct, %acc {maps = #nn} : tensor<64x64xf16>, !b, tensor<64x64xf32>
  tile.release %pc[%i] : <2, <64x64xf16, swizzle = 128>>
  %e = math.exp2 %s : tensor<64x64xf32>
  %sum = arith.addf %e, %o : tensor<64x64xf32>
  return %sum : tensor<64x64xf32>
}

// -----

// One wait for what is needed at the same time; the end of a block is a use.
#plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4, producers = 4, stages = 2, overlap = true>
#nt = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]
!b = !tile.buffer<64x64xf16, swizzle = 128>
// CHECK-LABEL: func.func @together(
// CHECK: %[[S0:.*]] = tile.contract async
// CHECK: %[[O0:.*]] = tile.contract async
// CHECK: %[[R:.*]]:2 = tile.await %[[S0]], %[[O0]] {younger = 0 : i64} : tensor<64x64xf32>, tensor<64x64xf32>
// CHECK: return %[[R]]#0, %[[R]]#1
func.func @together(%a: !b, %c: !b) -> (tensor<64x64xf32>, tensor<64x64xf32>) attributes {tile.plan = #plan} {
  %zero = arith.constant dense<0.0> : tensor<64x64xf32>
  %s = tile.contract %a, %c, %zero {maps = #nt} : !b, !b, tensor<64x64xf32>
  %o = tile.contract %c, %a, %zero {maps = #nt} : !b, !b, tensor<64x64xf32>
  return %s, %o : tensor<64x64xf32>, tensor<64x64xf32>
}

// -----

// The second takes from registers what is computed beside the first.
#plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4, producers = 4, stages = 2, overlap = true>
#nt = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]
!b = !tile.buffer<64x64xf16, swizzle = 128>
// CHECK-LABEL: func.func @later(
// CHECK: %[[S0:.*]] = tile.contract async
// CHECK: %[[L:.*]] = arith.truncf
// CHECK-NEXT: tile.await %[[S0]] {younger = 0 : i64}
// CHECK-NEXT: tile.contract async %[[L]]
func.func @later(%a: !b, %t: tensor<64x64xf32>) -> (tensor<64x64xf32>, tensor<64x64xf32>) attributes {tile.plan = #plan} {
  %zero = arith.constant dense<0.0> : tensor<64x64xf32>
  %s = tile.contract %a, %a, %zero {maps = #nt} : !b, !b, tensor<64x64xf32>
  %l = arith.truncf %t : tensor<64x64xf32> to tensor<64x64xf16>
  %o = tile.contract %l, %a, %zero {maps = #nt} : tensor<64x64xf16>, !b, tensor<64x64xf32>
  return %s, %o : tensor<64x64xf32>, tensor<64x64xf32>
}

// -----

// What each warp makes by itself is made at once.
#plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4, producers = 4, stages = 2, overlap = true>
#nt = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]
!b = !tile.buffer<64x64xf16, swizzle = 128>
// CHECK-LABEL: func.func @each_warp(
// CHECK: %[[R:.*]] = tile.contract each_warp
// CHECK-NEXT: return %[[R]]
func.func @each_warp(%a: !b, %z: tensor<64x64xf32>) -> tensor<64x64xf32> attributes {tile.plan = #plan} {
  %s = tile.contract each_warp %a, %a, %z {maps = #nt} : !b, !b, tensor<64x64xf32>
  return %s : tensor<64x64xf32>
}

// -----

// Not in the plan: waited for at once.
#plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4, producers = 4, stages = 2>
#nt = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]
!b = !tile.buffer<64x64xf16, swizzle = 128>
// CHECK-LABEL: func.func @no_overlap(
// CHECK: %[[R:.*]] = tile.contract %
// CHECK-NEXT: return %[[R]]
func.func @no_overlap(%a: !b, %z: tensor<64x64xf32>) -> tensor<64x64xf32> attributes {tile.plan = #plan} {
  %s = tile.contract %a, %a, %z {maps = #nt} : !b, !b, tensor<64x64xf32>
  return %s : tensor<64x64xf32>
}
