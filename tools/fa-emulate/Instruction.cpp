//===- Instruction.cpp - Intrinsics and assembly become instructions ------===//

#include "Instruction.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/IR/Constants.h"
#include "llvm/IR/DerivedTypes.h"
#include "llvm/IR/InlineAsm.h"
#include "llvm/IR/InstrTypes.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Regex.h"

using namespace llvm;
using namespace fa::emulate;

static Error unknown(const Twine &what) {
  return createStringError("the emulator does not know " + what);
}

/// Name of what an instruction synchronises; null for other instructions.
static const char *synchronisation(Opcode opcode) {
  switch (opcode) {
  case Opcode::CopyWait:
    return "cp.async wait";
  case Opcode::CopyCommit:
    return "cp.async commit";
  case Opcode::BulkCommit:
    return "bulk copy commit";
  case Opcode::BulkWait:
    return "bulk copy wait";
  case Opcode::BarrierInit:
    return "mbarrier init";
  case Opcode::BarrierTryWait:
    return "mbarrier wait";
  case Opcode::BarrierArrive:
    return "mbarrier arrive";
  case Opcode::BarrierExpect:
    return "mbarrier expect";
  case Opcode::FenceBarrierInit:
    return "mbarrier init fence";
  case Opcode::FenceProxy:
    return "proxy fence";
  case Opcode::WarpSync:
    return "warp barrier";
  case Opcode::BlockBarrier:
    return "barrier";
  case Opcode::BlockArrive:
    return "barrier arrive";
  case Opcode::WgmmaFence:
    return "wgmma fence";
  case Opcode::WgmmaCommit:
    return "wgmma commit";
  case Opcode::WgmmaWait:
    return "wgmma wait";
  default:
    return nullptr;
  }
}

/// Decodes a mnemonic; also used for intrinsics, under their PTX names.
static Expected<Inst> decode(StringRef name) {
  Inst inst;
  SmallVector<StringRef> match;
  auto is = [&](const char *pattern) {
    return Regex(("^" + Twine(pattern) + "$").str()).match(name, &match);
  };
  auto number = [&](int group) {
    int value = 0;
    match[group].getAsInteger(10, value);
    return value;
  };
  auto set = [&](Opcode opcode) {
    inst.opcode = opcode;
    return inst;
  };
  if (is("add\\.[us]64"))
    return set(Opcode::Add64);
  if (is("setp\\.ne\\.[bus]32"))
    return set(Opcode::SetNotEqual32);
  if (is("selp\\.[bus]32"))
    return set(Opcode::Select32);
  if (is("bra(\\.uni)?"))
    return set(Opcode::Branch);
  if (is("cp\\.async\\.c[ga]\\.shared\\.global\\.(4|8|16)")) {
    inst.count = number(1);
    return set(Opcode::CopyAsync);
  }
  if (is("cp\\.async\\.commit_group"))
    return set(Opcode::CopyCommit);
  if (is("cp\\.async\\.wait_(group|all)"))
    return set(Opcode::CopyWait);
  if (is("mbarrier\\.init\\.shared(::cta)?\\.b64"))
    return set(Opcode::BarrierInit);
  if (is("mbarrier\\.try_wait\\.parity\\.shared(::cta)?\\.b64"))
    return set(Opcode::BarrierTryWait);
  if (is("mbarrier\\.arrive(\\.release\\.cta)?\\.shared(::cta)?\\.b64"))
    return set(Opcode::BarrierArrive);
  if (is("mbarrier\\.arrive\\.expect_tx(\\.release\\.cta)?\\.shared(::cta)?\\."
         "b64"))
    return set(Opcode::BarrierExpect);
  if (is("fence\\.mbarrier_init\\.release\\.cluster"))
    return set(Opcode::FenceBarrierInit);
  if (is("fence\\.proxy\\.async(\\.shared::c(ta|luster))?"))
    return set(Opcode::FenceProxy);
  if (is("cp\\.async\\.bulk\\.tensor\\.([1-5])d\\.shared::c(ta|luster)\\."
         "global(\\.tile)?\\.mbarrier::complete_tx::bytes")) {
    inst.count = number(1);
    return set(Opcode::TensorLoad);
  }
  if (is("cp\\.async\\.bulk\\.tensor\\.([1-5])d\\.global\\.shared::cta(\\.tile)"
         "?"
         "\\.bulk_group")) {
    inst.count = number(1);
    return set(Opcode::TensorStore);
  }
  if (is("red(\\.relaxed)?(\\.gpu)?\\.global(\\.gpu)?\\.add(\\.v([24]))?\\."
         "f32")) {
    inst.count = match[5].empty() ? 1 : number(5);
    return set(Opcode::ReduceGlobal);
  }
  if (is("cp\\.reduce\\.async\\.bulk\\.global\\.shared::cta\\.bulk_group\\."
         "add\\."
         "f32"))
    return set(Opcode::BulkReduce);
  if (is("cp\\.async\\.bulk\\.commit_group"))
    return set(Opcode::BulkCommit);
  if (is("cp\\.async\\.bulk\\.wait_group\\.read"))
    return set(Opcode::BulkWait);
  if (is("shfl\\.sync\\.(bfly|idx)\\.b32")) {
    inst.butterfly = match[1] == "bfly";
    return set(Opcode::Shuffle);
  }
  if (is("vote\\.sync\\.any\\.pred"))
    return set(Opcode::VoteAny);
  if (is("elect\\.sync"))
    return set(Opcode::Elect);
  if (is("bar\\.warp\\.sync"))
    return set(Opcode::WarpSync);
  if (is("(ld|st)matrix\\.sync\\.aligned\\.m8n8\\.x([124])(\\.trans)?"
         "(\\.shared)?\\.b16")) {
    inst.count = number(2);
    inst.transpose = !match[3].empty();
    return set(match[1] == "ld" ? Opcode::LoadMatrix : Opcode::StoreMatrix);
  }
  if (is("mma\\.sync\\.aligned\\.m16n8k(8|16)\\.row\\.col\\.f32\\.(bf16|f16)\\."
         "(bf16|f16)\\.f32")) {
    inst.count = number(1);
    inst.bf16 = match[2] == "bf16";
    return set(Opcode::Mma);
  }
  if (is("setmaxnreg\\.(inc|dec)\\.sync\\.aligned\\.u32"))
    return set(Opcode::SetRegisters);
  if (is("bar(rier)?(\\.cta)?\\.sync(\\.aligned)?"))
    return set(Opcode::BlockBarrier);
  if (is("bar(rier)?(\\.cta)?\\.arrive(\\.aligned)?"))
    return set(Opcode::BlockArrive);
  if (is("wgmma\\.fence\\.sync\\.aligned"))
    return set(Opcode::WgmmaFence);
  if (is("wgmma\\.commit_group\\.sync\\.aligned"))
    return set(Opcode::WgmmaCommit);
  if (is("wgmma\\.wait_group\\.sync\\.aligned"))
    return set(Opcode::WgmmaWait);
  if (is("wgmma\\.mma_async\\.sync\\.aligned\\.m64n([0-9]+)k16\\.f32\\."
         "(bf16|f16)\\.(bf16|f16)")) {
    inst.count = number(1);
    inst.bf16 = match[2] == "bf16";
    return set(Opcode::Wgmma);
  }
  return unknown("the instruction `" + name + "`");
}

//===----------------------------------------------------------------------===//
// Intrinsics
//===----------------------------------------------------------------------===//

/// The PTX mnemonic of an intrinsic; empty when there is none.
static std::string mnemonic(StringRef name) {
  SmallVector<StringRef> match;
  if (!name.consume_front("llvm.nvvm."))
    return "";
  auto is = [&](const char *pattern) {
    return Regex(("^" + Twine(pattern) + "$").str()).match(name, &match);
  };
  if (is("(cp\\.async\\.c[ga]\\.shared\\.global\\.[0-9]+)(\\.s)?"))
    return match[1].str();
  if (is("cp\\.async\\.commit\\.group"))
    return "cp.async.commit_group";
  if (is("cp\\.async\\.wait\\.group"))
    return "cp.async.wait_group";
  if (is("cp\\.async\\.wait\\.all"))
    return "cp.async.wait_all";
  if (is("cp\\.async\\.bulk\\.commit\\.group"))
    return "cp.async.bulk.commit_group";
  if (is("cp\\.async\\.bulk\\.wait\\.group\\.read"))
    return "cp.async.bulk.wait_group.read";
  if (is("mbarrier\\.init(\\.shared)?"))
    return "mbarrier.init.shared.b64";
  if (is("shfl\\.sync\\.(bfly|idx)\\.(i32|f32)"))
    return ("shfl.sync." + match[1] + ".b32").str();
  if (is("vote\\.any\\.sync"))
    return "vote.sync.any.pred";
  if (is("((ld|st)matrix\\.sync\\.aligned\\.m8n8\\.x[124](\\.trans)?\\.b16)"
         "\\.p[03]"))
    return match[1].str();
  if (is("mma\\.m16n8k(8|16)\\.row\\.col\\.(f32\\.f32|bf16)")) {
    const char *type = match[2] == "bf16" ? "bf16" : "f16";
    return formatv("mma.sync.aligned.m16n8k{0}.row.col.f32.{1}.{1}.f32",
                   match[1], type);
  }
  if (is("(barrier\\.cta\\.(sync|arrive)\\.aligned)\\.(all|count)"))
    return match[1].str();
  if (is("barrier0"))
    return "barrier.cta.sync.aligned";
  if (is("fence\\.proxy\\.async.*"))
    return "fence.proxy.async";
  return name.str();
}

/// Registers of a type; a struct has one per element.
static unsigned countRegisters(Type *type) {
  if (type->isVoidTy())
    return 0;
  if (auto *structType = dyn_cast<StructType>(type))
    return structType->getNumElements();
  return 1;
}

static Expected<Site> parseIntrinsic(const CallBase &call) {
  StringRef name = call.getCalledFunction()->getName();
  auto inst = decode(mnemonic(name));
  if (!inst) {
    consumeError(inst.takeError());
    return unknown("the intrinsic `" + name + "`");
  }
  Site site;
  site.numResults = countRegisters(call.getType());
  site.tied.assign(site.numResults, -1);
  site.numRegisters = site.numResults + call.arg_size();
  for (int i = 0; i < site.numRegisters; ++i)
    inst->args.push_back({i, 0});
  if (name == "llvm.nvvm.barrier0")
    inst->args.push_back({-1, 0});
  inst->hasCount = name.ends_with(".count");
  site.code.push_back(*inst);
  return site;
}

//===----------------------------------------------------------------------===//
// Inline assembly
//===----------------------------------------------------------------------===//

namespace {
class AssemblyParser {
public:
  AssemblyParser(Site &site) : site(site) {}

  Error parse(StringRef text) {
    SmallVector<StringRef> statements;
    text.split(statements, ';');
    for (StringRef statement : statements)
      if (Error error = parseStatement(statement))
        return error;
    for (auto &[index, label] : branches) {
      auto it = labels.find(label);
      if (it == labels.end())
        return unknown("the label `" + label + "`");
      site.code[index].target = it->second;
    }
    return Error::success();
  }

private:
  Error parseStatement(StringRef text) {
    // Scopes and labels in front; a list in braces never begins a statement.
    while (true) {
      text = text.trim();
      if (text.consume_front("{") || text.consume_front("}"))
        continue;
      SmallVector<StringRef> match;
      if (Regex("^([A-Za-z_][A-Za-z_0-9]*):([^:]|$)").match(text, &match)) {
        labels[match[1]] = site.code.size();
        text = text.drop_front(match[1].size() + 1);
        continue;
      }
      break;
    }
    if (text.empty())
      return Error::success();
    if (text.consume_front(".reg")) {
      text = text.trim();
      text = text.drop_until(isSpace); // the type
      SmallVector<StringRef> names;
      text.split(names, ',');
      for (StringRef name : names)
        locals[name.trim()] = site.numRegisters++;
      return Error::success();
    }
    int guard = -1;
    bool negated = false;
    if (text.consume_front("@")) {
      negated = text.consume_front("!");
      StringRef name = text.take_until(isSpace);
      auto it = locals.find(name);
      if (it == locals.end())
        return unknown("the predicate `" + name + "`");
      guard = it->second;
      text = text.drop_front(name.size()).trim();
    }
    StringRef name = text.take_until(isSpace);
    auto inst = decode(name);
    if (!inst)
      return inst.takeError();
    inst->guard = guard;
    inst->guardNegated = negated;
    SmallVector<StringRef> tokens;
    SplitString(text.drop_front(name.size()), tokens, " \t\n,[]{}");
    for (StringRef token : tokens) {
      Operand operand;
      if (token.consume_front("$")) {
        if (token.getAsInteger(10, operand.reg))
          return unknown("the operand `$" + token + "`");
      } else if (auto it = locals.find(token); it != locals.end()) {
        operand.reg = it->second;
      } else if (inst->opcode == Opcode::Branch) {
        branches.emplace_back(site.code.size(), token);
        continue;
      } else if (token != "_" && token.getAsInteger(0, operand.constant)) {
        return unknown("the operand `" + token + "` of `" + name + "`");
      }
      inst->args.push_back(operand);
    }
    if (Error error = finish(*inst, name))
      return error;
    site.code.push_back(*inst);
    return Error::success();
  }

  /// What depends on the operands.
  Error finish(Inst &inst, StringRef name) {
    std::vector<Operand> &args = inst.args;
    switch (inst.opcode) {
    case Opcode::BarrierArrive:
    case Opcode::BarrierExpect:
      // The state of the phase is not wanted.
      if (args.empty() || args[0].reg >= 0)
        return unknown("a `" + name + "` with a result");
      args.erase(args.begin());
      return Error::success();
    case Opcode::BlockBarrier:
      inst.hasCount = args.size() > 1;
      return Error::success();
    case Opcode::Wgmma: {
      // acc, a, b, scale-d, imm-scale-a, imm-scale-b, [trans-a], trans-b.
      size_t acc = inst.count / 2;
      inst.registersA = args.size() == acc + 9;
      if (!inst.registersA && args.size() != acc + 7)
        return unknown(formatv("a wgmma with {0} operands", args.size()));
      size_t scale = acc + (inst.registersA ? 6 : 3);
      if (args[scale].constant != 1 || args[scale + 1].constant != 1)
        return unknown("a wgmma that negates its operands");
      if (!inst.registersA)
        inst.transposeA = args[scale + 2].constant;
      inst.transposeB = args.back().constant;
      return Error::success();
    }
    default:
      return Error::success();
    }
  }

  Site &site;
  StringMap<int> locals, labels;
  std::vector<std::pair<size_t, StringRef>> branches;
};
} // namespace

static Expected<Site> parseAssembly(const CallBase &call) {
  auto *assembly = cast<InlineAsm>(call.getCalledOperand());
  Site site;
  int reg = 0;
  for (const InlineAsm::ConstraintInfo &info : assembly->ParseConstraints()) {
    if (info.Type == InlineAsm::isClobber)
      continue;
    if (info.Type == InlineAsm::isOutput) {
      ++site.numResults;
      site.tied.push_back(-1);
    } else if (info.Codes.size() == 1 && isDigit(info.Codes[0][0])) {
      int result = 0;
      StringRef(info.Codes[0]).getAsInteger(10, result);
      site.tied[result] = reg;
    }
    ++reg;
  }
  site.numRegisters = reg;
  if (Error error = AssemblyParser(site).parse(assembly->getAsmString()))
    return joinErrors(std::move(error),
                      createStringError("in the assembly `" +
                                        assembly->getAsmString() + "`"));
  return site;
}

Expected<Site> fa::emulate::parseSite(const CallBase &call) {
  auto site = call.isInlineAsm() ? parseAssembly(call) : parseIntrinsic(call);
  if (!site)
    return site;
  for (const Inst &inst : site->code)
    if (const char *what = synchronisation(inst.opcode))
      if (site->synchronises.empty())
        site->synchronises = what;
  return site;
}
