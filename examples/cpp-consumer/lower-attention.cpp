// lower-attention FILE.mlir CHIP: reads a program with fa.attention, says with
// a pass of its own what it finds, lowers it for CHIP (cpu, sm_80, sm_90a) and
// prints the result.

#include "fa/Dialect/FA/IR/FA.h"
#include "fa/Pipelines/Pipelines.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/Pass.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/Support/SourceMgr.h"

using namespace mlir;

namespace {
struct RemarkAttention
    : public PassWrapper<RemarkAttention, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(RemarkAttention)

  void runOnOperation() override {
    getOperation().walk([](fa::AttentionOpInterface op) {
      op->emitRemark("attention that sums in ") << op.getAccType();
    });
  }
};
} // namespace

int main(int argc, char **argv) {
  if (argc != 3) {
    llvm::errs() << "usage: lower-attention FILE.mlir CHIP\n";
    return 2;
  }
  DialectRegistry registry;
  fa::registerCompilerDialects(registry);
  MLIRContext context(registry);
  llvm::SourceMgr sources;
  SourceMgrDiagnosticHandler printer(sources, &context);
  OwningOpRef<ModuleOp> module =
      parseSourceFile<ModuleOp>(argv[1], sources, &context);
  if (!module)
    return 1;

  PassManager manager(&context);
  manager.addPass(std::make_unique<RemarkAttention>());
  fa::buildLoweringPipeline(manager, *module, argv[2], /*schedule=*/"");
  if (failed(manager.run(*module)))
    return 1;
  module->print(llvm::outs());
  return 0;
}
