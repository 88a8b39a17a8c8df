//===- SplitKeys.cpp - fa-split-keys --------------------------------------===//

#include "fa/Dialect/FA/IR/FA.h"
#include "fa/Dialect/FA/IR/Mask.h"
#include "fa/Dialect/FA/Transforms/Passes.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

namespace mlir::fa {
#define GEN_PASS_DEF_FASPLITKEYS
#include "fa/Dialect/FA/Transforms/Passes.h.inc"
} // namespace mlir::fa

using namespace mlir;
using namespace mlir::fa;

namespace {
class Splitter {
public:
  Splitter(AttentionOp op, int64_t multiple)
      : op(op), multiple(multiple), builder(op), loc(op.getLoc()) {}
  void run();

private:
  Value asValue(OpFoldResult value) {
    return getValueOrCreateConstantIndexOp(builder, loc, value);
  }
  Value apply(AffineExpr expr, ArrayRef<OpFoldResult> operands) {
    return asValue(affine::makeComposedFoldedAffineApply(
        builder, loc, AffineMap::get(operands.size(), 0, expr), operands));
  }
  MaskQuery::Range liveKeys();
  Value slice(Value parts, Value part);
  MaskAttr maskOfPart();
  void emitCombine();

  AttentionOp op;
  int64_t multiple;
  OpBuilder builder;
  Location loc;
};
} // namespace

/// Keys that some row may keep; all of them where that differs by batch or
/// head.
MaskQuery::Range Splitter::liveKeys() {
  OpFoldResult numKeys = op.getExtent(builder, AttentionOp::N);
  MaskQuery::Range all = {builder.getIndexAttr(0), numKeys};
  if (!op.getLengths().empty() && !op.getLengths()[0].getType().isIndex())
    return all;
  Value zero = arith::ConstantIndexOp::create(builder, loc, 0);
  OpFoldResult lq = op.getLength(builder, AttentionOp::M, zero,
                                 op.getExtent(builder, AttentionOp::M));
  OpFoldResult lk = op.getLength(builder, AttentionOp::N, zero, numKeys);
  if (!op.getMask())
    return {builder.getIndexAttr(0), lk};
  for (IntegerSet set : op.getMask()->getSets())
    for (AffineExpr constraint : set.getConstraints())
      if (constraint.isFunctionOfDim(AttentionOp::B) ||
          constraint.isFunctionOfDim(AttentionOp::H))
        return all;
  MaskQuery mask(op.getContext(), op.getMaskAttr(), zero, zero, lq, lk,
                 op.getSymbols());
  return mask.liveColumns(builder, loc, {builder.getIndexAttr(0), lq});
}

/// The memory of one part, of the shape of the whole.
Value Splitter::slice(Value parts, Value part) {
  auto type = cast<MemRefType>(parts.getType());
  SmallVector<OpFoldResult> offsets(type.getRank(), builder.getIndexAttr(0)),
      ones(type.getRank(), builder.getIndexAttr(1)),
      sizes = memref::getMixedSizes(builder, loc, parts);
  offsets[0] = part;
  sizes[0] = builder.getIndexAttr(1);
  auto viewType = memref::SubViewOp::inferRankReducedResultType(
      type.getShape().drop_front(), type, offsets, sizes, ones);
  return memref::SubViewOp::create(builder, loc, viewType, parts, offsets,
                                   sizes, ones);
}

/// The mask of `op`, and first <= n < end with two more symbols.
MaskAttr Splitter::maskOfPart() {
  MLIRContext *context = op.getContext();
  unsigned numSymbols = 2 + op.getSymbols().size();
  AffineExpr n = builder.getAffineDimExpr(AttentionOp::N);
  AffineExpr first = builder.getAffineSymbolExpr(numSymbols);
  AffineExpr end = builder.getAffineSymbolExpr(numSymbols + 1);
  SmallVector<AffineExpr> part = {n - first, end - 1 - n};
  SmallVector<IntegerSet> sets;
  if (!op.getMask())
    sets.push_back(
        IntegerSet::get(4, numSymbols + 2, part, SmallVector<bool>(2, false)));
  else
    for (IntegerSet set : op.getMask()->getSets()) {
      SmallVector<AffineExpr> constraints(set.getConstraints());
      SmallVector<bool> isEq(set.getEqFlags());
      constraints.append(part);
      isEq.append(2, false);
      sets.push_back(IntegerSet::get(4, numSymbols + 2, constraints, isEq));
    }
  return MaskAttr::get(context, sets);
}

void Splitter::emitCombine() {
  // The parts, the rows that o has, and the head size of v.
  MLIRContext *context = op.getContext();
  SmallVector<AffineExpr> names(6, getAffineConstantExpr(0, context));
  unsigned numDims = 1;
  for (auto dim : {AttentionOp::B, AttentionOp::H, AttentionOp::M})
    if (op.findDim(AttentionOp::O, dim))
      names[dim] = builder.getAffineDimExpr(numDims++);
  names[AttentionOp::E] = builder.getAffineDimExpr(numDims++);
  SmallVector<Attribute> maps;
  for (bool parts : {true, false})
    for (auto operand : {AttentionOp::O, AttentionOp::LSE}) {
      SmallVector<AffineExpr> results;
      if (parts)
        results.push_back(builder.getAffineDimExpr(0));
      for (AffineExpr expr : op.getMap(operand).getResults())
        results.push_back(names[cast<AffineDimExpr>(expr).getPosition()]);
      maps.push_back(
          AffineMapAttr::get(AffineMap::get(numDims, 0, results, context)));
    }
  CombineOp::create(builder, loc, TypeRange(), op.getOParts(), op.getLseParts(),
                    op.getInitLse(), op.getO(), op.getLse(),
                    builder.getArrayAttr(maps), op.getDeadLseAttr());
}

void Splitter::run() {
  AffineExpr d0 = builder.getAffineDimExpr(0), d1 = builder.getAffineDimExpr(1);
  Value count = asValue(memref::getMixedSize(builder, loc, op.getOParts(), 0));
  MaskQuery::Range live = liveKeys();
  // Parts begin at multiples, so that their blocks are whole.
  Value start = apply(d0.floorDiv(multiple) * multiple, {live.lo});
  Value blocks =
      apply((d0 - d1).ceilDiv(multiple), {live.hi, OpFoldResult(start)});
  // 32 bits: a division of 64 is a long sequence of instructions.
  Type i32 = builder.getI32Type();
  auto narrow = [&](Value value) -> Value {
    return arith::IndexCastOp::create(builder, loc, i32, value);
  };
  Value zero = arith::ConstantIndexOp::create(builder, loc, 0);
  Value one = arith::ConstantIndexOp::create(builder, loc, 1);
  blocks = arith::MaxSIOp::create(builder, loc, blocks, zero);
  // No part, no division.
  Value divisor = arith::MaxSIOp::create(builder, loc, count, one);
  Value rounded =
      apply(d0 + d1 - 1, {OpFoldResult(blocks), OpFoldResult(divisor)});
  Value perPart32 =
      arith::DivUIOp::create(builder, loc, narrow(rounded), narrow(divisor));
  Value perPart = arith::IndexCastOp::create(builder, loc,
                                             builder.getIndexType(), perPart32);
  Value size = apply(d0 * multiple, {OpFoldResult(perPart)});

  auto forall = scf::ForallOp::create(builder, loc, {getAsOpFoldResult(count)},
                                      ValueRange(),
                                      /*mapping=*/std::nullopt);
  {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(forall.getBody());
    Value part = forall.getInductionVar(0);
    Value offset = arith::MulIOp::create(builder, loc, part, size);
    Value first = arith::AddIOp::create(builder, loc, start, offset);
    Value end = arith::AddIOp::create(builder, loc, first, size);
    Value o = slice(op.getOParts(), part), lse = slice(op.getLseParts(), part);
    auto clone = cast<AttentionOp>(builder.clone(*op));
    clone.setMaskAttr(maskOfPart());
    clone.getSymbolsMutable().append({first, end});
    clone.getOMutable().assign(o);
    clone.getLseMutable().assign(lse);
    clone.getOPartsMutable().clear();
    clone.getLsePartsMutable().clear();
    clone.getInitLseMutable().clear();
    clone.removeDeadLseAttr();
  }
  emitCombine();
  op.erase();
}

namespace {
struct SplitKeys : public fa::impl::FASplitKeysBase<SplitKeys> {
  using FASplitKeysBase::FASplitKeysBase;

  void runOnOperation() override {
    SmallVector<AttentionOp> ops;
    getOperation().walk([&](AttentionOp op) {
      if (op.getOParts())
        ops.push_back(op);
    });
    for (AttentionOp op : ops) {
      if (op.hasTensorSemantics()) {
        op.emitOpError("is on tensors; run one-shot-bufferize first");
        return signalPassFailure();
      }
      // A row from lq on is dead, whatever init_lse; only the whole knows lq.
      // And o and lse have the same rows in fa.combine.
      bool differ = llvm::any_of(
          ArrayRef{AttentionOp::B, AttentionOp::H}, [&](AttentionOp::Dim dim) {
            return op.findDim(AttentionOp::O, dim).has_value() !=
                   op.findDim(AttentionOp::LSE, dim).has_value();
          });
      if (differ || (op.getInitLse() && !op.getLengths().empty())) {
        op.getOPartsMutable().clear();
        op.getLsePartsMutable().clear();
        continue;
      }
      Splitter(op, multiple).run();
    }
  }
};
} // namespace
