//===- OrientForVectors.cpp - tile-orient-for-vectors ---------------------===//

#include "fa/Dialect/Tile/Transforms/Orientation.h"
#include "fa/Dialect/Tile/Transforms/Passes.h"

namespace mlir::tl {
#define GEN_PASS_DEF_TILEORIENTFORVECTORS
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
} // namespace mlir::tl

using namespace mlir;
using namespace mlir::tl;

static void vote(func::FuncOp func, Orientation &orientation) {
  // Reductions first: a horizontal one costs more than any transposed access.
  // A broadcast votes too: it inverts a reduction, which may be another tile's.
  func.walk([&](Operation *op) {
    if (auto reduce = dyn_cast<ReduceOp>(op))
      orientation.vote(reduce.getSource(), reduce.getDim() == 1 ? 2 : -2);
    else if (auto broadcast = dyn_cast<BroadcastOp>(op))
      orientation.vote(broadcast.getResult(), broadcast.getDim() == 1 ? 1 : -1);
  });
  // Contraction operands follow where their class has no opinion yet.
  SmallVector<std::pair<Value, int64_t>> wishes;
  func.walk([&](ContractOp op) {
    AffineMap acc = op.getMap(2);
    bool isTurned = orientation.isTransposed(op.getAcc()) ||
                    orientation.isTransposed(op.getResult());
    unsigned lane = acc.getDimPosition(isTurned ? 0 : 1);
    for (unsigned i : {0u, 1u}) {
      AffineMap map = op.getMap(i);
      Value operand = op.getOperand(i);
      if (map.isFunctionOfDim(lane) && orientation.votesOf(operand) == 0)
        wishes.emplace_back(operand, map.getDimPosition(1) == lane ? -1 : 1);
    }
  });
  for (auto [value, weight] : wishes)
    orientation.vote(value, weight);
}

namespace {
struct OrientForVectors
    : public tl::impl::TileOrientForVectorsBase<OrientForVectors> {
  void runOnOperation() override {
    Orientation orientation(getOperation());
    vote(getOperation(), orientation);
    orientation.apply();
  }
};
} // namespace
