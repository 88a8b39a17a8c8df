"""Schedules as text: rows of tables, the legal values near one, and files of tables."""

from __future__ import annotations

import itertools
import os
import re
import tempfile
from pathlib import Path

from . import _fa

# ===-----------------------------------------------------------------------=== #
# Rows
# ===-----------------------------------------------------------------------=== #


# What belongs to a schedule's plan, and what is supposed where nothing is said.
_PLAN = (
    "chip",
    "mma",
    "copy",
    "warps",
    "producers",
    "stages",
    "square",
    "hold_left",
    "overlap",
    "turns",
    "persistent",
    "bulk_stores",
)
_DEFAULTS = {
    "square": False,
    "hold_left": False,
    "overlap": False,
    "turns": False,
    "persistent": False,
    "bulk_stores": False,
    "fixed_reference": False,
    "lazy_maximum": False,
    "partial_sums": False,
    "sequential": False,
}


class Row:
    """A `#fa.choice`: what it serves (`condition`), and a schedule as two dictionaries."""

    def __init__(self, condition: str, fields: dict, plan: dict):
        self.condition, self.fields, self.plan = condition, fields, plan

    @classmethod
    def parse(cls, text: str) -> Row:
        match = re.fullmatch(
            r"(?:#fa\.choice)?<(.*), schedule = <(.*)plan = <(.*?)>(.*)>>", text.strip()
        )
        if match is None:
            raise ValueError(f"{text!r} is no row of a table of schedules")
        condition, before, plan, after = match.groups()
        return cls(condition, _fields(before + after), _fields(plan))

    @property
    def work(self) -> str:
        return re.match(r"work = (\w+)", self.condition)[1]

    @property
    def values(self) -> dict:
        return {**self.fields, **self.plan}

    def value(self, name: str):
        return self.values.get(name, _DEFAULTS.get(name))

    def replaced(self, changes: dict) -> Row:
        """With other values of the schedule; what the compiler supposes is left out."""
        fields, plan = dict(self.fields), dict(self.plan)
        for name, value in changes.items():
            where = plan if name in _PLAN else fields
            where[name] = value
            if value == _DEFAULTS.get(name):
                del where[name]
        return Row(self.condition, fields, plan)

    def __str__(self):
        plan = f"plan = <{_text(self.plan)}>"
        return f"<{self.condition}, schedule = <{_text(self.fields)}, {plan}>>"


def _fields(text: str) -> dict:
    def value(word):
        if word in ("true", "false"):
            return word == "true"
        return int(word) if word.isdigit() else word.strip('"')

    return {name: value(word) for name, word in re.findall(r'(\w+) = ("[^"]*"|\w+)', text)}


def _text(fields: dict) -> str:
    def word(value):
        if isinstance(value, bool):
            return str(value).lower()
        return str(value) if isinstance(value, int) else f'"{value}"'

    return ", ".join(f"{name} = {word(value)}" for name, value in fields.items())


def table(rows) -> str:
    """The text of a `#fa.schedules` of rows."""
    return f'#fa.schedules<"{_fa.version()}", [{", ".join(str(row) for row in rows)}]>'


def rows_of(report: dict) -> list[Row]:
    """What was chosen for the loop nests of a program, in their order."""
    return [
        Row.parse(remark["args"]["row"])
        for remark in report["remarks"]
        if remark["pass"] == "fa-select-schedule" and remark["name"] == "row"
    ]


# ===-----------------------------------------------------------------------=== #
# Candidates
# ===-----------------------------------------------------------------------=== #

# Loop nests that have products; the others are bound by memory.
TUNABLE = ("output", "few", "rows", "keys", "all")

# What is tried, by the instructions of products. The compiler refuses what does not fit.
_VALUES = {
    "vector": {
        "tile_m": (16, 32, 64, 96, 128, 192, 256),
        "tile_n": (16, 32, 64, 96, 128, 192, 256),
    },
    "mma_sync": {
        "tile_m": (16, 32, 64, 128, 192),
        "tile_n": (16, 32, 48, 64, 96, 128),
        "warps": (1, 2, 4, 8),
        "stages": (1, 2, 3, 4),
        "square": (False, True),
        "hold_left": (False, True),
        "lazy_maximum": (False, True),
        "partial_sums": (False, True),
    },
    "wgmma": {
        "tile_m": (64, 128, 192, 256),
        "tile_n": (16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 256),
        "warps": (4, 8, 12),
        "stages": (1, 2, 3, 4),
        "hold_left": (False, True),
        "overlap": (False, True),
        "turns": (False, True),
        "fixed_reference": (False, True),
        "lazy_maximum": (False, True),
        "partial_sums": (False, True),
        "persistent": (False, True),
        "bulk_stores": (False, True),
    },
}


def neighbours(row: Row) -> list[Row]:
    """Other schedules for what `row` serves, the most similar ones first."""
    choices = dict(_VALUES.get(row.value("mma"), {}))
    if row.work == "few":  # the rows of one warp's products
        for name in ("tile_m", "warps", "square"):
            choices.pop(name, None)
    if row.work != "output":
        for name in ("fixed_reference", "lazy_maximum", "partial_sums"):
            choices.pop(name, None)
    # Warps split one dimension of a tile: both change together at the price of one.
    split = "tile_n" if row.work in ("keys", "all") else "tile_m"
    names = list(choices)
    scales = [sorted({*choices[name], row.value(name)}) for name in names]
    found = []
    for combination in itertools.product(*scales):
        other = dict(zip(names, combination))
        costs = {}
        for name, scale in zip(names, scales):
            steps = abs(scale.index(other[name]) - scale.index(row.value(name)))
            costs[name] = 1 + (steps - 1) / 4 if steps else 0
        if not any(costs.values()):
            continue
        if other.get("bulk_stores") and not other["persistent"]:
            continue
        if other.get("hold_left") and other.get("square"):
            continue
        if other.get("fixed_reference") and other.get("lazy_maximum"):
            continue
        if other.get("turns") and other["warps"] < 8:  # one team
            continue
        warps = other.get("warps", row.value("warps"))
        if warps * row.value(split) == row.value("warps") * other.get(split, 0):
            costs[split] = 0
        found.append((sum(costs.values()), combination))
    found.sort()
    return [row.replaced(dict(zip(names, combination))) for _, combination in found]


# ===-----------------------------------------------------------------------=== #
# Files
# ===-----------------------------------------------------------------------=== #


# How the comments begin that stand above rows that were tuned.
TUNED = "// tuned: "


def user_file(chip: str) -> Path:
    """The table that the library consults on this machine; as in lib/Runtime/Cache.cpp."""
    if "FA_CACHE_DIR" in os.environ:
        if not os.environ["FA_CACHE_DIR"]:
            raise ValueError("FA_CACHE_DIR is empty: there is no file of schedules")
        folder = Path(os.environ["FA_CACHE_DIR"])
    else:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home) / "fa"
    return folder / f"schedules-{chip}.mlir"


def _lines(path: Path) -> tuple[list[str], list[str], list[str]]:
    """The lines of a table before its rows, of its rows and comments, and after them.

    An empty table where the file has none of this version.
    """
    opening = f'#fa.schedules<"{_fa.version()}", ['
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    first = [i for i, line in enumerate(lines) if line.endswith(opening)]
    last = [i for i, line in enumerate(lines) if line.startswith("]>")]
    if len(first) != 1 or len(last) != 1 or first[0] > last[0]:
        return [f"module attributes {{fa.schedules = {opening}"], [], ["]>} {}"]
    return lines[: first[0] + 1], lines[first[0] + 1 : last[0]], lines[last[0] :]


def _condition(line: str) -> str | None:
    """What the row in this line of a table serves."""
    line = line.strip().rstrip(",")
    try:
        return Row.parse(line).condition if line.startswith("<") else None
    except ValueError:
        return None


def read_file(path: Path) -> dict[str, str]:
    """Condition -> row of the table in `path`; nothing if there is none of this version."""
    rows = {_condition(line): line.strip().rstrip(",") for line in _lines(path)[1]}
    rows.pop(None, None)
    return rows


def update_file(path: Path, results: dict[str, list[str] | None]) -> None:
    """Replaces, or where they are None removes, rows of the table in `path`.

    The results are lines: comments, then the row. They come first, so that they are
    chosen before rows that serve more. Everything else stays as it is, and other
    processes see the old table or the new one.
    """
    before, body, after = _lines(path)
    kept = []
    for line in body:
        if _condition(line) in results:
            while kept and kept[-1].strip().startswith(TUNED):
                kept.pop()
        else:
            kept.append(line)
    new = [f"  {line}" for lines in results.values() if lines for line in lines]
    body = [*new, *kept]
    rows = [i for i, line in enumerate(body) if line.strip().startswith("<")]
    for i in rows:
        body[i] = body[i].rstrip().rstrip(",") + ("," if i != rows[-1] else "")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=path.name, suffix=".tmp", delete=False
    ) as file:
        file.write("\n".join([*before, *body, *after]) + "\n")
    os.replace(file.name, path)
