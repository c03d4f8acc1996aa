"""Gates: each passes and fails, and an unrecorded value never passes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from labelled import make_windows
from tiny_store import build
from typer.testing import CliRunner

from moola.cli import app
from moola.errors import ConfigError, InputError, RunError
from moola.evaluation import Predictions, Truth, evaluate
from moola.evaluation.baselines import MajorityClass, PooledLogisticRegression
from moola.evaluation.metrics import METRICS
from moola.gates import EVALUATION, GateCheck, check_gates, read_gates
from moola.settings.gates import GatesConfig
from moola.settings.models import load_config
from moola.training.pretraining import pretrain
from moola.validation.assessment import assess, write_assessment
from moola.validation.cross_validation import cross_validate

# Five epochs, as training writes them.
EPOCH: dict[str, Any] = {
    "kind": "epoch",
    "val_loss": 0.5,
    "validation_spread": 0.02,
    "parameters_per_window": 825.0,
}
TIMING = {"seconds": 2.5, "windows_per_second": 55.0}


def write_run(
    path: Path, *, epochs: int = 5, timing: Any = TIMING, evaluation: Any = None, **changed: Any
) -> Path:
    """The records of a run. `changed` are values of its epochs; None removes one."""
    path.mkdir()
    record = {name: value for name, value in (EPOCH | changed).items() if value is not None}
    lines = [json.dumps({"kind": "step", "step": 1})]
    lines += [json.dumps(record | {"epoch": i, "timing": timing}) for i in range(epochs)]
    (path / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    config = {"kind": "pretrain", "device": "cpu", "windows": {"validation_fingerprint": "ab"}}
    (path / "config.json").write_text(json.dumps(config))
    if evaluation is not None:
        (path / EVALUATION).write_text(json.dumps(evaluation))
    return path


def scores(**found: tuple[float, float, float]) -> dict[str, Any]:
    ends = ("value", "low", "high")
    by_name = {name: dict(zip(ends, interval, strict=True)) for name, interval in found.items()}
    return {"model": "jade", "windows": 174, "groups": 150, "classes": {"a": 100, "b": 74}, "scores": by_name}


def check(run: Path, gate: str, **options: Any) -> GateCheck:
    return next(c for c in check_gates(run, **options).checks if c.gate.startswith(gate))


# ---- each gate, both ways ----------------------------------------------------------------------------------------


def calibrated(value: float, expected: float) -> dict[str, Any]:
    record = scores(calibration_error=(value, 0.0, 0.3))
    return {
        "evaluation": record | {"calibration_error_by_luck": {"value": 0.05, "low": 0.0, "high": expected}}
    }


@pytest.mark.parametrize(
    ("gate", "good", "bad", "why"),
    [
        (
            "parameters per window",
            {"parameters_per_window": 999.0},
            {"parameters_per_window": 1000.0},
            "must be below the bound",
        ),
        (
            "epoch time",
            {"timing": TIMING | {"seconds": 179.0}},
            {"timing": TIMING | {"seconds": 180.0}},
            "the slowest of 5 must be below the bound",
        ),
        (
            "memory on the device",
            {"timing": TIMING | {"allocated": 2 * 10**9}},
            {"timing": TIMING | {"allocated": 10**9}},
            "allocated at most must be above the bound",
        ),
        (
            "validation spread",
            {"validation_spread": 0.0499},
            {"validation_spread": 0.05},
            "over the last 5 epochs must be below the bound",
        ),
        ("calibration error", calibrated(0.09, 0.05), calibrated(0.11, 0.10), "must be below the bound"),
    ],
)
def test_each_gate_opens_and_closes(
    tmp_path: Path, gate: str, good: dict[str, Any], bad: dict[str, Any], why: str
) -> None:
    assert check(write_run(tmp_path / "good", **good), gate).outcome == "passed"
    failed = check(write_run(tmp_path / "bad", **bad), gate)
    assert (failed.outcome, failed.why) == ("failed", why)
    assert check_gates(tmp_path / "good").passed
    assert not check_gates(tmp_path / "bad").passed


def test_a_calibration_error_within_chance_passes(tmp_path: Path) -> None:
    found = check(write_run(tmp_path / "run", **calibrated(0.11, 0.12)), "calibration error")
    assert found.outcome == "passed"
    assert (
        found.why
        == "perfectly calibrated probabilities reach up to 0.12 too: there are too few windows to tell"
    )


@pytest.mark.parametrize(
    ("score", "good", "bad"), [("macro_f1", 0.61, 0.59), ("log_loss", 0.69, 0.71), ("span_hits", 0.9, 0.1)]
)
def test_a_score_beyond_the_interval_of_the_named_run_is_a_regression(
    tmp_path: Path, score: str, good: float, bad: float
) -> None:
    before = write_run(tmp_path / "before", evaluation=scores(**{score: (0.65, 0.6, 0.7)}))
    gate = f"no worse {METRICS[score].title}"
    for name, value, outcome in (("good", good, "passed"), ("bad", bad, "failed")):
        run = write_run(tmp_path / name, evaluation=scores(**{score: (value, value - 0.05, value + 0.05)}))
        found = check(run, gate, against=before)
        assert (found.outcome, found.why) == (outcome, "against 0.65, 95 % interval 0.6 to 0.7")
        assert found.bound == (0.6 if METRICS[score].greater_is_better else 0.7)


def test_a_missing_score_that_the_named_run_has_is_a_regression(tmp_path: Path) -> None:
    both = {"macro_f1": (0.65, 0.6, 0.7), "span_hits": (0.5, 0.4, 0.6)}
    before = write_run(tmp_path / "before", evaluation=scores(**both))
    run = write_run(tmp_path / "run", evaluation=scores(macro_f1=both["macro_f1"]))
    lost = check(run, "no worse span hits", against=before)
    assert (lost.outcome, lost.why) == ("failed", f"{run} has no span hits ±3, and {before} has one")
    assert not check_gates(run, against=before).passed
    # A score that one of the named runs lacks too is not required.
    assert check(run, "no worse span hits", against=[before, run]).outcome == "skipped"
    assert check(before, "no worse span hits", against=run).outcome == "skipped"


def test_one_of_several_models_must_be_named(tmp_path: Path) -> None:
    models = {"jade": calibrated(0.2, 0.1)["evaluation"], "trees": calibrated(0.01, 0.1)["evaluation"]}
    run = write_run(tmp_path / "run", evaluation={"models": models})
    assert check(run, "calibration error", model="jade").outcome == "failed"
    assert check(run, "calibration error", model="trees").outcome == "passed"
    with pytest.raises(ConfigError, match=r"model: several were evaluated in .*; give one of jade, trees"):
        check_gates(run)
    with pytest.raises(ConfigError, match=r"model: 'stack' was not evaluated in .*; give one of jade, trees"):
        check_gates(run, model="stack")
    one = write_run(tmp_path / "one", evaluation={"models": {"jade": models["jade"]}})
    assert check(one, "calibration error").value == 0.2


def folds_of(**parameters: float) -> str:
    """Lines of `metrics.jsonl`: one fold of each model."""
    fold = {"kind": "fold", "epochs": 3, "timing": {"slowest_epoch": 1.0}}
    lines = [fold | {"model": name, "parameters_per_window": count} for name, count in parameters.items()]
    return "".join(f"{json.dumps(line)}\n" for line in lines)


def test_a_model_evaluated_alone_is_compared_with_its_own_folds(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.jsonl").write_text(folds_of(large=5000.0, small=7.0))
    (run / EVALUATION).write_text(
        json.dumps({"models": {"small": calibrated(0.01, 0.1)["evaluation"] | {"model": "small"}}})
    )
    assert check(run, "parameters per window").value == 7
    assert check_gates(run).passed


def test_an_unrecorded_model_name_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.jsonl").write_text(folds_of(large=5000.0, small=7.0))
    # Without a named model, the worst counts.
    assert check(run, "parameters per window").value == 5000
    assert check(run, "parameters per window", model="small").value == 7
    with pytest.raises(
        ConfigError, match=r"model: nothing is recorded of 'smal' in .*run; give one of large, small"
    ):
        check_gates(run, model="smal")


def test_losses_of_pretraining_are_compared_with_those_of_several_seeds(tmp_path: Path) -> None:
    seeds = [write_run(tmp_path / f"{i}", val_loss=loss) for i, loss in enumerate((0.50, 0.51, 0.52))]
    # Student's t of 2 degrees of freedom is 4.303: 0.51 ± 4.303 · 0.01 · √(4/3).
    for loss, outcome in ((0.559, "passed"), (0.560, "failed"), (0.1, "passed")):
        run = write_run(tmp_path / f"run {loss}", val_loss=loss)
        found = check(run, "no worse validation loss", against=seeds)
        assert found.outcome == outcome
        assert found.bound == pytest.approx(0.55969, abs=1e-5)


def test_a_named_run_that_cannot_be_compared_fails(tmp_path: Path) -> None:
    run, other = write_run(tmp_path / "run"), write_run(tmp_path / "other")
    found = check(run, "regression", against=other)
    assert found.outcome == "failed"
    assert found.why == (
        f"nothing can be compared with --against: {run} has no macro-F1; {run} has no log loss; "
        f"{run} has no span hits ±3; the validation loss of one run has no interval; give several seeds of it"
    )
    nobody = check(run, "regression")
    assert (nobody.outcome, nobody.why) == ("skipped", "no run to compare with was given (--against)")


def test_scores_of_other_windows_are_not_compared(tmp_path: Path) -> None:
    found = scores(macro_f1=(0.65, 0.6, 0.7))
    run = write_run(tmp_path / "run", evaluation=found)
    other = write_run(tmp_path / "other", evaluation=found | {"windows": 175})
    assert "the macro-F1 of the runs is of different windows" in check(run, "regression", against=other).why
    config = {"kind": "pretrain", "windows": {"validation_fingerprint": "cd"}}
    (other / "config.json").write_text(json.dumps(config))
    gates = {"regression": ["validation_loss"]}
    why = check(run, "regression", against=[other, other], gates=gates).why
    assert why.endswith("the validation loss of the runs is of different windows")


# ---- what is not there -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gate", "run", "why"),
    [
        (
            "parameters per window",
            {"parameters_per_window": None},
            "the run has not recorded parameters_per_window",
        ),
        ("epoch time", {"timing": {}}, "no epoch has recorded its time"),
        ("epoch time", {"epochs": 0}, "the run has recorded no epoch"),
        ("memory on the device", {}, "the run was not on a GPU"),
        ("memory on the device", {"epochs": 0}, "the run has recorded no epoch"),
        ("validation spread", {"val_loss": None}, "the run has no validation loss"),
        ("validation spread", {"epochs": 1}, "one epoch has no spread"),
        ("validation spread", {"epochs": 0}, "the run has recorded no epoch"),
        ("validation spread", {"validation_spread": None}, "the run has not recorded validation_spread"),
        ("calibration error", {}, "the run has not been evaluated"),
        (
            "calibration error",
            {"evaluation": scores(span_hits=(0.5, 0.4, 0.6))},
            "the run has no probabilities that were evaluated",
        ),
    ],
)
def test_unrecorded_values_are_skipped_with_a_reason(
    tmp_path: Path, gate: str, run: dict[str, Any], why: str
) -> None:
    found = check(write_run(tmp_path / "run", **run), gate)
    assert (found.outcome, found.why) == ("skipped", why)


def test_unrecorded_gpu_memory_is_reported_as_unrecorded(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "config.json").write_text(json.dumps({"device": "cuda"}))
    assert check(run, "memory on the device").why == "no epoch has recorded it"


def test_a_run_without_records_does_not_pass(tmp_path: Path) -> None:
    report = check_gates(write_run(tmp_path / "run", epochs=0))
    assert not report.passed
    assert report.verdict == (
        "the run does not pass: 0 of 6 gates could be checked, 0 passed, 0 failed; not checked: parameters per "
        "window, epoch time, s, memory on the device, bytes, validation spread, calibration error, regression"
    )


def test_a_pass_with_few_checked_gates_is_qualified(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    record = {"models": {"trees": calibrated(0.05, 0.1)["evaluation"]}}
    (tmp_path / "run" / EVALUATION).write_text(json.dumps(record))
    report = check_gates(tmp_path / "run")
    assert report.checked == "1 of 6"
    assert "1 of 6 gates could be checked, 1 passed, 0 failed; not checked: par" in report.verdict
    shown = CliRunner().invoke(app, ["gate", str(tmp_path / "run")])
    assert f"Gates of {tmp_path / 'run'}: 1 of 6 could be checked" in " ".join(shown.stdout.split())
    # Removed gates are not counted as missing.
    gates = {"parameters_per_window": None, "epoch_seconds": None, "regression": None}
    assert check_gates(tmp_path / "run", gates=gates).checked == "1 of 3"


def test_folds_replace_missing_epochs(tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "result.json").write_text(json.dumps({"kind": "sweep"}))
    fold = {"kind": "fold", "epochs": 9, "parameters_per_window": 700.0}
    lines = [
        fold | {"validation_spread": 0.01, "timing": {"seconds": 9.0, "slowest_epoch": 2.0}},
        fold | {"validation_spread": 0.09, "timing": {"seconds": 500.0, "slowest_epoch": 1.0}},
    ]
    (tmp_path / "sweep" / "metrics.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in lines))
    found = {c.gate: c for c in check_gates(tmp_path / "sweep").checks}
    assert found["parameters per window"].value == 700
    assert (found["epoch time, s"].value, found["epoch time, s"].why) == (2.0, "the slowest of all")
    spread = found["validation spread"]
    assert (spread.value, spread.outcome) == (0.09, "failed")
    assert spread.why == "over the last epochs of the worst part must be below the bound"


def write_ensemble(path: Path, *members: dict[str, Any], **result: Any) -> Path:
    """An ensemble of runs with members whose epochs have these values."""
    path.mkdir()
    (path / "members").mkdir()
    names = [f"members/{number}" for number, _ in enumerate(members)]
    for name, member in zip(names, members, strict=True):
        write_run(path / name, **member)
    (path / "result.json").write_text(json.dumps({"members": names} | result))
    return path


def test_an_ensemble_has_the_parameters_and_the_memory_of_its_members(tmp_path: Path) -> None:
    gigabyte = {"timing": TIMING | {"allocated": 10**9 + 1}}
    members = [{"parameters_per_window": 600.0}, {"parameters_per_window": 500.0} | gigabyte]
    ensemble = write_ensemble(tmp_path / "ensemble", *members, parameters_per_window=None)
    parameters, memory = (check(ensemble, gate) for gate in ("parameters per window", "memory on the device"))
    # Each has fewer than 1000, but they predict together.
    assert (parameters.value, parameters.outcome) == (1100, "failed")
    assert (memory.value, memory.outcome) == (10**9 + 1, "passed")
    # Its own record takes precedence.
    itself = write_ensemble(tmp_path / "itself", *members, parameters_per_window=1050.0)
    assert check(itself, "parameters per window").value == 1050


def test_an_ensemble_with_too_few_records_of_a_member_is_not_checked(tmp_path: Path) -> None:
    ensemble = write_ensemble(tmp_path / "ensemble", {}, {"parameters_per_window": None})
    assert check(ensemble, "parameters per window").why == "the run has not recorded parameters_per_window"
    assert check(ensemble, "memory on the device").why == "the run was not on a GPU"
    (ensemble / "members" / "1" / "config.json").write_text(json.dumps({"device": "cuda"}))
    assert check(ensemble, "memory on the device").why == "no epoch has recorded it"


def test_a_real_cross_validation_is_gated_from_its_files(tmp_path: Path) -> None:
    found = cross_validate(make_windows(40), {"a": MajorityClass(), "b": PooledLogisticRegression()}, folds=2)
    directory = found.save(tmp_path / "cv")
    evaluations = {name: assess(found, name, baselines={}) for name in found.members}
    write_assessment(directory, found, evaluations)
    for name, evaluation in evaluations.items():
        report = check_gates(directory, model=name)
        checks = {c.gate: c for c in report.checks}
        # Its own value, and not that of correct probabilities.
        assert checks["calibration error"].value == evaluation.scores["calibration_error"].value
        assert checks["epoch time, s"].why == "the run has recorded no epoch"
        assert report.checked == "1 of 6"
    again = {c.gate: c.outcome for c in check_gates(directory, model="b", against=directory).checks}
    assert again["no worse macro-F1"] == "passed"
    assert again["no worse validation loss"] == "skipped"


def test_values_of_the_result_take_precedence_over_epochs(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", parameters_per_window=1033.0, val_loss=None)
    result = {"parameters_per_window": 825.0, "validation_spread": 0.2}
    result |= calibrated(0.05, 0.1)
    (run / "result.json").write_text(json.dumps(result))
    assert check(run, "parameters per window").value == 825
    assert check(run, "calibration error").value == 0.05
    assert check(run, "validation spread").outcome == "failed"


@pytest.mark.parametrize("name", list(GatesConfig.model_fields))
def test_a_gate_is_disabled_by_null(tmp_path: Path, name: str) -> None:
    before = check_gates(write_run(tmp_path / "run")).checks
    after = check_gates(tmp_path / "run", gates={name: None}).checks
    assert [c.why for c in after if c not in before or c.why == "the gate is disabled"] == [
        "the gate is disabled"
    ]


# ---- bounds ------------------------------------------------------------------------------------------------------


def test_the_bundled_gates_equal_the_defaults() -> None:
    assert read_gates() == GatesConfig() == load_config("jade").gates


def test_bounds_are_read_from_their_own_file_or_a_model(tmp_path: Path) -> None:
    alone, inside = tmp_path / "gates.yaml", tmp_path / "model.yaml"
    alone.write_text("epoch_seconds: 5\n")
    inside.write_text("model: {name: mine}\ngates: {epoch_seconds: 5}\n")
    assert read_gates(alone) == read_gates(inside) == read_gates({"epoch_seconds": 5})
    assert read_gates(inside).epoch_seconds == 5


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        (
            {"epoch_second": 5},
            "epoch_second: there is no such parameter; the parameters are parameters_per_window",
        ),
        ({"epoch_seconds": 0}, "epoch_seconds: input should be greater than 0, not 0"),
        (
            {"gates": {"calibration_error": 2}},
            "gates.calibration_error: input should be less than or equal to 1",
        ),
        ({"regression": ["accuracy"]}, "regression.0: input should be 'macro_f1', 'balanced_accuracy'"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(tmp_path: Path, gates: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_gates(write_run(tmp_path / "run"), gates=gates)


def test_every_metric_can_be_guarded() -> None:
    annotation = GatesConfig.model_fields["regression"].annotation
    names = get_args(get_args(get_args(annotation)[0])[0])
    assert set(names) == {*METRICS, "validation_loss"}


def test_a_directory_without_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"is not a run: it holds none of config.json, metrics.jsonl, result.json"
    ):
        check_gates(tmp_path)
    run = write_run(tmp_path / "run")
    with pytest.raises(RunError, match="holds none of"):
        check_gates(run, against=tmp_path)
    (run / EVALUATION).write_text("{")
    with pytest.raises(RunError, match=r"evaluation.json: cannot be read: .* Restore it from a copy"):
        check_gates(run)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        check_gates(run, gates=tmp_path / "none.yaml")


# ---- real runs ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gates")
    build(folder / "store", lengths=(400, 250)).close()
    tiny = {"model": {"name": "tiny", "architecture": {"hidden_size": 2}}}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("draw_losses", "draw_reconstructions"):
            patch.setattr(f"moola.training.figures.{name}", lambda *_: None)
        pretrain(
            folder / "store",
            folder / "run",
            model=tiny,
            epochs=2,
            batch_size=16,
            stride=3,
            device="cpu",
            say=lambda _: None,
        )
    return folder / "run"


def test_a_pretraining_run_is_gated_from_its_files(pretrained: Path) -> None:
    report = check_gates(pretrained)
    by_gate = {c.gate: c for c in report.checks}
    last = json.loads((pretrained / "metrics.jsonl").read_text().splitlines()[-1])
    assert by_gate["parameters per window"].value == last["parameters_per_window"]
    assert by_gate["validation spread"].value == last["validation_spread"]
    assert by_gate["epoch time, s"].outcome == "passed"
    assert by_gate["memory on the device, bytes"].outcome == "skipped"
    assert by_gate["calibration error"].outcome == "skipped"


def test_an_evaluation_is_gated_from_its_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 100)
    sure = np.where(y == 1, 0.9, 0.1)
    said = Predictions(np.stack([1 - sure, sure], axis=1))
    record = evaluate(Truth(y), said, model="sure", baselines={}, seed=0).record()
    run = write_run(tmp_path / "run", evaluation=record)
    assert check(run, "calibration error").value == pytest.approx(0.1)
    assert check(run, "no worse macro-F1", against=run).outcome == "passed"
    assert check(run, "no worse span hits", against=run).outcome == "skipped"


# ---- the command -------------------------------------------------------------------------------------------------


def test_the_exit_code_is_0_only_for_a_run_that_passes(tmp_path: Path) -> None:
    good, bad = write_run(tmp_path / "good"), write_run(tmp_path / "bad", validation_spread=0.5)
    shown = CliRunner().invoke(app, ["gate", str(good)])
    assert shown.exit_code == 0
    assert re.search(r"parameters per window +825 +1,000 +passed", shown.stdout)
    assert re.search(
        r"memory on the device, bytes +– +1,000,000,000 +skipped +the run was not on a GPU", shown.stdout
    )
    assert shown.stdout.endswith(
        "the run passes: 3 of 6 gates could be checked, 3 passed, 0 failed; not checked: memory on the device, "
        "bytes, calibration error, regression\n"
    )
    closed = CliRunner().invoke(app, ["gate", str(bad), "--json"])
    assert closed.exit_code == 1
    record = json.loads(closed.stdout)
    assert not record["passed"]
    assert [c["gate"] for c in record["checks"] if c["outcome"] == "failed"] == ["validation spread"]


def test_the_command_accepts_bounds_and_several_runs_to_compare_with(tmp_path: Path) -> None:
    seeds = [write_run(tmp_path / f"{i}", val_loss=loss) for i, loss in enumerate((0.50, 0.51))]
    run = write_run(tmp_path / "run", val_loss=0.9)
    (tmp_path / "gates.yaml").write_text("parameters_per_window: 100\n")
    args = ["gate", str(run), "--gates", str(tmp_path / "gates.yaml"), "--json"]
    args += [word for seed in seeds for word in ("--against", str(seed))]
    record = json.loads(CliRunner().invoke(app, args).stdout)
    failed = [c["gate"] for c in record["checks"] if c["outcome"] == "failed"]
    assert failed == ["parameters per window", "no worse validation loss"]
