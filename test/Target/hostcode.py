"""Compiles tile programs for this host and runs them; for the tests."""

import ctypes
import os
import re
import subprocess
import tempfile

import numpy as np

BIN = os.environ.get("FA_BIN", os.path.join(os.path.dirname(__file__), "../../build/bin"))
LLVM = os.environ.get("LLVM_BIN", "/usr/lib/llvm-22/bin")


def compile_text(text, pipeline="fa-lower-tiles-to-cpu", schedule=None):
    """The entry point of the one function in `text`."""
    options = os.environ.get("FA_CPU_OPTIONS", "")  # "vector-bits=512 registers=32"
    if schedule:
        options += f" schedule='{schedule}'"
    if options:
        pipeline += "=" + options
    name = re.search(r"func\.func @(\w+)", text).group(1)
    low = subprocess.run(
        [f"{BIN}/fa-opt", f"--{pipeline}"], input=text.encode(), capture_output=True
    )
    assert low.returncode == 0, low.stderr.decode()
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "code")
    obj = subprocess.run(
        [f"{BIN}/fa-translate", "--cpu-to-object", "-o", path + ".o"],
        input=low.stdout,
        capture_output=True,
    )
    assert obj.returncode == 0, obj.stderr.decode()
    subprocess.run([f"{LLVM}/clang", "-shared", path + ".o", "-lm", "-o", path + ".so"], check=True)
    function = getattr(ctypes.CDLL(path + ".so"), name)
    function.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    function.restype = None
    return function


def words(*args):
    """Arguments as 8-byte words: NumPy arrays, ints, NumPy scalars."""
    out = []
    for arg in args:
        if hasattr(arg, "data_ptr"):  # a PyTorch tensor
            out += [arg.data_ptr(), arg.data_ptr(), 0, *arg.shape, *arg.stride()]
        elif isinstance(arg, np.ndarray):
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


def attention_text(dtype, d, causal):
    """One fa.attention on (B, S, H, D) memrefs."""
    acc = "f64" if dtype == "f64" else "f32"
    matrix = f"memref<?x?x?x{d}x{dtype}, strided<[?, ?, ?, 1], offset: ?>>"
    rows = f"memref<?x?x?x{acc}, strided<[?, ?, 1], offset: ?>>"
    mask = "mask #fa.mask<#mask>"
    return f"""
#mask = affine_set<(b, h, m, n)[lq, lk] : (m + lk - lq - n >= 0)>
func.func @attention(%q: {matrix}, %k: {matrix}, %v: {matrix},
    %scale: {acc} {{fa.nonnegative}}, %o: {matrix}, %lse: {rows}) {{
  fa.attention ins(%q, %k, %v : {matrix}, {matrix}, {matrix}) scale(%scale : {acc})
    {mask if causal else ""} outs(%o, %lse : {matrix}, {rows})
    {{indexing_maps = [
      affine_map<(b, h, m, n, d, e)[g] -> (b, m, h, d)>,
      affine_map<(b, h, m, n, d, e)[g] -> (b, n, h floordiv g, d)>,
      affine_map<(b, h, m, n, d, e)[g] -> (b, n, h floordiv g, e)>,
      affine_map<(b, h, m, n, d, e)[g] -> (b, m, h, e)>,
      affine_map<(b, h, m, n, d, e)[g] -> (b, h, m)>]}}
  return
}}"""
