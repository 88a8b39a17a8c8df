// RUN: fa-opt %s -split-input-file -verify-diagnostics -fa-online-softmax

// What fa-tile has not prepared is refused.

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]
#cpu = #fa.schedule<tile_m = 32, tile_n = 16, plan = #tile.plan<chip = "cpu",
  mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>

func.func @no_origin(%q: memref<?x5xf32>, %s: f32, %l: memref<?xf32>) {
  // expected-error @+1 {{has no origin or no index lengths; run fa-tile first}}
  fa.attention ins(%q, %q, %q : memref<?x5xf32>, memref<?x5xf32>, memref<?x5xf32>) scale(%s : f32)
    outs(%q, %l : memref<?x5xf32>, memref<?xf32>) {indexing_maps = #maps, fa.schedule = #cpu}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]
#cpu = #fa.schedule<tile_m = 32, tile_n = 16, plan = #tile.plan<chip = "cpu",
  mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>

func.func @too_many_rows(%q: memref<?x5xf32>, %s: f32, %l: memref<?xf32>, %i: index) {
  // expected-error @+1 {{has a window that may exceed the schedule's tile_m, 32; run fa-tile first}}
  fa.attention ins(%q, %q, %q : memref<?x5xf32>, memref<?x5xf32>, memref<?x5xf32>) scale(%s : f32)
    origin(%i, %i, %i) lengths(%i, %i : index, index)
    outs(%q, %l : memref<?x5xf32>, memref<?xf32>) {indexing_maps = #maps, fa.schedule = #cpu}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]

func.func @no_schedule(%q: memref<?x5xf32>, %s: f32, %l: memref<?xf32>) {
  // expected-error @+1 {{has no fa.schedule; run fa-select-schedule and fa-tile first}}
  fa.attention ins(%q, %q, %q : memref<?x5xf32>, memref<?x5xf32>, memref<?x5xf32>) scale(%s : f32)
    outs(%q, %l : memref<?x5xf32>, memref<?xf32>) {indexing_maps = #maps}
  return
}

// -----

// A static window of exactly one tile needs no fa-tile.
#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]
#cpu = #fa.schedule<tile_m = 32, tile_n = 16, plan = #tile.plan<chip = "cpu",
  mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>

func.func @one_tile(%q: memref<32x5xf32>, %s: f32, %l: memref<32xf32>, %i: index) {
  fa.attention ins(%q, %q, %q : memref<32x5xf32>, memref<32x5xf32>, memref<32x5xf32>) scale(%s : f32)
    origin(%i, %i, %i) lengths(%i, %i : index, index)
    outs(%q, %l : memref<32x5xf32>, memref<32xf32>) {indexing_maps = #maps, fa.schedule = #cpu}
  return
}
