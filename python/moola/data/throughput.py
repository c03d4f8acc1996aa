"""Measures how fast the loaders of a store serve windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from moola.data.fast_windowed_loader import Loaders, create_fast_dataloaders
from moola.errors import ConfigError

if TYPE_CHECKING:
    from moola.data.device import DeviceWindowLoader
    from moola.data.stores import StorePath

__all__ = ["OpenedLoaders", "Throughput", "check_seconds", "measure_throughput", "open_loaders"]


@dataclass(frozen=True, slots=True)
class OpenedLoaders:
    """Loaders of a store, and how long it took until the first batch was there."""

    loaders: Loaders
    seconds: float | None
    """From opening the store to the first batch of train; None where train has no full batch."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """What a loader served in a time."""

    batches: int
    batch_size: int
    batch_bytes: int
    masked: float
    """The share of valid bars that are masked, measured on every 16th batch."""
    seconds: float

    @property
    def windows_per_second(self) -> float:
        return self.batches * self.batch_size / self.seconds

    @property
    def bytes_per_second(self) -> float:
        return self.batches * self.batch_bytes / self.seconds


def open_loaders(
    feature_dir: StorePath | Sequence[StorePath], batch_size: int = 256, **options: Any
) -> OpenedLoaders:
    """Opens the loaders of :func:`create_fast_dataloaders` and takes a first batch from train.

    The arguments and errors are those of :func:`create_fast_dataloaders`.
    """
    started = perf_counter()
    loaders = create_fast_dataloaders(feature_dir, batch_size, **options)
    first = next(iter(loaders.train), None)
    return OpenedLoaders(loaders, None if first is None else perf_counter() - started)


def measure_throughput(loader: DeviceWindowLoader, seconds: float = 2.0) -> Throughput:
    """Serves batches for this many seconds, epoch after epoch, and at least one batch.

    Raises `ConfigError` when `seconds` is not positive and finite, or when the loader has no batch.
    """
    seconds = check_seconds(seconds)
    if not len(loader):
        raise ConfigError("batch_size", f"there is no batch of {loader.batch_size} windows; give fewer")
    batches = masked = valid = size = 0
    started = perf_counter()
    while not batches or perf_counter() - started < seconds:
        for x, mask, valid_mask in loader:
            batches += 1
            if batches % 16 == 1:
                masked, valid = masked + int(mask.sum()), valid + int(valid_mask.sum())
                size = x.nbytes + mask.nbytes + valid_mask.nbytes
            if perf_counter() - started >= seconds:
                break
    if loader.device.type == "cuda":
        torch.cuda.synchronize()
    return Throughput(batches, loader.batch_size, size, masked / valid, perf_counter() - started)


def check_seconds(seconds: float) -> float:
    """A time to measure for. Raises `ConfigError` unless it is positive and finite."""
    if not 0 < seconds < math.inf:
        raise ConfigError("seconds", f"{seconds:g} is not a time to serve for; give a positive number")
    return float(seconds)
