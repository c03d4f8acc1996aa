"""Features of bars in memory: golden values, properties, the stream, and every refusal."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import moola
from moola import _core
from moola.errors import BarError, ConfigError, StateError, TimestampError

SETS = _core.feature_sets()
SHARED = os.environ.get("MOOLA_SHARED")
needs_shared = pytest.mark.skipif(not SHARED, reason="needs the golden files: set MOOLA_SHARED")
FILES = ["sp500_1min_2019-11", "btcusdt_1min_2023-03", "btcusdc_1min_2023-03"]

type_of = type
Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def sample(n: int, seed: int = 1) -> Columns:
    return _core.SampleBars(seed).take(n)[1:5]


def bits(x: np.ndarray) -> np.ndarray:
    return x.view(np.uint32)


def columns_of(bars: Columns, rows: slice) -> Columns:
    return tuple(column[rows] for column in bars)  # type: ignore[return-value]


@st.composite
def bars_on_a_grid(draw: st.DrawFn, largest: int = 700) -> Columns:
    """Bars on a tick grid, with flat stretches and exact ties."""
    n = draw(st.integers(1, largest))
    moves = draw(hnp.arrays(np.int64, n, elements=st.integers(-5, 5)))
    up, down = (draw(hnp.arrays(np.int64, n, elements=st.integers(0, 3))) for _ in range(2))
    flat = draw(hnp.arrays(np.bool_, n))
    moves[flat] = up[flat] = down[flat] = 0
    close = 50_000 + np.cumsum(moves)
    open = close - moves
    tick = draw(st.sampled_from([0.25, 0.01, 1e-5, 1.0]))
    high, low = np.maximum(open, close) + up, np.minimum(open, close) - down
    return tuple(column * tick for column in (open, high, low, close))  # type: ignore[return-value]


@pytest.fixture
def golden(name: str) -> Any:
    """The bars of one file, and their expected features."""
    assert SHARED is not None
    with np.load(Path(SHARED) / "golden" / f"{name}.npz") as archive:
        return dict(archive)


@needs_shared
@pytest.mark.parametrize("name", FILES)
class TestGolden:
    """Compared, on real bars, with an implementation of the specification that shares no code with this one."""

    @pytest.mark.parametrize("feature_set", ["relativity12", "relative_transform11", "ohlc4"])
    def test_features_equal_the_golden_values(self, golden: Any, feature_set: str) -> None:
        bars = tuple(golden[column] for column in ("open", "high", "low", "close"))
        computed = moola.compute_features(*bars, feature_set=feature_set)
        np.testing.assert_allclose(computed, golden[feature_set], rtol=0, atol=1e-6)
        if feature_set == "relativity12":
            assert (bits(moola.compute_features(*bars)) == bits(computed[:, :10].copy())).all()

    def test_swings_equal_the_golden_values(self, golden: Any) -> None:
        swings = moola.compute_swings(*(golden[column] for column in ("open", "high", "low", "close")))
        assert (swings.high_index == golden["swing_high_index"]).all()
        assert (swings.low_index == golden["swing_low_index"]).all()
        assert (swings.leg == golden["leg"]).all()

    def test_the_warm_up_settles_within_the_bars_that_the_specification_gives(self, golden: Any) -> None:
        bars = tuple(golden[column] for column in ("open", "high", "low", "close"))
        if len(bars[0]) < 2000:
            pytest.skip("too short to start 1,000 bars later")
        full = moola.compute_swings(*bars)
        late = moola.compute_swings(*(column[1000:].copy() for column in bars))
        for found, expected in ((late.high_index, full.high_index), (late.low_index, full.low_index)):
            same = np.where(found >= 0, found + 1000, -1) == expected[1000:]
            assert same[90:].all()


@needs_shared
@pytest.mark.parametrize("feature_set", SETS)
@pytest.mark.parametrize("name", FILES)
class TestRealBars:
    """The same properties on real bars, which a strategy would not generate."""

    @pytest.fixture
    def bars(self, golden: Any) -> Columns:
        return tuple(golden[column] for column in ("open", "high", "low", "close"))  # type: ignore[return-value]

    def test_features_are_causal_to_the_bit(self, bars: Columns, feature_set: str) -> None:
        full = moola.compute_features(*bars, feature_set=feature_set)
        for cut in np.linspace(1, len(bars[0]) - 1, 23).astype(int):
            removed = moola.compute_features(*columns_of(bars, slice(cut)), feature_set=feature_set)
            assert (bits(removed) == bits(full[:cut])).all()
            rewritten = tuple(np.concatenate([column[:cut], column[cut:][::-1]]) for column in bars)
            again = moola.compute_features(*rewritten, feature_set=feature_set)[:cut]
            assert (bits(again) == bits(removed)).all()

    @pytest.mark.parametrize("scale", [1e-6, 3e-3, 7.0, 1e6])
    def test_features_are_scale_invariant(self, bars: Columns, feature_set: str, scale: float) -> None:
        here = moola.compute_features(*bars, feature_set=feature_set)
        there = moola.compute_features(*(column * scale for column in bars), feature_set=feature_set)
        np.testing.assert_allclose(there, here, rtol=0, atol=1e-5)

    def test_a_restarted_stream_gives_the_same_bits(self, bars: Columns, feature_set: str) -> None:
        stream, rows = moola.FeatureStream(feature_set), []
        for start in range(0, len(bars[0]), 777):
            rows.append(stream.push_many(*columns_of(bars, slice(start, start + 777))))
            stream = moola.FeatureStream.from_state(stream.state())
        full = moola.compute_features(*bars, feature_set=feature_set)
        assert (bits(np.concatenate(rows)) == bits(full)).all()

    def test_features_are_bounded_and_finite(self, bars: Columns, feature_set: str) -> None:
        features = moola.compute_features(*bars, feature_set=feature_set)
        assert np.isfinite(features).all()
        for column, (_, low, high) in zip(features.T, _core.describe_features(feature_set), strict=True):
            assert low is None or (column >= np.float64(low)).all()
            assert high is None or (column <= np.float64(high)).all()


class TestComputeFeatures:
    @pytest.mark.parametrize("feature_set", SETS)
    def test_features_have_shape_type_and_names(self, feature_set: str) -> None:
        bars = sample(300)
        features = moola.compute_features(*bars, feature_set=feature_set)
        assert features.shape == (300, len(_core.describe_features(feature_set)))
        assert features.dtype == np.float32
        assert features.flags.c_contiguous

    @pytest.mark.parametrize("n", [0, 1, 2, 255, 256, 257, 70_000])
    def test_any_number_of_bars_is_computed(self, n: int) -> None:
        bars = sample(70_000)
        features = moola.compute_features(*columns_of(bars, slice(n)))
        assert (bits(features) == bits(moola.compute_features(*bars)[:n])).all()

    @given(bars_on_a_grid(), st.sampled_from(SETS), st.floats(0, 1))
    def test_features_are_causal_to_the_bit(self, bars: Columns, feature_set: str, share: float) -> None:
        cut = int(len(bars[0]) * share)
        full = moola.compute_features(*bars, feature_set=feature_set)
        removed = moola.compute_features(*columns_of(bars, slice(cut)), feature_set=feature_set)
        assert (bits(removed) == bits(full[:cut])).all()
        future = sample(300, seed=7)
        rewritten = tuple(np.concatenate([a[:cut], b]) for a, b in zip(bars, future, strict=True))
        assert (
            bits(moola.compute_features(*rewritten, feature_set=feature_set)[:cut]) == bits(removed)
        ).all()

    @given(bars_on_a_grid(), st.sampled_from(SETS), st.floats(-6, 6))
    def test_features_are_scale_invariant(self, bars: Columns, feature_set: str, exponent: float) -> None:
        here = moola.compute_features(*bars, feature_set=feature_set)
        there = moola.compute_features(*(column * 10.0**exponent for column in bars), feature_set=feature_set)
        np.testing.assert_allclose(there, here, rtol=0, atol=1e-5)
        twice = moola.compute_features(
            *(column * 2.0 ** int(exponent) for column in bars), feature_set=feature_set
        )
        assert (bits(twice) == bits(here)).all()

    @given(bars_on_a_grid(), st.sampled_from(SETS))
    def test_features_are_bounded_and_finite(self, bars: Columns, feature_set: str) -> None:
        features = moola.compute_features(*bars, feature_set=feature_set)
        assert np.isfinite(features).all()
        for column, (_, low, high) in zip(features.T, _core.describe_features(feature_set), strict=True):
            assert low is None or (column >= np.float64(low)).all()
            assert high is None or (column <= np.float64(high)).all()

    def test_inputs_are_not_copied_and_may_be_read_only(self) -> None:
        bars = sample(1000)
        for column in bars:
            column.flags.writeable = False
        moola.compute_features(*bars)

    def test_out_is_written_and_returned(self) -> None:
        bars = sample(500)
        out = np.full((500, 10), np.nan, np.float32)
        assert moola.compute_features(*bars, out=out) is out
        assert (bits(out) == bits(moola.compute_features(*bars))).all()

    def test_pandas_columns_are_accepted(self) -> None:
        pd = pytest.importorskip("pandas")
        bars = sample(200)
        frame = pd.DataFrame(dict(zip(["o", "h", "l", "c"], bars, strict=True)))
        features = moola.compute_features(frame.o, frame.h, frame.l, frame.c)
        assert (bits(features) == bits(moola.compute_features(*bars))).all()

    def test_configurations_are_applied(self) -> None:
        bars = sample(2000)
        default = moola.compute_features(*bars)
        assert (moola.compute_features(*bars, config={}) == default).all()
        assert (moola.compute_features(*bars, config=moola.FeatureConfig()) == default).all()
        other = moola.compute_features(*bars, config={"zigzag_k": 3.0})
        assert (other[:, :6] == default[:, :6]).all()
        assert (other[:, 6:] != default[:, 6:]).any()

    @pytest.mark.parametrize(
        ("config", "name", "says"),
        [
            ({"atr_period": 0}, "atr_period", "greater than or equal to 1, not 0"),
            ({"atr_period": 1.5}, "atr_period", "integer"),
            ({"zigzag_k": 0}, "zigzag_k", "greater than 0"),
            ({"zigzag_k": float("nan")}, "zigzag_k", "not nan"),
            ({"zigzag": 1.2}, "zigzag", "the parameters are range_ema_period"),
            ({"warmup_bars": -1}, "warmup_bars", "greater than or equal to 0"),
        ],
    )
    def test_config_is_refused_by_name(self, config: dict[str, Any], name: str, says: str) -> None:
        with pytest.raises(ConfigError, match=says) as caught:
            moola.compute_features(*sample(10), config=config)
        assert caught.value.name == name

    def test_an_unknown_feature_set_lists_the_known_ones(self) -> None:
        with pytest.raises(ConfigError, match=r"relativty10.*relativity10, relativity12"):
            moola.compute_features(*sample(10), feature_set="relativty10")

    @pytest.mark.parametrize(
        ("column", "value", "kind"),
        [
            (3, np.nan, "not_finite"),
            (1, np.inf, "not_finite"),
            (2, 0.0, "out_of_range"),
            (2, -3.0, "out_of_range"),
            (2, 1e-39, "out_of_range"),
            (1, 3.5e38, "out_of_range"),
            (1, 1.0, "high_below_low"),
            (0, 1e9, "open_outside"),
            (3, 1.0, "close_outside"),
        ],
    )
    @pytest.mark.parametrize("row", [0, 700, 59_999])
    def test_bad_bars_are_refused(self, column: int, value: float, kind: str, row: int) -> None:
        bars = [column.copy() for column in sample(60_000)]
        bars[column][row] = value
        for call in (moola.compute_features, moola.compute_swings, moola.FeatureStream().push_many):
            with pytest.raises(BarError, match=f"bar {row}") as caught:
                call(*bars)
            assert caught.value.counts == {kind: 1}
            assert caught.value.problems[0].row == row

    def test_all_faults_are_counted_and_twenty_are_shown(self) -> None:
        bars = [column.copy() for column in sample(60_000)]
        bars[3][::1000] = np.nan
        bars[2][500::1000] = -1
        with pytest.raises(BarError) as caught:
            moola.compute_features(*bars)
        assert caught.value.counts == {"not_finite": 60, "out_of_range": 60}
        assert len(caught.value.problems) == 20
        assert "→ repair the source\n" in str(caught.value), "with no word of the options of build_features"

    @pytest.mark.parametrize(
        ("change", "error", "says"),
        [
            (lambda x: x.astype(np.float32), TypeError, "high must be a float64 array, not float32"),
            (lambda x: x.tolist() and "abc", TypeError, "high must be a float64 array"),
            (lambda x: x[::2], ValueError, "ascontiguousarray"),
            (lambda x: x.reshape(1, -1), ValueError, "one dimension"),
            (lambda x: x[:-1].copy(), ValueError, "must have the same length"),
        ],
    )
    def test_arrays_of_the_wrong_kind_are_refused(
        self, change: Any, error: type_of[Exception], says: str
    ) -> None:
        open, high, low, close = sample(10)
        with pytest.raises(error, match=says):
            moola.compute_features(open, change(high), low, close)

    @pytest.mark.parametrize(
        ("out", "error", "says"),
        [
            (np.zeros((10, 10)), TypeError, "float32"),
            (np.zeros((10, 9), np.float32), ValueError, r"shape \(10, 10\)"),
            (np.zeros((10, 20), np.float32)[:, ::2], ValueError, "contiguous"),
            ([0.0], TypeError, "float32"),
        ],
    )
    def test_a_wrong_out_array_is_refused(self, out: Any, error: type_of[Exception], says: str) -> None:
        with pytest.raises(error, match=says):
            moola.compute_features(*sample(10), out=out)


class TestComputeSwings:
    def test_atr_is_the_plain_mean_of_the_last_true_ranges(self) -> None:
        open, high, low, close = sample(400)
        atr = moola.compute_swings(open, high, low, close, {"atr_period": 14}).atr
        previous = close[:-1]
        ranges = np.maximum(high[1:] - low[1:], np.maximum(abs(high[1:] - previous), abs(low[1:] - previous)))
        expected = [0.0] + [ranges[max(0, i - 13) : i + 1].mean() for i in range(399)]
        np.testing.assert_allclose(atr, expected, rtol=1e-12)

    def test_a_swing_is_known_only_once_it_is_confirmed(self) -> None:
        swings = moola.compute_swings(*sample(5000))
        bar = np.arange(5000)
        assert (swings.high_index <= bar).all()
        assert (swings.low_index <= bar).all()
        turns = np.count_nonzero(np.diff(swings.leg))
        # The pipeline that this replaces turned the leg on nearly every bar.
        assert 50 < turns < 5000 / 4


class TestFeatureStream:
    @given(bars_on_a_grid(), st.sampled_from(SETS), st.lists(st.integers(1, 400), min_size=1, max_size=5))
    @settings(max_examples=60)
    def test_chunks_and_restarts_give_the_bits_of_the_batch(
        self, bars: Columns, feature_set: str, steps: list[int]
    ) -> None:
        batch = moola.compute_features(*bars, feature_set=feature_set)
        stream = moola.FeatureStream(feature_set)
        rows, start, k = [], 0, 0
        while start < len(bars[0]):
            end = start + steps[k % len(steps)]
            if k % 2:
                rows += [
                    stream.push(*bar)[None] for bar in zip(*columns_of(bars, slice(start, end)), strict=True)
                ]
            else:
                rows.append(stream.push_many(*columns_of(bars, slice(start, end))))
            stream = moola.FeatureStream.from_state(stream.state())
            start, k = end, k + 1
        assert (bits(np.concatenate(rows)) == bits(batch)).all()

    def test_valid_starts_after_the_warm_up(self) -> None:
        bars = sample(2000)
        swings = moola.compute_swings(*bars)
        known = int(np.argmax((swings.high_index >= 0) & (swings.low_index >= 0)))
        stream = moola.FeatureStream(config={"warmup_bars": 105})
        valid = []
        for bar in zip(*bars, strict=True):
            stream.push(*bar)
            valid.append(stream.valid)
        assert valid == [i >= max(105, known) for i in range(2000)]
        assert not moola.FeatureStream("ohlc4").valid

    def test_reset_begins_a_new_segment(self) -> None:
        bars = sample(600)
        stream = moola.FeatureStream()
        stream.push_many(*columns_of(bars, slice(300)))
        stream.reset()
        assert stream.bars == 0
        rest = columns_of(bars, slice(300, None))
        assert (bits(stream.push_many(*rest)) == bits(moola.compute_features(*rest))).all()

    def test_a_gap_begins_a_new_segment(self) -> None:
        bars = sample(600)
        times = np.arange(600) * 60 * 10**9
        times[300:] += 4 * 3600 * 10**9
        stream = moola.FeatureStream(reset_on_gap="4h")
        rows = stream.push_many(*bars, times)
        assert (bits(rows[300:]) == bits(moola.compute_features(*columns_of(bars, slice(300, None))))).all()
        assert stream.last_timestamp == times[-1]
        live = moola.FeatureStream(reset_on_gap="4h")
        one_by_one = [live.push(*bar, timestamp=int(t)) for *bar, t in zip(*bars, times, strict=True)]
        assert (bits(np.array(one_by_one)) == bits(rows)).all()
        # A step of exactly the gap does not begin a segment.
        times[300:] -= 60 * 10**9
        rows = moola.FeatureStream(reset_on_gap="4h").push_many(*bars, times)
        assert (bits(rows) == bits(moola.compute_features(*bars))).all()

    @pytest.mark.parametrize(("timestamp", "kind"), [(60, "duplicate_timestamp"), (59, "out_of_order")])
    def test_a_time_that_is_not_later_is_refused(self, timestamp: int, kind: str) -> None:
        stream = moola.FeatureStream()
        stream.push(1.0, 2.0, 0.5, 1.5, timestamp=60)
        before = stream.state()
        with pytest.raises(BarError) as caught:
            stream.push(1.0, 2.0, 0.5, 1.5, timestamp=timestamp)
        assert caught.value.counts == {kind: 1}
        assert caught.value.problems[0].timestamp == timestamp
        with pytest.raises(BarError):
            stream.push_many(*sample(2), np.array([61, timestamp]))
        assert stream.state() == before

    def test_a_refused_bar_leaves_the_stream_unchanged(self) -> None:
        stream = moola.FeatureStream("relative_transform11")
        stream.push_many(*sample(300))
        before = stream.state()
        with pytest.raises(BarError) as caught:
            stream.push(1.0, 0.9, 1.1, 1.0)
        assert caught.value.counts == {"high_below_low": 1}
        bad = [column.copy() for column in sample(300)]
        bad[0][299] = np.nan
        with pytest.raises(BarError):
            stream.push_many(*bad)
        assert stream.state() == before

    def test_a_gap_rule_without_times_is_refused(self) -> None:
        stream = moola.FeatureStream(reset_on_gap="4h")
        with pytest.raises(TimestampError, match="timestamp="):
            stream.push(1.0, 2.0, 0.5, 1.5)
        with pytest.raises(TimestampError, match="timestamp="):
            stream.push_many(*sample(5))

    @pytest.mark.parametrize("gap", ["soon", "", "4 hours ago", -1, 0, "4h3"])
    def test_nonsense_durations_are_refused(self, gap: Any) -> None:
        with pytest.raises(ConfigError) as caught:
            moola.FeatureStream(reset_on_gap=gap)
        assert caught.value.name == "reset_on_gap"

    def test_foreign_old_and_damaged_states_have_their_own_errors(self) -> None:
        stream = moola.FeatureStream("relativity12", {"atr_period": 14}, reset_on_gap="1d")
        stream.push_many(*sample(300), np.arange(300))
        state = stream.state()
        for foreign in (b"", b"moola", pickle.dumps(stream.state()), b"\0" * 1000):
            with pytest.raises(StateError, match="not the state of a moola stream"):
                moola.FeatureStream.from_state(foreign)
        with pytest.raises(StateError, match="another version"):
            moola.FeatureStream.from_state(state[:11] + b"0" + state[12:])
        for at in range(12, len(state)):
            with pytest.raises(StateError, match="damaged"):
                moola.FeatureStream.from_state(state[:at] + bytes([state[at] ^ 16]) + state[at + 1 :])
        for length in range(12, len(state)):
            with pytest.raises(StateError, match="damaged"):
                moola.FeatureStream.from_state(state[:length])
        with pytest.raises(StateError, match="damaged"):
            moola.FeatureStream.from_state(state + b"\0")

    def test_state_keeps_everything(self) -> None:
        stream = moola.FeatureStream("ohlc4", {"atr_period": 14}, reset_on_gap="1d")
        stream.push_many(*sample(300), np.arange(300))
        again = moola.FeatureStream.from_state(stream.state())
        for name in ("feature_set", "parameters", "reset_on_gap", "last_timestamp", "bars", "valid"):
            assert getattr(again, name) == getattr(stream, name)


def test_a_bar_without_a_time_keeps_the_last_time_of_a_stream() -> None:
    stream = moola.FeatureStream()
    stream.push(100.0, 101.0, 99.0, 100.5, 60)
    stream.push(100.0, 101.0, 99.0, 100.5)
    for again in (stream, moola.FeatureStream.from_state(stream.state())):
        assert again.last_timestamp == 60
        with pytest.raises(moola.errors.BarError, match="timestamp earlier than the one before it"):
            again.push(100.0, 101.0, 99.0, 100.5, 59)


@pytest.mark.parametrize("feature_set", SETS)
def test_a_pushed_row_is_as_wide_as_its_set(feature_set: str) -> None:
    stream = moola.FeatureStream(feature_set)
    first = stream.push(100.0, 101.0, 99.0, 100.5)
    kept = first.copy()
    second = stream.push(100.5, 103.0, 100.0, 102.0)
    assert first.shape == second.shape == (len(_core.describe_features(feature_set)),)
    assert np.array_equal(first, kept), "a row stays what it was"


def test_python_and_engine_name_the_same_parameters_with_the_same_defaults() -> None:
    defaults = moola.FeatureConfig()
    assert list(type(defaults).model_fields) == _core.parameter_names()
    assert defaults.astuple() == _core.default_parameters()


def test_a_set_depends_on_parameters_that_exist() -> None:
    assert _core.feature_set_depends_on("ohlc4") == ["atr_period"]
    for feature_set in SETS:
        named = _core.feature_set_depends_on(feature_set)
        assert named == [name for name in _core.parameter_names() if name in named]
    with pytest.raises(ConfigError, match='there is no "ohlc5"'):
        _core.feature_set_depends_on("ohlc5")


def test_the_engine_refuses_wrong_parameters() -> None:
    for place, bad in enumerate([0, 0, 0.0, -1.0, 20_000, None]):
        if bad is None:
            continue
        parameters: Any = list(_core.default_parameters())
        parameters[place] = bad
        with pytest.raises(ConfigError):
            _core.describe_features("relativity10", tuple(parameters))
