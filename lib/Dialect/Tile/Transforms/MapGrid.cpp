//===- MapGrid.cpp - One thread block per iteration of scf.forall ---------===//

#include "fa/Conversion/Launch.h"
#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace mlir::tl;

namespace mlir::tl {
#define GEN_PASS_DEF_TILEMAPGRID
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
} // namespace mlir::tl

/// Where in a grid of extents `upper` this block works.
static SmallVector<Value> mapBlock(OpBuilder &builder, Location loc,
                                   ArrayRef<Value> upper) {
  // A launch has at most 2^31 - 1 blocks: 32-bit division is exact and much
  // cheaper than 64-bit.
  auto toI32 = [&](Value value) -> Value {
    return arith::IndexCastOp::create(builder, loc, builder.getI32Type(),
                                      value);
  };
  Value rest = toI32(gpu::BlockIdOp::create(builder, loc, gpu::Dimension::x));
  SmallVector<Value> extents = llvm::map_to_vector(upper, toI32), places;
  for (int64_t dim = upper.size() - 1; dim >= 0; --dim) {
    Value place = rest;
    if (dim) {
      place = arith::RemUIOp::create(builder, loc, rest, extents[dim]);
      rest = arith::DivUIOp::create(builder, loc, rest, extents[dim]);
    }
    places.push_back(place);
  }
  Value one = arith::ConstantIntOp::create(builder, loc, 1, 32);
  Value last = arith::SubIOp::create(builder, loc, extents.back(), one);
  places.front() = arith::SubIOp::create(builder, loc, last, places.front());
  return llvm::map_to_vector(llvm::reverse(places), [&](Value place) -> Value {
    return arith::IndexCastUIOp::create(builder, loc, builder.getIndexType(),
                                        place);
  });
}

namespace {
struct TileMapGrid : tl::impl::TileMapGridBase<TileMapGrid> {
  void runOnOperation() override {
    func::FuncOp func = getOperation();
    FailureOr<scf::ForallOp> loop = fa::getGridLoop(func);
    if (failed(loop))
      return signalPassFailure();
    FailureOr<fa::LaunchGrid> grid = fa::computeLaunchGrid(func);
    if (failed(grid))
      return signalPassFailure();
    func->setAttr(fa::kArgsAttrName, fa::getArgsAttr(func));
    func->setAttr(fa::kLaunchAttrName, grid->getAttr(&getContext()));

    scf::ForallOp forall = *loop;
    OpBuilder builder(forall);
    SmallVector<Value> coordinates =
        mapBlock(builder, forall.getLoc(), forall.getUpperBound(builder));
    forall.getBody()->getTerminator()->erase();
    IRRewriter rewriter(builder);
    rewriter.inlineBlockBefore(forall.getBody(), forall, coordinates);
    rewriter.eraseOp(forall);
  }
};
} // namespace
