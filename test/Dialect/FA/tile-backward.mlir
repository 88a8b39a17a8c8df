// RUN: fa-opt %s -split-input-file -verify-diagnostics -fa-tile -canonicalize -cse | FileCheck %s

#maps = [affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>]
#plan = #tile.plan<chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>

// Gradients of keys: blocks of tile_n keys of a key head. The windows of what has rows
// hold all rows of all query heads of the group; lengths are read and clamped. Blocks
// are counted from the end.
// CHECK-DAG: #[[FIRST:.*]] = affine_map<(d0)[s0] -> (d0 * -4 + (s0 ceildiv 4) * 4 - 4)>
// CHECK-DAG: #[[Q_MAP:.*]] = affine_map<(d0, d1, d2, d3, d4, d5) -> (d2, d1, d4)>
// CHECK-DAG: #[[K_MAP:.*]] = affine_map<(d0, d1, d2, d3, d4, d5) -> (d3, d4)>
// CHECK-DAG: #[[V_MAP:.*]] = affine_map<(d0, d1, d2, d3, d4, d5) -> (d3, d5)>
// CHECK-DAG: #[[O_MAP:.*]] = affine_map<(d0, d1, d2, d3, d4, d5) -> (d2, d1, d5)>
// CHECK-DAG: #[[LSE_MAP:.*]] = affine_map<(d0, d1, d2, d3, d4, d5) -> (d1, d2)>
// CHECK-LABEL: func.func @keys(
// CHECK-SAME: %[[Q:[a-z0-9]*]]: memref<?x?x?x16xf32>, %[[K:[a-z0-9]*]]: memref<?x?x?x16xf32>, %[[V:[a-z0-9]*]]: memref<?x?x?x8xf32>, %[[LSE:[a-z0-9]*]]: memref<?x?x?xf32>, %[[DO:[a-z0-9]*]]: memref<?x?x?x8xf32>, %{{[a-z0-9]*}}: f32, %[[QL:[a-z0-9]*]]: memref<?xi32>, %[[KL:[a-z0-9]*]]: memref<?xi32>, %[[DELTA:[a-z0-9]*]]: memref<?x?x?xf32>, %[[DK:[a-z0-9]*]]: memref<?x?x?x16xf32>, %[[DV:[a-z0-9]*]]: memref<?x?x?x8xf32>)
// CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG: %[[ROWS:.*]] = memref.dim %[[Q]], %c1
// CHECK-DAG: %[[KEYS:.*]] = memref.dim %[[K]], %c1
// CHECK-DAG: %[[KEY_HEADS:.*]] = memref.dim %[[K]], %c2
// CHECK: scf.forall (%[[B:.*]], %[[H:.*]], %[[J:.*]]) in (%{{.*}}, %[[KEY_HEADS]], %{{.*}}) {
// CHECK: %[[N0:.*]] = affine.apply #[[FIRST]](%[[J]])[%[[KEYS]]]
// CHECK: %[[COUNT:.*]] = affine.min
// CHECK: %[[HEADS:.*]] = memref.dim %[[Q]], %c2
// CHECK: %[[GROUP:.*]] = arith.divui %[[HEADS]], %[[KEY_HEADS]]
// CHECK: %[[H0:.*]] = arith.muli %[[H]], %[[GROUP]]
// CHECK: memref.load %[[QL]][%[[B]]]
// CHECK: %[[LQ:.*]] = arith.minsi %{{.*}}, %[[ROWS]]
// CHECK: memref.load %[[KL]][%[[B]]]
// CHECK: %[[LK:.*]] = arith.minsi %{{.*}}, %[[KEYS]]
// CHECK: %[[QB:.*]] = memref.subview %[[Q]][%[[B]], 0, 0, 0] [1, %[[ROWS]], %[[HEADS]], 16] [1, 1, 1, 1]
// CHECK: %[[QW:.*]] = memref.subview %[[QB]][0, %[[H0]], 0] [%[[ROWS]], %[[GROUP]], 16] [1, 1, 1]
// CHECK: %[[KB:.*]] = memref.subview %[[K]][%[[B]], 0, %[[H]], 0] [1, %[[KEYS]], 1, 16] [1, 1, 1, 1]
// CHECK: %[[KW:.*]] = memref.subview %[[KB]][%[[N0]], 0] [%[[COUNT]], 16] [1, 1]
// CHECK: %[[VB:.*]] = memref.subview %[[V]][%[[B]], 0, %[[H]], 0]
// CHECK: %[[VW:.*]] = memref.subview %[[VB]][%[[N0]], 0] [%[[COUNT]], 8] [1, 1]
// CHECK: %[[LSEB:.*]] = memref.subview %[[LSE]][%[[B]], 0, 0]
// CHECK: %[[LSEW:.*]] = memref.subview %[[LSEB]][%[[H0]], 0] [%[[GROUP]], %{{.*}}] [1, 1]
// CHECK: %[[DOB:.*]] = memref.subview %[[DO]][%[[B]], 0, 0, 0]
// CHECK: %[[DOW:.*]] = memref.subview %[[DOB]][0, %[[H0]], 0] [%{{.*}}, %[[GROUP]], 8] [1, 1, 1]
// CHECK: %[[DELTAB:.*]] = memref.subview %[[DELTA]][%[[B]], 0, 0]
// CHECK: %[[DELTAW:.*]] = memref.subview %[[DELTAB]][%[[H0]], 0]
// CHECK: %[[DKB:.*]] = memref.subview %[[DK]][%[[B]], 0, %[[H]], 0]
// CHECK: %[[DKW:.*]] = memref.subview %[[DKB]][%[[N0]], 0] [%[[COUNT]], 16] [1, 1]
// CHECK: %[[DVB:.*]] = memref.subview %[[DV]][%[[B]], 0, %[[H]], 0]
// CHECK: %[[DVW:.*]] = memref.subview %[[DVB]][%[[N0]], 0] [%[[COUNT]], 8] [1, 1]
// CHECK: fa.attention_backward ins(%[[QW]], %[[KW]], %[[VW]], %[[LSEW]], %[[DOW]] :
// CHECK-SAME: origin(%[[B]], %[[H0]], %[[C0]], %[[N0]]) lengths(%[[LQ]], %[[LK]] : index, index)
// CHECK-SAME: delta(%[[DELTAW]] : {{.*}}) d_k(%[[DKW]] : {{.*}}) d_v(%[[DVW]] :
// CHECK-SAME: delta_known
// CHECK-SAME: indexing_maps = [#[[Q_MAP]], #[[K_MAP]], #[[V_MAP]], #[[O_MAP]], #[[LSE_MAP]]]
func.func @keys(%q: memref<?x?x?x16xf32>, %k: memref<?x?x?x16xf32>, %v: memref<?x?x?x8xf32>, %lse: memref<?x?x?xf32>,
    %do: memref<?x?x?x8xf32>, %scale: f32, %ql: memref<?xi32>, %kl: memref<?xi32>, %delta: memref<?x?x?xf32>, %dk: memref<?x?x?x16xf32>, %dv: memref<?x?x?x8xf32>) {
  fa.attention_backward ins(%q, %k, %v, %lse, %do : memref<?x?x?x16xf32>, memref<?x?x?x16xf32>, memref<?x?x?x8xf32>, memref<?x?x?xf32>, memref<?x?x?x8xf32>)
      scale(%scale : f32) lengths(%ql, %kl : memref<?xi32>, memref<?xi32>)
      mask <affine_set<(b,h,m,n)[lq,lk] : (m + lk - lq - n >= 0)>>
      delta(%delta : memref<?x?x?xf32>) d_k(%dk : memref<?x?x?x16xf32>) d_v(%dv : memref<?x?x?x8xf32>)
      {delta_known, indexing_maps = #maps, fa.schedule = #fa.schedule<tile_m = 8, tile_n = 4, plan = #plan>}
  return
}

// One query head per key head: no window of heads.
// CHECK-LABEL: func.func @no_group(
// CHECK: scf.forall (%[[B:.*]], %[[H:.*]], %{{.*}}) in (2, 3, 5) {
// CHECK: memref.subview %{{.*}}[%[[B]], 0, %[[H]], 0] [1, 9, 1, 16] [1, 1, 1, 1]
// CHECK: fa.attention_backward {{.*}} origin(%[[B]], %[[H]], %c0, %{{.*}}) lengths(%c9, %c17 : index, index)
func.func @no_group(%q: memref<2x9x3x16xf32>, %k: memref<2x17x3x16xf32>, %lse: memref<2x3x9xf32>, %scale: f32, %dk: memref<2x17x3x16xf32>) {
  fa.attention_backward ins(%q, %k, %k, %lse, %q : memref<2x9x3x16xf32>, memref<2x17x3x16xf32>, memref<2x17x3x16xf32>, memref<2x3x9xf32>, memref<2x9x3x16xf32>)
      scale(%scale : f32) delta(%lse : memref<2x3x9xf32>) d_k(%dk : memref<2x17x3x16xf32>)
      {delta_known, fa.schedule = #fa.schedule<tile_m = 8, tile_n = 4, plan = #plan>,
       indexing_maps = [affine_map<(b,h,m,n,d,e) -> (b, m, h, d)>, affine_map<(b,h,m,n,d,e) -> (b, n, h, d)>,
         affine_map<(b,h,m,n,d,e) -> (b, n, h, e)>, affine_map<(b,h,m,n,d,e) -> (b, m, h, e)>, affine_map<(b,h,m,n,d,e) -> (b, h, m)>]}
  return
}

// A sequential schedule: one grid point per batch and key head, its blocks from the
// first to the last.
// CHECK-LABEL: func.func @in_order(
// CHECK: scf.forall (%[[B:.*]], %[[H:.*]]) in (2, 3) {
// CHECK: scf.for %[[J:.*]] = %c0 to %c5 step %c1 {
// CHECK: %[[N0:.*]] = affine.apply #{{.*}}(%[[J]])
// CHECK: fa.attention_backward {{.*}} origin(%[[B]], %[[H]], %c0, %[[N0]]) lengths(%c9, %c17 : index, index)
func.func @in_order(%q: memref<2x9x3x16xf32>, %k: memref<2x17x3x16xf32>, %lse: memref<2x3x9xf32>, %scale: f32, %dk: memref<2x17x3x16xf32>) {
  fa.attention_backward ins(%q, %k, %k, %lse, %q : memref<2x9x3x16xf32>, memref<2x17x3x16xf32>, memref<2x17x3x16xf32>, memref<2x3x9xf32>, memref<2x9x3x16xf32>)
      scale(%scale : f32) delta(%lse : memref<2x3x9xf32>) d_k(%dk : memref<2x17x3x16xf32>)
      {delta_known, fa.schedule = #fa.schedule<tile_m = 8, tile_n = 4, plan = #plan, sequential = true>,
       indexing_maps = [affine_map<(b,h,m,n,d,e) -> (b, m, h, d)>, affine_map<(b,h,m,n,d,e) -> (b, n, h, d)>,
         affine_map<(b,h,m,n,d,e) -> (b, n, h, e)>, affine_map<(b,h,m,n,d,e) -> (b, m, h, e)>, affine_map<(b,h,m,n,d,e) -> (b, h, m)>]}
  return
}

// Gradients of rows, and delta, are tiled like the forward. In a function with several
// loops, each has its plan.
// CHECK-LABEL: func.func @rows(
// CHECK-SAME: %[[DELTA:[a-z0-9]*]]: memref<?x?x?xf32>, %[[DQ:[a-z0-9]*]]: memref<?x?x?x16xf32>) {
// CHECK: scf.forall (%[[B:.*]], %[[H:.*]], %[[I:.*]]) in
// CHECK: %[[M0:.*]] = affine.apply #{{.*}}(%[[I]])
// CHECK: %[[DELTAB:.*]] = memref.subview %[[DELTA]][%[[B]], %[[H]], 0] [1, 1, %{{.*}}]
// CHECK: %[[DELTAW:.*]] = memref.subview %[[DELTAB]][%[[M0]]]
// CHECK: fa.attention_backward {{.*}} o({{.*}}) {{.*}} origin(%[[B]], %[[H]], %[[M0]]) {{.*}} delta(%[[DELTAW]] :
// CHECK: } {tile.plan = #tile.plan<chip = "cpu"
// CHECK: scf.forall (%[[B2:.*]], %[[H2:.*]], %[[I2:.*]]) in
// CHECK: %[[M2:.*]] = affine.apply #{{.*}}(%[[I2]])
// CHECK: %[[DQB:.*]] = memref.subview %[[DQ]][%[[B2]], 0, %[[H2]], 0] [1, %{{.*}}, 1, 16]
// CHECK: %[[DQW:.*]] = memref.subview %[[DQB]][%[[M2]], 0] [%{{.*}}, 16] [1, 1]
// CHECK: fa.attention_backward {{.*}} origin(%[[B2]], %[[H2]], %[[M2]]) {{.*}} d_q(%[[DQW]] : {{.*}}) {delta_known
// CHECK: } {tile.plan = #tile.plan<chip = "cpu"
func.func @rows(%q: memref<?x?x?x16xf32>, %lse: memref<?x?x?xf32>, %scale: f32, %delta: memref<?x?x?xf32>, %dq: memref<?x?x?x16xf32>) {
  fa.attention_backward ins(%q, %q, %q, %lse, %q : memref<?x?x?x16xf32>, memref<?x?x?x16xf32>, memref<?x?x?x16xf32>, memref<?x?x?xf32>, memref<?x?x?x16xf32>)
      o(%q : memref<?x?x?x16xf32>) scale(%scale : f32) delta(%delta : memref<?x?x?xf32>)
      {indexing_maps = #maps, fa.schedule = #fa.schedule<tile_m = 8, tile_n = 4, plan = #plan>}
  fa.attention_backward ins(%q, %q, %q, %lse, %q : memref<?x?x?x16xf32>, memref<?x?x?x16xf32>, memref<?x?x?x16xf32>, memref<?x?x?xf32>, memref<?x?x?x16xf32>)
      scale(%scale : f32) delta(%delta : memref<?x?x?xf32>) d_q(%dq : memref<?x?x?x16xf32>)
      {delta_known, indexing_maps = #maps, fa.schedule = #fa.schedule<tile_m = 8, tile_n = 4, plan = #plan>}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]
#plan = #tile.plan<chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>
func.func @rows_and_keys(%q: memref<?x16xf32>, %lse: memref<?xf32>, %scale: f32) {
  // expected-error @+1 {{computes what belongs to rows and gradients of keys; run fa-split-backward first}}
  fa.attention_backward ins(%q, %q, %q, %lse, %q : memref<?x16xf32>, memref<?x16xf32>, memref<?x16xf32>, memref<?xf32>, memref<?x16xf32>)
      scale(%scale : f32) delta(%lse : memref<?xf32>) d_q(%q : memref<?x16xf32>) d_k(%q : memref<?x16xf32>)
      {delta_known, indexing_maps = #maps, fa.schedule = #fa.schedule<tile_m = 8, tile_n = 4, plan = #plan>}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]
#plan = #tile.plan<chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>
func.func @window_of_keys(%q: memref<?x16xf32>, %lse: memref<?xf32>, %scale: f32, %i: index) {
  // expected-error @+1 {{has an origin and gradients of keys, which are tiled as a whole problem; tile before it is cut}}
  fa.attention_backward ins(%q, %q, %q, %lse, %q : memref<?x16xf32>, memref<?x16xf32>, memref<?x16xf32>, memref<?xf32>, memref<?x16xf32>)
      scale(%scale : f32) origin(%i, %i, %i) delta(%lse : memref<?xf32>) d_k(%q : memref<?x16xf32>)
      {delta_known, indexing_maps = #maps, fa.schedule = #fa.schedule<tile_m = 8, tile_n = 4, plan = #plan>}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]
func.func @no_schedule(%q: memref<?x16xf32>, %lse: memref<?xf32>, %scale: f32) {
  // expected-error @+1 {{has no fa.schedule; run fa-select-schedule first}}
  fa.attention_backward ins(%q, %q, %q, %lse, %q : memref<?x16xf32>, memref<?x16xf32>, memref<?x16xf32>, memref<?xf32>, memref<?x16xf32>)
      scale(%scale : f32) delta(%lse : memref<?xf32>) d_k(%q : memref<?x16xf32>) {delta_known, indexing_maps = #maps}
  return
}
