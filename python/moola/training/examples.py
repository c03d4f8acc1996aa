"""Labelled windows in the form that fine-tuning trains on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moola.labels.spans import in_spans
from moola.models.encoder import pool
from moola.models.jade import Jade

__all__ = ["Examples", "TrainingWindows", "seen_spans"]


# Windows encoded or evaluated at a time.
CHUNK = 256


class Examples(NamedTuple):
    """n labelled windows of K bars and D features."""

    X: NDArray[np.float32]
    """`[n, K, D]`."""
    valid: NDArray[np.bool_]
    """`[n, K]`, the bars that the model sees."""
    y: NDArray[np.int64]
    """`[n]`, class codes from 0."""
    spans: NDArray[np.int64]
    """`[n, 2]`, first and last bar in the window; −1 and −1 for none."""
    weight: NDArray[np.float64]
    """`[n]`, positive sample weights."""


class TrainingWindows(NamedTuple):
    """Examples on a device. Weights have a mean of 1, so that a batch's mean loss estimates the mean over all."""

    x: Tensor
    """`[n, K, D]`; encoded `[n, K, 2H]`, or `[n, 1, 2H]` if the model has no span head and windows are pooled."""
    valid: Tensor | None
    """`[n, K]`, the visible bars of `x`; None if nothing is hidden or windows are pooled."""
    shown: Tensor | None
    """`[n, K]`, the visible bars of the windows, also if they are pooled; None if nothing is hidden."""
    y: Tensor
    """`[n]`, class codes."""
    spans: Tensor
    """`[n, 2]`, as in :class:`Examples`."""
    type_weight: Tensor
    """`[n]`: sample weight times the factor of its class."""
    pointer_weight: Tensor
    """`[n]`: sample weight; 0 without a span that has a visible bar."""
    span_weight: Tensor
    """`[n]`: sample weight."""

    @classmethod
    def of(cls, examples: Examples, factors: NDArray[np.float64], device: torch.device) -> TrainingWindows:
        """Moves examples to a device. `factors [C]` multiply the type loss of each class."""
        weight = examples.weight.astype(np.float64)
        has_span = seen_spans(examples)

        def normalised(weights: NDArray[np.float64]) -> Tensor:
            mean = weights.mean()
            return torch.tensor(weights / mean if mean > 0 else weights, dtype=torch.float32, device=device)

        valid = None if examples.valid.all() else torch.tensor(examples.valid, device=device)
        return cls(
            torch.tensor(examples.X, dtype=torch.float32, device=device),
            valid,
            valid,
            torch.tensor(examples.y, device=device),
            torch.tensor(examples.spans, device=device),
            normalised(weight * factors[examples.y]),
            normalised(weight * has_span),
            normalised(weight),
        )

    def take(self, numbers: Tensor | slice) -> TrainingWindows:
        """The windows of these numbers."""
        return TrainingWindows(*(None if tensor is None else tensor[numbers] for tensor in self))  # type: ignore[arg-type]

    def chunks(self) -> Iterator[TrainingWindows]:
        """All windows in order, `CHUNK` at a time."""
        for first in range(0, len(self.x), CHUNK):
            yield self.take(slice(first, first + CHUNK))

    @torch.no_grad()
    def encoded(self, model: Jade) -> TrainingWindows:
        """The windows encoded by the model's encoder, for training heads on a frozen encoder."""
        model.encoder.eval()
        outputs = []
        for chunk in self.chunks():
            y = model.encoder(model.encoder.standardise(chunk.x), chunk.valid)
            outputs.append(y if model.span_head is not None else pool(y, chunk.valid)[:, None])
        valid = self.valid if model.span_head is not None else None
        return self._replace(x=torch.cat(outputs), valid=valid)


def seen_spans(examples: Examples) -> NDArray[np.bool_]:
    """`[n]`: whether a window has a span with a visible bar."""
    inside = in_spans(examples.spans, examples.valid.shape[1])
    return np.asarray((inside & examples.valid).any(axis=1))
