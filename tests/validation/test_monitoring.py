"""The records of networks in cross-validations, ensembles and stacks, and how gates use them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from labelled import make_windows
from torch.nn import Module

from moola.devices.placement import forget_peak_memory, peak_memory
from moola.estimators import make_member
from moola.gates import check_gates
from moola.models.jade import Jade
from moola.runs.directory import METRICS, read_metrics
from moola.validation import CrossValidation, cross_validate, ensemble, stack
from moola.validation.assessment import assess, write_assessment
from moola.validation.monitoring import monitored, of_several

FOLDS = 2


def networks() -> dict[str, Any]:
    return {
        "jade_compact": make_member("jade_compact", epochs=2, hidden_size=4, validation_fraction=0.25),
        "convolution": make_member("convolution", epochs=3, channels=4),
    }


@pytest.fixture(scope="module")
def windows():
    return make_windows(24)


@pytest.fixture(scope="module")
def validation(windows):
    return cross_validate(
        windows, networks() | {"regression": make_member("regression")}, folds=FOLDS, repeats=2
    )


def parameters(name: str, windows) -> int:
    fitted = networks()[name].fit(windows.X, windows.y)
    return sum(p.numel() for p in fitted.model_.parameters())


def test_every_fold_of_a_network_has_its_own_line(validation, windows, tmp_path: Path) -> None:
    directory = validation.save(tmp_path / "cv")
    lines = read_metrics(directory, "fold")
    assert [(line["model"], line["repeat"], line["fold"]) for line in lines] == [
        (name, repeat, fold) for name in networks() for repeat in range(2) for fold in range(FOLDS)
    ]
    for line in lines:
        assert line["parameters_per_window"] == parameters(line["model"], windows) / len(windows)
        assert line["epochs"] == {"jade_compact": 2, "convolution": 3}[line["model"]]
        assert line["trained_on"] == len(validation.splits[line["repeat"]][line["fold"]][0])
        assert 0 < line["timing"]["slowest_epoch"] <= line["timing"]["seconds"]
        # Only one of them holds out validation windows.
        assert (line["validation_spread"] is not None) == (line["model"] == "jade_compact")


def test_monitoring_is_read_again_and_may_be_missing(validation, tmp_path: Path) -> None:
    directory = validation.save(tmp_path / "cv")
    again = CrossValidation.load(directory)
    for name, several in validation.members.items():
        assert [one.monitoring for one in again.members[name]] == [one.monitoring for one in several]
    (directory / METRICS).unlink()
    assert not any(one.monitoring for one in CrossValidation.load(directory).members["jade_compact"])


def test_an_ensemble_has_the_records_of_its_models(validation) -> None:
    found = ensemble(validation)
    for name in networks():
        (together,) = found.members[f"{name} ensemble"]
        assert [line["fold"] for line in together.monitoring] == list(range(FOLDS))
        for line, *parts in zip(
            together.monitoring, *(one.monitoring for one in validation.members[name]), strict=True
        ):
            assert line["parameters_per_window"] == sum(part["parameters_per_window"] for part in parts)
            assert line["timing"]["seconds"] == sum(part["timing"]["seconds"] for part in parts)
    assert found.members["regression ensemble"][0].monitoring == ()


def test_a_stack_has_the_parameters_of_all_and_the_slowest_epoch(windows) -> None:
    members = networks() | {"regression": make_member("regression")}
    found = stack(windows, members, folds=FOLDS, inner_folds=2)
    of_stack, of_jade, of_convolution = (
        found.members[name][0].monitoring for name in ("stack", "jade_compact", "convolution")
    )
    assert len(of_stack) == FOLDS
    for line, *parts in zip(of_stack, of_jade, of_convolution, strict=True):
        assert line["parameters_per_window"] == sum(part["parameters_per_window"] for part in parts)
        assert line["validation_spread"] == parts[0]["validation_spread"]
        assert line["timing"]["slowest_epoch"] == max(part["timing"]["slowest_epoch"] for part in parts)


def test_gates_compare_each_model_with_its_own_record(validation, windows, tmp_path: Path) -> None:
    directory = validation.save(tmp_path / "cv")
    evaluations = {name: assess(validation, name, baselines={}) for name in validation.members}
    write_assessment(directory, validation, evaluations)
    for name in networks():
        checks = {c.gate: c for c in check_gates(directory, model=name).checks}
        assert checks["parameters per window"].value == parameters(name, windows) / len(windows)
        assert checks["epoch time, s"].outcome == "passed"
        assert checks["memory on the device, bytes"].why == "the run was not on a GPU"
    assert checks["validation spread"].why == "no part had validation windows"
    regression = {c.gate: c for c in check_gates(directory, model="regression").checks}
    assert regression["parameters per window"].outcome == "skipped"
    assert regression["epoch time, s"].why == "the run has recorded no epoch"
    # One fold that is too steep is enough to fail.
    gates = {"parameters_per_window": parameters("convolution", windows) / len(windows)}
    assert check_gates(directory, gates=gates, model="convolution").checks[0].outcome == "failed"


def test_gates_read_a_cross_validation_that_was_stopped_before_its_evaluation(
    validation, tmp_path: Path
) -> None:
    directory = validation.save(tmp_path / "cv")
    checks = {c.gate: c for c in check_gates(directory, model="convolution").checks}
    assert checks["parameters per window"].outcome == "passed"
    assert checks["calibration error"].why == "the run has not been evaluated"


def test_each_fit_records_its_own_peak_memory(windows, monkeypatch: pytest.MonkeyPatch) -> None:
    # For a simulated GPU with a peak of one byte per parameter of its largest model.
    peak = [0]

    def used(model: Any, mode: bool = True) -> Any:
        peak[0] = max(peak[0], sum(p.numel() for p in model.parameters()))
        return Module.train(model, mode)

    monkeypatch.setattr(Jade, "train", used)
    for home in ("moola.training.fitting", "moola.estimators.convolutional"):
        monkeypatch.setattr(f"{home}.forget_peak_memory", lambda device: peak.__setitem__(0, 0))
        monkeypatch.setattr(f"{home}.peak_memory", lambda device: {"allocated": peak[0]})
    sizes = {"large": 8, "small": 2}
    members = {
        name: make_member("jade_compact", epochs=1, hidden_size=size) for name, size in sizes.items()
    } | {"convolution": make_member("convolution", epochs=1, channels=4)}
    found = cross_validate(windows, members, folds=FOLDS)
    for name in sizes:
        for line in found.members[name][0].monitoring:
            assert line["timing"]["allocated"] == line["parameters_per_window"] * len(windows)
    assert [line["timing"]["allocated"] for line in found.members["convolution"][0].monitoring] == [0] * FOLDS


def test_peak_gpu_memory_is_read_and_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    for name in ("reset_peak_memory_stats", "max_memory_allocated", "max_memory_reserved"):
        monkeypatch.setattr(f"torch.cuda.{name}", lambda device, name=name: told.append((name, device)) or 5)
    gpu, cpu = torch.device("cuda", 1), torch.device("cpu")
    forget_peak_memory(cpu)
    assert peak_memory(cpu) == {}
    assert not told
    forget_peak_memory(gpu)
    assert peak_memory(gpu) == {"allocated": 5, "reserved": 5}
    assert told == [
        (name, gpu) for name in ("reset_peak_memory_stats", "max_memory_allocated", "max_memory_reserved")
    ]


def test_models_without_records_have_no_monitoring() -> None:
    assert monitored(make_member("trees"), 10) == {}
    assert of_several([{}, {}]) == {}
