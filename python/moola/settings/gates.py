"""What a run must pass."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from moola.settings.sections import Section
from moola.settings.training import Positive, Share

__all__ = ["GatesConfig"]


_Score = Literal[
    "macro_f1",
    "balanced_accuracy",
    "log_loss",
    "calibration_error",
    "span_iou",
    "span_hits",
    "center_error",
    "length_error",
    "validation_loss",
]


class GatesConfig(Section):
    """The limits that a run must keep, for :func:`moola.gates.check_gates`. null removes a gate.

    The defaults are those of `configs/gates.yaml`.
    """

    parameters_per_window: Positive | None = 1000.0
    """The run has fewer. For a cross-validation, the windows of all folds count together."""
    epoch_seconds: Positive | None = 180.0
    """The slowest epoch takes less."""
    device_memory: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = 1e9
    """The peak of bytes allocated on a GPU is more: training in less does not use the GPU."""
    validation_spread: Positive | None = 0.05
    """(highest − lowest)/lowest of the validation loss over the last epochs, at most five, is less."""
    calibration_error: Share | None = 0.1
    """The run has less. More passes if perfectly calibrated probabilities show as much by chance."""
    regression: tuple[_Score, ...] | None = ("macro_f1", "log_loss", "span_hits", "validation_loss")
    """Scores that must not be worse than those of the run compared with, by more than the interval."""
