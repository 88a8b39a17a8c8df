//===- Passes.h - Passes of the FA dialect ---------------------*- C++ -*-===//

#ifndef FA_DIALECT_FA_TRANSFORMS_PASSES_H
#define FA_DIALECT_FA_TRANSFORMS_PASSES_H

#include "fa/Dialect/FA/IR/FA.h"
#include "mlir/Pass/Pass.h"

namespace mlir::fa {
#define GEN_PASS_DECL
#include "fa/Dialect/FA/Transforms/Passes.h.inc"
#define GEN_PASS_REGISTRATION
#include "fa/Dialect/FA/Transforms/Passes.h.inc"
} // namespace mlir::fa

#endif // FA_DIALECT_FA_TRANSFORMS_PASSES_H
