//===- ConvertMathToPolynomial.cpp - convert-math-to-polynomial -----------===//

#include "fa/Conversion/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Approximation.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

namespace mlir::fa {
#define GEN_PASS_DEF_CONVERTMATHTOPOLYNOMIAL
#include "fa/Conversion/Passes.h.inc"
} // namespace mlir::fa

using namespace mlir;

namespace {

/// 2^x = 2^n * 2^f with n = round(x) and |f| <= 1/2. The polynomial gives
/// 2 * 2^f and the scale 2^(n - 1), so that x just below the largest exponent
/// does not overflow. NaN passes through: every comparison with it is false.
struct ExpandExp2 : public OpRewritePattern<math::Exp2Op> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(math::Exp2Op op,
                                PatternRewriter &b) const override {
    Type type = op.getType();
    Type element = getElementTypeOrSelf(type);
    if (!element.isF32() && !element.isF64())
      return failure();
    bool isDouble = element.isF64();
    Location loc = op.getLoc();
    auto withElement = [&](Type e) -> Type {
      if (auto shaped = dyn_cast<ShapedType>(type))
        return shaped.clone(e);
      return e;
    };
    unsigned bits = isDouble ? 64 : 32, mantissa = isDouble ? 52 : 23;
    Type intType = withElement(b.getIntegerType(bits));
    auto splat = [&](Type t, Attribute value) -> Value {
      TypedAttr attr = cast<TypedAttr>(value);
      if (auto shaped = dyn_cast<ShapedType>(t))
        attr = DenseElementsAttr::get(shaped, value);
      return arith::ConstantOp::create(b, loc, attr);
    };
    auto real = [&](double v) {
      return splat(type, b.getFloatAttr(element, v));
    };
    auto integer = [&](int64_t v) {
      return splat(intType, b.getIntegerAttr(b.getIntegerType(bits), v));
    };
    auto fused = arith::FastMathFlags::contract;

    double most = isDouble ? 1024 : 128;
    double least = isDouble ? -1022 : -126;
    Value x = op.getOperand();
    Value low = real(least), high = real(most);
    x = arith::SelectOp::create(
        b, loc,
        arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OLT, x, low), low,
        x);
    x = arith::SelectOp::create(
        b, loc,
        arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OGT, x, high), high,
        x);
    // Adding 1.5 * 2^mantissa rounds to an integer, held in the low bits.
    Value magic = real(1.5 * std::ldexp(1.0, mantissa));
    Value shifted = arith::AddFOp::create(b, loc, x, magic);
    Value n = arith::SubFOp::create(b, loc, shifted, magic);
    Value f = arith::SubFOp::create(b, loc, x, n);

    // Near-minimax coefficients of 2 * 2^f on [-1/2, 1/2].
    static constexpr double kSingle[] = {2.0,
                                         1.3862944030796383844,
                                         0.48045301138801652808,
                                         0.11100670859442844601,
                                         0.019236225012276460992,
                                         0.0026795467748815609861,
                                         0.00030886309110418076632};
    static constexpr double kDouble[] = {2.0,
                                         1.3862943611198906227,
                                         0.48045301391820232665,
                                         0.11100821732964266152,
                                         0.019236258215199915999,
                                         0.0026667116292986476464,
                                         0.00030807060899817343662,
                                         0.000030505467494772017344,
                                         2.6430877604423492112e-6,
                                         2.0356199456670423957e-7,
                                         1.4146379338590301569e-8,
                                         8.8979815266427221295e-10};
    ArrayRef<double> coefficients =
        isDouble ? ArrayRef<double>(kDouble) : ArrayRef<double>(kSingle);
    Value p = real(coefficients.back());
    for (double c : llvm::reverse(coefficients.drop_back())) {
      p = arith::MulFOp::create(b, loc, p, f, fused);
      p = arith::AddFOp::create(b, loc, p, real(c), fused);
    }
    Value exponent = arith::BitcastOp::create(b, loc, intType, shifted);
    exponent = arith::AddIOp::create(b, loc, exponent,
                                     integer((isDouble ? 1023 : 127) - 1));
    exponent = arith::ShLIOp::create(b, loc, exponent, integer(mantissa));
    Value scale = arith::BitcastOp::create(b, loc, type, exponent);
    b.replaceOpWithNewOp<arith::MulFOp>(op, p, scale);
    return success();
  }
};

struct ConvertMathToPolynomial
    : public fa::impl::ConvertMathToPolynomialBase<ConvertMathToPolynomial> {
  void runOnOperation() override {
    MLIRContext *context = &getContext();
    RewritePatternSet patterns(context);
    patterns.add<ExpandExp2>(context);
    populateMathPolynomialApproximationPatterns(patterns, [](StringRef name) {
      return llvm::is_contained({"math.exp", "math.log", "math.log2",
                                 "math.log1p", "math.expm1", "math.tanh",
                                 "math.erf", "math.sin", "math.cos"},
                                name);
    });
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};
} // namespace
