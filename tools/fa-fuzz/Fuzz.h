//===- Fuzz.h - Odd inputs for the compiler ---------------------*- C++ -*-===//

#ifndef FA_TOOLS_FA_FUZZ_FUZZ_H
#define FA_TOOLS_FA_FUZZ_FUZZ_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include <iterator>
#include <random>
#include <string>
#include <vector>

namespace mlir {
class ModuleOp;
namespace fa::fuzz {

/// Numbers that depend on a seed alone, on every machine.
class Random {
public:
  explicit Random(uint64_t seed) : engine(seed) {}
  /// 0 to `count` - 1; `count` is not 0.
  uint64_t below(uint64_t count) { return engine() % count; }
  bool percent(unsigned chance) { return below(100) < chance; }
  template <typename Range> auto &pick(Range &&range) {
    return range[below(std::size(range))];
  }

private:
  std::mt19937_64 engine;
};

/// What the lit tests hold.
struct Corpus {
  struct Program {
    std::string text;
    /// What its RUN lines do with fa-opt, as texts of pipelines.
    std::vector<std::string> pipelines;
  };
  std::vector<Program> programs;

  /// Adds the parts of a test file; `// -----` parts them.
  void addFile(llvm::StringRef text);
};

/// A random specification's program; empty where the builder refuses it.
std::string buildRandomSpec(Random &random);

/// Changes characters, numbers, words or lines of `text`; takes some from
/// `other`.
void mutateText(std::string &text, llvm::StringRef other, Random &random);

/// Takes out of `text` what LLVM's own parser is known to crash on:
/// array<T: ...> for a T that is neither an integer nor a float.
void avoidKnownCrashes(std::string &text);

/// Changes operands, types, attributes or the place of operations of `module`.
/// The result need not verify.
void mutateIR(ModuleOp module, Random &random);

} // namespace fa::fuzz
} // namespace mlir

#endif // FA_TOOLS_FA_FUZZ_FUZZ_H
