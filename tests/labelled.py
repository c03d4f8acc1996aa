"""Labelled windows made for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from moola.labels import LabelledWindows


def make_windows(
    n: int = 40,
    *,
    bars: int = 24,
    seed: int = 0,
    step: int | None = None,
    of_store: bool = True,
    **fields: Any,
) -> LabelledWindows:
    """Windows of two features, every second of which hides a ramp.

    One begins `step` bars after the other: they share bars where that is less than `bars`, and groups say so.
    """
    rng = np.random.default_rng(seed)
    step = bars + 10 if step is None else step
    X = rng.standard_normal((n, bars, 2)).astype(np.float32)
    y = rng.permutation(np.arange(n) % 2)
    spans = np.full((n, 2), -1)
    for i in np.flatnonzero(y):
        first = rng.integers(2, bars - 8)
        X[i, first : first + 8, 0] += np.linspace(0.5, 4, 8)
        spans[i] = first, first + 7
    starts = np.arange(n) * step
    valid = np.ones((n, bars), np.bool_)
    valid[:, :2] = False
    values: dict[str, Any] = {
        "X": X,
        "valid_mask": valid,
        "y": y.astype(np.int64),
        "classes": ("none", "up"),
        "spans": spans,
        "weight": np.ones(n),
        "symbols": np.full(n, "ES"),
        "starts": starts,
        "ends": starts + bars - 1,
        "times": (starts + bars - 1) * 60_000_000_000,
        "first_times": starts * 60_000_000_000,
        "groups": np.arange(n),
        "splits": None,
        "feature_names": ("a", "b"),
        "feature_set": "ohlc4",
        "parameters": {},
        "window_length": bars,
        "store_id": "store" if of_store else "",
    }
    return LabelledWindows(**values | fields)
