// RUN: fa-opt %s --split-input-file --pass-pipeline='builtin.module(func.func(convert-tile-to-vector{vector-bits=512 registers=32 dot-bf16},cse))'

#mk = affine_map<(m, n, k) -> (m, k)>
#nk = affine_map<(m, n, k) -> (n, k)>
#kn = affine_map<(m, n, k) -> (k, n)>
#mn = affine_map<(m, n, k) -> (m, n)>

func.func @load(%a: memref<4x8xbf16>, %b: memref<8x32xbf16>, %c: memref<4x32xf32>) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant dense<0.0> : tensor<4x32xf32>
  %at = tile.load %a[%c0, %c0] : memref<4x8xbf16> -> tensor<4x8xbf16>
  %bt = tile.load %b[%c0, %c0] : memref<8x32xbf16> -> tensor<8x32xbf16>
  %p = tile.contract %at, %bt, %zero {maps = [#mk, #kn, #mn]}
      : tensor<4x8xbf16>, tensor<8x32xbf16>, tensor<4x32xf32>
  tile.store %p, %c[%c0, %c0] : tensor<4x32xf32>, memref<4x32xf32>
  return
}

// -----

#mk = affine_map<(m, n, k) -> (m, k)>
#kn = affine_map<(m, n, k) -> (k, n)>
#mn = affine_map<(m, n, k) -> (m, n)>

func.func @computed(%a: memref<4x8xbf16>, %b: memref<8x32xf32>, %c: memref<4x32xf32>) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant dense<0.0> : tensor<4x32xf32>
  %at = tile.load %a[%c0, %c0] : memref<4x8xbf16> -> tensor<4x8xbf16>
  %bt = tile.load %b[%c0, %c0] : memref<8x32xf32> -> tensor<8x32xf32>
  %t = arith.truncf %bt : tensor<8x32xf32> to tensor<8x32xbf16>
  %p = tile.contract %at, %t, %zero {maps = [#mk, #kn, #mn]}
      : tensor<4x8xbf16>, tensor<8x32xbf16>, tensor<4x32xf32>
  tile.store %p, %c[%c0, %c0] : tensor<4x32xf32>, memref<4x32xf32>
  return
}
