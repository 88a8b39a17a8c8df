// RUN: %{matmul:wgmma} | fa-opt --fa-lower-tile-to-nvvm --remarks-filter='.*' -o /dev/null 2>&1 | FileCheck %s --check-prefix=WGMMA
// RUN: %{matmul:mma2} | fa-opt --fa-lower-tile-to-nvvm --remarks-filter='.*' -o /dev/null 2>&1 | FileCheck %s --check-prefix=MMA
// RUN: %{matmul:mma2} | fa-opt --fa-lower-tile-to-nvvm --remarks-filter-missed='.*' -o /dev/null 2>&1 | FileCheck %s --check-prefix=NONE --allow-empty
// RUN: fa-opt %s --pass-pipeline='builtin.module(func.func(tile-async-copy))' --remarks-filter='.*' -o /dev/null 2>&1 | FileCheck %s --check-prefix=MISSED

// What a matrix product becomes: copies, memory, instructions.
// WGMMA-COUNT-2: remark: [Passed] copy | Category:tile-async-copy | Function=matmul | form=tma, stages=2, tile={{"?}}tensor<
// WGMMA: [Analysis] resources | Category:tile-plan-resources | Function=matmul | bulk_stores=false, chip=sm_90a, copy=tma, hold_left=false, mma=wgmma, overlap=false, persistent=false, producers=4, shared_bytes={{[0-9]+}}, shared_limit=232448, square=false, stages=2, threads=384, turns=false, warps=8
// WGMMA: [Passed] mma | Category:convert-tile-to-threads | Function=matmul | form=wgmma.m64n128k16, k=64, left="shared memory", m=128, n=128, right="shared memory"

// MMA-COUNT-2: [Passed] copy | Category:tile-async-copy | Function=matmul | form=cp_async, stages=2
// MMA: shared_bytes=65536, shared_limit=166912
// MMA: form=mma.sync.m16n8k16, k=64

// NONE-NOT: remark

// MISSED: [Missed] copy | Category:tile-async-copy | Function=reads_twice | Reason="a factor passes through registers: other operations than products read it", tile=tensor<64x64xf16>
// MISSED: [Passed] copy | Category:tile-async-copy | Function=reads_twice | form=cp_async, stages=1, tile=tensor<64x64xf16>
#plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 2>
func.func @reads_twice(%a: memref<?x?xf16>, %b: memref<?x?xf16>, %c: memref<?x?xf32>) attributes {tile.plan = #plan} {
  %c0 = arith.constant 0 : index
  %zero = arith.constant dense<0.0> : tensor<64x64xf32>
  %at = tile.load %a[%c0, %c0] : memref<?x?xf16> -> tensor<64x64xf16>
  %bt = tile.load %b[%c0, %c0] : memref<?x?xf16> -> tensor<64x64xf16>
  %wide = arith.extf %at : tensor<64x64xf16> to tensor<64x64xf32>
  %sum = tile.contract %at, %bt, %zero {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]}
      : tensor<64x64xf16>, tensor<64x64xf16>, tensor<64x64xf32>
  %r = arith.addf %sum, %wide : tensor<64x64xf32>
  tile.store %r, %c[%c0, %c0] : tensor<64x64xf32>, memref<?x?xf32>
  return
}
