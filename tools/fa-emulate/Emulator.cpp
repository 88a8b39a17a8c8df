//===- Emulator.cpp - Kernels for the host --------------------------------===//

#include "Emulator.h"
#include "fa/Target/OptimizeGPU.h"
#include "llvm/AsmParser/Parser.h"
#include "llvm/ExecutionEngine/Orc/ExecutionUtils.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/IR/AttributeMask.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/InlineAsm.h"
#include "llvm/IR/InstIterator.h"
#include "llvm/IR/IntrinsicInst.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/IR/ModuleSlotTracker.h"
#include "llvm/IR/Verifier.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include <cmath>
#include <xmmintrin.h>

using namespace llvm;
using namespace fa::emulate;

//===----------------------------------------------------------------------===//
// What compiled kernels call
//===----------------------------------------------------------------------===//

static Machine *running = nullptr;

static void callSite(int32_t site, uint64_t *registers) {
  running->execute(site, registers);
}
static void callShared(int32_t site, uint64_t address, int32_t size,
                       int32_t write) {
  running->accessShared(site, address, size, write);
}
static void callGlobal(int32_t site, uint64_t address, int32_t size) {
  running->accessGlobal(site, address, size);
}
static int32_t callThread() { return running->threadIndex(); }
static int32_t callBlock() { return int32_t(running->blockIndex()); }
static int32_t callThreads() { return running->blockThreads(); }
static int32_t callBlocks() { return int32_t(running->gridBlocks()); }
static float callExp2(float x) { return std::exp2(x); }
static float callLog2(float x) { return std::log2(x); }
static float callReciprocal(float x) { return 1 / x; }
static float callDivide(float x, float y) { return x / y; }
static float callRsqrt(float x) { return 1 / std::sqrt(x); }
static float callTanh(float x) { return std::tanh(x); }

/// LLVM's conversion to bf16 where the host has no instruction for it.
static __bf16 toBF16(float x) {
  uint32_t bits = bit_cast<uint32_t>(x);
  if (std::isnan(x))
    bits |= 0x400000;
  else
    bits += 0x7FFF + (bits >> 16 & 1);
  return bit_cast<__bf16>(uint16_t(bits >> 16));
}

namespace {
struct HostFunction {
  const char *name;
  void *address;
};
} // namespace

/// Intrinsics of one thread that are functions on the host.
static const HostFunction kFunctions[] = {
    {"llvm.nvvm.read.ptx.sreg.tid.x", (void *)callThread},
    {"llvm.nvvm.read.ptx.sreg.ctaid.x", (void *)callBlock},
    {"llvm.nvvm.read.ptx.sreg.ntid.x", (void *)callThreads},
    {"llvm.nvvm.read.ptx.sreg.nctaid.x", (void *)callBlocks},
    {"llvm.nvvm.ex2.approx.ftz.f32", (void *)callExp2},
    {"llvm.nvvm.ex2.approx.f32", (void *)callExp2},
    {"llvm.nvvm.ex2.approx.ftz.f", (void *)callExp2},
    {"llvm.nvvm.lg2.approx.ftz.f", (void *)callLog2},
    {"llvm.nvvm.lg2.approx.f", (void *)callLog2},
    {"llvm.nvvm.rcp.approx.ftz.f", (void *)callReciprocal},
    {"llvm.nvvm.div.full.ftz", (void *)callDivide},
    {"llvm.nvvm.rsqrt.approx.ftz.f", (void *)callRsqrt},
    {"llvm.nvvm.tanh.approx.f32", (void *)callTanh},
};
static const HostFunction kRuntime[] = {
    {"fa_emulate_site", (void *)callSite},
    {"fa_emulate_shared", (void *)callShared},
    {"fa_emulate_global", (void *)callGlobal},
    {"__truncsfbf2", (void *)toBF16},
};

//===----------------------------------------------------------------------===//
// From NVPTX to the host
//===----------------------------------------------------------------------===//

struct fa_emulator {
  std::unique_ptr<orc::LLJIT> jit;
  std::vector<Site> sites;
  std::string listing;
};

namespace {
class Translator {
public:
  Translator(Module &module, std::vector<Site> &sites)
      : module(module), context(module.getContext()), sites(sites),
        numbers(&module), i32(Type::getInt32Ty(context)),
        i64(Type::getInt64Ty(context)), pointer(PointerType::get(context, 0)) {}

  Error run(char *window) {
    for (GlobalVariable &global : make_early_inc_range(module.globals())) {
      if (global.getAddressSpace() != 3)
        continue;
      if (!global.isDeclaration())
        return createStringError("the emulator has dynamic shared memory only; "
                                 "@" +
                                 global.getName() + " is static");
      uint64_t address =
          reinterpret_cast<uint64_t>(window) + SharedMemory::kReserved;
      global.replaceAllUsesWith(ConstantExpr::getIntToPtr(
          ConstantInt::get(i64, address), global.getType()));
      global.eraseFromParent();
    }
    for (Function &function : make_early_inc_range(module)) {
      if (function.isDeclaration() || function.getName().starts_with("fa_emu"))
        continue;
      if (Error error = translate(function))
        return error;
      makeEntry(function);
    }
    for (Function &function : make_early_inc_range(module))
      if (function.isDeclaration() && function.use_empty())
        function.eraseFromParent();
    std::string problem;
    raw_string_ostream os(problem);
    if (verifyModule(module, &os))
      return createStringError("the emulator made invalid IR: " + problem);
    return Error::success();
  }

private:
  std::string textOf(Instruction &inst) {
    std::string text;
    raw_string_ostream os(text);
    inst.print(os, numbers);
    StringRef line = StringRef(text).trim();
    if (auto *call = dyn_cast<CallInst>(&inst); call && call->isInlineAsm()) {
      // The first line that says something.
      StringRef assembly =
          cast<InlineAsm>(call->getCalledOperand())->getAsmString();
      SmallVector<StringRef> lines;
      assembly.split(lines, '\n');
      for (StringRef candidate : lines)
        if (candidate.contains("wgmma") || candidate.contains("mbarrier") ||
            candidate.contains("cp.async") || candidate.contains("bar.") ||
            candidate.contains("fence"))
          return candidate.substr(0, 120).str();
    }
    return line.substr(0, 120).str();
  }

  int addSite(Instruction &inst, Site site) {
    site.text = textOf(inst);
    sites.push_back(std::move(site));
    return sites.size() - 1;
  }

  FunctionCallee runtime(StringRef name, ArrayRef<Type *> parameters) {
    return module.getOrInsertFunction(
        name, FunctionType::get(Type::getVoidTy(context), parameters, false));
  }

  Error translate(Function &function) {
    function.setCallingConv(CallingConv::C);
    for (Argument &argument : function.args())
      argument.getParent()->removeParamAttrs(
          argument.getArgNo(), AttributeMask()
                                   .addAttribute(Attribute::ByVal)
                                   .addAttribute("nvvm.grid_constant"));
    // The numbers of values, as the text has them.
    numbers.incorporateFunction(function);
    SmallVector<Instruction *> instructions;
    for (Instruction &inst : llvm::instructions(function))
      instructions.push_back(&inst);
    scratch = nullptr;
    scratchSize = 1;
    for (Instruction *inst : instructions) {
      if (auto *call = dyn_cast<CallInst>(inst)) {
        if (Error error = translateCall(*call))
          return error;
      } else if (auto *load = dyn_cast<LoadInst>(inst)) {
        checkAccess(*inst, load->getPointerOperand(), load->getType(), false);
      } else if (auto *store = dyn_cast<StoreInst>(inst)) {
        checkAccess(*inst, store->getPointerOperand(),
                    store->getValueOperand()->getType(), true);
      } else if (auto *rmw = dyn_cast<AtomicRMWInst>(inst)) {
        if (rmw->getPointerAddressSpace() == 3)
          return createStringError(
              "the emulator does not know atomics on shared memory");
        checkAccess(*inst, rmw->getPointerOperand(), rmw->getType(), true);
      } else if (isa<AtomicCmpXchgInst>(inst)) {
        return createStringError("the emulator does not know cmpxchg");
      }
    }
    if (scratch)
      scratch->setOperand(0, ConstantInt::get(i64, scratchSize));
    return Error::success();
  }

  void checkAccess(Instruction &inst, Value *address, Type *type, bool write) {
    if (isa<AllocaInst>(address->stripInBoundsOffsets()))
      return;
    unsigned space = address->getType()->getPointerAddressSpace();
    uint64_t size = module.getDataLayout().getTypeStoreSize(type);
    IRBuilder<> builder(&inst);
    Value *site = builder.getInt32(addSite(inst, Site()));
    Value *bits = builder.CreatePtrToInt(address, i64);
    if (space == 3)
      builder.CreateCall(
          runtime("fa_emulate_shared", {i32, i64, i32, i32}),
          {site, bits, builder.getInt32(size), builder.getInt32(write)});
    else
      builder.CreateCall(runtime("fa_emulate_global", {i32, i64, i32}),
                         {site, bits, builder.getInt32(size)});
  }

  Error translateCall(CallInst &call) {
    Function *callee = call.getCalledFunction();
    StringRef name = callee ? callee->getName() : "";
    if (!call.isInlineAsm()) {
      if (!callee)
        return createStringError("the emulator does not know indirect calls");
      for (const HostFunction &function : kFunctions) {
        if (name != function.name)
          continue;
        FunctionCallee host = module.getOrInsertFunction(
            ("fa_emulate." + name).str(), callee->getFunctionType());
        call.setCalledFunction(host);
        call.setAttributes(AttributeList());
        return Error::success();
      }
      if (!name.starts_with("llvm.nvvm.")) {
        if (callee->isIntrinsic() || !callee->isDeclaration())
          return Error::success();
        return createStringError("the emulator does not know the function `" +
                                 name + "`");
      }
    }
    Expected<Site> site = parseSite(call);
    if (!site)
      return site.takeError();
    int results = site->numResults;
    scratchSize = std::max(scratchSize, site->numRegisters);
    int index = addSite(call, std::move(*site));

    // Operands to memory, the call, results from memory.
    if (!scratch) {
      BasicBlock &entry = call.getFunction()->getEntryBlock();
      IRBuilder<> builder(&entry, entry.begin());
      scratch = builder.CreateAlloca(i64, ConstantInt::get(i64, 1));
    }
    IRBuilder<> builder(&call);
    auto slot = [&](int i) {
      return builder.CreateConstGEP1_64(i64, scratch, i);
    };
    for (auto [i, operand] : enumerate(call.args())) {
      Value *value = operand;
      if (value->getType()->isIntegerTy(1))
        value = builder.CreateZExt(value, i64);
      builder.CreateStore(value, slot(results + i));
    }
    builder.CreateCall(runtime("fa_emulate_site", {i32, pointer}),
                       {builder.getInt32(index), scratch});
    auto result = [&](Type *type, int i) -> Value * {
      if (type->isIntegerTy(1))
        return builder.CreateTrunc(builder.CreateLoad(i64, slot(i)), type);
      return builder.CreateLoad(type, slot(i));
    };
    if (auto *type = dyn_cast<StructType>(call.getType())) {
      Value *all = PoisonValue::get(type);
      for (unsigned i = 0; i < type->getNumElements(); ++i)
        all = builder.CreateInsertValue(all, result(type->getElementType(i), i),
                                        i);
      call.replaceAllUsesWith(all);
    } else if (!call.getType()->isVoidTy()) {
      call.replaceAllUsesWith(result(call.getType(), 0));
    }
    call.eraseFromParent();
    return Error::success();
  }

  /// `void fa_emulate_entry.NAME(ptr words)`: loads the arguments.
  void makeEntry(Function &kernel) {
    auto *type = FunctionType::get(Type::getVoidTy(context), {pointer}, false);
    Function *entry =
        Function::Create(type, GlobalValue::ExternalLinkage,
                         "fa_emulate_entry." + kernel.getName(), module);
    IRBuilder<> builder(BasicBlock::Create(context, "", entry));
    SmallVector<Value *> arguments;
    for (Argument &argument : kernel.args())
      arguments.push_back(builder.CreateLoad(
          argument.getType(), builder.CreateConstGEP1_64(i64, entry->getArg(0),
                                                         argument.getArgNo())));
    builder.CreateCall(&kernel, arguments);
    builder.CreateRetVoid();
  }

  Module &module;
  LLVMContext &context;
  std::vector<Site> &sites;
  ModuleSlotTracker numbers;
  Type *i32, *i64, *pointer;
  AllocaInst *scratch = nullptr;
  int scratchSize = 1;
};
} // namespace

static char *sharedWindow() {
  static char *window = SharedMemory::mapWindow();
  return window;
}

/// What lib/Target/PTX.cpp does before code generation, so that the order of
/// accesses is the one that the GPU's code has.
static Error optimize(Module &module, StringRef chip) {
  Triple triple("nvptx64-nvidia-cuda");
  std::string problem;
  const Target *target = TargetRegistry::lookupTarget(triple, problem);
  if (!target)
    return createStringError(problem);
  std::unique_ptr<TargetMachine> machine(target->createTargetMachine(
      triple, chip, "", TargetOptions(), Reloc::PIC_));
  mlir::fa::optimizeGPUModule(module, *machine);
  return Error::success();
}

static Expected<std::unique_ptr<fa_emulator>> create(StringRef text,
                                                     StringRef chip) {
  static const bool initialized = [] {
    InitializeNativeTarget();
    InitializeNativeTargetAsmPrinter();
    LLVMInitializeNVPTXTarget();
    LLVMInitializeNVPTXTargetInfo();
    LLVMInitializeNVPTXTargetMC();
    return true;
  }();
  (void)initialized;
  if (!sharedWindow())
    return createStringError("no memory below 4 GiB");
  auto context = std::make_unique<LLVMContext>();
  SMDiagnostic diagnostic;
  std::unique_ptr<Module> module =
      parseAssemblyString(text, diagnostic, *context);
  if (!module)
    return createStringError("the LLVM IR is malformed: " +
                             diagnostic.getMessage());
  if (!chip.empty())
    if (Error error = optimize(*module, chip))
      return error;

  auto machine = orc::JITTargetMachineBuilder::detectHost();
  if (!machine)
    return machine.takeError();
  machine->setCodeGenOptLevel(CodeGenOptLevel::Less);
  auto layout = machine->getDefaultDataLayoutForTarget();
  if (!layout)
    return layout.takeError();
  module->setTargetTriple(machine->getTargetTriple());
  module->setDataLayout(*layout);

  auto emulator = std::make_unique<fa_emulator>();
  if (Error error = Translator(*module, emulator->sites).run(sharedWindow()))
    return error;
  raw_string_ostream listing(emulator->listing);
  for (auto [index, site] : enumerate(emulator->sites))
    if (!site.synchronises.empty())
      listing << index << '\t' << site.synchronises << '\t' << site.text
              << '\n';

  auto jit = orc::LLJITBuilder()
                 .setJITTargetMachineBuilder(std::move(*machine))
                 .create();
  if (!jit)
    return jit.takeError();
  emulator->jit = std::move(*jit);
  orc::JITDylib &library = emulator->jit->getMainJITDylib();
  orc::SymbolMap symbols;
  auto define = [&](const Twine &name, void *address) {
    symbols[emulator->jit->mangleAndIntern(name.str())] = {
        orc::ExecutorAddr::fromPtr(address), JITSymbolFlags::Exported};
  };
  for (const HostFunction &function : kFunctions)
    define(Twine("fa_emulate.") + function.name, function.address);
  for (const HostFunction &function : kRuntime)
    define(function.name, function.address);
  if (Error error = library.define(orc::absoluteSymbols(symbols)))
    return error;
  auto process = orc::DynamicLibrarySearchGenerator::GetForCurrentProcess(
      layout->getGlobalPrefix());
  if (!process)
    return process.takeError();
  library.addGenerator(std::move(*process));
  if (Error error = emulator->jit->addIRModule(
          orc::ThreadSafeModule(std::move(module), std::move(context))))
    return error;
  return emulator;
}

//===----------------------------------------------------------------------===//
// C interface
//===----------------------------------------------------------------------===//

static void report(StringRef text, char *error, size_t size) {
  size_t length = std::min(text.size(), size - 1);
  std::copy_n(text.begin(), length, error);
  error[length] = 0;
}

fa_emulator *fa_emulator_create(const char *text, size_t size, const char *chip,
                                char *error, size_t errorSize) {
  auto emulator = create(StringRef(text, size), chip);
  if (emulator)
    return emulator->release();
  report(toString(emulator.takeError()), error, errorSize);
  return nullptr;
}

void fa_emulator_destroy(fa_emulator *emulator) { delete emulator; }

const char *fa_emulator_sites(fa_emulator *emulator) {
  return emulator->listing.c_str();
}

int fa_emulator_run(fa_emulator *emulator, const fa_emulation *emulation,
                    char *error, size_t errorSize) {
  const fa_emulation &e = *emulation;
  auto entry =
      emulator->jit->lookup(std::string("fa_emulate_entry.") + e.entry);
  if (!entry) {
    report(toString(entry.takeError()), error, errorSize);
    return 1;
  }
  if (e.threads < 32 || e.threads > 1024 || e.threads % 32 ||
      e.sharedBytes < 0 ||
      e.sharedBytes > SharedMemory::kWindow - SharedMemory::kReserved) {
    report("the launch has an impossible number of threads or shared bytes",
           error, errorSize);
    return 1;
  }
  std::vector<uint64_t> words(e.words, e.words + e.numWords);
  for (int64_t i = 0; i < e.numMaps; ++i)
    words.push_back(reinterpret_cast<uint64_t>(e.maps + i));
  Launch launch;
  launch.kernel = entry->toPtr<void (*)(const uint64_t *)>();
  launch.words = words.data();
  launch.maps = ArrayRef(e.maps, e.numMaps);
  launch.ranges = ArrayRef(e.ranges, e.numRanges);
  launch.blocks = ArrayRef(e.blocks, e.numBlocks);
  launch.gridBlocks = e.gridBlocks;
  launch.threads = e.threads;
  launch.sharedBytes = e.sharedBytes;
  launch.seed = e.seed;
  for (int64_t i = 0; i < e.numSkipped; ++i)
    launch.skipped.insert(e.skipped[i]);

  static Stacks stacks;
  if (!stacks.reserve(e.threads)) {
    report("no memory for the threads", error, errorSize);
    return 1;
  }
  Machine machine(emulator->sites, launch, sharedWindow(), stacks);
  running = &machine;
  // Kernels flush f32 subnormals.
  unsigned mode = _mm_getcsr();
  _mm_setcsr(mode | 0x8040);
  std::string problem = machine.run();
  _mm_setcsr(mode);
  running = nullptr;
  report(problem, error, errorSize);
  return problem.empty() ? 0 : 1;
}
