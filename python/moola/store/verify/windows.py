"""The windows of a store, computed from its segments, and samples of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from moola.store.reader import FeatureStore
from moola.store.segments import Rows
from moola.store.verify.findings import FindingError

__all__ = ["WindowRows", "sample_windows", "windows_of"]


class WindowRows(NamedTuple):
    """All windows of a store, numbered in order. The dense layout stores them, and samples are drawn from them."""

    first: Rows
    """The first window of each segment."""
    ends: Rows
    """The number of windows up to each segment's end."""

    def __len__(self) -> int:
        return int(self.ends[-1])

    def find(self, numbers: Rows) -> tuple[Rows, Rows]:
        """Segments and first rows of windows."""
        segments = np.searchsorted(self.ends, numbers, side="right")
        before = np.concatenate([[0], self.ends[:-1]])
        return segments, self.first[segments] + numbers - before[segments]


def windows_of(store: FeatureStore) -> WindowRows:
    length, bounds = store.window_length, store.bounds
    first = np.maximum(bounds.first, bounds.first_valid - (length - 1))
    counts = np.maximum(bounds.end - length + 1 - first, 0)
    # A segment without a valid bar has no window.
    counts[bounds.first_valid == bounds.end] = 0
    return WindowRows(first, np.cumsum(counts))


def sample_windows(store: FeatureStore, samples: int, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Number, segment and first row of windows drawn from all windows, ascending."""
    windows = windows_of(store)
    if len(windows) == 0:
        raise FindingError(f"no window of {store.window_length:,} bars is in the store")
    numbers = np.sort(rng.choice(len(windows), min(samples, len(windows)), replace=False, shuffle=False))
    segments, starts = windows.find(numbers)
    return list(zip(numbers.tolist(), segments.tolist(), starts.tolist(), strict=True))
