// RUN: fa-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(convert-tile-to-vector{vector-bits=256 registers=16},cse))' | FileCheck %s
// RUN: fa-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(convert-tile-to-vector{vector-bits=512 registers=32},cse))' | FileCheck %s --check-prefix=WIDE

#mk = affine_map<(m, n, k) -> (m, k)>
#kn = affine_map<(m, n, k) -> (k, n)>
#mn = affine_map<(m, n, k) -> (m, n)>

// A product: two vectors of lanes, six of the twelve rows at a time, the
// accumulators carried by the loop over k. The accumulator of the outer loop is
// updated in place: nothing else is stored to it.
// CHECK-LABEL: func.func @matmul
// WIDE-LABEL: func.func @matmul
func.func @matmul(%a: memref<12x8xf32>, %b: memref<8x32xf32>, %c: memref<12x32xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  // CHECK-DAG: %[[C:.*]] = memref.alloca() {{.*}} : memref<12x48xf32>
  // CHECK-DAG: %[[A:.*]] = memref.alloca() {{.*}} : memref<12x16xf32>
  // CHECK-DAG: %[[B:.*]] = memref.alloca() {{.*}} : memref<8x48xf32>
  // CHECK-NOT: memref.alloca
  %zero = arith.constant dense<0.0> : tensor<12x32xf32>
  // CHECK: vector.store %{{.*}}, %[[C]][
  // CHECK: scf.for
  %r = scf.for %i = %c0 to %n step %c1 iter_args(%acc = %zero) -> (tensor<12x32xf32>) {
    %at = tile.load %a[%c0, %c0] : memref<12x8xf32> -> tensor<12x8xf32>
    %bt = tile.load %b[%c0, %c0] : memref<8x32xf32> -> tensor<8x32xf32>
    // CHECK: vector.store %{{.*}}, %[[B]][
    // CHECK: scf.for %[[LANE:.*]] = %c0 to %c32{{[_0-9]*}} step %c16{{[_0-9]*}}
    // CHECK: scf.for %[[ROW:.*]] = %c0 to %c12{{[_0-9]*}} step %c6{{[_0-9]*}}
    // CHECK: %[[ROW5:.*]] = arith.addi %[[ROW]], %c5{{[_0-9]*}}
    // CHECK: %[[SUM:.*]]:6 = scf.for %[[K:.*]] = %c0 to %c8{{[_0-9]*}} step %c1{{[_0-9]*}} iter_args(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %[[LAST:.*]] = %{{.*}})
    // CHECK: %[[V:.*]] = vector.load %[[B]][%[[K]], %[[LANE]]] : memref<8x48xf32>, vector<16xf32>
    // CHECK: %[[X:.*]] = memref.load %[[A]][%[[ROW5]], %[[K]]]
    // CHECK: %[[XB:.*]] = vector.broadcast %[[X]] : f32 to vector<16xf32>
    // CHECK: %[[P:.*]] = arith.mulf %[[XB]], %[[V]] fastmath<contract>
    // CHECK: arith.addf %[[P]], %[[LAST]] fastmath<contract>
    // CHECK: %[[OLD:.*]] = vector.load %[[C]][%[[ROW5]], %[[LANE]]]
    // CHECK: %[[NEW:.*]] = arith.addf %[[OLD]], %[[SUM]]#5
    // CHECK: vector.store %[[NEW]], %[[C]][%[[ROW5]], %[[LANE]]]
    // WIDE: iter_args({{.*}}) -> (vector<32xf32>, vector<32xf32>, vector<32xf32>, vector<32xf32>, vector<32xf32>, vector<32xf32>, vector<32xf32>, vector<32xf32>, vector<32xf32>, vector<32xf32>, vector<32xf32>, vector<32xf32>)
    %p = tile.contract %at, %bt, %acc {maps = [#mk, #kn, #mn]}
        : tensor<12x8xf32>, tensor<8x32xf32>, tensor<12x32xf32>
    scf.yield %p : tensor<12x32xf32>
  }
  // CHECK: %[[OUT:.*]] = vector.load %[[C]][
  // CHECK: vector.store %[[OUT]], %{{.*}} : memref<12x32xf32>, vector<16xf32>
  tile.store %r, %c[%c0, %c0] : tensor<12x32xf32>, memref<12x32xf32>
  return
}

// -----

// One nest: the statistics of a chunk of lanes stay in registers; the second
// loop over the rows reads the first one's source again.
// CHECK-LABEL: func.func @fused
func.func @fused(%x: memref<8x32xf32>, %y: memref<8x32xf32>) {
  %c0 = arith.constant 0 : index
  %t = tile.load %x[%c0, %c0] : memref<8x32xf32> -> tensor<8x32xf32>
  // CHECK: vector.store %{{.*}}, %[[X:.*]][
  // CHECK: scf.for %[[LANE:.*]] = %c0 to %c32{{[_0-9]*}} step %c16{{[_0-9]*}} {
  // CHECK: %[[MAX:.*]] = scf.for %[[R:.*]] = %c0 to %c8{{[_0-9]*}} step %c1{{[_0-9]*}} iter_args(%[[M:.*]] = %{{.*}}) -> (vector<16xf32>) {
  // CHECK: %[[V:.*]] = vector.load %[[X]][%[[R]], %[[LANE]]]
  // CHECK: %[[GT:.*]] = arith.cmpf ogt, %[[V]], %[[M]]
  // CHECK: %[[NEW:.*]] = arith.select %[[GT]], %[[V]], %[[M]]
  // CHECK: scf.yield %[[NEW]]
  // CHECK: }
  // CHECK: scf.for %[[R2:.*]] = %c0 to %c8{{[_0-9]*}} step %c1{{[_0-9]*}} {
  // CHECK: %[[V2:.*]] = vector.load %[[X]][%[[R2]], %[[LANE]]]
  // CHECK: %[[S:.*]] = arith.subf %[[V2]], %[[MAX]]
  // CHECK: %[[E:.*]] = math.exp2 %[[S]] : vector<16xf32>
  // CHECK: vector.store %[[E]], %{{.*}}[%[[R2]], %[[LANE]]]
  %m = tile.reduce max %t dim 0 : tensor<8x32xf32> -> tensor<32xf32>
  %mb = tile.broadcast %m dim 0 : tensor<32xf32> -> tensor<8x32xf32>
  %s = arith.subf %t, %mb : tensor<8x32xf32>
  %e = math.exp2 %s : tensor<8x32xf32>
  tile.store %e, %y[%c0, %c0] : tensor<8x32xf32>, memref<8x32xf32>
  return
}

// -----

// A 16-bit tile that only products read is kept in the type of the products;
// rows outside the memref are zero.
// CHECK-LABEL: func.func @widened
func.func @widened(%a: memref<?x16xf16>, %b: memref<16x32xf16>, %c: memref<8x32xf32>, %m: index) {
  %c0 = arith.constant 0 : index
  // CHECK: %[[BUF:.*]] = memref.alloca() {{.*}} : memref<8x16xf32>
  %zero = arith.constant dense<0.0> : tensor<8x32xf32>
  // CHECK: %[[DIM:.*]] = memref.dim %arg0, %c0
  // CHECK: %[[LEFT:.*]] = arith.subi %[[DIM]], %arg3
  // CHECK: %[[MIN:.*]] = arith.minsi %[[LEFT]], %c8{{[_0-9]*}}
  // CHECK: %[[UP:.*]] = arith.maxsi %[[MIN]], %[[LO:.*]] : index
  // CHECK: scf.for %[[Z:.*]] = %[[UP]] to %c8{{[_0-9]*}}
  // CHECK: vector.store %{{.*}}, %[[BUF]][%[[Z]], %c0]
  // CHECK: scf.for %[[R:.*]] = %[[LO]] to %[[UP]]
  // CHECK: %[[H:.*]] = vector.load %arg0[%{{.*}}, %c0] : memref<?x16xf16>, vector<16xf16>
  // CHECK: %[[F:.*]] = arith.extf %[[H]] : vector<16xf16> to vector<16xf32>
  // CHECK: vector.store %[[F]], %[[BUF]][%[[R]], %c0]
  %at = tile.load %a[%m, %c0] : memref<?x16xf16> -> tensor<8x16xf16>
  %bt = tile.load %b[%c0, %c0] : memref<16x32xf16> -> tensor<16x32xf16>
  %p = tile.contract %at, %bt, %zero {maps = [affine_map<(m, n, k) -> (m, k)>,
      affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]}
      : tensor<8x16xf16>, tensor<16x32xf16>, tensor<8x32xf32>
  tile.store %p, %c[%c0, %c0] : tensor<8x32xf32>, memref<8x32xf32>
  return
}

// -----

// The scan for NaN and infinity takes the greatest bits without the sign; lanes
// beyond the tile do not count.
// CHECK-LABEL: func.func @nonfinite
func.func @nonfinite(%v: memref<8x24xf16>, %out: memref<i1>) {
  %c0 = arith.constant 0 : index
  // CHECK: %[[MOST:.*]] = scf.for %[[ROW:.*]] = %c0 to %c8{{[_0-9]*}} step %c1{{[_0-9]*}} iter_args(%[[ACC:.*]] = %{{.*}}) -> (vector<16xi32>) {
  // CHECK: %[[A:.*]] = scf.for
  // CHECK: arith.constant dense<2147483647> : vector<16xi32>
  // CHECK: }
  // CHECK: %[[X:.*]] = vector.load %{{.*}}[%[[ROW]], %c16{{[_0-9]*}}] : memref<8x32xf16>, vector<16xf16>
  // CHECK: %[[F:.*]] = arith.extf %[[X]]
  // CHECK: %[[BITS:.*]] = vector.bitcast %[[F]] : vector<16xf32> to vector<16xi32>
  // CHECK: %[[HALF:.*]] = arith.constant dense<[2147483647, 2147483647, 2147483647, 2147483647, 2147483647, 2147483647, 2147483647, 2147483647, 0, 0, 0, 0, 0, 0, 0, 0]>
  // CHECK: %[[ABS:.*]] = arith.andi %[[BITS]], %[[HALF]]
  // CHECK: %[[MAX:.*]] = arith.maxsi %[[A]], %[[ABS]]
  // CHECK: scf.yield %[[MAX]]
  // CHECK: %[[GREATEST:.*]] = vector.reduction <maxsi>, %[[MOST]]
  // CHECK: %[[INF:.*]] = arith.constant 2139095040 : i32
  // CHECK: %[[ANY:.*]] = arith.cmpi sge, %[[GREATEST]], %[[INF]]
  // CHECK: memref.store %[[ANY]]
  %t = tile.load %v[%c0, %c0] : memref<8x24xf16> -> tensor<8x24xf16>
  %any = tile.nonfinite %t : tensor<8x24xf16>
  memref.store %any, %out[] : memref<i1>
  return
}

// -----

// The accumulator of a loop passes through both sides of a branch in place. What
// only the branch for NaN and infinity reads is computed there, not stored
// before it.
// CHECK-LABEL: func.func @exact
func.func @exact(%a: memref<?x16xf32>, %b: memref<16x16xf32>, %c: memref<16x16xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant dense<0.0> : tensor<16x16xf32>
  %bt = tile.load %b[%c0, %c0] : memref<16x16xf32> -> tensor<16x16xf32>
  // CHECK: arith.constant dense<0.000000e+00>
  // CHECK: vector.store %{{.*}}, %[[ACC:.*]][
  // CHECK: scf.for %{{.*}} = %c0 to %arg3
  %r = scf.for %i = %c0 to %n step %c1 iter_args(%acc = %zero) -> (tensor<16x16xf32>) {
    %at = tile.load %a[%i, %c0] : memref<?x16xf32> -> tensor<16x16xf32>
    %e = math.exp2 %at : tensor<16x16xf32>
    %half = arith.addf %acc, %e : tensor<16x16xf32>
    // CHECK: vector.reduction <maxsi>
    %any = tile.nonfinite %bt : tensor<16x16xf32>
    // CHECK: math.exp2
    // CHECK: vector.store %{{.*}}, %[[ACC]][
    // CHECK-NOT: vector.store
    // CHECK: scf.if
    %next = scf.if %any -> (tensor<16x16xf32>) {
      // CHECK: math.exp2
      // CHECK: vector.store %{{.*}}, %[[E:.*]][
      // CHECK: scf.for
      // CHECK: vector.load %[[E]]
      // CHECK: vector.store %{{.*}}, %[[ACC]][
      // CHECK-NOT: vector.store
      %x = scf.for %j = %c0 to %n step %c1 iter_args(%y = %half) -> (tensor<16x16xf32>) {
        %z = arith.addf %y, %e : tensor<16x16xf32>
        scf.yield %z : tensor<16x16xf32>
      }
      scf.yield %x : tensor<16x16xf32>
    } else {
      // CHECK: else
      // CHECK: arith.mulf
      // CHECK-COUNT-11: vector.store %{{.*}}, %[[ACC]][
      // CHECK-NOT: vector.store
      %p = tile.contract %at, %bt, %half {maps = [affine_map<(m, n, k) -> (m, k)>,
          affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]}
          : tensor<16x16xf32>, tensor<16x16xf32>, tensor<16x16xf32>
      scf.yield %p : tensor<16x16xf32>
    }
    scf.yield %next : tensor<16x16xf32>
  }
  // CHECK: vector.store %{{.*}}, %arg2[
  tile.store %r, %c[%c0, %c0] : tensor<16x16xf32>, memref<16x16xf32>
  return
}

// Additions to memory are atomic: grid points run in parallel.
// CHECK-LABEL: func.func @accumulate
// CHECK: scf.for %[[I:.*]] =
// CHECK: scf.for %[[J:.*]] =
// CHECK: %[[V:.*]] = memref.load %{{.*}}[%[[I]], %[[J]]]
// CHECK: memref.atomic_rmw addf %[[V]], %arg1[%{{.*}}, %{{.*}}] : (f32, memref<?x?xf32>) -> f32
func.func @accumulate(%x: memref<?x?xf32>, %s: memref<?x?xf32>, %i: index) {
  %c0 = arith.constant 0 : index
  %t = tile.load %x[%i, %c0] : memref<?x?xf32> -> tensor<8x32xf32>
  tile.accumulate %t, %s[%i, %c0] : tensor<8x32xf32>, memref<?x?xf32>
  return
}
