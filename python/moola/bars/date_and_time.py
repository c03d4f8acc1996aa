"""Reads times that stand in two columns: the date, and the time of day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from moola import _core
from moola.bars.formats.inputs import UNITS, Input, is_text, is_type, nulls_of, text_of, values_of
from moola.bars.time_columns import CLOCK, no_zone
from moola.bars.times import Clock

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moola.bars.options import ReadOptions

__all__ = ["DateAndTime"]

_SECOND = 10**9
_DAY = 86_400 * _SECOND


class DateAndTime:
    """Reads the times of one file, from a column of dates and a column of times of day.

    With `time_format` the two are joined by one space and read by it. Without, the date may have any notation that a
    day can have, and the time of day is H:M, H:M:S, perhaps with a fraction and AM or PM, HHMM, HHMMSS, or a number of
    seconds or milliseconds since midnight.
    """

    def __init__(self, source: Input, date: int, time: int, options: ReadOptions) -> None:
        self._source = source
        self._time = time
        self._options = options
        self._digits: str | None = None
        self._joined = Clock(source, None, options) if options.time_format is not None else None
        if self._joined is None:
            days = replace(options, tz="UTC")
            self._date = Clock(source, date, days, days=True, beside=source.first_texts(time))
        else:
            self._date = self._joined
        self._known: dict[str, int] = {}
        self._offsets: dict[str, int] = {}

    @property
    def style(self) -> str:
        """As `Clock.style`, of the dates."""
        return self._date.style

    @style.setter
    def style(self, style: str) -> None:
        self._date.style = style

    def notation(self) -> str:
        """The notation in which times were read, for the record."""
        if self._joined is not None:
            return self._joined.notation()
        date = self._date.notation().removesuffix(" in UTC")
        zone = "" if self._options.tz is None else f" in {self._options.tz}"
        return f"{date}, {self._digits or 'H:M:S'} in column {self._source.names[self._time]!r}{zone}"

    def read(self, dates: Any, first_row: int, times: Any) -> NDArray[np.int64]:
        """[n] UTC nanoseconds, or one of `_core`'s codes for the reason why a time could not be read."""
        if self._joined is not None:
            return self._joined.read(_joined(dates, times), first_row)
        days = self._days(dates, first_row)
        clock, offsets = self._clock(times, first_row)
        there = (days > _core.TIME_LOCAL) & (clock >= 0)
        local = np.where(there, days + clock, np.where(clock < 0, clock, days))
        if (offsets == _core.TIME_LOCAL).all():
            if self._options.tz is None:
                raise no_zone(self._source, f"row {first_row + 1:,}, {text_of(times[0])!r},")
            return _core.localize(np.ascontiguousarray(local), self._options.tz)
        # The time of day carries its offset.
        return np.where(
            there & (offsets != _core.TIME_LOCAL),
            local - offsets,
            np.where(there, _core.TIME_UNREADABLE, local),
        )

    def _days(self, column: Any, first_row: int) -> NDArray[np.int64]:
        """[n] midnight of each date, as if in UTC. Each distinct date is read once."""
        if is_text(column.type) or is_type("dictionary", column.type):
            encoded = column if is_type("dictionary", column.type) else column.dictionary_encode()
            days = _spread(self._date.read(encoded.dictionary, first_row), encoded)
        else:
            if is_type("timestamp", column.type) and column.type.tz:
                import pyarrow.compute as pc

                # The date on the clocks of the column's own zone.
                column = pc.local_timestamp(column)
            days = self._date.read(column, first_row)
        odd = np.flatnonzero((days > _core.TIME_LOCAL) & (days % _DAY != 0))
        if odd.size:
            row = int(odd[0])
            raise self._source.refusal(
                f"row {first_row + row + 1:,} has the date {text_of(column[row])!r}, which holds a time of day, too",
                "Name the column that holds the whole time with --columns FILE_COLUMN=timestamp",
            )
        return days

    def _clock(self, column: Any, first_row: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """[n] nanoseconds since midnight or a code, and [n] the offset from UTC where the text has one."""
        none = np.full(len(column), _core.TIME_LOCAL)
        if is_type("time", column.type):
            clock = values_of(column).astype(np.int64) * UNITS[column.type.unit]
            null = nulls_of(column)
            return (clock if null is None else np.where(null, _core.TIME_NULL, clock)), none
        encoded = column if is_type("dictionary", column.type) else column.dictionary_encode()
        texts = [text_of(value).strip().removesuffix(".0") for value in encoded.dictionary]
        if self._digits is None and any(text.isdecimal() for text in texts):
            self._digits = self._find_digits()
        clock = np.array([self._time_of_day(text) for text in texts] or [0], np.int64)
        offsets = np.array([self._offsets.get(text, _core.TIME_LOCAL) for text in texts] or [0], np.int64)
        return _spread(clock, encoded), _spread(offsets, encoded, _core.TIME_LOCAL)

    def _find_digits(self) -> str:
        """What times of day of digits alone mean: HHMM, HHMMSS, seconds or milliseconds since midnight."""
        texts = [text.removesuffix(".0") for text in self._source.first_texts(self._time)]
        values = sorted({int(text) for text in texts if text.isdecimal()})
        # So many distinct times would hold one that is no minute, if they were counted from midnight.
        many = len(values) > 60
        if "ms" in self._source.names[self._time].lower().split("_"):
            return "milliseconds since midnight"
        if _are_clocks(values, 1) and (many or all(len(text) == 4 for text in texts)):
            return "HHMM"
        padded = all(len(text) == 6 for text in texts)
        if _are_clocks(values, 100) and (many or padded or values[-1] >= 86_400):
            return "HHMMSS"
        # Below 1,440 they may be minutes.
        if not _are_clocks(values, 1) and not _are_clocks(values, 100) and values[-1] >= 1440:
            return "seconds since midnight" if values[-1] < 86_400 else "milliseconds since midnight"
        raise self._source.refusal(
            f"has times of day such as {texts[0]!r}, which may be HHMM, HHMMSS or a count from midnight",
            "Write them as HH:MM:SS",
        )

    def _time_of_day(self, text: str) -> int:
        if text not in self._known:
            self._known[text] = self._read_clock(text)
        return self._known[text]

    def _read_clock(self, text: str) -> int:
        if not text or text.lower() in ("nan", "nat", "null", "none", "na", "n/a"):
            return int(_core.TIME_NULL)
        if text.isdecimal():
            value = int(text)
            if self._digits == "milliseconds since midnight":
                return value * 10**6 if value < 86_400_000 else int(_core.TIME_UNREADABLE)
            if self._digits == "seconds since midnight":
                return value * _SECOND if value < 86_400 else int(_core.TIME_UNREADABLE)
            hours, minutes, seconds = value // 10_000, value // 100 % 100, value % 100
            if self._digits == "HHMM":
                hours, minutes, seconds = value // 100, value % 100, 0
            return _nanoseconds(hours, minutes, seconds)
        match = CLOCK.fullmatch(text)
        if match is None:
            return int(_core.TIME_UNREADABLE)
        hour, minute, second, fraction, half, offset = match.groups()
        hours = int(hour)
        if half is not None:
            if not 1 <= hours <= 12:
                return int(_core.TIME_UNREADABLE)
            hours = hours % 12 + 12 * (half.upper() == "PM")
        if offset is not None:
            sign = -1 if offset[0] == "-" else 1
            digits = offset.strip("Z+-").replace(":", "") or "0000"
            self._offsets[text] = sign * (int(digits[:2]) * 3600 + int(digits[2:]) * 60) * _SECOND
        clock = _nanoseconds(hours, int(minute), int(second or 0))
        return clock if clock < 0 else clock + int((fraction or "0").ljust(9, "0"))


def _are_clocks(values: Sequence[int], second: int) -> bool:
    """Whether all numbers are HHMM (`second` = 1) or HHMMSS (`second` = 100)."""
    minutes = (value // second for value in values)
    seconds_fit = second == 1 or all(value % 100 < 60 for value in values)
    return seconds_fit and all(value // 100 < 24 and value % 100 < 60 for value in minutes)


def _nanoseconds(hours: int, minutes: int, seconds: int) -> int:
    if hours > 23 or minutes > 59 or seconds > 59:
        return int(_core.TIME_UNREADABLE)
    return (hours * 3600 + minutes * 60 + seconds) * _SECOND


def _spread(values: NDArray[np.int64], encoded: Any, missing: int = _core.TIME_NULL) -> NDArray[np.int64]:
    """The value of every row, from those of a dictionary."""
    if not len(values):
        return np.full(len(encoded), missing, np.int64)
    null = nulls_of(encoded.indices)
    if null is None:
        return cast("NDArray[np.int64]", values[values_of(encoded.indices)])
    return np.where(null, missing, values[np.where(null, 0, values_of(encoded.indices))])


def _joined(dates: Any, times: Any) -> Any:
    """Date, one space, time."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def texts(column: Any) -> Any:
        if is_type("dictionary", column.type):
            column = column.dictionary_decode()
        return pc.utf8_trim_whitespace(column.cast(pa.string()))

    return pc.binary_join_element_wise(texts(dates), texts(times), pa.scalar(" "))
