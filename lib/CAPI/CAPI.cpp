//===- CAPI.cpp - The C interface -----------------------------------------===//

#include "fa-c/fa.h"
#include "fa/Runtime/AttentionBuilder.h"
#include "fa/Runtime/Compiler.h"
#include "fa/Runtime/Launcher.h"
#include "fa/Runtime/ThreadPool.h"
#include "fa/Target/Chip.h"
#include "llvm/Config/llvm-config.h"
#include <cstdlib>
#include <cstring>

using namespace mlir::fa;

struct fa_artifact {
  explicit fa_artifact(std::unique_ptr<Artifact> made)
      : artifact(std::move(made)), launcher(artifact) {}
  std::shared_ptr<const Artifact> artifact;
  Launcher launcher;
};

/// A copy of `text` that fa_free releases.
static char *duplicate(const std::string &text) {
  char *copy = static_cast<char *>(malloc(text.size() + 1));
  if (copy)
    memcpy(copy, text.c_str(), text.size() + 1);
  return copy;
}

/// The status of `error`, its message in `*message`.
static int report(llvm::Error error, char **message) {
  if (message)
    *message = nullptr;
  int status = FA_OK;
  llvm::handleAllErrors(std::move(error), [&](const Failure &failure) {
    status = failure.getStatus();
    if (message)
      *message = duplicate(failure.getMessage());
  });
  return status;
}

/// `pointer` must not be null.
static llvm::Error require(const void *pointer, const char *name) {
  if (pointer)
    return llvm::Error::success();
  return fail(FA_INVALID_ARGUMENT, "{0} is a null pointer", name);
}

const char *fa_version(void) { return FA_VERSION; }
const char *fa_llvm_version(void) { return LLVM_VERSION_STRING; }
void fa_free(void *pointer) { free(pointer); }

int fa_build_attention(const fa_attention_spec *spec, char **mlir,
                       char **error) {
  if (auto e = llvm::joinErrors(require(spec, "spec"), require(mlir, "mlir")))
    return report(std::move(e), error);
  auto text = buildAttention(*spec);
  if (!text)
    return report(text.takeError(), error);
  *mlir = duplicate(*text);
  return report(llvm::Error::success(), error);
}

int fa_build_attention_backward(const fa_attention_spec *spec,
                                int32_t gradients, int32_t hasDLse,
                                int32_t hasDQSum, char **mlir, char **error) {
  if (auto e = llvm::joinErrors(require(spec, "spec"), require(mlir, "mlir")))
    return report(std::move(e), error);
  auto text = buildAttentionBackward(*spec, gradients, hasDLse, hasDQSum);
  if (!text)
    return report(text.takeError(), error);
  *mlir = duplicate(*text);
  return report(llvm::Error::success(), error);
}

int fa_compile(const char *mlir, const char *chip, const char *options,
               fa_artifact **artifact, char **error) {
  for (auto [pointer, name] :
       {std::pair<const void *, const char *>(mlir, "mlir"),
        {chip, "chip"},
        {artifact, "artifact"}})
    if (auto e = require(pointer, name))
      return report(std::move(e), error);
  auto parsed = CompileOptions::parse(options ? options : "");
  if (!parsed)
    return report(parsed.takeError(), error);
  auto made = compile(mlir, chip, *parsed);
  if (!made)
    return report(made.takeError(), error);
  *artifact = new fa_artifact(std::move(*made));
  return report(llvm::Error::success(), error);
}

void fa_artifact_destroy(fa_artifact *artifact) { delete artifact; }

const void *fa_artifact_get(const fa_artifact *artifact, const char *part,
                            size_t *size) {
  const std::string *found =
      artifact && part ? artifact->artifact->find(part) : nullptr;
  if (size)
    *size = found ? found->size() : 0;
  return found ? found->data() : nullptr;
}

int fa_artifact_save(const fa_artifact *artifact, const char *path,
                     char **error) {
  if (auto e = llvm::joinErrors(require(artifact, "artifact"),
                                require(path, "path")))
    return report(std::move(e), error);
  return report(artifact->artifact->save(path), error);
}

int fa_artifact_load(const char *path, fa_artifact **artifact, char **error) {
  if (auto e = llvm::joinErrors(require(path, "path"),
                                require(artifact, "artifact")))
    return report(std::move(e), error);
  auto loaded = Artifact::load(path);
  if (!loaded)
    return report(loaded.takeError(), error);
  *artifact = new fa_artifact(std::move(*loaded));
  return report(llvm::Error::success(), error);
}

int fa_launch(fa_artifact *artifact, const fa_arg *args, int32_t count,
              int32_t device, void *stream, char **error) {
  if (auto e = require(artifact, "artifact"))
    return report(std::move(e), error);
  if (count < 0 || (count > 0 && !args))
    return report(fail(FA_INVALID_ARGUMENT,
                       "count is {0} and args is {1}; expected as many "
                       "arguments as count says",
                       count, args),
                  error);
  return report(
      artifact->launcher.launch(llvm::ArrayRef(args, count), device, stream),
      error);
}

int fa_device_count(void) { return getDeviceCount(); }

int fa_device_capability(int32_t device, int32_t *major, int32_t *minor,
                         char **error) {
  if (auto e =
          llvm::joinErrors(require(major, "major"), require(minor, "minor")))
    return report(std::move(e), error);
  return report(getDeviceCapability(device, *major, *minor), error);
}

int fa_device_multiprocessors(int32_t device, int32_t *count, char **error) {
  if (auto e = require(count, "count"))
    return report(std::move(e), error);
  return report(getDeviceMultiprocessors(device, *count), error);
}

const char *fa_chip(int32_t index) {
  llvm::ArrayRef<Chip> chips = getChips();
  if (index <= 0 || index > int32_t(chips.size()))
    return index == 0 ? "cpu" : nullptr;
  return chips[index - 1].name.data();
}

const char *fa_chip_of_capability(int32_t major, int32_t minor) {
  const Chip *chip = findChipOfDevice(major, minor);
  return chip ? chip->name.data() : nullptr;
}

void fa_set_num_threads(int32_t count) { setNumThreads(count); }
int32_t fa_get_num_threads(void) { return getNumThreads(); }
