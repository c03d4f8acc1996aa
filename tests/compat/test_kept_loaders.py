"""Saved states of loaders: they continue with the next batches, to the bit."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import moola
from moola.data.fast_windowed_loader import create_fast_dataloaders, create_strided_dataloaders
from moola.data.windowed_loader import WindowedConfig, create_dataloaders


def states(kept: Path) -> dict[str, Any]:
    return json.loads((kept / "loaders" / "states.json").read_text())


def digest(array: Any) -> str:
    """SHA-256 of an array's type, shape and bytes, as in `make.py`."""
    array = np.ascontiguousarray(array)
    return hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()


def check(loader: Any, served: dict[str, Any]) -> None:
    loader.load_state_dict(served["state"])
    assert loader.dataset.seed == served["state"]["seed"]
    found: list[list[str]] = []
    while len(found) < len(served["batches"]):
        before = len(found)
        for batch in loader:
            found.append([digest(part.numpy()) for part in batch])
            if len(found) == len(served["batches"]):
                break
        assert len(found) > before
    assert found == served["batches"]


LOADERS = ("train", "patches", "rank", "weights", "several", "windows", "strided")


@pytest.mark.parametrize("name", LOADERS)
def test_a_state_continues_in_mid_epoch(name: str, kept: Path) -> None:
    of = states(kept)["stores"][name]
    make = create_strided_dataloaders if of["strided"] else create_fast_dataloaders
    # The seed comes from the state.
    loaders = make(**of["options"] | {"seed": 0})
    splits = [split for split in ("train", "val") if split in of]
    assert "train" in splits
    for split in splits:
        check(getattr(loaders, split), of[split])


def test_a_state_of_bars_in_memory_continues(kept: Path) -> None:
    of = states(kept)["memory"]
    config = WindowedConfig.from_yaml("configs/windows.yaml")
    loaders = create_dataloaders(pq.read_table("bars/one.parquet"), config, **of["options"] | {"seed": 0})
    for split in ("train", "val"):
        check(getattr(loaders, split), of[split])


def test_all_states_are_tested(kept: Path) -> None:
    assert set(states(kept)["stores"]) == set(LOADERS)


def test_a_dataset_serves_the_same_windows_and_masks(kept: Path) -> None:
    of = states(kept)["dataset"]
    for name in ("val", "train, epoch 2"):
        split, _, epoch = name.partition(", epoch ")
        dataset = moola.FastWindowedDataset("stores/market", split, *of["options"], seed=of["seed"])
        if epoch:
            dataset.set_epoch(int(epoch))
        for number, digests in of[name].items():
            assert [digest(part.numpy()) for part in dataset[int(number)]] == digests, f"{name}, {number}"
