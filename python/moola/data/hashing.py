"""Random bits by integer arithmetic with torch on any device: the same hashes as the engine's.

The definition stands in the engine, `rust/moola-core/src/keys.rs`. Not every device can multiply and compare
unsigned 64-bit integers, so the arithmetic is done in int64. Its additions and multiplications wrap to the same bits;
shifts and comparisons are made unsigned by hand.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["GOLDEN", "fold", "item_hashes", "mix", "shift", "signed"]


def signed(word: int) -> int:
    """The int64 with the same lowest 64 bits as this word."""
    word &= (1 << 64) - 1
    return word - (1 << 64) if word >= 1 << 63 else word


GOLDEN = signed(0x9E3779B97F4A7C15)
_FIRST = signed(0xBF58476D1CE4E5B9)
_SECOND = signed(0x94D049BB133111EB)


def shift(z: Tensor, bits: int) -> Tensor:
    """Shifts to the right and fills with zeros."""
    shifted = z >> bits
    shifted &= (1 << (64 - bits)) - 1
    return shifted


def mix(z: Tensor) -> Tensor:
    """A bijection on 64 bits in which every bit of the input moves half of the output's."""
    # In place from here on: fresh memory costs the CPU more than the arithmetic.
    z = z ^ shift(z, 30)
    z *= _FIRST
    z ^= shift(z, 27)
    z *= _SECOND
    z ^= shift(z, 31)
    return z


def fold(h: Tensor, x: Tensor | int) -> Tensor:
    """Adds one word to the hash `h`."""
    return mix(h + (signed(GOLDEN * x) if isinstance(x, int) else x * GOLDEN))


def item_hashes(keys: Tensor, items: int) -> Tensor:
    """`[B, items]` int64, the hashes of a key's items. Two items of a key never share a hash."""
    numbers = torch.arange(1, items + 1, dtype=torch.int64, device=keys.device) * GOLDEN
    return mix(keys[:, None] + numbers)
