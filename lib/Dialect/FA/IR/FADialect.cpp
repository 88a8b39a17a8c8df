//===- FADialect.cpp - The attention dialect ------------------------------===//

#include "fa-c/fa.h"
#include "fa/Dialect/FA/IR/FA.h"
#include "fa/Target/Chip.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::fa;

#include "fa/Dialect/FA/IR/FADialect.cpp.inc"
#include "fa/Dialect/FA/IR/FAEnums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "fa/Dialect/FA/IR/FAAttrs.cpp.inc"

void FADialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "fa/Dialect/FA/IR/FAAttrs.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "fa/Dialect/FA/IR/FAOps.cpp.inc"
      >();
}

Attribute MaskAttr::parse(AsmParser &parser, Type) {
  SmallVector<IntegerSet> sets;
  auto parseSet = [&]() -> ParseResult {
    IntegerSetAttr set;
    if (parser.parseAttribute(set))
      return failure();
    sets.push_back(set.getValue());
    return success();
  };
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::LessGreater,
                                     parseSet))
    return {};
  return parser.getChecked<MaskAttr>(parser.getContext(), sets);
}

void MaskAttr::print(AsmPrinter &printer) const {
  printer << "<";
  llvm::interleaveComma(getSets(), printer, [&](IntegerSet set) {
    printer << IntegerSetAttr::get(set);
  });
  printer << ">";
}

std::string MaskAttr::getText() const {
  std::string text;
  llvm::raw_string_ostream os(text);
  llvm::interleave(
      getSets(), os, [&](IntegerSet set) { set.print(os); }, " or ");
  return text;
}

LogicalResult MaskAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                               ArrayRef<IntegerSet> sets) {
  for (IntegerSet set : sets)
    if (set.getNumDims() != 4 || set.getNumSymbols() < 2)
      return emitError() << "[C10 mask-symbols] a mask set has "
                         << set.getNumDims() << " dimensions and "
                         << set.getNumSymbols()
                         << " symbols; it needs (b, h, m, n)[lq, lk, ...]";
  return success();
}

LogicalResult ScheduleAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                   int64_t tileM, int64_t tileN, tl::PlanAttr,
                                   bool, bool fixedReference, bool lazyMaximum,
                                   bool, bool) {
  if (fixedReference && lazyMaximum)
    return emitError() << "has fixed_reference and lazy_maximum; use one";
  constexpr int64_t kMost = 1 << 16;
  if (tileM < 1 || tileN < 1 || tileM > kMost || tileN > kMost)
    return emitError() << "tile_m is " << tileM << " and tile_n " << tileN
                       << "; both must be 1 to " << kMost;
  return success();
}

LogicalResult ChoiceAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                 Work, int64_t minHeadSize, int64_t maxHeadSize,
                                 int64_t sharedKiB, Type element, StringAttr,
                                 BoolAttr, BoolAttr, BoolAttr, BoolAttr,
                                 ScheduleAttr schedule) {
  if (minHeadSize < 0 || maxHeadSize < minHeadSize || sharedKiB < 0)
    return emitError() << "min_head_size is " << minHeadSize
                       << ", max_head_size " << maxHeadSize
                       << " and shared_kib " << sharedKiB
                       << "; use 0 or more, and min_head_size <= max_head_size";
  if (element && !isa<FloatType>(element))
    return emitError() << "element is " << element
                       << "; use f16, bf16, f32 or f64";
  StringRef chip = schedule.getPlan().getChip().getValue();
  if (chip != "cpu" && !findChip(chip))
    return emitError() << explainUnknownChip(chip);
  if (schedule.getPacked())
    return emitError() << "the schedule is packed; leave it out: that depends "
                          "on the problem";
  return success();
}

LogicalResult
SchedulesAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                      StringRef version, ArrayRef<ChoiceAttr>) {
  if (version != FA_VERSION)
    return emitError() << "the table is of version " << version
                       << ", this is " FA_VERSION
                          "; schedules are tuned for one version, tune again";
  return success();
}
