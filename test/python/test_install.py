"""`cmake --install` and a C++ and a C program outside the tree over find_package(FA)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import flash_attn_mlir
import pytest

SOURCE = Path(__file__).resolve().parents[2]
BUILD = (Path(flash_attn_mlir.__file__).parent / "libfa.so").resolve().parents[1]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (BUILD / "CMakeCache.txt").exists(), reason="a bundle has no build folder"
    ),
    pytest.mark.xdist_group("install"),
]

PROGRAM = """
!operand = memref<?x?x?x64xf16, strided<[?, ?, ?, 1], offset: ?>>
!lse = memref<?x?x?xf32, strided<[?, ?, 1], offset: ?>>
#maps = [affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>,
         affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>]
#set = affine_set<(b,h,m,n)[lq,lk] : (m + lk - lq - n >= 0)>
func.func @causal(%q: !operand, %k: !operand, %v: !operand, %scale: f32,
                  %o: !operand, %lse: !lse) {
  fa.attention ins(%q, %k, %v : !operand, !operand, !operand) scale(%scale : f32)
    mask #fa.mask<#set> outs(%o, %lse : !operand, !lse) {indexing_maps = #maps}
  return
}
"""


def cached(name):
    """A variable of the build's CMake cache."""
    for line in (BUILD / "CMakeCache.txt").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return line.split("=", 1)[1]
    raise KeyError(name)


def run(*command, **environment):
    result = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("prefix")
    run("cmake", "--install", BUILD, "--prefix", prefix)
    return prefix


@pytest.fixture(scope="module")
def consumer(prefix, tmp_path_factory):
    """The folder of the built example, which was copied away from the tree."""
    folder = tmp_path_factory.mktemp("consumer")
    shutil.copytree(SOURCE / "examples" / "cpp-consumer", folder / "source")
    build = folder / "build"
    compilers = [f"-D{x}={cached(x)}" for x in ("CMAKE_C_COMPILER", "CMAKE_CXX_COMPILER")]
    run(
        "cmake", "-G", "Ninja", "-S", folder / "source", "-B", build, *compilers,
        f"-DCMAKE_PREFIX_PATH={prefix}", f"-DMLIR_DIR={cached('MLIR_DIR')}",
        *[f"-DCMAKE_{k}_LINKER_FLAGS=-fuse-ld=lld" for k in ("EXE", "SHARED")],
    )  # fmt: skip
    run("cmake", "--build", build)
    return build


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "causal.mlir"
    path.write_text(PROGRAM)
    return path


def test_no_path_of_the_tree(prefix):
    """The installed configuration and headers do not point back into the clone."""
    text = [*prefix.rglob("*.cmake"), *prefix.rglob("*.h"), *prefix.rglob("*.inc")]
    assert len(text) > 20
    for file in text:
        assert str(SOURCE) not in file.read_text(), file


def test_licenses(prefix):
    (llvm,) = prefix.rglob("LLVM.txt")
    assert "LLVM Exceptions to the Apache 2.0 License" in llvm.read_text()
    assert any((folder / "LICENSE").is_file() for folder in llvm.parents)


def test_tools(prefix, program):
    options = "--fa-lower-to-nvvm=chip=sm_80"
    lowered = run(prefix / "bin" / "fa-opt", options, program).stdout
    assert "nvvm.mma.sync" in lowered


def test_tablegen_files(prefix):
    """Another project's TableGen can include the dialects' files."""
    tablegen = Path(cached("MLIR_DIR")).parents[2] / "bin" / "mlir-tblgen"
    mlir = Path(cached("MLIR_DIR")).parents[2] / "include"
    definitions = run(
        tablegen, "-gen-op-decls", "-I", prefix / "include", "-I", mlir,
        prefix / "include" / "fa" / "Dialect" / "FA" / "IR" / "FAOps.td",
    ).stdout  # fmt: skip
    assert "class AttentionOp " in definitions


@pytest.mark.parametrize(
    "chip,expected", [("cpu", "llvm.func @causal"), ("sm_80", "nvvm.mma.sync")]
)
def test_cpp_consumer(consumer, program, chip, expected):
    result = run(consumer / "lower-attention", program, chip)
    assert "remark: attention that sums in 'f32'" in result.stderr
    assert expected in result.stdout
    assert "fa.attention" not in result.stdout


def test_c_consumer(consumer, tmp_path):
    result = run(consumer / "attention", FA_CACHE_DIR=str(tmp_path))
    assert result.stdout.startswith(f"fa {flash_attn_mlir.__version__}: largest error")
