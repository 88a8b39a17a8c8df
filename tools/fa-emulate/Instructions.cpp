//===- Instructions.cpp - What the instructions do ------------------------===//

#include "Machine.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/FormatVariadic.h"
#include <cmath>
#include <cstring>

using namespace llvm;
using namespace fa::emulate;

//===----------------------------------------------------------------------===//
// Numbers
//===----------------------------------------------------------------------===//

static float halfToFloat(uint16_t bits) {
  static const std::vector<float> table = [] {
    std::vector<float> values(65536);
    for (uint32_t bits = 0; bits < 65536; ++bits) {
      uint32_t exponent = bits >> 10 & 31, fraction = bits & 1023;
      float value = exponent == 31  ? (fraction ? NAN : INFINITY)
                    : exponent == 0 ? std::ldexp(float(fraction), -24)
                                    : std::ldexp(float(1024 + fraction),
                                                 int(exponent) - 25);
      values[bits] = bits & 0x8000 ? -value : value;
    }
    return values;
  }();
  return table[bits];
}

static float toFloat(uint16_t bits, bool bf16) {
  return bf16 ? bit_cast<float>(uint32_t(bits) << 16) : halfToFloat(bits);
}

//===----------------------------------------------------------------------===//
// cp.async
//===----------------------------------------------------------------------===//

void Machine::copyAsync(const Inst &inst) {
  Copy copy;
  copy.size = inst.count;
  copy.dest = sharedOffset(value(inst.args[0]));
  copy.source = value(inst.args[1]);
  copy.bytes = inst.args.size() > 2 ? word(inst.args[2]) : copy.size;
  copy.site = current->site;
  copy.performed = false;
  if (copy.bytes > copy.size)
    fail(formatv("copies {0} of {1} bytes", int32_t(copy.bytes), copy.size));
  if (copy.dest % copy.size || (copy.bytes && copy.source % copy.size))
    fail(formatv("the addresses are not multiples of {0} bytes", copy.size));
  if (copy.bytes) {
    accessGlobal(copy.site, copy.source, 1);
    accessGlobal(copy.site, copy.source + copy.bytes - 1, 1);
  }
  check(shared.beginCopy(copy.dest, copy.size, access()));
  // The bytes may be there before the wait, but nobody can know.
  if (chance(30))
    perform(copy);
  current->copies.back().push_back(copy);
}

void Machine::perform(Copy &copy) {
  if (copy.performed)
    return;
  copy.performed = true;
  char *dest = shared.pointer(copy.dest);
  std::memcpy(dest, reinterpret_cast<const char *>(copy.source), copy.bytes);
  std::memset(dest + copy.bytes, 0, copy.size - copy.bytes);
}

/// All groups but the last `pending` ones are done; the open one is none.
void Machine::waitForCopies(size_t pending) {
  Thread &thread = *current;
  while (thread.copies.size() - 1 > pending) {
    for (Copy &copy : thread.copies.front()) {
      perform(copy);
      shared.endCopy(copy.dest, copy.size, access());
    }
    thread.copies.pop_front();
  }
}

void Machine::reduceGlobal(const Inst &inst) {
  uint64_t address = value(inst.args[0]);
  accessGlobal(current->site, address, 4 * inst.count);
  float *sums = reinterpret_cast<float *>(address);
  for (int i = 0; i < inst.count; ++i)
    sums[i] += bit_cast<float>(word(inst.args[1 + i]));
}

//===----------------------------------------------------------------------===//
// mbarriers and bulk copies
//===----------------------------------------------------------------------===//

void Machine::startSum(const Inst &inst) {
  BulkRead sum = {};
  sum.dest = value(inst.args[0]);
  sum.source = sharedOffset(value(inst.args[1]));
  sum.bytes = word(inst.args[2]);
  if (sum.dest % 16 || sum.source % 16 || sum.bytes % 16 || !sum.bytes)
    fail("the addresses and bytes of a bulk copy are no multiples of 16");
  accessGlobal(current->site, sum.dest, 4);
  accessGlobal(current->site, sum.dest + sum.bytes - 4, 4);
  startBulkRead(sum);
}

void Machine::tensorStore(const Inst &inst) {
  // [map, {coordinates}], [source]
  BulkRead store = {};
  store.box = boxOf(inst, inst.args[0], 1);
  store.source = sharedOffset(value(inst.args[1 + inst.count]));
  store.bytes = store.box.bytes();
  if (store.source % 128)
    fail("the source is not a multiple of 128 bytes");
  startBulkRead(store);
}

void Machine::startBulkRead(BulkRead read) {
  read.reads = kFirstBulkRead + ++bulkReadCount;
  SharedMemory::Access reader = access();
  reader.async = true;
  check(shared.beginRead(read.source, read.bytes, reader, read.reads));
  current->bulkReads.back().push_back(read);
}

/// The bytes are read as late as can be: when all groups but the last
/// `pending` have been.
void Machine::waitForBulkReads(size_t pending) {
  Thread &thread = *current;
  Warp &warp = warps[thread.warp];
  while (thread.bulkReads.size() - 1 > pending) {
    for (const BulkRead &read : thread.bulkReads.front()) {
      perform(read);
      shared.endReads(warp.index, read.reads, read.reads,
                      warp.known.generic.time[warp.index]);
    }
    thread.bulkReads.pop_front();
  }
}

Machine::Barrier &Machine::barrierAt(const Operand &operand) {
  uint32_t offset = sharedOffset(value(operand));
  auto it = barriers.find(offset);
  if (it == barriers.end())
    fail(formatv("there is no mbarrier at shared byte {0}",
                 offset - SharedMemory::kReserved));
  Barrier &barrier = it->second;
  if (warps[current->warp].known.generic.time[barrier.warp] < barrier.made)
    fail("no barrier orders this after the mbarrier was made");
  return barrier;
}

void Machine::initBarrier(const Inst &inst) {
  uint32_t offset = sharedOffset(value(inst.args[0]));
  check(shared.beginBarrier(offset, access()));
  if (barriers.size() == kMaxBarriers)
    fail(formatv("more than {0} mbarriers", kMaxBarriers));
  Barrier barrier;
  barrier.offset = offset;
  barrier.agent = kMaxWarps + barriers.size();
  barrier.count = barrier.pending = word(inst.args[1]);
  barrier.warp = current->warp;
  barrier.made = warps[current->warp].known.generic.time[current->warp];
  if (!barrier.count)
    fail("an mbarrier of no arrivals");
  barriers.emplace(offset, barrier);
}

void Machine::arrive(Barrier &barrier) {
  if (!barrier.pending)
    fail("more arrivals in a phase than the mbarrier was made for");
  --barrier.pending;
  Warp &warp = warps[current->warp];
  uint32_t &lanes = barrier.lanes[warp.index];
  lanes |= 1u << current->lane;
  // Unless a barrier of the warp came between, this says nothing of what other
  // threads of the warp do with shared memory.
  uint32_t &time = warp.known.generic.time[warp.index];
  bool partly = warp.unordered & ~lanes;
  time -= partly;
  barrier.arriving.join(warp.known);
  time += partly;
  if (!partly)
    ++time;
  completeIfDone(barrier);
}

void Machine::completeIfDone(Barrier &barrier) {
  if (barrier.pending || barrier.bytes)
    return;
  ++barrier.phase;
  barrier.pending = barrier.count;
  barrier.lanes.fill(0);
  barrier.completed = barrier.arriving;
  barrier.completed.generic.time[barrier.agent] = barrier.phase;
  barrier.completed.async.time[barrier.agent] = barrier.phase;
  for (Thread &thread : threads)
    if (thread.state == Thread::InPhase && thread.barrier == &barrier &&
        (barrier.phase & 1) != thread.parity)
      warps[thread.warp].runnable |= 1u << thread.lane;
}

/// Whether the phase of a parity is complete; waits a while or for good.
bool Machine::tryWait(const Inst &inst) {
  Thread &thread = *current;
  Barrier &barrier = barrierAt(inst.args[1]);
  uint32_t parity = word(inst.args[2]) & 1;
  while ((barrier.phase & 1) == parity) {
    if (chance(10)) {
      warps[thread.warp].runnable |= 1u << thread.lane;
      yield();
      return false;
    }
    thread.barrier = &barrier;
    thread.parity = parity;
    thread.state = Thread::InPhase;
    yield();
  }
  Knowledge &known = warps[thread.warp].known;
  uint32_t time = known.generic.time[thread.warp];
  known.join(barrier.completed);
  known.generic.time[thread.warp] = time;
  // Another thread of the warp may have arrived.
  ++warps[thread.warp].syncs;
  return true;
}

int64_t TensorBox::rows() const {
  int64_t rows = 1;
  for (int dim = 1; dim < map->rank; ++dim)
    rows *= map->box[dim];
  return rows;
}

TensorBox Machine::boxOf(const Inst &inst, const Operand &map, size_t first) {
  TensorBox box = {};
  uint64_t address = value(map);
  for (const TensorMap &known : launch.maps)
    if (reinterpret_cast<uint64_t>(&known) == address)
      box.map = &known;
  if (!box.map)
    fail("the address is not that of a tensor map");
  if (box.map->rank != inst.count)
    fail(formatv("{0} coordinates for a tensor map of {1} dimensions",
                 inst.count, box.map->rank));
  for (int i = 0; i < inst.count; ++i)
    box.coordinates[i] = int32_t(word(inst.args[first + i]));
  if (box.map->swizzle && box.map->box[0] * 2 > box.map->swizzle)
    fail(formatv("a box of {0} bytes for a swizzle of {1}", 2 * box.map->box[0],
                 box.map->swizzle));
  return box;
}

void Machine::tensorLoad(const Inst &inst) {
  // [dest], [map, {coordinates}], [mbarrier]
  BulkCopy copy;
  copy.dest = sharedOffset(value(inst.args[0]));
  copy.box = boxOf(inst, inst.args[1], 2);
  copy.bytes = copy.box.bytes();
  copy.barrier = &barrierAt(inst.args[2 + inst.count]);
  if (!copy.barrier->fenced)
    fail("the mbarrier was made without fence.mbarrier_init");
  if (copy.dest % 128)
    fail("the destination is not a multiple of 128 bytes");
  check(shared.beginCopy(copy.dest, copy.bytes, warpAccess(/*async=*/true)));
  bulkCopies.push_back(copy);
}

/// Where the hardware puts the byte at `address` of a swizzled matrix: 16-byte
/// chunks are permuted by the number of their 128-byte line.
static uint32_t swizzled(uint32_t address, int64_t swizzle) {
  uint32_t mask = swizzle ? swizzle / 16 - 1 : 0;
  return address ^ (address >> 7 & mask) << 4;
}

/// Calls `visit` for each element of a box, with its address in the tensor, 0
/// outside of that, and its place in the box in shared memory from `start` on.
static void visitBox(const TensorBox &box, uint32_t start,
                     function_ref<void(uint64_t, uint32_t)> visit) {
  const TensorMap &map = *box.map;
  for (int64_t row = 0, rows = box.rows(); row < rows; ++row) {
    int64_t rest = row;
    uint64_t line = map.address;
    bool inside = true;
    for (int dim = 1; dim < map.rank; ++dim) {
      int64_t index = box.coordinates[dim] + rest % map.box[dim];
      rest /= map.box[dim];
      inside &= index >= 0 && index < map.sizes[dim];
      line += index * map.strides[dim];
    }
    for (int64_t col = 0; col < map.box[0]; ++col) {
      int64_t index = box.coordinates[0] + col;
      bool exists = inside && index >= 0 && index < map.sizes[0];
      uint32_t place = start + 2 * (row * map.box[0] + col);
      visit(exists ? line + 2 * index : 0, swizzled(place, map.swizzle));
    }
  }
}

void Machine::perform(BulkCopy &copy) {
  visitBox(copy.box, copy.dest, [&](uint64_t address, uint32_t place) {
    uint16_t value = 0;
    if (address)
      std::memcpy(&value, reinterpret_cast<char *>(address), 2);
    std::memcpy(shared.pointer(place), &value, 2);
  });
  Barrier &barrier = *copy.barrier;
  shared.endCopy(copy.dest, copy.bytes, barrier.agent, barrier.phase + 1);
  barrier.bytes -= copy.bytes;
  completeIfDone(barrier);
}

void Machine::perform(const BulkRead &read) {
  if (read.box.map) {
    visitBox(read.box, read.source, [&](uint64_t address, uint32_t place) {
      if (address)
        std::memcpy(reinterpret_cast<char *>(address), shared.pointer(place),
                    2);
    });
    return;
  }
  float *dest = reinterpret_cast<float *>(read.dest);
  auto *source = reinterpret_cast<const float *>(shared.pointer(read.source));
  for (uint32_t i = 0; i < read.bytes / 4; ++i)
    dest[i] += source[i];
}

//===----------------------------------------------------------------------===//
// Warps
//===----------------------------------------------------------------------===//

void Machine::shuffle(Warp &warp, const Inst &inst) {
  // result, mask, value, lane, clamp
  const std::vector<Operand> &args = inst.args;
  uint64_t values[32];
  for (int i = 0; i < 32; ++i)
    values[i] = laneValue(warp, i, args[2]);
  for (int i = 0; i < 32; ++i) {
    if (uint32_t(laneValue(warp, i, args[1])) != ~0u)
      fail("a shuffle of some lanes only");
    uint32_t other = uint32_t(laneValue(warp, i, args[3]));
    uint32_t clamp = uint32_t(laneValue(warp, i, args[4]));
    uint32_t segment = clamp >> 8 & 31, last = clamp & 31;
    uint32_t base = i & segment, limit = base | (last & ~segment);
    uint32_t source = inst.butterfly ? i ^ other : base | (other & ~segment);
    lane(warp, i, args[0]) = values[source > limit ? i : source & 31];
  }
}

/// ldmatrix and stmatrix: lane 8 j + i has the address of row i of matrix j. A
/// register holds two neighbours of a row, or, transposed, of a column.
void Machine::matrices(Warp &warp, const Inst &inst) {
  bool store = inst.opcode == Opcode::StoreMatrix;
  // Loads: results, address. Stores: address, values.
  const Operand &address = inst.args[store ? 0 : inst.count];
  for (int matrix = 0; matrix < inst.count; ++matrix) {
    char *rows[8];
    for (int row = 0; row < 8; ++row) {
      uint32_t offset =
          sharedOffset(laneValue(warp, 8 * matrix + row, address));
      if (offset % 16)
        fail("the address of a row is not a multiple of 16 bytes");
      check(store ? shared.write(offset, 16, warpAccess())
                  : shared.read(offset, 16, warpAccess()));
      rows[row] = shared.pointer(offset);
    }
    const Operand &reg = inst.args[store ? 1 + matrix : matrix];
    for (int i = 0; i < 32; ++i)
      for (int half = 0; half < 2; ++half) {
        int row = i / 4, col = 2 * (i % 4) + half;
        if (inst.transpose)
          std::swap(row, col);
        char *element = rows[row] + 2 * col;
        char *place = reinterpret_cast<char *>(&lane(warp, i, reg)) + 2 * half;
        std::memcpy(store ? element : place, store ? place : element, 2);
      }
  }
}

/// c (m x n) += a (m x k) * b (k x n), with m = 16 and k up to 16.
static void multiply(const float (&a)[16][16], const float *b, int k, int n,
                     float *c) {
  for (int row = 0; row < 16; ++row)
    for (int i = 0; i < k; ++i) {
      float left = a[row][i];
      for (int col = 0; col < n; ++col)
        c[row * n + col] += left * b[i * n + col];
    }
}

/// The left factor of a warp's 16 rows from the registers of each lane: four
/// for 16 columns, two for eight.
template <typename F>
static void unpackA(F word, int k, bool bf16, float (&a)[16][16]) {
  for (int i = 0; i < 32; ++i)
    for (int reg = 0; reg < k / 4; ++reg)
      for (int half = 0; half < 2; ++half)
        a[i / 4 + 8 * (reg & 1)][2 * (i % 4) + 8 * (reg >> 1) + half] =
            toFloat(word(i, reg) >> 16 * half & 0xFFFF, bf16);
}

void Machine::mma(Warp &warp, const Inst &inst) {
  // d (4), a (k / 4), b (k / 8), c (4)
  const std::vector<Operand> &args = inst.args;
  const int k = inst.count, firstB = 4 + k / 4, firstC = firstB + k / 8;
  float a[16][16], b[16][8], c[16][8];
  unpackA([&](int i,
              int reg) { return uint32_t(laneValue(warp, i, args[4 + reg])); },
          k, inst.bf16, a);
  for (int i = 0; i < 32; ++i) {
    for (int reg = 0; reg < k / 8; ++reg)
      for (int half = 0; half < 2; ++half)
        b[2 * (i % 4) + 8 * reg + half][i / 4] = toFloat(
            uint32_t(laneValue(warp, i, args[firstB + reg])) >> 16 * half &
                0xFFFF,
            inst.bf16);
    for (int reg = 0; reg < 4; ++reg)
      c[i / 4 + 8 * (reg >> 1)][2 * (i % 4) + (reg & 1)] =
          bit_cast<float>(uint32_t(laneValue(warp, i, args[firstC + reg])));
  }
  multiply(a, &b[0][0], k, 8, &c[0][0]);
  for (int i = 0; i < 32; ++i)
    for (int reg = 0; reg < 4; ++reg)
      lane(warp, i, args[reg]) = bit_cast<uint32_t>(
          c[i / 4 + 8 * (reg >> 1)][2 * (i % 4) + (reg & 1)]);
}

//===----------------------------------------------------------------------===//
// wgmma
//===----------------------------------------------------------------------===//

/// A quiet NaN that names an accumulator and a register of it.
static uint32_t token(int id, int reg) {
  return 0x7FC00000 | uint32_t(id) << 7 | reg;
}

Machine::Accumulator *Machine::find(Warp &warp, uint32_t word, int &reg) {
  if ((word & 0xFFC00000) != 0x7FC00000)
    return nullptr;
  reg = word & 127;
  int id = word >> 7 & 0x7FFF;
  for (auto &accumulator : llvm::reverse(warp.accumulators))
    if (accumulator->id == id && reg < accumulator->count)
      return accumulator.get();
  return nullptr;
}

/// Issued by each of the four warps for its own 16 rows.
void Machine::issue(Warp &warp, const Inst &inst) {
  const std::vector<Operand> &args = inst.args;
  int count = inst.count / 2;
  if (!warp.fenced)
    fail("no wgmma.fence since registers were last written");
  std::vector<const Inst *> &order = groupProducts[warp.index / 4];
  if (warp.issued == order.size())
    order.push_back(&inst);
  else if (order[warp.issued] != &inst)
    fail("the four warps of the group issue products in different orders");
  ++warp.issued;
  const Operand *rest = &args[count];
  Product product;
  product.inst = &inst;
  product.group = warp.group;
  product.descA = product.descB = 0;
  if (inst.registersA) {
    for (int i = 0; i < 32; ++i)
      for (int reg = 0; reg < 4; ++reg)
        product.wordsA.push_back(uint32_t(laneValue(warp, i, rest[reg])));
    rest += 4;
  } else {
    product.descA = laneValue(warp, 0, *rest++);
  }
  product.descB = laneValue(warp, 0, rest[0]);
  bool accumulates = laneValue(warp, 0, rest[1]) != 0;

  // The accumulator of products in flight, or values.
  int reg;
  Accumulator *found =
      accumulates ? find(warp, uint32_t(laneValue(warp, 0, args[0])), reg)
                  : nullptr;
  if (found && found->lastGroup <= warp.retired)
    found = nullptr;
  std::vector<float> values;
  for (int i = 0; i < 32; ++i)
    for (int k = 0; k < count; ++k) {
      uint32_t word = uint32_t(laneValue(warp, i, args[k]));
      int at = 0;
      Accumulator *other = accumulates ? find(warp, word, at) : nullptr;
      if (found) {
        if (other != found || at != k || found->count != count)
          fail("accumulates in registers that a product in flight writes, but "
               "not the same ones in the same order");
      } else if (other && other->lastGroup > warp.retired) {
        fail("reads a register that a product in flight writes");
      } else {
        values.push_back(!accumulates ? 0
                         : other      ? other->values[i * other->count + at]
                                      : bit_cast<float>(word));
      }
    }
  if (!found) {
    auto fresh = std::make_unique<Accumulator>();
    fresh->id = nextAccumulator;
    nextAccumulator = nextAccumulator % 0x7FFF + 1;
    fresh->count = count;
    fresh->values = std::move(values);
    found = fresh.get();
    warp.accumulators.push_back(std::move(fresh));
    for (int i = 0; i < 32; ++i)
      for (int k = 0; k < count; ++k)
        lane(warp, i, args[k]) = token(found->id, k);
  }
  found->lastGroup = warp.group;
  product.accumulator = found;
  readOperands(warp, product);
  warp.products.push_back(std::move(product));
  if (chance(50)) {
    for (Product &product : warp.products)
      compute(warp, product);
  }
}

namespace {
/// A matrix in shared memory as its descriptor says (PTX ISA, "Asynchronous
/// warpgroup level matrix shared memory layout").
struct Descriptor {
  Descriptor(uint64_t bits)
      : start((bits & 0x3FFF) << 4), leading((bits >> 16 & 0x3FFF) << 4),
        stride((bits >> 32 & 0x3FFF) << 4), base(bits >> 49 & 7) {
    static constexpr int kSwizzles[] = {0, 128, 64, 32};
    swizzle = kSwizzles[bits >> 62];
  }

  /// Address of element (index, k) of an operand whose rows along m or n hold
  /// k next to each other, or (`transposed`) the other way round.
  uint32_t address(int index, int k, bool transposed) const {
    uint32_t linear = start;
    if (!transposed) {
      // Groups of eight rows; k = 16 fits in a row of a swizzled matrix.
      linear += index / 8 * stride;
      if (swizzle)
        linear += index % 8 * swizzle + 2 * k;
      else
        linear += index % 8 * 16 + k / 8 * leading + k % 8 * 2;
    } else if (swizzle) {
      // Panels along m or n, groups of eight rows along k.
      int panel = swizzle / 2;
      linear += index / panel * leading + k / 8 * stride + k % 8 * swizzle +
                index % panel * 2;
    } else {
      linear +=
          index / 8 * stride + k / 8 * leading + k % 8 * 16 + index % 8 * 2;
    }
    return swizzled(linear, swizzle);
  }

  uint32_t start, leading, stride, base;
  int swizzle;
};
} // namespace

/// Checks the shared operands and marks them as being read.
void Machine::readOperands(Warp &warp, const Product &product) {
  const Inst &inst = *product.inst;
  auto touch = [&](const Descriptor &matrix, int rows, int first,
                   bool transposed) {
    if (matrix.base)
      fail("a matrix descriptor with a base offset");
    // Chunks of 16 bytes hold eight elements along the contiguous dimension.
    int outer = transposed ? 16 : rows, inner = transposed ? rows : 16;
    for (int i = 0; i < outer; ++i)
      for (int j = 0; j < inner; j += 8) {
        int index = first + (transposed ? j : i), k = transposed ? i : j;
        check(shared.beginRead(matrix.address(index, k, transposed), 16,
                               warpAccess(/*async=*/true), product.group));
      }
  };
  if (!inst.registersA)
    touch(product.descA, 16, warp.index % 4 * 16, inst.transposeA);
  touch(product.descB, inst.count, 0, inst.transposeB);
}

void Machine::compute(Warp &warp, Product &product) {
  if (!product.accumulator)
    return;
  const Inst &inst = *product.inst;
  int n = inst.count, count = n / 2;
  auto element = [&](const Descriptor &matrix, int index, int k,
                     bool transposed) {
    uint16_t bits;
    std::memcpy(&bits, shared.pointer(matrix.address(index, k, transposed)), 2);
    return toFloat(bits, inst.bf16);
  };
  float a[16][16];
  if (inst.registersA) {
    unpackA([&](int i, int reg) { return product.wordsA[4 * i + reg]; }, 16,
            inst.bf16, a);
  } else {
    Descriptor matrix(product.descA);
    for (int row = 0; row < 16; ++row)
      for (int k = 0; k < 16; ++k)
        a[row][k] =
            element(matrix, warp.index % 4 * 16 + row, k, inst.transposeA);
  }
  Descriptor matrix(product.descB);
  std::vector<float> b(16 * n), c(16 * n);
  for (int k = 0; k < 16; ++k)
    for (int col = 0; col < n; ++col)
      b[k * n + col] = element(matrix, col, k, inst.transposeB);
  std::vector<float> &values = product.accumulator->values;
  auto place = [&](int i, int reg) -> float & {
    return c[(i / 4 + 8 * (reg >> 1 & 1)) * n + reg / 4 * 8 + 2 * (i % 4) +
             (reg & 1)];
  };
  for (int i = 0; i < 32; ++i)
    for (int reg = 0; reg < count; ++reg)
      place(i, reg) = values[i * count + reg];
  multiply(a, b.data(), 16, n, c.data());
  for (int i = 0; i < 32; ++i)
    for (int reg = 0; reg < count; ++reg)
      values[i * count + reg] = place(i, reg);
  product.accumulator = nullptr;
}

/// wgmma.wait_group: the tied registers of complete products get their values.
void Machine::retire(Warp &warp, const Inst &inst) {
  uint64_t pending = laneValue(warp, 0, inst.args[0]);
  uint64_t last = warp.group - 1; // committed
  last = last > pending ? last - pending : 0;
  while (!warp.products.empty() && warp.products.front().group <= last) {
    compute(warp, warp.products.front());
    warp.products.pop_front();
  }
  warp.retired = std::max(warp.retired, last);
  warp.fenced = false;
  shared.endReads(warp.index, 0, warp.retired,
                  warp.known.generic.time[warp.index]);
  const Site &site = sites[current->site];
  for (int i = 0; i < 32; ++i)
    for (int result = 0; result < site.numResults; ++result) {
      uint64_t &place = lane(warp, i, {result, 0});
      int reg;
      Accumulator *found = find(warp, uint32_t(place), reg);
      if (found && found->lastGroup <= warp.retired)
        place = bit_cast<uint32_t>(found->values[i * found->count + reg]);
    }
  // Tokens of complete products may still be in registers; keep some.
  while (warp.accumulators.size() > 8 &&
         warp.accumulators.front()->lastGroup <= warp.retired)
    warp.accumulators.pop_front();
}
