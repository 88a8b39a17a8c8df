"""Tables of schedules, and the command that finds them by measuring."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import flash_attn_mlir as fa
import numpy as np
import pytest
import reference
from flash_attn_mlir import __main__, _compiler, _measure, _schedules, _tune

SPEC = {"chip": "cpu", "dtype": "f32", "head_dim": 64, "causal": True}
SMALL = "head_dim=64,causal,seqlen=64,heads=2"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Kernels and tables of a machine on which nothing has been tuned."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("FA_CACHE_DIR", str(folder))
    folder.mkdir()
    return folder


def command(*arguments):
    return __main__.main(["tune", *map(str, arguments)])


def chosen(kernel):
    """(table, tile_m, tile_n) of the loop nests of a kernel."""
    return [
        (x["args"]["from"], x["args"]["tile_m"], x["args"]["tile_n"])
        for x in kernel.report["remarks"]
        if (x["kind"], x["pass"]) == ("passed", "fa-select-schedule")
    ]


def ignored(kernel):
    """Why a table was ignored."""
    remarks = kernel.report["remarks"]
    return [x["message"] for x in remarks if (x["kind"], x["name"]) == ("missed", "schedules")]


def own_row(**specification):
    (row,) = _schedules.rows_of(fa.compile(**specification, schedules=False).report)
    return row


def file_of(*rows, version=fa.__version__):
    rows = ",\n".join(f"  {row}" for row in rows)
    return f'module attributes {{fa.schedules = #fa.schedules<"{version}", [\n{rows}]>}} {{}}\n'


# ---------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------


def test_rows_are_text():
    row = own_row(**SPEC)
    assert row.work == "output" and row.values["tile_m"] > 0 and row.values["chip"] == "cpu"
    assert str(_schedules.Row.parse(str(row))) == str(row)
    # The row that the library says it has chosen, chooses the same.
    default = fa.compile(**SPEC, schedules=False, cache=False)
    again = fa.compile(**SPEC, schedule=_schedules.table([row]), cache=False)
    assert chosen(again) == [("tuned", *chosen(default)[0][1:])]
    assert again.object == default.object
    flags = own_row(chip="sm_90a", head_dim=128, stop_after="llvm")
    assert flags.value("overlap") is True and flags.value("fixed_reference") is True
    without = flags.replaced({"overlap": False, "fixed_reference": False, "tile_n": 64})
    assert "overlap" not in str(without) and "fixed_reference" not in str(without)
    assert without.value("overlap") is False and without.replaced(flags.values).values == {
        **flags.values
    }
    with pytest.raises(ValueError, match="no row"):
        _schedules.Row.parse("<work = output>")


def test_table_changes_the_schedule(cache, rng):
    """Of the program that is compiled, in its code and not in its results."""
    default = fa.compile(**SPEC)
    row = own_row(**SPEC)
    tile = 32 if row.values["tile_n"] != 32 else 64
    file = _schedules.user_file("cpu")
    assert file.parent == cache
    file.write_text(file_of(row.replaced({"tile_n": tile})))
    tuned = fa.compile(**SPEC)  # the cache has the program: with another table
    assert chosen(default) == [("table", row.values["tile_m"], row.values["tile_n"])]
    assert chosen(tuned) == [("tuned", row.values["tile_m"], tile)]
    assert tuned.object != default.object
    # Another problem is not served; nor is another chip.
    assert chosen(fa.compile(**{**SPEC, "causal": False}))[0][0] == "table"
    other = fa.compile(chip="sm_80", head_dim=64, causal=True, stop_after="llvm")
    assert chosen(other)[0][0] == "table"
    # Equal input gives equal bytes: with the table, without it, from the cache or not.
    assert fa.compile(**SPEC, cache=False).object == tuned.object
    assert fa.compile(**SPEC, schedules=False).object == default.object
    file.unlink()
    assert fa.compile(**SPEC).object == default.object
    q, k, v = (rng.standard_normal((1, 70, 2, 64), "float32") for _ in range(3))
    results = []
    for kernel in (default, tuned):
        o, lse = np.empty_like(q), np.empty((1, 2, 70), "float32")
        kernel(q, k, v, 0.125, o, lse)
        results.append(o)
    np.testing.assert_allclose(*results, atol=1e-5)


@pytest.mark.parametrize("variables", ["FA_CACHE_DIR", "XDG_CACHE_HOME", "HOME"])
def test_place_of_the_table(tmp_path, monkeypatch, variables):
    """Python writes the file that the library reads."""
    for name in ("FA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variables, str(tmp_path))
    file = _schedules.user_file("cpu")
    assert file.is_relative_to(tmp_path)
    row = own_row(**SPEC, cache=False)
    _schedules.update_file(file, {row.condition: [str(row)]})
    assert chosen(fa.compile(**SPEC, cache=False))[0][0] == "tuned"


def test_precedence(tmp_path, cache):
    """schedule=, then the module's own table, then a file, then the library's table."""
    row = own_row(**SPEC)
    by_user, by_file, by_module = (row.replaced({"tile_n": n}) for n in (16, 32, 48))
    _schedules.user_file("cpu").write_text(file_of(by_user))
    file = tmp_path / "mine.mlir"
    file.write_text(file_of(by_file))
    text = _compiler.build(**{k: v for k, v in SPEC.items() if k != "chip"})
    head, body = text.split("func.func", 1)
    table = file_of(by_module).removesuffix("{}\n")
    own = f"{head}{table}{{ func.func{body} }}"

    def tile(mlir, **options):
        return chosen(fa.compile(mlir=mlir, chip="cpu", **options))[0][2]

    assert tile(text) == 16
    assert tile(text, schedules=str(file)) == tile(text, schedules=file) == 32
    assert tile(text, schedules=False) == row.values["tile_n"]
    assert tile(own) == tile(own, schedules=file) == 48
    table = _schedules.table([row.replaced({"tile_n": 80})])
    assert tile(own, schedules=file, schedule=table) == 80
    plan = str(row).split("plan = ")[1].split(">")[0] + ">"
    one = f"#fa.schedule<tile_m = 64, tile_n = 96, plan = {plan}>"
    assert tile(own, schedules=file, schedule=one) == 96


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: "", None),  # no table
        (lambda text: "not MLIR", "line 1: custom op 'not' is unknown"),
        (lambda text: "module {}", "no attribute `fa.schedules`"),
        (lambda text: text[: len(text) // 2], "line"),
        (lambda text: "\0" * 64, "no attribute"),
        (lambda text: text.replace("tile_n", "tile_x"), "line 2: "),
        (lambda text: text.replace('chip = "cpu"', 'chip = "sm_1"'), "chip is 'sm_1'"),
        (lambda text: text.replace("work = output", "work = input"), "expected one of [output"),
        (
            lambda text: text.replace(fa.__version__, "0.0.1"),
            f"line 1: the table is of version 0.0.1, this is {fa.__version__}; schedules are tuned",
        ),
    ],
)
def test_tables_that_do_not_hold(change, reason):
    """They are ignored, and the report says why and what to do."""
    row = own_row(**SPEC)
    file = _schedules.user_file("cpu")
    file.write_text(change(file_of(row.replaced({"tile_n": 16}))))
    kernel = fa.compile(**SPEC)
    assert chosen(kernel) == [("table", row.values["tile_m"], row.values["tile_n"])]
    assert kernel.object == fa.compile(**SPEC, schedules=False, cache=False).object
    if reason is None:
        assert not ignored(kernel)
        return
    (message,) = ignored(kernel)
    assert message.startswith(f"{file} is ignored: ") and reason in message
    assert "flash_attn_mlir tune" in message and message in kernel.explain()


def test_folder_in_place_of_a_table():
    _schedules.user_file("cpu").mkdir()
    assert chosen(fa.compile(**SPEC))[0][0] == "table"


def test_wrong_options(tmp_path):
    with pytest.raises(OSError, match='option `schedules` is ".*missing", which can\'t be read'):
        fa.compile(**SPEC, schedules=str(tmp_path / "missing"))
    with pytest.raises(ValueError, match="a path or false"):
        fa.compile(**SPEC, schedules=3)
    with pytest.raises(ValueError, match="the table is of version 0.0.1"):
        fa.compile(**SPEC, schedule='#fa.schedules<"0.0.1", []>')


def test_failure_names_the_table():
    """A schedule that does not fit is an error, as it was asked for; it says by whom."""
    spec = {"chip": "sm_80", "head_dim": 256, "stop_after": "llvm", "cache": False}
    row = own_row(**spec)
    file = _schedules.user_file("sm_80")
    file.write_text(file_of(row.replaced({"tile_m": 128, "tile_n": 128, "stages": 4})))
    with pytest.raises(RuntimeError) as raised:
        fa.compile(**spec)
    message = str(raised.value)
    assert "bytes of shared memory" in message
    assert f"schedules of {file} were in use: remove it, or set option `schedules`" in message


def test_file_keeps_other_rows(tmp_path):
    rows = [own_row(**{**SPEC, "head_dim": d}) for d in (32, 64, 96)]
    conditions = [row.condition for row in rows]
    file = tmp_path / "folder" / "table.mlir"
    comments = [f"// tuned: number {i}" for i in range(3)]
    _schedules.update_file(file, {c: [t, str(r)] for c, t, r in zip(conditions, comments, rows)})
    other = rows[1].replaced({"tile_n": 16})
    _schedules.update_file(file, {conditions[1]: [str(other)], conditions[2]: None})
    assert _schedules.read_file(file) == {
        conditions[1]: str(other),
        conditions[0]: str(rows[0]),
    }
    text = file.read_text()
    assert comments[0] in text and comments[1] not in text and comments[2] not in text
    kernel = fa.compile(**SPEC, schedules=file)
    assert not ignored(kernel) and chosen(kernel)[0][2] == 16
    # What is broken, or of another version, is replaced.
    for text in ("broken", file.read_text().replace(fa.__version__, "0.0.1")):
        file.write_text(text)
        _schedules.update_file(file, {rows[2].condition: [str(rows[2])]})
        assert list(_schedules.read_file(file)) == [rows[2].condition]
    # The last row goes: an empty table is one, too.
    _schedules.update_file(file, {rows[2].condition: None})
    kernel = fa.compile(**SPEC, schedules=file)
    assert not ignored(kernel) and chosen(kernel)[0][0] == "table"
    assert [path.name for path in file.parent.iterdir()] == ["table.mlir"]


def test_rows_for_the_repository(tmp_path):
    """The library's own table is a file like others: rows may be written to it."""
    own = Path(__file__).parents[2] / "lib/Dialect/FA/Transforms/Schedules.mlir"
    text = own.read_text()
    file = tmp_path / "Schedules.mlir"
    file.write_text(text)
    row = own_row(**SPEC).replaced({"tile_n": 16})
    _schedules.update_file(file, {row.condition: ["// tuned: here", str(row)]})
    lines = file.read_text().splitlines()
    assert [x for x in lines if x not in text.splitlines()] == ["  // tuned: here", f"  {row},"]
    kernel = fa.compile(**SPEC, schedules=file)
    assert not ignored(kernel) and chosen(kernel)[0][2] == 16
    other = fa.compile(**{**SPEC, "causal": False}, schedules=file)
    assert chosen(other)[0][1:] == chosen(fa.compile(**{**SPEC, "causal": False}))[0][1:]
    _schedules.update_file(file, {row.condition: None})
    assert file.read_text() == text


# ---------------------------------------------------------------------------
# Candidates
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("chip", ["cpu", "sm_75", "sm_80", "sm_90a"])
@pytest.mark.parametrize(
    "options", [{}, {"backward": True}, {"backward": True, "d_q_sum": True}, {"query_rows": 1}]
)
def test_neighbours(chip, options):
    text = _compiler.build(head_dim=64, **options)
    report = fa.compile(mlir=text, chip=chip, stop_after="llvm").report
    works = []
    for row in _schedules.rows_of(report):
        if row.work not in _schedules.TUNABLE:
            continue
        works.append(row.work)
        found = _schedules.neighbours(row)
        texts = [str(other) for other in found]
        assert texts == [str(other) for other in _schedules.neighbours(row)]
        assert len(set(texts)) == len(texts) and str(row) not in texts
        for name in ("chip", "mma", "copy", "producers"):
            assert {other.values[name] for other in found} == {row.values[name]}
        # The nearest first: those that differ in one value, or in a tile and its warps.
        first = [k for k in found[0].values if found[0].values[k] != row.values.get(k)]
        assert set(first) <= {"warps", "tile_m", "tile_n"} or len(first) == 1
        # The compiler's parser takes them; some fit the chip, too.
        usable = 0
        for other in found[:8]:
            table = _schedules.table([other])
            try:
                kernel = fa.compile(mlir=text, chip=chip, schedule=table, stop_after="llvm")
            except RuntimeError as error:
                assert "lowering failed" in str(error)
                continue
            values = [x.values for x in _schedules.rows_of(kernel.report)]
            usable += other.values in values
        assert usable, row
    expected = {
        (): ["output"],
        ("backward",): ["rows", "keys"],
        ("backward", "d_q_sum"): ["all"],
        ("query_rows",): ["few"],
    }
    assert works == expected[tuple(options)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("causal", "head_dim=N is needed"),
        ("head_dim=64,size=3", "size is unknown"),
        ("head_dim=x", "head_dim is 'x'"),
        ("head_dim=64,causal=1", "causal takes no value"),
        ("head_dim=64,heads=3,kv_heads=2", "multiple of kv_heads"),
        ("head_dim=64,seqlen=0", "seqlen must be positive"),
        ("head_dim=64,seqlen=100,parts=2", "at most 16 queries"),
        ("head_dim=64,dtype=f32", "use f16 or bf16"),
    ],
)
def test_problems_that_are_refused(text, message, capsys):
    with pytest.raises(ValueError, match=message):
        _tune.Problem.parse(text, "sm_90a")
    assert command("--chip", "sm_90a", "--problem", text, "--compile-only", "-o", "x") == 1
    assert message in capsys.readouterr().err


def test_problems():
    problem = _tune.Problem.parse("head_dim=128,causal,backward", "sm_90a")
    assert (problem.batch, problem.heads, problem.seqlen_k, problem.dtype) == (4, 16, 4096, "f16")
    assert _tune.Problem.parse(str(problem), "sm_90a") == problem
    assert problem.specification("sm_90a")["d_q_sum"] is True
    assert problem.specification("sm_80")["d_q_sum"] is True
    # Where two groups of warps would share padded rows, two passes.
    middle = _tune.Problem.parse("head_dim=96,causal,backward", "sm_90a")
    assert middle.specification("sm_90a")["d_q_sum"] is False
    assert middle.specification("sm_80")["d_q_sum"] is True
    one = _tune.Problem.parse("head_dim=128,causal,seqlen=1,parts=3", "sm_90a")
    assert one.specification("sm_90a")["query_rows"] == 1
    assert one.specification("sm_90a")["causal"] is False  # as the library does
    five = _tune.Problem.parse("head_dim=128,seqlen=5,heads=12,kv_heads=4", "sm_90a")
    assert five.specification("sm_90a")["pack_heads"] is True
    # Short sequences have programs and rows of their own.
    for text in ("head_dim=64,seqlen=4096", "head_dim=96,seqlen=1024"):
        short = _tune.Problem.parse(text, "sm_90a")
        assert short.specification("sm_90a")["query_rows"] == 4096
    for longer in (
        "head_dim=64,seqlen=1024,seqlen_k=4097",
        "head_dim=96,seqlen=1025",
        "head_dim=128,seqlen=1024",
    ):
        problem = _tune.Problem.parse(longer, "sm_90a")
        assert problem.specification("sm_90a")["query_rows"] == 0
    assert short.specification("sm_80")["query_rows"] == 0
    assert len(_tune.usual_problems("sm_90a")) == 12


def test_help(capsys):
    with pytest.raises(SystemExit):
        command("--help")
    text = capsys.readouterr().out.replace("\\\n", "")
    examples = re.findall(r"(?m)^    python3 -m flash_attn_mlir (tune .*)$", text)
    assert len(examples) == 4
    for example in examples:
        assert __main__._parser().parse_args(example.split())


# ---------------------------------------------------------------------------
# Folders
# ---------------------------------------------------------------------------


def test_compile_only(tmp_path, capsys):
    """For a GPU, without one: kernels and what they are, the same in each run."""
    folders = [tmp_path / "first", tmp_path / "second"]
    arguments = ["--chip", "sm_80", "--problem", "head_dim=64,causal,backward", "--candidates", "2"]
    for folder in folders:
        assert command(*arguments, "--compile-only", "-o", folder) == 0
    names = sorted(path.name for path in folders[0].iterdir())
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name
    manifest = json.loads((folders[0] / "manifest.json").read_text())
    assert manifest["chip"] == "sm_80" and manifest["complete"] is True
    (group,) = manifest["groups"]
    assert group["condition"].startswith("work = all")
    default, *others = group["candidates"]
    assert len(others) == 2
    assert {group["forward"], *(c["file"] for c in group["candidates"])} == set(names[:-1])
    spills = _tune._spills
    for candidate in group["candidates"]:
        assert candidate["resources"]["shared_bytes"] <= 163 * 1024
        assert 0 < candidate["resources"]["registers"] <= 255
        assert spills(candidate["resources"]) <= spills(default["resources"])
    # The kernel is there with the schedule that its row says.
    chip, (read,) = _tune.read_folder(folders[0])
    assert chip == "sm_80" and read.problem == _tune.Problem.parse(arguments[3], "sm_80")
    for candidate in read.candidates:
        kernel = _tune._load(folders[0], candidate.kernel)
        rows = [str(row) for row in _schedules.rows_of(kernel.report)]
        assert kernel.cubin and candidate.row in rows
    if fa._fa.device_count() == 0:
        capsys.readouterr()
        assert command("--from", folders[0]) == 1
        assert "sm_80 needs a CUDA device, and there is none" in capsys.readouterr().err


def test_folders_that_do_not_hold(tmp_path, capsys):
    folder = tmp_path / "folder"
    assert command("--from", folder) == 1
    assert "manifest.json" in capsys.readouterr().err
    group = _tune.Group(_tune.Problem.parse(SMALL, "cpu"), "", [])
    _tune.write_folder(folder, "cpu", [group], True)
    file = folder / "manifest.json"
    text = file.read_text()
    for change, message in [
        (lambda m: m | {"library": "0.0.1"}, "library 0.0.1; this is format 1"),
        (lambda m: m | {"format": 0}, "is of format 0"),
        (lambda m: {"format": 1, "library": fa.__version__}, "is no manifest"),
        (lambda m: [], "is no manifest"),
        (lambda m: m | {"groups": [{"problem": {"size": 3}}]}, "is no manifest"),
    ]:
        file.write_text(json.dumps(change(json.loads(text))))
        assert command("--from", folder) == 1
        assert message in capsys.readouterr().err
    file.write_text(text[:30])
    assert command("--from", folder) == 1
    assert "is no manifest" in capsys.readouterr().err


def test_table_that_is_something_else(tmp_path, capsys):
    file = tmp_path / "text"
    file.write_text("something dear")
    assert command("--chip", "cpu", "--table", file) == 1
    assert "is there and no table of schedules" in capsys.readouterr().err
    assert file.read_text() == "something dear"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--compile-only"], "--compile-only and -o FOLDER belong together"),
        (["-o", "x"], "--compile-only and -o FOLDER belong together"),
        (["--from", "x", "--chip", "cpu"], "leave out what names others"),
        (["--chip", "sm_1"], "--chip sm_1: allowed are cpu, sm_75"),
        (["--budget", "0"], "must be positive"),
        (["--candidates", "0"], "must be positive"),
    ],
)
def test_arguments_that_are_refused(arguments, message, capsys):
    assert command(*arguments) == 1
    assert message in capsys.readouterr().err


# ---------------------------------------------------------------------------
# Measuring
# ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "head_dim=24,seqlen=70,seqlen_k=90,heads=4,kv_heads=2,causal",
        "head_dim=32,seqlen=600,seqlen_k=580,heads=1,window_left=17,window_right=3,softcap=2",
        "head_dim=16,seqlen=90,seqlen_k=40,heads=2,causal",  # rows without a key
    ],
)
@pytest.mark.parametrize("backward", [False, True])
def test_reference(text, backward):
    """The reference of the command is that of the tests."""
    problem = _tune.Problem.parse(text + ",backward" * backward, "cpu")
    data = _measure.Data(problem, on_gpu=False)
    data.draw()
    inputs = [data.arrays[name][:1] for name in "qkv"]
    mask = reference.band(
        problem.seqlen, problem.seqlen_k, problem.causal, problem.window_left, problem.window_right
    )
    score = reference.softcap(problem.softcap) if problem.softcap else None
    results = _measure.reference(data)
    if not backward:
        o, *_ = reference.attention(*inputs, mask=mask, score=score)
        np.testing.assert_allclose(results["o"], o[0, :, : problem.group], atol=1e-9)
        return
    derivative = reference.softcap_derivative(problem.softcap) if problem.softcap else None
    expected = reference.attention_backward(
        *inputs, data.arrays["d_o"][:1], mask=mask, score=score, d_score=derivative
    )
    for name, gradient in results.items():
        heads = gradient.shape[1]
        np.testing.assert_allclose(gradient, getattr(expected, name)[0, :, :heads], atol=1e-9)


def small_group(*replaced):
    """A group of the problem SMALL: the default, and others."""
    problem = _tune.Problem.parse(SMALL, "cpu")
    text = _compiler.build(**problem.specification("cpu"))
    default = _tune._compile(text, "cpu", None)
    (row,) = _schedules.rows_of(default.report)
    candidates = [_tune.Candidate(str(row), default)]
    for changes in replaced:
        other = row.replaced(changes)
        kernel = _tune._compile(text, "cpu", _schedules.table([other]))
        candidates.append(_tune.Candidate(str(other), kernel))
    return _tune.Group(problem, row.condition, candidates)


@pytest.fixture
def times(monkeypatch):
    """Milliseconds by tile_n in place of real ones; None is Ctrl-C."""
    milliseconds = {}
    calls = {}
    call = _measure.Data.call

    def named(self, kernel):
        made = call(self, kernel)
        calls[made] = chosen(kernel)[0][2]
        return made

    def time(self, call, count):
        call()
        if milliseconds[calls[call]] is None:
            raise KeyboardInterrupt
        return milliseconds[calls[call]]

    monkeypatch.setattr(_measure.Data, "call", named)
    monkeypatch.setattr(_measure.Timer, "time", time)
    return milliseconds


def test_faster_ones_become_rows(times):
    group = small_group({"tile_n": 16}, {"tile_n": 32}, {"tile_n": 48})
    default = _schedules.Row.parse(group.candidates[0].row).values["tile_n"]
    times.update({default: 2.0, 16: 1.9, 32: 1.0, 48: 9.0})
    results = []
    _tune.measure(group, None, 60.0, _tune.Progress(), results)
    (result,) = results
    assert result.best == 2 and result.ratio(2) == 2.0 and result.is_faster
    assert result.rounds == _tune._MOST_ROUNDS
    assert len(result.times[3]) == 3  # left out when it was hopeless
    rows = _tune.rows_of_results(results, "cpu")
    comment, row = rows[group.condition]
    assert row == group.candidates[2].row
    assert comment.startswith(
        f"// tuned: {group.problem}: 1 ms, 2.00 times as fast (100 rounds, chip cpu"
    )
    file = _schedules.user_file("cpu")
    _schedules.update_file(file, rows)
    assert chosen(fa.compile(**SPEC))[0] == ("tuned", *chosen(group.candidates[2].kernel)[0][1:])
    # Measured again, the library's own is the best: the row goes.
    times.update({16: 2.5, 32: 1.99})
    results = []
    _tune.measure(group, None, 1.0, _tune.Progress(), results)
    assert _tune.rows_of_results(results, "cpu") == {group.condition: None}
    _schedules.update_file(file, _tune.rows_of_results(results, "cpu"))
    assert chosen(fa.compile(**SPEC))[0][0] == "table"


def test_noise_makes_no_row():
    group = small_group()
    group.candidates *= 2
    even = [1.0] * 8
    result = _tune.Result(group, [even, [0.9, 1.1] * 4], {})
    assert not result.is_faster
    assert not _tune.Result(group, [even, [0.99] * 8], {}).is_faster
    assert not _tune.Result(group, [even[:2], [0.5] * 2], {}).is_faster
    assert _tune.Result(group, [even, [0.9, 0.9, 0.9, 1.1] * 2], {}).is_faster


def test_wrong_ones_are_not_timed(times, capsys):
    """A candidate whose results differ from the reference has no time."""
    group = small_group({"tile_n": 16}, {"tile_n": 32})
    full = dataclasses.replace(group.problem, causal=False)
    text = _compiler.build(**full.specification("cpu"))
    group.candidates[1].kernel = _tune._compile(text, "cpu", None)
    default = _schedules.Row.parse(group.candidates[0].row).values["tile_n"]
    times.update({default: 2.0, 16: 0.1, 32: 1.0})
    results = []
    _tune.measure(group, None, 1.0, _tune.Progress(), results)
    assert results[0].times[1] == [] and results[0].wrong[1] > 0.1
    assert results[0].best == 2
    assert "not timed" in capsys.readouterr().err
    # Without a right default there is nothing to compare with.
    group.candidates[0].kernel = group.candidates[1].kernel
    with pytest.raises(RuntimeError, match="the library's own schedule has an error of"):
        _tune.measure(group, None, 1.0, _tune.Progress(), results)


def test_unwritten_results_are_wrong():
    problem = _tune.Problem.parse(SMALL, "cpu")
    data = _measure.Data(problem, on_gpu=False)
    data.draw()
    assert data.error(_measure.reference(data)) == math.inf


def test_interrupted_measurement(times, capsys, tmp_path, monkeypatch):
    """Ctrl-C keeps what was measured."""
    first, second = small_group({"tile_n": 16}), small_group({"tile_n": 32})
    default = _schedules.Row.parse(first.candidates[0].row).values["tile_n"]
    times.update({default: 2.0, 16: 1.0, 32: None})
    second.condition = second.condition.replace("f32", "f64")
    monkeypatch.setattr(_tune, "compile_groups", lambda *arguments: ([first, second], True))
    file = tmp_path / "table.mlir"
    assert command("--chip", "cpu", "--table", file, "--budget", 1) == 130
    assert list(_schedules.read_file(file)) == [first.condition]
    assert "interrupted: what was measured is kept" in capsys.readouterr().err


def test_interrupted_compilation(monkeypatch, tmp_path, capsys):
    """Ctrl-C keeps what was compiled."""
    compiled = []
    compile = _tune._compile

    def until_interrupted(*arguments):
        compiled.append(arguments)
        if len(compiled) == 4:
            raise KeyboardInterrupt
        return compile(*arguments)

    monkeypatch.setattr(_tune, "_compile", until_interrupted)
    folder = tmp_path / "folder"
    arguments = ["--chip", "cpu", "--problem", SMALL, "--compile-only", "-o", folder]
    assert command(*arguments) == 130
    assert "interrupted: what is compiled is kept" in capsys.readouterr().err
    assert json.loads((folder / "manifest.json").read_text())["complete"] is False
    _, (group,) = _tune.read_folder(folder)
    assert 1 <= len(group.candidates) <= 3
    assert _tune._load(folder, group.candidates[0].kernel).object


def test_terminated(tmp_path):
    """SIGTERM, to the process of the command, is as Ctrl-C."""
    folder = tmp_path / "folder"
    arguments = ["--chip", "cpu", "--candidates", "1000", "--compile-only", "-o", str(folder)]
    command = [sys.executable, "-m", "flash_attn_mlir", "tune", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "candidates" in line:
            process.terminate()
            break
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: what is compiled is kept" in err
    _, groups = _tune.read_folder(folder)
    assert groups and groups[0].candidates


@pytest.mark.parametrize("way", ["at once", "in two steps"])
def test_whole_command(tmp_path, capsys, way):
    """Compiled, carried, measured: on the CPU, with a budget of two seconds."""
    file, folder = tmp_path / "table.mlir", tmp_path / "folder"
    arguments = ["--chip", "cpu", "--candidates", "3", "--problem", SMALL]
    arguments += ["--problem", "head_dim=16,seqlen=1,seqlen_k=300,heads=4,kv_heads=2,parts=2"]
    arguments += ["--problem", "head_dim=16,seqlen=40,heads=2,backward,deterministic,window_left=9"]
    if way == "in two steps":
        assert command(*arguments, "--compile-only", "-o", folder) == 0
        arguments = ["--from", folder]
    assert command(*arguments, "--budget", 2, "--table", file) == 0
    out, err = capsys.readouterr()
    for work in ("output", "few", "rows", "keys"):
        assert f": {work}, " in out
    assert "x 1.000  table: tile_m=" in out
    found = re.search(r"(\d) of 4 loop nests have a faster schedule: " + str(file), err)
    assert len(_schedules.read_file(file)) == int(found[1])
    kernel = fa.compile(**SPEC, schedules=file)
    assert not ignored(kernel)


@pytest.mark.gpu
def test_whole_command_on_a_gpu(tmp_path, capsys):
    chip = _compiler.default_chip()
    file, folder = tmp_path / "table.mlir", tmp_path / "folder"
    arguments = ["--chip", chip, "--candidates", "2"]
    for what in ("causal", "causal,backward", "seqlen=1,parts=4"):
        arguments += ["--problem", f"head_dim=64,{what}"]
    assert command(*arguments, "--compile-only", "-o", folder) == 0
    assert command("--from", folder, "--budget", 20, "--table", file) == 0
    out = capsys.readouterr().out
    assert ": output, " in out and ": few, " in out
    assert not ignored(fa.compile(head_dim=64, causal=True, chip=chip, schedules=file))
