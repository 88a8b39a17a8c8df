"""ptxas accepts every kernel, without serialisation messages, without spills.

Runs on machines without a GPU. A missing ptxas is a failure, not a skip:
scripts/test.sh installs one. `--ptxas-all` takes every head dimension instead
of a sample of them.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import shutil

import flash_attn_mlir as fa
import pytest
from flash_attn_mlir import _attention
from programs import CAUSAL, OFFSET, Program, capture_of, table_of
from schedules import forward_schedule
from test_backward_mlir import backward_text

MASKS = {
    "full": {},
    "causal": {"causal": True},
    "window": {"window_left": True, "window_right": True},
}
# Shared memory that a block may use; docs/targets.md.
SHARED = {
    "sm_75": 64 * 1024,
    "sm_80": 163 * 1024,
    "sm_86": 99 * 1024,
    "sm_89": 99 * 1024,
    "sm_90a": 227 * 1024,
}
CHIPS = tuple(SHARED)
DTYPES = ("f16", "bf16")
HEAD_DIMS = (32, 64, 96, 128, 192, 256)


def matrix(head_dims):
    """sm_75 has no bf16; sm_89 has the code of sm_86, a sample of it is enough."""
    return [
        (chip, dtype, head_dim, mask)
        for chip, dtype, head_dim, mask in itertools.product(CHIPS, DTYPES, head_dims, MASKS)
        if (chip, dtype) not in (("sm_75", "bf16"), ("sm_89", "f16"))
    ]


MATRIX = matrix(HEAD_DIMS)

# A sample of the rest that changes from run to run.
REST = matrix([d for d in range(8, 257, 8) if d not in HEAD_DIMS] + [59, 111])
SAMPLE = random.Random(os.environ["FA_TEST_SEED"]).sample(REST, 8)


# Reviewed spills: bytes that may be stored, with the reason; everything else has none
# to speak of.
# crowded: the tiles of mma.sync over four warps, 128x64 or, of heads up to 64, 128x128, keep
#   200 accumulators and factors in 255 registers; some loop invariants spill. Measured,
#   they are still the fastest (docs/experiments.md).
# sm_90a, three or four warp groups: 160 or 112 registers per thread, in which the branch
#   that makes scores again, and the maxima of rows that rise, stand beside a product under
#   way; a window on both sides compares with two bounds there.
# sm_90a: what a persistent kernel carries beside a window's bounds.
# sm_75, heads of 256: 128 accumulators per thread, and pointers that spill before the loop
#   over keys; a block of keys loads five words of them beside 160 products.
def allowed_spills(chip, head_dim, mlir):
    # Unaligned programs use mma.sync on every chip.
    if chip.startswith("sm_8") or "tile.align = 16" not in mlir:
        if head_dim <= 64:
            return 256
        if 80 < head_dim <= 128:
            return 128
    if chip == "sm_90a" and head_dim % 8 == 0:
        if head_dim <= 64 and "mask " in mlir:
            return 256
        if head_dim <= 64:
            return 16 if head_dim <= 48 else 120
        return 112 if "mask " in mlir else 16
    if chip == "sm_75" and head_dim > 192:
        return 96
    return 48


def entries(log):
    """(registers, spill stores, spill loads) of each kernel in ptxas -v's output."""
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
    registers = re.findall(r"Used (\d+) registers", log)
    assert registers and len(spills) == len(registers), f"no resource usage in:\n{log}"
    return [
        (int(count), int(stores), int(loads)) for count, (stores, loads) in zip(registers, spills)
    ]


def gate(chip, dtype, head_dim, mask, cache):
    kernel = fa.compile(
        chip=chip,
        dtype=dtype,
        head_dim=head_dim,
        cache=cache,
        **MASKS[mask],
        alignment=16 if head_dim % 8 == 0 else 4,
    )
    assert kernel.cubin, "the kernel was not assembled: no ptxas"
    log = kernel.ptxas_log
    assert log, "the kernel has no ptxas log"
    assert not re.search(r"C75\d\d", log), log
    for registers, stores, loads in entries(log):
        assert registers <= 255
        allowed = allowed_spills(chip, head_dim, kernel.mlir)
        assert stores <= allowed and loads <= 2 * allowed, log
    (launch,) = kernel.metadata["launches"]
    assert launch["shared_bytes"] <= SHARED[chip]


@pytest.fixture
def ptxas():
    path = shutil.which("ptxas")
    # libfa also finds NVIDIA's and Triton's wheels; this one names what is missing.
    kernel = fa.compile(chip="sm_80", head_dim=64)
    assert kernel.cubin, "no ptxas in PATH, CUDA_HOME or a wheel: install nvidia-cuda-nvcc"
    return path


@pytest.mark.parametrize(("chip", "dtype", "head_dim", "mask"), MATRIX)
def test_matrix(chip, dtype, head_dim, mask, ptxas, tmp_path):
    gate(chip, dtype, head_dim, mask, str(tmp_path))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", (64, 128, 256))
@pytest.mark.parametrize("mask", MASKS)
def test_block_per_tile(dtype, head_dim, mask, ptxas, tmp_path):
    """What the table's persistent kernels are when they are not."""
    kernel = fa.compile(
        chip="sm_90a",
        dtype=dtype,
        head_dim=head_dim,
        alignment=16,
        schedule=forward_schedule(head_dim, persistent=False),
        cache=str(tmp_path),
        **MASKS[mask],
    )
    log = kernel.ptxas_log
    assert not re.search(r"C75\d\d", log), log
    ((_, stores, loads),) = entries(log)
    allowed = allowed_spills("sm_90a", head_dim, kernel.mlir)
    assert stores <= allowed and loads <= 2 * allowed, log
    assert kernel.metadata["launches"][0]["shared_bytes"] <= SHARED["sm_90a"]


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("head_dim", (64, 128, 256))
@pytest.mark.parametrize(("query_rows", "pack_heads"), ((1, False), (16, False), (16, True)))
@pytest.mark.parametrize("mask", ("full", "window"))
def test_few_queries(chip, head_dim, query_rows, pack_heads, mask, ptxas, tmp_path):
    """One warp per block; as many blocks share a multiprocessor as the library counts on."""
    kernel = fa.compile(
        chip=chip,
        head_dim=head_dim,
        query_rows=query_rows,
        pack_heads=pack_heads,
        partials=True,
        cache=str(tmp_path),
        **MASKS[mask],
    )
    assert not re.search(r"C75\d\d", kernel.ptxas_log), kernel.ptxas_log
    attention, combine = kernel.metadata["launches"]
    assert attention["threads"] == combine["threads"] == 32
    assert combine["shared_bytes"] == 0
    if head_dim <= 128:
        at_once = _attention._BLOCKS_AT_ONCE.get(chip, 2)
        # A block takes 1 KiB more than it asks for.
        assert at_once * (attention["shared_bytes"] + 1024) <= SHARED[chip] + 1024
    # The cold branch for NaN and infinity in a part's first and last blocks.
    limit = 0 if head_dim <= 128 else 128
    for registers, stores, loads in entries(kernel.ptxas_log):
        assert registers <= 255
        assert stores <= limit and loads <= 2 * limit, kernel.ptxas_log


# Compile time is a matter of code size: LLVM and ptxas take about 0.1 s for a thousand
# lines. Largest when written: 8526 (sm_80, D 128, window and soft cap), 7061 (sm_90a).
# A third copy of the loop body, or a few instructions more per score, exceed these.
LINES = {"sm_75": 9400, "sm_80": 8900, "sm_86": 8900, "sm_89": 8900, "sm_90a": 7400}


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("head_dim", (64, 128, 256))
@pytest.mark.parametrize("mask", [*MASKS, "causal window"])
@pytest.mark.parametrize("softcap", (False, True))
def test_code_size(chip, head_dim, mask, softcap):
    features = MASKS.get(mask, {"causal": True, "window_left": True})
    kernel = fa.compile(
        chip=chip, head_dim=head_dim, softcap=softcap, ptxas=False, cache=False, **features
    )
    assert kernel.ptx.count("\n") <= LINES[chip]


def pytest_generate_tests(metafunc):
    if metafunc.function is test_rest:
        rest = REST if metafunc.config.getoption("--ptxas-all") else SAMPLE
        metafunc.parametrize(("chip", "dtype", "head_dim", "mask"), rest)


def test_rest(chip, dtype, head_dim, mask, ptxas, tmp_path):
    gate(chip, dtype, head_dim, mask, str(tmp_path))


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(
    "features",
    [
        {"softcap": True},
        {"softcap": True, "causal": True, "window_left": True},
        {"lengths": True, "causal": True},
        {"init_lse": True},
        {"head_dim": 192, "head_dim_v": 128},
        {"alignment": 4},
        {"alignment": 4, "causal": True},
        {"alignment": 1},
    ],
    ids=str,
)
def test_features(chip, features, ptxas, tmp_path):
    kernel = fa.compile(chip=chip, **{"head_dim": 64, "cache": str(tmp_path), **features})
    assert kernel.cubin
    assert not re.search(r"C75\d\d", kernel.ptxas_log)
    allowed = allowed_spills(chip, features.get("head_dim", 64), kernel.mlir)
    assert all(stores <= allowed for _, stores, _ in entries(kernel.ptxas_log)), kernel.ptxas_log


def check_launches(kernel, chip, allowed):
    """`allowed`: bytes of registers that a launch may spill."""
    for registers, stores, loads in entries(kernel.ptxas_log):
        assert registers <= 255
        assert stores <= allowed and loads <= 2 * allowed, kernel.ptxas_log
    assert all(x["shared_bytes"] <= SHARED[chip] for x in kernel.metadata["launches"])


# Reviewed spills of gradients, by kernel: d_k and d_v together keep two accumulators
# beside scores, probabilities and their gradients. Of these, sm_80 has 255 registers
# and sm_90a 240, and some loop invariants spill. At 256, the row sums of o * d_o hold
# whole rows of both.
# On sm_75, gradients of keys at 64 too: the loads of a whole tile are under way in
# registers before they are stored.
BACKWARD_SPILLS = {
    ("sm_75", 64): 48,
    ("sm_75", 96): 40,
    ("sm_75", 128): 100,
    ("sm_75", 256): 136,
    **{(chip, 64): 16 for chip in ("sm_80", "sm_86", "sm_89")},
    **{(chip, 96): 8 for chip in ("sm_80", "sm_86", "sm_89")},
    **{(chip, 128): 16 for chip in ("sm_80", "sm_86", "sm_89")},
}


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(
    ("dtype", "head_dim", "causal"),
    [
        ("f16", 64, True),
        ("f16", 96, False),
        ("f16", 128, False),
        ("bf16", 128, True),
        ("bf16", 256, True),
    ],
)
def test_gradients(chip, dtype, head_dim, causal, ptxas, tmp_path):
    dtype = "f16" if chip == "sm_75" else dtype
    kernel = fa.compile(
        chip=chip,
        dtype=dtype,
        head_dim=head_dim,
        causal=causal,
        backward=True,
        alignment=16,
        cache=str(tmp_path),
    )
    assert kernel.cubin
    log = kernel.ptxas_log
    assert not re.search(r"C75\d\d", log), log
    launches = kernel.metadata["launches"]
    # delta, d_q, and d_k with d_v where the registers suffice for both.
    apart = chip == "sm_90a" and head_dim > 128
    assert len(entries(log)) == len(launches) == (4 if apart else 3)
    check_launches(kernel, chip, BACKWARD_SPILLS.get((chip, head_dim), 0))


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("head_dim", [32, 64, 128, 192, 256])
def test_gradients_in_one_pass(chip, head_dim, ptxas, tmp_path):
    kernel = fa.compile(
        chip=chip,
        head_dim=head_dim,
        causal=True,
        backward=True,
        d_q_sum=True,
        alignment=16,
        cache=str(tmp_path),
    )
    assert kernel.cubin
    # d_q of a block is a third accumulator.
    more = {
        ("sm_75", 192): 80,
        ("sm_75", 256): 336,
        **{(chip, 64): 24 for chip in ("sm_80", "sm_86", "sm_89")},
        **{(chip, 128): 24 for chip in ("sm_80", "sm_86", "sm_89")},
        ("sm_90a", 32): 28,
        ("sm_90a", 64): 160,
        ("sm_90a", 128): 20,
        ("sm_90a", 192): 36,
        ("sm_90a", 256): 36,
    }
    allowed = more.get((chip, head_dim), BACKWARD_SPILLS.get((chip, head_dim), 0))
    check_launches(kernel, chip, allowed)


# Gradients of captures that are sums over rows or keys: one warp holds the factors of
# a block, whose loads pass through its registers, beside the sums.
SUM_SPILLS = {
    ("sm_80", 64): 32,
    ("sm_80", 128): 400,
    ("sm_90a", 128): 160,
}


# sm_75 has no tiles for these yet.
@pytest.mark.parametrize("chip", [chip for chip in CHIPS if chip != "sm_75"])
@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("kind", ["bias", "rows", "keys", "slope", "table"])
def test_capture_gradients(chip, head_dim, kind, ptxas, tmp_path):
    fields, rank = {
        "bias": (capture_of("hmn"), 3),
        "rows": (capture_of("bm", "mulf"), 2),
        "keys": (capture_of("nh", "mulf"), 2),
        "slope": (capture_of("h", "mulf"), 1),
        "table": (table_of("%i", OFFSET, 1), 1),
    }[kind]
    program = Program("f16", mask=CAUSAL, head_dim=head_dim, alignment=16, **fields)
    text = backward_text(program, (), False, [rank])
    kernel = fa.compile(mlir=text, chip=chip, cache=str(tmp_path))
    log = kernel.ptxas_log
    assert not re.search(r"C75\d\d", log), log
    # delta and the gradient.
    assert len(entries(log)) == 2
    allowed = 0 if kind == "bias" else SUM_SPILLS.get((chip, head_dim), 0)
    check_launches(kernel, chip, allowed)
