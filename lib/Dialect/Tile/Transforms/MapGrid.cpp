//===- MapGrid.cpp - One thread block per iteration of scf.forall ---------===//

#include "fa/Conversion/Launch.h"
#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include <tuple>

using namespace mlir;
using namespace mlir::tl;

namespace mlir::tl {
#define GEN_PASS_DEF_TILEMAPGRID
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
} // namespace mlir::tl

/// Where in a grid of extents `upper` this block works.
static SmallVector<Value> mapBlock(OpBuilder &builder, Location loc,
                                   ArrayRef<Value> upper, int64_t section) {
  // A launch has at most 2^31 - 1 blocks: 32-bit division is exact and much
  // cheaper than 64-bit.
  auto constant = [&](int64_t value) -> Value {
    return arith::ConstantIntOp::create(builder, loc, value, 32);
  };
  auto toI32 = [&](Value value) -> Value {
    return arith::IndexCastOp::create(builder, loc, builder.getI32Type(),
                                      value);
  };
  auto add = [&](Value a, Value b) -> Value {
    return arith::AddIOp::create(builder, loc, a, b);
  };
  auto subtract = [&](Value a, Value b) -> Value {
    return arith::SubIOp::create(builder, loc, a, b);
  };
  auto multiply = [&](Value a, Value b) -> Value {
    return arith::MulIOp::create(builder, loc, a, b);
  };
  auto divide = [&](Value a, Value b) -> std::pair<Value, Value> {
    Value remainder = arith::RemUIOp::create(builder, loc, a, b);
    return {arith::DivUIOp::create(builder, loc, a, b), remainder};
  };
  Value id = toI32(gpu::BlockIdOp::create(builder, loc, gpu::Dimension::x));
  SmallVector<Value> extents = llvm::map_to_vector(upper, toI32), places;
  Value outer = id, inner; // iteration of all dimensions but the last; of that
  if (upper.size() > 1 && section > 1) {
    Value count = constant(1);
    for (Value extent : ArrayRef(extents).drop_back())
      count = multiply(count, extent);
    Value size = arith::MinUIOp::create(builder, loc, constant(section), count);
    auto [number, place] = divide(id, multiply(size, extents.back()));
    Value first = multiply(number, size);
    // The last section may be smaller.
    size = arith::MinUIOp::create(builder, loc, size, subtract(count, first));
    auto [step, within] = divide(place, size);
    outer = add(first, within);
    inner = step;
  } else if (upper.size() > 1) {
    std::tie(outer, inner) = divide(id, extents.back());
  } else {
    inner = id;
  }
  places.push_back(subtract(subtract(extents.back(), constant(1)), inner));
  for (int64_t dim = upper.size() - 2; dim >= 0; --dim) {
    Value place = outer;
    if (dim)
      std::tie(outer, place) = divide(outer, extents[dim]);
    places.push_back(place);
  }
  return llvm::map_to_vector(llvm::reverse(places), [&](Value place) -> Value {
    return arith::IndexCastOp::create(builder, loc, builder.getIndexType(),
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
    auto plan = func->getAttrOfType<PlanAttr>(kPlanAttrName);
    SmallVector<Value> upper = forall.getUpperBound(builder);
    SmallVector<Value> coordinates =
        mapBlock(builder, forall.getLoc(), upper, plan ? plan.getSection() : 1);
    forall.getBody()->getTerminator()->erase();
    IRRewriter rewriter(builder);
    rewriter.inlineBlockBefore(forall.getBody(), forall, coordinates);
    rewriter.eraseOp(forall);
  }
};
} // namespace
