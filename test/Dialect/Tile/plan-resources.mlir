// RUN: fa-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(tile-plan-resources))' --verify-diagnostics | FileCheck %s

// Slots are placed one after the other at multiples of 1024 bytes.
// CHECK-LABEL: func.func @slots
// CHECK-SAME: tile.shared_bytes = 32768 : i64
// CHECK: tile.pipe {offset = 0 : i64}
// CHECK: tile.pipe {offset = 16384 : i64}
func.func @slots() attributes {tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 2>} {
  %0 = tile.pipe : !tile.pipe<1, !tile.buffer<128x64xf16, swizzle = 128>>
  %1 = tile.pipe : !tile.pipe<2, !tile.buffer<64x64xf16, swizzle = 128>>
  return
}

// -----

// A stage has a place of its own, after the pipes.
// CHECK-LABEL: func.func @stage
// CHECK-SAME: tile.shared_bytes = 26624 : i64
// CHECK: tile.pipe {offset = 0 : i64}
// CHECK: tile.stage %{{.*}} {offset = 16384 : i64}
// CHECK: tile.stage %{{.*}} {offset = 18432 : i64}
func.func @stage(%t: tensor<16x64xf16>, %u: tensor<64x64xf16>) attributes {tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 2>} {
  %0 = tile.pipe : !tile.pipe<1, !tile.buffer<128x64xf16, swizzle = 128>>
  %a = tile.stage %t : tensor<16x64xf16> -> !tile.buffer<16x64xf16, swizzle = 128>
  %b = tile.stage %u : tensor<64x64xf16> -> !tile.buffer<64x64xf16, swizzle = 128>
  return
}

// -----

// With roles, a full and an empty barrier of eight bytes per slot follow.
// CHECK-LABEL: func.func @barriers
// CHECK-SAME: tile.shared_bytes = 32816 : i64
// CHECK: tile.pipe {barriers = 32768 : i64, offset = 0 : i64}
// CHECK: tile.pipe {barriers = 32784 : i64, offset = 16384 : i64}
func.func @barriers() attributes {tile.plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2>} {
  %0 = tile.pipe : !tile.pipe<1, !tile.buffer<128x64xf16, swizzle = 128>>
  %1 = tile.pipe : !tile.pipe<2, !tile.buffer<64x64xf16, swizzle = 128>>
  tile.roles warps [4, 8] registers [40, 232] {
    %a = arith.constant 0 : index
  }, {
    %b = arith.constant 0 : index
  }
  return
}

// -----

// What is added to memory goes there through what is left of shared memory. The two
// barriers of it and of the stage before order all that either has read.
#plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2>
#nt = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]
!b = !tile.buffer<64x64xf16, swizzle = 128>
!sum = memref<?x64xf32, strided<[64, 1], offset: ?>>
// CHECK-LABEL: func.func @sums
// CHECK-SAME: tile.shared_bytes = 24576 : i64
// CHECK: tile.stage %{{.*}} {offset = 0 : i64, unread}
// CHECK: tile.accumulate %{{.*}} shuffled {free, offset = 8192 : i64}
// CHECK: tile.accumulate %{{.*}} shuffled {offset = 8192 : i64}
// CHECK: tile.accumulate %{{.*}} shuffled : tensor<64x64xf32>, memref<?x128xf32
// CHECK: tile.accumulate %{{[a-z0-9]*}}, %{{[a-z0-9]*}}[%{{.*}}] : tensor<64x64xf32>
func.func @sums(%t: tensor<64x64xf16>, %k: !b, %sum: !sum, %wide: memref<?x128xf32, strided<[128, 1], offset: ?>>,
    %r: tensor<64x64xf32>, %i: index) attributes {tile.plan = #plan} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant dense<0.0> : tensor<64x64xf32>
  scf.for %j = %c0 to %i step %c1 {
    %a = tile.stage %t : tensor<64x64xf16> -> !b
    %o = tile.contract %a, %k, %zero {maps = #nt} : !b, !b, tensor<64x64xf32>
    tile.accumulate %o, %sum[%j, %c0] shuffled : tensor<64x64xf32>, !sum
  }
  tile.accumulate %r, %sum[%i, %c0] shuffled : tensor<64x64xf32>, !sum
  // Not as wide as the memory; not shuffled.
  tile.accumulate %r, %wide[%i, %c0] shuffled : tensor<64x64xf32>, memref<?x128xf32, strided<[128, 1], offset: ?>>
  tile.accumulate %r, %sum[%i, %c0] : tensor<64x64xf32>, !sum
  return
}

// -----

// Where a second reader of the stage may still run, its barrier stays; without
// room, and on chips without bulk copies, threads add.
#nt = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]
!b = !tile.buffer<64x64xf16, swizzle = 128>
!sum = memref<?x64xf32, strided<[64, 1], offset: ?>>
// CHECK-LABEL: func.func @two_readers
// CHECK: tile.stage %{{.*}} {offset = 0 : i64} :
// CHECK: tile.accumulate %{{.*}} shuffled {free, offset = 8192 : i64}
func.func @two_readers(%t: tensor<64x64xf16>, %k: !b, %sum: !sum, %i: index) -> tensor<64x64xf32>
    attributes {tile.plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2, overlap = true>} {
  %c0 = arith.constant 0 : index
  %zero = arith.constant dense<0.0> : tensor<64x64xf32>
  %a = tile.stage %t : tensor<64x64xf16> -> !b
  %o = tile.contract %a, %k, %zero {maps = #nt} : !b, !b, tensor<64x64xf32>
  %p = tile.contract %a, %k, %zero {maps = #nt} : !b, !b, tensor<64x64xf32>
  tile.accumulate %o, %sum[%i, %c0] shuffled : tensor<64x64xf32>, !sum
  return %p : tensor<64x64xf32>
}
// CHECK-LABEL: func.func @two_done
// CHECK: tile.stage %{{.*}} {offset = 0 : i64, unread} :
func.func @two_done(%t: tensor<64x64xf16>, %k: !b, %sum: !sum, %i: index) -> tensor<64x64xf32>
    attributes {tile.plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2>} {
  %c0 = arith.constant 0 : index
  %zero = arith.constant dense<0.0> : tensor<64x64xf32>
  %a = tile.stage %t : tensor<64x64xf16> -> !b
  %o = tile.contract %a, %k, %zero {maps = #nt} : !b, !b, tensor<64x64xf32>
  %p = tile.contract %a, %k, %zero {maps = #nt} : !b, !b, tensor<64x64xf32>
  tile.accumulate %o, %sum[%i, %c0] shuffled : tensor<64x64xf32>, !sum
  return %p : tensor<64x64xf32>
}
// CHECK-LABEL: func.func @no_room
// CHECK-SAME: tile.shared_bytes = 229376 : i64
// CHECK: tile.accumulate %{{.*}} shuffled : tensor<64x64xf32>
func.func @no_room(%r: tensor<64x64xf32>, %sum: !sum, %i: index)
    attributes {tile.plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 7>} {
  %c0 = arith.constant 0 : index
  %0 = tile.pipe : !tile.pipe<7, !tile.buffer<128x128xf16, swizzle = 128>>
  tile.accumulate %r, %sum[%i, %c0] shuffled : tensor<64x64xf32>, !sum
  return
}
// CHECK-LABEL: func.func @by_threads
// CHECK: tile.accumulate %{{.*}} shuffled : tensor<64x64xf32>
func.func @by_threads(%r: tensor<64x64xf32>, %sum: !sum, %i: index)
    attributes {tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 2>} {
  %c0 = arith.constant 0 : index
  tile.accumulate %r, %sum[%i, %c0] shuffled : tensor<64x64xf32>, !sum
  return
}

// -----

// expected-error @+1 {{needs 196608 bytes of shared memory; sm_80 has 166912 per block: use smaller tiles or fewer stages}}
func.func @too_much() attributes {tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 3>} {
  %0 = tile.pipe : !tile.pipe<3, !tile.buffer<128x256xf16, swizzle = 128>>
  return
}

// -----

// What a chip does not have is refused by name.
// expected-error @+1 {{plans copy = "cp_async", which sm_75 does not have: use direct}}
func.func @no_cp_async() attributes {tile.plan = #tile.plan<chip = "sm_75", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 2>} {
  return
}

// -----

// expected-error @+1 {{plans mma = "wgmma", which sm_89 does not have: use mma_sync}}
func.func @no_wgmma() attributes {tile.plan = #tile.plan<chip = "sm_89", mma = "wgmma", copy = "cp_async", warps = 4, producers = 0, stages = 2>} {
  return
}

// -----

// expected-error @+1 {{plans copy = "tma", which sm_86 does not have: use cp_async or direct}}
func.func @no_tma() attributes {tile.plan = #tile.plan<chip = "sm_86", mma = "mma_sync", copy = "tma", warps = 4, producers = 0, stages = 2>} {
  return
}

// -----

func.func @no_bf16(%a: tensor<64x16xbf16>, %b: tensor<64x16xbf16>, %c: tensor<64x64xf32>) attributes {tile.plan = #tile.plan<chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 4, producers = 0, stages = 1>} {
  // expected-error @+1 {{multiplies bf16, which sm_75 does not have: use f16 or sm_80 and newer}}
  %0 = tile.contract %a, %b, %c {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]} : tensor<64x16xbf16>, tensor<64x16xbf16>, tensor<64x64xf32>
  return
}

// -----

// expected-error @+1 {{needs 131072 bytes of shared memory; sm_89 has 101376 per block: use smaller tiles or fewer stages}}
func.func @less() attributes {tile.plan = #tile.plan<chip = "sm_89", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 2>} {
  %0 = tile.pipe : !tile.pipe<2, !tile.buffer<128x256xf16, swizzle = 128>>
  return
}

// -----

// Tiles of 16 bits that a persistent kernel stores exchange their columns behind
// all else; with other element types, kernels and chips, or without room, in no memory.
!o = memref<?x64xf16, strided<[64, 1], offset: ?>>
// CHECK-LABEL: func.func @stores
// CHECK-SAME: tile.shared_bytes = 32768 : i64
// CHECK: tile.store {{.*}} {offset = 16384 : i64} : tensor<64x64xf16>
// CHECK: tile.store %{{[a-z0-9]*}}, %{{[a-z0-9]*}}[%{{.*}}] : tensor<64xf32>
func.func @stores(%r: tensor<64x64xf16>, %v: tensor<64xf32>, %o: !o, %l: memref<?xf32>, %i: index)
    attributes {tile.plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 1, persistent = true>} {
  %c0 = arith.constant 0 : index
  %0 = tile.pipe : !tile.pipe<1, !tile.buffer<64x128xf16, swizzle = 128>>
  tile.store %r, %o[%i, %c0] : tensor<64x64xf16>, !o
  tile.store %v, %l[%i] : tensor<64xf32>, memref<?xf32>
  return
}
// CHECK-LABEL: func.func @not_persistent
// CHECK-SAME: tile.shared_bytes = 0 : i64
func.func @not_persistent(%r: tensor<64x64xf16>, %o: !o, %i: index)
    attributes {tile.plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 1>} {
  %c0 = arith.constant 0 : index
  tile.store %r, %o[%i, %c0] : tensor<64x64xf16>, !o
  return
}
// CHECK-LABEL: func.func @other_chip
// CHECK-SAME: tile.shared_bytes = 0 : i64
func.func @other_chip(%r: tensor<64x64xf16>, %o: !o, %i: index)
    attributes {tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 8, producers = 4, stages = 1, persistent = true>} {
  %c0 = arith.constant 0 : index
  tile.store %r, %o[%i, %c0] : tensor<64x64xf16>, !o
  return
}
// CHECK-LABEL: func.func @no_room_to_exchange
// CHECK-SAME: tile.shared_bytes = 229376 : i64
func.func @no_room_to_exchange(%r: tensor<64x64xf16>, %o: !o, %i: index)
    attributes {tile.plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 7, persistent = true>} {
  %c0 = arith.constant 0 : index
  %0 = tile.pipe : !tile.pipe<7, !tile.buffer<128x128xf16, swizzle = 128>>
  tile.store %r, %o[%i, %c0] : tensor<64x64xf16>, !o
  return
}

// -----

// Tensor copies store accumulators of 16 rows per warp: 128 bytes of a row in a panel, the
// same place for a wide and a narrow tile. A part of a dimension, less alignment, other
// layouts and plans without them exchange columns.
#acc = #tile.frag<reg = [2:1:1, 2:0:8, 16:1:8], lane = [4:1:2, 8:0:1], warp = [4:0:16]>
#narrow = #tile.frag<reg = [2:1:1, 2:0:8, 2:1:8], lane = [4:1:2, 8:0:1], warp = [4:0:16]>
#odd = #tile.frag<reg = [2:1:1, 2:0:8, 5:1:8], lane = [4:1:2, 8:0:1], warp = [4:0:16]>
#rows = #tile.frag<reg = [2:1:1, 2:0:8, 2:0:64, 16:1:8], lane = [4:1:2, 8:0:1], warp = [4:0:16]>
#plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4, producers = 4, stages = 1, persistent = true, bulk_stores = true>
!o = memref<?x128xf16, strided<[128, 1]>>
// CHECK-LABEL: func.func @copies
// CHECK-SAME: tile.shared_bytes = 16384 : i64
// CHECK: tile.store {{.*}} bulk 4096 {offset = 0 : i64} : tensor<64x128xf16
// CHECK: tile.store {{.*}} bulk 4096 {offset = 0 : i64} : tensor<64x16xf16
func.func @copies(%r: tensor<64x128xf16, #acc>, %n: tensor<64x16xf16, #narrow>, %o: !o {tile.align = 16 : i64}, %i: index)
    attributes {tile.plan = #plan} {
  %c0 = arith.constant 0 : index
  tile.store %r, %o[%i, %c0] : tensor<64x128xf16, #acc>, !o
  tile.store %n, %o[%i, %i] : tensor<64x16xf16, #narrow>, !o
  return
}
// One panel, of which 40 columns are written, where the memory ends there, too.
// CHECK-LABEL: func.func @end
// CHECK: tile.store {{.*}} bulk 2048 {offset = 0 : i64} : tensor<64x40xf16
func.func @end(%r: tensor<64x40xf16, #odd>, %o: memref<?x40xf16> {tile.align = 16 : i64}, %i: index) attributes {tile.plan = #plan} {
  %c0 = arith.constant 0 : index
  tile.store %r, %o[%i, %c0] : tensor<64x40xf16, #odd>, memref<?x40xf16>
  return
}
// CHECK-LABEL: func.func @more_columns
// CHECK: tile.store {{.*}}] {offset = 0 : i64} : tensor<64x40xf16
func.func @more_columns(%r: tensor<64x40xf16, #odd>, %o: memref<?x48xf16> {tile.align = 16 : i64}, %i: index) attributes {tile.plan = #plan} {
  %c0 = arith.constant 0 : index
  tile.store %r, %o[%i, %c0] : tensor<64x40xf16, #odd>, memref<?x48xf16>
  return
}
// CHECK-LABEL: func.func @part
// CHECK: tile.store {{.*}}] {offset = 0 : i64} : tensor<64x128xf16
func.func @part(%r: tensor<64x128xf16, #acc>, %o: !o {tile.align = 16 : i64}, %i: index) attributes {tile.plan = #plan} {
  %c0 = arith.constant 0 : index
  %v = memref.subview %o[0, 0] [%i, 128] [1, 1] : !o to !o
  tile.store %r, %v[%i, %c0] : tensor<64x128xf16, #acc>, !o
  return
}
// CHECK-LABEL: func.func @less_alignment
// CHECK: tile.store {{.*}}] {offset = 0 : i64} : tensor<64x128xf16
func.func @less_alignment(%r: tensor<64x128xf16, #acc>, %o: !o {tile.align = 4 : i64}, %i: index) attributes {tile.plan = #plan} {
  %c0 = arith.constant 0 : index
  tile.store %r, %o[%i, %c0] : tensor<64x128xf16, #acc>, !o
  return
}
// CHECK-LABEL: func.func @other_layout
// CHECK: tile.store {{.*}}] {offset = 0 : i64} : tensor<128x128xf16
func.func @other_layout(%r: tensor<128x128xf16, #rows>, %o: !o {tile.align = 16 : i64}, %i: index) attributes {tile.plan = #plan} {
  %c0 = arith.constant 0 : index
  tile.store %r, %o[%i, %c0] : tensor<128x128xf16, #rows>, !o
  return
}
// CHECK-LABEL: func.func @other_plan
// CHECK: tile.store {{.*}}] {offset = 0 : i64} : tensor<64x128xf16
func.func @other_plan(%r: tensor<64x128xf16, #acc>, %o: !o {tile.align = 16 : i64}, %i: index)
    attributes {tile.plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4, producers = 4, stages = 1, persistent = true>} {
  %c0 = arith.constant 0 : index
  tile.store %r, %o[%i, %c0] : tensor<64x128xf16, #acc>, !o
  return
}
// Room for one of two panels of each warp: they take turns.
// CHECK-LABEL: func.func @little_room
// CHECK-SAME: tile.shared_bytes = 229376 : i64
// CHECK: tile.store {{.*}} bulk 2048 {offset = 221184 : i64} : tensor<64x128xf16
func.func @little_room(%r: tensor<64x128xf16, #acc>, %o: !o {tile.align = 16 : i64}, %i: index) attributes {tile.plan = #plan} {
  %c0 = arith.constant 0 : index
  %0 = tile.pipe : !tile.pipe<27, !tile.buffer<64x64xf16, swizzle = 128>>
  tile.store %r, %o[%i, %c0] : tensor<64x128xf16, #acc>, !o
  return
}
