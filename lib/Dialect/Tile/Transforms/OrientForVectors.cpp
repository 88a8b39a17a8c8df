//===- OrientForVectors.cpp - tile-orient-for-vectors ---------------------===//

#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "llvm/ADT/EquivalenceClasses.h"

namespace mlir::tl {
#define GEN_PASS_DEF_TILEORIENTFORVECTORS
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
} // namespace mlir::tl

using namespace mlir;
using namespace mlir::tl;

static bool isMatrix(Value value) {
  auto type = dyn_cast<RankedTensorType>(value.getType());
  return type && type.getRank() == 2;
}

static RankedTensorType transposed(Type type) {
  auto tensor = cast<RankedTensorType>(type);
  return RankedTensorType::get({tensor.getDimSize(1), tensor.getDimSize(0)},
                               tensor.getElementType());
}

/// Tiles that are the same in both orientations up to a duplicate: they tie
/// nothing together, each user gets a copy in its own orientation.
static bool isRematerializable(Value value) {
  Operation *op = value.getDefiningOp();
  if (!op)
    return false;
  if (auto constant = dyn_cast<arith::ConstantOp>(op))
    return isa<SplatElementsAttr>(constant.getValue());
  return isa<SplatOp, IotaOp>(op);
}

namespace {
struct OrientForVectors
    : public tl::impl::TileOrientForVectorsBase<OrientForVectors> {
  void runOnOperation() override;

private:
  void tie(ValueRange values);
  void collect();
  void vote();
  void apply();

  bool isTransposed(Value value) const;
  /// Adds `weight` to the votes of `value`'s class; positive transposes it.
  void vote(Value value, int64_t weight);
  /// Makes `operand`, a rematerializable tile, agree with the orientation.
  void rematerialize(OpOperand &operand, bool transpose);

  llvm::EquivalenceClasses<void *> classes;
  DenseMap<void *, int64_t> votes; // by leader of the class
};
} // namespace

/// Operations whose tile operands and results have one orientation.
static bool tiesOperands(Operation *op) {
  return OpTrait::hasElementwiseMappableTraits(op) || isa<GatherOp>(op);
}

void OrientForVectors::tie(ValueRange values) {
  void *first = nullptr;
  for (Value value : values) {
    if (!isMatrix(value) || isRematerializable(value))
      continue;
    void *current = value.getAsOpaquePointer();
    classes.insert(current);
    if (first)
      classes.unionSets(first, current);
    first = current;
  }
}

void OrientForVectors::collect() {
  getOperation().walk([&](Operation *op) {
    for (Value result : op->getResults())
      tie(result);
    for (Region &region : op->getRegions())
      for (Block &block : region)
        for (BlockArgument arg : block.getArguments())
          tie(Value(arg));
    if (auto contract = dyn_cast<ContractOp>(op)) {
      tie({contract.getAcc(), contract.getResult()});
    } else if (tiesOperands(op)) {
      SmallVector<Value> values(op->getOperands());
      values.append(op->result_begin(), op->result_end());
      tie(values);
    } else if (auto loop = dyn_cast<scf::ForOp>(op)) {
      for (auto [result, arg, yielded] :
           llvm::zip(loop.getResults(), loop.getRegionIterArgs(),
                     loop.getYieldedValues()))
        tie({result, arg, yielded});
      for (auto [result, init] : llvm::zip(loop.getResults(), loop.getInits()))
        tie({result, init});
    } else if (auto branch = dyn_cast<scf::IfOp>(op)) {
      for (auto [i, result] : llvm::enumerate(branch.getResults()))
        tie({result, branch.thenYield().getOperand(i),
             branch.elseYield().getOperand(i)});
    }
  });
}

void OrientForVectors::vote(Value value, int64_t weight) {
  if (isMatrix(value) && !isRematerializable(value))
    votes[classes.getLeaderValue(value.getAsOpaquePointer())] += weight;
}

bool OrientForVectors::isTransposed(Value value) const {
  if (!isMatrix(value) || isRematerializable(value))
    return false;
  return votes.lookup(classes.getLeaderValue(value.getAsOpaquePointer())) > 0;
}

void OrientForVectors::vote() {
  // Reductions first: a horizontal one costs more than any transposed access.
  // A broadcast votes too: it inverts a reduction, which may be another tile's.
  getOperation().walk([&](Operation *op) {
    if (auto reduce = dyn_cast<ReduceOp>(op))
      vote(reduce.getSource(), reduce.getDim() == 1 ? 2 : -2);
    else if (auto broadcast = dyn_cast<BroadcastOp>(op))
      vote(broadcast.getResult(), broadcast.getDim() == 1 ? 1 : -1);
  });
  // Contraction operands follow where their class has no opinion yet.
  SmallVector<std::pair<Value, int64_t>> wishes;
  getOperation().walk([&](ContractOp op) {
    AffineMap acc = op.getMap(2);
    unsigned lane = acc.getDimPosition(
        isTransposed(op.getAcc()) || isTransposed(op.getResult()) ? 0 : 1);
    for (unsigned i : {0u, 1u}) {
      AffineMap map = op.getMap(i);
      if (map.isFunctionOfDim(lane))
        wishes.emplace_back(op.getOperand(i),
                            map.getDimPosition(1) == lane ? -1 : 1);
    }
  });
  DenseMap<void *, int64_t> decided = votes;
  for (auto [value, weight] : wishes)
    if (isMatrix(value) && !isRematerializable(value) &&
        decided.lookup(classes.getLeaderValue(value.getAsOpaquePointer())) == 0)
      vote(value, weight);
}

void OrientForVectors::rematerialize(OpOperand &operand, bool transpose) {
  if (!transpose || !isMatrix(operand.get()) ||
      !isRematerializable(operand.get()))
    return;
  Operation *def = operand.get().getDefiningOp();
  OpBuilder builder(def);
  builder.setInsertionPointAfter(def);
  RankedTensorType type = transposed(operand.get().getType());
  if (auto constant = dyn_cast<arith::ConstantOp>(def)) {
    auto splat = cast<SplatElementsAttr>(constant.getValue());
    operand.set(arith::ConstantOp::create(
        builder, def->getLoc(),
        SplatElementsAttr::get(type, splat.getSplatValue<Attribute>())));
  } else if (auto splat = dyn_cast<SplatOp>(def)) {
    operand.set(
        SplatOp::create(builder, def->getLoc(), type, splat.getValue()));
  } else {
    operand.set(IotaOp::create(builder, def->getLoc(), type,
                               1 - cast<IotaOp>(def).getDim()));
  }
}

/// The permutation with dimensions 0 and 1 of the tile exchanged.
static DenseI64ArrayAttr swapOrder(std::optional<ArrayRef<int64_t>> order,
                                   MLIRContext *context) {
  if (order && (*order)[0] == 1)
    return nullptr;
  return DenseI64ArrayAttr::get(context, {1, 0});
}

void OrientForVectors::apply() {
  MLIRContext *context = &getContext();
  SmallVector<Value> turned;
  SmallVector<Operation *> dead;
  SmallVector<Operation *> ops;
  getOperation().walk([&](Operation *op) { ops.push_back(op); });
  for (Operation *op : ops) {
    for (Value result : op->getResults())
      if (isTransposed(result))
        turned.push_back(result);
    for (Region &region : op->getRegions())
      for (Block &block : region)
        for (BlockArgument arg : block.getArguments())
          if (isTransposed(arg))
            turned.push_back(arg);

    if (auto load = dyn_cast<LoadOp>(op)) {
      if (isTransposed(load.getResult()))
        load.setOrderAttr(swapOrder(load.getOrder(), context));
    } else if (auto store = dyn_cast<StoreOp>(op)) {
      if (isTransposed(store.getValue()))
        store.setOrderAttr(swapOrder(store.getOrder(), context));
    } else if (auto reduce = dyn_cast<ReduceOp>(op)) {
      if (isTransposed(reduce.getSource()))
        reduce.setDim(1 - reduce.getDim());
    } else if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
      if (isTransposed(broadcast.getResult()))
        broadcast.setDim(1 - broadcast.getDim());
    } else if (auto contract = dyn_cast<ContractOp>(op)) {
      SmallVector<AffineMap> maps;
      for (unsigned i = 0; i < 3; ++i) {
        AffineMap map = contract.getMap(i);
        // A rematerializable accumulator follows the result.
        bool turn = i == 2 ? isTransposed(contract.getResult())
                           : isTransposed(contract.getOperand(i));
        if (turn)
          map = AffineMap::get(3, 0, {map.getResult(1), map.getResult(0)},
                               context);
        maps.push_back(map);
      }
      contract.setMapsAttr(Builder(context).getAffineMapArrayAttr(maps));
      rematerialize(contract.getAccMutable(),
                    isTransposed(contract.getResult()));
    } else if (tiesOperands(op)) {
      // An operation on nothing but rematerializable tiles has a class of its
      // own through its result.
      bool turn = llvm::any_of(op->getResults(),
                               [&](Value v) { return isTransposed(v); });
      for (OpOperand &operand : op->getOpOperands())
        rematerialize(operand, turn);
    } else if (auto loop = dyn_cast<scf::ForOp>(op)) {
      for (auto [i, result] : llvm::enumerate(loop.getResults())) {
        rematerialize(loop.getInitsMutable()[i], isTransposed(result));
        rematerialize((*loop.getYieldedValuesMutable())[i],
                      isTransposed(result));
      }
    } else if (auto branch = dyn_cast<scf::IfOp>(op)) {
      for (auto [i, result] : llvm::enumerate(branch.getResults())) {
        rematerialize(branch.thenYield()->getOpOperand(i),
                      isTransposed(result));
        rematerialize(branch.elseYield()->getOpOperand(i),
                      isTransposed(result));
      }
    }
  }
  for (Value value : turned)
    value.setType(transposed(value.getType()));
  for (Operation *op : llvm::reverse(ops))
    if (op->getNumResults() == 1 && isRematerializable(op->getResult(0)) &&
        isMatrix(op->getResult(0)) && op->use_empty())
      op->erase();
}

void OrientForVectors::runOnOperation() {
  classes = {};
  votes.clear();
  collect();
  vote();
  apply();
}
