//===- LowerToTile.cpp - fa.attention to an L1 tile program ---------------===//

#include "fa/Dialect/FA/Transforms/Passes.h"
#include "fa/Pipelines/Pipelines.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

void fa::buildLowerToTilePipeline(OpPassManager &manager, StringRef chip,
                                  StringRef schedule) {
  FASelectScheduleOptions options;
  options.chip = chip.str();
  options.overrideSchedule = schedule.str();
  manager.addNestedPass<func::FuncOp>(createFASelectSchedule(options));
  auto add = [&](std::unique_ptr<Pass> pass) {
    manager.addNestedPass<func::FuncOp>(std::move(pass));
    manager.addNestedPass<func::FuncOp>(createCanonicalizerPass());
    manager.addNestedPass<func::FuncOp>(createCSEPass());
  };
  add(createFATile());
  add(createFAOnlineSoftmax());
  add(createFASplitMaskLoops());
}
