// O = (P / S)^T C with P = A B^T and S(m) = 1 + sum over n of |P(m, n)|: two
// launches, since every block of the second needs all of S. The first runs over
// rows, the second over columns.
func.func @normalised_chain(
    %a: memref<?x64xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %b: memref<?x64xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %c: memref<?x64xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %sums: memref<?xf32, strided<[1], offset: ?>>,
    %o: memref<?x64xf32, strided<[?, 1], offset: ?>>)
    attributes {tile.plan = @PLAN@} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %m = memref.dim %a, %c0 : memref<?x64xf16, strided<[?, 1], offset: ?>>
  %n = memref.dim %b, %c0 : memref<?x64xf16, strided<[?, 1], offset: ?>>
  %rows = affine.apply affine_map<()[s0] -> (s0 ceildiv 128)>()[%m]
  %row_steps = affine.apply affine_map<()[s0] -> (s0 ceildiv 64)>()[%n]
  scf.forall (%i) in (%rows) {
    %m0 = affine.apply affine_map<(d0) -> (d0 * 128)>(%i)
    %one = arith.constant dense<1.0> : tensor<128xf32>
    %none = arith.constant dense<0.0> : tensor<128x64xf32>
    %at = tile.load %a[%m0, %c0] : memref<?x64xf16, strided<[?, 1], offset: ?>> -> tensor<128x64xf16>
    %sum = scf.for %s = %c0 to %row_steps step %c1 iter_args(%acc = %one) -> (tensor<128xf32>) {
      %n0 = affine.apply affine_map<(d0) -> (d0 * 64)>(%s)
      %bt = tile.load %b[%n0, %c0] : memref<?x64xf16, strided<[?, 1], offset: ?>> -> tensor<64x64xf16>
      %p = tile.contract %at, %bt, %none {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]}
          : tensor<128x64xf16>, tensor<64x64xf16>, tensor<128x64xf32>
      %abs = math.absf %p : tensor<128x64xf32>
      %part = tile.reduce add %abs dim 1 : tensor<128x64xf32> -> tensor<128xf32>
      %next = arith.addf %acc, %part : tensor<128xf32>
      scf.yield %next : tensor<128xf32>
    }
    tile.store %sum, %sums[%m0] : tensor<128xf32>, memref<?xf32, strided<[1], offset: ?>>
  }
  %columns = affine.apply affine_map<()[s0] -> (s0 ceildiv 128)>()[%n]
  %column_steps = affine.apply affine_map<()[s0] -> (s0 ceildiv 64)>()[%m]
  scf.forall (%j) in (%columns) {
    %n0 = affine.apply affine_map<(d0) -> (d0 * 128)>(%j)
    %none = arith.constant dense<0.0> : tensor<64x128xf32>
    %zero = arith.constant dense<0.0> : tensor<128x64xf32>
    %one = arith.constant dense<1.0> : tensor<64xf32>
    %bt = tile.load %b[%n0, %c0] : memref<?x64xf16, strided<[?, 1], offset: ?>> -> tensor<128x64xf16>
    %r = scf.for %s = %c0 to %column_steps step %c1 iter_args(%acc = %zero) -> (tensor<128x64xf32>) {
      %m0 = affine.apply affine_map<(d0) -> (d0 * 64)>(%s)
      %at = tile.load %a[%m0, %c0] : memref<?x64xf16, strided<[?, 1], offset: ?>> -> tensor<64x64xf16>
      %p = tile.contract %at, %bt, %none {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]}
          : tensor<64x64xf16>, tensor<128x64xf16>, tensor<64x128xf32>
      %sum = tile.load %sums[%m0] : memref<?xf32, strided<[1], offset: ?>> -> tensor<64xf32>
      // Rows past the end read 0.
      %safe = arith.maximumf %sum, %one : tensor<64xf32>
      %inverse = arith.divf %one, %safe : tensor<64xf32>
      %scale = tile.broadcast %inverse dim 1 : tensor<64xf32> -> tensor<64x128xf32>
      %q = arith.mulf %p, %scale : tensor<64x128xf32>
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
