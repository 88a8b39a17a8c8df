// Tiles whose rows, or keys, all lie behind a length are read and cleared behind the
// memory: no traffic for what does not exist. Its gradients are stored: zeros.
// RUN: fa-opt %s -fa-tile -fa-recompute-softmax -canonicalize -cse | FileCheck %s

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]
#schedule = #fa.schedule<tile_m = 8, tile_n = 4, plan = #tile.plan<chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>
!t = memref<?x16xf32>
!v = memref<?xf32>
!n = memref<?xi32>

// CHECK-LABEL: func.func @delta(
// CHECK-SAME: %[[Q:[a-z0-9]*]]: memref<?x16xf32>, %{{.*}}: memref<?xi32>, %[[SUM:[a-z0-9]*]]: memref<?x16xf32>
// CHECK: %[[ROWS:.*]] = memref.dim %[[Q]], %c0
// CHECK: scf.forall
// CHECK: %[[LQ:.*]] = arith.minsi %{{.*}}, %[[ROWS]] : index
// CHECK: %[[SUMS:.*]] = memref.dim %[[SUM]], %c0
// CHECK: %[[EXISTS:.*]] = arith.cmpi slt, %[[M0:.*]], %[[LQ]] : index
// CHECK: %[[FIRST:.*]] = arith.select %[[EXISTS]], %[[M0]], %[[ROWS]] : index
// CHECK: tile.load %{{.*}}[%[[FIRST]], %c0] {{.*}} -> tensor<8x16xf32>
// CHECK: tile.store %{{.*}}, %{{.*}}[%[[M0]]] : tensor<8xf32>
// CHECK: %[[CLEARED:.*]] = arith.select %[[EXISTS]], %[[M0]], %[[SUMS]] : index
// CHECK: tile.store %{{.*}}, %{{.*}}[%[[CLEARED]], %c0] : tensor<8x16xf32>
func.func @delta(%q: !t, %n: !n, %sum: !t, %lse: !v, %scale: f32, %delta: !v) {
  fa.attention_backward ins(%q, %q, %q, %lse, %q : !t, !t, !t, !v, !t) o(%q : !t) scale(%scale : f32)
      lengths(%n, %n : !n, !n) delta(%delta : !v) d_q_sum(%sum : !t) {indexing_maps = #maps, fa.schedule = #schedule}
  return
}

// CHECK-LABEL: func.func @keys(
// CHECK-SAME: %[[Q:[a-z0-9]*]]: memref<?x16xf32>, %{{.*}}: memref<?xi32>
// CHECK: %[[KEYS:.*]] = memref.dim %[[Q]], %c0
// CHECK: %[[LK:.*]] = arith.minsi %{{.*}}, %[[KEYS]] : index
// CHECK: %[[EXISTS:.*]] = arith.cmpi slt, %[[N0:.*]], %[[LK]] : index
// CHECK: %[[FIRST:.*]] = arith.select %[[EXISTS]], %[[N0]], %[[KEYS]] : index
// CHECK: tile.load %{{.*}}[%[[FIRST]], %c0] {{.*}} -> tensor<4x16xf32>
// CHECK: scf.for
// CHECK: tile.store %{{.*}}[%[[N0]], %c0] : tensor<4x16xf32>
func.func @keys(%q: !t, %n: !n, %dk: !t, %lse: !v, %scale: f32, %delta: !v) {
  fa.attention_backward ins(%q, %q, %q, %lse, %q : !t, !t, !t, !v, !t) scale(%scale : f32)
      lengths(%n, %n : !n, !n) delta(%delta : !v) d_k(%dk : !t) {delta_known, indexing_maps = #maps, fa.schedule = #schedule}
  return
}
