//===- CrashSafety.cpp - Crashes inside LLVM become errors ----------------===//

#include "fa/Runtime/Compiler.h"
#include "llvm/Support/CrashRecoveryContext.h"
#include "llvm/Support/ErrorHandling.h"
#include <csignal>
#include <cstring>
#include <mutex>

using namespace mlir;
using namespace mlir::fa;

/// What LLVM said before it gave up, on this thread.
static thread_local std::string fatalReason;

static void onFatalError(void *, const char *reason, bool) {
  auto *context = llvm::CrashRecoveryContext::GetCurrent();
  if (!context)
    return; // not ours: LLVM goes on to abort
  fatalReason = reason;
  context->HandleExit(1); // does not return
}

namespace {
/// The signal handlers are the process's, so they are in place only while
/// something compiles.
class Handlers {
public:
  Handlers() {
    std::lock_guard<std::mutex> lock(mutex());
    if (users()++ == 0) {
      llvm::CrashRecoveryContext::Enable();
      llvm::install_fatal_error_handler(onFatalError);
    }
  }
  ~Handlers() {
    std::lock_guard<std::mutex> lock(mutex());
    if (--users() == 0) {
      llvm::remove_fatal_error_handler();
      llvm::CrashRecoveryContext::Disable();
    }
  }

private:
  static std::mutex &mutex() {
    static auto *instance = new std::mutex;
    return *instance;
  }
  static int &users() {
    static int count = 0;
    return count;
  }
};
} // namespace

llvm::Error mlir::fa::runCrashSafely(llvm::function_ref<llvm::Error()> body) {
  Handlers handlers;
  llvm::CrashRecoveryContext context;
  std::optional<llvm::Error> result;
  std::string reason;
  // Deep recursion in the compiler must not meet a host thread's small stack.
  constexpr unsigned kStackBytes = 64u << 20;
  bool survived = context.RunSafelyOnThread(
      [&] {
        llvm::CrashRecoveryContext inner;
        // The reason is the compiling thread's, so it is read there.
        if (!inner.RunSafely([&] { result.emplace(body()); })) {
          reason = fatalReason;
          fatalReason.clear();
          if (reason.empty())
            reason = "exit code " + std::to_string(inner.RetCode);
          int signal = inner.RetCode - 128;
          if (signal > 0 && signal < NSIG)
            reason = std::string("signal: ") + strsignal(signal);
        }
      },
      kStackBytes);
  if (survived && result)
    return std::move(*result);
  return fail(FA_COMPILE_ERROR, "the compiler crashed ({0})",
              reason.empty() ? "unknown cause" : reason);
}
