//===- CPU.h - The host as a target of the compiler -------------*- C++ -*-===//

#ifndef FA_TARGET_CPU_H
#define FA_TARGET_CPU_H

#include "llvm/ADT/StringRef.h"
#include <cstdint>

namespace mlir::fa {

/// The vector registers that the CPU lowering blocks for.
struct HostVectors {
  int64_t bits;
  int64_t count;
  bool dotBF16; // products of bf16 pairs
  bool amxBF16; // products of bf16 matrices
};
/// Of the processor `cpu`, or of this host where that is empty.
HostVectors getHostVectors(llvm::StringRef cpu = {});

/// `fa-translate --cpu-to-object` and `--cpu-to-llvmir`.
void registerCPUTranslations();

} // namespace mlir::fa

#endif // FA_TARGET_CPU_H
