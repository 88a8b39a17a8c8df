// X = P C and Y = P^T D with P = A B^T, computed once: the blocks of P are a left
// factor as they are, and with the reduced dimension as their rows. X stays in
// the loop over columns, Y is added to memory, which the first launch zeroes.
func.func @both_ways(
    %a: memref<?x64xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %b: memref<?x64xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %c: memref<?x64xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %d: memref<?x128xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %x: memref<?x64xf32, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %y: memref<?x128xf32, strided<[?, 1], offset: ?>> {tile.align = 16 : i64})
    attributes {tile.plan = @PLAN@} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %m = memref.dim %a, %c0 : memref<?x64xf16, strided<[?, 1], offset: ?>>
  %n = memref.dim %b, %c0 : memref<?x64xf16, strided<[?, 1], offset: ?>>
  %rows = affine.apply affine_map<()[s0] -> (s0 ceildiv 128)>()[%m]
  %blocks = affine.apply affine_map<()[s0] -> (s0 ceildiv 128)>()[%n]
  %steps = affine.apply affine_map<()[s0] -> (s0 ceildiv 64)>()[%n]
  scf.forall (%i) in (%blocks) {
    %n0 = affine.apply affine_map<(d0) -> (d0 * 128)>(%i)
    %zero = arith.constant dense<0.0> : tensor<128x128xf32>
    tile.store %zero, %y[%n0, %c0] : tensor<128x128xf32>, memref<?x128xf32, strided<[?, 1], offset: ?>>
  }
  scf.forall (%i) in (%rows) {
    %m0 = affine.apply affine_map<(d0) -> (d0 * 128)>(%i)
    %zero = arith.constant dense<0.0> : tensor<128x64xf32>
    %none = arith.constant dense<0.0> : tensor<64x128xf32>
    %at = tile.load %a[%m0, %c0] : memref<?x64xf16, strided<[?, 1], offset: ?>> -> tensor<128x64xf16>
    %dt = tile.load %d[%m0, %c0] : memref<?x128xf16, strided<[?, 1], offset: ?>> -> tensor<128x128xf16>
    %r = scf.for %s = %c0 to %steps step %c1 iter_args(%acc = %zero) -> (tensor<128x64xf32>) {
      %n0 = affine.apply affine_map<(d0) -> (d0 * 64)>(%s)
      %bt = tile.load %b[%n0, %c0] : memref<?x64xf16, strided<[?, 1], offset: ?>> -> tensor<64x64xf16>
      %p = tile.contract %at, %bt, %zero {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]}
          : tensor<128x64xf16>, tensor<64x64xf16>, tensor<128x64xf32>
      %h = arith.truncf %p : tensor<128x64xf32> to tensor<128x64xf16>
      %ct = tile.load %c[%n0, %c0] : memref<?x64xf16, strided<[?, 1], offset: ?>> -> tensor<64x64xf16>
      %next = tile.contract %h, %ct, %acc {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]}
          : tensor<128x64xf16>, tensor<64x64xf16>, tensor<128x64xf32>
      %part = tile.contract %h, %dt, %none {maps = [affine_map<(m, n, k) -> (k, m)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]}
          : tensor<128x64xf16>, tensor<128x128xf16>, tensor<64x128xf32>
      tile.accumulate %part, %y[%n0, %c0] : tensor<64x128xf32>, memref<?x128xf32, strided<[?, 1], offset: ?>>
      scf.yield %next : tensor<128x64xf32>
    }
    tile.store %r, %x[%m0, %c0] : tensor<128x64xf32>, memref<?x64xf32, strided<[?, 1], offset: ?>>
  }
  return
}
