//===- Memory.cpp - Tiles between registers and global memory -------------===//

#include "PTX.h"
#include "Patterns.h"
#include "fa/Target/Chip.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include <map>
#include <numeric>

using namespace mlir;
using namespace mlir::tl;

Value tl::globalPointer(OpBuilder &builder, Location loc, Value memref,
                        ValueRange indices) {
  auto type = cast<MemRefType>(memref.getType());
  auto metadata =
      memref::ExtractStridedMetadataOp::create(builder, loc, memref);
  Value element = metadata.getOffset();
  for (auto [index, stride] : llvm::zip(indices, metadata.getStrides())) {
    Value step = arith::MulIOp::create(builder, loc, index, stride);
    element = arith::AddIOp::create(builder, loc, element, step);
  }
  Value base =
      memref::ExtractAlignedPointerAsIndexOp::create(builder, loc, memref);
  Value bytes = arith::MulIOp::create(
      builder, loc, element,
      arith::ConstantIndexOp::create(builder, loc,
                                     type.getElementTypeBitWidth() / 8));
  Value address = arith::AddIOp::create(builder, loc, base, bytes);
  address =
      arith::IndexCastOp::create(builder, loc, builder.getI64Type(), address);
  return LLVM::IntToPtrOp::create(
      builder, loc, LLVM::LLVMPointerType::get(builder.getContext(), 1),
      address);
}

int64_t tl::rowAlignment(Value memref) {
  int64_t element = cast<MemRefType>(memref.getType()).getElementTypeBitWidth();
  element = std::max<int64_t>(element / 8, 1);
  uint64_t within = 0; // wraps, for offsets that no memory has
  while (Operation *def = memref.getDefiningOp()) {
    if (auto cast = dyn_cast<memref::CastOp>(def)) {
      memref = cast.getSource();
      continue;
    }
    auto view = dyn_cast<memref::SubViewOp>(def);
    if (!view)
      return element;
    // Only the innermost dimension steps by less than the strides.
    auto offset = getConstantIntValue(view.getMixedOffsets().back());
    if (!offset)
      return element;
    within += uint64_t(*offset) * element;
    memref = view.getSource();
  }
  auto arg = dyn_cast<BlockArgument>(memref);
  auto func = arg ? dyn_cast<func::FuncOp>(arg.getOwner()->getParentOp())
                  : func::FuncOp();
  auto align = func ? func.getArgAttrOfType<IntegerAttr>(arg.getArgNumber(),
                                                         "tile.align")
                    : IntegerAttr();
  return align ? std::max<int64_t>(std::gcd(uint64_t(align.getInt()), within),
                                   element)
               : element;
}

namespace {

/// Columns of the blocks of 8 rows within which shuffled memory is permuted: a
/// line of memory, where warps that share rows hold whole blocks all the same.
static int64_t shuffledColumns(MemRefType memory) {
  return memory.getDimSize(1) % 64 == 0 ? 32 : 16;
}

/// Whether each warp holds such blocks of a tile as products accumulate them.
static bool holdsBlocks(FragmentAttr layout, int64_t columns) {
  auto has = [](FragmentAttr::Mode mode, int64_t dim, int64_t stride) {
    return mode.dim == dim && mode.stride == stride;
  };
  SmallVector<FragmentAttr::Mode> lanes = layout.laneModes(),
                                  regs = layout.regModes();
  return lanes.size() == 2 && has(lanes[0], 1, 2) && has(lanes[1], 0, 1) &&
         regs.size() >= 3 && has(regs[0], 1, 1) && has(regs[1], 0, 8) &&
         has(regs[2], 1, 8) && regs[2].extent * 8 % columns == 0 &&
         llvm::all_of(layout.warpModes(), [&](FragmentAttr::Mode mode) {
           return mode.stride % (mode.dim == 0 ? 8 : columns) == 0;
         });
}

/// The places in memory of the registers of a tile.
///
/// When shuffled, the 32 elements that a register holds in a warp, columns
/// 8 j + 2 t + p of rows g (t = lane % 4, g = lane / 4), follow each other in
/// memory: as number 2 j + p of their block.
class Access {
public:
  Access(OpBuilder &builder, Location loc, KernelContext &kernel,
         const Team &team, FragmentAttr layout, RankedTensorType tile,
         Value memref, ValueRange offsets,
         std::optional<ArrayRef<int64_t>> order,
         std::optional<ArrayRef<int64_t>> merged, bool isShuffled = false)
      : builder(builder), loc(loc), layout(layout), memref(memref),
        view(memref, merged) {
    if (isShuffled)
      blockColumns = shuffledColumns(cast<MemRefType>(memref.getType()));
    SmallVector<Value> places;
    for (int64_t dim = 0; dim < tile.getRank(); ++dim)
      places.push_back(threadOffset(builder, loc, kernel, team, layout, dim));
    if (isShuffled)
      shuffle(places[0], places[1]);
    for (int64_t dim = 0; dim < tile.getRank(); ++dim) {
      int64_t memDim = order ? (*order)[dim] : dim;
      memDims.push_back(memDim);
      Value base = arith::IndexCastOp::create(
          builder, loc, builder.getIndexType(), places[dim]);
      bases.push_back(
          arith::AddIOp::create(builder, loc, offsets[memDim], base));
      // Constant offset and static extent: nothing to check at run time.
      extents.push_back(
          view.holds(memDim, offsets[memDim], tile.getDimSize(dim))
              ? Value()
              : view.getExtent(builder, loc, memDim));
    }
  }

  /// How far register `reg` is from the thread's first place along `dim`.
  int64_t distance(int64_t reg, int64_t dim) {
    int64_t offset = layout.registerOffset(reg, dim);
    if (!blockColumns)
      return offset;
    int64_t column = layout.registerOffset(reg, 1);
    if (dim == 1)
      return column / blockColumns * blockColumns;
    int64_t number = column % blockColumns / 8 * 2 + column % 2;
    return offset + number * 32 / blockColumns;
  }

  /// Index of register `reg` along tile dimension `dim`.
  Value index(int64_t reg, int64_t dim) {
    int64_t offset = distance(reg, dim);
    if (offset == 0)
      return bases[dim];
    return arith::AddIOp::create(
        builder, loc, bases[dim],
        arith::ConstantIndexOp::create(builder, loc, offset));
  }

  /// Indices in the order of the memref.
  SmallVector<Value> indices(int64_t reg) {
    SmallVector<Value> result(memDims.size());
    for (auto [dim, memDim] : llvm::enumerate(memDims))
      result[memDim] = index(reg, dim);
    return view.expand(builder, loc, result);
  }

  /// Address of register `reg`: a constant away from others, as far as strides
  /// are constants, which instructions add for free. What it computes stands at
  /// the builder's place, also for later calls.
  Value pointer(int64_t reg) {
    auto type = cast<MemRefType>(memref.getType());
    SmallVector<int64_t> key;
    int64_t constant = 0;
    SmallVector<Value> at(memDims.size());
    for (auto [dim, memDim] : llvm::enumerate(memDims)) {
      int64_t stride = view.getStride(memDim);
      bool isDynamic = ShapedType::isDynamic(stride);
      at[memDim] = isDynamic ? index(reg, dim) : bases[dim];
      key.push_back(isDynamic ? distance(reg, dim) : 0);
      if (!isDynamic)
        constant += distance(reg, dim) * stride;
    }
    Value &base = pointers[key];
    if (!base)
      base = globalPointer(builder, loc, memref, view.expand(builder, loc, at));
    if (constant == 0)
      return base;
    return LLVM::GEPOp::create(builder, loc, base.getType(),
                               type.getElementType(), base,
                               ArrayRef<LLVM::GEPArg>{int32_t(constant)});
  }

  /// Whether register `reg` is inside, looking at dimensions [first, end);
  /// null when it always is.
  Value inside(int64_t reg, int64_t first, int64_t end) {
    Value result;
    for (int64_t dim = first; dim < end; ++dim) {
      if (!extents[dim])
        continue;
      Value check =
          arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::slt,
                                index(reg, dim), extents[dim]);
      result = result
                   ? Value(arith::AndIOp::create(builder, loc, result, check))
                   : check;
    }
    return result;
  }

private:
  void shuffle(Value &row, Value &column) {
    auto constant = [&](int64_t value) {
      return constantI32(builder, loc, value);
    };
    auto bits = [&](Value value, int64_t mask, int64_t shift) -> Value {
      value = arith::AndIOp::create(builder, loc, value, constant(mask));
      return arith::ShRUIOp::create(builder, loc, value, constant(shift));
    };
    auto sum = [&](std::initializer_list<Value> values) {
      Value result;
      for (Value value : values)
        result = result
                     ? Value(arith::AddIOp::create(builder, loc, result, value))
                     : value;
      return result;
    };
    // The lane's place among the 32 elements.
    Value place =
        arith::ShLIOp::create(builder, loc, bits(row, 7, 0), constant(2));
    place = sum({place, bits(column, 6, 1)});
    row = sum({bits(row, ~7, 0), bits(place, 31, llvm::Log2_64(blockColumns))});
    column =
        sum({bits(column, -blockColumns, 0), bits(place, blockColumns - 1, 0)});
  }

  OpBuilder &builder;
  Location loc;
  FragmentAttr layout;
  Value memref;
  MergedView view;
  int64_t blockColumns = 0; // of shuffled memory
  std::map<SmallVector<int64_t>, Value> pointers;
  SmallVector<int64_t> memDims;
  SmallVector<Value> bases, extents;
};

} // namespace

/// Whether `width` registers from each multiple of it on are neighbours in a
/// row of `memref`, aligned to all of them and inside of it together.
static bool holdsRuns(int64_t width, FragmentAttr layout, RankedTensorType tile,
                      Value memref, ValueRange offsets,
                      std::optional<ArrayRef<int64_t>> order,
                      std::optional<ArrayRef<int64_t>> merged) {
  SmallVector<FragmentAttr::Mode> modes = layout.regModes();
  return tile.getRank() == 2 && !modes.empty() &&
         modes[0].extent % width == 0 && modes[0].dim == 1 &&
         modes[0].stride == 1 && !order &&
         rowAlignment(memref) >= width * tile.getElementTypeBitWidth() / 8 &&
         MergedView(memref, merged).holds(1, offsets[1], tile.getDimSize(1)) &&
         getConstantIntValue(offsets[1]).value_or(1) % width == 0;
}

/// The layout of an accumulator when the four lanes that share rows have
/// exchanged their columns: a run of eight columns in place of four pairs. Null
/// for other layouts.
static FragmentAttr layoutOfRuns(FragmentAttr layout) {
  SmallVector<FragmentAttr::Mode> regs = layout.regModes(),
                                  lanes = layout.laneModes();
  auto is = [](FragmentAttr::Mode mode, int64_t extent, int64_t stride) {
    return mode.extent == extent && mode.dim == 1 && mode.stride == stride;
  };
  auto *blocks = llvm::find_if(regs, [&](FragmentAttr::Mode mode) {
    return mode.extent % 4 == 0 && is(mode, mode.extent, 8);
  });
  if (blocks == regs.end() || !is(regs[0], 2, 1) || lanes.empty() ||
      !is(lanes[0], 4, 2))
    return {};
  regs[0].extent = 8;
  blocks->extent /= 4;
  blocks->stride = 32;
  lanes[0].stride = 8;
  return FragmentAttr::get(layout.getContext(), regs, lanes,
                           layout.warpModes());
}

/// Words of two registers that lanes exchange with each other for the run of
/// eight registers from `reg` of `runs` on, which layoutOfRuns gives.
static SmallVector<Value> wordsToExchange(OpBuilder &builder, Location loc,
                                          FragmentAttr layout,
                                          FragmentAttr runs, int64_t reg,
                                          ValueRange values) {
  SmallVector<Value> words;
  for (int64_t block = 0; block < 4; ++block) {
    int64_t from = layout.findRegister(
        {runs.registerOffset(reg, 0), runs.registerOffset(reg, 1) + 8 * block});
    words.push_back(packPair(builder, loc, values[from], values[from + 1]));
  }
  return words;
}

/// Registers of 16 bits from `layout` to `runs`: two per word. A transposition
/// of 4x4 words by shuffles, a bit of their number at a time.
static SmallVector<Value> exchange(OpBuilder &builder, Location loc, Value lane,
                                   FragmentAttr layout, FragmentAttr runs,
                                   ValueRange values) {
  auto constant = [&](int64_t value) {
    return constantI32(builder, loc, value);
  };
  std::array<Value, 2> isSet;
  for (int64_t bit : {0, 1})
    isSet[bit] = arith::CmpIOp::create(
        builder, loc, arith::CmpIPredicate::ne,
        arith::AndIOp::create(builder, loc, lane, constant(1 << bit)),
        constant(0));
  SmallVector<Value> result;
  for (int64_t reg = 0, e = runs.numRegisters(); reg < e; reg += 8) {
    SmallVector<Value> words =
        wordsToExchange(builder, loc, layout, runs, reg, values);
    for (int64_t bit : {0, 1})
      for (int64_t i = 0; i < 4; ++i) {
        if (i >> bit & 1)
          continue;
        Value &low = words[i], &high = words[i | 1 << bit];
        auto select = [&](Value a, Value b) -> Value {
          return arith::SelectOp::create(builder, loc, isSet[bit], a, b);
        };
        Value other = NVVM::ShflOp::create(
            builder, loc, low.getType(), constant(-1), select(low, high),
            constant(1 << bit), constant(31), NVVM::ShflKind::bfly, UnitAttr());
        low = select(other, low);
        high = select(high, other);
      }
    llvm::append_range(result, words);
  }
  return result;
}

/// The same by way of shared memory from `offset` on, of which each warp has
/// its part: four matrices of 8x8 are stored, and a lane loads a row of one.
static SmallVector<Value>
exchangeInShared(OpBuilder &builder, Location loc, const KernelContext &kernel,
                 const Team &team, int64_t offset, FragmentAttr layout,
                 FragmentAttr runs, ValueRange values) {
  constexpr int64_t kMatrices = 4, kMatrixBytes = 128, kRowBytes = 16;
  constexpr int64_t kGroupBytes = kMatrices * kMatrixBytes;
  MLIRContext *context = builder.getContext();
  auto constant = [&](int64_t value) {
    return constantI32(builder, loc, value);
  };
  auto add = [&](Value a, Value b) -> Value {
    return arith::AddIOp::create(builder, loc, a, b);
  };
  auto times = [&](Value a, int64_t factor) -> Value {
    return arith::MulIOp::create(builder, loc, a, constant(factor));
  };
  auto quotient = [&](Value a, int64_t divisor) -> Value {
    return arith::DivUIOp::create(builder, loc, a, constant(divisor));
  };
  auto remainder = [&](Value a, int64_t divisor) -> Value {
    return arith::RemUIOp::create(builder, loc, a, constant(divisor));
  };
  Value start =
      add(times(team.warp, StoreOp::kExchangeBytes), constant(offset));
  // Rows are turned by two per matrix, so that lanes which load different
  // matrices at the same time use different banks.
  auto place = [&](Value matrix, Value row) {
    Value turned = remainder(add(row, times(matrix, 2)), 8);
    Value within = add(times(matrix, kMatrixBytes), times(turned, kRowBytes));
    return sharedPointer(builder, loc, kernel.shared, add(start, within));
  };
  Value to = place(quotient(kernel.lane, 8), remainder(kernel.lane, 8));
  Value from = place(remainder(kernel.lane, 4), quotient(kernel.lane, 4));
  auto groupOf = [&](Value pointer, int64_t group) -> Value {
    return LLVM::GEPOp::create(
        builder, loc, pointer.getType(), builder.getI8Type(), pointer,
        ArrayRef<LLVM::GEPArg>{int32_t(group * kGroupBytes)});
  };
  SmallVector<Value> result;
  constexpr int64_t kGroups = StoreOp::kExchangeBytes / kGroupBytes;
  int64_t numGroups = runs.numRegisters() / 8;
  for (int64_t first = 0; first < numGroups; first += kGroups) {
    int64_t count = std::min(kGroups, numGroups - first);
    // What was there has been loaded.
    NVVM::SyncWarpOp::create(builder, loc, constant(-1));
    for (int64_t i = 0; i < count; ++i)
      NVVM::StMatrixOp::create(
          builder, loc, groupOf(to, i),
          wordsToExchange(builder, loc, layout, runs, 8 * (first + i), values),
          NVVM::MMALayout::row, NVVM::LdStMatrixShapeAttr::get(context, 8, 8),
          NVVM::LdStMatrixEltType::B16);
    NVVM::SyncWarpOp::create(builder, loc, constant(-1));
    for (int64_t i = 0; i < count; ++i) {
      Value row = LLVM::LoadOp::create(builder, loc,
                                       VectorType::get(4, builder.getI32Type()),
                                       groupOf(from, i), kRowBytes);
      for (int64_t word = 0; word < 4; ++word)
        result.push_back(
            vector::ExtractOp::create(builder, loc, row, ArrayRef{word}));
    }
  }
  return result;
}

void tl::guarded(OpBuilder &builder, Location loc, Value condition) {
  if (!condition)
    return;
  auto branch = scf::IfOp::create(builder, loc, condition, false);
  builder.setInsertionPointToStart(branch.thenBlock());
}

/// Whether all replicated lane and warp digits of this thread are zero; null
/// when nothing is replicated.
static Value ownsElements(OpBuilder &builder, Location loc,
                          KernelContext &kernel, const Team &team,
                          FragmentAttr layout) {
  Value result;
  auto check = [&](Value index, ArrayRef<FragmentAttr::Mode> modes) {
    int64_t below = 1;
    for (const FragmentAttr::Mode &mode : modes) {
      if (mode.stride == 0 && mode.extent > 1) {
        Value digit = arith::DivUIOp::create(builder, loc, index,
                                             constantI32(builder, loc, below));
        digit = arith::RemUIOp::create(builder, loc, digit,
                                       constantI32(builder, loc, mode.extent));
        Value zero =
            arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, digit,
                                  constantI32(builder, loc, 0));
        result = result
                     ? Value(arith::AndIOp::create(builder, loc, result, zero))
                     : zero;
      }
      below *= mode.extent;
    }
  };
  check(kernel.lane, layout.laneModes());
  check(team.warp, layout.warpModes());
  return result;
}

namespace {

struct LoadPattern : OpConversionPattern<LoadOp> {
  LoadPattern(const TypeConverter &converter, MLIRContext *context,
              KernelContext &kernel)
      : OpConversionPattern(converter, context), kernel(kernel) {}
  LogicalResult
  matchAndRewrite(LoadOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    auto type = cast<RankedTensorType>(op.getResult().getType());
    FragmentAttr layout = layoutOf(type);
    Value source = op.getSource();
    if (op.getShuffled() &&
        !holdsBlocks(layout, shuffledColumns(op.getSource().getType())))
      return op.emitError("is shuffled, which this layout has no form for: ")
             << layout;
    Access access(rewriter, loc, kernel, kernel.teamOf(op), layout, type,
                  source, op.getOffsets(), op.getOrder(), op.getMerged(),
                  op.getShuffled());
    Value zero = arith::ConstantOp::create(
        rewriter, loc, rewriter.getZeroAttr(type.getElementType()));
    int64_t width =
        !op.getShuffled() && holdsRuns(2, layout, type, source, op.getOffsets(),
                                       op.getOrder(), op.getMerged())
            ? 2
            : 1;
    SmallVector<Value> results;
    for (int64_t reg = 0, e = layout.numRegisters(); reg < e; reg += width) {
      SmallVector<Value> indices = access.indices(reg);
      Value pointer = width == 1 ? Value() : access.pointer(reg);
      auto loaded = [&](OpBuilder &builder) -> SmallVector<Value> {
        if (width == 1)
          return {memref::LoadOp::create(builder, loc, source, indices)};
        Value pair = LLVM::LoadOp::create(
            builder, loc, VectorType::get(2, type.getElementType()), pointer,
            type.getElementTypeBitWidth() / 4);
        return {vector::ExtractOp::create(builder, loc, pair, 0),
                vector::ExtractOp::create(builder, loc, pair, 1)};
      };
      Value inside = access.inside(reg, 0, type.getRank());
      if (!inside) {
        results.append(loaded(rewriter));
        continue;
      }
      auto branch = scf::IfOp::create(
          rewriter, loc, inside,
          [&](OpBuilder &builder, Location loc) {
            scf::YieldOp::create(builder, loc, loaded(builder));
          },
          [&](OpBuilder &builder, Location loc) {
            scf::YieldOp::create(builder, loc, SmallVector<Value>(width, zero));
          });
      llvm::append_range(results, branch.getResults());
    }
    rewriter.replaceOpWithMultiple(op, {results});
    return success();
  }
  KernelContext &kernel;
};

struct GatherPattern : OpConversionPattern<GatherOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(GatherOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    SmallVector<Value> results;
    Value zero = arith::ConstantIndexOp::create(rewriter, loc, 0);
    Value one = arith::ConstantIndexOp::create(rewriter, loc, 1);
    SmallVector<Value> last;
    for (int64_t dim = 0; dim < op.getSource().getType().getRank(); ++dim) {
      Value extent = memref::DimOp::create(rewriter, loc, op.getSource(), dim);
      last.push_back(arith::SubIOp::create(rewriter, loc, extent, one));
    }
    for (int64_t reg = 0, e = layoutOf(op.getType()).numRegisters(); reg < e;
         ++reg) {
      SmallVector<Value> indices;
      for (auto [registers, end] : llvm::zip(adaptor.getIndices(), last)) {
        Value index = arith::IndexCastOp::create(
            rewriter, loc, rewriter.getIndexType(), registers[reg]);
        index = arith::MaxSIOp::create(rewriter, loc, index, zero);
        indices.push_back(arith::MinSIOp::create(rewriter, loc, index, end));
      }
      results.push_back(
          memref::LoadOp::create(rewriter, loc, op.getSource(), indices));
    }
    rewriter.replaceOpWithMultiple(op, {results});
    return success();
  }
};

/// tile.store and tile.accumulate.
template <typename OpT> struct StorePattern : OpConversionPattern<OpT> {
  StorePattern(const TypeConverter &converter, MLIRContext *context,
               KernelContext &kernel)
      : OpConversionPattern<OpT>(converter, context), kernel(kernel) {}
  LogicalResult
  matchAndRewrite(OpT op,
                  typename OpConversionPattern<OpT>::OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    auto type = cast<RankedTensorType>(op.getValue().getType());
    constexpr bool add = std::is_same_v<OpT, AccumulateOp>;
    if (add && !type.getElementType().isF32())
      return op.emitError("adds ")
             << type.getElementType()
             << " to memory; on a GPU a tile is accumulated in f32";
    FragmentAttr layout = layoutOf(type);
    Value dest = op.getDest();
    const Team &team = kernel.teamOf(op);
    int64_t rank = type.getRank();
    bool isShuffled = false;
    std::optional<ArrayRef<int64_t>> merged;
    // Where in shared memory warps exchange columns; none if by shuffles.
    std::optional<int64_t> exchangePlace;
    if constexpr (add)
      isShuffled = op.getShuffled();
    else {
      merged = op.getMerged();
      exchangePlace = op.getOffset();
    }
    if (isShuffled &&
        !holdsBlocks(layout, shuffledColumns(op.getDest().getType())))
      return op.emitError("is shuffled, which this layout has no form for: ")
             << layout;
    auto holds = [&](int64_t width, FragmentAttr layout) {
      return !isShuffled && holdsRuns(width, layout, type, dest,
                                      op.getOffsets(), op.getOrder(), merged);
    };
    // Neighbours that one instruction stores or adds.
    int64_t width = holds(2, layout) && (!add || hasVectorReduction()) ? 2 : 1;
    SmallVector<Value> words;
    if (FragmentAttr runs = layoutOfRuns(layout);
        runs && !add && type.getElementTypeBitWidth() == 16 && holds(8, runs)) {
      words = exchangePlace ? exchangeInShared(rewriter, loc, kernel, team,
                                               *exchangePlace, layout, runs,
                                               adaptor.getValue())
                            : exchange(rewriter, loc, kernel.lane, layout, runs,
                                       adaptor.getValue());
      layout = runs;
      width = 8;
    }
    Access access(rewriter, loc, kernel, team, layout, type, dest,
                  op.getOffsets(), op.getOrder(), merged, isShuffled);

    // Threads that hold copies of the same element: one of them stores.
    Value owner = ownsElements(rewriter, loc, kernel, team, layout);

    // Registers of one row share its check.
    DenseMap<int64_t, SmallVector<int64_t>> rows;
    SmallVector<int64_t> order;
    for (int64_t reg = 0, e = layout.numRegisters(); reg < e; reg += width) {
      int64_t row = layout.registerOffset(reg, 0);
      if (!rows.contains(row))
        order.push_back(row);
      rows[row].push_back(reg);
    }
    for (int64_t row : order) {
      DenseMap<int64_t, Value> pointers;
      if (add || width > 1)
        for (int64_t reg : rows[row])
          pointers[reg] = access.pointer(reg);
      OpBuilder::InsertionGuard guard(rewriter);
      guarded(rewriter, loc, owner);
      guarded(rewriter, loc, access.inside(rows[row].front(), 0, 1));
      for (int64_t reg : rows[row]) {
        OpBuilder::InsertionGuard inner(rewriter);
        guarded(rewriter, loc, access.inside(reg, 1, rank));
        if (add) {
          ptx::reduceAdd(rewriter, loc, pointers[reg],
                         adaptor.getValue().slice(reg, width));
        } else if (width > 1) {
          Type element =
              width == 8 ? rewriter.getI32Type() : Type(type.getElementType());
          ValueRange from = width == 8 ? ValueRange(words).slice(reg / 2, 4)
                                       : adaptor.getValue().slice(reg, 2);
          Value run = vector::FromElementsOp::create(
              rewriter, loc, VectorType::get(from.size(), element), from);
          LLVM::StoreOp::create(rewriter, loc, run, pointers[reg],
                                width * type.getElementTypeBitWidth() / 8);
        } else {
          memref::StoreOp::create(rewriter, loc, adaptor.getValue()[reg], dest,
                                  access.indices(reg));
        }
      }
    }
    rewriter.eraseOp(op);
    return success();
  }

  /// Whether one instruction adds several elements.
  bool hasVectorReduction() const {
    const fa::Chip *chip = fa::findChip(kernel.plan.getChip());
    return chip && chip->capability >= 90;
  }

  KernelContext &kernel;
};

} // namespace

void tl::synchronize(OpBuilder &builder, Location loc,
                     const KernelContext &kernel, const Team &team) {
  if (!kernel.hasRoles()) {
    NVVM::Barrier0Op::create(builder, loc);
    return;
  }
  NVVM::BarrierOp::create(builder, loc, TypeRange(),
                          constantI32(builder, loc, 15),
                          constantI32(builder, loc, 32 * team.warps),
                          NVVM::BarrierReductionAttr(), Value());
}

void tl::fenceAsync(OpBuilder &builder, Location loc) {
  NVVM::FenceProxyOp::create(
      builder, loc, NVVM::ProxyKind::async_shared,
      NVVM::SharedSpaceAttr::get(builder.getContext(),
                                 NVVM::SharedSpace::shared_cta));
}

void tl::waitForBulkReads(OpBuilder &builder, Location loc) {
  NVVM::CpAsyncBulkWaitGroupOp::create(
      builder, loc, builder.getI32IntegerAttr(0), builder.getUnitAttr());
}

void tl::waitBehindLoops(OpBuilder &builder, Operation *op) {
  OpBuilder::InsertionGuard guard(builder);
  Operation *outermost = op;
  while (auto loop = outermost->getParentOfType<scf::ForOp>())
    outermost = loop;
  builder.setInsertionPointAfter(outermost);
  // Once for all copies of the loops.
  if (!isa_and_present<NVVM::CpAsyncBulkWaitGroupOp>(outermost->getNextNode()))
    waitForBulkReads(builder, op->getLoc());
}

namespace {
/// tile.accumulate through shared memory: what lies there is laid out as the
/// memory is, so one thread adds all of it by one copy.
struct BulkAccumulatePattern : OpConversionPattern<AccumulateOp> {
  BulkAccumulatePattern(const TypeConverter &converter, MLIRContext *context,
                        KernelContext &kernel)
      : OpConversionPattern(converter, context, /*benefit=*/2), kernel(kernel) {
  }
  LogicalResult
  matchAndRewrite(AccumulateOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    if (!op.getOffset())
      return failure();
    Location loc = op.getLoc();
    auto type = cast<RankedTensorType>(op.getValue().getType());
    FragmentAttr layout = layoutOf(type);
    int64_t cols = type.getDimSize(1);
    if (!type.getElementType().isF32() ||
        !holdsBlocks(layout, shuffledColumns(op.getDest().getType())))
      return op.emitError("goes through shared memory, which this tile has no "
                          "form for: ")
             << type;
    const Team &team = kernel.teamOf(op);
    if (!op.getFree()) {
      waitForBulkReads(rewriter, loc);
      synchronize(rewriter, loc, kernel, team);
    }
    store(op, adaptor.getValue(), layout, team, rewriter);
    fenceAsync(rewriter, loc);
    synchronize(rewriter, loc, kernel, team);
    {
      // Rows that exist.
      Value left = arith::SubIOp::create(
          rewriter, loc, memref::DimOp::create(rewriter, loc, op.getDest(), 0),
          op.getOffsets()[0]);
      Value zero = arith::ConstantIndexOp::create(rewriter, loc, 0);
      Value all =
          arith::ConstantIndexOp::create(rewriter, loc, type.getDimSize(0));
      Value rows = arith::MinSIOp::create(rewriter, loc, left, all);
      Value bytes =
          arith::MulIOp::create(rewriter, loc, toI32(rewriter, loc, rows),
                                constantI32(rewriter, loc, 4 * cols));
      Value pointer =
          globalPointer(rewriter, loc, op.getDest(), op.getOffsets());
      Value isFirst =
          arith::CmpIOp::create(rewriter, loc, arith::CmpIPredicate::eq,
                                team.thread, constantI32(rewriter, loc, 0));
      Value exists = arith::CmpIOp::create(
          rewriter, loc, arith::CmpIPredicate::sgt, left, zero);
      OpBuilder::InsertionGuard guard(rewriter);
      guarded(rewriter, loc,
              arith::AndIOp::create(rewriter, loc, isFirst, exists));
      Value source = sharedPointer(rewriter, loc, kernel.shared,
                                   constantI32(rewriter, loc, *op.getOffset()));
      ptx::bulkReduceAdd(rewriter, loc, pointer, source, bytes);
      NVVM::CpAsyncBulkCommitGroupOp::create(rewriter, loc);
    }
    waitBehindLoops(rewriter, op);
    rewriter.eraseOp(op);
    return success();
  }

  void store(AccumulateOp op, ValueRange values, FragmentAttr layout,
             const Team &team, ConversionPatternRewriter &rewriter) const {
    Location loc = op.getLoc();
    auto type = cast<RankedTensorType>(op.getValue().getType());
    int64_t cols = type.getDimSize(1);
    SmallVector<Value> origin(2,
                              arith::ConstantIndexOp::create(rewriter, loc, 0));
    Access access(rewriter, loc, kernel, team, layout, type, op.getDest(),
                  origin, /*order=*/std::nullopt, /*merged=*/std::nullopt,
                  /*isShuffled=*/true);
    auto constant = [&](int64_t value) {
      return constantI32(rewriter, loc, value);
    };
    Value row = toI32(rewriter, loc, access.index(0, 0));
    Value place = arith::AddIOp::create(
        rewriter, loc,
        arith::MulIOp::create(rewriter, loc, row, constant(cols)),
        toI32(rewriter, loc, access.index(0, 1)));
    place = arith::AddIOp::create(
        rewriter, loc, arith::MulIOp::create(rewriter, loc, place, constant(4)),
        constant(*op.getOffset()));
    Value pointer = sharedPointer(rewriter, loc, kernel.shared, place);
    OpBuilder::InsertionGuard guard(rewriter);
    guarded(rewriter, loc, ownsElements(rewriter, loc, kernel, team, layout));
    for (int64_t reg = 0, e = layout.numRegisters(); reg < e; ++reg) {
      int64_t far = access.distance(reg, 0) * cols + access.distance(reg, 1);
      Value at = LLVM::GEPOp::create(rewriter, loc, pointer.getType(),
                                     type.getElementType(), pointer,
                                     ArrayRef<LLVM::GEPArg>{int32_t(far)});
      LLVM::StoreOp::create(rewriter, loc, values[reg], at, /*alignment=*/4);
    }
  }

  KernelContext &kernel;
};

/// Pairs of neighbours go to the swizzled places that products read.
struct StagePattern : OpConversionPattern<StageOp> {
  StagePattern(const TypeConverter &converter, MLIRContext *context,
               KernelContext &kernel)
      : OpConversionPattern(converter, context), kernel(kernel) {}
  LogicalResult
  matchAndRewrite(StageOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    auto type = cast<RankedTensorType>(op.getSource().getType());
    FragmentAttr layout = layoutOf(type);
    for (auto [i, mode] : llvm::enumerate(layout.regModes()))
      if (i ? mode.stride % 8 != 0
            : mode.extent != 2 || mode.dim != 1 || mode.stride != 1)
        return op.emitError("the registers of the tile are not pairs of "
                            "neighbours in blocks of 8x8");
    const Team &team = kernel.teamOf(op);
    auto constant = [&](int64_t value) {
      return constantI32(rewriter, loc, value);
    };
    int64_t swizzle = op.getBuffer().getType().getSwizzle();
    int64_t panelBytes = type.getDimSize(0) * swizzle;
    Value row = threadOffset(rewriter, loc, kernel, team, layout, 0);
    Value col = threadOffset(rewriter, loc, kernel, team, layout, 1);
    Value rowBytes =
        arith::MulIOp::create(rewriter, loc, row, constant(swizzle));
    // Registers are whole eights of rows apart, which keeps the swizzle.
    Value phase = arith::AndIOp::create(
        rewriter, loc,
        arith::ShRUIOp::create(rewriter, loc, rowBytes, constant(7)),
        constant(swizzle / 16 - 1));
    Value start = arith::AddIOp::create(rewriter, loc, rowBytes,
                                        constant(*op.getOffset()));
    DenseMap<int64_t, Value> places; // of the columns of a register
    if (!op.getUnread())
      synchronize(rewriter, loc, kernel, team);
    // Threads that hold copies of the same element: one of them stores.
    OpBuilder::InsertPoint after;
    if (Value owner = ownsElements(rewriter, loc, kernel, team, layout)) {
      auto branch = scf::IfOp::create(rewriter, loc, owner, false);
      after = rewriter.saveInsertionPoint();
      rewriter.setInsertionPointToStart(branch.thenBlock());
    }
    for (int64_t reg = 0, e = layout.numRegisters(); reg < e; reg += 2) {
      int64_t offset = layout.registerOffset(reg, 1);
      Value &place = places[offset];
      if (!place) {
        Value bytes = arith::MulIOp::create(
            rewriter, loc,
            arith::AddIOp::create(rewriter, loc, col, constant(offset)),
            constant(2));
        Value panel =
            arith::DivUIOp::create(rewriter, loc, bytes, constant(swizzle));
        Value within =
            arith::RemUIOp::create(rewriter, loc, bytes, constant(swizzle));
        within = arith::XOrIOp::create(
            rewriter, loc, within,
            arith::ShLIOp::create(rewriter, loc, phase, constant(4)));
        Value address = arith::AddIOp::create(rewriter, loc, start, within);
        address = arith::AddIOp::create(
            rewriter, loc, address,
            arith::MulIOp::create(rewriter, loc, panel, constant(panelBytes)));
        place = sharedPointer(rewriter, loc, kernel.shared, address);
      }
      int64_t rows = layout.registerOffset(reg, 0) * swizzle;
      Value pointer = LLVM::GEPOp::create(
          rewriter, loc, place.getType(), rewriter.getI8Type(), place,
          ArrayRef<LLVM::GEPArg>{int32_t(rows)});
      Value pair = vector::FromElementsOp::create(
          rewriter, loc, VectorType::get(2, type.getElementType()),
          adaptor.getSource().slice(reg, 2));
      LLVM::StoreOp::create(rewriter, loc, pair, pointer, /*alignment=*/4);
    }
    if (after.isSet())
      rewriter.restoreInsertionPoint(after);
    if (kernel.plan.getMma() == "wgmma")
      fenceAsync(rewriter, loc);
    if (any_of(op->getBlock()->getOps<AccumulateOp>(),
               [](AccumulateOp add) { return add.getFree(); }))
      waitForBulkReads(rewriter, loc);
    synchronize(rewriter, loc, kernel, team);
    rewriter.replaceOp(op, constant(*op.getOffset()));
    return success();
  }

  KernelContext &kernel;
};

} // namespace

void tl::populateMemoryPatterns(const TypeConverter &converter,
                                RewritePatternSet &patterns,
                                KernelContext &kernel) {
  patterns.add<LoadPattern, StorePattern<StoreOp>, StorePattern<AccumulateOp>>(
      converter, patterns.getContext(), kernel);
  patterns.add<BulkAccumulatePattern, StagePattern>(
      converter, patterns.getContext(), kernel);
  patterns.add<GatherPattern>(converter, patterns.getContext());
}
