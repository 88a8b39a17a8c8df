//===- CPU.cpp - The host as a target of the compiler ---------------------===//

#include "fa/Target/CPU.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"

using namespace mlir;

fa::HostVectors fa::getHostVectors() {
  if (!llvm::Triple(llvm::sys::getProcessTriple()).isX86())
    return {128, 32};
  llvm::StringMap<bool> features = llvm::sys::getHostCPUFeatures();
  if (features.lookup("avx512f") && features.lookup("avx512vl"))
    return {512, 32};
  return {features.lookup("avx") ? 256 : 128, 16};
}
