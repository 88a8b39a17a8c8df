//===- Cache.cpp - Artifacts on disk --------------------------------------===//

#include "fa/Runtime/Cache.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/BLAKE3.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"
#include <algorithm>
#include <fcntl.h>
#include <link.h>
#include <sys/stat.h>

using namespace mlir;
using namespace mlir::fa;
namespace fs = llvm::sys::fs;
namespace path = llvm::sys::path;

static constexpr StringLiteral kSuffix = ".fa";

/// The linker's build id of the binary that holds this function: artifacts of
/// another build of the compiler are never reused, released or not.
static std::string getBuildId() {
  struct State {
    uintptr_t address;
    std::string id;
  } state{reinterpret_cast<uintptr_t>(&getBuildId), ""};
  auto visit = [](dl_phdr_info *info, size_t, void *data) {
    auto *state = static_cast<State *>(data);
    bool mine = false;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
      const ElfW(Phdr) &header = info->dlpi_phdr[i];
      uintptr_t begin = info->dlpi_addr + header.p_vaddr;
      mine |= header.p_type == PT_LOAD && state->address >= begin &&
              state->address - begin < header.p_memsz;
    }
    if (!mine)
      return 0;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
      const ElfW(Phdr) &header = info->dlpi_phdr[i];
      if (header.p_type != PT_NOTE)
        continue;
      auto *note =
          reinterpret_cast<const char *>(info->dlpi_addr + header.p_vaddr);
      const char *end = note + header.p_memsz;
      while (note + sizeof(ElfW(Nhdr)) <= end) {
        ElfW(Nhdr) nhdr;
        memcpy(&nhdr, note, sizeof(nhdr));
        const char *desc =
            note + sizeof(nhdr) + llvm::alignTo(nhdr.n_namesz, 4);
        if (nhdr.n_type == NT_GNU_BUILD_ID)
          state->id.assign(desc, nhdr.n_descsz);
        note = desc + llvm::alignTo(nhdr.n_descsz, 4);
      }
    }
    return 1;
  };
  dl_iterate_phdr(visit, &state);
  return state.id;
}

Cache::Cache(StringRef requested) {
  SmallString<128> result(requested);
  if (result.empty()) {
    if (auto dir = llvm::sys::Process::GetEnv("FA_CACHE_DIR")) {
      result = *dir;
    } else if (path::cache_directory(result)) { // XDG_CACHE_HOME or ~/.cache
      path::append(result, "fa");
    }
  }
  folder = result.str().str();
}

std::string Cache::getKey(ArrayRef<StringRef> inputs) {
  llvm::BLAKE3 hasher;
  auto add = [&](StringRef text) {
    char size[8];
    llvm::support::endian::write64le(size, text.size());
    hasher.update(StringRef(size, 8));
    hasher.update(text);
  };
  add(fa_version());
  add(fa_llvm_version());
  add(getBuildId());
  for (StringRef input : inputs)
    add(input);
  auto digest = hasher.final<20>();
  return llvm::toHex(digest, /*LowerCase=*/true);
}

std::unique_ptr<Artifact> Cache::load(StringRef key) const {
  if (folder.empty())
    return nullptr;
  std::string file = (folder + "/" + key + kSuffix).str();
  auto artifact = Artifact::load(file);
  if (!artifact) {
    llvm::consumeError(artifact.takeError());
    return nullptr;
  }
  utimensat(AT_FDCWD, file.c_str(), nullptr, 0); // last use, for trim
  return std::move(*artifact);
}

void Cache::store(StringRef key, const Artifact &artifact) const {
  if (folder.empty() || fs::create_directories(folder, true, fs::owner_all))
    return;
  llvm::consumeError(artifact.save((folder + "/" + key + kSuffix).str()));
  trim();
}

std::string Cache::getSchedulesFile(StringRef chip) const {
  return folder.empty() ? "" : (folder + "/schedules-" + chip + ".mlir").str();
}

void Cache::trim() const {
  uint64_t limit = 512;
  if (auto text = llvm::sys::Process::GetEnv("FA_CACHE_SIZE_MB"))
    StringRef(*text).getAsInteger(10, limit);
  limit <<= 20;

  struct File {
    llvm::sys::TimePoint<> used;
    std::string path;
    uint64_t size;
  };
  std::vector<File> files;
  uint64_t total = 0;
  auto now = std::chrono::system_clock::now();
  std::error_code code;
  for (fs::directory_iterator it(folder, code), end; it != end && !code;
       it.increment(code)) {
    StringRef name = path::filename(it->path());
    fs::file_status status;
    if (fs::status(it->path(), status))
      continue;
    // What a killed process left behind.
    if (name.ends_with(".tmp") &&
        now - status.getLastModificationTime() > std::chrono::hours(1))
      fs::remove(it->path());
    if (!name.ends_with(kSuffix))
      continue;
    files.push_back(
        {status.getLastModificationTime(), it->path(), status.getSize()});
    total += status.getSize();
  }
  std::sort(files.begin(), files.end(), [](const File &a, const File &b) {
    return std::tie(a.used, a.path) < std::tie(b.used, b.path);
  });
  for (const File &file : files) {
    if (total <= limit)
      break;
    fs::remove(file.path);
    total -= file.size;
  }
}
