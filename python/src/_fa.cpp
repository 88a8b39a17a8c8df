//===- _fa.cpp - Python module over the C interface -----------------------===//
//
// A thin layer: it turns arrays into fa_arg records, status codes into Python
// exceptions, and releases the GIL around work. What attention means, and which
// input is allowed, is decided in Python and in libfa.
//
//===----------------------------------------------------------------------===//

#include "Module.h"

#include <pybind11/numpy.h>

#include <vector>

//===----------------------------------------------------------------------===//
// Errors
//===----------------------------------------------------------------------===//

/// Raises the Python exception that stands for `status`.
[[noreturn]] static void raise(int status, char *error) {
  std::string message = error ? error : "unknown error";
  fa_free(error);
  PyObject *type = PyExc_RuntimeError;
  if (status == FA_INVALID_ARGUMENT)
    type = PyExc_ValueError;
  else if (status == FA_UNSUPPORTED)
    type = PyExc_NotImplementedError;
  else if (status == FA_IO_ERROR)
    type = PyExc_OSError;
  py::set_error(type, message.c_str());
  throw py::error_already_set();
}

static void check(int status, char *error) {
  if (status != FA_OK)
    raise(status, error);
  fa_free(error);
}

//===----------------------------------------------------------------------===//
// Arrays
//===----------------------------------------------------------------------===//

const char *dtypeOf(dlpack::DataType type, int &itemsize) {
  enum { Int = 0, Float = 2, BFloat = 4 };
  itemsize = type.bits / 8;
  if (type.lanes != 1)
    return nullptr;
  if (type.code == Float)
    return type.bits == 16   ? "f16"
           : type.bits == 32 ? "f32"
           : type.bits == 64 ? "f64"
                             : nullptr;
  if (type.code == BFloat && type.bits == 16)
    return "bf16";
  if (type.code == Int && type.bits == 32)
    return "i32";
  return nullptr;
}

static View viewNumpy(const py::array &array, const std::string &dtype) {
  View view;
  view.setRank(array.ndim());
  view.dtype = dtype;
  view.itemsize = static_cast<int>(array.itemsize());
  view.arg.data = const_cast<void *>(array.data());
  for (int i = 0; i < view.arg.rank; ++i) {
    view.arg.sizes[i] = array.shape(i);
    int64_t stride = array.strides(i);
    if (stride % view.itemsize != 0 && array.shape(i) > 1)
      throw py::value_error(
          "an array whose strides are no multiple of its item size is not "
          "supported; pass numpy.ascontiguousarray(array)");
    view.arg.strides[i] = stride / view.itemsize;
  }
  view.normaliseUnitStrides();
  view.owner = array;
  return view;
}

static void fillFromTuple(py::handle tuple, int64_t *values) {
  Py_ssize_t count = PyTuple_GET_SIZE(tuple.ptr());
  for (Py_ssize_t i = 0; i < count; ++i) {
    values[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple.ptr(), i));
    if (values[i] == -1 && PyErr_Occurred())
      throw py::error_already_set();
  }
}

namespace {
/// The attributes of a tensor that are read at each call, interned once.
struct TorchNames {
  static PyObject *intern(const char *name) {
    return PyUnicode_InternFromString(name);
  }
  PyObject *shape = intern("shape"), *stride = intern("stride"),
           *dataPtr = intern("data_ptr"), *isCuda = intern("is_cuda"),
           *getDevice = intern("get_device");
};
} // namespace

static py::object stolen(PyObject *result) {
  if (!result)
    throw py::error_already_set();
  return py::reinterpret_steal<py::object>(result);
}

static View viewTorch(const py::object &tensor, const std::string &dtype,
                      int itemsize) {
  static const TorchNames names;
  auto get = [&](PyObject *name) {
    return stolen(PyObject_GetAttr(tensor.ptr(), name));
  };
  auto call = [&](PyObject *name) {
    return stolen(PyObject_CallMethodNoArgs(tensor.ptr(), name));
  };
  View view;
  py::object shape = get(names.shape);
  py::object strides = call(names.stride);
  if (!PyTuple_Check(shape.ptr()) || !PyTuple_Check(strides.ptr()))
    throw py::type_error("shape and stride() of a tensor must be tuples");
  view.setRank(PyTuple_GET_SIZE(shape.ptr()));
  fillFromTuple(shape, view.arg.sizes);
  fillFromTuple(strides, view.arg.strides);
  view.dtype = dtype;
  view.itemsize = itemsize;
  view.arg.data =
      reinterpret_cast<void *>(call(names.dataPtr).cast<uintptr_t>());
  if (get(names.isCuda).cast<bool>()) {
    view.deviceType = kCUDA;
    view.deviceId = call(names.getDevice).cast<int>();
  }
  view.normaliseUnitStrides();
  view.owner = tensor;
  return view;
}

static View viewDLPack(const py::capsule &capsule) {
  if (std::string(capsule.name() ? capsule.name() : "") != "dltensor")
    throw py::type_error("__dlpack__() must return a capsule named 'dltensor'");
  auto *managed = capsule.get_pointer<dlpack::ManagedTensor>();
  const dlpack::Tensor &tensor = managed->tensor;
  View view;
  view.assign(tensor);
  if (view.dtype.empty())
    throw py::type_error(
        "this DLPack data type (code " + std::to_string(tensor.dtype.code) +
        ", " + std::to_string(tensor.dtype.bits) +
        " bits) is not supported; allowed: float16, bfloat16, float32, "
        "float64, int32");
  // A consumed capsule is renamed, and its consumer calls the deleter.
  PyCapsule_SetName(capsule.ptr(), "used_dltensor");
  view.owner = py::capsule(managed, [](void *pointer) {
    auto *managed = static_cast<dlpack::ManagedTensor *>(pointer);
    if (managed->deleter)
      managed->deleter(managed);
  });
  return view;
}

//===----------------------------------------------------------------------===//
// Artifacts
//===----------------------------------------------------------------------===//

py::object Artifact::part(const std::string &name) const {
  size_t size = 0;
  const void *data = fa_artifact_get(handle.get(), name.c_str(), &size);
  if (!data)
    return py::none();
  return py::bytes(static_cast<const char *>(data), size);
}

void Artifact::save(const std::string &path) const {
  char *error = nullptr;
  int status;
  {
    py::gil_scoped_release release;
    status = fa_artifact_save(handle.get(), path.c_str(), &error);
  }
  check(status, error);
}

std::vector<fa_arg> makeArguments(const std::string &kinds,
                                  const py::sequence &values) {
  if (values.size() != kinds.size())
    throw py::type_error("the kernel takes " + std::to_string(kinds.size()) +
                         " arguments, not " + std::to_string(values.size()));
  std::vector<fa_arg> args(kinds.size());
  for (size_t i = 0; i < args.size(); ++i) {
    py::object value = values[i];
    switch (kinds[i]) {
    case 'm':
      if (!value.is_none())
        args[i] = value.cast<const View &>().arg;
      break;
    case 'f':
    case 'd':
      args[i].kind = kinds[i] == 'f' ? FA_ARG_F32 : FA_ARG_F64;
      args[i].real = value.cast<double>();
      break;
    case 'x':
    case 'i':
      args[i].kind = kinds[i] == 'x' ? FA_ARG_INDEX : FA_ARG_I32;
      args[i].integer = value.cast<int64_t>();
      break;
    default:
      throw py::value_error("unknown kind of argument");
    }
  }
  return args;
}

void Artifact::launch(const py::sequence &arguments, const std::string &kinds,
                      int device, uintptr_t stream) const {
  std::vector<fa_arg> args = makeArguments(kinds, arguments);
  char *error = nullptr;
  int status;
  {
    py::gil_scoped_release release;
    status =
        fa_launch(handle.get(), args.data(), static_cast<int32_t>(args.size()),
                  device, reinterpret_cast<void *>(stream), &error);
  }
  check(status, error);
}

static std::unique_ptr<Artifact> compile(const std::string &mlir,
                                         const std::string &chip,
                                         const std::string &options) {
  fa_artifact *artifact = nullptr;
  char *error = nullptr;
  int status;
  {
    py::gil_scoped_release release;
    status = fa_compile(mlir.c_str(), chip.c_str(),
                        options.empty() ? nullptr : options.c_str(), &artifact,
                        &error);
  }
  check(status, error);
  auto result = std::make_unique<Artifact>();
  result->handle.reset(artifact);
  return result;
}

static std::unique_ptr<Artifact> load(const std::string &path) {
  fa_artifact *artifact = nullptr;
  char *error = nullptr;
  int status;
  {
    py::gil_scoped_release release;
    status = fa_artifact_load(path.c_str(), &artifact, &error);
  }
  check(status, error);
  auto result = std::make_unique<Artifact>();
  result->handle.reset(artifact);
  return result;
}

/// `gradients` 0: the forward program; else the backward one for these.
static std::string buildAttention(int dtype, int headDimQK, int headDimV,
                                  bool causal, bool windowLeft,
                                  bool windowRight, bool softcap, bool lengths,
                                  bool initLse, double deadLse, int alignment,
                                  bool negativeScale, int gradients,
                                  bool hasDLse, bool hasDQSum, int queryRows,
                                  bool hasPartials, bool packHeads) {
  fa_attention_spec spec = {};
  spec.dtype = static_cast<fa_dtype>(dtype);
  spec.head_dim_qk = headDimQK;
  spec.head_dim_v = headDimV;
  spec.causal = causal;
  spec.has_window_left = windowLeft;
  spec.has_window_right = windowRight;
  spec.has_softcap = softcap;
  spec.has_lengths = lengths;
  spec.has_init_lse = initLse;
  spec.dead_lse = deadLse;
  spec.alignment = alignment;
  spec.negative_scale = negativeScale;
  spec.query_rows = queryRows;
  spec.has_partials = hasPartials;
  spec.pack_heads = packHeads;
  char *mlir = nullptr, *error = nullptr;
  int status = gradients
                   ? fa_build_attention_backward(&spec, gradients, hasDLse,
                                                 hasDQSum, &mlir, &error)
                   : fa_build_attention(&spec, &mlir, &error);
  check(status, error);
  std::string result = mlir;
  fa_free(mlir);
  return result;
}

//===----------------------------------------------------------------------===//
// Module
//===----------------------------------------------------------------------===//

PYBIND11_MODULE(_fa, m) {
  m.doc() = "Thin binding of libfa's C interface (include/fa-c/fa.h).";

  py::class_<View>(m, "View")
      .def_property_readonly(
          "shape", [](const View &v) { return v.tupleOf(v.arg.sizes); })
      .def_property_readonly(
          "strides", [](const View &v) { return v.tupleOf(v.arg.strides); })
      .def_property_readonly(
          "pointer",
          [](const View &v) { return reinterpret_cast<uintptr_t>(v.arg.data); })
      .def_readonly("dtype", &View::dtype)
      .def_readonly("device_type", &View::deviceType)
      .def_readonly("device_id", &View::deviceId)
      .def_property_readonly("rank", [](const View &v) { return v.arg.rank; })
      .def_property_readonly("alignment", &View::alignment)
      .def_property_readonly("broadcast", &View::broadcast)
      .def_property_readonly("has_dense_rows", &View::hasDenseRows)
      .def("select", &View::select)
      .def("swap", &View::swap);

  m.def("view_numpy", &viewNumpy);
  m.def("view_torch", &viewTorch);
  m.def("view_dlpack", &viewDLPack);

  py::class_<Artifact>(m, "Artifact")
      .def("part", &Artifact::part)
      .def("save", &Artifact::save)
      .def("launch", &Artifact::launch);

  defineTorchCalls(m);

  m.def("compile", &compile);
  m.def("load", &load);
  m.def("build_attention", &buildAttention);
  m.def("version", &fa_version);
  m.def("llvm_version", &fa_llvm_version);
  m.def("device_count", &fa_device_count);
  m.def("device_capability", [](int device) {
    int32_t major = 0, minor = 0;
    char *error = nullptr;
    check(fa_device_capability(device, &major, &minor, &error), error);
    return py::make_tuple(major, minor);
  });
  m.def("device_multiprocessors", [](int device) {
    int32_t count = 0;
    char *error = nullptr;
    check(fa_device_multiprocessors(device, &count, &error), error);
    return count;
  });
  m.def("chips", [] {
    py::list names;
    for (int32_t i = 0; const char *name = fa_chip(i); ++i)
      names.append(name);
    return names;
  });
  m.def("chip_of_capability", &fa_chip_of_capability); // None: too old
  m.def("set_num_threads", &fa_set_num_threads);
  m.def("get_num_threads", &fa_get_num_threads);
}
