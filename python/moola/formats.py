"""The formats that bars come in: telling them apart, and reading record batches of some columns."""

from __future__ import annotations

import csv
import io
import mmap
import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np

from moola.errors import InputDeniedError, InputError, InputMissingError, MoolaError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "BATCH_ROWS",
    "CsvInput",
    "Input",
    "StreamInput",
    "find_files",
    "is_temporal",
    "is_text",
    "is_type",
    "nulls_of",
    "open_file",
    "text_of",
    "values_of",
]

BATCH_ROWS = 1 << 17
"""About how many bars a batch holds."""


class Input:
    """One file or stream: its columns, and record batches of some of them."""

    path: Path | None = None
    batch_rows = BATCH_ROWS
    """About how many rows a batch holds, where that can be chosen."""
    rereadable = True
    headerless = False
    first_line = ""
    index_columns: Sequence[str] = ()

    def __init__(self, name: str, contents: str = "bars") -> None:
        self.name = name
        self.contents = contents
        """What messages call the rows: bars, or whatever else is read from tables."""
        self.names: list[str] = []
        self.types: list[Any] | None = None
        """Arrow types, or None where everything is text."""
        self.partitions: dict[str, str] = {}
        self.stopped: Callable[[], bool] = lambda: False
        """Whether nobody waits for its rows any more: for work that takes longer than a batch."""

    def refusal(self, problem: str, advice: str) -> InputError:
        if self.contents == "labels" and "--" in advice:
            # Other commands read labels too, and take them only as they usually are.
            advice += " (of moola import-labels)"
        return InputError(problem, advice, source=self.name)

    def take_schema(self, schema: Any) -> None:
        self.names = list(schema.names)
        self.types = list(schema.types)
        pandas = (schema.metadata or {}).get(b"pandas")
        if pandas:
            import json

            index = [name for name in json.loads(pandas).get("index_columns", ()) if isinstance(name, str)]
            found = [schema.names.index(name) for name in index if name in schema.names]
            self.index_columns = [self.names[i] for i in found if is_temporal(self.types[i])]

    def read(
        self, columns: Sequence[int], numbers: Sequence[int] = (), names: Sequence[int] = ()
    ) -> Iterator[Any]:
        """Record batches of these columns, which must ascend; `numbers` are wanted as numbers, and `names`,
        which repeat, as dictionaries where the format can give them so."""
        raise NotImplementedError

    def first_texts(self, column: int) -> list[str]:
        """The first texts of a column that are not empty, at most 1,000."""
        for raw in self.read([column]):
            if texts := _not_empty(raw.column(0)):
                return texts
        return []

    def floats(self, column: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
        """A column as [n] float64 (itself where it is that), NaN for null; and which cells are no number."""
        if is_type("decimal", column.type):
            import pyarrow as pa

            # By way of text, which is rounded once; Arrow's own cast may be off in the last bit.
            column = column.cast(pa.string()).cast(pa.float64())
        values = values_of(column).astype(np.float64, copy=False)
        if (null := nulls_of(column)) is not None:
            values = np.where(null, np.nan, values)
        return values, None

    def spool(self, columns: Sequence[int]) -> None:
        """Prepares for being read twice in one go."""

    def close(self) -> None:
        """Lets go of what reading needed."""


def is_type(kind: str, dtype: Any) -> bool:
    import pyarrow as pa

    return bool(getattr(pa.types, f"is_{kind}")(dtype))


def is_temporal(dtype: Any) -> bool:
    return is_type("timestamp", dtype) or is_type("date", dtype)


def is_text(dtype: Any) -> bool:
    if is_type("dictionary", dtype):
        return is_text(dtype.value_type)
    kinds = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view")
    return any(is_type(kind, dtype) for kind in kinds)


def text_of(scalar: Any) -> str:
    """A value as text, empty for null."""
    value = scalar.as_py()
    if value is None:
        return ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


# Arrow's own to_numpy imports pandas where that is installed, is_null its compute functions: a slow start.
_WIDTHS = {"halffloat": "f2", "float": "f4", "double": "f8", "date32[day]": "i4", "date64[ms]": "i8"}
_WIDTHS |= {f"{sign}int{bits}": f"{sign or 'i'}{bits // 8}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


def values_of(column: Any) -> NDArray[Any]:
    """[n] the values of a column of numbers, dates or timestamps, sharing its memory; anything at nulls."""
    dtype = np.dtype("i8" if is_type("timestamp", column.type) else _WIDTHS[str(column.type)])
    data = column.buffers()[1]
    if data is None or not len(column):
        return np.zeros(len(column), dtype)
    return np.frombuffer(data, dtype, len(column), column.offset * dtype.itemsize)


def nulls_of(column: Any) -> NDArray[np.bool_] | None:
    """[n] where a column is null; None where it is nowhere."""
    if not column.null_count:
        return None
    bits = column.buffers()[0]
    if bits is None:  # a column of type null
        return np.ones(len(column), np.bool_)
    # From its own first byte on: it may be a slice far into a column that is too long to be unpacked.
    first, skipped = divmod(column.offset, 8)
    count = skipped + len(column)
    data = np.frombuffer(bits, np.uint8, -(-count // 8), first)
    return ~np.unpackbits(data, count=count, bitorder="little")[skipped:].astype(np.bool_)


def _not_empty(column: Any) -> list[str]:
    """The texts among the first 1,000 of a column."""
    texts = (text_of(scalar).strip() for scalar in column.slice(0, 1000))
    return [text for text in texts if text]


class StreamInput(Input):
    """An object with ``__arrow_c_stream__``."""

    def __init__(self, bars: object, contents: str = "bars") -> None:
        import pyarrow as pa

        kind = type(bars)
        super().__init__(f"<{kind.__module__.partition('.')[0]}.{kind.__name__}>", contents)
        self._bars = bars
        # Tables can be asked again; readers cannot, and of a query nobody knows.
        self.rereadable = kind.__module__.partition(".")[0] in (
            "pandas",
            "polars",
            "pyarrow",
        ) and not isinstance(bars, pa.RecordBatchReader)
        self._reader: Any = None
        self._held: list[Any] = []
        self._spooled: Any = None
        self.take_schema(self._start().schema)

    def _start(self) -> Any:
        if self._reader is None:
            import pyarrow as pa

            try:
                self._reader = pa.RecordBatchReader.from_stream(self._bars)
            except (pa.ArrowException, TypeError) as error:
                raise self.refusal(
                    f"is no table of {self.contents} ({_brief(error)})",
                    "Hand over a table with columns, not a single one",
                ) from error
        return self._reader

    def read(
        self, columns: Sequence[int], numbers: Sequence[int] = (), names: Sequence[int] = ()
    ) -> Iterator[Any]:
        import pyarrow as pa

        try:
            if self._spooled is not None:
                self._spooled.seek(0)
                kept = pa.ipc.open_stream(self._spooled)
                at = [
                    kept.schema.metadata[b"columns"].split(b",").index(str(column).encode())
                    for column in columns
                ]
                for raw in kept:
                    yield raw.select(at)
                return
            reader = self._start()
            while self._held:
                yield self._held.pop(0).select(list(columns))
            for raw in reader:
                yield raw.select(list(columns))
            self._reader = None
        except pa.ArrowException as error:
            raise self.refusal(f"cannot be read: {_brief(error)}", "Check what produces it") from error

    def first_texts(self, column: int) -> list[str]:
        reader = self._start()
        for raw in reader:
            self._held.append(raw)
            if texts := _not_empty(raw.column(column)):
                return texts
        return []

    def spool(self, columns: Sequence[int]) -> None:
        """Writes what is needed to a temporary file, which has no name and so cannot outlive the process."""
        if self.rereadable:
            return
        import tempfile

        import pyarrow as pa

        schema = pa.schema([self._start().schema.field(i) for i in columns])
        schema = schema.with_metadata({"columns": ",".join(map(str, columns))})
        with self._room_for_a_copy():
            spooled = tempfile.TemporaryFile(prefix="moola-")  # noqa: SIM115 -- it outlives this method
        try:
            writer = pa.ipc.new_stream(spooled, schema)
            for raw in self.read(columns):
                if self.stopped():
                    break
                with self._room_for_a_copy():
                    writer.write_batch(raw.replace_schema_metadata(schema.metadata))
            with self._room_for_a_copy():
                writer.close()
                spooled.flush()
        except BaseException:
            # What its buffer still holds may find no room either.
            with suppress(OSError):
                spooled.close()
            raise
        self._spooled = spooled

    @contextmanager
    def _room_for_a_copy(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self.refusal(
                f"is read twice because of its dates, and no copy can be kept meanwhile ({_brief(error)})",
                "Set TMPDIR to a directory with room, or save the bars to a file and give that",
            ) from error

    def close(self) -> None:
        self._held.clear()
        self._reader = None
        if self._spooled is not None:
            self._spooled.close()
            self._spooled = None


def _brief(error: BaseException) -> str:
    """The first line of a library's message, without its final stop."""
    return str(error).strip().partition("\n")[0].rstrip(".")[:200] or type(error).__name__


class FileInput(Input):
    """A file on disk."""

    path: Path

    def __init__(self, path: Path, contents: str = "bars") -> None:
        super().__init__(str(path), contents)
        self.path = path
        self.partitions = _partitions(path)
        with self.errors():
            self.prepare()

    def prepare(self) -> None:
        """Finds the columns."""
        raise NotImplementedError

    def batches(
        self, columns: Sequence[int], numbers: Sequence[int] = (), names: Sequence[int] = ()
    ) -> Iterator[Any]:
        raise NotImplementedError

    def read(
        self, columns: Sequence[int], numbers: Sequence[int] = (), names: Sequence[int] = ()
    ) -> Iterator[Any]:
        with self.errors():
            yield from self.batches(columns, numbers, names)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """What goes wrong in the libraries, as errors that name the file."""
        import pyarrow as pa

        try:
            yield
        except MoolaError:
            raise
        except FileNotFoundError as error:
            raise _missing(self.path) from error
        except PermissionError as error:
            raise _denied(self.path) from error
        except pa.ArrowNotImplementedError as error:
            raise self.refusal(
                f"uses what this pyarrow cannot read ({_brief(error)})", "Write it again with common settings"
            ) from error
        except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError, struct.error) as error:
            raise self.damage(error) from error

    def damage(self, error: Exception) -> InputError:
        return self.refusal(
            f"is damaged or cut short ({_brief(error)})",
            "Fetch or write it again, then compare its size with the source's",
        )


class ParquetInput(FileInput):
    def prepare(self) -> None:
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path) as file:
            if file.metadata.num_rows == 0:
                raise self.refusal(f"holds no {self.contents}", "Leave it out, or check how it was made")
            self.take_schema(file.schema_arrow)

    def batches(
        self, columns: Sequence[int], numbers: Sequence[int] = (), names: Sequence[int] = ()
    ) -> Iterator[Any]:
        import pyarrow.parquet as pq

        types = cast("list[Any]", self.types)
        wanted = [self.names[column] for column in columns]
        # Few names, many rows: decoded as a dictionary, such a column costs next to nothing.
        repeated = [self.names[column] for column in names if is_text(types[column])]
        # Buffered and not fetched ahead, lest a row group's columns be held whole.
        buffering = {"buffer_size": 1 << 20, "pre_buffer": False}
        with pq.ParquetFile(self.path, read_dictionary=repeated, **buffering) as file:
            for raw in file.iter_batches(self.batch_rows, columns=wanted):
                yield raw if raw.schema.names == wanted else raw.select(wanted)


class IpcInput(FileInput):
    """Arrow IPC, the file format (also called Feather) or the stream format.

    The file is mapped, and a record batch is a view of it, however large. A compressed one has to be unpacked whole
    and must not have more than `MAX_COMPRESSED_ROWS`.
    """

    def __init__(self, path: Path, contents: str = "bars", *, stream: bool) -> None:
        self._stream = stream
        super().__init__(path, contents)

    def _map(self) -> mmap.mmap:
        with self.path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def _reader(self, mapped: mmap.mmap, columns: Sequence[int] | None = None) -> Any:
        import pyarrow as pa

        open_reader = pa.ipc.open_stream if self._stream else pa.ipc.open_file
        return open_reader(pa.py_buffer(mapped), options=pa.ipc.IpcReadOptions(included_fields=columns))

    def prepare(self) -> None:
        self.take_schema(self._reader(self._map()).schema)

    def batches(
        self, columns: Sequence[int], numbers: Sequence[int] = (), names: Sequence[int] = ()
    ) -> Iterator[Any]:
        mapped = self._map()
        reader = self._reader(mapped)
        compressed = self._is_compressed(mapped)
        # What is unpacked is better asked for by column; a reader that is asked for some columns copies them.
        if compressed:
            reader = self._reader(mapped, list(columns))
        for raw in reader if self._stream else map(reader.get_batch, range(reader.num_record_batches)):
            wanted = raw if compressed else raw.select(list(columns))
            for start in range(0, raw.num_rows, BATCH_ROWS):
                yield wanted.slice(start, BATCH_ROWS)
                # What was read stays in the system's cache, where it is found by whoever looks at it again, but
                # it is not this process's memory any more.
                mapped.madvise(mmap.MADV_DONTNEED)

    def _is_compressed(self, mapped: mmap.mmap) -> bool:
        """Whether some batch is; refuses the file when one is compressed and too large."""
        import pyarrow as pa

        if self._stream:
            messages = pa.ipc.MessageReader.open_stream(pa.py_buffer(mapped))
            headers = ((message.metadata, 0) for message in messages if message.type == "record batch")
        else:
            headers = ((mapped, at) for at in _batches_of_file(mapped))
        most = max((_rows_if_compressed(data, start) for data, start in headers), default=0)
        if most > MAX_COMPRESSED_ROWS:
            raise self.refusal(
                f"has a compressed record batch of {most:,} rows, which must be unpacked whole; "
                f"{MAX_COMPRESSED_ROWS:,} are the most",
                "Write it in smaller batches, without compression, or as Parquet",
            )
        return most > 0


MAX_COMPRESSED_ROWS = 1 << 23
"""Rows of a compressed Arrow record batch: 400 MB of a timestamp, four prices and one more column. Unpacking them takes
0.2 to 0.3 s, in which no signal is heard."""


class _Flatbuffer:
    """Numbers and tables at their places in a flatbuffer: https://flatbuffers.dev/internals/."""

    def __init__(self, data: Any, start: int) -> None:
        self._data = data
        self.root = start + self.number(start, "I")

    def number(self, at: int, kind: str) -> int:
        return int(struct.unpack_from(f"<{kind}", self._data, at)[0])

    def field(self, table: int, index: int) -> int | None:
        """Where a field of a table is, if it is there at all."""
        vtable = table - self.number(table, "i")
        place = 4 + 2 * index
        offset = self.number(vtable + place, "H") if place < self.number(vtable, "H") else 0
        return table + offset if offset else None

    def target(self, at: int) -> int:
        """Where what is kept by reference is."""
        return at + self.number(at, "I")


# pyarrow does not tell what a record batch is before it has unpacked it. The numbers of the fields are those of
# Message.fbs and File.fbs in https://github.com/apache/arrow/tree/main/format.


def _rows_if_compressed(data: Any, start: int) -> int:
    """The rows of the record batch whose message starts there, if its buffers are compressed; otherwise 0."""
    message = _Flatbuffer(data, start)
    header = message.field(message.root, 2)
    if header is None:
        return 0
    batch = message.target(header)
    rows, compression = message.field(batch, 0), message.field(batch, 3)
    return 0 if rows is None or compression is None else message.number(rows, "q")


def _batches_of_file(mapped: mmap.mmap) -> Iterator[int]:
    """Where the message of each record batch starts; they are listed at the end of the file."""
    (size,) = struct.unpack_from("<i", mapped, len(mapped) - 10)
    footer = _Flatbuffer(mapped, len(mapped) - 10 - size)
    blocks = footer.field(footer.root, 3)
    if blocks is None:
        return
    vector = footer.target(blocks)
    for i in range(footer.number(vector, "I")):
        at = footer.number(vector + 4 + 24 * i, "q")
        # A length goes before it, and before that, in all but the oldest files, a mark.
        yield at + (8 if mapped[at : at + 4] == b"\xff\xff\xff\xff" else 4)


class CsvInput(FileInput):
    """Text with a column between every two commas, semicolons or tabs; perhaps compressed."""

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
        kind, what = _kind_of(sample)
        if kind != "csv":
            raise _foreign(str(self.path), what or f"{self._compression}-compressed {kind}", self.contents)
        whole = len(sample) < _SAMPLE_BYTES
        try:
            text = sample.decode("utf-8-sig", errors="strict" if whole else "ignore")
        except UnicodeDecodeError:
            # Prices and times are ASCII in any case; only names suffer.
            text = sample.decode("utf-8-sig", errors="replace")
        if not text.strip():
            raise self.refusal("is empty", "Leave it out, or check how it was made")
        first = next(line for line in text.splitlines() if line.strip())
        self.delimiter = _delimiter(first)
        self.first_line = first if len(first) <= 80 else f"{first[:80]}…"
        lines = _Lines(io.StringIO(text, newline=""))
        rows = csv.reader(lines, delimiter=self.delimiter)
        cells = next(row for row in rows if row)
        self.headerless = any(_is_number(cell.replace(",", ".")) for cell in cells)
        if self.headerless:
            self.names = [str(i) for i in range(len(cells))]
            self.header_bytes = 3 if sample.startswith(b"\xef\xbb\xbf") else 0
        else:
            self.names = [cell.strip() for cell in cells]
            self.header_bytes = _bytes_of_lines(sample, lines.taken)
        self.header_lines = 0 if self.headerless else lines.taken
        first_rows = [cells] if self.headerless else []
        with suppress(csv.Error):
            first_rows += islice(rows, 1000)
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
        # Every column is known by its number: names may be absent, or occur twice.
        wanted = [str(column) for column in columns]
        types = dict.fromkeys(wanted, pa.binary())
        types |= {str(column): pa.float64() for column in numbers}
        types |= {str(column): pa.dictionary(pa.int32(), pa.binary()) for column in names}
        yield from arrow_csv.open_csv(
            stream,
            read_options=arrow_csv.ReadOptions(
                column_names=[str(i) for i in range(len(self.names))], block_size=_CSV_BLOCK
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types=types, include_columns=wanted, decimal_point="," if self._decimal_comma else "."
            ),
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
        # Some cell is no number. To name every such cell, the rest is read as text.
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
        """Every row, the header excepted, with the line on which it starts, counted from 1."""
        with self.open() as stream:
            lines = _Lines(io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline=""))
            for _ in range(self.header_lines):
                next(lines)
            rows = csv.reader(lines, delimiter=self.delimiter)
            while True:
                before = lines.taken
                row = next(rows, None)
                if row is None:
                    return
                if row:
                    yield row, before + 1

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
"""Bytes of text a batch; about 16,000 bars. No signal ends the call that decodes them, and Arrow holds 32 blocks."""
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")
# What pyarrow takes for "no value" in a column of numbers.
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


def _delimiter(line: str) -> str:
    """Tab or semicolon where they make enough columns for a bar (the comma may then be a decimal one)."""
    counts = {delimiter: len(next(csv.reader([line], delimiter=delimiter))) for delimiter in "\t;,"}
    for delimiter, count in counts.items():
        if count >= _MIN_COLUMNS:
            return delimiter
    return max(counts, key=counts.__getitem__)


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
    """Finds the lines of rows, and goes on from where it last was where it can."""

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


# What is clearly something else, so that the message can say what.
_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive (or an Excel workbook)"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook or Word document"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"\x89HDF", "an HDF5 file"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"ORC", "an ORC file"),
    (b"Obj\x01", "an Avro file"),
    (b"DBN", "a Databento DBN file"),
    (b"FEA1", "a Feather file of the old version 1"),
    (b"PARE", "an encrypted Parquet file"),
    (b"\x7fELF", "a program"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
)
_COMPRESSIONS = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bz2"))
_SUFFIXES = (".parquet", ".pq", ".csv", ".tsv", ".txt", ".arrow", ".feather", ".ipc", ".arrows")
_COMPRESSED_SUFFIXES = (".gz", ".zst", ".bz2")


def _kind_of(start: bytes) -> tuple[str, str | None]:
    """The format that a file's first bytes tell (csv for any text), and in words what it is if not bars."""
    if start.startswith(b"PAR1"):
        return "parquet", None
    if start.startswith(b"ARROW1"):
        return "ipc file", None
    if start.startswith(b"\xff\xff\xff\xff"):
        return "ipc stream", None
    for magic, name in _COMPRESSIONS:
        if start.startswith(magic):
            return name, None
    for magic, what in _FOREIGN:
        if start.startswith(magic):
            return "", what
    if start[257:262] == b"ustar":
        return "", "a tar archive"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "", "a Python pickle"
    if b"\0" in start[:4096]:
        return "", "a binary file of unknown format"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")[:16].lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        return "", "an HTML or XML page"
    if text.startswith((b"{", b"[")):
        return "", "JSON"
    return "csv", None


def _foreign(name: str, what: str, contents: str) -> InputError:
    advice = "Give Parquet, CSV (also compressed with gzip) or Arrow IPC"
    if "archive" in what:
        advice = f"Unpack it. {advice}"
    if "workbook" in what:
        advice = f"{advice}; a workbook can be saved as CSV"
    return InputError(f"is {what}, not {contents}", advice, source=name)


def _missing(path: Path) -> InputError:
    try:
        near = get_close_matches(path.name, os.listdir(path.parent), 1)
    except OSError:
        near = []
    hint = f" Did you mean {path.parent / near[0]}?" if near else ""
    if not path.parent.exists():
        hint = f" There is no directory {path.parent} either."
    return InputMissingError("there is no such file", f"Check the path.{hint}", source=str(path))


def _denied(path: Path) -> InputError:
    return InputDeniedError("may not be read", f"Ask its owner, or run chmod u+r {path}", source=str(path))


def open_file(path: Path, contents: str = "bars") -> Input:
    try:
        if not path.is_file() and path.exists():
            raise InputError(
                "is not a regular file", "Save what it gives to a file first, and give that", source=str(path)
            )
        with path.open("rb") as file:
            start = file.read(4096)
    except FileNotFoundError as error:
        raise _missing(path) from error
    except PermissionError as error:
        raise _denied(path) from error
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})", "Check the path and the disk", source=str(path)
        ) from error
    if not start:
        raise InputError("is empty", "Leave it out, or check how it was made", source=str(path))
    kind, what = _kind_of(start)
    match kind:
        case "parquet":
            return ParquetInput(path, contents)
        case "ipc file" | "ipc stream":
            return IpcInput(path, contents, stream=kind == "ipc stream")
        case "csv":
            return CsvInput(path, None, contents)
        case "gzip" | "zstd" | "bz2":
            return CsvInput(path, kind, contents)
    raise _foreign(str(path), cast(str, what), contents)


def find_files(path: Path) -> list[Path]:
    """The path itself, or the files of a directory that may be bars, sorted by name."""
    try:
        if not path.is_dir():
            return [path]
        found: list[Path] = []
        for folder, folders, names in os.walk(path, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith((".", "_"))]
            found += [Path(folder, name) for name in names if _may_be_bars(Path(folder, name))]
    except PermissionError as error:
        raise _denied(Path(error.filename or path)) from error
    if found:
        return sorted(found, key=lambda file: file.parts)
    if (path / "metadata.json").is_file() and (path / "checksums.b3").is_file():
        raise InputError(
            "is a feature store, not bars",
            "Give the bars it was built from; `moola inspect` shows it",
            source=str(path),
        )
    raise InputError(
        "holds no Parquet, CSV or Arrow files",
        f"Files are found by their suffix ({', '.join(_SUFFIXES)}, perhaps with .gz); name others one by one",
        source=str(path),
    )


def _raise(error: OSError) -> NoReturn:
    raise error


def _may_be_bars(path: Path) -> bool:
    if path.name.startswith((".", "_")):
        return False
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in _COMPRESSED_SUFFIXES:
        suffixes.pop()
    return bool(suffixes) and suffixes[-1] in _SUFFIXES


def _partitions(path: Path) -> dict[str, str]:
    """What the directories of a path say, as in ``symbol=ES%2FNQ/2024.parquet``."""
    from urllib.parse import unquote

    pairs = (part.split("=", 1) for part in path.parts[:-1] if "=" in part)
    return {unquote(key): unquote(value) for key, value in pairs}
