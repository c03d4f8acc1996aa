"""Times of bars: Arrow types, epochs and texts, in every notation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pytest
from bar_files import (
    FORMATS,
    MINUTE,
    NONE,
    START,
    check_usual,
    csv_bars,
    read,
    refused,
    table,
    text,
    utc,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from moola import _core
from moola.bars.formats import inputs

# Arrow types


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "+02:00"])
def test_zoned_timestamps_are_read(tmp_path: Path, unit: str, zone: str) -> None:
    data = table(timestamp=table()["timestamp"].cast(pa.timestamp(unit, zone)))
    result = read(data, tz="Asia/Tokyo")
    check_usual(result)
    assert result.notation == f"arrow timestamp[{unit}, tz={zone}]"


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "arrows"])
def test_timestamps_without_a_zone_need_tz(tmp_path: Path, suffix: str) -> None:
    local = pa.array(np.array(["2024-05-06T09:30", "2024-12-06T09:30"], "M8[us]"))
    path = write(table(2, timestamp=local), tmp_path / f"a.{suffix}")
    refused(
        path,
        f"a.{suffix}: column 'timestamp' (timestamp[us]) has no time zone",
        "--tz UTC",
        "America/New_York",
    )
    result = read(path, tz="America/New_York")
    assert result.timestamp.tolist() == [utc("2024-05-06T13:30"), utc("2024-12-06T14:30")]
    assert result.notation == "arrow timestamp[us] in America/New_York"


def test_dates_need_a_zone() -> None:
    days = np.array(["2024-05-06", "2024-05-07"], "M8[D]")
    for kind in (pa.date32(), pa.date64()):
        data = table(2, timestamp=pa.array(days).cast(kind))
        refused(data, "has no time zone", "--tz")
        assert read(data, tz="UTC").timestamp.tolist() == [utc("2024-05-06"), utc("2024-05-07")]


def test_timestamps_beyond_nanoseconds_are_left_out() -> None:
    data = table(2, timestamp=pa.array([10**11, 1714995000], pa.timestamp("s", "UTC")))
    result = read(data)
    assert result.timestamp.tolist() == [1714995000 * 10**9]
    assert result.source.counts == {"bad_timestamp": 1}


def test_clock_changes_are_refused_row_by_row(tmp_path: Path) -> None:
    times = [
        "2024-11-03T00:59",
        "2024-11-03T01:30",
        "2024-11-03T02:00",
        "2024-03-10T02:30",
        "2024-03-10T03:00",
    ]
    local = pa.array(np.array(times, "M8[ms]"))
    for suffix in FORMATS:
        result = read(write(table(5, timestamp=local), tmp_path / f"a.{suffix}"), tz="America/New_York")
        assert result.source.counts == {"ambiguous_time": 1, "nonexistent_time": 1}
        assert result.rows == [0, 2, 4]
        assert result.open.tolist() == [100.25, 102.25, 104.25]
        assert [str(np.datetime64(t, "ns"))[:16] for t in result.timestamp.tolist()] == [
            *("2024-11-03T04:59", "2024-11-03T07:00", "2024-03-10T07:00")
        ]
        first, second = result.source.problems
        assert (first.kind, first.row, first.column) == ("ambiguous_time", 2, "timestamp")
        assert (second.kind, second.row) == ("nonexistent_time", 4)
        line = 3 if "csv" in suffix else None
        assert (first.line, first.file) == (line, str(tmp_path / f"a.{suffix}"))
        assert "2024-11-03" in str(first.value)


# Epochs


EPOCHS = {"s": 1, "ms": 10**3, "µs": 10**6, "ns": 10**9}


@pytest.mark.parametrize("unit", EPOCHS)
@pytest.mark.parametrize("suffix", FORMATS)
def test_epoch_units_are_detected(tmp_path: Path, suffix: str, unit: str) -> None:
    seconds = (START + np.arange(5) * MINUTE) // 10**9
    result = read(write(table(timestamp=seconds * EPOCHS[unit]), tmp_path / f"a.{suffix}"))
    check_usual(result)
    assert result.notation == f"epoch {unit}"


def test_epoch_units_are_detected_per_file(tmp_path: Path) -> None:
    times = np.array(["2024-12-31T23:59", "2025-01-01T00:00"], "M8[s]").astype(np.int64)
    write(table(1, timestamp=times[:1] * 10**3), tmp_path / "2024.csv")
    write(table(1, timestamp=times[1:] * 10**6), tmp_path / "2025.csv")
    result = read(tmp_path)
    assert result.timestamp.tolist() == (times * 10**9).tolist()
    assert [file.timestamp for file in result.source.files] == ["epoch ms", "epoch µs"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_two_units_in_one_column_are_told_apart_row_by_row(tmp_path: Path, suffix: str) -> None:
    path = write(
        table(4, timestamp=[1735689540000, 1735689600, 1735689660000000, 5]), tmp_path / f"a.{suffix}"
    )
    result = read(path)
    assert result.timestamp.tolist() == [utc("2024-12-31T23:59") + i * MINUTE for i in range(3)]
    assert result.notation == "epoch s, and ms, and µs"
    assert result.source.counts == {"bad_timestamp": 1}


@pytest.mark.parametrize(
    ("number", "pattern"),
    [(20240506, "%Y%m%d"), (202405061330, "%Y%m%d%H%M"), (20240506133000, "%Y%m%d%H%M%S")],
)
@pytest.mark.parametrize("suffix", FORMATS)
def test_dates_written_as_numbers(tmp_path: Path, suffix: str, number: int, pattern: str) -> None:
    path = write(table(2, timestamp=[number, number]), tmp_path / f"a.{suffix}")
    refused(path, f"row 1 has the time {number}, which is not an epoch time", f"--time-format '{pattern}'")
    refused(path, "has no time zone", "--tz", time_format=pattern)
    result = read(path, time_format=pattern, tz="UTC")
    assert result.timestamp[0] == utc("2024-05-06" if number < 10**8 else "2024-05-06T13:30")
    assert result.notation == f"{pattern} in UTC"


def test_whole_floats_are_epochs(tmp_path: Path) -> None:
    data = table(4, timestamp=[1714995000.0, None, 1714995000.5, 1714995060.0])
    for what in (data, write(data, tmp_path / "a.csv"), data.to_pandas()):
        result = read(what)
        assert result.timestamp.tolist() == [1714995000 * 10**9, NONE, 1714995060 * 10**9]
        assert result.source.counts == {"bad_timestamp": 1}
        assert result.source.problems[0].row == 3
    assert read(table(1, timestamp=[20240506.0]), time_format="%Y%m%d", tz="UTC").timestamp[0] == utc(
        "2024-05-06"
    )


def test_implausible_epochs_are_left_out(tmp_path: Path) -> None:
    result = read(write(table(3, timestamp=[0, 1714995000, 99]), tmp_path / "a.csv"))
    assert result.rows == [1]
    assert result.source.counts == {"bad_timestamp": 2}
    assert [(p.row, p.line, p.value) for p in result.source.problems] == [(1, 2, "0"), (3, 4, "99")]


# Texts


@pytest.mark.parametrize(
    "time",
    [
        *(
            "2024-05-06T13:30:00Z",
            "2024-05-06 13:30:00+00:00",
            "2024-05-06 15:30+0200",
            "2024-05-06T13:30:00.000000000Z",
        ),
        *("2024-05-06 09:30:00-04", "2024-05-06 13:30:00 UTC"),
    ],
)
def test_iso_times_with_offset_are_read(tmp_path: Path, time: str) -> None:
    result = read(text(tmp_path / "a.csv", csv_bars(time)))
    assert result.timestamp.tolist() == [START]
    assert result.notation == "ISO 8601 with offset"


def test_iso_times_are_read_to_the_nanosecond() -> None:
    assert read(table(1, timestamp=["2024-05-06T13:30:00.123456789Z"])).timestamp[0] == START + 123456789


@pytest.mark.parametrize("suffix", FORMATS)
def test_iso_times_without_an_offset_need_tz(tmp_path: Path, suffix: str) -> None:
    path = write(table(2, timestamp=["2024-05-06 09:30", "2024-05-06 09:31"]), tmp_path / f"a.{suffix}")
    refused(path, f"a.{suffix}: row 1, '2024-05-06 09:30', has no time zone", "--tz")
    result = read(path, tz="America/New_York")
    assert result.timestamp.tolist() == [START, START + MINUTE]
    assert result.notation == "ISO 8601 in America/New_York"


def test_iso_times_may_mix_offsets_and_local_times() -> None:
    data = table(2, timestamp=["2024-05-06 09:30", "2024-05-06T13:31Z"])
    result = read(data, tz="America/New_York")
    assert result.timestamp.tolist() == [START, START + MINUTE]
    assert result.notation == "ISO 8601 with offset, or in America/New_York"


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()), pa.binary()],
    ids=str,
)
def test_text_types_of_times_are_read(kind: pa.DataType) -> None:
    times = pa.array(["x", "2024-05-06T13:30Z", None, "2024-05-06T13:31Z"], pa.string()).cast(kind)
    data = table(4, timestamp=times).slice(1)
    assert read(data).timestamp.tolist() == [START, NONE, START + MINUTE]


@pytest.mark.parametrize("suffix", FORMATS)
def test_unreadable_times_are_collected(tmp_path: Path, suffix: str) -> None:
    times = ["2024-05-06T13:30Z", "2024-02-31T13:30Z", "", "yesterday", "2024-05-06T13:34Z trailing"]
    result = read(write(table(5, timestamp=times, symbol=["ES"] * 5), tmp_path / f"a.{suffix}"))
    assert result.rows == [0, 2]
    assert result.timestamp.tolist() == [START, NONE]
    assert result.source.counts == {"bad_timestamp": 3}
    assert [(p.row, p.value) for p in result.source.problems] == [(2, times[1]), (4, times[3]), (5, times[4])]
    lines = [3, 5, 6] if "csv" in suffix else [None] * 3
    assert [p.line for p in result.source.problems] == lines
    assert {(p.column, p.symbol, p.timestamp) for p in result.source.problems} == {("timestamp", "ES", None)}


def test_unknown_notations_are_refused(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", csv_bars("05-11-2019 09:30"))
    refused(path, "a.csv: has times such as '05-11-2019 09:30'", "--time-format '%d-%m-%Y %H:%M'", tz="UTC")
    assert read(path, time_format="%d-%m-%Y %H:%M", tz="UTC").timestamp[0] == utc("2019-11-05T09:30")


@pytest.mark.parametrize(
    ("times", "notation", "first"),
    [
        (["1/2/2019 9:30", "1/13/2019 9:30"], "M/D/Y", "2019-01-02T09:30"),
        (["1/2/2019 9:30:15", "13/1/2019 9:30:16"], "D/M/Y", "2019-02-01T09:30:15"),
        (["2019/01/02 09:30", "2019/01/13 09:30"], "Y/M/D", "2019-01-02T09:30"),
        (["01/02/2019 09:30 PM", "01/13/2019 09:30 PM"], "M/D/Y", "2019-01-02T21:30"),
        (["5/5/2019", "6/6/2019"], "M/D/Y", "2019-05-05"),
    ],
)
@pytest.mark.parametrize("suffix", FORMATS)
def test_slashed_dates_take_the_order_that_fits(
    tmp_path: Path, suffix: str, times: list[str], notation: str, first: str
) -> None:
    result = read(write(table(2, timestamp=times), tmp_path / f"a.{suffix}"), tz="UTC")
    assert result.timestamp[0] == utc(first)
    assert result.notation == f"{notation} in UTC"
    refused(tmp_path / f"a.{suffix}", "has no time zone", "--tz")


def test_the_date_order_is_common_to_all_files(tmp_path: Path) -> None:
    write(table(1, timestamp=["1/2/2019"]), tmp_path / "a.csv")
    write(table(1, timestamp=["13/2/2019"]), tmp_path / "b.parquet")
    result = read(tmp_path, tz="UTC", one_series=True)
    assert result.timestamp.tolist() == [utc("2019-02-01"), utc("2019-02-13")]


def test_the_last_row_can_decide(tmp_path: Path) -> None:
    n = inputs.BATCH_ROWS * 2
    times = ["1/2/2019"] * (n - 1) + ["1/13/2019"]
    for what in (write(table(n, timestamp=times), tmp_path / "a.csv"), table(n, timestamp=times)):
        assert read(what, tz="UTC").timestamp[0] == utc("2019-01-02")


@pytest.mark.parametrize("suffix", FORMATS)
def test_orders_that_both_fit_are_refused(tmp_path: Path, suffix: str) -> None:
    path = write(table(2, timestamp=["5/5/2019 9:30", "11/5/2019 9:30"]), tmp_path / f"a.{suffix}")
    refused(
        path,
        *(
            f"a.{suffix}, row 2",
            "'11/5/2019 9:30' may be 2019-11-05 09:30 (month first) or 2019-05-11 09:30 (day first)",
        ),
        *("--time-format '%m/%d/%Y %H:%M'", "--time-format '%d/%m/%Y %H:%M'"),
        *(["line 3"] if "csv" in suffix else []),
        tz="UTC",
    )
    assert read(path, tz="UTC", time_format="%d/%m/%Y %H:%M").timestamp[1] == utc("2019-05-11T09:30")


@pytest.mark.parametrize(
    ("time", "pattern"),
    [
        ("1/2/2019", "'%m/%d/%Y'"),
        ("1/2/2019 9:30:15", "'%m/%d/%Y %H:%M:%S'"),
        ("1/2/2019 9:30:15.5 PM", "'%m/%d/%Y %I:%M:%S.%f %p'"),
        ("1/2/2019 9:30am", "'%m/%d/%Y %I:%M%p'"),
    ],
)
def test_the_advice_on_date_orders_works(time: str, pattern: str) -> None:
    refused(table(1, timestamp=[time]), f"--time-format {pattern}", tz="UTC")
    assert read(table(1, timestamp=[time]), tz="UTC", time_format=pattern.strip("'")).source.counts == {}


def test_dates_that_fit_no_order_are_refused(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", csv_bars("1/13/2019", "13/1/2019"))
    refused(
        path,
        "no order of day, month and year fits every date",
        "'13/1/2019'",
        "row 2 (line 3)) is not M/D/Y",
        "'1/13/2019'",
        "row 1 (line 2)) is not D/M/Y",
        tz="UTC",
    )


def test_rows_without_dates_do_not_affect_the_order(tmp_path: Path) -> None:
    result = read(text(tmp_path / "a.csv", csv_bars("1/13/2019", "31/31/2019", "2/1/2019")), tz="UTC")
    assert result.rows == [0, 2]
    assert result.timestamp[1] == utc("2019-02-01")
    assert result.source.counts == {"bad_timestamp": 1}


def test_streams_with_slashed_dates_are_spooled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    data = table(
        4, timestamp=["1/2/2019", "3/4/2019", "5/6/2019", "1/13/2019"], Symbol=["A", "B", "A", "C"], v=[1] * 4
    )
    reader = pa.RecordBatchReader.from_batches(data.schema, data.to_batches(2))
    result = read(reader, tz="UTC", keep=("volume",))
    assert result.timestamp[:2].tolist() == [utc("2019-01-02"), utc("2019-03-04")]
    assert result.open.tolist() == [100.25, 101.25, 102.25, 103.25]
    assert result.symbol == ["A", "B", "A", "C"]
    assert result.extra[0].tolist() == [1] * 4
    assert list(tmp_path.iterdir()) == []
    frame = read(data.to_pandas(), tz="UTC")
    assert frame.timestamp.tolist() == result.timestamp.tolist()


@pytest.mark.parametrize(
    ("pattern", "time", "expected"),
    [
        ("%m/%d/%Y %H:%M", "5/6/2024 13:30", START),
        ("%Y-%m-%d %H:%M:%S.%f", "2024-05-06 13:30:00.25", START + 250_000_000),
        ("%Y-%m-%dT%H:%M:%S%z", "2024-05-06T15:30:00+02:00", START),
        ("%d %b %Y %I:%M %p", "06 May 2024 1:30 pm", START),
        ("%y%m%d %H%M", "240506 1330", START),
    ],
)
@pytest.mark.parametrize("suffix", FORMATS)
def test_time_formats_are_read(tmp_path: Path, suffix: str, pattern: str, time: str, expected: int) -> None:
    path = write(table(3, timestamp=[time, "31/31/2024", f"{time} x"]), tmp_path / f"a.{suffix}")
    result = read(path, time_format=pattern, tz="UTC")
    assert result.timestamp.tolist() == [expected]
    assert result.source.counts == {"bad_timestamp": 2}
    if "%z" in pattern:
        assert read(path, time_format=pattern).timestamp.tolist() == [expected]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.datetimes(pd.Timestamp("1980-01-02"), pd.Timestamp("2199-12-31")), min_size=1, max_size=20)
)
def test_any_time_is_read_in_any_notation(times: list[Any]) -> None:
    expected = np.array(times, "M8[us]").astype("M8[ns]").astype(np.int64)
    n = len(times)
    for pattern in ("%Y-%m-%dT%H:%M:%S.%f+00:00", "%d/%m/%Y %H:%M:%S.%f", "%I:%M:%S.%f %p on %B %d, %Y"):
        texts = [time.strftime(pattern).replace("+00:00", "Z") for time in times]
        known = {} if "Z" in texts[0] else {"time_format": pattern, "tz": "UTC"}
        np.testing.assert_array_equal(read(table(n, timestamp=texts), **known).timestamp, expected)
    np.testing.assert_array_equal(read(table(n, timestamp=expected // 1000)).timestamp, expected)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.datetimes(pd.Timestamp("1980-01-02"), pd.Timestamp("2037-12-31")), min_size=1, max_size=20),
    st.sampled_from(["America/New_York", "Europe/London", "Asia/Kolkata", "Australia/Lord_Howe"]),
)
def test_local_times_agree_with_zoneinfo(times: list[Any], zone: str) -> None:
    from zoneinfo import ZoneInfo

    local = np.array(times, "M8[us]").astype("M8[ns]").astype(np.int64)
    for time, got in zip(times, _core.localize(local, zone).tolist(), strict=True):
        early, late = (time.replace(tzinfo=ZoneInfo(zone), fold=fold) for fold in (0, 1))
        offsets = early.utcoffset(), late.utcoffset()
        if offsets[0] == offsets[1]:
            assert got == pd.Timestamp(early).value
        else:
            assert got == (_core.TIME_AMBIGUOUS if offsets[0] > offsets[1] else _core.TIME_NONEXISTENT)
