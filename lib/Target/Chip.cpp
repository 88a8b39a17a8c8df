//===- Chip.cpp - What the compiler knows about each chip -----------------===//

#include "fa/Target/Chip.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MathExtras.h"
#include <algorithm>

using namespace mlir::fa;

static constexpr int64_t KiB = 1024;

static constexpr Chip kChips[] = {
    // name, capability, shared, PTX, mma k, bf16, cp.async, wgmma,
    // of a multiprocessor: shared, reserved of it, threads, blocks,
    // device, TFLOP/s, GB/s
    {"sm_75", 75, 64 * KiB, 65, 8, false, false, false, //
     64 * KiB, 0, 1024, 16, "T4", 65, 320},
    {"sm_80", 80, 163 * KiB, 70, 16, true, true, false, //
     164 * KiB, KiB, 2048, 32, "A100 SXM 80 GB", 312, 2039},
    {"sm_86", 86, 99 * KiB, 71, 16, true, true, false, //
     100 * KiB, KiB, 1536, 16, "A10", 125, 600},
    {"sm_89", 89, 99 * KiB, 78, 16, true, true, false, //
     100 * KiB, KiB, 1536, 24, "L40S", 362, 864},
    {"sm_90a", 90, 227 * KiB, 81, 16, true, true, true, //
     228 * KiB, KiB, 2048, 32, "H100 SXM", 989, 3350},
};

int64_t Chip::getBlocksPerSM(int64_t threads, int64_t registersPerThread,
                             int64_t sharedBytes) const {
  // Registers are given to warps in units of 256, of 65,536 in all.
  int64_t warps = llvm::divideCeil(threads, 32);
  int64_t perWarp = llvm::alignTo(registersPerThread * 32, 256);
  int64_t blocks = std::min(blocksPerSM, threadsPerSM / (warps * 32));
  if (perWarp)
    blocks = std::min(blocks, 65536 / perWarp / warps);
  if (int64_t shared = sharedBytes + reservedShared)
    blocks = std::min(blocks, sharedPerSM / shared);
  return blocks;
}

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
