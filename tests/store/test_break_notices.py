"""A build names the breaks that its windows cross, with the value that `moola inspect` suggests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builds import MINUTE, START, table, times

import moola
from moola.store.inspect.summary import inspect_store

DAY = 1440 * MINUTE


def weeks(n: int, minutes: int = 10) -> np.ndarray:
    """Bars round the clock from Sunday 22:00 to Friday 22:00 UTC."""
    sunday = int(np.datetime64("2024-01-07T22:00", "ns").astype(np.int64))
    week = np.arange(0, 5 * DAY, minutes * MINUTE)
    return np.concatenate([sunday + 7 * DAY * k + week for k in range(n)])


def missing_year() -> np.ndarray:
    opens = START + np.arange(6_000) * MINUTE
    opens[3_000:] += 365 * DAY
    return opens


def daily() -> np.ndarray:
    days = START + np.arange(1_400) * DAY
    days = days[np.isin((days // DAY + 3) % 7, range(5))]
    return np.where(np.arange(len(days)) < 500, days, days + 364 * DAY)


CASES: list[Any] = [
    pytest.param(lambda: weeks(8), "weekends", "2d", id="weekends"),
    pytest.param(missing_year, "a break of more than 1d", "365d", id="a missing year"),
    pytest.param(daily, "a break of more than", "d", id="a year missing of daily bars"),
]


def said(store: moola.FeatureStore) -> list[str]:
    return [line for line in store.notices if "reset" in line]


@pytest.mark.parametrize(("opens", "what", "lasts"), CASES)
def test_a_build_names_its_breaks_and_the_advice_works(
    tmp_path: Path, opens: Any, what: str, lasts: str
) -> None:
    stamps = opens()
    data = table(len(stamps), timestamp=times(stamps))
    store = moola.build_features(data, tmp_path / "store", stamp="open")
    (line,) = said(store)
    assert line.count("\n") == 0
    assert what in line
    assert lasts in line
    value = inspect_store(store).suggestion.reset_on_gap
    assert value is not None
    assert f"--reset-on-gap {value} (reset_on_gap='{value}')" in line
    # Followed, it ends segments at the longest step, and the line is gone.
    again = moola.build_features(data, tmp_path / "again", stamp="open", reset_on_gap=value)
    assert said(again) == []
    longest = int(np.argmax(np.diff(stamps)))
    assert longest in [segment.last_row for segment in again.segments]
    assert len(again.segments) > 1


@pytest.mark.parametrize("stamps", [START + np.arange(6_000) * MINUTE, START + np.arange(700) * 2 * MINUTE])
def test_bars_without_breaks_get_no_line(tmp_path: Path, stamps: np.ndarray) -> None:
    data = table(len(stamps), timestamp=times(stamps))
    assert said(moola.build_features(data, tmp_path / "store", stamp="open")) == []


def test_the_command_prints_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow.parquet as pq
    from typer.testing import CliRunner

    from moola.cli import app

    stamps = weeks(8)
    pq.write_table(table(len(stamps), timestamp=times(stamps)), tmp_path / "bars.parquet")
    words = ["build-features", "--data", str(tmp_path / "bars.parquet"), "--output", str(tmp_path / "store")]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    lines = [line for line in shown.output.splitlines() if "--reset-on-gap" in line]
    assert len(lines) == 1
    assert lines[0].startswith("note: windows cross breaks, the longest of 2d")
