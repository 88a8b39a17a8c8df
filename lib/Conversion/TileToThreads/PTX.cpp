//===- PTX.cpp - The instructions that NVVM operations cannot say ---------===//

#include "PTX.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace mlir::tl;

/// Inline assembly with side effects; `memory` keeps other accesses in place
/// (side effects alone do not: LLVM sank a load below an arrive).
static Operation *assembly(OpBuilder &builder, Location loc, TypeRange results,
                           ValueRange operands, StringRef text,
                           StringRef constraints) {
  Type type;
  if (results.size() == 1)
    type = results[0];
  else if (results.size() > 1)
    type = LLVM::LLVMStructType::getLiteral(builder.getContext(),
                                            llvm::to_vector(results));
  return LLVM::InlineAsmOp::create(
      builder, loc, type ? TypeRange(type) : TypeRange(), operands, text,
      constraints, /*has_side_effects=*/true, /*is_align_stack=*/false,
      LLVM::TailCallKind::None, LLVM::AsmDialectAttr(), ArrayAttr());
}

static SmallVector<Value> resultsOf(OpBuilder &builder, Location loc,
                                    Operation *op, size_t count) {
  if (count == 1)
    return {op->getResult(0)};
  SmallVector<Value> values;
  for (size_t i = 0; i < count; ++i)
    values.push_back(
        LLVM::ExtractValueOp::create(builder, loc, op->getResult(0), i));
  return values;
}

static StringRef constraintOf(Type type) {
  if (type.isF32())
    return "f";
  return type.getIntOrFloatBitWidth() == 64 ? "l" : "r";
}

/// Assembly that reads and writes `values` in place.
static SmallVector<Value> tied(OpBuilder &builder, Location loc,
                               ValueRange values, StringRef text) {
  std::string constraints;
  for (Value value : values)
    constraints += ("=" + constraintOf(value.getType()) + ",").str();
  for (size_t i = 0; i < values.size(); ++i)
    constraints += llvm::formatv("{0},", i).str();
  constraints += "~{memory}";
  Operation *op =
      assembly(builder, loc, values.getTypes(), values, text, constraints);
  return resultsOf(builder, loc, op, values.size());
}

SmallVector<Value> ptx::wgmma(OpBuilder &builder, Location loc,
                              const Wgmma &product, ValueRange acc) {
  size_t count = product.n / 2;
  size_t steps = product.stepsB.size();
  StringRef type = product.elementType.isBF16() ? "bf16" : "f16";

  std::string constraints;
  SmallVector<Value> operands;
  for (size_t i = 0; i < count; ++i)
    constraints += "=f,";
  size_t next = count;
  auto addOperand = [&](Value value, StringRef constraint) {
    constraints += (constraint + ",").str();
    operands.push_back(value);
    return next++;
  };
  for (auto [i, value] : llvm::enumerate(acc))
    addOperand(value, llvm::utostr(i));
  SmallVector<size_t> words;
  for (Value word : product.registersA)
    words.push_back(addOperand(word, "r"));
  size_t descA = product.descA ? addOperand(product.descA, "l") : 0;
  size_t descB = addOperand(product.descB, "l");
  constraints += "~{memory}";

  std::string accumulators;
  for (size_t i = 0; i < count; ++i)
    accumulators += llvm::formatv("{0}${1}", i ? ", " : "", i).str();

  std::string text = "{\n.reg .pred p;\n.reg .b64 da, db;\n";
  llvm::raw_string_ostream os(text);
  for (size_t step = 0; step < steps; ++step) {
    std::string a;
    if (words.empty()) {
      os << llvm::formatv("add.s64 da, ${0}, {1};\n", descA,
                          product.stepsA[step]);
      a = "da";
    } else {
      a = llvm::formatv("{{${0}, ${1}, ${2}, ${3}}", words[4 * step],
                        words[4 * step + 1], words[4 * step + 2],
                        words[4 * step + 3])
              .str();
    }
    os << llvm::formatv("add.s64 db, ${0}, {1};\n", descB,
                        product.stepsB[step]);
    // The first step of a product from zero does not read its accumulator.
    os << "setp.ne.b32 p, " << (step || !acc.empty() ? 1 : 0) << ", 0;\n";
    os << "wgmma.mma_async.sync.aligned.m64n" << product.n << "k16.f32." << type
       << "." << type << " {" << accumulators << "}, " << a << ", db, p, 1, 1";
    if (words.empty())
      os << ", " << int(product.transposeA);
    os << ", " << int(product.transposeB) << ";\n";
  }
  os << "wgmma.commit_group.sync.aligned;\n}";

  SmallVector<Type> results(count, builder.getF32Type());
  Operation *op = assembly(builder, loc, results, operands, text, constraints);
  return resultsOf(builder, loc, op, count);
}

SmallVector<Value> ptx::wgmmaFence(OpBuilder &builder, Location loc,
                                   ValueRange values) {
  StringRef text = "wgmma.fence.sync.aligned;";
  if (values.empty()) {
    assembly(builder, loc, {}, {}, text, "~{memory}");
    return {};
  }
  return tied(builder, loc, values, text);
}

SmallVector<Value> ptx::wgmmaWait(OpBuilder &builder, Location loc,
                                  int64_t pending, ValueRange values) {
  return tied(
      builder, loc, values,
      llvm::formatv("wgmma.wait_group.sync.aligned {0};", pending).str());
}

/// The 32-bit address that shared-memory instructions take.
static Value address(OpBuilder &builder, Location loc, Value pointer) {
  return LLVM::PtrToIntOp::create(builder, loc, builder.getI32Type(), pointer);
}

void ptx::barrierWait(OpBuilder &builder, Location loc, Value barrier,
                      Value parity) {
  assembly(builder, loc, {}, {address(builder, loc, barrier), parity},
           "{\n.reg .pred p;\n"
           "WAIT:\n"
           "mbarrier.try_wait.parity.shared::cta.b64 p, [$0], $1;\n"
           "@p bra.uni DONE;\n"
           "bra.uni WAIT;\n"
           "DONE:\n}",
           "r,r,~{memory}");
}

void ptx::barrierArrive(OpBuilder &builder, Location loc, Value barrier,
                        Value condition) {
  Value flag =
      LLVM::ZExtOp::create(builder, loc, builder.getI32Type(), condition);
  assembly(builder, loc, {}, {address(builder, loc, barrier), flag},
           "{\n.reg .pred p;\nsetp.ne.b32 p, $1, 0;\n"
           "@p mbarrier.arrive.shared::cta.b64 _, [$0];\n}",
           "r,r,~{memory}");
}

void ptx::barrierExpect(OpBuilder &builder, Location loc, Value barrier,
                        int64_t bytes) {
  assembly(builder, loc, {}, {address(builder, loc, barrier)},
           llvm::formatv("mbarrier.arrive.expect_tx.shared::cta.b64 _, "
                         "[$0], {0};",
                         bytes)
               .str(),
           "r,~{memory}");
}

/// Appends the coordinates of a tensor copy to its operands; returns their
/// names.
static std::string listCoordinates(ValueRange coordinates,
                                   SmallVectorImpl<Value> &operands,
                                   std::string &constraints) {
  std::string list;
  for (Value coordinate : coordinates) {
    list += llvm::formatv("{0}${1}", list.empty() ? "" : ", ", operands.size());
    operands.push_back(coordinate);
    constraints += "r,";
  }
  return list;
}

void ptx::tensorLoad(OpBuilder &builder, Location loc, Value dest, Value map,
                     ValueRange coordinates, Value barrier) {
  SmallVector<Value> operands = {address(builder, loc, dest), map,
                                 address(builder, loc, barrier)};
  std::string constraints = "r,l,r,";
  std::string list = listCoordinates(coordinates, operands, constraints);
  assembly(builder, loc, {}, operands,
           llvm::formatv("cp.async.bulk.tensor.{0}d.shared::cluster.global.tile"
                         ".mbarrier::complete_tx::bytes "
                         "[$0], [$1, {{{1}}], [$2];",
                         coordinates.size(), list)
               .str(),
           constraints + "~{memory}");
}

void ptx::tensorStore(OpBuilder &builder, Location loc, Value source, Value map,
                      ValueRange coordinates) {
  SmallVector<Value> operands = {map, address(builder, loc, source)};
  std::string constraints = "l,r,";
  std::string list = listCoordinates(coordinates, operands, constraints);
  assembly(builder, loc, {}, operands,
           llvm::formatv("cp.async.bulk.tensor.{0}d.global.shared::cta.tile"
                         ".bulk_group [$0, {{{1}}], [$1];",
                         coordinates.size(), list)
               .str(),
           constraints + "~{memory}");
}

void ptx::reduceAdd(OpBuilder &builder, Location loc, Value pointer,
                    ValueRange values) {
  SmallVector<Value> operands = {pointer};
  operands.append(values.begin(), values.end());
  std::string constraints = "l,", list;
  for (size_t i = 0; i < values.size(); ++i) {
    constraints += "f,";
    list += llvm::formatv("{0}${1}", i ? ", " : "", i + 1).str();
  }
  bool several = values.size() > 1;
  assembly(builder, loc, {}, operands,
           llvm::formatv("red.relaxed.gpu.global.add{0}.f32 [$0], {1};",
                         several ? ".v" + llvm::utostr(values.size()) : "",
                         several ? "{" + list + "}" : list)
               .str(),
           constraints + "~{memory}");
}

void ptx::bulkReduceAdd(OpBuilder &builder, Location loc, Value dest,
                        Value source, Value bytes) {
  assembly(builder, loc, {}, {dest, address(builder, loc, source), bytes},
           "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 "
           "[$0], [$1], $2;",
           "l,r,r,~{memory}");
}
