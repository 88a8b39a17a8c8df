//===- Persistent.cpp - A block takes one grid iteration after another ----===//

#include "fa/Conversion/Launch.h"
#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "fa/Target/Chip.h"
#include "mlir/Analysis/SliceAnalysis.h"
#include "mlir/Analysis/TopologicalSortUtils.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/Remarks.h"
#include "mlir/Transforms/RegionUtils.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/Support/MathExtras.h"
#include <tuple>

using namespace mlir;
using namespace mlir::tl;

namespace mlir::tl {
#define GEN_PASS_DEF_TILEPERSISTENT
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
} // namespace mlir::tl

/// What stands before the roles and depends on the block goes into each of
/// them.
static void sinkIntoRoles(func::FuncOp func, RolesOp roles) {
  SetVector<Operation *> dependent;
  for (auto id : func.getOps<gpu::BlockIdOp>()) {
    dependent.insert(id);
    getForwardSlice(id.getResult(), &dependent);
  }
  SmallVector<Operation *> moved;
  for (Operation &op : func.getBody().front())
    if (&op == roles)
      break;
    else if (dependent.contains(&op))
      moved.push_back(&op);
  for (Region &body : roles.getBodies()) {
    OpBuilder builder = OpBuilder::atBlockBegin(&body.front());
    IRMapping map;
    for (Operation *op : moved) {
      builder.clone(*op, map);
      for (Value result : op->getResults())
        replaceAllUsesInRegionWith(result, map.lookup(result), body);
    }
  }
  for (Operation *op : llvm::reverse(moved))
    op->erase();
}

namespace {
/// The iterations of the loops around a copy, once per grid iteration.
using Ranges = SmallVector<std::pair<Value, Value>, 2>;

/// How often the copies of `body`, the producers' region, fill each pipe.
class FillCounts {
public:
  static FailureOr<FillCounts> get(Region &body);

  /// Numbers of fills in one grid iteration, for each kind of pipe; computed at
  /// the end of `body`.
  SmallVector<Value> compute(Region &body);

  /// Pipes with the same number of fills share it.
  llvm::MapVector<Value, unsigned> kindOf;
  unsigned size() const { return kinds.size(); }

private:
  // Constant part and loops.
  using Kind = std::pair<int64_t, Ranges>;
  SmallVector<Kind> kinds;
};
} // namespace

FailureOr<FillCounts> FillCounts::get(Region &body) {
  llvm::MapVector<Value, Kind> fills;
  WalkResult result = body.walk([&](ProduceOp produce) {
    Kind &kind = fills[produce.getPipe()];
    if (produce->getBlock() == &body.front()) {
      ++kind.first;
      return WalkResult::advance();
    }
    auto loop = dyn_cast<scf::ForOp>(produce->getParentOp());
    if (!loop || loop->getBlock() != &body.front() ||
        getConstantIntValue(loop.getStep()) != 1) {
      produce.emitOpError(
          "is neither at the top level of its role nor in a loop "
          "of step 1 there, so that its fills cannot be counted: "
          "use a plan that is not persistent");
      return WalkResult::interrupt();
    }
    kind.second.emplace_back(loop.getLowerBound(), loop.getUpperBound());
    return WalkResult::advance();
  });
  if (result.wasInterrupted())
    return failure();
  FillCounts counts;
  for (auto &[pipe, kind] : fills) {
    auto *known = llvm::find(counts.kinds, kind);
    counts.kindOf[pipe] = known - counts.kinds.begin();
    if (known == counts.kinds.end())
      counts.kinds.push_back(kind);
  }
  return counts;
}

SmallVector<Value> FillCounts::compute(Region &body) {
  OpBuilder builder = OpBuilder::atBlockEnd(&body.front());
  Location loc = body.getLoc();
  Value zero = arith::ConstantIndexOp::create(builder, loc, 0);
  return llvm::map_to_vector(kinds, [&](const Kind &kind) {
    Value count = arith::ConstantIndexOp::create(builder, loc, kind.first);
    for (auto [lower, upper] : kind.second) {
      Value trips = arith::SubIOp::create(builder, loc, upper, lower);
      trips = arith::MaxSIOp::create(builder, loc, trips, zero);
      count = arith::AddIOp::create(builder, loc, count, trips);
    }
    return count;
  });
}

/// Computes `values` of region `from` at the end of region `to`, too.
static FailureOr<SmallVector<Value>> repeatIn(Region &to, Region &from,
                                              ArrayRef<Value> values) {
  SetVector<Operation *> slice;
  BackwardSliceOptions options;
  options.filter = [&](Operation *op) {
    return from.isAncestor(op->getParentRegion());
  };
  options.inclusive = true;
  for (Value value : values)
    if (from.isAncestor(value.getParentRegion()))
      (void)getBackwardSlice(value, &slice, options);
  OpBuilder builder = OpBuilder::atBlockEnd(&to.front());
  IRMapping map;
  for (Operation *op : topologicalSort(slice)) {
    if (op->getNumRegions() != 0 ||
        !(isMemoryEffectFree(op) || isa<memref::LoadOp>(op)))
      return op->emitOpError("decides how many copies there are, which warps "
                             "that do not copy cannot know: use a plan that is "
                             "not persistent");
    builder.clone(*op, map);
  }
  return llvm::map_to_vector(
      values, [&](Value value) { return map.lookupOrDefault(value); });
}

namespace {
/// The iterations of the grid that this block takes, one per round; all i32.
struct Rounds {
  Value number; // how many
  Value block, blocks;
  Value items;               // iterations of the grid
  Value section, perSection; // iterations and rounds of a section
};
} // namespace

/// Asks at the builder's place for the extents of the launch of `func`.
static Rounds makeRounds(OpBuilder &builder, func::FuncOp func,
                         int64_t section) {
  Location loc = func.getLoc();
  auto launch = func->getAttrOfType<DictionaryAttr>(fa::kLaunchAttrName);
  AffineMap map = launch.getAs<AffineMapAttr>("grid").getValue();
  auto pairs = launch.getAs<DenseI64ArrayAttr>("grid_symbols").asArrayRef();
  SmallVector<Value> symbols;
  for (size_t i = 0; i < pairs.size(); i += 2) {
    Value argument = func.getArgument(pairs[i]);
    if (pairs[i + 1] >= 0)
      argument = memref::DimOp::create(builder, loc, argument, pairs[i + 1]);
    symbols.push_back(argument);
  }
  auto toI32 = [&](Value value) -> Value {
    return arith::IndexCastOp::create(builder, loc, builder.getI32Type(),
                                      value);
  };
  auto multiply = [&](Value a, Value b) -> Value {
    return arith::MulIOp::create(builder, loc, a, b);
  };
  auto roundsFor = [&](Value items, Value blocks) -> Value {
    Value one = arith::ConstantIntOp::create(builder, loc, 1, 32);
    Value most = arith::AddIOp::create(builder, loc, items, blocks);
    most = arith::SubIOp::create(builder, loc, most, one);
    return arith::DivUIOp::create(builder, loc, most, blocks);
  };
  Rounds rounds;
  rounds.block = toI32(gpu::BlockIdOp::create(builder, loc, gpu::Dimension::x));
  rounds.blocks =
      toI32(gpu::GridDimOp::create(builder, loc, gpu::Dimension::x));
  Value outer = arith::ConstantIntOp::create(builder, loc, 1, 32), last;
  for (unsigned i = 0, e = map.getNumResults(); i < e; ++i) {
    last = toI32(affine::AffineApplyOp::create(builder, loc, map.getSubMap({i}),
                                               symbols));
    if (i + 1 < e)
      outer = multiply(outer, last);
  }
  rounds.items = multiply(outer, last);
  Value number;
  if (section == 1) {
    // No order of lengths but within an outer iteration, which may have few.
    rounds.section = rounds.items;
    number = rounds.perSection = roundsFor(rounds.items, rounds.blocks);
  } else {
    Value size = arith::MinUIOp::create(
        builder, loc, arith::ConstantIntOp::create(builder, loc, section, 32),
        outer);
    rounds.section = multiply(size, last);
    rounds.perSection = roundsFor(rounds.section, rounds.blocks);
    number = multiply(roundsFor(outer, size), rounds.perSection);
  }
  rounds.number = number;
  return rounds;
}

/// The grid iteration of this block in `round`, an index, and whether there is
/// one.
static std::pair<Value, Value> getItem(OpBuilder &builder, Location loc,
                                       const Rounds &rounds, Value number) {
  auto constant = [&](int64_t value) -> Value {
    return arith::ConstantIntOp::create(builder, loc, value, 32);
  };
  Value odd =
      arith::TruncIOp::create(builder, loc, builder.getI1Type(), number);
  Value back = arith::SubIOp::create(
      builder, loc,
      arith::SubIOp::create(builder, loc, rounds.blocks, constant(1)),
      rounds.block);
  Value place = arith::SelectOp::create(builder, loc, odd, back, rounds.block);
  Value within =
      arith::RemUIOp::create(builder, loc, number, rounds.perSection);
  Value first = arith::MulIOp::create(
      builder, loc,
      arith::DivUIOp::create(builder, loc, number, rounds.perSection),
      rounds.section);
  place = arith::AddIOp::create(
      builder, loc, place,
      arith::MulIOp::create(builder, loc, within, rounds.blocks));
  Value left = arith::SubIOp::create(builder, loc, rounds.items, first);
  Value size = arith::MinUIOp::create(builder, loc, rounds.section, left);
  Value exists = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult,
                                       place, size);
  Value item = arith::AddIOp::create(builder, loc, first, place);
  return {
      arith::IndexCastUIOp::create(builder, loc, builder.getIndexType(), item),
      exists};
}

/// Adds to the ordinals in `body` the fills of earlier grid iterations.
static void shiftOrdinals(Region &body, FillCounts &counts, ValueRange fills) {
  body.walk([&](Operation *op) {
    if (!isa<ProduceOp, ConsumeOp, ReleaseOp>(op))
      return;
    // All three begin with the pipe and the number of the fill.
    OpBuilder builder(op);
    Location loc = op->getLoc();
    Value before = fills[counts.kindOf.lookup(op->getOperand(0))];
    Value number = arith::AddIOp::create(
        builder, loc, before,
        arith::IndexCastOp::create(builder, loc, before.getType(),
                                   op->getOperand(1)));
    op->setOperand(1, arith::IndexCastUIOp::create(
                          builder, loc, builder.getIndexType(), number));
  });
}

/// Puts `body` into the loop over rounds.
static void wrap(func::FuncOp func, Region &body, int64_t section,
                 FillCounts &counts, ArrayRef<Value> filled) {
  Block *block = &body.front();
  Location loc = body.getLoc();
  SmallVector<Operation *> work;
  for (Operation &op : *block)
    work.push_back(&op);
  OpBuilder builder = OpBuilder::atBlockEnd(block);
  Rounds rounds = makeRounds(builder, func, section);
  // 32 bits count more fills than there are in days.
  Value zero = arith::ConstantIntOp::create(builder, loc, 0, 32);
  Value one = arith::ConstantIntOp::create(builder, loc, 1, 32);
  auto loop = scf::ForOp::create(builder, loc, zero, rounds.number, one,
                                 SmallVector<Value>(counts.size(), zero));
  ValueRange fills = loop.getRegionIterArgs();
  builder.setInsertionPointToStart(loop.getBody());
  Value item, exists;
  std::tie(item, exists) =
      getItem(builder, loc, rounds, loop.getInductionVar());
  auto branch = scf::IfOp::create(builder, loc, fills.getTypes(), exists, true);
  scf::YieldOp::create(builder, loc, branch.getResults());
  builder.setInsertionPointToStart(branch.elseBlock());
  scf::YieldOp::create(builder, loc, fills);

  Block *then = branch.thenBlock();
  for (Operation *op : work)
    op->moveBefore(then, then->end());
  branch.getThenRegion().walk([&](gpu::BlockIdOp id) {
    id.replaceAllUsesWith(item);
    id.erase();
  });
  shiftOrdinals(branch.getThenRegion(), counts, fills);
  builder.setInsertionPointToEnd(then);
  SmallVector<Value> next;
  for (auto [before, more] : llvm::zip(fills, filled))
    next.push_back(arith::AddIOp::create(
        builder, loc, before,
        arith::IndexCastOp::create(builder, loc, before.getType(), more)));
  scf::YieldOp::create(builder, loc, next);
}

/// Second slots for pipes of one, as far as shared memory reaches.
static void addSlots(func::FuncOp func, const fa::Chip &chip) {
  constexpr int64_t kAlignment = 1024, kBarriers = 1024;
  auto bytesOf = [](BufferType buffer) -> int64_t {
    return llvm::alignTo(buffer.getSizeInBytes(), kAlignment);
  };
  int64_t left = chip.sharedBytes - kBarriers;
  for (PipeOp pipe : func.getOps<PipeOp>()) {
    PipeType type = pipe.getPipe().getType();
    left -= type.getStages() * bytesOf(type.getSlot());
  }
  func.walk(
      [&](StageOp stage) { left -= bytesOf(stage.getBuffer().getType()); });
  for (PipeOp pipe : func.getOps<PipeOp>()) {
    PipeType type = pipe.getPipe().getType();
    int64_t bytes = bytesOf(type.getSlot());
    if (type.getStages() > 1 || bytes > left)
      continue;
    left -= bytes;
    pipe.getPipe().setType(PipeType::get(func.getContext(), 2, type.getSlot()));
  }
}

namespace {
struct TilePersistent : tl::impl::TilePersistentBase<TilePersistent> {
  void runOnOperation() override {
    func::FuncOp func = getOperation();
    auto plan = func->getAttrOfType<PlanAttr>(kPlanAttrName);
    if (!plan || !plan.getPersistent() || func.isDeclaration())
      return;
    auto found = func.getOps<RolesOp>();
    if (found.empty()) {
      remark::missed(func.getLoc(), remark::RemarkOpts::name("persistent")
                                        .category("tile-persistent")
                                        .function(func.getName()))
          << remark::reason("a block per iteration of the grid: there are no "
                            "copies for producers");
      return;
    }
    auto launch = func->getAttrOfType<DictionaryAttr>(fa::kLaunchAttrName);
    if (!launch) {
      func.emitError("has no 'tile.launch' attribute; run tile-map-grid before "
                     "tile-persistent");
      return signalPassFailure();
    }
    RolesOp roles = *found.begin();
    sinkIntoRoles(func, roles);
    Region &copies = roles.getBodies()[0];
    FailureOr<FillCounts> counts = FillCounts::get(copies);
    if (failed(counts))
      return signalPassFailure();
    SmallVector<Value> filled = counts->compute(copies);
    SmallVector<SmallVector<Value>> all = {filled};
    for (Region &body : roles.getBodies().drop_front()) {
      auto repeated = repeatIn(body, copies, filled);
      if (failed(repeated))
        return signalPassFailure();
      all.push_back(*repeated);
    }
    for (auto [body, numbers] : llvm::zip(roles.getBodies(), all))
      wrap(func, body, plan.getSection(), *counts, numbers);
    if (const fa::Chip *chip = fa::findChip(plan.getChip()))
      addSlots(func, *chip);
    NamedAttrList entries(launch);
    entries.set("per_multiprocessor", Builder(func).getI64IntegerAttr(1));
    func->setAttr(fa::kLaunchAttrName, entries.getDictionary(&getContext()));
  }
};
} // namespace
