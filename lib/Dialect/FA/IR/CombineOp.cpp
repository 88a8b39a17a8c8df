//===- CombineOp.cpp - fa.combine -----------------------------------------===//

#include "fa/Dialect/FA/IR/FA.h"

using namespace mlir;
using namespace mlir::fa;

APFloat CombineOp::getDeadLseValue() {
  return getDeadLse().value_or(
      APFloat::getInf(APFloat::IEEEdouble(), /*Negative=*/true));
}

SmallVector<OpOperand *> CombineOp::getDestinations() {
  return {&getOMutable(), &getLseMutable()};
}

void CombineOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
        &effects) {
  if (hasTensorSemantics())
    return;
  auto *resource = SideEffects::DefaultResource::get();
  SmallVector<OpOperand *> destinations = getDestinations();
  for (OpOperand &operand : (*this)->getOpOperands()) {
    bool isWritten = llvm::is_contained(destinations, &operand);
    if (isWritten)
      effects.emplace_back(MemoryEffects::Write::get(), &operand, resource);
    else
      effects.emplace_back(MemoryEffects::Read::get(), &operand, resource);
  }
}

LogicalResult CombineOp::verify() {
  static constexpr StringLiteral kNames[] = {"o_parts", "lse_parts", "o",
                                             "lse"};
  Value values[] = {getOParts(), getLseParts(), getO(), getLse()};
  if (getIndexingMaps().size() != 4)
    return emitOpError("[C1 maps] has ")
           << getIndexingMaps().size()
           << " indexing maps; give one each for o_parts, lse_parts, o and lse";
  unsigned numDims = getMap(OParts).getNumDims();
  SmallVector<std::optional<int64_t>> extents(numDims);
  for (unsigned i = 0; i < 4; ++i) {
    AffineMap map = getMap(Operand(i));
    auto type = cast<ShapedType>(values[i].getType());
    if (map.getNumDims() != numDims || numDims < 3 || map.getNumSymbols())
      return emitOpError("[C1 maps] the map of ")
             << kNames[i] << " has " << map.getNumDims() << " dimensions and "
             << map.getNumSymbols()
             << " symbols; all maps need the same (s, rows..., e), no symbols";
    if (!map.isProjectedPermutation())
      return emitOpError("[C2 map-form] the map of ")
             << kNames[i] << " is " << AffineMapAttr::get(map)
             << "; use each dimension at most once, as it is";
    if (map.getNumResults() != type.getRank())
      return emitOpError("[C3 map-rank] the map of ")
             << kNames[i] << " has " << map.getNumResults() << " results but "
             << kNames[i] << " has rank " << type.getRank()
             << "; give one result per dimension";
    for (unsigned dim = 0; dim < numDims; ++dim) {
      bool wanted =
          (dim != 0 || i < O) && (dim != numDims - 1 || i == OParts || i == O);
      if (map.isFunctionOfDim(dim) != wanted)
        return emitOpError("[C4 roles] ")
               << kNames[i] << (wanted ? " does not run" : " runs")
               << " along dimension " << dim << " of " << numDims
               << "; only parts run along the first, only o_parts and o along "
                  "the last, and all along the rows between";
    }
    for (auto [pos, expr] : llvm::enumerate(map.getResults())) {
      if (type.isDynamicDim(pos))
        continue;
      unsigned dim = cast<AffineDimExpr>(expr).getPosition();
      int64_t own = type.getDimSize(pos);
      if (extents[dim] && *extents[dim] != own)
        return emitOpError("[C5 extents] dimension ")
               << dim << " has extent " << own << " in " << kNames[i] << " and "
               << *extents[dim] << " in an operand before it; they must agree";
      extents[dim] = own;
    }
  }
  Type acc = getElementTypeOrSelf(getLse().getType());
  Type out = getElementTypeOrSelf(getO().getType());
  if (!acc.isF32() && !acc.isF64())
    return emitOpError("[C6 dtypes] lse holds ")
           << acc << "; it must hold f32 or f64";
  for (unsigned i : {OParts, LseParts})
    if (getElementTypeOrSelf(values[i].getType()) != acc)
      return emitOpError("[C6 dtypes] ")
             << kNames[i] << " holds "
             << getElementTypeOrSelf(values[i].getType()) << " but lse holds "
             << acc << "; they must hold one type";
  if (out != acc && !out.isF16() && !out.isBF16())
    return emitOpError("[C6 dtypes] o holds ")
           << out << "; it must hold f16, bf16 or " << acc;
  for (Value operand : getOperands())
    if (isa<RankedTensorType>(operand.getType()) != hasTensorSemantics())
      return emitOpError("[C7 storage] has an operand of type ")
             << operand.getType() << " but o is " << getO().getType()
             << "; use tensors for all operands or memrefs for all";
  SmallVector<Type> expected;
  if (hasTensorSemantics())
    expected = {getO().getType(), getLse().getType()};
  if ((*this)->getResultTypes() != TypeRange(expected))
    return emitOpError("[C8 results] has results of types ")
           << (*this)->getResultTypes()
           << "; it must have the types of o and lse with tensors and none "
              "with memrefs";
  if (getInitLse()) {
    auto init = cast<ShapedType>(getInitLse().getType());
    auto lse = cast<ShapedType>(getLse().getType());
    if (init.getElementType() != lse.getElementType() ||
        failed(verifyCompatibleShape(init, lse)))
      return emitOpError("[C9 init-lse] init_lse is ")
             << init << " but lse is " << lse
             << "; they must have one shape and element type";
  }
  return success();
}
