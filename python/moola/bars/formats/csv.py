"""Reads bars from CSV and other delimited text: decides separator, decimal mark and header, and finds lines."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moola.bars.formats.files import FileInput
from moola.bars.formats.inputs import is_type
from moola.bars.formats.kinds import foreign_kind, kind_of
from moola.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CsvInput"]


class CsvInput(FileInput):
    """Text with columns separated by commas, semicolons or tabs, compressed or not."""

    def __init__(self, path: Path, compression: str | None, contents: str = "bars") -> None:
        self._compression = compression
        super().__init__(path, contents)

    def open(self) -> Any:
        """The text as a stream of bytes."""
        import pyarrow as pa

        file = pa.OSFile(str(self.path))
        return pa.CompressedInputStream(file, self._compression) if self._compression else file

    def prepare(self) -> None:
        with self.open() as stream:
            sample = stream.read(_SAMPLE_BYTES)
        kind, what = kind_of(sample)
        if kind != "csv":
            raise foreign_kind(
                str(self.path), what or f"{self._compression}-compressed {kind}", self.contents
            )
        whole = len(sample) < _SAMPLE_BYTES
        try:
            text = sample.decode("utf-8-sig", errors="strict" if whole else "ignore")
        except UnicodeDecodeError:
            # Prices and times are ASCII; only names may lose characters.
            text = sample.decode("utf-8-sig", errors="replace")
        if not text.strip():
            raise self.refusal("is empty", "Leave it out, or check how it was made")
        first = next(line for line in text.splitlines() if line.strip())
        lines = _Lines(io.StringIO(text, newline=""))
        try:
            self.delimiter = _delimiter(first)
            rows = csv.reader(lines, delimiter=self.delimiter)
            cells = next(row for row in rows if row)
        except csv.Error as error:
            raise self._open_quote(1) from error
        self.first_line = first if len(first) <= 80 else f"{first[:80]}…"
        self.headerless = any(_is_number(cell.replace(",", ".")) for cell in cells if _has_digit(cell))
        if self.headerless:
            self.names = [str(i) for i in range(len(cells))]
            self.header_bytes = 3 if sample.startswith(b"\xef\xbb\xbf") else 0
        else:
            self.names = [cell.strip() for cell in cells]
            self.header_bytes = _bytes_of_lines(sample, lines.taken)
        self.header_lines = 0 if self.headerless else lines.taken
        first_rows = [cells] if self.headerless else []
        begins = lines.taken + 1
        try:
            for row in islice(rows, 1000):
                first_rows.append(row)
                begins = lines.taken + 1
        except csv.Error as error:
            # After some good rows reading finds the fault again, and can say more.
            if not any(first_rows):
                raise self._open_quote(begins) from error
        if not any(first_rows):
            raise self.refusal(
                f"holds no {self.contents}, only a header", "Leave it out, or check how it was made"
            )
        self._samples = [row for row in first_rows if len(row) == len(cells)]
        self._decimal_comma = self.delimiter != "," and any(
            _DECIMAL_COMMA.fullmatch(cell.strip()) for row in self._samples for cell in row
        )

    def first_texts(self, column: int) -> list[str]:
        return [text for row in self._samples if (text := row[column].strip())]

    def _stream(
        self, columns: Sequence[int], numbers: Sequence[int] = (), names: Sequence[int] = ()
    ) -> Iterator[Any]:
        """Record batches with `numbers` as float64 and the rest as bytes."""
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        stream = self.open()
        stream.read(self.header_bytes)
        counted = _CountedQuotes(stream)
        # Columns go by their numbers, because names may be absent or occur twice.
        wanted = [str(column) for column in columns]
        types = dict.fromkeys(wanted, pa.binary())
        types |= {str(column): pa.float64() for column in numbers}
        types |= {str(column): pa.dictionary(pa.int32(), pa.binary()) for column in names}
        yield from arrow_csv.open_csv(
            pa.PythonFile(counted, mode="r"),
            read_options=arrow_csv.ReadOptions(
                column_names=[str(i) for i in range(len(self.names))], block_size=_CSV_BLOCK
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types=types, include_columns=wanted, decimal_point="," if self._decimal_comma else "."
            ),
        )
        if counted.quotes % 2:
            self._refuse_open_quote()

    def _refuse_open_quote(self) -> None:
        """Refuses a quote that is not closed: Arrow takes all that follows as one value, perhaps of an unread column.

        A lone quote within an unquoted value is allowed.
        """
        with self.open() as stream:
            lines = self._lines_of(stream)
            rows = csv.reader(lines, delimiter=self.delimiter, strict=True)
            begins = self.header_lines + 1
            try:
                for _ in rows:
                    if self.stopped():
                        return
                    begins = lines.taken + 1
            except csv.Error as error:
                raise self._open_quote(begins) from error

    def _open_quote(self, line: int) -> InputError:
        return self.refusal(
            f"line {line:,} opens a quote that is not closed where its field ends",
            "Close the quote or remove it; or fetch the file again, if the download was cut short",
        )

    def batches(
        self, columns: Sequence[int], numbers: Sequence[int] = (), names: Sequence[int] = ()
    ) -> Iterator[Any]:
        import pyarrow as pa

        done = 0
        try:
            for raw in self._stream(columns, numbers, names):
                yield raw
                done += raw.num_rows
            return
        except pa.ArrowInvalid as error:
            if "conversion error" not in str(error):
                raise
        # Some cell is not a number. The rest is read as text, so that every such cell can be named.
        for raw in self._stream(columns, (), names):
            if done < raw.num_rows:
                yield raw.slice(done)
            done = max(0, done - raw.num_rows)

    def floats(self, column: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
        if is_type("floating", column.type):
            return super().floats(column)
        values = np.full(len(column), np.nan)
        bad = np.zeros(len(column), np.bool_)
        for i, cell in enumerate(column.to_pylist()):
            text = cell.decode(errors="replace").strip()
            if self._decimal_comma:
                text = text.replace(",", ".")
            if text in _NO_VALUE:
                continue
            if _is_number(text):
                values[i] = float(text)
            else:
                bad[i] = True
        return values, bad if bad.any() else None

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

    def _lines_of(self, stream: Any) -> _Lines:
        """The lines of a stream after its header."""
        lines = _Lines(io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline=""))
        for _ in range(self.header_lines):
            next(lines)
        return lines

    def damage(self, error: Exception) -> InputError:
        if "CSV parse error" in str(error) or "straddling" in str(error):
            for i, (row, line) in enumerate(self.rows_with_lines()):
                if self.stopped():
                    break
                if len(row) != len(self.names):
                    return self.refusal(
                        f"row {i + 1:,} (line {line:,}) has {len(row)} fields, not {len(self.names)}: "
                        f"{self.delimiter.join(row)[:80]!r}",
                        "Repair the source; a download cut short ends so, and so does an unclosed quote",
                    )
        return super().damage(error)


_MIN_COLUMNS = 5
"""Time, open, high, low and close."""

_SAMPLE_BYTES = 1 << 18

_CSV_BLOCK = 1 << 20
"""Bytes of text of a batch: about 16,000 bars. Signals wait while a batch is decoded, and Arrow holds 32 blocks."""

_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")

# The texts that pyarrow reads as "no value" in a column of numbers.
_NO_VALUE = frozenset(
    [
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
        *("N/A", "NA", "NULL", "NaN", "n/a", "nan", "null"),
    ]
)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _has_digit(text: str) -> bool:
    """Whether the text has a digit; `nan` and `inf` have none, and may be names of columns."""
    return any(sign.isdecimal() for sign in text)


def _delimiter(line: str) -> str:
    """The separator: tab or semicolon where it makes enough columns for a bar; a comma may then be a decimal mark."""
    counts = {delimiter: len(next(csv.reader([line], delimiter=delimiter))) for delimiter in "\t;,"}
    for delimiter, count in counts.items():
        if count >= _MIN_COLUMNS:
            return delimiter
    return max(counts, key=counts.__getitem__)


class _CountedQuotes:
    """A stream of bytes that counts the quotes in what it gives."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.quotes = 0

    @property
    def closed(self) -> bool:
        return bool(self._stream.closed)

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        self.quotes += data.count(b'"')
        return data

    def close(self) -> None:
        self._stream.close()


class _Lines:
    """An iterator over lines that counts them."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self.taken = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.taken += 1
        return line


def _bytes_of_lines(data: bytes, count: int) -> int:
    return sum(len(line) for line in data.splitlines(keepends=True)[:count])


class LineFinder:
    """Finds the lines of rows. For ascending rows of one file it reads on from where it was."""

    def __init__(self) -> None:
        self._source: CsvInput | None = None
        self._rows: Iterator[tuple[int, int]] = iter(())
        self._found: dict[tuple[str, int], int] = {}

    def find(self, source: CsvInput, row: int) -> int | None:
        known = self._found.get((source.name, row))
        if known is not None:
            return known
        if source is not self._source or row < self._next:
            self._source = source
            self._rows = ((i, line) for i, (_, line) in enumerate(source.rows_with_lines()))
        for i, line in self._rows:
            if i == row:
                self._next = i + 1
                self._found[source.name, row] = line
                return line
        self._source = None
        return None

    _next = 0
