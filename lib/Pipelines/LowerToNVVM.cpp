//===- LowerToNVVM.cpp - Tile programs to GPU kernels ---------------------===//

#include "fa/Conversion/Passes.h"
#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "fa/Pipelines/Pipelines.h"
#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassOptions.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

static void addCleanup(OpPassManager &manager) {
  manager.addPass(createCanonicalizerPass());
  manager.addPass(createCSEPass());
}

void fa::buildLowerTileToNVVMPipeline(OpPassManager &manager) {
  manager.addPass(tl::createTileOutlineLaunches());
  OpPassManager &func = manager.nest<func::FuncOp>();
  func.addPass(tl::createTileMapGrid());
  func.addPass(tl::createTileOrientForProducts());
  func.addPass(tl::createTileAsyncCopy());
  func.addPass(tl::createTileStage());
  addCleanup(func);
  func.addPass(tl::createTileHoldFactors());
  func.addPass(tl::createTileRoles());
  func.addPass(tl::createTileDelayProducts());
  func.addPass(tl::createTilePersistent());
  func.addPass(tl::createTilePipeline());
  addCleanup(func);
  func.addPass(tl::createTileInvertDivisors());
  func.addPass(tl::createTileAssignLayouts());
  func.addPass(createCSEPass());
  func.addPass(tl::createTilePlanResources());
  func.addPass(tl::createTileAsyncProducts());
  func.addPass(tl::createTileTurns());
  manager.addPass(createConvertTileToThreads());
  // No canonicalization while loops carry hundreds of registers: its loop
  // patterns are quadratic in them (3.5 s for 128 accumulators).
  manager.addNestedPass<func::FuncOp>(createCSEPass());
  manager.addPass(memref::createExpandStridedMetadataPass());
  manager.addPass(createLowerAffinePass());
  manager.addPass(createSCFToControlFlowPass());
  addCleanup(manager);
  manager.addPass(createConvertThreadsToNVVM());
  addCleanup(manager);
}

void fa::buildLowerToNVVMPipeline(OpPassManager &manager,
                                  const NVVMOptions &options) {
  buildLowerToTilePipeline(manager, options.chip, options.schedule);
  buildLowerTileToNVVMPipeline(manager);
}

namespace {
struct LowerToNVVMOptions : PassPipelineOptions<LowerToNVVMOptions> {
  Option<std::string> chip{
      *this, "chip", llvm::cl::init("sm_80"),
      llvm::cl::desc("sm_75, sm_80, sm_86, sm_89 or sm_90a")};
  Option<std::string> schedule{
      *this, "override",
      llvm::cl::desc("a #fa.schedule<...> used in place of the table")};
};
} // namespace

void fa::registerNVVMPipelines() {
  PassPipelineRegistration<>("fa-lower-tile-to-nvvm",
                             "an L1 tile program to NVVM kernels",
                             buildLowerTileToNVVMPipeline);
  PassPipelineRegistration<LowerToNVVMOptions>(
      "fa-lower-to-nvvm", "fa.attention on memrefs to NVVM kernels",
      [](OpPassManager &manager, const LowerToNVVMOptions &options) {
        buildLowerToNVVMPipeline(manager, {options.chip, options.schedule});
      });
}
