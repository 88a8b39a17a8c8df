//===- Ptxas.cpp - PTX to cubin with the ptxas found on the machine -------===//

#include "fa/Target/PTX.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace mlir::fa;
namespace fs = llvm::sys::fs;

/// Places of ptxas in Python wheels, below site-packages.
static constexpr StringLiteral kWheelPaths[] = {
    "nvidia/cu13/bin/ptxas",
    "nvidia/cuda_nvcc/bin/ptxas",
    "triton/backends/nvidia/bin/ptxas",
};

llvm::Expected<std::string>
mlir::fa::findPtxas(StringRef explicitPath,
                    const std::vector<std::string> &sitePackages) {
  auto demand = [](StringRef source,
                   StringRef path) -> llvm::Expected<std::string> {
    if (fs::can_execute(path))
      return path.str();
    return fail(FA_INVALID_ARGUMENT,
                "{0} is '{1}', which is no executable file; name a ptxas or "
                "leave it out",
                source, path);
  };
  if (!explicitPath.empty())
    return demand("option ptxas", explicitPath);
  if (auto path = llvm::sys::Process::GetEnv("FA_PTXAS"))
    return demand("FA_PTXAS", *path);
  for (const char *variable : {"CUDA_HOME", "CUDA_PATH"})
    if (auto home = llvm::sys::Process::GetEnv(variable))
      if (fs::can_execute(*home + "/bin/ptxas"))
        return *home + "/bin/ptxas";
  if (auto path = llvm::sys::findProgramByName("ptxas"))
    return *path;
  for (const std::string &folder : sitePackages)
    for (StringRef wheel : kWheelPaths)
      if (std::string path = (folder + "/" + wheel).str();
          fs::can_execute(path))
        return path;
  return std::string();
}

/// The log without times, its kernels by name: the same for the same program,
/// however many were assembled side by side.
static std::string withoutChance(StringRef log) {
  SmallVector<StringRef> lines;
  log.split(lines, '\n');
  std::vector<std::pair<StringRef, std::string>> kernels(1);
  for (StringRef line : lines) {
    if (line.empty() || line.contains("Compile time"))
      continue;
    if (line.contains("Compiling entry function"))
      kernels.emplace_back(line, "");
    kernels.back().second += (line + "\n").str();
  }
  llvm::stable_sort(kernels, llvm::less_first());
  std::string text;
  for (auto &[name, part] : kernels)
    text += part;
  return text;
}

llvm::Expected<Cubin> mlir::fa::assemblePTX(StringRef ptx, StringRef chip,
                                            StringRef ptxas) {
  SmallString<128> input, output, log;
  llvm::scope_exit cleanup([&] {
    for (StringRef file : {input.str(), output.str(), log.str()})
      if (!file.empty())
        fs::remove(file);
  });
  int fd;
  if (auto code = fs::createTemporaryFile("fa", "ptx", fd, input))
    return fail(FA_IO_ERROR, "cannot write a temporary file: {0}",
                code.message());
  {
    llvm::raw_fd_ostream os(fd, /*shouldClose=*/true);
    os << ptx;
    os.close();
    if (auto code = os.error()) {
      os.clear_error();
      return fail(FA_IO_ERROR, "cannot write {0}: {1}", input, code.message());
    }
  }
  for (auto [suffix, path] : {std::pair("cubin", &output), {"log", &log}})
    if (auto code = fs::createTemporaryFile("fa", suffix, *path))
      return fail(FA_IO_ERROR, "cannot write a temporary file: {0}",
                  code.message());

  auto read = [](StringRef path) {
    auto buffer = llvm::MemoryBuffer::getFile(path);
    return buffer ? (*buffer)->getBuffer().str() : std::string();
  };
  std::string arch = ("-arch=" + chip).str();
  std::string message;
  Cubin cubin;
  auto execute = [&](bool inParallel) {
    SmallVector<StringRef> args = {ptxas, "-v", "-O3", arch,
                                   input, "-o", output};
    // The same number everywhere: the cubin must not depend on the machine.
    if (inParallel)
      args.push_back("--split-compile=4");
    std::optional<StringRef> redirects[] = {StringRef(""), log.str(),
                                            log.str()};
    int code = llvm::sys::ExecuteAndWait(ptxas, args, std::nullopt, redirects,
                                         0, 0, &message);
    cubin.log = withoutChance(read(log));
    return code;
  };
  // The kernels of a program side by side, where ptxas can do that.
  bool inParallel = ptx.count(".entry ") > 1;
  int code = execute(inParallel);
  if (code && inParallel && StringRef(cubin.log).contains("split-compile"))
    code = execute(/*inParallel=*/false);

  // The driver's own compiler may well be newer.
  bool tooOld = StringRef(cubin.log).contains("Unsupported .version") ||
                StringRef(cubin.log).contains("is not defined for option");
  if (code && tooOld)
    return cubin;
  if (code)
    return fail(FA_COMPILE_ERROR, "{0} failed on the PTX for {1}: {2}{3}",
                ptxas, chip, message, cubin.log);
  cubin.code = read(output);
  return cubin;
}
