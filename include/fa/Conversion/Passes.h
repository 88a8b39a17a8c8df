//===- Passes.h - Conversions to the host and to the GPU --------*- C++ -*-===//

#ifndef FA_CONVERSION_PASSES_H
#define FA_CONVERSION_PASSES_H

#include "mlir/Pass/Pass.h"

namespace mlir::fa {
#define GEN_PASS_DECL
#include "fa/Conversion/Passes.h.inc"
#define GEN_PASS_REGISTRATION
#include "fa/Conversion/Passes.h.inc"
} // namespace mlir::fa

#endif // FA_CONVERSION_PASSES_H
