"""Sweeps: what is chosen has not been chosen on what it is scored on, and no worker that dies takes a trial along."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import TrialState
from sklearn.base import BaseEstimator, ClassifierMixin
from typer.testing import CliRunner

from moola.cli import app
from moola.errors import ConfigError, LeakError, NotFiniteError, RunError
from moola.estimators.jade import JadeClassifier
from moola.evaluation.baselines import PooledLogisticRegression
from moola.evaluation.fold_predictions import fit_predict
from moola.evaluation.leaks import FittedOn
from moola.evaluation.metrics import scores
from moola.evaluation.outcomes import Predictions
from moola.folds.dealing import purged_folds
from moola.gates import check_gates
from moola.labels import LabelledWindows
from moola.runs.directory import read_metrics
from moola.settings.models import load_config
from moola.sweep import SweepResult, read_space, sweep
from moola.sweep.space import build_candidate
from moola.sweep.trials import WORKERS, Studies, Worker
from moola.training.new_model import new_model
from moola.validation.records import truth_of

GRID = Path(str(resources.files("moola") / "settings" / "configs" / "sweep" / "grid.yaml"))
STRENGTH: dict[str, Any] = {"parameters": {"C": {"low": 1e-4, "high": 1e4, "log": True}}}
FOLDS = 2


def make_windows(n: int = 60, length: int = 12) -> LabelledWindows:
    """Windows of which half hide a bump, two and two in a group. Feature 1 of bar 0 is the window's number."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    x = rng.normal(size=(n, length, 2)).astype(np.float32)
    x[y == 1, 3:9, 0] += 1
    x[:, 0, 1] = np.arange(n)
    starts = np.arange(n) * length
    return LabelledWindows(
        X=x,
        valid_mask=np.ones((n, length), np.bool_),
        y=y,
        classes=("bump", "none"),
        spans=np.where(y[:, None] == 1, [[3, 8]], -1),
        weight=np.ones(n),
        symbols=np.full(n, ""),
        starts=starts,
        ends=starts + length - 1,
        times=None,
        groups=np.arange(n) // 2,
        splits=None,
        feature_names=("a", "b"),
        feature_set="ohlc4",
        parameters={},
        window_length=length,
        store_id="",
    )


def search(output: Path, **options: Any) -> SweepResult:
    """A short sweep of a regression."""
    given = {
        "space": STRENGTH,
        "trials": 4,
        "estimator": PooledLogisticRegression(),
        "folds": FOLDS,
        "seed": 3,
    }
    given |= {"windows": make_windows(), "inner_folds": 2, "permutations": 0, "say": lambda _: None} | options
    windows, space = given.pop("windows"), given.pop("space")
    return sweep(windows, space, output, **given)


def studies_of(output: Path) -> list[optuna.Study]:
    storage = JournalStorage(JournalFileBackend(str(output / "journal.log")))
    names = [*(f"fold {number + 1}" for number in range(FOLDS)), "all windows"]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return [optuna.load_study(study_name=name, storage=storage) for name in names]


def tried(output: Path) -> list[list[tuple[Any, ...]]]:
    """What was tried and what came of it, by study; without what was lost."""
    return [
        [(t.params, t.value, t.state) for t in study.get_trials() if t.state != TrialState.FAIL]
        for study in studies_of(output)
    ]


# ---- spaces ------------------------------------------------------------------------------------------------------


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


def test_the_grid_that_ships_is_of_learning_rate_width_and_dropout() -> None:
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
            "metric: 'accuracy' is none; give one of macro_f1, balanced_accuracy",
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


def test_a_space_that_ships_goes_by_its_name_where_no_file_has_it(
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
        ("D", [1], PooledLogisticRegression(), "is no parameter of PooledLogisticRegression, which has C"),
        (
            "training.finetune.lr",
            [1],
            PooledLogisticRegression(),
            "is no parameter of PooledLogisticRegression",
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
            "does nothing beside lr=0.0001; leave one of them out",
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


def test_a_metric_needs_what_it_scores(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="metric: span_iou scores what PooledLogisticRegression"):
        search(tmp_path / "sweep", space=STRENGTH | {"metric": "span_iou"})


# ---- nested ------------------------------------------------------------------------------------------------------


class Watched(PooledLogisticRegression):
    """Notes which windows it is shown."""

    shown: list[tuple[str, list[int]]]

    def fit(self, X: Any, y: Any, **others: Any) -> Watched:
        self.shown.append(("fit", X[:, 0, 1].astype(int).tolist()))
        super().fit(X, y, **others)
        return self

    def predict_proba(self, X: Any, valid_mask: Any = None) -> Any:
        self.shown.append(("predict", X[:, 0, 1].astype(int).tolist()))
        return super().predict_proba(X, valid_mask)


def test_no_selection_has_seen_what_it_is_scored_on(tmp_path: Path) -> None:
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
    # The check can fail: it is not that nobody sees these windows.
    with pytest.raises(LeakError, match="was fitted on windows that it is scored on"):
        seen[0].refuse(outer[1][1], "the selection")
    # What was chosen, and the estimator as it was, fitted to each training part and asked for its test windows.
    last = [(kind, sorted(windows)) for kind, windows in shown[ends[-1] :]]
    expected = [
        (kind, part.tolist()) for fold in outer for kind, part in zip(("fit", "predict"), fold, strict=True)
    ]
    assert last == expected * 2


class PermutationResult(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Says what chance says: what is best among many is the luckiest."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, X: Any, y: Any, **_: Any) -> PermutationResult:
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X: Any, **_: Any) -> Any:
        # The same of a window whoever else is asked.
        shuffled_interval = np.array([np.random.default_rng([self.seed, int(x[0, 1])]).random() for x in X])
        return np.stack([shuffled_interval, 1 - shuffled_interval], axis=1)


def test_the_best_of_many_lucky_ones_is_shown_to_be_luck(tmp_path: Path) -> None:
    space = {
        "parameters": {"seed": {"low": 0, "high": 100_000}},
        "sampler": "random",
        "metric": "macro_f1",
        "prune": False,
    }
    result = search(tmp_path / "sweep", space=space, trials=40, estimator=PermutationResult())
    outer = result.evaluation.scores["macro_f1"]
    assert result.chosen.score > 0.6
    assert min(one.score for one in result.by_fold) > 0.6
    assert outer.low < 0.5 < outer.high
    assert (
        f"macro-F1 of settings that are chosen so, on windows that the choice has not seen: {outer}"
        in result.verdict
    )
    assert f"the {result.chosen.score:.3f} that they were chosen by says nothing of that" in result.verdict


def test_what_comes_of_it_stands_in_the_directory(tmp_path: Path) -> None:
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


def test_chance_is_of_what_was_chosen_in_each_fold(tmp_path: Path) -> None:
    windows = replace(make_windows(), groups=np.arange(60))
    result = search(tmp_path / "sweep", windows=windows, permutations=9)
    permutation = result.evaluation.permutation
    # A regression is shuffled for as it is scored.
    assert permutation["macro_f1"].value == result.evaluation.scores["macro_f1"].value
    assert len(permutation["macro_f1"].scores) == 9
    assert permutation["macro_f1"].p_value == 0.1
    note = result.evaluation.permutation_note
    assert note.endswith("gives with 9 shuffles of the labels, without choosing anew: 20 fits")


def test_networks_are_swept_beside_themselves_from_scratch_and_shuffled_by_their_heads(
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
        if one.startswith("chance is what heads alone of each fold's choice")
    ]
    assert "on the encoder as it is, with 2 shuffles of the labels, without choosing anew: 6 fits" in note
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
    assert checks["validation spread"].why == "no part had windows to validate on"
    plain = search(tmp_path / "sweep", **given | {"permutations": 0, "scratch": False}).evaluation
    assert not plain.permutation
    assert "chosen from scratch" not in plain.differences


# ---- candidates --------------------------------------------------------------------------------------------------


def test_the_same_seed_tries_the_same_candidates_however_often_it_is_stopped(tmp_path: Path) -> None:
    # The first ten are drawn, the others looked for.
    search(tmp_path / "one", trials=12)
    search(tmp_path / "two", trials=5)
    search(tmp_path / "two", trials=12)
    search(tmp_path / "other", trials=1, seed=4)
    one = tried(tmp_path / "one")
    assert one == tried(tmp_path / "two")
    assert all(mine[:1] != theirs for mine, theirs in zip(one, tried(tmp_path / "other"), strict=True))
    names = ("result.json", "evaluation.json")
    assert all((tmp_path / "one" / n).read_bytes() == (tmp_path / "two" / n).read_bytes() for n in names)


def test_a_grid_is_tried_one_and_all_and_once(tmp_path: Path) -> None:
    choices = {"C": {"choices": [0.1, 1.0, 10.0]}, "class_weight": {"choices": ["balanced", None]}}
    space = {"parameters": choices, "sampler": "grid"}
    search(tmp_path / "sweep", space=space, trials=2)
    assert [len(study) for study in tried(tmp_path / "sweep")] == [2] * (FOLDS + 1)
    search(tmp_path / "sweep", space=space, trials=100)
    for study in tried(tmp_path / "sweep"):
        found = [(params["C"], params["class_weight"]) for params, _, _ in study]
        assert len(found) == 6
        assert set(found) == {(c, w) for c in (0.1, 1.0, 10.0) for w in ("balanced", None)}


def test_candidates_worse_than_the_median_are_given_up_and_never_chosen(tmp_path: Path) -> None:
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


def test_candidates_that_diverge_are_given_up(tmp_path: Path) -> None:
    choices = {"parameters": {"C": {"choices": [0.1, 1.0, 10.0]}}, "sampler": "grid"}
    said: list[str] = []
    result = search(tmp_path / "sweep", space=choices, estimator=Diverges(C=1.0), say=said.append)
    assert result.chosen.values["C"] <= 1
    assert (result.chosen.completed, result.chosen.pruned) == (2, 1)
    assert sum("given up, the gradient of step 7 is not finite" in line for line in said) == FOLDS + 1
    choices["parameters"]["C"]["choices"] = [10.0, 100.0]
    with pytest.raises(
        RunError, match=r"none of the candidates of fold 1 could be trained to the end. Lower the lear"
    ):
        search(tmp_path / "none", space=choices, estimator=Diverges(C=1.0))


# ---- directories -------------------------------------------------------------------------------------------------


def test_other_sweeps_and_other_things_are_left_alone(tmp_path: Path) -> None:
    search(tmp_path / "sweep", trials=1)
    with pytest.raises(
        RunError, match=r"the sweep was begun with seed 3, not 4. Go on with what it was begun with"
    ):
        search(tmp_path / "sweep", trials=1, seed=4)
    with pytest.raises(RunError, match=r"begun with estimator.C '1.0', not '2.0'; windows '\w+', not '\w+'"):
        search(
            tmp_path / "sweep", trials=1, estimator=PooledLogisticRegression(2.0), windows=make_windows(64)
        )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(RunError, match=r"is no sweep: it holds notes.txt. Choose another --output"):
        search(tmp_path / "mine")
    assert os.listdir(tmp_path / "mine") == ["notes.txt"]
    with pytest.raises(RunError, match="is not a directory"):
        search(tmp_path / "mine" / "notes.txt")


# ---- workers -----------------------------------------------------------------------------------------------------


class Interrupted(PooledLogisticRegression):
    fits: int

    def fit(self, X: Any, y: Any, **others: Any) -> Interrupted:
        Interrupted.fits += 1
        if Interrupted.fits == 6:
            raise KeyboardInterrupt
        super().fit(X, y, **others)
        return self


def test_after_an_interruption_the_same_candidate_is_tried_first(tmp_path: Path) -> None:
    Interrupted.fits = 0
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "sweep", estimator=Interrupted())
    assert not list((tmp_path / "sweep" / WORKERS).iterdir())
    study = studies_of(tmp_path / "sweep")[0]
    assert [t.state.name for t in study.trials] == ["COMPLETE", "COMPLETE", "FAIL", "WAITING"]
    search(tmp_path / "sweep", estimator=Interrupted())
    after = study.get_trials()
    assert after[3].params == after[2].params
    assert [len(s) for s in tried(tmp_path / "sweep")] == [4] * (FOLDS + 1)


def worker(directory: Path, name: str) -> Studies:
    alive = Worker(directory, stale_after=5.0)
    (directory / WORKERS).mkdir(exist_ok=True)
    alive._touch()
    return Studies(directory, [name], read_space(STRENGTH), 3, 0, alive)


def test_who_is_taken_for_dead_and_lives_changes_nothing(tmp_path: Path) -> None:
    slow, quick = worker(tmp_path, "a"), worker(tmp_path, "a")
    lost = slow.claim()
    assert lost is not None
    assert quick.claim().values != lost.values  # type: ignore[union-attr]
    old = time.time() - 6
    os.utime(tmp_path / WORKERS / slow._worker.name, (old, old))
    again = quick.claim()
    assert again is not None
    assert again.values == lost.values
    slow.tell(lost, 0.1)
    slow.give_up(lost, "worse")
    slow.give_back(lost)
    quick.tell(again, 0.2)
    assert [t.value for t in quick._studies[0].get_trials(states=(TrialState.COMPLETE,))] == [0.2]
    assert len(quick._studies[0].trials) == 3


def test_a_candidate_that_kills_four_workers_is_given_up(tmp_path: Path) -> None:
    for _ in range(4):
        doomed = worker(tmp_path, "a")
        claim = doomed.claim()
        assert claim is not None
        (tmp_path / WORKERS / doomed._worker.name).unlink()
    survivor = worker(tmp_path, "a")
    other = survivor.claim()
    assert other is not None
    assert other.values != claim.values
    states = [trial.state.name for trial in survivor._studies[0].trials]
    assert states == ["FAIL", "FAIL", "FAIL", "PRUNED", "RUNNING"]


def test_half_a_line_at_the_end_of_the_journal_is_cut_off(tmp_path: Path) -> None:
    first = worker(tmp_path, "a")
    claim = first.claim()
    assert claim is not None
    first.tell(claim, 0.5)
    journal = tmp_path / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":8,"worker_')
    again = worker(tmp_path, "a")
    assert journal.read_bytes().startswith(whole)
    claim = again.claim()
    assert claim is not None
    again.tell(claim, 0.4)
    assert [trial.value for trial in again._studies[0].get_trials(states=(TrialState.COMPLETE,))] == [
        0.5,
        0.4,
    ]
    for line in journal.read_bytes().splitlines():
        json.loads(line)


def test_a_line_that_another_worker_is_writing_is_left_whole(tmp_path: Path) -> None:
    other = worker(tmp_path, "a")
    other._studies[0].set_user_attr("said", "whole")
    journal = tmp_path / "journal.log"
    *before, line = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(before) + line[:20])
    lock = JournalFileSymlinkLock(str(journal))
    lock.acquire()

    def end() -> None:
        with journal.open("ab") as file:
            file.write(line[20:])
        lock.release()

    timer = threading.Timer(0.3, end)
    timer.start()
    assert worker(tmp_path, "a")._studies[0].user_attrs == {"said": "whole"}
    timer.join()


@pytest.mark.parametrize(
    "line", [b'{"op_code":8,"worker_', b"\0" * 40, b"\xff"], ids=["half", "zeros", "bytes"]
)
def test_a_journal_that_is_damaged_elsewhere_is_an_error(tmp_path: Path, line: bytes) -> None:
    worker(tmp_path, "a").claim()
    journal = tmp_path / "journal.log"
    lines = journal.read_bytes().splitlines()
    lines[1] = line
    journal.write_bytes(b"\n".join([*lines, b""]))
    with pytest.raises(
        RunError,
        match=r"journal\.log: is damaged in line 2: .*\. Restore it from a copy, or begin anew in another directory",
    ):
        worker(tmp_path, "a")


SCRIPT = """
import os, sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_sweep import PooledLogisticRegression, search

class Slow(PooledLogisticRegression):
    def fit(self, *given, **others):
        if Path({stuck!r}).exists():
            time.sleep(600)
        time.sleep(0.02)
        return super().fit(*given, **others)

Slow.__name__ = "PooledLogisticRegression"
print("ready", flush=True)
sys.stdin.readline()
search(Path({output!r}), trials=6, estimator=Slow(), stale_after=5.0, say=lambda line: print(line, flush=True))
"""


def start(tmp_path: Path) -> subprocess.Popen[str]:
    here = str(Path(__file__).parent)
    script = SCRIPT.format(tests=here, stuck=str(tmp_path / "stuck"), output=str(tmp_path / "sweep"))
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_worker_is_killed_and_the_others_and_a_later_start_go_on(tmp_path: Path) -> None:
    killed, other = start(tmp_path), start(tmp_path)
    (tmp_path / "stuck").touch()
    go_on(killed)
    running: list[Any] = []
    deadline = time.monotonic() + 60
    while not running and time.monotonic() < deadline:
        time.sleep(0.05)
        if (tmp_path / "sweep" / WORKERS).exists():
            with contextlib.suppress(KeyError):
                running = studies_of(tmp_path / "sweep")[0].get_trials(states=(TrialState.RUNNING,))
            running = [trial for trial in running if trial.params]
    # In the midst of a candidate.
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    (tmp_path / "stuck").unlink()
    go_on(other)
    said: list[str] = []
    slow = {"estimator": PooledLogisticRegression(), "stale_after": 5.0, "trials": 6}
    result = search(tmp_path / "sweep", say=said.append, **slow)
    output, _ = other.communicate(timeout=120)
    assert other.returncode == 0
    # Nobody has done what another did, and nothing is missing.
    assert len(said) + output.count("trial") == 6 * (FOLDS + 1)
    assert [len(study) for study in tried(tmp_path / "sweep")] == [6] * (FOLDS + 1)
    studies = studies_of(tmp_path / "sweep")
    lost, *more = studies[0].get_trials(states=(TrialState.FAIL,))
    assert not more
    assert lost.number == running[0].number
    assert lost.params in [params for params, _, _ in tried(tmp_path / "sweep")[0]]
    left = (TrialState.RUNNING, TrialState.WAITING)
    assert not any(study.get_trials(states=left) for study in studies)
    # All are given the same, and so is who comes later.
    later = search(tmp_path / "sweep", say=said.append, **slow)
    assert later.record() == result.record()
    assert later.evaluation.record() == json.loads((tmp_path / "sweep" / "evaluation.json").read_text())
    assert len(said) + output.count("trial") == 6 * (FOLDS + 1)
    for pipe in (killed.stdin, killed.stdout):
        assert pipe is not None
        pipe.close()


# ---- the command -------------------------------------------------------------------------------------------------


def test_the_command_sweeps_jade_over_labels(tmp_path: Path) -> None:
    make_windows(24).save(tmp_path / "labels.safetensors")
    (tmp_path / "space.yaml").write_text(
        "sampler: grid\nparameters:\n  training.finetune.lr: {choices: [0.001, 0.01]}\n"
    )
    words = [
        "sweep",
        "--labels",
        tmp_path / "labels.safetensors",
        "--space",
        tmp_path / "space.yaml",
        "--trials",
        9,
    ]
    words += ["--output", tmp_path / "sweep", "--folds", 2, "--inner-folds", 2, "--device", "cpu"]
    words += ["--set", "model.architecture.hidden_size=2", "--set", "training.finetune.epochs=1"]
    words += ["--set", "augmentation=null", "--permutations", 1]
    shown = CliRunner().invoke(app, [str(word) for word in words])
    assert shown.exit_code == 0, shown.output
    assert re.search(r"fold 1, trial 1, {'training.finetune.lr': 0.01?0?1?}: log loss 0\.\d{4}", shown.stderr)
    assert re.search(r"within +training.finetune.lr +inner log_loss +tried +pruned", shown.stdout)
    assert re.search(r"all windows +0\.0\d+ +0\.\d{4} +2 +0", shown.stdout)
    assert re.search(r"against without a sweep: .*no difference shown in", shown.stdout)
    assert len(re.findall(r"^against ", shown.stdout, re.MULTILINE)) == 5
    # Two and two in a group, one of each class.
    assert (
        "there is no chance to compare with: groups of windows of one size hold all the same" in shown.stdout
    )
    assert re.search(r"chosen: training.finetune.lr=0.0\d+\n$", shown.stdout)
    again = CliRunner().invoke(app, [*(str(word) for word in words), "--json"])
    record = json.loads(again.stdout)
    assert record["chosen"]["completed"] == 2
    assert record["evaluation"]["scores"]["macro_f1"]["value"] is not None
    refused = CliRunner().invoke(app, [*(str(word) for word in words), "--seed", "3"])
    assert refused.exit_code == 1
    assert "the sweep was begun with estimator.seed '17', not '3'; seed 17, not 3" in refused.stderr
