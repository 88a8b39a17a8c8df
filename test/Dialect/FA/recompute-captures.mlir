// RUN: fa-opt %s -split-input-file -fa-recompute-softmax -canonicalize -cse | FileCheck %s

// One grid point owns each element of the gradient of a capture.

#maps = [affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>]
#schedule = #fa.schedule<tile_m = 8, tile_n = 4, plan = #tile.plan<chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>

// By head, row and key: a block of rows and keys in one head, summed over the batches.
// CHECK-DAG: #[[ROWS:.*]] = affine_map<()[s0] -> (s0 ceildiv 8)>
// CHECK-DAG: #[[KEYS:.*]] = affine_map<()[s0] -> (s0 ceildiv 4)>
// CHECK-DAG: #[[ROW:.*]] = affine_map<(d0) -> (d0 * 8)>
// CHECK-DAG: #[[KEY:.*]] = affine_map<(d0) -> (d0 * 4)>
// CHECK-LABEL: func.func @bias(
// CHECK-SAME: %[[Q:[a-z0-9]*]]: memref<?x?x?x16xf32>, {{.*}}, %[[G:[a-z0-9]*]]: memref<?x?x?xf32>)
// CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG: %[[C1:.*]] = arith.constant 1 : index
// CHECK-DAG: %[[C2:.*]] = arith.constant 2 : index
// CHECK-DAG: %[[NONE:.*]] = arith.constant dense<0.000000e+00> : tensor<8x4xf32>
// CHECK-DAG: %[[HEADS:.*]] = memref.dim %[[G]], %[[C0]]
// CHECK-DAG: %[[M:.*]] = memref.dim %[[G]], %[[C1]]
// CHECK-DAG: %[[N:.*]] = memref.dim %[[G]], %[[C2]]
// CHECK-DAG: %[[MB:.*]] = affine.apply #[[ROWS]]()[%[[M]]]
// CHECK-DAG: %[[NB:.*]] = affine.apply #[[KEYS]]()[%[[N]]]
// CHECK: scf.forall (%[[H:.*]], %[[I:.*]], %[[J:.*]]) in (%[[HEADS]], %[[MB]], %[[NB]]) {
// CHECK-DAG: %[[M0:.*]] = affine.apply #[[ROW]](%[[I]])
// CHECK-DAG: %[[N0:.*]] = affine.apply #[[KEY]](%[[J]])
// CHECK: %[[BATCH:.*]] = memref.dim %[[Q]], %[[C0]]
// CHECK: %[[SUM:.*]] = scf.for {{.*}} iter_args(%[[ACC:.*]] = %[[NONE]]) -> (tensor<8x4xf32>) {
// CHECK-NOT: scf.for
// CHECK: %[[P:.*]] = arith.select %{{.*}}, %{{.*}}, %[[NONE]]
// CHECK: %[[DS:.*]] = arith.mulf %[[P]]
// CHECK: %[[KEPT:.*]] = arith.select %{{.*}}, %[[DS]], %[[NONE]]
// CHECK: %[[DEAD:.*]] = arith.cmpf oeq, %[[P]], %[[NONE]]
// CHECK: %[[VALUE:.*]] = arith.select %[[DEAD]], %[[NONE]], %[[KEPT]]
// CHECK: %[[NEXT:.*]] = arith.addf %[[ACC]], %[[VALUE]]
// CHECK: scf.yield %[[NEXT]]
// CHECK: %[[VIEW:.*]] = memref.subview %[[G]][%[[H]], 0, 0] [1, %[[M]], %[[N]]]
// CHECK: tile.store %[[SUM]], %[[VIEW]][%[[M0]], %[[N0]]] : tensor<8x4xf32>
// CHECK: } {tile.plan = #tile.plan<chip = "cpu"
func.func @bias(%q: memref<?x?x?x16xf32>, %k: memref<?x?x?x16xf32>, %lse: memref<?x?x?xf32>, %scale: f32, %x: memref<?x?x?xf32>, %delta: memref<?x?x?xf32>, %g: memref<?x?x?xf32>) {
  fa.attention_backward ins(%q, %k, %k, %lse, %q : memref<?x?x?x16xf32>, memref<?x?x?x16xf32>, memref<?x?x?x16xf32>, memref<?x?x?xf32>, memref<?x?x?x16xf32>)
      scale(%scale : f32) captures(%x : memref<?x?x?xf32>) delta(%delta : memref<?x?x?xf32>) d_captures(%g : memref<?x?x?xf32>)
      {delta_known, indexing_maps = #maps, capture_maps = [affine_map<(b,h,m,n) -> (h, m, n)>], capture_grads = array<i64: 0>, fa.schedule = #schedule}
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

// By key: a loop over batches, heads and blocks of rows; one sum over rows, at the end.
// CHECK-LABEL: func.func @keys(
// CHECK-SAME: %[[G:[a-z0-9]*]]: memref<?xf32>)
// CHECK: scf.forall (%[[J:.*]]) in
// CHECK: %[[N0:.*]] = affine.apply #[[KEY]](%[[J]])
// CHECK: %[[SUM:.*]] = scf.for {{.*}} -> (tensor<8x4xf32>) {
// CHECK-NOT: tile.reduce
// CHECK: scf.yield
// CHECK: %[[KEYS:.*]] = tile.reduce add %[[SUM]] dim 0 : tensor<8x4xf32> -> tensor<4xf32>
// CHECK: tile.store %[[KEYS]], %{{.*}}[%[[N0]]] : tensor<4xf32>
func.func @keys(%q: memref<?x?x?x16xf32>, %k: memref<?x?x?x16xf32>, %lse: memref<?x?x?xf32>, %scale: f32, %x: memref<?xf32>, %delta: memref<?x?x?xf32>, %g: memref<?xf32>) {
  fa.attention_backward ins(%q, %k, %k, %lse, %q : memref<?x?x?x16xf32>, memref<?x?x?x16xf32>, memref<?x?x?x16xf32>, memref<?x?x?xf32>, memref<?x?x?x16xf32>)
      scale(%scale : f32) captures(%x : memref<?xf32>) delta(%delta : memref<?x?x?xf32>) d_captures(%g : memref<?xf32>)
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

// A table: eight entries a grid point. Keys are walked where the index, clamped, may be
// one of them: the loop's bounds depend on them.
// CHECK-LABEL: func.func @table(
// CHECK-SAME: %[[G:[a-z0-9]*]]: memref<?xf32>)
// CHECK-DAG: %[[C1:.*]] = arith.constant 1 : index
// CHECK-DAG: %[[ZEROS:.*]] = arith.constant dense<0.000000e+00> : tensor<8xf32>
// CHECK-DAG: %[[NONE:.*]] = arith.constant dense<0.000000e+00> : tensor<8x4xf32>
// CHECK-DAG: %[[NUMBER:.*]] = arith.constant dense<7> : tensor<8x4xi32>
// CHECK: scf.forall (%[[I:.*]]) in
// CHECK: %[[T0:.*]] = affine.apply #[[ROW]](%[[I]])
// CHECK: %[[SUMS:.*]]:8 = scf.for {{.*}} iter_args({{.*}} = %[[ZEROS]]
// CHECK: scf.for %{{.*}} = %[[FIRST:.*]] to %[[END:.*]] step %[[C1]]
// CHECK: %[[LOW:.*]] = arith.minsi %{{.*}} : tensor<8x4xi32>
// CHECK: %[[CLAMPED:.*]] = arith.maxsi %[[LOW]], %{{.*}} : tensor<8x4xi32>
// CHECK: %[[ENTRY:.*]] = arith.subi %[[CLAMPED]], %{{.*}} : tensor<8x4xi32>
// CHECK: %[[HERE:.*]] = arith.cmpi eq, %[[ENTRY]], %[[NUMBER]] : tensor<8x4xi32>
// CHECK: %[[MINE:.*]] = arith.select %[[HERE]], %{{.*}}, %[[NONE]]
// CHECK: tile.reduce add %[[MINE]] dim 1 : tensor<8x4xf32> -> tensor<8xf32>
// CHECK: tile.broadcast %[[SUMS]]#7 dim 1 : tensor<8xf32> -> tensor<8x8xf32>
// CHECK: %[[ENTRIES:.*]] = tile.reduce add %{{.*}} dim 0 : tensor<8x8xf32> -> tensor<8xf32>
// CHECK: tile.store %[[ENTRIES]], %{{.*}}[%[[T0]]] : tensor<8xf32>
func.func @table(%q: memref<?x?x?x16xf32>, %k: memref<?x?x?x16xf32>, %lse: memref<?x?x?xf32>, %scale: f32, %x: memref<?xf32>, %delta: memref<?x?x?xf32>, %g: memref<?xf32>) {
  fa.attention_backward ins(%q, %k, %k, %lse, %q : memref<?x?x?x16xf32>, memref<?x?x?x16xf32>, memref<?x?x?x16xf32>, memref<?x?x?xf32>, memref<?x?x?x16xf32>)
      scale(%scale : f32) captures(%x : memref<?xf32>) delta(%delta : memref<?x?x?xf32>) d_captures(%g : memref<?xf32>)
      {delta_known, indexing_maps = #maps, capture_maps = [unit], capture_grads = array<i64: 0>, fa.schedule = #schedule}
      score {
      ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index, %c: memref<?xf32>):
        %i = arith.subi %m, %n : index
        %y = fa.gather %c[%i] : memref<?xf32> -> f32
        %t = arith.addf %s, %y : f32
        fa.yield %t : f32
      } derivative {
      ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index, %c: memref<?xf32>, %ds: f32):
        %i = arith.subi %m, %n : index
        fa.accumulate %ds into 0[%i] : f32
        fa.yield %ds : f32
      }
  return
}
