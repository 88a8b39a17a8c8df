"""Other schedules than the table's, which `tune` would time: their results are the same."""

from __future__ import annotations

import flash_attn_mlir as fa
import numpy as np
import pytest
from emulate import emulate
from flash_attn_mlir import _measure, _schedules, _tune

SAMPLE = 2  # candidates of a loop nest in one run; other ones in the next


def usable(problem, chip, rng, count):
    """Kernels of (row, kernel) drawn from the nearest neighbours of the table's schedules."""
    text = fa._compiler.build(**problem.specification(chip))
    options = {"mlir": text, "chip": chip, "ptxas": False, "cache": False, "schedules": False}
    for row in _schedules.rows_of(fa.compile(**options).report):
        if row.work not in _schedules.TUNABLE:
            continue
        found = 0
        nearest = _schedules.neighbours(row)[:60]
        for index in rng.permutation(len(nearest)):
            other = nearest[index]
            try:
                kernel = fa.compile(**options, schedule=_schedules.table([other]))
            except RuntimeError:
                continue
            yield other, kernel
            found += 1
            if found == count:
                break
        assert found, row


@pytest.mark.parametrize("chip", ["sm_80", "sm_90a"])
@pytest.mark.parametrize(
    "what", ["causal", "backward,causal", "backward,deterministic", "seqlen=1,parts=2"]
)
def test_candidates(chip, what, rng):
    head_dim = rng.choice([40, 64, 128])
    shape = f"head_dim={head_dim},batch=1,seqlen=200,seqlen_k=300,heads=2,kv_heads=1"
    problem = _tune.Problem.parse(f"{shape},{what}", chip)
    data = _measure.Data(problem, on_gpu=False)
    data.draw()
    expected = _measure.reference(data)
    if problem.backward:
        o, lse = np.empty_like(data.arrays["o"]), np.empty_like(data.arrays["lse"])
        plain = _tune.Problem.parse(f"{shape},causal" if problem.causal else shape, chip)
        forward = fa.compile(**plain.specification(chip), chip=chip, ptxas=False)
        data.arrays |= {"o": o, "lse": lse}
        emulate(forward, *data.arguments(forward))
    for seed, (row, kernel) in enumerate(usable(problem, chip, rng, SAMPLE)):
        data.poison()
        emulate(kernel, *data.arguments(kernel), seed=seed, optimized=True)
        assert data.error(expected) <= _measure.BOUNDS["f16"], row
