// RUN: fa-opt %s -split-input-file -verify-diagnostics -fa-tile -canonicalize -cse | FileCheck %s

#maps = [affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>]
#schedule = #fa.schedule<tile_m = 128, tile_n = 64, plan = #tile.plan<chip = "sm_80",
  mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 2>>
!t = memref<?x?x?x64xf16, strided<[?,?,?,1], offset: ?>>
!l = memref<?x?x?xf32, strided<[?,?,1], offset: ?>>

// CHECK-DAG: #[[CEIL:.*]] = affine_map<()[s0] -> (s0 ceildiv 128)>
// CHECK-DAG: #[[ROW:.*]] = affine_map<(d0) -> (d0 * 128)>
// CHECK-DAG: #[[LEFT:.*]] = affine_map<(d0)[s0] -> (d0 * -128 + s0, 128)>

// The grid is (batch, query heads, blocks of 128 rows); the subviews span the
// whole extent of their operand, the windows begin at the block's first row;
// grouped heads.
// CHECK-LABEL: func.func @gqa(
// CHECK-SAME: %[[Q:[a-z0-9]*]]: memref{{.*}}, %[[K:[a-z0-9]*]]: memref{{.*}}, %[[V:[a-z0-9]*]]: memref{{.*}}, %{{[a-z0-9]*}}: f32, %[[O:[a-z0-9]*]]: memref{{.*}}, %[[LSE:[a-z0-9]*]]: memref
// CHECK-SAME: tile.plan = #tile.plan<chip = "sm_80"
// CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG: %[[C1:.*]] = arith.constant 1 : index
// CHECK-DAG: %[[C2:.*]] = arith.constant 2 : index
// CHECK-DAG: %[[LQ:.*]] = memref.dim %[[Q]], %[[C1]]
// CHECK-DAG: %[[LK:.*]] = memref.dim %[[K]], %[[C1]]
// CHECK-DAG: %[[BLOCKS:.*]] = affine.apply #[[CEIL]]()[%[[LQ]]]
// CHECK-DAG: %[[B:.*]] = memref.dim %[[Q]], %[[C0]]
// CHECK-DAG: %[[H:.*]] = memref.dim %[[Q]], %[[C2]]
// CHECK: scf.forall (%[[BI:.*]], %[[HI:.*]], %[[I:.*]]) in (%[[B]], %[[H]], %[[BLOCKS]]) {
// CHECK: %[[HK:.*]] = memref.dim %[[K]], %[[C2]]
// CHECK: %[[G:.*]] = arith.divui %[[H]], %[[HK]]
// CHECK: %[[KH:.*]] = arith.divui %[[HI]], %[[G]]
// CHECK: %[[M0:.*]] = affine.apply #[[ROW]](%[[I]])
// CHECK: %[[ROWS:.*]] = affine.min #[[LEFT]](%[[I]])[%[[LQ]]]
// CHECK: %[[QS:.*]] = memref.subview %[[Q]][%[[BI]], 0, %[[HI]], 0] [1, %[[LQ]], 1, 64] [1, 1, 1, 1]
// CHECK: %[[QW:.*]] = memref.subview %[[QS]][%[[M0]], 0] [%[[ROWS]], 64] [1, 1]
// CHECK: %[[KS:.*]] = memref.subview %[[K]][%[[BI]], 0, %[[KH]], 0] [1, %[[LK]], 1, 64] [1, 1, 1, 1]
// CHECK: %[[LV:.*]] = memref.dim %[[V]], %[[C1]]
// CHECK: %[[VS:.*]] = memref.subview %[[V]][%[[BI]], 0, %[[KH]], 0] [1, %[[LV]], 1, 64] [1, 1, 1, 1]
// CHECK: %[[LO:.*]] = memref.dim %[[O]], %[[C1]]
// CHECK: %[[OS:.*]] = memref.subview %[[O]][%[[BI]], 0, %[[HI]], 0] [1, %[[LO]], 1, 64] [1, 1, 1, 1]
// CHECK: %[[OW:.*]] = memref.subview %[[OS]][%[[M0]], 0] [%[[ROWS]], 64] [1, 1]
// CHECK: %[[LL:.*]] = memref.dim %[[LSE]], %[[C2]]
// CHECK: %[[LS:.*]] = memref.subview %[[LSE]][%[[BI]], %[[HI]], 0] [1, 1, %[[LL]]] [1, 1, 1]
// CHECK: %[[LW:.*]] = memref.subview %[[LS]][%[[M0]]] [%[[ROWS]]] [1]
// CHECK: fa.attention ins(%[[QW]], %[[KS]], %[[VS]] :
// CHECK-SAME: origin(%[[BI]], %[[HI]], %[[M0]]) lengths(%[[LQ]], %[[LK]] : index, index)
// CHECK-SAME: outs(%[[OW]], %[[LW]] :
func.func @gqa(%q: !t, %k: !t, %v: !t, %scale: f32, %o: !t, %l: !l) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32) outs(%o, %l : !t, !l)
    {indexing_maps = #maps, fa.schedule = #schedule}
  return
}

// Lengths are read per batch and clamped to the extents; k and v end at lk.
// CHECK-LABEL: func.func @lengths(
// CHECK-SAME: %[[Q:[a-z0-9]*]]: memref<?x?x?x64{{.*}}, %[[K:[a-z0-9]*]]: memref<?x?x?x64{{.*}}, %{{[a-z0-9]*}}: memref<?x?x?x64{{.*}}, %{{[a-z0-9]*}}: f32, %[[QL:[a-z0-9]*]]: memref<?xi32>, %[[KL:[a-z0-9]*]]: memref<?xi32>
// CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG: %[[C1:.*]] = arith.constant 1 : index
// CHECK-DAG: %[[SQ:.*]] = memref.dim %[[Q]], %[[C1]]
// CHECK-DAG: %[[SK:.*]] = memref.dim %[[K]], %[[C1]]
// CHECK: scf.forall (%[[B:[a-z0-9]*]], %{{.*}}, %{{.*}})
// CHECK: %[[QI:.*]] = memref.load %[[QL]][%[[B]]]
// CHECK: %[[QX:.*]] = arith.index_cast %[[QI]] : i32 to index
// CHECK: %[[QP:.*]] = arith.maxsi %[[QX]], %[[C0]]
// CHECK: %[[LQ:.*]] = arith.minsi %[[QP]], %[[SQ]]
// CHECK: %[[KI:.*]] = memref.load %[[KL]][%[[B]]]
// CHECK: %[[KX:.*]] = arith.index_cast %[[KI]] : i32 to index
// CHECK: %[[KP:.*]] = arith.maxsi %[[KX]], %[[C0]]
// CHECK: %[[LK:.*]] = arith.minsi %[[KP]], %[[SK]]
// CHECK: memref.subview %[[Q]][{{.*}}] [1, %[[SQ]], 1, 64]
// CHECK: memref.subview %[[K]][{{.*}}] [1, %[[LK]], 1, 64]
// CHECK: lengths(%[[LQ]], %[[LK]] : index, index)
func.func @lengths(%q: !t, %k: !t, %v: !t, %scale: f32, %ql: memref<?xi32>, %kl: memref<?xi32>, %o: !t, %l: !l) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32)
    lengths(%ql, %kl : memref<?xi32>, memref<?xi32>) outs(%o, %l : !t, !l)
    {indexing_maps = #maps, fa.schedule = #schedule}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]

func.func @no_schedule(%q: memref<8x4xf32>, %s: f32, %l: memref<8xf32>) {
  // expected-error @+1 {{has no fa.schedule; run fa-select-schedule first}}
  fa.attention ins(%q, %q, %q : memref<8x4xf32>, memref<8x4xf32>, memref<8x4xf32>) scale(%s : f32)
    outs(%q, %l : memref<8x4xf32>, memref<8xf32>) {indexing_maps = #maps}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]

func.func @tensors(%q: tensor<8x4xf32>, %s: f32, %l: tensor<8xf32>) -> tensor<8x4xf32> {
  // expected-error @+1 {{is on tensors; run one-shot-bufferize first}}
  %r:2 = fa.attention ins(%q, %q, %q : tensor<8x4xf32>, tensor<8x4xf32>, tensor<8x4xf32>) scale(%s : f32)
    outs(%q, %l : tensor<8x4xf32>, tensor<8xf32>) {indexing_maps = #maps,
    fa.schedule = #fa.schedule<tile_m = 8, tile_n = 8, plan = #tile.plan<chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>}
    -> tensor<8x4xf32>, tensor<8xf32>
  return %r#0 : tensor<8x4xf32>
}
