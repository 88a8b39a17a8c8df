//===- ConvertTileToLinalg.cpp - convert-tile-to-linalg -------------------===//

#include "fa/Conversion/Passes.h"
#include "fa/Dialect/Tile/IR/MergedView.h"
#include "fa/Dialect/Tile/IR/Tile.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/PatternMatch.h"

namespace mlir::fa {
#define GEN_PASS_DEF_CONVERTTILETOLINALG
#include "fa/Conversion/Passes.h.inc"
} // namespace mlir::fa

using namespace mlir;

namespace {
/// Rewrites one function, operation by operation.
class Converter {
public:
  explicit Converter(MLIRContext *context) : builder(context) {}
  LogicalResult convert(Operation *op);

private:
  using Body = function_ref<Value(ValueRange)>;

  RankedTensorType typeOf(Operation *op) {
    return cast<RankedTensorType>(op->getResult(0).getType());
  }
  Value index(int64_t value) {
    return arith::ConstantIndexOp::create(builder, loc, value);
  }
  /// A linalg.generic into `init`; `maps` has those of `ins`, then `init`'s.
  Value generic(ValueRange ins, Value init, ArrayRef<AffineMap> maps,
                ArrayRef<utils::IteratorType> iterators, Body body) {
    auto op = linalg::GenericOp::create(
        builder, loc, TypeRange(init.getType()), ins, init, maps, iterators,
        [&](OpBuilder &inner, Location, ValueRange arguments) {
          OpBuilder::InsertionGuard guard(builder);
          builder.restoreInsertionPoint(inner.saveInsertionPoint());
          Value result = body(arguments);
          linalg::YieldOp::create(builder, loc, result);
        });
    return op.getResult(0);
  }
  /// An elementwise linalg.generic over `ins`, all of `type`'s shape.
  Value elementwise(RankedTensorType type, ValueRange ins, Body body) {
    unsigned rank = type.getRank();
    SmallVector<AffineMap> maps(ins.size() + 1,
                                builder.getMultiDimIdentityMap(rank));
    SmallVector<utils::IteratorType> parallel(rank,
                                              utils::IteratorType::parallel);
    return generic(ins, empty(type), maps, parallel, body);
  }
  Value empty(RankedTensorType type) {
    return tensor::EmptyOp::create(builder, loc, type.getShape(),
                                   type.getElementType());
  }
  /// The indices of tile element `at` in a memref, and whether it has it.
  std::pair<SmallVector<Value>, Value>
  locate(Value memref, ValueRange offsets,
         std::optional<ArrayRef<int64_t>> order,
         std::optional<ArrayRef<int64_t>> merged, ValueRange at);

  Value load(tl::LoadOp op);
  /// tile.store and tile.accumulate.
  template <typename OpT> void store(OpT op);
  Value gather(tl::GatherOp op);
  Value contract(tl::ContractOp op);
  Value reduce(Value source, tl::ReduceKind kind, int64_t dim);
  Value partialSums(tl::PartialSumsOp op);
  Value broadcast(tl::BroadcastOp op);
  Value nonfinite(tl::NonfiniteOp op);
  Value exceeds(tl::ExceedsOp op);
  Value any(Value tile, function_ref<Value(Value)> test);

  OpBuilder builder;
  Location loc = builder.getUnknownLoc();
};
} // namespace

std::pair<SmallVector<Value>, Value>
Converter::locate(Value memref, ValueRange offsets,
                  std::optional<ArrayRef<int64_t>> order,
                  std::optional<ArrayRef<int64_t>> merged, ValueRange at) {
  tl::MergedView view(memref, merged);
  SmallVector<Value> indices(offsets.size());
  for (auto [dim, coordinate] : llvm::enumerate(at)) {
    unsigned pos = order ? (*order)[dim] : dim;
    indices[pos] =
        arith::AddIOp::create(builder, loc, offsets[pos], coordinate);
  }
  Value inside = arith::ConstantIntOp::create(builder, loc, 1, 1);
  for (auto [pos, at] : llvm::enumerate(indices)) {
    Value extent = view.getExtent(builder, loc, pos);
    // Unsigned: a negative index is outside, too.
    Value below = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult,
                                        at, extent);
    inside = arith::AndIOp::create(builder, loc, inside, below);
  }
  return {view.expand(builder, loc, indices), inside};
}

Value Converter::load(tl::LoadOp op) {
  RankedTensorType type = typeOf(op);
  return elementwise(type, {}, [&](ValueRange) -> Value {
    SmallVector<Value> at;
    for (int64_t dim = 0; dim < type.getRank(); ++dim)
      at.push_back(linalg::IndexOp::create(builder, loc, dim));
    auto [indices, inside] = locate(op.getSource(), op.getOffsets(),
                                    op.getOrder(), op.getMerged(), at);
    auto branch = scf::IfOp::create(builder, loc, type.getElementType(), inside,
                                    /*withElse=*/true);
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(&branch.getThenRegion().front());
    Value value = memref::LoadOp::create(builder, loc, op.getSource(), indices);
    scf::YieldOp::create(builder, loc, value);
    builder.setInsertionPointToStart(&branch.getElseRegion().front());
    Value zero = arith::ConstantOp::create(
        builder, loc, builder.getZeroAttr(type.getElementType()));
    scf::YieldOp::create(builder, loc, zero);
    return branch.getResult(0);
  });
}

template <typename OpT> void Converter::store(OpT op) {
  auto type = cast<RankedTensorType>(op.getValue().getType());
  SmallVector<Value> zeros, ends, ones;
  for (int64_t extent : type.getShape()) {
    zeros.push_back(index(0));
    ends.push_back(index(extent));
    ones.push_back(index(1));
  }
  scf::buildLoopNest(
      builder, loc, zeros, ends, ones,
      [&](OpBuilder &inner, Location, ValueRange at) {
        OpBuilder::InsertionGuard guard(builder);
        builder.restoreInsertionPoint(inner.saveInsertionPoint());
        std::optional<ArrayRef<int64_t>> merged;
        if constexpr (std::is_same_v<OpT, tl::StoreOp>)
          merged = op.getMerged();
        auto [indices, inside] =
            locate(op.getDest(), op.getOffsets(), op.getOrder(), merged, at);
        auto branch = scf::IfOp::create(builder, loc, inside,
                                        /*withElseRegion=*/false);
        builder.setInsertionPointToStart(&branch.getThenRegion().front());
        Value value =
            tensor::ExtractOp::create(builder, loc, op.getValue(), at);
        if constexpr (std::is_same_v<OpT, tl::AccumulateOp>) {
          Value old =
              memref::LoadOp::create(builder, loc, op.getDest(), indices);
          value = arith::AddFOp::create(builder, loc, old, value);
        }
        memref::StoreOp::create(builder, loc, value, op.getDest(), indices);
      });
}

Value Converter::gather(tl::GatherOp op) {
  return elementwise(typeOf(op), op.getIndices(), [&](ValueRange at) -> Value {
    SmallVector<Value> indices;
    for (unsigned pos = 0; pos < op.getIndices().size(); ++pos) {
      Value i = arith::IndexCastOp::create(builder, loc, builder.getIndexType(),
                                           at[pos]);
      Value extent = memref::DimOp::create(builder, loc, op.getSource(), pos);
      Value last = arith::SubIOp::create(builder, loc, extent, index(1));
      i = arith::MinSIOp::create(builder, loc, i, last);
      indices.push_back(arith::MaxSIOp::create(builder, loc, i, index(0)));
    }
    return memref::LoadOp::create(builder, loc, op.getSource(), indices);
  });
}

Value Converter::contract(tl::ContractOp op) {
  Type type = typeOf(op).getElementType();
  auto extend = [&](Value value) -> Value {
    if (value.getType() == type)
      return value;
    return arith::ExtFOp::create(builder, loc, type, value);
  };
  return generic({op.getLhs(), op.getRhs()}, op.getAcc(),
                 {op.getMap(0), op.getMap(1), op.getMap(2)},
                 {utils::IteratorType::parallel, utils::IteratorType::parallel,
                  utils::IteratorType::reduction},
                 [&](ValueRange args) -> Value {
                   Value product = arith::MulFOp::create(
                       builder, loc, extend(args[0]), extend(args[1]));
                   return arith::AddFOp::create(builder, loc, args[2], product);
                 });
}

Value Converter::reduce(Value source, tl::ReduceKind kind, int64_t dim) {
  auto type = cast<RankedTensorType>(source.getType());
  type = RankedTensorType::Builder(type).dropDim(dim);
  auto element = cast<FloatType>(type.getElementType());
  bool isMax = kind == tl::ReduceKind::max;
  APFloat neutral =
      isMax ? APFloat::getInf(element.getFloatSemantics(), /*Negative=*/true)
            : APFloat::getZero(element.getFloatSemantics());
  Value init = arith::ConstantOp::create(
      builder, loc,
      DenseElementsAttr::get(type, builder.getFloatAttr(element, neutral)));
  unsigned rank = type.getRank() + 1;
  AffineMap all = builder.getMultiDimIdentityMap(rank);
  SmallVector<utils::IteratorType> iterators(rank,
                                             utils::IteratorType::parallel);
  iterators[dim] = utils::IteratorType::reduction;
  return generic(source, init, {all, all.dropResult(dim)}, iterators,
                 [&](ValueRange args) -> Value {
                   if (isMax)
                     return arith::MaxNumFOp::create(builder, loc, args[1],
                                                     args[0]);
                   return arith::AddFOp::create(builder, loc, args[1], args[0]);
                 });
}

/// All columns are added to the first one of the result.
Value Converter::partialSums(tl::PartialSumsOp op) {
  RankedTensorType type = typeOf(op);
  Value sums = reduce(op.getSource(), tl::ReduceKind::add, 1);
  Value zero = arith::ConstantOp::create(
      builder, loc, type, cast<DenseElementsAttr>(builder.getZeroAttr(type)));
  SmallVector<OpFoldResult> offsets(2, builder.getIndexAttr(0)),
      ones(2, builder.getIndexAttr(1));
  SmallVector<OpFoldResult> sizes = {builder.getIndexAttr(type.getDimSize(0)),
                                     builder.getIndexAttr(1)};
  return tensor::InsertSliceOp::create(builder, loc, sums, zero, offsets, sizes,
                                       ones);
}

Value Converter::broadcast(tl::BroadcastOp op) {
  RankedTensorType type = typeOf(op);
  AffineMap all = builder.getMultiDimIdentityMap(type.getRank());
  SmallVector<utils::IteratorType> parallel(type.getRank(),
                                            utils::IteratorType::parallel);
  return generic(op.getSource(), empty(type),
                 {all.dropResult(op.getDim()), all}, parallel,
                 [&](ValueRange args) -> Value { return args[0]; });
}

/// Whether `test` holds for any element of `tile`.
Value Converter::any(Value tile, function_ref<Value(Value)> test) {
  auto type = RankedTensorType::get({}, builder.getI1Type());
  Value init = arith::ConstantOp::create(builder, loc,
                                         DenseElementsAttr::get(type, false));
  unsigned rank = cast<RankedTensorType>(tile.getType()).getRank();
  SmallVector<utils::IteratorType> iterators(rank,
                                             utils::IteratorType::reduction);
  Value any = generic(tile, init,
                      {builder.getMultiDimIdentityMap(rank),
                       AffineMap::get(rank, 0, builder.getContext())},
                      iterators, [&](ValueRange args) -> Value {
                        return arith::OrIOp::create(builder, loc, args[1],
                                                    test(args[0]));
                      });
  return tensor::ExtractOp::create(builder, loc, any, ValueRange());
}

Value Converter::nonfinite(tl::NonfiniteOp op) {
  return any(op.getSource(), [&](Value element) -> Value {
    // x - x is NaN for NaN and infinity, otherwise 0.
    Value zero = arith::SubFOp::create(builder, loc, element, element);
    return arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::UNO, zero,
                                 zero);
  });
}

Value Converter::exceeds(tl::ExceedsOp op) {
  return any(op.getTile(), [&](Value element) -> Value {
    return arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OGT,
                                 element, op.getLimit());
  });
}

LogicalResult Converter::convert(Operation *op) {
  builder.setInsertionPoint(op);
  loc = op->getLoc();
  Value result;
  if (auto load = dyn_cast<tl::LoadOp>(op)) {
    result = this->load(load);
  } else if (auto store = dyn_cast<tl::StoreOp>(op)) {
    this->store(store);
  } else if (auto add = dyn_cast<tl::AccumulateOp>(op)) {
    this->store(add);
  } else if (auto gather = dyn_cast<tl::GatherOp>(op)) {
    result = this->gather(gather);
  } else if (auto contract = dyn_cast<tl::ContractOp>(op)) {
    result = this->contract(contract);
  } else if (auto reduce = dyn_cast<tl::ReduceOp>(op)) {
    if (!isa<FloatType>(typeOf(op).getElementType()))
      return op->emitOpError("reduces ")
             << typeOf(op).getElementType() << "; only floats are reduced";
    result =
        this->reduce(reduce.getSource(), reduce.getKind(), reduce.getDim());
  } else if (auto sums = dyn_cast<tl::PartialSumsOp>(op)) {
    result = partialSums(sums);
  } else if (auto broadcast = dyn_cast<tl::BroadcastOp>(op)) {
    result = this->broadcast(broadcast);
  } else if (auto nonfinite = dyn_cast<tl::NonfiniteOp>(op)) {
    result = this->nonfinite(nonfinite);
  } else if (auto exceeds = dyn_cast<tl::ExceedsOp>(op)) {
    result = this->exceeds(exceeds);
  } else if (auto held = dyn_cast<tl::RowsHeldOp>(op)) {
    for (auto [result, value] :
         llvm::zip(held->getResults(),
                   std::array<int64_t, 2>{0, int64_t(held.getRows())}))
      result.replaceAllUsesWith(
          arith::ConstantIndexOp::create(builder, loc, value));
  } else if (isa<tl::UnusedOp>(op)) {
    // Nothing was loaded for others.
  } else if (auto splat = dyn_cast<tl::SplatOp>(op)) {
    result =
        tensor::SplatOp::create(builder, loc, typeOf(op), splat.getValue());
  } else if (auto iota = dyn_cast<tl::IotaOp>(op)) {
    result = elementwise(typeOf(op), {}, [&](ValueRange) -> Value {
      Value at = linalg::IndexOp::create(builder, loc, iota.getDim());
      return arith::IndexCastOp::create(builder, loc,
                                        typeOf(op).getElementType(), at);
    });
  } else {
    return op->emitOpError("belongs to a GPU program and has no meaning as "
                           "linalg; run this pass before the L2 passes");
  }
  if (result)
    op->replaceAllUsesWith(ValueRange(result));
  op->erase();
  return success();
}

namespace {
struct ConvertTileToLinalg
    : public fa::impl::ConvertTileToLinalgBase<ConvertTileToLinalg> {
  void runOnOperation() override {
    SmallVector<Operation *> ops;
    getOperation().walk([&](Operation *op) {
      if (isa_and_nonnull<tl::TileDialect>(op->getDialect()))
        ops.push_back(op);
    });
    Converter converter(&getContext());
    for (Operation *op : ops)
      if (failed(converter.convert(op)))
        return signalPassFailure();
  }
};
} // namespace
