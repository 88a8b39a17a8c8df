// RUN: fa-opt %s --tile-roles | FileCheck %s

// Producers of up to four panels per row of a tile do with 24 registers.
#plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 1>
// CHECK-LABEL: func.func @four
// CHECK: tile.roles warps [4, 8] registers [24, 240]
func.func @four(%m: memref<128x256xf16>) attributes {tile.plan = #plan} {
  %c0 = arith.constant 0 : index
  %0 = tile.pipe : <1, !tile.buffer<128x256xf16, swizzle = 128>>
  tile.produce %0[%c0], %m[%c0, %c0] : <1, !tile.buffer<128x256xf16, swizzle = 128>>, memref<128x256xf16>
  tile.release %0[%c0] : <1, !tile.buffer<128x256xf16, swizzle = 128>>
  return
}

// CHECK-LABEL: func.func @five
// CHECK: tile.roles warps [4, 8] registers [40, 232]
func.func @five(%m: memref<128x160xf16>) attributes {tile.plan = #plan} {
  %c0 = arith.constant 0 : index
  %0 = tile.pipe : <1, !tile.buffer<128x160xf16, swizzle = 64>>
  tile.produce %0[%c0], %m[%c0, %c0] : <1, !tile.buffer<128x160xf16, swizzle = 64>>, memref<128x160xf16>
  tile.release %0[%c0] : <1, !tile.buffer<128x160xf16, swizzle = 64>>
  return
}

// More teams share the file of registers.
#three = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 12, producers = 4, stages = 1>
// CHECK-LABEL: func.func @twelve
// CHECK: tile.roles warps [4, 12] registers [32, 160]
func.func @twelve(%m: memref<64x64xf16>) attributes {tile.plan = #three} {
  %c0 = arith.constant 0 : index
  %0 = tile.pipe : <1, !tile.buffer<64x64xf16, swizzle = 128>>
  tile.produce %0[%c0], %m[%c0, %c0] : <1, !tile.buffer<64x64xf16, swizzle = 128>>, memref<64x64xf16>
  tile.release %0[%c0] : <1, !tile.buffer<64x64xf16, swizzle = 128>>
  return
}

#four = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 16, producers = 4, stages = 1>
// CHECK-LABEL: func.func @sixteen
// CHECK: tile.roles warps [4, 16] registers [32, 112]
func.func @sixteen(%m: memref<64x64xf16>) attributes {tile.plan = #four} {
  %c0 = arith.constant 0 : index
  %0 = tile.pipe : <1, !tile.buffer<64x64xf16, swizzle = 128>>
  tile.produce %0[%c0], %m[%c0, %c0] : <1, !tile.buffer<64x64xf16, swizzle = 128>>, memref<64x64xf16>
  tile.release %0[%c0] : <1, !tile.buffer<64x64xf16, swizzle = 128>>
  return
}
