// RUN: fa-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(convert-tile-to-vector{vector-bits=512 registers=32 dot-bf16},cse))' | FileCheck %s
// RUN: fa-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(convert-tile-to-vector{vector-bits=256 registers=16 dot-bf16},cse))' | FileCheck %s --check-prefix=NARROW
// RUN: fa-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(convert-tile-to-vector{vector-bits=512 registers=32},cse))' | FileCheck %s --check-prefix=WITHOUT

#mk = affine_map<(m, n, k) -> (m, k)>
#kn = affine_map<(m, n, k) -> (k, n)>
#mn = affine_map<(m, n, k) -> (m, n)>

// Along k, the rows of the right factor: two of them are interleaved after the
// load. The left factor has neighbours in memory.
// WITHOUT-NOT: call_intrinsic
// NARROW-LABEL: func.func @load
// NARROW: llvm.call_intrinsic "llvm.x86.avx512bf16.dpbf16ps.256"(%{{.*}}) : (vector<8xf32>, vector<16xbf16>, vector<16xbf16>) -> vector<8xf32>
// CHECK-LABEL: func.func @load
func.func @load(%a: memref<4x8xbf16>, %b: memref<8x32xbf16>, %c: memref<4x32xf32>) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant dense<0.0> : tensor<4x32xf32>
  // CHECK-DAG: %[[PAIRS:.*]] = memref.alloca() {{.*}} : memref<4x96xbf16>
  // CHECK-DAG: %[[B:.*]] = memref.alloca() {{.*}} : memref<8x32xbf16>
  // CHECK-DAG: %[[A:.*]] = memref.alloca() {{.*}} : memref<4x32xbf16>
  %at = tile.load %a[%c0, %c0] : memref<4x8xbf16> -> tensor<4x8xbf16>
  // CHECK: scf.for %[[ROW:.*]] = %c0 to %c8 step %c2
  // CHECK: %[[NEXT:.*]] = arith.addi %[[ROW]], %c1
  // CHECK: %[[EVEN:.*]] = vector.load %[[B]][%[[ROW]], %c0]
  // CHECK: %[[ODD:.*]] = vector.load %[[B]][%[[NEXT]], %c0]
  // CHECK: %[[PAIR:.*]] = vector.interleave %[[EVEN]], %[[ODD]] : vector<32xbf16>
  // CHECK: %[[AT:.*]] = arith.shrui %[[ROW]], %c1
  // CHECK: vector.store %[[PAIR]], %[[PAIRS]][%[[AT]], %{{.*}}]
  %bt = tile.load %b[%c0, %c0] : memref<8x32xbf16> -> tensor<8x32xbf16>
  // CHECK: %[[SUM:.*]]:8 = scf.for %[[K:.*]] = %c0 to %c4 step %c1 iter_args(%[[ACC:[^ ]*]] =
  // CHECK: %[[K2:.*]] = arith.addi %[[K]], %[[K]]
  // CHECK: %[[LANES:.*]] = vector.load %[[PAIRS]][%[[K]], %{{.*}}] : memref<4x96xbf16>, vector<32xbf16>
  // CHECK: %[[X:.*]] = vector.load %[[A]][%c0, %[[K2]]] : memref<4x32xbf16>, vector<2xbf16>
  // CHECK: %[[W:.*]] = vector.bitcast %[[X]] : vector<2xbf16> to vector<1xi32>
  // CHECK: %[[S:.*]] = vector.extract %[[W]][0]
  // CHECK: %[[ALL:.*]] = vector.broadcast %[[S]] : i32 to vector<16xi32>
  // CHECK: %[[LEFT:.*]] = vector.bitcast %[[ALL]] : vector<16xi32> to vector<32xbf16>
  // CHECK: llvm.call_intrinsic "llvm.x86.avx512bf16.dpbf16ps.512"(%[[ACC]], %[[LEFT]], %[[LANES]])
  // CHECK: vector.shuffle %[[SUM]]#0, %[[SUM]]#1
  %p = tile.contract %at, %bt, %zero {maps = [#mk, #kn, #mn]}
      : tensor<4x8xbf16>, tensor<8x32xbf16>, tensor<4x32xf32>
  tile.store %p, %c[%c0, %c0] : tensor<4x32xf32>, memref<4x32xf32>
  return
}

// -----

#mk = affine_map<(m, n, k) -> (m, k)>
#kn = affine_map<(m, n, k) -> (k, n)>
#mn = affine_map<(m, n, k) -> (m, n)>

// A computed factor that nothing else reads is written in pairs, two rows at a
// time, and never as rows.
// WITHOUT-NOT: call_intrinsic
// CHECK-LABEL: func.func @computed
func.func @computed(%a: memref<4x8xbf16>, %b: memref<8x32xf32>, %c: memref<4x32xf32>) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant dense<0.0> : tensor<4x32xf32>
  // CHECK-DAG: %[[PAIRS:.*]] = memref.alloca() {{.*}} : memref<4x96xbf16>
  // CHECK-NOT: memref<8x32xbf16>
  %at = tile.load %a[%c0, %c0] : memref<4x8xbf16> -> tensor<4x8xbf16>
  %bt = tile.load %b[%c0, %c0] : memref<8x32xf32> -> tensor<8x32xf32>
  // CHECK: scf.for %[[ROW:.*]] = %c0 to %c8 step %c2
  // CHECK: %[[EVEN:.*]] = arith.truncf %{{.*}} : vector<32xf32> to vector<32xbf16>
  // CHECK: %[[ODD:.*]] = arith.truncf %{{.*}} : vector<32xf32> to vector<32xbf16>
  // CHECK: %[[PAIR:.*]] = vector.interleave %[[EVEN]], %[[ODD]]
  // CHECK: vector.store %[[PAIR]], %[[PAIRS]][
  %t = arith.truncf %bt : tensor<8x32xf32> to tensor<8x32xbf16>
  // CHECK: dpbf16ps
  %p = tile.contract %at, %t, %zero {maps = [#mk, #kn, #mn]}
      : tensor<4x8xbf16>, tensor<8x32xbf16>, tensor<4x32xf32>
  tile.store %p, %c[%c0, %c0] : tensor<4x32xf32>, memref<4x32xf32>
  return
}

// -----

#mk = affine_map<(m, n, k) -> (m, k)>
#kn = affine_map<(m, n, k) -> (k, n)>
#mn = affine_map<(m, n, k) -> (m, n)>

// An odd number of products, or another type: no pairs.
// CHECK-LABEL: func.func @odd
// CHECK-NOT: call_intrinsic
func.func @odd(%a: memref<4x7xbf16>, %b: memref<7x32xbf16>, %c: memref<4x32xf32>) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant dense<0.0> : tensor<4x32xf32>
  %at = tile.load %a[%c0, %c0] : memref<4x7xbf16> -> tensor<4x7xbf16>
  %bt = tile.load %b[%c0, %c0] : memref<7x32xbf16> -> tensor<7x32xbf16>
  %p = tile.contract %at, %bt, %zero {maps = [#mk, #kn, #mn]}
      : tensor<4x7xbf16>, tensor<7x32xbf16>, tensor<4x32xf32>
  tile.store %p, %c[%c0, %c0] : tensor<4x32xf32>, memref<4x32xf32>
  return
}

// -----

#mk = affine_map<(m, n, k) -> (m, k)>
#kn = affine_map<(m, n, k) -> (k, n)>
#mn = affine_map<(m, n, k) -> (m, n)>

// CHECK-LABEL: func.func @half
// CHECK-NOT: call_intrinsic
func.func @half(%a: memref<4x8xf16>, %b: memref<8x32xf16>, %c: memref<4x32xf32>) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant dense<0.0> : tensor<4x32xf32>
  %at = tile.load %a[%c0, %c0] : memref<4x8xf16> -> tensor<4x8xf16>
  %bt = tile.load %b[%c0, %c0] : memref<8x32xf16> -> tensor<8x32xf16>
  %p = tile.contract %at, %bt, %zero {maps = [#mk, #kn, #mn]}
      : tensor<4x8xf16>, tensor<8x32xf16>, tensor<4x32xf32>
  tile.store %p, %c[%c0, %c0] : tensor<4x32xf32>, memref<4x32xf32>
  return
}
