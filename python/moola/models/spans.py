"""Converts spans of bars to the pointer's two numbers in [0, 1] and back, and finds the span in per-bar logits."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["decode_spans", "encode_spans", "most_likely_spans", "visible_stretch"]

# The logit of a hidden bar. It outweighs the sum of all other logits.
_OUTSIDE = -1e6


def visible_stretch(valid: Tensor) -> tuple[Tensor, Tensor]:
    """`[B]` each: the first and last visible bar of `valid [B, K]`. If none is visible, 0 and K − 1."""
    marks = valid.byte()
    return marks.argmax(dim=1), valid.shape[1] - 1 - marks.flip(1).argmax(dim=1)


def encode_spans(spans: Tensor, length: int, valid: Tensor | None = None) -> Tensor:
    """The pointer's target: `[B, 2]`, center and length.

    For a span from bar s to bar e of a window of K bars: `center = (s + e)/2/(K − 1)`, `length = (e − s + 1)/K`; at
    K = 1 center is 0. The window runs from the first visible bar to the last. Hidden bars before and after it are
    padding and change nothing; hidden bars inside it count. A span is cut to the window. The target of a span of −1, −1
    (none) is meaningless and must be left out of the loss.

    Args:
        spans: `[B, 2]`, first and last bar, counted with all hidden bars.
        length: The number of bars, including hidden ones.
        valid: `[B, length]`, the visible bars; all if not given.
    """
    begin, bars = _windows(spans, length, valid)
    last_bar = (bars - 1)[:, None]
    first, last = torch.minimum((spans - begin[:, None]).clamp(min=0), last_bar).double().unbind(dim=1)
    center = (first + last) / 2 / (bars - 1).clamp(min=1)
    return torch.stack([center, (last - first + 1) / bars], dim=1).float()


def decode_spans(pointer: Tensor, length: int, valid: Tensor | None = None) -> Tensor:
    """The span of a pointer: `[B, 2]` int64, first and last bar, inside the visible part of the window.

    Inverts `encode_spans` with the same `length` and `valid`.

    Args:
        pointer: `[B, 2]`, center and length in [0, 1].
        length: The number of bars, including hidden ones.
        valid: `[B, length]`, the visible bars; all if not given.
    """
    begin, count = _windows(pointer, length, valid)
    center, share = pointer.double().unbind(dim=1)
    bars = torch.minimum((share * count).round().clamp(min=1), count)
    first = (center * (count - 1) - (bars - 1) / 2).round()
    first = torch.minimum(first.clamp(min=0), count - bars)
    return torch.stack([first, first + bars - 1], dim=1).long() + begin[:, None]


def _windows(given: Tensor, length: int, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """`[B]` each: the first bar of each window and its number of bars, without the padding around it."""
    if valid is None:
        return given.new_zeros(len(given), dtype=torch.int64), given.new_full(
            (len(given),), length, dtype=torch.int64
        )
    begin, end = visible_stretch(valid)
    return begin, end - begin + 1


def most_likely_spans(span_logits: Tensor, valid: Tensor | None = None) -> Tensor:
    """The most likely span for the log-odds of each bar: `[B, 2]` int64, first and last bar.

    If bars are independent, the likelihood of the span from s to e is proportional to the exponential of the sum of the
    logits from s to e. So the most likely span is the non-empty run of bars with the greatest sum (J. Bentley,
    "Algorithm design techniques", Communications of the ACM 27 (1984), 865–873).

    Args:
        span_logits: `[B, K]`, from :class:`moola.models.JadeOutput`.
        valid: `[B, K]`, the visible bars; all if not given. Hidden bars are in no span unless all are hidden.
    """
    logits = span_logits.double()
    if valid is not None:
        logits = torch.where(valid, logits, _OUTSIDE)
    sums = logits.cumsum(dim=1)
    before = torch.cat([torch.zeros_like(sums[:, :1]), sums[:, :-1]], dim=1)
    least, first = before.cummin(dim=1)
    last = (sums - least).argmax(dim=1, keepdim=True)
    return torch.cat([first.gather(1, last), last], dim=1)
