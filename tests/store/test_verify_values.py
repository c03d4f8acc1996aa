"""Verification of values that were changed and sealed again: features, bars, masks, and their records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tampering import (
    MINUTE,
    edit_array,
    edit_metadata,
    features_of,
    found,
    seal,
)

from moola.files.json import dump_json
from moola.store import FeatureStore
from moola.store.layout import METADATA


def test_a_changed_feature_value_is_found(either: tuple[Path, Path]) -> None:
    store, _ = either
    name = features_of(store)

    def change(x: np.ndarray) -> None:
        x.reshape(-1, x.shape[-1])[30, 2] = np.nextafter(x.reshape(-1, x.shape[-1])[30, 2], np.float32(0.25))

    edit_array(store, name, change)
    # All windows are streamed here, and all cuts made.
    failed = found(store, samples=10_000)
    assert set(failed) == {"recomputed", "streamed", "causal"}
    assert name in failed["recomputed"]
    assert FeatureStore.open(store).feature_names[2] in failed["recomputed"]
    assert " is stored, " in failed["recomputed"]
    assert FeatureStore.open(store).feature_names[2] in failed["streamed"]
    assert set(found(store, reproducibility=False)) == set()


def test_rows_are_named_with_their_times(panel: tuple[Path, Path]) -> None:
    store, _ = panel
    times = FeatureStore.open(store).timestamps
    edit_array(store, "features.npy", lambda x: np.negative(x, out=x, where=np.arange(len(x))[:, None] == 33))
    when = np.datetime_as_string(np.datetime64(int(times[33]), "ns"), unit="s") + "Z"
    failed = found(store, samples=10_000)
    for check in ("recomputed", "streamed", "causal"):
        assert f"row 33 at {when}" in failed[check], failed[check]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_a_feature_out_of_its_range_is_found(either: tuple[Path, Path], value: float) -> None:
    store, _ = either
    with FeatureStore.open(store) as opened:
        low = [f["low"] for f in opened.metadata["features"]]
        column = next((i for i, x in enumerate(low) if x is not None), 0)
        name = opened.feature_names[column]
    if np.isfinite(value) and low[column] is None:
        pytest.skip("no feature of this set has a range")
    edit_array(store, features_of(store), lambda x: x.reshape(-1, x.shape[-1])[-1].__setitem__(column, value))
    failed = found(store, reproducibility=False)
    assert set(failed) == {"ranges"}
    assert features_of(store) in failed["ranges"]
    assert name in failed["ranges"]


@pytest.mark.parametrize(
    "bar",
    [(100, 99, 98, 99), (np.nan, 1, 1, 1), (1, 2, -1, 1), (1, np.inf, 1, 1), (1, 2, 1, 3), (0, 0, 0, 0)],
)
def test_a_stored_bar_that_is_not_a_bar_is_found(panel: tuple[Path, Path], bar: tuple[float, ...]) -> None:
    store, _ = panel
    edit_array(store, "bars.npy", lambda x: x.__setitem__(77, bar))
    failed = found(store)
    assert "bars.npy: row 77 at 2024-01-01T" in failed["ranges"]
    assert "refused" in failed["recomputed"]


def test_a_changed_bar_price_is_found(panel: tuple[Path, Path]) -> None:
    store, bars = panel

    def change(x: np.ndarray) -> None:
        x[50, 1] += 0.25

    edit_array(store, "bars.npy", change)
    failed = found(store, bars)
    assert {"recomputed", "source"} <= set(failed)
    assert "bars.npy: row 50 at 2024-01-01T" in failed["source"]


def test_a_changed_kept_value_is_found(panel: tuple[Path, Path]) -> None:
    store, bars = panel
    edit_array(store, "extra.npy", lambda x: x.__setitem__((9, 0), np.nan))
    assert set(found(store)) == {"ranges"}
    edit_array(store, "extra.npy", lambda x: x.__setitem__((9, 0), 1234.5))
    failed = found(store, bars)
    assert set(failed) == {"source"}
    assert "extra.npy: row 9 at 2024-01-01T" in failed["source"]


def test_a_changed_mask_bit_is_found(panel: tuple[Path, Path]) -> None:
    store, _ = panel
    edit_array(store, "valid.npy", lambda x: x.__setitem__(100, not x[100]))
    failed = found(store)
    assert set(failed) == {"masks", "recomputed"}
    assert "valid.npy: row 100 at 2024-01-01T" in failed["masks"]


def test_a_mask_value_other_than_0_or_1_is_found(panel: tuple[Path, Path]) -> None:
    store, _ = panel
    edit_array(store, "valid.npy", lambda x: x.view(np.uint8).__setitem__(100, 2))
    failed = found(store)
    assert {"masks", "recomputed"} <= set(failed)
    assert "has 2" in failed["masks"]


def test_a_changed_mask_of_a_window_is_found(dense: tuple[Path, Path]) -> None:
    store, _ = dense
    edit_array(store, "valid_mask.npy", lambda x: x.__setitem__((10, 0), not x[10, 0]))
    failed = found(store)
    assert set(failed) == {"masks", "recomputed"}
    assert "valid_mask.npy: window 10" in failed["masks"]


def test_a_changed_window_start_is_found(dense: tuple[Path, Path]) -> None:
    store, _ = dense
    edit_array(store, "window_starts.npy", lambda x: x.__setitem__(10, x[10] + 1))
    failed = found(store)
    assert {"masks", "recomputed"} <= set(failed)
    assert "window_starts.npy: window 10 " in failed["masks"]


@pytest.mark.parametrize("by", [1, -1])
def test_a_changed_first_valid_row_is_found(either: tuple[Path, Path], by: int) -> None:
    store, _ = either

    def change(metadata: Any) -> None:
        segment = metadata["segments"][0]
        segment["first_valid"] += by

    edit_metadata(store, change)
    failed = found(store)
    assert {"masks", "recomputed"} <= set(failed)
    assert "first_valid of segment 0" in failed["recomputed"] or "windows" in failed["recomputed"]


def test_missing_first_valid_rows_are_found(panel: tuple[Path, Path]) -> None:
    store, _ = panel
    edit_metadata(store, lambda m: [s.update(first_valid=None) for s in m["segments"]])
    failed = found(store)
    assert {"masks", "splits", "recomputed", "streamed", "causal"} <= set(failed)
    assert "no window" in failed["streamed"]


def test_a_first_valid_row_within_the_warm_up_is_found(panel: tuple[Path, Path]) -> None:
    """Masks and segments that agree with one another, but not with the warm-up."""
    store, _ = panel
    row = FeatureStore.open(store).segments[0].first_valid
    assert row is not None
    edit_array(store, "valid.npy", lambda x: x.__setitem__(row - 1, True))
    edit_metadata(store, lambda m: m["segments"][0].update(first_valid=row - 1))
    assert "warm-up" in found(store)["masks"]


def test_changed_feature_names_and_ranges_are_found(either: tuple[Path, Path]) -> None:
    store, _ = either

    def swap(metadata: Any) -> None:
        metadata["features"][:2] = metadata["features"][1::-1]

    for change in (
        swap,
        lambda m: m["features"][0].update(name="x"),
        lambda m: m["features"][0].update(low=-1e9),
        lambda m: m["features"][-1].update(high=1e9),
        lambda m: m.update(feature_set="relativity_10"),
    ):
        original = json.loads((store / METADATA).read_bytes())
        edit_metadata(store, change)
        assert "identity" in found(store)
        (store / METADATA).write_bytes(dump_json(original))
        seal(store)
    assert found(store) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("atr_period", 4),
        ("range_ema_period", 21),
        ("zigzag_k", 1.5),
        ("swing_time_scale", 50.0),
        ("warmup_bars", 15),
    ],
)
def test_changed_parameters_are_found(panel: tuple[Path, Path], name: str, value: float) -> None:
    store, _ = panel
    edit_metadata(store, lambda m: m["parameters"].update({name: value}))
    assert "recomputed" in found(store)


@pytest.mark.parametrize("value", [-1, 1 << 32, 1 << 70, 1e400, "3", None, [], {}, 0, 1.5])
def test_invalid_parameters_are_found(panel: tuple[Path, Path], value: Any) -> None:
    store, _ = panel
    if value == 1e400:
        value = 1e308
    edit_metadata(store, lambda m: m["parameters"].update(atr_period=value))
    failed = found(store)
    assert {"identity", "recomputed", "streamed", "causal"} <= set(failed)


def test_missing_and_added_parameters_are_found(panel: tuple[Path, Path]) -> None:
    store, _ = panel
    edit_metadata(store, lambda m: m["parameters"].update(other=1))
    assert set(found(store)) == {"identity"}
    edit_metadata(store, lambda m: [m["parameters"].pop(name) for name in ("other", "atr_period")])
    assert "identity" in found(store)


def test_a_changed_known_after_value_is_found(panel: tuple[Path, Path]) -> None:
    store, _ = panel
    edit_metadata(store, lambda m: m["known_after"]["features"].update(body_signed=1))
    failed = found(store)
    assert set(failed) == {"recomputed"}
    assert "known_after" in failed["recomputed"]


def test_changed_read_options_are_found(panel: tuple[Path, Path]) -> None:
    store, bars = panel
    edit_metadata(store, lambda m: m["read_options"].update(keep=[]))
    assert "identity" in found(store)
    edit_metadata(store, lambda m: m["read_options"].update(keep=["volume"], reset_on_gap="2h"))
    assert {"identity", "times", "quality"} <= set(found(store))
    # With the source it is a finding too, not an error.
    assert {"identity", "source"} <= set(found(store, bars))
    edit_metadata(store, lambda m: m["read_options"].update(reset_on_gap=MINUTE))
    assert {"times", "source"} <= set(found(store, bars))
