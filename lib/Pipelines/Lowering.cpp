//===- Lowering.cpp - The whole pipeline of a chip ------------------------===//

#include "fa/Dialect/FA/IR/FA.h"
#include "fa/Pipelines/CPU.h"
#include "fa/Pipelines/Pipelines.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"

using namespace mlir;

void fa::buildLoweringPipeline(OpPassManager &manager, ModuleOp module,
                               StringRef chip, StringRef schedule,
                               StringRef cpu) {
  bool hasAttention = module
                          .walk([](Operation *op) {
                            return isa<AttentionOpInterface, CombineOp>(op)
                                       ? WalkResult::interrupt()
                                       : WalkResult::advance();
                          })
                          .wasInterrupted();
  if (hasAttention)
    buildLowerToTilePipeline(manager, chip, schedule);
  if (chip != "cpu")
    return buildLowerTileToNVVMPipeline(manager);
  CPUPipelineOptions options;
  options.cpu = cpu.str();
  buildLowerTilesToCPU(manager, options);
}
