//===- DecomposeBackward.cpp - The steps of fa.attention_backward ---------===//

#include "Decomposer.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;
using namespace mlir::fa;

namespace {
class Backward : public Decomposer {
public:
  explicit Backward(AttentionBackwardOp op)
      : Decomposer(op), op(op), scoreDims(with({M, N})), rowDims(with({M})),
        zero(constant(0.0)),
        ninf(constant(-std::numeric_limits<double>::infinity())) {}
  void run();

private:
  /// A value of the shape of `gradient`, filled with zeros, to sum in.
  Value zeros(Value gradient);
  /// Adds `value` to the element of `sum` at `indices`; returns the new sum.
  Value add(Value sum, ValueRange indices, Value value);
  /// Loops over `dims` that carry `sums`, which `body` replaces.
  SmallVector<Value>
  accumulate(ArrayRef<Dim> dims, ArrayRef<Value> sums,
             function_ref<void(const Coordinates &, MutableArrayRef<Value>)>);
  /// `factor * sum`, converted to the type of `gradient`, which it replaces.
  Value finish(Value sum, Value gradient, Value factor = {});
  Value readAt(Value scores, const Coordinates &at);
  Value isDropped(Value s) {
    return compare(arith::CmpFPredicate::OEQ, s, ninf);
  }

  Value delta();
  /// Adds `scores * other` to the element of `sum`, shaped like `operand`, that
  /// each score reads.
  Value sumOver(Operand operand, Value sum, Value scores, Operand by,
                Value other);
  /// The gradient with respect to the operand `operand`, in `gradient`: such a
  /// sum, times `factor`.
  Value gradientOf(Operand operand, Value gradient, Value scores, Operand by,
                   Value other, Value factor) {
    return finish(sumOver(operand, zeros(gradient), scores, by, other),
                  gradient, factor);
  }
  void captureGradients(Value raw, Value ds, SmallVectorImpl<Value> &results);

  AttentionBackwardOp op;
  Dims scoreDims, rowDims;
  Value zero, ninf;
  Value s; ///< Scores; -inf where not kept.
};
} // namespace

//===----------------------------------------------------------------------===//
// Sums to which several scores contribute
//===----------------------------------------------------------------------===//

Value Backward::zeros(Value gradient) {
  SmallVector<OpFoldResult> sizes;
  auto type = cast<ShapedType>(gradient.getType());
  for (int64_t pos = 0; pos < type.getRank(); ++pos)
    sizes.push_back(type.isDynamicDim(pos)
                        ? OpFoldResult(extent(gradient, pos))
                        : builder.getIndexAttr(type.getDimSize(pos)));
  Value sum = allocate(sizes);
  auto fill = linalg::FillOp::create(builder, loc, zero, sum);
  return op.hasTensorSemantics() ? fill.getResult(0) : sum;
}

Value Backward::add(Value sum, ValueRange indices, Value value) {
  Value next = binary<arith::AddFOp>(read(sum, indices), value);
  if (op.hasTensorSemantics())
    return tensor::InsertOp::create(builder, loc, next, sum, indices);
  memref::StoreOp::create(builder, loc, next, sum, indices);
  return sum;
}

SmallVector<Value> Backward::accumulate(
    ArrayRef<Dim> dims, ArrayRef<Value> sums,
    function_ref<void(const Coordinates &, MutableArrayRef<Value>)> body) {
  bool onTensors = op.hasTensorSemantics();
  Value start = index(0), step = index(1);
  SmallVector<Value> starts(dims.size(), start), steps(dims.size(), step), ends;
  for (Dim dim : dims)
    ends.push_back(getValueOrCreateConstantIndexOp(builder, loc, extents[dim]));
  auto nest = scf::buildLoopNest(
      builder, loc, starts, ends, steps,
      onTensors ? ValueRange(sums) : ValueRange(),
      [&](OpBuilder &inner, Location, ValueRange ivs, ValueRange carried) {
        OpBuilder::InsertionGuard guard(builder);
        builder.restoreInsertionPoint(inner.saveInsertionPoint());
        Coordinates at;
        at.fill(start);
        for (auto [dim, iv] : llvm::zip(dims, ivs))
          at[dim] = iv;
        SmallVector<Value> current(onTensors ? SmallVector<Value>(carried)
                                             : SmallVector<Value>(sums));
        body(at, current);
        inner.restoreInsertionPoint(builder.saveInsertionPoint());
        if (!onTensors)
          current.clear();
        return scf::ValueVector(current.begin(), current.end());
      });
  return onTensors ? SmallVector<Value>(nest.results)
                   : SmallVector<Value>(sums);
}

Value Backward::finish(Value sum, Value gradient, Value factor) {
  auto type = cast<ShapedType>(gradient.getType());
  AffineMap identity = builder.getMultiDimIdentityMap(type.getRank());
  SmallVector<utils::IteratorType> iterators(type.getRank(),
                                             utils::IteratorType::parallel);
  bool onTensors = op.hasTensorSemantics();
  auto generic = linalg::GenericOp::create(
      builder, loc, onTensors ? TypeRange(type) : TypeRange(), sum, gradient,
      {identity, identity}, iterators,
      [&](OpBuilder &inner, Location, ValueRange args) {
        Value value = args[0];
        if (factor)
          value = arith::MulFOp::create(inner, loc, value, factor);
        if (type.getElementType() != accType)
          value =
              arith::TruncFOp::create(inner, loc, type.getElementType(), value);
        linalg::YieldOp::create(inner, loc, value);
      });
  return onTensors ? generic.getResult(0) : gradient;
}

/// The element of a value over the scores.
Value Backward::readAt(Value scores, const Coordinates &at) {
  SmallVector<Value> indices;
  for (Dim dim : scoreDims)
    indices.push_back(at[dim]);
  return read(scores, indices);
}

//===----------------------------------------------------------------------===//
// The steps
//===----------------------------------------------------------------------===//

/// Step 2.
Value Backward::delta() {
  AffineMap oMap = op.getMap(op.O), lseMap = op.getMap(op.LSE);
  Value sum = allocate(rowDims, zero);
  sum = generic(
      with({M, E}), E, {{op.getO(), oMap}, {op.getDO(), oMap}},
      {sum, over(rowDims)}, [&](const Coordinates &, ValueRange args) {
        return binary<arith::AddFOp>(
            args[2], binary<arith::MulFOp>(extend(args[0]), extend(args[1])));
      });
  SmallVector<std::pair<Value, AffineMap>> ins = {{sum, over(rowDims)},
                                                  {op.getLse(), lseMap}};
  if (op.getDLse())
    ins.emplace_back(op.getDLse(), lseMap);
  return generic(
      rowDims, std::nullopt, ins, {op.getDelta(), lseMap},
      [&](const Coordinates &local, ValueRange args) {
        Coordinates at = global(local);
        Value value =
            op.getDLse() ? binary<arith::SubFOp>(args[0], args[2]) : args[0];
        Value isDead = binary<arith::OrIOp>(
            compare(arith::CmpIPredicate::sge, at[M], length(0, at)),
            compare(arith::CmpFPredicate::OEQ,
                    math::AbsFOp::create(builder, loc, args[1]),
                    constant(std::numeric_limits<double>::infinity())));
        return select(isDead, zero, value);
      });
}

/// Step 5. What is not kept is not multiplied.
Value Backward::sumOver(Operand operand, Value sum, Value scores, Operand by,
                        Value other) {
  return accumulate(with({M, N, operand == op.V ? E : D}), sum,
                    [&](const Coordinates &at, MutableArrayRef<Value> sums) {
                      Value score = readAt(scores, at);
                      Value product =
                          binary<arith::MulFOp>(score, element(by, other, at));
                      product = select(isDropped(readAt(s, at)), zero, product);
                      sums[0] = add(sums[0], indicesOf(operand, at), product);
                    })[0];
}

/// The gradients of captures: yielded, or accumulated by the region.
void Backward::captureGradients(Value raw, Value ds,
                                SmallVectorImpl<Value> &results) {
  ArrayRef<int64_t> captures = op.getDifferentiatedCaptures();
  SmallVector<Value> sums;
  for (Value gradient : op.getDCaptures())
    sums.push_back(zeros(gradient));
  sums = accumulate(
      scoreDims, sums,
      [&](const Coordinates &local, MutableArrayRef<Value> sums) {
        Coordinates at = global(local);
        Value dropped = isDropped(readAt(s, local));
        Value scaled = binary<arith::MulFOp>(readAt(raw, local), op.getScale());
        auto addTo = [&](unsigned number, ValueRange indices, Value value) {
          sums[number] =
              add(sums[number], indices, select(dropped, zero, value));
        };
        SmallVector<Value> yielded = inlineRegion(
            op.getDerivative(), scaled, at, readAt(ds, local),
            [&](AccumulateOp add, Value value, ValueRange indices) {
              addTo(llvm::find(captures, int64_t(add.getCapture())) -
                        captures.begin(),
                    indices, value);
            });
        ArrayRef<Value> left = ArrayRef(yielded).drop_front();
        for (auto [number, capture] : llvm::enumerate(captures)) {
          if (op.isGathered(capture))
            continue;
          SmallVector<Value> indices;
          if (auto map =
                  dyn_cast<AffineMapAttr>((*op.getCaptureMaps())[capture]))
            for (AffineExpr expr : map.getValue().getResults())
              indices.push_back(at[cast<AffineDimExpr>(expr).getPosition()]);
          addTo(number, indices, left.consume_front());
        }
      });
  for (auto [sum, gradient] : llvm::zip(sums, op.getDCaptures()))
    results.push_back(finish(sum, gradient));
}

void Backward::run() {
  SmallVector<Value> results;
  AffineMap lseMap = op.getMap(op.LSE);
  Value deltas = op.getDelta();
  if (!op.getDeltaKnown()) {
    deltas = delta();
    results.push_back(deltas);
  }

  // Step 1. -inf where not kept.
  Value raw = products();
  s = allocate(scoreDims, zero);
  s = generic(
      scoreDims, std::nullopt, {{raw, over(scoreDims)}, {op.getLse(), lseMap}},
      {s, over(scoreDims)}, [&](const Coordinates &local, ValueRange args) {
        Coordinates at = global(local);
        Value scaled = binary<arith::MulFOp>(args[0], op.getScale());
        Value infinite =
            compare(arith::CmpFPredicate::OEQ,
                    math::AbsFOp::create(builder, loc, args[1]),
                    constant(std::numeric_limits<double>::infinity()));
        Value beyond = compare(arith::CmpIPredicate::sge, at[M], length(0, at));
        Value dead = binary<arith::OrIOp>(infinite, beyond);
        return select(dead, ninf, select(keeps(at), score(scaled, at), ninf));
      });
  Value p = allocate(scoreDims, zero);
  p = generic(scoreDims, std::nullopt,
              {{s, over(scoreDims)}, {op.getLse(), lseMap}},
              {p, over(scoreDims)}, [&](const Coordinates &, ValueRange args) {
                Value e = math::ExpOp::create(
                    builder, loc, binary<arith::SubFOp>(args[0], args[1]));
                return select(isDropped(args[0]), zero, e);
              });

  // Steps 3 and 4.
  Value ds, dr;
  bool addsToSum = op.getDQSum() && (op.getDK() || op.getDV());
  if (op.getDQ() || op.getDK() || addsToSum || !op.getDCaptures().empty()) {
    Value dp = allocate(scoreDims, zero);
    dp = generic(with({M, N, E}), E, {{op.getDO(), op.getMap(op.O)}},
                 {dp, over(scoreDims)},
                 [&](const Coordinates &at, ValueRange args) {
                   Value product = binary<arith::MulFOp>(
                       extend(args[0]), element(op.V, op.getV(), at));
                   return binary<arith::AddFOp>(args[1], product);
                 });
    ds = allocate(scoreDims, zero);
    ds = generic(scoreDims, std::nullopt,
                 {{s, over(scoreDims)},
                  {p, over(scoreDims)},
                  {dp, over(scoreDims)},
                  {deltas, lseMap}},
                 {ds, over(scoreDims)},
                 [&](const Coordinates &, ValueRange args) {
                   Value value = binary<arith::MulFOp>(
                       args[1], binary<arith::SubFOp>(args[2], args[3]));
                   return select(isDropped(args[0]), zero, value);
                 });
    dr = ds;
  }
  if (dr && !op.getDerivative().empty()) {
    dr = allocate(scoreDims, zero);
    dr = generic(
        scoreDims, std::nullopt,
        {{s, over(scoreDims)}, {raw, over(scoreDims)}, {ds, over(scoreDims)}},
        {dr, over(scoreDims)}, [&](const Coordinates &local, ValueRange args) {
          Value scaled = binary<arith::MulFOp>(args[1], op.getScale());
          Value value = inlineRegion(op.getDerivative(), scaled, global(local),
                                     args[2])[0];
          return select(isDropped(args[0]), zero, value);
        });
  }

  // Step 5.
  if (Value sum = op.getDQSum()) {
    if (!op.getDeltaKnown())
      linalg::FillOp::create(builder, loc, zero, sum);
    // Without what fills it up.
    auto sizes = memref::getMixedSizes(builder, loc, op.getQ());
    SmallVector<OpFoldResult> zeros(sizes.size(), builder.getIndexAttr(0)),
        ones(sizes.size(), builder.getIndexAttr(1));
    sum = memref::SubViewOp::create(builder, loc, sum, zeros, sizes, ones);
    if (addsToSum)
      sumOver(op.Q, sum, dr, op.K, op.getK());
    if (Value gradient = op.getDQ())
      finish(sum, gradient, op.getScale());
  } else if (Value gradient = op.getDQ()) {
    results.push_back(
        gradientOf(op.Q, gradient, dr, op.K, op.getK(), op.getScale()));
  }
  if (Value gradient = op.getDK())
    results.push_back(
        gradientOf(op.K, gradient, dr, op.Q, op.getQ(), op.getScale()));
  if (Value gradient = op.getDV())
    results.push_back(gradientOf(op.V, gradient, p, op.O, op.getDO(), {}));
  if (!op.getDCaptures().empty())
    captureGradients(raw, ds, results);

  deallocate();
  if (op.hasTensorSemantics())
    op->replaceAllUsesWith(results);
  op.erase();
}

void fa::decompose(AttentionBackwardOp op) { Backward(op).run(); }
