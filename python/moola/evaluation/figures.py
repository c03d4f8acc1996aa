"""Pictures of an evaluation. Each function draws one and gives it back; nothing is kept, shown or written here."""

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
from moola.evaluation.null import Null
from moola.evaluation.outcomes import Predictions, Truth

__all__ = ["confusion_matrix", "null_histogram", "reliability_diagram", "save_png", "spans_against_truth"]

_MODEL, _LUCK, _INK, _FAINT = "#1f5fa8", "#b9bfc7", "#2b2b2b", "#d9dce0"


def save_png(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Writes a figure as PNG, at 144 dots an inch, and gives its path."""
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


def _legend_above(axes: Axes) -> None:
    """A legend where nothing is drawn."""
    axes.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)


def reliability_diagram(truth: Truth, predictions: Predictions) -> Figure:
    """How often the model was right against how sure it was, in 15 bins of equal width; below, the windows in each.

    A dot is the share that was right, the bar behind it where that share would lie in 95 % of cases if the confidence
    were right: a dot outside its bar is more than luck. Source: Bröcker and Smith 2007.
    """
    from scipy.stats import binom

    curve = reliability_curve(truth, predictions)
    figure = Figure(figsize=(5, 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    there = curve.count > 0
    n, sure, right = curve.count[there], curve.confidence[there], curve.accuracy[there]
    low, high = (binom.ppf(q, n, sure) / n for q in (0.025, 0.975))
    upper.plot([0, 1], [0, 1], color=_INK, linewidth=1, linestyle=(0, (4, 3)), label="as sure as right")
    upper.vlines(sure, low, high, color=_LUCK, linewidth=6, label="luck alone, 95 %")
    upper.plot(sure, right, "o", color=_MODEL, markersize=5.5, label="model")
    upper.set(ylabel="share that was right", ylim=(-0.02, 1.02))
    error = METRICS["calibration_error"](truth, predictions)
    figure.suptitle(f"Reliability: calibration error {error:.3f}, {len(truth):,} windows", fontsize=10)
    _legend_above(upper)
    width = 1 / CALIBRATION_BINS
    # No highest probability of C classes is below 1/C.
    least = np.floor(CALIBRATION_BINS / len(truth.classes)) * width - width / 2
    lower.bar((np.arange(CALIBRATION_BINS) + 0.5) * width, curve.count, 0.9 * width, color=_LUCK)
    lower.set(xlabel="confidence: highest probability", ylabel="windows", xlim=(least, 1.02))
    for axes in (upper, lower):
        _plain(axes)
    return figure


def confusion_matrix(truth: Truth, predictions: Predictions) -> Figure:
    """How many windows of each class were said to be of which; shades are shares of the true class."""
    if predictions.probabilities is None:
        raise ConfigError("probabilities", "are missing; a confusion matrix is of a model of classes")
    predictions.check_against(truth)
    classes = len(truth.classes)
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (truth.y, predictions.probabilities.argmax(axis=1)), 1)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    size = 2.6 + 0.9 * classes
    figure, axes = _figure(size, size - 0.3)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(matrix.shape):
        colour = "white" if share[row, column] > 0.55 else _INK
        text = f"{matrix[row, column]:,}\n{share[row, column]:.0%}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=10)
    names = [str(name) for name in truth.classes]
    axes.set_xticks(range(classes), names)
    axes.set_yticks(range(classes), names)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(f"macro-F1 {METRICS['macro_f1'](truth, predictions):.3f}", fontsize=10)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def spans_against_truth(truth: Truth, predictions: Predictions, window_length: int) -> Figure:
    """Predicted against true first and last bars, with the band that counts as a hit.

    Windows without a span, on either side, are not drawn. Raises `ConfigError` where there are no spans at all.
    """
    predictions.check_against(truth)
    if truth.spans is None or predictions.spans is None:
        raise ConfigError("spans", "are missing; give those of the labels and those predicted")
    both = (truth.spans[:, 0] >= 0) & (predictions.spans[:, 0] >= 0)
    figure = Figure(figsize=(8.4, 5.1), layout="constrained")
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
    figure.suptitle(
        f"Spans of {int(both.sum()):,} windows: {found['span_hits']:.0%} hits, IoU {found['span_iou']:.2f}",
        fontsize=10,
    )
    return figure


def null_histogram(null: Null) -> Figure:
    """The scores that shuffled labels give, and where the model lies among them."""
    metric = METRICS[null.metric]
    shuffled = np.array(null.scores)
    shuffled = shuffled[~np.isnan(shuffled)]
    if not len(shuffled) or np.isnan(null.value):
        raise ConfigError("null", f"has no {metric.title} to draw; give a null of scores that there are")
    figure, axes = _figure(6, 3.6)
    low, high = null.chance
    axes.axvspan(low, high, color=_FAINT, alpha=0.6, linewidth=0, label="chance, 95 %")
    axes.hist(shuffled, bins="auto", color=_LUCK, edgecolor="white", linewidth=0.5, label="shuffled labels")
    axes.axvline(null.value, color=_MODEL, linewidth=2, label=f"model, {null.value:.3f}")
    better = "more is better" if metric.greater_is_better else "less is better"
    axes.set(xlabel=f"{metric.title} ({better})", ylabel="shuffles")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _legend_above(axes)
    figure.suptitle(f"{len(shuffled)} shuffles of whole groups: p = {null.p_value:.3f}", fontsize=10)
    return figure
