//===- Schedules.cpp - Tables of schedules --------------------------------===//

#include "fa/Dialect/FA/Transforms/Schedules.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Parser/Parser.h"

using namespace mlir;
using namespace mlir::fa;

/// Schedules.mlir.
static constexpr char kDefaults[] =
#include "Schedules.inc"
    ;

SchedulesAttr mlir::fa::parseSchedules(MLIRContext *context, StringRef text,
                                       StringRef file, std::string &problem) {
  ScopedDiagnosticHandler handler(context, [&](Diagnostic &diagnostic) {
    if (problem.empty()) { // the first error explains the others
      llvm::raw_string_ostream os(problem);
      if (auto loc = dyn_cast<FileLineColLoc>(diagnostic.getLocation()))
        os << "line " << loc.getLine() << ": ";
      os << diagnostic;
    }
    return success();
  });
  auto module = parseSourceString<ModuleOp>(text, ParserConfig(context), file);
  if (!module)
    return {};
  auto table = (*module)->getAttrOfType<SchedulesAttr>(kSchedulesAttrName);
  if (!table)
    problem = "the module has no attribute `fa.schedules` with a "
              "#fa.schedules<...>";
  return table;
}

SchedulesAttr mlir::fa::getDefaultSchedules(MLIRContext *context) {
  std::string problem;
  SchedulesAttr table =
      parseSchedules(context, kDefaults, "Schedules.mlir", problem);
  if (!table)
    emitError(UnknownLoc::get(context), "Schedules.mlir: ") << problem;
  return table;
}
