//===- AssignLayouts.cpp - Which thread holds which element ---------------===//

#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace mlir::tl;

namespace mlir::tl {
#define GEN_PASS_DEF_TILEASSIGNLAYOUTS
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
} // namespace mlir::tl

using Mode = FragmentAttr::Mode;

/// The accumulator layout of a `rows` x `cols` product over the warps of
/// `plan`: each 16x8 block of mma.m16n8k16 spreads over a warp; wgmma holds 64
/// rows per four warps the same way.
static FailureOr<FragmentAttr> accumulatorLayout(Operation *op, PlanAttr plan,
                                                 int64_t rows, int64_t cols) {
  bool groups = plan.getMma() == "wgmma";
  if (groups && plan.getWarps() % 4)
    return op->emitError("wgmma needs a multiple of 4 warps, the plan has ")
           << plan.getWarps();
  int64_t size = plan.getTeamSize(), along = plan.getTeamsAlong(rows, cols);
  int64_t across = plan.getTeams() / along;
  // ldmatrix reads 16 columns at once, from a multiple of 16 on.
  if (rows % (16 * size * along) || cols % 8 ||
      (across > 1 && cols % (16 * across)))
    return op->emitError("a tile of ")
           << rows << "x" << cols << " does not divide over " << plan.getWarps()
           << " warps of 16 rows and blocks of 8 columns";
  int64_t share = cols / across;
  int64_t blocks = rows / (16 * size * along);
  SmallVector<Mode> reg = {{2, 1, 1}, {2, 0, 8}, {share / 8, 1, 8}};
  SmallVector<Mode> warp;
  if (groups) {
    // A warp group owns 64 neighbouring rows per block of instructions.
    warp = {{4, 0, 16}, {along, 0, 64}};
    if (blocks > 1)
      reg.push_back({blocks, 0, 64 * along});
  } else {
    warp = {{along, 0, 16 * blocks}};
    if (blocks > 1)
      reg.push_back({blocks, 0, 16});
  }
  if (across > 1)
    warp.push_back({across, 1, share});
  return FragmentAttr::get(op->getContext(), reg, {{4, 1, 2}, {8, 0, 1}}, warp);
}

static bool isTile(Value value) {
  return isa<RankedTensorType>(value.getType());
}

/// The same for every element or computed from its coordinates: cheaper to
/// make again in each layout than to convert.
static bool isFree(Operation *op) {
  return isa_and_present<arith::ConstantOp, SplatOp, IotaOp>(op) &&
         isTile(op->getResult(0));
}

/// Whether `vector` and all that is computed with it elementwise comes from
/// memory or from coordinates, and goes to memory or, as f32, to broadcasts
/// along rows: registers can be spared by a layout that broadcasts shuffle.
static bool mayBeSpread(Value vector) {
  SetVector<Value> all;
  all.insert(vector);
  auto insert = [&](ValueRange values) {
    for (Value value : values)
      if (isTile(value))
        all.insert(value);
  };
  for (size_t i = 0; i < all.size(); ++i) {
    Operation *def = all[i].getDefiningOp();
    if (!def || cast<RankedTensorType>(all[i].getType()).getRank() != 1)
      return false;
    if (def->hasTrait<OpTrait::Elementwise>())
      insert(def->getOperands());
    else if (!isa<LoadOp>(def) && !isFree(def))
      return false;
    for (Operation *user : all[i].getUsers()) {
      auto broadcast = dyn_cast<BroadcastOp>(user);
      if (user->hasTrait<OpTrait::Elementwise>())
        insert(user->getResults());
      else if (broadcast ? broadcast.getDim() != 0 ||
                               !getElementTypeOrSelf(all[i].getType()).isF32()
                         : !isa<StoreOp>(user))
        return false;
    }
  }
  return true;
}

namespace {
struct TileAssignLayouts : tl::impl::TileAssignLayoutsBase<TileAssignLayouts> {
  DenseMap<Value, FragmentAttr> layouts;
  SmallVector<Value> worklist;
  bool conflicting = false;

  /// Tiles beyond this have no layout: no program fits a chip with them anyway.
  static LogicalResult checkSizes(func::FuncOp func) {
    WalkResult result = func.walk([](Operation *op) {
      for (Type type : op->getResultTypes()) {
        auto tile = dyn_cast<RankedTensorType>(type);
        if (!tile)
          continue;
        constexpr int64_t kMost = 1 << 18;
        int64_t elements = 1;
        for (int64_t extent : tile.getShape()) {
          if (extent > 0 && elements <= kMost / extent) {
            elements *= extent;
            continue;
          }
          op->emitOpError("makes the tile ")
              << tile << "; a tile in registers has 1 to " << kMost
              << " elements: use smaller tiles";
          return WalkResult::interrupt();
        }
      }
      return WalkResult::advance();
    });
    return failure(result.wasInterrupted());
  }

  void runOnOperation() override {
    func::FuncOp func = getOperation();
    layouts.clear();
    worklist.clear();
    conflicting = false;
    auto plan = func->getAttrOfType<PlanAttr>(kPlanAttrName);
    if (!plan) {
      func.emitError("has no 'tile.plan' attribute; run fa-tile or set one");
      return signalPassFailure();
    }
    if (failed(checkSizes(func)))
      return signalPassFailure();
    copyFreeValues(func);

    func.walk([&](ContractOp contract) {
      auto acc = cast<RankedTensorType>(contract.getResult().getType());
      auto layout = accumulatorLayout(contract, plan, acc.getDimSize(0),
                                      acc.getDimSize(1));
      if (failed(layout)) {
        conflicting = true;
        return;
      }
      set(contract.getResult(), *layout);
      set(contract.getAcc(), *layout);
      if (auto lhs = dyn_cast<RankedTensorType>(contract.getLhs().getType())) {
        auto operand = accumulatorLayout(contract, plan, lhs.getDimSize(0),
                                         lhs.getDimSize(1));
        if (failed(operand)) {
          conflicting = true;
        } else if (plan.getTeamsAlong(lhs.getDimSize(0), lhs.getDimSize(1)) <
                   plan.getTeams()) {
          contract.emitError("the left factor has ")
              << lhs.getDimSize(0)
              << " rows, too few for rows of their own in each of "
              << plan.getTeams()
              << " teams of warps; put it into shared memory: run tile-stage";
          conflicting = true;
        } else {
          set(contract.getLhs(), *operand);
        }
      }
      if (isTile(contract.getRhs())) {
        contract.emitError("the right factor must be in a shared buffer; it is "
                           "a tile that products alone do not read");
        conflicting = true;
      }
    });
    while (!worklist.empty() && !conflicting)
      propagate(worklist.pop_back_val());
    // Matrices that no product reaches (plain elementwise programs).
    func.walk([&](Operation *op) {
      for (Value result : op->getResults())
        if (auto type = dyn_cast<RankedTensorType>(result.getType());
            type && !conflicting && !layouts.contains(result) &&
            type.getRank() == 2) {
          auto layout = accumulatorLayout(op, plan, type.getDimSize(0),
                                          type.getDimSize(1));
          if (failed(layout)) {
            conflicting = true;
            return;
          }
          set(result, *layout);
          while (!worklist.empty() && !conflicting)
            propagate(worklist.pop_back_val());
        }
    });
    if (conflicting)
      return signalPassFailure();
    func.walk([&](Operation *op) { retype(op); });
  }

  void copyFreeValues(func::FuncOp func) {
    SmallVector<Operation *> frees;
    func.walk([&](Operation *op) {
      if (isFree(op))
        frees.push_back(op);
    });
    for (Operation *op : frees) {
      for (OpOperand &use :
           llvm::make_early_inc_range(op->getResult(0).getUses())) {
        OpBuilder builder(use.getOwner());
        use.set(builder.clone(*op)->getResult(0));
      }
      op->erase();
    }
  }

  void set(Value value, FragmentAttr layout) {
    if (!isTile(value))
      return;
    auto [it, isNew] = layouts.try_emplace(value, layout);
    if (isNew) {
      worklist.push_back(value);
    } else if (it->second != layout && !conflicting) {
      conflicting = true;
      emitError(value.getLoc())
          << "this tile is needed in two layouts, " << it->second << " and "
          << layout << "; a conversion between them is not supported";
    }
  }

  /// Carries the layout of `value` to everything that must agree with it.
  void propagate(Value value) {
    FragmentAttr layout = layouts.lookup(value);
    if (Operation *def = value.getDefiningOp())
      propagateThrough(def, value, layout);
    else if (auto loop =
                 dyn_cast<scf::ForOp>(value.getParentBlock()->getParentOp()))
      if (auto arg = cast<BlockArgument>(value); arg.getArgNumber() > 0)
        setLoopValue(loop, arg.getArgNumber() - 1, layout);
    for (Operation *user : value.getUsers())
      propagateThrough(user, value, layout);
  }

  void setLoopValue(scf::ForOp loop, unsigned index, FragmentAttr layout) {
    set(loop.getInitArgs()[index], layout);
    set(loop.getRegionIterArg(index), layout);
    set(loop.getResult(index), layout);
    set(loop.getYieldedValues()[index], layout);
  }

  void propagateThrough(Operation *op, Value value, FragmentAttr layout) {
    if (auto reduce = dyn_cast<ReduceOp>(op))
      return relate(reduce.getSource(), reduce.getResult(), reduce.getDim());
    if (auto sums = dyn_cast<PartialSumsOp>(op))
      return relate(sums);
    if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
      Value result = broadcast.getResult(), source = broadcast.getSource();
      auto it = layouts.find(result);
      if (it != layouts.end() && mayBeSpread(source))
        if (FragmentAttr spread = FragmentAttr(it->second).spreadColumns())
          return set(source, spread);
      return relate(result, source, broadcast.getDim());
    }
    if (auto loop = dyn_cast<scf::ForOp>(op)) {
      for (unsigned i = 0; i < loop.getNumResults(); ++i)
        if (loop.getInitArgs()[i] == value || loop.getResult(i) == value)
          setLoopValue(loop, i, layout);
      return;
    }
    if (auto yield = dyn_cast<scf::YieldOp>(op)) {
      for (auto [i, operand] : llvm::enumerate(yield.getOperands())) {
        if (operand != value)
          continue;
        if (auto loop = dyn_cast<scf::ForOp>(yield->getParentOp()))
          setLoopValue(loop, i, layout);
        else
          set(yield->getParentOp()->getResult(i), layout);
      }
      return;
    }
    if (auto branch = dyn_cast<scf::IfOp>(op)) {
      for (unsigned i = 0; i < branch.getNumResults(); ++i)
        if (branch.getResult(i) == value) {
          set(branch.thenYield().getOperand(i), layout);
          set(branch.elseYield().getOperand(i), layout);
        }
      return;
    }
    if (isa<ContractOp, StoreOp, AccumulateOp, StageOp, LoadOp, FetchOp>(op) ||
        isFree(op))
      return;
    // Elementwise: every tile has the same layout.
    for (Value operand : op->getOperands())
      set(operand, layout);
    for (Value result : op->getResults())
      set(result, layout);
  }

  /// `small` is `large` without dimension `dim`.
  void relate(Value large, Value small, int64_t dim) {
    auto it = layouts.find(large);
    if (it != layouts.end())
      set(small, FragmentAttr(it->second).dropDim(dim));
  }

  void relate(PartialSumsOp op) {
    auto it = layouts.find(op.getSource());
    if (it == layouts.end() || conflicting)
      return;
    if (FragmentAttr sums = FragmentAttr(it->second).sumColumns())
      return set(op.getResult(), sums);
    conflicting = true;
    op.emitOpError("adds up columns that are spread over warps; give each warp "
                   "whole rows");
  }

  void retype(Operation *op) {
    auto withLayout = [&](Value value) {
      auto it = layouts.find(value);
      if (it == layouts.end())
        return;
      auto type = cast<RankedTensorType>(value.getType());
      value.setType(RankedTensorType::get(type.getShape(),
                                          type.getElementType(), it->second));
    };
    for (Value result : op->getResults())
      withLayout(result);
    for (Region &region : op->getRegions())
      for (Block &block : region)
        for (BlockArgument arg : block.getArguments())
          withLayout(arg);
    if (auto constant = dyn_cast<arith::ConstantOp>(op))
      if (auto type = dyn_cast<RankedTensorType>(constant.getType())) {
        auto value = cast<DenseElementsAttr>(constant.getValue());
        constant.setValueAttr(value.reshape(type));
      }
  }
};
} // namespace
