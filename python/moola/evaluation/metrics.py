"""Scores of classes and spans, each a function of sums over windows.

A macro-F1 follows from a confusion matrix, a calibration error from sums per bin, a mean from a sum and a count. So
each metric defines what a window adds (`statistics`), and the score of the sums (`score`). A bootstrap then need not
score ten thousand resampled data sets: one matrix product gives the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from moola.evaluation.outcomes import Flags, Floats, Predictions, Truth
from moola.settings.arrays import Numbers

__all__ = [
    "CALIBRATION_BINS",
    "HIT_TOLERANCE",
    "METRICS",
    "Metric",
    "calibration_bins",
    "scores",
    "span_iou",
]

CALIBRATION_BINS = 15
"""Bins of equal width in the expected calibration error."""

HIT_TOLERANCE = 3
"""Each end of a predicted span may be off by this many bars and still be a hit."""


_SHARES = frozenset({"macro_f1", "balanced_accuracy", "calibration_error", "span_iou", "span_hits"})


@dataclass(frozen=True, slots=True)
class Metric:
    """A score of predictions."""

    name: str
    """As in JSON: `macro_f1`."""
    title: str
    """As a person reads it: `macro-F1`."""
    greater_is_better: bool
    of_spans: bool
    """Whether it scores spans; otherwise it scores probabilities."""
    biased: bool
    """Whether it is biased upwards on few windows."""
    statistics: Callable[[Truth, Predictions], Floats]
    """The terms that each window adds to the sums: `[n, S]`."""
    score: Callable[[Floats], Floats]
    """The score of sums over windows: `[..., S]` to `[...]`, NaN if no window counts."""

    @property
    def greatest(self) -> float:
        """The greatest possible score: 1 for shares, infinity for losses and errors in bars. The least is 0."""
        return 1.0 if self.name in _SHARES else math.inf

    def applies(self, truth: Truth, predictions: Predictions) -> bool:
        """Whether this metric can be computed: spans on both sides, or probabilities."""
        if self.of_spans:
            return truth.spans is not None and predictions.spans is not None
        return predictions.probabilities is not None

    def better(self, difference: float) -> bool:
        """Whether a difference from another model's score is in favour of the model."""
        return difference > 0 if self.greater_is_better else difference < 0

    def __call__(self, truth: Truth, predictions: Predictions) -> float:
        """The score of all windows; NaN if no window counts."""
        predictions.check_against(truth)
        if not self.applies(truth, predictions):
            return float("nan")
        return float(self.score(self.statistics(truth, predictions).sum(axis=0)))


def _ratio(part: Floats, whole: Floats) -> Floats:
    """`part / whole`; NaN where `whole` is 0."""
    ratio = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    np.divide(part, whole, out=ratio, where=whole != 0)
    return ratio


def _mean_of_defined(values: Floats) -> Floats:
    """The mean over the last axis without NaN; NaN where all values are."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1).astype(np.float64))


def _chosen(predictions: Predictions) -> Numbers:
    """`[n]`: the class of the highest probability; the first one in a tie."""
    assert predictions.probabilities is not None
    chosen: Numbers = predictions.probabilities.argmax(axis=1)
    return chosen


# ---- classes -----------------------------------------------------------------------------------------------------


def _confusion(truth: Truth, predictions: Predictions) -> Floats:
    """A one in the cell (true class, predicted class), flattened: `[n, C²]`."""
    cells = len(truth.classes) ** 2
    cell = truth.y * len(truth.classes) + _chosen(predictions)
    ones: Floats = np.eye(cells)[cell]
    return ones


def _true_said_right(sums: Floats) -> tuple[Floats, Floats, Floats]:
    """For each class, how many windows have it, are predicted as it, and both: `[..., C]` each."""
    classes = round(sums.shape[-1] ** 0.5)
    matrix = sums.reshape(*sums.shape[:-1], classes, classes)
    return matrix.sum(axis=-1), matrix.sum(axis=-2), np.diagonal(matrix, axis1=-2, axis2=-1)


def _macro_f1(sums: Floats) -> Floats:
    true, said, right = _true_said_right(sums)
    # A class without true and without predicted windows has no F1, and does not count.
    return _mean_of_defined(_ratio(2 * right, true + said))


def _balanced_accuracy(sums: Floats) -> Floats:
    true, _, right = _true_said_right(sums)
    return _mean_of_defined(_ratio(right, true))


def _log_losses(truth: Truth, predictions: Predictions) -> Floats:
    """Minus the logarithm of the true class's probability, and a 1 for the count: `[n, 2]`."""
    assert predictions.probabilities is not None
    given = predictions.probabilities[np.arange(len(truth)), truth.y]
    # A true class of probability 0 costs 36, not infinity, so that a single window cannot decide the score.
    least = np.finfo(np.float64).eps
    return np.stack([-np.log(np.clip(given, least, 1 - least)), np.ones(len(truth))], axis=1)


def _mean(sums: Floats) -> Floats:
    return _ratio(sums[..., 0], sums[..., 1])


def calibration_bins(confidence: Floats, bins: int = CALIBRATION_BINS) -> Numbers:
    """`[n]`: the bin of each confidence. Bin m of M, from 0, is (m/M, (m+1)/M]; 0 is in the first."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def _calibration_gaps(truth: Truth, predictions: Predictions) -> Floats:
    """The term that each window adds to the gap of its bin, and a 1 for the count: `[n, bins + 1]`."""
    assert predictions.probabilities is not None
    confidence = predictions.probabilities.max(axis=1)
    gaps = np.zeros((len(truth), CALIBRATION_BINS + 1))
    right = _chosen(predictions) == truth.y
    gaps[np.arange(len(truth)), calibration_bins(confidence)] = right - confidence
    gaps[:, -1] = 1
    return gaps


def _calibration_error(sums: Floats) -> Floats:
    return _ratio(np.abs(sums[..., :-1]).sum(axis=-1), sums[..., -1])


# ---- spans -------------------------------------------------------------------------------------------------------


def span_iou(one: Numbers, other: Numbers) -> Floats:
    """Intersection over union of spans of bars, both ends inclusive: `[n, 2]` and `[n, 2]` to `[n]`.

    0 where either span is missing. Source: the Jaccard index, P. Jaccard, "The distribution of the flora in the
    alpine zone", New Phytologist 11 (1912), 37–50.
    """
    both = _has_span(one) & _has_span(other)
    shared = np.minimum(one[:, 1], other[:, 1]) - np.maximum(one[:, 0], other[:, 0]) + 1
    shared = np.where(both, np.maximum(shared, 0), 0)
    iou: Floats = shared / np.maximum(_length_of(one) + _length_of(other) - shared, 1)
    return iou


def _has_span(spans: Numbers) -> Flags:
    return spans[:, 0] >= 0


def _length_of(spans: Numbers) -> Numbers:
    return spans[:, 1] - spans[:, 0] + 1


def _over_spans(
    value: Callable[[Numbers, Numbers], Floats], both: bool
) -> Callable[[Truth, Predictions], Floats]:
    """The value of each window that counts, and a 1 for the count, `[n, 2]`.

    A window counts if it has a true span and, with `both`, also a predicted one.
    """

    def statistics(truth: Truth, predictions: Predictions) -> Floats:
        assert truth.spans is not None
        assert predictions.spans is not None
        counts = _has_span(truth.spans)
        if both:
            counts = counts & _has_span(predictions.spans)
        return np.where(
            counts[:, None], np.stack([value(truth.spans, predictions.spans), np.ones(len(truth))], axis=1), 0
        )

    return statistics


def _hits(true: Numbers, said: Numbers) -> Floats:
    near = (np.abs(true - said) <= HIT_TOLERANCE).all(axis=1) & _has_span(said)
    hits: Floats = near.astype(np.float64)
    return hits


def _center_errors(true: Numbers, said: Numbers) -> Floats:
    errors: Floats = np.abs(true.sum(axis=1) - said.sum(axis=1)) / 2
    return errors


def _length_errors(true: Numbers, said: Numbers) -> Floats:
    errors: Floats = np.abs(_length_of(true) - _length_of(said)).astype(np.float64)
    return errors


# ---- all of them -------------------------------------------------------------------------------------------------

_OF_SPANS = [
    ("span_iou", "span IoU", True, _over_spans(span_iou, both=False)),
    ("span_hits", f"span hits ±{HIT_TOLERANCE}", True, _over_spans(_hits, both=False)),
    ("center_error", "center error, bars", False, _over_spans(_center_errors, both=True)),
    ("length_error", "length error, bars", False, _over_spans(_length_errors, both=True)),
]

METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in [
            Metric("macro_f1", "macro-F1", True, False, False, _confusion, _macro_f1),
            Metric(
                "balanced_accuracy", "balanced accuracy", True, False, False, _confusion, _balanced_accuracy
            ),
            Metric("log_loss", "log loss", False, False, False, _log_losses, _mean),
            Metric(
                "calibration_error",
                "calibration error",
                False,
                False,
                True,
                _calibration_gaps,
                _calibration_error,
            ),
            *(Metric(name, title, up, True, False, of, _mean) for name, title, up, of in _OF_SPANS),
        ]
    }
)
"""The metrics by name.

- `macro_f1`: the mean over classes of F1 = 2·TP / (2·TP + FP + FN). A class without true and
  without predicted windows has none, and is left out, as in scikit-learn.
- `balanced_accuracy`: the mean over classes of the share of their windows that is predicted right. Classes without
  windows are left out. Source: K. H. Brodersen et al., "The balanced accuracy and its posterior distribution",
  ICPR 2010.
- `log_loss`: the mean of −ln of the true class's probability, in nats; probabilities below 2.2e-16 are raised to it.
- `calibration_error`: the expected calibration error Σ_b n_b/n · |accuracy_b − confidence_b| over 15 bins of equal
  width of the highest probability. Sources: M. P. Naeini, G. F. Cooper and M. Hauskrecht, "Obtaining well
  calibrated probabilities using Bayesian binning", AAAI 2015; C. Guo et al., "On calibration of modern neural
  networks", ICML 2017, eq. 3. It cannot be negative, so it is biased upwards on few windows: see
  :func:`moola.evaluation.calibration.calibration_error_if_calibrated`.
- `span_iou`, `span_hits`: over the windows with a true span, the mean of :func:`span_iou`, and the share whose two ends
  are both within ±3 bars. A missing prediction counts as a miss.
- `center_error`, `length_error`: over the windows with a true and a predicted span, the mean distance of (s + e)/2, and
  the mean difference of lengths, in bars. Read them beside the hits: they do not count missed spans.

No span metric penalises a predicted span in a window without one. The scores of a class for windows without an
expansion reveal models that predict such spans.
"""


def scores(truth: Truth, predictions: Predictions) -> dict[str, float]:
    """All metrics of these predictions, by name; NaN if no window counts.

    >>> truth = Truth([0, 0, 1, 1], spans=[[2, 5], [-1, -1], [10, 19], [0, 9]])
    >>> said = Predictions([[0.8, 0.2], [0.4, 0.6], [0.1, 0.9], [0.3, 0.7]], [[2, 6], [0, 3], [5, 14], [0, 9]])
    >>> {name: round(score, 3) for name, score in scores(truth, said).items()}
    {'macro_f1': 0.733, 'balanced_accuracy': 0.75, 'log_loss': 0.4, 'calibration_error': 0.3, 'span_iou': 0.711, \
'span_hits': 0.667, 'center_error': 1.833, 'length_error': 0.333}
    """
    return {name: metric(truth, predictions) for name, metric in METRICS.items()}
