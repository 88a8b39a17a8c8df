// RUN: fa-opt %s -split-input-file -verify-diagnostics -fa-tile -canonicalize -cse -fa-online-softmax -canonicalize -cse | FileCheck %s
// RUN: fa-opt %s -split-input-file -verify-diagnostics -fa-tile -canonicalize -cse -fa-online-softmax -canonicalize -cse -fa-split-mask-loops -canonicalize -cse | FileCheck %s --check-prefix=SPLIT

#maps = [affine_map<(b,h,m,n,d,e) -> (b, m, h, d)>, affine_map<(b,h,m,n,d,e) -> (b, n, h, d)>,
         affine_map<(b,h,m,n,d,e) -> (b, n, h, e)>, affine_map<(b,h,m,n,d,e) -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e) -> (b, h, m)>]
#gpu = #fa.schedule<tile_m = 128, tile_n = 64, plan = #tile.plan<chip = "sm_80",
  mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 2>>
!t = memref<?x?x?x40xf16, strided<[?,?,?,1], offset: ?>>
!l = memref<?x?x?xf32, strided<[?,?,1], offset: ?>>

// Causal on a GPU: the head size 40 is padded to 48; the loop ends at the
// diagonal; one compare masks and bounds the keys (it implies n < lk); scale
// and base change are one multiply-subtract.
// CHECK-DAG: #[[ROWS_END:.*]] = affine_map<(d0)[s0] -> (s0, d0 * 128 + 128)>
// CHECK-DAG: #[[LIVE:.*]] = affine_map<(d0)[s0, s1] -> (s0, d0 + s0 - s1)>
// CHECK-DAG: #[[FULL:.*]] = affine_map<(d0)[s0, s1] -> (s0, d0 * 128 + s0 - s1 + 1)>
// CHECK-DAG: #[[UP:.*]] = affine_map<(d0) -> (d0 ceildiv 64)>
// CHECK-DAG: #[[DOWN:.*]] = affine_map<(d0) -> (d0 floordiv 64)>
// CHECK-LABEL: func.func @causal(
// CHECK-SAME: %[[Q:[a-z0-9]*]]: memref{{.*}}, %[[K:[a-z0-9]*]]: memref{{.*}}, %{{[a-z0-9]*}}: memref{{.*}}, %[[SCALE:[a-z0-9]*]]: f32
// CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG: %[[C1:.*]] = arith.constant 1 : index
// CHECK-DAG: %[[LOG2E:.*]] = arith.constant 1.44269502 : f32
// CHECK-DAG: %[[LEAST:.*]] = arith.constant 1.17549435E-38 : f32
// CHECK-DAG: %[[NINF:.*]] = arith.constant dense<0xFF800000> : tensor<128xf32>
// CHECK-DAG: %[[NINF2:.*]] = arith.constant dense<0xFF800000> : tensor<128x64xf32>
// CHECK-DAG: %[[ZERO:.*]] = arith.constant dense<0.000000e+00> : tensor<128xf32>
// CHECK-DAG: %[[LQ:.*]] = memref.dim %[[Q]], %[[C1]]
// CHECK-DAG: %[[LK:.*]] = memref.dim %[[K]], %[[C1]]
// CHECK: scf.forall (%{{.*}}, %{{.*}}, %[[I:[a-z0-9]*]]) in
// CHECK: %[[END_ROW:.*]] = affine.min #[[ROWS_END]](%[[I]])[%[[LQ]]]
// CHECK: %[[END_LIVE:.*]] = affine.min #[[LIVE]](%[[END_ROW]])[%[[LK]], %[[LQ]]]
// CHECK: %[[END_FULL:.*]] = affine.min #[[FULL]](%[[I]])[%[[LK]], %[[LQ]]]
// CHECK: %[[END:.*]] = affine.apply #[[UP]](%[[END_LIVE]])
// CHECK: %[[FULL_BLOCKS:.*]] = affine.apply #[[DOWN]](%[[END_FULL]])
// CHECK: %[[QT:.*]] = tile.load {{.*}} -> tensor<128x48xf16>
// CHECK: %[[S2:.*]] = arith.mulf %[[SCALE]], %[[LOG2E]] : f32
// CHECK: %[[TINY:.*]] = arith.cmpf olt, %[[S2]], %[[LEAST]]
// CHECK: %[[C:.*]] = arith.select %[[TINY]], %[[LEAST]], %[[S2]]
// CHECK: %[[BOUND:.*]] = tile.broadcast %{{.*}} dim 1 : tensor<128xi32> -> tensor<128x64xi32>
// CHECK: %[[CT:.*]] = tile.splat %[[C]] : f32 -> tensor<128x64xf32>
// CHECK: %[[R:.*]]:3 = scf.for %[[J:.*]] = %[[C0]] to %[[END]] step %[[C1]] iter_args(%[[ACC:.*]] = %{{.*}}, %[[MAX:.*]] = %[[NINF]], %[[SUM:.*]] = %[[ZERO]])
// CHECK: %[[KT:.*]] = tile.load {{.*}} -> tensor<64x48xf16>
// CHECK: %[[S:.*]] = tile.contract %[[QT]], %[[KT]]
// CHECK-NOT: arith.cmpi slt, {{.*}} : tensor
// CHECK: %[[KEEP:.*]] = arith.cmpi sle, %{{.*}}, %[[BOUND]] : tensor<128x64xi32>
// CHECK: %[[MASKED:.*]] = arith.select %[[KEEP]], %[[S]], %[[NINF2]]
// CHECK: %[[IN:.*]] = arith.cmpi slt, %[[J]], %[[FULL_BLOCKS]] : index
// CHECK: %[[X:.*]] = arith.select %[[IN]], %[[S]], %[[MASKED]] : tensor<128x64xf32>
// CHECK: %[[BLOCK:.*]] = tile.reduce max %[[X]] dim 1
// CHECK: %[[NEW:.*]] = arith.maxnumf %[[MAX]], %[[BLOCK]]
// CHECK: %[[NONE:.*]] = arith.cmpf oeq, %[[NEW]], %[[NINF]]
// CHECK: %[[REF:.*]] = arith.select %[[NONE]], %[[ZERO]], %[[NEW]]
// CHECK: %[[XC:.*]] = arith.mulf %[[X]], %[[CT]] fastmath<contract>
// CHECK: %[[E:.*]] = arith.subf %[[XC]], %{{.*}} fastmath<contract>
// CHECK: %[[P:.*]] = math.exp2 %[[E]]
// CHECK: arith.truncf %[[P]] : tensor<128x64xf32> to tensor<128x64xf16>
// CHECK: scf.yield

// After the split: the first loop has no comparison of tiles, the second one.
// SPLIT-LABEL: func.func @causal
// SPLIT: scf.for %{{.*}} = %c0 to %[[MID:[a-z0-9]*]] step
// SPLIT-NOT: arith.cmpi
// SPLIT-NOT: tile.iota
// SPLIT-NOT: tile.nonfinite
// SPLIT: scf.yield
// SPLIT: scf.for %{{.*}} = %[[MID]] to
// SPLIT: arith.cmpi sle, {{.*}} : tensor<128x64xi32>
// SPLIT: tile.contract
// SPLIT: scf.yield
// Values that a masked 0 has spoilt: a few columns at a time, one key at a time, of
// the rows that keep it.
// SPLIT: %[[SUMS:.*]] = tile.reduce add %{{.*}} dim 1 : tensor<128x48xf32> -> tensor<128xf32>
// SPLIT: %[[NUMBERS:.*]] = arith.select %{{.*}}, %[[SUMS]], %{{.*}} : tensor<128xi1>, tensor<128xf32>
// SPLIT: %[[SPOILT:.*]] = tile.nonfinite %[[NUMBERS]] : tensor<128xf32>
// SPLIT: scf.if %[[SPOILT]]
// SPLIT: scf.for %[[COLUMN:.*]] = %c0 to %c48 step %c16
// SPLIT: scf.for %[[KEY:.*]] = %c0 to %{{.*}} iter_args(%{{.*}}) -> (tensor<128x16xf32>)
// SPLIT: scf.for %[[DEPTH:.*]] = %c0 to %c48 step %c16 iter_args(%{{.*}}) -> (tensor<128xf32>)
// SPLIT: tile.load %{{.*}}[%{{.*}}, %[[DEPTH]]] : {{.*}} -> tensor<128x16xf16>
// SPLIT: tile.load %{{.*}}[%[[DEPTH]]] : {{.*}} -> tensor<16xf16>
// SPLIT: tile.reduce add
// SPLIT: arith.cmpi sle, {{.*}} : tensor<128x8xi32>
// SPLIT: tile.load %{{.*}}[%[[COLUMN]]] : {{.*}} -> tensor<16xf16>
// SPLIT: tile.store %{{.*}}, %{{.*}}[%{{.*}}, %[[COLUMN]]] : tensor<128x16xf16>
// SPLIT: } else {
// SPLIT: tile.store %{{.*}} : tensor<128x48xf16>
// SPLIT: }
// SPLIT-NOT: = scf.for %
func.func @causal(%q: !t, %k: !t, %v: !t, %scale: f32 {fa.nonnegative}, %o: !t, %l: !l) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32)
    mask <affine_set<(b,h,m,n)[lq,lk] : (m + lk - lq - n >= 0)>>
    outs(%o, %l : !t, !l) {indexing_maps = #maps, fa.schedule = #gpu}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (b, m, h, d)>, affine_map<(b,h,m,n,d,e) -> (b, n, h, d)>,
         affine_map<(b,h,m,n,d,e) -> (b, n, h, e)>, affine_map<(b,h,m,n,d,e) -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e) -> (b, h, m)>]
#cpu = #fa.schedule<tile_m = 32, tile_n = 16, plan = #tile.plan<chip = "cpu",
  mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>
!t = memref<?x?x?x5xf32, strided<[?,?,?,1], offset: ?>>
!l = memref<?x?x?xf32, strided<[?,?,1], offset: ?>>

// A scale of unknown sign is applied before the maximum. No mask: only the
// ragged end is compared, and only in the last block. The head size is not
// padded on the CPU.
// CHECK-LABEL: func.func @plain
// CHECK: tile.load {{.*}} -> tensor<32x5xf32>
// CHECK: scf.for
// CHECK: %[[S:.*]] = tile.contract
// CHECK: %[[SCALED:.*]] = arith.mulf %[[S]], %{{.*}} fastmath<contract> : tensor<32x16xf32>
// CHECK: arith.cmpi slt, {{.*}} : tensor<32x16xi32>
// CHECK-NOT: arith.cmpi s{{l|g}}e
// CHECK: %[[X:.*]] = arith.select {{.*}} : tensor<32x16xf32>
// CHECK: tile.reduce max %[[X]]
// CHECK: %[[E:.*]] = arith.subf %[[X]], {{.*}} fastmath<contract>
// CHECK: math.exp2 %[[E]]
// CHECK-NOT: arith.truncf
// SPLIT-LABEL: func.func @plain
// SPLIT-COUNT-2: = scf.for %
// SPLIT-NOT: = scf.for %
// SPLIT: return
func.func @plain(%q: !t, %k: !t, %v: !t, %scale: f32, %o: !t, %l: !l) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32)
    outs(%o, %l : !t, !l) {indexing_maps = #maps, fa.schedule = #cpu}
  return
}

// A window of run-time size: the blocks that either side cuts come first, in one
// loop, then the full ones. Both loops count steps and say in the same way which
// block a step is.
// SPLIT-LABEL: func.func @window
// SPLIT: %[[LEFT:.*]] = arith.maxsi
// SPLIT: %[[RIGHT:.*]] = arith.maxsi %{{.*}}, %[[LEFT]]
// SPLIT: %[[FULL:.*]] = arith.subi %[[RIGHT]], %[[LEFT]]
// SPLIT: %[[CUT:.*]] = arith.subi %[[END:[a-z0-9]*]], %[[FULL]]
// SPLIT: scf.for %[[S:.*]] = %{{.*}} to %[[MID:[a-z0-9]*]] step
// SPLIT: %[[IN:.*]] = arith.cmpi sgt, %[[CUT]], %[[S]]
// SPLIT: %[[X:.*]] = arith.select %[[IN]]
// SPLIT: %[[IN2:.*]] = arith.cmpi sgt, %[[LEFT]], %[[S]]
// SPLIT: arith.select %[[IN2]], %[[S]], %[[X]]
// SPLIT: arith.cmpi {{.*}} : tensor<32x16xi32>
// SPLIT: scf.yield
// SPLIT: scf.for %[[S:.*]] = %[[MID]] to %[[END]] step
// SPLIT: arith.cmpi sgt, %[[CUT]], %[[S]]
// SPLIT: arith.cmpi sgt, %[[LEFT]], %[[S]]
// SPLIT-NOT: tensor<32x16xi32>
// SPLIT: scf.yield
// SPLIT: tile.nonfinite
func.func @window(%q: !t, %k: !t, %v: !t, %scale: f32, %w: index, %o: !t, %l: !l) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32)
    mask <affine_set<(b,h,m,n)[lq,lk,w] : (m + lk - lq - n >= 0, n - m - lk + lq + w >= 0)>> symbols(%w)
    outs(%o, %l : !t, !l) {indexing_maps = #maps, fa.schedule = #cpu}
  return
}

#teams = #fa.schedule<tile_m = 192, tile_n = 64, plan = #tile.plan<chip = "sm_90a",
  mma = "wgmma", copy = "tma", warps = 12, producers = 4, stages = 2>>

// Three teams of warps with a third of the rows each: a team computes the blocks that its
// rows see and lets go of the others, in a loop of their own.
// CHECK-LABEL: func.func @teams
// CHECK: %[[FIRST:.*]], %[[COUNT:.*]] = tile.rows_held 192
// CHECK: %[[FROM:.*]] = arith.addi %{{.*}}, %[[FIRST]]
// CHECK: %[[NONE:.*]] = arith.cmpi sge, %[[FROM]], %{{.*}}
// CHECK: %[[END:.*]] = arith.select %[[NONE]], %c0, %{{.*}} : index
// CHECK: scf.for %[[J:.*]] = %c0 to %{{.*}} iter_args(%[[ACC:.*]] = %{{.*}}, %[[MAX:.*]] = %{{.*}}, %[[SUM:.*]] = %{{.*}})
// CHECK: %[[K:.*]] = tile.load {{.*}} -> tensor<64x16xf32>
// CHECK: %[[V:.*]] = tile.load {{.*}} -> tensor<64x16xf32>
// CHECK: %[[NEEDED:.*]] = arith.cmpi slt, %[[J]], %[[END]]
// CHECK: scf.if %[[NEEDED]]
// CHECK: tile.contract
// CHECK: } else {
// CHECK-NEXT: tile.unused %[[K]], %[[V]]
// CHECK-NEXT: scf.yield %[[ACC]], %[[MAX]], %[[SUM]]
// SPLIT-LABEL: func.func @teams
// SPLIT: scf.for %{{.*}} = %c0 to %[[FULL:[a-z0-9]*]] step
// SPLIT-NOT: scf.if
// SPLIT: scf.yield
// SPLIT: scf.for %{{.*}} = %[[FULL]] to %[[HELD:[a-z0-9]*]] step
// SPLIT-NOT: scf.if
// SPLIT: scf.yield
// SPLIT: scf.for %{{.*}} = %[[HELD]] to %{{.*}} step
// SPLIT-NOT: tile.contract
// SPLIT: tile.unused
// SPLIT-NEXT: }
func.func @teams(%q: !t, %k: !t, %v: !t, %scale: f32 {fa.nonnegative}, %o: !t, %l: !l) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32)
    mask <affine_set<(b,h,m,n)[lq,lk] : (m + lk - lq - n >= 0)>>
    outs(%o, %l : !t, !l) {indexing_maps = #maps, fa.schedule = #teams}
  return
}

// Where the mask cuts both sides, a team also lets go of what lies left of its rows' keys:
// cut blocks from one step to another, full ones from a third on.
// CHECK-LABEL: func.func @window_teams
// CHECK: tile.rows_held 192
// CHECK: scf.for %[[J:.*]] = %[[LO:.*]] to %{{.*}} iter_args(
// CHECK: %[[FULL:.*]] = arith.cmpi sge, %[[J]], %[[CUTEND:.*]] : index
// CHECK: %[[BEFORE:.*]] = arith.cmpi slt, %[[J]], %{{.*}} : index
// CHECK: %[[AFTER:.*]] = arith.cmpi sge, %[[J]], %{{.*}} : index
// CHECK: %[[BOTH:.*]] = arith.andi %[[AFTER]], %[[BEFORE]]
// CHECK: %[[NEEDED:.*]] = arith.ori %[[FULL]], %[[BOTH]]
// CHECK: scf.if %[[NEEDED]]
// SPLIT-LABEL: func.func @window_teams
// SPLIT: scf.for %{{.*}} = %{{.*}} to %[[FIRST:[a-z0-9]*]] step
// SPLIT-NOT: tile.contract
// SPLIT: tile.unused
// SPLIT-NEXT: }
// SPLIT: scf.for %{{.*}} = %[[FIRST]] to %[[LAST:[a-z0-9]*]] step
// SPLIT-NOT: scf.if
// SPLIT: tile.contract
// SPLIT: scf.yield
// SPLIT: scf.for %{{.*}} = %[[LAST]] to %[[CUTEND:[a-z0-9]*]] step
// SPLIT-NOT: tile.contract
// SPLIT: tile.unused
// SPLIT-NEXT: }
// SPLIT: scf.for %{{.*}} = %[[CUTEND]] to %{{.*}} step
// SPLIT-NOT: scf.if
// SPLIT: tile.contract
// SPLIT-NOT: scf.for
// SPLIT: tile.nonfinite
func.func @window_teams(%q: !t, %k: !t, %v: !t, %scale: f32 {fa.nonnegative}, %w: index, %o: !t, %l: !l) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32)
    mask <affine_set<(b,h,m,n)[lq,lk,w] : (m + lk - lq - n >= 0, n - m - lk + lq + w >= 0)>> symbols(%w)
    outs(%o, %l : !t, !l) {indexing_maps = #maps, fa.schedule = #teams}
  return
}

// The score region on tiles: index is i32, a capture with a map is loaded, a
// table is gathered from; dead rows get the stated lse. The captured numbers may
// make a score -inf: the rows that keep a key are those with another score.
// CHECK-LABEL: func.func @region(
// CHECK-SAME: %[[BIAS:[a-z0-9]*]]: memref<?x?x?xf32>, %[[TABLE:[a-z0-9]*]]: memref<?xf32>
// CHECK-DAG: arith.constant dense<0x7F800000> : tensor<32xf32>
// CHECK: scf.for
// CHECK: %[[BT:.*]] = tile.load {{.*}} -> tensor<32x16xf32>
// CHECK: %[[D:.*]] = arith.subi {{.*}} : tensor<32x16xi32>
// CHECK: %[[G:.*]] = tile.gather %[[TABLE]][%[[D]]] : memref<?xf32>, tensor<32x16xi32> -> tensor<32x16xf32>
// CHECK: %[[S:.*]] = arith.addf %{{.*}}, %[[BT]] : tensor<32x16xf32>
// CHECK: %[[R:.*]] = arith.mulf %[[S]], %[[G]] : tensor<32x16xf32>
// CHECK: %[[X:.*]] = arith.select %{{.*}}, %[[R]], %{{.*}} : tensor<32x16xf32>
// CHECK: %[[SPOILT:.*]] = tile.nonfinite %{{.*}} : tensor<32xf32>
// CHECK: scf.if %[[SPOILT]]
// CHECK: scf.for
// CHECK: %[[KEY:.*]] = arith.cmpi eq, %{{.*}} : tensor<32x8xi32>
// CHECK: %[[LIVE:.*]] = arith.cmpf une, %{{.*}}, %{{.*}} : tensor<32x8xf32>
// CHECK: arith.andi %{{.*}} : tensor<32x8xi1>
func.func @region(%q: !t, %k: !t, %v: !t, %scale: f32, %bias: memref<?x?x?xf32>, %table: memref<?xf32>, %o: !t, %l: !l) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32)
    captures(%bias, %table : memref<?x?x?xf32>, memref<?xf32>)
    outs(%o, %l : !t, !l) {indexing_maps = #maps, fa.schedule = #cpu,
      capture_maps = [affine_map<(b,h,m,n) -> (h, m, n)>, unit], dead_lse = 0x7FF0000000000000 : f64}
    score {
    ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index, %x: f32, %t: memref<?xf32>):
      %d = arith.subi %m, %n : index
      %y = fa.gather %t[%d] : memref<?xf32> -> f32
      %a = arith.addf %s, %x : f32
      %r = arith.mulf %a, %y : f32
      fa.yield %r : f32
    }
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]
#cpu = #fa.schedule<tile_m = 32, tile_n = 16, plan = #tile.plan<chip = "cpu",
  mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>
!m = memref<?x5xf32>

// A soft cap, whatever the number, and sums with positions are not -inf.
// CHECK-LABEL: func.func @finite_scores(
// CHECK-NOT: tile.nonfinite
func.func @finite_scores(%q: !m, %s: f32, %cap: f32, %l: memref<?xf32>) {
  fa.attention ins(%q, %q, %q : !m, !m, !m) scale(%s : f32) captures(%cap : f32)
    outs(%q, %l : !m, memref<?xf32>) {indexing_maps = #maps, fa.schedule = #cpu, capture_maps = [unit]}
    score {
    ^bb0(%x: f32, %b: index, %h: index, %m: index, %n: index, %c: f32):
      %y = arith.divf %x, %c : f32
      %t = math.tanh %y : f32
      %z = arith.mulf %t, %c : f32
      %i = arith.index_cast %n : index to i32
      %f = arith.sitofp %i : i32 to f32
      %r = arith.subf %z, %f : f32
      fa.yield %r : f32
    }
  return
}

// A constant of -inf is.
// CHECK-LABEL: func.func @dropped(
// CHECK: tile.nonfinite
func.func @dropped(%q: !m, %s: f32, %l: memref<?xf32>) {
  fa.attention ins(%q, %q, %q : !m, !m, !m) scale(%s : f32)
    outs(%q, %l : !m, memref<?xf32>) {indexing_maps = #maps, fa.schedule = #cpu}
    score {
    ^bb0(%x: f32, %b: index, %h: index, %m: index, %n: index):
      %ninf = arith.constant 0xFF800000 : f32
      %early = arith.cmpi slt, %n, %m : index
      %r = arith.select %early, %ninf, %x : f32
      fa.yield %r : f32
    }
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]
#cpu = #fa.schedule<tile_m = 32, tile_n = 16, plan = #tile.plan<chip = "cpu",
  mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>

func.func @reduction_in_score(%q: memref<?x5xf32>, %s: f32, %l: memref<?xf32>) {
  // expected-error @+1 {{has a score region with tensor.splat, which has no meaning on tiles}}
  fa.attention ins(%q, %q, %q : memref<?x5xf32>, memref<?x5xf32>, memref<?x5xf32>) scale(%s : f32)
    outs(%q, %l : memref<?x5xf32>, memref<?xf32>) {indexing_maps = #maps, fa.schedule = #cpu}
    score {
    ^bb0(%x: f32, %b: index, %h: index, %m: index, %n: index):
      %t = tensor.splat %x : tensor<4xf32>
      %y = tensor.extract %t[%b] : tensor<4xf32>
      fa.yield %y : f32
    }
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>]
#packed = #fa.schedule<tile_m = 128, tile_n = 64, plan = #tile.plan<chip = "sm_90a",
  mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2>, packed = true>
#half = #fa.schedule<tile_m = 128, tile_n = 64, plan = #tile.plan<chip = "sm_90a",
  mma = "wgmma", copy = "tma", warps = 2, producers = 4, stages = 2>>
#causal = affine_set<(b,h,m,n)[lq,lk] : (m + lk - lq - n >= 0)>
!t = memref<?x?x?x64xf16, strided<[?,?,?,1], offset: ?>>
!l = memref<?x?x?xf32, strided<[?,?,1], offset: ?>>

// Rows that are heads, too, say nothing of positions: no team skips.
// CHECK-LABEL: func.func @packed_teams
// CHECK-NOT: tile.rows_held
// CHECK: tile.contract
func.func @packed_teams(%q: !t, %k: !t, %v: !t, %scale: f32, %o: !t, %l: !l) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32) mask <#causal> outs(%o, %l : !t, !l)
    {indexing_maps = #maps, fa.schedule = #packed}
  return
}

// Fewer warps than a team has.
// CHECK-LABEL: func.func @no_team
// CHECK-NOT: tile.rows_held
// CHECK: tile.contract
func.func @no_team(%q: !t, %k: !t, %v: !t, %scale: f32, %o: !t, %l: !l) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32) mask <#causal> outs(%o, %l : !t, !l)
    {indexing_maps = #maps, fa.schedule = #half}
  return
}
