"""The command line: ahead-of-time compilation on a machine without a GPU."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys

import flash_attn_mlir as fa
import numpy as np
import pytest
import reference


def command(*arguments, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "flash_attn_mlir", *arguments], capture_output=True, **kwargs
    )


def aot(path, *arguments):
    result = command("aot", *arguments, "-o", str(path))
    assert result.returncode == 0, result.stderr.decode()
    assert not result.stdout
    return path.read_bytes()


def test_info():
    result = command("info")
    assert result.returncode == 0
    info = json.loads(result.stdout)
    assert info["version"] == fa.__version__
    assert info["llvm"].startswith("22.1")
    assert "sm_80" in info["chips"]


SPEC = ["--head-dim", "128", "--dtype", "f16", "--causal"]


def test_mlir(tmp_path):
    text = aot(tmp_path / "out", "--chip", "sm_80", *SPEC, "--emit", "mlir").decode()
    assert "fa.attention" in text
    assert "memref<?x?x?x128xf16" in text
    assert "affine_set" in text


@pytest.mark.parametrize(
    ("chip", "mark"),
    [("sm_80", "nvptx64"), ("sm_90a", "nvptx64"), ("cpu", "define void @attention(ptr")],
)
def test_llvm(tmp_path, chip, mark):
    text = aot(tmp_path / "out", "--chip", chip, *SPEC, "--emit", "llvm").decode()
    assert mark in text


@pytest.mark.parametrize("chip", ["sm_80", "sm_90a"])
def test_ptx(tmp_path, chip):
    text = aot(tmp_path / "out", "--chip", chip, *SPEC, "--emit", "ptx").decode()
    assert f".target {chip}" in text
    assert ".entry" in text
    assert ("wgmma.mma_async" if chip == "sm_90a" else "mma.sync") in text


@pytest.mark.parametrize("chip", ["sm_80", "sm_90a"])
def test_cubin(tmp_path, chip):
    data = aot(tmp_path / "out", "--chip", chip, *SPEC, "--emit", "cubin")
    assert data[:4] == b"\x7fELF"
    # e_machine: EM_CUDA
    assert int.from_bytes(data[18:20], "little") == 190


def test_object(tmp_path):
    data = aot(tmp_path / "out.o", "--chip", "cpu", *SPEC, "--emit", "object")
    assert data[:4] == b"\x7fELF"


PROGRAM = """
#include "program.h"
#include <stdio.h>
#include <stdlib.h>

static fa_tensor tensor(const char *path, int64_t heads, int64_t dims, size_t size) {
  // (B, S, H, D), or (B, H, S) for D = 1
  fa_tensor t = {0};
  int64_t sizes[4] = {2, 70, heads, dims};
  if (dims == 1)
    sizes[1] = heads, sizes[2] = 70;
  int64_t stride = 1;
  for (int i = 3; i >= 0; --i)
    t.sizes[i] = sizes[i], t.strides[i] = stride, stride *= sizes[i];
  t.data = aligned_alloc(64, (stride * size + 63) / 64 * 64);
  FILE *file = fopen(path, "rb");
  if (file && fread(t.data, size, stride, file) != (size_t)stride)
    exit(2);
  if (file)
    fclose(file);
  return t;
}

static void save(const char *path, const fa_tensor *t, size_t size) {
  FILE *file = fopen(path, "wb");
  size_t count = t->sizes[0] * t->strides[0];
  if (!file || fwrite(t->data, size, count, file) != count || fclose(file))
    exit(3);
}

int main(void) {
  BODY
  return 0;
}
"""
FORWARD = """
  fa_tensor q = tensor("q", 4, 32, 4), k = tensor("k", 2, 32, 4), v = tensor("v", 2, 32, 4);
  fa_tensor o = tensor("", 4, 32, 4), lse = tensor("", 4, 1, 4);
  attention_call(&q, &k, &v, 0.3f, &o, &lse);
  save("o", &o, 4);
  save("lse", &lse, 4);
  // Again in parts, as threads would.
  uint64_t words[attention_words];
  fa_tensor again = tensor("", 4, 32, 4);
  attention_pack(words, &q, &k, &v, 0.3f, &again, &lse);
  int64_t points = attention_points(0, words);
  for (int64_t point = points - 1; point >= 0; --point)
    attention_run(0, words, point, point + 1);
  if (attention_launches != 1 || memcmp(o.data, again.data, 2 * o.strides[0] * 4))
    return 1;
"""
BACKWARD = """
  fa_tensor q = tensor("q", 4, 32, 4), k = tensor("k", 2, 32, 4), v = tensor("v", 2, 32, 4);
  fa_tensor o = tensor("o", 4, 32, 4), lse = tensor("lse", 4, 1, 4), d_o = tensor("d_o", 4, 32, 4);
  fa_tensor delta = tensor("", 4, 1, 4), d_q = tensor("", 4, 32, 4);
  fa_tensor d_k = tensor("", 2, 32, 4), d_v = tensor("", 2, 32, 4);
  attention_backward_call(&q, &k, &v, &o, &lse, &d_o, 0.3f, &delta, &d_q, &d_k, &d_v);
  save("d_q", &d_q, 4);
  save("d_k", &d_k, 4);
  save("d_v", &d_v, 4);
"""


def build_and_run(folder, body, *options):
    compiler = shutil.which("cc") or shutil.which("clang") or shutil.which("clang-22")
    if not compiler:
        pytest.skip("no C compiler")
    common = ["--chip", "cpu", "--dtype", "f32", "--head-dim", "32", "--causal", *options]
    aot(folder / "program.o", *common, "--emit", "object")
    aot(folder / "program.h", *common, "--emit", "header")
    (folder / "main.c").write_text(PROGRAM.replace("BODY", body))
    sources = ["main.c", "program.o", "-lm", "-o", "program"]
    subprocess.run([compiler, "-std=c11", "-Wall", "-Werror", *sources], cwd=folder, check=True)
    subprocess.run(["./program"], cwd=folder, check=True)


@pytest.mark.parametrize("options", [[], ["--cpu", "x86-64"], ["--cpu", "x86-64-v3"]])
def test_object_in_a_c_program(tmp_path, rng, options):
    """The header and object of a program work without this library, gradients too."""
    if options and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("x86-64 only")

    def draw(name, heads):
        array = rng.standard_normal((2, 70, heads, 32)).astype(np.float32)
        array.tofile(tmp_path / name)
        return array

    def read(name, shape):
        return np.fromfile(tmp_path / name, np.float32).reshape(shape)

    q, k, v, d_o = draw("q", 4), draw("k", 2), draw("v", 2), draw("d_o", 4)
    build_and_run(tmp_path, FORWARD, *options)
    problem = {"scale": 0.3, "mask": reference.band(70, 70, causal=True)}
    expected = reference.attention(q, k, v, **problem)
    out, lse = read("o", q.shape), read("lse", (2, 4, 70))
    reference.check("float32", out, lse, *expected)
    build_and_run(tmp_path, BACKWARD, "--backward", *options)
    found = {f"d_{name}": read(f"d_{name}", x.shape) for name, x in zip("qkv", (q, k, v))}
    gradients = reference.attention_backward(q, k, v, d_o, **problem, magnitudes=True)
    reference.check_gradients("float32", found, *gradients, terms=2 * 70 + 3 * 32)


def test_header_asks_for_tile_registers(tmp_path):
    """Of a program that uses AMX, and of no other."""
    compiler = shutil.which("cc") or shutil.which("clang") or shutil.which("clang-22")
    if platform.machine() not in ("x86_64", "AMD64") or not compiler:
        pytest.skip("needs x86-64 and a C compiler")
    for dtype, asks in (("bf16", True), ("f32", False)):
        common = ["--chip", "cpu", "--cpu", "sapphirerapids", "--dtype", dtype, "--head-dim", "64"]
        aot(tmp_path / "program.h", *common, "--emit", "header")
        assert ("syscall" in (tmp_path / "program.h").read_text()) == asks
        (tmp_path / "main.c").write_text(
            '#include "program.h"\nint main(void) { return sizeof(&attention_call) == 0; }\n'
        )
        flags = ["-std=c11", "-Wall", "-Werror", "-c"]
        subprocess.run([compiler, *flags, "main.c"], cwd=tmp_path, check=True)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--chip", "cpu", "--cpu", "z80"], "processor is 'z80'; allowed are"),
        (["--chip", "sm_80", "--cpu", "x86-64"], "allowed for chip cpu only"),
    ],
)
def test_wrong_processors(tmp_path, arguments, message):
    result = command(
        "aot", *arguments, *SPEC, "--emit", "llvm", "-o", str(tmp_path / "out"), text=True
    )
    assert result.returncode == 1
    assert message in result.stderr


def test_equal_input_gives_equal_output(tmp_path):
    for emit in ("llvm", "ptx", "cubin"):
        first, second = (
            aot(tmp_path / name, "--chip", "sm_80", *SPEC, "--emit", emit, "--no-cache")
            for name in ("first", "second")
        )
        assert first == second


def test_artifact_runs(tmp_path, rng):
    path = tmp_path / "kernel"
    aot(path, "--chip", "cpu", "--head-dim", "32", "--dtype", "f32", "--emit", "artifact")
    q = rng.standard_normal((1, 40, 2, 32)).astype(np.float32)
    out, lse = np.full_like(q, np.nan), np.full((1, 2, 40), np.nan, np.float32)
    fa.load(path)(q, q, q, 32**-0.5, out, lse)
    np.testing.assert_array_equal(out, fa.flash_attn_func(q, q, q))


def test_mlir_file(tmp_path):
    text = aot(tmp_path / "in.mlir", "--chip", "cpu", *SPEC, "--emit", "mlir").decode()
    result = command(
        "aot", "--chip", "sm_80", "--mlir", "-", "--emit", "ptx", "-o", "-", input=text.encode()
    )
    assert result.returncode == 0, result.stderr.decode()
    assert result.stdout == aot(tmp_path / "ptx", "--chip", "sm_80", *SPEC, "--emit", "ptx")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--chip", "cpu", "--emit", "mlir"], "--head-dim"),
        (["--chip", "cpu", "--head-dim", "300", "--emit", "mlir"], "head_dim 300"),
        (["--chip", "cpu", "--head-dim", "64", "--emit", "ptx"], "cpu has none; allowed"),
        (["--chip", "sm_80", "--head-dim", "64", "--emit", "object"], "sm_80 has none"),
        (["--chip", "sm_1", "--head-dim", "64", "--emit", "ptx"], "sm_1"),
        (["--chip", "cpu", "--mlir", "/no/such/file", "--emit", "llvm"], "/no/such/file"),
    ],
)
def test_errors(tmp_path, arguments, message):
    result = command("aot", *arguments, "-o", str(tmp_path / "out"), text=True)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_unwritable_output():
    result = command(
        "aot", "--chip", "cpu", *SPEC, "--emit", "mlir", "-o", "/no/such/folder/out", text=True
    )
    assert result.returncode == 1
    assert "/no/such/folder" in result.stderr


@pytest.mark.parametrize("chip", ["cpu", "sm_80", "sm_90a"])
def test_backward(tmp_path, chip):
    options = ["--chip", chip, *SPEC, "--backward", "--d-lse", "--gradients", "kv"]
    text = aot(tmp_path / "mlir", *options, "--emit", "mlir").decode()
    assert "d_lse(%d_lse" in text and "d_k(%d_k" in text and "d_q(" not in text
    aot(tmp_path / "artifact", *options, "--emit", "artifact")
    kernel = fa.load(tmp_path / "artifact")
    names = [argument["name"] for argument in kernel.metadata["args"]]
    want = ["q", "k", "v", "o", "lse", "d_o", "d_lse", "scale", "delta", "d_k", "d_v"]
    assert names == want
    assert len(kernel.metadata["launches"]) > 1


def test_backward_options_need_backward(tmp_path):
    result = command("aot", "--chip", "cpu", *SPEC, "--d-lse", "--emit", "mlir", "-o", "-")
    assert result.returncode == 1
    assert b"d_lse, gradients and d_q_sum are options of backward=True" in result.stderr
