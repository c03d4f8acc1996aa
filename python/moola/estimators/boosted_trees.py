"""Gradient-boosted trees on pooled features of windows."""

from __future__ import annotations

from typing import Any, Self

from numpy.typing import ArrayLike, NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from moola.estimators.base import ColumnClassifier
from moola.estimators.windows import Flags, Windows
from moola.evaluation.baselines import pool_features
from moola.settings.whole_numbers import whole_number

__all__ = ["PooledTrees"]


class PooledTrees(ColumnClassifier):
    """Boosted trees on each feature's mean, standard deviation, minimum, maximum and last value over valid bars.

    The columns are those of the logistic regression on pooled features. Unlike it, trees find thresholds and
    interactions of features. Source: J. H. Friedman, "Greedy function approximation: a gradient boosting machine",
    Annals of Statistics 29 (2001), 1189–1232, in scikit-learn's histogram version.

    Args:
        trees: The number of trees, fitted one after another.
        lr: The learning rate, the factor of each tree's contribution.
        leaves: The most leaves of a tree.
        seed: The seed that breaks ties. The same seed gives the same bits.
    """

    def __init__(self, trees: int = 60, lr: float = 0.1, leaves: int = 6, seed: int = 0) -> None:
        self.trees = trees
        self.lr = lr
        self.leaves = leaves
        self.seed = seed

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        spans: ArrayLike | None = None,
        valid_mask: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Fits the trees on windows `[n, K, D]`; spans are not used. Raises `ConfigError`, naming the argument."""
        x, valid, codes, weight = self._check_fit(X, y, valid_mask, sample_weight)
        # Smaller leaves would memorise their windows.
        self._model = HistGradientBoostingClassifier(
            max_iter=whole_number("trees", self.trees, 1),
            learning_rate=self.lr,
            max_leaf_nodes=whole_number("leaves", self.leaves, 2),
            min_samples_leaf=10,
            early_stopping=False,
            random_state=whole_number("seed", self.seed, 0, 2**32 - 1),
        )
        with threadpool_limits(1):
            self._model.fit(pool_features(x, valid), codes, sample_weight=weight)
        return self

    def _columns(self, x: Windows, valid: Flags) -> NDArray[Any]:
        return pool_features(x, valid)
