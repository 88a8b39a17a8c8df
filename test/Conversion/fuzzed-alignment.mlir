// An alignment at the end of 64 bits once overflowed (scripts/fuzz.sh found it).
// RUN: fa-opt %s --fa-lower-to-nvvm=chip=sm_80 | FileCheck %s

#q = affine_map<(b, h, m, n, d, e) -> (b, m, h, d)>
#k = affine_map<(b, h, m, n, d, e) -> (b, n, h, d)>
#l = affine_map<(b, h, m, n, d, e) -> (b, h, m)>
#o = affine_map<(b, h, m, n, d, e) -> (b, m, h, e)>
#v = affine_map<(b, h, m, n, d, e) -> (b, n, h, e)>
!t = memref<?x?x?x16xf16>
// CHECK: llvm.func @aligned
func.func @aligned(%q: !t {tile.align = 16}, %k: !t {tile.align = 16}, %v: !t {tile.align = 16}, %scale: f32,
                   %o: !t {tile.align = 9223372036854775807}, %l: memref<?x?x?xf32>) {
  fa.attention ins(%q, %k, %v : !t, !t, !t) scale(%scale : f32) outs(%o, %l : !t, memref<?x?x?xf32>)
    {indexing_maps = [#q, #k, #v, #o, #l]}
  return
}
