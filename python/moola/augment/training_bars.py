"""What augmentation has to know of the features: how much they vary over training bars, and their ranges."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moola.data.dataset import FastWindowedDataset
from moola.errors import ConfigError
from moola.store import FeatureStore

__all__ = ["feature_ranges", "feature_scale"]

# Bars at a time: some MB.
_BLOCK = 1 << 16


def feature_scale(dataset: FastWindowedDataset) -> Tensor:
    """Each feature's standard deviation over the valid training bars of the dataset's stores, `[D]` float32.

    Summed in float64, block by block, by the update of Chan, Golub and LeVeque, *Updating Formulae and a Pairwise
    Algorithm for Computing Sample Variances* (1979). Each bar counts once, whatever the layout and the stride.

    Raises `ConfigError` for a dataset of another split than train, or without a valid bar.
    """
    if dataset.split != "train":
        problem = f"is of {dataset.split}, whose bars a model must not know"
        raise ConfigError("dataset", f"{problem}; give the dataset of train")
    width = len(dataset.feature_names)
    count, mean, squares = 0, np.zeros(width), np.zeros(width)
    for store, columns in zip(dataset.stores, dataset.columns, strict=True):
        for bars in _training_bars(store, columns):
            size = len(bars)
            if not size:
                continue
            center = bars.mean(0)
            apart = center - mean
            squares += ((bars - center) ** 2).sum(0) + apart**2 * (count * size / (count + size))
            mean += apart * (size / (count + size))
            count += size
    if not count:
        raise ConfigError("dataset", "has no valid training bar; give more bars, or a shorter warm-up")
    return torch.from_numpy(np.sqrt(squares / count).astype(np.float32))


def feature_ranges(dataset: FastWindowedDataset) -> Tensor:
    """Each feature's lowest and highest value by its definition, `[D, 2]` float32; ±inf where it has none."""
    bounds = [(feature.get("low"), feature.get("high")) for feature in dataset.stores[0].metadata["features"]]
    bounds += [(None, None)] * len(dataset.extra)
    ranges = [(-math.inf if low is None else low, math.inf if high is None else high) for low, high in bounds]
    return torch.tensor(ranges, dtype=torch.float32)


def _training_bars(store: FeatureStore, columns: list[int]) -> Iterator[NDArray[np.float64]]:
    """The valid bars of train, features and these columns of `extra`, in blocks."""
    features, valid, starts = store.features, store.valid, store.window_starts
    for begin, end in store.splits["train"].ranges.tolist():
        for at in range(begin, end, _BLOCK):
            rows = np.arange(at, min(at + _BLOCK, end))
            if starts is None:
                rows = rows[valid[rows]]
                block = features[rows]
            else:
                # Of the windows that hold a bar, the last.
                window = np.searchsorted(starts, rows, side="right") - 1
                position = rows - starts[window]
                there = (window >= 0) & (position < store.window_length)
                rows, window, position = rows[there], window[there], position[there]
                there = valid[window, position]
                rows, block = rows[there], features[window[there], position[there]]
            if columns and store.extra is not None:
                block = np.concatenate([block, store.extra[rows][:, columns]], axis=1)
            yield block.astype(np.float64)
