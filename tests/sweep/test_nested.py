"""Nested selection: inner folds choose, outer folds score."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState
from sklearn.base import BaseEstimator, ClassifierMixin
from sweeping import FOLDS, STRENGTH, make_windows, search, tried

from moola.errors import LeakError, NotFiniteError, RunError
from moola.estimators.jade import JadeClassifier
from moola.evaluation.baselines import PooledLogisticRegression
from moola.evaluation.fold_predictions import fit_predict
from moola.evaluation.leaks import FittedOn
from moola.evaluation.metrics import scores
from moola.evaluation.outcomes import Predictions
from moola.folds.dealing import purged_folds
from moola.gates import check_gates
from moola.runs.directory import read_metrics
from moola.settings.models import load_config
from moola.sweep.space import build_candidate
from moola.training.new_model import new_model
from moola.validation.records import truth_of


class Watched(PooledLogisticRegression):
    """Records the windows that it is given."""

    shown: list[tuple[str, list[int]]]

    def fit(self, X: Any, y: Any, **others: Any) -> Watched:
        self.shown.append(("fit", X[:, 0, 1].astype(int).tolist()))
        super().fit(X, y, **others)
        return self

    def predict_proba(self, X: Any, valid_mask: Any = None) -> Any:
        self.shown.append(("predict", X[:, 0, 1].astype(int).tolist()))
        return super().predict_proba(X, valid_mask)


def test_no_selection_has_seen_its_scored_windows(tmp_path: Path) -> None:
    Watched.shown = shown = []
    ends: list[int] = []
    search(tmp_path / "sweep", estimator=Watched(), say=lambda _: ends.append(len(shown)))
    outer = purged_folds(make_windows(), FOLDS, seed=3)
    seen = []
    for number, (train, test) in enumerate(outer):
        first, last = (0, *ends)[number * 4], ends[number * 4 + 3]
        known = FittedOn(np.unique([w for _, windows in shown[first:last] for w in windows]))
        known.refuse(test, "the selection")
        assert known == FittedOn(train)
        seen.append(known)
    # The check can fail: these windows are seen elsewhere.
    with pytest.raises(LeakError, match="was fitted on windows that it is scored on"):
        seen[0].refuse(outer[1][1], "the selection")
    # What was chosen, and the estimator as it was, fitted to each training part and asked for its test windows.
    last = [(kind, sorted(windows)) for kind, windows in shown[ends[-1] :]]
    expected = [
        (kind, part.tolist()) for fold in outer for kind, part in zip(("fit", "predict"), fold, strict=True)
    ]
    assert last == expected * 2


class Guesser(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Guesses at random: the best of many is the luckiest."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, X: Any, y: Any, **_: Any) -> Guesser:
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X: Any, **_: Any) -> Any:
        # A guess depends only on the seed and the window.
        guesses = np.array([np.random.default_rng([self.seed, int(x[0, 1])]).random() for x in X])
        return np.stack([guesses, 1 - guesses], axis=1)


def test_nested_selection_shows_that_the_best_guesser_is_chance(tmp_path: Path) -> None:
    space = {
        "parameters": {"seed": {"low": 0, "high": 100_000}},
        "sampler": "random",
        "metric": "macro_f1",
        "prune": False,
    }
    result = search(tmp_path / "sweep", space=space, trials=40, estimator=Guesser())
    outer = result.evaluation.scores["macro_f1"]
    assert result.chosen.score > 0.6
    assert min(one.score for one in result.by_fold) > 0.6
    assert outer.low < 0.5 < outer.high
    assert (
        f"macro-F1 of settings chosen in this way, on windows that the choice has not seen: {outer}"
        in result.verdict
    )
    assert (
        f"the {result.chosen.score:.3f} that they were chosen by is the best of many, and so too good"
        in result.verdict
    )


def test_the_results_are_written_to_the_directory(tmp_path: Path) -> None:
    result = search(tmp_path / "sweep")
    record = json.loads((tmp_path / "sweep" / "result.json").read_text())
    assert record["settings"] == result.settings == [f"C={result.chosen.values['C']!r}"]
    assert len(record["by_fold"]) == FOLDS
    evaluation = json.loads((tmp_path / "sweep" / "evaluation.json").read_text())
    assert evaluation == result.evaluation.record()
    assert {"majority class", "pooled logistic regression", "without a sweep"} <= set(evaluation["baselines"])
    report = check_gates(tmp_path / "sweep")
    assert {c.gate: c.outcome for c in report.checks}["calibration error"] in ("passed", "failed")
    best = min(one[1] for one in tried(tmp_path / "sweep")[-1] if one[2] == TrialState.COMPLETE)
    assert result.chosen.score == best


def test_the_permutation_test_shuffles_the_chosen_candidate_of_each_fold(tmp_path: Path) -> None:
    windows = replace(make_windows(), groups=np.arange(60))
    result = search(tmp_path / "sweep", windows=windows, permutations=9)
    permutation = result.evaluation.permutation
    # A regression is shuffled by the same procedure that is scored.
    assert permutation["macro_f1"].value == result.evaluation.scores["macro_f1"].value
    assert len(permutation["macro_f1"].scores) == 9
    assert permutation["macro_f1"].p_value == 0.1
    note = result.evaluation.permutation_note
    assert note.endswith(
        "fits each fold's choice with 9 shuffles of the labels, without choosing again: 20 fits"
    )


def test_swept_networks_are_compared_with_scratch_and_shuffled_by_heads(
    tmp_path: Path,
) -> None:
    windows = replace(make_windows(24), groups=np.arange(24))
    tiny = ("model.architecture.hidden_size=2", "training.finetune.epochs=2", "augmentation=null")
    config = load_config("jade_compact", tiny)
    start = new_model(config.model, 2, seed=5).encoder
    estimator = JadeClassifier(encoder=start, settings=tiny, device="cpu", freeze="none")
    space = {"parameters": {"training.finetune.lr": {"choices": [1e-2, 3e-2]}}, "sampler": "grid"}
    given = {"windows": windows, "space": space, "estimator": estimator, "permutations": 2}
    result = search(tmp_path / "sweep", **given)
    found = result.evaluation
    assert "chosen from scratch" in found.differences
    (note,) = [
        one
        for one in [found.permutation_note]
        if one.startswith("the permutation test fits the heads alone of each fold's choice")
    ]
    assert "on the frozen encoder, with 2 shuffles of the labels, without choosing again: 6 fits" in note
    outer = purged_folds(windows, FOLDS, seed=3)
    truth = truth_of(windows)
    p = np.empty((len(windows), 2))
    for selection, (train, test) in zip(result.by_fold, outer, strict=True):
        heads = build_candidate(estimator, selection.values).set_params(freeze="always", augmentation=False)
        p[test], _ = fit_predict(heads, windows.X, truth, train, test, valid_mask=windows.valid_mask)
    alone = scores(truth, Predictions(p))["log_loss"]
    assert found.permutation["log_loss"].value == pytest.approx(alone)
    assert found.scores["log_loss"].value != pytest.approx(alone, rel=1e-6)

    lines = read_metrics(tmp_path / "sweep", "fold")
    assert [line["epochs"] for line in lines] == [2] * FOLDS
    parameters = sum(p.numel() for p in new_model(config.model, 2, seed=0).parameters())
    for line in lines:
        assert line["parameters_per_window"] == parameters / 24
        assert 0 < line["timing"]["slowest_epoch"] <= line["timing"]["seconds"]
    checks = {c.gate: c for c in check_gates(tmp_path / "sweep").checks}
    assert checks["parameters per window"].value == parameters / 24
    assert checks["epoch time, s"].value > 0
    assert checks["validation spread"].why == "no part had validation windows"
    plain = search(tmp_path / "sweep", **given | {"permutations": 0, "scratch": False}).evaluation
    assert not plain.permutation
    assert "chosen from scratch" not in plain.differences


def test_the_same_seed_tries_the_same_candidates_despite_stops(tmp_path: Path) -> None:
    # The first ten are drawn, the others are searched for.
    search(tmp_path / "one", trials=12)
    search(tmp_path / "two", trials=5)
    search(tmp_path / "two", trials=12)
    search(tmp_path / "other", trials=1, seed=4)
    one = tried(tmp_path / "one")
    assert one == tried(tmp_path / "two")
    assert all(mine[:1] != theirs for mine, theirs in zip(one, tried(tmp_path / "other"), strict=True))
    names = ("result.json", "evaluation.json")
    assert all((tmp_path / "one" / n).read_bytes() == (tmp_path / "two" / n).read_bytes() for n in names)


def test_a_grid_is_tried_completely_and_once(tmp_path: Path) -> None:
    choices = {"C": {"choices": [0.1, 1.0, 10.0]}, "class_weight": {"choices": ["balanced", None]}}
    space = {"parameters": choices, "sampler": "grid"}
    search(tmp_path / "sweep", space=space, trials=2)
    assert [len(study) for study in tried(tmp_path / "sweep")] == [2] * (FOLDS + 1)
    search(tmp_path / "sweep", space=space, trials=100)
    for study in tried(tmp_path / "sweep"):
        found = [(params["C"], params["class_weight"]) for params, _, _ in study]
        assert len(found) == 6
        assert set(found) == {(c, w) for c in (0.1, 1.0, 10.0) for w in ("balanced", None)}


def test_candidates_worse_than_the_median_are_dropped_and_never_chosen(tmp_path: Path) -> None:
    Watched.shown = []
    said: list[str] = []
    result = search(tmp_path / "sweep", trials=12, estimator=Watched(), say=said.append)
    states = [state for study in tried(tmp_path / "sweep") for _, _, state in study]
    given_up = states.count(TrialState.PRUNED)
    assert 0 < given_up < len(states) / 2
    assert sum("of 2 folds it was worse than the median" in line for line in said) == given_up
    assert sum(one.pruned for one in (*result.by_fold, result.chosen)) == given_up
    fits = sum(kind == "fit" for kind, _ in Watched.shown)
    assert fits == 2 * len(states) - given_up + 2 * FOLDS
    whole = search(tmp_path / "whole", trials=8, space=STRENGTH | {"prune": False})
    assert whole.chosen.pruned == 0


class Diverges(PooledLogisticRegression):
    def fit(self, X: Any, y: Any, **others: Any) -> Diverges:
        if self.C > 1:
            raise NotFiniteError(7, "gradient", [], 0, None)
        super().fit(X, y, **others)
        return self


def test_diverging_candidates_are_dropped(tmp_path: Path) -> None:
    choices = {"parameters": {"C": {"choices": [0.1, 1.0, 10.0]}}, "sampler": "grid"}
    said: list[str] = []
    result = search(tmp_path / "sweep", space=choices, estimator=Diverges(C=1.0), say=said.append)
    assert result.chosen.values["C"] <= 1
    assert (result.chosen.completed, result.chosen.pruned) == (2, 1)
    assert sum("given up, the gradient of step 7 is not finite" in line for line in said) == FOLDS + 1
    choices["parameters"]["C"]["choices"] = [10.0, 100.0]
    with pytest.raises(
        RunError, match=r"no candidate of fold 1 could be scored on all inner folds. Lower the lear"
    ):
        search(tmp_path / "none", space=choices, estimator=Diverges(C=1.0))
