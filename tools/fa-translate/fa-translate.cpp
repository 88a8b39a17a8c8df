//===- fa-translate.cpp - From the compiler's IR to code ------------------===//

#include "fa/Runtime/Compiler.h"
#include "fa/Target/CPU.h"
#include "mlir/Tools/mlir-translate/MlirTranslateMain.h"
#include "mlir/Tools/mlir-translate/Translation.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/SourceMgr.h"

using namespace mlir;

static llvm::cl::opt<std::string>
    chip("chip", llvm::cl::desc("cpu, sm_75, sm_80, sm_86, sm_89, sm_90a"),
         llvm::cl::init("cpu"));
static llvm::cl::opt<std::string>
    schedule("schedule", llvm::cl::desc("a #fa.schedule<...> to use"));
static llvm::cl::opt<std::string>
    ptxas("ptxas", llvm::cl::desc("the ptxas to use; default: search"));
static llvm::cl::opt<std::string>
    dump("dump", llvm::cl::desc("a folder for the IR after each pass, LLVM IR, "
                                "PTX, SASS and the report"));

/// Registers `--flag`: the whole pipeline of libfa, then one part of the
/// artifact.
static void registerPart(const char *flag, const char *description,
                         const char *part, fa::StopAfter stopAfter) {
  TranslateRegistration(
      flag, description,
      [=](const std::shared_ptr<llvm::SourceMgr> &source, raw_ostream &output,
          MLIRContext *) -> LogicalResult {
        fa::CompileOptions options;
        options.schedule = schedule;
        options.ptxas = ptxas;
        options.dump = dump;
        options.useCache = false;
        options.stopAfter = stopAfter;
        StringRef text =
            source->getMemoryBuffer(source->getMainFileID())->getBuffer();
        auto artifact = fa::compile(text, chip, options);
        if (!artifact) {
          llvm::errs() << "error: " << llvm::toString(artifact.takeError())
                       << '\n';
          return failure();
        }
        const std::string *found = (*artifact)->find(part);
        if (!found) {
          llvm::errs() << "error: there is no " << part << " for " << chip
                       << "; PTX needs a GPU chip, a cubin also ptxas\n";
          return failure();
        }
        output << *found;
        return success();
      });
}

int main(int argc, char **argv) {
  fa::registerCPUTranslations();
  registerPart("fa-to-llvmir", "compile a program to LLVM IR", "llvm_ir",
               fa::StopAfter::LLVMIR);
  registerPart("fa-to-ptx", "compile a program to PTX", "ptx",
               fa::StopAfter::PTX);
  registerPart("fa-to-cubin", "compile a program to a cubin", "cubin",
               fa::StopAfter::Nothing);
  registerPart("fa-to-ptxas-log", "compile a program, print what ptxas says",
               "ptxas_log", fa::StopAfter::Nothing);
  registerPart("fa-to-report",
               "compile a program, print its plan, resources and remarks",
               "explanation", fa::StopAfter::Nothing);
  registerPart("fa-to-metadata", "compile a program, print its launch metadata",
               "metadata", fa::StopAfter::LLVMIR);
  return failed(
      mlirTranslateMain(argc, argv, "Attention compiler: translations"));
}
