// C = max(A, 0) max(B, 0), any shape: both factors are computed, and products take
// the right one from shared memory only.
func.func @rectified_matmul(
    %a: memref<?x?xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %b: memref<?x?xf16, strided<[?, 1], offset: ?>> {tile.align = 16 : i64},
    %c: memref<?x?xf32, strided<[?, 1], offset: ?>>)
    attributes {tile.plan = @PLAN@} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %m = memref.dim %a, %c0 : memref<?x?xf16, strided<[?, 1], offset: ?>>
  %k = memref.dim %a, %c1 : memref<?x?xf16, strided<[?, 1], offset: ?>>
  %n = memref.dim %b, %c1 : memref<?x?xf16, strided<[?, 1], offset: ?>>
  %rows = affine.apply affine_map<()[s0] -> (s0 ceildiv 64)>()[%m]
  %cols = affine.apply affine_map<()[s0] -> (s0 ceildiv 64)>()[%n]
  %steps = affine.apply affine_map<()[s0] -> (s0 ceildiv 64)>()[%k]
  scf.forall (%i, %j) in (%rows, %cols) {
    %m0 = affine.apply affine_map<(d0) -> (d0 * 64)>(%i)
    %n0 = affine.apply affine_map<(d0) -> (d0 * 64)>(%j)
    %zero = arith.constant dense<0.0> : tensor<64x64xf32>
    %r = scf.for %s = %c0 to %steps step %c1 iter_args(%acc = %zero) -> (tensor<64x64xf32>) {
      %k0 = affine.apply affine_map<(d0) -> (d0 * 64)>(%s)
      %at = tile.load %a[%m0, %k0] : memref<?x?xf16, strided<[?, 1], offset: ?>> -> tensor<64x64xf16>
      %bt = tile.load %b[%k0, %n0] : memref<?x?xf16, strided<[?, 1], offset: ?>> -> tensor<64x64xf16>
      %none = arith.constant dense<0.0> : tensor<64x64xf16>
      %ar = arith.maximumf %at, %none : tensor<64x64xf16>
      %nothing = arith.constant dense<0.0> : tensor<64x64xf16>
      %br = arith.maximumf %bt, %nothing : tensor<64x64xf16>
      %next = tile.contract %ar, %br, %acc {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]}
          : tensor<64x64xf16>, tensor<64x64xf16>, tensor<64x64xf32>
      scf.yield %next : tensor<64x64xf32>
    }
    tile.store %r, %c[%m0, %n0] : tensor<64x64xf32>, memref<?x?xf32, strided<[?, 1], offset: ?>>
  }
  return
}
