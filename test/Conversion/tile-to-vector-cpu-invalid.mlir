// RUN: fa-opt %s --split-input-file --verify-diagnostics --pass-pipeline='builtin.module(func.func(convert-tile-to-vector))'

func.func @rank(%a: memref<2x2x2xf32>, %b: memref<2x2x2xf32>) {
  %c0 = arith.constant 0 : index
  // expected-error @below {{has rank 3; the CPU lowering handles vectors and matrices}}
  %t = tile.load %a[%c0, %c0, %c0] : memref<2x2x2xf32> -> tensor<2x2x2xf32>
  tile.store %t, %b[%c0, %c0, %c0] : tensor<2x2x2xf32>, memref<2x2x2xf32>
  return
}

// -----

func.func @constant(%b: memref<2xf32>) {
  %c0 = arith.constant 0 : index
  // expected-error @below {{a constant tile must be a splat}}
  %t = arith.constant dense<[1.0, 2.0]> : tensor<2xf32>
  tile.store %t, %b[%c0] : tensor<2xf32>, memref<2xf32>
  return
}

// -----

func.func @foreign(%b: memref<4xf32>, %m: memref<2x2xf32>) {
  %c0 = arith.constant 0 : index
  %c = tile.load %m[%c0, %c0] : memref<2x2xf32> -> tensor<2x2xf32>
  // expected-error @below {{on tiles is not supported by the CPU lowering}}
  %t = tensor.collapse_shape %c [[0, 1]] : tensor<2x2xf32> into tensor<4xf32>
  tile.store %t, %b[%c0] : tensor<4xf32>, memref<4xf32>
  return
}
