//===- Decompose.cpp - fa-decompose ---------------------------------------===//

#include "fa/Dialect/FA/Transforms/Passes.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"

namespace mlir::fa {
#define GEN_PASS_DEF_FADECOMPOSE
#include "fa/Dialect/FA/Transforms/Passes.h.inc"
} // namespace mlir::fa

using namespace mlir;
using namespace mlir::fa;
using Dim = AttentionOp::Dim;

namespace {
/// Emits the meaning of one attention, step by step as the op documents it.
class Decomposer {
public:
  explicit Decomposer(AttentionOp op)
      : op(op), builder(op), loc(op.getLoc()), accType(op.getAccType()) {}

  void run();

private:
  /// Coordinates of an element; those of absent dimensions are zero.
  using Coordinates = std::array<Value, 6>;
  using Body = function_ref<Value(const Coordinates &, ValueRange)>;

  /// A linalg.generic over `dims`; `reduced` is summed over, in `out`.
  Value generic(ArrayRef<Dim> dims, std::optional<Dim> reduced,
                ArrayRef<std::pair<Value, AffineMap>> ins,
                std::pair<Value, AffineMap> out, Body body);
  /// A new shaped value over `dims`, filled with `value`.
  Value allocate(ArrayRef<Dim> dims, Value value);
  AffineMap over(ArrayRef<Dim> dims);
  Value read(Value source, ValueRange indices);
  Value readKey(AttentionOp::Operand operand, const Coordinates &at);
  Value length(unsigned which, const Coordinates &global);
  Coordinates global(const Coordinates &at);
  Value score(Value raw, const Coordinates &at);
  Value keeps(const Coordinates &at);
  Value extend(Value value);
  Value constant(const APFloat &value) {
    APFloat converted = value;
    bool losesInfo;
    converted.convert(accType.getFloatSemantics(), APFloat::rmNearestTiesToEven,
                      &losesInfo);
    return arith::ConstantOp::create(builder, loc,
                                     builder.getFloatAttr(accType, converted));
  }
  Value constant(double value) { return constant(APFloat(value)); }
  Value index(int64_t value) {
    return arith::ConstantIndexOp::create(builder, loc, value);
  }
  Value compare(arith::CmpFPredicate predicate, Value lhs, Value rhs) {
    return arith::CmpFOp::create(builder, loc, predicate, lhs, rhs);
  }
  Value compare(arith::CmpIPredicate predicate, Value lhs, Value rhs) {
    return arith::CmpIOp::create(builder, loc, predicate, lhs, rhs);
  }
  Value select(Value condition, Value yes, Value no) {
    return arith::SelectOp::create(builder, loc, condition, yes, no);
  }

  AttentionOp op;
  OpBuilder builder;
  Location loc;
  FloatType accType;
  std::array<OpFoldResult, 6> extents;
  SmallVector<Value> temporaries;
};
} // namespace

//===----------------------------------------------------------------------===//
// Building blocks
//===----------------------------------------------------------------------===//

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

Value Decomposer::allocate(ArrayRef<Dim> dims, Value value) {
  SmallVector<OpFoldResult> sizes;
  for (Dim dim : dims)
    sizes.push_back(extents[dim]);
  Value empty;
  if (op.hasTensorSemantics()) {
    empty = tensor::EmptyOp::create(builder, loc, sizes, accType);
  } else {
    SmallVector<int64_t> shape;
    SmallVector<Value> dynamic;
    dispatchIndexOpFoldResults(sizes, dynamic, shape);
    empty = memref::AllocOp::create(builder, loc,
                                    MemRefType::get(shape, accType), dynamic);
    temporaries.push_back(empty);
  }
  return generic(dims, std::nullopt, {}, {empty, over(dims)},
                 [&](const Coordinates &, ValueRange) { return value; });
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

/// The element of k or v at `at`, whose head is a query head.
Value Decomposer::readKey(AttentionOp::Operand operand, const Coordinates &at) {
  SmallVector<Value> indices;
  for (AffineExpr expr : op.getMap(operand).getResults()) {
    for (unsigned dim = 0; dim < 6; ++dim)
      if (expr.isFunctionOfDim(dim))
        indices.push_back(
            dim == AttentionOp::H ? op.getKeyHead(builder, at[dim]) : at[dim]);
  }
  return extend(read(op.getShaped(operand), indices));
}

/// `at` in the whole problem.
Decomposer::Coordinates Decomposer::global(const Coordinates &at) {
  Coordinates result = at;
  for (auto [dim, origin] : llvm::enumerate(op.getOrigin()))
    result[dim] = arith::AddIOp::create(builder, loc, at[dim], origin);
  return result;
}

/// lq (`which` 0) or lk (1) of the batch at `global`, within the extents.
Value Decomposer::length(unsigned which, const Coordinates &global) {
  Value extent = getValueOrCreateConstantIndexOp(
      builder, loc, extents[which ? AttentionOp::N : AttentionOp::M]);
  if (op.getLengths().empty())
    return extent;
  Value value = op.getLengths()[which];
  // An index counts in whole-problem coordinates, of which the operands may be
  // a window of rows.
  if (value.getType().isIndex())
    return value;
  value = read(value, global[AttentionOp::B]);
  value =
      arith::IndexCastOp::create(builder, loc, builder.getIndexType(), value);
  value = arith::MaxSIOp::create(builder, loc, value, index(0));
  return arith::MinSIOp::create(builder, loc, value, extent);
}

//===----------------------------------------------------------------------===//
// Score and mask
//===----------------------------------------------------------------------===//

/// The score region applied to `raw` at whole-problem coordinates.
Value Decomposer::score(Value raw, const Coordinates &at) {
  if (op.getScore().empty())
    return raw;
  Block &body = op.getScore().front();
  IRMapping mapping;
  mapping.map(body.getArgument(0), raw);
  for (unsigned dim = 0; dim < 4; ++dim)
    mapping.map(body.getArgument(1 + dim), at[dim]);
  for (auto [number, capture] : llvm::enumerate(op.getCaptures())) {
    Value argument = body.getArgument(5 + number);
    auto access = dyn_cast<AffineMapAttr>((*op.getCaptureMaps())[number]);
    if (!access) {
      mapping.map(argument, capture);
      continue;
    }
    SmallVector<Value> indices;
    for (AffineExpr expr : access.getValue().getResults())
      indices.push_back(at[cast<AffineDimExpr>(expr).getPosition()]);
    mapping.map(argument, read(capture, indices));
  }
  for (Operation &inner : body.without_terminator()) {
    auto gather = dyn_cast<GatherOp>(inner);
    if (!gather) {
      builder.clone(inner, mapping);
      continue;
    }
    Value source = mapping.lookupOrDefault(gather.getSource());
    SmallVector<Value> indices;
    for (auto [pos, value] : llvm::enumerate(gather.getIndices())) {
      Value extent =
          isa<MemRefType>(source.getType())
              ? memref::DimOp::create(builder, loc, source, pos).getResult()
              : tensor::DimOp::create(builder, loc, source, pos).getResult();
      Value last = arith::SubIOp::create(builder, loc, extent, index(1));
      Value at = mapping.lookupOrDefault(value);
      at = arith::MinSIOp::create(builder, loc, at, last);
      indices.push_back(arith::MaxSIOp::create(builder, loc, at, index(0)));
    }
    mapping.map(gather.getResult(), read(source, indices));
  }
  return mapping.lookupOrDefault(body.getTerminator()->getOperand(0));
}

/// i1: `n < lk`, and one of the mask's sets holds the element.
Value Decomposer::keeps(const Coordinates &at) {
  Value lq = length(0, at), lk = length(1, at);
  Value keep = compare(arith::CmpIPredicate::slt, at[AttentionOp::N], lk);
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

//===----------------------------------------------------------------------===//
// The steps
//===----------------------------------------------------------------------===//

void Decomposer::run() {
  constexpr Dim dimM = AttentionOp::M, dimN = AttentionOp::N,
                dimD = AttentionOp::D, dimE = AttentionOp::E;
  for (unsigned dim = 0; dim < 6; ++dim)
    extents[dim] = op.getExtent(builder, Dim(dim));
  SmallVector<Dim> batch;
  for (Dim dim : {AttentionOp::B, AttentionOp::H})
    if (op.findDim(AttentionOp::Q, dim) || op.findDim(AttentionOp::O, dim))
      batch.push_back(dim);
  auto with = [&](std::initializer_list<Dim> dims) {
    SmallVector<Dim> result(batch);
    result.append(dims);
    return result;
  };
  Value zero = constant(0.0),
        ninf = constant(-std::numeric_limits<double>::infinity());

  // s = scale * q k^T, then score and mask; -inf where not kept.
  SmallVector<Dim> scoreDims = with({dimM, dimN}), rowDims = with({dimM});
  Value s = allocate(scoreDims, zero);
  s = generic(with({dimM, dimN, dimD}), dimD,
              {{op.getQ(), op.getMap(AttentionOp::Q)}}, {s, over(scoreDims)},
              [&](const Coordinates &at, ValueRange args) -> Value {
                Value product = arith::MulFOp::create(
                    builder, loc, extend(args[0]), readKey(AttentionOp::K, at));
                return arith::AddFOp::create(builder, loc, args[1], product);
              });
  s = generic(scoreDims, std::nullopt, {}, {s, over(scoreDims)},
              [&](const Coordinates &local, ValueRange args) -> Value {
                Coordinates at = global(local);
                Value scaled =
                    arith::MulFOp::create(builder, loc, args[0], op.getScale());
                return select(keeps(at), score(scaled, at), ninf);
              });

  // The reference of the exponentials is the largest score, NaN aside.
  Value max = allocate(rowDims, ninf);
  Value sum = allocate(rowDims, zero);
  Value initLse = op.getInitLse();
  AffineMap lseMap = op.getMap(AttentionOp::LSE);
  if (initLse)
    max = generic(
        rowDims, std::nullopt, {{initLse, lseMap}}, {max, over(rowDims)},
        [&](const Coordinates &, ValueRange args) -> Value { return args[0]; });
  max =
      generic(scoreDims, dimN, {{s, over(scoreDims)}}, {max, over(rowDims)},
              [&](const Coordinates &, ValueRange args) -> Value {
                return arith::MaxNumFOp::create(builder, loc, args[1], args[0]);
              });
  // exp(x - reference); 0 for -inf, even when the reference is -inf too.
  auto exponential = [&](Value x, Value reference) {
    Value difference = arith::SubFOp::create(builder, loc, x, reference);
    Value e = math::ExpOp::create(builder, loc, difference);
    return select(compare(arith::CmpFPredicate::OEQ, x, ninf), zero, e);
  };
  if (initLse)
    sum =
        generic(rowDims, std::nullopt,
                {{initLse, lseMap}, {max, over(rowDims)}}, {sum, over(rowDims)},
                [&](const Coordinates &, ValueRange args) -> Value {
                  return exponential(args[0], args[1]);
                });
  sum = generic(scoreDims, dimN, {{s, over(scoreDims)}, {max, over(rowDims)}},
                {sum, over(rowDims)},
                [&](const Coordinates &, ValueRange args) -> Value {
                  return arith::AddFOp::create(builder, loc, args[2],
                                               exponential(args[0], args[1]));
                });

  // A key that is not kept adds nothing, whatever its value.
  SmallVector<Dim> outDims = with({dimM, dimE});
  Value acc = allocate(outDims, zero);
  acc = generic(
      with({dimM, dimN, dimE}), dimN,
      {{s, over(scoreDims)}, {max, over(rowDims)}}, {acc, over(outDims)},
      [&](const Coordinates &at, ValueRange args) -> Value {
        Value product =
            arith::MulFOp::create(builder, loc, exponential(args[0], args[1]),
                                  readKey(AttentionOp::V, at));
        Value dropped = compare(arith::CmpFPredicate::OEQ, args[0], ninf);
        return arith::AddFOp::create(builder, loc, args[2],
                                     select(dropped, zero, product));
      });

  auto isDead = [&](const Coordinates &local, Value sum) -> Value {
    Coordinates at = global(local);
    Value beyond =
        compare(arith::CmpIPredicate::sge, at[AttentionOp::M], length(0, at));
    Value none = compare(arith::CmpFPredicate::OEQ, sum, zero);
    return arith::OrIOp::create(builder, loc, beyond, none);
  };
  Value o = generic(
      outDims, std::nullopt, {{acc, over(outDims)}, {sum, over(rowDims)}},
      {op.getO(), op.getMap(AttentionOp::O)},
      [&](const Coordinates &at, ValueRange args) -> Value {
        Value value = arith::DivFOp::create(builder, loc, args[0], args[1]);
        value = select(isDead(at, args[1]), zero, value);
        if (args[2].getType() != accType)
          value =
              arith::TruncFOp::create(builder, loc, args[2].getType(), value);
        return value;
      });
  Value lse = generic(
      rowDims, std::nullopt, {{sum, over(rowDims)}, {max, over(rowDims)}},
      {op.getLse(), lseMap},
      [&](const Coordinates &at, ValueRange args) -> Value {
        Value value = arith::AddFOp::create(
            builder, loc, math::LogOp::create(builder, loc, args[0]), args[1]);
        return select(isDead(at, args[0]), constant(op.getDeadLseValue()),
                      value);
      });

  for (Value temporary : temporaries)
    memref::DeallocOp::create(builder, loc, temporary);
  if (op.hasTensorSemantics())
    op->replaceAllUsesWith(ValueRange{o, lse});
  op.erase();
}

namespace {
struct Decompose : public fa::impl::FADecomposeBase<Decompose> {
  void runOnOperation() override {
    SmallVector<AttentionOp> ops;
    getOperation().walk([&](AttentionOp op) { ops.push_back(op); });
    for (AttentionOp op : ops)
      Decomposer(op).run();
  }
};
} // namespace
