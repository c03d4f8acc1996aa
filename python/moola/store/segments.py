"""Segments of a store: runs of bars of one symbol that no window crosses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bounds", "Rows", "Segment", "segment_bounds"]


Rows: TypeAlias = NDArray[np.int64]


class Segment(NamedTuple):
    """A run of bars of one symbol, at whose start all state is reset. No window crosses its end."""

    symbol: str
    """`""` when the bars have no symbols."""
    first_row: int
    last_row: int
    """Inclusive."""
    first_timestamp: int
    """UTC nanoseconds."""
    last_timestamp: int
    bar_interval: int
    """The length of a bar in nanoseconds, one for all symbols; 0 where it is unknown. In stores before 0.2.0, the
    symbol's most common step."""
    first_valid: int | None
    """The first row past the warm-up; None when the segment ends before it."""


class Bounds(NamedTuple):
    """The rows of all segments, as arrays: what window arithmetic needs of them."""

    first: Rows
    end: Rows
    """Half-open."""
    first_valid: Rows
    """The segment's end when no bar is valid."""


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
