//===- Pipeline.cpp - Copies start ahead of their use ---------------------===//

#include "fa/Dialect/Tile/Transforms/LoopChain.h"
#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "mlir/Analysis/SliceAnalysis.h"
#include "mlir/Analysis/TopologicalSortUtils.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace mlir::tl;

namespace mlir::tl {
#define GEN_PASS_DEF_TILEPIPELINE
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
} // namespace mlir::tl

namespace {
/// One pipe that a loop fills and empties once per iteration.
struct Traffic {
  PipeOp pipe;
  /// Number of its consume among the loop's barriers.
  size_t consume;
  /// Number of the barrier after which its slot can be filled again, and
  /// whether that is one of the next iteration.
  size_t refill;
  bool nextIteration;
  int64_t stages() { return pipe.getPipe().getType().getStages(); }
  /// How many fills ahead of the iteration the refill is.
  int64_t ahead() { return nextIteration ? stages() - 1 : stages(); }
};

struct TilePipeline : tl::impl::TilePipelineBase<TilePipeline> {
  void runOnOperation() override {
    func::FuncOp func = getOperation();
    auto plan = func->getAttrOfType<PlanAttr>(kPlanAttrName);
    if (!plan || plan.getProducers() > 0 || func.isDeclaration())
      return;
    Block *body = &func.getBody().front();
    for (LoopChain &chain : findLoopChains(body))
      pipelineChain(chain);
    // What is left outside loops waits for everything that came before it.
    func.walk([&](ConsumeOp consume) {
      if (!consume.getPending())
        consume.setPending(0);
    });
  }

  /// The operations of the body in which all warps wait for each other.
  static SmallVector<Operation *> barriersOf(scf::ForOp loop) {
    SmallVector<Operation *> barriers;
    for (Operation &op : *loop.getBody())
      if (isa<ConsumeOp, StageOp>(op))
        barriers.push_back(&op);
    return barriers;
  }

  template <typename OpT> static OpT onPipe(scf::ForOp loop, PipeOp pipe) {
    for (OpT op : loop.getBody()->getOps<OpT>())
      if (op.getPipe() == pipe.getPipe())
        return op;
    return {};
  }

  /// What the first loop of a chain does with each of its pipes; the others do
  /// the same (they are pieces of one loop).
  SmallVector<Traffic> analyze(scf::ForOp loop) {
    SmallVector<Traffic> traffic;
    SmallVector<Operation *> barriers = barriersOf(loop);
    for (auto [number, barrier] : llvm::enumerate(barriers)) {
      auto consume = dyn_cast<ConsumeOp>(barrier);
      auto pipe =
          consume ? consume.getPipe().getDefiningOp<PipeOp>() : PipeOp();
      if (!pipe || !onPipe<ProduceOp>(loop, pipe))
        continue;
      auto release = onPipe<ReleaseOp>(loop, pipe);
      auto *next = llvm::find_if(barriers, [&](Operation *other) {
        return release->isBeforeInBlock(other);
      });
      Traffic entry{pipe, number, 0, next == barriers.end()};
      entry.refill = entry.nextIteration ? 0 : next - barriers.begin();
      // Refilled only after its own wait: one slot would never be full.
      if (entry.nextIteration && entry.consume == 0 && entry.stages() < 2)
        setStages(pipe, 2);
      traffic.push_back(entry);
    }
    return traffic;
  }

  void setStages(PipeOp pipe, int64_t stages) {
    PipeType type = pipe.getPipe().getType();
    pipe.getPipe().setType(
        PipeType::get(type.getContext(), stages, type.getSlot()));
  }

  /// Clones `produce` at the builder's place for the iteration `iv`, whose fill
  /// number is `ordinal`, when `iv` is below the chain's end.
  ProduceOp cloneProduce(OpBuilder &builder, ProduceOp produce, scf::ForOp loop,
                         Value iv, Value ordinal, Value end) {
    SetVector<Operation *> slice;
    BackwardSliceOptions options;
    options.filter = [&](Operation *op) {
      return op->getBlock() == loop.getBody();
    };
    options.omitBlockArguments = true;
    // Where the copy reads may depend on the iteration, as the offsets do.
    SmallVector<Value> varying(produce.getOffsets());
    varying.push_back(produce.getSource());
    for (Value value : varying)
      (void)getBackwardSlice(value, &slice, options);
    for (Value value : varying)
      if (Operation *def = value.getDefiningOp();
          def && def->getBlock() == loop.getBody())
        slice.insert(def);
    IRMapping map;
    map.map(loop.getInductionVar(), iv);
    for (Operation *op : topologicalSort(slice))
      builder.clone(*op, map);
    Location loc = produce.getLoc();
    Value more =
        arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::slt, iv, end);
    SmallVector<Value> offsets;
    for (Value offset : produce.getOffsets())
      offsets.push_back(map.lookupOrDefault(offset));
    return ProduceOp::create(builder, loc, produce.getPipe(), ordinal,
                             map.lookupOrDefault(produce.getSource()), offsets,
                             more, produce.getOpen());
  }

  void pipelineChain(LoopChain &chain) {
    scf::ForOp first = chain.loops.front();
    SmallVector<Traffic> traffic = analyze(first);
    if (traffic.empty())
      return;
    int64_t deepest = 0;
    for (Traffic &entry : traffic)
      deepest = std::max(deepest, entry.ahead());

    // The fills that no iteration starts: before the first loop.
    OpBuilder builder(first);
    Location loc = first.getLoc();
    // Waits outside the loops (for tiles that stay) come after these fills.
    SmallVector<std::pair<size_t, int64_t>> prologue; // (pipe, ordinal)
    for (int64_t ordinal = 0; ordinal < deepest; ++ordinal) {
      Value step = arith::ConstantIndexOp::create(builder, loc, ordinal);
      Value iv = arith::AddIOp::create(builder, loc, chain.lowerBound(), step);
      for (auto [index, entry] : llvm::enumerate(traffic))
        if (ordinal < entry.ahead()) {
          cloneProduce(builder, onPipe<ProduceOp>(first, entry.pipe), first, iv,
                       step, chain.upperBound());
          prologue.push_back({index, ordinal});
        }
    }
    for (ConsumeOp consume :
         llvm::make_early_inc_range(first->getBlock()->getOps<ConsumeOp>()))
      if (consume->isBeforeInBlock(first) && !consume.getPending()) {
        consume->moveBefore(first);
        consume.setPending(prologue.size());
        for (Operation *user : consume->getUsers())
          if (isa<FetchOp>(user))
            user->moveAfter(consume);
      }

    SmallVector<int64_t> pending = countPending(traffic, prologue);
    for (scf::ForOp loop : chain.loops) {
      SmallVector<Operation *> barriers = barriersOf(loop);
      DenseMap<size_t, Operation *> lastAfter; // by number of a barrier
      for (auto [index, entry] : llvm::enumerate(traffic)) {
        onPipe<ConsumeOp>(loop, entry.pipe).setPending(pending[index]);
        auto produce = onPipe<ProduceOp>(loop, entry.pipe);
        // Refills after one barrier keep the order of the pipes, which the
        // counts rely on.
        Operation *&after = lastAfter[entry.refill];
        if (!after)
          after = barriers[entry.refill];
        builder.setInsertionPointAfter(after);
        Value ahead =
            arith::ConstantIndexOp::create(builder, loc, entry.ahead());
        Value iv =
            arith::AddIOp::create(builder, loc, loop.getInductionVar(), ahead);
        Value ordinal =
            arith::SubIOp::create(builder, loc, iv, chain.lowerBound());
        after = cloneProduce(builder, produce, loop, iv, ordinal,
                             chain.upperBound());
        produce.erase();
      }
    }
  }

  /// Plays fills and waits in program order and counts, for each pipe, the
  /// fewest younger fills that are ever under way at its wait.
  SmallVector<int64_t>
  countPending(SmallVector<Traffic> &traffic,
               ArrayRef<std::pair<size_t, int64_t>> prologue) {
    SmallVector<std::pair<size_t, int64_t>> fills(prologue);
    SmallVector<int64_t> pending(traffic.size(),
                                 std::numeric_limits<int64_t>::max());
    size_t last = 0;
    for (Traffic &entry : traffic)
      last = std::max({last, entry.consume, entry.refill});
    constexpr int64_t kIterations = 40; // beyond the deepest pipe
    for (int64_t iteration = 0; iteration < kIterations; ++iteration)
      for (size_t number = 0; number <= last; ++number) {
        for (auto [index, entry] : llvm::enumerate(traffic)) {
          if (entry.consume != number)
            continue;
          auto *fill = llvm::find(fills, std::pair(size_t(index), iteration));
          assert(fill != fills.end() &&
                 "waiting for a fill that is not started");
          pending[index] =
              std::min<int64_t>(pending[index], fills.end() - fill - 1);
        }
        for (auto [index, entry] : llvm::enumerate(traffic))
          if (entry.refill == number)
            fills.push_back({index, iteration + entry.ahead()});
      }
    return pending;
  }
};
} // namespace
