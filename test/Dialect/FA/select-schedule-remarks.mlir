// RUN: fa-opt %s --split-input-file --fa-select-schedule=chip=sm_90a --remarks-filter='fa-.*' -o /dev/null 2>&1 | FileCheck %s
// RUN: fa-opt %s --split-input-file --fa-select-schedule=chip=sm_90a -o /dev/null 2>&1 | FileCheck %s --check-prefix=SILENT --allow-empty
// SILENT-NOT: remark

#q = affine_map<(b, h, m, n, d, e) -> (b, m, h, d)>
#k = affine_map<(b, h, m, n, d, e) -> (b, n, h, d)>
#v = affine_map<(b, h, m, n, d, e) -> (b, n, h, e)>
#o = affine_map<(b, h, m, n, d, e) -> (b, m, h, e)>
#l = affine_map<(b, h, m, n, d, e) -> (b, h, m)>

// Aligned operands: TMA and wgmma. 4 * 128 FLOP per pair; 2 * 128 * 2 bytes for k and v of
// a key, as many for q and o of a query and 4 for lse; 989 / 3.35 = 295 FLOP per byte.
// CHECK: remark: [Analysis] roofline | Category:fa-select-schedule | Function=aligned
// CHECK-SAME: H100 SXM at 989 TFLOP/s and 3350 GB/s is bound by products from 295 FLOP/byte on
// CHECK-SAME: 0.50 * S: bound by products at S = 4096, by products from S = 593 on; one query has 1.00
// CHECK-SAME: bytes_per_key=512, bytes_per_query=516, flops_per_pair=512
// CHECK-NOT: [Missed]
// CHECK: remark: [Passed] schedule | Category:fa-select-schedule | Function=aligned | copy=tma, fixed_reference={{true|false}}, from=table, lazy_maximum={{true|false}}, mma=wgmma, overlap={{true|false}}, partial_sums={{true|false}}, producers=4, sequential=false, stages={{[0-9]}}, tile_m=128, tile_n={{[0-9]+}}, warps=8
func.func @aligned(%q: memref<?x?x?x128xf16> {tile.align = 16}, %k: memref<?x?x?x128xf16> {tile.align = 16},
    %v: memref<?x?x?x128xf16> {tile.align = 16}, %scale: f32, %o: memref<?x?x?x128xf16> {tile.align = 16}, %l: memref<?x?x?xf32>) {
  fa.attention ins(%q, %k, %v : memref<?x?x?x128xf16>, memref<?x?x?x128xf16>, memref<?x?x?x128xf16>)
    scale(%scale : f32)
    outs(%o, %l : memref<?x?x?x128xf16>, memref<?x?x?xf32>)
    {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}

// -----

#q = affine_map<(b, h, m, n, d, e) -> (b, m, h, d)>
#k = affine_map<(b, h, m, n, d, e) -> (b, n, h, d)>
#v = affine_map<(b, h, m, n, d, e) -> (b, n, h, e)>
#o = affine_map<(b, h, m, n, d, e) -> (b, m, h, e)>
#l = affine_map<(b, h, m, n, d, e) -> (b, h, m)>

// Nothing is promised: what is missed, why, and what would help; each reason once.
// CHECK: [Missed] schedule | Category:fa-select-schedule | Function=any | Reason="tiles of 128 x {{[0-9]+}} with wgmma and tma are not used: tensor maps need addresses and strides of 16 bytes", Suggestion="tile.align = 16 on the function's arguments"
// CHECK-NOT: tensor maps
// CHECK: [Missed] schedule | Category:fa-select-schedule | Function=any | Reason="tiles of {{.*}} with mma_sync and cp_async are not used: asynchronous copies need addresses and strides of 4 bytes"
// CHECK: [Passed] schedule | Category:fa-select-schedule | Function=any | copy=direct, fixed_reference=false, from=table, lazy_maximum={{true|false}}, mma=mma_sync
func.func @any(%q: memref<?x?x?x128xf16>, %k: memref<?x?x?x128xf16>,
    %v: memref<?x?x?x128xf16>, %scale: f32, %o: memref<?x?x?x128xf16>, %l: memref<?x?x?xf32>) {
  fa.attention ins(%q, %k, %v : memref<?x?x?x128xf16>, memref<?x?x?x128xf16>, memref<?x?x?x128xf16>)
    scale(%scale : f32)
    outs(%o, %l : memref<?x?x?x128xf16>, memref<?x?x?xf32>)
    {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}
