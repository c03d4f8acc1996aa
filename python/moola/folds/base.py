"""The base of all splitters: blocks of windows in time, purged and embargoed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from moola.errors import ConfigError, SplitError
from moola.errors.base import format_time
from moola.folds.purge import purged
from moola.folds.windows import (
    AFTER_ALL,
    BEFORE_ALL,
    MOST,
    Flags,
    ranges_of,
    times_of,
    windows_of,
)
from moola.settings.arrays import Numbers
from moola.settings.whole_numbers import whole_number

__all__ = ["Splitter"]


class Blocks(NamedTuple):
    """Windows in blocks, by the time at which they start."""

    number: Numbers
    """`[n]`: the block of each window."""
    first: Numbers
    """`[blocks]`: bar number or time of the block's first bar."""
    last: Numbers
    """`[blocks]`: bar number or time of the last bar of its windows and their labels."""


class Splitter:
    """The windows of a splitter: their bars, times, blocks, purge and embargo.

    Windows are compared on one axis: times if they are given, otherwise bar numbers. The embargo counts bars of the
    window's own symbol: a training window is treated as if it began that many bars earlier.
    """

    def __init__(
        self,
        starts: ArrayLike,
        ends: ArrayLike,
        label_ends: ArrayLike | None,
        times: ArrayLike | None,
        symbols: ArrayLike | None,
        embargo: int,
    ) -> None:
        self.embargo = whole_number("embargo", embargo, 0, MOST, of="bars")
        self._windows = windows_of(starts, ends, label_ends)
        if times is None:
            if symbols is not None:
                raise ConfigError(
                    "times",
                    "is missing; give the time of each bar with symbols, such as store.timestamps, because bars of "
                    "different symbols can only be compared in time",
                )
            self._times, self._ranges = None, None
        else:
            self._times = times_of(times, self._windows)
            self._ranges = ranges_of(self._windows, self._times, symbols)
        self._from = self._when(self._windows.starts)
        self._to = self._when(self._windows.ends)
        self._embargoed = self._when(self._windows.starts - self.embargo)

    def __len__(self) -> int:
        """The number of windows."""
        return len(self._windows.starts)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in vars(self).items() if name[0] != "_")
        return f"<{type(self).__name__} of {len(self):,} windows, {settings}>"

    def _when(self, rows: Numbers) -> Numbers:
        """`[n]`: the axis values of one bar per window; `BEFORE_ALL` or `AFTER_ALL` outside the window's symbol."""
        if self._times is None or self._ranges is None:
            return rows
        first, last = self._ranges
        when: Numbers = self._times[np.clip(rows, first, last)]
        when[rows < first] = BEFORE_ALL
        when[rows > last] = AFTER_ALL
        return when

    def _axis(self, value: int) -> str:
        return f"bar {value}" if self._times is None else format_time(value)

    def _blocks(self, name: str, sizes: Sequence[int]) -> Blocks:
        """Blocks of about these sizes. Windows that start together stay together.

        Raises `ConfigError`, which names `name`, if windows start at fewer different bars than there are blocks.
        """
        order = np.argsort(self._from, kind="stable")
        sorted_from = self._from[order]
        possible = np.flatnonzero(sorted_from[1:] > sorted_from[:-1]) + 1
        if len(possible) < len(sizes) - 1:
            raise ConfigError(
                name,
                f"{len(sizes)} blocks need as many windows that start at different bars; there are "
                f"{len(possible) + 1}. Give more windows, or fewer blocks",
            )
        cuts = [0]
        chosen = -1
        for i, wanted in enumerate(itertools.accumulate(sizes[:-1])):
            nearest = int(np.searchsorted(possible, wanted))
            if nearest == len(possible) or (
                nearest and wanted - possible[nearest - 1] <= possible[nearest] - wanted
            ):
                nearest -= 1
            # Leaves at least one window for this block and for each that follows.
            chosen = min(max(nearest, chosen + 1), len(possible) - (len(sizes) - 1 - i))
            cuts.append(int(possible[chosen]))
        number = np.empty(len(self), dtype=np.int64)
        number[order] = np.repeat(np.arange(len(sizes)), np.diff([*cuts, len(self)]))
        return Blocks(number, sorted_from[cuts], np.maximum.reduceat(self._to[order], cuts))

    def _reaches(self, blocks: Blocks, block: int) -> Flags:
        """`[n]`: whether a window shares bars with a window of the block, or begins within the embargo after one."""
        every = np.arange(len(self))
        return purged(self._from, self._to, every, every[blocks.number == block], embargoed=self._embargoed)

    def _check_length(self, x: object) -> None:
        if x is None:
            return
        n = x.shape[0] if hasattr(x, "shape") else len(x)  # type: ignore[arg-type]
        if n != len(self):
            raise ConfigError(
                "X",
                f"has {n:,} samples, but this splitter has {len(self):,} windows; make another from the "
                "starts and ends of these samples",
            )

    def _no_groups(self, groups: object) -> None:
        if groups is not None:
            raise ConfigError(
                "groups", f"are not used by {type(self).__name__}; leave them out, or use PurgedKFold"
            )

    def _nothing_left(self, split: int, splits: int, blocks: Blocks, tested: Sequence[int]) -> SplitError:
        spans = [f"{self._axis(int(blocks.first[b]))} to {self._axis(int(blocks.last[b]))}" for b in tested]
        return SplitError(
            f"split {split + 1} of {splits} has nothing to train on: every window outside its test set "
            f"({' and '.join(spans)}) is purged, or lies in the embargo of {self.embargo} bars",
            "Give more windows, shorter windows or labels, a smaller embargo, or another number of folds",
        )
