//===- fa-translate.cpp - From the compiler's IR to code ------------------===//

#include "fa/Target/CPU.h"
#include "mlir/InitAllTranslations.h"
#include "llvm/Support/LogicalResult.h"
#include "mlir/Tools/mlir-translate/MlirTranslateMain.h"

int main(int argc, char **argv) {
  mlir::registerAllTranslations();
  mlir::fa::registerCPUTranslations();
  return failed(
      mlir::mlirTranslateMain(argc, argv, "Attention compiler: translations"));
}
