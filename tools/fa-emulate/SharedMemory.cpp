//===- SharedMemory.cpp - Shared memory that knows who wrote what ---------===//

#include "SharedMemory.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include <cstring>
#include <sys/mman.h>

using namespace fa::emulate;
using llvm::formatv;

char *SharedMemory::mapWindow() {
  // Twice the size, to align within.
  void *pages = mmap(nullptr, 2 * kWindow, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  if (pages == MAP_FAILED)
    return nullptr;
  uintptr_t address = reinterpret_cast<uintptr_t>(pages);
  address = (address + kWindow - 1) / kWindow * kWindow;
  return reinterpret_cast<char *>(address);
}

SharedMemory::SharedMemory(char *window, uint32_t bytes, int warps)
    : window(window), bytes(bytes), warps(warps) {
  clear();
}

void SharedMemory::clear() {
  std::memset(window, 0xFF, kWindow);
  size_t count = (end() + 3) / 4;
  words.assign(count, Word());
  readers.assign(count * warps, 0);
  readerSites.assign(count, 0);
  for (auto &list : inFlight)
    list.clear();
}

SharedMemory::Problem SharedMemory::bounds(uint32_t offset,
                                           uint32_t size) const {
  if (offset >= begin() && offset <= end() && size <= end() - offset)
    return {};
  return formatv("touches shared bytes {0} to {1}, but the kernel has {2}",
                 int64_t(offset) - kReserved,
                 int64_t(offset) - kReserved + size - 1, bytes);
}

SharedMemory::Problem SharedMemory::describe(uint32_t word, const char *what,
                                             int site) const {
  return formatv("shared bytes {0} to {1}: {2} #{3}", 4 * word - kReserved,
                 4 * word - kReserved + 3, what, site);
}

SharedMemory::Problem SharedMemory::mayRead(uint32_t index,
                                            const Access &access) const {
  const Word &word = words[index];
  switch (word.state) {
  case Unwritten:
    return describe(index, "read, but nothing has written them; read by site",
                    access.site);
  case Barrier:
    return describe(index, "an mbarrier lives there, made by site", word.site);
  case Copying:
    return describe(index, "read before a copy to them was waited for, of site",
                    word.site);
  case Written:
    break;
  }
  if (access.known->generic.time[word.agent] < word.time)
    return describe(index,
                    "read, and no barrier orders that after the write by site",
                    word.site);
  if (word.agent == access.warp && word.lane != access.lane &&
      word.syncs == access.syncs)
    return describe(index,
                    "read, and no barrier orders that after the write by "
                    "another thread of the warp, at site",
                    word.site);
  if (access.async && word.generic &&
      access.known->async.time[word.agent] < word.time)
    return describe(index,
                    "read by the async proxy, and no proxy fence orders that "
                    "after the write by site",
                    word.site);
  return {};
}

SharedMemory::Problem SharedMemory::mayWrite(uint32_t index,
                                             const Access &access) const {
  const Word &word = words[index];
  if (word.state == Barrier)
    return describe(index, "an mbarrier lives there, made by site", word.site);
  if (word.state == Copying)
    return describe(index,
                    "written before a copy to them was waited for, of site",
                    word.site);
  for (int warp = 0; warp < warps; ++warp) {
    uint32_t time = readers[size_t(index) * warps + warp];
    if (time == kInFlight)
      return describe(index,
                      "overwritten while a product in flight reads them, of "
                      "site",
                      readerSites[index]);
    if (access.known->generic.time[warp] < time)
      return describe(index,
                      "overwritten, and no barrier orders that after the read "
                      "by site",
                      readerSites[index]);
  }
  if (word.state == Written &&
      access.known->generic.time[word.agent] < word.time)
    return describe(
        index,
        "overwritten, and no barrier orders that after the write by site",
        word.site);
  if (word.state == Written && access.async && word.generic &&
      access.known->async.time[word.agent] < word.time)
    return describe(index,
                    "overwritten by the async proxy, and no proxy fence orders "
                    "that after the write by site",
                    word.site);
  return {};
}

template <typename F>
SharedMemory::Problem SharedMemory::forWords(uint32_t offset, uint32_t size,
                                             F f) {
  if (!size)
    return {};
  Problem problem = bounds(offset, size);
  for (uint32_t word = offset / 4, last = (offset + size - 1) / 4;
       problem.empty() && word <= last; ++word)
    problem = f(word);
  return problem;
}

SharedMemory::Problem SharedMemory::read(uint32_t offset, uint32_t size,
                                         const Access &access) {
  return forWords(offset, size, [&](uint32_t word) {
    Problem problem = mayRead(word, access);
    uint32_t &time = reader(word, access.warp);
    if (time != kInFlight)
      time = access.known->generic.time[access.warp];
    readerSites[word] = access.site;
    return problem;
  });
}

SharedMemory::Problem SharedMemory::beginRead(uint32_t offset, uint32_t size,
                                              const Access &access,
                                              uint64_t group) {
  return forWords(offset, size, [&](uint32_t word) {
    Problem problem = mayRead(word, access);
    inFlight[access.warp].emplace_back(word, group);
    reader(word, access.warp) = kInFlight;
    readerSites[word] = access.site;
    return problem;
  });
}

void SharedMemory::endReads(int warp, uint64_t first, uint64_t last,
                            uint32_t time) {
  auto &list = inFlight[warp];
  auto isDone = [&](auto &entry) {
    return entry.second >= first && entry.second <= last;
  };
  for (auto &entry : list)
    if (isDone(entry))
      reader(entry.first, warp) = time;
  llvm::erase_if(list, isDone);
  // Some may be read by a later group too.
  for (auto &[word, reading] : list)
    reader(word, warp) = kInFlight;
}

SharedMemory::Problem SharedMemory::write(uint32_t offset, uint32_t size,
                                          const Access &access) {
  return forWords(offset, size, [&](uint32_t index) {
    Problem problem = mayWrite(index, access);
    Word &word = words[index];
    word.time = access.known->generic.time[access.warp];
    word.agent = access.warp;
    word.lane = access.lane;
    word.syncs = access.syncs;
    word.site = access.site;
    word.state = Written;
    word.generic = true;
    return problem;
  });
}

SharedMemory::Problem SharedMemory::beginCopy(uint32_t offset, uint32_t size,
                                              const Access &access) {
  return forWords(offset, size, [&](uint32_t index) {
    Problem problem = mayWrite(index, access);
    words[index].state = Copying;
    words[index].site = access.site;
    std::memset(window + 4 * index, 0xFF, 4);
    return problem;
  });
}

void SharedMemory::endCopy(uint32_t offset, uint32_t size, int agent,
                           uint32_t time) {
  forWords(offset, size, [&](uint32_t index) {
    Word &word = words[index];
    word.state = Written;
    word.agent = agent;
    word.time = time;
    word.generic = false;
    return Problem();
  });
}

void SharedMemory::endCopy(uint32_t offset, uint32_t size,
                           const Access &access) {
  forWords(offset, size, [&](uint32_t index) {
    Word &word = words[index];
    word.state = Written;
    word.agent = access.warp;
    word.lane = access.lane;
    word.syncs = access.syncs;
    word.time = access.known->generic.time[access.warp];
    word.generic = true;
    return Problem();
  });
}

SharedMemory::Problem SharedMemory::beginBarrier(uint32_t offset,
                                                 const Access &access) {
  if (offset % 8)
    return formatv("makes an mbarrier at {0}, not a multiple of 8 bytes",
                   offset - kReserved);
  return forWords(offset, 8, [&](uint32_t index) {
    Problem problem = mayWrite(index, access);
    words[index].state = Barrier;
    words[index].site = access.site;
    return problem;
  });
}
