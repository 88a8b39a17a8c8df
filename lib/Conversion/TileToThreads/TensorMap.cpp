//===- TensorMap.cpp - Tensor maps as arguments of kernels ----------------===//

#include "Patterns.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

using namespace mlir;
using namespace mlir::tl;

Value tl::tensorMap(OpBuilder &builder, func::FuncOp func,
                    KernelContext &kernel, const TensorView &view,
                    std::array<int64_t, 2> box, int64_t swizzle) {
  ArrayRef<int64_t> dims = view.getDims();
  SmallVector<int64_t> extents(dims.size(), 1);
  llvm::copy(box, extents.begin());
  DictionaryAttr entry = builder.getDictionaryAttr(
      {builder.getNamedAttr("arg",
                            builder.getI64IntegerAttr(view.getArgument())),
       builder.getNamedAttr("dims", builder.getDenseI64ArrayAttr(dims)),
       builder.getNamedAttr("box", builder.getDenseI64ArrayAttr(extents)),
       builder.getNamedAttr("swizzle", builder.getI64IntegerAttr(swizzle))});
  SmallVector<Attribute> entries;
  if (auto known = func->getAttrOfType<ArrayAttr>("tile.tensor_maps"))
    entries.assign(known.begin(), known.end());
  for (auto [known, argument] : llvm::zip(entries, kernel.tensorMaps))
    if (known == entry)
      return argument;
  entries.push_back(entry);
  func->setAttr("tile.tensor_maps", builder.getArrayAttr(entries));
  // A tensor map travels by value in parameter space, 64-byte aligned.
  auto pointer = LLVM::LLVMPointerType::get(builder.getContext());
  unsigned index = func.getNumArguments();
  auto mapType = LLVM::LLVMArrayType::get(builder.getI8Type(), 128);
  DictionaryAttr attrs = builder.getDictionaryAttr(
      {builder.getNamedAttr("llvm.byval", TypeAttr::get(mapType)),
       builder.getNamedAttr("llvm.align", builder.getI64IntegerAttr(64))});
  (void)func.insertArgument(index, pointer, attrs, func.getLoc());
  kernel.tensorMaps.push_back(func.getArgument(index));
  return kernel.tensorMaps.back();
}
