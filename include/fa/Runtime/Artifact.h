//===- Artifact.h - A compiled program and its file format ------*- C++ -*-===//

#ifndef FA_RUNTIME_ARTIFACT_H
#define FA_RUNTIME_ARTIFACT_H

#include "fa/Runtime/LaunchInfo.h"
#include <map>
#include <memory>
#include <string>

namespace mlir::fa {

/// Loaded code: what a target makes of an artifact at its first launch.
class Executable {
public:
  virtual ~Executable() = default;
};

/// Named parts of a compiled program. The part "metadata" is `info` as JSON.
///
/// File: the magic "FAARTIF1", the BLAKE3 hash of the rest (32 bytes), the
/// number of parts; per part the sizes of name and contents, then both.
/// Integers are 64-bit little endian.
struct Artifact {
  std::map<std::string, std::string> parts;
  LaunchInfo info;

  const std::string *find(llvm::StringRef part) const {
    auto it = parts.find(part.str());
    return it == parts.end() ? nullptr : &it->second;
  }

  std::string serialize() const;
  /// `origin` names the source of `bytes` in messages.
  static llvm::Expected<std::unique_ptr<Artifact>>
  deserialize(llvm::StringRef bytes, llvm::StringRef origin);

  /// Writes a file that appears under its name only when complete.
  llvm::Error save(llvm::StringRef path) const;
  static llvm::Expected<std::unique_ptr<Artifact>> load(llvm::StringRef path);
};

} // namespace mlir::fa

#endif // FA_RUNTIME_ARTIFACT_H
