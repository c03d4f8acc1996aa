"""Sources of bars: several files, symbols and contracts, and the thread that reads ahead."""

from __future__ import annotations

import gc
import itertools
import signal
import subprocess
import sys
import threading
import time as clock
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from bar_files import DATA, FORMATS, SHARED, check_usual, csv_bars, read, refused, table, text, utc, write

from moola.bars.formats import csv, inputs
from moola.bars.options import ReadOptions
from moola.bars.source import BarSource, Batch, open_bars

# Several files, directories, partitions


def test_several_files_are_read_in_the_given_order(tmp_path: Path) -> None:
    data = table(6)
    a = write(data.slice(0, 2), tmp_path / "z.csv")
    b = write(data.slice(2, 3), tmp_path / "b.parquet")
    c = write(data.slice(5, 1), tmp_path / "a.arrow")
    result = read([a, str(b), c], one_series=True)
    check_usual(result, 6)
    assert [batch.file for batch in result.batches] == [0, 1, 2]
    assert [file.rows for file in result.source.files] == [2, 3, 1]
    assert result.source.label(1) == str(b)


def test_files_may_differ_in_columns(tmp_path: Path) -> None:
    data = table(4)
    write(data.slice(0, 2).select(["close", "low", "timestamp", "high", "open"]), tmp_path / "a.parquet")
    late = data.slice(2).rename_columns(["Date", "O", "H", "L", "C"]).append_column("more", [[1, 2]])
    write(late, tmp_path / "b.parquet")
    check_usual(read(tmp_path, one_series=True), 4)


def test_a_directory_is_read_in_name_order_and_recursively(tmp_path: Path) -> None:
    data = table(6)
    write(data.slice(4), tmp_path / "c.csv.gz")
    (tmp_path / "a").mkdir()
    write(data.slice(0, 2), tmp_path / "a" / "b.parquet")
    write(data.slice(2, 2), tmp_path / "b.csv")
    text(tmp_path / "README.md", "# not bars")
    text(tmp_path / "_metadata.parquet", "not read")
    text(tmp_path / ".hidden" / "x.csv", "not read")
    check_usual(read(tmp_path, one_series=True), 6)


def test_partitions_name_symbols(tmp_path: Path) -> None:
    for folder in ("symbol=ES", "symbol=BTC%2FUSD"):
        (tmp_path / folder).mkdir()
        write(table(2), tmp_path / folder / "0.parquet")
    result = read(tmp_path)
    assert result.symbol == ["BTC/USD", "BTC/USD", "ES", "ES"]
    assert result.source.symbols == ["BTC/USD", "ES"]
    alone = read(tmp_path / "symbol=ES")
    assert alone.symbol == ["ES", "ES"]


def test_partition_columns_can_be_mapped(tmp_path: Path) -> None:
    folder = tmp_path / "asset=ES" / "contract=ESM4"
    folder.mkdir(parents=True)
    write(table(2), folder / "0.csv")
    result = read(tmp_path, columns={"asset": "symbol"}, segment_by=("symbol", "contract"))
    assert (result.symbol, result.contract) == (["ES"] * 2, ["ESM4"] * 2)


def test_symbols_in_some_files_only_are_refused(tmp_path: Path) -> None:
    a = write(table(2, symbol=["A", "A"]), tmp_path / "a.csv")
    b = write(table(2), tmp_path / "b.csv")
    refused([a, b], "b.csv: has no symbol column", "a.csv has one", "--columns FILE_COLUMN=symbol")


def test_directories_without_bars_are_refused(tmp_path: Path) -> None:
    refused(tmp_path, str(tmp_path), "holds no Parquet, CSV or Arrow files", ".parquet")
    text(tmp_path / "metadata.json", "{}")
    text(tmp_path / "checksums.b3", "")
    refused(tmp_path, "is a feature store, not bars", "Give the bars it was built from")


# Symbols and contracts


@pytest.mark.parametrize("suffix", FORMATS)
def test_symbol_columns_are_found(tmp_path: Path, suffix: str) -> None:
    result = read(write(table(4, Ticker=["B", "A", "B", "007"]), tmp_path / f"a.{suffix}"))
    assert result.symbol == ["B", "A", "B", "007"]
    assert result.source.symbols == ["B", "A", "007"]
    assert result.contract == []


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()), pa.binary()],
    ids=str,
)
def test_symbol_types_are_converted(tmp_path: Path, kind: pa.DataType) -> None:
    data = table(3, symbol=pa.array(["B", "A", "B"], pa.string()).cast(kind))
    assert read(data).symbol == ["B", "A", "B"]
    assert read(write(data, tmp_path / "a.arrow")).symbol == ["B", "A", "B"]


def test_symbols_that_are_numbers_become_text() -> None:
    assert read(table(2, symbol=[600519, 7])).symbol == ["600519", "7"]


def test_unused_categories_are_not_symbols() -> None:
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
def test_rows_without_a_symbol_are_refused(tmp_path: Path, suffix: str) -> None:
    path = write(table(3, symbol=["A", None, "A"]), tmp_path / f"a.{suffix}")
    refused(path, f"a.{suffix}: row 2 has no symbol", "Fill the symbol column")


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


def test_reading_starts_without_heavy_imports(tmp_path: Path) -> None:
    """The usual file needs neither pandas nor Arrow's compute functions. Importing either takes longer than
    reading it."""
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
    """One row group of 4 million bars, 160 MB of columns, is never held whole in memory."""
    n = 4_000_000
    pq.write_table(
        table(n), tmp_path / "a.parquet", row_group_size=n, compression="none", use_dictionary=False
    )
    before = pa.total_allocated_bytes()
    most = 0
    for _ in open_bars(tmp_path / "a.parquet").batches():
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 64 << 20


def test_the_search_for_a_broken_line_ends_with_the_iterator(tmp_path: Path) -> None:
    """The search reads the file in Python, which takes seconds for millions of bars."""
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


# Real bars


@pytest.mark.skipif(not SHARED, reason="needs the real bars: set MOOLA_SHARED")
class TestRealBars:
    def test_bitcoin_bars_are_read(self) -> None:
        for name, first in (("btcusdt", 23140.48), ("btcusdc", 23143.82)):
            result = read(DATA / f"{name}_1min_2023-03.csv", keep=("volume",))
            assert len(result.open) == 30_240
            assert result.timestamp[[0, -1]].tolist() == [utc("2023-03-01T00:00"), utc("2023-03-21T23:59")]
            assert result.open[0] == first
            assert result.source.counts == {}

    def test_sp500_bars_are_read(self) -> None:
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
