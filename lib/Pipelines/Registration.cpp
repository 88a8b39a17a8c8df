//===- Registration.cpp - Dialects and passes of the compiler -------------===//

#include "fa/Conversion/Passes.h"
#include "fa/Dialect/FA/IR/FA.h"
#include "fa/Dialect/FA/Transforms/Passes.h"
#include "fa/Dialect/Tile/IR/Tile.h"
#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "fa/Pipelines/Pipelines.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/InitAllDialects.h"
#include "mlir/InitAllExtensions.h"
#include "mlir/InitAllPasses.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

void fa::registerAllDialects(DialectRegistry &registry) {
  mlir::registerAllDialects(registry);
  mlir::registerAllExtensions(registry);
  registry.insert<FADialect, tl::TileDialect>();
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

void fa::registerAllPasses() {
  mlir::registerAllPasses();
  tl::registerTilePasses();
  registerFAConversionPasses();
  registerFAPasses();
  PassPipelineRegistration<LowerToTileOptions>(
      "fa-lower-to-tile", "fa.attention on memrefs to an L1 tile program",
      [](OpPassManager &manager, const LowerToTileOptions &options) {
        buildLowerToTilePipeline(manager, options.chip, options.schedule);
      });
}
