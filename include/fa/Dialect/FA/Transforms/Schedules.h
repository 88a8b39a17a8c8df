//===- Schedules.h - Tables of schedules ------------------------*- C++ -*-===//

#ifndef FA_DIALECT_FA_TRANSFORMS_SCHEDULES_H
#define FA_DIALECT_FA_TRANSFORMS_SCHEDULES_H

#include "fa/Dialect/FA/IR/FA.h"
#include <string>

namespace mlir::fa {

/// The table of a file: the attribute `fa.schedules` of the module that `text`
/// is. Null if there is none that holds for this version; `problem` says why,
/// and no diagnostic is emitted.
SchedulesAttr parseSchedules(MLIRContext *context, llvm::StringRef text,
                             llvm::StringRef file, std::string &problem);

/// The compiler's own table, Schedules.mlir.
SchedulesAttr getDefaultSchedules(MLIRContext *context);

} // namespace mlir::fa

#endif // FA_DIALECT_FA_TRANSFORMS_SCHEDULES_H
