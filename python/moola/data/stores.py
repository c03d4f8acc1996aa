"""The stores that a dataset serves: opening them, and checking that they belong together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from moola.errors import ConfigError
from moola.settings.whole_numbers import whole_number
from moola.store.reader import FeatureStore

__all__ = ["StoreHandle", "StorePath", "check_alike", "open_stores", "window_length_of"]

StorePath: TypeAlias = str | os.PathLike[str] | FeatureStore
"""Where a store is, or the store itself."""


@dataclass(frozen=True, slots=True)
class StoreHandle:
    """A store on disk, which each process opens for itself."""

    path: Path
    id: str

    def open(self) -> FeatureStore:
        return FeatureStore.open(self.path, expected_id=self.id)


def open_stores(feature_dir: StorePath | Sequence[StorePath]) -> list[FeatureStore]:
    """One store or several, open. Raises `ConfigError` for none, and what :meth:`FeatureStore.open` raises."""
    given = [feature_dir] if isinstance(feature_dir, str | os.PathLike | FeatureStore) else feature_dir
    if not (
        isinstance(given, Sequence) and all(isinstance(p, str | os.PathLike | FeatureStore) for p in given)
    ):
        raise TypeError(
            f"feature_dir must be the path of a store, a FeatureStore, or a sequence of them, not {feature_dir!r}"
        )
    stores = [path if isinstance(path, FeatureStore) else FeatureStore.open(path) for path in given]
    if not stores:
        raise ConfigError("feature_dir", "is empty; give a feature store, or several")
    return stores


def check_alike(stores: Sequence[FeatureStore]) -> None:
    """Raises `ConfigError` unless all stores have the same features with the same configuration."""
    first = stores[0]
    for store in stores[1:]:
        for what in ("feature_set", "feature_names", "config"):
            one, other = getattr(first, what), getattr(store, what)
            if one != other:
                problem = f"{store.path} has {what} {other}, but {first.path} has {one}"
                raise ConfigError("feature_dir", f"{problem}; build them with the same features")


def window_length_of(stores: Sequence[FeatureStore], given: int | None) -> int:
    """The window length to serve: the one given, or the default that the stores share."""
    lengths = sorted({store.window_length for store in stores})
    if given is None:
        if len(lengths) > 1:
            listed = ", ".join(map(str, lengths))
            raise ConfigError("window_length", f"the stores' defaults differ ({listed}); give one")
        return lengths[0]
    length = whole_number("window_length", given, 1)
    for store in stores:
        if store.layout == "windows" and store.window_length != length:
            problem = f"{store.path} holds windows of {store.window_length} bars, not {length}"
            raise ConfigError("window_length", f"{problem}; build with --layout bars to have every length")
    return length
