// C = A B, 128 columns, with the reduced dimension split over the grid: the first
// launch writes zeros, the second adds the product of each slice to them.
func.func @split_matmul(
    %a: memref<?x?xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %b: memref<?x128xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %c: memref<?x128xf32, strided<[?, 1], offset: ?>> {tile.align = 16 : i64})
    attributes {tile.plan = @PLAN@} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %m = memref.dim %a, %c0 : memref<?x?xf16, strided<[?, 1], offset: ?>>
  %k = memref.dim %a, %c1 : memref<?x?xf16, strided<[?, 1], offset: ?>>
  %rows = affine.apply affine_map<()[s0] -> (s0 ceildiv 128)>()[%m]
  %slices = affine.apply affine_map<()[s0] -> (s0 ceildiv 64)>()[%k]
  scf.forall (%i) in (%rows) {
    %m0 = affine.apply affine_map<(d0) -> (d0 * 128)>(%i)
    %zero = arith.constant dense<0.0> : tensor<128x128xf32>
    tile.store %zero, %c[%m0, %c0] : tensor<128x128xf32>, memref<?x128xf32, strided<[?, 1], offset: ?>>
  }
  scf.forall (%i, %s) in (%rows, %slices) {
    %m0 = affine.apply affine_map<(d0) -> (d0 * 128)>(%i)
    %k0 = affine.apply affine_map<(d0) -> (d0 * 64)>(%s)
    %zero = arith.constant dense<0.0> : tensor<128x128xf32>
    %at = tile.load %a[%m0, %k0] : memref<?x?xf16, strided<[?, 1], offset: ?>> -> tensor<128x64xf16>
    %bt = tile.load %b[%k0, %c0] : memref<?x128xf16, strided<[?, 1], offset: ?>> -> tensor<64x128xf16>
    %r = tile.contract %at, %bt, %zero {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]}
        : tensor<128x64xf16>, tensor<64x128xf16>, tensor<128x128xf32>
    tile.accumulate %r, %c[%m0, %c0] : tensor<128x128xf32>, memref<?x128xf32, strided<[?, 1], offset: ?>>
  }
  return
}
