"""The content of a store: statistics compared with numpy, and gaps of made-up market schedules."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest

import moola
from moola.errors import DamagedStoreError, StoreMissingError
from moola.settings.durations import parse_duration
from moola.store.inspect.breaks import GapGroup
from moola.store.inspect.durations import format_duration
from moola.store.inspect.summary import Inspection, inspect_store

MINUTE = 60 * 10**9
HOUR = 60 * MINUTE


def bars_at(timestamps: np.ndarray, symbol: list[str] | None = None, seed: int = 1) -> pa.Table:
    """A random walk at these times."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 1e-4, len(timestamps))))
    open_ = close * (1 + rng.normal(0, 1e-4, len(timestamps)))
    high, low = np.maximum(open_, close) * 1.0001, np.minimum(open_, close) * 0.9999
    columns = {"timestamp": pa.array(timestamps, pa.timestamp("ns", "UTC"))}
    columns |= {"open": open_, "high": high, "low": low, "close": close}
    return pa.table(columns | ({"symbol": symbol} if symbol else {}))


def minutes(begin: datetime, end: datetime) -> np.ndarray:
    """The minutes from one local time to another."""
    first, last = (int(time.timestamp()) * 10**9 for time in (begin, end))
    return np.arange(first, last, MINUTE)


def sessions(
    zone: str, first: str, days: int, opens: timedelta, closes: timedelta, weekdays: range = range(5)
) -> np.ndarray:
    """Minutes of sessions. `opens` and `closes` count from local midnight, and may be negative."""
    tz = ZoneInfo(zone)
    day = datetime.fromisoformat(first)
    pieces = []
    for _ in range(days):
        if day.weekday() in weekdays:
            # Local-time arithmetic, then the zone, so that a session keeps its local times across clock changes.
            pieces.append(minutes((day + opens).replace(tzinfo=tz), (day + closes).replace(tzinfo=tz)))
        day += timedelta(days=1)
    return np.concatenate(pieces)


def inspect(tmp_path: Path, table: pa.Table, **options: object) -> Inspection:
    return inspect_store(moola.build_features(table, tmp_path / "store", **options))  # type: ignore[arg-type]


def by_kind(inspection: Inspection) -> dict[str, list[GapGroup]]:
    kinds: dict[str, list[GapGroup]] = {}
    for group in inspection.gaps:
        kinds.setdefault(group.kind, []).append(group)
    return kinds


@pytest.mark.parametrize("layout", ["bars", "windows"])
def test_statistics_equal_numpy_over_valid_rows(tmp_path: Path, layout: str) -> None:
    times = np.arange(4_000) * MINUTE + 1_700_000_000 * 10**9
    times[1_500:] += 6 * HOUR
    table = bars_at(times)
    store = moola.build_features(table, tmp_path / "plain", reset_on_gap="4h")
    other = moola.build_features(
        table, tmp_path / "other", reset_on_gap="4h", layout=layout, window_length=37
    )
    found = inspect_store(other)
    values = np.asarray(store.features)[np.asarray(store.valid)].astype(np.float64)
    assert found.valid_bars == len(values) == 4_000 - 2 * 105
    assert [f.name for f in found.features] == list(store.feature_names)
    for feature, column in zip(found.features, values.T, strict=True):
        assert feature.mean == pytest.approx(column.mean(), rel=1e-12, abs=1e-14)
        assert feature.std == pytest.approx(column.std(), rel=1e-12)
        assert (feature.min, feature.max) == (column.min(), column.max())
        assert feature.zeros == (column == 0).mean()
    assert (found.features[0].low, found.features[0].high) == (0.0, 1.0)


def test_statistics_take_many_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = bars_at(np.arange(3_000) * MINUTE)
    store = moola.build_features(table, tmp_path / "bars")
    dense = moola.build_features(table, tmp_path / "windows", layout="windows")
    whole = inspect_store(store).features
    monkeypatch.setattr("moola.store.inspect.summary._ROWS", 211)
    for piecewise in (inspect_store(store).features, inspect_store(dense).features):
        for a, b in zip(whole, piecewise, strict=True):
            assert (a.min, a.max, a.zeros) == (b.min, b.max, b.zeros)
            assert a.mean == pytest.approx(b.mean, rel=1e-12, abs=1e-14)
            assert a.std == pytest.approx(b.std, rel=1e-12)


def test_a_store_without_gaps_is_reported(tmp_path: Path) -> None:
    found = inspect(tmp_path, bars_at(np.arange(10_000) * MINUTE))
    assert found.gaps == ()
    assert found.suggestion.reset_on_gap is None
    assert "round the clock" in found.suggestion.why
    assert found.symbols == ()
    assert (found.first_timestamp, found.last_timestamp) == (0, 9_999 * MINUTE)


def test_a_store_of_one_day_is_reported_as_too_short(tmp_path: Path) -> None:
    found = inspect(tmp_path, bars_at(np.arange(600) * MINUTE))
    assert found.suggestion.reset_on_gap is None
    assert "fewer than three days" in found.suggestion.why


def test_missing_minutes_are_not_breaks(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    times = np.arange(60 * 1440) * MINUTE
    times = times[rng.random(len(times)) > 0.05]
    found = inspect(tmp_path, bars_at(times))
    (group,) = found.gaps
    steps = np.diff(times)
    gaps = steps[steps > MINUTE]
    assert group.kind == "missing bars"
    assert group.count == len(gaps)
    assert group.bars == gaps.sum() // MINUTE - len(gaps)
    assert group.longest == gaps.max() - MINUTE
    assert group.typical == MINUTE
    assert found.suggestion.reset_on_gap is None


def test_long_outages_at_random_are_missing_bars(tmp_path: Path) -> None:
    """Many gaps of ten minutes to two hours at random times: none recurs."""
    rng = np.random.default_rng(5)
    keep = np.ones(90 * 1440, dtype=bool)
    for begin in rng.integers(0, len(keep), 600):
        keep[begin : begin + rng.integers(10, 120)] = False
    found = inspect(tmp_path, bars_at((np.arange(len(keep)) * MINUTE)[keep]))
    assert set(by_kind(found)) == {"missing bars"}
    assert found.suggestion.reset_on_gap is None


def test_regular_hours_in_new_york_are_found_across_a_clock_change(tmp_path: Path) -> None:
    hours = timedelta(hours=9, minutes=30), timedelta(hours=16)
    times = sessions("America/New_York", "2024-02-05", 12 * 7, *hours)
    rng = np.random.default_rng(2)
    times = times[rng.random(len(times)) > 0.002]
    found = inspect(tmp_path, bars_at(times))
    kinds = by_kind(found)
    assert set(kinds) == {"daily break", "weekend", "missing bars"}
    (daily,) = kinds["daily break"]
    (weekend,) = kinds["weekend"]
    assert daily.count == 12 * 4
    assert weekend.count == 11
    assert abs(daily.typical - 17.5 * HOUR) <= 5 * MINUTE
    assert abs(weekend.typical - 65.5 * HOUR) <= 5 * MINUTE
    assert set(daily.begins) == {"20:00", "21:00"}
    (missing,) = kinds["missing bars"]
    assert missing.longest < 10 * MINUTE
    assert found.suggestion.reset_on_gap == "4h"
    assert "48 daily breaks and 11 weekends" in found.suggestion.why
    assert "but not at missing bars" in found.suggestion.why
    assert "the warm-up takes 105 of" in found.suggestion.why


def globex(first: str, days: int) -> np.ndarray:
    """Chicago, from 17:00 to 16:00 the next day, Sunday to Friday."""
    hours = timedelta(hours=-7), timedelta(hours=16)
    return sessions("America/Chicago", first, days, *hours)


def test_the_daily_break_and_weekend_of_a_future_are_found(tmp_path: Path) -> None:
    found = inspect(tmp_path, bars_at(globex("2024-01-01", 40 * 7)))
    kinds = by_kind(found)
    assert set(kinds) == {"daily break", "weekend"}
    assert [(g.count, g.typical) for g in kinds["daily break"]] == [(40 * 4, HOUR)]
    (weekend,) = kinds["weekend"]
    # Two of them are an hour shorter or longer in UTC.
    assert (weekend.count, weekend.typical) == (39, 49 * HOUR)
    assert found.suggestion.reset_on_gap == "4h"
    assert found.suggestion.why == "ends segments at 39 weekends, but not at daily breaks (at most 1h)"


def test_holidays_count_as_longer_breaks(tmp_path: Path) -> None:
    times = globex("2024-04-08", 20 * 7)
    chicago = ZoneInfo("America/Chicago")
    # An early close on 3 July, closed on 4 July; and a hole in a session that is no break.
    closed = (datetime(2024, 7, 3, 12, tzinfo=chicago), datetime(2024, 7, 4, 17, tzinfo=chicago))
    hole = (datetime(2024, 5, 7, 6, tzinfo=chicago), datetime(2024, 5, 7, 7, tzinfo=chicago))
    for begin, end in (closed, hole):
        a, b = (int(time.timestamp()) * 10**9 for time in (begin, end))
        times = times[(times < a) | (times >= b)]
    kinds = by_kind(inspect(tmp_path, bars_at(times)))
    (longer,) = kinds["longer break"]
    assert (longer.count, longer.typical) == (1, 29 * HOUR)
    (missing,) = kinds["missing bars"]
    assert (missing.count, missing.longest, missing.bars) == (1, HOUR, 60)
    (gap,) = missing.examples
    assert gap.next_timestamp == int(hole[1].timestamp()) * 10**9
    assert gap.last_timestamp == int(hole[0].timestamp()) * 10**9 - MINUTE


def test_the_weekend_of_a_round_the_clock_market_is_found(tmp_path: Path) -> None:
    """FX: the weekend begins and ends at the same time of day."""
    times = np.arange(10 * 7 * 1440) * MINUTE + 4 * 24 * HOUR  # From Monday, 5 January 1970.
    offset = (times - 4 * 24 * HOUR) % (7 * 24 * HOUR)
    times = times[(offset < 4 * 24 * HOUR + 22 * HOUR) | (offset >= 6 * 24 * HOUR + 22 * HOUR)]
    found = inspect(tmp_path, bars_at(times))
    (weekend,) = found.gaps
    assert (weekend.kind, weekend.count, weekend.typical, weekend.begins) == (
        "weekend",
        10,
        48 * HOUR,
        ("22:00",),
    )
    assert found.suggestion.reset_on_gap == "4h"


def test_a_short_daily_break_suggests_nothing(tmp_path: Path) -> None:
    times = np.arange(30 * 1440) * MINUTE
    times = times[times % (24 * HOUR) // MINUTE // 15 != 40]
    found = inspect(tmp_path, bars_at(times))
    (daily,) = found.gaps
    assert (daily.kind, daily.count, daily.typical, daily.begins) == (
        "daily break",
        30,
        15 * MINUTE,
        ("10:00",),
    )
    assert found.suggestion.reset_on_gap is None
    assert "short, typically 15m" in found.suggestion.why


def test_sessions_too_short_for_a_window_suggest_nothing(tmp_path: Path) -> None:
    times = sessions("Asia/Tokyo", "2024-02-05", 28, timedelta(hours=9), timedelta(hours=10))
    found = inspect(tmp_path, bars_at(times))
    assert found.suggestion.reset_on_gap is None
    assert "about 60 bars in each, too few for a window" in found.suggestion.why


def test_the_suggested_gap_works(tmp_path: Path) -> None:
    """A store built with the suggestion has one segment per week, and suggests the same."""
    table = bars_at(globex("2024-01-01", 10 * 7))
    first = inspect(tmp_path / "first", table)
    assert first.suggestion.reset_on_gap is not None
    second = inspect(tmp_path / "second", table, reset_on_gap=first.suggestion.reset_on_gap)
    assert len(second.segments) == 10
    assert second.gaps == first.gaps
    assert second.suggestion == first.suggestion


def test_gaps_are_counted_per_symbol(tmp_path: Path) -> None:
    """Gaps are those of each symbol, not of the panel, and not between symbols."""
    hours = timedelta(hours=9, minutes=30), timedelta(hours=16)
    stock = sessions("America/New_York", "2024-05-06", 5 * 7, *hours)
    coin = minutes(*(datetime(2024, 5, day, tzinfo=ZoneInfo("UTC")) for day in (6, 20)))
    tables = [
        bars_at(times, [name] * len(times)) for name, times in (("COIN", coin), ("A", stock), ("B", stock))
    ]
    found = inspect(tmp_path, pa.concat_tables(tables))
    assert found.symbols == ("A", "B", "COIN")
    counts = {group.kind: group.count for group in found.gaps}
    assert counts == {"daily break": 2 * 5 * 4, "weekend": 2 * 4}
    assert {gap.symbol for group in found.gaps for gap in group.examples} <= {"A", "B"}


def test_splits_have_times(tmp_path: Path) -> None:
    times = np.arange(3_000) * MINUTE
    found = inspect(tmp_path, bars_at(times), split=(0.5, 0.5, 0.0))
    train, val, test = found.splits
    assert (train.bars, train.first_timestamp, train.last_timestamp) == (1_500, 0, 1_499 * MINUTE)
    assert (val.bars, val.first_timestamp, val.last_timestamp) == (1_500, 1_500 * MINUTE, 2_999 * MINUTE)
    assert (test.bars, test.windows, test.first_timestamp, test.last_timestamp) == (0, 0, None, None)


def test_splits_of_symbols_with_other_time_ranges_are_reported(tmp_path: Path) -> None:
    early, late = np.arange(2_000) * MINUTE, np.arange(1_000, 3_000) * MINUTE
    tables = [bars_at(late, ["A"] * 2_000), bars_at(early, ["B"] * 2_000)]
    store = moola.build_features(pa.concat_tables(tables), tmp_path / "store")
    for summary in inspect_store(store).splits:
        rows = np.concatenate([np.arange(a, b) for a, b in store.splits[summary.name].ranges])
        assert summary.first_timestamp == store.timestamps[rows].min()
        assert summary.last_timestamp == store.timestamps[rows].max()


def test_as_dict_is_json(tmp_path: Path) -> None:
    found = inspect(tmp_path, bars_at(globex("2024-01-01", 14)))
    record = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert record["path"] == str(tmp_path / "store")
    assert record["segments"][0]["last_row"] == found.bars - 1
    assert record["gaps"][0]["kind"] == "daily break"
    assert record["gaps"][0]["examples"][0] == {
        "symbol": "",
        "last_timestamp": found.gaps[0].examples[0].last_timestamp,
        "next_timestamp": found.gaps[0].examples[0].next_timestamp,
    }
    assert record["features"][0]["name"] == "open_norm"
    assert record["suggestion"]["reset_on_gap"] == found.suggestion.reset_on_gap


def test_reported_bytes_equal_those_on_disk(tmp_path: Path) -> None:
    found = inspect(tmp_path, bars_at(np.arange(500) * MINUTE))
    assert found.bytes == sum(file.stat().st_size for file in (tmp_path / "store").iterdir())


def test_a_single_valid_bar_is_inspected(tmp_path: Path) -> None:
    table = bars_at(np.arange(400) * MINUTE)
    store = moola.build_features(
        table, tmp_path / "store", config={"warmup_bars": 399}, window_length=1, split=(1.0, 0.0, 0.0)
    )
    found = inspect_store(store)
    assert found.valid_bars == 1
    assert [f.mean for f in found.features] == store.features[399].tolist()
    assert [f.std for f in found.features] == [0.0] * 10


def test_a_missing_store_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreMissingError, match=r"nothing: there is no feature store\. Check the path"):
        inspect_store(tmp_path / "nothing")
    (tmp_path / "bars.csv").write_text("a")
    with pytest.raises(StoreMissingError, match="is not a directory, so not a feature store"):
        inspect_store(tmp_path / "bars.csv")


def test_a_damaged_store_is_refused(tmp_path: Path) -> None:
    moola.build_features(bars_at(np.arange(500) * MINUTE), tmp_path / "store")
    (tmp_path / "store" / "valid.npy").unlink()
    with pytest.raises(DamagedStoreError, match=r"valid\.npy: is missing"):
        inspect_store(tmp_path / "store")


@pytest.mark.skipif("MOOLA_SHARED" not in os.environ, reason="needs the real bars: set MOOLA_SHARED")
def test_real_bars_are_inspected(tmp_path: Path) -> None:
    data = Path(os.environ["MOOLA_SHARED"]) / "data"
    index = moola.build_features(
        data / "sp500_1min_2019-11.csv",
        tmp_path / "index",
        tz="America/New_York",
        time_format="%m/%d/%Y %H:%M",
    )
    found = inspect_store(index)
    (overnight,) = found.gaps
    assert (overnight.kind, overnight.count, overnight.begins) == ("daily break", 3, ("21:00",))
    assert found.suggestion.reset_on_gap == "4h"
    for name in ("btcusdt", "btcusdc"):
        coin = moola.build_features(data / f"{name}_1min_2023-03.csv", tmp_path / name)
        found = inspect_store(coin)
        assert (found.gaps, found.suggestion.reset_on_gap) == ((), None)
        assert "round the clock" in found.suggestion.why


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (60 * 10**9, "1m"),
        (90 * 60 * 10**9, "1h 30m"),
        (49 * HOUR, "2d 1h"),
        (4 * HOUR, "4h"),
        (1_500_000, "1ms 500us"),
        (24 * HOUR + 1, "1d 1ns"),
    ],
)
def test_written_durations_can_be_read_back(nanoseconds: int, text: str) -> None:
    assert format_duration(nanoseconds) == text
    if nanoseconds:
        assert parse_duration(text) == nanoseconds
