"""Random data, a kernel cache of their own and poisoned results for the package's tests."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

SEED = int(os.environ["FA_TEST_SEED"])  # set by ../conftest.py


@pytest.fixture
def rng(request):
    """Random numbers that depend on the run's seed and the test's name."""
    return np.random.default_rng([SEED, *request.node.name.encode()])


@pytest.fixture(scope="session")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture(scope="session", autouse=True)
def kernel_cache(tmp_path_factory):
    """Tests never read kernels that an older build left in the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["FA_CACHE_DIR"] = str(folder)
    return folder


@pytest.fixture(autouse=True)
def poisoned_results(monkeypatch):
    """Results start as NaN between guards, and the guards must stay intact.

    Of calls of the general way; the short one, which a second call of a kind would
    take, is closed. test_short_way.py opens it.
    """
    from flash_attn_mlir import _arrays, _attention, _fa

    monkeypatch.setattr(_attention, "_remember", lambda *arguments: None)
    monkeypatch.setattr(_attention, "_short_way_is_closed", lambda: True)

    guards = []
    guard_size = 512  # elements on each side; keeps 16-byte alignment
    most = 256  # results that are kept to look at: far more than those of calls under way
    lock = threading.Lock()

    def guard(flat, size):
        with lock:
            if len(guards) == most:
                check(guards[: most // 2])
                del guards[: most // 2]
            guards.append((flat, size))

    def check(some):
        for flat, size in some:
            for part in (flat[:guard_size], flat[guard_size + size :]):
                assert bool((part != part).all()), "memory outside a result was written"

    def numpy_empty(self, shape, dtype, like):
        size = int(np.prod(shape))
        flat = np.full(size + 2 * guard_size, np.nan).astype(self._dtype(dtype))
        guard(flat, size)
        array = flat[guard_size : guard_size + size].reshape(shape)
        return array, _fa.view_numpy(array, dtype)

    def torch_empty(self, shape, dtype, like):
        size = int(np.prod(shape))
        flat = self.torch.full(
            (size + 2 * guard_size,), float("nan"), dtype=self.types[dtype], device=like.device
        )
        guard(flat, size)
        array = flat[guard_size : guard_size + size].reshape(shape)
        return array, self.view(array)

    monkeypatch.setattr(_arrays._NumPy, "empty", numpy_empty)
    monkeypatch.setattr(_arrays._Torch, "empty", torch_empty)
    yield
    check(guards)
