//===- FAOps.cpp - Verifiers of the attention dialect ---------------------===//

#include "fa/Dialect/FA/IR/FA.h"
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
