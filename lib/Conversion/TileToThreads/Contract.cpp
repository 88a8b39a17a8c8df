//===- Contract.cpp - Products on tensor cores ----------------------------===//

#include "PTX.h"
#include "Patterns.h"
#include "fa/Target/Chip.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/Remarks.h"

using namespace mlir;
using namespace mlir::tl;

/// The four words of the 16x16 block of a left factor in registers whose first
/// element is (row, col) of this thread.
static SmallVector<Value> leftFragment(OpBuilder &builder, Location loc,
                                       FragmentAttr layout,
                                       ValueRange registers, int64_t row,
                                       int64_t col) {
  SmallVector<Value> words;
  for (int64_t dc : {0, 8})
    for (int64_t dr : {0, 8}) {
      int64_t index = layout.findRegister({row + dr, col + dc});
      words.push_back(
          packPair(builder, loc, registers[index], registers[index + 1]));
    }
  return words;
}

/// How many warps (mma.sync) share the rows of an accumulator of this layout,
/// and over how many its columns are spread.
static std::pair<int64_t, int64_t> warpsOf(FragmentAttr layout) {
  int64_t along = 1, across = 1;
  for (const FragmentAttr::Mode &mode : layout.warpModes())
    (mode.dim == 0 ? along : across) *= mode.extent;
  return {along, across};
}

/// Instructions take k in sixteens.
static LogicalResult checkDepth(ContractOp op) {
  int64_t k = op.getExtents()[2];
  if (k % 16 == 0)
    return success();
  return op.emitError("reduces over ")
         << k << " elements; products on a GPU take multiples of 16: use tiles "
         << "that are";
}

/// Says which instruction a product becomes.
static void remarkForm(ContractOp op, const std::string &form) {
  auto func = op->getParentOfType<func::FuncOp>();
  auto in = [](Value factor) {
    return isa<BufferType>(factor.getType()) ? "shared memory" : "registers";
  };
  remark::passed(op.getLoc(), remark::RemarkOpts::name("mma")
                                  .category("convert-tile-to-threads")
                                  .function(func ? func.getName() : ""))
      << remark::metric("form", form) << remark::metric("m", op.getExtents()[0])
      << remark::metric("n", op.getExtents()[1])
      << remark::metric("k", op.getExtents()[2])
      << remark::metric("left", in(op.getLhs()))
      << remark::metric("right", in(op.getRhs()));
}

namespace {

//===----------------------------------------------------------------------===//
// mma.sync
//===----------------------------------------------------------------------===//

/// A buffer seen through `ldmatrix`: 16x16 blocks as four 8x8 matrices.
class MatrixLoader {
public:
  /// With `transpose`, a block is read transposed: the instruction's rows run
  /// along the buffer's columns. `colsFirst` orders the four matrices along
  /// the buffer's columns first: B operands with k along the columns, A
  /// operands with k along the rows. The warp sees the part of the buffer from
  /// row `firstRow` (a multiple of 8) or column `firstCol` (of 8) on, where
  /// they are given.
  MatrixLoader(OpBuilder &builder, Location loc, KernelContext &kernel,
               Value buffer, BufferType type, bool transpose, bool colsFirst,
               Value firstRow, Value firstCol)
      : builder(builder), loc(loc), type(type), transpose(transpose),
        firstCol(firstCol) {
    // Lane l gives the address of row l % 8 of matrix l / 8.
    Value lane = kernel.lane;
    auto bit = [&](int64_t position) -> Value {
      Value shifted = arith::ShRUIOp::create(
          builder, loc, lane, constantI32(builder, loc, position));
      return arith::AndIOp::create(builder, loc, shifted,
                                   constantI32(builder, loc, 1));
    };
    Value within =
        arith::AndIOp::create(builder, loc, lane, constantI32(builder, loc, 7));
    Value rowHalf = bit(colsFirst ? 4 : 3);
    colHalf = bit(colsFirst ? 3 : 4);
    Value row = arith::OrIOp::create(
        builder, loc, within,
        arith::ShLIOp::create(builder, loc, rowHalf,
                              constantI32(builder, loc, 3)));
    int64_t swizzle = type.getSwizzle();
    Value rowBytes = arith::MulIOp::create(builder, loc, row,
                                           constantI32(builder, loc, swizzle));
    base = arith::AddIOp::create(builder, loc, buffer, rowBytes);
    if (firstRow)
      base = arith::AddIOp::create(
          builder, loc, base,
          arith::MulIOp::create(builder, loc, firstRow,
                                constantI32(builder, loc, swizzle)));
    // Blocks start at multiples of 8 rows, so the swizzle depends on the lane's
    // own row only.
    phase = arith::AndIOp::create(
        builder, loc,
        arith::ShRUIOp::create(builder, loc, rowBytes,
                               constantI32(builder, loc, 7)),
        constantI32(builder, loc, swizzle / 16 - 1));
    shared = kernel.shared;
  }

  /// The block that starts at (row, col) of the warp's part: four words.
  SmallVector<Value> load(int64_t row, int64_t col) {
    int64_t swizzle = type.getSwizzle(),
            panelBytes = type.getShape()[0] * swizzle;
    int64_t bytes = row * swizzle;
    // A column that the warp decides: its panel is part of the address.
    int64_t key = firstCol ? col : col * 2 % swizzle / 16;
    if (!firstCol)
      bytes += col * 2 / swizzle * panelBytes;
    Value &laneChunk = chunks[key];
    if (!laneChunk) {
      Value place = base, chunk = constantI32(builder, loc, key);
      if (firstCol) {
        Value column = arith::AddIOp::create(builder, loc, firstCol,
                                             constantI32(builder, loc, col));
        Value perPanel = constantI32(builder, loc, swizzle / 2);
        Value panel = arith::DivUIOp::create(builder, loc, column, perPanel);
        place = arith::AddIOp::create(
            builder, loc, place,
            arith::MulIOp::create(builder, loc, panel,
                                  constantI32(builder, loc, panelBytes)));
        chunk = arith::ShRUIOp::create(
            builder, loc,
            arith::RemUIOp::create(builder, loc, column, perPanel),
            constantI32(builder, loc, 3));
      }
      Value logical = arith::OrIOp::create(builder, loc, colHalf, chunk);
      Value physical = arith::XOrIOp::create(builder, loc, logical, phase);
      Value within = arith::ShLIOp::create(builder, loc, physical,
                                           constantI32(builder, loc, 4));
      laneChunk =
          sharedPointer(builder, loc, shared,
                        arith::AddIOp::create(builder, loc, place, within));
    }
    Value pointer = LLVM::GEPOp::create(builder, loc, laneChunk.getType(),
                                        builder.getI8Type(), laneChunk,
                                        ArrayRef<LLVM::GEPArg>{int32_t(bytes)});
    SmallVector<Type> words(4, builder.getI32Type());
    MLIRContext *context = builder.getContext();
    Value loaded = NVVM::LdMatrixOp::create(
        builder, loc, LLVM::LLVMStructType::getLiteral(context, words), pointer,
        4, transpose ? NVVM::MMALayout::col : NVVM::MMALayout::row,
        NVVM::LdStMatrixShapeAttr::get(context, 8, 8),
        NVVM::LdStMatrixEltType::B16);
    SmallVector<Value> result;
    for (int64_t i = 0; i < 4; ++i)
      result.push_back(LLVM::ExtractValueOp::create(builder, loc, loaded, i));
    return result;
  }

private:
  OpBuilder &builder;
  Location loc;
  BufferType type;
  bool transpose;
  Value firstCol, colHalf, base, phase, shared;
  DenseMap<int64_t, Value> chunks;
};

struct MmaSyncPattern : OpConversionPattern<ContractOp> {
  MmaSyncPattern(const TypeConverter &converter, MLIRContext *context,
                 KernelContext &kernel)
      : OpConversionPattern(converter, context), kernel(kernel) {}

  LogicalResult
  matchAndRewrite(ContractOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    if (kernel.plan.getMma() != "mma_sync" && !op.getEachWarp())
      return failure();
    Location loc = op.getLoc();
    int64_t m = op.getExtents()[0], n = op.getExtents()[1],
            k = op.getExtents()[2];
    auto rhsType = cast<BufferType>(op.getRhs().getType());
    Type element = rhsType.getElementType();
    FragmentAttr accLayout = layoutOf(op.getResult().getType());
    auto [along, across] = warpsOf(accLayout);
    int64_t blocks = m / (16 * along);
    // The accumulators of both instructions are laid out alike within a warp,
    // but not from one block of rows to the next.
    if (op.getEachWarp() && blocks > 1)
      return op.emitError("is made by each warp and has ")
             << blocks << " blocks of rows per warp; one is supported, use "
             << "tiles of fewer rows";
    if (failed(checkDepth(op)))
      return failure();
    const Team &team = kernel.teamOf(op);
    // The warp's columns, when it does not have all.
    n /= across;
    Value cols =
        across > 1 ? warpOffset(rewriter, loc, team, accLayout, 1) : Value();

    const fa::Chip *chip = fa::findChip(kernel.plan.getChip());
    int64_t depth = chip ? chip->mmaDepth : 16;
    remarkForm(op, "mma.sync.m16n8k" + std::to_string(depth));
    bool lhsKMinor = op.isReductionMinor(0), rhsKMinor = op.isReductionMinor(1);
    auto lhsType = dyn_cast<BufferType>(op.getLhs().getType());
    Value rows =
        lhsType ? warpOffset(rewriter, loc, team, accLayout, 0) : Value();

    // The product over `depth` of k from the panel on that begins `panel`
    // panels behind the first.
    auto multiplyPanels = [&](OpBuilder &rewriter, SmallVector<Value> acc,
                              Value panel, int64_t k) {
      auto from = [&](Value buffer, BufferType type) -> Value {
        if (!panel)
          return buffer;
        int64_t bytes = type.getShape()[0] * type.getSwizzle();
        return arith::AddIOp::create(
            rewriter, loc, buffer,
            arith::MulIOp::create(rewriter, loc, panel,
                                  constantI32(rewriter, loc, bytes)));
      };
      MatrixLoader rhs(rewriter, loc, kernel,
                       from(adaptor.getRhs()[0], rhsType), rhsType,
                       /*transpose=*/!rhsKMinor, /*colsFirst=*/rhsKMinor,
                       rhsKMinor ? cols : Value(), rhsKMinor ? Value() : cols);
      std::optional<MatrixLoader> lhs;
      // The warp's rows: the first is part of the lane address.
      if (lhsType)
        lhs.emplace(rewriter, loc, kernel, from(adaptor.getLhs()[0], lhsType),
                    lhsType, /*transpose=*/!lhsKMinor,
                    /*colsFirst=*/!lhsKMinor, lhsKMinor ? rows : Value(),
                    lhsKMinor ? Value() : rows);
      for (int64_t kk = 0; kk < k; kk += 16) {
        SmallVector<SmallVector<Value>> a;
        for (int64_t block = 0; block < blocks; ++block)
          if (!lhs)
            a.push_back(leftFragment(rewriter, loc,
                                     layoutOf(op.getLhs().getType()),
                                     adaptor.getLhs(), 16 * block, kk));
          else
            a.push_back(lhsKMinor ? lhs->load(16 * block, kk)
                                  : lhs->load(kk, 16 * block));
        for (int64_t nn = 0; nn < n; nn += 16) {
          SmallVector<Value> b =
              rhsKMinor ? rhs.load(nn, kk) : rhs.load(kk, nn);
          for (int64_t half = 0; half < 2 && nn + 8 * half < n; ++half)
            for (int64_t block = 0; block < blocks; ++block) {
              int64_t first =
                  accLayout.findRegister({16 * block, nn + 8 * half});
              // Each word of b is eight deep, as are two of a.
              for (int64_t word = 0; word < 2; word += depth / 8)
                multiply(rewriter, loc, element, depth,
                         ArrayRef(a[block]).slice(2 * word, depth / 4),
                         ArrayRef(b).slice(2 * half + word, depth / 8),
                         MutableArrayRef(acc).slice(first, 4));
            }
        }
      }
      return acc;
    };

    SmallVector<Value> acc(adaptor.getAcc());
    // What warps make for themselves is rare: a loop over panels is less code.
    constexpr int64_t kPanel = 64;
    auto hasPanels = [&](BufferType type, bool kMinor) {
      return type && kMinor && type.getSwizzle() == 2 * kPanel;
    };
    if (op.getEachWarp() && k > kPanel && hasPanels(lhsType, lhsKMinor) &&
        hasPanels(rhsType, rhsKMinor)) {
      auto loop = scf::ForOp::create(
          rewriter, loc, constantI32(rewriter, loc, 0),
          constantI32(rewriter, loc, k / kPanel), constantI32(rewriter, loc, 1),
          acc,
          [&](OpBuilder &builder, Location loc, Value panel, ValueRange acc) {
            scf::YieldOp::create(builder, loc,
                                 multiplyPanels(builder, acc, panel, kPanel));
          });
      acc = loop.getResults();
    } else {
      acc = multiplyPanels(rewriter, acc, Value(), k);
    }
    rewriter.replaceOpWithMultiple(op, {acc});
    return success();
  }

  /// acc += a * b by one mma.m16n8k16 or, with `depth` 8, mma.m16n8k8.
  static void multiply(OpBuilder &builder, Location loc, Type element,
                       int64_t depth, ArrayRef<Value> a, ArrayRef<Value> b,
                       MutableArrayRef<Value> acc) {
    Type f32 = builder.getF32Type();
    Type pairType = VectorType::get(2, element);
    bool bf16 = element.isBF16();
    auto factor = [&](ArrayRef<Value> words) {
      SmallVector<Value> values;
      for (Value word : words)
        values.push_back(
            bf16 ? word
                 : LLVM::BitcastOp::create(builder, loc, pairType, word));
      return values;
    };
    auto type = bf16 ? NVVM::MMATypes::bf16 : NVVM::MMATypes::f16;
    auto result = NVVM::MmaOp::create(
        builder, loc,
        LLVM::LLVMStructType::getLiteral(builder.getContext(),
                                         {f32, f32, f32, f32}),
        factor(a), factor(b), acc, ArrayRef<int64_t>{16, 8, depth},
        /*b1Op=*/std::nullopt, /*intOverflow=*/std::nullopt,
        std::array<NVVM::MMATypes, 2>{type, type},
        std::array<NVVM::MMALayout, 2>{NVVM::MMALayout::row,
                                       NVVM::MMALayout::col});
    for (int64_t i = 0; i < 4; ++i)
      acc[i] = LLVM::ExtractValueOp::create(builder, loc, result, i);
  }

  KernelContext &kernel;
};

//===----------------------------------------------------------------------===//
// wgmma
//===----------------------------------------------------------------------===//

struct WgmmaPattern : OpConversionPattern<ContractOp> {
  WgmmaPattern(const TypeConverter &converter, MLIRContext *context,
               KernelContext &kernel)
      : OpConversionPattern(converter, context), kernel(kernel) {}

  LogicalResult
  matchAndRewrite(ContractOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    if (kernel.plan.getMma() != "wgmma" || op.getEachWarp())
      return failure();
    Location loc = op.getLoc();
    if (failed(checkDepth(op)))
      return failure();
    auto [m, n, k] =
        std::tuple(op.getExtents()[0], op.getExtents()[1], op.getExtents()[2]);
    auto rhsType = cast<BufferType>(op.getRhs().getType());
    FragmentAttr accLayout = layoutOf(op.getResult().getType());
    auto [warpsAlong, across] = warpsOf(accLayout);
    int64_t groups = warpsAlong / 4; // that split the rows
    Value group = arith::ShRUIOp::create(rewriter, loc, kernel.teamOf(op).warp,
                                         constantI32(rewriter, loc, 2));
    // The right factor from the warp group's first column on.
    n /= across;
    Value right = adaptor.getRhs()[0];
    bool rhsKMinor = op.isReductionMinor(1);
    if (across > 1) {
      // With k as the rows, a descriptor begins with a panel.
      if (!rhsKMinor && n * 2 % rhsType.getSwizzle())
        return op.emitError("gives each of ")
               << across << " warp groups " << n
               << " columns of the right factor, which is not whole panels of "
               << rhsType.getSwizzle() << " bytes; use fewer warps or wider "
               << "tiles";
      Value share = arith::DivUIOp::create(rewriter, loc, group,
                                           constantI32(rewriter, loc, groups));
      group = arith::RemUIOp::create(rewriter, loc, group,
                                     constantI32(rewriter, loc, groups));
      int64_t bytes =
          rhsKMinor ? n * rhsType.getSwizzle() : 2 * n * rhsType.getShape()[0];
      right = arith::AddIOp::create(
          rewriter, loc, right,
          arith::MulIOp::create(rewriter, loc, share,
                                constantI32(rewriter, loc, bytes)));
    }
    bool fromZero = matchPattern(op.getAcc(), m_AnyZeroFloat());
    remarkForm(op, "wgmma.m64n" + std::to_string(n) + "k16");

    SmallVector<Value> acc(adaptor.getAcc());
    SmallVector<Value> left(adaptor.getLhs());
    bool lhsInRegisters = isa<RankedTensorType>(op.getLhs().getType());
    // Everything that the instructions read from registers is defined before
    // the fence; what a loop does not change, before it.
    bool isHeld = op.getLhs().getDefiningOp<FetchOp>() != nullptr;
    SmallVector<SmallVector<Value>> words;
    for (int64_t block = 0; lhsInRegisters && block < m / (64 * groups);
         ++block)
      for (int64_t kk = 0; kk < k; kk += 16)
        words.push_back(leftFragment(rewriter, loc,
                                     layoutOf(op.getLhs().getType()), left,
                                     64 * groups * block, kk));
    SmallVector<Value> inputs;
    if (!fromZero)
      inputs = acc;
    SmallVector<Value> factors;
    for (SmallVector<Value> &step : words)
      factors.append(step);
    if (!isHeld)
      inputs.append(factors);
    inputs = ptx::wgmmaFence(rewriter, loc, inputs);
    if (isHeld)
      inputs.append(factors);

    SmallVector<Value> results(acc.size());
    SmallVector<SmallVector<int64_t>> places;
    SmallVector<Value> outputs;
    for (int64_t block = 0; block < m / (64 * groups); ++block) {
      ptx::Wgmma product;
      product.n = n;
      product.elementType = rhsType.getElementType();
      product.transposeB = !rhsKMinor;
      product.descB =
          descriptor(rewriter, loc, right, rhsType, product.transposeB);
      product.stepsB = kSteps(rhsType, k, product.transposeB);
      size_t accCount = fromZero ? 0 : acc.size();
      if (lhsInRegisters) {
        size_t perBlock = k / 16 * 4;
        auto *begin = inputs.begin() + accCount + block * perBlock;
        product.registersA.assign(begin, begin + perBlock);
      } else {
        auto lhsType = cast<BufferType>(op.getLhs().getType());
        product.transposeA = !op.isReductionMinor(0);
        Value row = arith::AddIOp::create(
            rewriter, loc, group, constantI32(rewriter, loc, block * groups));
        // 64 rows of one panel, or 64 columns: whole panels of all rows.
        int64_t perBlock = product.transposeA ? 128 * lhsType.getShape()[0]
                                              : 64 * lhsType.getSwizzle();
        Value bytes = arith::MulIOp::create(
            rewriter, loc, row, constantI32(rewriter, loc, perBlock));
        Value first = arith::AddIOp::create(rewriter, loc, left[0], bytes);
        product.descA =
            descriptor(rewriter, loc, first, lhsType, product.transposeA);
        product.stepsA = kSteps(lhsType, k, product.transposeA);
      }
      // The instruction's accumulators: pairs of rows, then columns.
      SmallVector<int64_t> &order = places.emplace_back();
      SmallVector<Value> accumulators;
      for (int64_t col = 0; col < n; col += 8)
        for (int64_t row : {0, 8})
          for (int64_t next : {0, 1}) {
            int64_t reg =
                accLayout.findRegister({64 * groups * block + row, col + next});
            order.push_back(reg);
            if (!fromZero)
              accumulators.push_back(inputs[reg]);
          }
      outputs.append(ptx::wgmma(rewriter, loc, product, accumulators));
    }
    if (!op.getAsync())
      outputs = ptx::wgmmaWait(rewriter, loc, 0, outputs);
    size_t next = 0;
    for (SmallVector<int64_t> &order : places)
      for (int64_t reg : order)
        results[reg] = outputs[next++];
    rewriter.replaceOpWithMultiple(op, {results});
    return success();
  }

  /// The matrix descriptor of a buffer at byte offset `offset` (PTX ISA,
  /// "Asynchronous warpgroup level matrix shared memory layout").
  Value descriptor(OpBuilder &builder, Location loc, Value offset,
                   BufferType type, bool kRows) const {
    int64_t swizzle = type.getSwizzle();
    int64_t mode = swizzle == 128 ? 1 : swizzle == 64 ? 2 : 3;
    // Strides in 16-byte units: of eight rows, and of a panel where the panels
    // lie along m or n (it is not used where they lie along k).
    int64_t strideBytes = 8 * swizzle / 16;
    int64_t leadingBytes = kRows ? type.getShape()[0] * swizzle / 16 : 1;
    uint64_t fixed = uint64_t(mode) << 62 | uint64_t(strideBytes) << 32 |
                     uint64_t(leadingBytes) << 16;
    Value pointer = sharedPointer(builder, loc, kernel.shared, offset);
    Value address =
        LLVM::PtrToIntOp::create(builder, loc, builder.getI32Type(), pointer);
    address = arith::ShRUIOp::create(
        builder, loc,
        arith::AndIOp::create(builder, loc, address,
                              constantI32(builder, loc, 0x3FFFF)),
        constantI32(builder, loc, 4));
    Value wide =
        arith::ExtUIOp::create(builder, loc, builder.getI64Type(), address);
    return arith::OrIOp::create(
        builder, loc, wide,
        arith::ConstantIntOp::create(builder, loc, builder.getI64Type(),
                                     int64_t(fixed)));
  }

  /// Where each step of 16 along k begins, in 16-byte units.
  static SmallVector<int64_t> kSteps(BufferType type, int64_t k, bool kRows) {
    SmallVector<int64_t> steps;
    int64_t swizzle = type.getSwizzle();
    for (int64_t kk = 0; kk < k; kk += 16) {
      int64_t bytes = kRows ? kk * swizzle
                            : kk * 2 / swizzle * type.getShape()[0] * swizzle +
                                  kk * 2 % swizzle;
      steps.push_back(bytes / 16);
    }
    return steps;
  }

  KernelContext &kernel;
};

//===----------------------------------------------------------------------===//
// Factors and results
//===----------------------------------------------------------------------===//

struct FetchPattern : OpConversionPattern<FetchOp> {
  FetchPattern(const TypeConverter &converter, MLIRContext *context,
               KernelContext &kernel)
      : OpConversionPattern(converter, context), kernel(kernel) {}

  LogicalResult
  matchAndRewrite(FetchOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    BufferType type = op.getBuffer().getType();
    FragmentAttr layout = layoutOf(op.getResult().getType());
    Value firstRow =
        warpOffset(rewriter, loc, kernel.teamOf(op), layout, /*dim=*/0);
    MatrixLoader loader(rewriter, loc, kernel, adaptor.getBuffer(), type,
                        /*transpose=*/false, /*colsFirst=*/false, firstRow,
                        /*firstCol=*/Value());
    auto pairType = VectorType::get(2, type.getElementType());
    SmallVector<Value> registers(layout.numRegisters());
    // A warp's blocks of rows, beginning with the first.
    int64_t perBlock = 4 * type.getShape()[1] / 8;
    int64_t blocks = layout.numRegisters() / perBlock;
    auto [along, across] = warpsOf(layout);
    int64_t stride = kernel.plan.getMma() == "wgmma" ? 16 * along : 16;
    for (int64_t block = 0; block < blocks; ++block)
      for (int64_t col = 0; col < type.getShape()[1]; col += 16) {
        SmallVector<Value> words = loader.load(stride * block, col);
        for (int64_t number : {0, 1, 2, 3}) {
          Value pair =
              LLVM::BitcastOp::create(rewriter, loc, pairType, words[number]);
          int64_t index = layout.findRegister(
              {stride * block + number % 2 * 8, col + number / 2 * 8});
          for (int64_t i : {0, 1})
            registers[index + i] =
                vector::ExtractOp::create(rewriter, loc, pair, i);
        }
      }
    rewriter.replaceOpWithMultiple(op, {registers});
    return success();
  }

  KernelContext &kernel;
};

struct AwaitPattern : OpConversionPattern<AwaitOp> {
  using OpConversionPattern::OpConversionPattern;

  LogicalResult
  matchAndRewrite(AwaitOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    SmallVector<Value> registers;
    for (ValueRange product : adaptor.getProducts())
      registers.append(product.begin(), product.end());
    registers =
        ptx::wgmmaWait(rewriter, op.getLoc(),
                       static_cast<int64_t>(op.getYounger()), registers);
    SmallVector<SmallVector<Value>> results;
    ArrayRef<Value> left = registers;
    for (ValueRange product : adaptor.getProducts()) {
      results.emplace_back(left.take_front(product.size()));
      left = left.drop_front(product.size());
    }
    rewriter.replaceOpWithMultiple(op, std::move(results));
    return success();
  }
};

} // namespace

void tl::populateContractPatterns(const TypeConverter &converter,
                                  RewritePatternSet &patterns,
                                  KernelContext &kernel) {
  patterns.add<MmaSyncPattern, WgmmaPattern, FetchPattern>(
      converter, patterns.getContext(), kernel);
  patterns.add<AwaitPattern>(converter, patterns.getContext());
}
