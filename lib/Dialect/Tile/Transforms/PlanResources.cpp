//===- PlanResources.cpp - Pipes and barriers in shared memory ------------===//

#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "fa/Target/Chip.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Remarks.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::tl;

namespace mlir::tl {
#define GEN_PASS_DEF_TILEPLANRESOURCES
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
} // namespace mlir::tl

/// What the chip does not have of what the plan asks for; an unknown chip has
/// all.
static LogicalResult checkChip(func::FuncOp func, PlanAttr plan,
                               const fa::Chip &chip) {
  auto refuse = [&](StringRef what, StringRef remedy) {
    return func.emitError("plans ")
           << what << ", which " << chip.name << " does not have: " << remedy;
  };
  if (plan.getMma() == "wgmma" && !chip.hasWgmma)
    return refuse("mma = \"wgmma\"", "use mma_sync");
  if (plan.getCopy() == "tma" && !chip.hasWgmma)
    return refuse("copy = \"tma\"", "use cp_async or direct");
  if (plan.getCopy() == "cp_async" && !chip.hasCpAsync)
    return refuse("copy = \"cp_async\"", "use direct");
  WalkResult result = func.walk([&](ContractOp op) {
    if (chip.hasBF16 || !getElementTypeOrSelf(op.getLhs().getType()).isBF16())
      return WalkResult::advance();
    op.emitOpError("multiplies bf16, which ")
        << chip.name << " does not have: use f16 or sm_80 and newer";
    return WalkResult::interrupt();
  });
  return failure(result.wasInterrupted());
}

/// Gives tiles that are added to memory a place in what is left from `offset`
/// on, the same for all, where the chip adds by bulk copies. Returns its bytes.
static int64_t placeSums(func::FuncOp func, PlanAttr plan, int64_t offset,
                         const fa::Chip &chip) {
  constexpr int64_t kAlignment = 128;
  int64_t place = llvm::alignTo(offset, kAlignment), end = offset;
  if (!chip.hasWgmma)
    return 0;
  func.walk([&](AccumulateOp add) {
    auto type = cast<RankedTensorType>(add.getValue().getType());
    int64_t bytes = type.getNumElements() * type.getElementTypeBitWidth() / 8;
    if (!type.getElementType().isF32() || !add.isContiguous() ||
        place + bytes > chip.sharedBytes)
      return;
    add.setOffset(place);
    end = std::max(end, place + bytes);
    // All threads meet at the barriers of a stage and of this: what the one
    // has waited for and products before the other have read needs no others.
    auto isDone = [&](Operation *product) {
      return product == add.getValue().getDefiningOp() ||
             (!plan.getOverlap() && product->getBlock() == add->getBlock() &&
              product->isBeforeInBlock(add));
    };
    for (StageOp stage : add->getBlock()->getOps<StageOp>()) {
      if (!stage->isBeforeInBlock(add))
        continue;
      add.setFree(true);
      if (llvm::all_of(stage->getUsers(), isDone))
        stage.setUnread(true);
    }
  });
  return end - offset;
}

/// Gives stores of 16-bit tiles a place from `offset` on, the same for all,
/// where the chip stores matrices to shared memory: that of tensor copies, if
/// the plan has such and a panel fits, else one to exchange columns in.
/// Returns its bytes. Persistent kernels only: they have the multiprocessor to
/// themselves, and the products of the next tile wait for the stores of this
/// one.
static int64_t placeStores(func::FuncOp func, PlanAttr plan, int64_t offset,
                           const fa::Chip &chip) {
  // That of the widest swizzle of panels.
  constexpr int64_t kAlignment = 1024;
  if (!chip.hasWgmma || !plan.getPersistent())
    return 0;
  int64_t place = llvm::alignTo(offset, kAlignment);
  // Bytes of a warp.
  int64_t room =
      std::max<int64_t>(chip.sharedBytes - place, 0) / plan.getWarps();
  int64_t wanted = 0, least = 0, alignment = 1;
  SmallVector<StoreOp> exchanges, copies;
  func.walk([&](StoreOp store) {
    auto type = cast<RankedTensorType>(store.getValue().getType());
    if (type.getElementTypeBitWidth() != 16 || type.getRank() != 2)
      return;
    exchanges.push_back(store);
    if (auto panels = store.getPanels()) {
      copies.push_back(store);
      wanted = std::max(wanted, panels->getBytes());
      least = std::max(least, panels->getPanelBytes());
      alignment = std::max(alignment, panels->getAlignment());
    }
  });
  wanted = std::min<int64_t>(llvm::alignTo(wanted, alignment),
                             llvm::alignDown(room, alignment));
  bool isBulk = plan.getBulkStores() && !copies.empty() && wanted >= least;
  if (!isBulk)
    wanted = StoreOp::kExchangeBytes;
  if (exchanges.empty() || wanted > room)
    return 0;
  for (StoreOp store : isBulk ? copies : exchanges) {
    store.setOffset(place);
    if (isBulk)
      store.setBulk(wanted);
  }
  return place + plan.getWarps() * wanted - offset;
}

namespace {
struct TilePlanResources : tl::impl::TilePlanResourcesBase<TilePlanResources> {
  void runOnOperation() override {
    func::FuncOp func = getOperation();
    auto plan = func->getAttrOfType<PlanAttr>(kPlanAttrName);
    if (!plan)
      return;
    const fa::Chip *chip = fa::findChip(plan.getChip());
    if (chip && failed(checkChip(func, plan, *chip)))
      return signalPassFailure();
    bool roles = !func.getOps<RolesOp>().empty();
    Builder builder(func.getContext());
    // The 128-byte swizzle repeats every 1024 bytes.
    constexpr int64_t kAlignment = 1024;
    int64_t offset = 0;
    for (PipeOp pipe : func.getOps<PipeOp>()) {
      PipeType type = pipe.getPipe().getType();
      pipe.setOffsetAttr(builder.getI64IntegerAttr(offset));
      offset = llvm::alignTo(
          offset +
              type.getStages() *
                  llvm::alignTo(type.getSlot().getSizeInBytes(), kAlignment),
          kAlignment);
    }
    func.walk([&](StageOp stage) {
      stage.setOffset(offset);
      offset = llvm::alignTo(
          offset + stage.getBuffer().getType().getSizeInBytes(), kAlignment);
      // Where all warps copy, waiting for a pipe is a barrier; the products of
      // the last iteration come before it.
      Block *block = stage->getBlock();
      stage.setUnread(
          !roles && any_of(block->getOps<ConsumeOp>(), [&](ConsumeOp consume) {
            return consume->isBeforeInBlock(stage);
          }));
    });
    if (roles)
      for (PipeOp pipe : func.getOps<PipeOp>()) {
        pipe.setBarriersAttr(builder.getI64IntegerAttr(offset));
        offset += 16 * pipe.getPipe().getType().getStages();
      }
    if (chip) {
      offset += placeSums(func, plan, offset, *chip);
      offset += placeStores(func, plan, offset, *chip);
    }
    func->setAttr("tile.shared_bytes", builder.getI64IntegerAttr(offset));
    remark::analysis(func.getLoc(), remark::RemarkOpts::name("resources")
                                        .category("tile-plan-resources")
                                        .function(func.getName()))
        << remark::metric("chip", plan.getChip().getValue())
        << remark::metric("mma", plan.getMma().getValue())
        << remark::metric("copy", plan.getCopy().getValue())
        << remark::metric("warps", plan.getWarps())
        << remark::metric("producers", plan.getProducers())
        << remark::metric("stages", plan.getStages())
        << remark::metric("square", plan.getSquare())
        << remark::metric("hold_left", plan.getHoldLeft())
        << remark::metric("overlap", plan.getOverlap())
        << remark::metric("turns", plan.getTurns())
        << remark::metric("persistent", plan.getPersistent())
        << remark::metric("bulk_stores", plan.getBulkStores())
        << remark::metric("threads",
                          32 * (plan.getWarps() + plan.getProducers()))
        << remark::metric("shared_bytes", offset)
        << remark::metric("shared_limit", chip ? chip->sharedBytes : 0);
    if (chip && offset > chip->sharedBytes) {
      func.emitError("needs ")
          << offset << " bytes of shared memory; " << plan.getChip().getValue()
          << " has " << chip->sharedBytes
          << " per block: use smaller tiles or fewer stages";
      signalPassFailure();
    }
  }
};
} // namespace
