// RUN: fa-opt %s -split-input-file -fa-tile -canonicalize -cse -fa-online-softmax -canonicalize -cse | FileCheck %s

#maps = [affine_map<(b,h,m,n,d,e) -> (b, m, h, d)>, affine_map<(b,h,m,n,d,e) -> (b, n, h, d)>,
         affine_map<(b,h,m,n,d,e) -> (b, n, h, e)>, affine_map<(b,h,m,n,d,e) -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e) -> (b, h, m)>]
#fixed = #fa.schedule<tile_m = 128, tile_n = 64, plan = #tile.plan<chip = "sm_90a",
  mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2>, fixed_reference = true>
!t = memref<?x?x?x64xf16, strided<[?,?,?,1], offset: ?>>
!l = memref<?x?x?xf32, strided<[?,?,1], offset: ?>>

// Only the first block's maximum is taken. Where a later block's exponentials
// sum to too much, its scores are made again and what came before is scaled. Blocks
// that end beyond the keys take their maximum at once.
// CHECK-LABEL: func.func @fixed(
// CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG: %[[NONE:.*]] = arith.constant dense<-1.000000e+30> : tensor<128xf32>
// CHECK-DAG: %[[ONE:.*]] = arith.constant dense<1.000000e+00> : tensor<128xf32>
// CHECK-DAG: %[[LIMIT:.*]] = arith.constant 3.276800e+04 : f32
// CHECK: %[[LOOP:.*]]:3 = scf.for %[[J:.*]] = %[[C0]] {{.*}} iter_args(%[[ACC:.*]] = %{{.*}}, %[[MAX:.*]] = %[[NONE]], %[[SUM:.*]] = %{{.*}})
// CHECK: %[[S:.*]] = tile.contract %[[Q:.*]], %[[K:.*]], %{{.*}}
// CHECK: %[[FULL:.*]] = arith.cmpi slt, %[[J]], %{{.*}} : index
// CHECK: %[[SCORES:.*]] = arith.select %[[FULL]], %[[S]], %{{.*}}
// CHECK: %[[SOFTMAX:.*]]:5 = scf.if %[[FULL]]
// CHECK: %[[FIRST:.*]] = arith.cmpi eq, %[[J]], %[[C0]] : index
// CHECK: %[[REF:.*]] = scf.if %[[FIRST]]
// CHECK: %[[BLOCK:.*]] = tile.reduce max
// CHECK: %[[BASE2:.*]] = arith.mulf %[[BLOCK]]
// CHECK: arith.maxnumf %[[MAX]], %[[BASE2]]
// CHECK: } else {
// CHECK-NEXT: scf.yield %[[MAX]]
// CHECK-NOT: tile.reduce max
// CHECK: %[[P:.*]] = math.exp2
// CHECK: %[[ROWS:.*]] = tile.reduce add %[[P]] dim 1
// CHECK: %[[OVER:.*]] = tile.exceeds %[[ROWS]], %[[LIMIT]]
// CHECK: %[[COLD:.*]] = arith.andi %{{.*}}, %[[OVER]]
// CHECK: %[[TOTAL:.*]] = arith.addf %[[SUM]], %[[ROWS]]
// CHECK: %[[R:.*]]:4 = scf.if %[[COLD]]
// CHECK: %[[AGAIN:.*]] = tile.contract each_warp %[[Q]], %[[K]]
// CHECK: tile.reduce max
// CHECK: %[[LARGER:.*]] = arith.maxnumf
// CHECK: %[[STEP:.*]] = arith.subf %[[REF]], %[[LARGER]]
// CHECK: %[[ALPHA:.*]] = math.exp2 %[[STEP]]
// CHECK: scf.yield %{{.*}}, %[[LARGER]], %{{.*}}, %[[ALPHA]]
// CHECK: } else {
// CHECK: scf.yield %[[P]], %[[REF]], %[[TOTAL]], %[[ONE]]
// CHECK: scf.yield %[[R]]#0, %[[R]]#1, %[[R]]#2, %[[R]]#3, %[[COLD]]
// CHECK: } else {
// CHECK: %[[CUT:.*]] = tile.reduce max %[[SCORES]]
// CHECK: %[[CUT2:.*]] = arith.mulf %[[CUT]]
// CHECK: %[[CUTREF:.*]] = arith.maxnumf %[[MAX]], %[[CUT2]]
// CHECK: %[[CUTP:.*]] = math.exp2
// CHECK: %[[CUTSTEP:.*]] = arith.subf %[[MAX]], %[[CUTREF]]
// CHECK: %[[CUTALPHA:.*]] = math.exp2 %[[CUTSTEP]]
// CHECK-NOT: tile.contract
// CHECK: scf.yield %[[CUTP]], %[[CUTREF]], %{{.*}}, %[[CUTALPHA]], %true
// CHECK: %[[SCALED:.*]] = scf.if %[[SOFTMAX]]#4
// CHECK: } else {
// CHECK-NEXT: scf.yield %[[ACC]]
// CHECK: tile.contract %{{.*}}, %{{.*}}, %[[SCALED]]
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
// CHECK: %[[LOOP:.*]]:3 = scf.for {{.*}} iter_args(%{{.*}}, %{{.*}}, %[[SUM:.*]] = %{{.*}}) -> (tensor<128x64xf32>, tensor<128xf32>, tensor<128x4xf32>)
// CHECK-NOT: tile.reduce add
// CHECK: %[[PARTS:.*]] = tile.partial_sums %{{.*}} : tensor<128x64xf32> -> tensor<128x4xf32>
// CHECK: tile.exceeds %[[PARTS]]
// CHECK: arith.addf %[[SUM]], %[[PARTS]] : tensor<128x4xf32>
// CHECK: %[[ALPHA:.*]] = tile.broadcast %{{.*}} dim 1 : tensor<128xf32> -> tensor<128x4xf32>
// CHECK: arith.mulf %[[SUM]], %[[ALPHA]]
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
