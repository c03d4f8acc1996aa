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
    """K-fold splits of labelled windows: groups stay whole, folds have equal shares of the classes, training is purged.

    A split drops the training windows that share a bar with a test window, or begin within `embargo` bars after one.
    Contiguous blocks in time, as in :class:`moola.folds.PurgedKFold`, can be neither stratified nor repeated.

    Args:
        starts: `[n]`, the first bar of each window.
        ends: `[n]`, the last bar of each window, inclusive.
        n_splits: Folds.
        seed: Determines the folds.
        repeat: Another number gives other folds of the same seed.
        embargo: Bars after each test window in which no training window begins.
        label_ends: `[n]`, the last bar that each window's label depends on.
        times: `[bars]`, the time of each bar. Windows are then compared in time, across symbols.
        symbols: `[n]`, the symbol of each window, for bars of several symbols.

    Raises `ConfigError` for windows that make no sense.
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
        """`n_splits`."""
        return self.n_splits

    def split(
        self, X: object = None, y: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Iterator[TrainTest]:
        """Gives (train, test), numbers of windows, ascending.

        `X` only has its length checked. `y`, `[n]`, holds the classes. `groups`, `[n]`, are whole on one side; each
        window is its own group if not given.
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
    """Deals whole groups to folds of about equal shares of each class; nothing is purged.

    Returns (train, test) of each fold, numbers of windows, ascending.
    """
    state = int(np.random.SeedSequence([seed, repeat]).generate_state(1)[0])
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=state)
    with warnings.catch_warnings():
        # It warns of a class in fewer groups than folds. Callers check what matters of this.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        return list(splitter.split(np.empty(len(np.asarray(y))), y, groups))
