"""Pre-cut windows as nested arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from label_files import T, assert_same, candles, iso, nested, raw, refused, rows
from tiny_store import MINUTE

import moola
from moola import FeatureStore
from moola.errors import ConfigError, InputError
from moola.labels import read_labels, read_raw_windows
from moola.settings.features import FeatureConfig


@pytest.mark.parametrize("feature_set", ["ohlc4", "relativity10", "relative_transform11"])
def test_raw_features_use_only_their_own_window(feature_set: str) -> None:
    windows = candles(30, 105)
    got = read_raw_windows(raw(windows), feature_set=feature_set)
    settings = FeatureConfig(warmup_bars=20)
    for i, window in enumerate(windows):
        columns = [np.ascontiguousarray(column) for column in window.T]
        assert np.array_equal(
            got.X[i], moola.compute_features(*columns, feature_set=feature_set, config=settings)
        )
        swings = moola.compute_swings(*columns)
        known = (swings.high_index >= 0) & (swings.low_index >= 0)
        valid = np.arange(105) >= 20
        assert np.array_equal(got.valid_mask[i], valid & known if feature_set == "relativity10" else valid)
    assert got.X.dtype == np.float32
    assert got.X.shape[:2] == (30, 105)
    assert got.parameters == settings.model_dump()
    assert got.starts.tolist() == list(range(0, 30 * 105, 105))
    assert got.ends.tolist() == list(range(104, 30 * 105, 105))
    assert (got.times, got.splits, got.store_id) == (None, None, "")
    assert (got.symbols == "").all()
    assert got.groups.tolist() == list(range(30))
    assert (got.spans == -1).all()


@pytest.mark.parametrize("kind", ["list", "large", "fixed bars", "fixed"])
@pytest.mark.parametrize("number", [pa.float64(), pa.float32(), pa.int32()], ids=str)
def test_raw_layouts_give_the_same_windows(kind: str, number: pa.DataType) -> None:
    windows = candles(7, 30) * 4  # whole numbers
    want = read_raw_windows(raw(windows), window_length=30)
    whole = windows.astype(int) if pa.types.is_integer(number) else windows
    column = nested(whole, kind, number)
    assert_same(want, read_raw_windows(raw(column), window_length=30))
    # In pieces, some with an offset into their memory.
    pieces = pa.chunked_array([column.slice(0, 2), column.slice(2, 1), column.slice(3, 4)])
    assert_same(want, read_raw_windows(raw(pieces), window_length=30))
    tail = read_raw_windows(raw(column).slice(3), window_length=30)
    assert np.array_equal(tail.X, want.X[3:])


def test_float32_prices_are_widened_not_rounded_again() -> None:
    # Prices off the grid: float32 rounds each price, and a candle stays valid.
    windows = (candles(20, 105) * np.pi).astype(np.float32)
    got = read_raw_windows(raw(nested(windows, number=pa.float32())))
    want = [
        moola.compute_features(
            *(np.ascontiguousarray(column) for column in window.astype(np.float64).T),
            feature_set="ohlc4",
        )
        for window in windows
    ]
    assert np.array_equal(got.X, np.stack(want))


def test_object_arrays_stored_by_pandas_are_read(tmp_path: Path) -> None:
    """The old layout: a column of arrays of arrays, all of dtype object."""
    windows = candles(12, 105)
    objects = [np.array([np.array(bar) for bar in window] + [None], dtype=object)[:-1] for window in windows]
    frame = pd.DataFrame(
        {
            "features": objects,
            "label": ["consolidation", "retracement"] * 6,
            "expansion_start": [40.0] * 11 + [np.nan],
            "expansion_end": [50.0] * 11 + [np.nan],
        }
    )
    frame.to_parquet(tmp_path / "old.parquet")
    assert frame.features[0].dtype == object
    got = read_raw_windows(tmp_path / "old.parquet")
    assert np.array_equal(got.X, read_raw_windows(raw(windows)).X)
    assert got.spans.tolist() == [[40, 50]] * 11 + [[-1, -1]]
    assert got.classes == ("consolidation", "retracement")


def bad_window(change: Callable[[list[Any]], None]) -> pa.Array:
    windows = candles(5, 10).tolist()
    change(windows)
    return nested(windows)


def put(windows: list[Any], *at: int, value: Any) -> None:
    *path, last = at
    for i in path:
        windows = windows[i]
    windows[last] = value


@pytest.mark.parametrize(
    ("kind", "change", "what"),
    [
        ("no_bars", lambda w: put(w, 2, value=None), "features is null"),
        ("bar_count", lambda w: w[2].pop(), "9 bars, not 10"),
        ("bar_count", lambda w: w[2].append(w[2][0]), "11 bars, not 10"),
        ("bar_count", lambda w: put(w, 2, value=[]), "0 bars, not 10"),
        ("number_count", lambda w: w[2][7].pop(), "bar 7 is 3 numbers"),
        ("number_count", lambda w: w[2][7].append(1.0), "bar 7 is 5 numbers"),
        ("number_count", lambda w: (w[2][7].append(1.0), w[2][8].pop()), "bar 7 is 5 numbers"),
        ("number_count", lambda w: put(w, 2, 0, value=None), "bar 0 is null"),
        (
            "not_finite",
            lambda w: put(w, 2, 9, 3, value=None),
            "bar 9: open = 3999.5, high = 4000.75, low = 3999.25, close = nan",
        ),
        ("not_finite", lambda w: put(w, 2, 9, 3, value=np.nan), "close = nan"),
        ("not_finite", lambda w: put(w, 2, 0, 1, value=np.inf), "bar 0: open = 3999.0, high = inf"),
        (
            "not_a_candle",
            lambda w: put(w, 2, 4, value=[5.0, 4.0, 3.0, 3.5]),
            "bar 4: open = 5.0, high = 4.0, low",
        ),
        ("not_a_candle", lambda w: put(w, 2, 4, value=[3.5, 4.0, 3.0, 2.5]), "bar 4: open = 3.5, high = 4.0"),
        (
            "not_a_candle",
            lambda w: put(w, 2, 4, value=[3.5, 3.0, 4.0, 3.5]),
            "high = 3.0, low = 4.0, close = 3.5",
        ),
        ("not_a_candle", lambda w: put(w, 2, 4, value=[0.0, 0.0, 0.0, 0.0]), "bar 4: open = 0.0"),
        ("not_a_candle", lambda w: put(w, 2, 4, value=[1.0, 1e39, 1.0, 1.0]), "high = 1e+39"),
    ],
)
def test_malformed_windows_are_named(kind: str, change: Callable[[list[Any]], None], what: str) -> None:
    table = raw(bad_window(change))
    error = refused(kind, reading=lambda: read_raw_windows(table, window_length=10))
    assert error.rows == {kind: [3]}
    assert "    <pyarrow.Table>, row 3: " in str(error)
    assert what in str(error)
    assert error.problems[0].row == 3
    # Without that row nothing is wrong, wherever its numbers were.
    rest = pa.concat_tables([table.slice(0, 2), table.slice(3)])
    good = read_raw_windows(raw(candles(5, 10)), window_length=10, config={"warmup_bars": 3})
    got = read_raw_windows(rest, window_length=10, config={"warmup_bars": 3})
    assert np.array_equal(got.X, good.X[[0, 1, 3, 4]])


def test_every_malformed_row_is_named(tmp_path: Path) -> None:
    """Across batches and row groups, which do not align with the windows."""
    bars = candles(3000, 10)
    windows = bars.tolist()
    for i in range(0, 3000, 3):
        windows[i] = windows[i][:9]
    for i in range(1500, 1600):
        windows[i][4][3] = None
    path = tmp_path / "raw.parquet"
    table = raw(nested(windows))
    pq.write_table(table, path, row_group_size=700)
    error = refused("bar_count", "not_finite", reading=lambda: read_raw_windows(path, window_length=10))
    short = list(range(1, 3001, 3))
    assert error.rows["bar_count"] == short
    assert error.rows["not_finite"] == [row for row in range(1501, 1601) if row not in short]
    assert error.counts["bar_count"] == 1000
    assert len(error.problems) == 20

    good = np.setdiff1d(np.arange(3000), [row - 1 for rows in error.rows.values() for row in rows])
    pq.write_table(table.take(good), path, row_group_size=700)
    got = read_raw_windows(path, window_length=10, config={"warmup_bars": 3})
    want = [
        moola.compute_features(*(np.ascontiguousarray(column) for column in window.T), feature_set="ohlc4")
        for window in bars[good]
    ]
    assert np.array_equal(got.X, np.stack(want))


def test_labels_of_raw_windows_are_checked() -> None:
    windows = candles(6, 30)
    table = raw(
        windows,
        label=["up", None, "up", "up", "up", "up"],
        start=[1, 2, 3, -1, 9, 5],
        end=[4, 4, 30, -1, 8, None],
        weight=[1.0, 1.0, 1.0, -1.0, 1.0, 1.0],
    )
    kinds = ("no_class", "span_outside", "span_reversed", "half_span", "bad_weight")
    error = refused(*kinds, reading=lambda: read_raw_windows(table, window_length=30))
    assert error.rows == {
        "no_class": [2],
        "span_outside": [3],
        "bad_weight": [4],
        "span_reversed": [5],
        "half_span": [6],
    }
    assert "row 3: start = 3, end = 30: bars 3 to 30 in a window of bars 0 to 29" in str(error)
    times = raw(windows, start=[iso(T[0])] * 6, end=[iso(T[1])] * 6)
    with pytest.raises(
        InputError, match=r"column 'start' has times; bars of pre-cut windows have none. Count the first"
    ):
        read_raw_windows(times, window_length=30)


def test_a_window_that_never_warms_up_is_refused() -> None:
    error = refused("never_valid", reading=lambda: read_raw_windows(raw(candles(4, 15)), window_length=15))
    assert error.rows == {"never_valid": [1, 2, 3, 4]}
    assert "row 1: none of 15 bars is valid" in str(error)
    assert read_raw_windows(raw(candles(4, 21)), window_length=21).valid_mask.sum() == 4
    explicit = read_raw_windows(raw(candles(4, 15)), window_length=15, config=FeatureConfig(warmup_bars=14))
    assert explicit.parameters["warmup_bars"] == 14
    other = read_raw_windows(raw(candles(4, 25)), window_length=25, config=FeatureConfig(atr_period=3))
    assert (other.parameters["warmup_bars"], other.parameters["atr_period"]) == (20, 3)


def test_raw_windows_that_overlap_share_a_group() -> None:
    series = candles(1, 400)[0]
    starts = [0, 200, 30, 100, 250, 57]
    got = read_raw_windows(raw(np.stack([series[i : i + 30] for i in starts])), window_length=30)
    assert got.groups.tolist() == [0, 1, 2, 3, 4, 2]
    assert "overlap: 2 windows share bars with others, in 1 group; keep" in "\n".join(got.report())
    assert (got.starts[1:] > got.ends[:-1]).all()


def test_raw_windows_that_share_a_moment_share_a_group() -> None:
    """By time, regardless of symbol and price. Examples are back-adjusted copies, and windows that share a
    single bar."""
    at = np.array([100, 129, 159, 200, 215])  # of 30 bars: 100 and 129 share one bar, 129 and 159 none
    table = raw(candles(5, 30), window_end=[iso(T[i]) for i in at])

    def groups(table: pa.Table, **options: Any) -> list[int]:
        return read_raw_windows(table, window_length=30, **options).groups.tolist()

    assert groups(table) == [0, 0, 1, 2, 2]
    assert groups(table.drop_columns("window_end")) == [0, 1, 2, 3, 4]
    assert groups(table.append_column("symbol", pa.array(["A", "B", "A", "B", "B"]))) == [0, 0, 1, 2, 2]
    # A reach of half that, and of more.
    assert groups(table, bar_interval="30s") == [0, 1, 2, 3, 4]
    assert groups(table, bar_interval="2m") == [0, 0, 0, 0, 0]
    # Bars that are equal to the bit are shared as well, regardless of their times.
    series = candles(1, 60)[0]
    bars = np.stack(
        [*candles(2, 30, seed=1), *(series[i : i + 30] for i in (0, 20)), candles(1, 30, seed=2)[0]]
    )
    assert groups(raw(bars, window_end=[iso(T[i]) for i in (40, 60, 150, 250, 299)])) == [0, 0, 1, 1, 2]


@pytest.mark.parametrize(("step", "told"), [(1, ""), (5, "0:05:00"), (0.5, "0:00:30")])
def test_window_ends_that_suggest_another_interval_give_a_notice(step: float, told: str) -> None:
    ends = T[0] + np.arange(100, 124) * int(step * MINUTE)
    table = raw(candles(24, 30), window_end=pa.array(ends, pa.timestamp("ns", "UTC")))
    notices = read_raw_windows(table, window_length=30).notices
    want = (
        f"all windows end multiples of {told} apart, but bars are assumed to be 0:01:00 apart; "
        "if that is wrong, set --bar-interval (bar_interval=)"
    )
    assert notices == ((want,) if told else ())
    assert read_raw_windows(table, window_length=30, bar_interval=f"{step:g}m").notices == ()
    # Two windows may have such ends by chance.
    assert read_raw_windows(table.slice(0, 2), window_length=30).notices == ((want,) if step < 1 else ())


def test_spans_in_the_warm_up_give_a_notice(store: FeatureStore) -> None:
    windows = candles(6, 30)
    table = raw(windows, start=[1, 5, 18, 20, 19, -1], end=[5, 19, 22, 22, 20, -1])
    several = read_raw_windows(table, window_length=30).notices
    assert several == (
        "rows 1 to 2 have spans that lie wholly in the warm-up: models do not learn from these spans",
        "rows 3, 5 have spans that begin in the warm-up: their warm-up bars are left off",
    )
    one = read_raw_windows(table.slice(1, 2), window_length=30).notices
    assert one == (
        "row 1 has a span that lies wholly in the warm-up: models do not learn from this span",
        "row 2 has a span that begins in the warm-up: its warm-up bars are left off",
    )
    # Also with a store, at the start of a segment. A row that was dropped before it is counted.
    labelled = rows(
        window_end=[100, 100, 320], **{"class": ["up"] * 3}, start=[95, 95, 309], end=[99, 99, 315]
    )
    got = read_labels(labelled, store, window_length=12)
    assert got.notices[1:] == ("row 3 has a span that begins in the warm-up: its warm-up bars are left off",)
    assert f"note: {got.notices[1]}" in got.report()


def test_one_huge_number_does_not_turn_rows_into_times(store: FeatureStore) -> None:
    huge = [100, 110, 10**18, 130]
    error = refused(
        "no_such_bar", reading=lambda: read_labels(rows(window_end=huge, **{"class": list("abab")}), store)
    )
    assert error.rows == {"no_such_bar": [3]}
    assert "window_end = 1000000000000000000; the bars are rows 0 to 458" in str(error)
    spans = rows(
        window_end=[100, 110, 120], **{"class": list("aba")}, start=[95, 105, 115], end=[99, 10**18, 119]
    )
    error = refused("span_outside", reading=lambda: read_labels(spans, store))
    assert error.rows == {"span_outside": [2]}
    # One small number does not turn times into rows either.
    times = rows(window_end=[int(T[100]), 7, int(T[120])], **{"class": list("aba")})
    assert refused("bad_time", reading=lambda: read_labels(times, store)).rows == {"bad_time": [2]}


def test_repeated_raw_windows_are_dropped() -> None:
    windows = candles(3, 30)[[0, 1, 0, 2]]
    same = raw(windows, label=["up", "down", "up", "up"])
    got = read_raw_windows(same, window_length=30)
    assert (len(got), got.notices) == (3, ("row 3 repeats another exactly and was dropped",))
    assert got.ends.tolist() == [29, 59, 89]
    # The same bars of another symbol, or at another time, are another window: in the same group.
    symbols, ends = ["A", "A", "B", "A"], [iso(T[i]) for i in (40, 100, 200, 290)]
    for more in ({"symbol": symbols}, {"window_end": ends}, {"symbol": symbols, "window_end": ends}):
        got = read_raw_windows(raw(windows, label=["up", "down", "down", "up"], **more), window_length=30)
        assert (got.y.tolist(), got.notices) == ([1, 0, 0, 1], ())
        assert got.groups.tolist() == [0, 1, 0, 2]
    both = {"symbol": ["A", "A", "A", "A"], "window_end": [ends[0], ends[1], ends[0], ends[2]]}
    repeated = raw(windows, label=["up", "down", "up", "up"], **both)
    assert len(read_raw_windows(repeated, window_length=30)) == 3
    different = raw(windows, label=["up", "down", "down", "up"])
    error = refused("different_labels", reading=lambda: read_raw_windows(different, window_length=30))
    assert "row 3: 'down', no span; row 1 has 'up', no span" in str(error)


def test_raw_windows_may_have_symbols_and_times() -> None:
    times = pa.array(T[[40, 50, 60]], pa.timestamp("ns", "UTC"))
    got = read_raw_windows(
        raw(candles(3, 30), symbol=["ES", "NQ", "ES"], window_end=times, weight=[1, 0, 3]), window_length=30
    )
    assert got.symbols.tolist() == ["ES", "NQ", "ES"]
    assert got.times is not None
    assert got.times.tolist() == T[[40, 50, 60]].tolist()
    assert got.first_times is not None
    assert got.first_times.tolist() == (T[[40, 50, 60]] - 29 * MINUTE).tolist()
    assert got.weight.tolist() == [1, 0, 3]
    missing = raw(candles(2, 30), window_end=[iso(T[0]), None])
    error = refused("no_window_end", reading=lambda: read_raw_windows(missing, window_length=30))
    assert "row 2: window_end = nothing" in str(error)


def test_columns_that_are_not_windows_are_refused(tmp_path: Path) -> None:
    for column in (pa.array([1.0]), pa.array([[1.0]]), pa.array([[["a"]]]), pa.array([[[[1.0]]]])):
        with pytest.raises(InputError, match=r"'features' has the wrong type .*; a window is a list of bars"):
            read_raw_windows(raw(column))
    with pytest.raises(
        InputError, match=r"has no column for features; its columns are 'window_end', 'class'"
    ):
        read_raw_windows(rows())
    (tmp_path / "raw.csv").write_text("features,label\n[1],up\n")
    with pytest.raises(InputError, match=r"'features' has the wrong type"):
        read_raw_windows(tmp_path / "raw.csv")
    with pytest.raises(ConfigError, match=r"feature_set: there is no 'ohlc5'; did you mean 'ohlc4'"):
        read_raw_windows(raw(candles(2, 30)), feature_set="ohlc5")
    with pytest.raises(ConfigError, match=r"window_length: 0 is not a number of bars"):
        read_raw_windows(raw(candles(2, 30)), window_length=0)
