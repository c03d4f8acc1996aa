"""Predictions of each window by a model that has not seen it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moola.errors import ConfigError, LeakError
from moola.evaluation.outcomes import Floats, Predictions, Truth
from moola.settings.arrays import Numbers

__all__ = ["by_window", "check_splits", "fit_predict", "fold_numbers", "out_of_fold"]


def out_of_fold(
    estimator: Any,
    X: ArrayLike,
    truth: Truth,
    splits: Iterable[tuple[ArrayLike, ArrayLike]],
    *,
    valid_mask: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    n_jobs: int | None = None,
) -> Predictions:
    """Fits a clone of an estimator in each fold, and predicts the fold's test windows with it.

    Args:
        estimator: An estimator like scikit-learn's, with `fit(X, y)` and with `predict_proba(X)`, `predict_spans(X)` or
            both. It gets `spans=` if the windows have spans and it predicts them, and `valid_mask=` if there is a
            mask.
        X: `[n, K, D]`, or any array that the estimator takes, with windows on the first axis.
        truth: The windows' labels, spans and groups.
        splits: (train, test) for each fold, as `PurgedKFold(...).split()` gives them; each window is tested once.
        valid_mask: `[n, K]` bool.
        weight: `[n]`, how much each window counts in training, for estimators that take `sample_weight`.
        n_jobs: Folds at a time, as in joblib.

    Returns:
        Probabilities of all of `truth.classes`, 0 for a class that the fold did not train on; spans; and the folds.

    Raises `LeakError` if a fold trains on windows of a group that it tests, and `ConfigError` if a window is not tested
    exactly once.
    """
    from joblib import Parallel, delayed
    from sklearn.base import clone

    x = np.asarray(X)
    mask = None if valid_mask is None else np.asarray(valid_mask)
    if len(x) != len(truth):
        raise ConfigError("X", f"has {len(x):,} windows; give one for each of the {len(truth):,} labelled")
    parts = [(np.asarray(train), np.asarray(test)) for train, test in splits]
    folds = check_splits(parts, truth)
    weights = None if weight is None else np.asarray(weight, np.float64)
    found = Parallel(n_jobs=n_jobs)(
        delayed(fit_predict)(clone(estimator), x, truth, train, test, valid_mask=mask, weight=weights)
        for train, test in parts
    )
    tests = [test for _, test in parts]
    probabilities, spans = (by_window(tests, column) for column in zip(*found, strict=True))
    return Predictions(probabilities, spans, folds=folds)


def by_window(tests: Sequence[Numbers], parts: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    """Joins what the folds' models predict, in the order of the windows.

    Args:
        tests: The numbers of the windows that each fold tests.
        parts: One array per fold, one row per window that it tests; None if the models do not predict this.

    Returns:
        One row per tested window, ascending by number; None if the first fold's part is None.
    """
    if parts[0] is None:
        return None
    return np.concatenate([part for part in parts if part is not None])[np.argsort(np.concatenate(tests))]


def check_splits(splits: Sequence[tuple[NDArray[Any], NDArray[Any]]], truth: Truth) -> Numbers:
    """`[n]`: the fold that tests each window.

    Raises `LeakError` if a fold trains on windows of a group that it tests, and `ConfigError` if a window is not tested
    exactly once.
    """
    folds = fold_numbers([test for _, test in splits], len(truth))
    for fold, (train, test) in enumerate(splits):
        both = np.intersect1d(truth.groups[train], truth.groups[test])
        if len(both):
            shared = train[np.isin(truth.groups[train], both)]
            raise LeakError(f"fold {fold}", "trains on windows of groups that it tests", shared)
    return folds


def fold_numbers(tests: list[NDArray[Any]], n: int) -> Numbers:
    """`[n]`: the fold that tests each window. Raises `ConfigError` unless each is tested exactly once."""
    if not tests:
        raise ConfigError("splits", "has no fold; give at least one pair of train and test")
    times = np.bincount(np.concatenate(tests), minlength=n)
    if len(times) != n or (times != 1).any():
        wrong = int(np.argmax(times != 1)) if len(times) == n else len(times) - 1
        raise ConfigError(
            "splits",
            f"test window {wrong} {times[wrong]} times; give folds that test each of {n:,} windows once",
        )
    folds = np.empty(n, np.int64)
    for fold, test in enumerate(tests):
        folds[test] = fold
    return folds


def fit_predict(
    model: Any,
    x: NDArray[Any],
    truth: Truth,
    train: Numbers,
    test: Numbers,
    *,
    valid_mask: NDArray[Any] | None = None,
    weight: NDArray[Any] | None = None,
) -> tuple[Floats | None, Numbers | None]:
    """Fits a model on some windows and predicts others: probabilities of all classes, and spans.

    Args:
        model: An unfitted estimator; the call fits it.
        x: `[n, K, D]`.
        train, test: Numbers of windows.
        valid_mask: `[n, K]` bool.
        weight: `[n]`, passed as `sample_weight` to a model that takes it.
    """
    from sklearn.utils.validation import has_fit_parameter

    classifies, points = hasattr(model, "predict_proba"), hasattr(model, "predict_spans")
    points = points and truth.spans is not None
    given = {} if truth.spans is None or not points else {"spans": truth.spans[train]}
    if weight is not None and has_fit_parameter(model, "sample_weight"):
        given["sample_weight"] = weight[train]
    masks = [{} if valid_mask is None else {"valid_mask": valid_mask[rows]} for rows in (train, test)]
    model.fit(x[train], truth.classes[truth.y[train]], **given, **masks[0])
    probabilities, spans = None, None
    if classifies:
        # A fold may lack a class; its column is then 0.
        place = {label: i for i, label in enumerate(truth.classes.tolist())}
        probabilities = np.zeros((len(test), len(truth.classes)))
        columns = [place[label] for label in model.classes_.tolist()]
        probabilities[:, columns] = model.predict_proba(x[test], **masks[1])
    if points:
        spans = model.predict_spans(x[test], **masks[1])
    return probabilities, spans
