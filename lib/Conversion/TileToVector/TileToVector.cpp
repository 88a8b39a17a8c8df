//===- TileToVector.cpp - convert-tile-to-vector --------------------------===//

#include "TileLowering.h"
#include "fa/Conversion/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::fa;

namespace mlir::fa {
#define GEN_PASS_DEF_CONVERTTILETOVECTOR
#include "fa/Conversion/Passes.h.inc"
} // namespace mlir::fa

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
    Type acc = usesDots(contract)
                   ? element
                   : tileType(contract.getAcc()).getElementType();
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
  return bufferType(tile.getDimSize(0), lanes, element);
}

MemRefType TileLowering::bufferType(int64_t rows, int64_t lanes,
                                    Type element) const {
  // An odd number of cache lines per row: the rows of a chunk of lanes must not
  // all fall into one cache set.
  int64_t line = 512 / element.getIntOrFloatBitWidth();
  if (lanes % (2 * line) == 0)
    lanes += line;
  return MemRefType::get({rows, lanes}, element);
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
  if (needsMatrixUnit)
    setUpMatrixUnit();
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
    TileLowering lowering(getOperation(), vectorBits, registers, dotBF16,
                          amxBF16);
    if (failed(lowering.run()))
      signalPassFailure();
  }
};
} // namespace
