"""Verification against the bars that a store was built from, and against other bars."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tampering import (
    copy,
    edit_metadata,
    found,
)

import moola
from moola.errors import InputError, InputMissingError
from moola.store import FeatureStore
from moola.store.verify.report import verify_features


def changed(bars: Path, column: str, row: int, change: Callable[[float], float]) -> pa.Table:
    table = pq.read_table(bars)
    values = table[column].to_pylist()
    values[row] = change(values[row])
    array = pa.array(values, table[column].type)
    return table.set_column(table.column_names.index(column), column, array)


def row_in_store(store: Path, table: pa.Table, row: int) -> tuple[int, str]:
    """The row of the store for a row of the source, and its time as text."""
    time = table["timestamp"].cast(pa.int64())[row].as_py()
    symbol = table["symbol"][row].as_py() if "symbol" in table.column_names else ""
    with FeatureStore.open(store) as opened:
        for segment in opened.segments:
            if segment.symbol == symbol and segment.first_timestamp <= time <= segment.last_timestamp:
                rows = opened.timestamps[segment.first_row : segment.last_row + 1]
                words = np.datetime_as_string(np.datetime64(time, "ns"), unit="s") + "Z"
                return segment.first_row + int(np.searchsorted(rows, time)), words
    raise AssertionError("the store does not have this row")


def test_a_source_with_one_changed_price_is_found(either: tuple[Path, Path]) -> None:
    store, bars = either
    for row, column in ((0, "high"), (31, "high"), (59, "high")):
        table = changed(bars, column, row, lambda x: x + 0.25)
        failed = found(store, table)
        assert set(failed) == {"source"}
        at, time = row_in_store(store, table, row)
        assert f"bars.npy: row {at} at {time} is [" in failed["source"]
        assert ", the source says [" in failed["source"]


def test_a_source_with_another_kept_value_is_found(panel: tuple[Path, Path]) -> None:
    store, bars = panel
    table = changed(bars, "volume", 12, lambda x: x + 1)
    at, time = row_in_store(store, table, 12)
    assert f"extra.npy: row {at} at {time}" in found(store, table)["source"]


def test_a_source_without_its_last_bar_is_found(built: Any, tmp_path: Path) -> None:
    store, bars = copy(built("plain", "bars"), tmp_path)
    table = pq.read_table(bars)
    failed = found(store, table.slice(0, 59))
    assert set(failed) == {"source"}
    assert failed["source"] == (
        "the source ends before row 59 at 2024-01-01T00:59:00Z; it has 59 bars, the store 60"
    )
    more = changed(bars, "timestamp", 59, lambda t: t + np.timedelta64(60, "s"))
    more = pa.concat_tables([table, more.slice(59)])
    assert found(store, more)["source"] == (
        "the source goes on after the store's last row, with row 60 at 2024-01-01T01:00:00Z; "
        "it has 61 bars, the store 60"
    )
    failed = found(store, table.slice(1))
    assert (
        "row 0 at 2024-01-01T00:00:00Z is 2024-01-01T00:00:00Z, the source says 2024-01-01T00:01"
        in failed["source"]
    )
    assert "it has 59 bars, the store 60" in failed["source"]


def test_a_source_without_a_symbol_is_found(panel: tuple[Path, Path]) -> None:
    store, bars = panel
    table = pq.read_table(bars)
    for symbol in "ABC":
        failed = found(store, table.filter(pa.compute.not_equal(table["symbol"], symbol)))
        assert set(failed) == {"source"}
        assert "bars, the store 420" in failed["source"]
        assert " at 2024-01-01T" in failed["source"]


def test_a_source_of_other_bars_is_found(built: Any, tmp_path: Path) -> None:
    store, _ = copy(built("plain", "bars"), tmp_path)
    moola.make_bars(tmp_path / "other.parquet", 60)
    failed = found(store, tmp_path / "other.parquet")
    assert "timestamps.npy: row 0 at 2024-01-01T00:00:00Z is" in failed["source"]


def test_a_source_read_with_other_options_is_found(built: Any, tmp_path: Path) -> None:
    store, bars = copy(built("plain", "bars"), tmp_path)
    edit_metadata(store, lambda m: m["read_options"].update(stamp="close"))
    failed = found(store, bars)
    assert set(failed) == {"source"}
    assert "timestamps.npy: row 0 at 2024-01-01T00:00:00Z is" in failed["source"]
    edit_metadata(
        store, lambda m: m["read_options"].update(stamp="open", columns={"open": "close", "close": "open"})
    )
    assert "bars.npy: row" in found(store, bars)["source"]


def test_a_source_with_bad_bars_is_found(panel: tuple[Path, Path]) -> None:
    store, bars = panel
    failed = found(store, changed(bars, "close", 5, lambda x: float("nan")))
    assert set(failed) == {"source"}
    assert "NaN, null or infinite price: 1" in failed["source"]


def test_an_unreadable_source_is_an_error_before_any_check(panel: tuple[Path, Path], tmp_path: Path) -> None:
    """It says nothing about the store, and it is raised before any check."""
    store, _ = panel
    begun: list[str] = []
    with pytest.raises(InputMissingError, match=r"nowhere\.parquet"):
        verify_features(store, tmp_path / "nowhere.parquet", progress=lambda name, *_: begun.append(name))
    (tmp_path / "x.parquet").write_bytes(b"%PDF-1.7")
    with pytest.raises(InputError, match=r"x\.parquet"):
        verify_features(store, tmp_path / "x.parquet", progress=lambda name, *_: begun.append(name))
    assert begun == []


def test_a_source_in_another_format_is_verified(panel: tuple[Path, Path], tmp_path: Path) -> None:
    store, bars = panel
    table = pq.read_table(bars)
    assert verify_features(store, table).ok
    assert verify_features(store, table.to_pandas()).ok
    pq.write_table(table.slice(0, 200), tmp_path / "1.parquet")
    pq.write_table(table.slice(200), tmp_path / "2.parquet")
    report = verify_features(store, [tmp_path / "1.parquet", tmp_path / "2.parquet"])
    assert report.ok
    assert "1.parquet, " in report.checks[-1].detail
    reader = pa.RecordBatchReader.from_batches(table.schema, table.to_batches(50))
    assert verify_features(store, reader).ok


def test_no_temporary_files_remain(
    panel: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    store, bars = panel
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    assert verify_features(store, bars).ok
    assert found(store, changed(bars, "close", 5, lambda x: float("nan")))
    assert list((tmp_path / "temporary").iterdir()) == []
