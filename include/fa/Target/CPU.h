//===- CPU.h - The host as a target of the compiler -------------*- C++ -*-===//

#ifndef FA_TARGET_CPU_H
#define FA_TARGET_CPU_H

#include <cstdint>

namespace mlir::fa {

/// The vector registers that the CPU lowering blocks for.
struct HostVectors {
  int64_t bits;
  int64_t count;
};
HostVectors getHostVectors();

/// `fa-translate --cpu-to-object` and `--cpu-to-llvmir`.
void registerCPUTranslations();

} // namespace mlir::fa

#endif // FA_TARGET_CPU_H
