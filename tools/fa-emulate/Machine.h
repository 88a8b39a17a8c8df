//===- Machine.h - One block of a kernel, thread by thread ------*- C++ -*-===//

#ifndef FA_EMULATE_MACHINE_H
#define FA_EMULATE_MACHINE_H

#include "Fiber.h"
#include "Instruction.h"
#include "SharedMemory.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/Twine.h"
#include <deque>
#include <map>
#include <memory>
#include <random>

namespace fa::emulate {

/// What cuTensorMapEncodeTiled is given; 16-bit elements, innermost first.
struct TensorMap {
  uint64_t address;
  int64_t sizes[5];
  int64_t strides[5]; // bytes; that of dimension 0 is not used
  int64_t box[5];
  int64_t rank;
  int64_t swizzle; // bytes: 0, 32, 64, 128
};

/// Global memory that the kernel may touch.
struct Range {
  uint64_t begin, end;
};

struct Launch {
  void (*kernel)(const uint64_t *words);
  const uint64_t *words;
  llvm::ArrayRef<TensorMap> maps;
  llvm::ArrayRef<Range> ranges;
  llvm::ArrayRef<int64_t> blocks; // in the order in which they run
  int64_t gridBlocks;
  int threads;
  uint32_t sharedBytes;
  uint64_t seed;
  llvm::DenseSet<int> skipped; // sites that do not synchronise
};

/// A box of a tensor.
struct TensorBox {
  const TensorMap *map;
  int64_t coordinates[5];
  int64_t rows() const;
  uint32_t bytes() const { return 2 * rows() * map->box[0]; }
};

/// Runs the blocks of a launch one after another. The threads of a block are
/// fibers; a seed picks which of them goes on at each point, and when each
/// asynchronous copy and product happens.
class Machine {
public:
  Machine(llvm::ArrayRef<Site> sites, const Launch &launch, char *window,
          Stacks &stacks);

  /// Empty when the launch ended well, else what went wrong.
  std::string run();

  // Called by the kernel.
  void execute(int site, uint64_t *registers);
  void accessShared(int site, uint64_t address, uint32_t size, bool write);
  void accessGlobal(int site, uint64_t address, uint32_t size);
  int threadIndex() const { return current->index; }
  int64_t blockIndex() const { return block; }
  int blockThreads() const { return launch.threads; }
  int64_t gridBlocks() const { return launch.gridBlocks; }

private:
  struct Copy { // cp.async
    uint64_t source;
    uint32_t dest, size, bytes; // bytes of the source, then zeros
    int site;
    bool performed;
  };
  static constexpr uint64_t kFirstBulkRead = uint64_t(1) << 40; // no wgmma's
  /// A bulk copy from shared memory: cp.reduce.async.bulk or, to `box`,
  /// cp.async.bulk.tensor.
  struct BulkRead {
    uint64_t dest, reads; // which reads of shared memory
    uint32_t source, bytes;
    TensorBox box;
  };
  struct Barrier { // mbarrier
    uint32_t offset;
    int agent;
    uint32_t count, pending;
    int64_t bytes = 0;
    uint32_t phase = 0; // completed ones
    int warp;           // that made it, and when
    uint32_t made;
    bool fenced = false;
    Knowledge arriving, completed;
    std::array<uint32_t, kMaxWarps> lanes{}; // that arrived in this phase
  };
  struct BulkCopy {
    TensorBox box;
    uint32_t dest, bytes;
    Barrier *barrier;
  };
  /// The accumulator registers of products in flight. A register of it holds a
  /// token, a NaN of its own, until a wait gives its value.
  struct Accumulator {
    int id, count;
    std::vector<float> values; // [lane][register]
    uint64_t lastGroup = 0;
  };
  struct Product {
    const Inst *inst;
    Accumulator *accumulator;
    uint64_t group;
    uint64_t descA, descB;
    std::vector<uint32_t> wordsA; // [lane][4]
  };
  struct Thread {
    int index, warp, lane;
    Fiber fiber = nullptr;
    enum { Runnable, InWarp, InBarrier, InPhase, Ended } state = Runnable;
    // Where it is and with which registers.
    int site = -1;
    const Inst *inst = nullptr;
    uint64_t *registers = nullptr;
    // InPhase: waits for the completion of a phase of this parity.
    Barrier *barrier = nullptr;
    uint32_t parity = 0;
    // Copies not waited for, by group; the last group is open.
    std::deque<std::vector<Copy>> copies = std::deque<std::vector<Copy>>(1);
    // The same for additions by bulk copies.
    std::deque<std::vector<BulkRead>> bulkReads =
        std::deque<std::vector<BulkRead>>(1);
  };
  struct Warp {
    int index;
    uint32_t runnable = 0, arrived = 0, alive = 0; // lanes
    uint32_t syncs = 0;                            // barriers passed
    // Lanes that accessed shared memory by themselves since the last barrier.
    uint32_t unordered = 0;
    int registers = 0; // per thread, when it has said so
    size_t issued = 0; // products
    Knowledge known;
    // Products in order; groups are numbered from 1.
    std::deque<Product> products;
    uint64_t group = 1, retired = 0;
    bool fenced = false;
    std::deque<std::unique_ptr<Accumulator>> accumulators;
  };
  struct NamedBarrier {
    int expected = 0, arrived = 0;
    Knowledge known;
    std::vector<int> warps; // that wait
  };

  // Scheduling.
  static void enter(void *thread);
  void runBlock();
  void resume(Thread &thread);
  void yield();
  [[noreturn]] void fail(const llvm::Twine &what);
  void check(const std::string &problem);
  std::string whereIs(const Thread &thread) const;
  std::string deadlock() const;
  bool chance(uint32_t percent) { return random() % 100 < percent; }
  uint32_t random() { return uint32_t(generator()); }

  // One thread.
  uint64_t value(const Operand &operand) const {
    return operand.reg < 0 ? uint64_t(operand.constant)
                           : current->registers[operand.reg];
  }
  uint32_t word(const Operand &operand) const {
    return uint32_t(value(operand));
  }
  uint32_t sharedOffset(uint64_t address);
  SharedMemory::Access access() const;
  /// By all of the current warp's threads together.
  SharedMemory::Access warpAccess(bool async = false) const;
  bool skips() const { return launch.skipped.contains(current->site); }
  void copyAsync(const Inst &inst);
  void perform(Copy &copy);
  void waitForCopies(size_t pending);
  Barrier &barrierAt(const Operand &operand);
  void initBarrier(const Inst &inst);
  void reduceGlobal(const Inst &inst);
  void startSum(const Inst &inst);
  void tensorStore(const Inst &inst);
  void startBulkRead(BulkRead read);
  void perform(const BulkRead &read);
  void waitForBulkReads(size_t pending);
  void arrive(Barrier &barrier);
  void completeIfDone(Barrier &barrier);
  bool tryWait(const Inst &inst);
  /// The box of an instruction whose coordinates begin with operand `first`.
  TensorBox boxOf(const Inst &inst, const Operand &map, size_t first);
  void tensorLoad(const Inst &inst);
  void perform(BulkCopy &copy);

  // A warp.
  bool gather(const Inst &inst);
  void collective(Warp &warp, const Inst &inst);
  uint64_t &lane(Warp &warp, int lane, const Operand &operand);
  uint64_t laneValue(Warp &warp, int lane, const Operand &operand);
  void shuffle(Warp &warp, const Inst &inst);
  void matrices(Warp &warp, const Inst &inst);
  void mma(Warp &warp, const Inst &inst);
  void arriveAtBarrier(Warp &warp, const Inst &inst);
  void release(Knowledge &to, Warp &warp);
  void passBarrier(Warp &warp);
  void setRegisters(Warp &warp, const Inst &inst);
  void issue(Warp &warp, const Inst &inst);
  void readOperands(Warp &warp, const Product &product);
  void compute(Warp &warp, Product &product);
  void retire(Warp &warp, const Inst &inst);
  Accumulator *find(Warp &warp, uint32_t word, int &reg);

  llvm::ArrayRef<Site> sites;
  const Launch &launch;
  SharedMemory shared;
  Stacks &stacks;
  std::mt19937_64 generator;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::map<uint32_t, Barrier> barriers;
  std::map<uint32_t, NamedBarrier> named;
  std::vector<BulkCopy> bulkCopies;
  std::vector<std::vector<const Inst *>> groupProducts; // of four warps
  uint64_t bulkReadCount = 0;
  Thread *current = nullptr;
  Fiber scheduler = nullptr;
  int64_t block = 0;
  int alive = 0;
  int nextAccumulator = 1;
  std::string error;
  const Range *lastRange = nullptr;
};

} // namespace fa::emulate

#endif // FA_EMULATE_MACHINE_H
