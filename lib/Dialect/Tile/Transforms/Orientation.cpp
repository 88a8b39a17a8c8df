//===- Orientation.cpp - Which way round matrix tiles are held ------------===//

#include "fa/Dialect/Tile/Transforms/Orientation.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

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

/// Operations whose tile operands and results have one orientation.
static bool tiesOperands(Operation *op) {
  return OpTrait::hasElementwiseMappableTraits(op) || isa<GatherOp>(op);
}

Orientation::Orientation(func::FuncOp func) : func(func) { collect(); }

void Orientation::tie(ValueRange values) {
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

void Orientation::collect() {
  func.walk([&](Operation *op) {
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

void Orientation::vote(Value value, int64_t weight) {
  if (isMatrix(value) && !isRematerializable(value))
    votes[classes.getLeaderValue(value.getAsOpaquePointer())] += weight;
}

int64_t Orientation::votesOf(Value value) const {
  if (!isMatrix(value) || isRematerializable(value))
    return 0;
  return votes.lookup(classes.getLeaderValue(value.getAsOpaquePointer()));
}

void Orientation::rematerialize(OpOperand &operand, bool transpose) {
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

void Orientation::apply() {
  MLIRContext *context = func.getContext();
  SmallVector<Value> turned;
  SmallVector<Operation *> dead;
  SmallVector<Operation *> ops;
  func.walk([&](Operation *op) { ops.push_back(op); });
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
