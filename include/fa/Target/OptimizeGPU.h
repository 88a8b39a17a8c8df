//===- OptimizeGPU.h - LLVM's passes before PTX -----------------*- C++ -*-===//
//
// Depends on LLVM only: the emulator of kernels (tools/fa-emulate) runs the
// same.
//
//===----------------------------------------------------------------------===//

#ifndef FA_TARGET_OPTIMIZEGPU_H
#define FA_TARGET_OPTIMIZEGPU_H

namespace llvm {
class Module;
class TargetMachine;
} // namespace llvm

namespace mlir::fa {

/// Optimizes kernels for NVPTX in `module`, up to code generation.
void optimizeGPUModule(llvm::Module &module, llvm::TargetMachine &machine);

} // namespace mlir::fa

#endif // FA_TARGET_OPTIMIZEGPU_H
