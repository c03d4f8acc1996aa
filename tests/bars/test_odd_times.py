"""Times that look like others: read right, or refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bar_files import MINUTE, csv_bars, read, refused, text, utc

PRICES = {name: [1.0] for name in ("open", "high", "low", "close")}


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Tokyo", "America/New_York", "UTC"])
@pytest.mark.parametrize("clock", [pa.array([34_200_000], pa.time32("ms")), pa.array(["09:30"])])
def test_a_zoned_date_is_that_of_its_own_clocks(tmp_path: Path, zone: str, clock: pa.Array) -> None:
    """Midnight in Berlin is the day before in UTC."""
    midnight = pa.array([utc("2024-01-02") // 1000], pa.timestamp("us"))
    dates = pa.compute.assume_timezone(midnight, zone)
    pq.write_table(pa.table({"date": dates, "time": clock, **PRICES}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", tz="UTC").timestamp[0] == utc("2024-01-02T09:30")


@pytest.mark.parametrize("date", ["2024-01-02T00:00:00+01:00", "2024-01-02 17:00:00"])
def test_a_date_with_a_time_of_its_own_is_refused(tmp_path: Path, date: str) -> None:
    path = text(tmp_path / "a.csv", f"d,t,o,h,l,c\n{date},09:30:00,1,3,0,2\n")
    refused(path, "holds a time of day, too", "=timestamp", columns="d=date,t=time", tz="UTC")


def test_a_date_at_midnight_beside_a_time_is_a_day(tmp_path: Path) -> None:
    content = (
        "Date,Time,o,h,l,c\n2024-01-02 00:00:00,09:30:00,1,3,0,2\n2024-01-03 00:00:00,09:30:00,1,3,0,2\n"
    )
    result = read(text(tmp_path / "a.csv", content), tz="UTC")
    assert result.timestamp.tolist() == [utc("2024-01-02T09:30"), utc("2024-01-03T09:30")]


@pytest.mark.parametrize("day", ["1899-12-30", "1900-01-01", "1904-01-01"])
def test_days_from_which_spreadsheets_count_are_refused(tmp_path: Path, day: str) -> None:
    content = f"Date,Time,o,h,l,c\n2024-01-02,{day} 09:30:00,1,3,0,2\n"
    refused(text(tmp_path / "a.csv", content), f"{day}T09:30:00Z", "hh:mm:ss", tz="UTC")


def test_a_date_and_time_of_ten_digits_is_no_epoch(tmp_path: Path) -> None:
    times = [f"24010209{minute:02}" for minute in range(30, 50)]
    path = text(tmp_path / "a.csv", csv_bars(*times))
    refused(path, "without a century", "--time-format '%y%m%d%H%M'")
    result = read(path, time_format="%y%m%d%H%M", tz="UTC")
    assert result.timestamp[:2].tolist() == [utc("2024-01-02T09:30"), utc("2024-01-02T09:31")]
    # Epochs of minutes soon end in more than 59.
    epochs = [str(1_704_187_800 + 60 * i) for i in range(20)]
    assert read(text(tmp_path / "b.csv", csv_bars(*epochs))).timestamp[1] == utc("2024-01-02T09:31")


def test_a_column_of_utc_and_another_zone_are_refused(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", csv_bars("2024-01-02 09:30", header="gmt_time,o,h,l,c"))
    refused(path, "says that its times are in UTC, and --tz says Europe/Athens", tz="Europe/Athens")
    assert read(path).timestamp[0] == read(path, tz="UTC").timestamp[0] == utc("2024-01-02T09:30")
    both = "local_time,gmt_time,o,h,l,c\n2024-01-02 11:30,2024-01-02 09:30,1,3,0,2\n"
    path = text(tmp_path / "b.csv", both)
    assert read(path, tz="Europe/Athens").timestamp[0] == utc("2024-01-02T09:30")


def test_a_date_that_lost_its_zero_is_refused(tmp_path: Path) -> None:
    content = "Date,Time,o,h,l,c\n2012024,09:30,1,3,0,2\n"
    refused(
        text(tmp_path / "a.csv", content),
        "has times such as '2012024'",
        columns="Date=date,Time=time",
        tz="UTC",
    )


def test_minutes_since_midnight_may_be_seconds(tmp_path: Path) -> None:
    rows = "".join(f"20240102,{i},1,3,0,2\n" for i in range(400))
    refused(
        text(tmp_path / "a.csv", "date,time,o,h,l,c\n" + rows), "may be HHMM, HHMMSS or a count", tz="UTC"
    )


@pytest.mark.parametrize("clock", [pa.array(["09:30 AM"]), pa.array(["01:30 PM"])])
def test_a_typed_date_is_joined_for_a_time_format(tmp_path: Path, clock: pa.Array) -> None:
    pq.write_table(
        pa.table({"date": pa.array([19724], pa.date32()), "time": clock, **PRICES}), tmp_path / "a.parquet"
    )
    hour = 9 if clock[0].as_py().endswith("AM") else 13
    result = read(tmp_path / "a.parquet", tz="UTC", time_format="%Y-%m-%d %I:%M %p")
    assert result.timestamp[0] == utc("2024-01-02") + (hour * 60 + 30) * MINUTE


def test_dates_of_six_digits_beside_times_are_refused_with_whole_formats(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "Date,Time,o,h,l,c\n240102,0930,1,3,0,2\n")
    refused(path, "--time-format '%y%m%d %H%M'", tz="UTC")
    assert read(path, tz="UTC", time_format="%y%m%d %H%M").timestamp[0] == utc("2024-01-02T09:30")
