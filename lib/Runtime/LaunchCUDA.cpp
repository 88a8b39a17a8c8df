//===- LaunchCUDA.cpp - Runs artifacts through the CUDA driver ------------===//

#include "fa/Runtime/Launcher.h"

using namespace mlir;
using namespace mlir::fa;

llvm::Error Launcher::launchOnGPU(ArrayRef<fa_arg> args, int device,
                                  void *stream) {
  return fail(FA_UNSUPPORTED, "not yet");
}
int mlir::fa::getDeviceCount() { return 0; }
llvm::Error mlir::fa::getDeviceCapability(int device, int &major, int &minor) {
  return fail(FA_DRIVER_ERROR, "not yet");
}
