// What gradients add to d_q goes through shared memory, and one thread adds it by a bulk
// copy: two barriers of the threads that multiply, and no branch around stores.
// RUN: fa-opt %s --fa-lower-to-nvvm=chip=sm_90a | FileCheck %s

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>, affine_map<(b,h,m,n,d,e) -> (m)>]
!t = memref<?x64xf16>
!v = memref<?xf32>
!sum = memref<?x64xf32>
// Factors of a product, for which the last copy has read its place; then the tile, whose
// 128x64 elements are 32 of each thread.
// CHECK-LABEL: llvm.func @keys
// CHECK: nvvm.fence.proxy {kind = #nvvm.proxy_kind<async.shared>, space = #nvvm.shared_space<cta>}
// CHECK-NEXT: nvvm.cp.async.bulk.wait_group 0 {read}
// CHECK: nvvm.barrier id
// CHECK-NOT: nvvm.barrier
// CHECK: wgmma.wait_group
// CHECK-NOT: nvvm.barrier
// CHECK: nvvm.fence.proxy {kind = #nvvm.proxy_kind<async.shared>, space = #nvvm.shared_space<cta>}
// CHECK: nvvm.barrier id
// CHECK: llvm.cond_br
// CHECK: llvm.inline_asm has_side_effects {{.*}}"cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [$0], [$1], $2;", "l,r,r,~{memory}" %{{.*}} : (!llvm.ptr<1>, {{.*}}i32, i32) -> ()
// CHECK-NEXT: nvvm.cp.async.bulk.commit.group
// CHECK-NOT: nvvm.barrier
// The block stays until the last one has been read.
// CHECK: nvvm.cp.async.bulk.wait_group 0 {read}
// CHECK-NOT: red.relaxed
func.func @keys(%q: !t {tile.align = 16 : i64}, %k: !t {tile.align = 16 : i64}, %v: !t {tile.align = 16 : i64}, %o: !t {tile.align = 16 : i64},
    %do: !t {tile.align = 16 : i64}, %s: f32, %lse: !v, %delta: !v, %sum: !sum {tile.align = 16 : i64}, %dk: !t {tile.align = 16 : i64}) {
  fa.attention_backward ins(%q, %k, %v, %lse, %do : !t, !t, !t, !v, !t) scale(%s : f32)
    delta(%delta : !v) d_q_sum(%sum : !sum) d_k(%dk : !t) {delta_known, indexing_maps = #maps}
  return
}
