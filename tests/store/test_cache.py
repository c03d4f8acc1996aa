"""The cache of stores: everything that determines a store is part of its key."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from builds import SMALL, table

from moola.errors import InputError, InputMissingError
from moola.settings.features import FeatureConfig
from moola.store.cache import cached_store


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOOLA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bars(tmp_path: Path) -> Path:
    pq.write_table(table(), tmp_path / "bars.parquet")
    return tmp_path / "bars.parquet"


def copy(bars: Path, *parts: str) -> Path:
    path = bars.parent.joinpath(*parts, bars.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(bars, path)
    return path


def symbols(what: Any) -> list[str]:
    with cached_store(what, **SMALL) as store:
        return [segment.symbol for segment in store.segments]


@pytest.mark.parametrize("above", [(), ("data", "exchange=CME")])
def test_the_same_bytes_of_two_symbols_are_two_stores(bars: Path, above: tuple[str, ...]) -> None:
    for symbol in ("ES", "NQ"):
        path = copy(bars, *above, f"symbol={symbol}")
        assert symbols(path) == symbols(path.parent) == [symbol]


def test_a_store_is_built_once(bars: Path, cache: Path) -> None:
    with cached_store(bars, **SMALL) as first, cached_store(bars, progress=print, **SMALL) as second:
        assert first.id == second.id
    config = FeatureConfig(**SMALL["config"])
    with cached_store([bars], **SMALL | {"config": config}) as third:
        assert third.id == first.id, "a configuration counts by its values"
    assert len(list(cache.iterdir())) == 1
    # A copy elsewhere gives the same store, as long as no directory says more about it.
    with cached_store(copy(bars, "elsewhere"), **SMALL) as fourth:
        assert fourth.id == first.id


def test_options_configuration_and_order_decide(tmp_path: Path, bars: Path, cache: Path) -> None:
    later = tmp_path / "bars_2.parquet"
    pq.write_table(table(600).slice(300), later)
    ids = set()
    for what, options in (
        (bars, {}),
        (bars, {"stamp": "close"}),
        (bars, {"config": {"warmup_bars": 11}}),
        (bars, {"window_length": 21}),
        ([bars, later], {}),
        ([later, bars], {"sort": True}),
        ([bars, later], {"sort": True}),
    ):
        with cached_store(what, **SMALL | options) as store:
            ids.add(store.id)
    assert len(ids) == len(list(cache.iterdir())) == 7


def test_the_build_reports_an_unreadable_source(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="there is no such file"):
        cached_store(tmp_path / "none.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no Parquet, CSV or Arrow files"):
        cached_store(tmp_path / "empty")
