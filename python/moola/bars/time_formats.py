"""Finds the `strptime` patterns that read a text, for files in unusual notations and for advice about them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from moola import _core
from moola.bars.zones import CITIES

__all__ = ["Reading", "format_advice", "readings"]

_DATES = (
    *("%Y-%m-%d", "%Y.%m.%d", "%Y/%m/%d", "%Y%m%d", "%Y %m %d", "%d.%m.%Y", "%d.%m.%y"),
    *("%y-%m-%d", "%y/%m/%d", "%y.%m.%d"),
    *("%d-%m-%Y", "%m-%d-%Y", "%d/%m/%Y", "%m/%d/%Y", "%d/%m/%y", "%m/%d/%y", "%d-%m-%y", "%m-%d-%y"),
    *("%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y", "%b %d %Y", "%b %d, %Y", "%B %d, %Y", "%d%b%Y"),
    *("%y%m%d", "%d%m%y", "%d%m%Y", "%m%d%Y"),
)
_TIMES = (
    *("", "%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%H:%M:%S,%f", "%H:%M:%S:%f", "%I:%M %p", "%I:%M:%S %p"),
    *("%I:%M%p", "%I:%M:%S%p", "%H%M", "%H%M%S", "%H.%M", "%H.%M.%S", "%H-%M", "%H-%M-%S"),
)
_BETWEEN = (" ", "T", ", ", ",", "-", "_", ";", ":", "", ".")
_LETTERS = re.compile(r"(?<=[\d\s])([A-Za-z]{2,5})$")
_US_ZONES = frozenset(("EST", "EDT", "CST", "CDT", "MST", "MDT", "PST", "PDT"))


class Reading(NamedTuple):
    """A pattern, and the times (UTC nanoseconds, as if in UTC) that it reads in some texts."""

    pattern: str
    times: tuple[int, ...]


def _parsed(texts: Sequence[str], pattern: str) -> tuple[int, ...] | None:
    data = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, data)]).astype(np.int64)
    times, _ = _core.parse_times(offsets, np.frombuffer(b"".join(data), np.uint8), None, pattern, "UTC")
    return tuple(times.tolist()) if int(times.min()) > _core.TIME_LOCAL else None


def _patterns(suffix: str) -> Iterator[str]:
    for weekday in ("", "%a ", "%a, "):
        for date in _DATES:
            for time in _TIMES:
                for between in _BETWEEN if time else ("",):
                    yield f"{weekday}{date}{between}{time}{suffix}"


def readings(texts: Sequence[str]) -> list[Reading]:
    """The patterns that read every text, one for each set of times that they may mean."""
    distinct = list(dict.fromkeys(text.strip() for text in texts))
    # The first and the last differ most.
    sample = [*distinct[:10], *distinct[-10:]]
    if (
        not sample
        or any(len(text) > 60 for text in sample)
        or not all(any(c.isdecimal() for c in t) for t in sample)
    ):
        return []
    found: dict[tuple[int, ...], str] = {}
    suffix = _suffix(sample)
    if suffix is None:
        return []
    for pattern in _patterns(suffix):
        # A pattern reads a number without its leading zeros; so digits in a row may be parted in several ways.
        if not _whole_digits(sample, pattern):
            continue
        if _parsed(sample[:1], pattern) is not None and (times := _parsed(sample, pattern)) is not None:
            found.setdefault(times, pattern)
    every = {times: pattern for times, pattern in found.items() if _parsed(distinct, pattern) is not None}
    return [Reading(pattern, times) for times, pattern in every.items()]


def _whole_digits(sample: Sequence[str], pattern: str) -> bool:
    """Whether dates of digits alone have all their digits: without a zero they could be parted in several ways."""
    compact = next(
        (date for date in _DATES if "%" in date and pattern.startswith(date) and len(date) == 6), None
    )
    if compact is None or not all(sign in "%YymdHMS" for sign in compact):
        return True
    digits = 8 if "%Y" in compact else 6
    runs = [re.match(r"\d*", text) for text in sample]
    lengths = {len(run[0]) for run in runs if run is not None}
    return len(lengths) == 1 and min(lengths) >= digits and (min(lengths) - digits) % 2 == 0


def _suffix(sample: Sequence[str]) -> str | None:
    """How the texts end after the time: nothing, an offset or letters of a zone; None if in several ways."""
    ends = {match[1] if (match := _LETTERS.search(text)) else "" for text in sample} - {
        "AM",
        "PM",
        "am",
        "pm",
    }
    if ends <= {""}:
        offset = re.compile(r":\d{2}(\.\d+)?\s?([+-]\d{2}:?\d{2})$")
        if all(offset.search(text) for text in sample):
            return " %z" if sample[0][-6:-5] == " " or sample[0][-7:-6] == " " else "%z"
        return ""
    if len(ends) == 1:
        end = next(iter(ends))
        return (" " if sample[0][-len(end) - 1 : -len(end)] == " " else "") + (
            "%Z" if end in ("UTC", "GMT") else end
        )
    return " %Z" if ends <= _US_ZONES else None


def format_advice(text: str, others: Sequence[str] = ()) -> str:
    """What to do about a text that is not a time in any known notation, made from the text itself."""
    shown = text.strip()
    found = readings([shown, *others]) or readings([shown])
    if letters := _LETTERS.search(shown):
        zone = letters[1].upper()
        if zone in CITIES and found:
            city = CITIES[zone]
            return (
                f"Say that they are {city}'s clocks, with --tz {city} --time-format '{found[0].pattern}'; where other "
                "letters stand after some times, remove them from all"
            )
    if re.search(r"\b24:00", shown):
        return "Write the end of a day as 00:00 of the next day"
    if found:
        formats = " or ".join(f"--time-format '{reading.pattern}'" for reading in found[:3])
        return f"Say how they are written with {formats}" if len(found) == 1 else f"Say which with {formats}"
    return "Say with --time-format how its times are written, or name the right column with --columns"
