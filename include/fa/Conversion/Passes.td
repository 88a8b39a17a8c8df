//===- Passes.td - Conversions to the host and to the GPU --*- tablegen -*-===//

#ifndef FA_CONVERSION_PASSES
#define FA_CONVERSION_PASSES

include "mlir/Pass/PassBase.td"

#endif // FA_CONVERSION_PASSES
