#!/usr/bin/env python3
"""Trains a small character-level GPT twice from one seed: with this project's
attention and with PyTorch's. The two loss curves must lie on each other.

In 16 bits rounding alone parts the curves of two runs. How far is measured: more runs
have PyTorch's attention by other kernels of its own, and this project's curve must be no
further from the nearest of them than twice what they are from each other (docs/performance.md
says why twice).

The text is text.txt beside this file: documentation and sources of this repository as
they once were, joined by

    cat README.md docs/*.md $(git ls-files 'include/*.td' 'lib/Dialect/*.cpp')

Examples:

    examples/train_gpt.py                                   # CPU, a minute
    examples/train_gpt.py --device cuda --dtype bfloat16 --steps 2000 \\
        --layers 6 --width 768 --heads 6 --seqlen 1024 --batch 16 --plot curves.png

Prints the largest difference between the curves and the time of a step of each;
exits with 1 when they differ by more than --tolerance (in 16 bits: by more than twice what
PyTorch's own do, if that is more) or do not fall.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from pathlib import Path

import torch
from flash_attn_mlir import flash_attn_func
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

TEXT = Path(__file__).resolve().with_name("text.txt")


def with_torch(q, k, v):
    """PyTorch's attention on (batch, seqlen, heads, head_dim)."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)


def with_backend(backend):
    """The same by one of its kernels."""

    def attention(q, k, v):
        with sdpa_kernel(backend):
            return with_torch(q, k, v)

    return attention


def with_fa(q, k, v):
    return flash_attn_func(q, k, v, causal=True)


ATTENTION = {
    "PyTorch": with_torch,
    "flash_attn_mlir": with_fa,
    "PyTorch, math": with_backend(SDPBackend.MATH),
    "PyTorch, efficient": with_backend(SDPBackend.EFFICIENT_ATTENTION),
}


def contestants(args):
    """Names of `ATTENTION`: PyTorch's choice, this project's, and PyTorch's others."""
    names = ["PyTorch", "flash_attn_mlir"]
    if args.dtype != "float32":
        names += ["PyTorch, math"] + ["PyTorch, efficient"] * (args.device == "cuda")
    return names


class Block(nn.Module):
    """Attention and a perceptron, each behind a norm and around a shortcut."""

    def __init__(self, width, heads, attention):
        super().__init__()
        self.heads, self.attention = heads, attention
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x):
        batch, seqlen, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, seqlen, 3, self.heads, width // self.heads)
        x = x + self.out(self.attention(*qkv.unbind(2)).reshape(x.shape))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, vocabulary, args, attention):
        super().__init__()
        self.token = nn.Embedding(vocabulary, args.width)
        self.position = nn.Embedding(args.seqlen, args.width)
        self.blocks = nn.Sequential(
            *(Block(args.width, args.heads, attention) for _ in range(args.layers))
        )
        self.norm, self.head = nn.LayerNorm(args.width), nn.Linear(args.width, vocabulary)

    def forward(self, tokens):
        x = self.token(tokens) + self.position.weight[: tokens.shape[1]]
        return self.head(self.norm(self.blocks(x)))


def load_text():
    """Tokens (one per character) and the number of different ones."""
    if not TEXT.is_file():
        sys.exit(f"{TEXT} is missing; it lies beside this script in the repository: copy it there")
    text = TEXT.read_text(encoding="utf-8")
    characters = sorted(set(text))
    index = {c: i for i, c in enumerate(characters)}
    return torch.tensor([index[c] for c in text]), len(characters)


def train(name, tokens, vocabulary, args):
    """The loss of every step and the median seconds of one."""
    torch.manual_seed(args.seed)
    model = GPT(vocabulary, args, ATTENTION[name]).to(args.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.rate)
    draw = torch.Generator().manual_seed(args.seed)
    dtype = getattr(torch, args.dtype)
    synchronize = torch.cuda.synchronize if args.device == "cuda" else lambda: None
    losses, seconds = [], []
    for step in range(args.steps):
        starts = torch.randint(len(tokens) - args.seqlen - 1, (args.batch,), generator=draw)
        window = torch.stack([tokens[s : s + args.seqlen + 1] for s in starts]).to(args.device)
        synchronize()
        start = time.perf_counter()
        with torch.autocast(args.device, dtype, enabled=dtype != torch.float32):
            logits = model(window[:, :-1])
        loss = functional.cross_entropy(logits.flatten(0, 1).float(), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        synchronize()
        seconds.append(time.perf_counter() - start)
        losses.append(loss.item())
        if sys.stderr.isatty() or step % max(1, args.steps // 10) == 0:
            print(f"\r{name}: step {step + 1}/{args.steps}, loss {losses[-1]:.3f}",
                  end="" if sys.stderr.isatty() else "\n", file=sys.stderr)  # fmt: skip
    print(f"\r{name}: {args.steps} steps, loss {losses[0]:.3f} to {losses[-1]:.3f}")
    return losses, sorted(seconds)[len(seconds) // 2]


def plot(curves, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (top, bottom) = pyplot.subplots(
        2, 1, sharex=True, height_ratios=(3, 1), figsize=(7, 5), layout="constrained"
    )
    pair = ("PyTorch", "flash_attn_mlir")
    for name, style in zip(pair, ({"linewidth": 4, "alpha": 0.4}, {})):
        top.plot(curves[name], label=name, **style)
    top.set_ylabel("loss (nats per character)")
    top.legend()
    bottom.plot([a - b for a, b in zip(*(curves[name] for name in pair))], color="gray")
    bottom.set_ylabel("difference")
    bottom.set_xlabel("step")
    figure.savefig(path, dpi=120)


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    add("--steps", type=int, default=200)
    add("--layers", type=int, default=2)
    add("--width", type=int, default=128)
    add("--heads", type=int, default=4)
    add("--seqlen", type=int, default=128)
    add("--batch", type=int, default=8)
    add("--rate", type=float, default=1e-3)
    add("--seed", type=int, default=1)
    add("--tolerance", type=float, default=0.02, help="largest difference of smoothed losses")
    add("--json", metavar="FILE")
    add("--plot", metavar="FILE", help="needs matplotlib")
    return parser.parse_args(arguments)


def smoothed(losses, window=20):
    """Means over the last steps: rounding makes single steps of two runs differ."""
    window = min(window, len(losses))
    return [sum(losses[i : i + window]) / window for i in range(len(losses) - window + 1)]


def distance(a, b):
    return max(abs(x - y) for x, y in zip(a, b))


def run(args):
    tokens, vocabulary = load_text()
    curves, step_seconds = {}, {}
    for name in contestants(args):
        curves[name], step_seconds[name] = train(name, tokens, vocabulary, args)
    peers = [smoothed(curves[name]) for name in curves if name != "flash_attn_mlir"]
    difference = min(distance(smoothed(curves["flash_attn_mlir"]), peer) for peer in peers)
    own = [distance(a, b) for a, b in itertools.combinations(peers, 2)]
    allowed = max([args.tolerance, *(2 * value for value in own)])
    for name, seconds in step_seconds.items():
        print(f"{name}: {seconds * 1e3:.1f} ms per step")
    print(f"largest difference of the smoothed curves: {difference:.2g}, allowed: {allowed:.2g}")
    if own:
        print(f"PyTorch's own differ by {min(own):.2g} to {max(own):.2g}")
    result = {
        "curves": curves,
        "step_seconds": step_seconds,
        "difference": difference,
        "allowed": allowed,
    }
    if args.json:
        Path(args.json).write_text(json.dumps({"arguments": vars(args), **result}))
    if args.plot:
        plot(curves, args.plot)
    return result


def main():
    args = parse()
    result = run(args)
    ours = smoothed(result["curves"]["flash_attn_mlir"])
    return int(not (result["difference"] <= result["allowed"] and ours[-1] < ours[0]))


if __name__ == "__main__":
    sys.exit(main())
