"""Stratified, grouped and purged k-fold splits: the folds of cross-validation, fine-tuning, stacks and sweeps."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import StratifiedGroupKFold

from moola.errors import ConfigError
from moola.folds.base import Splitter
from moola.folds.purge import purged
from moola.folds.windows import TrainTest, per_window
from moola.settings.whole_numbers import whole_number

__all__ = ["StratifiedPurgedKFold", "deal_groups"]


class StratifiedPurgedKFold(Splitter):
    """K-fold splits of labelled windows: groups stay whole, classes have about equal shares, training is purged.

    A split drops the training windows that share a bar with a test window, or begin within `embargo` bars after one.
    The contiguous blocks in time of :class:`moola.folds.PurgedKFold` can be neither stratified nor repeated.

    Args:
        starts: `[n]`, the first bar of each window.
        ends: `[n]`, the last bar of each window, inclusive.
        n_splits: Number of folds.
        seed: Determines the folds.
        repeat: Number of the repeat; each gives other folds with the same seed.
        embargo: Number of bars after each test window in which no training window begins.
        label_ends: `[n]`, the last bar that each window's label depends on.
        times: `[bars]`, the time of each bar. Windows are then compared in time, across symbols.
        symbols: `[n]`, the symbol of each window, for bars of several symbols.

    Raises `ConfigError` for invalid windows and arguments.
    """

    def __init__(
        self,
        starts: ArrayLike,
        ends: ArrayLike,
        n_splits: int = 5,
        *,
        seed: int = 0,
        repeat: int = 0,
        embargo: int = 0,
        label_ends: ArrayLike | None = None,
        times: ArrayLike | None = None,
        symbols: ArrayLike | None = None,
    ) -> None:
        super().__init__(starts, ends, label_ends, times, symbols, embargo)
        self.n_splits = whole_number("n_splits", n_splits, 2, of="folds")
        self.seed = whole_number("seed", seed, 0)
        self.repeat = whole_number("repeat", repeat, 0)

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """The number of splits: `n_splits`."""
        return self.n_splits

    def split(
        self, X: object = None, y: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Iterator[TrainTest]:
        """Yields (train, test), ascending numbers of windows.

        Only the length of `X` is checked. `y`, `[n]`, are the classes. `groups`, `[n]`, are never split between the
        sides; by default each window is its own group. Raises `ConfigError` if `y` is missing or a length differs.
        """
        self._check_length(X)
        if y is None:
            raise ConfigError("y", "is missing; give the class of each window, [n]")
        classes = per_window("y", y, len(self))
        group = np.arange(len(self)) if groups is None else per_window("groups", groups, len(self))
        for train, test in deal_groups(classes, group, self.n_splits, seed=self.seed, repeat=self.repeat):
            dropped = purged(self._from, self._to, train, test, embargoed=self._embargoed)
            yield train[~dropped], test


def deal_groups(
    y: ArrayLike, groups: ArrayLike, folds: int, *, seed: int, repeat: int = 0
) -> list[TrainTest]:
    """Deals whole groups to folds with about equal shares of each class, without purging.

    Returns (train, test) of each fold, ascending numbers of windows.
    """
    state = int(np.random.SeedSequence([seed, repeat]).generate_state(1)[0])
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=state)
    with warnings.catch_warnings():
        # scikit-learn warns of a class with few windows. Callers check the folds themselves.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        return list(splitter.split(np.empty(len(np.asarray(y))), y, groups))
