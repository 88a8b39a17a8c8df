//===- AttentionBuilder.cpp - MLIR text of an attention spec --------------===//

#include "fa/Runtime/AttentionBuilder.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"
#include <cmath>

using namespace mlir;
using namespace mlir::fa;

namespace {
/// A function argument: SSA name, type, attributes.
struct Argument {
  std::string name, type;
  int64_t alignment = 1;
  bool nonnegative = false;
};
} // namespace

llvm::Expected<std::string>
mlir::fa::buildAttention(const fa_attention_spec &spec) {
  static const char *const names[] = {"f16", "bf16", "f32", "f64"};
  if (spec.dtype < FA_F16 || spec.dtype > FA_F64)
    return fail(FA_INVALID_ARGUMENT,
                "dtype is {0}; allowed are FA_F16 (0), FA_BF16 (1), FA_F32 (2) "
                "and FA_F64 (3)",
                (int)spec.dtype);
  for (auto [name, size] : {std::pair("head_dim_qk", spec.head_dim_qk),
                            std::pair("head_dim_v", spec.head_dim_v)})
    if (size < 1 || size > 256)
      return fail(FA_INVALID_ARGUMENT, "{0} is {1}; allowed are 1 to 256", name,
                  size);
  if (spec.alignment != 16 && spec.alignment != 4 && spec.alignment != 1)
    return fail(FA_INVALID_ARGUMENT,
                "alignment is {0}; allowed are 16, 4 and 1 (bytes; 1: nothing "
                "is promised)",
                spec.alignment);
  if (std::isnan(spec.dead_lse))
    return fail(FA_INVALID_ARGUMENT,
                "dead_lse is NaN; allowed are numbers and infinities");

  std::string dtype = names[spec.dtype];
  std::string acc = spec.dtype == FA_F64 ? "f64" : "f32";
  auto matrix = [&](int size) {
    return llvm::formatv(
               "memref<?x?x?x{0}x{1}, strided<[?, ?, ?, 1], offset: ?>>", size,
               dtype)
        .str();
  };
  std::string qk = matrix(spec.head_dim_qk), v = matrix(spec.head_dim_v);
  std::string row = "memref<?x?x?x" + acc + ", strided<[?, ?, 1], offset: ?>>";
  std::string lengths = "memref<?xi32>";

  std::vector<Argument> args;
  args.push_back({"q", qk, spec.alignment});
  args.push_back({"k", qk, spec.alignment});
  args.push_back({"v", v, spec.alignment});
  args.push_back({"scale", acc, 1, !spec.negative_scale});
  if (spec.has_lengths) {
    args.push_back({"q_lengths", lengths});
    args.push_back({"k_lengths", lengths});
  }
  if (spec.has_init_lse)
    args.push_back({"init_lse", row});
  if (spec.has_softcap)
    args.push_back({"softcap", acc});
  if (spec.has_window_left)
    args.push_back({"window_left", "index"});
  if (spec.has_window_right)
    args.push_back({"window_right", "index"});
  args.push_back({"o", v, spec.alignment});
  args.push_back({"lse", row});

  // The key column n may be at most `right`, at least `left`; row m is aligned
  // with column m + lk - lq (the bottom right corners meet).
  std::string symbols = "lq, lk", constraints, operands;
  auto constrain = [&](StringRef constraint) {
    constraints += (constraints.empty() ? "" : ", ") + constraint.str();
  };
  auto addSymbol = [&](StringRef symbol, StringRef operand) {
    symbols += ", " + symbol.str();
    operands += (operands.empty() ? "%" : ", %") + operand.str();
  };
  if (spec.causal)
    constrain("m + lk - lq - n >= 0");
  if (spec.has_window_left) {
    addSymbol("wl", "window_left");
    constrain("n + wl - m - lk + lq >= 0");
  }
  if (spec.has_window_right) {
    addSymbol("wr", "window_right");
    constrain("m + lk - lq + wr - n >= 0");
  }

  std::string text;
  llvm::raw_string_ostream os(text);
  os << "#q = affine_map<(b, h, m, n, d, e)[g] -> (b, m, h, d)>\n"
        "#k = affine_map<(b, h, m, n, d, e)[g] -> (b, n, h floordiv g, d)>\n"
        "#v = affine_map<(b, h, m, n, d, e)[g] -> (b, n, h floordiv g, e)>\n"
        "#o = affine_map<(b, h, m, n, d, e)[g] -> (b, m, h, e)>\n"
        "#lse = affine_map<(b, h, m, n, d, e)[g] -> (b, h, m)>\n";
  if (!constraints.empty())
    os << "#mask = affine_set<(b, h, m, n)[" << symbols << "] : ("
       << constraints << ")>\n";
  os << "func.func @attention(";
  llvm::interleave(
      args, os,
      [&](const Argument &arg) {
        os << "\n    %" << arg.name << ": " << arg.type << " {";
        if (arg.alignment > 1)
          os << "tile.align = " << arg.alignment << " : i64, ";
        if (arg.nonnegative)
          os << "fa.nonnegative, ";
        os << "tile.name = \"" << arg.name << "\"}";
      },
      ",");
  os << ") {\n  fa.attention ins(%q, %k, %v : " << qk << ", " << qk << ", " << v
     << ")\n      scale(%scale : " << acc << ")\n";
  if (spec.has_lengths)
    os << "      lengths(%q_lengths, %k_lengths : " << lengths << ", "
       << lengths << ")\n";
  if (spec.has_init_lse)
    os << "      init_lse(%init_lse : " << row << ")\n";
  if (spec.has_softcap)
    os << "      captures(%softcap : " << acc << ")\n";
  if (!constraints.empty())
    os << "      mask #fa.mask<#mask>\n";
  if (!operands.empty())
    os << "      symbols(" << operands << ")\n";
  os << "      outs(%o, %lse : " << v << ", " << row
     << ")\n      {indexing_maps = [#q, #k, #v, #o, #lse]";
  if (spec.has_softcap)
    os << ", capture_maps = [unit]";
  // -infinity is what the operation has without the attribute.
  if (spec.dead_lse != -INFINITY)
    os << llvm::formatv(", dead_lse = 0x{0} : f64",
                        llvm::utohexstr(llvm::bit_cast<uint64_t>(spec.dead_lse),
                                        /*LowerCase=*/false, /*Width=*/16));
  os << "}\n";
  if (spec.has_softcap)
    os << "      score {\n"
       << "      ^bb0(%s: " << acc
       << ", %b: index, %h: index, %m: index, %n: index, %cap: " << acc
       << "):\n"
       << "        %x = arith.divf %s, %cap : " << acc << "\n"
       << "        %t = math.tanh %x : " << acc << "\n"
       << "        %y = arith.mulf %t, %cap : " << acc << "\n"
       << "        fa.yield %y : " << acc << "\n"
       << "      }\n";
  os << "  return\n}\n";
  return text;
}
