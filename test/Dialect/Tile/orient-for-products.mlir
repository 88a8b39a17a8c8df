// RUN: fa-opt %s --pass-pipeline='builtin.module(func.func(tile-orient-for-products))' | FileCheck %s

#mk = affine_map<(m, n, k) -> (m, k)>
#km = affine_map<(m, n, k) -> (k, m)>
#nk = affine_map<(m, n, k) -> (n, k)>
#kn = affine_map<(m, n, k) -> (k, n)>
#mn = affine_map<(m, n, k) -> (m, n)>

// CHECK-DAG: #[[MK:.*]] = affine_map<(d0, d1, d2) -> (d0, d2)>
// CHECK-DAG: #[[NK:.*]] = affine_map<(d0, d1, d2) -> (d1, d2)>
// CHECK-DAG: #[[KN:.*]] = affine_map<(d0, d1, d2) -> (d2, d1)>
// CHECK-DAG: #[[MN:.*]] = affine_map<(d0, d1, d2) -> (d0, d1)>

// The second product reads the first one's result with k as its rows: it is
// computed transposed, with everything that is tied to it; loads of factors and
// the second product's own result stay.
// CHECK-LABEL: func.func @transposed_left
func.func @transposed_left(%a: memref<32x64xf16>, %b: memref<16x64xf16>, %x: memref<32xf32>,
                           %y: memref<32x16xf32>, %o: memref<16x64xf32>) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant dense<0.0> : tensor<32x16xf32>
  // CHECK: %[[ZERO:.*]] = arith.constant dense<0.000000e+00> : tensor<16x32xf32>
  // CHECK: %[[C:.*]] = arith.constant dense<0.000000e+00> : tensor<16x64xf32>
  %c = arith.constant dense<0.0> : tensor<16x64xf32>
  // CHECK: %[[A:.*]] = tile.load {{.*}} -> tensor<32x64xf16>
  %at = tile.load %a[%c0, %c0] : memref<32x64xf16> -> tensor<32x64xf16>
  // CHECK: %[[B:.*]] = tile.load {{.*}} -> tensor<16x64xf16>
  %bt = tile.load %b[%c0, %c0] : memref<16x64xf16> -> tensor<16x64xf16>
  // CHECK: %[[S:.*]] = tile.contract %[[B]], %[[A]], %[[ZERO]] {maps = [#[[MK]], #[[NK]], #[[MN]]]} : tensor<16x64xf16>, tensor<32x64xf16>, tensor<16x32xf32>
  %s = tile.contract %at, %bt, %zero {maps = [#mk, #nk, #mn]}
      : tensor<32x64xf16>, tensor<16x64xf16>, tensor<32x16xf32>
  // CHECK: %[[X:.*]] = tile.load %{{.*}} : memref<32xf32> -> tensor<32xf32>
  %xt = tile.load %x[%c0] : memref<32xf32> -> tensor<32xf32>
  // CHECK: %[[XB:.*]] = tile.broadcast %[[X]] dim 0 : tensor<32xf32> -> tensor<16x32xf32>
  %xb = tile.broadcast %xt dim 1 : tensor<32xf32> -> tensor<32x16xf32>
  // CHECK: %[[Y:.*]] = tile.load {{.*}} order [1, 0] : memref<32x16xf32> -> tensor<16x32xf32>
  %yt = tile.load %y[%c0, %c0] : memref<32x16xf32> -> tensor<32x16xf32>
  %t = arith.subf %s, %xb : tensor<32x16xf32>
  %u = arith.addf %t, %yt : tensor<32x16xf32>
  // CHECK: %[[P:.*]] = arith.truncf %{{.*}} : tensor<16x32xf32> to tensor<16x32xf16>
  %p = arith.truncf %u : tensor<32x16xf32> to tensor<32x16xf16>
  // CHECK: %[[R:.*]] = tile.contract %[[P]], %[[A]], %[[C]] {maps = [#[[MK]], #[[KN]], #[[MN]]]} : tensor<16x32xf16>, tensor<32x64xf16>, tensor<16x64xf32>
  %r = tile.contract %p, %at, %c {maps = [#km, #kn, #mn]}
      : tensor<32x16xf16>, tensor<32x64xf16>, tensor<16x64xf32>
  // CHECK: tile.store %[[R]], %{{[^ ]*}}[%{{[^]]*}}] : tensor<16x64xf32>
  tile.store %r, %o[%c0, %c0] : tensor<16x64xf32>, memref<16x64xf32>
  return
}

// A computed factor on the right turns the accumulator.
// CHECK-LABEL: func.func @computed_right
func.func @computed_right(%a: memref<16x64xf16>, %b: memref<64x32xf32>, %o: memref<16x32xf32>) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant dense<0.0> : tensor<16x32xf32>
  // CHECK: %[[A:.*]] = tile.load {{.*}} -> tensor<16x64xf16>
  %at = tile.load %a[%c0, %c0] : memref<16x64xf16> -> tensor<16x64xf16>
  // CHECK: %[[B:.*]] = tile.load {{.*}} order [1, 0] : memref<64x32xf32> -> tensor<32x64xf32>
  %bt = tile.load %b[%c0, %c0] : memref<64x32xf32> -> tensor<64x32xf32>
  // CHECK: %[[F:.*]] = arith.truncf %[[B]]
  %f = arith.truncf %bt : tensor<64x32xf32> to tensor<64x32xf16>
  // CHECK: %[[R:.*]] = tile.contract %[[F]], %[[A]], %{{.*}} {maps = [#[[MK]], #[[NK]], #[[MN]]]} : tensor<32x64xf16>, tensor<16x64xf16>, tensor<32x16xf32>
  %r = tile.contract %at, %f, %zero {maps = [#mk, #kn, #mn]}
      : tensor<16x64xf16>, tensor<64x32xf16>, tensor<16x32xf32>
  // CHECK: tile.store %[[R]], {{.*}} order [1, 0] : tensor<32x16xf32>
  tile.store %r, %o[%c0, %c0] : tensor<16x32xf32>, memref<16x32xf32>
  return
}

// Nothing to turn.
// CHECK-LABEL: func.func @chain
func.func @chain(%a: memref<32x64xf16>, %b: memref<16x64xf16>, %o: memref<32x64xf32>) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant dense<0.0> : tensor<32x16xf32>
  %c = arith.constant dense<0.0> : tensor<32x64xf32>
  // CHECK: %[[A:.*]] = tile.load {{.*}} -> tensor<32x64xf16>
  %at = tile.load %a[%c0, %c0] : memref<32x64xf16> -> tensor<32x64xf16>
  // CHECK: %[[B:.*]] = tile.load {{.*}} -> tensor<16x64xf16>
  %bt = tile.load %b[%c0, %c0] : memref<16x64xf16> -> tensor<16x64xf16>
  // CHECK: %[[S:.*]] = tile.contract %[[A]], %[[B]], %{{.*}} {maps = [#[[MK]], #[[NK]], #[[MN]]]}
  %s = tile.contract %at, %bt, %zero {maps = [#mk, #nk, #mn]}
      : tensor<32x64xf16>, tensor<16x64xf16>, tensor<32x16xf32>
  // CHECK: %[[P:.*]] = arith.truncf %[[S]] : tensor<32x16xf32>
  %p = arith.truncf %s : tensor<32x16xf32> to tensor<32x16xf16>
  // CHECK: tile.contract %[[P]], %[[B]], %{{.*}} {maps = [#[[MK]], #[[KN]], #[[MN]]]}
  %r = tile.contract %p, %bt, %c {maps = [#mk, #kn, #mn]}
      : tensor<32x16xf16>, tensor<16x64xf16>, tensor<32x64xf32>
  tile.store %r, %o[%c0, %c0] : tensor<32x64xf32>, memref<32x64xf32>
  return
}
