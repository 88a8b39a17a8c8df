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
  std::vector<HostEntry> entries; // one per launch
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
  if (!host || !canRunOnHost(*host))
    return fail(FA_UNSUPPORTED,
                "the artifact was compiled for another processor; compile it "
                "on this host, or with option `cpu` for one that it includes");
  auto program = loadObject(*code);
  if (!program)
    return fail(FA_COMPILE_ERROR, "cannot link the program: {0}",
                llvm::toString(program.takeError()));
  auto executable = std::make_unique<HostExecutable>();
  executable->program = std::move(*program);
  for (const LaunchInfo::Launch &launch : artifact.info.launches) {
    auto address = executable->program->lookup(launch.entry);
    if (!address)
      return fail(FA_COMPILE_ERROR, "cannot link @{0}: {1}", launch.entry,
                  llvm::toString(address.takeError()));
    executable->entries.push_back(reinterpret_cast<HostEntry>(*address));
  }
  return std::move(executable);
}

llvm::Error Launcher::launchOnCPU(ArrayRef<fa_arg> args) {
  const LaunchInfo &info = artifact->info;
  // Nothing runs unless everything can.
  SmallVector<int64_t, 4> points;
  for (const LaunchInfo::Launch &launch : info.launches) {
    auto extents = launch.evaluateGrid(args);
    if (!extents)
      return extents.takeError();
    points.push_back(1);
    for (int64_t extent : *extents)
      points.back() *= extent;
  }
  ArrayRef<HostEntry> entries;
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (!executable) {
      auto loaded = loadHostExecutable(*artifact);
      if (!loaded)
        return loaded.takeError();
      executable = std::move(*loaded);
    }
    entries = static_cast<HostExecutable &>(*executable).entries;
  }
  SmallVector<uint64_t, 64> words = info.pack(args);
  for (auto [entry, count] : llvm::zip(entries, points))
    parallelFor(count, [&, entry = entry](int64_t begin, int64_t end) {
      entry(words.data(), begin, end);
    });
  return llvm::Error::success();
}
