//===- Memory.cpp - Loads and stores of tiles -----------------------------===//

#include "TileLowering.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include <functional>

using namespace mlir;
using namespace mlir::fa;

SmallVector<Value>
TileLowering::Access::indices(TileLowering &l,
                              ArrayRef<Value> coordinates) const {
  SmallVector<Value> result(order.size());
  for (auto [dim, coordinate] : llvm::enumerate(coordinates))
    result[order[dim]] = l.add(offset[dim], coordinate);
  return view.expand(l.builder, l.loc, result);
}

TileLowering::Access TileLowering::access(
    Value memref, OperandRange offsets, std::optional<ArrayRef<int64_t>> order,
    std::optional<ArrayRef<int64_t>> merged, RankedTensorType tile) {
  Access result = {tl::MergedView(memref, merged), {}, {}, {}, {}};
  int64_t rank = tile.getRank();
  result.order = order ? llvm::to_vector(*order)
                       : llvm::to_vector(llvm::seq<int64_t>(0, rank));
  Value zero = index(0);
  for (int64_t dim = 0; dim < rank; ++dim) {
    int64_t source = result.order[dim];
    Value offset = offsets[source];
    Value extent = index(tile.getDimSize(dim));
    result.offset.push_back(offset);
    if (result.view.holds(source, offset, tile.getDimSize(dim))) {
      result.lower.push_back(zero);
      result.upper.push_back(extent);
      continue;
    }
    Value left = arith::SubIOp::create(
        builder, loc, result.view.getExtent(builder, loc, source), offset);
    Value upper = arith::MinSIOp::create(builder, loc, left, extent);
    Value before = arith::SubIOp::create(builder, loc, zero, offset);
    Value lower = arith::MaxSIOp::create(builder, loc, before, zero);
    result.lower.push_back(lower);
    // An empty range keeps upper >= lower out of the callers' way.
    result.upper.push_back(arith::MaxSIOp::create(builder, loc, upper, lower));
  }
  return result;
}

bool TileLowering::rowsContiguous(const Access &access) {
  int64_t last = access.view.getRank() - 1;
  return access.order.back() == last && access.view.getStride(last) == 1;
}

int64_t TileLowering::turnedBlock(RankedTensorType tile, const Access &access) {
  int64_t last = access.view.getRank() - 1;
  if (tile.getRank() != 2 || tile.getElementType().isInteger(1) ||
      access.order.front() != last || access.view.getStride(last) != 1)
    return 0;
  int64_t block = chunkOf(tile.getElementTypeBitWidth()) / 2;
  bool divides = tile.getDimSize(0) % block == 0 && lanesOf(tile) % block == 0;
  return divides ? block : 0;
}

Value TileLowering::isWhole(const Access &access, RankedTensorType tile) {
  Value whole = arith::ConstantIntOp::create(builder, loc, /*value=*/1,
                                             /*width=*/1);
  auto check = [&](Value bound, int64_t wanted) {
    if (getConstantIntValue(bound) == wanted)
      return;
    Value equal = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq,
                                        bound, index(wanted));
    whole = matchPattern(whole, m_One())
                ? equal
                : arith::AndIOp::create(builder, loc, whole, equal);
  };
  for (int64_t dim = 0; dim < tile.getRank(); ++dim) {
    check(access.lower[dim], 0);
    check(access.upper[dim], tile.getDimSize(dim));
  }
  return whole;
}

void TileLowering::turnBlock(MutableArrayRef<Value> vectors) {
  int64_t block = vectors.size();
  // Halves, quarters, ... off the diagonal change places.
  for (int64_t half = block / 2; half; half /= 2)
    for (int64_t i = 0; i < block; ++i) {
      if (i & half)
        continue;
      Value upper = vectors[i], lower = vectors[i + half];
      SmallVector<int64_t> left, right;
      for (int64_t lane = 0; lane < block; ++lane) {
        bool isRight = lane & half;
        left.push_back(isRight ? block + lane - half : lane);
        right.push_back(isRight ? block + lane : lane + half);
      }
      vectors[i] = vector::ShuffleOp::create(builder, loc, upper, lower, left);
      vectors[i + half] =
          vector::ShuffleOp::create(builder, loc, upper, lower, right);
    }
}

void TileLowering::copyTurned(RankedTensorType type, int64_t block,
                              const Access &access, Value memref, Value buffer,
                              bool isStore) {
  Value from = isStore ? buffer : memref, to = isStore ? memref : buffer;
  auto elementOf = [](Value memory) {
    return cast<MemRefType>(memory.getType()).getElementType();
  };
  auto part = VectorType::get({block}, elementOf(from));
  // Vector `i` of a block: a row of it in the buffer, a column in memory.
  auto placeIn = [&](Value memory, Value row, Value lane, int64_t i) {
    if (memory == buffer)
      return SmallVector<Value>{add(row, index(i)), lane};
    return access.indices(*this, {row, add(lane, index(i))});
  };
  loop(index(0), index(type.getDimSize(0)), block, [&](Value row) {
    loop(index(0), index(lanesOf(type)), block, [&](Value lane) {
      SmallVector<Value> vectors;
      for (int64_t i = 0; i < block; ++i)
        vectors.push_back(
            convert(vector::LoadOp::create(builder, loc, part, from,
                                           placeIn(from, row, lane, i)),
                    elementOf(to)));
      turnBlock(vectors);
      for (auto [i, vector] : llvm::enumerate(vectors))
        vector::StoreOp::create(builder, loc, vector, to,
                                placeIn(to, row, lane, i));
    });
  });
}

LogicalResult TileLowering::lowerLoad(tl::LoadOp op) {
  Value tile = op.getResult();
  RankedTensorType type = tileType(tile);
  Access in = access(op.getSource(), op.getOffsets(), op.getOrder(),
                     op.getMerged(), type);
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
    bool contiguous = lanes % chunk == 0 && rowsContiguous(in) &&
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
    if (int64_t block = turnedBlock(type, in)) {
      auto branch = scf::IfOp::create(builder, loc, isWhole(in, type),
                                      /*withElse=*/true);
      OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPointToStart(branch.thenBlock());
      copyTurned(type, block, in, op.getSource(), buffer, /*isStore=*/false);
      builder.setInsertionPointToStart(branch.elseBlock());
      zeroAll();
      copyRows(1, in.lower.back(), in.upper.back());
      return;
    }
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
  // Here rather than where a product needs them, which may be in a loop.
  if (readInPairs(tile, /*only=*/false))
    pairs[tile] = packPairs(type, buffer);
  return success();
}

template <typename OpT> LogicalResult TileLowering::lowerStore(OpT op) {
  // Grid points run in parallel: one atomic addition per element.
  constexpr bool add = std::is_same_v<OpT, tl::AccumulateOp>;
  Value buffer = materialize(op.getValue());
  RankedTensorType type = tileType(op.getValue());
  MemRefType dest = op.getDest().getType();
  Type element = dest.getElementType();
  std::optional<ArrayRef<int64_t>> merged;
  if constexpr (!add)
    merged = op.getMerged();
  Access out =
      access(op.getDest(), op.getOffsets(), op.getOrder(), merged, type);
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
  if (int64_t block = add ? 0 : turnedBlock(type, out)) {
    auto branch = scf::IfOp::create(builder, loc, isWhole(out, type),
                                    /*withElse=*/true);
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(branch.thenBlock());
    copyTurned(type, block, out, op.getDest(), buffer, /*isStore=*/true);
    builder.setInsertionPointToStart(branch.elseBlock());
    storeRange(1, out.lower, out.upper);
    return success();
  }
  if (add || lanes % chunk || !rowsContiguous(out) || element.isInteger(1)) {
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

template LogicalResult TileLowering::lowerStore(tl::StoreOp op);
template LogicalResult TileLowering::lowerStore(tl::AccumulateOp op);
