"""The emulator's tests use the cases and references of the package's tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
for folder in (HERE, HERE.parent / "python"):
    sys.path.insert(0, str(folder))

SEED = int(os.environ["FA_TEST_SEED"])  # set by ../conftest.py


@pytest.fixture
def rng(request):
    return np.random.default_rng([SEED, *request.node.name.encode()])


@pytest.fixture(scope="session", autouse=True)
def kernel_cache(tmp_path_factory):
    os.environ["FA_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))


def pytest_collection_modifyitems(items):
    from emulate import SUPPORTED

    if not SUPPORTED:
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="the emulator needs x86-64 Linux"))
