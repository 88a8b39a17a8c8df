//===- PTX.h - LLVM dialect to PTX and cubin --------------------*- C++ -*-===//

#ifndef FA_TARGET_PTX_H
#define FA_TARGET_PTX_H

#include "fa/Runtime/Error.h"
#include <memory>
#include <string>
#include <vector>

namespace llvm {
class LLVMContext;
class Module;
} // namespace llvm

namespace mlir {
class Operation;
namespace fa {

/// Whether kernels can be made for `chip`; the message lists the known ones.
llvm::Error checkGPUChip(llvm::StringRef chip);

/// LLVM IR of a gpu.module whose functions are all llvm.func, ready for
/// emitPTX. Null after a diagnostic.
std::unique_ptr<llvm::Module> translateGPUModule(Operation *gpuModule,
                                                 llvm::StringRef chip,
                                                 llvm::LLVMContext &context);

/// Optimizes `module` and returns its PTX, in the lowest PTX version that the
/// features of `chip` need.
llvm::Expected<std::string> emitPTX(llvm::Module &module, llvm::StringRef chip);

/// The path of ptxas: `explicitPath`, FA_PTXAS, CUDA_HOME, CUDA_PATH, PATH, the
/// wheels in `sitePackages`. Empty when there is none; an explicit path (or
/// FA_PTXAS) that is no executable is an error.
llvm::Expected<std::string>
findPtxas(llvm::StringRef explicitPath,
          const std::vector<std::string> &sitePackages);

struct Cubin {
  std::string code; // empty when this ptxas is too old for the chip or the PTX
  std::string log;  // what ptxas -v said
};
llvm::Expected<Cubin> assemblePTX(llvm::StringRef ptx, llvm::StringRef chip,
                                  llvm::StringRef ptxas);

} // namespace fa
} // namespace mlir

#endif // FA_TARGET_PTX_H
