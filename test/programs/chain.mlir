// O = (A B^T) C without any normalisation: two chained products.
func.func @chain(
    %a: memref<?x64xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %b: memref<?x64xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %c: memref<?x64xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %o: memref<?x64xf32, strided<[?, 1], offset: ?>>)
    attributes {tile.plan = @PLAN@} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %m = memref.dim %a, %c0 : memref<?x64xf16, strided<[?, 1], offset: ?>>
  %n = memref.dim %b, %c0 : memref<?x64xf16, strided<[?, 1], offset: ?>>
  %rows = affine.apply affine_map<()[s0] -> (s0 ceildiv 128)>()[%m]
  %steps = affine.apply affine_map<()[s0] -> (s0 ceildiv 64)>()[%n]
  scf.forall (%i) in (%rows) {
    %m0 = affine.apply affine_map<(d0) -> (d0 * 128)>(%i)
    %zero = arith.constant dense<0.0> : tensor<128x64xf32>
    %at = tile.load %a[%m0, %c0] : memref<?x64xf16, strided<[?, 1], offset: ?>> -> tensor<128x64xf16>
    %r = scf.for %s = %c0 to %steps step %c1 iter_args(%acc = %zero) -> (tensor<128x64xf32>) {
      %n0 = affine.apply affine_map<(d0) -> (d0 * 64)>(%s)
      %bt = tile.load %b[%n0, %c0] : memref<?x64xf16, strided<[?, 1], offset: ?>> -> tensor<64x64xf16>
      %p = tile.contract %at, %bt, %zero {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]}
          : tensor<128x64xf16>, tensor<64x64xf16>, tensor<128x64xf32>
      %h = arith.truncf %p : tensor<128x64xf32> to tensor<128x64xf16>
      %ct = tile.load %c[%n0, %c0] : memref<?x64xf16, strided<[?, 1], offset: ?>> -> tensor<64x64xf16>
      %next = tile.contract %h, %ct, %acc {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]}
          : tensor<128x64xf16>, tensor<64x64xf16>, tensor<128x64xf32>
      scf.yield %next : tensor<128x64xf32>
    }
    tile.store %r, %o[%m0, %c0] : tensor<128x64xf32>, memref<?x64xf32, strided<[?, 1], offset: ?>>
  }
  return
}
