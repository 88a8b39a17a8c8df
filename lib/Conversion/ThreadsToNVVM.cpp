//===- ThreadsToNVVM.cpp - Thread programs become kernels -----------------===//

#include "fa/Conversion/Launch.h"
#include "fa/Conversion/Passes.h"
#include "fa/Dialect/Tile/IR/Tile.h"
#include "mlir/Conversion/AffineToStandard/AffineToStandard.h"
#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/FuncToLLVM/ConvertFuncToLLVM.h"
#include "mlir/Conversion/LLVMCommon/ConversionTarget.h"
#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MemRefToLLVM/MemRefToLLVM.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVM.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Transforms/DialectConversion.h"

using namespace mlir;

namespace mlir::fa {
#define GEN_PASS_DEF_CONVERTTHREADSTONVVM
#include "fa/Conversion/Passes.h.inc"
} // namespace mlir::fa

static Value intrinsic(OpBuilder &builder, Location loc, StringRef name,
                       Value operand) {
  return LLVM::CallIntrinsicOp::create(builder, loc, operand.getType(),
                                       builder.getStringAttr(name), operand)
      .getResult(0);
}

static Value constantF32(OpBuilder &builder, Location loc, double value) {
  return LLVM::ConstantOp::create(builder, loc, builder.getF32Type(),
                                  builder.getF32FloatAttr(value));
}

namespace {

/// `exp2` is one instruction with the flush-to-zero form of ex2.
struct Exp2Pattern : OpConversionPattern<math::Exp2Op> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(math::Exp2Op op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    if (!op.getType().isF32())
      return failure();
    rewriter.replaceOp(op, intrinsic(rewriter, op.getLoc(),
                                     "llvm.nvvm.ex2.approx.ftz",
                                     adaptor.getOperand()));
    return success();
  }
};

struct ExpPattern : OpConversionPattern<math::ExpOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(math::ExpOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    if (!op.getType().isF32())
      return failure();
    Location loc = op.getLoc();
    Value scaled =
        LLVM::FMulOp::create(rewriter, loc, adaptor.getOperand(),
                             constantF32(rewriter, loc, 1.4426950408889634));
    rewriter.replaceOp(
        op, intrinsic(rewriter, loc, "llvm.nvvm.ex2.approx.ftz", scaled));
    return success();
  }
};

template <typename OpT> struct LogPattern : OpConversionPattern<OpT> {
  using OpConversionPattern<OpT>::OpConversionPattern;
  LogicalResult
  matchAndRewrite(OpT op, typename OpT::Adaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    if (!op.getType().isF32())
      return failure();
    Location loc = op.getLoc();
    Value result = intrinsic(rewriter, loc, "llvm.nvvm.lg2.approx.ftz.f",
                             adaptor.getOperand());
    if (std::is_same_v<OpT, math::LogOp>)
      result =
          LLVM::FMulOp::create(rewriter, loc, result,
                               constantF32(rewriter, loc, 0.6931471805599453));
    rewriter.replaceOp(op, result);
    return success();
  }
};

/// div.full: two ulps over the whole range, and what depends on the divisor
/// alone is computed once for all elements. The correctly rounded division is a
/// dozen instructions and a call for each element.
struct DivPattern : OpConversionPattern<arith::DivFOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(arith::DivFOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    if (!op.getType().isF32())
      return failure();
    Value result = LLVM::CallIntrinsicOp::create(
                       rewriter, op.getLoc(), rewriter.getF32Type(),
                       rewriter.getStringAttr("llvm.nvvm.div.full.ftz"),
                       ValueRange{adaptor.getLhs(), adaptor.getRhs()})
                       .getResult(0);
    rewriter.replaceOp(op, result);
    return success();
  }
};

/// tanh(x) = 1 - 2 / (exp(2 x) + 1): saturates correctly and keeps the absolute
/// error near one f32 ulp of 1, which tanh.approx (11 bits) does not. Near 0,
/// where the difference cancels, a polynomial: a soft cap multiplies the error
/// by the cap, which is many times a small score.
struct TanhPattern : OpConversionPattern<math::TanhOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(math::TanhOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    if (!op.getType().isF32())
      return failure();
    Location loc = op.getLoc();
    auto constant = [&](double value) {
      return constantF32(rewriter, loc, value);
    };
    auto fma = [&](Value a, Value b, Value c) -> Value {
      return LLVM::FMAOp::create(rewriter, loc, a, b, c);
    };
    Value x = adaptor.getOperand();
    Value twice = LLVM::FMulOp::create(rewriter, loc, x,
                                       constant(2 * 1.4426950408889634));
    Value e = intrinsic(rewriter, loc, "llvm.nvvm.ex2.approx.ftz", twice);
    Value sum = LLVM::FAddOp::create(rewriter, loc, e, constant(1.0));
    Value inverse = intrinsic(rewriter, loc, "llvm.nvvm.rcp.approx.ftz.f", sum);
    Value large = fma(constant(-2.0), inverse, constant(1.0));
    // (tanh(x) - x) / x^3 interpolated in x^2 at Chebyshev's points: below 1e-8
    // relative for |x| < 0.25.
    Value square = LLVM::FMulOp::create(rewriter, loc, x, x);
    Value p = fma(square, constant(-0.05197494), constant(0.13328699));
    p = fma(square, p, constant(-0.33333317));
    Value cube = LLVM::FMulOp::create(rewriter, loc, x, square);
    Value small = fma(cube, p, x);
    Value isSmall = LLVM::FCmpOp::create(
        rewriter, loc, LLVM::FCmpPredicate::olt,
        LLVM::FAbsOp::create(rewriter, loc, x), constant(0.25));
    rewriter.replaceOpWithNewOp<LLVM::SelectOp>(op, isSmall, small, large);
    return success();
  }
};

/// Of the one dimension that grids have.
template <typename OpT, typename RegisterT>
struct GridPattern : OpConversionPattern<OpT> {
  using OpConversionPattern<OpT>::OpConversionPattern;
  LogicalResult
  matchAndRewrite(OpT op, typename OpT::Adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    if (op.getDimension() != gpu::Dimension::x)
      return failure();
    Location loc = op.getLoc();
    Value value = RegisterT::create(rewriter, loc, rewriter.getI32Type());
    rewriter.replaceOpWithNewOp<LLVM::ZExtOp>(op, rewriter.getI64Type(), value);
    return success();
  }
};

struct ConvertThreadsToNVVM
    : fa::impl::ConvertThreadsToNVVMBase<ConvertThreadsToNVVM> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    MLIRContext *context = &getContext();
    LowerToLLVMOptions options(context);
    LLVMTypeConverter converter(context, options);
    LLVMConversionTarget target(*context);
    target.addLegalDialect<NVVM::NVVMDialect>();
    target.addLegalOp<ModuleOp>();
    RewritePatternSet patterns(context);
    patterns.add<Exp2Pattern, ExpPattern, LogPattern<math::LogOp>,
                 LogPattern<math::Log2Op>, DivPattern, TanhPattern>(
        converter, context,
        /*benefit=*/2);
    patterns.add<GridPattern<gpu::BlockIdOp, NVVM::BlockIdXOp>,
                 GridPattern<gpu::GridDimOp, NVVM::GridDimXOp>>(converter,
                                                                context);
    populateAffineToStdConversionPatterns(patterns);
    arith::populateArithToLLVMConversionPatterns(converter, patterns);
    cf::populateControlFlowToLLVMConversionPatterns(converter, patterns);
    populateFinalizeMemRefToLLVMConversionPatterns(converter, patterns);
    populateFuncToLLVMConversionPatterns(converter, patterns);
    populateMathToLLVMConversionPatterns(converter, patterns);
    populateVectorToLLVMConversionPatterns(converter, patterns);
    if (failed(applyFullConversion(module, target, std::move(patterns))))
      return signalPassFailure();
    // What scf.for says about its loop stands on the branch back, under the
    // name that it has outside of the LLVM dialect.
    module.walk([](LLVM::BrOp branch) {
      if (Attribute said =
              branch->removeDiscardableAttr("llvm.loop_annotation"))
        branch.setLoopAnnotationAttr(cast<LLVM::LoopAnnotationAttr>(said));
    });
    moveKernels(module);
  }

  void moveKernels(ModuleOp module) {
    auto kernels = llvm::to_vector(llvm::make_filter_range(
        module.getOps<LLVM::LLVMFuncOp>(), [](LLVM::LLVMFuncOp func) {
          return func->hasAttr(fa::kLaunchAttrName);
        }));
    if (kernels.empty())
      return;
    OpBuilder builder = OpBuilder::atBlockBegin(module.getBody());
    auto gpuModule =
        gpu::GPUModuleOp::create(builder, module.getLoc(), "kernels");
    Block *body = gpuModule.getBody();
    for (LLVM::GlobalOp global :
         llvm::make_early_inc_range(module.getOps<LLVM::GlobalOp>()))
      global->moveBefore(body, body->end());
    for (LLVM::LLVMFuncOp kernel : kernels) {
      kernel->moveBefore(body, body->end());
      kernel->setAttr("nvvm.kernel", builder.getUnitAttr());
      for (unsigned i = 0; i < kernel.getNumArguments(); ++i)
        if (kernel.getArgAttr(i, "llvm.byval"))
          kernel.setArgAttr(i, "nvvm.grid_constant", builder.getUnitAttr());
      auto launch = kernel->getAttrOfType<DictionaryAttr>(fa::kLaunchAttrName);
      int64_t threads = cast<IntegerAttr>(launch.get("threads")).getInt();
      kernel->setAttr("nvvm.reqntid",
                      builder.getDenseI32ArrayAttr({int32_t(threads), 1, 1}));
      kernel->setAttr("nvvm.minctasm", builder.getI32IntegerAttr(1));
    }
  }
};
} // namespace
