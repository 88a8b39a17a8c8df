"""Seeds, devices and poisoned results for all tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

# Fresh data in each run; FA_TEST_SEED=N repeats a run.
SEED = int(os.environ.get("FA_TEST_SEED", "0")) or int.from_bytes(os.urandom(3), "little")
os.environ["FA_TEST_SEED"] = str(SEED)  # pytest-xdist's workers use the same


def pytest_addoption(parser):
    parser.addoption(
        "--ptxas-all", action="store_true", help="assemble every head dimension, not a sample"
    )


def pytest_report_header(config):
    return f"flash_attn_mlir: repeat this run's data with FA_TEST_SEED={SEED}"


@pytest.fixture
def rng(request):
    """Random numbers that depend on the run's seed and the test's name."""
    return np.random.default_rng([SEED, *request.node.name.encode()])


@pytest.fixture(scope="session")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def _gpu_problem():
    try:
        import torch
    except ImportError:
        return "PyTorch is not installed"
    if not torch.cuda.is_available():
        return "no CUDA device"
    if torch.cuda.get_device_capability() < (8, 0):
        return "the CUDA device is older than compute capability 8.0"
    return None


def pytest_collection_modifyitems(items):
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    problem = _gpu_problem() if gpu_items else None
    if problem:
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason=problem))


@pytest.fixture(scope="session", autouse=True)
def kernel_cache(tmp_path_factory):
    """Tests never read kernels that an older build left in the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["FA_CACHE_DIR"] = str(folder)
    return folder


@pytest.fixture(autouse=True)
def poisoned_results(monkeypatch):
    """Results start as NaN between guards, and the guards must stay intact."""
    from flash_attn_mlir import _arrays, _fa

    guards = []
    guard_size = 512  # elements on each side; keeps 16-byte alignment

    def numpy_empty(self, shape, dtype, like):
        size = int(np.prod(shape))
        flat = np.full(size + 2 * guard_size, np.nan).astype(self._dtype(dtype))
        guards.append((flat, size))
        array = flat[guard_size : guard_size + size].reshape(shape)
        return array, _fa.view_numpy(array, dtype)

    def torch_empty(self, shape, dtype, like):
        size = int(np.prod(shape))
        flat = self.torch.full(
            (size + 2 * guard_size,), float("nan"), dtype=self.types[dtype], device=like.device
        )
        guards.append((flat, size))
        array = flat[guard_size : guard_size + size].reshape(shape)
        return array, self.view(array)

    monkeypatch.setattr(_arrays._NumPy, "empty", numpy_empty)
    monkeypatch.setattr(_arrays._Torch, "empty", torch_empty)
    yield
    for flat, size in guards:
        for part in (flat[:guard_size], flat[guard_size + size :]):
            assert bool((part != part).all()), "memory outside a result was written"
