"""The times of live bars, as a stream's caller may give them, in whole numbers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moola.errors import ConfigError, TimestampError
from moola.settings.times import nanoseconds_of, nanoseconds_of_all

__all__ = ["instant", "numbers"]


def instant(timestamp: object) -> int:
    """A date and time in UTC nanoseconds.

    Raises `TimestampError` for a datetime without a zone, and for a time that is missing or outside the years 1678 to
    2261; `TypeError` for anything that is neither a `datetime` nor a `numpy.datetime64`.
    """
    if not isinstance(timestamp, datetime | np.datetime64):
        raise TypeError(
            f"timestamp must be an int, a datetime with a zone or a numpy.datetime64, not {timestamp!r}"
        )
    if isinstance(timestamp, datetime) and timestamp.tzinfo is None:
        raise TimestampError(
            f"timestamp {timestamp.isoformat()} has no zone; give one, such as "
            f"{timestamp.replace(microsecond=0).isoformat(sep=' ')} with tzinfo=datetime.UTC"
        )
    try:
        return nanoseconds_of("timestamp", timestamp)
    except (ConfigError, TypeError) as error:
        # pandas.NaT is a datetime, but not a time.
        problem = error.problem if isinstance(error, ConfigError) else f"{timestamp!r} is no time"
        raise TimestampError(f"timestamp: {problem}") from None


def numbers(timestamp: Any) -> tuple[NDArray[np.int64], bool]:
    """Times as int64 `[N]`, and whether they are UTC nanoseconds that came from dates and times.

    Args:
        timestamp: whole numbers, `datetime64` (UTC), or datetimes with a zone: an array, a column or a list.

    Raises as `instant` does.
    """
    times = np.asarray(timestamp)
    if times.ndim != 1:
        raise ValueError(f"timestamp must have one dimension, not shape {times.shape}")
    if times.dtype.kind == "M":
        try:
            return np.ascontiguousarray(nanoseconds_of_all("timestamp", times)), True
        except ConfigError as error:
            raise TimestampError(f"timestamp {error.problem}") from None
    if times.dtype.kind == "O" and len(times):
        return np.array([instant(time) for time in times], np.int64), True
    if times.dtype.kind == "u" and len(times) and int(times.max()) >= 1 << 63:
        raise TimestampError(
            f"timestamp {int(times.max())} lies outside the years 1678 to 2261 in every unit"
        )
    if times.dtype.kind not in "iu" and len(times):
        raise TypeError(
            f"timestamp must be whole numbers, datetime64 or datetimes with a zone, not {times.dtype}; "
            "for times as floats use timestamp.astype('int64'), with unit= where they are not nanoseconds"
        )
    return np.ascontiguousarray(times, np.int64), False
