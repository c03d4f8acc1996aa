"""Labelled windows as fine-tuning trains on them."""

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


# Windows encoded or judged at a time.
CHUNK = 256


class Examples(NamedTuple):
    """Labelled windows, n of K bars and D features."""

    X: NDArray[np.float32]
    """`[n, K, D]`."""
    valid: NDArray[np.bool_]
    """`[n, K]`: which bars the model may see."""
    y: NDArray[np.int64]
    """`[n]`, classes from 0 on."""
    spans: NDArray[np.int64]
    """`[n, 2]`, first and last bar in the window; −1 and −1 where there is none."""
    weight: NDArray[np.float64]
    """`[n]`, more than 0: how much each window counts."""


class TrainingWindows(NamedTuple):
    """Examples on a device. Weights have a mean of 1, so that the mean loss of a batch estimates that of all."""

    x: Tensor
    """`[n, K, D]`; once encoded `[n, K, 2H]`, or `[n, 1, 2H]` where pooling is all the heads do with it."""
    valid: Tensor | None
    shown: Tensor | None
    """`[n, K]`: as `valid`, also once they are pooled; None where nothing is hidden."""
    y: Tensor
    spans: Tensor
    type_weight: Tensor
    pointer_weight: Tensor
    """0 if there is no span with a visible bar."""
    span_weight: Tensor

    @classmethod
    def of(cls, examples: Examples, factors: NDArray[np.float64], device: torch.device) -> TrainingWindows:
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
        return TrainingWindows(*(None if tensor is None else tensor[numbers] for tensor in self))  # type: ignore[arg-type]

    def chunks(self) -> Iterator[TrainingWindows]:
        for first in range(0, len(self.x), CHUNK):
            yield self.take(slice(first, first + CHUNK))

    @torch.no_grad()
    def encoded(self, model: Jade) -> TrainingWindows:
        """What a frozen encoder makes of them, once and for all."""
        model.encoder.eval()
        outputs = []
        for chunk in self.chunks():
            y = model.encoder(model.encoder.standardise(chunk.x), chunk.valid)
            outputs.append(y if model.span_head is not None else pool(y, chunk.valid)[:, None])
        valid = self.valid if model.span_head is not None else None
        return self._replace(x=torch.cat(outputs), valid=valid)


def seen_spans(examples: Examples) -> NDArray[np.bool_]:
    """`[n]`: whether there is a span with a visible bar."""
    inside = in_spans(examples.spans, examples.valid.shape[1])
    return np.asarray((inside & examples.valid).any(axis=1))
