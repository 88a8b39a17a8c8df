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
