"""Embeddings: one vector a window from a trained encoder, for models of the user's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from moola.data.dataset import FastWindowedDataset, StorePath, open_stores
from moola.data.device import DeviceWindowLoader
from moola.models.encoder import Encoder, pool
from moola.models.loading import load_encoder
from moola.models.weights import FeatureIdentity
from moola.publish import replacing_file
from moola.training.devices import place

__all__ = ["embed", "window_columns"]


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
    """Writes the pooled encoding of each window to a Parquet file.

    Its columns are `symbol`, `window_end` (the open time of the window's last bar, UTC) and `e0` … `e{2H−1}`, float32:
    the mean of the encoder's outputs over the window's valid bars. A row depends on no bar after its `window_end`.
    Memory is bounded by a batch.

    Args:
        run: A run of either kind, or a weights file.
        feature_dir: A feature store, or several, with the features that the encoder was trained on.
        output: The file to write; one that stands there is replaced once the new one is whole.
        split: Which windows; `all` are those of every bar.
        stride: Bars from one window to the next.
        window_length: K; the one that the encoder was trained with if not given.

    Raises `FeatureMismatchError` when the store's features are others, `WeightsError` for a run without an encoder, and
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
    loader = DeviceWindowLoader(dataset, batch_size, device=placement.device)
    encoder.to(placement.device)
    names = [f"e{i}" for i in range(encoder.output_size)]
    schema = pa.schema([*window_columns(), *((name, pa.float32()) for name in names)])
    with replacing_file(output) as staged, pq.ParquetWriter(staged, schema) as writer:
        done = 0
        for table in _embedded(encoder, loader, schema):
            writer.write_table(table)
            done += len(table)
            progress(done, len(dataset))
    return Path(output)


def window_columns() -> list[tuple[str, pa.DataType]]:
    """The columns that say which window a row is of."""
    return [("symbol", pa.string()), ("window_end", pa.timestamp("ns", tz="UTC"))]


def windows_of(dataset: FastWindowedDataset, numbers: Any) -> list[pa.Array]:
    """The values of :func:`window_columns` for these windows."""
    places = dataset.places(numbers)
    times = pa.array(places.last_timestamp).cast(pa.timestamp("ns")).cast(pa.timestamp("ns", tz="UTC"))
    return [pa.array(dataset.symbols_of(places), pa.string()), times]


def _embedded(encoder: Encoder, loader: DeviceWindowLoader, schema: pa.Schema) -> Iterator[pa.Table]:
    at = 0
    with torch.no_grad():
        for x, _, valid in loader:
            vectors: Tensor = pool(encoder(encoder.standardise(x), valid), valid).cpu()
            where = windows_of(loader.dataset, np.arange(at, at + len(x)))
            yield pa.table([*where, *map(pa.array, vectors.T.contiguous().numpy())], schema=schema)
            at += len(x)
