"""Checks whole numbers that users give."""

from __future__ import annotations

import operator

from moola.errors import ConfigError

__all__ = ["whole_number"]

_LARGEST = (1 << 63) - 1


def whole_number(name: str, value: object, least: int, most: int = _LARGEST) -> int:
    """The value as an int from `least` to `most`; NumPy's integers count, bools do not.

    Raises `ConfigError`, naming `name`, for anything else.
    """
    upto = "2⁶³ − 1" if most == _LARGEST else f"{most:,}"
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ConfigError(name, f"{value!r} is not a whole number; give one from {least} on") from None
    if not least <= number <= most:
        raise ConfigError(name, f"{value!r} is out of range; give a whole number from {least} to {upto}")
    return number
