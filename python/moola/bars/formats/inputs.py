"""The interface of every input of bars, and the conversion of Arrow columns to NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moola.errors import InputError
from moola.files.identity import FileIdentity

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "BATCH_ROWS",
    "UNITS",
    "Input",
    "brief",
    "is_temporal",
    "is_text",
    "is_type",
    "not_empty",
    "nulls_of",
    "text_of",
    "values_of",
]


BATCH_ROWS = 1 << 17
"""About how many bars a batch holds."""


class Input:
    """A file or stream: it names its columns and yields record batches of some of them."""

    path: Path | None = None
    identity: FileIdentity | None = None
    """The file before it was opened; None for a stream."""
    batch_rows = BATCH_ROWS
    """About how many rows a batch holds, where that can be chosen."""
    rereadable = True
    headerless = False
    first_line = ""
    numbered = False
    """The header is the numbers 0, 1, 2, …"""
    index_columns: Sequence[str] = ()

    def __init__(self, name: str, contents: str = "bars") -> None:
        self.name = name
        self.contents = contents
        """The name of the rows in messages: bars or labels."""
        self.names: list[str] = []
        self.types: list[Any] | None = None
        """Arrow types, or None where everything is text."""
        self.partitions: dict[str, str] = {}
        self.symbol_from = "its directory"
        """What names the symbol of `partitions`, in words."""
        self.notes: list[str] = []
        """What was left out or taken for granted when the columns were found, for a person to read."""
        self.stopped: Callable[[], bool] = lambda: False
        """Whether the reader has stopped; asked by work that takes longer than a batch."""

    def refusal(self, problem: str, advice: str) -> InputError:
        if self.contents == "labels" and "--" in advice:
            # Other commands read labels without these options.
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
        """Record batches of these columns, in ascending order. `numbers` come as numbers, and `names`, which repeat,
        as dictionaries where the format allows it."""
        raise NotImplementedError

    def first_texts(self, column: int) -> list[str]:
        """The first texts of a column that are not empty, at most 1,000."""
        for raw in self.read([column]):
            if texts := not_empty(raw.column(0)):
                return texts
        return []

    def floats(self, column: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
        """A column as [n] float64 with NaN for null, without a copy where possible; and which cells are not numbers."""
        if is_type("decimal", column.type):
            import pyarrow as pa

            # Through text, which is rounded once; Arrow's own cast may differ in the last bit.
            column = column.cast(pa.string()).cast(pa.float64())
        values = values_of(column).astype(np.float64, copy=False)
        if (null := nulls_of(column)) is not None:
            values = np.where(null, np.nan, values)
        return values, None

    def spool(self, columns: Sequence[int]) -> None:
        """Prepares for being read twice."""

    def close(self) -> None:
        """Frees what reading needed."""


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


UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
"""Nanoseconds in the units of Arrow's times and timestamps."""

# Arrow's to_numpy imports pandas where it is installed, and is_null the compute functions: both start slowly.
_WIDTHS = {"halffloat": "f2", "float": "f4", "double": "f8", "date32[day]": "i4", "date64[ms]": "i8"}

_WIDTHS |= {"time32[s]": "i4", "time32[ms]": "i4", "time64[us]": "i8", "time64[ns]": "i8"}
_WIDTHS |= {f"{sign}int{bits}": f"{sign or 'i'}{bits // 8}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


def values_of(column: Any) -> NDArray[Any]:
    """[n] the values of a column of numbers, dates, times or timestamps, sharing its memory.

    Values at nulls are undefined.
    """
    dtype = np.dtype("i8" if is_type("timestamp", column.type) else _WIDTHS[str(column.type)])
    data = column.buffers()[1]
    if data is None or not len(column):
        return np.zeros(len(column), dtype)
    return np.frombuffer(data, dtype, len(column), column.offset * dtype.itemsize)


def nulls_of(column: Any) -> NDArray[np.bool_] | None:
    """[n] where a column is null; None where no value is."""
    if not column.null_count:
        return None
    bits = column.buffers()[0]
    if bits is None:  # a column of type null
        return np.ones(len(column), np.bool_)
    # From the slice's own first byte: the column around it may be too long to unpack.
    first, skipped = divmod(column.offset, 8)
    count = skipped + len(column)
    data = np.frombuffer(bits, np.uint8, -(-count // 8), first)
    return ~np.unpackbits(data, count=count, bitorder="little")[skipped:].astype(np.bool_)


def not_empty(column: Any) -> list[str]:
    """The texts among the first 1,000 of a column."""
    texts = (text_of(scalar).strip() for scalar in column.slice(0, 1000))
    return [text for text in texts if text]


def brief(error: BaseException) -> str:
    """The first line of a library's message, without its final stop."""
    return str(error).strip().partition("\n")[0].rstrip(".")[:200] or type(error).__name__
