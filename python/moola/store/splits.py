"""Splits bars in time into train, val and test, with the same cuts for all symbols."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moola.errors import TooFewBarsError
from moola.store.segments import Bounds, Rows, Segment, segment_bounds
from moola.store.split_options import DEFAULT_FRACTIONS, NAMES, SplitOptions, midnight_after
from moola.store.windows import count_in

__all__ = ["Split", "Splits", "make_splits", "parse_splits"]


class Split(NamedTuple):
    """One of train, val and test."""

    ranges: Rows
    """`[n, 2]`, half-open ranges of rows, ascending."""
    bars: int
    windows: int
    """Windows of the store's default length."""


class Splits(NamedTuple):
    """The result of :func:`make_splits`."""

    record: dict[str, Any]
    """The content of `splits.json`."""
    warnings: list[str]
    """Splits without windows, for the user to see."""


def make_splits(
    timestamps: NDArray[np.int64], segments: Sequence[Segment], options: SplitOptions, window_length: int
) -> Splits:
    """Splits bars in time, with the same cuts for all symbols.

    Args:
        timestamps: `[N]`, UTC nanoseconds, ascending within each segment.
        segments: They cover the rows without gap or overlap; those of one symbol stand together.
        options: Fractions or dates, and the embargo.
        window_length: The default K, for which windows are counted. The ranges do not depend on it.

    With dates, a bar belongs to a split by the day of its time in the options' zone. With fractions, each cut
    is the time by which that share of all symbols' bars has passed: the earliest that leaves at least that
    share behind it. The embargo counts in the bars of each symbol, across its segments, after each boundary
    that has bars before it.

    Raises `TooFewBarsError` when no window remains in any split.
    """
    bounds = segment_bounds(segments)
    runs = _runs(timestamps, segments, bounds)
    if options.train_end is not None:
        days = [getattr(options, f"{name}_end") for name in NAMES]
        if days[-1] is None:
            days[-1] = max(days[1], _day_of(int(timestamps[runs.end - 1].max()), options.tz))
        boundaries = [
            midnight_after(f"{name}_end", day, options.tz) for name, day in zip(NAMES, days, strict=True)
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
            problem += (
                "; no bar is past its segment's warm-up, which ends only after a swing up and a swing down"
            )
            advice = "Give more bars; if there are enough, check that their prices move"
        raise TooFewBarsError(problem, advice)
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


def _day_of(time: int, tz: str) -> date:
    """The day in `tz` on which a time, UTC nanoseconds, lies."""
    utc = datetime.fromtimestamp(time // 10**9, UTC).date()
    days = (utc + timedelta(days=apart) for apart in (-1, 0, 1))
    return next(day for day in days if time < midnight_after("test_end", day, tz))


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
    # As decimals: then 0.7 of ten bars is seven, and 0.7 + 0.15 + 0.15 is 1.
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


def _split(begin: Rows, end: Rows, bounds: Bounds, window_length: int) -> Split:
    some = begin < end
    begin, end = begin[some], end[some]
    # Neighbours become one range: windows do not cross segments in any case.
    apart = np.ones(len(begin) + 1, dtype=bool)
    apart[1:-1] = begin[1:] != end[:-1]
    ranges = np.stack([begin[apart[:-1]], end[apart[1:]]], axis=1)
    return Split(ranges, int((end - begin).sum()), count_in(bounds, ranges, window_length, 1))


def parse_splits(record: Mapping[str, Any], bars: int) -> dict[str, Split]:
    """The splits of a `splits.json`. Raises `ValueError`, which names the place, when it does not fit `bars` bars."""

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
