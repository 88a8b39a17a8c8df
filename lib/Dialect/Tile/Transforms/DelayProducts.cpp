//===- DelayProducts.cpp - Products beside the next iteration -------------===//

#include "fa/Dialect/Tile/Transforms/LoopChain.h"
#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "mlir/Analysis/SliceAnalysis.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace mlir::tl;

namespace mlir::tl {
#define GEN_PASS_DEF_TILEDELAYPRODUCTS
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
} // namespace mlir::tl

namespace {
/// A loop and the product in it that can be late.
struct Candidate {
  scf::ForOp loop;
  Value begin; // of the range that the loop is a piece of
  ContractOp product;
  unsigned carried; // number of the value that the loop carries it in
  ContractOp first; // after which the late product is started
  ConsumeOp consume;
  ReleaseOp release;
  /// What stands between product and next iteration and goes with the product.
  bool isLate(Operation *op) const {
    return op == product || op == consume || op == release;
  }
};
} // namespace

static FailureOr<Candidate> analyze(scf::ForOp loop) {
  Candidate found;
  found.loop = loop;
  Block *body = loop.getBody();
  for (auto [number, yielded] : llvm::enumerate(loop.getYieldedValues())) {
    auto product = yielded.getDefiningOp<ContractOp>();
    if (!product || product->getBlock() != body || !product->hasOneUse() ||
        !isa<RankedTensorType>(product.getLhs().getType()))
      continue;
    found.product = product;
    found.carried = number;
    found.consume = product.getRhs().getDefiningOp<ConsumeOp>();
  }
  if (!found.product || !found.consume || !found.consume->hasOneUse() ||
      found.consume->getBlock() != body || found.consume.getRows())
    return failure();
  found.first = *body->getOps<ContractOp>().begin();
  for (auto release : body->getOps<ReleaseOp>())
    if (release.getPipe() == found.consume.getPipe())
      found.release = release;
  if (!found.release || found.first == found.product)
    return failure();
  // What the product is added to is computed late, from the carried value; it
  // must be all that the carried value is used for, and come after `first`.
  SetVector<Operation *> users;
  getForwardSlice(Value(loop.getRegionIterArg(found.carried)), &users);
  for (Operation *user : users) {
    Operation *inBody = body->findAncestorOpInBlock(*user);
    if (!inBody || inBody == body->getTerminator() || found.isLate(inBody))
      continue;
    if (!isMemoryEffectFree(inBody) || inBody->isBeforeInBlock(found.first))
      return failure();
  }
  return found;
}

/// What `op` answers in the new loop, where it asks if the iteration is the
/// range's first: it never is.
static std::optional<bool> whenNotFirst(Operation *op, Candidate &candidate) {
  auto compare = dyn_cast<arith::CmpIOp>(op);
  if (!compare || compare.getLhs() != candidate.loop.getInductionVar() ||
      (compare.getRhs() != candidate.begin &&
       compare.getRhs() != candidate.loop.getLowerBound()))
    return std::nullopt;
  if (compare.getPredicate() == arith::CmpIPredicate::eq)
    return false;
  if (compare.getPredicate() == arith::CmpIPredicate::ne)
    return true;
  return std::nullopt;
}

namespace {
struct TileDelayProducts : tl::impl::TileDelayProductsBase<TileDelayProducts> {
  void runOnOperation() override {
    func::FuncOp func = getOperation();
    auto plan = func->getAttrOfType<PlanAttr>(kPlanAttrName);
    if (!plan || !plan.getOverlap())
      return;
    SmallVector<Candidate> candidates;
    func.walk([&](Block *block) {
      for (LoopChain &chain : findLoopChains(block)) {
        // The piece that does least is the one that runs most: the others do
        // what its iterations do without. Branches do not count, their code
        // may be rare.
        auto size = [](scf::ForOp loop) {
          return loop.getBody()->getOperations().size();
        };
        size_t least = std::numeric_limits<size_t>::max();
        for (scf::ForOp loop : chain.loops)
          if (!loop.getBody()->getOps<ContractOp>().empty())
            least = std::min(least, size(loop));
        for (scf::ForOp loop : chain.loops)
          if (size(loop) == least)
            if (auto candidate = analyze(loop); succeeded(candidate)) {
              candidate->begin = chain.lowerBound();
              candidates.push_back(*candidate);
            }
      }
    });
    for (Candidate &candidate : candidates)
      delay(candidate);
  }

  /// Clones the late part for the iteration whose values `map` has.
  static Value cloneLate(Candidate &candidate, OpBuilder &builder,
                         IRMapping &map, Value lhs, Value acc) {
    // The number of the slot depends on the iteration.
    SetVector<Operation *> slice;
    BackwardSliceOptions options;
    options.omitBlockArguments = true;
    options.inclusive = true;
    options.filter = [&](Operation *op) {
      return op->getBlock() == candidate.loop.getBody();
    };
    for (Value ordinal :
         {candidate.consume.getOrdinal(), candidate.release.getOrdinal()})
      (void)getBackwardSlice(ordinal, &slice, options);
    for (Operation *op : slice)
      builder.clone(*op, map);
    builder.clone(*candidate.consume, map);
    map.map(candidate.product.getLhs(), lhs);
    map.map(candidate.product.getAcc(), acc);
    Value result = builder.clone(*candidate.product, map)->getResult(0);
    builder.clone(*candidate.release, map);
    return result;
  }

  static void delay(Candidate &candidate) {
    scf::ForOp loop = candidate.loop;
    Location loc = loop.getLoc();
    OpBuilder builder(loop);
    Value lower = loop.getLowerBound(), upper = loop.getUpperBound();
    Value runs = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::slt,
                                       lower, upper);
    auto branch =
        scf::IfOp::create(builder, loc, loop.getResultTypes(), runs, true);
    builder.setInsertionPointToStart(branch.elseBlock());
    scf::YieldOp::create(builder, loc, loop.getInitArgs());
    builder.setInsertionPointToStart(branch.thenBlock());

    // The first iteration.
    IRMapping map;
    map.map(loop.getInductionVar(), lower);
    map.map(loop.getRegionIterArgs(), loop.getInitArgs());
    auto body = loop.getBody()->without_terminator();
    for (Operation &op : body)
      if (!candidate.isLate(&op))
        builder.clone(op, map);
    SmallVector<Value> inits = {
        map.lookupOrDefault(candidate.product.getLhs()),
        map.lookupOrDefault(candidate.product.getAcc())};
    for (auto [number, yielded] : llvm::enumerate(loop.getYieldedValues()))
      if (number != candidate.carried)
        inits.push_back(map.lookupOrDefault(yielded));

    Value one = loop.getStep();
    Value second = arith::AddIOp::create(builder, loc, lower, one);
    auto rotated = scf::ForOp::create(builder, loc, second, upper, one, inits);
    rotated->setDiscardableAttrs(loop->getDiscardableAttrDictionary());
    auto othersOf = [&](ValueRange values) {
      // By number of what the loop carried before.
      SmallVector<Value> others(values.drop_front(2));
      others.insert(others.begin() + candidate.carried, Value());
      return others;
    };
    auto lateFor = [&](OpBuilder &inner, Value iv, Value lhs, Value acc) {
      IRMapping lateMap;
      lateMap.map(loop.getInductionVar(), iv);
      return cloneLate(candidate, inner, lateMap, lhs, acc);
    };
    {
      OpBuilder inner = OpBuilder::atBlockBegin(rotated.getBody());
      IRMapping next;
      next.map(loop.getInductionVar(), rotated.getInductionVar());
      ValueRange carried = rotated.getRegionIterArgs();
      for (auto [argument, value] :
           llvm::zip(loop.getRegionIterArgs(), othersOf(carried)))
        if (value)
          next.map(argument, value);
      for (Operation &op : body) {
        if (candidate.isLate(&op))
          continue;
        if (std::optional<bool> answer = whenNotFirst(&op, candidate))
          next.map(op.getResult(0),
                   arith::ConstantIntOp::create(inner, loc, *answer, 1));
        else
          inner.clone(op, next);
        if (&op != candidate.first)
          continue;
        Value before =
            arith::SubIOp::create(inner, loc, rotated.getInductionVar(), one);
        next.map(loop.getRegionIterArg(candidate.carried),
                 lateFor(inner, before, carried[0], carried[1]));
      }
      SmallVector<Value> yields = {
          next.lookupOrDefault(candidate.product.getLhs()),
          next.lookupOrDefault(candidate.product.getAcc())};
      for (auto [number, yielded] : llvm::enumerate(loop.getYieldedValues()))
        if (number != candidate.carried)
          yields.push_back(next.lookupOrDefault(yielded));
      scf::YieldOp::create(inner, loc, yields);
    }

    // The last product.
    Value last = arith::SubIOp::create(builder, loc, upper, one);
    SmallVector<Value> results = othersOf(rotated.getResults());
    results[candidate.carried] =
        lateFor(builder, last, rotated.getResult(0), rotated.getResult(1));
    scf::YieldOp::create(builder, loc, results);
    loop.replaceAllUsesWith(branch.getResults());
    loop.erase();
  }
};
} // namespace
