//===- Registration.cpp - Dialects and passes of the compiler -------------===//

#include "fa/Conversion/Passes.h"
#include "fa/Dialect/FA/IR/FA.h"
#include "fa/Dialect/FA/Transforms/BufferizableOpInterfaceImpl.h"
#include "fa/Dialect/FA/Transforms/Passes.h"
#include "fa/Dialect/Tile/IR/Tile.h"
#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "fa/Pipelines/CPU.h"
#include "fa/Pipelines/Pipelines.h"
#include "mlir/InitAllDialects.h"
#include "mlir/InitAllExtensions.h"
#include "mlir/InitAllPasses.h"

using namespace mlir;

void fa::registerDialects(DialectRegistry &registry) {
  registry.insert<FADialect, tl::TileDialect>();
  registerBufferizableOpInterfaceExternalModels(registry);
}

void fa::registerPasses() {
  registerFAPasses();
  registerLowerToTilePipeline();
  registerNVVMPipelines();
  tl::registerTilePasses();
  registerFAConversionPasses();
  registerCPUPipelines();
}

void fa::registerAllDialects(DialectRegistry &registry) {
  mlir::registerAllDialects(registry);
  mlir::registerAllExtensions(registry);
  registerDialects(registry);
}

void fa::registerAllPasses() {
  mlir::registerAllPasses();
  registerPasses();
}
