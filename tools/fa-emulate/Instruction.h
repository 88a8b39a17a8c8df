//===- Instruction.h - What the emulator executes itself --------*- C++ -*-===//
//
// A site is one call of a kernel's LLVM IR that the host cannot execute: an
// NVVM intrinsic or a piece of inline assembly. Both become short programs of
// PTX instructions over registers of 64 bits. Registers 0 to n - 1 are the
// results and operands of the call, as inline assembly numbers them.
//
//===----------------------------------------------------------------------===//

#ifndef FA_EMULATE_INSTRUCTION_H
#define FA_EMULATE_INSTRUCTION_H

#include "llvm/ADT/SmallVector.h"
#include "llvm/Support/Error.h"
#include <string>
#include <vector>

namespace llvm {
class CallBase;
} // namespace llvm

namespace fa::emulate {

enum class Opcode {
  // One thread by itself.
  Add64,
  SetNotEqual32,
  Select32,
  Branch,
  CopyAsync,  // cp.async: shared, global, bytes of the source
  CopyCommit, // cp.async.commit_group
  CopyWait,   // cp.async.wait_group
  BarrierInit,
  BarrierTryWait,
  BarrierArrive,
  BarrierExpect, // mbarrier.arrive.expect_tx
  FenceBarrierInit,
  FenceProxy,
  TensorLoad,   // cp.async.bulk.tensor from global to shared memory
  ReduceGlobal, // red.global.add.f32
  TensorStore,  // cp.async.bulk.tensor from shared to global memory
  BulkReduce,   // cp.reduce.async.bulk: global, shared, bytes
  BulkCommit,   // cp.async.bulk.commit_group
  BulkWait,     // cp.async.bulk.wait_group.read
  // The 32 threads of a warp together.
  Shuffle,
  VoteAny,
  Elect,
  WarpSync,
  LoadMatrix,
  StoreMatrix,
  Mma,
  SetRegisters,
  BlockBarrier, // all threads, or as many as `hasCount` says
  BlockArrive,
  WgmmaFence,
  Wgmma,
  WgmmaCommit,
  WgmmaWait,
};

/// A register or a constant.
struct Operand {
  int reg = -1;
  int64_t constant = 0;
};

struct Inst {
  Opcode opcode;
  int guard = -1; // predicate register; not executed when it is 0
  bool guardNegated = false;
  std::vector<Operand> args; // results first, as in PTX
  int target = -1;           // of a branch

  // What the mnemonic says.
  // Matrices, k of an mma, columns of a wgmma, bytes of a copy, dimensions.
  int count = 0;
  bool transpose = false, bf16 = false, hasCount = false;
  bool butterfly = false;                                          // shuffle
  bool transposeA = false, transposeB = false, registersA = false; // wgmma
};

struct Site {
  std::string text; // for messages
  std::vector<Inst> code;
  int numRegisters = 0;
  int numResults = 0;
  /// Result `i` starts as the operand in register `tied[i]`; -1: undefined.
  llvm::SmallVector<int> tied;
  /// What synchronises here, e.g. "mbarrier wait"; empty if nothing does.
  std::string synchronises;
};

/// True for the opcodes that a warp executes together.
inline bool isCollective(Opcode opcode) { return opcode >= Opcode::Shuffle; }

/// True for the barriers of a warp or a block.
inline bool isBarrier(Opcode opcode) {
  return opcode == Opcode::WarpSync || opcode == Opcode::BlockBarrier ||
         opcode == Opcode::BlockArrive;
}

/// The program of a call; fails when it is not known what that does.
llvm::Expected<Site> parseSite(const llvm::CallBase &call);

} // namespace fa::emulate

#endif // FA_EMULATE_INSTRUCTION_H
