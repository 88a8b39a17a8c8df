//===- SharedMemory.h - Shared memory that knows who wrote what -*- C++ -*-===//
//
// A block's shared memory with a record per 32-bit word of the last write and
// the last reads, and vector clocks that say what a warp has waited for. An
// access that no chain of barriers orders after the one that it depends on is
// an error in every interleaving, whether or not it went wrong in this one.
//
// Time is counted per agent: the warps, and the copies that complete on each
// mbarrier. An agent's clock advances with each release.
//
//===----------------------------------------------------------------------===//

#ifndef FA_EMULATE_SHAREDMEMORY_H
#define FA_EMULATE_SHAREDMEMORY_H

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace fa::emulate {

constexpr int kMaxWarps = 32;
constexpr int kMaxBarriers = 96;
constexpr int kMaxAgents = kMaxWarps + kMaxBarriers;

/// What has happened before now, per agent.
struct Clock {
  std::array<uint32_t, kMaxAgents> time{};

  void join(const Clock &other) {
    for (int i = 0; i < kMaxAgents; ++i)
      time[i] = time[i] > other.time[i] ? time[i] : other.time[i];
  }
};

/// What an agent knows: writes that it may read, and those of them that it may
/// read in the async proxy (wgmma and bulk copies) since a proxy fence was
/// there between.
struct Knowledge {
  Clock generic, async;

  void join(const Knowledge &other) {
    generic.join(other.generic);
    async.join(other.async);
  }
};

class SharedMemory {
public:
  /// The window of shared addresses: 18 bits, as matrix descriptors hold. A
  /// kernel's dynamic shared memory begins after what the system keeps.
  static constexpr uint32_t kWindow = 1 << 18, kReserved = 1024;

  /// Maps the window below 4 GiB; null when that fails.
  static char *mapWindow();

  SharedMemory(char *window, uint32_t bytes, int warps);

  /// Forgets everything and poisons all bytes.
  void clear();

  uint32_t begin() const { return kReserved; }
  uint32_t end() const { return kReserved + bytes; }
  char *pointer(uint32_t offset) { return window + offset; }
  uint32_t base() const {
    return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(window));
  }

  /// Who does an access.
  struct Access {
    int warp;
    int lane;       // -1: the warp together
    uint32_t syncs; // barriers that the warp has passed
    int site;
    const Knowledge *known;
    bool async; // by wgmma or a bulk copy
  };
  using Problem = std::string; // empty: none

  Problem read(uint32_t offset, uint32_t size, const Access &access);
  Problem write(uint32_t offset, uint32_t size, const Access &access);

  /// A copy to these bytes begins: they are poisoned and nobody may touch them.
  Problem beginCopy(uint32_t offset, uint32_t size, const Access &access);
  /// The copy is done, at `time` of `agent`.
  void endCopy(uint32_t offset, uint32_t size, int agent, uint32_t time);
  /// The same for a copy that `access`'s thread has waited for.
  void endCopy(uint32_t offset, uint32_t size, const Access &access);

  /// An asynchronous read by `access.warp`, as part of its group `group`.
  Problem beginRead(uint32_t offset, uint32_t size, const Access &access,
                    uint64_t group);
  /// The reads of the warp's groups from `first` to `last` are done.
  void endReads(int warp, uint64_t first, uint64_t last, uint32_t time);

  /// An mbarrier lives in these bytes from now on.
  Problem beginBarrier(uint32_t offset, const Access &access);

private:
  enum State : uint8_t { Unwritten, Written, Copying, Barrier };
  struct Word {
    uint32_t time = 0, syncs = 0;
    int8_t lane = -1;
    uint8_t agent = 0;
    uint16_t site = 0;
    State state = Unwritten;
    bool generic = true;
  };
  static constexpr uint32_t kInFlight = UINT32_MAX;

  Problem bounds(uint32_t offset, uint32_t size) const;
  Problem mayRead(uint32_t word, const Access &access) const;
  Problem mayWrite(uint32_t word, const Access &access) const;
  Problem describe(uint32_t word, const char *what, int site) const;
  uint32_t &reader(uint32_t word, int warp) {
    return readers[size_t(word) * warps + warp];
  }
  template <typename F> Problem forWords(uint32_t offset, uint32_t size, F f);

  char *window;
  uint32_t bytes;
  int warps;
  std::vector<Word> words;
  std::vector<uint32_t> readers; // of each word by each warp: its time
  std::vector<uint16_t> readerSites;
  /// Words being read, with the groups that do.
  std::array<std::vector<std::pair<uint32_t, uint64_t>>, kMaxWarps> inFlight;
};

} // namespace fa::emulate

#endif // FA_EMULATE_SHAREDMEMORY_H
