// RUN: fa-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(convert-tile-to-vector{vector-bits=512 registers=32 dot-bf16 amx-bf16},cse))' | FileCheck %s

#mk = affine_map<(m, n, k) -> (m, k)>
#km = affine_map<(m, n, k) -> (k, m)>
#kn = affine_map<(m, n, k) -> (k, n)>
#mn = affine_map<(m, n, k) -> (m, n)>

// Sums of 48x32 over k = 64: a block of 2x2 registers, then one of 1x2. The shapes are set
// first (palette 1; 64 bytes, eight times; 16 rows, eight times), and released last.
// CHECK-LABEL: func.func @rows
// CHECK: %[[SHAPES:.*]] = arith.constant dense<[1, 0, 0, 0, 4194368, 4194368, 4194368, 4194368, 0, 0, 0, 0, 269488144, 269488144, 0, 0]> : vector<16xi32>
// CHECK: vector.store %[[SHAPES]], %[[CONFIG:.*]][
// CHECK: %[[START:.*]] = memref.extract_aligned_pointer_as_index %[[CONFIG]]
// CHECK: llvm.call_intrinsic "llvm.x86.ldtilecfg"(
func.func @rows(%a: memref<48x64xbf16>, %b: memref<64x32xbf16>, %c: memref<48x32xf32>) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant dense<0.0> : tensor<48x32xf32>
  // CHECK-DAG: %[[A:.*]] = memref.alloca() {{.*}} : memref<48x96xbf16>
  // CHECK-DAG: %[[PAIRS:.*]] = memref.alloca() {{.*}} : memref<32x96xbf16>
  %at = tile.load %a[%c0, %c0] : memref<48x64xbf16> -> tensor<48x64xbf16>
  %bt = tile.load %b[%c0, %c0] : memref<64x32xbf16> -> tensor<64x32xbf16>
  // CHECK: llvm.call_intrinsic "llvm.x86.tilezero"(%[[R0:[0-9]+]]) : (i8)
  // CHECK: llvm.call_intrinsic "llvm.x86.tilezero"(%[[R1:[0-9]+]]) : (i8)
  // CHECK: llvm.call_intrinsic "llvm.x86.tilezero"(%[[R2:[0-9]+]]) : (i8)
  // CHECK: llvm.call_intrinsic "llvm.x86.tilezero"(%[[R3:[0-9]+]]) : (i8)
  // CHECK: scf.for %[[K:.*]] = %c0 to %c64 step %c32
  // CHECK: %[[PAIR:.*]] = arith.shrui %[[K]], %c1
  // CHECK: memref.extract_aligned_pointer_as_index %[[A]]
  // CHECK: llvm.call_intrinsic "llvm.x86.tileloadd64"(%[[R4:[0-9]+]], %{{.*}}, %{{.*}}) : (i8, !llvm.ptr, i64)
  // CHECK: llvm.call_intrinsic "llvm.x86.tileloadd64"(%[[R5:[0-9]+]], %
  // CHECK: memref.extract_aligned_pointer_as_index %[[PAIRS]]
  // CHECK: llvm.call_intrinsic "llvm.x86.tileloadd64"(%[[R6:[0-9]+]], %
  // CHECK: llvm.call_intrinsic "llvm.x86.tileloadd64"(%[[R7:[0-9]+]], %
  // CHECK: llvm.call_intrinsic "llvm.x86.tdpbf16ps"(%[[R0]], %[[R4]], %[[R6]]) : (i8, i8, i8)
  // CHECK: llvm.call_intrinsic "llvm.x86.tdpbf16ps"(%[[R1]], %[[R4]], %[[R7]])
  // CHECK: llvm.call_intrinsic "llvm.x86.tdpbf16ps"(%[[R2]], %[[R5]], %[[R6]])
  // CHECK: llvm.call_intrinsic "llvm.x86.tdpbf16ps"(%[[R3]], %[[R5]], %[[R7]])
  // CHECK: }
  // CHECK-COUNT-4: llvm.call_intrinsic "llvm.x86.tilestored64"(
  // CHECK-COUNT-2: llvm.call_intrinsic "llvm.x86.tilezero"(
  // CHECK: scf.for
  // CHECK-COUNT-3: llvm.call_intrinsic "llvm.x86.tileloadd64"(
  // CHECK-COUNT-2: llvm.call_intrinsic "llvm.x86.tdpbf16ps"(
  // CHECK: }
  // CHECK-COUNT-2: llvm.call_intrinsic "llvm.x86.tilestored64"(
  // CHECK-NOT: tdpbf16ps
  %p = tile.contract %at, %bt, %zero {maps = [#mk, #kn, #mn]}
      : tensor<48x64xbf16>, tensor<64x32xbf16>, tensor<48x32xf32>
  tile.store %p, %c[%c0, %c0] : tensor<48x32xf32>, memref<48x32xf32>
  // CHECK: llvm.call_intrinsic "llvm.x86.tilerelease"()
  // CHECK-NEXT: return
  return
}

// -----

#km = affine_map<(m, n, k) -> (k, m)>
#kn = affine_map<(m, n, k) -> (k, n)>
#mn = affine_map<(m, n, k) -> (m, n)>

// A left factor whose rows run along k is turned, pairs as they are; sums go on from the
// accumulator, which is loaded.
// CHECK-LABEL: func.func @turned
func.func @turned(%a: memref<32x16xbf16>, %b: memref<32x16xbf16>, %c: memref<16x16xf32>) {
  %c0 = arith.constant 0 : index
  %acc = tile.load %c[%c0, %c0] : memref<16x16xf32> -> tensor<16x16xf32>
  %at = tile.load %a[%c0, %c0] : memref<32x16xbf16> -> tensor<32x16xbf16>
  %bt = tile.load %b[%c0, %c0] : memref<32x16xbf16> -> tensor<32x16xbf16>
  // CHECK: vector.load %{{.*}} : memref<16x96xbf16>, vector<32xbf16>
  // CHECK: vector.bitcast %{{.*}} : vector<32xbf16> to vector<16xi32>
  // CHECK: vector.shuffle %{{.*}}, %{{.*}} [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23] : vector<16xi32>
  // CHECK: vector.bitcast %{{.*}} : vector<16xi32> to vector<32xbf16>
  // CHECK: vector.store %{{.*}}, %[[TURNED:.*]][%{{.*}}] : memref<16x32xbf16>, vector<32xbf16>
  // CHECK-NOT: tilezero
  // CHECK: llvm.call_intrinsic "llvm.x86.tileloadd64"(
  // CHECK: memref.extract_aligned_pointer_as_index %[[TURNED]]
  // CHECK: llvm.call_intrinsic "llvm.x86.tdpbf16ps"(
  %p = tile.contract %at, %bt, %acc {maps = [#km, #kn, #mn]}
      : tensor<32x16xbf16>, tensor<32x16xbf16>, tensor<16x16xf32>
  tile.store %p, %c[%c0, %c0] : tensor<16x16xf32>, memref<16x16xf32>
  return
}

// -----

#mk = affine_map<(m, n, k) -> (m, k)>
#kn = affine_map<(m, n, k) -> (k, n)>
#mn = affine_map<(m, n, k) -> (m, n)>

// Neither 8 rows nor 16 along k fill registers: dots of pairs, and nothing to set up.
// CHECK-LABEL: func.func @few
// CHECK-NOT: ldtilecfg
// CHECK-COUNT-16: llvm.call_intrinsic "llvm.x86.avx512bf16.dpbf16ps.512"(
// CHECK-NOT: tdpbf16ps
func.func @few(%a: memref<8x32xbf16>, %b: memref<32x32xbf16>, %c: memref<8x32xf32>) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant dense<0.0> : tensor<8x32xf32>
  %at = tile.load %a[%c0, %c0] : memref<8x32xbf16> -> tensor<8x32xbf16>
  %bt = tile.load %b[%c0, %c0] : memref<32x32xbf16> -> tensor<32x32xbf16>
  %p = tile.contract %at, %bt, %zero {maps = [#mk, #kn, #mn]}
      : tensor<8x32xbf16>, tensor<32x32xbf16>, tensor<8x32xf32>
  tile.store %p, %c[%c0, %c0] : tensor<8x32xf32>, memref<8x32xf32>
  return
}

// CHECK-LABEL: func.func @shallow
// CHECK-NOT: ldtilecfg
// CHECK: dpbf16ps.512
func.func @shallow(%a: memref<16x16xbf16>, %b: memref<16x16xbf16>, %c: memref<16x16xf32>) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant dense<0.0> : tensor<16x16xf32>
  %at = tile.load %a[%c0, %c0] : memref<16x16xbf16> -> tensor<16x16xbf16>
  %bt = tile.load %b[%c0, %c0] : memref<16x16xbf16> -> tensor<16x16xbf16>
  %p = tile.contract %at, %bt, %zero {maps = [#mk, #kn, #mn]}
      : tensor<16x16xbf16>, tensor<16x16xbf16>, tensor<16x16xf32>
  tile.store %p, %c[%c0, %c0] : tensor<16x16xf32>, memref<16x16xf32>
  return
}
