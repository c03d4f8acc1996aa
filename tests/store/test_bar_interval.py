"""One bar length a source: told, or inferred from the steps of all its symbols."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from bar_lengths import plain_interval
from builds import FORMS, MINUTE, SMALL, START, built, refused, source, table, times
from hypothesis import given, settings
from hypothesis import strategies as st

import moola
from moola.cli import app
from moola.errors import ConfigError, InputError
from moola.store import FeatureStore
from moola.store.build import build_features
from moola.store.inspect import inspect_store

HOUR = 60 * MINUTE


def at_steps(*steps: np.ndarray, start: int = START, **columns: Any) -> pa.Table:
    """Bars of one symbol, at these steps one after the other."""
    stamps = start + np.concatenate([[0], np.cumsum(np.concatenate(steps))])
    return table(len(stamps), timestamp=times(stamps), **columns)


def of(symbol: str, data: pa.Table) -> pa.Table:
    return data.append_column("symbol", pa.array([symbol] * len(data)))


def illiquid(n: int = 250, seed: int = 0, start: int = START) -> pa.Table:
    """Bars of minutes of which two in three have no trade, and never two in a row have one."""
    steps = np.random.default_rng(seed).choice([2, 2, 2, 3, 4, 5, 7], n - 1) * MINUTE
    return at_steps(steps, start=start)


def equal(n: int, minutes: float) -> np.ndarray:
    return np.full(n, int(minutes * MINUTE))


def test_an_illiquid_symbol_has_the_bar_length_of_its_source(tmp_path: Path) -> None:
    panel = pa.concat_tables([of("LIQ", table(900)), of("ILL", illiquid())])
    with build_features(panel, tmp_path / "s", stamp="close", **SMALL) as store:
        assert {segment.bar_interval for segment in store.segments} == {MINUTE}
        assert {segment.first_timestamp for segment in store.segments} == {START - MINUTE}
        quality = store.metadata["quality"]
        assert (quality["bar_interval"], quality["gaps"], quality["another_interval"]) == (MINUTE, 249, 0)
        assert store.metadata["read_options"]["bar_interval"] is None
    assert moola.verify_features(tmp_path / "s", panel).ok


def test_without_a_bar_length_closes_are_refused_and_opens_are_told(tmp_path: Path) -> None:
    bars = illiquid()
    error = refused(bars, tmp_path, "2m (", "--bar-interval 1m", error=InputError, stamp="close", **SMALL)
    assert "no step shows how long a bar is" in error.problem
    with build_features(bars, tmp_path / "open", stamp="open", **SMALL) as store:
        assert {segment.bar_interval for segment in store.segments} == {0}
        assert any("will ask for --bar-interval" in notice for notice in store.notices)
        # Gaps are still found, by the commonest step.
        assert inspect_store(store).gaps
    assert moola.verify_features(tmp_path / "open", bars).ok
    # The advice works.
    with build_features(bars, tmp_path / "close", stamp="close", bar_interval="1m", **SMALL) as store:
        assert store.segments[0].bar_interval == MINUTE
        assert store.segments[0].first_timestamp == START - MINUTE
        assert store.metadata["read_options"]["bar_interval"] == MINUTE
    assert moola.verify_features(tmp_path / "close", bars).ok


@pytest.mark.parametrize("form", FORMS)
def test_a_run_of_another_length_is_refused_by_row(tmp_path: Path, form: str) -> None:
    bars = source(at_steps(equal(200, 1), equal(100, 5), equal(80, 60)), form, tmp_path / "in")
    error = refused(
        bars.what,
        tmp_path,
        "2 bars refused",
        "run of bars of another interval: 2",
        f"{bars.at(202)}, at 2024-05-06T16:55:00Z",
        "5m after the bar before, the first of 100 such steps; bars are 1m apart",
        f"{bars.at(302)}, at",
        "1h after the bar before, the first of 80 such steps",
        "--bar-interval",
        **SMALL,
    )
    assert error.counts == {"another_interval": 2}
    # Who says it has said it.
    with build_features(bars.what, tmp_path / "s", bar_interval="1m", **SMALL) as store:
        assert store.metadata["quality"]["another_interval"] == 5 * MINUTE
        assert any("50 or more steps of 5m follow one another" in notice for notice in store.notices)


def test_fewer_than_50_equal_steps_are_gaps(tmp_path: Path) -> None:
    built(at_steps(equal(200, 1), equal(49, 5), equal(50, 1)), tmp_path / "s", **SMALL)
    # So are nights between bars, which do not follow one another.
    day = np.concatenate([equal(30, 1), equal(1, 1410)])
    built(at_steps(np.tile(day, 60)), tmp_path / "s", **SMALL)
    # Bars of two lengths neither of which divides the other.
    refused(at_steps(equal(90, 7), equal(60, 5)), tmp_path, "interval", "5m after", "bars are 7m", **SMALL)


@pytest.mark.parametrize("form", FORMS)
def test_a_live_row_is_refused_by_name(tmp_path: Path, form: str) -> None:
    stamps = START + np.arange(200) * MINUTE
    stamps[-1] = stamps[-2] + 37 * 10**9
    bars = source(table(200, timestamp=times(stamps)), form, tmp_path / "in")
    error = refused(
        bars.what, tmp_path, "1 bar refused", f"{bars.at(200)}, at 2024-05-06T16:48:37Z", "37s after", **SMALL
    )
    assert error.counts == {"live_row": 1}
    # Without it, as the message says.
    assert len(built(table(199), tmp_path / "s", **SMALL)["segments"]) == 1


def test_a_live_row_is_shown_as_the_file_has_it(tmp_path: Path) -> None:
    lines = [f"2024-05-06 {9 + i // 60:02}:{i % 60:02}:00-04:00,2,3,1,2" for i in range(60)]
    path = tmp_path / "bars.csv"
    path.write_text("\n".join(["time,open,high,low,close", *lines, "2024-05-06 09:59:37-04:00,2,2,2,2", ""]))
    refused(path, tmp_path, "timestamp = 2024-05-06 09:59:37-04:00", "row 61 (line 62)", **SMALL)


def test_live_rows_of_a_panel_are_each_named(tmp_path: Path) -> None:
    """More than one step in a hundred is off, but they are the last ones."""
    stamps = START + np.arange(60) * MINUTE
    stamps[-1] = stamps[-2] + 11 * 10**9
    panel = pa.concat_tables([of(name, table(60, timestamp=times(stamps))) for name in ("A", "B", "C")])
    error = refused(panel, tmp_path, "symbol B", "11s after the bar before", **SMALL)
    assert error.counts == {"live_row": 3}


def test_bars_off_the_grid_elsewhere_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = np.array([START + i * MINUTE + (15_150 * 10**6 if 200 <= i < 300 else 0) for i in range(500)])
    data = table(500, timestamp=times(moved))
    with build_features(data, tmp_path / "s", **SMALL) as store:
        assert store.metadata["quality"]["off_grid_bars"] == 100
        assert any(notice.startswith("100 bars lie off the grid of 1m") for notice in store.notices)
    assert moola.verify_features(tmp_path / "s", data).ok
    # Also where the last bars are such: many are no live row.
    built(data.slice(0, 300), tmp_path / "o", **SMALL)
    pyarrow.csv.write_csv(data, tmp_path / "bars.csv")
    with pytest.raises(SystemExit) as ended:
        app(
            ["build-features", "--data", str(tmp_path / "bars.csv"), "--output", str(tmp_path / "t"),
             "--window-length", "20"]
        )  # fmt: skip
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert "bar length  1m, inferred from the steps of all symbols\n" in out
    assert "100 bars off the grid" in out


@pytest.mark.parametrize("before", [1, 10**3, 10**6])
def test_closes_just_before_the_minute_mean_the_minute(tmp_path: Path, before: int) -> None:
    late = table(timestamp=times(START + np.arange(1, 301) * MINUTE - before))
    plain = built(table(), tmp_path / "s", stamp="open", **SMALL)
    assert built(late, tmp_path / "s", stamp="close", **SMALL) == plain
    assert built(late, tmp_path / "s", stamp="open", **SMALL)["segments"][0].first_timestamp == (
        START + MINUTE - before
    )


def test_bars_of_days_may_keep_to_a_local_clock(tmp_path: Path) -> None:
    days = np.arange("2024-01-01", "2024-12-31", dtype="datetime64[D]")
    days = days[np.is_busday(days)]
    naive = times(days.astype("datetime64[ns]").astype(np.int64), None)
    with build_features(
        table(len(days), timestamp=naive), tmp_path / "s", tz="America/New_York", **SMALL
    ) as store:
        quality = store.metadata["quality"]
        assert (quality["bar_interval"], quality["off_grid_bars"]) == (24 * HOUR, 0)


@given(
    symbols=st.lists(
        st.lists(st.sampled_from([1] * 60 + [2, 5, 60, 0.5]), min_size=60, max_size=160),
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=25, deadline=None)
def test_the_bar_length_is_that_of_the_definition(
    symbols: list[list[float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    # The last bars are no live rows.
    steps = [(np.array([*own, 1]) * MINUTE).astype(np.int64) for own in symbols]
    panel = pa.concat_tables([of(f"S{i}", at_steps(own)) for i, own in enumerate(steps)])
    path = tmp_path_factory.mktemp("p") / "s"
    expected = plain_interval([own.tolist() for own in steps])
    with build_features(panel, path, **SMALL) as store:
        assert {segment.bar_interval for segment in store.segments} == {expected}
    assert moola.verify_features(path, panel, samples=1).ok


@pytest.mark.parametrize("given", ["soon", "-1m", 0, "0s"])
def test_a_bar_length_that_is_none(tmp_path: Path, given: Any) -> None:
    refused(table(), tmp_path, "bar_interval: ", error=ConfigError, bar_interval=given, **SMALL)


def test_told_lengths_are_verified(tmp_path: Path) -> None:
    build_features(table(), tmp_path / "s", bar_interval="30s", **SMALL).close()
    with FeatureStore.open(tmp_path / "s") as store:
        assert store.segments[0].bar_interval == 30 * 10**9
        assert store.metadata["quality"]["gaps"] == 299
    assert moola.verify_features(tmp_path / "s", table()).ok
    assert os.listdir(tmp_path) == ["s"]
