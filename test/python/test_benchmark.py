"""The contestants of benchmarks/attention.py compute what they are said to, on the CPU."""

from __future__ import annotations

import argparse
import importlib.machinery
import importlib.util
import sys
import types
import warnings
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def benchmark(torch):
    module = load("attention")
    module.WINDOW = 20  # less than the sequences here
    return module


@pytest.fixture
def problem(torch):
    torch.manual_seed(0)
    shape = (2, 96, 2, 32)
    inputs = [torch.randn(shape) for _ in range(3)]
    return inputs, torch.randn(shape), torch.randn(shape[2], shape[1])


@pytest.mark.parametrize("variant", ["full", "causal", "window", "softcap", "bias"])
@pytest.mark.parametrize("backward", [False, True])
def test_contestants(benchmark, problem, variant, backward):
    inputs, dout, table = problem
    dout = dout if backward else None

    def error(call):
        return benchmark.relative_error(call(), inputs, variant, dout, table)

    if not backward:  # FlexAttention has no gradients on the CPU
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it is not compiled
            assert error(benchmark.flex(variant, inputs, dout, table)) < 1e-5
    if backward and variant == "bias":
        with pytest.raises(NotImplementedError):
            benchmark.own("cpu", "float32", variant, inputs, dout, table)
        return
    assert error(benchmark.own("cpu", "float32", variant, inputs, dout, table)) < 1e-5
    # The measure tells the variants apart.
    other = "full" if variant != "full" else "causal"
    assert error(benchmark.own("cpu", "float32", other, inputs, dout, table)) > 1e-3


@pytest.mark.parametrize("variant", ["full", "causal"])
@pytest.mark.parametrize("backward", [False, True])
def test_flash3(benchmark, problem, variant, backward, torch, monkeypatch):
    """The package takes (B, S, H, D) and gives the output, or a tuple that begins with it."""
    inputs, dout, table = problem
    dout = dout if backward else None
    args = argparse.Namespace(chips=[], dtype="float32")
    name = "FlashAttention-3"
    assert name not in benchmark.contestants_gpu(args, variant, inputs, dout, table)

    def attention(q, k, v, causal):
        views = (x.transpose(1, 2) for x in (q, k, v))
        out = torch.nn.functional.scaled_dot_product_attention(*views, is_causal=causal)
        return (out.transpose(1, 2), None) if causal else out.transpose(1, 2)

    package = types.ModuleType("flash_attn_interface")
    package.__spec__ = importlib.machinery.ModuleSpec(package.__name__, None)
    package.flash_attn_func = attention
    monkeypatch.setitem(sys.modules, package.__name__, package)
    call = benchmark.contestants_gpu(args, variant, inputs, dout, table)[name]()
    assert benchmark.relative_error(call(), inputs, variant, dout, table) < 1e-5
    other = "full" if variant != "full" else "causal"
    assert benchmark.relative_error(call(), inputs, other, dout, table) > 1e-3


def test_programs_compile_for_gpus(benchmark):
    import flash_attn_mlir as fa

    for chip in ("sm_80", "sm_90a"):
        for dtype in ("f16", "bf16"):
            kernel = fa.compile(
                mlir=benchmark.bias_program(dtype, 64), chip=chip, cache=False, stop_after="ptx"
            )
            assert kernel.ptx and len(kernel.metadata["args"]) == 7


def test_flops(benchmark):
    shape = (2, 64, 3, 32)
    assert benchmark.flop_count(shape, "full") == 4 * 2 * 3 * 32 * 64 * 64
    assert benchmark.flop_count(shape, "causal") == 2 * 2 * 3 * 32 * 64 * 64
    live = sum(1 for m in range(64) for n in range(64) if 0 <= m - n <= 20)
    assert benchmark.flop_count(shape, "window") == 4 * 2 * 3 * 32 * live


def test_plot(tmp_path):
    """From measured JSON to an SVG that parses, the same each time."""
    import xml.etree.ElementTree as ElementTree

    plot = load("plot")
    results = sorted((FOLDER / "results").glob("*.json"))
    assert results
    for path in results:
        plot.main([str(path), "--output", str(tmp_path)])
        image = (tmp_path / path.with_suffix(".svg").name).read_bytes()
        root = ElementTree.fromstring(image)
        lines = root.findall(".//{http://www.w3.org/2000/svg}polyline")
        assert len(lines) >= 4
        plot.main([str(path), "--output", str(tmp_path)])
        assert (tmp_path / path.with_suffix(".svg").name).read_bytes() == image
        # What is in the documentation is made from this file; a bundle has none.
        committed = FOLDER.parent / "docs" / "images" / path.with_suffix(".svg").name
        assert not committed.parents[1].exists() or committed.read_bytes() == image, (
            "run benchmarks/plot.py and commit the image"
        )


def test_overhead(benchmark, capsys):
    """The host's time of calls: every figure is there, and said when it is measured."""
    figures = benchmark.overhead(None)["microseconds"]
    for name in ("fa", benchmark.WITH_LSE, benchmark.WITH_LSE_AND_GRADIENTS, "torch sdpa"):
        assert 0 < figures["torch cpu"][name] < 1e6
    out, err = capsys.readouterr()
    assert "three CPU tensors to output and log-sum-exp: " in out
    lines = err.splitlines()
    assert len(lines) == sum(len(calls) for calls in figures.values())
    assert all(line.startswith("[") and line.endswith(" us") for line in lines)


def test_host_times_are_of_an_empty_queue(benchmark):
    """Each call is alone, and waited for before the next."""
    events = []
    benchmark.time_host(lambda: events.append("call"), lambda: events.append("wait"))
    assert events[0] == "call" and len(events) == 602
    assert events[1:] == ["wait", "call"] * 300 + ["wait"]
