"""What fa.attention means, in float64 NumPy, written from the op's documentation.

Independent of the compiler: plain loops over batch and head, one N x N matrix
per head, no blocks, no running maximum.
"""

from __future__ import annotations

import numpy as np


def band(seqlen_q, seqlen_k, causal=False, left=-1, right=-1):
    """FlashAttention-2's masks as a function (b, h, m, n) -> bool array.

    `seqlen_q` and `seqlen_k` may be arrays with one length per batch.
    """
    if causal:
        right = 0
    lq, lk = np.asarray(seqlen_q), np.asarray(seqlen_k)

    def keep(b, h, m, n):
        shift = (lk[b] if lk.ndim else lk) - (lq[b] if lq.ndim else lq)
        live = np.ones(np.broadcast_shapes(m.shape, n.shape), bool)
        if left >= 0:
            live &= n >= m + shift - left
        if right >= 0:
            live &= n <= m + shift + right
        return live

    return keep


def softcap(cap):
    return lambda s, b, h, m, n: cap * np.tanh(s / cap)


def attention(
    q,
    k,
    v,
    scale=None,
    mask=None,
    score=None,
    q_lengths=None,
    k_lengths=None,
    init_lse=None,
    dead_lse=-np.inf,
):
    """q (B, Sq, H, D), k (B, Sk, Hk, D), v (B, Sk, Hk, Dv) of any float type.

    `mask(b, h, m, n)` and `score(s, b, h, m, n)` get m as a column and n as a
    row. Returns o (B, Sq, H, Dv) and lse (B, H, Sq) in float64.
    """
    q, k, v = (np.asarray(x).astype(np.float64) for x in (q, k, v))
    batch, seqlen_q, heads, head_dim = q.shape
    seqlen_k, heads_k = k.shape[1:3]
    group = heads // heads_k
    scale = head_dim**-0.5 if scale is None else scale
    o = np.zeros((batch, seqlen_q, heads, v.shape[3]))
    lse = np.full((batch, heads, seqlen_q), dead_lse, np.float64)

    for b in range(batch):
        # Nothing beyond the lengths is ever looked at.
        lq = seqlen_q if q_lengths is None else int(q_lengths[b])
        lk = seqlen_k if k_lengths is None else int(k_lengths[b])
        m, n = np.arange(lq)[:, None], np.arange(lk)[None, :]
        for h in range(heads):
            s = scale * (q[b, :lq, h] @ k[b, :lk, h // group].T)
            if score is not None:
                s = score(s, b, h, m, n)
            live = s != -np.inf
            if mask is not None:
                live &= mask(b, h, m, n)
            s = np.where(live, s, -np.inf)
            start = np.full(lq, -np.inf) if init_lse is None else np.float64(init_lse[b, h, :lq])
            top = np.maximum(s.max(axis=1, initial=-np.inf), start)
            finite = np.where(np.isneginf(top), 0.0, top)
            total = np.exp(s - finite[:, None]).sum(axis=1) + np.exp(start - finite)
            dead = total == 0
            with np.errstate(divide="ignore"):
                row_lse = np.where(dead, dead_lse, finite + np.log(total))
            p = np.where(live, np.exp(s - np.where(dead, 0.0, row_lse)[:, None]), 0.0)
            values = v[b, :lk, h // group]
            if np.isfinite(values).all():
                rows = p @ values
            else:  # 0 * NaN: a key that is not kept must not leak
                rows = np.stack([p[i, live[i]] @ values[live[i]] for i in range(lq)])
            o[b, :lq, h] = np.where(dead[:, None], 0.0, rows)
            lse[b, h, :lq] = row_lse
    return o, lse


def errors(actual, expected):
    """(relative L2 over the tensor, largest relative error of a row).

    Rows that are zero in `expected` must be zero in `actual`, exactly.
    """
    actual = np.asarray(actual).astype(np.float64)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    difference = actual - expected
    norms = np.linalg.norm(expected, axis=-1)
    row_errors = np.linalg.norm(difference, axis=-1)
    dead = norms == 0
    assert (actual[dead] == 0).all(), "a row without a live key is not exactly zero"
    if dead.all():
        return 0.0, 0.0
    rows = row_errors[~dead] / norms[~dead]
    # NaN must not pass for a small error.
    return (
        float(np.linalg.norm(difference) / np.linalg.norm(expected)),
        float(rows.max()) if not np.isnan(rows).any() else float("nan"),
    )


# Bounds on (relative L2, largest row error, absolute error of lse / (1 + |lse|)).
# 16-bit types: the rounding of p and of the result, unit roundoff u, about one
# u each; a row of few elements can miss by more. f32: sums of some hundred terms.
BOUNDS = {
    "float16": (1.0e-3, 2.5e-3, 1e-5),
    "bfloat16": (8.0e-3, 2.0e-2, 1e-5),
    "float32": (2.0e-6, 1.0e-5, 2e-6),
    "float64": (1.0e-14, 1.0e-13, 1e-14),
}


def check(dtype, out, lse, expected_out, expected_lse):
    """Asserts that a result is within the bounds of its type."""
    tensor, row, log = BOUNDS[dtype]
    measured_tensor, measured_row = errors(out, expected_out)
    assert measured_tensor <= tensor, f"relative L2 {measured_tensor:.3g} > {tensor:.3g}"
    # A row of a few numbers can cancel to almost nothing: no relative error then.
    if expected_out.shape[-1] >= 8:
        assert measured_row <= row, f"largest row error {measured_row:.3g} > {row:.3g}"
    lse = np.asarray(lse).astype(np.float64)
    dead = ~np.isfinite(expected_lse)
    np.testing.assert_array_equal(lse[dead], expected_lse[dead], "lse of dead rows")
    live = lse[~dead]
    distance = np.abs(live - expected_lse[~dead]) / (1 + np.abs(expected_lse[~dead]))
    assert not live.size or distance.max() <= log, f"lse error {distance.max():.3g} > {log:.3g}"


def _rows(q, k, scale, mask, score, q_lengths, k_lengths):
    """Per (b, h): (lq, lk, m, n, raw scores, scores, kept by the mask and not -inf)."""
    batch, seqlen_q, heads, _ = q.shape
    seqlen_k, heads_k = k.shape[1:3]
    for b in range(batch):
        lq = seqlen_q if q_lengths is None else int(q_lengths[b])
        lk = seqlen_k if k_lengths is None else int(k_lengths[b])
        m, n = np.arange(lq)[:, None], np.arange(lk)[None, :]
        for h in range(heads):
            raw = scale * (q[b, :lq, h] @ k[b, :lk, h // (heads // heads_k)].T)
            s = raw if score is None else score(raw, b, h, m, n)
            live = s != -np.inf
            if mask is not None:
                live &= mask(b, h, m, n)
            yield b, h, lq, lk, m, n, raw, s, live


def attention_backward(
    q,
    k,
    v,
    o,
    lse,
    d_o,
    d_lse=None,
    scale=None,
    mask=None,
    score=None,
    derivative=None,
    captures=(),
    q_lengths=None,
    k_lengths=None,
):
    """What fa.attention_backward means; arguments as in `attention`.

    `derivative(raw, b, h, m, n, ds)` returns dr and, for each of `captures`, a
    pair (index arrays, element gradients) for np.add.at. `captures` are the
    shapes of their gradients. Returns dq, dk, dv, delta and the list of those.
    """
    q, k, v, o, lse, d_o = (np.asarray(x).astype(np.float64) for x in (q, k, v, o, lse, d_o))
    group = q.shape[2] // k.shape[2]
    scale = q.shape[3] ** -0.5 if scale is None else scale
    dq, dk, dv, delta = (np.zeros(x.shape) for x in (q, k, v, lse))
    gradients = [np.zeros(shape) for shape in captures]
    for b, h, lq, lk, m, n, raw, s, live in _rows(q, k, scale, mask, score, q_lengths, k_lengths):
        row_lse = lse[b, h, :lq]
        alive = ~np.isinf(row_lse)
        live &= alive[:, None]
        p = np.where(live, np.exp(np.where(live, s, 0) - np.where(alive, row_lse, 0)[:, None]), 0)
        row_delta = (o[b, :lq, h] * d_o[b, :lq, h]).sum(axis=1)
        if d_lse is not None:
            row_delta -= d_lse[b, h, :lq]
        delta[b, h, :lq] = row_delta = np.where(alive, row_delta, 0)
        dp = d_o[b, :lq, h] @ v[b, :lk, h // group].T
        ds = np.where(live, p * (dp - row_delta[:, None]), 0)
        dr, elements = (ds, ()) if derivative is None else derivative(raw, b, h, m, n, ds)
        dr = np.where(live, dr, 0)
        dq[b, :lq, h] = scale * dr @ k[b, :lk, h // group]
        dk[b, :lk, h // group] += scale * dr.T @ q[b, :lq, h]
        dv[b, :lk, h // group] += p.T @ d_o[b, :lq, h]
        for gradient, (indices, element) in zip(gradients, elements, strict=True):
            element = np.where(live, element, 0)
            if indices:
                np.add.at(gradient, tuple(np.broadcast_arrays(*indices, live)[:-1]), element)
            else:
                gradient += element.sum()
    return dq, dk, dv, delta, gradients
