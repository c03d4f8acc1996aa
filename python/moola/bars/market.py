"""Makes the sample market: one-minute bars like those of an index future, for trying moola without a data vendor.

The bars resemble a market only where features look. A model trained on them says nothing about real markets.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from moola import _core
from moola._core import SampleBars
from moola.errors import ConfigError
from moola.files.publishing import replacing_file
from moola.settings.whole_numbers import whole_number

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SampleMarket", "make_bars"]

BARS = 1_818_450
"""Five years: the bars from Sunday, 7 June 2020 to Monday, 30 June 2025."""

ROW_GROUP = 128 * 1024
"""Bars made and written at a time, so that memory stays bounded."""

WRITERS = (".parquet", ".csv", ".csv.gz")


class SampleMarket(NamedTuple):
    """A summary of what :func:`make_bars` has written."""

    output: Path
    bars: int
    """Rows in the file: those of all symbols."""
    symbols: list[str]
    """Their names; empty where there is no symbol column."""
    first_timestamp: int
    """The first bar's time, UTC nanoseconds."""
    last_timestamp: int
    """The last bar's time, UTC nanoseconds; that of the latest symbol."""
    expansions: Path | None
    """The file of labels, where one was asked for."""
    labels: int
    """How many expansions it lists."""


def make_bars(
    output: str | os.PathLike[str],
    bars: int = BARS,
    *,
    seed: int = 17,
    symbols: int | None = None,
    expansions: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> SampleMarket:
    """Writes a sample market of one-minute bars. The same seed gives the same bars on every machine.

    Trading runs from 17:00 to 16:00 the next day, Chicago time, Sunday to Friday, from Sunday, 7 June 2020;
    as the US changes its clocks, the daily break moves by an hour in UTC. Prices lie on a tick of 0.25.
    Volatility clusters and follows the time of day; there are trends, consolidations, bars without a range
    and missing minutes. A shorter run is the beginning of a longer one, and a symbol's bars do not depend on
    how many symbols there are.

    Columns: `timestamp` (UTC, the bar's open time), `symbol` where `symbols` is given, `open`, `high`, `low`,
    `close` (float64) and `volume` (int64).

    With `expansions`, directional surges of 6 to 30 bars are planted, about one in 2,700 bars, each after a
    consolidation or after a retracement of an earlier move in its direction. They are listed in that file:
    `symbol` (`""` without a symbol column), `window_end` (the last bar of a 105-bar window that lies in one
    session and shows the surge with what it follows), `class` (`"consolidation"` or `"retracement"`), `start`
    and `end` (the surge's first and last bar). All three are times of bars. A surge whose window goes beyond
    the last bar is not listed.

    Args:
        output: The file to write or replace: `.parquet`, `.csv` or `.csv.gz`. It appears when it is complete.
        bars: How many bars each symbol has, 1 to 80,000,000.
        seed: 0 to 2**64 - 1.
        symbols: How many symbols, named SIM1, SIM2, …, one after the other in the file. None: one series, and
            no symbol column.
        expansions: The file of labels, of the same kinds as `output`.
        progress: Called with the bars written and the bars to write.

    Returns:
        What was written.

    Raises:
        ConfigError: An argument of the wrong type or out of range, or a path that cannot be written to.
        StoreWriteError: The file system refused, for instance because the disk is full; nothing was left behind.
    """
    bars = whole_number("bars", bars, 1, SampleBars.MAX_BARS)
    seed = whole_number("seed", seed, 0, 2**64 - 1)
    count = 1 if symbols is None else whole_number("symbols", symbols, 1, 2**31 - 1)
    output = _target("output", output)
    if expansions is not None:
        expansions = _target("expansions", expansions)
        if expansions.absolute() == output.absolute():
            problem = f"{expansions} is the output itself"
            raise ConfigError("expansions", f"{problem}. Give the labels a file of their own")

    import numpy as np
    import pyarrow as pa

    # Everything is imported before a file exists, because some imports swallow an interrupt.
    _core.load_numpy()
    import_module("pyarrow.parquet" if _kind(output) == ".parquet" else "pyarrow.csv")
    names = [] if symbols is None else [f"SIM{k + 1}" for k in range(count)]
    schema = _bar_schema(pa, with_symbol=bool(names))
    labels: dict[str, list[Any]] = {name: [] for name in ("symbol", "window_end", "class", "start", "end")}
    first = last = 0
    written = 0
    with replacing_file(output) as temporary, _writer(temporary, output, schema) as writer:
        waiting: list[pa.RecordBatch] = []
        rows = 0
        for k in range(count):
            source = SampleBars(seed, k, expansions is not None)
            for start in range(0, bars, ROW_GROUP):
                n = min(ROW_GROUP, bars - start)
                time, *columns = source.take(n)
                first = int(time[0]) if k == start == 0 else first
                last = max(last, int(time[-1]))
                arrays = [pa.array(time, pa.timestamp("ns", "UTC")), *map(pa.array, columns)]
                if names:
                    codes = pa.array(np.zeros(n, dtype=np.int32))
                    arrays.insert(1, pa.DictionaryArray.from_arrays(codes, [names[k]]))
                waiting.append(pa.record_batch(arrays, schema=schema))
                rows += n
                # Many short series share a row group; a long series fills several.
                if rows >= ROW_GROUP or (k == count - 1 and start + n == bars):
                    writer.write_table(pa.Table.from_batches(waiting).unify_dictionaries())
                    written += rows
                    waiting, rows = [], 0
                    if progress is not None:
                        progress(written, bars * count)
            for kind, window_end, begin, end in source.take_expansions():
                row = (names[k] if names else "", window_end, kind, begin, end)
                for column, value in zip(labels.values(), row, strict=True):
                    column.append(value)
        if expansions is not None:
            table = pa.table(labels, schema=_label_schema(pa))
            with (
                replacing_file(expansions) as beside,
                _writer(beside, expansions, table.schema) as label_writer,
            ):
                label_writer.write_table(table)
    return SampleMarket(output, written, names, first, last, expansions, len(labels["end"]))


def _bar_schema(pa: Any, *, with_symbol: bool) -> pa.Schema:
    symbol = [("symbol", pa.dictionary(pa.int32(), pa.string()))] if with_symbol else []
    prices = [(name, pa.float64()) for name in ("open", "high", "low", "close")]
    return pa.schema([("timestamp", pa.timestamp("ns", "UTC")), *symbol, *prices, ("volume", pa.int64())])


def _label_schema(pa: Any) -> pa.Schema:
    time = pa.timestamp("ns", "UTC")
    columns = {"symbol": pa.string(), "window_end": time, "class": pa.string(), "start": time, "end": time}
    return pa.schema(list(columns.items()))


def _kind(path: Path) -> str | None:
    return next((suffix for suffix in reversed(WRITERS) if path.name.lower().endswith(suffix)), None)


def _target(name: str, path: str | os.PathLike[str]) -> Path:
    target = Path(path)
    if target.is_dir():
        example = target / f"{'bars' if name == 'output' else 'labels'}.parquet"
        raise ConfigError(name, f"{target} is a directory. Name a file in it, such as {example}")
    if _kind(target) is None:
        problem = f"{target.name!r} does not say which format to write"
        raise ConfigError(name, f"{problem}. Let the name end in {', '.join(WRITERS[:-1])} or {WRITERS[-1]}")
    if not target.parent.is_dir():
        raise ConfigError(name, f"there is no directory {target.parent}. Create it first")
    return target


class _Writer(Protocol):
    def write_table(self, table: pa.Table) -> object: ...


@contextmanager
def _writer(path: Path, name: Path, schema: pa.Schema) -> Iterator[_Writer]:
    """Writes tables to `path` in the format that `name` ends in."""
    kind = _kind(name)
    if kind == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        # A few prices and symbols repeat often; times never do.
        repeating = [field.name for field in schema if not pa.types.is_timestamp(field.type)]
        with pq.ParquetWriter(path, schema, use_dictionary=repeating) as parquet:
            yield parquet
    else:
        with _CsvWriter(path, schema, compressed=kind == ".csv.gz") as csv:
            yield csv


class _CsvWriter:
    """Writes times as `2020-06-07 22:00:00Z`, because bars begin on whole seconds."""

    def __init__(self, path: Path, schema: pa.Schema, *, compressed: bool) -> None:
        import pyarrow as pa
        import pyarrow.csv

        def written_as(kind: pa.DataType) -> pa.DataType:
            if pa.types.is_timestamp(kind):
                return pa.timestamp("s", "UTC")
            return kind.value_type if pa.types.is_dictionary(kind) else kind

        self._schema = pa.schema([(field.name, written_as(field.type)) for field in schema])
        self._file = pa.output_stream(path, compression="gzip" if compressed else None)
        options = pa.csv.WriteOptions(quoting_style="none")
        self._csv = pa.csv.CSVWriter(self._file, self._schema, write_options=options)

    def write_table(self, table: pa.Table) -> None:
        self._csv.write_table(table.cast(self._schema))

    def __enter__(self) -> _CsvWriter:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._csv.close()
        finally:
            self._file.close()
