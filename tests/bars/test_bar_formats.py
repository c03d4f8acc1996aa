"""Formats of bars: each gives the same bars with any delimiters, line ends, compression and batches."""

from __future__ import annotations

import bz2
import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pytest
from bar_files import FORMATS, MINUTE, START, check_usual, csv_bars, read, refused, table, text, write

from moola.bars.formats import arrow, inputs
from moola.bars.source import open_bars


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
def test_other_compressions_are_read(tmp_path: Path, compress: Callable[[bytes], Any], suffix: str) -> None:
    path = write(table(), tmp_path / "bars.csv")
    check_usual(read(text(tmp_path / f"b.csv.{suffix}", bytes(compress(path.read_bytes())))))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quotes", ["none", "needed"])
def test_delimiters_are_detected(tmp_path: Path, delimiter: str, quotes: str) -> None:
    check_usual(read(write(table(), tmp_path / "bars.csv", delimiter=delimiter, quoting_style=quotes)))


def test_decimal_commas_between_semicolons_are_read(tmp_path: Path) -> None:
    rows = "Date;Open;High;Low;Close\n2024-05-06T13:30Z;100,25;101,0;99;100,5\n"
    result = read(text(tmp_path / "a.csv", rows))
    assert (result.open[0], result.high[0], result.low[0], result.close[0]) == (100.25, 101, 99, 100.5)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n\n"])
def test_byte_order_marks_and_line_ends_are_handled(tmp_path: Path, newline: str, start: str) -> None:
    content = start + csv_bars("2024-05-06T13:30:00Z", "2024-05-06T13:31:00Z")
    result = read(text(tmp_path / "a.csv", content.replace("\n", newline)))
    np.testing.assert_array_equal(result.timestamp, [START, START + MINUTE])
    assert result.close.tolist() == [2, 3]


def test_blank_lines_are_skipped(tmp_path: Path) -> None:
    content = csv_bars("2024-05-06T13:30Z", "2024-05-06T13:31Z").replace("\n", "\n\n")
    assert read(text(tmp_path / "a.csv", content)).rows == [0, 1]


def test_only_needed_columns_are_read(tmp_path: Path) -> None:
    latin = csv_bars("2024-05-06T13:30Z").replace("close", "close,Währung").replace(",2\n", ",2,\u00e4\n")
    assert read(text(tmp_path / "a.csv", latin.encode("latin-1"))).close.tolist() == [2]
    nested = table(2, odd=[{"a": 1}, {"a": 2}])
    assert len(read(write(nested, tmp_path / "a.parquet")).open) == 2


@pytest.mark.parametrize("suffix", FORMATS)
def test_column_names_with_dots_and_blanks_work(tmp_path: Path, suffix: str) -> None:
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


# Quotes in CSV


def _with_open_quote(path: Path, rows: int, row: int, column: int) -> Path:
    """Minute bars with volumes. A quote opens a value of one row (counted from 1) and is never closed."""
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
def test_unclosed_quotes_are_refused(tmp_path: Path, rows: int, row: int, column: int) -> None:
    """The rest of a large file in one value exceeds the limit of Python's csv, and Arrow loses it silently."""
    path = _with_open_quote(tmp_path / "a.csv", rows, row, column)
    refused(path, "a.csv: ", f"line {row + 1:,}", "quote", "download")


def test_unclosed_quotes_in_a_header_are_refused(tmp_path: Path) -> None:
    header = 'timestamp,open,high,low,close,"volume\n'
    path = text(tmp_path / "a.csv", header + "2024-05-06T13:30:00Z,1,3,1,2,5\n" * 9_000)
    refused(path, "a.csv: line 1 opens a quote that is not closed", "Close the quote")


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_a_quote_inside_an_unquoted_value_is_plain_text(tmp_path: Path, suffix: str) -> None:
    content = csv_bars("2024-05-06T13:30:00Z", "2024-05-06T13:31:00Z").replace("2\n", '2,5" pipe\n', 1)
    content = content.replace("close\n", "close,note\n").replace("3\n", "3,\n")
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(gzip.compress(content.encode()) if suffix == "csv.gz" else content.encode())
    assert len(read(path).close) == 2


# Arrow files


@pytest.mark.parametrize("stream", [False, True])
def test_one_large_arrow_batch_is_read_slice_by_slice(tmp_path: Path, stream: bool) -> None:
    """Memory must not grow by a copy of 160 MB or by a map of the file."""
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
# Streams of the legacy kind have no recognisable beginning.
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
def test_arrow_files_written_by_polars_are_read(tmp_path: Path, compression: Any) -> None:
    """They lack the end mark of the messages, and begin with an irregular mark."""
    frame = pl.from_arrow(table(300, symbol=["A", "B", "C"] * 100))
    assert isinstance(frame, pl.DataFrame)
    frame.write_ipc(tmp_path / "a.arrow", compression=compression)
    result = read(tmp_path / "a.arrow")
    assert result.source.symbols == ["A", "B", "C"]
    assert result.close.tolist() == frame["close"].to_list()


def test_nulls_are_found_at_any_slice_offset() -> None:
    values = [None if i % 3 == 0 else float(i) for i in range(100)]
    whole = pa.array(values)
    for start in range(40):
        for length in (1, 7, 8, 9, 60):
            part = whole.slice(start, length)
            nulls = inputs.nulls_of(part)
            found = [False] * length if nulls is None else nulls.tolist()
            assert found == [value is None for value in values[start : start + length]]
