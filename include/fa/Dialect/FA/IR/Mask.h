//===- Mask.h - Questions to an attention mask ------------------*- C++ -*-===//
//
// A mask is a union of integer sets over (b, h, m, n)[lq, lk, symbols...]. This
// class answers, in closed form, what passes need to know about it for a range
// of rows or columns: loop bounds, predicates and backward's loops all come
// from here.
//
//===----------------------------------------------------------------------===//

#ifndef FA_DIALECT_FA_IR_MASK_H
#define FA_DIALECT_FA_IR_MASK_H

#include "fa/Dialect/FA/IR/FA.h"

namespace mlir::fa {

/// A mask in one batch and head, together with the limit `n < lk`.
class MaskQuery {
public:
  /// A half-open range of index values; empty when hi <= lo.
  struct Range {
    OpFoldResult lo, hi;
  };

  /// `mask` may be null (everything is kept).
  MaskQuery(MLIRContext *context, MaskAttr mask, Value b, Value h,
            OpFoldResult lq, OpFoldResult lk, ValueRange symbols);

  /// Columns of which some may be kept in a row of the non-empty range `rows`:
  /// a superset, clipped to [0, lk).
  Range liveColumns(OpBuilder &builder, Location loc, Range rows) const;
  /// Columns that are kept in every row of the non-empty range `rows`: a
  /// subset, clipped to [0, lk).
  Range fullColumns(OpBuilder &builder, Location loc, Range rows) const;
  /// Rows of which some may keep a column of the non-empty range `columns`: a
  /// superset, clipped to [0, lq).
  Range liveRows(OpBuilder &builder, Location loc, Range columns) const;
  /// Rows that keep every column of the non-empty range `columns`.
  Range fullRows(OpBuilder &builder, Location loc, Range columns) const;

  /// The i1 tile that is true where (m0 + r, n0 + c) is kept; unspecified in
  /// rows from lq on. Null when every element of every tile of this width is
  /// kept. `n0` must be a multiple of the tile's width; rows, columns and
  /// lengths must be below 2^30.
  Value emitPredicate(OpBuilder &builder, Location loc, int64_t tileM,
                      int64_t tileN, Value m0, Value n0) const;

  /// Row r of a tile is row m0 + rows[r], an i32 tile, not m0 + r.
  void setTileRows(Value rows) { tileRows = rows; }

  /// True when no set can drop anything but the columns from lk on.
  bool keepsAll() const { return all; }

private:
  /// `expr >= 0`. When `linear`, expr = m * row + n * column + rest with a
  /// rest free of both.
  struct Constraint {
    AffineExpr expr, rest;
    int64_t m = 0, n = 0;
    bool linear = false;
    bool hasUserSymbol = false;
  };
  using Set = SmallVector<Constraint>;

  enum class Kind { Live, Full };
  /// The range of dimension `free` given a range of the other one.
  Range solve(OpBuilder &builder, Location loc, Kind kind, bool freeIsColumn,
              Range fixed) const;
  Range solveSet(OpBuilder &builder, Location loc, const Set &set, Kind kind,
                 bool freeIsColumn, Range fixed) const;
  Value emitConstraint(OpBuilder &builder, Location loc, const Constraint &c,
                       int64_t tileM, int64_t tileN, Value m0, Value n0) const;
  Value rowsOfTile(OpBuilder &builder, Location loc, int64_t tileM) const;
  Value emitExpr(OpBuilder &builder, Location loc, AffineExpr expr,
                 int64_t tileM, int64_t tileN, Value m0, Value n0) const;
  /// Operands of an expression over the mask's dimensions and symbols with row
  /// `m` and column `n`, for affine.apply.
  SmallVector<OpFoldResult> operands(OpFoldResult m, OpFoldResult n) const;

  MLIRContext *context;
  bool all;
  SmallVector<Set> sets;
  OpFoldResult b, h, lq, lk;
  SmallVector<Value> symbols;
  Value tileRows; // null: 0, 1, 2, ...
};

} // namespace mlir::fa

#endif // FA_DIALECT_FA_IR_MASK_H
