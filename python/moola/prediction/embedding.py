"""Embeddings: one vector per window from a pre-trained or fine-tuned encoder, for the user's own models."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from moola.data.dataset import FastWindowedDataset
from moola.data.stores import StorePath, open_stores
from moola.devices.placement import place
from moola.models.encoder import pool
from moola.models.loading import load_encoder
from moola.models.weights import FeatureIdentity
from moola.prediction.rows import PredictionRows, RowWindows, write_parquet

__all__ = ["embed"]


def embed(
    run: str | os.PathLike[str],
    feature_dir: StorePath | Sequence[StorePath],
    output: str | os.PathLike[str],
    *,
    split: Literal["train", "val", "test", "all"] = "all",
    stride: int = 1,
    window_length: int | None = None,
    batch_size: int = 1024,
    device: str = "auto",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Writes the pooled encoding of each window to a Parquet file, and returns its path.

    Its columns are `symbol`, `window_end` (the open time of the window's last bar, UTC) and `e0` … `e{2H−1}`, float32:
    the mean of the encoder's outputs over the window's valid bars. A row depends on no bar after its `window_end`.
    Memory is bounded by a few batches.

    Args:
        run: A pre-training or fine-tuning run, or a weights file.
        feature_dir: A feature store, or several, with the features that the encoder was trained on.
        output: The file to write. An existing one is replaced once the new one is complete.
        split: The split to take windows from; `all` takes the windows of all bars.
        stride: Bars from one window to the next.
        window_length: K; the one that the encoder was trained with if not given.
        batch_size: Windows fetched at a time.
        device: `auto`, `cpu` or `cuda`.
        progress: Called with the number of windows done and of all windows.

    Raises `FeatureMismatchError` if the store has other features, `WeightsError` for a run without an encoder, and
    what :class:`moola.FastWindowedDataset` raises.
    """
    encoder = load_encoder(run)
    assert encoder.origin is not None
    stores = open_stores(feature_dir)
    extra = encoder.origin.features.extra
    for store in stores:
        encoder.origin.features.require(FeatureIdentity.of(store, extra), str(store.path))
    dataset = FastWindowedDataset(
        stores, split, window_length or encoder.origin.window_length, stride, mask_ratio=0, extra=extra
    )
    placement = place(device, "fp32")
    encoder.to(placement.device)

    def pooled(x: Tensor, valid: Tensor | None) -> Tensor:
        return pool(encoder(encoder.standardise(x), valid), valid)

    def vectors(values: NDArray[np.float32], _: RowWindows) -> list[pa.Array]:
        return list(map(pa.array, np.ascontiguousarray(values.T)))

    columns = [(f"e{i}", pa.float32()) for i in range(encoder.output_size)]
    table = PredictionRows(dataset, columns, pooled, vectors, batch_size=batch_size, device=placement.device)
    return write_parquet(table, output, progress)
