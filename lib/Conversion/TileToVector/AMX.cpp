//===- AMX.cpp - Contractions by the processor's matrix unit --------------===//
//
// Intel, Architecture Instruction Set Extensions, "Advanced Matrix Extensions":
// eight registers of 16 rows of 64 bytes. TDPBF16PS adds to 16x16 sums the
// products of 16 rows of 16 pairs and of 16 pairs of 16 rows.
//
//===----------------------------------------------------------------------===//

#include "TileLowering.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::fa;

/// Rows, lanes and pairs of a register.
static constexpr int64_t kSide = 16;

bool TileLowering::usesMatrixUnit(tl::ContractOp op) const {
  RankedTensorType acc = tileType(op.getAcc());
  return amxBF16 && usesDots(op) && rowsOf(acc) % kSide == 0 &&
         lanesOf(acc) % kSide == 0 && op.getExtents()[2] % (2 * kSide) == 0;
}

void TileLowering::callAMX(StringRef name, ValueRange args) {
  LLVM::CallIntrinsicOp::create(
      builder, loc, builder.getStringAttr("llvm.x86." + name.str()), args);
}

Value TileLowering::addressOf(Value buffer, Value row, Value lane) {
  auto type = cast<MemRefType>(buffer.getType());
  Value start =
      memref::ExtractAlignedPointerAsIndexOp::create(builder, loc, buffer);
  Value element =
      add(arith::MulIOp::create(builder, loc, row, index(type.getDimSize(1))),
          lane);
  Value bytes = arith::MulIOp::create(builder, loc, element,
                                      index(type.getElementTypeBitWidth() / 8));
  Value address = arith::IndexCastOp::create(
      builder, loc, builder.getI64Type(),
      arith::AddIOp::create(builder, loc, start, bytes));
  return LLVM::IntToPtrOp::create(
      builder, loc, LLVM::LLVMPointerType::get(builder.getContext()), address);
}

void TileLowering::setUpMatrixUnit() {
  Block &entry = func.getBody().front();
  builder.setInsertionPointToStart(&entry);
  // Palette 1; 64 bytes per row from byte 16 on; 16 rows from byte 48 on.
  SmallVector<int32_t> words(16);
  words[0] = 1;
  for (int64_t pair = 0; pair < 4; ++pair)
    words[4 + pair] = 4 * kSide | 4 * kSide << 16;
  words[12] = words[13] = 0x01010101 * kSide;
  auto type = MemRefType::get({1, 16}, builder.getI32Type());
  Value memory = memref::AllocaOp::create(builder, loc, type,
                                          builder.getI64IntegerAttr(64));
  auto vector = VectorType::get({16}, builder.getI32Type());
  Value value = arith::ConstantOp::create(
      builder, loc, DenseElementsAttr::get(vector, ArrayRef<int32_t>(words)));
  vector::StoreOp::create(builder, loc, value, memory,
                          ValueRange{index(0), index(0)});
  callAMX("ldtilecfg", addressOf(memory, index(0), index(0)));
  for (Block &block : func.getBody())
    if (auto end = dyn_cast<func::ReturnOp>(block.getTerminator())) {
      builder.setInsertionPoint(end);
      callAMX("tilerelease", {});
    }
}

void TileLowering::multiplyByMatrixUnit(Value rowBuffer, Value laneBuffer,
                                        Value init, Value dest, int64_t rows,
                                        int64_t lanes, int64_t depth) {
  needsMatrixUnit = true;
  // Four registers of sums, two of each factor.
  constexpr int64_t kBlock = 2, kRows = 4, kLanes = 6;
  auto id = [&](int64_t number) -> Value {
    return LLVM::ConstantOp::create(builder, loc, builder.getI8Type(),
                                    builder.getI8IntegerAttr(number));
  };
  auto strideOf = [&](Value buffer) -> Value {
    auto type = cast<MemRefType>(buffer.getType());
    int64_t bytes = type.getDimSize(1) * type.getElementTypeBitWidth() / 8;
    return LLVM::ConstantOp::create(builder, loc, builder.getI64Type(),
                                    builder.getI64IntegerAttr(bytes));
  };
  auto load = [&](int64_t number, Value buffer, Value row, Value lane) {
    callAMX("tileloadd64",
            {id(number), addressOf(buffer, row, lane), strideOf(buffer)});
  };
  auto plus = [&](Value value, int64_t number) {
    return add(value, index(number));
  };
  // Sums of `down` times `across` registers.
  auto block = [&](Value row, Value lane, int64_t down, int64_t across) {
    auto forEach = [&](function_ref<void(int64_t, Value, Value)> body) {
      for (int64_t i = 0; i < down; ++i)
        for (int64_t j = 0; j < across; ++j)
          body(i * kBlock + j, plus(row, i * kSide), plus(lane, j * kSide));
    };
    forEach([&](int64_t sum, Value r, Value l) {
      if (init)
        load(sum, init, r, l);
      else
        callAMX("tilezero", id(sum));
    });
    loop(index(0), index(depth), 2 * kSide, [&](Value k) {
      Value pair = arith::ShRUIOp::create(builder, loc, k, index(1));
      for (int64_t i = 0; i < down; ++i)
        load(kRows + i, rowBuffer, plus(row, i * kSide), k);
      for (int64_t j = 0; j < across; ++j) {
        Value l = plus(lane, j * kSide);
        load(kLanes + j, laneBuffer, pair,
             arith::AddIOp::create(builder, loc, l, l));
      }
      for (int64_t i = 0; i < down; ++i)
        for (int64_t j = 0; j < across; ++j)
          callAMX("tdpbf16ps",
                  {id(i * kBlock + j), id(kRows + i), id(kLanes + j)});
    });
    forEach([&](int64_t sum, Value r, Value l) {
      callAMX("tilestored64", {id(sum), addressOf(dest, r, l), strideOf(dest)});
    });
  };
  // Blocks of two registers, and one where their number is odd.
  auto inBlocks = [&](int64_t extent, function_ref<void(Value, int64_t)> body) {
    int64_t step = kBlock * kSide, whole = extent / step * step;
    loop(index(0), index(whole), step, [&](Value at) { body(at, kBlock); });
    if (whole != extent)
      body(index(whole), 1);
  };
  inBlocks(lanes, [&](Value lane, int64_t across) {
    inBlocks(rows,
             [&](Value row, int64_t down) { block(row, lane, down, across); });
  });
}
