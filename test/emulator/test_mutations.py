"""Without any one wait, barrier, arrive or fence, a kernel must fail.

Each place that synchronises is left out alone; then some interleaving must give an
error, a deadlock or a wrong result. Places that a kernel can do without are counted by
kind in `SPARE`, with the reason; more of them mean that the emulator has become blind,
or that a pass synchronises more than it must.
"""

from __future__ import annotations

import collections

import flash_attn_mlir as fa
import numpy as np
import pytest
from emulate import EmulationError, emulate, emulator
from reference import attention, attention_backward, band
from schedules import forward_schedule
from test_kernels import compile_program, program
from test_programs import PLANS

SHAPES = {
    "matmul": (130, 136, 520),
    "chain": (130, 600),
    "transposed-chain": (600, 130),
    "row-normalised": (77, 0, 520),
}
# More tiles than a pipe has slots, for one block.
PERSISTENT_SHAPES = {
    "matmul": (260, 136, 136),
    "chain": (390, 200),
    "transposed-chain": (200, 390),
    "row-normalised": (390, 0, 136),
}

# The first fills of two pipes are waited for one after the other before anything is
# read: without the first commit, wait or barrier the second one covers both.
FIRST_FILLS = {"cp.async commit": 1, "cp.async wait": 1, "barrier": 1}
# As that, but between the two another fill begins, which needs the barrier.
FIRST_FILLS_APART = {"cp.async commit": 1, "cp.async wait": 1}
# The producer of two pipes that are released together need not wait for the second.
TOGETHER = {"mbarrier wait": 1}
# A pipe that is filled once is empty then, and nobody waits for its release.
ONCE = {"mbarrier wait": 1, "mbarrier arrive": 1}
# The fence of a first product that takes nothing from registers, where another follows:
# which registers its sums share with others only the hardware knows.
FENCE = {"wgmma fence": 1}
# What the lanes of a warp agree on at the end of a tile is for ptxas; and a producer that
# waits for slots of the pipes of the loop is never two tiles ahead.
PERSISTENT = {"warp barrier": 2, "mbarrier wait": 1}
# Before a release: a lane that has not seen its slot full when the next fill but one is
# there. Few seeds let one fall so far behind (others would be a dead lock).
RELEASE = {"warp barrier": 3}
# Turns order when products start, and no memory.
TURNS = collections.Counter({"barrier": 1})
# Two more releases.
ATTENTION = FENCE | {"warp barrier": 4, "mbarrier wait": 5, "mbarrier expect": 2}
# A block per tile: rows are copied once (ONCE), and behind its loops releases tell nobody.
ATTENTION_ONCE = FENCE | {
    "warp barrier": 1,
    "mbarrier wait": 4,
    "mbarrier expect": 2,
    "mbarrier arrive": 4,
}
SPARE = {
    ("matmul", "sm_80"): FIRST_FILLS_APART,
    ("matmul", "sm_80-hold"): FIRST_FILLS_APART,
    ("matmul", "sm_90a"): TOGETHER,
    ("matmul", "sm_90a-overlap"): TOGETHER,
    ("row-normalised", "sm_90a-overlap"): TOGETHER,
    ("row-normalised", "sm_80"): FIRST_FILLS_APART,
    ("row-normalised", "sm_80-hold"): FIRST_FILLS_APART,
    ("row-normalised", "sm_90a"): TOGETHER,
    ("chain", "sm_80"): FIRST_FILLS,
    ("chain", "sm_80-direct"): {"barrier": 1},
    ("chain", "sm_75"): {"barrier": 1},
    ("chain", "sm_90a"): ONCE,
    # And the release behind the loop: all copies are under way by then.
    ("chain", "sm_90a-overlap"): ONCE | FENCE | {"mbarrier arrive": 2},
    ("transposed-chain", "sm_80"): FIRST_FILLS,
    ("transposed-chain", "sm_80-direct"): {"barrier": 1},
    ("transposed-chain", "sm_75"): {"barrier": 1},
    ("transposed-chain", "sm_90a"): ONCE,
    ("transposed-chain", "sm_90a-overlap"): ONCE | FENCE | {"mbarrier arrive": 2},
    ("matmul", "sm_90a-persistent"): PERSISTENT,
    ("row-normalised", "sm_90a-persistent"): PERSISTENT,
    ("chain", "sm_90a-persistent"): PERSISTENT | FENCE | RELEASE,
    ("transposed-chain", "sm_90a-persistent"): PERSISTENT | FENCE | RELEASE,
    # By head size. Keys and values as ONCE, the slots of the loop as TOGETHER; at 128 all
    # products after the scores start in a row, and are waited for together.
    ("sums", 64): {"mbarrier wait": 3, "mbarrier arrive": 2},
    ("sums", 128): {
        "mbarrier wait": 3,
        "mbarrier arrive": 2,
        "wgmma fence": 3,
        "wgmma commit": 1,
    },
    ("attention", "sm_75"): {"barrier": 1},
    # And the commit of the last iteration of the last loop.
    ("attention", "sm_80"): FIRST_FILLS | {"cp.async commit": 2},
    # Persistent, as above. Producers hold no rows, so that their loop over blocks that
    # rows skip never runs: two waits and two arrivals. Teams that skip blocks need not wait
    # for the second of two pipes, nor the producer where the mask cuts blocks.
    # And before columns are exchanged: the tile before has done so long ago.
    ("attention", "sm_90a"): ATTENTION | {"warp barrier": 5},
    ("lengths", True): ATTENTION,
    ("lengths", False): ATTENTION_ONCE,
}


def undetected(kernel, run, seeds=4):
    """The kinds of places without which `run(seed, skip)` always succeeds."""
    spare, total = collections.Counter(), 0
    for seed in range(seeds):
        assert run(seed, ()), f"wrong without a mutation, seed {seed}"
    for site, kind, text in emulator(kernel).sites:
        total += 1
        for seed in range(seeds):
            try:
                if not run(seed, (site,)):
                    break
            except EmulationError:
                break
        else:
            print(f"nothing fails without #{site}: {kind} `{text}`")
            spare[kind] += 1
    assert total > sum(spare.values()), "the kernel does not synchronise"
    return spare


@pytest.mark.parametrize("target", [target for target in PLANS if target != "cpu"])
@pytest.mark.parametrize("name", SHAPES)
def test_program(name, target, rng):
    is_persistent = "persistent" in target
    inputs, want = program(name, rng, *(PERSISTENT_SHAPES if is_persistent else SHAPES)[name])
    kernel = compile_program(name, target)
    first = np.full(want.shape, np.nan, np.float32)
    # Of a persistent kernel, the tiles that a block takes depend on how many there are.
    blocks = None if is_persistent else [0]
    emulate(kernel, *inputs, first, blocks=blocks)
    part = np.isfinite(first)  # what the first block writes

    def run(seed, skip):
        out = np.full(want.shape, np.nan, np.float32)
        emulate(kernel, *inputs, out, seed=seed, skip=skip, blocks=blocks)
        return np.linalg.norm((out - want)[part]) < 1e-3 * np.linalg.norm(want[part])

    spare = undetected(kernel, run)
    # The width of a copy changes nothing in the order of its waits, and where a factor is
    # held nothing in that of products.
    same = {"sm_80-4": "sm_80", "sm_90a-hold": "sm_90a-overlap", "sm_90a-turns": "sm_90a-overlap"}
    if target == "sm_90a-turns":
        spare -= TURNS
    assert not spare - collections.Counter(SPARE.get((name, same.get(target, target)), {}))


@pytest.mark.parametrize("head_dim", [64, 128])
def test_sums_by_bulk_copies(head_dim, rng):
    """Gradients in one pass on sm_90a, whose d_q goes to memory through shared memory."""
    shape = (1, 300, 1, head_dim)
    q, k, v, dout = (rng.standard_normal(shape).astype(np.float16) for _ in range(4))
    scale = head_dim**-0.5
    out, lse, _ = attention(q, k, v)
    want = attention_backward(q, k, v, dout)
    want = (want.d_q, want.d_k, want.d_v)
    kernel = fa.compile(chip="sm_90a", head_dim=head_dim, backward=True, d_q_sum=True, ptxas=False)

    def run(seed, skip):
        results = [np.full(shape, np.nan, np.float16) for _ in range(3)]
        delta = np.full(lse.shape, np.nan, np.float32)
        d_q_sum = np.full((1, 1, 304, head_dim), np.nan, np.float32).swapaxes(1, 2)
        inputs = (q, k, v, out.astype(q.dtype), lse.astype(np.float32), dout, scale)
        emulate(kernel, *inputs, delta, d_q_sum, *results, seed=seed, skip=skip)
        return all(
            np.linalg.norm(got - exact) < 5e-3 * np.linalg.norm(exact)
            for got, exact in zip(results, want)
        )

    assert not undetected(kernel, run) - collections.Counter(SPARE.get(("sums", head_dim), {}))


@pytest.mark.parametrize("persistent", [False, True])
def test_lengths(persistent, rng):
    """What tensor maps copy from behind the keys of a sequence is cleared."""
    q, k, v = (rng.standard_normal((2, n, 3, 64)).astype(np.float16) for n in (64, 400, 400))
    q_lengths, k_lengths = np.array([[64, 50], [200, 330]], np.int32)
    for b in range(2):
        k[b, k_lengths[b] :], v[b, k_lengths[b] :] = np.inf, np.nan
    schedule = forward_schedule(64, persistent) if persistent else None
    kernel = fa.compile(
        chip="sm_90a", head_dim=64, lengths=True, alignment=16, schedule=schedule, ptxas=False
    )
    want = attention(q, k, v, q_lengths=q_lengths, k_lengths=k_lengths)[0]

    def run(seed, skip):
        out = np.full(q.shape, np.nan, np.float16)
        lse = np.full((2, 3, 64), np.nan, np.float32)
        inputs = (q, k, v, 0.125, q_lengths, k_lengths)
        emulate(kernel, *inputs, out, lse, seed=seed, skip=skip)
        return np.linalg.norm(out - want) < 2e-3 * np.linalg.norm(want)

    spare = undetected(kernel, run)
    assert not spare - collections.Counter(SPARE["lengths", persistent])


@pytest.mark.parametrize("chip", ["sm_75", "sm_80", "sm_90a"])
@pytest.mark.parametrize("causal", [False, True])
def test_attention(causal, chip, rng):
    heads = 3 if chip == "sm_90a" else 1  # persistent: blocks with several tiles
    q, k, v = (rng.standard_normal((1, n, heads, 64)).astype(np.float16) for n in (64, 800, 800))
    # Under the mask of all rows but the last: warps must agree that the block has it.
    if causal:
        v[0, 799] = np.nan
    kernel = fa.compile(chip=chip, head_dim=64, causal=causal, ptxas=False)
    want = attention(q, k, v, mask=band(64, 800, causal))[0][:, :63]

    def run(seed, skip):
        out = np.full(q.shape, np.nan, np.float16)
        lse = np.full((1, heads, 64), np.nan, np.float32)
        emulate(kernel, q, k, v, 0.125, out, lse, seed=seed, skip=skip)
        error = np.linalg.norm(out[:, :63] - want) / np.linalg.norm(want)
        return error < 2e-3

    spare = undetected(kernel, run)
    assert not spare - collections.Counter(SPARE.get(("attention", chip), {}))
