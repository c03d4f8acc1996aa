"""The result of fine-tuning, as `result.json` keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["FinetuneResult"]


@dataclass(frozen=True)
class FinetuneResult:
    """The result of fine-tuning."""

    run: Path
    """The run directory."""
    windows: int
    """Number of labelled windows."""
    trained_on: int
    """Number of windows that the model in the run was trained on; the others chose its epoch."""
    classes: tuple[str, ...]
    epochs: int
    """Number of epochs trained."""
    best_epoch: int
    """The epoch whose weights the run keeps, counted from 0."""
    temperature: float
    """The temperature that divides the logits."""
    validation_loss: Mapping[str, float | None] | None
    """The loss that chose the epoch, on the validation windows: `value`, and its 95 % interval, `low` to `high`; None
    without validation windows."""
    evaluation: Mapping[str, Any]
    """The record of the out-of-fold :class:`moola.evaluation.Evaluation`."""
    table: tuple[tuple[str, ...], ...]
    """The evaluation as a table: the column headers, then one row per metric."""
    report: tuple[str, ...]
    """The notices and the evaluation in sentences."""
    resumed: bool
    """Whether the run had already finished, so that nothing was done."""

    @property
    def verdict(self) -> str:
        """The main out-of-fold scores, in a sentence."""
        scores = self.evaluation["scores"]

        def told(name: str) -> str:
            score = scores[name]
            if score["value"] is None:
                return "–"
            if score["low"] is None:
                return f"{score['value']:.3f}"
            return f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"

        parts = [f"macro-F1 {told('macro_f1')}", f"log loss {told('log_loss')}"]
        if scores["span_hits"]["value"] is not None:
            parts.append(f"span hits {told('span_hits')}")
        return f"out of fold: {', '.join(parts)}"
