//===- MapGrid.cpp - One thread block per iteration of scf.forall ---------===//

#include "fa/Conversion/Launch.h"
#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;

namespace mlir::tl {
#define GEN_PASS_DEF_TILEMAPGRID
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
} // namespace mlir::tl

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
    Location loc = forall.getLoc();
    Type i32 = builder.getI32Type();
    auto toI32 = [&](Value value) -> Value {
      return arith::IndexCastOp::create(builder, loc, i32, value);
    };
    // A launch has at most 2^31 - 1 blocks: 32-bit division is exact and much
    // cheaper than 64-bit.
    Value rest = toI32(gpu::BlockIdOp::create(builder, loc, gpu::Dimension::x));
    SmallVector<Value> upper = forall.getUpperBound(builder);
    SmallVector<Value> coordinates(upper.size());
    for (int dim = upper.size() - 1; dim >= 0; --dim) {
      Value coordinate = rest;
      Value extent = toI32(upper[dim]);
      if (dim) {
        coordinate = arith::RemUIOp::create(builder, loc, rest, extent);
        rest = arith::DivUIOp::create(builder, loc, rest, extent);
      }
      if (dim == int(upper.size()) - 1) {
        Value one = arith::ConstantIntOp::create(builder, loc, 1, 32);
        Value last = arith::SubIOp::create(builder, loc, extent, one);
        coordinate = arith::SubIOp::create(builder, loc, last, coordinate);
      }
      coordinates[dim] = arith::IndexCastOp::create(
          builder, loc, builder.getIndexType(), coordinate);
    }
    forall.getBody()->getTerminator()->erase();
    IRRewriter rewriter(builder);
    rewriter.inlineBlockBefore(forall.getBody(), forall, coordinates);
    rewriter.eraseOp(forall);
  }
};
} // namespace
