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

def ConvertTileToThreads : Pass<"convert-tile-to-threads", "::mlir::ModuleOp"> {
  let summary = "Distribute a tile program to the threads of a block";
  let description = [{
    Every tile becomes the registers that its layout gives one thread, one
    scalar each; elementwise operations are repeated per register, reductions
    combine registers and then lanes, products become `mma.sync` or `wgmma`
    instructions on fragments and shared buffers, fills become asynchronous
    copies with their waits, roles become branches on the warp number. After
    this pass no tile type is left. A loop in a branch of another loop is taken
    to be cold: `llvm.loop_annotation` keeps LLVM from hoisting out of it.

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
                           "::mlir::math::MathDialect",
                           "::mlir::memref::MemRefDialect",
                           "::mlir::NVVM::NVVMDialect", "::mlir::scf::SCFDialect",
                           "::mlir::vector::VectorDialect"];
}

def ConvertThreadsToNVVM : Pass<"convert-threads-to-nvvm", "::mlir::ModuleOp"> {
  let summary = "Turn thread programs into kernels of the LLVM dialect";
  let description = [{
    Each function with `tile.launch` moves into a `gpu.module` as an `llvm.func`
    with `nvvm.kernel`; its body is converted to the LLVM and NVVM dialects with
    the approximations that the GPU computes natively (`ex2`, `lg2`, `rcp`);
    f32 division is `div.full`, two ulps.

    Input:
    ```mlir
    %y = arith.divf %x, %c : f32
    ```
    Output:
    ```mlir
    %y = llvm.call_intrinsic "llvm.nvvm.div.full.ftz"(%x, %c) : (f32, f32) -> f32
    ```
  }];
  let dependentDialects = ["::mlir::cf::ControlFlowDialect",
                           "::mlir::gpu::GPUDialect",
                           "::mlir::LLVM::LLVMDialect",
                           "::mlir::NVVM::NVVMDialect"];
}

//===----------------------------------------------------------------------===//
// CPU
//===----------------------------------------------------------------------===//

def ConvertTileToVector : Pass<"convert-tile-to-vector", "func::FuncOp"> {
  let summary = "lower a tile program to loops over vectors and scratch memory";
  let description = [{
    Every tile becomes a scratch buffer (on the stack, or the heap if there are
    more than 1 MB of them; allocated once per call), or never exists: chains of elementwise operations, broadcasts
    and reductions are fused into few loop nests that keep row statistics in
    vector registers. A `tile.contract` becomes register-blocked loops: the
    accumulators of `rows` rows and `vectors` vectors stay in registers over the
    whole reduced dimension.

    With `dot-bf16`, contractions of bf16 tiles into f32 are dots of pairs along
    the reduced dimension. A factor of which that dimension is the rows is kept
    with two rows interleaved: loads copy it so, elementwise operations of which
    nothing else needs the result write it so.

    With `amx-bf16`, too, those whose rows and lanes are multiples of 16 and whose
    reduced dimension is one of 32 are products of AMX's tile registers, in blocks of
    32 rows and 32 lanes. The function then sets the shapes of these registers
    where it begins and releases them where it ends; the process must have asked
    Linux for them.

    Vectors run along the last dimension of a tile; `tile-orient-for-vectors`
    makes that a good choice. `vector-bits`, `registers` describe the host.

    A `scf.if` whose condition needs a `tile.nonfinite` is taken rarely: tiles
    that both it and the code before it read are computed again in it instead of
    being stored each time.

    Input:
    ```mlir
    %t = tile.load %m[%i, %c0] : memref<?x?xf32> -> tensor<16x16xf32>
    %r = tile.reduce max %t dim 0 : tensor<16x16xf32> -> tensor<16xf32>
    tile.store %r, %o[%i] : tensor<16xf32>, memref<?xf32>
    ```
    Output (abridged):
    ```mlir
    scf.for %c = %c0 to %c16 step %c16 {
      %r = scf.for %r = %c0 to %c16 step %c1 iter_args(%max = %ninf) -> (vector<16xf32>) {
        %v = vector.load %scratch[%r, %c] : memref<16x16xf32>, vector<16xf32>
        %n = arith.maxnumf %max, %v : vector<16xf32>
        scf.yield %n : vector<16xf32>
      }
      vector.store %r, %result[%c] : memref<16xf32>, vector<16xf32>
    }
    ```
  }];
  let options = [
    Option<"vectorBits", "vector-bits", "int64_t", "256",
           "width of the host's vector registers">,
    Option<"registers", "registers", "int64_t", "16",
           "number of the host's vector registers">,
    Option<"dotBF16", "dot-bf16", "bool", "false",
           "the host multiplies pairs of bf16 (AVX512-BF16)">,
    Option<"amxBF16", "amx-bf16", "bool", "false",
           "the host multiplies matrices of bf16 (AMX, beside AVX512-BF16)">
  ];
  let dependentDialects = ["arith::ArithDialect", "memref::MemRefDialect",
    "scf::SCFDialect", "vector::VectorDialect", "math::MathDialect",
    "LLVM::LLVMDialect"];
}

def ConvertForallToRange : Pass<"convert-forall-to-range", "func::FuncOp"> {
  let summary = "make the grid loop an entry point over a range of grid points";
  let description = [{
    A function with one `scf.forall` becomes `NAME(words, begin, end)`: `words`
    points to the arguments as 8-byte words in the order of MLIR's flattened
    descriptors; the grid points begin to end - 1 of the row-major linearised
    grid are run. `tile.args` and `tile.launch` say how to call it.

    Input:
    ```mlir
    func.func @f(%m: memref<?xf32>) {
      scf.forall (%i) in (%n) { ... }
    }
    ```
    Output:
    ```mlir
    func.func @f(%words: !llvm.ptr, %begin: i64, %end: i64)
        attributes {tile.args = [memref<?xf32>], tile.launch = {...}} {
      // %m is rebuilt from %words
      scf.for %p = %begin to %end step %c1 { ... }
    }
    ```
  }];
  let dependentDialects = ["LLVM::LLVMDialect", "scf::SCFDialect",
    "arith::ArithDialect"];
}

def ConvertMathToPolynomial : Pass<"convert-math-to-polynomial"> {
  let summary = "expand transcendental functions of vectors in place";
  let description = [{
    `math.exp2` of f32 and f64 becomes a polynomial with about one ulp of error
    (results below the smallest normal number are 0); exp, log, log2, tanh, erf,
    sin, cos of f32 use MLIR's approximations. What remains is called from the
    C library one element at a time.

    Input:
    ```mlir
    %y = math.exp2 %x : vector<8xf32>
    ```
    Output: a clamp, a rounding, a polynomial of degree 6 and a scaling, all
    vector arithmetic.
  }];
  let dependentDialects = ["arith::ArithDialect", "vector::VectorDialect",
    "math::MathDialect"];
}

#endif // FA_CONVERSION_PASSES
