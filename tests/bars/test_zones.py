"""Names of time zones: what is read, what is said about it, and hints that mean the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from bar_files import csv_bars, read, text, utc
from hypothesis import given
from hypothesis import strategies as st

from moola import _core
from moola.bars.options import ReadOptions
from moola.bars.zones import CITIES, check_zone, zone_note
from moola.errors import ConfigError


@pytest.mark.parametrize(
    ("zone", "hour"),
    [
        ("UTC+2", 7.0),
        ("GMT+2", 7.0),
        ("utc-5", 14.0),
        ("UTC+05:30", 3.5),
        ("+02:00", 7.0),
        ("Etc/GMT+2", 11.0),
        ("EST", 14.0),
    ],
)
def test_offsets_are_zones(tmp_path: Path, zone: str, hour: float) -> None:
    source = read(text(tmp_path / "a.csv", csv_bars("2024-07-01 09:00:00")), tz=zone)
    assert source.timestamp[0] == utc("2024-07-01T00:00") + int(hour * 3600e9)
    assert any(zone in note for note in source.source.notes)


@pytest.mark.parametrize("zone", ["ET", "CT", "PT", "EDT", "PDT", "BST", "et"])
def test_abbreviations_are_refused_with_the_city(zone: str) -> None:
    with pytest.raises(ConfigError, match=r"use (America|Europe)/") as caught:
        ReadOptions(tz=zone)
    assert "did you mean" not in str(caught.value)


def test_every_city_is_a_zone() -> None:
    for city in CITIES.values():
        check_zone(city)


@given(st.text("GMTUECPST+-:0123456789/", max_size=10))
def test_a_hint_never_names_the_opposite(name: str) -> None:
    """A name of an offset is read as such, or refused without a zone that has another offset."""
    if _core.is_time_zone(name):
        zone_note(name)
        return
    with pytest.raises(ConfigError) as caught:
        check_zone(name)
    assert "Etc/" not in str(caught.value)


def test_usual_names_get_no_note() -> None:
    for name in ("UTC", "America/New_York", "Europe/Berlin", "GMT", "GMT0", None):
        assert zone_note(name) is None
