//===- Pipes.cpp - Fills, waits and releases of pipes ---------------------===//

#include "PTX.h"
#include "Patterns.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::tl;

namespace {

constexpr int64_t kSlotAlignment = 1024;

template <typename OpT> struct PipePattern : OpConversionPattern<OpT> {
  PipePattern(const TypeConverter &converter, MLIRContext *context,
              KernelContext &kernel)
      : OpConversionPattern<OpT>(converter, context), kernel(kernel) {}

  /// Byte offset of the slot of fill `ordinal`.
  static Value slotOffset(OpBuilder &builder, Location loc, Value pipe,
                          PipeType type, Value ordinal) {
    int64_t bytes =
        llvm::alignTo(type.getSlot().getSizeInBytes(), kSlotAlignment);
    if (type.getStages() == 1)
      return pipe;
    Value slot =
        arith::RemUIOp::create(builder, loc, toI32(builder, loc, ordinal),
                               constantI32(builder, loc, type.getStages()));
    return arith::AddIOp::create(
        builder, loc, pipe,
        arith::MulIOp::create(builder, loc, slot,
                              constantI32(builder, loc, bytes)));
  }

  /// Pointer to the full (`which` = 0) or empty (1) barrier of fill `ordinal`.
  Value barrier(OpBuilder &builder, Location loc, PipeOp pipe, Value ordinal,
                int64_t which) const {
    int64_t stages = pipe.getPipe().getType().getStages();
    Value slot =
        arith::RemUIOp::create(builder, loc, toI32(builder, loc, ordinal),
                               constantI32(builder, loc, stages));
    Value bytes = arith::MulIOp::create(builder, loc, slot,
                                        constantI32(builder, loc, 16));
    bytes = arith::AddIOp::create(
        builder, loc, bytes,
        constantI32(builder, loc, *pipe.getBarriers() + 8 * which));
    return sharedPointer(builder, loc, kernel.shared, bytes);
  }

  /// Parity of the barrier phase that fill `ordinal` completes.
  static Value parity(OpBuilder &builder, Location loc, PipeOp pipe,
                      Value ordinal) {
    int64_t stages = pipe.getPipe().getType().getStages();
    Value round =
        arith::DivUIOp::create(builder, loc, toI32(builder, loc, ordinal),
                               constantI32(builder, loc, stages));
    return arith::AndIOp::create(builder, loc, round,
                                 constantI32(builder, loc, 1));
  }

  KernelContext &kernel;
};

/// A pipe is the byte offset of its first slot; with roles, thread 0 makes its
/// barriers (the block waits for them before the roles begin).
struct MakePattern : PipePattern<PipeOp> {
  using PipePattern::PipePattern;
  LogicalResult
  matchAndRewrite(PipeOp op, OpAdaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Value offset = constantI32(rewriter, op.getLoc(), *op.getOffset());
    rewriter.replaceOp(op, offset);
    return success();
  }
};

struct ProducePattern : PipePattern<ProduceOp> {
  using PipePattern::PipePattern;
  LogicalResult
  matchAndRewrite(ProduceOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    PipeType type = op.getPipe().getType();
    Value slot =
        slotOffset(rewriter, loc, adaptor.getPipe(), type, op.getOrdinal());
    if (kernel.hasRoles()) {
      if (kernel.plan.getCopy() != "tma")
        return op.emitError("producer warps copy by tma only; the plan says '")
               << kernel.plan.getCopy() << "'";
      if (failed(copyByTensorMap(op, slot, rewriter)))
        return failure();
      rewriter.eraseOp(op);
      return success();
    }
    bool async = kernel.plan.getCopy() == "cp_async";
    // The widest copy that the promise about the argument allows. One through
    // registers has no size, so that none may end beyond the columns.
    int64_t alignment = rowAlignment(op.getSource());
    int64_t width = 16;
    while (width > 2 &&
           (alignment % width || !(async || endsAtMultiple(op, width))))
      width /= 2;
    if (async && width < 4)
      return op.emitError("the source is aligned to ")
             << alignment
             << " bytes, and cp_async copies at least 4; promise more with "
                "tile.align on the function argument, or use copy = "
                "\"direct\"";
    {
      OpBuilder::InsertionGuard guard(rewriter);
      if (Value condition = adaptor.getCondition()) {
        auto branch = scf::IfOp::create(rewriter, loc, condition, false);
        rewriter.setInsertionPointToStart(branch.thenBlock());
      }
      copyByThreads(op, slot, async, width, rewriter);
    }
    // Also for a fill that does not happen: waits count groups.
    if (async)
      NVVM::CpAsyncCommitGroupOp::create(rewriter, loc);
    rewriter.eraseOp(op);
    return success();
  }

  /// Whether the tile's columns that lie in the source are known to be a
  /// multiple of `bytes`.
  static bool endsAtMultiple(ProduceOp op, int64_t bytes) {
    auto first = getConstantIntValue(op.getOffsets()[1]);
    MemRefType source = op.getSource().getType();
    return first && !source.isDynamicDim(1) && *first % (bytes / 2) == 0 &&
           source.getDimSize(1) * 2 % bytes == 0;
  }

  /// Every thread copies chunks of 16 bytes by copies of `width` bytes,
  /// asynchronous ones or (2: elements, one by one) through registers. The
  /// threads cover `step` rows of a panel at once, so that a thread's places
  /// differ by constants only.
  void copyByThreads(ProduceOp op, Value slot, bool async, int64_t width,
                     ConversionPatternRewriter &rewriter) const {
    Location loc = op.getLoc();
    BufferType type = op.getPipe().getType().getSlot();
    auto source = op.getSource();
    const Team &team = kernel.teamOf(op);
    int64_t rows = type.getShape()[0], swizzle = type.getSwizzle();
    int64_t perPanel = swizzle / 16, step = 32 * team.warps / perPanel;
    Value rowExtent = memref::DimOp::create(rewriter, loc, source, 0);
    Value colExtent = memref::DimOp::create(rewriter, loc, source, 1);
    auto constant = [&](int64_t value) {
      return constantI32(rewriter, loc, value);
    };
    auto toIndex = [&](Value value) -> Value {
      return arith::IndexCastOp::create(rewriter, loc, rewriter.getIndexType(),
                                        value);
    };
    Value row =
        arith::DivUIOp::create(rewriter, loc, team.thread, constant(perPanel));
    Value chunk =
        arith::RemUIOp::create(rewriter, loc, team.thread, constant(perPanel));
    // Place in the swizzled buffer. Steps of eight rows keep the swizzle;
    // those of one warp are of four, and exchange halves of the panel.
    Value rowBytes =
        arith::MulIOp::create(rewriter, loc, row, constant(swizzle));
    Value phase = arith::AndIOp::create(
        rewriter, loc,
        arith::ShRUIOp::create(rewriter, loc, rowBytes, constant(7)),
        constant(perPanel - 1));
    auto phaseOf = [&](int64_t row) {
      return row * swizzle >> 7 & (perPanel - 1);
    };
    auto placeAt = [&](int64_t first) -> Value {
      Value turned =
          arith::XOrIOp::create(rewriter, loc, phase, constant(phaseOf(first)));
      Value place = arith::ShLIOp::create(
          rewriter, loc, arith::XOrIOp::create(rewriter, loc, chunk, turned),
          constant(4));
      place = arith::AddIOp::create(rewriter, loc, place, rowBytes);
      return sharedPointer(rewriter, loc, kernel.shared,
                           arith::AddIOp::create(rewriter, loc, slot, place));
    };
    Value even = placeAt(0), odd = phaseOf(step) ? placeAt(step) : even;
    // Place in memory.
    Value r0 =
        arith::AddIOp::create(rewriter, loc, toIndex(row), op.getOffsets()[0]);
    Value c0 = arith::AddIOp::create(
        rewriter, loc,
        toIndex(arith::ShLIOp::create(rewriter, loc, chunk, constant(3))),
        op.getOffsets()[1]);
    // Rows left from this thread's first one, so that the checks of its rows
    // compare one register with constants.
    Value left = arith::SubIOp::create(
        rewriter, loc,
        toI32(rewriter, loc,
              arith::SubIOp::create(rewriter, loc, rowExtent,
                                    op.getOffsets()[0])),
        row);
    // Row pointers advance by one stride: multiples of it, hoisted out of a
    // loop, would take two registers each.
    Value pointer, advance;
    if (width > 2) {
      pointer = globalPointer(rewriter, loc, source, ValueRange{r0, c0});
      auto metadata =
          memref::ExtractStridedMetadataOp::create(rewriter, loc, source);
      Value bytes = arith::MulIOp::create(
          rewriter, loc, metadata.getStrides()[0],
          arith::ConstantIndexOp::create(rewriter, loc, 2 * step));
      advance = arith::IndexCastOp::create(rewriter, loc, rewriter.getI64Type(),
                                           bytes);
    }
    auto offsetPointer = [&](Value base, LLVM::GEPArg bytes) -> Value {
      return LLVM::GEPOp::create(rewriter, loc, base.getType(),
                                 rewriter.getI8Type(), base,
                                 ArrayRef<LLVM::GEPArg>{bytes});
    };
    // Loads that are under way together before the first is stored.
    SmallVector<std::pair<Value, Value>> loaded;
    constexpr size_t kBytesUnderWay = 128;
    for (int64_t first = 0; first < rows; first += step) {
      if (first && width > 2)
        pointer = offsetPointer(pointer, advance);
      OpBuilder::InsertionGuard guard(rewriter);
      if (first + step > rows) {
        storeAll(loaded, width, loc, rewriter);
        Value has =
            arith::CmpIOp::create(rewriter, loc, arith::CmpIPredicate::slt, row,
                                  constant(rows - first));
        auto branch = scf::IfOp::create(rewriter, loc, has, false);
        rewriter.setInsertionPointToStart(branch.thenBlock());
      }
      Value rowInside = arith::CmpIOp::create(
          rewriter, loc, arith::CmpIPredicate::sgt, left, constant(first));
      Value r = arith::AddIOp::create(
          rewriter, loc, r0,
          arith::ConstantIndexOp::create(rewriter, loc, first));
      for (int64_t col = 0; col < type.getShape()[1]; col += swizzle / 2) {
        Value c = arith::AddIOp::create(
            rewriter, loc, c0,
            arith::ConstantIndexOp::create(rewriter, loc, col));
        Value dest = offsetPointer(phaseOf(first) ? odd : even,
                                   int32_t(first * swizzle + 2 * col * rows));
        if (width == 2) {
          copyElements(op, dest, r, c, rowInside, colExtent, rewriter);
          continue;
        }
        Value source = offsetPointer(pointer, int32_t(2 * col));
        if (async)
          copyChunk(op, dest, source, c, rowInside, colExtent, width, rewriter);
        else
          loadChunk(op, dest, source, c, rowInside, colExtent, width, loaded,
                    rewriter);
        if (loaded.size() * width >= kBytesUnderWay)
          storeAll(loaded, width, loc, rewriter);
      }
      if (first + step > rows)
        storeAll(loaded, width, loc, rewriter);
    }
    storeAll(loaded, width, loc, rewriter);
  }

  /// True when all columns of the panels lie in the source.
  static bool hasAllColumns(ProduceOp op) {
    return MergedView(op.getSource(), std::nullopt)
        .holds(1, op.getOffsets()[1],
               op.getPipe().getType().getSlot().getStoredCols());
  }

  /// Loads 16 bytes by loads of `width` bytes; what lies outside the source
  /// becomes zero. Appends what to store where.
  void loadChunk(ProduceOp op, Value dest, Value pointer, Value c,
                 Value rowInside, Value colExtent, int64_t width,
                 SmallVectorImpl<std::pair<Value, Value>> &loaded,
                 ConversionPatternRewriter &rewriter) const {
    Location loc = op.getLoc();
    int64_t elements = width / 2;
    auto type =
        VectorType::get(elements, op.getSource().getType().getElementType());
    for (int64_t first = 0; first < 8; first += elements) {
      Value inside = rowInside;
      if (!hasAllColumns(op)) {
        Value col = arith::AddIOp::create(
            rewriter, loc, c,
            arith::ConstantIndexOp::create(rewriter, loc, first));
        inside = arith::AndIOp::create(
            rewriter, loc, inside,
            arith::CmpIOp::create(rewriter, loc, arith::CmpIPredicate::slt, col,
                                  colExtent));
      }
      auto offset = [&](OpBuilder &builder, Value base) -> Value {
        return LLVM::GEPOp::create(builder, loc, base.getType(),
                                   builder.getI8Type(), base,
                                   ArrayRef<LLVM::GEPArg>{int32_t(2 * first)});
      };
      auto branch = scf::IfOp::create(
          rewriter, loc, inside,
          [&](OpBuilder &builder, Location loc) {
            Value value = LLVM::LoadOp::create(builder, loc, type,
                                               offset(builder, pointer), width);
            scf::YieldOp::create(builder, loc, value);
          },
          [&](OpBuilder &builder, Location loc) {
            Value zero = arith::ConstantOp::create(builder, loc,
                                                   builder.getZeroAttr(type));
            scf::YieldOp::create(builder, loc, zero);
          });
      loaded.emplace_back(offset(rewriter, dest), branch.getResult(0));
    }
  }

  static void storeAll(SmallVectorImpl<std::pair<Value, Value>> &loaded,
                       int64_t width, Location loc,
                       ConversionPatternRewriter &rewriter) {
    for (auto [dest, value] : loaded)
      LLVM::StoreOp::create(rewriter, loc, value, dest, width);
    loaded.clear();
  }

  /// Copies 16 bytes by cp.async of `width` bytes each; what lies outside the
  /// source becomes zero.
  void copyChunk(ProduceOp op, Value dest, Value pointer, Value c,
                 Value rowInside, Value colExtent, int64_t width,
                 ConversionPatternRewriter &rewriter) const {
    Location loc = op.getLoc();
    auto constant = [&](int64_t value) -> Value {
      return arith::ConstantIndexOp::create(rewriter, loc, value);
    };
    Value zero = constant(0);
    bool full = hasAllColumns(op);
    Value left =
        full ? Value() : arith::SubIOp::create(rewriter, loc, colExtent, c);
    // Only 16 bytes can pass by the first level cache.
    auto modifier = NVVM::LoadCacheModifierKindAttr::get(
        rewriter.getContext(), width == 16 ? NVVM::LoadCacheModifierKind::CG
                                           : NVVM::LoadCacheModifierKind::CA);
    int64_t elements = width / 2;
    for (int64_t first = 0; first < 8; first += elements) {
      Value bytes = constant(width);
      if (!full) {
        // 2 * min(elements, columns left from `first`), at least 0.
        Value count =
            first ? arith::SubIOp::create(rewriter, loc, left, constant(first))
                        .getResult()
                  : left;
        count = arith::MaxSIOp::create(rewriter, loc, count, zero);
        count =
            arith::MinSIOp::create(rewriter, loc, count, constant(elements));
        bytes = arith::ShLIOp::create(rewriter, loc, count, constant(1));
      }
      bytes = arith::SelectOp::create(rewriter, loc, rowInside, bytes, zero);
      auto offset = [&](Value base) -> Value {
        return LLVM::GEPOp::create(rewriter, loc, base.getType(),
                                   rewriter.getI8Type(), base,
                                   ArrayRef<LLVM::GEPArg>{int32_t(2 * first)});
      };
      // A copy of no bytes does not read its address, which may be outside.
      NVVM::CpAsyncOp::create(rewriter, loc, first ? offset(dest) : dest,
                              first ? offset(pointer) : pointer,
                              rewriter.getI32IntegerAttr(width), modifier,
                              toI32(rewriter, loc, bytes));
    }
  }

  void copyElements(ProduceOp op, Value dest, Value r, Value c, Value rowInside,
                    Value colExtent,
                    ConversionPatternRewriter &rewriter) const {
    Location loc = op.getLoc();
    Type element = op.getSource().getType().getElementType();
    Value zero =
        arith::ConstantOp::create(rewriter, loc, rewriter.getZeroAttr(element));
    for (int64_t i = 0; i < 8; ++i) {
      Value col = arith::AddIOp::create(
          rewriter, loc, c, arith::ConstantIndexOp::create(rewriter, loc, i));
      Value inside = arith::CmpIOp::create(
          rewriter, loc, arith::CmpIPredicate::slt, col, colExtent);
      inside = arith::AndIOp::create(rewriter, loc, inside, rowInside);
      auto branch = scf::IfOp::create(
          rewriter, loc, inside,
          [&](OpBuilder &builder, Location loc) {
            Value value = memref::LoadOp::create(builder, loc, op.getSource(),
                                                 ValueRange{r, col});
            scf::YieldOp::create(builder, loc, value);
          },
          [&](OpBuilder &builder, Location loc) {
            scf::YieldOp::create(builder, loc, zero);
          });
      Value pointer =
          LLVM::GEPOp::create(rewriter, loc, dest.getType(), element, dest,
                              ArrayRef<LLVM::GEPArg>{int32_t(i)});
      LLVM::StoreOp::create(rewriter, loc, branch.getResult(0), pointer);
    }
  }

  /// One thread waits for the slot, announces the bytes and starts one tensor
  /// copy per panel.
  LogicalResult copyByTensorMap(ProduceOp op, Value slot,
                                ConversionPatternRewriter &rewriter) const {
    Location loc = op.getLoc();
    auto pipe = op.getPipe().getDefiningOp<PipeOp>();
    BufferType type = op.getPipe().getType().getSlot();
    int64_t panel = type.getSwizzle() / 2;

    auto view = TensorView::get(op.getSource(), op.getOpen(),
                                [&] { return op.emitError(); });
    if (failed(view))
      return failure();
    if (type.getShape()[0] > 256)
      return op.emitError("a tensor copy has at most 256 rows, this one ")
             << type.getShape()[0];
    Value map =
        tensorMap(rewriter, op->getParentOfType<func::FuncOp>(), kernel, *view,
                  {panel, type.getShape()[0]}, type.getSwizzle());

    const Team &team = kernel.teamOf(op);
    Value first =
        arith::CmpIOp::create(rewriter, loc, arith::CmpIPredicate::eq,
                              team.thread, constantI32(rewriter, loc, 0));
    auto branch = scf::IfOp::create(rewriter, loc, first, false);
    OpBuilder::InsertionGuard guard(rewriter);
    rewriter.setInsertionPointToStart(branch.thenBlock());
    // The slot is empty at first: the phase before the first one counts as
    // complete, so the producer waits for the opposite parity.
    Value odd = arith::XOrIOp::create(
        rewriter, loc, parity(rewriter, loc, pipe, op.getOrdinal()),
        constantI32(rewriter, loc, 1));
    ptx::barrierWait(rewriter, loc,
                     barrier(rewriter, loc, pipe, op.getOrdinal(), 1), odd);
    Value full = barrier(rewriter, loc, pipe, op.getOrdinal(), 0);
    ptx::barrierExpect(rewriter, loc, full, type.getSizeInBytes());
    for (int64_t col = 0; col < type.getShape()[1]; col += panel) {
      Value column = arith::AddIOp::create(
          rewriter, loc, op.getOffsets()[1],
          arith::ConstantIndexOp::create(rewriter, loc, col));
      SmallVector<Value> coordinates =
          view->getCoordinates(rewriter, loc, op.getOffsets()[0], column);
      Value dest = sharedPointer(
          rewriter, loc, kernel.shared,
          arith::AddIOp::create(
              rewriter, loc, slot,
              constantI32(rewriter, loc, col * 2 * type.getShape()[0])));
      ptx::tensorLoad(rewriter, loc, dest, map, coordinates, full);
    }
    return success();
  }
};

struct ConsumePattern : PipePattern<ConsumeOp> {
  using PipePattern::PipePattern;
  LogicalResult
  matchAndRewrite(ConsumeOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    if (kernel.hasRoles()) {
      auto pipe = op.getPipe().getDefiningOp<PipeOp>();
      ptx::barrierWait(rewriter, loc,
                       barrier(rewriter, loc, pipe, op.getOrdinal(), 0),
                       parity(rewriter, loc, pipe, op.getOrdinal()));
    } else {
      if (kernel.plan.getCopy() == "cp_async")
        NVVM::CpAsyncWaitGroupOp::create(rewriter, loc,
                                         op.getPending().value_or(0));
      NVVM::Barrier0Op::create(rewriter, loc);
    }
    Value slot = slotOffset(rewriter, loc, adaptor.getPipe(),
                            op.getPipe().getType(), op.getOrdinal());
    if (op.getRows())
      clearFrom(op, slot, rewriter);
    rewriter.replaceOp(op, slot);
    return success();
  }

  /// All threads clear rows of the slot, 16 bytes at a time: those of a panel
  /// follow each other.
  void clearFrom(ConsumeOp op, Value slot,
                 ConversionPatternRewriter &rewriter) const {
    Location loc = op.getLoc();
    BufferType type = op.getPipe().getType().getSlot();
    const Team &team = kernel.teamOf(op);
    auto constant = [&](int64_t value) {
      return constantI32(rewriter, loc, value);
    };
    auto index = [&](int64_t value) -> Value {
      return arith::ConstantIndexOp::create(rewriter, loc, value);
    };
    constexpr int64_t kBytes = 16;
    int64_t panelBytes = type.getShape()[0] * type.getSwizzle();
    Value isShort =
        arith::CmpIOp::create(rewriter, loc, arith::CmpIPredicate::slt,
                              op.getRows(), index(type.getShape()[0]));
    auto branch = scf::IfOp::create(rewriter, loc, isShort, false);
    OpBuilder::InsertionGuard guard(rewriter);
    rewriter.setInsertionPointToStart(branch.thenBlock());
    Value first =
        toI32(rewriter, loc,
              arith::MaxSIOp::create(rewriter, loc, op.getRows(), index(0)));
    Value from = arith::AddIOp::create(
        rewriter, loc,
        arith::MulIOp::create(rewriter, loc, first,
                              constant(type.getSwizzle())),
        arith::MulIOp::create(rewriter, loc, team.thread, constant(kBytes)));
    auto loop = scf::ForOp::create(rewriter, loc, from, constant(panelBytes),
                                   constant(kBytes * 32 * team.warps));
    {
      OpBuilder::InsertionGuard guard(rewriter);
      rewriter.setInsertionPointToStart(loop.getBody());
      auto words = VectorType::get(kBytes / 4, rewriter.getI32Type());
      Value zero =
          arith::ConstantOp::create(rewriter, loc, rewriter.getZeroAttr(words));
      Value at =
          arith::AddIOp::create(rewriter, loc, slot, loop.getInductionVar());
      for (int64_t panel = 0; panel < type.getNumPanels(); ++panel)
        LLVM::StoreOp::create(
            rewriter, loc, zero,
            sharedPointer(rewriter, loc, kernel.shared,
                          arith::AddIOp::create(rewriter, loc, at,
                                                constant(panel * panelBytes))),
            kBytes);
    }
    fenceAsync(rewriter, loc);
    synchronize(rewriter, loc, kernel, team);
  }
};

struct ReleasePattern : PipePattern<ReleaseOp> {
  using PipePattern::PipePattern;
  LogicalResult
  matchAndRewrite(ReleaseOp op, OpAdaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    if (kernel.hasRoles()) {
      auto pipe = op.getPipe().getDefiningOp<PipeOp>();
      Value first =
          arith::CmpIOp::create(rewriter, loc, arith::CmpIPredicate::eq,
                                kernel.lane, constantI32(rewriter, loc, 0));
      ptx::barrierArrive(rewriter, loc,
                         barrier(rewriter, loc, pipe, op.getOrdinal(), 1),
                         first);
    }
    // Without roles the barrier of the next consume orders reads and refills.
    rewriter.eraseOp(op);
    return success();
  }
};

//===----------------------------------------------------------------------===//
// Turns
//===----------------------------------------------------------------------===//

/// Turns are named barriers, one per team, of the warps of a team, which wait,
/// and those of the team before, which arrive. Barrier 0 is the block's and the
/// last one a role's (synchronize).
class Turns {
public:
  Turns(OpBuilder &builder, Location loc, KernelContext &kernel, Operation *op)
      : builder(builder), loc(loc), teams(kernel.plan.getTeams()) {
    int64_t size = kernel.plan.getTeamSize();
    threads = constantI32(builder, loc, 2 * 32 * size);
    team = arith::DivUIOp::create(builder, loc, kernel.teamOf(op).warp,
                                  constantI32(builder, loc, size));
    isLast = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, team,
                                   constantI32(builder, loc, teams - 1));
  }

  void wait() {
    NVVM::BarrierOp::create(builder, loc, TypeRange(), barrierOf(team), threads,
                            NVVM::BarrierReductionAttr(), Value());
  }
  void passOn() {
    Value next =
        arith::AddIOp::create(builder, loc, team, constantI32(builder, loc, 1));
    arrive(arith::SelectOp::create(builder, loc, isLast,
                                   constantI32(builder, loc, 0), next));
  }
  void begin() {
    auto branch = scf::IfOp::create(builder, loc, isLast, false);
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(branch.thenBlock());
    arrive(constantI32(builder, loc, 0));
  }

private:
  Value barrierOf(Value team) {
    return arith::AddIOp::create(builder, loc, team,
                                 constantI32(builder, loc, 1));
  }
  void arrive(Value team) {
    LLVM::CallIntrinsicOp::create(
        builder, loc,
        builder.getStringAttr("llvm.nvvm.barrier.cta.arrive.aligned.count"),
        ValueRange{barrierOf(team), threads});
  }

  OpBuilder &builder;
  Location loc;
  int64_t teams;
  Value team, isLast, threads;
};

struct TakeTurnPattern : PipePattern<TakeTurnOp> {
  using PipePattern::PipePattern;
  LogicalResult
  matchAndRewrite(TakeTurnOp op, OpAdaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Turns(rewriter, op.getLoc(), kernel, op).wait();
    rewriter.eraseOp(op);
    return success();
  }
};

struct PassTurnPattern : PipePattern<PassTurnOp> {
  using PipePattern::PipePattern;
  LogicalResult
  matchAndRewrite(PassTurnOp op, OpAdaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Turns turns(rewriter, op.getLoc(), kernel, op);
    if (op.getFirst())
      turns.begin();
    else
      turns.passOn();
    rewriter.eraseOp(op);
    return success();
  }
};

} // namespace

void tl::populatePipePatterns(const TypeConverter &converter,
                              RewritePatternSet &patterns,
                              KernelContext &kernel) {
  patterns.add<MakePattern, ProducePattern, ConsumePattern, ReleasePattern,
               TakeTurnPattern, PassTurnPattern>(converter,
                                                 patterns.getContext(), kernel);
}
