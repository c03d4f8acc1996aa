"""Baselines: majority class, guessing, mean span, and logistic regression on pooled features.

They are scikit-learn estimators with the same `fit` as :class:`JadeClassifier`: `fit(X, y, spans=None,
valid_mask=None)`. Code that cross-validates a model also cross-validates these. A model that does not beat them has
learned nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from moola.errors import ConfigError
from moola.evaluation.classifier import WindowClassifier
from moola.evaluation.fold_predictions import out_of_fold
from moola.evaluation.outcomes import NO_SPAN, Flags, Floats, Predictions, Truth
from moola.settings.arrays import Numbers

__all__ = [
    "BASELINES",
    "POOLED",
    "MajorityClass",
    "MeanSpan",
    "PooledLogisticRegression",
    "StratifiedGuess",
    "baseline_predictions",
    "pool_features",
]

BASELINES = ("majority class", "stratified guessing", "mean span", "pooled logistic regression")
"""The names of the baselines in reports."""

POOLED = ("mean", "std", "min", "max", "last")
"""The statistics of each feature over a window's valid bars."""


def pool_features(X: ArrayLike, valid_mask: ArrayLike | None = None) -> Floats:
    """Pools each window into one row: `[n, K, D]` to `[n, 5·D]`.

    Args:
        X: `[n, K, D]`, or `[n, K]` of one feature. Values at invalid bars are ignored.
        valid_mask: `[n, K]` bool, which bars count; all by default.

    Returns:
        The mean of each feature over the valid bars, then each one's population standard deviation, minimum,
        maximum, and value at the last valid bar.

    Raises `ConfigError` for a window without a valid bar, or with a NaN or infinite value at one.
    """
    x = np.asarray(X, dtype=np.float64)
    if x.ndim == 2:
        x = x[:, :, None]
    if x.ndim != 3:
        raise ConfigError(
            "X", f"has the shape {x.shape}; give windows as [n, K, D], or [n, K] of one feature"
        )
    valid = _valid(valid_mask, x)
    count = valid.sum(axis=1)[:, None]
    if not count.all():
        raise ConfigError(
            "valid_mask", f"leaves window {int(np.argmin(count))} without a bar; leave that window out"
        )
    inside = valid[:, :, None]
    zeroed = np.where(inside, x, 0.0)
    if not np.isfinite(zeroed).all():
        window, bar, feature = np.argwhere(~np.isfinite(zeroed))[0]
        raise ConfigError(
            "X",
            f"is {zeroed[window, bar, feature]} at bar {bar} of window {window}, feature {feature}; give finite "
            "values, or hide the bar with valid_mask",
        )
    mean = zeroed.sum(axis=1) / count
    spread = np.where(inside, x - mean[:, None], 0.0)
    last = x.shape[1] - 1 - np.argmax(valid[:, ::-1], axis=1)
    return np.concatenate(
        [
            mean,
            np.sqrt((spread**2).sum(axis=1) / count),
            np.where(inside, x, np.inf).min(axis=1),
            np.where(inside, x, -np.inf).max(axis=1),
            x[np.arange(len(x)), last],
        ],
        axis=1,
    )


def _valid(valid_mask: ArrayLike | None, x: Floats) -> Flags:
    if valid_mask is None:
        return np.ones(x.shape[:2], np.bool_)
    valid = np.asarray(valid_mask)
    if valid.shape != x.shape[:2] or valid.dtype != np.bool_:
        raise ConfigError(
            "valid_mask",
            f"is {valid.dtype} of shape {valid.shape}; give True or False for each bar of X, {list(x.shape[:2])}",
        )
    return valid


def _true_spans(spans: ArrayLike | None) -> Numbers:
    """The spans among `[n, 2]`, without the windows that have none. Raises if no window has one."""
    given = np.empty((0, 2), np.int64) if spans is None else np.asarray(spans, dtype=np.int64)
    there: Numbers = given[given[:, 0] != NO_SPAN]
    if not len(there):
        raise ConfigError("spans", "contains no span; give the first and last bar of at least one window")
    return there


class MajorityClass(WindowClassifier):
    """Predicts the most frequent class for every window. Its probabilities are the shares of the classes in training.

    No constant prediction has a lower expected log loss than these shares.
    """

    def fit(
        self, X: ArrayLike, y: ArrayLike, spans: ArrayLike | None = None, valid_mask: ArrayLike | None = None
    ) -> MajorityClass:
        """Counts the classes. Only the length of `X` is used; spans and mask are ignored."""
        self._shares = DummyClassifier(strategy="prior").fit(np.zeros((len(np.asarray(X)), 1)), y)
        self.classes_ = self._shares.classes_
        return self

    def predict_proba(self, X: ArrayLike, valid_mask: ArrayLike | None = None) -> Floats:
        """`[n, C]`: the shares of the classes in training, for every window."""
        check_is_fitted(self)
        shares: Floats = self._shares.predict_proba(np.zeros((len(np.asarray(X)), 1)))
        return shares


class StratifiedGuess(WindowClassifier):
    """Guesses: each window gets the class and the span of random training windows.

    A guess has probability 1, so each wrong guess costs 36 nats of log loss. One run of guesses varies at random; give
    `evaluate` several runs, each with its own seed, and it takes their mean.

    Args:
        seed: Seed of the guesses.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(
        self, X: ArrayLike, y: ArrayLike, spans: ArrayLike | None = None, valid_mask: ArrayLike | None = None
    ) -> StratifiedGuess:
        """Keeps labels and spans to draw from. `X` and the mask are ignored."""
        self.classes_, self._labels = np.unique(np.asarray(y), return_inverse=True)
        self._spans = None if spans is None else _true_spans(spans)
        return self

    def predict_proba(self, X: ArrayLike, valid_mask: ArrayLike | None = None) -> Floats:
        """`[n, C]`: 1 for the guess, 0 for the rest. The same windows get the same guesses."""
        check_is_fitted(self)
        drawn = np.random.default_rng([self.seed, 0]).integers(len(self._labels), size=len(np.asarray(X)))
        return np.eye(len(self.classes_))[self._labels[drawn]]

    def predict_spans(self, X: ArrayLike, valid_mask: ArrayLike | None = None) -> Numbers:
        """`[n, 2]`: spans of random training windows with a span. Raises `ConfigError` if none had one."""
        check_is_fitted(self)
        spans = _true_spans(self._spans)
        return spans[np.random.default_rng([self.seed, 1]).integers(len(spans), size=len(np.asarray(X)))]


class MeanSpan(BaseEstimator):  # type: ignore[misc]
    """Predicts the same span for every window: the rounded mean first bar and mean last bar of the training spans."""

    def fit(
        self, X: ArrayLike, y: ArrayLike, spans: ArrayLike | None = None, valid_mask: ArrayLike | None = None
    ) -> MeanSpan:
        """Takes the mean of the spans that are not (−1, −1). Raises `ConfigError` if there are none."""
        # Halves are rounded up; round() would round them to the even bar.
        self.span_: Numbers = np.floor(_true_spans(spans).mean(axis=0) + 0.5).astype(np.int64)
        return self

    def predict_spans(self, X: ArrayLike, valid_mask: ArrayLike | None = None) -> Numbers:
        """`[n, 2]`: the mean span, for every window."""
        check_is_fitted(self)
        return np.tile(self.span_, (len(np.asarray(X)), 1))


class PooledLogisticRegression(WindowClassifier):
    """Logistic regression on each feature's mean, standard deviation, minimum, maximum and last value over valid bars.

    The columns are standardised with the training windows. It sees the level of a window and how much it moves, but not
    the order of the bars. A sequence model that beats it has used the order.

    Args:
        C: The inverse of the L2 penalty, as in scikit-learn.
        class_weight: `balanced` weighs classes by their rarity.
    """

    def __init__(self, C: float = 1.0, class_weight: Literal["balanced"] | None = None) -> None:  # noqa: N803
        self.C = C
        self.class_weight = class_weight

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        spans: ArrayLike | None = None,
        valid_mask: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> PooledLogisticRegression:
        """Fits pooled windows. If all labels are one class, it gets probability 1. Spans are ignored."""
        pooled = pool_features(X, valid_mask)
        if len(np.unique(np.asarray(y))) > 1:
            regression = LogisticRegression(C=self.C, class_weight=self.class_weight, max_iter=1_000)
            self._model = make_pipeline(StandardScaler(), regression)
        else:
            self._model = make_pipeline(DummyClassifier(strategy="prior"))
        # The matrices have about a hundred rows. On a busy machine, several threads take ten times as long.
        with threadpool_limits(1):
            weights = {f"{name}__sample_weight": sample_weight for name, _ in self._model.steps}
            self._model.fit(pooled, y, **weights)
        self.classes_ = self._model.classes_
        return self

    def predict_proba(self, X: ArrayLike, valid_mask: ArrayLike | None = None) -> Floats:
        """`[n, C]`: the probabilities of the classes."""
        check_is_fitted(self)
        probabilities: Floats = self._model.predict_proba(pool_features(X, valid_mask))
        return probabilities


GUESSES = 20
"""Runs of guesses, each with its own seed. Reports show their mean."""


def baseline_predictions(
    X: ArrayLike,
    truth: Truth,
    splits: Iterable[tuple[ArrayLike, ArrayLike]],
    *,
    seed: int,
    valid_mask: ArrayLike | None = None,
    n_jobs: int | None = None,
) -> dict[str, list[Predictions]]:
    """The out-of-fold predictions of each baseline, by its name in reports. Compare every model with them.

    The mean span is included if the windows have spans. Guesses are drawn 20 times, from `seed` on. Arguments and
    errors are those of :func:`moola.evaluation.fold_predictions.out_of_fold`.
    """
    folds = list(splits)
    guesses = [StratifiedGuess(seed + i) for i in range(GUESSES)]
    kinds: list[list[Any]] = [[MajorityClass()], guesses, [MeanSpan()], [PooledLogisticRegression()]]
    estimators = dict(zip(BASELINES, kinds, strict=True))
    if truth.spans is None:
        del estimators["mean span"]
    return {
        name: [
            out_of_fold(estimator, X, truth, folds, valid_mask=valid_mask, n_jobs=n_jobs)
            for estimator in several
        ]
        for name, several in estimators.items()
    }
