//===- CrashSafety.cpp - Crashes inside LLVM become errors ----------------===//

#include "fa/Runtime/Compiler.h"
#include "llvm/Support/CrashRecoveryContext.h"
#include "llvm/Support/ErrorHandling.h"
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <sys/mman.h>

using namespace mlir;
using namespace mlir::fa;

/// What LLVM said before it gave up, on this thread. No std::string: a thread
/// that must register its destructor needs memory, which may be what is
/// missing.
static thread_local char fatalReason[512];

static void onFatalError(void *, const char *reason, bool) {
  auto *context = llvm::CrashRecoveryContext::GetCurrent();
  if (!context)
    return; // not ours: LLVM goes on to abort
  strncpy(fatalReason, reason, sizeof(fatalReason) - 1);
  context->HandleExit(1); // does not return
}

/// operator new found no memory; returning would let it try again.
static void onNoMemory() {
  onFatalError(nullptr, "out of memory", false);
  abort();
}

/// Whether a thread can have a stack of `bytes`, and memory of its own to
/// allocate from: LLVM and the C library end the process where it can't.
static bool hasAddressSpace(size_t bytes) {
  constexpr size_t kArena = 128u << 20; // what glibc's malloc reserves
  void *place = mmap(nullptr, bytes + kArena, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED)
    return false;
  munmap(place, bytes + kArena);
  return true;
}

namespace {
/// A stack for this thread's signal handlers: where its own has overflowed
/// (deep recursion) none could run otherwise, and the process would end.
class SignalStack {
public:
  SignalStack() {
    place = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t stack = {};
    stack.ss_sp = place;
    stack.ss_size = kBytes;
    isSet = place != MAP_FAILED && sigaltstack(&stack, &previous) == 0;
  }
  ~SignalStack() {
    if (isSet)
      sigaltstack(&previous, nullptr);
    if (place != MAP_FAILED)
      munmap(place, kBytes);
  }

private:
  static constexpr size_t kBytes = 128u << 10;
  void *place;
  stack_t previous = {};
  bool isSet;
};

/// The handlers that LLVM has installed run on threads' signal stacks.
void useSignalStacks() {
  for (int signal : {SIGSEGV, SIGBUS}) {
    struct sigaction action;
    if (sigaction(signal, nullptr, &action))
      continue;
    action.sa_flags |= SA_ONSTACK;
    sigaction(signal, &action, nullptr);
  }
}

/// The signal handlers are the process's, so they are in place only while
/// something compiles.
class Handlers {
public:
  Handlers() {
    std::lock_guard<std::mutex> lock(mutex());
    if (users()++ == 0) {
      llvm::CrashRecoveryContext::Enable();
      useSignalStacks();
      llvm::install_fatal_error_handler(onFatalError);
      llvm::install_bad_alloc_error_handler(onFatalError);
      previous() = std::set_new_handler(onNoMemory);
    }
  }
  ~Handlers() {
    std::lock_guard<std::mutex> lock(mutex());
    if (--users() == 0) {
      std::set_new_handler(previous());
      llvm::remove_bad_alloc_error_handler();
      llvm::remove_fatal_error_handler();
      llvm::CrashRecoveryContext::Disable();
    }
  }

private:
  static std::mutex &mutex() {
    static auto *instance = new std::mutex;
    return *instance;
  }
  static std::new_handler &previous() {
    static std::new_handler handler = nullptr;
    return handler;
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
  if (!hasAddressSpace(kStackBytes))
    return fail(FA_COMPILE_ERROR,
                "out of memory: compiling needs some 300 MB of address space, "
                "which this process can't have (ulimit -v)");
  bool survived = context.RunSafelyOnThread(
      [&] {
        SignalStack stack;
        llvm::CrashRecoveryContext inner;
        // The reason is the compiling thread's, so it is read there.
        if (!inner.RunSafely([&] { result.emplace(body()); })) {
          reason = fatalReason;
          fatalReason[0] = 0;
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
