"""The training bars of a dataset. Predictors and scalers are fitted on them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from moola.data.dataset import FastWindowedDataset
from moola.models.encoder import Encoder

__all__ = ["hides_bars", "standardise_extra", "standardise_kept", "training_bars"]


def standardise_extra(encoder: Encoder, dataset: FastWindowedDataset) -> None:
    """Sets the encoder's shift and scale to the mean and deviation of each kept column over the training bars."""
    names = dataset.extra
    if not names:
        return
    count, total, square = 0, np.zeros(len(names)), np.zeros(len(names))
    pieces = list(_training_rows(dataset))
    for store, first, last in pieces:
        values = _extra_of(dataset, store, first, last)
        count, total = count + len(values), total + values.sum(axis=0)
    mean = total / max(count, 1)
    for store, first, last in pieces:
        square += ((_extra_of(dataset, store, first, last) - mean) ** 2).sum(axis=0)
    _standardise(encoder, mean, np.sqrt(square / max(count, 1)))


def standardise_kept(
    encoder: Encoder, x: NDArray[np.float32], valid: NDArray[np.bool_], columns: int
) -> None:
    """Sets the encoder's shift and scale for kept columns to their mean and deviation over valid training bars.

    A loaded encoder keeps the values it was pre-trained with.

    Args:
        encoder: The encoder to change.
        x: `[n, K, D]`, training windows.
        valid: `[n, K]`, their valid bars.
        columns: The number of kept columns, the last ones of `x`.
    """
    if not columns or encoder.origin is not None:
        return
    bars = x[valid][:, -columns:].astype(np.float64)
    _standardise(encoder, bars.mean(axis=0), bars.std(axis=0))


def _standardise(encoder: Encoder, mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> None:
    encoder.shift[-len(mean) :] = torch.from_numpy(mean)
    # A constant column becomes 0.
    encoder.scale[-len(mean) :] = torch.from_numpy(np.where(deviation > 0, deviation, 1))


def hides_bars(dataset: FastWindowedDataset) -> bool:
    """Whether any window has a hidden bar. Most splits have none; then masks need not be read."""
    stores = dataset.stores
    return any(
        not (stores[s].valid[first : last + 1] if stores[s].layout == "bars" else stores[s].valid).all()
        for _, s, first, last in dataset.stretches()
    )


def _extra_of(dataset: FastWindowedDataset, store: int, first: int, last: int) -> NDArray[np.float64]:
    extra = dataset.stores[store].extra
    assert extra is not None
    return extra[first : last + 1][:, dataset.columns[store]].astype(np.float64)


def _training_rows(dataset: FastWindowedDataset) -> Iterator[tuple[int, int, int]]:
    """Disjoint stretches of a dataset's bars, each as its store's number, first row and last row."""
    reached: dict[int, int] = {}
    for _, store, first, last in dataset.stretches():
        first = max(first, reached.get(store, -1) + 1)
        if first <= last:
            yield store, first, last
            reached[store] = last


def training_bars(dataset: FastWindowedDataset) -> Iterator[NDArray[np.float32]]:
    """Yields the valid bars of a dataset in pieces `[n, D]`, with kept columns. Each bar occurs once."""
    for number, first, last in _training_rows(dataset):
        store = dataset.stores[number]
        features, valid = store.bar_features(first, last)
        if dataset.extra:
            extra = _extra_of(dataset, number, first, last).astype(np.float32)
            features = np.concatenate([features, extra], axis=1)
        yield features if valid.all() else features[valid]
