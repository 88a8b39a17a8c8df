//===- CAPITest.cpp - Tests of libfa through its C interface --------------===//

#include "fa-c/fa.h"
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <fstream>
#include <sstream>
#include <string>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <tuple>
#include <unistd.h>
#include <vector>

//===----------------------------------------------------------------------===//
// Checks
//===----------------------------------------------------------------------===//

static int failures = 0;
static const char *currentTest = "";

#define CHECK(condition)                                                       \
  do {                                                                         \
    if (!(condition)) {                                                        \
      ++failures;                                                              \
      fprintf(stderr, "%s:%d: %s: CHECK(%s) failed\n", __FILE__, __LINE__,     \
              currentTest, #condition);                                        \
    }                                                                          \
  } while (false)

namespace {
/// Status and message of a call; the message is released.
struct Result {
  int status;
  std::string message;
  bool ok() const { return status == FA_OK; }
  /// Failed with `expected` and a message that has `text`.
  bool failed(fa_status expected, const char *text) const {
    bool match = status == expected && message.find(text) != std::string::npos;
    if (!match)
      fprintf(stderr, "got status %d: %s\n", status, message.c_str());
    return match;
  }
};
} // namespace

static Result take(int status, char *error) {
  Result result{status, error ? error : ""};
  fa_free(error);
  return result;
}

namespace {
/// An artifact that is destroyed with its scope.
struct Compiled {
  fa_artifact *artifact = nullptr;
  Result result{-1, ""};
  Compiled() = default;
  Compiled(const std::string &text, const char *chip,
           const char *options = R"({"cache": false})") {
    char *error = nullptr;
    int status = fa_compile(text.c_str(), chip, options, &artifact, &error);
    result = take(status, error);
  }
  Compiled(const Compiled &) = delete;
  ~Compiled() { fa_artifact_destroy(artifact); }
  std::string part(const char *name) const {
    size_t size = 0;
    auto *data =
        static_cast<const char *>(fa_artifact_get(artifact, name, &size));
    return data ? std::string(data, size) : "";
  }
  Result launch(const std::vector<fa_arg> &args) {
    char *error = nullptr;
    int status =
        fa_launch(artifact, args.data(), args.size(), 0, nullptr, &error);
    return take(status, error);
  }
};
} // namespace

static Result save(const Compiled &compiled, const std::string &path) {
  char *error = nullptr;
  int status = fa_artifact_save(compiled.artifact, path.c_str(), &error);
  return take(status, error);
}

static Result load(const std::string &path, Compiled &compiled) {
  char *error = nullptr;
  int status = fa_artifact_load(path.c_str(), &compiled.artifact, &error);
  return take(status, error);
}

static std::string readFile(const std::string &path) {
  std::ifstream stream(path, std::ios::binary);
  std::stringstream contents;
  contents << stream.rdbuf();
  return contents.str();
}

static void writeFile(const std::string &path, const std::string &contents) {
  std::ofstream(path, std::ios::binary) << contents;
}

static std::vector<std::string> listFiles(const std::string &folder) {
  std::vector<std::string> files;
  if (DIR *dir = opendir(folder.c_str())) {
    while (dirent *entry = readdir(dir))
      if (entry->d_name[0] != '.')
        files.push_back(folder + "/" + entry->d_name);
    closedir(dir);
  }
  return files;
}

/// A fresh folder.
static std::string makeFolder() {
  const char *base = getenv("TMPDIR");
  std::string path = std::string(base ? base : "/tmp") + "/fa-test-XXXXXX";
  if (!mkdtemp(path.data()))
    abort();
  return path;
}

//===----------------------------------------------------------------------===//
// Programs
//===----------------------------------------------------------------------===//

/// c = alpha * a + b, one element per grid point; as a lowering leaves it.
static const char *const kAxpyCPU = R"mlir(
llvm.func @axpy(%words: !llvm.ptr, %begin: i64, %end: i64) attributes {
    tile.args = [memref<?xf32, strided<[?], offset: ?>>,
                 memref<?xf32, strided<[1], offset: ?>>, f32,
                 memref<?xf32, strided<[1], offset: ?>>],
    tile.launch = {grid = affine_map<()[s0] -> (s0)>,
                   grid_symbols = array<i64: 0, 0>}} {
  %one = llvm.mlir.constant(1 : i64) : i64
  %pa = llvm.load %words : !llvm.ptr -> !llvm.ptr
  %wstride = llvm.getelementptr %words[4] : (!llvm.ptr) -> !llvm.ptr, i64
  %stride = llvm.load %wstride : !llvm.ptr -> i64
  %wb = llvm.getelementptr %words[5] : (!llvm.ptr) -> !llvm.ptr, i64
  %pb = llvm.load %wb : !llvm.ptr -> !llvm.ptr
  %walpha = llvm.getelementptr %words[10] : (!llvm.ptr) -> !llvm.ptr, i64
  %alpha = llvm.load %walpha : !llvm.ptr -> f32
  %wc = llvm.getelementptr %words[11] : (!llvm.ptr) -> !llvm.ptr, i64
  %pc = llvm.load %wc : !llvm.ptr -> !llvm.ptr
  llvm.br ^head(%begin : i64)
^head(%i: i64):
  %more = llvm.icmp "slt" %i, %end : i64
  llvm.cond_br %more, ^body, ^exit
^body:
  %ia = llvm.mul %i, %stride : i64
  %qa = llvm.getelementptr %pa[%ia] : (!llvm.ptr, i64) -> !llvm.ptr, f32
  %a = llvm.load %qa : !llvm.ptr -> f32
  %qb = llvm.getelementptr %pb[%i] : (!llvm.ptr, i64) -> !llvm.ptr, f32
  %b = llvm.load %qb : !llvm.ptr -> f32
  %x = llvm.fmul %alpha, %a : f32
  %y = llvm.fadd %x, %b : f32
  %qc = llvm.getelementptr %pc[%i] : (!llvm.ptr, i64) -> !llvm.ptr, f32
  llvm.store %y, %qc : f32, !llvm.ptr
  %next = llvm.add %i, %one : i64
  llvm.br ^head(%next : i64)
^exit:
  llvm.return
}
)mlir";

/// The same for the GPU: 128 elements per block. `extra` goes into the body.
static std::string axpyGPU(const std::string &extra = "") {
  return R"mlir(
gpu.module @kernels {
  llvm.func @axpy(
      %pa: !llvm.ptr<1>, %pa2: !llvm.ptr<1>, %oa: i64, %na: i64, %sa: i64,
      %pb: !llvm.ptr<1>, %pb2: !llvm.ptr<1>, %ob: i64, %nb: i64, %sb: i64,
      %alpha: f32,
      %pc: !llvm.ptr<1>, %pc2: !llvm.ptr<1>, %oc: i64, %nc: i64, %sc: i64)
      attributes {gpu.kernel, nvvm.kernel, nvvm.maxntid = array<i32: 128>,
        tile.args = [memref<?xf32, strided<[?], offset: ?>>,
                     memref<?xf32, strided<[1], offset: ?>>, f32,
                     memref<?xf32, strided<[1], offset: ?>>],
        tile.launch = {grid = affine_map<()[s0] -> (s0 ceildiv 128)>,
                       grid_symbols = array<i64: 0, 0>, threads = 128 : i64,
                       shared_bytes = 0 : i64}} {
    %c128 = llvm.mlir.constant(128 : i32) : i32
    %block = nvvm.read.ptx.sreg.ctaid.x : i32
    %thread = nvvm.read.ptx.sreg.tid.x : i32
    %first = llvm.mul %block, %c128 : i32
    %i32 = llvm.add %first, %thread : i32
    %i = llvm.zext %i32 : i32 to i64
)mlir" + extra +
         R"mlir(
    %more = llvm.icmp "slt" %i, %na : i64
    llvm.cond_br %more, ^body, ^exit
  ^body:
    %ia = llvm.mul %i, %sa : i64
    %qa = llvm.getelementptr %pa[%ia] : (!llvm.ptr<1>, i64) -> !llvm.ptr<1>, f32
    %a = llvm.load %qa : !llvm.ptr<1> -> f32
    %qb = llvm.getelementptr %pb[%i] : (!llvm.ptr<1>, i64) -> !llvm.ptr<1>, f32
    %b = llvm.load %qb : !llvm.ptr<1> -> f32
    %x = llvm.fmul %alpha, %a : f32
    %y = llvm.fadd %x, %b : f32
    %qc = llvm.getelementptr %pc[%i] : (!llvm.ptr<1>, i64) -> !llvm.ptr<1>, f32
    llvm.store %y, %qc : f32, !llvm.ptr<1>
    llvm.br ^exit
  ^exit:
    llvm.return
  }
}
)mlir";
}

static fa_arg vectorArg(void *data, int64_t size, int64_t stride = 1) {
  fa_arg arg = {};
  arg.kind = FA_ARG_MEMREF;
  arg.rank = 1;
  arg.data = data;
  arg.sizes[0] = size;
  arg.strides[0] = stride;
  return arg;
}

static fa_arg realArg(double value) {
  fa_arg arg = {};
  arg.kind = FA_ARG_F32;
  arg.real = value;
  return arg;
}

/// Launches axpy on `size` elements with fresh data and poisoned output.
static bool axpyIsRight(Compiled &compiled, int64_t size, int64_t stride) {
  std::vector<float> a(size * stride + 1), b(size + 1), c(size + 1, NAN);
  static std::atomic<unsigned> seed{1};
  unsigned state = ++seed;
  for (auto *data : {&a, &b})
    for (float &x : *data)
      x = (rand_r(&state) % 2001 - 1000) / 64.0f;
  Result result = compiled.launch({vectorArg(a.data(), size, stride),
                                   vectorArg(b.data(), size), realArg(2.5),
                                   vectorArg(c.data(), size)});
  if (!result.ok()) {
    fprintf(stderr, "%s\n", result.message.c_str());
    return false;
  }
  for (int64_t i = 0; i < size; ++i)
    if (c[i] != 2.5f * a[i * stride] + b[i]) // exact for these values
      return false;
  return std::isnan(c[size]);
}

//===----------------------------------------------------------------------===//
// Compiling and launching
//===----------------------------------------------------------------------===//

static void testLaunchOnCPU() {
  Compiled axpy(kAxpyCPU, "cpu");
  CHECK(axpy.result.ok());
  CHECK(!axpy.part("object").empty());
  CHECK(axpy.part("llvm_ir").find("@axpy") != std::string::npos);
  CHECK(axpy.part("mlir") == kAxpyCPU);
  CHECK(!fa_artifact_get(axpy.artifact, "ptx", nullptr));
  for (int threads : {1, 2, 5, 0}) {
    fa_set_num_threads(threads);
    CHECK(threads ? fa_get_num_threads() == threads : fa_get_num_threads() > 0);
    for (int64_t size : {0, 1, 3, 1000, 100001})
      for (int64_t stride : {1, 3})
        CHECK(axpyIsRight(axpy, size, stride));
  }
}

static void testConcurrentLaunches() {
  Compiled axpy(kAxpyCPU, "cpu");
  CHECK(axpy.result.ok());
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i)
        right += axpyIsRight(axpy, 1000 + i, 1);
    });
  for (std::thread &thread : threads)
    thread.join();
  CHECK(right == 200);
}

static void testFork() {
  fa_set_num_threads(3);
  Compiled axpy(kAxpyCPU, "cpu");
  CHECK(axpyIsRight(axpy, 5000, 1)); // the workers exist before the fork
  pid_t child = fork();
  if (child == 0) {
    alarm(20); // a child that waits for the parent's workers would hang
    bool right = axpyIsRight(axpy, 5000, 1);
    Compiled again(kAxpyCPU, "cpu");
    _exit(right && axpyIsRight(again, 100, 1) ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  fa_set_num_threads(0);
}

static void testArguments() {
  Compiled axpy(kAxpyCPU, "cpu");
  float data[16] = {};
  fa_arg a = vectorArg(data, 4), alpha = realArg(1);
  CHECK(axpy.launch({a, a, alpha})
            .failed(FA_INVALID_ARGUMENT, "takes 4 arguments; got 3"));
  CHECK(axpy.launch({a, alpha, alpha, a})
            .failed(FA_INVALID_ARGUMENT, "argument 1 is of kind f32; expected "
                                         "memref"));
  fa_arg square = a;
  square.rank = 2;
  CHECK(axpy.launch({a, a, alpha, square})
            .failed(FA_INVALID_ARGUMENT,
                    "argument 3 has 2 dimensions; expected 1"));
  CHECK(axpy.launch({a, vectorArg(data, 4, 2), alpha, a})
            .failed(FA_INVALID_ARGUMENT,
                    "argument 1 has stride 2 in dimension 0; expected 1"));
  CHECK(axpy.launch({a, a, alpha, vectorArg(nullptr, 4)})
            .failed(FA_INVALID_ARGUMENT, "argument 3 has no data"));
  CHECK(axpy.launch({vectorArg(data, -1), a, alpha, a})
            .failed(FA_INVALID_ARGUMENT, "argument 0 has size -1"));
  // The stride of a dimension of one element does not matter.
  CHECK(axpy.launch({vectorArg(data, 1), vectorArg(data, 1, 7), alpha,
                     vectorArg(data, 1)})
            .ok());
  char *error = nullptr;
  CHECK(take(fa_launch(nullptr, nullptr, 0, 0, nullptr, &error), error)
            .failed(FA_INVALID_ARGUMENT, "artifact is a null pointer"));
}

static void testChips() {
  CHECK(std::string(fa_chip(0)) == "cpu" && std::string(fa_chip(1)) == "sm_75");
  CHECK(!fa_chip(-1) && !fa_chip(100));
  for (auto [major, minor, chip] : {std::tuple(7, 5, "sm_75"),
                                    {8, 0, "sm_80"},
                                    {8, 6, "sm_86"},
                                    {8, 7, "sm_80"},
                                    {8, 9, "sm_89"},
                                    {9, 0, "sm_90a"},
                                    {10, 0, "sm_80"},
                                    {12, 0, "sm_89"},
                                    {99, 0, "sm_80"}})
    CHECK(std::string(fa_chip_of_capability(major, minor)) == chip);
  CHECK(!fa_chip_of_capability(7, 2) && !fa_chip_of_capability(0, 0));
}

static void testWrongPrograms() {
  CHECK(Compiled("not mlir", "cpu")
            .result.failed(FA_INVALID_ARGUMENT, "no valid MLIR"));
  CHECK(Compiled("", "cpu").result.failed(FA_INVALID_ARGUMENT,
                                          "no function to launch"));
  CHECK(Compiled(kAxpyCPU, "sm_12")
            .result.failed(FA_INVALID_ARGUMENT,
                           "chip is 'sm_12'; allowed are cpu, sm_75, sm_80, "
                           "sm_86, sm_89, sm_90a"));
  CHECK(Compiled(kAxpyCPU, "sm_80")
            .result.failed(FA_INVALID_ARGUMENT, "lowered for the CPU"));
  CHECK(Compiled(axpyGPU(), "cpu")
            .result.failed(FA_INVALID_ARGUMENT, "lowered for a GPU"));
  CHECK(Compiled(kAxpyCPU, "cpu", "{")
            .result.failed(FA_INVALID_ARGUMENT, "no valid JSON"));
  CHECK(Compiled(kAxpyCPU, "cpu", R"({"speed": 1})")
            .result.failed(FA_INVALID_ARGUMENT, "unknown option `speed`"));
  CHECK(Compiled(kAxpyCPU, "cpu", R"({"cache": 3})")
            .result.failed(FA_INVALID_ARGUMENT, "option `cache` is 3"));
  CHECK(Compiled(axpyGPU(), "sm_80", R"({"ptxas": "/nowhere"})")
            .result.failed(FA_INVALID_ARGUMENT, "option ptxas is '/nowhere'"));
}

/// Launch `order` of a program; each turns every element x into x * a + b.
static std::string stepCPU(const char *name, const char *order, const char *a,
                           const char *b, const char *type = "f32") {
  char text[2048];
  snprintf(text, sizeof(text), R"mlir(
llvm.func @%s(%%words: !llvm.ptr, %%begin: i64, %%end: i64) attributes {%s
    tile.args = [memref<?x%s>],
    tile.launch = {grid = affine_map<()[s0] -> (s0)>,
                   grid_symbols = array<i64: 0, 0>}} {
  %%one = llvm.mlir.constant(1 : i64) : i64
  %%a = llvm.mlir.constant(%s : f32) : f32
  %%b = llvm.mlir.constant(%s : f32) : f32
  %%p = llvm.load %%words : !llvm.ptr -> !llvm.ptr
  llvm.br ^head(%%begin : i64)
^head(%%i: i64):
  %%more = llvm.icmp "slt" %%i, %%end : i64
  llvm.cond_br %%more, ^body, ^exit
^body:
  %%q = llvm.getelementptr %%p[%%i] : (!llvm.ptr, i64) -> !llvm.ptr, f32
  %%x = llvm.load %%q : !llvm.ptr -> f32
  %%y = llvm.fmul %%x, %%a : f32
  %%z = llvm.fadd %%y, %%b : f32
  llvm.store %%z, %%q : f32, !llvm.ptr
  %%next = llvm.add %%i, %%one : i64
  llvm.br ^head(%%next : i64)
^exit:
  llvm.return
}
)mlir",
           name, order, type, a, b);
  return text;
}

/// Several launches of one program run in the order that they carry, not the
/// one in which they stand.
static void testSeveralLaunches() {
  std::string first = stepCPU("first", "tile.order = 0 : i64,", "1.0", "1.0"),
              second = stepCPU("second", "tile.order = 1 : i64,", "3.0", "0.0"),
              third = stepCPU("third", "tile.order = 2 : i64,", "1.0", "5.0");
  Compiled program(third + first + second, "cpu");
  CHECK(program.result.ok());
  std::string metadata = program.part("metadata");
  size_t at = 0;
  for (const char *entry : {"first", "second", "third"}) {
    at = metadata.find(std::string("\"entry\": \"") + entry, at);
    CHECK(at != std::string::npos);
  }
  std::vector<float> x(100001, 2);
  CHECK(program.launch({vectorArg(x.data(), x.size())}).ok());
  CHECK(std::all_of(x.begin(), x.end(), [](float v) { return v == 14; }));

  { // The file holds all of them.
    std::string folder = makeFolder(), path = folder + "/several.fa";
    CHECK(save(program, path).ok());
    Compiled loaded;
    CHECK(load(path, loaded).ok());
    CHECK(loaded.launch({vectorArg(x.data(), x.size())}).ok());
    CHECK(std::all_of(x.begin(), x.end(), [](float v) { return v == 50; }));
    remove(path.c_str());
    remove(folder.c_str());
  }
  // Functions without an order, with a gap in it or with the same place are
  // different programs; launches of one program take the same arguments.
  const char *ambiguous = "the program has more than one function to launch";
  CHECK(Compiled(first + stepCPU("other", "", "1.0", "1.0"), "cpu")
            .result.failed(FA_INVALID_ARGUMENT, ambiguous));
  CHECK(Compiled(first + third, "cpu")
            .result.failed(FA_INVALID_ARGUMENT, ambiguous));
  CHECK(Compiled(first + stepCPU("second", "tile.order = 1 : i64,", "1.0",
                                 "1.0", "f64"),
                 "cpu")
            .result.failed(FA_COMPILE_ERROR,
                           "launch contract of @second: all launches of a "
                           "program take the same arguments"));
}

static void testPTX() {
  for (auto [chip, version] :
       {std::pair("sm_80", ".version 7.0"), {"sm_90a", ".version 8.1"}}) {
    Compiled axpy(axpyGPU(), chip, R"({"cache": false, "ptxas": false})");
    CHECK(axpy.result.ok());
    std::string ptx = axpy.part("ptx");
    CHECK(ptx.find(version) != std::string::npos);
    CHECK(ptx.find(std::string(".target ") + chip) != std::string::npos);
    CHECK(ptx.find(".visible .entry axpy(") != std::string::npos);
    CHECK(ptx.find(".maxntid 128") != std::string::npos);
    CHECK(axpy.part("cubin").empty());
    CHECK(axpy.part("metadata").find("\"threads\": 128") != std::string::npos);
    Compiled again(axpyGPU(), chip, R"({"cache": false, "ptxas": false})");
    CHECK(again.part("ptx") == ptx);
    CHECK(again.part("metadata") == axpy.part("metadata"));
  }
  Compiled stopped(axpyGPU(), "sm_80",
                   R"({"cache": false, "stop_after": "llvm"})");
  CHECK(stopped.result.ok() && stopped.part("ptx").empty() &&
        !stopped.part("llvm_ir").empty());
}

static void testCubin() {
  Compiled axpy(axpyGPU(), "sm_90a");
  CHECK(axpy.result.ok());
  CHECK(axpy.part("cubin").substr(1, 3) == "ELF");
  CHECK(axpy.part("ptxas_log").find("Used ") != std::string::npos);
  CHECK(axpy.part("ptxas_log").find("spill") != std::string::npos);
}

/// Inline asm is convergent although llvm.inline_asm cannot say so: the barrier
/// is not duplicated into the branches of a condition known before it.
static void testConvergentAsm() {
  Compiled program(axpyGPU(R"mlir(
    llvm.inline_asm has_side_effects "bar.sync 0;", "~{memory}" : () -> ()
)mlir"),
                   "sm_80", R"({"cache": false, "ptxas": false})");
  CHECK(program.result.ok());
  std::string ir = program.part("llvm_ir");
  size_t call = ir.find("call void asm sideeffect \"bar.sync 0;\"");
  CHECK(call != std::string::npos);
  size_t group = ir.find('#', call);
  std::string attribute =
      ir.substr(group, ir.find('\n', group) - group); // "#3"
  size_t definition = ir.find("attributes " + attribute + " = ");
  CHECK(definition != std::string::npos &&
        ir.substr(definition, ir.find('\n', definition) - definition)
                .find("convergent") != std::string::npos);
}

/// An instruction that the chip does not have: LLVM gives up with a fatal
/// error, which must not end the process.
static void testCrashSurvival() {
  std::string bad = axpyGPU(R"mlir(
    llvm.call_intrinsic "llvm.nvvm.wgmma.fence.sync.aligned"() : () -> ()
)mlir");
  for (int i = 0; i < 3; ++i) {
    Compiled crash(bad, "sm_80");
    CHECK(crash.result.failed(FA_COMPILE_ERROR, "annot select"));
    size_t at = crash.result.message.find("reproducer: ");
    CHECK(at != std::string::npos);
    if (at == std::string::npos)
      return;
    std::string file = crash.result.message.substr(at + 12);
    CHECK(readFile(file) == "// chip: sm_80\n" + bad);
    unlink(file.c_str());
  }
  CHECK(Compiled(bad, "sm_90a").result.ok()); // the program itself is fine
  Compiled after(kAxpyCPU, "cpu");
  CHECK(after.result.ok() && axpyIsRight(after, 100, 1));
}

/// Inline asm that ptxas refuses.
static void testPtxasFailure() {
  Compiled bad(axpyGPU(R"mlir(
    llvm.inline_asm has_side_effects "no.such.instruction;", "~{memory}" : () -> ()
)mlir"),
               "sm_80");
  CHECK(bad.result.failed(FA_COMPILE_ERROR,
                          "Not a name of any known instruction"));
  size_t at = bad.result.message.find("reproducer: ");
  CHECK(at != std::string::npos);
  if (at != std::string::npos)
    unlink(bad.result.message.substr(at + 12).c_str());
}

/// A ptxas that says it is too old leaves an artifact without a cubin; one that
/// fails otherwise is an error.
static void testOldPtxas() {
  std::string folder = makeFolder(), ptxas = folder + "/ptxas";
  std::string options = "{\"cache\": false, \"ptxas\": \"" + ptxas + "\"}";
  auto pretend = [&](const char *says) {
    writeFile(ptxas,
              std::string("#!/bin/sh\necho \"") + says + "\"; exit 255\n");
    chmod(ptxas.c_str(), 0755);
  };
  pretend("ptxas fatal : Value 'sm_90a' is not defined for option 'gpu-name'");
  {
    Compiled axpy(axpyGPU(), "sm_90a", options.c_str());
    CHECK(axpy.result.ok() && axpy.part("cubin").empty());
    CHECK(!axpy.part("ptx").empty());
    CHECK(axpy.part("ptxas_log").find("not defined for") != std::string::npos);
  }
  pretend("out of paper");
  Compiled axpy(axpyGPU(), "sm_90a", options.c_str());
  CHECK(axpy.result.failed(FA_COMPILE_ERROR, "out of paper"));
  size_t at = axpy.result.message.find("reproducer: ");
  if (at != std::string::npos)
    unlink(axpy.result.message.substr(at + 12).c_str());
  unlink(ptxas.c_str());
  rmdir(folder.c_str());
}

//===----------------------------------------------------------------------===//
// Files and cache
//===----------------------------------------------------------------------===//

static void testArtifactFile() {
  std::string folder = makeFolder(), path = folder + "/axpy.fa";
  Compiled axpy(kAxpyCPU, "cpu");
  CHECK(save(axpy, path).ok());
  CHECK(listFiles(folder).size() == 1); // no temporary left
  {
    Compiled loaded;
    CHECK(load(path, loaded).ok());
    for (const char *part : {"mlir", "llvm_ir", "object", "metadata"})
      CHECK(loaded.part(part) == axpy.part(part));
    CHECK(axpyIsRight(loaded, 1000, 2));
  }

  std::string good = readFile(path);
  // Any damaged byte is noticed.
  for (size_t at = 0; at < good.size(); at += good.size() / 97 + 1) {
    std::string bad = good;
    bad[at] ^= 0x20;
    writeFile(path, bad);
    Compiled loaded;
    CHECK(load(path, loaded).status == FA_IO_ERROR && !loaded.artifact);
  }
  Compiled none;
  for (size_t size : {size_t(0), size_t(7), size_t(20), good.size() - 1}) {
    writeFile(path, good.substr(0, size));
    CHECK(load(path, none).status == FA_IO_ERROR);
  }
  writeFile(path, good.substr(0, good.size() / 2));
  CHECK(load(path, none).failed(FA_IO_ERROR, "checksum does not match"));
  writeFile(path, "\x7f"
                  "ELF and more");
  CHECK(load(path, none).failed(FA_IO_ERROR, "no artifact of this library"));
  std::string future = good;
  future[7] = '2';
  writeFile(path, future);
  CHECK(load(path, none).failed(FA_IO_ERROR, "another format version"));
  CHECK(load(folder + "/missing", none).failed(FA_IO_ERROR, "cannot read"));
  CHECK(save(axpy, folder + "/missing/x").failed(FA_IO_ERROR, "cannot write"));
  unlink(path.c_str());
  rmdir(folder.c_str());
}

static double milliseconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double, std::milli>(
             std::chrono::steady_clock::now() - since)
      .count();
}

static void testCache() {
  std::string folder = makeFolder();
  std::string options = "{\"cache\": \"" + folder + "/sub\"}";
  CHECK(Compiled(kAxpyCPU, "cpu", options.c_str()).result.ok());
  auto files = listFiles(folder + "/sub");
  CHECK(files.size() == 1);
  if (files.size() != 1)
    return;

  // A hit: the file is marked as used and nothing is compiled.
  timespec past[2] = {{1000000000, 0}, {1000000000, 0}};
  utimensat(AT_FDCWD, files[0].c_str(), past, 0);
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    auto start = std::chrono::steady_clock::now();
    Compiled hit(kAxpyCPU, "cpu", options.c_str());
    best = std::min(best, milliseconds(start));
    CHECK(hit.result.ok() && axpyIsRight(hit, 10, 1));
  }
  printf("cache hit: %.2f ms\n", best);
  CHECK(best < 5);
  struct stat info;
  CHECK(stat(files[0].c_str(), &info) == 0 && info.st_mtime > 1000000000);

  // A hit really comes from the file: put another program's artifact there.
  std::string other = kAxpyCPU;
  other.replace(other.find("llvm.fadd"), 9, "llvm.fsub");
  Compiled minus(other, "cpu");
  std::string good = readFile(files[0]);
  CHECK(save(minus, files[0]).ok());
  CHECK(!axpyIsRight(
      *std::make_unique<Compiled>(kAxpyCPU, "cpu", options.c_str()), 100, 1));

  // A corrupt file is compiled again and replaced.
  writeFile(files[0], good.substr(0, good.size() / 2));
  {
    Compiled again(kAxpyCPU, "cpu", options.c_str());
    CHECK(again.result.ok() && axpyIsRight(again, 100, 1));
  }
  CHECK(readFile(files[0]) == good); // equal input, equal bytes

  // Another program or option has another name.
  CHECK(Compiled(other, "cpu", options.c_str()).result.ok());
  std::string stop = "{\"stop_after\": \"llvm\", " + options.substr(1);
  CHECK(Compiled(kAxpyCPU, "cpu", stop.c_str()).result.ok());
  CHECK(listFiles(folder + "/sub").size() == 3);

  // The size limit drops the least recently used.
  setenv("FA_CACHE_SIZE_MB", "0", 1);
  std::string third = kAxpyCPU;
  third.replace(third.find("llvm.fadd"), 9, "llvm.fdiv");
  CHECK(Compiled(third, "cpu", options.c_str()).result.ok());
  unsetenv("FA_CACHE_SIZE_MB");
  CHECK(listFiles(folder + "/sub").empty());

  // FA_CACHE_DIR is the default folder.
  setenv("FA_CACHE_DIR", (folder + "/env").c_str(), 1);
  CHECK(Compiled(kAxpyCPU, "cpu", nullptr).result.ok());
  CHECK(listFiles(folder + "/env").size() == 1);
  // A folder that cannot be: no caching, no error.
  writeFile(folder + "/file", "");
  setenv("FA_CACHE_DIR", (folder + "/file/sub").c_str(), 1);
  Compiled uncached(kAxpyCPU, "cpu", nullptr);
  CHECK(uncached.result.ok() && axpyIsRight(uncached, 10, 1));
  unsetenv("FA_CACHE_DIR");
  if (system(("rm -r " + folder).c_str()))
    CHECK(false);
}

/// Processes that fill one cache at once never read half a file.
static void testConcurrentCache() {
  std::string folder = makeFolder();
  std::string options = "{\"cache\": \"" + folder + "\"}";
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    pid_t child = fork();
    if (child == 0) {
      bool right = true;
      for (int round = 0; round < 5; ++round) {
        for (const std::string &file : listFiles(folder))
          if (i == 0)
            unlink(file.c_str());
        Compiled axpy(kAxpyCPU, "cpu", options.c_str());
        right &= axpy.result.ok() && axpyIsRight(axpy, 500, 1);
      }
      _exit(right ? 0 : 1);
    }
    children.push_back(child);
  }
  for (pid_t child : children) {
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  CHECK(listFiles(folder).size() == 1);
  if (system(("rm -r " + folder).c_str()))
    CHECK(false);
}

//===----------------------------------------------------------------------===//
// Specifications and devices
//===----------------------------------------------------------------------===//

static std::string buildText(const fa_attention_spec &spec, Result &result) {
  char *text = nullptr, *error = nullptr;
  int status = fa_build_attention(&spec, &text, &error);
  result = take(status, error);
  std::string copy = text ? text : "";
  fa_free(text);
  return copy;
}

static std::string buildBackwardText(const fa_attention_spec &spec,
                                     int gradients, bool hasDLse, bool hasDQSum,
                                     Result &result) {
  char *mlir = nullptr, *error = nullptr;
  result = take(fa_build_attention_backward(&spec, gradients, hasDLse, hasDQSum,
                                            &mlir, &error),
                error);
  std::string text = mlir ? mlir : "";
  fa_free(mlir);
  return text;
}

static void testSpecifications() {
  Result result;
  fa_attention_spec spec = {};
  spec.dtype = FA_F16;
  spec.head_dim_qk = 64;
  spec.head_dim_v = 64;
  spec.alignment = 1;
  spec.dead_lse = -INFINITY;
  std::string plain = buildText(spec, result);
  CHECK(result.ok());
  CHECK(plain.find("mask") == std::string::npos);
  CHECK(plain.find("dead_lse") == std::string::npos);
  CHECK(buildText(spec, result) == plain);

  fa_attention_spec wrong = spec;
  wrong.head_dim_v = 257;
  buildText(wrong, result);
  CHECK(result.failed(FA_INVALID_ARGUMENT,
                      "head_dim_v is 257; allowed are 1 to 256"));
  wrong = spec;
  wrong.dtype = static_cast<fa_dtype>(9);
  buildText(wrong, result);
  CHECK(result.failed(FA_INVALID_ARGUMENT, "dtype is 9"));
  wrong = spec;
  wrong.dead_lse = NAN;
  buildText(wrong, result);
  CHECK(result.failed(FA_INVALID_ARGUMENT, "dead_lse is NaN"));
  wrong = spec;
  wrong.alignment = 2;
  buildText(wrong, result);
  CHECK(result.failed(FA_INVALID_ARGUMENT,
                      "alignment is 2; allowed are 16, 4 and 1"));
  wrong = spec;
  wrong.query_rows = 2;
  buildText(wrong, result);
  CHECK(result.failed(FA_INVALID_ARGUMENT,
                      "query_rows is 2; allowed are 0 (any number), 1, 16"));
  wrong.query_rows = 16;
  buildBackwardText(wrong, FA_GRADIENT_Q, 0, 0, result);
  CHECK(result.failed(
      FA_INVALID_ARGUMENT,
      "query_rows is 16 and has_partials 0; both must be 0 for gradients"));
}

/// One query row is part of the types; few are a hint; parts add workspaces.
static void testFewQueries() {
  Result result;
  fa_attention_spec spec = {};
  spec.dtype = FA_F16;
  spec.head_dim_qk = 16;
  spec.head_dim_v = 8;
  spec.alignment = 1;
  spec.dead_lse = -INFINITY;
  for (int rows : {1, 16, 4096}) {
    spec.query_rows = rows;
    spec.has_partials = rows == 1;
    std::string text = buildText(spec, result);
    CHECK(result.ok());
    CHECK((text.find("memref<?x1x?x16xf16") != std::string::npos) ==
          (rows == 1));
    CHECK((text.find("fa.few_rows") != std::string::npos) == (rows == 16));
    CHECK((text.find("fa.short_sequences") != std::string::npos) ==
          (rows == 4096));
    CHECK((text.find("%o_parts: memref<?x?x1x?x8xf32") != std::string::npos) ==
          (rows == 1));
    Compiled program(text, "cpu", R"({"cache": false, "stop_after": "llvm"})");
    CHECK(program.result.ok());
  }
  spec.query_rows = 16;
  spec.pack_heads = 1;
  CHECK(buildText(spec, result).find("fa.few_rows, fa.pack_heads") !=
        std::string::npos);
  spec.query_rows = 1;
  buildText(spec, result);
  CHECK(result.failed(FA_INVALID_ARGUMENT, "pack_heads is 1 and query_rows 1"));
}

/// Every combination of the flags is a valid program with the documented
/// arguments.
static void testSpecificationPrograms() {
  for (int flags = 0; flags < 64; ++flags) {
    fa_attention_spec spec = {};
    spec.dtype = static_cast<fa_dtype>(flags % 4);
    spec.head_dim_qk = 16;
    spec.head_dim_v = 8 + flags % 3;
    spec.causal = flags & 1;
    spec.has_window_left = flags >> 1 & 1;
    spec.has_window_right = flags >> 2 & 1;
    spec.has_softcap = flags >> 3 & 1;
    spec.has_lengths = flags >> 4 & 1;
    spec.has_init_lse = flags >> 5 & 1;
    spec.alignment = flags % 5 == 0 ? 16 : flags % 5 == 1 ? 4 : 1;
    spec.dead_lse = flags & 1 ? -INFINITY : flags & 2 ? INFINITY : -3.5;
    Result result;
    std::string text = buildText(spec, result);
    CHECK(result.ok());
    Compiled program(text, "cpu", R"({"cache": false, "stop_after": "llvm"})");
    CHECK(program.result.ok());
    if (!program.result.ok()) {
      fprintf(stderr, "%s\n%s\n", text.c_str(), program.result.message.c_str());
      return;
    }
    std::string metadata = program.part("metadata");
    size_t at = 0;
    std::vector<std::string> names = {"q", "k", "v", "scale"};
    if (spec.has_lengths)
      names.insert(names.end(), {"q_lengths", "k_lengths"});
    if (spec.has_init_lse)
      names.push_back("init_lse");
    if (spec.has_softcap)
      names.push_back("softcap");
    if (spec.has_window_left)
      names.push_back("window_left");
    if (spec.has_window_right)
      names.push_back("window_right");
    names.insert(names.end(), {"o", "lse"});
    for (const std::string &name : names) {
      at = metadata.find("\"name\": \"" + name + "\"", at);
      CHECK(at != std::string::npos);
      if (at == std::string::npos)
        return;
    }
  }
}

/// The same for gradients: every choice of them, with and without that of lse.
static void testBackwardPrograms() {
  for (int flags = 0; flags < 128; ++flags) {
    fa_attention_spec spec = {};
    spec.dtype = static_cast<fa_dtype>(flags % 4);
    spec.head_dim_qk = 16;
    spec.head_dim_v = 8 + flags % 3;
    spec.causal = flags & 1;
    spec.has_window_left = flags >> 1 & 1;
    spec.has_window_right = flags >> 2 & 1;
    spec.has_lengths = flags >> 3 & 1;
    spec.has_softcap = flags >> 4 & 1;
    spec.has_init_lse = flags >> 5 & 1; // part of lse: no argument
    spec.alignment = flags % 5 == 0 ? 16 : flags % 5 == 1 ? 4 : 1;
    spec.dead_lse = -INFINITY;
    bool hasDLse = flags >> 6 & 1;
    int gradients = 1 + flags % 7;
    Result result;
    bool hasDQSum =
        (gradients & FA_GRADIENT_Q) && gradients != FA_GRADIENT_Q && flags % 2;
    std::string text =
        buildBackwardText(spec, gradients, hasDLse, hasDQSum, result);
    CHECK(result.ok());
    Compiled program(text, "cpu", R"({"cache": false, "stop_after": "llvm"})");
    CHECK(program.result.ok());
    if (!program.result.ok()) {
      fprintf(stderr, "%s\n%s\n", text.c_str(), program.result.message.c_str());
      return;
    }
    std::string metadata = program.part("metadata");
    std::vector<std::string> names = {"q", "k", "v", "o", "lse", "d_o"};
    if (hasDLse)
      names.push_back("d_lse");
    names.push_back("scale");
    if (spec.has_lengths)
      names.insert(names.end(), {"q_lengths", "k_lengths"});
    if (spec.has_softcap)
      names.push_back("softcap");
    if (spec.has_window_left)
      names.push_back("window_left");
    if (spec.has_window_right)
      names.push_back("window_right");
    names.push_back("delta");
    if (hasDQSum)
      names.push_back("d_q_sum");
    for (auto [bit, name] : {std::pair(FA_GRADIENT_Q, "d_q"),
                             {FA_GRADIENT_K, "d_k"},
                             {FA_GRADIENT_V, "d_v"}})
      if (gradients & bit)
        names.push_back(name);
    size_t at = 0, count = 0;
    for (size_t next = 0;
         (next = metadata.find("\"name\": ", next)) != std::string::npos;
         ++next)
      ++count;
    CHECK(count == names.size());
    for (const std::string &name : names) {
      at = metadata.find("\"name\": \"" + name + "\"", at);
      CHECK(at != std::string::npos);
      if (at == std::string::npos)
        return;
    }
  }
  fa_attention_spec spec = {};
  spec.head_dim_qk = spec.head_dim_v = 64;
  spec.alignment = 1;
  Result result;
  for (int gradients : {0, 8, -1}) {
    buildBackwardText(spec, gradients, false, false, result);
    std::string message = "gradients is " + std::to_string(gradients) +
                          "; allowed is a combination of FA_GRADIENT_Q (1)";
    CHECK(result.failed(FA_INVALID_ARGUMENT, message.c_str()));
  }
  for (int gradients : {1, 6}) {
    buildBackwardText(spec, gradients, false, true, result);
    std::string message =
        "gradients is " + std::to_string(gradients) + " with d_q_sum; allowed";
    CHECK(result.failed(FA_INVALID_ARGUMENT, message.c_str()));
  }
  spec.head_dim_qk = 300;
  buildBackwardText(spec, 7, false, false, result);
  CHECK(result.failed(FA_INVALID_ARGUMENT, "head_dim_qk is 300"));
}

/// Messages name arguments as the specification does; alignment is checked.
static void testNamedArguments() {
  fa_attention_spec spec = {};
  spec.dtype = FA_F32;
  spec.head_dim_qk = spec.head_dim_v = 8;
  spec.dead_lse = -INFINITY;
  spec.alignment = 16;
  Result result;
  Compiled program(buildText(spec, result), "cpu");
  CHECK(program.result.ok());
  alignas(16) float data[4096] = {};
  auto tensor = [&](float *base, int64_t rows, int64_t size) {
    fa_arg arg = {};
    arg.rank = 4;
    arg.data = base;
    int64_t sizes[] = {1, rows, 1, size},
            strides[] = {rows * size, size, size, 1};
    std::copy(sizes, sizes + 4, arg.sizes);
    std::copy(strides, strides + 4, arg.strides);
    return arg;
  };
  fa_arg lse = {};
  lse.rank = 3;
  lse.data = data + 2048;
  int64_t sizes[] = {1, 1, 4};
  std::copy(sizes, sizes + 3, lse.sizes);
  std::copy(sizes, sizes + 3, lse.strides);
  lse.strides[2] = 1;
  fa_arg q = tensor(data, 4, 8), o = tensor(data + 1024, 4, 8);
  CHECK(program.launch({q, q, q, realArg(1), o, lse}).ok());
  CHECK(program.launch({q, tensor(data, 4, 9), q, realArg(1), o, lse})
            .failed(FA_INVALID_ARGUMENT,
                    "argument 1 (k) has size 9 in dimension 3; this program "
                    "was compiled for 8"));
  CHECK(program.launch({q, q, tensor(data + 1, 4, 8), realArg(1), o, lse})
            .failed(FA_INVALID_ARGUMENT, "argument 2 (v) starts at"));
  fa_arg odd = o;
  odd.strides[1] = 9;
  CHECK(program.launch({q, q, q, realArg(1), odd, lse})
            .failed(FA_INVALID_ARGUMENT,
                    "argument 4 (o) has stride 9 in dimension 1, 36 bytes"));
}

/// A dtype that a chip has no schedule for is refused by name, not a crash and
/// not a compiler error.
static void testUnsupported() {
  fa_attention_spec spec = {};
  spec.dtype = FA_F64;
  spec.head_dim_qk = spec.head_dim_v = 64;
  spec.alignment = 1;
  spec.dead_lse = -INFINITY;
  Result result;
  std::string text = buildText(spec, result);
  Compiled program(text, "sm_80");
  CHECK(program.result.failed(FA_UNSUPPORTED, "f64"));
  CHECK(program.result.message.find("reproducer") == std::string::npos);
  Compiled wrong(text, "cpu", R"({"cache": false, "schedule": "17"})");
  CHECK(wrong.result.failed(FA_INVALID_ARGUMENT, "option `schedule` is '17'"));
}

/// Compilations run beside each other, crashing ones included.
static void testConcurrentCompilation() {
  std::string bad = axpyGPU(R"mlir(
    llvm.call_intrinsic "llvm.nvvm.wgmma.fence.sync.aligned"() : () -> ()
)mlir");
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 4; ++i) {
        if (t == 0) {
          Compiled crash(bad, "sm_80");
          right += crash.result.status == FA_COMPILE_ERROR;
          size_t at = crash.result.message.find("reproducer: ");
          if (at != std::string::npos)
            unlink(crash.result.message.substr(at + 12).c_str());
        } else if (t == 1) {
          right += Compiled(axpyGPU(), "sm_90a").result.ok();
        } else {
          Compiled axpy(kAxpyCPU, "cpu");
          right += axpy.result.ok() && axpyIsRight(axpy, 100, 1);
        }
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  CHECK(right == 16);
}

static void testDevices() {
  int count = fa_device_count();
  CHECK(count >= 0);
  char *error = nullptr;
  int32_t major = 0, minor = 0;
  Result result =
      take(fa_device_capability(count, &major, &minor, &error), error);
  CHECK(result.status == FA_DRIVER_ERROR ||
        result.status == FA_INVALID_ARGUMENT);
  CHECK(!result.message.empty());
  if (count == 0) {
    Compiled axpy(axpyGPU(), "sm_80", R"({"cache": false, "ptxas": false})");
    float data[4] = {};
    fa_arg a = vectorArg(data, 4);
    CHECK(axpy.launch({a, a, realArg(1), a}).status == FA_DRIVER_ERROR);
  }
}

/// One dimension of the grid has all blocks: up to 2^31 - 1, and an error from
/// there on. Nothing reads the data.
static void testLargestGrid() {
  Compiled axpy(axpyGPU(), "sm_80", R"({"cache": false, "ptxas": false})");
  float data[4] = {};
  fa_arg a = vectorArg(data, int64_t(128) << 31);
  CHECK(axpy.launch({a, a, realArg(1), a})
            .failed(FA_UNSUPPORTED, "the launch of @axpy has 2147483648 "
                                    "blocks; a device takes at most "
                                    "2147483647"));
}

//===----------------------------------------------------------------------===//
// GPU, where there is one
//===----------------------------------------------------------------------===//

namespace {
/// The few driver functions that the tests need themselves.
struct Driver {
  void *library = dlopen("libcuda.so.1", RTLD_NOW);
  template <typename... Args> int call(const char *name, Args... args) {
    auto *function = reinterpret_cast<int (*)(Args...)>(dlsym(library, name));
    int result = function ? function(args...) : -1;
    if (result)
      fprintf(stderr, "%s: error %d\n", name, result);
    return result;
  }
};

/// A copy of `data` on the device.
struct DeviceArray {
  DeviceArray(Driver &driver, const std::vector<float> &data) : driver(driver) {
    CHECK(!driver.call("cuMemAlloc_v2", &address, data.size() * 4 + 16));
    CHECK(
        !driver.call("cuMemcpyHtoD_v2", address, data.data(), data.size() * 4));
  }
  ~DeviceArray() { driver.call("cuMemFree_v2", address); }
  std::vector<float> read(size_t size) {
    std::vector<float> data(size);
    CHECK(!driver.call("cuMemcpyDtoH_v2", data.data(), address, size * 4));
    return data;
  }
  void *pointer() { return reinterpret_cast<void *>(address); }
  Driver &driver;
  unsigned long long address = 0;
};
} // namespace

static void testGPU() {
  if (fa_device_count() == 0) {
    printf("no CUDA device: not run\n");
    return;
  }
  char *error = nullptr;
  int32_t major = 0, minor = 0;
  CHECK(take(fa_device_capability(0, &major, &minor, &error), error).ok());
  CHECK(major >= 8);

  Driver driver;
  int device = 0;
  void *context = nullptr;
  CHECK(!driver.call("cuDeviceGet", &device, 0));
  CHECK(!driver.call("cuDevicePrimaryCtxRetain", &context, device));
  CHECK(!driver.call("cuCtxPushCurrent_v2", context));
  constexpr int64_t kSize = 100001;
  std::vector<float> a(2 * kSize), b(kSize), poison(kSize + 1, NAN);
  for (int64_t i = 0; i < kSize; ++i) {
    a[2 * i] = (i * 37 % 2001 - 1000) / 64.0f;
    b[i] = (i * 91 % 1999 - 999) / 64.0f;
  }
  auto right = [&](DeviceArray &c) {
    std::vector<float> result = c.read(kSize + 1);
    for (int64_t i = 0; i < kSize; ++i)
      if (result[i] != 2.5f * a[2 * i] + b[i])
        return false;
    return std::isnan(result[kSize]);
  };
  DeviceArray da(driver, a), db(driver, b);
  void *stream = nullptr;
  CHECK(!driver.call("cuStreamCreate", &stream, 1u)); // non-blocking
  auto launch = [&](Compiled &compiled, DeviceArray &c, int ordinal) {
    fa_arg args[] = {vectorArg(da.pointer(), kSize, 2),
                     vectorArg(db.pointer(), kSize), realArg(2.5),
                     vectorArg(c.pointer(), kSize)};
    char *message = nullptr;
    int status =
        fa_launch(compiled.artifact, args, 4, ordinal, stream, &message);
    return take(status, message);
  };

  // PTX that the driver compiles, and a cubin where there is a ptxas.
  Compiled ptx(axpyGPU(), "sm_80", R"({"cache": false, "ptxas": false})");
  const char *own = major == 9 ? "sm_90a" : "sm_80";
  Compiled cubin(axpyGPU(), own);
  for (Compiled *compiled : {&ptx, &cubin})
    for (int ordinal : {0, -1}) {
      DeviceArray c(driver, poison);
      Result result = launch(*compiled, c, ordinal);
      CHECK(result.ok());
      if (!result.ok())
        fprintf(stderr, "%s\n", result.message.c_str());
      CHECK(!driver.call("cuStreamSynchronize", stream));
      CHECK(right(c));
    }
  { // A thread without a context takes the device's primary one.
    DeviceArray c(driver, poison);
    std::thread([&] {
      CHECK(launch(ptx, c, -1).failed(FA_INVALID_ARGUMENT, "device is -1"));
      CHECK(launch(ptx, c, 0).ok());
    }).join();
    CHECK(!driver.call("cuStreamSynchronize", stream));
    CHECK(right(c));
  }
  { // Captured into a graph, first launch of the artifact included.
    Compiled fresh(axpyGPU(), "sm_80", R"({"cache": false, "ptxas": false})");
    DeviceArray c(driver, poison);
    void *graph = nullptr, *executable = nullptr;
    CHECK(!driver.call("cuStreamBeginCapture_v2", stream, 0));
    CHECK(launch(fresh, c, 0).ok());
    CHECK(!driver.call("cuStreamEndCapture", stream, &graph));
    CHECK(
        !driver.call("cuGraphInstantiateWithFlags", &executable, graph, 0ull));
    CHECK(std::isnan(c.read(1)[0])); // nothing ran yet
    CHECK(!driver.call("cuGraphLaunch", executable, stream));
    CHECK(!driver.call("cuStreamSynchronize", stream));
    CHECK(right(c));
    driver.call("cuGraphExecDestroy", executable);
    driver.call("cuGraphDestroy", graph);
  }
  // Refused before anything is launched.
  DeviceArray c(driver, poison);
  CHECK(launch(ptx, c, 4096).failed(FA_INVALID_ARGUMENT, "device is 4096"));
  if (major != 9) {
    Compiled hopper(axpyGPU(), "sm_90a");
    CHECK(launch(hopper, c, 0).failed(FA_UNSUPPORTED, "runs on exactly 9.0"));
  }
  driver.call("cuStreamDestroy_v2", stream);
  void *popped;
  driver.call("cuCtxPopCurrent_v2", &popped);
}

int main(int argc, char **argv) {
  struct {
    const char *name;
    void (*run)();
  } tests[] = {{"LaunchOnCPU", testLaunchOnCPU},
               {"ConcurrentLaunches", testConcurrentLaunches},
               {"Fork", testFork},
               {"Arguments", testArguments},
               {"Chips", testChips},
               {"WrongPrograms", testWrongPrograms},
               {"SeveralLaunches", testSeveralLaunches},
               {"PTX", testPTX},
               {"Cubin", testCubin},
               {"ConvergentAsm", testConvergentAsm},
               {"CrashSurvival", testCrashSurvival},
               {"PtxasFailure", testPtxasFailure},
               {"OldPtxas", testOldPtxas},
               {"ArtifactFile", testArtifactFile},
               {"Cache", testCache},
               {"ConcurrentCache", testConcurrentCache},
               {"Specifications", testSpecifications},
               {"FewQueries", testFewQueries},
               {"SpecificationPrograms", testSpecificationPrograms},
               {"BackwardPrograms", testBackwardPrograms},
               {"NamedArguments", testNamedArguments},
               {"Unsupported", testUnsupported},
               {"ConcurrentCompilation", testConcurrentCompilation},
               {"Devices", testDevices},
               {"LargestGrid", testLargestGrid},
               {"GPU", testGPU}};
  int ran = 0;
  for (auto &test : tests) {
    if (argc > 1 && !strstr(test.name, argv[1]))
      continue;
    currentTest = test.name;
    int before = failures;
    auto start = std::chrono::steady_clock::now();
    test.run();
    printf("%s %s (%.0f ms)\n", failures == before ? "PASS" : "FAIL", test.name,
           milliseconds(start));
    fflush(stdout);
    ++ran;
  }
  if (!ran) {
    fprintf(stderr, "no test is named *%s*\n", argv[1]);
    return 2;
  }
  return failures ? 1 : 0;
}
