"""Cross-validation of windows: many splits instead of one cut, none of which shares a bar between train and test.

A window is known by its first and its last bar, and with a label also by the last bar that the label looked
at. *Purging* drops the training windows that share a bar with the test set, counted to the label's last bar.
An *embargo* drops some bars more, since bars next to each other are alike even where no window overlaps.

The splitters follow scikit-learn's protocol (`split`, `get_n_splits`), so that `cross_val_score`,
`GridSearchCV` and their like take them as `cv`. They need no scikit-learn themselves.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moola.errors import ConfigError, SharedBarsError, SplitError, format_time

__all__ = [
    "CombinatorialPurgedKFold",
    "PurgedKFold",
    "WalkForward",
    "assert_no_shared_bars",
]

Numbers: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]
TrainTest: TypeAlias = tuple[NDArray[np.intp], NDArray[np.intp]]

# Bars and embargoes stay below this, so that their sums fit 64 bits.
_MOST = 1 << 60
_BEFORE_ALL, _AFTER_ALL = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def _count_of(name: str, value: object, least: int, what: str) -> int:
    if isinstance(value, np.integer):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST:
        raise ConfigError(name, f"{value!r} is not a number of {what}; give {least} or more")
    return value


def _per_window(name: str, given: ArrayLike, n: int | None) -> NDArray[Any]:
    array = np.asarray(given)
    if array.ndim != 1:
        raise ConfigError(name, f"has {array.ndim} dimensions; give one value a window, [n]")
    if n is not None and len(array) != n:
        raise ConfigError(
            name, f"has {len(array):,} values for {n:,} windows; give one for each, in the order of starts"
        )
    return array


def _rows(name: str, given: ArrayLike, n: int | None) -> Numbers:
    array = _per_window(name, given, n)
    if not len(array):
        raise ConfigError(name, "is empty; give at least one window")
    if array.dtype.kind not in "iu":
        raise ConfigError(
            name, f"is of type {array.dtype}; give bar numbers, as integers (times go into `times`)"
        )
    # In Python's integers, for uint64 goes beyond int64.
    if max(abs(int(array.min())), abs(int(array.max()))) > _MOST:
        raise ConfigError(name, "has numbers beyond 2**60; give bar numbers (times go into `times`)")
    return array.astype(np.int64)


class _Windows(NamedTuple):
    """Windows with their labels, as spans of bars. All `[n]`, both ends inclusive."""

    starts: Numbers
    ends: Numbers
    """The window's last bar, or its label's where that is later."""


def _windows(starts: ArrayLike, ends: ArrayLike, label_ends: ArrayLike | None) -> _Windows:
    first = _rows("starts", starts, None)
    last = _rows("ends", ends, len(first))
    _forward("ends", first, last)
    if label_ends is not None:
        label = _rows("label_ends", label_ends, len(first))
        _forward("label_ends", first, label)
        # A label of a span inside the window ends before the window does.
        last = np.maximum(last, label)
    return _Windows(first, last)


def _forward(name: str, first: Numbers, last: Numbers) -> None:
    if (last < first).any():
        i = int(np.argmax(last < first))
        problem = f"is {last[i]} for window {i}, which starts at bar {first[i]}"
        raise ConfigError(name, f"{problem}; give each window's last bar, inclusive")


def _times_of(times: ArrayLike, windows: _Windows) -> Numbers:
    array = np.asarray(times)
    if array.dtype.kind == "M":
        if np.isnat(array).any():
            raise ConfigError("times", "has missing times; give each bar's time")
        array = array.astype("datetime64[ns]")
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


class _Ranges(NamedTuple):
    """For each window, the bars that are known to be of its symbol. Both ends inclusive."""

    first: Numbers
    last: Numbers


def _ranges(windows: _Windows, times: Numbers, symbols: ArrayLike | None) -> _Ranges:
    n = len(windows.starts)
    # The bars at which time goes back: they may only be a symbol's last.
    back = np.flatnonzero(times[1:] <= times[:-1])
    if symbols is None:
        if len(back):
            raise ConfigError(
                "times",
                f"do not ascend from bar {back[0]} to the next; sort the bars, or say with symbols, one a "
                "window, which symbol each window is of",
            )
        return _Ranges(np.zeros(n, np.int64), np.full(n, len(times) - 1))
    try:
        names, number = np.unique(_per_window("symbols", symbols, n), return_inverse=True)
    except TypeError:
        raise ConfigError("symbols", "cannot be compared with each other; give one string a window") from None
    first = np.full(len(names), _AFTER_ALL)
    last = np.full(len(names), _BEFORE_ALL)
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
            f"do not ascend from bar {row} to the next, both of {name}; sort its bars, or call each of "
            "several overlapping contracts a symbol of its own",
        )
    return _Ranges(first[number], last[number])


class _Blocks(NamedTuple):
    """Windows in blocks, by the time at which they start."""

    number: Numbers
    """`[n]`, the block of each window."""
    first: Numbers
    """`[blocks]`, when the block's first bar is."""
    last: Numbers
    """`[blocks]`, when the last bar of its windows and of their labels is."""


class _Splitter:
    """What all splitters know of their windows.

    Everything is compared on one axis: bar numbers, or times where there are any. To a window its embargo is
    a number of bars of its own symbol by which it reaches further than it does.
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
        self.embargo = _count_of("embargo", embargo, 0, "bars")
        self._windows = _windows(starts, ends, label_ends)
        if times is None:
            if symbols is not None:
                raise ConfigError(
                    "times",
                    "is missing; give the time of each bar with symbols, such as store.timestamps, for bars of "
                    "different symbols can only be compared in time",
                )
            self._times, self._ranges = None, None
        else:
            self._times = _times_of(times, self._windows)
            self._ranges = _ranges(self._windows, self._times, symbols)
        self._from = self._when(self._windows.starts)
        self._to = self._when(self._windows.ends)

    def __len__(self) -> int:
        """How many windows there are."""
        return len(self._windows.starts)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in vars(self).items() if name[0] != "_")
        return f"<{type(self).__name__} of {len(self):,} windows, {settings}>"

    def _when(self, rows: Numbers) -> Numbers:
        """Where these bars, one a window, lie on the axis. Beyond the window's symbol: before or after all."""
        if self._times is None or self._ranges is None:
            return rows
        first, last = self._ranges
        when: Numbers = self._times[np.clip(rows, first, last)]
        when[rows < first] = _BEFORE_ALL
        when[rows > last] = _AFTER_ALL
        return when

    def _axis(self, value: int) -> str:
        return f"bar {value}" if self._times is None else format_time(value)

    def _blocks(self, name: str, sizes: Sequence[int]) -> _Blocks:
        """Blocks of about these sizes. Windows that start together stay together."""
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
            # Each block has at least one window, and so have those that follow.
            chosen = min(max(nearest, chosen + 1), len(possible) - (len(sizes) - 1 - i))
            cuts.append(int(possible[chosen]))
        number = np.empty(len(self), dtype=np.int64)
        number[order] = np.repeat(np.arange(len(sizes)), np.diff([*cuts, len(self)]))
        return _Blocks(number, sorted_from[cuts], np.maximum.reduceat(self._to[order], cuts))

    def _reaches(self, blocks: _Blocks, block: int) -> Flags:
        """`[n]`: which windows share bars with the block, or begin within the embargo after it.

        To compare with the block's first and last bar is to compare with each of its windows, gaps between them or
        not: a window that starts no later than the block reaches its first window, if any; one that starts later than
        all of its windows reaches the one that ends last.
        """
        begin = self._when(self._windows.starts - self.embargo)
        reaches: Flags = (begin <= blocks.last[block]) & (self._to >= blocks.first[block])
        return reaches

    def _check_length(self, x: object) -> None:
        if x is None:
            return
        n = x.shape[0] if hasattr(x, "shape") else len(x)  # type: ignore[arg-type]
        if n != len(self):
            raise ConfigError(
                "X",
                f"has {n:,} samples, but this splitter knows {len(self):,} windows; make another from the "
                "starts and ends of these samples",
            )

    def _no_groups(self, groups: object) -> None:
        if groups is not None:
            raise ConfigError(
                "groups", f"{type(self).__name__} makes no use of them; leave them out, or use PurgedKFold"
            )

    def _nothing_left(self, split: int, splits: int, blocks: _Blocks, tested: Sequence[int]) -> SplitError:
        spans = [f"{self._axis(int(blocks.first[b]))} to {self._axis(int(blocks.last[b]))}" for b in tested]
        return SplitError(
            f"split {split + 1} of {splits} has nothing to train on: every window outside its test set "
            f"({' and '.join(spans)}) is purged, or falls to the embargo of {self.embargo} bars",
            "Give more windows, shorter windows or labels, a smaller embargo, or another number of folds",
        )


def _even(n: int, parts: int) -> list[int]:
    """Sizes that differ by one at most, the larger first: those of `KFold` and `numpy.array_split`."""
    return [n // parts + (i < n % parts) for i in range(parts)]


class WalkForward(_Splitter):
    """Walk-forward analysis: train on the past, test on what comes next, move on.

    It asks what would have happened had the model been trained again every so often and used until the next
    time; no training window is later than any test window. That is how a model is used, so its scores are the
    ones to report; but it tests one history only, and the first models see little of it.

    The windows are cut into an initial stretch and `n_splits` test blocks of one size, by their starts. Each
    block is tested on a model trained on windows before it.

    Args:
        starts: `[n]`, the first bar of each window, in any order.
        ends: `[n]`, the last bar of each window, inclusive.
        n_splits: Test blocks.
        train_size: None trains on everything before the test block (*expanding*). A number trains on the
            last so many bars before it (*rolling*), for markets that forget.
        embargo: Bars between the last bar of training, labels included, and the first of the test block.
        label_ends: `[n]`, the last bar that each window's label depends on.
        times: `[bars]`, the time of each bar: UTC nanoseconds such as `store.timestamps`, or datetime64.
        symbols: `[n]`, the symbol of each window, for bars of several symbols.

    With several symbols, windows are compared in time, whatever their symbols: markets move together, and
    tomorrow's bars of one tell of tomorrow's bars of another. Rolling and embargo count the bars of each
    window's own symbol. The bars of a symbol stand together and ascend in time, as in a store. A bar is a
    point in time here; where symbols have bars of different lengths, give labels one of the longest more.

    Raises `ConfigError` for windows that make no sense; `split` raises `SplitError`, before the first split,
    when purging leaves a split nothing to train on.

    >>> starts = np.arange(0, 60, 5)
    >>> splitter = WalkForward(starts, starts + 9, n_splits=2, embargo=5)
    >>> for train, test in splitter.split():
    ...     print(train, test)
    [0 1] [4 5 6 7]
    [0 1 2 3 4 5] [ 8  9 10 11]

    Sources: R. Pardo, *The Evaluation and Optimization of Trading Strategies*, 2nd ed., Wiley 2008 (walk-forward
    analysis, rolling); C. Bergmeir and J. M. Benítez, "On the use of cross-validation for time series predictor
    evaluation", Information Sciences 191 (2012), 192–213 (evaluation on the last block, and gaps between
    dependent values); M. López de Prado, *Advances in Financial Machine Learning*, Wiley 2018, ch. 12 (what one
    walk forward does not show).
    """

    def __init__(
        self,
        starts: ArrayLike,
        ends: ArrayLike,
        n_splits: int = 5,
        *,
        train_size: int | None = None,
        embargo: int = 0,
        label_ends: ArrayLike | None = None,
        times: ArrayLike | None = None,
        symbols: ArrayLike | None = None,
    ) -> None:
        super().__init__(starts, ends, label_ends, times, symbols, embargo)
        self.n_splits = _count_of("n_splits", n_splits, 1, "splits")
        self.train_size = None if train_size is None else _count_of("train_size", train_size, 1, "bars")
        size = len(self) // (self.n_splits + 1)
        self._tested = self._blocks("n_splits", [len(self) - size * self.n_splits] + [size] * self.n_splits)

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """How many splits there are: `n_splits`."""
        return self.n_splits

    def split(self, X: object = None, y: object = None, groups: object = None) -> Iterator[TrainTest]:
        """Gives (train, test), indices of windows, ascending; the splits in the order of time.

        `X` only has its length checked; `y` is for scikit-learn. Raises `SplitError` where nothing is left to
        train on, and `ConfigError` for an `X` of another length, or any `groups`.
        """
        self._check_length(X)
        self._no_groups(groups)
        for split in range(self.n_splits):
            if not self._train(split + 1).any():
                raise self._nothing_left(split, self.n_splits, self._tested, [split + 1])
        return self._splits()

    def _splits(self) -> Iterator[TrainTest]:
        for block in range(1, self.n_splits + 1):
            yield np.flatnonzero(self._train(block)), np.flatnonzero(self._tested.number == block)

    def _train(self, block: int) -> Flags:
        begin = self._tested.first[block]
        train: Flags = self._when(self._windows.ends + self.embargo) < begin
        if self.train_size is not None:
            train &= self._when(self._windows.starts + (self.embargo + self.train_size)) >= begin
        return train


class PurgedKFold(_Splitter):
    """K-fold cross-validation for windows that overlap: each window is tested once, on a model that saw none of
    its bars.

    It uses all of a small data set, as K-fold does, where plain K-fold lies: with windows of 105 bars, or labels that
    look ahead, neighbours share most of what they know, and shuffling puts the answers into training. Training
    windows come from before and after the test block, so scores tell how much there is to learn, not what would
    have been earned; for that see `WalkForward`.

    The windows are cut into `n_splits` blocks of about equal size, by their starts; windows that start together stay
    together. A split tests one block. It trains on the windows that share no bar with any of the block's (of a
    window and its label, on either side), and do not begin within `embargo` bars after the block's last.

    Args:
        starts: `[n]`, the first bar of each window, in any order.
        ends: `[n]`, the last bar of each window, inclusive.
        n_splits: Blocks in time.
        embargo: Bars after each test block, labels included, in which no training window begins.
        label_ends: `[n]`, the last bar that each window's label depends on.
        times: `[bars]`, the time of each bar: UTC nanoseconds such as `store.timestamps`, or datetime64.
        symbols: `[n]`, the symbol of each window, for bars of several symbols.
        groups: `[n]`, what else must not be on both sides, such as the symbols once more: also held out, group by
            group. `split` takes them too, as scikit-learn hands them on.
        n_group_folds: Folds of groups, balanced by their windows; one a group, but `n_splits` at most, unless
            given.

    With several symbols, windows are purged by time, whatever their symbols: markets move together, and the bars of
    one tell of the same minutes of another. The embargo counts the bars of each window's own symbol; the first bars
    known of a symbol count as following every test block before them. The bars of a symbol stand together and
    ascend in time, as in a store. A bar is a point in time here; where symbols have bars of different lengths, give
    labels one of the longest more.

    With groups, a split tests the windows of one fold of groups in one block, and trains on the other groups outside
    the block: neither the symbol nor the time has been seen, and each window is still tested once. These are
    `n_splits · n_group_folds` splits, less those without windows. (To hold out symbols alone would leave
    nothing after purging by time; not to purge would let common moves leak.)

    Raises `ConfigError` for windows that make no sense; `split` raises `SplitError`, before the first split,
    when purging leaves a split nothing to train on.

    >>> starts = np.arange(0, 60, 5)
    >>> splitter = PurgedKFold(starts, starts + 9, n_splits=3, embargo=5)
    >>> for train, test in splitter.split():
    ...     print(train, test)
    [ 6  7  8  9 10 11] [0 1 2 3]
    [ 0  1  2 10 11] [4 5 6 7]
    [0 1 2 3 4 5 6] [ 8  9 10 11]

    Source: M. López de Prado, *Advances in Financial Machine Learning*, Wiley 2018, ch. 7 (purging, embargo,
    snippets 7.1 to 7.3).
    """

    def __init__(
        self,
        starts: ArrayLike,
        ends: ArrayLike,
        n_splits: int = 5,
        *,
        embargo: int = 0,
        label_ends: ArrayLike | None = None,
        times: ArrayLike | None = None,
        symbols: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        n_group_folds: int | None = None,
    ) -> None:
        super().__init__(starts, ends, label_ends, times, symbols, embargo)
        self.n_splits = _count_of("n_splits", n_splits, 2, "folds")
        self.n_group_folds = (
            None if n_group_folds is None else _count_of("n_group_folds", n_group_folds, 2, "folds")
        )
        self._tested = self._blocks("n_splits", _even(len(self), self.n_splits))
        self._held = None if groups is None else self._group_folds(groups)

    def get_n_splits(self, X: object = None, y: object = None, groups: ArrayLike | None = None) -> int:
        """How many splits there are: `n_splits`, and with groups those of their folds that have windows."""
        return len(self._cells(self._folds(groups)))

    def split(
        self, X: object = None, y: object = None, groups: ArrayLike | None = None
    ) -> Iterator[TrainTest]:
        """Gives (train, test), indices of windows, ascending; the splits in the order of time.

        `X` only has its length checked; `y` is for scikit-learn; `groups`, `[n]`, take the place of the
        constructor's. Raises `SplitError` where nothing is left to train on, and `ConfigError` for an `X` of
        another length, or groups of which there is only one.
        """
        self._check_length(X)
        folds = self._folds(groups)
        cells = self._cells(folds)
        for split, (block, fold) in enumerate(cells):
            if not self._train(block, fold, folds).any():
                raise self._nothing_left(split, len(cells), self._tested, [block])
        return self._splits(cells, folds)

    def _splits(self, cells: Sequence[tuple[int, int]], folds: Numbers) -> Iterator[TrainTest]:
        for block, fold in cells:
            test = (self._tested.number == block) & (folds == fold)
            yield np.flatnonzero(self._train(block, fold, folds)), np.flatnonzero(test)

    def _train(self, block: int, fold: int, folds: Numbers) -> Flags:
        train = ~self._reaches(self._tested, block)
        if folds.any():
            train &= folds != fold
        return train

    def _folds(self, groups: ArrayLike | None) -> Numbers:
        """`[n]`: which fold of groups each window is in; 0 for all where there are no groups."""
        if groups is not None:
            return self._group_folds(groups)
        return np.zeros(len(self), np.int64) if self._held is None else self._held

    def _group_folds(self, groups: ArrayLike) -> Numbers:
        try:
            names, number, sizes = np.unique(
                _per_window("groups", groups, len(self)), return_inverse=True, return_counts=True
            )
        except TypeError:
            raise ConfigError(
                "groups", "cannot be compared with each other; give one name a window"
            ) from None
        wanted = self.n_group_folds or max(2, min(self.n_splits, len(names)))
        if len(names) < wanted:
            raise ConfigError(
                "groups",
                f"has {len(names)}, too few for {wanted} folds of them; give more groups, a smaller "
                "n_group_folds, or none",
            )
        # The largest first, each into the fold that has least: as scikit-learn's GroupKFold does.
        load = np.zeros(wanted, np.int64)
        fold = np.empty(len(names), np.int64)
        for group in np.argsort(-sizes, kind="stable"):
            fold[group] = np.argmin(load)
            load[fold[group]] += sizes[group]
        return fold[number]

    def _cells(self, folds: Numbers) -> list[tuple[int, int]]:
        """The (block, fold of groups) in which there are windows, in this order."""
        width = int(folds.max()) + 1
        taken = np.unique(self._tested.number * width + folds)
        return [divmod(int(cell), width) for cell in taken]


class CombinatorialPurgedKFold(_Splitter):
    """Combinatorial purged cross-validation: many histories from one, each out of sample from end to end.

    A walk forward or a K-fold gives one path of out-of-sample predictions, and one score that luck can make. Here
    `n_folds` blocks are tested `n_test_folds` at a time, in every combination; each block is so tested by several
    models, and their predictions join into `n_paths` complete paths. Their scores are a distribution: whether a
    strategy is good, or only its best path, can be read from it.

    Test blocks need not be neighbours. Purging and embargo hold at the edges of every one of them, and windows between
    two test blocks are trained on where they reach neither.

    Args:
        starts: `[n]`, the first bar of each window, in any order.
        ends: `[n]`, the last bar of each window, inclusive.
        n_folds: N, the blocks, of about equal size by the windows' starts; 62 at most.
        n_test_folds: k, how many of them a split tests.
        embargo: Bars after each test block, labels included, in which no training window begins.
        label_ends: `[n]`, the last bar that each window's label depends on.
        times: `[bars]`, the time of each bar: UTC nanoseconds such as `store.timestamps`, or datetime64.
        symbols: `[n]`, the symbol of each window, for bars of several symbols.

    Several symbols are treated as by `PurgedKFold`: purged by time, whatever the symbol.

    There are C(N, k) splits and C(N, k)·k/N = C(N−1, k−1) paths. Since windows are tested more than once,
    `cross_val_predict` refuses this splitter: fit the splits, and give their predictions to `join_paths`.

    Raises `ConfigError` for windows that make no sense; `split` raises `SplitError`, before the first split,
    when purging leaves a split nothing to train on.

    >>> starts = np.arange(0, 200, 5)
    >>> splitter = CombinatorialPurgedKFold(starts, starts + 9, n_folds=6, n_test_folds=2)
    >>> splitter.get_n_splits(), splitter.n_paths
    (15, 5)
    >>> splitter.paths
    array([[ 0,  0,  1,  2,  3,  4],
           [ 1,  5,  5,  6,  7,  8],
           [ 2,  6,  9,  9, 10, 11],
           [ 3,  7, 10, 12, 12, 13],
           [ 4,  8, 11, 13, 14, 14]])
    >>> splitter.join_paths([starts[test] for _, test in splitter.split()]).shape
    (5, 40)

    Source: M. López de Prado, *Advances in Financial Machine Learning*, Wiley 2018, ch. 12 (combinatorial
    purged cross-validation; φ[N, k] paths), and ch. 7 (purging, embargo).
    """

    def __init__(
        self,
        starts: ArrayLike,
        ends: ArrayLike,
        n_folds: int = 6,
        n_test_folds: int = 2,
        *,
        embargo: int = 0,
        label_ends: ArrayLike | None = None,
        times: ArrayLike | None = None,
        symbols: ArrayLike | None = None,
    ) -> None:
        super().__init__(starts, ends, label_ends, times, symbols, embargo)
        self.n_folds = _count_of("n_folds", n_folds, 2, "folds")
        if self.n_folds > 62:
            raise ConfigError("n_folds", f"{n_folds} folds have too many combinations; give 62 or fewer")
        self.n_test_folds = _count_of("n_test_folds", n_test_folds, 1, "folds")
        if self.n_test_folds >= self.n_folds:
            raise ConfigError(
                "n_test_folds",
                f"{n_test_folds} of {n_folds} folds leave none to train on; give {self.n_folds - 1} or fewer",
            )
        self._tested = self._blocks("n_folds", _even(len(self), self.n_folds))
        # A bit for each block that the window must not be trained with: a combination is then one comparison.
        self._barred = np.zeros(len(self), np.int64)
        for block in range(self.n_folds):
            self._barred |= self._reaches(self._tested, block).astype(np.int64) << block

    @property
    def n_paths(self) -> int:
        """How many paths there are: C(N−1, k−1), as often as each block is tested."""
        return math.comb(self.n_folds - 1, self.n_test_folds - 1)

    @property
    def folds(self) -> Numbers:
        """`[n]`: the block of each window."""
        return self._tested.number.copy()

    @property
    def test_folds(self) -> Numbers:
        """`[splits, k]`: the blocks that each split tests, in the order of `split`."""
        return np.array(list(self._combinations()), dtype=np.int64)

    @property
    def paths(self) -> Numbers:
        """`[n_paths, N]`: the split from which a path has its predictions for a block.

        Path p takes each block from the p-th of the splits that test it.
        """
        tests = self.test_folds
        return np.stack([np.flatnonzero((tests == fold).any(axis=1)) for fold in range(self.n_folds)], axis=1)

    def join_paths(self, predictions: Sequence[ArrayLike]) -> NDArray[Any]:
        """Joins the predictions of all splits into paths.

        Args:
            predictions: One array for each split, in the order of `split`: `[windows tested, …]`, in the
                order of its test indices. More axes, such as classes, are kept.

        Returns:
            `[n_paths, n, …]`: each window's prediction on each path, in the order of `starts`.

        Raises `ConfigError` when there are not as many predictions as splits, or as windows in one.
        """
        arrays = [np.asarray(array) for array in predictions]
        tests = self.test_folds
        if len(arrays) != len(tests):
            raise ConfigError(
                "predictions", f"are of {len(arrays)} splits; give those of all {len(tests)}, in their order"
            )
        # Shapes beyond the first axis agree, or NumPy says so where they are written.
        joined = np.empty((self.n_paths, len(self), *arrays[0].shape[1:]), np.result_type(*arrays))
        path = np.zeros(self.n_folds, np.int64)
        for split, (array, blocks) in enumerate(zip(arrays, tests, strict=True)):
            windows = np.flatnonzero(np.isin(self._tested.number, blocks))
            if array.shape[:1] != windows.shape or array.shape[1:] != joined.shape[2:]:
                expected = (len(windows), *joined.shape[2:])
                raise ConfigError(
                    "predictions",
                    f"of split {split} are of shape {array.shape}; give {expected}, a row for each window tested",
                )
            block = self._tested.number[windows]
            joined[path[block], windows] = array
            path[blocks] += 1
        return joined

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """How many splits there are: C(N, k)."""
        return math.comb(self.n_folds, self.n_test_folds)

    def split(self, X: object = None, y: object = None, groups: object = None) -> Iterator[TrainTest]:
        """Gives (train, test), indices of windows, ascending; the splits in the order of `test_folds`.

        `X` only has its length checked; `y` is for scikit-learn. Raises `SplitError` where nothing is left to
        train on, and `ConfigError` for an `X` of another length, or any `groups`.
        """
        self._check_length(X)
        self._no_groups(groups)
        # Windows are many, but the blocks that bar them are few different sets.
        different = np.unique(self._barred)
        for split, blocks in enumerate(self._combinations()):
            if (different & _bits(blocks)).all():
                raise self._nothing_left(split, self.get_n_splits(), self._tested, blocks)
        return self._splits()

    def _splits(self) -> Iterator[TrainTest]:
        for blocks in self._combinations():
            train = (self._barred & _bits(blocks)) == 0
            yield np.flatnonzero(train), np.flatnonzero(np.isin(self._tested.number, blocks))

    def _combinations(self) -> Iterator[tuple[int, ...]]:
        return itertools.combinations(range(self.n_folds), self.n_test_folds)


def _bits(blocks: Sequence[int]) -> int:
    return sum(1 << block for block in blocks)


def assert_no_shared_bars(
    starts: ArrayLike,
    ends: ArrayLike,
    train: ArrayLike,
    test: ArrayLike,
    *,
    label_ends: ArrayLike | None = None,
    times: ArrayLike | None = None,
) -> None:
    """Raises unless no window of train shares a bar with any window of test.

    For splits from any source. It knows nothing of folds or embargoes: it compares windows.

    Args:
        starts: `[n]`, the first bar of each window.
        ends: `[n]`, the last bar of each window, inclusive.
        train: Indices of windows, or a mask `[n]`.
        test: The same.
        label_ends: `[n]`, the last bar that each window's label depends on. Bars from a window's first to its
            label's last are then its own.
        times: `[bars]`, the time of each bar. Windows then share a bar also where they share a time, whatever
            their symbols.

    Raises `SharedBarsError`, which names a pair of windows and what they share and says how many training windows
    are affected; `ConfigError` for windows or indices that make no sense.

    >>> assert_no_shared_bars([0, 5, 10], [9, 14, 19], train=[0], test=[2])
    >>> assert_no_shared_bars([0, 5, 10], [9, 14, 19], train=[0, 1], test=[2])
    Traceback (most recent call last):
    ...
    moola.errors.SharedBarsError: window 1 of train (bars 5 to 14) and window 2 of test (bars 10 to 19) share ...
    """
    windows = _windows(starts, ends, label_ends)
    n = len(windows.starts)
    train_windows = _indices("train", train, n)
    test_windows = _indices("test", test, n)
    begin, end = windows
    if times is not None:
        when = _times_of(times, windows)
        begin, end = when[begin], when[end]
        if (end < begin).any():
            i = int(np.argmax(end < begin))
            raise ConfigError("times", f"go back within window {i}; sort the bars of each symbol")
    if not (len(train_windows) and len(test_windows)):
        return
    # Of the test windows that start no later than a training window ends, does any end after its start?
    by_start = test_windows[np.argsort(begin[test_windows], kind="stable")]
    latest_end = np.maximum.accumulate(end[by_start])
    earlier = np.searchsorted(begin[by_start], end[train_windows], side="right")
    shares = (earlier > 0) & (latest_end[earlier - 1] >= begin[train_windows])
    if not shares.any():
        return
    i = int(train_windows[np.argmax(shares)])
    j = int(test_windows[np.argmax((begin[test_windows] <= end[i]) & (end[test_windows] >= begin[i]))])
    raise SharedBarsError(
        train=i,
        test=j,
        train_bars=(int(windows.starts[i]), int(windows.ends[i])),
        test_bars=(int(windows.starts[j]), int(windows.ends[j])),
        shared=(int(max(begin[i], begin[j])), int(min(end[i], end[j]))),
        in_time=times is not None,
        count=int(shares.sum()),
    )


def _indices(name: str, given: ArrayLike, n: int) -> NDArray[np.intp]:
    array = np.asarray(given)
    if array.ndim != 1:
        raise ConfigError(name, f"has {array.ndim} dimensions; give indices of windows, or a mask [n]")
    if array.dtype == bool:
        return np.flatnonzero(_per_window(name, array, n))
    if not len(array):
        return np.empty(0, np.intp)
    if array.dtype.kind not in "iu":
        raise ConfigError(name, f"is of type {array.dtype}; give indices of windows, or a mask [n]")
    if array.min() < 0 or array.max() >= n:
        wrong = array.min() if array.min() < 0 else array.max()
        raise ConfigError(name, f"has {wrong}, but windows count from 0 to {n - 1}; give indices of windows")
    return array.astype(np.intp)
