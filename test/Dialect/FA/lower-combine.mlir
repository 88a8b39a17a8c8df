// RUN: fa-opt %s -split-input-file -verify-diagnostics -fa-lower-combine -canonicalize -cse | FileCheck %s

#op = affine_map<(s,h,m,e) -> (s, m, h, e)>
#lp = affine_map<(s,h,m,e) -> (s, h, m)>
#o = affine_map<(s,h,m,e) -> (m, h, e)>
#l = affine_map<(s,h,m,e) -> (h, m)>
#schedule = #fa.schedule<tile_m = 16, tile_n = 32, plan = #tile.plan<chip = "sm_80",
  mma = "mma_sync", copy = "direct", warps = 1, producers = 0, stages = 1>>

// CHECK-DAG: #[[BLOCKS:.*]] = affine_map<()[s0] -> (s0 ceildiv 16)>

// Sixteen parts at once in the rows of the tiles; a row has its own maximum. Parts
// that do not exist and dead ones weigh nothing; row 0 begins with init_lse. Two
// grid points have 40 columns; lse is one element, which only column 0 reaches.
// CHECK-LABEL: func.func @init(
// CHECK-SAME: %[[OP:[a-z0-9]*]]: memref<?x7x2x40xf32>, %[[LP:[a-z0-9]*]]: memref<?x2x7xf32>, %[[INIT:[a-z0-9]*]]: memref<2x7xf32>, %[[O:[a-z0-9]*]]: memref<7x2x40xf16>, %[[L:[a-z0-9]*]]: memref<2x7xf32>)
// CHECK-SAME: tile.plan = #tile.plan<chip = "sm_80"
// CHECK-DAG: %[[ZEROS:.*]] = arith.constant dense<0.000000e+00> : tensor<16x32xf32>
// CHECK-DAG: %[[NONE:.*]] = arith.constant dense<0xFF800000> : tensor<16xf32>
// CHECK-DAG: %[[LOG2E:.*]] = arith.constant dense<1.44269502> : tensor<16xf32>
// CHECK-DAG: %[[LN2:.*]] = arith.constant dense<0.693147182> : tensor<32xf32>
// CHECK-DAG: %[[DEADLSE:.*]] = arith.constant dense<0x7F800000> : tensor<32xf32>
// CHECK-DAG: %[[NOTHING:.*]] = arith.constant dense<0.000000e+00> : tensor<32xf32>
// CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG: %[[C16:.*]] = arith.constant 16 : index
// CHECK-DAG: %[[C32:.*]] = arith.constant 32 : index
// CHECK: scf.forall (%[[H:.*]], %[[M:.*]], %[[I:.*]]) in (2, 7, 2) {
// CHECK: %[[E0:.*]] = arith.muli %[[I]], %[[C32]]
// CHECK: %[[VALUES:.*]] = memref.subview %[[OP]][0, %[[M]], %[[H]], 0] [%{{.*}}, 1, 1, 40]
// CHECK: %[[COUNT:.*]] = memref.dim %[[LP]], %[[C0]]
// CHECK: %[[WEIGHTS:.*]] = memref.subview %[[LP]][0, %[[H]], %[[M]]] [%[[COUNT]], 1, 1]
// CHECK: %[[OUT:.*]] = memref.subview %[[O]][%[[M]], %[[H]], 0] [1, 1, 40]
// CHECK: %[[LSE:.*]] = memref.subview %[[L]][%[[H]], %[[M]]] [1, 1] [1, 1] : memref<2x7xf32> to memref<1xf32
// CHECK: %[[START:.*]] = memref.subview %[[INIT]][%[[H]], %[[M]]] [1, 1]
// CHECK: %[[GIVEN:.*]] = tile.load %[[START]][%[[C0]]]
// CHECK: %[[ROW:.*]] = tile.iota dim 0 : tensor<16xi32>
// CHECK: %[[FIRST:.*]] = arith.cmpi slt, %[[ROW]],
// CHECK: %[[GIVEN2:.*]] = arith.mulf %[[GIVEN]], %[[LOG2E]]
// CHECK: %[[MAX0:.*]] = arith.select %[[FIRST]], %[[GIVEN2]], %[[NONE]]
// CHECK: %[[STEPS:.*]] = affine.apply #[[BLOCKS]]()[%[[COUNT]]]
// CHECK: %[[R:.*]]:3 = scf.for %[[J:.*]] = %[[C0]] to %[[STEPS]] step %{{.*}} iter_args(%[[ACC:.*]] = %[[ZEROS]], %[[MAX:.*]] = %[[MAX0]], %{{.*}} = %{{.*}})
// CHECK: %[[S0:.*]] = arith.muli %[[J]], %[[C16]]
// CHECK: %[[V:.*]] = tile.load %[[VALUES]][%[[S0]], %[[E0]]] : {{.*}} -> tensor<16x32xf32>
// CHECK: %[[X:.*]] = tile.load %[[WEIGHTS]][%[[S0]]] : {{.*}} -> tensor<16xf32>
// CHECK: %[[LEFT:.*]] = arith.subi %[[COUNT]], %[[S0]]
// CHECK: %[[LEFT32:.*]] = arith.index_cast %[[LEFT]]
// CHECK: %[[ENDS:.*]] = tile.splat %[[LEFT32]]
// CHECK: %[[EXISTS:.*]] = arith.cmpi slt, %[[ROW]], %[[ENDS]]
// CHECK: %[[X2:.*]] = arith.mulf %[[X]], %[[LOG2E]]
// CHECK: %[[LIVE:.*]] = arith.select %[[EXISTS]], %[[X2]], %[[NONE]]
// CHECK: %[[NEWMAX:.*]] = arith.maxnumf %[[MAX]], %[[LIVE]]
// CHECK: %[[ISDEAD:.*]] = arith.cmpf oeq, %[[LIVE]], %[[NONE]]
// CHECK: %[[DEADROWS:.*]] = tile.broadcast %[[ISDEAD]] dim 1
// CHECK: arith.select %[[DEADROWS]], %[[ZEROS]], %{{.*}} : tensor<16x32xi1>
// CHECK: scf.yield %{{.*}}, %[[NEWMAX]], %{{.*}}
// CHECK: %[[ROWMAX:.*]] = tile.broadcast %[[R]]#1 dim 1
// CHECK: %[[ALLMAX:.*]] = tile.reduce max %[[ROWMAX]] dim 0
// CHECK: %[[FACTOR:.*]] = math.exp2 %{{.*}} : tensor<16x32xf32>
// CHECK: %[[TOTAL:.*]] = tile.reduce add %{{.*}} dim 0
// CHECK: %[[PRODUCT:.*]] = arith.mulf %[[R]]#0, %[[FACTOR]]
// CHECK: tile.reduce add %[[PRODUCT]] dim 0
// CHECK: %[[DEAD:.*]] = arith.cmpf oeq, %[[TOTAL]], %[[NOTHING]]
// CHECK: %[[O16:.*]] = arith.truncf
// CHECK: tile.store %[[O16]], %[[OUT]][%[[E0]]] : tensor<32xf16>
// CHECK: %[[LOG:.*]] = arith.mulf %{{.*}}, %[[LN2]]
// CHECK: %[[RESULT:.*]] = arith.select %[[DEAD]], %[[DEADLSE]], %[[LOG]]
// CHECK: tile.store %[[RESULT]], %[[LSE]][%[[E0]]] : tensor<32xf32>, memref<1xf32
func.func @init(%op: memref<?x7x2x40xf32>, %lp: memref<?x2x7xf32>, %init: memref<2x7xf32>, %o: memref<7x2x40xf16>, %l: memref<2x7xf32>) {
  fa.combine ins(%op, %lp : memref<?x7x2x40xf32>, memref<?x2x7xf32>) init_lse(%init : memref<2x7xf32>)
    outs(%o, %l : memref<7x2x40xf16>, memref<2x7xf32>)
    {indexing_maps = [#op, #lp, #o, #l], dead_lse = 0x7FF0000000000000 : f64, fa.schedule = #schedule}
  return
}

// Columns before parts in memory: the tile is loaded turned.
// CHECK-LABEL: func.func @turned(
// CHECK: tile.load %{{.*}}[%[[E0:.*]], %[[S0:.*]]] order [1, 0] : {{.*}} -> tensor<16x32xf32>
func.func @turned(%op: memref<7x40x?xf32>, %lp: memref<7x?xf32>, %o: memref<7x40xf32>, %l: memref<7xf32>) {
  fa.combine ins(%op, %lp : memref<7x40x?xf32>, memref<7x?xf32>) outs(%o, %l : memref<7x40xf32>, memref<7xf32>)
    {indexing_maps = [affine_map<(s,m,e) -> (m, e, s)>, affine_map<(s,m,e) -> (m, s)>,
                      affine_map<(s,m,e) -> (m, e)>, affine_map<(s,m,e) -> (m)>], fa.schedule = #schedule}
  return
}

// -----

#op = affine_map<(s,m,e) -> (s, m, e)>
#lp = affine_map<(s,m,e) -> (s, m)>
#o = affine_map<(s,m,e) -> (m, e)>
#l = affine_map<(s,m,e) -> (m)>

func.func @no_schedule(%op: memref<3x8x4xf32>, %lp: memref<3x8xf32>, %o: memref<8x4xf32>, %l: memref<8xf32>) {
  // expected-error @+1 {{has no fa.schedule; run fa-select-schedule first}}
  fa.combine ins(%op, %lp : memref<3x8x4xf32>, memref<3x8xf32>) outs(%o, %l : memref<8x4xf32>, memref<8xf32>)
    {indexing_maps = [#op, #lp, #o, #l]}
  return
}

// -----

#op = affine_map<(s,m,e) -> (s, m, e)>
#lp = affine_map<(s,m,e) -> (s, m)>
#o = affine_map<(s,m,e) -> (m, e)>
#l = affine_map<(s,m,e) -> (m)>
#schedule = #fa.schedule<tile_m = 16, tile_n = 32, plan = #tile.plan<chip = "cpu",
  mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>

func.func @tensors(%op: tensor<3x8x4xf32>, %lp: tensor<3x8xf32>, %o: tensor<8x4xf32>, %l: tensor<8xf32>) -> tensor<8x4xf32> {
  // expected-error @+1 {{is on tensors; run one-shot-bufferize first}}
  %r:2 = fa.combine ins(%op, %lp : tensor<3x8x4xf32>, tensor<3x8xf32>) outs(%o, %l : tensor<8x4xf32>, tensor<8xf32>)
    {indexing_maps = [#op, #lp, #o, #l], fa.schedule = #schedule} -> tensor<8x4xf32>, tensor<8xf32>
  return %r#0 : tensor<8x4xf32>
}
