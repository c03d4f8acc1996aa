"""Checks of a store's times: order, segments, gaps, and the quality report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moola import _core
from moola.errors.base import format_time
from moola.store.reader import FeatureStore
from moola.store.segments import Rows
from moola.store.verify.findings import FindingError, bar_at
from moola.store.verify.recorded import options_of
from moola.store.verify.rows import row_pieces

__all__ = ["check_quality", "check_times"]


class _Symbols(NamedTuple):
    """The runs of segments of one symbol each."""

    first_row: Rows
    interval: Rows
    """The bar interval that their segments have."""
    of_segment: Rows
    """The number of each segment's run."""


def symbols_of(store: FeatureStore) -> _Symbols:
    """Symbols stand together and ascend."""
    begins = []
    for i, segment in enumerate(store.segments):
        before = store.segments[i - 1] if i else None
        if before is None or segment.symbol > before.symbol:
            begins.append(i)
        elif segment.symbol < before.symbol:
            raise FindingError(f"symbol {segment.symbol!r} comes after {before.symbol!r}")
        elif segment.bar_interval != before.bar_interval:
            raise FindingError(f"symbol {segment.symbol!r} has segments of two bar intervals")
    of_segment = np.zeros(len(store.segments), dtype=np.int64)
    of_segment[begins[1:]] = 1
    interval = np.array([store.segments[i].bar_interval for i in begins], dtype=np.int64)
    return _Symbols(store.bounds.first[begins], interval, np.cumsum(of_segment))


class _Steps(NamedTuple):
    """A piece of the rows, and how each follows the one before it; all arrays have one value a row."""

    rows: slice
    times: NDArray[np.int64]
    before: NDArray[np.int64]
    """The time of the row before; for row 0 its own."""
    length: NDArray[np.uint64]
    """Nanoseconds since the row before, exact where time ascends, however far."""
    begins_segment: NDArray[np.bool_]
    begins_symbol: NDArray[np.bool_]


def steps_of(store: FeatureStore, symbols: _Symbols) -> Iterator[_Steps]:
    last: NDArray[np.int64] | None = None
    for rows in row_pieces(len(store)):
        times = store.read_rows("timestamps.npy", rows.start, rows.stop)
        before = np.concatenate([times[:1] if last is None else last, times[:-1]])
        length = times.view(np.uint64) - before.view(np.uint64)
        begins_segment, begins_symbol = (
            _marks(first, rows) for first in (store.bounds.first, symbols.first_row)
        )
        yield _Steps(rows, times, before, length, begins_segment, begins_symbol)
        last = times[-1:]


def _marks(places: Rows, rows: slice) -> NDArray[np.bool_]:
    """Which of the rows are among the places, which ascend."""
    begin, end = np.searchsorted(places, [rows.start, rows.stop])
    marks = np.zeros(rows.stop - rows.start, dtype=np.bool_)
    marks[places[begin:end] - rows.start] = True
    return marks


def check_times(store: FeatureStore) -> str:
    read_options, options = options_of(store)
    longest = np.uint64((1 << 63) if options.reset_on_gap is None else options.reset_on_gap)
    bounds, segments = store.bounds, store.segments
    for steps in steps_of(store, symbols_of(store)):
        rows = steps.rows
        for places, name in ((bounds.first, "first_timestamp"), (bounds.end - 1, "last_timestamp")):
            begin, end = np.searchsorted(places, [rows.start, rows.stop])
            said = np.array([getattr(segment, name) for segment in segments[begin:end]], dtype=np.int64)
            different = steps.times[places[begin:end] - rows.start] != said
            if different.any():
                i = begin + int(np.argmax(different))
                said_so = format_time(getattr(segments[i], name))
                raise FindingError(
                    f"{bar_at(store, places[i])} should be {said_so} by {name} of segment {i:,}"
                )
        within = ~steps.begins_symbol
        backward = within & (steps.times <= steps.before)
        long = steps.length > longest
        missed = within & long & ~steps.begins_segment
        cut = within & ~long & steps.begins_segment
        if "contract" in read_options.segment_by:
            cut[:] = False
        for wrong, problem in (
            (backward, "is not later than the row before"),
            (missed, "comes after a gap that should have begun a segment"),
            (cut, "begins a segment, but no gap or contract is why"),
        ):
            if wrong.any():
                raise FindingError(f"{bar_at(store, rows.start + int(np.argmax(wrong)))} {problem}")
    return f"ascending in each of {len(segments):,} segments, which begin where they should"


def check_quality(store: FeatureStore) -> str:
    """Counts again what the quality report counts, and how long bars are."""
    read_options, options = options_of(store)
    symbols = symbols_of(store)
    zero_range = jumps = short_cuts = 0
    close_before = np.ones(1)
    for steps in steps_of(store, symbols):
        within = ~steps.begins_symbol
        if options.reset_on_gap is not None:
            short_cuts += int((within & steps.begins_segment & (steps.length <= options.reset_on_gap)).sum())
        _, high, low, close = store.read_rows("bars.npy", steps.rows.start, steps.rows.stop).T
        zero_range += int((high == low).sum())
        before = np.concatenate([close_before, close[:-1]])
        # A share of a price that is zero or negative means nothing.
        with np.errstate(all="ignore"):
            change = np.abs(close / before - 1)
        jumps += int((within & (change > 0.5) & (close > 0) & (before > 0)).sum())
        close_before = close[-1:]

    # By the engine, in bounded memory: bars at irregular times have as many distinct steps as bars.
    told = options.bar_interval
    of_each = isinstance(told, str)
    counted, another = _core.count_steps(
        store.path / "timestamps.npy",
        len(store),
        symbols.first_row.tolist(),
        None if isinstance(told, str) else told,
        of_each,
    )
    for number, said in enumerate(symbols.interval.tolist()):
        interval = counted[number if of_each else 0][0]
        if interval != said:
            name = store.segments[int(np.searchsorted(symbols.of_segment, number))].symbol
            which = f" of symbol {name!r}" if name else ""
            found = f"its commonest step is {interval}" if of_each else f"its steps give {interval}"
            if told is not None and not of_each:
                found = f"it was built with --bar-interval of {interval}"
            raise FindingError(f"bar_interval{which} is {said} ns, but {found} ns")
    shorter = store.bounds.end - store.bounds.first < store.window_length
    quality = store.metadata["quality"]
    recounted = {
        "bars": len(store),
        "zero_range_bars": zero_range,
        "gaps": sum(longer for _, longer, *_ in counted),
        "short_steps": sum(shorter for _, _, shorter, *_ in counted),
        "longest_step": max((longest for *_, longest, _ in counted), default=0),
        "jumps_over_50_percent": jumps,
        "segments_shorter_than_window": int(shorter.sum()),
    }
    if not of_each:
        interval, *_, off_grid = counted[0]
        recounted |= {"bar_interval": interval, "another_interval": another, "off_grid_bars": off_grid}
    for key, count in recounted.items():
        if quality[key] != count:
            raise FindingError(f"quality: {key} is {quality[key]!r}, the bars give {count:,}")
    cuts = len(store.segments) - len(symbols.first_row)
    by_contract, by_gap = quality["segments_from_contracts"], quality["segments_from_gaps"]
    if by_contract + by_gap != cuts or min(by_contract - short_cuts, by_gap) < 0:
        raise FindingError(
            f"quality: {by_contract} + {by_gap} segments of contracts and gaps, there are {cuts}"
        )
    if (by_contract and "contract" not in read_options.segment_by) or (
        by_gap and options.reset_on_gap is None
    ):
        raise FindingError(
            f"quality: {by_contract} and {by_gap} segments of contracts and gaps without such a rule"
        )
    return f"{recounted['gaps']:,} gaps, {zero_range:,} zero-range bars and {jumps:,} jumps counted again"
