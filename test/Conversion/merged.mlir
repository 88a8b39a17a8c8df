// Rows that run along two dimensions of memory: where they are, on each target.
// RUN: fa-opt %s --convert-tile-to-linalg | FileCheck %s

// Row r is (r / heads, r mod heads), for those that (positions * heads) has.
// CHECK-LABEL: func.func @rows(
// CHECK-SAME: %[[M:[a-z0-9]*]]: memref<?x?x8xf32>, %[[L:[a-z0-9]*]]: memref<?x?xf32>, %[[R0:[a-z0-9]*]]: index
// CHECK: linalg.generic
// CHECK: %[[R:.*]] = arith.addi %[[R0]], %{{.*}} : index
// CHECK: %[[POSITIONS:.*]] = memref.dim %[[M]], %c0
// CHECK: %[[HEADS:.*]] = memref.dim %[[M]], %c1
// CHECK: %[[COUNT:.*]] = arith.muli %[[POSITIONS]], %[[HEADS]]
// CHECK: arith.cmpi ult, %[[R]], %[[COUNT]]
// CHECK: %[[FAST:.*]] = arith.maxsi
// CHECK: %[[R32:.*]] = arith.index_cast %[[R]] : index to i32
// CHECK: %[[POSITION32:.*]] = arith.divui %[[R32]], %[[FAST]]
// CHECK: %[[POSITION:.*]] = arith.index_cast %[[POSITION32]]
// CHECK: %[[HEAD32:.*]] = arith.remui %[[R32]], %[[FAST]]
// CHECK: %[[HEAD:.*]] = arith.index_cast %[[HEAD32]]
// CHECK: memref.load %[[M]][%[[POSITION]], %[[HEAD]], %{{.*}}]
// The faster dimension is the first one here.
// CHECK: scf.for
// CHECK: %[[AT:.*]] = arith.addi %[[R0]], %{{.*}} : index
// CHECK: %[[AT32:.*]] = arith.index_cast %[[AT]] : index to i32
// CHECK: %[[SLOW32:.*]] = arith.divui %[[AT32]]
// CHECK: %[[SLOW:.*]] = arith.index_cast %[[SLOW32]]
// CHECK: %[[QUICK32:.*]] = arith.remui %[[AT32]]
// CHECK: %[[QUICK:.*]] = arith.index_cast %[[QUICK32]]
// CHECK: memref.store %{{.*}}, %[[L]][%[[QUICK]], %[[SLOW]]]
func.func @rows(%m: memref<?x?x8xf32>, %l: memref<?x?xf32>, %r0: index) {
  %c0 = arith.constant 0 : index
  %t = tile.load %m[%r0, %c0] merged [0, 1] : memref<?x?x8xf32> -> tensor<16x8xf32>
  %s = tile.reduce add %t dim 1 : tensor<16x8xf32> -> tensor<16xf32>
  tile.store %s, %l[%r0] merged [1, 0] : tensor<16xf32>, memref<?x?xf32>
  return
}
