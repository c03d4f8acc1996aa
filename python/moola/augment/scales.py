"""The standard deviations and ranges of features, for augmentation."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from moola.data.dataset import FastWindowedDataset
from moola.errors import ConfigError
from moola.models.training_bars import training_bars

__all__ = ["feature_ranges", "feature_scale"]

# Bars in a block. Its float64 copy takes a few MB.
_BLOCK = 1 << 16


def feature_scale(dataset: FastWindowedDataset) -> Tensor:
    """Each column's standard deviation over the valid bars of a train dataset, `[D]` float32.

    Summed in float64, block by block, by the update of Chan, Golub and LeVeque, *Updating Formulae and a Pairwise
    Algorithm for Computing Sample Variances* (1979). Each bar counts once, even if it lies in several windows.

    Raises `ConfigError` for a dataset of another split or without valid bars.
    """
    if dataset.split != "train":
        problem = f"is of {dataset.split}, but the scale must come from training bars"
        raise ConfigError("dataset", f"{problem}; give the dataset of train")
    width = len(dataset.feature_names)
    count, mean, squares = 0, np.zeros(width), np.zeros(width)
    for piece in training_bars(dataset):
        for at in range(0, len(piece), _BLOCK):
            bars = piece[at : at + _BLOCK].astype(np.float64)
            size, center = len(bars), bars.mean(axis=0)
            apart = center - mean
            squares += ((bars - center) ** 2).sum(axis=0) + apart**2 * (count * size / (count + size))
            mean += apart * (size / (count + size))
            count += size
    if not count:
        raise ConfigError("dataset", "has no valid bar; build with more bars, or with a shorter warm-up")
    return torch.from_numpy(np.sqrt(squares / count).astype(np.float32))


def feature_ranges(dataset: FastWindowedDataset) -> Tensor:
    """Each column's lowest and highest value by definition, `[D, 2]` float32; ±inf for kept columns and no bound."""
    bounds = [(feature.get("low"), feature.get("high")) for feature in dataset.stores[0].metadata["features"]]
    bounds += [(None, None)] * len(dataset.extra)
    return torch.tensor(
        [(-math.inf if low is None else low, math.inf if high is None else high) for low, high in bounds]
    )
