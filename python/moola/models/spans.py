"""A span of bars as two numbers in [0, 1], and back."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["decode_spans", "encode_spans"]


def encode_spans(spans: Tensor, length: int) -> Tensor:
    """The pointer's target: `[B, 2]`, center and length.

    For a span from bar s to bar e of a window of K bars: `center = (s + e)/2/(K − 1)`, `length = (e − s + 1)/K`; at
    K = 1 center is 0. What is given for a span of −1, −1 (none) means nothing and must be left out of the loss.

    Args:
        spans: `[B, 2]`, first and last bar in the window.
        length: K.
    """
    first, last = spans.double().unbind(dim=1)
    center = (first + last) / 2 / (length - 1) if length > 1 else torch.zeros_like(first)
    return torch.stack([center, (last - first + 1) / length], dim=1).float()


def decode_spans(pointer: Tensor, length: int) -> Tensor:
    """The span that a pointer means: `[B, 2]` int64, first and last bar, inside the window. Inverts `encode_spans`.

    Args:
        pointer: `[B, 2]`, center and length in [0, 1].
        length: K.
    """
    center, share = pointer.double().unbind(dim=1)
    bars = (share * length).round().clamp(1, length)
    first = (center * (length - 1) - (bars - 1) / 2).round()
    first = torch.minimum(first.clamp(min=0), length - bars)
    return torch.stack([first, first + bars - 1], dim=1).long()
