// RUN: fa-opt %s --tile-outline-launches --split-input-file --verify-diagnostics

func.func @between(%x: memref<?xf32>, %v: f32) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.forall (%i) in (%c1) {
  }
  // expected-error @+1 {{stands between launches and touches memory; move it into one of the scf.forall}}
  memref.store %v, %x[%c0] : memref<?xf32>
  scf.forall (%i) in (%c1) {
  }
  return
}

// -----

func.func @handed(%x: tensor<4xf32>, %y: memref<4xf32>) {
  %c1 = arith.constant 1 : index
  // expected-error @+1 {{is one of several launches and has results; launches hand values over in memrefs}}
  %r = scf.forall (%i) in (%c1) shared_outs(%o = %x) -> tensor<4xf32> {
    scf.forall.in_parallel {
    }
  }
  scf.forall (%i) in (%c1) {
  }
  return
}

// -----

// expected-error @+1 {{has several scf.forall and returns values; what is launched writes its results to memrefs}}
func.func @returns() -> f32 {
  %c1 = arith.constant 1 : index
  %f = arith.constant 1.0 : f32
  scf.forall (%i) in (%c1) {
  }
  scf.forall (%i) in (%c1) {
  }
  return %f : f32
}
