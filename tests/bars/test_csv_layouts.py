"""Layouts of CSV files as vendors write them: one reading is read, two are refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bar_files import MINUTE, START, csv_bars, read, refused, text, utc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moola.bars.options import ReadOptions
from moola.bars.source import open_bars

WORDS = st.characters(exclude_characters='",\r\n', exclude_categories=("Cs", "Cc"))
TIMES = ("2024-05-06T13:30:00Z", "2024-05-06T13:31:00Z", "2024-05-06T13:32:00Z")


def check(path: Path, n: int = 3, **options: object) -> None:
    result = read(path, **options)
    assert result.timestamp.tolist() == [START + i * MINUTE for i in range(n)]
    assert result.close.tolist() == [i + 2 for i in range(n)]


# Lines before the header


@pytest.mark.parametrize(
    "before",
    [
        "https://www.CryptoDataDownload.com\n",
        "sep=,\n",
        '"sep=,"\n\n',
        "# made by a script\n# on Monday\n",
        "Symbol: ES, from 2024\n\nTimezone: UTC\n",
        "#timestamp of the export,2024\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_lines_before_the_header_are_skipped(tmp_path: Path, before: str, encoding: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes((before + csv_bars(*TIMES)).encode(encoding))
    check(path)
    result = read(path)
    assert any("before the header" in note for note in result.source.notes) == (
        not before.lower().startswith(("sep", '"sep'))
    )
    # Lines are those of the file.
    assert result.source.locate(0, 0) == before.count("\n") + 2


def test_a_header_may_begin_with_a_number_sign(tmp_path: Path) -> None:
    check(text(tmp_path / "a.csv", "#" + csv_bars(*TIMES)))


def test_the_separator_line_decides(tmp_path: Path) -> None:
    check(text(tmp_path / "a.csv", "sep=|\n" + csv_bars(*TIMES).replace(",", "|")))


def test_lines_can_be_skipped(tmp_path: Path) -> None:
    misleading = "a,b,c,d,e\n1,2,3,4,5\n"
    check(text(tmp_path / "a.csv", misleading + csv_bars(*TIMES)), skip_lines=2)
    rows = csv_bars(*TIMES).split("\n", 1)[1]
    columns = "0=timestamp,1=open,2=high,3=low,4=close"
    check(text(tmp_path / "b.csv", misleading + rows), skip_lines=2, columns=columns)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=st.lists(
        st.text(st.characters(exclude_characters='",\r\n', exclude_categories=("Cs", "Cc")), max_size=30),
        max_size=4,
    ),
    delimiter=st.sampled_from(",;\t"),
    newline=st.sampled_from(["\n", "\r\n"]),
    n=st.integers(1, 30),
)
def test_whatever_precedes_the_header_the_bars_are_the_same(
    tmp_path: Path, before: list[str], delimiter: str, newline: str, n: int
) -> None:
    """Lines of one field before the header change nothing."""
    times = [f"2024-05-06T13:{30 + i}:00Z" for i in range(n)]
    lines = [
        *("x" + line.replace(delimiter, " ") for line in before),
        *csv_bars(*times).replace(",", delimiter).split("\n"),
    ]
    path = tmp_path / "a.csv"
    path.write_text(newline.join(lines), encoding="utf-8", newline="")
    check(path, n)


# Headers


def test_three_header_lines_of_yahoo(tmp_path: Path) -> None:
    header = "Price,Close,High,Low,Open,Volume\nTicker,ABCD,ABCD,ABCD,ABCD,ABCD\nDatetime,,,,,\n"
    path = text(tmp_path / "a.csv", header + "2024-05-06 13:30:00+00:00,2,3,0,1,7\n")
    result = read(path, keep=("volume",))
    assert result.source.symbols == ["ABCD"]
    assert (result.open[0], result.close[0], result.extra[0][0]) == (1, 2, 7)
    assert result.source.locate(0, 0) == 4
    two = header.replace("ABCD,ABCD\n", "ABCD,EFGH\n")
    refused(text(tmp_path / "b.csv", two), "several instruments side by side (ABCD, EFGH)", "one row per bar")


def test_a_header_of_numbers_is_read_by_position(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", csv_bars(*TIMES, header="0,1,2,3,4"))
    refused(path, "has a header of numbers", "--columns 0=timestamp")
    check(path, columns="0=timestamp,1=open,2=high,3=low,4=close")


def test_a_number_is_a_position_even_where_a_column_is_called_so(tmp_path: Path) -> None:
    path = text(tmp_path / "b.csv", csv_bars(*TIMES, header="timestamp,open,high,low,0"))
    check(path, columns="4=close")
    refused(path, "no column for timestamp", columns="0=close")
    refused(path, "no column at position 7 (counted from 0)", "always a position", columns="7=close")


def test_a_repeated_header_is_refused_by_its_line(tmp_path: Path) -> None:
    whole = csv_bars(*TIMES)
    path = text(tmp_path / "a.csv", whole + whole)
    refused(path, "row 4 (line 5) repeats the header", "Remove that line")
    check(text(tmp_path / "b.csv", whole))


def test_joined_files_have_a_mark_in_the_middle(tmp_path: Path) -> None:
    header, rows = csv_bars(*TIMES).split("\n", 1)
    first, rest = rows.split("\n", 1)
    path = tmp_path / "a.csv"
    path.write_text(f"\ufeff{header}\n{first}\n\ufeff{rest}", encoding="utf-8")
    check(path)


@pytest.mark.parametrize("end", range(-4, 1))
def test_a_mark_is_found_across_blocks(tmp_path: Path, end: int) -> None:
    """The mark begins just before the end of the first block that is read."""
    header, first, second, third = csv_bars(*TIMES).splitlines()
    first, size = first + ",", (1 << 20) + end
    size -= len(f"{header},note\n{first}\n")
    blank = "\n" * size
    (tmp_path / "a.csv").write_bytes(f"{header},note\n{first}\n{blank}\ufeff{second},\n{third},\n".encode())
    check(tmp_path / "a.csv")


def test_a_last_delimiter_makes_no_column(tmp_path: Path) -> None:
    rows = csv_bars(*TIMES)
    check(text(tmp_path / "a.csv", rows.replace("\n", ",\n").replace("close,", "close")))
    check(text(tmp_path / "b.csv", rows.replace("close", "close,")))
    bad = rows.replace("\n", ",\n").replace("close,", "close")[:-1] + "9\n"
    refused(text(tmp_path / "c.csv", bad), "row 3 has 6 values, the last '9'", "Name every column")


def test_unused_columns_may_share_a_name(tmp_path: Path) -> None:
    rows = csv_bars(*TIMES).replace("close", "close,x,x")
    check(
        text(
            tmp_path / "a.csv", "\n".join(line if "x" in line else f"{line},," for line in rows.splitlines())
        )
    )
    twice = (
        csv_bars(*TIMES, header="timestamp,open,high,low,close,close")
        .replace("\n", ",7\n")
        .replace("close,7", "close")
    )
    path = text(tmp_path / "b.csv", twice)
    refused(path, "2 columns that may be the close", "--columns 4=close")
    check(path, columns="4=close")


def test_a_footer_is_refused_by_its_line(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", csv_bars(*TIMES) + "Total rows: 3\n")
    message = refused(path, "row 4 (line 5) has 1 fields, not 5", "footer")
    assert message is None or "--time-format" not in message


def test_a_footer_of_the_same_width_is_no_time_in_another_format(tmp_path: Path) -> None:
    source = open_bars(text(tmp_path / "a.csv", csv_bars(*TIMES) + "Total,,,,3\n"), ReadOptions())
    list(source.batches())
    assert source.problems[0].line == 5
    assert source.advice(source.problems) == {
        "bad_timestamp": "Remove the row: it is no bar, but perhaps a footer or a header"
    }


# Dates and times in two columns

PAIRS = [
    ("2024.05.06", "13:30:00"),
    ("2024-05-06", "13:30"),
    ("20240506", "133000"),
    ("20240506", "1330"),
    ("2024/5/6", " 13:30:00.0"),
    ("05/13/2024", "1:30 PM"),
    ("13/05/2024", "13:30"),
    ("06.05.2024", "13:30:00.000"),
    ("06-May-2024", "01:30:00 pm"),
]


@pytest.mark.parametrize(("date", "time"), PAIRS)
@pytest.mark.parametrize("names", [("Date", "Time"), ("<DATE>", "<TIME>"), ("trade_date", "time")])
def test_dates_and_times_in_two_columns(tmp_path: Path, date: str, time: str, names: tuple[str, str]) -> None:
    content = f"{names[0]},{names[1]},open,high,low,close\n{date},{time},1,3,0,2\n"
    result = read(text(tmp_path / "a.csv", content), tz="UTC+2")
    day = "2024-05-13" if "13" in date and "/" in date else "2024-05-06"
    assert result.timestamp[0] == utc(f"{day}T11:30")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seconds=st.lists(st.integers(946_684_800, 1_893_456_000), min_size=1, max_size=50, unique=True),
    date=st.sampled_from(["%Y-%m-%d", "%Y.%m.%d", "%Y%m%d", "%Y/%m/%d"]),
    clock=st.sampled_from(["%H:%M:%S", "%H%M%S", "%I:%M:%S %p"]),
    zone=st.sampled_from(["UTC", "UTC-5", "Asia/Tokyo"]),
)
def test_two_columns_give_the_times_of_one(
    tmp_path: Path, seconds: list[int], date: str, clock: str, zone: str
) -> None:
    import datetime

    moments = [datetime.datetime.fromtimestamp(s, datetime.UTC) for s in sorted(seconds)]
    one = "datetime,open,high,low,close\n" + "".join(f"{m:%Y-%m-%d %H:%M:%S},1,3,0,2\n" for m in moments)
    two = "date,time,open,high,low,close\n" + "".join(
        f"{m.strftime(date)},{m.strftime(clock)},1,3,0,2\n" for m in moments
    )
    one_column = read(text(tmp_path / "one.csv", one), tz=zone)
    two_columns = read(text(tmp_path / "two.csv", two), tz=zone)
    np.testing.assert_array_equal(one_column.timestamp, two_columns.timestamp)
    joined = read(tmp_path / "two.csv", tz=zone, time_format=f"{date} {clock}")
    np.testing.assert_array_equal(one_column.timestamp, joined.timestamp)


@pytest.mark.parametrize(
    ("unit", "factor", "n"),
    [("seconds", 1, 3), ("seconds", 1, 300), ("milliseconds", 1000, 3), ("milliseconds", 1000, 300)],
)
def test_counts_from_midnight_are_told_from_clocks(tmp_path: Path, unit: str, factor: int, n: int) -> None:
    rows = "".join(f"2024-05-06,{(48_600 + 60 * i) * factor},1,3,0,2\n" for i in range(n))
    result = read(text(tmp_path / "a.csv", "date,time,open,high,low,close\n" + rows), tz="UTC")
    assert result.timestamp.tolist() == [START + i * MINUTE for i in range(n)]
    assert f"{unit} since midnight" in result.notation


def test_unpadded_clocks_are_read_where_there_are_enough(tmp_path: Path) -> None:
    for seconds in ("", "00"):
        clocks = [int(f"{8 + i // 60}{i % 60:02d}{seconds}") for i in range(90)]
        rows = "".join(f"20240506,{clock},1,3,0,2\n" for clock in clocks)
        result = read(text(tmp_path / "a.csv", "date,time,open,high,low,close\n" + rows), tz="UTC")
        assert result.timestamp.tolist() == [utc("2024-05-06T08:00") + i * MINUTE for i in range(90)]
    few = "date,time,open,high,low,close\n20240506,930,1,3,0,2\n20240506,931,1,3,0,2\n"
    refused(text(tmp_path / "b.csv", few), "may be HHMM, HHMMSS or a count", "HH:MM:SS", tz="UTC")


def test_the_advice_about_dates_beside_times_works(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "Date,Time,O,H,L,C\n01/02/2024,09:30,1,3,0,2\n")
    refused(path, "--time-format '%m/%d/%Y %H:%M' or --time-format '%d/%m/%Y %H:%M'", tz="UTC")
    assert read(path, tz="UTC", time_format="%d/%m/%Y %H:%M").timestamp[0] == utc("2024-02-01T09:30")


def test_two_typed_columns(tmp_path: Path) -> None:
    prices = {name: [1.0, 1.0] for name in ("open", "high", "low", "close")}
    days = pa.array([19849, 19849], pa.date32())
    for clock in (
        pa.array([48_600_000, 48_660_000], pa.time32("ms")),
        pa.array(["13:30:00", "13:31:00"]),
        pa.array([133_000, 133_100]),
    ):
        pq.write_table(pa.table({"date": days, "time": clock, **prices}), tmp_path / "a.parquet")
        assert read(tmp_path / "a.parquet", tz="UTC").timestamp.tolist() == [START, START + MINUTE]
    milliseconds = pa.table({"ms_of_day": [48_600_000, 48_660_000], "date": [20240506] * 2, **prices})
    assert read(milliseconds, tz="UTC").timestamp.tolist() == [START, START + MINUTE]


def test_roles_of_date_and_time(tmp_path: Path) -> None:
    path = text(tmp_path / "a.txt", "2024.05.06,13:30,1,3,0,2\n2024.05.06,13:31,2,4,1,3\n")
    check(path, 2, columns="0=date,1=time,2=open,3=high,4=low,5=close", tz="UTC")
    odd = text(tmp_path / "b.csv", "on,at,open,high,low,close\n2024.05.06,13:30,1,3,0,2\n")
    check(odd, 1, columns="on=date,at=time", tz="UTC")


@pytest.mark.parametrize("clock", ["48600000", "13:30"])
def test_a_time_of_day_without_a_date_is_refused(tmp_path: Path, clock: str) -> None:
    refused(text(tmp_path / "a.csv", csv_bars(clock, header="time,open,high,low,close")), "midnight", "=date")


def test_a_day_beside_a_whole_time_is_left_alone(tmp_path: Path) -> None:
    content = "window_start,date,open,high,low,close\n1715002200000000000,2024-05-06,1,3,0,2\n"
    check(text(tmp_path / "a.csv", content), 1)
    content = "unix,date,open,high,low,close\n1715002200,2024-05-06 09:30:00,1,3,0,2\n"
    check(text(tmp_path / "b.csv", content), 1)
    # With a zone the local time can be read, and it comes first.
    assert read(tmp_path / "b.csv", tz="America/New_York").timestamp[0] == START


def test_the_advice_about_years_of_two_digits_works(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "Date,Time,O,H,L,C\n01/02/24,0930,1,3,0,2\n")
    refused(path, "--time-format '%d/%m/%y %H%M' or --time-format '%m/%d/%y %H%M'", tz="UTC")
    assert read(path, tz="UTC", time_format="%m/%d/%y %H%M").timestamp[0] == utc("2024-01-02T09:30")


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ("2024-05-06T13:30:00Z,1,3,0,2", "0=timestamp,1=open,2=high,3=low,4=close"),
        ("1715002200,1,3,0,2,7", "0=timestamp,1=open,2=high,3=low,4=close,5=volume"),
        ("20240506,13:30,1,3,0,2", "0=date,1=time,2=open,3=high,4=low,5=close"),
        ("ES,2024.05.06,13:30:00,1,3,0,2,7", "0=symbol,1=date,2=time,3=open,4=high,5=low,6=close,7=volume"),
    ],
)
def test_the_advice_about_files_without_a_header_works(tmp_path: Path, row: str, columns: str) -> None:
    path = text(tmp_path / "a.csv", row + "\n")
    assert refused(path, "has no header", tz="UTC").endswith(f"--columns {columns}")
    check(path, 1, columns=columns, tz="UTC")


def test_columns_between_blanks_are_refused_as_such(tmp_path: Path) -> None:
    path = text(tmp_path / "a.txt", csv_bars(*TIMES).replace(",", " "))
    refused(path, "blanks between its columns", "commas")


# Numbers of spreadsheets, and letters of zones


def test_epochs_with_exponents(tmp_path: Path) -> None:
    lines = csv_bars("1.7150022E9", "1.71500226E9", "1.71500232E9")
    check(text(tmp_path / "a.csv", lines))
    short = csv_bars("1.715E+12", "1.715E+12")
    refused(text(tmp_path / "b.csv", short), "last digits are lost", "Excel")


def test_days_of_excel_are_refused(tmp_path: Path) -> None:
    refused(text(tmp_path / "a.csv", csv_bars("45418.56250")), "how Excel counts days (2024-05-06 13:30:00)")
    refused(
        pa.table({"timestamp": [45418.5625], **{k: [1.0] for k in ("open", "high", "low", "close")}}), "Excel"
    )


def test_the_advice_about_letters_of_a_zone_works(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", csv_bars("2024-01-03 09:30:00 EST"))
    refused(path, "--tz America/New_York --time-format '%Y-%m-%d %H:%M:%S EST'")
    result = read(path, tz="America/New_York", time_format="%Y-%m-%d %H:%M:%S EST")
    assert result.timestamp[0] == utc("2024-01-03T14:30")


# Archives


def test_archives_are_read_member_by_member(tmp_path: Path) -> None:
    header, first, second, third = csv_bars(*TIMES).splitlines()
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bars_2.csv", f"{header}\n{third}\n")
        archive.writestr("bars_1.csv", f"{header}\n{first}\n{second}\n")
        archive.writestr("bars.txt", "a report of gaps")
        archive.writestr("__MACOSX/._bars_1.csv", b"\0\0")
    check(path)
    result = read(path)
    assert [file.name for file in result.source.files] == [f"{path}/bars_1.csv", f"{path}/bars_2.csv"]
    whole = bytearray(path.read_bytes())
    (tmp_path / "cut.zip").write_bytes(whole[:-30])
    refused(tmp_path / "cut.zip", "damaged or cut short", "again")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.csv", csv_bars(*TIMES))
    spoiled = buffer.getvalue().replace(b"13:31", b"13:41")
    (tmp_path / "crc.zip").write_bytes(spoiled)
    refused(tmp_path / "crc.zip", "damaged")
