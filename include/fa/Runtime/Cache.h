//===- Cache.h - Artifacts on disk ------------------------------*- C++ -*-===//

#ifndef FA_RUNTIME_CACHE_H
#define FA_RUNTIME_CACHE_H

#include "fa/Runtime/Artifact.h"
#include "llvm/ADT/ArrayRef.h"

namespace mlir::fa {

/// A folder of artifacts named by the hash of what they were made from. Safe
/// with concurrent processes: files appear complete (rename) and are checked by
/// their checksum. Every failure of the folder is silent: nothing is cached.
class Cache {
public:
  /// `folder` empty: FA_CACHE_DIR, else XDG_CACHE_HOME/fa, else ~/.cache/fa.
  explicit Cache(llvm::StringRef folder);

  /// The file name for what is made from `inputs` by this build of the library.
  static std::string getKey(llvm::ArrayRef<llvm::StringRef> inputs);

  /// Null when there is no (valid) artifact. Marks it as recently used.
  std::unique_ptr<Artifact> load(llvm::StringRef key) const;
  void store(llvm::StringRef key, const Artifact &artifact) const;

  /// The table of schedules that were tuned for `chip` on this machine; empty
  /// without a folder.
  std::string getSchedulesFile(llvm::StringRef chip) const;

private:
  /// Removes the least recently used files beyond FA_CACHE_SIZE_MB (512).
  void trim() const;

  std::string folder;
};

} // namespace mlir::fa

#endif // FA_RUNTIME_CACHE_H
