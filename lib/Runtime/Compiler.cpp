//===- Compiler.cpp - MLIR text to artifact -------------------------------===//

#include "fa/Runtime/Compiler.h"
#include "fa/Dialect/FA/IR/FA.h"
#include "fa/Dialect/FA/Transforms/Schedules.h"
#include "fa/Pipelines/Pipelines.h"
#include "fa/Runtime/Cache.h"
#include "fa/Runtime/Dump.h"
#include "fa/Runtime/Report.h"
#include "fa/Target/Host.h"
#include "fa/Target/PTX.h"
#include "mlir/AsmParser/AsmParser.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Remarks.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassInstrumentation.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/IR/DiagnosticInfo.h"
#include "llvm/IR/DiagnosticPrinter.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace mlir::fa;

//===----------------------------------------------------------------------===//
// Options
//===----------------------------------------------------------------------===//

llvm::Expected<CompileOptions> CompileOptions::parse(StringRef text) {
  CompileOptions options;
  if (text.trim().empty())
    return options;
  auto value = llvm::json::parse(text);
  if (!value)
    return fail(FA_INVALID_ARGUMENT, "options are no valid JSON: {0}",
                llvm::toString(value.takeError()));
  const llvm::json::Object *object = value->getAsObject();
  if (!object)
    return fail(FA_INVALID_ARGUMENT, "options must be a JSON object");
  for (auto &pair : *object) {
    StringRef name = pair.first;
    const llvm::json::Value &entry = pair.second;
    auto wrong = [&](const char *allowed) {
      return fail(FA_INVALID_ARGUMENT, "option `{0}` is {1}; allowed is {2}",
                  name, entry, allowed);
    };
    auto string = entry.getAsString();
    auto boolean = entry.getAsBoolean();
    if (name == "schedule" || name == "dump" || name == "cpu") {
      if (!string)
        return wrong("a string");
      (name == "dump"  ? options.dump
       : name == "cpu" ? options.cpu
                       : options.schedule) = string->str();
    } else if (name == "ptxas" || name == "cache" || name == "schedules") {
      auto [path, use] =
          name == "ptxas"   ? std::tie(options.ptxas, options.usePtxas)
          : name == "cache" ? std::tie(options.cache, options.useCache)
                            : std::tie(options.schedules, options.useSchedules);
      if (string)
        path = string->str();
      else if (boolean && !*boolean)
        use = false;
      else
        return wrong("a path or false");
    } else if (name == "site_packages") {
      const llvm::json::Array *array = entry.getAsArray();
      if (!array)
        return wrong("an array of folders");
      for (const llvm::json::Value &folder : *array) {
        if (!folder.getAsString())
          return wrong("an array of folders");
        options.sitePackages.push_back(folder.getAsString()->str());
      }
    } else if (name == "stop_after") {
      if (string == "llvm")
        options.stopAfter = StopAfter::LLVMIR;
      else if (string == "ptx")
        options.stopAfter = StopAfter::PTX;
      else
        return wrong("\"llvm\" or \"ptx\"");
    } else {
      return fail(FA_INVALID_ARGUMENT,
                  "unknown option `{0}`; allowed are schedule, schedules, cpu, "
                  "dump, ptxas, site_packages, cache and stop_after",
                  name);
    }
  }
  return options;
}

//===----------------------------------------------------------------------===//
// Pipeline
//===----------------------------------------------------------------------===//

/// Whether `module` holds the result of a lowering pipeline already.
static bool isLowered(ModuleOp module) {
  return module
      .walk([](LLVM::LLVMFuncOp func) {
        return func->hasAttr("tile.launch") ? WalkResult::interrupt()
                                            : WalkResult::advance();
      })
      .wasInterrupted();
}

namespace {
/// A file of schedules, which is not there if `text` is empty.
struct SchedulesFile {
  std::string path, text;
};
} // namespace

/// The tables that fa-select-schedule shall look in first, as an attribute of
/// `module`: that of the option `schedule`, else the module's own, else the
/// file's. A file that does not hold is ignored, with a remark.
static LogicalResult attachSchedules(ModuleOp module,
                                     const CompileOptions &options,
                                     const SchedulesFile &file) {
  if (!options.schedule.empty()) {
    Attribute given = parseAttribute(options.schedule, module.getContext());
    if (auto table = dyn_cast_or_null<SchedulesAttr>(given))
      module->setAttr(kSchedulesAttrName, table);
    else if (!isa_and_nonnull<ScheduleAttr>(given))
      return module.emitError()
             << "option `schedule` is '" << options.schedule
             << "'; allowed is a #fa.schedule or #fa.schedules attribute";
    return success();
  }
  if (file.text.empty() || module->hasAttr(kSchedulesAttrName))
    return success();
  std::string problem;
  if (auto table =
          parseSchedules(module.getContext(), file.text, file.path, problem))
    module->setAttr(kSchedulesAttrName, table);
  else
    remark::missed(
        module.getLoc(),
        remark::RemarkOpts::name("schedules").category("fa-select-schedule"))
        << remark::reason("{0} is ignored: {1}", file.path, problem)
        << remark::suggest("`python3 -m flash_attn_mlir tune` makes such a "
                           "file; or remove it");
  return success();
}

namespace {
/// Remembers which pass failed.
struct FailedPass : PassInstrumentation {
  explicit FailedPass(std::string &name) : name(name) {}
  void runAfterPassFailed(Pass *pass, Operation *) override {
    if (name.empty()) // the innermost comes first
      name = pass->getArgument().str();
  }
  std::string &name;
};
} // namespace

/// On failure, `failedPass` is the flag of the pass that failed.
static LogicalResult runPipeline(ModuleOp module, StringRef chip,
                                 const CompileOptions &options, Dump &dump,
                                 std::string &failedPass) {
  PassManager manager(module.getContext());
  dump.attach(manager);
  manager.addInstrumentation(std::make_unique<FailedPass>(failedPass));
  // One schedule for all; a table is the module's by now.
  StringRef schedule = options.schedule;
  if (schedule.ltrim().starts_with("#fa.schedules"))
    schedule = "";
  buildLoweringPipeline(manager, module, chip, schedule, options.cpu);
  // Verified once, not after each of two dozen passes: that would be a tenth of
  // the time to a kernel. fa-opt verifies each.
  manager.enableVerifier(false);
  if (failed(manager.run(module)))
    return failure();
  return verify(module);
}

//===----------------------------------------------------------------------===//
// Compilation
//===----------------------------------------------------------------------===//

namespace {
/// Collects errors of MLIR and of LLVM; LLVM would end the process on some.
struct DiagnosticSink : llvm::DiagnosticHandler {
  explicit DiagnosticSink(std::string &text) : text(text) {}
  bool handleDiagnostics(const llvm::DiagnosticInfo &info) override {
    if (info.getSeverity() == llvm::DS_Error) {
      llvm::raw_string_ostream os(text);
      llvm::DiagnosticPrinterRawOStream printer(os);
      info.print(printer);
      os << '\n';
    }
    return true;
  }
  std::string &text;
};
} // namespace

static std::string printed(llvm::Module &module) {
  std::string text;
  llvm::raw_string_ostream os(text);
  module.print(os, nullptr);
  return text;
}

/// Names and alignments of the arguments, which tile.args does not carry.
static void readArgumentAttributes(ModuleOp module, LaunchInfo &info) {
  module.walk([&](FunctionOpInterface func) {
    if (func.isPrivate() || func.isDeclaration() ||
        func.getNumArguments() != info.args.size())
      return;
    for (auto [index, arg] : llvm::enumerate(info.args)) {
      if (auto name = func.getArgAttrOfType<StringAttr>(index, "tile.name"))
        arg.name = llvm::json::fixUTF8(name);
      if (auto align = func.getArgAttrOfType<IntegerAttr>(index, "tile.align"))
        arg.align = align.getInt();
      arg.nonnegative =
          static_cast<bool>(func.getArgAttr(index, "fa.nonnegative"));
    }
  });
}

/// The functions that the runtime launches, in order: one, or the launches
/// 0, 1, ... of one program.
static llvm::Expected<SmallVector<LLVM::LLVMFuncOp>>
findEntries(ModuleOp module) {
  SmallVector<LLVM::LLVMFuncOp> entries;
  module.walk([&](LLVM::LLVMFuncOp func) {
    if (func->hasAttr("tile.launch"))
      entries.push_back(func);
  });
  auto getOrder = [](LLVM::LLVMFuncOp func) {
    auto order = func->getAttrOfType<IntegerAttr>("tile.order");
    return order ? order.getInt() : 0;
  };
  llvm::sort(entries, [&](LLVM::LLVMFuncOp a, LLVM::LLVMFuncOp b) {
    return getOrder(a) < getOrder(b);
  });
  bool ambiguous = llvm::any_of(llvm::enumerate(entries), [&](auto pair) {
    return getOrder(pair.value()) != int64_t(pair.index());
  });
  if (entries.empty() || ambiguous)
    return fail(
        FA_INVALID_ARGUMENT,
        "the program has {0} function to launch; exactly one is allowed",
        ambiguous ? "more than one" : "no");
  return entries;
}

/// Everything from text to artifact; runs where a crash is survived.
static llvm::Error compileUnsafely(StringRef text, StringRef chip,
                                   const CompileOptions &options,
                                   const SchedulesFile &schedules, Dump &dump,
                                   Artifact &artifact,
                                   llvm::json::Array &remarks) {
  DialectRegistry registry;
  registerCompilerDialects(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  context.printOpOnDiagnostic(false); // the reproducer holds it
  collectRemarks(context, remarks);
  std::string diagnostics;
  ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
    if (diagnostic.getSeverity() == DiagnosticSeverity::Error) {
      llvm::raw_string_ostream os(diagnostics);
      os << diagnostic.getLocation() << ": " << diagnostic << '\n';
      for (Diagnostic &note : diagnostic.getNotes())
        os << "  note: " << note << '\n';
    }
    return success();
  });
  auto failed = [&](fa_status status, const char *what) {
    return fail(status, "{0}:\n{1}", what, diagnostics);
  };

  OwningOpRef<ModuleOp> module =
      parseSourceString<ModuleOp>(text, ParserConfig(&context), "program");
  if (!module)
    return failed(FA_INVALID_ARGUMENT, "the program is no valid MLIR");
  if (mlir::failed(attachSchedules(*module, options, schedules)))
    return failed(FA_INVALID_ARGUMENT, "wrong option");
  OwningOpRef<ModuleOp> source = module->clone();
  std::string failedPass;
  if (!isLowered(*module) &&
      mlir::failed(runPipeline(*module, chip, options, dump, failedPass))) {
    // The choice of a schedule is where a target refuses a program.
    if (failedPass == "fa-select-schedule")
      return failed(FA_UNSUPPORTED, "not supported on this target");
    return failed(FA_COMPILE_ERROR,
                  ("lowering failed in " + failedPass).c_str());
  }

  auto entries = findEntries(*module);
  if (!entries)
    return entries.takeError();
  LLVM::LLVMFuncOp entry = entries->front();
  auto gpuModule = entry->getParentOfType<gpu::GPUModuleOp>();
  bool isCPU = chip == "cpu";
  if (static_cast<bool>(gpuModule) == isCPU)
    return fail(FA_INVALID_ARGUMENT,
                "the program is lowered for {0}, not for {1}",
                gpuModule ? "a GPU" : "the CPU", chip);
  auto info = LaunchInfo::fromFunctions(
      SmallVector<Operation *>(entries->begin(), entries->end()), chip);
  if (!info)
    return info.takeError();
  readArgumentAttributes(*source, *info);
  artifact.info = *info;
  artifact.parts["mlir"] = text.str();
  artifact.parts["metadata"] = info->toJSON();

  llvm::LLVMContext llvmContext;
  llvmContext.setDiagnosticHandler(
      std::make_unique<DiagnosticSink>(diagnostics));
  std::unique_ptr<llvm::Module> llvmModule =
      isCPU ? translateModuleToLLVMIR(*module, llvmContext, "fa")
            : translateGPUModule(gpuModule, chip, llvmContext);
  if (!llvmModule)
    return failed(FA_COMPILE_ERROR, "translation to LLVM IR failed");
  artifact.parts["llvm_ir"] = printed(*llvmModule);
  if (options.stopAfter == StopAfter::LLVMIR)
    return llvm::Error::success();

  auto code = isCPU ? emitHostObject(*llvmModule, options.cpu)
                    : emitPTX(*llvmModule, chip);
  if (!code)
    return code.takeError();
  if (!diagnostics.empty())
    return failed(FA_COMPILE_ERROR, "code generation failed");
  if (dump)
    dump.write("optimized.ll", printed(*llvmModule));
  artifact.parts[isCPU ? "object" : "ptx"] = std::move(*code);
  if (isCPU)
    artifact.parts["host"] = getHostDescription(options.cpu);
  return llvm::Error::success();
}

/// Writes a file with which a failure can be repeated; returns what to tell.
static std::string writeReproducer(StringRef text, StringRef chip,
                                   const CompileOptions &options,
                                   const Dump &dump) {
  SmallString<128> path;
  int fd;
  std::error_code code =
      !dump ? llvm::sys::fs::createTemporaryFile("fa-reproducer", "mlir", fd,
                                                 path)
            : llvm::sys::fs::createUniqueFile(
                  dump.getFolder() + "/fa-reproducer-%%%%%%.mlir", fd, path);
  if (code)
    return " (no reproducer: " + code.message() + ")";
  llvm::raw_fd_ostream os(fd, /*shouldClose=*/true);
  os << "// chip: " << chip << "\n";
  if (!options.schedule.empty())
    os << "// schedule: " << options.schedule << "\n";
  os << text;
  os.close();
  os.clear_error();
  return ("\nreproducer: " + path).str();
}

/// The folder of option `dump`, or one of FA_DUMP's for the program `key`.
static Dump findDump(const CompileOptions &options, StringRef chip,
                     StringRef key) {
  if (!options.dump.empty())
    return Dump(options.dump);
  auto folder = llvm::sys::Process::GetEnv("FA_DUMP");
  if (!folder || folder->empty())
    return Dump();
  return Dump((*folder + "/" + chip + "-" + key.take_front(16)).str());
}

/// The table that option `schedules` names, or what was tuned on this machine.
static llvm::Expected<SchedulesFile>
readSchedules(const CompileOptions &options, const Cache &cache,
              StringRef chip) {
  if (!options.useSchedules || !options.schedule.empty())
    return SchedulesFile();
  std::string path = options.schedules.empty() ? cache.getSchedulesFile(chip)
                                               : options.schedules;
  // Read, not mapped: another process may write it anew meanwhile.
  auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                            /*RequiresNullTerminator=*/true,
                                            /*IsVolatile=*/true);
  if (buffer)
    return SchedulesFile{path, (*buffer)->getBuffer().str()};
  if (options.schedules.empty())
    return SchedulesFile();
  return fail(
      FA_IO_ERROR,
      "option `schedules` is \"{0}\", which can't be read: {1}; allowed "
      "is a file with a #fa.schedules table, or false",
      path, buffer.getError().message());
}

llvm::Expected<std::unique_ptr<Artifact>>
mlir::fa::compile(StringRef text, StringRef chip,
                  const CompileOptions &options) {
  bool isCPU = chip == "cpu";
  if (!isCPU && !options.cpu.empty())
    return fail(FA_INVALID_ARGUMENT,
                "option `cpu` is \"{0}\" for chip {1}; it is allowed for chip "
                "cpu only",
                options.cpu, chip);
  if (llvm::Error error = isCPU ? checkCPU(options.cpu) : checkGPUChip(chip))
    return std::move(error);
  std::string ptxas;
  if (!isCPU && options.usePtxas && options.stopAfter == StopAfter::Nothing) {
    auto found = findPtxas(options.ptxas, options.sitePackages);
    if (!found)
      return found.takeError();
    ptxas = std::move(*found);
  }

  Cache cache(options.cache);
  auto schedules = readSchedules(options, cache, chip);
  if (!schedules)
    return schedules.takeError();

  std::string host = isCPU ? getHostDescription(options.cpu) : "";
  std::string stop = std::to_string(static_cast<int>(options.stopAfter));
  std::string key =
      Cache::getKey({text, chip, options.schedule, schedules->path,
                     schedules->text, ptxas, stop, host});
  Dump dump = findDump(options, chip, key);
  if (llvm::Error error = dump.open())
    return std::move(error);
  // A dump wants the passes to run.
  bool useCache = options.useCache && !dump;
  if (useCache)
    if (std::unique_ptr<Artifact> artifact = cache.load(key))
      return std::move(artifact);

  auto artifact = std::make_unique<Artifact>();
  llvm::json::Array remarks;
  llvm::Error error = runCrashSafely([&] {
    return compileUnsafely(text, chip, options, *schedules, dump, *artifact,
                           remarks);
  });
  if (!error && !ptxas.empty()) {
    auto cubin = assemblePTX(artifact->parts["ptx"], chip, ptxas);
    if (cubin) {
      if (!cubin->code.empty())
        artifact->parts["cubin"] = std::move(cubin->code);
      artifact->parts["ptxas_log"] = std::move(cubin->log);
    } else {
      error = cubin.takeError();
    }
  }
  if (!error)
    addReport(*artifact, std::move(remarks));
  dump.writeParts(*artifact, ptxas);
  if (error)
    return llvm::handleErrors(
        std::move(error), [&](const Failure &failure) -> llvm::Error {
          std::string message = failure.getMessage();
          if (!schedules->text.empty())
            message += "\nschedules of " + schedules->path +
                       " were in use: remove it, or set option `schedules` to "
                       "false, to do without";
          if (failure.getStatus() == FA_COMPILE_ERROR)
            message += writeReproducer(text, chip, options, dump);
          return fail(failure.getStatus(), message);
        });
  if (llvm::Error unwritten = dump.finish())
    return std::move(unwritten);
  if (useCache)
    cache.store(key, *artifact);
  return std::move(artifact);
}
