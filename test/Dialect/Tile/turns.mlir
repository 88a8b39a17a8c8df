// RUN: %{chain:turns} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-orient-for-products,tile-async-copy,tile-stage,canonicalize,cse,tile-roles,tile-delay-products,canonicalize,cse,tile-assign-layouts,tile-async-products,tile-turns))' | FileCheck %s
// RUN: %{chain:overlap} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-orient-for-products,tile-async-copy,tile-stage,canonicalize,cse,tile-roles,tile-delay-products,canonicalize,cse,tile-assign-layouts,tile-async-products,tile-turns))' | FileCheck %s --check-prefix=NONE
// RUN: %{chain:turns} | fa-translate --fa-to-ptx --chip=sm_90a | FileCheck %s --check-prefix=PTX
// RUN: fa-opt %s --pass-pipeline='builtin.module(func.func(tile-turns))' --remarks-filter='.*' 2>&1 | FileCheck %s --check-prefix=UNEQUAL

// In the loop, both products of a team start in one turn; the first of them all, before
// it, and the last behind it in none. Copies take no turns.
// CHECK-LABEL: func.func @chain(
// CHECK: tile.roles
// CHECK-NOT: _turn
// CHECK: }, {
// CHECK-NEXT: tile.pass_turn first
// CHECK: tile.contract async
// CHECK: tile.await
// CHECK: scf.for
// CHECK: tile.take_turn
// CHECK-NEXT: tile.contract async
// CHECK-NOT: tile.await
// CHECK: tile.contract async
// CHECK-NEXT: tile.pass_turn
// CHECK-NEXT: tile.await {{.*}} {younger = 1 : i64}
// CHECK: scf.yield
// CHECK-NOT: _turn

// NONE-NOT: _turn

// The last team begins; then a team waits at its barrier, with the 128 threads of the one
// before.
// PTX: bar.arrive 1, 256
// PTX: bar.sync %r{{[0-9]+}}, 256
// PTX: wgmma.mma_async
// PTX: wgmma.mma_async
// PTX: bar.arrive %r{{[0-9]+}}, 256
// PTX: wgmma.wait_group.sync.aligned 1

#mk = affine_map<(m, n, k) -> (m, k)>
#nk = affine_map<(m, n, k) -> (n, k)>
#mn = affine_map<(m, n, k) -> (m, n)>
#plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2, overlap = true, turns = true>
!b = !tile.buffer<128x64xf16, swizzle = 128>

// A team whose rows end earlier would leave the other waiting.
// UNEQUAL: remark: [Missed] turns | Category:tile-turns | {{.*}}Reason="teams of warps run the loop unequally often"
// UNEQUAL-LABEL: func.func @unequal(
// UNEQUAL-NOT: _turn
// UNEQUAL: return
func.func @unequal(%p: !tile.pipe<1, !b>, %n: index) attributes {tile.plan = #plan} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  tile.roles warps [4, 8] registers [0, 0] {
    %c2 = arith.constant 2 : index
  }, {
    %zero = arith.constant dense<0.0> : tensor<128x128xf32>
    %a = tile.consume %p[%c0] : <1, !b> -> !b
    %first, %count = tile.rows_held 128
    %end = arith.minsi %n, %first : index
    scf.for %i = %c0 to %end step %c1 {
      %x = tile.contract async %a, %a, %zero {maps = [#mk, #nk, #mn]} : !b, !b, tensor<128x128xf32>
      %y = tile.await %x {younger = 0 : i64} : tensor<128x128xf32>
    }
  }
  return
}
