// RUN: fa-opt %s --tile-invert-divisors | FileCheck %s

// Both results share a reciprocal, which stands before the outermost loop that
// does not change the divisor.
// CHECK-LABEL: func.func @both(
// CHECK-SAME: %[[D:[a-z0-9]*]]: i32
// CHECK: %[[ONE:.*]] = arith.constant 1 : i32
// CHECK: %[[MOST:.*]] = arith.constant -1 : i32
// CHECK: %[[MAX:.*]] = arith.maxui %[[D]], %[[ONE]]
// CHECK: %[[R:.*]] = arith.divui %[[MOST]], %[[MAX]]
// CHECK: scf.for
// CHECK: scf.for %[[I:[a-z0-9]*]] =
// CHECK-NOT: arith.divui
// CHECK-NOT: arith.remui
// CHECK: %{{.*}}, %[[LOW:.*]] = arith.mului_extended %[[I]], %[[R]]
// CHECK: %[[ALL:.*]] = arith.muli %[[LOW]], %[[D]]
// CHECK: %[[REST:.*]] = arith.subi %[[I]], %[[ALL]]
// CHECK: %[[EXACT:.*]] = arith.cmpi ult, %[[REST]], %[[D]]
// CHECK: %[[NEXT:.*]] = arith.addi %[[LOW]], %{{.*}}
// CHECK: %[[Q:.*]] = arith.select %[[EXACT]], %[[LOW]], %[[NEXT]]
// CHECK: arith.mului_extended %[[I]], %[[R]]
// CHECK: %[[LESS:.*]] = arith.subi %{{.*}}, %[[D]]
// CHECK: %[[M:.*]] = arith.select %{{.*}}, %{{.*}}, %[[LESS]]
// CHECK: func.call @use(%[[Q]], %[[M]])
func.func @both(%d: i32, %n: i32) {
  %c0 = arith.constant 0 : i32
  %c1 = arith.constant 1 : i32
  scf.for %j = %c0 to %n step %c1 : i32 {
    scf.for %i = %c0 to %n step %c1 : i32 {
      %q = arith.divui %i, %d : i32
      %m = arith.remui %i, %d : i32
      func.call @use(%q, %m) : (i32, i32) -> ()
    }
  }
  return
}
func.func private @use(i32, i32)

// A divisor that changes, a constant, one outside of loops, other widths.
// CHECK-LABEL: func.func @others(
// CHECK-NOT: arith.mului_extended
// CHECK: arith.divui %{{.*}} : i32
// CHECK: scf.for
// CHECK: arith.divui %{{.*}} : i32
// CHECK: arith.remui %{{.*}} : i32
// CHECK: arith.divui %{{.*}} : i64
// CHECK-NOT: arith.mului_extended
func.func @others(%d: i32, %n: i32, %wide: i64) {
  %c0 = arith.constant 0 : i32
  %c1 = arith.constant 1 : i32
  %c7 = arith.constant 7 : i32
  %outside = arith.divui %n, %d : i32
  scf.for %i = %c1 to %n step %c1 : i32 {
    %q = arith.divui %d, %i : i32
    %m = arith.remui %i, %c7 : i32
    func.call @use(%q, %m) : (i32, i32) -> ()
    %x = arith.extui %i : i32 to i64
    %w = arith.divui %x, %wide : i64
    %t = arith.trunci %w : i64 to i32
    func.call @use(%outside, %t) : (i32, i32) -> ()
  }
  return
}
