//===- Pipelines.h - Registration and named pipelines -----------*- C++ -*-===//

#ifndef FA_PIPELINES_PIPELINES_H
#define FA_PIPELINES_PIPELINES_H

#include "mlir/Support/LLVM.h"

namespace mlir {
class DialectRegistry;
class OpPassManager;
namespace fa {
/// Every dialect, interface and translation that the compiler uses.
void registerAllDialects(DialectRegistry &registry);
/// Every pass of the project, those of MLIR that it uses, named pipelines.
void registerAllPasses();

/// The dialects, interfaces and translations that the lowering pipelines need,
/// and no more: what libfa registers.
void registerCompilerDialects(DialectRegistry &registry);
/// Adds the pipeline from `fa.attention` (or a tile program) to the LLVM
/// dialect for `chip`. Fails for an unknown chip.
LogicalResult buildLoweringPipeline(OpPassManager &manager, StringRef chip);
} // namespace fa
} // namespace mlir

#endif // FA_PIPELINES_PIPELINES_H
