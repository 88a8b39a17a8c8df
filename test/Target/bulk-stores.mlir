// The output of attention leaves a persistent kernel by tensor copies, as PTX has them:
// four matrices of 8x8 per store to shared memory, a fence, and one thread of each warp.
// RUN: fa-opt %s --fa-lower-to-nvvm=chip=sm_90a -o %t.mlir
// RUN: fa-translate --fa-to-ptx --chip=sm_90a %t.mlir | FileCheck %s

#maps = [affine_map<(b,h,m,n,d,e) -> (b, m, h, d)>, affine_map<(b,h,m,n,d,e) -> (b, n, h, d)>,
         affine_map<(b,h,m,n,d,e) -> (b, n, h, e)>, affine_map<(b,h,m,n,d,e) -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e) -> (b, h, m)>]
!t = memref<?x?x?x128xf16, strided<[?, ?, ?, 1], offset: ?>>
// CHECK: .visible .entry attention(
// CHECK: .param .align 64 .b8 attention_param_{{[0-9]+}}[128]
// CHECK: cp.async.bulk.wait_group.read 0;
// CHECK-COUNT-8: stmatrix.sync.aligned.m8n8.x4.shared.b16
// CHECK: fence.proxy.async.shared::cta;
// CHECK: bar.warp.sync
// CHECK-COUNT-2: cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%rd{{[0-9]+}}, {%r{{[0-9]+}}, %r{{[0-9]+}}, %r{{[0-9]+}}, %r{{[0-9]+}}}], [%r{{[0-9]+}}];
// CHECK: cp.async.bulk.commit_group;
// CHECK-NOT: st.global.v4
// CHECK: cp.async.bulk.wait_group.read 0;
func.func @attention(%q: !t {tile.align = 16 : i64}, %k: !t {tile.align = 16 : i64}, %v: !t {tile.align = 16 : i64},
    %s: f32, %o: !t {tile.align = 16 : i64}, %lse: memref<?x?x?xf32>) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%s : f32) outs(%o, %lse : !t, memref<?x?x?xf32>)
    {indexing_maps = #maps}
  return
}
