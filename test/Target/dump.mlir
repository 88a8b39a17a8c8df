// REQUIRES: ptxas
// RUN: rm -rf %t && mkdir %t
// RUN: %{matmul:mma2} > %t/matmul.mlir
// RUN: fa-translate --fa-to-report --chip=sm_80 --dump=%t/one %t/matmul.mlir > %t/report.txt
// RUN: FileCheck %s --input-file=%t/report.txt
// RUN: cat %t/one/ptxas.log %t/one/report.json | FileCheck %s --check-prefix=JSON

// The module after each pass, numbered; the dump goes on where it was taken.
// RUN: ls %t/one/passes | FileCheck %s --check-prefix=PASSES
// RUN: fa-opt %t/one/passes/*-tile-plan-resources.matmul.mlir --convert-tile-to-threads | FileCheck %s --check-prefix=NEXT

// The other files, and no times or paths in any: a second dump is the same.
// RUN: ls %t/one | FileCheck %s --check-prefix=FILES
// RUN: diff %t/report.txt %t/one/report.txt
// RUN: fa-translate --fa-to-report --chip=sm_80 --dump=%t/two %t/matmul.mlir
// RUN: diff -r %t/one %t/two
// RUN: not fa-translate --fa-to-report --chip=sm_80 --dump=%t/matmul.mlir/x %t/matmul.mlir 2>&1 | FileCheck %s --check-prefix=NOFOLDER

// CHECK: chip: sm_80 (A100 SXM 80 GB: 312 TFLOP/s, 2039 GB/s, ridge 153 FLOP/byte)
// CHECK-NEXT: launch: matmul
// CHECK-NEXT: plan: bulk_stores=false, copy="cp_async", hold_left=false, mma="mma_sync", overlap=false, persistent=false, producers=0, shared_limit=166912, square=false, stages=2, turns=false, warps=4
// CHECK-NEXT: resources: blocks_per_sm=2, occupancy=0.125, registers={{[0-9]+}}, shared_bytes=65536, spill_loads=0, spill_stores=0, stack_bytes=0, threads=128
// CHECK: : passed: tile-async-copy: copy (matmul): form=cp_async
// CHECK: : analysis: tile-plan-resources: resources (matmul):
// CHECK: : passed: convert-tile-to-threads: mma (matmul): form=mma.sync.m16n8k16
// CHECK-NOT: spills

// JSON: Used [[REGISTERS:[0-9]+]] registers
// JSON: "registers": [[REGISTERS]],

// PASSES: 01-tile-outline-launches.mlir
// PASSES-NEXT: 02-tile-map-grid.matmul.mlir
// PASSES: {{[0-9]+}}-tile-plan-resources.matmul.mlir
// PASSES: {{[0-9]+}}-convert-tile-to-threads.mlir
// PASSES: {{[0-9]+}}-convert-threads-to-nvvm.mlir
// NEXT: func.func @matmul
// NEXT: nvvm.mma.sync

// FILES: metadata.json
// FILES: optimized.ll
// FILES: passes
// FILES: program.cubin
// FILES: program.ll
// FILES: program.mlir
// FILES: program.ptx
// FILES: ptxas.log
// FILES: report.json
// FILES: report.txt

// NOFOLDER: error: cannot make the dump folder {{.*}}matmul.mlir/x: Not a directory
