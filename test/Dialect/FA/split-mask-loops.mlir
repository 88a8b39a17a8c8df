// RUN: fa-opt %s -fa-split-mask-loops -canonicalize -cse | FileCheck %s

// CHECK-DAG: #[[BOTH:.*]] = affine_map<()[s0, s1] -> (s1, s0)>

// One bound: two loops, meeting at max(lo, min(mid, hi)); the comparison and
// what it guards are gone from the first.
// CHECK-LABEL: func.func @one_bound(
// CHECK-SAME: %[[LO:.*]]: index, %[[HI:.*]]: index, %[[MID:.*]]: index, %[[X:.*]]: f32)
// CHECK: %[[A:.*]] = affine.min #[[BOTH]]()[%[[MID]], %[[HI]]]
// CHECK: %[[S:.*]] = affine.max #[[BOTH]]()[%[[LO]], %[[A]]]
// CHECK: %[[R:.*]] = scf.for %{{.*}} = %[[LO]] to %[[S]] {{.*}} iter_args(%[[ACC:.*]] = %[[X]])
// CHECK-NEXT: %[[SUM:.*]] = arith.addf %[[ACC]], %[[ACC]]
// CHECK-NEXT: scf.yield %[[SUM]]
// CHECK: scf.for %{{.*}} = %[[S]] to %[[HI]] {{.*}} iter_args(%[[ACC:.*]] = %[[R]])
// CHECK-NEXT: %[[PRODUCT:.*]] = arith.mulf %[[ACC]], %[[ACC]]
// CHECK-NEXT: scf.yield %[[PRODUCT]]
func.func @one_bound(%lo: index, %hi: index, %mid: index, %x: f32) -> f32 {
  %c1 = arith.constant 1 : index
  %r = scf.for %j = %lo to %hi step %c1 iter_args(%acc = %x) -> f32 {
    %full = arith.cmpi slt, %j, %mid : index
    %sum = arith.addf %acc, %acc : f32
    %product = arith.mulf %acc, %acc : f32
    %y = arith.select %full, %sum, %product : f32
    scf.yield %y : f32
  }
  return %r : f32
}

// Two bounds: outside, inside, outside; a loop begins where the last ended.
// CHECK-LABEL: func.func @two_bounds
// CHECK: %[[R0:.*]] = scf.for %{{.*}} = %{{.*}} to %[[S0:[a-z0-9]*]] step
// CHECK-NEXT: arith.mulf
// CHECK-NEXT: scf.yield
// CHECK: %[[R1:.*]] = scf.for %{{.*}} = %[[S0]] to %[[S1:[a-z0-9]*]] step {{.*}} = %[[R0]])
// CHECK-NEXT: arith.addf
// CHECK-NEXT: scf.yield
// CHECK: scf.for %{{.*}} = %[[S1]] to %{{.*}} step {{.*}} = %[[R1]])
// CHECK-NEXT: arith.mulf
// CHECK-NEXT: scf.yield
// CHECK-NOT: scf.for
// CHECK: return
func.func @two_bounds(%lo: index, %hi: index, %a: index, %b: index, %x: f32) -> f32 {
  %c1 = arith.constant 1 : index
  %r = scf.for %j = %lo to %hi step %c1 iter_args(%acc = %x) -> f32 {
    %from = arith.cmpi sge, %j, %a : index
    %to = arith.cmpi slt, %j, %b : index
    %full = arith.andi %from, %to : i1
    %sum = arith.addf %acc, %acc : f32
    %product = arith.mulf %acc, %acc : f32
    %y = arith.select %full, %sum, %product : f32
    scf.yield %y : f32
  }
  return %r : f32
}

// Not split: the bound changes in the loop; another step; another comparison.
// CHECK-LABEL: func.func @left_alone
// CHECK-COUNT-3: scf.for
// CHECK-NOT: scf.for
// CHECK: return
func.func @left_alone(%lo: index, %hi: index, %a: index, %x: f32) -> f32 {
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %r0 = scf.for %j = %lo to %hi step %c1 iter_args(%acc = %x) -> f32 {
    %bound = arith.muli %j, %a : index
    %full = arith.cmpi slt, %j, %bound : index
    %sum = arith.addf %acc, %acc : f32
    %y = arith.select %full, %sum, %acc : f32
    scf.yield %y : f32
  }
  %r1 = scf.for %j = %lo to %hi step %c2 iter_args(%acc = %r0) -> f32 {
    %full = arith.cmpi slt, %j, %a : index
    %sum = arith.addf %acc, %acc : f32
    %y = arith.select %full, %sum, %acc : f32
    scf.yield %y : f32
  }
  %r2 = scf.for %j = %lo to %hi step %c1 iter_args(%acc = %r1) -> f32 {
    %full = arith.cmpi eq, %j, %a : index
    %sum = arith.addf %acc, %acc : f32
    %y = arith.select %full, %sum, %acc : f32
    scf.yield %y : f32
  }
  return %r2 : f32
}
