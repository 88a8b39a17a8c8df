//===- MergedView.h - Memory as accesses of tiles see it --------*- C++ -*-===//

#ifndef FA_DIALECT_TILE_IR_MERGEDVIEW_H
#define FA_DIALECT_TILE_IR_MERGEDVIEW_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include <optional>

namespace mlir::tl {

/// A memref whose dimensions `merged` (the slow one, the fast one: neighbours)
/// are one, as `tile.load` and `tile.store` count them. Without `merged` it is
/// the memref itself.
class MergedView {
public:
  MergedView(Value memref, std::optional<ArrayRef<int64_t>> merged);

  int64_t getRank() const { return type.getRank() - isMerged; }
  /// Static extent and stride of a dimension, or ShapedType::kDynamic.
  int64_t getDimSize(int64_t dim) const;
  int64_t getStride(int64_t dim) const;
  /// Whether `size` elements from `offset` on are known to lie inside.
  bool holds(int64_t dim, Value offset, int64_t size) const;
  Value getExtent(OpBuilder &builder, Location loc, int64_t dim) const;
  /// The indices of the memref for those of the view, none negative.
  SmallVector<Value> expand(OpBuilder &builder, Location loc,
                            ValueRange indices) const;

private:
  /// The memref's dimension that `dim` is, where it is not the merged one.
  int64_t source(int64_t dim) const { return dim + (isMerged && dim > at); }

  Value memref;
  MemRefType type;
  bool isMerged;
  int64_t slow = -1, fast = -1, at = -1; // at: the merged dimension
};

} // namespace mlir::tl

#endif // FA_DIALECT_TILE_IR_MERGEDVIEW_H
