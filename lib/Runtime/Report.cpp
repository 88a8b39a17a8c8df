//===- Report.cpp - What was decided for a program ------------------------===//

#include "fa/Runtime/Report.h"
#include "fa/Target/Chip.h"
#include "mlir/IR/Location.h"
#include "mlir/IR/Remarks.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace mlir::fa;
namespace json = llvm::json;

//===----------------------------------------------------------------------===//
// Remarks
//===----------------------------------------------------------------------===//

/// A number if it is one, for those who read the JSON.
static json::Value valueOf(StringRef text) {
  int64_t integer;
  if (!text.getAsInteger(10, integer))
    return integer;
  if (text == "true" || text == "false")
    return text == "true";
  return text.str();
}

static std::string textOf(Location location) {
  if (auto file = dyn_cast<FileLineColLoc>(location))
    return llvm::formatv("{0}:{1}:{2}", file.getFilename().getValue(),
                         file.getLine(), file.getColumn());
  std::string text;
  llvm::raw_string_ostream(text) << location;
  return text;
}

static json::Object makeRemark(StringRef kind, StringRef pass, StringRef name,
                               StringRef function, StringRef location,
                               std::string message, json::Object args) {
  // JSON would refer to what a StringRef does.
  return json::Object{
      {"kind", kind.str()},         {"pass", pass.str()},
      {"name", name.str()},         {"function", function.str()},
      {"location", location.str()}, {"message", std::move(message)},
      {"args", std::move(args)}};
}

namespace {
struct Collector : remark::detail::MLIRRemarkStreamerBase {
  explicit Collector(json::Array &remarks) : remarks(remarks) {}

  void streamOptimizationRemark(const remark::detail::Remark &remark) override {
    json::Object args;
    std::string message;
    for (const auto &arg : remark.getArgs()) {
      // What LLVM calls so is text: a sentence, its reason, what to do.
      bool isText =
          arg.key == "Remark" || arg.key == "Reason" || arg.key == "Suggestion";
      if (!isText)
        args[arg.key] = valueOf(arg.val);
      if (!message.empty())
        message += arg.key == "Suggestion" ? "; to have it: " : ", ";
      message += isText ? arg.val : arg.key + "=" + arg.val;
    }
    remarks.push_back(makeRemark(
        remark.getRemarkTypeString().lower(), remark.getCategoryName(),
        remark.getRemarkName(), remark.getFunction(),
        textOf(remark.getLocation()), std::move(message), std::move(args)));
  }

  json::Array &remarks;
};
} // namespace

void mlir::fa::collectRemarks(MLIRContext &context, json::Array &remarks) {
  remark::RemarkCategories categories;
  // `all` alone enables nothing.
  categories.passed = categories.missed = categories.analysis =
      categories.failed = "fa-.*|tile-.*|convert-.*";
  // Fails where an engine is there already: this context is new.
  (void)remark::enableOptimizationRemarks(
      context, std::make_unique<Collector>(remarks),
      std::make_unique<remark::RemarkEmittingPolicyAll>(), categories);
}

//===----------------------------------------------------------------------===//
// ptxas
//===----------------------------------------------------------------------===//

namespace {
struct Usage {
  int64_t registers = 0, spillStores = 0, spillLoads = 0, stack = 0;
};
} // namespace

/// The number before `what` in `line`.
static int64_t numberBefore(StringRef line, StringRef what) {
  StringRef digits = line.substr(0, line.find(what)).rtrim();
  size_t begin = digits.find_last_not_of("0123456789");
  int64_t value = 0;
  if (digits.size() != line.size())
    digits.drop_front(begin + 1).getAsInteger(10, value);
  return value;
}

/// What `ptxas -v` says of `entry`; nothing when it does not mention it.
static std::optional<Usage> readUsage(StringRef log, StringRef entry) {
  std::optional<Usage> usage;
  SmallVector<StringRef> lines;
  log.split(lines, '\n');
  bool mine = false;
  for (StringRef line : lines) {
    if (line.contains("Compiling entry function"))
      mine = line.contains(("'" + entry + "'").str());
    if (!mine)
      continue;
    if (line.contains("bytes stack frame")) {
      usage.emplace();
      usage->stack = numberBefore(line, "bytes stack frame");
      usage->spillStores = numberBefore(line, "bytes spill stores");
      usage->spillLoads = numberBefore(line, "bytes spill loads");
    } else if (usage && line.contains("Used ")) {
      usage->registers = numberBefore(line, "registers");
    }
  }
  return usage;
}

//===----------------------------------------------------------------------===//
// Report
//===----------------------------------------------------------------------===//

/// The plan of a launch: what tile-plan-resources remarked for its function.
static json::Object findPlan(const json::Array &remarks, StringRef entry) {
  for (const json::Value &remark : remarks) {
    const json::Object &object = *remark.getAsObject();
    if (object.getString("pass") == "tile-plan-resources" &&
        object.getString("function") == entry) {
      json::Object plan = *object.getObject("args");
      for (const char *key : {"threads", "shared_bytes", "chip"})
        plan.erase(key);
      return plan;
    }
  }
  return json::Object();
}

/// The arguments of the schedules that were chosen, in their order.
static std::vector<const json::Object *>
findSchedules(const json::Array &remarks) {
  std::vector<const json::Object *> schedules;
  for (const json::Value &remark : remarks) {
    const json::Object &object = *remark.getAsObject();
    if (object.getString("pass") == "fa-select-schedule" &&
        object.getString("kind") == "passed")
      schedules.push_back(object.getObject("args"));
  }
  return schedules;
}

static std::string explain(const json::Object &report) {
  std::string text;
  llvm::raw_string_ostream os(text);
  os << "chip: " << *report.getString("chip");
  if (auto device = report.getString("device"))
    os << llvm::formatv(" ({0}: {1:f0} TFLOP/s, {2:f0} GB/s, ridge {3:f0} "
                        "FLOP/byte)",
                        *device, *report.getNumber("teraflops"),
                        *report.getNumber("gigabytes_per_s"),
                        *report.getNumber("ridge"));
  os << '\n';
  for (const json::Value &value : *report.getArray("launches")) {
    const json::Object &launch = *value.getAsObject();
    os << "launch: " << *launch.getString("entry") << '\n';
    for (auto [title, key] :
         {std::pair("plan", "plan"), {"resources", "resources"}}) {
      const json::Object *fields = launch.getObject(key);
      if (!fields || fields->empty())
        continue;
      std::vector<std::string> names, parts;
      for (auto &field : *fields)
        names.push_back(field.first.str());
      llvm::sort(names);
      for (const std::string &name : names)
        parts.push_back(
            llvm::formatv("{0}={1}", name, *fields->get(name)).str());
      os << "  " << title << ": " << llvm::join(parts, ", ") << '\n';
    }
  }
  for (const json::Value &value : *report.getArray("remarks")) {
    const json::Object &remark = *value.getAsObject();
    os << *remark.getString("location") << ": " << *remark.getString("kind")
       << ": " << *remark.getString("pass") << ": " << *remark.getString("name")
       << " (" << *remark.getString("function")
       << "): " << *remark.getString("message") << '\n';
  }
  return text;
}

void mlir::fa::addReport(Artifact &artifact, json::Array remarks) {
  const LaunchInfo &info = artifact.info;
  const Chip *chip = findChip(info.chip);
  json::Object report{{"chip", info.chip}};
  if (chip) {
    report["device"] = chip->device;
    report["teraflops"] = chip->teraflops;
    report["gigabytes_per_s"] = chip->gigabytes;
    report["ridge"] = chip->getRidge();
  }
  const std::string *found = artifact.find("ptxas_log");
  StringRef log = found ? StringRef(*found) : StringRef();
  auto schedules = findSchedules(remarks);

  json::Array launches, ofPtxas;
  for (auto [index, launch] : llvm::enumerate(info.launches)) {
    json::Object plan = findPlan(remarks, launch.entry), resources;
    // One schedule is chosen for each launch.
    if (schedules.size() == info.launches.size())
      for (auto &[key, value] : *schedules[index])
        plan.try_emplace(key, value);
    if (chip) {
      resources["threads"] = launch.threads;
      resources["shared_bytes"] = launch.sharedBytes;
    }
    std::optional<Usage> usage = readUsage(log, launch.entry);
    if (chip && usage) {
      int64_t blocks = chip->getBlocksPerSM(launch.threads, usage->registers,
                                            launch.sharedBytes);
      resources["registers"] = usage->registers;
      resources["spill_stores"] = usage->spillStores;
      resources["spill_loads"] = usage->spillLoads;
      resources["stack_bytes"] = usage->stack;
      resources["blocks_per_sm"] = blocks;
      resources["occupancy"] =
          double(blocks * llvm::divideCeil(launch.threads, 32) * 32) /
          chip->threadsPerSM;
      if (usage->spillStores || usage->spillLoads)
        ofPtxas.push_back(makeRemark(
            "missed", "ptxas", "spills", launch.entry, "ptxas",
            llvm::formatv("{0} bytes of spill stores and {1} of spill loads "
                          "with {2} registers of {3} threads; to have none: "
                          "smaller tiles or more warps",
                          usage->spillStores, usage->spillLoads,
                          usage->registers, launch.threads),
            json::Object{{"spill_stores", usage->spillStores},
                         {"spill_loads", usage->spillLoads}}));
    }
    launches.push_back(json::Object{{"entry", launch.entry},
                                    {"plan", std::move(plan)},
                                    {"resources", std::move(resources)}});
  }
  // "wgmma instructions are serialized", for example.
  SmallVector<StringRef> lines;
  log.split(lines, '\n');
  for (StringRef line : lines)
    if (line.contains("warning") || line.contains("Performance Loss"))
      ofPtxas.push_back(makeRemark("missed", "ptxas", "warning", "", "ptxas",
                                   line.trim().str(), json::Object()));
  for (json::Value &remark : ofPtxas)
    remarks.push_back(std::move(remark));
  report["launches"] = std::move(launches);
  report["remarks"] = std::move(remarks);
  artifact.parts["explanation"] = explain(report);
  artifact.parts["report"] =
      llvm::formatv("{0:2}", json::Value(std::move(report))).str();
}
