//===- LowerToTile.cpp - fa-lower-to-tile ---------------------------------===//

#include "fa/Dialect/FA/Transforms/Passes.h"
#include "fa/Pipelines/Pipelines.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassOptions.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

void fa::buildLowerToTilePipeline(OpPassManager &manager, StringRef chip,
                                  StringRef schedule) {
  manager.addNestedPass<func::FuncOp>(createFASimplifyMask());
  manager.addNestedPass<func::FuncOp>(createFADifferentiate());
  FASplitBackwardOptions split;
  // Beyond this, the accumulators of both gradients in 64 rows of a warp group
  // are more registers than its threads have.
  if (chip.ends_with("a"))
    split.maxHeadSizes = 256;
  manager.addNestedPass<func::FuncOp>(createFASplitBackward(split));
  manager.addNestedPass<func::FuncOp>(createFASplitKeys());
  FASelectScheduleOptions options;
  options.chip = chip.str();
  options.overrideSchedule = schedule.str();
  manager.addNestedPass<func::FuncOp>(createFASelectSchedule(options));
  // A loop of one iteration is a launch, too.
  std::string keepGrids =
      "(anonymous namespace)::ForallOpSingleOrZeroIterationDimsFolder";
  auto add = [&](std::unique_ptr<Pass> pass) {
    manager.addNestedPass<func::FuncOp>(std::move(pass));
    manager.addNestedPass<func::FuncOp>(
        createCanonicalizerPass(GreedyRewriteConfig(), {keepGrids}));
    manager.addNestedPass<func::FuncOp>(createCSEPass());
  };
  add(createFATile());
  add(createFALowerCombine());
  add(createFAOnlineSoftmax());
  add(createFARecomputeSoftmax());
  add(createFASplitMaskLoops());
}

namespace {
struct LowerToTileOptions : PassPipelineOptions<LowerToTileOptions> {
  Option<std::string> chip{*this, "chip", llvm::cl::init("cpu"),
                           llvm::cl::desc("cpu or sm_NN")};
  Option<std::string> schedule{
      *this, "override",
      llvm::cl::desc("a #fa.schedule<...> used in place of the table")};
};
} // namespace

void fa::registerLowerToTilePipeline() {
  PassPipelineRegistration<LowerToTileOptions>(
      "fa-lower-to-tile", "fa.attention on memrefs to an L1 tile program",
      [](OpPassManager &manager, const LowerToTileOptions &options) {
        buildLowerToTilePipeline(manager, options.chip, options.schedule);
      });
}
