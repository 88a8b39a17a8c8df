// O = P / rowsum(|P|) with P = A B, rows of at most 128 columns.
func.func @row_normalised(
    %a: memref<?x?xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %b: memref<?x128xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %o: memref<?x128xf32, strided<[?, 1], offset: ?>>)
    attributes {tile.plan = @PLAN@} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %m = memref.dim %a, %c0 : memref<?x?xf16, strided<[?, 1], offset: ?>>
  %k = memref.dim %a, %c1 : memref<?x?xf16, strided<[?, 1], offset: ?>>
  %rows = affine.apply affine_map<()[s0] -> (s0 ceildiv 128)>()[%m]
  %steps = affine.apply affine_map<()[s0] -> (s0 ceildiv 64)>()[%k]
  scf.forall (%i) in (%rows) {
    %m0 = affine.apply affine_map<(d0) -> (d0 * 128)>(%i)
    %zero = arith.constant dense<0.0> : tensor<128x128xf32>
    %p = scf.for %s = %c0 to %steps step %c1 iter_args(%acc = %zero) -> (tensor<128x128xf32>) {
      %k0 = affine.apply affine_map<(d0) -> (d0 * 64)>(%s)
      %at = tile.load %a[%m0, %k0] : memref<?x?xf16, strided<[?, 1], offset: ?>> -> tensor<128x64xf16>
      %bt = tile.load %b[%k0, %c0] : memref<?x128xf16, strided<[?, 1], offset: ?>> -> tensor<64x128xf16>
      %next = tile.contract %at, %bt, %acc {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]}
          : tensor<128x64xf16>, tensor<64x128xf16>, tensor<128x128xf32>
      scf.yield %next : tensor<128x128xf32>
    }
    %abs = math.absf %p : tensor<128x128xf32>
    %sum = tile.reduce add %abs dim 1 : tensor<128x128xf32> -> tensor<128xf32>
    %one = arith.constant dense<1.0> : tensor<128xf32>
    %inverse = arith.divf %one, %sum : tensor<128xf32>
    %scale = tile.broadcast %inverse dim 1 : tensor<128xf32> -> tensor<128x128xf32>
    %r = arith.mulf %p, %scale : tensor<128x128xf32>
    tile.store %r, %o[%m0, %c0] : tensor<128x128xf32>, memref<?x128xf32, strided<[?, 1], offset: ?>>
  }
  return
}
