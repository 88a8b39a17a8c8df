//===- Artifact.cpp - The file format of compiled programs ----------------===//

#include "fa/Runtime/Artifact.h"
#include "llvm/Support/BLAKE3.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace mlir::fa;
using namespace llvm::support;

static constexpr StringLiteral kMagic = "FAARTIF1";
static constexpr size_t kHashSize = 32;

static std::string hashOf(StringRef bytes) {
  llvm::BLAKE3 hasher;
  hasher.update(bytes);
  auto digest = hasher.final<kHashSize>();
  return std::string(reinterpret_cast<const char *>(digest.data()), kHashSize);
}

std::string Artifact::serialize() const {
  std::string body;
  auto writeInteger = [&](uint64_t value) {
    char bytes[8];
    endian::write64le(bytes, value);
    body.append(bytes, 8);
  };
  writeInteger(parts.size());
  for (auto &[name, contents] : parts) {
    writeInteger(name.size());
    writeInteger(contents.size());
    body += name;
    body += contents;
  }
  return kMagic.str() + hashOf(body) + body;
}

llvm::Expected<std::unique_ptr<Artifact>>
Artifact::deserialize(StringRef bytes, StringRef origin) {
  if (!bytes.consume_front(kMagic)) {
    if (bytes.starts_with(kMagic.drop_back()))
      return fail(FA_IO_ERROR,
                  "{0} is an artifact of another format version; compile it "
                  "again with this library",
                  origin);
    return fail(FA_IO_ERROR, "{0} is no artifact of this library", origin);
  }
  auto corrupt = [&] {
    return fail(FA_IO_ERROR, "{0} is damaged: its checksum does not match",
                origin);
  };
  if (bytes.size() < kHashSize)
    return corrupt();
  StringRef hash = bytes.take_front(kHashSize);
  StringRef body = bytes.drop_front(kHashSize);
  if (hashOf(body) != hash)
    return corrupt();

  // The checksum holds, but sizes are still never trusted.
  auto readInteger = [&](uint64_t &value) {
    if (body.size() < 8)
      return false;
    value = endian::read64le(body.data());
    body = body.drop_front(8);
    return true;
  };
  auto artifact = std::make_unique<Artifact>();
  uint64_t count;
  if (!readInteger(count))
    return corrupt();
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t nameSize, size;
    if (!readInteger(nameSize) || !readInteger(size) ||
        nameSize > body.size() || size > body.size() - nameSize)
      return corrupt();
    artifact->parts[body.take_front(nameSize).str()] =
        body.substr(nameSize, size).str();
    body = body.drop_front(nameSize + size);
  }
  if (!body.empty())
    return corrupt();

  const std::string *metadata = artifact->find("metadata");
  if (!metadata)
    return fail(FA_IO_ERROR, "{0} has no metadata", origin);
  auto info = LaunchInfo::fromJSON(*metadata);
  if (!info)
    return info.takeError();
  artifact->info = std::move(*info);
  return std::move(artifact);
}

llvm::Error Artifact::save(StringRef path) const {
  auto failed = [&](std::error_code code) {
    return fail(FA_IO_ERROR, "cannot write {0}: {1}", path, code.message());
  };
  // Not llvm::sys::fs::TempFile, which installs signal handlers.
  int fd;
  SmallString<128> temporary;
  if (auto code = llvm::sys::fs::createUniqueFile(path + ".%%%%%%%%.tmp", fd,
                                                  temporary))
    return failed(code);
  {
    llvm::raw_fd_ostream os(fd, /*shouldClose=*/true);
    os << serialize();
    os.close();
    if (auto code = os.error()) {
      os.clear_error();
      llvm::sys::fs::remove(temporary);
      return failed(code);
    }
  }
  if (auto code = llvm::sys::fs::rename(temporary, path)) {
    llvm::sys::fs::remove(temporary);
    return failed(code);
  }
  return llvm::Error::success();
}

llvm::Expected<std::unique_ptr<Artifact>> Artifact::load(StringRef path) {
  // Read, never mapped, as a MemoryBuffer may be: a mapped file that another
  // process truncates meanwhile ends this one (SIGBUS).
  auto failed = [&](llvm::Error error) {
    return fail(FA_IO_ERROR, "cannot read {0}: {1}", path,
                llvm::toString(std::move(error)));
  };
  auto file = llvm::sys::fs::openNativeFileForRead(path);
  if (!file)
    return failed(file.takeError());
  SmallVector<char, 0> bytes;
  llvm::Error error = llvm::sys::fs::readNativeFileToEOF(*file, bytes);
  llvm::sys::fs::closeFile(*file);
  if (error)
    return failed(std::move(error));
  return deserialize({bytes.data(), bytes.size()}, path);
}
