//===- Pipelines.h - Registration and named pipelines -----------*- C++ -*-===//

#ifndef FA_PIPELINES_PIPELINES_H
#define FA_PIPELINES_PIPELINES_H

namespace mlir {
class DialectRegistry;
namespace fa {
/// Every dialect, interface and translation that the compiler uses.
void registerAllDialects(DialectRegistry &registry);
/// Every pass of the project, those of MLIR that it uses, named pipelines.
void registerAllPasses();
} // namespace fa
} // namespace mlir

#endif // FA_PIPELINES_PIPELINES_H
