//===- ThreadPool.cpp - Worker threads of the CPU target ------------------===//

#include "fa/Runtime/ThreadPool.h"
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <dlfcn.h>
#include <memory>
#include <mutex>
#include <pthread.h>
#include <sched.h>
#include <thread>
#include <vector>

using namespace mlir::fa;

namespace {

/// One loop in flight: threads take chunks until none is left.
struct Job {
  llvm::function_ref<void(int64_t, int64_t)> body;
  int64_t count, chunk;
  std::atomic<int64_t> next{0};

  void work() {
    for (;;) {
      int64_t begin = next.fetch_add(chunk, std::memory_order_relaxed);
      if (begin >= count)
        return;
      body(begin, std::min(begin + chunk, count));
    }
  }
};

class ThreadPool {
public:
  explicit ThreadPool(int threads) {
    for (int i = 1; i < threads; ++i)
      workers.emplace_back([this] { run(); });
  }

  ~ThreadPool() {
    {
      std::lock_guard<std::mutex> lock(mutex);
      stopping = true;
    }
    wake.notify_all();
    for (std::thread &worker : workers)
      worker.join();
  }

  int size() const { return workers.size() + 1; }

  void run(Job &next) {
    {
      std::lock_guard<std::mutex> lock(mutex);
      job = &next;
      ++generation;
    }
    wake.notify_all();
    next.work();
    // Nothing is left to take: a worker that has not woken yet is not waited
    // for, only those that are inside the loop.
    std::unique_lock<std::mutex> lock(mutex);
    job = nullptr;
    done.wait(lock, [&] { return active == 0; });
  }

private:
  void run() {
    uint64_t seen = 0;
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      wake.wait(lock, [&] { return stopping || (job && generation != seen); });
      if (stopping)
        return;
      seen = generation;
      Job *current = job;
      ++active;
      lock.unlock();
      current->work();
      lock.lock();
      if (--active == 0)
        done.notify_one();
    }
  }

  std::mutex mutex;
  std::condition_variable wake, done;
  Job *job = nullptr;
  uint64_t generation = 0;
  int active = 0; // workers inside the loop
  bool stopping = false;
  std::vector<std::thread> workers;
};

/// The OpenMP runtime of the process, if a library brought one (PyTorch does).
/// Its threads are there already, and spin for a while after each loop of
/// theirs: a second set beside them would share their cores.
struct OpenMP {
  int (*getMaxThreads)();
  void (*parallel)(void (*body)(void *), void *data, unsigned threads,
                   unsigned flags);

  static OpenMP find() {
    auto symbol = [](const char *name) { return dlsym(RTLD_DEFAULT, name); };
    return {reinterpret_cast<int (*)()>(symbol("omp_get_max_threads")),
            reinterpret_cast<decltype(parallel)>(symbol("GOMP_parallel"))};
  }
};

/// The process-wide pool. One loop runs at a time; `mutex` is held meanwhile.
struct Global {
  std::mutex mutex;
  std::unique_ptr<ThreadPool> pool;
  std::atomic<int> requested{0};
  bool forked = false; // OpenMP's threads do not exist
};

/// Set while this thread runs a loop body: a nested loop runs inline.
thread_local bool inParallel = false;

} // namespace

/// Never destroyed: threads of the host may outlive static destructors.
static Global *&global() {
  static Global *instance = [] {
    // The workers do not exist in a forked child and the locks may be held by
    // threads that do not either: start anew, leaking the parent's state.
    pthread_atfork(nullptr, nullptr, [] {
      int requested = global()->requested;
      global() = new Global;
      global()->requested = requested;
      global()->forked = true;
    });
    return new Global;
  }();
  return instance;
}

/// The cores that the process may use.
static int countCores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0)
    return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

/// OMP_NUM_THREADS (of the outermost level), as at the first call; 0 without.
static int readEnvironment() {
  static const int count = [] {
    const char *text = std::getenv("OMP_NUM_THREADS");
    return text ? std::max(0, std::atoi(text)) : 0;
  }();
  return count;
}

static int getNumThreads(const OpenMP &openMP) {
  if (int requested = global()->requested)
    return requested;
  int cores = countCores();
  int wanted =
      openMP.getMaxThreads ? openMP.getMaxThreads() : readEnvironment();
  return wanted > 0 ? std::min(wanted, cores) : cores;
}

// Forks are noticed from the start: OpenMP's threads may be there before ours.
__attribute__((constructor)) static void watchForks() { (void)global(); }

int mlir::fa::getNumThreads() { return ::getNumThreads(OpenMP::find()); }

void mlir::fa::setNumThreads(int count) {
  global()->requested = std::clamp(count, 0, 1024);
}

void mlir::fa::parallelFor(int64_t count,
                           llvm::function_ref<void(int64_t, int64_t)> body) {
  if (count <= 0)
    return;
  if (count == 1 || inParallel)
    return body(0, count);
  OpenMP openMP = OpenMP::find();
  int wanted = ::getNumThreads(openMP);
  if (wanted == 1)
    return body(0, count);

  auto guarded = [&](int64_t begin, int64_t end) {
    inParallel = true;
    body(begin, end);
    inParallel = false;
  };
  // Grid points may differ much in work (causal masks): several chunks each.
  Job job{guarded, count, std::max<int64_t>(1, count / (wanted * 16))};
  Global &state = *global();
  // As many as the runtime keeps: another number would make it start or end
  // threads in each call.
  if (openMP.parallel && openMP.getMaxThreads &&
      openMP.getMaxThreads() == wanted && !state.forked)
    return openMP.parallel([](void *job) { static_cast<Job *>(job)->work(); },
                           &job, wanted, 0);

  std::lock_guard<std::mutex> lock(state.mutex);
  if (!state.pool || state.pool->size() != wanted) {
    state.pool.reset();
    state.pool = std::make_unique<ThreadPool>(wanted);
  }
  state.pool->run(job);
}
