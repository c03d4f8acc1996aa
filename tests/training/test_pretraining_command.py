"""Ranks, GPUs, and the commands from training to vectors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pretraining import TINY, sample_store, train

import moola
from moola import FastWindowedDataset
from moola.cli import app
from moola.errors import FeatureMismatchError, RunError
from moola.models import load_encoder
from moola.models.weights import load_weights, save_weights
from moola.runs.directory import read_metrics
from moola.training.pretraining import pretrain


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
    assert "there is a run there already" in capsys.readouterr().err
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


def test_pretraining_accepts_bars_without_a_store(
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


def test_the_example_for_old_scripts_runs(store: Path, tmp_path: Path) -> None:
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
    # Weights trained on a GPU load on a machine without one.
    assert next(load_encoder(tmp_path / "whole").parameters()).device.type == "cpu"


def test_saving_weights_twice_under_one_name_keeps_the_new_ones(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        save_weights(tmp_path / "w.safetensors", {"a": torch.tensor([value])}, {})
    assert load_weights(tmp_path / "w.safetensors").tensors["a"].item() == 2
