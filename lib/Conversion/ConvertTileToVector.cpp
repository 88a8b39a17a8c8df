//===- ConvertTileToVector.cpp - convert-tile-to-vector -------------------===//
//
// Bufferises the tiles of a program into scratch memory and lowers tile
// operations to loops over vectors, in one walk in program order:
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

#include "fa/Conversion/Passes.h"
#include "fa/Dialect/Tile/IR/Tile.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"
#include <functional>
#include <set>

namespace mlir::fa {
#define GEN_PASS_DEF_CONVERTTILETOVECTOR
#include "fa/Conversion/Passes.h.inc"
} // namespace mlir::fa

using namespace mlir;
using namespace mlir::fa;

//===----------------------------------------------------------------------===//
// Classification
//===----------------------------------------------------------------------===//

static RankedTensorType tileType(Value value) {
  return dyn_cast<RankedTensorType>(value.getType());
}

static bool isTile(Value value) { return bool(tileType(value)); }

/// Number of rows and lanes: a tile of rank 1 is one row of lanes.
static int64_t rowsOf(RankedTensorType type) {
  return type.getRank() == 2 ? type.getDimSize(0) : 1;
}
static int64_t lanesOf(RankedTensorType type) { return type.getShape().back(); }

/// Tiles that are computed at each use instead of being stored.
static bool isLeaf(Operation *op) {
  return op && op->getNumResults() == 1 && isTile(op->getResult(0)) &&
         isa<arith::ConstantOp, tl::SplatOp, tl::IotaOp>(op);
}

/// True for a broadcast whose source runs along the rows: its elements are read
/// as scalars from memory.
static bool isRowBroadcast(tl::BroadcastOp op) {
  return int64_t(op.getDim()) == tileType(op.getResult()).getRank() - 1;
}

static bool isRowReduction(tl::ReduceOp op) {
  return int64_t(op.getDim()) == tileType(op.getSource()).getRank() - 1;
}

static bool isPointwise(Operation *op) {
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
static int64_t nestLanes(Operation *op) {
  if (auto reduce = dyn_cast<tl::ReduceOp>(op))
    return lanesOf(tileType(reduce.getSource()));
  return lanesOf(tileType(op->getResult(0)));
}

/// Rough cost of evaluating `op` once more, in vector instructions.
static int64_t costOf(Operation *op) {
  if (isa<tl::BroadcastOp>(op))
    return 0;
  if (isa<tl::GatherOp>(op) || op->getDialect()->getNamespace() == "math")
    return 100;
  if (isa<arith::DivFOp, arith::DivSIOp, arith::DivUIOp, arith::RemSIOp,
          arith::RemUIOp, arith::RemFOp>(op))
    return 10;
  return 1;
}

namespace {

//===----------------------------------------------------------------------===//
// TileLowering
//===----------------------------------------------------------------------===//

class TileLowering {
public:
  TileLowering(func::FuncOp func, int64_t vectorBits, int64_t registers)
      : func(func), builder(func.getContext()), vectorBits(vectorBits),
        registers(registers) {}

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
  LogicalResult lowerRowReduction(tl::ReduceOp op);
  LogicalResult lowerNonfinite(tl::NonfiniteOp op);
  LogicalResult lowerExceeds(tl::ExceedsOp op);
  void flush();
  void emitCopy(Value tile, Value dest) {
    Roots roots;
    roots[tile] = dest;
    emitNest({}, roots);
  }

  /// Bounds [lower, upper) of tile dimension `dim` that lie inside `memref`.
  struct Access {
    SmallVector<Value> lower, upper, offset; // by tile dimension
    SmallVector<int64_t> order;
    /// Memref indices of the element `coordinates` of the tile.
    SmallVector<Value> indices(TileLowering &l, ArrayRef<Value> coordinates);
  };
  Access access(Value memref, OperandRange offsets,
                std::optional<ArrayRef<int64_t>> order, RankedTensorType tile);
  /// True when rows of the tile are contiguous in `memref`.
  static bool rowsContiguous(MemRefType memref, ArrayRef<int64_t> order);

  //===--- Nests ----------------------------------------------------------===//

  struct Nest {
    DenseSet<Operation *> ops;
    DenseMap<Value, int64_t> stage;      // where a value is available first
    DenseMap<Value, int64_t> storeStage; // where a stored value is computed
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

  Block *scratchBlock = nullptr;
  llvm::SmallVector<Value> freeBuffers;   // scratch that no live tile uses
  SmallVector<SmallVector<Value>> scopes; // scratch allocated per block
  DenseMap<Value, Value> buffers;         // tile -> memory
  DenseMap<Value, Value> forwards;        // tile -> loop-carried memory
  DenseMap<Value, Value> owners;          // loop-carried memory -> iter arg
  SmallVector<Operation *> pending;       // pointwise, not yet emitted
  DenseSet<Operation *> emitted;
  SmallVector<Operation *> dead;
  SmallVector<scf::ForOp> bodies; // whose carried tiles go at the end
};
} // namespace

//===----------------------------------------------------------------------===//
// Types and small builders
//===----------------------------------------------------------------------===//

Value TileLowering::constant(Type type, double value) {
  Type element = getElementTypeOrSelf(type);
  Attribute scalar =
      isa<FloatType>(element)
          ? Attribute(builder.getFloatAttr(element, value))
          : Attribute(builder.getIntegerAttr(element, int64_t(value)));
  TypedAttr attr = cast<TypedAttr>(scalar);
  if (auto vector = dyn_cast<VectorType>(type))
    attr = DenseElementsAttr::get(vector, scalar);
  return arith::ConstantOp::create(builder, loc, attr);
}

Type TileLowering::storageType(Value tile) const {
  Type element = tileType(tile).getElementType();
  // A vector of i1 in memory would be packed bits.
  if (element.isInteger(1))
    return IntegerType::get(element.getContext(), 8);
  // What only contractions read is kept in the type of their products.
  Type wide;
  for (Operation *user : tile.getUsers()) {
    // NaN and infinity are the same in every type.
    if (isa<tl::NonfiniteOp>(user))
      continue;
    auto contract = dyn_cast<tl::ContractOp>(user);
    if (!contract || contract.getAcc() == tile)
      return element;
    Type acc = tileType(contract.getAcc()).getElementType();
    if (wide && wide != acc)
      return element;
    wide = acc;
  }
  return wide ? wide : element;
}

MemRefType TileLowering::bufferType(RankedTensorType tile, Type element) const {
  int64_t lanes = padded(lanesOf(tile));
  if (tile.getRank() == 1)
    return MemRefType::get({lanes}, element);
  // An odd number of cache lines per row: the rows of a chunk of lanes must not
  // all fall into one cache set.
  int64_t line = 512 / element.getIntOrFloatBitWidth();
  if (lanes % (2 * line) == 0)
    lanes += line;
  return MemRefType::get({tile.getDimSize(0), lanes}, element);
}

Value TileLowering::allocate(MemRefType type) {
  for (auto *it = freeBuffers.begin(); it != freeBuffers.end(); ++it) {
    if (it->getType() != type)
      continue;
    Value buffer = *it;
    freeBuffers.erase(it);
    scopes.back().push_back(buffer);
    return buffer;
  }
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(scratchBlock);
  Value buffer = memref::AllocaOp::create(builder, loc, type,
                                          builder.getI64IntegerAttr(64));
  scopes.back().push_back(buffer);
  return buffer;
}

Value TileLowering::convert(Value value, Type element) {
  Type from = getElementTypeOrSelf(value.getType());
  if (from == element)
    return value;
  Type type = element;
  if (auto vector = dyn_cast<VectorType>(value.getType()))
    type = vector.clone(element);
  unsigned fromBits = from.getIntOrFloatBitWidth();
  unsigned bits = element.getIntOrFloatBitWidth();
  if (isa<FloatType>(element)) {
    if (fromBits < bits)
      return arith::ExtFOp::create(builder, loc, type, value);
    return arith::TruncFOp::create(builder, loc, type, value);
  }
  if (from.isInteger(1))
    return arith::ExtUIOp::create(builder, loc, type, value);
  if (fromBits < bits)
    return arith::ExtSIOp::create(builder, loc, type, value);
  return arith::TruncIOp::create(builder, loc, type, value);
}

void TileLowering::loop(Value lower, Value upper, int64_t step,
                        function_ref<void(Value)> body) {
  std::optional<int64_t> lo = getConstantIntValue(lower);
  std::optional<int64_t> hi = getConstantIntValue(upper);
  if (lo && hi && *hi <= *lo)
    return;
  if (lo && hi && *hi - *lo <= step) {
    body(lower);
    return;
  }
  auto op = scf::ForOp::create(builder, loc, lower, upper, index(step));
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(op.getBody());
  body(op.getInductionVar());
}

//===----------------------------------------------------------------------===//
// Buffers
//===----------------------------------------------------------------------===//

Value TileLowering::materialize(Value tile) {
  if (Value buffer = buffers.lookup(tile))
    return buffer;
  assert(isLeaf(tile.getDefiningOp()) &&
         "a tile is used before it was computed");
  Value buffer = allocate(tile);
  emitCopy(tile, buffer);
  return buffer;
}

Value TileLowering::materializeAs(Value tile, Type element) {
  Value buffer = materialize(tile);
  if (cast<MemRefType>(buffer.getType()).getElementType() == element)
    return buffer;
  Value wide = allocate(bufferType(tileType(tile), element));
  emitCopy(tile, wide);
  return wide;
}

bool TileLowering::allUsersEmitted(Value tile,
                                   ArrayRef<Operation *> computing) const {
  Block *block = tile.getParentBlock();
  for (Operation *user : tile.getUsers()) {
    Operation *ancestor = block->findAncestorOpInBlock(*user);
    if (!ancestor || (!emitted.contains(ancestor) &&
                      !llvm::is_contained(computing, ancestor)))
      return false;
  }
  return true;
}

Value TileLowering::destination(Value tile, ArrayRef<Operation *> computing) {
  if (Value buffer = forwards.lookup(tile))
    if (allUsersEmitted(owners.lookup(buffer), computing))
      return buffer;
  return allocate(tile);
}

//===----------------------------------------------------------------------===//
// Control flow
//===----------------------------------------------------------------------===//

LogicalResult TileLowering::lowerBlock(Block &block) {
  for (Operation &op : llvm::make_early_inc_range(block)) {
    for (Value result : op.getResults())
      if (RankedTensorType type = tileType(result))
        if (type.getRank() < 1 || type.getRank() > 2)
          return op.emitOpError("tile ")
                 << type << " has rank " << type.getRank()
                 << "; the CPU lowering handles vectors and matrices";
    loc = op.getLoc();
    builder.setInsertionPoint(&op);
    if (isLeaf(&op)) {
      dead.push_back(&op);
      continue;
    }
    if (isPointwise(&op)) {
      bool separate =
          !pending.empty() && nestLanes(pending.front()) != nestLanes(&op);
      if (auto broadcast = dyn_cast<tl::BroadcastOp>(&op))
        separate |=
            isRowBroadcast(broadcast) &&
            llvm::is_contained(pending, broadcast.getSource().getDefiningOp());
      if (separate)
        flush();
      pending.push_back(&op);
      dead.push_back(&op);
      continue;
    }
    // Anything else goes before the pending operations unless it needs them or
    // writes what they read.
    bool needed = op.hasTrait<OpTrait::IsTerminator>();
    op.walk([&](Operation *nested) {
      for (Value operand : nested->getOperands())
        needed |= llvm::is_contained(pending, operand.getDefiningOp());
    });
    if (!needed && !isPure(&op)) {
      bool reads = llvm::any_of(
          pending, [](Operation *p) { return isa<tl::GatherOp>(p); });
      needed |= reads && !isa<tl::LoadOp>(op);
    }
    // A loop may overwrite loop-carried memory that pending operations read.
    if (!needed && op.getNumRegions())
      needed = !pending.empty();
    for (Value result : op.getResults())
      if (Value buffer = forwards.lookup(result))
        needed |= llvm::any_of(pending, [&](Operation *p) {
          return llvm::is_contained(p->getOperands(), owners.lookup(buffer));
        });
    if (needed)
      flush();
    if (failed(lower(&op)))
      return failure();
    emitted.insert(&op);
  }
  flush();
  return success();
}

LogicalResult TileLowering::lower(Operation *op) {
  bool hasTiles = llvm::any_of(op->getOperands(), isTile) ||
                  llvm::any_of(op->getResults(), isTile);
  if (isa<tl::LoadOp, tl::StoreOp, tl::AccumulateOp, tl::ContractOp,
          tl::ReduceOp, tl::NonfiniteOp, tl::ExceedsOp>(op))
    dead.push_back(op);
  if (auto load = dyn_cast<tl::LoadOp>(op))
    return lowerLoad(load);
  if (auto store = dyn_cast<tl::StoreOp>(op))
    return lowerStore(store);
  if (auto add = dyn_cast<tl::AccumulateOp>(op))
    return lowerStore(add);
  if (auto contract = dyn_cast<tl::ContractOp>(op))
    return lowerContract(contract);
  if (auto reduce = dyn_cast<tl::ReduceOp>(op))
    return lowerRowReduction(reduce);
  if (auto nonfinite = dyn_cast<tl::NonfiniteOp>(op))
    return lowerNonfinite(nonfinite);
  if (auto exceeds = dyn_cast<tl::ExceedsOp>(op))
    return lowerExceeds(exceeds);
  if (auto loop = dyn_cast<scf::ForOp>(op))
    return lowerFor(loop);
  if (auto branch = dyn_cast<scf::IfOp>(op))
    return lowerIf(branch);
  if (isa<scf::YieldOp>(op))
    return success(); // by the parent
  if (hasTiles)
    return op->emitOpError("on tiles is not supported by the CPU lowering; it "
                           "handles elementwise arith and math operations, the "
                           "L1 operations of the tile dialect, scf.for and "
                           "scf.if");
  for (Region &region : op->getRegions())
    for (Block &block : region) {
      pushScope();
      if (failed(lowerBlock(block)))
        return failure();
      popScope();
    }
  return success();
}

/// The tile chain that ends in `yielded` may be computed in the loop-carried
/// memory: a contraction passes it on to its accumulator, a loop to its initial
/// tile and a branch to what both of its sides yield.
void TileLowering::planForwarding(Value yielded, Value iterArg, Value buffer) {
  Block *body = iterArg.getParentBlock();
  Type stored = cast<MemRefType>(buffer.getType()).getElementType();
  DenseMap<Value, unsigned> reached;
  std::function<void(Value)> plan = [&](Value value) {
    Operation *def = value.getDefiningOp();
    if (value == iterArg || !def || !body->findAncestorOpInBlock(*def) ||
        isLeaf(def) || storageType(value) != stored)
      return;
    // The chain overwrites the tile, so the chain must be its only reader. It
    // gets here once for each of its readers: they are on different sides of a
    // branch.
    if (value != yielded && !value.hasNUses(++reached[value]))
      return;
    if (!forwards.insert({value, buffer}).second)
      return;
    if (auto contract = dyn_cast<tl::ContractOp>(def)) {
      plan(contract.getAcc());
    } else if (auto loop = dyn_cast<scf::ForOp>(def)) {
      plan(loop.getTiedLoopInit(cast<OpResult>(value))->get());
    } else if (auto branch = dyn_cast<scf::IfOp>(def)) {
      unsigned i = cast<OpResult>(value).getResultNumber();
      plan(branch.thenYield().getOperand(i));
      plan(branch.elseYield().getOperand(i));
    }
  };
  plan(yielded);
}

LogicalResult TileLowering::lowerFor(scf::ForOp op) {
  SmallVector<Value> carried, inits;
  SmallVector<BlockArgument> scalarArgs;
  SmallVector<Value> scalarResults;
  for (auto [init, arg, result, yield] :
       llvm::zip(op.getInits(), op.getRegionIterArgs(), op.getResults(),
                 op.getYieldedValues())) {
    if (!isTile(init)) {
      inits.push_back(init);
      scalarArgs.push_back(arg);
      scalarResults.push_back(result);
      continue;
    }
    // A tile that nothing else reads gives its memory to the loop.
    Value buffer = buffers.lookup(init);
    bool steal =
        buffer && init.hasOneUse() && init.getParentBlock() == op->getBlock() &&
        buffer.getType() == bufferType(tileType(arg), storageType(arg));
    if (Value forwarded = forwards.lookup(result);
        !steal && forwarded && allUsersEmitted(owners.lookup(forwarded), {})) {
      buffer = forwarded;
      if (buffers.lookup(init) != buffer)
        emitCopy(init, buffer);
    } else if (!steal) {
      buffer = allocate(bufferType(tileType(arg), storageType(arg)));
      emitCopy(init, buffer);
    }
    carried.push_back(buffer);
    buffers[arg] = buffer;
    buffers[result] = buffer;
    owners[buffer] = arg;
    planForwarding(yield, arg, buffer);
  }
  auto newOp = scf::ForOp::create(builder, op.getLoc(), op.getLowerBound(),
                                  op.getUpperBound(), op.getStep(), inits);
  Block *body = newOp.getBody();
  if (inits.empty())
    body->getTerminator()->erase();
  op.getInductionVar().replaceAllUsesWith(newOp.getInductionVar());
  for (auto [old, arg] : llvm::zip(scalarArgs, newOp.getRegionIterArgs()))
    old.replaceAllUsesWith(arg);
  for (auto [old, result] : llvm::zip(scalarResults, newOp.getResults()))
    old.replaceAllUsesWith(result);
  // The carried tiles become extra block arguments until the end: they are only
  // names for their memory from here on.
  for (BlockArgument arg : op.getRegionIterArgs())
    if (isTile(arg)) {
      BlockArgument fresh = body->addArgument(arg.getType(), arg.getLoc());
      arg.replaceAllUsesWith(fresh);
      // Not in one statement: inserting may move what a lookup refers to.
      Value buffer = buffers.lookup(arg);
      buffers[fresh] = buffer;
      owners[buffers[arg]] = fresh;
    }
  Operation *oldYield = op.getBody()->getTerminator();
  body->getOperations().splice(body->end(), op.getBody()->getOperations());
  dead.push_back(op);
  bodies.push_back(newOp);
  pushScope();
  if (failed(lowerBlock(*body)))
    return failure();
  builder.setInsertionPoint(oldYield);
  SmallVector<Value> yielded, yieldedScalars;
  for (Value operand : oldYield->getOperands())
    (isTile(operand) ? yielded : yieldedScalars).push_back(operand);
  lowerYield(yielded, carried);
  scf::YieldOp::create(builder, op.getLoc(), yieldedScalars);
  dead.push_back(oldYield);
  popScope();
  emitted.insert(newOp);
  builder.setInsertionPointAfter(newOp);
  return success();
}

void TileLowering::lowerYield(ArrayRef<Value> from, ArrayRef<Value> to) {
  // Copies happen at once: what another copy overwrites is saved first.
  SmallVector<std::pair<Value, Value>> saves;
  for (auto [tile, dest] : llvm::zip(from, to)) {
    Value source = buffers.lookup(tile);
    if (source == dest || !source || !llvm::is_contained(to, source))
      continue;
    Value saved = allocate(cast<MemRefType>(dest.getType()));
    emitCopy(tile, saved);
    saves.emplace_back(saved, dest);
  }
  for (auto [tile, dest] : llvm::zip(from, to)) {
    Value source = buffers.lookup(tile);
    if (source != dest && !(source && llvm::is_contained(to, source)))
      emitCopy(tile, dest);
  }
  for (auto [saved, dest] : saves)
    memref::CopyOp::create(builder, loc, saved, dest);
}

LogicalResult TileLowering::lowerIf(scf::IfOp op) {
  SmallVector<Type> types;
  SmallVector<Value> dests;
  for (Value result : op.getResults()) {
    if (!isTile(result)) {
      types.push_back(result.getType());
      continue;
    }
    Value buffer = destination(result, {});
    dests.push_back(buffer);
    buffers[result] = buffer;
  }
  auto newOp = scf::IfOp::create(builder, op.getLoc(), types, op.getCondition(),
                                 /*addThenBlock=*/true,
                                 /*addElseBlock=*/!op.getElseRegion().empty());
  for (auto [old, fresh] : llvm::zip(op->getRegions(), newOp->getRegions())) {
    if (old.empty())
      continue;
    Block &body = fresh.front();
    body.clear();
    Operation *oldYield = old.front().getTerminator();
    body.getOperations().splice(body.end(), old.front().getOperations());
    pushScope();
    if (failed(lowerBlock(body)))
      return failure();
    builder.setInsertionPoint(oldYield);
    SmallVector<Value> tiles, scalars;
    for (Value operand : oldYield->getOperands())
      (isTile(operand) ? tiles : scalars).push_back(operand);
    lowerYield(tiles, dests);
    scf::YieldOp::create(builder, op.getLoc(), scalars);
    dead.push_back(oldYield);
    popScope();
  }
  emitted.insert(newOp);
  auto next = newOp->getResults().begin();
  for (Value result : op.getResults())
    if (!isTile(result))
      result.replaceAllUsesWith(*next++);
  dead.push_back(op);
  builder.setInsertionPointAfter(newOp);
  return success();
}

/// True for a condition that holds for rare data only.
static bool isCold(Value condition) {
  if (auto both = condition.getDefiningOp<arith::AndIOp>())
    return isCold(both.getLhs()) || isCold(both.getRhs());
  return isa_and_present<tl::NonfiniteOp, tl::ExceedsOp>(
      condition.getDefiningOp());
}

void TileLowering::recomputeInColdBranch(scf::IfOp op) {
  if (!isCold(op.getCondition()))
    return;
  // Matrices that only the branch needs in memory would be stored each time
  // before it. What depends on a carried matrix stays: one more reader would
  // keep the loop from updating it in place. So do gathers, which are slow.
  auto isMatrix = [](Value value) {
    return isTile(value) && tileType(value).getRank() == 2;
  };
  IRMapping copies;
  builder.setInsertionPointToStart(op.thenBlock());
  std::function<void(Value)> recompute = [&](Value tile) {
    Operation *def = tile.getDefiningOp();
    if (!def || copies.contains(tile) || def->getBlock() != op->getBlock() ||
        !isMatrix(tile) || !isPointwise(def) || isa<tl::GatherOp>(def) ||
        llvm::any_of(def->getOperands(), [&](Value operand) {
          return isMatrix(operand) && isa<BlockArgument>(operand);
        }))
      return;
    for (Value operand : def->getOperands())
      recompute(operand);
    builder.clone(*def, copies);
  };
  SmallVector<OpOperand *> reads;
  op.getThenRegion().walk([&](Operation *nested) {
    if (isPointwise(nested) || isa<tl::ReduceOp>(nested))
      for (OpOperand &operand : nested->getOpOperands())
        reads.push_back(&operand);
  });
  for (OpOperand *read : reads) {
    recompute(read->get());
    read->set(copies.lookupOrDefault(read->get()));
  }
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

SmallVector<Value> TileLowering::Access::indices(TileLowering &l,
                                                 ArrayRef<Value> coordinates) {
  SmallVector<Value> result(order.size());
  for (auto [dim, coordinate] : llvm::enumerate(coordinates))
    result[order[dim]] = l.add(offset[dim], coordinate);
  return result;
}

TileLowering::Access
TileLowering::access(Value memref, OperandRange offsets,
                     std::optional<ArrayRef<int64_t>> order,
                     RankedTensorType tile) {
  Access result;
  int64_t rank = tile.getRank();
  result.order = order ? llvm::to_vector(*order)
                       : llvm::to_vector(llvm::seq<int64_t>(0, rank));
  Value zero = index(0);
  for (int64_t dim = 0; dim < rank; ++dim) {
    int64_t source = result.order[dim];
    Value offset = offsets[source];
    Value extent = index(tile.getDimSize(dim));
    result.offset.push_back(offset);
    int64_t size = cast<MemRefType>(memref.getType()).getDimSize(source);
    std::optional<int64_t> constant = getConstantIntValue(offset);
    if (constant && *constant >= 0 && ShapedType::isStatic(size) &&
        *constant + tile.getDimSize(dim) <= size) {
      result.lower.push_back(zero);
      result.upper.push_back(extent);
      continue;
    }
    Value left = arith::SubIOp::create(
        builder, loc, memref::DimOp::create(builder, loc, memref, source),
        offset);
    Value upper = arith::MinSIOp::create(builder, loc, left, extent);
    Value before = arith::SubIOp::create(builder, loc, zero, offset);
    Value lower = arith::MaxSIOp::create(builder, loc, before, zero);
    result.lower.push_back(lower);
    // An empty range keeps upper >= lower out of the callers' way.
    result.upper.push_back(arith::MaxSIOp::create(builder, loc, upper, lower));
  }
  return result;
}

bool TileLowering::rowsContiguous(MemRefType memref, ArrayRef<int64_t> order) {
  SmallVector<int64_t> strides;
  int64_t offset;
  return order.back() == memref.getRank() - 1 &&
         succeeded(memref.getStridesAndOffset(strides, offset)) &&
         strides.back() == 1;
}

LogicalResult TileLowering::lowerLoad(tl::LoadOp op) {
  Value tile = op.getResult();
  RankedTensorType type = tileType(tile);
  MemRefType source = op.getSource().getType();
  Access in = access(op.getSource(), op.getOffsets(), op.getOrder(), type);
  int64_t rank = type.getRank(), lanes = lanesOf(type);
  Value zero = index(0), lanesValue = index(lanes);
  Type element = storageType(tile);

  // Fills `buffer`, zero outside.
  auto copy = [&](Value buffer) {
    int64_t chunk = chunkOf(element.getIntOrFloatBitWidth());
    auto copyRow = [&](ArrayRef<Value> row, int64_t step, Value lower,
                       Value upper) {
      loop(lower, upper, step, [&](Value lane) {
        SmallVector<Value> at(row);
        at.push_back(lane);
        SmallVector<Value> indices = in.indices(*this, at);
        Value value;
        if (step == 1)
          value = memref::LoadOp::create(builder, loc, op.getSource(), indices);
        else
          value = vector::LoadOp::create(
              builder, loc, VectorType::get({step}, type.getElementType()),
              op.getSource(), indices);
        value = convert(value, element);
        if (step == 1)
          memref::StoreOp::create(builder, loc, value, buffer, at);
        else
          vector::StoreOp::create(builder, loc, value, buffer, at);
      });
    };
    auto zeroRow = [&](ArrayRef<Value> row) {
      VectorType vector = VectorType::get({chunk}, element);
      loop(zero, index(padded(lanes)), chunk, [&](Value lane) {
        SmallVector<Value> at(row);
        at.push_back(lane);
        vector::StoreOp::create(builder, loc, constant(vector, 0), buffer, at);
      });
    };
    // Whole rows, by vectors if they are contiguous; the rest is zero.
    bool contiguous = lanes % chunk == 0 && rowsContiguous(source, in.order) &&
                      !type.getElementType().isInteger(1);
    auto copyRows = [&](int64_t step, Value lower, Value upper) {
      if (rank == 1)
        return copyRow({}, step, lower, upper);
      loop(in.lower[0], in.upper[0], 1,
           [&](Value row) { copyRow({row}, step, lower, upper); });
    };
    auto zeroOutside = [&]() {
      if (rank == 1)
        return zeroRow({});
      loop(zero, in.lower[0], 1, [&](Value row) { zeroRow({row}); });
      loop(in.upper[0], index(type.getDimSize(0)), 1,
           [&](Value row) { zeroRow({row}); });
    };
    auto zeroAll = [&]() {
      if (rank == 1)
        return zeroRow({});
      loop(zero, index(type.getDimSize(0)), 1,
           [&](Value row) { zeroRow({row}); });
    };
    Value low = in.lower.back(), high = in.upper.back();
    bool always =
        getConstantIntValue(high) == lanes && getConstantIntValue(low) == 0;
    if (always && rank == 2 && lanes == padded(lanes)) {
      zeroOutside();
      copyRows(contiguous ? chunk : 1, zero, lanesValue);
      return;
    }
    zeroAll();
    if (contiguous && !always) {
      Value whole = arith::AndIOp::create(
          builder, loc,
          arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, low,
                                zero),
          arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, high,
                                lanesValue));
      auto branch = scf::IfOp::create(builder, loc, whole, /*withElse=*/true);
      OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPointToStart(branch.thenBlock());
      copyRows(chunk, zero, lanesValue);
      builder.setInsertionPointToStart(branch.elseBlock());
      copyRows(1, low, high);
      return;
    }
    copyRows(contiguous ? chunk : 1, low, high);
  };

  // Even a tile of which contractions read single elements in place is copied:
  // its rows may be far apart in memory, and each is read once per chunk of
  // lanes.
  Value buffer = allocate(bufferType(type, element));
  copy(buffer);
  buffers[tile] = buffer;
  return success();
}

template <typename OpT> LogicalResult TileLowering::lowerStore(OpT op) {
  // Grid points run in parallel: one atomic addition per element.
  constexpr bool add = std::is_same_v<OpT, tl::AccumulateOp>;
  Value buffer = materialize(op.getValue());
  RankedTensorType type = tileType(op.getValue());
  MemRefType dest = op.getDest().getType();
  Type element = dest.getElementType();
  Access out = access(op.getDest(), op.getOffsets(), op.getOrder(), type);
  int64_t lanes = lanesOf(type);
  int64_t chunk = chunkOf(element.getIntOrFloatBitWidth());

  auto storeRange = [&](int64_t step, SmallVector<Value> lower,
                        SmallVector<Value> upper) {
    // The memory's contiguous dimension is the inner one.
    SmallVector<int64_t> nest =
        llvm::to_vector(llvm::seq<int64_t>(0, type.getRank()));
    llvm::sort(nest, [&](int64_t a, int64_t b) {
      return out.order[a] < out.order[b];
    });
    SmallVector<Value> at(type.getRank());
    std::function<void(unsigned)> emit = [&](unsigned depth) {
      if (depth == nest.size()) {
        Value value;
        if (step == 1)
          value = memref::LoadOp::create(builder, loc, buffer, at);
        else
          value = vector::LoadOp::create(
              builder, loc,
              VectorType::get(
                  {step}, cast<MemRefType>(buffer.getType()).getElementType()),
              buffer, at);
        value = convert(value, element);
        SmallVector<Value> indices = out.indices(*this, at);
        if (add)
          memref::AtomicRMWOp::create(builder, loc, arith::AtomicRMWKind::addf,
                                      value, op.getDest(), indices);
        else if (step == 1)
          memref::StoreOp::create(builder, loc, value, op.getDest(), indices);
        else
          vector::StoreOp::create(builder, loc, value, op.getDest(), indices);
        return;
      }
      int64_t dim = nest[depth];
      bool last = dim == type.getRank() - 1;
      loop(lower[dim], upper[dim], last ? step : 1, [&](Value coordinate) {
        at[dim] = coordinate;
        emit(depth + 1);
      });
    };
    emit(0);
  };
  if (add || lanes % chunk || !rowsContiguous(dest, out.order) ||
      element.isInteger(1)) {
    storeRange(1, out.lower, out.upper);
    return success();
  }
  Value low = out.lower.back(), high = out.upper.back();
  if (getConstantIntValue(low) == 0 && getConstantIntValue(high) == lanes) {
    storeRange(chunk, out.lower, out.upper);
    return success();
  }
  Value whole = arith::AndIOp::create(
      builder, loc,
      arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, low,
                            index(0)),
      arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, high,
                            index(lanes)));
  auto branch = scf::IfOp::create(builder, loc, whole, /*withElse=*/true);
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(branch.thenBlock());
  SmallVector<Value> lower = out.lower, upper = out.upper;
  lower.back() = index(0);
  upper.back() = index(lanes);
  storeRange(chunk, lower, upper);
  builder.setInsertionPointToStart(branch.elseBlock());
  storeRange(1, out.lower, out.upper);
  return success();
}

//===----------------------------------------------------------------------===//
// Contractions and horizontal reductions
//===----------------------------------------------------------------------===//

LogicalResult TileLowering::lowerContract(tl::ContractOp op) {
  RankedTensorType accType = tileType(op.getAcc());
  Type element = accType.getElementType();
  if (!isTile(op.getLhs()) || !isTile(op.getRhs()))
    return op.emitOpError("reads a shared buffer; the CPU lowering takes L1 "
                          "programs, whose operands are tiles");
  AffineMap accMap = op.getMap(2);
  unsigned laneDim = accMap.getDimPosition(1);
  unsigned laneOperand = op.getMap(0).isFunctionOfDim(laneDim) ? 0 : 1;
  unsigned rowOperand = 1 - laneOperand;
  Value laneTile = op.getOperand(laneOperand);
  Value rowTile = op.getOperand(rowOperand);
  int64_t depth = op.getExtents()[2];
  int64_t rows = rowsOf(accType), lanes = lanesOf(accType);
  Value zero = index(0);

  Value laneBuffer = materializeAs(laneTile, element);
  if (op.getMap(laneOperand).getDimPosition(1) != laneDim) {
    // The lanes must be contiguous.
    auto turned = RankedTensorType::get({depth, lanes}, element);
    Value copy = allocate(bufferType(turned, element));
    loop(zero, index(lanes), 1, [&](Value lane) {
      loop(zero, index(depth), 1, [&](Value k) {
        Value value = memref::LoadOp::create(builder, loc, laneBuffer,
                                             ValueRange{lane, k});
        memref::StoreOp::create(builder, loc, value, copy, ValueRange{k, lane});
      });
    });
    laneBuffer = copy;
  }
  Value rowBuffer = materializeAs(rowTile, element);
  bool rowsOuter = op.getMap(rowOperand).getDimPosition(1) == 2;

  Value init;
  bool zeroInit = matchPattern(op.getAcc(), m_AnyZeroFloat()) ||
                  matchPattern(op.getAcc(), m_Zero());
  if (!zeroInit)
    init = materialize(op.getAcc());
  Value dest = destination(op.getResult(), {op});
  if (dest == laneBuffer || dest == rowBuffer)
    dest = allocate(op.getResult());

  int64_t chunk = chunkOf(element.getIntOrFloatBitWidth());
  VectorType vector = VectorType::get({chunk}, element);
  bool isFloat = isa<FloatType>(element);
  auto contract = arith::FastMathFlags::contract;

  // Accumulators of `count` rows from `row` and one chunk of lanes.
  auto kernel = [&](Value row, int64_t count, Value lane) {
    // The sum starts at zero and the accumulator is added at the end: blocked
    // summation loses less than one long chain.
    SmallVector<Value> rowAt, inits(count, constant(vector, 0));
    for (int64_t i = 0; i < count; ++i)
      rowAt.push_back(add(row, index(i)));
    auto loopK =
        scf::ForOp::create(builder, loc, zero, index(depth), index(1), inits);
    {
      OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPointToStart(loopK.getBody());
      Value k = loopK.getInductionVar();
      Value right = vector::LoadOp::create(builder, loc, vector, laneBuffer,
                                           ValueRange{k, lane});
      SmallVector<Value> sums;
      for (int64_t i = 0; i < count; ++i) {
        SmallVector<Value> at = {rowAt[i], k};
        if (!rowsOuter)
          std::swap(at[0], at[1]);
        Value scalar = memref::LoadOp::create(builder, loc, rowBuffer, at);
        Value left = vector::BroadcastOp::create(builder, loc, vector, scalar);
        Value acc = loopK.getRegionIterArg(i);
        if (isFloat) {
          Value product =
              arith::MulFOp::create(builder, loc, left, right, contract);
          sums.push_back(
              arith::AddFOp::create(builder, loc, product, acc, contract));
        } else {
          Value product = arith::MulIOp::create(builder, loc, left, right);
          sums.push_back(arith::AddIOp::create(builder, loc, product, acc));
        }
      }
      scf::YieldOp::create(builder, loc, sums);
    }
    for (int64_t i = 0; i < count; ++i) {
      Value sum = loopK.getResult(i);
      SmallVector<Value> at = {rowAt[i], lane};
      if (init) {
        Value acc = convert(
            vector::LoadOp::create(
                builder, loc,
                vector.clone(cast<MemRefType>(init.getType()).getElementType()),
                init, at),
            element);
        sum = combine(tl::ReduceKind::add, acc, sum);
      }
      vector::StoreOp::create(builder, loc, sum, dest, at);
    }
  };

  // Two vectors per row; three registers hold operands. Blocks of nearly equal
  // size: `larger` of size + 1 rows, then the rest of `size` rows.
  int64_t most = std::max<int64_t>(1, (registers - 3) / 2);
  int64_t blocks = llvm::divideCeil(rows, most);
  int64_t size = rows / blocks, larger = rows % blocks;
  loop(zero, index(padded(lanes)), chunk, [&](Value lane) {
    int64_t split = larger * (size + 1);
    if (larger)
      loop(zero, index(split), size + 1,
           [&](Value row) { kernel(row, size + 1, lane); });
    loop(index(split), index(rows), size,
         [&](Value row) { kernel(row, size, lane); });
  });
  buffers[op.getResult()] = dest;
  return success();
}

Value TileLowering::neutral(tl::ReduceKind kind, Type type) {
  Type element = getElementTypeOrSelf(type);
  if (kind == tl::ReduceKind::add)
    return constant(type, 0);
  if (isa<FloatType>(element))
    return constant(type, -std::numeric_limits<double>::infinity());
  Attribute least = builder.getIntegerAttr(
      element, APInt::getSignedMinValue(element.getIntOrFloatBitWidth()));
  TypedAttr attr = cast<TypedAttr>(least);
  if (auto vector = dyn_cast<VectorType>(type))
    attr = DenseElementsAttr::get(vector, least);
  return arith::ConstantOp::create(builder, loc, attr);
}

Value TileLowering::combine(tl::ReduceKind kind, Value acc, Value value) {
  bool isFloat = isa<FloatType>(getElementTypeOrSelf(acc.getType()));
  if (kind == tl::ReduceKind::add) {
    if (isFloat)
      return arith::AddFOp::create(builder, loc, acc, value);
    return arith::AddIOp::create(builder, loc, acc, value);
  }
  if (!isFloat)
    return arith::MaxSIOp::create(builder, loc, acc, value);
  // The accumulator is never NaN, so a comparison that is false for NaN is
  // maxNum, and one instruction on x86.
  Value greater = arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OGT,
                                        value, acc);
  return arith::SelectOp::create(builder, loc, greater, value, acc);
}

LogicalResult TileLowering::lowerRowReduction(tl::ReduceOp op) {
  RankedTensorType type = tileType(op.getSource());
  if (type.getRank() != 2)
    return op.emitOpError("to a single value is not supported by the CPU "
                          "lowering; reduce a matrix tile to a vector tile");
  Value source = materialize(op.getSource());
  Value dest = destination(op.getResult(), {op});
  Type element = type.getElementType();
  int64_t lanes = lanesOf(type);
  int64_t chunk = chunkOf(element.getIntOrFloatBitWidth());
  VectorType vector = VectorType::get({chunk}, element);
  Type stored = cast<MemRefType>(source.getType()).getElementType();
  loop(index(0), index(type.getDimSize(0)), 1, [&](Value row) {
    Value acc = neutral(op.getKind(), vector);
    auto step = [&](Value acc, Value lane, bool tail) {
      Value value = convert(
          vector::LoadOp::create(builder, loc, VectorType::get({chunk}, stored),
                                 source, ValueRange{row, lane}),
          element);
      if (tail) {
        SmallVector<bool> inside;
        for (int64_t i = 0; i < chunk; ++i)
          inside.push_back(i < lanes % chunk);
        Value mask = arith::ConstantOp::create(
            builder, loc,
            DenseElementsAttr::get(
                VectorType::get({chunk}, builder.getI1Type()), inside));
        value = arith::SelectOp::create(builder, loc, mask, value,
                                        neutral(op.getKind(), vector));
      }
      return combine(op.getKind(), acc, value);
    };
    int64_t whole = lanes / chunk * chunk;
    if (whole) {
      auto body = scf::ForOp::create(builder, loc, index(0), index(whole),
                                     index(chunk), ValueRange{acc});
      OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPointToStart(body.getBody());
      Value next =
          step(body.getRegionIterArg(0), body.getInductionVar(), false);
      scf::YieldOp::create(builder, loc, next);
      acc = body.getResult(0);
    }
    if (lanes % chunk)
      acc = step(acc, index(whole), true);
    vector::CombiningKind kind =
        op.getKind() == tl::ReduceKind::add ? vector::CombiningKind::ADD
        : isa<FloatType>(element)           ? vector::CombiningKind::MAXNUMF
                                            : vector::CombiningKind::MAXSI;
    Value scalar = vector::ReductionOp::create(
        builder, loc, kind, acc,
        isa<FloatType>(element) && kind == vector::CombiningKind::ADD
            ? arith::FastMathFlags::reassoc
            : arith::FastMathFlags::none);
    scalar = convert(scalar, cast<MemRefType>(dest.getType()).getElementType());
    memref::StoreOp::create(builder, loc, scalar, dest, ValueRange{row});
  });
  buffers[op.getResult()] = dest;
  return success();
}

LogicalResult TileLowering::lowerNonfinite(tl::NonfiniteOp op) {
  if (!isTile(op.getSource()))
    return op.emitOpError("reads a shared buffer; the CPU lowering takes L1 "
                          "programs, whose operands are tiles");
  RankedTensorType type = tileType(op.getSource());
  Value source = materialize(op.getSource());
  Type stored = cast<MemRefType>(source.getType()).getElementType();
  // Bits as integers: without the sign, those of NaN and infinity are not less
  // than infinity's, so the greatest decides. A float comparison would take two
  // instructions and mask registers.
  auto element = cast<FloatType>(
      stored.getIntOrFloatBitWidth() < 32 ? builder.getF32Type() : stored);
  unsigned bits = element.getWidth();
  Type integer = builder.getIntegerType(bits);
  int64_t chunk = chunkOf(bits), lanes = lanesOf(type);
  auto vector = VectorType::get({chunk}, integer);
  Value acc = constant(vector, 0);

  auto step = [&](Value acc, Value row, Value lane, int64_t count) {
    SmallVector<Value> at = {row, lane};
    if (type.getRank() == 1)
      at = {lane};
    Value value = vector::LoadOp::create(
        builder, loc, VectorType::get({chunk}, stored), source, at);
    value = vector::BitCastOp::create(builder, loc, vector,
                                      convert(value, element));
    // The lanes beyond the tile hold anything.
    SmallVector<APInt> keep(chunk, APInt::getZero(bits));
    std::fill_n(keep.begin(), count, APInt::getSignedMaxValue(bits));
    Value mask = arith::ConstantOp::create(
        builder, loc, DenseElementsAttr::get(vector, keep));
    value = arith::AndIOp::create(builder, loc, value, mask);
    return arith::MaxSIOp::create(builder, loc, acc, value).getResult();
  };
  // A loop that passes `acc` on.
  auto sweep = [&](Value acc, int64_t end, int64_t stride,
                   function_ref<Value(Value, Value)> body) -> Value {
    auto loop = scf::ForOp::create(builder, loc, index(0), index(end),
                                   index(stride), acc);
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(loop.getBody());
    Value next = body(loop.getRegionIterArg(0), loop.getInductionVar());
    scf::YieldOp::create(builder, loc, next);
    return loop.getResult(0);
  };
  acc = sweep(acc, rowsOf(type), 1, [&](Value acc, Value row) {
    int64_t whole = lanes / chunk * chunk;
    if (whole)
      acc = sweep(acc, whole, chunk, [&](Value acc, Value lane) {
        return step(acc, row, lane, chunk);
      });
    if (lanes % chunk)
      acc = step(acc, row, index(whole), lanes % chunk);
    return acc;
  });
  Value greatest = vector::ReductionOp::create(
      builder, loc, vector::CombiningKind::MAXSI, acc);
  APInt infinity =
      APFloat::getInf(element.getFloatSemantics()).bitcastToAPInt();
  Value limit = arith::ConstantOp::create(
      builder, loc, builder.getIntegerAttr(integer, infinity));
  Value any = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::sge,
                                    greatest, limit);
  op.getAny().replaceAllUsesWith(any);
  return success();
}

/// Element by element: no schedule of the CPU asks.
LogicalResult TileLowering::lowerExceeds(tl::ExceedsOp op) {
  RankedTensorType type = tileType(op.getTile());
  Value source = materialize(op.getTile());
  Value any = arith::ConstantIntOp::create(builder, loc, /*value=*/0,
                                           /*width=*/1);
  SmallVector<Value> at;
  OpBuilder::InsertionGuard guard(builder);
  SmallVector<scf::ForOp> loops;
  for (int64_t extent : type.getShape()) {
    Value init = loops.empty() ? any : loops.back().getRegionIterArg(0);
    loops.push_back(scf::ForOp::create(builder, loc, index(0), index(extent),
                                       index(1), init));
    at.push_back(loops.back().getInductionVar());
    builder.setInsertionPointToStart(loops.back().getBody());
  }
  Value element = convert(memref::LoadOp::create(builder, loc, source, at),
                          type.getElementType());
  Value isGreater = arith::CmpFOp::create(
      builder, loc, arith::CmpFPredicate::OGT, element, op.getLimit());
  Value result = arith::OrIOp::create(
      builder, loc, loops.back().getRegionIterArg(0), isGreater);
  for (scf::ForOp loop : llvm::reverse(loops)) {
    builder.setInsertionPointToEnd(loop.getBody());
    scf::YieldOp::create(builder, loc, result);
    result = loop.getResult(0);
  }
  op.getAny().replaceAllUsesWith(result);
  return success();
}

//===----------------------------------------------------------------------===//
// Nests of pointwise operations
//===----------------------------------------------------------------------===//

void TileLowering::flush() {
  if (pending.empty())
    return;
  SmallVector<Operation *> ops = std::move(pending);
  pending.clear();
  DenseSet<Operation *> inside(ops.begin(), ops.end());
  Roots roots;
  for (Operation *op : ops) {
    Value result = op->getResult(0);
    if (llvm::all_of(result.getUsers(),
                     [&](Operation *user) { return inside.contains(user); }))
      continue;
    roots[result] = destination(result, ops);
  }
  Location saved = loc;
  loc = ops.front()->getLoc();
  emitNest(ops, roots);
  loc = saved;
  emitted.insert(ops.begin(), ops.end());
}

void TileLowering::emitNest(ArrayRef<Operation *> ops, Roots roots) {
  if (roots.empty())
    return;
  Nest nest;
  nest.ops.insert(ops.begin(), ops.end());
  nest.lanes = ops.empty() ? lanesOf(tileType(roots.front().first))
                           : nestLanes(ops.front());

  // Stages: a reduction is available one stage after its source.
  int64_t stages = 1;
  unsigned bits = 32;
  auto note = [&](Type type) {
    if (auto tile = dyn_cast<RankedTensorType>(type))
      bits = std::max(bits, tile.getElementTypeBitWidth());
  };
  for (Operation *op : ops) {
    int64_t stage = 0;
    for (Value operand : op->getOperands()) {
      note(operand.getType());
      stage = std::max(stage, nest.stage.lookup(operand));
    }
    note(op->getResult(0).getType());
    if (isa<tl::ReduceOp>(op))
      ++stage;
    nest.stage[op->getResult(0)] = stage;
    stages = std::max(stages, stage + 1);
  }
  for (auto &[tile, dest] : roots)
    note(tile.getType());
  nest.chunk = chunkOf(bits);

  // In which stages is each matrix evaluated? What several stages need is
  // stored by the first of them unless it is cheap to compute again.
  DenseMap<Value, std::set<int64_t>> needed;
  DenseMap<Value, int64_t> cost;
  for (Operation *op : ops) {
    int64_t sum = costOf(op);
    if (!isa<tl::ReduceOp>(op))
      for (Value operand : op->getOperands())
        sum += cost.lookup(operand);
    cost[op->getResult(0)] = isa<tl::ReduceOp>(op) ? 0 : sum;
  }
  auto isMatrix = [](Value tile) {
    return isTile(tile) && tileType(tile).getRank() == 2;
  };
  for (auto &[tile, dest] : roots)
    if (isMatrix(tile))
      needed[tile].insert(nest.stage.lookup(tile));
  constexpr int64_t kCheap = 3;
  for (Operation *op : llvm::reverse(ops)) {
    Value result = op->getResult(0);
    if (auto reduce = dyn_cast<tl::ReduceOp>(op)) {
      needed[reduce.getSource()].insert(nest.stage.lookup(reduce.getSource()));
      continue;
    }
    if (!isMatrix(result))
      continue;
    std::set<int64_t> when = needed.lookup(result);
    if (when.empty())
      continue;
    bool isRoot = roots.count(result);
    if (isRoot || (when.size() > 1 && cost[result] > kCheap)) {
      nest.storeStage[result] = *when.begin();
      nest.stored[result] = isRoot ? roots[result] : allocate(result);
      when = {*when.begin()};
      needed[result] = when;
    }
    for (Value operand : op->getOperands())
      if (isMatrix(operand))
        needed[operand].insert(when.begin(), when.end());
  }
  for (auto &[tile, dest] : roots)
    if (isMatrix(tile) && !nest.stored.count(tile)) {
      nest.storeStage[tile] = 0; // a copy
      nest.stored[tile] = dest;
    }

  // A destination must not be read after it is written.
  auto readLater = [&](Value tile, Value dest) {
    for (Operation *op : ops)
      for (Value operand : op->getOperands())
        if (!nest.ops.contains(operand.getDefiningOp()) &&
            buffers.lookup(operand) == dest) {
          auto broadcast = dyn_cast<tl::BroadcastOp>(op);
          if (broadcast && isRowBroadcast(broadcast))
            return true;
          const std::set<int64_t> &when = needed[operand];
          if (isMatrix(operand) && !when.empty() &&
              *when.rbegin() > nest.storeStage.lookup(tile))
            return true;
        }
    return false;
  };
  SmallVector<std::pair<Value, Value>> vectorRoots;
  for (auto &[tile, dest] : roots) {
    if (!ops.empty() && readLater(tile, dest))
      dest = allocate(tile);
    if (isMatrix(tile))
      nest.stored[tile] = dest;
    else
      vectorRoots.emplace_back(tile, dest);
  }
  // Stored matrices in program order.
  SmallVector<Value> matrices;
  for (Operation *op : ops)
    if (nest.stored.count(op->getResult(0)))
      matrices.push_back(op->getResult(0));
  for (auto &[tile, dest] : nest.stored)
    if (!llvm::is_contained(matrices, tile))
      matrices.push_back(tile);

  loop(index(0), index(padded(nest.lanes)), nest.chunk, [&](Value lane) {
    nest.lane = lane;
    nest.chunkValues.clear();
    // Vectors from memory come first: their memory may be overwritten below.
    for (Operation *op : ops) {
      auto broadcast = dyn_cast<tl::BroadcastOp>(op);
      if (broadcast && isRowBroadcast(broadcast))
        continue;
      for (Value operand : op->getOperands())
        if (isTile(operand) && !isMatrix(operand) &&
            !nest.ops.contains(operand.getDefiningOp()))
          (void)evaluate(nest, operand);
    }
    for (int64_t stage = 0; stage < stages; ++stage) {
      nest.current = stage;
      for (Operation *op : ops)
        if (Value result = op->getResult(0); !isMatrix(result) &&
                                             !isa<tl::ReduceOp>(op) &&
                                             nest.stage.lookup(result) == stage)
          (void)evaluate(nest, result);
      // The row loops of this stage, one for each number of rows.
      llvm::SmallSetVector<int64_t, 4> extents;
      SmallVector<tl::ReduceOp> reductions;
      for (Operation *op : ops)
        if (auto reduce = dyn_cast<tl::ReduceOp>(op))
          if (nest.stage.lookup(reduce.getSource()) == stage) {
            reductions.push_back(reduce);
            extents.insert(rowsOf(tileType(reduce.getSource())));
          }
      for (Value tile : matrices)
        if (nest.storeStage.lookup(tile) == stage)
          extents.insert(rowsOf(tileType(tile)));
      for (int64_t rows : extents) {
        SmallVector<tl::ReduceOp> here;
        SmallVector<Value> inits;
        for (tl::ReduceOp reduce : reductions)
          if (rowsOf(tileType(reduce.getSource())) == rows) {
            here.push_back(reduce);
            inits.push_back(
                neutral(reduce.getKind(),
                        VectorType::get(
                            {nest.chunk},
                            tileType(reduce.getSource()).getElementType())));
          }
        auto rowLoop = scf::ForOp::create(builder, loc, index(0), index(rows),
                                          index(1), inits);
        OpBuilder::InsertionGuard guard(builder);
        if (inits.empty())
          builder.setInsertionPointToStart(rowLoop.getBody());
        else
          builder.setInsertionPointToEnd(rowLoop.getBody());
        nest.row = rowLoop.getInductionVar();
        nest.rowValues.clear();
        SmallVector<Value> next;
        for (auto [i, reduce] : llvm::enumerate(here))
          next.push_back(combine(reduce.getKind(), rowLoop.getRegionIterArg(i),
                                 evaluate(nest, reduce.getSource())));
        for (Value tile : matrices)
          if (nest.storeStage.lookup(tile) == stage &&
              rowsOf(tileType(tile)) == rows)
            storeChunk(nest, evaluate(nest, tile), tile, nest.stored[tile]);
        if (!inits.empty())
          scf::YieldOp::create(builder, loc, next);
        for (auto [i, reduce] : llvm::enumerate(here))
          nest.chunkValues[reduce.getResult()] = rowLoop.getResult(i);
      }
    }
    for (auto [tile, dest] : vectorRoots)
      storeChunk(nest, evaluate(nest, tile), tile, dest);
  });
  if (!ops.empty())
    for (auto &[tile, dest] : roots)
      buffers[tile] = dest;
}

Value TileLowering::loadChunk(Nest &nest, Value tile, Value buffer) {
  auto type = cast<MemRefType>(buffer.getType());
  SmallVector<Value> at;
  if (tileType(tile).getRank() == 2)
    at.push_back(nest.row);
  at.push_back(nest.lane);
  Value value = vector::LoadOp::create(
      builder, loc, VectorType::get({nest.chunk}, type.getElementType()),
      buffer, at);
  return convert(value, tileType(tile).getElementType());
}

void TileLowering::storeChunk(Nest &nest, Value vector, Value tile,
                              Value buffer) {
  auto type = cast<MemRefType>(buffer.getType());
  SmallVector<Value> at;
  if (tileType(tile).getRank() == 2)
    at.push_back(nest.row);
  at.push_back(nest.lane);
  vector::StoreOp::create(builder, loc, convert(vector, type.getElementType()),
                          buffer, at);
}

Value TileLowering::evaluateLeaf(Nest &nest, Operation *op) {
  RankedTensorType type = tileType(op->getResult(0));
  VectorType vector = VectorType::get({nest.chunk}, type.getElementType());
  if (auto constant = dyn_cast<arith::ConstantOp>(op)) {
    auto splat = cast<SplatElementsAttr>(constant.getValue());
    return arith::ConstantOp::create(
        builder, loc,
        SplatElementsAttr::get(vector, splat.getSplatValue<Attribute>()));
  }
  if (auto splat = dyn_cast<tl::SplatOp>(op))
    return vector::BroadcastOp::create(builder, loc, vector, splat.getValue());
  auto iota = cast<tl::IotaOp>(op);
  bool alongLanes = int64_t(iota.getDim()) == type.getRank() - 1;
  Value start = arith::IndexCastOp::create(builder, loc, type.getElementType(),
                                           alongLanes ? nest.lane : nest.row);
  Value value = vector::BroadcastOp::create(builder, loc, vector, start);
  if (!alongLanes)
    return value;
  SmallVector<Attribute> steps;
  for (int64_t i = 0; i < nest.chunk; ++i)
    steps.push_back(builder.getIntegerAttr(type.getElementType(), i));
  Value step = arith::ConstantOp::create(builder, loc,
                                         DenseElementsAttr::get(vector, steps));
  return arith::AddIOp::create(builder, loc, value, step);
}

Value TileLowering::evaluateGather(Nest &nest, tl::GatherOp op) {
  // Element by element: an index is clamped into the source.
  RankedTensorType type = tileType(op.getResult());
  VectorType vector = VectorType::get({nest.chunk}, type.getElementType());
  SmallVector<Value> indices, last;
  Value zero = index(0);
  for (auto [dim, tile] : llvm::enumerate(op.getIndices())) {
    indices.push_back(evaluate(nest, tile));
    Value size = memref::DimOp::create(builder, loc, op.getSource(), dim);
    last.push_back(arith::SubIOp::create(builder, loc, size, index(1)));
  }
  Value result = arith::ConstantOp::create(builder, loc, vector,
                                           builder.getZeroAttr(vector));
  for (int64_t i = 0; i < nest.chunk; ++i) {
    SmallVector<Value> at;
    for (auto [value, bound] : llvm::zip(indices, last)) {
      Value element = vector::ExtractOp::create(builder, loc, value, i);
      element = arith::IndexCastOp::create(builder, loc, builder.getIndexType(),
                                           element);
      element = arith::MinSIOp::create(builder, loc, element, bound);
      at.push_back(arith::MaxSIOp::create(builder, loc, element, zero));
    }
    Value element = memref::LoadOp::create(builder, loc, op.getSource(), at);
    result = vector::InsertOp::create(builder, loc, element, result, i);
  }
  return result;
}

Value TileLowering::evaluate(Nest &nest, Value tile) {
  bool matrix = tileType(tile).getRank() == 2;
  DenseMap<Value, Value> &values = matrix ? nest.rowValues : nest.chunkValues;
  if (Value value = values.lookup(tile))
    return value;
  Operation *op = tile.getDefiningOp();
  Value value;
  if (nest.ops.contains(op)) {
    auto stored = nest.storeStage.find(tile);
    if (matrix && stored != nest.storeStage.end() &&
        nest.current > stored->second) {
      value = loadChunk(nest, tile, nest.stored[tile]);
    } else if (auto broadcast = dyn_cast<tl::BroadcastOp>(op)) {
      VectorType vector =
          VectorType::get({nest.chunk}, tileType(tile).getElementType());
      if (isRowBroadcast(broadcast)) {
        Value buffer = materialize(broadcast.getSource());
        Value scalar =
            memref::LoadOp::create(builder, loc, buffer, ValueRange{nest.row});
        scalar = convert(scalar, vector.getElementType());
        value = vector::BroadcastOp::create(builder, loc, vector, scalar);
      } else {
        value = evaluate(nest, broadcast.getSource());
      }
    } else if (auto gather = dyn_cast<tl::GatherOp>(op)) {
      value = evaluateGather(nest, gather);
    } else {
      SmallVector<Value> operands;
      for (Value operand : op->getOperands())
        operands.push_back(isTile(operand) ? evaluate(nest, operand) : operand);
      // The lanes beyond the tile hold anything; integer division traps on 0.
      if (nest.lanes % nest.chunk &&
          isa<arith::DivSIOp, arith::DivUIOp, arith::RemSIOp, arith::RemUIOp,
              arith::CeilDivSIOp, arith::FloorDivSIOp, arith::CeilDivUIOp>(
              op)) {
        Type type = operands[1].getType();
        Value isZero =
            arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq,
                                  operands[1], constant(type, 0));
        operands[1] = arith::SelectOp::create(builder, loc, isZero,
                                              constant(type, 1), operands[1]);
      }
      VectorType vector =
          VectorType::get({nest.chunk}, tileType(tile).getElementType());
      value = builder
                  .create(loc, op->getName().getIdentifier(), operands,
                          TypeRange{vector}, op->getAttrs())
                  ->getResult(0);
    }
  } else if (isLeaf(op)) {
    value = evaluateLeaf(nest, op);
  } else {
    value = loadChunk(nest, tile, materialize(tile));
  }
  values[tile] = value;
  return value;
}

//===----------------------------------------------------------------------===//
// Driver
//===----------------------------------------------------------------------===//

void TileLowering::limitStack() {
  constexpr int64_t kMostBytes = 1 << 20;
  SmallVector<memref::AllocaOp> scratch(
      scratchBlock->getOps<memref::AllocaOp>());
  int64_t bytes = 0;
  for (memref::AllocaOp op : scratch)
    bytes += op.getType().getNumElements() *
             op.getType().getElementTypeBitWidth() / 8;
  if (bytes <= kMostBytes)
    return;
  for (memref::AllocaOp op : scratch) {
    builder.setInsertionPoint(op);
    Value heap = memref::AllocOp::create(builder, op.getLoc(), op.getType(),
                                         op.getAlignmentAttr());
    builder.setInsertionPoint(scratchBlock->getTerminator());
    memref::DeallocOp::create(builder, op.getLoc(), heap);
    op.replaceAllUsesWith(heap);
    op.erase();
  }
}

LogicalResult TileLowering::run() {
  if (func.isDeclaration())
    return success();
  for (BlockArgument arg : func.getArguments())
    if (isTile(arg))
      return func.emitOpError("argument ")
             << arg.getArgNumber()
             << " is a tile; take a memref and load tiles from it";
  WalkResult result = func.walk([&](Operation *op) -> WalkResult {
    if (auto constant = dyn_cast<arith::ConstantOp>(op))
      if (isTile(constant) && !isa<SplatElementsAttr>(constant.getValue()))
        return op->emitOpError("a constant tile must be a splat");
    return WalkResult::advance();
  });
  if (result.wasInterrupted())
    return failure();
  func.walk([&](scf::IfOp op) { recomputeInColdBranch(op); });
  scratchBlock = &func.getBody().front();
  func.walk([&](scf::ForallOp loop) { scratchBlock = loop.getBody(); });
  for (Block &block : func.getBody()) {
    pushScope();
    if (failed(lowerBlock(block)))
      return failure();
    popScope();
  }
  for (Operation *op : dead)
    op->dropAllReferences();
  for (Operation *op : dead) {
    op->dropAllUses();
    op->erase();
  }
  for (scf::ForOp loop : bodies)
    loop.getBody()->eraseArguments(
        [](BlockArgument arg) { return isTile(arg); });
  limitStack();
  return success();
}

namespace {
struct ConvertTileToVector
    : public fa::impl::ConvertTileToVectorBase<ConvertTileToVector> {
  using ConvertTileToVectorBase::ConvertTileToVectorBase;
  void runOnOperation() override {
    TileLowering lowering(getOperation(), vectorBits, registers);
    if (failed(lowering.run()))
      signalPassFailure();
  }
};
} // namespace
