"""CUDA without a device: a driver that records launches and a stand-in for PyTorch.

test_fake_cuda.py runs this file in processes of their own, each with the name of
one of the functions below.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import types

CUDA = 2
F16, F32 = (2, 16), (2, 32)

# ===-----------------------------------------------------------------------=== #
# The driver
# ===-----------------------------------------------------------------------=== #


class Launch(ctypes.Structure):
    _fields_ = [
        ("device", ctypes.c_int),
        ("blocks", ctypes.c_uint),
        ("threads", ctypes.c_uint),
        ("shared", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("words", ctypes.c_uint64 * 64),
    ]


driver = ctypes.CDLL("libcuda.so.1")


def counter(name):
    return ctypes.c_int.in_dll(driver, name)


counter("major_of_chip").value = 9


def last_launch():
    launches = (Launch * 64).in_dll(driver, "launches")
    return launches[(counter("launch_count").value - 1) % 64]


# ===-----------------------------------------------------------------------=== #
# A library of arrays like PyTorch, with memory that nobody touches
# ===-----------------------------------------------------------------------=== #


class DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class ExchangeAPI(ctypes.Structure):
    FROM_OBJECT = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(DLTensor))
    STREAM = ctypes.PYFUNCTYPE(
        ctypes.c_int, ctypes.c_int32, ctypes.c_int32, ctypes.POINTER(ctypes.c_void_p)
    )
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("previous", ctypes.c_void_p),
        ("unused", ctypes.c_void_p * 3),
        ("from_object", FROM_OBJECT),
        ("stream", STREAM),
    ]


class Tensor:
    requires_grad = False
    next_address = 1 << 40

    def __init__(self, shape, strides=None, dtype=F16, device=0, offset=0):
        dense = [1]
        for size in reversed(shape[1:]):
            dense.insert(0, dense[0] * size)
        strides = dense if strides is None else strides
        self.address = Tensor.next_address + offset
        Tensor.next_address += 1 << 24
        self.memory = [(ctypes.c_int64 * len(shape))(*values) for values in (shape, strides)]
        self.tensor = DLTensor(self.address, CUDA, device, len(shape), *dtype, 1, *self.memory, 0)


class Parameter(Tensor):
    pass


state = types.SimpleNamespace(device=0, streams=[0, 0])


@ExchangeAPI.FROM_OBJECT
def from_object(tensor, out):
    out[0] = tensor.tensor
    return 0


@ExchangeAPI.STREAM
def current_stream(device_type, device, out):
    assert device_type == CUDA
    out[0] = state.streams[device]
    return 0


# A newer major version first, as the protocol allows.
older = ExchangeAPI(1, 3, None, (ctypes.c_void_p * 3)(), from_object, current_stream)
newer = ExchangeAPI(
    2, 0, ctypes.addressof(older), (ctypes.c_void_p * 3)(), from_object, current_stream
)
new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype = ctypes.py_object
new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
NAME = b"dlpack_exchange_api"
Tensor.__dlpack_c_exchange_api__ = new_capsule(ctypes.addressof(newer), NAME, None)

torch = types.ModuleType("torch")
torch.Tensor = Tensor
torch.nn = types.SimpleNamespace(Parameter=Parameter)
torch._C = types.SimpleNamespace(
    _len_torch_dispatch_stack=lambda: 0, _are_functorch_transforms_active=lambda: False
)
torch.autograd = types.SimpleNamespace(forward_ad=types.SimpleNamespace(_current_level=-1))
torch.is_grad_enabled = lambda: True
torch.float16, torch.bfloat16, torch.float32, torch.float64 = F16, (4, 16), F32, (2, 64)


def empty(shape, strides, dtype):
    return Tensor(shape, strides, dtype, state.device)


# ===-----------------------------------------------------------------------=== #
# The short way over them
# ===-----------------------------------------------------------------------=== #

import flash_attn_mlir as fa  # noqa: E402
from flash_attn_mlir import _fa  # noqa: E402
from schedules import forward_schedule  # noqa: E402

kernels = {
    (chip, name): fa.compile(
        chip=chip,
        dtype="f16",
        head_dim=64,
        alignment=alignment,
        schedule=schedule,
        ptxas=False,
        cache=False,
    )
    for chip, name, alignment, schedule in (
        ("sm_90a", 16, 16, forward_schedule(64, persistent=False)),
        ("sm_90a", "persistent", 16, None),
        ("sm_80", 1, 1, None),
    )
}
calls = _fa.TorchCalls(torch, None, empty)
function = calls.call


def call(q, k, v, with_lse=True):
    return function(q, k, v, 0.0, None, False, (-1, -1), 0.0, None, False, with_lse)


def remember(q, k, v, chip="sm_90a", alignment=16):
    scalars = [None, None, None, 0.125, None, None]
    artifact = kernels[chip, alignment]._artifact
    options = None, False, (-1, -1), 0.0, False
    assert calls.remember((q, k, v), *options, artifact, "mmmfmm", scalars, 0, None)


def qkv(batch=2, seqlen=200, **options):
    return [Tensor((batch, seqlen, 4, 64), **options) for _ in range(3)]


def test_launch():
    q, k, v = qkv()
    assert call(q, k, v) is None
    remember(q, k, v)
    out, lse, empty = call(*qkv())  # other addresses
    q, k, v = qkv(batch=3, seqlen=513)
    assert call(q, k, v) is None
    remember(q, k, v)
    driver.set_device(0)
    before = counter("map_count").value, counter("push_count").value
    out, lse, empty = call(q, k, v)
    launch = last_launch()
    assert list(out.memory[0]) == [3, 513, 4, 64] and list(lse.memory[0]) == [3, 4, 513]
    assert list(empty.memory[0]) == [0]
    # Address, aligned address, offset, sizes and strides of q, then those of k.
    words = [q.address, q.address, 0, 3, 513, 4, 64, 513 * 256, 256, 64, 1, k.address]
    assert list(launch.words)[:12] == words
    info = kernels["sm_90a", 16].metadata["launches"][0]
    assert (launch.threads, launch.shared) == (info["threads"], info["shared_bytes"])
    # One block for each batch, head and tile of rows.
    assert launch.blocks in {3 * 4 * -(-513 // rows) for rows in (64, 128, 192)}
    maps = len(info["tensor_maps"])
    # The context is current: none is pushed.
    assert (counter("map_count").value, counter("push_count").value) == (
        before[0] + maps,
        before[1],
    )


def test_persistent():
    """Of a persistent kernel, a block per multiprocessor, where there is work for it."""
    for device, batch, blocks in ((0, 1, 8), (0, 2, 10), (0, 50, 10), (1, 50, 11)):
        tensors = [Tensor((batch, 300, 4, 64), device=device) for _ in range(3)]
        state.device = device
        driver.set_device(device)
        remember(*tensors, alignment="persistent")
        assert call(*tensors) is not None
        # One tile of 256 rows and another of 44, of four heads.
        assert last_launch().blocks == blocks, (device, batch)
    state.device = 0


def test_out_alone():
    remember(*qkv())
    made = Tensor.next_address
    q, k, v = qkv()
    out = call(q, k, v, with_lse=False)
    assert list(out.memory[0]) == [2, 200, 4, 64]
    assert Tensor.next_address - made == 4 << 24  # q, k, v and out
    assert last_launch().words[0] == q.address


def test_streams():
    remember(*qkv())
    for stream in (0, 0x1234, 1):
        state.streams = [stream, 77]
        call(*qkv())
        assert (last_launch().stream or 0) == stream


def test_devices():
    remember(*qkv())
    driver.set_device(0)
    count = counter("launch_count").value
    # Another device is another kind of call.
    assert call(*qkv(device=1)) is None
    remember(*qkv(device=1))
    # PyTorch would allocate on its current device, 0: the general way.
    assert call(*qkv(device=1)) is None
    assert counter("launch_count").value == count
    state.device, state.streams = 1, [5, 6]
    # The thread's context may still be the other device's.
    out, _, _ = call(*qkv(device=1))
    assert out.tensor.device_id == 1
    launch = last_launch()
    assert (launch.device, launch.stream) == (1, 6)
    state.device = 0
    call(*qkv())
    assert (last_launch().device, last_launch().stream) == (0, 5)
    # Tensors on two devices.
    assert call(*qkv()[:2], qkv(device=1)[0]) is None


def test_a_thread_without_a_context():
    remember(*qkv())
    results = []
    thread = threading.Thread(target=lambda: results.append(call(*qkv())))
    thread.start()
    thread.join()
    assert results[0] is not None and last_launch().device == 0


def test_alignment():
    remember(*qkv())
    # The kernel with tensor maps is not for these.
    q, k, v = qkv()
    shifted = Tensor((2, 200, 4, 64), offset=2)
    assert call(q, shifted, v) is None
    strides = [200 * 257, 257, 64, 1]
    padded = Tensor((2, 200, 4, 64), strides)
    assert call(padded, k, v) is None
    broadcast = Tensor((2, 200, 4, 64), [0, 256, 64, 1])
    assert call(q, broadcast, v) is None
    remember(padded, k, v, "sm_80", 1)
    other = Tensor((2, 200, 4, 64), strides)
    assert call(other, k, v) is not None
    words = list(last_launch().words)
    assert words[0] == other.address and words[7:11] == strides
    assert call(q, k, v) is not None
    assert call(q, broadcast, v) is None


if __name__ == "__main__":
    globals()[sys.argv[1]]()
