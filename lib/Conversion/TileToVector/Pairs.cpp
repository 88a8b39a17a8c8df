//===- Pairs.cpp - Factors of dot instructions ----------------------------===//

#include "TileLowering.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::fa;

bool TileLowering::usesDots(tl::ContractOp op) const {
  return dotBF16 && op.getExtents()[2] % 2 == 0 &&
         getElementTypeOrSelf(op.getAcc().getType()).isF32() &&
         llvm::all_of(ValueRange{op.getLhs(), op.getRhs()}, [](Value factor) {
           return isTile(factor) && tileType(factor).getElementType().isBF16();
         });
}

bool TileLowering::readInPairs(Value tile, bool only) const {
  bool found = false;
  for (OpOperand &use : tile.getUses()) {
    if (isa<tl::NonfiniteOp>(use.getOwner()))
      continue;
    auto contract = dyn_cast<tl::ContractOp>(use.getOwner());
    bool inPairs =
        contract && use.getOperandNumber() < 2 && usesDots(contract) &&
        contract.getMap(use.getOperandNumber()).getDimPosition(0) == 2;
    if (only && !inPairs)
      return false;
    found |= inPairs;
  }
  return found;
}

Value TileLowering::pairsOf(Value tile) {
  if (Value buffer = pairs.lookup(tile))
    return buffer;
  RankedTensorType type = tileType(tile);
  return packPairs(type, materializeAs(tile, type.getElementType()));
}

Value TileLowering::packPairs(RankedTensorType tile, Value buffer) {
  Value packed = allocate(pairsType(tile));
  int64_t chunk = chunkOf(32);
  auto stored = cast<MemRefType>(buffer.getType()).getElementType();
  VectorType vector = VectorType::get({chunk}, stored);
  loop(index(0), index(tile.getDimSize(0)), 2, [&](Value row) {
    Value odd = add(row, index(1));
    loop(index(0), index(padded(lanesOf(tile))), chunk, [&](Value lane) {
      auto load = [&](Value from) {
        return convert(vector::LoadOp::create(builder, loc, vector, buffer,
                                              ValueRange{from, lane}),
                       tile.getElementType());
      };
      storePair(load(row), load(odd), packed, row, lane);
    });
  });
  return packed;
}

void TileLowering::storePair(Value even, Value odd, Value buffer, Value row,
                             Value lane) {
  Value pair = vector::InterleaveOp::create(builder, loc, even, odd);
  Value at = arith::ShRUIOp::create(builder, loc, row, index(1));
  Value from = arith::AddIOp::create(builder, loc, lane, lane);
  vector::StoreOp::create(builder, loc, pair, buffer, ValueRange{at, from});
}

void TileLowering::turnPairs(Value from, Value to, int64_t rows,
                             int64_t pairs) {
  Type element = cast<MemRefType>(from.getType()).getElementType();
  auto inPairs = VectorType::get({2 * kPairBlock}, element);
  auto words = VectorType::get({kPairBlock}, builder.getI32Type());
  // Vector i of the block at (row, pair) of `memory`.
  auto placeOf = [&](Value row, Value pair, int64_t i) {
    return SmallVector<Value>{add(row, index(i)),
                              arith::AddIOp::create(builder, loc, pair, pair)};
  };
  loop(index(0), index(rows), kPairBlock, [&](Value row) {
    loop(index(0), index(pairs), kPairBlock, [&](Value pair) {
      SmallVector<Value> vectors;
      for (int64_t i = 0; i < kPairBlock; ++i) {
        Value value = vector::LoadOp::create(builder, loc, inPairs, from,
                                             placeOf(row, pair, i));
        vectors.push_back(
            vector::BitCastOp::create(builder, loc, words, value));
      }
      turnBlock(vectors);
      for (auto [i, value] : llvm::enumerate(vectors)) {
        value = vector::BitCastOp::create(builder, loc, inPairs, value);
        vector::StoreOp::create(builder, loc, value, to, placeOf(pair, row, i));
      }
    });
  });
}
