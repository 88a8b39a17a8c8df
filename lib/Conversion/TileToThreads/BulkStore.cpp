//===- BulkStore.cpp - Tiles to global memory by tensor copies ------------===//

#include "PTX.h"
#include "Patterns.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

using namespace mlir;
using namespace mlir::tl;

namespace {
/// tile.store by tensor copies: each warp writes its rows to panels in shared
/// memory, and its first thread copies those.
struct BulkStorePattern : OpConversionPattern<StoreOp> {
  BulkStorePattern(const TypeConverter &converter, MLIRContext *context,
                   KernelContext &kernel)
      : OpConversionPattern(converter, context, /*benefit=*/2), kernel(kernel) {
  }
  LogicalResult
  matchAndRewrite(StoreOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    if (!op.getBulk())
      return failure();
    Location loc = op.getLoc();
    FragmentAttr layout = layoutOf(op.getValue().getType());
    const Team &team = kernel.teamOf(op);
    StoreOp::Panels panels = *op.getPanels();
    auto view = TensorView::get(op.getDest(), /*isOpen=*/false,
                                [&] { return op.emitError(); });
    if (failed(view))
      return failure();
    Value map =
        tensorMap(rewriter, op->getParentOfType<func::FuncOp>(), kernel, *view,
                  {panels.columns, panels.kRows}, panels.getSwizzle());
    Value place = arith::AddIOp::create(
        rewriter, loc, constantI32(rewriter, loc, *op.getOffset()),
        arith::MulIOp::create(rewriter, loc, team.warp,
                              constantI32(rewriter, loc, *op.getBulk())));
    Value row = arith::AddIOp::create(
        rewriter, loc, op.getOffsets()[0],
        arith::IndexCastOp::create(rewriter, loc, rewriter.getIndexType(),
                                   warpOffset(rewriter, loc, team, layout, 0)));
    // As many panels at a time as there is room for.
    int64_t slots = *op.getBulk() / panels.getPanelBytes();
    int64_t perPanel = panels.columns / 2; // registers
    for (int64_t first = 0; first < panels.count; first += slots) {
      int64_t count = std::min(slots, panels.count - first);
      ValueRange values = adaptor.getValue().drop_front(first * perPanel);
      // The last copies have read what was there: all of them of the first
      // lane, which the others wait for to write matrices.
      waitForBulkReads(rewriter, loc);
      write(rewriter, loc, place, panels,
            values.take_front(
                std::min<int64_t>(values.size(), count * perPanel)));
      fenceAsync(rewriter, loc);
      NVVM::SyncWarpOp::create(rewriter, loc, constantI32(rewriter, loc, -1));
      OpBuilder::InsertionGuard guard(rewriter);
      guarded(rewriter, loc,
              arith::CmpIOp::create(rewriter, loc, arith::CmpIPredicate::eq,
                                    kernel.lane,
                                    constantI32(rewriter, loc, 0)));
      for (int64_t panel = 0; panel < count; ++panel) {
        Value column = arith::AddIOp::create(
            rewriter, loc, op.getOffsets()[1],
            arith::ConstantIndexOp::create(rewriter, loc,
                                           (first + panel) * panels.columns));
        Value source = arith::AddIOp::create(
            rewriter, loc, place,
            constantI32(rewriter, loc, panel * panels.getPanelBytes()));
        ptx::tensorStore(rewriter, loc,
                         sharedPointer(rewriter, loc, kernel.shared, source),
                         map, view->getCoordinates(rewriter, loc, row, column));
      }
      NVVM::CpAsyncBulkCommitGroupOp::create(rewriter, loc);
    }
    waitBehindLoops(rewriter, op);
    rewriter.eraseOp(op);
    return success();
  }

  /// Writes the registers of 16 rows to panels from `place` on: four matrices
  /// of 8x8, 16 columns, at a time.
  void write(ConversionPatternRewriter &rewriter, Location loc, Value place,
             StoreOp::Panels panels, ValueRange values) const {
    MLIRContext *context = rewriter.getContext();
    auto constant = [&](int64_t value) {
      return constantI32(rewriter, loc, value);
    };
    auto bits = [&](Value value, int64_t shift, int64_t mask) -> Value {
      value = arith::ShRUIOp::create(rewriter, loc, value, constant(shift));
      return arith::AndIOp::create(rewriter, loc, value, constant(mask));
    };
    // A lane gives the place of a row of matrix `lane / 8`, of 16 bytes. The
    // swizzle adds (xor) the number of their line of 128 bytes to that of these
    // bytes.
    int64_t swizzle = panels.getSwizzle();
    Value row = bits(kernel.lane, 0, panels.kRows - 1);
    Value rowBytes =
        arith::MulIOp::create(rewriter, loc, row, constant(swizzle));
    Value chunk = arith::XOrIOp::create(rewriter, loc, bits(kernel.lane, 4, 1),
                                        bits(rowBytes, 7, swizzle / 16 - 1));
    Value within = arith::AddIOp::create(
        rewriter, loc, rowBytes,
        arith::ShLIOp::create(rewriter, loc, chunk, constant(4)));
    constexpr int64_t kWords = 4, kBytes = 32; // of a lane, of a row
    int64_t numWords = values.size() / 2;
    for (int64_t first = 0; first < numWords; first += kWords) {
      SmallVector<Value> words;
      for (int64_t i = first; i < std::min(first + kWords, numWords); ++i)
        words.push_back(
            packPair(rewriter, loc, values[2 * i], values[2 * i + 1]));
      int64_t column = first / kWords * kBytes;
      Value bytes = arith::XOrIOp::create(rewriter, loc, within,
                                          constant(column % swizzle));
      bytes = arith::AddIOp::create(
          rewriter, loc, arith::AddIOp::create(rewriter, loc, place, bytes),
          constant(column / swizzle * panels.getPanelBytes()));
      NVVM::StMatrixOp::create(
          rewriter, loc, sharedPointer(rewriter, loc, kernel.shared, bytes),
          words, NVVM::MMALayout::row,
          NVVM::LdStMatrixShapeAttr::get(context, 8, 8),
          NVVM::LdStMatrixEltType::B16);
    }
  }

  KernelContext &kernel;
};
} // namespace

void tl::populateBulkStorePatterns(const TypeConverter &converter,
                                   RewritePatternSet &patterns,
                                   KernelContext &kernel) {
  patterns.add<BulkStorePattern>(converter, patterns.getContext(), kernel);
}
