"""fa.combine merges partial results: each level of it, executed, and compiled."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import flash_attn_mlir as fa
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))
from combine import SCHEDULE, check, program
from execute import compile_function

SEED = int(os.environ.get("FA_TEST_SEED", "0")) or int.from_bytes(os.urandom(3), "little")
LOWERED = ["--fa-lower-combine", "--canonicalize", "--cse", "--convert-tile-to-linalg"]


@pytest.mark.parametrize("types", [("f16", "f32"), ("f32", "f32"), ("f64", "f64")])
@pytest.mark.parametrize("init", [False, True])
@pytest.mark.parametrize("lowered", [False, True])
def test_levels(lowered, init, types, tmp_path):
    rng = np.random.default_rng(SEED)
    schedule = SCHEDULE.format(m=4, n=8) if lowered else None
    text = program(*types, init, "0x7FF0000000000000", schedule)
    call = compile_function(text, LOWERED if lowered else ["--fa-decompose"], tmp_path)
    check(call, rng, *types, init, np.inf)


@pytest.mark.parametrize("types", [("f16", "f32"), ("f64", "f64")])
def test_cpu(types):
    check(fa.compile(mlir=program(*types), chip="cpu"), np.random.default_rng(SEED), *types)


def test_nan_in_live_parts_propagates():
    kernel = fa.compile(mlir=program("f32"), chip="cpu")
    o_parts = np.ones((3, 1, 1, 2, 4), np.float32)
    lse_parts = np.zeros((3, 1, 2, 1), np.float32)
    o_parts[1, 0, 0, 0, 2] = np.nan
    lse_parts[2, 0, 1, 0] = np.nan
    o, lse = np.zeros((1, 1, 2, 4), np.float32), np.zeros((1, 2, 1), np.float32)
    kernel(o_parts, lse_parts, o, lse)
    np.testing.assert_array_equal(np.isnan(o[0, 0]), [[0, 0, 1, 0], [1, 1, 1, 1]])
    np.testing.assert_array_equal(np.isnan(lse[0, :, 0]), [0, 1])
