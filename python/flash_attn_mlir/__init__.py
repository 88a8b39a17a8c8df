"""Attention kernels from an MLIR compiler, with FlashAttention-2's functions.

Works on NumPy arrays, PyTorch tensors and DLPack objects, on the CPU and on
NVIDIA GPUs. Neither NumPy nor PyTorch is imported by this package.
"""

from __future__ import annotations

from . import _fa
from ._attention import (
    attention_backward,
    flash_attn_func,
    flash_attn_kvpacked_func,
    flash_attn_qkvpacked_func,
)
from ._compiler import Kernel, compile, load
from ._fa import get_num_threads, set_num_threads

__version__ = _fa.version()

__all__ = [
    "FlashAttention",
    "Kernel",
    "attention_backward",
    "compile",
    "flash_attn_func",
    "flash_attn_kvpacked_func",
    "flash_attn_qkvpacked_func",
    "get_num_threads",
    "load",
    "set_num_threads",
]


def __getattr__(name):
    # A torch.nn.Module where PyTorch is installed: defined at first use, so
    # that importing this package never imports PyTorch.
    if name == "FlashAttention":
        from ._module import FlashAttention

        globals()[name] = FlashAttention
        return FlashAttention
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
