// RUN: fa-opt %s -split-input-file -verify-diagnostics

// One negative test for each label of the documentation of fa.attention,
// fa.attention_backward and fa.combine, and for fa.gather and fa.accumulate.

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C1_count(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C1 maps] has 4 indexing maps; give one each for q, k, v, o and lse}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C1_dims(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C1 maps] the map of lse has 5 dimensions and 0 symbols}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o, affine_map<(b,h,m,n,d) -> (b, h, m)>]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C2(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C2 map-form] result 'd1 floordiv s0' of the map of q is not allowed}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [affine_map<(b,h,m,n,d,e)[g] -> (b, m, h floordiv g, d)>, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C2_twice(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C2 map-form] result 'd3' of the map of k is not allowed}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, affine_map<(b,h,m,n,d,e)[g] -> (b, n, n, d)>, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C3(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C3 map-rank] the map of lse has 2 results but lse has rank 3}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o, affine_map<(b,h,m,n,d,e)[g] -> (b, m)>]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C4_may(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C4 roles] v runs along d; it may run along bhne only}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, affine_map<(b,h,m,n,d,e)[g] -> (b, n, h, d)>, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C4_must(%q: memref<2x8x4xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C4 roles] q does not run along d; add it to its map}}
  fa.attention ins(%q, %k, %v : memref<2x8x4xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [affine_map<(b,h,m,n,d,e)[g] -> (b, m, h)>, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C5(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x8xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C5 extents] d has extent 16 in q and 8 in k; they must agree}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x8xf16>, memref<2x9x2x16xf16>) scale(%scale : f32)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C5_heads(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x4x16xf16>, %scale: f32, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C5 extents] k has 2 heads and v has 4; they must agree}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x4x16xf16>) scale(%scale : f32)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C6(%q: memref<2x8x4x16xf16>, %k: memref<2x9x3x16xf16>, %v: memref<2x9x3x16xf16>, %scale: f32, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C6 heads] has 4 query heads for 3 heads of k with the head 'd1 floordiv s0'}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x3x16xf16>, memref<2x9x3x16xf16>) scale(%scale : f32)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C6_plain(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C6 heads] has 4 query heads for 2 heads of k with the head 'd1'}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, affine_map<(b,h,m,n,d,e) -> (b, n, h, d)>, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C7_v(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xbf16>, %scale: f32, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C7 dtypes] q holds 'f16' but k or v holds 'bf16'}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xbf16>) scale(%scale : f32)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C7_q(%q: memref<2x8x4x16xf8E5M2>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C7 dtypes] q holds 'f8E5M2'; use f16, bf16, f32 or f64}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf8E5M2>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C7_o(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %o: memref<2x8x4x16xf64>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C7 dtypes] o holds 'f64'; it must hold}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32)
      outs(%o, %l : memref<2x8x4x16xf64>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C7_lse(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf16>) {
  // expected-error @+1 {{[C7 dtypes] lse holds 'f16'; it must hold}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf16>) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C7_scale(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f16, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C7 dtypes] scale is 'f16'; it must be}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f16)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C8(%q: tensor<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C8 storage] k is 'memref<2x9x2x16xf16>' but q is 'tensor<2x8x4x16xf16>'; use tensors for all operands or memrefs for all}}
  fa.attention ins(%q, %k, %v : tensor<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C9(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %lens: memref<2xi32>, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C9 lengths] has 1 lengths of types}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32) lengths(%lens : memref<2xi32>)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C9_type(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %lens: memref<2xi64>, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C9 lengths] has 2 lengths of types}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32) lengths(%lens, %lens : memref<2xi64>, memref<2xi64>)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
#w = affine_set<(b,h,m,n)[lq,lk,w] : (n - m + w >= 0)>
func.func @C10(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C10 mask-symbols] a mask set has 3 symbols but there are 0 symbol operands}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32) mask <#w>
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C10_nomask(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %w: index, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C10 mask-symbols] has symbols but no mask}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32) symbols(%w)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C11_arguments(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C11 score-region] takes}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o, #l]} score {
      ^bb0(%s: f32, %b: index):
        fa.yield %s : f32
      }
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C11_yield(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C11 score-region] must end with fa.yield of one}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o, #l]} score {
      ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index):
        fa.yield %b : index
      }
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C11_pure(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %x: memref<f32>, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C11 score-region] holds memref.load, which may have side effects}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o, #l]} score {
      ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index):
        %y = memref.load %x[] : memref<f32>
        fa.yield %y : f32
      }
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C12_count(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %x: f32, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C12 captures] has 1 captures and 0 capture maps}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32) captures(%x : f32)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o, #l]} score {
      ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index, %c: f32):
        fa.yield %s : f32
      }
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C12_form(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %x: memref<4x8xf32>, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C12 captures] capture 0,}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32) captures(%x : memref<4x8xf32>)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o, #l], capture_maps = [affine_map<(b,h,m,n) -> (h, m + n)>]} score {
      ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index, %c: f32):
        fa.yield %s : f32
      }
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C12_unread(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %x: f32, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C12 captures] has captures but no score region}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32) captures(%x : f32)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o, #l], capture_maps = [unit]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C13(%q: tensor<2x8x4x16xf16>, %k: tensor<2x9x2x16xf16>, %scale: f32, %l: tensor<2x4x8xf32>) {
  // expected-error @+1 {{[C13 results] has results of types 'tensor<2x8x4x16xf16>'}}
  %r = fa.attention ins(%q, %k, %k : tensor<2x8x4x16xf16>, tensor<2x9x2x16xf16>, tensor<2x9x2x16xf16>) scale(%scale : f32)
      outs(%q, %l : tensor<2x8x4x16xf16>, tensor<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o, #l]} -> tensor<2x8x4x16xf16>
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C14(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %b: index, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C14 origin] has 2 values; give none, or b, h and m}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32) origin(%b, %b)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>
#k = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>
#v = affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>
#o = affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>
#l = affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>
func.func @C15(%q: memref<2x8x4x16xf16>, %k: memref<2x9x2x16xf16>, %v: memref<2x9x2x16xf16>, %scale: f32, %i: memref<4x8xf32>, %o: memref<2x8x4x16xf16>, %l: memref<2x4x8xf32>) {
  // expected-error @+1 {{[C15 init-lse] init_lse is 'memref<4x8xf32>' but lse is 'memref<2x4x8xf32>'}}
  fa.attention ins(%q, %k, %v : memref<2x8x4x16xf16>, memref<2x9x2x16xf16>, memref<2x9x2x16xf16>) scale(%scale : f32) init_lse(%i : memref<4x8xf32>)
      outs(%o, %l : memref<2x8x4x16xf16>, memref<2x4x8xf32>) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

func.func @gather_rank(%x: memref<4x8xf32>, %i: index) {
  // expected-error @+1 {{has 1 indices for a source of rank 2; give one index per dimension}}
  %r = fa.gather %x[%i] : memref<4x8xf32> -> f32
  return
}

// -----

func.func @gather_type(%x: memref<4xf32>, %i: index) {
  // expected-error @+1 {{gives 'f16' but the source holds 'f32'; the types must agree}}
  %r = fa.gather %x[%i] : memref<4xf32> -> f16
  return
}

// -----

#s = affine_set<(b,h,m)[lq,lk] : (m >= 0)>
// expected-error @+1 {{[C10 mask-symbols] a mask set has 3 dimensions and 2 symbols; it needs (b, h, m, n)[lq, lk, ...]}}
func.func @mask_dims() attributes {x = #fa.mask<#s>} { return }

// -----

// fa.attention_backward: the constraints of its own, and those of fa.attention
// that read differently.

#q = affine_map<(b,h,m,n,d,e) -> (m, d)>
#k = affine_map<(b,h,m,n,d,e) -> (n, d)>
#v = affine_map<(b,h,m,n,d,e) -> (n, e)>
#o = affine_map<(b,h,m,n,d,e) -> (m, e)>
#l = affine_map<(b,h,m,n,d,e) -> (m)>
!t = memref<8x16xf16>
!l = memref<8xf32>
func.func @C14_backward(%q: !t, %l: !l, %s: f32, %i: index) {
  // expected-error @+1 {{[C14 origin] has 5 values; give none, or b, h and m, and n for a window of keys}}
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32) origin(%i, %i, %i, %i, %i)
      delta(%l : !l) d_q(%q : !t) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e) -> (m, d)>
#k = affine_map<(b,h,m,n,d,e) -> (n, d)>
#v = affine_map<(b,h,m,n,d,e) -> (n, e)>
#o = affine_map<(b,h,m,n,d,e) -> (m, e)>
#l = affine_map<(b,h,m,n,d,e) -> (m)>
!t = memref<8x16xf16>
!l = memref<8xf32>
func.func @C8_backward(%q: !t, %l: !l, %s: f32, %t: tensor<8x16xf16>) {
  // expected-error @+1 {{[C8 storage] d_q is 'tensor<8x16xf16>' but q is 'memref<8x16xf16>'}}
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32) 
      delta(%l : !l) d_q(%t : tensor<8x16xf16>) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e) -> (m, d)>
#k = affine_map<(b,h,m,n,d,e) -> (n, d)>
#v = affine_map<(b,h,m,n,d,e) -> (n, e)>
#o = affine_map<(b,h,m,n,d,e) -> (m, e)>
#l = affine_map<(b,h,m,n,d,e) -> (m)>
!t = memref<8x16xf16>
!l = memref<8xf32>
func.func @C16_type(%q: !t, %l: !l, %s: f32, %t: memref<8x16xbf16>) {
  // expected-error @+1 {{[C16 gradients] d_q is 'memref<8x16xbf16>' but q is 'memref<8x16xf16>'; it must have that shape and hold 'f16' or the accumulator type}}
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32) 
      delta(%l : !l) d_q(%t : memref<8x16xbf16>) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e) -> (m, d)>
#k = affine_map<(b,h,m,n,d,e) -> (n, d)>
#v = affine_map<(b,h,m,n,d,e) -> (n, e)>
#o = affine_map<(b,h,m,n,d,e) -> (m, e)>
#l = affine_map<(b,h,m,n,d,e) -> (m)>
!t = memref<8x16xf16>
!l = memref<8xf32>
func.func @C16_shape(%q: !t, %l: !l, %s: f32, %t: memref<7x16xf16>) {
  // expected-error @+1 {{[C16 gradients] d_v is 'memref<7x16xf16>' but v is 'memref<8x16xf16>'}}
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32) 
      delta(%l : !l) d_v(%t : memref<7x16xf16>) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e) -> (m, d)>
#k = affine_map<(b,h,m,n,d,e) -> (n, d)>
#v = affine_map<(b,h,m,n,d,e) -> (n, e)>
#o = affine_map<(b,h,m,n,d,e) -> (m, e)>
#l = affine_map<(b,h,m,n,d,e) -> (m)>
!t = memref<8x16xf16>
!l = memref<8xf32>
func.func @C16_d_o(%q: !t, %l: !l, %s: f32, %t: memref<8x15xf16>) {
  // expected-error @+1 {{[C16 gradients] d_o is 'memref<8x15xf16>' but o is 'memref<8x16xf16>'}}
  fa.attention_backward ins(%q, %q, %q, %l, %t : !t, !t, !t, !l, memref<8x15xf16>) o(%q : !t) scale(%s : f32) 
      delta(%l : !l) d_q(%q : !t) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e) -> (m, d)>
#k = affine_map<(b,h,m,n,d,e) -> (n, d)>
#v = affine_map<(b,h,m,n,d,e) -> (n, e)>
#o = affine_map<(b,h,m,n,d,e) -> (m, e)>
#l = affine_map<(b,h,m,n,d,e) -> (m)>
!t = memref<8x16xf16>
!l = memref<8xf32>
func.func @C17_delta(%q: !t, %l: !l, %s: f32, %t: memref<8xf16>) {
  // expected-error @+1 {{[C17 rows] delta is 'memref<8xf16>' but lse is 'memref<8xf32>'; it must have that shape and hold 'f32'}}
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32) 
      delta(%t : memref<8xf16>) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e) -> (m, d)>
#k = affine_map<(b,h,m,n,d,e) -> (n, d)>
#v = affine_map<(b,h,m,n,d,e) -> (n, e)>
#o = affine_map<(b,h,m,n,d,e) -> (m, e)>
#l = affine_map<(b,h,m,n,d,e) -> (m)>
!t = memref<8x16xf16>
!l = memref<8xf32>
func.func @C17_d_lse(%q: !t, %l: !l, %s: f32, %t: memref<9xf32>) {
  // expected-error @+1 {{[C17 rows] d_lse is 'memref<9xf32>' but lse is 'memref<8xf32>'}}
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) d_lse(%t : memref<9xf32>) scale(%s : f32) 
      delta(%l : !l) d_q(%q : !t) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e) -> (m, d)>
#k = affine_map<(b,h,m,n,d,e) -> (n, d)>
#v = affine_map<(b,h,m,n,d,e) -> (n, e)>
#o = affine_map<(b,h,m,n,d,e) -> (m, e)>
#l = affine_map<(b,h,m,n,d,e) -> (m)>
!t = memref<8x16xf16>
!l = memref<8xf32>
func.func @C18_missing(%q: !t, %l: !l, %s: f32) {
  // expected-error @+1 {{[C18 delta-known] has no o and no delta_known; give o, from which delta is computed, or delta_known, without o and d_lse}}
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t)  scale(%s : f32) 
      delta(%l : !l) d_q(%q : !t) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e) -> (m, d)>
#k = affine_map<(b,h,m,n,d,e) -> (n, d)>
#v = affine_map<(b,h,m,n,d,e) -> (n, e)>
#o = affine_map<(b,h,m,n,d,e) -> (m, e)>
#l = affine_map<(b,h,m,n,d,e) -> (m)>
!t = memref<8x16xf16>
!l = memref<8xf32>
func.func @C18_o(%q: !t, %l: !l, %s: f32) {
  // expected-error @+1 {{[C18 delta-known] has o and delta_known}}
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32) 
      delta(%l : !l) d_q(%q : !t) {indexing_maps = [#q, #k, #v, #o, #l], delta_known}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e) -> (m, d)>
#k = affine_map<(b,h,m,n,d,e) -> (n, d)>
#v = affine_map<(b,h,m,n,d,e) -> (n, e)>
#o = affine_map<(b,h,m,n,d,e) -> (m, e)>
#l = affine_map<(b,h,m,n,d,e) -> (m)>
!t = memref<8x16xf16>
!l = memref<8xf32>
func.func @C18_d_lse(%q: !t, %l: !l, %s: f32) {
  // expected-error @+1 {{[C18 delta-known] has d_lse but no o and delta_known}}
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) d_lse(%l : !l) scale(%s : f32) 
      delta(%l : !l) d_q(%q : !t) {indexing_maps = [#q, #k, #v, #o, #l], delta_known}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e) -> (m, d)>
#k = affine_map<(b,h,m,n,d,e) -> (n, d)>
#v = affine_map<(b,h,m,n,d,e) -> (n, e)>
#o = affine_map<(b,h,m,n,d,e) -> (m, e)>
#l = affine_map<(b,h,m,n,d,e) -> (m)>
!t = memref<8x16xf16>
!l = memref<8xf32>
func.func @C19(%q: !t, %l: !l, %s: f32) {
  // expected-error @+1 {{[C19 outputs] computes nothing; give at least one of d_q, d_k, d_v and d_captures, or drop delta_known}}
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t)  scale(%s : f32) 
      delta(%l : !l) {indexing_maps = [#q, #k, #v, #o, #l], delta_known}
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e) -> (m, d)>
#k = affine_map<(b,h,m,n,d,e) -> (n, d)>
#v = affine_map<(b,h,m,n,d,e) -> (n, e)>
#o = affine_map<(b,h,m,n,d,e) -> (m, e)>
#l = affine_map<(b,h,m,n,d,e) -> (m)>
!t = memref<8x16xf16>
!l = memref<8xf32>
func.func @C22_element(%q: !t, %l: !l, %s: f32) {
  // expected-error @+1 {{[C22 d-q-sum] d_q_sum is 'memref<8x16xf16>' but q is 'memref<8x16xf16>'; it must hold 'f32' and have q's extents, with rows filled up to a multiple of 8 and the head size to one of 16}}
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32)
      delta(%l : !l) d_q_sum(%q : !t) d_q(%q : !t) d_k(%q : !t) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}
func.func @C22_shape(%q: !t, %l: !l, %s: f32, %sum: memref<8x24xf32>) {
  // expected-error @+1 {{[C22 d-q-sum] d_q_sum is 'memref<8x24xf32>' but q is}}
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32)
      delta(%l : !l) d_q_sum(%sum : memref<8x24xf32>) d_q(%q : !t) d_k(%q : !t) {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}
func.func @C20_count(%q: !t, %l: !l, %s: f32, %x: memref<8xf32>) {
  // expected-error @+1 {{[C20 capture-gradients] has 1 capture_grads and 0 d_captures}}
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32) captures(%x : memref<8xf32>)
      delta(%l : !l) d_q(%q : !t) {indexing_maps = [#q, #k, #v, #o, #l], capture_maps = [affine_map<(b,h,m,n) -> (n)>], capture_grads = array<i64: 0>} score {
      ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %e: f32):
        fa.yield %e : f32
      }
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e) -> (m, d)>
#k = affine_map<(b,h,m,n,d,e) -> (n, d)>
#v = affine_map<(b,h,m,n,d,e) -> (n, e)>
#o = affine_map<(b,h,m,n,d,e) -> (m, e)>
#l = affine_map<(b,h,m,n,d,e) -> (m)>
!t = memref<8x16xf16>
!l = memref<8xf32>
func.func @C20_position(%q: !t, %l: !l, %s: f32, %x: memref<8xf32>) {
  // expected-error @+1 {{[C20 capture-gradients] capture_grads holds 1 after -1; give increasing positions of the 1 captures}}
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32) captures(%x : memref<8xf32>)
      delta(%l : !l) d_captures(%x : memref<8xf32>) {indexing_maps = [#q, #k, #v, #o, #l], capture_maps = [affine_map<(b,h,m,n) -> (n)>], capture_grads = array<i64: 1>} score {
      ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %e: f32):
        fa.yield %e : f32
      }
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e) -> (m, d)>
#k = affine_map<(b,h,m,n,d,e) -> (n, d)>
#v = affine_map<(b,h,m,n,d,e) -> (n, e)>
#o = affine_map<(b,h,m,n,d,e) -> (m, e)>
#l = affine_map<(b,h,m,n,d,e) -> (m)>
!t = memref<8x16xf16>
!l = memref<8xf32>
func.func @C20_shape(%q: !t, %l: !l, %s: f32, %x: memref<8xf32>, %h16: memref<8xf16>) {
  // expected-error @+1 {{[C20 capture-gradients] the gradient of capture 0 is 'memref<8xf16>' but the capture is 'memref<8xf32>'; it must have that shape (rank 0 for a scalar) and hold 'f32'}}
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32) captures(%x : memref<8xf32>)
      delta(%l : !l) d_captures(%h16 : memref<8xf16>) {indexing_maps = [#q, #k, #v, #o, #l], capture_maps = [affine_map<(b,h,m,n) -> (n)>], capture_grads = array<i64: 0>} score {
      ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %e: f32):
        fa.yield %e : f32
      }
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e) -> (m, d)>
#k = affine_map<(b,h,m,n,d,e) -> (n, d)>
#v = affine_map<(b,h,m,n,d,e) -> (n, e)>
#o = affine_map<(b,h,m,n,d,e) -> (m, e)>
#l = affine_map<(b,h,m,n,d,e) -> (m)>
!t = memref<8x16xf16>
!l = memref<8xf32>
func.func @C20_integer(%q: !t, %l: !l, %s: f32, %x: memref<8xf32>, %i: index) {
  // expected-error @+1 {{[C20 capture-gradients] capture 0 is 'index', which has no gradient; drop it from capture_grads}}
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32) captures(%i : index)
      delta(%l : !l) d_captures(%x : memref<8xf32>) {indexing_maps = [#q, #k, #v, #o, #l], capture_maps = [unit], capture_grads = array<i64: 0>} score {
      ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %e: index):
        fa.yield %r : f32
      }
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e) -> (m, d)>
#k = affine_map<(b,h,m,n,d,e) -> (n, d)>
#v = affine_map<(b,h,m,n,d,e) -> (n, e)>
#o = affine_map<(b,h,m,n,d,e) -> (m, e)>
#l = affine_map<(b,h,m,n,d,e) -> (m)>
!t = memref<8x16xf16>
!l = memref<8xf32>
func.func @C21_no_score(%q: !t, %l: !l, %s: f32) {
  // expected-error @+1 {{[C21 derivative-region] has a derivative but no score region; give both or none}}
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32) 
      delta(%l : !l) d_q(%q : !t) {indexing_maps = [#q, #k, #v, #o, #l]} derivative {
      ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %ds: f32):
        fa.yield %ds : f32
      }
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e) -> (m, d)>
#k = affine_map<(b,h,m,n,d,e) -> (n, d)>
#v = affine_map<(b,h,m,n,d,e) -> (n, e)>
#o = affine_map<(b,h,m,n,d,e) -> (m, e)>
#l = affine_map<(b,h,m,n,d,e) -> (m)>
!t = memref<8x16xf16>
!l = memref<8xf32>
func.func @C21_arguments(%q: !t, %l: !l, %s: f32, %x: memref<8xf32>) {
  // expected-error @+1 {{[C21 derivative-region] takes 'f32', 'index', 'index', 'index', 'index', 'f32'; it must take 'f32', 'index', 'index', 'index', 'index', 'f32', 'f32': the raw score, b, h, m, n, the captures and the gradient of the score}}
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32) captures(%x : memref<8xf32>)
      delta(%l : !l) d_q(%q : !t) {indexing_maps = [#q, #k, #v, #o, #l], capture_maps = [affine_map<(b,h,m,n) -> (n)>]} score {
      ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %e: f32):
        fa.yield %e : f32
      } derivative {
      ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %ds: f32):
        fa.yield %ds : f32
      }
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e) -> (m, d)>
#k = affine_map<(b,h,m,n,d,e) -> (n, d)>
#v = affine_map<(b,h,m,n,d,e) -> (n, e)>
#o = affine_map<(b,h,m,n,d,e) -> (m, e)>
#l = affine_map<(b,h,m,n,d,e) -> (m)>
!t = memref<8x16xf16>
!l = memref<8xf32>
func.func @C21_yield(%q: !t, %l: !l, %s: f32, %x: memref<8xf32>) {
  // expected-error @+1 {{[C21 derivative-region] must end with fa.yield of 2 values of type 'f32'}}
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32) captures(%x : memref<8xf32>)
      delta(%l : !l) d_captures(%x : memref<8xf32>) {indexing_maps = [#q, #k, #v, #o, #l], capture_maps = [affine_map<(b,h,m,n) -> (n)>], capture_grads = array<i64: 0>} score {
      ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %e: f32):
        fa.yield %e : f32
      } derivative {
      ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %y: f32, %ds: f32):
        fa.yield %ds : f32
      }
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e) -> (m, d)>
#k = affine_map<(b,h,m,n,d,e) -> (n, d)>
#v = affine_map<(b,h,m,n,d,e) -> (n, e)>
#o = affine_map<(b,h,m,n,d,e) -> (m, e)>
#l = affine_map<(b,h,m,n,d,e) -> (m)>
!t = memref<8x16xf16>
!l = memref<8xf32>
func.func @C21_effects(%q: !t, %l: !l, %s: f32, %x: memref<8xf32>) {
  // expected-error @+1 {{[C21 derivative-region] holds memref.store, which may have side effects; use pure operations, and fa.gather to read memory or fa.accumulate to add to a gradient}}
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32) captures(%x : memref<8xf32>)
      delta(%l : !l) d_q(%q : !t) {indexing_maps = [#q, #k, #v, #o, #l], capture_maps = [affine_map<(b,h,m,n) -> (n)>]} score {
      ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %e: f32):
        fa.yield %e : f32
      } derivative {
      ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %y: f32, %ds: f32):
        memref.store %ds, %x[%n] : memref<8xf32>
        fa.yield %ds : f32
      }
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e) -> (m, d)>
#k = affine_map<(b,h,m,n,d,e) -> (n, d)>
#v = affine_map<(b,h,m,n,d,e) -> (n, e)>
#o = affine_map<(b,h,m,n,d,e) -> (m, e)>
#l = affine_map<(b,h,m,n,d,e) -> (m)>
!t = memref<8x16xf16>
!l = memref<8xf32>
func.func @accumulate_capture(%q: !t, %l: !l, %s: f32, %x: memref<8xf32>) {
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32) captures(%x, %x : memref<8xf32>, memref<8xf32>)
      delta(%l : !l) d_captures(%x : memref<8xf32>) {indexing_maps = [#q, #k, #v, #o, #l], capture_maps = [unit, unit], capture_grads = array<i64: 0>} score {
      ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %t: memref<8xf32>, %u: memref<8xf32>):
        fa.yield %r : f32
      } derivative {
      ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %t: memref<8xf32>, %u: memref<8xf32>, %ds: f32):
        // expected-error @+1 {{adds to the gradient of capture 1; name an entry of capture_grads that the region gathers from, and yield the others}}
        fa.accumulate %ds into 1[%n] : f32
        fa.yield %ds : f32
      }
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e) -> (m, d)>
#k = affine_map<(b,h,m,n,d,e) -> (n, d)>
#v = affine_map<(b,h,m,n,d,e) -> (n, e)>
#o = affine_map<(b,h,m,n,d,e) -> (m, e)>
#l = affine_map<(b,h,m,n,d,e) -> (m)>
!t = memref<8x16xf16>
!l = memref<8xf32>
func.func @accumulate_rank(%q: !t, %l: !l, %s: f32, %x: memref<8xf32>) {
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32) captures(%x, %x : memref<8xf32>, memref<8xf32>)
      delta(%l : !l) d_captures(%x : memref<8xf32>) {indexing_maps = [#q, #k, #v, #o, #l], capture_maps = [unit, unit], capture_grads = array<i64: 0>} score {
      ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %t: memref<8xf32>, %u: memref<8xf32>):
        fa.yield %r : f32
      } derivative {
      ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %t: memref<8xf32>, %u: memref<8xf32>, %ds: f32):
        // expected-error @+1 {{has 2 indices for a capture of rank 1; give one index per dimension}}
        fa.accumulate %ds into 0[%n, %n] : f32
        fa.yield %ds : f32
      }
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e) -> (m, d)>
#k = affine_map<(b,h,m,n,d,e) -> (n, d)>
#v = affine_map<(b,h,m,n,d,e) -> (n, e)>
#o = affine_map<(b,h,m,n,d,e) -> (m, e)>
#l = affine_map<(b,h,m,n,d,e) -> (m)>
!t = memref<8x16xf16>
!l = memref<8xf32>
func.func @accumulate_type(%q: !t, %l: !l, %s: f32, %x: memref<8xf32>) {
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32) captures(%x, %x : memref<8xf32>, memref<8xf32>)
      delta(%l : !l) d_captures(%x : memref<8xf32>) {indexing_maps = [#q, #k, #v, #o, #l], capture_maps = [unit, unit], capture_grads = array<i64: 0>} score {
      ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %t: memref<8xf32>, %u: memref<8xf32>):
        fa.yield %r : f32
      } derivative {
      ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %t: memref<8xf32>, %u: memref<8xf32>, %ds: f32):
        %z = arith.constant 0.0 : f64
        // expected-error @+1 {{adds 'f64'; gradients are 'f32'}}
        fa.accumulate %z into 0[%n] : f64
        fa.yield %ds : f32
      }
  return
}

// -----

#q = affine_map<(b,h,m,n,d,e) -> (m, d)>
#k = affine_map<(b,h,m,n,d,e) -> (n, d)>
#v = affine_map<(b,h,m,n,d,e) -> (n, e)>
#o = affine_map<(b,h,m,n,d,e) -> (m, e)>
#l = affine_map<(b,h,m,n,d,e) -> (m)>
!t = tensor<8x16xf16>
!l = tensor<8xf32>
func.func @C13_backward(%q: !t, %l: !l, %s: f32) {
  // expected-error @+1 {{[C13 results] has results of types 'tensor<8xf32>'; it must have the types of delta unless known, d_q, d_k, d_v and d_captures, as far as present, with tensors and none with memrefs}}
  %r = fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32)
      delta(%l : !l) d_q(%q : !t) {indexing_maps = [#q, #k, #v, #o, #l]} -> !l
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]
func.func @C23_o(%q: memref<8x4xf16>, %s: f32, %l: memref<8xf32>, %x0: memref<3x8x4xf16>, %x1: memref<3x8xf32>) {
  // expected-error @+1 {{[C23 partials] the memory for parts of o is 'memref<3x8x4xf16>' but o is 'memref<8x4xf16>'; it must hold 'f32' and have these extents behind one of the parts}}
  fa.attention ins(%q, %q, %q : memref<8x4xf16>, memref<8x4xf16>, memref<8x4xf16>) scale(%s : f32)
    outs(%q, %l : memref<8x4xf16>, memref<8xf32>) partials(%x0, %x1 : memref<3x8x4xf16>, memref<3x8xf32>)
    {indexing_maps = #maps}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]
func.func @C23_lse(%q: memref<8x4xf16>, %s: f32, %l: memref<8xf32>, %x0: memref<3x8x4xf32>, %x1: memref<3x9xf32>) {
  // expected-error @+1 {{[C23 partials] the memory for parts of lse is 'memref<3x9xf32>' but lse is 'memref<8xf32>'; it must hold 'f32'}}
  fa.attention ins(%q, %q, %q : memref<8x4xf16>, memref<8x4xf16>, memref<8x4xf16>) scale(%s : f32)
    outs(%q, %l : memref<8x4xf16>, memref<8xf32>) partials(%x0, %x1 : memref<3x8x4xf32>, memref<3x9xf32>)
    {indexing_maps = #maps}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]
func.func @C23_rank(%q: memref<8x4xf16>, %s: f32, %l: memref<8xf32>, %x0: memref<8x4xf32>, %x1: memref<3x8xf32>) {
  // expected-error @+1 {{[C23 partials] the memory for parts of o is 'memref<8x4xf32>'}}
  fa.attention ins(%q, %q, %q : memref<8x4xf16>, memref<8x4xf16>, memref<8x4xf16>) scale(%s : f32)
    outs(%q, %l : memref<8x4xf16>, memref<8xf32>) partials(%x0, %x1 : memref<8x4xf32>, memref<3x8xf32>)
    {indexing_maps = #maps}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]
func.func @C23_count(%q: memref<8x4xf16>, %s: f32, %l: memref<8xf32>, %x0: memref<3x8x4xf32>, %x1: memref<4x8xf32>) {
  // expected-error @+1 {{[C23 partials] has memory for 3 parts of o and 4 of lse; give as many of both}}
  fa.attention ins(%q, %q, %q : memref<8x4xf16>, memref<8x4xf16>, memref<8x4xf16>) scale(%s : f32)
    outs(%q, %l : memref<8x4xf16>, memref<8xf32>) partials(%x0, %x1 : memref<3x8x4xf32>, memref<4x8xf32>)
    {indexing_maps = #maps}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]
func.func @C23_one(%q: memref<8x4xf16>, %s: f32, %l: memref<8xf32>, %op: memref<3x8x4xf32>) {
  // expected-error @+1 {{[C23 partials] has memory for only one of o and lse; give both or none}}
  "fa.attention"(%q, %q, %q, %s, %q, %l, %op) <{indexing_maps = #maps,
    operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 0>}> ({})
    : (memref<8x4xf16>, memref<8x4xf16>, memref<8x4xf16>, f32, memref<8x4xf16>, memref<8xf32>, memref<3x8x4xf32>) -> ()
  return
}

// -----

#op = affine_map<(s,m,e) -> (s, m, e)>
#lp = affine_map<(s,m,e) -> (s, m)>
#o = affine_map<(s,m,e) -> (m, e)>
#l = affine_map<(s,m,e) -> (m)>
func.func @combine_C1_count(%op: memref<3x8x4xf32>, %lp: memref<3x8xf32>, %o: memref<8x4xf16>, %l: memref<8xf32>) {
  // expected-error @+1 {{[C1 maps] has 3 indexing maps; give one each for o_parts, lse_parts, o and lse}}
  fa.combine ins(%op, %lp : memref<3x8x4xf32>, memref<3x8xf32>) outs(%o, %l : memref<8x4xf16>, memref<8xf32>)
    {indexing_maps = [#op, #lp, #o]}
  return
}

// -----

#op = affine_map<(s,m,e) -> (s, m, e)>
#lp = affine_map<(s,m,e) -> (s, m)>
#o = affine_map<(s,m,e) -> (m, e)>
#l = affine_map<(s,m,e) -> (m)>
func.func @combine_C1_dims(%op: memref<3x8x4xf32>, %lp: memref<3x8xf32>, %o: memref<8x4xf16>, %l: memref<8xf32>) {
  // expected-error @+1 {{[C1 maps] the map of lse has 4 dimensions and 0 symbols; all maps need the same (s, rows..., e), no symbols}}
  fa.combine ins(%op, %lp : memref<3x8x4xf32>, memref<3x8xf32>) outs(%o, %l : memref<8x4xf16>, memref<8xf32>)
    {indexing_maps = [#op, #lp, #o, affine_map<(s,m,x,e) -> (m)>]}
  return
}

// -----

#op = affine_map<(s,m,e) -> (s, m, e)>
#lp = affine_map<(s,m,e) -> (s, m)>
#o = affine_map<(s,m,e) -> (m, e)>
#l = affine_map<(s,m,e) -> (m)>
func.func @combine_C1_symbols(%op: memref<3x8x4xf32>, %lp: memref<3x8xf32>, %o: memref<8x4xf16>, %l: memref<8xf32>) {
  // expected-error @+1 {{[C1 maps] the map of o has 3 dimensions and 1 symbols}}
  fa.combine ins(%op, %lp : memref<3x8x4xf32>, memref<3x8xf32>) outs(%o, %l : memref<8x4xf16>, memref<8xf32>)
    {indexing_maps = [#op, #lp, affine_map<(s,m,e)[g] -> (m, e)>, #l]}
  return
}

// -----

#op = affine_map<(s,m,e) -> (s, m, e)>
#lp = affine_map<(s,m,e) -> (s, m)>
#o = affine_map<(s,m,e) -> (m, e)>
#l = affine_map<(s,m,e) -> (m)>
func.func @combine_C2(%op: memref<3x8x4xf32>, %lp: memref<3x8xf32>, %o: memref<8x4xf16>, %l: memref<8xf32>) {
  // expected-error @+1 {{[C2 map-form] the map of o is affine_map<(d0, d1, d2) -> (d1, d2 floordiv 2)>; use each dimension at most once, as it is}}
  fa.combine ins(%op, %lp : memref<3x8x4xf32>, memref<3x8xf32>) outs(%o, %l : memref<8x4xf16>, memref<8xf32>)
    {indexing_maps = [#op, #lp, affine_map<(s,m,e) -> (m, e floordiv 2)>, #l]}
  return
}

// -----

#op = affine_map<(s,m,e) -> (s, m, e)>
#lp = affine_map<(s,m,e) -> (s, m)>
#o = affine_map<(s,m,e) -> (m, e)>
#l = affine_map<(s,m,e) -> (m)>
func.func @combine_C3(%op: memref<3x8x4xf32>, %lp: memref<3x8xf32>, %o: memref<8x4xf16>, %l: memref<8xf32>) {
  // expected-error @+1 {{[C3 map-rank] the map of lse_parts has 1 results but lse_parts has rank 2; give one result per dimension}}
  fa.combine ins(%op, %lp : memref<3x8x4xf32>, memref<3x8xf32>) outs(%o, %l : memref<8x4xf16>, memref<8xf32>)
    {indexing_maps = [#op, affine_map<(s,m,e) -> (s)>, #o, #l]}
  return
}

// -----

#op = affine_map<(s,m,e) -> (s, m, e)>
#lp = affine_map<(s,m,e) -> (s, m)>
#o = affine_map<(s,m,e) -> (m, e)>
#l = affine_map<(s,m,e) -> (m)>
func.func @combine_C4_runs(%op: memref<3x8x4xf32>, %lp: memref<3x8xf32>, %o: memref<8x4xf16>, %l: memref<8xf32>) {
  // expected-error @+1 {{[C4 roles] o runs along dimension 0 of 3; only parts run along the first}}
  fa.combine ins(%op, %lp : memref<3x8x4xf32>, memref<3x8xf32>) outs(%o, %l : memref<8x4xf16>, memref<8xf32>)
    {indexing_maps = [#op, #lp, affine_map<(s,m,e) -> (s, e)>, #l]}
  return
}

// -----

#op = affine_map<(s,m,e) -> (s, m, e)>
#lp = affine_map<(s,m,e) -> (s, m)>
#o = affine_map<(s,m,e) -> (m, e)>
#l = affine_map<(s,m,e) -> (m)>
func.func @combine_C4_not(%op: memref<3x8x4xf32>, %lp: memref<3x8xf32>, %o: memref<8x4xf16>, %l: memref<8xf32>) {
  // expected-error @+1 {{[C4 roles] lse_parts does not run along dimension 1 of 3}}
  fa.combine ins(%op, %lp : memref<3x8x4xf32>, memref<3x8xf32>) outs(%o, %l : memref<8x4xf16>, memref<8xf32>)
    {indexing_maps = [#op, affine_map<(s,m,e) -> (s, e)>, #o, #l]}
  return
}

// -----

#op = affine_map<(s,m,e) -> (s, m, e)>
#lp = affine_map<(s,m,e) -> (s, m)>
#o = affine_map<(s,m,e) -> (m, e)>
#l = affine_map<(s,m,e) -> (m)>
func.func @combine_C5(%op: memref<3x8x4xf32>, %lp: memref<3x9xf32>, %o: memref<8x4xf16>, %l: memref<8xf32>) {
  // expected-error @+1 {{[C5 extents] dimension 1 has extent 9 in lse_parts and 8 in an operand before it; they must agree}}
  fa.combine ins(%op, %lp : memref<3x8x4xf32>, memref<3x9xf32>) outs(%o, %l : memref<8x4xf16>, memref<8xf32>)
    {indexing_maps = [#op, #lp, #o, #l]}
  return
}

// -----

#op = affine_map<(s,m,e) -> (s, m, e)>
#lp = affine_map<(s,m,e) -> (s, m)>
#o = affine_map<(s,m,e) -> (m, e)>
#l = affine_map<(s,m,e) -> (m)>
func.func @combine_C6_lse(%op: memref<3x8x4xf32>, %lp: memref<3x8xf32>, %o: memref<8x4xf16>, %l: memref<8xf16>) {
  // expected-error @+1 {{[C6 dtypes] lse holds 'f16'; it must hold f32 or f64}}
  fa.combine ins(%op, %lp : memref<3x8x4xf32>, memref<3x8xf32>) outs(%o, %l : memref<8x4xf16>, memref<8xf16>)
    {indexing_maps = [#op, #lp, #o, #l]}
  return
}

// -----

#op = affine_map<(s,m,e) -> (s, m, e)>
#lp = affine_map<(s,m,e) -> (s, m)>
#o = affine_map<(s,m,e) -> (m, e)>
#l = affine_map<(s,m,e) -> (m)>
func.func @combine_C6_parts(%op: memref<3x8x4xf64>, %lp: memref<3x8xf32>, %o: memref<8x4xf16>, %l: memref<8xf32>) {
  // expected-error @+1 {{[C6 dtypes] o_parts holds 'f64' but lse holds 'f32'; they must hold one type}}
  fa.combine ins(%op, %lp : memref<3x8x4xf64>, memref<3x8xf32>) outs(%o, %l : memref<8x4xf16>, memref<8xf32>)
    {indexing_maps = [#op, #lp, #o, #l]}
  return
}

// -----

#op = affine_map<(s,m,e) -> (s, m, e)>
#lp = affine_map<(s,m,e) -> (s, m)>
#o = affine_map<(s,m,e) -> (m, e)>
#l = affine_map<(s,m,e) -> (m)>
func.func @combine_C6_o(%op: memref<3x8x4xf32>, %lp: memref<3x8xf32>, %o: memref<8x4xf64>, %l: memref<8xf32>) {
  // expected-error @+1 {{[C6 dtypes] o holds 'f64'; it must hold f16, bf16 or 'f32'}}
  fa.combine ins(%op, %lp : memref<3x8x4xf32>, memref<3x8xf32>) outs(%o, %l : memref<8x4xf64>, memref<8xf32>)
    {indexing_maps = [#op, #lp, #o, #l]}
  return
}

// -----

#op = affine_map<(s,m,e) -> (s, m, e)>
#lp = affine_map<(s,m,e) -> (s, m)>
#o = affine_map<(s,m,e) -> (m, e)>
#l = affine_map<(s,m,e) -> (m)>
func.func @combine_C7(%op: memref<3x8x4xf32>, %lp: tensor<3x8xf32>, %o: memref<8x4xf16>, %l: memref<8xf32>) {
  // expected-error @+1 {{[C7 storage] has an operand of type 'tensor<3x8xf32>' but o is 'memref<8x4xf16>'; use tensors for all operands or memrefs for all}}
  fa.combine ins(%op, %lp : memref<3x8x4xf32>, tensor<3x8xf32>) outs(%o, %l : memref<8x4xf16>, memref<8xf32>)
    {indexing_maps = [#op, #lp, #o, #l]}
  return
}

// -----

#op = affine_map<(s,m,e) -> (s, m, e)>
#lp = affine_map<(s,m,e) -> (s, m)>
#o = affine_map<(s,m,e) -> (m, e)>
#l = affine_map<(s,m,e) -> (m)>
func.func @combine_C8(%op: memref<3x8x4xf32>, %lp: memref<3x8xf32>, %o: memref<8x4xf16>, %l: memref<8xf32>) {
  // expected-error @+1 {{[C8 results] has results of types }}
  %r:2 = fa.combine ins(%op, %lp : memref<3x8x4xf32>, memref<3x8xf32>) outs(%o, %l : memref<8x4xf16>, memref<8xf32>)
    {indexing_maps = [#op, #lp, #o, #l]} -> tensor<8x4xf16>, tensor<8xf32>
  return
}

// -----

#op = affine_map<(s,m,e) -> (s, m, e)>
#lp = affine_map<(s,m,e) -> (s, m)>
#o = affine_map<(s,m,e) -> (m, e)>
#l = affine_map<(s,m,e) -> (m)>
func.func @combine_C9(%op: memref<3x8x4xf32>, %lp: memref<3x8xf32>, %o: memref<8x4xf16>, %l: memref<8xf32>, %i: memref<9xf32>) {
  // expected-error @+1 {{[C9 init-lse] init_lse is 'memref<9xf32>' but lse is 'memref<8xf32>'; they must have one shape and element type}}
  fa.combine ins(%op, %lp : memref<3x8x4xf32>, memref<3x8xf32>) init_lse(%i : memref<9xf32>) outs(%o, %l : memref<8x4xf16>, memref<8xf32>)
    {indexing_maps = [#op, #lp, #o, #l]}
  return
}
