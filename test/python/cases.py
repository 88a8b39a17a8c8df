"""Random attention problems: ragged, tiny, dead rows, grouped heads, odd strides."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass
class Case:
    batch: int
    seqlen_q: int
    seqlen_k: int
    heads: int
    heads_k: int
    head_dim: int
    causal: bool = False
    window: tuple[int, int] = (-1, -1)
    softcap: float = 0.0
    scale: float | None = None
    unaligned: bool = False

    def options(self):
        return {
            "causal": self.causal,
            "window_size": self.window,
            "softcap": self.softcap,
            "softmax_scale": self.scale,
        }

    def draw(self, rng):
        """q, k, v in float32, to be rounded to the type under test."""
        q = rng.standard_normal((self.batch, self.seqlen_q, self.heads, self.head_dim))
        k = rng.standard_normal((self.batch, self.seqlen_k, self.heads_k, self.head_dim))
        v = rng.standard_normal((self.batch, self.seqlen_k, self.heads_k, self.head_dim))
        return [x.astype(np.float32) for x in (q, k, v)]

    def reference(self, q, k, v):
        from reference import attention, band, softcap

        return attention(
            q,
            k,
            v,
            self.scale,
            mask=band(self.seqlen_q, self.seqlen_k, self.causal, *self.window),
            score=softcap(self.softcap) if self.softcap else None,
        )

    def gradients(self, q, k, v, dout, dlse=None):
        """`Gradients` in float64, and the sizes that independent errors of their terms
        come to."""
        from reference import attention_backward, band, softcap, softcap_derivative

        return attention_backward(
            q,
            k,
            v,
            dout,
            self.scale,
            mask=band(self.seqlen_q, self.seqlen_k, self.causal, *self.window),
            score=softcap(self.softcap) if self.softcap else None,
            d_score=softcap_derivative(self.softcap) if self.softcap else None,
            d_lse=dlse,
            magnitudes=2,
        )


# Sizes around tile edges, and the shapes in which attention kernels go wrong.
EDGES = [
    Case(1, 1, 1, 1, 1, 8),
    Case(2, 1, 300, 4, 1, 64),  # decode, multi-query
    Case(1, 128, 128, 2, 2, 64),
    Case(1, 129, 127, 2, 2, 64, causal=True),
    Case(1, 200, 64, 2, 1, 32, causal=True),  # the first 136 rows are dead
    Case(1, 64, 200, 2, 1, 32, causal=True),
    Case(1, 100, 100, 1, 1, 64, window=(0, 0)),
    Case(2, 100, 37, 2, 2, 64, window=(5, 3)),  # dead rows on top
    Case(1, 37, 300, 2, 2, 64, window=(16, -1)),
    Case(1, 37, 300, 2, 2, 64, window=(-1, 16)),
    Case(1, 150, 150, 2, 2, 64, causal=True, window=(20, -1)),
    Case(1, 150, 150, 2, 2, 64, window=(-1, 0)),
    Case(1, 130, 140, 2, 2, 64, softcap=5.0),
    Case(1, 130, 140, 2, 2, 64, causal=True, softcap=1.0, window=(40, 0)),
    Case(1, 70, 70, 3, 3, 64, scale=0.0),
    Case(1, 70, 70, 3, 3, 64, scale=-0.3),
    Case(1, 65, 65, 6, 2, 80, causal=True, unaligned=True),
    Case(2, 33, 65, 6, 3, 59, causal=True),
    Case(1, 40, 40, 1, 1, 1),
    Case(1, 40, 40, 1, 1, 256, causal=True),
    Case(1, 40, 0, 2, 2, 64),  # no key at all
    Case(1, 0, 40, 2, 2, 64),  # no query at all
]


def random_case(rng, max_seqlen=200, head_dims=None):
    heads_k = int(rng.integers(1, 4))
    window = (-1, -1)
    if rng.random() < 0.5:
        window = tuple(int(x) for x in rng.integers(-1, 60, 2))
    head_dims = head_dims or [8, 16, 24, 32, 40, 48, 64, 72, 96, 128]
    return Case(
        batch=int(rng.integers(1, 3)),
        seqlen_q=int(rng.integers(1, max_seqlen)),
        seqlen_k=int(rng.integers(1, max_seqlen)),
        heads=heads_k * int(rng.integers(1, 4)),
        heads_k=heads_k,
        head_dim=int(rng.choice(head_dims)),
        causal=bool(rng.random() < 0.5),
        window=window,
        softcap=float(rng.choice([0.0, 0.0, 2.0, 30.0])),
        scale=None if rng.random() < 0.5 else float(rng.uniform(0.01, 0.5)),
        unaligned=bool(rng.random() < 0.3),
    )


def unaligned_numpy(array):
    """The same values with odd strides and an address off by one element."""
    shape = list(array.shape)
    shape[-1] += 3
    shape[-2] += 1
    big = np.full(shape, np.nan).astype(array.dtype)
    view = big[..., 1 : 1 + array.shape[-2], 1 : 1 + array.shape[-1]]
    view[...] = array
    return view


def numpy_in_pairs(array):
    """The same values of 2 bytes, two elements off a multiple of 16 bytes, where
    strides are even and no multiple of 8: 4 bytes of alignment."""
    size = array.shape[-1]
    pitch = next(p for p in range(size + 2, size + 6) if p % 2 == 0 and p % 8)
    rows = array.size // size
    flat = np.full(rows * pitch + 8, np.nan).astype(array.dtype)
    start = -flat.ctypes.data % 16 // 2
    big = flat[start : start + rows * pitch].reshape(*array.shape[:-1], pitch)
    view = big[..., 2 : 2 + size]
    view[...] = array
    return view


def jumping_factors(kind, keys, rng):
    """What keys are multiplied by so that scores jump, and where the first block is wrong."""
    factors = np.ones(keys)
    if kind == "spikes":
        factors[rng.integers(0, keys, 4)] = 10.0 ** rng.uniform(0.5, 3.5, 4)
    elif kind == "step up":
        factors[keys // 2 :] = 60
    elif kind == "step down":
        factors[: keys // 3] = 60
    elif kind == "rising":
        factors = np.linspace(0.01, 300, keys)
    else:
        assert kind == "falling"
        factors = np.linspace(300, 0.01, keys)
    return factors


JUMPS = ["spikes", "step up", "step down", "rising", "falling"]
