"""Arrays of other libraries, seen as memory.

NumPy arrays, PyTorch tensors and objects with DLPack become `_fa.View`s without
a copy. Neither NumPy nor PyTorch is imported unless the caller already uses it.
"""

from __future__ import annotations

import sys

from . import _fa

CPU, CUDA = 1, 2

# Numbered as fa_dtype in fa.h.
DTYPES = {"f16": 0, "bf16": 1, "f32": 2, "f64": 3}

_NAMES = {
    "float16": "f16",
    "bfloat16": "bf16",
    "float32": "f32",
    "float64": "f64",
    "int32": "i32",
}
_ITEMSIZE = {"f16": 2, "bf16": 2, "f32": 4, "f64": 8, "i32": 4}
_LONG_NAMES = {short: name for name, short in _NAMES.items()}


def long_name(dtype: str) -> str:
    """`float16` of `f16`."""
    return _LONG_NAMES.get(dtype, dtype)


class Library:
    """How to look at, and make, the arrays of one library."""

    name = "DLPack"
    # `_fa.TorchCalls`, where there is a short way for calls like earlier ones.
    calls = None

    def view(self, array, stream=None):
        raise NotImplementedError

    def empty(self, shape, dtype, like):
        """A new dense array beside `like`, and its view."""
        raise NotImplementedError

    def zeros(self, shape, dtype, like):
        raise NotImplementedError

    def contiguous(self, array):
        raise NotImplementedError

    def current_stream(self, device: int) -> int:
        return 0

    def wants_determinism(self) -> bool:
        """Whether the library is told to use deterministic algorithms only."""
        return False


class _NumPy(Library):
    name = "NumPy"

    def view(self, array, stream=None):
        name = array.dtype.name
        dtype = _NAMES.get(name)
        if dtype is None or not array.dtype.isnative:
            raise TypeError(f"dtype {array.dtype} is not supported")
        return _fa.view_numpy(array, dtype)

    def _dtype(self, dtype):
        if dtype == "bf16":
            import ml_dtypes

            return ml_dtypes.bfloat16
        return long_name(dtype)

    def empty(self, shape, dtype, like):
        array = sys.modules["numpy"].empty(shape, self._dtype(dtype))
        return array, _fa.view_numpy(array, dtype)

    def zeros(self, shape, dtype, like):
        return sys.modules["numpy"].zeros(shape, self._dtype(dtype))

    def contiguous(self, array):
        return sys.modules["numpy"].ascontiguousarray(array)


class _Torch(Library):
    name = "PyTorch"

    def __init__(self):
        torch = sys.modules["torch"]
        self.torch = torch
        self.strided = torch.strided
        self.dtypes = {getattr(torch, long): short for long, short in _NAMES.items()}
        self.types = {short: dtype for dtype, short in self.dtypes.items()}
        try:
            # How code that TorchInductor generates allocates. A PyTorch without
            # this, or without DLPack's C exchange API (before 2.10), has no short way.
            guards = torch._C._dynamo.guards
            self.calls = _fa.TorchCalls(
                torch, guards._empty_strided_cpu, guards._empty_strided_cuda
            )
        except AttributeError:
            pass

    def view(self, array, stream=None):
        if self.calls is not None:
            found = self.calls.view(array)
            if found is not None:
                return found
        dtype = self.dtypes.get(array.dtype)
        if dtype is None:
            raise TypeError(f"dtype {array.dtype} is not supported")
        if not (array.is_cuda or array.is_cpu):
            raise ValueError(f"device {array.device} is not supported; allowed: cpu, cuda")
        if array.layout is not self.strided:
            raise TypeError(f"layout {array.layout} is not supported; allowed: strided")
        return _fa.view_torch(array, dtype, _ITEMSIZE[dtype])

    def empty(self, shape, dtype, like):
        array = self.torch.empty(shape, dtype=self.types[dtype], device=like.device)
        return array, self.view(array)

    def zeros(self, shape, dtype, like):
        return self.torch.zeros(shape, dtype=self.types[dtype], device=like.device)

    def contiguous(self, array):
        return array.contiguous()

    def current_stream(self, device: int) -> int:
        return self.torch._C._cuda_getCurrentRawStream(device)

    def wants_determinism(self) -> bool:
        return self.torch.are_deterministic_algorithms_enabled()


class _DLPack(Library):
    """Any other library. On a CUDA device its default stream is used."""

    LEGACY_DEFAULT_STREAM = 1

    def view(self, array, stream=None):
        device_type, _ = array.__dlpack_device__()
        if device_type == CUDA:
            capsule = array.__dlpack__(stream=self.LEGACY_DEFAULT_STREAM)
        elif device_type == CPU:
            capsule = array.__dlpack__()
        else:
            raise ValueError(
                f"DLPack device type {device_type} is not supported; allowed: 1 (CPU) and 2 (CUDA)"
            )
        return _fa.view_dlpack(capsule)

    def _namespace(self, array):
        get = getattr(array, "__array_namespace__", None)
        if get is None:
            raise TypeError(
                f"a {type(array).__module__}.{type(array).__name__} can be read through "
                "DLPack, but it has no __array_namespace__() to make the result with; "
                "pass torch.from_dlpack(array) or numpy.from_dlpack(array) instead"
            )
        return get()

    def empty(self, shape, dtype, like):
        namespace = self._namespace(like)
        array = namespace.empty(
            shape, dtype=getattr(namespace, long_name(dtype)), device=like.device
        )
        return array, self.view(array)

    def zeros(self, shape, dtype, like):
        namespace = self._namespace(like)
        return namespace.zeros(
            shape, dtype=getattr(namespace, long_name(dtype)), device=like.device
        )

    def contiguous(self, array):
        return self._namespace(array).asarray(array, copy=True)

    def current_stream(self, device: int) -> int:
        return self.LEGACY_DEFAULT_STREAM


# The library of a type of array: looked up once per type. A racing thread would
# only compute the same entry twice.
_library_of_type: dict[type, Library] = {}


def library(name: str, array) -> Library:
    """The library of the argument `name`, or a TypeError that says what it was."""
    kind = type(array)
    found = _library_of_type.get(kind)
    if found is None:
        roots = {base.__module__.split(".")[0] + "." + base.__name__ for base in kind.__mro__}
        if "torch.Tensor" in roots:
            cls = _Torch
        elif "numpy.ndarray" in roots:
            cls = _NumPy
        elif hasattr(array, "__dlpack__") and hasattr(array, "__dlpack_device__"):
            cls = _DLPack
        else:
            raise TypeError(
                f"{name}: a {kind.__module__}.{kind.__name__} is not an array; allowed: "
                "numpy.ndarray, torch.Tensor, or an object with __dlpack__"
            )
        same = [entry for entry in _library_of_type.values() if type(entry) is cls]
        found = _library_of_type[kind] = same[0] if same else cls()
    return found


def view(name: str, array, lib: Library):
    """The view of the argument `name`; errors carry its name."""
    try:
        return lib.view(array)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
