//===- PTX.cpp - LLVM dialect to PTX --------------------------------------===//

#include "fa/Target/PTX.h"
#include "fa/Target/Chip.h"
#include "fa/Target/OptimizeGPU.h"
#include "mlir/IR/Operation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/IR/InlineAsm.h"
#include "llvm/IR/InstIterator.h"
#include "llvm/IR/Instructions.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"

using namespace mlir;
using namespace mlir::fa;

llvm::Error mlir::fa::checkGPUChip(StringRef chip) {
  if (findChip(chip))
    return llvm::Error::success();
  return fail(FA_INVALID_ARGUMENT, explainUnknownChip(chip));
}

static std::unique_ptr<llvm::TargetMachine> makeTargetMachine(StringRef chip) {
  static const bool initialized = [] {
    LLVMInitializeNVPTXTarget();
    LLVMInitializeNVPTXTargetInfo();
    LLVMInitializeNVPTXTargetMC();
    LLVMInitializeNVPTXAsmPrinter();
    return true;
  }();
  (void)initialized;
  llvm::Triple triple("nvptx64-nvidia-cuda");
  std::string error;
  const llvm::Target *target =
      llvm::TargetRegistry::lookupTarget(triple, error);
  const Chip *known = findChip(chip);
  if (!target || !known)
    return nullptr;
  std::string features = "+ptx" + std::to_string(known->ptxVersion);
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Standard;
  return std::unique_ptr<llvm::TargetMachine>(target->createTargetMachine(
      triple, known->name, features, options, llvm::Reloc::PIC_, std::nullopt,
      llvm::CodeGenOptLevel::Aggressive));
}

std::unique_ptr<llvm::Module>
mlir::fa::translateGPUModule(Operation *gpuModule, StringRef chip,
                             llvm::LLVMContext &context) {
  std::unique_ptr<llvm::TargetMachine> machine = makeTargetMachine(chip);
  if (!machine) {
    gpuModule->emitError() << "no code generator for chip '" << chip << "'";
    return nullptr;
  }
  std::unique_ptr<llvm::Module> module =
      translateModuleToLLVMIR(gpuModule, context, "fa");
  if (!module)
    return nullptr;
  module->setTargetTriple(machine->getTargetTriple());
  module->setDataLayout(machine->createDataLayout());
  for (llvm::Function &function : *module) {
    if (function.isDeclaration())
      continue;
    // Subnormals are below what f16 and bf16 outputs hold; flushing them is
    // what the fast instructions (ex2.approx.ftz) do anyway.
    function.addFnAttr("denormal-fp-math-f32", "preserve-sign,preserve-sign");
    // llvm.inline_asm cannot say `convergent`; without it LLVM may duplicate a
    // barrier into two branches.
    for (llvm::Instruction &instruction : llvm::instructions(function))
      if (auto *call = dyn_cast<llvm::CallInst>(&instruction))
        if (call->isInlineAsm())
          call->setConvergent();
  }
  return module;
}

llvm::Expected<std::string> mlir::fa::emitPTX(llvm::Module &module,
                                              StringRef chip) {
  std::unique_ptr<llvm::TargetMachine> machine = makeTargetMachine(chip);
  if (!machine)
    return checkGPUChip(chip);
  optimizeGPUModule(module, *machine);

  // A call that nothing defines would fail in ptxas or the driver, less
  // clearly.
  for (llvm::Function &function : module)
    if (function.isDeclaration() && !function.isIntrinsic() &&
        !function.use_empty() && function.getName() != "vprintf")
      return fail(FA_COMPILE_ERROR,
                  "the kernel calls '{0}', which is not defined: a math "
                  "operation has no GPU lowering",
                  function.getName());

  llvm::SmallString<0> ptx;
  llvm::raw_svector_ostream os(ptx);
  llvm::legacy::PassManager codegen;
  if (machine->addPassesToEmitFile(codegen, os, nullptr,
                                   llvm::CodeGenFileType::AssemblyFile))
    return fail(FA_COMPILE_ERROR, "LLVM cannot emit PTX for {0}", chip);
  codegen.run(module);
  return ptx.str().str();
}
