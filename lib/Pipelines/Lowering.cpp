//===- Lowering.cpp - The pipeline of a chip ------------------------------===//

#include "fa/Pipelines/CPU.h"
#include "fa/Pipelines/Pipelines.h"
#include "fa/Target/Chip.h"
#include "mlir/Pass/PassManager.h"

using namespace mlir;

LogicalResult fa::buildLoweringPipeline(OpPassManager &manager,
                                        StringRef chip) {
  if (chip == "cpu") {
    buildLowerToTilePipeline(manager, chip);
    buildLowerTilesToCPU(manager, CPUPipelineOptions());
    return success();
  }
  if (!findChip(chip))
    return failure();
  buildLowerToNVVMPipeline(manager, {chip, /*schedule=*/""});
  return success();
}
