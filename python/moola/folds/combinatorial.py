"""Combinatorial purged k-fold splits, and the paths through them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moola.errors import ConfigError
from moola.folds.base import Splitter
from moola.folds.windows import MOST, TrainTest, even_blocks
from moola.settings.arrays import Numbers
from moola.settings.whole_numbers import whole_number

__all__ = ["CombinatorialPurgedKFold"]


class CombinatorialPurgedKFold(Splitter):
    """Combinatorial purged cross-validation: several complete out-of-sample paths through one history.

    Walk-forward and K-fold splits give one path of out-of-sample predictions and one score, which can be high by
    chance. Here `n_folds` blocks are tested `n_test_folds` at a time, in every combination. Each block is tested by
    several models, and their predictions are joined into `n_paths` complete paths. The distribution of the paths'
    scores shows whether a strategy is good, or only its best path.

    Test blocks need not be neighbours. Each is purged and embargoed at its edges. Windows between two test blocks are
    trained on if they share bars with neither.

    Args:
        starts: `[n]`, the first bar of each window, in any order.
        ends: `[n]`, the last bar of each window, inclusive.
        n_folds: N, the number of blocks, of about equal size by the windows' starts; 62 at most.
        n_test_folds: k, the number of blocks that a split tests.
        embargo: Number of bars after each test block, labels included, in which no training window begins.
        label_ends: `[n]`, the last bar that each window's label depends on.
        times: `[bars]`, the time of each bar: UTC nanoseconds such as `store.timestamps`, or datetime64.
        symbols: `[n]`, the symbol of each window, for bars of several symbols.

    Several symbols are treated as in `PurgedKFold`: purged by time, across symbols.

    There are C(N, k) splits and C(N, k)·k/N = C(N−1, k−1) paths. Windows are tested more than once, so
    `cross_val_predict` refuses this splitter: fit the splits, and give their predictions to `join_paths`.

    Raises `ConfigError` for invalid windows and arguments; `split` raises `SplitError`, before the first split,
    if purging leaves a split nothing to train on.

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
        self.n_folds = whole_number("n_folds", n_folds, 2, MOST, of="folds")
        if self.n_folds > 62:
            raise ConfigError("n_folds", f"{n_folds} folds have too many combinations; give 62 or fewer")
        self.n_test_folds = whole_number("n_test_folds", n_test_folds, 1, MOST, of="folds")
        if self.n_test_folds >= self.n_folds:
            raise ConfigError(
                "n_test_folds",
                f"{n_test_folds} of {n_folds} folds leave none to train on; give {self.n_folds - 1} or fewer",
            )
        self._tested = self._blocks("n_folds", even_blocks(len(self), self.n_folds))
        # Bit b is set if the window must not be trained on when block b is tested. One comparison checks a combination.
        self._barred = np.zeros(len(self), np.int64)
        for block in range(self.n_folds):
            self._barred |= self._reaches(self._tested, block).astype(np.int64) << block

    @property
    def n_paths(self) -> int:
        """The number of paths: C(N−1, k−1), which is how often each block is tested."""
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
        """`[n_paths, N]`: the split that gives a path's predictions for a block.

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

        Raises `ConfigError` if there is not one array per split, or not one row per window that a split tests.
        """
        arrays = [np.asarray(array) for array in predictions]
        tests = self.test_folds
        if len(arrays) != len(tests):
            raise ConfigError(
                "predictions", f"are of {len(arrays)} splits; give those of all {len(tests)}, in their order"
            )
        # The other arrays must have the same further axes; this is checked below.
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
        """The number of splits: C(N, k)."""
        return math.comb(self.n_folds, self.n_test_folds)

    def split(self, X: object = None, y: object = None, groups: object = None) -> Iterator[TrainTest]:
        """Yields (train, test), ascending indices of windows; the splits are in the order of `test_folds`.

        Only the length of `X` is checked; `y` is ignored. Raises `SplitError` if a split has nothing to train on, and
        `ConfigError` for an `X` of another length, or any `groups`.
        """
        self._check_length(X)
        self._no_groups(groups)
        # There are many windows, but few different sets of blocks that bar them.
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
