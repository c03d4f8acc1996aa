"""moola: causal features on minute bars, computed once and served fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moola import moved
from moola._core import __version__
from moola.files.lazy import lazy_names

if TYPE_CHECKING:
    from moola.bars.market import SampleMarket as SampleMarket
    from moola.bars.market import make_bars as make_bars
    from moola.data.dataset import FastWindowedDataset as FastWindowedDataset
    from moola.errors.base import MoolaError as MoolaError
    from moola.estimators.jade import JadeClassifier as JadeClassifier
    from moola.features.compute import compute_features as compute_features
    from moola.features.stream import FeatureStream as FeatureStream
    from moola.features.swings import Swings as Swings
    from moola.features.swings import compute_swings as compute_swings
    from moola.finetuning.run import finetune as finetune
    from moola.prediction.windows import predict as predict
    from moola.settings.features import FeatureConfig as FeatureConfig
    from moola.store.build import build_features as build_features
    from moola.store.reader import FeatureStore as FeatureStore
    from moola.store.verify.report import verify_features as verify_features

# Where each public name lives. A name is imported when it is first used: `import moola` does no work.
_HOMES = {
    "FastWindowedDataset": "moola.data.dataset",
    "FeatureConfig": "moola.settings.features",
    "FeatureStore": "moola.store.reader",
    "FeatureStream": "moola.features.stream",
    "JadeClassifier": "moola.estimators.jade",
    "MoolaError": "moola.errors.base",
    "SampleMarket": "moola.bars.market",
    "Swings": "moola.features.swings",
    "build_features": "moola.store.build",
    "compute_features": "moola.features.compute",
    "compute_swings": "moola.features.swings",
    "finetune": "moola.finetuning.run",
    "make_bars": "moola.bars.market",
    "predict": "moola.prediction.windows",
    "verify_features": "moola.store.verify.report",
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

moved.install()
