"""Stores that tests tamper with, and processes that build."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from build_processes import Builders
from builds import (
    table,
)
from tampering import BARS, KINDS, LAYOUTS, OPTIONS, copy

import moola


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], tuple[Path, Path]]:
    """The store of a kind in a layout, and its bars. Tests must not change them."""

    @cache
    def build(kind: str, layout: str) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp(f"{kind}-{layout}")
        pq.write_table(BARS[kind](), folder / "bars.parquet")
        moola.build_features(
            folder / "bars.parquet", folder / "store", layout=layout, stamp="open", **OPTIONS[kind]
        ).close()
        return folder / "store", folder / "bars.parquet"

    return build


@pytest.fixture(params=[(k, y) for k in KINDS for y in LAYOUTS], ids=lambda p: "-".join(p))
def either(request: pytest.FixtureRequest, built: Any, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of each store, and its bars."""
    return copy(built(*request.param), tmp_path)


@pytest.fixture
def panel(built: Any, tmp_path: Path) -> tuple[Path, Path]:
    return copy(built("panel", "bars"), tmp_path)


@pytest.fixture
def dense(built: Any, tmp_path: Path) -> tuple[Path, Path]:
    return copy(built("panel", "windows"), tmp_path)


@pytest.fixture(scope="module")
def builders() -> Iterator[Builders]:
    server = Builders()
    yield server
    server.server.communicate(timeout=30)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80,000 bars of each of two symbols, interleaved: more than one batch."""
    path = tmp_path_factory.mktemp("bars") / "bars.parquet"
    n = 80_000
    parts = [table(n, seed, symbol=[f"S{seed}"] * n) for seed in (1, 2)]
    both = pa.concat_tables(parts).take(np.arange(2 * n).reshape(2, -1).T.ravel())
    pq.write_table(both, path)
    return path
