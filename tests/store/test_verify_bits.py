"""Verification finds every flipped bit: each bit of JSON, checksums and headers, and thousands in the data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tampering import (
    KINDS,
    LAYOUTS,
    copy,
    findings,
    found,
    seal,
)

from moola.store.layout import CHECKSUMS, METADATA, SPLITS
from moola.store.verify.report import verify_features


def flips(store: Path, name: str, bits: Iterator[int]) -> None:
    """Flips each bit on its own. Each flip is found and its file named."""
    names = [p.name for p in store.iterdir()]
    missed = []
    with open(store / name, "r+b", buffering=0) as file:
        for bit in bits:
            place = bit // 8
            (byte,) = os.pread(file.fileno(), 1, place)
            os.pwrite(file.fileno(), bytes([byte ^ 1 << bit % 8]), place)
            failed = findings(verify_features(store, reproducibility=False))
            os.pwrite(file.fileno(), bytes([byte]), place)
            details = " ".join(failed.values()).replace(str(store), "")
            # A size in the metadata may no longer fit. Then the file with this size is named.
            named = any(n in details for n in names) if name == METADATA else name in details
            if not failed or not named or not {"opens", "hashes"} & set(failed):
                missed.append((bit, failed))
    assert not missed, f"{name}: {len(missed)} flips not found or not named, the first {missed[0]}"


@pytest.mark.parametrize("part", range(8))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_flipped_bit_of_the_metadata_is_found(
    layout: str, part: int, built: Any, tmp_path: Path
) -> None:
    store, _ = copy(built("plain", layout), tmp_path)
    flips(store, METADATA, range(part, 8 * (store / METADATA).stat().st_size, 8))


@pytest.mark.parametrize("name", [SPLITS, CHECKSUMS])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_flipped_bit_of_splits_and_checksums_is_found(
    layout: str, name: str, built: Any, tmp_path: Path
) -> None:
    store, _ = copy(built("plain", layout), tmp_path)
    flips(store, name, range(8 * (store / name).stat().st_size))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_flipped_bit_of_the_headers_is_found(layout: str, built: Any, tmp_path: Path) -> None:
    store, _ = copy(built("panel", layout), tmp_path)
    arrays = sorted(p.name for p in store.glob("*.npy"))
    assert len(arrays) == (5 if layout == "bars" else 6)
    for name in arrays:
        flips(store, name, range(8 * 128))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_thousands_of_flipped_data_bits_are_found(kind: str, layout: str, built: Any, tmp_path: Path) -> None:
    store, _ = copy(built(kind, layout), tmp_path)
    rng = np.random.default_rng(3)
    for path in sorted(store.iterdir()):
        size = 8 * path.stat().st_size
        first = 8 * 128 if path.suffix == ".npy" else 0
        flips(store, path.name, iter(rng.integers(first, size, 200 if kind == "plain" else 100).tolist()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_flipped_bit_is_found_without_hashes(kind: str, layout: str, built: Any, tmp_path: Path) -> None:
    """Recomputing finds each flip in a feature, a mask, or a bar that affects features."""
    store, bars = copy(built(kind, layout), tmp_path)
    rng = np.random.default_rng(4)
    for path in sorted(store.glob("*.npy")):
        original = path.read_bytes()
        for bit in rng.integers(8 * 128, 8 * len(original), 15).tolist():
            flipped = bytearray(original)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            seal(store)
            failed = found(store, bars, samples=2)
            assert failed, (path.name, bit)
            # Only the source shows whether times, kept columns and the last bits of prices are right.
            if path.name not in ("timestamps.npy", "bars.npy", "extra.npy"):
                assert "recomputed" in failed, (path.name, bit, failed)
            else:
                assert path.name in failed["source"], (path.name, bit, failed)
        path.write_bytes(original)
    seal(store)
    assert verify_features(store, bars).ok
