"""Windows that are augmented when they are served, against reading windows that were warped earlier.

Both sides end with 256 windows on the device, K = 105, D = 10. moola gathers windows from a store of bars, which is
small and therefore in the page cache. It warps them on the device, with spans and valid bars, each with its own draw:

- **time warp**: every window is warped.
- **all**: `Augmentation` with its defaults.

Windows that were warped earlier are rows of a dense store. Five copies of five years' windows take 38 GB for the draws
of one epoch, so they come from the disk. Each further epoch needs 5 GB more per year. The values of the rows do not
affect the time to read them, so this benchmark reads a plain dense store.

- **disk**: random rows of a memory map. Nothing of it is in the page cache, and read-ahead is off, which is faster here.
- **page cache**: served by `FastWindowedDataset`, the fastest way we know, if all rows fit in memory. This is the case
  for few labelled windows, and for draws that never change. There is no claim: copying 4 KB is less work than any warp.
- **per sample**: from the page cache, one row per sample with torch's collation, as in the older pipeline.
"""

from __future__ import annotations

import argparse
import itertools
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from benchmark import WORK, Figure, Rounds, each, free_bytes, interleaved, main, ratio, sample_bars
from torch.utils.data import DataLoader, Dataset

import moola
from moola.augment import Augmentation, TimeWarp, feature_ranges, feature_scale, window_keys

K, BATCH, BARS = 105, 256, 300_000
BATCHES = 8
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class PerSample(Dataset):
    """One window per sample, from the dense array."""

    def __init__(self, store: moola.FeatureStore) -> None:
        self.x, self.valid = store.features, store.valid

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(np.array(self.x[i])), torch.from_numpy(np.array(self.valid[i]))


def measure(_: argparse.Namespace) -> list[Figure]:
    """All sides, in alternating order."""
    paths = {}
    for layout in ("bars", "windows"):
        path = paths[layout] = WORK / f"served-{layout}-{BARS}"
        if not path.exists():
            if free_bytes() < 3 * BARS * K * 40:
                raise SystemExit(
                    f"the dense array takes {BARS * K * 40 / 1e9:.1f} GB; make room for three times that"
                )
            moola.build_features(sample_bars(BARS), path, stamp="open", layout=layout, window_length=K)
    warps = warping(paths["bars"])
    memory = from_memory(warps, paths["windows"])
    disk = from_disk(warps, paths["windows"])

    where = f"{DEVICE.type}, {torch.get_num_threads()} threads" if DEVICE.type == "cpu" else DEVICE.type
    claim = "warping windows on the device, against reading windows that were warped beforehand"
    cached = "page cache, per sample"
    return [
        ratio(
            disk,
            "all",
            "disk",
            f"augment ({where}): time against reading, disk",
            "lower",
            bound=1.0,
            claim=claim,
        ),
        ratio(disk, "time warp", "disk", "time warp: time against reading, disk", "lower"),
        ratio(memory, "all", cached, f"augment: time against reading, {cached}", "lower"),
        ratio(memory, "time warp", cached, f"time warp: time against reading, {cached}", "lower"),
        ratio(memory, "all", "page cache", "augment: time against reading, page cache", "lower"),
        *(each(memory, side, f"  {side}: a batch", BATCHES, "ms") for side in memory.seconds),
        each(disk, "disk", "  disk: a batch", BATCHES, "ms"),
    ]


def synchronize() -> None:
    """Waits for the device."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def warping(path: Path) -> dict[str, Callable[[], None]]:
    """The sides that warp."""
    dataset = moola.FastWindowedDataset(path)
    augmentation = Augmentation(feature_scale(dataset), feature_ranges(dataset)).to(DEVICE)
    spans = torch.tensor([[40, 60]]).repeat(BATCH, 1).to(DEVICE)
    rng = np.random.default_rng(0)
    epochs = itertools.count()

    def side(warp: torch.nn.Module) -> Callable[[], None]:
        def run() -> None:
            for _ in range(BATCHES):
                numbers = rng.integers(0, len(dataset), BATCH)
                x, _, valid = (tensor.to(DEVICE) for tensor in dataset.batch(numbers))
                keys = window_keys(0, next(epochs), torch.from_numpy(numbers).to(DEVICE))
                warp(x, keys, spans, valid)
            synchronize()

        return run

    return {"time warp": side(TimeWarp(p=1.0)), "all": side(augmentation)}


def from_memory(warps: dict[str, Callable[[], None]], path: Path) -> Rounds:
    """Compares warping with a dense store in the page cache, served in both ways."""
    rng = np.random.default_rng(1)
    dataset = moola.FastWindowedDataset(path)
    samples = PerSample(dataset.stores[0])

    def batches() -> None:
        for _ in range(BATCHES):
            for tensor in dataset.batch(rng.integers(0, len(dataset), BATCH)):
                tensor.to(DEVICE)
        synchronize()

    def per_sample() -> None:
        order = rng.integers(0, len(samples), BATCH * BATCHES).tolist()
        for batch in DataLoader(samples, batch_size=BATCH, sampler=order):
            for tensor in batch:
                tensor.to(DEVICE)
        synchronize()

    return interleaved(warps | {"page cache": batches, "page cache, per sample": per_sample})


def from_disk(warps: dict[str, Callable[[], None]], path: Path) -> Rounds:
    """Compares warping with a dense array that is not in the page cache. No other process may have it mapped."""
    rng = np.random.default_rng(2)
    with moola.FeatureStore.open(path) as store:
        shape, size = store.features.shape, store.features.nbytes
    file = path / f"features_{shape[2]}d.npy"
    offset = file.stat().st_size - size

    def read() -> None:
        with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            mapped.madvise(mmap.MADV_RANDOM)
            rows = np.frombuffer(mapped, np.float32, offset=offset).reshape(shape)
            for _ in range(BATCHES):
                torch.from_numpy(rows[rng.integers(0, len(rows), BATCH)]).to(DEVICE)
            del rows
        synchronize()

    def forget() -> None:
        with open(file, "rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    return interleaved(warps | {"disk": read}, between=forget)


if __name__ == "__main__":
    main(measure)
