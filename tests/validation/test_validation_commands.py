"""The commands that cross-validate, stack and evaluate."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from moola.cli import app
from moola.estimators import make_member
from moola.labels import LabelledWindows
from moola.validation import (
    cross_validate,
)

# One process makes what is made once per process.
pytestmark = pytest.mark.xdist_group("validation")


def run(*args: object) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def labels(windows: LabelledWindows, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "L.safetensors"
    windows.save(path)
    return path


def test_the_commands_work(labels: Path, tmp_path: Path) -> None:
    cv, averaged, stacked = (tmp_path / name for name in ("cv", "ensemble", "stack"))
    quick = (
        "--member",
        "regression",
        "--member",
        f"boosted_trees={labels}",
        "--set",
        "boosted_trees.trees=5",
        "--jobs",
        1,
    )
    quick = (*quick, "--permutations", 2)
    ran = run("cross-validate", "--labels", labels, "--output", cv, *quick, "--folds", 3, "--repeats", 2)
    assert ran.exit_code == 0, ran.output
    for text in (
        "windows     40 in 40 groups",
        "folds       3, 2 times",
        "macro-F1",
        "against majority class: better in macro-F1 (+0.",
        "; each fold by a temperature fitted on the others",
        "the permutation test is of boosted_trees (L), as the mean over 2 repeats, cross-validated with 2",
        "not shown to be better than with shuffled labels (",
    ):
        assert text in ran.stdout
    assert "permutation test of regression: 2 shuffles of the labels, 18 fits …" in ran.stderr
    assert (cv / "boosted_trees-L-null-macro_f1.png").exists()
    # One line per baseline with classes, and none for the other member.
    assert ran.stdout.count("against ") == 2 * 3
    assert "against boosted_trees (L)" not in ran.stdout
    kept = json.loads((cv / "evaluation.json").read_text())["models"]
    assert "boosted_trees (L)" in kept["regression"]["differences"]
    assert any("between regression and boosted_trees (L)" in line for line in kept["regression"]["sentences"])
    assert set(kept["regression"]["calibrated"]) == {"log_loss", "calibration_error"}
    record = json.loads((cv / "cross_validation.json").read_text())
    assert record["settings"]["members"]["boosted_trees (L)"]["parameters"] == {"seed": 17, "trees": 5}

    ran = run("ensemble", cv, "--output", averaged, "--jobs", 1, "--permutations", 2, "--json")
    assert ran.exit_code == 0, ran.output
    permutation = json.loads(ran.stdout)["models"]["regression ensemble"]["null"]
    assert len(permutation["macro_f1"]["scores"]) == 2

    ran = run("stack", "--labels", labels, "--output", stacked, *quick, "--folds", 2, "--inner-folds", 2)
    assert ran.exit_code == 0, ran.output
    assert "against majority class: better in macro-F1" in ran.stdout
    assert "the permutation test is of stack, cross-validated with 2 shuffles" in ran.stdout

    ran = run("evaluate", stacked, "--model", "stack", "--permutations", 2, "--jobs", 1)
    assert ran.exit_code == 0, ran.output
    assert (
        "the permutation test is of stack, cross-validated with 2 shuffles of the labels: 36 fits"
        in ran.stdout
    )

    other = tmp_path / "other"
    arguments = ("--labels", labels, "--member", "rocket", "--set", "rocket.kernels=50", "--jobs", 1)
    arguments = (*arguments, "--permutations", 0)
    assert run("cross-validate", *arguments, "--output", other, "--folds", 3, "--repeats", 2).exit_code == 0
    arguments = ("--against", other, "--permutations", 0, "--jobs", 1, "--json")
    ran = run("evaluate", cv, "--model", "regression", *arguments)
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert "against rocket (other): " in run("evaluate", cv, *arguments[:-1]).stdout
    # Nothing was shuffled again, and neither earlier shuffles nor the other model are lost.
    assert found["models"]["regression"]["null"] == kept["regression"]["null"]
    now = json.loads((cv / "evaluation.json").read_text())["models"]
    assert now["boosted_trees (L)"]["scores"] == kept["boosted_trees (L)"]["scores"]
    assert "rocket (other)" in found["models"]["regression"]["differences"]
    assert found["files"] == [
        "evaluation.json",
        "regression-reliability.png",
        "regression-confusion.png",
        "regression-null-macro_f1.png",
    ]


def regressions(labels: Path, output: Path, *args: object) -> Any:
    members = ("--labels", labels, "--member", "regression", "--folds", 2, "--jobs", 1)
    return run("cross-validate", *members, "--output", output, *args)


def test_cross_validations_with_the_same_name_are_distinguished(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("r", "a/r", "b/r", "c"):
        assert regressions(labels, Path(name), "--permutations", 0).exit_code == 0
    evaluate = ("evaluate", "c", "--permutations", 0, "--jobs", 1, "--json")
    ran = run(*evaluate, "--against", "a/r", "--against", "b/r", "--against", "r")
    differences = json.loads(ran.stdout)["models"]["regression"]["differences"]
    assert {"regression (a/r)", "regression (b/r)", "regression (r)"} <= set(differences)
    assert (
        "regression (r)"
        in json.loads(run(*evaluate, "--against", "b/r").stdout)["models"]["regression"]["differences"]
    )
    for again in (("--against", "a/r", "--against", "./a/r"), ("--against", tmp_path / "c")):
        ran = run(*evaluate[:-1], *again)
        assert ran.exit_code == 2
        assert (
            ran.stderr == f"error: --against: {again[-1]} is given twice; give each cross-validation once\n"
        )


def test_members_are_found_from_another_directory(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(labels.parent)
    ran = regressions(
        Path(labels.name), tmp_path / "cv", "--member", f"trees={labels.name}", "--permutations", 0
    )
    assert ran.exit_code == 0, ran.output
    monkeypatch.chdir(tmp_path)
    ran = run("evaluate", "cv", "--model", "regression", "--permutations", 1, "--jobs", 1)
    assert ran.exit_code == 0, ran.output


def test_labels_that_cannot_be_shuffled_give_a_note(windows: LabelledWindows, tmp_path: Path) -> None:
    # Groups of 1, 2, … and 8 windows: none can exchange its labels with another.
    sizes = np.repeat(np.arange(8), np.arange(1, 9))
    replace(windows.take(np.arange(36)), groups=sizes).save(tmp_path / "L.safetensors")
    ran = regressions(tmp_path / "L.safetensors", tmp_path / "cv")
    assert ran.exit_code == 0, ran.output
    assert "labels were not shuffled: groups: are 8, and no two have the same size" in ran.stdout
    # A cross-validation made in Python does not record how it was made.
    cross_validate(windows, {"a": make_member("regression")}, folds=2).save(tmp_path / "made")
    ran = run("evaluate", tmp_path / "made", "--jobs", 1)
    assert ran.exit_code == 0, ran.output
    assert (
        "labels were not shuffled: the cross-validation does not record how this model was made" in ran.stdout
    )


def test_runs_have_no_labels_to_shuffle(tmp_path: Path) -> None:
    ran = run("ensemble", tmp_path, tmp_path, "--output", tmp_path / "both", "--permutations", 5)
    assert ran.exit_code == 2
    assert ran.stderr == (
        "error: --permutations: need a cross-validation, and fine-tuned runs are combined without any fit; "
        "leave the option out\n"
    )
    assert not (tmp_path / "both").exists()


@pytest.mark.parametrize("command", ["cross-validate", "stack", "ensemble"])
def test_an_existing_output_is_refused_before_any_fit(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def never(*args: object, **options: object) -> None:
        raise AssertionError("fitted, or loaded")

    for name in ("cross_validate", "stack", "ensemble"):
        monkeypatch.setattr(f"moola.validation.{name}", never)
    (tmp_path / "file").write_text("mine")
    args = (tmp_path,) if command == "ensemble" else ("--labels", labels)
    ran = run(command, *args, "--output", tmp_path)
    assert ran.exit_code == 1
    assert ran.stderr == f"error: {tmp_path}: exists and is not empty. Choose another --output\n"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--member", "forest"), "error: --member: 'forest' is not a kind of model; give one of jade"),
        (
            ("--member", "trees", "--member", "trees"),
            "error: --member: boosted_trees is given twice; give each once",
        ),
        (("--member", "trees", "--set", "trees"), "error: --set: 'trees' is not KIND.KEY=VALUE, such as"),
        (
            ("--member", "trees", "--set", "jade.lr=1"),
            "error: --set: 'jade.lr=1' names no member; give one of boosted_trees",
        ),
        (
            ("--member", "trees", "--set", "trees.x=1"),
            "error: --member: boosted_trees has no parameter 'x'; give some of",
        ),
        (
            ("--member", "trees", "--encoder", "run"),
            "error: --encoder: cannot be used by these members; add jade or",
        ),
    ],
)
def test_wrong_command_arguments_are_refused(
    labels: Path, tmp_path: Path, args: tuple[str, ...], message: str
) -> None:
    ran = run("cross-validate", "--labels", labels, "--output", tmp_path / "out", *args)
    assert ran.exit_code == 2
    assert ran.stderr.startswith(message)
    assert not (tmp_path / "out").exists()
