//===- Chip.cpp - What the compiler knows about each chip -----------------===//

#include "fa/Target/Chip.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir::fa;

static constexpr Chip kChips[] = {
    // name, capability, shared, PTX, mma k, bf16, cp.async, wgmma
    {"sm_75", 75, 64 * 1024, 65, 8, false, false, false},
    {"sm_80", 80, 163 * 1024, 70, 16, true, true, false},
    {"sm_86", 86, 99 * 1024, 71, 16, true, true, false},
    {"sm_89", 89, 99 * 1024, 78, 16, true, true, false},
    {"sm_90a", 90, 227 * 1024, 81, 16, true, true, true},
};

const Chip *mlir::fa::findChip(llvm::StringRef name) {
  for (const Chip &chip : kChips)
    if (chip.name == name)
      return &chip;
  return nullptr;
}

llvm::ArrayRef<Chip> mlir::fa::getChips() { return kChips; }

const Chip *mlir::fa::findChipOfDevice(int major, int minor) {
  int capability = major * 10 + minor;
  if (capability < kChips[0].capability)
    return nullptr;
  for (const Chip &chip : kChips)
    if (chip.capability == capability)
      return &chip;
  // Consumer Blackwell has the shared memory of Ada. Others, and devices that
  // are not known yet, have that of sm_80 at least; the launcher checks.
  return findChip(major == 12 ? "sm_89" : capability < 80 ? "sm_75" : "sm_80");
}

std::string mlir::fa::explainUnknownChip(llvm::StringRef name) {
  std::string allowed = "allowed are cpu";
  for (const Chip &chip : kChips)
    allowed += ", " + chip.name.str();
  std::string is = "chip is '" + name.str() + "'";
  llvm::StringRef digits = name;
  int capability = 0;
  if (digits.consume_front("sm_"))
    digits.rtrim("af").getAsInteger(10, capability);
  if (capability == 70 || capability == 72)
    return is + " (Volta), which is planned and not supported yet; " + allowed;
  if (capability > 80 && capability < 200)
    return llvm::formatv(
        "{0}, which has no code of its own: its devices run "
        "what is compiled for {1}; {2}",
        is, findChipOfDevice(capability / 10, capability % 10)->name, allowed);
  return is + "; " + allowed;
}
