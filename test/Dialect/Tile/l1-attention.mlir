// RUN: fa-opt %s | fa-opt | FileCheck %s

// What fa-online-softmax emits for one program over 128x64 tiles, f16, D = 64,
// (B, S, H, D) layout, no mask beyond the ragged end.

// CHECK-LABEL: func.func @attention
func.func @attention(
    %q: memref<?x?x?x64xf16, strided<[?, ?, ?, 1], offset: ?>>,
    %k: memref<?x?x?x64xf16, strided<[?, ?, ?, 1], offset: ?>>,
    %v: memref<?x?x?x64xf16, strided<[?, ?, ?, 1], offset: ?>>,
    %scale: f32,
    %o: memref<?x?x?x64xf16, strided<[?, ?, ?, 1], offset: ?>>,
    %lse: memref<?x?x?xf32, strided<[?, ?, 1], offset: ?>>)
    attributes {tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync",
      copy = "cp_async", warps = 4, producers = 0, stages = 2>} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %batch = memref.dim %q, %c0 : memref<?x?x?x64xf16, strided<[?, ?, ?, 1], offset: ?>>
  %lq = memref.dim %q, %c1 : memref<?x?x?x64xf16, strided<[?, ?, ?, 1], offset: ?>>
  %heads = memref.dim %q, %c2 : memref<?x?x?x64xf16, strided<[?, ?, ?, 1], offset: ?>>
  %kheads = memref.dim %k, %c2 : memref<?x?x?x64xf16, strided<[?, ?, ?, 1], offset: ?>>
  %lk = memref.dim %k, %c1 : memref<?x?x?x64xf16, strided<[?, ?, ?, 1], offset: ?>>
  %g = arith.divui %heads, %kheads : index
  // CHECK: scf.forall (%[[B:.*]], %[[H:.*]], %[[I:.*]]) in
  %blocks = affine.apply affine_map<()[s0] -> (s0 ceildiv 128)>()[%lq]
  scf.forall (%b, %h, %i) in (%batch, %heads, %blocks) {
    %hk = arith.divui %h, %g : index
    %m0 = affine.apply affine_map<(d0) -> (d0 * 128)>(%i)
    %qs = memref.subview %q[%b, 0, %h, 0] [1, %lq, 1, 64] [1, 1, 1, 1]
        : memref<?x?x?x64xf16, strided<[?, ?, ?, 1], offset: ?>> to memref<?x64xf16, strided<[?, 1], offset: ?>>
    %ks = memref.subview %k[%b, 0, %hk, 0] [1, %lk, 1, 64] [1, 1, 1, 1]
        : memref<?x?x?x64xf16, strided<[?, ?, ?, 1], offset: ?>> to memref<?x64xf16, strided<[?, 1], offset: ?>>
    %vs = memref.subview %v[%b, 0, %hk, 0] [1, %lk, 1, 64] [1, 1, 1, 1]
        : memref<?x?x?x64xf16, strided<[?, ?, ?, 1], offset: ?>> to memref<?x64xf16, strided<[?, 1], offset: ?>>
    %os = memref.subview %o[%b, 0, %h, 0] [1, %lq, 1, 64] [1, 1, 1, 1]
        : memref<?x?x?x64xf16, strided<[?, ?, ?, 1], offset: ?>> to memref<?x64xf16, strided<[?, 1], offset: ?>>
    %ls = memref.subview %lse[%b, %h, 0] [1, 1, %lq] [1, 1, 1]
        : memref<?x?x?xf32, strided<[?, ?, 1], offset: ?>> to memref<?xf32, strided<[1], offset: ?>>
    // CHECK: tile.load {{.*}} -> tensor<128x64xf16>
    %qt = tile.load %qs[%m0, %c0] : memref<?x64xf16, strided<[?, 1], offset: ?>> -> tensor<128x64xf16>
    %zero = arith.constant dense<0.0> : tensor<128x64xf32>
    %ninf = arith.constant dense<0xFF800000> : tensor<128xf32>
    %zero1 = arith.constant dense<0.0> : tensor<128xf32>
    %ninf2 = arith.constant dense<0xFF800000> : tensor<128x64xf32>
    %log2e = arith.constant dense<1.44269504> : tensor<128xf32>
    %log2e2 = arith.constant dense<1.44269504> : tensor<128x64xf32>
    %ln2 = arith.constant dense<0.69314718> : tensor<128xf32>
    %scale2 = tile.splat %scale : f32 -> tensor<128x64xf32>
    %lk32 = arith.index_cast %lk : index to i32
    %lkt = tile.splat %lk32 : i32 -> tensor<128x64xi32>
    %col = tile.iota dim 1 : tensor<128x64xi32>
    %jend = affine.apply affine_map<()[s0] -> (s0 ceildiv 64)>()[%lk]
    %r:3 = scf.for %j = %c0 to %jend step %c1
        iter_args(%acc = %zero, %mx = %ninf, %sum = %zero1)
        -> (tensor<128x64xf32>, tensor<128xf32>, tensor<128xf32>) {
      %n0 = affine.apply affine_map<(d0) -> (d0 * 64)>(%j)
      %kt = tile.load %ks[%n0, %c0] : memref<?x64xf16, strided<[?, 1], offset: ?>> -> tensor<64x64xf16>
      %s = tile.contract %qt, %kt, %zero {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]}
          : tensor<128x64xf16>, tensor<64x64xf16>, tensor<128x64xf32>
      %s1 = arith.mulf %s, %scale2 fastmath<contract> : tensor<128x64xf32>
      %n032 = arith.index_cast %n0 : index to i32
      %n0t = tile.splat %n032 : i32 -> tensor<128x64xi32>
      %n = arith.addi %n0t, %col : tensor<128x64xi32>
      %keep = arith.cmpi slt, %n, %lkt : tensor<128x64xi32>
      %s2 = arith.select %keep, %s1, %ninf2 : tensor<128x64xi1>, tensor<128x64xf32>
      %bm = tile.reduce max %s2 dim 1 : tensor<128x64xf32> -> tensor<128xf32>
      %nm = arith.maxnumf %mx, %bm : tensor<128xf32>
      %dead = arith.cmpf oeq, %nm, %ninf : tensor<128xf32>
      %ref = arith.select %dead, %zero1, %nm : tensor<128xi1>, tensor<128xf32>
      %ref2 = arith.mulf %ref, %log2e fastmath<contract> : tensor<128xf32>
      %refb = tile.broadcast %ref2 dim 1 : tensor<128xf32> -> tensor<128x64xf32>
      %s3 = arith.mulf %s2, %log2e2 fastmath<contract> : tensor<128x64xf32>
      %s4 = arith.subf %s3, %refb fastmath<contract> : tensor<128x64xf32>
      %p = math.exp2 %s4 : tensor<128x64xf32>
      %m3 = arith.mulf %mx, %log2e fastmath<contract> : tensor<128xf32>
      %m4 = arith.subf %m3, %ref2 fastmath<contract> : tensor<128xf32>
      %alpha = math.exp2 %m4 : tensor<128xf32>
      %bs = tile.reduce add %p dim 1 : tensor<128x64xf32> -> tensor<128xf32>
      %sum1 = arith.mulf %sum, %alpha fastmath<contract> : tensor<128xf32>
      %sum2 = arith.addf %sum1, %bs fastmath<contract> : tensor<128xf32>
      %alphab = tile.broadcast %alpha dim 1 : tensor<128xf32> -> tensor<128x64xf32>
      %acc1 = arith.mulf %acc, %alphab : tensor<128x64xf32>
      %vt = tile.load %vs[%n0, %c0] : memref<?x64xf16, strided<[?, 1], offset: ?>> -> tensor<64x64xf16>
      %ph = arith.truncf %p : tensor<128x64xf32> to tensor<128x64xf16>
      %acc2 = tile.contract %ph, %vt, %acc1 {maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]}
          : tensor<128x64xf16>, tensor<64x64xf16>, tensor<128x64xf32>
      scf.yield %acc2, %nm, %sum2 : tensor<128x64xf32>, tensor<128xf32>, tensor<128xf32>
    }
    %one = arith.constant dense<1.0> : tensor<128xf32>
    %isdead = arith.cmpf oeq, %r#2, %zero1 : tensor<128xf32>
    %safe = arith.select %isdead, %one, %r#2 : tensor<128xi1>, tensor<128xf32>
    %inv = arith.divf %one, %safe : tensor<128xf32>
    %invb = tile.broadcast %inv dim 1 : tensor<128xf32> -> tensor<128x64xf32>
    %of = arith.mulf %r#0, %invb : tensor<128x64xf32>
    %oh = arith.truncf %of : tensor<128x64xf32> to tensor<128x64xf16>
    tile.store %oh, %os[%m0, %c0] : tensor<128x64xf16>, memref<?x64xf16, strided<[?, 1], offset: ?>>
    %l2 = math.log2 %safe : tensor<128xf32>
    %ln = arith.mulf %l2, %ln2 fastmath<contract> : tensor<128xf32>
    %lse0 = arith.addf %ln, %r#1 fastmath<contract> : tensor<128xf32>
    %lset = arith.select %isdead, %ninf, %lse0 : tensor<128xi1>, tensor<128xf32>
    // CHECK: tile.store {{.*}} : tensor<128xf32>
    tile.store %lset, %ls[%m0] : tensor<128xf32>, memref<?xf32, strided<[1], offset: ?>>
  }
  return
}
