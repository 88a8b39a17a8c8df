"""Runs a function of MLIR text, after any passes, through LLVM on this machine."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np


def tool(*names):
    """The first of `names` in the build folder or PATH."""
    build = Path(os.environ.get("FA_BUILD", Path(__file__).parents[2] / "build"))
    path = os.pathsep.join([str(build / "bin"), os.environ.get("PATH", "")])
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    raise FileNotFoundError(f"none of {', '.join(names)} is in {build}/bin or PATH")


TILE = '#fa.schedule<tile_m={m},tile_n={n},plan=#tile.plan<chip="cpu",mma="vector",copy="direct",warps=1,producers=0,stages=1>>'

# Three teams of warps that hold a third of the rows each.
TEAMS = '#fa.schedule<tile_m=12,tile_n=4,plan=#tile.plan<chip="sm_90a",mma="wgmma",copy="tma",warps=12,producers=4,stages=2>>'

CLEAN = ["--canonicalize", "--cse"]


def stages(m, n):
    """The passes after which the program is executed, by name."""
    select = f"--fa-select-schedule=override={TILE.format(m=m, n=n)}"
    tile = [select, "--fa-tile", *CLEAN]
    online = [*tile, "--fa-online-softmax"]
    return {
        "decompose": ["--fa-decompose"],
        "simplify": ["--fa-simplify-mask", "--fa-decompose"],
        "tile": [*tile, "--fa-decompose"],
        "online": [*online, "--convert-tile-to-linalg"],
        "split": [*online, *CLEAN, "--fa-split-mask-loops", "--convert-tile-to-linalg"],
        "tensors": ["--fa-decompose"],
        "bufferized": ["--one-shot-bufferize", "--fa-decompose"],
        "all": [f"--fa-lower-to-tile=override={TILE.format(m=m, n=n)}", "--convert-tile-to-linalg"],
    }


def parts_stages(m, n, packed=False):
    """As `stages`, for fa.attention with memory for partial results."""
    schedule = TILE.format(m=m, n=n)
    if packed:
        schedule = schedule[:-1] + ",packed=true>"
    parts = [f"--fa-split-keys=multiple={n}"]
    select = [f"--fa-select-schedule=override={schedule}"]
    tile = [*parts, *select, "--fa-tile", *CLEAN]
    combine = [*tile, "--fa-lower-combine"]
    online = [*combine, "--fa-online-softmax"]
    return {
        "whole": ["--fa-decompose"],
        "parts": [*parts, "--fa-decompose"],
        "tile": [*tile, "--fa-decompose"],
        "combine": [*combine, "--fa-decompose", "--convert-tile-to-linalg"],
        "online": [*online, "--convert-tile-to-linalg"],
        "all": [f"--fa-lower-to-tile=override={schedule}", "--convert-tile-to-linalg"],
    }


def backward_stages(m, n):
    """As `stages`, for fa.attention_backward."""
    differentiate = ["--fa-differentiate"]
    select = f"--fa-select-schedule=override={TILE.format(m=m, n=n)}"
    split = [*differentiate, "--fa-split-backward"]
    tile = [*split, select, "--fa-tile", *CLEAN]
    recompute = [*tile, "--fa-recompute-softmax"]
    return {
        "decompose": [*differentiate, "--fa-decompose"],
        "simplify": ["--fa-simplify-mask", *differentiate, "--fa-decompose"],
        "split": [*split, "--fa-decompose"],
        "tile": [*tile, "--fa-decompose"],
        "recompute": [*recompute, "--convert-tile-to-linalg"],
        "all": [f"--fa-lower-to-tile=override={TILE.format(m=m, n=n)}", "--convert-tile-to-linalg"],
    }


LOWER = """--convert-elementwise-to-linalg
--one-shot-bufferize=allow-return-allocs-from-loops --canonicalize --convert-linalg-to-loops
--scf-forall-to-for --llvm-request-c-wrappers --expand-strided-metadata --lower-affine
--convert-scf-to-cf --arith-expand=include-bf16 --convert-math-to-llvm --convert-math-to-libm
--convert-arith-to-llvm --convert-index-to-llvm --finalize-memref-to-llvm
--convert-func-to-llvm --convert-cf-to-llvm --reconcile-unrealized-casts""".split()


def tensor_form(text):
    """The program with `fa.attention` on tensors; the arguments stay memrefs."""
    header, rest = text.split("{\n  fa.attention", 1)
    op, end = rest.rsplit("  return", 1)
    names = re.findall(r"%(\w+): (memref<[^{]*?>)(?=,| \{|\))", header.split("(", 1)[1])
    before = after = ""
    to_tensor = re.compile(r"memref<([^,<>]*)(?:, strided<[^<>]*>)?>")
    for name, memref in names:
        tensor = to_tensor.sub(r"tensor<\1>", memref)
        result = name in ("o", "lse")
        writable = " writable" if result else ""
        before += f"  %{name}_t = bufferization.to_tensor %{name} restrict{writable} : {memref} to {tensor}\n"
        if result:
            after += f"  bufferization.materialize_in_destination %r_t#{len(after) and 1} in restrict writable %{name} : ({tensor}, {memref}) -> ()\n"
            op = op.rstrip() + (", " if after.count("\n") == 2 else " -> ") + tensor
        op = re.sub(rf"%{name}\b", f"%{name}_t", op)
    op = to_tensor.sub(r"tensor<\1>", op)
    return f"{header}{{\n{before}  %r_t:2 = fa.attention{op}\n{after}  return{end}"


def compile_function(text, passes, folder, name="attention"):
    """A callable over NumPy arrays and scalars (float, int)."""

    def pipe(command, data):
        done = subprocess.run(command, input=data, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stderr[:4000]}")
        return done.stdout

    lowered = pipe([tool("fa-opt"), "-", *passes, *LOWER], text)
    # LLVM's translation knows no attributes of our dialects.
    lowered = re.sub(r",? *tile\.plan = #tile\.plan<[^>]*>", "", lowered)
    lowered = re.sub(r"\{fa\.nonnegative\}", "", lowered)
    ir = pipe([tool("mlir-translate", "mlir-translate-22"), "--mlir-to-llvmir"], lowered)
    source, library = Path(folder) / "f.ll", Path(folder) / "f.so"
    source.write_text(ir)
    pipe(
        [tool("clang-22", "clang"), "-O1", "-march=native", "-shared", "-fPIC",
         "-Wno-override-module", str(source), "-o", str(library), "-lm"],
        "",
    )  # fmt: skip
    function = getattr(ctypes.CDLL(str(library)), f"_mlir_ciface_{name}")
    function.restype = None
    return lambda *arguments: function(*map(to_c, arguments))


def to_c(value):
    if isinstance(value, np.ndarray):

        class Descriptor(ctypes.Structure):
            _fields_ = [
                ("base", ctypes.c_void_p),
                ("data", ctypes.c_void_p),
                ("offset", ctypes.c_int64),
                ("sizes", ctypes.c_int64 * value.ndim),
                ("strides", ctypes.c_int64 * value.ndim),
            ]

        pointer = value.ctypes.data
        strides = [s // value.itemsize for s in value.strides]
        return ctypes.byref(
            Descriptor(pointer, pointer, 0, (ctypes.c_int64 * value.ndim)(*value.shape),
                       (ctypes.c_int64 * value.ndim)(*strides))
        )  # fmt: skip
    if isinstance(value, np.floating):
        return ctypes.c_double(value) if value.dtype == np.float64 else ctypes.c_float(value)
    return ctypes.c_int64(int(value))
