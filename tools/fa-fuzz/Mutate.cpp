//===- Mutate.cpp - Random changes of a program ---------------------------===//

#include "Fuzz.h"
#include "mlir/AsmParser/AsmParser.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace mlir::fa;
using fuzz::Random;

//===----------------------------------------------------------------------===//
// Text
//===----------------------------------------------------------------------===//

static constexpr StringRef kNumbers[] = {"0",
                                         "1",
                                         "-1",
                                         "2",
                                         "3",
                                         "7",
                                         "8",
                                         "16",
                                         "17",
                                         "31",
                                         "32",
                                         "64",
                                         "100",
                                         "128",
                                         "256",
                                         "512",
                                         "1024",
                                         "65536",
                                         "2147483648",
                                         "4294967296",
                                         "9223372036854775807",
                                         "-9223372036854775808",
                                         "99999999999999999999",
                                         "?",
                                         "0.0",
                                         "1.0e+300",
                                         "0x7FC0",
                                         "-0.0",
                                         "*"};

static constexpr StringRef kWords[] = {"f16",
                                       "bf16",
                                       "f32",
                                       "f64",
                                       "f8E4M3FN",
                                       "i1",
                                       "i8",
                                       "i32",
                                       "i64",
                                       "index",
                                       "none",
                                       "true",
                                       "false",
                                       "unit",
                                       "tensor<64x64xf16>",
                                       "memref<?x?xf16>",
                                       "memref<*xf16>",
                                       "tensor<?xf32>",
                                       "vector<4xf32>",
                                       "tensor<0x64xf32>",
                                       "sm_80",
                                       "sm_90a",
                                       "sm_75",
                                       "cpu",
                                       "wgmma",
                                       "mma_sync",
                                       "cp_async",
                                       "tma",
                                       "direct",
                                       "vector",
                                       "dense<0.0>",
                                       "affine_map<(d0, d1) -> (d1, d0)>",
                                       "affine_map<(d0)[s0] -> (d0 * s0)>",
                                       "affine_map<() -> ()>",
                                       "()",
                                       "{}",
                                       "[]",
                                       "%arg0",
                                       "%0",
                                       "#fa.schedule<>"};

/// The next maximal run of characters that `belongs` accepts, from a random
/// place on.
template <typename Predicate>
static std::pair<size_t, size_t> findRun(StringRef text, Random &random,
                                         Predicate belongs) {
  size_t begin = random.below(text.size());
  while (begin < text.size() && !belongs(text[begin]))
    ++begin;
  while (begin > 0 && begin < text.size() && belongs(text[begin - 1]))
    --begin;
  size_t end = begin;
  while (end < text.size() && belongs(text[end]))
    ++end;
  return {begin, end};
}

/// A random line of `text`, with its end.
static std::pair<size_t, size_t> findLine(StringRef text, Random &random) {
  size_t place = random.below(text.size());
  size_t begin = text.rfind('\n', place);
  begin = begin == StringRef::npos ? 0 : begin;
  size_t end = text.find('\n', begin + 1);
  return {begin, end == StringRef::npos ? text.size() : end};
}

void fuzz::mutateText(std::string &text, StringRef other, Random &random) {
  if (text.empty())
    return;
  auto isWord = [](char c) { return llvm::isAlnum(c) || c == '_' || c == '.'; };
  switch (random.below(12)) {
  case 0:
  case 1:
  case 2: { // a number
    auto [begin, end] = findRun(text, random, llvm::isDigit);
    text.replace(begin, end - begin, random.pick(kNumbers).str());
    break;
  }
  case 3:
  case 4: { // a word
    auto [begin, end] = findRun(text, random, isWord);
    text.replace(begin, end - begin, random.pick(kWords).str());
    break;
  }
  case 5: { // a word of the same program elsewhere
    auto [from, fromEnd] = findRun(text, random, isWord);
    std::string word = text.substr(from, fromEnd - from);
    auto [begin, end] = findRun(text, random, isWord);
    text.replace(begin, end - begin, word);
    break;
  }
  case 6: { // a value
    auto isValue = [&](char c) { return isWord(c) || c == '%' || c == '#'; };
    auto [from, fromEnd] = findRun(text, random, isValue);
    std::string value = text.substr(from, fromEnd - from);
    auto [begin, end] = findRun(text, random, isValue);
    text.replace(begin, end - begin, value);
    break;
  }
  case 7: { // a line less
    auto [begin, end] = findLine(text, random);
    text.erase(begin, end - begin);
    break;
  }
  case 8: { // a line twice
    auto [begin, end] = findLine(text, random);
    text.insert(end, text.substr(begin, end - begin));
    break;
  }
  case 9: { // a line of the other program
    if (other.empty())
      break;
    auto [begin, end] = findLine(other, random);
    text.insert(findLine(text, random).second,
                other.substr(begin, end - begin).str());
    break;
  }
  case 10: // a character
    text[random.below(text.size())] = static_cast<char>(
        random.percent(90) ? 32 + random.below(95) : random.below(256));
    break;
  case 11: // the rest is missing, or a part
    if (random.percent(10)) {
      text.resize(random.below(text.size()));
    } else {
      size_t begin = random.below(text.size());
      text.erase(begin, 1 + random.below(20));
    }
    break;
  }
}

void fuzz::avoidKnownCrashes(std::string &text) {
  constexpr StringRef kArray = "array<";
  for (size_t place = text.find(kArray.str()); place != std::string::npos;
       place = text.find(kArray.str(), place + 1)) {
    StringRef type = StringRef(text).substr(place + kArray.size()).ltrim();
    if (type.starts_with(">") ||
        (type.size() > 1 && (type[0] == 'i' || type[0] == 'f') &&
         llvm::isDigit(type[1])))
      continue;
    text.replace(place, kArray.size(), "array<i64:");
  }
}

//===----------------------------------------------------------------------===//
// IR
//===----------------------------------------------------------------------===//

namespace {
class IRMutator {
public:
  IRMutator(ModuleOp module, Random &random)
      : random(random), context(module.getContext()) {
    module.walk([&](Operation *op) {
      if (op == module)
        return;
      operations.push_back(op);
      llvm::append_range(values, op->getResults());
      for (Region &region : op->getRegions())
        for (Block &block : region)
          llvm::append_range(values, block.getArguments());
      for (NamedAttribute attribute : op->getAttrs())
        attributes.push_back(attribute);
    });
    for (StringRef text : {"f16",
                           "f32",
                           "bf16",
                           "f64",
                           "index",
                           "i1",
                           "i32",
                           "none",
                           "tensor<64x64xf16>",
                           "tensor<64xf32>",
                           "tensor<?x?xf16>",
                           "tensor<*xf16>",
                           "memref<?x?x?x?xf16>",
                           "memref<*xf32>",
                           "memref<?x?xf16, strided<[?, 2]>>",
                           "memref<4xf16, 3>",
                           "vector<4xf32>",
                           "tensor<1x1xf32>",
                           "tensor<f32>",
                           "!tile.buffer<64x64xf16, 128>",
                           "complex<f32>",
                           "tuple<>"})
      if (Type type = parseType(text, context))
        types.push_back(type);
  }

  void run() {
    if (operations.empty())
      return;
    Operation *op = random.pick(operations);
    switch (random.below(9)) {
    case 0:
    case 1:
      return changeOperand(op);
    case 2:
      return changeType();
    case 3:
      // Without an inherent one that has a default, an operation is none that
      // text could describe.
      if (auto list = llvm::to_vector(op->getDiscardableAttrs()); !list.empty())
        op->removeDiscardableAttr(random.pick(list).getName());
      return;
    case 4:
    case 5:
      return changeAttribute(op);
    case 6: { // twice
      OpBuilder builder(op);
      if (random.percent(50))
        builder.setInsertionPointAfter(op);
      if (op->getBlock())
        builder.clone(*op);
      return;
    }
    case 7: // less
      return erase(op);
    case 8: { // elsewhere
      Operation *place = random.pick(operations);
      if (op->hasTrait<OpTrait::IsTerminator>() || op->isAncestor(place))
        return;
      op->moveBefore(place);
      return;
    }
    }
  }

private:
  void changeOperand(Operation *op) {
    if (op->getNumOperands() == 0 || values.empty())
      return;
    OpOperand &operand = op->getOpOperand(random.below(op->getNumOperands()));
    bool sameType = random.percent(70);
    for (int attempt = 0; attempt < 20; ++attempt) {
      Value value = random.pick(values);
      if (sameType && value.getType() != operand.get().getType())
        continue;
      operand.set(value);
      return;
    }
  }

  void changeType() {
    if (values.empty())
      return;
    Value value = random.pick(values);
    Type type = random.percent(50) ? random.pick(types)
                                   : Value(random.pick(values)).getType();
    auto shaped = dyn_cast<ShapedType>(value.getType());
    if (shaped && shaped.hasRank() && shaped.getRank() > 0 &&
        random.percent(60)) {
      SmallVector<int64_t> shape(shaped.getShape());
      constexpr int64_t kSizes[] = {
          0, 1, 2, 7, 8, 16, 32, 64, 128, 256, 1024, ShapedType::kDynamic};
      shape[random.below(shape.size())] = random.pick(kSizes);
      if (random.percent(20))
        shape.pop_back();
      if (isa<RankedTensorType>(shaped))
        type =
            RankedTensorType::get(shape, shaped.getElementType(),
                                  cast<RankedTensorType>(shaped).getEncoding());
      else if (isa<MemRefType>(shaped))
        type = MemRefType::get(shape, shaped.getElementType());
    }
    value.setType(type);
  }

  Attribute change(Attribute attribute) {
    auto integer = [&](int64_t old) -> int64_t {
      constexpr int64_t kValues[] = {
          0,   1,    -1,        2,  3,   4,   8,         16,       64,
          128, 1000, INT32_MAX, 17, 256, 512, INT64_MAX, INT64_MIN};
      return random.percent(30) ? old + 1 : random.pick(kValues);
    };
    if (auto number = dyn_cast<IntegerAttr>(attribute)) {
      unsigned width = number.getValue().getBitWidth();
      return IntegerAttr::get(number.getType(),
                              APInt(width, integer(0), /*isSigned=*/true,
                                    /*implicitTrunc=*/true));
    }
    if (auto numbers = dyn_cast<DenseI64ArrayAttr>(attribute)) {
      SmallVector<int64_t> list(numbers.asArrayRef());
      if (list.empty() || random.percent(20))
        list.push_back(integer(0));
      else if (random.percent(20))
        list.pop_back();
      else
        list[random.below(list.size())] = integer(0);
      return DenseI64ArrayAttr::get(context, list);
    }
    if (auto array = dyn_cast<ArrayAttr>(attribute); array && !array.empty()) {
      SmallVector<Attribute> list(array.getValue());
      size_t index = random.below(list.size());
      switch (random.below(4)) {
      case 0:
        list.erase(list.begin() + index);
        break;
      case 1:
        list.push_back(list[index]);
        break;
      case 2:
        std::swap(list[index], list.front());
        break;
      case 3:
        list[index] = change(list[index]);
      }
      return ArrayAttr::get(context, list);
    }
    if (auto map = dyn_cast<AffineMapAttr>(attribute)) {
      AffineMap old = map.getValue();
      SmallVector<AffineExpr> results(old.getResults());
      unsigned dims = old.getNumDims(), symbols = old.getNumSymbols();
      AffineExpr expr = dims ? getAffineDimExpr(random.below(dims), context)
                             : getAffineConstantExpr(integer(0), context);
      switch (random.below(5)) {
      case 0:
        results.push_back(expr);
        break;
      case 1:
        if (!results.empty())
          results.pop_back();
        break;
      case 2:
        ++dims;
        break;
      case 3:
        ++symbols;
        break;
      case 4:
        if (!results.empty())
          results[random.below(results.size())] =
              random.percent(50) ? expr : expr.floorDiv(2) * 3 - 1;
      }
      return AffineMapAttr::get(
          AffineMap::get(dims, symbols, results, context));
    }
    // The text of any other attribute, one number or word changed.
    std::string text;
    llvm::raw_string_ostream(text) << attribute;
    if (text.size() > 2000)
      return attribute;
    fuzz::mutateText(text, "", random);
    fuzz::avoidKnownCrashes(text);
    Attribute parsed = parseAttribute(text, context);
    return parsed ? parsed : attribute;
  }

  void changeAttribute(Operation *op) {
    if (attributes.empty())
      return;
    if (op->getAttrs().empty() || random.percent(10)) {
      NamedAttribute other = random.pick(attributes);
      if (!op->getInherentAttr(other.getName()))
        op->setDiscardableAttr(other.getName(), other.getValue());
      return;
    }
    NamedAttribute mine = random.pick(op->getAttrs());
    Attribute value = random.percent(20)
                          ? NamedAttribute(random.pick(attributes)).getValue()
                          : change(mine.getValue());
    // A property of another kind would be null, as above, and some numbers are
    // names.
    StringRef dialect = op->getName().getDialectNamespace();
    bool isOurs = dialect == "fa" || dialect == "tile" || dialect == "arith";
    if (op->getInherentAttr(mine.getName()) &&
        (value.getTypeID() != mine.getValue().getTypeID() ||
         (!isOurs && isa<IntegerAttr>(value))))
      return;
    op->setAttr(mine.getName(), value);
  }

  void erase(Operation *op) {
    // What its regions define must not be used elsewhere (a change of operands
    // does that).
    bool escapes = false;
    for (Region &region : op->getRegions())
      region.walk([&](Block *block) {
        auto escape = [&](Value value) {
          escapes |= llvm::any_of(value.getUsers(), [&](Operation *user) {
            return !op->isAncestor(user);
          });
        };
        llvm::for_each(block->getArguments(), escape);
        for (Operation &inner : *block)
          llvm::for_each(inner.getResults(), escape);
      });
    if (escapes)
      return;
    for (OpResult result : op->getResults()) {
      if (result.use_empty())
        continue;
      for (int attempt = 0; attempt < 50; ++attempt) {
        Value other = random.pick(values);
        if (other.getType() != result.getType() ||
            (other.getDefiningOp() && op->isAncestor(other.getDefiningOp())))
          continue;
        if (auto argument = dyn_cast<BlockArgument>(other))
          if (op->isAncestor(argument.getOwner()->getParentOp()))
            continue;
        result.replaceAllUsesWith(other);
        break;
      }
      if (!result.use_empty())
        return;
    }
    op->erase();
  }

  Random &random;
  MLIRContext *context;
  std::vector<Operation *> operations;
  std::vector<Value> values;
  std::vector<NamedAttribute> attributes;
  std::vector<Type> types;
};
} // namespace

void fuzz::mutateIR(ModuleOp module, Random &random) {
  IRMutator(module, random).run();
}
