// RUN: fa-opt %s --split-input-file --pass-pipeline='builtin.module(convert-tile-to-threads,func.func(cse))' | FileCheck %s
// RUN: %{matmul:mma1} | not fa-opt --pass-pipeline='builtin.module(convert-tile-to-threads)' 2>&1 | FileCheck %s --check-prefix=READY

#row = #tile.frag<reg = [2:1:1, 2:0:8], lane = [4:1:2, 8:0:1], warp = [4:0:16]>
#stat = #tile.frag<reg = [2:0:8], lane = [4:0:0, 8:0:1], warp = [4:0:16]>

// A 64x8 tile over four warps: four registers each. Row maximum: the registers
// of a row, then the four lanes that share it.
// CHECK-LABEL: func.func @rows
// CHECK-SAME: tile.launch = {shared_bytes = 0 : i64, threads = 128 : i64}
// CHECK: %[[TID:.*]] = nvvm.read.ptx.sreg.tid.x
// CHECK: %[[WARP:.*]] = nvvm.shfl.sync idx
// CHECK-COUNT-4: scf.if {{.*}} -> (f32)
// CHECK-COUNT-4: arith.mulf {{.*}} : f32
// CHECK-NOT: arith.mulf
// CHECK: %[[M0:.*]] = arith.maxnumf
// CHECK: %[[S0:.*]] = nvvm.shfl.sync bfly %{{.*}}, %[[M0]], %c1_i32
// CHECK: %[[M1:.*]] = arith.maxnumf %[[M0]], %[[S0]]
// CHECK: %[[S1:.*]] = nvvm.shfl.sync bfly %{{.*}}, %[[M1]], %c2_i32
// CHECK: %[[M2:.*]] = arith.maxnumf %[[M1]], %[[S1]]
// CHECK-NOT: tile.
func.func @rows(%m: memref<?x?xf32>, %o: memref<?xf32>) attributes {
    tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>,
    tile.launch = {}, tile.shared_bytes = 0 : i64} {
  %c0 = arith.constant 0 : index
  %t = tile.load %m[%c0, %c0] : memref<?x?xf32> -> tensor<64x8xf32, #row>
  %u = arith.mulf %t, %t : tensor<64x8xf32, #row>
  %r = tile.reduce max %u dim 1 : tensor<64x8xf32, #row> -> tensor<64xf32, #stat>
  tile.store %r, %o[%c0] : tensor<64xf32, #stat>, memref<?xf32>
  return
}

// -----

#row = #tile.frag<reg = [2:1:1, 2:0:8], lane = [4:1:2, 8:0:1], warp = [4:0:16]>
#part = #tile.frag<reg = [2:0:8], lane = [4:1:1, 8:0:1], warp = [4:0:16]>
#stat = #tile.frag<reg = [2:0:8], lane = [4:0:0, 8:0:1], warp = [4:0:16]>

// Each lane adds the two columns of its two rows; the four lanes of a row exchange their
// sums when those are reduced.
// CHECK-LABEL: func.func @parts
// CHECK-COUNT-4: scf.if {{.*}} -> (f32)
// CHECK: %[[A:.*]] = arith.addf %{{.*}} : f32
// CHECK-NEXT: %[[B:.*]] = arith.addf %{{.*}} : f32
// CHECK-NEXT: %[[A1:.*]] = nvvm.shfl.sync bfly %{{.*}}, %[[A]], %c1_i32
// CHECK-NEXT: %[[A2:.*]] = arith.addf %[[A]], %[[A1]]
// CHECK-NEXT: nvvm.shfl.sync bfly %{{.*}}, %[[A2]], %c2_i32
// CHECK: nvvm.shfl.sync bfly %{{.*}}, %[[B]], %c1_i32
func.func @parts(%m: memref<?x?xf32>, %o: memref<?xf32>) attributes {
    tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>,
    tile.launch = {}, tile.shared_bytes = 0 : i64} {
  %c0 = arith.constant 0 : index
  %t = tile.load %m[%c0, %c0] : memref<?x?xf32> -> tensor<64x8xf32, #row>
  %p = tile.partial_sums %t : tensor<64x8xf32, #row> -> tensor<64x4xf32, #part>
  %r = tile.reduce add %p dim 1 : tensor<64x4xf32, #part> -> tensor<64xf32, #stat>
  tile.store %r, %o[%c0] : tensor<64xf32, #stat>, memref<?xf32>
  return
}

// -----

#acc = #tile.frag<reg = [2:1:1, 2:0:8, 2:1:8], lane = [4:1:2, 8:0:1], warp = [4:0:16]>

// 64x16x16: one block of A and of B from shared memory, two instructions. B is
// stored with k as its rows, so it is read transposed.
// CHECK-LABEL: func.func @product
// CHECK: nvvm.cp.async.wait.group 1
// CHECK: nvvm.barrier0
// CHECK: nvvm.ldmatrix {{.*}}layout = #nvvm.mma_layout<row>, num = 4
// CHECK: nvvm.ldmatrix {{.*}}layout = #nvvm.mma_layout<col>, num = 4
// CHECK-COUNT-2: nvvm.mma.sync {{.*}}shape = #nvvm.shape<m = 16, n = 8, k = 16>
// CHECK-NOT: nvvm.mma.sync
func.func @product(%o: memref<64x16xf32>) attributes {
    tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>,
    tile.launch = {}, tile.shared_bytes = 3072 : i64} {
  %c0 = arith.constant 0 : index
  %pa = tile.pipe {offset = 0 : i64} : !tile.pipe<1, !tile.buffer<64x16xf16, swizzle = 32>>
  %pb = tile.pipe {offset = 2048 : i64} : !tile.pipe<1, !tile.buffer<16x16xf16, swizzle = 32>>
  %a = tile.consume %pa[%c0] {pending = 1 : i64} : !tile.pipe<1, !tile.buffer<64x16xf16, swizzle = 32>> -> !tile.buffer<64x16xf16, swizzle = 32>
  %b = tile.consume %pb[%c0] {pending = 0 : i64} : !tile.pipe<1, !tile.buffer<16x16xf16, swizzle = 32>> -> !tile.buffer<16x16xf16, swizzle = 32>
  %zero = arith.constant dense<0.0> : tensor<64x16xf32, #acc>
  %r = tile.contract %a, %b, %zero {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]}
      : !tile.buffer<64x16xf16, swizzle = 32>, !tile.buffer<16x16xf16, swizzle = 32>, tensor<64x16xf32, #acc>
  tile.store %r, %o[%c0, %c0] : tensor<64x16xf32, #acc>, memref<64x16xf32>
  return
}

// -----

#acc = #tile.frag<reg = [2:1:1, 2:0:8, 2:1:8], lane = [4:1:2, 8:0:1], warp = [4:0:16]>

// Four pairs per thread, between two barriers. Rows are 32 bytes here: the two
// chunks of a row are exchanged where bit 2 of the row is set.
// CHECK-LABEL: func.func @stage
// CHECK: %[[ROWBYTES:.*]] = arith.muli %{{.*}}, %c32_i32
// CHECK: %[[SHIFTED:.*]] = arith.shrui %[[ROWBYTES]], %c7_i32
// CHECK: %[[PHASE:.*]] = arith.andi %[[SHIFTED]], %c1_i32
// CHECK: nvvm.barrier0
// CHECK: %[[BITS:.*]] = arith.shli %[[PHASE]], %c4_i32
// CHECK: arith.xori %{{.*}}, %[[BITS]]
// CHECK: %[[AT:.*]] = llvm.getelementptr %[[PLACE:.*]][0]
// CHECK: llvm.store %{{.*}}, %[[AT]] {alignment = 4 : i64} : vector<2xf16>, !llvm.ptr<3>
// CHECK: %[[BELOW:.*]] = llvm.getelementptr %[[PLACE]][256]
// CHECK: llvm.store %{{.*}}, %[[BELOW]] {alignment = 4 : i64} : vector<2xf16>, !llvm.ptr<3>
// CHECK-COUNT-2: llvm.store
// CHECK-NOT: llvm.store
// CHECK: nvvm.barrier0
func.func @stage(%m: memref<64x16xf16>) attributes {
    tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>,
    tile.launch = {}, tile.shared_bytes = 2048 : i64} {
  %c0 = arith.constant 0 : index
  %t = tile.load %m[%c0, %c0] : memref<64x16xf16> -> tensor<64x16xf16, #acc>
  %b = tile.stage %t {offset = 0 : i64} : tensor<64x16xf16, #acc> -> !tile.buffer<64x16xf16, swizzle = 32>
  return
}

// READY: error: is not ready to be distributed: run tile-map-grid, tile-assign-layouts and tile-plan-resources first

// -----

#acc = #tile.frag<reg = [2:1:1, 2:0:8, 1:1:8], lane = [4:1:2, 8:0:1], warp = [1:0:16]>

// sm_75 multiplies eight deep: two products in place of one, with the halves of
// the same fragments.
// CHECK-LABEL: func.func @eight_deep
// CHECK: %[[A:.*]] = nvvm.ldmatrix %{{.*}} {eltType = #nvvm.ld_st_matrix_elt_type<b16>, layout = #nvvm.mma_layout<row>, num = 4
// CHECK: %[[A0:.*]] = llvm.extractvalue %[[A]][0]
// CHECK: %[[A1:.*]] = llvm.extractvalue %[[A]][1]
// CHECK: %[[A2:.*]] = llvm.extractvalue %[[A]][2]
// CHECK: %[[A3:.*]] = llvm.extractvalue %[[A]][3]
// CHECK: %[[B:.*]] = nvvm.ldmatrix
// CHECK: %[[B0:.*]] = llvm.extractvalue %[[B]][0]
// CHECK: %[[B1:.*]] = llvm.extractvalue %[[B]][1]
// CHECK-DAG: %[[H0:.*]] = llvm.bitcast %[[A0]]
// CHECK-DAG: %[[H1:.*]] = llvm.bitcast %[[A1]]
// CHECK-DAG: %[[G0:.*]] = llvm.bitcast %[[B0]]
// CHECK: %[[HALF:.*]] = nvvm.mma.sync A[%[[H0]], %[[H1]]] B[%[[G0]]] C[{{.*}}] {layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>, shape = #nvvm.shape<m = 16, n = 8, k = 8>} : (vector<2xf16>, vector<2xf16>, f32)
// CHECK: %[[S0:.*]] = llvm.extractvalue %[[HALF]][0]
// CHECK-DAG: %[[H2:.*]] = llvm.bitcast %[[A2]]
// CHECK-DAG: %[[H3:.*]] = llvm.bitcast %[[A3]]
// CHECK-DAG: %[[G1:.*]] = llvm.bitcast %[[B1]]
// CHECK: nvvm.mma.sync A[%[[H2]], %[[H3]]] B[%[[G1]]] C[%[[S0]], {{.*}}] {{.*}}shape = #nvvm.shape<m = 16, n = 8, k = 8>
// CHECK-NOT: nvvm.mma.sync
func.func @eight_deep(%m: memref<16x16xf16>, %n: memref<8x16xf16>, %o: memref<16x8xf32>) attributes {
    tile.plan = #tile.plan<chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 1, producers = 0, stages = 1>,
    tile.launch = {}, tile.shared_bytes = 2048 : i64} {
  %c0 = arith.constant 0 : index
  %p = tile.pipe {offset = 0 : i64} : !tile.pipe<1, !tile.buffer<16x16xf16, swizzle = 32>>
  %q = tile.pipe {offset = 1024 : i64} : !tile.pipe<1, !tile.buffer<8x16xf16, swizzle = 32>>
  %a = tile.consume %p[%c0] : !tile.pipe<1, !tile.buffer<16x16xf16, swizzle = 32>> -> !tile.buffer<16x16xf16, swizzle = 32>
  %b = tile.consume %q[%c0] : !tile.pipe<1, !tile.buffer<8x16xf16, swizzle = 32>> -> !tile.buffer<8x16xf16, swizzle = 32>
  %zero = arith.constant dense<0.0> : tensor<16x8xf32, #acc>
  %s = tile.contract %a, %b, %zero {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]} : !tile.buffer<16x16xf16, swizzle = 32>, !tile.buffer<8x16xf16, swizzle = 32>, tensor<16x8xf32, #acc>
  tile.store %s, %o[%c0, %c0] : tensor<16x8xf32, #acc>, memref<16x8xf32>
  return
}

// -----

#row = #tile.frag<reg = [2:1:1, 2:0:8], lane = [4:1:2, 8:0:1], warp = [4:0:16]>

// Neighbours in an aligned row are one access; a promise of less is two.
// CHECK-LABEL: func.func @pairs
// CHECK: scf.if {{.*}} -> (f16, f16)
// CHECK:   %[[PAIR:.*]] = llvm.load %{{.*}} {alignment = 4 : i64} : !llvm.ptr<1> -> vector<2xf16>
// CHECK:   %[[X0:.*]] = vector.extract %[[PAIR]][0]
// CHECK:   %[[X1:.*]] = vector.extract %[[PAIR]][1]
// CHECK:   scf.yield %[[X0]], %[[X1]] : f16, f16
// CHECK: scf.if {{.*}} -> (f16, f16)
// CHECK-COUNT-4: scf.if {{.*}} -> (f16) {
func.func @pairs(%m: memref<?x8xf16> {tile.align = 4 : i64}, %n: memref<?x8xf16>, %o: memref<?x8xf16>) attributes {
    tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>,
    tile.launch = {}, tile.shared_bytes = 0 : i64} {
  %c0 = arith.constant 0 : index
  %t = tile.load %m[%c0, %c0] : memref<?x8xf16> -> tensor<64x8xf16, #row>
  %s = tile.load %n[%c0, %c0] : memref<?x8xf16> -> tensor<64x8xf16, #row>
  %u = arith.addf %t, %s : tensor<64x8xf16, #row>
  tile.store %u, %o[%c0, %c0] : tensor<64x8xf16, #row>, memref<?x8xf16>
  return
}

// -----

// LLVM hoists nothing out of a loop in a branch of another loop, but may out of
// that one and out of a loop in a branch outside of any.
// CHECK: #[[LICM:.*]] = #llvm.loop_licm<disable = true>
// CHECK: #[[COLD:.*]] = #llvm.loop_annotation<licm = #[[LICM]]>
// CHECK-LABEL: func.func @cold_loop
// CHECK: scf.for
// CHECK: scf.if
// CHECK: scf.for
// CHECK: } {llvm.loop_annotation = #[[COLD]]}
// CHECK-NOT: llvm.loop_annotation
func.func @cold_loop(%n: index, %o: memref<?xf32>, %rare: i1) attributes {
    tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>,
    tile.launch = {}, tile.shared_bytes = 0 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %x = arith.constant 1.0 : f32
  scf.for %i = %c0 to %n step %c1 {
    scf.if %rare {
      scf.for %j = %c0 to %n step %c1 {
        memref.store %x, %o[%j] : memref<?xf32>
      }
    }
  }
  scf.if %rare {
    scf.for %j = %c0 to %n step %c1 {
      memref.store %x, %o[%j] : memref<?xf32>
    }
  }
  return
}

// -----

#acc = #tile.frag<reg = [2:1:1, 2:0:8, 4:1:8], lane = [4:1:2, 8:0:1], warp = [4:0:16]>

// Accumulators of 16 bits: the four lanes of a row exchange their pairs, so that each
// stores eight neighbours at once: one store per row.
// CHECK-LABEL: func.func @wide_store
// CHECK-COUNT-4: llvm.bitcast {{.*}} : vector<2xf16> to i32
// CHECK: %[[A:.*]] = arith.select %[[ODD:[a-z0-9]*]], %[[W0:.*]], %[[W1:.*]] : i32
// CHECK: %[[O:.*]] = nvvm.shfl.sync bfly %{{.*}}, %[[A]], %c1_i32
// CHECK: %[[L:.*]] = arith.select %[[ODD]], %[[O]], %[[W0]] : i32
// CHECK: %[[H:.*]] = arith.select %[[ODD]], %[[W1]], %[[O]] : i32
// CHECK: nvvm.shfl.sync bfly %{{.*}}, %c1_i32
// CHECK-COUNT-2: nvvm.shfl.sync bfly %{{.*}}, %c2_i32
// CHECK: llvm.store {{.*}} {alignment = 16 : i64} : vector<4xi32>, !llvm.ptr<1>
// CHECK: llvm.store {{.*}} {alignment = 16 : i64} : vector<4xi32>, !llvm.ptr<1>
// CHECK-NOT: llvm.store
func.func @wide_store(%o: memref<64x32xf16> {tile.align = 16 : i64}) attributes {
    tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>,
    tile.launch = {}, tile.shared_bytes = 0 : i64} {
  %c0 = arith.constant 0 : index
  %t = tile.load %o[%c0, %c0] : memref<64x32xf16> -> tensor<64x32xf16, #acc>
  %r = arith.addf %t, %t : tensor<64x32xf16, #acc>
  tile.store %r, %o[%c0, %c0] : tensor<64x32xf16, #acc>, memref<64x32xf16>
  return
}

// With a place in shared memory: four matrices in one store, a row of 16 bytes in one
// load. Lane l stores row l % 8 of matrix l / 8 and loads row l / 4 of matrix l % 4; each
// matrix begins two rows further on than the one before.
// CHECK-LABEL: func.func @shared_store
// CHECK: %[[STEP:.*]] = arith.muli %{{.*}}, %c2048_i32
// CHECK: %[[START:.*]] = arith.addi %[[STEP]], %c4096_i32
// CHECK: %[[J:.*]] = arith.divui %[[LANE:.*]], %c8_i32
// CHECK: %[[R:.*]] = arith.remui %[[LANE]], %c8_i32
// CHECK: %[[TWO:.*]] = arith.muli %[[J]], %c2_i32
// CHECK: %[[TURNED:.*]] = arith.addi %[[R]], %[[TWO]]
// CHECK: %[[ROW:.*]] = arith.remui %[[TURNED]], %c8_i32
// CHECK-DAG: arith.muli %[[J]], %c128_i32
// CHECK-DAG: arith.muli %[[ROW]], %c16_i32
// CHECK: nvvm.bar.warp.sync
// CHECK-COUNT-2: nvvm.stmatrix
// CHECK: nvvm.bar.warp.sync
// CHECK-COUNT-2: llvm.load {{.*}} {alignment = 16 : i64} : !llvm.ptr<3> -> vector<4xi32>
// CHECK-NOT: nvvm.shfl.sync bfly
// CHECK-COUNT-2: llvm.store {{.*}} {alignment = 16 : i64} : vector<4xi32>, !llvm.ptr<1>
func.func @shared_store(%o: memref<64x32xf16> {tile.align = 16 : i64}) attributes {
    tile.plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4, producers = 0, stages = 1>,
    tile.launch = {}, tile.shared_bytes = 12288 : i64} {
  %c0 = arith.constant 0 : index
  %t = tile.load %o[%c0, %c0] : memref<64x32xf16> -> tensor<64x32xf16, #acc>
  %r = arith.addf %t, %t : tensor<64x32xf16, #acc>
  tile.store %r, %o[%c0, %c0] {offset = 4096 : i64} : tensor<64x32xf16, #acc>, memref<64x32xf16>
  return
}

// By tensor copies: lane l gives the place of row l % 16, and of columns from 8 * (l / 16)
// on, in panels of 32 columns, whose swizzle adds the number of the line. The first lane
// of a warp copies the panels; nothing waits but the next store, and the end.
// CHECK-LABEL: func.func @bulk_store
// CHECK-SAME: %[[MAP:[a-z0-9]*]]: !llvm.ptr {llvm.align = 64 : i64, llvm.byval = !llvm.array<128 x i8>}
// CHECK-SAME: tensor_maps = [{arg = 0 : i64, box = array<i64: 32, 16>, dims = array<i64: 1, 0>, swizzle = 64 : i64}]
// CHECK: %[[PART:.*]] = arith.muli %{{.*}}, %c3072_i32
// CHECK: %[[START:.*]] = arith.addi %{{.*}}, %[[PART]]
// CHECK: nvvm.cp.async.bulk.wait_group 0 {read}
// CHECK: %[[ROW:.*]] = arith.andi %{{.*}}, %c15_i32
// CHECK: %[[BYTES:.*]] = arith.muli %[[ROW]], %c64_i32
// CHECK: arith.xori
// CHECK-COUNT-6: nvvm.stmatrix {{.*}} %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}
// CHECK-NOT: nvvm.stmatrix
// CHECK: nvvm.fence.proxy {kind = #nvvm.proxy_kind<async.shared>
// CHECK: nvvm.bar.warp.sync
// CHECK: scf.if
// CHECK-COUNT-3: "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [$0, {$2, $3}], [$1];", "l,r,r,r,~{memory}" %[[MAP]],
// CHECK: nvvm.cp.async.bulk.commit.group
// CHECK: nvvm.cp.async.bulk.wait_group 0 {read}
// CHECK-NEXT: return
#wide = #tile.frag<reg = [2:1:1, 2:0:8, 12:1:8], lane = [4:1:2, 8:0:1], warp = [4:0:16]>
func.func @bulk_store(%o: memref<64x96xf16> {tile.align = 16 : i64}) attributes {
    tile.plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4, producers = 0, stages = 1>,
    tile.launch = {}, tile.shared_bytes = 16384 : i64} {
  %c0 = arith.constant 0 : index
  %t = tile.load %o[%c0, %c0] : memref<64x96xf16> -> tensor<64x96xf16, #wide>
  %r = arith.addf %t, %t : tensor<64x96xf16, #wide>
  tile.store %r, %o[%c0, %c0] bulk 3072 {offset = 4096 : i64} : tensor<64x96xf16, #wide>, memref<64x96xf16>
  return
}

// With room for two of three panels: the third waits for their copies.
// CHECK-LABEL: func.func @panels_in_turns
// CHECK: nvvm.cp.async.bulk.wait_group 0 {read}
// CHECK-COUNT-4: nvvm.stmatrix
// CHECK-COUNT-2: "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group
// CHECK-NOT: nvvm.stmatrix
// CHECK: nvvm.cp.async.bulk.commit.group
// CHECK: nvvm.cp.async.bulk.wait_group 0 {read}
// CHECK-COUNT-2: nvvm.stmatrix
// CHECK: nvvm.fence.proxy
// CHECK: "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group
// CHECK-NEXT: nvvm.cp.async.bulk.commit.group
func.func @panels_in_turns(%o: memref<64x96xf16> {tile.align = 16 : i64}) attributes {
    tile.plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4, producers = 0, stages = 1>,
    tile.launch = {}, tile.shared_bytes = 12288 : i64} {
  %c0 = arith.constant 0 : index
  %t = tile.load %o[%c0, %c0] : memref<64x96xf16> -> tensor<64x96xf16, #wide>
  %r = arith.addf %t, %t : tensor<64x96xf16, #wide>
  tile.store %r, %o[%c0, %c0] bulk 2048 {offset = 4096 : i64} : tensor<64x96xf16, #wide>, memref<64x96xf16>
  return
}

// Less alignment: pairs, as they are held.
// CHECK-LABEL: func.func @narrow_store
// CHECK-NOT: nvvm.shfl.sync bfly
// CHECK-COUNT-8: llvm.store {{.*}} {alignment = 4 : i64} : vector<2xf16>, !llvm.ptr<1>
func.func @narrow_store(%o: memref<64x32xf16> {tile.align = 4 : i64}) attributes {
    tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>,
    tile.launch = {}, tile.shared_bytes = 0 : i64} {
  %c0 = arith.constant 0 : index
  %t = tile.load %o[%c0, %c0] : memref<64x32xf16> -> tensor<64x32xf16, #acc>
  %r = arith.addf %t, %t : tensor<64x32xf16, #acc>
  tile.store %r, %o[%c0, %c0] : tensor<64x32xf16, #acc>, memref<64x32xf16>
  return
}

// -----

#row = #tile.frag<reg = [2:1:1, 2:0:8], lane = [4:1:2, 8:0:1], warp = [4:0:16]>

// NaN and infinity times 0 are NaN; each warp asks about its own elements.
// CHECK-LABEL: func.func @nonfinite
// CHECK: %[[ZERO:.*]] = arith.constant 0.000000e+00 : f32
// CHECK-COUNT-4: math.fma %{{.*}}, %[[ZERO]], %{{.*}} : f32
// CHECK-NOT: math.fma
// CHECK: %[[ANY:.*]] = arith.cmpf uno
// CHECK: nvvm.vote.sync any %{{.*}}, %[[ANY]]
func.func @nonfinite(%m: memref<64x8xf32>, %o: memref<i1>) attributes {
    tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>,
    tile.launch = {}, tile.shared_bytes = 0 : i64} {
  %c0 = arith.constant 0 : index
  %t = tile.load %m[%c0, %c0] : memref<64x8xf32> -> tensor<64x8xf32, #row>
  %any = tile.nonfinite %t : tensor<64x8xf32, #row>
  memref.store %any, %o[] : memref<i1>
  return
}

// -----

// Teams of four warps hold 64 rows each; the block on its own, all of them.
// CHECK-LABEL: func.func @rows_held
// CHECK: %[[WARP:.*]] = nvvm.shfl.sync idx
// CHECK: %[[TEAM:.*]] = arith.divui %[[WARP]], %c4_i32
// CHECK: %[[FIRST:.*]] = arith.muli %[[TEAM]], %c64_i32
// CHECK: %[[I:.*]] = arith.index_castui %[[FIRST]]
// CHECK: memref.store %[[I]]
// CHECK: memref.store %c64
// CHECK: memref.store %c0
// CHECK: memref.store %c256
func.func @rows_held(%o: memref<4xindex>) attributes {
    tile.plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 0, stages = 1>,
    tile.launch = {}, tile.shared_bytes = 0 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c3 = arith.constant 3 : index
  %first, %count = tile.rows_held 128
  memref.store %first, %o[%c0] : memref<4xindex>
  memref.store %count, %o[%c1] : memref<4xindex>
  // Two blocks of 64 rows per team: no neighbours.
  %all, %many = tile.rows_held 256
  memref.store %all, %o[%c2] : memref<4xindex>
  memref.store %many, %o[%c3] : memref<4xindex>
  return
}

// -----

#acc = #tile.frag<reg = [2:1:1, 2:0:8, 2:1:8], lane = [4:1:2, 8:0:1], warp = [4:0:16]>

// What each warp makes for itself is rare: a loop over panels of 64, four steps of two
// instructions in each.
// CHECK-LABEL: func.func @each_warp
// CHECK: scf.for %[[PANEL:.*]] = %c0_i32 to %c2_i32 step %c1_i32 iter_args
// CHECK: arith.muli %[[PANEL]], %c2048_i32
// CHECK: arith.muli %[[PANEL]], %c8192_i32
// CHECK-COUNT-8: nvvm.mma.sync
// CHECK-NOT: nvvm.mma.sync
// CHECK: scf.yield
func.func @each_warp(%o: memref<64x16xf32>) attributes {
    tile.plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4, producers = 0, stages = 1>,
    tile.launch = {}, tile.shared_bytes = 20480 : i64} {
  %c0 = arith.constant 0 : index
  %pa = tile.pipe {offset = 0 : i64, barriers = 32768 : i64} : !tile.pipe<1, !tile.buffer<64x128xf16, swizzle = 128>>
  %pb = tile.pipe {offset = 16384 : i64, barriers = 32784 : i64} : !tile.pipe<1, !tile.buffer<16x128xf16, swizzle = 128>>
  %a = tile.consume %pa[%c0] : !tile.pipe<1, !tile.buffer<64x128xf16, swizzle = 128>> -> !tile.buffer<64x128xf16, swizzle = 128>
  %b = tile.consume %pb[%c0] : !tile.pipe<1, !tile.buffer<16x128xf16, swizzle = 128>> -> !tile.buffer<16x128xf16, swizzle = 128>
  %zero = arith.constant dense<0.0> : tensor<64x16xf32, #acc>
  %r = tile.contract each_warp %a, %b, %zero {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]}
      : !tile.buffer<64x128xf16, swizzle = 128>, !tile.buffer<16x128xf16, swizzle = 128>, tensor<64x16xf32, #acc>
  tile.store %r, %o[%c0, %c0] : tensor<64x16xf32, #acc>, memref<64x16xf32>
  return
}

// -----

#plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4, producers = 4, stages = 2>
#nt = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]
#acc = #tile.frag<reg = [2:1:1, 2:0:8, 8:1:8], lane = [4:1:2, 8:0:1], warp = [4:0:16, 1:0:64]>
!b = !tile.buffer<64x64xf16, swizzle = 128>

// A lane releases a slot in a loop when all lanes have seen it full: a product of what is
// in it tells, or a barrier, which serves all slots that were waited for.
// CHECK-LABEL: func.func @releases
// CHECK: scf.for
// CHECK: mbarrier.try_wait
// CHECK: wgmma.mma_async
// CHECK-NOT: nvvm.bar.warp.sync
// CHECK: mbarrier.arrive
// CHECK: scf.for
// CHECK: mbarrier.try_wait
// CHECK: mbarrier.try_wait
// CHECK: nvvm.bar.warp.sync
// CHECK: mbarrier.arrive
// CHECK-NOT: nvvm.bar.warp.sync
// CHECK: mbarrier.arrive
// CHECK-NOT: nvvm.bar.warp.sync
// CHECK: return
func.func @releases(%m: memref<64x64xf32>, %n: index) attributes {
    tile.plan = #plan, tile.launch = {}, tile.shared_bytes = 65536 : i64} {
  %0 = tile.pipe {offset = 0 : i64, barriers = 32768 : i64} : <2, !b>
  %1 = tile.pipe {offset = 16384 : i64, barriers = 32800 : i64} : <2, !b>
  tile.roles warps [4, 4] registers [40, 232] {
    %none = arith.constant 0 : index
  }, {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %zero = arith.constant dense<0.0> : tensor<64x64xf32, #acc>
    %sum = scf.for %i = %c0 to %n step %c1 iter_args(%acc = %zero) -> tensor<64x64xf32, #acc> {
      %a = tile.consume %0[%i] : <2, !b> -> <64x64xf16, swizzle = 128>
      %next = tile.contract %a, %a, %acc {maps = #nt} : !b, !b, tensor<64x64xf32, #acc>
      tile.release %0[%i] : <2, !b>
      scf.yield %next : tensor<64x64xf32, #acc>
    }
    scf.for %i = %c0 to %n step %c1 {
      %a = tile.consume %0[%i] : <2, !b> -> <64x64xf16, swizzle = 128>
      %b = tile.consume %1[%i] : <2, !b> -> <64x64xf16, swizzle = 128>
      tile.release %0[%i] : <2, !b>
      tile.release %1[%i] : <2, !b>
    }
    tile.store %sum, %m[%c0, %c0] : tensor<64x64xf32, #acc>, memref<64x64xf32>
  }
  return
}

// -----

#plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4, producers = 4, stages = 2>
#nt = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]
#acc = #tile.frag<reg = [2:1:1, 2:0:8, 8:1:8], lane = [4:1:2, 8:0:1], warp = [4:0:16, 1:0:64]>
!b = !tile.buffer<64x128xf16, swizzle = 128>

// Rows from %n on of both panels are cleared, if there are any, before products read them:
// 128 bytes each, 16 per thread.
// CHECK-LABEL: func.func @clear
// CHECK: mbarrier.try_wait
// CHECK: %[[SHORT:.*]] = arith.cmpi slt, %[[ROWS:.*]], %c64
// CHECK: scf.if %[[SHORT]]
// CHECK: %[[FIRST:.*]] = arith.maxsi %[[ROWS]], %c0
// CHECK: %[[I32:.*]] = arith.index_cast %[[FIRST]]
// CHECK: %[[ROW:.*]] = arith.muli %[[I32]], %c128_i32
// CHECK: %[[LANE:.*]] = arith.muli %{{.*}}, %c16_i32
// CHECK: %[[FROM:.*]] = arith.addi %[[ROW]], %[[LANE]]
// CHECK: scf.for %{{.*}} = %[[FROM]] to %c8192_i32{{.*}} step %c2048_i32
// CHECK-COUNT-2: llvm.store %{{.*}} {alignment = 16 : i64} : vector<4xi32>, !llvm.ptr<3>
// CHECK: nvvm.fence.proxy {kind = #nvvm.proxy_kind<async.shared>
// CHECK: nvvm.barrier id = %{{.*}} number_of_threads = %{{.*}}
// CHECK: wgmma.mma_async
func.func @clear(%m: memref<64x64xf32>, %n: index) attributes {
    tile.plan = #plan, tile.launch = {}, tile.shared_bytes = 65536 : i64} {
  %0 = tile.pipe {offset = 0 : i64, barriers = 32768 : i64} : <2, !b>
  tile.roles warps [4, 4] registers [40, 232] {
    %none = arith.constant 0 : index
  }, {
    %c0 = arith.constant 0 : index
    %zero = arith.constant dense<0.0> : tensor<64x64xf32, #acc>
    %a = tile.consume %0[%c0] rows %n : <2, !b> -> <64x128xf16, swizzle = 128>
    %sum = tile.contract %a, %a, %zero {maps = #nt} : !b, !b, tensor<64x64xf32, #acc>
    tile.release %0[%c0] : <2, !b>
    tile.store %sum, %m[%c0, %c0] : tensor<64x64xf32, #acc>, memref<64x64xf32>
  }
  return
}
