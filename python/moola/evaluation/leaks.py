"""Checks that catch leaks: information about the windows that a model is scored on.

Three checks catch different leaks. *Provenance*: everything fitted carries the windows it was fitted on, and refuses
to be scored on them. *A probe*: a model that only remembers windows replaces the real one, and must not recognise a
test window. *Blindness*: no bit of a prediction may change when the test labels and the other test windows change.
This catches what was not recorded, such as a scaler fitted on all windows.
:func:`moola.folds.shared_bars.assert_no_shared_bars` checks that train and test share no bar.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from moola.errors import ConfigError, LeakError
from moola.evaluation.outcomes import NO_SPAN, Flags, Floats, Predictions, Truth
from moola.files.renamed import renamed_keywords
from moola.settings.arrays import Numbers

__all__ = [
    "FittedOn",
    "MemorisingProbe",
    "assert_blind_to_test",
    "assert_nothing_remembered",
    "assert_out_of_fold",
]


# ---- provenance --------------------------------------------------------------------------------------------------


class FittedOn:
    """The windows that a scaler, a calibration or a model was fitted on. It must not be scored on them.

    Args:
        windows: Their numbers among the labelled windows, in any order, or a mask `[n]`.

    An ensemble was fitted on the windows of all its members: `a | b`. Windows that early stopping or the choice of an
    epoch used count as fitted on.

    >>> scaler = FittedOn([0, 1, 2, 3])
    >>> scaler.refuse([4, 5], "the scaler")
    >>> scaler.refuse([3, 4], "the scaler")
    Traceback (most recent call last):
    ...
    moola.errors.LeakError: the scaler was fitted on windows that it is scored on: 1 window, 3. Fit it on ...
    """

    def __init__(self, windows: ArrayLike) -> None:
        given = np.asarray(windows)
        if given.dtype == np.bool_:
            given = np.flatnonzero(given)
        if given.ndim != 1 or (given.size and (given.dtype.kind not in "iu" or given.min() < 0)):
            raise ConfigError(
                "windows", f"is {given.dtype} of shape {given.shape}; give their numbers, from 0"
            )
        self.windows: Numbers = np.unique(given.astype(np.int64))
        """Their numbers, sorted, each once."""
        self.windows.flags.writeable = False

    def __len__(self) -> int:
        """The number of windows that it was fitted on."""
        return len(self.windows)

    def __or__(self, other: FittedOn) -> FittedOn:
        """The windows that either was fitted on: two members of an ensemble, or a scaler and its model."""
        return FittedOn(np.union1d(self.windows, other.windows))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FittedOn) and np.array_equal(self.windows, other.windows)

    def __hash__(self) -> int:
        return hash(self.windows.tobytes())

    @property
    def blake2b(self) -> str:
        """A hash of the windows' numbers. Equal hashes mean the same windows."""
        return hashlib.blake2b(self.windows.astype("<i8").tobytes(), digest_size=16).hexdigest()

    def refuse(self, scored: ArrayLike, what: str) -> None:
        """Raises `LeakError` if any of the scored windows, given by number, is among these."""
        both = np.intersect1d(self.windows, np.asarray(scored))
        if len(both):
            raise LeakError(what, "was fitted on windows that it is scored on", both)

    def record(self) -> dict[str, Any]:
        """As JSON, for a run's directory."""
        return {"windows": self.windows.tolist(), "blake2b": self.blake2b}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> FittedOn:
        """Reads what `record` gave. Raises `ConfigError` if it was altered."""
        fitted = cls(np.asarray(record["windows"], dtype=np.int64))
        if fitted.blake2b != record["blake2b"]:
            raise ConfigError(
                "fitted_on", "is not what was written: its hash differs; restore the run from a copy"
            )
        return fitted

    def __repr__(self) -> str:
        return f"<FittedOn {len(self):,} windows, {self.blake2b[:8]}>"


@renamed_keywords(held_out="outer_test")
def assert_out_of_fold(
    folds: ArrayLike,
    fitted_on: Sequence[FittedOn],
    *,
    outer_test: ArrayLike = (),
    windows: ArrayLike | None = None,
) -> None:
    """Raises unless each window was predicted by a model that was not fitted on it.

    Use it on predictions that are scored, or that a calibration or a stack is fitted on.

    Args:
        folds: `[n]`, the fold whose model predicted each window.
        fitted_on: For each fold, the windows that its model, its scaler and everything else of it was fitted on.
        outer_test: Windows that no model may have been fitted on: in a stack's outer loop, the windows that the
            whole stack is tested on.
        windows: `[n]`, the number of each window, if not all are predicted; 0 to n − 1 by default.

    Raises `LeakError`, which names the fold and the windows that its model knew, and `ConfigError` for a fold without
    a model.
    """
    fold = np.asarray(folds)
    number = np.arange(len(fold)) if windows is None else np.asarray(windows)
    if fold.ndim != 1 or fold.shape != number.shape or fold.dtype.kind not in "iu":
        raise ConfigError("folds", f"is {fold.dtype} of shape {fold.shape}; give a fold for each window, [n]")
    if len(fold) and not 0 <= fold.min() <= fold.max() < len(fitted_on):
        wrong = int(fold.min() if fold.min() < 0 else fold.max())
        raise ConfigError(
            "folds", f"has {wrong}, but there are {len(fitted_on)} models; give one for each fold"
        )
    for k, fitted in enumerate(fitted_on):
        fitted.refuse(number[fold == k], f"the model of fold {k}")
        fitted.refuse(outer_test, f"the model of fold {k}, under a stack that is tested on them,")


# ---- a probe -----------------------------------------------------------------------------------------------------


class MemorisingProbe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A model that only remembers: it recognises windows that share bars with a window it was fitted on.

    For a window that it does not recognise, all classes have the same probability. Otherwise the most frequent label
    among the remembered bars has probability 1. It compares bars by value, so it also finds overlaps without row
    numbers, for instance between raw windows.

    Args:
        run: How many bars in a row must be the same. They must not all be equal: on a grid of ticks, single bars
            repeat by chance.
    """

    def __init__(self, run: int = 5) -> None:
        self.run = run

    def fit(
        self, X: ArrayLike, y: ArrayLike, spans: ArrayLike | None = None, valid_mask: ArrayLike | None = None
    ) -> MemorisingProbe:
        """Remembers every run of valid bars of windows `[n, K, D]`, with the window's label."""
        self.classes_: NDArray[Any]
        self.classes_, number = np.unique(np.asarray(y), return_inverse=True)
        if len(self.classes_) < 2:
            raise ConfigError(
                "y",
                f"has only {self.classes_.tolist()}; give at least two classes for the probe to distinguish",
            )
        self._labels = {
            run: label
            for window, label in zip(self._runs(X, valid_mask), number.tolist(), strict=True)
            for run in window
        }
        return self

    def recognises(self, X: ArrayLike, valid_mask: ArrayLike | None = None) -> Flags:
        """`[n]`: whether a window shares a run of bars with a window that it was fitted on."""
        check_is_fitted(self)
        return np.array([bool(self._remembered(window)) for window in self._runs(X, valid_mask)])

    def predict_proba(self, X: ArrayLike, valid_mask: ArrayLike | None = None) -> Floats:
        """`[n, C]`: 1 for the most frequent remembered label; equal for windows that it does not recognise."""
        check_is_fitted(self)
        windows = self._runs(X, valid_mask)
        probabilities = np.full((len(windows), len(self.classes_)), 1 / len(self.classes_))
        for row, window in zip(probabilities, windows, strict=True):
            if labels := self._remembered(window):
                row[:] = 0
                row[np.bincount(labels).argmax()] = 1
        return probabilities

    def _remembered(self, runs: Iterable[bytes]) -> list[int]:
        return [self._labels[run] for run in runs if run in self._labels]

    def _runs(self, X: ArrayLike, valid_mask: ArrayLike | None) -> list[list[bytes]]:
        """For each window, the runs of bars that distinguish it from others."""
        x = np.asarray(X)
        x = np.ascontiguousarray(x[:, :, None] if x.ndim == 2 else x)
        n, length, _ = x.shape
        run = min(self.run, length)
        valid = np.ones((n, length), np.bool_) if valid_mask is None else np.asarray(valid_mask)
        runs = []
        for window, inside in zip(x, valid, strict=True):
            steps = (window[1:] != window[:-1]).any(axis=1)
            telling = [
                at
                for at in range(length - run + 1)
                if inside[at : at + run].all() and (run == 1 or steps[at : at + run - 1].any())
            ]
            runs.append([window[at : at + run].tobytes() for at in telling])
        return runs


def assert_nothing_remembered(cross_predict: Callable[[Any], Predictions], *, run: int = 5) -> None:
    """Raises if a :class:`MemorisingProbe` recognises a test window of a cross-validation.

    Args:
        cross_predict: The cross-validation to check, with its windows, folds and scaling. It takes an estimator in
            place of the real one and returns out-of-fold predictions.
        run: See :class:`MemorisingProbe`.

    Raises `LeakError`, which names the recognised windows.

    >>> rng = np.random.default_rng(0)
    >>> series = rng.normal(size=(60, 4))
    >>> X = np.stack([series[at : at + 20] for at in (0, 10, 30, 40)])
    >>> truth = Truth([0, 1, 1, 0])
    >>> from moola.evaluation.fold_predictions import out_of_fold
    >>> apart = [([2, 3], [0, 1]), ([0, 1], [2, 3])]
    >>> assert_nothing_remembered(lambda probe: out_of_fold(probe, X, truth, apart))
    >>> mixed = [([1, 3], [0, 2]), ([0, 2], [1, 3])]
    >>> assert_nothing_remembered(lambda probe: out_of_fold(probe, X, truth, mixed))
    Traceback (most recent call last):
    ...
    moola.errors.LeakError: the cross-validation trains on bars of windows that it tests: 4 windows, 0, 1, 2, 3. ...
    """
    probabilities = cross_predict(MemorisingProbe(run)).probabilities
    if probabilities is None:
        raise ConfigError("cross_predict", "gives no probabilities; have it return those of its estimator")
    # If all classes have the same probability, it is at most one half.
    known = probabilities.max(axis=1) > 0.5 + 1e-6
    if known.any():
        raise LeakError(
            "the cross-validation", "trains on bars of windows that it tests", np.flatnonzero(known)
        )


# ---- blindness ---------------------------------------------------------------------------------------------------

FitPredict = Callable[[NDArray[Any], Truth, Numbers, Numbers], Predictions]
"""A whole pipeline: windows `[n, K, D]`, their labels, the numbers to fit on, and the numbers to predict."""


def assert_blind_to_test(
    fit_predict: FitPredict, X: ArrayLike, truth: Truth, train: ArrayLike, test: ArrayLike, *, seed: int
) -> None:
    """Raises unless each test prediction depends only on the training windows and on the window itself.

    The pipeline runs four times: twice unchanged, once with other labels and spans for all test windows, and once with
    noise in place of half of the test windows, after which the other half is compared. No bit may differ. This catches
    labels that reach a stack through predictions within the fold, and scalers fitted on all windows.

    Args:
        fit_predict: Fits on `train` and predicts `test`. It sets its seeds: the same input must give the same bits.
        X: `[n, K, D]`.
        truth: The windows' labels, with at least two classes, or with spans.
        train: Numbers of windows.
        test: Numbers of windows, at least two.
        seed: Seed of the noise.

    Raises `LeakError`, which says what leaked and names the windows whose predictions changed, and `ConfigError` if the
    pipeline gives other bits for the same input.
    """
    x = np.asarray(X)
    fitted, tested = np.asarray(train, np.int64), np.asarray(test, np.int64)
    if len(tested) < 2:
        raise ConfigError(
            "test", f"has {len(tested)} windows; give 2 or more, some to change and some to compare"
        )
    as_is = fit_predict(x, truth, fitted, tested)
    if len(truth.classes) < 2 and truth.spans is None:
        raise ConfigError("y", "has one class and no spans, so labels cannot be changed; give two classes")
    again = _differs(as_is, fit_predict(x, truth, fitted, tested))
    if again.any():
        raise ConfigError(
            "fit_predict",
            f"gives other bits for {int(again.sum()):,} windows in a second run; set its seeds and one thread",
        )
    relabelled = fit_predict(x, _other_labels(truth, tested), fitted, tested)
    known = _differs(as_is, relabelled)
    if known.any():
        raise LeakError("the pipeline", "knows the labels or spans of windows that it tests", tested[known])
    rng = np.random.default_rng(seed)
    noisy = rng.permutation(len(tested)) < len(tested) // 2
    changed = x.copy()
    rows = tested[noisy]
    scale = 1_000 * (1 + np.abs(x[rows]))
    changed[rows] = (rng.standard_normal(x[rows].shape) * scale).astype(x.dtype)
    known = _differs(as_is, fit_predict(changed, truth, fitted, tested)) & ~noisy
    if known.any():
        raise LeakError("the pipeline", "is fitted to the bars of windows that it tests", tested[known])


def _differs(one: Predictions, other: Predictions) -> Flags:
    """`[n]`: whether a window's predictions differ in any bit."""
    differs = np.zeros(len(one), np.bool_)
    for mine, theirs in ((one.probabilities, other.probabilities), (one.spans, other.spans)):
        if mine is not None and theirs is not None:
            differs |= (mine != theirs).any(axis=1)
    return differs


def _other_labels(truth: Truth, rows: Numbers) -> Truth:
    """The same windows; those in `rows` get the next class and another span."""
    y = truth.y.copy()
    y[rows] = (y[rows] + 1) % len(truth.classes)
    spans = truth.spans
    if spans is not None:
        spans = spans.copy()
        # The first bar becomes the span. Where it was the span, there is none.
        first_bar = (spans[rows] == 0).all(axis=1)
        spans[rows] = np.where(first_bar[:, None], NO_SPAN, 0)
    return Truth(truth.classes[y], classes=truth.classes, spans=spans, groups=truth.groups, seen=truth.seen)
