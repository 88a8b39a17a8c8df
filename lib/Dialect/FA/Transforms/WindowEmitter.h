//===- WindowEmitter.h - What tile programs of windows share ----*- C++ -*-===//

#ifndef FA_LIB_DIALECT_FA_TRANSFORMS_WINDOWEMITTER_H
#define FA_LIB_DIALECT_FA_TRANSFORMS_WINDOWEMITTER_H

#include "fa/Dialect/FA/IR/FA.h"
#include "fa/Dialect/FA/IR/Mask.h"
#include "fa/Dialect/Tile/IR/Tile.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/SetVector.h"

namespace mlir::fa {

inline constexpr double kLog2E = 1.4426950408889634;

/// Builds tiles of one attention window: loads and stores of its operands,
/// products, and regions on tiles of scores.
class WindowEmitter {
public:
  WindowEmitter(AttentionOpInterface op, ScheduleAttr schedule)
      : op(op), tileM(schedule.getTileM()), tileN(schedule.getTileN()),
        headMultiple(schedule.getPlan().getChip() == "cpu" ? 1 : 16),
        builder(op), loc(op.getLoc()), accType(op.getAccType()) {}

protected:
  /// Where the rows of a window are: a memref and the offset of the first row.
  struct Rows {
    Value memref;
    Value offset;
    DenseI64ArrayAttr merged = {}; // `mergedOf`
  };
  Rows rowsOf(Value window, AffineMap map,
              AttentionSpace::Dim dim = AttentionSpace::M);
  /// Rows are those of all heads of the window: row r of a tile is head r mod
  /// heads at position r floordiv heads. `mergedOf` is what memory of `map` is
  /// accessed with.
  void packRows();
  DenseI64ArrayAttr mergedOf(AffineMap map);
  /// `window` (of `map`) at `head`, counted from its first one; `viewMap` is
  /// `map` without the head. A window without heads is itself.
  Value headOf(Value window, AffineMap map, Value head, AffineMap &viewMap);
  /// The first `size` elements of `memref` along `dim`.
  Value prefix(Value memref, AffineMap map, AttentionSpace::Dim dim,
               Value size);
  /// Whether `memref` may have more elements along `dim` than `length`.
  bool mayExceed(Value memref, AffineMap map, AttentionSpace::Dim dim,
                 Value length);
  int64_t paddedExtent(Value shaped, unsigned pos);
  /// Checks that the operation is a window along `dim` of one block.
  /// `packed`: with all its heads.
  LogicalResult verifyWindow(AttentionSpace::Dim dim, bool packed = false);
  /// Coordinate of the window's first element along B, H, M or N.
  Value origin(AttentionSpace::Dim dim) {
    return dim < op.getOrigin().size() ? op.getOrigin()[dim] : index(0);
  }

  /// The blocks of keys that the rows of the window see.
  struct KeyBlocks {
    Value first, end;                // some key may be kept
    OpFoldResult fullFirst, fullEnd; // every key is kept
    bool rowsEndEarly;               // rows from lq on may exist
    /// Where the mask may cut blocks on both sides, those come first, so that
    /// one loop has them all: the blocks below `leftEnd`, those from
    /// `rightFirst` on, and from step `cutEnd` on the full ones. Null in their
    /// natural order.
    Value leftEnd, rightFirst, cutEnd;
  };
  KeyBlocks keyBlocks(const MaskQuery &mask, Value rows, AffineMap rowsMap);
  /// The block of step `step` in [first, end).
  Value blockOfStep(const KeyBlocks &blocks, Value step);
  /// i1: every key of the block of `step` is kept.
  Value isFullBlock(const KeyBlocks &blocks, Value step);

  /// Where the rows from `position` on are loaded from, of which those from
  /// `length` on do not exist: a tile that has none reads behind the memory,
  /// which costs no traffic. As they are where heads are rows, too, or all
  /// rows exist.
  Value clipRows(const Rows &rows, AffineMap map, unsigned rowDim,
                 Value position, Value length);
  /// From column `column` on, where it is given.
  Value load(Value memref, AffineMap map, unsigned rowDim, Value rowOffset,
             int64_t rows, int64_t columns, Value column = {});
  void store(Value tile, Value memref, AffineMap map, unsigned rowDim,
             Value rowOffset, Value column = {});
  /// Adds `tile` to shuffled memory.
  void accumulate(Value tile, Value memref, AffineMap map, unsigned rowDim,
                  Value rowOffset);
  Value loadVector(const Rows &rows);
  void storeVector(Value tile, const Rows &rows);

  /// Appends the tiles that `region` yields for the tile `scores` of the block
  /// at (m0, n0); `trailing` are the tiles of the arguments after the captures.
  LogicalResult inlineRegion(Region &region, Value scores, ValueRange trailing,
                             Value n0, SmallVectorImpl<Value> &results);
  /// What `fa.accumulate` adds in the regions that were inlined: tiles.
  struct Addend {
    AccumulateOp op;
    Value value;
    SmallVector<Value> indices;
  };
  SmallVector<Addend> addends;
  FailureOr<Value> loadCapture(unsigned index, Value n0);

  // Builders of tiles.
  RankedTensorType matrix(int64_t rows, int64_t columns, Type element) {
    return RankedTensorType::get({rows, columns}, element);
  }
  RankedTensorType scoreType() { return matrix(tileM, tileN, accType); }
  RankedTensorType vectorType() {
    return RankedTensorType::get({tileM}, accType);
  }
  Value constant(RankedTensorType type, double value) {
    return arith::ConstantOp::create(
        builder, loc,
        DenseElementsAttr::get(
            type, builder.getFloatAttr(type.getElementType(), value)));
  }
  Value infinity(RankedTensorType type, bool negative = true) {
    auto element = cast<FloatType>(type.getElementType());
    APFloat value = APFloat::getInf(element.getFloatSemantics(), negative);
    return arith::ConstantOp::create(
        builder, loc,
        DenseElementsAttr::get(type, builder.getFloatAttr(element, value)));
  }
  Value index(int64_t value) {
    return arith::ConstantIndexOp::create(builder, loc, value);
  }
  Value splat(Value scalar, RankedTensorType type) {
    return tl::SplatOp::create(builder, loc, type, scalar);
  }
  Value alongColumns(Value rows, int64_t columns) {
    Type element = cast<RankedTensorType>(rows.getType()).getElementType();
    return tl::BroadcastOp::create(builder, loc,
                                   matrix(tileM, columns, element), rows, 1);
  }
  template <typename Op> Value fused(Value lhs, Value rhs) {
    return Op::create(builder, loc, lhs, rhs, arith::FastMathFlags::contract);
  }
  /// `tile * factor`, the tile itself for a null factor.
  Value scaled(Value tile, Value factor) {
    if (!factor)
      return tile;
    auto type = cast<RankedTensorType>(tile.getType());
    FloatAttr value;
    Value factors = matchPattern(factor, m_Constant(&value))
                        ? arith::ConstantOp::create(
                              builder, loc, DenseElementsAttr::get(type, value))
                        : splat(factor, type);
    return fused<arith::MulFOp>(tile, factors);
  }
  Value contract(Value lhs, Value rhs, Value acc, bool rhsIsTransposed,
                 bool lhsIsTransposed = false);

private:
  /// The view of which `window` is a part along `dim` only, and where it is;
  /// null when it is none.
  struct PartOf {
    Value source;
    OpFoldResult offset, size;
    unsigned pos = 0;
  };
  /// Where a matrix is whose rows run along `rowDim`: its offsets and order.
  std::pair<SmallVector<Value>, DenseI64ArrayAttr>
  place(AffineMap map, unsigned rowDim, Value rowOffset, Value column = {});
  PartOf partOf(Value window, AffineMap map, AttentionSpace::Dim dim);

protected:
  AttentionOpInterface op;
  int64_t tileM, tileN, headMultiple;
  OpBuilder builder;
  Location loc;
  FloatType accType;
  Value b, h, m0, lq, lk;
  /// Of packed rows, i32: position and head of each row of a tile, from the
  /// first ones of the window on. Null otherwise.
  Value tilePositions, tileHeads;
};

/// Replaces each `OpT` of `func`, windows of `fa-tile`, by its tile program.
template <typename OpT, typename EmitterT>
LogicalResult emitWindows(func::FuncOp func) {
  SmallVector<OpT> ops;
  func.walk([&](OpT op) { ops.push_back(op); });
  for (OpT op : ops) {
    auto schedule = op->template getAttrOfType<ScheduleAttr>(kScheduleAttrName);
    if (!schedule)
      return op.emitOpError("has no fa.schedule; run fa-select-schedule and "
                            "fa-tile first");
    if (failed(EmitterT(op, schedule).run()))
      return failure();
    // One window may be several operands.
    llvm::SmallSetVector<Value, 8> windows(llvm::from_range, op->getOperands());
    op.erase();
    for (Value window : windows)
      if (auto view = window.getDefiningOp<memref::SubViewOp>())
        if (view.use_empty())
          view.erase();
  }
  return success();
}

} // namespace mlir::fa

#endif // FA_LIB_DIALECT_FA_TRANSFORMS_WINDOWEMITTER_H
