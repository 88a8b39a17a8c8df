//===- Persistent.cpp - A block takes one grid iteration after another ----===//

#include "fa/Conversion/Launch.h"
#include "fa/Dialect/Tile/Transforms/LoopChain.h"
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
  /// Whether no loop is around the copies to `pipe`.
  bool isOutsideLoops(Value pipe) const {
    auto found = kindOf.find(pipe);
    return found != kindOf.end() && kinds[found->second].second.empty();
  }

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

/// Whether the loops of `copies` are as long as the block decides.
static bool lengthsVary(Region &copies) {
  SetVector<Operation *> dependent;
  copies.walk(
      [&](gpu::BlockIdOp id) { getForwardSlice(id.getResult(), &dependent); });
  return llvm::any_of(findLoopChains(&copies.front()), [&](LoopChain &chain) {
    return dependent.contains(chain.lowerBound().getDefiningOp()) ||
           dependent.contains(chain.upperBound().getDefiningOp());
  });
}

namespace {
/// Which iterations of the grid a block takes: one per round, at most. All
/// numbers are i32.
///
/// Iterations of equal length follow each other. Where lengths vary, those of
/// the innermost dimension fall (tile-map-grid begins with the longest), and
/// two rounds' worth of outer iterations make a section: the first of each,
/// then the second of each, and so on, in rounds that run back and forth over
/// the blocks. So sums are nearly equal at the end of each section, and what
/// runs side by side reads the same memory. Some blocks have one iteration less
/// than others in a section; in the next section these are the blocks beside
/// them.
class Rounds {
public:
  /// Asks at the builder's place for the extents of the launch of `func`.
  Rounds(OpBuilder &builder, func::FuncOp func, bool inSections);

  /// How many there are.
  Value getNumber() const { return number; }
  /// The iteration of this block in a round, an index, and whether there is
  /// one.
  std::pair<Value, Value> getItem(OpBuilder &builder, Value round) const;

private:
  Location loc;
  Value number, block, blocks, items;
  // In sections: outer iterations, iterations of the innermost dimension, outer
  // iterations and rounds of a section, places that its rounds leave empty.
  Value outer, inner, size, perSection, empty;
};

/// Arithmetic on i32.
struct I32 {
  OpBuilder &builder;
  Location loc;
  Value constant(int64_t value) {
    return arith::ConstantIntOp::create(builder, loc, value, 32);
  }
  Value from(Value index) {
    return arith::IndexCastOp::create(builder, loc, builder.getI32Type(),
                                      index);
  }
  Value toIndex(Value value) {
    return arith::IndexCastUIOp::create(builder, loc, builder.getIndexType(),
                                        value);
  }
  Value add(Value a, Value b) {
    return arith::AddIOp::create(builder, loc, a, b);
  }
  Value subtract(Value a, Value b) {
    return arith::SubIOp::create(builder, loc, a, b);
  }
  Value multiply(Value a, Value b) {
    return arith::MulIOp::create(builder, loc, a, b);
  }
  Value divide(Value a, Value b) {
    return arith::DivUIOp::create(builder, loc, a, b);
  }
  Value divideUp(Value a, Value b) {
    return divide(subtract(add(a, b), constant(1)), b);
  }
  Value remainder(Value a, Value b) {
    return arith::RemUIOp::create(builder, loc, a, b);
  }
  Value isLess(Value a, Value b) {
    return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, a, b);
  }
};
} // namespace

Rounds::Rounds(OpBuilder &builder, func::FuncOp func, bool inSections)
    : loc(func.getLoc()) {
  I32 math{builder, loc};
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
  block = math.from(gpu::BlockIdOp::create(builder, loc, gpu::Dimension::x));
  blocks = math.from(gpu::GridDimOp::create(builder, loc, gpu::Dimension::x));
  Value count = math.constant(1);
  for (unsigned i = 0, e = map.getNumResults(); i < e; ++i) {
    inner = math.from(affine::AffineApplyOp::create(
        builder, loc, map.getSubMap({i}), symbols));
    if (i + 1 < e)
      count = math.multiply(count, inner);
  }
  items = math.multiply(count, inner);
  if (!inSections) {
    number = math.divideUp(items, blocks);
    return;
  }
  outer = count;
  // Two are enough for equal sums, and what they read stays in a cache.
  constexpr int64_t kRounds = 2;
  // As many sections as come closest to that, of equal size.
  Value wanted = math.multiply(blocks, math.constant(kRounds));
  Value half = math.divide(wanted, math.constant(2));
  Value sections = math.divide(math.add(items, half), wanted);
  sections = arith::MaxUIOp::create(builder, loc, sections, math.constant(1));
  size = math.divideUp(outer, sections);
  Value length = math.multiply(size, inner);
  perSection = math.divideUp(length, blocks);
  empty = math.subtract(math.multiply(perSection, blocks), length);
  number = math.multiply(math.divideUp(outer, size), perSection);
}

std::pair<Value, Value> Rounds::getItem(OpBuilder &builder, Value round) const {
  I32 math{builder, loc};
  if (!size) {
    Value item = math.add(math.multiply(round, blocks), block);
    return {math.toIndex(item), math.isLess(item, items)};
  }
  Value section = math.divide(round, perSection);
  Value forth =
      math.remainder(math.add(block, math.multiply(section, empty)), blocks);
  Value back = math.subtract(math.subtract(blocks, math.constant(1)), forth);
  Value isOdd =
      arith::TruncIOp::create(builder, loc, builder.getI1Type(), round);
  Value place = arith::SelectOp::create(builder, loc, isOdd, back, forth);
  Value within = math.remainder(round, perSection);
  place = math.add(place, math.multiply(within, blocks));
  Value step = math.divide(place, size);
  Value number =
      math.add(math.multiply(section, size), math.remainder(place, size));
  Value exists = arith::AndIOp::create(builder, loc, math.isLess(step, inner),
                                       math.isLess(number, outer));
  return {math.toIndex(math.add(math.multiply(number, inner), step)), exists};
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
static void wrap(func::FuncOp func, Region &body, bool inSections,
                 FillCounts &counts, ArrayRef<Value> filled) {
  Block *block = &body.front();
  Location loc = body.getLoc();
  SetVector<Operation *> work;
  // Numbers that no iteration of the grid changes stay before the loop.
  auto isInvariant = [&](Operation &op) {
    return isPure(&op) && op.getNumRegions() == 0 && !isa<gpu::BlockIdOp>(op) &&
           llvm::all_of(op.getResultTypes(),
                        [](Type type) { return type.isIntOrIndex(); }) &&
           llvm::none_of(op.getOperands(), [&](Value operand) {
             return work.contains(operand.getDefiningOp());
           });
  };
  for (Operation &op : *block)
    if (!isInvariant(op))
      work.insert(&op);
  OpBuilder builder = OpBuilder::atBlockEnd(block);
  Rounds rounds(builder, func, inSections);
  // 32 bits count more fills than there are in days.
  Value zero = arith::ConstantIntOp::create(builder, loc, 0, 32);
  Value one = arith::ConstantIntOp::create(builder, loc, 1, 32);
  auto loop = scf::ForOp::create(builder, loc, zero, rounds.getNumber(), one,
                                 SmallVector<Value>(counts.size(), zero));
  ValueRange fills = loop.getRegionIterArgs();
  builder.setInsertionPointToStart(loop.getBody());
  auto [item, exists] = rounds.getItem(builder, loop.getInductionVar());
  auto branch = scf::IfOp::create(builder, loc, fills.getTypes(), exists, true);
  scf::YieldOp::create(builder, loc, branch.getResults());
  builder.setInsertionPointToStart(branch.elseBlock());
  scf::YieldOp::create(builder, loc, fills);

  Block *then = branch.thenBlock();
  for (Operation *op : work)
    op->moveBefore(then, then->end());
  branch.getThenRegion().walk([&, item = item](gpu::BlockIdOp id) {
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

/// Second slots for what is copied once per grid iteration, as far as shared
/// memory reaches. Copies in loops have as many as the plan says.
static void addSlots(func::FuncOp func, const FillCounts &counts,
                     const fa::Chip &chip) {
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
    if (type.getStages() > 1 || bytes > left ||
        !counts.isOutsideLoops(pipe.getPipe()))
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
    bool inSections = lengthsVary(copies);
    for (auto [body, numbers] : llvm::zip(roles.getBodies(), all))
      wrap(func, body, inSections, *counts, numbers);
    if (const fa::Chip *chip = fa::findChip(plan.getChip()))
      addSlots(func, *counts, *chip);
    NamedAttrList entries(launch);
    entries.set("per_multiprocessor", Builder(func).getI64IntegerAttr(1));
    func->setAttr(fa::kLaunchAttrName, entries.getDictionary(&getContext()));
  }
};
} // namespace
