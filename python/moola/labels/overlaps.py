"""Which windows share bars: those must not be on both sides of a cross-validation."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["group_bars", "group_rows", "hash_bars", "same_windows"]

Numbers: TypeAlias = NDArray[np.int64]
Hashes: TypeAlias = NDArray[np.uint64]


def group_rows(starts: Numbers, ends: Numbers) -> Numbers:
    """`[n]`: a group for each window; windows that share a row of the store, directly or by way of others, share it.

    Args:
        starts, ends: `[n]`, the first and the last row of each window.

    Groups are numbered from 0, by their first rows.
    """
    order = np.argsort(starts, kind="stable")
    first, reach = starts[order], np.maximum.accumulate(ends[order])
    begins = np.append(True, first[1:] > reach[:-1])[: len(order)]
    groups = np.empty(len(order), np.int64)
    groups[order] = np.cumsum(begins) - 1
    return groups


# Odd constants of splitmix64 and of the golden ratio; any would do.
_MIX = np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93], np.uint64)
_RUN = 3
"""So many bars in a row that are the same to the bit are the same bars."""


def hash_bars(bars: NDArray[np.float64]) -> Hashes:
    """`[n, K]`: a number for each bar of `[n, K, 4]`, the same for the same prices to the bit, else another."""
    hashes = np.empty(bars.shape[:2], np.uint64)
    for low in range(0, len(bars), _AT_A_TIME):
        bits = np.ascontiguousarray(bars[low : low + _AT_A_TIME]).view(np.uint64)
        hashes[low : low + _AT_A_TIME] = _mixed((bits * _MIX).sum(axis=2, dtype=np.uint64))
    return hashes


_AT_A_TIME = 1024


def same_windows(hashes: Hashes) -> Numbers:
    """`[n]`: the same number for windows of the same bars."""
    keys = np.zeros(len(hashes), np.uint64)
    for bar in hashes.T:
        keys = _mixed(keys + bar)
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)


def group_bars(hashes: Hashes) -> Numbers:
    """`[n]`: a group for each window, for windows of which nobody knows where they were cut.

    Args:
        hashes: `[n, K]`, those of their bars.

    Two windows that overlap hold the same prices. They share a group where the one has the first three bars of the
    other, three that are not all alike: on a market that stands still, those would be found anywhere. Groups are
    numbered by their first windows.
    """
    n, length = hashes.shape
    runs = length - _RUN + 1
    if runs < 1:
        return np.arange(n)
    keys = np.zeros((n, runs), np.uint64)
    for i in range(_RUN):
        keys = _mixed(keys + hashes[:, i : i + runs])
    telling = (hashes[:, 1:-1] != hashes[:, :-2]) | (hashes[:, 2:] != hashes[:, 1:-1])
    # Each window's beginning, looked for in all windows.
    owners = np.flatnonzero(telling.any(axis=1))
    if not len(owners):
        return np.arange(n)
    known, first = np.unique(keys[owners, np.argmax(telling[owners], axis=1)], return_index=True)
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    window, at = np.nonzero((known[place] == keys) & telling)
    return _joined(n, window, owners[first[place[window, at]]])


def _mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mixed: NDArray[np.uint64] = (hashes ^ (hashes >> np.uint64(29))) * _MIX[1]
    return mixed ^ (mixed >> np.uint64(32))


def _joined(n: int, one: NDArray[np.intp], other: NDArray[np.intp]) -> Numbers:
    """The connected components of `n` windows with these pairs, numbered by their first windows."""
    lowest = np.arange(n)
    while True:
        before = lowest.copy()
        both = np.minimum(lowest[one], lowest[other])
        np.minimum.at(lowest, one, both)
        np.minimum.at(lowest, other, both)
        lowest = lowest[lowest]
        if np.array_equal(lowest, before):
            return np.unique(lowest, return_inverse=True)[1].astype(np.int64)
