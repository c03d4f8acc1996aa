"""Fixtures of the tests in this room."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from label_files import LENGTHS, K
from tiny_store import build

import moola
from moola import FeatureStore
from moola.labels import LabelledWindows, read_labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("labels")


@pytest.fixture(scope="module")
def store(folder: Path) -> FeatureStore:
    """One series in three segments; the second is shorter than a window."""
    return build(folder / "store", lengths=LENGTHS, extra=2, window_length=K)


@pytest.fixture(scope="module")
def market(folder: Path) -> FeatureStore:
    """The sample market's two symbols, with planted expansions."""
    moola.make_bars(folder / "bars.parquet", 40_000, symbols=2, expansions=folder / "expansions.parquet")
    return moola.build_features(folder / "bars.parquet", folder / "market", stamp="open")


@pytest.fixture
def windows(store: FeatureStore) -> LabelledWindows:
    table = pa.table(
        {
            "window_end": [100, 105, 200, 218, 400, 400],
            "class": ["up", "down", "up", "none", "none", "none"],
            "start": [0, 3, 9, None, None, None],
            "end": [4, 3, 9, None, None, None],
            "weight": [1.0, 2.0, 0.5, 1.0, 1.0, 1.0],
        }
    )
    return read_labels(table, store)
