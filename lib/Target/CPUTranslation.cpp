//===- CPUTranslation.cpp - cpu-to-object, cpu-to-llvmir ------------------===//

#include "fa/Pipelines/Pipelines.h"
#include "fa/Target/CPU.h"
#include "fa/Target/Host.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Tools/mlir-translate/Translation.h"
#include "llvm/IR/Module.h"

using namespace mlir;

/// Writes the object, or the optimised IR that it was made of.
static LogicalResult translate(Operation *op, raw_ostream &output, bool text) {
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> module =
      translateModuleToLLVMIR(op, context, "fa");
  if (!module)
    return failure();
  llvm::Expected<std::string> object = fa::emitHostObject(*module);
  if (!object)
    return op->emitError(llvm::toString(object.takeError()));
  if (text)
    module->print(output, nullptr);
  else
    output << *object;
  return success();
}

void fa::registerCPUTranslations() {
  static TranslateFromMLIRRegistration object(
      "cpu-to-object",
      "compile the LLVM dialect to an object file of this host",
      [](Operation *op, raw_ostream &output) {
        return translate(op, output, /*text=*/false);
      },
      registerCompilerDialects);
  static TranslateFromMLIRRegistration text(
      "cpu-to-llvmir", "compile the LLVM dialect to LLVM IR for this host",
      [](Operation *op, raw_ostream &output) {
        return translate(op, output, /*text=*/true);
      },
      registerCompilerDialects);
}
