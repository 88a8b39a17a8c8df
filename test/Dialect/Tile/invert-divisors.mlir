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

// What a loop does not change at all moves out of it. A divisor of indices that are 32
// bits wide counts as many.
// CHECK-LABEL: func.func @indices(
// CHECK-SAME: %[[A:[a-z0-9]*]]: index, %[[B:[a-z0-9]*]]: index
// CHECK: %[[MAX:.*]] = arith.maxui %[[B]], %{{.*}} : index
// CHECK: %[[GROUP:.*]] = arith.divui %[[A]], %[[MAX]] : index
// CHECK: %[[LIMIT:.*]] = arith.constant 4294967295 : index
// CHECK: %[[LESS:.*]] = arith.minui %[[GROUP]], %[[LIMIT]] : index
// CHECK: %[[D:.*]] = arith.index_castui %[[LESS]] : index to i32
// CHECK: arith.divui %{{.*}}, %{{.*}} : i32
// CHECK: scf.for %[[I:[a-z0-9]*]] =
// CHECK: %{{.*}}, %[[LOW:.*]] = arith.mului_extended %[[I]], %{{.*}} : i32
// CHECK: arith.muli %[[LOW]], %[[D]] : i32
// CHECK: %[[Q:.*]] = arith.index_castui %{{.*}} : i32 to index
// CHECK: %[[R:.*]] = arith.remui %{{.*}}, %[[GROUP]] : index
// CHECK: func.call @use_index(%[[Q]], %[[R]])
func.func @indices(%a: index, %b: index, %n: i32) {
  %c0 = arith.constant 0 : i32
  %c1 = arith.constant 1 : i32
  scf.for %i = %c0 to %n step %c1 : i32 {
    %group = arith.divui %a, %b : index
    %x = arith.index_castui %i : i32 to index
    %q = arith.divui %x, %group : index
    // May be negative, and so a large number without sign.
    %y = arith.index_cast %i : i32 to index
    %r = arith.remui %y, %group : index
    func.call @use_index(%q, %r) : (index, index) -> ()
  }
  return
}
func.func private @use_index(index, index)
