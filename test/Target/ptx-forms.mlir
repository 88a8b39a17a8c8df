// Every inline assembly form, as it arrives in PTX.
// RUN: %{chain:wgmma} | fa-translate --fa-to-ptx --chip=sm_90a | FileCheck %s
// RUN: %{chain:wgmma-hold} | fa-translate --fa-to-ptx --chip=sm_90a | FileCheck %s --check-prefix=HOLD
// RUN: %{chain:mma2} | fa-translate --fa-to-ptx --chip=sm_80 | FileCheck %s --check-prefix=SM80
// RUN: %{chain:mma2} | sed 's/tile.align = 16/tile.align = 4/' | fa-translate --fa-to-ptx --chip=sm_80 | FileCheck %s --check-prefix=BYTES4

// RUN: %{transposed-matmul:wgmma} | fa-translate --fa-to-ptx --chip=sm_90a | FileCheck %s --check-prefix=TRANS
// RUN: %{transposed-matmul:mma2} | fa-translate --fa-to-ptx --chip=sm_80 | FileCheck %s --check-prefix=TRANS80
// RUN: %{split-matmul:wgmma} | fa-opt --pass-pipeline='builtin.module(fa-lower-tile-to-nvvm)' -o %t.mlir
// RUN: FileCheck %s --check-prefix=ADD < %t.mlir
// RUN: %{split-matmul:mma2} | fa-opt --pass-pipeline='builtin.module(fa-lower-tile-to-nvvm)' | FileCheck %s --check-prefix=ADD80

// CHECK: .target sm_90a
// CHECK: .visible .entry chain(
// CHECK: .param .align 64 .b8 {{.*}}[128]
// CHECK: .reqntid 384
// CHECK: mbarrier.init.shared.b64
// CHECK: fence.mbarrier_init
// The producer: wait for the slot, announce 16 KB, copy.
// CHECK: setmaxnreg.dec.sync.aligned.u32 24
// CHECK: mbarrier.try_wait.parity.shared::cta.b64
// CHECK: mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r{{[0-9]+}}], 16384;
// CHECK: cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes
// The consumers: A and B from shared memory, starting from zero.
// CHECK: setmaxnreg.inc.sync.aligned.u32 240
// CHECK: wgmma.fence.sync.aligned
// CHECK: setp.ne.b32 p, 0, 0;
// CHECK-NEXT: wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {{.*}}, da, db, p, 1, 1, 0, 0;
// CHECK: setp.ne.b32 p, 1, 0;
// CHECK: wgmma.commit_group.sync.aligned
// CHECK: wgmma.wait_group.sync.aligned 0
// CHECK: @p mbarrier.arrive.shared::cta.b64 _
// The second product: A in registers, B with k as its rows.
// CHECK: wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {{.*}}, {%r{{[0-9]+}}, %r{{[0-9]+}}, %r{{[0-9]+}}, %r{{[0-9]+}}}, db, p, 1, 1, 1;

// Held in registers, A is read once and is what wgmma takes: no copy, no descriptor.
// HOLD: ldmatrix.sync.aligned.m8n8.x4.shared.b16 {[[A:%r[0-9]+, %r[0-9]+, %r[0-9]+, %r[0-9]+]]},
// HOLD-COUNT-3: ldmatrix.sync.aligned.m8n8.x4.shared.b16
// HOLD: wgmma.fence.sync.aligned
// HOLD: wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {{.*}}, {[[A]]}, db, p, 1, 1, 0;
// HOLD-NOT: wgmma.mma_async{{.*}}, da, db

// SM80: .target sm_80
// SM80: cp.async.cg.shared.global [%r{{.*}}], [%rd{{.*}}], 16, %r
// SM80: cp.async.commit_group
// SM80: cp.async.wait_group 3
// SM80: bar.sync 0
// SM80-DAG: ldmatrix.sync.aligned.m8n8.x4.shared.b16
// SM80-DAG: mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32
// SM80-DAG: ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16

// Four copies of consecutive words, in the same groups as copies of 16 bytes.
// BYTES4: cp.async.ca.shared.global [%[[DEST:r[d0-9]+]]{{(\+[0-9]+)?}}], [%[[SRC:rd[0-9]+]]], 4, %[[BYTES:r[0-9]+]];
// BYTES4: cp.async.ca.shared.global [%[[DEST]]+{{[0-9]*}}4], [%[[SRC]]+4], 4, %[[BYTES]];
// BYTES4: cp.async.ca.shared.global [%[[DEST]]+{{[0-9]*}}8], [%[[SRC]]+8], 4, %[[BYTES]];
// BYTES4: cp.async.ca.shared.global [%[[DEST]]+{{[0-9]*}}], [%[[SRC]]+12], 4, %[[BYTES]];
// BYTES4-NOT: cp.async.cg
// BYTES4: cp.async.commit_group
// BYTES4: cp.async.wait_group 3

// Both factors with k as their rows.
// TRANS: wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {{.*}}, da, db, p, 1, 1, 1, 1;
// TRANS-NOT: wgmma.mma_async{{.*}} 0, {{[01]}};
// TRANS80-NOT: ldmatrix.sync.aligned.m8n8.x4.shared.b16
// TRANS80: ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16
// TRANS80-NOT: ldmatrix.sync.aligned.m8n8.x4.shared.b16

// Additions to memory: neighbours in one instruction from sm_90 on.
// ADD-LABEL: @split_matmul_1
// ADD: %[[P:.*]] = llvm.inttoptr %{{.*}} : i64 to !llvm.ptr<1>
// ADD: llvm.inline_asm has_side_effects {{.*}}"red.relaxed.gpu.global.add.v2.f32 [$0], {$1, $2};", "l,f,f,~{memory}" %[[P]], %{{.*}}, %{{.*}} : (!llvm.ptr<1>, f32, f32) -> ()
// ADD80-LABEL: @split_matmul_1
// ADD80: llvm.inline_asm has_side_effects {{.*}}"red.relaxed.gpu.global.add.f32 [$0], $1;", "l,f,~{memory}" %{{.*}}, %{{.*}} : (!llvm.ptr<1>, f32) -> ()
// ADD80-NOT: add.v2
