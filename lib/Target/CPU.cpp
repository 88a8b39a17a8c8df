//===- CPU.cpp - The host as a target of the compiler ---------------------===//

#include "fa/Target/CPU.h"
#include "fa/Target/Host.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"

using namespace mlir;

fa::HostVectors fa::getHostVectors(StringRef cpu) {
  if (!llvm::Triple(llvm::sys::getProcessTriple()).isX86())
    return {128, 32, false, false};
  llvm::StringMap<bool> features = getCPUFeatures(cpu);
  if (features.lookup("avx512f") && features.lookup("avx512vl"))
    return {512, 32, features.lookup("avx512bf16"),
            features.lookup("avx512bf16") && features.lookup("amx-bf16")};
  return {features.lookup("avx") ? 256 : 128, 16, false, false};
}
