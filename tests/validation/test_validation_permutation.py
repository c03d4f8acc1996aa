"""Permutation tests of cross-validated models."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from validated import jade

from moola.errors import (
    ConfigError,
)
from moola.estimators import make_member
from moola.evaluation import Predictions, out_of_fold, scores
from moola.evaluation.permutation import permute_groups
from moola.labels import LabelledWindows
from moola.validation import (
    CrossValidation,
    assess,
    cross_validate,
    ensemble,
    stack,
)
from moola.validation.permutation import (
    DEAR_PERMUTATIONS,
    frozen,
    is_dear,
    permutation_test_of,
    permutation_tests,
)

# One process makes what is made once per process.
pytestmark = pytest.mark.xdist_group("validation")


def test_a_cheap_model_and_a_network_have_permutation_tests(found: CrossValidation) -> None:
    estimators = {"regression": make_member("regression"), "jade_compact": jade()}
    cheap = permutation_test_of(found, "regression", estimators, permutations=19, seed=1)
    own = assess(found, "regression", tested=cheap)
    assert cheap.permutation["macro_f1"].p_value == 1 / 20
    assert len(cheap.permutation["macro_f1"].scores) == 19
    assert re.fullmatch(
        r"the permutation test is of regression, as the mean over 2 repeats, cross-validated with 19 shuffles of the "
        r"labels: 200 fits in \d+ s",
        cheap.note,
    )
    assert cheap.note in own.sentences()
    # The number that p belongs to is the one next to it.
    assert cheap.permutation["macro_f1"].value == pytest.approx(own.scores["macro_f1"].value)
    assert own.columns[:5] == ["", "regression", "over 2 repeats", "permuted", "p"]

    dear = permutation_test_of(found, "jade_compact", estimators, permutations=2)
    assert re.fullmatch(
        r"the permutation test is of jade_compact with heads alone on frozen embeddings, as the mean over 2 repeats, "
        r"which is another model than the one scored here: it is compared with its own scores on shuffled labels "
        r"\(--whole trains networks whole, at a higher cost\). Cross-validated with 2 shuffles of the "
        r"labels: 30 fits in \d+ s",
        dear.note,
    )
    with pytest.raises(
        ConfigError, match="estimators: lacks regression; give the model that was cross-validated"
    ):
        permutation_test_of(found, "regression", {})


def test_trained_heads_are_compared_with_shuffled_heads(found: CrossValidation) -> None:
    estimators = {"jade_compact": jade()}
    tested = permutation_test_of(found, "jade_compact", estimators, permutations=3)
    windows, heads = found.windows, frozen(jade(), 2)
    own = [
        scores(
            found.truth,
            out_of_fold(
                clone(heads).set_params(seed=repeat),
                windows.X,
                found.truth,
                splits,
                valid_mask=windows.valid_mask,
            ),
        )
        for repeat, splits in enumerate(found.splits)
    ]
    permutation = tested.permutation["log_loss"]
    assert permutation.value == pytest.approx(np.mean([one["log_loss"] for one in own]))
    evaluation = assess(found, "jade_compact", tested=tested)
    assert permutation.value != pytest.approx(evaluation.scores["log_loss"].value)
    # The table, the sentences and the record all say this, with both numbers.
    column = evaluation.columns.index("with heads alone\non frozen\nembeddings")
    row = next(row for row in evaluation.rows() if row[0] == "log loss")
    assert row[column : column + 3] == [
        f"{permutation.value:.3f}",
        f"{permutation.shuffled_interval[0]:.3f} to {permutation.shuffled_interval[1]:.3f}",
        f"{permutation.p_value:.3f}",
    ]
    assert any(
        line.startswith("log loss, with heads alone on frozen embeddings: ") for line in evaluation.summary()
    )
    assert evaluation.record()["null"]["log_loss"]["of"] == "with heads alone on frozen embeddings"
    # Trained whole, it is the model.
    whole = permutation_test_of(found, "jade_compact", estimators, permutations=1, whole=True).permutation[
        "log_loss"
    ]
    assert whole.of == ""
    assert whole.value == pytest.approx(evaluation.scores["log_loss"].value)


def test_random_labels_are_not_better_than_chance(windows: LabelledWindows) -> None:
    order = np.random.default_rng(1).permutation(40)
    shuffled = replace(windows, y=windows.y[order], spans=windows.spans[order])
    estimators = {
        "jade_compact": make_member("jade_compact", hidden_size=8, epochs=8, lr=3e-3, seed=1, device="cpu")
    }
    found = cross_validate(shuffled, estimators, folds=2, seed=1)
    tested = permutation_test_of(found, "jade_compact", estimators, permutations=19, seed=1)
    # The whole network is better than heads only on all 19 shuffles, because it is another model.
    whole = _first(found, "jade_compact")
    assert any(
        replace(permutation, value=whole[name]).p_value == 1 / 20
        for name, permutation in tested.permutation.items()
    )
    for name in ("macro_f1", "balanced_accuracy", "log_loss", "span_iou"):
        assert tested.permutation[name].p_value > 0.05
        assert "not shown to be better than with shuffled labels" in str(tested.permutation[name])


def test_an_ensemble_has_its_own_permutation_test(found: CrossValidation) -> None:
    both = ensemble(found)
    estimators = {"regression": make_member("regression")}
    told: list[str] = []
    names = ["regression", "regression ensemble"]
    results = permutation_tests(both, names, estimators, permutations=4, report=told.append)
    assert told == [
        "permutation test of regression and regression ensemble: 4 shuffles of the labels, 50 fits"
    ]
    for name in names:
        evaluation = assess(both, name, tested=results[name])
        for metric in ("macro_f1", "log_loss"):
            permutation = results[name].permutation[metric]
            assert permutation.value == pytest.approx(evaluation.scores[metric].value)
            assert len(permutation.scores) == 4
    assert (
        results[names[0]].permutation["log_loss"].scores != results[names[1]].permutation["log_loss"].scores
    )
    # Of the mean, on the same shuffle, in any process.
    order = permute_groups(found.truth.groups, np.random.default_rng([0, 0]))
    truth = found.truth.relabelled(order)
    p = [
        out_of_fold(
            make_member("regression"), found.windows.X, truth, splits, valid_mask=found.windows.valid_mask
        ).probabilities
        for splits in found.splits
    ]
    mean = Predictions(np.mean(p, axis=0))  # type: ignore[arg-type]
    assert results[names[1]].permutation["log_loss"].scores[0] == pytest.approx(
        scores(truth, mean)["log_loss"]
    )


def _first(found: CrossValidation, name: str) -> dict[str, float]:
    return dict(scores(found.truth, found.predictions(name)[0]))


def test_a_stack_has_a_permutation_test(windows: LabelledWindows) -> None:
    members = {"trees": make_member("trees", trees=5), "regression": make_member("regression")}
    found = stack(windows, members, folds=2, inner_folds=2)
    tested = permutation_test_of(found, "stack", members, permutations=3)
    assert tested.permutation["macro_f1"].value == _first(found, "stack")["macro_f1"]
    assert "3 shuffles of the labels: 48 fits" in tested.note


def test_frozen_embeddings_come_from_the_given_encoder(windows: LabelledWindows) -> None:
    assert is_dear(jade())
    assert not is_dear(make_member("trees"))
    assert DEAR_PERMUTATIONS == 20
    drawn = frozen(jade(), 2)
    state = {name: tensor.clone() for name, tensor in drawn.encoder.state_dict().items()}
    drawn.fit(windows.X, windows.y)
    for name, tensor in drawn.model_.encoder.state_dict().items():
        assert torch.equal(tensor, state[name])
    own = jade(encoder=drawn.encoder)
    again = frozen(own, 2)
    assert all(torch.equal(t, state[name]) for name, t in again.encoder.state_dict().items())
    assert frozen(make_member("trees", trees=3), 2).trees == 3
