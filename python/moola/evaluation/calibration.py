"""Calibrated probabilities: temperature scaling, and the calibration error that few windows show in any case."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from moola.errors import ConfigError
from moola.evaluation.intervals import LEVEL, Interval
from moola.evaluation.metrics import CALIBRATION_BINS, METRICS, calibration_bins
from moola.evaluation.outcomes import Floats, Predictions, Truth
from moola.files.lazy import lazy_names
from moola.settings.arrays import Numbers

__all__ = [
    "ReliabilityCurve",
    "TemperatureScaling",
    "calibration_error_if_calibrated",
    "cross_fitted",
    "log_probabilities",
    "reliability_curve",
]

# Replaces a probability of 0, so that its logarithm is finite.
_LEAST = np.finfo(np.float64).tiny
# Beyond these temperatures, one class has all the probability, or all classes have the same.
_COLDEST, _HOTTEST = 0.05, 100.0


class TemperatureScaling:
    """Divides logits by one number, so that the confidence matches the accuracy.

    The class with the highest probability stays the same. Fit it on out-of-fold logits: on training windows, it would
    learn that the model is always right. Log-probabilities, such as those of an ensemble's mean, serve as logits.

    Source: C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern neural networks", ICML 2017,
    section 4.2.

    >>> scaling = TemperatureScaling().fit([[4.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 0.0]], [0, 0, 1, 1])
    >>> round(scaling.temperature, 2)
    3.64
    >>> scaling.probabilities([[4.0, 0.0]]).round(2)
    array([[0.75, 0.25]])
    """

    def __init__(self, temperature: float = 1.0) -> None:
        if not temperature > 0:
            raise ConfigError("temperature", f"{temperature!r} is not above 0; give 1 to change nothing")
        self.temperature = float(temperature)
        """The divisor of the logits; above 1 it lowers the confidence."""

    def fit(self, logits: ArrayLike, y: ArrayLike) -> TemperatureScaling:
        """Finds the temperature with the least log loss, between 0.05 and 100.

        Args:
            logits: `[n, C]`, out-of-fold.
            y: `[n]`, the number of each window's class.

        Raises `ConfigError` for logits that are not finite, or labels that are not among their classes.
        """
        scores = _logits(logits)
        labels = _labels(y, scores)
        # A constant per window changes no probability. Without it the sums have one scale.
        scores = scores - scores.max(axis=1, keepdims=True)
        # If all logits are equal, the loss does not depend on the temperature.
        if not scores.any():
            self.temperature = 1.0
            return self

        def loss(log_temperature: float) -> float:
            log_p = log_softmax(scores / np.exp(log_temperature), axis=1)
            return float(-log_p[np.arange(len(labels)), labels].mean())

        # The loss is convex in 1/T, so it has one valley, in log T as well.
        bounds = (np.log(_COLDEST), np.log(_HOTTEST))
        found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
        self.temperature = float(np.exp(found.x))
        return self

    def probabilities(self, logits: ArrayLike) -> Floats:
        """`[n, C]`: the calibrated probabilities of logits `[n, C]`."""
        scaled: Floats = softmax(_logits(logits) / self.temperature, axis=1)
        return scaled


def cross_fitted(logits: ArrayLike, y: ArrayLike, folds: ArrayLike) -> Floats:
    """`[n, C]`: each fold's probabilities, calibrated with the logits and labels of the other folds only.

    This estimates how temperature scaling does on unlabelled windows. A temperature that is scored on the windows it
    was fitted on can only look good.

    Args:
        logits: `[n, C]`, out-of-fold.
        y: `[n]`, the number of each window's class.
        folds: `[n]`, at least two folds; windows that share bars are in one fold.

    Raises `ConfigError` if there is only one fold, and what :meth:`TemperatureScaling.fit` raises.
    """
    scores, labels, fold = _logits(logits), np.asarray(y), np.asarray(folds)
    names = np.unique(fold)
    if len(names) < 2:
        raise ConfigError("folds", "is only one, so no other fold can calibrate it; give 2 or more")
    calibrated = np.empty_like(scores)
    for name in names:
        mine = fold == name
        scaling = TemperatureScaling().fit(scores[~mine], labels[~mine])
        calibrated[mine] = scaling.probabilities(scores[mine])
    return calibrated


def log_probabilities(probabilities: ArrayLike) -> Floats:
    """`[n, C]`: the logarithms of probabilities, which are logits up to a constant per window; finite for 0 too."""
    logits: Floats = np.log(np.maximum(np.asarray(probabilities, np.float64), _LEAST))
    return logits


@dataclass(frozen=True, slots=True)
class ReliabilityCurve:
    """The numbers of a reliability diagram: accuracy by confidence. All arrays are `[bins]`."""

    count: Numbers
    """The number of windows in the bin."""
    confidence: Floats
    """The mean of their highest probabilities; NaN in an empty bin."""
    accuracy: Floats
    """The share of them whose most probable class is correct; NaN in an empty bin."""


def reliability_curve(truth: Truth, predictions: Predictions) -> ReliabilityCurve:
    """The bins of the expected calibration error, 15 of equal width.

    Source: M. H. DeGroot and S. E. Fienberg, "The comparison and evaluation of forecasters", The Statistician 32
    (1983), 12–22; for the highest of several probabilities: Guo et al. 2017.
    """
    predictions.check_against(truth)
    p = _probabilities_of(predictions)
    confidence = p.max(axis=1)
    bins = calibration_bins(confidence)
    count = np.bincount(bins, minlength=CALIBRATION_BINS)

    def mean(values: Floats) -> Floats:
        sums = np.bincount(bins, weights=values, minlength=CALIBRATION_BINS)
        means = np.full(CALIBRATION_BINS, np.nan)
        np.divide(sums, count, out=means, where=count > 0)
        return means

    right = (p.argmax(axis=1) == truth.y).astype(np.float64)
    return ReliabilityCurve(count.astype(np.int64), mean(confidence), mean(right))


def calibration_error_if_calibrated(predictions: Predictions, *, seed: int, draws: int = 1_000) -> Interval:
    """The calibration error that the same probabilities would have if all of them were correct.

    It is not 0: in a bin of ten windows, the accuracy varies around the confidence. An error inside this interval does
    not show that a model is miscalibrated. Labels are drawn from the probabilities, independently for each window.

    Source: J. Bröcker and L. A. Smith, "Increasing the reliability of reliability diagrams", Weather and Forecasting 22
    (2007), 651–661 (consistency resampling).

    Returns the mean over the draws and their central 95 %.
    """
    p = _probabilities_of(predictions)
    rng = np.random.default_rng(seed)
    # The error depends only on whether the most probable class is the right one.
    confidence = p.max(axis=1)
    right = rng.random((draws, len(p))) < confidence
    gaps = np.zeros((draws, CALIBRATION_BINS + 1))
    bins = calibration_bins(confidence)
    for b in np.unique(bins):
        inside = bins == b
        gaps[:, b] = right[:, inside].sum(axis=1) - confidence[inside].sum()
    gaps[:, -1] = len(p)
    errors = METRICS["calibration_error"].score(gaps)
    low, high = np.quantile(errors, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(errors.mean()), float(low), float(high))


def _probabilities_of(predictions: Predictions) -> Floats:
    if predictions.probabilities is None:
        raise ConfigError(
            "probabilities", "are missing; only a model that predicts classes can be calibrated"
        )
    return predictions.probabilities


def _logits(given: ArrayLike) -> Floats:
    logits = np.asarray(given, dtype=np.float64)
    if logits.ndim != 2 or not logits.shape[1]:
        raise ConfigError("logits", f"has the shape {logits.shape}; give one per window and class, [n, C]")
    if not np.isfinite(logits).all():
        i = int(np.argmin(np.isfinite(logits).all(axis=1)))
        raise ConfigError("logits", f"of window {i} are {logits[i].tolist()}; give finite numbers")
    return logits


def _labels(given: ArrayLike, logits: Floats) -> Numbers:
    y = np.asarray(given)
    n, classes = logits.shape
    if y.shape != (n,) or y.dtype.kind not in "iu" or not n or y.min() < 0 or y.max() >= classes:
        raise ConfigError(
            "y",
            f"has the shape {y.shape} for logits {logits.shape}; give a class from 0 to {classes - 1} for each",
        )
    return y.astype(np.int64)


__getattr__, _ = lazy_names(
    __name__, {}, renamed={"calibration_error_by_luck": "calibration_error_if_calibrated"}
)
