//===- Launch.cpp - How a compiled function is launched -------------------===//

#include "fa/Conversion/Launch.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/AffineMap.h"

using namespace mlir;
using namespace mlir::fa;

DictionaryAttr LaunchGrid::getAttr(MLIRContext *context,
                                   ArrayRef<NamedAttribute> extra) const {
  Builder b(context);
  SmallVector<NamedAttribute> attrs = {
      b.getNamedAttr("grid", AffineMapAttr::get(extents)),
      b.getNamedAttr("grid_symbols", b.getDenseI64ArrayAttr(symbols))};
  attrs.append(extra.begin(), extra.end());
  return b.getDictionaryAttr(attrs);
}

FailureOr<scf::ForallOp> mlir::fa::getGridLoop(func::FuncOp func) {
  SmallVector<scf::ForallOp> loops;
  func.walk([&](scf::ForallOp loop) { loops.push_back(loop); });
  if (loops.size() != 1 || loops.front()->getParentOp() != func)
    return func.emitOpError("has ")
           << loops.size()
           << " scf.forall; a launch is made of exactly one, at the top level "
              "of the function";
  scf::ForallOp loop = loops.front();
  if (loop->getNumResults())
    return loop.emitOpError("has results; the grid loop must write its results "
                            "to memrefs");
  if (!loop.isNormalized())
    return loop.emitOpError("must start at 0 with step 1 to become a grid");
  return loop;
}

namespace {
/// Turns index values into affine expressions over symbols of the launch.
class GridBuilder {
public:
  explicit GridBuilder(func::FuncOp func) : func(func) {}

  FailureOr<AffineExpr> visit(Value value);
  SmallVector<int64_t> symbols;

private:
  AffineExpr symbol(int64_t arg, int64_t dim);

  func::FuncOp func;
};
} // namespace

AffineExpr GridBuilder::symbol(int64_t arg, int64_t dim) {
  size_t position = 0;
  for (; position < symbols.size(); position += 2)
    if (symbols[position] == arg && symbols[position + 1] == dim)
      break;
  if (position == symbols.size())
    symbols.append({arg, dim});
  return getAffineSymbolExpr(position / 2, func.getContext());
}

FailureOr<AffineExpr> GridBuilder::visit(Value value) {
  if (std::optional<int64_t> constant = getConstantIntValue(value))
    return getAffineConstantExpr(*constant, func.getContext());
  if (auto arg = dyn_cast<BlockArgument>(value))
    if (arg.getOwner() == &func.getBody().front())
      return symbol(arg.getArgNumber(), -1);
  Operation *op = value.getDefiningOp();
  if (auto dim = dyn_cast_or_null<memref::DimOp>(op)) {
    auto arg = dyn_cast<BlockArgument>(dim.getSource());
    std::optional<int64_t> index = dim.getConstantIndex();
    auto type = arg ? dyn_cast<MemRefType>(arg.getType()) : MemRefType();
    if (type && index && *index >= 0 && *index < type.getRank() &&
        arg.getOwner() == &func.getBody().front()) {
      int64_t extent = type.getDimSize(*index);
      if (ShapedType::isStatic(extent))
        return getAffineConstantExpr(extent, func.getContext());
      return symbol(arg.getArgNumber(), *index);
    }
  }
  if (auto apply = dyn_cast_or_null<affine::AffineApplyOp>(op)) {
    SmallVector<AffineExpr> operands;
    for (Value operand : apply.getOperands()) {
      FailureOr<AffineExpr> expr = visit(operand);
      if (failed(expr))
        return failure();
      operands.push_back(*expr);
    }
    AffineMap map = apply.getAffineMap();
    ArrayRef<AffineExpr> all(operands);
    return map.getResult(0).replaceDimsAndSymbols(
        all.take_front(map.getNumDims()), all.drop_front(map.getNumDims()));
  }
  if (isa_and_nonnull<arith::AddIOp, arith::SubIOp, arith::MulIOp,
                      arith::DivUIOp>(op)) {
    FailureOr<AffineExpr> lhs = visit(op->getOperand(0));
    FailureOr<AffineExpr> rhs = visit(op->getOperand(1));
    if (failed(lhs) || failed(rhs))
      return failure();
    if (isa<arith::AddIOp>(op))
      return *lhs + *rhs;
    if (isa<arith::SubIOp>(op))
      return *lhs - *rhs;
    if (isa<arith::DivUIOp>(op))
      return lhs->floorDiv(*rhs);
    return *lhs * *rhs;
  }
  InFlightDiagnostic diag = func.emitOpError(
      "the extents of the grid must be composed of "
      "affine.apply, arith.addi/subi/muli/divui, memref.dim of "
      "function arguments, index arguments and constants");
  diag.attachNote(value.getLoc()) << "but this value is none of them";
  return diag;
}

FailureOr<LaunchGrid> mlir::fa::computeLaunchGrid(func::FuncOp func) {
  FailureOr<scf::ForallOp> loop = getGridLoop(func);
  if (failed(loop))
    return failure();
  MLIRContext *context = func.getContext();
  GridBuilder builder(func);
  SmallVector<AffineExpr> extents;
  for (OpFoldResult bound : loop->getMixedUpperBound()) {
    if (std::optional<int64_t> constant = getConstantIntValue(bound)) {
      extents.push_back(getAffineConstantExpr(*constant, context));
      continue;
    }
    FailureOr<AffineExpr> extent = builder.visit(cast<Value>(bound));
    if (failed(extent))
      return failure();
    extents.push_back(*extent);
  }
  LaunchGrid grid;
  grid.extents = simplifyAffineMap(
      AffineMap::get(0, builder.symbols.size() / 2, extents, context));
  grid.symbols = std::move(builder.symbols);
  return grid;
}

ArrayAttr mlir::fa::getArgsAttr(func::FuncOp func) {
  return Builder(func.getContext()).getTypeArrayAttr(func.getArgumentTypes());
}
