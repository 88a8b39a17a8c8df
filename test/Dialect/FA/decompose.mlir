// RUN: fa-opt %s -fa-decompose | FileCheck %s

#maps = [affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>]

// Tensors: scores, mask, maximum, sum, product, and the two results.
// CHECK-LABEL: func.func @tensors(
// CHECK-SAME: %[[Q:[a-z0-9]*]]: tensor<2x8x4x16xf16>, %[[K:[a-z0-9]*]]: tensor<2x9x2x16xf16>,
// CHECK-DAG: %[[NINF:.*]] = arith.constant 0xFF800000 : f32
// CHECK: %[[S:.*]] = linalg.generic {{.*}} iterator_types = ["parallel", "parallel", "parallel", "parallel", "reduction"]} ins(%[[Q]] : {{.*}}) outs({{.*}} : tensor<2x4x8x9xf32>)
// CHECK: arith.divui %{{.*}}, %c2
// CHECK: tensor.extract %[[K]]
// CHECK: %[[MASKED:.*]] = linalg.generic {{.*}} outs(%[[S]] : tensor<2x4x8x9xf32>)
// CHECK: arith.cmpi slt
// CHECK: arith.cmpi sge
// CHECK: arith.select %{{.*}}, %{{.*}}, %[[NINF]] : f32
// CHECK: %[[MAX:.*]] = linalg.generic {{.*}} ins(%[[MASKED]] : {{.*}}) outs({{.*}} : tensor<2x4x8xf32>)
// CHECK: arith.maxnumf
// CHECK: %[[SUM:.*]] = linalg.generic {{.*}} ins(%[[MASKED]], %[[MAX]] :
// CHECK: math.exp
// CHECK: %[[ACC:.*]] = linalg.generic {{.*}} ins(%[[MASKED]], %[[MAX]] :
// CHECK: %[[O:.*]] = linalg.generic {{.*}} ins(%[[ACC]], %[[SUM]] :
// CHECK: arith.truncf
// CHECK: %[[LSE:.*]] = linalg.generic {{.*}} ins(%[[SUM]], %[[MAX]] :
// CHECK: math.log
// CHECK: return %[[O]], %[[LSE]]
func.func @tensors(%q: tensor<2x8x4x16xf16>, %k: tensor<2x9x2x16xf16>, %v: tensor<2x9x2x16xf16>, %scale: f32,
    %o: tensor<2x8x4x16xf16>, %l: tensor<2x4x8xf32>) -> (tensor<2x8x4x16xf16>, tensor<2x4x8xf32>) {
  %r:2 = fa.attention ins(%q, %k, %v : tensor<2x8x4x16xf16>, tensor<2x9x2x16xf16>, tensor<2x9x2x16xf16>) scale(%scale : f32)
    mask <affine_set<(b,h,m,n)[lq,lk] : (m + lk - lq - n >= 0)>>
    outs(%o, %l : tensor<2x8x4x16xf16>, tensor<2x4x8xf32>) {indexing_maps = #maps}
    -> tensor<2x8x4x16xf16>, tensor<2x4x8xf32>
  return %r#0, %r#1 : tensor<2x8x4x16xf16>, tensor<2x4x8xf32>
}

// Memrefs: temporaries are freed, nothing is left of the operation.
// CHECK-LABEL: func.func @memrefs(
// CHECK-SAME: %[[O:[a-z0-9]*]]: memref<?x?x?x16xf32>, %[[L:[a-z0-9]*]]: memref<?x?x?xf32>)
// CHECK-COUNT-4: memref.alloc
// CHECK: linalg.generic {{.*}} outs(%[[O]] :
// CHECK: linalg.generic {{.*}} outs(%[[L]] :
// CHECK-COUNT-4: memref.dealloc
// CHECK-NOT: fa.
// CHECK: return
func.func @memrefs(%q: memref<?x?x?x16xf32>, %k: memref<?x?x?x16xf32>, %scale: f32, %o: memref<?x?x?x16xf32>, %l: memref<?x?x?xf32>) {
  fa.attention ins(%q, %k, %k : memref<?x?x?x16xf32>, memref<?x?x?x16xf32>, memref<?x?x?x16xf32>) scale(%scale : f32)
    outs(%o, %l : memref<?x?x?x16xf32>, memref<?x?x?xf32>) {indexing_maps = #maps}
  return
}

// The backward on tensors: delta, scores, probabilities, dp, ds, then sums that
// add to one element at a time and their conversion.
// CHECK-LABEL: func.func @backward(
// CHECK-SAME: %[[Q:[a-z0-9]*]]: tensor<2x8x4x16xf16>, %[[K:[a-z0-9]*]]: tensor<2x9x2x16xf16>, %[[LSE:[a-z0-9]*]]: tensor<2x4x8xf32>, %[[O:[a-z0-9]*]]: tensor<2x8x4x16xf16>, %[[DO:[a-z0-9]*]]: tensor<2x8x4x16xf16>,
// CHECK: %[[ODO:.*]] = linalg.generic {{.*}} ins(%[[O]], %[[DO]] :
// CHECK: %[[DELTA:.*]] = linalg.generic {{.*}} ins(%[[ODO]], %[[LSE]] :
// CHECK: %[[RAW:.*]] = linalg.generic {{.*}} ins(%[[Q]] :
// CHECK: %[[S:.*]] = linalg.generic {{.*}} ins(%[[RAW]], %[[LSE]] :
// CHECK: %[[P:.*]] = linalg.generic {{.*}} ins(%[[S]], %[[LSE]] :
// CHECK: math.exp
// CHECK: %[[DP:.*]] = linalg.generic {{.*}} ins(%[[DO]] :
// CHECK: %[[DS:.*]] = linalg.generic {{.*}} ins(%[[S]], %[[P]], %[[DP]], %[[DELTA]] :
// CHECK: scf.for %[[B:[a-z0-9]*]] =
// CHECK: scf.for %[[H:[a-z0-9]*]] =
// CHECK: scf.for %[[M:[a-z0-9]*]] =
// CHECK: scf.for %[[N:[a-z0-9]*]] =
// CHECK: scf.for %[[D:[a-z0-9]*]] =
// CHECK: tensor.extract %[[DS]][%[[B]], %[[H]], %[[M]], %[[N]]]
// CHECK: tensor.extract %[[Q]][%[[B]], %[[M]], %[[H]], %[[D]]]
// CHECK: %[[KH:.*]] = arith.divui %[[H]]
// CHECK: tensor.insert %{{.*}} into %{{.*}}[%[[B]], %[[N]], %[[KH]], %[[D]]]
// CHECK: %[[DK:.*]] = linalg.generic
// CHECK: arith.truncf
// CHECK-NOT: fa.
// CHECK: return %[[DELTA]], %[[DK]]
func.func @backward(%q: tensor<2x8x4x16xf16>, %k: tensor<2x9x2x16xf16>, %lse: tensor<2x4x8xf32>, %o: tensor<2x8x4x16xf16>, %do: tensor<2x8x4x16xf16>,
    %scale: f32, %delta: tensor<2x4x8xf32>, %dk: tensor<2x9x2x16xf16>) -> (tensor<2x4x8xf32>, tensor<2x9x2x16xf16>) {
  %r:2 = fa.attention_backward ins(%q, %k, %k, %lse, %do : tensor<2x8x4x16xf16>, tensor<2x9x2x16xf16>, tensor<2x9x2x16xf16>, tensor<2x4x8xf32>, tensor<2x8x4x16xf16>)
    o(%o : tensor<2x8x4x16xf16>) scale(%scale : f32)
    delta(%delta : tensor<2x4x8xf32>) d_k(%dk : tensor<2x9x2x16xf16>) {indexing_maps = #maps}
    -> tensor<2x4x8xf32>, tensor<2x9x2x16xf16>
  return %r#0, %r#1 : tensor<2x4x8xf32>, tensor<2x9x2x16xf16>
}

// The largest lse of a row, the sum of its weights, the weighted sum; a part whose
// lse is -inf adds nothing, and no part is left out of a division by 0.
// CHECK-LABEL: func.func @combine(
// CHECK-SAME: %[[OP:[a-z0-9]*]]: tensor<3x8x4xf32>, %[[LP:[a-z0-9]*]]: tensor<3x8xf32>, %[[O:[a-z0-9]*]]: tensor<8x4xf16>, %[[L:[a-z0-9]*]]: tensor<8xf32>)
// CHECK: %[[ZERO:.*]] = arith.constant 0.000000e+00 : f32
// CHECK: %[[MAX:.*]] = linalg.generic {{.*}} iterator_types = ["reduction", "parallel"]} ins(%[[LP]] : {{.*}}) outs({{.*}} : tensor<8xf32>)
// CHECK: arith.maxnumf
// CHECK: %[[SUM:.*]] = linalg.generic {{.*}} ins(%[[LP]], %[[MAX]] : {{.*}}) outs({{.*}} : tensor<8xf32>)
// CHECK: math.exp
// CHECK: arith.addf
// CHECK: %[[ACC:.*]] = linalg.generic {{.*}} iterator_types = ["reduction", "parallel", "parallel"]} ins(%[[OP]], %[[LP]], %[[MAX]] : {{.*}}) outs({{.*}} : tensor<8x4xf32>)
// CHECK: ^bb0(%{{.*}}: f32, %[[W:.*]]: f32, %{{.*}}: f32, %[[SO:.*]]: f32):
// CHECK: %[[PRODUCT:.*]] = arith.mulf
// CHECK: %[[NINF:.*]] = arith.constant 0xFF800000 : f32
// CHECK: %[[DEAD:.*]] = arith.cmpf oeq, %[[W]], %[[NINF]]
// CHECK: %[[ADDED:.*]] = arith.select %[[DEAD]], %[[ZERO]], %[[PRODUCT]]
// CHECK: arith.addf %[[SO]], %[[ADDED]]
// CHECK: %[[NEWO:.*]] = linalg.generic {{.*}} ins(%[[ACC]], %[[SUM]] : {{.*}}) outs(%[[O]] : tensor<8x4xf16>)
// CHECK: arith.divf
// CHECK: arith.truncf
// CHECK: %[[NEWL:.*]] = linalg.generic {{.*}} ins(%[[SUM]], %[[MAX]] : {{.*}}) outs(%[[L]] : tensor<8xf32>)
// CHECK: return %[[NEWO]], %[[NEWL]]
func.func @combine(%op: tensor<3x8x4xf32>, %lp: tensor<3x8xf32>, %o: tensor<8x4xf16>, %l: tensor<8xf32>) -> (tensor<8x4xf16>, tensor<8xf32>) {
  %r:2 = fa.combine ins(%op, %lp : tensor<3x8x4xf32>, tensor<3x8xf32>) outs(%o, %l : tensor<8x4xf16>, tensor<8xf32>)
    {indexing_maps = [affine_map<(s,m,e) -> (s, m, e)>, affine_map<(s,m,e) -> (s, m)>,
                      affine_map<(s,m,e) -> (m, e)>, affine_map<(s,m,e) -> (m)>]} -> tensor<8x4xf16>, tensor<8xf32>
  return %r#0, %r#1 : tensor<8x4xf16>, tensor<8xf32>
}
