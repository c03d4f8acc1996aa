"""A source of bars: opens files or Arrow objects and yields batches of plain columns."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from moola import _core
from moola.bars.columns import Layout, find_layout, listed
from moola.bars.date_and_time import DateAndTime
from moola.bars.formats.csv import CsvInput
from moola.bars.formats.finding import find_files
from moola.bars.formats.inputs import BATCH_ROWS, Input, text_of
from moola.bars.formats.lines import LineFinder
from moola.bars.formats.numbers import thousands_sign
from moola.bars.formats.opening import open_files
from moola.bars.formats.stream import StreamInput, is_table
from moola.bars.naming import check_one_series, name_symbols
from moola.bars.options import ReadOptions
from moola.bars.read_ahead import read_ahead
from moola.bars.symbols import Names, SymbolFilter, first_other
from moola.bars.telling import telling_column
from moola.bars.time_formats import format_advice
from moola.bars.times import Clock, DateOrder
from moola.bars.zones import zone_note
from moola.errors import InputError, Problem
from moola.errors.base import format_time
from moola.files.identity import FileIdentity, identity_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BarSource", "Batch", "SourceFile", "open_bars"]


MAX_SAMPLES = 20
"""At most this many problems of each kind are kept as samples; all are counted."""

_SHEET_DAYS = (-2_209_161_600 * 10**9, -2_082_758_400 * 10**9)
"""1899-12-30 to 1904-01-02: the days from which spreadsheets count lie between."""

_TIME_PROBLEMS = {
    _core.TIME_UNREADABLE: "bad_timestamp",
    _core.TIME_AMBIGUOUS: "ambiguous_time",
    _core.TIME_NONEXISTENT: "nonexistent_time",
}


class Batch(NamedTuple):
    """Consecutive bars of one file; n is the same for every array."""

    file: int
    """Index into `BarSource.files`."""
    first_row: int
    """Row of the first bar in its file, counted from 0."""
    rows: NDArray[np.int64] | None
    """[n] the row of every bar, where some rows were left out; None where rows are consecutive."""
    timestamp: NDArray[np.int64]
    """[n] UTC nanoseconds; the smallest int64 where the file has none."""
    open: NDArray[np.float64]
    """[n] NaN where the file has no value."""
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    extra: list[NDArray[np.float64]]
    """One [n] array for each kept column, in the order of `ReadOptions.keep`."""
    symbol: NDArray[np.int32] | None
    """[n] index into `BarSource.symbols`; None where bars have no symbol."""
    contract: NDArray[np.int32] | None
    """[n] index into `BarSource.contracts`; None unless segments are divided by contract."""


@dataclass
class SourceFile:
    """A file (or stream) that bars are read from."""

    name: str
    """Its name in messages."""
    path: Path | None
    """None for a stream."""
    rows: int = 0
    """Rows read so far, those left out included."""
    timestamp: str = ""
    """The notation of its times, such as ``epoch ms`` or ``%m/%d/%Y %H:%M in America/New_York``."""
    identity: FileIdentity | None = None
    """The file before it was opened; None for a stream."""

    def check_unchanged(self) -> None:
        """Raises `InputError` when the file was replaced or written since it was opened."""
        if self.path is not None and identity_of(self.path) != self.identity:
            raise InputError(
                "changed while it was read", "Wait until it is written, then start again", source=self.name
            )


def open_bars(bars: object, options: ReadOptions | None = None) -> BarSource:
    """Opens a source and finds its columns, without reading its bars.

    Args:
        bars: a path, several, or any object with ``__arrow_c_stream__`` (pyarrow, pandas, polars, DuckDB). A
            directory stands for the Parquet, CSV and Arrow files in it, sorted by name; directories named
            ``symbol=…`` give the symbol of what lies in them. A pattern such as ``lake/**/*.csv.gz`` stands for the
            files that it matches, a ZIP archive for the CSV files in it.
        options: how to read it.

    Raises:
        InputError: there is no such file, or it cannot be read as bars; `InputMissingError` and
            `InputDeniedError` are also FileNotFoundError and PermissionError.
        TypeError: `bars` is neither a path, nor several, nor such an object.
    """
    options = options or ReadOptions()
    inputs: list[Input]
    if isinstance(bars, str | os.PathLike):
        inputs = _open_paths([bars], options)
    elif is_table(bars):
        inputs = [StreamInput(bars)]
    elif isinstance(bars, Sequence) and bars and all(isinstance(path, str | os.PathLike) for path in bars):
        inputs = _open_paths(bars, options)
    else:
        what = "an empty sequence" if isinstance(bars, Sequence) and not bars else f"a {type(bars).__name__}"
        raise TypeError(
            "bars must be a path, a sequence of paths, or an object with __arrow_c_stream__ (a pyarrow "
            f"Table, a pandas or polars DataFrame, a DuckDB relation), not {what}"
        )
    return BarSource(inputs, options)


def _open_paths(paths: Sequence[str | os.PathLike[str]], options: ReadOptions) -> list[Input]:
    files = [path for given in paths for path in find_files(Path(given))]
    inputs = [source for path in files for source in open_files(path, text=options.text)]
    if options.symbol_from_name is not None:
        name_symbols(inputs, options.symbol_from_name)
    return inputs


class BarSource:
    """A source of bars, made by :func:`open_bars`.

    Attributes:
        files: the files, in the order in which they are read.
        symbols, contracts: the names that codes in batches stand for; they grow while batches are read.
        keep: names of the columns in `Batch.extra`.
        counts: how many rows were refused so far, by kind of problem (see `moola.errors.KINDS`).
        notes: what was left out or taken for granted so far, in sentences for a person to read.
        samples: the first 20 problems of each kind, with the index of their file. Lines are left out: they take time.
        rereadable: whether :meth:`batches` may be called more than once.
    """

    def __init__(self, inputs: Sequence[Input], options: ReadOptions) -> None:
        self._inputs = inputs
        self._options = options
        self._layouts = [find_layout(source, options) for source in inputs]
        self._check_agreement()
        if options.symbols or options.exclude_symbols:
            for source, layout in zip(inputs, self._layouts, strict=True):
                if not layout.has("symbol"):
                    raise source.refusal(
                        "has no symbol to choose by --symbols or --exclude-symbols",
                        "Name its column with --columns FILE_COLUMN=symbol, or leave the option out",
                    )
        if not options.one_series and not any(layout.has("symbol") for layout in self._layouts):
            check_one_series(inputs)
        self.files = [SourceFile(source.name, source.path, identity=source.identity) for source in inputs]
        self.symbols: list[str] = []
        self.contracts: list[str] = []
        self.keep = list(options.keep)
        self.counts: dict[str, int] = {}
        self.rereadable = all(source.rereadable for source in inputs)
        self.samples: list[tuple[int, Problem]] = []
        self._names = {"symbol": Names(self.symbols), "contract": Names(self.contracts)}
        self._filter = SymbolFilter(options.symbols, options.exclude_symbols)
        self._started = False
        self._decimal: tuple[str, str] | None = None
        self._lines = LineFinder()

    @property
    def notes(self) -> list[str]:
        """What was left out or taken for granted so far, in sentences for a person to read."""
        found: dict[str, list[str]] = {}
        for source in self._inputs:
            for note in source.notes:
                found.setdefault(note, []).append(source.name)
        notes = [
            f"{names[0]}: {note}" if len(names) == 1 else f"{len(names):,} files, such as {names[0]}: {note}"
            for note, names in found.items()
        ]
        return [*notes, *filter(None, [zone_note(self._options.tz), self._filter.note()])]

    @property
    def rows_of_other_symbols(self) -> int:
        """Rows that `ReadOptions.symbols` and `ReadOptions.exclude_symbols` left out so far."""
        return self._filter.rows

    def _check_agreement(self) -> None:
        """Refuses files of which only some have a symbol or a contract."""
        for role in ("symbol", "contract"):
            has = [layout.has(role) for layout in self._layouts]
            if any(has) and not all(has):
                lacking, having = self._inputs[has.index(False)], self._inputs[has.index(True)]
                raise lacking.refusal(
                    f"has no {role} column, while {having.name} has one",
                    f"Read them apart, or name the column with --columns FILE_COLUMN={role}",
                )

    @property
    def problems(self) -> list[Problem]:
        """The first 20 refused rows of each kind, with their lines where the file is CSV."""
        return [replace(problem, line=self.locate(file, problem.row - 1)) for file, problem in self.samples]

    def label(self, file: int) -> str:
        """The name of a file in messages."""
        return self.files[file].name

    def locate(self, file: int, row: int) -> int | None:
        """The line (from 1) on which a row (from 0) of a CSV file starts; None for other formats.

        Reads the file up to that row, so ask for rows of a file in ascending order.
        """
        source = self._inputs[file]
        return self._lines.find(source, row) if isinstance(source, CsvInput) else None

    def given_times(self, bars: Sequence[tuple[int, int]]) -> list[str | None]:
        """The times of bars, each given by file and row (from 0), as the files have them. None where a stream is spent.

        Reads the files up to these rows once more.
        """
        found: dict[tuple[int, int], str] = {}
        for file in {file for file, _ in bars}:
            source, layout = self._inputs[file], self._layouts[file]
            rows = sorted(row for of, row in bars if of == file)
            first = 0
            for raw in source.read(layout.columns, layout.numbers) if source.rereadable else ():
                column = raw.column(layout.at(layout.timestamp))
                while rows and rows[0] < first + raw.num_rows:
                    found[file, rows[0]] = text_of(column[rows[0] - first])
                    rows.pop(0)
                first += raw.num_rows
                if not rows:
                    break
            source.close()
        return [found.get(bar) for bar in bars]

    def place(self, file: int, row: int) -> str:
        """The place of a row (from 0) in words: its file, its number from 1 and, in a text file, its line."""
        line = self.locate(file, row)
        return f"{self.label(file)}, row {row + 1:,}" + (f" (line {line:,})" if line else "")

    def advice(self, problems: Sequence[Problem]) -> dict[str, str]:
        """Advice made from refused bars, by kind of problem, for the kinds where the bars themselves tell more.

        For times that come again: the column that would tell instruments apart. For times that cannot be read: a format
        that reads them.
        """
        advice: dict[str, str] = {}
        kinds = {problem.kind for problem in problems}
        repeated = kinds & {"duplicate_timestamp", "out_of_order"}
        if repeated and not self.symbols and (column := self._telling_column()) is not None:
            names = self._inputs[0].names
            name = names[column]
            known = name if name and names.count(name) == 1 and not name.isdecimal() else column
            said = f"column {name!r} tells instruments apart: give --columns {shlex.quote(f'{known}=symbol')}"
            advice |= dict.fromkeys(repeated, said)
        for problem in problems:
            if problem.kind == "bad_timestamp":
                value = str(problem.value)
                known = any(sign.isdecimal() for sign in value)
                no_bar = "Remove the row: it is no bar, but perhaps a footer or a header"
                advice.setdefault(problem.kind, format_advice(value) if known else no_bar)
            elif problem.kind == "not_a_number" and (sign := thousands_sign(str(problem.value))):
                said = f"say that this sign parts thousands: --thousands {shlex.quote(sign)}"
                advice.setdefault(problem.kind, said)
        return advice

    def _telling_column(self) -> int | None:
        """The column of the first file that would tell instruments apart."""
        layout, clock = self._layouts[0], self._clocks(lambda: False)[0]
        return telling_column(self._inputs[0], layout, lambda raw, row: self._times(raw, layout, clock, row))

    def batches(self) -> Generator[Batch]:
        """Reads all bars, file by file, in batches of at most 131,072.

        The next two batches are decoded in a thread while the caller works on this one; the thread ends with
        the iterator. Rows without a readable time, or with text for a price, are left out and counted in
        `counts`.

        Raises:
            InputError: a file turned out to be damaged, empty or not bars; or it was a stream read before.
        """
        if self._started and not self.rereadable:
            raise InputError(
                "a stream can be read only once",
                "Hand over a table, or save it to a file",
                source=self.label(0),
            )
        self._started = True
        self._filter.rows = 0
        self._decimal = None
        self.counts.clear()
        self.samples.clear()
        for file in self.files:
            file.rows = 0
        return read_ahead(self._decode)

    def _decode(self, stopped: Callable[[], bool]) -> Generator[Batch]:
        for source in self._inputs:
            source.stopped = stopped
        try:
            clocks = self._clocks(stopped)
            if stopped():
                return
            for file, (source, layout, clock) in enumerate(
                zip(self._inputs, self._layouts, clocks, strict=True)
            ):
                for raw in source.read(layout.columns, layout.numbers, _dictionaries(layout)):
                    for start in range(0, raw.num_rows, BATCH_ROWS):
                        part = raw.slice(start, BATCH_ROWS) if raw.num_rows > BATCH_ROWS else raw
                        batch = self._batch(file, part, layout, clock)
                        if len(batch.timestamp):
                            yield batch
                self._check_decimals(source)
                if not self.files[file].rows:
                    raise source.refusal("holds no bars", "Leave it out, or check how it was made")
            if self._filter.active and not any(map(self._filter.wants, self.symbols)):
                raise InputError(
                    f"no symbol is left by --symbols and --exclude-symbols; there are {listed(self.symbols)}",
                    "Correct the patterns: * stands for any text, and case counts",
                )
        finally:
            for source in self._inputs:
                source.close()

    def _batch(self, file: int, raw: Any, layout: Layout, clock: Clock | DateAndTime) -> Batch:
        """Decodes a record batch whose columns are `layout.columns`."""
        first_row = self.files[file].rows
        self.files[file].rows += raw.num_rows
        codes = {
            role: self._name_codes(file, role, raw, layout, first_row) for role in ("symbol", "contract")
        }
        out = self._filter.unwanted(codes["symbol"], self.symbols)
        self._check_agreeing(file, raw, layout, first_row)
        times = self._times(raw, layout, clock, first_row)
        self.files[file].timestamp = clock.notation()
        self._check_years(file, times, first_row)

        numbers: list[NDArray[np.float64]] = []
        unread: list[tuple[str, int, NDArray[np.bool_]]] = []
        for column in layout.numbers:
            values, bad = self._inputs[file].floats(raw.column(layout.at(column)))
            numbers.append(values)
            if bad is not None:
                unread.append(("not_a_number", column, bad))

        if times.size and int(times.min()) <= _core.TIME_LOCAL:
            found = [(kind, layout.timestamp, times == reason) for reason, kind in _TIME_PROBLEMS.items()]
            unread = [problem for problem in found if problem[2].any()] + unread
        for kind, column, refused in unread:
            # A bar with several faults counts once.
            fresh = refused if out is None else refused & ~out
            self._refuse(file, kind, fresh, first_row, raw, layout, column, times, codes)
            out = refused if out is None else out | refused

        arrays = [times, *numbers]
        rows = None
        if out is not None:
            rows = np.flatnonzero(~out)
            arrays = [array[rows] for array in arrays]
            codes = {role: None if code is None else code[rows] for role, code in codes.items()}
            rows = rows.astype(np.int64, copy=False) + first_row
            first_row = int(rows[0]) if rows.size else first_row
        bar = [*arrays[:5], arrays[5:]]
        return Batch._make([file, first_row, rows, *bar, codes["symbol"], codes["contract"]])

    @staticmethod
    def _times(raw: Any, layout: Layout, clock: Clock | DateAndTime, first_row: int) -> NDArray[np.int64]:
        column = raw.column(layout.at(layout.timestamp))
        if isinstance(clock, DateAndTime):
            return clock.read(column, first_row, raw.column(layout.at(cast(int, layout.time))))
        return clock.read(column, first_row)

    def _name_codes(
        self, file: int, role: str, raw: Any, layout: Layout, first_row: int
    ) -> NDArray[np.int32] | None:
        """The codes of a batch's symbols or contracts. New names are added to the list that the codes index."""
        if not layout.has(role):
            return None
        if role in layout.partitions:
            return np.full(raw.num_rows, self._names[role].code(layout.partitions[role]), np.int32)
        return self._names[role].codes(
            raw.column(layout.at(layout.name_columns[role])),
            lambda row: self._inputs[file].refusal(
                f"row {first_row + row + 1:,} has no {role}",
                f"Fill the {role} column, or drop the rows without one",
            ),
        )

    def _check_agreeing(self, file: int, raw: Any, layout: Layout, first_row: int) -> None:
        """Refuses a column that names another symbol than the directory, the file's name or the header."""
        source = self._inputs[file]
        for role, column in layout.agreeing.items():
            name = layout.partitions[role]
            row = first_other(raw.column(layout.at(column)), name)
            if row is not None:
                other = text_of(raw.column(layout.at(column))[row])
                key = next((key for key, value in source.partitions.items() if value == name), role)
                raise source.refusal(
                    f"{source.symbol_from} says {key}={name}, but its column {source.names[column]!r} says {other!r} "
                    f"in row {first_row + row + 1:,}: two sources for the {role}",
                    f"If the column holds the contract, give --columns {column}=contract --segment-by symbol,contract; "
                    f"if the directory is not the {role}, give --columns {column}={role} and move the files out of it",
                )

    def _refuse(
        self,
        file: int,
        kind: str,
        refused: NDArray[np.bool_],
        first_row: int,
        raw: Any,
        layout: Layout,
        column: int,
        times: NDArray[np.int64],
        codes: Mapping[str, NDArray[np.int32] | None],
    ) -> None:
        """Counts rows that are left out, and keeps samples of them."""
        rows = np.flatnonzero(refused)
        if not rows.size:
            return
        self.counts[kind] = self.counts.get(kind, 0) + len(rows)
        symbol = codes["symbol"]
        kept = sum(problem.kind == kind for _, problem in self.samples)
        if kind == "bad_timestamp":
            self._refuse_repeated_header(file, rows, first_row, raw, layout)
        for row in rows[: MAX_SAMPLES - kept].tolist():
            time = int(times[row])
            problem = Problem(
                kind,
                first_row + row + 1,
                self._inputs[file].names[column],
                _text_at(raw, layout, column, row),
                file=self.label(file),
                timestamp=time if time > _core.TIME_LOCAL else None,
                symbol=None if symbol is None else self.symbols[symbol[row]],
            )
            self.samples.append((file, problem))

    def _check_decimals(self, source: Input) -> None:
        """Refuses files of one source that write numbers in two ways."""
        decimal = source.decimal if isinstance(source, CsvInput) else None
        if decimal is None:
            return
        self._decimal = self._decimal or (source.name, decimal)
        name, before = self._decimal
        if decimal != before:
            raise source.refusal(
                f"has the decimal mark {decimal!r}, and {name} has {before!r}",
                "Read them apart, or say with --decimal which is right for both",
            )

    def _check_years(self, file: int, times: NDArray[np.int64], first_row: int) -> None:
        """Refuses the days from which spreadsheets count: they stand for a time of day without a date."""
        old = np.flatnonzero((times >= _SHEET_DAYS[0]) & (times < _SHEET_DAYS[1]))
        if old.size:
            row = int(old[0])
            raise self._inputs[file].refusal(
                f"row {first_row + row + 1:,} has the time {format_time(int(times[row]))}: a spreadsheet counts times "
                "of day from such a day, which is no date",
                "Name the columns with --columns FILE_COLUMN=date,FILE_COLUMN=time, and write the times as hh:mm:ss",
            )

    def _clock_example(self, file: int) -> str:
        """A time of day of a file that has it beside the date; empty for others."""
        time = self._layouts[file].time
        texts = [] if time is None else self._inputs[file].first_texts(time)
        return texts[0] if texts else ""

    def _refuse_repeated_header(
        self, file: int, rows: NDArray[np.intp], first_row: int, raw: Any, layout: Layout
    ) -> None:
        """Refuses a header among the rows, as files that were joined have it."""
        source = self._inputs[file]
        name = source.names[layout.timestamp].strip().lower()
        for row in rows[:1000].tolist():
            if name and text_of(raw.column(layout.at(layout.timestamp))[row]).strip().lower() == name:
                raise source.refusal(
                    f"{self.place(file, first_row + row).removeprefix(source.name + ', ')} repeats the header",
                    "Remove that line; or give the files that were joined one by one",
                )

    def _clocks(self, stopped: Callable[[], bool]) -> list[Clock | DateAndTime]:
        """A clock for each file. Files with slashed dates are read twice: first to find the order of all dates."""
        clocks = [
            Clock(source, layout.timestamp, self._options, utc=layout.utc)
            if layout.time is None
            else DateAndTime(source, layout.timestamp, layout.time, self._options)
            for source, layout in zip(self._inputs, self._layouts, strict=True)
        ]
        slashed = [file for file, clock in enumerate(clocks) if clock.style == "slashed"]
        if not slashed:
            return clocks
        dates = DateOrder()
        for file in slashed:
            source, layout = self._inputs[file], self._layouts[file]
            source.spool(layout.columns)
            first_row = 0
            for raw in source.read([layout.timestamp]):
                if stopped():
                    return clocks
                dates.see(file, first_row, raw.column(0))
                first_row += raw.num_rows
        order = dates.settle(self.place, self._clock_example)
        for file in slashed:
            clocks[file].style = order
        return clocks


def _dictionaries(layout: Layout) -> list[int]:
    """The columns whose texts repeat, so that each distinct text is worth reading once."""
    days = [] if layout.time is None else [layout.timestamp, layout.time]
    return sorted({*layout.text_columns(), *days})


def _text_at(raw: Any, layout: Layout, column: int, row: int) -> str:
    """The text of a cell; of a date that stands beside its time of day, both."""
    text = text_of(raw.column(layout.at(column))[row])
    if column == layout.timestamp and layout.time is not None:
        text = f"{text} {text_of(raw.column(layout.at(layout.time))[row])}"
    return text
