"""Verification finds features that look ahead, in a store and in the engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tampering import (
    LAYOUTS,
    edit_array,
    features_of,
    findings,
    found,
)

from moola import _core
from moola.store import FeatureStore
from moola.store.verify.report import verify_features


def shifted(bars: np.ndarray, features: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    """Each bar's features are those of the next."""
    return np.concatenate([features[1:], features[-1:]])


def centred(bars: np.ndarray, features: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    """Prices smoothed with the bars around them, including the next one."""
    kernel = np.ones(3) / 3
    smooth = np.stack([np.convolve(np.pad(column, 1, "edge"), kernel, "valid") for column in bars.T])
    return _core.compute_features(*np.ascontiguousarray(smooth), **options)


def scaled(bars: np.ndarray, features: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    """Scaled by the mean of the whole series, as if it were known from the start."""
    return (features - features.mean(axis=0) * np.float32(1e-3)).astype(np.float32)


@pytest.mark.parametrize("leak", [shifted, centred, scaled])
def test_features_that_look_ahead_are_found(
    either: tuple[Path, Path], leak: Callable[..., np.ndarray]
) -> None:
    """Each of the three checks finds them on its own, from one sample."""
    store, bars = either
    with FeatureStore.open(store) as opened:
        parameters = tuple(opened.config.values())
        options = {"feature_set": opened.feature_set, "parameters": parameters}
        rows = np.zeros((len(opened), len(opened.feature_names)), np.float32)
        for segment in opened.segments:
            place = slice(segment.first_row, segment.last_row + 1)
            columns = np.ascontiguousarray(opened.bars[place].T)
            rows[place] = leak(opened.bars[place], _core.compute_features(*columns, **options), options)
        if opened.layout == "windows":
            rows = rows[opened.window_starts[:, None] + np.arange(opened.window_length)]
    edit_array(store, features_of(store), lambda x: x.__setitem__(..., rows))
    failed = found(store, bars, samples=1)
    assert {"recomputed", "streamed", "causal"} <= set(failed)
    assert "source" not in failed
    assert "differ" in failed["streamed"]
    assert "differ from those computed without the bars after" in failed["causal"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_engine_that_looks_ahead_is_found(
    layout: str, built: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the engine itself leaks, the store agrees with it. Rewriting the future reveals the leak."""

    class Leaking(_core.FeatureStream):
        def push_many(self, *columns: Any) -> Any:
            rows = super().push_many(*columns)
            # Of the rows but the last, the last feature knows the next close.
            rows[:-1, -1] += np.float32(1e-6) * columns[3][1:].astype(np.float32)
            return rows

    store, _ = built("panel", layout)
    assert verify_features(store).ok
    monkeypatch.setattr(_core, "FeatureStream", Leaking)
    failed = findings(verify_features(store, samples=1))
    assert set(failed) == {"causal"}


def test_an_engine_that_looks_one_bar_ahead_is_found(built: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Leaking(_core.FeatureStream):
        def push_many(self, *columns: Any) -> Any:
            rows = super().push_many(*columns)
            if len(rows) > 1000:  # only where there is a future
                rows[: -5_000 or None, 0] += 1
            return rows

    store, _ = built("panel", "bars")
    monkeypatch.setattr(_core, "FeatureStream", Leaking)
    failed = findings(verify_features(store, samples=1))
    assert "change when the bars after it do" in failed["causal"]
