"""Data frames that Arrow refuses or that lack its interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from builds import SMALL, table

import moola
from moola.errors import InputError


def test_columns_of_one_name_are_refused_and_the_advice_works(tmp_path: Path) -> None:
    """A raw ValueError reached the caller."""
    data = table().to_pandas()
    frame = pd.concat([data, data[["close"]]], axis=1)
    with pytest.raises(
        InputError, match=r"<pandas.DataFrame>: has 2 columns called 'close'. Drop or rename"
    ) as caught:
        moola.build_features(frame, tmp_path / "store", stamp="open", **SMALL)
    code = str(caught.value).partition("frame = ")[2].partition(" keeps")[0]
    assert code == "frame.loc[:, ~frame.columns.duplicated()]"
    kept: Any = frame.loc[:, ~frame.columns.duplicated()]
    assert len(moola.build_features(kept, tmp_path / "store", stamp="open", **SMALL)) == len(data)


def test_a_frame_of_an_older_pandas_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pandas before 2.2 has no __arrow_c_stream__: "a DataFrame, not a DataFrame"."""
    frame = table().to_pandas()
    new = moola.build_features(frame, tmp_path / "new", stamp="open", **SMALL)
    monkeypatch.delattr(pd.DataFrame, "__arrow_c_stream__")
    old = moola.build_features(frame, tmp_path / "old", stamp="open", **SMALL)
    assert old.features.tobytes() == new.features.tobytes()
    with pytest.raises(InputError, match="has 2 columns called 'close'"):
        moola.build_features(
            pd.concat([frame, frame[["close"]]], axis=1), tmp_path / "x", stamp="open", **SMALL
        )
    with pytest.raises(InputError, match=r"<pandas.Series>: is not a table of bars"):
        moola.build_features(frame["close"], tmp_path / "x", stamp="open", **SMALL)
