//===- ConvertForallToRange.cpp - convert-forall-to-range -----------------===//

#include "fa/Conversion/Launch.h"
#include "fa/Conversion/Passes.h"
#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

namespace mlir::fa {
#define GEN_PASS_DEF_CONVERTFORALLTORANGE
#include "fa/Conversion/Passes.h.inc"
} // namespace mlir::fa

using namespace mlir;
using namespace mlir::fa;

namespace {
/// Reads arguments from an array of 8-byte words.
class WordReader {
public:
  WordReader(OpBuilder &builder, Location loc, Value words)
      : builder(builder), loc(loc), words(words) {}

  /// The next argument; null if `type` can't be passed in words.
  Value read(Type type);

private:
  Value load(Type type) {
    auto pointer = LLVM::LLVMPointerType::get(builder.getContext());
    Value address =
        LLVM::GEPOp::create(builder, loc, pointer, builder.getI64Type(), words,
                            ArrayRef<LLVM::GEPArg>{next++});
    return LLVM::LoadOp::create(builder, loc, type, address);
  }

  OpBuilder &builder;
  Location loc;
  Value words;
  int32_t next = 0;
};
} // namespace

Value WordReader::read(Type type) {
  if (isa<IndexType>(type))
    return arith::IndexCastOp::create(builder, loc, type,
                                      load(builder.getI64Type()));
  if (type.isIntOrFloat() && type.getIntOrFloatBitWidth() <= 64)
    return load(type);
  auto memref = dyn_cast<MemRefType>(type);
  if (!memref)
    return {};
  LLVMTypeConverter converter(builder.getContext());
  Type structType = converter.convertType(memref);
  if (!structType)
    return {};
  auto pointer = LLVM::LLVMPointerType::get(builder.getContext());
  Value descriptor = LLVM::UndefOp::create(builder, loc, structType);
  auto insert = [&](Value value, ArrayRef<int64_t> position) {
    descriptor =
        LLVM::InsertValueOp::create(builder, loc, descriptor, value, position);
  };
  insert(load(pointer), {0});
  insert(load(pointer), {1});
  insert(load(builder.getI64Type()), {2});
  for (int64_t part : {3, 4})
    for (int64_t dim = 0; dim < memref.getRank(); ++dim)
      insert(load(builder.getI64Type()), {part, dim});
  return UnrealizedConversionCastOp::create(builder, loc, memref, descriptor)
      .getResult(0);
}

namespace {
struct ConvertForallToRange
    : public fa::impl::ConvertForallToRangeBase<ConvertForallToRange> {
  void runOnOperation() override;
};
} // namespace

void ConvertForallToRange::runOnOperation() {
  func::FuncOp func = getOperation();
  bool hasGrid = false;
  func.walk([&](scf::ForallOp) { hasGrid = true; });
  if (!hasGrid)
    return;
  FailureOr<LaunchGrid> grid = computeLaunchGrid(func);
  FailureOr<scf::ForallOp> forall = getGridLoop(func);
  if (failed(grid) || failed(forall) || func.getNumResults()) {
    if (func.getNumResults())
      func.emitOpError("returns values; an entry point writes to memrefs");
    return signalPassFailure();
  }
  MLIRContext *context = &getContext();
  func->setAttr(kArgsAttrName, getArgsAttr(func));
  func->setAttr(kLaunchAttrName, grid->getAttr(context));

  // The arguments come from memory.
  Block &entry = func.getBody().front();
  unsigned count = entry.getNumArguments();
  auto pointer = LLVM::LLVMPointerType::get(context);
  Type i64 = IntegerType::get(context, 64);
  Location loc = func.getLoc();
  Value words = entry.addArgument(pointer, loc);
  Value begin = entry.addArgument(i64, loc);
  Value end = entry.addArgument(i64, loc);
  OpBuilder builder(context);
  builder.setInsertionPointToStart(&entry);
  WordReader reader(builder, loc, words);
  for (unsigned i = 0; i < count; ++i) {
    Value value = reader.read(entry.getArgument(i).getType());
    if (!value) {
      func.emitOpError("argument ")
          << i << " has type " << entry.getArgument(i).getType()
          << "; an entry point takes strided memrefs, index, integers and "
             "floats of at most 64 bits";
      return signalPassFailure();
    }
    entry.getArgument(i).replaceAllUsesWith(value);
  }
  entry.eraseArguments(0, count);
  func.setType(FunctionType::get(context, {pointer, i64, i64}, {}));
  func.removeArgAttrsAttr();

  // The grid loop, last dimension fastest.
  builder.setInsertionPoint(*forall);
  loc = forall->getLoc();
  SmallVector<Value> extents = getValueOrCreateConstantIndexOp(
      builder, loc, forall->getMixedUpperBound());
  Type indexType = builder.getIndexType();
  auto loop = scf::ForOp::create(
      builder, loc, arith::IndexCastOp::create(builder, loc, indexType, begin),
      arith::IndexCastOp::create(builder, loc, indexType, end),
      arith::ConstantIndexOp::create(builder, loc, 1));
  builder.setInsertionPointToStart(loop.getBody());
  Value rest = loop.getInductionVar();
  SmallVector<Value> point(extents.size());
  for (int64_t dim = extents.size() - 1; dim > 0; --dim) {
    point[dim] = arith::RemUIOp::create(builder, loc, rest, extents[dim]);
    rest = arith::DivUIOp::create(builder, loc, rest, extents[dim]);
  }
  if (!point.empty())
    point[0] = rest;
  Block *body = forall->getBody();
  for (auto [arg, value] : llvm::zip(body->getArguments(), point))
    arg.replaceAllUsesWith(value);
  body->getTerminator()->erase();
  Block *target = loop.getBody();
  target->getOperations().splice(target->getTerminator()->getIterator(),
                                 body->getOperations());
  forall->erase();
}
