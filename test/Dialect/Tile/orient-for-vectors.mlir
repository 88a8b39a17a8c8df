// RUN: fa-opt %s --pass-pipeline='builtin.module(func.func(tile-orient-for-vectors))' | FileCheck %s

#mk = affine_map<(m, n, k) -> (m, k)>
#nk = affine_map<(m, n, k) -> (n, k)>
#kn = affine_map<(m, n, k) -> (k, n)>
#mn = affine_map<(m, n, k) -> (m, n)>

// CHECK-DAG: #[[KM:.*]] = affine_map<(d0, d1, d2) -> (d2, d0)>
// CHECK-DAG: #[[NK:.*]] = affine_map<(d0, d1, d2) -> (d1, d2)>
// CHECK-DAG: #[[NM:.*]] = affine_map<(d0, d1, d2) -> (d1, d0)>
// CHECK-DAG: #[[MK:.*]] = affine_map<(d0, d1, d2) -> (d0, d2)>
// CHECK-DAG: #[[KN:.*]] = affine_map<(d0, d1, d2) -> (d2, d1)>
// CHECK-DAG: #[[MN:.*]] = affine_map<(d0, d1, d2) -> (d0, d1)>

// A row reduction turns the product, its elementwise users, the left operand
// (which shares the lanes) and the store; the right operand stays.
// CHECK-LABEL: func.func @row_statistics
func.func @row_statistics(%a: memref<?x?xf32>, %b: memref<?x?xf32>, %c: memref<?x?xf32>) {
  %c0 = arith.constant 0 : index
  // CHECK: %[[ZERO:.*]] = arith.constant dense<0.000000e+00> : tensor<24x32xf32>
  %zero = arith.constant dense<0.0> : tensor<32x24xf32>
  // CHECK: %[[A:.*]] = tile.load %{{.*}} order [1, 0] : memref<?x?xf32> -> tensor<16x32xf32>
  %at = tile.load %a[%c0, %c0] : memref<?x?xf32> -> tensor<32x16xf32>
  // CHECK: %[[B:.*]] = tile.load %{{[^ ]*}}[%{{[^]]*}}] : memref<?x?xf32> -> tensor<24x16xf32>
  %bt = tile.load %b[%c0, %c0] : memref<?x?xf32> -> tensor<24x16xf32>
  // CHECK: %[[P:.*]] = tile.contract %[[A]], %[[B]], %[[ZERO]] {maps = [#[[KM]], #[[NK]], #[[NM]]]}
  %p = tile.contract %at, %bt, %zero {maps = [#mk, #nk, #mn]}
      : tensor<32x16xf32>, tensor<24x16xf32>, tensor<32x24xf32>
  // CHECK: %[[S:.*]] = tile.reduce add %[[P]] dim 0 : tensor<24x32xf32> -> tensor<32xf32>
  %s = tile.reduce add %p dim 1 : tensor<32x24xf32> -> tensor<32xf32>
  // CHECK: %[[SB:.*]] = tile.broadcast %[[S]] dim 0 : tensor<32xf32> -> tensor<24x32xf32>
  %sb = tile.broadcast %s dim 1 : tensor<32xf32> -> tensor<32x24xf32>
  // CHECK: %[[I:.*]] = tile.iota dim 0 : tensor<24x32xi32>
  %i = tile.iota dim 1 : tensor<32x24xi32>
  // CHECK: %[[F:.*]] = arith.sitofp %[[I]] : tensor<24x32xi32> to tensor<24x32xf32>
  %f = arith.sitofp %i : tensor<32x24xi32> to tensor<32x24xf32>
  %q = arith.divf %p, %sb : tensor<32x24xf32>
  // CHECK: %[[R:.*]] = arith.addf %{{.*}}, %[[F]] : tensor<24x32xf32>
  %r = arith.addf %q, %f : tensor<32x24xf32>
  // CHECK: tile.store %[[R]], %{{.*}} order [1, 0] : tensor<24x32xf32>
  tile.store %r, %c[%c0, %c0] : tensor<32x24xf32>, memref<?x?xf32>
  return
}

// Nothing to gain: the accumulator's rows are the result's.
// CHECK-LABEL: func.func @matmul
func.func @matmul(%a: memref<?x?xf32>, %b: memref<?x?xf32>, %c: memref<?x?xf32>) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant dense<0.0> : tensor<32x24xf32>
  // CHECK-NOT: order
  %at = tile.load %a[%c0, %c0] : memref<?x?xf32> -> tensor<32x16xf32>
  %bt = tile.load %b[%c0, %c0] : memref<?x?xf32> -> tensor<16x24xf32>
  // CHECK: tile.contract {{.*}} {maps = [#[[MK]], #[[KN]], #[[MN]]]}
  %p = tile.contract %at, %bt, %zero {maps = [#mk, #kn, #mn]}
      : tensor<32x16xf32>, tensor<16x24xf32>, tensor<32x24xf32>
  // CHECK-NOT: order
  tile.store %p, %c[%c0, %c0] : tensor<32x24xf32>, memref<?x?xf32>
  return
}

// The operand that shares the accumulator's lanes is loaded turned.
// CHECK-LABEL: func.func @matmul_transposed_b
func.func @matmul_transposed_b(%a: memref<?x?xf32>, %b: memref<?x?xf32>, %c: memref<?x?xf32>) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant dense<0.0> : tensor<32x24xf32>
  // CHECK: tile.load %{{[^ ]*}}[%{{[^]]*}}] : memref<?x?xf32> -> tensor<32x16xf32>
  %at = tile.load %a[%c0, %c0] : memref<?x?xf32> -> tensor<32x16xf32>
  // CHECK: tile.load %{{.*}} order [1, 0] : memref<?x?xf32> -> tensor<16x24xf32>
  %bt = tile.load %b[%c0, %c0] : memref<?x?xf32> -> tensor<24x16xf32>
  // CHECK: tile.contract {{.*}} {maps = [#[[MK]], #[[KN]], #[[MN]]]}
  %p = tile.contract %at, %bt, %zero {maps = [#mk, #nk, #mn]}
      : tensor<32x16xf32>, tensor<24x16xf32>, tensor<32x24xf32>
  tile.store %p, %c[%c0, %c0] : tensor<32x24xf32>, memref<?x?xf32>
  return
}

// Loops tie their carried tiles; an initial constant follows.
// CHECK-LABEL: func.func @carried
func.func @carried(%c: memref<?x?xf32>, %o: memref<?xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  // CHECK: %[[ZERO:.*]] = arith.constant dense<0.000000e+00> : tensor<24x32xf32>
  %zero = arith.constant dense<0.0> : tensor<32x24xf32>
  // CHECK: %[[R:.*]] = scf.for {{.*}} iter_args(%{{.*}} = %[[ZERO]]) -> (tensor<24x32xf32>)
  %r = scf.for %i = %c0 to %n step %c1 iter_args(%x = %zero) -> (tensor<32x24xf32>) {
    // CHECK: tile.load {{.*}} order [1, 0]
    %t = tile.load %c[%i, %c0] : memref<?x?xf32> -> tensor<32x24xf32>
    %y = arith.addf %x, %t : tensor<32x24xf32>
    // CHECK: scf.yield %{{.*}} : tensor<24x32xf32>
    scf.yield %y : tensor<32x24xf32>
  }
  // CHECK: tile.reduce max %[[R]] dim 0
  %m = tile.reduce max %r dim 1 : tensor<32x24xf32> -> tensor<32xf32>
  tile.store %m, %o[%c0] : tensor<32xf32>, memref<?xf32>
  return
}

// The factor from outside of the loop has the lanes, whatever broadcasts want: it is
// transposed once. The second product wants it as it is: it is loaded both ways.
// CHECK-LABEL: func.func @invariant_factor(
// CHECK-SAME: %[[A:[a-z0-9]*]]: memref<?x?xf32>, %[[B:[a-z0-9]*]]: memref<?x?xf32>
func.func @invariant_factor(%a: memref<?x?xf32>, %b: memref<?x?xf32>, %x: memref<?xf32>, %c: memref<?x?xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant dense<0.0> : tensor<32x24xf32>
  %none = arith.constant dense<0.0> : tensor<32x16xf32>
  // CHECK-DAG: %[[TURNED:.*]] = tile.load %[[B]][%{{[^]]*}}] order [1, 0] : memref<?x?xf32> -> tensor<16x24xf32>
  // CHECK-DAG: %[[KEPT:.*]] = tile.load %[[B]][%{{[^]]*}}] : memref<?x?xf32> -> tensor<24x16xf32>
  %bt = tile.load %b[%c0, %c0] : memref<?x?xf32> -> tensor<24x16xf32>
  // CHECK: scf.for
  scf.for %i = %c0 to %n step %c1 {
    // CHECK: %[[AT:.*]] = tile.load %[[A]][%{{[^]]*}}] : memref<?x?xf32> -> tensor<32x16xf32>
    %at = tile.load %a[%i, %c0] : memref<?x?xf32> -> tensor<32x16xf32>
    %xt = tile.load %x[%i] : memref<?xf32> -> tensor<32xf32>
    // CHECK: tile.broadcast %{{.*}} dim 1 : tensor<32xf32> -> tensor<32x24xf32>
    %xs = tile.broadcast %xt dim 1 : tensor<32xf32> -> tensor<32x24xf32>
    // CHECK: tile.contract %[[AT]], %[[TURNED]], %{{.*}} {maps = [#[[MK]], #[[KN]], #[[MN]]]}
    %p = tile.contract %at, %bt, %zero {maps = [#mk, #nk, #mn]}
        : tensor<32x16xf32>, tensor<24x16xf32>, tensor<32x24xf32>
    %s = arith.subf %p, %xs : tensor<32x24xf32>
    // CHECK: tile.contract %{{.*}}, %[[KEPT]], %{{.*}} {maps = [#[[MK]], #[[KN]], #[[MN]]]}
    %d = tile.contract %s, %bt, %none {maps = [#mk, #kn, #mn]}
        : tensor<32x24xf32>, tensor<24x16xf32>, tensor<32x16xf32>
    tile.store %d, %c[%i, %c0] : tensor<32x16xf32>, memref<?x?xf32>
  }
  return
}
