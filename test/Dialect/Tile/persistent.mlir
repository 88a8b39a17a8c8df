// RUN: %{chain:persistent} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-async-copy,canonicalize,cse,tile-roles,tile-persistent,canonicalize,cse))' | FileCheck %s
// RUN: %{matmul:persistent} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-async-copy,canonicalize,cse,tile-roles,tile-persistent,canonicalize,cse))' | FileCheck %s --check-prefix=PLAIN
// RUN: %{matmul:persistent} | sed 's/= %%c0 to %%steps step/= %%c0 to %%j step/' | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-async-copy,canonicalize,cse,tile-roles,tile-persistent,canonicalize,cse))' | FileCheck %s --check-prefix=SECTIONS
// RUN: %{chain:wgmma} | fa-opt --pass-pipeline='builtin.module(func.func(tile-map-grid,tile-async-copy,canonicalize,cse,tile-roles,tile-persistent))' | FileCheck %s --check-prefix=NONE
// RUN: fa-opt %s -split-input-file -tile-persistent -verify-diagnostics -o /dev/null

// As many blocks as a device has multiprocessors.
// CHECK: #[[$GRID:.*]] = affine_map<()[s0] -> (s0 ceildiv 128)>
// CHECK-LABEL: func.func @chain
// CHECK-SAME: %[[A:[a-z0-9]*]]: memref
// CHECK-SAME: %[[B:[a-z0-9]*]]: memref
// CHECK-SAME: per_multiprocessor = 1 : i64
// CHECK-DAG: %[[ZERO:.*]] = arith.constant 0 : i32
// CHECK-DAG: %[[ONE:.*]] = arith.constant 1 : i32
// CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
// The copies of the next iteration have a slot of their own.
// CHECK: %[[PA:.*]] = tile.pipe : <2, <128x64xf16
// CHECK: %[[P1:.*]] = tile.pipe : <2, <64x64xf16
// CHECK: %[[P2:.*]] = tile.pipe : <2, <64x64xf16
// CHECK: tile.roles
// What no iteration changes is before the loop.
// CHECK: %[[EXTENT:.*]] = affine.apply #[[$GRID]]()
// CHECK: %[[ITEMS:.*]] = arith.index_cast %[[EXTENT]]
// CHECK: %[[TRIPS:.*]] = arith.maxsi %{{.*}}, %[[C0]]
// CHECK: %[[ID:.*]] = gpu.block_id x
// CHECK: %[[BLOCK:.*]] = arith.index_cast %[[ID]]
// CHECK: %[[DIM:.*]] = gpu.grid_dim x
// CHECK: %[[BLOCKS:.*]] = arith.index_cast %[[DIM]]
// One round after another.
// CHECK: scf.for %[[ROUND:.*]] = %[[ZERO]] to %{{.*}} step %[[ONE]] iter_args(%[[ONCE:.*]] = %[[ZERO]], %[[OFTEN:.*]] = %[[ZERO]]) -> (i32, i32)
// CHECK: %[[BEFORE:.*]] = arith.muli %[[ROUND]], %[[BLOCKS]]
// CHECK: %[[PLACE:.*]] = arith.addi %[[BEFORE]], %[[BLOCK]]
// CHECK: %[[EXISTS:.*]] = arith.cmpi ult, %[[PLACE]], %[[ITEMS]]
// CHECK: %[[N:.*]]:2 = scf.if %[[EXISTS]]
// The numbers of the fills go on.
// CHECK: %[[FILL:.*]] = arith.index_castui %[[ONCE]] : i32 to index
// CHECK: tile.produce %[[PA]][%[[FILL]]], %[[A]]
// CHECK: scf.for %[[I:.*]] = %[[C0]] to %{{.*}} step
// CHECK: %[[I32:.*]] = arith.index_cast %[[I]] : index to i32
// CHECK: %[[SUM:.*]] = arith.addi %[[OFTEN]], %[[I32]]
// CHECK: %[[FILLS:.*]] = arith.index_castui %[[SUM]] : i32 to index
// CHECK: tile.produce %[[PB:.*]][%[[FILLS]]], %[[B]]
// CHECK: tile.produce %[[PC:.*]][%[[FILLS]]]
// CHECK: }
// CHECK: %[[ONCE2:.*]] = arith.addi %[[ONCE]], %[[ONE]]
// CHECK: %[[TRIPS32:.*]] = arith.index_cast %[[TRIPS]]
// CHECK: %[[OFTEN2:.*]] = arith.addi %[[OFTEN]], %[[TRIPS32]]
// CHECK: scf.yield %[[ONCE2]], %[[OFTEN2]]
// CHECK: } else {
// CHECK: scf.yield %[[ONCE]], %[[OFTEN]]
// CHECK: scf.yield %[[N]]#0, %[[N]]#1
// The other role counts the same.
// CHECK: }, {
// CHECK: scf.for %{{.*}} = %[[ZERO]] to %{{.*}} iter_args(%[[ONCE:.*]] = %[[ZERO]], %[[OFTEN:.*]] = %[[ZERO]])
// CHECK: scf.if
// CHECK: %[[FILL:.*]] = arith.index_castui %[[ONCE]]
// CHECK: tile.consume %[[PA]][%[[FILL]]]
// CHECK: scf.for %[[I:.*]] = %[[C0]] to %{{.*}} step
// CHECK: %[[I32:.*]] = arith.index_cast %[[I]]
// CHECK: %[[SUM:.*]] = arith.addi %[[OFTEN]], %[[I32]]
// CHECK: %[[FILLS:.*]] = arith.index_castui %[[SUM]]
// CHECK: tile.consume %[[PB]][%[[FILLS]]]
// CHECK: tile.release %[[PB]][%[[FILLS]]]
// CHECK: tile.consume %[[PC]][%[[FILLS]]]
// CHECK: tile.release %[[PC]][%[[FILLS]]]
// CHECK: tile.release %[[PA]][%[[FILL]]]
// CHECK: tile.store

// No pipe has one slot.
// PLAIN-LABEL: func.func @matmul
// PLAIN: tile.roles
// PLAIN: %[[ROWS:.*]] = arith.muli
// PLAIN: %[[SUM:.*]] = arith.addi %[[ROWS]], %{{.*}} : i32
// PLAIN: %[[MOST:.*]] = arith.subi %[[SUM]], %{{.*}} : i32
// PLAIN: %[[ROUNDS:.*]] = arith.divui %[[MOST]], %{{.*}} : i32
// PLAIN: scf.for %[[ROUND:.*]] = %{{.*}} to %[[ROUNDS]] step %{{.*}} iter_args(%{{[a-z0-9]*}} = %{{[a-z0-9_]*}}) -> (i32)
// PLAIN: }, {

// Loops as long as the block decides: sections of two rounds, back and forth.
// SECTIONS-LABEL: func.func @matmul
// SECTIONS: tile.roles
// SECTIONS: %[[ID:.*]] = gpu.block_id x
// SECTIONS: %[[BLOCK:.*]] = arith.index_cast %[[ID]]
// SECTIONS: %[[DIM:.*]] = gpu.grid_dim x
// SECTIONS: %[[BLOCKS:.*]] = arith.index_cast %[[DIM]]
// SECTIONS: %[[TWO:.*]] = arith.muli %[[BLOCKS]], %c2_i32
// SECTIONS: arith.divui %[[TWO]], %c2_i32
// SECTIONS: %[[SECTIONS:.*]] = arith.maxui
// SECTIONS: %[[SIZE:.*]] = arith.divui %{{.*}}, %[[SECTIONS]]
// SECTIONS: %[[LENGTH:.*]] = arith.muli %[[SIZE]], %{{.*}} : i32
// SECTIONS: %[[PER:.*]] = arith.divui %{{.*}}, %[[BLOCKS]]
// SECTIONS: %[[PLACES:.*]] = arith.muli %[[PER]], %[[BLOCKS]]
// SECTIONS: %[[EMPTY:.*]] = arith.subi %[[PLACES]], %[[LENGTH]]
// SECTIONS: scf.for %[[ROUND:.*]] = %{{.*}} iter_args
// Each section moves on by the places that the last one left empty.
// SECTIONS: %[[SECTION:.*]] = arith.divui %[[ROUND]], %[[PER]]
// SECTIONS: %[[MOVED:.*]] = arith.muli %[[SECTION]], %[[EMPTY]]
// SECTIONS: %[[SUM:.*]] = arith.addi %[[BLOCK]], %[[MOVED]]
// SECTIONS: %[[FORTH:.*]] = arith.remui %[[SUM]], %[[BLOCKS]]
// SECTIONS: %[[LAST:.*]] = arith.subi %[[BLOCKS]], %c1_i32
// SECTIONS: %[[BACK:.*]] = arith.subi %[[LAST]], %[[FORTH]]
// SECTIONS: %[[ODD:.*]] = arith.trunci %[[ROUND]] : i32 to i1
// SECTIONS: arith.select %[[ODD]], %[[BACK]], %[[FORTH]]
// SECTIONS: %[[STEP:.*]] = arith.cmpi ult
// SECTIONS: %[[OUTER:.*]] = arith.cmpi ult
// SECTIONS: %[[EXISTS:.*]] = arith.andi
// SECTIONS: scf.if %[[EXISTS]]

// NONE-NOT: gpu.grid_dim

#plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4,
                   producers = 4, stages = 2, persistent = true>
!slot = !tile.buffer<64x64xf16, swizzle = 128>

// expected-error @below {{has no 'tile.launch' attribute; run tile-map-grid before tile-persistent}}
func.func @no_launch(%m: memref<?x64xf16>) attributes {tile.plan = #plan} {
  %c0 = arith.constant 0 : index
  %p = tile.pipe : !tile.pipe<2, !slot>
  tile.roles warps [4, 4] registers [0, 0] {
    tile.produce %p[%c0], %m[%c0, %c0] : !tile.pipe<2, !slot>, memref<?x64xf16>
  }, {
    %b = tile.consume %p[%c0] : !tile.pipe<2, !slot> -> !slot
    tile.release %p[%c0] : !tile.pipe<2, !slot>
  }
  return
}

// -----

#plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4,
                   producers = 4, stages = 2, persistent = true>
#launch = {grid = affine_map<()[s0] -> (s0)>, grid_symbols = array<i64: 0, 0>}
!slot = !tile.buffer<64x64xf16, swizzle = 128>

func.func @nested(%m: memref<?x64xf16>, %n: index)
    attributes {tile.plan = #plan, tile.launch = #launch} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %p = tile.pipe : !tile.pipe<2, !slot>
  tile.roles warps [4, 4] registers [0, 0] {
    scf.for %i = %c0 to %n step %c1 {
      scf.for %j = %c0 to %i step %c1 {
        // expected-error @below {{is neither at the top level of its role nor in a loop of step 1 there, so that its fills cannot be counted: use a plan that is not persistent}}
        tile.produce %p[%j], %m[%j, %c0] : !tile.pipe<2, !slot>, memref<?x64xf16>
      }
    }
  }, {
    %b = tile.consume %p[%c0] : !tile.pipe<2, !slot> -> !slot
    tile.release %p[%c0] : !tile.pipe<2, !slot>
  }
  return
}

// -----

#plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4,
                   producers = 4, stages = 2, persistent = true>
#launch = {grid = affine_map<()[s0] -> (s0)>, grid_symbols = array<i64: 0, 0>}
!slot = !tile.buffer<64x64xf16, swizzle = 128>

func.func @unknown_count(%m: memref<?x64xf16>, %more: i1)
    attributes {tile.plan = #plan, tile.launch = #launch} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %p = tile.pipe : !tile.pipe<2, !slot>
  tile.roles warps [4, 4] registers [0, 0] {
    // expected-error @below {{decides how many copies there are, which warps that do not copy cannot know: use a plan that is not persistent}}
    %n = scf.if %more -> (index) {
      scf.yield %c1 : index
    } else {
      scf.yield %c0 : index
    }
    scf.for %i = %c0 to %n step %c1 {
      tile.produce %p[%i], %m[%i, %c0] : !tile.pipe<2, !slot>, memref<?x64xf16>
    }
  }, {
    %b = tile.consume %p[%c0] : !tile.pipe<2, !slot> -> !slot
    tile.release %p[%c0] : !tile.pipe<2, !slot>
  }
  return
}

// -----

#plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4,
                   producers = 4, stages = 2, persistent = true>

// Nothing to copy ahead.
func.func @no_roles(%m: memref<?xf32>) attributes {tile.plan = #plan} {
  return
}
