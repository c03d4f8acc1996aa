"""What a pre-training run learns, records and reports."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pretraining import STEPS, sample_store, train
from tiny_store import MINUTE, write_files, write_hashes

import moola
from moola import FastWindowedDataset, _core
from moola.data.fast_windowed_loader import create_fast_dataloaders
from moola.errors import FeatureMismatchError, WeightsError
from moola.files.publishing import publishing
from moola.models import load_encoder
from moola.models.training_bars import training_bars
from moola.models.weights import load_weights
from moola.runs.directory import read_metrics, read_seen_bars
from moola.runs.seen_bars import SeenBars
from moola.settings.training import PretrainConfig
from moola.store.layout import METADATA
from moola.training.objective import huber, load_autoencoder
from moola.training.predictors import best_constants, interpolate
from moola.training.step import learning_rate


def shuffled(store: Path, path: Path) -> Path:
    """A store with its bars in random order: the same values, and nothing to learn from neighbours."""
    features = np.array(moola.FeatureStore.open(store).features)
    features = features[np.random.default_rng(1).permutation(len(features))]
    with publishing(path) as staging:
        metadata = write_files(
            staging.path, lengths=(len(features),), width=features.shape[1], window_length=105
        )
        assert metadata["layout"] == "bars"
        header = _core.npy_header("<f4", features.shape)
        (staging.path / "features.npy").write_bytes(header + features.tobytes())
        write_hashes(staging.path)
        assert (staging.path / METADATA).exists()
    return path


def test_pretraining_beats_trivial_predictors_only_on_structured_data(
    tmp_path: Path,
) -> None:
    sample = sample_store(tmp_path, 60_000)
    learner = {"hidden_size": 32, "input_dropout": 0.0, "recurrent_dropout": 0.0, "dense_dropout": 0.0}
    options: dict[str, Any] = {
        "model": {"model": {"name": "learner", "architecture": learner}},
        "epochs": 6,
        "batch_size": 32,
        "stride": 26,
        "lr": 1e-2,
        "windows_per_epoch": None,
        "checkpoint_every": 0,
        "log_every": 20,
    }
    result = train(sample, tmp_path / "run", **options)
    assert result.learned
    assert result.loss < 0.93 * min(result.interpolation, result.constant)
    assert re.match(r"masked bars are reconstructed .* \d+% below that of interpolation", result.verdict)

    nothing = train(shuffled(sample, tmp_path / "shuffled"), tmp_path / "none", **options)
    assert nothing.loss > 0.99 * min(nothing.interpolation, nothing.constant)
    if not nothing.learned:
        assert nothing.verdict.startswith("the encoder has learned nothing: ")


def test_metrics_record_every_epoch(store: Path, tmp_path: Path) -> None:
    result = train(store, tmp_path / "run", extra=("kept1",), pictures=True)
    names = {"f0", "f1", "f2", "kept1"}
    epochs = read_metrics(tmp_path / "run", "epoch")
    assert [record["epoch"] for record in epochs] == [0, 1]
    for record in epochs:
        for who in ("model", "constant", "interpolation"):
            assert record[who]["features"].keys() == names
            assert record[who]["loss"] == pytest.approx(np.mean(list(record[who]["features"].values())))
        assert record["val_loss"] == record["model"]["loss"]
        assert record["timing"].keys() >= {"seconds", "windows_per_second"}
    assert epochs[0]["constant"] == epochs[1]["constant"]
    assert result.loss == min(record["val_loss"] for record in epochs)
    assert epochs[-1]["parameters_per_window"] > 0
    spread = [record["val_loss"] for record in epochs]
    assert epochs[-1]["validation_spread"] == pytest.approx((max(spread) - min(spread)) / min(spread))
    steps = read_metrics(tmp_path / "run", "step")
    assert [record["step"] for record in steps] == list(range(1, STEPS + 1))
    expected = {"config.json", "environment.json", "learned.json", "metrics.jsonl", "result.json"}
    expected |= {
        "best.safetensors",
        "last.safetensors",
        "loss.png",
        "reconstructions.png",
        "checkpoints",
        "tensorboard",
    }
    assert {path.name for path in (tmp_path / "run").iterdir()} == expected
    for name in ("loss.png", "reconstructions.png"):
        assert (tmp_path / "run" / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__
    assert environment["device"] == "cpu"


def test_logged_losses_equal_those_of_the_weights(store: Path, tmp_path: Path) -> None:
    """The validation loss, recomputed by hand."""
    train(store, tmp_path / "run", precision="fp32")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["precision"] == "fp32"
    objective = load_autoencoder(tmp_path / "run")
    loaders = create_fast_dataloaders(store, 16, seed=17, stride=3)
    sums = torch.zeros(4, dtype=torch.float64)
    interpolation = torch.zeros(4, dtype=torch.float64)
    for x, mask, valid in loaders.val:
        with torch.no_grad():
            sums += objective(x, mask, valid)
        errors = huber(interpolate(x, mask, valid), x)[mask]
        interpolation += torch.cat([errors.sum(0), mask.sum()[None]])
    best = min(read_metrics(tmp_path / "run", "epoch"), key=lambda record: record["val_loss"])
    assert objective.mean(sums).item() == pytest.approx(best["val_loss"], rel=1e-6)
    assert objective.mean(interpolation).item() == pytest.approx(best["interpolation"]["loss"], rel=1e-6)
    constants = torch.from_numpy(best_constants(training_bars(loaders.train.dataset))).float()
    errors = torch.cat([huber(constants.expand_as(x), x)[mask] for x, mask, _ in loaders.val])
    assert errors.mean().item() == pytest.approx(best["constant"]["loss"], rel=1e-6)


def test_the_learning_rate_rises_and_falls() -> None:
    s = PretrainConfig(lr=0.1, warmup_share=0.1, min_lr_share=0.01)
    rates = [learning_rate(step, 200, s) for step in range(200)]
    assert rates[0] == pytest.approx(0.1 / 20)
    assert rates[19] == rates[20] == pytest.approx(0.1)
    assert all(a < b for a, b in pairwise(rates[:20]))
    assert all(a > b for a, b in pairwise(rates[20:]))
    assert rates[-1] == pytest.approx(0.001, rel=0.1)
    assert learning_rate(0, 1, s) == pytest.approx(0.1)


def test_training_stops_early(store: Path, tmp_path: Path) -> None:
    result = train(store, tmp_path / "run", epochs=30, patience=2, lr=10.0)
    epochs = read_metrics(tmp_path / "run", "epoch")
    assert result.epochs == len(epochs) < 30
    assert result.best_epoch == result.epochs - 3


def test_kept_columns_are_standardised_by_the_training_bars(store: Path, tmp_path: Path) -> None:
    train(store, tmp_path / "run", extra=("kept1", "kept0"))
    encoder = load_encoder(tmp_path / "run")
    with moola.FeatureStore.open(store) as opened:
        rows = np.zeros(len(opened), bool)
        for _, _, first, last in FastWindowedDataset(opened, stride=3).stretches():
            rows[first : last + 1] = True
        extra = np.asarray(opened.extra)[rows][:, [1, 0]].astype(np.float64)
    np.testing.assert_allclose(encoder.shift, [0, 0, 0, *extra.mean(axis=0)], rtol=1e-6)
    np.testing.assert_allclose(encoder.scale, [1, 1, 1, *extra.std(axis=0)], rtol=1e-6)
    assert encoder.origin is not None
    assert encoder.origin.features.extra == ("kept1", "kept0")


def test_a_run_records_its_training_bars(store: Path, tmp_path: Path) -> None:
    train(store, tmp_path / "run", windows_per_epoch=None)
    learned = read_seen_bars(tmp_path / "run")
    opened = moola.FeatureStore.open(store)
    touched = np.zeros(len(opened), bool)
    for split in ("train", "val"):
        for _, _, first, last in FastWindowedDataset(opened, split, stride=3).stretches():
            touched[first : last + 1] = True
    times = opened.timestamps
    assert np.array_equal(learned.seen([""] * len(times), times, times), touched)
    assert not learned.seen(["other"] * len(times), times, times).any()
    assert learned.seen([""], times[:1] - 5 * MINUTE, times[-1:])[0]
    train(store, tmp_path / "later", init=tmp_path / "run", windows_per_epoch=None)
    assert read_seen_bars(tmp_path / "later").record() == learned.record()


@settings(deadline=None)
@given(
    spans=st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 9)).map(lambda s: (s[0], s[0] + s[1])), max_size=8
    ),
    more=st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 9)).map(lambda s: (s[0], s[0] + s[1])), max_size=8
    ),
)
def test_seen_bars_equal_a_set_computation(spans, more) -> None:
    known = {t for a, b in (*spans, *more) for t in range(a, b + 1)}
    learned = SeenBars({"A": spans}) | SeenBars({"A": more, "B": [(0, 99)]})
    first = np.arange(0, 70)
    for length in (0, 3):
        expected = [bool(known & set(range(t, t + length + 1))) for t in first.tolist()]
        assert learned.seen(["A"] * 70, first, first + length).tolist() == expected
    assert SeenBars(json.loads(json.dumps(learned.record()))).record() == learned.record()


_SPANS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 9)).map(lambda s: (s[0], s[0] + s[1])), max_size=4
)


@settings(deadline=None)
@given(named=_SPANS, unnamed=_SPANS, symbol=st.sampled_from(["A", "B", ""]), complete=st.booleans())
def test_windows_on_unknown_bars_are_neither_seen_nor_unseen(
    named: list[tuple[int, int]], unnamed: list[tuple[int, int]], symbol: str, complete: bool
) -> None:
    learned = SeenBars({"A": named, "": unnamed}, complete=complete)
    first = np.arange(0, 70)

    def touched(spans: list[tuple[int, int]]) -> np.ndarray:
        return np.array([any(a <= t + 3 and t <= b for a, b in spans) for t in first.tolist()])

    asked = ([symbol] * 70, first, first + 3)
    seen, unknown = learned.seen(*asked), learned.unknown(*asked)
    assert np.array_equal(seen, touched({"A": named, "B": [], "": unnamed}[symbol]))
    perhaps = touched(named if symbol == "" else unnamed) if complete else np.ones(70, bool)
    assert np.array_equal(unknown, perhaps & ~seen)
    count = int(unknown.sum())
    why = {
        True: "either they or the encoder's bars of that time have no symbol",
        False: "it was also trained on windows without known times",
    }[complete]
    note = f"the encoder may have been pre-trained on bars of {count} of 70 windows, which count as unseen: {why}"
    assert learned.notes(*asked) == ([note] if count else [])


def test_training_starts_from_given_weights(store: Path, tmp_path: Path) -> None:
    train(store, tmp_path / "first")
    before = load_weights(tmp_path / "first" / "best.safetensors")
    train(store, tmp_path / "second", init=tmp_path / "first", lr=1e-12, epochs=1)
    after = load_weights(tmp_path / "second" / "last.safetensors")
    for name, tensor in before.tensors.items():
        torch.testing.assert_close(after.tensors[name], tensor, rtol=0, atol=1e-9)
    with pytest.raises(WeightsError, match="another hidden_size"):
        train(
            store,
            tmp_path / "third",
            init=tmp_path / "first",
            model={"model": {"architecture": {"hidden_size": 6}}},
        )
    with pytest.raises(FeatureMismatchError, match="kept columns"):
        train(store, tmp_path / "third", init=tmp_path / "first", extra=("kept0",))
