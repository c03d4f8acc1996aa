"""Pictures of an evaluation. Each function draws one and returns it; only :func:`save_png` writes a file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from moola.errors import ConfigError
from moola.evaluation.calibration import reliability_curve
from moola.evaluation.metrics import CALIBRATION_BINS, HIT_TOLERANCE, METRICS, scores
from moola.evaluation.outcomes import Predictions, Truth
from moola.evaluation.permutation import PermutationTest
from moola.files.lazy import lazy_names

__all__ = [
    "confusion_matrix",
    "permutation_histogram",
    "reliability_diagram",
    "save_png",
    "spans_against_truth",
]

_MODEL, _CALIBRATED, _INK, _FAINT = "#1f5fa8", "#b9bfc7", "#2b2b2b", "#d9dce0"


def save_png(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Writes a figure as PNG, at 144 dots per inch, and returns its path."""
    target = Path(path)
    figure.savefig(target, format="png", dpi=144)
    return target


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    # A Figure without pyplot: no global state, no window, safe in threads.
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    _plain(axes)
    return figure, axes


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(color=_INK, labelsize=9)


def _head(figure: Figure, title: str, text: str) -> None:
    """Writes the model's name, and below it the description of the picture."""
    figure.suptitle(f"{title}\n{text}" if title else text, fontsize=10)


def _legend_above(axes: Axes) -> None:
    """A legend above the axes."""
    axes.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)


def reliability_diagram(truth: Truth, predictions: Predictions, *, title: str = "") -> Figure:
    """The model's accuracy against its confidence, in 15 bins of equal width; below, the windows in each bin.

    A dot is the accuracy of a bin. The bar behind it covers 95 % of the accuracies that correct confidence would give:
    a dot outside its bar differs by more than chance variation. Source: Bröcker and Smith 2007.
    """
    from scipy.stats import binom

    curve = reliability_curve(truth, predictions)
    figure = Figure(figsize=(5, 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    there = curve.count > 0
    n, sure, right = curve.count[there], curve.confidence[there], curve.accuracy[there]
    low, high = (binom.ppf(q, n, sure) / n for q in (0.025, 0.975))
    upper.plot([0, 1], [0, 1], color=_INK, linewidth=1, linestyle=(0, (4, 3)), label="as sure as right")
    upper.vlines(sure, low, high, color=_CALIBRATED, linewidth=6, label="if calibrated, 95 %")
    upper.plot(sure, right, "o", color=_MODEL, markersize=5.5, label="model")
    upper.set(ylabel="share that was right", ylim=(-0.02, 1.02))
    error = METRICS["calibration_error"](truth, predictions)
    _head(figure, title, f"Reliability: calibration error {error:.3f}, {len(truth):,} windows")
    _legend_above(upper)
    width = 1 / CALIBRATION_BINS
    # The highest of C probabilities is at least 1/C.
    least = np.floor(CALIBRATION_BINS / len(truth.classes)) * width - width / 2
    lower.bar((np.arange(CALIBRATION_BINS) + 0.5) * width, curve.count, 0.9 * width, color=_CALIBRATED)
    lower.set(xlabel="confidence: highest probability", ylabel="windows", xlim=(least, 1.02))
    lower.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    for axes in (upper, lower):
        _plain(axes)
    return figure


def confusion_matrix(truth: Truth, predictions: Predictions, *, title: str = "") -> Figure:
    """The number of windows of each true class predicted as each class; shades are shares of the true class."""
    if predictions.probabilities is None:
        raise ConfigError(
            "probabilities", "are missing; a confusion matrix needs a model that predicts classes"
        )
    predictions.check_against(truth)
    classes = len(truth.classes)
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (truth.y, predictions.probabilities.argmax(axis=1)), 1)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    names = [str(name) for name in truth.classes]
    # Names wider than a cell are drawn upright; side by side they would overlap.
    longest = max(map(len, names))
    upright = longest > 9
    size = 2.6 + 0.9 * classes
    figure, axes = _figure(size + 0.07 * longest, size - 0.1 + 0.07 * longest * upright)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(matrix.shape):
        colour = "white" if share[row, column] > 0.55 else _INK
        text = f"{matrix[row, column]:,}\n{share[row, column]:.0%}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=10)
    axes.set_xticks(range(classes), names, rotation=90 if upright else 0)
    axes.set_yticks(range(classes), names)
    axes.set(xlabel="predicted class", ylabel="true class")
    _head(figure, title, f"macro-F1 {METRICS['macro_f1'](truth, predictions):.3f}, {len(truth):,} windows")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def spans_against_truth(
    truth: Truth, predictions: Predictions, window_length: int, *, title: str = ""
) -> Figure:
    """Predicted against true first and last bars, with the band that counts as a hit.

    Only windows with a true and a predicted span are drawn. The title counts the misses: windows with a span for which
    none was predicted. Raises `ConfigError` if there are no spans.
    """
    predictions.check_against(truth)
    if truth.spans is None or predictions.spans is None:
        raise ConfigError("spans", "are missing; give both true and predicted spans")
    both = (truth.spans[:, 0] >= 0) & (predictions.spans[:, 0] >= 0)
    figure = Figure(figsize=(8.4, 5.2), layout="constrained")
    found = scores(truth, predictions)
    bars = np.array([0, window_length - 1])
    near = (np.abs(truth.spans - predictions.spans) <= HIT_TOLERANCE).all(axis=1)
    for end, axes in enumerate(figure.subplots(1, 2, sharey=True)):
        _plain(axes)
        axes.fill_between(
            bars,
            bars - HIT_TOLERANCE,
            bars + HIT_TOLERANCE,
            color=_FAINT,
            linewidth=0,
            label=f"±{HIT_TOLERANCE} bars",
        )
        for shown, label, style in (
            (both & near, "both ends within", {"facecolor": _MODEL}),
            (both & ~near, "one or both outside", {"facecolor": "none"}),
        ):
            axes.scatter(
                truth.spans[shown, end],
                predictions.spans[shown, end],
                s=18,
                edgecolor=_MODEL,
                linewidth=0.8,
                alpha=0.8,
                label=label,
                **style,
            )
        axes.set(xlim=(-2, window_length + 1), ylim=(-2, window_length + 1), box_aspect=1)
        axes.set(xlabel=f"true {('first', 'last')[end]} bar")
        if end == 0:
            axes.set(ylabel="predicted bar")
            figure.legend(fontsize=8, frameon=False, loc="outside lower center", ncols=3)
    spans = int((truth.spans[:, 0] >= 0).sum())
    missed = spans - int(both.sum())
    unseen = f" ({missed:,} of them without a predicted span, not drawn)" if missed else ""
    _head(
        figure,
        title,
        f"{spans:,} spans{unseen}: {found['span_hits']:.0%} hits, IoU {found['span_iou']:.2f}",
    )
    return figure


def permutation_histogram(permutation: PermutationTest, *, title: str = "") -> Figure:
    """The scores on shuffled labels, and the score of the model, or of the model that stands in for it."""
    metric = METRICS[permutation.metric]
    shuffled = np.array(permutation.scores)
    shuffled = shuffled[~np.isnan(shuffled)]
    if not len(shuffled) or np.isnan(permutation.value):
        raise ConfigError(
            "null", f"has no {metric.title} to draw; give the permutation test of a score that exists"
        )
    figure, axes = _figure(6, 3.8)
    low, high = permutation.shuffled_interval
    # If all shuffles have the same score, as span hits may, the bar and the band stay narrow but visible.
    least = 0.02 * max(1.0 if metric.greatest == 1 else 0.0, np.ptp([*shuffled, permutation.value]), 1e-3)
    pad = max(0.0, (least - (high - low)) / 2)
    axes.axvspan(low - pad, high + pad, color=_FAINT, alpha=0.6, linewidth=0, label="shuffled, 95 %")
    edges = np.histogram_bin_edges(shuffled, bins="auto")
    if np.ptp(shuffled) < least:
        middle, half = (shuffled.min() + shuffled.max()) / 2, max(float(np.ptp(shuffled)), least / 2) / 2
        edges = np.array([middle - half, middle + half])
    axes.hist(
        shuffled,
        bins=edges.tolist(),
        color=_CALIBRATED,
        edgecolor="white",
        linewidth=0.5,
        label="shuffled labels",
    )
    axes.axvline(permutation.value, color=_MODEL, linewidth=2, label=f"true labels, {permutation.value:.3f}")
    left, right = axes.get_xlim()
    if right - left < 10 * least:
        axes.set_xlim((left + right) / 2 - 5 * least, (left + right) / 2 + 5 * least)
    better = "more is better" if metric.greater_is_better else "less is better"
    axes.set(xlabel=f"{metric.title} ({better})", ylabel="shuffles")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _legend_above(axes)
    what = f"{title}, {permutation.of}" if title and permutation.of else title or permutation.of
    _head(figure, what, f"{len(shuffled)} shuffles of whole groups: p = {permutation.p_value:.3f}")
    return figure


__getattr__, _ = lazy_names(__name__, {}, renamed={"null_histogram": "permutation_histogram"})
