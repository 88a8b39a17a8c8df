//===- ControlFlow.cpp - Blocks, loops and branches of tiles --------------===//

#include "TileLowering.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/IRMapping.h"
#include <functional>

using namespace mlir;
using namespace mlir::fa;

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
      if (!pending.empty() && nestLanes(pending.front()) != nestLanes(&op))
        flush();
      // Its elements are read from memory: what they need goes first. The rest
      // stays, for one nest with what comes.
      if (auto broadcast = dyn_cast<tl::BroadcastOp>(&op);
          broadcast && isRowBroadcast(broadcast))
        flushFor(broadcast.getSource());
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
  if (auto held = dyn_cast<tl::RowsHeldOp>(op)) {
    builder.setInsertionPoint(op);
    for (auto [result, value] :
         llvm::zip(held->getResults(),
                   std::array<int64_t, 2>{0, int64_t(held.getRows())}))
      result.replaceAllUsesWith(
          arith::ConstantIndexOp::create(builder, loc, value));
    dead.push_back(op);
    return success();
  }
  if (isa<tl::UnusedOp>(op)) {
    dead.push_back(op);
    return success();
  }
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
