//===- LoopChain.cpp - Loops that continue each other ---------------------===//

#include "fa/Dialect/Tile/Transforms/LoopChain.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace mlir;
using namespace mlir::tl;

SmallVector<LoopChain> tl::findLoopChains(Block *block) {
  SmallVector<LoopChain> chains;
  for (auto loop : block->getOps<scf::ForOp>()) {
    if (getConstantIntValue(loop.getStep()) != 1)
      continue;
    auto *previous = llvm::find_if(chains, [&](LoopChain &chain) {
      return chain.upperBound() == loop.getLowerBound();
    });
    if (previous == chains.end())
      previous = &chains.emplace_back();
    previous->loops.push_back(loop);
  }
  return chains;
}
