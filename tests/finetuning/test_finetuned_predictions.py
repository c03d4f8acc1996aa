"""Predictions of a fine-tuned run: one row per window, and no dependence on later bars."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from finetuned import MINUTE, TO, nanoseconds
from scipy.special import softmax

import moola
from moola.models.loading import load_model
from moola.models.spans import decode_spans
from moola.models.weights import load_weights, save_weights
from moola.runs.directory import read_seen_bars

pytestmark = pytest.mark.xdist_group("finetune_run")


def test_predictions_have_one_row_per_window(run: Path, store: moola.FeatureStore, table: pa.Table) -> None:
    probabilities = [f"p_{name}" for name in ("consolidation", "none", "retracement")]
    names = ["symbol", "window_end", "known_at", *probabilities, "start", "end", "seen"]
    assert table.column_names == names
    ends = np.datetime64(TO, "ns").astype(np.int64)
    rows = [(s.first_row, s.last_row + 1) for s in store.segments if s.last_timestamp < ends]
    assert (store.timestamps[[last - 1 for _, last in rows]] < ends).all()
    dataset = moola.FastWindowedDataset(store, "all", mask_ratio=0, ranges=[np.array(rows)])
    assert len(table) == len(dataset)
    numbers = np.random.default_rng(0).choice(len(dataset), 500, replace=False)
    x, _, valid = dataset.batch(numbers)
    assert not valid.all()
    model = load_model(run)
    assert model.origin is not None
    with torch.no_grad():
        output = model(x, valid)
    expected = softmax(output.logits.double().numpy() / model.origin.more["temperature"], axis=1)
    some = table.take(numbers)
    given = np.stack([some[name].to_numpy() for name in probabilities], axis=1)
    np.testing.assert_allclose(given, expected, atol=1e-5)
    np.testing.assert_allclose(given.sum(axis=1), 1)

    places = dataset.places(numbers)
    assert some["symbol"].to_pylist() == dataset.symbols_of(places)
    assert np.array_equal(nanoseconds(some, "window_end"), places.last_timestamp)
    assert np.array_equal(nanoseconds(some, "known_at"), places.last_timestamp + MINUTE)
    spans = decode_spans(output.pointer, 105, valid).numpy()
    there = given.argmax(axis=1) != 1
    assert there.any()
    for end, name in enumerate(("start", "end")):
        times = np.where(there, store.timestamps[places.row + spans[:, end]], -1)
        # A pointer on the edge between two bars may round either way.
        assert (nanoseconds(some, name) == times).mean() > 0.99
    learned = read_seen_bars(run).stretches
    for row, symbol, last, seen in zip(
        places.row.tolist(),
        some["symbol"].to_pylist(),
        places.last_timestamp.tolist(),
        some["seen"].to_pylist(),
        strict=True,
    ):
        first = int(store.timestamps[row])
        assert seen == any(a <= last and first <= b for a, b in learned.get(symbol, []))
    assert 0 < pc.sum(table["seen"]).as_py() < len(table)


def test_a_class_without_spans_has_no_predicted_span(run: Path, market: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    weights = load_weights(run / "best.safetensors")
    bias = next(name for name in weights.tensors if name.startswith("type_head.3") and "bias" in name)
    weights.tensors[bias][1] += 50
    save_weights(tmp_path / "run" / "best.safetensors", weights.tensors, weights.record)
    said = moola.predict(tmp_path / "run", market / "store", from_="2020-06-10", to="2020-06-11")
    assert len(said)
    assert said["start"].null_count == said["end"].null_count == len(said)


def test_a_copied_run_predicts_the_same(run: Path, market: Path, table: pa.Table, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(run, copy)
    config = json.loads((copy / "config.json").read_text())
    config["stores"] = ["/there/is/none"]
    (copy / "config.json").write_text(json.dumps(config))
    done: list[tuple[int, int]] = []
    file = moola.predict(
        copy,
        market / "store",
        tmp_path / "p.parquet",
        to=TO,
        batch_size=1000,
        progress=lambda *at: done.append(at),
    )
    assert pq.read_table(file).equals(table)
    assert done[-1] == (len(table), len(table))
    assert [at for at, _ in done] == sorted(at for at, _ in done)


def test_a_prediction_depends_on_no_bar_after_its_window(
    run: Path, market: Path, table: pa.Table, tmp_path: Path
) -> None:
    bars = pq.read_table(market / "bars.parquet")
    end = bars["timestamp"][4_321]
    pq.write_table(bars.filter(pc.less_equal(bars["timestamp"], end)), tmp_path / "bars.parquet")
    shorter = moola.build_features(
        tmp_path / "bars.parquet",
        tmp_path / "store",
        stamp="open",
        reset_on_gap="30m",
        keep=("volume",),
        config={"warmup_bars": 20},
    )
    before = moola.predict(run, shorter, to=TO)
    expected = table.filter(pc.less_equal(table["window_end"], end))
    assert 7_000 < len(before) < len(table)
    assert before.equals(expected.combine_chunks())


def test_the_number_of_cores_changes_no_bit(
    run: Path, market: Path, table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cores in (1, 5):
        monkeypatch.setattr("moola.prediction.rows.usable_cores", lambda cores=cores: cores)
        part = moola.predict(run, market / "store", from_="2020-06-11", to="2020-06-12", batch_size=333)
        begin = pa.scalar(np.datetime64("2020-06-11", "ns")).cast(part["window_end"].type)
        end = pa.scalar(np.datetime64("2020-06-12", "ns")).cast(part["window_end"].type)
        among = pc.and_(pc.greater_equal(table["window_end"], begin), pc.less(table["window_end"], end))
        assert part.equals(table.filter(among))


def test_predictions_can_be_limited_to_a_time_range(run: Path, market: Path, table: pa.Table) -> None:
    part = moola.predict(run, market / "store", from_="2020-06-10", to="2020-06-12T03:00:00+02:00")
    low, high = (np.datetime64(text, "ns").astype(np.int64) for text in ("2020-06-10", "2020-06-12T01:00:00"))
    ends = nanoseconds(table, "window_end")
    assert part.equals(table.filter(pa.array((ends >= low) & (ends < high))))
    assert len(moola.predict(run, market / "store", from_="2031-01-01")) == 0
    strided = moola.predict(run, market / "store", stride=50, to="2020-06-10")
    assert 0 < len(strided) < len(part)
    assert len(moola.predict(run, market / "store", to="2020-06-10", stride=50, split=None)) == len(strided)


def test_predict_accepts_bars_instead_of_a_store(
    run: Path, market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOOLA_CACHE", str(tmp_path / "cache"))
    said = moola.predict(run, data=market / "bars.parquet", from_="2020-06-10", to="2020-06-11")
    plain = moola.build_features(
        market / "bars.parquet",
        tmp_path / "store",
        stamp="open",
        reset_on_gap="30m",
        config={"warmup_bars": 20},
    )
    assert said.equals(moola.predict(run, plain, from_="2020-06-10", to="2020-06-11"))
    assert len(list((tmp_path / "cache").iterdir())) == 1
