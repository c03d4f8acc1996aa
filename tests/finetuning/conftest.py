"""A market, and runs that are fine-tuned on it once per process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from finetuned import QUIET, SHUFFLED, TO, pretrained, saved

import moola
from moola.evaluation.report import evaluate
from moola.labels import LabelledWindows, read_labels
from moola.prediction.ensembles import RunEnsemble, combine_runs


@contextmanager
def few_guesses() -> Iterator[None]:
    """Other tests cover the baselines; here they only take time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("moola.evaluation.baselines.GUESSES", 1)
        patch.setattr("moola.finetuning.run.evaluate", partial(evaluate, resamples=50))
        yield


@pytest.fixture(autouse=True)
def _few_guesses() -> Iterator[None]:
    with few_guesses():
        yield


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bars of two symbols, their labels (including windows of nothing), and a store."""
    folder = tmp_path_factory.mktemp("market")
    moola.make_bars(folder / "bars.parquet", 60_000, symbols=2, expansions=folder / "surges.parquet")
    # Segments begin after each night, so that some windows have hidden bars.
    store = moola.build_features(
        folder / "bars.parquet",
        folder / "store",
        stamp="open",
        reset_on_gap="30m",
        keep=("volume",),
        config={"warmup_bars": 20},
    )
    surges = pq.read_table(folder / "surges.parquet")
    labels = LabelledWindows.load(saved(read_labels(surges, store), folder / "surges.safetensors"))
    # Some of them at the times of the other symbol's surges.
    second = store.bounds.first[[segment.symbol for segment in store.segments].index("SIM2")]
    of_first = store.timestamps[labels.ends[labels.symbols == "SIM1"]]
    shared = second + np.searchsorted(store.timestamps[second:], of_first[:12])
    rows = np.append(shared, np.random.default_rng(5).choice(len(store), 60, replace=False))
    begin = store.bounds.first[np.searchsorted(store.bounds.first, rows, side="right") - 1]
    rows = rows[store.valid[rows] & (rows - begin >= 104)]
    rows = rows[[not ((labels.starts <= row) & (row - 104 <= labels.ends)).any() for row in rows.tolist()]][
        :30
    ]
    symbols = [
        store.segments[int(np.searchsorted(store.bounds.first, row, side="right")) - 1].symbol for row in rows
    ]
    quiet = pa.table(
        {
            "symbol": symbols,
            "window_end": pa.array(store.timestamps[rows]).cast(surges["window_end"].type),
            "class": ["none"] * len(rows),
            "start": pa.nulls(len(rows), surges["start"].type),
            "end": pa.nulls(len(rows), surges["end"].type),
        }
    )
    pq.write_table(pa.concat_tables([surges, quiet.cast(surges.schema)]), folder / "labels.parquet")
    return folder


@pytest.fixture(scope="session")
def run(market: Path) -> Path:
    with few_guesses():
        result = moola.finetune(market / "store", market / "labels.parquet", market / "run", **SHUFFLED)
    assert not result.resumed
    return result.run


@pytest.fixture(scope="session")
def labels(market: Path) -> LabelledWindows:
    return read_labels(market / "labels.parquet", market / "store")


@pytest.fixture(scope="session")
def store(market: Path) -> moola.FeatureStore:
    return moola.FeatureStore.open(market / "store")


@pytest.fixture(scope="session")
def table(run: Path, market: Path) -> pa.Table:
    return moola.predict(run, market / "store", to=TO)


@pytest.fixture(scope="session")
def encoder(market: Path, store: moola.FeatureStore) -> Path:
    return pretrained(store, market / "encoder")


@pytest.fixture(scope="session")
def second(market: Path) -> Path:
    where = market / "second"
    with few_guesses():
        return moola.finetune(market / "store", market / "labels.parquet", where, seed=3, **QUIET).run


@pytest.fixture(scope="session")
def together(run: Path, second: Path, market: Path) -> RunEnsemble:
    return combine_runs([run, second], market / "ensemble")
