//===- ThreadPool.h - Worker threads of the CPU target ----------*- C++ -*-===//

#ifndef FA_RUNTIME_THREADPOOL_H
#define FA_RUNTIME_THREADPOOL_H

#include "llvm/ADT/STLFunctionalExtras.h"
#include <cstdint>

namespace mlir::fa {

/// Calls `body(begin, end)` on disjoint ranges that cover 0..count, on the
/// process-wide worker threads and the calling one; returns when all are done.
/// The workers are those of the process's OpenMP runtime when it keeps as many,
/// so that no core has two threads that want it. Else they start at the first
/// use and again after a fork, and sleep between loops.
void parallelFor(int64_t count,
                 llvm::function_ref<void(int64_t, int64_t)> body);

/// 0 restores the default: what OpenMP's runtime would use (and PyTorch with
/// it: torch.set_num_threads), else OMP_NUM_THREADS, at most the cores that the
/// process may use.
void setNumThreads(int count);
int getNumThreads();

} // namespace mlir::fa

#endif // FA_RUNTIME_THREADPOOL_H
