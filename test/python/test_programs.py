"""Tile programs that are not attention, through the same passes on every target."""

from __future__ import annotations

import re
from pathlib import Path

import flash_attn_mlir as fa
import numpy as np
import pytest

PROGRAMS = Path(__file__).parent.parent / "programs"
PLANS = {
    "cpu": '#tile.plan<chip = "cpu", mma = "vector", copy = "direct", warps = 1, '
    "producers = 0, stages = 1>",
    "sm_80": '#tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, '
    "producers = 0, stages = 2>",
    # The same, where 4 bytes of alignment are promised instead of 16.
    "sm_80-4": '#tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, '
    "producers = 0, stages = 2>",
    "sm_80-hold": '#tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, '
    "producers = 0, stages = 2, hold_left = true>",
    "sm_80-direct": '#tile.plan<chip = "sm_80", mma = "mma_sync", copy = "direct", warps = 8, '
    "producers = 0, stages = 1>",
    "sm_75": '#tile.plan<chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 8, '
    "producers = 0, stages = 1>",
    "sm_90a": '#tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, '
    "producers = 4, stages = 3>",
    # Products beside each other, and beside the next iteration.
    "sm_90a-overlap": '#tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, '
    "producers = 4, stages = 3, overlap = true>",
    "sm_90a-turns": '#tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, '
    "producers = 4, stages = 3, overlap = true, turns = true>",
    "sm_90a-hold": '#tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, '
    "producers = 4, stages = 3, hold_left = true, overlap = true>",
    # As many blocks as multiprocessors, each with one tile after another.
    "sm_90a-persistent": '#tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, '
    "producers = 4, stages = 3, overlap = true, persistent = true, bulk_stores = true>",
}
# Plans for chips with the 80 KiB of shared memory that both-ways.mlir needs.
ROOMY = [p for p in PLANS if p != "sm_75"]


def marked(plans):
    return [p if p == "cpu" else pytest.param(p, marks=pytest.mark.gpu) for p in plans]


TARGETS = marked(PLANS)


def compile_program(name, target):
    text = (PROGRAMS / f"{name}.mlir").read_text().replace("@PLAN@", PLANS[target])
    if target == "sm_80-4":
        text = text.replace("tile.align = 16", "tile.align = 4")
    return fa.compile(mlir=text, chip=target.split("-")[0])


def run(name, target, inputs, shape):
    """The program's result for float16 inputs, from a poisoned output."""
    if target.startswith("sm_90a"):
        torch = pytest.importorskip("torch")
        if torch.cuda.get_device_capability() != (9, 0):
            pytest.skip("sm_90a artifacts run on compute capability 9.0 only")
    kernel = compile_program(name, target)
    out = np.full(shape, np.nan, np.float32)
    if target == "cpu":
        kernel(*inputs, out)
        return out
    import torch

    result = torch.from_numpy(out).cuda()
    kernel(*(torch.from_numpy(x).cuda() for x in inputs), result)
    return result.cpu().numpy()


def check(got, want):
    """Products of float16 numbers summed in float32; the chain rounds its middle."""
    assert np.isfinite(got).all()
    assert np.linalg.norm(got - want) < 1e-3 * np.linalg.norm(want)
    rows = np.linalg.norm(got - want, axis=1) / np.linalg.norm(want, axis=1)
    assert rows.max() < 5e-3


def draw(rng, *shape):
    return rng.standard_normal(shape).astype(np.float16)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("m", "n", "k"), [(128, 128, 64), (200, 136, 72), (1, 8, 8), (300, 256, 512)]
)
def test_matmul(target, m, n, k, rng):
    a, b = draw(rng, m, k), draw(rng, k, n)
    check(run("matmul", target, (a, b), (m, n)), a.astype(np.float64) @ b)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("m", "n", "k"), [(128, 128, 64), (200, 136, 72), (8, 16, 8), (256, 304, 500)]
)
def test_transposed_matmul(target, m, n, k, rng):
    """The left factor is stored with the reduced dimension as its rows."""
    a, b = draw(rng, k, m), draw(rng, k, n)
    check(run("transposed-matmul", target, (a, b), (m, n)), a.astype(np.float64).T @ b)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("m", "n", "k"), [(64, 128, 64), (200, 136, 72), (1, 8, 8)])
def test_narrow_matmul(target, m, n, k, rng):
    """Eight warps have fewer than 16 rows each: they share the columns, too."""
    a, b, d, e = draw(rng, m, k), draw(rng, k, n), draw(rng, m, k), draw(rng, n, k)
    want = a.astype(np.float64) @ b + d.astype(np.float64) @ e.T
    check(run("narrow-matmul", target, (a, b, d, e), (m, n)), want)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("m", "k"), [(128, 256), (200, 72), (1, 8), (130, 2000)])
def test_split_matmul(target, m, k, rng):
    """Grid points that run in parallel add to the same elements."""
    a, b = draw(rng, m, k), draw(rng, k, 128)
    check(run("split-matmul", target, (a, b), (m, 128)), a.astype(np.float64) @ b)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("m", "n", "k"), [(128, 128, 64), (200, 136, 72), (1, 8, 8)])
def test_rectified_matmul(target, m, n, k, rng):
    """Both factors are computed."""
    a, b = draw(rng, m, k), draw(rng, k, n)
    want = np.maximum(a, 0).astype(np.float64) @ np.maximum(b, 0)
    check(run("rectified-matmul", target, (a, b), (m, n)), want)


@pytest.mark.parametrize("target", marked(ROOMY))
@pytest.mark.parametrize(("m", "n"), [(128, 64), (130, 333), (1, 1), (257, 1024)])
def test_both_ways(target, m, n, rng):
    """A computed tile is a left factor in both orientations."""
    a, b, c, d = draw(rng, m, 64), draw(rng, n, 64), draw(rng, n, 64), draw(rng, m, 128)
    p = a.astype(np.float64) @ b.T
    x = np.full((m, 64), np.nan, np.float32)
    # The last one is the result of `run`.
    y = run("both-ways", target, (a, b, c, d, x), (n, 128))
    check(y, p.T @ d)
    if target == "cpu":
        check(x, p @ c)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("m", "n"), [(128, 64), (130, 333), (1, 1), (257, 1024)])
def test_chain(target, m, n, rng):
    a, b, c = draw(rng, m, 64), draw(rng, n, 64), draw(rng, n, 64)
    check(run("chain", target, (a, b, c), (m, 64)), (a.astype(np.float64) @ b.T) @ c)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("m", "n"), [(64, 128), (130, 333), (1, 1), (1024, 257)])
def test_transposed_chain(target, m, n, rng):
    a, b, c = draw(rng, m, 64), draw(rng, n, 64), draw(rng, m, 64)
    x = rng.standard_normal(m).astype(np.float32)
    want = (x[:, None] + a.astype(np.float64) @ b.T).T @ c
    check(run("transposed-chain", target, (a, b, c, x), (n, 64)), want)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("m", "n"), [(64, 128), (130, 333), (1, 1), (1024, 257)])
def test_normalised_chain(target, m, n, rng):
    """Two launches: the second reads everywhere what the first wrote."""
    a, b, c = draw(rng, m, 64), draw(rng, n, 64), draw(rng, m, 64)
    sums = np.full(m, np.nan, np.float32)  # a workspace, poisoned
    p = a.astype(np.float64) @ b.T
    want = (p / (1 + np.abs(p).sum(axis=1, keepdims=True))).T @ c
    check(run("normalised-chain", target, (a, b, c, sums), (n, 64)), want)


@pytest.mark.parametrize("target", PLANS)
def test_launches_in_order(target):
    kernel = compile_program("normalised-chain", target)
    launches = kernel.metadata["launches"]
    assert [launch["entry"] for launch in launches] == ["normalised_chain_0", "normalised_chain_1"]
    # Rows of a, then rows of b.
    assert [launch["grid_symbols"] for launch in launches] == [[[0, 0]], [[1, 0]]]
    assert all(launch["grid"] == ["s0 128 ceildiv"] for launch in launches)
    if target.startswith("sm_90a"):
        maps = [{entry["arg"] for entry in launch["tensor_maps"]} for launch in launches]
        assert maps == [{0, 1}, {0, 1, 2}]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("m", "k"), [(128, 64), (77, 200), (300, 1000)])
def test_row_normalised(target, m, k, rng):
    a, b = draw(rng, m, k), draw(rng, k, 128)
    p = a.astype(np.float64) @ b
    want = p / np.abs(p).sum(axis=1, keepdims=True)
    check(run("row-normalised", target, (a, b), (m, 128)), want)


@pytest.mark.parametrize("target", [t for t in PLANS if t != "cpu"])
@pytest.mark.parametrize(
    "name",
    [
        "matmul",
        "transposed-matmul",
        "narrow-matmul",
        "split-matmul",
        "rectified-matmul",
        "both-ways",
        "chain",
        "transposed-chain",
        "normalised-chain",
        "row-normalised",
    ],
)
def test_assembles(name, target):
    """ptxas accepts the kernel without spills and without serialised products."""
    if name == "both-ways" and target not in ROOMY:
        with pytest.raises(RuntimeError, match="needs 81920 bytes of .* sm_75 has 65536"):
            compile_program(name, target)
        return
    kernel = compile_program(name, target)
    assert kernel.cubin, "no ptxas"
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", kernel.ptxas_log)
    assert spills == [("0", "0")] * len(kernel.metadata["launches"])
    # Of its three products the third is started while the left factor of the delayed
    # one is made for the next iteration: ptxas puts them in a row, as no schedule asks.
    if name != "both-ways" or "overlap = true" not in PLANS[target]:
        assert not re.search(r"C75\d\d", kernel.ptxas_log)
    assert "warning" not in kernel.ptxas_log
    product = "wgmma.mma_async" if target.startswith("sm_90a") else "mma.sync"
    assert product in kernel.ptx
