"""The arguments of splitters, checked: first and last bars of windows, times and symbols."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moola.errors import ConfigError
from moola.settings.arrays import Numbers
from moola.settings.times import nanoseconds_of_all

__all__ = [
    "AFTER_ALL",
    "BEFORE_ALL",
    "MOST",
    "Flags",
    "Numbers",
    "TrainTest",
    "even_blocks",
    "indices_of",
    "per_window",
    "ranges_of",
    "times_of",
    "windows_of",
]


Flags: TypeAlias = NDArray[np.bool_]

TrainTest: TypeAlias = tuple[NDArray[np.intp], NDArray[np.intp]]

# The limit of bar numbers and embargoes, so that their sums fit 64 bits.
MOST = 1 << 60

BEFORE_ALL, AFTER_ALL = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def per_window(name: str, given: ArrayLike, n: int | None) -> NDArray[Any]:
    array = np.asarray(given)
    if array.ndim != 1:
        raise ConfigError(name, f"has {array.ndim} dimensions; give one value per window, [n]")
    if n is not None and len(array) != n:
        raise ConfigError(
            name, f"has {len(array):,} values for {n:,} windows; give one for each, in the order of starts"
        )
    return array


def rows_of(name: str, given: ArrayLike, n: int | None) -> Numbers:
    array = per_window(name, given, n)
    if not len(array):
        raise ConfigError(name, "is empty; give at least one window")
    if array.dtype.kind not in "iu":
        raise ConfigError(
            name, f"is of type {array.dtype}; give bar numbers, as integers (times go into `times`)"
        )
    # Python's integers, because uint64 exceeds int64.
    if max(abs(int(array.min())), abs(int(array.max()))) > MOST:
        raise ConfigError(name, "has numbers beyond 2**60; give bar numbers (times go into `times`)")
    return array.astype(np.int64)


class WindowBars(NamedTuple):
    """The bars of windows and their labels, `[n]` each, both ends inclusive."""

    starts: Numbers
    ends: Numbers
    """The last bar of the window or of its label, whichever is later."""


def windows_of(starts: ArrayLike, ends: ArrayLike, label_ends: ArrayLike | None) -> WindowBars:
    first = rows_of("starts", starts, None)
    last = rows_of("ends", ends, len(first))
    _forward("ends", first, last)
    if label_ends is not None:
        label = rows_of("label_ends", label_ends, len(first))
        _forward("label_ends", first, label)
        # A label may end before its window, for instance the label of a span inside it.
        last = np.maximum(last, label)
    return WindowBars(first, last)


def _forward(name: str, first: Numbers, last: Numbers) -> None:
    if (last < first).any():
        i = int(np.argmax(last < first))
        problem = f"is {last[i]} for window {i}, which starts at bar {first[i]}"
        raise ConfigError(name, f"{problem}; give each window's last bar, inclusive")


def times_of(times: ArrayLike, windows: WindowBars) -> Numbers:
    array = np.asarray(times)
    if array.dtype.kind == "M":
        array = nanoseconds_of_all("times", array)
    elif array.dtype.kind not in "iu":
        raise ConfigError(
            "times",
            f"is of type {array.dtype}; give UTC nanoseconds such as store.timestamps, or datetime64",
        )
    if array.ndim != 1:
        raise ConfigError("times", f"has {array.ndim} dimensions; give the time of each bar, [bars]")
    low, high = int(windows.starts.min()), int(windows.ends.max())
    if low < 0 or high >= len(array):
        outside = low if low < 0 else high
        raise ConfigError(
            "times",
            f"has {len(array):,} bars, but a window reaches bar {outside}; give the time of every bar",
        )
    return array.astype(np.int64)


class SymbolRows(NamedTuple):
    """For each window, the range of bars known to belong to its symbol: `[n]` each, both ends inclusive."""

    first: Numbers
    last: Numbers


def ranges_of(windows: WindowBars, times: Numbers, symbols: ArrayLike | None) -> SymbolRows:
    n = len(windows.starts)
    # Bars after which time does not ascend. Only a symbol's last bar may be one.
    back = np.flatnonzero(times[1:] <= times[:-1])
    if symbols is None:
        if len(back):
            raise ConfigError(
                "times",
                f"do not ascend from bar {back[0]} to the next; sort the bars, or give the symbol of each window as "
                "symbols",
            )
        return SymbolRows(np.zeros(n, np.int64), np.full(n, len(times) - 1))
    try:
        names, number = np.unique(per_window("symbols", symbols, n), return_inverse=True)
    except TypeError:
        raise ConfigError(
            "symbols", "cannot be compared with each other; give one string per window"
        ) from None
    first = np.full(len(names), AFTER_ALL)
    last = np.full(len(names), BEFORE_ALL)
    np.minimum.at(first, number, windows.starts)
    np.maximum.at(last, number, windows.ends)
    order = np.argsort(first)
    mixed = np.flatnonzero(first[order[1:]] <= last[order[:-1]])
    if len(mixed):
        a, b = order[mixed[0]], order[mixed[0] + 1]
        raise ConfigError(
            "symbols",
            f"windows of {names[b]} start at bar {first[b]}, among those of {names[a]} (bars {first[a]} to "
            f"{last[a]}); put the bars of each symbol together, as in a store",
        )
    holder = np.searchsorted(first[order], back, side="right") - 1
    inside = (holder >= 0) & (back < last[order[holder]])
    if inside.any():
        row, name = back[inside][0], names[order[holder[inside][0]]]
        raise ConfigError(
            "times",
            f"do not ascend from bar {row} to the next, both of {name}; sort its bars, or give each of "
            "several overlapping contracts a symbol of its own",
        )
    return SymbolRows(first[number], last[number])


def even_blocks(n: int, parts: int) -> list[int]:
    """Sizes that differ by at most one, larger ones first, as in `KFold` and `numpy.array_split`."""
    return [n // parts + (i < n % parts) for i in range(parts)]


def indices_of(name: str, given: ArrayLike, n: int) -> NDArray[np.intp]:
    array = np.asarray(given)
    if array.ndim != 1:
        raise ConfigError(name, f"has {array.ndim} dimensions; give indices of windows, or a mask [n]")
    if array.dtype == bool:
        return np.flatnonzero(per_window(name, array, n))
    if not len(array):
        return np.empty(0, np.intp)
    if array.dtype.kind not in "iu":
        raise ConfigError(name, f"is of type {array.dtype}; give indices of windows, or a mask [n]")
    if array.min() < 0 or array.max() >= n:
        wrong = array.min() if array.min() < 0 else array.max()
        raise ConfigError(name, f"has {wrong}, but windows count from 0 to {n - 1}; give indices of windows")
    return array.astype(np.intp)
