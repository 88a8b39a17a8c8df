// A tile whose rows all lie behind the length reads behind the memory: zeros, without
// traffic. Without lengths there is no such tile.
// RUN: fa-opt %s -fa-tile -canonicalize -cse -fa-online-softmax -canonicalize -cse | FileCheck %s

#maps = [affine_map<(b,h,m,n,d,e) -> (b, m, h, d)>, affine_map<(b,h,m,n,d,e) -> (b, n, h, d)>,
         affine_map<(b,h,m,n,d,e) -> (b, n, h, e)>, affine_map<(b,h,m,n,d,e) -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e) -> (b, h, m)>]
#gpu = #fa.schedule<tile_m = 128, tile_n = 64, plan = #tile.plan<chip = "sm_80",
  mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 2>>
!t = memref<?x?x?x64xf16, strided<[?,?,?,1], offset: ?>>
!l = memref<?x?x?xf32, strided<[?,?,1], offset: ?>>

// CHECK-DAG: #[[START:.*]] = affine_map<(d0) -> (d0 * 128)>
// CHECK-LABEL: func.func @lengths(
// CHECK-SAME: %[[Q:[a-z0-9]*]]: memref{{.*}}, %{{.*}}: f32, %[[LENGTHS:[a-z0-9]*]]: memref<?xi32>
// CHECK: %[[ROWS:.*]] = memref.dim %[[Q]], %{{.*}}
// CHECK: scf.forall (%[[B:[a-z0-9]*]], %{{.*}}, %[[I:[a-z0-9]*]]) in
// CHECK: %[[M0:.*]] = affine.apply #[[START]](%[[I]])
// CHECK: %[[N:.*]] = memref.load %[[LENGTHS]][%[[B]]]
// CHECK: %[[INDEX:.*]] = arith.index_cast %[[N]] : i32 to index
// CHECK: %[[LOW:.*]] = arith.maxsi %[[INDEX]], %{{.*}}
// CHECK: %[[LQ:.*]] = arith.minsi %[[LOW]], %[[ROWS]]
// CHECK: %[[EXISTS:.*]] = arith.cmpi slt, %[[M0]], %[[LQ]] : index
// CHECK: %[[FIRST:.*]] = arith.select %[[EXISTS]], %[[M0]], %[[ROWS]] : index
// CHECK: tile.load %{{.*}}[%[[FIRST]], %{{.*}}] {{.*}} -> tensor<128x64xf16>
func.func @lengths(%q: !t, %s: f32, %n: memref<?xi32>, %o: !t, %l: !l) {
  fa.attention ins(%q, %q, %q : !t, !t, !t) scale(%s : f32) lengths(%n, %n : memref<?xi32>, memref<?xi32>)
    outs(%o, %l : !t, !l) {indexing_maps = #maps, fa.schedule = #gpu}
  return
}

// CHECK-LABEL: func.func @no_lengths(
// CHECK: %[[M0:.*]] = affine.apply #[[START]](%{{.*}})
// CHECK-NOT: arith.select
// CHECK: tile.load %{{.*}}[%[[M0]], %{{.*}}] {{.*}} -> tensor<128x64xf16>
func.func @no_lengths(%q: !t, %s: f32, %o: !t, %l: !l) {
  fa.attention ins(%q, %q, %q : !t, !t, !t) scale(%s : f32)
    outs(%o, %l : !t, !l) {indexing_maps = #maps, fa.schedule = #gpu}
  return
}
