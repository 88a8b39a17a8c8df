#!/usr/bin/env python3
"""Draws what `attention.py gpu` measured: one SVG per JSON file, without other packages.

    benchmarks/plot.py benchmarks/results/*.json      # to docs/images

A panel per head size and mask: TFLOP/s over the sequence length, a line per kernel.
"""

from __future__ import annotations

import argparse
import json
import math
from html import escape
from pathlib import Path

# By kernel, so that a colour means the same in all images.
COLOURS = {
    "fa sm_90a": "#d62728",
    "fa sm_80": "#ff7f0e",
    "torch cudnn": "#1f77b4",
    "torch flash": "#2ca02c",
    "torch flex": "#9467bd",
    "FlashAttention-3": "#bcbd22",
}
OTHERS = ("#8c564b", "#7f7f7f", "#17becf")
WIDTH, HEIGHT = 300, 220  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 26, 30  # inside of it
HEADER = 58


def mask_of(cell):
    # Older files say whether it is causal.
    return cell.get("mask") or ("causal" if cell["causal"] else "full")


def nice_step(top):
    """A round distance of grid lines, four to eight of them up to `top`."""
    step = 10 ** math.floor(math.log10(top / 4))
    return next(step * factor for factor in (1, 2, 5, 10) if top / (step * factor) <= 8)


def text(x, y, content, anchor="middle", size=11, weight="normal"):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'font-weight="{weight}" fill="#222">{escape(str(content))}</text>'
    )


def panel(x0, y0, title, series, colours):
    """One panel at (x0, y0); series: name -> {sequence length: TFLOP/s}."""
    lengths = sorted({length for points in series.values() for length in points})
    top = max(value for points in series.values() for value in points.values()) * 1.08
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(length, value):
        position = lengths.index(length) / max(1, len(lengths) - 1)
        return x0 + LEFT + position * inner_width, y0 + TOP + (1 - value / top) * inner_height

    parts = [text(x0 + LEFT + inner_width / 2, y0 + 16, title, size=12, weight="bold")]
    step = nice_step(top)
    for line in range(int(top / step) + 1):
        _, y = at(lengths[0], line * step)
        parts.append(
            f'<line x1="{x0 + LEFT}" x2="{x0 + WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
            f'stroke="#ddd"/>'
        )
        parts.append(text(x0 + LEFT - 5, y + 4, f"{line * step:g}", "end", 10))
    for length in lengths:
        x, _ = at(length, 0)
        name = f"{length // 1024}k" if length % 1024 == 0 else length
        parts.append(text(x, y0 + HEIGHT - BOTTOM + 15, name, size=10))
    for name, points in series.items():
        places = [at(length, points[length]) for length in sorted(points)]
        parts.append(
            f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}" fill="none" '
            f'stroke="{colours[name]}" stroke-width="2"/>'
        )
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colours[name]}"/>' for x, y in places
        ]
    return parts


def draw(result) -> str:
    panels = {}
    for cell in result["cells"]:
        if "tflops" in cell:
            _, seqlen, _, head_dim = cell["shape"]
            series = panels.setdefault((head_dim, mask_of(cell)), {})
            series.setdefault(cell["name"], {})[seqlen] = cell["tflops"]
    masks = list(dict.fromkeys(mask for _, mask in panels))
    head_dims = sorted({head_dim for head_dim, _ in panels})
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    others = iter(OTHERS * len(names))
    colours = {name: COLOURS.get(name) or next(others) for name in names}

    width = max(WIDTH * len(head_dims), 620)
    height = HEADER + HEIGHT * len(masks)
    dtype = result["cells"][0]["dtype"]
    what = "backward" if "--backward" in result["command"] else "forward"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        text(
            width / 2,
            18,
            f"{result['device']}, {dtype}, {what}: TFLOP/s over the sequence length",
            size=13,
            weight="bold",
        ),
    ]
    x = 14.0
    for name in names:
        parts.append(f'<rect x="{x:.1f}" y="31" width="14" height="4" fill="{colours[name]}"/>')
        parts.append(text(x + 18, 38, name, "start"))
        x += 32 + 6.4 * len(name)
    for row, mask in enumerate(masks):
        for column, head_dim in enumerate(head_dims):
            if series := panels.get((head_dim, mask)):
                title = f"D {head_dim}, {mask}"
                place = (column * WIDTH, HEADER - 8 + row * HEIGHT)
                parts += panel(*place, title, series, colours)
    return "\n".join([*parts, "</svg>", ""])


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="JSON", type=Path)
    images = Path(__file__).resolve().parents[1] / "docs" / "images"
    parser.add_argument("--output", type=Path, default=images, metavar="FOLDER")
    args = parser.parse_args(argv)
    args.output.mkdir(parents=True, exist_ok=True)
    for path in args.files:
        result = json.loads(path.read_text(encoding="utf-8"))
        image = args.output / path.with_suffix(".svg").name
        image.write_text(draw(result), encoding="utf-8")
        print(image)


if __name__ == "__main__":
    main()
