// RUN: fa-opt %s --split-input-file --verify-diagnostics --tile-outline-launches | FileCheck %s

#a = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "direct", warps = 4, producers = 0, stages = 1>
#b = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 8, producers = 0, stages = 2>

// Each launch has all arguments with their attributes, one loop and only the
// scalar computation that the loop uses; a loop's own plan wins.
// CHECK: #[[$EIGHTHS:.*]] = affine_map<()[s0] -> (s0 ceildiv 8)>

// CHECK-LABEL: func.func @two_0
// CHECK-SAME: (%[[X:.*]]: memref<?x?xf32> {tile.align = 16 : i64}, %[[Y:.*]]: memref<?xf32> {tile.name = "y"}, %{{.*}}: f32)
// CHECK-SAME: tile.order = 0 : i64, tile.plan = #tile.plan<{{.*}}copy = "direct", warps = 4
// CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG: %[[ROWS:.*]] = memref.dim %[[X]], %[[C0]]
// CHECK-NOT: memref.dim
// CHECK: scf.forall (%[[I:.*]]) in (%[[ROWS]]) {
// CHECK: %[[V:.*]] = memref.load %[[X]][%[[I]], %[[C0]]]
// CHECK: memref.store %[[V]], %[[Y]][%[[I]]]
// CHECK-NOT: scf.forall
// CHECK: return

// CHECK-LABEL: func.func @two_1
// CHECK-SAME: (%[[X:.*]]: memref<?x?xf32> {tile.align = 16 : i64}, %[[Y:.*]]: memref<?xf32> {tile.name = "y"}, %[[S:.*]]: f32)
// CHECK-SAME: tile.order = 1 : i64, tile.plan = #tile.plan<{{.*}}copy = "cp_async", warps = 8
// CHECK-DAG: %[[C1:.*]] = arith.constant 1 : index
// CHECK-DAG: %[[COLUMNS:.*]] = memref.dim %[[X]], %[[C1]]
// CHECK-DAG: %[[GRID:.*]] = affine.apply #[[$EIGHTHS]]()[%[[COLUMNS]]]
// CHECK-DAG: %[[T:.*]] = arith.addf %[[S]], %[[S]]
// CHECK-NOT: memref.dim
// CHECK: scf.forall (%[[J:.*]]) in (%[[GRID]]) {
// CHECK: memref.store %[[T]], %[[X]][%[[J]], %[[J]]]
// CHECK: }
// CHECK-NOT: tile.plan
// CHECK: return
// CHECK-NOT: func.func @two(
func.func @two(%x: memref<?x?xf32> {tile.align = 16 : i64}, %y: memref<?xf32> {tile.name = "y"}, %s: f32)
    attributes {tile.plan = #a} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %rows = memref.dim %x, %c0 : memref<?x?xf32>
  %columns = memref.dim %x, %c1 : memref<?x?xf32>
  scf.forall (%i) in (%rows) {
    %v = memref.load %x[%i, %c0] : memref<?x?xf32>
    memref.store %v, %y[%i] : memref<?xf32>
  }
  %t = arith.addf %s, %s : f32
  %grid = affine.apply affine_map<()[s0] -> (s0 ceildiv 8)>()[%columns]
  scf.forall (%j) in (%grid) {
    memref.store %t, %x[%j, %j] : memref<?x?xf32>
  } {tile.plan = #b}
  return
}

// One loop: the function stays; a plan of its loop is its plan.
// CHECK-LABEL: func.func @one
// CHECK-SAME: attributes {tile.plan = #tile.plan<{{.*}}copy = "cp_async", warps = 8
// CHECK-NOT: tile.plan
// CHECK: return
func.func @one(%x: memref<?xf32>, %n: index, %s: f32) attributes {tile.plan = #a} {
  scf.forall (%i) in (%n) {
    memref.store %s, %x[%i] : memref<?xf32>
  } {tile.plan = #b}
  return
}

// No loop, and three of them.
// CHECK-LABEL: func.func @none
// CHECK-SAME: () {
func.func @none() {
  return
}
// CHECK: func.func @three_0(
// CHECK: func.func @three_1(
// CHECK: func.func @three_2(
// CHECK-SAME: tile.order = 2 : i64
func.func @three(%n: index) {
  scf.forall (%i) in (%n) {
  }
  scf.forall (%i) in (%n) {
  }
  scf.forall (%i) in (%n) {
  }
  return
}

// -----

func.func @nested(%n: index, %c: i1) {
  scf.forall (%i) in (%n) {
  }
  scf.if %c {
    // expected-error @+1 {{is nested in another operation; each of several launches is at the top level of the function}}
    scf.forall (%i) in (%n) {
    }
  }
  return
}

// -----

// A value that one loop hands to another.
func.func @carried(%n: index, %t: tensor<8xf32>, %x: memref<8xf32>) {
  // expected-error @+1 {{has results; launches hand values to each other through memrefs only}}
  %r = scf.forall (%i) in (%n) shared_outs(%out = %t) -> tensor<8xf32> {
    scf.forall.in_parallel {
    }
  }
  scf.forall (%i) in (%n) {
    %v = tensor.extract %r[%i] : tensor<8xf32>
    memref.store %v, %x[%i] : memref<8xf32>
  }
  return
}

// -----

func.func @store_between(%n: index, %x: memref<?xf32>, %s: f32) {
  scf.forall (%i) in (%n) {
  }
  // expected-error @+1 {{stands between launches and is not pure; only scalar computation is repeated in each: move it into an scf.forall}}
  memref.store %s, %x[%n] : memref<?xf32>
  scf.forall (%i) in (%n) {
  }
  return
}

// -----

// Memory that one launch writes cannot steer the next.
func.func @load_between(%n: index, %x: memref<?xindex>) {
  scf.forall (%i) in (%n) {
    memref.store %i, %x[%i] : memref<?xindex>
  }
  // expected-error @+1 {{stands between launches and is not pure}}
  %m = memref.load %x[%n] : memref<?xindex>
  scf.forall (%i) in (%m) {
  }
  return
}

// -----

// expected-error @+1 {{returns values; a program of several launches writes to memrefs}}
func.func @returns(%n: index) -> index {
  scf.forall (%i) in (%n) {
  }
  scf.forall (%i) in (%n) {
  }
  return %n : index
}

// -----

// expected-error @+1 {{has branches; the launches of a program run one after another, unconditionally}}
func.func @branches(%n: index) {
  scf.forall (%i) in (%n) {
  }
  cf.br ^next
^next:
  scf.forall (%i) in (%n) {
  }
  return
}

// -----

// expected-error @+1 {{is called; a program of several launches is started by the runtime only}}
func.func @called(%n: index) {
  scf.forall (%i) in (%n) {
  }
  scf.forall (%i) in (%n) {
  }
  return
}
func.func @caller(%n: index) {
  func.call @called(%n) : (index) -> ()
  return
}
