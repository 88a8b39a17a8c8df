//===- BackwardEmitter.h - Tile programs of attention_backward --*- C++ -*-===//

#ifndef FA_LIB_DIALECT_FA_TRANSFORMS_BACKWARDEMITTER_H
#define FA_LIB_DIALECT_FA_TRANSFORMS_BACKWARDEMITTER_H

#include "WindowEmitter.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include <numeric>

namespace mlir::fa {

/// Emits the tile program of one window of attention_backward.
class BackwardEmitter : protected WindowEmitter {
public:
  BackwardEmitter(AttentionBackwardOp op, ScheduleAttr schedule)
      : WindowEmitter(op, schedule), backward(op), schedule(schedule) {
    // Teams of warps that share the rows of a gradient hold some of its columns
    // each: 16, or as many as wgmma's 128 bytes of a factor in shared memory.
    tl::PlanAttr plan = schedule.getPlan();
    if (plan.getMma() == "vector")
      return;
    // What scores and gradients of rows have in common needs one layout.
    auto share = [&](int64_t rows, int64_t columns) {
      int64_t sharers = plan.getTeams() / plan.getTeamsAlong(rows, columns);
      if (sharers > 1)
        headMultiple = std::lcm(headMultiple,
                                sharers * (plan.getMma() == "wgmma" ? 64 : 16));
    };
    if (op.getDQ() || op.getDQSum())
      share(tileM, tileN);
    if (op.getDK() || op.getDV())
      share(tileN, tileM);
  }

  LogicalResult run();

protected:
  /// Row statistics of a block: what is subtracted in base-2 units before the
  /// exponential, and delta; `dead` rows have probability 0.
  struct Statistics {
    Value lse2, delta, dead;
  };
  /// What one block of scores contributes with.
  struct Block {
    Value p;  // probabilities
    Value dr; // gradient of scale * q k^T; null when not wanted
    /// What the derivative yields for captures; anything where p is 0.
    SmallVector<Value> captures;
  };

  void emitDelta();
  void emitConversion();
  LogicalResult emitRows();
  LogicalResult emitColumns();

  Statistics loadStatistics(const Rows &lse, const Rows &delta);
  Value deadRows(Value lse);
  /// `keep` (null: everything) without dead rows. Scores of rows that do not
  /// exist may be NaN where captures are.
  Value keptRows(const Statistics &rows, Value keep);
  /// `keep` may be null: everything is kept. `inFull`, if not null, is true in
  /// blocks in which everything is kept.
  LogicalResult emitBlock(Value q, Value k, Value dO, Value v,
                          const Statistics &rows, Value keep, Value inFull,
                          Value n0, Block &block);
  /// `tile` as a factor of products.
  Value narrow(Value tile) {
    auto type = cast<RankedTensorType>(tile.getType());
    Type element = op.getShaped(AttentionSpace::Q).getType().getElementType();
    if (element == accType)
      return tile;
    return arith::TruncFOp::create(builder, loc, type.clone(element), tile);
  }
  Value widen(Value tile) {
    auto type = cast<RankedTensorType>(tile.getType());
    if (type.getElementType() == accType)
      return tile;
    return arith::ExtFOp::create(builder, loc, type.clone(accType), tile);
  }
  /// The block of rows at m0; zeros, without traffic, where none exists.
  Value loadRows(const Rows &rows, AffineMap map, int64_t columns);
  /// `tile` in the element type of `memref`, zero in rows that are `dead`.
  void storeGradient(Value tile, Value dead, Value factor, Value memref,
                     AffineMap map, unsigned rowDim, Value offset);
  int64_t extentOf(AttentionSpace::Operand operand, AttentionSpace::Dim dim) {
    return paddedExtent(op.getShaped(operand), *op.findDim(operand, dim));
  }
  Value asValue(OpFoldResult value) {
    return getValueOrCreateConstantIndexOp(builder, loc, value);
  }
  OpFoldResult apply(AffineExpr expr, ArrayRef<OpFoldResult> operands) {
    return affine::makeComposedFoldedAffineApply(
        builder, loc, AffineMap::get(operands.size(), 0, expr), operands);
  }
  /// i1 by row: start + row >= end.
  Value beyond(Value start, Value end, int64_t rows);

  AttentionBackwardOp backward;
  ScheduleAttr schedule;
};

/// Emits the loop and the tile program of the gradient of one capture.
LogicalResult emitCaptureGradient(AttentionBackwardOp op,
                                  ScheduleAttr schedule);

} // namespace mlir::fa

#endif // FA_LIB_DIALECT_FA_TRANSFORMS_BACKWARDEMITTER_H
