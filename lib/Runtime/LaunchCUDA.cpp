//===- LaunchCUDA.cpp - Runs artifacts through the CUDA driver ------------===//
//
// The driver is opened at run time: the library loads and compiles on machines
// without one. Types and constants are those of the driver's stable ABI.
//
//===----------------------------------------------------------------------===//

#include "fa/Runtime/Launcher.h"
#include "fa/Target/Chip.h"
#include "llvm/ADT/ScopeExit.h"
#include <dlfcn.h>
#include <map>

using namespace mlir;
using namespace mlir::fa;

//===----------------------------------------------------------------------===//
// The driver
//===----------------------------------------------------------------------===//

namespace {
using CUresult = int;
using CUdevice = int;
using CUcontext = struct CUctx_st *;
using CUmodule = struct CUmod_st *;
using CUfunction = struct CUfunc_st *;
using CUstream = struct CUstream_st *;

enum : int {
  kAttributeMultiprocessors = 16,
  kAttributeMajor = 75,
  kAttributeMinor = 76,
  kAttributeSharedOptin = 97,
  kFunctionMaxDynamicShared = 8,
  kJITErrorLog = 5,
  kJITErrorLogSize = 6,
  kCaptureRelaxed = 2,
  kTensorMapFloat16 = 6,
  kTensorMapBFloat16 = 9,
  kTensorMapPromoteL2To256 = 3,
};

struct alignas(64) TensorMapObject {
  uint64_t opaque[16];
};

/// The entry points that the runtime calls.
struct Driver {
  CUresult (*init)(unsigned);
  CUresult (*getErrorName)(CUresult, const char **);
  CUresult (*getErrorString)(CUresult, const char **);
  CUresult (*deviceGetCount)(int *);
  CUresult (*deviceGet)(CUdevice *, int);
  CUresult (*deviceGetAttribute)(int *, int, CUdevice);
  CUresult (*primaryCtxRetain)(CUcontext *, CUdevice);
  CUresult (*ctxGetCurrent)(CUcontext *);
  CUresult (*ctxGetDevice)(CUdevice *);
  CUresult (*ctxPushCurrent)(CUcontext);
  CUresult (*ctxPopCurrent)(CUcontext *);
  CUresult (*ctxGetId)(CUcontext, unsigned long long *); // null before 12.0
  CUresult (*moduleLoadDataEx)(CUmodule *, const void *, unsigned, int *,
                               void **);
  CUresult (*moduleGetFunction)(CUfunction *, CUmodule, const char *);
  CUresult (*funcSetAttribute)(CUfunction, int, int);
  CUresult (*exchangeCaptureMode)(int *);
  CUresult (*launchKernel)(CUfunction, unsigned, unsigned, unsigned, unsigned,
                           unsigned, unsigned, unsigned, CUstream, void **,
                           void **);
  CUresult (*tensorMapEncodeTiled)(TensorMapObject *, int, uint32_t, void *,
                                   const uint64_t *, const uint64_t *,
                                   const uint32_t *, const uint32_t *, int, int,
                                   int, int); // null before 12.0
  std::string problem; // why there is no driver; empty when there is one

  llvm::Error check(CUresult result, const char *what) const {
    if (result == 0)
      return llvm::Error::success();
    const char *name = nullptr, *text = nullptr;
    getErrorName(result, &name);
    getErrorString(result, &text);
    return fail(FA_DRIVER_ERROR, "{0}: {1} ({2})", what,
                name ? name : "unknown error", text ? text : "no description");
  }
};
} // namespace

static Driver openDriver() {
  Driver driver = {};
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    driver.problem = "no CUDA driver on this machine: libcuda.so.1 does not "
                     "load; install one, or use the chip cpu";
    return driver;
  }
  auto resolve = [&](auto &function, const char *symbol, bool required = true) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(
        dlsym(library, symbol));
    if (!function && required && driver.problem.empty())
      driver.problem =
          std::string("the CUDA driver is too old: it has no ") + symbol;
  };
  resolve(driver.init, "cuInit");
  resolve(driver.getErrorName, "cuGetErrorName");
  resolve(driver.getErrorString, "cuGetErrorString");
  resolve(driver.deviceGetCount, "cuDeviceGetCount");
  resolve(driver.deviceGet, "cuDeviceGet");
  resolve(driver.deviceGetAttribute, "cuDeviceGetAttribute");
  resolve(driver.primaryCtxRetain, "cuDevicePrimaryCtxRetain");
  resolve(driver.ctxGetCurrent, "cuCtxGetCurrent");
  resolve(driver.ctxGetDevice, "cuCtxGetDevice");
  resolve(driver.ctxPushCurrent, "cuCtxPushCurrent_v2");
  resolve(driver.ctxPopCurrent, "cuCtxPopCurrent_v2");
  resolve(driver.ctxGetId, "cuCtxGetId", false);
  resolve(driver.moduleLoadDataEx, "cuModuleLoadDataEx");
  resolve(driver.moduleGetFunction, "cuModuleGetFunction");
  resolve(driver.funcSetAttribute, "cuFuncSetAttribute");
  resolve(driver.exchangeCaptureMode, "cuThreadExchangeStreamCaptureMode");
  resolve(driver.launchKernel, "cuLaunchKernel");
  resolve(driver.tensorMapEncodeTiled, "cuTensorMapEncodeTiled", false);
  if (driver.problem.empty())
    if (llvm::Error error = driver.check(driver.init(0), "cuInit"))
      driver.problem = llvm::toString(std::move(error));
  return driver;
}

static llvm::Expected<const Driver *> getDriver() {
  static const Driver driver = openDriver();
  if (!driver.problem.empty())
    return fail(FA_DRIVER_ERROR, driver.problem);
  return &driver;
}

int mlir::fa::getDeviceCount() {
  auto driver = getDriver();
  int count = 0;
  if (!driver)
    llvm::consumeError(driver.takeError());
  else if ((*driver)->deviceGetCount(&count))
    return 0;
  return count;
}

/// The device of ordinal `ordinal`.
static llvm::Expected<CUdevice> getDevice(const Driver &driver, int ordinal) {
  int count = 0;
  if (auto error =
          driver.check(driver.deviceGetCount(&count), "cuDeviceGetCount"))
    return std::move(error);
  if (ordinal < 0 || ordinal >= count)
    return fail(FA_INVALID_ARGUMENT,
                "device is {0}; this machine has {1} CUDA devices, numbered "
                "from 0",
                ordinal, count);
  CUdevice device;
  if (auto error =
          driver.check(driver.deviceGet(&device, ordinal), "cuDeviceGet"))
    return std::move(error);
  return device;
}

/// Whether the current context, which there is, is one of `ordinal`.
static bool isOfDevice(const Driver &driver, int ordinal) {
  CUdevice current, wanted;
  return !driver.ctxGetDevice(&current) &&
         !driver.deviceGet(&wanted, ordinal) && current == wanted;
}

static llvm::Error getCapability(const Driver &driver, CUdevice device,
                                 int &major, int &minor) {
  if (auto error = driver.check(
          driver.deviceGetAttribute(&major, kAttributeMajor, device),
          "cuDeviceGetAttribute"))
    return error;
  return driver.check(
      driver.deviceGetAttribute(&minor, kAttributeMinor, device),
      "cuDeviceGetAttribute");
}

llvm::Error mlir::fa::getDeviceMultiprocessors(int ordinal, int &count) {
  auto driver = getDriver();
  if (!driver)
    return driver.takeError();
  auto device = getDevice(**driver, ordinal);
  if (!device)
    return device.takeError();
  return (*driver)->check(
      (*driver)->deviceGetAttribute(&count, kAttributeMultiprocessors, *device),
      "cuDeviceGetAttribute");
}

llvm::Error mlir::fa::getDeviceCapability(int ordinal, int &major, int &minor) {
  auto driver = getDriver();
  if (!driver)
    return driver.takeError();
  auto device = getDevice(**driver, ordinal);
  if (!device)
    return device.takeError();
  return getCapability(**driver, *device, major, minor);
}

//===----------------------------------------------------------------------===//
// Modules
//===----------------------------------------------------------------------===//

namespace {
/// The kernels of an artifact, one per launch, in each context that ran it.
/// Modules live as long as their context: unloading could race with kernels in
/// flight.
struct GPUExecutable : Executable {
  /// A context and its id, since addresses are reused.
  using Key = std::pair<CUcontext, unsigned long long>;
  std::map<Key, std::vector<CUfunction>> kernels;
};
} // namespace

/// Whether code for `chip` runs on a device of capability major.minor.
static llvm::Error checkArchitecture(const Artifact &artifact, int major,
                                     int minor) {
  const Chip *chip = findChip(artifact.info.chip);
  if (!chip)
    return fail(FA_UNSUPPORTED, "the artifact is for the unknown chip '{0}'",
                artifact.info.chip);
  int capability = major * 10 + minor;
  // `a` code uses instructions of exactly one chip.
  bool exact = chip->name.ends_with("a");
  if (exact ? capability == chip->capability : capability >= chip->capability)
    return llvm::Error::success();
  return fail(FA_UNSUPPORTED,
              "the artifact is for {0} and the device has compute capability "
              "{1}.{2}; {0} code runs on {3} {4}.{5}, compile for another chip",
              artifact.info.chip, major, minor, exact ? "exactly" : "at least",
              chip->capability / 10, chip->capability % 10);
}

static llvm::Expected<std::vector<CUfunction>>
loadKernels(const Driver &driver, const Artifact &artifact) {
  CUdevice device;
  int major, minor, sharedLimit;
  if (auto error = driver.check(driver.ctxGetDevice(&device), "cuCtxGetDevice"))
    return std::move(error);
  if (auto error = getCapability(driver, device, major, minor))
    return std::move(error);
  if (auto error = checkArchitecture(artifact, major, minor))
    return std::move(error);
  if (auto error =
          driver.check(driver.deviceGetAttribute(&sharedLimit,
                                                 kAttributeSharedOptin, device),
                       "cuDeviceGetAttribute"))
    return std::move(error);
  const LaunchInfo &info = artifact.info;
  for (const LaunchInfo::Launch &launch : info.launches)
    if (launch.sharedBytes > sharedLimit)
      return fail(FA_UNSUPPORTED,
                  "the kernel @{0} needs {1} bytes of shared memory and the "
                  "device has {2} per block; compile with smaller tiles or "
                  "fewer stages",
                  launch.entry, launch.sharedBytes, sharedLimit);

  // A cubin runs on its own major version from its own minor on; else the
  // driver compiles the PTX.
  const Chip *chip = findChip(info.chip);
  const std::string *code = artifact.find("cubin");
  if (!code || major != chip->capability / 10)
    code = artifact.find("ptx");
  if (!code)
    return fail(FA_INVALID_ARGUMENT,
                "the artifact has no code (stop_after was set); compile it "
                "without that option");

  // Loading may allocate, which a capture in another thread would forbid.
  int mode = kCaptureRelaxed;
  driver.exchangeCaptureMode(&mode);
  llvm::scope_exit restore([&] { driver.exchangeCaptureMode(&mode); });
  CUmodule module;
  char log[4096] = "";
  int options[] = {kJITErrorLog, kJITErrorLogSize};
  void *values[] = {log, reinterpret_cast<void *>(sizeof(log))};
  if (auto error = driver.check(
          driver.moduleLoadDataEx(&module, code->c_str(), 2, options, values),
          "loading the kernel"))
    return fail(FA_DRIVER_ERROR, "{0}\n{1}", llvm::toString(std::move(error)),
                StringRef(log));
  std::vector<CUfunction> functions;
  for (const LaunchInfo::Launch &launch : info.launches) {
    CUfunction function;
    if (auto error = driver.check(
            driver.moduleGetFunction(&function, module, launch.entry.c_str()),
            "cuModuleGetFunction"))
      return std::move(error);
    if (launch.sharedBytes > 48 * 1024)
      if (auto error = driver.check(
              driver.funcSetAttribute(function, kFunctionMaxDynamicShared,
                                      static_cast<int>(launch.sharedBytes)),
              "cuFuncSetAttribute"))
        return std::move(error);
    functions.push_back(function);
  }
  return functions;
}

//===----------------------------------------------------------------------===//
// Tensor maps
//===----------------------------------------------------------------------===//

static llvm::Error encodeTensorMap(const Driver &driver, const LaunchInfo &info,
                                   const LaunchInfo::TensorMap &map,
                                   const fa_arg &value,
                                   TensorMapObject &object) {
  const LaunchInfo::Argument &arg = info.args[map.arg];
  std::string who = "argument " + std::to_string(map.arg);
  if (!arg.name.empty())
    who += " (" + arg.name + ")";
  if (!driver.tensorMapEncodeTiled)
    return fail(FA_DRIVER_ERROR,
                "the CUDA driver is too old: it has no cuTensorMapEncodeTiled");
  if (arg.dtype != "f16" && arg.dtype != "bf16")
    return fail(FA_UNSUPPORTED,
                "{0} has elements of type {1}; bulk copies take f16 and bf16",
                who, arg.dtype);
  constexpr uint64_t kBytes = 2;
  if (reinterpret_cast<uintptr_t>(value.data) % 16)
    return fail(FA_UNSUPPORTED,
                "{0} starts at {1}; bulk copies need a multiple of 16 bytes",
                who, value.data);

  // An empty tensor may have no address; the kernel never reads through its
  // map.
  bool empty = llvm::is_contained(ArrayRef(value.sizes, value.rank), 0);
  void *address = empty ? reinterpret_cast<void *>(uintptr_t(256)) : value.data;
  uint64_t sizes[5], strides[5];
  uint32_t box[5], steps[5];
  uint64_t outer = 16; // a valid stride for dimensions of one element
  for (size_t i = 0; i < map.dims.size(); ++i) {
    int64_t dim = map.dims[i];
    // A map has no dimension of extent 0.
    sizes[i] = std::max<int64_t>(1, value.sizes[dim]);
    box[i] = static_cast<uint32_t>(map.box[i]);
    steps[i] = 1;
    if (i == 0) {
      if (value.strides[dim] != 1 && value.sizes[dim] != 1)
        return fail(FA_UNSUPPORTED,
                    "{0} has stride {1} in dimension {2}; bulk copies need 1",
                    who, value.strides[dim], dim);
      continue;
    }
    uint64_t stride = value.strides[dim] * kBytes;
    if (value.sizes[dim] <= 1)
      stride = outer;
    if (value.strides[dim] < 0 || stride % 16 || stride >= (1ull << 40))
      return fail(FA_UNSUPPORTED,
                  "{0} has stride {1} in dimension {2}, {3} bytes; bulk copies "
                  "need a multiple of 16 bytes from 0 to 2^40",
                  who, value.strides[dim], dim,
                  value.strides[dim] * (int64_t)kBytes);
    strides[i - 1] = stride;
    outer = std::max(outer, stride);
  }
  int swizzle = map.swizzle == 128  ? 3
                : map.swizzle == 64 ? 2
                : map.swizzle == 32 ? 1
                                    : 0;
  CUresult result = driver.tensorMapEncodeTiled(
      &object, arg.dtype == "f16" ? kTensorMapFloat16 : kTensorMapBFloat16,
      static_cast<uint32_t>(map.dims.size()), address, sizes, strides, box,
      steps, /*interleave=*/0, swizzle, kTensorMapPromoteL2To256,
      /*oobFill=*/0);
  if (!result)
    return llvm::Error::success();
  return fail(FA_UNSUPPORTED, "{0} cannot be copied in bulk: {1}", who,
              llvm::toString(driver.check(result, "cuTensorMapEncodeTiled")));
}

//===----------------------------------------------------------------------===//
// Launch
//===----------------------------------------------------------------------===//

llvm::Error Launcher::launchOnGPU(ArrayRef<fa_arg> args, int device,
                                  void *stream) {
  const LaunchInfo &info = artifact->info;
  // Nothing runs unless everything can.
  SmallVector<int64_t, 4> blocks;
  for (const LaunchInfo::Launch &launch : info.launches) {
    auto extents = launch.evaluateGrid(args);
    if (!extents)
      return extents.takeError();
    blocks.push_back(1);
    for (int64_t extent : *extents)
      blocks.back() *= extent;
    if (blocks.back() > INT32_MAX)
      return fail(FA_UNSUPPORTED,
                  "the launch of @{0} has {1} blocks; a device takes at most "
                  "{2}",
                  launch.entry, blocks.back(), INT32_MAX);
  }

  auto opened = getDriver();
  if (!opened)
    return opened.takeError();
  const Driver &driver = **opened;
  if (llvm::all_of(blocks, [](int64_t count) { return count == 0; }))
    return llvm::Error::success();

  // The thread's context when it is of `device`, else the primary one there.
  CUcontext context = nullptr;
  if (auto error =
          driver.check(driver.ctxGetCurrent(&context), "cuCtxGetCurrent"))
    return error;
  bool isCurrent = context && (device < 0 || isOfDevice(driver, device));
  if (!isCurrent) {
    auto wanted = getDevice(driver, device);
    if (!wanted)
      return wanted.takeError();
    // Retained for the life of the process, as the CUDA runtime does.
    if (auto error = driver.check(driver.primaryCtxRetain(&context, *wanted),
                                  "cuDevicePrimaryCtxRetain"))
      return error;
    if (auto error =
            driver.check(driver.ctxPushCurrent(context), "cuCtxPushCurrent"))
      return error;
  }
  llvm::scope_exit pop([&] {
    CUcontext old;
    if (!isCurrent)
      driver.ctxPopCurrent(&old);
  });

  GPUExecutable::Key key{context, 0};
  if (driver.ctxGetId)
    driver.ctxGetId(context, &key.second);
  ArrayRef<CUfunction> functions;
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (!executable)
      executable = std::make_unique<GPUExecutable>();
    auto &kernels = static_cast<GPUExecutable &>(*executable).kernels;
    auto it = kernels.find(key);
    if (it == kernels.end()) {
      auto loaded = loadKernels(driver, *artifact);
      if (!loaded)
        return loaded.takeError();
      it = kernels.emplace(key, std::move(*loaded)).first;
    }
    functions = it->second; // entries of a map stay where they are
  }

  SmallVector<uint64_t, 64> words = info.pack(args);
  SmallVector<SmallVector<TensorMapObject, 8>, 2> maps;
  for (const LaunchInfo::Launch &launch : info.launches) {
    maps.emplace_back(launch.tensorMaps.size());
    for (auto [map, object] : llvm::zip(launch.tensorMaps, maps.back()))
      if (auto error =
              encodeTensorMap(driver, info, map, args[map.arg], object))
        return error;
  }
  // Blocks that share a grid among themselves: as many as run at once.
  for (auto [launch, count] : llvm::zip(info.launches, blocks)) {
    if (!launch.perMultiprocessor)
      continue;
    CUdevice current;
    int multiprocessors;
    if (auto error =
            driver.check(driver.ctxGetDevice(&current), "cuCtxGetDevice"))
      return error;
    if (auto error = driver.check(
            driver.deviceGetAttribute(&multiprocessors,
                                      kAttributeMultiprocessors, current),
            "cuDeviceGetAttribute"))
      return error;
    count = std::min(count, launch.perMultiprocessor * multiprocessors);
  }
  // One stream: each launch sees what the ones before it wrote.
  for (auto [launch, function, count, objects] :
       llvm::zip(info.launches, functions, blocks, maps)) {
    if (count == 0)
      continue;
    SmallVector<void *, 64> parameters;
    for (uint64_t &word : words)
      parameters.push_back(&word);
    for (TensorMapObject &object : objects)
      parameters.push_back(&object);
    if (auto error = driver.check(
            driver.launchKernel(function, static_cast<unsigned>(count), 1, 1,
                                static_cast<unsigned>(launch.threads), 1, 1,
                                static_cast<unsigned>(launch.sharedBytes),
                                static_cast<CUstream>(stream),
                                parameters.data(), nullptr),
            "cuLaunchKernel"))
      return error;
  }
  return llvm::Error::success();
}
