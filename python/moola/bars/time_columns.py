"""Finds the column of the times, or the two columns of dates and of times of day."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from moola import _core
from moola.bars.formats.inputs import Input, is_temporal, is_type
from moola.bars.roles import ALIASES, UTC_NAMES, plain_name
from moola.errors import InputError

if TYPE_CHECKING:
    from moola.bars.options import ReadOptions

__all__ = ["CLOCK", "TimeColumns", "find_times", "kind_of_times", "no_zone"]

# The index that pandas writes beside the columns: a time only where no other column is one.
_INDEX_NAMES = ("__index_level_0__", "", "unnamed:_0", "index")

CLOCK = re.compile(
    r"(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?\s*([AaPp][Mm])?\s*(Z|[+-]\d{2}:?\d{2})?"
)
"""A time of day as text."""

_MIDNIGHT = re.compile(r"\d[T ]+0?0:00(:00(\.0+)?)?$")
_OFFSET = re.compile(r"\d\s*(Z|UTC|GMT|(GMT|UTC)?[+-]\d{2}(:?\d{2})?)$")
_DAY = re.compile(
    r"\d{4}([-./])\d{1,2}\1\d{1,2}|\d{1,2}([-./])(\d{1,2}|[A-Za-z]{3,9})\2(\d{4}|\d{2})|\d{8}|\d{6}"
)


class TimeColumns(NamedTuple):
    """Where the times of a file stand."""

    timestamp: int
    """The column of times, or of dates."""
    time: int | None = None
    """The column of times of day, where it is another."""
    utc: bool = False
    """The column's name says that times are in UTC."""


def find_times(source: Input, named: Mapping[str, int], options: ReadOptions) -> TimeColumns | None:
    """The columns of times. A column that holds whole times is preferred to a pair. None where no column is one."""
    if "timestamp" in named:
        return _one(source, named["timestamp"], options)
    if "date" in named or "time" in named:
        return _named_pair(source, named)
    if source.headerless:
        return None
    candidates = list(_candidates(source, set(named.values())))
    if not _is_utc(options.tz):
        # --tz is meant for a column of local times, where there is one.
        local = [column for column in candidates if plain_name(source.names[column]) not in UTC_NAMES]
        candidates = local or candidates
    if not candidates:
        index = _index_column(source, set(named.values()))
        return None if index is None else _one(source, index, options)
    if len(candidates) == 1:
        return _one(source, candidates[0], options)
    kinds = {column: kind_of_times(source, column) for column in candidates}

    def first(*wanted: str) -> int | None:
        return next((column for column in candidates if kinds[column] in wanted), None)

    whole = first("zoned", "local")
    if whole is not None:
        # A time that needs no --tz is better than one that does, if there is no --tz.
        found = _one(source, whole, options)
        if kinds[whole] == "local" and options.tz is None and not found.utc:
            zoned = first("zoned")
            return found if zoned is None else _one(source, zoned, options)
        return found
    clock = first("clock")
    day = next((column for column in candidates if kinds[column] in ("day", "") and column != clock), None)
    if clock is not None and day is not None:
        return TimeColumns(day, clock)
    return _one(source, candidates[0] if day is None else day, options)


def _one(source: Input, column: int, options: ReadOptions) -> TimeColumns:
    utc = plain_name(source.names[column]) in UTC_NAMES
    if utc and not _is_utc(options.tz):
        raise source.refusal(
            f"column {source.names[column]!r} says that its times are in UTC, and --tz says {options.tz}",
            "Leave out --tz, or name another column with --columns FILE_COLUMN=timestamp",
        )
    return TimeColumns(column, utc=utc)


def _is_utc(tz: str | None) -> bool:
    return tz is None or tz.upper() in ("UTC", "GMT", "ETC/UTC", "Z")


def _named_pair(source: Input, named: Mapping[str, int]) -> TimeColumns:
    """The columns that the user named `date` and `time`; the one that was not named is found by its usual names."""
    pair: dict[str, int] = {}
    for role in ("date", "time"):
        if role in named:
            pair[role] = named[role]
            continue
        aliases = [] if source.headerless else ALIASES[role]
        taken = set(named.values())
        for alias in aliases:
            found = [i for i, name in enumerate(source.names) if i not in taken and plain_name(name) == alias]
            if found:
                pair[role] = found[0]
                break
    if "date" not in pair:
        raise source.refusal(
            "has a time of day, counted from midnight, and no date",
            "Name the column of the dates with --columns FILE_COLUMN=date",
        )
    return TimeColumns(pair["date"], pair.get("time"))


def _candidates(source: Input, taken: set[int]) -> Iterator[int]:
    """The columns whose names are usual for a time, the most telling first."""
    met: set[int] = set()
    for alias in dict.fromkeys((*ALIASES["timestamp"], *ALIASES["date"], *ALIASES["time"])):
        found = [i for i, name in enumerate(source.names) if i not in taken and plain_name(name) == alias]
        if len(found) > 1 and not met:
            both = " and ".join(repr(source.names[i]) for i in found)
            raise source.refusal(
                f"has {len(found)} columns that may be the timestamp: {both}",
                f"Say which with --columns {found[0]}=timestamp, where {found[0]} is its position counted from 0, or "
                "rename one",
            )
        for column in found:
            if column not in met:
                met.add(column)
                yield column


def _index_column(source: Input, taken: set[int]) -> int | None:
    """The column in which pandas has written a DatetimeIndex."""
    for i, name in enumerate(source.names):
        unnamed = plain_name(name) in _INDEX_NAMES and (source.types is None or is_temporal(source.types[i]))
        if i not in taken and (unnamed or name in source.index_columns):
            return i
    return None


def kind_of_times(source: Input, column: int) -> str:
    """What a column's first values are: `zoned` or `local` times, a `day`, or a `clock` (a time of day).

    Empty if unknown.
    """
    dtype = None if source.types is None else source.types[column]
    if dtype is not None:
        if is_type("date", dtype):
            return "day"
        if is_type("time", dtype):
            return "clock"
        if is_type("timestamp", dtype):
            midnights = all(text[11:19] in ("", "00:00:00") for text in source.first_texts(column))
            if midnights and plain_name(source.names[column]) in ALIASES["date"]:
                return "day"
            return "zoned" if dtype.tz else "local"
    texts = source.first_texts(column)
    if not texts:
        return ""
    if all(CLOCK.fullmatch(text) for text in texts):
        return "clock"
    dated = plain_name(source.names[column]) in ALIASES["date"]
    if all(text.removesuffix(".0").isdecimal() for text in texts):
        if dated and all(len(text) == 6 for text in texts):
            return "day"
        return _kind_of_numbers([text.removesuffix(".0") for text in texts])
    if dated and all(_MIDNIGHT.search(text) for text in texts):
        return "day"
    if all(_DAY.fullmatch(text) for text in texts):
        return "day"
    if _core.time_notation(texts[0]) == "epoch" or re.fullmatch(r"\d(\.\d+)?[eE]\+?\d+", texts[0]):
        return "zoned"
    if any(":" in text or len(text) > 11 for text in texts):
        return "zoned" if all(_OFFSET.search(text) for text in texts) else "local"
    return ""


def _kind_of_numbers(texts: Sequence[str]) -> str:
    values = [int(text) for text in texts]
    lengths = {len(text) for text in texts}
    if lengths == {8} and all(
        1900 <= value // 10_000 < 2200 and 1 <= value // 100 % 100 <= 12 and 1 <= value % 100 <= 31
        for value in values
    ):
        return "day"
    if max(values) <= 86_400_000:
        # Seconds or milliseconds since midnight, or HHMM, or HHMMSS. Six digits may be a day without its century.
        return "clock"
    return "zoned"


def no_zone(source: Input, what: str) -> InputError:
    return source.refusal(
        f"{what} has no time zone",
        "Say which zone the times are in with --tz, for example --tz UTC or --tz America/New_York",
    )
