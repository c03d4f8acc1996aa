"""Turns times that users give into UTC nanoseconds, and refuses those that 64 bits cannot hold."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from moola.errors import ConfigError
from moola.settings.arrays import Numbers

__all__ = ["Time", "nanoseconds_of", "nanoseconds_of_all"]

Time: TypeAlias = str | date | datetime | np.datetime64

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_A_TIME = np.iinfo(np.int64).min


def nanoseconds_of(name: str, given: object) -> int:
    """One time as UTC nanoseconds.

    Args:
        name: The parameter, which an error names.
        given: A time with an offset, as text in ISO 8601 or as a `datetime`; a day, which begins at midnight UTC; or a
            `numpy.datetime64`, which is UTC.

    Raises `ConfigError` for anything else, for a time without an offset, and for one outside the years 1678 to 2261.
    """
    problem = f"{given!r} is no time; write 2020-06-10, or 2020-06-10T14:30:00Z"
    if isinstance(given, np.datetime64):
        if np.isnat(given):
            raise ConfigError(name, problem)
        return int(nanoseconds_of_all(name, np.array([given]))[0])
    try:
        time = datetime.fromisoformat(given) if isinstance(given, str) else given
    except ValueError:
        raise ConfigError(name, problem) from None
    if not isinstance(time, date):
        raise ConfigError(name, problem)
    if not isinstance(time, datetime) or (isinstance(given, str) and len(given) == 10):
        time = datetime(time.year, time.month, time.day, tzinfo=UTC)
    if time.tzinfo is None:
        raise ConfigError(name, f"{given!r} has no offset; write Z after it for UTC, or +02:00")
    nanoseconds = (time - _EPOCH) // timedelta(microseconds=1) * 1000
    if not _NOT_A_TIME < nanoseconds < 1 << 63:
        raise _beyond(name, given)
    return nanoseconds


def nanoseconds_of_all(name: str, times: NDArray[np.datetime64]) -> Numbers:
    """An array of `datetime64`, taken as UTC, in nanoseconds.

    Raises `ConfigError` where a time is missing, and where one lies outside the years that nanoseconds can count.
    """
    if (missing := np.isnat(times)).any():
        raise ConfigError(name, f"has a missing time at {int(np.argmax(missing))}; give every time")
    counted = times.astype("datetime64[ns]")
    # NumPy wraps around in silence. A finer unit cannot, and what it has beyond nanoseconds is cut off.
    if np.datetime_data(times.dtype)[0] not in ("ps", "fs", "as"):
        fits = counted.astype(times.dtype) == times
        if not fits.all():
            raise _beyond(name, times[int(np.argmin(fits))])
    return counted.astype(np.int64)


def _beyond(name: str, given: object) -> ConfigError:
    return ConfigError(
        name, f"{given} lies outside the years that nanoseconds can count; give one from 1678 to 2261"
    )
