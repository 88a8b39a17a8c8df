//===- CPU.h - Object code for the host -------------------------*- C++ -*-===//

#ifndef FA_TARGET_CPU_H
#define FA_TARGET_CPU_H

#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/Error.h"
#include <memory>
#include <string>

namespace mlir::fa {

/// What the CPU lowering needs to know of the machine it runs on.
struct HostInfo {
  std::string cpu;      // LLVM's name
  std::string features; // "+avx2,+fma,..."
  int64_t vectorBits;   // width of a vector register
  int64_t registers;    // number of vector registers
};
HostInfo getHostInfo();

struct HostCode {
  std::string object; // a relocatable object file
  std::string llvmIR; // the optimised LLVM IR it was made of
};

/// Compiles a module of the LLVM dialect for this machine. Emits an error and
/// fails if LLVM can't.
FailureOr<HostCode> compileForHost(ModuleOp module);

/// An object file linked into this process.
class HostProgram {
public:
  static llvm::Expected<std::unique_ptr<HostProgram>> load(StringRef object);
  ~HostProgram();

  /// The address of the function `name`.
  llvm::Expected<void *> lookup(StringRef name);

private:
  struct Impl;
  explicit HostProgram(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl;
};

/// `fa-translate --cpu-to-object` and `--cpu-to-llvmir`.
void registerCPUTranslations();

} // namespace mlir::fa

#endif // FA_TARGET_CPU_H
