//===- Emulator.h - C interface of the kernel emulator ----------*- C++ -*-===//
//
// libfa_emulator.so runs a kernel's LLVM IR (for NVPTX) on the host, to check
// results and synchronisation where there is no GPU. It is a test tool: it is
// not part of the product. test/emulator/emulate.py is its only user.
//
// The IR is compiled for the host. What the host cannot execute, NVVM
// intrinsics and inline assembly, becomes calls of a Machine. Errors are texts
// written to `error` (of `errorSize` bytes); such a function gives null or 1.
// A process emulates one kernel at a time.
//
//===----------------------------------------------------------------------===//

#ifndef FA_EMULATE_EMULATOR_H
#define FA_EMULATE_EMULATOR_H

#include "Machine.h"

#pragma GCC visibility push(default)
extern "C" {
struct fa_emulator;

struct fa_emulation {
  const char *entry;     // function
  const uint64_t *words; // its arguments but for the tensor maps, 8 bytes each
  int64_t numWords;
  const fa::emulate::TensorMap *maps; // the arguments that follow
  int64_t numMaps;
  const fa::emulate::Range *ranges; // of global memory
  int64_t numRanges;
  const int64_t *blocks; // to run, in this order
  int64_t numBlocks;
  int64_t gridBlocks, threads, sharedBytes;
  uint64_t seed;
  const int64_t *skipped; // sites whose synchronisation is left out
  int64_t numSkipped;
};

/// Compiles the text of an LLVM module; if `chip` is not empty, after LLVM's
/// optimisations for it.
fa_emulator *fa_emulator_create(const char *text, size_t size, const char *chip,
                                char *error, size_t errorSize);
void fa_emulator_destroy(fa_emulator *emulator);
/// One line per site that synchronises: its number, a tab, what it is, a tab
/// and its text.
const char *fa_emulator_sites(fa_emulator *emulator);
int fa_emulator_run(fa_emulator *emulator, const fa_emulation *emulation,
                    char *error, size_t errorSize);
}
#pragma GCC visibility pop

#endif // FA_EMULATE_EMULATOR_H
