"""What the report of a fine-tuned run says beside its scores: seen windows, the validation loss, pictures."""

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
    """Which windows an encoder has seen.

    Args:
        windows: The labelled windows.
        times: `[n]` each, the times of each window's first and last bar; None where they are not known.
        seen_by_encoder: The bars that the encoder was pre-trained on; empty without an encoder.
        of_store: Whether the windows refer to a store; else they were cut beforehand.
        pretrained: Whether there is an encoder.

    Returns:
        The bars that the fine-tuned model has seen, the windows' included; `[n]`, which windows the encoder has seen;
        and notices for the report.
    """
    if times is None:
        unknown = (
            "the places of these windows are unknown: predictions cannot tell which windows have been seen"
        )
        notices = [unknown]
        if pretrained:
            notices = [
                f"{unknown}, nor this report which of them the encoder was pre-trained on",
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
    """The loss that chose the epoch, on the windows that were not trained on, with its interval; None without any."""
    if result.window_losses is None:
        return None
    validation = np.setdiff1d(np.arange(len(blocks)), trained_on)
    found = _mean_over_blocks(result.window_losses, blocks[validation])
    if np.isnan(found.low):
        return {"value": found.value, "low": None, "high": None}
    return {"value": found.value, "low": found.low, "high": found.high}


def _mean_over_blocks(losses: NDArray[np.float64], blocks: Numbers) -> Interval:
    """The mean over windows, with an interval over blocks of them, which err together.

    Student's t, of the mean as a ratio of two sums over blocks; of one block it is of NaN. Source: W. G. Cochran,
    *Sampling Techniques*, 3rd ed., Wiley 1977, chapter 6 (ratio estimates).
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
    """Draws calibration, confusion and spans of the out-of-fold predictions into a run."""
    from moola.evaluation.figures import confusion_matrix, reliability_diagram, save_png, spans_against_truth

    save_png(reliability_diagram(truth, said, title=title), path / "reliability.png")
    save_png(confusion_matrix(truth, said, title=title), path / "confusion.png")
    if said.spans is not None:
        save_png(spans_against_truth(truth, said, window_length, title=title), path / "spans.png")
