"""Arrays whose elements lie further apart than 32 bits count, and take little memory."""

from __future__ import annotations

import mmap
import sys

import numpy as np

# Linux reserves no memory for pages that nothing touches.
SUPPORTED = sys.platform == "linux" and sys.maxsize > 2**32
_NORESERVE = 0x4000
_ROW = 2**31 + 64


def far_apart(shape, dtype):
    """An array of NaN: (B, S, H, D), or (B, H, S) whose rows are contiguous.

    From one index to the next of dimension 1 are more than 2^31 elements; so many are also
    from the first head to the last of four dimensions.
    """
    strides = [shape[1] * _ROW, _ROW, 1]
    if len(shape) == 4:
        strides.insert(2, 2**31 // max(1, shape[2] - 1) // 64 * 64 - 64)
    item = np.dtype(dtype).itemsize
    size = (shape[0] * strides[0] + _ROW) * item
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)
    array = np.ndarray(shape, dtype, memory, 0, [stride * item for stride in strides])
    array[...] = np.nan
    return array


def spread(array):
    """A copy of `array` that is far apart."""
    result = far_apart(array.shape, array.dtype)
    result[...] = array
    return result
