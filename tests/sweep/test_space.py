"""Spaces of settings: reading, refusals, and what must be known before the first trial."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import optuna
import pytest
from sweeping import STRENGTH, make_windows, search

from moola.errors import ConfigError
from moola.estimators.jade import JadeClassifier
from moola.evaluation.baselines import PooledLogisticRegression
from moola.settings.models import load_config
from moola.sweep import read_space, sweep
from moola.sweep.space import build_candidate

GRID = Path(str(resources.files("moola") / "settings" / "configs" / "sweep" / "grid.yaml"))


def test_a_space_is_read_from_yaml(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "metric: macro_f1\n"
        "parameters:\n"
        "  training.finetune.lr: {low: 1.0e-5, high: 1e-2, log: true}\n"
        "  training.finetune.batch_size: {low: 8, high: 32}\n"
        "  training.finetune.class_weight: {choices: [balanced, null]}\n"
    )
    space = read_space(file)
    space.check_for(JadeClassifier())
    trial = optuna.trial.FixedTrial(
        {
            "training.finetune.lr": 1e-3,
            "training.finetune.batch_size": 16,
            "training.finetune.class_weight": None,
        }
    )
    candidate = build_candidate(
        JadeClassifier(settings=("training.finetune.epochs=3",)), space.suggest(trial)
    )
    found = load_config(candidate.model, candidate.settings).training.finetune
    assert (found.lr, found.batch_size, found.class_weight, found.epochs) == (1e-3, 16, None, 3)


def test_the_bundled_grid_has_learning_rate_width_and_dropout() -> None:
    space = read_space(GRID)
    space.check_for(JadeClassifier())
    grid = space.grid()
    assert grid is not None
    assert len(grid) == 27
    assert {name.rpartition(".")[2] for name in grid[0]} == {"lr", "hidden_size", "recurrent_dropout"}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "parameters: field required"),
        ({"parameters": {}}, "parameters: dictionary should have at least 1 item"),
        ({"parameters": {"C": 3}}, "parameters: input should be a valid dictionary"),
        (
            STRENGTH | {"sampel": "tpe"},
            "sampel: there is no such parameter; the parameters are parameters, sampler",
        ),
        (STRENGTH | {"sampler": "cma"}, "sampler: input should be 'tpe', 'random' or 'grid', not 'cma'"),
        (
            STRENGTH | {"metric": "accuracy"},
            "metric: 'accuracy' is not a metric; give one of macro_f1, balanced_accuracy",
        ),
        (
            STRENGTH | {"sampler": "grid"},
            "sampler: grid needs choices, and C has a range; give choices there, or tpe",
        ),
        (
            {"parameters": {"C": {"low": 1, "high": 2, "step": 1}}},
            "parameters.C.step: there is no such parameter; the parameters are low, high, log",
        ),
        (
            {"parameters": {"C": {"low": 2, "high": 1}}},
            "parameters.C.high: is 1; give more than low, which is 2",
        ),
        (
            {"parameters": {"C": {"low": 0, "high": 1, "log": True}}},
            "parameters.C.low: is 0; with log, give more than 0",
        ),
        ({"parameters": {"C": {"choices": []}}}, "parameters.C.choices: tuple should have at least 1 item"),
        ({"parameters": {"C": {"low": "a", "high": 1}}}, "parameters.C.low: input should be a valid"),
    ],
)
def test_spaces_that_make_no_sense_are_refused(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        read_space(space)
    assert "value error" not in str(caught.value)


def test_a_bundled_space_is_found_by_name_if_no_file_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_space("grid.yaml") == read_space("grid") == read_space(GRID)
    (tmp_path / "grid.yaml").write_text("parameters: {C: {choices: [1.0]}}\n")
    assert list(read_space("grid.yaml").parameters) == ["C"]
    with pytest.raises(
        ConfigError, match=r"space: there is no file 'mine.yaml'; give .* with moola: grid.yaml"
    ):
        read_space("mine.yaml")


@pytest.mark.parametrize(
    ("name", "choices", "estimator", "message"),
    [
        ("D", [1], PooledLogisticRegression(), "is not a parameter of PooledLogisticRegression, which has C"),
        (
            "training.finetune.lr",
            [1],
            PooledLogisticRegression(),
            "is not a parameter of PooledLogisticRegression",
        ),
        (
            "training.finetune.rate",
            [1],
            JadeClassifier(),
            "training.finetune.rate: there is no such parameter",
        ),
        (
            "training.finetune.lr",
            [1e-3, -1],
            JadeClassifier(),
            "training.finetune.lr: input should be greater",
        ),
        (
            "training.finetune.lr",
            [1e-3],
            JadeClassifier(lr=1e-4),
            "has no effect beside lr=0.0001; leave one of them out",
        ),
    ],
)
def test_parameters_that_an_estimator_does_not_have_are_refused_before_anything_is_tried(
    tmp_path: Path, name: str, choices: list[Any], estimator: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        search(tmp_path / "sweep", space={"parameters": {name: {"choices": choices}}}, estimator=estimator)
    assert not (tmp_path / "sweep").exists()


def test_one_class_is_refused_before_anything_is_tried(tmp_path: Path) -> None:
    windows = make_windows()
    alone = replace(windows, y=windows.y * 0)
    with pytest.raises(
        ConfigError, match=f"labels: '{windows.classes[0]}' is the only class; label windows of"
    ):
        sweep(alone, STRENGTH, tmp_path / "sweep", trials=1, estimator=PooledLogisticRegression())
    assert not (tmp_path / "sweep").exists()


def test_a_metric_without_its_inputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="metric: span_iou scores predictions that PooledLogisticRegression"
    ):
        search(tmp_path / "sweep", space=STRENGTH | {"metric": "span_iou"})
