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
