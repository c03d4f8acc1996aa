"""Options of reading: their record, their text forms, and refusals."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from moola.bars import options as bars
from moola.bars.options import ReadOptions
from moola.errors import ConfigError


def test_options_survive_their_record() -> None:
    options = ReadOptions(
        columns="A=open,B=oi",
        keep=("oi", "volume"),
        tz="Asia/Tokyo",
        time_format="%Y%m%d",
        stamp="close",
        segment_by=("symbol", "contract"),
    )
    assert options.columns == {"A": "open", "B": "oi"}
    assert ReadOptions.from_record(options.record()) == options
    assert ReadOptions.from_record(ReadOptions().record()) == ReadOptions()
    with pytest.raises(FrozenInstanceError):
        options.tz = None  # type: ignore[misc]
    with pytest.raises(ConfigError, match="read_options: must hold exactly"):
        ReadOptions.from_record({"tz": None})


def test_options_may_be_texts_as_on_the_command_line() -> None:
    options = ReadOptions(keep="volume, oi", segment_by="symbol,contract")  # type: ignore[arg-type]
    assert options.keep == ("volume", "oi")
    assert options.segment_by == ("symbol", "contract")
    assert ReadOptions(segment_by=("contract",)).segment_by == ("symbol", "contract")
    assert ReadOptions(columns={0: "open"}).columns == {"0": "open"}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("options", "name", "substance"),
    [
        ({"columns": "A"}, "columns", "'A' has no '='"),
        (
            {"columns": "A=opne"},
            "columns",
            "'opne' is not a role",
        ),
        ({"columns": "A=opne"}, "columns", "did you mean 'open'?"),
        ({"columns": "A=open,A=close"}, "columns", "column 'A' is given two roles"),
        ({"columns": "A=open,B=open"}, "columns", "role 'open' is given to two columns"),
        ({"columns": 3}, "columns", "must map file columns to roles"),
        ({"columns": {"A": 3}}, "columns", "must map column names to roles"),
        ({"keep": ("close",)}, "keep", "'close' is always read"),
        ({"keep": ("a", "a")}, "keep", "names a column twice"),
        ({"keep": 3}, "keep", "must be names"),
        ({"tz": "America/NewYork"}, "tz", "did you mean America/New_York?"),
        ({"tz": "berlin"}, "tz", "Europe/Berlin"),
        ({"tz": "utc"}, "tz", "did you mean UTC"),
        ({"tz": "Mars"}, "tz", "'Mars' is not a time zone"),
        ({"tz": 3}, "tz", "use a name such as UTC"),
        ({"time_format": "%H:%M"}, "time_format", "lacks the year"),
        ({"time_format": "%Q"}, "time_format", "%Q"),
        ({"time_format": 3}, "time_format", "must be text"),
        ({"stamp": "end"}, "stamp", "must be 'open' or 'close', not 'end'"),
        ({"segment_by": ("sector",)}, "segment_by", "must be symbol, or symbol,contract"),
        ({"segment_by": ()}, "segment_by", "must be symbol"),
    ],
)
def test_wrong_read_options_are_refused(options: dict[str, Any], name: str, substance: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ReadOptions(**options)
    assert caught.value.name == name
    assert substance in str(caught.value)


def test_every_public_name_exists() -> None:
    assert all(hasattr(bars, name) for name in bars.__all__)
