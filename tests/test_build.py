"""From bars to a store: what is refused and how, what is written, and what becomes of builds that do not end well."""

from __future__ import annotations

import gzip
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings

import moola
from moola import _core
from moola.build import build_features
from moola.errors import (
    BarError,
    ConfigError,
    InputError,
    InputMissingError,
    StaleStoreError,
    StoreExistsError,
    StoreMissingError,
    format_time,
)
from moola.store import FeatureStore

SETS = _core.feature_sets()
SHARED = os.environ.get("MOOLA_SHARED")
MINUTE = 60 * 10**9
START = int(np.datetime64("2024-05-06T13:30", "ns").astype(np.int64))
PRICES = ("open", "high", "low", "close")
SMALL: dict[str, Any] = {"window_length": 20, "config": {"warmup_bars": 10}}
"""Options with which a few hundred bars have windows in every split."""


def table(n: int = 300, seed: int = 3, **columns: Any) -> pa.Table:
    """n bars, minute by minute; `columns` replace or add, None removes."""
    _, *prices, volume = _core.SampleBars(seed).take(n)
    usual: dict[str, Any] = {"timestamp": times(START + np.arange(n) * MINUTE)}
    usual |= dict(zip(PRICES, prices, strict=True)) | {"volume": volume}
    return pa.table({name: column for name, column in (usual | columns).items() if column is not None})


def times(nanoseconds: Any, tz: str | None = "UTC") -> pa.Array:
    return pa.array(np.asarray(nanoseconds, np.int64), pa.timestamp("ns", tz))


def changed(column: str, changes: Mapping[int, Any], data: pa.Table | None = None) -> pa.Table:
    """The bars with other values in a column: row (from 0) to value."""
    data = table() if data is None else data
    place = data.schema.get_field_index(column)
    values = data[column].to_pylist() if column != "timestamp" else data[column].cast(pa.int64()).to_pylist()
    for row, value in changes.items():
        values[row] = value
    kind = data[column].type if column == "timestamp" else pa.float64()
    return data.set_column(place, column, pa.array(values, kind))


class Source(NamedTuple):
    """Bars in one of the forms in which they may come."""

    what: Any
    name: str
    """What messages call it."""
    is_csv: bool

    def at(self, row: int) -> str:
        """What messages call a row, counted from 1."""
        return f"{self.name}, row {row}" + (f" (line {row + 1})" if self.is_csv else "")


FILES = ("parquet", "csv", "csv.gz", "arrow")
FORMS = (*FILES, "pyarrow", "pandas", "polars")


def source(data: pa.Table, form: str, folder: Path, name: str = "bars") -> Source:
    if form not in FILES:
        what = {"pyarrow": lambda: data, "pandas": data.to_pandas, "polars": lambda: pl.from_arrow(data)}[
            form
        ]()
        return Source(what, f"<{form}.{type(what).__name__}>", False)
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.{form}"
    match form:
        case "parquet":
            pq.write_table(data, path)
        case "csv":
            pyarrow.csv.write_csv(data, path)
        case "csv.gz":
            with pa.CompressedOutputStream(str(path), "gzip") as stream:
                pyarrow.csv.write_csv(data, stream)
        case "arrow":
            with pa.ipc.new_file(path, data.schema) as writer:
                writer.write_table(data)
    return Source(path, str(path), form.startswith("csv"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refused(
    bars: Any, folder: Path, *substance: str, error: type[Exception] = BarError, **options: Any
) -> Any:
    """The error of a build, whose message must hold `substance`; and nothing may be left of the build."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(error) as caught:
        build_features(bars, folder / "new" / "store", **options)
    message = str(caught.value)
    for part in substance:
        assert part in message, message
    assert sorted(folder.rglob("*")) == before
    return caught.value


def read_store(store: FeatureStore) -> dict[str, Any]:
    """The bytes of every array, and what is said about them."""
    files = {path.name: path.read_bytes() for path in store.path.iterdir() if path.suffix == ".npy"}
    return files | {
        "segments": store.segments,
        "splits": (store.path / "splits.json").read_text(),
        "quality": store.metadata["quality"],
    }


def built(bars: Any, path: Path, **options: Any) -> dict[str, Any]:
    """What a build gives; its store is not kept, and must have been alone."""
    with build_features(bars, path, **options) as store:
        assert [name for name in names(path.parent) if "moola" in name or name == path.name] == [path.name]
        result = read_store(store)
    shutil.rmtree(path)
    return result


def check_sound(path: Path) -> FeatureStore:
    """Opens a store and checks every hash in it."""
    store = FeatureStore.open(path)
    for name, known in store.checksums().items():
        assert store.hash(name) == known, name
    return store


def check_sound_or_replaced(path: Path) -> FeatureStore:
    """The same where the store may be replaced meanwhile: its files then lose their names, and only that."""
    with FeatureStore.open(path) as store:
        try:
            for name, known in store.checksums().items():
                assert store.hash(name) == known, name
        except StaleStoreError:
            with pytest.raises(StaleStoreError):
                store.reopen()
    return store


# Bad input: one test for every row of the table, in every form


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("column", [*PRICES, "timestamp"])
def test_a_missing_column(tmp_path: Path, form: str, column: str) -> None:
    bars = source(table(**{column: None}), form, tmp_path / "in")
    refused(
        bars.what,
        tmp_path,
        f"{bars.name}: has no column for {column}; its columns are '",
        f"--columns FILE_COLUMN={column}",
        error=InputError,
    )


@pytest.mark.parametrize("form", FORMS)
def test_a_column_of_the_wrong_type(tmp_path: Path, form: str) -> None:
    bars = source(table(close=["no price"] * 300), form, tmp_path / "in")
    if bars.is_csv:
        error = refused(
            bars.what,
            tmp_path,
            "300 bars refused",
            "value that is not a number: 300",
            f"{bars.at(1)}, at 2024-05-06T13:30:00Z: close = no price",
            "… and 280 more",
            "--columns FILE_COLUMN=ROLE",
        )
        assert error.counts == {"not_a_number": 300}
    else:
        refused(
            bars.what,
            tmp_path,
            f"{bars.name}: column 'close' has the wrong type ",
            "string",
            "Convert it, or name the right column with --columns FILE_COLUMN=ROLE",
            error=InputError,
        )


@pytest.mark.parametrize("form", FORMS)
def test_no_bars(tmp_path: Path, form: str) -> None:
    bars = source(table(0), form, tmp_path / "in")
    refused(bars.what, tmp_path, f"{bars.name}: holds no bars", "Leave it out, or check", error=InputError)


@pytest.mark.parametrize("suffix", FILES)
def test_an_empty_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bars.{suffix}"
    path.write_bytes(gzip.compress(b"") if suffix == "csv.gz" else b"")
    refused(path, tmp_path, f"{path}: is empty. Leave it out, or check how it was made", error=InputError)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", ["bars", "windows"])
def test_fewer_bars_than_a_window(tmp_path: Path, form: str, layout: Any) -> None:
    bars = source(table(104), form, tmp_path / "in")
    refused(
        bars.what,
        tmp_path,
        "104 bars are fewer than one window of 105 bars",
        "Give more bars, or a smaller --window-length (window_length=)",
        error=InputError,
        layout=layout,
    )


def test_segments_shorter_than_a_window(tmp_path: Path) -> None:
    data = table(300, symbol=np.repeat(["A", "B", "C"], 100))
    refused(
        data,
        tmp_path,
        "300 bars in 3 segments, the longest of 100, are fewer than one window of 105 bars",
        error=InputError,
    )
    # As long as a window, but never past the warm-up; and, however long, without a swing.
    still = dict(zip(PRICES, np.repeat([[100.0], [101.0], [99.0], [100.5]], 3000, 1), strict=True))
    for bars in (table(105), table(3000, **still)):
        refused(
            bars,
            tmp_path,
            "no window of 105 bars remains; no bar is past its segment's warm-up",
            "Give more bars; where there are enough, look whether their prices move at all",
            error=InputError,
        )


FAULTS = [
    ("nan", "close", math.nan, "NaN, null or infinite price", "close = nan", "--drop-bad-bars"),
    ("null", "open", None, "NaN, null or infinite price", "open = nan", "drop_bad_bars=True"),
    ("infinite", "high", math.inf, "NaN, null or infinite price", "high = inf", "becomes a gap"),
    ("minus infinite", "low", -math.inf, "NaN, null or infinite price", "low = -inf", "--drop-bad-bars"),
    ("zero", "low", 0.0, "price that is zero, negative or beyond float32", "low = 0.0", "repair"),
    ("negative", "low", -1.5, "price that is zero, negative or beyond float32", "low = -1.5", "repair"),
    ("tiny", "low", 1.1e-38, "beyond float32 (1.2e-38 to 3.4e38)", "low = 1.1e-38", "repair"),
    ("huge", "high", 3.5e38, "beyond float32 (1.2e-38 to 3.4e38)", "high = 3.5e+38", "not prices"),
    ("high below low", "high", 1.0, "high below low", "high = 1.0, low = {low}", "high and low exchanged?"),
    (
        "open above",
        "open",
        1e6,
        "open outside [low, high]",
        "open = 1000000.0, low = {low}, high = {high}",
        "right",
    ),
    (
        "open below",
        "open",
        1.0,
        "open outside [low, high]",
        "open = 1.0, low = {low}, high = {high}",
        "right",
    ),
    (
        "close above",
        "close",
        1e6,
        "close outside [low, high]",
        "close = 1000000.0, low = {low}",
        "right column?",
    ),
    (
        "close below",
        "close",
        1.0,
        "close outside [low, high]",
        "close = 1.0, low = {low}, high = {high}",
        "right",
    ),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("column", "value", "what", "shown", "advice"),
    [case[1:] for case in FAULTS],
    ids=[case[0] for case in FAULTS],
)
def test_bad_prices(
    tmp_path: Path, form: str, column: str, value: float | None, what: str, shown: str, advice: str
) -> None:
    data = changed(column, {6: value, 249: value})
    bars = source(data, form, tmp_path / "in")
    shown = [shown.format(**{name: data[name][row].as_py() for name in ("low", "high")}) for row in (6, 249)]
    error = refused(
        bars.what,
        tmp_path,
        "2 bars refused",
        f"{what}",
        ": 2\n",
        f"    {bars.at(7)}, at 2024-05-06T13:36:00Z: {shown[0]}",
        f"    {bars.at(250)}, at 2024-05-06T17:39:00Z: {shown[1]}",
        f"{advice}",
    )
    (kind,) = error.counts
    assert error.counts == {kind: 2}
    first, second = error.problems
    assert (first.kind, first.row, first.column, first.timestamp) == (kind, 7, column, START + 6 * MINUTE)
    assert (second.row, second.line) == (250, 251 if bars.is_csv else None)
    # What is not finite may be dropped; a number that is no price may not.
    if kind != "not_finite":
        refused(bars.what, tmp_path, "2 bars refused", drop_bad_bars=True)


@pytest.mark.parametrize("form", FORMS)
def test_bad_bars_are_dropped_on_request(tmp_path: Path, form: str) -> None:
    bad = {5: math.nan, 6: None, 100: math.inf, 299: math.nan}
    result = built(
        source(changed("close", bad), form, tmp_path / "in").what, tmp_path / "s", drop_bad_bars=True, **SMALL
    )
    kept = table().take([i for i in range(300) if i not in bad])
    expected = built(kept, tmp_path / "s", **SMALL)
    assert expected["quality"]["dropped_bad_bars"] == 0
    expected["quality"] |= {"dropped_bad_bars": 4, "gaps": 2, "longest_step": 3 * MINUTE}
    assert result == expected


def test_nothing_is_left_when_all_bars_are_dropped(tmp_path: Path) -> None:
    bad = changed("close", dict.fromkeys(range(300), math.nan))
    refused(
        bad,
        tmp_path,
        "<pyarrow.Table>: all 300 bars have a NaN, null or infinite value",
        "name the right columns with --columns",
        error=InputError,
        drop_bad_bars=True,
    )


@pytest.mark.parametrize("form", FORMS)
def test_duplicate_timestamps(tmp_path: Path, form: str) -> None:
    data = changed("timestamp", {9: START + 8 * MINUTE})
    bars = source(data, form, tmp_path / "in")
    for options in ({}, {"sort": True}, {"dedup": "identical"}, {"drop_bad_bars": True}):
        error = refused(
            bars.what,
            tmp_path,
            "1 bar refused",
            "duplicate timestamp: 1\n",
            f"    {bars.at(10)}: timestamp = 2024-05-06T13:38:00Z\n",
            "--dedup identical",
            "rows that differ",
            **options,
        )
        assert error.problems[0].timestamp == error.problems[0].value == START + 8 * MINUTE


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sort", [False, True])
def test_exact_repeats_are_dropped_on_request(tmp_path: Path, form: str, sort: bool) -> None:
    repeated = table().take([*range(50), 49, 49, *range(50, 300), 299])
    bars = source(repeated, form, tmp_path / "in").what
    refused(bars, tmp_path, "3 bars refused", "duplicate timestamp: 3")
    result = built(bars, tmp_path / "s", dedup="identical", sort=sort, keep="volume", **SMALL)
    expected = built(table(), tmp_path / "s", keep="volume", **SMALL)
    expected["quality"]["dropped_duplicates"] = 3
    assert result == expected
    # A kept column is part of the row.
    volume = repeated["volume"].to_numpy().copy()
    volume[51] += 1
    other = repeated.set_column(5, "volume", pa.array(volume))
    refused(other, tmp_path, "duplicate timestamp: 1", "row 52", dedup="identical", keep="volume")


@pytest.mark.parametrize("form", FORMS)
def test_timestamps_out_of_order(tmp_path: Path, form: str) -> None:
    shuffled = table().take([*range(100), 150, *range(100, 150), *range(151, 300)])
    bars = source(shuffled, form, tmp_path / "in")
    for options in ({}, {"dedup": "identical"}, {"drop_bad_bars": True}):
        error = refused(
            bars.what,
            tmp_path,
            "50 bars refused",
            "timestamp earlier than the one before it: 50\n",
            f"    {bars.at(102)}: timestamp = 2024-05-06T15:10:00Z, after 2024-05-06T16:00:00Z\n",
            "… and 30 more",
            "give bars in order of time, or pass --sort",
            **options,
        )
        assert error.problems[0].value == START + 100 * MINUTE
    result = built(bars.what, tmp_path / "s", sort=True, keep="volume", **SMALL)
    assert result == built(table(), tmp_path / "s", keep="volume", **SMALL)


@pytest.mark.parametrize("form", FORMS)
def test_missing_timestamps(tmp_path: Path, form: str) -> None:
    bars = source(changed("timestamp", {20: None}), form, tmp_path / "in")
    for options in ({}, {"drop_bad_bars": True}, {"sort": True}):
        refused(
            bars.what, tmp_path, "missing timestamp: 1", bars.at(21), "every bar needs its time", **options
        )


@pytest.mark.parametrize("form", FORMS)
def test_times_without_a_zone(tmp_path: Path, form: str) -> None:
    naive = table(timestamp=times(START - 4 * 60 * MINUTE + np.arange(300) * MINUTE, None))
    bars = source(naive, form, tmp_path / "in")
    refused(bars.what, tmp_path, f"{bars.name}: ", "no time zone", "--tz America/New_York", error=InputError)
    result = built(bars.what, tmp_path / "s", tz="America/New_York", **SMALL)
    assert result == built(table(), tmp_path / "s", tz="America/New_York", **SMALL)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("night", "what", "advice"),
    [
        (
            "2024-03-31T01:00",
            "does not exist because clocks go forward: 60\n",
            "check --tz, or give timestamps in UTC",
        ),
        ("2024-10-27T01:00", "occurs twice when clocks go back: 60\n", "in UTC or with their offset"),
    ],
    ids=["forward", "back"],
)
def test_times_in_the_night_of_the_clocks(
    tmp_path: Path, form: str, night: str, what: str, advice: str
) -> None:
    first = int(np.datetime64(night, "ns").astype(np.int64))
    bars = source(table(timestamp=times(first + np.arange(300) * MINUTE, None)), form, tmp_path / "in")
    shown = f"timestamp = {night[:10]} 02:00:00"
    for options in ({}, {"drop_bad_bars": True}):
        refused(
            bars.what,
            tmp_path,
            "60 bars refused",
            what,
            f"    {bars.at(61)}: {shown}",
            "… and 40 more",
            advice,
            tz="Europe/Berlin",
            **options,
        )


@pytest.mark.parametrize("form", FORMS)
def test_what_is_only_worth_a_look_is_accepted_and_counted(tmp_path: Path, form: str) -> None:
    data = table(300, volume=None)
    columns = {name: data[name].to_numpy().copy() for name in PRICES}
    for name in PRICES:
        columns[name][40:43] = columns["close"][39]  # no range
        columns[name][200:] *= 1.6  # a jump
    step = np.full(300, MINUTE)
    step[0], step[120], step[150], step[151] = 0, 5 * MINUTE, 6 * 60 * MINUTE, MINUTE // 2
    data = table(volume=None, timestamp=times(START + np.cumsum(step)), **columns)
    bars = source(data, form, tmp_path / "in").what
    flat = int((columns["high"] == columns["low"]).sum())
    assert flat >= 3
    for gap, segments in ((None, 1), ("4h", 2), ("6h", 1), ("4m", 3)):
        result = built(bars, tmp_path / "s", reset_on_gap=gap, **SMALL)
        assert result["quality"] == {
            "bars": 300,
            "zero_range_bars": flat,
            "gaps": 2,
            "short_steps": 1,
            "longest_step": 6 * 60 * MINUTE,
            "jumps_over_50_percent": 1,
            "dropped_bad_bars": 0,
            "dropped_duplicates": 0,
            "segments_from_gaps": segments - 1,
            "segments_from_contracts": 0,
            "segments_shorter_than_window": 0,
        }
        assert len(result["segments"]) == segments
    with build_features(bars, tmp_path / "s", **SMALL) as store:
        assert any("1 close lies more than 50 % from the close before" in line for line in store.notices)
        assert store.extra is None


@pytest.mark.parametrize("form", FORMS)
def test_kept_columns(tmp_path: Path, form: str) -> None:
    bad = {4: math.nan, 9: None, 14: math.inf, 19: 3.5e38, 24: -math.inf}
    bars = source(changed("volume", bad), form, tmp_path / "in")
    error = refused(
        bars.what,
        tmp_path,
        "5 bars refused",
        "null, infinite or too large value in a kept column: 5\n",
        f"    {bars.at(5)}, at 2024-05-06T13:34:00Z: volume = nan",
        f"    {bars.at(10)}, at 2024-05-06T13:39:00Z: volume = nan",
        f"    {bars.at(15)}, at 2024-05-06T13:44:00Z: volume = inf",
        f"    {bars.at(20)}, at 2024-05-06T13:49:00Z: volume = 3.5e+38",
        f"    {bars.at(25)}, at 2024-05-06T13:54:00Z: volume = -inf",
        "leave the column out of --keep",
        "--drop-bad-bars",
        keep="volume",
    )
    assert error.counts == {"extra_not_finite": 5}
    result = built(bars.what, tmp_path / "s", keep="volume", drop_bad_bars=True, **SMALL)
    kept = table().take([i for i in range(300) if i not in bad])
    expected = built(kept, tmp_path / "s", keep="volume", **SMALL)
    expected["quality"]["dropped_bad_bars"] = 5
    assert result == expected
    # A column that is not kept may hold anything.
    expected = built(table(), tmp_path / "s", **SMALL)
    assert built(bars.what, tmp_path / "s", **SMALL) == expected


@pytest.mark.parametrize("form", FORMS)
def test_a_kept_column_that_is_not_there(tmp_path: Path, form: str) -> None:
    bars = source(table(volume=None), form, tmp_path / "in")
    refused(
        bars.what,
        tmp_path,
        f"{bars.name}: has no column 'volume' to keep",
        "--columns FILE_COLUMN=volume",
        error=InputError,
        keep="volume",
    )
    assert built(bars.what, tmp_path / "s", **SMALL) == built(table(), tmp_path / "s", **SMALL)


def test_everything_wrong_is_collected_and_every_kind_is_shown(tmp_path: Path) -> None:
    """Many faults of one kind do not hide the place of a single one of another."""
    first = changed("close", dict.fromkeys(range(40), math.nan))
    first = changed("low", {290: -1.0}, first)
    later = table(timestamp=times(START + (300 + np.arange(300)) * MINUTE))
    later = changed("timestamp", {100: START + 399 * MINUTE, 150: START}, later)
    high = ["abc" if 200 <= row < 240 else str(price) for row, price in enumerate(later["high"].to_pylist())]
    later = later.set_column(2, "high", pa.array(high))
    a, b = source(first, "parquet", tmp_path / "in", "a"), source(later, "csv", tmp_path / "in", "b")
    error = refused(
        [a.what, b.what],
        tmp_path,
        "83 bars refused",
        "NaN, null or infinite price: 40",
        f"{a.at(1)}, at 2024-05-06T13:30:00Z: close = nan",
        f"{a.at(291)}, at 2024-05-06T18:20:00Z: low = -1.0",
        "value that is not a number: 40",
        f"{b.at(201)}, at 2024-05-06T21:50:00Z: high = abc",
        f"{b.at(101)}: timestamp = 2024-05-06T20:09:00Z",
        f"{b.at(151)}: timestamp = 2024-05-06T13:30:00Z, after 2024-05-06T20:59:00Z",
    )
    assert error.counts == {
        "not_a_number": 40,
        "not_finite": 40,
        "out_of_range": 1,
        "duplicate_timestamp": 1,
        "out_of_order": 1,
    }
    assert len(error.problems) == 20
    shown = {kind: sum(p.kind == kind for p in error.problems) for kind in error.counts}
    assert min(shown.values()) == 1
    assert max(shown.values()) <= 9


def test_a_bar_is_counted_once_however_much_is_wrong_with_it(tmp_path: Path) -> None:
    lines = (source(table(), "csv", tmp_path / "in").what).read_text().splitlines()
    lines[7] = "2024-05-06 13:36:00Z,x,y,z,-1,v"
    lines[9] = "soon,x,1,2,-1,v"
    lines[11] = "2024-05-06 13:40:00Z,-1,-2,nan,-4,1"
    path = tmp_path / "in" / "bars.csv"
    path.write_text("\n".join(lines))
    error = refused(
        path,
        tmp_path,
        "3 bars refused",
        f"{path}, row 7 (line 8), at 2024-05-06T13:36:00Z: open = x",
        f"{path}, row 9 (line 10): timestamp = soon",
        f"{path}, row 11 (line 12), at 2024-05-06T13:40:00Z: low = nan",
        keep="volume",
    )
    assert error.counts == {"not_a_number": 1, "bad_timestamp": 1, "not_finite": 1}


def test_refusals_name_the_symbol(tmp_path: Path) -> None:
    symbols = np.where(np.arange(300) % 2, "ES", "NQ")
    data = changed("close", {7: math.nan}, table(symbol=symbols))
    refused(data, tmp_path, "row 8, symbol ES, at 2024-05-06T13:37:00Z: close = nan")
    twice = changed("timestamp", {11: START + 9 * MINUTE}, table(symbol=symbols))
    refused(twice, tmp_path, "row 12, symbol ES: timestamp = 2024-05-06T13:39:00Z\n")


def test_times_at_the_ends_of_what_nanoseconds_can_count(tmp_path: Path) -> None:
    """No arithmetic goes wrong; the step between the two is longer than an int64 can say."""
    far = np.concatenate(
        [-(2**63) + 10**6 + np.arange(150) * MINUTE, 2**63 - 10**15 + np.arange(150) * MINUTE]
    )
    result = built(table(timestamp=times(far)), tmp_path / "s", reset_on_gap="4h", **SMALL)
    assert [segment.bar_interval for segment in result["segments"]] == [MINUTE, MINUTE]
    assert result["quality"]["longest_step"] == 2**63 - 1


# Options that make no sense, and places that cannot be


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"feature_set": "relativty10"},
            "feature_set: there is no 'relativty10'; did you mean 'relativity10'? Choose one of relativity10,",
        ),
        ({"feature_set": "x"}, "feature_set: there is no 'x'. Choose one of relativity10, relativity12,"),
        ({"layout": "dense"}, "layout: there is no 'dense'. Choose one of bars, windows"),
        (
            {"layout": "window"},
            "layout: there is no 'window'; did you mean 'windows'? Choose one of bars, windows",
        ),
        ({"window_length": 0}, "window_length: 0 is not a number of bars; give 1 or more"),
        ({"window_length": True}, "window_length: True is not a number of bars; give 1 or more"),
        ({"window_length": 10.0}, "window_length: 10.0 is not a number of bars; give 1 or more"),
        ({"dedup": "all"}, "dedup: 'all' is not a way to drop repeats; give 'identical'"),
        ({"reset_on_gap": "soon"}, "reset_on_gap: 'soon' is not a duration; write for example '4h'"),
        ({"config": {"atr": 3}}, "atr: there is no such parameter; the parameters are range_ema_period,"),
        ({"config": {"atr_period": 0}}, "atr_period: input should be greater than or equal to 1, not 0"),
        ({"columns": "close"}, "columns: must be FILE_COLUMN=ROLE,… but 'close' has no '='"),
        ({"split": (1, 1, 1)}, "split: (1, 1, 1) sum to 3; give shares that sum to 1 or less"),
        ({"split": (0.7, 0.15, 0.15), "train_end": "2024-05-06"}, "split: goes with no train_end"),
        (
            {"train_end": "2024-02-30", "val_end": "2024-03-01", "test_end": "2024-03-02"},
            "train_end: 2024-02-30 is not in the calendar",
        ),
        ({"tz": "Mars/Olympus"}, "tz: 'Mars/Olympus' is not a time zone; use a name such as UTC"),
        ({"stamp": "mid"}, "stamp: must be 'open' or 'close', not 'mid'"),
        ({"embargo": -1}, "embargo: -1 is not a number of bars; give 0 or more"),
        ({"segment_by": "day"}, "segment_by: must be symbol, or symbol,contract, not 'day'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_options_that_make_no_sense(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    error = refused(table(), tmp_path, says, error=ConfigError, **options)
    assert str(error).startswith(says)


def test_nonsense_as_bars(tmp_path: Path) -> None:
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.7\n" + bytes(range(256)))
    refused(
        tmp_path / "report.pdf",
        tmp_path,
        "report.pdf: is a PDF, not bars. Give Parquet, CSV",
        error=InputError,
    )
    refused(
        tmp_path / "bars.parqet", tmp_path, "there is no such file. Check the path", error=InputMissingError
    )
    with pytest.raises(TypeError, match="bars must be a path, a sequence of paths, or an object with"):
        build_features(42, tmp_path / "new" / "store")
    assert names(tmp_path) == ["report.pdf"]


def test_what_stands_at_the_output_is_safe(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    (tmp_path / "folder").mkdir()
    for name, says in (("notes", "there is a file of this name"), ("folder", "there is an empty directory")):
        for overwrite in (False, True):
            with pytest.raises(StoreExistsError, match=says):
                build_features(table(), tmp_path / name, overwrite=overwrite, **SMALL)
    build_features(table(), tmp_path / "store", **SMALL).close()
    before = check_sound(tmp_path / "store").id
    with pytest.raises(StoreExistsError, match=r"feature store already.*--overwrite"):
        build_features(table(), tmp_path / "store", **SMALL)
    # Bad bars leave the store alone that they were to replace.
    with pytest.raises(BarError):
        build_features(changed("low", {3: -1.0}), tmp_path / "store", overwrite=True, **SMALL)
    assert check_sound(tmp_path / "store").id == before
    with build_features(table(seed=4), tmp_path / "store", overwrite=True, **SMALL) as store:
        assert store.id != before
    assert names(tmp_path) == ["folder", "notes", "store"]


# What is written, against the same in plain NumPy


class Rows(NamedTuple):
    """The bars of one symbol, in order of time."""

    times: np.ndarray
    prices: np.ndarray
    """[n, 4]"""
    volume: np.ndarray
    contracts: np.ndarray


def expected_store(
    symbols: Mapping[str, Rows],
    *,
    feature_set: str = "relativity10",
    config: dict[str, Any] | None = None,
    window_length: int = 105,
    layout: str = "bars",
    stamp: str = "open",
    gap: int | None = None,
    contracts: bool = False,
    fractions: Sequence[str] = ("0.7", "0.15", "0.15"),
    days: Sequence[str] | None = None,
) -> dict[str, Any]:
    """A store's arrays, segments and splits, literally as specified, one loop after the other."""
    config = config or {}
    warmup = config.get("warmup_bars", 105)
    parts: dict[str, list[np.ndarray]] = {
        name: [] for name in ("times", "bars", "extra", "features", "valid", "segment")
    }
    segments: list[tuple[Any, ...]] = []
    row = 0
    for symbol in sorted(symbols):
        own = symbols[symbol]
        steps = np.diff(own.times)
        kinds, counts = np.unique(steps, return_counts=True)
        interval = int(kinds[np.argmax(counts)]) if len(steps) else 0
        stamps = own.times - (interval if stamp == "close" else 0)
        begins = np.ones(len(stamps), bool)
        begins[1:] = (steps > gap) if gap is not None else False
        if contracts:
            begins[1:] |= own.contracts[1:] != own.contracts[:-1]
        bounds = [*np.flatnonzero(begins), len(stamps)]
        for first, end in pairwise(bounds):
            columns = [own.prices[first:end, k].copy() for k in range(4)]
            n = end - first
            valid = np.arange(n) >= warmup
            if feature_set.startswith("relativity"):
                swings = moola.compute_swings(*columns, config)
                valid &= (swings.high_index >= 0) & (swings.low_index >= 0)
            parts["features"].append(moola.compute_features(*columns, feature_set=feature_set, config=config))
            parts["valid"].append(valid)
            parts["times"].append(stamps[first:end])
            parts["bars"].append(own.prices[first:end])
            parts["extra"].append(own.volume[first:end, None].astype(np.float32))
            parts["segment"].append(np.full(n, len(segments)))
            first_valid = row + int(np.argmax(valid)) if valid.any() else None
            segments.append(
                (symbol, row, row + n - 1, int(stamps[first]), int(stamps[end - 1]), interval, first_valid)
            )
            row += n
    whole = {name: np.concatenate(arrays) for name, arrays in parts.items()}

    # A split's number for every bar, 3 for none.
    if days is None:
        ordered = np.sort(whole["times"])
        edges = []
        for k in range(3):
            count = math.ceil(sum(Fraction(share) for share in fractions[: k + 1]) * row)
            later = ordered[ordered > ordered[count - 1]] if count else ordered
            edges.append(later[0] if len(later) else ordered[-1] + 1)
    else:
        edges = [(np.datetime64(day) + 1).astype("datetime64[ns]").astype(np.int64) for day in days]
    split = np.searchsorted(edges, whole["times"], side="right")

    # Every window that counts, and those that lie in one split.
    k = window_length
    starts = np.arange(row - k + 1)
    starts = starts[
        (whole["segment"][starts] == whole["segment"][starts + k - 1]) & whole["valid"][starts + k - 1]
    ]
    inside = split[starts] == split[starts + k - 1]
    splits = {}
    for number, name in enumerate(("train", "val", "test")):
        rows = np.flatnonzero(split == number)
        runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1) if len(rows) else []
        splits[name] = (
            [[int(run[0]), int(run[-1]) + 1] for run in runs],
            len(rows),
            int((inside & (split[starts] == number)).sum()),
        )
    if layout == "windows":
        rows = starts[:, None] + np.arange(k)
        whole["features"], whole["valid"] = whole["features"][rows], whole["valid"][rows]
    short = sum(last - first + 1 < k for _, first, last, *_ in segments)
    return whole | {"segments": segments, "splits": splits, "starts": starts, "short": short}


def check_store(store: FeatureStore, expected: dict[str, Any]) -> None:
    for name, array in (
        ("features", store.features),
        ("valid", store.valid),
        ("times", store.timestamps),
        ("bars", store.bars),
    ):
        assert array.shape == expected[name].shape, name
        assert array.tobytes() == expected[name].tobytes(), name
    if store.extra is not None:
        assert store.extra.tobytes() == expected["extra"].tobytes()
    if store.layout == "windows":
        assert (store.window_starts == expected["starts"]).all()
    assert [tuple(segment) for segment in store.segments] == expected["segments"]
    splits = {name: (s.ranges.tolist(), s.bars, s.windows) for name, s in store.splits.items()}
    assert splits == expected["splits"]
    assert store.metadata["quality"]["segments_shorter_than_window"] == expected["short"]
    assert len(store) == len(expected["times"])


def as_table(symbols: Mapping[str, Rows], order: Sequence[tuple[str, int]]) -> pa.Table:
    """The rows of a panel in the order given: symbol and number of the row."""
    return pa.table(
        {
            "timestamp": times([symbols[symbol].times[i] for symbol, i in order]),
            "symbol": [symbol for symbol, _ in order],
            "contract": [f"{symbol}-{symbols[symbol].contracts[i]}" for symbol, i in order],
            **{
                name: np.array([symbols[symbol].prices[i, k] for symbol, i in order])
                for k, name in enumerate(PRICES)
            },
            "volume": np.array([symbols[symbol].volume[i] for symbol, i in order]),
        }
    )


def rows_of(seed: int, n: int, step: np.ndarray, contract_every: int = 10**9, start: int = START) -> Rows:
    _, *prices, volume = _core.SampleBars(seed).take(n)
    stamps = start + np.concatenate([[0], np.cumsum(step[: n - 1])])
    return Rows(stamps.astype(np.int64), np.stack(prices, 1), volume, np.arange(n) // contract_every)


@st.composite
def panels(draw: st.DrawFn) -> tuple[dict[str, Rows], list[tuple[str, int]]]:
    """A few symbols with gaps and rolls, their rows interleaved somehow."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    symbols = draw(
        st.lists(st.sampled_from(["ES", "NQ", "", "Öl", "ZZ", "a b"]), min_size=1, max_size=3, unique=True)
    )
    symbols = [symbol or "-" for symbol in symbols]
    rows = {}
    for symbol in symbols:
        n = draw(st.integers(1, 250))
        rare = draw(st.sampled_from([0.0, 0.01, 0.1]))
        step = np.where(rng.random(n) < rare, rng.choice([MINUTE // 2, 2 * MINUTE, 300 * MINUTE], n), MINUTE)
        every = draw(st.sampled_from([10**9, 70, 30]))
        rows[symbol] = rows_of(int(rng.integers(100)), n, step, every, START + int(rng.integers(60)) * MINUTE)
    order = [(symbol, i) for symbol, own in rows.items() for i in range(len(own.times))]
    if draw(st.booleans()):
        order.sort(key=lambda place: rows[place[0]].times[place[1]])
    return rows, order


@given(
    panel=panels(),
    feature_set=st.sampled_from(SETS),
    window_length=st.sampled_from([1, 2, 20, 61, 105]),
    warmup=st.sampled_from([0, 10, 105]),
    layout=st.sampled_from(["bars", "windows"]),
    stamp=st.sampled_from(["open", "close"]),
    gap=st.sampled_from([None, 2 * MINUTE - 1, 2 * MINUTE]),
    contracts=st.booleans(),
    keep=st.booleans(),
    sort=st.booleans(),
    dates=st.booleans(),
    batches=st.integers(1, 4),
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_store_holds_what_plain_numpy_gives(
    panel: Any, feature_set: str, window_length: int, warmup: int, layout: Any, stamp: Any, gap: int | None,
    contracts: bool, keep: bool, sort: bool, dates: bool, batches: int,
) -> None:  # fmt: skip
    rows, order = panel
    days = ["2024-05-06", "2024-05-07", "2024-05-09"] if dates else None
    config = {"warmup_bars": warmup, "range_ema_period": 13}
    expected = expected_store(
        rows, feature_set=feature_set, config=config, window_length=window_length, layout=layout, stamp=stamp,
        gap=gap, contracts=contracts, days=days,
    )  # fmt: skip
    assume(any(windows for _, _, windows in expected["splits"].values()))
    if sort:
        order = random.Random(len(order)).sample(order, len(order))
    data = as_table(rows, order)
    pieces = [
        data.slice(k * len(order) // batches, (k + 1) * len(order) // batches - k * len(order) // batches)
        for k in range(batches)
    ]
    ends = dict(zip(("train_end", "val_end", "test_end"), days, strict=True)) if days else {}
    with tempfile.TemporaryDirectory() as folder:
        store = build_features(
            pa.concat_tables([piece for piece in pieces if len(piece)]), Path(folder, "store"),
            feature_set=feature_set, config=config, window_length=window_length, layout=layout, stamp=stamp,
            reset_on_gap=gap, segment_by="symbol,contract" if contracts else "symbol",
            keep="volume" if keep else (), sort=sort, **ends,
        )  # fmt: skip
        check_store(store, expected)
        assert (store.extra is not None) == keep
        assert os.listdir(folder) == ["store"]
        check_sound(store.path)


@pytest.fixture(scope="module")
def large_panel() -> tuple[dict[str, Rows], list[tuple[str, int]]]:
    """Symbols of which one is longer than a batch, with some gaps and rolls."""
    rng = np.random.default_rng(5)
    rows = {
        symbol: rows_of(k, n, np.where(rng.random(n) < 0.001, 300 * MINUTE, MINUTE), 40_000)
        for k, (symbol, n) in enumerate([("NQ", 150_000), ("ES", 120_000), ("CL", 50), ("A", 1)])
    }
    order = [(symbol, i) for symbol, own in rows.items() for i in range(len(own.times))]
    order.sort(key=lambda place: (place[1], place[0]))
    return rows, order


def test_panels_of_many_batches(tmp_path: Path, large_panel: Any) -> None:
    rows, order = large_panel
    expected = expected_store(rows, gap=60 * MINUTE, contracts=True)
    options: dict[str, Any] = {"reset_on_gap": "1h", "segment_by": "symbol,contract", "keep": "volume"}
    data = as_table(rows, order)
    with build_features(data, tmp_path / "store", **options) as store:
        check_store(store, expected)
        assert any("of" in line and "shorter than 105 bars" in line for line in store.notices)
    reader = pa.RecordBatchReader.from_batches(data.schema, data.to_batches(40_001))
    with build_features(reader, tmp_path / "store", overwrite=True, **options) as store:
        check_store(store, expected)
    # More rows than are sorted at a time.
    shuffled = data.take(np.random.default_rng(1).permutation(len(data)))
    with build_features(shuffled, tmp_path / "store", overwrite=True, sort=True, **options) as store:
        check_store(store, expected)
    # Partitions are the same panel, in another order.
    for symbol, own in rows.items():
        folder = tmp_path / "parts" / f"symbol={symbol}"
        folder.mkdir(parents=True)
        part = as_table(rows, [(symbol, i) for i in range(len(own.times))]).drop_columns("symbol")
        pq.write_table(part.slice(0, 100), folder / "0.parquet")
        if len(part) > 100:
            pq.write_table(part.slice(100), folder / "1.parquet")
    with build_features(tmp_path / "parts", tmp_path / "store", overwrite=True, **options) as store:
        check_store(store, expected)
        assert [source["rows"] for source in store.metadata["sources"]] == [1, 50, 100, 119_900, 100, 149_900]
    assert moola.verify_features(tmp_path / "store", tmp_path / "parts").ok
    assert names(tmp_path) == ["parts", "store"]


@pytest.mark.parametrize("length", [1, 7, 105, 3000])
def test_dense_windows_over_many_pieces(tmp_path: Path, length: int) -> None:
    """Windows that begin in one piece of the computation and end in another, longer than the warm-up or shorter."""
    n = 140_000 if length == 7 else 8_000
    step = np.where(np.arange(n) % 3500 == 3499, 300 * MINUTE, MINUTE)
    rows = {"": rows_of(1, n, step)}
    expected = expected_store(
        rows, window_length=length, layout="windows", gap=60 * MINUTE, feature_set="ohlc4"
    )
    data = as_table(rows, [("", i) for i in range(n)]).drop_columns(["symbol", "contract"])
    options: dict[str, Any] = {"layout": "windows", "window_length": length, "reset_on_gap": "1h"}
    with build_features(data, tmp_path / "store", feature_set="ohlc4", **options) as store:
        check_store(store, expected)
        assert store.features.shape == (len(expected["starts"]), length, 4)


def test_every_form_gives_the_same_bits(tmp_path: Path) -> None:
    # Prices with all the digits that a float64 has, and times with nanoseconds.
    rng = np.random.default_rng(1)
    n = 2000
    close = 100 * np.exp(np.cumsum(rng.normal(0, 1e-3, n)))
    open, up, down = close * np.exp(rng.normal(0, 1e-3, n)), *rng.random((2, n))
    data = pa.table(
        {
            "timestamp": times(START + 123_456_789 + np.arange(n) * MINUTE),
            "open": open,
            "high": np.maximum(open, close) + up,
            "low": np.minimum(open, close) - down,
            "close": close,
            "volume": rng.random(n) * 1e6,
            "symbol": np.where(np.arange(n) % 3 == 0, "B", "A"),
        }
    )
    options: dict[str, Any] = {"keep": "volume", "config": {"warmup_bars": 10}, "window_length": 30}
    expected = built(data, tmp_path / "s", **options)
    assert expected["features.npy"] != built(table(n), tmp_path / "s", **SMALL)["features.npy"]
    forms: dict[str, Any] = {form: source(data, form, tmp_path / "in").what for form in FORMS}
    forms |= {
        "reader": pa.RecordBatchReader.from_batches(data.schema, data.to_batches(77)),
        "indexed": data.to_pandas().set_index("timestamp"),
        "stream file": tmp_path / "in" / "bars.arrows",
        "two files": [
            source(data.slice(0, 700), "csv", tmp_path / "in", "0").what,
            source(data.slice(700), "parquet", tmp_path / "in", "1").what,
        ],
        "lazy": pl.from_arrow(data).lazy().collect(),  # type: ignore[union-attr]
        "categorical": data.to_pandas().astype({"symbol": "category"}),
    }
    with pa.ipc.new_stream(forms["stream file"], data.schema) as writer:
        writer.write_table(data)
    for form, bars in forms.items():
        assert built(bars, tmp_path / "s", **options) == expected, form


def test_one_shot_streams_with_dates_to_be_ordered(tmp_path: Path) -> None:
    """Slashed dates are read twice; a stream that can be read once goes by way of the disk."""
    moments = pd.to_datetime(START + np.arange(20_000) * MINUTE)
    data = table(20_000, timestamp=[f"{m.month}/{m.day}/{m.year} {m.hour}:{m.minute:02}" for m in moments])
    reader = pa.RecordBatchReader.from_batches(data.schema, data.to_batches(999))
    result = built(reader, tmp_path / "s", tz="UTC")
    assert result == built(table(20_000), tmp_path / "s", tz="UTC")


def test_the_metadata_say_how_the_store_came_about(tmp_path: Path) -> None:
    bars = source(table(), "csv", tmp_path / "in")
    options: dict[str, Any] = {
        "stamp": "close", "keep": ("volume",), "tz": "UTC", "dedup": "identical", "reset_on_gap": "4h",
        "columns": {"volume": "volume"}, "embargo": 3, "split": (0.5, 0.25, 0.25),
    }  # fmt: skip
    with build_features(
        bars.what, tmp_path / "store", feature_set="relativity12", **SMALL, **options
    ) as store:
        metadata = store.metadata
    assert metadata["feature_set"] == "relativity12"
    assert [feature["name"] for feature in metadata["features"]][-2:] == ["expansion_proxy", "consol_proxy"]
    assert metadata["parameters"] == moola.FeatureConfig(warmup_bars=10).model_dump()
    assert metadata["sources"] == [
        {
            "name": bars.name,
            "rows": 300,
            "blake3": _core.hash_file(bars.what),
            "timestamp": "ISO 8601 with offset",
        }
    ]
    assert metadata["read_options"] == {
        "columns": {"volume": "volume"}, "keep": ["volume"], "tz": "UTC", "time_format": None, "stamp": "close",
        "segment_by": ["symbol"], "drop_bad_bars": False, "dedup": "identical", "sort": False,
        "reset_on_gap": 4 * 60 * MINUTE,
    }  # fmt: skip
    assert store.segments[0].first_timestamp == START - MINUTE
    assert set(metadata["timings"]) == {"start", "read", "features", "check"}
    assert all(0 <= seconds < 60 for seconds in metadata["timings"].values())
    assert metadata["created"].endswith("+00:00")
    assert metadata["moola_version"] == moola.__version__
    assert metadata["known_after"]["features"].keys() == set(store.feature_names)
    splits = json.loads((store.path / "splits.json").read_text())
    assert (splits["method"], splits["fractions"], splits["embargo"], splits["purge"]) == (
        "fractions",
        [0.5, 0.25, 0.25],
        3,
        19,
    )
    assert moola.verify_features(store.path, bars.what).ok


def test_the_convention_of_stamps_is_asked_for_once(tmp_path: Path) -> None:
    with build_features(table(), tmp_path / "a", **SMALL) as store:
        assert "build again with --stamp close" in store.notices[0]
    for stamp in ("open", "close"):
        with build_features(table(), tmp_path / stamp, stamp=stamp, **SMALL) as store:  # type: ignore[arg-type]
            assert not any("stamp" in notice for notice in store.notices)


def test_progress(tmp_path: Path) -> None:
    seen: list[tuple[str, int | None, int | None]] = []
    build_features(table(300_000), tmp_path / "store", progress=lambda *what: seen.append(what)).close()
    assert [stage for i, (stage, *_) in enumerate(seen) if i == 0 or stage != seen[i - 1][0]] == [
        "read",
        "features",
        "publish",
    ]
    done = [done for stage, done, _ in seen if stage == "read"]
    assert done == sorted(done)  # type: ignore[type-var]
    assert done[-1] == 300_000
    assert ("features", 300_000, 300_000) in seen


# Real bars


REAL: dict[str, dict[str, Any]] = {
    "sp500_1min_2019-11": {"tz": "America/New_York", "time_format": "%m/%d/%Y %H:%M"},
    "btcusdt_1min_2023-03": {},
    "btcusdc_1min_2023-03": {},
}
REAL_QUALITY = {
    "sp500_1min_2019-11": {"bars": 1563, "gaps": 3},
    "btcusdt_1min_2023-03": {"bars": 30_240, "zero_range_bars": 1616},
    "btcusdc_1min_2023-03": {"bars": 30_240, "zero_range_bars": 17_516},
}


@pytest.mark.skipif(not SHARED, reason="needs the real bars: set MOOLA_SHARED")
@pytest.mark.parametrize("feature_set", ["relativity10", "relativity12", "relative_transform11", "ohlc4"])
@pytest.mark.parametrize("name", REAL)
def test_real_bars(tmp_path: Path, name: str, feature_set: str) -> None:
    path = Path(str(SHARED), "data", f"{name}.csv")
    with np.load(Path(str(SHARED), "golden", f"{name}.npz")) as golden:
        store = build_features(path, tmp_path / "store", feature_set=feature_set, **REAL[name])
        expected = golden["relativity12"][:, :10] if feature_set == "relativity10" else golden[feature_set]
        np.testing.assert_allclose(store.features, expected, rtol=0, atol=1e-6)
        for k, column in enumerate(PRICES):
            assert (store.bars[:, k] == golden[column]).all()
        swings = (golden["swing_high_index"] >= 0) & (golden["swing_low_index"] >= 0)
    past = np.arange(len(store)) >= 105
    assert (store.valid == (past & swings if feature_set.startswith("relativity") else past)).all()
    quality = store.metadata["quality"]
    assert quality | REAL_QUALITY[name] == quality
    if name.startswith("sp500"):
        assert format_time(store.segments[0].first_timestamp) == "2019-11-05T14:30:00Z"
    report = moola.verify_features(store.path, path)
    assert report.ok, report.checks


@pytest.mark.skipif(not SHARED, reason="needs the real bars: set MOOLA_SHARED")
def test_real_dates_that_fit_both_orders(tmp_path: Path) -> None:
    path = Path(str(SHARED), "data", "sp500_1min_2019-11.csv")
    refused(path, tmp_path, "--time-format '%m/%d/%Y", error=InputError, tz="America/New_York")


# Going on live where the store ends


@pytest.mark.parametrize("feature_set", SETS)
def test_a_stream_goes_on_where_the_store_ends(tmp_path: Path, feature_set: str) -> None:
    data = table(3000)
    columns = [data[name].to_numpy() for name in PRICES]
    stamps = data["timestamp"].cast(pa.int64()).to_numpy()
    config = {"atr_period": 14, "warmup_bars": 50}
    store = build_features(data.slice(0, 2000), tmp_path / "store", feature_set=feature_set, config=config)
    rest = slice(2000, None)
    whole = moola.compute_features(*columns, feature_set=feature_set, config=config)
    assert (store.features == whole[:2000]).all()
    for given_store in (store, store.path, str(store.path)):
        stream = moola.FeatureStream.from_store(given_store)
        assert (stream.feature_set, stream.bars, stream.valid) == (feature_set, 2000, True)
        assert stream.last_timestamp == stamps[1999]
        rows = stream.push_many(*(column[rest] for column in columns), stamps[rest])
        assert rows.tobytes() == whole[rest].tobytes()
    # A bar that the store has already is refused, and leaves the stream where it was.
    stream = moola.FeatureStream.from_store(store)
    before = stream.state()
    with pytest.raises(BarError, match=r"duplicate timestamp: 1\n.*timestamp = 2024-05-07T22:49:00Z\n"):
        stream.push(*(column[1999] for column in columns), timestamp=int(stamps[1999]))
    with pytest.raises(BarError, match="timestamp = 2024-05-07T22:48:00Z, after 2024-05-07T22:49:00Z"):
        stream.push(*(column[1998] for column in columns), timestamp=int(stamps[1998]))
    assert stream.state() == before


@pytest.mark.parametrize("layout", ["bars", "windows"])
def test_a_stream_goes_on_with_the_gap_rule_and_any_symbol(tmp_path: Path, layout: Any) -> None:
    rng = np.random.default_rng(2)
    rows = {
        symbol: rows_of(k, 600, np.where(rng.random(600) < 0.01, 300 * MINUTE, MINUTE))
        for k, symbol in enumerate(["B", "A", "C"])
    }
    whole = expected_store(rows, gap=60 * MINUTE, config={"warmup_bars": 10})
    cut = {symbol: Rows(*(column[:400] for column in own)) for symbol, own in rows.items()}
    order = sorted(((symbol, i) for symbol in cut for i in range(400)), key=lambda place: place[1])
    store = build_features(
        as_table(cut, order), tmp_path / "store", layout=layout, reset_on_gap="1h", **SMALL
    )
    for k, symbol in enumerate(sorted(rows)):
        own = rows[symbol]
        stream = moola.FeatureStream.from_store(store, symbol)
        assert stream.reset_on_gap == 60 * MINUTE
        late = moola.FeatureStream.from_state(stream.state())
        found = stream.push_many(*(own.prices[400:, column].copy() for column in range(4)), own.times[400:])
        assert found.tobytes() == whole["features"][600 * k + 400 : 600 * (k + 1)].tobytes()
        for i in range(400, 600):
            late.push(*own.prices[i], timestamp=int(own.times[i]))
            assert late.valid == whole["valid"][600 * k + i]
        assert late.state() == stream.state()


def test_streams_that_cannot_go_on(tmp_path: Path) -> None:
    symbols = np.where(np.arange(300) % 2, "ES", "NQ")
    store = build_features(table(symbol=symbols), tmp_path / "store", **SMALL)
    with pytest.raises(ConfigError, match="symbol: the store has several symbols, name one: ES, NQ"):
        moola.FeatureStream.from_store(store)
    with pytest.raises(ConfigError, match="symbol: the store has no symbol 'CL': ES, NQ"):
        moola.FeatureStream.from_store(store, "CL")
    with pytest.raises(StoreMissingError):
        moola.FeatureStream.from_store(tmp_path / "nowhere")


# Builds in processes of their own


SERVER = """
import json, os, resource, signal, sys, threading, time
import numpy as np
import moola, moola.bars, moola.build, moola.config, moola.formats, moola.publish, moola.store, moola.verify
import pyarrow, pyarrow.csv, pyarrow.parquet

def progress(die_at, stages):
    def report(stage, done, total):
        if not stages or stages[-1][0] != stage:
            stages.append((stage, time.monotonic()))
        if die_at == [stage, done] or die_at == [stage, None]:
            os.kill(os.getpid(), signal.SIGKILL)
    return report

def work(job, report, result):
    if job["what"] == "compute":
        columns = [np.tile(c, job["times"]) for c in moola._core.SampleBars(1).take(100_000)[1:5]]
        out = np.zeros((len(columns[0]), 10), np.float32)
        report("features", None, None)
        if "interrupt_after" in job:
            def interrupt():
                result["sent"] = time.monotonic()
                os.kill(os.getpid(), signal.SIGINT)
            threading.Timer(job["interrupt_after"], interrupt).start()
        moola.compute_features(*columns, out=out)
    elif job["what"] == "build":
        if job.get("file_limit"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_limit"],) * 2)
        bars = job["bars"]
        if job.get("stream"):
            import pyarrow.parquet as pq
            # Its own reading ahead would hold the whole file.
            file = pq.ParquetFile(bars, pre_buffer=False, buffer_size=1 << 20)
            bars = pyarrow.RecordBatchReader.from_batches(file.schema_arrow, file.iter_batches(50_000))
        moola.build_features(bars, job["output"], progress=report, **job["options"])

def child(job):
    stages, result = [], {"stages": None}
    report = progress(job.get("die_at"), stages)
    try:
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
            time.sleep(max(0, job["at"] - time.monotonic()))
            result["began"] = time.monotonic()
            work(job, report, result)
            result["outcome"] = "done"
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    except BaseException as error:
        result["outcome"] = type(error).__name__
        result["message"] = str(error)
    result |= {"ended": time.monotonic(), "stages": stages}
    result["rss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    # A file-size limit is for the store, not for this.
    os.write(job_pipe[1], json.dumps(result).encode() + b"\\n")

# Ctrl-C is for the children, and waits until they are ready for it.
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
pipes = {}
print("ready", flush=True)
for line in sys.stdin:
    job = json.loads(line)
    if "wait" in job:
        status = os.waitpid(job["wait"], 0)[1]
        text = os.read(pipes.pop(job["wait"]), 1 << 16).decode()
        print(json.dumps({"status": status} | json.loads(text or "{}")), flush=True)
        continue
    job_pipe = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child(job)
        finally:
            os._exit(0)
    os.close(job_pipe[1])
    pipes[pid] = job_pipe[0]
    print(pid, flush=True)
"""


class Builders:
    """Processes that each do one build and that may be killed; all imports are behind them when they start."""

    def __init__(self) -> None:
        self.server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )
        assert self._answer() == "ready"

    def _answer(self) -> str:
        assert self.server.stdout is not None
        return self.server.stdout.readline().strip()

    def _say(self, job: dict[str, Any]) -> str:
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps(job) + "\n")
        return self._answer()

    def start(self, what: str = "build", *, at: float = 0.0, **job: Any) -> int:
        """Starts a process, whose work begins at `at`, a time of the monotonic clock."""
        job["options"] = job.get("options") or {}
        return int(self._say({"what": what, "at": at} | job))

    def end(self, pid: int) -> dict[str, Any]:
        """Waits for a process: its wait status, and what it had to say if it could."""
        return json.loads(self._say({"wait": pid}))  # type: ignore[no-any-return]

    def build(self, bars: Path, output: Path, **job: Any) -> dict[str, Any]:
        """A build that is left alone."""
        return self.end(self.start(bars=str(bars), output=str(output), **job))

    def interrupt(self, pid: int) -> tuple[float, dict[str, Any]]:
        """Ctrl-C: the seconds that it took, and what the process had to say."""
        sent = time.monotonic()
        os.kill(pid, signal.SIGINT)
        result = self.end(pid)
        return result["ended"] - sent, result


@pytest.fixture(scope="module")
def builders() -> Iterator[Builders]:
    server = Builders()
    yield server
    server.server.communicate(timeout=30)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80,000 bars of each of two symbols, interleaved: more than one batch."""
    path = tmp_path_factory.mktemp("bars") / "bars.parquet"
    n = 80_000
    parts = [table(n, seed, symbol=[f"S{seed}"] * n) for seed in (1, 2)]
    both = pa.concat_tables(parts).take(np.arange(2 * n).reshape(2, -1).T.ravel())
    pq.write_table(both, path)
    return path


BUILD: dict[str, Any] = {"keep": ["volume"], "stamp": "close", "overwrite": True}


def test_killed_at_any_moment_a_build_leaves_the_old_store_or_the_new(
    tmp_path: Path, builders: Builders, sample: Path
) -> None:
    kill_builds(tmp_path, builders, sample, 30, BUILD)


@pytest.mark.long
@pytest.mark.parametrize("layout", ["bars", "windows"])
def test_killed_at_a_great_many_moments(
    tmp_path: Path, builders: Builders, sample: Path, layout: str
) -> None:
    kill_builds(tmp_path, builders, sample, 150, BUILD | {"layout": layout, "window_length": 20})


def kill_builds(folder: Path, builders: Builders, bars: Path, kills: int, options: dict[str, Any]) -> None:
    path = folder / "store"
    first = builders.build(bars, path, options=options)
    assert first["outcome"] == "done", first
    whole = first["ended"] - first["began"]
    before, replaced = check_sound(path).id, 0
    for k in range(kills):
        pid = builders.start(
            bars=str(bars), output=str(path), options=options, at=(at := time.monotonic() + 0.01)
        )
        # From the first step to a little after the last.
        time.sleep(max(0.0, at + 1.5 * whole * k / kills - time.monotonic()))
        os.kill(pid, signal.SIGKILL)
        builders.end(pid)
        now = check_sound(path).id
        replaced += now != before
        before = now
        # What this one left, and two of the probes at most; what others left is gone.
        assert len(names(folder)) <= 3
    assert 0 < replaced < kills, "some came to their end, and some did not"
    assert builders.build(bars, path, options=options)["outcome"] == "done"
    assert check_sound(path).id != before
    assert names(folder) == ["store"]


@pytest.mark.parametrize("stage", ["read", "features", "publish"])
@pytest.mark.parametrize("old", [False, True])
def test_killed_in_every_stage(
    tmp_path: Path, builders: Builders, sample: Path, stage: str, old: bool
) -> None:
    path = tmp_path / "store"
    if old:
        builders.build(sample, path, options={"window_length": 20})
        before = check_sound(path).id
    killed = builders.build(
        sample,
        path,
        options=BUILD,
        die_at=[stage, None] if stage == "publish" else [stage, 0 if stage == "features" else 131_072],
    )
    assert killed == {"status": signal.SIGKILL}
    left = [name for name in names(tmp_path) if name != "store"]
    assert len(left) == 1
    assert left[0].startswith(".store.")
    if old:
        assert check_sound(path).id == before
    else:
        assert not path.exists()
    assert builders.build(sample, path, options=BUILD)["outcome"] == "done"
    assert names(tmp_path) == ["store"]
    check_sound(path)


def test_a_killed_command_is_no_obstacle(tmp_path: Path, sample: Path) -> None:
    path = tmp_path / "store"
    command = [sys.executable, "-m", "moola", "build-features", "--data", str(sample), "--output", str(path)]
    process = subprocess.Popen(
        [*command, "--stamp", "open"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not names(tmp_path) and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.wait()
    subprocess.run([*command, "--stamp", "open", "--overwrite"], check=True, capture_output=True)
    assert names(tmp_path) == ["store"]
    check_sound(path)


@pytest.mark.parametrize("overwrite", [False, True])
def test_of_many_builders_one_wins(tmp_path: Path, builders: Builders, overwrite: bool) -> None:
    bars = tmp_path / "bars.parquet"
    pq.write_table(table(20_000), bars)
    folder = tmp_path / "stores"
    folder.mkdir()
    path = folder / "store"
    before = ""
    if overwrite:
        build_features(bars, path).close()
        before = check_sound(path).id
    at = time.monotonic() + 0.5
    pids = [
        builders.start(bars=str(bars), output=str(path), at=at, options={"overwrite": overwrite})
        for _ in range(32)
    ]
    results = [builders.end(pid) for pid in pids]
    outcomes = [result["outcome"] for result in results]
    store = check_sound(path)
    assert store.id != before
    assert names(folder) == ["store"]
    if not overwrite:
        assert outcomes.count("done") == 1
        assert set(outcomes) <= {"done", "StoreExistsError", "BuildConflictError"}
    else:
        # One after the other may replace it; two at a time may not.
        assert "done" in outcomes
        assert set(outcomes) <= {"done", "BuildConflictError"}
    for result in results:
        if result["outcome"] == "StoreExistsError":
            assert (
                "there is a feature store already. Choose another name, or pass --overwrite"
                in result["message"]
            )
        elif result["outcome"] == "BuildConflictError":
            assert str(path) in result["message"]
            assert "another process " in result["message"]
            assert "choose another name" in result["message"]


def test_readers_never_see_a_mixture(tmp_path: Path) -> None:
    """Two stores, again and again one in place of the other, while readers look at every byte."""
    path = tmp_path / "store"
    data = [table(20_000, seed) for seed in (1, 2)]
    build_features(data[0], path).close()
    price = {float(bars["open"][-1].as_py()): bars for bars in data}
    wanted = {
        last: moola.compute_features(*(bars[name].to_numpy() for name in PRICES)).tobytes()
        for last, bars in price.items()
    }
    stop = threading.Event()
    faults: list[BaseException] = []
    seen: list[tuple[str, float]] = []

    def read() -> None:
        try:
            while not stop.is_set():
                with check_sound_or_replaced(path), FeatureStore.open(path) as store:
                    last = float(store.bars[-1, 0])
                    assert store.features.tobytes() == wanted[last]
                    seen.append((store.id, last))
        except BaseException as fault:
            faults.append(fault)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for k in range(25):
        build_features(data[(k + 1) % 2], path, overwrite=True).close()
    stop.set()
    for reader in readers:
        reader.join()
    assert not faults
    assert len(set(seen)) > 5
    assert len({last for _, last in seen}) == 2
    assert names(tmp_path) == ["store"]


# Full disks


@pytest.mark.parametrize("stream", [False, True])
def test_a_limit_on_file_sizes_is_an_error(
    tmp_path: Path, builders: Builders, sample: Path, stream: bool
) -> None:
    """In whichever file it strikes: bars, features or windows; while rows are regrouped, too."""
    folder = tmp_path / "stores"
    folder.mkdir()
    path = folder / "store"
    options: dict[str, Any] = BUILD | {"layout": "windows", "window_length": 4}
    assert builders.build(sample, path, options=options)["outcome"] == "done"
    before = check_sound(path).id
    sizes = sorted({file.stat().st_size for file in path.iterdir()})
    limits = [1, 100, 5_000, *(size - 1 for size in sizes if size > 100_000)]
    struck = set()
    for k, limit in enumerate(limits):
        output = folder / "new" / "other" if k % 2 else path
        result = builders.build(sample, output, options=options, file_limit=limit, stream=stream)
        assert result["outcome"] == "StoreWriteError", result
        assert "cannot be written: File too large (" in result["message"]
        assert "nothing was left behind. Raise the limit on file sizes (ulimit -f)" in result["message"]
        struck.add(result["message"].split("(")[1].split(")")[0])
        assert names(folder) == ["store"]
        assert check_sound(path).id == before
    assert {"bars.npy", "features_10d.npy"} <= struck
    assert builders.build(sample, path, options=options)["outcome"] == "done"
    assert names(folder) == ["store"]


FULL_DISK = """
import contextlib, os, subprocess, sys, tempfile
from pathlib import Path
import pyarrow as pa
import pytest
import moola
from moola.errors import InputError, StoreWriteError
from test_build import check_sound, names, table, times

disk = Path(sys.argv[1])

def resize(size):
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)

n = 20_000
data = table(n, symbol=["A", "B"] * (n // 2))
options = {"keep": "volume", "layout": sys.argv[2], "window_length": 5, "stamp": "close"}
resize("1g")
before = moola.build_features(table(500, seed=9), disk / "store", window_length=20).id
used = sum(-(-file.stat().st_size // 4096) * 4096 for file in (disk / "store").iterdir())
moola.build_features(data, disk / "other", **options).close()
need = sum(-(-file.stat().st_size // 4096) * 4096 for file in (disk / "other").iterdir())
subprocess.run(["rm", "-r", disk / "other"], check=True)
struck = set()
for part in range(1, 20):
    # tmpfs counts a page or so of its own.
    resize(used + need * part // 20)
    for name, overwrite in (("other", False), ("store", True)):
        with pytest.raises(StoreWriteError) as caught:
            moola.build_features(data, disk / name, overwrite=overwrite, **options)
        message = str(caught.value)
        assert caught.value.errno == 28, message
        assert message.startswith(f"{disk / name}: cannot be written: No space left on device"), message
        assert message.endswith("nothing was left behind. Free some space, or build on another disk"), message
        struck.add(message.partition("device (")[2].partition(")")[0])
        assert names(disk) == ["store"], names(disk)
        assert check_sound(disk / "store").id == before
assert len(struck) >= 2, struck
resize("1g")
moola.build_features(data, disk / "store", overwrite=True, **options).close()
assert check_sound(disk / "store").id != before
assert names(disk) == ["store"]

# A stream that has to be read twice goes by way of the directory for temporary files, which may be full too.
resize(used + 2 * need)
moments = [f"{1 + i // 28}/{1 + i % 28}/2024 {h}:{m:02}" for i in range(28) for h in range(24) for m in range(60)]
slashed = table(len(moments), timestamp=moments)
os.environ["TMPDIR"] = str(disk)
full = disk / "full"
with full.open("wb", buffering=0) as file, contextlib.suppress(OSError):
    while True:
        file.write(bytes(4096))
# Room enough to look like a place for temporary files.
os.truncate(full, full.stat().st_size - 65_536)
tempfile.tempdir = None
elsewhere = Path(sys.argv[3])
reader = pa.RecordBatchReader.from_batches(slashed.schema, slashed.to_batches(1000))
with pytest.raises(InputError) as caught:
    moola.build_features(reader, elsewhere / "store", tz="UTC")
message = str(caught.value)
assert message.startswith("<pyarrow.RecordBatchReader>: is read twice because of its dates"), message
assert "No space left on device" in message, message
assert "Set TMPDIR to a directory with room, or save the bars to a file" in message, message
assert names(elsewhere) == []
"""


@pytest.mark.parametrize("layout", ["bars", "windows"])
def test_a_full_disk_is_an_error(tmp_path: Path, layout: str) -> None:
    # A small file system that only this process sees, and that ends with it.
    alone = ["unshare", "--mount", "--user", "--map-root-user", "sh", "-ec"]
    mount = "mount -t tmpfs -o size=1g tmpfs $1"
    (tmp_path / "disk").mkdir()
    (tmp_path / "elsewhere").mkdir()
    probe = f"{mount}; mount -o remount,size=1m $1"
    if (
        shutil.which("unshare") is None
        or subprocess.run([*alone, probe, "-", tmp_path / "disk"], check=False).returncode
    ):
        pytest.skip("no file system can be mounted here; the limit on file sizes is tested above")
    script = f'{mount}; disk=$1; exec "$2" -c "$3" "$disk" "$4" "$5"'
    command = [
        *alone,
        script,
        "-",
        str(tmp_path / "disk"),
        sys.executable,
        FULL_DISK,
        layout,
        str(tmp_path / "elsewhere"),
    ]
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": paths}
    )
    assert result.returncode == 0, result.stderr


# Ctrl-C


LIMIT = 0.5
"""Seconds that Ctrl-C may take."""


def shuffle(bars: Path, folder: Path) -> Path:
    """The same rows, in no order."""
    data = pq.read_table(bars)
    pq.write_table(data.take(np.random.default_rng(1).permutation(len(data))), folder / "shuffled.parquet")
    return folder / "shuffled.parquet"


def interrupt_builds(
    folder: Path, builders: Builders, moments: Sequence[float], bars: Path, options: dict[str, Any]
) -> list[tuple[float, str]]:
    """Presses Ctrl-C in builds, so many seconds after their start. Returns how long each took and in which stage."""
    path = folder / "store"
    took = []
    for moment in moments:
        # A machine with other work to do may be late once; what is slow is so every time.
        for _ in range(3):
            at = time.monotonic() + 0.01
            pid = builders.start(bars=str(bars), output=str(path), options=options, at=at)
            time.sleep(max(0.0, at + moment - time.monotonic()))
            seconds, result = builders.interrupt(pid)
            stage = (result["stages"] or [["start"]])[-1][0]
            if path.exists():
                assert stage == "publish"
                check_sound(path).close()
                shutil.rmtree(path)
            else:
                assert result["outcome"] == "KeyboardInterrupt", result
            assert names(folder) == []
            if seconds < LIMIT:
                break
        took.append((seconds, stage))
    return took


@pytest.mark.parametrize("form", ["panel", "csv", "shuffled"])
def test_ctrl_c_stops_a_build(tmp_path: Path, builders: Builders, sample: Path, form: str) -> None:
    bars = sample
    options: dict[str, Any] = {"keep": ["volume"], "stamp": "close"}
    if form == "csv":
        bars = tmp_path / "bars.csv"
        pyarrow.csv.write_csv(pq.read_table(sample), bars)
    elif form == "shuffled":
        bars = shuffle(sample, tmp_path)
        options["sort"] = True
    folder = tmp_path / "stores"
    folder.mkdir()
    first = builders.build(bars, folder / "store", options=options)
    assert first["outcome"] == "done", first
    shutil.rmtree(folder / "store")
    whole = first["ended"] - first["began"]
    took = interrupt_builds(folder, builders, [whole * k / 10 for k in range(10)], bars, options)
    assert max(took)[0] < LIMIT, took


def test_ctrl_c_stops_features_in_memory(builders: Builders) -> None:
    interrupt_compute(builders, 40)


@pytest.mark.long
def test_ctrl_c_stops_features_of_20_million_bars(builders: Builders) -> None:
    interrupt_compute(builders, 200)


def interrupt_compute(builders: Builders, repeats: int) -> None:
    whole = builders.end(builders.start("compute", times=repeats))
    computed = whole["ended"] - whole["stages"][0][1]
    for share in (0.05, 0.3, 0.6):
        wait = share * computed
        for _ in range(6):
            result = builders.end(builders.start("compute", times=repeats, interrupt_after=wait))
            seconds = result["ended"] - result.get("sent", 0.0)
            if result["outcome"] == "KeyboardInterrupt" and seconds < LIMIT:
                break
            # On a machine that is less busy than before, it was done when the signal came.
            wait /= 2
        assert result["outcome"] == "KeyboardInterrupt"
        assert seconds < LIMIT


@pytest.fixture(scope="module")
def five_years(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("market") / "bars.parquet"
    moola.make_bars(path)
    return path


@pytest.mark.long
@pytest.mark.parametrize("case", ["bars", "windows", "sort", "csv"])
def test_ctrl_c_stops_a_build_of_five_years(
    tmp_path: Path, builders: Builders, five_years: Path, case: str
) -> None:
    """At many moments; those in the dense layout come when gigabytes have been written."""
    options: dict[str, Any] = {
        "stamp": "open",
        "layout": "windows" if case == "windows" else "bars",
        "sort": case == "sort",
    }
    bars = five_years
    if case == "csv":
        bars = tmp_path / "bars.csv"
        moola.make_bars(bars)
    elif case == "sort":
        bars = shuffle(five_years, tmp_path)
    folder = tmp_path / "stores"
    folder.mkdir()
    first = builders.build(bars, folder / "store", options=options)
    assert first["outcome"] == "done", first
    shutil.rmtree(folder / "store")
    whole = first["ended"] - first["began"]
    count = 10 if case == "windows" else 30
    took = interrupt_builds(folder, builders, [whole * k / count for k in range(count)], bars, options)
    print(f"{case}: {whole:.2f} s in all; Ctrl-C took at most {max(took)[0]:.3f} s, in stage {max(took)[1]}")
    assert max(took)[0] < LIMIT, took


@pytest.mark.long
def test_ctrl_c_ends_the_command_that_writes_gigabytes(tmp_path: Path, five_years: Path) -> None:
    """Those who wait for the end of its output do not wait until the gigabytes are given back, either."""
    folder = tmp_path / "stores"
    folder.mkdir()
    command = [sys.executable, "-m", "moola", "build-features", "--data", str(five_years)]
    took = []
    for _ in range(3):
        process = subprocess.Popen(
            [*command, "--output", str(folder / "store"), "--layout", "windows"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        while sum(file.stat().st_size for file in folder.rglob("*.npy")) < 3 << 30:
            time.sleep(0.01)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate()
        took.append(time.monotonic() - sent)
        assert process.returncode != 0
        assert names(folder) == []
    assert min(took) < LIMIT, took


@pytest.mark.long
@pytest.mark.parametrize("case", ["left by a killed build", "replaced"])
def test_ctrl_c_does_not_wait_for_gigabytes_that_are_removed(tmp_path: Path, sample: Path, case: str) -> None:
    """Whichever way the build ends; and no name is left but that of a whole store."""
    folder = tmp_path / "stores"
    store = folder / "store"
    folder.mkdir()
    command = [sys.executable, "-m", "moola", "build-features", "--data", str(sample), "--output", str(store)]
    took = []
    for k in range(3):
        if case == "replaced":
            subprocess.run([*command, "--overwrite"], check=True, capture_output=True)
            large = store / "features.npy"
        else:
            large = folder / ".store.abcdefgh.moola-tmp" / "features.npy"
            large.parent.mkdir()
        with large.open("wb") as file:
            for _ in range(96):
                file.write(b"x" * (32 << 20))
        large = large.rename(large.with_name("bars.npy"))
        kept = large.open("rb")
        process = subprocess.Popen(
            [*command, "--overwrite"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        # The name goes first.
        while os.fstat(kept.fileno()).st_nlink and process.poll() is None:
            time.sleep(0.001)
        kept.close()
        time.sleep(0.05 * k)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        said = process.communicate()[0]
        took.append(time.monotonic() - sent)
        if case == "replaced":
            assert names(folder) == ["store"]
            check_sound(store).close()
        else:
            assert names(folder) == []
            assert "interrupted: nothing unfinished is left behind" in said
    print(f"{case}: Ctrl-C took at most {max(took):.3f} s")
    assert sorted(took)[-2] < LIMIT, took


# Memory


def test_memory_does_not_grow_with_the_bars(tmp_path: Path, builders: Builders) -> None:
    grow(tmp_path, builders, 500_000, 1_500_000)


@pytest.mark.long
def test_twenty_million_bars_take_no_more_memory_than_two(tmp_path: Path, builders: Builders) -> None:
    grow(tmp_path, builders, 2_000_000, 20_000_000)


def grow(folder: Path, builders: Builders, few: int, many: int) -> None:
    """A panel in symbol order, one interleaved, and a stream: each needs what it needs with fewer bars."""
    for order in ("grouped", "interleaved", "stream"):
        peaks = []
        for n in (few, many):
            path = folder / f"{n}.parquet"
            if order != "stream":
                write_panel(path, n, interleaved=order == "interleaved")
            result = builders.build(
                path, folder / "store", options={"overwrite": True}, stream=order == "stream"
            )
            assert result["outcome"] == "done", result
            peaks.append(result["rss"] / 2**20)
        print(f"{order}: {few:,} bars {peaks[0]:.0f} MiB, {many:,} bars {peaks[1]:.0f} MiB")
        # The larger one's batches may all be under way at once, where the smaller has but a few.
        assert peaks[1] < peaks[0] + 60, peaks
        assert peaks[1] < 450, peaks


def write_panel(path: Path, n: int, *, interleaved: bool) -> None:
    """n bars of two symbols: one symbol after the other, or turn by turn."""
    schema = pa.schema(
        [
            ("timestamp", pa.timestamp("ns", "UTC")),
            ("symbol", pa.string()),
            *((name, pa.float64()) for name in PRICES),
        ]
    )
    piece = 100_000
    prices = [column.copy() for column in _core.SampleBars(1).take(piece)[1:5]]
    with pq.ParquetWriter(path, schema, use_dictionary=["symbol"]) as writer:
        for first in range(0, n, piece):
            number = np.arange(first, first + piece)
            second = number % 2 if interleaved else number * 2 // n
            minute = number // 2 if interleaved else number - second * (n // 2)
            names = pa.array(np.array(["A", "B"])[second])
            writer.write_table(pa.table([times(START + minute * MINUTE), names, *prices], schema=schema))
