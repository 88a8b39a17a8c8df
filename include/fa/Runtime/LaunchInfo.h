//===- LaunchInfo.h - What launches need to know of a program ---*- C++ -*-===//

#ifndef FA_RUNTIME_LAUNCHINFO_H
#define FA_RUNTIME_LAUNCHINFO_H

#include "fa/Runtime/Error.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include <optional>
#include <string>
#include <vector>

namespace mlir {
class AffineExpr;
class Operation;
namespace fa {

/// The metadata of an artifact. It is made once from the attributes of the
/// lowered functions, stored as JSON, and needs no MLIR afterwards.
struct LaunchInfo {
  /// Stands for a size or stride that is known at run time only.
  static constexpr int64_t kDynamic = INT64_MIN;

  struct Argument {
    fa_arg_kind kind = FA_ARG_MEMREF;
    std::string name;  // optional, for messages
    std::string dtype; // of the elements or of the scalar
    llvm::SmallVector<int64_t, 4> sizes, strides;
    /// Bytes to which the address and all strides but unit ones are aligned.
    int64_t align = 1;
    /// The program relies on this scalar not being negative.
    bool nonnegative = false;
  };

  struct TensorMap {
    int64_t arg = 0;
    llvm::SmallVector<int64_t, 5> dims; // memref dimensions, innermost first
    llvm::SmallVector<int64_t, 5> box;  // elements, same order
    int64_t swizzle = 0;                // bytes: 0, 32, 64, 128
  };

  /// An extent of a grid: an expression over integers, symbols and the
  /// operators
  /// + * floordiv ceildiv mod. It is parsed once and evaluated at each launch.
  class Extent {
  public:
    /// Reads postfix notation with the symbols s0, s1, ..., below
    /// `symbolCount`; nothing when it is malformed.
    static std::optional<Extent> parse(llvm::StringRef text,
                                       size_t symbolCount);
    /// Nothing when it divides by zero or overflows.
    std::optional<int64_t> evaluate(llvm::ArrayRef<int64_t> symbols) const;
    llvm::StringRef getText() const { return text; }

  private:
    enum class Kind { Constant, Symbol, Add, Mul, FloorDiv, CeilDiv, Mod };
    struct Token {
      Kind kind;
      int64_t value; // of a constant; the number of a symbol
    };
    std::string text;
    llvm::SmallVector<Token, 8> tokens;
  };

  /// One launch of a program: a grid of one function.
  struct Launch {
    std::string entry;
    std::vector<Extent> grid;
    /// Symbol i is dimension `second` of argument `first`; -1: its value.
    std::vector<std::pair<int64_t, int64_t>> symbols;
    // GPU only.
    int64_t threads = 0, sharedBytes = 0;
    /// Blocks that each multiprocessor gets, which share the grid among
    /// themselves; 0: a block per iteration of the grid.
    int64_t perMultiprocessor = 0;
    std::vector<TensorMap> tensorMaps;

    /// The extents of the grid for checked arguments.
    llvm::Expected<llvm::SmallVector<int64_t, 3>>
    evaluateGrid(llvm::ArrayRef<fa_arg> values) const;
  };

  std::string chip;
  std::vector<Argument> args;
  /// In the order in which they run; all take the arguments `args`.
  std::vector<Launch> launches;

  bool isCPU() const { return chip == "cpu"; }

  /// Reads `tile.args` and `tile.launch` of the lowered functions `funcs`, the
  /// launches of one program in their order.
  static llvm::Expected<LaunchInfo>
  fromFunctions(llvm::ArrayRef<Operation *> funcs, llvm::StringRef chip);
  static llvm::Expected<LaunchInfo> fromJSON(llvm::StringRef text);
  std::string toJSON() const;

  /// Checks `values` against the declared arguments; the message names the
  /// argument, what it was and what is allowed.
  llvm::Error check(llvm::ArrayRef<fa_arg> values) const;
  /// The arguments as 8-byte words in MLIR's flattened descriptor order.
  llvm::SmallVector<uint64_t, 64> pack(llvm::ArrayRef<fa_arg> values) const;
};

} // namespace fa
} // namespace mlir

#endif // FA_RUNTIME_LAUNCHINFO_H
