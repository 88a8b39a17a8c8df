// O = (X + A B^T)^T C summed over the rows of A, where X adds x(m) to row m: the
// second product takes the first one's result with the reduced dimension as its
// rows, and the accumulators belong to the columns.
func.func @transposed_chain(
    %a: memref<?x64xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %b: memref<?x64xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %c: memref<?x64xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %x: memref<?xf32, strided<[1], offset: ?>>,
    %o: memref<?x64xf32, strided<[?, 1], offset: ?>>)
    attributes {tile.plan = @PLAN@} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %m = memref.dim %a, %c0 : memref<?x64xf16, strided<[?, 1], offset: ?>>
  %n = memref.dim %b, %c0 : memref<?x64xf16, strided<[?, 1], offset: ?>>
  %columns = affine.apply affine_map<()[s0] -> (s0 ceildiv 128)>()[%n]
  %steps = affine.apply affine_map<()[s0] -> (s0 ceildiv 64)>()[%m]
  scf.forall (%j) in (%columns) {
    %n0 = affine.apply affine_map<(d0) -> (d0 * 128)>(%j)
    %none = arith.constant dense<0.0> : tensor<64x128xf32>
    %zero = arith.constant dense<0.0> : tensor<128x64xf32>
    %bt = tile.load %b[%n0, %c0] : memref<?x64xf16, strided<[?, 1], offset: ?>> -> tensor<128x64xf16>
    %r = scf.for %s = %c0 to %steps step %c1 iter_args(%acc = %zero) -> (tensor<128x64xf32>) {
      %m0 = affine.apply affine_map<(d0) -> (d0 * 64)>(%s)
      %at = tile.load %a[%m0, %c0] : memref<?x64xf16, strided<[?, 1], offset: ?>> -> tensor<64x64xf16>
      %p = tile.contract %at, %bt, %none {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]}
          : tensor<64x64xf16>, tensor<128x64xf16>, tensor<64x128xf32>
      %xt = tile.load %x[%m0] : memref<?xf32, strided<[1], offset: ?>> -> tensor<64xf32>
      %xs = tile.broadcast %xt dim 1 : tensor<64xf32> -> tensor<64x128xf32>
      %q = arith.addf %p, %xs : tensor<64x128xf32>
      %h = arith.truncf %q : tensor<64x128xf32> to tensor<64x128xf16>
      %ct = tile.load %c[%m0, %c0] : memref<?x64xf16, strided<[?, 1], offset: ?>> -> tensor<64x64xf16>
      %next = tile.contract %h, %ct, %acc {maps = [affine_map<(m, n, k) -> (k, m)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]}
          : tensor<64x128xf16>, tensor<64x64xf16>, tensor<128x64xf32>
      scf.yield %next : tensor<128x64xf32>
    }
    tile.store %r, %o[%n0, %c0] : tensor<128x64xf32>, memref<?x64xf32, strided<[?, 1], offset: ?>>
  }
  return
}
