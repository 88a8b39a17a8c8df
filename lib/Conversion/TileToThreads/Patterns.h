//===- Patterns.h - Distribution of tile operations to threads --*- C++ -*-===//

#ifndef FA_CONVERSION_TILETOTHREADS_PATTERNS_H
#define FA_CONVERSION_TILETOTHREADS_PATTERNS_H

#include "fa/Dialect/Tile/IR/MergedView.h"
#include "fa/Dialect/Tile/IR/TensorView.h"
#include "fa/Dialect/Tile/IR/Tile.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Transforms/DialectConversion.h"

namespace mlir::tl {

/// Who executes a region: the threads of its role, or of the whole block.
struct Team {
  Value warp;    // i32, first warp of the team is 0, uniform
  Value thread;  // i32, first thread of the team is 0
  int64_t warps; // how many
};

/// What the patterns know about the kernel they convert.
struct KernelContext {
  PlanAttr plan;
  Value lane;   // i32
  Value shared; // !llvm.ptr<3>, start of dynamic shared memory
  Team block;
  DenseMap<Region *, Team> roles;
  /// The kernel's extra arguments, one per entry of its attribute
  /// `tile.tensor_maps` for the launcher.
  SmallVector<Value> tensorMaps;
  bool hasRoles() const { return !roles.empty(); }
  /// The team that executes `op`.
  const Team &teamOf(Operation *op) const;
};

FragmentAttr layoutOf(Type type);

/// i32 coordinate of this thread along `dim` (what its lane and warp add).
Value threadOffset(OpBuilder &builder, Location loc, KernelContext &kernel,
                   const Team &team, FragmentAttr layout, int64_t dim);

/// i32 coordinate along `dim` of the warp's first element.
Value warpOffset(OpBuilder &builder, Location loc, const Team &team,
                 FragmentAttr layout, int64_t dim);

Value constantI32(OpBuilder &builder, Location loc, int64_t value);

/// An index as i32.
Value toI32(OpBuilder &builder, Location loc, Value index);

/// Registers of a 16-bit tile, two neighbours per 32-bit word.
Value packPair(OpBuilder &builder, Location loc, Value low, Value high);

/// Pointer in global memory to `memref[indices]` (index values).
Value globalPointer(OpBuilder &builder, Location loc, Value memref,
                    ValueRange indices);

/// Bytes that divide the address of every row of `memref`: the promise about
/// the function argument behind it (`tile.align`), at least its element size.
int64_t rowAlignment(Value memref);

/// All threads of the team wait for each other: the block's barrier, or the
/// last one, which nothing else uses, of a role.
void synchronize(OpBuilder &builder, Location loc, const KernelContext &kernel,
                 const Team &team);

/// wgmma and bulk copies read shared memory by another path than stores write
/// it.
void fenceAsync(OpBuilder &builder, Location loc);

/// The thread's bulk copies, if any, have read what they copy.
void waitForBulkReads(OpBuilder &builder, Location loc);

/// A block keeps its shared memory until the last bulk copies of the loops
/// around `op` have read it.
void waitBehindLoops(OpBuilder &builder, Operation *op);

/// Moves the builder into a branch on `condition`, if there is one.
void guarded(OpBuilder &builder, Location loc, Value condition);

/// The argument of kernel `func` that holds the map of `view` for copies of
/// `box` columns and rows; made on first use.
Value tensorMap(OpBuilder &builder, func::FuncOp func, KernelContext &kernel,
                const TensorView &view, std::array<int64_t, 2> box,
                int64_t swizzle);

/// Pointer `bytes` (i32) after the shared-memory pointer `base`.
Value sharedPointer(OpBuilder &builder, Location loc, Value base, Value bytes);

void populateElementwisePatterns(const TypeConverter &converter,
                                 RewritePatternSet &patterns,
                                 KernelContext &kernel);
void populateMemoryPatterns(const TypeConverter &converter,
                            RewritePatternSet &patterns, KernelContext &kernel);
void populateBulkStorePatterns(const TypeConverter &converter,
                               RewritePatternSet &patterns,
                               KernelContext &kernel);
void populateContractPatterns(const TypeConverter &converter,
                              RewritePatternSet &patterns,
                              KernelContext &kernel);
void populatePipePatterns(const TypeConverter &converter,
                          RewritePatternSet &patterns, KernelContext &kernel);

} // namespace mlir::tl

#endif // FA_CONVERSION_TILETOTHREADS_PATTERNS_H
