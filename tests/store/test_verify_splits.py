"""Verification of splits that were changed and sealed again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tampering import (
    edit_json,
    edit_metadata,
    found,
    panel_bars,
)

import moola
from moola.splits import count_windows
from moola.store import FeatureStore
from moola.store.layout import SPLITS


def test_overlapping_splits_are_found(either: tuple[Path, Path]) -> None:
    store, _ = either

    def change(record: Any) -> None:
        ranges = record["splits"]["val"]["ranges"]
        ranges[0][0] -= 2
        record["splits"]["val"]["bars"] += 2
        with FeatureStore.open(store) as opened:
            record["splits"]["val"]["windows"] = count_windows(opened, ranges, opened.window_length)

    edit_json(store, SPLITS, lambda r: r.update(embargo=0))
    with FeatureStore.open(store) as opened:
        end = opened.splits["train"].ranges[0][1]
    edit_json(store, SPLITS, lambda r: r["splits"]["val"]["ranges"][0].__setitem__(0, int(end)))
    edit_json(
        store,
        SPLITS,
        lambda r: r["splits"]["val"].update(bars=sum(b - a for a, b in r["splits"]["val"]["ranges"])),
    )
    edit_json(store, SPLITS, change)
    assert "shares bars" in found(store)["splits"]


def test_a_changed_split_count_is_found(either: tuple[Path, Path]) -> None:
    store, _ = either
    for name in ("train", "val", "test"):
        edit_json(
            store, SPLITS, lambda r, n=name: r["splits"][n].update(windows=r["splits"][n]["windows"] + 1)
        )
        failed = found(store)
        assert set(failed) == {"splits"}
        assert f"{name} has " in failed["splits"]
        edit_json(
            store, SPLITS, lambda r, n=name: r["splits"][n].update(windows=r["splits"][n]["windows"] - 1)
        )
    assert found(store) == {}


def test_exchanged_splits_are_found(either: tuple[Path, Path]) -> None:
    store, _ = either

    def change(record: Any) -> None:
        splits = record["splits"]
        splits["val"], splits["test"] = splits["test"], splits["val"]

    edit_json(store, SPLITS, change)
    failed = found(store)
    assert set(failed) == {"splits"}
    assert "but the split before it ends at" in failed["splits"]


def test_a_shortened_split_is_found(either: tuple[Path, Path]) -> None:
    """Chronological, disjoint and correctly counted, but not cut where the options say."""
    store, _ = either

    def change(record: Any) -> None:
        train = record["splits"]["train"]
        train["ranges"][-1][1] -= 1
        train["bars"] -= 1
        with FeatureStore.open(store) as opened:
            train["windows"] = count_windows(opened, train["ranges"], opened.window_length)

    edit_json(store, SPLITS, change)
    failed = found(store)
    assert set(failed) == {"splits"}
    assert "from the options that it records" in failed["splits"]
    assert "splits.train" in failed["splits"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("purge", 1), ("embargo", 1), ("embargo", 10**30), ("fractions", [0.5, 0.25, 0.25]), ("fractions", None),
        ("fractions", [0.6, 0.2]), ("boundaries", []), ("boundaries", [1, 2, 3]), ("method", "dates"), ("other", 1),
        ("fractions", ["a", "b", "c"]),
    ],
)  # fmt: skip
def test_changed_split_options_are_found(panel: tuple[Path, Path], key: str, value: Any) -> None:
    store, _ = panel
    edit_json(store, SPLITS, lambda r: r.update({key: value}))
    assert set(found(store)) == {"splits"}


def test_changed_splits_by_dates_are_found(tmp_path: Path) -> None:
    options = {
        "train_end": "2024-01-01",
        "val_end": "2024-01-02",
        "test_end": "2024-01-03",
        "tz": "America/New_York",
    }
    bars = panel_bars()
    moola.build_features(bars, tmp_path / "s", window_length=6, config={"warmup_bars": 12}, **options)
    assert found(tmp_path / "s") == {}
    for key, value in (
        ("train_end", "2024-01-02"), ("val_end", "2023-12-31"), ("test_end", "2024-01-02"), ("tz", "UTC"),
        ("tz", "Nowhere"), ("train_end", None), ("train_end", 7),
    ):  # fmt: skip
        original = json.loads((tmp_path / "s" / SPLITS).read_bytes())
        edit_json(tmp_path / "s", SPLITS, lambda r, k=key, v=value: r.update({k: v}))
        assert set(found(tmp_path / "s")) == {"splits"}, (key, value)
        edit_json(tmp_path / "s", SPLITS, lambda r, o=original: r.update(o))
    assert found(tmp_path / "s") == {}


def test_a_changed_window_length_is_found(panel: tuple[Path, Path]) -> None:
    store, _ = panel
    for length in (5, 7, 1, 1 << 40, (1 << 63) - 1):
        edit_metadata(store, lambda m, n=length: m.update(window_length=n))
        assert "splits" in found(store)
