"""Warps that sleep at random around barriers, copies and products: the same bits.

What one warp must wait for is usually there long before; a missing wait shows when its maker
is late. The emulator plays such orders on the CPU; this is the device itself.
"""

from __future__ import annotations

import shlex
import shutil
import sys

import delays
import flash_attn_mlir as fa
import pytest

PROGRAMS = {
    "64 short": {"head_dim": 64, "causal": True, "query_rows": 4096},
    "64": {"head_dim": 64},
    "112": {"head_dim": 112, "causal": True},
    "128": {"head_dim": 128},
    "128 causal": {"head_dim": 128, "causal": True},
    "256": {"head_dim": 256, "causal": True},
    "64 backward": {"head_dim": 64, "causal": True, "backward": True},
    "128 backward": {"head_dim": 128, "backward": True},
}
CHIPS = ["sm_80", "sm_90a"]


@pytest.fixture
def sleepy(tmp_path):
    """(seed) -> a ptxas whose kernels sleep."""

    def make(seed):
        ptxas = shutil.which("ptxas")
        assert ptxas, "no ptxas"
        path = tmp_path / f"ptxas-{seed}"
        command = shlex.join([sys.executable, delays.__file__, str(seed), ptxas])
        path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        path.chmod(0o755)
        return str(path)

    return make


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_assembles(name, chip, sleepy):
    """The sleeps arrive in the code, where all kinds of waiting are."""
    options = {"chip": chip, "dtype": "f16", "cache": False, **PROGRAMS[name]}
    plain, slow = fa.compile(**options), fa.compile(**options, ptxas=sleepy(7))
    assert slow.cubin and slow.cubin != plain.cubin
    text = delays.delayed(plain.ptx, 7)
    kinds = ["mbarrier.try_wait", "mbarrier.arrive", "wgmma.fence", "cp.async.bulk.tensor"]
    for kind in kinds if chip == "sm_90a" else ["bar.sync", "cp.async.wait_group"]:
        lines = [line for line in plain.ptx.splitlines() if kind in line]
        assert lines
        for line in lines:
            assert text.count(line) == text.count("@q nanosleep.u32 t;\n}\n" + line) > 0


@pytest.mark.gpu
@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_same_bits(name, chip, sleepy, torch, rng):
    capability = torch.cuda.get_device_capability()
    if chip == "sm_90a" and capability != (9, 0):
        pytest.skip("code for sm_90a runs on compute capability 9.0 alone")
    if capability < (8, 0):
        pytest.skip("the device is older than sm_80")
    program = PROGRAMS[name]
    d = program["head_dim"]
    shape = (2, 700, 40, d)  # several tiles for a block; the last ones are cut
    q, k, v, o, dout = (
        torch.from_numpy(rng.standard_normal(shape)).to("cuda", torch.float16) for _ in range(5)
    )
    lse = torch.full((shape[0], shape[2], shape[1]), 8.0, device="cuda")

    def run(kernel):
        results = [torch.full_like(q, float("nan")) for _ in range(3)]
        if program.get("backward"):
            kernel(q, k, v, o, lse, dout, d**-0.5, torch.empty_like(lse), *results)
            return results
        sums = torch.full_like(lse, float("nan"))
        kernel(q, k, v, d**-0.5, results[0], sums)
        return [results[0], sums]

    options = {"chip": chip, "dtype": "f16", **program}
    expected = run(fa.compile(**options))
    assert all(x.isfinite().all() for x in expected)
    for seed in range(3):
        slow = fa.compile(**options, ptxas=sleepy(seed), cache=False)
        for _ in range(10):
            assert all(torch.equal(a, b) for a, b in zip(run(slow), expected))
