"""The report of a fine-tuned run: out-of-fold logits, their temperature, and the permutation test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from finetuned import CPU, TINY, blocks_of, examples, recipe
from scipy.special import softmax

import moola
from moola.errors import (
    LeakError,
)
from moola.evaluation.calibration import TemperatureScaling
from moola.evaluation.leaks import FittedOn, assert_blind_to_test
from moola.evaluation.metrics import METRICS
from moola.evaluation.metrics import scores as scores_of
from moola.evaluation.outcomes import Predictions, Truth
from moola.finetuning.permutation import heads_on_shuffled_labels
from moola.folds.dealing import purged_folds
from moola.labels import LabelledWindows
from moola.models.loading import load_model
from moola.runs.directory import read_metrics
from moola.runs.out_of_fold import FoldLogits
from moola.settings.models import load_config
from moola.training.recipe import Recipe, fold_logits, without_fold

pytestmark = pytest.mark.xdist_group("finetune_run")


def test_logits_of_a_window_do_not_depend_on_its_fold(
    labels: LabelledWindows, store: moola.FeatureStore
) -> None:
    """Neither labels nor bars of a fold affect the predictions for its windows."""
    given = examples(labels)
    blocks = blocks_of(labels, store)
    train, test = purged_folds(labels, 5, seed=17, store=store)[0]
    truth = Truth(labels.y, spans=labels.spans, groups=blocks)

    def fit_predict(X: np.ndarray, known: Truth, fitted: np.ndarray, tested: np.ndarray) -> Predictions:
        assert known.spans is not None
        now = given._replace(X=X, y=known.y, spans=known.spans)
        outcome = without_fold(recipe(), now, blocks, fitted, tested)
        return Predictions(softmax(outcome.logits, axis=1), outcome.places)

    assert_blind_to_test(fit_predict, given.X, truth, train, test, seed=1)


def test_the_temperature_is_fitted_to_out_of_fold_logits(
    run: Path, labels: LabelledWindows, store: moola.FeatureStore
) -> None:
    given, blocks = examples(labels), blocks_of(labels, store)
    parts = purged_folds(labels, 5, seed=17, store=store)
    mine = recipe()
    how = mine.config.training.finetune.model_copy(update={"epochs": 3})
    training = mine.config.training.model_copy(update={"finetune": how})
    mine = mine._replace(config=mine.config.model_copy(update={"training": training}))
    logits = np.empty((len(labels), 3))
    for train, test in parts:
        logits[test] = without_fold(mine, given, blocks, train, test).logits
    expected = TemperatureScaling().fit(logits, labels.y).temperature
    origin = load_model(run).origin
    assert origin is not None
    assert origin.more["temperature"] == expected


def test_logits_of_a_model_trained_on_the_window_are_refused() -> None:
    rng = np.random.default_rng(2)
    logits, y = rng.normal(size=(20, 2)), rng.integers(0, 2, 20)
    folds = np.arange(20) % 2
    apart = [FittedOn(folds == 1), FittedOn(folds == 0)]
    assert FoldLogits(logits, folds, apart).temperature(y) > 0
    mixed = [FittedOn((folds == 1) | (np.arange(20) == 4)), apart[1]]
    with pytest.raises(LeakError, match=r"the model of fold 0 was fitted on windows .*: 1 window, 4"):
        FoldLogits(logits, folds, mixed).temperature(y)


def test_reported_probabilities_are_calibrated_by_other_folds() -> None:
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 60)
    logits = 9 * (np.eye(2)[y] + rng.normal(size=(60, 2)))
    folds = np.arange(60) % 3
    held_out = FoldLogits(logits, folds, [FittedOn(folds != fold) for fold in range(3)])
    before = held_out.probabilities(y)
    changed = np.where(folds == 1, 1 - y, y)
    after = held_out.probabilities(changed)
    assert np.array_equal(before[folds == 1], after[folds == 1])
    assert not np.allclose(before[folds != 1], after[folds != 1])


def test_the_permutation_test_compares_heads_with_shuffled_heads(
    run: Path, labels: LabelledWindows, store: moola.FeatureStore
) -> None:
    result = json.loads((run / "result.json").read_text())
    permutation = result["evaluation"]["null"]
    assert set(permutation) == set(METRICS)
    assert all(len(found["scores"]) == 2 for found in permutation.values())
    config = load_config(TINY, ["model.architecture.num_classes=3"])
    heads = Recipe(config, None, CPU, 17, 0.2, 0).heads_alone()
    given, blocks = examples(labels), blocks_of(labels, store)
    parts = purged_folds(labels, 5, seed=17, store=store)
    found, places = fold_logits(parts, [without_fold(heads, given, blocks, *part) for part in parts])
    truth = Truth(labels.y, spans=labels.spans, groups=blocks)
    said = found.predictions(labels.y, places, np.array([True, False, True]))
    alone = scores_of(truth, said)
    for name, value in alone.items():
        assert permutation[name]["value"] == pytest.approx(value)
    # The whole model has learned more than its heads.
    assert result["evaluation"]["scores"]["log_loss"]["value"] != pytest.approx(alone["log_loss"], rel=1e-6)
    told = f"p is of the heads alone, which score macro-F1 {alone['macro_f1']:.3f}"
    (line,) = [line for line in result["report"] if line.startswith("the permutation test fits")]
    assert "on a frozen encoder of random weights, with 2 shuffles of the labels: 15 fits" in line
    assert told in line
    (cost,) = read_metrics(run, "chance")
    assert (cost["permutations"], cost["fits"]) == (2, 15)
    assert cost["timing"]["seconds"] > 0


def test_groups_that_cannot_exchange_labels_have_no_permutation_test(labels: LabelledWindows) -> None:
    groups = np.repeat(np.arange(3), [10, 20, len(labels) - 30])
    truth = Truth(labels.y, spans=labels.spans, groups=groups)
    permutation, note = heads_on_shuffled_labels(
        recipe(), examples(labels), truth, [], np.array([True]), permutations=2, n_jobs=None
    )
    assert permutation == {}
    assert note.startswith(
        "the permutation test was left out: groups of windows are 3, and no two have the same size"
    )
