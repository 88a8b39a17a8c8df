//===- Compiler.h - MLIR text to artifact -----------------------*- C++ -*-===//

#ifndef FA_RUNTIME_COMPILER_H
#define FA_RUNTIME_COMPILER_H

#include "fa/Runtime/Artifact.h"
#include "llvm/ADT/STLFunctionalExtras.h"

namespace mlir::fa {

enum class StopAfter { Nothing, LLVMIR, PTX };

/// The options of fa_compile.
struct CompileOptions {
  std::string schedule;  // text of a #fa.schedule or #fa.schedules attribute
  std::string schedules; // file of a table; empty: that in the cache's folder
  bool useSchedules = true;
  std::string cpu;   // the processor of chip cpu; empty: this host's
  std::string dump;  // folder for the IR after each pass
  std::string ptxas; // path; empty: search
  bool usePtxas = true;
  std::vector<std::string> sitePackages; // Python folders to search for ptxas
  std::string cache;                     // folder; empty: the default one
  bool useCache = true;
  StopAfter stopAfter = StopAfter::Nothing;

  static llvm::Expected<CompileOptions> parse(llvm::StringRef json);
};

/// Compiles `text` for `chip`, through the cache on disk unless told not to. A
/// crash inside LLVM becomes an error that names a reproducer file.
llvm::Expected<std::unique_ptr<Artifact>>
compile(llvm::StringRef text, llvm::StringRef chip,
        const CompileOptions &options);

/// Runs `body` on a thread of its own with a large stack. When it crashes or
/// LLVM reports a fatal error, returns what is known about it.
llvm::Error runCrashSafely(llvm::function_ref<llvm::Error()> body);

} // namespace mlir::fa

#endif // FA_RUNTIME_COMPILER_H
