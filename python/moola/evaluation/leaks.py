"""Checks that catch leaks: what a model knows of the windows that it is scored on.

Three ways, for they catch different things. *Provenance*: whatever is fitted carries the windows it was fitted on,
and refuses to be scored on them. *A probe*: a model that remembers and does nothing else is run in place of the
real one, and must not recognise a window. *Blindness*: when what should be unknown is changed, no bit of a
prediction may change; this catches what was not recorded, such as a
scaler fitted on all windows. That train and test share
no bar is checked by :func:`moola.folds.shared_bars.assert_no_shared_bars`.
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
    """The windows that a scaler, a calibration or a model was fitted on: what it must not be scored on.

    Args:
        windows: Their numbers among the labelled windows, in any order, or a mask `[n]`.

    Those of an ensemble are those of its members: `a | b`. Windows that early stopping or a choice of epoch looked at
    belong to them.

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
        """Sorted, each once."""
        self.windows.flags.writeable = False

    def __len__(self) -> int:
        """How many windows it was fitted on."""
        return len(self.windows)

    def __or__(self, other: FittedOn) -> FittedOn:
        """What two members of an ensemble, or a scaler and the model behind it, were fitted on."""
        return FittedOn(np.union1d(self.windows, other.windows))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FittedOn) and np.array_equal(self.windows, other.windows)

    def __hash__(self) -> int:
        return hash(self.windows.tobytes())

    @property
    def blake2b(self) -> str:
        """A hash of the windows' numbers: two things with the same were fitted on the same windows."""
        return hashlib.blake2b(self.windows.astype("<i8").tobytes(), digest_size=16).hexdigest()

    def refuse(self, scored: ArrayLike, what: str) -> None:
        """Raises `LeakError` if any of the windows that are scored, by number, is among these."""
        both = np.intersect1d(self.windows, np.asarray(scored))
        if len(both):
            raise LeakError(what, "was fitted on windows that it is scored on", both)

    def record(self) -> dict[str, Any]:
        """As JSON, for a run's directory."""
        return {"windows": self.windows.tolist(), "blake2b": self.blake2b}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> FittedOn:
        """What `record` gave. Raises `ConfigError` when it has been altered."""
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
    """Raises unless every prediction is by a model that was not fitted on its window.

    For predictions that are scored, calibrated on, or learnt from by a stack.

    Args:
        folds: `[n]`, the fold whose model predicted each window.
        fitted_on: Of each fold's model, with its scaler and whatever else was fitted for it.
        outer_test: Windows that no model at all may have been fitted on: of a stack's outer loop, those that
            the whole stack is tested on.
        windows: `[n]`, the number of each window, where not all are predicted; 0 to n − 1 unless given.

    Raises `LeakError`, which says which fold's model knew which windows, and `ConfigError` for a fold without a model.
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
    """A model that remembers windows and learns nothing: it recognises those that share bars with one it was fitted on.

    Its probabilities are alike for all classes where it recognises nothing; else that of the label that most
    remembered bars had is 1. It knows bars by their values, so it also finds overlaps that no row numbers tell of,
    as between raw windows.

    Args:
        run: So many bars in a row must be the same, and not all alike among themselves: on a grid of ticks, single
            bars repeat by chance.
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
                "y", f"is {self.classes_.tolist()} alone; a probe has nothing to tell apart, give two classes"
            )
        self._labels = {
            run: label
            for window, label in zip(self._runs(X, valid_mask), number.tolist(), strict=True)
            for run in window
        }
        return self

    def recognises(self, X: ArrayLike, valid_mask: ArrayLike | None = None) -> Flags:
        """`[n]`: which windows share a run of bars with one that it was fitted on."""
        check_is_fitted(self)
        return np.array([bool(self._remembered(window)) for window in self._runs(X, valid_mask)])

    def predict_proba(self, X: ArrayLike, valid_mask: ArrayLike | None = None) -> Floats:
        """`[n, C]`."""
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
        """For each window, the runs of bars that tell it from others."""
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
    """Raises unless a cross-validation gives a model that remembers nothing to recognise.

    Args:
        cross_predict: The cross-validation to be checked, with its windows, folds and scaling: it takes an estimator in
            place of the real one, and gives out-of-fold predictions.
        run: See :class:`MemorisingProbe`.

    Raises `LeakError`, which names the windows that were recognised.

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
        raise ConfigError("cross_predict", "gives no probabilities; have it hand on those of its estimator")
    # Of two classes or more that are alike, none has more than a half.
    known = probabilities.max(axis=1) > 0.5 + 1e-6
    if known.any():
        raise LeakError(
            "the cross-validation", "trains on bars of windows that it tests", np.flatnonzero(known)
        )


# ---- blindness ---------------------------------------------------------------------------------------------------

FitPredict = Callable[[NDArray[Any], Truth, Numbers, Numbers], Predictions]
"""A whole pipeline: windows `[n, K, D]`, their labels, the numbers of those to fit on, and of those to predict."""


def assert_blind_to_test(
    fit_predict: FitPredict, X: ArrayLike, truth: Truth, train: ArrayLike, test: ArrayLike, *, seed: int
) -> None:
    """Raises unless what a pipeline says of test windows depends on nothing but the training windows and the window
    itself.

    The pipeline runs four times: twice as it is, with other labels and spans for all test windows, and with noise
    in place of half of the test windows, whereupon the other half is looked at. No bit may differ. It so catches
    labels that reach a stack by predictions within the fold, and scalers fitted on all windows.

    Args:
        fit_predict: Fits on `train` and predicts `test`. The same input must give the same bits: it sets its seeds.
        X: `[n, K, D]`.
        truth: The windows' labels; it has two classes at least, or spans.
        train: Numbers of windows.
        test: Numbers of windows, two at least.
        seed: Of the noise.

    Raises `LeakError`, which says what became known and names windows for which it changed something, and
    `ConfigError` for a pipeline that gives other bits for the same input.
    """
    x = np.asarray(X)
    fitted, tested = np.asarray(train, np.int64), np.asarray(test, np.int64)
    if len(tested) < 2:
        raise ConfigError(
            "test", f"has {len(tested)} windows; give 2 or more, some to change and some to look at"
        )
    as_is = fit_predict(x, truth, fitted, tested)
    if len(truth.classes) < 2 and truth.spans is None:
        raise ConfigError("y", "has one class and no spans, so labels cannot be changed; give two classes")
    again = _differs(as_is, fit_predict(x, truth, fitted, tested))
    if again.any():
        raise ConfigError(
            "fit_predict",
            f"gives other bits for {int(again.sum()):,} windows when it is run again; set its seeds and one thread",
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
    """`[n]`: which windows' predictions differ in any bit."""
    differs = np.zeros(len(one), np.bool_)
    for mine, theirs in ((one.probabilities, other.probabilities), (one.spans, other.spans)):
        if mine is not None and theirs is not None:
            differs |= (mine != theirs).any(axis=1)
    return differs


def _other_labels(truth: Truth, rows: Numbers) -> Truth:
    """The same windows, these with the next class each, and with another span."""
    y = truth.y.copy()
    y[rows] = (y[rows] + 1) % len(truth.classes)
    spans = truth.spans
    if spans is not None:
        spans = spans.copy()
        # To one bar, the first; where that was the span, to none.
        first_bar = (spans[rows] == 0).all(axis=1)
        spans[rows] = np.where(first_bar[:, None], NO_SPAN, 0)
    return Truth(truth.classes[y], classes=truth.classes, spans=spans, groups=truth.groups, seen=truth.seen)
