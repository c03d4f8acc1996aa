"""Ensembles of fine-tuned runs, and comparisons of runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from finetuned import QUIET
from scipy.special import softmax

import moola
from moola.errors import (
    ConfigError,
    LeakError,
    RunError,
    WeightsError,
)
from moola.evaluation.baselines import BASELINES
from moola.evaluation.calibration import TemperatureScaling
from moola.evaluation.leaks import FittedOn
from moola.gates import check_gates
from moola.labels import LabelledWindows
from moola.models.weights import load_weights, save_weights
from moola.prediction.ensembles import RunEnsemble, combine_runs
from moola.prediction.models import FinetunedModels
from moola.runs.out_of_fold import OutOfFoldRecord

pytestmark = pytest.mark.xdist_group("finetune_run")


def test_runs_together_average_probabilities_and_spans(run: Path, second: Path, market: Path) -> None:
    when = {"from_": "2020-06-10", "to": "2020-06-11"}
    both = moola.predict([run, second], market / "store", **when)
    each = [moola.predict(path, market / "store", **when) for path in (run, second)]
    for name in ("p_consolidation", "p_none", "p_retracement"):
        mean = np.mean([one[name].to_numpy() for one in each], axis=0)
        np.testing.assert_allclose(both[name].to_numpy(), mean, atol=1e-12)
    seen = np.logical_or(*(one["seen"].to_numpy() for one in each))
    assert np.array_equal(both["seen"].to_numpy(), seen)

    models = FinetunedModels.load([run, second])
    answers = np.zeros((1, 10), np.float32)
    answers[0, [0, 5]] = 9
    answers[0, [3, 4, 8, 9]] = [20, 30, 41, 36]
    _, spans = models.combine(answers)
    assert spans.tolist() == [[31, 33]]


def test_an_ensemble_can_be_copied_elsewhere_and_used(
    run: Path, second: Path, market: Path, together: RunEnsemble, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(together.path, elsewhere)
    when = {"from_": "2020-06-10", "to": "2020-06-11"}
    said = moola.predict(elsewhere, market / "store", **when)
    plain = moola.predict([run, second], market / "store", **when)
    names = ["p_consolidation", "p_none", "p_retracement"]
    mean, calibrated = (np.stack([one[name].to_numpy() for name in names], axis=1) for one in (plain, said))
    assert together.temperature is not None
    expected = softmax(np.log(mean) / together.temperature, axis=1)
    np.testing.assert_allclose(calibrated, expected, atol=1e-12)
    # The most likely class does not change, and neither do spans.
    assert said.select(["window_end", "start", "end", "seen"]).equals(
        plain.select(["window_end", "start", "end", "seen"])
    )
    # Combined with other runs, an ensemble counts as its members.
    assert moola.predict([elsewhere, run], market / "store", **when)["p_none"].equals(
        moola.predict([run, second, run], market / "store", **when)["p_none"]
    )


def test_an_ensemble_is_calibrated_on_windows_unseen_by_all_members(
    run: Path, second: Path, together: RunEnsemble, labels: LabelledWindows
) -> None:
    one, two = OutOfFoldRecord.load(run), OutOfFoldRecord.load(second)
    y, folds = labels.y, one.out_of_fold.folds
    assert not np.array_equal(folds, two.out_of_fold.folds)
    for kept in (one, two):
        assert np.array_equal(kept.truth.y, y)
        for fold, fitted in enumerate(kept.out_of_fold.fitted_on):
            assert not np.isin(np.flatnonzero(kept.out_of_fold.folds == fold), fitted.windows).any()

    def mean(rows: np.ndarray) -> np.ndarray:
        parts = [kept.out_of_fold.logits for kept in (one, two)]
        scaled = [TemperatureScaling().fit(z[rows], y[rows]).probabilities(z) for z in parts]
        return np.log(np.mean(scaled, axis=0))

    every = np.ones(len(y), bool)
    assert together.temperature == pytest.approx(TemperatureScaling().fit(mean(every), y).temperature)
    # Reported values use temperatures of other folds, also for the members.
    losses = np.empty(len(y))
    for fold in np.unique(folds):
        mine, rest = folds == fold, folds != fold
        scaling = TemperatureScaling().fit(mean(rest)[rest], y[rest])
        losses[mine] = -np.log(scaling.probabilities(mean(rest))[mine, y[mine]])
    assert together.evaluation is not None
    assert together.evaluation.scores["log_loss"].value == pytest.approx(losses.mean())
    assert list(together.evaluation.differences) == [*BASELINES, "1-run", "2-second"]
    unshuffled = "there is no permutation test: runs keep no windows to fit"
    assert sum(line.startswith(unshuffled) for line in together.evaluation.summary()) == 1
    assert not np.isnan(together.evaluation.scores["span_hits"].value)
    own = json.loads((run / "result.json").read_text())["evaluation"]["scores"]
    for name in ("log_loss", "macro_f1", "span_iou"):
        assert together.evaluation.baselines["1-run"][name].value == pytest.approx(own[name]["value"])
    result = json.loads((together.path / "result.json").read_text())
    assert result["temperature"] == together.temperature
    for name in ("1-run", "majority class", "pooled logistic regression"):
        assert any(line.startswith(f"against {name}: ") for line in result["report"])
    alone = json.loads((run / "result.json").read_text())["evaluation"]["baselines"]
    for name, metric in zip(BASELINES, ("log_loss", "macro_f1", "span_iou", "macro_f1"), strict=True):
        assert together.evaluation.baselines[name][metric].value == alone[name][metric]["value"]


def test_an_ensemble_of_runs_with_incompatible_folds_is_refused(
    run: Path, second: Path, market: Path, labels: LabelledWindows, tmp_path: Path
) -> None:
    shutil.copytree(second, tmp_path / "bare")
    (tmp_path / "bare" / "out_of_fold.safetensors").unlink()
    fewer = moola.finetune(
        market / "store", labels.take(np.arange(1, len(labels))), tmp_path / "fewer", **QUIET
    )
    for number, (other, why) in enumerate(
        [
            (tmp_path / "bare", "bare has no out-of-fold logits"),
            (fewer.run, "fewer was fine-tuned on other windows or labels than"),
        ]
    ):
        made = combine_runs([run, other], tmp_path / f"ensemble{number}")
        assert made.temperature is made.evaluation is None
        assert why in made.notes[0]
        when = {"from_": "2020-06-10", "to": "2020-06-11"}
        plain = moola.predict([run, other], market / "store", **when)
        assert moola.predict(made.path, market / "store", **when).equals(plain)


def test_out_of_fold_logits_are_checked_when_they_are_read(run: Path, tmp_path: Path) -> None:
    file = "out_of_fold.safetensors"
    weights = load_weights(run / file)
    knows = [FittedOn(np.arange(40)).record()] * 5
    save_weights(tmp_path / file, weights.tensors, weights.record | {"fitted_on": knows})
    with pytest.raises(LeakError, match="the model of fold 0 was fitted on windows that it is scored on"):
        OutOfFoldRecord.load(tmp_path)
    save_weights(tmp_path / file, weights.tensors, {"kind": "finetune"})
    with pytest.raises(WeightsError, match=r"does not hold the out-of-fold logits of a run. Fine-tune it"):
        OutOfFoldRecord.load(tmp_path)


def test_impossible_ensembles_are_refused(
    run: Path, second: Path, market: Path, together: RunEnsemble, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="runs: names 1, which leaves nothing to average; give two or more"):
        combine_runs([run], tmp_path / "x")
    with pytest.raises(RunError, match=r"holds the same weights as .*run. Give each run once"):
        combine_runs([run, second, together.path], tmp_path / "x")
    with pytest.raises(RunError, match=r"exists and is not empty. Choose another --output"):
        combine_runs([run, second], run)
    assert not (tmp_path / "x").exists()

    (tmp_path / "none").mkdir()
    remake = "Make it with moola ensemble RUN RUN … --output DIR"
    for record, message in (
        ({"members": []}, f"ensemble.json: names no members. {remake}"),
        ({"members": ["../run"]}, "names ../run, which lies outside its directory and would be missing"),
        ({"members": ["run"], "temperature": 0.0}, "its temperature 0.0 is not a positive number"),
    ):
        if not (tmp_path / "none" / "run").exists():
            shutil.copytree(run, tmp_path / "none" / "run")
        (tmp_path / "none" / "ensemble.json").write_text(json.dumps(record))
        with pytest.raises(RunError) as caught:
            moola.predict(tmp_path / "none", market / "store")
        assert message in str(caught.value)


def test_a_fine_tuned_run_is_compared_with_itself_and_others(
    run: Path, second: Path, together: RunEnsemble, market: Path
) -> None:
    checks = {c.gate: c for c in check_gates(run, against=run).checks}
    loss = checks["no worse validation loss"]
    assert loss.outcome == "passed"
    assert loss.value == json.loads((run / "result.json").read_text())["validation_loss"]["value"]
    assert checks["no worse macro-F1"].outcome == "passed"
    assert checks["epoch time, s"].why == "the slowest of all"
    # Another seed has chosen its epoch on other windows.
    other = {c.gate: c for c in check_gates(second, against=run).checks}["no worse validation loss"]
    assert (other.outcome, other.why) == (
        "skipped",
        "the validation loss of the runs is of different windows",
    )
    worse = market / "worse"
    shutil.copytree(run, worse)
    result = json.loads((worse / "result.json").read_text())
    result["validation_loss"]["value"] = result["validation_loss"]["high"] * 1.01
    (worse / "result.json").write_text(json.dumps(result))
    found = {c.gate: c for c in check_gates(worse, against=run).checks}["no worse validation loss"]
    assert found.outcome == "failed"

    of_both = {c.gate: c for c in check_gates(together.path).checks}
    one = {c.gate: c for c in check_gates(run).checks}
    assert of_both["parameters per window"].value == 2 * one["parameters per window"].value
    assert of_both["validation spread"].value >= one["validation spread"].value
    assert of_both["epoch time, s"].value > 0


def test_incompatible_runs_are_refused(
    run: Path, market: Path, labels: LabelledWindows, tmp_path: Path
) -> None:
    two = LabelledWindows.load(market / "surges.safetensors")
    other = moola.finetune(market / "store", two, tmp_path / "two", **QUIET)
    with pytest.raises(
        RunError, match=r"two: its classes: \['consolidation', 'retracement'\], and those of .*run"
    ):
        moola.predict([run, other.run], market / "store")
    with pytest.raises(RunError, match="two: its classes"):
        combine_runs([run, other.run], tmp_path / "ensemble")
    assert not (tmp_path / "ensemble").exists()
    with pytest.raises(ConfigError, match="run: is empty; give the directory of a fine-tuned run"):
        moola.predict([], market / "store")
