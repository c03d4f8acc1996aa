"""Reading bars: every format, every notation of a time, everything refused, and what the refusals say."""

from __future__ import annotations

import bz2
import gc
import gzip
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import time as clock
import zipfile
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moola import _core
from moola.bars import options as bars
from moola.bars.formats import arrow, csv, inputs
from moola.bars.options import ReadOptions
from moola.bars.source import BarSource, Batch, open_bars
from moola.errors import ConfigError, InputDeniedError, InputError, InputMissingError, Problem

SHARED = os.environ.get("MOOLA_SHARED")
DATA = Path(SHARED or "") / "data"
NONE = np.iinfo(np.int64).min
START = np.datetime64("2024-05-06T13:30", "ns").astype(np.int64)
MINUTE = 60 * 10**9

FORMATS = ("parquet", "csv", "csv.gz", "arrow", "arrows")


def table(n: int = 5, **columns: Any) -> pa.Table:
    """n bars with a time and prices that tell rows and columns apart; `columns` replace or add."""
    price = np.arange(n, dtype=np.float64) + 100
    usual: dict[str, Any] = {
        "timestamp": pa.array(START + np.arange(n) * MINUTE, pa.timestamp("ns", "UTC")),
        "open": price + 0.25,
        "high": price + 1,
        "low": price - 1,
        "close": price + 0.5,
    }
    return pa.table({name: column for name, column in (usual | columns).items() if column is not None})


def write(data: pa.Table, path: Path, **csv_options: Any) -> Path:
    """Writes a table in the format that the path's suffix names."""
    match "".join(path.suffixes):
        case ".parquet":
            pq.write_table(data, path)
        case ".csv":
            pyarrow.csv.write_csv(data, path, pyarrow.csv.WriteOptions(**csv_options))
        case ".csv.gz":
            with pa.CompressedOutputStream(str(path), "gzip") as stream:
                pyarrow.csv.write_csv(data, stream, pyarrow.csv.WriteOptions(**csv_options))
        case ".arrow":
            with pa.ipc.new_file(path, data.schema) as writer:
                writer.write_table(data)
        case ".arrows":
            with pa.ipc.new_stream(path, data.schema) as writer:
                writer.write_table(data)
        case other:
            raise ValueError(other)
    return path


def text(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def csv_bars(*times: str, header: str = "timestamp,open,high,low,close") -> str:
    return (
        "\n".join([header, *(f"{time},{i + 1},{i + 3},{i},{i + 2}" for i, time in enumerate(times))]) + "\n"
    )


def read(what: Any, **options: Any) -> SimpleNamespace:
    """Everything a source gives, its batches joined."""
    source = open_bars(what, ReadOptions(**options))
    batches = list(source.batches())
    for batch in batches:
        check_arrays(batch, len(source.keep))
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(batch, name) for batch in batches] or [np.empty(0)])
        for name in ("timestamp", "open", "high", "low", "close")
    }
    for role, names in (("symbol", source.symbols), ("contract", source.contracts)):
        joined[role] = [
            names[i] for b in batches for i in (getattr(b, role) if getattr(b, role) is not None else ())
        ]
    joined["extra"] = [np.concatenate([b.extra[i] for b in batches]) for i in range(len(source.keep))]
    joined["rows"] = [
        row
        for b in batches
        for row in (b.rows if b.rows is not None else range(b.first_row, b.first_row + len(b.open)))
    ]
    return SimpleNamespace(source=source, batches=batches, notation=source.files[0].timestamp, **joined)


def check_arrays(batch: Batch, kept: int) -> None:
    n = len(batch.timestamp)
    assert batch.timestamp.dtype == np.int64
    assert batch.timestamp.flags.c_contiguous
    for prices in (batch.open, batch.high, batch.low, batch.close, *batch.extra):
        assert prices.dtype == np.float64
        assert prices.flags.c_contiguous
        assert len(prices) == n
    assert len(batch.extra) == kept
    for codes in (batch.symbol, batch.contract):
        assert codes is None or (codes.dtype == np.int32 and len(codes) == n)
    assert batch.rows is None or (batch.rows.dtype == np.int64 and len(batch.rows) == n)


def check_usual(result: SimpleNamespace, n: int = 5) -> None:
    expected = table(n)
    np.testing.assert_array_equal(result.timestamp, START + np.arange(n) * MINUTE)
    for name in ("open", "high", "low", "close"):
        np.testing.assert_array_equal(getattr(result, name), expected[name].to_numpy())


def refused(what: Any, *substance: str, error: type[Exception] = InputError, **options: Any) -> str:
    """The message with which an input is refused; it must hold `substance`."""
    with pytest.raises(error) as caught:
        read(what, **options)
    message = str(caught.value)
    for part in substance:
        assert part in message, message
    return message


def utc(moment: str) -> int:
    return int(np.datetime64(moment, "ns").astype(np.int64))


# Formats


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_bars(tmp_path: Path, suffix: str) -> None:
    result = read(write(table(), tmp_path / f"bars.{suffix}"))
    check_usual(result)
    assert result.source.files[0].rows == 5
    assert result.source.files[0].name == str(tmp_path / f"bars.{suffix}")
    assert result.source.files[0].path == tmp_path / f"bars.{suffix}"
    assert result.source.symbols == []
    assert result.source.rereadable


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_content_tells_the_format_not_the_suffix(tmp_path: Path, suffix: str) -> None:
    path = write(table(), tmp_path / f"bars.{suffix}")
    check_usual(read(path.rename(tmp_path / "bars.xls")))


@pytest.mark.parametrize(("compress", "suffix"), [(bz2.compress, "bz2"), (pa.Codec("zstd").compress, "zst")])
def test_other_compressions(tmp_path: Path, compress: Callable[[bytes], Any], suffix: str) -> None:
    path = write(table(), tmp_path / "bars.csv")
    check_usual(read(text(tmp_path / f"b.csv.{suffix}", bytes(compress(path.read_bytes())))))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("quotes", ["none", "needed"])
def test_delimiters_are_detected(tmp_path: Path, delimiter: str, quotes: str) -> None:
    check_usual(read(write(table(), tmp_path / "bars.csv", delimiter=delimiter, quoting_style=quotes)))


def test_decimal_commas_between_semicolons(tmp_path: Path) -> None:
    rows = "Date;Open;High;Low;Close\n2024-05-06T13:30Z;100,25;101,0;99;100,5\n"
    result = read(text(tmp_path / "a.csv", rows))
    assert (result.open[0], result.high[0], result.low[0], result.close[0]) == (100.25, 101, 99, 100.5)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n\n"])
def test_byte_order_marks_and_line_ends(tmp_path: Path, newline: str, start: str) -> None:
    content = start + csv_bars("2024-05-06T13:30:00Z", "2024-05-06T13:31:00Z")
    result = read(text(tmp_path / "a.csv", content.replace("\n", newline)))
    np.testing.assert_array_equal(result.timestamp, [START, START + MINUTE])
    assert result.close.tolist() == [2, 3]


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    content = csv_bars("2024-05-06T13:30Z", "2024-05-06T13:31Z").replace("\n", "\n\n")
    assert read(text(tmp_path / "a.csv", content)).rows == [0, 1]


def test_only_needed_columns_are_looked_at(tmp_path: Path) -> None:
    latin = csv_bars("2024-05-06T13:30Z").replace("close", "close,Währung").replace(",2\n", ",2,\u00e4\n")
    assert read(text(tmp_path / "a.csv", latin.encode("latin-1"))).close.tolist() == [2]
    nested = table(2, odd=[{"a": 1}, {"a": 2}])
    assert len(read(write(nested, tmp_path / "a.parquet")).open) == 2


@pytest.mark.parametrize("suffix", FORMATS)
def test_names_with_dots_and_blanks(tmp_path: Path, suffix: str) -> None:
    data = table(3, **{"close": None, "px.close": [7.0, 8, 9], "px": [1.0, 1, 1], "Trade Volume": [4, 5, 6]})
    result = read(
        write(data, tmp_path / f"a.{suffix}"), columns={"px.close": "close"}, keep=("Trade Volume",)
    )
    assert result.close.tolist() == [7, 8, 9]
    assert result.extra[0].tolist() == [4, 5, 6]


def test_many_batches_are_about_the_promised_size(tmp_path: Path) -> None:
    n = 3 * inputs.BATCH_ROWS + 7
    for suffix in FORMATS:
        result = read(write(table(n), tmp_path / f"a.{suffix}"))
        check_usual(result, n)
        assert max(len(batch.open) for batch in result.batches) <= inputs.BATCH_ROWS
        assert [b.first_row for b in result.batches] == np.cumsum(
            [0, *(len(b.open) for b in result.batches)]
        )[:-1].tolist()
    check_usual(read(table(n)), n)


def test_float64_columns_are_not_copied() -> None:
    data = table(1000)
    batch = next(open_bars(data).batches())
    assert batch.open.__array_interface__["data"][0] == data["open"].chunk(0).buffers()[1].address
    assert batch.timestamp.__array_interface__["data"][0] == data["timestamp"].chunk(0).buffers()[1].address


def test_a_source_can_be_read_again(tmp_path: Path) -> None:
    for what in (write(table(), tmp_path / "a.csv"), table(), table().to_pandas(), pl.from_arrow(table())):
        source = open_bars(what)
        assert source.rereadable
        for _ in range(2):
            assert sum(len(batch.open) for batch in source.batches()) == 5
            assert source.files[0].rows == 5


# Several files, directories, partitions


def test_several_files_in_the_order_given(tmp_path: Path) -> None:
    data = table(6)
    a = write(data.slice(0, 2), tmp_path / "z.csv")
    b = write(data.slice(2, 3), tmp_path / "b.parquet")
    c = write(data.slice(5, 1), tmp_path / "a.arrow")
    result = read([a, str(b), c])
    check_usual(result, 6)
    assert [batch.file for batch in result.batches] == [0, 1, 2]
    assert [file.rows for file in result.source.files] == [2, 3, 1]
    assert result.source.label(1) == str(b)


def test_files_may_differ_in_columns(tmp_path: Path) -> None:
    data = table(4)
    write(data.slice(0, 2).select(["close", "low", "timestamp", "high", "open"]), tmp_path / "a.parquet")
    late = data.slice(2).rename_columns(["Date", "O", "H", "L", "C"]).append_column("more", [[1, 2]])
    write(late, tmp_path / "b.parquet")
    check_usual(read(tmp_path), 4)


def test_a_directory_is_read_by_name_and_below(tmp_path: Path) -> None:
    data = table(6)
    write(data.slice(4), tmp_path / "c.csv.gz")
    (tmp_path / "a").mkdir()
    write(data.slice(0, 2), tmp_path / "a" / "b.parquet")
    write(data.slice(2, 2), tmp_path / "b.csv")
    text(tmp_path / "README.md", "# not bars")
    text(tmp_path / "_metadata.parquet", "not read")
    text(tmp_path / ".hidden" / "x.csv", "not read")
    check_usual(read(tmp_path), 6)


def test_partitions_name_symbols(tmp_path: Path) -> None:
    for folder in ("symbol=ES", "symbol=BTC%2FUSD"):
        (tmp_path / folder).mkdir()
        write(table(2), tmp_path / folder / "0.parquet")
    result = read(tmp_path)
    assert result.symbol == ["BTC/USD", "BTC/USD", "ES", "ES"]
    assert result.source.symbols == ["BTC/USD", "ES"]
    alone = read(tmp_path / "symbol=ES")
    assert alone.symbol == ["ES", "ES"]


def test_partitions_by_other_names(tmp_path: Path) -> None:
    folder = tmp_path / "asset=ES" / "contract=ESM4"
    folder.mkdir(parents=True)
    write(table(2), folder / "0.csv")
    result = read(tmp_path, columns={"asset": "symbol"}, segment_by=("symbol", "contract"))
    assert (result.symbol, result.contract) == (["ES"] * 2, ["ESM4"] * 2)


def test_symbols_in_some_files_only_are_refused(tmp_path: Path) -> None:
    a = write(table(2, symbol=["A", "A"]), tmp_path / "a.csv")
    b = write(table(2), tmp_path / "b.csv")
    refused([a, b], "b.csv: has no symbol column", "a.csv has one", "--columns FILE_COLUMN=symbol")


def test_directories_without_bars(tmp_path: Path) -> None:
    refused(tmp_path, str(tmp_path), "holds no Parquet, CSV or Arrow files", ".parquet")
    text(tmp_path / "metadata.json", "{}")
    text(tmp_path / "checksums.b3", "")
    refused(tmp_path, "is a feature store, not bars", "Give the bars it was built from")


# Symbols and contracts


@pytest.mark.parametrize("suffix", FORMATS)
def test_symbol_columns(tmp_path: Path, suffix: str) -> None:
    result = read(write(table(4, Ticker=["B", "A", "B", "007"]), tmp_path / f"a.{suffix}"))
    assert result.symbol == ["B", "A", "B", "007"]
    assert result.source.symbols == ["B", "A", "007"]
    assert result.contract == []


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()), pa.binary()],
    ids=str,
)
def test_symbol_types(tmp_path: Path, kind: pa.DataType) -> None:
    data = table(3, symbol=pa.array(["B", "A", "B"], pa.string()).cast(kind))
    assert read(data).symbol == ["B", "A", "B"]
    assert read(write(data, tmp_path / "a.arrow")).symbol == ["B", "A", "B"]


def test_symbols_that_are_numbers() -> None:
    assert read(table(2, symbol=[600519, 7])).symbol == ["600519", "7"]


def test_categories_that_do_not_occur_are_no_symbols() -> None:
    frame = table(3, symbol=["B", "A", "C"]).to_pandas().astype({"symbol": "category"})
    result = read(frame[frame.symbol != "A"].reset_index(drop=True))
    assert result.source.symbols == ["B", "C"]
    assert result.symbol == ["B", "C"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_contracts_are_read_on_request(tmp_path: Path, suffix: str) -> None:
    path = write(table(3, symbol=["ES"] * 3, contract=["M4", "M4", "U4"]), tmp_path / f"a.{suffix}")
    assert read(path).contract == []
    result = read(path, segment_by=("symbol", "contract"))
    assert result.contract == ["M4", "M4", "U4"]
    assert result.source.contracts == ["M4", "U4"]
    refused(
        table(), "has no contract column", "leave contract out of --segment-by", segment_by="symbol,contract"
    )


@pytest.mark.parametrize("suffix", FORMATS)
def test_rows_without_symbol_are_refused(tmp_path: Path, suffix: str) -> None:
    path = write(table(3, symbol=["A", None, "A"]), tmp_path / f"a.{suffix}")
    refused(path, f"a.{suffix}: row 2 has no symbol", "Fill the symbol column")


# Columns


@pytest.mark.parametrize(
    "name",
    ["timestamp", "Datetime", "DATE", "open_time", "Open time", "time", "ts", "<DATE>", "Date Time", ""],
)
def test_usual_names_of_the_time(tmp_path: Path, name: str) -> None:
    check_usual(read(write(table().rename_columns([name, "Open", "HIGH", "l", "C"]), tmp_path / "a.csv")))


def test_the_most_telling_name_wins() -> None:
    other = pa.array([0] * 5, pa.timestamp("s", "UTC"))
    check_usual(read(table(date=other, Time=other, o=[1.0] * 5)))


def test_names_that_differ_in_case_only_are_refused() -> None:
    refused(
        table(Open=[1.0] * 5),
        "2 columns that may be the open: 'open' and 'Open'",
        "--columns FILE_COLUMN=open",
    )
    check_usual(read(table(Open=[1.0] * 5), columns="open=open"))


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
def test_missing_columns(tmp_path: Path, suffix: str) -> None:
    path = write(table(high=None, low=None, settle=[1.0] * 5), tmp_path / f"a.{suffix}")
    refused(
        path,
        f"a.{suffix}: has no column for high, low",
        "its columns are 'timestamp', 'open', 'close', 'settle'",
        "--columns FILE_COLUMN=high",
    )
    refused(write(table(), path), "has no column 'Last' to be the close", "'open'", columns={"Last": "close"})


@pytest.mark.parametrize("suffix", FORMATS)
def test_kept_columns(tmp_path: Path, suffix: str) -> None:
    data = table(3, Vol=[1, None, 3], x=pa.array([0.5, 1, 1.5], pa.float32()))
    result = read(write(data, tmp_path / f"a.{suffix}"), keep=("x", "volume"))
    np.testing.assert_array_equal(result.extra, [[0.5, 1, 1.5], [1, np.nan, 3]])
    assert result.source.keep == ["x", "volume"]
    refused(table(), "has no column 'volume' to keep", "leave it out of --keep", keep=("volume",))


def test_date_and_time_in_two_columns(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "Date,Time,Open,High,Low,Close\n2024-05-06,13:30,1,3,0,2\n")
    refused(path, "its times in two columns, 'Date' and 'Time'", "Join them into one column")


HEADERLESS = "1714995000000,1,3,0,2,11\n1714995060000,2,4,1,3,12\n"


def test_headerless_dumps(tmp_path: Path) -> None:
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
    result = read([tmp_path / "BTCUSDT-1m.csv", path], columns=columns, keep=("volume",))
    assert result.close.tolist() == [2, 3, 2, 3]


@pytest.mark.parametrize("name", ["nan", "NaN", "inf", "Infinity"])
def test_columns_may_be_called_as_what_is_no_number(tmp_path: Path, name: str) -> None:
    content = csv_bars("2024-05-06T13:30:00Z", header=f"timestamp,open,high,low,close,{name}").replace(
        "2\n", "2,7\n"
    )
    result = read(text(tmp_path / "a.csv", content), keep=(name,))
    assert result.extra[0].tolist() == [7]


def test_a_headerless_dump_may_begin_with_a_missing_price(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "2024-05-06T13:30:00Z,nan,3,1,2\n2024-05-06T13:31:00Z,1,3,1,2\n")
    columns = {str(i): role for i, role in enumerate(("timestamp", "open", "high", "low", "close"))}
    assert np.isnan(read(path, columns=columns).open).tolist() == [True, False]


def test_headerless_dumps_say_what_to_do(tmp_path: Path) -> None:
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
        "has 6 columns, counted from 0, and no column 9 to be the close",
        columns="0=timestamp,1=open,2=high,3=low,9=close",
    )


# Types


@pytest.mark.parametrize(
    "kind",
    [pa.float32(), pa.int64(), pa.int32(), pa.uint16(), pa.decimal128(12, 4), pa.float64()],
    ids=str,
)
def test_price_types(tmp_path: Path, kind: pa.DataType) -> None:
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
def test_wrong_types(tmp_path: Path, suffix: str, column: str, values: list[Any], substance: str) -> None:
    path = write(table(2, **{column: values}), tmp_path / f"a.{suffix}")
    refused(path, f"a.{suffix}", substance, "Convert it")


def test_nulls_become_nan_and_no_time(tmp_path: Path) -> None:
    times = pa.array([int(START), None, int(START) + MINUTE]).cast(pa.timestamp("ns", "UTC"))
    data = table(3, close=[1.0, None, 3], timestamp=times)
    for suffix in FORMATS:
        result = read(write(data, tmp_path / f"a.{suffix}"))
        np.testing.assert_array_equal(result.close, [1, np.nan, 3])
        np.testing.assert_array_equal(result.timestamp, [START, NONE, START + MINUTE])
        assert result.source.counts == {}


# Objects


def test_arrow_objects() -> None:
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


def test_pandas_indices_in_files(tmp_path: Path) -> None:
    frame = table().to_pandas().set_index("timestamp").rename_axis(None)
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "b.csv")
    check_usual(read(tmp_path / "a.parquet"))
    check_usual(read(tmp_path / "b.csv"))


def test_a_counted_pandas_index_is_no_time() -> None:
    frame = table().to_pandas().drop(columns="timestamp")
    refused(frame[frame.open > 101], "<pandas.DataFrame>: has no column for timestamp")


def test_polars_types() -> None:
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
def test_other_objects_are_refused(thing: Any, name: str) -> None:
    refused(
        thing, "must be a path, a sequence of paths", "__arrow_c_stream__", f"not {name}", error=TypeError
    )


def test_a_single_column_is_refused() -> None:
    refused(pl.Series([1.0]), "<polars.Series>: is no table of bars", "Hand over a table")


def test_streams_that_fail_say_so() -> None:
    def batches() -> Any:
        yield table().to_batches()[0]
        raise ValueError("the feed broke")

    refused(
        pa.RecordBatchReader.from_batches(table().schema, batches()),
        "the feed broke",
        "Check what produces it",
    )


# Times: Arrow's


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "+02:00"])
def test_zoned_timestamps(tmp_path: Path, unit: str, zone: str) -> None:
    data = table(timestamp=table()["timestamp"].cast(pa.timestamp(unit, zone)))
    result = read(data, tz="Asia/Tokyo")
    check_usual(result)
    assert result.notation == f"arrow timestamp[{unit}, tz={zone}]"


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "arrows"])
def test_timestamps_without_zone(tmp_path: Path, suffix: str) -> None:
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


def test_dates() -> None:
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


# Times: epochs


EPOCHS = {"s": 1, "ms": 10**3, "µs": 10**6, "ns": 10**9}


@pytest.mark.parametrize("unit", EPOCHS)
@pytest.mark.parametrize("suffix", FORMATS)
def test_epoch_units_are_told_apart(tmp_path: Path, suffix: str, unit: str) -> None:
    seconds = (START + np.arange(5) * MINUTE) // 10**9
    result = read(write(table(timestamp=seconds * EPOCHS[unit]), tmp_path / f"a.{suffix}"))
    check_usual(result)
    assert result.notation == f"epoch {unit}"


def test_epoch_units_are_found_file_by_file(tmp_path: Path) -> None:
    times = np.array(["2024-12-31T23:59", "2025-01-01T00:00"], "M8[s]").astype(np.int64)
    write(table(1, timestamp=times[:1] * 10**3), tmp_path / "2024.csv")
    write(table(1, timestamp=times[1:] * 10**6), tmp_path / "2025.csv")
    result = read(tmp_path)
    assert result.timestamp.tolist() == (times * 10**9).tolist()
    assert [file.timestamp for file in result.source.files] == ["epoch ms", "epoch µs"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_two_units_in_one_file_are_refused(tmp_path: Path, suffix: str) -> None:
    path = write(
        table(3, timestamp=[1735689540000, 1735689600000, 1735689660000000]), tmp_path / f"a.{suffix}"
    )
    refused(
        path,
        f"a.{suffix}: mixes epoch times in ms and in µs",
        *("row 1 is 1735689540000", "row 3 is 1735689660000000", "divide the file"),
    )


@pytest.mark.parametrize(
    ("number", "pattern"),
    [(20240506, "%Y%m%d"), (202405061330, "%Y%m%d%H%M"), (20240506133000, "%Y%m%d%H%M%S")],
)
@pytest.mark.parametrize("suffix", FORMATS)
def test_dates_written_as_numbers(tmp_path: Path, suffix: str, number: int, pattern: str) -> None:
    path = write(table(2, timestamp=[number, number]), tmp_path / f"a.{suffix}")
    refused(path, f"row 1 has the time {number}, which is no epoch time", f"--time-format '{pattern}'")
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


def test_epochs_of_no_time_are_left_out(tmp_path: Path) -> None:
    result = read(write(table(3, timestamp=[0, 1714995000, 99]), tmp_path / "a.csv"))
    assert result.rows == [1]
    assert result.source.counts == {"bad_timestamp": 2}
    assert [(p.row, p.line, p.value) for p in result.source.problems] == [(1, 2, "0"), (3, 4, "99")]


# Times: text


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
def test_iso_with_offset(tmp_path: Path, time: str) -> None:
    result = read(text(tmp_path / "a.csv", csv_bars(time)))
    assert result.timestamp.tolist() == [START]
    assert result.notation == "ISO 8601 with offset"


def test_iso_to_the_nanosecond() -> None:
    assert read(table(1, timestamp=["2024-05-06T13:30:00.123456789Z"])).timestamp[0] == START + 123456789


@pytest.mark.parametrize("suffix", FORMATS)
def test_iso_without_offset(tmp_path: Path, suffix: str) -> None:
    path = write(table(2, timestamp=["2024-05-06 09:30", "2024-05-06 09:31"]), tmp_path / f"a.{suffix}")
    refused(path, f"a.{suffix}: row 1, '2024-05-06 09:30', has no time zone", "--tz")
    result = read(path, tz="America/New_York")
    assert result.timestamp.tolist() == [START, START + MINUTE]
    assert result.notation == "ISO 8601 in America/New_York"


def test_iso_with_offset_at_times() -> None:
    data = table(2, timestamp=["2024-05-06 09:30", "2024-05-06T13:31Z"])
    result = read(data, tz="America/New_York")
    assert result.timestamp.tolist() == [START, START + MINUTE]
    assert result.notation == "ISO 8601 with offset, or in America/New_York"


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()), pa.binary()],
    ids=str,
)
def test_text_types_of_times(kind: pa.DataType) -> None:
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
    path = text(tmp_path / "a.csv", csv_bars("05.11.2019 09:30"))
    refused(path, "a.csv: cannot tell how times such as '05.11.2019 09:30' are written", "--time-format")
    assert read(path, time_format="%d.%m.%Y %H:%M", tz="UTC").timestamp[0] == utc("2019-11-05T09:30")


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


def test_the_order_is_that_of_all_files(tmp_path: Path) -> None:
    write(table(1, timestamp=["1/2/2019"]), tmp_path / "a.csv")
    write(table(1, timestamp=["13/2/2019"]), tmp_path / "b.parquet")
    result = read(tmp_path, tz="UTC")
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
def test_the_advice_on_orders_works(time: str, pattern: str) -> None:
    refused(table(1, timestamp=[time]), f"--time-format {pattern}", tz="UTC")
    assert read(table(1, timestamp=[time]), tz="UTC", time_format=pattern.strip("'")).source.counts == {}


def test_no_order_fits(tmp_path: Path) -> None:
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


def test_rows_that_are_no_dates_have_no_say(tmp_path: Path) -> None:
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
def test_time_formats(tmp_path: Path, suffix: str, pattern: str, time: str, expected: int) -> None:
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
def test_any_time_in_any_notation(times: list[Any]) -> None:
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


# Prices that are no numbers


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_text_for_prices_is_collected(tmp_path: Path, suffix: str) -> None:
    n = 300_000
    content = csv_bars(
        *np.datetime_as_string(np.datetime64("2024-01-01", "m") + np.arange(n), timezone="UTC")
    )
    lines = content.splitlines()
    lines[10] = lines[10].rpartition(",")[0] + ",abc"
    lines[200_001] = lines[200_001].replace(",", ',"1,5"', 1).replace('"1,5"', '"1,5",', 1).rpartition(",")[0]
    lines[n] = ""
    raw = "\n".join(lines).encode()
    path = text(tmp_path / f"a.{suffix}", gzip.compress(raw, 1) if suffix == "csv.gz" else raw)
    result = read(path)
    assert result.source.counts == {"not_a_number": 2}
    first, second = result.source.problems
    assert first == Problem(
        "not_a_number", 10, "close", "abc", file=str(path), line=11, timestamp=utc("2024-01-01T00:09")
    )
    assert (second.row, second.line, second.column, second.value) == (200_001, 200_002, "open", "1,5")
    assert len(result.open) == n - 3
    assert result.rows == [row for row in range(n - 1) if row not in (9, 200_000)]
    assert result.source.files[0].rows == n - 1
    np.testing.assert_array_equal(result.low, result.rows)


def test_samples_of_a_kind_stop_at_twenty_and_counts_do_not(tmp_path: Path) -> None:
    content = csv_bars(*["2024-05-06T13:30Z"] * 30, *["no"] * 5).replace(",3,", ",x,")
    path = text(tmp_path / "a.csv", content.replace(",2\n", ",\n").replace("Z,", "Z,y"))
    source = open_bars(path)
    list(source.batches())
    assert sum(source.counts.values()) > 30
    assert source.counts["bad_timestamp"] == 5
    kinds = [problem.kind for problem in source.problems]
    assert {kind: kinds.count(kind) for kind in kinds} == {"bad_timestamp": 5, "not_a_number": 20}


def test_no_value_is_not_text(tmp_path: Path) -> None:
    rows = "\n".join(
        f"2024-05-06T13:3{i}Z,{cell},3,0,2" for i, cell in enumerate(["", "NaN", "null", "inf", "1e2", "x"])
    )
    result = read(text(tmp_path / "a.csv", f"t,o,h,l,c\n{rows}\n"))
    np.testing.assert_array_equal(result.open, [np.nan, np.nan, np.nan, np.inf, 100])
    assert result.source.counts == {"not_a_number": 1}


def test_odd_line_separators_in_a_header(tmp_path: Path) -> None:
    content = csv_bars("2024-05-06T13:30Z", "2024-05-06T13:31Z", header='timestamp,"open",high,low,close')
    content = content.replace('"open"', '"open\x0b"').replace("open\x0b", "open\u2028")
    result = read(text(tmp_path / "a.csv", content), columns={"open\u2028": "open"})
    assert result.open.tolist() == [1, 2]


def test_lines_are_exact(tmp_path: Path) -> None:
    content = (
        '\n"timestamp","open",high,low,close,"a note\nin two lines"\n\n'
        '2024-05-06T13:30Z,1,3,0,2,x\n\n2024-05-06T13:31Z,1,3,0,2,"two\nlines"\n\n\n2024-05-06T13:32Z,1,3,0,bad,x\n'
    )
    result = read(text(tmp_path / "a.csv", content))
    assert result.rows == [0, 1]
    assert [result.source.locate(0, row) for row in (0, 1, 2, 3)] == [5, 7, 11, None]
    assert result.source.locate(0, 1) == 7
    assert result.source.problems[0].line == 11
    assert read(write(table(), tmp_path / "a.parquet")).source.locate(0, 1) is None


# Refusals


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_without_bars(tmp_path: Path, suffix: str) -> None:
    refused(text(tmp_path / f"empty.{suffix}", b""), f"empty.{suffix}: is empty", "Leave it out")
    refused(
        write(table().slice(0, 0), tmp_path / f"a.{suffix}"), f"a.{suffix}: holds no bars", "Leave it out"
    )


def test_tables_without_bars() -> None:
    refused(table().slice(0, 0), "<pyarrow.Table>: holds no bars")


def test_a_csv_of_blank_lines(tmp_path: Path) -> None:
    refused(text(tmp_path / "a.csv", b"\n\n\n"), "is empty")


def test_missing_files(tmp_path: Path) -> None:
    write(table(), tmp_path / "bars.parquet")
    message = refused(tmp_path / "bar.parquet", "bar.parquet: there is no such file", error=InputMissingError)
    assert f"Did you mean {tmp_path / 'bars.parquet'}?" in message
    assert issubclass(InputMissingError, FileNotFoundError)
    refused(tmp_path / "no" / "bars.csv", f"There is no directory {tmp_path / 'no'}", error=FileNotFoundError)


def test_files_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(table(), tmp_path / "a.csv")
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read everything
        real = Path.open
        monkeypatch.setattr(
            Path, "open", lambda self, *a, **k: _deny(self) if self == path else real(self, *a, **k)
        )
    refused(path, "a.csv: may not be read", f"chmod u+r {path}", error=InputDeniedError)
    assert issubclass(InputDeniedError, PermissionError)


def _deny(path: Path) -> Any:
    raise PermissionError(13, "Permission denied", str(path))


def test_a_file_that_vanishes_while_read(tmp_path: Path) -> None:
    for suffix in FORMATS:
        path = write(table(), tmp_path / f"a.{suffix}")
        source = open_bars(path)
        path.unlink()
        with pytest.raises(FileNotFoundError, match="there is no such file"):
            list(source.batches())


@pytest.mark.parametrize("suffix", ["parquet", "csv.gz", "arrow", "arrows"])
def test_truncated_files(tmp_path: Path, suffix: str) -> None:
    data = table(20_000, x=np.random.default_rng(0).random(20_000))
    whole = write(data, tmp_path / f"a.{suffix}").read_bytes()
    for share in (0.3, 0.7, 0.99):
        path = text(tmp_path / f"b.{suffix}", whole[: int(len(whole) * share)].rstrip(b"\n")[:-10])
        refused(path, f"b.{suffix}: is damaged or cut short", "again")


def test_damaged_content(tmp_path: Path) -> None:
    whole = bytearray(write(table(50_000), tmp_path / "a.parquet").read_bytes())
    whole[2000:9000] = bytes(7000)
    refused(text(tmp_path / "b.parquet", bytes(whole)), "b.parquet: is damaged", "again")
    packed = bytearray(gzip.compress(write(table(50_000), tmp_path / "a.csv").read_bytes()))
    packed[len(packed) // 2] ^= 0xFF
    refused(text(tmp_path / "b.csv.gz", bytes(packed)), "b.csv.gz")


def _with_open_quote(path: Path, rows: int, row: int, column: int) -> Path:
    """Minute bars with volumes; a quote opens a value of a row (from 1), and nothing closes it."""
    lines = [f"2024-05-06T{i // 60 % 24:02}:{i % 60:02}:00Z,100.25,101,99,100.5,{i}" for i in range(rows)]
    cells = lines[row - 1].split(",")
    cells[column] = f'"{cells[column]}'
    lines[row - 1] = ",".join(cells)
    header = "timestamp,open,high,low,close,volume"
    return text(path, "\n".join([header, *lines]) + "\n")


@pytest.mark.parametrize("column", [0, 2, 5])
@pytest.mark.parametrize(
    ("rows", "row"), [(300, 5), (300, 300), (6_000, 1), (6_000, 5), (60_000, 5), (60_000, 59_000)]
)
def test_quotes_that_are_not_closed(tmp_path: Path, rows: int, row: int, column: int) -> None:
    """The rest of a large file in one value is more than Python's csv takes, and Arrow loses it without a word."""
    path = _with_open_quote(tmp_path / "a.csv", rows, row, column)
    refused(path, "a.csv: ", f"line {row + 1:,}", "quote", "download")


def test_quotes_that_are_not_closed_in_a_header(tmp_path: Path) -> None:
    header = 'timestamp,open,high,low,close,"volume\n'
    path = text(tmp_path / "a.csv", header + "2024-05-06T13:30:00Z,1,3,1,2,5\n" * 9_000)
    refused(path, "a.csv: line 1 opens a quote that is not closed", "Close the quote")


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_a_quote_within_an_unquoted_value_is_none(tmp_path: Path, suffix: str) -> None:
    content = csv_bars("2024-05-06T13:30:00Z", "2024-05-06T13:31:00Z").replace("2\n", '2,5" pipe\n', 1)
    content = content.replace("close\n", "close,note\n").replace("3\n", "3,\n")
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(gzip.compress(content.encode()) if suffix == "csv.gz" else content.encode())
    assert len(read(path).close) == 2


def test_rows_with_too_few_or_many_fields(tmp_path: Path) -> None:
    content = csv_bars("2024-05-06T13:30Z", "2024-05-06T13:31Z", "2024-05-06T13:32Z")
    path = text(tmp_path / "a.csv", content.replace(":32Z,3,5", ":32Z,3"))
    refused(path, "a.csv: row 3 (line 4) has 4 fields, not 5: '2024-05-06T13:32Z,3,2,4'", "cut short")
    path = text(tmp_path / "a.csv", content.replace("Z,", "Z,,"))
    refused(path, "a.csv: row 1 (line 2) has 6 fields, not 5")
    path = text(tmp_path / "a.csv", content.replace("31Z,2", '31Z,"2'))
    refused(path, "row 2 (line 3)", "unclosed quote")


@pytest.mark.parametrize(
    ("content", "substance"),
    [
        (b"%PDF-1.7\n...", "is a PDF, not bars"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100), "an old Excel workbook"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG image"),
        (b"\x93NUMPY\x01\x00" + bytes(100), "a NumPy array"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "an HTML or XML page"),
        (b'{"error": "no such symbol"}', "JSON"),
        (pickle.dumps([1, 2, 3]), "a Python pickle"),
        ("t,o,h,l,c\n".encode("utf-16"), "UTF-16 text"),
        (b"\x01\x02\x03\x00" * 100, "a binary file of unknown format"),
        (gzip.compress(b"%PDF-1.7\n..."), "a PDF"),
        (gzip.compress(gzip.compress(b"t,o,h,l,c\n")), "gzip-compressed gzip"),
        (bytes(257) + b"ustar" + bytes(100), "a tar archive"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_bars_is_named(tmp_path: Path, content: bytes, substance: str) -> None:
    refused(text(tmp_path / "bars.csv", content), "bars.csv: is", substance, "Give Parquet, CSV")


def test_zip_archives_are_to_be_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.csv", "t,o,h,l,c")
    refused(
        tmp_path / "a.zip", "is a ZIP archive (or an Excel workbook), not bars", "Unpack it", "saved as CSV"
    )


def test_prose_is_not_bars(tmp_path: Path) -> None:
    refused(
        text(tmp_path / "a.txt", "Dear Sir or Madam\nhello\n"),
        "has no column for timestamp",
        "'Dear Sir or Madam'",
    )


def test_special_files_are_refused() -> None:
    refused(Path("/dev/null"), "/dev/null: is not a regular file", "Save what it gives to a file")


# The thread that reads ahead


def reading_threads() -> int:
    return sum(thread.name == "moola-bars" for thread in threading.enumerate())


def test_the_thread_ends_with_the_iterator(tmp_path: Path) -> None:
    path = write(table(inputs.BATCH_ROWS * 6), tmp_path / "a.parquet")
    source = open_bars(path)
    for _ in source.batches():
        pass
    assert reading_threads() == 0
    iterator = source.batches()
    next(iterator)
    assert reading_threads() == 1
    iterator.close()
    assert reading_threads() == 0
    iterator = source.batches()
    next(iterator)
    del iterator
    gc.collect()
    assert reading_threads() == 0


def test_the_thread_ends_on_error(tmp_path: Path) -> None:
    refused(text(tmp_path / "a.csv", csv_bars("2024-05-06 13:30")), "--tz")
    assert reading_threads() == 0


def test_ctrl_c_stops_the_look_ahead_for_dates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    data = table(1000, timestamp=["1/2/2019"] * 1000)
    endless = pa.RecordBatchReader.from_batches(data.schema, itertools.repeat(data.to_batches()[0]))
    batches = open_bars(endless, ReadOptions(tz="UTC")).batches()
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.2, signal.pthread_kill, [main, signal.SIGINT]).start()
    try:
        started = clock.monotonic()
        with pytest.raises(KeyboardInterrupt):
            next(batches)
        assert clock.monotonic() - started < 1
    finally:
        signal.signal(signal.SIGINT, previous)
    assert reading_threads() == 0
    assert list(tmp_path.iterdir()) == []


def test_a_fast_start(tmp_path: Path) -> None:
    """The common file needs neither pandas nor Arrow's compute functions, each slower than reading it."""
    path = write(table(), tmp_path / "a.parquet")
    code = (
        "import sys; from moola.bars import open_bars\n"
        f"for batch in open_bars({str(path)!r}).batches(): assert len(batch.open) == 5\n"
        "slow = {'pandas', 'pyarrow.compute', 'pyarrow.csv', 'concurrent.futures'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_at_most_two_batches_are_decoded_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = 0
    real = BarSource._batch

    def count(self: BarSource, *args: Any) -> Batch:
        nonlocal decoded
        decoded += 1
        return real(self, *args)

    monkeypatch.setattr(BarSource, "_batch", count)
    iterator = open_bars(table(inputs.BATCH_ROWS * 8)).batches()
    for taken in range(1, 7):
        next(iterator)
        clock.sleep(0.05)
        assert decoded <= taken + 2
    assert decoded == 8


def test_reading_holds_little_memory(tmp_path: Path) -> None:
    """One row group of 4 million bars, 160 MB of columns, is never held whole."""
    n = 4_000_000
    pq.write_table(
        table(n), tmp_path / "a.parquet", row_group_size=n, compression="none", use_dictionary=False
    )
    before = pa.total_allocated_bytes()
    most = 0
    for _ in open_bars(tmp_path / "a.parquet").batches():
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 64 << 20


@pytest.mark.parametrize("stream", [False, True])
def test_one_large_arrow_batch_is_read_slice_by_slice(tmp_path: Path, stream: bool) -> None:
    """Neither a copy of 160 MB nor, as a map of the file, this process's memory."""
    n = 4_000_000
    data = table(n).combine_chunks().to_batches()[0]
    path = tmp_path / "a.arrow"
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(path, data.schema) as writer:
        writer.write_batch(data)
    code = (
        "import resource, sys, pyarrow\n"
        "from moola.bars import open_bars\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10\n"
        "source = open_bars(sys.argv[1])\n"
        "before, rows = peak(), 0\n"
        "for batch in source.batches(): rows += len(batch.open)\n"
        "print(rows, peak() - before, pyarrow.default_memory_pool().max_memory() >> 20)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    rows, grown, copied = map(int, done.stdout.split())
    assert rows == n
    assert grown < 64
    assert copied < 16


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
# Streams of the legacy kind begin with nothing that tells what they are.
@pytest.mark.parametrize(("stream", "legacy"), [(False, False), (True, False), (False, True)])
def test_a_large_compressed_arrow_batch_is_refused(
    tmp_path: Path, compression: str, stream: bool, legacy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = table(1000).combine_chunks().to_batches()[0]
    path = tmp_path / "a.arrow"
    options = pa.ipc.IpcWriteOptions(compression=compression, use_legacy_format=legacy)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(path, data.schema, options=options) as writer:
        for _ in range(2):
            writer.write_batch(data.slice(0, 500))
        writer.write_batch(data)
    monkeypatch.setattr(arrow, "MAX_COMPRESSED_ROWS", 1000)
    assert len(read(path).open) == 2000
    monkeypatch.setattr(arrow, "MAX_COMPRESSED_ROWS", 999)
    refused(
        path,
        f"{path}: has a compressed record batch of 1,000 rows, which must be unpacked whole; 999 are the most",
        "Write it in smaller batches, without compression, or as Parquet",
    )


@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_arrow_files_that_polars_wrote(tmp_path: Path, compression: Any) -> None:
    """They lack the mark that ends the messages, and begin with one that is none."""
    frame = pl.from_arrow(table(300, symbol=["A", "B", "C"] * 100))
    assert isinstance(frame, pl.DataFrame)
    frame.write_ipc(tmp_path / "a.arrow", compression=compression)
    result = read(tmp_path / "a.arrow")
    assert result.source.symbols == ["A", "B", "C"]
    assert result.close.tolist() == frame["close"].to_list()


def test_nulls_are_found_wherever_a_slice_begins() -> None:
    values = [None if i % 3 == 0 else float(i) for i in range(100)]
    whole = pa.array(values)
    for start in range(40):
        for length in (1, 7, 8, 9, 60):
            part = whole.slice(start, length)
            nulls = inputs.nulls_of(part)
            found = [False] * length if nulls is None else nulls.tolist()
            assert found == [value is None for value in values[start : start + length]]


def test_the_search_for_a_broken_line_ends_with_the_iterator(tmp_path: Path) -> None:
    """It goes through the file in Python: seconds for one of millions of bars."""
    path = text(tmp_path / "a.csv", csv_bars(*["2024-05-06 13:30"] * 50_000) + "2024-05-06 13:30,1,2\n")
    source = open_bars(path, ReadOptions(tz="UTC"))._inputs[0]
    error = pa.ArrowInvalid("CSV parse error: Expected 5 columns, got 3")
    assert isinstance(source, csv.CsvInput)
    assert "row 50,001 (line 50,002) has 3 fields" in str(source.damage(error))
    asked = 0

    def stopped() -> bool:
        nonlocal asked
        asked += 1
        return asked > 100

    source.stopped = stopped
    assert "is damaged" in str(source.damage(error))
    assert asked == 101


# Options


def test_options_survive_their_record() -> None:
    options = ReadOptions(
        columns="A=open,B=oi",
        keep=("oi", "volume"),
        tz="Asia/Tokyo",
        time_format="%Y%m%d",
        stamp="close",
        segment_by=("symbol", "contract"),
    )
    assert options.columns == {"A": "open", "B": "oi"}
    assert ReadOptions.from_record(options.record()) == options
    assert ReadOptions.from_record(ReadOptions().record()) == ReadOptions()
    with pytest.raises(FrozenInstanceError):
        options.tz = None  # type: ignore[misc]
    with pytest.raises(ConfigError, match="read_options: must hold exactly"):
        ReadOptions.from_record({"tz": None})


def test_options_may_be_texts_as_on_the_command_line() -> None:
    options = ReadOptions(keep="volume, oi", segment_by="symbol,contract")  # type: ignore[arg-type]
    assert options.keep == ("volume", "oi")
    assert options.segment_by == ("symbol", "contract")
    assert ReadOptions(segment_by=("contract",)).segment_by == ("symbol", "contract")
    assert ReadOptions(columns={0: "open"}).columns == {"0": "open"}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("options", "name", "substance"),
    [
        ({"columns": "A"}, "columns", "'A' has no '='"),
        (
            {"columns": "A=opne"},
            "columns",
            "'opne' is no role",
        ),
        ({"columns": "A=opne"}, "columns", "did you mean 'open'?"),
        ({"columns": "A=open,A=close"}, "columns", "column 'A' is given two roles"),
        ({"columns": "A=open,B=open"}, "columns", "role 'open' is given to two columns"),
        ({"columns": 3}, "columns", "must map file columns to roles"),
        ({"columns": {"A": 3}}, "columns", "must map column names to roles"),
        ({"keep": ("close",)}, "keep", "'close' is read in any case"),
        ({"keep": ("a", "a")}, "keep", "names a column twice"),
        ({"keep": 3}, "keep", "must be names"),
        ({"tz": "America/NewYork"}, "tz", "did you mean America/New_York?"),
        ({"tz": "berlin"}, "tz", "Europe/Berlin"),
        ({"tz": "utc"}, "tz", "did you mean UTC"),
        ({"tz": "Mars"}, "tz", "'Mars' is not a time zone"),
        ({"tz": 3}, "tz", "use a name such as UTC"),
        ({"time_format": "%H:%M"}, "time_format", "lacks the year"),
        ({"time_format": "%Q"}, "time_format", "%Q"),
        ({"time_format": 3}, "time_format", "must be text"),
        ({"stamp": "end"}, "stamp", "must be 'open' or 'close', not 'end'"),
        ({"segment_by": ("sector",)}, "segment_by", "must be symbol, or symbol,contract"),
        ({"segment_by": ()}, "segment_by", "must be symbol"),
    ],
)
def test_senseless_options(options: dict[str, Any], name: str, substance: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ReadOptions(**options)
    assert caught.value.name == name
    assert substance in str(caught.value)


# Real bars


@pytest.mark.skipif(not SHARED, reason="needs the real bars: set MOOLA_SHARED")
class TestRealBars:
    def test_bitcoin(self) -> None:
        for name, first in (("btcusdt", 23140.48), ("btcusdc", 23143.82)):
            result = read(DATA / f"{name}_1min_2023-03.csv", keep=("volume",))
            assert len(result.open) == 30_240
            assert result.timestamp[[0, -1]].tolist() == [utc("2023-03-01T00:00"), utc("2023-03-21T23:59")]
            assert result.open[0] == first
            assert result.source.counts == {}

    def test_sp500(self) -> None:
        path = DATA / "sp500_1min_2019-11.csv"
        result = read(path, tz="America/New_York", time_format="%m/%d/%Y %H:%M")
        assert len(result.open) == 1563
        assert result.timestamp[0] == utc("2019-11-05T14:30")
        assert (result.open[0], result.high[0], result.low[0], result.close[0]) == (
            3080.8,
            3081.47,
            3080.3,
            3080.49,
        )
        refused(
            path,
            "row 1 (line 2)",
            "'11/5/2019 9:30'",
            "--time-format '%m/%d/%Y %H:%M'",
            tz="America/New_York",
        )


def test_every_public_name_exists() -> None:
    assert all(hasattr(bars, name) for name in bars.__all__)
