//===- Elementwise.cpp - Nests of pointwise operations --------------------===//

#include "TileLowering.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include <set>

using namespace mlir;
using namespace mlir::fa;

int64_t mlir::fa::nestLanes(Operation *op) {
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

void TileLowering::flush() {
  SmallVector<Operation *> ops = std::move(pending);
  pending.clear();
  emitPending(ops);
}

void TileLowering::flushFor(Value tile) {
  DenseSet<Operation *> needed = {tile.getDefiningOp()};
  for (Operation *op : llvm::reverse(pending))
    if (needed.contains(op))
      for (Value operand : op->getOperands())
        needed.insert(operand.getDefiningOp());
  SmallVector<Operation *> ops, rest;
  for (Operation *op : pending)
    (needed.contains(op) ? ops : rest).push_back(op);
  pending = std::move(rest);
  emitPending(ops);
}

void TileLowering::emitPending(ArrayRef<Operation *> ops) {
  if (ops.empty())
    return;
  DenseSet<Operation *> inside(ops.begin(), ops.end());
  Roots roots;
  for (Operation *op : ops) {
    Value result = op->getResult(0);
    if (llvm::all_of(result.getUsers(),
                     [&](Operation *user) { return inside.contains(user); }))
      continue;
    roots[result] = computedInPairs(result)
                        ? allocate(pairsType(tileType(result)))
                        : destination(result, ops);
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
  for (auto &[tile, dest] : roots) {
    note(tile.getType());
    if (!ops.empty() && computedInPairs(tile))
      nest.pairs.insert(tile);
  }
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
    if (!ops.empty() && !nest.pairs.contains(tile) && readLater(tile, dest))
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
        SmallVector<Value> stores;
        for (Value tile : matrices)
          if (nest.storeStage.lookup(tile) == stage &&
              rowsOf(tileType(tile)) == rows)
            stores.push_back(tile);
        // Two rows at a time where pairs of rows are stored.
        int64_t step =
            llvm::any_of(stores,
                         [&](Value tile) { return nest.pairs.contains(tile); })
                ? 2
                : 1;
        auto rowLoop = scf::ForOp::create(builder, loc, index(0), index(rows),
                                          index(step), inits);
        OpBuilder::InsertionGuard guard(builder);
        if (inits.empty())
          builder.setInsertionPointToStart(rowLoop.getBody());
        else
          builder.setInsertionPointToEnd(rowLoop.getBody());
        SmallVector<Value> next(rowLoop.getRegionIterArgs());
        DenseMap<Value, Value> even;
        for (int64_t i = 0; i < step; ++i) {
          nest.row = i ? add(rowLoop.getInductionVar(), index(i))
                       : rowLoop.getInductionVar();
          nest.rowValues.clear();
          for (auto [reduce, acc] : llvm::zip(here, next))
            acc = combine(reduce.getKind(), acc,
                          evaluate(nest, reduce.getSource()));
          for (Value tile : stores) {
            Value value = evaluate(nest, tile);
            if (!nest.pairs.contains(tile))
              storeChunk(nest, value, tile, nest.stored[tile]);
            else if (i == 0)
              even[tile] = value;
            else
              storePair(even[tile], value, nest.stored[tile],
                        rowLoop.getInductionVar(), nest.lane);
          }
        }
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
      (nest.pairs.contains(tile) ? pairs : buffers)[tile] = dest;
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
