"""The feature store: built from bars, opened in milliseconds, verified and inspected. It knows no model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moola.files.lazy import lazy_names

if TYPE_CHECKING:
    from moola.store.build import build_features as build_features
    from moola.store.inspect.summary import inspect_store as inspect_store
    from moola.store.reader import FeatureStore as FeatureStore
    from moola.store.segments import Segment as Segment
    from moola.store.splits import Split as Split
    from moola.store.verify.report import verify_features as verify_features

_HOMES = {
    "FeatureStore": "moola.store.reader",
    "Segment": "moola.store.segments",
    "Split": "moola.store.splits",
    "build_features": "moola.store.build",
    "inspect_store": "moola.store.inspect.summary",
    "verify_features": "moola.store.verify.report",
}

__all__ = ["FeatureStore", "Segment", "Split", "build_features", "inspect_store", "verify_features"]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
