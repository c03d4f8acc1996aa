"""Bars to build stores from, in every form, and checks of a build."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from moola import _core
from moola.errors import BarError, StaleStoreError
from moola.store import FeatureStore
from moola.store.build import build_features

MINUTE = 60 * 10**9
START = int(np.datetime64("2024-05-06T13:30", "ns").astype(np.int64))
PRICES = ("open", "high", "low", "close")
SMALL: dict[str, Any] = {"window_length": 20, "config": {"warmup_bars": 10}}
"""Options with which a few hundred bars have windows in every split."""


def table(n: int = 300, seed: int = 3, **columns: Any) -> pa.Table:
    """n bars, minute by minute; `columns` replace or add, None removes."""
    _, *prices, volume = _core.SampleBars(seed).take(n)
    usual: dict[str, Any] = {"timestamp": times(START + np.arange(n) * MINUTE)}
    usual |= dict(zip(PRICES, prices, strict=True)) | {"volume": volume}
    return pa.table({name: column for name, column in (usual | columns).items() if column is not None})


def times(nanoseconds: Any, tz: str | None = "UTC") -> pa.Array:
    return pa.array(np.asarray(nanoseconds, np.int64), pa.timestamp("ns", tz))


def changed(column: str, changes: Mapping[int, Any], data: pa.Table | None = None) -> pa.Table:
    """The bars with other values in one column: row (from 0) to value."""
    data = table() if data is None else data
    place = data.schema.get_field_index(column)
    values = data[column].to_pylist() if column != "timestamp" else data[column].cast(pa.int64()).to_pylist()
    for row, value in changes.items():
        values[row] = value
    kind = data[column].type if column == "timestamp" else pa.float64()
    return data.set_column(place, column, pa.array(values, kind))


class Source(NamedTuple):
    """Bars in one of the accepted forms."""

    what: Any
    name: str
    """What messages call it."""
    is_csv: bool

    def at(self, row: int) -> str:
        """The name of a row in messages, counted from 1."""
        return f"{self.name}, row {row}" + (f" (line {row + 1})" if self.is_csv else "")


FILES = ("parquet", "csv", "csv.gz", "arrow")
FORMS = (*FILES, "pyarrow", "pandas", "polars")


def source(data: pa.Table, form: str, folder: Path, name: str = "bars") -> Source:
    if form not in FILES:
        what = {"pyarrow": lambda: data, "pandas": data.to_pandas, "polars": lambda: pl.from_arrow(data)}[
            form
        ]()
        return Source(what, f"<{form}.{type(what).__name__}>", False)
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.{form}"
    match form:
        case "parquet":
            pq.write_table(data, path)
        case "csv":
            pyarrow.csv.write_csv(data, path)
        case "csv.gz":
            with pa.CompressedOutputStream(str(path), "gzip") as stream:
                pyarrow.csv.write_csv(data, stream)
        case "arrow":
            with pa.ipc.new_file(path, data.schema) as writer:
                writer.write_table(data)
    return Source(path, str(path), form.startswith("csv"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refused(
    bars: Any, folder: Path, *substance: str, error: type[Exception] = BarError, **options: Any
) -> Any:
    """The error of a build. Its message must contain `substance`, and the build must leave nothing."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(error) as caught:
        build_features(bars, folder / "new" / "store", **options)
    message = str(caught.value)
    for part in substance:
        assert part in message, message
    assert sorted(folder.rglob("*")) == before
    return caught.value


def read_store(store: FeatureStore) -> dict[str, Any]:
    """The bytes of every array, and the metadata."""
    files = {path.name: path.read_bytes() for path in store.path.iterdir() if path.suffix == ".npy"}
    return files | {
        "segments": store.segments,
        "splits": (store.path / "splits.json").read_text(),
        "quality": store.metadata["quality"],
    }


def built(bars: Any, path: Path, **options: Any) -> dict[str, Any]:
    """The result of a build. The build must leave only the store, which is not kept."""
    with build_features(bars, path, **options) as store:
        assert [name for name in names(path.parent) if "moola" in name or name == path.name] == [path.name]
        result = read_store(store)
    shutil.rmtree(path)
    return result


def check_sound(path: Path) -> FeatureStore:
    """Opens a store and checks every hash in it."""
    store = FeatureStore.open(path)
    for name, known in store.checksums().items():
        assert store.hash(name) == known, name
    return store


def check_sound_or_replaced(path: Path) -> FeatureStore:
    """The same for a store that may be replaced at the same time: its files may then lose their names, but
    nothing else."""
    with FeatureStore.open(path) as store:
        try:
            for name, known in store.checksums().items():
                assert store.hash(name) == known, name
        except StaleStoreError:
            with pytest.raises(StaleStoreError):
                store.reopen()
    return store
