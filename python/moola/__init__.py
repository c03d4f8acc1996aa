"""moola: causal features on minute bars, computed once and served fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moola._core import __version__
from moola.lazy import lazy_names

if TYPE_CHECKING:
    from moola.build import build_features as build_features
    from moola.classifier import JadeClassifier as JadeClassifier
    from moola.config import FeatureConfig as FeatureConfig
    from moola.data.dataset import FastWindowedDataset as FastWindowedDataset
    from moola.errors import MoolaError as MoolaError
    from moola.features import FeatureStream as FeatureStream
    from moola.features import Swings as Swings
    from moola.features import compute_features as compute_features
    from moola.features import compute_swings as compute_swings
    from moola.prediction import predict as predict
    from moola.store import FeatureStore as FeatureStore
    from moola.synth import SampleMarket as SampleMarket
    from moola.synth import make_bars as make_bars
    from moola.training.finetune_run import finetune as finetune
    from moola.verify import verify_features as verify_features

# Where each public name lives. A name is imported when it is first used: `import moola` does no work.
_HOMES = {
    "FastWindowedDataset": "moola.data.dataset",
    "FeatureConfig": "moola.config",
    "FeatureStore": "moola.store",
    "FeatureStream": "moola.features",
    "JadeClassifier": "moola.classifier",
    "MoolaError": "moola.errors",
    "SampleMarket": "moola.synth",
    "Swings": "moola.features",
    "build_features": "moola.build",
    "compute_features": "moola.features",
    "compute_swings": "moola.features",
    "finetune": "moola.training.finetune_run",
    "make_bars": "moola.synth",
    "predict": "moola.prediction",
    "verify_features": "moola.verify",
}

__all__ = [
    "FastWindowedDataset",
    "FeatureConfig",
    "FeatureStore",
    "FeatureStream",
    "JadeClassifier",
    "MoolaError",
    "SampleMarket",
    "Swings",
    "__version__",
    "build_features",
    "compute_features",
    "compute_swings",
    "finetune",
    "make_bars",
    "predict",
    "verify_features",
]


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
