// RUN: fa-opt %s --split-input-file --verify-diagnostics --pass-pipeline='builtin.module(func.func(convert-forall-to-range))' | FileCheck %s

// CHECK: #[[GRID:.*]] = affine_map<()[s0, s1] -> (s0, 3, s1 ceildiv 8)>
// CHECK-LABEL: func.func @entry
// CHECK-SAME: (%[[WORDS:.*]]: !llvm.ptr, %[[BEGIN:.*]]: i64, %[[END:.*]]: i64)
// CHECK-SAME: tile.args = [f32, memref<?x3x?xf32>, index]
// CHECK-SAME: tile.launch = {grid = #[[GRID]], grid_symbols = array<i64: 2, -1, 1, 2>}
func.func @entry(%s: f32, %m: memref<?x3x?xf32>, %n: index) {
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %d1 = memref.dim %m, %c1 : memref<?x3x?xf32>
  %d2 = memref.dim %m, %c2 : memref<?x3x?xf32>
  %g = affine.apply affine_map<()[s0] -> (s0 ceildiv 8)>()[%d2]
  // The scalar is word 0, the memref words 1 to 9, the index word 10.
  // CHECK: %[[P0:.*]] = llvm.getelementptr %[[WORDS]][0] : (!llvm.ptr) -> !llvm.ptr, i64
  // CHECK: %[[S:.*]] = llvm.load %[[P0]] : !llvm.ptr -> f32
  // CHECK: %[[P1:.*]] = llvm.getelementptr %[[WORDS]][1] : (!llvm.ptr) -> !llvm.ptr, i64
  // CHECK: llvm.load %[[P1]] : !llvm.ptr -> !llvm.ptr
  // CHECK: %[[P9:.*]] = llvm.getelementptr %[[WORDS]][9] : (!llvm.ptr) -> !llvm.ptr, i64
  // CHECK: %[[STRIDE:.*]] = llvm.load %[[P9]] : !llvm.ptr -> i64
  // CHECK: %[[DESC:.*]] = llvm.insertvalue %[[STRIDE]], %{{.*}}[4, 2]
  // CHECK: %[[M:.*]] = builtin.unrealized_conversion_cast %[[DESC]] : {{.*}} to memref<?x3x?xf32>
  // CHECK: %[[P10:.*]] = llvm.getelementptr %[[WORDS]][10]
  // CHECK: %[[N64:.*]] = llvm.load %[[P10]] : !llvm.ptr -> i64
  // CHECK: %[[N:.*]] = arith.index_cast %[[N64]] : i64 to index
  // CHECK: %[[D1:.*]] = memref.dim %[[M]], %c1
  // CHECK: %[[G:.*]] = affine.apply
  // CHECK: %[[LO:.*]] = arith.index_cast %[[BEGIN]] : i64 to index
  // CHECK: %[[HI:.*]] = arith.index_cast %[[END]] : i64 to index
  // CHECK: scf.for %[[P:.*]] = %[[LO]] to %[[HI]]
  // CHECK: %[[K:.*]] = arith.remui %[[P]], %[[G]]
  // CHECK: %[[REST:.*]] = arith.divui %[[P]], %[[G]]
  // CHECK: %[[J:.*]] = arith.remui %[[REST]], %[[D1]]
  // CHECK: %[[I:.*]] = arith.divui %[[REST]], %[[D1]]
  // CHECK: memref.store %[[S]], %[[M]][%[[I]], %[[J]], %[[K]]]
  scf.forall (%i, %j, %k) in (%n, %d1, %g) {
    memref.store %s, %m[%i, %j, %k] : memref<?x3x?xf32>
  }
  return
}

// -----

// expected-error @below {{the extents of the grid must be composed of affine.apply}}
func.func @computed_extent(%n: index) {
  // expected-note @below {{but this value is none of them}}
  %g = arith.xori %n, %n : index
  scf.forall (%i) in (%g) {
  }
  return
}

// -----

// expected-error @below {{has 2 scf.forall; a launch is made of exactly one}}
func.func @two(%n: index) {
  scf.forall (%i) in (%n) {
  }
  scf.forall (%i) in (%n) {
  }
  return
}

// -----

// expected-error @below {{argument 0 has type 'memref<*xf32>'; an entry point takes}}
func.func @unranked(%m: memref<*xf32>, %n: index) {
  scf.forall (%i) in (%n) {
  }
  return
}
