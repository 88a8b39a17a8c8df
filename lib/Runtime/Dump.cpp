//===- Dump.cpp - A compilation written to a folder -----------------------===//

#include "fa/Runtime/Dump.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassInstrumentation.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace mlir::fa;
namespace fs = llvm::sys::fs;

llvm::Error Dump::open() const {
  if (folder.empty())
    return llvm::Error::success();
  // Files of a longer pipeline would pass for those of this one.
  std::string passes = folder + "/passes";
  fs::remove_directories(passes);
  if (auto code = fs::create_directories(passes))
    return fail(FA_IO_ERROR, "cannot make the dump folder {0}: {1}", folder,
                code.message());
  return llvm::Error::success();
}

void Dump::write(const llvm::Twine &file, StringRef contents) {
  if (folder.empty())
    return;
  std::string path = (folder + "/" + file).str();
  std::error_code code;
  llvm::raw_fd_ostream os(path, code);
  if (!code) {
    os << contents;
    os.close();
    code = os.error();
    os.clear_error();
  }
  if (code && failure.empty())
    failure = path + ": " + code.message();
}

llvm::Error Dump::finish() const {
  if (failure.empty())
    return llvm::Error::success();
  return fail(FA_IO_ERROR, "cannot write the dump: {0}", failure);
}

namespace {
/// The whole module each time: a file is a program that fa-opt goes on with.
struct Writer : PassInstrumentation {
  explicit Writer(Dump &dump) : dump(dump) {}

  void runAfterPass(Pass *pass, Operation *op) override { write(pass, op, ""); }
  void runAfterPassFailed(Pass *pass, Operation *op) override {
    write(pass, op, ".failed");
  }

  void write(Pass *pass, Operation *op, StringRef suffix) {
    // Passes of MLIR's that only run others have no flag.
    if (pass->getArgument().empty())
      return;
    auto module = dyn_cast<ModuleOp>(op);
    if (!module)
      module = op->getParentOfType<ModuleOp>();
    std::string text;
    llvm::raw_string_ostream os(text);
    module->print(os);
    os << '\n';
    std::string name = ((++number < 10 ? "passes/0" : "passes/") +
                        Twine(number) + "-" + pass->getArgument())
                           .str();
    // The launches of a program go through the passes one after the other.
    if (auto symbol =
            op->getAttrOfType<StringAttr>(SymbolTable::getSymbolAttrName()))
      name += ("." + symbol.getValue()).str();
    dump.write(name + suffix + ".mlir", text);
  }

  Dump &dump;
  int number = 0;
};
} // namespace

void Dump::attach(PassManager &manager) {
  if (!folder.empty())
    manager.addInstrumentation(std::make_unique<Writer>(*this));
}

/// What `program` (nvdisasm or cuobjdump) prints for `cubin`; empty when there
/// is none or it fails.
static std::string disassemble(StringRef cubin, StringRef ptxas) {
  SmallString<128> output;
  if (fs::createTemporaryFile("fa", "sass", output))
    return "";
  llvm::scope_exit cleanup([&] { fs::remove(output); });
  StringRef beside = llvm::sys::path::parent_path(ptxas);
  for (auto [name, option] : {std::pair<StringRef, StringRef>("nvdisasm", "-c"),
                              {"cuobjdump", "-sass"}}) {
    auto program = llvm::sys::findProgramByName(name, {beside});
    if (!program)
      program = llvm::sys::findProgramByName(name);
    if (!program)
      continue;
    StringRef args[] = {*program, option, cubin};
    std::optional<StringRef> redirects[] = {StringRef(""), output.str(),
                                            StringRef("")};
    if (llvm::sys::ExecuteAndWait(*program, args, std::nullopt, redirects))
      continue;
    auto buffer = llvm::MemoryBuffer::getFile(output);
    if (buffer && !(*buffer)->getBuffer().empty())
      return (*buffer)->getBuffer().str();
  }
  return "";
}

void Dump::writeParts(const Artifact &artifact, StringRef ptxas) {
  if (folder.empty())
    return;
  constexpr std::pair<const char *, const char *> kFiles[] = {
      {"mlir", "program.mlir"},      {"llvm_ir", "program.ll"},
      {"ptx", "program.ptx"},        {"cubin", "program.cubin"},
      {"object", "program.o"},       {"metadata", "metadata.json"},
      {"ptxas_log", "ptxas.log"},    {"report", "report.json"},
      {"explanation", "report.txt"},
  };
  for (auto [part, file] : kFiles)
    if (const std::string *contents = artifact.find(part))
      write(file, *contents);
  if (artifact.find("cubin"))
    if (std::string text = disassemble(folder + "/program.cubin", ptxas);
        !text.empty())
      write("program.sass", text);
}
