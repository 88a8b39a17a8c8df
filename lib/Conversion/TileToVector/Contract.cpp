//===- Contract.cpp - Contractions as register-blocked loops --------------===//

#include "TileLowering.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace mlir::fa;

void TileLowering::blockRows(
    int64_t rows, int64_t lanes, int64_t chunk,
    function_ref<void(Value row, int64_t count, Value lane)> body) {
  // Two vectors per row; three registers hold operands. Blocks of nearly equal
  // size: `larger` of size + 1 rows, then the rest of `size` rows.
  int64_t most = std::max<int64_t>(1, (registers - 3) / 2);
  int64_t blocks = llvm::divideCeil(rows, most);
  int64_t size = rows / blocks, larger = rows % blocks;
  Value zero = index(0);
  loop(zero, index(padded(lanes)), chunk, [&](Value lane) {
    int64_t split = larger * (size + 1);
    if (larger)
      loop(zero, index(split), size + 1,
           [&](Value row) { body(row, size + 1, lane); });
    loop(index(split), index(rows), size,
         [&](Value row) { body(row, size, lane); });
  });
}

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

  bool dots = usesDots(op);
  bool rowsOuter = op.getMap(rowOperand).getDimPosition(1) == 2;
  bool lanesOuter = op.getMap(laneOperand).getDimPosition(1) != laneDim;
  Type factor = dots ? tileType(laneTile).getElementType() : element;
  Value laneBuffer =
      dots && !lanesOuter ? pairsOf(laneTile) : materializeAs(laneTile, factor);
  if (lanesOuter && dots) {
    // Pairs are contiguous, the lanes must be.
    Value copy =
        allocate(pairsType(RankedTensorType::get({depth, lanes}, factor)));
    VectorType pair = VectorType::get({2}, factor);
    if (lanes % kPairBlock == 0 && depth / 2 % kPairBlock == 0)
      turnPairs(laneBuffer, copy, lanes, depth / 2);
    else
      loop(zero, index(lanes), 1, [&](Value lane) {
        loop(zero, index(depth / 2), 1, [&](Value k) {
          Value value = vector::LoadOp::create(
              builder, loc, pair, laneBuffer,
              ValueRange{lane, arith::AddIOp::create(builder, loc, k, k)});
          vector::StoreOp::create(
              builder, loc, value, copy,
              ValueRange{k, arith::AddIOp::create(builder, loc, lane, lane)});
        });
      });
    laneBuffer = copy;
  } else if (lanesOuter) {
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
  Value rowBuffer =
      dots && !rowsOuter ? pairsOf(rowTile) : materializeAs(rowTile, factor);

  Value init;
  bool zeroInit = matchPattern(op.getAcc(), m_AnyZeroFloat()) ||
                  matchPattern(op.getAcc(), m_Zero());
  if (!zeroInit)
    init = materialize(op.getAcc());
  Value dest = destination(op.getResult(), {op});
  if (dest == laneBuffer || dest == rowBuffer)
    dest = allocate(op.getResult());

  if (usesMatrixUnit(op)) {
    if (!rowsOuter) {
      Value copy = allocate(
          bufferType(RankedTensorType::get({rows, depth}, factor), factor));
      turnPairs(rowBuffer, copy, depth / 2, rows);
      rowBuffer = copy;
    }
    multiplyByMatrixUnit(rowBuffer, laneBuffer, init, dest, rows, lanes, depth);
    buffers[op.getResult()] = dest;
    return success();
  }

  int64_t chunk = chunkOf(element.getIntOrFloatBitWidth());
  VectorType vector = VectorType::get({chunk}, element);
  bool isFloat = isa<FloatType>(element);
  auto contract = arith::FastMathFlags::contract;

  // Sums over k for the rows `rowAt` and one chunk of lanes.
  auto products = [&](ArrayRef<Value> rowAt, Value lane) {
    int64_t count = rowAt.size();
    // The sum starts at zero and the accumulator is added at the end: blocked
    // summation loses less than one long chain.
    SmallVector<Value> inits(count, constant(vector, 0));
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
    return SmallVector<Value>(loopK.getResults());
  };

  // The same, two steps of k at once: one instruction multiplies the pairs of
  // one register of lanes by the pair of a row and adds both products.
  auto dotProducts = [&](ArrayRef<Value> rowAt, Value lane) {
    int64_t width = chunk / 2;
    VectorType part = VectorType::get({width}, element);
    VectorType factors = VectorType::get({2 * width}, factor);
    VectorType pair = VectorType::get({2}, factor);
    Type word = builder.getI32Type();
    std::string dot =
        "llvm.x86.avx512bf16.dpbf16ps." + std::to_string(32 * width);
    SmallVector<Value> inits(2 * rowAt.size(), constant(part, 0));
    auto loopK = scf::ForOp::create(builder, loc, zero, index(depth / 2),
                                    index(1), inits);
    {
      OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPointToStart(loopK.getBody());
      Value k = loopK.getInductionVar();
      Value k2 = arith::AddIOp::create(builder, loc, k, k);
      Value from = arith::AddIOp::create(builder, loc, lane, lane);
      Value right[2];
      for (int64_t half : {0, 1})
        right[half] = vector::LoadOp::create(
            builder, loc, factors, laneBuffer,
            ValueRange{k, add(from, index(half * 2 * width))});
      SmallVector<Value> next;
      for (auto [i, row] : llvm::enumerate(rowAt)) {
        SmallVector<Value> at = {row, k2};
        if (!rowsOuter)
          at = {k, arith::AddIOp::create(builder, loc, row, row)};
        Value left = vector::LoadOp::create(builder, loc, pair, rowBuffer, at);
        left = vector::BitCastOp::create(builder, loc,
                                         VectorType::get({1}, word), left);
        left = vector::ExtractOp::create(builder, loc, left, 0);
        left = vector::BroadcastOp::create(
            builder, loc, VectorType::get({width}, word), left);
        left = vector::BitCastOp::create(builder, loc, factors, left);
        for (int64_t half : {0, 1})
          next.push_back(LLVM::CallIntrinsicOp::create(
                             builder, loc, part, builder.getStringAttr(dot),
                             ValueRange{loopK.getRegionIterArg(2 * i + half),
                                        left, right[half]})
                             .getResult(0));
      }
      scf::YieldOp::create(builder, loc, next);
    }
    // One vector per row again.
    SmallVector<Value> sums;
    auto both = llvm::to_vector(llvm::seq<int64_t>(0, 2 * width));
    for (size_t i = 0; i < rowAt.size(); ++i)
      sums.push_back(
          vector::ShuffleOp::create(builder, loc, loopK.getResult(2 * i),
                                    loopK.getResult(2 * i + 1), both));
    return sums;
  };

  // Accumulators of `count` rows from `row` and one chunk of lanes.
  auto kernel = [&](Value row, int64_t count, Value lane) {
    SmallVector<Value> rowAt;
    for (int64_t i = 0; i < count; ++i)
      rowAt.push_back(add(row, index(i)));
    SmallVector<Value> sums =
        dots ? dotProducts(rowAt, lane) : products(rowAt, lane);
    for (int64_t i = 0; i < count; ++i) {
      Value sum = sums[i];
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

  blockRows(rows, lanes, chunk, kernel);
  buffers[op.getResult()] = dest;
  return success();
}
