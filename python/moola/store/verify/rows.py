"""Reads a store's arrays in pieces, with plain reads: see `FeatureStore.read_rows`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moola.store.reader import FeatureStore

__all__ = ["PIECE", "price_columns", "row_pieces"]

PIECE = 1 << 17
"""Rows in a piece."""


def row_pieces(length: int, step: int = PIECE) -> list[slice]:
    """Slices of at most `step` rows that cover `length` rows."""
    return [slice(first, min(first + step, length)) for first in range(0, length, step)]


def price_columns(store: FeatureStore, first: int, end: int) -> NDArray[np.float64]:
    """Open, high, low and close of these rows, `[4, n]`, each contiguous."""
    return np.ascontiguousarray(store.read_rows("bars.npy", first, end).T)
