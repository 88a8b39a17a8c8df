"""Bad input: the exception's type, and a message that names the argument."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import flash_attn_mlir as fa
import numpy as np
import pytest


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


GOOD = zeros(2, 5, 4, 16)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dropout_p": 0.1}, NotImplementedError, "dropout_p: .*0.1.*dropout_p=0.0"),
        ({"dropout_p": 1.0}, ValueError, "dropout_p: 1.0 .*allowed"),
        ({"dropout_p": -0.5}, ValueError, "dropout_p: -0.5 .*allowed"),
        ({"dropout_p": float("nan")}, ValueError, "dropout_p: nan .*allowed"),
        ({"softmax_scale": float("nan")}, ValueError, "softmax_scale: nan .*finite"),
        ({"softmax_scale": float("inf")}, ValueError, "softmax_scale: inf .*finite"),
        ({"softmax_scale": "big"}, TypeError, "softmax_scale: 'big'"),
        ({"softcap": -1.0}, ValueError, "softcap: -1.0 .*allowed"),
        ({"softcap": float("nan")}, ValueError, "softcap: nan .*allowed"),
        ({"alibi_slopes": zeros(4)}, NotImplementedError, "alibi_slopes"),
        ({"window_size": 5}, TypeError, "window_size: 5 .*allowed"),
        ({"window_size": (1, 2, 3)}, TypeError, "window_size: .*pair"),
        ({"window_size": (1.5, 2)}, TypeError, "window_size: .*integers"),
    ],
)
def test_options(options, error, message):
    with pytest.raises(error, match=message):
        fa.flash_attn_func(GOOD, GOOD, GOOD, **options)
    with pytest.raises(error, match=message):
        fa.flash_attn_kvpacked_func(GOOD, zeros(2, 5, 2, 4, 16), **options)
    with pytest.raises(error, match=message):
        fa.flash_attn_qkvpacked_func(zeros(2, 5, 3, 4, 16), **options)


@pytest.mark.parametrize(
    ("q", "k", "v", "error", "message"),
    [
        ([1.0], GOOD, GOOD, TypeError, "q: a builtins.list is not an array"),
        (GOOD, None, GOOD, TypeError, "k: a builtins.NoneType is not an array"),
        (GOOD.astype(np.int64), GOOD, GOOD, TypeError, "q: dtype int64"),
        (GOOD.astype(">f4"), GOOD, GOOD, TypeError, "q: dtype >f4"),
        (*[GOOD.astype(np.int32)] * 3, TypeError, "q: dtype int32 .*allowed: float16"),
        (*[GOOD.astype(complex)] * 3, TypeError, "q: dtype complex128"),
        (GOOD, GOOD.astype(np.float16), GOOD, TypeError, "k: dtype float16 .*float32"),
        (GOOD, GOOD, GOOD.astype(np.float64), TypeError, "v: dtype float64 .*float32"),
        (GOOD[0], GOOD, GOOD, ValueError, r"q: rank 3 \(shape \(5, 4, 16\)\).*4 dimensions"),
        (GOOD, GOOD[None], GOOD, ValueError, "k: rank 5"),
        (GOOD, GOOD, GOOD[0, 0, 0], ValueError, "v: rank 1"),
        (*[zeros(0, 5, 4, 16)] * 3, ValueError, "q: batch is 0"),
        (*[zeros(2, 5, 0, 16)] * 3, ValueError, "q: heads is 0"),
        (*[zeros(2, 5, 4, 0)] * 3, ValueError, "q: head_dim is 0"),
        (*[zeros(1, 2, 1, 257)] * 3, ValueError, "q: head_dim 257 .*allowed: 1 to 256"),
        (GOOD, GOOD[:1], GOOD[:1], ValueError, "k: batch 1 .*allowed: 2"),
        (GOOD, GOOD[:, :, :3], GOOD[:, :, :3], ValueError, "k: 3 heads do not divide q's 4"),
        (GOOD, zeros(2, 5, 8, 16), zeros(2, 5, 8, 16), ValueError, "k: 8 heads do not divide"),
        (GOOD, zeros(2, 5, 0, 16), zeros(2, 5, 0, 16), ValueError, "k: 0 heads do not divide"),
        (GOOD, zeros(2, 5, 4, 8), GOOD, ValueError, "k: head_dim 8 .*allowed: 16"),
        (GOOD, GOOD, zeros(2, 5, 4, 8), ValueError, "v: head_dim 8 .*allowed: 16"),
        (GOOD, GOOD, zeros(2, 6, 4, 16), ValueError, "v: seqlen 6 .*allowed: 5"),
        (GOOD, GOOD, zeros(2, 5, 2, 16), ValueError, "v: heads 2 .*allowed: 4"),
    ],
)
def test_arrays(q, k, v, error, message):
    with pytest.raises(error, match=message):
        fa.flash_attn_func(q, k, v)


def test_packed_extents():
    with pytest.raises(ValueError, match="qkv: dimension 2 has extent 2; allowed: 3"):
        fa.flash_attn_qkvpacked_func(zeros(2, 5, 2, 4, 16))
    with pytest.raises(ValueError, match="kv: dimension 2 has extent 3; allowed: 2"):
        fa.flash_attn_kvpacked_func(GOOD, zeros(2, 5, 3, 4, 16))
    with pytest.raises(ValueError, match="qkv: rank 4"):
        fa.flash_attn_qkvpacked_func(GOOD)


def test_numpy_beside_torch(torch):
    with pytest.raises(TypeError, match="k: a PyTorch array beside q, a NumPy array"):
        fa.flash_attn_func(GOOD, torch.from_numpy(GOOD), GOOD)


def test_torch_devices_and_layouts(torch):
    tensor = torch.zeros(2, 5, 4, 16)
    with pytest.raises(ValueError, match="q: device meta"):
        fa.flash_attn_func(tensor.to("meta"), tensor, tensor)
    with pytest.raises(TypeError, match=r"q: layout torch.sparse_coo"):
        fa.flash_attn_func(tensor.to_sparse(), tensor, tensor)
    with pytest.raises(TypeError, match=r"q: dtype torch.int8"):
        fa.flash_attn_func(tensor.to(torch.int8), tensor, tensor)


# Compiling


def test_compile_specification():
    with pytest.raises(TypeError, match="mlir= or head_dim="):
        fa.compile(chip="cpu")
    with pytest.raises(ValueError, match="dtype 'f8' .*f16"):
        fa.compile(chip="cpu", dtype="f8", head_dim=64)
    for head_dim in (0, 257, -1):
        with pytest.raises(ValueError, match=f"head_dim {head_dim} .*1 to 256"):
            fa.compile(chip="cpu", head_dim=head_dim)
    with pytest.raises(ValueError, match="head_dim_v 300"):
        fa.compile(chip="cpu", head_dim=64, head_dim_v=300)
    with pytest.raises(TypeError, match="takes no causal"):
        fa.compile(chip="cpu", mlir="module {}", causal=True)


@pytest.mark.parametrize("chip", ["cpu", "sm_80", "sm_90a"])
@pytest.mark.parametrize(
    "text",
    [
        "this is no MLIR",
        "",
        "module {}",
        "func.func @f() { return }",
        'func.func @f() { "no.such_op"() : () -> () return }',
    ],
)
def test_malformed_mlir(text, chip):
    with pytest.raises((ValueError, RuntimeError)) as error:
        fa.compile(chip=chip, mlir=text, cache=False)
    assert str(error.value)


@pytest.mark.parametrize("chip", ["cpu", "sm_80"])
def test_name_that_is_no_utf8(chip):
    text = fa._compiler.build(dtype="f16" if chip == "sm_80" else "f32", head_dim=16)
    text = text.replace("@attention(", '@"f\\F8"(')
    with pytest.raises(ValueError, match="not UTF-8"):
        fa.compile(chip=chip, mlir=text, cache=False)


def test_unknown_chip():
    with pytest.raises((ValueError, NotImplementedError), match="sm_12345"):
        fa.compile(chip="sm_12345", head_dim=64)


def test_malformed_schedule():
    with pytest.raises(ValueError, match="schedule"):
        fa.compile(chip="cpu", head_dim=64, dtype="f32", schedule="#fa.nonsense", cache=False)


def test_missing_ptxas(tmp_path):
    with pytest.raises(ValueError, match="no_ptxas_here"):
        fa.compile(chip="sm_80", head_dim=64, ptxas=str(tmp_path / "no_ptxas_here"), cache=False)


def test_failing_ptxas(tmp_path):
    broken = tmp_path / "ptxas"
    broken.write_text("#!/bin/sh\necho 'forced failure' >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(RuntimeError, match="forced failure"):
        fa.compile(chip="sm_80", head_dim=64, ptxas=str(broken), cache=False)


def test_ptxas_without_split_compile(tmp_path):
    """Older ones compile the kernels of a program one after another: the same code."""
    found = shutil.which("ptxas")
    if found is None:
        pytest.skip("no ptxas on PATH to hide the option of")
    old = tmp_path / "ptxas"
    old.write_text(
        "#!/bin/sh\n"
        'case "$*" in *--split-compile*) '
        "echo \"ptxas fatal   : Unknown option 'split-compile'\" >&2; exit 255;; esac\n"
        f'exec {found} "$@"\n'
    )
    old.chmod(0o755)
    kernel = fa.compile(chip="sm_80", head_dim=32, backward=True, ptxas=str(old), cache=False)
    assert len(kernel.metadata["launches"]) > 1
    assert kernel.cubin and "Unknown option" not in kernel.ptxas_log


def test_kernel_arguments():
    kernel = fa.compile(chip="cpu", dtype="f32", head_dim=16)
    q = zeros(2, 5, 4, 16)
    lse = zeros(2, 4, 5)
    with pytest.raises(TypeError, match="takes 6 arguments"):
        kernel(q, q, q)
    with pytest.raises(TypeError, match="argument 1 .*dtype float16 .*float32"):
        kernel(q, q.astype(np.float16), q, 0.25, q, lse)
    with pytest.raises(ValueError, match="argument 0"):
        kernel(q[0], q, q, 0.25, q, lse)
    with pytest.raises(ValueError, match="argument 2 .*16"):
        kernel(q, q, zeros(2, 5, 4, 8), 0.25, q, lse)
    with pytest.raises(TypeError, match=r"argument 3 \(scale\): 'scale'"):
        kernel(q, q, q, "scale", q, lse)
    wide = zeros(2, 5, 4, 32)[..., ::2]
    with pytest.raises(ValueError, match="argument 0 .*stride"):
        kernel(wide, q, q, 0.25, q, lse)


def test_gpu_kernel_on_cpu_arrays():
    kernel = fa.compile(chip="sm_80", head_dim=16)
    q, lse = zeros(2, 5, 4, 16, dtype=np.float16), zeros(2, 4, 5)
    with pytest.raises(ValueError, match='kernel for sm_80 .*CPU.*chip="cpu"'):
        kernel(q, q, q, 0.25, q, lse)


# Saved kernels and the cache on disk


def test_save_and_load(tmp_path, rng):
    kernel = fa.compile(chip="cpu", dtype="f32", head_dim=16, causal=True)
    kernel.save(tmp_path / "kernel")
    loaded = fa.load(tmp_path / "kernel")
    assert loaded.metadata == kernel.metadata
    assert loaded.mlir == kernel.mlir
    q = rng.standard_normal((2, 5, 4, 16)).astype(np.float32)
    out, lse = np.full_like(q, np.nan), np.full((2, 4, 5), np.nan, np.float32)
    loaded(q, q, q, 0.25, out, lse)
    np.testing.assert_array_equal(out, fa.flash_attn_func(q, q, q, causal=True))


def test_damaged_files(tmp_path):
    kernel = fa.compile(chip="cpu", dtype="f32", head_dim=16)
    path = tmp_path / "kernel"
    kernel.save(path)
    data = path.read_bytes()
    for name, damaged in {
        "flipped": data[: len(data) // 2]
        + bytes([data[len(data) // 2] ^ 1])
        + data[len(data) // 2 + 1 :],
        "short": data[:-7],
        "foreign": b"\x7fELF" + data,
        "empty": b"",
    }.items():
        other = tmp_path / name
        other.write_bytes(damaged)
        with pytest.raises(OSError, match=name):
            fa.load(other)
    with pytest.raises(OSError, match="missing"):
        fa.load(tmp_path / "missing")
    with pytest.raises(OSError, match="no_folder"):
        kernel.save(tmp_path / "no_folder" / "kernel")


SPEC = {"chip": "cpu", "dtype": "f32", "head_dim": 24}


def test_damaged_cache_is_compiled_again(tmp_path):
    first = fa.compile(**SPEC, cache=str(tmp_path))
    files = list(tmp_path.iterdir())
    assert len(files) == 1
    good = files[0].read_bytes()
    for bad in (good[:100], b"", b"x" * len(good)):
        files[0].write_bytes(bad)
        again = fa.compile(**SPEC, cache=str(tmp_path))
        assert again.metadata == first.metadata
        assert files[0].read_bytes() == good  # repaired, and byte for byte the same


@pytest.mark.parametrize("cache", ["/proc/no_cache_here", "/dev/null/cache"])
def test_unwritable_cache_is_no_error(cache):
    assert fa.compile(**SPEC, cache=cache).metadata["chip"] == "cpu"


def test_read_only_cache_folder(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(0o500)
    assert fa.compile(**SPEC, cache=str(folder)).metadata["chip"] == "cpu"
    if os.getuid() != 0:
        assert not list(folder.iterdir())


def test_missing_driver():
    # In a process of its own: no CUDA device is visible there.
    code = (
        "import flash_attn_mlir as fa\n"
        "from flash_attn_mlir import _fa\n"
        "assert _fa.device_count() == 0\n"
        "assert fa.compile(head_dim=16, dtype='f32').metadata['chip'] == 'cpu'\n"
        "try:\n"
        "    _fa.device_capability(0)\n"
        "except RuntimeError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
