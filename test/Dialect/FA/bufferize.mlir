// RUN: fa-opt %s -one-shot-bufferize="bufferize-function-boundaries function-boundary-type-conversion=identity-layout-map" -canonicalize | FileCheck %s

#maps = [affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>]

// In place: no copy of an operand, the destinations are written.
// CHECK-LABEL: func.func @in_place(
// CHECK-SAME: %[[Q:[a-z0-9]*]]: memref<2x8x4x16xf16>, %[[K:[a-z0-9]*]]: memref<2x9x2x16xf16>, %[[V:[a-z0-9]*]]: memref<2x9x2x16xf16>, %{{[a-z0-9]*}}: f32, %[[T:[a-z0-9]*]]: memref<31xf32>, %[[LENS:[a-z0-9]*]]: memref<2xi32>, %[[O:[a-z0-9]*]]: memref<2x8x4x16xf16>, %[[L:[a-z0-9]*]]: memref<2x4x8xf32>)
// CHECK-NOT: memref.alloc
// CHECK-NOT: memref.copy
// CHECK: fa.attention ins(%[[Q]], %[[K]], %[[V]] :
// CHECK-SAME: lengths(%[[LENS]], %[[LENS]] : memref<2xi32>, memref<2xi32>)
// CHECK-SAME: captures(%[[T]] : memref<31xf32>)
// CHECK-SAME: outs(%[[O]], %[[L]] : memref<2x8x4x16xf16>, memref<2x4x8xf32>)
// CHECK: ^bb0({{.*}}, %[[TABLE:[a-z0-9]*]]: memref<31xf32>):
// CHECK: fa.gather %[[TABLE]][%{{.*}}] : memref<31xf32> -> f32
// CHECK-NOT: memref.copy
// CHECK: return
func.func @in_place(%q: tensor<2x8x4x16xf16>, %k: tensor<2x9x2x16xf16>, %v: tensor<2x9x2x16xf16>, %scale: f32,
    %t: tensor<31xf32>, %lens: tensor<2xi32>,
    %o: tensor<2x8x4x16xf16> {bufferization.writable = true}, %l: tensor<2x4x8xf32> {bufferization.writable = true})
    -> (tensor<2x8x4x16xf16>, tensor<2x4x8xf32>) {
  %r:2 = fa.attention ins(%q, %k, %v : tensor<2x8x4x16xf16>, tensor<2x9x2x16xf16>, tensor<2x9x2x16xf16>) scale(%scale : f32)
    lengths(%lens, %lens : tensor<2xi32>, tensor<2xi32>) captures(%t : tensor<31xf32>)
    outs(%o, %l : tensor<2x8x4x16xf16>, tensor<2x4x8xf32>) {indexing_maps = #maps, capture_maps = [unit]}
    score {
    ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index, %table: tensor<31xf32>):
      %x = fa.gather %table[%n] : tensor<31xf32> -> f32
      %y = arith.addf %s, %x : f32
      fa.yield %y : f32
    } -> tensor<2x8x4x16xf16>, tensor<2x4x8xf32>
  return %r#0, %r#1 : tensor<2x8x4x16xf16>, tensor<2x4x8xf32>
}

// q is read after o, which would overwrite it, is written: o needs a buffer.
// CHECK-LABEL: func.func @conflict(
// CHECK-SAME: %[[Q:[a-z0-9]*]]: memref<2x8x4x16xf32>
// CHECK: %[[NEW:.*]] = memref.alloc() {{.*}} : memref<2x8x4x16xf32>
// CHECK: fa.attention ins(%[[Q]], %[[Q]], %[[Q]] : {{.*}} outs(%[[NEW]],
// CHECK: return %[[NEW]], %[[Q]]
func.func @conflict(%q: tensor<2x8x4x16xf32> {bufferization.writable = true}, %scale: f32, %l: tensor<2x4x8xf32> {bufferization.writable = true})
    -> (tensor<2x8x4x16xf32>, tensor<2x8x4x16xf32>) {
  %r:2 = fa.attention ins(%q, %q, %q : tensor<2x8x4x16xf32>, tensor<2x8x4x16xf32>, tensor<2x8x4x16xf32>) scale(%scale : f32)
    outs(%q, %l : tensor<2x8x4x16xf32>, tensor<2x4x8xf32>) {indexing_maps = #maps}
    -> tensor<2x8x4x16xf32>, tensor<2x4x8xf32>
  return %r#0, %q : tensor<2x8x4x16xf32>, tensor<2x8x4x16xf32>
}

// The backward: a known delta is read, not written; both regions get memrefs.
// CHECK-LABEL: func.func @backward(
// CHECK-SAME: %[[Q:[a-z0-9]*]]: memref<2x8x4x16xf16>, %[[K:[a-z0-9]*]]: memref<2x9x2x16xf16>, %[[L:[a-z0-9]*]]: memref<2x4x8xf32>, %[[DELTA:[a-z0-9]*]]: memref<2x4x8xf32>, %{{[a-z0-9]*}}: f32, %[[T:[a-z0-9]*]]: memref<31xf32>, %[[DQ:[a-z0-9]*]]: memref<2x8x4x16xf16>, %[[DT:[a-z0-9]*]]: memref<31xf32>)
// CHECK-NOT: memref.alloc
// CHECK-NOT: memref.copy
// CHECK: fa.attention_backward ins(%[[Q]], %[[K]], %[[K]], %[[L]], %[[Q]] :
// CHECK-SAME: delta(%[[DELTA]] : memref<2x4x8xf32>) d_q(%[[DQ]] : memref<2x8x4x16xf16>) d_captures(%[[DT]] : memref<31xf32>)
// CHECK: ^bb0({{.*}}, %[[TABLE:[a-z0-9]*]]: memref<31xf32>):
// CHECK: fa.gather %[[TABLE]][%{{.*}}] : memref<31xf32> -> f32
// CHECK: ^bb0({{.*}}, %[[TABLE1:[a-z0-9]*]]: memref<31xf32>, %[[DS:[a-z0-9]*]]: f32):
// CHECK: fa.gather %[[TABLE1]][%{{.*}}] : memref<31xf32> -> f32
// CHECK: fa.accumulate %{{.*}} into 0[%{{.*}}] : f32
// CHECK-NOT: memref.copy
// CHECK: return %[[DQ]], %[[DT]]
func.func @backward(%q: tensor<2x8x4x16xf16>, %k: tensor<2x9x2x16xf16>, %l: tensor<2x4x8xf32>, %delta: tensor<2x4x8xf32>, %scale: f32,
    %t: tensor<31xf32>, %dq: tensor<2x8x4x16xf16> {bufferization.writable = true}, %dt: tensor<31xf32> {bufferization.writable = true})
    -> (tensor<2x8x4x16xf16>, tensor<31xf32>) {
  %r:2 = fa.attention_backward ins(%q, %k, %k, %l, %q : tensor<2x8x4x16xf16>, tensor<2x9x2x16xf16>, tensor<2x9x2x16xf16>, tensor<2x4x8xf32>, tensor<2x8x4x16xf16>)
    scale(%scale : f32) captures(%t : tensor<31xf32>)
    delta(%delta : tensor<2x4x8xf32>) d_q(%dq : tensor<2x8x4x16xf16>) d_captures(%dt : tensor<31xf32>)
    {indexing_maps = #maps, capture_maps = [unit], capture_grads = array<i64: 0>, delta_known}
    score {
    ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index, %table: tensor<31xf32>):
      %x = fa.gather %table[%n] : tensor<31xf32> -> f32
      %y = arith.mulf %s, %x : f32
      fa.yield %y : f32
    } derivative {
    ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index, %table: tensor<31xf32>, %ds: f32):
      %x = fa.gather %table[%n] : tensor<31xf32> -> f32
      %dx = arith.mulf %ds, %s : f32
      fa.accumulate %dx into 0[%n] : f32
      %dr = arith.mulf %ds, %x : f32
      fa.yield %dr : f32
    } -> tensor<2x8x4x16xf16>, tensor<31xf32>
  return %r#0, %r#1 : tensor<2x8x4x16xf16>, tensor<31xf32>
}

// CHECK-LABEL: func.func @combine(
// CHECK-SAME: %[[OP:[a-z0-9]*]]: memref<3x8x4xf32>, %[[LP:[a-z0-9]*]]: memref<3x8xf32>, %[[O:[a-z0-9]*]]: memref<8x4xf16>, %[[L:[a-z0-9]*]]: memref<8xf32>)
// CHECK-NOT: memref.alloc
// CHECK: fa.combine ins(%[[OP]], %[[LP]] : {{.*}}) outs(%[[O]], %[[L]] : memref<8x4xf16>, memref<8xf32>)
// CHECK-NOT: memref.copy
// CHECK: return
func.func @combine(%op: tensor<3x8x4xf32>, %lp: tensor<3x8xf32>,
    %o: tensor<8x4xf16> {bufferization.writable = true}, %l: tensor<8xf32> {bufferization.writable = true})
    -> (tensor<8x4xf16>, tensor<8xf32>) {
  %r:2 = fa.combine ins(%op, %lp : tensor<3x8x4xf32>, tensor<3x8xf32>) outs(%o, %l : tensor<8x4xf16>, tensor<8xf32>)
    {indexing_maps = [affine_map<(s,m,e) -> (s, m, e)>, affine_map<(s,m,e) -> (s, m)>,
                      affine_map<(s,m,e) -> (m, e)>, affine_map<(s,m,e) -> (m)>]} -> tensor<8x4xf16>, tensor<8xf32>
  return %r#0, %r#1 : tensor<8x4xf16>, tensor<8xf32>
}
