"""Pre-training: what the objective sees, what is learned, and that whatever kills a run changes nothing."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy.optimize import minimize_scalar
from tiny_store import MINUTE, build, write_files, write_hashes
from torch.nn import functional

import moola
from moola import FastWindowedDataset, _core
from moola.cli import app
from moola.data.fast_windowed_loader import create_fast_dataloaders
from moola.devices.placement import place
from moola.errors import (
    ConfigError,
    DeviceError,
    FeatureMismatchError,
    NotFiniteError,
    RunError,
    WeightsError,
)
from moola.files.publishing import publishing
from moola.models import Encoder, load_encoder
from moola.models.training_bars import training_bars
from moola.models.weights import load_weights, save_weights
from moola.runs.checkpoints import Checkpoints
from moola.runs.directory import read_metrics, read_seen_bars
from moola.runs.seen_bars import SeenBars
from moola.settings.models import Architecture
from moola.settings.training import PretrainConfig
from moola.store.layout import METADATA
from moola.training.objective import MaskedAutoencoder, huber, load_autoencoder
from moola.training.predictors import best_constants, interpolate
from moola.training.pretraining import pretrain
from moola.training.step import learning_rate
from moola.training.steplog import StepLog

TINY = {"model": {"name": "tiny", "architecture": {"hidden_size": 4}}}
SHORT: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 16,
    "stride": 3,
    "windows_per_epoch": 80,
    "checkpoint_every": 2,
    "log_every": 1,
    "lr": 1e-2,
}
STEPS = 10


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pretrain") / "store"
    build(path, lengths=(400, 9, 250), extra=2).close()
    return path


def train(store: Path, run: Path, *, pictures: bool = False, **options: Any) -> Any:
    """A short training. Pictures take longer than all the rest, and one test looks at them."""
    with pytest.MonkeyPatch.context() as patch:
        if not pictures:
            for name in ("draw_losses", "draw_reconstructions"):
                patch.setattr(f"moola.training.figures.{name}", lambda *_: None)
        return _train(store, run, **options)


def _train(store: Path, run: Path, **options: Any) -> Any:
    return pretrain(store, run, **{"model": TINY, "say": lambda _: None, "device": "cpu"} | SHORT | options)


def outcome(run: Path) -> dict[str, Any]:
    """All that two equal runs have in common: everything but times."""
    said = []
    last = Checkpoints(run / "checkpoints").latest(said.append)
    assert last is not None
    assert not said
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for record in (*metrics, last.record["best_record"]):
        record.pop("timing", None)
    last.record.pop("logged")
    files = {name: load_weights(run / f"{name}.safetensors") for name in ("best", "last")}
    files["checkpoint"] = last
    return {
        "metrics": metrics,
        "result": (run / "result.json").read_bytes(),
        "learned": (run / "learned.json").read_bytes(),
        "records": {name: weights.record for name, weights in files.items()},
        "tensors": {
            f"{name}.{key}": tensor.numpy().tobytes()
            for name, weights in files.items()
            for key, tensor in weights.tensors.items()
        },
    }


@pytest.fixture(scope="module")
def reference(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    run = tmp_path_factory.mktemp("reference") / "run"
    result = train(store, run)
    assert result.steps == STEPS
    return outcome(run)


# The objective


def autoencoder(width: int = 3, **architecture: Any) -> MaskedAutoencoder:
    torch.manual_seed(0)
    objective = MaskedAutoencoder(Encoder(width, Architecture(**{"hidden_size": 5} | architecture)))
    with torch.no_grad():
        objective.mask_vector.normal_()
    return objective.eval()


class Leaking(MaskedAutoencoder):
    """What the old pipeline did: masked positions visible to the encoder."""

    def reconstruct(self, x, mask, valid=None):
        return self.decoder(self.encoder(x, valid)).float()


def gradient_to_the_input(objective: MaskedAutoencoder, masked: bool) -> float:
    x = torch.randn(4, 11, 3, requires_grad=True)
    mask = torch.rand(4, 11) < 0.4
    valid = torch.ones(4, 11, dtype=torch.bool)
    valid[:, :2] = False
    mask &= valid
    objective.mean(objective(x, mask, valid, target=torch.randn(4, 11, 3))).backward()
    assert x.grad is not None
    return x.grad[mask if masked else valid & ~mask].abs().max().item()


def test_the_loss_cannot_depend_on_what_is_masked() -> None:
    objective = autoencoder()
    assert gradient_to_the_input(objective, masked=True) == 0
    assert gradient_to_the_input(objective, masked=False) > 0
    leaking = Leaking(objective.encoder).eval()
    assert gradient_to_the_input(leaking, masked=True) > 0


def test_other_values_behind_the_mask_change_no_bit() -> None:
    objective = autoencoder()
    x, mask = torch.randn(4, 11, 3), torch.rand(4, 11) < 0.4
    other = torch.where(mask[..., None], torch.tensor(1e6), x)
    assert torch.equal(objective.reconstruct(x, mask), objective.reconstruct(other, mask))


def test_unmasked_positions_never_enter_the_loss() -> None:
    objective = autoencoder()
    x, mask, target = torch.randn(4, 11, 3), torch.rand(4, 11) < 0.4, torch.randn(4, 11, 3)
    spoilt = torch.where(mask[..., None], target, torch.tensor(1e9))
    assert torch.equal(objective(x, mask, target=target), objective(x, mask, target=spoilt))


def test_the_loss_is_hubers_mean_over_masked_positions() -> None:
    objective = autoencoder()
    x, mask = torch.randn(4, 11, 3) * 3, torch.rand(4, 11) < 0.4
    with torch.no_grad():
        sums = objective(x, mask)
        made = objective.reconstruct(x, mask)
    d = (made - x)[mask].abs().double().numpy()
    elements = np.where(d <= 1, d**2 / 2, d - 0.5)
    np.testing.assert_allclose(sums[:-1], elements.sum(axis=0), rtol=1e-5)
    assert sums[-1] == mask.sum()
    np.testing.assert_allclose(objective.mean(sums), elements.mean(), rtol=1e-5)
    nothing = objective(x, torch.zeros_like(mask))
    assert objective.mean(nothing) == 0
    assert objective.weighted(torch.tensor(3.0)).item() == pytest.approx(1.5)


def test_the_mask_vector_and_the_decoder_are_no_part_of_the_model() -> None:
    objective = autoencoder()
    outside = {n for n, _ in objective.named_parameters() if not n.startswith("encoder.")}
    assert outside == {"mask_vector", "decoder.weight", "decoder.bias", "log_variance"}


def test_parameters_and_data_on_different_devices_are_an_error_at_once() -> None:
    with pytest.raises(DeviceError, match="the model is on cpu, the windows are on meta"):
        autoencoder().reconstruct(torch.zeros(1, 2, 3, device="meta"), torch.zeros(1, 2, dtype=torch.bool))


def test_overfits_one_batch() -> None:
    torch.manual_seed(0)
    objective = MaskedAutoencoder(
        Encoder(3, Architecture(hidden_size=24, input_dropout=0, recurrent_dropout=0, dense_dropout=0))
    )
    x, mask = torch.randn(8, 20, 3), torch.rand(8, 20) < 0.2
    optimizer = torch.optim.Adam(objective.parameters(), lr=2e-2)
    first = last = math.nan
    for step in range(150):
        optimizer.zero_grad()
        loss = objective.mean(objective(x, mask))
        objective.weighted(loss).backward()
        optimizer.step()
        first, last = (loss.item() if step == 0 else first), loss.item()
    assert last < 0.05 * first


# Trivial predictors


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999), n=st.integers(1, 200), scale=st.sampled_from([0.01, 1.0, 30.0]))
def test_best_constants_minimise_the_loss(seed, n, scale) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_cauchy((n, 2)) * scale).astype(np.float32)
    found = best_constants(np.array_split(x, 3))

    def error(c: float, column: int) -> float:
        return float(
            functional.huber_loss(torch.full((n,), c).double(), torch.from_numpy(x[:, column]).double())
        )

    for column in range(2):
        low, high = x[:, column].min(), x[:, column].max()
        best = minimize_scalar(
            error, (low, high), args=(column,), bounds=(low - 1, high + 1), method="bounded"
        )
        assert error(found[column], column) <= best.fun * (1 + 1e-6) + 1e-12


def test_best_constant_of_nothing_is_zero() -> None:
    assert best_constants([np.zeros((0, 3), np.float32)]).tolist() == [0, 0, 0]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), length=st.integers(1, 12))
def test_interpolation_against_numpy(seed, length) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3, length, 2)).astype(np.float32)
    mask, valid = rng.random((3, length)) < 0.5, rng.random((3, length)) < 0.8
    got = interpolate(*map(torch.from_numpy, (x, mask, valid))).numpy()
    for b in range(3):
        known = np.flatnonzero(valid[b] & ~mask[b])
        for d in range(2):
            expected = np.interp(np.arange(length), known, x[b, known, d]) if len(known) else np.zeros(length)
            np.testing.assert_allclose(got[b, :, d], expected, rtol=1e-5, atol=1e-5)


# What is learned, and what is said of it


def sample_store(folder: Path, bars: int) -> Path:
    moola.make_bars(folder / "bars.parquet", bars, seed=17)
    return moola.build_features(folder / "bars.parquet", folder / "sample", stamp="open").path


def shuffled(store: Path, path: Path) -> Path:
    """A store whose bars come in random order: the same values, and nothing to be learned from neighbours."""
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


def test_beats_the_trivial_predictors_where_there_is_structure_and_not_where_there_is_none(
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


def test_metrics_say_what_there_is(store: Path, tmp_path: Path) -> None:
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


def test_losses_of_the_log_are_those_of_the_weights(store: Path, tmp_path: Path) -> None:
    """The validation loss, once more, by hand."""
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


def test_learning_rate_rises_and_falls() -> None:
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


def test_a_run_knows_which_bars_it_has_learned_from(store: Path, tmp_path: Path) -> None:
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
def test_learned_bars_against_sets(spans, more) -> None:
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
def test_the_unknown_is_neither_seen_nor_unseen(
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
        True: "either they, or the bars that it learned from at that time, name no symbol",
        False: "it also learned from windows without known times",
    }[complete]
    note = f"the encoder may have been pre-trained on bars of {count} of 70 windows, which count as unseen: {why}"
    assert learned.notes(*asked) == ([note] if count else [])


def test_other_weights_to_start_from(store: Path, tmp_path: Path) -> None:
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


# Refusals


def test_runs_that_stand_there_are_not_trained_over(store: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(store, run)
    with pytest.raises(RunError, match=r"a run stands there already\. Go on with --resume"):
        train(store, run)
    before = outcome(run)
    assert train(store, run, resume=True).resumed
    assert outcome(run) == before
    with pytest.raises(RunError, match=r"begun with seed 17, not 3; training\.lr 0\.01, not 0\.5") as caught:
        train(store, run, resume=True, seed=3, lr=0.5)
    assert "Resume with the settings it was begun with" in str(caught.value)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    with pytest.raises(RunError, match="is not a run: it holds file"):
        train(store, tmp_path / "other", resume=True)
    with pytest.raises(RunError, match="is not a directory"):
        train(store, tmp_path / "other" / "file")


@pytest.mark.parametrize(
    ("options", "name", "words"),
    [
        ({"batch_size": 10_000}, "batch_size", "are more than the"),
        ({"windows_per_epoch": 5}, "windows_per_epoch", "is not between a step's 16 and"),
        ({"windows_per_epoch": 10_000}, "windows_per_epoch", "is not between"),
        ({"epochs": 0}, "epochs", "greater than or equal to 1"),
        ({"learning_rate": 1}, "learning_rate", "there is no such parameter"),
        ({"precision": "fp8"}, "precision", "'fp8' is none; give auto, fp32, bf16"),
        ({"device": "tpu"}, "device", "give auto, cpu or cuda"),
        ({"device": "meta"}, "device", "is not supported"),
        ({"extra": ("volume",)}, "extra", "no kept column 'volume'"),
    ],
)
def test_settings_that_make_no_sense(
    store: Path, tmp_path: Path, options: dict[str, Any], name: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        train(store, tmp_path / "run", **options)
    assert caught.value.name == name
    assert words in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_gpu_that_is_not_there() -> None:
    if torch.cuda.is_available():
        with pytest.raises(DeviceError, match="there is no GPU 99"):
            place("cuda:99")
        assert "is not used: --device cpu" in place("cpu").notices[0]
    else:
        with pytest.raises(
            DeviceError, match=r"there is no GPU that torch can use.*Give --device cpu or auto"
        ):
            place("cuda")


@pytest.mark.parametrize("what", ["window", "rate"])
def test_what_is_not_finite_is_not_learned(tmp_path: Path, what: str) -> None:
    """Bars that are NaN, which no store of moola's holds; and a learning rate beyond all reason."""
    path = tmp_path / "store"
    with publishing(path) as staging:
        write_files(staging.path, lengths=(400, 9, 250))
        if what == "window":
            features = np.load(staging.path / "features.npy")
            features[20:250:20] = np.nan
            (staging.path / "features.npy").write_bytes(
                _core.npy_header("<f4", features.shape) + features.tobytes()
            )
            write_hashes(staging.path)
    run = tmp_path / "run"
    options: dict[str, Any] = {"windows_per_epoch": None, "epochs": 4, "checkpoint_every": 1}
    if what == "rate":
        options |= {"lr": 1e9, "clip_norm": 1e9, "log_every": 100}
    with pytest.raises(NotFiniteError) as caught:
        train(path, run, **options)
    error = caught.value
    assert f"{error.what} of step {error.step} is not finite, and the step was not taken" in str(error)
    assert len(error.windows) == 16
    assert error.run == run
    if what == "window":
        assert error.step == 1
        assert 0 < error.suspects < 16
        assert f"{error.suspects} of its 16 windows hold values that are not finite, named first" in str(
            error
        )
        opened = moola.FeatureStore.open(path)
        spoilt = opened.timestamps[np.isnan(opened.features).any(axis=1)]
        ends = np.array([time for _, time in error.windows])
        holds = [bool(((spoilt <= end) & (spoilt > end - 10 * MINUTE)).any()) for end in ends]
        assert holds == [True] * error.suspects + [False] * (16 - error.suspects)
        return
    assert "Lower the learning rate" in str(error)
    kept = Checkpoints(run / "checkpoints").latest(pytest.fail)
    assert kept is not None
    assert kept.record["step"] == error.step - 1
    assert all(tensor.isfinite().all() for tensor in kept.tensors.values())
    # The very windows of that step.
    loader = create_fast_dataloaders(path, 16, seed=17, stride=3).train
    epoch, batch = divmod(error.step - 1, len(loader))
    places = loader.dataset.places(loader.numbers(epoch, batch))
    assert sorted(time for _, time in error.windows) == sorted(places.last_timestamp.tolist())


# Killed, interrupted, out of space


class Killed:
    """What a child process does to itself, and when."""

    def __init__(self, kind: str, at: int) -> None:
        self.kind, self.at = kind, at

    def prepare(self) -> Callable[[Any], None]:
        """Sets the trap; gives the report that training is to be called with."""
        count = 0
        replace = os.replace

        def kill() -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        def replacing(*names: Any) -> None:
            nonlocal count
            count += 1
            if self.kind == "before" and count == self.at:
                kill()
            replace(*names)
            if self.kind == "after" and count == self.at:
                kill()

        def report(at: Any) -> None:
            if at.finished_epoch is None and at.step == self.at:
                if self.kind == "step":
                    kill()
                if self.kind == "interrupt":
                    os.kill(os.getpid(), signal.SIGINT)

        if self.kind in ("before", "after"):
            os.replace = replacing  # type: ignore[assignment]
        if self.kind == "room":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.at, self.at))
        return report


def in_child(store: Path, run: Path, killed: Killed | None, options: dict[str, Any], said: Path) -> None:
    report = killed.prepare() if killed is not None else None
    try:
        train(store, run, report=report, resume=True, **options)
    except BaseException as error:
        if killed is None or killed.kind != "room":
            said.write_text(f"{type(error).__name__}: {error}")
        raise SystemExit(3) from None


@pytest.fixture(scope="module")
def attempt(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[int | None, str]]:
    """Trains in a process of its own, forked from one that has imported everything. Gives exit code and error."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["moola.training.pretraining", "moola.training.figures"])
    said = tmp_path_factory.mktemp("said") / "error"

    def run(store: Path, run: Path, killed: Killed | None = None, **options: Any) -> tuple[int | None, str]:
        said.unlink(missing_ok=True)
        child = context.Process(target=in_child, args=(store, run, killed, options, said))
        child.start()
        child.join(120)
        assert child.exitcode is not None, "it hangs"
        return child.exitcode, said.read_text() if said.exists() else ""

    return run


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_killed_at_any_step(
    store: Path, tmp_path: Path, reference: dict[str, Any], attempt: Any, step: int
) -> None:
    run = tmp_path / "run"
    assert attempt(store, run, Killed("step", step))[0] == -signal.SIGKILL
    assert attempt(store, run) == (0, "")
    assert outcome(run) == reference


def test_killed_at_every_step_in_turn(
    store: Path, tmp_path: Path, reference: dict[str, Any], attempt: Any
) -> None:
    run = tmp_path / "run"
    kills = 0
    for step in range(2, STEPS + 1):
        kills += attempt(store, run, Killed("step", step))[0] == -signal.SIGKILL
    assert kills == STEPS - 1
    assert attempt(store, run) == (0, "")
    assert outcome(run) == reference


@pytest.mark.parametrize(("kind", "number"), [(("before", "after")[n % 2], n) for n in range(1, 12)])
def test_killed_while_publishing(
    store: Path, tmp_path: Path, reference: dict[str, Any], attempt: Any, kind: str, number: int
) -> None:
    """Each file of a run takes its name by a rename; killed just before one and just after."""
    run = tmp_path / "run"
    code, _ = attempt(store, run, Killed(kind, number))
    assert code == -signal.SIGKILL
    assert attempt(store, run) == (0, "")
    assert outcome(run) == reference
    # Whatever the killed one left has been removed, but for what has another name.
    assert len([path for path in run.rglob("*.moola-tmp") if "step" not in path.name]) == 0


def test_interrupted(store: Path, tmp_path: Path, reference: dict[str, Any], attempt: Any) -> None:
    run = tmp_path / "run"
    for step in (3, 5, 9):
        code, said = attempt(store, run, Killed("interrupt", step))
        assert (code, said) == (3, "KeyboardInterrupt: ")
        kept = Checkpoints(run / "checkpoints").latest(pytest.fail)
        assert kept is not None
        assert kept.record["step"] == step, "a checkpoint is saved before it stops"
    assert attempt(store, run) == (0, "")
    assert outcome(run) == reference


def test_no_room_for_a_checkpoint(
    store: Path, tmp_path: Path, reference: dict[str, Any], attempt: Any
) -> None:
    run = tmp_path / "run"
    # Room for the small files, and not for a checkpoint.
    code, _ = attempt(store, run, Killed("room", 4096))
    assert code == 3
    assert not list((run / "checkpoints").glob("*"))
    assert attempt(store, run) == (0, "")
    assert outcome(run) == reference


def test_no_room_is_said(store: Path, tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from moola.training.pretraining import pretrain\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"pretrain({str(store)!r}, {str(tmp_path / 'run')!r}, model={TINY!r}, **{SHORT!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert re.search(
        r"StoreWriteError: .*step-0000000002.safetensors: cannot be written: File too large", done.stderr
    )
    assert "Raise the limit on file sizes" in done.stderr


# Damaged checkpoints


def flip(position: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(position * (len(content) - 1))] ^= 0x10
        path.write_bytes(content)

    return damage


def rewrite(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        tensors = load_weights(path).tensors
        change(tensors)
        save_file(tensors, path)

    return damage


DAMAGES: dict[str, Callable[[Path], None]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
    "a byte less": lambda path: os.truncate(path, path.stat().st_size - 1),
    "a byte more": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "a bit of its header": flip(0.01),
    "a bit in its midst": flip(0.5),
    "its last bit": flip(1.0),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "another kind of file": lambda path: path.write_bytes(b"%PDF-1.7\n" * 500),
    "without its record": rewrite(lambda tensors: None),
    "a tensor less": rewrite(lambda tensors: tensors.popitem() and None),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    store: Path, tmp_path: Path, reference: dict[str, Any], attempt: Any, damage: str
) -> None:
    run = tmp_path / "run"
    assert attempt(store, run, Killed("step", 5))[0] == -signal.SIGKILL
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names == ["step-0000000002.safetensors", "step-0000000004.safetensors"]
    DAMAGES[damage](run / "checkpoints" / names[-1])
    said: list[str] = []
    train(store, run, resume=True, say=said.append)
    assert len(said) == 1
    assert said[0].startswith(f"checkpoint {names[-1]} ")
    assert said[0].endswith("; going on from the one before it")
    assert outcome(run) == reference


def test_when_every_checkpoint_is_damaged(store: Path, tmp_path: Path, attempt: Any) -> None:
    run = tmp_path / "run"
    assert attempt(store, run, Killed("step", 5))[0] == -signal.SIGKILL
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(b"")
    said: list[str] = []
    with pytest.raises(WeightsError, match=r"every checkpoint is damaged.*begin anew in another directory"):
        train(store, run, resume=True, say=said.append)
    assert len(said) == 2


def test_a_log_that_was_cut_short_is_noticed(store: Path, tmp_path: Path, attempt: Any) -> None:
    run = tmp_path / "run"
    assert attempt(store, run, Killed("step", 5))[0] == -signal.SIGKILL
    os.truncate(run / "metrics.jsonl", 10)
    with pytest.raises(RunError, match=r"metrics\.jsonl is shorter than its checkpoint says"):
        train(store, run, resume=True)


def test_two_trainings_in_one_run(store: Path, tmp_path: Path) -> None:
    inner: list[Exception] = []

    def report(_: Any) -> None:
        if not inner:
            try:
                train(store, tmp_path / "run", resume=True)
            except RunError as error:
                inner.append(error)

    train(store, tmp_path / "run", report=report)
    assert "another process is training there" in str(inner[0])


def test_checkpoints_keep_the_last_two(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    assert checkpoints.latest(pytest.fail) is None
    for step in (1, 5, 10, 100):
        checkpoints.save(step, {"a": torch.tensor([step])}, {"step": step})
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == [
        "step-0000000010.safetensors",
        "step-0000000100.safetensors",
    ]
    latest = checkpoints.latest(pytest.fail)
    assert latest is not None
    assert latest.record == {"step": 100}


def test_the_step_log_hands_out_every_row_once() -> None:
    log, read = StepLog(4, 2, torch.device("cpu")), []
    for step in range(1, 11):
        if step == 7:
            kept = log.state().clone()
            log = StepLog(4, 2, torch.device("cpu"))
            log.restore(kept)
        read += log.add(step, torch.tensor(float(step)), torch.tensor(-1.0))
    read += log.flush(10)
    assert [(rows.last_step, rows.values[:, 0].tolist()) for rows in read] == [
        (4, [1, 2, 3, 4]),
        (8, [5, 6, 7, 8]),
        (10, [9, 10]),
    ]
    assert log.flush(10) == []


# Ranks


def test_two_ranks_give_the_loss_curve_of_one(store: Path, tmp_path: Path) -> None:
    without = {"input_dropout": 0.0, "recurrent_dropout": 0.0, "dense_dropout": 0.0, "hidden_size": 4}
    model = tmp_path / "tiny.yaml"
    model.write_text(json.dumps({"model": {"name": "tiny", "architecture": without}}))
    fixed: dict[str, Any] = {"precision": "fp32", "device": "cpu"}
    shared = {"epochs": 2, "stride": 3, "log_every": 1, "lr": 1e-2}
    settings_ = [f"training.pretrain.{name}={value}" for name, value in shared.items()]
    pretrain(store, tmp_path / "one", model=model, settings=settings_, batch_size=16, **fixed)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--standalone",
        "-m",
        "moola",
    ]
    command += [
        "pretrain",
        "--feature-dir",
        str(store),
        "--output",
        str(tmp_path / "two"),
        "--model",
        str(model),
    ]
    command += ["--batch-size", "8", "--precision", "fp32", "--device", "cpu"]
    command += [word for setting in settings_ for word in ("--set", setting)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    curves = [[r["loss"] for r in read_metrics(tmp_path / name, "step")] for name in ("one", "two")]
    assert len(curves[0]) == len(curves[1]) > 10
    np.testing.assert_allclose(curves[1], curves[0], atol=1e-4)
    epochs = [read_metrics(tmp_path / name, "epoch") for name in ("one", "two")]
    for one, two in zip(*epochs, strict=True):
        assert two["val_loss"] == pytest.approx(one["val_loss"], abs=1e-4)
        assert two["interpolation"]["loss"] == pytest.approx(one["interpolation"]["loss"], rel=1e-6)
    assert json.loads((tmp_path / "two" / "config.json").read_text())["ranks"] == 2
    with pytest.raises(RunError, match="ranks 2, not 1"):
        pretrain(store, tmp_path / "two", model=model, settings=settings_, batch_size=8, resume=True, **fixed)


# The command


def moola_command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        app([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_from_training_to_vectors(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    model = tmp_path / "tiny.yaml"
    model.write_text(json.dumps(TINY))
    common = ["--feature-dir", store, "--output", run, "--model", model, "--epochs", 2, "--batch-size", 16]
    common += ["--stride", 3, "--lr", "1e-2", "--device", "cpu", "--set", "training.pretrain.log_every=2"]
    assert moola_command("pretrain", *common) == 0
    shown = capsys.readouterr()
    assert "epoch   1/2" in shown.err
    assert "interpolation" in shown.err
    assert "masked bars are reconstructed with an error of" in shown.out
    assert moola_command("pretrain", *common) == 1
    assert "a run stands there already" in capsys.readouterr().err
    assert moola_command("pretrain", *common, "--resume", "--json") == 0
    assert json.loads(capsys.readouterr().out)["resumed"] is True
    assert moola_command("pretrain", *common, "--resume", "--mask-strategy", "patch") == 1
    assert "training.mask_strategy 'random', not 'patch'" in capsys.readouterr().err

    assert (
        moola_command("embed", "--run", run, "--feature-dir", store, "--output", tmp_path / "e.parquet") == 0
    )
    import pyarrow.parquet as pq

    table = pq.read_table(tmp_path / "e.parquet")
    dataset = FastWindowedDataset(store, "all")
    assert table.column_names == ["symbol", "window_end", *(f"e{i}" for i in range(8))]
    assert len(table) == len(dataset)
    places = dataset.places(np.arange(len(dataset)))
    assert np.array_equal(table["window_end"].cast("int64").to_numpy(), places.last_timestamp)
    encoder = load_encoder(run)
    x, _, valid = dataset.batch([0, 77])
    encoded = encoder(x, valid)
    for row, number in enumerate((0, 77)):
        vector = [table[f"e{i}"][number].as_py() for i in range(8)]
        expected = encoded[row][valid[row]].mean(0).detach().numpy()
        np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-6)

    capsys.readouterr()
    assert moola_command("compare", run, "--against", run, run, "--json") == 0
    compared = json.loads(capsys.readouterr().out)
    assert [len(side) for side in compared["runs"]] == [1, 2]
    assert compared["differences"] == {}
    assert compared["verdict"].startswith("no difference shown")


def test_embedding_other_features_is_refused(store: Path, tmp_path: Path) -> None:
    from moola.prediction.embedding import embed

    train(store, tmp_path / "run")
    sample = sample_store(tmp_path, 3000)
    with pytest.raises(FeatureMismatchError, match="relativity10, the weights were trained on made_up"):
        embed(tmp_path / "run", sample, tmp_path / "e.parquet")
    assert not (tmp_path / "e.parquet").exists()


def test_bars_without_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOOLA_CACHE", str(tmp_path / "cache"))
    moola.make_bars(tmp_path / "bars.parquet", 3000, seed=1)
    model = tmp_path / "tiny.yaml"
    model.write_text(json.dumps(TINY))
    command = [
        "pretrain",
        "--data",
        tmp_path / "bars.parquet",
        "--model",
        model,
        "--epochs",
        1,
        "--batch-size",
        8,
    ]
    command += ["--device", "cpu", "--output"]
    assert moola_command(*command, tmp_path / "one") == 0
    (store,) = (tmp_path / "cache").iterdir()
    built = store.stat().st_ino
    assert moola_command(*command, tmp_path / "two") == 0
    assert [path.stat().st_ino for path in (tmp_path / "cache").iterdir()] == [built], (
        "found, not built again"
    )
    moola.make_bars(tmp_path / "bars.parquet", 3000, seed=2)
    assert moola_command(*command, tmp_path / "three") == 0
    assert len(list((tmp_path / "cache").iterdir())) == 2, "other bars under the same name"
    capsys.readouterr()
    assert moola_command("pretrain", "--data", tmp_path / "none.parquet") == 1
    assert "none.parquet" in capsys.readouterr().err
    assert moola_command("pretrain") == 2
    assert "--feature-dir: is missing" in capsys.readouterr().err
    assert moola_command("pretrain", "--data", "a", "--feature-dir", "b") == 2
    assert "not both" in capsys.readouterr().err
    assert moola_command("pretrain", "--feature-dir", "b", "--resume") == 2
    assert "--output: is missing" in capsys.readouterr().err


def test_the_example_for_old_scripts_runs_as_it_stands(store: Path, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "examples" / "train_jade_pretrain_fast.py"
    assert len(script.read_text().splitlines()) < 30
    options = ["--stride", "3", "--epochs", "1", "--batch-size", "16", "--lr", "1e-3", "--seed", "5"]
    command = [sys.executable, script, "--feature-dir", store, *options, "--output", tmp_path / "run"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "masked bars are reconstructed" in done.stdout
    assert (tmp_path / "run" / "best.safetensors").exists()


def test_the_setting_for_cuda_graphs_is_still_read(store: Path, tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match=r"cuda_graph has no effect since 0\.2\.0"):
        train(store, tmp_path / "run", cuda_graph=True, epochs=1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_resuming_gives_the_same_within_a_tolerance(store: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"device": "cuda", "precision": "fp32"}
    train(store, tmp_path / "whole", **options)

    def stop(at: Any) -> None:
        if at.step == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(store, tmp_path / "parts", report=stop, **options)
    train(store, tmp_path / "parts", resume=True, **options)
    whole, parts = (load_weights(tmp_path / name / "last.safetensors").tensors for name in ("whole", "parts"))
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-4, atol=1e-5)
    # Weights trained on a GPU load where there is none, which is where they are loaded.
    assert next(load_encoder(tmp_path / "whole").parameters()).device.type == "cpu"


def test_saving_weights_twice_under_one_name_leaves_the_new_ones(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        save_weights(tmp_path / "w.safetensors", {"a": torch.tensor([value])}, {})
    assert load_weights(tmp_path / "w.safetensors").tensors["a"].item() == 2
