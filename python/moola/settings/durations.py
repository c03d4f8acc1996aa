"""Reads durations such as '4h' or '1d 12h' as nanoseconds."""

from __future__ import annotations

import re
from datetime import timedelta
from numbers import Integral

from moola.errors import ConfigError

__all__ = ["parse_duration"]


_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "min": 60 * 10**9}

_UNITS |= {"h": 3600 * 10**9, "d": 86_400 * 10**9}


def parse_duration(duration: str | int | timedelta, name: str = "reset_on_gap") -> int:
    """A duration in nanoseconds.

    Args:
        duration: A text such as `'4h'`, `'90m'` or `'1d 12h'`, a timedelta, or nanoseconds.
        name: The parameter, which an error names.

    Raises `ConfigError` for anything else, and for a duration that is not positive or too long for 64 bits.
    """
    if isinstance(duration, timedelta):
        nanoseconds = (duration.days * 86_400 + duration.seconds) * 10**9 + duration.microseconds * 1000
    elif isinstance(duration, Integral) and not isinstance(duration, bool):
        nanoseconds = int(duration)
    else:
        parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]+)", str(duration).lower())
        rest = re.sub(r"\d+(?:\.\d+)?\s*[a-z]+|\s", "", str(duration).lower())
        if not parts or rest or any(unit not in _UNITS for _, unit in parts):
            raise ConfigError(name, f"{duration!r} is not a duration; write for example '4h', '90m' or '1d'")
        nanoseconds = sum(round(float(number) * _UNITS[unit]) for number, unit in parts)
    if not 0 < nanoseconds < 2**63:
        raise ConfigError(name, f"must be positive and shorter than 292 years, not {duration!r}")
    return nanoseconds
