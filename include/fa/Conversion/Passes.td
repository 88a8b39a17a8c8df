//===- Passes.td - Conversions to the host and to the GPU --*- tablegen -*-===//

#ifndef FA_CONVERSION_PASSES
#define FA_CONVERSION_PASSES

include "mlir/Pass/PassBase.td"

//===----------------------------------------------------------------------===//
// Meaning
//===----------------------------------------------------------------------===//

def ConvertTileToLinalg : Pass<"convert-tile-to-linalg", "::mlir::func::FuncOp"> {
  let summary = "The executable meaning of L1 tile programs, as linalg";
  let description = [{
    Replaces each operation of the tile dialect by loops over single elements.
    Nothing is fused or vectorised: tests compare with it. Elementwise
    operations stay; `convert-elementwise-to-linalg` takes them.

    Input:
    ```mlir
    %r = tile.reduce max %s dim 1 : tensor<128x64xf32> -> tensor<128xf32>
    ```
    Output:
    ```mlir
    %r = linalg.generic {... iterator_types = ["parallel", "reduction"]}
        ins(%s : tensor<128x64xf32>) outs(%init : tensor<128xf32>) {
    ^bb0(%x: f32, %old: f32):
      %new = arith.maxnumf %old, %x : f32
      linalg.yield %new : f32
    }
    ```
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect",
      "::mlir::linalg::LinalgDialect", "::mlir::memref::MemRefDialect",
      "::mlir::scf::SCFDialect", "::mlir::tensor::TensorDialect"];
}

//===----------------------------------------------------------------------===//
// GPU
//===----------------------------------------------------------------------===//

def ConvertTileToThreads : Pass<"convert-tile-to-threads", "::mlir::func::FuncOp"> {
  let summary = "Distribute a tile program to the threads of a block";
  let description = [{
    Every tile becomes the registers that its layout gives one thread, one
    scalar each; elementwise operations are repeated per register, reductions
    combine registers and then lanes, products become `mma.sync` or `wgmma`
    instructions on fragments and shared buffers, fills become asynchronous
    copies with their waits, roles become branches on the warp number. After
    this pass no tile type is left.

    Input:
    ```mlir
    %y = arith.mulf %x, %x : tensor<64x8xf32, #tile.frag<reg = [2:1:1, 2:0:8], ...>>
    ```
    Output:
    ```mlir
    %y0 = arith.mulf %x0, %x0 : f32
    %y1 = arith.mulf %x1, %x1 : f32
    %y2 = arith.mulf %x2, %x2 : f32
    %y3 = arith.mulf %x3, %x3 : f32
    ```
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect",
                           "::mlir::gpu::GPUDialect", "::mlir::LLVM::LLVMDialect",
                           "::mlir::memref::MemRefDialect",
                           "::mlir::NVVM::NVVMDialect", "::mlir::scf::SCFDialect",
                           "::mlir::vector::VectorDialect"];
}

def ConvertThreadsToNVVM : Pass<"convert-threads-to-nvvm", "::mlir::ModuleOp"> {
  let summary = "Turn thread programs into kernels of the LLVM dialect";
  let description = [{
    Each function with `tile.launch` moves into a `gpu.module` as an `llvm.func`
    with `nvvm.kernel`; its body is converted to the LLVM and NVVM dialects with
    the approximations that the GPU computes natively (`ex2`, `lg2`, `rcp`).
  }];
  let dependentDialects = ["::mlir::cf::ControlFlowDialect",
                           "::mlir::gpu::GPUDialect",
                           "::mlir::LLVM::LLVMDialect",
                           "::mlir::NVVM::NVVMDialect"];
}

#endif // FA_CONVERSION_PASSES
