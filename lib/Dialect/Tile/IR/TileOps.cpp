//===- TileOps.cpp - Verifiers of the tile dialect ------------------------===//

#include "fa/Dialect/Tile/IR/TensorView.h"
#include "fa/Dialect/Tile/IR/Tile.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/Interfaces/FunctionInterfaces.h"

using namespace mlir;
using namespace mlir::tl;

#define GET_OP_CLASSES
#include "fa/Dialect/Tile/IR/TileOps.cpp.inc"

/// Checks that `offsets` and a tile of `tileRank` address `memref`.
static LogicalResult verifyAccess(Operation *op, MemRefType memref,
                                  int64_t tileRank, size_t offsets,
                                  std::optional<ArrayRef<int64_t>> order,
                                  std::optional<ArrayRef<int64_t>> merged) {
  int64_t rank = memref.getRank();
  if (merged) {
    auto isDim = [&](int64_t dim) { return dim >= 0 && dim < rank; };
    if (merged->size() != 2 || !llvm::all_of(*merged, isDim) ||
        std::abs((*merged)[0] - (*merged)[1]) != 1)
      return op->emitOpError(
                 "merged must be two neighbouring dimensions of the "
                 "memref, which has rank ")
             << rank;
    --rank;
  }
  if (rank != tileRank || offsets != size_t(tileRank))
    return op->emitOpError("the memref has rank ")
           << rank << (merged ? " after merging" : "") << ", the tile "
           << tileRank << ", and there are " << offsets
           << " offsets; all three must agree";
  if (!order)
    return success();
  SmallVector<int64_t> sorted(*order);
  llvm::sort(sorted);
  if (sorted != llvm::to_vector(llvm::seq<int64_t>(0, tileRank)))
    return op->emitOpError("order must be a permutation of 0 to ")
           << tileRank - 1;
  return success();
}

static LogicalResult verifySameElement(Operation *op, Type memory, Type tile) {
  if (memory == tile)
    return success();
  return op->emitOpError("the memref holds ")
         << memory << " but the tile holds " << tile
         << "; convert the tile with arith";
}

static LogicalResult verifyShuffled(Operation *op, bool isShuffled,
                                    MemRefType memref, bool hasOrder) {
  if (!isShuffled || (memref.getRank() == 2 && !hasOrder))
    return success();
  return op->emitOpError("is shuffled: the memref must have rank 2, it has ")
         << memref.getRank() << ", and there must be no order";
}

LogicalResult LoadOp::verify() {
  MemRefType source = getSource().getType();
  auto tile = cast<RankedTensorType>(getResult().getType());
  if (failed(
          verifyShuffled(*this, getShuffled(), source, getOrder().has_value())))
    return failure();
  if (failed(verifyAccess(*this, source, tile.getRank(), getOffsets().size(),
                          getOrder(), getMerged())))
    return failure();
  return verifySameElement(*this, source.getElementType(),
                           tile.getElementType());
}

LogicalResult StoreOp::verify() {
  MemRefType dest = getDest().getType();
  auto tile = cast<RankedTensorType>(getValue().getType());
  if (failed(verifyAccess(*this, dest, tile.getRank(), getOffsets().size(),
                          getOrder(), getMerged())))
    return failure();
  if (std::optional<int64_t> bytes = getBulk()) {
    if (!getOffset())
      return emitOpError("has no offset, so no place that tensor copies could "
                         "read: give it one or leave `bulk` out");
    std::optional<Panels> panels = getPanels();
    if (!panels)
      return emitOpError("is no store for tensor copies: its tile must be an "
                         "accumulator of 16 bits, 16 rows per warp, and its "
                         "memory whole dimensions of a function argument with "
                         "a 'tile.align' of 16");
    if (*bytes < panels->getPanelBytes())
      return emitOpError("gives each warp ")
             << *bytes << " bytes of shared memory; a panel takes "
             << panels->getPanelBytes();
    if (*bytes % panels->getAlignment() ||
        *getOffset() % panels->getAlignment())
      return emitOpError("begins at ")
             << *getOffset() << " and gives each warp " << *bytes
             << " bytes; the swizzle of its panels takes multiples of "
             << panels->getAlignment();
  }
  return verifySameElement(*this, dest.getElementType(), tile.getElementType());
}

std::optional<StoreOp::Panels> StoreOp::getPanels() {
  auto tile = cast<RankedTensorType>(getValue().getType());
  auto layout = dyn_cast_or_null<FragmentAttr>(tile.getEncoding());
  if (!layout || tile.getRank() != 2 || tile.getElementTypeBitWidth() != 16 ||
      getOrder() || getMerged())
    return std::nullopt;
  // Blocks of 16 rows and 8 columns, all columns in one warp.
  using Mode = FragmentAttr::Mode;
  auto is = [](Mode mode, int64_t extent, int64_t dim, int64_t stride) {
    return mode.extent == extent && mode.dim == dim && mode.stride == stride;
  };
  SmallVector<Mode> regs = layout.regModes(), lanes = layout.laneModes();
  int64_t columns = tile.getDimSize(1);
  if (regs.size() < 2 || !is(regs[0], 2, 1, 1) || !is(regs[1], 2, 0, 8) ||
      regs.size() > 3 ||
      (regs.size() == 3 && !is(regs[2], columns / 8, 1, 8)) ||
      (regs.size() == 2 && columns != 8) || lanes.size() != 2 ||
      !is(lanes[0], 4, 1, 2) || !is(lanes[1], 8, 0, 1) ||
      !llvm::all_of(layout.warpModes(), [](Mode mode) {
        return mode.dim == 0 && mode.stride % Panels::kRows == 0 &&
               mode.stride > 0;
      }))
    return std::nullopt;
  FailureOr<TensorView> view = TensorView::get(getDest(), /*isOpen=*/false);
  auto func = (*this)->getParentOfType<FunctionOpInterface>();
  if (failed(view) || !func)
    return std::nullopt;
  auto align =
      func.getArgAttrOfType<IntegerAttr>(view->getArgument(), "tile.align");
  if (!align || align.getInt() % 16 != 0)
    return std::nullopt;
  // As wide as can be, for few copies; what is behind the columns of the tile
  // must be behind those of the memory.
  for (int64_t width : {64, 32, 16})
    if (columns % width == 0)
      return Panels{columns / width, width};
  int64_t extent = getDest().getType().getDimSize(1);
  if (ShapedType::isDynamic(extent) || extent > columns)
    return std::nullopt;
  return Panels{int64_t(llvm::divideCeil(columns, 64)), 64};
}

LogicalResult AccumulateOp::verify() {
  MemRefType dest = getDest().getType();
  auto tile = cast<RankedTensorType>(getValue().getType());
  if (failed(
          verifyShuffled(*this, getShuffled(), dest, getOrder().has_value())))
    return failure();
  if (failed(verifyAccess(*this, dest, tile.getRank(), getOffsets().size(),
                          getOrder(), /*merged=*/std::nullopt)))
    return failure();
  if (getFree() && !getOffset())
    return emitOpError("has no offset, so no place that could be free: give it "
                       "one or leave `free` out");
  if (getOffset() && !isContiguous())
    return emitOpError("goes through shared memory: it must be shuffled and as "
                       "wide as the memory, whose rows are neighbours");
  return verifySameElement(*this, dest.getElementType(), tile.getElementType());
}

bool AccumulateOp::isContiguous() {
  MemRefType dest = getDest().getType();
  auto tile = cast<RankedTensorType>(getValue().getType());
  auto [strides, offset] = dest.getStridesAndOffset();
  return getShuffled() && isZeroInteger(getOffsets()[1]) &&
         tile.getDimSize(1) == dest.getDimSize(1) &&
         strides[0] == tile.getDimSize(1) && strides[1] == 1;
}

LogicalResult StageOp::verify() {
  auto tile = cast<RankedTensorType>(getSource().getType());
  BufferType buffer = getBuffer().getType();
  if (tile.getShape() == buffer.getShape() &&
      tile.getElementType() == buffer.getElementType())
    return success();
  return emitOpError("the tile is ") << tile << " but the buffer is " << buffer
                                     << "; shape and element type must agree";
}

LogicalResult GatherOp::verify() {
  MemRefType source = getSource().getType();
  auto tile = cast<RankedTensorType>(getResult().getType());
  if (size_t(source.getRank()) != getIndices().size())
    return emitOpError("the source has rank ")
           << source.getRank() << " but there are " << getIndices().size()
           << " index tiles";
  for (Value index : getIndices()) {
    auto type = cast<RankedTensorType>(index.getType());
    if (type.getShape() != tile.getShape() ||
        !type.getElementType().isInteger())
      return emitOpError("index tile ")
             << type << " must be an integer tile of the result's shape";
  }
  return verifySameElement(*this, source.getElementType(),
                           tile.getElementType());
}

/// Shape and element type of a tile or buffer.
static std::pair<ArrayRef<int64_t>, Type> shapeAndElement(Type type) {
  if (auto tensor = dyn_cast<RankedTensorType>(type))
    return {tensor.getShape(), tensor.getElementType()};
  auto buffer = cast<BufferType>(type);
  return {buffer.getShape(), buffer.getElementType()};
}

SmallVector<int64_t, 3> ContractOp::getExtents() {
  SmallVector<int64_t, 3> extents(3, 0);
  for (auto [i, operand] : llvm::enumerate(getOperands())) {
    auto shape = shapeAndElement(operand.getType()).first;
    for (auto [pos, extent] : llvm::enumerate(shape))
      extents[getMap(i).getDimPosition(pos)] = extent;
  }
  return extents;
}

LogicalResult ContractOp::verify() {
  if (getMaps().size() != 3)
    return emitOpError("has ")
           << getMaps().size() << " maps; it needs one each for lhs, rhs, acc";
  static constexpr unsigned kAbsent[3] = {1, 0, 2};
  static constexpr StringLiteral kOver[3] = {"{m, k}", "{n, k}", "{m, n}"};
  for (unsigned i = 0; i < 3; ++i) {
    AffineMap map = getMap(i);
    if (map.getNumDims() != 3 || map.getNumSymbols() ||
        map.getNumResults() != 2 || !map.isProjectedPermutation() ||
        map.isFunctionOfDim(kAbsent[i]))
      return emitOpError("map ")
             << i << " is " << AffineMapAttr::get(map)
             << "; it must be a projected permutation of (m, n, k) over "
             << kOver[i];
    if (shapeAndElement(getOperand(i).getType()).first.size() != 2)
      return emitOpError("operand ") << i << " must have rank 2";
  }
  SmallVector<int64_t, 3> extents = getExtents();
  for (auto [i, operand] : llvm::enumerate(getOperands())) {
    auto shape = shapeAndElement(operand.getType()).first;
    for (auto [pos, extent] : llvm::enumerate(shape)) {
      unsigned dim = getMap(i).getDimPosition(pos);
      if (extents[dim] != extent)
        return emitOpError("operand ")
               << i << " has extent " << extent << " along "
               << StringRef("mnk").substr(dim, 1) << " where another has "
               << extents[dim];
    }
  }
  if (shapeAndElement(getLhs().getType()).second !=
      shapeAndElement(getRhs().getType()).second)
    return emitOpError("lhs and rhs must have one element type");
  if (getAsync())
    for (Operation *user : getResult().getUsers())
      if (!isa<AwaitOp>(user))
        return emitOpError("is async, and '")
               << user->getName() << "' uses its result; only tile.await may";
  return success();
}

LogicalResult AwaitOp::verify() {
  if (static_cast<int64_t>(getYounger()) < 0)
    return emitOpError("has younger = ")
           << static_cast<int64_t>(getYounger()) << "; it must be 0 or more";
  for (auto [number, product] : llvm::enumerate(getProducts())) {
    auto contract = product.getDefiningOp<ContractOp>();
    if (!contract || !contract.getAsync() ||
        contract->getBlock() != (*this)->getBlock())
      return emitOpError("operand ")
             << number << " is no tile.contract async of the same block";
  }
  return success();
}

/// Checks that `large` is `small` with one more dimension, `dim`.
static LogicalResult verifyDimension(Operation *op, RankedTensorType large,
                                     RankedTensorType small, int64_t dim) {
  if (dim < 0 || dim >= large.getRank())
    return op->emitOpError("dim is ")
           << dim << "; it must be 0 to " << large.getRank() - 1;
  SmallVector<int64_t> expected(large.getShape());
  expected.erase(expected.begin() + dim);
  if (ArrayRef<int64_t>(expected) != small.getShape() ||
      large.getElementType() != small.getElementType())
    return op->emitOpError("expected ")
           << RankedTensorType::get(expected, large.getElementType())
           << " beside " << large << ", not " << small;
  return success();
}

LogicalResult ReduceOp::verify() {
  return verifyDimension(*this, cast<RankedTensorType>(getSource().getType()),
                         cast<RankedTensorType>(getResult().getType()),
                         getDim());
}

/// The float that a constant tile has everywhere.
static FloatAttr splatOf(Attribute tile) {
  auto splat = dyn_cast_or_null<SplatElementsAttr>(tile);
  return splat ? dyn_cast<FloatAttr>(splat.getSplatValue<Attribute>())
               : FloatAttr();
}

OpFoldResult ReduceOp::fold(FoldAdaptor adaptor) {
  // One number everywhere: its maximum, which NaN has none of, or the sum of
  // zeros; other sums would have to be rounded.
  FloatAttr number = splatOf(adaptor.getSource());
  if (!number ||
      (getKind() == ReduceKind::max ? number.getValue().isNaN()
                                    : !number.getValue().isPosZero()))
    return {};
  return cast<SplatElementsAttr>(adaptor.getSource())
      .resizeSplat(cast<ShapedType>(getResult().getType()));
}

LogicalResult PartialSumsOp::verify() {
  auto source = cast<RankedTensorType>(getSource().getType());
  auto result = cast<RankedTensorType>(getResult().getType());
  if (source.getRank() != 2 || !isa<FloatType>(source.getElementType()))
    return emitOpError("adds up columns of ")
           << source << "; it must be a matrix of floats";
  SmallVector<int64_t> expected = {source.getDimSize(0), kParts};
  if (result.getShape() != ArrayRef(expected) ||
      result.getElementType() != source.getElementType())
    return emitOpError("expected ")
           << RankedTensorType::get(expected, source.getElementType())
           << " beside " << source << ", not " << result;
  return success();
}

LogicalResult BroadcastOp::verify() {
  return verifyDimension(*this, cast<RankedTensorType>(getResult().getType()),
                         cast<RankedTensorType>(getSource().getType()),
                         getDim());
}

LogicalResult SplatOp::verify() {
  Type element = cast<RankedTensorType>(getResult().getType()).getElementType();
  if (getValue().getType() == element)
    return success();
  return emitOpError("the value is ")
         << getValue().getType() << " but the tile holds " << element
         << "; convert the value with arith";
}

LogicalResult IotaOp::verify() {
  auto type = cast<RankedTensorType>(getResult().getType());
  if (!type.getElementType().isInteger())
    return emitOpError("the result holds ")
           << type.getElementType() << "; it must hold integers";
  if (int64_t(getDim()) >= type.getRank())
    return emitOpError("dim is ")
           << getDim() << "; it must be 0 to " << type.getRank() - 1;
  return success();
}

OpFoldResult NonfiniteOp::fold(FoldAdaptor adaptor) {
  FloatAttr number = splatOf(adaptor.getSource());
  return number ? BoolAttr::get(getContext(), !number.getValue().isFinite())
                : BoolAttr();
}

LogicalResult NonfiniteOp::verify() {
  Type element = shapeAndElement(getSource().getType()).second;
  if (isa<FloatType>(element))
    return success();
  return emitOpError("the source holds ")
         << element << "; only floats can be NaN or infinite";
}

LogicalResult RowsHeldOp::verify() {
  if (getRows() > 0)
    return success();
  return emitOpError("asks about tiles of ")
         << getRows() << " rows; they have at least 1";
}

LogicalResult ProduceOp::verify() {
  BufferType slot = getPipe().getType().getSlot();
  MemRefType source = getSource().getType();
  if (source.getRank() != 2 || getOffsets().size() != 2)
    return emitOpError("copies a matrix: the source has rank ")
           << source.getRank() << " and there are " << getOffsets().size()
           << " offsets; both must be 2";
  if (source.getElementType() != slot.getElementType())
    return emitOpError("the source holds ")
           << source.getElementType() << " but the pipe holds "
           << slot.getElementType();
  return success();
}

void ConsumeOp::build(OpBuilder &builder, OperationState &state, Value pipe,
                      Value ordinal, Value rows) {
  build(builder, state, cast<PipeType>(pipe.getType()).getSlot(), pipe, ordinal,
        rows, /*pending=*/IntegerAttr());
}

LogicalResult ConsumeOp::verify() {
  if (getBuffer().getType() != getPipe().getType().getSlot())
    return emitOpError("gives ")
           << getBuffer().getType() << " but the pipe's slots are "
           << getPipe().getType().getSlot();
  return success();
}

LogicalResult FetchOp::verify() {
  BufferType buffer = getBuffer().getType();
  auto result = cast<RankedTensorType>(getResult().getType());
  if (result.getShape() == buffer.getShape() &&
      result.getElementType() == buffer.getElementType())
    return success();
  return emitOpError("gives ") << result << " of " << buffer
                               << "; shape and elements must be the buffer's";
}

LogicalResult RolesOp::verify() {
  size_t count = getBodies().size();
  if (getWarps().size() != count || getRegisters().size() != count)
    return emitOpError("has ")
           << count << " regions, " << getWarps().size() << " warp counts and "
           << getRegisters().size() << " register counts; one each is needed";
  for (Region &body : getBodies()) {
    WalkResult result = body.walk([&](Operation *op) {
      for (Value operand : op->getOperands())
        // Constants are no state: folding moves them out of regions.
        if (isa<RankedTensorType>(operand.getType()) &&
            !matchPattern(operand, m_Constant()) &&
            !body.isAncestor(operand.getParentRegion())) {
          op->emitOpError("uses a tile from outside its role; a role captures "
                          "only memrefs, pipes and scalars");
          return WalkResult::interrupt();
        }
      return WalkResult::advance();
    });
    if (result.wasInterrupted())
      return failure();
  }
  return success();
}
