//===- Corpus.cpp - Programs to start from --------------------------------===//

#include "Fuzz.h"
#include "fa/Runtime/AttentionBuilder.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir::fa;
using llvm::SmallVector;
using llvm::StringRef;

/// The passes of a RUN line as a pipeline: `--fa-tile="a=1" --cse` becomes
/// `fa-tile{a=1},cse`.
static std::string pipelineOf(StringRef line) {
  std::string pipeline;
  while (true) {
    size_t start = line.find(" --");
    if (start == StringRef::npos)
      return pipeline;
    line = line.drop_front(start + 3);
    StringRef flag =
        line.take_while([](char c) { return llvm::isAlnum(c) || c == '-'; });
    line = line.drop_front(flag.size());
    StringRef options;
    if (line.consume_front("=")) {
      if (line.consume_front("'") || line.consume_front("\"")) {
        char quote = line.data()[-1];
        options = line.take_until([&](char c) { return c == quote; });
      } else {
        options = line.take_until([](char c) { return c == ' ' || c == '|'; });
      }
      line = line.drop_front(options.size());
    }
    // What comes after it belongs to another program.
    static constexpr StringRef kNoPasses[] = {"split-input-file",
                                              "verify-diagnostics",
                                              "check-prefix",
                                              "check-prefixes",
                                              "mlir-print-op-generic",
                                              "pass-pipeline",
                                              "allow-unregistered-dialect"};
    if (flag.empty() || llvm::is_contained(kNoPasses, flag) ||
        flag.starts_with("mlir-") || flag.starts_with("remark"))
      continue;
    if (!pipeline.empty())
      pipeline += ",";
    pipeline += flag;
    if (!options.empty())
      pipeline += ("{" + options + "}").str();
  }
}

void fuzz::Corpus::addFile(StringRef text) {
  std::vector<std::string> pipelines;
  std::string program;
  auto finish = [&] {
    if (!StringRef(program).trim().empty() && program.size() < 32768)
      programs.push_back({program, {}});
    program.clear();
  };
  size_t first = programs.size();
  SmallVector<StringRef> lines;
  text.split(lines, '\n');
  for (StringRef line : lines) {
    StringRef trimmed = line.ltrim();
    if (trimmed.starts_with("// RUN:") && trimmed.contains("fa-opt")) {
      StringRef command = trimmed.split("fa-opt").second.split('|').first;
      std::string pipeline = pipelineOf(command.rtrim(" \\"));
      if (!pipeline.empty())
        pipelines.push_back(pipeline);
    }
    if (trimmed.starts_with("// -----"))
      finish();
    else if (!trimmed.starts_with("//"))
      program += (line + "\n").str();
  }
  finish();
  for (size_t i = first; i < programs.size(); ++i)
    programs[i].pipelines = pipelines;
}

std::string fuzz::buildRandomSpec(Random &random) {
  auto headSize = [&]() -> int32_t {
    constexpr int32_t kSizes[] = {0, 1, 8, 17, 32, 64, 72, 96, 128, 200, 256};
    return random.percent(95) ? random.pick(kSizes)
                              : static_cast<int32_t>(random.below(1000)) - 500;
  };
  auto flag = [&] { return int32_t(random.percent(30)); };
  constexpr int32_t kAlignments[] = {1, 4, 16, 2, 0, -16};
  fa_attention_spec spec = {};
  spec.dtype = fa_dtype(random.below(4));
  spec.head_dim_qk = headSize();
  spec.head_dim_v = random.percent(70) ? spec.head_dim_qk : headSize();
  spec.causal = flag();
  spec.has_window_left = flag();
  spec.has_window_right = flag();
  spec.has_softcap = flag();
  spec.has_lengths = flag();
  spec.has_init_lse = flag();
  spec.dead_lse = random.percent(50) ? 0.0 : -1.0 / 0.0;
  spec.alignment = kAlignments[random.below(random.percent(90) ? 3 : 6)];
  spec.negative_scale = flag();
  auto text = random.percent(50)
                  ? buildAttention(spec)
                  : buildAttentionBackward(spec, int32_t(random.below(9)),
                                           flag(), flag());
  if (text)
    return *text;
  llvm::consumeError(text.takeError());
  return "";
}
