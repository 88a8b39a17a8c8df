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
