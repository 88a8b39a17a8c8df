// RUN: fa-opt %s -fa-simplify-mask | FileCheck %s

#maps = [affine_map<(b,h,m,n,d,e) -> (b, m, h, d)>, affine_map<(b,h,m,n,d,e) -> (b, n, h, d)>,
         affine_map<(b,h,m,n,d,e) -> (b, n, h, e)>, affine_map<(b,h,m,n,d,e) -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e) -> (b, h, m)>]
!t = memref<?x?x?x64xf16>
!l = memref<?x?x?xf32>

// The sets that are left, in the order of the functions.
// CHECK-DAG: #[[CAUSAL:.*]] = affine_set<(d0, d1, d2, d3)[s0, s1] : (d2 + s1 - s0 - d3 >= 0)>
// CHECK-DAG: #[[MOD:.*]] = affine_set<(d0, d1, d2, d3)[s0, s1] : (d2 mod 2 - 1 == 0)>
// CHECK-DAG: #[[SEMI:.*]] = affine_set<(d0, d1, d2, d3)[s0, s1, s2] : (d2 floordiv s2 - d3 floordiv s2 == 0)>

// A constraint that holds of every key, and one that the other implies.
// CHECK-LABEL: @implied
// CHECK: fa.attention {{.*}} mask <#[[CAUSAL]]> outs
func.func @implied(%q: !t, %s: f32, %l: !l) {
  fa.attention ins(%q, %q, %q : !t, !t, !t) scale(%s : f32)
    mask <affine_set<(b,h,m,n)[lq,lk] : (lk - n + 3 >= 0, m + lk - lq - n >= 0, m + lk - lq - n + 2 >= 0)>>
    outs(%q, %l : !t, !l) {indexing_maps = #maps}
  return
}

// The only constraint holds always: no mask, and no symbols.
// CHECK-LABEL: @everything
// CHECK-NOT: mask
// CHECK-NOT: symbols
// CHECK: return
func.func @everything(%q: !t, %s: f32, %l: !l, %w: index) {
  fa.attention ins(%q, %q, %q : !t, !t, !t) scale(%s : f32)
    mask <affine_set<(b,h,m,n)[lq,lk,w] : (n >= 0, lq - m - 1 >= 0)>> symbols(%w)
    outs(%q, %l : !t, !l) {indexing_maps = #maps}
  return
}

// A set that can't hold a score, and one inside another.
// CHECK-LABEL: @sets
// CHECK: fa.attention {{.*}} mask <#[[CAUSAL]]> outs
func.func @sets(%q: !t, %s: f32, %l: !l) {
  fa.attention ins(%q, %q, %q : !t, !t, !t) scale(%s : f32)
    mask <affine_set<(b,h,m,n)[lq,lk] : (m - lq >= 0)>,
          affine_set<(b,h,m,n)[lq,lk] : (m + lk - lq - n - 4 >= 0)>,
          affine_set<(b,h,m,n)[lq,lk] : (m + lk - lq - n >= 0)>>
    outs(%q, %l : !t, !l) {indexing_maps = #maps}
  return
}

// Nothing is kept: a mask without a set, not an absent mask.
// CHECK-LABEL: @nothing
// CHECK: fa.attention {{.*}} mask <> outs
func.func @nothing(%q: !t, %s: f32, %l: !l) {
  fa.attention ins(%q, %q, %q : !t, !t, !t) scale(%s : f32)
    mask <affine_set<(b,h,m,n)[lq,lk] : (m - n - 1 >= 0, n - m >= 0)>>
    outs(%q, %l : !t, !l) {indexing_maps = #maps}
  return
}

// An equality stays when only one side of it is implied.
// CHECK-LABEL: @equality
// CHECK: fa.attention {{.*}} mask <#[[MOD]]> outs
func.func @equality(%q: !t, %s: f32, %l: !l) {
  fa.attention ins(%q, %q, %q : !t, !t, !t) scale(%s : f32)
    mask <affine_set<(b,h,m,n)[lq,lk] : (m mod 2 - 1 == 0, m mod 2 >= 0)>>
    outs(%q, %l : !t, !l) {indexing_maps = #maps}
  return
}

// A quotient by a symbol is left alone.
// CHECK-LABEL: @semi_affine
// CHECK: fa.attention {{.*}} mask <#[[SEMI]]> symbols
func.func @semi_affine(%q: !t, %s: f32, %l: !l, %w: index) {
  fa.attention ins(%q, %q, %q : !t, !t, !t) scale(%s : f32)
    mask <affine_set<(b,h,m,n)[lq,lk,w] : (m floordiv w - n floordiv w == 0)>> symbols(%w)
    outs(%q, %l : !t, !l) {indexing_maps = #maps}
  return
}

// The backward has the same mask.
// CHECK-LABEL: @backward
// CHECK: fa.attention_backward {{.*}} mask <#[[CAUSAL]]> delta
func.func @backward(%q: !t, %s: f32, %l: !l) {
  fa.attention_backward ins(%q, %q, %q, %l, %q : !t, !t, !t, !l, !t) o(%q : !t) scale(%s : f32)
    mask <affine_set<(b,h,m,n)[lq,lk] : (lk - n + 3 >= 0, m + lk - lq - n >= 0)>>
    delta(%l : !l) d_q(%q : !t) {indexing_maps = #maps}
  return
}
