// RUN: fa-opt %s -split-input-file -verify-diagnostics -fa-tile -canonicalize -cse | FileCheck %s

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
!t1 = memref<?x1x?x64xf16, strided<[?,?,?,1], offset: ?>>
!l1 = memref<?x?x1xf32, strided<[?,?,1], offset: ?>>

// CHECK-DAG: #[[CEIL:.*]] = affine_map<()[s0] -> (s0 ceildiv 16)>
// CHECK-DAG: #[[ROW:.*]] = affine_map<(d0) -> (d0 * 16)>
// CHECK-DAG: #[[LEFT:.*]] = affine_map<(d0)[s0] -> (d0 * -16 + s0, 16)>
// CHECK-DAG: #[[LEFTM:.*]] = affine_map<(d0)[s0, s1] -> (-d0 + s1, s0)>
// CHECK-DAG: #[[QMAP:.*]] = affine_map<(d0, d1, d2, d3, d4, d5) -> (d2, d4)>
// CHECK-DAG: #[[LMAP:.*]] = affine_map<(d0, d1, d2, d3, d4, d5) -> (d2)>
// CHECK-DAG: #[[QMAPS:.*]] = affine_map<(d0, d1, d2, d3, d4, d5) -> (d2, d1, d4)>
// CHECK-DAG: #[[LMAPS:.*]] = affine_map<(d0, d1, d2, d3, d4, d5) -> (d1, d2)>
// CHECK-DAG: #[[MASK:.*]] = affine_set<(d0, d1, d2, d3)[s0, s1, s2, s3] : (-d3 + s1 + s2 - s3 >= 0)>
// CHECK-DAG: #[[CAUSAL:.*]] = affine_set<(d0, d1, d2, d3)[s0, s1] : (d2 + s1 - s0 - d3 >= 0)>

// Of one query, the rows of a window are the query heads of one key head: the
// mask gets position and number of rows as symbols, the score region the head
// from the row.
// CHECK-LABEL: func.func @one(
// CHECK-SAME: %[[Q:[a-z0-9]*]]: memref{{.*}}, %[[K:[a-z0-9]*]]: memref{{.*}}, %[[V:[a-z0-9]*]]: memref{{.*}}, %{{[a-z0-9]*}}: f32, %[[O:[a-z0-9]*]]: memref{{.*}}, %[[LSE:[a-z0-9]*]]: memref
// CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG: %[[C1:.*]] = arith.constant 1 : index
// CHECK-DAG: %[[C2:.*]] = arith.constant 2 : index
// CHECK-DAG: %[[LK:.*]] = memref.dim %[[K]], %[[C1]]
// CHECK-DAG: %[[B:.*]] = memref.dim %[[Q]], %[[C0]]
// CHECK-DAG: %[[H:.*]] = memref.dim %[[Q]], %[[C2]]
// CHECK-DAG: %[[HK:.*]] = memref.dim %[[K]], %[[C2]]
// CHECK: %[[G:.*]] = arith.divui %[[H]], %[[HK]]
// CHECK: %[[BLOCKS:.*]] = affine.apply #[[CEIL]]()[%[[G]]]
// CHECK: scf.forall (%[[BI:.*]], %[[KI:.*]], %[[I:.*]]) in (%[[B]], %[[HK]], %[[BLOCKS]]) {
// CHECK: %[[R0:.*]] = affine.apply #[[ROW]](%[[I]])
// CHECK: %[[ROWS:.*]] = affine.min #[[LEFT]](%[[I]])[%[[G]]]
// CHECK: %[[H0:.*]] = arith.muli %[[KI]], %[[G]]
// CHECK: %[[QS:.*]] = memref.subview %[[Q]][%[[BI]], 0, %[[H0]], 0] [1, 1, %[[G]], 64] [1, 1, 1, 1]
// CHECK: %[[QW:.*]] = memref.subview %[[QS]][%[[R0]], 0] [%[[ROWS]], 64] [1, 1]
// CHECK: %[[KS:.*]] = memref.subview %[[K]][%[[BI]], 0, %[[KI]], 0] [1, %[[LK]], 1, 64]
// CHECK: %[[OS:.*]] = memref.subview %[[O]][%[[BI]], 0, %[[H0]], 0] [1, 1, %[[G]], 64]
// CHECK: %[[OW:.*]] = memref.subview %[[OS]][%[[R0]], 0] [%[[ROWS]], 64]
// CHECK: %[[LS:.*]] = memref.subview %[[LSE]][%[[BI]], %[[H0]], 0] [1, %[[G]], 1]
// CHECK: %[[LW:.*]] = memref.subview %[[LS]][%[[R0]]] [%[[ROWS]]]
// CHECK: fa.attention ins(%[[QW]], %[[KS]], %{{[a-z0-9_]*}} :
// CHECK-SAME: origin(%[[BI]], %[[KI]], %[[R0]]) lengths(%[[G]], %[[LK]] : index, index)
// CHECK-SAME: mask <#[[MASK]]> symbols(%[[C0]], %[[C1]]) outs(%[[OW]], %[[LW]] :
// CHECK-SAME: indexing_maps = [#[[QMAP]], #{{.*}}, #{{.*}}, #{{.*}}, #[[LMAP]]]
// CHECK: ^bb0(%{{.*}}: f32, %{{.*}}: index, %[[HEAD:.*]]: index, %[[ROWARG:.*]]: index, %{{.*}}: index):
// CHECK: %[[FIRST:.*]] = arith.muli %[[HEAD]], %[[G]]
// CHECK: %[[SUM:.*]] = arith.addi %[[FIRST]], %[[ROWARG]]
// CHECK: arith.index_cast %[[SUM]]
func.func @one(%q: !t1, %k: !t, %v: !t, %scale: f32, %o: !t1, %l: !l1) {
  fa.attention ins(%q, %k, %v : !t1, !t, !t) scale(%scale : f32) mask <#causal> outs(%o, %l : !t1, !l1)
    {indexing_maps = #maps, fa.schedule = #schedule}
    score {
    ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index):
      %hi = arith.index_cast %h : index to i32
      %f = arith.sitofp %hi : i32 to f32
      %y = arith.addf %s, %f : f32
      fa.yield %y : f32
    }
  return
}

// Of several queries, a window has as many positions as fit beside the heads, at
// least one: max(1, 16 / group). It is the problem itself, in part: mask and score
// stay as they are.
// CHECK-LABEL: func.func @several(
// CHECK-SAME: %[[Q:[a-z0-9]*]]: memref{{.*}}, %[[K:[a-z0-9]*]]: memref{{.*}}, %[[V:[a-z0-9]*]]: memref{{.*}}, %{{[a-z0-9]*}}: f32, %[[O:[a-z0-9]*]]: memref{{.*}}, %[[LSE:[a-z0-9]*]]: memref
// CHECK-DAG: %[[C1:.*]] = arith.constant 1 : index
// CHECK-DAG: %[[C2:.*]] = arith.constant 2 : index
// CHECK-DAG: %[[C15:.*]] = arith.constant 15 : index
// CHECK-DAG: %[[C16:.*]] = arith.constant 16 : index
// CHECK-DAG: %[[LQ:.*]] = memref.dim %[[Q]], %[[C1]]
// CHECK-DAG: %[[LK:.*]] = memref.dim %[[K]], %[[C1]]
// CHECK-DAG: %[[H:.*]] = memref.dim %[[Q]], %[[C2]]
// CHECK-DAG: %[[HK:.*]] = memref.dim %[[K]], %[[C2]]
// CHECK: %[[G:.*]] = arith.divui %[[H]], %[[HK]]
// CHECK: %[[FIT:.*]] = arith.divui %[[C16]], %[[G]]
// CHECK: %[[FIT15:.*]] = arith.addi %[[FIT]], %[[C15]]
// CHECK: %[[ANY:.*]] = arith.divui %[[FIT15]], %[[C16]]
// CHECK: %[[MORE:.*]] = arith.addi %[[FIT]], %[[C1]]
// CHECK: %[[P:.*]] = arith.subi %[[MORE]], %[[ANY]]
// CHECK: %[[LAST:.*]] = arith.subi %[[P]], %[[C1]]
// CHECK: %[[END:.*]] = arith.addi %[[LQ]], %[[LAST]]
// CHECK: %[[MBLOCKS:.*]] = arith.divui %[[END]], %[[P]]
// CHECK: %[[HBLOCKS:.*]] = affine.apply #[[CEIL]]()[%[[G]]]
// CHECK: scf.forall (%[[BI:.*]], %[[KI:.*]], %[[MI:.*]], %[[HI:.*]]) in (%{{.*}}, %[[HK]], %[[MBLOCKS]], %[[HBLOCKS]]) {
// CHECK: %[[M0:.*]] = arith.muli %[[MI]], %[[P]]
// CHECK: %[[GROUP:.*]] = arith.muli %[[KI]], %[[G]]
// CHECK: %[[IN:.*]] = affine.apply #[[ROW]](%[[HI]])
// CHECK: %[[ROWS:.*]] = affine.min #[[LEFTM]](%[[M0]])[%[[P]], %[[LQ]]]
// CHECK: %[[HEADS:.*]] = affine.min #[[LEFT]](%[[HI]])[%[[G]]]
// CHECK: %[[H0:.*]] = arith.addi %[[GROUP]], %[[IN]]
// CHECK: %[[QS:.*]] = memref.subview %[[Q]][%[[BI]], 0, 0, 0] [1, %[[LQ]], %[[H]], 64]
// CHECK: %[[QW:.*]] = memref.subview %[[QS]][%[[M0]], %[[H0]], 0] [%[[ROWS]], %[[HEADS]], 64]
// CHECK: %[[KS:.*]] = memref.subview %[[K]][%[[BI]], 0, %[[KI]], 0] [1, %[[LK]], 1, 64]
// CHECK: %[[OS:.*]] = memref.subview %[[O]][%[[BI]], 0, 0, 0]
// CHECK: %[[OW:.*]] = memref.subview %[[OS]][%[[M0]], %[[H0]], 0] [%[[ROWS]], %[[HEADS]], 64]
// CHECK: %[[LS:.*]] = memref.subview %[[LSE]][%[[BI]], 0, 0]
// CHECK: %[[LW:.*]] = memref.subview %[[LS]][%[[H0]], %[[M0]]] [%[[HEADS]], %[[ROWS]]]
// CHECK: fa.attention ins(%[[QW]], %[[KS]], %{{[a-z0-9_]*}} :
// CHECK-SAME: origin(%[[BI]], %[[H0]], %[[M0]]) lengths(%[[LQ]], %[[LK]] : index, index)
// CHECK-SAME: mask <#[[CAUSAL]]> outs(%[[OW]], %[[LW]] :
// CHECK-SAME: indexing_maps = [#[[QMAPS]], #{{.*}}, #{{.*}}, #{{.*}}, #[[LMAPS]]]
func.func @several(%q: !t, %k: !t, %v: !t, %scale: f32, %o: !t, %l: !l) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32) mask <#causal> outs(%o, %l : !t, !l)
    {indexing_maps = #maps, fa.schedule = #schedule}
  return
}

// A loop around the operation is the outermost dimension of the grid.
// CHECK-LABEL: func.func @parts(
// CHECK-SAME: %[[Q:[a-z0-9]*]]: memref{{.*}}, %[[N:[a-z0-9]*]]: index, %[[O:[a-z0-9]*]]: memref<?x?x?x?x64xf16
// CHECK: scf.forall (%[[P:.*]], %[[BI:.*]], %[[KI:.*]], %[[M:.*]], %[[I:.*]]) in (%[[N]], %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}) {
// CHECK: %[[OP:.*]] = memref.subview %[[O]][%[[P]], 0, 0, 0, 0]
// CHECK: memref.subview %[[OP]][%[[BI]], 0,
// CHECK: symbols(%[[P]])
// CHECK-NOT: scf.forall
func.func @parts(%q: !t, %k: !t, %v: !t, %scale: f32, %count: index, %o: memref<?x?x?x?x64xf16, strided<[?,?,?,?,1], offset: ?>>, %l: !l) {
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c3 = arith.constant 3 : index
  scf.forall (%p) in (%count) {
    %d1 = memref.dim %o, %c1 : memref<?x?x?x?x64xf16, strided<[?,?,?,?,1], offset: ?>>
    %d2 = memref.dim %o, %c2 : memref<?x?x?x?x64xf16, strided<[?,?,?,?,1], offset: ?>>
    %d3 = memref.dim %o, %c3 : memref<?x?x?x?x64xf16, strided<[?,?,?,?,1], offset: ?>>
    %op = memref.subview %o[%p, 0, 0, 0, 0] [1, %d1, %d2, %d3, 64] [1, 1, 1, 1, 1]
      : memref<?x?x?x?x64xf16, strided<[?,?,?,?,1], offset: ?>> to !t
    fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32)
      mask <affine_set<(b,h,m,n)[lq,lk,p] : (n - p >= 0)>> symbols(%p) outs(%op, %l : !t, !l)
      {indexing_maps = #maps, fa.schedule = #schedule}
  }
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>]
#schedule = #fa.schedule<tile_m = 16, tile_n = 64, plan = #tile.plan<chip = "sm_80",
  mma = "mma_sync", copy = "cp_async", warps = 1, producers = 0, stages = 1>, packed = true>
!t = memref<?x?x?x64xf16, strided<[?,?,?,1], offset: ?>>
!l = memref<?x?x?xf32, strided<[?,?,1], offset: ?>>

func.func @mask_of_heads(%q: !t, %k: !t, %v: !t, %scale: f32, %o: !t, %l: !l) {
  // expected-error @+1 {{has a packed schedule, but the head decides what is kept or captured, lengths say which rows exist, or rows and heads are no neighbours in memory; drop `packed` from the schedule}}
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32)
    mask <affine_set<(b,h,m,n)[lq,lk] : (n - h >= 0)>> outs(%o, %l : !t, !l)
    {indexing_maps = #maps, fa.schedule = #schedule}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>]
#schedule = #fa.schedule<tile_m = 16, tile_n = 64, plan = #tile.plan<chip = "sm_80",
  mma = "mma_sync", copy = "cp_async", warps = 1, producers = 0, stages = 1>>
!t = memref<?x?x?x64xf16, strided<[?,?,?,1], offset: ?>>
!l = memref<?x?x?xf32, strided<[?,?,1], offset: ?>>
!tp = memref<?x?x?x?x64xf32, strided<[?,?,?,?,1], offset: ?>>
!lp = memref<?x?x?x?xf32, strided<[?,?,?,1], offset: ?>>

func.func @partials(%q: !t, %k: !t, %v: !t, %scale: f32, %o: !t, %l: !l, %op: !tp, %lp: !lp) {
  // expected-error @+1 {{has memory for partial results; run fa-split-keys first}}
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32) outs(%o, %l : !t, !l)
    partials(%op, %lp : !tp, !lp) {indexing_maps = #maps, fa.schedule = #schedule}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>]
#schedule = #fa.schedule<tile_m = 16, tile_n = 64, plan = #tile.plan<chip = "sm_80",
  mma = "mma_sync", copy = "cp_async", warps = 1, producers = 0, stages = 1>>
!t = memref<?x?x?x64xf16, strided<[?,?,?,1], offset: ?>>
!l = memref<?x?x?xf32, strided<[?,?,1], offset: ?>>

func.func @store_in_loop(%q: !t, %k: !t, %v: !t, %scale: f32, %o: !t, %l: !l, %x: memref<?xindex>, %count: index) {
  scf.forall (%p) in (%count) {
    memref.store %p, %x[%p] : memref<?xindex>
    // expected-error @+1 {{is in a loop that can't be the outermost dimension of its grid; q, k and v come from outside of it, and nothing else has effects in it}}
    fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32) outs(%o, %l : !t, !l)
      {indexing_maps = #maps, fa.schedule = #schedule}
  }
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>]
#schedule = #fa.schedule<tile_m = 16, tile_n = 64, plan = #tile.plan<chip = "sm_80",
  mma = "mma_sync", copy = "cp_async", warps = 1, producers = 0, stages = 1>, packed = true>
!t = memref<?x?x?x64xf16, strided<[?,?,?,1], offset: ?>>
!l = memref<?x?x?xf32, strided<[?,?,1], offset: ?>>

// A size that is a constant, not an attribute (scripts/fuzz.sh found it).
// CHECK-LABEL: func.func @constant_size
// CHECK: fa.attention
func.func @constant_size(%q: !t, %k: !t, %v: !t, %scale: f32, %o: memref<?x?x?x?x64xf16, strided<[?,?,?,?,1], offset: ?>>, %l: !l) {
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %d1 = memref.dim %o, %c1 : memref<?x?x?x?x64xf16, strided<[?,?,?,?,1], offset: ?>>
  %d2 = memref.dim %o, %c2 : memref<?x?x?x?x64xf16, strided<[?,?,?,?,1], offset: ?>>
  %op = memref.subview %o[0, 0, 0, 0, 0] [1, %d1, %d2, %c1, 64] [1, 1, 1, 1, 1]
    : memref<?x?x?x?x64xf16, strided<[?,?,?,?,1], offset: ?>> to !t
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32) outs(%op, %l : !t, !l)
    {indexing_maps = #maps, fa.schedule = #schedule}
  return
}
