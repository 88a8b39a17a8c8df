"""Options and the seed of all Python tests; those of the package add python/conftest.py."""

from __future__ import annotations

import os

import pytest

# Fresh data in each run; FA_TEST_SEED=N repeats a run.
SEED = int(os.environ.get("FA_TEST_SEED", "0")) or int.from_bytes(os.urandom(3), "little")
os.environ["FA_TEST_SEED"] = str(SEED)  # pytest-xdist's workers use the same


def pytest_addoption(parser):
    parser.addoption(
        "--ptxas-all", action="store_true", help="assemble every head dimension, not a sample"
    )


def pytest_report_header(config):
    return f"flash_attn_mlir: repeat this run's data with FA_TEST_SEED={SEED}"


def _gpu_problem():
    try:
        import torch
    except ImportError:
        return "PyTorch is not installed"
    if not torch.cuda.is_available():
        return "no CUDA device"
    if torch.cuda.get_device_capability() < (7, 5):
        return "the CUDA device is older than compute capability 7.5"
    return None


def pytest_collection_modifyitems(items):
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    problem = _gpu_problem() if gpu_items else None
    if problem:
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason=problem))
