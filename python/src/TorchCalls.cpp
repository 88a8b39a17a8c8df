//===- TorchCalls.cpp - The short way of calls with PyTorch tensors -------===//
//
// Two calls with the same dtype, device, head sizes, alignment class and
// options run the same kernel with the same scalar arguments. Python finds
// these once and hands them over (`remember`); the next such call is one
// function here: it looks at the tensors through DLPack's C exchange API, finds
// the kernel, allocates the results and launches. There are no checks with
// messages: whatever is not exactly as usual gives None, and the caller goes
// the general way, which runs it or says what is wrong.
//
// PyTorch is not linked to. Everything here holds the GIL, except launches.
//
//===----------------------------------------------------------------------===//

#include "Module.h"

#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <vector>

namespace {
/// A new reference, or the Python exception that is set.
py::object stolen(PyObject *result) {
  if (!result)
    throw py::error_already_set();
  return py::reinterpret_steal<py::object>(result);
}

/// One of the scalar options; no value for what needs Python to be understood.
std::optional<double> asNumber(PyObject *object) {
  if (PyFloat_CheckExact(object))
    return PyFloat_AS_DOUBLE(object);
  if (!PyLong_CheckExact(object))
    return std::nullopt;
  double value = PyLong_AsDouble(object);
  if (value == -1 && PyErr_Occurred()) {
    PyErr_Clear();
    return std::nullopt;
  }
  return value;
}

std::optional<bool> asBool(PyObject *object) {
  if (object == Py_True || object == Py_False)
    return object == Py_True;
  return std::nullopt;
}

std::optional<int64_t> asInteger(PyObject *object) {
  if (!PyLong_CheckExact(object))
    return std::nullopt;
  int64_t value = PyLong_AsLongLong(object);
  if (value == -1 && PyErr_Occurred()) {
    PyErr_Clear();
    return std::nullopt;
  }
  return value;
}

int64_t bitsOf(double value) {
  int64_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}

/// The arrays of one call: q, k and v; q and kv; or qkv, and their parts.
struct Operands {
  PyObject *arrays[3];
  int count = 0;
  View views[3]; // of q, k and v
};

/// What decides a call's kernel and scalar arguments.
using Key = std::array<int64_t, 8 + 3 * 9 + 1>;

/// What Python found for a key.
struct Plan {
  py::object artifact; // owns `handle`
  fa_artifact *handle;
  /// q, k, v, scalars, out, lse and, with parts, their workspaces; the arrays
  /// are those of each call.
  std::vector<fa_arg> arguments;
  int64_t parts;   // of the keys, for few queries; else 0
  py::object call; // what PyTorch's autograd is told
};

class TorchCalls {
public:
  TorchCalls(const py::module_ &torch, py::object emptyOnCPU,
             py::object emptyOnCUDA);

  /// The arguments of flash_attn_func -> what it returns, or None.
  py::object call(PyObject *const *args, Py_ssize_t count);
  bool remember(const py::sequence &arrays, const py::object &scale,
                const py::object &causal, const py::object &window,
                const py::object &softcap, const py::object &deterministic,
                const py::object &artifact, const std::string &kinds,
                const py::sequence &scalars, int64_t parts,
                const py::object &call);
  /// A view of a tensor, or None.
  py::object view(const py::object &array) const;
  /// A plan and the arrays of its call -> (out, softmax_lse), or None.
  py::object run(PyObject *const *args, Py_ssize_t count);

  void forget() { plans.clear(); }
  size_t size() const { return plans.size(); }

  /// (call, plan, with_lse, *arrays) -> results that have gradients; None until
  /// the first general call with gradients.
  py::object attention = py::none();
  /// (shape, strides, dtype) -> a tensor, on the current device.
  py::object emptyOnCPU, emptyOnCUDA;
  /// More plans than any program needs; with so many it starts again.
  size_t capacity = 1024;

private:
  bool isPlain(PyObject *object) const {
    return (PyObject *)Py_TYPE(object) == tensorType.ptr() ||
           (PyObject *)Py_TYPE(object) == parameterType.ptr();
  }
  bool isObserved() const;
  bool look(PyObject *array, View &view) const;
  bool look(Operands &operands) const;
  std::optional<Key> makeKey(const Operands &operands, PyObject *scale,
                             PyObject *causal, PyObject *window,
                             PyObject *softcap, PyObject *deterministic) const;
  /// PyTorch's dtype, null where there is none.
  PyObject *torchType(const std::string &dtype) const;
  py::object allocate(const View &like, PyObject *dtype,
                      std::initializer_list<int64_t> sizes) const;
  bool launch(const Plan &plan, const Operands &operands, bool withLse,
              py::object &out, py::object &lse) const;

  py::object tensorType, parameterType;
  py::object dispatchDepth, functorchActive, forwardAD, isGradEnabled;
  py::object float16, bfloat16, float32, float64;
  const dlpack::ExchangeAPI *api;

  std::map<Key, py::capsule> plans; // capsules of `Plan`
};
} // namespace

TorchCalls::TorchCalls(const py::module_ &torch, py::object emptyOnCPU,
                       py::object emptyOnCUDA)
    : emptyOnCPU(std::move(emptyOnCPU)), emptyOnCUDA(std::move(emptyOnCUDA)),
      tensorType(torch.attr("Tensor")),
      parameterType(torch.attr("nn").attr("Parameter")),
      dispatchDepth(torch.attr("_C").attr("_len_torch_dispatch_stack")),
      functorchActive(
          torch.attr("_C").attr("_are_functorch_transforms_active")),
      forwardAD(torch.attr("autograd").attr("forward_ad").attr("__dict__")),
      isGradEnabled(torch.attr("is_grad_enabled")),
      float16(torch.attr("float16")), bfloat16(torch.attr("bfloat16")),
      float32(torch.attr("float32")), float64(torch.attr("float64")) {
  py::object capsule = tensorType.attr("__dlpack_c_exchange_api__");
  api = static_cast<const dlpack::ExchangeAPI *>(
      PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  if (!api)
    throw py::error_already_set();
  while (api && api->major != 1)
    api = api->previous;
  if (!api || !api->tensorFromObject || !api->currentStream)
    throw py::attribute_error("no DLPack 1.x exchange API");
}

/// Whether something in PyTorch must see calls: a dispatch mode, a transform of
/// functorch or a forward derivative.
bool TorchCalls::isObserved() const {
  static PyObject *const level = PyUnicode_InternFromString("_current_level");
  if (asInteger(stolen(PyObject_CallNoArgs(dispatchDepth.ptr())).ptr()) != 0 ||
      stolen(PyObject_CallNoArgs(functorchActive.ptr())).ptr() != Py_False)
    return true;
  PyObject *current = PyDict_GetItemWithError(forwardAD.ptr(), level);
  return !current || asInteger(current).value_or(0) >= 0;
}

/// Looks at a tensor; false if it is one that DLPack can't describe or that has
/// no memory.
bool TorchCalls::look(PyObject *array, View &view) const {
  dlpack::Tensor tensor;
  if (api->tensorFromObject(array, &tensor)) {
    PyErr_Clear();
    return false;
  }
  if (!tensor.data || tensor.ndim > 5)
    return false;
  view.assign(tensor);
  return true;
}

py::object TorchCalls::view(const py::object &array) const {
  View view;
  if (!isPlain(array.ptr()) || !look(array.ptr(), view) || view.dtype.empty() ||
      (view.deviceType != kCPU && view.deviceType != kCUDA))
    return py::none();
  view.owner = array;
  return py::cast(std::move(view));
}

bool TorchCalls::look(Operands &operands) const {
  View views[3];
  for (int i = 0; i < operands.count; ++i)
    if (!look(operands.arrays[i], views[i]) ||
        views[i].arg.rank != (i == operands.count - 1 ? 4 + (i < 2) : 4) ||
        !views[i].hasDenseRows())
      return false;
  if (operands.count == 3) {
    std::move(views, views + 3, operands.views);
    return true;
  }
  int first = operands.count - 1, parts = 3 - first;
  const View &packed = views[first];
  if (packed.arg.sizes[2] != parts)
    return false;
  if (first)
    operands.views[0] = views[0];
  for (int i = 0; i < parts; ++i)
    operands.views[first + i] = packed.select(2, i);
  return true;
}

/// No key where the arrays or the options have something unusual about them.
std::optional<Key> TorchCalls::makeKey(const Operands &operands,
                                       PyObject *scale, PyObject *causal,
                                       PyObject *window, PyObject *softcap,
                                       PyObject *deterministic) const {
  if (!PyTuple_CheckExact(window) || PyTuple_GET_SIZE(window) != 2)
    return std::nullopt;
  auto scaleValue = scale == Py_None ? 0.0 : asNumber(scale);
  auto softcapValue = asNumber(softcap);
  auto left = asInteger(PyTuple_GET_ITEM(window, 0));
  auto right = asInteger(PyTuple_GET_ITEM(window, 1));
  auto isCausal = asBool(causal), isDeterministic = asBool(deterministic);
  if (!scaleValue || !softcapValue || !left || !right || !isCausal ||
      !isDeterministic)
    return std::nullopt;

  Key key = {operands.count,
             scale != Py_None,
             bitsOf(*scaleValue),
             bitsOf(*softcapValue),
             *left,
             *right,
             *isCausal,
             *isDeterministic};
  auto next = key.begin() + 8;
  for (const View &view : operands.views) {
    *next++ = reinterpret_cast<int64_t>(torchType(view.dtype));
    *next++ = view.deviceType;
    *next++ = view.deviceId;
    *next++ = view.alignment();
    *next++ = view.broadcast();
    next = std::copy(view.arg.sizes, view.arg.sizes + 4, next);
  }
  // On the CPU the threads have a say in how many parts the keys are cut into.
  bool onCPU = operands.views[0].deviceType == kCPU;
  *next++ = onCPU ? fa_get_num_threads() : 0;
  return key;
}

bool TorchCalls::remember(const py::sequence &arrays, const py::object &scale,
                          const py::object &causal, const py::object &window,
                          const py::object &softcap,
                          const py::object &deterministic,
                          const py::object &artifact, const std::string &kinds,
                          const py::sequence &scalars, int64_t parts,
                          const py::object &call) {
  Operands operands;
  operands.count = static_cast<int>(py::len(arrays));
  std::vector<py::object> owners(arrays.begin(), arrays.end());
  for (int i = 0; i < operands.count; ++i) {
    operands.arrays[i] = owners[i].ptr();
    if (!isPlain(operands.arrays[i]))
      return false;
  }
  if (!look(operands))
    return false;
  auto key = makeKey(operands, scale.ptr(), causal.ptr(), window.ptr(),
                     softcap.ptr(), deterministic.ptr());
  if (!key)
    return false;

  auto plan = std::make_unique<Plan>();
  plan->artifact = artifact;
  plan->handle = artifact.cast<Artifact &>().handle.get();
  plan->arguments = makeArguments(kinds, scalars);
  plan->parts = parts;
  plan->call = call;
  if (plans.size() >= capacity)
    plans.clear();
  plans[*key] = py::capsule(plan.release(), [](void *pointer) {
    delete static_cast<Plan *>(pointer);
  });
  return true;
}

PyObject *TorchCalls::torchType(const std::string &dtype) const {
  return dtype == "f16"    ? float16.ptr()
         : dtype == "bf16" ? bfloat16.ptr()
         : dtype == "f32"  ? float32.ptr()
         : dtype == "f64"  ? float64.ptr()
                           : nullptr;
}

/// A new dense tensor beside `like`.
py::object TorchCalls::allocate(const View &like, PyObject *dtype,
                                std::initializer_list<int64_t> sizes) const {
  py::object shape = stolen(PyTuple_New(sizes.size()));
  py::object strides = stolen(PyTuple_New(sizes.size()));
  int64_t stride = 1;
  for (Py_ssize_t i = sizes.size() - 1; i >= 0; --i) {
    int64_t size = sizes.begin()[i];
    PyTuple_SET_ITEM(shape.ptr(), i,
                     stolen(PyLong_FromLongLong(size)).release().ptr());
    PyTuple_SET_ITEM(strides.ptr(), i,
                     stolen(PyLong_FromLongLong(stride)).release().ptr());
    stride *= size;
  }
  const py::object &empty = like.deviceType == kCUDA ? emptyOnCUDA : emptyOnCPU;
  PyObject *args[] = {shape.ptr(), strides.ptr(), dtype};
  return stolen(PyObject_Vectorcall(empty.ptr(), args, 3, nullptr));
}

bool TorchCalls::launch(const Plan &plan, const Operands &operands,
                        bool withLse, py::object &out, py::object &lse) const {
  const View &like = operands.views[0];
  const int64_t *sizes = like.arg.sizes;
  int64_t batch = sizes[0], rows = sizes[1], heads = sizes[2];
  PyObject *dtype = torchType(like.dtype);
  View outView, lseView;
  out = allocate(like, dtype, {batch, rows, heads, sizes[3]});
  // PyTorch allocates on its current device, which may be another one.
  if (!look(out.ptr(), outView) || outView.deviceId != like.deviceId)
    return false;
  PyObject *lseType = like.dtype == "f64" ? dtype : float32.ptr();
  if (withLse || plan.parts) {
    lse = allocate(like, lseType, {batch, heads, rows});
    if (!look(lse.ptr(), lseView))
      return false;
  } else { // no rows, nothing to write to
    lseView.setDense(nullptr, {batch, heads, 0});
  }
  // One piece of memory for both workspaces.
  py::object workspace;
  View outParts, lseParts;
  if (plan.parts > 1) {
    int64_t size =
        (plan.parts * batch * rows * heads * sizes[3] + 63) / 64 * 64;
    int64_t lseSize = plan.parts * batch * heads * rows;
    workspace = allocate(like, lseType, {size + lseSize});
    View whole;
    if (!look(workspace.ptr(), whole))
      return false;
    outParts.setDense(whole.arg.data,
                      {plan.parts, batch, rows, heads, sizes[3]});
    lseParts.setDense(static_cast<char *>(whole.arg.data) +
                          size * whole.itemsize,
                      {plan.parts, batch, heads, rows});
  }
  void *stream = nullptr;
  if (like.deviceType == kCUDA &&
      api->currentStream(like.deviceType, like.deviceId, &stream)) {
    PyErr_Clear();
    return false;
  }

  std::vector<fa_arg> arguments = plan.arguments;
  for (int i = 0; i < 3; ++i)
    arguments[i] = operands.views[i].arg;
  auto results = arguments.end() - (plan.parts > 1 ? 4 : 2);
  *results++ = outView.arg;
  *results++ = lseView.arg;
  if (plan.parts > 1) {
    *results++ = outParts.arg;
    *results++ = lseParts.arg;
  }
  char *error = nullptr;
  int status;
  Py_BEGIN_ALLOW_THREADS;
  status = fa_launch(plan.handle, arguments.data(),
                     static_cast<int32_t>(arguments.size()), like.deviceId,
                     stream, &error);
  Py_END_ALLOW_THREADS;
  fa_free(error);
  return status == FA_OK;
}

py::object TorchCalls::call(PyObject *const *args, Py_ssize_t count) {
  if (count != 11)
    throw py::type_error("11 arguments are expected");
  // q, k, v, dropout_p, softmax_scale, causal, window_size, softcap,
  // alibi_slopes, deterministic, return_attn_probs
  Operands operands;
  bool requiresGrad = false;
  static PyObject *const name = PyUnicode_InternFromString("requires_grad");
  for (; operands.count < 3 && args[operands.count] != Py_None;
       ++operands.count) {
    PyObject *array = operands.arrays[operands.count] = args[operands.count];
    if (!isPlain(array))
      return py::none();
    requiresGrad |= stolen(PyObject_GetAttr(array, name)).ptr() == Py_True;
  }
  auto dropout = asNumber(args[3]);
  auto withLse = asBool(args[10]);
  if (!operands.count || dropout != 0.0 || args[8] != Py_None || !withLse ||
      isObserved() || !look(operands))
    return py::none();
  auto key = makeKey(operands, args[4], args[5], args[6], args[7], args[9]);
  auto found = key ? plans.find(*key) : plans.end();
  if (found == plans.end())
    return py::none();
  py::capsule handle = found->second; // `plans` may change meanwhile
  const Plan &plan = *handle.get_pointer<Plan>();

  py::object out, lse;
  if (requiresGrad &&
      stolen(PyObject_CallNoArgs(isGradEnabled.ptr())).ptr() == Py_True) {
    if (attention.is_none())
      return py::none();
    PyObject *arguments[6] = {plan.call.ptr(), handle.ptr(), args[10]};
    std::copy(operands.arrays, operands.arrays + operands.count, arguments + 3);
    out = stolen(PyObject_Vectorcall(attention.ptr(), arguments,
                                     3 + operands.count, nullptr));
    if (!*withLse)
      return out;
    py::tuple both = out;
    out = both[0];
    lse = both[1];
  } else if (!launch(plan, operands, *withLse, out, lse)) {
    return py::none();
  }
  if (!*withLse)
    return out;
  // FlashAttention-2 fills S_dmask only with dropout.
  const View &like = operands.views[0];
  return py::make_tuple(out, lse, allocate(like, torchType(like.dtype), {0}));
}

py::object TorchCalls::run(PyObject *const *args, Py_ssize_t count) {
  Operands operands;
  if (count < 2 || count > 4)
    throw py::type_error("a plan and 1 to 3 arrays are expected");
  const Plan &plan =
      *py::reinterpret_borrow<py::capsule>(args[0]).get_pointer<Plan>();
  operands.count = static_cast<int>(count - 1);
  std::copy(args + 1, args + count, operands.arrays);
  py::object out, lse;
  if (!look(operands) || !launch(plan, operands, /*withLse=*/true, out, lse))
    return py::none();
  return py::make_tuple(out, lse);
}

//===----------------------------------------------------------------------===//
// Binding
//===----------------------------------------------------------------------===//

/// A method that Python calls without making a tuple of its arguments.
template <auto method>
static PyObject *fastCall(PyObject *self, PyObject *const *args,
                          Py_ssize_t count) {
  try {
    auto &calls = py::handle(self).cast<TorchCalls &>();
    return (calls.*method)(args, count).release().ptr();
  } catch (py::error_already_set &error) {
    error.restore();
  } catch (const py::builtin_exception &error) {
    error.set_error();
  } catch (const std::exception &error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

template <auto method> static py::object makeFunction(const py::object &self) {
  auto *function = reinterpret_cast<void (*)()>(&fastCall<method>);
  static PyMethodDef definition = {"method",
                                   reinterpret_cast<PyCFunction>(function),
                                   METH_FASTCALL, nullptr};
  return stolen(PyCFunction_New(&definition, self.ptr()));
}

void defineTorchCalls(py::module_ &m) {
  py::class_<TorchCalls>(m, "TorchCalls")
      .def(py::init<const py::module_ &, py::object, py::object>())
      .def_property_readonly("call", &makeFunction<&TorchCalls::call>)
      .def_property_readonly("run", &makeFunction<&TorchCalls::run>)
      .def("view", &TorchCalls::view)
      .def("remember", &TorchCalls::remember)
      .def("forget", &TorchCalls::forget)
      .def("__len__", &TorchCalls::size)
      .def_readwrite("attention", &TorchCalls::attention)
      .def_readwrite("capacity", &TorchCalls::capacity)
      .def_readwrite("empty_on_cpu", &TorchCalls::emptyOnCPU)
      .def_readwrite("empty_on_cuda", &TorchCalls::emptyOnCUDA);
}
