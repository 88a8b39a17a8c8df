//===- Launcher.h - Running artifacts -----------------------------*- C++
//-*-===//

#ifndef FA_RUNTIME_LAUNCHER_H
#define FA_RUNTIME_LAUNCHER_H

#include "fa/Runtime/Artifact.h"
#include <mutex>

namespace mlir::fa {

/// Makes executables of one artifact on demand and runs them. Thread-safe.
class Launcher {
public:
  explicit Launcher(std::shared_ptr<const Artifact> artifact)
      : artifact(std::move(artifact)) {}
  llvm::Error launch(llvm::ArrayRef<fa_arg> args, int device, void *stream);

private:
  llvm::Error launchOnCPU(llvm::ArrayRef<fa_arg> args);
  llvm::Error launchOnGPU(llvm::ArrayRef<fa_arg> args, int device,
                          void *stream);

  std::shared_ptr<const Artifact> artifact;
  std::mutex mutex;
  std::unique_ptr<Executable> executable; // guarded by `mutex`
};

/// CUDA devices; 0 without a driver.
int getDeviceCount();
llvm::Error getDeviceCapability(int device, int &major, int &minor);
llvm::Error getDeviceMultiprocessors(int device, int &count);

} // namespace mlir::fa

#endif // FA_RUNTIME_LAUNCHER_H
