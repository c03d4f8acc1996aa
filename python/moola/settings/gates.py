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
    """What a run must pass, for :func:`moola.gates.check_gates`; null takes a gate away.

    The defaults are those of `configs/gates.yaml`.
    """

    parameters_per_window: Positive | None = 1000.0
    """Fewer; of a cross-validation, over the windows of all folds together."""
    epoch_seconds: Positive | None = 180.0
    """Less; of the slowest epoch."""
    device_memory: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = 1e9
    """More; bytes allocated on a GPU at most. A GPU that trains in less is not made use of."""
    validation_spread: Positive | None = 0.05
    """Less; (highest − lowest)/lowest of the validation loss over the last epochs, five at most."""
    calibration_error: Share | None = 0.1
    """Less; more is let pass where luck alone gives as much."""
    regression: tuple[_Score, ...] | None = ("macro_f1", "log_loss", "span_hits", "validation_loss")
    """What must not be worse than in a run that is named, by more than its interval."""
