"""Windows, a market, and a cross-validation made once per process."""

from __future__ import annotations

from pathlib import Path

import pytest
from labelled import make_windows
from validated import jade

import moola
from moola.estimators import make_member
from moola.labels import LabelledWindows
from moola.validation import (
    CrossValidation,
    cross_validate,
)


@pytest.fixture(scope="session")
def windows() -> LabelledWindows:
    return make_windows(40)


@pytest.fixture(scope="session")
def found(windows: LabelledWindows) -> CrossValidation:
    members = {"regression": make_member("regression"), "jade_compact": jade()}
    return cross_validate(windows, members, repeats=2, seed=1)


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two symbols with bars at the same times."""
    folder = tmp_path_factory.mktemp("market")
    moola.make_bars(folder / "bars.parquet", 5_000, symbols=2)
    moola.build_features(folder / "bars.parquet", folder / "store", feature_set="ohlc4")
    return folder / "store"
