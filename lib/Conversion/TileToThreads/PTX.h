//===- PTX.h - The instructions that NVVM operations cannot say -*- C++ -*-===//
//
// Every inline assembly form of the project is made here.
//
//===----------------------------------------------------------------------===//

#ifndef FA_CONVERSION_TILETOTHREADS_PTX_H
#define FA_CONVERSION_TILETOTHREADS_PTX_H

#include "mlir/IR/Builders.h"

namespace mlir::tl::ptx {

/// One warp group's product of 64 x n x (16 * steps), issued and committed.
struct Wgmma {
  int64_t n;
  Type elementType; // f16 or bf16
  // Operand stored with k as its rows.
  bool transposeA = false, transposeB = false;
  /// Descriptor of A and the offset of each k step in 16-byte units; or A in
  /// registers: four 32-bit words per k step.
  Value descA;
  SmallVector<int64_t> stepsA;
  SmallVector<Value> registersA;
  Value descB;
  SmallVector<int64_t> stepsB;
};

/// `wgmma.mma_async` for every k step and `wgmma.commit_group`, as one block of
/// assembly so that the descriptor additions stay on the uniform path. An empty
/// `acc` starts from zero. Gives n / 2 accumulators.
SmallVector<Value> wgmma(OpBuilder &builder, Location loc, const Wgmma &product,
                         ValueRange acc);

/// `wgmma.fence`; passes `values` through so that nothing moves across.
SmallVector<Value> wgmmaFence(OpBuilder &builder, Location loc,
                              ValueRange values);

/// `wgmma.wait_group pending`; gives the values that are then complete.
SmallVector<Value> wgmmaWait(OpBuilder &builder, Location loc, int64_t pending,
                             ValueRange values);

/// Spins until the phase of parity `parity` (i32) of `barrier` is complete.
void barrierWait(OpBuilder &builder, Location loc, Value barrier, Value parity);

/// Arrives once at `barrier` if `condition` (i1).
void barrierArrive(OpBuilder &builder, Location loc, Value barrier,
                   Value condition);

/// Arrives at `barrier` and expects `bytes` more bytes of copies.
void barrierExpect(OpBuilder &builder, Location loc, Value barrier,
                   int64_t bytes);

/// Copies the box at `coordinates` (i32, innermost first) of the tensor map to
/// `dest` and counts its bytes at `barrier`.
void tensorLoad(OpBuilder &builder, Location loc, Value dest, Value map,
                ValueRange coordinates, Value barrier);

/// Starts to copy the box at `coordinates` (i32, innermost first) of the tensor
/// map from `source`, in shared memory; part of the thread's open group of bulk
/// copies.
void tensorStore(OpBuilder &builder, Location loc, Value source, Value map,
                 ValueRange coordinates);

/// Adds f32 `values` (one, two or four) to memory from `pointer` on, in no
/// order with other accesses; several at once need sm_90.
void reduceAdd(OpBuilder &builder, Location loc, Value pointer,
               ValueRange values);

/// Starts to add `bytes` (i32, a multiple of 16) of f32 from `source`, in
/// shared memory, to `dest`; part of the thread's open group of bulk copies.
void bulkReduceAdd(OpBuilder &builder, Location loc, Value dest, Value source,
                   Value bytes);

} // namespace mlir::tl::ptx

#endif // FA_CONVERSION_TILETOTHREADS_PTX_H
