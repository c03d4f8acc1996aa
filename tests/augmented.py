"""Candles and modules shared by several tests of augmentation."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moola.augment import Jitter, MagnitudeWarp, TimeWarp, window_keys

K = 105


def keys_of(count: int, seed: int = 0) -> Tensor:
    return window_keys(seed, 0, torch.arange(count))


@lru_cache(maxsize=4)
def make_candles(count: int, length: int = K, seed: int = 0) -> Tensor:
    """Random walks on a grid of ticks, where highs and lows often equal opens and closes. `[count, length, 4]`."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(-3, 4, (count, length, 4))
    close = 4000 + steps[..., 0].cumsum(1)
    open = close - steps[..., 1]
    high = np.maximum(open, close) + np.maximum(steps[..., 2], 0)
    low = np.minimum(open, close) - np.maximum(steps[..., 3], 0)
    return torch.from_numpy(np.stack([open, high, low, close], 2) * 0.25).float()


def assert_candles(x: Tensor) -> None:
    open, high, low, close = x.unbind(-1)
    assert bool((low > 0).all())
    for price in (open, close):
        assert bool(((low <= price) & (price <= high)).all())


MODULES: dict[str, Any] = {
    "jitter": lambda **o: Jitter(torch.tensor([1.0, 2.0, 0.5, 3.0]), **o),
    "magnitude": lambda **o: MagnitudeWarp(**o),
    "time": lambda **o: TimeWarp(**o),
    "jitter of candles": lambda **o: Jitter(candles=True, **o),
    "magnitude of candles": lambda **o: MagnitudeWarp(candles=True, **o),
}
