//===- CPU.cpp - Pipelines of the CPU target ------------------------------===//

#include "fa/Pipelines/CPU.h"
#include "fa/Conversion/Passes.h"
#include "fa/Dialect/Tile/Transforms/Passes.h"
#include "fa/Pipelines/Pipelines.h"
#include "fa/Target/CPU.h"
#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

void fa::buildLowerTilesToCPU(OpPassManager &pm,
                              const CPUPipelineOptions &options) {
  HostVectors host = getHostVectors(options.cpu);
  ConvertTileToVectorOptions tileOptions;
  tileOptions.vectorBits =
      options.vectorBits ? int64_t(options.vectorBits) : host.bits;
  tileOptions.registers =
      options.registers ? int64_t(options.registers) : host.count;

  tileOptions.dotBF16 = host.dotBF16 && !options.noDots;
  tileOptions.amxBF16 = host.amxBF16 && !options.noDots;

  pm.addPass(tl::createTileOutlineLaunches());
  OpPassManager &func = pm.nest<func::FuncOp>();
  func.addPass(tl::createTileOrientForVectors());
  func.addPass(createConvertForallToRange());
  func.addPass(createConvertTileToVector(tileOptions));
  func.addPass(createConvertMathToPolynomial());
  arith::ArithExpandOpsPassOptions expand;
  // Else LLVM calls a function for each conversion.
  expand.includeBf16 = !tileOptions.dotBF16;
  func.addPass(arith::createArithExpandOpsPass(expand));
  func.addPass(memref::createExpandStridedMetadataPass());
  func.addPass(createLowerAffinePass());
  func.addPass(createCSEPass());
  func.addPass(createSCFToControlFlowPass());
  // What LLVM has no intrinsic for is called from the C library.
  pm.addNestedPass<func::FuncOp>(createConvertMathToLLVMPass());
  pm.addPass(createConvertMathToLibmPass());
  pm.addPass(createConvertToLLVMPass());
  pm.addPass(createReconcileUnrealizedCastsPass());
}

void fa::registerCPUPipelines() {
  PassPipelineRegistration<CPUPipelineOptions>(
      "fa-lower-tiles-to-cpu",
      "Lower L1 tile programs to the LLVM dialect for this host",
      buildLowerTilesToCPU);
  PassPipelineRegistration<CPUPipelineOptions>(
      "fa-lower-to-cpu",
      "Lower fa.attention on memrefs to the LLVM dialect for this host",
      [](OpPassManager &pm, const CPUPipelineOptions &options) {
        buildLowerToTilePipeline(pm, "cpu", options.schedule);
        buildLowerTilesToCPU(pm, options);
      });
}
