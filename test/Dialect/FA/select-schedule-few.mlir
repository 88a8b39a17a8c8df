// RUN: fa-opt %s -fa-select-schedule=chip=sm_80 | FileCheck %s --check-prefixes=CHECK,GPU
// RUN: fa-opt %s -fa-select-schedule=chip=sm_90a | FileCheck %s --check-prefixes=CHECK,GPU
// RUN: fa-opt %s -fa-select-schedule=chip=cpu | FileCheck %s --check-prefixes=CHECK,CPU

#maps = [affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>]
#own = [affine_map<(b,h,m,n,d,e) -> (b, m, h, d)>, affine_map<(b,h,m,n,d,e) -> (b, n, h, d)>,
        affine_map<(b,h,m,n,d,e) -> (b, n, h, e)>, affine_map<(b,h,m,n,d,e) -> (b, m, h, e)>,
        affine_map<(b,h,m,n,d,e) -> (b, h, m)>]
!q = memref<?x1x?x64xf16>
!few = memref<?x?x?x64xf16>
!l = memref<?x?x1xf32>

// CHECK-LABEL: func.func @one(
// CHECK: fa.schedule = #fa.schedule<tile_m = 16, tile_n = 64,
// GPU-SAME: mma = "mma_sync", copy = "cp_async", warps = 1, producers = 0, stages = 1>, packed = true>
// CPU-SAME: mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>, packed = true>
func.func @one(%q: !q {tile.align = 16 : i64}, %k: !few {tile.align = 16 : i64}, %scale: f32, %o: !q, %l: !l) {
  fa.attention ins(%q, %k, %k : !q, !few, !few) scale(%scale : f32) outs(%o, %l : !q, !l) {indexing_maps = #maps}
  return
}

// No head shares keys with another.
// CHECK-LABEL: func.func @own_keys(
// CHECK: fa.schedule = #fa.schedule<tile_m = 16, tile_n = 64, plan = <{{[^<>]*}}>>
func.func @own_keys(%q: !q, %k: !few, %scale: f32, %o: !q, %l: !l) {
  fa.attention ins(%q, %k, %k : !q, !few, !few) scale(%scale : f32) outs(%o, %l : !q, !l) {indexing_maps = #own}
  return
}

// What the head decides keeps heads apart.
// CHECK-LABEL: func.func @heads(
// CHECK: fa.schedule = #fa.schedule<tile_m = 16, tile_n = 64, plan = <{{[^<>]*}}>>
func.func @heads(%q: !q, %k: !few, %scale: f32, %o: !q, %l: !l) {
  fa.attention ins(%q, %k, %k : !q, !few, !few) scale(%scale : f32)
    mask <affine_set<(b,h,m,n)[lq,lk] : (n - h >= 0)>> outs(%o, %l : !q, !l) {indexing_maps = #maps}
  return
}

// CHECK-LABEL: func.func @lengths(
// CHECK: fa.schedule = #fa.schedule<tile_m = 16, tile_n = 64, plan = <{{[^<>]*}}>>
func.func @lengths(%q: !q, %k: !few, %scale: f32, %x: memref<?xi32>, %o: !q, %l: !l) {
  fa.attention ins(%q, %k, %k : !q, !few, !few) scale(%scale : f32) lengths(%x, %x : memref<?xi32>, memref<?xi32>)
    outs(%o, %l : !q, !l) {indexing_maps = #maps}
  return
}

// Few rows are expected; one to pack is not known.
// CHECK-LABEL: func.func @few(
// CHECK: fa.schedule = #fa.schedule<tile_m = 16, tile_n = 64, plan = <{{[^<>]*}}>>
func.func @few(%q: !few, %scale: f32, %l: memref<?x?x?xf32>) {
  fa.attention ins(%q, %q, %q : !few, !few, !few) scale(%scale : f32) outs(%q, %l : !few, memref<?x?x?xf32>)
    {indexing_maps = #maps, fa.few_rows}
  return
}

// Heads are packed where that is wanted, and a key head is shared.
// CHECK-LABEL: func.func @pack(
// CHECK: fa.schedule = #fa.schedule<tile_m = 16, tile_n = 64, plan = <{{[^<>]*}}>, packed = true>
func.func @pack(%q: !few, %scale: f32, %l: memref<?x?x?xf32>) {
  fa.attention ins(%q, %q, %q : !few, !few, !few) scale(%scale : f32) outs(%q, %l : !few, memref<?x?x?xf32>)
    {indexing_maps = #maps, fa.few_rows, fa.pack_heads}
  return
}

// Rows and heads of o are no neighbours in the memory of a batch.
// CHECK-LABEL: func.func @apart(
// CHECK: fa.schedule = #fa.schedule<tile_m = 16, tile_n = 64, plan = <{{[^<>]*}}>>
func.func @apart(%q: !few, %scale: f32, %o: memref<?x64x?x?xf16>, %l: memref<?x?x?xf32>) {
  fa.attention ins(%q, %q, %q : !few, !few, !few) scale(%scale : f32) outs(%o, %l : memref<?x64x?x?xf16>, memref<?x?x?xf32>)
    {indexing_maps = [affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>, affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>,
                      affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>, affine_map<(b,h,m,n,d,e)[g] -> (m, e, b, h)>,
                      affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>], fa.few_rows, fa.pack_heads}
  return
}

// CHECK-LABEL: func.func @combine(
// GPU: fa.schedule = #fa.schedule<tile_m = 64, tile_n = 32, {{.*}} mma = "mma_sync", copy = "direct", warps = 1
// CPU: fa.schedule = #fa.schedule<tile_m = 16, tile_n = 64, {{.*}} mma = "vector", copy = "direct", warps = 1
func.func @combine(%op: memref<?x7x300xf32>, %lp: memref<?x7xf32>, %o: memref<7x300xf32>, %l: memref<7xf32>) {
  fa.combine ins(%op, %lp : memref<?x7x300xf32>, memref<?x7xf32>) outs(%o, %l : memref<7x300xf32>, memref<7xf32>)
    {indexing_maps = [affine_map<(s,m,e) -> (s, m, e)>, affine_map<(s,m,e) -> (s, m)>,
                      affine_map<(s,m,e) -> (m, e)>, affine_map<(s,m,e) -> (m)>]}
  return
}
