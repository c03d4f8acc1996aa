"""Draws masks with torch on any device, with the same bits as the engine.

The definition stands in the engine, `rust/moola-core/src/windows/masks.rs`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from moola.data.hashing import item_hashes

__all__ = ["draw_masks"]

_LOWEST = -(1 << 63)
_HIGHEST = (1 << 63) - 1


def _ordered_hashes(keys: Tensor, items: int) -> Tensor:
    """`[B, items]`, in the order of unsigned numbers when compared as signed ones."""
    return item_hashes(keys, items) ^ _LOWEST


def _ranks(hashes: Tensor) -> Tensor:
    return hashes.argsort(dim=1, stable=True).argsort(dim=1)


def draw_masks(keys: Tensor, valid: Tensor, ratio: float, patch: int = 0) -> Tensor:
    """The masks of a batch, `[B, K]` bool.

    Args:
        keys: `[B]` int64, the windows' keys, bit by bit those of the engine.
        valid: `[B, K]` bool.
        ratio: The share of valid positions that are masked.
        patch: The length of a run; 0 masks single positions.
    """
    length = valid.shape[1]
    count = valid.sum(1)
    masked = torch.floor(count.double() * ratio).long()
    if not patch:
        hashes = _ordered_hashes(keys, length).masked_fill(~valid, _HIGHEST)
        # The sort is stable, so a valid hash of the highest value would come after invalid ones before it. Only one
        # of 2⁶⁴ hashes has that value.
        return (_ranks(hashes) < masked[:, None]) & valid

    runs = (masked + (patch - 1)) // patch
    items = (count - masked + runs)[:, None]
    number = torch.arange(length, device=valid.device)
    there = number < items
    rank = _ranks(_ordered_hashes(keys, length).masked_fill(~there, _HIGHEST))
    is_run = (rank < runs[:, None]) & there
    short = (masked - (runs - 1) * patch)[:, None]
    covers = torch.where(is_run, torch.where(rank == runs[:, None] - 1, short, patch), 1) * there
    begins = covers.cumsum(1) - covers
    # Along the valid positions, +1 where a run begins and −1 where it ends.
    edges = torch.zeros((len(valid), length + 1), dtype=torch.int64, device=valid.device)
    edges.scatter_add_(1, begins, is_run.long())
    edges.scatter_add_(1, begins + covers * is_run, -is_run.long())
    in_run = edges.cumsum(1) > 0
    ordinal = (valid.cumsum(1) - 1).clamp(min=0)
    return in_run.gather(1, ordinal) & valid
