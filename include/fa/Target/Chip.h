//===- Chip.h - What the compiler knows about each chip ---------*- C++ -*-===//

#ifndef FA_TARGET_CHIP_H
#define FA_TARGET_CHIP_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include <cstdint>

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
  bool hasWgmma;
};

/// The row of `name`, or null.
const Chip *findChip(llvm::StringRef name);
/// All rows.
llvm::ArrayRef<Chip> getChips();

} // namespace mlir::fa

#endif // FA_TARGET_CHIP_H
