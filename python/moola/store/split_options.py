"""The options of splitting bars: by fractions, or by days of a time zone."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from moola import _core
from moola.bars.zones import check_zone
from moola.errors import ConfigError
from moola.settings.whole_numbers import whole_number

__all__ = ["DEFAULT_FRACTIONS", "NAMES", "SplitOptions", "midnight_after"]

NAMES = ("train", "val", "test")
"""The splits, in the order of time."""

DEFAULT_FRACTIONS = (0.7, 0.15, 0.15)


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """How bars are split: by fractions (0.7, 0.15, 0.15 unless given) or by the last days of each split.

    Raises `ConfigError`, which names the option, when the options contradict each other or are not valid.
    """

    fractions: Sequence[float] | None = None
    """The shares of train, val and test among all bars. What is missing from 1 belongs to no split."""
    train_end: date | str | None = None
    """The last day of train, inclusive."""
    val_end: date | str | None = None
    test_end: date | str | None = None
    """The last day of test; bars after it belong to no split. If not given, it is the last day of the bars."""
    tz: str = "UTC"
    """The zone in which days begin at midnight."""
    embargo: int = 0
    """Bars of each symbol that are dropped after each boundary."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "embargo", whole_number("embargo", self.embargo, 0, of="bars"))
        days = {name: getattr(self, name) for name in ("train_end", "val_end", "test_end")}
        given = [name for name, day in days.items() if day is not None]
        if given:
            if self.fractions is not None:
                raise ConfigError(
                    "split", f"cannot be combined with {given[0]}; give fractions or dates, not both"
                )
            for name, day in days.items():
                if day is None and name != "test_end":
                    raise ConfigError(
                        name,
                        "is missing; give train_end, val_end and test_end together, or leave out test_end alone: it "
                        "is then the last day of the bars",
                    )
                if day is not None:
                    object.__setattr__(self, name, _day(name, day))
            for earlier, later in (("train_end", "val_end"), ("val_end", "test_end")):
                if getattr(self, later) is not None and getattr(self, later) < getattr(self, earlier):
                    problem = f"{getattr(self, later)} lies before {earlier} {getattr(self, earlier)}"
                    raise ConfigError(later, f"{problem}; exchange them")
        elif self.fractions is not None:
            object.__setattr__(self, "fractions", _fractions(self.fractions))
        check_zone(self.tz)


def _day(name: str, day: object) -> date:
    if isinstance(day, datetime):
        raise ConfigError(name, f"{day} is a time; give a day, such as {day.date()}")
    if isinstance(day, date):
        return day
    if isinstance(day, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", day, re.ASCII):
        try:
            return date.fromisoformat(day)
        except ValueError:
            raise ConfigError(name, f"{day} is not in the calendar; give a day as YYYY-MM-DD") from None
    raise ConfigError(name, f"{day!r} is not a day; give it as YYYY-MM-DD, such as 2024-12-31")


def _fractions(given: Sequence[float]) -> tuple[float, ...]:
    try:
        fractions = tuple(float(share) for share in given)
    except (TypeError, ValueError):
        fractions = ()
    if len(fractions) != len(NAMES):
        raise ConfigError("split", f"{given!r} is not three numbers; give shares such as 0.7,0.15,0.15")
    if not all(math.isfinite(share) and share >= 0 for share in fractions):
        raise ConfigError(
            "split", f"{given!r} has a share that is negative or not finite; give shares from 0 to 1"
        )
    total = math.fsum(fractions)
    if total > 1 + 1e-9:
        raise ConfigError("split", f"{given!r} sum to {total:g}; give shares that sum to 1 or less")
    if total == 0:
        raise ConfigError("split", f"{given!r} leave no bar in any split; give shares such as 0.7,0.15,0.15")
    return fractions


def midnight_after(name: str, day: date, tz: str) -> int:
    """The first instant of the day after `day`, UTC nanoseconds.

    Where clocks skip midnight, that is the moment at which they skip it. Where midnight comes twice, it is the first.
    """
    midnight = (day - date(1970, 1, 1) + timedelta(days=1)) // timedelta(seconds=1)
    nanoseconds = _core.first_instant(midnight, tz)
    if nanoseconds is None:
        raise ConfigError(
            name, f"{day} lies outside the years that nanoseconds can count; give one from 1678 to 2261"
        )
    return nanoseconds
