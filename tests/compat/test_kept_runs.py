"""Runs of earlier versions load, predict, embed and resume, and are compared and gated as before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from moola.labels import LabelledWindows
from moola.models import load_encoder, load_model

ENCODERS = ("pretrained", "continued", "tuned", "frozen", "spans")
MODELS = ("tuned", "frozen", "spans", "raw", "untimed")
Check = Callable[..., None]
Run = Callable[..., Any]


def inputs(labels: str) -> tuple[torch.Tensor, torch.Tensor]:
    windows = LabelledWindows.load(f"labels/{labels}.safetensors")
    return torch.from_numpy(windows.X[:6]), torch.from_numpy(windows.valid_mask[:6])


def made(kept: Path) -> dict[str, Any]:
    return json.loads((kept / "runs" / "made.json").read_text())


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_keeps_its_outputs(name: str, kept: Path, networks_agree: Check) -> None:
    x, valid = inputs("by_time")
    encoder = load_encoder(kept / "runs" / name)
    with torch.no_grad():
        said = encoder(encoder.standardise(x), valid).numpy()
    networks_agree(np.load("runs/outputs.npz")[f"{name}.encoder"], said, name)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_keeps_its_outputs(name: str, kept: Path, networks_agree: Check) -> None:
    x, valid = inputs(name if name in ("raw", "untimed") else "by_time")
    with torch.no_grad():
        said = load_model(kept / "runs" / name)(x, valid)._asdict()
    expected = np.load("runs/outputs.npz")
    parts = [part for part in expected.files if part.startswith(f"{name}.") and not part.endswith(".encoder")]
    assert len(parts) >= 2
    for part in parts:
        networks_agree(expected[part], said[part.removeprefix(f"{name}.")].numpy(), part)


PREDICTIONS = (
    "tuned",
    "tuned-test",
    "tuned-days",
    "tuned-bars",
    "frozen",
    "spans",
    "both",
    "several",
    "raw",
)


@pytest.mark.parametrize("name", [f"predict {name}" for name in PREDICTIONS])
def test_a_run_keeps_its_predictions(
    name: str, calls: dict[str, Any], tmp_path: Path, moola_json: Run, agree: Check, tables_agree: Check
) -> None:
    """From its store, or from bars read with the run's options. Includes runs of several members."""
    rerun(calls[name], tmp_path, moola_json, agree, tables_agree)


@pytest.mark.parametrize("name", ["embed pretrained", "embed tuned", "embed 12"])
def test_a_run_keeps_its_embeddings(
    name: str, calls: dict[str, Any], tmp_path: Path, moola_json: Run, agree: Check, tables_agree: Check
) -> None:
    rerun(calls[name], tmp_path, moola_json, agree, tables_agree)


def rerun(call: dict[str, Any], tmp_path: Path, moola_json: Run, agree: Check, tables_agree: Check) -> None:
    """Repeats a command that writes a table."""
    arguments, output = list(call["arguments"]), tmp_path / "table.parquet"
    at = arguments.index("--output") + 1
    then, arguments[at] = Path(arguments[at]), str(output)
    agree(call["printed"], moola_json(*arguments), ignoring=("output", "bytes"))
    tables_agree(then, output)


def test_every_call_that_writes_a_table_is_tested(calls: dict[str, Any]) -> None:
    tested = {*(f"predict {name}" for name in PREDICTIONS), "embed pretrained", "embed tuned", "embed 12"}
    assert {name for name in calls if name.startswith(("predict", "embed"))} == tested


def test_an_interrupted_pretraining_continues_to_the_end(
    own: Path, moola_json: Run, agree: Check, networks_agree: Check
) -> None:
    """It ends like the same training without an interruption."""
    lists = made(own)
    before = (own / "runs" / "interrupted" / "metrics.jsonl").read_text().splitlines()
    assert not (own / "runs" / "interrupted" / "result.json").exists()
    printed = moola_json(*lists["interrupted"]["arguments"], "--resume")
    agree(lists["pretrained"]["printed"], printed, ignoring=("run", "seconds"), tolerance=1e-3)
    for file in ("best", "last"):
        then, now = (
            load_file(own / "runs" / name / f"{file}.safetensors") for name in ("pretrained", "interrupted")
        )
        assert set(now) == set(then)
        for tensor in then:
            networks_agree(then[tensor].numpy(), now[tensor].numpy(), tensor)
    # Steps recorded before the interruption were not repeated.
    after = (own / "runs" / "interrupted" / "metrics.jsonl").read_text().splitlines()
    steps = [line["step"] for line in map(json.loads, after) if line["kind"] == "step"]
    assert steps == sorted(set(steps))
    assert len(after) > len(before)


@pytest.mark.parametrize("name", ["pretrained", "continued"])
def test_a_finished_pretraining_is_resumed_as_finished(
    name: str, own: Path, moola_json: Run, agree: Check
) -> None:
    list_ = made(own)[name]
    weights = (own / "runs" / name / "best.safetensors").read_bytes()
    again = moola_json(*list_["arguments"], "--resume")
    assert again["resumed"] is True
    agree(list_["printed"], again, ignoring=("seconds", "resumed"))
    assert (own / "runs" / name / "best.safetensors").read_bytes() == weights


@pytest.mark.parametrize("name", MODELS)
def test_a_finished_finetuning_is_resumed_as_finished(
    name: str, own: Path, moola_json: Run, agree: Check
) -> None:
    list_ = made(own)[name]
    weights = (own / "runs" / name / "best.safetensors").read_bytes()
    agree(list_["printed"], moola_json(*list_["arguments"], "--resume"))
    assert (own / "runs" / name / "best.safetensors").read_bytes() == weights


def test_runs_are_combined_as_before(own: Path, moola_json: Run, agree: Check) -> None:
    """From the out-of-fold logits that each run has kept."""
    list_ = made(own)["both"]
    then = json.loads((own / "runs" / "both" / "ensemble.json").read_text())
    shutil.move("runs/both", "then")
    # An interval moves if a window is drawn more or less often.
    printed = moola_json(*list_["arguments"])
    agree(list_["printed"], printed, ignoring=("low", "high", "seconds", "report"), tolerance=1e-9)
    agree(then, json.loads((own / "runs" / "both" / "ensemble.json").read_text()), tolerance=1e-9)


def test_another_run_can_start_from_its_weights(own: Path, moola_json: Run) -> None:
    arguments = made(own)["continued"]["arguments"]
    arguments = [*arguments[: arguments.index("--output")], "--output", "runs/new"]
    arguments[arguments.index("--epochs") + 1] = "1"
    assert moola_json(*arguments)["steps"] > 0


@pytest.mark.parametrize("name", ["compare", "compare tuned"])
def test_runs_are_compared(name: str, calls: dict[str, Any], moola_json: Run, agree: Check) -> None:
    agree(calls[name]["printed"], moola_json(*calls[name]["arguments"]), tolerance=1e-9)


GATES = (
    "gate pretrained",
    "gate tuned",
    "gate both",
    "gate pretrained shipped",
    "gate tuned against",
    "gate seeds",
    "gate kinds",
    "gate mean",
    "gate finished",
)


@pytest.mark.parametrize("name", GATES)
def test_runs_are_gated(name: str, calls: dict[str, Any], moola_json: Run, agree: Check) -> None:
    """Each gate has its old value, bound and outcome."""
    agree(calls[name]["printed"], moola_json(*calls[name]["arguments"]), tolerance=1e-9)


def test_every_gate_call_is_tested(calls: dict[str, Any]) -> None:
    assert {name for name in calls if name.startswith("gate")} == set(GATES)
