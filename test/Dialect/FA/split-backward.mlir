// RUN: fa-opt %s -split-input-file -verify-diagnostics -fa-split-backward | FileCheck %s --check-prefixes=CHECK,BOTH
// RUN: fa-opt %s -split-input-file -verify-diagnostics -fa-split-backward=max-head-sizes=23 | FileCheck %s --check-prefixes=CHECK,EACH

#maps = [affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>]

// delta first, from o and d_lse; then the gradients of rows and of keys, for which it
// is known. Head sizes of 16 + 8 are more than 23.
// CHECK-LABEL: func.func @all(
// CHECK-SAME: %[[Q:[a-z0-9]*]]: memref<?x?x?x16xf32>, %[[K:[a-z0-9]*]]: memref<?x?x?x16xf32>, %[[V:[a-z0-9]*]]: memref<?x?x?x8xf32>, %[[O:[a-z0-9]*]]: memref<?x?x?x8xf32>, %[[LSE:[a-z0-9]*]]: memref<?x?x?xf32>, %[[DO:[a-z0-9]*]]: memref<?x?x?x8xf32>, %[[DLSE:[a-z0-9]*]]: memref<?x?x?xf32>, %[[SCALE:[a-z0-9]*]]: f32, %[[LENS:[a-z0-9]*]]: memref<?xi32>, %[[DELTA:[a-z0-9]*]]: memref<?x?x?xf32>, %[[DQ:[a-z0-9]*]]: memref<?x?x?x16xf32>, %[[DK:[a-z0-9]*]]: memref<?x?x?x16xf32>, %[[DV:[a-z0-9]*]]: memref<?x?x?x8xf32>)
// CHECK-NEXT: fa.attention_backward ins(%[[Q]], %[[K]], %[[V]], %[[LSE]], %[[DO]] : {{.*}}) o(%[[O]] : {{.*}}) d_lse(%[[DLSE]] : {{.*}}) scale(%[[SCALE]] : f32) lengths(%[[LENS]], %[[LENS]] : {{.*}}) mask <[[SET:#.*]]> delta(%[[DELTA]] : memref<?x?x?xf32>) {indexing_maps = [[MAPS:.*]]}
// CHECK-NEXT: fa.attention_backward ins(%[[Q]], %[[K]], %[[V]], %[[LSE]], %[[DO]] : {{.*}}) scale(%[[SCALE]] : f32) lengths(%[[LENS]], %[[LENS]] : {{.*}}) mask <[[SET]]> delta(%[[DELTA]] : {{.*}}) d_q(%[[DQ]] : memref<?x?x?x16xf32>) {delta_known, indexing_maps = [[MAPS]]}
// BOTH-NEXT: fa.attention_backward ins({{.*}}) scale({{.*}}) lengths({{.*}}) mask <[[SET]]> delta(%[[DELTA]] : {{.*}}) d_k(%[[DK]] : memref<?x?x?x16xf32>) d_v(%[[DV]] : memref<?x?x?x8xf32>) {delta_known, indexing_maps = [[MAPS]]}
// EACH-NEXT: fa.attention_backward ins({{.*}}) scale({{.*}}) lengths({{.*}}) mask <[[SET]]> delta(%[[DELTA]] : {{.*}}) d_k(%[[DK]] : memref<?x?x?x16xf32>) {delta_known, indexing_maps = [[MAPS]]}
// EACH-NEXT: fa.attention_backward ins({{.*}}) scale({{.*}}) lengths({{.*}}) mask <[[SET]]> delta(%[[DELTA]] : {{.*}}) d_v(%[[DV]] : memref<?x?x?x8xf32>) {delta_known, indexing_maps = [[MAPS]]}
// CHECK-NEXT: return
func.func @all(%q: memref<?x?x?x16xf32>, %k: memref<?x?x?x16xf32>, %v: memref<?x?x?x8xf32>, %o: memref<?x?x?x8xf32>,
    %lse: memref<?x?x?xf32>, %do: memref<?x?x?x8xf32>, %dlse: memref<?x?x?xf32>, %scale: f32, %lens: memref<?xi32>,
    %delta: memref<?x?x?xf32>, %dq: memref<?x?x?x16xf32>, %dk: memref<?x?x?x16xf32>, %dv: memref<?x?x?x8xf32>) {
  fa.attention_backward ins(%q, %k, %v, %lse, %do : memref<?x?x?x16xf32>, memref<?x?x?x16xf32>, memref<?x?x?x8xf32>, memref<?x?x?xf32>, memref<?x?x?x8xf32>)
      o(%o : memref<?x?x?x8xf32>) d_lse(%dlse : memref<?x?x?xf32>) scale(%scale : f32)
      lengths(%lens, %lens : memref<?xi32>, memref<?xi32>) mask <affine_set<(b,h,m,n)[lq,lk] : (m + lk - lq - n >= 0)>>
      delta(%delta : memref<?x?x?xf32>) d_q(%dq : memref<?x?x?x16xf32>) d_k(%dk : memref<?x?x?x16xf32>) d_v(%dv : memref<?x?x?x8xf32>)
      {indexing_maps = #maps}
  return
}

// Memory for the sum of d_q: set to 0, added to with d_k, and read for d_q last.
// CHECK-LABEL: func.func @sum(
// CHECK-SAME: %[[SUM:[a-z0-9]*]]: memref<?x?x?x16xf32>, %[[DQ:[a-z0-9]*]]: memref<?x?x?x16xf32>, %[[DK:[a-z0-9]*]]: memref<?x?x?x16xf32>, %[[DV:[a-z0-9]*]]: memref<?x?x?x16xf32>)
// CHECK-NEXT: fa.attention_backward {{.*}} d_q_sum(%[[SUM]] : memref<?x?x?x16xf32>) {indexing_maps
// BOTH-NEXT: fa.attention_backward {{.*}} d_q_sum(%[[SUM]] : memref<?x?x?x16xf32>) d_k(%[[DK]] : memref<?x?x?x16xf32>) d_v(%[[DV]] : memref<?x?x?x16xf32>) {delta_known
// EACH-NEXT: fa.attention_backward {{.*}} d_q_sum(%[[SUM]] : memref<?x?x?x16xf32>) d_k(%[[DK]] : memref<?x?x?x16xf32>) {delta_known
// EACH-NEXT: fa.attention_backward {{.*}} delta(%{{.*}} : memref<?x?x?xf32>) d_v(%[[DV]] : memref<?x?x?x16xf32>) {delta_known
// CHECK-NEXT: fa.attention_backward {{.*}} d_q_sum(%[[SUM]] : memref<?x?x?x16xf32>) d_q(%[[DQ]] : memref<?x?x?x16xf32>) {delta_known
// CHECK-NEXT: return
func.func @sum(%q: memref<?x?x?x16xf32>, %lse: memref<?x?x?xf32>, %scale: f32, %delta: memref<?x?x?xf32>,
    %sum: memref<?x?x?x16xf32>, %dq: memref<?x?x?x16xf32>, %dk: memref<?x?x?x16xf32>, %dv: memref<?x?x?x16xf32>) {
  fa.attention_backward ins(%q, %q, %q, %lse, %q : memref<?x?x?x16xf32>, memref<?x?x?x16xf32>, memref<?x?x?x16xf32>, memref<?x?x?xf32>, memref<?x?x?x16xf32>)
      o(%q : memref<?x?x?x16xf32>) scale(%scale : f32) delta(%delta : memref<?x?x?xf32>) d_q_sum(%sum : memref<?x?x?x16xf32>)
      d_q(%dq : memref<?x?x?x16xf32>) d_k(%dk : memref<?x?x?x16xf32>) d_v(%dv : memref<?x?x?x16xf32>) {indexing_maps = #maps}
  return
}

// A known delta is not computed again, nor what is not wanted; regions stay.
// CHECK-LABEL: func.func @known(
// CHECK-SAME: %[[DV:[a-z0-9]*]]: memref<?x?x?x16xf32>)
// CHECK-NEXT: fa.attention_backward {{.*}} d_v(%[[DV]] : memref<?x?x?x16xf32>) {delta_known, indexing_maps = {{.*}}} score {
// CHECK: math.tanh
// CHECK-NOT: fa.attention_backward
// CHECK: return
func.func @known(%q: memref<?x?x?x16xf32>, %lse: memref<?x?x?xf32>, %scale: f32, %delta: memref<?x?x?xf32>, %dv: memref<?x?x?x16xf32>) {
  fa.attention_backward ins(%q, %q, %q, %lse, %q : memref<?x?x?x16xf32>, memref<?x?x?x16xf32>, memref<?x?x?x16xf32>, memref<?x?x?xf32>, memref<?x?x?x16xf32>)
      scale(%scale : f32) delta(%delta : memref<?x?x?xf32>) d_v(%dv : memref<?x?x?x16xf32>) {delta_known, indexing_maps = #maps}
      score {
      ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index):
        %t = math.tanh %s : f32
        fa.yield %t : f32
      }
  return
}

// The gradient of each capture is an operation; its derivative region, and that of the
// others, has what it needs only.
// CHECK-LABEL: func.func @captures(
// CHECK-SAME: %[[DQ:[a-z0-9]*]]: memref<?x?x?x16xf32>, %[[DX:[a-z0-9]*]]: memref<f32>, %[[DT:[a-z0-9]*]]: memref<?xf32>)
// CHECK-NEXT: fa.attention_backward {{.*}} d_q(%[[DQ]] : memref<?x?x?x16xf32>) {capture_maps = [unit, unit], delta_known
// CHECK: } derivative {
// CHECK: ^bb0(%{{.*}}: f32, {{.*}}: memref<?xf32>, %[[DS:.*]]: f32):
// CHECK-NOT: fa.accumulate
// CHECK: fa.yield %[[DS]] : f32
// CHECK: fa.attention_backward {{.*}} d_captures(%[[DX]] : memref<f32>) {capture_grads = array<i64: 0>
// CHECK: } derivative {
// CHECK: ^bb0(%{{.*}}: f32, {{.*}}: memref<?xf32>, %[[DS:.*]]: f32):
// CHECK-NOT: fa.accumulate
// CHECK: fa.yield %[[DS]], %[[DS]] : f32, f32
// CHECK: fa.attention_backward {{.*}} d_captures(%[[DT]] : memref<?xf32>) {capture_grads = array<i64: 1>
// CHECK: } derivative {
// CHECK: ^bb0(%{{.*}}: f32, {{.*}}: memref<?xf32>, %[[DS:.*]]: f32):
// CHECK: fa.accumulate %[[DS]] into 1
// CHECK: fa.yield %[[DS]] : f32
// CHECK-NOT: fa.attention_backward
// CHECK: return
func.func @captures(%q: memref<?x?x?x16xf32>, %lse: memref<?x?x?xf32>, %scale: f32, %x: f32, %t: memref<?xf32>, %delta: memref<?x?x?xf32>,
    %dq: memref<?x?x?x16xf32>, %dx: memref<f32>, %dt: memref<?xf32>) {
  fa.attention_backward ins(%q, %q, %q, %lse, %q : memref<?x?x?x16xf32>, memref<?x?x?x16xf32>, memref<?x?x?x16xf32>, memref<?x?x?xf32>, memref<?x?x?x16xf32>)
      scale(%scale : f32) captures(%x, %t : f32, memref<?xf32>) delta(%delta : memref<?x?x?xf32>) d_q(%dq : memref<?x?x?x16xf32>) d_captures(%dx, %dt : memref<f32>, memref<?xf32>)
      {delta_known, indexing_maps = #maps, capture_maps = [unit, unit], capture_grads = array<i64: 0, 1>}
      score {
      ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index, %c: f32, %table: memref<?xf32>):
        %y = fa.gather %table[%n] : memref<?xf32> -> f32
        %r0 = arith.addf %s, %y : f32
        %r1 = arith.addf %r0, %c : f32
        fa.yield %r1 : f32
      } derivative {
      ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index, %c: f32, %table: memref<?xf32>, %ds: f32):
        fa.accumulate %ds into 1[%n] : f32
        fa.yield %ds, %ds : f32, f32
      }
  return
}

// Nothing but delta.
// CHECK-LABEL: func.func @delta(
// CHECK-COUNT-1: fa.attention_backward
// CHECK-NOT: fa.attention_backward
// CHECK: return
func.func @delta(%q: memref<?x?x?x16xf32>, %lse: memref<?x?x?xf32>, %scale: f32, %delta: memref<?x?x?xf32>) {
  fa.attention_backward ins(%q, %q, %q, %lse, %q : memref<?x?x?x16xf32>, memref<?x?x?x16xf32>, memref<?x?x?x16xf32>, memref<?x?x?xf32>, memref<?x?x?x16xf32>)
      o(%q : memref<?x?x?x16xf32>) scale(%scale : f32) delta(%delta : memref<?x?x?xf32>) {indexing_maps = #maps}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]
func.func @tensors(%q: tensor<8x16xf32>, %lse: tensor<8xf32>, %scale: f32) -> tensor<8xf32> {
  // expected-error @+1 {{is on tensors; run one-shot-bufferize first}}
  %r = fa.attention_backward ins(%q, %q, %q, %lse, %q : tensor<8x16xf32>, tensor<8x16xf32>, tensor<8x16xf32>, tensor<8xf32>, tensor<8x16xf32>)
      o(%q : tensor<8x16xf32>) scale(%scale : f32) delta(%lse : tensor<8xf32>) {indexing_maps = #maps} -> tensor<8xf32>
  return %r : tensor<8xf32>
}
