"""Groups of windows that share bars, or their times. A group must stay on one side of a cross-validation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from moola.settings.arrays import Numbers

__all__ = ["group_bars", "group_overlaps", "hash_bars", "join_groups", "same_windows"]

Hashes: TypeAlias = NDArray[np.uint64]


def group_overlaps(starts: Numbers, ends: Numbers) -> Numbers:
    """`[n]`: the group of each window. Windows that overlap, directly or through others, share a group.

    Args:
        starts, ends: `[n]`, the first and the last bar of each window, as times or as rows.

    Groups are numbered from 0, in the order of their starts.
    """
    order = np.argsort(starts, kind="stable")
    first, reach = starts[order], np.maximum.accumulate(ends[order])
    begins = np.append(True, first[1:] > reach[:-1])[: len(order)]
    groups = np.empty(len(order), np.int64)
    groups[order] = np.cumsum(begins) - 1
    return groups


def join_groups(groupings: Iterable[Numbers]) -> Numbers:
    """`[n]`: the group of each window. Windows that share a group in any grouping, even through others, share it.

    Args:
        groupings: One or more, each `[n]`.

    Groups are numbered from 0, in the order of their first windows.
    """
    one, other = [], []
    for groups in groupings:
        _, first, number = np.unique(groups, return_index=True, return_inverse=True)
        one.append(np.arange(len(groups)))
        other.append(first[number])
    return _joined(len(one[0]), np.concatenate(one), np.concatenate(other))


# Odd constants of splitmix64 and of the golden ratio. Any odd constants would do.
_MIX = [
    np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93)
]
_RUN = 3
"""This many equal bars in a row count as the same bars; `group_bars` says why."""


def hash_bars(bars: NDArray[np.float64]) -> Hashes:
    """`[n, K]`: a hash of each bar of `[n, K, 4]`, equal for prices that are equal to the bit."""
    bits = bars.view(np.uint64)
    hashes: Hashes = bits[:, :, 0] * _MIX[0]
    for price in range(1, 4):
        hashes += bits[:, :, price] * _MIX[price]
    return _mixed(hashes)


def same_windows(hashes: Hashes) -> Numbers:
    """`[n]`: the same number for windows of the same bars."""
    keys = np.zeros(len(hashes), np.uint64)
    for bar in hashes.T:
        keys = _mixed(keys + bar)
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)


def group_bars(hashes: Hashes) -> Numbers:
    """`[n]`: the group of each window, for windows without known positions.

    Args:
        hashes: `[n, K]`, the hashes of their bars.

    Two windows that overlap hold the same prices. They share a group if one contains the first three bars of the other.
    These three must not all be equal: a market that stands still repeats them anywhere. An overlap of one or two bars
    is not detected. Groups are numbered in the order of their first windows.

    Why three: on 500,000 minutes of `make_bars`, with prices on ticks of 0.25, one bar recurs at one place in 180,000,
    two bars in a row at one in 6.6 million, three at one in 110 million. Among 174 windows of 105 bars, chance joins
    some two windows in 38 % of all sets with two bars, in 2.8 % with three and in 0.3 % with four. A chance join only
    restricts the split a little. A missed overlap is a leak, of two bars at most. (In the 30,240 minutes of BTCUSDT in
    March 2023, with prices to a cent, no two bars in a row recur.)
    """
    n, length = hashes.shape
    if length < _RUN:
        return np.arange(n)
    parts = [hashes[low : low + _AT_A_TIME] for low in range(0, n, _AT_A_TIME)]
    # The first run of each window is searched in all windows.
    begins, some = (np.concatenate(columns) for columns in zip(*map(_beginning, parts), strict=True))
    owners = np.flatnonzero(some)
    if not len(owners):
        return np.arange(n)
    known, first = np.unique(begins[owners], return_index=True)
    # Nearly all runs are no window's first run. A few bits exclude most of them.
    shift = np.uint64(64 - max(16, (16 * len(known)).bit_length()))
    possible = np.zeros(1 << (64 - int(shift)), np.bool_)
    possible[known >> shift] = True
    one: list[NDArray[np.intp]] = []
    other: list[NDArray[np.intp]] = []
    for number, part in enumerate(parts):
        keys = _runs(part)
        window, at = np.nonzero(possible[keys >> shift])
        found = keys[window, at]
        place = np.minimum(np.searchsorted(known, found), len(known) - 1)
        same = (known[place] == found) & _telling(part)[window, at]
        one.append(window[same] + number * _AT_A_TIME)
        other.append(owners[first[place[same]]])
    return _joined(n, np.concatenate(one), np.concatenate(other))


_AT_A_TIME = 512


def _runs(hashes: Hashes) -> Hashes:
    """`[n, K − 2]`: a hash of each three bars in a row."""
    return (hashes[:, :-2] * _MIX[0] + hashes[:, 1:-1]) * _MIX[2] + hashes[:, 2:]


def _telling(hashes: Hashes) -> NDArray[np.bool_]:
    """`[n, K − 2]`: whether three bars in a row are not all equal."""
    changes = hashes[:, 1:] != hashes[:, :-1]
    telling: NDArray[np.bool_] = changes[:, 1:] | changes[:, :-1]
    return telling


def _beginning(hashes: Hashes) -> tuple[Hashes, NDArray[np.bool_]]:
    """`[n]`: the first telling run of each window, and whether there is one."""
    telling = _telling(hashes)
    at = np.argmax(telling, axis=1)
    return _runs(hashes)[np.arange(len(hashes)), at], np.asarray(telling.any(axis=1))


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
