// RUN: fa-opt %s -fa-tile -canonicalize -cse -fa-online-softmax -cse | FileCheck %s

#maps = [affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>]
#schedule = #fa.schedule<tile_m = 16, tile_n = 64, plan = #tile.plan<chip = "sm_80",
  mma = "mma_sync", copy = "cp_async", warps = 1, producers = 0, stages = 1>, packed = true>
#causal = affine_set<(b,h,m,n)[lq,lk] : (m + lk - lq - n >= 0)>
!t = memref<?x?x?x64xf16, strided<[?,?,?,1], offset: ?>>
!l = memref<?x?x?xf32, strided<[?,?,1], offset: ?>>

// Row r of a tile is position r / heads and head r mod heads of the window.
// CHECK-LABEL: func.func @packed(
// CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG: %[[C1:.*]] = arith.constant 1 : index
// CHECK: scf.forall
// CHECK: %[[M0:.*]] = arith.muli
// CHECK: %[[Q:.*]] = memref.subview %{{.*}}[%[[M0]], %[[H0:.*]], 0] [%[[ROWS:.*]], %[[HEADS:.*]], 64] [1, 1, 1]
// CHECK: %[[O:.*]] = memref.subview %{{.*}}[%[[M0]], %[[H0]], 0] [%[[ROWS]], %[[HEADS]], 64] [1, 1, 1]
// CHECK: %[[LSE:.*]] = memref.subview %{{.*}}[%[[H0]], %[[M0]]] [%[[HEADS]], %[[ROWS]]] [1, 1]
// CHECK: %[[COUNT:.*]] = memref.dim %[[Q]], %[[C1]]
// CHECK: %[[R:.*]] = tile.iota dim 0 : tensor<16xi32>
// CHECK: %[[COUNT32:.*]] = arith.index_cast %[[COUNT]] : index to i32
// CHECK: %[[G:.*]] = tile.splat %[[COUNT32]]
// CHECK: %[[POSITION:.*]] = arith.divui %[[R]], %[[G]]
// CHECK: %[[HEAD:.*]] = arith.remui %[[R]], %[[G]]
// CHECK: %[[QT:.*]] = tile.load %[[Q]][%[[C0]], %[[C0]]] merged [0, 1] : memref<?x?x64xf16, {{.*}}> -> tensor<16x64xf16>
// The score region's head and row.
// CHECK: %[[H32:.*]] = arith.index_cast %[[H0]] : index to i32
// CHECK: %[[HS:.*]] = tile.splat %[[H32]]
// CHECK: %[[HR:.*]] = arith.addi %[[HS]], %[[HEAD]]
// CHECK: tile.broadcast %[[HR]] dim 1
// CHECK: %[[M32:.*]] = arith.index_cast %[[M0]] : index to i32
// CHECK: %[[MS:.*]] = tile.splat %[[M32]]
// CHECK: %[[MR:.*]] = arith.addi %[[MS]], %[[POSITION]]
// CHECK: tile.broadcast %[[MR]] dim 1
// The mask's last column of each row.
// CHECK: %[[LAST:.*]] = arith.addi %{{.*}}, %[[POSITION]] : tensor<16xi32>
// CHECK: %[[BOUND:.*]] = tile.broadcast %[[LAST]] dim 1
// CHECK: scf.for
// CHECK: tile.contract %[[QT]],
// CHECK: arith.cmpi sle, %{{.*}}, %[[BOUND]]
// CHECK: tile.store %{{.*}}, %[[O]][%[[C0]], %[[C0]]] merged [0, 1] : tensor<16x64xf16>
// CHECK: tile.store %{{.*}}, %[[LSE]][%[[C0]]] merged [1, 0] : tensor<16xf32>
func.func @packed(%q: !t, %k: !t, %v: !t, %scale: f32, %o: !t, %l: !l) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32) mask <#causal> outs(%o, %l : !t, !l)
    {indexing_maps = #maps, fa.schedule = #schedule}
    score {
    ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index):
      %hi = arith.index_cast %h : index to i32
      %mi = arith.index_cast %m : index to i32
      %x = arith.muli %hi, %mi : i32
      %f = arith.sitofp %x : i32 to f32
      %y = arith.addf %s, %f : f32
      fa.yield %y : f32
    }
  return
}
