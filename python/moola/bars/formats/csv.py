"""Reads bars from CSV and other delimited text, compressed or not."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moola.bars.formats.csv_options import TextOptions
from moola.bars.formats.files import FileInput
from moola.bars.formats.header import Header, SideBySideError, find_header
from moola.bars.formats.inputs import is_type
from moola.bars.formats.kinds import foreign_kind, kind_of
from moola.bars.formats.lines import Lines
from moola.bars.formats.numbers import Evidence, NumberFormat, marks_of, parse_numbers
from moola.bars.formats.text import Utf8Stream, encoding_of
from moola.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CsvInput"]


class CsvInput(FileInput):
    """Text with columns separated by commas, semicolons, tabs or |, compressed or not."""

    def __init__(
        self,
        path: Path,
        compression: str | None,
        contents: str = "bars",
        options: TextOptions | None = None,
    ) -> None:
        self._compression = compression
        self._options = options or TextOptions()
        self._encoding = "utf-8"
        self._written: NumberFormat | None = None
        self.has_marks = False
        """Whether a number had a comma or a dot."""
        if self._options.decimal or self._options.thousands:
            decimal = self._options.decimal or ("," if self._options.thousands == "." else ".")
            self._written = NumberFormat(decimal, self._options.thousands)
        super().__init__(path, contents)

    @property
    def decimal(self) -> str | None:
        """The decimal mark of the numbers read so far; None where none had a mark, or where the user gave it."""
        told = self._options.decimal or self._options.thousands
        return None if told or self._written is None or not self.has_marks else self._written.decimal

    def open_bytes(self) -> Any:
        """The file as a stream of bytes, unpacked."""
        import pyarrow as pa

        file = pa.OSFile(str(self.path))
        return pa.CompressedInputStream(file, self._compression) if self._compression else file

    def open(self) -> Utf8Stream:
        """The text as a stream of UTF-8."""
        return Utf8Stream(self.open_bytes(), self._encoding)

    def prepare(self) -> None:
        with self.open_bytes() as stream:
            start = stream.read(4096)
        self._encoding = encoding_of(start)
        kind, what = kind_of(start)
        if kind != "csv":
            raise foreign_kind(self.name, what or f"{self._compression}-compressed {kind}", self.contents)
        with self.open() as stream:
            sample = stream.read_start(_SAMPLE_BYTES)
        whole = len(sample) < _SAMPLE_BYTES
        try:
            text = sample.decode(errors="strict" if whole else "ignore")
        except UnicodeDecodeError:
            # Prices and times are ASCII; only names may lose characters.
            text = sample.decode(errors="replace")
        if not text.strip():
            raise self.refusal("is empty", "Leave it out, or check how it was made")
        try:
            header = find_header(
                text if whole else text[: text.rfind("\n") + 1] or text, self._options.skip_lines
            )
        except csv.Error as error:
            raise self._open_quote(self._first_open_quote()) from error
        except SideBySideError as error:
            raise self.refusal(
                f"has the bars of several instruments side by side ({error.args[0]})",
                "Write one file per instrument, or one row per bar with a symbol column",
            ) from error
        except StopIteration as error:
            raise self.refusal("is empty", "Leave it out, or check how it was made") from error
        self._take(header)
        self.header_bytes = _bytes_of_lines(sample, header.lines)

    def _take(self, header: Header) -> None:
        self.delimiter, self.first_line = header.delimiter, header.first_line
        self.headerless, self.numbered = header.headerless, header.numbered
        self.header_lines, self.names = header.lines, header.names
        self._empty_last = header.empty_last
        self.notes = header.notes
        if header.symbol is not None:
            self.partitions.setdefault("symbol", header.symbol)
            self.symbol_from = "its header"
        if not any(header.rows):
            # After some good rows reading finds an open quote again, and can say more.
            if (line := self._first_open_quote()) > 0:
                raise self._open_quote(line)
            raise self.refusal(
                f"holds no {self.contents}, only a header", "Leave it out, or check how it was made"
            )
        self._samples = [row for row in header.rows if len(row) == len(self.names)]

    def first_texts(self, column: int) -> list[str]:
        return [text for row in self._samples if (text := row[column].strip())]

    def batches(
        self, columns: Sequence[int], numbers: Sequence[int] = (), names: Sequence[int] = ()
    ) -> Iterator[Any]:
        import pyarrow as pa

        if numbers and self._written is None:
            evidence = marks_of(self._samples, numbers, self.names)
            if not evidence.settled:
                evidence = self._evidence(numbers)
            self._written = evidence.settle(self.refusal)
            self.has_marks = bool(evidence.first)
        done = 0
        if self._written is None or self._written.thousands is None:
            try:
                for raw in self._stream(columns, numbers, names):
                    yield raw
                    done += raw.num_rows
                return
            except pa.ArrowInvalid as error:
                if "conversion error" not in str(error):
                    raise
            self._settle_late(numbers, done)
        # Some cell is not a number as Arrow reads them. The rest is read as text, so that every such cell can be named.
        for raw in self._stream(columns, (), names):
            if done < raw.num_rows:
                yield raw.slice(done)
            done = max(0, done - raw.num_rows)

    def _settle_late(self, numbers: Sequence[int], done: int) -> None:
        """Decides the format of numbers again, from the whole file, once a cell did not fit. `done` rows are read."""
        if self._options.decimal or self._options.thousands:
            return
        evidence = self._evidence(numbers)
        settled, before = evidence.settle(self.refusal), self._written
        used = next((cell for cell in evidence.first.values() if cell.row < done), None)
        if before is not None and settled != before and settled.decimal != before.decimal and used:
            late = max(evidence.first.values(), key=lambda cell: cell.row)
            raise self.refusal(
                f"has {used.text} in row {used.row + 1:,} and {late.text} in row {late.row + 1:,}: its decimal mark is "
                f"{settled.decimal!r}, and {before.decimal!r} parts thousands",
                f"Confirm that with --decimal {settled.decimal} --thousands {before.decimal}",
            )
        self._written, self.has_marks = settled, True

    def _evidence(self, numbers: Sequence[int]) -> Evidence:
        """What all numbers of the file prove about their format. Reads the file."""
        evidence, row = Evidence(), 0
        wanted = sorted(set(numbers))
        for raw in self._stream(wanted):
            if self.stopped():
                break
            for i, column in enumerate(wanted):
                evidence.see(raw.column(i), row, self.names[column])
            row += raw.num_rows
        return evidence

    def _stream(
        self, columns: Sequence[int], numbers: Sequence[int] = (), names: Sequence[int] = ()
    ) -> Iterator[Any]:
        """Record batches with `numbers` as float64 and the rest as bytes."""
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        stream = self.open()
        _skip(stream, self.header_bytes)
        stream.quotes = 0
        # Columns go by their numbers, because names may be absent or occur twice.
        wanted = [str(column) for column in columns]
        last = str(len(self.names) - 1)
        checked = [last] if self._empty_last and last not in wanted else []
        types = dict.fromkeys([*wanted, *checked], pa.binary())
        types |= {str(column): pa.float64() for column in numbers}
        types |= {str(column): pa.dictionary(pa.int32(), pa.binary()) for column in names}
        decimal = self._written.decimal if self._written is not None else "."
        row = 0
        for raw in arrow_csv.open_csv(
            pa.PythonFile(stream, mode="r"),
            read_options=arrow_csv.ReadOptions(
                column_names=[str(i) for i in range(len(self.names))], block_size=_CSV_BLOCK
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types=types, include_columns=[*wanted, *checked], decimal_point=decimal
            ),
        ):
            if checked:
                self._check_empty(raw.column(len(wanted)), row)
            yield raw.select(range(len(wanted))) if checked else raw
            row += raw.num_rows
        if stream.quotes % 2:
            self._refuse_open_quote()

    def _check_empty(self, column: Any, first_row: int) -> None:
        """Refuses a value in the last column, which has no name."""
        for i, cell in enumerate(column.to_pylist()):
            if cell and cell.strip():
                raise self.refusal(
                    f"row {first_row + i + 1:,} has {len(self.names)} values, the last "
                    f"{cell.decode(errors='replace')!r}, while the header has {len(self.names) - 1} names",
                    "Name every column in the header",
                )

    def _first_open_quote(self) -> int:
        """The line on which the first quote opens that is not closed; 0 where there is none."""
        with self.open() as stream:
            lines = Lines(
                io.TextIOWrapper(
                    io.BufferedReader(_Raw(stream)), encoding="utf-8", errors="replace", newline=""
                )
            )
            for _ in range(self._options.skip_lines):
                next(lines, None)
            return self._open_quote_in(lines)

    def _open_quote_in(self, lines: Lines) -> int:
        rows = csv.reader(lines, delimiter=getattr(self, "delimiter", ","), strict=True)
        begins = lines.taken + 1
        try:
            for _ in rows:
                if self.stopped():
                    return 0
                begins = lines.taken + 1
        except csv.Error:
            return begins
        return 0

    def _refuse_open_quote(self) -> None:
        """Refuses a quote that is not closed: Arrow takes all that follows as one value, perhaps of an unread column.

        A lone quote within an unquoted value is allowed.
        """
        with self.open() as stream:
            if (line := self._open_quote_in(self._lines_of(stream))) > 0:
                raise self._open_quote(line)

    def _open_quote(self, line: int) -> InputError:
        return self.refusal(
            f"line {line:,} opens a quote that is not closed where its field ends",
            "Close the quote or remove it; or fetch the file again, if the download was cut short",
        )

    def floats(self, column: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
        if is_type("floating", column.type):
            return super().floats(column)
        return parse_numbers(column, self._written or NumberFormat())

    def rows_with_lines(self) -> Iterator[tuple[list[str], int]]:
        """Every row after the header, with the line on which it starts, counted from 1."""
        with self.open() as stream:
            lines = self._lines_of(stream)
            rows = csv.reader(lines, delimiter=self.delimiter)
            while True:
                before = lines.taken
                try:
                    row = next(rows, None)
                except csv.Error as error:
                    # A field of more than 131,072 characters.
                    raise self._open_quote(before + 1) from error
                if row is None:
                    return
                if row:
                    yield row, before + 1

    def _lines_of(self, stream: Utf8Stream) -> Lines:
        """The lines of a stream after its header."""
        lines = Lines(
            io.TextIOWrapper(io.BufferedReader(_Raw(stream)), encoding="utf-8", errors="replace", newline="")
        )
        for _ in range(self.header_lines):
            next(lines)
        return lines

    def damage(self, error: Exception) -> InputError:
        if "CSV parse error" in str(error) or "straddling" in str(error):
            rows = enumerate(self.rows_with_lines())
            for i, (row, line) in rows:
                if self.stopped():
                    break
                if len(row) != len(self.names):
                    last = next(rows, None) is None
                    return self.refusal(
                        f"row {i + 1:,} (line {line:,}) has {len(row)} fields, not {len(self.names)}: "
                        f"{self.delimiter.join(row)[:80]!r}",
                        "Remove the last line if it is a footer; fetch the file again if the download was cut short"
                        if last and len(row) < len(self.names) and not any("\n" in cell for cell in row)
                        else "Repair the source; a download cut short ends so, and so does an unclosed quote",
                    )
        return super().damage(error)


_SAMPLE_BYTES = 1 << 18

_CSV_BLOCK = 1 << 20
"""Bytes of text of a batch: about 16,000 bars. Signals wait while a batch is decoded, and Arrow holds 32 blocks."""


class _Raw(io.RawIOBase):
    """A stream of UTF-8 as the library `io` takes it."""

    def __init__(self, stream: Utf8Stream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _lines(stream: Utf8Stream) -> Lines:
    raw = io.BufferedReader(_Raw(stream))
    return Lines(io.TextIOWrapper(raw, encoding="utf-8", errors="replace", newline=""))


def _skip(stream: Utf8Stream, count: int) -> None:
    while count > 0 and (data := stream.read(count)):
        count -= len(data)


def _bytes_of_lines(data: bytes, count: int) -> int:
    return sum(len(line) for line in data.splitlines(keepends=True)[:count])
