//===- AsyncCopy.cpp - Loads of factors become copies through pipes -------===//

#include "fa/Dialect/Tile/Transforms/LoopChain.h"
#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/Remarks.h"
#include "mlir/Interfaces/ValueBoundsOpInterface.h"

using namespace mlir;
using namespace mlir::tl;

namespace mlir::tl {
#define GEN_PASS_DEF_TILEASYNCCOPY
#include "fa/Dialect/Tile/Transforms/Passes.h.inc"
} // namespace mlir::tl

/// A load can bypass registers when products are all that reads it.
static bool feedsOnlyProducts(LoadOp load) {
  auto type = cast<RankedTensorType>(load.getResult().getType());
  return type.getRank() == 2 && type.getElementTypeBitWidth() == 16 &&
         !load.getOrder() && !load.getMerged() && !load->use_empty() &&
         llvm::all_of(load->getUses(), [](OpOperand &use) {
           return isa<UnusedOp>(use.getOwner()) ||
                  (isa<ContractOp>(use.getOwner()) &&
                   use.getOperandNumber() < 2);
         });
}

/// Whether the rows of `memref` are some of those of the tensor behind it, from
/// the first one on: a tensor map bounds the tensor alone.
static bool hasRowsBehind(Value memref) {
  auto view = memref.getDefiningOp<memref::SubViewOp>();
  if (!view)
    return false;
  llvm::SmallBitVector dropped = view.getDroppedDims();
  int64_t row = dropped.flip().find_first();
  FailureOr<bool> isWhole = ValueBoundsConstraintSet::areEqual(
      view.getMixedSizes()[row],
      ValueBoundsConstraintSet::Variable(view.getSource(), row));
  return failed(isWhole) || !*isWhole;
}

/// What `value` is where it is not negative.
static Value withoutMax(Value value) {
  auto max = value.getDefiningOp<affine::AffineMaxOp>();
  if (!max || max.getMap().getNumResults() != 2 ||
      max.getMap().getNumDims() != 1 || max.getMap().getNumSymbols() != 0)
    return value;
  auto zero = dyn_cast<AffineConstantExpr>(max.getMap().getResult(0));
  return zero && zero.getValue() == 0 &&
                 isa<AffineDimExpr>(max.getMap().getResult(1))
             ? max.getOperand(0)
             : value;
}

/// Whether no iteration of the loop around `load` reads rows behind its source.
static bool isInside(LoadOp load) {
  auto loop = dyn_cast<scf::ForOp>(load->getParentOp());
  auto offset = load.getOffsets()[0].getDefiningOp<affine::AffineApplyOp>();
  if (!loop || !offset || !matchPattern(loop.getStep(), m_One()) ||
      !matchPattern(loop.getLowerBound(), m_Zero()) ||
      offset.getAffineMap().getNumDims() != 1 ||
      offset.getAffineMap().getNumSymbols() != 0 ||
      offset.getOperand(0) != loop.getInductionVar())
    return false;
  // Offsets grow with the iteration; this is the end of the last one's rows.
  AffineExpr place = offset.getAffineMap().getResult(0);
  auto factor = dyn_cast<AffineBinaryOpExpr>(place);
  if (!isa<AffineDimExpr>(place) &&
      !(factor && factor.getKind() == AffineExprKind::Mul &&
        isa<AffineDimExpr>(factor.getLHS()) &&
        isa<AffineConstantExpr>(factor.getRHS()) &&
        cast<AffineConstantExpr>(factor.getRHS()).getValue() > 0))
    return false;
  MLIRContext *context = load.getContext();
  int64_t rows =
      cast<RankedTensorType>(load.getResult().getType()).getDimSize(0);
  AffineExpr last = getAffineDimExpr(0, context) - 1;
  using Variable = ValueBoundsConstraintSet::Variable;
  Variable end(withoutMax(loop.getUpperBound()));
  Variable behind(
      AffineMap::get(1, 0,
                     place.replace(getAffineDimExpr(0, context), last) + rows),
      ArrayRef<Variable>(end));
  return ValueBoundsConstraintSet::compare(behind, ValueBoundsConstraintSet::LE,
                                           Variable(load.getSource(), 0));
}

static remark::RemarkOpts remarkOf(Operation *op) {
  return remark::RemarkOpts::name("copy")
      .category("tile-async-copy")
      .function(op->getParentOfType<func::FuncOp>().getName());
}

/// A factor that a product wants and that stays in registers.
static void remarkMissed(LoadOp load) {
  auto type = cast<RankedTensorType>(load.getResult().getType());
  if (llvm::none_of(load->getUses(), [](OpOperand &use) {
        return isa<ContractOp>(use.getOwner()) && use.getOperandNumber() < 2;
      }))
    return;
  const char *why =
      type.getElementTypeBitWidth() != 16 ? "its elements are not of 16 bits"
      : load.getOrder()                   ? "it is transposed"
      : load.getMerged()                  ? "its rows have no single stride"
                         : "other operations than products read it";
  remark::missed(load.getLoc(), remarkOf(load))
      << remark::reason("a factor passes through registers: {0}", why)
      << remark::metric("tile", Type(type));
}

namespace {
struct TileAsyncCopy : tl::impl::TileAsyncCopyBase<TileAsyncCopy> {
  void runOnOperation() override {
    func::FuncOp func = getOperation();
    if (func.isDeclaration())
      return;
    auto plan = func->getAttrOfType<PlanAttr>(kPlanAttrName);
    if (!plan) {
      func.emitError("has no 'tile.plan' attribute; run fa-tile or set one");
      return signalPassFailure();
    }
    Block *body = &func.getBody().front();
    func.walk([&](LoadOp load) {
      if (!feedsOnlyProducts(load))
        remarkMissed(load);
    });
    SmallVector<LoopChain> chains = findLoopChains(body);
    DenseSet<Operation *> chained;
    for (LoopChain &chain : chains) {
      // Load number i of each loop of the chain fills the same pipe.
      SmallVector<SmallVector<LoadOp>> sites;
      for (scf::ForOp loop : chain.loops) {
        auto loads = llvm::to_vector(llvm::make_filter_range(
            loop.getBody()->getOps<LoadOp>(), feedsOnlyProducts));
        if (!sites.empty() && loads.size() != sites.front().size()) {
          loop.emitError("loops that continue each other must load the same "
                         "tiles: this one has ")
              << loads.size() << " loads of factors, the first "
              << sites.front().size();
          return signalPassFailure();
        }
        sites.push_back(std::move(loads));
      }
      for (size_t i = 0; i < sites.front().size(); ++i) {
        Value pipe = createPipe(body, sites.front()[i], plan.getStages());
        if (!pipe)
          return signalPassFailure();
        for (auto [loop, loads] : llvm::zip(chain.loops, sites)) {
          OpBuilder builder(loads[i]);
          Value ordinal =
              arith::SubIOp::create(builder, loads[i].getLoc(),
                                    loop.getInductionVar(), chain.lowerBound());
          replaceLoad(loads[i], pipe, ordinal);
        }
      }
    }
    for (LoadOp load : llvm::make_early_inc_range(body->getOps<LoadOp>()))
      if (feedsOnlyProducts(load)) {
        Value pipe = createPipe(body, load, /*stages=*/1);
        if (!pipe)
          return signalPassFailure();
        OpBuilder builder(load);
        Value zero = arith::ConstantIndexOp::create(builder, load.getLoc(), 0);
        replaceLoad(load, pipe, zero);
      }
  }

  /// Null after an error.
  Value createPipe(Block *body, LoadOp load, int64_t stages) {
    auto type = cast<RankedTensorType>(load.getResult().getType());
    OpBuilder builder = OpBuilder::atBlockBegin(body);
    auto plan = load->getParentOfType<func::FuncOp>()->getAttrOfType<PlanAttr>(
        kPlanAttrName);
    // A tensor copy is slow in narrow panels, and fills what it can't read.
    auto slot = BufferType::getForTile([&] { return load.emitError(); }, type,
                                       /*padded=*/plan.getCopy() == "tma");
    if (!slot)
      return Value();
    remark::passed(load.getLoc(), remarkOf(load))
        << remark::metric("form", plan.getCopy().getValue())
        << remark::metric("tile", Type(type))
        << remark::metric("stages", stages);
    return PipeOp::create(builder, load.getLoc(),
                          PipeType::get(load.getContext(), stages, slot),
                          IntegerAttr(), IntegerAttr());
  }

  void replaceLoad(LoadOp load, Value pipe, Value ordinal) {
    OpBuilder builder(load);
    Location loc = load.getLoc();
    auto plan = load->getParentOfType<func::FuncOp>()->getAttrOfType<PlanAttr>(
        kPlanAttrName);
    bool isOpen = plan.getCopy() == "tma" && hasRowsBehind(load.getSource());
    ProduceOp::create(builder, loc, pipe, ordinal, load.getSource(),
                      load.getOffsets(), Value(), isOpen);
    Value rows;
    if (isOpen && !isInside(load))
      rows = arith::SubIOp::create(
          builder, loc,
          memref::DimOp::create(builder, loc, load.getSource(), 0),
          load.getOffsets()[0]);
    Operation *first = nullptr, *last = nullptr;
    for (Operation *user : load->getUsers()) {
      Operation *inBlock = load->getBlock()->findAncestorOpInBlock(*user);
      if (!first || inBlock->isBeforeInBlock(first))
        first = inBlock;
      if (!last || last->isBeforeInBlock(inBlock))
        last = inBlock;
    }
    builder.setInsertionPoint(first);
    Value buffer = ConsumeOp::create(builder, loc, pipe, ordinal, rows);
    builder.setInsertionPointAfter(last);
    ReleaseOp::create(builder, loc, pipe, ordinal);
    // Not replaceAllUsesWith on a tensor-typed value: the buffer has its own
    // type, which tile.contract accepts in place of a tile.
    for (OpOperand &use : llvm::make_early_inc_range(load->getUses()))
      use.set(buffer);
    load.erase();
  }
};
} // namespace
