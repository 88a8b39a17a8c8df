// RUN: fa-opt %s -split-input-file -fa-tile -canonicalize -cse -fa-online-softmax -canonicalize -cse | FileCheck %s

#maps = [affine_map<(b,h,m,n,d,e) -> (b, m, h, d)>, affine_map<(b,h,m,n,d,e) -> (b, n, h, d)>,
         affine_map<(b,h,m,n,d,e) -> (b, n, h, e)>, affine_map<(b,h,m,n,d,e) -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e) -> (b, h, m)>]
#fixed = #fa.schedule<tile_m = 128, tile_n = 64, plan = #tile.plan<chip = "sm_90a",
  mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2>, fixed_reference = true>
!t = memref<?x?x?x64xf16, strided<[?,?,?,1], offset: ?>>
!l = memref<?x?x?xf32, strided<[?,?,1], offset: ?>>

// Only the first block's maximum is taken. Where a later block's exponentials
// sum to too much, its scores are made again, what came before is scaled, and all blocks
// from then on take their maximum. Blocks that end beyond the keys take theirs at once.
// CHECK-LABEL: func.func @fixed(
// CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG: %[[NONE:.*]] = arith.constant dense<-1.000000e+30> : tensor<128xf32>
// CHECK-DAG: %[[ONE:.*]] = arith.constant dense<1.000000e+00> : tensor<128xf32>
// CHECK-DAG: %[[LIMIT:.*]] = arith.constant 3.276800e+04 : f32
// CHECK: %[[LOOP:.*]]:4 = scf.for %[[J:.*]] = %[[C0]] {{.*}} iter_args(%[[ACC:.*]] = %{{.*}}, %[[MAX:.*]] = %[[NONE]], %[[SUM:.*]] = %{{.*}}, %[[FOLLOWS:.*]] = %false)
// CHECK: %[[S:.*]] = tile.contract %[[Q:.*]], %[[K:.*]], %{{.*}}
// CHECK: %[[FULL:.*]] = arith.cmpi slt, %[[J]], %{{.*}} : index
// CHECK: %[[SCORES:.*]] = arith.select %[[FULL]], %[[S]], %{{.*}}
// CHECK: %[[SOFTMAX:.*]]:6 = scf.if %[[FULL]]
// CHECK: %[[FIRST:.*]] = arith.cmpi eq, %[[J]], %[[C0]] : index
// CHECK: %[[TAKES:.*]] = arith.ori %[[FIRST]], %[[FOLLOWS]] : i1
// CHECK: %[[BASE:.*]]:3 = scf.if %[[TAKES]]
// CHECK: %[[BLOCK:.*]] = tile.reduce max
// CHECK: %[[BLOCK2:.*]] = arith.mulf %[[BLOCK]]
// CHECK: %[[FIRSTREF:.*]] = arith.maxnumf %[[MAX]], %[[BLOCK2]]
// CHECK: %[[FIRSTSTEP:.*]] = arith.subf %[[MAX]], %[[FIRSTREF]]
// CHECK: %[[FIRSTALPHA:.*]] = math.exp2 %[[FIRSTSTEP]]
// CHECK: %[[FIRSTSUM:.*]] = arith.mulf %[[SUM]], %[[FIRSTALPHA]]
// CHECK: scf.yield %[[FIRSTREF]], %[[FIRSTSUM]], %[[FIRSTALPHA]]
// CHECK: } else {
// CHECK-NEXT: scf.yield %[[MAX]], %[[SUM]], %[[ONE]]
// CHECK-NOT: tile.reduce max
// CHECK: %[[P:.*]] = math.exp2
// CHECK: %[[ROWS:.*]] = tile.reduce add %[[P]] dim 1
// CHECK: %[[KEEPS:.*]] = arith.xori %[[TAKES]], %true
// CHECK: %[[OVER:.*]] = tile.exceeds %[[ROWS]], %[[LIMIT]]
// CHECK: %[[COLD:.*]] = arith.andi %[[KEEPS]], %[[OVER]]
// CHECK: %[[TOTAL:.*]] = arith.addf %[[BASE]]#1, %[[ROWS]]
// CHECK-DAG: %[[SCALES:.*]] = arith.select %[[COLD]], %true, %[[TAKES]]
// CHECK-DAG: %[[NEXT:.*]] = arith.select %[[COLD]], %true, %[[FOLLOWS]]
// CHECK: %[[R:.*]]:4 = scf.if %[[COLD]]
// CHECK: %[[AGAIN:.*]] = tile.contract each_warp %[[Q]], %[[K]]
// CHECK: tile.reduce max %[[AGAIN]]
// CHECK: %[[LARGER:.*]] = arith.maxnumf %[[BASE]]#0
// CHECK: %[[STEP:.*]] = arith.subf %[[BASE]]#0, %[[LARGER]]
// CHECK: %[[ALPHA:.*]] = math.exp2 %[[STEP]]
// CHECK: scf.yield %{{.*}}, %[[LARGER]], %{{.*}}, %[[ALPHA]]
// CHECK: } else {
// CHECK: scf.yield %[[P]], %[[BASE]]#0, %[[TOTAL]], %[[BASE]]#2
// CHECK: scf.yield %[[R]]#0, %[[R]]#1, %[[R]]#2, %[[R]]#3, %[[SCALES]], %[[NEXT]]
// CHECK: } else {
// CHECK: %[[CUT:.*]] = tile.reduce max %[[SCORES]]
// CHECK: %[[CUT2:.*]] = arith.mulf %[[CUT]]
// CHECK: %[[CUTREF:.*]] = arith.maxnumf %[[MAX]], %[[CUT2]]
// CHECK: %[[CUTSTEP:.*]] = arith.subf %[[MAX]], %[[CUTREF]]
// CHECK: %[[CUTALPHA:.*]] = math.exp2 %[[CUTSTEP]]
// CHECK: %[[CUTP:.*]] = math.exp2
// CHECK-NOT: tile.contract
// CHECK: scf.yield %[[CUTP]], %[[CUTREF]], %{{.*}}, %[[CUTALPHA]], %true, %[[FOLLOWS]]
// CHECK: %[[SCALED:.*]] = scf.if %[[SOFTMAX]]#4
// CHECK: } else {
// CHECK-NEXT: scf.yield %[[ACC]]
// CHECK: tile.contract %{{.*}}, %{{.*}}, %[[SCALED]]
// CHECK: scf.yield %{{.*}}, %[[SOFTMAX]]#1, %[[SOFTMAX]]#2, %[[SOFTMAX]]#5
// The reference is in base-2 units already.
// CHECK: %[[LOG:.*]] = math.log2
// CHECK: arith.addf %[[LOG]], %[[LOOP]]#1
func.func @fixed(%q: !t, %k: !t, %v: !t, %scale: f32 {fa.nonnegative}, %o: !t, %lse: !l) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32) outs(%o, %lse : !t, !l)
      {indexing_maps = #maps, fa.schedule = #fixed}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (b, m, h, d)>, affine_map<(b,h,m,n,d,e) -> (b, n, h, d)>,
         affine_map<(b,h,m,n,d,e) -> (b, n, h, e)>, affine_map<(b,h,m,n,d,e) -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e) -> (b, h, m)>]
#parts = #fa.schedule<tile_m = 128, tile_n = 64, plan = #tile.plan<chip = "sm_90a",
  mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2>, fixed_reference = true, partial_sums = true>
!t = memref<?x?x?x64xf16, strided<[?,?,?,1], offset: ?>>
!l = memref<?x?x?xf32, strided<[?,?,1], offset: ?>>

// Sums of rows in parts: what tells that a block's are too large, and what the loop
// carries. They are added up behind it.
// CHECK-LABEL: func.func @in_parts(
// CHECK: %[[LOOP:.*]]:4 = scf.for {{.*}} iter_args(%{{.*}}, %{{.*}}, %[[SUM:.*]] = %{{.*}}, %{{.*}}) -> (tensor<128x64xf32>, tensor<128xf32>, tensor<128x4xf32>, i1)
// CHECK-NOT: tile.reduce add
// CHECK: %[[ALPHA:.*]] = tile.broadcast %{{.*}} dim 1 : tensor<128xf32> -> tensor<128x4xf32>
// CHECK: arith.mulf %[[SUM]], %[[ALPHA]]
// CHECK: %[[PARTS:.*]] = tile.partial_sums %{{.*}} : tensor<128x64xf32> -> tensor<128x4xf32>
// CHECK: tile.exceeds %[[PARTS]]
// CHECK: arith.addf %{{.*}}, %[[PARTS]] : tensor<128x4xf32>
// CHECK-NOT: tile.reduce add
// CHECK: tile.contract
// CHECK: tile.reduce add %[[LOOP]]#2 dim 1 : tensor<128x4xf32> -> tensor<128xf32>
func.func @in_parts(%q: !t, %k: !t, %v: !t, %scale: f32 {fa.nonnegative}, %o: !t, %lse: !l) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32) outs(%o, %lse : !t, !l)
      {indexing_maps = #maps, fa.schedule = #parts}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (b, m, h, d)>, affine_map<(b,h,m,n,d,e) -> (b, n, h, d)>,
         affine_map<(b,h,m,n,d,e) -> (b, n, h, e)>, affine_map<(b,h,m,n,d,e) -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e) -> (b, h, m)>]
#given = #fa.schedule<tile_m = 64, tile_n = 64, plan = #tile.plan<chip = "sm_80",
  mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>, partial_sums = true>
#host = #fa.schedule<tile_m = 64, tile_n = 64, plan = #tile.plan<chip = "cpu",
  mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>, partial_sums = true>
!t = memref<?x?x?x64xf16, strided<[?,?,?,1], offset: ?>>
!l = memref<?x?x?xf32, strided<[?,?,1], offset: ?>>

// A sum that is given is 1: a quarter in each part.
// CHECK-LABEL: func.func @given(
// CHECK-DAG: %[[QUARTER:.*]] = arith.constant dense<2.500000e-01> : tensor<64xf32>
// CHECK: %[[ROWS:.*]] = arith.select %{{.*}}, %{{.*}}, %[[QUARTER]] : tensor<64xi1>, tensor<64xf32>
// CHECK: %[[PARTS:.*]] = tile.broadcast %[[ROWS]] dim 1 : tensor<64xf32> -> tensor<64x4xf32>
// CHECK: scf.for {{.*}} = %[[PARTS]])
func.func @given(%q: !t, %k: !t, %v: !t, %scale: f32, %before: !l, %o: !t, %lse: !l) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32) init_lse(%before : !l)
      outs(%o, %lse : !t, !l) {indexing_maps = #maps, fa.schedule = #given}
  return
}

// On a CPU no row is shared.
// CHECK-LABEL: func.func @host(
// CHECK-NOT: tile.partial_sums
func.func @host(%q: !t, %k: !t, %v: !t, %scale: f32, %o: !t, %lse: !l) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32) outs(%o, %lse : !t, !l)
      {indexing_maps = #maps, fa.schedule = #host}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (b, m, h, d)>, affine_map<(b,h,m,n,d,e) -> (b, n, h, d)>,
         affine_map<(b,h,m,n,d,e) -> (b, n, h, e)>, affine_map<(b,h,m,n,d,e) -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e) -> (b, h, m)>]
#lazy = #fa.schedule<tile_m = 64, tile_n = 64, plan = #tile.plan<chip = "sm_80",
  mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>, lazy_maximum = true>
!t = memref<?x?x?x64xf16, strided<[?,?,?,1], offset: ?>>
!l = memref<?x?x?xf32, strided<[?,?,1], offset: ?>>

// Every block's maximum is taken; what rows are relative to changes, and what came before
// is scaled, where it is ahead by more than 8.
// CHECK-LABEL: func.func @lazy(
// CHECK-DAG: %[[NONE:.*]] = arith.constant dense<-1.000000e+30> : tensor<64xf32>
// CHECK-DAG: %[[ONE:.*]] = arith.constant dense<1.000000e+00> : tensor<64xf32>
// CHECK-DAG: %[[LEAD:.*]] = arith.constant 8.000000e+00 : f32
// CHECK: %[[LOOP:.*]]:3 = scf.for {{.*}} iter_args(%[[ACC:.*]] = %{{.*}}, %[[MAX:.*]] = %[[NONE]], %[[SUM:.*]] = %{{.*}})
// CHECK: %[[BLOCK:.*]] = tile.reduce max
// CHECK: %[[BLOCK2:.*]] = arith.mulf %[[BLOCK]]
// CHECK: %[[LARGER:.*]] = arith.maxnumf %[[MAX]], %[[BLOCK2]]
// CHECK: %[[AHEAD:.*]] = arith.subf %[[LARGER]], %[[MAX]]
// CHECK: %[[OVER:.*]] = tile.exceeds %[[AHEAD]], %[[LEAD]]
// CHECK: %[[REF:.*]] = arith.select %[[OVER]], %[[LARGER]], %[[MAX]]
// CHECK: %[[BASE:.*]]:2 = scf.if %[[OVER]]
// CHECK: %[[STEP:.*]] = arith.subf %[[MAX]], %[[LARGER]]
// CHECK: %[[ALPHA:.*]] = math.exp2 %[[STEP]]
// CHECK: %[[SCALEDSUM:.*]] = arith.mulf %[[SUM]], %[[ALPHA]]
// CHECK: scf.yield %[[SCALEDSUM]], %[[ALPHA]]
// CHECK: } else {
// CHECK-NEXT: scf.yield %[[SUM]], %[[ONE]]
// CHECK: tile.broadcast %[[REF]]
// CHECK: %[[SCALED:.*]] = scf.if %[[OVER]]
// CHECK: } else {
// CHECK-NEXT: scf.yield %[[ACC]]
// CHECK: %[[NEXT:.*]] = tile.contract %{{.*}}, %{{.*}}, %[[SCALED]]
// CHECK: scf.yield %[[NEXT]], %[[REF]], %{{.*}}
// CHECK: %[[LOG:.*]] = math.log2
// CHECK: arith.addf %[[LOG]], %[[LOOP]]#1
func.func @lazy(%q: !t, %k: !t, %v: !t, %scale: f32 {fa.nonnegative}, %o: !t, %lse: !l) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32) outs(%o, %lse : !t, !l)
      {indexing_maps = #maps, fa.schedule = #lazy}
  return
}

// A reference that is given may lie below all scores: the running maximum.
// CHECK-LABEL: func.func @lazy_given(
// CHECK-NOT: tile.exceeds
// CHECK: return
func.func @lazy_given(%q: !t, %k: !t, %v: !t, %scale: f32, %before: !l, %o: !t, %lse: !l) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32) init_lse(%before : !l)
      outs(%o, %lse : !t, !l) {indexing_maps = #maps, fa.schedule = #lazy}
  return
}
