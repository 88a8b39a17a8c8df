//===- DecomposeCombine.cpp - The steps of fa.combine ---------------------===//

#include "Decomposer.h"
#include "Utils.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;
using namespace mlir::fa;

namespace {
class Combiner {
public:
  explicit Combiner(CombineOp op)
      : op(op), builder(op), loc(op.getLoc()), accType(op.getAccType()),
        numDims(op.getMap(CombineOp::O).getNumDims()) {}
  void run();

private:
  using Operand = std::pair<Value, AffineMap>;
  using Body = function_ref<Value(ValueRange)>;

  /// A linalg.generic over the operands' dimensions; `parts`: the first one is
  /// reduced, in `out`.
  Value generic(bool parts, ArrayRef<Operand> ins, Operand out, Body body);
  /// A new shaped value like `like`, of accType, filled with `value`.
  Value filled(Operand like, Value value);
  Value constant(const APFloat &value);
  Value constant(double value) { return constant(APFloat(value)); }
  /// exp(x - reference); 0 for -inf, even when the reference is -inf too.
  Value exponential(Value x, Value reference);
  Value isDead(Value lse) {
    return arith::CmpFOp::create(
        builder, loc, arith::CmpFPredicate::OEQ, lse,
        constant(-std::numeric_limits<double>::infinity()));
  }

  CombineOp op;
  OpBuilder builder;
  Location loc;
  FloatType accType;
  unsigned numDims;
  SmallVector<Value> temporaries;
};
} // namespace

Value Combiner::constant(const APFloat &value) {
  return arith::ConstantOp::create(builder, loc, rounded(accType, value));
}

Value Combiner::exponential(Value x, Value reference) {
  Value difference = arith::SubFOp::create(builder, loc, x, reference);
  Value e = math::ExpOp::create(builder, loc, difference);
  return arith::SelectOp::create(builder, loc, isDead(x), constant(0.0), e);
}

Value Combiner::generic(bool parts, ArrayRef<Operand> ins, Operand out,
                        Body body) {
  // Only the dimensions that an operand has.
  SmallVector<AffineMap> maps;
  SmallVector<Value> inputs;
  for (auto [value, map] : ins) {
    inputs.push_back(value);
    maps.push_back(map);
  }
  maps.push_back(out.second);
  SmallVector<AffineExpr> renamed(numDims,
                                  getAffineConstantExpr(0, op.getContext()));
  SmallVector<utils::IteratorType> iterators;
  for (unsigned dim = 0; dim < numDims; ++dim) {
    if (llvm::none_of(maps,
                      [&](AffineMap map) { return map.isFunctionOfDim(dim); }))
      continue;
    renamed[dim] = builder.getAffineDimExpr(iterators.size());
    iterators.push_back(parts && dim == 0 ? utils::IteratorType::reduction
                                          : utils::IteratorType::parallel);
  }
  for (AffineMap &map : maps)
    map = map.replaceDimsAndSymbols(renamed, {}, iterators.size(), 0);
  bool onTensors = op.hasTensorSemantics();
  auto generic = linalg::GenericOp::create(
      builder, loc, onTensors ? TypeRange(out.first.getType()) : TypeRange(),
      inputs, out.first, maps, iterators,
      [&](OpBuilder &inner, Location, ValueRange arguments) {
        OpBuilder::InsertionGuard guard(builder);
        builder.restoreInsertionPoint(inner.saveInsertionPoint());
        Value result = body(arguments);
        linalg::YieldOp::create(builder, loc, result);
      });
  return onTensors ? generic.getResult(0) : out.first;
}

Value Combiner::filled(Operand like, Value value) {
  Value empty;
  if (op.hasTensorSemantics()) {
    empty = tensor::EmptyOp::create(
        builder, loc, tensor::getMixedSizes(builder, loc, like.first), accType);
  } else {
    SmallVector<int64_t> shape;
    SmallVector<Value> dynamic;
    dispatchIndexOpFoldResults(memref::getMixedSizes(builder, loc, like.first),
                               dynamic, shape);
    empty = memref::AllocOp::create(builder, loc,
                                    MemRefType::get(shape, accType), dynamic);
    temporaries.push_back(empty);
  }
  return generic(false, {}, {empty, like.second},
                 [&](ValueRange) { return value; });
}

void Combiner::run() {
  AffineMap oMap = op.getMap(CombineOp::O), lseMap = op.getMap(CombineOp::LSE);
  Operand oParts = {op.getOParts(), op.getMap(CombineOp::OParts)};
  Operand lseParts = {op.getLseParts(), op.getMap(CombineOp::LseParts)};
  Operand o = {op.getO(), oMap}, lse = {op.getLse(), lseMap};
  Value zero = constant(0.0),
        ninf = constant(-std::numeric_limits<double>::infinity());

  Value max = filled(lse, ninf), sum = filled(lse, zero);
  if (Value initLse = op.getInitLse()) {
    max = generic(false, {{initLse, lseMap}}, {max, lseMap},
                  [&](ValueRange args) { return args[0]; });
  }
  max = generic(true, {lseParts}, {max, lseMap}, [&](ValueRange args) -> Value {
    return arith::MaxNumFOp::create(builder, loc, args[1], args[0]);
  });
  if (Value initLse = op.getInitLse())
    sum = generic(false, {{initLse, lseMap}, {max, lseMap}}, {sum, lseMap},
                  [&](ValueRange args) -> Value {
                    return exponential(args[0], args[1]);
                  });
  sum = generic(true, {lseParts, {max, lseMap}}, {sum, lseMap},
                [&](ValueRange args) -> Value {
                  return arith::AddFOp::create(builder, loc, args[2],
                                               exponential(args[0], args[1]));
                });
  Value acc = filled(o, zero);
  acc = generic(true, {oParts, lseParts, {max, lseMap}}, {acc, oMap},
                [&](ValueRange args) -> Value {
                  Value product = arith::MulFOp::create(
                      builder, loc, exponential(args[1], args[2]), args[0]);
                  product = arith::SelectOp::create(
                      builder, loc, isDead(args[1]), zero, product);
                  return arith::AddFOp::create(builder, loc, args[3], product);
                });
  auto isZero = [&](Value value) -> Value {
    return arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OEQ, value,
                                 zero);
  };
  Value newO = generic(
      false, {{acc, oMap}, {sum, lseMap}}, o, [&](ValueRange args) -> Value {
        Value value = arith::DivFOp::create(builder, loc, args[0], args[1]);
        value =
            arith::SelectOp::create(builder, loc, isZero(args[1]), zero, value);
        if (args[2].getType() != accType)
          value =
              arith::TruncFOp::create(builder, loc, args[2].getType(), value);
        return value;
      });
  Value newLse = generic(
      false, {{sum, lseMap}, {max, lseMap}}, lse,
      [&](ValueRange args) -> Value {
        Value value = arith::AddFOp::create(
            builder, loc, math::LogOp::create(builder, loc, args[0]), args[1]);
        return arith::SelectOp::create(builder, loc, isZero(args[0]),
                                       constant(op.getDeadLseValue()), value);
      });
  for (Value temporary : temporaries)
    memref::DeallocOp::create(builder, loc, temporary);
  if (op.hasTensorSemantics())
    op->replaceAllUsesWith(ValueRange{newO, newLse});
  op.erase();
}

void fa::decompose(CombineOp op) { Combiner(op).run(); }
