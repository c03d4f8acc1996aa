"""The times of a live stream: stamp, unit, dates, repeats, and several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from builds import MINUTE, PRICES, SMALL, START, table, times
from hypothesis import HealthCheck, given, settings

import moola
from moola.errors import BarError, ConfigError, StateError, TimestampError
from moola.store import FeatureStore
from moola.store.build import build_features

UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
HELD = 200
"""The bars of the store; the rest come live."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


def columns_of(data: pa.Table) -> list[np.ndarray]:
    return [data[name].to_numpy() for name in PRICES]


def opens_with_gaps(steps: list[int], interval: int) -> np.ndarray:
    return START + np.cumsum([0, *steps]) * interval


def build(data: pa.Table, path: Path, stamp: Any, **options: Any) -> FeatureStore:
    return build_features(data, path, stamp=stamp, overwrite=True, **SMALL, **options)


GAPS = st.lists(st.sampled_from([1] * 30 + [2, 5, 300]), min_size=HELD + 60, max_size=HELD + 60)


@given(
    steps=GAPS,
    interval=st.sampled_from([1, 5, 60]),
    stamp=st.sampled_from(["open", "close"]),
    unit=st.sampled_from([*UNITS, "datetime", "datetime64"]),
    one_by_one=st.booleans(),
    restarts=st.booleans(),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_stream_after_a_store_gives_the_rows_of_the_batch(
    folder: Path, steps: list[int], interval: int, stamp: str, unit: str, one_by_one: bool, restarts: bool
) -> None:
    """For both stamps, every unit and both kinds of dates, gaps that reset included."""
    length = interval * MINUTE
    # The store's own bars have a step of one bar more often than any other, and no long gap at their end.
    opens = opens_with_gaps([1] * 150 + steps[150:], length)
    stamps = opens + (length if stamp == "close" else 0)
    data = table(len(opens), timestamp=times(stamps))
    options = {"reset_on_gap": 100 * length}
    whole = build(data, folder / "whole", stamp, **options)
    store = build(data.slice(0, HELD), folder / "held", stamp, **options)
    stream = moola.FeatureStream.from_store(store, unit=None if "date" in unit else unit)  # type: ignore[arg-type]
    given_times: Any = stamps[HELD:] // UNITS.get(unit, 1)
    if unit == "datetime64":
        given_times = stamps[HELD:].astype("datetime64[ns]")
    elif unit == "datetime":
        zone = timezone(timedelta(hours=-5))
        given_times = [datetime.fromtimestamp(int(t) / 1e9, zone) for t in stamps[HELD:]]
    columns = [column[HELD:] for column in columns_of(data)]
    if one_by_one:
        rows = []
        for *bar, time in zip(*columns, given_times, strict=True):
            rows.append(stream.push(*bar, timestamp=time))
            if restarts:
                stream = moola.FeatureStream.from_state(stream.state())
    else:
        rows = [stream.push_many(*columns, given_times)]
    assert np.vstack(rows).tobytes() == whole.features[HELD:].tobytes()
    assert stream.last_timestamp == whole.timestamps[-1]


@pytest.mark.parametrize("stamp", ["open", "close"])
def test_the_next_thousand_rows_are_those_of_the_batch_though_the_feed_repeats_its_last_bar(
    tmp_path: Path, stamp: str
) -> None:
    """The feed sends the store's last bar again; a stream that took it would differ in 142 rows."""
    data = table(4000, timestamp=times(START + np.arange(4000) * MINUTE))
    stamps = data["timestamp"].cast(pa.int64()).to_numpy()
    bars = np.stack(columns_of(data), axis=1)
    whole = build(data, tmp_path / "whole", stamp)
    stream = moola.FeatureStream.from_store(build(data.slice(0, 3000), tmp_path / "held", stamp))
    assert (stream.stamp, stream.bar_interval, stream.unit) == (stamp, MINUTE, "ns")
    before = stream.state()
    with pytest.raises(BarError) as caught:
        stream.push(*bars[2999], timestamp=int(stamps[2999]))
    assert caught.value.counts == {"duplicate_timestamp": 1}
    assert caught.value.problems[0].timestamp == stamps[2999], "the time is told as the feed gave it"
    assert ("give stamp='open'" in str(caught.value)) == (stamp == "close")
    with pytest.raises(BarError) as caught:
        stream.push_many(*(column[2998:] for column in columns_of(data)), stamps[2998:])
    assert caught.value.counts == {"out_of_order": 1, "duplicate_timestamp": 1}
    assert stream.state() == before
    rows = [stream.push(*bar, timestamp=int(t)) for bar, t in zip(bars[3000:], stamps[3000:], strict=True)]
    assert np.array(rows).tobytes() == whole.features[3000:].tobytes()


def test_a_feed_may_have_another_stamp_than_the_store(tmp_path: Path) -> None:
    data = table(600)
    columns = columns_of(data)
    stamps = data["timestamp"].cast(pa.int64()).to_numpy()
    for built, feed, shift in [("open", "close", MINUTE), ("close", "open", -MINUTE)]:
        whole = build(data, tmp_path / "whole", built)
        store = build(data.slice(0, 500), tmp_path / "held", built)
        stream = moola.FeatureStream.from_store(store, stamp=feed)  # type: ignore[arg-type]
        with pytest.raises(BarError, match="duplicate"):
            stream.push(*(column[499] for column in columns), timestamp=int(stamps[499] + shift))
        rows = stream.push_many(*(column[500:] for column in columns), stamps[500:] + shift)
        assert rows.tobytes() == whole.features[500:].tobytes()
        # The advice of the refusal works: opens, pushed to a stream that takes closes.
        if built == "close":
            wrong = moola.FeatureStream.from_store(store)
            with pytest.raises(BarError, match="if yours are the open, give stamp='open'"):
                wrong.push(*(column[500] for column in columns), timestamp=int(stamps[500] + shift))


@given(
    right=st.sampled_from([*UNITS]),
    wrong=st.sampled_from([*UNITS]),
    interval=st.sampled_from([1, 5, 60, 24 * 60]),
    stamp=st.sampled_from(["open", "close"]),
    options=st.sampled_from([{}, {"reset_on_gap": "4h"}, {"bar_interval": True}]),
    many=st.booleans(),
)
def test_times_in_another_unit_are_refused_and_the_advice_works(
    right: str, wrong: str, interval: int, stamp: Any, options: dict[str, Any], many: bool
) -> None:
    bars = np.array([[100.0, 101.0, 99.0, 100.5]] * 4)
    stamps = (START + np.arange(4) * interval * MINUTE) // UNITS[right]
    given_options: dict[str, Any] = {"stamp": stamp, **options}
    if stamp == "close" or "bar_interval" in options:
        given_options["bar_interval"] = f"{interval}m"

    def run(unit: Any) -> moola.FeatureStream:
        stream = moola.FeatureStream(**given_options, unit=unit)
        if many:
            stream.push_many(*np.ascontiguousarray(bars.T), stamps)
        else:
            for bar, time in zip(bars, stamps, strict=True):
                stream.push(*bar, timestamp=int(time))
        return stream

    if right == wrong:
        assert run(wrong).last_timestamp == stamps[-1] * UNITS[right] - MINUTE * interval * (stamp == "close")
        return
    with pytest.raises(TimestampError, match=f"give unit='{right}'$"):
        run(wrong)
    run(right)


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_epochs_in_another_unit_are_refused_after_a_store(tmp_path: Path, unit: Any) -> None:
    """They were taken for nanoseconds, so that a gap never reset."""
    store = build(table(), tmp_path / "store", "open", reset_on_gap="4h")
    stream = moola.FeatureStream.from_store(store)
    before = stream.state()
    after_gap = (int(store.timestamps[-1]) + 10 * 60 * MINUTE) // UNITS[unit]
    with pytest.raises(TimestampError, match=f"give unit='{unit}'$"):
        stream.push(100.0, 101.0, 99.0, 100.5, timestamp=after_gap)
    assert stream.state() == before
    stream = moola.FeatureStream.from_store(store, unit=unit)
    stream.push(100.0, 101.0, 99.0, 100.5, timestamp=after_gap)
    assert stream.bars == 1, "the gap begins a new segment"


def test_a_step_that_is_too_short_for_a_bar_is_refused() -> None:
    stream = moola.FeatureStream(bar_interval="1m")
    stream.push(100.0, 101.0, 99.0, 100.5, timestamp=0)
    with pytest.raises(
        TimestampError, match=r"timestamp 60 in ns is only 60 ns .* a bar of 60 s\. If .* unit='s'"
    ):
        stream.push(100.0, 101.0, 99.0, 100.5, timestamp=60)
    # A bar off the grid is none of the unit's business.
    stream.push(100.0, 101.0, 99.0, 100.5, timestamp=10**9)


@pytest.mark.parametrize(
    ("time", "error", "says"),
    [
        (1.7e9, TypeError, r"an int, a datetime with a zone or a numpy.datetime64, not 1700000000.0"),
        ("2024-05-06T13:30:00Z", TypeError, "an int, a datetime with a zone"),
        (datetime(2024, 5, 6, 13, 30), TimestampError, "has no zone; give one"),
        (np.datetime64("NaT"), TimestampError, "timestamp"),
        (np.datetime64("2500-01-01"), TimestampError, "1678 to 2261"),
        (datetime(2500, 1, 1, tzinfo=UTC), TimestampError, "1678 to 2261"),
        (1 << 70, TimestampError, "outside the years 1678 to 2261"),
    ],
)
def test_other_times_are_refused(time: Any, error: type[Exception], says: str) -> None:
    stream = moola.FeatureStream()
    before = stream.state()
    with pytest.raises(error, match=says):
        stream.push(100.0, 101.0, 99.0, 100.5, timestamp=time)
    columns = np.full((4, 2), 100.0)
    values = [time, time]
    with pytest.raises((error, TypeError, TimestampError)):
        stream.push_many(*columns, values)
    assert stream.state() == before


@pytest.mark.parametrize(
    "form",
    [
        lambda t: t.tolist(),
        lambda t: t.astype("datetime64[ns]").astype("datetime64[s]"),
        lambda t: pl.Series(t.astype("datetime64[ns]").astype("datetime64[us]")),
        lambda t: pl.Series(t),
        lambda t: pa.array(t).to_pandas(),
        lambda t: np.repeat(t, 2)[::2],
        lambda t: [datetime.fromtimestamp(x // 10**9, UTC) for x in t.tolist()],
        lambda t: pa.array(t, pa.timestamp("ns", "UTC")).to_pandas(),
    ],
)
def test_many_times_come_in_many_forms(form: Callable[[np.ndarray], Any]) -> None:
    data = table(50)
    stamps = data["timestamp"].cast(pa.int64()).to_numpy()
    stream = moola.FeatureStream()
    stream.push_many(*columns_of(data), form(stamps))
    assert stream.last_timestamp == stamps[-1]


def test_options_that_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"bar_interval: is missing; .* bar_interval='1m'"):
        moola.FeatureStream(stamp="close")
    with pytest.raises(ConfigError, match=r"stamp: 'end' is no stamp; give 'open' or 'close'"):
        moola.FeatureStream(stamp="end")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"unit: \"m\" is no unit of times; give 's', 'ms', 'us' or 'ns'"):
        moola.FeatureStream(unit="m")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="bar_interval: 'soon' is not a duration"):
        moola.FeatureStream(bar_interval="soon")


@pytest.mark.parametrize("stamp", ["open", "close"])
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("interval", [None, "1m"])
def test_a_state_keeps_the_convention(stamp: Any, unit: Any, interval: str | None) -> None:
    if stamp == "close" and interval is None:
        return
    stream = moola.FeatureStream(stamp=stamp, unit=unit, bar_interval=interval, reset_on_gap="4h")
    stream.push(100.0, 101.0, 99.0, 100.5, timestamp=START // UNITS[unit])
    other = moola.FeatureStream("ohlc4", stamp="close", bar_interval="5m", unit="us")
    other.restore(stream.state())
    for again in (other, moola.FeatureStream.from_state(stream.state())):
        for name in ("stamp", "unit", "bar_interval", "last_timestamp", "reset_on_gap", "feature_set"):
            assert getattr(again, name) == getattr(stream, name)
        assert again.state() == stream.state()
    state = stream.state()
    # A stream like those of 0.1.0 is saved so that 0.1.0 reads it.
    plain = (stamp, unit, interval) == ("open", "ns", None)
    assert state.startswith(b"moola-state1" if plain else b"moola-state2")
    for at in range(12, len(state)):
        with pytest.raises(StateError, match="damaged"):
            moola.FeatureStream.from_state(state[:at] + bytes([state[at] ^ 16]) + state[at + 1 :])


def test_threads_wait_for_one_another() -> None:
    """Each call was refused with "Already borrowed" while another thread's was under way."""
    data = table(200_000)
    columns = columns_of(data)
    alone = moola.FeatureStream()
    alone.push_many(*columns)
    stream = moola.FeatureStream()
    failures: list[BaseException] = []
    turn, pieces = threading.Lock(), iter(np.array_split(np.arange(200_000), 40))

    def push() -> None:
        try:
            while True:
                with turn:
                    rows = next(pieces, None)
                    if rows is None:
                        return
                    stream.push_many(*(column[rows] for column in columns))
        except BaseException as error:
            failures.append(error)

    def look() -> None:
        try:
            while any(thread.is_alive() for thread in pushing):
                assert stream.bars >= 0
                moola.FeatureStream.from_state(stream.state())
        except BaseException as error:
            failures.append(error)

    pushing = [threading.Thread(target=push) for _ in range(3)]
    looking = [threading.Thread(target=look) for _ in range(2)]
    for thread in [*pushing, *looking]:
        thread.start()
    for thread in [*pushing, *looking]:
        thread.join()
    assert failures == []
    assert stream.state() == alone.state()
