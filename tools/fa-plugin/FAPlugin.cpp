//===- FAPlugin.cpp - The compiler as a plugin of mlir-opt ----------------===//

#include "fa-c/fa.h"
#include "fa/Pipelines/Pipelines.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/Tools/Plugins/DialectPlugin.h"
#include "mlir/Tools/Plugins/PassPlugin.h"

extern "C" FA_API mlir::DialectPluginLibraryInfo mlirGetDialectPluginInfo() {
  return {MLIR_PLUGIN_API_VERSION, "FA", FA_VERSION,
          [](mlir::DialectRegistry *registry) {
            mlir::fa::registerDialects(*registry);
          }};
}

extern "C" FA_API mlir::PassPluginLibraryInfo mlirGetPassPluginInfo() {
  return {MLIR_PLUGIN_API_VERSION, "FA", FA_VERSION,
          [] { mlir::fa::registerPasses(); }};
}
