//===- Pipelines.h - Registration and named pipelines -----------*- C++ -*-===//

#ifndef FA_PIPELINES_PIPELINES_H
#define FA_PIPELINES_PIPELINES_H

#include "mlir/Support/LLVM.h"
#include "llvm/ADT/StringRef.h"

namespace mlir {
class DialectRegistry;
class ModuleOp;
class OpPassManager;
namespace fa {
/// `fa.attention` on memrefs to an L1 tile program for `chip` (`cpu`, `sm_80`,
/// ...). `schedule` is empty or a `#fa.schedule<...>` that overrides the table.
/// In fa-opt: `--fa-lower-to-tile="chip=... override=..."`.
void buildLowerToTilePipeline(OpPassManager &manager, llvm::StringRef chip,
                              llvm::StringRef schedule = "");
/// A tile program (with `tile.plan`) to a `gpu.module` of NVVM kernels. In
/// fa-opt: `--fa-lower-tile-to-nvvm`.
void buildLowerTileToNVVMPipeline(OpPassManager &manager);

struct NVVMOptions {
  llvm::StringRef chip;     // sm_80, sm_90a
  llvm::StringRef schedule; // empty or a #fa.schedule<...>
};
/// `fa.attention` on memrefs to a `gpu.module` of NVVM kernels. In fa-opt:
/// `--fa-lower-to-nvvm="chip=sm_80 override=..."`.
void buildLowerToNVVMPipeline(OpPassManager &manager,
                              const NVVMOptions &options);
void registerNVVMPipelines();
void registerLowerToTilePipeline();

/// The dialects, passes and named pipelines of the project alone: for a program
/// that has MLIR's.
void registerDialects(DialectRegistry &registry);
void registerPasses();

/// Every dialect, interface and translation that the compiler uses.
void registerAllDialects(DialectRegistry &registry);
/// Every pass of the project, those of MLIR that it uses, named pipelines.
void registerAllPasses();

/// The dialects, interfaces and translations that the lowering pipelines need,
/// and no more: what libfa registers.
void registerCompilerDialects(DialectRegistry &registry);
/// The pipeline from what `module` holds, `fa.attention` or a tile program, to
/// the LLVM dialect for `chip` (`cpu`, `sm_80`, ...).
void buildLoweringPipeline(OpPassManager &manager, ModuleOp module,
                           llvm::StringRef chip, llvm::StringRef schedule,
                           llvm::StringRef cpu = {});
} // namespace fa
} // namespace mlir

#endif // FA_PIPELINES_PIPELINES_H
