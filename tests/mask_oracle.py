"""The definition of masks in Python's integers, and arrays of bars for drawing windows."""

from __future__ import annotations

import math

import numpy as np

from moola import _core

MASK64 = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(z: int) -> int:
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK64
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK64
    return z ^ z >> 31


def fold(h: int, x: int) -> int:
    return mix(h + GOLDEN * x & MASK64)


def fnv1a(name: str) -> int:
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 & MASK64
    return h


def expected_mask(
    valid: np.ndarray, *, seed: int, epoch: int, symbol: str, time: int, ratio: float, patch: int = 0
) -> np.ndarray:
    """The documented definition, in Python's integers."""
    key = GOLDEN
    for word in (seed, epoch, fnv1a(symbol), len(valid), time & MASK64):
        key = fold(key, word)
    positions = np.flatnonzero(valid)
    masked = math.floor(ratio * len(positions))
    mask = np.zeros(len(valid), bool)
    if not patch:
        order = sorted(positions.tolist(), key=lambda t: mix(key + GOLDEN * (t + 1) & MASK64))
        mask[order[:masked]] = True
        return mask
    runs = -(-masked // patch)
    items = len(positions) - masked + runs
    order = sorted(range(items), key=lambda j: mix(key + GOLDEN * (j + 1) & MASK64))
    covers = dict.fromkeys(order[:runs], patch)
    if runs:
        covers[order[runs - 1]] = masked - (runs - 1) * patch
    at = 0
    for item in range(items):
        mask[positions[at : at + covers.get(item, 0)]] = True
        at += covers.get(item, 1)
    return mask


def frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def column(dtype: type, *values: int) -> np.ndarray:
    return np.array(values, dtype)


class Arrays:
    """A store of 400 bars. The first 7 and some in the middle are not valid."""

    def __init__(self, bars: int = 400, width: int = 3, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.features = frozen(rng.random((bars, width), dtype=np.float32))
        valid = np.arange(bars) >= 7
        valid[50:53] = False
        self.valid = frozen(valid.view(np.uint8))
        self.times = frozen(np.cumsum(rng.integers(1, 5, bars)) - 100)
        self.extra = frozen(rng.random((bars, 4), dtype=np.float32))

    def windows(
        self, length: int, *, stride: int = 1, symbol: str = "", columns: tuple[int, ...] = ()
    ) -> _core.Windows:
        count = (len(self.times) - length) // stride + 1
        return _core.Windows(
            [(self.features, self.valid, self.times, self.extra, columns, False)],
            (
                column(np.uint64, count),
                column(np.uint64, 0),
                column(np.uint64, 0),
                column(np.uint32, 0),
                column(np.uint64, _core.symbol_hash(symbol)),
            ),
            length,
            stride,
            self.features.shape[1],
        )


def empty(size: int, length: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # Filled with values that must not remain.
    return (
        np.full((size, length, width), np.nan, np.float32),
        np.full((size, length), 9, np.uint8),
        np.full((size, length), 9, np.uint8),
    )


def masks(windows: _core.Windows, numbers: list[int], length: int, **options: float) -> np.ndarray:
    settings = {"seed": 0, "epoch": 0, "ratio": 0.15, "patch": 0} | options
    batch = empty(len(numbers), length, 3)
    windows.fill(np.array(numbers, np.int64), [batch], **settings)
    return batch[1].astype(bool)
