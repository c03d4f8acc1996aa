"""The windows in ranges of bars: their starts, counts and pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from moola.settings.whole_numbers import whole_number
from moola.store.segments import Bounds, Rows, Segment, segment_bounds

__all__ = ["Pieces", "count_in", "count_windows", "window_pieces", "window_starts"]


class Bounded(Protocol):
    """What window arithmetic needs of a store."""

    @property
    def bounds(self) -> Bounds: ...


class Pieces(NamedTuple):
    """Stretches of windows, each in one segment: they start at the rows `begin`, `begin + stride`, … `last`."""

    begin: Rows
    last: Rows


def window_pieces(
    segments: Bounded | Sequence[Segment],
    ranges: Rows | Sequence[Sequence[int]],
    length: int,
    stride: int = 1,
) -> Pieces:
    """The same windows as :func:`window_starts`, as stretches. There are few of them, even for many windows."""
    return pieces_in(bounds_of(segments), ranges, length, stride)


def pieces_in(bounds: Bounds, ranges: Rows | Sequence[Sequence[int]], length: int, stride: int) -> Pieces:
    for name, value in (("window_length", length), ("stride", stride)):
        whole_number(name, value, 1, of="bars")
    spans = np.asarray(ranges, dtype=np.int64).reshape(-1, 2)
    # The rows are cut where a segment or a range begins or ends; each piece lies in one segment or outside all.
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


def bounds_of(segments: Bounded | Sequence[Segment]) -> Bounds:
    return segment_bounds(segments) if isinstance(segments, Sequence) else segments.bounds


def count_windows(
    segments: Bounded | Sequence[Segment],
    ranges: Rows | Sequence[Sequence[int]],
    length: int,
    stride: int = 1,
) -> int:
    """The number of windows of :func:`window_starts`, without making them."""
    return count_in(bounds_of(segments), ranges, length, stride)


def count_in(bounds: Bounds, ranges: Rows | Sequence[Sequence[int]], length: int, stride: int) -> int:
    begin, last = pieces_in(bounds, ranges, length, stride)
    return int(((last - begin) // stride + 1).sum())


def window_starts(
    segments: Bounded | Sequence[Segment],
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
    begin, last = pieces_in(bounds_of(segments), ranges, length, stride)
    counts = (last - begin) // stride + 1
    ends = np.cumsum(counts)
    number = np.arange(ends[-1] if len(ends) else 0, dtype=np.int64)
    starts: Rows = np.repeat(begin, counts) + (number - np.repeat(ends - counts, counts)) * stride
    return starts
