"""Kernels of problems that are large in what only addresses and launches see."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sparse
from cases import Case
from emulate import emulate
from reference import check
from sparse import far_apart, spread
from test_few_queries import compile_few, results
from test_gradients import check as check_gradients
from test_kernels import CHIPS, compile_case, scalars

pytestmark = pytest.mark.skipif(not sparse.SUPPORTED, reason="Linux of 64 bits only")


def far_results(case, parts=0):
    out, lse, *more = results(case, "float16", max(1, parts))
    return spread(out), spread(lse), *(more if parts else ())


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("seqlen_q", [1, 5, 40])
def test_distant_elements(seqlen_q, chip, rng):
    """Offsets of rows, heads and sequences that 32 bits do not hold."""
    case = Case(2, seqlen_q, 50, 6, 3, 64, causal=True)
    arrays = [x.astype(np.float16) for x in case.draw(rng)]
    if seqlen_q == 40:
        kernel, outputs = compile_case(case, chip, "float16"), far_results(case)
    else:
        kernel = compile_few(case, chip, "float16", partials=True)
        outputs = far_results(case, parts=2)
    emulate(kernel, *map(spread, arrays), *scalars(case), *outputs, seed=int(rng.integers(99)))
    check("float16", *outputs[:2], *case.reference(*arrays))


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("d_q_sum", [False, True])
def test_distant_gradients(d_q_sum, chip, rng):
    case = Case(2, 40, 50, 4, 2, 64, causal=True)
    q, k, v = (x.astype(np.float16) for x in case.draw(rng))
    dout = rng.standard_normal(q.shape).astype(np.float16)
    want = case.gradients(q, k, v, dout)
    out, lse, _ = case.reference(q, k, v)
    gradients = [far_apart(x.shape, x.dtype) for x in (q, k, v)]
    workspaces = [far_apart(lse.shape, np.float32)]
    if d_q_sum:
        workspaces.append(np.full((2, 4, 40, 64), np.nan, np.float32).swapaxes(1, 2))
    kernel = compile_case(case, chip, "float16", backward=True, d_q_sum=d_q_sum)
    inputs = [spread(x) for x in (q, k, v, out.astype(q.dtype))]
    inputs += [spread(lse.astype(np.float32)), spread(dout), *scalars(case)]
    emulate(kernel, *inputs, *workspaces, *gradients, seed=int(rng.integers(99)))
    check_gradients("float16", gradients, *want)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("seqlen_q", [1, 30])
def test_many_heads(seqlen_q, chip, rng):
    """More than 65,535 (batch, head) pairs, of which the blocks of some are run."""
    batch, heads = 70, 1000
    case = Case(batch, seqlen_q, 20, heads, heads, 8)
    small = Case(1, seqlen_q, 20, 1, 1, 8)
    arrays = [x.astype(np.float16) for x in small.draw(rng)]
    want, want_lse, sizes = small.reference(*arrays)
    kernel = compile_few(case, chip, "float16")
    out, lse, *_ = results(case, "float16", 1)
    everywhere = [
        np.lib.stride_tricks.as_strided(
            x, (batch, x.shape[1], heads, 8), (0, x.strides[1], 0, x.strides[3]), writeable=False
        )
        for x in arrays
    ]
    per_head = 1 if seqlen_q == 1 else math.ceil(seqlen_q / 16)
    pairs = [0, 65_535, 65_536, batch * heads - 1]
    blocks = [pair * per_head + i for pair in pairs for i in range(per_head)]
    emulate(kernel, *everywhere, *scalars(case), out, lse, blocks=blocks)
    done = out.swapaxes(1, 2).reshape(batch * heads, 1, seqlen_q, 8)
    for pair in pairs:
        rows = done[pair].reshape(1, seqlen_q, 1, 8)
        check("float16", rows, lse.reshape(-1, 1, 1, seqlen_q)[pair], want, want_lse, sizes)
    written = ~np.isnan(done).all(axis=(1, 2, 3))
    assert np.flatnonzero(written).tolist() == pairs


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("seqlen_q", [0, 1, 30])
def test_nothing(seqlen_q, chip):
    """No sequence, no query, no key: nothing is read, all rows are dead."""
    for batch, seqlen_k in ((0, 20), (1, 0), (0, 0)):
        case = Case(batch, seqlen_q, seqlen_k, 2, 1, 64, causal=True)
        arrays = [x.astype(np.float16) for x in case.draw(np.random.default_rng(0))]
        for few in (False, True):
            compiler = compile_few if few else compile_case
            kernel = compiler(case, chip, "float16")
            out, lse, *_ = results(case, "float16", 1)
            emulate(kernel, *arrays, *scalars(case), out, lse)
            assert (out == 0).all() and (lse == -np.inf).all()
