// The compiler in LLVM's own mlir-opt. The plugin defines no symbol but its two
// entry points, and needs neither libMLIR nor libLLVM of its own.

// RUN: llvm-nm -D --defined-only --format=just-symbols %{plugin} | sort | FileCheck %s --check-prefix=SYMBOLS
// RUN: llvm-readelf -d %{plugin} | FileCheck %s --check-prefix=NEEDED
// SYMBOLS: mlirGetDialectPluginInfo
// SYMBOLS-NEXT: mlirGetPassPluginInfo
// SYMBOLS-NOT: {{.}}
// NEEDED-NOT: NEEDED{{.*}}lib{{MLIR|LLVM}}

// RUN: mlir-opt --load-dialect-plugin=%{plugin} %s | FileCheck %s --check-prefix=ROUND
// ROUND: fa.attention ins(%{{.*}}) scale(%{{.*}}) mask <#{{.*}}> outs(

// RUN: mlir-opt --load-dialect-plugin=%{plugin} --load-pass-plugin=%{plugin} %s \
// RUN:   --pass-pipeline='builtin.module(fa-lower-to-nvvm{chip=sm_80})' | FileCheck %s --check-prefix=GPU
// GPU: gpu.module
// GPU: llvm.func @causal({{.*}}nvvm.kernel
// GPU: nvvm.mma.sync

// A pass of the project between passes of MLIR; the result of both is MLIR's linalg.
// RUN: mlir-opt --load-dialect-plugin=%{plugin} --load-pass-plugin=%{plugin} %s \
// RUN:   --pass-pipeline='builtin.module(canonicalize,func.func(fa-decompose),cse)' | FileCheck %s --check-prefix=CPU
// CPU-NOT: fa.attention
// CPU: linalg.generic

!operand = memref<?x?x?x64xf16, strided<[?, ?, ?, 1], offset: ?>>
!lse = memref<?x?x?xf32, strided<[?, ?, 1], offset: ?>>
#maps = [affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>]
#set = affine_set<(b,h,m,n)[lq,lk] : (m + lk - lq - n >= 0)>
func.func @causal(%q: !operand, %k: !operand, %v: !operand, %scale: f32, %o: !operand, %lse: !lse) {
  fa.attention ins(%q, %k, %v : !operand, !operand, !operand) scale(%scale : f32)
    mask #fa.mask<#set> outs(%o, %lse : !operand, !lse) {indexing_maps = #maps}
  return
}
