"""Features of bars with zero and negative prices, where the caller allows them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import moola
from moola.errors import BarError, ConfigError

SETS = ("relativity10", "relativity12", "ohlc4")
ALLOWED: dict[str, Any] = {"allow_nonpositive": True}


def ticks(seed: int, n: int) -> np.ndarray:
    """Open, high, low and close, `[4, n]`, in whole ticks around 0."""
    rng = np.random.default_rng(seed)
    close = rng.integers(-40, 40) + np.cumsum(rng.integers(-6, 7, n))
    open = np.concatenate([close[:1], close[:-1]]) + rng.integers(-1, 2, n)
    high = np.maximum(open, close) + rng.integers(0, 3, n)
    low = np.minimum(open, close) - rng.integers(0, 3, n)
    return np.stack([open, high, low, close])


def priced(bars: np.ndarray, tick: float = 0.25, shift: int = 0) -> list[np.ndarray]:
    return list(((bars + shift) * tick).astype(np.float64))


def pushed(stream: moola.FeatureStream, columns: list[np.ndarray]) -> np.ndarray:
    return np.stack([stream.push(*bar) for bar in zip(*(c.tolist() for c in columns), strict=True)])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    n=st.integers(2, 500),
    cut=st.floats(0, 1),
    feature_set=st.sampled_from(SETS),
    tick=st.sampled_from([0.25, 0.01, 1e-5]),
)
def test_batch_stream_and_restart_have_the_same_bits(
    seed: int, n: int, cut: float, feature_set: str, tick: float
) -> None:
    columns = priced(ticks(seed, n), tick)
    rows = moola.compute_features(*columns, feature_set=feature_set, **ALLOWED)
    assert np.isfinite(rows).all()
    stream = moola.FeatureStream(feature_set, **ALLOWED)
    at = int(cut * n)
    first = stream.push_many(*(c[:at].copy() for c in columns))
    again = moola.FeatureStream.from_state(stream.state())
    assert again.allow_nonpositive
    parts = [first]
    if at < n:
        parts.append(pushed(again, [c[at:] for c in columns]))
    assert np.concatenate(parts).tobytes() == rows.tobytes()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    feature_set=st.sampled_from(SETS),
    shift=st.integers(-1_000_000, 1_000_000),
    tick=st.sampled_from([0.25, 0.01]),
)
def test_features_do_not_depend_on_where_zero_lies(
    seed: int, feature_set: str, shift: int, tick: float
) -> None:
    """All sets that allow the option use differences of prices only. On a grid of 1/4 these are exact."""
    bars = ticks(seed, 400)
    above = moola.compute_features(*priced(bars, tick, 50_000), feature_set=feature_set)
    shifted = moola.compute_features(*priced(bars, tick, shift), feature_set=feature_set, **ALLOWED)
    if tick == 0.25:
        assert above.tobytes() == shifted.tobytes()
    else:
        np.testing.assert_allclose(shifted, above, rtol=0, atol=1e-5)


def test_swings_below_zero_are_those_above() -> None:
    bars = ticks(5, 3_000)
    above = moola.compute_swings(*priced(bars, shift=50_000))
    below = moola.compute_swings(*priced(bars, shift=-50_000), allow_nonpositive=True)
    for a, b in zip(above, below, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("feature_set", SETS)
def test_a_refused_price_names_the_option_and_the_option_works(feature_set: str) -> None:
    columns = priced(ticks(1, 300))
    for call in (
        lambda **o: moola.compute_features(*columns, feature_set=feature_set, **o),
        lambda **o: moola.FeatureStream(feature_set, **o).push_many(*columns),
        lambda **o: pushed(moola.FeatureStream(feature_set, **o), columns),
        lambda **o: moola.compute_swings(*columns, **o),
    ):
        with pytest.raises(
            BarError, match=r"repair the source; if prices can be zero .* allow_nonpositive=True"
        ):
            call()
        call(**ALLOWED)


def test_a_set_of_logarithms_refuses_the_option_and_no_message_names_it() -> None:
    columns = priced(ticks(1, 300))
    for call in (
        lambda: moola.compute_features(*columns, feature_set="relative_transform11", **ALLOWED),
        lambda: moola.FeatureStream("relative_transform11", **ALLOWED),
    ):
        with pytest.raises(ConfigError, match=r"allow_nonpositive: .*relative_transform11.*logarithms"):
            call()
    for refuse in (
        lambda: moola.compute_features(*columns, feature_set="relative_transform11"),
        lambda: moola.FeatureStream("relative_transform11").push_many(*columns),
    ):
        with pytest.raises(BarError, match="spreads and returns are not prices") as caught:
            refuse()
        assert "nonpositive" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "value", "kind"),
    [
        (0, np.nan, "not_finite"),
        (1, np.inf, "not_finite"),
        (2, -np.inf, "not_finite"),
        (2, -3.5e38, "beyond_float32"),
        (1, 3.5e38, "beyond_float32"),
        (3, -1e-39, "beyond_float32"),
        (1, -100.0, "high_below_low"),
        (0, 100.0, "open_outside"),
        (3, -100.0, "close_outside"),
    ],
)
def test_what_is_no_price_stays_refused(column: int, value: float, kind: str) -> None:
    columns = [np.array([x, x]) for x in (-1.0, 2.0, -3.0, 0.0)]
    moola.compute_features(*columns, **ALLOWED)
    columns[column][1] = value
    stream = moola.FeatureStream(**ALLOWED)
    for call in (
        lambda: moola.compute_features(*columns, **ALLOWED),
        lambda: stream.push_many(*columns),
        lambda: stream.push(*(c[1] for c in columns)),
    ):
        with pytest.raises(BarError) as caught:
            call()
        assert caught.value.counts == {kind: 1}
        assert "nonpositive" not in str(caught.value)
    assert stream.bars == 0


def test_only_the_option_changes_the_version_of_a_state() -> None:
    """States of 0.1.0 and of streams without the option are as before: tests/compat reads them."""
    assert moola.FeatureStream().state().startswith(b"moola-state1")
    assert moola.FeatureStream(unit="s").state().startswith(b"moola-state2")
    for options in ({}, {"unit": "s"}, {"stamp": "close", "bar_interval": "1m"}):
        stream = moola.FeatureStream("ohlc4", **options, **ALLOWED)
        stream.push(-1.0, 2.0, -3.0, 0.0, timestamp=1_600_000_000 * (1 if "unit" in options else 10**9))
        state = stream.state()
        assert state.startswith(b"moola-state3")
        other = moola.FeatureStream()
        other.restore(state)
        assert other.allow_nonpositive
        assert (other.stamp, other.unit, other.feature_set) == (stream.stamp, stream.unit, "ohlc4")
        assert other.state() == state
