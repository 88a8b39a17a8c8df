//===- Decomposer.cpp - What the decompositions have in common ------------===//

#include "Decomposer.h"
#include "Utils.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace mlir::fa;

//===----------------------------------------------------------------------===//
// Building blocks
//===----------------------------------------------------------------------===//

Decomposer::Decomposer(AttentionOpInterface op)
    : op(op), builder(op), loc(op.getLoc()), accType(op.getAccType()) {
  for (unsigned dim = 0; dim < 6; ++dim)
    extents[dim] = op.getExtent(builder, Dim(dim));
}

Decomposer::Dims Decomposer::with(std::initializer_list<Dim> dims) const {
  AttentionOpInterface problem = op;
  Dims result;
  for (Dim dim : {B, H})
    if (problem.findDim(problem.Q, dim) || problem.findDim(problem.O, dim))
      result.push_back(dim);
  result.append(dims);
  return result;
}

AffineMap Decomposer::over(ArrayRef<Dim> dims) {
  SmallVector<AffineExpr> exprs;
  for (Dim dim : dims)
    exprs.push_back(builder.getAffineDimExpr(dim));
  return AffineMap::get(6, 0, exprs, builder.getContext());
}

Value Decomposer::generic(ArrayRef<Dim> dims, std::optional<Dim> reduced,
                          ArrayRef<std::pair<Value, AffineMap>> ins,
                          std::pair<Value, AffineMap> out, Body body) {
  // The maps are over all six dimensions; the loops only over `dims`.
  SmallVector<AffineExpr> position(6, builder.getAffineConstantExpr(0));
  for (auto [pos, dim] : llvm::enumerate(dims))
    position[dim] = builder.getAffineDimExpr(pos);
  SmallVector<AffineMap> maps;
  SmallVector<Value> inputs;
  auto adapt = [&](AffineMap map) {
    return map.replaceDimsAndSymbols(
        position, {builder.getAffineConstantExpr(1)}, dims.size(), 0);
  };
  for (auto [value, map] : ins) {
    inputs.push_back(value);
    maps.push_back(adapt(map));
  }
  maps.push_back(adapt(out.second));
  SmallVector<utils::IteratorType> iterators;
  for (Dim dim : dims)
    iterators.push_back(dim == reduced ? utils::IteratorType::reduction
                                       : utils::IteratorType::parallel);
  bool onTensors = op.hasTensorSemantics();
  auto generic = linalg::GenericOp::create(
      builder, loc, onTensors ? TypeRange(out.first.getType()) : TypeRange(),
      inputs, out.first, maps, iterators,
      [&](OpBuilder &inner, Location, ValueRange arguments) {
        OpBuilder::InsertionGuard guard(builder);
        builder.restoreInsertionPoint(inner.saveInsertionPoint());
        Coordinates at;
        for (unsigned dim = 0; dim < 6; ++dim) {
          const Dim *found = llvm::find(dims, Dim(dim));
          at[dim] =
              found == dims.end()
                  ? index(0)
                  : linalg::IndexOp::create(builder, loc, found - dims.begin())
                        .getResult();
        }
        Value result = body(at, arguments);
        linalg::YieldOp::create(builder, loc, result);
      });
  return onTensors ? generic.getResult(0) : out.first;
}

Value Decomposer::allocate(ArrayRef<OpFoldResult> sizes) {
  if (op.hasTensorSemantics())
    return tensor::EmptyOp::create(builder, loc, sizes, accType);
  SmallVector<int64_t> shape;
  SmallVector<Value> dynamic;
  dispatchIndexOpFoldResults(sizes, dynamic, shape);
  Value memref = memref::AllocOp::create(
      builder, loc, MemRefType::get(shape, accType), dynamic);
  temporaries.push_back(memref);
  return memref;
}

Value Decomposer::allocate(ArrayRef<Dim> dims, Value value) {
  SmallVector<OpFoldResult> sizes;
  for (Dim dim : dims)
    sizes.push_back(extents[dim]);
  return generic(dims, std::nullopt, {}, {allocate(sizes), over(dims)},
                 [&](const Coordinates &, ValueRange) { return value; });
}

void Decomposer::deallocate() {
  for (Value temporary : temporaries)
    memref::DeallocOp::create(builder, loc, temporary);
}

Value Decomposer::read(Value source, ValueRange indices) {
  if (isa<MemRefType>(source.getType()))
    return memref::LoadOp::create(builder, loc, source, indices);
  return tensor::ExtractOp::create(builder, loc, source, indices);
}

Value Decomposer::extend(Value value) {
  if (value.getType() == accType)
    return value;
  return arith::ExtFOp::create(builder, loc, accType, value);
}

SmallVector<Value> Decomposer::indicesOf(Operand operand,
                                         const Coordinates &at) {
  bool isKey = operand == op.K || operand == op.V;
  SmallVector<Value> indices;
  for (AffineExpr expr : op.getMap(operand).getResults())
    for (unsigned dim = 0; dim < 6; ++dim)
      if (expr.isFunctionOfDim(dim))
        indices.push_back(isKey && dim == H ? op.getKeyHead(builder, at[dim])
                                            : at[dim]);
  return indices;
}

Value Decomposer::element(Operand operand, Value source,
                          const Coordinates &at) {
  return extend(read(source, indicesOf(operand, at)));
}

Value Decomposer::extent(Value source, unsigned pos) {
  if (isa<MemRefType>(source.getType()))
    return memref::DimOp::create(builder, loc, source, pos);
  return tensor::DimOp::create(builder, loc, source, pos);
}

Value Decomposer::constant(const APFloat &value) {
  return arith::ConstantOp::create(builder, loc, rounded(accType, value));
}

Value Decomposer::index(int64_t value) {
  return arith::ConstantIndexOp::create(builder, loc, value);
}

Decomposer::Coordinates Decomposer::global(const Coordinates &at) {
  Coordinates result = at;
  for (auto [dim, origin] : llvm::enumerate(op.getOrigin()))
    result[dim] = arith::AddIOp::create(builder, loc, at[dim], origin);
  return result;
}

Value Decomposer::length(unsigned which, const Coordinates &global) {
  Value extent =
      getValueOrCreateConstantIndexOp(builder, loc, extents[which ? N : M]);
  if (op.getLengths().empty())
    return extent;
  Value value = op.getLengths()[which];
  // An index counts in whole-problem coordinates, of which the operands may be
  // a window of rows.
  if (value.getType().isIndex())
    return value;
  value = read(value, global[B]);
  value =
      arith::IndexCastOp::create(builder, loc, builder.getIndexType(), value);
  value = arith::MaxSIOp::create(builder, loc, value, index(0));
  return arith::MinSIOp::create(builder, loc, value, extent);
}

//===----------------------------------------------------------------------===//
// Score and mask
//===----------------------------------------------------------------------===//

/// `indices` within `source`.
SmallVector<Value> Decomposer::clamped(ValueRange indices, Value source) {
  SmallVector<Value> result;
  for (auto [pos, value] : llvm::enumerate(indices)) {
    Value last = binary<arith::SubIOp>(extent(source, pos), index(1));
    Value at = binary<arith::MinSIOp>(value, last);
    result.push_back(binary<arith::MaxSIOp>(at, index(0)));
  }
  return result;
}

SmallVector<Value> Decomposer::inlineRegion(
    Region &region, Value raw, const Coordinates &at, ValueRange more,
    function_ref<void(AccumulateOp, Value, ValueRange)> accumulate) {
  Block &body = region.front();
  SmallVector<Value> arguments = {raw};
  llvm::append_range(arguments, ArrayRef(at).take_front(4));
  for (auto [number, capture] : llvm::enumerate(op.getCaptures())) {
    auto access = dyn_cast<AffineMapAttr>((*op.getCaptureMaps())[number]);
    if (!access) {
      arguments.push_back(capture);
      continue;
    }
    SmallVector<Value> indices;
    for (AffineExpr expr : access.getValue().getResults())
      indices.push_back(at[cast<AffineDimExpr>(expr).getPosition()]);
    arguments.push_back(read(capture, indices));
  }
  llvm::append_range(arguments, more);
  IRMapping mapping;
  mapping.map(body.getArguments(), arguments);
  auto lookup = [&](ValueRange values) {
    return llvm::map_to_vector(
        values, [&](Value value) { return mapping.lookupOrDefault(value); });
  };
  for (Operation &inner : body.without_terminator()) {
    if (auto gather = dyn_cast<GatherOp>(inner)) {
      Value source = mapping.lookupOrDefault(gather.getSource());
      mapping.map(gather.getResult(),
                  read(source, clamped(lookup(gather.getIndices()), source)));
    } else if (auto add = dyn_cast<AccumulateOp>(inner)) {
      if (accumulate)
        accumulate(add, mapping.lookupOrDefault(add.getValue()),
                   clamped(lookup(add.getIndices()),
                           op.getCaptures()[add.getCapture()]));
    } else {
      builder.clone(inner, mapping);
    }
  }
  return lookup(body.getTerminator()->getOperands());
}

Value Decomposer::score(Value raw, const Coordinates &at) {
  if (op.getScore().empty())
    return raw;
  return inlineRegion(op.getScore(), raw, at)[0];
}

Value Decomposer::keeps(const Coordinates &at) {
  Value lq = length(0, at), lk = length(1, at);
  Value keep = compare(arith::CmpIPredicate::slt, at[N], lk);
  if (!op.getMask())
    return keep;
  SmallVector<OpFoldResult> operands = {at[0], at[1], at[2], at[3], lq, lk};
  llvm::append_range(operands, op.getSymbols());
  Value any = arith::ConstantIntOp::create(builder, loc, 0, 1);
  for (IntegerSet set : op.getMask()->getSets()) {
    Value all = arith::ConstantIntOp::create(builder, loc, 1, 1);
    for (unsigned i = 0; i < set.getNumConstraints(); ++i) {
      Value value = getValueOrCreateConstantIndexOp(
          builder, loc,
          affine::makeComposedFoldedAffineApply(
              builder, loc,
              AffineMap::get(set.getNumDims(), set.getNumSymbols(),
                             set.getConstraint(i)),
              operands));
      Value holds = compare(set.isEq(i) ? arith::CmpIPredicate::eq
                                        : arith::CmpIPredicate::sge,
                            value, index(0));
      all = arith::AndIOp::create(builder, loc, all, holds);
    }
    any = arith::OrIOp::create(builder, loc, any, all);
  }
  return arith::AndIOp::create(builder, loc, keep, any);
}

Value Decomposer::products() {
  Dims scoreDims = with({M, N});
  Value zeros = allocate(scoreDims, constant(0.0));
  return generic(with({M, N, D}), D, {{op.getQ(), op.getMap(op.Q)}},
                 {zeros, over(scoreDims)},
                 [&](const Coordinates &at, ValueRange args) {
                   Value product = binary<arith::MulFOp>(
                       extend(args[0]), element(op.K, op.getK(), at));
                   return binary<arith::AddFOp>(args[1], product);
                 });
}
