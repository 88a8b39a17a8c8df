"""What fa.attention and fa.attention_backward mean, in float64 NumPy, written from
the ops' documentation.

Independent of the compiler: plain loops over batch and head, one N x N matrix
per head, no blocks, no running maximum.
"""

from __future__ import annotations

import math
from typing import NamedTuple

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


def softcap_derivative(cap):
    return lambda s, b, h, m, n: 1 - np.tanh(s / cap) ** 2


class Sizes(NamedTuple):
    """What rounding errors of a row are relative to: two arrays (B, H, Sq).

    A sum of D products q_d k_d is computed with an error of about u |q| |k|, u the
    unit roundoff: its rounding errors are those of its partial sums. The score
    region passes that on by its slope and rounds its result. lse moves by the mean
    of these errors, weighted with the softmax p, and rounds itself:
        score = 1 + |lse| + sum_n p_n (slope_n scale |q| |k_n| + |score_n|)
    The relative errors of the products p_n v_n are independent, so that their sum
    has an absolute error also where it cancels:
        value = max(|o|, sqrt(sum_n p_n^2 |v_n|^2))
    """

    score: object
    value: object


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
    row. Returns o (B, Sq, H, Dv) and lse (B, H, Sq) in float64, and their `Sizes`.
    """
    q, k, v = (np.asarray(x).astype(np.float64) for x in (q, k, v))
    batch, seqlen_q, heads, head_dim = q.shape
    seqlen_k, heads_k = k.shape[1:3]
    group = heads // heads_k
    scale = head_dim**-0.5 if scale is None else scale
    o = np.zeros((batch, seqlen_q, heads, v.shape[3]))
    lse = np.full((batch, heads, seqlen_q), dead_lse, np.float64)
    sizes = Sizes(np.ones(lse.shape), np.zeros(lse.shape))

    for b in range(batch):
        # Nothing beyond the lengths is ever looked at.
        lq = seqlen_q if q_lengths is None else int(q_lengths[b])
        lk = seqlen_k if k_lengths is None else int(k_lengths[b])
        m, n = np.arange(lq)[:, None], np.arange(lk)[None, :]
        for h in range(heads):
            s = scale * (q[b, :lq, h] @ k[b, :lk, h // group].T)
            norms = (np.linalg.norm(x, axis=1) for x in (q[b, :lq, h], k[b, :lk, h // group]))
            products = abs(scale) * np.outer(*norms)
            if score is not None:
                step = 1e-7 * products
                moved = score(s + step, b, h, m, n)
                s = score(s, b, h, m, n)
                with np.errstate(invalid="ignore"):
                    products = np.abs(moved - s) * 1e7
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
            score_sizes = (p * np.where(live, products + np.abs(s), 0.0)).sum(axis=1)
            score_sizes += 1 + np.abs(np.where(dead, 0.0, row_lse))
            sizes.score[b, h, :lq] = score_sizes
            finite_values = np.where(np.isfinite(values), values, 0.0)
            value_sizes = np.sqrt(p**2 @ (finite_values**2).sum(axis=1))
            sizes.value[b, h, :lq] = np.maximum(value_sizes, np.linalg.norm(rows, axis=1))
    return o, lse, sizes


class Gradients(NamedTuple):
    delta: np.ndarray  # (B, H, Sq)
    d_q: np.ndarray
    d_k: np.ndarray
    d_v: np.ndarray


class Capture(NamedTuple):
    """A capture whose gradient `attention_backward` adds to `gradient`, and its
    magnitude to `size`. `slope(raw, b, h, m, n)` returns the indices of the element
    that each score reads and the derivative of the score by it."""

    gradient: np.ndarray
    size: np.ndarray
    slope: object

    def add(self, to, at, ds, live):
        indices, slope = self.slope(*at)
        *indices, slope, _ = np.broadcast_arrays(*indices, slope, live)
        slope = np.where(live, np.abs(slope) if to is self.size else slope, 0.0)
        np.add.at(to, tuple(indices) or ..., slope * ds if indices else (slope * ds).sum())


def attention_backward(
    q,
    k,
    v,
    d_o,
    scale=None,
    mask=None,
    score=None,
    d_score=None,
    q_lengths=None,
    k_lengths=None,
    d_lse=None,
    init_lse=None,
    captures=(),
    magnitudes=0,
    d_score_size=None,
):
    """Gradients of `sum(o * d_o) + sum(lse * d_lse)`, o and lse those of `attention`.

    `d_score(raw, b, h, m, n)` is the derivative of `score` by its first argument;
    `captures` are `Capture`s. `d_score_size` is what the derivative would be if no term
    of its own cancelled another; by default its absolute value.
    With `magnitudes`, the second of two results holds what rounding errors are
    proportional to. 1: what each sum would be if no term cancelled another; no error
    is larger. 2: the root of the sum of the terms' squares, which is what independent
    errors of the terms come to.
    """
    o, lse, _ = attention(q, k, v, scale, mask, score, q_lengths, k_lengths, init_lse)
    q, k, v, d_o = (np.asarray(x).astype(np.float64) for x in (q, k, v, d_o))
    batch, seqlen_q, heads, head_dim = q.shape
    seqlen_k, heads_k = k.shape[1:3]
    group = heads // heads_k
    scale = head_dim**-0.5 if scale is None else scale
    result, sizes = (
        Gradients(np.zeros(lse.shape), *(np.zeros(x.shape) for x in (q, k, v))) for _ in range(2)
    )

    for b in range(batch):
        lq = seqlen_q if q_lengths is None else int(q_lengths[b])
        lk = seqlen_k if k_lengths is None else int(k_lengths[b])
        m, n = np.arange(lq)[:, None], np.arange(lk)[None, :]
        for h in range(heads):
            queries, rows = q[b, :lq, h], d_o[b, :lq, h]
            keys, values = k[b, :lk, h // group], v[b, :lk, h // group]
            raw = scale * (queries @ keys.T)
            s = raw if score is None else score(raw, b, h, m, n)
            alive = np.isfinite(lse[b, h, :lq])
            live = (s != -np.inf) & alive[:, None]
            if mask is not None:
                live &= mask(b, h, m, n)
            exponent = np.where(live, s, 0.0) - np.where(alive, lse[b, h, :lq], 0.0)[:, None]
            p = np.where(live, np.exp(np.where(live, exponent, 0.0)), 0.0)
            d_lse_row = np.zeros(lq) if d_lse is None else np.float64(d_lse[b, h, :lq])
            outputs = o[b, :lq, h]
            slope = 1.0 if d_score is None else np.where(live, d_score(raw, b, h, m, n), 0.0)
            slope_size = slope
            if d_score_size is not None:
                slope_size = np.where(live, d_score_size(raw, b, h, m, n), 0.0)

            def add(to, sign, p, queries, rows, keys, values, outputs, d_lse_row, slope, scale):
                delta = np.where(alive, (outputs * rows).sum(axis=1) - sign * d_lse_row, 0.0)
                ds = p * (rows @ values.T - sign * delta[:, None])
                dr = slope * ds
                to.delta[b, h, :lq] = delta
                to.d_q[b, :lq, h] = scale * (dr @ keys)
                to.d_k[b, :lk, h // group] += scale * (dr.T @ queries)
                to.d_v[b, :lk, h // group] += p.T @ rows
                for capture in captures:
                    sum_of = capture.gradient if to is result else capture.size
                    capture.add(sum_of, (raw, b, h, m, n), ds, live)

            terms = (p, queries, rows, keys, values, outputs, d_lse_row)
            add(result, 1, *terms, slope, scale)
            if magnitudes:
                of_sizes = (*terms, slope_size, scale)
                add(sizes, -1, *(np.abs(x) ** magnitudes for x in of_sizes))
    if magnitudes == 2:
        sizes = Gradients(*map(np.sqrt, sizes))
    return (result, sizes) if magnitudes else result


def errors(actual, expected):
    """(relative L2 over the tensor, largest relative error of a row).

    Rows that are zero in `expected` must be zero in `actual`, exactly.
    """
    tensor, rows = _errors(actual, expected, np.linalg.norm(expected, axis=-1))
    # NaN must not pass for a small error.
    return tensor, float(rows.max() if not np.isnan(rows).any() else "nan")


def _errors(actual, expected, norms):
    """The L2 error of the tensor and of each row, relative to `norms` of the rows."""
    actual = np.asarray(actual).astype(np.float64)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    rows = np.linalg.norm(actual - expected, axis=-1)
    dead = norms == 0
    assert (actual[dead] == 0).all(), "a row without a live key is not exactly zero"
    if dead.all():
        return 0.0, np.zeros_like(norms)
    tensor = np.linalg.norm(rows) / np.linalg.norm(norms)
    rows[~dead] /= norms[~dead]
    return float(tensor), rows


# Unit roundoffs of what is stored, and of the type that sums are computed in.
ROUNDOFF = {
    "float16": (2.0**-11, 2.0**-24),
    "bfloat16": (2.0**-8, 2.0**-24),
    "float32": (2.0**-24, 2.0**-24),
    "float64": (2.0**-53, 2.0**-53),
}


def bounds(dtype, score_size):
    """Bounds on the error of the tensor, the errors of rows (both relative to
    Sizes.value) and the absolute errors of lse, for rows of `score_size`.

    The rounding of p and of the result, about one unit roundoff of the type each (a
    row of few elements can miss by more), and that of the scores and sums in the
    accumulator, float32 or float64. The factors are those of errors that add up at
    random, with a margin of two; not worst cases. Over few rows less averages out: the
    tensor of one row has about the bound of a row.
    """
    unit, accumulator = ROUNDOFF[dtype]
    factor = 1.5 * (1 + 10 / math.prod(score_size.shape)) ** 0.5
    tensor = 2 * unit + factor * accumulator * (score_size**2).mean() ** 0.5
    row = 5 * accumulator * score_size
    return float(tensor), 5 * unit + row, row


def check(dtype, out, lse, expected_out, expected_lse, sizes):
    """Asserts that a result is within the bounds of its type: `expected_out`,
    `expected_lse` and `sizes` are what `attention` returns."""
    lse = np.asarray(lse).astype(np.float64)
    dead = ~np.isfinite(expected_lse)
    np.testing.assert_array_equal(lse[dead], expected_lse[dead], "lse of dead rows")
    if not out.size:
        return
    tensor_bound, row_bounds, lse_bounds = bounds(dtype, sizes.score)
    tensor, rows = _errors(out, expected_out, sizes.value.swapaxes(1, 2))
    assert tensor <= tensor_bound, f"relative L2 {tensor:.3g} > {tensor_bound:.3g}"
    _within("row error", rows, row_bounds.swapaxes(1, 2))
    _within("lse error", np.abs(lse[~dead] - expected_lse[~dead]), lse_bounds[~dead])


def _within(what, errors, bound):
    exceeding = ~(errors <= bound)  # NaN exceeds
    assert not exceeding.any(), (
        f"{what} {errors[exceeding].max():.3g} > {bound[exceeding].max():.3g} "
        f"in {exceeding.sum()} of {errors.size} rows"
    )


def check_gradients(dtype, actual, expected, sizes, terms, scores=0.0):
    """Asserts that gradients are within the errors that rounding can make.

    `actual` maps names of `Gradients` to arrays; `expected` and `sizes` come from
    `attention_backward(magnitudes=True)`; `terms` bounds how many products one
    element sums, scores and o included; `scores` is the largest size of a score
    (`Sizes`), whose rounding error is a relative one of the probability.

    An element passes four roundings to the storage type (o, the probability, the
    gradient of its score, the result), each relative to the sum without
    cancellation; every sum adds one roundoff of the accumulator per term. Errors
    are random: over a whole tensor, the terms add up to their square root, and one
    rounding to the storage type dominates the others.
    """
    stored, summed = ROUNDOFF[dtype]
    # Numbers below 2^-14 have an absolute error in float16; below the accumulator's
    # least number, probabilities are 0, whatever they are multiplied with (2^10).
    least = {"float16": 2.0**-24, "float64": 2.0**-1012}.get(dtype, 2.0**-116)
    tiny = terms * least
    for name, array in actual.items():
        wanted, size = getattr(expected, name), getattr(sizes, name)
        array = np.asarray(array).astype(np.float64)
        assert array.shape == wanted.shape, (name, array.shape, wanted.shape)
        assert (array[size == 0] == 0).all(), f"{name}: what nothing reaches is not exactly zero"
        error = np.abs(array - wanted)
        bound = (4 * stored + (terms + 4 * scores) * summed) * size + tiny
        # NaN must not pass for a small error.
        assert (error <= bound).all(), (
            f"{name}: error of {np.nanmax(error / np.where(bound == 0, 1, bound)):.3g} times the "
            f"bound, {np.isnan(error).sum()} NaN"
        )
        norm = (stored + (terms**0.5 + scores) * summed) * np.linalg.norm(size) + tiny
        assert np.linalg.norm(error) <= norm, (
            f"{name}: L2 error of {np.linalg.norm(error) / norm:.3g} times the bound"
        )
