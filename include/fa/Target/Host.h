//===- Host.h - LLVM dialect to code of this host ---------------*- C++ -*-===//

#ifndef FA_TARGET_HOST_H
#define FA_TARGET_HOST_H

#include "fa/Runtime/Error.h"
#include <memory>
#include <string>

namespace llvm {
class Module;
} // namespace llvm

namespace mlir::fa {

/// Name and features of this host's processor: code made for one host is not
/// run on another.
std::string getHostDescription();

/// Optimizes `module` for this host and returns an ELF object.
llvm::Expected<std::string> emitHostObject(llvm::Module &module);

/// An object linked into memory.
class LoadedObject {
public:
  virtual ~LoadedObject() = default;
  virtual llvm::Expected<void *> lookup(llvm::StringRef name) = 0;
};
llvm::Expected<std::unique_ptr<LoadedObject>> loadObject(llvm::StringRef code);

} // namespace mlir::fa

#endif // FA_TARGET_HOST_H
