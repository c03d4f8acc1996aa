"""Walk-forward splits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from moola.folds.base import Splitter
from moola.folds.windows import MOST, Flags, TrainTest
from moola.settings.whole_numbers import whole_number

__all__ = ["WalkForward"]


class WalkForward(Splitter):
    """Walk-forward analysis: train on the past, test on the block that follows, move on.

    It simulates a model that is retrained at intervals and used in between; no training window is later than any test
    window. Models are used in this way, so these are the scores to report. But there is only one history, and the
    first models are trained on little of it.

    The windows are cut into an initial stretch and `n_splits` test blocks of equal size, by their starts. Each block is
    tested with a model trained on windows before it.

    Args:
        starts: `[n]`, the first bar of each window, in any order.
        ends: `[n]`, the last bar of each window, inclusive.
        n_splits: Number of test blocks.
        train_size: None trains on everything before the test block (*expanding*). A number trains only on that many
            bars before it (*rolling*), for markets that change.
        embargo: Number of bars between the last bar of training, labels included, and the first of the test block.
        label_ends: `[n]`, the last bar that each window's label depends on.
        times: `[bars]`, the time of each bar: UTC nanoseconds such as `store.timestamps`, or datetime64.
        symbols: `[n]`, the symbol of each window, for bars of several symbols.

    With several symbols, windows are compared in time, across symbols: markets move together, so tomorrow's bars of
    one symbol reveal tomorrow's bars of another. `train_size` and `embargo` count bars of each window's own symbol. The
    bars of a symbol must be contiguous and ascend in time, as in a store. A bar is treated as a point in time; if
    symbols have bars of different lengths, extend `label_ends` by one bar of the longest.

    Raises `ConfigError` for invalid windows and arguments; `split` raises `SplitError`, before the first split,
    if purging leaves a split nothing to train on.

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
        self.n_splits = whole_number("n_splits", n_splits, 1, MOST, of="splits")
        self.train_size = (
            None if train_size is None else whole_number("train_size", train_size, 1, MOST, of="bars")
        )
        size = len(self) // (self.n_splits + 1)
        self._tested = self._blocks("n_splits", [len(self) - size * self.n_splits] + [size] * self.n_splits)

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """The number of splits: `n_splits`."""
        return self.n_splits

    def split(self, X: object = None, y: object = None, groups: object = None) -> Iterator[TrainTest]:
        """Yields (train, test), ascending indices of windows; the splits are in the order of time.

        Only the length of `X` is checked; `y` is ignored. Raises `SplitError` if a split has nothing to train on, and
        `ConfigError` for an `X` of another length, or any `groups`.
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
