//===- OrientForProducts.cpp - tile-orient-for-products -------------------===//

#include "fa/Dialect/Tile/Transforms/Orientation.h"
#include "fa/Dialect/Tile/Transforms/Passes.h"

namespace mlir::tl {
#define GEN_PASS_DEF_TILEORIENTFORPRODUCTS
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
} // namespace mlir::tl

using namespace mlir;
using namespace mlir::tl;

/// A factor that is computed stays in registers; one that is loaded can be read
/// either way from shared memory.
static bool isComputed(Value factor) { return !factor.getDefiningOp<LoadOp>(); }

/// The instructions take a factor from registers on the left only, with the
/// reduced dimension along its columns.
static void vote(func::FuncOp func, Orientation &orientation) {
  func.walk([&](ContractOp op) {
    bool lhs = isComputed(op.getLhs()), rhs = isComputed(op.getRhs());
    for (unsigned i : {0u, 1u})
      if (isComputed(op.getOperand(i)))
        orientation.vote(op.getOperand(i), op.isReductionMinor(i) ? -1 : 1);
    // What is on the left is decided by the accumulator.
    if (lhs != rhs)
      orientation.vote(op.getResult(), lhs ? -1 : 1);
  });
  // A factor that is needed both ways: more rows are more warps that split
  // them.
  SmallVector<Value> undecided;
  func.walk([&](ContractOp op) {
    for (Value factor : {op.getLhs(), op.getRhs()})
      if (isComputed(factor) && orientation.votesOf(factor) == 0)
        undecided.push_back(factor);
  });
  for (Value factor : undecided) {
    auto type = cast<RankedTensorType>(factor.getType());
    orientation.vote(factor, type.getDimSize(0) < type.getDimSize(1) ? 1 : -1);
  }
}

/// Writes the product so that the accumulator is (m, n) and its rows are the
/// left factor's.
static void normalize(ContractOp op) {
  AffineMap acc = op.getMap(2);
  unsigned row = acc.getDimPosition(0), column = acc.getDimPosition(1);
  SmallVector<AffineMap> maps = {op.getMap(0), op.getMap(1), acc};
  if (!maps[0].isFunctionOfDim(row)) {
    std::swap(maps[0], maps[1]);
    Value lhs = op.getLhs(), rhs = op.getRhs();
    op.getLhsMutable().set(rhs);
    op.getRhsMutable().set(lhs);
  }
  MLIRContext *context = op.getContext();
  SmallVector<AffineExpr> names(3, getAffineDimExpr(2, context));
  names[row] = getAffineDimExpr(0, context);
  names[column] = getAffineDimExpr(1, context);
  for (AffineMap &map : maps)
    map = map.replaceDimsAndSymbols(names, {}, 3, 0);
  op.setMapsAttr(Builder(context).getAffineMapArrayAttr(maps));
}

namespace {
struct OrientForProducts
    : public tl::impl::TileOrientForProductsBase<OrientForProducts> {
  void runOnOperation() override {
    Orientation orientation(getOperation());
    vote(getOperation(), orientation);
    orientation.apply();
    getOperation().walk(normalize);
  }
};
} // namespace
