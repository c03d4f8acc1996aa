"""Figures of a pre-training run: its loss curves, and its reconstructions of masked bars."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from moola.data.dataset import FastWindowedDataset
from moola.files.publishing import write_file
from moola.runs.directory import read_metrics
from moola.training.objective import load_autoencoder
from moola.training.predictors import interpolate

__all__ = ["draw_losses", "draw_reconstructions"]

_MODEL, _TRUTH, _TRAIN, _RIVALS = "#c0392b", "#2c3e50", "#7f8c8d", ("#2980b9", "#27ae60")


def draw_losses(run: str | os.PathLike[str]) -> Path:
    """Draws a run's loss curves and the losses of the trivial predictors. Returns the path of its `loss.png`."""
    steps, epochs = read_metrics(run, "step"), read_metrics(run, "epoch")
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(_column(steps, "step"), _column(steps, "loss"), color=_TRAIN, lw=1, label="training")
    judged = [record for record in epochs if "val_loss" in record]
    if judged:
        at = _column(judged, "step")
        axes.plot(at, _column(judged, "val_loss"), "o-", color=_MODEL, lw=1.5, ms=4, label="validation")
        names = {"interpolation": "interpolation", "constant": "each feature's best constant"}
        for color, (key, label) in zip(_RIVALS, names.items(), strict=True):
            axes.axhline(judged[-1][key]["loss"], color=color, ls="--", lw=1, label=label)
    axes.set(xlabel="step", ylabel="Huber error of masked bars", title=f"Pre-training: {Path(run).name}")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return _save(figure, Path(run) / "loss.png")


def draw_reconstructions(run: str | os.PathLike[str], dataset: FastWindowedDataset, windows: int = 3) -> Path:
    """Draws windows with masked bars and their reconstruction by the run's best weights.

    Args:
        run: The run directory.
        dataset: Where the windows come from.
        windows: How many windows to draw, spread evenly over the dataset.

    Returns the path of the run's `reconstructions.png`.
    """
    model = load_autoencoder(run)
    numbers = np.linspace(0, len(dataset) - 1, min(windows, len(dataset))).astype(np.int64)
    x, mask, valid = dataset.batch(numbers)
    with torch.no_grad():
        x = model.encoder.standardise(x)
        made = model.reconstruct(x, mask, valid)
    straight = interpolate(x, mask, valid)
    # The four features that vary most within these windows.
    columns = x.std(dim=1).mean(dim=0).argsort(descending=True)[:4].sort().values.tolist()
    figure = Figure(figsize=(4.6 * len(numbers), 1.9 * len(columns)), layout="constrained")
    grid = figure.subplots(len(columns), len(numbers), squeeze=False, sharex=True)
    bars = np.arange(x.shape[1])
    for c, column in enumerate(columns):
        for w in range(len(numbers)):
            axes, hidden = grid[c][w], mask[w].numpy()
            axes.plot(bars, x[w, :, column], color=_TRUTH, lw=1, label="bars")
            axes.plot(
                bars[hidden], straight[w, hidden, column], "x", color=_RIVALS[0], ms=4, label="interpolation"
            )
            axes.plot(bars[hidden], made[w, hidden, column], "o", color=_MODEL, ms=4, label="reconstruction")
            for bar in bars[hidden]:
                axes.axvspan(bar - 0.5, bar + 0.5, color="0.9", lw=0)
            axes.margins(x=0.01)
            if w == 0:
                axes.set_ylabel(dataset.feature_names[column], fontsize=9)
    for w, (symbol, time) in enumerate(_names(dataset, numbers)):
        grid[0][w].set_title(f"{symbol} {time}".strip(), fontsize=9)
        grid[-1][w].set_xlabel("bar")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle("Masked bars (shaded) of validation windows")
    return _save(figure, Path(run) / "reconstructions.png")


def _names(dataset: FastWindowedDataset, numbers: Any) -> list[tuple[str, str]]:
    places = dataset.places(numbers)
    times = places.last_timestamp.astype("datetime64[ns]").astype("datetime64[m]")
    return [(s, str(t).replace("T", " ")) for s, t in zip(dataset.symbols_of(places), times, strict=True)]


def _column(records: list[dict[str, Any]], name: str) -> list[float]:
    return [record[name] for record in records]


def _save(figure: Figure, path: Path) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_file(path, buffer.getvalue())
    return path
