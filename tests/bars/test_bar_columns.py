"""Columns of bars: their recognition, their types, and the objects that hold them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
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

from moola.bars.source import open_bars
from moola.errors import InputError

# Columns


@pytest.mark.parametrize(
    "name",
    ["timestamp", "Datetime", "DATE", "open_time", "Open time", "time", "ts", "<DATE>", "Date Time", ""],
)
def test_usual_names_of_the_time_column_are_found(tmp_path: Path, name: str) -> None:
    check_usual(read(write(table().rename_columns([name, "Open", "HIGH", "l", "C"]), tmp_path / "a.csv")))


def test_the_most_specific_column_name_wins() -> None:
    other = pa.array([0] * 5, pa.timestamp("s", "UTC"))
    check_usual(read(table(date=other, Time=other, o=[1.0] * 5)))


def test_names_that_differ_in_case_only_are_refused() -> None:
    refused(
        table(Open=[1.0] * 5),
        "2 columns that may be the open: 'open' and 'Open'",
        "--columns 1=open",
    )
    check_usual(read(table(Open=[1.0] * 5), columns="open=open"))
    check_usual(read(table(Open=[1.0] * 5), columns="1=open"))


@pytest.mark.parametrize("suffix", FORMATS)
def test_columns_can_be_named(tmp_path: Path, suffix: str) -> None:
    data = table(Last=[9.0] * 5, oi=[1, 2, 3, 4, 5])
    result = read(
        write(data, tmp_path / f"a.{suffix}"),
        columns="Last=close,oi=open_interest",
        keep=("open_interest",),
    )
    assert result.close.tolist() == [9] * 5
    assert result.extra[0].tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("suffix", FORMATS)
def test_missing_columns_are_refused(tmp_path: Path, suffix: str) -> None:
    path = write(table(high=None, low=None, settle=[1.0] * 5), tmp_path / f"a.{suffix}")
    refused(
        path,
        f"a.{suffix}: has no column for high, low",
        "its columns are 'timestamp', 'open', 'close', 'settle'",
        "--columns FILE_COLUMN=high",
    )
    refused(write(table(), path), "has no column 'Last' to be the close", "'open'", columns={"Last": "close"})


@pytest.mark.parametrize("suffix", FORMATS)
def test_kept_columns_are_read(tmp_path: Path, suffix: str) -> None:
    data = table(3, Vol=[1, None, 3], x=pa.array([0.5, 1, 1.5], pa.float32()))
    result = read(write(data, tmp_path / f"a.{suffix}"), keep=("x", "volume"))
    np.testing.assert_array_equal(result.extra, [[0.5, 1, 1.5], [1, np.nan, 3]])
    assert result.source.keep == ["x", "volume"]
    refused(table(), "has no column 'volume' to keep", "leave it out of --keep", keep=("volume",))


def test_date_and_time_in_two_columns_are_joined(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "Date,Time,Open,High,Low,Close\n2024-05-06,13:30,1,3,0,2\n")
    refused(path, "'13:30', has no time zone", "--tz UTC")
    assert read(path, tz="America/New_York").timestamp[0] == utc("2024-05-06T17:30")


HEADERLESS = "1714995000000,1,3,0,2,11\n1714995060000,2,4,1,3,12\n"


def test_headerless_dumps_are_read(tmp_path: Path) -> None:
    path = text(tmp_path / "BTCUSDT-1m.csv", HEADERLESS)
    columns = "0=timestamp,1=open,2=high,3=low,4=close,5=volume"
    result = read(path, columns=columns, keep=("volume",))
    np.testing.assert_array_equal(result.timestamp, [1714995000 * 10**9, 1714995060 * 10**9])
    assert result.rows == [0, 1]
    assert result.close.tolist() == [2, 3]
    assert result.extra[0].tolist() == [11, 12]
    assert result.source.locate(0, 1) == 2
    # The same options read a dump that has a header.
    path = text(tmp_path / "b.csv", "a,b,c,d,e,f\n" + HEADERLESS)
    result = read([tmp_path / "BTCUSDT-1m.csv", path], columns=columns, keep=("volume",), one_series=True)
    assert result.close.tolist() == [2, 3, 2, 3]


@pytest.mark.parametrize("name", ["nan", "NaN", "inf", "Infinity"])
def test_a_column_may_be_named_like_nan_or_infinity(tmp_path: Path, name: str) -> None:
    content = csv_bars("2024-05-06T13:30:00Z", header=f"timestamp,open,high,low,close,{name}").replace(
        "2\n", "2,7\n"
    )
    result = read(text(tmp_path / "a.csv", content), keep=(name,))
    assert result.extra[0].tolist() == [7]


def test_a_headerless_dump_may_begin_with_a_missing_price(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "2024-05-06T13:30:00Z,nan,3,1,2\n2024-05-06T13:31:00Z,1,3,1,2\n")
    columns = {str(i): role for i, role in enumerate(("timestamp", "open", "high", "low", "close"))}
    assert np.isnan(read(path, columns=columns).open).tolist() == [True, False]


def test_refused_headerless_dumps_give_advice(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", HEADERLESS)
    refused(
        path,
        "a.csv: has no header: its first line is '1714995000000,1,3,0,2,11'",
        "--columns 0=timestamp,1=open",
    )
    refused(path, "--columns gives names", columns="time=timestamp")
    refused(
        path, "--columns does not say which column is the low, the close", columns="0=timestamp,1=open,2=high"
    )
    refused(
        path,
        "has 6 columns, and no column at position 9 (counted from 0) to be the close",
        columns="0=timestamp,1=open,2=high,3=low,9=close",
    )


# Types


@pytest.mark.parametrize(
    "kind",
    [pa.float32(), pa.int64(), pa.int32(), pa.uint16(), pa.decimal128(12, 4), pa.float64()],
    ids=str,
)
def test_price_types_are_converted(tmp_path: Path, kind: pa.DataType) -> None:
    prices = {name: pa.array([1, None, 3], pa.int8()).cast(kind) for name in ("open", "high", "low", "close")}
    for suffix in ("parquet", "arrow"):
        result = read(write(table(3, **prices), tmp_path / f"a.{suffix}"))
        np.testing.assert_array_equal(result.close, [1, np.nan, 3])


def test_decimals_keep_their_digits() -> None:
    closes = pa.array([Decimal("23143.8212")] * 5)
    assert read(table(close=closes)).close.tolist() == [23143.8212] * 5


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "arrows"])
@pytest.mark.parametrize(
    ("column", "values", "substance"),
    [
        (
            "close",
            ["1", "2"],
            "column 'close' has the wrong type string; prices and kept columns must be numbers",
        ),
        ("close", [True, False], "wrong type bool"),
        ("symbol", [1.5, 2.5], "column 'symbol' has the wrong type double; a symbol must be text"),
        ("timestamp", [True, False], "times must be timestamps, dates, text or whole numbers"),
    ],
)
def test_wrong_types_are_refused(
    tmp_path: Path, suffix: str, column: str, values: list[Any], substance: str
) -> None:
    path = write(table(2, **{column: values}), tmp_path / f"a.{suffix}")
    refused(path, f"a.{suffix}", substance, "Convert it")


def test_nulls_become_nan_and_missing_times(tmp_path: Path) -> None:
    times = pa.array([int(START), None, int(START) + MINUTE]).cast(pa.timestamp("ns", "UTC"))
    data = table(3, close=[1.0, None, 3], timestamp=times)
    for suffix in FORMATS:
        result = read(write(data, tmp_path / f"a.{suffix}"))
        np.testing.assert_array_equal(result.close, [1, np.nan, 3])
        np.testing.assert_array_equal(result.timestamp, [START, NONE, START + MINUTE])
        assert result.source.counts == {}


# Objects


def test_arrow_objects_are_read() -> None:
    data = table()
    check_usual(read(data))
    check_usual(read(data.to_batches()[0]))
    check_usual(read(pa.RecordBatchReader.from_batches(data.schema, data.to_batches(2))))
    check_usual(read(pl.from_arrow(data)))
    check_usual(read(data.to_pandas()))
    check_usual(read(duckdb.sql("select * from data")))


def test_pandas_indices_are_found() -> None:
    frame = table().to_pandas().set_index("timestamp")
    check_usual(read(frame))
    check_usual(read(frame.rename_axis("when")))
    check_usual(read(frame.rename_axis(None)))


def test_pandas_indices_in_files_are_found(tmp_path: Path) -> None:
    frame = table().to_pandas().set_index("timestamp").rename_axis(None)
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "b.csv")
    check_usual(read(tmp_path / "a.parquet"))
    check_usual(read(tmp_path / "b.csv"))


def test_a_default_pandas_index_is_not_a_time() -> None:
    frame = table().to_pandas().drop(columns="timestamp")
    refused(frame[frame.open > 101], "<pandas.DataFrame>: has no column for timestamp")


def test_polars_types_are_read() -> None:
    frame = pl.from_arrow(table(3, symbol=["B", "A", "B"]))
    assert isinstance(frame, pl.DataFrame)
    frame = frame.with_columns(pl.col("symbol").cast(pl.Categorical), pl.col("close").cast(pl.Decimal(10, 2)))
    result = read(frame)
    assert result.symbol == ["B", "A", "B"]
    assert result.close.tolist() == [100.5, 101.5, 102.5]


def test_streams_are_read_once() -> None:
    data = table()
    source = open_bars(pa.RecordBatchReader.from_batches(data.schema, data.to_batches()))
    assert not source.rereadable
    list(source.batches())
    with pytest.raises(InputError, match=r"<pyarrow\.RecordBatchReader>: a stream can be read only once"):
        source.batches()


@pytest.mark.parametrize(
    ("thing", "name"), [(3, "a int"), (None, "a NoneType"), ([], "an empty sequence"), ([1], "a list")]
)
def test_objects_that_are_not_tables_are_refused(thing: Any, name: str) -> None:
    refused(
        thing, "must be a path, a sequence of paths", "__arrow_c_stream__", f"not {name}", error=TypeError
    )


def test_a_single_column_is_refused() -> None:
    refused(pl.Series([1.0]), "<polars.Series>: is not a table of bars", "Hand over a table")


def test_failing_streams_are_errors() -> None:
    def batches() -> Any:
        yield table().to_batches()[0]
        raise ValueError("the feed broke")

    refused(
        pa.RecordBatchReader.from_batches(table().schema, batches()),
        "the feed broke",
        "Check what produces it",
    )
