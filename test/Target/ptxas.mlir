// REQUIRES: ptxas
// RUN: fa-translate --fa-to-ptxas-log --chip=sm_80 %s | FileCheck %s
// RUN: fa-translate --fa-to-metadata --chip=sm_80 %s | FileCheck %s --check-prefix=META

// What ptxas says on success is kept: registers, spills and advice.
// CHECK: Compiling entry function 'kernel' for 'sm_80'
// CHECK: 0 bytes spill stores
// CHECK: Used {{[0-9]+}} registers

// META-DAG: "chip": "sm_80"
// META-DAG: "entry": "kernel"
// META-DAG: "s0 128 ceildiv s1 *"
// META-DAG: "shared_bytes": 1024
// META-DAG: "threads": 32
gpu.module @kernels {
  llvm.func @kernel(%p: !llvm.ptr<1>, %p2: !llvm.ptr<1>, %o: i64, %n: i64, %s: i64, %x: i64)
      attributes {gpu.kernel, nvvm.kernel, nvvm.maxntid = array<i32: 32>,
        tile.args = [memref<?xf32, strided<[?], offset: ?>>, index],
        tile.launch = {grid = affine_map<()[s0, s1] -> ((s0 ceildiv 128) * s1)>,
                       grid_symbols = array<i64: 0, 0, 1, -1>,
                       threads = 32 : i64, shared_bytes = 1024 : i64}} {
    %one = llvm.mlir.constant(1.0 : f32) : f32
    llvm.store %one, %p : f32, !llvm.ptr<1>
    llvm.return
  }
}
