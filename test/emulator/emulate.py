"""Runs compiled GPU kernels on the CPU, to check results and synchronisation.

    from emulate import emulate
    kernel = flash_attn_mlir.compile(chip="sm_90a", head_dim=64)
    emulate(kernel, q, k, v, scale, o, lse, seed=7)

takes NumPy arrays and numbers as the kernel does, writes the results in place and
raises `EmulationError` when the kernel touches memory that is not its own, uses
shared memory without the barrier, wait or fence that this needs, or waits for ever.
A seed picks the interleaving of the threads and when copies and products complete.
tools/fa-emulate holds the emulator; ninja builds it as libfa_emulator.so.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import platform
import sys
from pathlib import Path

import numpy as np

# Elsewhere the build leaves the emulator out; here its absence is an error.
SUPPORTED = sys.platform == "linux" and platform.machine() == "x86_64"

_SIZES = {"f16": 2, "bf16": 2, "f32": 4, "f64": 8, "i32": 4, "i64": 8, "index": 8, "i8": 1, "i1": 1}
_GUARD = 1024  # bytes of poison around each array
_POISON = 0xFF  # NaN in every float type
_LARGE = 1 << 30  # bytes from the first to the last element


class EmulationError(AssertionError):
    """The kernel did something wrong; the text says what, where and to what."""


class _TensorMap(ctypes.Structure):
    _fields_ = (
        ("address", ctypes.c_uint64),
        ("sizes", ctypes.c_int64 * 5),
        ("strides", ctypes.c_int64 * 5),
        ("box", ctypes.c_int64 * 5),
        ("rank", ctypes.c_int64),
        ("swizzle", ctypes.c_int64),
    )


class _Range(ctypes.Structure):
    _fields_ = (("begin", ctypes.c_uint64), ("end", ctypes.c_uint64))


class _Emulation(ctypes.Structure):
    _fields_ = (
        ("entry", ctypes.c_char_p),
        ("words", ctypes.POINTER(ctypes.c_uint64)),
        ("num_words", ctypes.c_int64),
        ("maps", ctypes.POINTER(_TensorMap)),
        ("num_maps", ctypes.c_int64),
        ("ranges", ctypes.POINTER(_Range)),
        ("num_ranges", ctypes.c_int64),
        ("blocks", ctypes.POINTER(ctypes.c_int64)),
        ("num_blocks", ctypes.c_int64),
        ("grid_blocks", ctypes.c_int64),
        ("threads", ctypes.c_int64),
        ("shared_bytes", ctypes.c_int64),
        ("seed", ctypes.c_uint64),
        ("skipped", ctypes.POINTER(ctypes.c_int64)),
        ("num_skipped", ctypes.c_int64),
    )


@functools.cache
def library():
    """libfa_emulator.so of $FA_EMULATOR or of the build folder."""
    default = Path(__file__).parents[2] / "build" / "lib" / "libfa_emulator.so"
    path = Path(os.environ.get("FA_EMULATOR", default))
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing; build it (ninja -C build fa_emulator) or name it in FA_EMULATOR"
        )
    lib = ctypes.CDLL(str(path))
    lib.fa_emulator_create.restype = ctypes.c_void_p
    lib.fa_emulator_create.argtypes = [
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    lib.fa_emulator_destroy.argtypes = [ctypes.c_void_p]
    lib.fa_emulator_sites.restype = ctypes.c_char_p
    lib.fa_emulator_sites.argtypes = [ctypes.c_void_p]
    lib.fa_emulator_run.argtypes = [
        ctypes.c_void_p,
        ctypes.POINTER(_Emulation),
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    return lib


def _array(kind, values):
    return (kind * max(1, len(values)))(*values)


def evaluate(expression, symbols):
    """The value of a grid extent, in the postfix notation of the metadata."""
    operators = {
        "+": lambda a, b: a + b,
        "*": lambda a, b: a * b,
        "floordiv": lambda a, b: a // b,
        "ceildiv": lambda a, b: -(-a // b),
        "mod": lambda a, b: a % b,
    }
    stack = []
    for token in expression.split():
        if token in operators:
            right = stack.pop()
            stack.append(operators[token](stack.pop(), right))
        else:
            stack.append(symbols[int(token[1:])] if token[0] == "s" else int(token))
    (value,) = stack
    return value


class _Memory:
    """A copy of an array with the same strides and alignment, poison around and between.

    One of elements far apart is used as it is.
    """

    def __init__(self, array):
        self.array = array
        low = high = 0
        for size, stride in zip(array.shape, array.strides):
            low += min(0, (size - 1) * stride)
            high += max(0, (size - 1) * stride)
        self.bytes = high - low + array.itemsize if array.size else 0
        if self.bytes > _LARGE:
            self.begin, self.view, self.gaps = array.ctypes.data + low, array, None
            return
        self.buffer = np.full(self.bytes + 2 * _GUARD, _POISON, np.uint8)
        # The address modulo 256 stays.
        wanted = (array.ctypes.data + low) % 256
        first = _GUARD // 2 + (wanted - self.buffer.ctypes.data - _GUARD // 2) % 256
        span = self.buffer[first : first + self.bytes]
        self.begin = self.buffer.ctypes.data + first
        self.view = np.ndarray(
            array.shape, array.dtype, span.data if self.bytes else None, -low, array.strides
        )
        self.view[...] = array
        gaps = np.ones(self.buffer.size, bool)
        inside = np.ndarray(
            (*array.shape, array.itemsize),
            bool,
            gaps[first : first + self.bytes].data if self.bytes else None,
            -low,
            (*array.strides, 1),
        )
        inside[...] = False
        self.gaps = gaps

    @property
    def address(self):
        return self.view.ctypes.data

    def write_back(self, who):
        if self.gaps is None:
            return
        if (self.buffer[self.gaps] != _POISON).any():
            raise EmulationError(f"{who}: memory between or around its elements was written")
        if self.array.flags.writeable:
            self.array[...] = self.view


class Emulator:
    """A kernel's LLVM IR, compiled for the host.

    With `chip`, after LLVM's optimisations for it, which may move memory accesses.
    """

    def __init__(self, llvm_ir: str, chip: str = ""):
        self._lib = library()
        text = llvm_ir.encode()
        error = ctypes.create_string_buffer(1 << 16)
        self._handle = self._lib.fa_emulator_create(
            text, len(text), chip.encode(), error, len(error)
        )
        if not self._handle:
            raise RuntimeError(error.value.decode())

    def __del__(self):
        if getattr(self, "_handle", None):
            self._lib.fa_emulator_destroy(self._handle)

    @property
    def sites(self) -> list[tuple[int, str, str]]:
        """(number, kind, text) of each place that synchronises."""
        lines = self._lib.fa_emulator_sites(self._handle).decode().splitlines()
        return [(int(i), kind, text) for i, kind, text in (x.split("\t", 2) for x in lines)]

    def run(self, launch: dict, args, seed=0, blocks=None, skip=()):
        """One launch: an element of `launches`.

        `blocks` are the blocks to run (default: all, in an order that the seed picks; of
        a persistent kernel, as many as a device of 1 to 4 multiprocessors has);
        `skip` the numbers of sites whose synchronisation is left out.
        """
        entries = launch["args"]
        if len(args) != len(entries):
            raise TypeError(f"the kernel takes {len(entries)} arguments, not {len(args)}")
        words, memories, ranges = [], {}, []
        for index, (entry, value) in enumerate(zip(entries, args)):
            dtype = entry["dtype"]
            if "sizes" not in entry:
                kind = {"f32": np.float32, "f64": np.float64}.get(dtype, np.int64)
                bits = np.array(value, kind).view(f"u{np.dtype(kind).itemsize}")
                words.append(int(bits))
                continue
            who = f"argument {index} ({entry.get('name', dtype)})"
            self._check(who, entry, value)
            memory = memories[index] = _Memory(value)
            ranges.append(_Range(memory.begin, memory.begin + memory.bytes))
            strides = [stride // value.itemsize for stride in value.strides]
            words += [memory.address, memory.address, 0, *value.shape, *strides]
        maps = [
            self._tensor_map(entry, memories[entry["arg"]])
            for entry in launch.get("tensor_maps", [])
        ]
        symbols = [args[a] if d < 0 else args[a].shape[d] for a, d in launch["grid_symbols"]]
        grid = math.prod(evaluate(extent, symbols) for extent in launch["grid"])
        if each := launch.get("per_multiprocessor"):
            grid = min(grid, each * (1 + seed % 4))
        if blocks is None:
            blocks = np.random.default_rng(seed).permutation(grid)
        blocks = [int(block) for block in blocks]
        skip = list(skip)
        emulation = _Emulation(
            entry=launch["entry"].encode(),
            words=_array(ctypes.c_uint64, [word % (1 << 64) for word in words]),
            num_words=len(words),
            maps=_array(_TensorMap, maps),
            num_maps=len(maps),
            ranges=_array(_Range, ranges),
            num_ranges=len(ranges),
            blocks=_array(ctypes.c_int64, blocks),
            num_blocks=len(blocks),
            grid_blocks=grid,
            threads=launch["threads"],
            shared_bytes=launch["shared_bytes"],
            seed=seed,
            skipped=_array(ctypes.c_int64, skip),
            num_skipped=len(skip),
        )
        error = ctypes.create_string_buffer(1 << 16)
        if self._lib.fa_emulator_run(self._handle, ctypes.byref(emulation), error, len(error)):
            raise EmulationError(f"{error.value.decode()}\n(@{launch['entry']}, seed {seed})")
        for index, memory in memories.items():
            memory.write_back(f"argument {index} (@{launch['entry']}, seed {seed})")

    @staticmethod
    def _check(who, entry, value):
        """What the launcher checks, and the size of an element."""
        if value.ndim != len(entry["sizes"]) or value.itemsize != _SIZES[entry["dtype"]]:
            raise TypeError(f"{who}: {value.dtype} of shape {value.shape} does not fit {entry}")
        align = entry.get("align", 1)
        if not value.size:
            return
        assert value.ctypes.data % align == 0, f"{who}: not aligned to {align} bytes"
        declared = zip(entry["sizes"], entry["strides"], value.shape, value.strides)
        for size, stride, actual, byte_stride in declared:
            assert size in (None, actual), f"{who}: size {actual}, expected {size}"
            if actual == 1:
                continue
            assert stride in (None, byte_stride // value.itemsize), f"{who}: stride {byte_stride}"
            assert stride is not None or byte_stride % align == 0, f"{who}: stride {byte_stride}"

    @staticmethod
    def _tensor_map(entry, memory):
        """As encodeTensorMap in lib/Runtime/LaunchCUDA.cpp."""
        view, dims = memory.view, entry["dims"]
        assert view.itemsize == 2 and memory.address % 16 == 0
        result = _TensorMap(address=memory.address, rank=len(dims), swizzle=entry["swizzle"])
        for i, dim in enumerate(dims):
            result.sizes[i] = max(1, view.shape[dim]) if view.size else 0
            result.strides[i] = view.strides[dim] if view.shape[dim] > 1 else 0
            result.box[i] = entry["box"][i]
            assert view.shape[dim] <= 1 or view.strides[dim] % (16 if i else 2) == 0
        return result


_emulators: dict[tuple[str, str], Emulator] = {}


def launches(metadata: dict) -> list[dict]:
    """The launches of an artifact, in order, each with the arguments."""
    return [{**launch, "args": metadata["args"]} for launch in metadata["launches"]]


def emulator(kernel, optimized=False) -> Emulator:
    """The emulator of a compiled kernel; made once."""
    key = (kernel.llvm_ir, kernel.chip if optimized else "")
    if key not in _emulators:
        _emulators[key] = Emulator(*key)
    return _emulators[key]


def emulate(kernel, *args, seed=0, blocks=None, skip=(), optimized=False):
    """Runs a `flash_attn_mlir.Kernel` for a GPU on NumPy arrays and numbers.

    `optimized`: as LLVM makes it from the kernel's IR before it generates PTX.
    """
    for launch in launches(kernel.metadata):
        emulator(kernel, optimized).run(launch, args, seed, blocks, skip)
