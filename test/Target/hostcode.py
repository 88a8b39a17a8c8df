"""Compiles tile programs for this host and runs them; for the tests."""

import ctypes
import os
import re
import subprocess
import tempfile

import numpy as np

BIN = os.environ.get("FA_BIN", os.path.join(os.path.dirname(__file__), "../../build/bin"))
LLVM = os.environ.get("LLVM_BIN", "/usr/lib/llvm-22/bin")


def compile_text(text, pipeline="fa-lower-tiles-to-cpu"):
    """The entry point of the one function in `text`."""
    name = re.search(r"func\.func @(\w+)", text).group(1)
    low = subprocess.run([f"{BIN}/fa-opt", f"--{pipeline}"], input=text.encode(),
                         capture_output=True)
    assert low.returncode == 0, low.stderr.decode()
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "code")
    obj = subprocess.run([f"{BIN}/fa-translate", "--cpu-to-object", "-o", path + ".o"],
                         input=low.stdout, capture_output=True)
    assert obj.returncode == 0, obj.stderr.decode()
    subprocess.run([f"{LLVM}/clang", "-shared", path + ".o", "-lm", "-o", path + ".so"],
                   check=True)
    function = getattr(ctypes.CDLL(path + ".so"), name)
    function.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    function.restype = None
    return function


def words(*args):
    """Arguments as 8-byte words: NumPy arrays, ints, NumPy scalars."""
    out = []
    for arg in args:
        if isinstance(arg, np.ndarray):
            out += [arg.ctypes.data, arg.ctypes.data, 0, *arg.shape]
            out += [s // arg.itemsize for s in arg.strides]
        elif isinstance(arg, (int, np.integer)):
            out.append(int(arg) & (2**64 - 1))
        else:
            raw = np.asarray(arg).tobytes()
            out.append(int.from_bytes(raw, "little"))
    return np.array(out, dtype=np.uint64)


def call(function, points, *args):
    packed = words(*args)
    function(packed.ctypes.data, 0, points)
