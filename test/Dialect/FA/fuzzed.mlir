// A score region that uses an argument of the function around it: it is no
// argument of the region, by whose number a capture is found (scripts/fuzz.sh).
// RUN: fa-opt %s "--fa-lower-to-tile=chip=cpu" -o /dev/null

#maps = [affine_map<(b,h,m,n,d,e) -> (m, d)>, affine_map<(b,h,m,n,d,e) -> (n, d)>,
         affine_map<(b,h,m,n,d,e) -> (n, e)>, affine_map<(b,h,m,n,d,e) -> (m, e)>, affine_map<(b,h,m,n,d,e) -> (m)>]
func.func @factor(%q: memref<?x8xf32>, %k: memref<?x8xf32>, %v: memref<?x8xf32>, %scale: f32, %o: memref<?x8xf32>,
                  %lse: memref<?xf32>, %w: index, %factor: f32) {
  fa.attention ins(%q, %k, %v : memref<?x8xf32>, memref<?x8xf32>, memref<?x8xf32>) scale(%scale : f32)
    outs(%o, %lse : memref<?x8xf32>, memref<?xf32>) {indexing_maps = #maps}
    score {
    ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index):
      %y = arith.mulf %s, %factor : f32
      fa.yield %y : f32
    }
  return
}
