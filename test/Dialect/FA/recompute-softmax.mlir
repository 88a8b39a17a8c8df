// RUN: fa-opt %s -split-input-file -verify-diagnostics -fa-tile -fa-recompute-softmax -canonicalize -cse | FileCheck %s

#maps = [affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>]
#schedule = #fa.schedule<tile_m = 8, tile_n = 4, plan = #tile.plan<chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>
#sequential = #fa.schedule<tile_m = 8, tile_n = 4, plan = #tile.plan<chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>, sequential = true>

// Products: rows by rows, rows by columns, columns by columns.
// CHECK-DAG: #[[MK:.*]] = affine_map<(d0, d1, d2) -> (d0, d2)>
// CHECK-DAG: #[[NK:.*]] = affine_map<(d0, d1, d2) -> (d1, d2)>
// CHECK-DAG: #[[MN:.*]] = affine_map<(d0, d1, d2) -> (d0, d1)>
// CHECK-DAG: #[[KN:.*]] = affine_map<(d0, d1, d2) -> (d2, d1)>
// CHECK-DAG: #[[KM:.*]] = affine_map<(d0, d1, d2) -> (d2, d0)>

// Row sums in the accumulator type, without a loop; 0 in rows that have no finite lse.
// CHECK-LABEL: func.func @delta(
// CHECK-DAG: %[[INF:.*]] = arith.constant dense<0x7F800000> : tensor<8xf32>
// CHECK-DAG: %[[ZERO:.*]] = arith.constant dense<0.000000e+00> : tensor<8xf32>
// CHECK: scf.forall
// CHECK-NOT: scf.for
// CHECK: %[[O:.*]] = tile.load {{.*}} -> tensor<8x16xf16>
// CHECK: %[[DO:.*]] = tile.load {{.*}} -> tensor<8x16xf16>
// CHECK: %[[O32:.*]] = arith.extf %[[O]] : tensor<8x16xf16> to tensor<8x16xf32>
// CHECK: %[[DO32:.*]] = arith.extf %[[DO]]
// CHECK: %[[PRODUCT:.*]] = arith.mulf %[[O32]], %[[DO32]]
// CHECK: %[[SUM:.*]] = tile.reduce {{.*}}%[[PRODUCT]]{{.*}} -> tensor<8xf32>
// CHECK: %[[DLSE:.*]] = tile.load {{.*}} -> tensor<8xf32>
// CHECK: %[[LESS:.*]] = arith.subf %[[SUM]], %[[DLSE]]
// CHECK: %[[LSE:.*]] = tile.load {{.*}} -> tensor<8xf32>
// CHECK: %[[SIZE:.*]] = math.absf %[[LSE]]
// CHECK: %[[INFINITE:.*]] = arith.cmpf oeq, %[[SIZE]], %[[INF]]
// CHECK: %[[BEYOND:.*]] = arith.cmpi sge
// CHECK: %[[DEAD:.*]] = arith.ori %[[INFINITE]], %[[BEYOND]]
// CHECK: %[[DELTA:.*]] = arith.select %[[DEAD]], %[[ZERO]], %[[LESS]]
// CHECK: tile.store %[[DELTA]], {{.*}} : tensor<8xf32>, memref<?xf32
func.func @delta(%q: memref<?x?x?x16xf16>, %o: memref<?x?x?x16xf16>, %do: memref<?x?x?x16xf16>, %lse: memref<?x?x?xf32>, %dlse: memref<?x?x?xf32>,
    %scale: f32, %delta: memref<?x?x?xf32>) {
  fa.attention_backward ins(%q, %q, %q, %lse, %do : memref<?x?x?x16xf16>, memref<?x?x?x16xf16>, memref<?x?x?x16xf16>, memref<?x?x?xf32>, memref<?x?x?x16xf16>)
      o(%o : memref<?x?x?x16xf16>) d_lse(%dlse : memref<?x?x?xf32>) scale(%scale : f32)
      delta(%delta : memref<?x?x?xf32>) {indexing_maps = #maps, fa.schedule = #schedule}
  return
}

// A loop over blocks of keys. The probabilities are exp2 of the scores less lse, both
// in units of log2(e); rows without a finite lse get lse = inf and so probability 0.
// CHECK-LABEL: func.func @rows(
// CHECK-SAME: %[[SCALE:[a-z0-9]*]]: f32
// CHECK-DAG: %[[INF:.*]] = arith.constant dense<0x7F800000> : tensor<8xf32>
// CHECK-DAG: %[[LOG2E:.*]] = arith.constant 1.44269502 : f32
// CHECK-DAG: %[[LOG2ES:.*]] = arith.constant dense<1.44269502> : tensor<8xf32>
// CHECK-DAG: %[[NONE:.*]] = arith.constant dense<0.000000e+00> : tensor<8x4xf32>
// CHECK-DAG: %[[START:.*]] = arith.constant dense<0.000000e+00> : tensor<8x16xf32>
// CHECK: scf.forall
// CHECK: %[[Q:.*]] = tile.load {{.*}} -> tensor<8x16xf16>
// CHECK: %[[DO:.*]] = tile.load {{.*}} -> tensor<8x8xf16>
// CHECK: %[[LSE:.*]] = tile.load {{.*}} -> tensor<8xf32>
// CHECK: %[[SIZE:.*]] = math.absf %[[LSE]]
// CHECK: %[[INFINITE:.*]] = arith.cmpf oeq, %[[SIZE]], %[[INF]]
// CHECK: %[[BEYOND:.*]] = arith.cmpi sge
// CHECK: %[[DEAD:.*]] = arith.ori %[[INFINITE]], %[[BEYOND]]
// CHECK: %[[LSE2:.*]] = arith.mulf %[[LSE]], %[[LOG2ES]]
// CHECK: %[[LSE_LIVE:.*]] = arith.select %[[DEAD]], %[[INF]], %[[LSE2]]
// CHECK: %[[DELTA:.*]] = tile.load {{.*}} -> tensor<8xf32>
// CHECK: %[[SCALE2:.*]] = arith.mulf %[[SCALE]], %[[LOG2E]]
// CHECK: %[[FACTOR:.*]] = tile.splat %[[SCALE2]]
// CHECK: %[[LSES:.*]] = tile.broadcast %[[LSE_LIVE]] dim 1
// CHECK: %[[DELTAS:.*]] = tile.broadcast %[[DELTA]] dim 1
// CHECK: %[[SUM:.*]] = scf.for {{.*}} iter_args(%[[ACC:.*]] = %[[START]]) -> (tensor<8x16xf32>) {
// CHECK: %[[K:.*]] = tile.load {{.*}} -> tensor<4x16xf16>
// CHECK: %[[V:.*]] = tile.load {{.*}} -> tensor<4x8xf16>
// CHECK: %[[KEEP:.*]] = arith.cmpi sle
// CHECK: %[[DP:.*]] = tile.contract %[[DO]], %[[V]], %[[NONE]] {maps = [#[[MK]], #[[NK]], #[[MN]]]}
// CHECK: %[[S:.*]] = tile.contract %[[Q]], %[[K]], %[[NONE]] {maps = [#[[MK]], #[[NK]], #[[MN]]]}
// CHECK: %[[SCALED:.*]] = arith.mulf %[[S]], %[[FACTOR]]
// CHECK: %[[LESS:.*]] = arith.subf %[[SCALED]], %[[LSES]]
// CHECK: %[[P:.*]] = math.exp2 %[[LESS]]
// CHECK: %[[MASKED:.*]] = arith.select %[[KEEP]], %[[P]], %[[NONE]]
// CHECK: %[[KEPT:.*]] = arith.select %{{.*}}, %[[P]], %[[MASKED]]
// CHECK: %[[CENTRED:.*]] = arith.subf %[[DP]], %[[DELTAS]]
// CHECK: %[[DS:.*]] = arith.mulf %[[KEPT]], %[[CENTRED]]
// CHECK: arith.select %[[KEEP]], %[[DS]], %[[NONE]]
// CHECK: %[[DS16:.*]] = arith.truncf %{{.*}} : tensor<8x4xf32> to tensor<8x4xf16>
// CHECK: %[[NEXT:.*]] = tile.contract %[[DS16]], %[[K]], %[[ACC]] {maps = [#[[MK]], #[[KN]], #[[MN]]]}
// CHECK: scf.yield %[[NEXT]]
// CHECK: %[[SCALES:.*]] = tile.splat %[[SCALE]]
// CHECK: %[[DQ:.*]] = arith.mulf %[[SUM]], %[[SCALES]]
// CHECK: %[[LIVE:.*]] = arith.select %{{.*}}, %[[START]], %[[DQ]]
// CHECK: %[[DQ16:.*]] = arith.truncf %[[LIVE]]
// CHECK: tile.store %[[DQ16]], {{.*}} : tensor<8x16xf16>
func.func @rows(%q: memref<?x?x?x16xf16>, %v: memref<?x?x?x8xf16>, %do: memref<?x?x?x8xf16>, %lse: memref<?x?x?xf32>,
    %scale: f32, %delta: memref<?x?x?xf32>, %dq: memref<?x?x?x16xf16>) {
  fa.attention_backward ins(%q, %q, %v, %lse, %do : memref<?x?x?x16xf16>, memref<?x?x?x16xf16>, memref<?x?x?x8xf16>, memref<?x?x?xf32>, memref<?x?x?x8xf16>)
      scale(%scale : f32) mask <affine_set<(b,h,m,n)[lq,lk] : (m + lk - lq - n >= 0)>>
      delta(%delta : memref<?x?x?xf32>) d_q(%dq : memref<?x?x?x16xf16>) {delta_known, indexing_maps = #maps, fa.schedule = #schedule}
  return
}

// One loop over the blocks of rows of all query heads of the group; p and ds are left
// factors transposed. The derivative region follows the raw score.
// CHECK-LABEL: func.func @keys(
// CHECK-SAME: %[[SCALE:[a-z0-9]*]]: f32
// CHECK-DAG: %[[NONE:.*]] = arith.constant dense<0.000000e+00> : tensor<8x4xf32>
// CHECK-DAG: %[[START_K:.*]] = arith.constant dense<0.000000e+00> : tensor<4x16xf32>
// CHECK-DAG: %[[START_V:.*]] = arith.constant dense<0.000000e+00> : tensor<4x8xf32>
// CHECK: scf.forall
// CHECK: %[[GROUP:.*]] = arith.divui
// CHECK: %[[K:.*]] = tile.load {{.*}} -> tensor<4x16xf32>
// CHECK: %[[V:.*]] = tile.load {{.*}} -> tensor<4x8xf32>
// CHECK: %[[STEPS:.*]] = arith.muli %{{.*}}, %[[GROUP]]
// CHECK: %[[SUMS:.*]]:2 = scf.for %[[I:.*]] = %c0 to %[[STEPS]] step %c1 iter_args(%[[ACC_K:.*]] = %[[START_K]], %[[ACC_V:.*]] = %[[START_V]])
// CHECK: %[[I32:.*]] = arith.index_cast %[[I]] : index to i32
// CHECK: arith.divui %[[I32]], %[[BLOCKS:.*]] : i32
// CHECK: arith.remui %[[I32]], %[[BLOCKS]] : i32
// CHECK: %[[Q:.*]] = tile.load {{.*}} -> tensor<8x16xf32>
// CHECK: %[[DO:.*]] = tile.load {{.*}} -> tensor<8x8xf32>
// CHECK: %[[DP:.*]] = tile.contract %[[DO]], %[[V]], %[[NONE]] {maps = [#[[MK]], #[[NK]], #[[MN]]]}
// CHECK: %[[PRODUCT:.*]] = tile.contract %[[Q]], %[[K]], %[[NONE]] {maps = [#[[MK]], #[[NK]], #[[MN]]]}
// CHECK: %[[RAW:.*]] = arith.mulf %[[PRODUCT]], %{{.*}}
// CHECK: %[[T:.*]] = math.tanh %[[RAW]]
// CHECK: %[[P:.*]] = math.exp2
// CHECK: %[[DS:.*]] = arith.mulf %[[P]], %{{.*}}
// CHECK: %[[DR:.*]] = arith.mulf %{{.*}}, %[[DS]]
// CHECK: %[[NEXT_V:.*]] = tile.contract %[[P]], %[[DO]], %[[ACC_V]] {maps = [#[[KM]], #[[KN]], #[[MN]]]}
// CHECK: %[[NEXT_K:.*]] = tile.contract %[[DR]], %[[Q]], %[[ACC_K]] {maps = [#[[KM]], #[[KN]], #[[MN]]]}
// CHECK: scf.yield %[[NEXT_K]], %[[NEXT_V]]
// CHECK: %[[SCALES:.*]] = tile.splat %[[SCALE]]
// CHECK: %[[DK:.*]] = arith.mulf %[[SUMS]]#0, %[[SCALES]]
// CHECK: tile.store %[[DK]], {{.*}} : tensor<4x16xf32>
// CHECK: tile.store %[[SUMS]]#1, {{.*}} : tensor<4x8xf32>
func.func @keys(%q: memref<?x?x?x16xf32>, %k: memref<?x?x?x16xf32>, %v: memref<?x?x?x8xf32>, %do: memref<?x?x?x8xf32>, %lse: memref<?x?x?xf32>,
    %scale: f32, %delta: memref<?x?x?xf32>, %dk: memref<?x?x?x16xf32>, %dv: memref<?x?x?x8xf32>) {
  fa.attention_backward ins(%q, %k, %v, %lse, %do : memref<?x?x?x16xf32>, memref<?x?x?x16xf32>, memref<?x?x?x8xf32>, memref<?x?x?xf32>, memref<?x?x?x8xf32>)
      scale(%scale : f32) delta(%delta : memref<?x?x?xf32>) d_k(%dk : memref<?x?x?x16xf32>) d_v(%dv : memref<?x?x?x8xf32>)
      {delta_known, indexing_maps = #maps, fa.schedule = #schedule}
      score {
      ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index):
        %t = math.tanh %s : f32
        fa.yield %t : f32
      } derivative {
      ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index, %ds: f32):
        %t = math.tanh %s : f32
        %tt = arith.mulf %t, %t : f32
        %one = arith.constant 1.0 : f32
        %slope = arith.subf %one, %tt : f32
        %dr = arith.mulf %slope, %ds : f32
        fa.yield %dr : f32
      }
  return
}

// The sum of d_q is set to 0 with delta,
// CHECK-LABEL: func.func @clear(
// CHECK-SAME: %[[SUM:[a-z0-9]*]]: memref<?x?x?x16xf32>
// CHECK: %[[ZERO:.*]] = arith.constant dense<0.000000e+00> : tensor<8x16xf32>
// CHECK: %[[VIEW:.*]] = memref.subview %[[SUM]][
// CHECK: tile.store %[[ZERO]], %[[VIEW]][%{{.*}}, %c0] : tensor<8x16xf32>
func.func @clear(%q: memref<?x?x?x16xf16>, %lse: memref<?x?x?xf32>, %scale: f32, %delta: memref<?x?x?xf32>, %sum: memref<?x?x?x16xf32>) {
  fa.attention_backward ins(%q, %q, %q, %lse, %q : memref<?x?x?x16xf16>, memref<?x?x?x16xf16>, memref<?x?x?x16xf16>, memref<?x?x?xf32>, memref<?x?x?x16xf16>)
      o(%q : memref<?x?x?x16xf16>) scale(%scale : f32) delta(%delta : memref<?x?x?xf32>) d_q_sum(%sum : memref<?x?x?x16xf32>)
      {indexing_maps = #maps, fa.schedule = #schedule}
  return
}

// added to by each block of keys, from the gradient of the scores that serves d_k,
// CHECK-LABEL: func.func @add(
// CHECK-SAME: %[[SUM:[a-z0-9]*]]: memref<?x?x?x16xf32>
// CHECK: %[[NONE:.*]] = arith.constant dense<0.000000e+00> : tensor<8x16xf32>
// CHECK: %[[K:.*]] = tile.load {{.*}} -> tensor<4x16xf16>
// CHECK: scf.for
// CHECK: %[[DR:.*]] = arith.truncf %{{.*}} : tensor<8x4xf32> to tensor<8x4xf16>
// CHECK: %[[NEXT_K:.*]] = tile.contract %[[DR]], %{{.*}}, %{{.*}} {maps = [#[[KM]], #[[KN]], #[[MN]]]} : tensor<8x4xf16>, tensor<8x16xf16>, tensor<4x16xf32>
// CHECK: %[[VIEW:.*]] = memref.subview %
// CHECK: %[[DQ:.*]] = tile.contract %[[DR]], %[[K]], %[[NONE]] {maps = [#[[MK]], #[[KN]], #[[MN]]]} : tensor<8x4xf16>, tensor<4x16xf16>, tensor<8x16xf32>
// CHECK: tile.accumulate %[[DQ]], %[[VIEW]][%{{.*}}, %c0] shuffled : tensor<8x16xf32>
// CHECK: scf.yield %[[NEXT_K]]
func.func @add(%q: memref<?x?x?x16xf16>, %lse: memref<?x?x?xf32>, %scale: f32, %delta: memref<?x?x?xf32>, %sum: memref<?x?x?x16xf32>) {
  fa.attention_backward ins(%q, %q, %q, %lse, %q : memref<?x?x?x16xf16>, memref<?x?x?x16xf16>, memref<?x?x?x16xf16>, memref<?x?x?xf32>, memref<?x?x?x16xf16>)
      scale(%scale : f32) delta(%delta : memref<?x?x?xf32>) d_q_sum(%sum : memref<?x?x?x16xf32>) d_k(%q : memref<?x?x?x16xf16>)
      {delta_known, indexing_maps = #maps, fa.schedule = #schedule}
  return
}

// by a load and a store where one grid point has all blocks of keys,
// CHECK-LABEL: func.func @add_in_order(
// CHECK-SAME: %[[SUM:[a-z0-9]*]]: memref<?x?x?x16xf32>
// CHECK: scf.forall (%{{[^,]*}}, %{{[^,]*}}) in
// CHECK: scf.for
// CHECK: %[[K:.*]] = tile.load {{.*}} -> tensor<4x16xf16>
// CHECK: scf.for
// CHECK: %[[DR:.*]] = arith.truncf %{{.*}} : tensor<8x4xf32> to tensor<8x4xf16>
// CHECK: %[[VIEW:.*]] = memref.subview %
// CHECK: %[[BEFORE:.*]] = tile.load %[[VIEW]][%[[M0:.*]], %c0] : {{.*}} -> tensor<8x16xf32>
// CHECK: %[[DQ:.*]] = tile.contract %[[DR]], %[[K]], %[[BEFORE]] {maps = [#[[MK]], #[[KN]], #[[MN]]]} : tensor<8x4xf16>, tensor<4x16xf16>, tensor<8x16xf32>
// CHECK: tile.store %[[DQ]], %[[VIEW]][%[[M0]], %c0] : tensor<8x16xf32>
// CHECK-NOT: tile.accumulate
func.func @add_in_order(%q: memref<?x?x?x16xf16>, %lse: memref<?x?x?xf32>, %scale: f32, %delta: memref<?x?x?xf32>, %sum: memref<?x?x?x16xf32>) {
  fa.attention_backward ins(%q, %q, %q, %lse, %q : memref<?x?x?x16xf16>, memref<?x?x?x16xf16>, memref<?x?x?x16xf16>, memref<?x?x?xf32>, memref<?x?x?x16xf16>)
      scale(%scale : f32) delta(%delta : memref<?x?x?xf32>) d_q_sum(%sum : memref<?x?x?x16xf32>) d_k(%q : memref<?x?x?x16xf16>)
      {delta_known, indexing_maps = #maps, fa.schedule = #sequential}
  return
}

// and scaled and converted at last, zero in dead rows.
// CHECK-LABEL: func.func @convert(
// CHECK-SAME: %[[SCALE:[a-z0-9]*]]: f32, %{{[a-z0-9]*}}: memref<?x?x?xf32>, %[[SUM:[a-z0-9]*]]: memref<?x?x?x16xf32>
// CHECK: %[[ZERO:.*]] = arith.constant dense<0.000000e+00> : tensor<8x16xf32>
// CHECK: %[[VIEW:.*]] = memref.subview %[[SUM]][
// CHECK: %[[RAW:.*]] = tile.load %[[VIEW]][%{{.*}}, %c0] shuffled : {{.*}} -> tensor<8x16xf32>
// CHECK: %[[SCALES:.*]] = tile.splat %[[SCALE]]
// CHECK: %[[SCALED:.*]] = arith.mulf %[[RAW]], %[[SCALES]]
// CHECK: %[[LIVE:.*]] = arith.select %{{.*}}, %[[ZERO]], %[[SCALED]]
// CHECK: %[[DQ:.*]] = arith.truncf %[[LIVE]]
// CHECK: tile.store %[[DQ]], {{.*}} : tensor<8x16xf16>
func.func @convert(%q: memref<?x?x?x16xf16>, %lse: memref<?x?x?xf32>, %scale: f32, %delta: memref<?x?x?xf32>, %sum: memref<?x?x?x16xf32>) {
  fa.attention_backward ins(%q, %q, %q, %lse, %q : memref<?x?x?x16xf16>, memref<?x?x?x16xf16>, memref<?x?x?x16xf16>, memref<?x?x?xf32>, memref<?x?x?x16xf16>)
      scale(%scale : f32) delta(%delta : memref<?x?x?xf32>) d_q_sum(%sum : memref<?x?x?x16xf32>) d_q(%q : memref<?x?x?x16xf16>)
      {delta_known, indexing_maps = #maps, fa.schedule = #schedule}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]
#schedule = #fa.schedule<tile_m = 8, tile_n = 4, plan = #tile.plan<chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>
func.func @delta_and_gradient(%q: memref<?x16xf32>, %lse: memref<?xf32>, %scale: f32) {
  // expected-error @+1 {{computes delta and a gradient; run fa-split-backward first}}
  fa.attention_backward ins(%q, %q, %q, %lse, %q : memref<?x16xf32>, memref<?x16xf32>, memref<?x16xf32>, memref<?xf32>, memref<?x16xf32>)
      o(%q : memref<?x16xf32>) scale(%scale : f32) delta(%lse : memref<?xf32>) d_q(%q : memref<?x16xf32>)
      {indexing_maps = #maps, fa.schedule = #schedule}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]
#schedule = #fa.schedule<tile_m = 8, tile_n = 4, plan = #tile.plan<chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>
func.func @no_derivative(%q: memref<?x16xf32>, %lse: memref<?xf32>, %scale: f32) {
  // expected-error @+1 {{has a score region and no derivative region; run fa-differentiate first}}
  fa.attention_backward ins(%q, %q, %q, %lse, %q : memref<?x16xf32>, memref<?x16xf32>, memref<?x16xf32>, memref<?xf32>, memref<?x16xf32>)
      scale(%scale : f32) delta(%lse : memref<?xf32>) d_q(%q : memref<?x16xf32>)
      {delta_known, indexing_maps = #maps, fa.schedule = #schedule}
      score {
      ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index):
        %t = math.tanh %s : f32
        fa.yield %t : f32
      }
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]
#schedule = #fa.schedule<tile_m = 8, tile_n = 4, plan = #tile.plan<chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>
func.func @two(%q: memref<?x16xf32>, %lse: memref<?xf32>, %scale: f32, %x: memref<?xf32>) {
  // expected-error @+1 {{computes the gradient of a capture and others; run fa-split-backward first}}
  fa.attention_backward ins(%q, %q, %q, %lse, %q : memref<?x16xf32>, memref<?x16xf32>, memref<?x16xf32>, memref<?xf32>, memref<?x16xf32>)
      scale(%scale : f32) captures(%x : memref<?xf32>) delta(%lse : memref<?xf32>) d_q(%q : memref<?x16xf32>) d_captures(%x : memref<?xf32>)
      {delta_known, indexing_maps = #maps, capture_maps = [affine_map<(b,h,m,n) -> (n)>], capture_grads = array<i64: 0>, fa.schedule = #schedule}
      score {
      ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index, %c: f32):
        %t = arith.addf %s, %c : f32
        fa.yield %t : f32
      } derivative {
      ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index, %c: f32, %ds: f32):
        fa.yield %ds, %ds : f32, f32
      }
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]
#schedule = #fa.schedule<tile_m = 8, tile_n = 4, plan = #tile.plan<chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>
func.func @origin(%q: memref<?x16xf32>, %lse: memref<?xf32>, %scale: f32, %x: memref<?xf32>, %i: index) {
  // expected-error @+1 {{has an origin and gradients of captures, which are sums over the whole problem; drop the origin}}
  fa.attention_backward ins(%q, %q, %q, %lse, %q : memref<?x16xf32>, memref<?x16xf32>, memref<?x16xf32>, memref<?xf32>, memref<?x16xf32>)
      scale(%scale : f32) origin(%i, %i, %i) captures(%x : memref<?xf32>) delta(%lse : memref<?xf32>) d_captures(%x : memref<?xf32>)
      {delta_known, indexing_maps = #maps, capture_maps = [affine_map<(b,h,m,n) -> (n)>], capture_grads = array<i64: 0>, fa.schedule = #schedule}
      score {
      ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index, %c: f32):
        %t = arith.addf %s, %c : f32
        fa.yield %t : f32
      } derivative {
      ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index, %c: f32, %ds: f32):
        fa.yield %ds, %ds : f32, f32
      }
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]
#schedule = #fa.schedule<tile_m = 8, tile_n = 4, plan = #tile.plan<chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>
func.func @not_differentiated(%q: memref<?x16xf32>, %lse: memref<?xf32>, %scale: f32, %x: memref<?xf32>) {
  // expected-error @+1 {{has gradients of captures and no derivative region; run fa-differentiate first}}
  fa.attention_backward ins(%q, %q, %q, %lse, %q : memref<?x16xf32>, memref<?x16xf32>, memref<?x16xf32>, memref<?xf32>, memref<?x16xf32>)
      scale(%scale : f32) captures(%x : memref<?xf32>) delta(%lse : memref<?xf32>) d_captures(%x : memref<?xf32>)
      {delta_known, indexing_maps = #maps, capture_maps = [affine_map<(b,h,m,n) -> (n)>], capture_grads = array<i64: 0>, fa.schedule = #schedule}
      score {
      ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index, %c: f32):
        %t = arith.addf %s, %c : f32
        fa.yield %t : f32
      }
  return
}
