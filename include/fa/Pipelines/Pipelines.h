//===- Pipelines.h - Registration and named pipelines -----------*- C++ -*-===//

#ifndef FA_PIPELINES_PIPELINES_H
#define FA_PIPELINES_PIPELINES_H

#include "llvm/ADT/StringRef.h"

namespace mlir {
class DialectRegistry;
class OpPassManager;
namespace fa {
/// `fa.attention` on memrefs to an L1 tile program for `chip` (`cpu`, `sm_80`,
/// ...). `schedule` is empty or a `#fa.schedule<...>` that overrides the table.
/// In fa-opt: `--fa-lower-to-tile="chip=... override=..."`.
void buildLowerToTilePipeline(OpPassManager &manager, llvm::StringRef chip,
                              llvm::StringRef schedule = "");
void registerLowerToTilePipeline();

/// Every dialect, interface and translation that the compiler uses.
void registerAllDialects(DialectRegistry &registry);
/// Every pass of the project, those of MLIR that it uses, named pipelines.
void registerAllPasses();
} // namespace fa
} // namespace mlir

#endif // FA_PIPELINES_PIPELINES_H
