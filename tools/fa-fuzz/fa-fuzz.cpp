//===- fa-fuzz.cpp - Odd programs through the compiler --------------------===//
//
// Each input is made from the seed and its number alone: a test's program or a
// specification's, changed as text or as IR. A child process feeds them to the
// parser, the verifier, pipelines and the translation to LLVM IR. When it dies,
// or stays with one input for too long, the input is kept and the next child
// goes on behind it.
//
//===----------------------------------------------------------------------===//

#include "Fuzz.h"
#include "fa/Pipelines/Pipelines.h"
#include "fa/Runtime/LaunchInfo.h"
#include "fa/Target/PTX.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Signals.h"
#include "llvm/Support/raw_ostream.h"
#include <chrono>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace mlir;
using namespace mlir::fa;
using fuzz::Corpus;
using fuzz::Random;

static llvm::cl::opt<std::string> corpusFolder(llvm::cl::Positional,
                                               llvm::cl::desc("<tests>"),
                                               llvm::cl::Required);
static llvm::cl::opt<uint64_t> seed("seed", llvm::cl::desc("of all inputs"),
                                    llvm::cl::init(1));
static llvm::cl::opt<uint64_t> count("count", llvm::cl::desc("of inputs"),
                                     llvm::cl::init(1000));
static llvm::cl::opt<uint64_t> first("first",
                                     llvm::cl::desc("number of the first one"),
                                     llvm::cl::init(0));
static llvm::cl::opt<unsigned>
    seconds("seconds", llvm::cl::desc("that one input may take"),
            llvm::cl::init(20));
static llvm::cl::opt<unsigned>
    memory("memory-mb", llvm::cl::desc("of a child's address space; 0: any"),
           llvm::cl::init(0));
static llvm::cl::opt<std::string>
    keep("keep", llvm::cl::desc("folder for the inputs that fail"),
         llvm::cl::init("fa-fuzz"));
static llvm::cl::opt<bool>
    here("here", llvm::cl::desc("run in this process, and say what"));

namespace {
/// What the child tells its parent.
struct Progress {
  std::atomic<uint64_t> current, parsed, verified, lowered, translated;
};

class Fuzzer {
public:
  Fuzzer(const Corpus &corpus, Progress &progress)
      : corpus(corpus), progress(progress) {
    registerAllDialects(registry);
    registerCompilerDialects(registry); // and their translations
    for (const Corpus::Program &program : corpus.programs)
      llvm::append_range(pipelines, program.pipelines);
  }

  /// Runs input `index`.
  void run(uint64_t index) {
    // A context grows with every type; a new one is not free either.
    if (!context || inputs++ % 64 == 0) {
      context = std::make_unique<MLIRContext>(registry,
                                              MLIRContext::Threading::DISABLED);
      context->getDiagEngine().registerHandler(
          [](Diagnostic &) { return success(); });
      context->allowUnregisteredDialects(false);
    }
    Random random(seed * 0x9E3779B97F4A7C15ull + index);
    std::vector<std::string> own;
    std::string text = makeText(random, own);
    OwningOpRef<ModuleOp> module =
        parseSourceString<ModuleOp>(text, ParserConfig(context.get(), false));
    if (!module)
      return;
    ++progress.parsed;
    if (mutatesIR)
      for (unsigned i = 0, e = 1 + random.below(3); i < e; ++i)
        fuzz::mutateIR(*module, random);
    if (failed(verify(*module)))
      return;
    ++progress.verified;
    // What verifies can be printed and read again.
    std::string printed;
    llvm::raw_string_ostream(printed) << *module;
    if (random.percent(20))
      parseSourceString<ModuleOp>(printed, ParserConfig(context.get()));

    constexpr StringRef kChips[] = {"cpu",   "sm_75", "sm_80",
                                    "sm_86", "sm_89", "sm_90a"};
    StringRef chip = random.pick(kChips);
    PassManager manager(context.get(), ModuleOp::getOperationName(),
                        OpPassManager::Nesting::Implicit);
    bool whole = own.empty() || random.percent(40);
    if (whole) {
      buildLoweringPipeline(manager, *module, chip, "");
    } else {
      StringRef pipeline =
          random.percent(70) ? random.pick(own) : random.pick(pipelines);
      if (failed(parsePassPipeline(pipeline, manager, llvm::nulls())))
        return;
    }
    if (here)
      manager.printAsTextualPipeline(llvm::errs() << printed << "// ");
    if (failed(manager.run(*module)))
      return;
    ++progress.lowered;
    if (whole)
      translate(*module, chip);
  }

  /// The program of input `index` before changes of its IR.
  std::string describe(uint64_t index) {
    Random random(seed * 0x9E3779B97F4A7C15ull + index);
    std::vector<std::string> own;
    return makeText(random, own);
  }

private:
  std::string makeText(Random &random, std::vector<std::string> &own) {
    std::string text;
    if (random.percent(15)) {
      text = fuzz::buildRandomSpec(random);
    } else {
      const Corpus::Program &program = random.pick(corpus.programs);
      text = program.text;
      own = program.pipelines;
    }
    replaceAll(text, "@PLAN@", makePlan(random));
    // Changed text seldom parses, changed IR always is IR.
    mutatesIR = random.percent(60);
    if (mutatesIR && random.percent(70))
      return text;
    for (unsigned i = 0, e = 1 + random.below(4); i < e; ++i)
      fuzz::mutateText(text, random.pick(corpus.programs).text, random);
    fuzz::avoidKnownCrashes(text);
    return text;
  }

  static void replaceAll(std::string &text, StringRef from, StringRef to) {
    size_t place = 0;
    while ((place = text.find(from.str(), place)) != std::string::npos) {
      text.replace(place, from.size(), to.str());
      place += to.size();
    }
  }

  static std::string makePlan(Random &random) {
    constexpr StringRef kPlans[] = {
        "chip = \"sm_80\", mma = \"mma_sync\", copy = \"cp_async\"",
        "chip = \"sm_90a\", mma = \"wgmma\", copy = \"tma\"",
        "chip = \"sm_75\", mma = \"mma_sync\", copy = \"direct\"",
        "chip = \"cpu\", mma = \"vector\", copy = \"direct\""};
    constexpr int kWarps[] = {0, 1, 2, 3, 4, 8, 12, 16};
    return ("#tile.plan<" + random.pick(kPlans) +
            ", warps = " + Twine(random.pick(kWarps)) +
            ", producers = " + Twine(random.percent(50) ? 0 : 4) +
            ", stages = " + Twine(random.below(5)) +
            (random.percent(20) ? ", square = true>" : ">"))
        .str();
  }

  void translate(ModuleOp module, StringRef chip) {
    SmallVector<Operation *> entries;
    Operation *gpuModule = nullptr;
    module.walk([&](LLVM::LLVMFuncOp func) {
      if (!func->hasAttr("tile.launch"))
        return;
      entries.push_back(func);
      gpuModule = func->getParentOfType<gpu::GPUModuleOp>();
    });
    if (entries.empty())
      return;
    auto info = LaunchInfo::fromFunctions(entries, chip);
    if (!info)
      return llvm::consumeError(info.takeError());
    llvm::LLVMContext llvmContext;
    std::unique_ptr<llvm::Module> code =
        gpuModule && chip != "cpu"
            ? translateGPUModule(gpuModule, chip, llvmContext)
            : translateModuleToLLVMIR(module, llvmContext, "fa");
    progress.translated += code != nullptr;
  }

  const Corpus &corpus;
  Progress &progress;
  DialectRegistry registry;
  std::vector<std::string> pipelines;
  std::unique_ptr<MLIRContext> context;
  uint64_t inputs = 0;
  bool mutatesIR = false;
};
} // namespace

static Corpus readCorpus() {
  std::vector<std::string> files;
  std::error_code code;
  for (llvm::sys::fs::recursive_directory_iterator it(corpusFolder, code), end;
       it != end && !code; it.increment(code))
    if (StringRef(it->path()).ends_with(".mlir"))
      files.push_back(it->path());
  // The order of a folder is not the same everywhere.
  llvm::sort(files);
  Corpus corpus;
  for (const std::string &file : files)
    if (auto buffer = llvm::MemoryBuffer::getFile(file))
      corpus.addFile((*buffer)->getBuffer());
  return corpus;
}

/// Waits until the child ends; ends it when it stays with one input for too
/// long, or when its memory grows too large. Returns its status, or -1.
static int watch(pid_t child, const Progress &progress) {
  uint64_t last = progress.current;
  auto since = std::chrono::steady_clock::now();
  while (true) {
    int status;
    if (waitpid(child, &status, WNOHANG) == child)
      return status;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    auto now = std::chrono::steady_clock::now();
    if (progress.current != last) {
      last = progress.current;
      since = now;
    } else if (now - since > std::chrono::seconds(seconds)) {
      kill(child, SIGKILL);
      waitpid(child, &status, 0);
      return -1;
    }
  }
}

/// Keeps the input and what the child said about it.
static std::string keepInput(Fuzzer &fuzzer, uint64_t index, StringRef log,
                             const char *what) {
  llvm::sys::fs::create_directories(keep);
  std::string stem = keep + "/" + what + "-" + std::to_string(seed) + "-" +
                     std::to_string(index);
  std::error_code code;
  llvm::raw_fd_ostream os(stem + ".mlir", code);
  if (!code)
    os << "// fa-fuzz --seed=" << seed << " --first=" << index
       << " --count=1 --here\n"
       << fuzzer.describe(index);
  llvm::sys::fs::copy_file(log, stem + ".log");
  return stem;
}

int main(int argc, char **argv) {
  llvm::sys::PrintStackTraceOnErrorSignal(argv[0]);
  llvm::cl::ParseCommandLineOptions(
      argc, argv,
      "Feeds odd programs, made from those of <tests>, to passes\n");
  registerAllPasses();
  Corpus corpus = readCorpus();
  if (corpus.programs.empty()) {
    llvm::errs() << "error: no .mlir files with programs in " << corpusFolder
                 << "; name the folder of the lit tests\n";
    return 2;
  }
  void *shared = mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) {
    llvm::errs() << "error: no shared memory\n";
    return 2;
  }
  auto &progress = *new (shared) Progress();
  Fuzzer fuzzer(corpus, progress);
  uint64_t end = first + count, crashes = 0, hangs = 0;
  if (here) {
    for (uint64_t index = first; index < end; ++index)
      fuzzer.run(index);
    end = first + count;
  }
  SmallString<128> log;
  llvm::sys::fs::createTemporaryFile("fa-fuzz", "log", log);
  for (uint64_t index = here ? end : uint64_t(first); index < end;) {
    progress.current = index;
    llvm::outs().flush();
    pid_t child = fork();
    if (child < 0) {
      llvm::errs() << "error: fork failed\n";
      return 2;
    }
    if (child == 0) {
      int fd = open(log.c_str(), O_WRONLY | O_TRUNC);
      dup2(fd, 1);
      dup2(fd, 2);
      if (memory) {
        rlimit limit = {rlim_t(memory) << 20, rlim_t(memory) << 20};
        setrlimit(RLIMIT_AS, &limit);
      }
      // Not too many by one process, whose memory may only grow.
      for (uint64_t stop = std::min(index + 2000, end); index < stop; ++index) {
        progress.current = index;
        fuzzer.run(index);
      }
      progress.current = index;
      _exit(0);
    }
    int status = watch(child, progress);
    index = progress.current;
    if (status == 0)
      continue;
    bool hang = status == -1;
    ++(hang ? hangs : crashes);
    llvm::outs() << (hang ? "hang: " : "crash: ")
                 << keepInput(fuzzer, index, log, hang ? "hang" : "crash")
                 << '\n';
    ++index;
  }
  llvm::sys::fs::remove(log);
  llvm::outs() << count << " inputs of seed " << seed << ": " << progress.parsed
               << " parsed, " << progress.verified << " verified, "
               << progress.lowered << " lowered, " << progress.translated
               << " translated; " << crashes << " crashes, " << hangs
               << " hangs\n";
  return crashes || hangs;
}
