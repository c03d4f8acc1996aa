"""Measures after how many bars a feature no longer depends on where its series began."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from moola import _core
from moola.store.segments import Segment

__all__ = ["known_after"]


# Restarts, bars of extra history, bars compared after each restart, and the tolerance of the comparison.
_RESTARTS, _HISTORY, _COMPARED, _TOLERANCE = 8, 2_000, 1_000, 1e-3


def known_after(
    folder: Path,
    segments: list[Segment],
    feature_set: str,
    engine_parameters: tuple[int, int, float, float, int, int] | None,
    allow_nonpositive: bool = False,
) -> dict[str, Any]:
    """Measures after how many bars each feature no longer depends on where the series began.

    The features are computed from several places in the longest segment, once from there on and once with 2,000 more
    bars of history. A feature is known from the bar after which the two agree within 1e-3.
    """
    options: dict[str, Any] = {
        "feature_set": feature_set,
        "parameters": engine_parameters,
        "allow_nonpositive": allow_nonpositive,
    }
    names = [name for name, _, _ in _core.describe_features(feature_set, engine_parameters)]
    longest = max(segments, key=lambda segment: segment.last_row - segment.first_row)
    bars = longest.last_row - longest.first_row + 1
    history = min(_HISTORY, bars // 2)
    compared = min(_COMPARED, bars - history)
    mapped = np.memmap(folder / "bars.npy", "<f8", "r", 128, (segments[-1].last_row + 1, 4))
    places = {longest.first_row + k * (bars - history - compared) // _RESTARTS for k in range(_RESTARTS)}
    after = np.zeros(len(names), dtype=np.int64)
    for place in sorted(places):
        columns = np.ascontiguousarray(mapped[place : place + history + compared].T)
        full = _core.compute_features(*columns, **options)[history:]
        fresh = _core.compute_features(*columns[:, history:].copy(), **options)
        differs = np.abs(full.astype(np.float64) - fresh) > _TOLERANCE
        last = compared - np.argmax(differs[::-1], axis=0)
        after = np.maximum(after, np.where(differs.any(axis=0), last, 0))
    return {
        "restarts": len(places),
        "bars_compared": compared,
        "tolerance": _TOLERANCE,
        "features": {name: int(n) if n < compared else None for name, n in zip(names, after, strict=True)},
    }
