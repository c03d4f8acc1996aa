"""A table of labels: finds the columns by role and reads their values as arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moola import _core
from moola.bars.columns import find_column, listed, named_columns
from moola.bars.formats.inputs import Input, is_temporal, is_text, is_type, text_of
from moola.bars.formats.opening import open_file
from moola.bars.formats.stream import StreamInput, is_table
from moola.bars.options import ReadOptions, parse_columns
from moola.bars.roles import ALIASES
from moola.bars.time_columns import no_zone
from moola.bars.times import EPOCH_FIRST, Clock, texts_of, whole_numbers
from moola.labels.names import other_spellings

if TYPE_CHECKING:
    from numpy.typing import NDArray

from moola.labels.refusals import Refusals

__all__ = ["LabelTable", "are_times"]

# The usual names of each role, the most specific first.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "features": ("features", "bars", "ohlc"),
    "symbol": ALIASES["symbol"],
    "window_end": ("window_end",),
    "class": ("class", "label", "type"),
    "start": ("start", "expansion_start", "span_start"),
    "end": ("end", "expansion_end", "span_end"),
    "weight": ("weight", "sample_weight"),
}


WINDOWS_AT_A_TIME = 512
"""Windows that are read at a time, with all their bars. This many fit in a cache."""


class LabelTable:
    """The columns of a file or table of labels, read.

    Args:
        labels: a path (Parquet, CSV, Arrow IPC), or an object with `__arrow_c_stream__`.
        required, optional: the roles that columns may play.
        columns: from a file's column to its role, for columns with unusual names.
        tz, time_format: how times are written, as for bars.
        features: called with the source, the column's name and each array of features as it is read.

    Raises `InputError` if the input is no such table, and names what it lacks.
    """

    def __init__(
        self,
        labels: object,
        required: Sequence[str],
        optional: Sequence[str],
        *,
        columns: Mapping[str, str] | str | None = None,
        tz: str | None = None,
        time_format: str | None = None,
        features: Callable[[Input, str, Any], None] | None = None,
    ) -> None:
        import pyarrow as pa

        roles = (*required, *optional)
        named = parse_columns(columns, roles)
        self._options = ReadOptions(tz=tz, time_format=time_format)
        if isinstance(labels, str | os.PathLike):
            self.source: Input = open_file(Path(labels), "labels")
        elif is_table(labels):
            self.source = StreamInput(labels, "labels")
        else:
            raise TypeError(
                "labels must be a path or an object with __arrow_c_stream__ (a pyarrow Table, a pandas or polars "
                f"DataFrame, a DuckDB relation), not a {type(labels).__name__}"
            )
        if self.source.headerless:
            raise self.source.refusal(
                f"has no header: its first line is {self.source.first_line!r}",
                f"Put a line with the columns' names above it: {','.join(required)}",
            )
        at = {
            role: column
            for role in roles
            if (column := find_column(self.source, role, _NAMES[role], named_columns(self.source, named)))
            is not None
        }
        if missing := [role for role in required if role not in at]:
            if "features" not in roles and self._holds_bars():
                raise self.source.refusal(
                    f"has no column for {', '.join(missing)}, but contains pre-cut windows, as lists of bars",
                    "Import it first, with moola import-labels --raw (read_raw_windows)",
                )
            raise self.source.refusal(
                f"has no column for {', '.join(missing)}; its columns are {listed(self.source.names)}",
                f"Labels need {', '.join(required)}. Name what is called otherwise with --columns "
                f"FILE_COLUMN={missing[0]}",
            )
        self._names = {role: self.source.names[column] for role, column in at.items()}
        if features is not None:
            self.source.batch_rows = WINDOWS_AT_A_TIME
        wanted = sorted(set(at.values()))
        chunks: dict[str, list[Any]] = {role: [] for role in at if role != "features"}
        self.rows = 0
        """How many labels there are."""
        for batch in self.source.read(wanted):
            self.rows += batch.num_rows
            for role, parts in chunks.items():
                parts.append(batch.column(wanted.index(at[role])))
            if features is not None:
                features(self.source, self._names["features"], batch.column(wanted.index(at["features"])))
        self.source.close()
        if not self.rows:
            raise self.source.refusal("holds no labels", "Check how it was made")
        self._columns = {role: pa.concat_arrays(parts) for role, parts in chunks.items()}

    def _holds_bars(self) -> bool:
        column = find_column(self.source, "features", _NAMES["features"], {})
        return (
            column is not None
            and self.source.types is not None
            and any(
                is_type(kind, self.source.types[column]) for kind in ("list", "large_list", "fixed_size_list")
            )
        )

    def has(self, role: str) -> bool:
        """Whether there is such a column."""
        return role in self._columns

    def name(self, role: str) -> str:
        """The file's name of a column."""
        return self._names[role]

    def text(self, role: str, row: int) -> str:
        """A value as text, stripped; empty for null and NaN; whole numbers without a decimal point."""
        value = self._value(role, row)
        if is_type("floating", value.type) and value.is_valid:
            number = float(value.as_py())
            return "" if np.isnan(number) else str(int(number)) if number.is_integer() else str(number)
        if is_text(value.type) and value.is_valid:
            # A column of texts may hold bytes that are no UTF-8, and Arrow's own reader fails at these.
            text: str = value.as_buffer().to_pybytes().decode(errors="replace")
            return text.strip()
        return text_of(value).strip()

    def _value(self, role: str, row: int) -> Any:
        value = self._columns[role][row]
        return value.value if is_type("dictionary", value.type) else value

    def given(self, role: str, row: int) -> str:
        """A value with the name of its column, for messages."""
        return f"{self.name(role)} = {self.text(role, row) or 'nothing'}"

    def texts(self, role: str) -> list[str]:
        """All values of a column, as :meth:`text` gives them."""
        return [self.text(role, row) for row in range(self.rows)]

    def numbers(self, role: str) -> NDArray[np.int64] | None:
        """`[rows]` whole numbers, or one of `_core`'s reasons why there are none; None for a column of times."""
        column = self._columns[role]
        if is_temporal(column.type):
            return None
        if is_text(column.type):
            missing = self._missing(role)
            first = next((self.text(role, row) for row in np.flatnonzero(~missing).tolist()), "0")
            if _core.time_notation(first) != "epoch":
                return None
            return np.where(missing, _core.TIME_NULL, _core.parse_epochs(*texts_of(column)))
        if not (is_type("integer", column.type) or is_type("floating", column.type)):
            if is_type("null", column.type):
                return np.full(self.rows, _core.TIME_NULL)
            raise self._refuse_type(role, "give times or whole numbers")
        return whole_numbers(column)

    def times(self, role: str) -> NDArray[np.int64]:
        """`[rows]` UTC nanoseconds, or one of `_core`'s reasons why there are none.

        Raises `InputError` for times without a zone, and for those whose format is unknown.
        """
        import pyarrow as pa

        column, missing = self._columns[role], self._missing(role)
        if missing.all():
            # Without a value there is no time format to find, and an Arrow column of nulls has no type.
            return np.full(self.rows, _core.TIME_NULL)
        if is_temporal(column.type) and not getattr(column.type, "tz", None) and self._options.tz is None:
            raise no_zone(self.source, f"column {self.name(role)!r} ({column.type})")
        held = StreamInput(pa.table({self.name(role): column}), "labels")
        held.name = self.source.name
        clock = Clock(held, 0, self._options)
        if clock.style == "slashed":
            text = self.text(role, int(np.argmin(missing)))
            raise self.source.refusal(
                f"has times such as {text!r}, which may have the day or the month first",
                "Say which with --time-format, for example --time-format '%d/%m/%Y %H:%M'",
            )
        return np.where(missing, _core.TIME_NULL, clock.read(column, 0))

    def _missing(self, role: str) -> NDArray[np.bool_]:
        """`[rows]`: whether a text means a missing value; True throughout a column of nulls."""
        column = self._columns[role]
        if is_text(column.type):
            return np.array([text in _MISSING for text in self.texts(role)])
        return np.full(self.rows, is_type("null", column.type))

    def refuse_times(
        self, role: str, times: NDArray[np.int64], refusals: Refusals, *, required: bool
    ) -> None:
        """Refuses the rows where :meth:`times` gave a reason; missing times only where they are `required`."""

        def what(row: int) -> str:
            return f"{self.given(role, row)}{_REASONS.get(int(times[row]), '')}"

        if required:
            refusals.add("no_window_end", times == _core.TIME_NULL, what)
        refusals.add("bad_time", (times > _core.TIME_NULL) & (times <= _core.TIME_LOCAL), what)

    def weights(self, refusals: Refusals) -> NDArray[np.float64]:
        """`[rows]`; 1 throughout if there is no such column."""
        if not self.has("weight"):
            return np.ones(self.rows)
        column = self._columns["weight"]
        if self.source.types is not None and not (
            is_type("integer", column.type) or is_type("floating", column.type)
        ):
            raise self._refuse_type("weight", "weights are numbers")
        weights, _ = self.source.floats(column)
        bad = ~(np.isfinite(weights) & (weights >= 0))
        refusals.add("bad_weight", bad, partial(self.given, "weight"))
        return weights

    def _refuse_type(self, role: str, needed: str) -> Exception:
        return self.source.refusal(
            f"column {self.name(role)!r} has the wrong type {self._columns[role].type}; {needed}",
            f"Convert it, or name the right column with --columns FILE_COLUMN={role}",
        )

    def classes(self, refusals: Refusals) -> list[str]:
        """The class of each row, by its name: a text, a whole number or a boolean.

        Null, empty, NaN and NaT are missing classes, also when a table of texts spells them out.
        """
        texts, problems = self.texts("class"), [self._no_name(row) for row in range(self.rows)]
        missing = np.array([text in _MISSING for text in texts])
        refusals.add("no_class", missing, lambda row: f"{self.name('class')} = {texts[row] or 'nothing'}")
        refusals.add(
            "bad_class",
            np.array([problem is not None for problem in problems]),
            lambda row: f"{self.given('class', row)}, {problems[row]}",
        )
        other = other_spellings(texts, [row for row in range(self.rows) if not missing[row]])
        refusals.add(
            "class_spelling",
            np.array([row in other for row in range(self.rows)]),
            lambda row: f"{self.given('class', row)}, which is {other[row]!r} elsewhere",
        )
        return texts

    def _no_name(self, row: int) -> str | None:
        """Why a value is no name of a class; None if it is one."""
        value = self._value("class", row)
        if not value.is_valid or is_type("boolean", value.type) or is_type("integer", value.type):
            return None
        if is_type("floating", value.type):
            return None if float(value.as_py()).is_integer() else "which is not whole"
        if not is_text(value.type):
            return f"which is {value.type}"
        try:
            value.as_buffer().to_pybytes().decode()
        except UnicodeDecodeError:
            return "which is no UTF-8"
        return None


# What pandas and NumPy write for a missing value. Not "None": many use it as the name of a class.
_MISSING = ("", "nan", "NaN", "NaT", "<NA>")


def are_times(numbers: NDArray[np.int64] | None) -> bool:
    """Whether a column holds times: it has no whole numbers, or at least half are too large for rows and bars."""
    if numbers is None:
        return True
    # Reasons, and -1 for a missing span, do not count.
    known = numbers[(numbers > _core.TIME_LOCAL) & (numbers != -1)]
    return bool(len(known)) and 2 * int((known >= EPOCH_FIRST).sum()) >= len(known)


_REASONS = {
    _core.TIME_AMBIGUOUS: ", which occurs twice when clocks go back",
    _core.TIME_NONEXISTENT: ", which does not exist because clocks go forward",
}
