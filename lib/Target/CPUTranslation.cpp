//===- CPUTranslation.cpp - cpu-to-object, cpu-to-llvmir ------------------===//

#include "fa/Target/CPU.h"
#include "fa/Pipelines/Pipelines.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/Tools/mlir-translate/Translation.h"

using namespace mlir;

static LogicalResult write(Operation *op, raw_ostream &output,
                           std::string fa::HostCode::*part) {
  auto module = dyn_cast<ModuleOp>(op);
  if (!module)
    return op->emitOpError("expected a module of the LLVM dialect");
  FailureOr<fa::HostCode> code = fa::compileForHost(module);
  if (failed(code))
    return failure();
  output << (*code).*part;
  return success();
}

void fa::registerCPUTranslations() {
  auto dialects = [](DialectRegistry &registry) {
    // Discardable attributes may be of any dialect.
    registerAllDialects(registry);
  };
  // Lives as long as the registry it adds to.
  static TranslateFromMLIRRegistration object(
      "cpu-to-object", "compile the LLVM dialect to an object file of this host",
      [](Operation *op, raw_ostream &output) {
        return write(op, output, &HostCode::object);
      },
      dialects);
  static TranslateFromMLIRRegistration text(
      "cpu-to-llvmir", "compile the LLVM dialect to optimised LLVM IR",
      [](Operation *op, raw_ostream &output) {
        return write(op, output, &HostCode::llvmIR);
      },
      dialects);
}
