"""What a kernel says about itself, and the dump of a compilation."""

from __future__ import annotations

import os
import subprocess
import sys

import flash_attn_mlir as fa
import pytest

SPEC = {"chip": "sm_80", "dtype": "f16", "head_dim": 64, "causal": True}


def tree(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture
def cache(tmp_path):
    return str(tmp_path / "cache")


def test_report(cache):
    kernel = fa.compile(**SPEC, cache=cache)
    report = kernel.report
    (launch,) = report["launches"]
    assert launch["plan"]["mma"] == "mma_sync" and launch["plan"]["copy"] == "cp_async"
    assert launch["plan"]["tile_m"] > 0 and launch["plan"]["stages"] > 0
    used = launch["resources"]
    (metadata,) = kernel.metadata["launches"]
    assert used["threads"] == metadata["threads"]
    assert used["shared_bytes"] == metadata["shared_bytes"]
    assert f"Used {used['registers']} registers" in kernel.ptxas_log
    # Registers in units of 256 for a warp, of 65,536: nothing else limits this one.
    warps = used["threads"] // 32
    blocks = 65536 // (-(-used["registers"] * 32 // 256) * 256) // warps
    blocks = min(blocks, 164 * 1024 // (used["shared_bytes"] + 1024))
    assert used["blocks_per_sm"] == blocks
    assert used["occupancy"] == pytest.approx(blocks * warps / 64)

    kinds = {(remark["kind"], remark["pass"], remark["name"]) for remark in report["remarks"]}
    assert ("passed", "fa-select-schedule", "schedule") in kinds
    assert ("analysis", "fa-select-schedule", "roofline") in kinds
    assert ("passed", "tile-async-copy", "copy") in kinds
    assert ("passed", "convert-tile-to-threads", "mma") in kinds
    for remark in report["remarks"]:
        assert remark["message"] in kernel.explain()
    # From the cache, and from a file, it is the same.
    again = fa.compile(**SPEC, cache=cache)
    assert again.report == report and again.explain() == kernel.explain()


def test_roofline(cache):
    """FLOPs and bytes of the problem, against the chip's device."""
    kernel = fa.compile(**SPEC, cache=cache, stop_after="llvm")
    (remark,) = (x for x in kernel.report["remarks"] if x["name"] == "roofline")
    assert remark["args"] == {
        "flops_per_pair": 4 * 64,
        "bytes_per_key": 2 * 2 * 64,
        "bytes_per_query": 2 * 2 * 64 + 4,
    }
    ridge = 312e12 / 2039e9
    assert kernel.report["ridge"] == pytest.approx(ridge)
    start = -(-ridge * (4 * 2 * 64 + 4) // (4 * 64))
    assert f"by products from S = {start:.0f} on" in remark["message"]


def test_missed():
    spec = SPEC | {"chip": "sm_90a", "alignment": 4}
    kernel = fa.compile(**spec, cache=False, stop_after="llvm")
    missed = [x["message"] for x in kernel.report["remarks"] if x["kind"] == "missed"]
    assert any("addresses and strides of 16 bytes" in message for message in missed)
    plain = fa.compile(**SPEC | {"chip": "sm_90a"}, cache=False, stop_after="llvm")
    assert not [x for x in plain.report["remarks"] if x["kind"] == "missed"]


def test_spills():
    """What ptxas spills is a remark: a schedule with more accumulators than registers."""
    schedule = (
        '#fa.schedule<tile_m = 128, tile_n = 64, plan = <chip = "sm_80", mma = "mma_sync", '
        'copy = "cp_async", warps = 4, producers = 0, stages = 1>>'
    )
    spec = SPEC | {"head_dim": 256}
    kernel = fa.compile(**spec, schedule=schedule, cache=False)
    (launch,) = kernel.report["launches"]
    assert launch["plan"]["from"] == "override"
    (remark,) = (x for x in kernel.report["remarks"] if x["name"] == "spills")
    assert remark["kind"] == "missed" and remark["args"]["spill_stores"] > 0
    assert f"{remark['args']['spill_stores']} bytes spill stores" in kernel.ptxas_log


def test_cpu_report():
    report = fa.compile(chip="cpu", dtype="f32", head_dim=32, cache=False).report
    assert report["chip"] == "cpu" and "device" not in report
    assert report["launches"][0]["plan"]["mma"] == "vector"


@pytest.mark.parametrize("chip", ["cpu", "sm_75", "sm_90a"])
def test_dump(chip, tmp_path, cache):
    spec = SPEC | {"chip": chip}
    kernel = fa.compile(**spec, cache=cache)
    for name in ("one", "two"):  # what is cached is dumped, too
        dumped = fa.compile(**spec, cache=cache, dump=tmp_path / name)
        assert dumped.llvm_ir == kernel.llvm_ir and dumped.ptx == kernel.ptx
    files = tree(tmp_path / "one")
    assert files == tree(tmp_path / "two")
    names = {str(name) for name in files}
    common = {"program.mlir", "program.ll", "optimized.ll", "metadata.json", "report.json"}
    ours = {"program.o"} if chip == "cpu" else {"program.ptx", "program.cubin", "ptxas.log"}
    assert common | ours <= names
    passes = sorted(name for name in names if name.startswith("passes"))
    numbers = [int(name.removeprefix("passes/").split("-")[0]) for name in passes]
    assert sorted(numbers) == list(range(1, len(passes) + 1)) and len(passes) > 20
    assert files[next(path for path in files if path.name == "program.mlir")].decode() == (
        kernel.mlir
    )


def test_dump_variable(tmp_path):
    """FA_DUMP asks for every program; neither cache of a process hides one."""
    code = (
        "import numpy as np, flash_attn_mlir as fa\n"
        "x = np.zeros((1, 4, 1, 32), np.float32)\n"
        "fa.flash_attn_func(x, x, x); fa.flash_attn_func(x, x, x, causal=True)\n"
        "fa.compile(chip='sm_80', head_dim=64, stop_after='ptx')\n"
    )
    environment = {**os.environ, "FA_CACHE_DIR": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    environment["FA_DUMP"] = str(tmp_path / "dump")
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    folders = sorted(path.name.split("-")[0] for path in (tmp_path / "dump").iterdir())
    assert folders == ["cpu", "cpu", "sm_80"]
    for folder in (tmp_path / "dump").iterdir():
        assert (folder / "report.txt").is_file() and (folder / "passes").is_dir()
    before = tree(tmp_path / "dump")
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert tree(tmp_path / "dump") == before


def test_dump_of_a_failure(tmp_path):
    """The IR up to the pass that failed, and a folder that can't be made."""
    spec = SPEC | {"chip": "sm_75", "dtype": "bf16"}  # which the chip has not
    with pytest.raises(NotImplementedError):
        fa.compile(**spec, cache=False, dump=tmp_path / "dump")
    failed = [path.name for path in (tmp_path / "dump" / "passes").iterdir()]
    assert any("fa-select-schedule" in name and name.endswith(".failed.mlir") for name in failed)
    (tmp_path / "file").write_text("")
    with pytest.raises((OSError, RuntimeError), match="cannot make the dump folder"):
        fa.compile(**SPEC, dump=tmp_path / "file" / "dump")


def test_command_line(tmp_path):
    command = [sys.executable, "-m", "flash_attn_mlir", "aot", "--chip", "sm_80", "--head-dim"]
    command += ["64", "--emit", "report", "-o", "-", "--dump", str(tmp_path / "dump")]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert text.startswith("chip: sm_80") and "roofline" in text
    assert (tmp_path / "dump" / "report.txt").read_text() == text
