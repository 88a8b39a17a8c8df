// RUN: %{chain:overlap} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-async-copy,canonicalize,cse,tile-roles,tile-delay-products,canonicalize,cse))' | FileCheck %s
// RUN: %{chain:wgmma} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-async-copy,canonicalize,cse,tile-roles,tile-delay-products,canonicalize,cse))' | FileCheck %s --check-prefix=NONE
// RUN: fa-opt %s -split-input-file -allow-unregistered-dialect -tile-delay-products -canonicalize | FileCheck %s --check-prefix=FORM

// The second product of an iteration goes with the first of the next.
// CHECK-LABEL: func.func @chain
// CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG: %[[C1:.*]] = arith.constant 1 : index
// CHECK-DAG: %[[PA:.*]] = tile.pipe : <1, <128x64xf16
// CHECK: tile.roles
// CHECK: }, {
// CHECK: %[[A:.*]] = tile.consume %[[PA]]
// CHECK: %[[RUNS:.*]] = arith.cmpi sgt, %[[STEPS:.*]], %[[C0]]
// CHECK: %[[R:.*]] = scf.if %[[RUNS]]
// CHECK: %[[B0:.*]] = tile.consume %[[PB:.*]][%[[C0]]]
// CHECK: %[[S0:.*]] = tile.contract %[[A]], %[[B0]]
// CHECK: tile.release %[[PB]][%[[C0]]]
// CHECK: %[[H0:.*]] = arith.truncf %[[S0]]
// CHECK: %[[L:.*]]:2 = scf.for %[[I:.*]] = %[[C1]] to %[[STEPS]] step %[[C1]] iter_args(%[[H:.*]] = %[[H0]], %[[ACC:.*]] = %{{.*}})
// CHECK: %[[B:.*]] = tile.consume %[[PB]][%[[I]]]
// CHECK: %[[S:.*]] = tile.contract %[[A]], %[[B]]
// CHECK: %[[BEFORE:.*]] = arith.subi %[[I]], %[[C1]]
// CHECK: %[[C:.*]] = tile.consume %[[PC:.*]][%[[BEFORE]]]
// CHECK: %[[SUM:.*]] = tile.contract %[[H]], %[[C]], %[[ACC]]
// CHECK: tile.release %[[PC]][%[[BEFORE]]]
// CHECK: tile.release %[[PB]][%[[I]]]
// CHECK: %[[NEXT:.*]] = arith.truncf %[[S]]
// CHECK: scf.yield %[[NEXT]], %[[SUM]]
// CHECK: %[[LAST:.*]] = arith.subi %[[STEPS]], %[[C1]]
// CHECK: %[[CL:.*]] = tile.consume %[[PC]][%[[LAST]]]
// CHECK: %[[OUT:.*]] = tile.contract %[[L]]#0, %[[CL]], %[[L]]#1
// CHECK: tile.release %[[PC]][%[[LAST]]]
// CHECK: scf.yield %[[OUT]]
// CHECK: } else {

// NONE-NOT: scf.if

#plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4, producers = 4, stages = 2, overlap = true>
#nt = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]
#nn = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]
!b = !tile.buffer<64x64xf16, swizzle = 128>

// What is asked about the first iteration is known. The carried sum is scaled
// in time: after the late product, in a branch that has no other effect.
// FORM-LABEL: func.func @first
// FORM: scf.if
// FORM: tile.contract
// FORM: "test.first"() {at = true}
// FORM: scf.for
// FORM: tile.contract
// FORM: %[[LATE:.*]] = tile.contract
// FORM-NOT: "test.first"
// FORM: %[[SCALED:.*]] = scf.if
// FORM: arith.addf %[[LATE]], %[[LATE]]
// FORM: scf.yield %{{.*}}, %[[SCALED]]
func.func @first(%a: !b, %n: index, %scale: i1, %init: tensor<64x64xf32>) -> tensor<64x64xf32>
    attributes {tile.plan = #plan} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant dense<0.0> : tensor<64x64xf32>
  %pb = tile.pipe : <2, <64x64xf16, swizzle = 128>>
  %pc = tile.pipe : <2, <64x64xf16, swizzle = 128>>
  %r = scf.for %i = %c0 to %n step %c1 iter_args(%acc = %init) -> (tensor<64x64xf32>) {
    %bt = tile.consume %pb[%i] : <2, <64x64xf16, swizzle = 128>> -> <64x64xf16, swizzle = 128>
    %s = tile.contract %a, %bt, %zero {maps = #nt} : !b, !b, tensor<64x64xf32>
    tile.release %pb[%i] : <2, <64x64xf16, swizzle = 128>>
    %is = arith.cmpi eq, %i, %c0 : index
    scf.if %is {
      "test.first"() {at = true} : () -> ()
    }
    %h = arith.truncf %s : tensor<64x64xf32> to tensor<64x64xf16>
    %scaled = scf.if %scale -> (tensor<64x64xf32>) {
      %twice = arith.addf %acc, %acc : tensor<64x64xf32>
      scf.yield %twice : tensor<64x64xf32>
    } else {
      scf.yield %acc : tensor<64x64xf32>
    }
    %ct = tile.consume %pc[%i] : <2, <64x64xf16, swizzle = 128>> -> <64x64xf16, swizzle = 128>
    %next = tile.contract %h, %ct, %scaled {maps = #nn} : tensor<64x64xf16>, !b, tensor<64x64xf32>
    tile.release %pc[%i] : <2, <64x64xf16, swizzle = 128>>
    scf.yield %next : tensor<64x64xf32>
  }
  return %r : tensor<64x64xf32>
}

// -----

// Someone looks at the sum before the first product: nothing is delayed.
// FORM-LABEL: func.func @looked_at
// FORM-NOT: scf.if
// FORM: scf.for
// FORM: "test.look"
#plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4, producers = 4, stages = 2, overlap = true>
#nt = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]
#nn = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]
!b = !tile.buffer<64x64xf16, swizzle = 128>
func.func @looked_at(%a: !b, %n: index, %init: tensor<64x64xf32>) -> tensor<64x64xf32>
    attributes {tile.plan = #plan} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant dense<0.0> : tensor<64x64xf32>
  %pb = tile.pipe : <2, <64x64xf16, swizzle = 128>>
  %pc = tile.pipe : <2, <64x64xf16, swizzle = 128>>
  %r = scf.for %i = %c0 to %n step %c1 iter_args(%acc = %init) -> (tensor<64x64xf32>) {
    "test.look"(%acc) : (tensor<64x64xf32>) -> ()
    %bt = tile.consume %pb[%i] : <2, <64x64xf16, swizzle = 128>> -> <64x64xf16, swizzle = 128>
    %s = tile.contract %a, %bt, %zero {maps = #nt} : !b, !b, tensor<64x64xf32>
    tile.release %pb[%i] : <2, <64x64xf16, swizzle = 128>>
    %h = arith.truncf %s : tensor<64x64xf32> to tensor<64x64xf16>
    %ct = tile.consume %pc[%i] : <2, <64x64xf16, swizzle = 128>> -> <64x64xf16, swizzle = 128>
    %next = tile.contract %h, %ct, %acc {maps = #nn} : tensor<64x64xf16>, !b, tensor<64x64xf32>
    tile.release %pc[%i] : <2, <64x64xf16, swizzle = 128>>
    scf.yield %next : tensor<64x64xf32>
  }
  return %r : tensor<64x64xf32>
}

// -----

// Of two pieces of one range, the one that does less runs most, whatever the code
// in its branches.
// FORM-LABEL: func.func @pieces
// FORM-SAME: %[[N:[a-z0-9]+]]: index, %[[MIDDLE:[a-z0-9]+]]: index
// FORM: scf.if
// FORM: scf.for %{{.*}} = %c1 to %[[MIDDLE]]
// FORM: tile.contract
// FORM: tile.contract
// FORM: "test.rare"
// FORM: scf.for %[[J:.*]] = %[[MIDDLE]] to %[[N]]
// FORM: tile.consume %{{.*}}[%[[J]]]
// FORM: arith.addf
// FORM: tile.consume %{{.*}}[%[[J]]]
#plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4, producers = 4, stages = 2, overlap = true>
#nt = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]
#nn = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]
!b = !tile.buffer<64x64xf16, swizzle = 128>
func.func @pieces(%a: !b, %n: index, %middle: index, %rare: i1, %init: tensor<64x64xf32>) -> tensor<64x64xf32>
    attributes {tile.plan = #plan} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant dense<0.0> : tensor<64x64xf32>
  %pb = tile.pipe : <2, <64x64xf16, swizzle = 128>>
  %pc = tile.pipe : <2, <64x64xf16, swizzle = 128>>
  %r = scf.for %i = %c0 to %middle step %c1 iter_args(%acc = %init) -> (tensor<64x64xf32>) {
    %bt = tile.consume %pb[%i] : <2, <64x64xf16, swizzle = 128>> -> <64x64xf16, swizzle = 128>
    %s = tile.contract %a, %bt, %zero {maps = #nt} : !b, !b, tensor<64x64xf32>
    tile.release %pb[%i] : <2, <64x64xf16, swizzle = 128>>
    scf.if %rare {
      "test.rare"() : () -> ()
      "test.rare"() : () -> ()
      "test.rare"() : () -> ()
      "test.rare"() : () -> ()
    }
    %h = arith.truncf %s : tensor<64x64xf32> to tensor<64x64xf16>
    %ct = tile.consume %pc[%i] : <2, <64x64xf16, swizzle = 128>> -> <64x64xf16, swizzle = 128>
    %next = tile.contract %h, %ct, %acc {maps = #nn} : tensor<64x64xf16>, !b, tensor<64x64xf32>
    tile.release %pc[%i] : <2, <64x64xf16, swizzle = 128>>
    scf.yield %next : tensor<64x64xf32>
  }
  %t = scf.for %j = %middle to %n step %c1 iter_args(%acc = %r) -> (tensor<64x64xf32>) {
    %bt = tile.consume %pb[%j] : <2, <64x64xf16, swizzle = 128>> -> <64x64xf16, swizzle = 128>
    %s = tile.contract %a, %bt, %zero {maps = #nt} : !b, !b, tensor<64x64xf32>
    tile.release %pb[%j] : <2, <64x64xf16, swizzle = 128>>
    %twice = arith.addf %s, %s : tensor<64x64xf32>
    %four = arith.addf %twice, %twice : tensor<64x64xf32>
    %h = arith.truncf %four : tensor<64x64xf32> to tensor<64x64xf16>
    %ct = tile.consume %pc[%j] : <2, <64x64xf16, swizzle = 128>> -> <64x64xf16, swizzle = 128>
    %next = tile.contract %h, %ct, %acc {maps = #nn} : tensor<64x64xf16>, !b, tensor<64x64xf32>
    tile.release %pc[%j] : <2, <64x64xf16, swizzle = 128>>
    scf.yield %next : tensor<64x64xf32>
  }
  return %t : tensor<64x64xf32>
}
