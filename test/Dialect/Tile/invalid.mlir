// RUN: fa-opt %s --split-input-file --verify-diagnostics

func.func @load_rank(%m: memref<?xf16>, %i: index) {
  // expected-error @+1 {{the memref has rank 1, the tile 2, and there are 1 offsets; all three must agree}}
  %t = tile.load %m[%i] : memref<?xf16> -> tensor<16x16xf16>
  return
}

// -----

func.func @load_order(%m: memref<?x?xf16>, %i: index) {
  // expected-error @+1 {{order must be a permutation of 0 to 1}}
  %t = tile.load %m[%i, %i] order [0, 0] : memref<?x?xf16> -> tensor<16x16xf16>
  return
}

// -----

func.func @load_element(%m: memref<?xf16>, %i: index) {
  // expected-error @+1 {{the memref holds 'f16' but the tile holds 'f32'; convert the tile with arith}}
  %t = tile.load %m[%i] : memref<?xf16> -> tensor<16xf32>
  return
}

// -----

func.func @store_element(%m: memref<?xf16>, %t: tensor<16xf32>, %i: index) {
  // expected-error @+1 {{the memref holds 'f16' but the tile holds 'f32'; convert the tile with arith}}
  tile.store %t, %m[%i] : tensor<16xf32>, memref<?xf16>
  return
}

// -----

func.func @accumulate_element(%m: memref<?xf64>, %t: tensor<16xf32>, %i: index) {
  // expected-error @+1 {{the memref holds 'f64' but the tile holds 'f32'; convert the tile with arith}}
  tile.accumulate %t, %m[%i] : tensor<16xf32>, memref<?xf64>
  return
}

// -----

func.func @accumulate_order(%m: memref<?x?xf32>, %t: tensor<16x16xf32>, %i: index) {
  // expected-error @+1 {{is shuffled: the memref must have rank 2, it has 2, and there must be no order}}
  tile.accumulate %t, %m[%i, %i] order [1, 0] shuffled : tensor<16x16xf32>, memref<?x?xf32>
  return
}

// -----

func.func @accumulate_through_shared(%m: memref<?x32xf32>, %t: tensor<16x16xf32>, %i: index) {
  %c0 = arith.constant 0 : index
  // expected-error @+1 {{goes through shared memory: it must be shuffled and as wide as the memory, whose rows are neighbours}}
  tile.accumulate %t, %m[%i, %c0] shuffled {offset = 0} : tensor<16x16xf32>, memref<?x32xf32>
  return
}

// -----

func.func @accumulate_free(%m: memref<?x16xf32>, %t: tensor<16x16xf32>, %i: index) {
  %c0 = arith.constant 0 : index
  // expected-error @+1 {{has no offset, so no place that could be free: give it one or leave `free` out}}
  tile.accumulate %t, %m[%i, %c0] shuffled {free} : tensor<16x16xf32>, memref<?x16xf32>
  return
}

// -----

func.func @load_rank(%m: memref<?xf32>, %i: index) {
  // expected-error @+1 {{is shuffled: the memref must have rank 2, it has 1, and there must be no order}}
  %t = tile.load %m[%i] shuffled : memref<?xf32> -> tensor<16xf32>
  return
}

// -----

func.func @accumulate_half(%m: memref<?xf16>, %t: tensor<16xf16>, %i: index) {
  // expected-error @+1 {{operand #0 must be statically shaped tensor of 32-bit float or 64-bit float values, but got 'tensor<16xf16>'}}
  tile.accumulate %t, %m[%i] : tensor<16xf16>, memref<?xf16>
  return
}

// -----

func.func @stage_shape(%t: tensor<64x32xf16>) {
  // expected-error @+1 {{the tile is 'tensor<64x32xf16>' but the buffer is '!tile.buffer<32x64xf16, swizzle = 128>'; shape and element type must agree}}
  %b = tile.stage %t : tensor<64x32xf16> -> !tile.buffer<32x64xf16, swizzle = 128>
  return
}

// -----

func.func @gather_rank(%m: memref<?x?xf32>, %t: tensor<16xi32>) {
  // expected-error @+1 {{the source has rank 2 but there are 1 index tiles}}
  %g = tile.gather %m[%t] : memref<?x?xf32>, tensor<16xi32> -> tensor<16xf32>
  return
}

// -----

func.func @gather_shape(%m: memref<?xf32>, %t: tensor<8xi32>) {
  // expected-error @+1 {{index tile 'tensor<8xi32>' must be an integer tile of the result's shape}}
  %g = tile.gather %m[%t] : memref<?xf32>, tensor<8xi32> -> tensor<16xf32>
  return
}

// -----

func.func @contract_maps(%a: tensor<16x16xf16>, %c: tensor<16x16xf32>) {
  // expected-error @+1 {{has 2 maps; it needs one each for lhs, rhs, acc}}
  %r = tile.contract %a, %a, %c {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>]} : tensor<16x16xf16>, tensor<16x16xf16>, tensor<16x16xf32>
  return
}

// -----

func.func @contract_map_form(%a: tensor<16x16xf16>, %c: tensor<16x16xf32>) {
  // expected-error @+1 {{map 1 is affine_map<(d0, d1, d2) -> (d0, d2)>; it must be a projected permutation of (m, n, k) over {n, k}}}
  %r = tile.contract %a, %a, %c {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (m, n)>]} : tensor<16x16xf16>, tensor<16x16xf16>, tensor<16x16xf32>
  return
}

// -----

func.func @contract_extents(%a: tensor<16x32xf16>, %b: tensor<16x16xf16>, %c: tensor<16x16xf32>) {
  // expected-error @+1 {{operand 0 has extent 32 along k where another has 16}}
  %r = tile.contract %a, %b, %c {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]} : tensor<16x32xf16>, tensor<16x16xf16>, tensor<16x16xf32>
  return
}

// -----

func.func @contract_elements(%a: tensor<16x16xf16>, %b: tensor<16x16xbf16>, %c: tensor<16x16xf32>) {
  // expected-error @+1 {{lhs and rhs must have one element type}}
  %r = tile.contract %a, %b, %c {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]} : tensor<16x16xf16>, tensor<16x16xbf16>, tensor<16x16xf32>
  return
}

// -----

func.func @reduce_dim(%a: tensor<16x16xf32>) {
  // expected-error @+1 {{dim is 2; it must be 0 to 1}}
  %r = tile.reduce max %a dim 2 : tensor<16x16xf32> -> tensor<16xf32>
  return
}

// -----

func.func @partial_sums_shape(%a: tensor<16x16xf32>) {
  // expected-error @+1 {{expected 'tensor<16x4xf32>' beside 'tensor<16x16xf32>', not 'tensor<16x8xf32>'}}
  %r = tile.partial_sums %a : tensor<16x16xf32> -> tensor<16x8xf32>
  return
}

// -----

func.func @partial_sums_of_integers(%a: tensor<16x16xi32>) {
  // expected-error @+1 {{adds up columns of 'tensor<16x16xi32>'; it must be a matrix of floats}}
  %r = tile.partial_sums %a : tensor<16x16xi32> -> tensor<16x4xi32>
  return
}

// -----

func.func @broadcast_shape(%a: tensor<16xf32>) {
  // expected-error @+1 {{expected 'tensor<8xf32>' beside 'tensor<8x16xf32>', not 'tensor<16xf32>'}}
  %r = tile.broadcast %a dim 1 : tensor<16xf32> -> tensor<8x16xf32>
  return
}

// -----

func.func @splat_element(%a: f16) {
  // expected-error @+1 {{the value is 'f16' but the tile holds 'f32'; convert the value with arith}}
  %r = tile.splat %a : f16 -> tensor<8x16xf32>
  return
}

// -----

func.func @iota_element() {
  // expected-error @+1 {{the result holds 'f32'; it must hold integers}}
  %r = tile.iota dim 0 : tensor<8xf32>
  return
}

// -----

func.func @iota_dim() {
  // expected-error @+1 {{dim is 1; it must be 0 to 0}}
  %r = tile.iota dim 1 : tensor<8xi32>
  return
}

// -----

func.func @rows_held_none() {
  // expected-error @+1 {{asks about tiles of 0 rows; they have at least 1}}
  %first, %count = tile.rows_held 0
  return
}

// -----

func.func @nonfinite_element(%t: tensor<8xi32>) {
  // expected-error @+1 {{the source holds 'i32'; only floats can be NaN or infinite}}
  %r = tile.nonfinite %t : tensor<8xi32>
  return
}

// -----

func.func @produce_element(%p: !tile.pipe<1, !tile.buffer<16x64xf16, swizzle = 128>>, %m: memref<?x?xf32>, %i: index) {
  // expected-error @+1 {{the source holds 'f32' but the pipe holds 'f16'}}
  tile.produce %p[%i], %m[%i, %i] : !tile.pipe<1, !tile.buffer<16x64xf16, swizzle = 128>>, memref<?x?xf32>
  return
}

// -----

func.func @produce_rank(%p: !tile.pipe<1, !tile.buffer<16x64xf16, swizzle = 128>>, %m: memref<?xf16>, %i: index) {
  // expected-error @+1 {{copies a matrix: the source has rank 1 and there are 1 offsets; both must be 2}}
  tile.produce %p[%i], %m[%i] : !tile.pipe<1, !tile.buffer<16x64xf16, swizzle = 128>>, memref<?xf16>
  return
}

// -----

func.func @consume_type(%p: !tile.pipe<1, !tile.buffer<16x64xf16, swizzle = 128>>, %i: index) {
  // expected-error @+1 {{gives '!tile.buffer<16x32xf16, swizzle = 64>' but the pipe's slots are '!tile.buffer<16x64xf16, swizzle = 128>'}}
  %b = tile.consume %p[%i] : !tile.pipe<1, !tile.buffer<16x64xf16, swizzle = 128>> -> !tile.buffer<16x32xf16, swizzle = 64>
  return
}

// -----

func.func @roles_count() {
  // expected-error @+1 {{has 1 regions, 2 warp counts and 1 register counts; one each is needed}}
  tile.roles warps [4, 8] registers [24] {
    %a = arith.constant 0 : index
  }
  return
}

// -----

func.func @roles_capture(%t: tensor<16xf32>, %m: memref<?xf32>, %i: index) {
  tile.roles warps [4] registers [0] {
    // expected-error @+1 {{uses a tile from outside its role; a role captures only memrefs, pipes and scalars}}
    tile.store %t, %m[%i] : tensor<16xf32>, memref<?xf32>
  }
  return
}

// -----

// expected-error @+1 {{swizzle is 16; use the panel width in bytes: 32, 64 or 128}}
func.func private @buffer_swizzle(!tile.buffer<16x64xf16, swizzle = 16>)

// -----

// expected-error @+1 {{a buffer holds integers or floats of 8 to 64 bits, not 'i1'}}
func.func private @buffer_element(!tile.buffer<16x64xi1, swizzle = 128>)

// -----

// expected-error @+1 {{a row has 80 bytes; it must be a multiple of 32}}
func.func private @buffer_row(!tile.buffer<16x40xf16, swizzle = 128>)

// -----

// expected-error @+1 {{a pipe has 0 stages; use at least 1}}
func.func private @pipe_stages(!tile.pipe<0, !tile.buffer<16x64xf16, swizzle = 128>>)

// -----

// expected-error @+1 {{the lane modes span 16 lanes; a warp has 32}}
func.func private @lanes(tensor<16xf32, #tile.frag<reg = [], lane = [16:0:1], warp = []>>)

// -----

// expected-error @+1 {{mma is 'dot'; use vector, mma_sync or wgmma}}
func.func private @plan_mma() attributes {tile.plan = #tile.plan<chip = "sm_80", mma = "dot", copy = "cp_async", warps = 4, producers = 0, stages = 1>}

// -----

// expected-error @+1 {{copy is 'bulk'; use direct, cp_async or tma}}
func.func private @plan_copy() attributes {tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "bulk", warps = 4, producers = 0, stages = 1>}

// -----

// expected-error @+1 {{warps is 0 and producers 0; use warps >= 1, producers >= 0 and at most 32 in all}}
func.func private @plan_warps() attributes {tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 0, producers = 0, stages = 1>}

// -----

// expected-error @+1 {{stages is 17; use 1 to 16}}
func.func private @plan_stages() attributes {tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 17>}

// -----

// expected-error @below {{has bulk_stores, which need persistent = true and copy = "tma"; leave it out}}
func.func private @plan_bulk_stores() attributes {tile.plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4, producers = 4, stages = 1, bulk_stores = true>}

// -----

// expected-error @below {{has hold_left, which needs mma = "mma_sync" or "wgmma" and warps with all columns of their rows (square = false); leave it out}}
func.func private @plan_hold_square() attributes {tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1, square = true, hold_left = true>}

// -----

// expected-error @below {{has hold_left, which needs mma = "mma_sync" or "wgmma" and warps with all columns of their rows (square = false); leave it out}}
func.func private @plan_hold_vector() attributes {tile.plan = #tile.plan<chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1, hold_left = true>}

// -----

func.func @fetch_shape(%b: !tile.buffer<128x64xf16, swizzle = 128>) {
  // expected-error @below {{gives 'tensor<128x32xf16>' of '!tile.buffer<128x64xf16, swizzle = 128>'; shape and elements must be the buffer's}}
  %t = tile.fetch %b : <128x64xf16, swizzle = 128> -> tensor<128x32xf16>
  return
}

// -----

func.func @fetch_element(%b: !tile.buffer<128x64xf16, swizzle = 128>) {
  // expected-error @below {{gives 'tensor<128x64xbf16>' of '!tile.buffer<128x64xf16, swizzle = 128>'; shape and elements must be the buffer's}}
  %t = tile.fetch %b : <128x64xf16, swizzle = 128> -> tensor<128x64xbf16>
  return
}

// -----

// expected-error @below {{has turns, which need mma = "wgmma", producers >= 1 and two to four teams (warps = 8, 12 or 16); leave it out}}
func.func private @plan_turns_of_one() attributes {tile.plan = #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 4, producers = 4, stages = 1, turns = true>}

// -----

// expected-error @below {{has turns, which need mma = "wgmma", producers >= 1 and two to four teams (warps = 8, 12 or 16); leave it out}}
func.func private @plan_turns_mma() attributes {tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 8, producers = 0, stages = 1, turns = true>}

// -----

// expected-error @below {{is persistent and has no producers, which would copy ahead for the next tile; use producers >= 1}}
func.func private @plan_persistent() attributes {tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1, persistent = true>}

// -----

func.func @async_use(%a: tensor<16x16xf16>, %c: tensor<16x16xf32>) -> tensor<16x16xf32> {
  // expected-error @+1 {{is async, and 'arith.addf' uses its result; only tile.await may}}
  %r = tile.contract async %a, %a, %c {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]} : tensor<16x16xf16>, tensor<16x16xf16>, tensor<16x16xf32>
  %s = arith.addf %r, %r : tensor<16x16xf32>
  return %s : tensor<16x16xf32>
}

// -----

func.func @await_what(%c: tensor<16x16xf32>) -> tensor<16x16xf32> {
  // expected-error @+1 {{operand 0 is no tile.contract async of the same block}}
  %s = tile.await %c {younger = 0} : tensor<16x16xf32>
  return %s : tensor<16x16xf32>
}

// -----

func.func @await_younger(%a: tensor<16x16xf16>, %c: tensor<16x16xf32>) -> tensor<16x16xf32> {
  %r = tile.contract async %a, %a, %c {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]} : tensor<16x16xf16>, tensor<16x16xf16>, tensor<16x16xf32>
  // expected-error @+1 {{has younger = -1; it must be 0 or more}}
  %s = tile.await %r {younger = -1} : tensor<16x16xf32>
  return %s : tensor<16x16xf32>
}

// -----

func.func @exceeds_limit(%c: tensor<16xf32>, %limit: f64) -> i1 {
  // expected-note @-1 {{prior use here}}
  // expected-error @+1 {{use of value '%limit' expects different type than prior uses: 'f32' vs 'f64'}}
  %s = tile.exceeds %c, %limit : tensor<16xf32>
  return %s : i1
}

// -----

func.func @merged_apart(%m: memref<?x?x?xf16>, %i: index) {
  // expected-error @+1 {{merged must be two neighbouring dimensions of the memref, which has rank 3}}
  %t = tile.load %m[%i, %i] merged [0, 2] : memref<?x?x?xf16> -> tensor<16x16xf16>
  return
}

// -----

func.func @merged_beyond(%m: memref<?x?xf16>, %t: tensor<16xf16>, %i: index) {
  // expected-error @+1 {{merged must be two neighbouring dimensions of the memref, which has rank 2}}
  tile.store %t, %m[%i] merged [1, 2] : tensor<16xf16>, memref<?x?xf16>
  return
}

// -----

func.func @merged_rank(%m: memref<?x?xf16>, %i: index) {
  // expected-error @+1 {{the memref has rank 1 after merging, the tile 2, and there are 1 offsets; all three must agree}}
  %t = tile.load %m[%i] merged [0, 1] : memref<?x?xf16> -> tensor<16x16xf16>
  return
}

// -----

#acc = #tile.frag<reg = [2:1:1, 2:0:8, 16:1:8], lane = [4:1:2, 8:0:1], warp = [4:0:16]>
func.func @bulk_nowhere(%o: memref<?x128xf16> {tile.align = 16 : i64}, %t: tensor<64x128xf16, #acc>, %i: index) {
  // expected-error @+1 {{has no offset, so no place that tensor copies could read: give it one or leave `bulk` out}}
  tile.store %t, %o[%i, %i] bulk 4096 : tensor<64x128xf16, #acc>, memref<?x128xf16>
  return
}

// -----

func.func @bulk_layout(%o: memref<?x128xf16> {tile.align = 16 : i64}, %t: tensor<64x128xf16>, %i: index) {
  // expected-error @+1 {{is no store for tensor copies: its tile must be an accumulator of 16 bits, 16 rows per warp, and its memory whole dimensions of a function argument with a 'tile.align' of 16}}
  tile.store %t, %o[%i, %i] bulk 4096 {offset = 0 : i64} : tensor<64x128xf16>, memref<?x128xf16>
  return
}

// -----

#acc = #tile.frag<reg = [2:1:1, 2:0:8, 16:1:8], lane = [4:1:2, 8:0:1], warp = [4:0:16]>
func.func @bulk_argument(%t: tensor<64x128xf16, #acc>, %i: index) {
  %o = memref.alloc(%i) : memref<?x128xf16>
  // expected-error @+1 {{is no store for tensor copies}}
  tile.store %t, %o[%i, %i] bulk 4096 {offset = 0 : i64} : tensor<64x128xf16, #acc>, memref<?x128xf16>
  return
}

// -----

#acc = #tile.frag<reg = [2:1:1, 2:0:8, 16:1:8], lane = [4:1:2, 8:0:1], warp = [4:0:16]>
func.func @bulk_bytes(%o: memref<?x128xf16> {tile.align = 16 : i64}, %t: tensor<64x128xf16, #acc>, %i: index) {
  // expected-error @+1 {{gives each warp 1024 bytes of shared memory; a panel takes 2048}}
  tile.store %t, %o[%i, %i] bulk 1024 {offset = 0 : i64} : tensor<64x128xf16, #acc>, memref<?x128xf16>
  return
}

// -----

#acc = #tile.frag<reg = [2:1:1, 2:0:8, 16:1:8], lane = [4:1:2, 8:0:1], warp = [4:0:16]>
func.func @bulk_swizzle(%o: memref<?x128xf16> {tile.align = 16 : i64}, %t: tensor<64x128xf16, #acc>, %i: index) {
  // expected-error @+1 {{begins at 0 and gives each warp 4608 bytes; the swizzle of its panels takes multiples of 1024}}
  tile.store %t, %o[%i, %i] bulk 4608 {offset = 0 : i64} : tensor<64x128xf16, #acc>, memref<?x128xf16>
  return
}

// -----

#acc = #tile.frag<reg = [2:1:1, 2:0:8, 16:1:8], lane = [4:1:2, 8:0:1], warp = [4:0:16]>
func.func @bulk_place(%o: memref<?x128xf16> {tile.align = 16 : i64}, %t: tensor<64x128xf16, #acc>, %i: index) {
  // expected-error @+1 {{begins at 512 and gives each warp 4096 bytes; the swizzle of its panels takes multiples of 1024}}
  tile.store %t, %o[%i, %i] bulk 4096 {offset = 512 : i64} : tensor<64x128xf16, #acc>, memref<?x128xf16>
  return
}
