"""Parts of a fine-tuned run's report beside its scores: seen windows, the validation loss, pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moola.evaluation.intervals import Interval, t_interval
from moola.evaluation.outcomes import Predictions, Truth
from moola.labels.windows import LabelledWindows
from moola.runs.seen_bars import MAY_HAVE_SEEN_ALL, SeenBars
from moola.settings.arrays import Numbers
from moola.training.fitting import FitResult

__all__ = ["draw_pictures", "seen_windows_of", "validation_loss"]


def seen_windows_of(
    windows: LabelledWindows,
    times: tuple[Numbers, Numbers] | None,
    seen_by_encoder: SeenBars,
    *,
    of_store: bool,
    pretrained: bool,
) -> tuple[SeenBars, NDArray[np.bool_], list[str]]:
    """Which windows the encoder saw in pre-training.

    Args:
        windows: The labelled windows.
        times: `[n]` each, the times of each window's first and last bar; None if they are unknown.
        seen_by_encoder: The bars that the encoder was pre-trained on; empty without an encoder.
        of_store: Whether the windows refer to a store; otherwise they are pre-cut.
        pretrained: Whether there is a pre-trained encoder.

    Returns:
        The bars that the fine-tuned model has seen, including those of the windows; `[n]`, which windows the encoder
        saw in pre-training; and notices for the report.
    """
    if times is None:
        unknown = (
            "the times of these windows are unknown: predictions cannot tell which windows have been seen"
        )
        notices = [unknown]
        if pretrained:
            notices = [
                f"{unknown}, and this report cannot tell which of them the encoder was pre-trained on",
                MAY_HAVE_SEEN_ALL,
            ]
        return seen_by_encoder | SeenBars({}, complete=False), np.zeros(len(windows), bool), notices
    symbols = windows.symbols.tolist()
    seen = seen_by_encoder.seen(symbols, *times)
    notices = list(seen_by_encoder.notes(symbols, *times))
    if not of_store and (unnamed := symbols.count("")):
        notices.append(
            f"{unnamed:,} of {len(symbols):,} windows name no symbol: predictions for a symbol at the same "
            "time cannot tell whether they have been seen"
        )
    stretches: dict[str, list[tuple[int, int]]] = {}
    for symbol, first, last in zip(symbols, *(side.tolist() for side in times), strict=True):
        stretches.setdefault(symbol, []).append((first, last))
    return seen_by_encoder | SeenBars(stretches), seen, notices


def validation_loss(
    result: FitResult, blocks: Numbers, trained_on: Numbers
) -> dict[str, float | None] | None:
    """The loss that chose the epoch, on the validation windows, with its 95 % interval; None without such windows."""
    if result.window_losses is None:
        return None
    validation = np.setdiff1d(np.arange(len(blocks)), trained_on)
    found = _mean_over_blocks(result.window_losses, blocks[validation])
    if np.isnan(found.low):
        return {"value": found.value, "low": None, "high": None}
    return {"value": found.value, "low": found.low, "high": found.high}


def _mean_over_blocks(losses: NDArray[np.float64], blocks: Numbers) -> Interval:
    """The mean over windows, with a 95 % interval by blocks: errors within a block are correlated.

    The interval is Student's t, with the mean as a ratio of two sums over blocks. One block gives NaN bounds. Source:
    W. G. Cochran, *Sampling Techniques*, 3rd ed., Wiley 1977, chapter 6 (ratio estimates).
    """
    _, block = np.unique(blocks, return_inverse=True)
    count = np.bincount(block)
    mean = float(losses.mean())
    if len(count) < 2:
        return Interval(mean, float("nan"), float("nan"))
    errors = np.bincount(block, losses - mean)
    error = float(np.sqrt(len(count) / (len(count) - 1) * (errors**2).sum())) / len(losses)
    return t_interval(mean, error, len(count) - 1)


def draw_pictures(path: Path, truth: Truth, said: Predictions, window_length: int, title: str) -> None:
    """Draws the out-of-fold predictions' calibration, confusion and spans, and saves the pictures in the run."""
    from moola.evaluation.figures import confusion_matrix, reliability_diagram, save_png, spans_against_truth

    save_png(reliability_diagram(truth, said, title=title), path / "reliability.png")
    save_png(confusion_matrix(truth, said, title=title), path / "confusion.png")
    if said.spans is not None:
        save_png(spans_against_truth(truth, said, window_length, title=title), path / "spans.png")
