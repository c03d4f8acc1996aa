"""The commands that fine-tune, predict and combine runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from finetuned import TINY, TO, command, nanoseconds

from moola.evaluation.metrics import METRICS
from moola.models.jade import Jade
from moola.models.loading import load_model
from moola.models.weights import Origin, load_weights, save_weights
from moola.runs.directory import read_metrics
from moola.settings.models import Architecture, ModelConfig

pytestmark = pytest.mark.xdist_group("finetune_run")


def test_the_commands_work(
    market: Path, run: Path, table: pa.Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.yaml").write_text(json.dumps(TINY))
    where = ["--feature-dir", market / "store", "--labels", market / "labels.parquet"]
    how = ["--model", tmp_path / "tiny.yaml", "--device", "cpu", "--output", tmp_path / "run"]
    how += ["--permutations", 1]
    assert command("finetune", *where, *how) == 0
    shown = capsys.readouterr()
    assert "fold 5 of 5: 3 epochs" in shown.err
    assert re.search(r"10 fits of the heads took \d+ s", shown.err)
    assert re.search(
        r"calibrated  temperature \d.*; the calibration error is then 0\.\d{3}, and would be 0\.\d{3} to",
        shown.out,
    )
    assert "metrics.jsonl, confusion.png, reliability.png, spans.png\n" in shown.out
    assert re.search(r"tiny +.*permuted +p +.*majority class +stratified", shown.out)
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
    assert f"windows     {len(table):,}; the models have seen bars of " in capsys.readouterr().out
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
    assert "--unfreeze-every: applies to an encoder that is frozen for some" in capsys.readouterr().err
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


def test_the_command_combines_runs(
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
        "cv is a cross-validation, which keeps no models; give it as the only argument, or give fine" in error
    )
    assert not (tmp_path / "mixed").exists()
