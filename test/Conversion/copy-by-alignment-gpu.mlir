// RUN: fa-opt %s --split-input-file --verify-diagnostics --pass-pipeline='builtin.module(convert-tile-to-threads,canonicalize,cse)' | FileCheck %s

// The width of copies, asynchronous or through registers, follows from the
// alignment that is promised of the argument; the plan says the same in all of
// them.

#plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 1, producers = 0, stages = 1>
!pipe = !tile.pipe<1, !tile.buffer<8x32xf16, swizzle = 64>>
!rows = memref<?x32xf16, strided<[?, 1], offset: ?>>

// 8 rows of 4 chunks, one for each lane, in one copy; a row outside is zeros.
// CHECK-LABEL: func.func @bytes16
// CHECK: %[[IN:.*]] = arith.cmpi sgt
// CHECK: %[[SIZE:.*]] = arith.select %[[IN]], %c16, %c0
// CHECK: %[[BYTES:.*]] = arith.index_cast %[[SIZE]] : index to i32
// CHECK: nvvm.cp.async.shared.global %[[DEST:.*]], %[[SRC:.*]], 16, cache = cg, %[[BYTES]]
// CHECK-NOT: nvvm.cp.async.shared.global
// CHECK: nvvm.cp.async.commit.group
func.func @bytes16(%m: !rows {tile.align = 16 : i64}) attributes {tile.plan = #plan, tile.launch = {}, tile.shared_bytes = 1024 : i64} {
  %c0 = arith.constant 0 : index
  %p = tile.pipe {offset = 0 : i64} : !pipe
  tile.produce %p[%c0], %m[%c0, %c0] : !pipe, !rows
  return
}

// -----

#plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 1, producers = 0, stages = 1>
!pipe = !tile.pipe<1, !tile.buffer<8x32xf16, swizzle = 64>>
!rows = memref<?x32xf16, strided<[?, 1], offset: ?>>

// Four bytes: four copies from and to consecutive places, one group.
// CHECK-LABEL: func.func @bytes4
// CHECK: %[[IN:.*]] = arith.cmpi sgt
// CHECK: %[[SIZE:.*]] = arith.select %[[IN]], %c4, %c0
// CHECK: %[[BYTES:.*]] = arith.index_cast %[[SIZE]] : index to i32
// CHECK: nvvm.cp.async.shared.global %[[DEST:.*]], %[[SRC:.*]], 4, cache = ca, %[[BYTES]]
// CHECK: %[[DEST4:.*]] = llvm.getelementptr %[[DEST]][4]
// CHECK: %[[SRC4:.*]] = llvm.getelementptr %[[SRC]][4]
// CHECK: nvvm.cp.async.shared.global %[[DEST4]], %[[SRC4]], 4, cache = ca, %[[BYTES]]
// CHECK: %[[DEST8:.*]] = llvm.getelementptr %[[DEST]][8]
// CHECK: %[[SRC8:.*]] = llvm.getelementptr %[[SRC]][8]
// CHECK: nvvm.cp.async.shared.global %[[DEST8]], %[[SRC8]], 4, cache = ca, %[[BYTES]]
// CHECK: %[[DEST12:.*]] = llvm.getelementptr %[[DEST]][12]
// CHECK: %[[SRC12:.*]] = llvm.getelementptr %[[SRC]][12]
// CHECK: nvvm.cp.async.shared.global %[[DEST12]], %[[SRC12]], 4, cache = ca, %[[BYTES]]
// CHECK-NOT: nvvm.cp.async.shared.global
// CHECK: nvvm.cp.async.commit.group
func.func @bytes4(%m: !rows {tile.align = 4 : i64}) attributes {tile.plan = #plan, tile.launch = {}, tile.shared_bytes = 1024 : i64} {
  %c0 = arith.constant 0 : index
  %p = tile.pipe {offset = 0 : i64} : !pipe
  tile.produce %p[%c0], %m[%c0, %c0] : !pipe, !rows
  return
}

// -----

#plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 1, producers = 0, stages = 1>
!pipe = !tile.pipe<1, !tile.buffer<8x32xf16, swizzle = 64>>
!rows = memref<?x32xf16, strided<[?, 1], offset: ?>>

// CHECK-LABEL: func.func @bytes8
// CHECK-COUNT-2: nvvm.cp.async.shared.global %{{.*}}, %{{.*}}, 8, cache = ca
// CHECK-NOT: nvvm.cp.async.shared.global
func.func @bytes8(%m: !rows {tile.align = 8 : i64}) attributes {tile.plan = #plan, tile.launch = {}, tile.shared_bytes = 1024 : i64} {
  %c0 = arith.constant 0 : index
  %p = tile.pipe {offset = 0 : i64} : !pipe
  tile.produce %p[%c0], %m[%c0, %c0] : !pipe, !rows
  return
}

// -----

#plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 1, producers = 0, stages = 1>
!pipe = !tile.pipe<1, !tile.buffer<8x32xf16, swizzle = 64>>
!rows = memref<?x27xf16, strided<[?, 1], offset: ?>>

// 27 of 32 columns: a copy of an odd tail reads 2 of its 4 bytes, one beyond
// the tail none; the rest becomes zero.
// CHECK-LABEL: func.func @tail
// CHECK: %[[IN:.*]] = arith.cmpi sgt
// CHECK: %[[LEFT:.*]] = arith.subi %c27, %[[COL:.*]] : index
// CHECK: %[[LOW0:.*]] = arith.maxsi %[[LEFT]], %c0
// CHECK: %[[COUNT0:.*]] = arith.minsi %[[LOW0]], %c2
// CHECK: %[[BYTES0:.*]] = arith.shli %[[COUNT0]], %c1
// CHECK: %[[SIZE0:.*]] = arith.select %[[IN]], %[[BYTES0]], %c0
// CHECK: %[[I0:.*]] = arith.index_cast %[[SIZE0]] : index to i32
// CHECK: nvvm.cp.async.shared.global %{{.*}}, %{{.*}}, 4, cache = ca, %[[I0]]
// CHECK: %[[LEFT2:.*]] = arith.subi %c25, %[[COL]]
// CHECK: %[[LOW2:.*]] = arith.maxsi %[[LEFT2]], %c0
// CHECK: %[[COUNT2:.*]] = arith.minsi %[[LOW2]], %c2
// CHECK: %[[BYTES2:.*]] = arith.shli %[[COUNT2]], %c1
// CHECK: %[[SIZE2:.*]] = arith.select %[[IN]], %[[BYTES2]], %c0
// CHECK: %[[I2:.*]] = arith.index_cast %[[SIZE2]] : index to i32
// CHECK: nvvm.cp.async.shared.global %{{.*}}, %{{.*}}, 4, cache = ca, %[[I2]]
// CHECK-COUNT-2: nvvm.cp.async.shared.global %{{.*}}, %{{.*}}, 4, cache = ca
// CHECK-NOT: nvvm.cp.async.shared.global
func.func @tail(%m: !rows {tile.align = 4 : i64}) attributes {tile.plan = #plan, tile.launch = {}, tile.shared_bytes = 1024 : i64} {
  %c0 = arith.constant 0 : index
  %p = tile.pipe {offset = 0 : i64} : !pipe
  tile.produce %p[%c0], %m[%c0, %c0] : !pipe, !rows
  return
}

// -----

#plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 1, producers = 0, stages = 1>
!pipe = !tile.pipe<1, !tile.buffer<8x32xf16, swizzle = 64>>
!view = memref<?x32xf16, strided<[?, 1], offset: ?>>

// Columns from 2 on: 16 bytes of alignment become 4.
// CHECK-LABEL: func.func @view
// CHECK-COUNT-4: nvvm.cp.async.shared.global %{{.*}}, %{{.*}}, 4, cache = ca
func.func @view(%m: memref<?x64xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64}, %n: index) attributes {tile.plan = #plan, tile.launch = {}, tile.shared_bytes = 1024 : i64} {
  %c0 = arith.constant 0 : index
  %v = memref.subview %m[0, 2] [%n, 32] [1, 1] : memref<?x64xf16, strided<[?, 1], offset: ?>> to !view
  %p = tile.pipe {offset = 0 : i64} : !pipe
  tile.produce %p[%c0], %v[%c0, %c0] : !pipe, !view
  return
}

// -----

#plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 1, producers = 0, stages = 1>
!pipe = !tile.pipe<1, !tile.buffer<8x32xf16, swizzle = 64>>
!rows = memref<?x32xf16, strided<[?, 1], offset: ?>>

func.func @bytes2(%m: !rows) attributes {tile.plan = #plan, tile.launch = {}, tile.shared_bytes = 1024 : i64} {
  %c0 = arith.constant 0 : index
  %p = tile.pipe {offset = 0 : i64} : !pipe
  // expected-error @+2 {{the source is aligned to 2 bytes, and cp_async copies at least 4; promise more with tile.align on the function argument, or use copy = "direct"}}
  // expected-error @+1 {{failed to legalize operation 'tile.produce' that was explicitly marked illegal}}
  tile.produce %p[%c0], %m[%c0, %c0] : !pipe, !rows
  return
}

// -----

#plan = #tile.plan<chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 1, producers = 0, stages = 1>
!pipe = !tile.pipe<1, !tile.buffer<16x32xf16, swizzle = 64>>
!rows = memref<?x32xf16, strided<[?, 1], offset: ?>>

// Through registers the widest accesses too; both loads are under way before
// the first is stored. Nothing outside is read.
// CHECK-LABEL: func.func @direct16
// CHECK: %[[IN:.*]] = arith.cmpi sgt
// CHECK: %[[A:.*]] = scf.if %[[IN]] -> (vector<8xf16>) {
// CHECK:   %[[LOADED:.*]] = llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<8xf16>
// CHECK:   scf.yield %[[LOADED]]
// CHECK: } else {
// CHECK:   scf.yield %cst
// CHECK: %[[B:.*]] = scf.if %{{.*}} -> (vector<8xf16>) {
// CHECK: llvm.store %[[A]], %{{.*}} {alignment = 16 : i64} : vector<8xf16>, !llvm.ptr<3>
// CHECK: llvm.store %[[B]], %{{.*}} {alignment = 16 : i64} : vector<8xf16>, !llvm.ptr<3>
// CHECK-NOT: cp.async
func.func @direct16(%m: !rows {tile.align = 16 : i64}) attributes {tile.plan = #plan, tile.launch = {}, tile.shared_bytes = 1024 : i64} {
  %c0 = arith.constant 0 : index
  %p = tile.pipe {offset = 0 : i64} : !pipe
  tile.produce %p[%c0], %m[%c0, %c0] : !pipe, !rows
  return
}

// -----

#plan = #tile.plan<chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 1, producers = 0, stages = 1>
!pipe = !tile.pipe<1, !tile.buffer<8x32xf16, swizzle = 64>>
!rows = memref<?x26xf16, strided<[?, 1], offset: ?>>

// 26 of 32 columns: no load of 4 bytes crosses the end, each has a check.
// CHECK-LABEL: func.func @direct4
// CHECK: %[[INSIDE:.*]] = arith.cmpi slt, %{{.*}}, %c26
// CHECK: %[[BOTH:.*]] = arith.andi %{{.*}}, %[[INSIDE]]
// CHECK: scf.if %[[BOTH]] -> (vector<2xf16>) {
// CHECK-NEXT: llvm.load %{{.*}} {alignment = 4 : i64} : !llvm.ptr<1> -> vector<2xf16>
// CHECK-COUNT-3: llvm.load %{{.*}} {alignment = 4 : i64} : !llvm.ptr<1> -> vector<2xf16>
// CHECK-NOT: llvm.load
// CHECK-COUNT-4: llvm.store %{{.*}} {alignment = 4 : i64} : vector<2xf16>, !llvm.ptr<3>
func.func @direct4(%m: !rows {tile.align = 16 : i64}) attributes {tile.plan = #plan, tile.launch = {}, tile.shared_bytes = 1024 : i64} {
  %c0 = arith.constant 0 : index
  %p = tile.pipe {offset = 0 : i64} : !pipe
  tile.produce %p[%c0], %m[%c0, %c0] : !pipe, !rows
  return
}

// -----

#plan = #tile.plan<chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 1, producers = 0, stages = 1>
!pipe = !tile.pipe<1, !tile.buffer<8x32xf16, swizzle = 64>>
!rows = memref<?x27xf16, strided<[?, 1], offset: ?>>
!some = memref<?x?xf16, strided<[?, 1], offset: ?>>

// A row of odd length would cut a wide access, and one of unknown length might.
// CHECK-LABEL: func.func @direct2
// CHECK-COUNT-8: memref.load
// CHECK-NOT: llvm.load
// CHECK-LABEL: func.func @direct_unknown
// CHECK-COUNT-8: memref.load
// CHECK-NOT: llvm.load
func.func @direct2(%m: !rows {tile.align = 16 : i64}) attributes {tile.plan = #plan, tile.launch = {}, tile.shared_bytes = 1024 : i64} {
  %c0 = arith.constant 0 : index
  %p = tile.pipe {offset = 0 : i64} : !pipe
  tile.produce %p[%c0], %m[%c0, %c0] : !pipe, !rows
  return
}
func.func @direct_unknown(%m: !some {tile.align = 16 : i64}) attributes {tile.plan = #plan, tile.launch = {}, tile.shared_bytes = 1024 : i64} {
  %c0 = arith.constant 0 : index
  %p = tile.pipe {offset = 0 : i64} : !pipe
  tile.produce %p[%c0], %m[%c0, %c0] : !pipe, !some
  return
}

// -----

#acc = #tile.frag<reg = [2:1:1, 2:0:8, 2:1:8], lane = [4:1:2, 8:0:1], warp = [1:0:16]>
#plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "direct", warps = 1, producers = 0, stages = 1>

// Pairs of 16-bit numbers are stored at once where 4 bytes are promised.
// CHECK-LABEL: func.func @pairs
// CHECK-COUNT-4: llvm.store %{{.*}}, %{{.*}} {alignment = 4 : i64} : vector<2xf16>, !llvm.ptr<1>
// CHECK-NOT: memref.store
func.func @pairs(%o: memref<?x16xf16, strided<[?, 1], offset: ?>> {tile.align = 4 : i64}) attributes {tile.plan = #plan, tile.launch = {}, tile.shared_bytes = 0 : i64} {
  %c0 = arith.constant 0 : index
  %s = arith.constant dense<1.0> : tensor<16x16xf16, #acc>
  tile.store %s, %o[%c0, %c0] : tensor<16x16xf16, #acc>, memref<?x16xf16, strided<[?, 1], offset: ?>>
  return
}

// Pairs of 32-bit numbers need 8.
// CHECK-LABEL: func.func @no_pairs
// CHECK-NOT: llvm.store
// CHECK: memref.store
func.func @no_pairs(%o: memref<?x16xf32, strided<[?, 1], offset: ?>> {tile.align = 4 : i64}) attributes {tile.plan = #plan, tile.launch = {}, tile.shared_bytes = 0 : i64} {
  %c0 = arith.constant 0 : index
  %s = arith.constant dense<1.0> : tensor<16x16xf32, #acc>
  tile.store %s, %o[%c0, %c0] : tensor<16x16xf32, #acc>, memref<?x16xf32, strided<[?, 1], offset: ?>>
  return
}
