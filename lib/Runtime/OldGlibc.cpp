//===- OldGlibc.cpp - What the compiler's runtime wants from a newer glibc ===//
//
// libfa.so links libstdc++ and libgcc statically. Where it is built those may
// call functions that systems of the last years lack, which then could not load
// it: here they are, for this library alone.
//
//===----------------------------------------------------------------------===//

#if defined(__linux__) && defined(__GLIBC__)

#include <cstdint>
#include <cstdlib>
#include <link.h>
#include <sys/random.h>

/// `struct dl_find_object` of <dlfcn.h> (glibc 2.35).
struct FoundObject {
  unsigned long long flags;
  void *mapStart, *mapEnd;
  link_map *linkMap;
  void *frameHeader;
  unsigned long long reserved[7];
};

namespace {
struct Search {
  uintptr_t address;
  FoundObject *result;
};
} // namespace

/// Whether the object of `info` holds the address; it is the result then.
static int findIn(dl_phdr_info *info, size_t, void *data) {
  auto *search = static_cast<Search *>(data);
  uintptr_t start = UINTPTR_MAX, end = 0, header = 0;
  bool holds = false;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr) &segment = info->dlpi_phdr[i];
    uintptr_t from = info->dlpi_addr + segment.p_vaddr;
    uintptr_t to = from + segment.p_memsz;
    if (segment.p_type == PT_GNU_EH_FRAME)
      header = from;
    if (segment.p_type != PT_LOAD)
      continue;
    start = from < start ? from : start;
    end = to > end ? to : end;
    holds |= search->address >= from && search->address < to;
  }
  if (!holds || !header)
    return 0;
  *search->result = {
      0,       reinterpret_cast<void *>(start),  reinterpret_cast<void *>(end),
      nullptr, reinterpret_cast<void *>(header), {}};
  return 1;
}

// By their names in the linker: newer headers declare them.
[[gnu::visibility("hidden")]] int
findObject(void *address, FoundObject *result) __asm__("_dl_find_object");
[[gnu::visibility("hidden")]] uint32_t drawRandom() __asm__("arc4random");

/// libgcc's unwinder asks where the frames of the code at an address are.
int findObject(void *address, FoundObject *result) {
  Search search = {reinterpret_cast<uintptr_t>(address), result};
  return dl_iterate_phdr(findIn, &search) == 1 ? 0 : -1;
}

/// The default of libstdc++'s random_device (glibc 2.36).
uint32_t drawRandom() {
  uint32_t value;
  if (getrandom(&value, sizeof value, 0) != sizeof value)
    abort(); // as glibc's
  return value;
}

#endif
