// RUN: fa-opt %s -split-input-file -fa-select-schedule=chip=sm_75 -verify-diagnostics

// What sm_75 does not multiply is refused by name.

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]

func.func @bf16(%q: memref<?x64xbf16>, %s: f32, %l: memref<?xf32>) {
  // expected-error @+1 {{has element type 'bf16', which chip sm_75 has no schedule for; use f16, or chip cpu or sm_80 and newer, which have bf16}}
  fa.attention ins(%q, %q, %q : memref<?x64xbf16>, memref<?x64xbf16>, memref<?x64xbf16>) scale(%s : f32)
    outs(%q, %l : memref<?x64xbf16>, memref<?xf32>) {indexing_maps = #maps}
  return
}

// -----

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>,
         affine_map<(b,h,m,n,d,e) -> (m)>]

func.func @f32(%q: memref<?x64xf32>, %s: f32, %l: memref<?xf32>) {
  // expected-error @+1 {{has element type 'f32', which chip sm_75 has no schedule for; use f16, or chip cpu}}
  fa.attention ins(%q, %q, %q : memref<?x64xf32>, memref<?x64xf32>, memref<?x64xf32>) scale(%s : f32)
    outs(%q, %l : memref<?x64xf32>, memref<?xf32>) {indexing_maps = #maps}
  return
}
