//===- AsyncProducts.cpp - Where products are waited for ------------------===//

#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;
using namespace mlir::tl;

namespace mlir::tl {
#define GEN_PASS_DEF_TILEASYNCPRODUCTS
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
} // namespace mlir::tl

namespace {
/// A product under way, and what waits for it.
struct Started {
  ContractOp product;
  SmallVector<ReleaseOp> releases; // of slots that it reads
};
} // namespace

/// Whether `op`, or anything inside of it, uses the result of `product`.
static bool usesResult(Operation *op, ContractOp product) {
  return llvm::any_of(product->getUsers(),
                      [&](Operation *user) { return op->isAncestor(user); });
}

static bool reads(ContractOp product, Value buffer) {
  return product.getLhs() == buffer || product.getRhs() == buffer;
}

/// Whether `product` reads a slot of the pipe that `release` gives back.
static bool readsSlotOf(ContractOp product, ReleaseOp release) {
  return llvm::any_of(product->getOperands(), [&](Value operand) {
    auto consume = operand.getDefiningOp<ConsumeOp>();
    return consume && consume.getPipe() == release.getPipe();
  });
}

/// Whether `product` takes from registers what is computed while `started`
/// runs: ptxas would put the two in a row (C7513).
static bool takesLater(ContractOp product, ContractOp started) {
  return llvm::any_of(
      ValueRange{product.getLhs(), product.getAcc()}, [&](Value operand) {
        Operation *def = operand.getDefiningOp();
        return def && isa<RankedTensorType>(operand.getType()) &&
               !def->hasTrait<OpTrait::ConstantLike>() &&
               def->getBlock() == started->getBlock() &&
               started->isBeforeInBlock(def);
      });
}

namespace {
struct TileAsyncProducts : tl::impl::TileAsyncProductsBase<TileAsyncProducts> {
  void runOnOperation() override {
    func::FuncOp func = getOperation();
    auto plan = func->getAttrOfType<PlanAttr>(kPlanAttrName);
    // Where registers are short, products that run beside each other are worse
    // than waiting: ptxas puts them in a row, and spills.
    if (!plan || plan.getMma() != "wgmma" || !plan.getOverlap())
      return;
    SmallVector<Block *> blocks;
    func.walk([&](Block *block) {
      if (!block->getOps<ContractOp>().empty())
        blocks.push_back(block);
    });
    for (Block *block : blocks)
      visit(*block);
  }

  static void visit(Block &block) {
    SmallVector<Started> started; // oldest first
    for (Operation &op : llvm::make_early_inc_range(block)) {
      auto release = dyn_cast<ReleaseOp>(op);
      // The youngest that must be done before `op`.
      size_t done = 0;
      for (auto [number, entry] : llvm::enumerate(started)) {
        bool isOverwritten =
            isa<StageOp>(op) && reads(entry.product, op.getResult(0));
        auto product = dyn_cast<ContractOp>(op);
        if (usesResult(&op, entry.product) || isOverwritten ||
            (product && takesLater(product, entry.product)))
          done = number + 1;
      }
      if (op.hasTrait<OpTrait::IsTerminator>())
        done = started.size();
      await(started, done, &op);
      if (auto product = dyn_cast<ContractOp>(op);
          product && !product.getEachWarp()) {
        product.setAsync(true);
        started.push_back({product, {}});
      }
      if (!release)
        continue;
      // Behind the wait for the youngest that reads the slot.
      for (Started &entry : llvm::reverse(started))
        if (readsSlotOf(entry.product, release)) {
          entry.releases.push_back(release);
          break;
        }
    }
    // A region that ends without a terminator.
    if (!started.empty())
      await(started, started.size(), nullptr, &block);
  }

  /// Waits for the first `count` of `started` before `op` or, without it, at
  /// the end of `block`.
  static void await(SmallVector<Started> &started, size_t count, Operation *op,
                    Block *block = nullptr) {
    if (count == 0)
      return;
    OpBuilder builder(started.front().product.getContext());
    if (op)
      builder.setInsertionPoint(op);
    else
      builder.setInsertionPointToEnd(block);
    SmallVector<Value> products;
    for (const Started &entry : ArrayRef(started).take_front(count))
      products.push_back(ContractOp(entry.product).getResult());
    auto await =
        AwaitOp::create(builder, started.front().product.getLoc(),
                        TypeRange(products), products, started.size() - count);
    for (auto [number, product] : llvm::enumerate(products)) {
      product.replaceAllUsesExcept(await.getResult(number), await);
      for (ReleaseOp release : started[number].releases)
        release->moveBefore(builder.getInsertionBlock(),
                            builder.getInsertionPoint());
    }
    started.erase(started.begin(), started.begin() + count);
  }
};
} // namespace
