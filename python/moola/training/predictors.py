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
    """Each feature's best constant: the one whose Huber error over all these bars is least.

    The error is convex in the constant, and its slope, the mean of differences clipped to ±δ, is zero at the best
    one: Newton's steps, kept within a bracket.

    Args:
        pieces: Arrays `[n, D]`, gone through several times.
        delta: δ of the Huber error.

    Returns `[D]`; zeros where there are no bars.
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
        # Every other step halves the bracket: where few bars are near, Newton's steps are short.
        step = constant + slope / np.maximum(inside, 1)
        newton = (step > low) & (step < high) & (inside > 0) & (attempt % 2 == 0)
        constant = np.where(newton, step, (low + high) / 2)
    return constant


def interpolate(x: Tensor, mask: Tensor, valid: Tensor | None = None) -> Tensor:
    """Linear interpolation, in time, of the nearest bars that are valid and not masked: `[B, K, D]`.

    Before the first such bar and after the last one, it is repeated; a window that has none gives zeros. Bars that
    are known are as they were.

    Args:
        x: `[B, K, D]`.
        mask: `[B, K]` bool.
        valid: `[B, K]` bool, or None where all is valid.
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
