"""Runs of fine-tuned models: what they hold, what calibrates them, and that their predictions can be trusted."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from joblib import parallel_config
from scipy.special import softmax
from typer.testing import CliRunner

import moola
from moola.cli import app
from moola.errors import (
    ConfigError,
    FeatureMismatchError,
    LabelError,
    LeakError,
    RunError,
    SplitError,
    WeightsError,
)
from moola.evaluation.baselines import BASELINES
from moola.evaluation.calibration import TemperatureScaling
from moola.evaluation.leaks import FittedOn, assert_blind_to_test
from moola.evaluation.metrics import METRICS
from moola.evaluation.metrics import scores as scores_of
from moola.evaluation.outcomes import Predictions, Truth
from moola.evaluation.report import evaluate
from moola.finetuning.permutation import heads_on_shuffled_labels
from moola.folds.dealing import purged_folds
from moola.gates import check_gates
from moola.labels import LabelledWindows, read_labels, read_raw_windows
from moola.labels.overlaps import group_overlaps
from moola.models.jade import Jade
from moola.models.loading import load_model
from moola.models.spans import decode_spans
from moola.models.weights import Origin, load_weights, save_weights
from moola.prediction.ensembles import RunEnsemble, combine_runs
from moola.prediction.models import FinetunedModels
from moola.runs.directory import read_metrics, read_seen_bars
from moola.runs.out_of_fold import FoldLogits, OutOfFoldRecord
from moola.runs.seen_bars import SeenBars
from moola.settings.models import Architecture, ModelConfig, load_config
from moola.settings.training import FinetuneConfig
from moola.training import pretrain
from moola.training.examples import Examples
from moola.training.recipe import Recipe, fold_logits, without_fold
from moola.validation.permutation import HEADS_ALONE
from moola.validation.seen_bars import seen_windows

pytestmark = pytest.mark.xdist_group("finetune_run")

MINUTE = 60_000_000_000
# The first five days: of all 43, a prediction would take longer.
TO = "2020-06-14"
TINY: dict[str, Any] = {
    "model": {"name": "tiny", "architecture": {"hidden_size": 8, "num_layers": 1}},
    "training": {"finetune": {"epochs": 3, "lr": 0.01}},
    "augmentation": {"copies": 1},
}
QUIET: dict[str, Any] = {"model": TINY, "device": "cpu", "permutations": 0, "say": lambda line: None}
SHUFFLED = QUIET | {"permutations": 2}
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def _few_guesses() -> Any:
    """Baselines are tested elsewhere; here they only take time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("moola.evaluation.baselines.GUESSES", 1)
        patch.setattr("moola.finetuning.run.evaluate", partial(evaluate, resamples=50))
        yield


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bars of two symbols, their labels (with windows of nothing), and a store."""
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


def saved(windows: LabelledWindows, path: Path) -> Path:
    windows.save(path)
    return path


@pytest.fixture(scope="module")
def run(market: Path) -> Path:
    result = moola.finetune(market / "store", market / "labels.parquet", market / "run", **SHUFFLED)
    assert not result.resumed
    return result.run


@pytest.fixture(scope="module")
def labels(market: Path) -> LabelledWindows:
    return read_labels(market / "labels.parquet", market / "store")


@pytest.fixture(scope="module")
def store(market: Path) -> moola.FeatureStore:
    return moola.FeatureStore.open(market / "store")


@pytest.fixture(scope="module")
def table(run: Path, market: Path) -> pa.Table:
    return moola.predict(run, market / "store", to=TO)


def nanoseconds(table: pa.Table, name: str) -> np.ndarray:
    return pc.fill_null(table[name].cast(pa.int64()), -1).to_numpy()


def examples(labels: LabelledWindows) -> Examples:
    return Examples(labels.X, labels.valid_mask, labels.y, labels.spans, labels.weight)


def blocks_of(labels: LabelledWindows, store: moola.FeatureStore) -> np.ndarray:
    return group_overlaps(store.timestamps[labels.starts], store.timestamps[labels.ends])


def recipe(**given: Any) -> Recipe:
    config = load_config(TINY, ["model.architecture.num_classes=3"])
    how = FinetuneConfig.model_validate({"epochs": 2, "lr": 0.01, "freeze": "none"})
    training = config.training.model_copy(update={"finetune": how})
    whole = Recipe(config.model_copy(update={"training": training}), None, CPU, 17, 0.2, 0)
    return whole._replace(**given)


# The run


def test_a_run_holds_what_is_needed_and_what_was_measured(
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
    assert result["table"][0] == ["", "tiny", fill(HEADS_ALONE, 18), "chance", "p", *BASELINES]
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


# Python from 3.12 on warns of every fork beside threads.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_the_same_seed_gives_the_same_bits_however_many_folds_at_a_time(
    run: Path, market: Path, tmp_path: Path
) -> None:
    windows = market / "labels.parquet"
    # In threads and forks, for new processes would spend a minute on importing torch.
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


def test_a_finished_run_is_not_run_again_and_an_interrupted_one_begins_anew(
    run: Path, market: Path, tmp_path: Path
) -> None:
    what = (market / "store", market / "labels.parquet")
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    with pytest.raises(RunError, match="a run stands there already"):
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


def test_kept_columns_are_scaled_by_what_is_learned_from(market: Path, tmp_path: Path) -> None:
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


def test_without_validation_all_windows_are_learned_from(market: Path, tmp_path: Path) -> None:
    result = moola.finetune(
        market / "store", market / "labels.parquet", tmp_path / "run", validation_share=0, **QUIET
    )
    assert result.trained_on == result.windows
    assert result.best_epoch == 2
    assert "val_loss" not in read_metrics(result.run, "epoch")[0]


def test_windows_that_were_cut_beforehand(
    run: Path, market: Path, labels: LabelledWindows, tmp_path: Path
) -> None:
    raw = replace(labels, store_id="", times=None, first_times=None, splits=None)
    raw.save(tmp_path / "raw.safetensors")
    result = moola.finetune(None, tmp_path / "raw.safetensors", tmp_path / "run", **QUIET)
    unknown = "the places of these windows are unknown: predictions cannot tell which windows have been seen"
    assert result.report[0] == unknown
    assert read_seen_bars(result.run).record() == {"complete": False, "stretches": {}}
    some = moola.predict(result.run, market / "store", to=TO, stride=50)
    assert some["seen"].null_count == len(some)
    asked = ["predict", "--run", str(result.run), "--feature-dir", str(market / "store"), "--to", TO]
    asked += ["--stride", "50", "--output", str(tmp_path / "p.parquet")]
    shown = " ".join(CliRunner().invoke(app, asked).stdout.split())
    assert f"{len(some)}, of 0 the models have seen bars, and for {len(some)} it is unknown" in shown
    record = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    assert (record["seen"], record["seen_unknown"]) == (0, len(some))
    # Together with a run of which all is known, what is seen is seen, and the rest still unknown.
    both = moola.predict([result.run, run], market / "store", to=TO, stride=50)["seen"].to_pylist()
    known = moola.predict(run, market / "store", to=TO, stride=50)["seen"].to_pylist()
    assert both == [True if seen else None for seen in known]
    assert True in both
    again = moola.finetune(
        None, tmp_path / "raw.safetensors", tmp_path / "tuned", encoder=run, folds=2, **QUIET
    )
    assert again.report[0] == f"{unknown}, nor this report which of them the encoder was pre-trained on"
    assert read_seen_bars(again.run).record() == {
        "complete": False,
        "stretches": read_seen_bars(run).record(),
    }
    ours, theirs = (load_model(path).origin for path in (result.run, run))
    assert ours is not None
    assert theirs is not None
    assert ours.features == replace(theirs.features, bars=None)


def test_windows_that_were_cut_beforehand_keep_their_times(
    run: Path, market: Path, store: moola.FeatureStore, labels: LabelledWindows, tmp_path: Path
) -> None:
    """As bars and as times beside them, from the file to what predictions say has been seen."""
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
    # Windows with a minute missing began earlier than is known of them.
    assert not (ours & ~theirs).any()
    assert (ours == theirs).mean() > 0.99


def test_windows_that_name_no_symbol(
    run: Path, market: Path, store: moola.FeatureStore, labels: LabelledWindows, tmp_path: Path
) -> None:
    """Training saw bars of this time, but it is unknown whether they are these bars."""
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
        f"the encoder may have been pre-trained on bars of {n} of {n} windows, which count as unseen: either they, or "
        "the bars that it learned from at that time, name no symbol"
    )


# Calibration


def test_no_window_reaches_its_own_logits(labels: LabelledWindows, store: moola.FeatureStore) -> None:
    """Neither labels nor bars of a fold change what is said of its windows."""
    given = examples(labels)
    blocks = blocks_of(labels, store)
    train, test = purged_folds(labels, 5, seed=17, store=store)[0]
    truth = Truth(labels.y, spans=labels.spans, groups=blocks)

    def fit_predict(X: np.ndarray, known: Truth, fitted: np.ndarray, tested: np.ndarray) -> Predictions:
        assert known.spans is not None
        now = given._replace(X=X, y=known.y, spans=known.spans)
        outcome = without_fold(recipe(), now, blocks, fitted, tested)
        return Predictions(softmax(outcome.logits, axis=1), outcome.places)

    assert_blind_to_test(fit_predict, given.X, truth, train, test, seed=1)


def test_the_temperature_is_that_of_out_of_fold_logits(
    run: Path, labels: LabelledWindows, store: moola.FeatureStore
) -> None:
    given, blocks = examples(labels), blocks_of(labels, store)
    parts = purged_folds(labels, 5, seed=17, store=store)
    mine = recipe()
    how = mine.config.training.finetune.model_copy(update={"epochs": 3})
    training = mine.config.training.model_copy(update={"finetune": how})
    mine = mine._replace(config=mine.config.model_copy(update={"training": training}))
    logits = np.empty((len(labels), 3))
    for train, test in parts:
        logits[test] = without_fold(mine, given, blocks, train, test).logits
    expected = TemperatureScaling().fit(logits, labels.y).temperature
    origin = load_model(run).origin
    assert origin is not None
    assert origin.more["temperature"] == expected


def test_logits_of_a_model_that_knows_the_window_are_refused() -> None:
    rng = np.random.default_rng(2)
    logits, y = rng.normal(size=(20, 2)), rng.integers(0, 2, 20)
    folds = np.arange(20) % 2
    apart = [FittedOn(folds == 1), FittedOn(folds == 0)]
    assert FoldLogits(logits, folds, apart).temperature(y) > 0
    mixed = [FittedOn((folds == 1) | (np.arange(20) == 4)), apart[1]]
    with pytest.raises(LeakError, match=r"the model of fold 0 was fitted on windows .*: 1 window, 4"):
        FoldLogits(logits, folds, mixed).temperature(y)


def test_reported_probabilities_are_calibrated_by_other_folds() -> None:
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 60)
    logits = 9 * (np.eye(2)[y] + rng.normal(size=(60, 2)))
    folds = np.arange(60) % 3
    held_out = FoldLogits(logits, folds, [FittedOn(folds != fold) for fold in range(3)])
    before = held_out.probabilities(y)
    changed = np.where(folds == 1, 1 - y, y)
    after = held_out.probabilities(changed)
    assert np.array_equal(before[folds == 1], after[folds == 1])
    assert not np.allclose(before[folds != 1], after[folds != 1])


# Luck


def test_chance_is_of_heads_alone_and_so_is_what_is_set_among_it(
    run: Path, labels: LabelledWindows, store: moola.FeatureStore
) -> None:
    result = json.loads((run / "result.json").read_text())
    permutation = result["evaluation"]["null"]
    assert set(permutation) == set(METRICS)
    assert all(len(found["scores"]) == 2 for found in permutation.values())
    config = load_config(TINY, ["model.architecture.num_classes=3"])
    heads = Recipe(config, None, CPU, 17, 0.2, 0).heads_alone()
    given, blocks = examples(labels), blocks_of(labels, store)
    parts = purged_folds(labels, 5, seed=17, store=store)
    found, places = fold_logits(parts, [without_fold(heads, given, blocks, *part) for part in parts])
    truth = Truth(labels.y, spans=labels.spans, groups=blocks)
    said = found.predictions(labels.y, places, np.array([True, False, True]))
    alone = scores_of(truth, said)
    for name, value in alone.items():
        assert permutation[name]["value"] == pytest.approx(value)
    # The whole model has learned more than its heads.
    assert result["evaluation"]["scores"]["log_loss"]["value"] != pytest.approx(alone["log_loss"], rel=1e-6)
    told = f"their p is of heads alone on the true labels, with macro-F1 {alone['macro_f1']:.3f}"
    (line,) = [line for line in result["report"] if line.startswith("chance is what heads alone give")]
    assert "on an encoder of random weights, with 2 shuffles of the labels: 15 fits" in line
    assert told in line
    (cost,) = read_metrics(run, "chance")
    assert (cost["permutations"], cost["fits"]) == (2, 15)
    assert cost["timing"]["seconds"] > 0


def test_groups_that_cannot_exchange_their_labels_have_no_chance(labels: LabelledWindows) -> None:
    groups = np.repeat(np.arange(3), [10, 20, len(labels) - 30])
    truth = Truth(labels.y, spans=labels.spans, groups=groups)
    permutation, note = heads_on_shuffled_labels(
        recipe(), examples(labels), truth, [], np.array([True]), permutations=2, n_jobs=None
    )
    assert permutation == {}
    assert note.startswith("there is no chance to compare with: groups of windows are 3, no two of one size")


# Predictions


def test_a_row_a_window(run: Path, store: moola.FeatureStore, table: pa.Table) -> None:
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
        # A pointer on the edge between two bars may be rounded either way.
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


def test_no_span_where_the_likeliest_class_has_none(run: Path, market: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    weights = load_weights(run / "best.safetensors")
    bias = next(name for name in weights.tensors if name.startswith("type_head.3") and "bias" in name)
    weights.tensors[bias][1] += 50
    save_weights(tmp_path / "run" / "best.safetensors", weights.tensors, weights.record)
    said = moola.predict(tmp_path / "run", market / "store", from_="2020-06-10", to="2020-06-11")
    assert len(said)
    assert said["start"].null_count == said["end"].null_count == len(said)


def test_a_run_that_was_copied_elsewhere_says_the_same(
    run: Path, market: Path, table: pa.Table, tmp_path: Path
) -> None:
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


def test_a_row_depends_on_no_bar_after_its_window(
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


def test_ranges_of_time(run: Path, market: Path, table: pa.Table) -> None:
    part = moola.predict(run, market / "store", from_="2020-06-10", to="2020-06-12T03:00:00+02:00")
    low, high = (np.datetime64(text, "ns").astype(np.int64) for text in ("2020-06-10", "2020-06-12T01:00:00"))
    ends = nanoseconds(table, "window_end")
    assert part.equals(table.filter(pa.array((ends >= low) & (ends < high))))
    assert len(moola.predict(run, market / "store", from_="2031-01-01")) == 0
    strided = moola.predict(run, market / "store", stride=50, to="2020-06-10")
    assert 0 < len(strided) < len(part)
    assert len(moola.predict(run, market / "store", to="2020-06-10", stride=50, split=None)) == len(strided)


def test_bars_instead_of_a_store(
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


def pretrained(store: moola.FeatureStore, path: Path) -> Path:
    pretrain(
        store,
        path,
        model={"model": TINY["model"]},
        epochs=1,
        batch_size=16,
        windows_per_epoch=32,
        device="cpu",
        say=lambda line: None,
    )
    return path


@pytest.fixture(scope="module")
def encoder(market: Path, store: moola.FeatureStore) -> Path:
    return pretrained(store, market / "encoder")


FROM_ENCODER = {name: value for name, value in SHUFFLED.items() if name != "model"} | {"epochs": 2}


def test_an_encoder_of_bars_that_reach_over_gaps_is_told_of(
    market: Path, encoder: Path, tmp_path: Path
) -> None:
    loose = moola.build_features(
        market / "bars.parquet", tmp_path / "loose", stamp="open", config={"warmup_bars": 20}
    )
    pretrained(loose, tmp_path / "encoder")
    note = "features of the labels begin afresh after gaps over 30m, those that the weights were trained on never"
    for number, (start, told) in enumerate([(tmp_path / "encoder", True), (encoder, False)]):
        result = moola.finetune(
            market / "store",
            market / "labels.parquet",
            tmp_path / f"run{number}",
            encoder=start,
            **FROM_ENCODER | {"permutations": 0, "scratch": False},
        )
        assert any(line.startswith(note) for line in result.report) == told


def test_seen_in_pre_training_is_seen(
    market: Path, store: moola.FeatureStore, encoder: Path, tmp_path: Path
) -> None:
    what = (market / "store", market / "labels.parquet")
    lines: list[str] = []
    given = FROM_ENCODER | {"say": lines.append, "freeze": "always"}
    result = moola.finetune(*what, tmp_path / "run", encoder=encoder, **given)
    before, after = (load_weights(of / "best.safetensors").tensors for of in (encoder, tmp_path / "run"))
    shared = [name for name in before if name.startswith("encoder.")]
    assert shared
    assert all(torch.equal(before[name], after[name]) for name in shared)
    assert {"seen", "unseen"} == set(result.evaluation["apart"])
    assert any("the encoder was pre-trained on" in line for line in result.report)
    said = moola.predict(result.run, store, split="train", stride=52)
    assert pc.all(said["seen"]).as_py()
    later = moola.predict(result.run, store, split="test", stride=52)
    assert not pc.all(later["seen"]).as_py()

    # The same model from scratch, in the same folds.
    kept = OutOfFoldRecord.load(result.run)
    assert list(kept.baselines) == [*BASELINES, "tiny from scratch"]
    name = "tiny from scratch"
    assert result.table[0] == (
        "",
        "tiny",
        "unseen",
        "seen",
        fill(HEADS_ALONE, 18),
        "chance",
        "p",
        *BASELINES,
        name,
    )
    assert any(line.startswith(f"against {name}: ") for line in result.report)
    alone = load_config(
        {"model": TINY["model"]}, ["model.architecture.num_classes=3", "training.finetune.epochs=2"]
    )
    labels = read_labels(what[1], store)
    blocks = blocks_of(labels, store)
    parts = purged_folds(labels, 5, seed=17, store=store)
    plain = Recipe(alone, None, CPU, 17, 0.2, 0).from_scratch()
    assert plain.config.training.finetune.freeze == "none"
    first = without_fold(plain, examples(labels), blocks, *parts[0])
    (scratch,) = kept.baselines[name]
    assert scratch.probabilities is not None
    ours = scratch.probabilities[parts[0][1]]
    assert np.array_equal(ours.argmax(axis=1), first.logits.argmax(axis=1))
    assert len(read_metrics(result.run, "scratch_fold")) == 5
    assert "from scratch, fold 5 of 5: 2 epochs" in lines
    (line,) = [line for line in result.report if line.startswith("chance is what heads alone give")]
    assert "on the encoder as it is, with 2 shuffles" in line

    scratch_free = {"freeze": 1, "scratch": False, "permutations": 0}
    later_thawed = moola.finetune(*what, tmp_path / "thawed", encoder=encoder, **FROM_ENCODER | scratch_free)
    assert list(OutOfFoldRecord.load(later_thawed.run).baselines) == list(BASELINES)
    thawed = load_weights(later_thawed.run / "best.safetensors").tensors
    assert [record["frozen"] for record in read_metrics(later_thawed.run, "epoch")] == [1, 0]
    assert later_thawed.best_epoch == 0 or not all(torch.equal(before[name], thawed[name]) for name in shared)


def test_an_encoder_whose_pre_training_bars_are_unknown_is_refused(
    market: Path, encoder: Path, labels: LabelledWindows, tmp_path: Path
) -> None:
    shutil.copy(encoder / "best.safetensors", tmp_path / "lone.safetensors")
    what = (market / "store", labels, tmp_path / "run")
    with pytest.raises(RunError, match=r"there is no learned.json. Give the directory that moola trained in"):
        moola.finetune(*what, encoder=tmp_path / "lone.safetensors", **FROM_ENCODER)
    # With the same words as a cross-validation.
    with pytest.raises(RunError, match=r"there is no learned.json. Give the directory that moola trained in"):
        seen_windows(tmp_path / "lone.safetensors", labels, market / "store")
    assert not (tmp_path / "run").exists()


def test_windows_that_were_cut_beforehand_may_all_have_been_seen(
    encoder: Path, labels: LabelledWindows, tmp_path: Path
) -> None:
    raw = replace(labels, store_id="", times=None, splits=None)
    given = FROM_ENCODER | {"permutations": 0, "scratch": False}
    result = moola.finetune(None, raw, tmp_path / "run", encoder=encoder, **given)
    assert "the encoder may have been pre-trained on bars of any of these windows" in result.report[1]


# Ensembles


@pytest.fixture(scope="module")
def second(market: Path) -> Path:
    where = market / "second"
    return moola.finetune(market / "store", market / "labels.parquet", where, seed=3, **QUIET).run


@pytest.fixture(scope="module")
def together(run: Path, second: Path, market: Path) -> RunEnsemble:
    return combine_runs([run, second], market / "ensemble")


def test_runs_together_average_probabilities_and_spans(run: Path, second: Path, market: Path) -> None:
    when = {"from_": "2020-06-10", "to": "2020-06-11"}
    both = moola.predict([run, second], market / "store", **when)
    each = [moola.predict(path, market / "store", **when) for path in (run, second)]
    for name in ("p_consolidation", "p_none", "p_retracement"):
        mean = np.mean([one[name].to_numpy() for one in each], axis=0)
        np.testing.assert_allclose(both[name].to_numpy(), mean, atol=1e-12)
    seen = np.logical_or(*(one["seen"].to_numpy() for one in each))
    assert np.array_equal(both["seen"].to_numpy(), seen)

    models = FinetunedModels.load([run, second])
    answers = np.zeros((1, 10), np.float32)
    answers[0, [0, 5]] = 9
    answers[0, [3, 4, 8, 9]] = [20, 30, 41, 36]
    _, spans = models.combine(answers)
    assert spans.tolist() == [[31, 33]]


def test_an_ensemble_can_be_copied_elsewhere_and_used(
    run: Path, second: Path, market: Path, together: RunEnsemble, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(together.path, elsewhere)
    when = {"from_": "2020-06-10", "to": "2020-06-11"}
    said = moola.predict(elsewhere, market / "store", **when)
    plain = moola.predict([run, second], market / "store", **when)
    names = ["p_consolidation", "p_none", "p_retracement"]
    mean, calibrated = (np.stack([one[name].to_numpy() for name in names], axis=1) for one in (plain, said))
    assert together.temperature is not None
    expected = softmax(np.log(mean) / together.temperature, axis=1)
    np.testing.assert_allclose(calibrated, expected, atol=1e-12)
    # The most likely class stays what it was, and so do spans.
    assert said.select(["window_end", "start", "end", "seen"]).equals(
        plain.select(["window_end", "start", "end", "seen"])
    )
    # Among others an ensemble is its members.
    assert moola.predict([elsewhere, run], market / "store", **when)["p_none"].equals(
        moola.predict([run, second, run], market / "store", **when)["p_none"]
    )


def test_an_ensemble_is_calibrated_on_what_no_member_has_seen(
    run: Path, second: Path, together: RunEnsemble, labels: LabelledWindows
) -> None:
    one, two = OutOfFoldRecord.load(run), OutOfFoldRecord.load(second)
    y, folds = labels.y, one.out_of_fold.folds
    assert not np.array_equal(folds, two.out_of_fold.folds)
    for kept in (one, two):
        assert np.array_equal(kept.truth.y, y)
        for fold, fitted in enumerate(kept.out_of_fold.fitted_on):
            assert not np.isin(np.flatnonzero(kept.out_of_fold.folds == fold), fitted.windows).any()

    def mean(rows: np.ndarray) -> np.ndarray:
        parts = [kept.out_of_fold.logits for kept in (one, two)]
        scaled = [TemperatureScaling().fit(z[rows], y[rows]).probabilities(z) for z in parts]
        return np.log(np.mean(scaled, axis=0))

    every = np.ones(len(y), bool)
    assert together.temperature == pytest.approx(TemperatureScaling().fit(mean(every), y).temperature)
    # What is reported is by temperatures of other folds, those of the members too.
    losses = np.empty(len(y))
    for fold in np.unique(folds):
        mine, rest = folds == fold, folds != fold
        scaling = TemperatureScaling().fit(mean(rest)[rest], y[rest])
        losses[mine] = -np.log(scaling.probabilities(mean(rest))[mine, y[mine]])
    assert together.evaluation is not None
    assert together.evaluation.scores["log_loss"].value == pytest.approx(losses.mean())
    assert list(together.evaluation.differences) == [*BASELINES, "1-run", "2-second"]
    unshuffled = "labels were not shuffled: runs are combined without any fit"
    assert sum(line.startswith(unshuffled) for line in together.evaluation.summary()) == 1
    assert not np.isnan(together.evaluation.scores["span_hits"].value)
    own = json.loads((run / "result.json").read_text())["evaluation"]["scores"]
    for name in ("log_loss", "macro_f1", "span_iou"):
        assert together.evaluation.baselines["1-run"][name].value == pytest.approx(own[name]["value"])
    result = json.loads((together.path / "result.json").read_text())
    assert result["temperature"] == together.temperature
    for name in ("1-run", "majority class", "pooled logistic regression"):
        assert any(line.startswith(f"against {name}: ") for line in result["report"])
    alone = json.loads((run / "result.json").read_text())["evaluation"]["baselines"]
    for name, metric in zip(BASELINES, ("log_loss", "macro_f1", "span_iou", "macro_f1"), strict=True):
        assert together.evaluation.baselines[name][metric].value == alone[name][metric]["value"]


def test_an_ensemble_of_runs_whose_folds_cannot_be_put_together(
    run: Path, second: Path, market: Path, labels: LabelledWindows, tmp_path: Path
) -> None:
    shutil.copytree(second, tmp_path / "bare")
    (tmp_path / "bare" / "out_of_fold.safetensors").unlink()
    fewer = moola.finetune(
        market / "store", labels.take(np.arange(1, len(labels))), tmp_path / "fewer", **QUIET
    )
    for number, (other, why) in enumerate(
        [
            (tmp_path / "bare", "bare has kept no out-of-fold logits"),
            (fewer.run, "fewer was fine-tuned on other windows or labels than"),
        ]
    ):
        made = combine_runs([run, other], tmp_path / f"ensemble{number}")
        assert made.temperature is made.evaluation is None
        assert why in made.notes[0]
        when = {"from_": "2020-06-10", "to": "2020-06-11"}
        plain = moola.predict([run, other], market / "store", **when)
        assert moola.predict(made.path, market / "store", **when).equals(plain)


def test_out_of_fold_logits_are_checked_when_they_are_read(run: Path, tmp_path: Path) -> None:
    file = "out_of_fold.safetensors"
    weights = load_weights(run / file)
    knows = [FittedOn(np.arange(40)).record()] * 5
    save_weights(tmp_path / file, weights.tensors, weights.record | {"fitted_on": knows})
    with pytest.raises(LeakError, match="the model of fold 0 was fitted on windows that it is scored on"):
        OutOfFoldRecord.load(tmp_path)
    save_weights(tmp_path / file, weights.tensors, {"kind": "finetune"})
    with pytest.raises(WeightsError, match=r"does not hold the out-of-fold logits of a run. Fine-tune it"):
        OutOfFoldRecord.load(tmp_path)


def test_ensembles_that_cannot_be(
    run: Path, second: Path, market: Path, together: RunEnsemble, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="runs: names 1, which leaves nothing to average; give two or more"):
        combine_runs([run], tmp_path / "x")
    with pytest.raises(RunError, match=r"holds the same weights as .*run. Give each run once"):
        combine_runs([run, second, together.path], tmp_path / "x")
    with pytest.raises(RunError, match=r"something stands there already. Choose another --output"):
        combine_runs([run, second], run)
    assert not (tmp_path / "x").exists()

    (tmp_path / "none").mkdir()
    remake = "Make it with moola ensemble RUN RUN … --output DIR"
    for record, message in (
        ({"members": []}, f"ensemble.json: names no members. {remake}"),
        ({"members": ["../run"]}, "names ../run, which lies outside its directory and would be left behind"),
        ({"members": ["run"], "temperature": 0.0}, "its temperature 0.0 is no number above 0"),
    ):
        if not (tmp_path / "none" / "run").exists():
            shutil.copytree(run, tmp_path / "none" / "run")
        (tmp_path / "none" / "ensemble.json").write_text(json.dumps(record))
        with pytest.raises(RunError) as caught:
            moola.predict(tmp_path / "none", market / "store")
        assert message in str(caught.value)


# Gates


def test_a_fine_tuned_run_is_held_against_itself_and_others(
    run: Path, second: Path, together: RunEnsemble, market: Path
) -> None:
    checks = {c.gate: c for c in check_gates(run, against=run).checks}
    loss = checks["no worse validation loss"]
    assert loss.outcome == "passed"
    assert loss.value == json.loads((run / "result.json").read_text())["validation_loss"]["value"]
    assert checks["no worse macro-F1"].outcome == "passed"
    assert checks["epoch time, s"].why == "the slowest of all"
    # Another seed has chosen its epoch by other windows.
    other = {c.gate: c for c in check_gates(second, against=run).checks}["no worse validation loss"]
    assert (other.outcome, other.why) == ("skipped", "the validation loss is of other windows there")
    worse = market / "worse"
    shutil.copytree(run, worse)
    result = json.loads((worse / "result.json").read_text())
    result["validation_loss"]["value"] = result["validation_loss"]["high"] * 1.01
    (worse / "result.json").write_text(json.dumps(result))
    found = {c.gate: c for c in check_gates(worse, against=run).checks}["no worse validation loss"]
    assert found.outcome == "failed"

    of_both = {c.gate: c for c in check_gates(together.path).checks}
    one = {c.gate: c for c in check_gates(run).checks}
    assert of_both["parameters per window"].value == 2 * one["parameters per window"].value
    assert of_both["validation spread"].value >= one["validation spread"].value
    assert of_both["epoch time, s"].value > 0


def test_runs_that_do_not_go_together_are_refused(
    run: Path, market: Path, labels: LabelledWindows, tmp_path: Path
) -> None:
    two = LabelledWindows.load(market / "surges.safetensors")
    other = moola.finetune(market / "store", two, tmp_path / "two", **QUIET)
    with pytest.raises(
        RunError, match=r"two: its classes \['consolidation', 'retracement'\], those of .*run"
    ):
        moola.predict([run, other.run], market / "store")
    with pytest.raises(RunError, match="two: its classes"):
        combine_runs([run, other.run], tmp_path / "ensemble")
    assert not (tmp_path / "ensemble").exists()
    with pytest.raises(ConfigError, match="run: names none; give the directory of a fine-tuned run"):
        moola.predict([], market / "store")


# What is refused


def test_bars_that_do_not_fit_are_refused(run: Path, market: Path, tmp_path: Path) -> None:
    other = moola.build_features(
        market / "bars.parquet", tmp_path / "ohlc4", feature_set="ohlc4", stamp="open"
    )
    with pytest.raises(FeatureMismatchError, match="has the features ohlc4, the weights were trained on rel"):
        moola.predict(run, other, tmp_path / "p.parquet")
    assert not (tmp_path / "p.parquet").exists()
    parameters = moola.build_features(
        market / "bars.parquet", tmp_path / "k", stamp="open", reset_on_gap="30m", config={"zigzag_k": 2.0}
    )
    with pytest.raises(
        FeatureMismatchError, match=r"built with zigzag_k 2.0, the weights were trained with zig"
    ):
        moola.predict(run, parameters)


def test_what_is_no_fine_tuned_run_is_refused(run: Path, market: Path, tmp_path: Path) -> None:
    store = market / "store"
    with pytest.raises(
        RunError, match=r"is a file; what a run has seen stands beside its weights. Give the dir"
    ):
        moola.predict(run / "best.safetensors", store)
    with pytest.raises(WeightsError, match=r"there is no such file. Give a run directory"):
        moola.predict(tmp_path, store)
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "learned.json").unlink()
    with pytest.raises(RunError, match=r"there is no learned.json. Give the directory"):
        moola.predict(tmp_path / "run", store)
    weights = load_weights(run / "best.safetensors")
    record = weights.record | {"more": {}}
    save_weights(tmp_path / "run" / "best.safetensors", weights.tensors, record)
    problem = "does not say what its classes are, or how to calibrate them. Fine-tune it with moola finetune"
    with pytest.raises(WeightsError, match=problem):
        moola.predict(tmp_path / "run", store)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"split": "test", "from_": "2020-06-10"}, "split: goes with neither --from nor --to; give one"),
        ({"from_": "yesterday"}, "from: 'yesterday' is no time; write 2020-06-10, or 2020-06-10T14:30:00Z"),
        ({"to": "2020-06-10T14:30"}, "to: '2020-06-10T14:30' has no offset; write Z after it for UTC"),
        (
            {"data": "bars.parquet"},
            "data: cannot be combined with --feature-dir; give bars or a store, not both",
        ),
        (
            {"feature_dir": None},
            "feature_dir: is missing; give a store that moola build-features made, or --da",
        ),
        ({"batch_size": 0}, "batch_size: 0 is out of range"),
        ({"split": "tset"}, "split: 'tset' is not a split; give train, val, test or all"),
    ],
)
def test_requests_that_make_no_sense(run: Path, market: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        moola.predict(run, **{"feature_dir": market / "store"} | given)
    assert message in str(caught.value)


def test_labels_that_cannot_be_learned_from(
    market: Path, labels: LabelledWindows, store: moola.FeatureStore, tmp_path: Path
) -> None:
    def attempt(given: Any, where: Any = market / "store", **options: Any) -> None:
        moola.finetune(where, given, tmp_path / "run", **QUIET | options)

    with pytest.raises(ConfigError, match=r"labels: 'none' is the only class; label windows of at least two"):
        attempt(replace(labels, classes=("none",), y=np.zeros_like(labels.y)))
    with pytest.raises(LabelError, match=r"windows? for 50 folds"):
        attempt(labels, folds=50)
    forms = (labels, market / "labels.parquet", pq.read_table(market / "labels.parquet").to_pandas())
    for given in forms:
        with pytest.raises(ConfigError, match=r"validation_share: 0.7 is no share; give 0, or up to 0.5"):
            attempt(given, validation_share=0.7)
    with pytest.raises(TypeError, match=r"labels must be a path or an object with __arrow.*, not a list"):
        attempt([1, 2])
    with pytest.raises(
        ConfigError, match="window_length: is 20, the windows have 105 bars; import the labels"
    ):
        attempt(labels, window_length=20)
    with_volume = read_labels(market / "labels.parquet", store, extra=("volume",))
    for given, names, kept, theirs in (
        (labels, ("volume",), "volume", "none"),
        (with_volume, (), "none", "volume"),
        (saved(with_volume, tmp_path / "volume.safetensors"), ("volume", "x"), "volume, x", "volume"),
    ):
        problem = f"extra: is {kept}, the kept columns of the windows are {theirs}; import the labels again"
        with pytest.raises(ConfigError, match=problem):
            attempt(given, extra=names)
    missing = "feature_dir: is missing; give the store that the labels speak of"
    for given in forms:
        with pytest.raises(ConfigError, match=missing):
            attempt(given, None)
    with pytest.raises(ConfigError, match=r"themselves are imported first, with moola import-labels --raw"):
        attempt(market / "labels.parquet", None)
    for whose, what in (("f" * 32, "of another store"), ("", "windows that were cut beforehand")):
        with pytest.raises(ConfigError, match=f"is not what these labels speak of: they are {what}; give"):
            attempt(replace(labels, store_id=whose))
    with pytest.raises(ConfigError, match="feature_dir: is 2 stores, and labels speak of one; give that one"):
        attempt(labels, [market / "store", market / "store"])
    one_place = replace(labels, groups=np.zeros_like(labels.groups))
    with pytest.raises(ConfigError, match="folds: 5 are more than the 1 groups of windows that share bars"):
        attempt(one_place)
    few = labels.take(np.concatenate([np.flatnonzero(labels.y == code)[:4] for code in range(3)]))
    with pytest.raises(LabelError, match="4 windows for 5 folds"):
        attempt(few)
    # All windows of a class overlap: a fold that tests them has none of them to learn from.
    groups = np.arange(len(labels))
    groups[labels.y == 1] = len(labels)
    with pytest.raises(
        SplitError, match=r"has no window of class .* to train on: windows that share bars stay"
    ):
        attempt(replace(labels, groups=groups))


def test_an_encoder_of_other_features_is_refused(
    run: Path, market: Path, labels: LabelledWindows, tmp_path: Path
) -> None:
    other = replace(labels, feature_set="ohlc4", store_id="")
    names = ("open", "high", "low", "close")
    other = replace(other, X=labels.X[:, :, :4].copy(), feature_names=names)
    with pytest.raises(FeatureMismatchError, match="the labels has the features ohlc4, the weights were"):
        moola.finetune(None, other, tmp_path / "run", encoder=run, device="cpu")


def test_only_what_is_frozen_for_some_epochs_can_thaw(
    run: Path, market: Path, labels: LabelledWindows, tmp_path: Path
) -> None:
    def attempt(**options: Any) -> None:
        moola.finetune(market / "store", labels, tmp_path / "run", device="cpu", **options)

    for freeze in ("none", "always"):
        problem = f"unfreeze_every: thaws what is frozen for some epochs, and freeze is {freeze}; give --freeze EPOCHS"
        with pytest.raises(ConfigError, match=problem):
            attempt(encoder=run, freeze=freeze, unfreeze_every=2)
    every = ["training.finetune.unfreeze_every=2"]
    with pytest.raises(ConfigError, match="freeze is none"):
        attempt(encoder=run, settings=every)
    # Wherever each of the two is said; and from scratch nothing is frozen, whatever is said.
    for options in ({"encoder": run, "freeze": 1}, {"freeze": "always"}, {}):
        with pytest.raises(ConfigError, match="validation_share: 2 is no share"):
            attempt(settings=every, validation_share=2, **options)


# The commands


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        app([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_commands(
    market: Path, run: Path, table: pa.Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.yaml").write_text(json.dumps(TINY))
    where = ["--feature-dir", market / "store", "--labels", market / "labels.parquet"]
    how = ["--model", tmp_path / "tiny.yaml", "--device", "cpu", "--output", tmp_path / "run"]
    how += ["--permutations", 1]
    assert command("finetune", *where, *how) == 0
    shown = capsys.readouterr()
    assert "fold 5 of 5: 3 epochs" in shown.err
    assert re.search(r"10 fits of heads alone took \d+ s", shown.err)
    assert re.search(
        r"calibrated  temperature \d.*; the calibration error is then 0\.\d{3}, and would be 0\.\d{3} to",
        shown.out,
    )
    assert "metrics.jsonl, confusion.png, reliability.png, spans.png\n" in shown.out
    assert re.search(r"tiny +.*chance +p +.*majority class +stratified", shown.out)
    for metric in METRICS.values():
        assert re.search(rf"\n{re.escape(metric.title)} +[–\d]", shown.out)
    assert "out of fold: macro-F1" in shown.out
    assert "\n- against pooled logistic regression: " in shown.out
    # From the command line the same as from Python.
    both = [load_weights(path / "best.safetensors").digest for path in (run, tmp_path / "run")]
    assert both[0] == both[1]
    assert command("finetune", *where, *how, "--resume", "--json") == 0
    assert json.loads(capsys.readouterr().out)["resumed"] is True
    assert command("finetune", *where, "--resume") == 2
    assert "--output: is missing; give the run directory that --resume continues" in capsys.readouterr().err
    assert command("finetune", *where, "--freeze", "never", "--output", tmp_path / "x") == 2
    assert "freeze" in capsys.readouterr().err

    store, file = ["--feature-dir", market / "store"], tmp_path / "p.parquet"
    assert command("predict", "--run", tmp_path / "run", *store, "--output", file, "--to", TO) == 0
    assert f"windows     {len(table):,}, of " in capsys.readouterr().out
    assert pq.read_table(file).equals(table)
    some = ["--from", "2020-06-10", "--to", "2020-06-11", "--stride", 7, "--json"]
    assert command("predict", "--run", run, "--run", tmp_path / "run", *store, "--output", file, *some) == 0
    assert json.loads(capsys.readouterr().out)["windows"] == len(pq.read_table(file))
    assert command("predict", "--run", run, *store, "--output", file, "--from", "noon") == 2
    assert "--from: 'noon' is no time" in capsys.readouterr().err


def test_the_command_thaws_weighs_and_marks_bars(
    market: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Layers thaw one after the other, classes weigh the same, and spans come from the span head."""
    theirs = load_model(run).origin
    assert theirs is not None
    model = ModelConfig(name="deep", architecture=Architecture(hidden_size=4, num_layers=3))
    origin = Origin("pretrain", model, theirs.features, 105)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        drawn = Jade(10, hidden_size=4, num_layers=3).encoder.state_dict()
    encoder = {f"encoder.{name}": tensor for name, tensor in drawn.items()}
    (tmp_path / "encoder").mkdir()
    save_weights(tmp_path / "encoder" / "best.safetensors", encoder, origin.record())
    (tmp_path / "encoder" / "learned.json").write_text("{}")
    where = ["--feature-dir", market / "store", "--labels", market / "labels.parquet"]
    how = ["--encoder", tmp_path / "encoder", "--unfreeze-every", 2, "--epochs", 6]
    how += ["--class-weight", "balanced", "--set", "model.architecture.span_head=true", "--folds", 2]
    how += ["--set", "augmentation.copies=1", "--device", "cpu", "--output", tmp_path / "run"]
    assert command("finetune", *where, *how) == 2
    assert "--unfreeze-every: thaws what is frozen for some epochs" in capsys.readouterr().err
    assert command("finetune", *where, *how, "--freeze", 1) == 0
    assert "span hits" in capsys.readouterr().out
    assert (
        json.loads((tmp_path / "run" / "config.json").read_text())["training"]["class_weight"] == "balanced"
    )
    epochs = read_metrics(tmp_path / "run", "epoch")
    assert [record["frozen"] for record in epochs] == [3, 2, 2, 1, 1, 0]
    assert set(epochs[0]["train_losses"]) == {"type", "pointer", "span"}

    file, day = tmp_path / "p.parquet", ["--from", "2020-06-10", "--to", "2020-06-11"]
    assert command("predict", "--run", tmp_path / "run", *where[:2], "--output", file, *day) == 0
    table = pq.read_table(file)
    assert load_model(tmp_path / "run").span_head is not None
    assert len(table) > 500
    there = table["start"].is_valid().to_numpy()
    assert there.any()
    start, end, last = (nanoseconds(table, name)[there] for name in ("start", "end", "window_end"))
    assert ((start <= end) & (end <= last)).all()


def test_the_command_that_combines(
    market: Path, run: Path, second: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("ensemble", run, second, "--output", tmp_path / "both") == 0
    shown = capsys.readouterr().out
    assert "of the mean, from out-of-fold logits" in shown
    assert "against 1-run: " in shown
    store, file = ["--feature-dir", market / "store"], tmp_path / "p.parquet"
    some = ["--from", "2020-06-10", "--to", "2020-06-11", "--stride", 7]
    assert command("predict", "--run", tmp_path / "both", *store, "--output", file, *some) == 0
    capsys.readouterr()
    assert command("ensemble", run, second, "--output", tmp_path / "again", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert made["members"] == ["members/1-run", "members/2-second"]
    assert made["evaluation"]["scores"]["log_loss"]["value"] > 0

    (tmp_path / "cv").mkdir()
    (tmp_path / "cv" / "cross_validation.json").write_text("{}")
    assert command("ensemble", run, tmp_path / "cv", "--output", tmp_path / "mixed") == 2
    error = capsys.readouterr().err
    assert (
        "cv is a cross-validation, whose models were not kept; give it alone, or fine-tuned runs al" in error
    )
    assert not (tmp_path / "mixed").exists()
