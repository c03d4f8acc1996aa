"""The result of a fine-tuning, as its run directory keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["FinetuneResult"]


@dataclass(frozen=True)
class FinetuneResult:
    """The result of a fine-tuning."""

    run: Path
    windows: int
    """Labelled windows."""
    trained_on: int
    """Of these, those that the model in the run learned from; the others chose its epoch."""
    classes: tuple[str, ...]
    epochs: int
    """Epochs that were trained."""
    best_epoch: int
    """Whose weights the run has, from 0."""
    temperature: float
    """What logits are divided by."""
    validation_loss: Mapping[str, float | None] | None
    """What chose the epoch, on the windows that were held out for that: `value`, and `low` to `high`, its 95 %
    interval; None where none were."""
    evaluation: Mapping[str, Any]
    """The record of the out-of-fold :class:`moola.evaluation.Evaluation`."""
    table: tuple[tuple[str, ...], ...]
    """The same for people: the heads of the columns, then a row a metric."""
    report: tuple[str, ...]
    """The same in sentences, and what else a person should know."""
    resumed: bool
    """Whether the run was finished already, and nothing was done."""

    @property
    def verdict(self) -> str:
        """How good it is on windows that it has not seen, in a sentence."""
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
