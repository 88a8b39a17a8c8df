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

/// What the programs of one specification have in common. Clauses start with
/// the spaces and end with the line that they take in the text of an operation;
/// one that the specification does not have is empty.
class ProgramText {
public:
  explicit ProgramText(const fa_attention_spec &spec);

  void addArgument(StringRef name, const std::string &type,
                   bool aligned = false) {
    args.push_back({name.str(), type, aligned ? spec.alignment : 1});
  }
  void addScale() { args.push_back({"scale", acc, 1, !spec.negative_scale}); }
  /// Lengths; `addOptions`: soft cap and windows.
  void addLengths();
  void addOptions();

  std::string scale() const { return "      scale(%scale : " + acc + ")\n"; }
  std::string lengths() const;
  std::string captures() const;
  std::string mask() const;
  /// Attributes that every operation on attention has.
  std::string attributes() const;
  std::string score() const;
  /// The module of a function `name` with the arguments added and `op`.
  std::string program(StringRef name, const std::string &op) const;

  const fa_attention_spec &spec;
  /// Types: of scores, of operands, of q's sum and of partial results.
  std::string acc, q, k, v, o, row, sum, oParts, lseParts;

private:
  std::vector<Argument> args;
  std::string symbols = "lq, lk", constraints, operands; // of the mask
};
} // namespace

static llvm::Error checkSpec(const fa_attention_spec &spec) {
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
  if (!llvm::is_contained({0, 1, 16, 4096}, spec.query_rows))
    return fail(FA_INVALID_ARGUMENT,
                "query_rows is {0}; allowed are 0 (any number), 1, 16 (any "
                "number, but few) and 4096 (any number, but short sequences)",
                spec.query_rows);
  if (spec.pack_heads && spec.query_rows != 16)
    return fail(FA_INVALID_ARGUMENT,
                "pack_heads is {0} and query_rows {1}; heads are packed with "
                "query_rows 16 (with 1 they always are)",
                spec.pack_heads, spec.query_rows);
  if (std::isnan(spec.dead_lse))
    return fail(FA_INVALID_ARGUMENT,
                "dead_lse is NaN; allowed are numbers and infinities");
  return llvm::Error::success();
}

ProgramText::ProgramText(const fa_attention_spec &spec) : spec(spec) {
  static const char *const names[] = {"f16", "bf16", "f32", "f64"};
  std::string dtype = names[spec.dtype];
  acc = spec.dtype == FA_F64 ? "f64" : "f32";
  std::string rows = spec.query_rows == 1 ? "1" : "?";
  auto matrix = [&](const std::string &rows, int size) {
    return llvm::formatv(
               "memref<?x{0}x?x{1}x{2}, strided<[?, ?, ?, 1], offset: ?>>",
               rows, size, dtype)
        .str();
  };
  q = matrix(rows, spec.head_dim_qk);
  k = matrix("?", spec.head_dim_qk);
  v = matrix("?", spec.head_dim_v);
  o = matrix(rows, spec.head_dim_v);
  // The rows of a head follow each other: constant distances of what is added.
  sum =
      llvm::formatv("memref<?x?x?x{0}x{1}, strided<[?, {0}, ?, 1], offset: ?>>",
                    llvm::alignTo(spec.head_dim_qk, 16), acc)
          .str();
  row = "memref<?x?x" + rows + "x" + acc + ", strided<[?, ?, 1], offset: ?>>";

  oParts = llvm::formatv(
               "memref<?x?x{0}x?x{1}x{2}, strided<[?, ?, ?, ?, 1], offset: ?>>",
               rows, spec.head_dim_v, acc)
               .str();
  lseParts =
      llvm::formatv("memref<?x?x?x{0}x{1}, strided<[?, ?, ?, 1], offset: ?>>",
                    rows, acc)
          .str();

  // The key column n may be at most `right`, at least `left`; row m is aligned
  // with column m + lk - lq (the bottom right corners meet).
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
}

static constexpr StringLiteral kLengths = "memref<?xi32>";

void ProgramText::addLengths() {
  if (spec.has_lengths) {
    addArgument("q_lengths", kLengths.str());
    addArgument("k_lengths", kLengths.str());
  }
}

void ProgramText::addOptions() {
  if (spec.has_softcap)
    addArgument("softcap", acc);
  if (spec.has_window_left)
    addArgument("window_left", "index");
  if (spec.has_window_right)
    addArgument("window_right", "index");
}

std::string ProgramText::lengths() const {
  if (!spec.has_lengths)
    return "";
  return llvm::formatv("      lengths(%q_lengths, %k_lengths : {0}, {0})\n",
                       kLengths);
}

std::string ProgramText::captures() const {
  return spec.has_softcap ? "      captures(%softcap : " + acc + ")\n" : "";
}

std::string ProgramText::mask() const {
  std::string text;
  if (!constraints.empty())
    text += "      mask #fa.mask<#mask>\n";
  if (!operands.empty())
    text += "      symbols(" + operands + ")\n";
  return text;
}

std::string ProgramText::attributes() const {
  std::string text = "indexing_maps = [#q, #k, #v, #o, #lse]";
  if (spec.has_softcap)
    text += ", capture_maps = [unit]";
  return text;
}

std::string ProgramText::score() const {
  if (!spec.has_softcap)
    return "";
  return llvm::formatv(
      "      score {{\n"
      "      ^bb0(%s: {0}, %b: index, %h: index, %m: index, %n: index, "
      "%cap: {0}):\n"
      "        %one = arith.constant 1.0 : {0}\n"
      "        %inverse = arith.divf %one, %cap : {0}\n"
      "        %x = arith.mulf %s, %inverse : {0}\n"
      "        %t = math.tanh %x : {0}\n"
      "        %y = arith.mulf %t, %cap : {0}\n"
      "        fa.yield %y : {0}\n"
      "      }\n",
      acc);
}

std::string ProgramText::program(StringRef name, const std::string &op) const {
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
  os << "func.func @" << name << "(";
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
  os << ") {\n" << op << "  return\n}\n";
  return text;
}

llvm::Expected<std::string>
mlir::fa::buildAttention(const fa_attention_spec &spec) {
  if (auto error = checkSpec(spec))
    return std::move(error);
  ProgramText builder(spec);
  const std::string &q = builder.q, &k = builder.k, &v = builder.v,
                    &o = builder.o, &row = builder.row;
  builder.addArgument("q", q, true);
  builder.addArgument("k", k, true);
  builder.addArgument("v", v, true);
  builder.addScale();
  builder.addLengths();
  if (spec.has_init_lse)
    builder.addArgument("init_lse", row);
  builder.addOptions();
  builder.addArgument("o", o, true);
  builder.addArgument("lse", row);

  std::string op;
  llvm::raw_string_ostream os(op);
  os << "  fa.attention ins(%q, %k, %v : " << q << ", " << k << ", " << v
     << ")\n"
     << builder.scale() << builder.lengths();
  if (spec.has_init_lse)
    os << "      init_lse(%init_lse : " << row << ")\n";
  os << builder.captures() << builder.mask() << "      outs(%o, %lse : " << o
     << ", " << row << ")\n";
  if (spec.has_partials) {
    builder.addArgument("o_parts", builder.oParts);
    builder.addArgument("lse_parts", builder.lseParts);
    os << "      partials(%o_parts, %lse_parts : " << builder.oParts << ", "
       << builder.lseParts << ")\n";
  }
  os << "      {" << builder.attributes();
  if (spec.query_rows == 16)
    os << ", fa.few_rows";
  if (spec.query_rows == 4096)
    os << ", fa.short_sequences";
  if (spec.pack_heads)
    os << ", fa.pack_heads";
  // -infinity is what the operation has without the attribute.
  if (spec.dead_lse != -INFINITY)
    os << llvm::formatv(", dead_lse = 0x{0} : f64",
                        llvm::utohexstr(llvm::bit_cast<uint64_t>(spec.dead_lse),
                                        /*LowerCase=*/false, /*Width=*/16));
  os << "}\n" << builder.score();
  return builder.program("attention", op);
}

llvm::Expected<std::string>
mlir::fa::buildAttentionBackward(const fa_attention_spec &spec, int gradients,
                                 bool hasDLse, bool hasDQSum) {
  if (auto error = checkSpec(spec))
    return std::move(error);
  constexpr int kAll = FA_GRADIENT_Q | FA_GRADIENT_K | FA_GRADIENT_V;
  if (gradients <= 0 || gradients > kAll)
    return fail(FA_INVALID_ARGUMENT,
                "gradients is {0}; allowed is a combination of FA_GRADIENT_Q "
                "(1), FA_GRADIENT_K (2) and FA_GRADIENT_V (4), at least one",
                gradients);
  if (hasDQSum && (!(gradients & FA_GRADIENT_Q) || gradients == FA_GRADIENT_Q))
    return fail(FA_INVALID_ARGUMENT,
                "gradients is {0} with d_q_sum; allowed is a combination of "
                "FA_GRADIENT_Q (1) and at least one of FA_GRADIENT_K (2) and "
                "FA_GRADIENT_V (4); or drop d_q_sum",
                gradients);
  if (spec.query_rows || spec.has_partials)
    return fail(FA_INVALID_ARGUMENT,
                "query_rows is {0} and has_partials {1}; both must be 0 for "
                "gradients",
                spec.query_rows, spec.has_partials);
  ProgramText builder(spec);
  const std::string &q = builder.q, &k = builder.k, &v = builder.v,
                    &o = builder.o, &row = builder.row;
  const std::string &sum = builder.sum;
  builder.addArgument("q", q, true);
  builder.addArgument("k", k, true);
  builder.addArgument("v", v, true);
  builder.addArgument("o", o, true);
  builder.addArgument("lse", row);
  builder.addArgument("d_o", o, true);
  if (hasDLse)
    builder.addArgument("d_lse", row);
  builder.addScale();
  builder.addLengths();
  builder.addOptions();
  builder.addArgument("delta", row);
  if (hasDQSum)
    builder.addArgument("d_q_sum", sum, true);

  std::string op, outs;
  llvm::raw_string_ostream os(op);
  for (auto [bit, name, type] : {std::tuple(FA_GRADIENT_Q, "d_q", &q),
                                 {FA_GRADIENT_K, "d_k", &k},
                                 {FA_GRADIENT_V, "d_v", &v}})
    if (gradients & bit) {
      builder.addArgument(name, *type, true);
      outs += llvm::formatv("      {0}(%{0} : {1})\n", name, *type).str();
    }
  os << "  fa.attention_backward ins(%q, %k, %v, %lse, %d_o : " << q << ", "
     << k << ", " << v << ", " << row << ", " << o << ")\n"
     << "      o(%o : " << o << ")\n";
  if (hasDLse)
    os << "      d_lse(%d_lse : " << row << ")\n";
  os << builder.scale() << builder.lengths() << builder.captures()
     << builder.mask() << "      delta(%delta : " << row << ")\n"
     << (hasDQSum ? "      d_q_sum(%d_q_sum : " + sum + ")\n" : "") << outs
     << "      {" << builder.attributes() << "}\n"
     << builder.score();
  return builder.program("attention_backward", op);
}
