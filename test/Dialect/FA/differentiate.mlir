// RUN: fa-opt %s --fa-differentiate --split-input-file --verify-diagnostics | FileCheck %s

#mn = affine_map<(b, h, m, n, d, e) -> (m, d)>
#nd = affine_map<(b, h, m, n, d, e) -> (n, d)>
#ne = affine_map<(b, h, m, n, d, e) -> (n, e)>
#me = affine_map<(b, h, m, n, d, e) -> (m, e)>
#m = affine_map<(b, h, m, n, d, e) -> (m)>

// The soft cap: cap * tanh(s / cap).
// CHECK-LABEL: func.func @softcap
// CHECK: derivative {
// CHECK: ^bb0(%[[S:.*]]: f32, %{{.*}}: index, %{{.*}}: index, %{{.*}}: index, %{{.*}}: index, %[[CAP:.*]]: f32, %[[G:.*]]: f32):
// CHECK:   %[[X:.*]] = arith.divf %[[S]], %[[CAP]]
// CHECK:   %[[T:.*]] = math.tanh %[[X]]
// CHECK-NOT: arith.mulf %[[T]], %[[CAP]]
// CHECK:   %[[GT:.*]] = arith.mulf %[[G]], %[[CAP]]
// CHECK:   %[[TT:.*]] = arith.mulf %[[T]], %[[T]]
// CHECK:   %[[ONE:.*]] = arith.constant 1.0
// CHECK:   %[[SLOPE:.*]] = arith.subf %[[ONE]], %[[TT]]
// CHECK:   %[[GX:.*]] = arith.mulf %[[GT]], %[[SLOPE]]
// CHECK:   %[[GS:.*]] = arith.divf %[[GX]], %[[CAP]]
// CHECK:   fa.yield %[[GS]]
func.func @softcap(%q: memref<4x8xf32>, %do: memref<4x8xf32>, %l: memref<4xf32>, %scale: f32, %cap: f32) {
  fa.attention_backward ins(%q, %q, %q, %l, %do : memref<4x8xf32>, memref<4x8xf32>, memref<4x8xf32>, memref<4xf32>, memref<4x8xf32>)
      scale(%scale : f32) captures(%cap : f32) delta(%l : memref<4xf32>) d_q(%q : memref<4x8xf32>)
      {delta_known, capture_maps = [unit], indexing_maps = [#mn, #nd, #ne, #me, #m]}
      score {
      ^bb0(%s: f32, %b: index, %h: index, %i: index, %j: index, %c: f32):
        %x = arith.divf %s, %c : f32
        %t = math.tanh %x : f32
        %y = arith.mulf %t, %c : f32
        fa.yield %y : f32
      }
  return
}

// A value that is used twice sums up, in the accumulator type; what does not
// depend on the score passes nothing on, whatever it is.
// CHECK-LABEL: func.func @sums
// CHECK: derivative {
// CHECK: ^bb0(%[[S:.*]]: f32, %{{.*}}: index, %{{.*}}: index, %{{.*}}: index, %[[J:.*]]: index, %[[G:.*]]: f32):
// CHECK:   %[[H:.*]] = arith.truncf %[[S]] : f32 to f16
// CHECK:   %[[H1:.*]] = arith.extf %[[H]] : f16 to f32
// CHECK:   %[[A:.*]] = arith.mulf %[[G]], %[[H1]] : f32
// CHECK:   %[[H2:.*]] = arith.extf %[[H]] : f16 to f32
// CHECK:   %[[B:.*]] = arith.mulf %[[G]], %[[H2]] : f32
// CHECK:   %[[SUM:.*]] = arith.addf %[[A]], %[[B]] : f32
// CHECK-NOT: math.floor
// CHECK:   fa.yield %[[SUM]]
func.func @sums(%q: memref<4x8xf32>, %do: memref<4x8xf32>, %l: memref<4xf32>, %scale: f32) {
  fa.attention_backward ins(%q, %q, %q, %l, %do : memref<4x8xf32>, memref<4x8xf32>, memref<4x8xf32>, memref<4xf32>, memref<4x8xf32>)
      scale(%scale : f32) delta(%l : memref<4xf32>) d_q(%q : memref<4x8xf32>)
      {delta_known, indexing_maps = [#mn, #nd, #ne, #me, #m]}
      score {
      ^bb0(%s: f32, %b: index, %h: index, %i: index, %j: index):
        %n = arith.index_cast %j : index to i32
        %f = arith.sitofp %n : i32 to f32
        %w = math.floor %f : f32
        %t = arith.truncf %s : f32 to f16
        %u = arith.mulf %t, %t : f16
        %v = arith.extf %u : f16 to f32
        %y = arith.addf %v, %w : f32
        fa.yield %y : f32
      }
  return
}

// A derivative that is given stays.
// CHECK-LABEL: func.func @given
// CHECK: derivative {
// CHECK-NEXT: ^bb0(%{{.*}}: f32, %{{.*}}: index, %{{.*}}: index, %{{.*}}: index, %{{.*}}: index, %[[G:.*]]: f32):
// CHECK-NEXT: fa.yield %[[G]]
func.func @given(%q: memref<4x8xf32>, %do: memref<4x8xf32>, %l: memref<4xf32>, %scale: f32) {
  fa.attention_backward ins(%q, %q, %q, %l, %do : memref<4x8xf32>, memref<4x8xf32>, memref<4x8xf32>, memref<4xf32>, memref<4x8xf32>)
      scale(%scale : f32) delta(%l : memref<4xf32>) d_q(%q : memref<4x8xf32>)
      {delta_known, indexing_maps = [#mn, #nd, #ne, #me, #m]}
      score {
      ^bb0(%s: f32, %b: index, %h: index, %i: index, %j: index):
        %y = math.floor %s : f32
        fa.yield %y : f32
      } derivative {
      ^bb0(%s: f32, %b: index, %h: index, %i: index, %j: index, %g: f32):
        fa.yield %g : f32
      }
  return
}

// -----

#mn = affine_map<(b, h, m, n, d, e) -> (m, d)>
#nd = affine_map<(b, h, m, n, d, e) -> (n, d)>
#ne = affine_map<(b, h, m, n, d, e) -> (n, e)>
#me = affine_map<(b, h, m, n, d, e) -> (m, e)>
#m = affine_map<(b, h, m, n, d, e) -> (m)>
func.func @refused(%q: memref<4x8xf32>, %do: memref<4x8xf32>, %l: memref<4xf32>, %scale: f32) {
  fa.attention_backward ins(%q, %q, %q, %l, %do : memref<4x8xf32>, memref<4x8xf32>, memref<4x8xf32>, memref<4xf32>, memref<4x8xf32>)
      scale(%scale : f32) delta(%l : memref<4xf32>) d_q(%q : memref<4x8xf32>)
      {delta_known, indexing_maps = [#mn, #nd, #ne, #me, #m]}
      score {
      ^bb0(%s: f32, %b: index, %h: index, %i: index, %j: index):
        // expected-error @+1 {{has no derivative, and the score region applies it to the score or to a capture with gradients; use add, sub, mul}}
        %y = math.floor %s : f32
        fa.yield %y : f32
      }
  return
}

// -----

!t = memref<2x8x4x16xf16>
!l = memref<2x4x8xf32>
#maps = [affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>]

// A soft cap; the cap has a gradient. tanh is computed once more, what only the
// score needs is not.
// CHECK-LABEL: func.func @cap(
// CHECK: } derivative {
// CHECK: ^bb0(%[[R:.*]]: f32, %{{.*}}: index, %{{.*}}: index, %{{.*}}: index, %{{.*}}: index, %[[C:.*]]: f32, %[[DS:.*]]: f32):
// CHECK-NEXT: %[[X:.*]] = arith.divf %[[R]], %[[C]]
// CHECK-NEXT: %[[T:.*]] = math.tanh %[[X]]
// CHECK-NEXT: %[[DT:.*]] = arith.mulf %[[DS]], %[[C]]
// CHECK-NEXT: %[[DC0:.*]] = arith.mulf %[[DS]], %[[T]]
// CHECK-NEXT: %[[SQUARE:.*]] = arith.mulf %[[T]], %[[T]]
// CHECK-NEXT: %[[ONE:.*]] = arith.constant 1.0
// CHECK-NEXT: %[[SLOPE:.*]] = arith.subf %[[ONE]], %[[SQUARE]]
// CHECK-NEXT: %[[DX:.*]] = arith.mulf %[[DT]], %[[SLOPE]]
// CHECK-NEXT: %[[DR:.*]] = arith.divf %[[DX]], %[[C]]
// CHECK-NEXT: %[[A:.*]] = arith.mulf %[[DX]], %[[X]]
// CHECK-NEXT: %[[B:.*]] = arith.divf %[[A]], %[[C]]
// CHECK-NEXT: %[[DC1:.*]] = arith.negf %[[B]]
// CHECK-NEXT: %[[DC:.*]] = arith.addf %[[DC0]], %[[DC1]]
// CHECK-NEXT: fa.yield %[[DR]], %[[DC]] : f32, f32
func.func @cap(%q: !t, %s: f32, %l: !l, %cap: f32, %dcap: memref<f32>) {
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32)
      captures(%cap : f32) delta(%l : !l) d_q(%q : !t) d_captures(%dcap : memref<f32>)
      {indexing_maps = #maps, capture_maps = [unit], capture_grads = array<i64: 0>} score {
    ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %c: f32):
      %x = arith.divf %r, %c : f32
      %t = math.tanh %x : f32
      %y = arith.mulf %t, %c : f32
      fa.yield %y : f32
    }
  return
}

// A gathered f16 table: accumulated at the same index, in f32 without rounding.
// What does not depend on score or table (math.floor here) is a constant.
// CHECK-LABEL: func.func @gathered(
// CHECK: } derivative {
// CHECK: ^bb0(%{{.*}}: f32, %{{.*}}: index, %{{.*}}: index, %[[M:.*]]: index, %[[N:.*]]: index, %{{.*}}: memref<31xf16>, %{{.*}}: f32, %[[DS:.*]]: f32):
// CHECK: %[[I:.*]] = arith.subi %[[M]], %[[N]]
// CHECK-NOT: arith.truncf
// CHECK: fa.accumulate %[[DS]] into 0[%[[I]]] : f32
// CHECK-NEXT: fa.yield %[[DS]] : f32
func.func @gathered(%q: !t, %s: f32, %l: !l, %table: memref<31xf16>, %x: f32, %dt: memref<31xf32>) {
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32)
      captures(%table, %x : memref<31xf16>, f32) delta(%l : !l) d_k(%q : !t) d_captures(%dt : memref<31xf32>)
      {indexing_maps = #maps, capture_maps = [unit, unit], capture_grads = array<i64: 0>} score {
    ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %t: memref<31xf16>, %c: f32):
      %i = arith.subi %m, %n : index
      %e = fa.gather %t[%i] : memref<31xf16> -> f16
      %f = arith.extf %e : f16 to f32
      %y = arith.addf %r, %f : f32
      %floor = math.floor %c : f32
      %z = arith.addf %y, %floor : f32
      fa.yield %z : f32
    }
  return
}

// A score that does not depend on q and k has no gradient there; an operation
// whose result is not used is no obstacle.
// CHECK-LABEL: func.func @constant(
// CHECK: } derivative {
// CHECK: %[[ZERO:.*]] = arith.constant 0.0
// CHECK-NEXT: fa.yield %[[ZERO]] : f32
func.func @constant(%q: !t, %s: f32, %l: !l, %x: f32) {
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32)
      delta(%l : !l) d_q(%q : !t) {indexing_maps = #maps} score {
    ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index):
      %unused = math.round %r : f32
      %c = arith.constant 2.0 : f32
      fa.yield %c : f32
    }
  return
}

// -----

!t = memref<8x16xf16>
!l = memref<8xf32>
#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>, affine_map<(b,h,m,n,d,e) -> (n, e)>,
         affine_map<(b,h,m,n,d,e) -> (m, e)>, affine_map<(b,h,m,n,d,e) -> (m)>]
// Tricks with the bits of the score are not taken for constants.
func.func @bits(%q: !t, %s: f32, %l: !l) {
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32)
      delta(%l : !l) d_q(%q : !t) {indexing_maps = #maps} score {
    ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index):
      %i = arith.bitcast %r : f32 to i32
      // expected-error @+1 {{'arith.bitcast' op has no derivative}}
      %x = arith.bitcast %i : i32 to f32
      fa.yield %x : f32
    }
  return
}
