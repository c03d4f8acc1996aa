"""Trainings that are refused, and steps that are not finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pretraining import outcome, train
from tiny_store import MINUTE, write_files, write_hashes

import moola
from moola import _core
from moola.data.fast_windowed_loader import create_fast_dataloaders
from moola.devices.placement import place
from moola.errors import ConfigError, DeviceError, NotFiniteError, RunError
from moola.files.publishing import publishing
from moola.runs.checkpoints import Checkpoints


def test_existing_runs_are_not_overwritten(store: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(store, run)
    with pytest.raises(RunError, match=r"there is a run there already\. Continue it with --resume"):
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
        ({"batch_size": 10_000}, "batch_size", "a step needs 10,000 windows, and the train split"),
        ({"windows_per_epoch": 5}, "windows_per_epoch", "is not between a step's 16 and"),
        ({"windows_per_epoch": 10_000}, "windows_per_epoch", "is not between"),
        ({"epochs": 0}, "epochs", "greater than or equal to 1"),
        ({"learning_rate": 1}, "learning_rate", "there is no such parameter"),
        ({"precision": "fp8"}, "precision", "'fp8' is not a precision; give auto, fp32, bf16"),
        ({"device": "tpu"}, "device", "give auto, cpu or cuda"),
        ({"device": "meta"}, "device", "is not supported"),
        ({"extra": ("volume",)}, "extra", "no kept column 'volume'"),
    ],
)
def test_invalid_settings_are_refused(
    store: Path, tmp_path: Path, options: dict[str, Any], name: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        train(store, tmp_path / "run", **options)
    assert caught.value.name == name
    assert words in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_missing_gpu_is_refused() -> None:
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
def test_non_finite_steps_are_not_learned(tmp_path: Path, what: str) -> None:
    """Bars that are NaN, which moola's stores never hold, and an excessive learning rate."""
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
    # Exactly the windows of that step.
    loader = create_fast_dataloaders(path, 16, seed=17, stride=3).train
    epoch, batch = divmod(error.step - 1, len(loader))
    places = loader.dataset.places(loader.numbers(epoch, batch))
    assert sorted(time for _, time in error.windows) == sorted(places.last_timestamp.tolist())
