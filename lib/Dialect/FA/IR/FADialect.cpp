//===- FADialect.cpp - The attention dialect ------------------------------===//

#include "fa/Dialect/FA/IR/FA.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::fa;

#include "fa/Dialect/FA/IR/FADialect.cpp.inc"
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
                                   bool, bool, bool) {
  if (tileM < 1 || tileN < 1)
    return emitError() << "tile_m is " << tileM << " and tile_n " << tileN
                       << "; both must be positive";
  return success();
}
