//===- Host.h - LLVM dialect to code of this host ---------------*- C++ -*-===//

#ifndef FA_TARGET_HOST_H
#define FA_TARGET_HOST_H

#include "fa/Runtime/Error.h"
#include "llvm/ADT/StringMap.h"
#include <memory>
#include <string>

namespace llvm {
class Module;
} // namespace llvm

namespace mlir::fa {

// `cpu` is a processor of this host's architecture as LLVM names it, like
// "x86-64-v3", or empty for the one that this host has.

/// An error that names what is allowed unless code can be made for `cpu`.
llvm::Error checkCPU(llvm::StringRef cpu);

/// The features of `cpu` that it has (and, for this host, those it lacks: it
/// has AMX if this process is granted its registers, which are asked for here).
llvm::StringMap<bool> getCPUFeatures(llvm::StringRef cpu = {});

/// Name and features: what code was made for.
std::string getHostDescription(llvm::StringRef cpu = {});

/// Whether this host has the features of `description`, what
/// `getHostDescription` returned on some host.
bool canRunOnHost(llvm::StringRef description);

/// Optimizes `module` for `cpu` and returns an ELF object.
llvm::Expected<std::string> emitHostObject(llvm::Module &module,
                                           llvm::StringRef cpu = {});

/// An object linked into memory.
class LoadedObject {
public:
  virtual ~LoadedObject() = default;
  virtual llvm::Expected<void *> lookup(llvm::StringRef name) = 0;
};
llvm::Expected<std::unique_ptr<LoadedObject>> loadObject(llvm::StringRef code);

} // namespace mlir::fa

#endif // FA_TARGET_HOST_H
