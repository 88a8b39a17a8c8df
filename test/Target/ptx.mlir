// RUN: fa-translate --fa-to-ptx --chip=sm_80 %s | FileCheck %s --check-prefixes=CHECK,SM80
// RUN: fa-translate --fa-to-ptx --chip=sm_90a %s | FileCheck %s --check-prefixes=CHECK,SM90
// RUN: fa-translate --fa-to-ptx --chip=sm_75 %s | FileCheck %s --check-prefixes=CHECK,SM75
// RUN: fa-translate --fa-to-ptx --chip=sm_86 %s | FileCheck %s --check-prefixes=CHECK,SM86
// RUN: fa-translate --fa-to-ptx --chip=sm_89 %s | FileCheck %s --check-prefixes=CHECK,SM89
// RUN: not fa-translate --fa-to-ptx %s 2>&1 | FileCheck %s --check-prefix=CPU
// RUN: not fa-translate --fa-to-ptx --chip=sm_72 %s 2>&1 | FileCheck %s --check-prefix=VOLTA
// RUN: not fa-translate --fa-to-ptx --chip=sm_90 %s 2>&1 | FileCheck %s --check-prefix=GENERIC

// CPU: error: the program is lowered for a GPU, not for cpu
// VOLTA: error: chip is 'sm_72' (Volta), which is planned and not supported yet; allowed are cpu, sm_75, sm_80, sm_86, sm_89, sm_90a
// GENERIC: error: chip is 'sm_90', which has no code of its own: its devices run what is compiled for sm_90a; allowed are

// The PTX version is the lowest that the chip's features need, and the launch
// bounds are those of the attributes.
// SM75: .version 6.5
// SM75-NEXT: .target sm_75
// SM86: .version 7.1
// SM86-NEXT: .target sm_86
// SM89: .version 7.8
// SM89-NEXT: .target sm_89
// SM80: .version 7.0
// SM80-NEXT: .target sm_80
// SM90: .version 8.1
// SM90-NEXT: .target sm_90a
// CHECK: .visible .entry kernel(
// CHECK: .maxntid 128
// CHECK-NEXT: .minnctapersm 1

gpu.module @kernels {
  llvm.func @kernel(%p: !llvm.ptr<1>, %p2: !llvm.ptr<1>, %o: i64, %n: i64, %s: i64)
      attributes {gpu.kernel, nvvm.kernel, nvvm.maxntid = array<i32: 128>,
        nvvm.minctasm = 1 : i32,
        tile.args = [memref<?xf32, strided<[?], offset: ?>>],
        tile.launch = {grid = affine_map<()[s0] -> (s0 ceildiv 128)>,
                       grid_symbols = array<i64: 0, 0>, threads = 128 : i64}} {
    %zero = llvm.mlir.constant(0 : i64) : i64
    %one = llvm.mlir.constant(1.0 : f32) : f32
    %two = llvm.mlir.constant(2.0 : f32) : f32
    %tid = nvvm.read.ptx.sreg.tid.x : i32
    %i = llvm.zext %tid : i32 to i64
    %q = llvm.getelementptr %p[%i] : (!llvm.ptr<1>, i64) -> !llvm.ptr<1>, f32
    %r = llvm.getelementptr %p[%s] : (!llvm.ptr<1>, i64) -> !llvm.ptr<1>, f32
    %c = llvm.icmp "sgt" %n, %i : i64
    llvm.cond_br %c, ^a, ^b
  ^a:
    llvm.store volatile %one, %q : f32, !llvm.ptr<1>
    llvm.br ^b
  ^b:
    // Jump threading would give each path its own copy of this barrier, which
    // hangs, if inline asm were not made convergent.
    // CHECK: bar.sync 7;
    // CHECK-NOT: bar.sync 7;
    llvm.inline_asm has_side_effects "bar.sync 7;", "~{memory}" : () -> ()
    llvm.cond_br %c, ^d, ^e
  ^d:
    llvm.store volatile %two, %r : f32, !llvm.ptr<1>
    // f32 subnormals are flushed in kernels.
    // CHECK: mul{{(.rn)?}}.ftz.f32
    %x = llvm.load volatile %q : !llvm.ptr<1> -> f32
    %y = llvm.load volatile %r : !llvm.ptr<1> -> f32
    %z = llvm.fmul %x, %y : f32
    llvm.store volatile %z, %q : f32, !llvm.ptr<1>
    llvm.br ^e
  ^e:
    // CHECK-NOT: bar.sync 7;
    // CHECK: ret;
    // CHECK-NOT: bar.sync 7;
    llvm.return
  }
}
