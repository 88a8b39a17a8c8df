"""Threads of the CPU target beside those of PyTorch, each case in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

TASKS = """
import os, time

def tasks():
    return set(os.listdir("/proc/self/task"))

def stat(task):
    fields = open(f"/proc/self/task/{task}/stat").read().rpartition(")")[2].split()
    return fields[0], int(fields[11]) + int(fields[12])  # state, clock ticks used
"""


def run(text, **environment):
    unset = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    result = subprocess.run(
        [sys.executable, "-c", TASKS + text],
        capture_output=True,
        text=True,
        timeout=120,
        env=kept | environment,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_own_workers_sleep():
    run("""
import flash_attn_mlir as fa, numpy as np
x = np.ones((1, 512, 4, 64), np.float32)
fa.set_num_threads(1)
fa.flash_attn_func(x, x, x)
before = tasks()
fa.set_num_threads(3)
for _ in range(3):
    fa.flash_attn_func(x, x, x)
workers = tasks() - before
assert len(workers) == 2, workers
deadline = time.monotonic() + 20
while any(stat(task)[0] != "S" for task in workers):  # the last loop may just have ended
    assert time.monotonic() < deadline, [stat(task) for task in workers]
used = [stat(task)[1] for task in workers]
time.sleep(0.5)
assert [stat(task)[1] for task in workers] == used
""")


def test_pytorch_s_threads_are_used():
    pytest.importorskip("torch")
    run("""
import flash_attn_mlir as fa, torch
cores = len(os.sched_getaffinity(0))
torch.set_num_threads(2)
assert fa.get_num_threads() == min(2, cores), fa.get_num_threads()
a, x = torch.ones(512, 512), torch.randn(1, 512, 4, 64)
a @ a
torch.exp(torch.ones(1 << 20))  # OpenMP's loop, where the product has none
fa.set_num_threads(1)
expected = fa.flash_attn_func(x, x, x)  # compiled
fa.set_num_threads(0)
before = tasks()
out = fa.flash_attn_func(x, x, x)
assert tasks() == before
assert torch.equal(out, expected)
torch.set_num_threads(1)
assert fa.get_num_threads() == 1
fa.set_num_threads(3)  # not what PyTorch has: threads of our own
assert torch.equal(fa.flash_attn_func(x, x, x), expected)
assert len(tasks() - before) == 2
""")


def test_environment_and_affinity():
    text = "import flash_attn_mlir as fa; print(fa.get_num_threads())"
    assert int(run(text, OMP_NUM_THREADS="1")) == 1
    assert int(run(text, OMP_NUM_THREADS="4096")) == len(os.sched_getaffinity(0))
    pinned = "os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])\n"
    assert int(run(pinned + text)) == 1


@pytest.mark.parametrize("used_before", [False, True])
def test_fork_after_pytorch_s_threads_started(used_before):
    pytest.importorskip("torch")
    run(f"""
import flash_attn_mlir as fa, torch
torch.set_num_threads(2)
x = torch.randn(1, 512, 4, 64)
torch.exp(torch.ones(1 << 20))
expected = fa.flash_attn_func(x, x, x) if {used_before} else None
child = os.fork()
if child == 0:
    out = fa.flash_attn_func(x, x, x)
    # Not torch.equal: PyTorch's own loops would wait for threads that are gone.
    same = expected is None or out.numpy().tobytes() == expected.numpy().tobytes()
    os._exit(0 if same else 1)
assert os.waitpid(child, 0)[1] == 0
""")
