"""Stacks: the meta-learner learns only from out-of-fold predictions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from validated import Memoriser, jade

from moola.errors import (
    ConfigError,
)
from moola.estimators import make_member
from moola.evaluation import Predictions, Truth
from moola.evaluation.leaks import FittedOn, assert_blind_to_test
from moola.labels import LabelledWindows
from moola.models import load_config
from moola.training.new_model import new_model
from moola.validation import (
    MetaLearner,
    OutOfFold,
    assess,
    cross_validate,
    purged_folds,
    stack,
)
from moola.validation.cross_validation import with_scratch
from moola.validation.permutation import (
    permutation_tests,
)
from moola.validation.records import relabelled, truth_of

# One process makes what is made once per process.
pytestmark = pytest.mark.xdist_group("validation")


def test_a_stack_ignores_a_memorising_member(windows: LabelledWindows) -> None:
    members = {"memory": Memoriser(), "regression": make_member("regression")}
    found = stack(windows, members, folds=4, inner_folds=3, seed=2)
    memory, stacked, alone = (found.predictions(name)[0] for name in ("memory", "stack", "regression"))
    assert memory.probabilities is not None
    assert stacked.probabilities is not None
    assert alone.probabilities is not None
    assert (memory.probabilities == 0.5).all()
    # A memorising member would get all the weight if it predicted within the fold.
    order = np.argsort(alone.probabilities[:, 1])
    assert np.corrcoef(stacked.probabilities[order, 1], np.arange(40))[0, 1] > 0.7


def test_a_stack_is_blind_to_its_test_windows(windows: LabelledWindows) -> None:
    members = {"trees": make_member("trees", trees=5), "regression": make_member("regression")}

    def fit_predict(X: np.ndarray, truth: Truth, train: np.ndarray, test: np.ndarray) -> Predictions:
        changed = replace(relabelled(windows, truth), X=X)
        splits = [[(train, test), (test, train)]]
        said = stack(changed, members, inner_folds=3, splits=splits).predictions("stack")[0]
        return said.take(test)

    numbers = np.arange(40)
    assert_blind_to_test(fit_predict, windows.X, truth_of(windows), numbers[:26], numbers[26:], seed=0)


def test_a_stack_with_an_encoder_is_compared_with_scratch(windows: LabelledWindows) -> None:
    encoder = new_model(
        load_config("jade_compact", ["model.architecture.hidden_size=8"]).model, 2, seed=9
    ).encoder
    members = {"jade": jade(encoder=encoder), "regression": make_member("regression")}
    splits = [purged_folds(windows, 2, seed=3)]
    found = stack(windows, members, splits=splits, inner_folds=2, seed=3)
    assert list(found.members) == ["stack", "jade", "regression", "jade from scratch"]
    alone = stack(windows, members, splits=splits, inner_folds=2, seed=3, scratch=False)
    p, without = (one.predictions("stack")[0].probabilities for one in (found, alone))
    assert np.array_equal(p, without)  # type: ignore[arg-type]
    twin = cross_validate(windows, {"jade": jade()}, splits=splits).predictions("jade")[0].probabilities
    assert np.array_equal(found.predictions("jade from scratch")[0].probabilities, twin)  # type: ignore[arg-type]
    assert "jade from scratch" in assess(found, "jade").differences
    # Shuffles refit the members, but not the model from scratch, which is separate.
    told: list[str] = []
    everyone, _ = with_scratch(members, None)
    permutation_tests(found, ["stack"], everyone, permutations=1, report=told.append)
    assert told == ["permutation test of stack: 1 shuffles of the labels, 24 fits"]


def test_a_meta_learner_refuses_wrong_arguments() -> None:
    folds, fitted = [0, 0, 1, 1], (FittedOn([2, 3]), FittedOn([0, 1]))
    y = np.array([0, 1, 0, 1])
    p = OutOfFold(Predictions(np.full((4, 2), 0.5), folds=folds), fitted)
    points = OutOfFold(Predictions(spans=[[0, 1]] * 4, folds=folds), fitted)
    with pytest.raises(
        ConfigError, match="members: two gives no probabilities, so it cannot be stacked; leave it out"
    ):
        MetaLearner().fit({"one": p, "two": points}, y)
    with pytest.raises(ConfigError, match="members: have predicted 4 windows, not 3; give the windows of y"):
        MetaLearner().fit({"one": p}, y[:3])
    with pytest.raises(
        ConfigError, match="members: lack one, which the stack was fitted on; give all of its members"
    ):
        MetaLearner().fit({"one": p}, y).predict_proba({})
