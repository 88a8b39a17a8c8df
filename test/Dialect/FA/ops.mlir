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
