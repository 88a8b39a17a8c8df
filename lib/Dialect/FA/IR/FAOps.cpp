//===- FAOps.cpp - Verifiers of the attention dialect ---------------------===//

#include "fa/Dialect/FA/IR/FA.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IntegerSet.h"
#include "mlir/IR/OpImplementation.h"

using namespace mlir;
using namespace mlir::fa;

#define GET_OP_CLASSES
#include "fa/Dialect/FA/IR/FAOps.cpp.inc"

#include "fa/Dialect/FA/IR/FAInterfaces.cpp.inc"

using Dim = AttentionRoles::Dim;
using Role = AttentionRoles::Operand;

//===----------------------------------------------------------------------===//
// AttentionOpInterface
//===----------------------------------------------------------------------===//

TypedValue<ShapedType> fa::detail::getShaped(Operation *op, Role operand) {
  auto attention = cast<AttentionOpInterface>(op);
  for (auto [value, role] : attention.getShapedOperands())
    if (role == operand)
      return cast<TypedValue<ShapedType>>(value->get());
  llvm_unreachable("every role has an operand");
}

FloatType fa::detail::getAccType(Operation *op) {
  auto attention = cast<AttentionOpInterface>(op);
  if (getElementTypeOrSelf(attention.getQ().getType()).isF64())
    return Float64Type::get(op->getContext());
  return Float32Type::get(op->getContext());
}

std::optional<unsigned> fa::detail::findDim(Operation *op, Role operand,
                                            Dim dim) {
  AffineMap map = cast<AttentionOpInterface>(op).getMap(operand);
  for (auto [pos, expr] : llvm::enumerate(map.getResults()))
    if (expr.isFunctionOfDim(dim))
      return pos;
  return std::nullopt;
}

static bool isKeyRole(Role operand) {
  return operand == AttentionRoles::K || operand == AttentionRoles::V;
}

/// Extent of dimension `pos` of `shaped`.
static OpFoldResult getDimSize(OpBuilder &builder, Location loc, Value shaped,
                               unsigned pos) {
  if (isa<RankedTensorType>(shaped.getType()))
    return tensor::getMixedSize(builder, loc, shaped, pos);
  return memref::getMixedSize(builder, loc, shaped, pos);
}

OpFoldResult fa::detail::getExtent(Operation *op, OpBuilder &builder, Dim dim) {
  auto attention = cast<AttentionOpInterface>(op);
  // q first: it has the query heads, k and v only the key heads.
  for (Role operand : {Role::Q, Role::O, Role::LSE, Role::K, Role::V}) {
    if (dim == Dim::H && isKeyRole(operand))
      continue;
    if (std::optional<unsigned> pos = attention.findDim(operand, dim))
      return getDimSize(builder, op->getLoc(), attention.getShaped(operand),
                        *pos);
  }
  return builder.getIndexAttr(1);
}

OpFoldResult fa::detail::getGroup(Operation *op, OpBuilder &builder) {
  auto attention = cast<AttentionOpInterface>(op);
  Location loc = op->getLoc();
  for (Role operand : {Role::K, Role::V}) {
    std::optional<unsigned> pos = attention.findDim(operand, Dim::H);
    if (!pos)
      continue;
    AffineExpr expr = attention.getMap(operand).getResult(*pos);
    if (isa<AffineDimExpr>(expr))
      return builder.getIndexAttr(1);
    AffineExpr divisor = cast<AffineBinaryOpExpr>(expr).getRHS();
    if (auto constant = dyn_cast<AffineConstantExpr>(divisor))
      return builder.getIndexAttr(constant.getValue());
    OpFoldResult heads = attention.getExtent(builder, Dim::H);
    OpFoldResult keyHeads =
        getDimSize(builder, loc, attention.getShaped(operand), *pos);
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
  return attention.getExtent(builder, Dim::H);
}

Value fa::detail::getKeyHead(Operation *op, OpBuilder &builder, Value head) {
  auto attention = cast<AttentionOpInterface>(op);
  if (!attention.findDim(Role::K, Dim::H) &&
      !attention.findDim(Role::V, Dim::H))
    return head;
  OpFoldResult group = attention.getGroup(builder);
  if (isConstantIntValue(group, 1))
    return head;
  return arith::DivUIOp::create(
      builder, op->getLoc(), head,
      getValueOrCreateConstantIndexOp(builder, op->getLoc(), group));
}

//===----------------------------------------------------------------------===//
// Operands
//===----------------------------------------------------------------------===//

APFloat AttentionOp::getDeadLseValue() {
  if (std::optional<APFloat> value = getDeadLse())
    return *value;
  return APFloat::getInf(APFloat::IEEEdouble(), /*Negative=*/true);
}

SmallVector<std::pair<OpOperand *, Role>> AttentionOp::getShapedOperands() {
  SmallVector<std::pair<OpOperand *, Role>> operands = {
      {&getQMutable(), Role::Q},
      {&getKMutable(), Role::K},
      {&getVMutable(), Role::V},
      {&getOMutable(), Role::O},
      {&getLseMutable(), Role::LSE}};
  for (OpOperand &initLse : getInitLseMutable())
    operands.emplace_back(&initLse, Role::LSE);
  return operands;
}

SmallVector<std::pair<OpOperand *, Role>>
AttentionBackwardOp::getShapedOperands() {
  SmallVector<std::pair<OpOperand *, Role>> operands = {
      {&getQMutable(), Role::Q},     {&getKMutable(), Role::K},
      {&getVMutable(), Role::V},     {&getDOMutable(), Role::O},
      {&getLseMutable(), Role::LSE}, {&getDeltaMutable(), Role::LSE}};
  auto add = [&](MutableOperandRange range, Role role) {
    for (OpOperand &operand : range)
      operands.emplace_back(&operand, role);
  };
  add(getOMutable(), Role::O);
  add(getDLseMutable(), Role::LSE);
  add(getDQMutable(), Role::Q);
  add(getDKMutable(), Role::K);
  add(getDVMutable(), Role::V);
  return operands;
}

SmallVector<OpOperand *> AttentionBackwardOp::getDestinations() {
  SmallVector<OpOperand *> destinations;
  if (!getDeltaKnown())
    destinations.push_back(&getDeltaMutable());
  for (MutableOperandRange range :
       {getDQMutable(), getDKMutable(), getDVMutable()})
    for (OpOperand &operand : range)
      destinations.push_back(&operand);
  return destinations;
}

/// Memory that is read: all; and written: `destinations`.
static void
addEffects(Operation *op, ArrayRef<OpOperand *> destinations,
           SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
               &effects) {
  auto *resource = SideEffects::DefaultResource::get();
  for (OpOperand &operand : op->getOpOperands())
    if (isa<MemRefType>(operand.get().getType()))
      effects.emplace_back(MemoryEffects::Read::get(), &operand, resource);
  for (OpOperand *operand : destinations)
    if (isa<MemRefType>(operand->get().getType()))
      effects.emplace_back(MemoryEffects::Write::get(), operand, resource);
}

void AttentionOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
        &effects) {
  addEffects(*this, {&getOMutable(), &getLseMutable()}, effects);
}

void AttentionBackwardOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
        &effects) {
  addEffects(*this, getDestinations(), effects);
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
    return op->emitOpError("[C1 maps] has ")
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
      return op->emitOpError("[C1 maps] the map of ")
             << kOperandNames[i] << " has " << map.getNumDims()
             << " dimensions and " << map.getNumSymbols()
             << " symbols; it needs (b, h, m, n, d, e) and at most one symbol";
    if (map.getNumResults() != type.getRank())
      return op->emitOpError("[C3 map-rank] the map of ")
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
        return op->emitOpError("[C2 map-form] result '")
               << asString(expr) << "' of the map of " << kOperandNames[i]
               << " is not allowed; use each of b, h, m, n, d, e at most once, "
                  "and 'h floordiv g' with a positive constant or a symbol g "
                  "for the head of k and v only";
      seen[dim.getPosition()] = true;
      char name = kDimNames[dim.getPosition()];
      if (!kMay[i].contains(name))
        return op->emitOpError("[C4 roles] ")
               << kOperandNames[i] << " runs along " << StringRef(&name, 1)
               << "; it may run along " << kMay[i] << " only";
    }
    for (char name : kMust[i])
      if (!seen[kDimNames.find(name)])
        return op->emitOpError("[C4 roles] ")
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
        return op->emitOpError("[C5 extents] ")
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
      return op->emitOpError("[C5 extents] k has ")
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
      return op->emitOpError("[C6 heads] has ")
             << *heads << " query heads for " << *own << " heads of "
             << kOperandNames[operand] << " with the head '" << asString(expr)
             << "'; the query heads must be that multiple of the key heads";
  }
  return success();
}

/// C7 and C8: types.
static LogicalResult verifyTypes(AttentionOpInterface op) {
  bool onTensors = op.hasTensorSemantics();
  SmallVector<std::pair<StringRef, Value>> shaped;
  for (auto [operand, role] : op.getShapedOperands()) {
    bool isFirst = operand->get() == op.getShaped(role);
    shaped.emplace_back(isFirst ? StringRef(kOperandNames[role])
                                : StringRef("an operand"),
                        operand->get());
  }
  for (Value value : op.getLengths())
    shaped.emplace_back("lengths", value);
  for (Value value : op.getCaptures())
    shaped.emplace_back("a capture", value);
  for (auto [name, value] : shaped)
    if (isa<ShapedType>(value.getType()) &&
        isa<TensorType>(value.getType()) != onTensors)
      return op->emitOpError("[C8 storage] ")
             << name << " is " << value.getType() << " but q is "
             << op.getQ().getType()
             << "; use tensors for all operands or memrefs for all";

  Type element = getElementTypeOrSelf(op.getQ().getType());
  Type acc = op.getAccType();
  if (!element.isF16() && !element.isBF16() && !element.isF32() &&
      !element.isF64())
    return op->emitOpError("[C7 dtypes] q holds ")
           << element << "; use f16, bf16, f32 or f64";
  for (Value value : {Value(op.getK()), Value(op.getV())})
    if (getElementTypeOrSelf(value.getType()) != element)
      return op->emitOpError("[C7 dtypes] q holds ")
             << element << " but k or v holds "
             << getElementTypeOrSelf(value.getType())
             << "; q, k and v must have one element type";
  Type out = getElementTypeOrSelf(op.getShaped(Role::O).getType());
  if (out != element && out != acc)
    return op->emitOpError("[C7 dtypes] o holds ")
           << out << "; it must hold " << element << " or " << acc;
  if (getElementTypeOrSelf(op.getLse().getType()) != acc)
    return op->emitOpError("[C7 dtypes] lse holds ")
           << getElementTypeOrSelf(op.getLse().getType()) << "; it must hold "
           << acc;
  if (op.getScale().getType() != acc)
    return op->emitOpError("[C7 dtypes] scale is ")
           << op.getScale().getType() << "; it must be " << acc;
  return success();
}

/// C9, C10, C14 and C15: lengths, mask, origin and init_lse.
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
      return op->emitOpError("[C9 lengths] has ")
             << lengths.size() << " lengths of types " << lengths.getTypes()
             << "; give none, or lq and lk, both one-dimensional of i32 or "
                "both index";
  }
  if (op.getMaskAttr())
    for (IntegerSet set : op.getMaskAttr().getSets())
      if (set.getNumSymbols() != 2 + op.getSymbols().size())
        return op->emitOpError("[C10 mask-symbols] a mask set has ")
               << set.getNumSymbols() << " symbols but there are "
               << op.getSymbols().size()
               << " symbol operands; a set needs lq, lk and one symbol per "
                  "operand";
  if (!op.getMaskAttr() && !op.getSymbols().empty())
    return op->emitOpError("[C10 mask-symbols] has symbols but no mask; drop "
                           "the symbols or give a mask that uses them");
  size_t origin = op.getOrigin().size();
  if (origin != 0 && origin != 3 && origin != 4)
    return op->emitOpError("[C14 origin] has ")
           << origin << " values; give none, or b, h, m and possibly n";
  return success();
}

/// C11 and C12: the score region and its captures.
static LogicalResult verifyScore(AttentionOpInterface op) {
  auto captures = op.getCaptures();
  size_t numMaps = op.getCaptureMaps() ? op.getCaptureMaps()->size() : 0;
  if (numMaps != captures.size())
    return op->emitOpError("[C12 captures] has ")
           << captures.size() << " captures and " << numMaps
           << " capture maps; give one map, or unit, per capture";
  bool hasRegion = !op.getScore().empty();
  if (!hasRegion && !captures.empty())
    return op->emitOpError(
        "[C12 captures] has captures but no score region "
        "that reads them; drop the captures or give a score");
  SmallVector<Type> arguments = {op.getAccType()};
  arguments.append(4, IndexType::get(op.getContext()));
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
      return op->emitOpError("[C12 captures] capture ")
             << number << ", " << type << ", has the access " << access
             << "; use unit, or a projected permutation of (b, h, m, n) with "
                "one result per dimension of the capture";
    arguments.push_back(shaped.getElementType());
  }
  if (!hasRegion)
    return success();
  if (!op.getScore().hasOneBlock())
    return op->emitOpError("[C11 score-region] has ")
           << op.getScore().getBlocks().size()
           << " blocks; use one, with arith.select in place of branches";
  Block &body = op.getScore().front();
  if (body.getArgumentTypes() != TypeRange(arguments))
    return op->emitOpError("[C11 score-region] takes ")
           << body.getArgumentTypes() << "; it must take " << arguments
           << ": the score, b, h, m, n and the captures";
  auto yield = body.empty() ? YieldOp() : dyn_cast<YieldOp>(body.back());
  if (!yield || yield.getNumOperands() != 1 ||
      yield.getOperand(0).getType() != op.getAccType())
    return op->emitOpError("[C11 score-region] must end with fa.yield of one ")
           << op.getAccType();
  for (Operation &inner : body.without_terminator())
    if (!isPure(&inner))
      return op->emitOpError("[C11 score-region] holds ")
             << inner.getName()
             << ", which may have side effects; use pure operations, and "
                "fa.gather to read memory";
  return success();
}

/// C1 to C12 and C14.
static LogicalResult verifyAttention(AttentionOpInterface op) {
  return success(succeeded(verifyMaps(op)) && succeeded(verifyTypes(op)) &&
                 succeeded(verifyExtents(op)) && succeeded(verifyProblem(op)) &&
                 succeeded(verifyScore(op)));
}

/// C13: with tensors, the results are new values of the destinations.
static LogicalResult verifyResults(AttentionOpInterface op,
                                   ArrayRef<Type> destinations) {
  SmallVector<Type> expected;
  if (op.hasTensorSemantics())
    expected.assign(destinations.begin(), destinations.end());
  if (op->getResultTypes() == TypeRange(expected))
    return success();
  return op->emitOpError("[C13 results] has results of types ")
         << op->getResultTypes()
         << "; it must have the types of its destinations with tensors and "
            "none with memrefs";
}

LogicalResult AttentionOp::verify() {
  if (failed(verifyAttention(*this)))
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
  return verifyResults(*this, {getO().getType(), getLse().getType()});
}

/// C16 and C17: `value`, if given, looks like `like`.
static LogicalResult verifyGradient(AttentionBackwardOp op, Value value,
                                    StringRef name, Value like,
                                    StringRef likeName, StringRef label) {
  if (!value)
    return success();
  auto type = cast<ShapedType>(value.getType());
  auto likeType = cast<ShapedType>(like.getType());
  bool hasAccType = name.starts_with("d_") && name != "d_lse" &&
                    name != "d_o" && type.getElementType() == op.getAccType();
  if (succeeded(verifyCompatibleShape(type, likeType)) &&
      (type.getElementType() == likeType.getElementType() || hasAccType))
    return success();
  return op.emitOpError("[")
         << label << "] " << name << " is " << type << " but " << likeName
         << " is " << likeType << "; they must agree in shape and element type";
}

LogicalResult AttentionBackwardOp::verify() {
  if (failed(verifyAttention(*this)))
    return failure();
  static constexpr StringLiteral kGradients = "C16 gradients",
                                 kDelta = "C17 delta";
  if (failed(verifyGradient(*this, getDQ(), "d_q", getQ(), "q", kGradients)) ||
      failed(verifyGradient(*this, getDK(), "d_k", getK(), "k", kGradients)) ||
      failed(verifyGradient(*this, getDV(), "d_v", getV(), "v", kGradients)) ||
      failed(verifyGradient(*this, getO(), "o", getDO(), "d_o", kGradients)) ||
      failed(verifyGradient(*this, getDelta(), "delta", getLse(), "lse",
                            kDelta)) ||
      failed(
          verifyGradient(*this, getDLse(), "d_lse", getLse(), "lse", kDelta)))
    return failure();
  if (getDeltaKnown() && (getO() || getDLse()))
    return emitOpError("[C17 delta] has a known delta and ")
           << (getO() ? "o" : "d_lse")
           << ", which it would be computed from; drop delta_known or the "
              "operand";
  if (!getDeltaKnown() && !getO())
    return emitOpError("[C17 delta] has neither o nor a known delta; give one");
  if (!getDerivative().empty()) {
    if (getScore().empty() || !getDerivative().hasOneBlock())
      return emitOpError("[C18 derivative-region] must have one block, and "
                         "stand beside a score region");
    SmallVector<Type> arguments(getScore().getArgumentTypes());
    arguments.push_back(getAccType());
    Block &body = getDerivative().front();
    if (body.getArgumentTypes() != TypeRange(arguments))
      return emitOpError("[C18 derivative-region] takes ")
             << body.getArgumentTypes() << "; it must take " << arguments
             << ": the score's arguments and the gradient of the score";
    auto yield = body.empty() ? YieldOp() : dyn_cast<YieldOp>(body.back());
    if (!yield || yield.getNumOperands() != 1 ||
        yield.getOperand(0).getType() != getAccType())
      return emitOpError("[C18 derivative-region] must end with fa.yield of "
                         "one ")
             << getAccType();
    for (Operation &inner : body.without_terminator())
      if (!isPure(&inner))
        return emitOpError("[C18 derivative-region] holds ")
               << inner.getName()
               << ", which may have side effects; use pure operations";
  }
  SmallVector<Type> destinations;
  for (OpOperand *operand : getDestinations())
    destinations.push_back(operand->get().getType());
  return verifyResults(*this, destinations);
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
