// RUN: fa-opt %s | fa-opt | FileCheck %s

#maps = [affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>]
#causal = affine_set<(b,h,m,n)[lq,lk] : (m + lk - lq - n >= 0)>
#window = affine_set<(b,h,m,n)[lq,lk,w] : (m + lk - lq - n >= 0, n + w - m - lk + lq >= 0)>

// CHECK-LABEL: func.func @causal_softcap
// CHECK: fa.attention ins({{.*}}) scale({{.*}}) mask <#{{.*}}> outs({{.*}}) {{.*}} score {
func.func @causal_softcap(%q: tensor<2x512x8x64xf16>, %k: tensor<2x512x2x64xf16>, %v: tensor<2x512x2x64xf16>,
    %scale: f32, %o: tensor<2x512x8x64xf16>, %lse: tensor<2x8x512xf32>) -> (tensor<2x512x8x64xf16>, tensor<2x8x512xf32>) {
  %r:2 = fa.attention ins(%q, %k, %v : tensor<2x512x8x64xf16>, tensor<2x512x2x64xf16>, tensor<2x512x2x64xf16>)
      scale(%scale : f32) mask #fa.mask<#causal>
      outs(%o, %lse : tensor<2x512x8x64xf16>, tensor<2x8x512xf32>) {indexing_maps = #maps}
      score {
      ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index):
        %cap = arith.constant 50.0 : f32
        %x = arith.divf %s, %cap : f32
        %t = math.tanh %x : f32
        %y = arith.mulf %t, %cap : f32
        fa.yield %y : f32
      } -> tensor<2x512x8x64xf16>, tensor<2x8x512xf32>
  return %r#0, %r#1 : tensor<2x512x8x64xf16>, tensor<2x8x512xf32>
}

// CHECK-LABEL: func.func @memref_window
func.func @memref_window(%q: memref<?x?x?x64xf16, strided<[?,?,?,1], offset: ?>>, %k: memref<?x?x?x64xf16, strided<[?,?,?,1], offset: ?>>,
    %v: memref<?x?x?x64xf16, strided<[?,?,?,1], offset: ?>>, %scale: f32, %w: index,
    %bias: memref<?x?x?xf32, strided<[?,?,?], offset: ?>>, %rel: memref<?xf32, strided<[1], offset: ?>>,
    %lens: memref<?xi32>,
    %o: memref<?x?x?x64xf16, strided<[?,?,?,1], offset: ?>>, %lse: memref<?x?x?xf32, strided<[?,?,1], offset: ?>>) {
  // CHECK: fa.attention {{.*}} lengths({{.*}}) captures({{.*}}) mask <#{{.*}}> symbols({{.*}}) outs
  fa.attention ins(%q, %k, %v : memref<?x?x?x64xf16, strided<[?,?,?,1], offset: ?>>, memref<?x?x?x64xf16, strided<[?,?,?,1], offset: ?>>, memref<?x?x?x64xf16, strided<[?,?,?,1], offset: ?>>)
      scale(%scale : f32) lengths(%lens, %lens : memref<?xi32>, memref<?xi32>)
      captures(%bias, %rel : memref<?x?x?xf32, strided<[?,?,?], offset: ?>>, memref<?xf32, strided<[1], offset: ?>>)
      mask #fa.mask<#window> symbols(%w)
      outs(%o, %lse : memref<?x?x?x64xf16, strided<[?,?,?,1], offset: ?>>, memref<?x?x?xf32, strided<[?,?,1], offset: ?>>)
      {indexing_maps = #maps, capture_maps = [affine_map<(b,h,m,n) -> (h, m, n)>, unit]}
      score {
      ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index, %be: f32, %t: memref<?xf32, strided<[1], offset: ?>>):
        %d = arith.subi %m, %n : index
        %r = fa.gather %t[%d] : memref<?xf32, strided<[1], offset: ?>> -> f32
        %x = arith.addf %s, %be : f32
        %y = arith.addf %x, %r : f32
        fa.yield %y : f32
      }
  return
}

// Gradients of everything, with a derivative: an element-wise capture (bias), a
// gathered one (table) and a scalar one (cap), of which all have gradients.
// CHECK-LABEL: func.func @backward(
// CHECK: fa.attention_backward ins({{.*}}) o({{.*}}) d_lse({{.*}}) scale({{.*}}) lengths({{.*}}) captures({{.*}}) mask <#{{.*}}> symbols({{.*}}) delta({{.*}}) d_q({{.*}}) d_k({{.*}}) d_v({{.*}}) d_captures({{.*}} : tensor<8x512xf32>, tensor<31xf32>, tensor<f32>)
// CHECK-SAME: capture_grads = array<i64: 0, 1, 2>
// CHECK-SAME: score {
// CHECK: } derivative {
// CHECK: ^bb0(%[[RAW:.*]]: f32, %{{.*}}: index, %{{.*}}: index, %{{.*}}: index, %[[N:.*]]: index, %{{.*}}: f16, %{{.*}}: tensor<31xf32>, %[[CAP:.*]]: f32, %[[DS:.*]]: f32):
// CHECK: fa.accumulate %[[DS]] into 1[%[[N]]] : f32
// CHECK: fa.yield %{{.*}}, %[[DS]], %{{.*}} : f32, f32, f32
// CHECK: } -> tensor<2x8x512xf32>, tensor<2x512x8x64xf16>, tensor<2x512x2x64xf32>, tensor<2x512x2x64xf16>, tensor<8x512xf32>, tensor<31xf32>, tensor<f32>
func.func @backward(%q: tensor<2x512x8x64xf16>, %k: tensor<2x512x2x64xf16>, %lse: tensor<2x8x512xf32>,
    %scale: f32, %lens: tensor<2xi32>, %w: index, %bias: tensor<8x512xf16>, %table: tensor<31xf32>, %cap: f32,
    %dk: tensor<2x512x2x64xf32>, %dbias: tensor<8x512xf32>, %dtable: tensor<31xf32>, %dcap: tensor<f32>) -> tensor<2x8x512xf32> {
  %r:7 = fa.attention_backward ins(%q, %k, %k, %lse, %q : tensor<2x512x8x64xf16>, tensor<2x512x2x64xf16>, tensor<2x512x2x64xf16>, tensor<2x8x512xf32>, tensor<2x512x8x64xf16>)
      o(%q : tensor<2x512x8x64xf16>) d_lse(%lse : tensor<2x8x512xf32>) scale(%scale : f32)
      lengths(%lens, %lens : tensor<2xi32>, tensor<2xi32>)
      captures(%bias, %table, %cap : tensor<8x512xf16>, tensor<31xf32>, f32)
      mask #fa.mask<#window> symbols(%w)
      delta(%lse : tensor<2x8x512xf32>) d_q(%q : tensor<2x512x8x64xf16>) d_k(%dk : tensor<2x512x2x64xf32>) d_v(%k : tensor<2x512x2x64xf16>)
      d_captures(%dbias, %dtable, %dcap : tensor<8x512xf32>, tensor<31xf32>, tensor<f32>)
      {indexing_maps = #maps, capture_maps = [affine_map<(b,h,m,n) -> (h, n)>, unit, unit], capture_grads = array<i64: 0, 1, 2>}
      score {
      ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index, %x: f16, %t: tensor<31xf32>, %c: f32):
        %e = arith.extf %x : f16 to f32
        %y = fa.gather %t[%n] : tensor<31xf32> -> f32
        %u = arith.mulf %s, %c : f32
        %v = arith.addf %u, %e : f32
        %z = arith.addf %v, %y : f32
        fa.yield %z : f32
      } derivative {
      ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index, %x: f16, %t: tensor<31xf32>, %c: f32, %ds: f32):
        fa.accumulate %ds into 1[%n] : f32
        %dr = arith.mulf %ds, %c : f32
        %dc = arith.mulf %ds, %s : f32
        fa.yield %dr, %ds, %dc : f32, f32, f32
      } -> tensor<2x8x512xf32>, tensor<2x512x8x64xf16>, tensor<2x512x2x64xf32>, tensor<2x512x2x64xf16>, tensor<8x512xf32>, tensor<31xf32>, tensor<f32>
  return %r#0 : tensor<2x8x512xf32>
}

// A window of rows and keys that adds to d_k only; delta is known.
// CHECK-LABEL: func.func @backward_window(
// CHECK: fa.attention_backward ins({{.*}}) scale({{.*}}) origin(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}) lengths({{.*}}) delta({{.*}}) d_k({{.*}}) {delta_known, indexing_maps
func.func @backward_window(%q: memref<?x64xf16>, %k: memref<?x64xf16>, %lse: memref<?xf32>, %scale: f32,
    %b: index, %h: index, %m: index, %n: index, %dk: memref<?x64xf32>) {
  fa.attention_backward ins(%q, %k, %k, %lse, %q : memref<?x64xf16>, memref<?x64xf16>, memref<?x64xf16>, memref<?xf32>, memref<?x64xf16>)
      scale(%scale : f32) origin(%b, %h, %m, %n) lengths(%m, %n : index, index)
      delta(%lse : memref<?xf32>) d_k(%dk : memref<?x64xf32>)
      {delta_known, indexing_maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>, affine_map<(b,h,m,n,d,e) -> (m)>]}
  return
}

// CHECK-LABEL: func.func @partials
// CHECK: fa.attention {{.*}} partials(%{{.*}}, %{{.*}} : memref<?x8x4xf32>, memref<?x8xf32>)
func.func @partials(%q: memref<8x4xf16>, %s: f32, %l: memref<8xf32>, %op: memref<?x8x4xf32>, %lp: memref<?x8xf32>) {
  fa.attention ins(%q, %q, %q : memref<8x4xf16>, memref<8x4xf16>, memref<8x4xf16>) scale(%s : f32)
    outs(%q, %l : memref<8x4xf16>, memref<8xf32>) partials(%op, %lp : memref<?x8x4xf32>, memref<?x8xf32>)
    {indexing_maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
                      affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
                      affine_map<(b,h,m,n,d,e) -> (m)>]}
  return
}

// CHECK-LABEL: func.func @combine
// CHECK: fa.combine ins({{.*}}) init_lse({{.*}}) outs({{.*}}) {dead_lse = {{.*}}, indexing_maps = {{.*}}} -> tensor<8x4xf16>, tensor<8xf32>
func.func @combine(%op: tensor<?x8x4xf32>, %lp: tensor<?x8xf32>, %init: tensor<8xf32>, %o: tensor<8x4xf16>, %l: tensor<8xf32>) -> tensor<8x4xf16> {
  %r:2 = fa.combine ins(%op, %lp : tensor<?x8x4xf32>, tensor<?x8xf32>) init_lse(%init : tensor<8xf32>)
    outs(%o, %l : tensor<8x4xf16>, tensor<8xf32>)
    {indexing_maps = [affine_map<(s,m,e) -> (s, m, e)>, affine_map<(s,m,e) -> (s, m)>,
                      affine_map<(s,m,e) -> (m, e)>, affine_map<(s,m,e) -> (m)>],
     dead_lse = 0x7FF0000000000000 : f64} -> tensor<8x4xf16>, tensor<8xf32>
  return %r#0 : tensor<8x4xf16>
}
