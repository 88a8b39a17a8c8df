//===- Machine.cpp - Threads that take turns ------------------------------===//

#include "Machine.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include <algorithm>
#include <set>

using namespace llvm;
using namespace fa::emulate;

Machine::Machine(ArrayRef<Site> sites, const Launch &launch, char *window,
                 Stacks &stacks)
    : sites(sites), launch(launch),
      shared(window, launch.sharedBytes, launch.threads / 32), stacks(stacks),
      generator(launch.seed) {}

std::string Machine::run() {
  for (int64_t index : launch.blocks) {
    block = index;
    runBlock();
    if (!error.empty())
      return "block " + std::to_string(block) + ": " + error;
  }
  return {};
}

void Machine::enter(void *argument) {
  Machine &machine = *static_cast<Machine *>(argument);
  machine.launch.kernel(machine.launch.words);
  Thread &thread = *machine.current;
  if (thread.bulkReads.size() > 1 || !thread.bulkReads.front().empty())
    machine.fail("ends before its bulk copies have read shared memory");
  thread.state = Thread::Ended;
  machine.warps[thread.warp].alive &= ~(1u << thread.lane);
  --machine.alive;
  machine.yield();
  __builtin_trap();
}

void Machine::runBlock() {
  shared.clear();
  barriers.clear();
  named.clear();
  bulkCopies.clear();
  groupProducts.assign((launch.threads + 127) / 128, {});
  threads.assign(launch.threads, Thread());
  warps = std::vector<Warp>(launch.threads / 32);
  for (int i = 0; i < launch.threads; ++i) {
    Thread &thread = threads[i];
    thread.index = i;
    thread.warp = i / 32;
    thread.lane = i % 32;
    thread.fiber = stacks.start(i, &enter, this);
  }
  for (auto [index, warp] : enumerate(warps)) {
    warp.index = index;
    warp.runnable = warp.alive = ~0u;
    warp.known.generic.time[index] = 1;
  }
  alive = launch.threads;

  // How long a warp runs before another one's turn, and how soon copies
  // complete: from always at once to never before all threads wait.
  static constexpr uint32_t kPercent[] = {0, 2, 20, 50, 100};
  uint32_t switches = kPercent[random() % 5];
  uint32_t completes = kPercent[random() % 5];
  // One warp that is slower than all others, or none.
  size_t slow = random() % (2 * warps.size());
  size_t turn = 0;
  while (alive && error.empty()) {
    if (!bulkCopies.empty() && chance(completes)) {
      size_t index = random() % bulkCopies.size();
      BulkCopy copy = bulkCopies[index];
      bulkCopies.erase(bulkCopies.begin() + index);
      perform(copy);
    }
    if (!warps[turn].runnable || chance(switches)) {
      SmallVector<size_t> ready;
      for (auto [index, warp] : enumerate(warps))
        if (warp.runnable)
          ready.push_back(index);
      if (ready.size() > 1)
        llvm::erase(ready, slow);
      if (ready.empty()) {
        if (bulkCopies.empty()) {
          error = deadlock();
          return;
        }
        size_t index = random() % bulkCopies.size();
        BulkCopy copy = bulkCopies[index];
        bulkCopies.erase(bulkCopies.begin() + index);
        perform(copy);
        continue;
      }
      turn = ready[random() % ready.size()];
    }
    // Each lane once, from a random one.
    Warp &warp = warps[turn];
    int first = random() % 32;
    for (int i = 0; i < 32 && error.empty(); ++i) {
      int lane = (first + i) % 32;
      if (warp.runnable >> lane & 1)
        resume(threads[32 * turn + lane]);
    }
  }
  if (error.empty() && !bulkCopies.empty())
    error = "the block ended while a bulk copy to its shared memory was in "
            "flight";
}

void Machine::resume(Thread &thread) {
  current = &thread;
  warps[thread.warp].runnable &= ~(1u << thread.lane);
  thread.state = Thread::Runnable;
  fa_emulate_switch(&scheduler, thread.fiber);
}

/// Back to the scheduler, until this thread is marked runnable.
void Machine::yield() {
  Thread &thread = *current;
  fa_emulate_switch(&thread.fiber, scheduler);
}

void Machine::fail(const Twine &what) {
  error = whereIs(*current) + ": " + what.str();
  // Nobody resumes this thread.
  yield();
  __builtin_trap();
}

void Machine::check(const std::string &problem) {
  if (!problem.empty())
    fail(problem);
}

std::string Machine::whereIs(const Thread &thread) const {
  std::string text = formatv("thread {0} (warp {1}, lane {2})", thread.index,
                             thread.warp, thread.lane);
  if (thread.site >= 0)
    text +=
        formatv(" at site #{0} `{1}`", thread.site, sites[thread.site].text);
  return text;
}

std::string Machine::deadlock() const {
  std::string text = "deadlock:";
  std::set<std::pair<int, int>> said; // warp and site
  for (const Thread &thread : threads) {
    if (thread.state == Thread::Ended ||
        !said.insert({thread.warp, thread.site}).second)
      continue;
    text += formatv("\n  warp {0} waits at site #{1} `{2}`", thread.warp,
                    thread.site, sites[thread.site].text);
    if (thread.state == Thread::InWarp)
      text += " for other threads of the warp";
    if (thread.state == Thread::InPhase)
      text += formatv(" for phase parity {0} of the mbarrier at {1}, which has "
                      "completed {2} phases and waits for {3} arrivals and "
                      "{4} bytes",
                      thread.parity,
                      thread.barrier->offset - SharedMemory::kReserved,
                      thread.barrier->phase, thread.barrier->pending,
                      thread.barrier->bytes);
  }
  return text;
}

//===----------------------------------------------------------------------===//
// What the kernel calls
//===----------------------------------------------------------------------===//

uint32_t Machine::sharedOffset(uint64_t address) {
  // Instructions take the low 32 bits of a shared address.
  uint32_t offset = uint32_t(address) - shared.base();
  if (offset < shared.begin() || offset >= shared.end())
    fail(formatv("address {0:x} is not in the kernel's shared memory",
                 uint32_t(address)));
  return offset;
}

SharedMemory::Access Machine::access() const {
  const Warp &warp = warps[current->warp];
  return {warp.index,    current->lane, warp.syncs,
          current->site, &warp.known,   /*async=*/false};
}

SharedMemory::Access Machine::warpAccess(bool async) const {
  SharedMemory::Access result = access();
  result.lane = -1;
  result.async = async;
  return result;
}

void Machine::accessShared(int site, uint64_t address, uint32_t size,
                           bool write) {
  current->site = site;
  uint32_t offset = sharedOffset(address);
  if (offset % size)
    fail(formatv("shared address {0} is not a multiple of {1}",
                 offset - SharedMemory::kReserved, size));
  // What the warp did together before does not count as this thread's.
  Warp &warp = warps[current->warp];
  if (!warp.unordered)
    ++warp.known.generic.time[warp.index];
  warp.unordered |= 1u << current->lane;
  check(write ? shared.write(offset, size, access())
              : shared.read(offset, size, access()));
}

void Machine::accessGlobal(int site, uint64_t address, uint32_t size) {
  if (!lastRange || address < lastRange->begin ||
      address + size > lastRange->end) {
    lastRange = nullptr;
    for (const Range &range : launch.ranges)
      if (address >= range.begin && address + size <= range.end)
        lastRange = &range;
    if (!lastRange) {
      current->site = site;
      std::string near = "no argument is near";
      for (auto [index, range] : enumerate(launch.ranges))
        if (address + 65536 >= range.begin && address < range.end + 65536)
          near = formatv("array {0} has {1} bytes, and this begins at byte {2}",
                         index, range.end - range.begin,
                         int64_t(address - range.begin));
      fail(formatv("touches {0} bytes of global memory outside all arguments; ",
                   size) +
           near);
    }
  }
  if (address % size) {
    current->site = site;
    fail(formatv("global address {0:x} is not a multiple of {1}", address,
                 size));
  }
}

void Machine::execute(int site, uint64_t *registers) {
  Thread &thread = *current;
  const Site &program = sites[site];
  thread.site = site;
  thread.registers = registers;
  for (int i = 0; i < program.numResults; ++i)
    registers[i] = program.tied[i] < 0 ? 0xFFFFFFFFFFFFFFFFull
                                       : registers[program.tied[i]];
  for (size_t pc = 0; pc < program.code.size(); ++pc) {
    const Inst &inst = program.code[pc];
    if (inst.guard >= 0 && bool(registers[inst.guard]) == inst.guardNegated)
      continue;
    const std::vector<Operand> &args = inst.args;
    thread.inst = &inst;
    if (isCollective(inst.opcode) && !(skips() && isBarrier(inst.opcode))) {
      if (gather(inst)) {
        Warp &warp = warps[thread.warp];
        collective(warp, inst);
      }
      continue;
    }
    switch (inst.opcode) {
    case Opcode::Add64:
      registers[args[0].reg] = value(args[1]) + value(args[2]);
      break;
    case Opcode::SetNotEqual32:
      registers[args[0].reg] = word(args[1]) != word(args[2]);
      break;
    case Opcode::Select32:
      registers[args[0].reg] = value(args[3]) ? word(args[1]) : word(args[2]);
      break;
    case Opcode::Branch:
      pc = inst.target - 1;
      break;
    case Opcode::CopyAsync:
      copyAsync(inst);
      break;
    case Opcode::CopyCommit:
      if (!skips())
        thread.copies.emplace_back();
      break;
    case Opcode::CopyWait:
      if (!skips())
        waitForCopies(args.empty() ? 0 : word(args[0]));
      break;
    case Opcode::BarrierInit:
      if (!skips())
        initBarrier(inst);
      break;
    case Opcode::BarrierTryWait:
      registers[args[0].reg] = skips() || tryWait(inst);
      break;
    case Opcode::BarrierArrive:
      if (!skips())
        arrive(barrierAt(args[0]));
      break;
    case Opcode::BarrierExpect:
      if (!skips()) {
        Barrier &barrier = barrierAt(args[0]);
        barrier.bytes += word(args[1]);
        arrive(barrier);
      }
      break;
    case Opcode::FenceBarrierInit:
      if (!skips())
        for (auto &[offset, barrier] : barriers)
          if (barrier.warp == thread.warp)
            barrier.fenced = true;
      break;
    case Opcode::FenceProxy:
      if (!skips()) {
        Knowledge &known = warps[thread.warp].known;
        known.async = known.generic;
      }
      break;
    case Opcode::TensorLoad:
      tensorLoad(inst);
      break;
    case Opcode::ReduceGlobal:
      reduceGlobal(inst);
      break;
    case Opcode::TensorStore:
      tensorStore(inst);
      break;
    case Opcode::BulkReduce:
      startSum(inst);
      break;
    case Opcode::BulkCommit:
      if (!skips())
        thread.bulkReads.emplace_back();
      break;
    case Opcode::BulkWait:
      if (!skips())
        waitForBulkReads(word(args[0]));
      break;
    case Opcode::WarpSync:
    case Opcode::BlockBarrier:
    case Opcode::BlockArrive:
      break; // left out
    default:
      fail("an instruction that is not implemented");
    }
  }
}

//===----------------------------------------------------------------------===//
// A warp comes together
//===----------------------------------------------------------------------===//

/// Waits until all lanes are at `inst`; true in the last one, which executes it
/// for all.
bool Machine::gather(const Inst &inst) {
  Thread &thread = *current;
  Warp &warp = warps[thread.warp];
  if (warp.alive != ~0u)
    fail("executed by a warp some of whose threads have ended");
  if (warp.arrived) {
    Thread &other = threads[32 * warp.index + countr_zero(warp.arrived)];
    if (other.inst != &inst)
      fail("the warp has diverged: " + whereIs(other));
  }
  warp.arrived |= 1u << thread.lane;
  if (warp.arrived == ~0u) {
    warp.arrived = 0;
    return true;
  }
  thread.state = Thread::InWarp;
  yield();
  return false;
}

void Machine::collective(Warp &warp, const Inst &inst) {
  switch (inst.opcode) {
  case Opcode::Shuffle:
    shuffle(warp, inst);
    break;
  case Opcode::VoteAny: {
    // Result, mask, predicate.
    bool any = false;
    for (int i = 0; i < 32; ++i)
      any |= laneValue(warp, i, inst.args[2]) & 1;
    for (int i = 0; i < 32; ++i)
      lane(warp, i, inst.args[0]) = any;
    break;
  }
  case Opcode::Elect:
    // Results: a lane and whether it is this one.
    for (int i = 0; i < 32; ++i) {
      lane(warp, i, inst.args[0]) = 0;
      lane(warp, i, inst.args[1]) = i == 0;
    }
    break;
  case Opcode::WarpSync:
    passBarrier(warp);
    break;
  case Opcode::SetRegisters:
    setRegisters(warp, inst);
    break;
  case Opcode::LoadMatrix:
  case Opcode::StoreMatrix:
    matrices(warp, inst);
    break;
  case Opcode::Mma:
    mma(warp, inst);
    break;
  case Opcode::BlockBarrier:
  case Opcode::BlockArrive:
    arriveAtBarrier(warp, inst);
    return;
  case Opcode::WgmmaFence:
    warp.fenced |= !skips();
    break;
  case Opcode::Wgmma:
    issue(warp, inst);
    break;
  case Opcode::WgmmaCommit:
    if (!skips())
      ++warp.group;
    break;
  case Opcode::WgmmaWait:
    if (!skips())
      retire(warp, inst);
    break;
  default:
    fail("an instruction that is not implemented");
  }
  // The other lanes go on; this one does.
  warp.runnable = ~0u & ~(1u << current->lane);
}

uint64_t &Machine::lane(Warp &warp, int lane, const Operand &operand) {
  return threads[32 * warp.index + lane].registers[operand.reg];
}

uint64_t Machine::laneValue(Warp &warp, int index, const Operand &operand) {
  return operand.reg < 0 ? uint64_t(operand.constant)
                         : lane(warp, index, operand);
}

void Machine::release(Knowledge &to, Warp &warp) {
  to.join(warp.known);
  ++warp.known.generic.time[warp.index];
}

/// The accesses of the warp's threads are ordered for each other.
void Machine::passBarrier(Warp &warp) {
  ++warp.syncs;
  warp.unordered = 0;
}

/// setmaxnreg: a block starts with an even share of the registers, and warps
/// can only take what others gave back.
void Machine::setRegisters(Warp &warp, const Inst &inst) {
  int share = 65536 / launch.threads / 8 * 8;
  warp.registers = int(laneValue(warp, 0, inst.args[0]));
  if (warp.registers < 24 || warp.registers > 256 || warp.registers % 8)
    fail(
        formatv("{0} registers per thread; allowed: 24 to 256, a multiple of 8",
                warp.registers));
  int total = 0;
  for (Warp &other : warps)
    total += other.registers ? other.registers : 24;
  if (total > share * int(warps.size()))
    fail(
        formatv("the warps take {0} registers per lane together, and the block "
                "has {1}",
                total, share * int(warps.size())));
}

void Machine::arriveAtBarrier(Warp &warp, const Inst &inst) {
  const std::vector<Operand> &args = inst.args;
  uint32_t all = ~0u & ~(1u << current->lane);
  uint32_t id = uint32_t(laneValue(warp, 0, args[0]));
  int expected =
      inst.hasCount ? int(laneValue(warp, 0, args[1])) : launch.threads;
  if (id > 15)
    fail(formatv("barrier {0}; a block has 16", id));
  if (expected % 32 || expected < 32 || expected > launch.threads)
    fail(formatv("a barrier of {0} threads in a block of {1}", expected,
                 launch.threads));
  NamedBarrier &barrier = named[id];
  if (!barrier.arrived) {
    barrier.expected = expected;
  } else if (barrier.expected != expected) {
    fail(formatv("barrier {0} is used in two ways at once: for {1} and for {2} "
                 "threads",
                 id, barrier.expected, expected));
  }
  barrier.arrived += 32;
  release(barrier.known, warp);
  passBarrier(warp);
  bool waits = inst.opcode != Opcode::BlockArrive;
  if (waits)
    barrier.warps.push_back(warp.index);
  bool done = barrier.arrived == barrier.expected;
  if (done) {
    for (int index : barrier.warps) {
      Warp &other = warps[index];
      uint32_t time = other.known.generic.time[index];
      other.known.join(barrier.known);
      other.known.generic.time[index] = time;
      other.runnable = &other == &warp ? all : ~0u;
    }
    named.erase(id);
  }
  if (!waits) {
    warp.runnable = all;
  } else if (!done) {
    warp.runnable = 0;
    for (int i = 0; i < 32; ++i)
      threads[32 * warp.index + i].state = Thread::InBarrier;
    yield();
  }
}
