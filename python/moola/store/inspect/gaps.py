"""Finds the gaps between the bars of a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from moola import _core
from moola.errors.base import format_time
from moola.store.inspect.durations import HOUR, SECOND
from moola.store.reader import FeatureStore

__all__ = ["Gap", "Gaps", "Times", "find_gaps"]


Times: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Gap:
    """Two consecutive bars of a symbol that lie further apart than the bar interval; times of their opens."""

    symbol: str
    last_timestamp: int
    next_timestamp: int


class Gaps(NamedTuple):
    """All steps of a store that are longer than the symbol's bar interval."""

    symbol: NDArray[np.int64]
    """The symbol of each long gap, as a number."""
    last: Times
    """The open of the bar before it."""
    begin: Times
    """When the first missing bar would open."""
    end: Times
    """The open of the bar after it."""
    span: NDArray[np.int64]
    """`[symbols, 2]`: first and last time of each symbol."""
    short: dict[int, int]
    """The number of gaps too short to be a break, by duration to the second."""
    short_bars: int
    """Bar intervals in them."""
    short_example: Gap | None

    @property
    def closed(self) -> Times:
        """The time during which bars are missing."""
        return self.end - self.begin

    @property
    def step(self) -> Times:
        """The time from bar to bar, which `reset_on_gap` is compared with."""
        return self.end - self.last


def find_gaps(store: FeatureStore) -> Gaps:
    """The gaps of a store, also those between segments of one symbol."""
    segments, timestamps = store.segments, store.timestamps
    number: dict[str, int] = {}
    symbols = np.array([number.setdefault(s.symbol, len(number)) for s in segments], dtype=np.int64)
    intervals = np.array([s.bar_interval for s in segments], dtype=np.int64)
    if not intervals.all():
        intervals = np.where(intervals == 0, _commonest_steps(store, symbols), intervals)
    names = list(number)
    span = np.stack(
        [np.full(len(names), np.iinfo(np.int64).max), np.full(len(names), np.iinfo(np.int64).min)], axis=1
    )
    np.minimum.at(span[:, 0], symbols, np.array([s.first_timestamp for s in segments]))
    np.maximum.at(span[:, 1], symbols, np.array([s.last_timestamp for s in segments]))

    first_rows = store.bounds.first
    smallest = intervals.min()
    found = [np.zeros((4, 0), dtype=np.int64)]
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
        found.append(np.stack([symbol, last, begin, end])[:, long])
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
    symbol, last, begin, end = np.concatenate(found, axis=1)
    return Gaps(symbol, last, begin, end, span, short, short_bars, example)


def _commonest_steps(store: FeatureStore, symbols: NDArray[np.int64]) -> NDArray[np.int64]:
    """The commonest step of each segment's symbol, for a store whose bars have no known length."""
    firsts = store.bounds.first[np.flatnonzero(np.diff(symbols, prepend=-1))]
    counted, _ = _core.count_steps(
        store.path / "timestamps.npy", len(store), firsts.tolist(), of_each_symbol=True
    )
    return np.array([commonest for commonest, *_ in counted], np.int64)[symbols]


def describe_gap(gap: Gap) -> str:
    """A gap as one line: from the bar before it to the one after it."""
    symbol = f"{gap.symbol}: " if gap.symbol else ""
    return f"{symbol}{format_time(gap.last_timestamp)} → {format_time(gap.next_timestamp)}"
