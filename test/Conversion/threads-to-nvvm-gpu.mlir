// RUN: fa-opt %s --convert-threads-to-nvvm | FileCheck %s

// Division of f32 is the approximation with two ulps; of f64, the correct one.
// CHECK-LABEL: llvm.func @divide(
// CHECK-SAME: %[[X:.*]]: f32, %[[C:.*]]: f32, %[[Y:.*]]: f64)
// CHECK: %[[Q:.*]] = llvm.call_intrinsic "llvm.nvvm.div.full.ftz"(%[[X]], %[[C]]) : (f32, f32) -> f32
// CHECK: %[[D:.*]] = llvm.fdiv %[[Y]], %[[Y]] : f64
// CHECK-NOT: llvm.fdiv
// CHECK: llvm.return
func.func @divide(%x: f32, %c: f32, %y: f64) -> (f32, f64) {
  %q = arith.divf %x, %c : f32
  %d = arith.divf %y, %y : f64
  return %q, %d : f32, f64
}

// What a loop says of itself is on the branch back, where LLVM looks for it; a
// branch without it gets nothing.
// CHECK-LABEL: llvm.func @loop(
// CHECK: llvm.br ^[[HEAD:bb[0-9]+]](%{{[^)]*}}){{$}}
// CHECK: ^[[HEAD]](
// CHECK: llvm.br ^[[HEAD]](%{{[^)]*}}) {loop_annotation = #{{.*}}}
func.func @loop(%n: i32) {
  %zero = arith.constant 0 : i32
  %one = arith.constant 1 : i32
  cf.br ^head(%zero : i32)
^head(%i: i32):
  %more = arith.cmpi slt, %i, %n : i32
  cf.cond_br %more, ^body, ^end
^body:
  %next = arith.addi %i, %one : i32
  cf.br ^head(%next : i32) {llvm.loop_annotation = #llvm.loop_annotation<licm = <disable = true>>}
^end:
  return
}
