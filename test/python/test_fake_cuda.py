"""Launches on CUDA devices, without one: what reaches the driver.

fake_cuda.py has the tests; each runs in a process of its own, in which
libcuda.so.1 is fake_driver.c.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NAMES = re.findall(r"^def (test_\w+)", (HERE / "fake_cuda.py").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    compiler = next(filter(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang")), None)
    if compiler is None:
        pytest.skip("no C compiler, which makes the driver")
    folder = tmp_path_factory.mktemp("driver")
    source, library = HERE / "fake_driver.c", folder / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test(driver, name):
    environment = {**os.environ, "LD_LIBRARY_PATH": str(driver)}
    result = subprocess.run(
        [sys.executable, HERE / "fake_cuda.py", name],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
