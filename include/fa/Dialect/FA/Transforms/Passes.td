//===- Passes.td - Passes of the attention dialect ---------*- tablegen -*-===//

#ifndef FA_DIALECT_FA_TRANSFORMS_PASSES
#define FA_DIALECT_FA_TRANSFORMS_PASSES

include "mlir/Pass/PassBase.td"

#endif // FA_DIALECT_FA_TRANSFORMS_PASSES
