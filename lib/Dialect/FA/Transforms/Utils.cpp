//===- Utils.cpp - What passes of the attention dialect share -------------===//

#include "Utils.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace mlir;
using namespace mlir::fa;

FloatAttr mlir::fa::rounded(FloatType type, APFloat value) {
  bool losesInfo;
  value.convert(type.getFloatSemantics(), APFloat::rmNearestTiesToEven,
                &losesInfo);
  return FloatAttr::get(type, value);
}

Value mlir::fa::sliceAt(OpBuilder &builder, Location loc, Value source,
                        AffineMap map,
                        function_ref<OpFoldResult(AffineExpr)> pointOf) {
  SmallVector<OpFoldResult> offsets, sizes,
      ones(map.getNumResults(), builder.getIndexAttr(1));
  SmallVector<int64_t> shape;
  for (auto [pos, expr] : llvm::enumerate(map.getResults())) {
    if (OpFoldResult point = pointOf(expr)) {
      offsets.push_back(point);
      sizes.push_back(builder.getIndexAttr(1));
      continue;
    }
    offsets.push_back(builder.getIndexAttr(0));
    sizes.push_back(memref::getMixedSize(builder, loc, source, pos));
    shape.push_back(
        getConstantIntValue(sizes.back()).value_or(ShapedType::kDynamic));
  }
  if (shape.size() == map.getNumResults())
    return source;
  if (shape.empty())
    shape.push_back(1);
  auto type = memref::SubViewOp::inferRankReducedResultType(
      shape, cast<MemRefType>(source.getType()), offsets, sizes, ones);
  return memref::SubViewOp::create(builder, loc, type, source, offsets, sizes,
                                   ones);
}
