"""Shuffles that leave a fold without a class: they are counted, they count against the model, and no result
is lost."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled import make_windows
from typer.testing import CliRunner

from moola.cli import app
from moola.errors import ConfigError, LeakError, NotFiniteError
from moola.estimators import make_member
from moola.evaluation import Predictions, Truth, evaluate, permutation_test
from moola.evaluation.permutation import PermutationTest
from moola.labels import LabelledWindows
from moola.sweep import sweep
from moola.validation import assess, cross_validate, stack
from moola.validation.assessment import kept_permutation_tests, write_assessment
from moola.validation.permutation import permutation_test_of, permutation_tests
from moola.validation.records import with_members

# ---- any procedure -----------------------------------------------------------------------------------------------

TRUTH = Truth(np.arange(20) % 2)


class Refuses:
    """A procedure that fails on every second shuffle."""

    def __init__(self, error: Exception, *, true_labels: bool = False) -> None:
        self.error, self.calls, self.true_labels = error, 0, true_labels

    def __call__(self, labels: Truth) -> Mapping[str, float]:
        self.calls += 1
        if self.true_labels or self.calls % 2 == 0:
            raise self.error
        return {"macro_f1": 0.9 if labels is TRUTH else 0.5}


UNFIT = [
    (ConfigError("y", "has one class, 0; give two"), "y: has one class, 0; give two"),
    (ValueError("The least populated\n  class"), "The least populated class"),
    (ValueError(), "ValueError"),
    (NotFiniteError(3, "loss", [], 0, None), "the loss of step 3 is not finite"),
]


@pytest.mark.parametrize(("error", "why"), UNFIT, ids=lambda one: type(one).__name__)
def test_a_shuffle_that_cannot_be_trained_on_counts_against_the_model(error: Exception, why: str) -> None:
    permutation = permutation_test(Refuses(error), TRUTH, seed=0, permutations=7)["macro_f1"]
    assert permutation.unfitted == 4
    assert permutation.why.startswith(why)
    np.testing.assert_array_equal(np.isnan(permutation.scores), np.arange(7) % 2 == 0)
    assert (permutation.as_good, permutation.p_value) == (4, 5 / 8)
    assert permutation.shuffled_interval == (0.5, 0.5)


@pytest.mark.parametrize("error", [error for error, _ in UNFIT], ids=lambda one: type(one).__name__)
def test_an_error_with_the_true_labels_is_raised(error: Exception) -> None:
    with pytest.raises(type(error)):
        permutation_test(Refuses(error, true_labels=True), TRUTH, seed=0, permutations=1)


@pytest.mark.parametrize("error", [LeakError("fold 0", "trains on what it tests", [1]), TypeError("a bug")])
def test_leaks_and_bugs_in_shuffles_are_raised(error: Exception) -> None:
    with pytest.raises(type(error)):
        permutation_test(Refuses(error), TRUTH, seed=0, permutations=1)


def test_no_model_beats_chance_if_no_shuffle_can_be_trained() -> None:
    nan = float("nan")
    permutation = PermutationTest("macro_f1", 0.9, (nan,) * 3, 1.0, "", 3, "y: has one class, 0; give two")
    assert permutation.p_value == 1
    assert str(permutation) == (
        "macro-F1: 0.900, not shown to be better than with shuffled labels (no such score; p = 1.000, 3 shuffles)"
    )
    said = Predictions(np.eye(2)[TRUTH.y])
    found = evaluate(TRUTH, said, model="m", baselines={}, permutation={"macro_f1": permutation}, seed=0)
    assert found.notes == [
        "3 of 3 shuffles could not be trained on, and count as good as the model, so p may be too large: y: has one "
        "class, 0; give two. Use fewer folds, or label more windows of the rarest class in groups of their own, to "
        "have fewer such shuffles"
    ]
    assert found.rows()[0][2:] == ["–", "1.000"]
    # Older records have no count.
    record = permutation.record()
    assert repr(PermutationTest.from_record("macro_f1", record)) == repr(permutation)
    del record["unfitted"], record["why"]
    assert PermutationTest.from_record("macro_f1", record).unfitted == 0


# ---- models of a rare class --------------------------------------------------------------------------------------

TREES: dict[str, Any] = {"trees": make_member("trees", trees=1)}


def rare(groups: np.ndarray, of_up: Any) -> LabelledWindows:
    """Windows; those of a few groups have the class `up`. No group shares a bar with another."""
    starts = np.arange(len(groups)) * 8 + groups * 40
    y = np.isin(groups, of_up).astype(np.int64)
    windows = make_windows(len(groups), bars=12)
    spans = np.full((len(groups), 2), -1)
    return replace(windows, y=y, spans=spans, groups=groups, starts=starts, ends=starts + 11)


@pytest.fixture(scope="module")
def in_two_groups() -> LabelledWindows:
    """Ten groups of two windows. Unshuffled, each of two folds has one of `up`; shuffled, one fold may have
    both."""
    return rare(np.arange(20) // 2, [3, 7])


def test_a_permutation_test_of_a_rare_class_counts_failed_shuffles(
    in_two_groups: LabelledWindows, tmp_path: Path
) -> None:
    found = cross_validate(in_two_groups, TREES, folds=2, seed=1)
    tested = permutation_test_of(found, "trees", TREES, permutations=12, seed=1)
    permutation = tested.permutation["macro_f1"]
    assert 0 < permutation.unfitted < 12
    assert np.isnan(permutation.scores).sum() == permutation.unfitted
    assert permutation.why == "y: has one class, none; give windows of at least two classes"
    evaluation = assess(found, "trees", tested=tested)
    note = f"{permutation.unfitted} of 12 shuffles could not be trained on, and count as good as the model"
    assert any(line.startswith(note) for line in evaluation.summary())
    # It is in the written and in the loaded record.
    write_assessment(tmp_path, found, {"trees": evaluation})
    record = json.loads((tmp_path / "evaluation.json").read_text())["models"]["trees"]
    assert record["null"]["macro_f1"]["unfitted"] == permutation.unfitted
    assert any(line.startswith(note) for line in record["notes"])
    again = assess(found, "trees", tested=kept_permutation_tests(tmp_path, ["trees"])["trees"])
    assert again.notes == evaluation.notes


def test_a_permutation_test_without_scores_is_not_drawn(
    in_two_groups: LabelledWindows, tmp_path: Path
) -> None:
    found = cross_validate(in_two_groups, TREES, folds=2, seed=1)
    tested = permutation_test_of(found, "trees", TREES, permutations=1, seed=1)
    nothing = {
        name: replace(permutation, scores=(float("nan"),), unfitted=1)
        for name, permutation in tested.permutation.items()
    }
    write_assessment(
        tmp_path, found, {"trees": assess(found, "trees", tested=tested._replace(permutation=nothing))}
    )
    assert not list(tmp_path.glob("*null*"))


def test_a_stack_of_a_rare_class_has_a_permutation_test() -> None:
    # Four of `up`: an outer fold trains on two, and two inner folds need one each to train on.
    windows = rare(np.arange(24), [2, 9, 14, 21])
    members = TREES | {"regression": make_member("regression")}
    found = stack(windows, members, folds=2, inner_folds=2, seed=1)
    permutation = permutation_test_of(found, "stack", members, permutations=8, seed=1).permutation["macro_f1"]
    assert 0 < permutation.unfitted < 8
    assert permutation.why.startswith("1 class refused class with fewer windows than folds: 1 'up': ")


def test_a_stack_without_its_store_is_refused_before_shuffling() -> None:
    windows = make_windows(20, bars=12, symbols=np.repeat(["ES", "NQ"], 10))
    rows = np.arange(20)
    splits = [[(rows[rows % 2 != fold], rows[rows % 2 == fold]) for fold in range(2)]]
    found = cross_validate(windows, TREES, splits=splits)
    settings = {"stacked": ["trees"], "inner_folds": 2, "C": 1.0}
    found = with_members(found, dict.fromkeys(("trees", "stack"), found.members["trees"]), **settings)
    told: list[str] = []
    given = {"permutations": 1, "report": told.append}
    with pytest.raises(
        ConfigError,
        match=r"store: is missing; windows of 2 symbols can only be compared in time, so give the labelled store",
    ):
        permutation_tests(found, ["trees", "stack"], TREES, **given)
    assert not told
    assert list(permutation_tests(found, ["trees"], TREES, **given)) == ["trees"]
    assert len(told) == 1


def test_a_sweep_of_a_rare_class_finishes(tmp_path: Path) -> None:
    windows = rare(np.arange(24) // 3, [1, 2, 4, 7])
    result = sweep(
        windows,
        {"parameters": {"trees": {"choices": [1]}}, "sampler": "grid"},
        tmp_path / "sweep",
        trials=1,
        estimator=TREES["trees"],
        folds=2,
        inner_folds=2,
        permutations=30,
        say=lambda _: None,
    )
    permutation = result.evaluation.permutation["macro_f1"]
    assert 0 < permutation.unfitted < 30
    assert re.match(r"\d+ of 30 shuffles could not be trained on", result.evaluation.notes[-1])


def test_the_command_writes_its_evaluation_despite_failed_shuffles(
    in_two_groups: LabelledWindows, tmp_path: Path
) -> None:
    in_two_groups.save(tmp_path / "L.safetensors")
    args = (
        "--labels",
        tmp_path / "L.safetensors",
        "--member",
        "trees",
        "--set",
        "trees.trees=1",
        "--folds",
        2,
    )
    args = ("cross-validate", *args, "--permutations", 12, "--jobs", 1, "--output", tmp_path / "cv")
    ran = CliRunner().invoke(app, [str(arg) for arg in args])
    assert ran.exit_code == 0, ran.output
    assert re.search(r"^\d+ of 12 shuffles could not be trained on", ran.stdout, re.MULTILINE)
    assert (tmp_path / "cv" / "evaluation.json").exists()
