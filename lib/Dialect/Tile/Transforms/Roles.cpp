//===- Roles.cpp - Copies move to producer warps --------------------------===//

#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace mlir::tl;

namespace mlir::tl {
#define GEN_PASS_DEF_TILEROLES
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
} // namespace mlir::tl

static bool holdsProduce(Operation *op) {
  return op->walk([](ProduceOp) { return WalkResult::interrupt(); })
      .wasInterrupted();
}

static bool touchesTiles(Operation *op) {
  auto isTile = [](Type type) {
    return isa<RankedTensorType, BufferType>(type);
  };
  return llvm::any_of(op->getOperandTypes(), isTile) ||
         llvm::any_of(op->getResultTypes(), isTile);
}

/// Scalar computation that both roles may do (reading a length included).
static bool isScalarComputation(Operation *op) {
  return !touchesTiles(op) && op->getNumRegions() == 0 &&
         (isMemoryEffectFree(op) || isa<memref::LoadOp>(op)) &&
         !op->hasTrait<OpTrait::IsTerminator>();
}

/// Clones into `builder` what the copies of `block` need: the copies, the loops
/// around them without what they carry, and scalar computation.
static void cloneCopies(Block &block, OpBuilder &builder, IRMapping &map) {
  for (Operation &op : block) {
    if (auto loop = dyn_cast<scf::ForOp>(op)) {
      if (!holdsProduce(loop))
        continue;
      auto copy = scf::ForOp::create(builder, loop.getLoc(),
                                     map.lookupOrDefault(loop.getLowerBound()),
                                     map.lookupOrDefault(loop.getUpperBound()),
                                     map.lookupOrDefault(loop.getStep()));
      map.map(loop.getInductionVar(), copy.getInductionVar());
      OpBuilder inner(copy.getBody()->getTerminator());
      cloneCopies(*loop.getBody(), inner, map);
      continue;
    }
    // What depends on tiles, or is carried by a loop, no copy needs.
    auto isThere = [&](Value operand) {
      return map.contains(operand) || operand.getParentBlock() != &block;
    };
    if (isa<ProduceOp>(op) ||
        (isScalarComputation(&op) && llvm::all_of(op.getOperands(), isThere)))
      builder.clone(op, map);
  }
}

namespace {
struct TileRoles : tl::impl::TileRolesBase<TileRoles> {
  void runOnOperation() override {
    func::FuncOp func = getOperation();
    auto plan = func->getAttrOfType<PlanAttr>(kPlanAttrName);
    if (!plan || plan.getProducers() == 0 || !holdsProduce(func))
      return;
    Block *body = &func.getBody().front();

    // Everything from the first copy on is split; what stands before it
    // (pipes, addresses, loop bounds that are pure) is shared by both roles.
    OpBuilder builder(body->getTerminator());
    Location loc = func.getLoc();
    auto roles = RolesOp::create(
        builder, loc,
        builder.getDenseI64ArrayAttr({plan.getProducers(), plan.getWarps()}),
        builder.getDenseI64ArrayAttr(chooseRegisters(func, plan)), 2);
    Block *copies = &roles.getBodies()[0].emplaceBlock();
    Block *products = &roles.getBodies()[1].emplaceBlock();

    SmallVector<Operation *> shared, split;
    for (Operation &op : body->without_terminator()) {
      if (&op == roles)
        break;
      bool common =
          isa<PipeOp>(op) ||
          (split.empty() && isScalarComputation(&op) && !isa<RowsHeldOp>(op));
      (common ? shared : split).push_back(&op);
    }
    for (Operation *op : split)
      op->moveBefore(products, products->end());

    IRMapping map;
    OpBuilder copyBuilder = OpBuilder::atBlockEnd(copies);
    cloneCopies(*products, copyBuilder, map);
    SmallVector<ProduceOp> moved;
    products->walk([&](ProduceOp produce) { moved.push_back(produce); });
    for (ProduceOp produce : moved)
      produce.erase();
  }

  /// Register counts per role that fill the file of 64K registers
  /// (setmaxnreg takes multiples of 8). With 24, the least, producers spill
  /// where they copy many panels.
  static SmallVector<int64_t> chooseRegisters(func::FuncOp func,
                                              PlanAttr plan) {
    if (plan.getMma() != "wgmma")
      return {0, 0};
    constexpr int64_t kFewPanels = 4;
    bool hasFew = llvm::all_of(func.getOps<PipeOp>(), [](PipeOp pipe) {
      return pipe.getPipe().getType().getSlot().getNumPanels() <= kFewPanels;
    });
    switch (plan.getWarps()) {
    case 4:
      return {56, 240};
    case 8:
      if (hasFew)
        return {24, 240};
      return {40, 232};
    case 12:
      return {32, 160};
    case 16:
      return {32, 112};
    default:
      return {0, 0};
    }
  }
};
} // namespace
