//===- BufferizableOpInterfaceImpl.h ----------------------------*- C++ -*-===//

#ifndef FA_DIALECT_FA_TRANSFORMS_BUFFERIZABLEOPINTERFACEIMPL_H
#define FA_DIALECT_FA_TRANSFORMS_BUFFERIZABLEOPINTERFACEIMPL_H

namespace mlir {
class DialectRegistry;
namespace fa {
/// Lets one-shot-bufferize rewrite fa.attention, fa.attention_backward and
/// fa.gather on memrefs.
void registerBufferizableOpInterfaceExternalModels(DialectRegistry &registry);
} // namespace fa
} // namespace mlir

#endif // FA_DIALECT_FA_TRANSFORMS_BUFFERIZABLEOPINTERFACEIMPL_H
