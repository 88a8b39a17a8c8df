//===- TensorView.cpp - Memory as tensor copies see it --------------------===//

#include "fa/Dialect/Tile/IR/TensorView.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Interfaces/FunctionInterfaces.h"

using namespace mlir;
using namespace mlir::tl;

/// Whether `size` is the extent of dimension `dim` of `memref`.
static bool isExtent(OpFoldResult size, Value memref, int64_t dim) {
  auto type = cast<MemRefType>(memref.getType());
  if (auto fixed = getConstantIntValue(size))
    return !type.isDynamicDim(dim) && type.getDimSize(dim) == *fixed;
  auto extent = cast<Value>(size).getDefiningOp<memref::DimOp>();
  if (extent && extent.getSource() == memref &&
      extent.getConstantIndex() == dim)
    return true;
  // The extent of a view is the size that it was made with.
  auto view = memref.getDefiningOp<memref::SubViewOp>();
  if (!view)
    return false;
  llvm::SmallBitVector dropped = view.getDroppedDims();
  int64_t kept = -1;
  for (size_t pos = 0; pos < dropped.size(); ++pos)
    if (!dropped[pos] && ++kept == dim)
      return view.getMixedSizes()[pos] == size;
  return false;
}

static bool beginsAtSource(memref::SubViewOp view, int64_t dim) {
  return isZeroInteger(view.getMixedOffsets()[dim]) &&
         isOneInteger(view.getMixedStrides()[dim]);
}

/// Whether `view` keeps all of dimension `dim` of its source.
static bool coversSource(memref::SubViewOp view, int64_t dim) {
  return beginsAtSource(view, dim) &&
         isExtent(view.getMixedSizes()[dim], view.getSource(), dim);
}

/// Dimensions of the source that are dimensions of `view`, in order.
static SmallVector<int64_t> keptDims(memref::SubViewOp view) {
  llvm::SmallBitVector dropped = view.getDroppedDims();
  SmallVector<int64_t> kept;
  for (size_t dim = 0; dim < dropped.size(); ++dim)
    if (!dropped[dim])
      kept.push_back(dim);
  return kept;
}

FailureOr<TensorView>
TensorView::get(Value memref, bool isOpen,
                function_ref<InFlightDiagnostic()> emitError) {
  TensorView result;
  result.memref = memref;
  int64_t row = 0, col = 1;
  while (auto view = memref.getDefiningOp<memref::SubViewOp>()) {
    SmallVector<int64_t> kept = keptDims(view);
    for (auto [number, dim] : llvm::enumerate(kept)) {
      bool isRow = int64_t(number) == row;
      if (coversSource(view, dim) ||
          (isRow && isOpen && beginsAtSource(view, dim)))
        continue;
      if (emitError)
        emitError() << "the source is a part of dimension " << dim
                    << " of its tensor, which a tensor map cannot bound; use "
                       "copy = \"cp_async\"";
      return failure();
    }
    row = kept[row];
    col = kept[col];
    memref = view.getSource();
  }
  auto arg = dyn_cast<BlockArgument>(memref);
  if (!arg || !arg.getOwner()->isEntryBlock() ||
      !isa<FunctionOpInterface>(arg.getOwner()->getParentOp())) {
    if (emitError)
      emitError() << "tensor copies read views of function arguments";
    return failure();
  }
  result.argument = arg.getArgNumber();
  result.dims = {col, row};
  for (int64_t dim = cast<MemRefType>(memref.getType()).getRank() - 1; dim >= 0;
       --dim)
    if (dim != row && dim != col)
      result.dims.push_back(dim);
  return result;
}

SmallVector<Value> TensorView::getCoordinates(OpBuilder &builder, Location loc,
                                              Value row, Value col) const {
  SmallVector<Value> offsets = {row, col};
  Value source = memref;
  while (auto view = source.getDefiningOp<memref::SubViewOp>()) {
    SmallVector<Value> all =
        llvm::map_to_vector(view.getMixedOffsets(), [&](OpFoldResult offset) {
          return getValueOrCreateConstantIndexOp(builder, loc, offset);
        });
    for (auto [dim, offset] : llvm::zip(keptDims(view), offsets))
      all[dim] = arith::AddIOp::create(builder, loc, all[dim], offset);
    offsets = std::move(all);
    source = view.getSource();
  }
  return llvm::map_to_vector(dims, [&](int64_t dim) -> Value {
    return arith::IndexCastOp::create(builder, loc, builder.getI32Type(),
                                      offsets[dim]);
  });
}
