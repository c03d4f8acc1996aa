"""Features of bars in memory: whole columns at once, or live, bar by bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moola.files.lazy import lazy_names

if TYPE_CHECKING:
    from moola.features.compute import compute_features as compute_features
    from moola.features.stream import FeatureStream as FeatureStream
    from moola.features.swings import Swings as Swings
    from moola.features.swings import compute_swings as compute_swings

_HOMES = {
    "FeatureStream": "moola.features.stream",
    "Swings": "moola.features.swings",
    "compute_features": "moola.features.compute",
    "compute_swings": "moola.features.swings",
}

__all__ = ["FeatureStream", "Swings", "compute_features", "compute_swings"]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
