//===- Launcher.cpp - Runs artifacts on the CPU ---------------------------===//

#include "fa/Runtime/Launcher.h"
#include "fa/Runtime/ThreadPool.h"
#include "fa/Target/Host.h"

using namespace mlir;
using namespace mlir::fa;

llvm::Error Launcher::launch(ArrayRef<fa_arg> args, int device, void *stream) {
  if (llvm::Error error = artifact->info.check(args))
    return error;
  return artifact->info.isCPU() ? launchOnCPU(args)
                                : launchOnGPU(args, device, stream);
}

namespace {
/// entry(words, begin, end): the grid points begin..end-1.
using HostEntry = void (*)(const uint64_t *, int64_t, int64_t);

struct HostExecutable : Executable {
  std::unique_ptr<LoadedObject> program;
  HostEntry entry;
};
} // namespace

static llvm::Expected<std::unique_ptr<Executable>>
loadHostExecutable(const Artifact &artifact) {
  const std::string *code = artifact.find("object");
  if (!code)
    return fail(FA_INVALID_ARGUMENT,
                "the artifact has no code (stop_after was set); compile it "
                "without that option");
  const std::string *host = artifact.find("host");
  if (!host || *host != getHostDescription())
    return fail(FA_UNSUPPORTED,
                "the artifact was compiled for another processor; compile it "
                "on this host");
  auto linked = [&](llvm::Error error) {
    return fail(FA_COMPILE_ERROR, "cannot link @{0}: {1}", artifact.info.entry,
                llvm::toString(std::move(error)));
  };
  auto program = loadObject(*code);
  if (!program)
    return linked(program.takeError());
  auto address = (*program)->lookup(artifact.info.entry);
  if (!address)
    return linked(address.takeError());
  auto executable = std::make_unique<HostExecutable>();
  executable->program = std::move(*program);
  executable->entry = reinterpret_cast<HostEntry>(*address);
  return std::move(executable);
}

llvm::Error Launcher::launchOnCPU(ArrayRef<fa_arg> args) {
  auto extents = artifact->info.evaluateGrid(args);
  if (!extents)
    return extents.takeError();
  HostEntry entry;
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (!executable) {
      auto loaded = loadHostExecutable(*artifact);
      if (!loaded)
        return loaded.takeError();
      executable = std::move(*loaded);
    }
    entry = static_cast<HostExecutable &>(*executable).entry;
  }
  int64_t points = 1;
  for (int64_t extent : *extents)
    points *= extent;
  SmallVector<uint64_t, 64> words = artifact->info.pack(args);
  parallelFor(points, [&](int64_t begin, int64_t end) {
    entry(words.data(), begin, end);
  });
  return llvm::Error::success();
}
