"""Groups gaps that recur, such as nights, weekends and holidays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moola.store.inspect.durations import DAY, HOUR, MINUTE
from moola.store.inspect.gaps import Gap, Gaps, Times

__all__ = ["GapGroup", "Group", "group_gaps"]


@dataclass(frozen=True, slots=True)
class GapGroup:
    """Gaps of one kind. Durations are of the time without bars, in nanoseconds."""

    kind: Literal["daily break", "weekly break", "weekend", "longer break", "missing bars"]
    """A *daily* or *weekly break* comes at the same time of day, and is as long; a *weekend* is one that
    holds Saturday noon, UTC. A *longer break* holds a recurring one and more: holidays, early closes, and
    outages that cannot be told from them. *Missing bars* are the rest."""
    count: int
    typical: int
    """The median duration."""
    longest: int
    bars: int
    """Bar intervals without a bar."""
    begins: tuple[str, ...]
    """The times of day, UTC, at which a recurring one usually begins; where clocks change it has two."""
    examples: tuple[Gap, ...]
    """The longest missing, or the latest recurring ones."""


class Group(NamedTuple):
    """A kind of gap: the long gaps that belong to it, and their summary."""

    members: NDArray[np.int64]
    summary: GapGroup

    @property
    def recurs(self) -> bool:
        return self.summary.kind != "missing bars"


_QUARTER = 15 * MINUTE
"""Breaks begin and end on quarters of an hour; a minute missing beside one does not change its quarter."""

_SLOTS = DAY // _QUARTER

_NEAR = HOUR + _QUARTER
"""Daylight saving moves a local time by an hour in UTC; a quarter more is allowed."""

_MOST_GROUPS = 16


class _Break(NamedTuple):
    """A break that recurs."""

    begin: int
    """Time of day in UTC."""
    duration: int


def group_gaps(gaps: Gaps, symbols: Sequence[str]) -> list[Group]:
    """Tells gaps that recur from missing bars. It needs no time zone: a gap may move by an hour with the clocks.

    A gap recurs when gaps of its symbol begin and end at the same quarters of the day on three days or more,
    in 30 % of the weeks (where there are fewer than four, of the days), and eight times as often as
    comparable gaps would at random times. A gap that begins near a recurring one and lasts about as long belongs to
    it. A gap that holds a recurring one and lasts longer is a longer break.
    """
    closed, day = gaps.closed, gaps.begin % DAY
    breaks = _recurring(gaps)
    group = np.full(len(closed), -1)
    for i, found in enumerate(breaks):
        near = (_apart(day, found.begin) <= _NEAR) & (
            np.abs(closed - found.duration) <= _tolerance(found.duration)
        )
        group[near & (group < 0)] = i
    longer = np.zeros(len(closed), dtype=bool)
    for i, found in enumerate(breaks):
        if found.duration < 20 * HOUR:
            # It begins at different times in summer and in winter; bars may be missing on either side.
            for begin in _usual_begins(day[group == i]):
                wait = (begin + _QUARTER - gaps.begin) % DAY
                longer |= (
                    (group < 0) & (closed > found.duration) & (wait + found.duration - 2 * _QUARTER <= closed)
                )
    group[longer] = len(breaks)

    groups = [_describe(gaps, np.flatnonzero(group == i), symbols, None) for i in range(len(breaks))]
    # The weekends of two markets may differ. A reader wants to see them side by side.
    groups.sort(key=lambda g: ("daily break", "weekly break", "weekend").index(g.summary.kind))
    if longer.any():
        groups.append(_describe(gaps, np.flatnonzero(longer), symbols, "longer break"))
    rest = np.flatnonzero(group < 0)
    if len(rest) or gaps.short:
        groups.append(_describe(gaps, rest, symbols, "missing bars"))
    return groups


def _recurring(gaps: Gaps) -> list[_Break]:
    """The breaks that recur, the most frequent first. Breaks of one length that begin near each other count as one."""
    if not len(gaps.begin):
        return []
    closed = gaps.closed
    begin_slot = (gaps.begin + _QUARTER // 2) // _QUARTER % _SLOTS
    end_slot = (gaps.end + _QUARTER // 2) // _QUARTER % _SLOTS
    days_long = np.rint((closed - (end_slot - begin_slot) % _SLOTS * _QUARTER) / DAY).astype(np.int64)
    key = ((gaps.symbol * _SLOTS + begin_slot) * _SLOTS + end_slot) * 64 + np.clip(days_long, 0, 63)
    keys, place = np.unique(key, return_inverse=True)
    day = (gaps.begin + _QUARTER // 2) // DAY
    on_days = _distinct(place, day, len(keys))
    in_weeks = _distinct(place, _week(day), len(keys))
    symbol = keys // (_SLOTS * _SLOTS * 64)
    first_day, last_day = gaps.span[symbol, 0] // DAY, gaps.span[symbol, 1] // DAY
    weeks = _week(last_day) - _week(first_day) + 1
    share = np.where(weeks >= 4, in_weeks / weeks, on_days / (last_day - first_day + 1))
    candidates = np.flatnonzero((on_days >= 3) & (share >= 0.3))

    by_key = np.lexsort((closed, place))
    key_begin = np.searchsorted(place[by_key], np.arange(len(keys) + 1))
    by_symbol = np.lexsort((closed, gaps.symbol))
    symbol_begin = np.searchsorted(gaps.symbol[by_symbol], np.arange(len(gaps.span) + 1))
    cores: list[tuple[int, _Break]] = []
    for k in candidates:
        members = by_key[key_begin[k] : key_begin[k + 1]]
        duration = int(closed[members[len(members) // 2]])
        own = closed[by_symbol[symbol_begin[symbol[k]] : symbol_begin[symbol[k] + 1]]]
        comparable = len(own) - int(np.searchsorted(own, duration // 2))
        if on_days[k] >= 8 * comparable / _SLOTS:
            slot = int(keys[k] // (_SLOTS * 64) % _SLOTS)
            cores.append((int(on_days[k]), _Break(slot * _QUARTER, duration)))

    breaks: list[_Break] = []
    for _, core in sorted(cores, key=lambda core: (-core[0], core[1])):
        if len(breaks) < _MOST_GROUPS and not any(
            _apart(core.begin, known.begin) <= _NEAR
            and abs(core.duration - known.duration) <= _tolerance(known.duration)
            for known in breaks
        ):
            breaks.append(core)
    return breaks


def _distinct(place: NDArray[np.int64], value: Times, count: int) -> NDArray[np.int64]:
    """The number of different values in each of `count` places."""
    order = np.lexsort((value, place))
    place, value = place[order], value[order]
    new = np.ones(len(place), dtype=bool)
    new[1:] = (place[1:] != place[:-1]) | (value[1:] != value[:-1])
    return np.bincount(place[new], minlength=count)


def _week(day: Any) -> Any:
    """Weeks from Monday on; 1 January 1970 was a Thursday."""
    return (day + 3) // 7


def _apart(a: Any, b: int) -> Any:
    """The distance between times of day, also around midnight."""
    distance = (a - b) % DAY
    return np.minimum(distance, DAY - distance)


def _tolerance(duration: int) -> int:
    """How much breaks of this length vary, because bars are missing around them or clocks change within."""
    return min(max(duration // 4, 5 * MINUTE), 2 * HOUR)


def _usual_begins(day: Times) -> list[int]:
    slots, counts = np.unique((day + _QUARTER // 2) // _QUARTER % _SLOTS, return_counts=True)
    return [int(slot) * _QUARTER for slot in slots[counts >= max(1, len(day) // 20)]]


def _describe(
    gaps: Gaps,
    members: NDArray[np.int64],
    symbols: Sequence[str],
    kind: Literal["longer break", "missing bars"] | None,
) -> Group:
    closed = gaps.closed[members]
    interval = gaps.begin[members] - gaps.last[members]
    bars = int(np.maximum(np.rint(closed / interval), 1).sum())
    count, durations = (
        len(members),
        {int(d): int(n) for d, n in zip(*np.unique(closed, return_counts=True), strict=True)},
    )
    chosen = members[np.argsort(gaps.last[members], kind="stable")][-3:]
    if kind == "missing bars":
        count += sum(gaps.short.values())
        bars += gaps.short_bars
        for duration, n in gaps.short.items():
            durations[duration] = durations.get(duration, 0) + n
        chosen = members[np.argsort(-closed, kind="stable")][:3]
    examples = [Gap(symbols[gaps.symbol[i]], int(gaps.last[i]), int(gaps.end[i])) for i in chosen]
    if not examples and gaps.short_example is not None:
        examples = [gaps.short_example]
    begins = [] if kind is not None else _usual_begins(gaps.begin[members] % DAY)
    summary = GapGroup(
        kind=kind or _kind(gaps, members),
        count=count,
        typical=_median(durations),
        longest=max(durations),
        bars=bars,
        begins=tuple(f"{begin // HOUR:02d}:{begin % HOUR // MINUTE:02d}" for begin in begins),
        examples=tuple(examples),
    )
    return Group(members, summary)


def _kind(gaps: Gaps, members: NDArray[np.int64]) -> Literal["daily break", "weekly break", "weekend"]:
    begin, end = gaps.begin[members], gaps.end[members]
    # From the epoch's Thursday midnight, Saturday noon comes after two and a half days.
    saturday = 2 * DAY + DAY // 2
    holds_saturday = (saturday - begin) % (7 * DAY) < end - begin
    if np.median(end - begin) >= 20 * HOUR and holds_saturday.mean() > 0.5:
        return "weekend"
    weeks = np.unique(np.stack([gaps.symbol[members], _week(begin // DAY)]), axis=1).shape[1]
    return "daily break" if len(members) >= 2 * weeks else "weekly break"


def _median(durations: dict[int, int]) -> int:
    half = (sum(durations.values()) + 1) // 2
    for duration in sorted(durations):
        half -= durations[duration]
        if half <= 0:
            return duration
    return 0
