"""The reference itself, against PyTorch in float64."""

from __future__ import annotations

import numpy as np
import pytest
from reference import attention, attention_backward, band, check, errors, softcap


@pytest.mark.parametrize("causal", [False, True])
def test_against_torch(torch, rng, causal):
    q, k, v = (torch.from_numpy(rng.standard_normal((2, 4, 33, 16))) for _ in range(3))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    out, lse = attention(*(x.transpose(1, 2).numpy() for x in (q, k, v)), mask=band(33, 33, causal))
    np.testing.assert_allclose(out, expected.transpose(1, 2).numpy(), atol=1e-12)
    scores = q @ k.transpose(2, 3) / 4
    if causal:
        scores = scores.masked_fill(torch.ones(33, 33).triu(1).bool(), -np.inf)
    np.testing.assert_allclose(lse, torch.logsumexp(scores, -1).numpy(), atol=1e-12)


def test_masks_are_aligned_to_the_bottom_right():
    # The examples of FlashAttention-2's README.
    m, n = np.arange(2)[:, None], np.arange(5)[None, :]
    expected = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]], bool)
    np.testing.assert_array_equal(band(2, 5, causal=True)(0, 0, m, n), expected)
    m, n = np.arange(5)[:, None], np.arange(2)[None, :]
    expected = np.array([[0, 0], [0, 0], [0, 0], [1, 0], [1, 1]], bool)
    np.testing.assert_array_equal(band(5, 2, causal=True)(0, 0, m, n), expected)


def test_init_lse_equals_a_longer_row(rng):
    q, k, v = (rng.standard_normal((1, 7, 1, 8)) for _ in range(3))
    v[:, :3] = 0
    _, first = attention(q, k[:, :3], v[:, :3])
    out, lse = attention(q, k[:, 3:], v[:, 3:], init_lse=first)
    expected_out, expected_lse = attention(q, k, v)
    np.testing.assert_allclose(out, expected_out, atol=1e-14)
    np.testing.assert_allclose(lse, expected_lse, atol=1e-14)


def test_errors_are_noticed(rng):
    expected = rng.standard_normal((2, 3, 4))
    lse = rng.standard_normal((2, 3))
    check("float64", expected, lse, expected, lse)
    # One short row of a long tensor: seen by the largest row error only.
    long, long_lse = rng.standard_normal((500, 3, 8)), rng.standard_normal((500, 3))
    long[7, 1] *= 1e-3
    wrong = long.copy()
    wrong[7, 1] *= 1.01
    with pytest.raises(AssertionError, match="row"):
        check("float16", wrong, long_lse, long, long_lse)
    wrong = expected * (1 + 1e-12)
    with pytest.raises(AssertionError):
        check("float64", wrong, lse, expected, lse)
    with pytest.raises(AssertionError, match="lse"):
        check("float64", expected, lse + 1e-9, expected, lse)
    wrong[0, 0, 0] = np.nan
    with pytest.raises(AssertionError):
        check("bfloat16", wrong, lse, expected, lse)
    with pytest.raises(AssertionError, match="live key"):
        check("float64", expected, lse, expected * 0, lse)
    assert errors(np.zeros((2, 2)), np.zeros((2, 2))) == (0.0, 0.0)


def test_softcap_is_bounded(rng):
    s = rng.standard_normal(100) * 1e3
    assert np.abs(softcap(5.0)(s, 0, 0, 0, 0)).max() <= 5.0


@pytest.mark.parametrize("case", ["plain", "causal", "lengths", "score"])
def test_backward_against_finite_differences(rng, case):
    q, k = rng.standard_normal((2, 4, 4, 3)), rng.standard_normal((2, 5, 2, 3))
    v, table = rng.standard_normal((2, 5, 2, 2)), rng.standard_normal((4, 5))
    w_o, w_lse = rng.standard_normal((2, 4, 4, 2)), rng.standard_normal((2, 4, 4))
    meaning, backward = {}, {}
    if case == "causal":  # with dead rows
        meaning["mask"] = lambda b, h, m, n: n <= m - 1
    if case == "lengths":
        meaning |= {"q_lengths": [3, 4], "k_lengths": [5, 0], "mask": band([3, 4], [5, 0], True)}
    if case == "score":
        meaning["score"] = lambda s, b, h, m, n: np.tanh(s) * table[h]
        backward["captures"] = [table.shape]

        def derivative(raw, b, h, m, n, ds):
            t = np.tanh(raw)
            return ds * table[h] * (1 - t * t), [((h, n), ds * t)]

        backward["derivative"] = derivative

    def loss():
        o, lse = attention(q, k, v, **meaning)
        return (o * w_o).sum() + (np.where(np.isinf(lse), 0, lse) * w_lse).sum()

    o, lse = attention(q, k, v, **meaning)
    dq, dk, dv, delta, captures = attention_backward(
        q, k, v, o, lse, w_o, w_lse, **meaning, **backward
    )
    np.testing.assert_array_equal(delta[np.isinf(lse)], 0)
    inputs, gradients = [q, k, v], [dq, dk, dv]
    if captures:
        inputs, gradients = [*inputs, table], [*gradients, *captures]
    for x, gradient in zip(inputs, gradients, strict=True):
        expected = np.empty_like(x)
        for i in np.ndindex(x.shape):
            step, old = 1e-5, x[i]
            x[i] = old + step
            above = loss()
            x[i] = old - step
            expected[i] = (above - loss()) / (2 * step)
            x[i] = old
        np.testing.assert_allclose(gradient, expected, atol=1e-8)
