"""Dropout that a trainer can reproduce to the bit."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Dropout", "seed_dropout"]

_LEVELS = 1 << 16


class Dropout(nn.Module):
    """Inverted dropout with its own random generator. A checkpoint cannot save the state of cuDNN's dropout.

    Each element uses 16 random bits, so p is rounded to 1/65536; the scale of kept elements follows the rounded p. On a
    CPU this is several times as fast as torch's dropout, which draws one number at a time. Until a generator is set,
    the module draws from torch's default one.

    Args:
        p: The share of elements set to 0 in training.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self._kept = max(1, round((1 - p) * _LEVELS))
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """`x`, of any shape; in training, some elements are 0 and the others are scaled up."""
        if not self.training or self._kept == _LEVELS:
            return x
        # Each 64-bit integer is viewed as four 16-bit ones.
        words = torch.empty(math.ceil(x.numel() / 4), dtype=torch.int64, device=x.device)
        words.random_(-(1 << 63), None, generator=self.generator)
        bits = words.view(torch.int16)[: x.numel()].view(x.shape)
        keep = bits < self._kept - (_LEVELS >> 1)
        return x * keep * (_LEVELS / self._kept)

    def extra_repr(self) -> str:
        return f"p={self.p:g}"

    def __getstate__(self) -> dict[str, Any]:
        # A generator belongs to a device and a process.
        return self.__dict__ | {"generator": None}


def seed_dropout(model: nn.Module, *words: int) -> None:
    """Seeds all dropout of the model with these numbers, such as a seed, a step and a rank.

    The modules share one generator on the model's device, made on first use. Call this at each step: then the draws
    depend only on the numbers, and a checkpoint needs to store nothing else.
    """
    modules = [module for module in model.modules() if isinstance(module, Dropout)]
    device = next(model.parameters()).device
    generator = next((m.generator for m in modules if m.generator is not None), None)
    if generator is None or generator.device != device:
        generator = torch.Generator(device)
    text = " ".join(str(int(word)) for word in words).encode()
    generator.manual_seed(int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "little"))
    for module in modules:
        module.generator = generator
