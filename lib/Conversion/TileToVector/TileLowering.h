//===- TileLowering.h - Tiles become loops over vectors --------*- C++ -*-===//
//
//
// * Pointwise operations (elementwise, broadcast, reduction of dimension 0,
//   gather) are collected while nothing needs their results and then emitted as
//   one nest: for each chunk of lanes, a few loops over the rows; rank-1 tiles
//   are vectors in registers throughout.
// * Contractions, loads, stores and loops are emitted where they stand.
// * Constants, splats and iotas never exist in memory unless an operation that
//   is not pointwise asks for it.
//
//===----------------------------------------------------------------------===//

#ifndef FA_CONVERSION_TILETOVECTOR_TILELOWERING_H
#define FA_CONVERSION_TILETOVECTOR_TILELOWERING_H

#include "fa/Dialect/Tile/IR/MergedView.h"
#include "fa/Dialect/Tile/IR/Tile.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"

namespace mlir::fa {

inline RankedTensorType tileType(Value value) {
  return dyn_cast<RankedTensorType>(value.getType());
}

inline bool isTile(Value value) { return bool(tileType(value)); }

/// Number of rows and lanes: a tile of rank 1 is one row of lanes.
inline int64_t rowsOf(RankedTensorType type) {
  return type.getRank() == 2 ? type.getDimSize(0) : 1;
}
inline int64_t lanesOf(RankedTensorType type) { return type.getShape().back(); }

/// Tiles that are computed at each use instead of being stored.
inline bool isLeaf(Operation *op) {
  return op && op->getNumResults() == 1 && isTile(op->getResult(0)) &&
         isa<arith::ConstantOp, tl::SplatOp, tl::IotaOp>(op);
}

/// True for a broadcast whose source runs along the rows: its elements are read
/// as scalars from memory.
inline bool isRowBroadcast(tl::BroadcastOp op) {
  return int64_t(op.getDim()) == tileType(op.getResult()).getRank() - 1;
}

inline bool isRowReduction(tl::ReduceOp op) {
  return int64_t(op.getDim()) == tileType(op.getSource()).getRank() - 1;
}

inline bool isPointwise(Operation *op) {
  if (op->getNumResults() != 1 || isLeaf(op))
    return false;
  if (auto reduce = dyn_cast<tl::ReduceOp>(op))
    return !isRowReduction(reduce);
  if (!isTile(op->getResult(0)))
    return false;
  return isa<tl::BroadcastOp, tl::GatherOp>(op) ||
         OpTrait::hasElementwiseMappableTraits(op);
}

/// The lanes of the nest that computes `op`.
int64_t nestLanes(Operation *op);

class TileLowering {
public:
  TileLowering(func::FuncOp func, int64_t vectorBits, int64_t registers,
               bool dotBF16, bool amxBF16)
      : func(func), builder(func.getContext()), vectorBits(vectorBits),
        registers(registers), dotBF16(dotBF16), amxBF16(amxBF16) {}

  LogicalResult run();

private:
  using Roots = llvm::MapVector<Value, Value>; // tile -> destination

  //===--- Types and small builders ---------------------------------------===//

  Value index(int64_t value) {
    return arith::ConstantIndexOp::create(builder, loc, value);
  }
  Value add(Value lhs, Value rhs) {
    if (matchPattern(lhs, m_Zero()))
      return rhs;
    if (matchPattern(rhs, m_Zero()))
      return lhs;
    return arith::AddIOp::create(builder, loc, lhs, rhs);
  }
  Value constant(Type type, double value);
  /// Elements of two vector registers: lanes that are processed together.
  int64_t chunkOf(unsigned bits) const {
    return 2 * vectorBits / std::max(bits, 32u);
  }
  /// Lanes are padded so that every chunk is whole.
  int64_t padded(int64_t lanes) const {
    return llvm::alignTo(lanes, chunkOf(32));
  }
  Type storageType(Value tile) const;
  MemRefType bufferType(RankedTensorType tile, Type element) const;
  MemRefType bufferType(int64_t rows, int64_t lanes, Type element) const;
  Value allocate(MemRefType type);
  Value allocate(Value tile) {
    return allocate(bufferType(tileType(tile), storageType(tile)));
  }
  /// `value`, a scalar or vector, as an element type of the same kind.
  Value convert(Value value, Type element);
  /// A loop that calls `body` with its induction variable; no loop for a
  /// constant single iteration, nothing for none.
  void loop(Value lower, Value upper, int64_t step,
            function_ref<void(Value)> body);

  //===--- Buffers --------------------------------------------------------===//

  /// The memory of `tile`; a leaf is written to fresh memory.
  Value materialize(Value tile);
  /// The memory of `tile` as elements of type `element`.
  Value materializeAs(Value tile, Type element);
  /// Where `tile`, about to be computed, may be written: a loop-carried buffer
  /// that nobody reads any more, or fresh memory.
  Value destination(Value tile, ArrayRef<Operation *> computing);

  //===--- Pairs ----------------------------------------------------------===//
  // A dot instruction adds products of two neighbours along k. Where k runs
  // along the lanes of a factor, they are neighbours in memory; where it runs
  // along the rows, the factor is kept in pairs: rows 2 i and 2 i + 1 are
  // interleaved in row i of its memory.

  /// Whether the products of `op` are dots of bf16 pairs.
  bool usesDots(tl::ContractOp op) const;
  /// Whether dots read `tile` along its rows; `only`: and nothing else does.
  bool readInPairs(Value tile, bool only) const;
  /// Whether the nest that computes `tile` writes pairs.
  bool computedInPairs(Value tile) const {
    Operation *op = tile.getDefiningOp();
    return op && isPointwise(op) && readInPairs(tile, /*only=*/true);
  }
  MemRefType pairsType(RankedTensorType tile) const {
    return bufferType(tile.getDimSize(0) / 2, 2 * padded(lanesOf(tile)),
                      tile.getElementType());
  }
  /// The memory of `tile` in pairs.
  Value pairsOf(Value tile);
  /// Fresh memory with the pairs of the rows in `buffer`.
  Value packPairs(RankedTensorType tile, Value buffer);
  /// Rows `even` and `odd`, interleaved, to the pairs in `buffer` from `lane`.
  void storePair(Value even, Value odd, Value buffer, Value row, Value lane);

  /// Copies `from` to `to` with rows and lanes exchanged, pairs as they are:
  /// row i, pair j to row j, pair i. Numbers of rows and of pairs are multiples
  /// of `kPairBlock`.
  void turnPairs(Value from, Value to, int64_t rows, int64_t pairs);
  static constexpr int64_t kPairBlock = 16;
  /// Exchanges rows and lanes of a square block of vectors.
  void turnBlock(MutableArrayRef<Value> vectors);

  //===--- The matrix unit (AMX) ------------------------------------------===//

  /// Whether the products of `op` are dots that registers of 16x16 sums hold.
  bool usesMatrixUnit(tl::ContractOp op) const;
  /// dest = init (or 0) + products, over `depth`: of the rows in `rowBuffer`
  /// and the pairs in `laneBuffer`.
  void multiplyByMatrixUnit(Value rowBuffer, Value laneBuffer, Value init,
                            Value dest, int64_t rows, int64_t lanes,
                            int64_t depth);
  /// Sets the shapes of the registers where the function begins. The process
  /// must have asked for them (Target/Host.cpp).
  void setUpMatrixUnit();
  void callAMX(StringRef name, ValueRange args);
  Value addressOf(Value buffer, Value row, Value lane);

  bool allUsersEmitted(Value tile, ArrayRef<Operation *> computing) const;
  /// Scratch allocated in a scope is free for other tiles after it.
  void pushScope() { scopes.emplace_back(); }
  void popScope() { freeBuffers.append(scopes.pop_back_val()); }

  //===--- Lowering -------------------------------------------------------===//

  /// Moves scratch that is too large for a stack to the heap.
  void limitStack();
  LogicalResult lowerBlock(Block &block);
  LogicalResult lower(Operation *op);
  LogicalResult lowerFor(scf::ForOp op);
  LogicalResult lowerIf(scf::IfOp op);
  void lowerYield(ArrayRef<Value> from, ArrayRef<Value> to);
  void planForwarding(Value yielded, Value iterArg, Value buffer);
  /// Computes tiles that a cold branch reads again there.
  void recomputeInColdBranch(scf::IfOp op);
  LogicalResult lowerLoad(tl::LoadOp op);
  /// tile.store and tile.accumulate.
  template <typename OpT> LogicalResult lowerStore(OpT op);
  LogicalResult lowerContract(tl::ContractOp op);
  /// Calls `kernel` for blocks of rows and chunks of lanes.
  void blockRows(int64_t rows, int64_t lanes, int64_t chunk,
                 function_ref<void(Value row, int64_t count, Value lane)> body);
  LogicalResult lowerRowReduction(tl::ReduceOp op);
  LogicalResult lowerNonfinite(tl::NonfiniteOp op);
  LogicalResult lowerExceeds(tl::ExceedsOp op);
  /// Emits all pending operations, or those that `tile` needs.
  void flush();
  void flushFor(Value tile);
  void emitPending(ArrayRef<Operation *> ops);
  void emitCopy(Value tile, Value dest) {
    Roots roots;
    roots[tile] = dest;
    emitNest({}, roots);
  }

  /// Bounds [lower, upper) of tile dimension `dim` that lie inside `memref`.
  struct Access {
    tl::MergedView view;
    SmallVector<Value> lower, upper, offset; // by tile dimension
    SmallVector<int64_t> order;
    /// Memref indices of the element `coordinates` of the tile.
    SmallVector<Value> indices(TileLowering &l,
                               ArrayRef<Value> coordinates) const;
  };
  Access access(Value memref, OperandRange offsets,
                std::optional<ArrayRef<int64_t>> order,
                std::optional<ArrayRef<int64_t>> merged, RankedTensorType tile);
  /// True when rows of the tile are contiguous in memory.
  static bool rowsContiguous(const Access &access);
  /// Lanes of the square blocks by which a matrix tile whose columns are
  /// contiguous in memory is copied; 0 for any other tile.
  int64_t turnedBlock(RankedTensorType tile, const Access &access);
  /// i1: all of `tile` is inside.
  Value isWhole(const Access &access, RankedTensorType tile);
  /// Copies a matrix of this type between `memref`, where its columns are
  /// contiguous, and `buffer`, where its rows are: block by block.
  void copyTurned(RankedTensorType type, int64_t block, const Access &access,
                  Value memref, Value buffer, bool isStore);

  //===--- Nests ----------------------------------------------------------===//

  struct Nest {
    DenseSet<Operation *> ops;
    DenseMap<Value, int64_t> stage;      // where a value is available first
    DenseMap<Value, int64_t> storeStage; // where a stored value is computed
    DenseSet<Value> pairs;               // roots that are written in pairs
    Roots stored;                        // live-out or needed by later stages
    DenseMap<Value, Value> chunkValues;  // rank-1 tiles of this chunk
    DenseMap<Value, Value> rowValues;    // rank-2 tiles of this row
    int64_t current = 0;                 // stage
    int64_t chunk = 0;                   // lanes at a time
    int64_t lanes = 0;
    Value lane, row;
  };
  void emitNest(ArrayRef<Operation *> ops, Roots roots);
  Value evaluate(Nest &nest, Value tile);
  Value evaluateLeaf(Nest &nest, Operation *op);
  Value evaluateGather(Nest &nest, tl::GatherOp op);
  Value loadChunk(Nest &nest, Value tile, Value buffer);
  void storeChunk(Nest &nest, Value vector, Value tile, Value buffer);
  Value combine(tl::ReduceKind kind, Value acc, Value value);
  Value neutral(tl::ReduceKind kind, Type type);

  func::FuncOp func;
  OpBuilder builder;
  Location loc = builder.getUnknownLoc();
  int64_t vectorBits, registers;
  bool dotBF16, amxBF16;
  bool needsMatrixUnit = false;

  Block *scratchBlock = nullptr;
  llvm::SmallVector<Value> freeBuffers;   // scratch that no live tile uses
  SmallVector<SmallVector<Value>> scopes; // scratch allocated per block
  DenseMap<Value, Value> buffers;         // tile -> memory
  DenseMap<Value, Value> pairs;           // tile -> memory in pairs
  DenseMap<Value, Value> forwards;        // tile -> loop-carried memory
  DenseMap<Value, Value> owners;          // loop-carried memory -> iter arg
  SmallVector<Operation *> pending;       // pointwise, not yet emitted
  DenseSet<Operation *> emitted;
  SmallVector<Operation *> dead;
  SmallVector<scf::ForOp> bodies; // whose carried tiles go at the end
};

} // namespace mlir::fa

#endif // FA_CONVERSION_TILETOVECTOR_TILELOWERING_H
