//===- MergedView.cpp - Memory as accesses of tiles see it ----------------===//

#include "fa/Dialect/Tile/IR/MergedView.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace mlir;
using namespace mlir::tl;

MergedView::MergedView(Value memref, std::optional<ArrayRef<int64_t>> merged)
    : memref(memref), type(cast<MemRefType>(memref.getType())),
      isMerged(merged.has_value()) {
  if (!isMerged)
    return;
  slow = (*merged)[0];
  fast = (*merged)[1];
  at = std::min(slow, fast);
}

int64_t MergedView::getDimSize(int64_t dim) const {
  if (dim != at)
    return type.getDimSize(source(dim));
  if (type.isDynamicDim(slow) || type.isDynamicDim(fast))
    return ShapedType::kDynamic;
  return type.getDimSize(slow) * type.getDimSize(fast);
}

int64_t MergedView::getStride(int64_t dim) const {
  SmallVector<int64_t> strides;
  int64_t offset;
  if (dim == at || failed(type.getStridesAndOffset(strides, offset)))
    return ShapedType::kDynamic;
  return strides[source(dim)];
}

bool MergedView::holds(int64_t dim, Value offset, int64_t size) const {
  std::optional<int64_t> first = getConstantIntValue(offset);
  int64_t extent = getDimSize(dim);
  return first && *first >= 0 && ShapedType::isStatic(extent) &&
         *first <= extent - size;
}

Value MergedView::getExtent(OpBuilder &builder, Location loc,
                            int64_t dim) const {
  if (dim != at)
    return memref::DimOp::create(builder, loc, memref, source(dim));
  return arith::MulIOp::create(
      builder, loc, memref::DimOp::create(builder, loc, memref, slow),
      memref::DimOp::create(builder, loc, memref, fast));
}

SmallVector<Value> MergedView::expand(OpBuilder &builder, Location loc,
                                      ValueRange indices) const {
  if (!isMerged)
    return llvm::to_vector(indices);
  // A tile counts its rows in 32 bits, in which division is much faster. An
  // index of memory without elements is not used, but computed.
  Type i32 = builder.getI32Type();
  auto narrow = [&](Value index) -> Value {
    return arith::IndexCastOp::create(builder, loc, i32, index);
  };
  auto widen = [&](Value value) -> Value {
    return arith::IndexCastOp::create(builder, loc, builder.getIndexType(),
                                      value);
  };
  Value one = arith::ConstantIntOp::create(builder, loc, 1, 32);
  Value extent = arith::MaxSIOp::create(
      builder, loc, narrow(memref::DimOp::create(builder, loc, memref, fast)),
      one);
  Value index = narrow(indices[at]);
  SmallVector<Value> result(type.getRank());
  for (int64_t dim = 0; dim < getRank(); ++dim)
    if (dim != at)
      result[source(dim)] = indices[dim];
  result[slow] = widen(arith::DivUIOp::create(builder, loc, index, extent));
  result[fast] = widen(arith::RemUIOp::create(builder, loc, index, extent));
  return result;
}
