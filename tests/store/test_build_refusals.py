"""Bars and options that are refused, with their messages. Such a build leaves nothing."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from builds import (
    FILES,
    FORMS,
    MINUTE,
    PRICES,
    SMALL,
    START,
    built,
    changed,
    check_sound,
    names,
    refused,
    source,
    table,
    times,
)

from moola.errors import BarError, ConfigError, InputError, InputMissingError, StoreExistsError
from moola.store.build import build_features

# Bad input: one test for every row of the table, in every form


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("column", [*PRICES, "timestamp"])
def test_a_missing_column_is_refused(tmp_path: Path, form: str, column: str) -> None:
    bars = source(table(**{column: None}), form, tmp_path / "in")
    refused(
        bars.what,
        tmp_path,
        f"{bars.name}: has no column for {column}; its columns are '",
        f"--columns FILE_COLUMN={column}",
        error=InputError,
    )


@pytest.mark.parametrize("form", FORMS)
def test_a_column_of_the_wrong_type_is_refused(tmp_path: Path, form: str) -> None:
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
def test_no_bars_are_refused(tmp_path: Path, form: str) -> None:
    bars = source(table(0), form, tmp_path / "in")
    refused(bars.what, tmp_path, f"{bars.name}: holds no bars", "Leave it out, or check", error=InputError)


@pytest.mark.parametrize("suffix", FILES)
def test_an_empty_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bars.{suffix}"
    path.write_bytes(gzip.compress(b"") if suffix == "csv.gz" else b"")
    refused(path, tmp_path, f"{path}: is empty. Leave it out, or check how it was made", error=InputError)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", ["bars", "windows"])
def test_fewer_bars_than_a_window_are_refused(tmp_path: Path, form: str, layout: Any) -> None:
    bars = source(table(104), form, tmp_path / "in")
    refused(
        bars.what,
        tmp_path,
        "104 bars are fewer than one window of 105 bars",
        "Give more bars, or a smaller --window-length (window_length=)",
        error=InputError,
        layout=layout,
    )


def test_segments_shorter_than_a_window_are_refused(tmp_path: Path) -> None:
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
            "Give more bars; if there are enough, check that their prices move",
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
def test_bad_prices_are_refused(
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
    # Of numbers that cannot be prices only a few may be dropped: here 3 bars, whatever the share.
    if kind != "not_finite":
        many = changed(column, dict.fromkeys((6, 100, 101, 249), value))
        refused(many, tmp_path, "4 bars refused", "--max-bad", drop_bad_bars=True)


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
def test_duplicate_timestamps_are_refused(tmp_path: Path, form: str) -> None:
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
def test_timestamps_out_of_order_are_refused(tmp_path: Path, form: str) -> None:
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
def test_missing_timestamps_are_refused(tmp_path: Path, form: str) -> None:
    bars = source(changed("timestamp", {20: None}), form, tmp_path / "in")
    for options in ({}, {"drop_bad_bars": True}, {"sort": True}):
        refused(
            bars.what, tmp_path, "missing timestamp: 1", bars.at(21), "every bar needs its time", **options
        )


@pytest.mark.parametrize("form", FORMS)
def test_times_without_a_zone_are_refused(tmp_path: Path, form: str) -> None:
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
def test_local_times_at_clock_changes_are_refused(
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
def test_unusual_bars_are_accepted_and_counted(tmp_path: Path, form: str) -> None:
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
            "bar_interval": MINUTE,
            "another_interval": 0,
            # The half minute moves all bars after it.
            "off_grid_bars": 149,
        }
        assert len(result["segments"]) == segments
    with build_features(bars, tmp_path / "s", **SMALL) as store:
        assert any("1 close moves more than 50 % from the close before" in line for line in store.notices)
        assert store.extra is None


@pytest.mark.parametrize("form", FORMS)
def test_bad_kept_values_are_refused(tmp_path: Path, form: str) -> None:
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
def test_a_missing_kept_column_is_refused(tmp_path: Path, form: str) -> None:
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


def test_all_faults_are_collected_and_every_kind_is_shown(tmp_path: Path) -> None:
    """Many faults of one kind do not hide a single fault of another."""
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
        one_series=True,
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


def test_a_bar_with_several_faults_is_counted_once(tmp_path: Path) -> None:
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


def test_times_at_the_limits_of_nanoseconds_are_handled(tmp_path: Path) -> None:
    """No arithmetic overflows; the step between the two times exceeds an int64."""
    far = np.concatenate(
        [-(2**63) + 10**6 + np.arange(150) * MINUTE, 2**63 - 10**15 + np.arange(150) * MINUTE]
    )
    result = built(table(timestamp=times(far)), tmp_path / "s", reset_on_gap="4h", **SMALL)
    assert [segment.bar_interval for segment in result["segments"]] == [MINUTE, MINUTE]
    assert result["quality"]["longest_step"] == 2**63 - 1


# Options that are not valid, and places that cannot hold a store


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
        ({"split": (0.7, 0.15, 0.15), "train_end": "2024-05-06"}, "split: cannot be combined with train_end"),
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
def test_wrong_options_are_refused(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    error = refused(table(), tmp_path, says, error=ConfigError, **options)
    assert str(error).startswith(says)


def test_nonsense_as_bars_is_refused(tmp_path: Path) -> None:
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


def test_existing_outputs_are_safe(tmp_path: Path) -> None:
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
    # Bad bars do not affect the store that they were meant to replace.
    with pytest.raises(BarError):
        build_features(changed("low", {3: -1.0}), tmp_path / "store", overwrite=True, **SMALL)
    assert check_sound(tmp_path / "store").id == before
    with build_features(table(seed=4), tmp_path / "store", overwrite=True, **SMALL) as store:
        assert store.id != before
    assert names(tmp_path) == ["folder", "notes", "store"]
