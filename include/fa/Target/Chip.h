//===- Chip.h - What the compiler knows about each chip ---------*- C++ -*-===//

#ifndef FA_TARGET_CHIP_H
#define FA_TARGET_CHIP_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include <cstdint>
#include <string>

namespace mlir::fa {

/// One GPU target. A plain table; a new chip is a new row.
struct Chip {
  llvm::StringLiteral name;
  /// Compute capability, major * 10 + minor.
  int capability;
  /// Shared memory that one block may use, in bytes.
  int64_t sharedBytes;
  /// Lowest PTX version with the instructions that we emit, major * 10 + minor.
  int ptxVersion;
  /// Elements that one mma.sync of 16-bit factors sums: m16n8k8 or m16n8k16.
  int64_t mmaDepth;
  bool hasBF16;
  bool hasCpAsync;
  /// wgmma, tensor maps and other bulk copies.
  bool hasWgmma;
  /// What one multiprocessor has for its blocks; each also takes
  /// `reservedShared` bytes of shared memory for the system.
  int64_t sharedPerSM, reservedShared, threadsPerSM, blocksPerSM;
  /// The device whose speeds follow: dense products of 16-bit factors with sums
  /// in f32, TFLOP/s, and memory, GB/s, as its data sheet says.
  llvm::StringLiteral device;
  double teraflops, gigabytes;

  /// FLOP per byte from which on products limit a kernel, not memory.
  double getRidge() const { return teraflops * 1000 / gigabytes; }
  /// How many blocks a multiprocessor holds at once.
  int64_t getBlocksPerSM(int64_t threads, int64_t registersPerThread,
                         int64_t sharedBytes) const;
};

/// The row of `name`, or null.
const Chip *findChip(llvm::StringRef name);
/// All rows.
llvm::ArrayRef<Chip> getChips();

/// Why nothing is compiled for `name`, which is neither a chip nor `cpu`, and
/// what to use instead.
std::string explainUnknownChip(llvm::StringRef name);

/// The chip whose code a device of this compute capability runs: its own, or
/// the newest that has no more shared memory than the device; null when the
/// device is older than all. Docs: docs/targets.md.
const Chip *findChipOfDevice(int major, int minor);

} // namespace mlir::fa

#endif // FA_TARGET_CHIP_H
