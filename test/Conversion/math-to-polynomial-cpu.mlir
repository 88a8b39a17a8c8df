// RUN: fa-opt %s --convert-math-to-polynomial | FileCheck %s

// CHECK-LABEL: func.func @exp2
func.func @exp2(%x: vector<8xf32>) -> vector<8xf32> {
  // CHECK-DAG: %[[LOW:.*]] = arith.constant dense<-1.260000e+02>
  // CHECK-DAG: %[[HIGH:.*]] = arith.constant dense<1.280000e+02>
  // CHECK-DAG: %[[MAGIC:.*]] = arith.constant dense<0x4B400000>
  // CHECK-DAG: %[[BIAS:.*]] = arith.constant dense<126> : vector<8xi32>
  // CHECK: arith.cmpf olt, %{{.*}}, %[[LOW]]
  // CHECK: arith.cmpf ogt, %{{.*}}, %[[HIGH]]
  // CHECK: %[[SHIFTED:.*]] = arith.addf %[[X:.*]], %[[MAGIC]]
  // CHECK: %[[N:.*]] = arith.subf %[[SHIFTED]], %[[MAGIC]]
  // CHECK: %[[F:.*]] = arith.subf %[[X]], %[[N]]
  // CHECK: arith.mulf %[[F]], %{{.*}} fastmath<contract>
  // CHECK-COUNT-5: arith.mulf %{{.*}}, %[[F]] fastmath<contract>
  // CHECK: %[[BITS:.*]] = arith.bitcast %[[SHIFTED]] : vector<8xf32> to vector<8xi32>
  // CHECK: arith.addi %[[BITS]], %[[BIAS]]
  // CHECK: arith.shli
  // CHECK: %[[R:.*]] = arith.mulf
  // CHECK: return %[[R]]
  %y = math.exp2 %x : vector<8xf32>
  return %y : vector<8xf32>
}

// CHECK-LABEL: func.func @exp2_f64
func.func @exp2_f64(%x: vector<4xf64>) -> vector<4xf64> {
  // CHECK-COUNT-11: arith.mulf %{{.*}} fastmath<contract> : vector<4xf64>
  // CHECK-NOT: math.exp2
  %y = math.exp2 %x : vector<4xf64>
  return %y : vector<4xf64>
}
