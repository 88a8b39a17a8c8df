//===- CPU.h - Pipelines of the CPU target ----------------------*- C++ -*-===//

#ifndef FA_PIPELINES_CPU_H
#define FA_PIPELINES_CPU_H

#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassOptions.h"

namespace mlir::fa {

struct CPUPipelineOptions : public PassPipelineOptions<CPUPipelineOptions> {
  Option<int64_t> vectorBits{
      *this, "vector-bits",
      llvm::cl::desc("width of the vector registers (0: this host's)"),
      llvm::cl::init(0)};
  Option<int64_t> registers{
      *this, "registers",
      llvm::cl::desc("number of vector registers (0: this host's)"),
      llvm::cl::init(0)};
  Option<std::string> cpu{
      *this, "cpu",
      llvm::cl::desc("processor, as LLVM names it (empty: this host)")};
  Option<bool> noDots{
      *this, "no-dots",
      llvm::cl::desc("do without the processor's products of bf16 pairs"),
      llvm::cl::init(false)};
  Option<std::string> schedule{
      *this, "schedule",
      llvm::cl::desc("a #fa.schedule<...> used in place of the table")};
};

/// From an L1 tile program to the LLVM dialect.
void buildLowerTilesToCPU(OpPassManager &pm, const CPUPipelineOptions &options);

/// `fa-lower-tiles-to-cpu`, `fa-lower-to-cpu`.
void registerCPUPipelines();

} // namespace mlir::fa

#endif // FA_PIPELINES_CPU_H
