"""Which device runs what: docs/targets.md, with faked compute capabilities."""

from __future__ import annotations

import re
from pathlib import Path

import flash_attn_mlir as fa
import pytest
from flash_attn_mlir import _attention, _compiler, _fa

DOCS = Path(__file__).parents[2] / "docs" / "targets.md"
CHIPS = ["cpu", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90a"]
RUNS = {
    (7, 5): "sm_75",
    (8, 0): "sm_80",
    (8, 6): "sm_86",
    (8, 7): "sm_80",
    (8, 9): "sm_89",
    (9, 0): "sm_90a",
    (10, 0): "sm_80",
    (10, 3): "sm_80",
    (11, 0): "sm_80",
    (12, 0): "sm_89",
    (12, 1): "sm_89",
    (13, 0): "sm_80",
    (99, 9): "sm_80",
}


@pytest.fixture
def device(monkeypatch):
    """Makes device 0 one of a given capability."""

    def fake(major, minor):
        monkeypatch.setattr(_fa, "device_count", lambda: 1)
        monkeypatch.setattr(_fa, "device_capability", lambda index: (major, minor))
        monkeypatch.setattr(_attention, "_chips", {})

    return fake


def test_chips():
    assert _fa.chips() == CHIPS
    table = re.findall(r"^\| `(\w+)` \|", DOCS.read_text(), re.MULTILINE)
    assert table == CHIPS


@pytest.mark.parametrize(("capability", "chip"), RUNS.items(), ids=str)
def test_device(device, capability, chip):
    device(*capability)
    assert _compiler.default_chip() == _compiler.default_chip(0) == chip
    assert _attention._device_chip(0) == chip


def test_documented():
    text = DOCS.read_text()
    rows = re.findall(r"^\| ([\d., ]+) \| `(\w+)`", text, re.MULTILINE)
    documented = {}
    for devices, chip in rows:
        for name in devices.split(", "):
            major, minor = name.split(".")
            documented[int(major), int(minor)] = chip
    assert documented == {key: chip for key, chip in RUNS.items() if key < (13, 0)}
    assert "| newer, unknown | `sm_80` |" in text


@pytest.mark.parametrize("capability", [(3, 5), (6, 1), (7, 0), (7, 2)], ids=str)
def test_too_old(device, capability):
    device(*capability)
    with pytest.raises(NotImplementedError, match=r"7\.5 .Turing. and newer") as error:
        fa.compile(head_dim=64)
    assert f"has compute capability {capability[0]}.{capability[1]}" in str(error.value)
    assert 'chip="cpu"' in str(error.value)
    assert ("Volta" in str(error.value)) == (capability[0] == 7)


@pytest.mark.parametrize(("chip", "runs"), [("sm_100", "sm_80"), ("sm_90", "sm_90a")])
def test_no_code_of_its_own(chip, runs):
    message = f"chip is '{chip}', which has no code of its own.* what is compiled for {runs};"
    with pytest.raises(ValueError, match=message):
        fa.compile(chip=chip, head_dim=64)


@pytest.mark.parametrize("chip", ["sm_70", "sm_72"])
def test_volta(chip):
    with pytest.raises(ValueError, match=f"chip is '{chip}' .Volta., which is planned"):
        fa.compile(chip=chip, head_dim=64)


@pytest.mark.parametrize("backward", [False, True])
def test_bf16_on_turing(backward):
    with pytest.raises(NotImplementedError, match="'bf16', which chip sm_75 .*use f16"):
        fa.compile(chip="sm_75", head_dim=64, dtype="bf16", backward=backward)


def test_default_chip_of_a_device_compiles(device):
    device(7, 5)
    assert fa.compile(head_dim=64, ptxas=False).chip == "sm_75"
    device(12, 0)
    assert fa.compile(head_dim=64, ptxas=False).chip == "sm_89"


def test_same_code(tmp_path):
    """sm_89 differs from sm_86 in the name alone: what is emulated for one holds for both."""
    for features in ({}, {"causal": True}, {"backward": True}):
        a, b = (
            fa.compile(chip=chip, head_dim=128, ptxas=False, **features).llvm_ir
            for chip in ("sm_86", "sm_89")
        )
        assert a == b


@pytest.mark.parametrize("chip", [chip for chip in CHIPS if chip not in ("cpu", "sm_89")])
@pytest.mark.parametrize("program", [{}, {"backward": True}, {"backward": True, "d_q_sum": True}])
def test_every_head_size(chip, program):
    """Tiles of each size divide over the warps and fit into the chip's shared memory."""
    for head_dim in [*range(8, 257, 8), 1, 59, 111, 131, 199, 255]:
        alignment = 16 if head_dim % 8 == 0 else 4
        fa.compile(
            chip=chip,
            head_dim=head_dim,
            alignment=alignment,
            ptxas=False,
            cache=False,
            stop_after="llvm",
            **program,
        )
