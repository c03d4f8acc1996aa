"""Which bars are train, val and test, and which windows lie in each.

The splitters for cross-validation live in :mod:`moola.splitters` and are reached from here as well.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from moola.errors import ConfigError, InputError

if TYPE_CHECKING:
    from moola.splitters import CombinatorialPurgedKFold as CombinatorialPurgedKFold
    from moola.splitters import PurgedKFold as PurgedKFold
    from moola.splitters import WalkForward as WalkForward
    from moola.splitters import assert_no_shared_bars as assert_no_shared_bars
    from moola.store import FeatureStore

__all__ = [
    "DEFAULT_FRACTIONS",
    "NAMES",
    "CombinatorialPurgedKFold",
    "Pieces",
    "PurgedKFold",
    "Segment",
    "Split",
    "SplitOptions",
    "Splits",
    "WalkForward",
    "assert_no_shared_bars",
    "count_windows",
    "make_splits",
    "window_pieces",
    "window_starts",
]

# Imported when first used: opening a store needs none of them.
_SPLITTERS = ("CombinatorialPurgedKFold", "PurgedKFold", "WalkForward", "assert_no_shared_bars")


def __getattr__(name: str) -> Any:
    if name not in _SPLITTERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module("moola.splitters"), name)
    globals()[name] = value
    return value


NAMES = ("train", "val", "test")
"""The splits, in the order of time."""

DEFAULT_FRACTIONS = (0.7, 0.15, 0.15)

Rows: TypeAlias = NDArray[np.int64]


class Segment(NamedTuple):
    """A run of bars of one symbol, at whose start all state is reset. No window crosses its end."""

    symbol: str
    """`""` where the bars have no symbols."""
    first_row: int
    last_row: int
    """Inclusive."""
    first_timestamp: int
    """UTC nanoseconds."""
    last_timestamp: int
    bar_interval: int
    """The symbol's commonest step, nanoseconds."""
    first_valid: int | None
    """The first row past the warm-up; none where the segment ends before it."""


class Split(NamedTuple):
    """One of train, val and test."""

    ranges: Rows
    """`[n, 2]`, half-open ranges of rows, ascending."""
    bars: int
    windows: int
    """Windows of the store's default length."""


class Splits(NamedTuple):
    """What :func:`make_splits` gives."""

    record: dict[str, Any]
    """What goes into `splits.json`."""
    warnings: list[str]
    """Splits without windows, for the user to see."""


class Bounds(NamedTuple):
    """The rows of all segments, as arrays: what window arithmetic needs of them."""

    first: Rows
    end: Rows
    """Half-open."""
    first_valid: Rows
    """The segment's end where no bar is valid."""


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """How bars are split: by fractions (0.7, 0.15, 0.15 unless given) or by the last days of each split.

    Raises `ConfigError`, naming the option, when they make no sense.
    """

    fractions: Sequence[float] | None = None
    """The shares of train, val and test among all bars. What is missing from 1 belongs to no split."""
    train_end: date | str | None = None
    """The last day of train, inclusive."""
    val_end: date | str | None = None
    test_end: date | str | None = None
    """The last day of test; bars after it belong to no split."""
    tz: str = "UTC"
    """The zone in which days begin at midnight."""
    embargo: int = 0
    """Bars of each symbol that are dropped after each boundary."""

    def __post_init__(self) -> None:
        if isinstance(self.embargo, bool) or not isinstance(self.embargo, int) or self.embargo < 0:
            raise ConfigError("embargo", f"{self.embargo!r} is not a number of bars; give 0 or more")
        days = {name: getattr(self, name) for name in ("train_end", "val_end", "test_end")}
        given = [name for name, day in days.items() if day is not None]
        if given:
            if self.fractions is not None:
                raise ConfigError("split", f"goes with no {given[0]}; give fractions or dates, not both")
            for name, day in days.items():
                if day is None:
                    raise ConfigError(name, "is missing; give train_end, val_end and test_end together")
                object.__setattr__(self, name, _day(name, day))
            for earlier, later in (("train_end", "val_end"), ("val_end", "test_end")):
                if getattr(self, later) < getattr(self, earlier):
                    problem = f"{getattr(self, later)} lies before {earlier} {getattr(self, earlier)}"
                    raise ConfigError(later, f"{problem}; exchange them")
        elif self.fractions is not None:
            object.__setattr__(self, "fractions", _fractions(self.fractions))
        _zone(self.tz)


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


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        problem = f"no time zone is called {name!r}; give an IANA name such as America/New_York"
        raise ConfigError("tz", problem) from None


def make_splits(
    timestamps: NDArray[np.int64], segments: Sequence[Segment], options: SplitOptions, window_length: int
) -> Splits:
    """Splits bars in time: one cut for all symbols.

    Args:
        timestamps: `[N]`, UTC nanoseconds, ascending within each segment.
        segments: They cover the rows without gap or overlap; those of one symbol stand together.
        options: Fractions or dates, and the embargo.
        window_length: The default K, for which windows are counted. The ranges do not depend on it.

    With dates, a bar belongs to a split by the day of its time in the options' zone. With fractions, each cut
    is the time by which that share of all symbols' bars has passed: the earliest that leaves at least that
    share behind it. The embargo counts in the bars of each symbol, across its segments, after each boundary
    that has bars before it.

    Raises `InputError` when no window remains in any split.
    """
    bounds = segment_bounds(segments)
    runs = _runs(timestamps, segments, bounds)
    if options.train_end is not None:
        zone = _zone(options.tz)
        days = [getattr(options, f"{name}_end") for name in NAMES]
        boundaries = [
            _midnight_after(f"{name}_end", day, zone) for name, day in zip(NAMES, days, strict=True)
        ]
        method: dict[str, Any] = {"method": "dates"}
        method |= {f"{name}_end": day.isoformat() for name, day in zip(NAMES, days, strict=True)}
        method["tz"] = options.tz
    else:
        fractions = tuple(options.fractions) if options.fractions is not None else DEFAULT_FRACTIONS
        boundaries = _cuts(timestamps, runs, fractions)
        method = {"method": "fractions", "fractions": list(fractions)}

    first, end = runs.first, runs.end
    splits = {}
    # Where each split of each run begins: after the bars before the boundary, and the embargo.
    begin, anything_before = first, False
    for name, boundary in zip(NAMES, boundaries, strict=True):
        cut = _search(timestamps, first, end, boundary)
        splits[name] = _split(begin, np.maximum(begin, cut), bounds, window_length)
        anything_before = anything_before or bool((cut > first).any())
        begin = np.minimum(cut + options.embargo, end) if anything_before else cut

    warnings = []
    if not any(split.windows for split in splits.values()):
        short = int((bounds.end - bounds.first < window_length).sum())
        problem = f"no window of {window_length} bars remains"
        if short:
            problem += f" ({short:,} of {len(segments):,} segments are shorter than a window)"
        advice = "Give more bars, a smaller --window-length, or other dates or fractions"
        if all(segment.first_valid is None for segment in segments):
            problem += "; no bar is past its segment's warm-up, which swings up and down are part of"
            advice = "Give more bars; where there are enough, look whether their prices move at all"
        raise InputError(problem, advice)
    for name, split in splits.items():
        if not split.windows:
            warnings.append(f"{name} has no window of {window_length} bars ({split.bars:,} bars)")
    record = method | {
        "purge": window_length - 1,
        "embargo": options.embargo,
        "boundaries": boundaries,
        "splits": {
            name: {"ranges": split.ranges.tolist(), "bars": split.bars, "windows": split.windows}
            for name, split in splits.items()
        },
    }
    return Splits(record, warnings)


def segment_bounds(segments: Iterable[Segment]) -> Bounds:
    """The rows of all segments, as arrays."""
    rows = np.array(
        [
            (s.first_row, s.last_row + 1, s.last_row + 1 if s.first_valid is None else s.first_valid)
            for s in segments
        ],
        dtype=np.int64,
    ).reshape(-1, 3)
    return Bounds(*np.ascontiguousarray(rows.T))


class _Runs(NamedTuple):
    """Stretches of rows, each of one symbol, over which time ascends."""

    first: Rows
    end: Rows


def _runs(timestamps: NDArray[np.int64], segments: Sequence[Segment], bounds: Bounds) -> _Runs:
    """Consecutive segments of one symbol, unless time goes back between them (overlapping contracts)."""
    starts = [
        i
        for i, segment in enumerate(segments)
        if i == 0
        or segment.symbol != segments[i - 1].symbol
        or segment.first_timestamp <= segments[i - 1].last_timestamp
    ]
    first = bounds.first[starts]
    return _Runs(first, np.append(first[1:], bounds.end[-1:]))


def _search(timestamps: NDArray[np.int64], first: Rows, end: Rows, value: int) -> Rows:
    """The first row of each range whose time is `value` or later; the range's end where none is.

    `np.searchsorted` for all ranges at once: a hundred thousand symbols take a few milliseconds.
    """
    if len(first) == 1:
        return first + np.searchsorted(timestamps[first[0] : end[0]], value)
    low, high = first.copy(), end.copy()
    open_ = np.flatnonzero(low < high)
    while len(open_):
        middle = (low[open_] + high[open_]) >> 1
        earlier = timestamps[middle] < value
        low[open_[earlier]] = middle[earlier] + 1
        high[open_[~earlier]] = middle[~earlier]
        open_ = open_[low[open_] < high[open_]]
    return low


def _cuts(timestamps: NDArray[np.int64], runs: _Runs, fractions: Sequence[float]) -> list[int]:
    """For each split the time before which all its bars lie, as the first time that is no longer its own."""
    total = int((runs.end - runs.first).sum())
    # As decimals, for 0.7 of ten bars is seven, and 0.7 + 0.15 + 0.15 is 1.
    shares = [Fraction(repr(share)) for share in fractions]
    cuts = []
    for i in range(len(shares)):
        passed = sum(shares[: i + 1], Fraction(0))
        passed = Fraction(1) if abs(passed - 1) <= Fraction(1, 10**9) else passed
        cuts.append(_time_after(timestamps, runs, min(total, math.ceil(passed * total))))
    return cuts


def _time_after(timestamps: NDArray[np.int64], runs: _Runs, count: int) -> int:
    """The earliest time of a bar before which at least `count` bars lie; for all bars 1 ns past the last."""
    if count == 0:
        return int(timestamps[runs.first].min())
    low = int(timestamps[runs.first].min())
    high = int(timestamps[runs.end - 1].max())
    # The time of bar number `count`, by bisection on the time. As it closes in, so do the rows to look at.
    begin, end = runs.first, runs.end
    if len(begin) == 1:
        low = high = int(timestamps[begin[0] + count - 1])
    while low < high:
        middle = (low + high) // 2
        rows = _search(timestamps, begin, end, middle + 1)
        if int((rows - runs.first).sum()) >= count:
            high, end = middle, rows
        else:
            low, begin = middle + 1, rows
    after = _search(timestamps, runs.first, runs.end, low + 1)
    later = after[after < runs.end]
    return int(timestamps[later].min()) if len(later) else low + 1


def _midnight_after(name: str, day: date, zone: tzinfo) -> int:
    """The first instant of the day after `day`, UTC nanoseconds."""
    try:
        # Where clocks skip midnight, fold 0 reads it with the offset from before: that is the moment they
        # skip it. Where midnight comes twice, fold 0 is the first.
        following = day + timedelta(days=1)
        midnight = datetime(following.year, following.month, following.day, tzinfo=zone).astimezone(UTC)
        seconds = (midnight - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    except OverflowError:
        seconds = 1 << 62
    nanoseconds = seconds * 1_000_000_000
    if not -(1 << 63) <= nanoseconds < 1 << 63:
        raise ConfigError(
            name, f"{day} lies outside the years that nanoseconds can count; give one from 1678 to 2261"
        )
    return nanoseconds


def _split(begin: Rows, end: Rows, bounds: Bounds, window_length: int) -> Split:
    some = begin < end
    begin, end = begin[some], end[some]
    # Neighbours become one range: windows do not cross segments in any case.
    apart = np.ones(len(begin) + 1, dtype=bool)
    apart[1:-1] = begin[1:] != end[:-1]
    ranges = np.stack([begin[apart[:-1]], end[apart[1:]]], axis=1)
    return Split(ranges, int((end - begin).sum()), _count(bounds, ranges, window_length, 1))


class Pieces(NamedTuple):
    """Stretches of windows, each in one segment: they start at the rows `begin`, `begin + stride`, … `last`."""

    begin: Rows
    last: Rows


def window_pieces(
    segments: FeatureStore | Sequence[Segment],
    ranges: Rows | Sequence[Sequence[int]],
    length: int,
    stride: int = 1,
) -> Pieces:
    """The same windows as :func:`window_starts`, as stretches: few, however many windows there are."""
    return _pieces(_bounds(segments), ranges, length, stride)


def _pieces(bounds: Bounds, ranges: Rows | Sequence[Sequence[int]], length: int, stride: int) -> Pieces:
    for name, value in (("window_length", length), ("stride", stride)):
        if value < 1:
            raise ConfigError(name, f"{value} is not a number of bars; give 1 or more")
    spans = np.asarray(ranges, dtype=np.int64).reshape(-1, 2)
    # The rows are cut where a segment or a range begins or ends; each piece lies in one segment, or in none.
    # (Not np.unique, which imports numpy.ma: a quarter of the time in which a store is opened and serves a batch.)
    points = np.sort(np.concatenate([bounds.first, bounds.end, spans.ravel()]))
    points = points[np.append(True, points[1:] != points[:-1])] if len(points) else points
    low, high = points[:-1], points[1:]
    span = np.searchsorted(spans[:, 0], low, side="right") - 1
    segment = np.searchsorted(bounds.first, low, side="right") - 1
    inside = (span >= 0) & (segment >= 0)
    inside[inside] &= (low[inside] < spans[span[inside], 1]) & (low[inside] < bounds.end[segment[inside]])
    low, high, segment = low[inside], high[inside], segment[inside]
    # The last bar must be valid, and then it may be the piece's last.
    begin = np.maximum(low, bounds.first_valid[segment] - (length - 1))
    last = high - length
    some = begin <= last
    begin, last, segment = begin[some], last[some], segment[some]
    if stride > 1 and len(begin):
        # Counted from the segment's first window here, so a later piece goes on with the same steps.
        opens = np.ones(len(segment), dtype=bool)
        opens[1:] = segment[1:] != segment[:-1]
        origin = begin[opens][np.cumsum(opens) - 1]
        begin = begin + (origin - begin) % stride
        some = begin <= last
        begin, last = begin[some], last[some]
        last = begin + (last - begin) // stride * stride
    return Pieces(begin, last)


def _bounds(segments: FeatureStore | Sequence[Segment]) -> Bounds:
    return segment_bounds(segments) if isinstance(segments, Sequence) else segments.bounds


def count_windows(
    segments: FeatureStore | Sequence[Segment],
    ranges: Rows | Sequence[Sequence[int]],
    length: int,
    stride: int = 1,
) -> int:
    """How many windows :func:`window_starts` gives, without making them."""
    return _count(_bounds(segments), ranges, length, stride)


def _count(bounds: Bounds, ranges: Rows | Sequence[Sequence[int]], length: int, stride: int) -> int:
    begin, last = _pieces(bounds, ranges, length, stride)
    return int(((last - begin) // stride + 1).sum())


def window_starts(
    segments: FeatureStore | Sequence[Segment],
    ranges: Rows | Sequence[Sequence[int]],
    length: int,
    stride: int = 1,
) -> Rows:
    """The rows at which windows start, ascending.

    Args:
        segments: A store, or its segments.
        ranges: `[n, 2]`, half-open ranges of rows, ascending and disjoint: `store.splits["train"].ranges`.
        length: K, bars in a window.
        stride: Bars from one window to the next, counted from each segment's first window in these ranges.

    A window counts when all its bars lie in one range and in one segment, and its last bar is valid.
    """
    begin, last = _pieces(_bounds(segments), ranges, length, stride)
    counts = (last - begin) // stride + 1
    ends = np.cumsum(counts)
    number = np.arange(ends[-1] if len(ends) else 0, dtype=np.int64)
    starts: Rows = np.repeat(begin, counts) + (number - np.repeat(ends - counts, counts)) * stride
    return starts


def parse_splits(record: Mapping[str, Any], bars: int) -> dict[str, Split]:
    """The splits of a `splits.json`. Raises `ValueError`, saying where, when it is none for `bars` bars."""

    def number(value: object, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{where} is not a number of bars")
        return value

    if record.get("method") not in ("dates", "fractions"):
        raise ValueError("method is neither dates nor fractions")
    for name in ("purge", "embargo"):
        number(record.get(name), name)
    splits = record.get("splits")
    if not isinstance(splits, dict) or tuple(splits) != NAMES:
        raise ValueError(f"splits are not {', '.join(NAMES)}")
    parsed = {}
    for name, split in splits.items():
        if not isinstance(split, dict) or set(split) != {"ranges", "bars", "windows"}:
            raise ValueError(f"{name} does not have ranges, bars and windows")
        if not isinstance(split["ranges"], list):
            raise ValueError(f"{name}.ranges is not a list")
        last, total = 0, 0
        for pair in split["ranges"]:
            if not isinstance(pair, list) or len(pair) != 2:
                raise ValueError(f"{name}.ranges has {pair!r}, which is not a range")
            begin, end = (number(row, f"{name}.ranges: {row!r}") for row in pair)
            if not last <= begin < end <= bars:
                raise ValueError(
                    f"{name}.ranges has [{begin}, {end}], which is empty, out of order or beyond the bars"
                )
            last, total = end, total + end - begin
        if number(split["bars"], f"{name}.bars") != total:
            raise ValueError(f"{name}.bars is {split['bars']}, but its ranges have {total}")
        ranges = np.array(split["ranges"], dtype=np.int64).reshape(-1, 2)
        ranges.flags.writeable = False
        parsed[name] = Split(ranges, total, number(split["windows"], f"{name}.windows"))
    return parsed
