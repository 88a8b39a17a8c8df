"""The command line: ahead-of-time compilation on a machine without a GPU."""

from __future__ import annotations

import json
import subprocess
import sys

import flash_attn_mlir as fa
import numpy as np
import pytest


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
