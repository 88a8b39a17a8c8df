"""Processes that share a cache while its files are damaged, and compiling without memory."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time

import flash_attn_mlir as fa
import pytest
from conftest import SEED

SPECS = [
    {"chip": "cpu", "dtype": "f32", "head_dim": 16},
    {"chip": "cpu", "dtype": "f32", "head_dim": 16, "causal": True},
    {"chip": "sm_80", "head_dim": 32, "stop_after": "ptx"},
    {"chip": "sm_75", "head_dim": 32, "stop_after": "llvm"},
]

# Compiles all programs in an order of its own, over and over; prints a hash of each.
WORKER = f"""
import hashlib, random, sys
import flash_attn_mlir as fa
cache, rounds = sys.argv[1], int(sys.argv[2])
order = random.Random(sys.argv[3])
specs = {SPECS!r}
for _ in range(rounds):
    for index in order.sample(range(len(specs)), len(specs)):
        kernel = fa.compile(**specs[index], cache=cache)
        names = ("llvm_ir", "ptx", "object", "metadata", "report")
        parts = [kernel._artifact.part(name) for name in names]
        print(index, hashlib.sha256(repr(parts).encode()).hexdigest())
"""


def damage(path, rng):
    """One way in which a file may be broken; others may remove it meanwhile."""
    try:
        data = path.read_bytes()
        kind = rng.randrange(5)
        if kind == 0:
            path.write_bytes(data[: rng.randrange(len(data) + 1)])
        elif kind == 1:
            place = rng.randrange(len(data) or 1)
            path.write_bytes(data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :])
        elif kind == 2:
            path.write_bytes(b"")
        elif kind == 3:
            path.unlink()
        else:
            path.write_bytes(os.urandom(100) + data)
    except FileNotFoundError:
        pass


def test_processes_share_a_cache(tmp_path):
    """Same and different programs at once; every process gets what a lone one gets."""
    cache = tmp_path / "cache"
    environment = {**os.environ, "FA_CACHE_SIZE_MB": "1"}  # trimmed all the time, too
    run = [sys.executable, "-c", WORKER]
    alone = subprocess.run(
        [*run, str(tmp_path / "alone"), "1", "0"], check=True, capture_output=True, text=True
    )
    expected = dict(line.split() for line in alone.stdout.splitlines())
    assert len(expected) == len(SPECS)

    workers = [
        subprocess.Popen(
            [*run, str(cache), "6", str(SEED + i)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        for i in range(6)
    ]
    rng = random.Random(SEED)
    damaged = 0
    while any(worker.poll() is None for worker in workers):
        files = list(cache.glob("*.fa")) if cache.is_dir() else []
        if files:
            damage(rng.choice(files), rng)
            damaged += 1
        time.sleep(0.005)
    for worker in workers:
        output = worker.stdout.read()
        assert worker.returncode == 0, output
        lines = [line.split() for line in output.splitlines()]
        assert len(lines) == 6 * len(SPECS)
        for index, digest in lines:
            assert digest == expected[index]
    assert damaged > 10
    assert not list(cache.glob("*.tmp")), "temporary files are left"
    # What is broken at the end is noticed and made again.
    for path in cache.glob("*.fa"):
        path.write_bytes(path.read_bytes()[:-1])
    again = subprocess.run([*run, str(cache), "1", "1"], check=True, capture_output=True, text=True)
    assert dict(line.split() for line in again.stdout.splitlines()) == expected


# Loads one file over and over; whole or damaged, it never ends the process.
READER = """
import sys, time
import flash_attn_mlir as fa
end, loaded, refused = time.monotonic() + 2, 0, 0
while time.monotonic() < end or not (loaded and refused):
    try:
        loaded += bool(fa.load(sys.argv[1]).ptx)
    except OSError as error:
        assert "damaged" in str(error) or "no artifact" in str(error), error
        refused += 1
"""


def test_file_cut_while_it_is_read(tmp_path):
    """What another process cuts meanwhile is read, not mapped: no SIGBUS."""
    path = tmp_path / "program.fa"
    fa.compile(chip="sm_80", head_dim=64, stop_after="ptx", cache=False).save(str(path))
    whole = path.read_bytes()
    assert len(whole) > 50_000
    reader = subprocess.Popen([sys.executable, "-c", READER, str(path)], stderr=subprocess.PIPE)
    while reader.poll() is None:
        os.truncate(path, 0)
        path.write_bytes(whole)
    assert reader.returncode == 0, reader.stderr.read()


def test_folder_that_is_no_cache(tmp_path):
    """A cache that can't be used is no error: nothing is cached."""
    (tmp_path / "file").write_text("")
    kernel = fa.compile(**SPECS[0], cache=str(tmp_path / "file"))
    assert kernel.object
    folder = tmp_path / "folder"
    kernel = fa.compile(**SPECS[0], cache=str(folder))
    (path,) = folder.glob("*.fa")
    path.unlink()
    path.mkdir()  # a folder in the place of a file
    assert fa.compile(**SPECS[0], cache=str(folder)).object == kernel.object


# Compiles with `extra` MB of address space more than the process has, then without a limit.
MEMORY = """
import resource, sys
import flash_attn_mlir as fa
text = fa._compiler.build(head_dim=64)
if sys.argv[2] == "large":
    # Too much for any of the limits, and not too much for the machine.
    text += "".join(f"func.func private @f{i}(memref<{i}xf32>)\\n" for i in range(300000))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
unlimited = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used + (int(sys.argv[1]) << 20), unlimited[1]))
try:
    fa.compile(mlir=text, chip="sm_80", cache=False, ptxas=False)
    print("compiled")
except (RuntimeError, MemoryError) as error:
    print(error if "memory" in str(error) else repr(error))
resource.setrlimit(resource.RLIMIT_AS, unlimited)
fa.compile(chip="sm_80", head_dim=64, cache=False, ptxas=False)
print("compiled")
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    "size, extra", [("small", 0), ("small", 70), ("small", 150), ("large", 240), ("large", 300)]
)
def test_no_memory(size, extra):
    """An error that says so, in a process that goes on and can compile later."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(extra), size], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    first, *_, last = done.stdout.splitlines()
    assert "out of memory" in first
    assert last == "compiled"


# Two threads compile what ends LLVM, by a fatal error or by the end of the stack, two
# others good programs, forward and backward; and a good one comes last.
CRASHES = """
import random, sys, threading, time
import flash_attn_mlir as fa
from pathlib import Path

kind, seed, end = sys.argv[1], int(sys.argv[2]), time.monotonic() + float(sys.argv[3])
FATAL = '''
gpu.module @kernels {
  llvm.func @f(%a: !llvm.ptr<1>, %b: !llvm.ptr<1>, %o: i64, %n: i64, %s: i64)
      attributes {gpu.kernel, nvvm.kernel, nvvm.maxntid = array<i32: 128>,
        tile.args = [memref<?xf32, strided<[?], offset: ?>>],
        tile.launch = {grid = affine_map<()[s0] -> (s0)>, grid_symbols = array<i64: 0, 0>,
                       threads = 128 : i64, shared_bytes = 0 : i64}} {
    llvm.call_intrinsic "llvm.nvvm.wgmma.fence.sync.aligned"() : () -> ()
    llvm.return
  }
}
'''
crashes, programs, wrong = [0], [0], []

def crash(rng):
    if kind == "fatal":
        text, reason = FATAL, "Cannot select"
    else:
        depth = rng.randrange(600_000, 1_000_000)
        text = "func.func @f() attributes {a = " + "[" * depth + "]" * depth + "} {return}"
        reason = "Segmentation fault"
    try:
        fa.compile(mlir=text, chip="sm_80", cache=False, ptxas=False)
    except RuntimeError as error:
        message, _, reproducer = str(error).partition("reproducer: ")
        if reproducer:
            Path(reproducer.strip()).unlink(missing_ok=True)
        if reason in message:
            crashes[0] += 1
            return
        wrong.append(message)
    else:
        wrong.append("compiled")

def compile(rng):
    chip, backward = rng.choice(("cpu", "sm_80")), rng.random() < 0.5
    fa.compile(chip=chip, head_dim=rng.randrange(1, 65), backward=backward, alignment=1,
               cache=False, ptxas=False)
    programs[0] += 1

def repeat(function, rng):
    while time.monotonic() < end and not wrong:
        function(rng)

threads = [threading.Thread(target=repeat, args=(function, random.Random(seed + i)))
           for i, function in enumerate((crash, crash, compile, compile))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
compile(random.Random(seed))
assert not wrong, wrong
assert crashes[0] >= 2 and programs[0] >= 3, (crashes, programs)
"""


@pytest.mark.parametrize("kind", ["fatal", "overflow"])
def test_crashes_beside_compilations(kind):
    """The process neither ends nor hangs, and what compiles beside a crash is right."""
    run = [sys.executable, "-c", CRASHES, kind, str(SEED), "5"]
    result = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
