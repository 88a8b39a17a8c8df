//===- Contract.cpp - Contractions as register-blocked loops --------------===//

#include "TileLowering.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace mlir::fa;

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
