"""`python3 -m flash_attn_mlir tune`: schedules of problems, measured.

Candidates are compiled (which needs no GPU, and gives a folder that can be carried to
one), then timed in interleaved rounds beside the schedule of the library's own table.
What is faster becomes a row of a table of schedules.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import dataclasses
import datetime
import gzip
import json
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from . import _attention, _compiler, _fa, _measure, _schedules

FORMAT = 1  # of manifest.json
# A row is written where the median of the rounds' ratios is at least this, and three of
# four are above 1.
_GAIN = 1.02
_FEWEST_ROUNDS, _MOST_ROUNDS = 3, 100
# Beyond this many rounds, candidates that are slower than the best by this are left out.
_LIMITS = {3: 1.15, 6: 1.07, 10: 1.04}

EPILOG = """\
A problem is a list like head_dim=128,causal,seqlen=4096: head_dim (1 to 256); dtype
(f16, bf16, f32, f64); batch, seqlen, seqlen_k, heads, kv_heads; causal, window_left=N,
window_right=N, softcap=X; backward (gradients), deterministic (as that option);
parts=N (parts of the keys for at most 16 queries). Lengths, batch and heads are what is
measured: a row of a table serves all of them.

examples:
  tune the CPU target of this machine, for half a minute:
    python3 -m flash_attn_mlir tune --chip cpu --problem head_dim=64,causal,seqlen=1024 \\
        --budget 30
  this machine's GPU, a set of usual problems, two minutes:
    python3 -m flash_attn_mlir tune --budget 120
  compile on a machine without a GPU, measure on one with it:
    python3 -m flash_attn_mlir tune --chip sm_90a --compile-only -o candidates
    python3 -m flash_attn_mlir tune --from candidates --budget 120
"""


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is tuned, and the shape that is measured."""

    head_dim: int
    dtype: str = "f16"
    batch: int = 0
    seqlen: int = 0
    seqlen_k: int = 0
    heads: int = 0
    kv_heads: int = 0
    causal: bool = False
    window_left: int = -1
    window_right: int = -1
    softcap: float = 0.0
    backward: bool = False
    deterministic: bool = False
    parts: int = 1

    @classmethod
    def parse(cls, text: str, chip: str) -> Problem:
        types = {field.name: type(field.default) for field in dataclasses.fields(cls)}
        types["head_dim"] = int
        given = {}
        for item in filter(None, (item.strip() for item in text.split(","))):
            name, equals, value = item.partition("=")
            if name not in types:
                raise ValueError(f"problem {text!r}: {name} is unknown; allowed: {list(types)}")
            if types[name] is bool:
                if equals:
                    raise ValueError(f"problem {text!r}: {name} takes no value")
                given[name] = True
                continue
            try:
                given[name] = types[name](value)
            except ValueError:
                raise ValueError(
                    f"problem {text!r}: {name} is {value!r}; allowed: a value of type "
                    f"{types[name].__name__}"
                ) from None
        if "head_dim" not in given:
            raise ValueError(f"problem {text!r}: head_dim=N is needed")
        on_cpu = chip == "cpu"
        given.setdefault("dtype", "f32" if on_cpu else "f16")
        if not on_cpu and given["dtype"] not in ("f16", "bf16"):
            raise ValueError(f"problem {text!r}: dtype {given['dtype']} on {chip}; use f16 or bf16")
        # The shapes of benchmarks/attention.py.
        given.setdefault("seqlen", 1024 if on_cpu else 4096)
        given.setdefault("seqlen_k", given["seqlen"])
        given.setdefault("heads", 8 if on_cpu else max(1, 2048 // max(1, given["head_dim"])))
        given.setdefault("kv_heads", given["heads"])
        given.setdefault("batch", 1 if on_cpu else max(1, 16384 // max(1, given["seqlen_k"])))
        problem = cls(**given)
        for name in ("head_dim", "batch", "seqlen", "seqlen_k", "heads", "kv_heads", "parts"):
            if getattr(problem, name) < 1:
                raise ValueError(f"problem {text!r}: {name} must be positive")
        if problem.heads % problem.kv_heads:
            raise ValueError(f"problem {text!r}: heads must be a multiple of kv_heads")
        if problem.parts > 1 and (problem.backward or not problem.few):
            raise ValueError(f"problem {text!r}: parts are for at most 16 queries, no gradients")
        return problem

    def __str__(self):
        parts = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            same = {"seqlen_k": self.seqlen, "kv_heads": self.heads}.get(field.name)
            if value is True:
                parts.append(field.name)
            elif field.name in ("head_dim", "dtype") or value not in (field.default, same):
                parts.append(f"{field.name}={value}")
        return ",".join(parts)

    @property
    def scale(self) -> float:
        return self.head_dim**-0.5

    @property
    def group(self) -> int:
        return self.heads // self.kv_heads

    @property
    def few(self) -> bool:
        return self.seqlen <= _attention._FEW_QUERIES and not self.backward

    def specification(self, chip: str) -> dict:
        """What the library compiles for this problem."""
        one = self.few and self.seqlen == 1  # sees all keys to its left
        causal = self.causal and not one
        specification = {
            "dtype": self.dtype,
            "head_dim": self.head_dim,
            "causal": causal,
            "window_left": self.window_left >= 0,
            "window_right": self.window_right >= 0 and not causal and not one,
            "softcap": self.softcap > 0,
            "alignment": 1 if chip == "cpu" else 16,
        }
        if self.few:
            rows = 1 if one else _attention._FEW_QUERIES
            _, pack = _attention._few_blocks(self.seqlen, self.group)
            specification |= {"query_rows": rows, "pack_heads": pack, "partials": self.parts > 1}
        elif not self.backward:
            most = _attention._query_rows(chip, self.head_dim, self.seqlen, self.seqlen_k)
            specification |= {"query_rows": most}
        if self.backward:
            one_pass = _attention._one_pass(
                chip,
                self.head_dim,
                self.batch * self.kv_heads,
                self.window_left,
                self.deterministic,
            )
            specification |= {"backward": True, "d_q_sum": one_pass}
        return specification


def usual_problems(chip: str) -> list[Problem]:
    sizes = (64, 128) if chip == "cpu" else (64, 128, 256)
    return [
        Problem.parse(f"head_dim={size}{mask}{what}", chip)
        for size in sizes
        for mask in ("", ",causal")
        for what in ("", ",backward")
    ]


class Progress:
    """Lines on stderr, or one that changes on a terminal."""

    def __init__(self):
        self.start = self.last = time.monotonic()
        self.on_terminal = sys.stderr.isatty()

    def say(self, text: str) -> None:
        end = "\x1b[K\n" if self.on_terminal else "\n"
        print(f"[{time.monotonic() - self.start:5.0f} s] {text}", end=end, file=sys.stderr)
        sys.stderr.flush()

    def step(self, text: str) -> None:
        now = time.monotonic()
        if now - self.last < (0.2 if self.on_terminal else 2):
            return
        self.last = now
        if self.on_terminal:
            print(f"[{now - self.start:5.0f} s] {text}\x1b[K", end="\r", file=sys.stderr)
            sys.stderr.flush()
        else:
            self.say(text)


# ===-----------------------------------------------------------------------=== #
# Compiling
# ===-----------------------------------------------------------------------=== #


@dataclasses.dataclass
class Candidate:
    row: str
    kernel: object = None  # a Kernel, or the name of its file
    resources: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Group:
    """One loop nest of one problem: candidates[0] is what the library's table has."""

    problem: Problem
    condition: str
    candidates: list
    forward: object = None  # of a backward: what makes o and lse


def _resources(report: dict, index: int) -> dict:
    launches = report["launches"]
    return launches[index]["resources"] if index < len(launches) else {}


def _spills(resources: dict) -> int:
    return resources.get("spill_stores", 0) + resources.get("spill_loads", 0)


def _compile(text: str, chip: str, schedule: str | None) -> _compiler.Kernel:
    # Without what was tuned before, and without filling the user's cache.
    return _compiler.compile(mlir=text, chip=chip, schedule=schedule, schedules=False, cache=False)


def _reason(message: str, row, progress: Progress) -> str:
    """Why a candidate did not compile, in a word; what should not happen is said aloud."""
    reproducer = re.search(r"reproducer: (.+)", message)
    if "crashed" in message:
        progress.say(f"the compiler crashed on {row}; reproducer: {reproducer and reproducer[1]}")
        return "crashed"
    if reproducer:  # a schedule that does not fit is no failure to be looked into
        Path(reproducer[1]).unlink(missing_ok=True)
    return "beyond shared memory" if "bytes of shared memory" in message else "not applicable"


def compile_groups(problems, chip: str, limit: int, progress: Progress):
    """Groups with up to `limit` candidates each, and whether all are there (no Ctrl-C)."""
    groups = []
    workers = os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        try:
            for problem in problems:
                _compile_problem(groups, problem, chip, limit, progress, pool, workers)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            progress.say("interrupted: what is compiled is kept")
            return groups, False
    return groups, True


def _compile_problem(groups, problem, chip, limit, progress, pool, workers):
    specification = problem.specification(chip)
    text = _compiler.build(**specification)
    progress.say(f"{problem}: compiling for {chip}")
    default = _compile(text, chip, None)
    forward = None
    if problem.backward:
        plain = dataclasses.replace(problem, backward=False)
        # The program of many queries, whatever the number here.
        few = ("query_rows", "pack_heads", "partials")
        plain = {k: v for k, v in plain.specification(chip).items() if k not in few}
        forward = _compile(_compiler.build(**plain), chip, None)
    report = default.report
    for index, row in enumerate(_schedules.rows_of(report)):
        if row.work not in _schedules.TUNABLE:
            continue
        of_default = _resources(report, index)
        group = Group(problem, row.condition, [Candidate(str(row), default, of_default)], forward)
        groups.append(group)
        refused = collections.Counter()

        def attempt(row, index=index):
            try:
                kernel = _compile(text, chip, _schedules.table([row]))
            except (ValueError, NotImplementedError, RuntimeError) as error:
                return None, _reason(str(error), row, progress)
            return kernel, ""

        # In order, so that equal input gives equal candidates.
        attempts = iter(_schedules.neighbours(row)[: 4 * limit])
        pending = collections.deque()
        while len(group.candidates) < limit + 1:
            while len(pending) < workers and (other := next(attempts, None)) is not None:
                pending.append((other, pool.submit(attempt, other)))
            if not pending:
                break
            other, future = pending.popleft()
            kernel, reason = future.result()
            if kernel is None:
                refused[reason] += 1
            else:
                resources = _resources(kernel.report, index)
                if _spills(resources) > _spills(of_default):
                    refused["spill"] += 1
                else:
                    # As it prints, and with what the compiler made of it.
                    chosen = _schedules.rows_of(kernel.report)[index]
                    group.candidates.append(Candidate(str(chosen), kernel, resources))
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(refused.items()))
            progress.step(
                f"{problem}: {row.work}: {len(group.candidates) - 1} of {limit} candidates"
                + (f" ({reasons})" if reasons else "")
            )
        for _, future in pending:
            future.cancel()


# ===-----------------------------------------------------------------------=== #
# Folders
# ===-----------------------------------------------------------------------=== #


def write_folder(folder: Path, chip: str, groups, complete: bool) -> None:
    """Kernels, compressed, and what they are."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {}

    def save(kernel):
        if kernel is None:
            return None
        if id(kernel) not in names:
            name = f"{len(names):04}.fa.gz"
            with tempfile.TemporaryDirectory() as temporary:
                path = Path(temporary) / "kernel.fa"
                kernel.save(path)
                data = gzip.compress(path.read_bytes(), 6, mtime=0)
            (folder / name).write_bytes(data)
            names[id(kernel)] = name
        return names[id(kernel)]

    manifest = {
        "format": FORMAT,
        "library": _fa.version(),
        "chip": chip,
        "complete": complete,
        "groups": [
            {
                "problem": dataclasses.asdict(group.problem),
                "condition": group.condition,
                "forward": save(group.forward),
                "candidates": [
                    {"row": c.row, "file": save(c.kernel), "resources": c.resources}
                    for c in group.candidates
                ],
            }
            for group in groups
        ],
    }
    # Last: a folder with a manifest is whole.
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def read_folder(folder: Path):
    """The chip and the groups of a folder, kernels as names of files."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
        found = (manifest["format"], manifest["library"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is no manifest of candidates: {error!r}") from None
    if found != (FORMAT, _fa.version()):
        raise ValueError(
            f"{path} is of format {found[0]}, library {found[1]}; this is format {FORMAT}, library "
            f"{_fa.version()}: compile the candidates again"
        )
    try:
        groups = [
            Group(
                Problem(**group["problem"]),
                group["condition"],
                [Candidate(c["row"], c["file"], c["resources"]) for c in group["candidates"]],
                group["forward"],
            )
            for group in manifest["groups"]
        ]
        return manifest["chip"], groups
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path} is no manifest of candidates: {error!r}") from None


def _load(folder: Path | None, kernel):
    if folder is None or kernel is None:
        return kernel
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "kernel.fa"
        path.write_bytes(gzip.decompress((folder / kernel).read_bytes()))
        return _compiler.load(path)


# ===-----------------------------------------------------------------------=== #
# Timing
# ===-----------------------------------------------------------------------=== #


@dataclasses.dataclass
class Result:
    group: Group
    times: list  # of each candidate: milliseconds in each round that it was in
    wrong: dict  # index of a candidate -> its error

    @property
    def rounds(self) -> int:
        return len(self.times[0])

    def ratios(self, index: int) -> list[float]:
        """How many times as fast as the default, in each round."""
        return [default / own for default, own in zip(self.times[0], self.times[index])]

    def ratio(self, index: int) -> float:
        return statistics.median(self.ratios(index))

    @property
    def is_faster(self) -> bool:
        """Whether the best is faster than the default beyond doubt."""
        ratios = sorted(self.ratios(self.best))
        enough = len(ratios) >= _FEWEST_ROUNDS and self.ratio(self.best) >= _GAIN
        return enough and ratios[len(ratios) // 4] > 1

    @property
    def best(self) -> int:
        """The fastest of those that were in all rounds."""
        return max(
            (i for i, times in enumerate(self.times) if times and len(times) == self.rounds),
            key=self.ratio,
        )


def measure(group: Group, folder, seconds: float, progress: Progress, results: list) -> None:
    """Appends a Result, also when Ctrl-C ends the rounds."""
    on_gpu = _load(folder, group.candidates[0].kernel).chip != "cpu"
    work = _schedules.Row.parse(group.candidates[0].row).work
    name = f"{group.problem}: {work}"
    start = time.monotonic()
    data = _measure.Data(group.problem, on_gpu)
    timer = _measure.Timer(data)
    forward = data.call(_load(folder, group.forward)) if group.forward else None

    def draw():
        data.draw()
        if forward:
            forward()

    draw()
    data.wait()
    progress.step(f"{name}: reference")
    expected = _measure.reference(data)
    bound = _measure.BOUNDS[group.problem.dtype]
    calls, wrong = {}, {}
    for index, candidate in enumerate(group.candidates):
        call = data.call(_load(folder, candidate.kernel))
        data.poison()
        try:
            call()
            data.wait()
        except RuntimeError as error:
            raise RuntimeError(f"{name}: {candidate.row} failed: {error}") from error
        error = data.error(expected)
        if error <= bound:
            calls[index] = call
        else:
            wrong[index] = error
            progress.say(f"{name}: error {error:.1e} of {candidate.row}: not timed")
        progress.step(f"{name}: {index + 1} of {len(group.candidates)} checked")
        if time.monotonic() - start > seconds / 2 and len(calls) > 1:
            break  # the most similar ones come first
    if 0 not in calls:
        raise RuntimeError(f"{name}: the library's own schedule has an error of {wrong[0]:.1e}")
    result = Result(group, [[] for _ in group.candidates], wrong)
    results.append(result)
    # Warm, and as many calls a round as take some milliseconds.
    once = max(timer.time(calls[0], 1) for _ in range(2))
    count = max(1, min(10, int(5 / max(once, 1e-3))))
    longest = 0.0
    while result.rounds < _MOST_ROUNDS:
        begin = time.monotonic()
        if result.rounds >= _FEWEST_ROUNDS and begin - start + longest > seconds:
            break
        draw()
        order = list(calls)
        random.shuffle(order)
        measured = {index: timer.time(calls[index], count) for index in order}
        for index, value in measured.items():
            result.times[index].append(value)
        longest = time.monotonic() - begin
        limit = _LIMITS.get(result.rounds)
        if limit:
            best = result.ratio(result.best)
            calls = {i: c for i, c in calls.items() if i == 0 or result.ratio(i) * limit >= best}
        progress.step(f"{name}: round {result.rounds}, {len(calls)} candidates")
        if len(calls) == 1 and result.rounds >= _FEWEST_ROUNDS:
            break  # nothing is as fast as the default


def device_name(chip: str) -> str:
    if chip == "cpu":
        return f"chip cpu, {_fa.get_num_threads()} threads"
    import torch

    return torch.cuda.get_device_name()


def rows_of_results(results, chip: str) -> dict:
    """Condition -> lines of a table; None where the library's own schedule is best."""
    rows = {}
    day = datetime.date.today().isoformat()
    for result in results:
        best = result.best
        rows[result.group.condition] = None
        if result.is_faster:
            ms = statistics.median(result.times[best])
            comment = (
                f"{_schedules.TUNED}{result.group.problem}: {ms:.4g} ms, "
                f"{result.ratio(best):.2f} times as fast ({result.rounds} rounds, "
                f"{device_name(chip)}, {day})"
            )
            rows[result.group.condition] = [comment, result.group.candidates[best].row]
    return rows


def print_results(results) -> None:
    for result in results:
        if not result.rounds:
            continue
        row = _schedules.Row.parse(result.group.candidates[0].row)
        default = statistics.median(result.times[0])
        print(f"{result.group.problem}: {row.work}, {result.rounds} rounds, {default:.4g} ms")
        # Those that were left out early are slower than the rest.
        timed = [i for i, times in enumerate(result.times) if times]
        timed.sort(key=lambda i: (-len(result.times[i]), -result.ratio(i)))
        for index in [*timed[:3], *([0] if 0 not in timed[:3] else [])]:
            other = _schedules.Row.parse(result.group.candidates[index].row)
            names = dict.fromkeys([*other.values, *row.values])
            changed = {
                name: other.value(name)
                for name in names
                if index == 0 or other.value(name) != row.value(name)
            }
            text = ", ".join(f"{k}={v}" for k, v in changed.items())
            print(f"  x {result.ratio(index):.3f}  {'table: ' if index == 0 else ''}{text}")


# ===-----------------------------------------------------------------------=== #
# Command
# ===-----------------------------------------------------------------------=== #


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "tune",
        help="find schedules by measuring",
        description=__doc__.split("\n", 2)[2],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--chip", help="default: that of this machine's device, else cpu")
    parser.add_argument(
        "--problem",
        action="append",
        metavar="LIST",
        help="what to tune, see below; may be repeated (default: head sizes 64, 128 and, on a "
        "GPU, 256, full and causal, forward and backward)",
    )
    parser.add_argument(
        "--candidates",
        type=int,
        default=24,
        metavar="N",
        help="most schedules of a loop nest beside the table's (default: 24)",
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=60,
        metavar="SECONDS",
        help="for all measurements; compiling comes before (default: 60)",
    )
    parser.add_argument(
        "--compile-only", action="store_true", help="write the candidates to -o FOLDER, and stop"
    )
    parser.add_argument("-o", "--output", metavar="FOLDER", help="--compile-only: where to write")
    parser.add_argument(
        "--from", dest="folder", metavar="FOLDER", help="measure what --compile-only wrote"
    )
    parser.add_argument(
        "--table",
        metavar="FILE",
        help="where rows go (default: the file in the cache's folder that compiling consults)",
    )


def run(args) -> int:
    """The exit status. SIGTERM is as Ctrl-C: what is there is kept."""

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        return _run(args)
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(args) -> int:
    progress = Progress()
    if args.compile_only != (args.output is not None):
        raise ValueError("--compile-only and -o FOLDER belong together")
    if args.candidates < 1 or args.budget <= 0:
        raise ValueError("--candidates and --budget must be positive")
    if args.table and os.path.exists(args.table):
        if "#fa.schedules<" not in Path(args.table).read_text(errors="replace"):
            raise ValueError(f"--table {args.table} is there and no table of schedules")
    folder = None
    complete = True
    if args.folder is not None:
        if args.compile_only or args.problem or args.chip:
            raise ValueError("--from has its own chip and problems: leave out what names others")
        folder = Path(args.folder)
        chip, groups = read_folder(folder)
    else:
        chip = args.chip or _compiler.default_chip()
        if chip not in _fa.chips():
            raise ValueError(f"--chip {chip}: allowed are {', '.join(_fa.chips())}")
        problems = [Problem.parse(text, chip) for text in args.problem or []]
        problems = problems or usual_problems(chip)
        if not args.compile_only:
            _check_device(chip)
        groups, complete = compile_groups(problems, chip, args.candidates, progress)
    path = Path(args.table) if args.table else _schedules.user_file(chip)
    if args.compile_only:
        write_folder(Path(args.output), chip, groups, complete)
        count = sum(len(group.candidates) for group in groups)
        progress.say(f"{count} candidates in {args.output}")
        return 0 if complete else 130
    _check_device(chip)
    results = []
    end = time.monotonic() + args.budget
    try:
        for index, group in enumerate(groups):
            left = max(0.0, end - time.monotonic()) / (len(groups) - index)
            measure(group, folder, left, progress, results)
            if results[-1].rounds >= _FEWEST_ROUNDS:  # at once: the process may be killed
                _schedules.update_file(path, rows_of_results(results[-1:], chip))
    except KeyboardInterrupt:
        complete = False
        progress.say("interrupted: what was measured is kept")
    finally:
        results = [result for result in results if result.rounds >= _FEWEST_ROUNDS]
        print_results(results)
        if results:
            rows = rows_of_results(results, chip)
            _schedules.update_file(path, rows)
            faster = sum(row is not None for row in rows.values())
            progress.say(f"{faster} of {len(rows)} loop nests have a faster schedule: {path}")
    return 0 if complete else 130


def _check_device(chip: str) -> None:
    if chip == "cpu":
        return
    if not _fa.device_count():
        raise RuntimeError(
            f"tune: {chip} needs a CUDA device, and there is none; use --compile-only here, or "
            "--chip cpu"
        )
    _measure._module("torch", "for data on a GPU")
