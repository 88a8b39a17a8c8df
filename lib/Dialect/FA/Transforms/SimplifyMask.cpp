//===- SimplifyMask.cpp - fa-simplify-mask --------------------------------===//

#include "fa/Dialect/FA/Transforms/Passes.h"
#include "mlir/Analysis/FlatLinearValueConstraints.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IntegerSet.h"

namespace mlir::fa {
#define GEN_PASS_DEF_FASIMPLIFYMASK
#include "fa/Dialect/FA/Transforms/Passes.h.inc"
} // namespace mlir::fa

using namespace mlir;
using namespace mlir::fa;

/// `constraints` over the dimensions and symbols of `like`.
static IntegerSet makeSet(IntegerSet like, ArrayRef<AffineExpr> constraints,
                          ArrayRef<bool> equalities) {
  return IntegerSet::get(like.getNumDims(), like.getNumSymbols(), constraints,
                         equalities);
}

/// Whether the set holds no score of any problem. Scores that exist have
/// b, h, m, n >= 0, m < lq and n < lk.
static bool holdsNothing(IntegerSet like, ArrayRef<AffineExpr> constraints,
                         ArrayRef<bool> equalities) {
  MLIRContext *context = like.getContext();
  SmallVector<AffineExpr> all(constraints);
  SmallVector<bool> equal(equalities);
  auto require = [&](AffineExpr expr) {
    all.push_back(expr);
    equal.push_back(false);
  };
  for (unsigned dim = 0; dim < 4; ++dim)
    require(getAffineDimExpr(dim, context));
  for (unsigned i = 0; i < 2; ++i)
    require(getAffineSymbolExpr(i, context) -
            getAffineDimExpr(AttentionOp::M + i, context) - 1);
  FlatLinearValueConstraints flat(makeSet(like, all, equal));
  return flat.isIntegerEmpty();
}

/// Whether `constraint >= 0` follows from the other constraints.
static bool isImplied(IntegerSet like, AffineExpr constraint,
                      ArrayRef<AffineExpr> others, ArrayRef<bool> equalities) {
  // Nothing satisfies the others and the negation, -constraint - 1 >= 0.
  SmallVector<AffineExpr> all(others);
  SmallVector<bool> equal(equalities);
  all.push_back(-constraint - 1);
  equal.push_back(false);
  return holdsNothing(like, all, equal);
}

/// `set` without constraints that follow from the others or from what every
/// score satisfies.
static IntegerSet dropImplied(IntegerSet set) {
  SmallVector<AffineExpr> constraints(set.getConstraints());
  SmallVector<bool> equalities(set.getEqFlags());
  for (size_t i = 0; i < constraints.size();) {
    SmallVector<AffineExpr> others(constraints);
    SmallVector<bool> otherEqualities(equalities);
    others.erase(others.begin() + i);
    otherEqualities.erase(otherEqualities.begin() + i);
    bool implied = isImplied(set, constraints[i], others, otherEqualities) &&
                   (!equalities[i] ||
                    isImplied(set, -constraints[i], others, otherEqualities));
    if (!implied) {
      ++i;
      continue;
    }
    constraints = std::move(others);
    equalities = std::move(otherEqualities);
  }
  // A set without constraints is written as 0 == 0.
  if (constraints.empty())
    return IntegerSet::get(set.getNumDims(), set.getNumSymbols(),
                           {getAffineConstantExpr(0, set.getContext())},
                           {true});
  return makeSet(set, constraints, equalities);
}

/// Whether `inner` lies in `outer`, constraint by constraint.
static bool isSubset(IntegerSet inner, IntegerSet outer) {
  for (unsigned i = 0; i < outer.getNumConstraints(); ++i) {
    AffineExpr constraint = outer.getConstraint(i);
    if (!isImplied(inner, constraint, inner.getConstraints(),
                   inner.getEqFlags()))
      return false;
    if (outer.isEq(i) && !isImplied(inner, -constraint, inner.getConstraints(),
                                    inner.getEqFlags()))
      return false;
  }
  return true;
}

static bool isEverything(IntegerSet set) {
  for (unsigned i = 0; i < set.getNumConstraints(); ++i) {
    auto constant = dyn_cast<AffineConstantExpr>(set.getConstraint(i));
    if (!constant ||
        (set.isEq(i) ? constant.getValue() != 0 : constant.getValue() < 0))
      return false;
  }
  return true;
}

namespace {
struct SimplifyMask : public fa::impl::FASimplifyMaskBase<SimplifyMask> {
  void simplify(AttentionOpInterface op) {
    // Products and quotients of symbols are beyond the solver.
    for (IntegerSet set : op.getMaskAttr().getSets())
      if (!llvm::all_of(set.getConstraints(),
                        [](AffineExpr expr) { return expr.isPureAffine(); }))
        return;
    SmallVector<IntegerSet> sets;
    for (IntegerSet set : op.getMaskAttr().getSets()) {
      if (holdsNothing(set, set.getConstraints(), set.getEqFlags()))
        continue;
      set = dropImplied(set);
      if (isEverything(set)) {
        op.setMaskAttr(nullptr);
        op.getSymbolsMutable().clear();
        return;
      }
      // Of equal sets the first stays.
      if (llvm::any_of(sets,
                       [&](IntegerSet other) { return isSubset(set, other); }))
        continue;
      llvm::erase_if(sets,
                     [&](IntegerSet other) { return isSubset(other, set); });
      sets.push_back(set);
    }
    op.setMaskAttr(MaskAttr::get(op.getContext(), sets));
  }

  void runOnOperation() override {
    getOperation().walk([&](AttentionOpInterface op) {
      if (op.getMaskAttr())
        simplify(op);
    });
  }
};
} // namespace
