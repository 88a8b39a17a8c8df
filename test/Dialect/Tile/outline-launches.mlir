// RUN: fa-opt %s --tile-outline-launches | FileCheck %s

#a = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "direct", warps = 4, producers = 0, stages = 1>
#b = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 8, producers = 0, stages = 2>

// CHECK-LABEL: func.func @two_0(
// CHECK-SAME: %[[X:.*]]: memref<?xf32> {tile.align = 16 : i64}, %{{.*}}: memref<?xf32>
// CHECK-SAME: tile.plan = #tile.plan<{{.*}}copy = "direct", warps = 4, producers = 0, stages = 1>, tile.sequence = 0 : i64
// CHECK: %[[N:.*]] = memref.dim %[[X]]
// CHECK-NOT: affine.apply
// CHECK: scf.forall (%{{.*}}) in (%[[N]])
// CHECK: tile.load %[[X]]
// CHECK-NOT: scf.forall
// CHECK: return

// CHECK-LABEL: func.func @two_1(
// CHECK-SAME: %[[X:.*]]: memref<?xf32> {tile.align = 16 : i64}, %[[Y:.*]]: memref<?xf32>
// CHECK-SAME: tile.plan = #tile.plan<{{.*}}copy = "cp_async", warps = 8, producers = 0, stages = 2>, tile.sequence = 1 : i64
// CHECK: %[[N:.*]] = memref.dim %[[X]]
// CHECK: %[[H:.*]] = affine.apply {{.*}}[%[[N]]]
// CHECK: scf.forall (%{{.*}}) in (%[[H]])
// CHECK-NOT: tile.plan
// CHECK: tile.load %[[Y]]
func.func @two(%x: memref<?xf32> {tile.align = 16 : i64}, %y: memref<?xf32>) {
  %c0 = arith.constant 0 : index
  %n = memref.dim %x, %c0 : memref<?xf32>
  scf.forall (%i) in (%n) {
    %t = tile.load %x[%i] : memref<?xf32> -> tensor<1xf32>
    tile.store %t, %y[%i] : tensor<1xf32>, memref<?xf32>
  } {tile.plan = #a}
  %h = affine.apply affine_map<()[s0] -> (s0 floordiv 2)>()[%n]
  scf.forall (%i) in (%h) {
    %t = tile.load %y[%i] : memref<?xf32> -> tensor<1xf32>
    tile.store %t, %x[%i] : tensor<1xf32>, memref<?xf32>
  } {tile.plan = #b}
  return
}

// One launch stays where it is; its plan is the function's.
// CHECK-LABEL: func.func @one(
// CHECK-SAME: attributes {tile.plan = #tile.plan<{{.*}}copy = "direct"
// CHECK-NOT: tile.sequence
func.func @one(%x: memref<?xf32>) {
  %c1 = arith.constant 1 : index
  scf.forall (%i) in (%c1) {
    %t = tile.load %x[%i] : memref<?xf32> -> tensor<1xf32>
    tile.store %t, %x[%i] : tensor<1xf32>, memref<?xf32>
  } {tile.plan = #a}
  return
}
