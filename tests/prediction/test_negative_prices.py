"""Predictions on bars with negative prices: the run's option is repeated, or given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import moola
from moola.errors import BarError
from moola.labels import read_labels

pytestmark = pytest.mark.xdist_group("prediction")

TINY: dict[str, Any] = {
    "model": {"name": "tiny", "architecture": {"hidden_size": 4, "num_layers": 1}},
    "training": {"finetune": {"epochs": 1, "lr": 0.01}},
    "augmentation": None,
}


def tuned(folder: Path, bars: pa.Table, **options: Any) -> Path:
    """A run on a store of these bars."""
    store = moola.build_features(bars, folder / "store", window_length=30, stamp="open", **options)
    ends = store.timestamps[200:5_000:160]
    table = pa.table(
        {
            "window_end": pa.array(ends).cast(pa.timestamp("ns", "UTC")),
            "class": np.where(np.arange(len(ends)) % 2, "up", "none"),
        }
    )
    return moola.finetune(
        folder / "store",
        read_labels(table, store, stamp="open"),
        folder / "run",
        folds=2,
        permutations=0,
        model=TINY,
        device="cpu",
        say=lambda line: None,
    ).run


def test_bars_are_read_with_the_option_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOOLA_CACHE", str(tmp_path / "cache"))
    moola.make_bars(tmp_path / "plain.parquet", 6_000)
    plain = pq.read_table(tmp_path / "plain.parquet")
    lowest = min(plain["low"].to_pylist())
    # In whole points, so that the features stay the same to the bit.
    shifted = plain
    for name in ("open", "high", "low", "close"):
        place = plain.schema.get_field_index(name)
        shifted = shifted.set_column(place, name, pa.array(plain[name].to_numpy() - np.ceil(lowest) - 20))
    pq.write_table(shifted.slice(0, 400), tmp_path / "below.parquet")
    pq.write_table(plain.slice(0, 400), tmp_path / "above.parquet")
    said: list[str] = []

    run = tuned(tmp_path / "a", shifted, allow_nonpositive=True)
    below = moola.predict(run, data=tmp_path / "below.parquet", say=said.append)
    assert "bars are read as in training: allow_nonpositive True" in said
    assert len(below) == 400 - 105

    # A run on positive prices refuses them, and the option that the message names works.
    other = tuned(tmp_path / "b", plain)
    with pytest.raises(BarError, match="--allow-nonpositive"):
        moola.predict(other, data=tmp_path / "below.parquet")
    shown = moola.predict(other, data=tmp_path / "below.parquet", allow_nonpositive=True)
    above = moola.predict(other, data=tmp_path / "above.parquet")
    assert shown.drop_columns("seen").equals(above.drop_columns("seen"))
