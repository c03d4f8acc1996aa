"""The size of a model: parameters and memory."""

from __future__ import annotations

from typing import NamedTuple

from moola.models.jade import build_model
from moola.settings.models import ModelConfig

__all__ = ["ModelSummary", "summarise"]


class ModelSummary(NamedTuple):
    """A model's size. Bytes are for float32."""

    name: str
    parameters: int
    weights: int
    """Bytes of the parameters."""
    training: int
    """Bytes of parameters, gradients, AdamW's two moments, and a batch's activations kept for the backward pass."""
    per_window: float | None
    """Parameters per training window; None if the number of windows is unknown."""


def summarise(
    model: ModelConfig,
    *,
    features: int = 4,
    window_length: int = 105,
    batch_size: int = 256,
    windows: int | None = None,
) -> ModelSummary:
    """Counts parameters, and estimates memory from shapes only.

    A bidirectional layer keeps its input, and for each direction four gates, the cell and the output: `D + 2·6·H`
    numbers a bar. Dropout between layers keeps its output and its mask.

    Args:
        model: The model's configuration.
        features: D, columns of the input.
        window_length: K, bars in a window.
        batch_size: Windows in a training batch.
        windows: The number of training windows, if known.
    """
    a = model.architecture
    count = sum(p.numel() for p in build_model(model, features).parameters())
    per_bar, width = 0, features + a.use_position
    for layer in range(a.num_layers):
        per_bar += width + 12 * a.hidden_size + (2 * width if layer else 0)
        width = 2 * a.hidden_size
    kept = 4 * batch_size * window_length * per_bar
    return ModelSummary(model.name, count, 4 * count, 16 * count + kept, count / windows if windows else None)
