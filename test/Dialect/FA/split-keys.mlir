// RUN: fa-opt %s -split-input-file -verify-diagnostics -fa-split-keys -canonicalize -cse | FileCheck %s

#maps = [affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>]
!t = memref<?x?x?x64xf16, strided<[?,?,?,1], offset: ?>>
!l = memref<?x?x?xf32, strided<[?,?,1], offset: ?>>
!tp = memref<?x?x?x?x64xf32, strided<[?,?,?,?,1], offset: ?>>
!lp = memref<?x?x?x?xf32, strided<[?,?,?,1], offset: ?>>

// CHECK-DAG: #[[BLOCKS:.*]] = affine_map<()[s0] -> (s0 ceildiv 64)>
// CHECK-DAG: #[[SUM:.*]] = affine_map<()[s0, s1] -> (s0 + s1 - 1)>
// CHECK-DAG: #[[SIZE:.*]] = affine_map<()[s0] -> (s0 * 64)>
// CHECK-DAG: #[[OP:.*]] = affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d3, d2, d4)>
// CHECK-DAG: #[[LP:.*]] = affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2, d3)>
// CHECK-DAG: #[[O:.*]] = affine_map<(d0, d1, d2, d3, d4) -> (d1, d3, d2, d4)>
// CHECK-DAG: #[[L:.*]] = affine_map<(d0, d1, d2, d3, d4) -> (d1, d2, d3)>
// CHECK-DAG: #[[LIVE:.*]] = affine_map<()[s0, s1, s2] -> (-s0 + s1 - s2, 0)>
// CHECK-DAG: #[[START:.*]] = affine_map<()[s0] -> ((s0 floordiv 64) * 64)>
// CHECK-DAG: #[[LEFT:.*]] = affine_map<()[s0, s1] -> ((s1 - (s0 floordiv 64) * 64) ceildiv 64)>
// CHECK-DAG: #[[PART:.*]] = affine_set<(d0, d1, d2, d3)[s0, s1, s2, s3] : (d3 - s2 >= 0, -d3 + s3 - 1 >= 0)>
// CHECK-DAG: #[[WINDOW:.*]] = affine_set<(d0, d1, d2, d3)[s0, s1, s2, s3, s4] : (d3 + s2 - d2 - s1 + s0 >= 0, d3 - s3 >= 0, -d3 + s4 - 1 >= 0)>

// Blocks of 64 keys are dealt out to as many parts as there is memory for; parts
// have -inf in dead rows, the whole has what was asked for.
// CHECK-LABEL: func.func @plain(
// CHECK-SAME: %[[Q:[a-z0-9]*]]: memref<?x?x?x64xf16{{.*}}, %[[K:[a-z0-9]*]]: memref<?x?x?x64xf16{{.*}}, %[[V:[a-z0-9]*]]: memref<?x?x?x64xf16{{.*}}, %[[SCALE:[a-z0-9]*]]: f32, %[[OA:[a-z0-9]*]]: memref<?x?x?x64xf16{{.*}}, %[[LA:[a-z0-9]*]]: memref<?x?x?xf32{{.*}}, %[[OPA:[a-z0-9]*]]: memref<?x?x?x?x64xf32{{.*}}, %[[LPA:[a-z0-9]*]]: memref<?x?x?x?xf32
// CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG: %[[C1:.*]] = arith.constant 1 : index
// CHECK: %[[COUNT:.*]] = memref.dim %[[OPA]], %[[C0]]
// CHECK: %[[KEYS:.*]] = memref.dim %[[K]], %[[C1]]
// CHECK: %[[ALL:.*]] = affine.apply #[[BLOCKS]]()[%[[KEYS]]]
// CHECK: %[[SOME:.*]] = arith.maxsi %[[ALL]], %[[C0]]
// CHECK: %[[DIVISOR:.*]] = arith.maxsi %[[COUNT]], %[[C1]]
// CHECK: %[[UP:.*]] = affine.apply #[[SUM]]()[%[[SOME]], %[[DIVISOR]]]
// CHECK: %[[UP32:.*]] = arith.index_cast %[[UP]]
// CHECK: %[[BY32:.*]] = arith.index_cast %[[DIVISOR]]
// CHECK: %[[EACH32:.*]] = arith.divui %[[UP32]], %[[BY32]] : i32
// CHECK: %[[EACH:.*]] = arith.index_cast %[[EACH32]]
// CHECK: %[[STEP:.*]] = affine.apply #[[SIZE]]()[%[[EACH]]]
// CHECK: scf.forall (%[[S:.*]]) in (%[[COUNT]]) {
// CHECK: %[[FIRST:.*]] = arith.muli %[[S]], %[[STEP]]
// CHECK: %[[END:.*]] = arith.addi %[[FIRST]], %[[STEP]]
// CHECK: %[[OS:.*]] = memref.subview %[[OPA]][%[[S]], 0, 0, 0, 0] [1,
// CHECK: %[[LS:.*]] = memref.subview %[[LPA]][%[[S]], 0, 0, 0] [1,
// CHECK: fa.attention ins(%[[Q]], %[[K]], %[[V]] :
// CHECK-SAME: mask <#[[PART]]> symbols(%[[FIRST]], %[[END]]) outs(%[[OS]], %[[LS]] :
// CHECK-NOT: dead_lse
// CHECK-NOT: partials
// CHECK: }
// CHECK: fa.combine ins(%[[OPA]], %[[LPA]] : {{.*}}) outs(%[[OA]], %[[LA]] :
// CHECK-SAME: {dead_lse = 0x7FF0000000000000 : f64, indexing_maps = [#[[OP]], #[[LP]], #[[O]], #[[L]]]}
func.func @plain(%q: !t, %k: !t, %v: !t, %scale: f32, %o: !t, %l: !l, %op: !tp, %lp: !lp) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32) outs(%o, %l : !t, !l)
    partials(%op, %lp : !tp, !lp) {indexing_maps = #maps, dead_lse = 0x7FF0000000000000 : f64}
  return
}

// Only the keys that the window leaves are dealt out; init_lse is added once.
// CHECK-LABEL: func.func @window(
// CHECK-SAME: %[[Q:[a-z0-9]*]]: memref<?x?x?x64xf16, strided<[?, ?, ?, 1], offset: ?>>, %[[K:[a-z0-9]*]]: memref<?x?x?x64xf16{{.*}}, %{{[a-z0-9]*}}: memref<?x?x?x64xf16{{.*}}, %{{[a-z0-9]*}}: f32, %[[W:[a-z0-9]*]]: index, %[[INIT:[a-z0-9]*]]: memref
// CHECK-DAG: %[[KEYS:.*]] = memref.dim %[[K]],
// CHECK-DAG: %[[ROWS:.*]] = memref.dim %[[Q]],
// CHECK: %[[LO:.*]] = affine.max #[[LIVE]]()[%[[ROWS]], %[[KEYS]], %[[W]]]
// CHECK: %[[FROM:.*]] = affine.apply #[[START]]()[%[[LO]]]
// CHECK: affine.apply #[[LEFT]]()[%[[LO]], %[[KEYS]]]
// CHECK: scf.forall (%[[S:.*]]) in
// CHECK: %[[OFFSET:.*]] = arith.muli %[[S]], %[[STEP:.*]] : index
// CHECK: %[[FIRST:.*]] = arith.addi %[[FROM]], %[[OFFSET]]
// CHECK: %[[END:.*]] = arith.addi %[[FIRST]], %[[STEP]]
// CHECK: fa.attention
// CHECK-NOT: init_lse
// CHECK-SAME: mask <#[[WINDOW]]> symbols(%[[W]], %[[FIRST]], %[[END]])
// CHECK: fa.combine {{.*}} init_lse(%[[INIT]] :
func.func @window(%q: !t, %k: !t, %v: !t, %scale: f32, %w: index, %init: !l, %o: !t, %l: !l, %op: !tp, %lp: !lp) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32) init_lse(%init : !l)
    mask <affine_set<(b,h,m,n)[lq,lk,w] : (n + w - m - lk + lq >= 0)>> symbols(%w)
    outs(%o, %l : !t, !l) partials(%op, %lp : !tp, !lp) {indexing_maps = #maps}
  return
}

// With lengths per batch, the extent of k is dealt out.
// CHECK-LABEL: func.func @lengths(
// CHECK-SAME: %{{[a-z0-9]*}}: memref<?x?x?x64xf16, strided<[?, ?, ?, 1], offset: ?>>, %[[K:[a-z0-9]*]]: memref
// CHECK: %[[KEYS:.*]] = memref.dim %[[K]],
// CHECK: affine.apply #[[BLOCKS]]()[%[[KEYS]]]
// CHECK: fa.attention {{.*}} lengths({{.*}}) mask <#[[PART]]>
// CHECK: fa.combine
func.func @lengths(%q: !t, %k: !t, %v: !t, %scale: f32, %ql: memref<?xi32>, %o: !t, %l: !l, %op: !tp, %lp: !lp) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32) lengths(%ql, %ql : memref<?xi32>, memref<?xi32>)
    outs(%o, %l : !t, !l) partials(%op, %lp : !tp, !lp) {indexing_maps = #maps}
  return
}

// CHECK-LABEL: func.func @whole(
// CHECK-NOT: scf.forall
// CHECK: fa.attention {{.*}} init_lse(
// CHECK-NOT: partials
// CHECK-NOT: fa.combine
func.func @whole(%q: !t, %k: !t, %v: !t, %scale: f32, %ql: memref<?xi32>, %init: !l, %o: !t, %l: !l, %op: !tp, %lp: !lp) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32) lengths(%ql, %ql : memref<?xi32>, memref<?xi32>)
    init_lse(%init : !l)
    outs(%o, %l : !t, !l) partials(%op, %lp : !tp, !lp) {indexing_maps = #maps}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]

func.func @tensors(%q: tensor<8x4xf32>, %s: f32, %l: tensor<8xf32>, %op: memref<3x8x4xf32>, %lp: memref<3x8xf32>) -> tensor<8x4xf32> {
  // expected-error @+1 {{is on tensors; run one-shot-bufferize first}}
  %r:2 = fa.attention ins(%q, %q, %q : tensor<8x4xf32>, tensor<8x4xf32>, tensor<8x4xf32>) scale(%s : f32)
    outs(%q, %l : tensor<8x4xf32>, tensor<8xf32>) partials(%op, %lp : memref<3x8x4xf32>, memref<3x8xf32>)
    {indexing_maps = #maps} -> tensor<8x4xf32>, tensor<8xf32>
  return %r#0 : tensor<8x4xf32>
}
