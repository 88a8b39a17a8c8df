//===- OrientForVectors.cpp - tile-orient-for-vectors ---------------------===//

#include "fa/Dialect/Tile/Transforms/Orientation.h"
#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

namespace mlir::tl {
#define GEN_PASS_DEF_TILEORIENTFORVECTORS
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
} // namespace mlir::tl

using namespace mlir;
using namespace mlir::tl;

// Each of one kind outweighs all of the kinds below: a horizontal reduction
// costs more than any transposed access, and a transposition in each iteration
// of a loop more than elements read one by one.
static constexpr int64_t kReduction = 10000, kInvariant = 100, kBroadcast = 1;

/// The operand of `op`, 0 or 1, that is the only one from outside of its loop.
static std::optional<unsigned> findInvariantOperand(ContractOp op) {
  auto loop = op->getParentOfType<scf::ForOp>();
  if (!loop)
    return std::nullopt;
  bool invariant[] = {loop.isDefinedOutsideOfLoop(op.getLhs()),
                      loop.isDefinedOutsideOfLoop(op.getRhs())};
  if (invariant[0] == invariant[1])
    return std::nullopt;
  return invariant[0] ? 0 : 1;
}

/// The operand of `op` that has the lanes of the accumulator, and whether it
/// is to be held as written (-1) or transposed (1) so that they are its lanes.
static std::pair<OpOperand *, int64_t>
findLaneOperand(ContractOp op, const Orientation &orientation) {
  bool isTurned = orientation.isTransposed(op.getAcc()) ||
                  orientation.isTransposed(op.getResult());
  unsigned lane = op.getMap(2).getDimPosition(isTurned ? 0 : 1);
  unsigned i = op.getMap(0).isFunctionOfDim(lane) ? 0 : 1;
  return {&op->getOpOperand(i),
          op.getMap(i).getDimPosition(1) == lane ? -1 : 1};
}

static void vote(func::FuncOp func, Orientation &orientation) {
  // A broadcast votes too: it inverts a reduction, which may be another tile's.
  func.walk([&](Operation *op) {
    if (auto reduce = dyn_cast<ReduceOp>(op)) {
      orientation.vote(reduce.getSource(),
                       reduce.getDim() == 1 ? kReduction : -kReduction);
    } else if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
      orientation.vote(broadcast.getResult(),
                       broadcast.getDim() == 1 ? kBroadcast : -kBroadcast);
    } else if (auto contract = dyn_cast<ContractOp>(op)) {
      // The operand with the lanes may have to be transposed: once, ahead of
      // the loop, if it is from there.
      std::optional<unsigned> i = findInvariantOperand(contract);
      if (i)
        orientation.vote(contract.getResult(),
                         contract.getMap(*i).isFunctionOfDim(
                             contract.getMap(2).getDimPosition(0))
                             ? kInvariant
                             : -kInvariant);
    }
  });
  // Contraction operands follow where their class has no opinion yet.
  SmallVector<std::pair<Value, int64_t>> wishes;
  func.walk([&](ContractOp op) {
    auto [operand, wish] = findLaneOperand(op, orientation);
    if (orientation.votesOf(operand->get()) == 0)
      wishes.emplace_back(operand->get(), wish);
  });
  for (auto [value, weight] : wishes)
    orientation.vote(value, weight);
}

/// Loads twice what contractions want both ways round; returns whether there
/// was such a tile.
static bool splitLoads(func::FuncOp func, const Orientation &orientation) {
  DenseMap<Operation *, Value> copies;
  func.walk([&](ContractOp op) {
    auto [operand, wish] = findLaneOperand(op, orientation);
    auto load = operand->get().getDefiningOp<LoadOp>();
    if (!load || (wish > 0) == orientation.isTransposed(load.getResult()))
      return;
    Value &copy = copies[load];
    if (!copy)
      copy = OpBuilder(load).clone(*load)->getResult(0);
    operand->set(copy);
  });
  return !copies.empty();
}

namespace {
struct OrientForVectors
    : public tl::impl::TileOrientForVectorsBase<OrientForVectors> {
  void runOnOperation() override {
    Orientation orientation(getOperation());
    vote(getOperation(), orientation);
    if (splitLoads(getOperation(), orientation)) {
      orientation = Orientation(getOperation());
      vote(getOperation(), orientation);
    }
    orientation.apply();
  }
};
} // namespace
