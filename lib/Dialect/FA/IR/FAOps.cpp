//===- FAOps.cpp - Verifiers of the attention dialect ---------------------===//

#include "fa/Dialect/FA/IR/FA.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/OpImplementation.h"

using namespace mlir;
using namespace mlir::fa;

#define GET_OP_CLASSES
#include "fa/Dialect/FA/IR/FAOps.cpp.inc"

FloatType AttentionOp::getAccType() {
  Type element = cast<ShapedType>(getQ().getType()).getElementType();
  if (element.isF64())
    return Float64Type::get(getContext());
  return Float32Type::get(getContext());
}

APFloat AttentionOp::getDeadLseValue() {
  if (std::optional<APFloat> value = getDeadLse())
    return *value;
  return APFloat::getInf(APFloat::IEEEdouble(), /*Negative=*/true);
}

TypedValue<ShapedType> AttentionOp::getShaped(Operand operand) {
  Value values[] = {getQ(), getK(), getV(), getO(), getLse()};
  return cast<TypedValue<ShapedType>>(values[operand]);
}

std::optional<unsigned> AttentionOp::findDim(Operand operand, Dim dim) {
  for (auto [pos, expr] : llvm::enumerate(getMap(operand).getResults()))
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

OpFoldResult AttentionOp::getExtent(OpBuilder &builder, Dim dim) {
  // q first: it has the query heads, k and v only the key heads.
  for (Operand operand : {Q, O, LSE, K, V}) {
    bool isKey = operand == K || operand == V;
    if (dim == H && isKey)
      continue;
    if (std::optional<unsigned> pos = findDim(operand, dim))
      return getDimSize(builder, getLoc(), getShaped(operand), *pos);
  }
  return builder.getIndexAttr(1);
}

Value AttentionOp::getKeyHead(OpBuilder &builder, Value head) {
  Location loc = getLoc();
  for (Operand operand : {K, V}) {
    std::optional<unsigned> pos = findDim(operand, H);
    if (!pos)
      continue;
    AffineExpr expr = getMap(operand).getResult(*pos);
    if (isa<AffineDimExpr>(expr))
      return head;
    AffineExpr divisor = cast<AffineBinaryOpExpr>(expr).getRHS();
    OpFoldResult group;
    if (auto constant = dyn_cast<AffineConstantExpr>(divisor)) {
      group = builder.getIndexAttr(constant.getValue());
    } else {
      OpFoldResult heads = getExtent(builder, H);
      OpFoldResult keyHeads =
          getDimSize(builder, loc, getShaped(operand), *pos);
      auto staticHeads = getConstantIntValue(heads);
      auto staticKeyHeads = getConstantIntValue(keyHeads);
      if (staticHeads && staticKeyHeads)
        group = builder.getIndexAttr(*staticHeads / *staticKeyHeads);
      else
        group = arith::DivUIOp::create(
                    builder, loc,
                    getValueOrCreateConstantIndexOp(builder, loc, heads),
                    getValueOrCreateConstantIndexOp(builder, loc, keyHeads))
                    .getResult();
    }
    if (isConstantIntValue(group, 1))
      return head;
    return arith::DivUIOp::create(
        builder, loc, head,
        getValueOrCreateConstantIndexOp(builder, loc, group));
  }
  return head;
}

void AttentionOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
        &effects) {
  auto *resource = SideEffects::DefaultResource::get();
  for (OpOperand &operand : getOperation()->getOpOperands())
    if (isa<MemRefType>(operand.get().getType()))
      effects.emplace_back(MemoryEffects::Read::get(), &operand, resource);
  for (OpOperand *operand : {&getOMutable(), &getLseMutable()})
    if (isa<MemRefType>(operand->get().getType()))
      effects.emplace_back(MemoryEffects::Write::get(), operand, resource);
}

LogicalResult AttentionOp::verify() { return success(); }

LogicalResult GatherOp::verify() { return success(); }
