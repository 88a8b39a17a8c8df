//===- LaunchInfo.cpp - Launch metadata: make, store, check, evaluate -----===//

#include "fa/Runtime/LaunchInfo.h"
#include "mlir/IR/AffineExpr.h"
#include "mlir/IR/AffineMap.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MathExtras.h"
#include <cstring>

using namespace mlir;
using namespace mlir::fa;
namespace json = llvm::json;

char Failure::ID = 0;

static constexpr int kMetadataVersion = 2;

//===----------------------------------------------------------------------===//
// From the lowered function
//===----------------------------------------------------------------------===//

/// The C kind of a scalar type; false when there is none.
static bool getScalarKind(StringRef dtype, fa_arg_kind &kind) {
  if (dtype == "f32")
    kind = FA_ARG_F32;
  else if (dtype == "f64")
    kind = FA_ARG_F64;
  else if (dtype == "index")
    kind = FA_ARG_INDEX;
  else if (dtype == "i32")
    kind = FA_ARG_I32;
  else
    return false;
  return true;
}

static std::string toString(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text;
}

static llvm::Expected<LaunchInfo::Argument> makeArgument(Type type) {
  LaunchInfo::Argument arg;
  auto memref = dyn_cast<MemRefType>(type);
  if (!memref) {
    arg.dtype = toString(type);
    if (!getScalarKind(arg.dtype, arg.kind))
      return fail(FA_COMPILE_ERROR,
                  "argument type {0} cannot be launched; allowed are memrefs, "
                  "f32, f64, index and i32",
                  arg.dtype);
    return arg;
  }
  int64_t offset;
  SmallVector<int64_t> strides;
  if (memref.getRank() > FA_MAX_RANK ||
      failed(memref.getStridesAndOffset(strides, offset)))
    return fail(FA_COMPILE_ERROR,
                "argument type {0} cannot be launched; a memref must be "
                "strided and have at most {1} dimensions",
                toString(type), FA_MAX_RANK);
  auto convert = [](int64_t value) {
    return ShapedType::isDynamic(value) ? LaunchInfo::kDynamic : value;
  };
  arg.dtype = toString(memref.getElementType());
  for (auto [size, stride] : llvm::zip(memref.getShape(), strides)) {
    arg.sizes.push_back(convert(size));
    arg.strides.push_back(convert(stride));
  }
  return arg;
}

/// Appends `expr` in postfix notation; false when it has a dimension.
static bool toPostfix(AffineExpr expr, raw_ostream &os) {
  if (auto constant = dyn_cast<AffineConstantExpr>(expr)) {
    os << constant.getValue() << ' ';
    return true;
  }
  if (auto symbol = dyn_cast<AffineSymbolExpr>(expr)) {
    os << 's' << symbol.getPosition() << ' ';
    return true;
  }
  auto binary = dyn_cast<AffineBinaryOpExpr>(expr);
  if (!binary || !toPostfix(binary.getLHS(), os) ||
      !toPostfix(binary.getRHS(), os))
    return false;
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    os << "+ ";
    break;
  case AffineExprKind::Mul:
    os << "* ";
    break;
  case AffineExprKind::FloorDiv:
    os << "floordiv ";
    break;
  case AffineExprKind::CeilDiv:
    os << "ceildiv ";
    break;
  case AffineExprKind::Mod:
    os << "mod ";
    break;
  default:
    return false;
  }
  return true;
}

static int64_t getInteger(DictionaryAttr dict, StringRef name) {
  auto attr = dict.getAs<IntegerAttr>(name);
  return attr ? attr.getInt() : 0;
}

static llvm::Error malformed(Operation *func, StringRef what) {
  return fail(FA_COMPILE_ERROR, "launch contract of @{0}: {1}",
              SymbolTable::getSymbolName(func).getValue(), what);
}

/// Reads `tile.launch`.
static llvm::Expected<LaunchInfo::Launch> makeLaunch(Operation *func) {
  LaunchInfo::Launch result;
  result.entry = SymbolTable::getSymbolName(func).str();
  if (!json::isUTF8(result.entry))
    return fail(FA_INVALID_ARGUMENT,
                "the function's name, \"{0}\", is not UTF-8: use another",
                json::fixUTF8(result.entry));
  auto launch = func->getAttrOfType<DictionaryAttr>("tile.launch");
  auto map = launch ? launch.getAs<AffineMapAttr>("grid") : AffineMapAttr();
  auto symbols =
      launch ? launch.getAs<DenseI64ArrayAttr>("grid_symbols") : nullptr;
  if (!map || !symbols || map.getValue().getNumDims() ||
      symbols.size() != 2 * map.getValue().getNumSymbols())
    return malformed(func,
                     "tile.launch needs `grid`, an affine map of symbols, and "
                     "`grid_symbols`, one pair (argument, dimension) for each");
  for (AffineExpr expr : map.getValue().getResults()) {
    std::string text;
    llvm::raw_string_ostream os(text);
    if (!toPostfix(expr, os))
      return malformed(func, "the grid may use symbols and constants only");
    auto extent = LaunchInfo::Extent::parse(StringRef(text).rtrim(),
                                            map.getValue().getNumSymbols());
    if (!extent)
      return malformed(func, "the grid is not computable");
    result.grid.push_back(std::move(*extent));
  }
  for (int64_t i = 0; i < symbols.size(); i += 2)
    result.symbols.emplace_back(symbols[i], symbols[i + 1]);

  result.threads = getInteger(launch, "threads");
  result.sharedBytes = getInteger(launch, "shared_bytes");
  result.perMultiprocessor = getInteger(launch, "per_multiprocessor");
  if (auto maps = launch.getAs<ArrayAttr>("tensor_maps")) {
    for (Attribute attr : maps) {
      auto dict = dyn_cast<DictionaryAttr>(attr);
      auto dims = dict ? dict.getAs<DenseI64ArrayAttr>("dims") : nullptr;
      auto box = dict ? dict.getAs<DenseI64ArrayAttr>("box") : nullptr;
      if (!dims || !box)
        return malformed(func,
                         "a tensor map needs `arg`, `dims`, `box`, `swizzle`");
      LaunchInfo::TensorMap tensorMap;
      tensorMap.arg = getInteger(dict, "arg");
      tensorMap.dims.assign(dims.asArrayRef().begin(), dims.asArrayRef().end());
      tensorMap.box.assign(box.asArrayRef().begin(), box.asArrayRef().end());
      tensorMap.swizzle = getInteger(dict, "swizzle");
      result.tensorMaps.push_back(std::move(tensorMap));
    }
  }
  return result;
}

llvm::Expected<LaunchInfo>
LaunchInfo::fromFunctions(ArrayRef<Operation *> funcs, StringRef chip) {
  LaunchInfo info;
  info.chip = chip.str();
  Operation *first = funcs.front();
  auto types = first->getAttrOfType<ArrayAttr>("tile.args");
  if (!types)
    return malformed(first, "tile.args must be an array of types");
  for (Attribute attr : types) {
    auto type = dyn_cast<TypeAttr>(attr);
    if (!type)
      return malformed(first, "tile.args must be an array of types");
    auto arg = makeArgument(type.getValue());
    if (!arg)
      return arg.takeError();
    info.args.push_back(*arg);
  }
  for (Operation *func : funcs) {
    if (func->getAttr("tile.args") != types)
      return malformed(func, "all launches of a program take the same "
                             "arguments, but tile.args differs");
    auto launch = makeLaunch(func);
    if (!launch)
      return launch.takeError();
    info.launches.push_back(std::move(*launch));
  }
  // One place checks what the rest of the runtime relies on.
  auto checked = fromJSON(info.toJSON());
  if (!checked)
    return malformed(first, llvm::toString(checked.takeError()));
  return info;
}

//===----------------------------------------------------------------------===//
// JSON
//===----------------------------------------------------------------------===//

static json::Array toArray(ArrayRef<int64_t> values) {
  json::Array array;
  for (int64_t value : values) {
    if (value == LaunchInfo::kDynamic)
      array.push_back(nullptr);
    else
      array.push_back(value);
  }
  return array;
}

static json::Object toObject(const LaunchInfo::Launch &launch, bool isCPU) {
  json::Array grid, symbols, maps;
  for (const LaunchInfo::Extent &extent : launch.grid)
    grid.push_back(extent.getText().str());
  for (auto [arg, dim] : launch.symbols)
    symbols.push_back(json::Array{arg, dim});
  for (const LaunchInfo::TensorMap &map : launch.tensorMaps)
    maps.push_back(json::Object{{"arg", map.arg},
                                {"dims", toArray(map.dims)},
                                {"box", toArray(map.box)},
                                {"swizzle", map.swizzle}});
  json::Object object{{"entry", launch.entry},
                      {"grid", std::move(grid)},
                      {"grid_symbols", std::move(symbols)}};
  if (!isCPU) {
    object["threads"] = launch.threads;
    object["shared_bytes"] = launch.sharedBytes;
    object["tensor_maps"] = std::move(maps);
    if (launch.perMultiprocessor)
      object["per_multiprocessor"] = launch.perMultiprocessor;
  }
  return object;
}

std::string LaunchInfo::toJSON() const {
  json::Array jsonArgs, jsonLaunches, dtypes;
  for (const Argument &arg : args) {
    json::Object object{{"dtype", arg.dtype}};
    if (!arg.name.empty())
      object["name"] = arg.name;
    if (arg.kind == FA_ARG_MEMREF) {
      object["sizes"] = toArray(arg.sizes);
      object["strides"] = toArray(arg.strides);
      object["align"] = arg.align;
    }
    if (arg.nonnegative)
      object["nonnegative"] = true;
    if (!llvm::is_contained(dtypes, json::Value(arg.dtype)))
      dtypes.push_back(arg.dtype);
    jsonArgs.push_back(std::move(object));
  }
  for (const Launch &launch : launches)
    jsonLaunches.push_back(toObject(launch, isCPU()));
  json::Object root{
      {"version", kMetadataVersion},        {"library", fa_version()},
      {"llvm", fa_llvm_version()},          {"chip", chip},
      {"args", std::move(jsonArgs)},        {"dtypes", std::move(dtypes)},
      {"launches", std::move(jsonLaunches)}};
  return llvm::formatv("{0:2}", json::Value(std::move(root))).str();
}

/// Reads an array of integers, null standing for a dynamic one.
template <typename Vector>
static bool fromArray(const json::Array *array, Vector &values) {
  if (!array)
    return false;
  for (const json::Value &value : *array) {
    if (value.kind() == json::Value::Null)
      values.push_back(LaunchInfo::kDynamic);
    else if (auto integer = value.getAsInteger())
      values.push_back(*integer);
    else
      return false;
  }
  return true;
}

std::optional<LaunchInfo::Extent>
LaunchInfo::Extent::parse(StringRef text, size_t symbolCount) {
  Extent extent;
  extent.text = text.str();
  SmallVector<StringRef> words;
  text.split(words, ' ', -1, /*KeepEmpty=*/false);
  size_t depth = 0; // of the stack when the words so far are evaluated
  for (StringRef word : words) {
    Token token = {Kind::Constant, 0};
    if (!word.getAsInteger(10, token.value)) {
      ++depth;
    } else if (word.consume_front("s")) {
      token.kind = Kind::Symbol;
      if (word.getAsInteger(10, token.value) || token.value < 0 ||
          token.value >= static_cast<int64_t>(symbolCount))
        return std::nullopt;
      ++depth;
    } else {
      auto kind = llvm::StringSwitch<std::optional<Kind>>(word)
                      .Case("+", Kind::Add)
                      .Case("*", Kind::Mul)
                      .Case("floordiv", Kind::FloorDiv)
                      .Case("ceildiv", Kind::CeilDiv)
                      .Case("mod", Kind::Mod)
                      .Default(std::nullopt);
      if (!kind || depth < 2)
        return std::nullopt;
      token.kind = *kind;
      --depth;
    }
    extent.tokens.push_back(token);
  }
  if (depth != 1)
    return std::nullopt;
  return extent;
}

std::optional<int64_t>
LaunchInfo::Extent::evaluate(ArrayRef<int64_t> symbols) const {
  SmallVector<int64_t, 8> stack;
  for (Token token : tokens) {
    if (token.kind == Kind::Constant || token.kind == Kind::Symbol) {
      bool isSymbol = token.kind == Kind::Symbol;
      stack.push_back(isSymbol ? symbols[token.value] : token.value);
      continue;
    }
    int64_t rhs = stack.pop_back_val();
    int64_t &lhs = stack.back();
    bool overflow = false;
    if (token.kind == Kind::Add)
      overflow = llvm::AddOverflow(lhs, rhs, lhs);
    else if (token.kind == Kind::Mul)
      overflow = llvm::MulOverflow(lhs, rhs, lhs);
    else if (rhs <= 0)
      return std::nullopt;
    else if (token.kind == Kind::FloorDiv)
      lhs = llvm::divideFloorSigned(lhs, rhs);
    else if (token.kind == Kind::CeilDiv)
      lhs = llvm::divideCeilSigned(lhs, rhs);
    else
      lhs -= rhs * llvm::divideFloorSigned(lhs, rhs);
    if (overflow)
      return std::nullopt;
  }
  return stack.front();
}

static llvm::Error badMetadata(const char *what) {
  return fail(FA_IO_ERROR, "artifact metadata: {0}", what);
}

/// Reads one entry of `launches`; `info` has the chip and the arguments.
static llvm::Expected<LaunchInfo::Launch> readLaunch(const json::Object &object,
                                                     const LaunchInfo &info) {
  auto bad = badMetadata;
  LaunchInfo::Launch launch;
  launch.entry = object.getString("entry").value_or("").str();
  if (launch.entry.empty())
    return bad("`entry` is missing");
  const json::Array *symbols = object.getArray("grid_symbols");
  const json::Array *grid = object.getArray("grid");
  if (!symbols || !grid || grid->empty())
    return bad("`grid` or `grid_symbols` is missing");
  for (const json::Value &entry : *symbols) {
    SmallVector<int64_t, 2> pair;
    if (!fromArray(entry.getAsArray(), pair) || pair.size() != 2 ||
        pair[0] < 0 || pair[0] >= (int64_t)info.args.size())
      return bad("malformed grid symbol");
    const LaunchInfo::Argument &arg = info.args[pair[0]];
    bool valid = arg.kind == FA_ARG_MEMREF
                     ? pair[1] >= 0 && pair[1] < (int64_t)arg.sizes.size()
                     : pair[1] == -1 &&
                           (arg.kind == FA_ARG_INDEX || arg.kind == FA_ARG_I32);
    if (!valid)
      return bad("a grid symbol names no dimension and no integer argument");
    launch.symbols.emplace_back(pair[0], pair[1]);
  }
  SmallVector<int64_t> ones(launch.symbols.size(), 1);
  for (const json::Value &extent : *grid) {
    auto expr = extent.getAsString();
    auto parsed =
        expr ? LaunchInfo::Extent::parse(*expr, ones.size()) : std::nullopt;
    if (!parsed || !parsed->evaluate(ones))
      return bad("malformed grid expression");
    launch.grid.push_back(std::move(*parsed));
  }

  if (info.isCPU())
    return launch;
  launch.threads = object.getInteger("threads").value_or(0);
  launch.sharedBytes = object.getInteger("shared_bytes").value_or(0);
  if (launch.threads < 1 || launch.threads > 1024 || launch.sharedBytes < 0)
    return bad("`threads` must be 1 to 1024 and `shared_bytes` at least 0");
  launch.perMultiprocessor =
      object.getInteger("per_multiprocessor").value_or(0);
  if (launch.perMultiprocessor < 0 || launch.perMultiprocessor > 32)
    return bad("`per_multiprocessor` must be 0 to 32");
  if (const json::Array *maps = object.getArray("tensor_maps")) {
    for (const json::Value &entry : *maps) {
      const json::Object *fields = entry.getAsObject();
      LaunchInfo::TensorMap map;
      if (!fields || !fromArray(fields->getArray("dims"), map.dims) ||
          !fromArray(fields->getArray("box"), map.box))
        return bad("malformed tensor map");
      map.arg = fields->getInteger("arg").value_or(-1);
      map.swizzle = fields->getInteger("swizzle").value_or(0);
      bool valid =
          map.arg >= 0 && map.arg < (int64_t)info.args.size() &&
          info.args[map.arg].kind == FA_ARG_MEMREF &&
          map.dims.size() == map.box.size() && !map.dims.empty() &&
          map.dims.size() <= 5 &&
          llvm::is_contained({0, 32, 64, 128}, map.swizzle) &&
          llvm::all_of(
              map.dims,
              [&](int64_t dim) {
                return dim >= 0 &&
                       dim < (int64_t)info.args[map.arg].sizes.size();
              }) &&
          llvm::all_of(map.box, [](int64_t b) { return b > 0 && b <= 256; });
      if (!valid)
        return bad("a tensor map needs a memref argument, 1 to 5 of its "
                   "dimensions, as many box sizes from 1 to 256 and a swizzle "
                   "of 0, 32, 64 or 128 bytes");
      launch.tensorMaps.push_back(std::move(map));
    }
  }
  return launch;
}

llvm::Expected<LaunchInfo> LaunchInfo::fromJSON(StringRef text) {
  auto bad = badMetadata;
  auto value = json::parse(text);
  if (!value) {
    llvm::consumeError(value.takeError());
    return bad("no valid JSON");
  }
  const json::Object *root = value->getAsObject();
  if (!root || root->getInteger("version") != kMetadataVersion)
    return bad("unknown version");

  LaunchInfo info;
  info.chip = root->getString("chip").value_or("").str();
  if (info.chip.empty())
    return bad("`chip` is missing");

  const json::Array *jsonArgs = root->getArray("args");
  if (!jsonArgs)
    return bad("`args` is missing");
  for (const json::Value &entry : *jsonArgs) {
    const json::Object *object = entry.getAsObject();
    if (!object)
      return bad("malformed argument");
    Argument arg;
    arg.name = object->getString("name").value_or("").str();
    arg.dtype = object->getString("dtype").value_or("").str();
    arg.nonnegative = object->getBoolean("nonnegative").value_or(false);
    if (object->getArray("sizes")) {
      arg.align = object->getInteger("align").value_or(1);
      if (!fromArray(object->getArray("sizes"), arg.sizes) ||
          !fromArray(object->getArray("strides"), arg.strides) ||
          arg.sizes.size() != arg.strides.size() ||
          arg.sizes.size() > FA_MAX_RANK || arg.align < 1)
        return bad("malformed argument");
    } else if (!getScalarKind(arg.dtype, arg.kind)) {
      return bad("malformed argument");
    }
    info.args.push_back(std::move(arg));
  }

  const json::Array *launches = root->getArray("launches");
  if (!launches || launches->empty())
    return bad("`launches` is missing or empty");
  for (const json::Value &entry : *launches) {
    const json::Object *object = entry.getAsObject();
    if (!object)
      return bad("malformed launch");
    auto launch = readLaunch(*object, info);
    if (!launch)
      return launch.takeError();
    info.launches.push_back(std::move(*launch));
  }
  return info;
}

//===----------------------------------------------------------------------===//
// Launch
//===----------------------------------------------------------------------===//

static StringRef kindName(fa_arg_kind kind) {
  switch (kind) {
  case FA_ARG_MEMREF:
    return "memref";
  case FA_ARG_F32:
    return "f32";
  case FA_ARG_F64:
    return "f64";
  case FA_ARG_INDEX:
    return "index";
  case FA_ARG_I32:
    return "i32";
  }
  return "unknown kind";
}

/// Bytes of an element; types are written as in MLIR (f16, bf16, i1, ...).
static int64_t elementBytes(StringRef dtype) {
  unsigned bits = 0;
  dtype.drop_until(llvm::isDigit).getAsInteger(10, bits);
  return bits ? llvm::divideCeil(bits, 8) : 8; // index
}

static llvm::Error checkArgument(const LaunchInfo::Argument &expected,
                                 const fa_arg &actual, size_t index) {
  auto who = [&] {
    std::string text = "argument " + std::to_string(index);
    return expected.name.empty() ? text : text + " (" + expected.name + ")";
  };
  if (expected.kind != actual.kind)
    return fail(FA_INVALID_ARGUMENT, "{0} is of kind {1}; expected {2}", who(),
                kindName(actual.kind), kindName(expected.kind));
  if (expected.kind != FA_ARG_MEMREF) {
    if (expected.kind == FA_ARG_I32 && !llvm::isInt<32>(actual.integer))
      return fail(FA_INVALID_ARGUMENT, "{0} is {1}; an i32 is expected", who(),
                  actual.integer);
    if (expected.nonnegative && actual.real < 0)
      return fail(FA_INVALID_ARGUMENT,
                  "{0} is {1}; this program was compiled for values that are "
                  "not negative: compile it with negative_scale",
                  who(), actual.real);
    return llvm::Error::success();
  }
  if (actual.rank != (int32_t)expected.sizes.size())
    return fail(FA_INVALID_ARGUMENT, "{0} has {1} dimensions; expected {2}",
                who(), actual.rank, expected.sizes.size());
  bool empty = false;
  for (int32_t dim = 0; dim < actual.rank; ++dim) {
    int64_t size = actual.sizes[dim];
    if (size < 0)
      return fail(FA_INVALID_ARGUMENT,
                  "{0} has size {1} in dimension {2}; expected at least 0",
                  who(), size, dim);
    if (expected.sizes[dim] != LaunchInfo::kDynamic &&
        expected.sizes[dim] != size)
      return fail(
          FA_INVALID_ARGUMENT,
          "{0} has size {1} in dimension {2}; this program was compiled "
          "for {3}",
          who(), size, dim, expected.sizes[dim]);
    empty |= size == 0;
  }
  if (empty)
    return llvm::Error::success();
  if (!actual.data)
    return fail(FA_INVALID_ARGUMENT, "{0} has no data (null pointer)", who());
  int64_t bytes = elementBytes(expected.dtype);
  if (reinterpret_cast<uintptr_t>(actual.data) % expected.align)
    return fail(
        FA_INVALID_ARGUMENT,
        "{0} starts at {1}, which is not a multiple of {2} bytes; align "
        "it, or compile for a smaller alignment",
        who(), actual.data, expected.align);
  for (int32_t dim = 0; dim < actual.rank; ++dim) {
    // The stride of a dimension with one element is never used.
    if (actual.sizes[dim] == 1)
      continue;
    int64_t stride = actual.strides[dim];
    if (expected.strides[dim] != LaunchInfo::kDynamic) {
      if (expected.strides[dim] != stride)
        return fail(FA_INVALID_ARGUMENT,
                    "{0} has stride {1} in dimension {2}; expected {3}, make "
                    "the tensor contiguous there",
                    who(), stride, dim, expected.strides[dim]);
    } else if (stride * bytes % expected.align) {
      return fail(
          FA_INVALID_ARGUMENT,
          "{0} has stride {1} in dimension {2}, {3} bytes, which is not "
          "a multiple of {4} bytes; align it, or compile for a smaller "
          "alignment",
          who(), stride, dim, stride * bytes, expected.align);
    }
  }
  return llvm::Error::success();
}

llvm::Error LaunchInfo::check(ArrayRef<fa_arg> values) const {
  if (values.size() != args.size())
    return fail(FA_INVALID_ARGUMENT, "@{0} takes {1} arguments; got {2}",
                launches.front().entry, args.size(), values.size());
  for (auto [index, pair] : llvm::enumerate(llvm::zip(args, values))) {
    auto &[expected, actual] = pair;
    if (llvm::Error error = checkArgument(expected, actual, index))
      return error;
  }
  return llvm::Error::success();
}

llvm::Expected<SmallVector<int64_t, 3>>
LaunchInfo::Launch::evaluateGrid(ArrayRef<fa_arg> values) const {
  SmallVector<int64_t> symbolValues;
  for (auto [arg, dim] : symbols)
    symbolValues.push_back(dim < 0 ? values[arg].integer
                                   : values[arg].sizes[dim]);
  SmallVector<int64_t, 3> extents;
  int64_t total = 1;
  for (const Extent &expr : grid) {
    std::optional<int64_t> extent = expr.evaluate(symbolValues);
    if (!extent || *extent < 0)
      return fail(FA_INVALID_ARGUMENT,
                  "the launch grid of @{0} is not computable from these sizes "
                  "(`{1}`)",
                  entry, expr.getText());
    extents.push_back(*extent);
    if (llvm::MulOverflow(total, *extent, total))
      return fail(FA_INVALID_ARGUMENT, "the launch grid of @{0} is too large",
                  entry);
  }
  return extents;
}

SmallVector<uint64_t, 64> LaunchInfo::pack(ArrayRef<fa_arg> values) const {
  SmallVector<uint64_t, 64> words;
  for (const fa_arg &value : values) {
    switch (value.kind) {
    case FA_ARG_MEMREF:
      words.push_back(reinterpret_cast<uint64_t>(value.data));
      words.push_back(reinterpret_cast<uint64_t>(value.data));
      words.push_back(0);
      words.append(value.sizes, value.sizes + value.rank);
      words.append(value.strides, value.strides + value.rank);
      break;
    case FA_ARG_F32:
      words.push_back(llvm::bit_cast<uint32_t>(static_cast<float>(value.real)));
      break;
    case FA_ARG_F64:
      words.push_back(llvm::bit_cast<uint64_t>(value.real));
      break;
    case FA_ARG_INDEX:
    case FA_ARG_I32:
      words.push_back(static_cast<uint64_t>(value.integer));
      break;
    }
  }
  return words;
}
