//===- Host.cpp - LLVM dialect to code of this host -----------------------===//

#include "fa/Target/Host.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ExecutionEngine/Orc/ExecutionUtils.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"
#include "llvm/TargetParser/X86TargetParser.h"
#include <algorithm>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#include <vector>

using namespace mlir;
using namespace mlir::fa;

static void initializeHost() {
  static const bool initialized = [] {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
    return true;
  }();
  (void)initialized;
}

llvm::Error mlir::fa::checkCPU(StringRef cpu) {
  if (cpu.empty())
    return llvm::Error::success();
  if (!llvm::Triple(llvm::sys::getProcessTriple()).isX86())
    return fail(FA_UNSUPPORTED,
                "processor '{0}': only x86-64 compiles for processors other "
                "than its own; leave the option out",
                cpu);
  if (llvm::X86::parseArchX86(cpu, /*Only64Bit=*/true) != llvm::X86::CK_None)
    return llvm::Error::success();
  SmallVector<StringRef> names;
  llvm::X86::fillValidCPUArchList(names, /*Only64Bit=*/true);
  return fail(FA_INVALID_ARGUMENT, "processor is '{0}'; allowed are {1}", cpu,
              llvm::join(names, ", "));
}

/// Whether this process may use the tile registers of AMX: Linux gives them to
/// whoever asks, unless signal stacks are too small or a sandbox forbids it.
/// Documentation/arch/x86/xstate.rst.
static bool mayUseTileRegisters() {
#if defined(__linux__) && defined(__x86_64__)
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

llvm::StringMap<bool> mlir::fa::getCPUFeatures(StringRef cpu) {
  if (cpu.empty()) {
    llvm::StringMap<bool> host = llvm::sys::getHostCPUFeatures();
    if (host.lookup("amx-tile") && !mayUseTileRegisters())
      for (auto &feature : host)
        if (feature.first().starts_with("amx-"))
          feature.second = false;
    return host;
  }
  SmallVector<StringRef> names;
  llvm::X86::getFeaturesForCPU(cpu, names);
  llvm::StringMap<bool> features;
  for (StringRef name : names)
    features[name] = true;
  return features;
}

static std::string joinFeatures(StringRef cpu) {
  std::vector<std::string> features;
  for (auto &feature : getCPUFeatures(cpu))
    features.push_back((feature.second ? "+" : "-") + feature.first().str());
  std::sort(features.begin(), features.end());
  return llvm::join(features, ",");
}

static StringRef nameOf(StringRef cpu) {
  return cpu.empty() ? llvm::sys::getHostCPUName() : cpu;
}

std::string mlir::fa::getHostDescription(StringRef cpu) {
  return (nameOf(cpu) + " " + joinFeatures(cpu)).str();
}

bool mlir::fa::canRunOnHost(StringRef description) {
  auto [name, features] = description.split(' ');
  llvm::StringMap<bool> host = getCPUFeatures();
  SmallVector<StringRef> needed;
  features.split(needed, ',', -1, /*KeepEmpty=*/false);
  return !name.empty() && llvm::all_of(needed, [&](StringRef feature) {
    // What the host is not asked for is in every 64-bit processor.
    auto it = host.find(feature.drop_front());
    return feature.starts_with("-") || it == host.end() || it->second;
  });
}

static std::unique_ptr<llvm::TargetMachine> makeTargetMachine(StringRef cpu) {
  initializeHost();
  llvm::Triple triple(llvm::sys::getProcessTriple());
  std::string error;
  const llvm::Target *target =
      llvm::TargetRegistry::lookupTarget(triple, error);
  if (!target)
    return nullptr;
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Standard;
  return std::unique_ptr<llvm::TargetMachine>(target->createTargetMachine(
      triple, nameOf(cpu), joinFeatures(cpu), options, llvm::Reloc::PIC_,
      std::nullopt, llvm::CodeGenOptLevel::Default));
}

llvm::Expected<std::string> mlir::fa::emitHostObject(llvm::Module &module,
                                                     StringRef cpu) {
  std::unique_ptr<llvm::TargetMachine> machine = makeTargetMachine(cpu);
  if (!machine)
    return fail(FA_UNSUPPORTED, "no code generator for this host, {0}",
                llvm::sys::getProcessTriple());
  module.setTargetTriple(machine->getTargetTriple());
  module.setDataLayout(machine->createDataLayout());

  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager callGraph;
  llvm::ModuleAnalysisManager modules;
  // The code is vectorised and blocked for registers already.
  llvm::PipelineTuningOptions tuning;
  tuning.LoopVectorization = false;
  tuning.LoopInterleaving = false;
  tuning.LoopUnrolling = false;
  tuning.SLPVectorization = false;
  llvm::PassBuilder builder(machine.get(), tuning);
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(callGraph);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, callGraph, modules);
  builder.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O2)
      .run(module, modules);

  llvm::SmallString<0> object;
  llvm::raw_svector_ostream os(object);
  llvm::legacy::PassManager codegen;
  if (machine->addPassesToEmitFile(codegen, os, nullptr,
                                   llvm::CodeGenFileType::ObjectFile))
    return fail(FA_COMPILE_ERROR, "LLVM cannot emit an object for this host");
  codegen.run(module);
  return object.str().str();
}

namespace {
class JITObject : public LoadedObject {
public:
  explicit JITObject(std::unique_ptr<llvm::orc::LLJIT> jit)
      : jit(std::move(jit)) {}
  llvm::Expected<void *> lookup(StringRef name) override {
    auto address = jit->lookup(name);
    if (!address)
      return fail(FA_COMPILE_ERROR, "cannot link '{0}': {1}", name,
                  llvm::toString(address.takeError()));
    return address->toPtr<void *>();
  }

private:
  std::unique_ptr<llvm::orc::LLJIT> jit;
};
} // namespace

llvm::Expected<std::unique_ptr<LoadedObject>>
mlir::fa::loadObject(StringRef code) {
  initializeHost();
  auto jit = llvm::orc::LLJITBuilder().create();
  if (!jit)
    return fail(FA_COMPILE_ERROR, "cannot link in memory: {0}",
                llvm::toString(jit.takeError()));
  // The process's symbols are found already, but a host program may hold libm
  // where they do not reach: loaded for libfa alone.
  // libgcc converts f16 for processors without an instruction for that.
  for (const char *library : {"libm.so.6", "libgcc_s.so.1"})
    if (auto symbols = llvm::orc::DynamicLibrarySearchGenerator::Load(
            library, (*jit)->getDataLayout().getGlobalPrefix()))
      (*jit)->getMainJITDylib().addGenerator(std::move(*symbols));
    else
      llvm::consumeError(symbols.takeError());
  if (llvm::Error error = (*jit)->addObjectFile(
          llvm::MemoryBuffer::getMemBufferCopy(code, "fa")))
    return fail(FA_COMPILE_ERROR, "cannot link in memory: {0}",
                llvm::toString(std::move(error)));
  return std::make_unique<JITObject>(std::move(*jit));
}
