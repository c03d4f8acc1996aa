"""Two trivial predictors of masked bars. An encoder that does not beat them has learned nothing."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["best_constants", "interpolate"]

_PIECE = 1 << 18


def best_constants(pieces: Iterable[NDArray[np.float32]], delta: float = 1.0) -> NDArray[np.float64]:
    """Each feature's best constant: the one with the lowest Huber loss over all bars.

    The loss is convex in the constant, and its slope is the sum of differences clipped to ±δ. The root of the slope is
    found by Newton's method within a bracket.

    Args:
        pieces: Arrays `[n, D]` of bars. All are kept in memory.
        delta: δ of the Huber loss.

    Returns `[D]`; zeros if there are no bars.
    """
    whole = list(pieces)
    arrays = [piece[at : at + _PIECE] for piece in whole for at in range(0, len(piece), _PIECE)]
    rows = sum(map(len, arrays))
    if not rows:
        return np.zeros(whole[0].shape[1] if whole else 0)
    low = np.min([a.min(axis=0) for a in arrays], axis=0).astype(np.float64)
    high = np.max([a.max(axis=0) for a in arrays], axis=0).astype(np.float64)
    constant: NDArray[np.float64] = np.sum([a.sum(axis=0, dtype=np.float64) for a in arrays], axis=0) / rows
    for attempt in range(200):
        slope, inside = np.zeros_like(low), np.zeros_like(low)
        for a in arrays:
            d = a - constant
            inside += (np.abs(d) < delta).sum(axis=0)
            slope += np.clip(d, -delta, delta, out=d).sum(axis=0)
        low = np.where(slope >= 0, constant, low)
        high = np.where(slope <= 0, constant, high)
        if (np.abs(slope) <= 1e-9 * delta * rows).all():
            break
        # Every other step halves the bracket, because Newton's steps are short if few bars are within δ.
        step = constant + slope / np.maximum(inside, 1)
        newton = (step > low) & (step < high) & (inside > 0) & (attempt % 2 == 0)
        constant = np.where(newton, step, (low + high) / 2)
    return constant


def interpolate(x: Tensor, mask: Tensor, valid: Tensor | None = None) -> Tensor:
    """Fills bars by linear interpolation between the nearest visible bars: `[B, K, D]`.

    Visible bars are valid and not masked, and keep their values. The first and the last of them are repeated to the
    ends of the window. A window without visible bars gives zeros.

    Args:
        x: `[B, K, D]`.
        mask: `[B, K]` bool, the masked bars.
        valid: `[B, K]` bool; None if all bars are valid.
    """
    known = ~mask if valid is None else valid & ~mask
    steps = x.shape[1]
    number = torch.arange(steps, device=x.device).expand_as(known)
    before = torch.where(known, number, -1).cummax(dim=1).values
    after = torch.where(known, number, steps).flip(1).cummin(dim=1).values.flip(1)
    left = torch.where(before < 0, after, before).clamp(max=steps - 1)
    right = torch.where(after >= steps, before, after).clamp(min=0)
    share = (number - left) / (right - left).clamp(min=1)
    at_left, at_right = (x.gather(1, i[..., None].expand_as(x)) for i in (left, right))
    between = at_left + (at_right - at_left) * share[..., None].to(x.dtype)
    return between * known.any(dim=1)[:, None, None]
