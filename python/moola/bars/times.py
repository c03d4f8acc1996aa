"""Reads the times of a file, in any notation, as UTC nanoseconds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast

import numpy as np

from moola import _core
from moola.bars.formats.inputs import (
    UNITS,
    Input,
    is_temporal,
    is_text,
    is_type,
    nulls_of,
    text_of,
    values_of,
)
from moola.bars.time_columns import CLOCK, no_zone
from moola.bars.time_formats import format_advice, readings
from moola.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moola.bars.options import ReadOptions

__all__ = ["EPOCH_FIRST", "Clock", "DateOrder", "texts_of", "whole_numbers"]

_EPOCH_FACTORS: Mapping[str, int] = {"s": 10**9, "ms": 10**6, "µs": 10**3, "ns": 1}
# 1980 to 2200 in one unit overlaps neither that span in another unit nor dates written as YYYYMMDD,
# YYYYMMDDHHMM or YYYYMMDDHHMMSS.
EPOCH_FIRST, _EPOCH_END = 315_532_800, 7_258_118_400

_ORDERS = ("month_first", "day_first", "year_first")
_ORDER_FORMATS = ("%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d")
_ORDER_NAMES = ("M/D/Y", "D/M/Y", "Y/M/D")


class _Texts(NamedTuple):
    """A column of texts as the engine takes it, sharing Arrow's memory."""

    offsets: NDArray[np.int64]
    data: NDArray[np.uint8]
    null: NDArray[np.bool_] | None


def texts_of(column: Any) -> _Texts:
    import pyarrow as pa

    if is_type("string", column.type) or is_type("binary", column.type):
        width: Any = np.int32
    else:
        width = np.int64
        if not (is_type("large_string", column.type) or is_type("large_binary", column.type)):
            column = column.cast(pa.large_string())
    _, offsets, data = column.buffers()
    part = slice(column.offset, column.offset + len(column) + 1)
    return _Texts(
        np.frombuffer(offsets, width)[part].astype(np.int64, copy=False)
        if len(column)
        else np.zeros(1, np.int64),
        np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8),
        nulls_of(column),
    )


class Clock:
    """Reads the times of one file, from one column.

    Args:
        source: the file.
        column: the column of the times; None for texts by `time_format` that are made of several columns.
        options: how they are read.
        utc: the column's name says that times without an offset are in UTC.
        days: the column holds days, and the time of day stands elsewhere.
        beside: the first times of day that stand elsewhere, for advice.
    """

    def __init__(
        self,
        source: Input,
        column: int | None,
        options: ReadOptions,
        *,
        utc: bool = False,
        days: bool = False,
        beside: Sequence[str] = (),
    ) -> None:
        self._source = source
        self._options = replace(options, tz="UTC") if utc and options.tz is None else options
        self._column = column
        self._days = days
        self._beside = beside
        self._dtype = None if source.types is None or column is None else source.types[column]
        self._units: list[str] = []
        self._locals = self._read = 0
        self.style: str = ""
        """Empty for Arrow times and for numbers. For text: iso, epoch, an order of slashed dates (slashed until it is
        known), or a strptime pattern, which also reads numbers."""
        if self._dtype is None or is_text(self._dtype):
            first = [] if column is None else source.first_texts(column)
            self.style = options.time_format or self._find_style(first)
        elif not is_temporal(self._dtype):
            self.style = options.time_format or ""
            if not self.style and days:
                self.style = "%Y%m%d"

    def _find_style(self, texts: Sequence[str]) -> str:
        if not texts:
            return "iso"
        if self._days and all(text.isdecimal() for text in texts):
            return self._pattern(texts)
        if all(_FLOAT.fullmatch(text) for text in texts):
            return self._style_of_floats(texts)
        for text in texts:
            if style := _core.time_notation(text):
                return style
        if all(CLOCK.fullmatch(text) for text in texts):
            raise self._source.refusal(
                f"has times of day such as {texts[0]!r}, counted from midnight, and no date",
                "Name the columns with --columns FILE_COLUMN=date,FILE_COLUMN=time; or, if the date stands in the "
                "file's name, add it as a column",
            )
        return self._pattern(texts)

    def _pattern(self, texts: Sequence[str]) -> str:
        """The one pattern that reads every text."""
        found = readings(texts)
        letters = texts[0][-1:].isalpha() and not texts[0].upper().endswith(("AM", "PM", "UTC", "GMT"))
        if len(found) == 1 and not letters:
            return found[0].pattern
        raise self._source.refusal(
            f"has times such as {texts[0]!r}, "
            + (
                "which may be read in several ways"
                if len(found) > 1
                else "in a notation that is not read by itself"
            ),
            format_advice(*self._whole(texts)),
        )

    def _whole(self, texts: Sequence[str]) -> tuple[str, list[str]]:
        """The first time and all of them, each with the time of day that stands beside it."""
        whole = [
            f"{day} {clock}".strip()
            for day, clock in zip_longest(texts, self._beside[: len(texts)], fillvalue="")
        ]
        return whole[0], whole

    def _style_of_floats(self, texts: Sequence[str]) -> str:
        """Epochs such as 1.6727562E9. Refuses Excel's days, and epochs that Excel has shortened."""
        values = [float(text) for text in texts]
        if all(20_000 < value < 80_000 for value in values):
            raise self._excel_days(texts[0])
        parts = [text.upper().partition("E") for text in texts]
        if all(exponent for _, _, exponent in parts):
            decimals = max(len(mantissa.partition(".")[2]) for mantissa, _, _ in parts)
            exponent = min(int(exponent) for _, _, exponent in parts)
            # The last digit written, in seconds: epochs of 10 digits count seconds, of 13 milliseconds, and so on.
            if exponent >= 9 and 10.0 ** (exponent - decimals - (exponent - 9) // 3 * 3) > 30:
                raise self._source.refusal(
                    f"has times such as {texts[0]!r}, whose last digits are lost: a spreadsheet shortened them",
                    "Fetch the file again and do not save it from Excel, or format the column as a number without "
                    "decimals before saving",
                )
        return "float"

    def _excel_days(self, text: str) -> InputError:
        seconds = round((float(text) - 25_569) * 86_400)
        shown = str(np.datetime64(seconds, "s")).replace("T", " ")
        return self._source.refusal(
            f"has times such as {text!r}, which is how Excel counts days ({shown})",
            "Format the column in Excel as yyyy-mm-dd hh:mm:ss and save the CSV again",
        )

    def notation(self) -> str:
        """The notation in which times were read, for the record."""
        zone = f" in {self._options.tz}"
        if self.style in _ORDERS:
            return _ORDER_NAMES[_ORDERS.index(self.style)] + zone
        if self.style == "iso":
            if not self._locals:
                return "ISO 8601 with offset"
            return f"ISO 8601{zone}" if self._locals == self._read else f"ISO 8601 with offset, or{zone}"
        if self._dtype is not None and is_temporal(self._dtype):
            return f"arrow {self._dtype}" + ("" if getattr(self._dtype, "tz", None) else zone)
        if self.style in ("", "epoch", "float"):
            return f"epoch {', and '.join(self._units) or 'without values'}"
        return self.style + (zone if self._locals else "")

    def read(self, column: Any, first_row: int) -> NDArray[np.int64]:
        """[n] UTC nanoseconds, or one of `_core`'s codes for the reason why a time could not be read."""
        if is_temporal(column.type):
            return self._read_temporal(column)
        if not self.style:
            self._check_excel(column)
            return self._read_epochs(whole_numbers(column), first_row)
        if self.style == "float":
            import pyarrow as pa

            return self._read_epochs(whole_numbers(_as_floats(column, pa)), first_row)
        texts = texts_of(column if is_text(column.type) else _as_texts(column))
        if self.style == "epoch":
            return self._read_epochs(_core.parse_epochs(*texts), first_row)
        times, local = _core.parse_times(*texts, self.style, self._options.tz)
        self._locals += local
        self._read += int(np.count_nonzero(times != _core.TIME_NULL))
        if local and self._options.tz is None:
            row = int(np.flatnonzero(times == _core.TIME_LOCAL)[0])
            raise no_zone(self._source, f"row {first_row + row + 1:,}, {text_of(column[row])!r},")
        return times

    def _read_temporal(self, column: Any) -> NDArray[np.int64]:
        dtype = column.type
        if is_type("timestamp", dtype):
            unit = UNITS[dtype.unit]
        else:
            unit = 86_400 * 10**9 if is_type("date32", dtype) else 10**6
        times = values_of(column).astype(np.int64, copy=False)
        if unit > 1:
            limit = (2**63 - 1) // unit
            beyond = (times > limit) | (times < -limit)
            times = times * unit
            times[beyond] = _core.TIME_UNREADABLE
        if (null := nulls_of(column)) is not None:
            times = np.where(null, _core.TIME_NULL, times)
        zoned = getattr(dtype, "tz", None)
        return times if zoned else _core.localize(times, cast(str, self._options.tz))

    def _check_excel(self, column: Any) -> None:
        """Refuses a column of floats that are Excel's days."""
        if is_type("floating", column.type) and not self._units:
            values = values_of(column)[:1000].astype(np.float64)
            values = values[np.isfinite(values)]
            if len(values) and ((values > 20_000) & (values < 80_000)).all() and (values % 1 != 0).any():
                raise self._excel_days(str(values[0]))

    def _read_epochs(self, values: NDArray[np.int64], first_row: int) -> NDArray[np.int64]:
        """Each value in its own unit: the ranges of plausible times in s, ms, µs and ns do not overlap."""
        for unit in self._units:
            if _within(values, unit).all():
                return values * _EPOCH_FACTORS[unit]
        there = values > _core.TIME_LOCAL
        if not self._units:
            self._check_compact(values[there][:1000], first_row)
        times = np.where(there, _core.TIME_UNREADABLE, values)
        for unit, factor in _EPOCH_FACTORS.items():
            plausible = _within(values, unit)
            if plausible.any():
                times = np.where(plausible, values * factor, times)
                if unit not in self._units:
                    self._units.append(unit)
        if not self._units and there.any():
            self._refuse_number(values, int(np.flatnonzero(there)[0]), first_row)
        return times

    def _check_compact(self, values: NDArray[np.int64], first_row: int) -> None:
        """Refuses yymmddHHMM, which looks like an epoch in seconds; the last two digits of epochs go beyond 59 soon."""
        distinct = np.unique(values)
        minutes, hours = distinct % 100, distinct // 100 % 100
        days, months = distinct // 10_000 % 100, distinct // 1_000_000 % 100
        fits = (minutes < 60) & (hours < 24) & (days >= 1) & (days <= 31) & (months >= 1) & (months <= 12)
        if len(distinct) >= 10 and fits.all() and _within(distinct, "s").all():
            raise self._source.refusal(
                f"row {first_row + 1:,} has the time {values[0]}, which looks like a date and a time without a century",
                "Say how it is written with --time-format '%y%m%d%H%M'",
            )

    def _refuse_number(self, values: NDArray[np.int64], row: int, first_row: int) -> NoReturn:
        digits = str(values[row])
        where = f"row {first_row + row + 1:,} has the time {digits}, which is"
        day = len(digits) == 8 and 1 <= int(digits[4:6]) <= 12 and 1 <= int(digits[6:]) <= 31
        if 0 <= values[row] <= 86_400_000 and not day:
            raise self._source.refusal(
                f"{where} no date: it may count milliseconds from midnight",
                "Name the column of the dates with --columns FILE_COLUMN=date,FILE_COLUMN=time; or, if the date stands "
                "in the file's name, add it as a column",
            )
        formats = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
        raise self._source.refusal(
            f"{where} not an epoch time in s, ms, µs or ns from 1980 to 2200",
            "If it is a date, say how it is written with --time-format, for example "
            f"--time-format '{formats.get(len(digits), '%Y%m%d%H%M')}'; if it is not a time, name the right "
            "column with --columns FILE_COLUMN=timestamp",
        )


_FLOAT = re.compile(r"\d+\.\d*[1-9]\d*|\d(\.\d+)?[eE]\+?\d+")
"""Numbers that are not whole as they are written."""


def _as_floats(column: Any, pa: Any) -> Any:
    """Texts as float64; texts that are no numbers become null."""
    texts = [text_of(value).strip() for value in column]
    return pa.array(
        [float(text) if _FLOAT.fullmatch(text) or text.isdecimal() else None for text in texts], pa.float64()
    )


def _within(values: NDArray[np.int64], unit: str) -> NDArray[np.bool_]:
    scale = 10**9 // _EPOCH_FACTORS[unit]
    return (values >= EPOCH_FIRST * scale) & (values < _EPOCH_END * scale)


def whole_numbers(column: Any) -> NDArray[np.int64]:
    """A numeric column as int64. A value that is missing, not whole or too large becomes the code of its reason."""
    values, null = values_of(column), nulls_of(column)
    if is_type("integer", column.type):
        whole = values.astype(np.int64, copy=False)
        if values.dtype == np.uint64 and (beyond := values > np.iinfo(np.int64).max).any():
            whole = np.where(beyond, _core.TIME_UNREADABLE, whole)
    else:
        floats = values.astype(np.float64, copy=False)
        fits = (np.floor(floats) == floats) & (np.abs(floats) < 2.0**63)
        whole = np.where(fits, floats, 0).astype(np.int64)
        whole[~fits] = _core.TIME_UNREADABLE
        whole[np.isnan(floats)] = _core.TIME_NULL
    return whole if null is None else np.where(null, _core.TIME_NULL, whole)


def _as_texts(column: Any) -> Any:
    """Whole numbers as text, for a strptime pattern."""
    import pyarrow as pa

    if is_type("floating", column.type):
        values = whole_numbers(column)
        texts = [
            None if v == _core.TIME_NULL else "?" if v == _core.TIME_UNREADABLE else str(v) for v in values
        ]
        return pa.array(texts, pa.string())
    return column.cast(pa.string())


class _Seen(NamedTuple):
    file: int
    row: int
    text: str


class DateOrder:
    """Finds the order of day, month and year that fits every slashed date."""

    def __init__(self) -> None:
        self._misfits: list[_Seen | None] = [None, None, None]
        self._differs: _Seen | None = None

    def see(self, file: int, first_row: int, column: Any) -> None:
        misfits, differs = _core.fit_dates(*texts_of(column))

        def seen(row: int) -> _Seen:
            return _Seen(file, first_row + row, text_of(column[row]).strip())

        for order, row in enumerate(misfits):
            if row is not None and self._misfits[order] is None:
                self._misfits[order] = seen(row)
        if differs is not None and self._differs is None:
            self._differs = seen(differs)

    def settle(self, locate: Callable[[int, int], str], clock: Callable[[int], str] = lambda file: "") -> str:
        """The order that fits every date. `locate` gives the place of a row of a file in words, `clock` an example
        of the time of day that stands beside the dates of a file.

        Raises `InputError` where no order fits, and where two fit and read some date differently.
        """
        fitting = [order for order, misfit in enumerate(self._misfits) if misfit is None]

        def place(seen: _Seen) -> str:
            return locate(seen.file, seen.row)

        if not fitting:
            facts = [
                f"{seen.text!r} ({place(seen)}) is not {_ORDER_NAMES[order]}"
                for order, seen in enumerate(self._misfits)
                if seen is not None and (order < 2 or seen.text[:4].isdecimal())
            ]
            raise InputError(
                f"no order of day, month and year fits every date: {'; '.join(facts)}",
                "Bring the dates to one order, ISO 8601 at best",
            )
        if len(fitting) > 1 and self._differs is not None:
            seen = self._differs
            example = f"{seen.text} {clock(seen.file)}".strip()
            formats = [_format_like(example, _ORDER_FORMATS[order]) for order in fitting]
            times = [_core.parse_times(*_one_text(seen.text), _ORDERS[order], "UTC")[0] for order in fitting]
            readings = [str(time.astype("datetime64[ns]")[0])[:16].replace("T", " ") for time in times]
            raise InputError(
                f"{place(seen)}: {seen.text!r} may be {readings[0]} (month first) or {readings[1]} (day "
                "first), and both fit every date",
                f"Say which with --time-format '{formats[0]}' or --time-format '{formats[1]}'",
            )
        return _ORDERS[fitting[0]]


def _one_text(text: str) -> _Texts:
    data = np.frombuffer(text.encode(), np.uint8)
    return _Texts(np.array([0, len(data)], np.int64), data, None)


def _format_like(text: str, date: str) -> str:
    """The strptime pattern for a slashed date, followed by a time as in `text`."""
    _, _, clock = text.partition(" ")
    clock = clock.strip()
    if not clock:
        return date
    half = clock[-2:].upper() in ("AM", "PM")
    pattern = "%I:%M" if half else "%H:%M"
    pattern += ":%S" if clock.count(":") == 2 else ""
    pattern += ".%f" if "." in clock else ""
    pattern += (" %p" if " " in clock else "%p") if half else ""
    return f"{date} {pattern}"
