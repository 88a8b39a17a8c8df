//===- Report.h - What was decided for a program ----------------*- C++ -*-===//

#ifndef FA_RUNTIME_REPORT_H
#define FA_RUNTIME_REPORT_H

#include "fa/Runtime/Artifact.h"
#include "llvm/Support/JSON.h"

namespace mlir {
class MLIRContext;
namespace fa {

/// Adds what the passes remark in `context` to `remarks`, which must outlive
/// it: objects with kind, pass, name, function, location, message and args.
void collectRemarks(MLIRContext &context, llvm::json::Array &remarks);

/// Gives `artifact` its parts "report", JSON, and "explanation", the same for
/// reading: for each launch the plan and what it uses of the chip, as far as
/// the artifact's ptxas log says, and `remarks`.
void addReport(Artifact &artifact, llvm::json::Array remarks);

} // namespace fa
} // namespace mlir

#endif // FA_RUNTIME_REPORT_H
