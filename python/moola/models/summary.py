"""What a model costs: parameters and memory."""

from __future__ import annotations

from typing import NamedTuple

from moola.models.jade import build_model
from moola.settings.models import ModelConfig

__all__ = ["ModelSummary", "summarise"]


class ModelSummary(NamedTuple):
    """A model's size. Bytes are those of float32."""

    name: str
    parameters: int
    weights: int
    """Bytes of the parameters."""
    training: int
    """Bytes of parameters, gradients, AdamW's two moments, and what a batch keeps for the backward pass."""
    per_window: float | None
    """Parameters per training window, where their number is known."""


def summarise(
    model: ModelConfig,
    *,
    features: int = 4,
    window_length: int = 105,
    batch_size: int = 256,
    windows: int | None = None,
) -> ModelSummary:
    """Counts parameters, and estimates memory from the shapes alone.

    A bidirectional layer keeps its input, four gates, the cell and the output of each direction: `D + 2·6·H` numbers
    a bar; dropout between layers keeps as much as it lets through, and its mask.

    Args:
        features: D.
        window_length, batch_size: Of a batch in training.
        windows: Windows that it is trained on.
    """
    a = model.architecture
    count = sum(p.numel() for p in build_model(model, features).parameters())
    per_bar, width = 0, features + a.use_position
    for layer in range(a.num_layers):
        per_bar += width + 12 * a.hidden_size + (2 * width if layer else 0)
        width = 2 * a.hidden_size
    kept = 4 * batch_size * window_length * per_bar
    return ModelSummary(model.name, count, 4 * count, 16 * count + kept, count / windows if windows else None)
