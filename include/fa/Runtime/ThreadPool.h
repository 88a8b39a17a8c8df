//===- ThreadPool.h - Worker threads of the CPU target ----------*- C++ -*-===//

#ifndef FA_RUNTIME_THREADPOOL_H
#define FA_RUNTIME_THREADPOOL_H

#include "llvm/ADT/STLFunctionalExtras.h"
#include <cstdint>

namespace mlir::fa {

/// Calls `body(begin, end)` on disjoint ranges that cover 0..count, on the
/// process-wide worker threads and the calling one; returns when all are done.
/// Workers start at the first use and again after a fork.
void parallelFor(int64_t count,
                 llvm::function_ref<void(int64_t, int64_t)> body);

/// 0 restores the default: the cores that the process may use.
void setNumThreads(int count);
int getNumThreads();

} // namespace mlir::fa

#endif // FA_RUNTIME_THREADPOOL_H
