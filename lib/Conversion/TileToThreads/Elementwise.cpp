//===- Elementwise.cpp - Elementwise tile operations, per register --------===//

#include "Patterns.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::tl;

/// Offsets of a register along all dims but `dropped`, as a key.
static SmallVector<int64_t> offsetsOf(FragmentAttr layout, int64_t index,
                                      int64_t rank, int64_t dropped = -1) {
  SmallVector<int64_t> offsets;
  for (int64_t dim = 0; dim < rank; ++dim)
    if (dim != dropped)
      offsets.push_back(layout.registerOffset(index, dim));
  return offsets;
}

namespace {

/// Any operation with the Elementwise trait: once per register.
struct ElementwisePattern : ConversionPattern {
  ElementwisePattern(const TypeConverter &converter, MLIRContext *context)
      : ConversionPattern(converter, MatchAnyOpTypeTag(), 1, context) {}

  LogicalResult
  matchAndRewrite(Operation *op, ArrayRef<ValueRange> operands,
                  ConversionPatternRewriter &rewriter) const override {
    if (!op->hasTrait<OpTrait::Elementwise>() || op->getNumResults() != 1)
      return failure();
    auto type = dyn_cast<RankedTensorType>(op->getResult(0).getType());
    if (!type)
      return failure();
    size_t count = layoutOf(type).numRegisters();
    SmallVector<Value> results;
    for (size_t i = 0; i < count; ++i) {
      SmallVector<Value> scalars;
      for (ValueRange registers : operands)
        scalars.push_back(registers.size() == 1 ? registers[0] : registers[i]);
      OperationState state(op->getLoc(), op->getName(), scalars,
                           type.getElementType(), op->getAttrs());
      results.push_back(rewriter.create(state)->getResult(0));
    }
    rewriter.replaceOpWithMultiple(op, {results});
    return success();
  }
};

/// Two f32 registers round to 16 bits in one instruction, if asked as a vector.
struct TruncFPattern : OpConversionPattern<arith::TruncFOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(arith::TruncFOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    auto type = dyn_cast<RankedTensorType>(op.getType());
    ValueRange in = adaptor.getIn();
    if (!type || type.getElementTypeBitWidth() != 16 || in.size() % 2 ||
        !in[0].getType().isF32())
      return failure();
    Location loc = op.getLoc();
    auto wide = VectorType::get(2, in[0].getType());
    auto narrow = VectorType::get(2, type.getElementType());
    SmallVector<Value> results;
    for (size_t i = 0; i < in.size(); i += 2) {
      Value pair = vector::FromElementsOp::create(rewriter, loc, wide,
                                                  ValueRange{in[i], in[i + 1]});
      pair = arith::TruncFOp::create(rewriter, loc, narrow, pair);
      for (int64_t lane : {0, 1})
        results.push_back(vector::ExtractOp::create(rewriter, loc, pair, lane));
    }
    rewriter.replaceOpWithMultiple(op, {results});
    return success();
  }
};

struct ConstantPattern : OpConversionPattern<arith::ConstantOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(arith::ConstantOp op, OpAdaptor,
                  ConversionPatternRewriter &rewriter) const override {
    auto type = dyn_cast<RankedTensorType>(op.getType());
    auto value = dyn_cast<SplatElementsAttr>(op.getValue());
    if (!type || !value)
      return failure();
    Value scalar = arith::ConstantOp::create(
        rewriter, op.getLoc(),
        cast<TypedAttr>(value.getSplatValue<Attribute>()));
    SmallVector<Value> results(layoutOf(type).numRegisters(), scalar);
    rewriter.replaceOpWithMultiple(op, {results});
    return success();
  }
};

struct SplatPattern : OpConversionPattern<SplatOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(SplatOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    SmallVector<Value> results(layoutOf(op.getType()).numRegisters(),
                               adaptor.getValue());
    rewriter.replaceOpWithMultiple(op, {results});
    return success();
  }
};

struct IotaPattern : OpConversionPattern<IotaOp> {
  IotaPattern(const TypeConverter &converter, MLIRContext *context,
              KernelContext &kernel)
      : OpConversionPattern(converter, context), kernel(kernel) {}
  LogicalResult
  matchAndRewrite(IotaOp op, OpAdaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    FragmentAttr layout = layoutOf(op.getType());
    Type element = cast<RankedTensorType>(op.getType()).getElementType();
    if (!element.isInteger(32))
      return rewriter.notifyMatchFailure(op, "coordinates are i32 on threads");
    Value base = threadOffset(rewriter, loc, kernel, kernel.teamOf(op), layout,
                              op.getDim());
    SmallVector<Value> results;
    for (int64_t i = 0, e = layout.numRegisters(); i < e; ++i)
      results.push_back(arith::AddIOp::create(
          rewriter, loc, base,
          constantI32(rewriter, loc, layout.registerOffset(i, op.getDim()))));
    rewriter.replaceOpWithMultiple(op, {results});
    return success();
  }
  KernelContext &kernel;
};

struct BroadcastPattern : OpConversionPattern<BroadcastOp> {
  BroadcastPattern(const TypeConverter &converter, MLIRContext *context,
                   KernelContext &kernel)
      : OpConversionPattern(converter, context), kernel(kernel) {}
  LogicalResult
  matchAndRewrite(BroadcastOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    FragmentAttr large = layoutOf(op.getResult().getType());
    FragmentAttr small = layoutOf(op.getSource().getType());
    if (op.getDim() == 0 && small == large.spreadColumns() &&
        getElementTypeOrSelf(op.getSource().getType()).isF32()) {
      rewriter.replaceOpWithMultiple(
          op, {shuffled(op, adaptor.getSource(), large, rewriter)});
      return success();
    }
    if (small != large.dropDim(op.getDim()))
      return op.emitError(
          "the source is not laid out as a slice of the result");
    int64_t rank = cast<RankedTensorType>(op.getResult().getType()).getRank();
    SmallVector<Value> results;
    for (int64_t i = 0, e = large.numRegisters(); i < e; ++i)
      results.push_back(adaptor.getSource()[small.findRegister(
          offsetsOf(large, i, rank, op.getDim()))]);
    rewriter.replaceOpWithMultiple(op, {results});
    return success();
  }

  /// Every column from the lane that holds it.
  SmallVector<Value> shuffled(BroadcastOp op, ValueRange source,
                              FragmentAttr large,
                              ConversionPatternRewriter &rewriter) const {
    Location loc = op.getLoc();
    // The first column of the lane, two of each eight.
    Value first = arith::ShLIOp::create(
        rewriter, loc,
        arith::AndIOp::create(rewriter, loc, kernel.lane,
                              constantI32(rewriter, loc, 3)),
        constantI32(rewriter, loc, 1));
    DenseMap<int64_t, Value> columns;
    SmallVector<Value> results;
    for (int64_t reg = 0, e = large.numRegisters(); reg < e; ++reg) {
      int64_t column = large.registerOffset(reg, 1);
      Value &value = columns[column];
      if (!value) {
        Value lane = arith::AddIOp::create(
            rewriter, loc, first, constantI32(rewriter, loc, column % 32));
        Value held = source[column / 32];
        value = NVVM::ShflOp::create(rewriter, loc, held.getType(),
                                     constantI32(rewriter, loc, -1), held, lane,
                                     constantI32(rewriter, loc, 31),
                                     NVVM::ShflKind::idx, UnitAttr());
      }
      results.push_back(value);
    }
    return results;
  }

  KernelContext &kernel;
};

/// In a balanced tree, which keeps the dependent chain short.
static Value combineInTree(SmallVector<Value> values,
                           function_ref<Value(Value, Value)> combine) {
  while (values.size() > 1) {
    SmallVector<Value> next;
    for (size_t i = 0; i + 1 < values.size(); i += 2)
      next.push_back(combine(values[i], values[i + 1]));
    if (values.size() % 2)
      next.push_back(values.back());
    values = std::move(next);
  }
  return values.front();
}

struct ReducePattern : OpConversionPattern<ReduceOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(ReduceOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    FragmentAttr large = layoutOf(op.getSource().getType());
    FragmentAttr small = layoutOf(op.getResult().getType());
    if (small != large.dropDim(op.getDim()))
      return op.emitError(
          "the result is not laid out as a slice of the source");
    for (const FragmentAttr::Mode &mode : large.warpModes())
      if (mode.dim == int64_t(op.getDim()) && mode.stride && mode.extent > 1)
        return op.emitError("reduces along a dimension that is spread over "
                            "warps; give each warp whole rows");
    int64_t rank = cast<RankedTensorType>(op.getSource().getType()).getRank();
    auto combine = [&](Value a, Value b) -> Value {
      if (op.getKind() == ReduceKind::max)
        return arith::MaxNumFOp::create(rewriter, loc, a, b);
      return arith::AddFOp::create(rewriter, loc, a, b);
    };
    // Registers first.
    SmallVector<SmallVector<Value>> groups(small.numRegisters());
    for (int64_t i = 0, e = large.numRegisters(); i < e; ++i)
      groups[small.findRegister(offsetsOf(large, i, rank, op.getDim()))]
          .push_back(adaptor.getSource()[i]);
    SmallVector<Value> results;
    for (SmallVector<Value> &group : groups) {
      Value value = combineInTree(group, combine);
      int64_t below = 1;
      for (const FragmentAttr::Mode &mode : large.laneModes()) {
        if (mode.dim == int64_t(op.getDim()) && mode.stride)
          for (int64_t bit = 1; bit < mode.extent; bit *= 2) {
            Value other = NVVM::ShflOp::create(
                rewriter, loc, value.getType(), constantI32(rewriter, loc, -1),
                value, constantI32(rewriter, loc, below * bit),
                constantI32(rewriter, loc, 31), NVVM::ShflKind::bfly,
                UnitAttr());
            value = combine(value, other);
          }
        below *= mode.extent;
      }
      results.push_back(value);
    }
    rewriter.replaceOpWithMultiple(op, {results});
    return success();
  }
};

/// Every lane adds what it holds of a row.
struct PartialSumsPattern : OpConversionPattern<PartialSumsOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(PartialSumsOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    FragmentAttr large = layoutOf(op.getSource().getType());
    FragmentAttr small = layoutOf(op.getResult().getType());
    if (small != large.sumColumns())
      return op.emitError("the result is not laid out as the partial sums of "
                          "the source");
    SmallVector<SmallVector<Value>> rows(small.numRegisters());
    for (auto [i, value] : llvm::enumerate(adaptor.getSource()))
      rows[small.findRegister({large.registerOffset(i, 0), 0})].push_back(
          value);
    SmallVector<Value> results;
    for (SmallVector<Value> &row : rows)
      results.push_back(combineInTree(row, [&](Value a, Value b) -> Value {
        return arith::AddFOp::create(rewriter, op.getLoc(), a, b);
      }));
    rewriter.replaceOpWithMultiple(op, {results});
    return success();
  }
};

/// Whether `condition` holds in any lane of the warp.
static Value anyLane(OpBuilder &builder, Location loc, Value condition) {
  return NVVM::VoteSyncOp::create(builder, loc, builder.getI1Type(),
                                  constantI32(builder, loc, -1), condition,
                                  NVVM::VoteSyncKind::any);
}

/// Every warp asks about its own elements.
struct NonfinitePattern : OpConversionPattern<NonfiniteOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(NonfiniteOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    Type f32 = rewriter.getF32Type();
    Type type = getElementTypeOrSelf(op.getSource().getType());
    if (type.getIntOrFloatBitWidth() > 32)
      return op.emitError("asks about elements of ")
             << type << "; on a GPU they have 32 bits at most";
    // NaN and infinity times 0 are NaN. A few sums: short chains.
    constexpr size_t kSums = 4;
    Value zero =
        arith::ConstantOp::create(rewriter, loc, rewriter.getF32FloatAttr(0.0));
    std::array<Value, kSums> sums;
    sums.fill(zero);
    for (auto [i, element] : llvm::enumerate(adaptor.getSource())) {
      Value number = element;
      if (number.getType() != f32)
        number = arith::ExtFOp::create(rewriter, loc, f32, number);
      Value &sum = sums[i % kSums];
      sum = math::FmaOp::create(rewriter, loc, number, zero, sum);
    }
    Value sum = sums[0];
    for (Value other : ArrayRef(sums).drop_front())
      sum = arith::AddFOp::create(rewriter, loc, sum, other);
    Value any = arith::CmpFOp::create(rewriter, loc, arith::CmpFPredicate::UNO,
                                      sum, zero);
    rewriter.replaceOp(op, anyLane(rewriter, loc, any));
    return success();
  }
};

/// Every warp asks about its own elements.
struct ExceedsPattern : OpConversionPattern<ExceedsOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(ExceedsOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    Value limit = adaptor.getLimit()[0], any;
    for (Value element : adaptor.getTile()) {
      Value exceeds = arith::CmpFOp::create(
          rewriter, loc, arith::CmpFPredicate::OGT, element, limit);
      any = any ? arith::OrIOp::create(rewriter, loc, any, exceeds) : exceeds;
    }
    rewriter.replaceOp(op, anyLane(rewriter, loc, any));
    return success();
  }
};

struct RowsHeldPattern : OpConversionPattern<RowsHeldOp> {
  RowsHeldPattern(const TypeConverter &converter, MLIRContext *context,
                  KernelContext &kernel)
      : OpConversionPattern(converter, context), kernel(kernel) {}
  LogicalResult
  matchAndRewrite(RowsHeldOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    const Team &team = kernel.teamOf(op);
    PlanAttr plan = kernel.plan;
    auto index = [&](int64_t value) -> Value {
      return arith::ConstantIndexOp::create(rewriter, loc, value);
    };
    int64_t rows = op.getRows(), along = plan.getTeamsAlong(rows);
    // Rows of several blocks of instructions are not neighbours, and warps that
    // only copy hold none.
    int64_t perWarp = rows / (plan.getTeamSize() * along);
    if (team.warps != plan.getWarps() || perWarp > 16 ||
        along < plan.getTeams()) {
      rewriter.replaceOp(op, {index(0), index(rows)});
      return success();
    }
    int64_t size = plan.getTeamSize();
    Value number = arith::DivUIOp::create(rewriter, loc, team.warp,
                                          constantI32(rewriter, loc, size));
    Value first = arith::MulIOp::create(
        rewriter, loc, number, constantI32(rewriter, loc, size * perWarp));
    first = arith::IndexCastUIOp::create(rewriter, loc, rewriter.getIndexType(),
                                         first);
    rewriter.replaceOp(op, {first, index(size * perWarp)});
    return success();
  }
  KernelContext &kernel;
};

struct UnusedPattern : OpConversionPattern<UnusedOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(UnusedOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    rewriter.eraseOp(op);
    return success();
  }
};

} // namespace

void tl::populateElementwisePatterns(const TypeConverter &converter,
                                     RewritePatternSet &patterns,
                                     KernelContext &kernel) {
  MLIRContext *context = patterns.getContext();
  patterns.add<ElementwisePattern>(converter, context);
  patterns.add<TruncFPattern>(converter, context, /*benefit=*/2);
  patterns.add<ConstantPattern, SplatPattern, ReducePattern, PartialSumsPattern,
               NonfinitePattern, ExceedsPattern>(converter, context);
  patterns.add<UnusedPattern>(converter, context);
  patterns.add<BroadcastPattern, IotaPattern, RowsHeldPattern>(converter,
                                                               context, kernel);
}
