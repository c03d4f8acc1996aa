"""Runs of fine-tuned models: their content, their repetition, and their training windows."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from textwrap import fill

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from finetuned import MINUTE, QUIET, SHUFFLED, TO, blocks_of, examples, nanoseconds, recipe
from joblib import parallel_config
from typer.testing import CliRunner

import moola
from moola.cli import app
from moola.errors import (
    RunError,
)
from moola.evaluation.baselines import BASELINES
from moola.evaluation.metrics import METRICS
from moola.folds.dealing import purged_folds
from moola.labels import LabelledWindows, read_labels, read_raw_windows
from moola.labels.overlaps import group_overlaps
from moola.models.loading import load_model
from moola.models.weights import load_weights
from moola.runs.directory import read_metrics, read_seen_bars
from moola.runs.seen_bars import SeenBars
from moola.validation.permutation import HEADS_ALONE

pytestmark = pytest.mark.xdist_group("finetune_run")


def test_a_run_holds_its_model_and_its_measurements(
    run: Path, labels: LabelledWindows, store: moola.FeatureStore
) -> None:
    names = {path.name for path in run.iterdir()}
    pictures = {"reliability.png", "confusion.png", "spans.png"}
    records = {"config.json", "environment.json", "learned.json", "result.json", "metrics.jsonl"}
    assert names == {*pictures, *records, "best.safetensors", "out_of_fold.safetensors"}
    for picture in pictures:
        assert (run / picture).read_bytes().startswith(b"\x89PNG")
    model = load_model(run)
    assert model.origin is not None
    assert model.origin.kind == "finetune"
    more = model.origin.more
    assert more["classes"] == ["consolidation", "none", "retracement"]
    assert more["span_classes"] == [True, False, True]
    assert 0.05 <= more["temperature"] <= 100

    result = json.loads((run / "result.json").read_text())
    assert result["temperature"] == more["temperature"]
    assert result["windows"] == len(labels)
    # A fifth, of whole stretches of time.
    assert 0.7 * len(labels) < result["trained_on"] < 0.9 * len(labels)
    assert list(result["evaluation"]["baselines"]) == list(BASELINES)
    assert result["table"][0] == ["", "tiny", fill(HEADS_ALONE, 18), "permuted", "p", *BASELINES]
    assert [row[0] for row in result["table"][1:]] == [metric.title for metric in METRICS.values()]

    epochs, folds = read_metrics(run, "epoch"), read_metrics(run, "fold")
    assert [record["epoch"] for record in epochs] == [0, 1, 2]
    parameters = sum(p.numel() for p in model.parameters())
    for record in epochs:
        assert record["parameters_per_window"] == parameters / len(labels)
        assert record["timing"]["seconds"] > 0
        assert record["train_loss"] == pytest.approx(sum(record["train_losses"].values()))
    for record in folds:
        assert record["parameters_per_window"] == parameters / len(labels)
        assert record["validation_spread"] >= 0
        assert 0 < record["timing"]["slowest_epoch"] <= record["timing"]["seconds"]
    losses = [record["val_loss"] for record in epochs]
    chosen_by = result["validation_loss"]
    assert chosen_by["value"] == pytest.approx(min(losses), rel=1e-5)
    assert chosen_by["low"] < chosen_by["value"] < chosen_by["high"]
    assert epochs[-1]["validation_spread"] == pytest.approx((max(losses) - min(losses)) / min(losses))
    assert result["best_epoch"] == int(np.argmin(losses))
    assert sorted(number for fold in folds for number in fold["tested"]) == list(range(len(labels)))

    times = store.timestamps
    touched = np.zeros(len(store), bool)
    for first, last in zip(labels.starts, labels.ends, strict=True):
        touched[first : last + 1] = True
    symbols = [s.symbol for s in store.segments for _ in range(s.last_row - s.first_row + 1)]
    assert np.array_equal(read_seen_bars(run).seen(symbols, times, times), touched)


# Python 3.12 and later warn of every fork in a process with threads.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_the_same_seed_gives_the_same_bits_for_any_number_of_parallel_folds(
    run: Path, market: Path, tmp_path: Path
) -> None:
    windows = market / "labels.parquet"
    # In threads and forks, because new processes would spend a minute on importing torch.
    for backend in ("threading", "multiprocessing"):
        with parallel_config(backend):
            moola.finetune(market / "store", windows, tmp_path / backend, n_jobs=2, **SHUFFLED)
    other = moola.finetune(market / "store", windows, tmp_path / "other", seed=18, **QUIET)
    paths = (run, tmp_path / "threading", tmp_path / "multiprocessing")
    first, again, forked = (load_weights(path / "best.safetensors").digest for path in paths)
    assert first == again == forked
    assert first != load_weights(other.run / "best.safetensors").digest
    results = [json.loads((path / "result.json").read_text()) for path in paths]
    assert results[0] == results[1] == results[2]


def test_a_finished_run_is_not_repeated_and_an_interrupted_run_starts_over(
    run: Path, market: Path, tmp_path: Path
) -> None:
    what = (market / "store", market / "labels.parquet")
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    with pytest.raises(RunError, match="there is a run there already"):
        moola.finetune(*what, copy, **SHUFFLED)
    done = moola.finetune(*what, copy, resume=True, **SHUFFLED)
    assert done.resumed
    assert done.classes == ("consolidation", "none", "retracement")
    assert done.verdict.startswith("out of fold: macro-F1 ")
    with pytest.raises(RunError, match="the run was begun with seed 17, not 18"):
        moola.finetune(*what, copy, resume=True, seed=18, **SHUFFLED)

    (copy / "result.json").unlink()
    with open(copy / "metrics.jsonl", "a") as file:
        file.write('{"kind": "epoch", "epo')
    assert not moola.finetune(*what, copy, resume=True, **SHUFFLED).resumed
    assert load_weights(copy / "best.safetensors").digest == load_weights(run / "best.safetensors").digest
    assert len(read_metrics(copy, "epoch")) == 3


def test_windows_of_one_time_are_never_on_two_sides(
    labels: LabelledWindows, store: moola.FeatureStore
) -> None:
    blocks = blocks_of(labels, store)
    # Of two symbols, so that some share a time and no bar.
    assert len(np.unique(blocks)) < len(np.unique(group_overlaps(labels.starts, labels.ends)))
    assert np.array_equal(blocks, labels.groups)
    first, last = store.timestamps[labels.starts], store.timestamps[labels.ends]
    for train, test in purged_folds(labels, 5, seed=17, store=store):
        for number in test:
            assert not ((first[train] <= last[number]) & (first[number] <= last[train])).any()
        assert set(labels.y[train]) == set(labels.y[test]) == {0, 1, 2}


def test_kept_columns_are_scaled_by_the_training_windows(market: Path, tmp_path: Path) -> None:
    windows = read_labels(market / "labels.parquet", market / "store", extra="volume")
    kept = recipe(kept_columns=1)
    given = examples(windows)
    model, _, train = kept.follow(given, windows.groups)
    bars = given.X[train][given.valid[train]][:, -1].astype(np.float64)
    assert model.encoder.shift[-1].item() == pytest.approx(bars.mean(), rel=1e-6)
    assert model.encoder.scale[-1].item() == pytest.approx(bars.std(), rel=1e-6)
    assert not model.encoder.shift[:-1].any()
    everything = given.X[given.valid][:, -1].astype(np.float64)
    assert model.encoder.shift[-1].item() != pytest.approx(everything.mean(), rel=1e-6)

    result = moola.finetune(
        market / "store", market / "labels.parquet", tmp_path / "run", extra=("volume",), **QUIET
    )
    origin = load_model(result.run).origin
    assert origin is not None
    assert origin.features.extra == ("volume",)
    assert len(moola.predict(result.run, market / "store", from_="2020-06-10", to="2020-06-11"))


def test_all_windows_are_trained_on_without_validation(market: Path, tmp_path: Path) -> None:
    result = moola.finetune(
        market / "store", market / "labels.parquet", tmp_path / "run", validation_share=0, **QUIET
    )
    assert result.trained_on == result.windows
    assert result.best_epoch == 2
    assert "val_loss" not in read_metrics(result.run, "epoch")[0]


def test_pre_cut_windows_are_fine_tuned(
    run: Path, market: Path, labels: LabelledWindows, tmp_path: Path
) -> None:
    raw = replace(labels, store_id="", times=None, first_times=None, splits=None)
    raw.save(tmp_path / "raw.safetensors")
    result = moola.finetune(None, tmp_path / "raw.safetensors", tmp_path / "run", **QUIET)
    unknown = "the times of these windows are unknown: predictions cannot tell which windows have been seen"
    assert result.report[0] == unknown
    assert read_seen_bars(result.run).record() == {"complete": False, "stretches": {}}
    some = moola.predict(result.run, market / "store", to=TO, stride=50)
    assert some["seen"].null_count == len(some)
    asked = ["predict", "--run", str(result.run), "--feature-dir", str(market / "store"), "--to", TO]
    asked += ["--stride", "50", "--output", str(tmp_path / "p.parquet")]
    shown = " ".join(CliRunner().invoke(app, asked).stdout.split())
    assert f"{len(some)}; the models have seen bars of 0; for {len(some)} this is unknown" in shown
    record = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    assert (record["seen"], record["seen_unknown"]) == (0, len(some))
    # Together with a fully recorded run, seen windows are seen, and the rest is still unknown.
    both = moola.predict([result.run, run], market / "store", to=TO, stride=50)["seen"].to_pylist()
    known = moola.predict(run, market / "store", to=TO, stride=50)["seen"].to_pylist()
    assert both == [True if seen else None for seen in known]
    assert True in both
    again = moola.finetune(
        None, tmp_path / "raw.safetensors", tmp_path / "tuned", encoder=run, folds=2, **QUIET
    )
    more = "and this report cannot tell which of them the encoder was pre-trained on"
    assert again.report[0] == f"{unknown}, {more}"
    assert read_seen_bars(again.run).record() == {
        "complete": False,
        "stretches": read_seen_bars(run).record(),
    }
    ours, theirs = (load_model(path).origin for path in (result.run, run))
    assert ours is not None
    assert theirs is not None
    assert ours.features == replace(theirs.features, bars=None)


def test_pre_cut_windows_keep_their_times(
    run: Path, market: Path, store: moola.FeatureStore, labels: LabelledWindows, tmp_path: Path
) -> None:
    """With their bars and their times, from the file to the seen windows in predictions."""
    bars = pq.read_table(market / "bars.parquet")
    symbol, time = np.array(bars["symbol"].to_pylist()), bars["timestamp"].cast(pa.int64()).to_numpy()
    order = np.lexsort([time, symbol])
    symbol, time, bars = symbol[order], time[order], bars.take(order)
    prices = np.stack([bars[name].to_numpy() for name in ("open", "high", "low", "close")], axis=1)
    place = {key: i for i, key in enumerate(zip(symbol.tolist(), time.tolist(), strict=True))}
    assert labels.times is not None
    last = [place[key] for key in zip(labels.symbols.tolist(), labels.times.tolist(), strict=True)]
    windows = np.stack([prices[i - 104 : i + 1] for i in last])
    raw = pa.table(
        {
            "features": pa.array(windows.tolist()),
            "symbol": labels.symbols,
            "window_end": pa.array(labels.times, pa.timestamp("ns", "UTC")),
            "class": np.array(labels.classes)[labels.y],
        }
    )
    cut = read_raw_windows(raw, feature_set=store.feature_set)
    cut.save(tmp_path / "cut.safetensors")
    result = moola.finetune(None, tmp_path / "cut.safetensors", tmp_path / "run", folds=2, **QUIET)
    assert not any("are unknown" in line for line in result.report)
    stretches: dict[str, list[tuple[int, int]]] = {"SIM1": [], "SIM2": []}
    for name, end in zip(labels.symbols.tolist(), labels.times.tolist(), strict=True):
        stretches[name].append((end - 104 * MINUTE, end))
    assert read_seen_bars(result.run).record() == SeenBars(stretches).record()
    ours, theirs = (
        moola.predict(path, market / "store", to=TO, stride=7)["seen"].to_numpy()
        for path in (result.run, run)
    )
    assert ours.dtype == np.bool_
    assert 0 < ours.sum() < len(ours)
    # Windows with a missing minute began earlier than their record says.
    assert not (ours & ~theirs).any()
    assert (ours == theirs).mean() > 0.99


def test_windows_without_a_symbol_give_a_note(
    run: Path, market: Path, store: moola.FeatureStore, labels: LabelledWindows, tmp_path: Path
) -> None:
    """Training saw bars at this time, but it is unknown whether they are these bars."""
    raw = replace(labels, store_id="", splits=None, symbols=np.full(len(labels), ""))
    result = moola.finetune(None, raw, tmp_path / "run", folds=2, **QUIET)
    n = len(labels)
    told = (
        f"{n} of {n} windows name no symbol: predictions for a symbol at the same time cannot tell whether they have "
        "been seen"
    )
    assert told in result.report
    assert not any("the encoder" in line for line in result.report)
    said = moola.predict(result.run, store, to=TO, stride=7)["seen"].to_pylist()
    learned = read_seen_bars(result.run)
    assert set(learned.stretches) == {""}
    table = moola.predict(run, store, to=TO, stride=7)
    ends = nanoseconds(table, "window_end")
    # No window has a minute missing, or it would begin earlier than this.
    near = learned.seen([""] * len(ends), ends - 104 * MINUTE, ends)
    assert {None, False} == set(said)
    assert np.mean([(one is None) == at for one, at in zip(said, near.tolist(), strict=True)]) > 0.99

    again = moola.finetune(None, raw, tmp_path / "tuned", encoder=run, folds=2, scratch=False, **QUIET)
    (line,) = [line for line in again.report if line.startswith("the encoder may have been pre-trained on")]
    assert line == (
        f"the encoder may have been pre-trained on bars of {n} of {n} windows, which count as unseen: either they or "
        "the encoder's bars of that time have no symbol"
    )
