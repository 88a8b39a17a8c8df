//===- Chip.cpp - What the compiler knows about each chip -----------------===//

#include "fa/Target/Chip.h"

using namespace mlir::fa;

static constexpr Chip kChips[] = {
    {"sm_80", 80, 163 * 1024, 70, false},
    {"sm_90a", 90, 227 * 1024, 81, true},
};

const Chip *mlir::fa::findChip(llvm::StringRef name) {
  for (const Chip &chip : kChips)
    if (chip.name == name)
      return &chip;
  return nullptr;
}

llvm::ArrayRef<Chip> mlir::fa::getChips() { return kChips; }
