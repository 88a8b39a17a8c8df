// RUN: fa-opt %s --convert-tile-to-linalg | FileCheck %s

// Grid points run one after another here: read, add, write, inside the memref.
// CHECK-LABEL: func.func @accumulate
// CHECK-SAME: %[[T:.*]]: tensor<8x4xf32>, %[[M:.*]]: memref<?x?xf32>, %[[O:.*]]: index
// CHECK: scf.for %[[I:.*]] = %c0{{.*}} to %c8
// CHECK: scf.for %[[J:.*]] = %c0{{.*}} to %c4
// CHECK: %[[Y:.*]] = arith.addi %[[O]], %[[I]]
// CHECK: %[[X:.*]] = arith.addi %{{.*}}, %[[J]]
// CHECK: scf.if
// CHECK: %[[V:.*]] = tensor.extract %[[T]][%[[I]], %[[J]]]
// CHECK: %[[OLD:.*]] = memref.load %[[M]][%[[X]], %[[Y]]]
// CHECK: %[[NEW:.*]] = arith.addf %[[OLD]], %[[V]]
// CHECK: memref.store %[[NEW]], %[[M]][%[[X]], %[[Y]]]
func.func @accumulate(%t: tensor<8x4xf32>, %m: memref<?x?xf32>, %i: index) {
  %c0 = arith.constant 0 : index
  tile.accumulate %t, %m[%c0, %i] order [1, 0] : tensor<8x4xf32>, memref<?x?xf32>
  return
}

// Any column may be in any part: here the first part has all.
// CHECK-LABEL: func.func @partial_sums
// CHECK: %[[SUMS:.*]] = linalg.generic {{.*}} iterator_types = ["parallel", "reduction"]
// CHECK: %[[ZERO:.*]] = arith.constant dense<0.000000e+00> : tensor<8x4xf32>
// CHECK: tensor.insert_slice %[[SUMS]] into %[[ZERO]][0, 0] [8, 1] [1, 1] : tensor<8xf32> into tensor<8x4xf32>
func.func @partial_sums(%t: tensor<8x16xf32>) -> tensor<8x4xf32> {
  %p = tile.partial_sums %t : tensor<8x16xf32> -> tensor<8x4xf32>
  return %p : tensor<8x4xf32>
}
