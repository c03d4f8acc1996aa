"""What is in a feature store: statistics of its features, segments, splits, and the gaps between its bars."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from moola.errors import format_time
from moola.store import FeatureStore, Segment

__all__ = [
    "FeatureSummary",
    "Gap",
    "GapGroup",
    "Inspection",
    "SplitSummary",
    "Suggestion",
    "format_duration",
    "inspect_store",
]

SECOND = 10**9
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

Times: TypeAlias = NDArray[np.int64]

_ROWS = 1 << 16
"""Rows that statistics take at a time; memory does not grow with the store."""


@dataclass(frozen=True, slots=True)
class FeatureSummary:
    """One feature over all valid bars; what is measured is None where there is none."""

    name: str
    low: float | None
    """The feature's range, from the metadata; None where it has no bound."""
    high: float | None
    mean: float | None
    std: float | None
    """Population standard deviation."""
    min: float | None
    max: float | None
    zeros: float | None
    """The share of bars at which it is exactly 0."""


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """One split, with the times of its first and last bar (None where it has no bars)."""

    name: str
    bars: int
    windows: int
    """Windows of the store's default length."""
    first_timestamp: int | None
    last_timestamp: int | None


@dataclass(frozen=True, slots=True)
class Gap:
    """Two consecutive bars of a symbol that lie further apart than its bar interval; times of their opens."""

    symbol: str
    last_timestamp: int
    next_timestamp: int


@dataclass(frozen=True, slots=True)
class GapGroup:
    """Gaps of one kind. Durations are of the time without bars, in nanoseconds."""

    kind: Literal["daily break", "weekly break", "weekend", "longer break", "missing bars"]
    """A *daily* or *weekly break* comes at the same time of day, and is as long; a *weekend* is one that
    holds Saturday noon, UTC. A *longer break* holds a recurring one and more: holidays, early closes, and outages
    that cannot be told from them. *Missing bars* are the rest."""
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


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A `reset_on_gap` that suits the gaps of a store."""

    reset_on_gap: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is in a store. All times are UTC nanoseconds."""

    path: Path
    store_id: str
    created: str
    moola_version: str
    feature_set: str
    parameters: dict[str, Any]
    layout: str
    window_length: int
    bars: int
    valid_bars: int
    """Bars past their segment's warm-up."""
    bytes: int
    first_timestamp: int
    last_timestamp: int
    symbols: tuple[str, ...]
    """Empty where the bars have no symbols."""
    features: tuple[FeatureSummary, ...]
    segments: tuple[Segment, ...]
    splits: tuple[SplitSummary, ...]
    gaps: tuple[GapGroup, ...]
    """Recurring ones first. Nothing is ever filled in."""
    suggestion: Suggestion
    read_options: dict[str, Any]
    sources: tuple[dict[str, Any], ...]
    quality: dict[str, Any]
    timings: dict[str, float]
    known_after: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The same as what JSON can hold."""
        plain: dict[str, Any] = _plain(self)
        return plain


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Segment):
        return value._asdict()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def inspect_store(store: FeatureStore | str | os.PathLike[str]) -> Inspection:
    """Looks through a store: a second for two million bars, in memory that does not grow with them.

    (What is kept of the gaps does: 24 bytes for each that lasts an hour or five bars.)

    Raises `StoreMissingError` and `DamagedStoreError` as `FeatureStore.open` does. Nothing is verified here:
    that is what `verify_features` is for.
    """
    if not isinstance(store, FeatureStore):
        with FeatureStore.open(store) as opened:
            return inspect_store(opened)
    metadata, segments = store.metadata, store.segments
    symbols = tuple(dict.fromkeys(segment.symbol for segment in segments))
    gaps = find_gaps(store)
    groups = group_gaps(gaps, symbols)
    valid_bars = sum(s.last_row + 1 - s.first_valid for s in segments if s.first_valid is not None)
    return Inspection(
        path=store.path,
        store_id=store.id,
        created=metadata["created"],
        moola_version=metadata["moola_version"],
        feature_set=store.feature_set,
        parameters=store.config,
        layout=store.layout,
        window_length=store.window_length,
        bars=len(store),
        valid_bars=valid_bars,
        bytes=sum((store.path / name).stat().st_size for name in store.files()),
        first_timestamp=min(segment.first_timestamp for segment in segments),
        last_timestamp=max(segment.last_timestamp for segment in segments),
        symbols=() if symbols == ("",) else symbols,
        features=_summarize_features(store),
        segments=tuple(segments),
        splits=_summarize_splits(store),
        gaps=tuple(group.summary for group in groups),
        suggestion=suggest_reset(gaps, groups, store),
        read_options=metadata["read_options"],
        sources=tuple(metadata["sources"]),
        quality=metadata["quality"],
        timings=metadata["timings"],
        known_after=metadata["known_after"],
    )


def format_duration(nanoseconds: int) -> str:
    """A duration as `--reset-on-gap` reads it, in its two largest units: `2d 1h`, `17h 30m`, `45s`."""
    parts = []
    for unit, size in (
        ("d", DAY),
        ("h", HOUR),
        ("m", MINUTE),
        ("s", SECOND),
        ("ms", 10**6),
        ("us", 1000),
        ("ns", 1),
    ):
        count, nanoseconds = divmod(nanoseconds, size)
        if count:
            parts.append(f"{count}{unit}")
        if len(parts) == 2:
            break
    return " ".join(parts) or "0s"


# Features


def _summarize_features(store: FeatureStore) -> tuple[FeatureSummary, ...]:
    """Moments by the update of Chan, Golub and LeVeque: one pass, exact where means are far from 0."""
    described = store.metadata["features"]
    width = len(described)
    count = 0
    mean, squares = np.zeros(width), np.zeros(width)
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    zeros = np.zeros(width, dtype=np.int64)
    # A store with NaN in it is one for `verify-features` to tell about.
    with np.errstate(invalid="ignore", over="ignore"):
        for values in _valid_values(store):
            n = values.shape[1]
            here = values.mean(axis=1)
            apart = here - mean
            squares += ((values - here[:, None]) ** 2).sum(axis=1) + apart**2 * (count * n / (count + n))
            count += n
            mean += apart * (n / count)
            low = np.minimum(low, values.min(axis=1))
            high = np.maximum(high, values.max(axis=1))
            zeros += (values == 0).sum(axis=1)
        std = np.sqrt(squares / max(count, 1))

    def number(x: np.float64) -> float | None:
        return float(x) if count and np.isfinite(x) else None

    return tuple(
        FeatureSummary(
            name=described[i]["name"],
            low=described[i]["low"],
            high=described[i]["high"],
            mean=number(mean[i]),
            std=number(std[i]),
            min=number(low[i]),
            max=number(high[i]),
            zeros=float(zeros[i] / count) if count else None,
        )
        for i in range(width)
    )


def _valid_values(store: FeatureStore) -> Iterator[NDArray[np.float64]]:
    """The features of valid bars, each bar once, as contiguous `[D, n]` columns."""
    if store.layout == "bars":
        for first in range(0, len(store), _ROWS):
            rows = slice(first, first + _ROWS)
            valid = store.valid[rows]
            if valid.any():
                values = store.features[rows] if valid.all() else store.features[rows][valid]
                yield values.T.astype(np.float64, order="C")
        return
    assert store.window_starts is not None
    windows, known = _tiling(store.window_starts, store.window_length)
    step = max(1, _ROWS // store.window_length)
    place = np.arange(store.window_length)
    for first in range(0, len(windows), step):
        some = windows[first : first + step]
        wanted = store.valid[some] & (place >= known[first : first + step, None])
        if wanted.any():
            yield store.features[some][wanted].T.astype(np.float64, order="C")


def _tiling(starts: Times, length: int) -> tuple[Times, Times]:
    """Windows that hold every bar of the dense layout, with how many of each one's first bars others hold.

    Windows overlap in all bars but one: one in `length` is enough, and one more at the end of each run.
    """
    first = np.concatenate([[0], np.flatnonzero(np.diff(starts) != 1) + 1])
    last = np.append(first[1:], len(starts)) - 1
    counts = (last - first) // length + 1
    before = np.cumsum(counts) - counts
    step = np.arange(counts.sum()) - np.repeat(before, counts)
    whole = np.repeat(first, counts) + step * length
    rest = last - (first + (counts - 1) * length)
    tails = rest > 0
    windows = np.concatenate([whole, last[tails]])
    known = np.concatenate([np.zeros_like(whole), length - rest[tails]])
    order = np.argsort(windows)
    return windows[order], known[order]


def _summarize_splits(store: FeatureStore) -> tuple[SplitSummary, ...]:
    summaries = []
    begins, ends = store.bounds.first, store.bounds.end
    for name, split in store.splits.items():
        ranges = split.ranges
        first = last = None
        if len(ranges):
            # Time ascends within a segment: the extremes stand where ranges and segments begin and end.
            range_of = np.searchsorted(ranges[:, 0], begins, side="right") - 1
            inside = (range_of >= 0) & (begins < ranges[range_of, 1])
            first = int(store.timestamps[np.concatenate([ranges[:, 0], begins[inside]])].min())
            range_of = np.searchsorted(ranges[:, 0], ends, side="left") - 1
            inside = (range_of >= 0) & (ends <= ranges[range_of, 1])
            last = int(store.timestamps[np.concatenate([ranges[:, 1], ends[inside]]) - 1].max())
        summaries.append(SplitSummary(name, split.bars, split.windows, first, last))
    return tuple(summaries)


# Gaps


class Gaps(NamedTuple):
    """All steps of a store that are longer than the symbol's bar interval."""

    symbol: NDArray[np.int64]
    """Of each long gap: the symbol, as a number."""
    last: Times
    """The open of the bar before it."""
    begin: Times
    """When the first missing bar would open."""
    end: Times
    """The open of the bar after it."""
    span: NDArray[np.int64]
    """`[symbols, 2]`: first and last time of each symbol."""
    short: dict[int, int]
    """Of gaps too short to be a break: how many of each duration, to the second."""
    short_bars: int
    """Bar intervals in them."""
    short_example: Gap | None

    @property
    def closed(self) -> Times:
        """How long no bar opened that should have."""
        return self.end - self.begin

    @property
    def step(self) -> Times:
        """From bar to bar: what `reset_on_gap` is compared with."""
        return self.end - self.last


def find_gaps(store: FeatureStore) -> Gaps:
    """The gaps of a store, also those between segments of one symbol."""
    segments, timestamps = store.segments, store.timestamps
    number: dict[str, int] = {}
    symbols = np.array([number.setdefault(s.symbol, len(number)) for s in segments], dtype=np.int64)
    intervals = np.array([s.bar_interval for s in segments], dtype=np.int64)
    names = list(number)
    span = np.stack(
        [np.full(len(names), np.iinfo(np.int64).max), np.full(len(names), np.iinfo(np.int64).min)], axis=1
    )
    np.minimum.at(span[:, 0], symbols, np.array([s.first_timestamp for s in segments]))
    np.maximum.at(span[:, 1], symbols, np.array([s.last_timestamp for s in segments]))

    first_rows = store.bounds.first
    smallest = intervals.min()
    found: list[tuple[Times, Times, Times, Times]] = []
    short: dict[int, int] = {}
    short_bars, example = 0, None
    for first in range(0, len(store) - 1, 1 << 20):
        times = np.asarray(timestamps[first : first + (1 << 20) + 1])
        before = np.flatnonzero(np.diff(times) > smallest)
        segment = np.searchsorted(first_rows, first + before, side="right") - 1
        following = np.searchsorted(first_rows, first + before + 1, side="right") - 1
        last, end, interval = times[before], times[before + 1], intervals[segment]
        real = (symbols[segment] == symbols[following]) & (end - last > interval)
        last, end, interval, symbol = last[real], end[real], interval[real], symbols[segment[real]]
        begin = last + interval
        # A daily break or a weekend lasts longer than a few bars; missing minutes need only be counted.
        long = end - begin >= np.minimum(5 * interval, HOUR)
        found.append((symbol[long], last[long], begin[long], end[long]))
        brief = ~long
        if brief.any():
            closed = (end - begin)[brief]
            short_bars += int(np.maximum(np.rint(closed / interval[brief]), 1).sum())
            for duration, count in zip(
                *np.unique(closed // SECOND * SECOND, return_counts=True), strict=True
            ):
                short[int(duration)] = short.get(int(duration), 0) + int(count)
            if example is None:
                i = int(np.argmax(brief))
                example = Gap(names[symbol[i]], int(last[i]), int(end[i]))
    columns = [np.concatenate(column) for column in zip(*found, strict=True)] or [
        np.zeros(0, dtype=np.int64)
    ] * 4
    symbol, last, begin, end = columns
    return Gaps(symbol, last, begin, end, span, short, short_bars, example)


class Group(NamedTuple):
    """A kind of gap: which of the long gaps it has, and what there is to say about it."""

    members: NDArray[np.int64]
    summary: GapGroup

    @property
    def recurs(self) -> bool:
        return self.summary.kind != "missing bars"


_QUARTER = 15 * MINUTE
"""Breaks begin and end on quarters of an hour; a minute missing beside one does not change its quarter."""
_SLOTS = DAY // _QUARTER
_NEAR = HOUR + _QUARTER
"""What daylight saving moves a local time by in UTC, and some more."""
_MOST_GROUPS = 16


class _Break(NamedTuple):
    """A break that recurs."""

    begin: int
    """Time of day in UTC."""
    duration: int


def group_gaps(gaps: Gaps, symbols: Sequence[str]) -> list[Group]:
    """Tells gaps that recur from missing bars. Zones need not be known: clocks may move them by an hour.

    A gap recurs when gaps of its symbol begin and end at the same quarters of the day on three days or more,
    in 30 % of the weeks (where there are fewer than four, of the days), and eight times as often as comparable
    gaps would by chance. What begins near a recurring one and lasts about as long counts with it; what holds one
    and lasts longer is a longer break.
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
    # One market's weekend and another's may differ, but are one thing to read about.
    groups.sort(key=lambda g: ("daily break", "weekly break", "weekend").index(g.summary.kind))
    if longer.any():
        groups.append(_describe(gaps, np.flatnonzero(longer), symbols, "longer break"))
    rest = np.flatnonzero(group < 0)
    if len(rest) or gaps.short:
        groups.append(_describe(gaps, rest, symbols, "missing bars"))
    return groups


def _recurring(gaps: Gaps) -> list[_Break]:
    """The breaks that recur, the most frequent first; near ones of one length are one."""
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
    """How many different values each of `count` places has."""
    order = np.lexsort((value, place))
    place, value = place[order], value[order]
    new = np.ones(len(place), dtype=bool)
    new[1:] = (place[1:] != place[:-1]) | (value[1:] != value[:-1])
    return np.bincount(place[new], minlength=count)


def _week(day: Any) -> Any:
    """Weeks from Monday on; 1 January 1970 was a Thursday."""
    return (day + 3) // 7


def _apart(a: Any, b: int) -> Any:
    """How far times of day lie apart, around midnight too."""
    distance = (a - b) % DAY
    return np.minimum(distance, DAY - distance)


def _tolerance(duration: int) -> int:
    """By how much breaks of this length vary: bars missing around them, and clocks that change within."""
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


# What to do about them

_LADDER = (4 * HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 8 * HOUR, 12 * HOUR, DAY, 36 * HOUR, 90 * MINUTE, HOUR)
"""Durations to suggest, the most usual first."""


def suggest_reset(gaps: Gaps, groups: Sequence[Group], store: FeatureStore) -> Suggestion:
    """A duration that ends segments at long breaks, but not at short ones or missing bars."""
    step = gaps.step
    if not any(group.recurs for group in groups):
        if int((gaps.span[:, 1] - gaps.span[:, 0]).max()) < 3 * DAY:
            return Suggestion(
                None, "there are less than three days of bars: too few to tell breaks from missing bars"
            )
        return Suggestion(
            None, "no gap recurs: the market trades round the clock, and nothing needs a new start"
        )
    long = [group for group in groups if group.recurs and group.summary.typical >= 3 * HOUR]
    if not long:
        typical = max(group.summary.typical for group in groups if group.recurs)
        return Suggestion(None, f"the breaks that recur are short, typically {format_duration(typical)}")
    short = [group for group in groups if group.recurs and group.summary.typical < 3 * HOUR]
    missing = [group for group in groups if not group.recurs]
    upper = min(int(np.percentile(step[group.members], 5)) for group in long)
    lower = max((int(np.percentile(step[group.members], 99)) for group in short), default=0)
    longest_missing = max(
        (int(step[group.members].max()) for group in missing if len(group.members)), default=0
    )
    fitting = [d for d in _LADDER if lower < d < upper]
    # An outage of hours may end a segment too: only where there is a choice is it left inside.
    chosen = next((d for d in fitting if d > longest_missing), fitting[0] if fitting else None)
    if chosen is None:
        return Suggestion(None, "no duration tells the long breaks from the short ones")

    ended = step > chosen
    at = [
        f"{int(ended[g.members].sum()):,} {_plural(g.summary.kind)}" for g in long if ended[g.members].any()
    ]
    not_at = [
        f"{_plural(g.summary.kind)} (at most {format_duration(g.summary.longest)})"
        for g in [*short, *missing]
        if not (len(g.members) and ended[g.members].any())
    ]
    cuts = [
        f"{int(ended[g.members].sum()):,} outages among missing bars"
        for g in missing
        if ended[g.members].any()
    ]
    why = f"ends segments at {_and([*at, *cuts])}" + (f", but not at {_and(not_at)}" if not_at else "")
    # Each segment begins with a warm-up.
    needed = max(store.window_length, store.config["warmup_bars"] + 1)
    bars = len(store) // (int(ended.sum()) + len(gaps.span))
    if bars < needed:
        problem = (
            f"a new start at every long break would leave segments of about {bars:,} bars, too short for"
        )
        return Suggestion(None, f"{problem} a window after {store.config['warmup_bars']:,} bars of warm-up")
    if bars < 20 * needed:
        why += f"; of each segment's {bars:,} bars or so, {store.config['warmup_bars']:,} go to its warm-up"
    return Suggestion(format_duration(chosen), why)


def _plural(kind: str) -> str:
    return kind if kind == "missing bars" else f"{kind}s"


def _and(things: Sequence[str]) -> str:
    return " and ".join([", ".join(things[:-1]), things[-1]] if len(things) > 1 else things)


def describe_gap(gap: Gap) -> str:
    """A gap as one line: from the bar before it to the one after it."""
    symbol = f"{gap.symbol}: " if gap.symbol else ""
    return f"{symbol}{format_time(gap.last_timestamp)} → {format_time(gap.next_timestamp)}"
