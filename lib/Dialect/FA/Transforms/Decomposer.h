//===- Decomposer.h - What the decompositions have in common ----*- C++ -*-===//

#ifndef FA_DIALECT_FA_TRANSFORMS_DECOMPOSER_H
#define FA_DIALECT_FA_TRANSFORMS_DECOMPOSER_H

#include "fa/Dialect/FA/IR/FA.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Builders.h"

namespace mlir::fa {

/// Rewrite one operation, step by step as it documents its meaning.
void decompose(AttentionOp op);
void decompose(AttentionBackwardOp op);
void decompose(CombineOp op);

/// Building blocks of a decomposition: loops over the iteration space, elements
/// of operands, score and mask of one element.
class Decomposer : protected AttentionSpace {
protected:
  explicit Decomposer(AttentionOpInterface op);

  /// Coordinates of an element; those of absent dimensions are zero.
  using Coordinates = std::array<Value, 6>;
  using Body = function_ref<Value(const Coordinates &, ValueRange)>;
  using Dims = SmallVector<Dim, 6>;

  /// The batch and head dimensions that the problem has, then `dims`.
  Dims with(std::initializer_list<Dim> dims) const;
  AffineMap over(ArrayRef<Dim> dims);
  /// A linalg.generic over `dims`; `reduced` is summed over, in `out`.
  Value generic(ArrayRef<Dim> dims, std::optional<Dim> reduced,
                ArrayRef<std::pair<Value, AffineMap>> ins,
                std::pair<Value, AffineMap> out, Body body);
  /// A new shaped value of accType, uninitialised.
  Value allocate(ArrayRef<OpFoldResult> sizes);
  /// A new shaped value over `dims`, filled with `value`.
  Value allocate(ArrayRef<Dim> dims, Value value);
  /// Frees what was allocated.
  void deallocate();

  Value read(Value source, ValueRange indices);
  /// The position of the element of `operand` at `at`, which has a query head.
  SmallVector<Value> indicesOf(Operand operand, const Coordinates &at);
  /// The element of `source`, which has the map of `operand`, as accType.
  Value element(Operand operand, Value source, const Coordinates &at);
  Value extent(Value source, unsigned pos);
  /// lq (`which` 0) or lk (1) of the batch at `global`, within the extents.
  Value length(unsigned which, const Coordinates &global);
  /// `at` in the whole problem.
  Coordinates global(const Coordinates &at);
  /// sum_d q * k, for every score.
  Value products();

  /// The values that `region` yields at whole-problem coordinates `at`. Its
  /// fa.accumulate are handed to `accumulate`, or dropped without one.
  SmallVector<Value> inlineRegion(
      Region &region, Value raw, const Coordinates &at, ValueRange more = {},
      function_ref<void(AccumulateOp, Value, ValueRange)> accumulate = {});
  /// The score region applied to `raw` at whole-problem coordinates.
  Value score(Value raw, const Coordinates &at);
  /// i1: `n < lk`, and one of the mask's sets holds the element.
  Value keeps(const Coordinates &at);

  Value extend(Value value);
  Value constant(const APFloat &value);
  Value constant(double value) { return constant(APFloat(value)); }
  Value index(int64_t value);
  Value compare(arith::CmpFPredicate predicate, Value lhs, Value rhs) {
    return arith::CmpFOp::create(builder, loc, predicate, lhs, rhs);
  }
  Value compare(arith::CmpIPredicate predicate, Value lhs, Value rhs) {
    return arith::CmpIOp::create(builder, loc, predicate, lhs, rhs);
  }
  Value select(Value condition, Value yes, Value no) {
    return arith::SelectOp::create(builder, loc, condition, yes, no);
  }
  template <typename OpTy> Value binary(Value lhs, Value rhs) {
    return OpTy::create(builder, loc, lhs, rhs);
  }

private:
  SmallVector<Value> clamped(ValueRange indices, Value source);

  AttentionOpInterface op;

protected:
  OpBuilder builder;
  Location loc;
  FloatType accType;
  std::array<OpFoldResult, 6> extents;

private:
  SmallVector<Value> temporaries;
};

} // namespace mlir::fa

#endif // FA_DIALECT_FA_TRANSFORMS_DECOMPOSER_H
