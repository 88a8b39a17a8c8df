//===- AttentionBuilder.h - MLIR text of an attention spec ------*- C++ -*-===//

#ifndef FA_RUNTIME_ATTENTIONBUILDER_H
#define FA_RUNTIME_ATTENTIONBUILDER_H

#include "fa/Runtime/Error.h"

namespace mlir::fa {

/// The program of a specification: see fa_build_attention.
llvm::Expected<std::string> buildAttention(const fa_attention_spec &spec);

/// The program of its gradients: see fa_build_attention_backward.
llvm::Expected<std::string>
buildAttentionBackward(const fa_attention_spec &spec, int gradients,
                       bool hasDLse, bool hasDQSum);

} // namespace mlir::fa

#endif // FA_RUNTIME_ATTENTIONBUILDER_H
