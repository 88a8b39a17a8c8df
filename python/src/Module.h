//===- Module.h - What the files of the Python module share -----*- C++ -*-===//

#ifndef FA_PYTHON_MODULE_H
#define FA_PYTHON_MODULE_H

#include "fa-c/fa.h"

#include <pybind11/pybind11.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

namespace py = pybind11;

/// The part of the DLPack ABI that is read here.
namespace dlpack {
struct Device {
  int32_t type, id;
};
struct DataType {
  uint8_t code, bits;
  uint16_t lanes;
};
struct Tensor {
  void *data;
  Device device;
  int32_t ndim;
  DataType dtype;
  int64_t *shape, *strides;
  uint64_t byteOffset;
};
/// The content of an unversioned capsule.
struct ManagedTensor {
  Tensor tensor;
  void *context;
  void (*deleter)(ManagedTensor *);
};
/// The content of a type's `__dlpack_c_exchange_api__`, from version 1.2 on.
/// The functions return 0, or -1 with a Python exception set.
struct ExchangeAPI {
  uint32_t major, minor;
  const ExchangeAPI *previous; // of an older major version, or null
  void (*allocate)();
  void (*managedFromObject)();
  void (*managedToObject)();
  int (*tensorFromObject)(PyObject *, Tensor *); // borrows; may be null
  int (*currentStream)(int32_t deviceType, int32_t deviceId, void **stream);
};
} // namespace dlpack

/// The name and, in `itemsize`, the bytes of a DLPack type; null: not
/// supported.
const char *dtypeOf(dlpack::DataType type, int &itemsize);

/// Device types, numbered as in DLPack.
enum DeviceType { kCPU = 1, kCUDA = 2 };

/// An array seen as memory: no copy, `owner` keeps it alive.
struct View {
  fa_arg arg = {};
  std::string dtype;
  int itemsize = 0;
  int deviceType = kCPU, deviceId = 0;
  py::object owner;

  py::tuple tupleOf(const int64_t *values) const {
    py::tuple result(arg.rank);
    for (int i = 0; i < arg.rank; ++i)
      result[i] = values[i];
    return result;
  }

  void setRank(int64_t rank) {
    if (rank < 0 || rank > FA_MAX_RANK)
      throw py::value_error("an array of rank " + std::to_string(rank) +
                            " is not supported; allowed: 0 to " +
                            std::to_string(FA_MAX_RANK));
    arg.kind = FA_ARG_MEMREF;
    arg.rank = static_cast<int32_t>(rank);
  }

  /// Everything but the owner from DLPack; no dtype where it is not supported.
  void assign(const dlpack::Tensor &tensor) {
    setRank(tensor.ndim);
    if (const char *name = dtypeOf(tensor.dtype, itemsize))
      dtype = name;
    deviceType = tensor.device.type;
    deviceId = tensor.device.id;
    arg.data = static_cast<char *>(tensor.data) + tensor.byteOffset;
    int64_t dense = 1;
    for (int i = tensor.ndim - 1; i >= 0; --i) {
      arg.sizes[i] = tensor.shape[i];
      arg.strides[i] = tensor.strides ? tensor.strides[i] : dense;
      dense *= tensor.shape[i];
    }
    normaliseUnitStrides();
  }

  /// A dense array of `sizes` at `data`.
  void setDense(void *data, std::initializer_list<int64_t> sizes) {
    setRank(sizes.size());
    arg.data = data;
    std::copy(sizes.begin(), sizes.end(), arg.sizes);
    int64_t stride = 1;
    for (int i = arg.rank - 1; i >= 0; --i) {
      arg.strides[i] = stride;
      stride *= arg.sizes[i];
    }
  }

  /// The stride of an extent of 1 is never used to compute an address, and
  /// libraries put anything there. Make it what a dense array would have, so
  /// that it can't spoil an alignment class or a tensor map.
  void normaliseUnitStrides() {
    int64_t dense = 1;
    for (int i = arg.rank - 1; i >= 0; --i) {
      if (arg.sizes[i] == 1)
        arg.strides[i] = dense;
      dense =
          std::max(dense, arg.strides[i] * std::max<int64_t>(arg.sizes[i], 1));
    }
  }

  View select(int64_t dim, int64_t index) const {
    if (dim < 0 || dim >= arg.rank || index < 0 || index >= arg.sizes[dim])
      throw py::index_error("select out of range");
    View result = *this;
    result.arg.data =
        static_cast<char *>(arg.data) + index * arg.strides[dim] * itemsize;
    --result.arg.rank;
    for (int i = static_cast<int>(dim); i < result.arg.rank; ++i) {
      result.arg.sizes[i] = arg.sizes[i + 1];
      result.arg.strides[i] = arg.strides[i + 1];
    }
    return result;
  }

  View swap(int64_t first, int64_t second) const {
    if (std::min(first, second) < 0 || std::max(first, second) >= arg.rank)
      throw py::index_error("swap out of range");
    View result = *this;
    std::swap(result.arg.sizes[first], result.arg.sizes[second]);
    std::swap(result.arg.strides[first], result.arg.strides[second]);
    return result;
  }

  /// The alignment class: bytes of the pieces in which rows can be copied, 16,
  /// 4 or, element by element, 1. They divide the address and every stride but
  /// the innermost, which is 1; pieces of 16 also the length of a row.
  int alignment() const {
    int last = arg.rank - 1;
    if (arg.rank == 0 || arg.strides[last] != 1)
      return 1;
    for (int bytes : {16, 4}) {
      bool all = reinterpret_cast<uintptr_t>(arg.data) % bytes == 0 &&
                 (bytes == 4 || arg.sizes[last] * itemsize % bytes == 0);
      for (int i = 0; i < last; ++i)
        all &= arg.sizes[i] <= 1 || arg.strides[i] * itemsize % bytes == 0;
      if (all)
        return bytes;
    }
    return 1;
  }

  /// Some extent above 1 has stride 0 (a broadcast array).
  bool broadcast() const {
    for (int i = 0; i < arg.rank; ++i)
      if (arg.sizes[i] > 1 && arg.strides[i] == 0)
        return true;
    return false;
  }

  /// Kernels can read it: the last dimension is contiguous and no stride is
  /// negative.
  bool hasDenseRows() const {
    int last = arg.rank - 1;
    if (last >= 0 && arg.strides[last] != 1 && arg.sizes[last] > 1)
      return false;
    for (int i = 0; i < arg.rank; ++i)
      if (arg.strides[i] < 0 && arg.sizes[i] > 1)
        return false;
    return true;
  }
};

struct ArtifactDeleter {
  void operator()(fa_artifact *artifact) const {
    fa_artifact_destroy(artifact);
  }
};

struct Artifact {
  std::unique_ptr<fa_artifact, ArtifactDeleter> handle;

  py::object part(const std::string &name) const;
  void save(const std::string &path) const;
  void launch(const py::sequence &arguments, const std::string &kinds,
              int device, uintptr_t stream) const;
};

/// Arguments for fa_launch. `kinds` has one letter for each: m array, f f32,
/// d f64, x index, i i32. An array may be None, to be filled in later.
std::vector<fa_arg> makeArguments(const std::string &kinds,
                                  const py::sequence &values);

/// Defines `TorchCalls` (TorchCalls.cpp).
void defineTorchCalls(py::module_ &m);

#endif // FA_PYTHON_MODULE_H
