// C = A B + D E^T, any shape, in tiles with few rows: plans of eight warps spread
// the columns over warps, too, of right factors stored either way.
func.func @narrow_matmul(
    %a: memref<?x?xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %b: memref<?x?xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %d: memref<?x?xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %e: memref<?x?xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %c: memref<?x?xf32, strided<[?, 1], offset: ?>>)
    attributes {tile.plan = @PLAN@} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %m = memref.dim %a, %c0 : memref<?x?xf16, strided<[?, 1], offset: ?>>
  %k = memref.dim %a, %c1 : memref<?x?xf16, strided<[?, 1], offset: ?>>
  %n = memref.dim %b, %c1 : memref<?x?xf16, strided<[?, 1], offset: ?>>
  %rows = affine.apply affine_map<()[s0] -> (s0 ceildiv 64)>()[%m]
  %cols = affine.apply affine_map<()[s0] -> (s0 ceildiv 128)>()[%n]
  %steps = affine.apply affine_map<()[s0] -> (s0 ceildiv 64)>()[%k]
  scf.forall (%i, %j) in (%rows, %cols) {
    %m0 = affine.apply affine_map<(d0) -> (d0 * 64)>(%i)
    %n0 = affine.apply affine_map<(d0) -> (d0 * 128)>(%j)
    %zero = arith.constant dense<0.0> : tensor<64x128xf32>
    %r = scf.for %s = %c0 to %steps step %c1 iter_args(%acc = %zero) -> (tensor<64x128xf32>) {
      %k0 = affine.apply affine_map<(d0) -> (d0 * 64)>(%s)
      %at = tile.load %a[%m0, %k0] : memref<?x?xf16, strided<[?, 1], offset: ?>> -> tensor<64x64xf16>
      %bt = tile.load %b[%k0, %n0] : memref<?x?xf16, strided<[?, 1], offset: ?>> -> tensor<64x128xf16>
      %dt = tile.load %d[%m0, %k0] : memref<?x?xf16, strided<[?, 1], offset: ?>> -> tensor<64x64xf16>
      %et = tile.load %e[%n0, %k0] : memref<?x?xf16, strided<[?, 1], offset: ?>> -> tensor<128x64xf16>
      %one = tile.contract %at, %bt, %acc {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]}
          : tensor<64x64xf16>, tensor<64x128xf16>, tensor<64x128xf32>
      %next = tile.contract %dt, %et, %one {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]}
          : tensor<64x64xf16>, tensor<128x64xf16>, tensor<64x128xf32>
      scf.yield %next : tensor<64x128xf32>
    }
    tile.store %r, %c[%m0, %n0] : tensor<64x128xf32>, memref<?x?xf32, strided<[?, 1], offset: ?>>
  }
  return
}
