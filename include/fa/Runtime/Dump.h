//===- Dump.h - A compilation written to a folder ---------------*- C++ -*-===//

#ifndef FA_RUNTIME_DUMP_H
#define FA_RUNTIME_DUMP_H

#include "fa/Runtime/Artifact.h"

namespace mlir {
class PassManager;
namespace fa {

/// What option `dump` or FA_DUMP asked for. Without a folder it does nothing.
class Dump {
public:
  Dump() = default;
  explicit Dump(llvm::StringRef folder) : folder(folder.str()) {}

  explicit operator bool() const { return !folder.empty(); }
  const std::string &getFolder() const { return folder; }

  /// Makes the folder, without the passes of an earlier dump.
  llvm::Error open() const;
  void write(const llvm::Twine &file, llvm::StringRef contents);
  /// The module after each pass: passes/NN-flag.mlir.
  void attach(PassManager &manager);
  /// All parts of `artifact`; the machine code of a cubin too, if there is a
  /// disassembler beside `ptxas` or in PATH.
  void writeParts(const Artifact &artifact, llvm::StringRef ptxas);
  /// The first file that could not be written.
  llvm::Error finish() const;

private:
  std::string folder, failure;
};

} // namespace fa
} // namespace mlir

#endif // FA_RUNTIME_DUMP_H
