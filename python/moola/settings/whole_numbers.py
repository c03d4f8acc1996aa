"""Checks whole numbers that users give."""

from __future__ import annotations

import operator

from moola.errors import ConfigError

__all__ = ["whole_number"]

_LARGEST = (1 << 63) - 1


def whole_number(name: str, value: object, least: int, most: int = _LARGEST, *, of: str | None = None) -> int:
    """The value as an int from `least` to `most`. NumPy's integers count, booleans do not.

    Args:
        name: The parameter, which an error names.
        value: What the user gave.
        least, most: The range, both inclusive.
        of: What is counted, such as `bars`, for the message.

    Raises `ConfigError` for anything else.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is not None and least <= number <= most:
        return number
    shown = repr(value) if number is None else str(number)
    if of is not None and (number is None or number < least):
        raise ConfigError(name, f"{shown} is not a number of {of}; give {least} or more")
    if number is None:
        raise ConfigError(name, f"{shown} is not a whole number; give one from {least} on")
    upto = "2⁶³ − 1" if most == _LARGEST else f"{most:,}"
    raise ConfigError(name, f"{shown} is out of range; give a whole number from {least:,} to {upto}")
