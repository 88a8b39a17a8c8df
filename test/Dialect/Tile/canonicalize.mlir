// RUN: fa-opt %s --canonicalize | FileCheck %s

// Of one number everywhere: its maximum and the sum of zeros.
// CHECK-LABEL: func.func @reduce
// CHECK-DAG: %[[TWO:.*]] = arith.constant dense<2.000000e+00> : tensor<16xf32>
// CHECK-DAG: %[[ZERO:.*]] = arith.constant dense<0.000000e+00> : tensor<16xf32>
// CHECK-DAG: %[[TWOS:.*]] = arith.constant dense<2.000000e+00> : tensor<16x8xf32>
// CHECK-DAG: %[[NANS:.*]] = arith.constant dense<0x7FC00000> : tensor<16x8xf32>
// CHECK-DAG: %[[SUM:.*]] = tile.reduce add %[[TWOS]] dim 1
// CHECK-DAG: %[[MAX:.*]] = tile.reduce max %[[NANS]] dim 1
// CHECK: return %[[TWO]], %[[ZERO]], %[[SUM]], %[[MAX]]
func.func @reduce() -> (tensor<16xf32>, tensor<16xf32>, tensor<16xf32>, tensor<16xf32>) {
  %twos = arith.constant dense<2.0> : tensor<16x8xf32>
  %zeros = arith.constant dense<0.0> : tensor<16x8xf32>
  %nans = arith.constant dense<0x7FC00000> : tensor<16x8xf32>
  %a = tile.reduce max %twos dim 1 : tensor<16x8xf32> -> tensor<16xf32>
  %b = tile.reduce add %zeros dim 1 : tensor<16x8xf32> -> tensor<16xf32>
  %c = tile.reduce add %twos dim 1 : tensor<16x8xf32> -> tensor<16xf32>
  %d = tile.reduce max %nans dim 1 : tensor<16x8xf32> -> tensor<16xf32>
  return %a, %b, %c, %d : tensor<16xf32>, tensor<16xf32>, tensor<16xf32>, tensor<16xf32>
}

// CHECK-LABEL: func.func @nonfinite
// CHECK-DAG: %[[TRUE:.*]] = arith.constant true
// CHECK-DAG: %[[FALSE:.*]] = arith.constant false
// CHECK: return %[[FALSE]], %[[TRUE]]
func.func @nonfinite() -> (i1, i1) {
  %zeros = arith.constant dense<0.0> : tensor<16xf32>
  %inf = arith.constant dense<0x7F800000> : tensor<16xf32>
  %a = tile.nonfinite %zeros : tensor<16xf32>
  %b = tile.nonfinite %inf : tensor<16xf32>
  return %a, %b : i1, i1
}
