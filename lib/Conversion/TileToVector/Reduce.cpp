//===- Reduce.cpp - Reductions along rows and of whole tiles --------------===//

#include "TileLowering.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::fa;

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
  RankedTensorType type = tileType(op.getSource());
  Value source = pairs.lookup(op.getSource());
  int64_t rows = rowsOf(type), lanes = lanesOf(type);
  if (source) {
    rows /= 2;
    lanes *= 2;
  } else {
    source = materialize(op.getSource());
  }
  Type stored = cast<MemRefType>(source.getType()).getElementType();
  // Bits as integers: without the sign, those of NaN and infinity are not less
  // than infinity's, so the greatest decides. A float comparison would take two
  // instructions and mask registers.
  auto element = cast<FloatType>(
      stored.getIntOrFloatBitWidth() < 32 ? builder.getF32Type() : stored);
  unsigned bits = element.getWidth();
  Type integer = builder.getIntegerType(bits);
  int64_t chunk = chunkOf(bits);
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
  acc = sweep(acc, rows, 1, [&](Value acc, Value row) {
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
