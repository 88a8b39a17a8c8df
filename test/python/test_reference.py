"""The reference itself, against PyTorch in float64."""

from __future__ import annotations

import numpy as np
import pytest
from reference import (
    attention,
    attention_backward,
    band,
    check,
    check_gradients,
    errors,
    softcap,
    softcap_derivative,
)


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


def differences(loss, array):
    """The gradient of `loss()` by `array`, by central differences."""
    gradient = np.zeros(array.shape)
    step = 1e-5
    for index in np.ndindex(array.shape):
        value = array[index]
        array[index] = value + step
        above = loss()
        array[index] = value - step
        gradient[index] = (above - loss()) / (2 * step)
        array[index] = value
    return gradient


# Options of `attention` for 2 x 4 queries of 4 heads, 5 keys of 2 heads.
GRADIENTS = {
    "plain": {},
    "scale": {"scale": -1.5},
    "causal": {"mask": band(4, 5, True)},
    "dead rows": {"mask": lambda b, h, m, n: (m >= 2) & (n <= m)},
    "window": {"mask": band(4, 5, left=1, right=1)},
    "lengths": {
        "mask": band([4, 2], [3, 5], True),
        "q_lengths": [4, 2],
        "k_lengths": [3, 5],
    },
    "no key": {"q_lengths": [4, 0], "k_lengths": [0, 5]},
    "softcap": {"score": softcap(0.7), "d_score": softcap_derivative(0.7)},
    "product": {
        "score": lambda s, b, h, m, n: s * s * (n - m) + h,
        "d_score": lambda s, b, h, m, n: 2 * s * (n - m),
    },
    "-inf": {"score": lambda s, b, h, m, n: np.where((m + n) % 2 == 0, s, -np.inf)},
    "start": {"init_lse": np.linspace(-1, 1, 32).reshape(2, 4, 4)},
}


@pytest.mark.parametrize("uses_lse", [False, True])
@pytest.mark.parametrize("options", GRADIENTS.values(), ids=GRADIENTS)
def test_gradients_are_those_of_attention(options, uses_lse, rng):
    q, d_o = rng.standard_normal((2, 4, 4, 3)), rng.standard_normal((2, 4, 4, 2))
    k, v = rng.standard_normal((2, 5, 2, 3)), rng.standard_normal((2, 5, 2, 2))
    d_lse = rng.standard_normal((2, 4, 4)) if uses_lse else None
    forward = {key: value for key, value in options.items() if key != "d_score"}

    def loss():
        o, lse = attention(q, k, v, **forward)
        return (o * d_o).sum() + (0 if d_lse is None else lse[np.isfinite(lse)] @ d_lse[alive])

    alive = np.isfinite(attention(q, k, v, **forward)[1])
    gradients, sizes = attention_backward(q, k, v, d_o, d_lse=d_lse, magnitudes=True, **options)
    for name, array in (("d_q", q), ("d_k", k), ("d_v", v)):
        gradient = getattr(gradients, name)
        np.testing.assert_allclose(gradient, differences(loss, array), atol=2e-8, err_msg=name)
        assert (np.abs(gradient) <= getattr(sizes, name) * (1 + 1e-12)).all()
    if "init_lse" in options:  # As documented: -exp(init_lse - lse) * delta.
        start = options["init_lse"].copy()
        forward["init_lse"] = start
        expected = -np.exp(start - attention(q, k, v, **forward)[1]) * gradients.delta
        np.testing.assert_allclose(differences(loss, start), expected, atol=2e-8)


def test_gradients_see_nothing_beyond_the_lengths(rng):
    q, k, v, d_o = (rng.standard_normal((2, 6, 2, 3)) for _ in range(4))
    lengths = {"q_lengths": [6, 2], "k_lengths": [3, 0]}
    expected = attention_backward(q, k, v, d_o, **lengths)
    q[1, 2:] = d_o[1, 2:] = k[0, 3:] = v[0, 3:] = k[1] = v[1] = np.nan
    for actual, wanted in zip(attention_backward(q, k, v, d_o, **lengths), expected):
        np.testing.assert_array_equal(actual, wanted)
    assert not expected.d_q[1].any()
    assert not expected.d_k[0, 3:].any()


def test_errors_of_gradients_are_noticed(rng):
    q, k, v, d_o = (rng.standard_normal((1, 9, 2, 4)) for _ in range(4))
    expected, sizes = attention_backward(q, k, v, d_o, mask=band(9, 9, True), magnitudes=True)
    exact = expected._asdict()
    check_gradients("float64", exact, expected, sizes, terms=17)
    rounded = {name: array.astype(np.float16) for name, array in exact.items()}
    check_gradients("float16", rounded, expected, sizes, terms=17)
    with pytest.raises(AssertionError, match="delta: "):
        check_gradients("float32", rounded, expected, sizes, terms=17)
    for name in exact:
        wrong = exact[name].copy()
        wrong[-1] *= 1.03
        with pytest.raises(AssertionError, match=name):
            check_gradients("float16", {name: wrong}, expected, sizes, terms=17)
        wrong[-1, -1] = np.nan
        with pytest.raises(AssertionError, match="[1-9] NaN"):
            check_gradients("bfloat16", {name: wrong}, expected, sizes, terms=17)
