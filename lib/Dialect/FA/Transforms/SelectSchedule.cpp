//===- SelectSchedule.cpp - fa-select-schedule ----------------------------===//

#include "fa/Dialect/FA/Transforms/Passes.h"
#include "fa/Dialect/FA/Transforms/Schedules.h"
#include "fa/Target/Chip.h"
#include "mlir/AsmParser/AsmParser.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Remarks.h"

namespace mlir::fa {
#define GEN_PASS_DEF_FASELECTSCHEDULE
#include "fa/Dialect/FA/Transforms/Passes.h.inc"
} // namespace mlir::fa

using namespace mlir;
using namespace mlir::fa;

/// A tile of rows that one warp's products have.
static constexpr int64_t kFewRows = 16;

static int64_t numRows(AttentionOpInterface op) {
  return op.getShaped(AttentionSpace::Q)
      .getType()
      .getDimSize(*op.findDim(AttentionSpace::Q, AttentionSpace::M));
}

static bool hasFewRows(AttentionOpInterface op) {
  int64_t rows = numRows(op);
  return op->hasAttr(kFewRowsAttrName) ||
         (!ShapedType::isDynamic(rows) && rows <= kFewRows);
}

static bool isShort(AttentionOpInterface op) {
  return op->hasAttr(kShortSequencesAttrName);
}

/// Whether `mask` may leave out keys before those that it keeps in a row.
static bool cutsBeginnings(MaskAttr mask) {
  AffineExpr key = getAffineDimExpr(AttentionSpace::N, mask.getContext());
  return llvm::any_of(mask.getSets(), [&](IntegerSet set) {
    return set.getNumEqualities() > 0 ||
           llvm::any_of(set.getConstraints(), [&](AffineExpr constraint) {
             // What the next key adds to it.
             auto step = dyn_cast<AffineConstantExpr>(simplifyAffineExpr(
                 constraint.replace(key, key + 1) - constraint,
                 set.getNumDims(), set.getNumSymbols()));
             return !step || step.getValue() > 0;
           });
  });
}

/// The condition `plain` of a row.
static bool isPlain(AttentionOpInterface op) {
  return op.getLengths().empty() &&
         llvm::none_of(op.getCaptures().getTypes(),
                       llvm::IsaPred<ShapedType>) &&
         !(op.getMaskAttr() && cutsBeginnings(op.getMaskAttr()));
}

/// Whether query heads are the rows of a tile: one query row or the wish to,
/// and heads that may share a key head.
static bool isPacked(AttentionOp op) {
  bool wanted = numRows(op) == 1 || op->hasAttr(kPackHeadsAttrName);
  if (!wanted || !op.canPackHeads())
    return false;
  std::optional<unsigned> pos =
      op.findDim(AttentionSpace::K, AttentionSpace::H);
  return !pos ||
         !isa<AffineDimExpr>(op.getMap(AttentionSpace::K).getResult(*pos));
}

/// The condition `mask` of a row.
static std::string maskText(AttentionOpInterface op) {
  return op.getMaskAttr() ? op.getMaskAttr().getText() : "none";
}

static Work workOf(AttentionOpInterface op) {
  auto backward = dyn_cast<AttentionBackwardOp>(op.getOperation());
  if (!backward)
    return hasFewRows(op) ? Work::Few : Work::Output;
  if (!backward.getDCaptures().empty()) {
    auto map = dyn_cast<AffineMapAttr>(
        (*backward.getCaptureMaps())[backward.getDifferentiatedCaptures()[0]]);
    return map && map.getValue().isFunctionOfDim(AttentionSpace::M) &&
                   map.getValue().isFunctionOfDim(AttentionSpace::N)
               ? Work::Blocks
               : Work::Sums;
  }
  bool hasSum = bool(backward.getDQSum());
  if (backward.getDK() || backward.getDV())
    return hasSum ? Work::All : Work::Keys;
  return backward.getDQ() && !hasSum ? Work::Rows : Work::Copies;
}

/// What reads a remark finds it by.
static remark::RemarkOpts remarkOf(StringRef name, func::FuncOp func) {
  return remark::RemarkOpts::name(name)
      .category("fa-select-schedule")
      .function(func.getName());
}

/// FLOPs and bytes of one head without a mask, beside what `chip` can do: for
/// as many queries as keys, and for one query.
static void remarkRoofline(AttentionOpInterface op, Work work, int64_t d,
                           int64_t e, const Chip &chip, func::FuncOp func) {
  // Matrix products over (query, key): of head size d, and of e.
  auto [ofD, ofE] = [&]() -> std::pair<int64_t, int64_t> {
    switch (work) {
    case Work::Output:
    case Work::Few:
      return {1, 1}; // scores; output
    case Work::Rows:
      return {2, 1}; // scores, d_q; d_p
    case Work::Keys:
      return {2, 2}; // scores, d_k; d_p, d_v
    case Work::All:
      return {3, 2};
    case Work::Blocks:
    case Work::Sums:
      return {1, 1}; // scores; d_p
    case Work::Parts:
    case Work::Copies:
      return {0, 0};
    }
    llvm_unreachable("unknown work");
  }();
  int64_t flops = 2 * (ofD * d + ofE * e), rowBytes = 0, keyBytes = 0;
  for (auto [operand, name] : op.getShapedOperands()) {
    auto type = cast<ShapedType>(operand->get().getType());
    int64_t bytes = type.getElementTypeBitWidth() / 8;
    if (op.findDim(name, AttentionSpace::D))
      bytes *= d;
    else if (op.findDim(name, AttentionSpace::E))
      bytes *= e;
    (op.findDim(name, AttentionSpace::N) ? keyBytes : rowBytes) += bytes;
  }
  if (!flops || !(rowBytes + keyBytes))
    return;
  // With S queries and keys, flops * S^2 and (row + key) * S bytes.
  double perLength = double(flops) / (rowBytes + keyBytes);
  double ridge = chip.getRidge(), one = double(flops) / keyBytes;
  remark::analysis(op.getLoc(), remarkOf("roofline", func))
      << remark::add(
             "{0} at {1:f0} TFLOP/s and {2:f0} GB/s is bound by products from "
             "{3:f0} FLOP/byte on; a head of S queries and S keys has "
             "{4:f2} * S: bound by {5} at S = 4096, by products from S "
             "= {6:f0} on; one query has {7:f2}",
             chip.device, chip.teraflops, chip.gigabytes, ridge, perLength,
             perLength * 4096 < ridge ? "memory" : "products",
             std::ceil(ridge / perLength), one)
      << remark::metric("flops_per_pair", flops)
      << remark::metric("bytes_per_query", rowBytes)
      << remark::metric("bytes_per_key", keyBytes);
}

namespace {
struct SelectSchedule : public fa::impl::FASelectScheduleBase<SelectSchedule> {
  using FASelectScheduleBase::FASelectScheduleBase;

  LogicalResult initialize(MLIRContext *context) override {
    defaults = getDefaultSchedules(context);
    return success(bool(defaults));
  }

  /// The largest of the head sizes of q and v; failure when not static.
  FailureOr<int64_t> headSize(AttentionOpInterface op) {
    int64_t size = 0;
    for (auto [operand, dim] :
         {std::pair(AttentionSpace::Q, AttentionSpace::D),
          std::pair(AttentionSpace::V, AttentionSpace::E)}) {
      int64_t extent =
          op.getShaped(operand).getType().getDimSize(*op.findDim(operand, dim));
      if (ShapedType::isDynamic(extent))
        return op->emitOpError(
            "has a dynamic head size; head sizes must be static, cast q, k, v "
            "and o to memrefs with a static head dimension");
      size = std::max(size, extent);
    }
    return size;
  }

  /// Whether the factors are promised to start at, and step by, multiples of
  /// `bytes` (`tile.align` of the function's arguments).
  static bool isAligned(AttentionOpInterface op, int64_t bytes) {
    return llvm::all_of(
        op.getShapedOperands(),
        [&](std::pair<OpOperand *, AttentionSpace::Operand> operand) {
          // What products read: o and lse are no factors of the forward.
          if (operand.second == AttentionSpace::LSE ||
              (operand.second == AttentionSpace::O &&
               isa<AttentionOp>(op.getOperation())))
            return true;
          auto arg = dyn_cast<BlockArgument>(operand.first->get());
          auto func =
              arg ? dyn_cast<func::FuncOp>(arg.getOwner()->getParentOp())
                  : func::FuncOp();
          auto align = func ? func.getArgAttrOfType<IntegerAttr>(
                                  arg.getArgNumber(), "tile.align")
                            : IntegerAttr();
          return align && align.getInt() % bytes == 0;
        });
  }

  /// The row that would choose `schedule` for operations like this one.
  ChoiceAttr rowOf(AttentionOpInterface op, ScheduleAttr schedule,
                   int64_t size) {
    Type element = op.getShaped(AttentionSpace::Q).getType().getElementType();
    Builder builder(&getContext());
    return ChoiceAttr::get(
        &getContext(), workOf(op), size, size,
        /*shared_kib=*/0, element, builder.getStringAttr(maskText(op)),
        builder.getBoolAttr(!op.getScore().empty()),
        builder.getBoolAttr(!op.getLengths().empty()),
        builder.getBoolAttr(isPlain(op)), builder.getBoolAttr(isShort(op)),
        schedule.with(schedule.getPlan(), /*packed=*/false));
  }

  /// `origin`: where the schedule comes from.
  void setSchedule(AttentionOpInterface op, ScheduleAttr schedule,
                   StringRef origin) {
    op->setAttr(kScheduleAttrName, schedule);
    func::FuncOp func = getOperation();
    tl::PlanAttr plan = schedule.getPlan();
    auto made = remark::passed(op.getLoc(), remarkOf("schedule", func));
    if (!made)
      return;
    made << remark::metric("tile_m", schedule.getTileM())
         << remark::metric("tile_n", schedule.getTileN());
    if (plan)
      made << remark::metric("mma", plan.getMma().getValue())
           << remark::metric("copy", plan.getCopy().getValue())
           << remark::metric("warps", plan.getWarps())
           << remark::metric("producers", plan.getProducers())
           << remark::metric("stages", plan.getStages())
           << remark::metric("overlap", plan.getOverlap())
           << remark::metric("fixed_reference", schedule.getFixedReference())
           << remark::metric("lazy_maximum", schedule.getLazyMaximum())
           << remark::metric("partial_sums", schedule.getPartialSums())
           << remark::metric("sequential", schedule.getSequential());
    made << remark::metric("from", origin);
    const Chip *target = findChip(chip);
    auto extent = [&](AttentionSpace::Operand operand,
                      AttentionSpace::Dim dim) {
      auto position = op.findDim(operand, dim);
      return position ? op.getShaped(operand).getType().getDimSize(*position)
                      : ShapedType::kDynamic;
    };
    int64_t d = extent(AttentionSpace::Q, AttentionSpace::D);
    int64_t e = extent(AttentionSpace::V, AttentionSpace::E);
    if (ShapedType::isDynamic(d) || ShapedType::isDynamic(e))
      return;
    remark::analysis(op.getLoc(), remarkOf("row", func))
        << remark::metric("row", rowOf(op, schedule, std::max(d, e)));
    if (target)
      remarkRoofline(op, workOf(op), d, e, *target, func);
  }

  /// The first row for `work` that `target` (null: the CPU) and `allowed`
  /// admit, and which table it is from; null if there is none.
  std::pair<ChoiceAttr, StringRef>
  find(Work work, const Chip *target, function_ref<bool(ChoiceAttr)> allowed) {
    auto serves = [&](ChoiceAttr row) {
      tl::PlanAttr plan = row.getSchedule().getPlan();
      const Chip *rowChip = findChip(plan.getChip().getValue());
      // No newer chip has these products.
      bool sameOnly = !rowChip || !target || plan.getMma() == "wgmma";
      bool sameChip = sameOnly ? rowChip == target
                               : target->capability >= rowChip->capability;
      return row.getWork() == work && sameChip && allowed(row) &&
             (!target || target->sharedBytes >= row.getSharedKib() * 1024);
    };
    auto given = getOperation()
                     ->getParentOfType<ModuleOp>()
                     ->getAttrOfType<SchedulesAttr>(kSchedulesAttrName);
    for (auto [table, origin] :
         {std::pair(given, "tuned"), {defaults, "table"}})
      if (table)
        for (ChoiceAttr row : table.getChoices())
          if (serves(row))
            return {row, origin};
    return {};
  }

  ScheduleAttr makeSchedule(ChoiceAttr row, StringRef copy, bool packed) {
    MLIRContext *context = &getContext();
    ScheduleAttr schedule = row.getSchedule();
    tl::PlanAttr plan = schedule.getPlan();
    // All but the names stays: chip, mma, copy.
    plan = cast<tl::PlanAttr>(plan.replaceImmediateSubElements(
        {StringAttr::get(context, chip), plan.getMma(),
         StringAttr::get(context, copy)},
        {}));
    return schedule.with(plan, packed);
  }

  /// `target`: null for the CPU.
  LogicalResult select(AttentionOpInterface op, const Chip *target) {
    FailureOr<int64_t> size = headSize(op);
    if (failed(size))
      return failure();
    Type element = op.getShaped(AttentionSpace::Q).getType().getElementType();
    if (target && !element.isF16() && !(element.isBF16() && target->hasBF16))
      return op->emitOpError("has element type ")
             << element << ", which chip " << chip
             << " has no schedule for; use f16"
             << (target->hasBF16 ? " or bf16, or chip cpu"
                 : element.isBF16()
                     ? ", or chip cpu or sm_80 and newer, which have bf16"
                     : ", or chip cpu");
    func::FuncOp func = getOperation();
    StringRef said; // once for all rows
    auto miss = [&](ChoiceAttr row, StringRef reason, StringRef remedy) {
      ScheduleAttr schedule = row.getSchedule();
      if (said != reason)
        remark::missed(op.getLoc(), remarkOf("schedule", func))
            << remark::reason("tiles of {0} x {1} with {2} and {3} are not "
                              "used: {4}",
                              schedule.getTileM(), schedule.getTileN(),
                              schedule.getPlan().getMma().getValue(),
                              schedule.getPlan().getCopy().getValue(), reason)
            << remark::suggest("{0}", remedy);
      said = reason;
      return false;
    };
    auto allowed = [&](ChoiceAttr row) {
      if (*size < row.getMinHeadSize() || *size > row.getMaxHeadSize() ||
          (row.getElement() && row.getElement() != element) ||
          (row.getMask() && row.getMask() != maskText(op)) ||
          (row.getScored() &&
           row.getScored().getValue() == op.getScore().empty()) ||
          (row.getLengths() &&
           row.getLengths().getValue() == op.getLengths().empty()) ||
          (row.getPlain() && row.getPlain().getValue() != isPlain(op)) ||
          (row.getShortSequences() &&
           row.getShortSequences().getValue() != isShort(op)))
        return false;
      if (target && target->sharedBytes < row.getSharedKib() * 1024)
        return miss(row, "the chip has too little shared memory",
                    "a chip with more of it");
      bool isTMA = row.getSchedule().getPlan().getCopy() == "tma";
      if (isTMA && !isAligned(op, 16))
        return miss(row, "tensor maps need addresses and strides of 16 bytes",
                    "tile.align = 16 on the function's arguments");
      return true;
    };
    if (auto [row, origin] = find(workOf(op), target, allowed); row) {
      // Asynchronous copies are of 16 bytes or, by `tile.align`, of 8 or 4.
      StringRef copy = row.getSchedule().getPlan().getCopy().getValue();
      if (copy == "cp_async" && !isAligned(op, 4)) {
        miss(row, "asynchronous copies need addresses and strides of 4 bytes",
             "tile.align = 16, or 4, on the function's arguments");
        copy = "direct";
      }
      auto forward = dyn_cast<AttentionOp>(op.getOperation());
      setSchedule(op, makeSchedule(row, copy, forward && isPacked(forward)),
                  origin);
      return success();
    }
    return op->emitOpError("has head size ")
           << *size << " on chip " << chip
           << ", which has no schedule; head sizes up to 256 are supported on "
              "GPUs, chip cpu takes any";
  }

  void runOnOperation() override {
    const Chip *target = findChip(chip);
    if (!target && chip != "cpu") {
      getOperation().emitError() << explainUnknownChip(chip);
      return signalPassFailure();
    }
    ScheduleAttr given;
    if (!overrideSchedule.empty()) {
      given = dyn_cast_or_null<ScheduleAttr>(
          parseAttribute(overrideSchedule, &getContext()));
      if (!given) {
        getOperation().emitError("override is '")
            << overrideSchedule << "'; it must be a #fa.schedule<...>";
        return signalPassFailure();
      }
    }
    WalkResult result = getOperation().walk([&](AttentionOpInterface op) {
      if (given) {
        setSchedule(op, given, "override");
        return WalkResult::advance();
      }
      if (op->hasAttr(kScheduleAttrName))
        return WalkResult::advance();
      return failed(select(op, target)) ? WalkResult::interrupt()
                                        : WalkResult::advance();
    });
    if (result.wasInterrupted())
      return signalPassFailure();
    getOperation().walk([&](CombineOp op) {
      if (op->hasAttr(kScheduleAttrName))
        return;
      if (ChoiceAttr row =
              find(Work::Parts, target, [](ChoiceAttr) { return true; }).first)
        op->setAttr(
            kScheduleAttrName,
            makeSchedule(row, row.getSchedule().getPlan().getCopy().getValue(),
                         /*packed=*/false));
    });
  }

  SchedulesAttr defaults;
};
} // namespace
