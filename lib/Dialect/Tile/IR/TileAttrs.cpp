//===- TileAttrs.cpp - Layouts, plans and buffer types --------------------===//

#include "fa/Dialect/Tile/IR/Tile.h"
#include "mlir/IR/DialectImplementation.h"

using namespace mlir;
using namespace mlir::tl;

//===----------------------------------------------------------------------===//
// PlanAttr
//===----------------------------------------------------------------------===//

int64_t PlanAttr::getTeamSize() const { return getMma() == "wgmma" ? 4 : 1; }

int64_t PlanAttr::getTeamsAlong(int64_t rows) const {
  int64_t teams = getTeams(), along = teams;
  while (along > 1 && (teams % along || rows % (16 * getTeamSize() * along)))
    --along;
  return along;
}

int64_t PlanAttr::getTeamsAlong(int64_t rows, int64_t columns) const {
  int64_t most = getTeamsAlong(rows), best = most;
  if (!getSquare())
    return best;
  // What a team reads of the factors: as little as possible.
  auto perimeter = [&](int64_t along) {
    return rows / along + columns * along / getTeams();
  };
  for (int64_t along = most; along > 0; --along) {
    int64_t across = getTeams() / along;
    // Whole lines of 32 columns where there are some, 16 for ldmatrix.
    int64_t least = columns % 64 == 0 ? 32 : 16;
    if (most % along == 0 && getTeams() % along == 0 &&
        columns % (least * across) == 0 && perimeter(along) < perimeter(best))
      best = along;
  }
  return best;
}

LogicalResult PlanAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                               StringAttr chip, StringAttr mma, StringAttr copy,
                               int64_t warps, int64_t producers, int64_t stages,
                               bool square, bool holdLeft, bool overlap,
                               bool turns, bool persistent, bool bulkStores) {
  if (!llvm::is_contained({"vector", "mma_sync", "wgmma"}, mma.getValue()))
    return emitError() << "mma is '" << mma.getValue()
                       << "'; use vector, mma_sync or wgmma";
  if (!llvm::is_contained({"direct", "cp_async", "tma"}, copy.getValue()))
    return emitError() << "copy is '" << copy.getValue()
                       << "'; use direct, cp_async or tma";
  if (warps < 1 || producers < 0 || warps > 32 || producers > 32 - warps)
    return emitError()
           << "warps is " << warps << " and producers " << producers
           << "; use warps >= 1, producers >= 0 and at most 32 in all";
  if (stages < 1 || stages > 16)
    return emitError() << "stages is " << stages << "; use 1 to 16";
  if (holdLeft && (mma.getValue() == "vector" || square))
    return emitError() << "has hold_left, which needs mma = \"mma_sync\" or "
                          "\"wgmma\" and warps with all columns of their rows "
                          "(square = false); leave it out";
  constexpr int64_t kWarpsOfTeam = 4;
  if (turns && (mma.getValue() != "wgmma" || producers == 0 ||
                warps < 2 * kWarpsOfTeam || warps > 4 * kWarpsOfTeam))
    return emitError()
           << "has turns, which need mma = \"wgmma\", producers >= 1 "
              "and two to four teams (warps = 8, 12 or 16); leave "
              "it out";
  if (persistent && producers == 0)
    return emitError()
           << "is persistent and has no producers, which would copy "
              "ahead for the next tile; use producers >= 1";
  if (bulkStores && !(persistent && copy.getValue() == "tma"))
    return emitError() << "has bulk_stores, which need persistent = true and "
                          "copy = \"tma\"; leave it out";
  return success();
}

//===----------------------------------------------------------------------===//
// FragmentAttr
//===----------------------------------------------------------------------===//

using Mode = FragmentAttr::Mode;

SmallVector<Mode> FragmentAttr::modes(ArrayRef<int64_t> flat) {
  SmallVector<Mode> modes;
  for (size_t i = 0; i + 2 < flat.size(); i += 3)
    modes.push_back({flat[i], flat[i + 1], flat[i + 2]});
  return modes;
}

static SmallVector<int64_t> flatten(ArrayRef<Mode> modes) {
  SmallVector<int64_t> flat;
  for (const Mode &mode : modes)
    flat.append({mode.extent, mode.dim, mode.stride});
  return flat;
}

FragmentAttr FragmentAttr::get(MLIRContext *context, ArrayRef<Mode> reg,
                               ArrayRef<Mode> lane, ArrayRef<Mode> warp) {
  return get(context, flatten(reg), flatten(lane), flatten(warp));
}

int64_t FragmentAttr::numRegisters() const {
  int64_t count = 1;
  for (const Mode &mode : regModes())
    count *= mode.extent;
  return count;
}

int64_t FragmentAttr::registerOffset(int64_t index, int64_t dim) const {
  int64_t offset = 0;
  for (const Mode &mode : regModes()) {
    if (mode.dim == dim)
      offset += index % mode.extent * mode.stride;
    index /= mode.extent;
  }
  return offset;
}

int64_t FragmentAttr::findRegister(ArrayRef<int64_t> offsets) const {
  // Digits of each offset, largest stride first.
  struct Place {
    Mode mode;
    int64_t below; // registers that one step of this mode is worth
  };
  SmallVector<Place> places;
  int64_t below = 1;
  for (const Mode &mode : regModes()) {
    places.push_back({mode, below});
    below *= mode.extent;
  }
  llvm::sort(places, [](const Place &a, const Place &b) {
    return a.mode.stride > b.mode.stride;
  });
  SmallVector<int64_t> rest(offsets);
  int64_t index = 0;
  for (const Place &place : places) {
    if (place.mode.stride == 0 || place.mode.dim >= int64_t(rest.size()))
      continue;
    int64_t digit = std::min(rest[place.mode.dim] / place.mode.stride,
                             place.mode.extent - 1);
    rest[place.mode.dim] -= digit * place.mode.stride;
    index += digit * place.below;
  }
  bool found = llvm::all_of(rest, [](int64_t left) { return left == 0; });
  return found ? index : -1;
}

FragmentAttr FragmentAttr::dropDim(int64_t dim) const {
  auto drop = [&](SmallVector<Mode> modes, bool replicate) {
    SmallVector<Mode> kept;
    for (Mode mode : modes) {
      if (mode.dim == dim) {
        if (replicate)
          kept.push_back({mode.extent, 0, 0});
        continue;
      }
      if (mode.dim > dim)
        --mode.dim;
      kept.push_back(mode);
    }
    return kept;
  };
  return get(getContext(), drop(regModes(), false), drop(laneModes(), true),
             drop(warpModes(), true));
}

FragmentAttr FragmentAttr::sumColumns() const {
  SmallVector<Mode> reg = regModes(), lane = laneModes();
  llvm::erase_if(reg, [](Mode mode) { return mode.dim == 1; });
  if (lane.empty() || lane[0].extent != PartialSumsOp::kParts ||
      lane[0].dim != 1 || lane[0].stride == 0)
    return {};
  lane[0].stride = 1;
  auto isColumn = [](Mode mode) { return mode.dim == 1 && mode.stride; };
  if (llvm::any_of(ArrayRef(lane).drop_front(), isColumn) ||
      llvm::any_of(warpModes(), isColumn))
    return {};
  return get(getContext(), reg, lane, warpModes());
}

FragmentAttr FragmentAttr::spreadColumns() const {
  FragmentAttr slice = dropDim(0);
  SmallVector<Mode> reg = slice.regModes(), lane = slice.laneModes();
  auto is = [](Mode mode, int64_t extent, int64_t stride) {
    return mode.extent == extent && mode.dim == 0 && mode.stride == stride;
  };
  if (reg.size() != 2 || !is(reg[0], 2, 1) || !is(reg[1], reg[1].extent, 8) ||
      reg[1].extent % 4 || lane.size() != 2 || !is(lane[0], 4, 2))
    return {};
  return get(getContext(), {{reg[1].extent / 4, 0, 32}}, {{32, 0, 1}},
             slice.warpModes());
}

LogicalResult FragmentAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                   ArrayRef<int64_t> reg,
                                   ArrayRef<int64_t> lane,
                                   ArrayRef<int64_t> warp) {
  constexpr int64_t kMost = 1 << 16;
  int64_t lanes = 1;
  for (ArrayRef<int64_t> flat : {reg, warp, lane}) {
    if (flat.size() % 3)
      return emitError() << "a mode is a triple extent:dim:stride";
    int64_t product = 1;
    for (const Mode &mode : modes(flat)) {
      if (mode.extent < 1 || mode.dim < 0 || mode.stride < 0 ||
          mode.dim > kMost || mode.stride > kMost)
        return emitError() << "mode " << mode.extent << ":" << mode.dim << ":"
                           << mode.stride << " needs extent >= 1, and dim and "
                           << "stride of 0 to " << kMost;
      if (mode.extent > kMost / product)
        return emitError() << "modes span more than " << kMost
                           << " registers, lanes or warps";
      product *= mode.extent;
    }
    lanes = product;
  }
  if (lanes != 32)
    return emitError() << "the lane modes span " << lanes
                       << " lanes; a warp has 32";
  return success();
}

Attribute FragmentAttr::parse(AsmParser &parser, Type) {
  SmallVector<int64_t> lists[3];
  if (parser.parseLess())
    return {};
  static constexpr StringLiteral kNames[3] = {"reg", "lane", "warp"};
  for (unsigned i = 0; i < 3; ++i) {
    auto parseMode = [&]() -> ParseResult {
      for (int part = 0; part < 3; ++part)
        if ((part && parser.parseColon()) ||
            parser.parseInteger(lists[i].emplace_back()))
          return failure();
      return success();
    };
    if ((i && parser.parseComma()) || parser.parseKeyword(kNames[i]) ||
        parser.parseEqual() ||
        parser.parseCommaSeparatedList(AsmParser::Delimiter::Square, parseMode))
      return {};
  }
  if (parser.parseGreater())
    return {};
  return parser.getChecked<FragmentAttr>(
      parser.getContext(), ArrayRef<int64_t>(lists[0]),
      ArrayRef<int64_t>(lists[1]), ArrayRef<int64_t>(lists[2]));
}

void FragmentAttr::print(AsmPrinter &printer) const {
  auto list = [&](StringRef name, ArrayRef<Mode> modes) {
    printer << name << " = [";
    llvm::interleaveComma(modes, printer, [&](const Mode &mode) {
      printer << mode.extent << ":" << mode.dim << ":" << mode.stride;
    });
    printer << "]";
  };
  printer << "<";
  list("reg", regModes());
  list(", lane", laneModes());
  list(", warp", warpModes());
  printer << ">";
}

//===----------------------------------------------------------------------===//
// BufferType and PipeType
//===----------------------------------------------------------------------===//

int64_t BufferType::getStoredCols() const {
  int64_t bits = getElementType().getIntOrFloatBitWidth();
  return llvm::alignTo(getShape()[1], 8 * getSwizzle() / bits);
}

int64_t BufferType::getNumPanels() const {
  return getStoredCols() * getElementType().getIntOrFloatBitWidth() / 8 /
         getSwizzle();
}

int64_t BufferType::getSizeInBytes() const {
  return getShape()[0] * getNumPanels() * getSwizzle();
}

LogicalResult BufferType::verify(function_ref<InFlightDiagnostic()> emitError,
                                 ArrayRef<int64_t> shape, Type elementType,
                                 int64_t swizzle) {
  constexpr int64_t kMost = 1 << 16;
  if (shape.size() != 2 || shape[0] < 1 || shape[1] < 1 || shape[0] > kMost ||
      shape[1] > kMost)
    return emitError() << "a buffer is a matrix with extents of 1 to " << kMost;
  if (!elementType.isIntOrFloat() || elementType.getIntOrFloatBitWidth() < 8 ||
      elementType.getIntOrFloatBitWidth() > 64)
    return emitError() << "a buffer holds integers or floats of 8 to 64 bits, "
                          "not "
                       << elementType;
  if (swizzle != 32 && swizzle != 64 && swizzle != 128)
    return emitError() << "swizzle is " << swizzle
                       << "; use the panel width in bytes: 32, 64 or 128";
  constexpr int64_t kNarrowest = 32;
  int64_t rowBytes = shape[1] * elementType.getIntOrFloatBitWidth() / 8;
  if (rowBytes % kNarrowest)
    return emitError() << "a row has " << rowBytes
                       << " bytes; it must be a multiple of " << kNarrowest;
  return success();
}

BufferType BufferType::getForTile(function_ref<InFlightDiagnostic()> emitError,
                                  RankedTensorType tile, bool padded) {
  // Of a number that may be any: multiples of 1024 change nothing.
  int64_t cols = tile.getShape().empty() ? 0 : tile.getShape().back() % 1024;
  int64_t rowBytes = cols * tile.getElementType().getIntOrFloatBitWidth() / 8;
  int64_t swizzle = 32;
  // Wider as long as the panels take no more than those of the least width.
  int64_t least = padded && rowBytes != swizzle ? 64 : swizzle;
  for (int64_t wider : {64, 128})
    if (llvm::alignTo(rowBytes, wider) == llvm::alignTo(rowBytes, least))
      swizzle = wider;
  return getChecked(emitError, tile.getContext(), tile.getShape(),
                    tile.getElementType(), swizzle);
}

Type BufferType::parse(AsmParser &parser) {
  SmallVector<int64_t> shape;
  Type elementType;
  int64_t swizzle;
  if (parser.parseLess() ||
      parser.parseDimensionList(shape, /*allowDynamic=*/false) ||
      parser.parseType(elementType) || parser.parseComma() ||
      parser.parseKeyword("swizzle") || parser.parseEqual() ||
      parser.parseInteger(swizzle) || parser.parseGreater())
    return {};
  return parser.getChecked<BufferType>(
      parser.getContext(), ArrayRef<int64_t>(shape), elementType, swizzle);
}

void BufferType::print(AsmPrinter &printer) const {
  printer << "<";
  for (int64_t extent : getShape())
    printer << extent << "x";
  printer << getElementType() << ", swizzle = " << getSwizzle() << ">";
}

LogicalResult PipeType::verify(function_ref<InFlightDiagnostic()> emitError,
                               int64_t stages, BufferType) {
  if (stages < 1)
    return emitError() << "a pipe has " << stages << " stages; use at least 1";
  return success();
}
