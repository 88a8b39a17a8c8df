"""The reference itself, against PyTorch in float64."""

from __future__ import annotations

import numpy as np
import pytest
from reference import (
    Capture,
    Sizes,
    attention,
    attention_backward,
    band,
    bounds,
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
    out, lse, _ = attention(
        *(x.transpose(1, 2).numpy() for x in (q, k, v)), mask=band(33, 33, causal)
    )
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
    _, first, _ = attention(q, k[:, :3], v[:, :3])
    out, lse, _ = attention(q, k[:, 3:], v[:, 3:], init_lse=first)
    expected_out, expected_lse, _ = attention(q, k, v)
    np.testing.assert_allclose(out, expected_out, atol=1e-14)
    np.testing.assert_allclose(lse, expected_lse, atol=1e-14)


def test_errors_are_noticed(rng):
    expected = rng.standard_normal((1, 2, 3, 4))
    lse = rng.standard_normal((1, 3, 2))
    sizes = Sizes(2 + np.abs(lse), np.linalg.norm(expected, axis=-1).swapaxes(1, 2))
    check("float64", expected, lse, expected, lse, sizes)
    # One short row of a long tensor: seen by the errors of rows only.
    long, long_lse = rng.standard_normal((1, 500, 3, 8)), rng.standard_normal((1, 3, 500))
    long[0, 7, 1] *= 1e-3
    wrong = long.copy()
    wrong[0, 7, 1] *= 1.01
    with pytest.raises(AssertionError, match="row"):
        norms = np.linalg.norm(long, axis=-1).swapaxes(1, 2)
        check("float16", wrong, long_lse, long, long_lse, Sizes(2 + np.abs(long_lse), norms))
    wrong = expected * (1 + 1e-12)
    with pytest.raises(AssertionError):
        check("float64", wrong, lse, expected, lse, sizes)
    with pytest.raises(AssertionError, match="lse"):
        check("float64", expected, lse + 1e-9, expected, lse, sizes)
    wrong[0, 0, 0, 0] = np.nan
    with pytest.raises(AssertionError):
        check("bfloat16", wrong, lse, expected, lse, sizes)
    with pytest.raises(AssertionError, match="lse"):
        check("bfloat16", expected, lse * np.nan, expected, lse, sizes)
    with pytest.raises(AssertionError, match="live key"):
        check("float64", expected, lse, expected * 0, lse, Sizes(sizes.score, sizes.value * 0))
    assert errors(np.zeros((2, 2)), np.zeros((2, 2))) == (0.0, 0.0)


@pytest.mark.parametrize("scale", [None, 0.5])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_bounds_are_tight(dtype, scale, rng):
    """Errors of some roundings are noticed, also where large scores widen the bounds."""
    q, k, v = (rng.standard_normal((1, 40, 2, 176)).astype(dtype) for _ in range(3))
    expected = attention(q, k, v, scale)
    out, lse, sizes = expected
    check(dtype, out.astype(dtype), lse, *expected)
    lse_bounds, row_bounds = bounds(dtype, sizes.score)[:0:-1]
    # |lse| is a good part of the size.
    assert (lse_bounds < (2e-14 if dtype == "float64" else 1e-5) * np.abs(lse)).all()
    with pytest.raises(AssertionError, match="lse"):
        check(dtype, out, lse * (1 + 1e-5), *expected)
    assert (row_bounds < {"float16": 3e-3, "float32": 5e-5, "float64": 1e-13}[dtype]).all()
    wrong = out.copy()
    error = rng.standard_normal(176)
    error *= 1.01 * row_bounds[0, 1, 3] * sizes.value[0, 1, 3] / np.linalg.norm(error)
    wrong[0, 3, 1] += error
    with pytest.raises(AssertionError, match="L2|row"):
        check(dtype, wrong, lse, *expected)
    # One of forty values is off by a tenth.
    values = v.copy()
    values[0, 17] *= 1.1
    with pytest.raises(AssertionError, match="L2|row"):
        check(dtype, attention(q, k, values, scale)[0], lse, *expected)


def test_values_that_cancel(rng):
    """An error of the roundings of two large products is none of a row that cancels."""
    q, k = np.zeros((1, 1, 1, 8)), np.zeros((1, 2, 1, 8))
    v = rng.standard_normal((1, 2, 1, 8))
    v[0, 1] = -v[0, 0] * (1 + 1e-9)
    out, lse, _ = expected = attention(q, k, v)
    check("float64", out + 1e-16 * v[:, :1], lse, *expected)
    with pytest.raises(AssertionError, match="L2|row"):
        check("float64", out + 1e-14 * v[:, :1], lse, *expected)


def test_size_follows_the_score_region(rng):
    """A cap flattens the errors of large scores; a bias and a factor add to them."""
    q, k, v = (rng.standard_normal((1, 30, 1, 64)) for _ in range(3))
    *_, plain = attention(q, k, v, 2.0)
    *_, capped = attention(q, k, v, 2.0, score=softcap(1.0))
    *_, tenfold = attention(q, k, v, 2.0, score=lambda s, b, h, m, n: 10 * s)
    *_, same = attention(q, k, v, 20.0)
    assert capped.score.mean() < plain.score.mean() / 2
    np.testing.assert_allclose(tenfold.score, same.score, rtol=1e-5)


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
        o, lse, _ = attention(q, k, v, **forward)
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


@pytest.mark.parametrize("name", ["table", "scalar"])
def test_gradients_of_captures(name, rng):
    q, d_o = rng.standard_normal((2, 4, 4, 3)), rng.standard_normal((2, 4, 4, 2))
    k, v = rng.standard_normal((2, 5, 2, 3)), rng.standard_normal((2, 5, 2, 2))
    x = rng.standard_normal((4, 3)) if name == "table" else np.array(0.8)
    place = (lambda h, m, n: (h, np.clip(n - m, 0, 2))) if name == "table" else lambda *_: ()
    score = lambda s, b, h, m, n: np.sin(s * x[place(h, m, n)])  # noqa: E731
    keep = band(4, 5, True)

    def by_score(s, b, h, m, n):
        at = x[place(h, m, n)]
        return at * np.cos(s * at)

    def by_capture(s, b, h, m, n):
        at = place(h, m, n)
        return at, s * np.cos(s * x[at])

    capture = Capture(np.zeros(x.shape), np.zeros(x.shape), by_capture)
    attention_backward(
        q, k, v, d_o, mask=keep, score=score, d_score=by_score, captures=[capture], magnitudes=True
    )
    loss = lambda: (attention(q, k, v, mask=keep, score=score)[0] * d_o).sum()  # noqa: E731
    np.testing.assert_allclose(capture.gradient, differences(loss, x), atol=2e-8)
    assert (np.abs(capture.gradient) <= capture.size * (1 + 1e-12)).all()
