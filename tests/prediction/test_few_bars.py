"""Predictions on a few bars: nothing is split, and each bar past the warm-up gives a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import moola
from moola.errors import InputError, TooFewBarsError
from moola.labels import read_labels

pytestmark = pytest.mark.xdist_group("prediction")

TINY: dict[str, Any] = {
    "model": {"name": "tiny", "architecture": {"hidden_size": 4, "num_layers": 1}},
    "training": {"finetune": {"epochs": 1, "lr": 0.01}},
    "augmentation": None,
}


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Bars, and the cache of this module."""
    folder = tmp_path_factory.mktemp("market")
    moola.make_bars(folder / "plain.parquet", 6_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOOLA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield folder


@pytest.fixture(scope="module")
def tuned(market: Path) -> Path:
    """A run with windows of 30 bars, and the usual warm-up of 105."""
    store = moola.build_features(market / "plain.parquet", market / "store", window_length=30)
    ends = store.timestamps[200:5_000:160]
    table = pa.table(
        {
            "window_end": pa.array(ends).cast(pa.timestamp("ns", "UTC")),
            "class": np.where(np.arange(len(ends)) % 2, "up", "none"),
        }
    )
    labels = read_labels(table, store, stamp="open")
    return moola.finetune(
        market / "store",
        labels,
        market / "run",
        folds=2,
        permutations=0,
        model=TINY,
        device="cpu",
        say=lambda line: None,
    ).run


@pytest.mark.parametrize("more", [0, 1, 7, 44, 45])
def test_a_few_bars_are_not_split(tuned: Path, market: Path, tmp_path: Path, more: int) -> None:
    """Each bar past the warm-up of 105 gives a row. All were refused where 70 % of them had no window."""
    pq.write_table(pq.read_table(market / "plain.parquet").slice(2_000, 105 + more), tmp_path / "few.parquet")
    said: list[str] = []
    if not more:
        with pytest.raises(TooFewBarsError) as caught:
            moola.predict(tuned, data=tmp_path / "few.parquet", say=said.append)
        assert "Give more bars: the run needs at least 106" in str(caught.value)
        return
    table = moola.predict(tuned, data=tmp_path / "few.parquet", say=said.append)
    assert len(table) == more
    assert not any("has no window" in line for line in said)


@pytest.mark.parametrize("bars", [3, 29, 60, 104])
def test_too_few_bars_are_refused_without_options_that_predict_lacks(
    tuned: Path, market: Path, tmp_path: Path, bars: int
) -> None:
    pq.write_table(pq.read_table(market / "plain.parquet").slice(0, bars), tmp_path / "few.parquet")
    with pytest.raises(TooFewBarsError, match="Give more bars: the run needs at least 106") as caught:
        moola.predict(tuned, data=tmp_path / "few.parquet")
    assert "--window-length" not in str(caught.value)


def test_text_files_are_read_as_the_option_says(tuned: Path, market: Path, tmp_path: Path) -> None:
    """Three decimals after a comma may be thousands; the same bars in Parquet give the same rows."""
    bars = pq.read_table(market / "plain.parquet").slice(2_000, 140)
    prices = {
        name: np.round(bars[name].to_numpy() / 10_000, 3) + 100 for name in ("open", "high", "low", "close")
    }
    pq.write_table(pa.table({"timestamp": bars["timestamp"], **prices}), tmp_path / "plain.parquet")
    times = bars["timestamp"].cast(pa.timestamp("s", "UTC")).to_pylist()
    rows = [
        f"{time:%Y-%m-%dT%H:%M}Z;A;" + ";".join(f"{prices[name][i]:.3f}".replace(".", ",") for name in prices)
        for i, time in enumerate(times)
    ]
    others = [row.replace(";A;", ";B;") for row in rows]
    path = tmp_path / "bars.csv"
    path.write_text("\n".join(["time;symbol;open;high;low;close", *rows, *others]))
    with pytest.raises(InputError, match=r"thousands.*--decimal ,"):
        moola.predict(tuned, data=path)
    table = moola.predict(tuned, data=path, decimal=",", symbols="A")
    plain = moola.predict(tuned, data=tmp_path / "plain.parquet")
    # Whether bars were seen in training depends on their symbol, too.
    named = ["symbol", "seen"]
    assert table.drop_columns(named).equals(plain.drop_columns(named))
    assert set(table["symbol"].to_pylist()) == {"A"}
