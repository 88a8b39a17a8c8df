//===- WindowEmitter.cpp - What tile programs of windows share ------------===//

#include "WindowEmitter.h"
#include "Utils.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Interfaces/ValueBoundsOpInterface.h"

using namespace mlir;
using namespace mlir::fa;

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

/// A value near the end of 64 bits stays below it: no target has such tiles.
static int64_t roundUp(int64_t value, int64_t multiple) {
  int64_t most = std::numeric_limits<int64_t>::max() / multiple * multiple;
  return value > most ? most : int64_t(llvm::alignTo(value, multiple));
}

int64_t WindowEmitter::paddedExtent(Value shaped, unsigned pos) {
  return roundUp(cast<MemRefType>(shaped.getType()).getDimSize(pos),
                 headMultiple);
}

WindowEmitter::PartOf WindowEmitter::partOf(Value window, AffineMap map,
                                            AttentionSpace::Dim dim) {
  auto view = window.getDefiningOp<memref::SubViewOp>();
  if (!view || view.getSourceType().getRank() != view.getType().getRank() ||
      !view.hasUnitStride())
    return {};
  PartOf part;
  for (auto [pos, expr] : llvm::enumerate(map.getResults())) {
    if (expr.isFunctionOfDim(dim)) {
      part = {view.getSource(), view.getMixedOffsets()[pos],
              view.getMixedSizes()[pos], unsigned(pos)};
      continue;
    }
    OpFoldResult extent =
        memref::getMixedSize(builder, loc, view.getSource(), pos);
    FailureOr<bool> sameSize =
        ValueBoundsConstraintSet::areEqual(view.getMixedSizes()[pos], extent);
    if (!isConstantIntValue(view.getMixedOffsets()[pos], 0) ||
        failed(sameSize) || !*sameSize)
      return {};
  }
  return part;
}

/// A window of `fa-tile` is a subview, along `dim` only, of a view that holds
/// all rows, and ends at min(tile, what is left). Then the view and an offset
/// address the same rows, with bounds checks in place of a size. Any other
/// window is used as it is. All operands have one extent along `dim` (C5).
WindowEmitter::Rows WindowEmitter::rowsOf(Value window, AffineMap map,
                                          AttentionSpace::Dim dim) {
  Rows whole = {window, index(0), mergedOf(map)};
  // Heads and positions of the window are counted as rows from 0.
  if (tilePositions)
    return whole;
  PartOf part = partOf(window, map, dim);
  if (!part.source)
    return whole;
  auto isLeft = [&](AffineMap map, ValueRange operands) {
    using Variable = ValueBoundsConstraintSet::Variable;
    AffineMap difference = AffineMap::get(
        2, 0, builder.getAffineDimExpr(0) - builder.getAffineDimExpr(1));
    SmallVector<Variable> extents = {Variable(part.source, part.pos)};
    auto first =
        dim == AttentionSpace::M ? AttentionSpace::Q : AttentionSpace::K;
    if (auto view = op.getShaped(first).getDefiningOp<memref::SubViewOp>())
      extents.emplace_back(view.getSource(), *op.findDim(first, dim));
    return llvm::any_of(extents, [&](Variable extent) {
      FailureOr<bool> equal = ValueBoundsConstraintSet::areEqual(
          Variable(difference, {extent, Variable(part.offset)}),
          Variable(map, operands));
      return succeeded(equal) && *equal;
    });
  };
  int64_t tile = dim == AttentionSpace::M ? tileM : tileN;
  bool matches = false;
  if (auto sizeValue = dyn_cast<Value>(part.size)) {
    if (auto min = sizeValue.getDefiningOp<affine::AffineMinOp>()) {
      bool others = true;
      for (AffineExpr expr : min.getMap().getResults()) {
        AffineMap result = AffineMap::get(min.getMap().getNumDims(),
                                          min.getMap().getNumSymbols(), expr);
        auto limit = dyn_cast<AffineConstantExpr>(expr);
        if (limit)
          others &= limit.getValue() >= tile;
        else if (isLeft(result, min.getOperands()))
          matches = true;
        else
          others = false;
      }
      matches &= others;
    }
  } else {
    // A whole tile: it may be followed by rows only if they fill no tile.
    matches = getConstantIntValue(part.size) == tile;
  }
  if (!matches)
    return whole;
  return {part.source,
          getValueOrCreateConstantIndexOp(builder, loc, part.offset),
          {}};
}

void WindowEmitter::packRows() {
  unsigned pos = *op.findDim(AttentionSpace::Q, AttentionSpace::H);
  Value heads = memref::DimOp::create(builder, loc, op.getQ(), pos);
  auto type = RankedTensorType::get({tileM}, builder.getI32Type());
  Value row = tl::IotaOp::create(builder, loc, type, 0);
  Value count = splat(
      arith::IndexCastOp::create(builder, loc, builder.getI32Type(), heads),
      type);
  tilePositions = arith::DivUIOp::create(builder, loc, row, count);
  tileHeads = arith::RemUIOp::create(builder, loc, row, count);
}

DenseI64ArrayAttr WindowEmitter::mergedOf(AffineMap map) {
  if (!tilePositions)
    return {};
  SmallVector<int64_t> merged(2, -1);
  for (auto [pos, expr] : llvm::enumerate(map.getResults())) {
    if (expr.isFunctionOfDim(AttentionSpace::M))
      merged[0] = pos;
    if (expr.isFunctionOfDim(AttentionSpace::H))
      merged[1] = pos;
  }
  return merged[1] < 0 ? DenseI64ArrayAttr()
                       : builder.getDenseI64ArrayAttr(merged);
}

Value WindowEmitter::headOf(Value window, AffineMap map, Value head,
                            AffineMap &viewMap) {
  viewMap = map;
  SmallVector<AffineExpr> kept;
  for (AffineExpr expr : map.getResults())
    if (!expr.isFunctionOfDim(AttentionSpace::H))
      kept.push_back(expr);
  if (kept.size() == map.getNumResults())
    return window;
  viewMap = AffineMap::get(6, 0, kept, builder.getContext());
  // One view of all heads instead of a view of a view: passes below see that
  // its rows are whole.
  Value source = window;
  OpFoldResult first = builder.getIndexAttr(0);
  if (PartOf part = partOf(window, map, AttentionSpace::H); part.source) {
    source = part.source;
    first = part.offset;
  }
  AffineExpr sum = builder.getAffineDimExpr(0) + builder.getAffineDimExpr(1);
  OpFoldResult at = affine::makeComposedFoldedAffineApply(
      builder, loc, AffineMap::get(2, 0, sum), {first, OpFoldResult(head)});
  return sliceAt(builder, loc, source, map, [&](AffineExpr expr) {
    return expr.isFunctionOfDim(AttentionSpace::H) ? at : OpFoldResult();
  });
}

Value WindowEmitter::prefix(Value memref, AffineMap map,
                            AttentionSpace::Dim dim, Value size) {
  SmallVector<OpFoldResult> offsets(map.getNumResults(),
                                    builder.getIndexAttr(0)),
      ones(map.getNumResults(), builder.getIndexAttr(1)), sizes;
  for (auto [pos, expr] : llvm::enumerate(map.getResults()))
    sizes.push_back(expr.isFunctionOfDim(dim)
                        ? OpFoldResult(size)
                        : memref::getMixedSize(builder, loc, memref, pos));
  return memref::SubViewOp::create(builder, loc, memref, offsets, sizes, ones);
}

bool WindowEmitter::mayExceed(Value memref, AffineMap map,
                              AttentionSpace::Dim dim, Value length) {
  int64_t pos = 0;
  while (!map.getResult(pos).isFunctionOfDim(dim))
    ++pos;
  FailureOr<bool> equal = ValueBoundsConstraintSet::areEqual(
      ValueBoundsConstraintSet::Variable(length),
      ValueBoundsConstraintSet::Variable(memref, pos));
  return failed(equal) || !*equal;
}

WindowEmitter::KeyBlocks
WindowEmitter::keyBlocks(const MaskQuery &mask, Value rows, AffineMap rowsMap) {
  // Rows that do not exist have no say in them.
  AffineExpr d0 = builder.getAffineDimExpr(0), d1 = builder.getAffineDimExpr(1);
  OpFoldResult numRows = builder.getIndexAttr(tileM);
  if (tilePositions)
    numRows =
        memref::getMixedSize(builder, loc, op.getQ(),
                             *op.findDim(AttentionSpace::Q, AttentionSpace::M));
  OpFoldResult rowEnd = affine::makeComposedFoldedAffineMin(
      builder, loc,
      AffineMap::get(3, 0, {d0 + builder.getAffineDimExpr(2), d1},
                     builder.getContext()),
      {OpFoldResult(m0), OpFoldResult(lq), numRows});
  MaskQuery::Range range = {getAsOpFoldResult(m0), rowEnd};
  MaskQuery::Range live = mask.liveColumns(builder, loc, range);
  MaskQuery::Range full = mask.fullColumns(builder, loc, range);
  auto divide = [&](OpFoldResult value, bool up) {
    return affine::makeComposedFoldedAffineApply(
        builder, loc, up ? d0.ceilDiv(tileN) : d0.floorDiv(tileN), {value});
  };
  KeyBlocks blocks;
  blocks.first =
      getValueOrCreateConstantIndexOp(builder, loc, divide(live.lo, false));
  blocks.end =
      getValueOrCreateConstantIndexOp(builder, loc, divide(live.hi, true));
  blocks.fullFirst = divide(full.lo, true);
  blocks.fullEnd = divide(full.hi, false);

  // Rows from lq on are dead; a block of them has no key block. Packed rows
  // have no lengths of their own: all rows of the window are below lq.
  blocks.rowsEndEarly =
      !tilePositions &&
      (rows == op.getQ() || mayExceed(rows, rowsMap, AttentionSpace::M, lq));
  if (blocks.rowsEndEarly) {
    Value dead =
        arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::sge, m0, lq);
    blocks.end =
        arith::SelectOp::create(builder, loc, dead, blocks.first, blocks.end);
  }
  if (isConstantIntValue(blocks.fullFirst, 0))
    return blocks;
  auto clamped = [&](OpFoldResult value, Value low) -> Value {
    Value bound = getValueOrCreateConstantIndexOp(builder, loc, value);
    bound = arith::MinSIOp::create(builder, loc, bound, blocks.end);
    return arith::MaxSIOp::create(builder, loc, bound, low);
  };
  blocks.leftEnd = clamped(blocks.fullFirst, blocks.first);
  blocks.rightFirst = clamped(blocks.fullEnd, blocks.leftEnd);
  Value fullBlocks =
      arith::SubIOp::create(builder, loc, blocks.rightFirst, blocks.leftEnd);
  blocks.cutEnd = arith::SubIOp::create(builder, loc, blocks.end, fullBlocks);
  return blocks;
}

Value WindowEmitter::blockOfStep(const KeyBlocks &blocks, Value step) {
  if (!blocks.cutEnd)
    return step;
  // The same expression in every piece of the loop (copies run ahead into the
  // next one); fa-split-mask-loops looks at comparisons of the step with a
  // bound, not of a bound with the step.
  auto below = [&](Value bound) -> Value {
    return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::sgt, bound,
                                 step);
  };
  auto shifted = [&](Value from, Value to) -> Value {
    Value shift = arith::SubIOp::create(builder, loc, to, from);
    return arith::AddIOp::create(builder, loc, step, shift);
  };
  Value right = shifted(blocks.leftEnd, blocks.rightFirst);
  Value full = shifted(blocks.cutEnd, blocks.leftEnd);
  Value block =
      arith::SelectOp::create(builder, loc, below(blocks.cutEnd), right, full);
  return arith::SelectOp::create(builder, loc, below(blocks.leftEnd), step,
                                 block);
}

Value WindowEmitter::isFullBlock(const KeyBlocks &blocks, Value step) {
  if (blocks.cutEnd)
    return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::sge, step,
                                 blocks.cutEnd);
  return arith::CmpIOp::create(
      builder, loc, arith::CmpIPredicate::slt, step,
      getValueOrCreateConstantIndexOp(builder, loc, blocks.fullEnd));
}

std::pair<SmallVector<Value>, DenseI64ArrayAttr>
WindowEmitter::place(AffineMap map, unsigned rowDim, Value rowOffset,
                     Value column) {
  // Heads that are rows take no place of their own.
  unsigned rowPos = map.getResult(0).isFunctionOfDim(rowDim) ||
                            map.getResult(0).isFunctionOfDim(AttentionSpace::H)
                        ? 0
                        : 1;
  SmallVector<Value> offsets(2, column ? column : index(0));
  offsets[rowPos] = rowOffset;
  DenseI64ArrayAttr order;
  if (rowPos == 1)
    order = builder.getDenseI64ArrayAttr({1, 0});
  return {offsets, order};
}

Value WindowEmitter::clipRows(const Rows &rows, AffineMap map, unsigned rowDim,
                              Value position, Value length) {
  if (rows.merged || length.getDefiningOp<memref::DimOp>())
    return rows.offset;
  bool isTurned = bool(place(map, rowDim, rows.offset).second);
  Value end = memref::DimOp::create(builder, loc, rows.memref, isTurned);
  Value exists = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::slt,
                                       position, length);
  return arith::SelectOp::create(builder, loc, exists, rows.offset, end);
}

/// A matrix tile whose rows run along `rowDim` of the iteration space.
Value WindowEmitter::load(Value memref, AffineMap map, unsigned rowDim,
                          Value rowOffset, int64_t rows, int64_t columns,
                          Value column) {
  auto [offsets, order] = place(map, rowDim, rowOffset, column);
  Type element = cast<MemRefType>(memref.getType()).getElementType();
  return tl::LoadOp::create(builder, loc, matrix(rows, columns, element),
                            memref, offsets, order, /*shuffled=*/UnitAttr(),
                            mergedOf(map));
}

void WindowEmitter::store(Value tile, Value memref, AffineMap map,
                          unsigned rowDim, Value rowOffset, Value column) {
  auto [offsets, order] = place(map, rowDim, rowOffset, column);
  tl::StoreOp::create(builder, loc, tile, memref, offsets, order,
                      mergedOf(map));
}

void WindowEmitter::storeVector(Value tile, const Rows &rows) {
  tl::StoreOp::create(builder, loc, tile, rows.memref, ValueRange{rows.offset},
                      DenseI64ArrayAttr(), rows.merged);
}

void WindowEmitter::accumulate(Value tile, Value memref, AffineMap map,
                               unsigned rowDim, Value rowOffset) {
  auto [offsets, order] = place(map, rowDim, rowOffset);
  tl::AccumulateOp::create(builder, loc, tile, memref, offsets, order,
                           /*shuffled=*/true, /*offset=*/IntegerAttr(),
                           /*free=*/false);
}

Value WindowEmitter::loadVector(const Rows &rows) {
  Type element = cast<MemRefType>(rows.memref.getType()).getElementType();
  return tl::LoadOp::create(
      builder, loc, RankedTensorType::get({tileM}, element), rows.memref,
      ValueRange{rows.offset}, DenseI64ArrayAttr(), /*shuffled=*/UnitAttr(),
      rows.merged);
}

LogicalResult WindowEmitter::verifyWindow(AttentionSpace::Dim dim,
                                          bool packed) {
  if (op.hasTensorSemantics())
    return op->emitOpError("is on tensors; run one-shot-bufferize and fa-tile");
  for (auto operand : {AttentionSpace::Q, AttentionSpace::K, AttentionSpace::V,
                       AttentionSpace::O, AttentionSpace::LSE}) {
    bool isKey = operand == AttentionSpace::K || operand == AttentionSpace::V;
    if (op.findDim(operand, AttentionSpace::B) ||
        (op.findDim(operand, AttentionSpace::H) &&
         (isKey || (dim == AttentionSpace::M && !packed))))
      return op->emitOpError("is not a window of one batch and head; run "
                             "fa-tile first");
  }
  if (op.getOrigin().empty() || op.getLengths().empty() ||
      !op.getLengths()[0].getType().isIndex())
    return op->emitOpError("has no origin or no index lengths; run fa-tile "
                           "first");
  bool isRows = dim == AttentionSpace::M;
  auto blocked = isRows ? AttentionSpace::Q : AttentionSpace::K;
  int64_t tile = isRows ? tileM : tileN;
  // How many heads packed rows have, and so how many positions, is known at run
  // time alone.
  if (!packed && !ValueBoundsConstraintSet::compare(
                     ValueBoundsConstraintSet::Variable(
                         op.getShaped(blocked), *op.findDim(blocked, dim)),
                     ValueBoundsConstraintSet::LE,
                     OpFoldResult(builder.getIndexAttr(tile))))
    return op->emitOpError("has a window that may exceed the schedule's ")
           << (isRows ? "tile_m, " : "tile_n, ") << tile
           << "; run fa-tile first";
  for (auto [operand, size] : {std::pair(AttentionSpace::Q, AttentionSpace::D),
                               std::pair(AttentionSpace::K, AttentionSpace::D),
                               std::pair(AttentionSpace::V, AttentionSpace::E),
                               std::pair(AttentionSpace::O, AttentionSpace::E)})
    if (op.getShaped(operand).getType().isDynamicDim(
            *op.findDim(operand, size)))
      return op->emitOpError("has a dynamic head size; head sizes must be "
                             "static");
  return success();
}

//===----------------------------------------------------------------------===//
// Products and scores
//===----------------------------------------------------------------------===//

Value WindowEmitter::contract(Value lhs, Value rhs, Value acc,
                              bool rhsIsTransposed, bool lhsIsTransposed) {
  MLIRContext *context = builder.getContext();
  AffineExpr m, n, k;
  bindDims(context, m, n, k);
  auto map = [&](AffineExpr row, AffineExpr column) {
    return AffineMap::get(3, 0, {row, column}, context);
  };
  ArrayAttr maps = builder.getAffineMapArrayAttr(
      {lhsIsTransposed ? map(k, m) : map(m, k),
       rhsIsTransposed ? map(n, k) : map(k, n), map(m, n)});
  return tl::ContractOp::create(builder, loc, acc.getType(), lhs, rhs, acc,
                                maps);
}

/// The tile of capture `index` for the current block; a shaped value for
/// `unit`.
FailureOr<Value> WindowEmitter::loadCapture(unsigned number, Value n0) {
  Value capture = op.getCaptures()[number];
  Attribute access = (*op.getCaptureMaps())[number];
  if (isa<UnitAttr>(access))
    return capture;
  AffineMap map = cast<AffineMapAttr>(access).getValue();
  auto type = dyn_cast<MemRefType>(capture.getType());
  if (!type)
    return op->emitOpError("capture ")
           << number << " has type " << capture.getType()
           << " and a map; only memrefs are addressed by maps, use unit";
  // Batch and head select a slice; rows and columns become the tile.
  auto pointOf = [&](AffineExpr expr) -> OpFoldResult {
    unsigned dim = cast<AffineDimExpr>(expr).getPosition();
    return dim == AttentionSpace::B   ? b
           : dim == AttentionSpace::H ? h
                                      : OpFoldResult();
  };
  SmallVector<Value> at, tileOffsets;
  SmallVector<unsigned> kept;
  for (AffineExpr expr : map.getResults()) {
    if (OpFoldResult point = pointOf(expr)) {
      at.push_back(cast<Value>(point));
      continue;
    }
    kept.push_back(cast<AffineDimExpr>(expr).getPosition());
    tileOffsets.push_back(kept.back() == AttentionSpace::M ? m0 : n0);
  }
  if (kept.empty()) {
    Value scalar = memref::LoadOp::create(builder, loc, capture, at);
    return splat(scalar, matrix(tileM, tileN, type.getElementType()));
  }
  Value view = sliceAt(builder, loc, capture, map, pointOf);
  if (kept.size() == 1) {
    bool isRow = kept[0] == AttentionSpace::M;
    Value line = tl::LoadOp::create(
        builder, loc,
        RankedTensorType::get({isRow ? tileM : tileN}, type.getElementType()),
        view, tileOffsets, DenseI64ArrayAttr());
    return tl::BroadcastOp::create(builder, loc,
                                   matrix(tileM, tileN, type.getElementType()),
                                   line, isRow ? 1 : 0)
        .getResult();
  }
  DenseI64ArrayAttr order;
  if (kept[0] == AttentionSpace::N)
    order = builder.getDenseI64ArrayAttr({1, 0});
  return tl::LoadOp::create(builder, loc,
                            matrix(tileM, tileN, type.getElementType()), view,
                            tileOffsets, order)
      .getResult();
}

/// Every scalar op becomes the same op on tiles, index becomes i32. What is the
/// same for all scores of the block (a cap, say) stays a scalar until it meets
/// a tile.
LogicalResult WindowEmitter::inlineRegion(Region &region, Value scores,
                                          ValueRange trailing, Value n0,
                                          SmallVectorImpl<Value> &results) {
  Block &body = region.front();
  SmallVector<int64_t> shape = {tileM, tileN};
  Type i32 = builder.getI32Type();
  auto tileTypeOf = [&](Type scalar) {
    return RankedTensorType::get(shape, scalar.isIndex() ? i32 : scalar);
  };
  auto toScalar = [&](Value value) -> Value {
    if (!value.getType().isIndex())
      return value;
    return arith::IndexCastOp::create(builder, loc, i32, value);
  };
  auto isTile = [](Value value) {
    return isa<RankedTensorType>(value.getType());
  };
  auto toTile = [&](Value value) -> Value {
    if (isa<ShapedType>(value.getType()))
      return value;
    RankedTensorType type = tileTypeOf(value.getType());
    Attribute constant;
    if (matchPattern(value, m_Constant(&constant)))
      return arith::ConstantOp::create(builder, loc,
                                       DenseElementsAttr::get(type, constant));
    return splat(value, type);
  };
  // `steps` null: 0, 1, 2, ...
  auto coordinate = [&](Value start, int64_t extent, unsigned dim,
                        Value steps = {}) -> Value {
    auto type = RankedTensorType::get({extent}, i32);
    Value first = arith::IndexCastOp::create(builder, loc, i32, start);
    if (!steps)
      steps = tl::IotaOp::create(builder, loc, type, 0);
    Value line = arith::AddIOp::create(builder, loc, splat(first, type), steps);
    return tl::BroadcastOp::create(builder, loc, matrix(tileM, tileN, i32),
                                   line, 1 - dim);
  };

  IRMapping mapping;
  mapping.map(body.getArgument(0), scores);
  auto bind = [&](unsigned number, function_ref<Value()> make) {
    if (!body.getArgument(number).use_empty())
      mapping.map(body.getArgument(number), make());
  };
  bind(1, [&] { return toScalar(b); });
  bind(2, [&] {
    return tileHeads ? coordinate(h, tileM, 0, tileHeads) : toScalar(h);
  });
  bind(3, [&] { return coordinate(m0, tileM, 0, tilePositions); });
  bind(4, [&] { return coordinate(n0, tileN, 1); });
  for (unsigned i = 0; i < op.getCaptures().size(); ++i) {
    if (body.getArgument(5 + i).use_empty())
      continue;
    FailureOr<Value> tile = loadCapture(i, n0);
    if (failed(tile))
      return failure();
    mapping.map(body.getArgument(5 + i), toScalar(*tile));
  }
  for (auto [argument, tile] :
       llvm::zip(body.getArguments().drop_front(5 + op.getCaptures().size()),
                 trailing))
    mapping.map(argument, tile);
  auto lookup = [&](Value value) -> Value {
    if (Value mapped = mapping.lookupOrNull(value))
      return mapped;
    // Defined outside of the region.
    Value scalar = toScalar(value);
    mapping.map(value, scalar);
    return scalar;
  };

  for (Operation &inner : body.without_terminator()) {
    if (auto constant = dyn_cast<arith::ConstantOp>(inner)) {
      TypedAttr value = constant.getValue();
      if (constant.getType().isIndex())
        value = builder.getI32IntegerAttr(cast<IntegerAttr>(value).getInt());
      mapping.map(constant.getResult(),
                  arith::ConstantOp::create(builder, inner.getLoc(), value));
      continue;
    }
    if (auto gather = dyn_cast<GatherOp>(inner)) {
      SmallVector<Value> indices;
      for (Value at : gather.getIndices())
        indices.push_back(toTile(lookup(at)));
      mapping.map(gather.getResult(),
                  tl::GatherOp::create(builder, inner.getLoc(),
                                       tileTypeOf(gather.getResult().getType()),
                                       lookup(gather.getSource()), indices));
      continue;
    }
    if (auto add = dyn_cast<AccumulateOp>(inner)) {
      Addend &addend = addends.emplace_back();
      addend.op = add;
      addend.value = toTile(lookup(add.getValue()));
      for (Value at : add.getIndices())
        addend.indices.push_back(toTile(lookup(at)));
      continue;
    }
    if (isa<arith::IndexCastOp, arith::IndexCastUIOp>(inner)) {
      // Indices are 32 bits wide here.
      Value from = lookup(inner.getOperand(0));
      Type fromType = getElementTypeOrSelf(from.getType());
      Type type = tileTypeOf(inner.getResult(0).getType());
      if (!isTile(from))
        type = getElementTypeOrSelf(type);
      unsigned have = fromType.getIntOrFloatBitWidth();
      unsigned want = getElementTypeOrSelf(type).getIntOrFloatBitWidth();
      Value to = from;
      if (have > want)
        to = arith::TruncIOp::create(builder, inner.getLoc(), type, from);
      else if (have < want && isa<arith::IndexCastOp>(inner))
        to = arith::ExtSIOp::create(builder, inner.getLoc(), type, from);
      else if (have < want)
        to = arith::ExtUIOp::create(builder, inner.getLoc(), type, from);
      mapping.map(inner.getResult(0), to);
      continue;
    }
    if (!OpTrait::hasElementwiseMappableTraits(&inner))
      return op->emitOpError("has a score region with ")
             << inner.getName()
             << ", which has no meaning on tiles; use elementwise arith and "
                "math operations and fa.gather";
    SmallVector<Value> operands;
    for (Value operand : inner.getOperands())
      operands.push_back(lookup(operand));
    bool onTiles = llvm::any_of(operands, isTile);
    OperationState state(inner.getLoc(), inner.getName());
    for (Value operand : operands)
      state.addOperands(onTiles ? toTile(operand) : operand);
    for (Type type : inner.getResultTypes())
      state.addTypes(onTiles ? tileTypeOf(type)
                             : getElementTypeOrSelf(tileTypeOf(type)));
    state.attributes = inner.getAttrs();
    Operation *clone = builder.create(state);
    mapping.map(&inner, clone);
    for (auto [from, to] : llvm::zip(inner.getResults(), clone->getResults()))
      mapping.map(from, to);
  }
  for (Value result : body.getTerminator()->getOperands())
    results.push_back(toTile(lookup(result)));
  return success();
}
