//===- Lowering.cpp - The pipeline of a chip ------------------------------===//

#include "fa/Pipelines/Pipelines.h"
#include "mlir/Pass/PassManager.h"

using namespace mlir;

LogicalResult fa::buildLoweringPipeline(OpPassManager &manager,
                                        StringRef chip) {
  return failure();
}
