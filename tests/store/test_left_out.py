"""Bars that --drop-bad-bars leaves out: how many, which, and where they are written."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from builds import FORMS, MINUTE, SMALL, START, changed, names, refused, source, table, times

import moola
from moola.errors import BarError, ConfigError
from moola.store.build import build_features


def kept(bars: Any, folder: Path, **options: Any) -> tuple[int, int]:
    """Bars of the store, and bars left out."""
    with build_features(
        bars, folder / "kept", overwrite=True, drop_bad_bars=True, **SMALL, **options
    ) as store:
        return len(store), store.metadata["quality"]["dropped_bad_bars"]


@pytest.mark.parametrize("form", FORMS)
def test_three_impossible_bars_are_left_out_and_four_are_refused(tmp_path: Path, form: str) -> None:
    bad = {7: -0.0001, 50: 0.0, 200: 1e300}
    three = source(changed("low", bad), form, tmp_path / "in", "three")
    assert kept(three.what, tmp_path) == (297, 3)
    assert moola.verify_features(tmp_path / "kept", three.what).ok
    four = source(changed("low", bad | {90: -1.0}), form, tmp_path / "in", "four")
    error = refused(
        four.what,
        tmp_path,
        "4 bars refused",
        f"{four.at(8)}, at 2024-05-06T13:37:00Z: low = -0.0001",
        "4 of 300 bars are more than --drop-bad-bars leaves out (3 bars, or --max-bad 0.001 of them)",
        "the columns are probably wrong",
        "--max-bad 0.014",
        drop_bad_bars=True,
        **SMALL,
    )
    assert error.counts == {"out_of_range": 4}
    # The advice works.
    assert kept(four.what, tmp_path, max_bad=0.014) == (296, 4)
    assert moola.verify_features(tmp_path / "kept", four.what).ok


def test_the_share_counts_where_it_is_more_than_three_bars(tmp_path: Path) -> None:
    bad = {100 * i + 5: -1.0 for i in range(6)}
    bars = changed("low", bad, table(6000))
    assert kept(bars, tmp_path) == (5994, 6)
    refused(
        changed("low", bad | {900: -1.0}, table(6000)), tmp_path, "--max-bad", drop_bad_bars=True, **SMALL
    )


def test_a_column_of_zeros_is_refused_and_missing_values_are_not(tmp_path: Path) -> None:
    zeros = table(close=np.zeros(300))
    refused(zeros, tmp_path, "300 bars refused", "--max-bad", drop_bad_bars=True, **SMALL)
    missing = changed("close", dict.fromkeys(range(100, 200), math.nan))
    assert kept(missing, tmp_path) == (200, 100)


def test_times_are_never_bad_bars(tmp_path: Path) -> None:
    for column, value, kind in (
        ("timestamp", None, "no_timestamp"),
        ("timestamp", START + 5 * MINUTE, "duplicate_timestamp"),
        ("timestamp", START, "out_of_order"),
    ):
        bars = changed(column, {6: value})
        error = refused(bars, tmp_path, drop_bad_bars=True, **SMALL)
        assert set(error.counts) == {kind}


def test_every_bar_that_is_left_out_is_written(tmp_path: Path) -> None:
    symbols = np.where(np.arange(300) % 2, "ES", "NQ")
    bars = changed("high", {10: 0.5}, changed("close", {7: math.nan, 8: math.inf}, table(symbol=symbols)))
    bars = pa.concat_tables([bars.slice(0, 21), bars.slice(20)])
    given = source(bars, "csv", tmp_path / "in")
    kept(given.what, tmp_path, rejects=tmp_path / "out.csv", dedup="identical")
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["row"], r["line"], r["symbol"], r["time"], r["column"], r["value"]) for r in rows] == [
        ("8", "9", "ES", "2024-05-06T13:37:00Z", "close", "nan"),
        ("9", "10", "NQ", "2024-05-06T13:38:00Z", "close", "inf"),
        ("11", "12", "NQ", "2024-05-06T13:40:00Z", "high", "0.5"),
        ("22", "23", "NQ", "2024-05-06T13:50:00Z", "timestamp", "2024-05-06T13:50:00Z"),
    ]
    assert {row["file"] for row in rows} == {given.name}
    assert rows[2]["reason"] == "high below low"
    assert float(rows[2]["high"]) == 0.5
    # A build that fails replaces nothing.
    before = (tmp_path / "out.csv").read_bytes()
    with pytest.raises(BarError):
        kept(changed("timestamp", {6: START}), tmp_path, rejects=tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == before
    assert names(tmp_path) == ["in", "kept", "out.csv"]


def test_sorted_bars_are_written_too(tmp_path: Path) -> None:
    bars = changed("close", {7: math.nan}).take(list(reversed(range(300))))
    bars = pa.concat_tables([bars, bars.slice(0, 1)])
    kept(bars, tmp_path, rejects=tmp_path / "out.csv", dedup="identical", sort=True)
    with (tmp_path / "out.csv").open(newline="") as file:
        reasons = [(row["row"], row["reason"]) for row in csv.DictReader(file)]
    assert reasons == [("293", "NaN, null or infinite price"), ("301", "duplicate timestamp")]


@pytest.mark.parametrize("given", [-0.1, 1.5, "much", True, math.nan])
def test_a_share_that_is_none(tmp_path: Path, given: Any) -> None:
    refused(table(), tmp_path, "max_bad: ", error=ConfigError, max_bad=given, **SMALL)


def test_rejects_do_not_replace_what_is_read(tmp_path: Path) -> None:
    given = source(table(timestamp=times(START + np.arange(300) * MINUTE)), "csv", tmp_path / "in")
    refused(
        given.what, tmp_path, "rejects: ", "is what is read", error=ConfigError, rejects=given.what, **SMALL
    )
