"""moola: causal features on minute bars, computed once and served fast."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from moola._core import __version__

if TYPE_CHECKING:
    from moola.build import build_features as build_features
    from moola.config import FeatureConfig as FeatureConfig
    from moola.data.dataset import FastWindowedDataset as FastWindowedDataset
    from moola.errors import MoolaError as MoolaError
    from moola.features import FeatureStream as FeatureStream
    from moola.features import Swings as Swings
    from moola.features import compute_features as compute_features
    from moola.features import compute_swings as compute_swings
    from moola.store import FeatureStore as FeatureStore
    from moola.synth import SampleMarket as SampleMarket
    from moola.synth import make_bars as make_bars
    from moola.verify import verify_features as verify_features

# Where each public name lives. A name is imported when it is first used: `import moola` does no work.
_HOMES = {
    "FastWindowedDataset": "moola.data.dataset",
    "FeatureConfig": "moola.config",
    "FeatureStore": "moola.store",
    "FeatureStream": "moola.features",
    "MoolaError": "moola.errors",
    "SampleMarket": "moola.synth",
    "Swings": "moola.features",
    "build_features": "moola.build",
    "compute_features": "moola.features",
    "compute_swings": "moola.features",
    "make_bars": "moola.synth",
    "verify_features": "moola.verify",
}

__all__ = [
    "FastWindowedDataset",
    "FeatureConfig",
    "FeatureStore",
    "FeatureStream",
    "MoolaError",
    "SampleMarket",
    "Swings",
    "__version__",
    "build_features",
    "compute_features",
    "compute_swings",
    "make_bars",
    "verify_features",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'moola' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
