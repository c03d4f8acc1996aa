"""Splits and window arithmetic, compared with the rules applied bar by bar."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_store import MINUTE, START, make_segments, times_of

from moola import _core
from moola.errors import ConfigError, InputError
from moola.splits import NAMES, Segment, SplitOptions, count_windows, make_splits, window_starts
from moola.store.split_options import midnight_after
from moola.store.splits import parse_splits


def panel(draw_lengths: list[list[tuple[int, int, int]]]) -> tuple[np.ndarray, list[Segment]]:
    """Symbols of segments, each (minutes after the previous one, bars, bars before the first valid one)."""
    segments: list[Segment] = []
    times: list[np.ndarray] = []
    row = 0
    for k, symbol in enumerate(draw_lengths):
        at = START
        for gap, length, warmup in symbol:
            begin = at + gap * MINUTE
            t = begin + np.arange(length, dtype=np.int64) * MINUTE
            valid = row + warmup if warmup < length else None
            segments.append(Segment(f"S{k}", row, row + length - 1, begin, int(t[-1]), MINUTE, valid))
            times.append(t)
            row += length
            at = int(t[-1]) + MINUTE
    return np.concatenate(times), segments


SYMBOLS = st.lists(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 30), st.integers(0, 12)), min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)
SHARES = st.lists(st.integers(0, 100), min_size=3, max_size=3).filter(lambda s: 0 < sum(s) <= 100)


def all_starts(segments: list[Segment], ranges: np.ndarray, length: int, stride: int) -> list[int]:
    """The definition, window by window."""
    starts = []
    for segment in segments:
        origin = None
        for start in range(segment.first_row, segment.last_row - length + 2):
            last = start + length - 1
            inside = any(a <= start and last < b for a, b in ranges)
            if inside and segment.first_valid is not None and last >= segment.first_valid:
                origin = start if origin is None else origin
                if (start - origin) % stride == 0:
                    starts.append(start)
    return starts


@given(
    SYMBOLS,
    st.lists(st.integers(0, 300), max_size=12, unique=True),
    st.integers(1, 20),
    st.integers(1, 9),
)
def test_windows_equal_their_definition(symbols, points, length, stride):
    times, segments = panel(symbols)
    points = sorted({min(p, len(times)) for p in points})
    points = points[: len(points) // 2 * 2]
    ranges = np.array(points, dtype=np.int64).reshape(-1, 2)
    expected = all_starts(segments, ranges, length, stride)
    starts = window_starts(segments, ranges, length, stride)
    assert starts.dtype == np.int64
    assert starts.tolist() == expected
    assert count_windows(segments, ranges, length, stride) == len(expected)


def test_touching_ranges_are_not_merged():
    segments = make_segments([30], warmup=0)
    assert window_starts(segments, [[0, 10], [10, 30]], 8).tolist() == [0, 1, 2, *range(10, 23)]


def test_the_last_bar_must_be_valid_and_only_the_last():
    segments = make_segments([30], warmup=12)
    assert window_starts(segments, [[0, 30]], 5).tolist() == list(range(8, 26))
    assert window_starts(segments, [[0, 30]], 20).tolist() == list(range(11))
    assert len(window_starts(make_segments([10], warmup=10), [[0, 10]], 2)) == 0


def test_a_stride_counts_from_each_segments_first_window():
    segments = make_segments([20, 20], warmup=0)
    assert window_starts(segments, [[3, 38]], 5, 4).tolist() == [3, 7, 11, 15, 20, 24, 28, 32]


@pytest.mark.parametrize(
    ("length", "stride", "name"), [(0, 1, "window_length"), (5, 0, "stride"), (-1, 1, "window")]
)
def test_lengths_and_strides_are_positive(length, stride, name):
    with pytest.raises(ConfigError, match=rf"{name}.*give 1 or more"):
        window_starts(make_segments([20]), [[0, 20]], length, stride)


def expected_rows(
    times: np.ndarray, segments: list[Segment], boundaries: list[int], embargo: int
) -> dict[str, list[int]]:
    """Bar by bar: the split by time, without the embargo's bars, which are counted along each symbol."""
    rows: dict[str, list[int]] = {name: [] for name in NAMES}
    symbols: dict[str, list[int]] = {}
    for s in segments:
        symbols.setdefault(s.symbol, []).extend(range(s.first_row, s.last_row + 1))
    for members in symbols.values():
        dropped = set()
        for boundary in boundaries:
            if (times < boundary).any():
                dropped.update([row for row in members if times[row] >= boundary][:embargo])
        for row in members:
            split = sum(times[row] >= b for b in boundaries)
            if split < 3 and row not in dropped:
                rows[NAMES[split]].append(row)
    return rows


@given(SYMBOLS, SHARES, st.integers(0, 15), st.integers(1, 8))
def test_fractions_cut_all_symbols_at_one_time(symbols, shares, embargo, length):
    times, segments = panel(symbols)
    fractions = [share / 100 for share in shares]
    try:
        record, warnings = make_splits(
            times, segments, SplitOptions(fractions=fractions, embargo=embargo), length
        )
    except InputError:
        return
    in_order = np.sort(times)
    for i, boundary in enumerate(record["boundaries"]):
        # The smallest time of a bar by which the share has passed.
        count = math.ceil(Fraction(sum(shares[: i + 1]), 100) * len(times))
        assert (times < boundary).sum() >= count
        if count:
            by = in_order[count - 1]
            assert (times < boundary).sum() == (times <= by).sum()
        else:
            assert not (times < boundary).any()
    check(times, segments, record, warnings, embargo, length)


def check(times, segments, record, warnings, embargo, length):
    assert record == json.loads(json.dumps(record))
    splits = parse_splits(record, len(times))
    expected = expected_rows(times, segments, record["boundaries"], embargo)
    owners = np.zeros(len(times), int)
    for name, split in splits.items():
        rows = [row for a, b in split.ranges for row in range(a, b)]
        assert rows == expected[name]
        assert split.bars == len(rows)
        assert all(b < a for (_, b), (a, _) in pairwise(split.ranges)), "neighbours are one range"
        assert split.windows == len(all_starts(segments, split.ranges, length, 1))
        assert any(w.startswith(f"{name} ") for w in warnings) == (split.windows == 0)
        # For any K, no bar is shared between windows of two splits.
        used = np.zeros(len(times), bool)
        for start in window_starts(segments, split.ranges, 3):
            used[start : start + 3] = True
        owners += used
    assert owners.max(initial=0) <= 1
    for earlier, later in pairwise(NAMES):
        if splits[earlier].bars and splits[later].bars:
            assert max(times[r] for r in expected[earlier]) < min(times[r] for r in expected[later])


def test_the_default_split_is_70_15_15():
    segments = make_segments([1000], warmup=0)
    record, warnings = make_splits(times_of(segments), segments, SplitOptions(), 50)
    assert record["fractions"] == [0.7, 0.15, 0.15]
    assert (record["method"], record["purge"], record["embargo"]) == ("fractions", 49, 0)
    assert [record["splits"][name]["ranges"] for name in NAMES] == [[[0, 700]], [[700, 850]], [[850, 1000]]]
    assert [record["splits"][name]["windows"] for name in NAMES] == [651, 101, 101]
    assert warnings == []


def test_fractions_below_1_leave_bars_in_no_split():
    segments = make_segments([100], warmup=0)
    record, _ = make_splits(times_of(segments), segments, SplitOptions(fractions=(0.5, 0.2, 0.1)), 5)
    assert [record["splits"][name]["ranges"] for name in NAMES] == [[[0, 50]], [[50, 70]], [[70, 80]]]


def test_thirds_leave_no_bar_out():
    segments = make_segments([100], warmup=0)
    record, _ = make_splits(times_of(segments), segments, SplitOptions(fractions=(1 / 3, 1 / 3, 1 / 3)), 5)
    assert [record["splits"][name]["bars"] for name in NAMES] == [34, 33, 33]


def test_an_embargo_crosses_segments_and_splits():
    segments = make_segments([10, 10, 10, 10], warmup=0)
    times = times_of(segments)
    record, warnings = make_splits(times, segments, SplitOptions(fractions=(0.5, 0.2, 0.3), embargo=12), 3)
    assert [record["splits"][name]["ranges"] for name in NAMES] == [[[0, 20]], [], []]
    assert [w.split()[0] for w in warnings] == ["val", "test"]
    record, _ = make_splits(times, segments, SplitOptions(fractions=(0.5, 0.2, 0.3), embargo=3), 3)
    assert [record["splits"][name]["ranges"] for name in NAMES] == [[[0, 20]], [[23, 28]], [[31, 40]]]


def test_contracts_that_overlap_in_time_are_cut_one_by_one():
    # One symbol, two contracts traded over the same hours.
    segments = [
        Segment("ES", 0, 9, START, START + 9 * MINUTE, MINUTE, 0),
        Segment("ES", 10, 19, START, START + 9 * MINUTE, MINUTE, 10),
    ]
    record, _ = make_splits(times_of(segments), segments, SplitOptions(fractions=(0.5, 0.5, 0.0)), 2)
    assert record["splits"]["train"]["ranges"] == [[0, 5], [10, 15]]
    assert record["splits"]["val"]["ranges"] == [[5, 10], [15, 20]]


# Dates


def minutes(begin: datetime, end: datetime) -> tuple[np.ndarray, list[Segment]]:
    first, last = (int(t.timestamp()) * 1_000_000_000 for t in (begin, end))
    times = np.arange(first, last, 15 * MINUTE, dtype=np.int64)
    return times, [Segment("", 0, len(times) - 1, first, int(times[-1]), 15 * MINUTE, 0)]


@pytest.mark.parametrize(
    ("zone", "year", "month", "day"),
    [
        ("UTC", 2024, 6, 1),
        ("America/New_York", 2024, 3, 8),  # clocks go forward at 2:00 on the 10th
        ("America/New_York", 2024, 11, 1),  # and back at 2:00 on the 3rd
        ("Asia/Beirut", 2024, 3, 29),  # midnight of the 31st does not exist
        ("America/Havana", 2024, 11, 1),  # at 1:00 of the 3rd clocks go back to midnight, which comes twice
        ("Asia/Tokyo", 2024, 1, 1),
        ("Pacific/Apia", 2011, 12, 28),  # there was no 30th
    ],
)
@pytest.mark.parametrize("embargo", [0, 7])
def test_a_bar_belongs_to_the_split_of_its_day(zone, year, month, day, embargo):
    tz = ZoneInfo(zone)
    begin = datetime(year, month, day, tzinfo=UTC) - timedelta(days=1)
    times, segments = minutes(begin, begin + timedelta(days=7))
    ends = [date(year, month, day) + timedelta(days=k) for k in (1, 2, 3)]
    options = SplitOptions(
        train_end=ends[0], val_end=str(ends[1]), test_end=ends[2], tz=zone, embargo=embargo
    )
    record, warnings = make_splits(times, segments, options, 4)
    assert record["tz"] == zone
    assert [record[f"{name}_end"] for name in NAMES] == [str(end) for end in ends]
    days = [datetime.fromtimestamp(t // 1_000_000_000, tz).date() for t in times]
    for boundary, end in zip(record["boundaries"], ends, strict=True):
        assert [t < boundary for t in times] == [d <= end for d in days]
    check(times, segments, record, warnings, embargo, 4)


@given(
    zone=st.sampled_from(_core.time_zones()),
    # Databases of other years and other makers agree on these.
    day=st.dates(date(2000, 1, 1), date(2024, 12, 31)),
)
def test_midnights_equal_those_of_zoneinfo(zone, day):
    following = day + timedelta(days=1)
    # Fold 0: of two midnights the first; one that clocks skip is read with the offset before.
    midnight = datetime(following.year, following.month, following.day, tzinfo=ZoneInfo(zone))
    assert midnight_after("train_end", day, zone) == int(midnight.timestamp()) * 1_000_000_000


@pytest.mark.parametrize(
    ("zone", "day", "midnight"),
    [
        ("Asia/Beirut", date(2024, 3, 30), "2024-03-30T22:00"),  # skipped: 24:00 is 1:00 of the 31st
        ("America/Havana", date(2024, 11, 2), "2024-11-03T04:00"),  # comes twice: the first
        ("Pacific/Apia", date(2011, 12, 29), "2011-12-30T10:00"),  # there was no 30th
        ("Africa/Monrovia", date(1970, 6, 1), "1970-06-02T00:44:30"),
        ("Europe/London", date(2099, 7, 1), "2099-07-01T23:00"),
        ("UTC", date(2262, 4, 10), "2262-04-11T00:00"),
    ],
)
def test_midnights_that_clocks_skip_or_repeat_are_resolved(zone, day, midnight):
    assert midnight_after("train_end", day, zone) == int(np.datetime64(midnight, "ns").view(np.int64))


def test_zones_need_no_database_of_the_system():
    program = """
import sys
sys.modules["tzdata"] = None
import zoneinfo
try:
    zoneinfo.ZoneInfo("America/New_York")
except zoneinfo.ZoneInfoNotFoundError:
    pass
else:
    raise SystemExit("this process still has a database")
from datetime import date
from moola.splits import SplitOptions
from moola.store.split_options import midnight_after
SplitOptions(tz="America/New_York")
SplitOptions(fractions=(0.5, 0.25, 0.25), tz="Europe/Berlin")
print(midnight_after("train_end", date(2024, 6, 30), "America/New_York"))
"""
    environment = os.environ | {"PYTHONTZPATH": ""}
    said = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    assert int(said.stdout) == int(datetime(2024, 7, 1, 4, tzinfo=UTC).timestamp()) * 1_000_000_000


def test_bars_after_the_last_day_belong_to_no_split():
    times, segments = minutes(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 11, tzinfo=UTC))
    options = SplitOptions(train_end="2024-01-03", val_end="2024-01-05", test_end="2024-01-06")
    record, _ = make_splits(times, segments, options, 10)
    assert [record["splits"][name]["ranges"] for name in NAMES] == [[[0, 288]], [[288, 480]], [[480, 576]]]


@pytest.mark.parametrize("tz", ["UTC", "America/New_York", "Pacific/Auckland"])
@pytest.mark.parametrize("hours", [1, 5, 23, 24])
def test_test_ends_with_the_last_day_where_no_end_is_given(tz, hours):
    times, segments = minutes(
        datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 9, tzinfo=UTC) + timedelta(hours=hours)
    )
    first = {"train_end": "2024-01-03", "val_end": "2024-01-05", "tz": tz}
    record, warnings = make_splits(times, segments, SplitOptions(**first), 10)
    assert warnings == []
    assert record["splits"]["test"]["ranges"][-1][1] == len(times), "every bar after val is test's"
    last = datetime.fromtimestamp(int(times[-1]) / 1e9, ZoneInfo(tz)).date()
    assert record["test_end"] == last.isoformat()
    # The record says all that verifying needs.
    again, _ = make_splits(times, segments, SplitOptions(**first, test_end=record["test_end"]), 10)
    assert again == record


def test_a_split_without_windows_is_reported():
    times, segments = minutes(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 4, tzinfo=UTC))
    options = SplitOptions(train_end="2024-01-02", val_end="2024-01-02", test_end="2024-02-01")
    _, warnings = make_splits(times, segments, options, 10)
    assert warnings == ["val has no window of 10 bars (0 bars)"]


def test_no_window_at_all_is_an_error():
    segments = make_segments([30, 20, 120])
    with pytest.raises(
        InputError, match=r"no window of 110 bars remains \(2 of 3 segments .* shorter.*Give more bars"
    ):
        make_splits(times_of(segments), segments, SplitOptions(), 110)


def ends(train, val, test):
    return {"train_end": train, "val_end": val, "test_end": test}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fractions": (0.7, 0.2, 0.2)}, r"split: .* sum to 1.1; give"),
        ({"fractions": (0.7, 0.3)}, r"split: .* not three numbers; give"),
        ({"fractions": (0.7, -0.1, 0.1)}, r"split: .* negative"),
        ({"fractions": (0.7, float("nan"), 0.1)}, r"split: .* not finite"),
        ({"fractions": (0, 0, 0)}, r"split: .* leave no bar"),
        ({"fractions": "abc"}, r"split: .* not three numbers"),
        ({"train_end": "2024-01-01"}, "val_end: is missing; give train_end, val_end and test_end together"),
        ({"train_end": "2024-01-01", "fractions": (1, 0, 0)}, "split: cannot be combined with train_end"),
        (ends("2024-01-05", "2024-01-03", "2024-02-01"), "val_end: .* lies before train_end .*; exchange"),
        (ends("2024-01-05", "2024-01-07", "2024-01-06"), "test_end: .* lies before"),
        (ends("2023-02-29", "2024-01-03", "2024-02-01"), "train_end: .* calendar"),
        (ends("1.2.2024", "2024-01-03", "2024-02-01"), "train_end: .* YYYY-MM-DD"),
        (ends(datetime(2024, 1, 1), "2024-01-03", "2024-02-01"), "train_end: .* is a time; give a day"),
        ({"tz": "Mars/Olympus"}, "tz: 'Mars/Olympus' is not a time zone; use a name such as"),
        ({"tz": "../UTC"}, "tz: '../UTC' is not a time zone"),
        ({"embargo": -1}, "embargo: -1 is not a number of bars; give 0 or more"),
        ({"embargo": 1.5}, "embargo: 1.5"),
        ({"embargo": True}, "embargo: True"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        SplitOptions(**options)


def test_days_beyond_nanoseconds_are_refused():
    segments = make_segments([100])
    for last in ("2500-01-01", "9999-12-31"):
        options = SplitOptions(train_end="2024-01-01", val_end="2025-01-01", test_end=last)
        with pytest.raises(ConfigError, match=r"test_end: .* give one from 1678 to 2261"):
            make_splits(times_of(segments), segments, options, 10)


@pytest.mark.parametrize("one_symbol", [True, False])
def test_a_hundred_thousand_segments_are_split_in_seconds(one_symbol):
    n, length = 100_000, 20
    gaps = np.arange(n) * (length + 5) * MINUTE if one_symbol else np.arange(n) % 977 * MINUTE
    segments = [
        Segment(
            "" if one_symbol else f"S{k:06}", k * length, (k + 1) * length - 1, START + int(gaps[k]),
            START + int(gaps[k]) + (length - 1) * MINUTE, MINUTE, k * length + 3,
        )
        for k in range(n)
    ]  # fmt: skip
    times = (START + gaps[:, None] + np.arange(length) * MINUTE).ravel()
    begin = time.perf_counter()
    record, _ = make_splits(times, segments, SplitOptions(embargo=2), 10)
    took = time.perf_counter() - begin
    assert sum(split["bars"] for split in record["splits"].values()) > 0.7 * n * length
    assert took < 5, f"{took:.2f} s"


# splits.json


def test_damaged_records_are_refused():
    segments = make_segments([100], warmup=0)
    good = make_splits(times_of(segments), segments, SplitOptions(), 5).record
    assert parse_splits(good, 100)["val"].ranges.tolist() == [[70, 85]]
    assert not parse_splits(good, 100)["val"].ranges.flags.writeable

    def damaged(change):
        record = json.loads(json.dumps(good))
        change(record)
        return record

    train = {"ranges": [[0, 70]], "bars": 70, "windows": 66}
    for change, message in [
        (lambda r: r.update(method="by hand"), "method"),
        (lambda r: r.update(embargo=-1), "embargo"),
        (lambda r: r.pop("purge"), "purge"),
        (lambda r: r["splits"].pop("val"), "train, val, test"),
        (lambda r: r["splits"].update(more=train), "train, val, test"),
        (lambda r: r["splits"].update(train=train | {"ranges": [[0, 101]], "bars": 101}), "beyond the bars"),
        (lambda r: r["splits"].update(train=train | {"ranges": [[0, 40], [30, 60]]}), "out of order"),
        (lambda r: r["splits"].update(train=train | {"ranges": [[5, 5]], "bars": 0}), "empty"),
        (lambda r: r["splits"].update(train=train | {"ranges": [[0, 70, 1]]}), "not a range"),
        (lambda r: r["splits"].update(train=train | {"ranges": [[0, 70.0]]}), "not a number"),
        (lambda r: r["splits"].update(train=train | {"ranges": {}}), "not a list"),
        (
            lambda r: r["splits"].update(train=train | {"bars": 71}),
            "train.bars is 71, but its ranges have 70",
        ),
        (lambda r: r["splits"].update(train=train | {"windows": True}), "windows"),
        (lambda r: r["splits"]["train"].pop("windows"), "windows"),
    ]:
        with pytest.raises(ValueError, match=message):
            parse_splits(damaged(change), 100)
