//===- HoldFactors.cpp - Left factors that loops do not change ------------===//

#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace mlir::tl;

namespace mlir::tl {
#define GEN_PASS_DEF_TILEHOLDFACTORS
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
} // namespace mlir::tl

/// The innermost loop around `op` that `value` is made before; null if there is
/// none.
static scf::ForOp getLoopBehind(Operation *op, Operation *value) {
  auto loop = op->getParentOfType<scf::ForOp>();
  return loop && !loop->isAncestor(value) ? loop : scf::ForOp();
}

/// Before 13.1, ptxas overwrites registers that wgmma takes in each iteration
/// of a loop: seen where there were four products in it (gradients of keys) and
/// the last one's left factor was as large as the held one.
static bool isSafeFromPtxas(scf::ForOp loop, PlanAttr plan) {
  constexpr int64_t kMostProducts = 3;
  auto products = loop.getBody()->getOps<ContractOp>();
  return plan.getMma() != "wgmma" ||
         std::distance(products.begin(), products.end()) <= kMostProducts;
}

/// The fill whose rows `product` could hold in registers; null if there is
/// none.
static ConsumeOp getHeldFactor(ContractOp product, PlanAttr plan) {
  auto consume = product.getLhs().getDefiningOp<ConsumeOp>();
  if (!consume || product.getEachWarp() || !product.isReductionMinor(0))
    return {};
  scf::ForOp loop = getLoopBehind(product, consume);
  int64_t rows = consume.getBuffer().getType().getShape()[0];
  if (!loop || !isSafeFromPtxas(loop, plan) ||
      plan.getTeamsAlong(rows) != plan.getTeams())
    return {};
  return consume;
}

namespace {
struct TileHoldFactors : tl::impl::TileHoldFactorsBase<TileHoldFactors> {
  void runOnOperation() override {
    func::FuncOp func = getOperation();
    auto plan = func->getAttrOfType<PlanAttr>(kPlanAttrName);
    if (!plan || !plan.getHoldLeft())
      return;
    DenseMap<Value, Value> held;
    func.walk([&](ContractOp product) {
      ConsumeOp consume = getHeldFactor(product, plan);
      if (!consume)
        return;
      Value &tile = held[consume.getBuffer()];
      if (!tile) {
        OpBuilder builder(consume->getContext());
        builder.setInsertionPointAfter(consume);
        BufferType type = consume.getBuffer().getType();
        tile = FetchOp::create(
            builder, consume.getLoc(),
            RankedTensorType::get(type.getShape(), type.getElementType()),
            consume.getBuffer());
      }
      product.getLhsMutable().assign(tile);
    });
  }
};
} // namespace
