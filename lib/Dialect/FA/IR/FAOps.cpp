//===- FAOps.cpp - Verifiers of the attention dialect ---------------------===//

#include "fa/Dialect/FA/IR/FA.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IntegerSet.h"
#include "mlir/IR/OpImplementation.h"

using namespace mlir;
using namespace mlir::fa;

#include "fa/Dialect/FA/IR/FAInterfaces.cpp.inc"
#define GET_OP_CLASSES
#include "fa/Dialect/FA/IR/FAOps.cpp.inc"

using Dim = AttentionSpace::Dim;
using Operand = AttentionSpace::Operand;

//===----------------------------------------------------------------------===//
// Questions about the problem
//===----------------------------------------------------------------------===//

FloatType fa::impl::getAccType(AttentionOpInterface op) {
  Type element = cast<ShapedType>(op.getQ().getType()).getElementType();
  if (element.isF64())
    return Float64Type::get(op.getContext());
  return Float32Type::get(op.getContext());
}

TypedValue<ShapedType> fa::impl::getShaped(AttentionOpInterface op,
                                           Operand operand) {
  Value values[] = {op.getQ(), op.getK(), op.getV(), op.getOutputLike(),
                    op.getLse()};
  return cast<TypedValue<ShapedType>>(values[operand]);
}

std::optional<unsigned> fa::impl::findDim(AttentionOpInterface op,
                                          Operand operand, Dim dim) {
  for (auto [pos, expr] : llvm::enumerate(op.getMap(operand).getResults()))
    if (expr.isFunctionOfDim(dim))
      return pos;
  return std::nullopt;
}

/// Extent of dimension `pos` of `shaped`.
static OpFoldResult getDimSize(OpBuilder &builder, Location loc, Value shaped,
                               unsigned pos) {
  if (isa<RankedTensorType>(shaped.getType()))
    return tensor::getMixedSize(builder, loc, shaped, pos);
  return memref::getMixedSize(builder, loc, shaped, pos);
}

OpFoldResult fa::impl::getExtent(AttentionOpInterface op, OpBuilder &builder,
                                 Dim dim) {
  // q first: it has the query heads, k and v only the key heads.
  for (Operand operand : {op.Q, op.O, op.LSE, op.K, op.V}) {
    bool isKey = operand == op.K || operand == op.V;
    if (dim == op.H && isKey)
      continue;
    if (std::optional<unsigned> pos = op.findDim(operand, dim))
      return getDimSize(builder, op.getLoc(), op.getShaped(operand), *pos);
  }
  return builder.getIndexAttr(1);
}

OpFoldResult fa::impl::getGroup(AttentionOpInterface op, OpBuilder &builder) {
  Location loc = op.getLoc();
  for (Operand operand : {op.K, op.V}) {
    std::optional<unsigned> pos = op.findDim(operand, op.H);
    if (!pos)
      continue;
    AffineExpr expr = op.getMap(operand).getResult(*pos);
    if (isa<AffineDimExpr>(expr))
      return builder.getIndexAttr(1);
    AffineExpr divisor = cast<AffineBinaryOpExpr>(expr).getRHS();
    if (auto constant = dyn_cast<AffineConstantExpr>(divisor))
      return builder.getIndexAttr(constant.getValue());
    OpFoldResult heads = op.getExtent(builder, op.H);
    OpFoldResult keyHeads =
        getDimSize(builder, loc, op.getShaped(operand), *pos);
    auto staticHeads = getConstantIntValue(heads);
    auto staticKeyHeads = getConstantIntValue(keyHeads);
    if (staticHeads && staticKeyHeads)
      return builder.getIndexAttr(*staticHeads / *staticKeyHeads);
    return arith::DivUIOp::create(
               builder, loc,
               getValueOrCreateConstantIndexOp(builder, loc, heads),
               getValueOrCreateConstantIndexOp(builder, loc, keyHeads))
        .getResult();
  }
  // k and v have no heads: all query heads read them.
  return op.getExtent(builder, op.H);
}

Value fa::impl::getKeyHead(AttentionOpInterface op, OpBuilder &builder,
                           Value head) {
  if (!op.findDim(op.K, op.H) && !op.findDim(op.V, op.H))
    return head;
  OpFoldResult group = op.getGroup(builder);
  if (isConstantIntValue(group, 1))
    return head;
  return arith::DivUIOp::create(
      builder, op.getLoc(), head,
      getValueOrCreateConstantIndexOp(builder, op.getLoc(), group));
}

OpFoldResult fa::impl::getLength(AttentionOpInterface op, OpBuilder &builder,
                                 Dim dim, Value batch, OpFoldResult extent) {
  Location loc = op.getLoc();
  if (op.getLengths().empty())
    return extent;
  Value value = op.getLengths()[dim == op.N];
  if (isa<MemRefType>(value.getType())) {
    value = memref::LoadOp::create(builder, loc, value, batch);
    value =
        arith::IndexCastOp::create(builder, loc, builder.getIndexType(), value);
  }
  Value zero = arith::ConstantIndexOp::create(builder, loc, 0);
  value = arith::MaxSIOp::create(builder, loc, value, zero);
  return arith::MinSIOp::create(
             builder, loc, value,
             getValueOrCreateConstantIndexOp(builder, loc, extent))
      .getResult();
}

//===----------------------------------------------------------------------===//
// fa.attention and fa.attention_backward
//===----------------------------------------------------------------------===//

/// Memrefs are read, destinations are written too.
static void
addEffects(AttentionOpInterface op,
           SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
               &effects) {
  auto *resource = SideEffects::DefaultResource::get();
  for (OpOperand &operand : op->getOpOperands())
    if (isa<MemRefType>(operand.get().getType()))
      effects.emplace_back(MemoryEffects::Read::get(), &operand, resource);
  for (OpOperand *operand : op.getDestinations())
    if (isa<MemRefType>(operand->get().getType()))
      effects.emplace_back(MemoryEffects::Write::get(), operand, resource);
}

APFloat AttentionOp::getDeadLseValue() {
  return getDeadLse().value_or(
      APFloat::getInf(APFloat::IEEEdouble(), /*Negative=*/true));
}

bool AttentionOp::canPackHeads() {
  if (!getLengths().empty() || !getOrigin().empty())
    return false;
  for (Operand operand : {Q, O, LSE}) {
    std::optional<unsigned> head = findDim(operand, H),
                            row = findDim(operand, M);
    if (!head || !row)
      return false;
    // Their views are of one batch: heads and rows are neighbours there.
    int64_t distance = int64_t(*head) - int64_t(*row);
    if (std::optional<unsigned> batch = findDim(operand, B))
      if ((*batch > *head) != (*batch > *row))
        distance += distance < 0 ? 1 : -1;
    if (getShaped(Q).getType().getDimSize(*findDim(Q, M)) != 1 &&
        std::abs(distance) != 1)
      return false;
  }
  if (getMask())
    for (IntegerSet set : getMask()->getSets())
      for (AffineExpr constraint : set.getConstraints())
        if (constraint.isFunctionOfDim(H))
          return false;
  auto usesRow = [](Attribute access) {
    auto map = dyn_cast<AffineMapAttr>(access);
    return map && (map.getValue().isFunctionOfDim(H) ||
                   map.getValue().isFunctionOfDim(M));
  };
  return !getCaptureMaps() || llvm::none_of(*getCaptureMaps(), usesRow);
}

Value AttentionOp::getOutputLike() { return getO(); }

SmallVector<OpOperand *> AttentionOp::getDestinations() {
  return {&getOMutable(), &getLseMutable()};
}

void AttentionOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
        &effects) {
  addEffects(*this, effects);
  for (MutableOperandRange range : {getOPartsMutable(), getLsePartsMutable()})
    for (OpOperand &operand : range)
      effects.emplace_back(MemoryEffects::Write::get(), &operand,
                           SideEffects::DefaultResource::get());
}

Value AttentionBackwardOp::getOutputLike() { return getO() ? getO() : getDO(); }

SmallVector<OpOperand *> AttentionBackwardOp::getDestinations() {
  SmallVector<OpOperand *> destinations;
  if (!getDeltaKnown())
    destinations.push_back(&getDeltaMutable());
  for (MutableOperandRange operands :
       {getDQMutable(), getDKMutable(), getDVMutable(), getDCapturesMutable()})
    for (OpOperand &operand : operands)
      destinations.push_back(&operand);
  return destinations;
}

SmallVector<std::pair<OpOperand *, Operand>> AttentionOp::getShapedOperands() {
  SmallVector<std::pair<OpOperand *, Operand>> operands = {
      {&getQMutable(), Q},
      {&getKMutable(), K},
      {&getVMutable(), V},
      {&getOMutable(), O},
      {&getLseMutable(), LSE}};
  for (OpOperand &initLse : getInitLseMutable())
    operands.emplace_back(&initLse, LSE);
  return operands;
}

SmallVector<std::pair<OpOperand *, Operand>>
AttentionBackwardOp::getShapedOperands() {
  SmallVector<std::pair<OpOperand *, Operand>> operands;
  for (auto [range, role] : {std::pair(MutableOperandRange(getQMutable()), Q),
                             {getKMutable(), K},
                             {getVMutable(), V},
                             {getLseMutable(), LSE},
                             {getDOMutable(), O},
                             {getOMutable(), O},
                             {getDLseMutable(), LSE},
                             {getDeltaMutable(), LSE},
                             {getDQSumMutable(), Q},
                             {getDQMutable(), Q},
                             {getDKMutable(), K},
                             {getDVMutable(), V}})
    for (OpOperand &operand : range)
      operands.emplace_back(&operand, role);
  return operands;
}

bool AttentionBackwardOp::isGathered(unsigned capture) {
  return isa<UnitAttr>((*getCaptureMaps())[capture]) &&
         isa<ShapedType>(getCaptures()[capture].getType());
}

void AttentionBackwardOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
        &effects) {
  addEffects(*this, effects);
  for (OpOperand &operand : getDQSumMutable())
    effects.emplace_back(MemoryEffects::Write::get(), &operand,
                         SideEffects::DefaultResource::get());
}

//===----------------------------------------------------------------------===//
// Verifiers. Each message begins with the label of the op's documentation.
//===----------------------------------------------------------------------===//

static constexpr StringLiteral kOperandNames[] = {"q", "k", "v", "o", "lse"};
static constexpr StringLiteral kDimNames = "bhmnde";

/// `expr` for a message.
static std::string asString(AffineExpr expr) {
  std::string text;
  llvm::raw_string_ostream(text) << expr;
  return text;
}

/// C1 to C4: the indexing maps.
static LogicalResult verifyMaps(AttentionOpInterface op) {
  if (op.getIndexingMaps().size() != 5)
    return op.emitOpError("[C1 maps] has ")
           << op.getIndexingMaps().size()
           << " indexing maps; give one each for q, k, v, o and lse";
  // Dimensions that each operand may and must have.
  static constexpr StringLiteral kMay[] = {"bhmd", "bhnd", "bhne", "bhme",
                                           "bhm"};
  static constexpr StringLiteral kMust[] = {"md", "nd", "ne", "me", "m"};
  for (unsigned i = 0; i < 5; ++i) {
    auto operand = AttentionOp::Operand(i);
    AffineMap map = op.getMap(operand);
    auto type = op.getShaped(operand).getType();
    if (map.getNumDims() != 6 || map.getNumSymbols() > 1)
      return op.emitOpError("[C1 maps] the map of ")
             << kOperandNames[i] << " has " << map.getNumDims()
             << " dimensions and " << map.getNumSymbols()
             << " symbols; it needs (b, h, m, n, d, e) and at most one symbol";
    if (map.getNumResults() != type.getRank())
      return op.emitOpError("[C3 map-rank] the map of ")
             << kOperandNames[i] << " has " << map.getNumResults()
             << " results but " << kOperandNames[i] << " has rank "
             << type.getRank() << "; give one result per dimension";
    bool isKey = operand == AttentionOp::K || operand == AttentionOp::V;
    SmallVector<bool, 6> seen(6, false);
    for (AffineExpr expr : map.getResults()) {
      auto dim = dyn_cast<AffineDimExpr>(expr);
      if (auto binary = dyn_cast<AffineBinaryOpExpr>(expr)) {
        auto group = dyn_cast<AffineConstantExpr>(binary.getRHS());
        auto head = dyn_cast<AffineDimExpr>(binary.getLHS());
        if (isKey && expr.getKind() == AffineExprKind::FloorDiv && head &&
            head.getPosition() == AttentionOp::H &&
            (group ? group.getValue() > 0
                   : isa<AffineSymbolExpr>(binary.getRHS())))
          dim = head;
      }
      if (!dim || seen[dim.getPosition()])
        return op.emitOpError("[C2 map-form] result '")
               << asString(expr) << "' of the map of " << kOperandNames[i]
               << " is not allowed; use each of b, h, m, n, d, e at most once, "
                  "and 'h floordiv g' with a positive constant or a symbol g "
                  "for the head of k and v only";
      seen[dim.getPosition()] = true;
      char name = kDimNames[dim.getPosition()];
      if (!kMay[i].contains(name))
        return op.emitOpError("[C4 roles] ")
               << kOperandNames[i] << " runs along " << StringRef(&name, 1)
               << "; it may run along " << kMay[i] << " only";
    }
    for (char name : kMust[i])
      if (!seen[kDimNames.find(name)])
        return op.emitOpError("[C4 roles] ")
               << kOperandNames[i] << " does not run along "
               << StringRef(&name, 1) << "; add it to its map";
  }
  return success();
}

/// The static extent of `dim` in `operand`; nullopt when absent or dynamic.
static std::optional<int64_t> staticExtent(AttentionOpInterface op,
                                           AttentionOp::Operand operand,
                                           AttentionOp::Dim dim) {
  std::optional<unsigned> pos = op.findDim(operand, dim);
  if (!pos || op.getShaped(operand).getType().isDynamicDim(*pos))
    return std::nullopt;
  return op.getShaped(operand).getType().getDimSize(*pos);
}

/// C5 and C6: extents.
static LogicalResult verifyExtents(AttentionOpInterface op) {
  for (unsigned dim = 0; dim < 6; ++dim) {
    std::optional<int64_t> extent;
    StringRef first;
    for (unsigned i = 0; i < 5; ++i) {
      auto operand = AttentionOp::Operand(i);
      bool isKey = operand == AttentionOp::K || operand == AttentionOp::V;
      if (dim == AttentionOp::H && isKey)
        continue;
      std::optional<int64_t> own =
          staticExtent(op, operand, AttentionOp::Dim(dim));
      if (!own)
        continue;
      if (extent && *extent != *own)
        return op.emitOpError("[C5 extents] ")
               << kDimNames.substr(dim, 1) << " has extent " << *extent
               << " in " << first << " and " << *own << " in "
               << kOperandNames[i] << "; they must agree";
      extent = own;
      first = kOperandNames[i];
    }
  }
  std::optional<int64_t> heads;
  for (auto operand : {AttentionOp::Q, AttentionOp::O, AttentionOp::LSE})
    if (!heads)
      heads = staticExtent(op, operand, AttentionOp::H);
  std::optional<int64_t> keyHeads;
  for (auto operand : {AttentionOp::K, AttentionOp::V}) {
    std::optional<int64_t> own = staticExtent(op, operand, AttentionOp::H);
    if (!own)
      continue;
    if (keyHeads && *keyHeads != *own)
      return op.emitOpError("[C5 extents] k has ")
             << *keyHeads << " heads and v has " << *own << "; they must agree";
    keyHeads = own;
    if (!heads)
      continue;
    AffineExpr expr =
        op.getMap(operand).getResult(*op.findDim(operand, AttentionOp::H));
    int64_t group = 1;
    bool isFixed = isa<AffineDimExpr>(expr);
    if (auto binary = dyn_cast<AffineBinaryOpExpr>(expr))
      if (auto constant = dyn_cast<AffineConstantExpr>(binary.getRHS())) {
        group = constant.getValue();
        isFixed = true;
      }
    if (*own == 0 || *heads % *own != 0 || (isFixed && *heads != group * *own))
      return op.emitOpError("[C6 heads] has ")
             << *heads << " query heads for " << *own << " heads of "
             << kOperandNames[operand] << " with the head '" << asString(expr)
             << "'; the query heads must be that multiple of the key heads";
  }
  return success();
}

using NamedValues = SmallVector<std::pair<StringRef, Value>>;

/// C7 and C8: types. `others` are the shaped operands besides q, k, v, o, lse.
static LogicalResult verifyTypes(AttentionOpInterface op, NamedValues others) {
  bool onTensors = op.hasTensorSemantics();
  NamedValues shaped;
  for (unsigned i = 0; i < 5; ++i)
    shaped.emplace_back(kOperandNames[i],
                        op.getShaped(AttentionOp::Operand(i)));
  llvm::append_range(shaped, others);
  for (Value value : op.getLengths())
    shaped.emplace_back("lengths", value);
  for (Value value : op.getCaptures())
    shaped.emplace_back("a capture", value);
  for (auto [name, value] : shaped)
    if (isa<ShapedType>(value.getType()) &&
        isa<TensorType>(value.getType()) != onTensors)
      return op.emitOpError("[C8 storage] ")
             << name << " is " << value.getType() << " but q is "
             << op.getQ().getType()
             << "; use tensors for all operands or memrefs for all";

  Type element = getElementTypeOrSelf(op.getQ().getType());
  Type acc = op.getAccType();
  if (!element.isF16() && !element.isBF16() && !element.isF32() &&
      !element.isF64())
    return op.emitOpError("[C7 dtypes] q holds ")
           << element << "; use f16, bf16, f32 or f64";
  for (Value value : {Value(op.getK()), Value(op.getV())})
    if (getElementTypeOrSelf(value.getType()) != element)
      return op.emitOpError("[C7 dtypes] q holds ")
             << element << " but k or v holds "
             << getElementTypeOrSelf(value.getType())
             << "; q, k and v must have one element type";
  Type out = getElementTypeOrSelf(op.getOutputLike().getType());
  if (out != element && out != acc)
    return op.emitOpError("[C7 dtypes] o holds ")
           << out << "; it must hold " << element << " or " << acc;
  if (getElementTypeOrSelf(op.getLse().getType()) != acc)
    return op.emitOpError("[C7 dtypes] lse holds ")
           << getElementTypeOrSelf(op.getLse().getType()) << "; it must hold "
           << acc;
  if (op.getScale().getType() != acc)
    return op.emitOpError("[C7 dtypes] scale is ")
           << op.getScale().getType() << "; it must be " << acc;
  return success();
}

/// C9, C10 and C14: lengths, mask and origin.
static LogicalResult verifyProblem(AttentionOpInterface op) {
  auto lengths = op.getLengths();
  if (!lengths.empty()) {
    auto isVector = [](Type type) {
      auto shaped = dyn_cast<ShapedType>(type);
      return shaped && shaped.hasRank() && shaped.getRank() == 1 &&
             shaped.getElementType().isInteger(32);
    };
    bool vectors = llvm::all_of(lengths.getTypes(), isVector);
    bool indices = llvm::all_of(lengths.getTypes(),
                                [](Type type) { return type.isIndex(); });
    if (lengths.size() != 2 || (!vectors && !indices))
      return op.emitOpError("[C9 lengths] has ")
             << lengths.size() << " lengths of types " << lengths.getTypes()
             << "; give none, or lq and lk, both one-dimensional of i32 or "
                "both index";
  }
  if (op.getMask())
    for (IntegerSet set : op.getMask()->getSets())
      if (set.getNumSymbols() != 2 + op.getSymbols().size())
        return op.emitOpError("[C10 mask-symbols] a mask set has ")
               << set.getNumSymbols() << " symbols but there are "
               << op.getSymbols().size()
               << " symbol operands; a set needs lq, lk and one symbol per "
                  "operand";
  if (!op.getMask() && !op.getSymbols().empty())
    return op.emitOpError("[C10 mask-symbols] has symbols but no mask; drop "
                          "the symbols or give a mask that uses them");
  size_t numOrigins = op.getOrigin().size();
  bool isBackward = isa<AttentionBackwardOp>(op.getOperation());
  if (numOrigins != 0 && numOrigins != 3 && !(isBackward && numOrigins == 4))
    return op.emitOpError("[C14 origin] has ")
           << numOrigins << " values; give none, or b, h and m"
           << (isBackward ? ", and n for a window of keys" : "");
  return success();
}

/// A region that computes on one element: C11, C21. `meaning` says what its
/// arguments are.
static LogicalResult verifyRegion(AttentionOpInterface op, Region &region,
                                  StringRef label, TypeRange arguments,
                                  StringRef meaning, size_t numYields) {
  if (!region.hasOneBlock())
    return op.emitOpError(label)
           << " has " << region.getBlocks().size()
           << " blocks; use one, with arith.select in place of branches";
  Block &body = region.front();
  if (body.getArgumentTypes() != arguments)
    return op.emitOpError(label)
           << " takes " << body.getArgumentTypes() << "; it must take "
           << arguments << ": " << meaning;
  auto yield = body.empty() ? YieldOp() : dyn_cast<YieldOp>(body.back());
  if (!yield || yield.getNumOperands() != numYields ||
      llvm::any_of(yield.getOperandTypes(),
                   [&](Type type) { return type != op.getAccType(); })) {
    InFlightDiagnostic diagnostic = op.emitOpError(label);
    diagnostic << " must end with fa.yield of ";
    if (numYields == 1)
      diagnostic << "one " << op.getAccType();
    else
      diagnostic << numYields << " values of type " << op.getAccType();
    return diagnostic;
  }
  bool mayAccumulate = &region != &op.getScore();
  for (Operation &inner : body.without_terminator())
    if (!isPure(&inner) && !(mayAccumulate && isa<AccumulateOp>(inner)))
      return op.emitOpError(label)
             << " holds " << inner.getName()
             << ", which may have side effects; use pure operations, and "
                "fa.gather to read memory"
             << (mayAccumulate ? " or fa.accumulate to add to a gradient" : "");
  return success();
}

/// C12: captures. Adds the types of the region's arguments for them.
static LogicalResult verifyCaptures(AttentionOpInterface op,
                                    SmallVectorImpl<Type> &arguments) {
  auto captures = op.getCaptures();
  size_t numMaps = op.getCaptureMaps() ? op.getCaptureMaps()->size() : 0;
  if (numMaps != captures.size())
    return op.emitOpError("[C12 captures] has ")
           << captures.size() << " captures and " << numMaps
           << " capture maps; give one map, or unit, per capture";
  if (op.getScore().empty() && !captures.empty())
    return op.emitOpError("[C12 captures] has captures but no score region "
                          "that reads them; drop the captures or give a score");
  for (auto [number, capture] : llvm::enumerate(captures)) {
    Type type = capture.getType();
    Attribute access = (*op.getCaptureMaps())[number];
    if (isa<UnitAttr>(access)) {
      arguments.push_back(type);
      continue;
    }
    auto mapAttr = dyn_cast<AffineMapAttr>(access);
    auto shaped = dyn_cast<ShapedType>(type);
    AffineMap map = mapAttr ? mapAttr.getValue() : AffineMap();
    if (!map || map.getNumDims() != 4 || map.getNumSymbols() ||
        !map.isProjectedPermutation() || !shaped ||
        shaped.getRank() != map.getNumResults())
      return op.emitOpError("[C12 captures] capture ")
             << number << ", " << type << ", has the access " << access
             << "; use unit, or a projected permutation of (b, h, m, n) with "
                "one result per dimension of the capture";
    arguments.push_back(shaped.getElementType());
  }
  return success();
}

/// C11 and C12: the score region and its captures. Returns the types of the
/// region's arguments.
static FailureOr<SmallVector<Type>> verifyScore(AttentionOpInterface op) {
  SmallVector<Type> arguments = {op.getAccType()};
  arguments.append(4, IndexType::get(op.getContext()));
  if (failed(verifyCaptures(op, arguments)))
    return failure();
  if (!op.getScore().empty() &&
      failed(verifyRegion(op, op.getScore(), "[C11 score-region]", arguments,
                          "the score, b, h, m, n and the captures", 1)))
    return failure();
  return arguments;
}

/// C13: with tensors, results are the new values of the destinations.
static LogicalResult verifyResults(AttentionOpInterface op, StringRef names) {
  SmallVector<Type> expected;
  if (op.hasTensorSemantics())
    for (OpOperand *operand : op.getDestinations())
      expected.push_back(operand->get().getType());
  if (op->getResultTypes() != TypeRange(expected))
    return op.emitOpError("[C13 results] has results of types ")
           << op->getResultTypes() << "; it must have the types of " << names
           << " with tensors and none with memrefs";
  return success();
}

/// C23: partials.
static LogicalResult verifyPartials(AttentionOp op) {
  static constexpr StringLiteral label = "[C23 partials]";
  if (!op.getOParts() != !op.getLseParts())
    return op.emitOpError(label)
           << " has memory for only one of o and lse; give both or none";
  if (!op.getOParts())
    return success();
  auto type = cast<MemRefType>(op.getOParts().getType());
  auto lseType = cast<MemRefType>(op.getLseParts().getType());
  for (auto [name, parts, whole] :
       {std::tuple<StringRef, MemRefType, Type>("o", type, op.getO().getType()),
        {"lse", lseType, op.getLse().getType()}}) {
    ArrayRef<int64_t> shape = cast<ShapedType>(whole).getShape();
    if (parts.getElementType() != op.getAccType() ||
        parts.getRank() != int64_t(shape.size()) + 1 ||
        failed(verifyCompatibleShape(parts.getShape().drop_front(), shape)))
      return op.emitOpError(label)
             << " the memory for parts of " << name << " is " << parts
             << " but " << name << " is " << whole << "; it must hold "
             << op.getAccType()
             << " and have these extents behind one of the parts";
  }
  if (failed(verifyCompatibleShape(type.getShape().take_front(),
                                   lseType.getShape().take_front())))
    return op.emitOpError(label)
           << " has memory for " << type.getDimSize(0) << " parts of o and "
           << lseType.getDimSize(0) << " of lse; give as many of both";
  return success();
}

LogicalResult AttentionOp::verify() {
  NamedValues others;
  if (getInitLse())
    others.emplace_back("init_lse", getInitLse());
  if (failed(verifyMaps(*this)) || failed(verifyTypes(*this, others)) ||
      failed(verifyExtents(*this)) || failed(verifyProblem(*this)))
    return failure();
  if (getInitLse()) {
    auto init = cast<ShapedType>(getInitLse().getType());
    auto lse = cast<ShapedType>(getLse().getType());
    if (init.getElementType() != lse.getElementType() ||
        init.getShape() != lse.getShape())
      return emitOpError("[C15 init-lse] init_lse is ")
             << init << " but lse is " << lse
             << "; they must have one shape and element type";
  }
  if (failed(verifyPartials(*this)) || failed(verifyScore(*this)))
    return failure();
  return verifyResults(*this, "o and lse");
}

//===----------------------------------------------------------------------===//
// fa.attention_backward
//===----------------------------------------------------------------------===//

/// C16 and C17: operands of the backward that are shaped like others.
static LogicalResult verifyLike(AttentionBackwardOp op, StringRef label,
                                StringRef name, Value value, StringRef likeName,
                                Value like, bool elementMayDiffer) {
  if (!value || !like)
    return success();
  auto type = cast<ShapedType>(value.getType());
  auto likeType = cast<ShapedType>(like.getType());
  Type acc = op.getAccType();
  if (failed(verifyCompatibleShape(type, likeType)) ||
      (type.getElementType() != likeType.getElementType() &&
       !(elementMayDiffer && type.getElementType() == acc)))
    return op.emitOpError(label)
           << " " << name << " is " << type << " but " << likeName << " is "
           << likeType << "; it must have that shape and hold "
           << likeType.getElementType()
           << (elementMayDiffer && likeType.getElementType() != acc
                   ? " or the accumulator type"
                   : "");
  return success();
}

/// C20: capture_grads and d_captures.
static LogicalResult verifyCaptureGradients(AttentionBackwardOp op) {
  static constexpr StringLiteral label = "[C20 capture-gradients]";
  ArrayRef<int64_t> numbers = op.getDifferentiatedCaptures();
  if (numbers.size() != op.getDCaptures().size())
    return op.emitOpError(label)
           << " has " << numbers.size() << " capture_grads and "
           << op.getDCaptures().size()
           << " d_captures; give one destination per differentiated capture";
  int64_t previous = -1;
  for (auto [number, gradient] : llvm::zip(numbers, op.getDCaptures())) {
    if (number <= previous || number >= int64_t(op.getCaptures().size()))
      return op.emitOpError(label)
             << " capture_grads holds " << number << " after " << previous
             << "; give increasing positions of the " << op.getCaptures().size()
             << " captures";
    previous = number;
    Type capture = op.getCaptures()[number].getType();
    if (!isa<FloatType>(getElementTypeOrSelf(capture)))
      return op.emitOpError(label)
             << " capture " << number << " is " << capture
             << ", which has no gradient; drop it from capture_grads";
    auto shaped = dyn_cast<ShapedType>(capture);
    auto type = cast<ShapedType>(gradient.getType());
    auto shape = shaped ? shaped.getShape() : ArrayRef<int64_t>();
    if (failed(verifyCompatibleShape(type.getShape(), shape)) ||
        type.getElementType() != op.getAccType())
      return op.emitOpError(label)
             << " the gradient of capture " << number << " is " << type
             << " but the capture is " << capture
             << "; it must have that shape (rank 0 for a scalar) and hold "
             << op.getAccType();
  }
  return success();
}

/// C22: d_q_sum.
static LogicalResult verifyDQSum(AttentionBackwardOp op) {
  if (!op.getDQSum())
    return success();
  auto type = cast<ShapedType>(op.getDQSum().getType());
  ShapedType q = op.getShaped(AttentionOp::Q).getType();
  bool agrees = type.hasRank() && type.getRank() == q.getRank() &&
                type.getElementType() == op.getAccType();
  for (int64_t pos = 0; agrees && pos < q.getRank(); ++pos) {
    int64_t own = type.getDimSize(pos), extent = q.getDimSize(pos);
    int64_t multiple = op.findDim(AttentionOp::Q, AttentionOp::M) == pos   ? 8
                       : op.findDim(AttentionOp::Q, AttentionOp::D) == pos ? 16
                                                                           : 1;
    if (!ShapedType::isDynamic(own) && !ShapedType::isDynamic(extent))
      agrees = own == int64_t(llvm::alignTo(extent, multiple));
  }
  if (agrees)
    return success();
  return op.emitOpError("[C22 d-q-sum] d_q_sum is ")
         << type << " but q is " << q << "; it must hold " << op.getAccType()
         << " and have q's extents, with rows filled up to a multiple of 8 and "
            "the head size to one of 16";
}

LogicalResult AttentionBackwardOp::verify() {
  NamedValues others = {{"d_o", getDO()}, {"delta", getDelta()}};
  for (auto [name, value] : {std::pair<StringRef, Value>("o", getO()),
                             {"d_lse", getDLse()},
                             {"d_q_sum", getDQSum()},
                             {"d_q", getDQ()},
                             {"d_k", getDK()},
                             {"d_v", getDV()}})
    if (value)
      others.emplace_back(name, value);
  for (Value value : getDCaptures())
    others.emplace_back("a capture's gradient", value);
  if (failed(verifyMaps(*this)) || failed(verifyTypes(*this, others)) ||
      failed(verifyExtents(*this)) || failed(verifyProblem(*this)))
    return failure();
  FailureOr<SmallVector<Type>> arguments = verifyScore(*this);
  if (failed(arguments))
    return failure();

  static constexpr StringLiteral gradients = "[C16 gradients]";
  static constexpr StringLiteral rows = "[C17 rows]";
  if (failed(verifyLike(*this, gradients, "d_o", getDO(), "o", getO(), true)) ||
      failed(verifyLike(*this, gradients, "d_q", getDQ(), "q", getQ(), true)) ||
      failed(verifyLike(*this, gradients, "d_k", getDK(), "k", getK(), true)) ||
      failed(verifyLike(*this, gradients, "d_v", getDV(), "v", getV(), true)) ||
      failed(verifyLike(*this, rows, "delta", getDelta(), "lse", getLse(),
                        false)) ||
      failed(
          verifyLike(*this, rows, "d_lse", getDLse(), "lse", getLse(), false)))
    return failure();

  if (failed(verifyDQSum(*this)))
    return failure();
  if (getDeltaKnown() ? getO() || getDLse() : !getO())
    return emitOpError("[C18 delta-known] has ")
           << (getO()      ? "o"
               : getDLse() ? "d_lse but no o"
                           : "no o")
           << (getDeltaKnown() ? " and delta_known" : " and no delta_known")
           << "; give o, from which delta is computed, or delta_known, without "
              "o and d_lse";
  if (getDestinations().empty())
    return emitOpError("[C19 outputs] computes nothing; give at least one of "
                       "d_q, d_k, d_v and d_captures, or drop delta_known");
  if (failed(verifyCaptureGradients(*this)))
    return failure();

  if (!getDerivative().empty()) {
    if (getScore().empty())
      return emitOpError("[C21 derivative-region] has a derivative but no "
                         "score region; give both or none");
    arguments->push_back(getAccType());
    size_t numYields =
        1 + llvm::count_if(getDifferentiatedCaptures(),
                           [&](int64_t number) { return !isGathered(number); });
    if (failed(verifyRegion(
            *this, getDerivative(), "[C21 derivative-region]", *arguments,
            "the raw score, b, h, m, n, the captures and the gradient of the "
            "score",
            numYields)))
      return failure();
  }
  return verifyResults(*this, "delta unless known, d_q, d_k, d_v and "
                              "d_captures, as far as present,");
}

LogicalResult AccumulateOp::verify() {
  auto op = cast<AttentionBackwardOp>((*this)->getParentOp());
  int64_t number = getCapture();
  if ((*this)->getParentRegion() != &op.getDerivative())
    return emitOpError("is in the score region; use it in the derivative "
                       "region only");
  if (!llvm::is_contained(op.getDifferentiatedCaptures(), number) ||
      number >= int64_t(op.getCaptures().size()) || !op.isGathered(number))
    return emitOpError("adds to the gradient of capture ")
           << number
           << "; name an entry of capture_grads that the region "
              "gathers from, and yield the others";
  auto type = cast<ShapedType>(op.getCaptures()[number].getType());
  if (type.getRank() != int64_t(getIndices().size()))
    return emitOpError("has ")
           << getIndices().size() << " indices for a capture of rank "
           << type.getRank() << "; give one index per dimension";
  if (getValue().getType() != op.getAccType())
    return emitOpError("adds ")
           << getValue().getType() << "; gradients are " << op.getAccType();
  return success();
}

LogicalResult GatherOp::verify() {
  auto source = cast<ShapedType>(getSource().getType());
  if (source.getRank() != int64_t(getIndices().size()))
    return emitOpError("has ")
           << getIndices().size() << " indices for a source of rank "
           << source.getRank() << "; give one index per dimension";
  if (getResult().getType() != source.getElementType())
    return emitOpError("gives ")
           << getResult().getType() << " but the source holds "
           << source.getElementType() << "; the types must agree";
  return success();
}
