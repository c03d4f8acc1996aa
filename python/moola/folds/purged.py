"""Purged k-fold splits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from moola.errors import ConfigError
from moola.folds.base import Splitter
from moola.folds.windows import MOST, Flags, TrainTest, even_blocks, per_window
from moola.settings.arrays import Numbers
from moola.settings.whole_numbers import whole_number

__all__ = ["PurgedKFold"]


class PurgedKFold(Splitter):
    """K-fold cross-validation for windows that overlap: each window is tested once, with a model that saw none of
    its bars.

    Like K-fold, it tests all of a small data set. Plain K-fold scores are too high here: with windows of 105 bars, or
    labels that look ahead, neighbours share most of their bars, and shuffling puts test bars into training. Training
    windows come from before and after the test block, so scores show how much there is to learn, not what would have
    been earned; for that see `WalkForward`.

    The windows are cut into `n_splits` blocks of about equal size, by their starts; windows that start together stay
    together. A split tests one block. It trains on the windows that share no bar with the block's windows (bars of a
    window and of its label count, on both sides), and do not begin within `embargo` bars after the block's last.

    Args:
        starts: `[n]`, the first bar of each window, in any order.
        ends: `[n]`, the last bar of each window, inclusive.
        n_splits: Number of blocks in time.
        embargo: Number of bars after each test block, labels included, in which no training window begins.
        label_ends: `[n]`, the last bar that each window's label depends on.
        times: `[bars]`, the time of each bar: UTC nanoseconds such as `store.timestamps`, or datetime64.
        symbols: `[n]`, the symbol of each window, for bars of several symbols.
        groups: `[n]`, groups that must not be on both sides either, such as the symbols. They are held out fold by
            fold. `split` takes them too, because scikit-learn passes them on.
        n_group_folds: Number of folds of groups, balanced by their windows; by default one per group, at most
            `n_splits`.

    With several symbols, windows are purged by time, across symbols: markets move together, so one symbol's bars
    reveal the same minutes of another. The embargo counts bars of each window's own symbol; the first known bars of a
    symbol count as following every test block before them. The bars of a symbol must be contiguous and ascend in time,
    as in a store. A bar is treated as a point in time; if symbols have bars of different lengths, extend `label_ends`
    by one bar of the longest.

    With groups, a split tests the windows of one fold of groups in one block, and trains on the other groups outside
    the block: neither the group nor the time has been seen, and each window is still tested once. There are
    `n_splits · n_group_folds` splits, minus those without windows. (Holding out only symbols would leave nothing to
    train on after purging by time; without purging, common moves would leak.)

    Raises `ConfigError` for invalid windows and arguments; `split` raises `SplitError`, before the first split,
    if purging leaves a split nothing to train on.

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
        self.n_splits = whole_number("n_splits", n_splits, 2, MOST, of="folds")
        self.n_group_folds = (
            None
            if n_group_folds is None
            else whole_number("n_group_folds", n_group_folds, 2, MOST, of="folds")
        )
        self._tested = self._blocks("n_splits", even_blocks(len(self), self.n_splits))
        self._held = None if groups is None else self._group_folds(groups)

    def get_n_splits(self, X: object = None, y: object = None, groups: ArrayLike | None = None) -> int:
        """The number of splits: `n_splits`, or with groups the number of (block, group fold) pairs with windows."""
        return len(self._cells(self._folds(groups)))

    def split(
        self, X: object = None, y: object = None, groups: ArrayLike | None = None
    ) -> Iterator[TrainTest]:
        """Yields (train, test), ascending indices of windows; the splits are in the order of time.

        Only the length of `X` is checked; `y` is ignored; `groups`, `[n]`, replace those of the constructor. Raises
        `SplitError` if a split has nothing to train on, and `ConfigError` for an `X` of another length, or too few
        groups.
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
        """`[n]`: the fold of groups of each window; 0 for all windows without groups."""
        if groups is not None:
            return self._group_folds(groups)
        return np.zeros(len(self), np.int64) if self._held is None else self._held

    def _group_folds(self, groups: ArrayLike) -> Numbers:
        try:
            names, number, sizes = np.unique(
                per_window("groups", groups, len(self)), return_inverse=True, return_counts=True
            )
        except TypeError:
            raise ConfigError(
                "groups", "cannot be compared with each other; give one name per window"
            ) from None
        wanted = self.n_group_folds or max(2, min(self.n_splits, len(names)))
        if len(names) < wanted:
            raise ConfigError(
                "groups",
                f"has {len(names)}, too few for {wanted} folds of them; give more groups, a smaller "
                "n_group_folds, or none",
            )
        # Largest first, each into the fold with the fewest windows, as in scikit-learn's GroupKFold.
        load = np.zeros(wanted, np.int64)
        fold = np.empty(len(names), np.int64)
        for group in np.argsort(-sizes, kind="stable"):
            fold[group] = np.argmin(load)
            load[fold[group]] += sizes[group]
        return fold[number]

    def _cells(self, folds: Numbers) -> list[tuple[int, int]]:
        """The pairs (block, fold of groups) that have windows, in ascending order."""
        width = int(folds.max()) + 1
        taken = np.unique(self._tested.number * width + folds)
        return [divmod(int(cell), width) for cell in taken]
