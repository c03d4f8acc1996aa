"""The train loader of `create_fast_dataloaders`, shuffled and with masks, against other ways to serve windows.

- **per sample**: a dataset over the dense array, a memory map of 7.6 GB, with one row and one `rng.choice` per sample and
  the default collate. The array is written first, so that as much of it as possible is in the page cache.
- **NumPy**: one index into `sliding_window_view` per batch, without masks. The view is of the flat array, so that a window
  is one run of bytes to copy. This is the fastest form we know.
- **memcpy**: as many bytes as a batch's X, copied in pieces of 4 KiB from random places of the features, by one thread.
- **plain DataLoader**: `DataLoader(dataset, batch_size=256, shuffle=True)` over moola's dataset, with torch's own
  collation and no workers.

K = 105, D = 10, batch 256. A turn of a side is a fixed number of batches, and the times per batch are compared. The
loader's turn is long, because it starts with up to 24 batches that were made ahead.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Iterator
from itertools import chain, islice, repeat

import numpy as np
import torch
from benchmark import BARS, WORK, Figure, free_bytes, interleaved, main, quartiles, sample_bars
from torch.utils.data import DataLoader, Dataset

import moola
from moola.data.fast_windowed_loader import create_fast_dataloaders

K, BATCH = 105, 256


class PerSample(Dataset):
    """One window per sample, as in the older pipeline."""

    def __init__(self, store: moola.FeatureStore) -> None:
        self.x, self.valid = store.features, store.valid
        self.rng = np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x, valid = np.array(self.x[i]), np.array(self.valid[i])
        mask = np.zeros(K, bool)
        positions = np.flatnonzero(valid)
        mask[self.rng.choice(positions, int(0.15 * len(positions)), replace=False)] = True
        return torch.from_numpy(x), torch.from_numpy(mask), torch.from_numpy(valid)


def turn(batches: Iterator[object], count: int) -> Callable[[], None]:
    """Takes `count` batches, and drops each when it has the next, as a training step does."""

    def take() -> None:
        for _ in islice(batches, count):
            pass

    return take


def measure(_: argparse.Namespace) -> list[Figure]:
    """All sides, in alternating order."""
    stores = {}
    for layout in ("bars", "windows"):
        path = WORK / f"served-{layout}"
        if not path.exists():
            needed = BARS * K * (10 * 4 + 1)
            if layout == "windows" and free_bytes() < 1.2 * needed:
                raise SystemExit(f"the dense array takes {needed / 1e9:.1f} GB: make room in {WORK}")
            moola.build_features(sample_bars(), path, stamp="open", layout=layout, window_length=K)
        stores[layout] = moola.FeatureStore.open(path)
    # Wait until the builds are on the disk, so that writing them back is not measured.
    os.sync()
    store = stores["bars"]
    features = np.asarray(store.features)
    width = features.shape[1]

    train = create_fast_dataloaders(store.path, batch_size=BATCH, seed=0).train
    windows = len(train.dataset)
    rng = np.random.default_rng(0)
    flat = np.lib.stride_tricks.sliding_window_view(features.reshape(-1), K * width)[::width]
    starts = train.dataset.places(np.arange(windows)).row

    def numpy_batches() -> Iterator[object]:
        while True:
            yield flat[starts[rng.integers(0, windows, BATCH)]]

    piece = 4096 // 4
    pieces = features.reshape(-1)[: features.size // piece * piece].reshape(-1, piece)
    target = np.empty((-(-BATCH * K * width // piece), piece), np.float32)

    def memcpy_batches() -> Iterator[object]:
        # NumPy's `take` is a loop of memcpy where rows are contiguous and indices need no check.
        while True:
            places = rng.integers(0, len(pieces), len(target))
            yield np.take(pieces, places, axis=0, out=target, mode="clip")

    def forever(loader: object) -> Iterator[object]:
        return chain.from_iterable(repeat(loader))  # type: ignore[arg-type]

    plain = DataLoader(moola.FastWindowedDataset(store.path), batch_size=BATCH, shuffle=True)
    per_sample = DataLoader(PerSample(stores["windows"]), batch_size=BATCH, shuffle=True)
    counts = {"loader": 2400, "NumPy": 400, "memcpy": 400, "plain DataLoader": 40, "per sample": 8}
    sides = {
        "loader": forever(train),
        "NumPy": numpy_batches(),
        "memcpy": memcpy_batches(),
        "plain DataLoader": forever(plain),
        "per sample": forever(per_sample),
    }
    rounds = interleaved({name: turn(sides[name], counts[name]) for name in sides}, rounds=11)

    def times(side: str, to: str, name: str, **claim: object) -> Figure:
        scale = counts[side] / counts[to]
        ratios = [r * scale for r in rounds.ratios(to, side)]
        per_second = {f"{s} windows/s": round(counts[s] * BATCH / rounds.median(s)) for s in (side, to)}
        return Figure(
            name,
            statistics.median(ratios),
            "x",
            "higher",
            spread=quartiles(ratios),
            detail=per_second,
            **claim,
        )  # type: ignore[arg-type]

    dense = f"per sample (dense, {BARS / 1e6:.1f}M bars)"
    return [
        times(
            "loader",
            "per sample",
            f"train loader: times as fast as {dense}",
            bound=25.0,
            claim="the train loader of `create_fast_dataloaders`, against a per-sample dataset over the dense array",
        ),
        times(
            "plain DataLoader",
            "per sample",
            f"plain DataLoader: times as fast as {dense}",
            bound=2.0,
            claim="a plain `DataLoader(dataset, batch_size=256, shuffle=True)` with default collate, no workers",
        ),
        times(
            "loader",
            "NumPy",
            "train loader: times as fast as NumPy's index, without masks",
            bound=1.0,
            claim="the train loader with masks, against NumPy's `sliding_window_view` batch index without masks",
        ),
        times(
            "loader",
            "memcpy",
            "train loader: times as fast as memcpy of 4 KiB pieces",
            bound=0.9,
            claim="the same in bytes per second, against copying as many bytes in 4 KiB pieces, one thread",
        ),
    ]


if __name__ == "__main__":
    main(measure)
