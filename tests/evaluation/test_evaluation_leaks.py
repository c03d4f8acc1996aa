"""Planted leaks are each caught by a check, and out-of-fold predictions are truly out of fold."""

from __future__ import annotations

import json
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from moola.errors import ConfigError, LeakError, SharedBarsError
from moola.evaluation import Predictions, Truth, out_of_fold, scores
from moola.evaluation.baselines import (
    MajorityClass,
    MeanSpan,
    PooledLogisticRegression,
    StratifiedGuess,
    pool_features,
)
from moola.evaluation.leaks import (
    FittedOn,
    MemorisingProbe,
    assert_blind_to_test,
    assert_nothing_remembered,
    assert_out_of_fold,
)
from moola.folds.purged import PurgedKFold
from moola.folds.shared_bars import assert_no_shared_bars

N, K, D = 60, 20, 3


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def windows(rng):
    """Windows that follow each other without a gap, and labels that do not depend on them."""
    return rng.normal(size=(N, K, D)).astype(np.float32)


@pytest.fixture
def truth(rng):
    spans = np.sort(rng.integers(0, K, size=(N, 2)), axis=1)
    return Truth(rng.permutation(np.arange(N) % 2), spans=spans, groups=np.arange(N) // 2)


@pytest.fixture
def folds(truth):
    return list(StratifiedGroupKFold(5, shuffle=True, random_state=0).split(truth.y, truth.y, truth.groups))


# ---- out of fold -------------------------------------------------------------------------------------------------


class Memory(ClassifierMixin, BaseEstimator):
    """Memorises its training windows, and reports any other window as unseen."""

    def fit(self, X, y, spans=None, valid_mask=None):
        self.classes_ = np.unique(y)
        self.known = {x.tobytes(): label for x, label in zip(X, y, strict=True)}
        self.spans = {x.tobytes(): span for x, span in zip(X, spans, strict=True)}
        return self

    def predict_proba(self, X, valid_mask=None):
        flat = np.full((len(X), len(self.classes_)), 1 / len(self.classes_))
        for row, x in zip(flat, X, strict=True):
            if x.tobytes() in self.known:
                row[:] = self.classes_ == self.known[x.tobytes()]
        return flat

    def predict_spans(self, X, valid_mask=None):
        return np.array([self.spans.get(x.tobytes(), [-1, -1]) for x in X])


def test_out_of_fold_predictions_come_from_other_folds(windows, truth, folds):
    said = out_of_fold(Memory(), windows, truth, folds)
    assert (said.probabilities == 0.5).all()
    assert (said.spans == -1).all()
    # The same model recognises everything that it was fitted on.
    fitted = Memory().fit(windows, truth.classes[truth.y], spans=truth.spans)
    assert scores(truth, Predictions(fitted.predict_proba(windows)))["balanced_accuracy"] == 1


def test_folds_equal_those_of_scikit_learn(windows, truth, folds):
    said = out_of_fold(PooledLogisticRegression(), windows, truth, folds)
    for fold, (train, test) in enumerate(folds):
        model = PooledLogisticRegression().fit(windows[train], truth.y[train])
        assert np.allclose(said.probabilities[test], model.predict_proba(windows[test]))
        assert (said.folds[test] == fold).all()
    assert said.spans is None


def test_any_scikit_learn_style_estimator_is_accepted(windows, truth, folds):
    model = make_pipeline(StandardScaler(), LogisticRegression())
    said = out_of_fold(model, windows.reshape(N, -1), Truth(truth.y, groups=truth.groups), folds)
    assert said.probabilities.shape == (N, 2)


def test_the_mask_is_passed_with_the_windows(windows, truth, folds, rng):
    valid = rng.random((N, K)) < 0.8
    hidden = np.where(valid[:, :, None], windows, np.nan)
    said = out_of_fold(PooledLogisticRegression(), hidden, truth, folds, valid_mask=valid)
    train, test = folds[0]
    model = PooledLogisticRegression().fit(hidden[train], truth.y[train], valid_mask=valid[train])
    assert np.allclose(said.probabilities[test], model.predict_proba(hidden[test], valid[test]))


def test_a_class_missing_from_a_fold_has_probability_0(windows):
    truth = Truth(["a", "b", "c", "a", "b", "a"], groups=range(6))
    splits = [([0, 1, 3, 4], [2, 5]), ([2, 5, 3, 4], [0, 1]), ([0, 1, 2, 5], [3, 4])]
    said = out_of_fold(MajorityClass(), windows[:6], truth, splits)
    assert said.probabilities[2].tolist() == [0.5, 0.5, 0]
    assert said.probabilities[0].tolist() == [0.5, 0.25, 0.25]


def test_wrong_folds_are_refused(windows, truth, folds):
    train, test = folds[0]
    for splits, message in [
        ([], "splits: has no fold; give at least one pair of train and test"),
        (
            folds[1:],
            f"splits: test window {test.min()} 0 times; give folds that test each of 60 windows once",
        ),
        ([*folds, folds[0]], f"splits: test window {test.min()} 2 times"),
        ([(train, [*test, 60])], "splits: test window 60 1 times"),
    ]:
        with pytest.raises(ConfigError, match=re.escape(message)):
            out_of_fold(MajorityClass(), windows, truth, splits)
    with pytest.raises(ConfigError, match="X: has 59 windows; give one for each of the 60 labelled"):
        out_of_fold(MajorityClass(), windows[1:], truth, folds)


def test_a_group_is_not_on_both_sides(windows, truth, folds):
    train, test = folds[0]
    partner = test[0] ^ 1
    torn = [(np.append(train, partner), np.setdiff1d(test, [partner])), *folds[1:-1]]
    torn.append((folds[-1][0], np.append(folds[-1][1], partner)))
    with pytest.raises(
        LeakError, match=rf"fold 0 trains on windows of groups that it tests: 1 window, {partner}\."
    ):
        out_of_fold(MajorityClass(), windows, truth, torn)


# ---- the leaks of the issue, planted -----------------------------------------------------------------------------


def overlapping(rng, step=10):
    """Windows of one series; each shares half of its bars with the next."""
    series = rng.normal(size=(step * N + K, D)).astype(np.float32)
    starts = np.arange(N) * step
    return np.stack([series[at : at + K] for at in starts]), starts


def test_rows_reveal_an_overlapping_window(rng):
    _, starts = overlapping(rng)
    mixed = list(GroupKFold(5, shuffle=True, random_state=0).split(starts, groups=np.arange(N)))
    with pytest.raises(SharedBarsError, match="share bars"):
        assert_no_shared_bars(starts, starts + K - 1, *mixed[0])


def test_bars_reveal_an_overlapping_window(rng):
    """Raw windows have no rows. A model that memorises bars finds shared bars."""
    X, starts = overlapping(rng)
    truth = Truth(np.arange(N) % 2)
    mixed = list(GroupKFold(5, shuffle=True, random_state=0).split(starts, groups=np.arange(N)))
    with pytest.raises(
        LeakError, match="the cross-validation trains on bars of windows that it tests"
    ) as caught:
        assert_nothing_remembered(lambda probe: out_of_fold(probe, X, truth, mixed))
    assert len(caught.value.known) > N / 2
    assert "and" in str(caught.value)
    assert str(caught.value).endswith("keep windows that share bars in one group")
    purged = list(PurgedKFold(starts, starts + K - 1).split())
    assert_nothing_remembered(lambda probe: out_of_fold(probe, X, truth, purged))


def test_the_probe_catches_a_loop_that_fits_on_all_windows(windows, truth, folds):
    def fits_on_all(probe):
        probe.fit(windows, truth.y)
        return Predictions(probe.predict_proba(windows))

    with pytest.raises(LeakError, match="60 windows"):
        assert_nothing_remembered(fits_on_all)
    assert_nothing_remembered(lambda probe: out_of_fold(probe, windows, truth, folds))
    with pytest.raises(
        ConfigError, match="cross_predict: gives no probabilities; have it return those of its estim"
    ):
        assert_nothing_remembered(lambda probe: Predictions(spans=truth.spans))


def scaled(fit_scaler_on):
    """A pipeline with a scaler that is fitted on the windows picked by the argument."""

    def fit_predict(X, truth, train, test):
        scaler = StandardScaler().fit(pool_features(X[fit_scaler_on(train, test)]))
        model = LogisticRegression().fit(scaler.transform(pool_features(X[train])), truth.y[train])
        return Predictions(model.predict_proba(scaler.transform(pool_features(X[test]))))

    return fit_predict


def stacked(inner_out_of_fold):
    """A stack of a neighbour and a meta-learner. The meta-learner is fitted on the neighbour's predictions
    for the training windows: out of fold, or not."""

    def fit_predict(X, truth, train, test):
        flat = X.reshape(len(X), -1)
        base = KNeighborsClassifier(1)
        inner = list(GroupKFold(3).split(train, groups=truth.groups[train]))
        if inner_out_of_fold:
            known = out_of_fold(base, flat[train], Truth(truth.y[train]), inner).probabilities
        else:
            # The neighbour is fitted on all windows, including the test windows.
            known = base.fit(flat, truth.y).predict_proba(flat[train])
        base = (
            KNeighborsClassifier(1).fit(flat, truth.y)
            if not inner_out_of_fold
            else base.fit(flat[train], truth.y[train])
        )
        meta = LogisticRegression().fit(known, truth.y[train])
        return Predictions(meta.predict_proba(base.predict_proba(flat[test])))

    return fit_predict


def test_behaviour_catches_a_scaler_fitted_on_all_windows(windows, truth, folds):
    train, test = folds[0]
    assert_blind_to_test(scaled(lambda train, test: train), windows, truth, train, test, seed=0)
    with pytest.raises(
        LeakError, match="the pipeline is fitted to the bars of windows that it tests"
    ) as caught:
        assert_blind_to_test(
            scaled(lambda train, test: np.append(train, test)), windows, truth, train, test, seed=0
        )
    assert set(caught.value.known) <= set(test.tolist())


def test_provenance_catches_a_scaler_fitted_on_all_windows(folds):
    train, test = folds[0]
    FittedOn(train).refuse(test, "the scaler of fold 0")
    with pytest.raises(
        LeakError, match="the scaler of fold 0 was fitted on windows that it is scored on"
    ) as caught:
        FittedOn(np.arange(N)).refuse(test, "the scaler of fold 0")
    assert caught.value.known == sorted(test.tolist())


def test_behaviour_catches_a_stack_without_out_of_fold_predictions(windows, truth, folds):
    train, test = folds[0]
    assert_blind_to_test(stacked(True), windows, truth, train, test, seed=0)
    with pytest.raises(LeakError, match="the pipeline knows the labels or spans of windows that it tests"):
        assert_blind_to_test(stacked(False), windows, truth, train, test, seed=0)


def test_provenance_catches_a_stack_without_out_of_fold_predictions(folds):
    outer, tested = folds[0]
    inner = [
        (outer[fit], outer[predicted]) for fit, predicted in GroupKFold(3).split(outer, groups=outer // 2)
    ]
    number = np.empty(N, np.int64)
    for fold, (_, predicted) in enumerate(inner):
        number[predicted] = fold
    honest = [FittedOn(fit) for fit, _ in inner]
    assert_out_of_fold(number[outer], honest, outer_test=tested, windows=outer)
    # The members are fitted on all training windows of the outer loop: in-fold.
    with pytest.raises(LeakError, match="the model of fold 0 was fitted on windows that it is scored on"):
        assert_out_of_fold(number[outer], [FittedOn(outer)] * 3, outer_test=tested, windows=outer)
    # They are out of fold, but within folds of all windows: they were trained on the stack's test windows.
    leaky = [fitted | FittedOn(tested[:1]) for fitted in honest]
    message = rf"the model of fold 0, under a stack that is tested on them, was fitted on .*: 1 window, {tested[0]}\."
    with pytest.raises(LeakError, match=message):
        assert_out_of_fold(number[outer], leaky, outer_test=tested, windows=outer)


def test_a_training_span_that_reaches_the_test_set_is_caught(windows, truth, folds):
    train, test = folds[0]

    def mean_span(fit_on):
        return lambda X, truth, train, test: Predictions(
            spans=MeanSpan().fit(X[fit_on], truth.y[fit_on], truth.spans[fit_on]).predict_spans(X[test])
        )

    assert_blind_to_test(mean_span(train), windows, truth, train, test, seed=0)
    with pytest.raises(LeakError, match="knows the labels or spans"):
        assert_blind_to_test(mean_span(np.arange(N)), windows, truth, train, test, seed=0)


def test_the_blindness_check_needs_a_repeatable_pipeline(windows, truth, folds):
    train, test = folds[0]
    unseeded = np.random.default_rng()

    def by_chance(X, truth, train, test):
        p = unseeded.random(len(test))
        return Predictions(np.stack([p, 1 - p], axis=1))

    with pytest.raises(
        ConfigError, match=r"fit_predict: gives other bits for .* in a second run; set its seeds"
    ):
        assert_blind_to_test(by_chance, windows, truth, train, test, seed=0)
    with pytest.raises(
        ConfigError, match="test: has 1 windows; give 2 or more, some to change and some to compare"
    ):
        assert_blind_to_test(by_chance, windows, truth, train, test[:1], seed=0)
    with pytest.raises(
        ConfigError, match="y: has one class and no spans, so labels cannot be changed; give two"
    ):
        assert_blind_to_test(by_chance, windows, Truth([0] * N), train, test, seed=0)


# ---- provenance --------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(0, 50)), st.lists(st.integers(0, 50)))
def test_fitted_on_is_a_set_of_windows(one, other):
    a, b = FittedOn(np.array(one, np.int64)), FittedOn(np.array(other, np.int64))
    assert (a | b).windows.tolist() == sorted({*one, *other})
    assert len(a) == len(set(one))
    assert (a == b) == (set(one) == set(other)) == (a.blake2b == b.blake2b) == (hash(a) == hash(b))
    if set(one) & set(other):
        with pytest.raises(LeakError):
            a.refuse(np.array(other), "it")
    else:
        a.refuse(np.array(other, np.int64), "it")
    assert FittedOn.from_record(json.loads(json.dumps(a.record()))) == pickle.loads(pickle.dumps(a)) == a


def test_fitted_on_refuses_what_was_altered():
    mask = FittedOn([True, False, True])
    assert mask == FittedOn([2, 0, 0])
    assert repr(mask) == f"<FittedOn 2 windows, {mask.blake2b[:8]}>"
    with pytest.raises(ValueError, match="read-only"):
        mask.windows[0] = 1
    record = mask.record() | {"windows": [0]}
    with pytest.raises(
        ConfigError, match="fitted_on: is not what was written: its hash differs; restore the run"
    ):
        FittedOn.from_record(record)
    with pytest.raises(
        ConfigError, match=re.escape("windows: is float64 of shape (1,); give their numbers, from 0")
    ):
        FittedOn([0.5])


def test_every_fold_has_its_model():
    with pytest.raises(ConfigError, match="folds: has 2, but there are 2 models; give one for each fold"):
        assert_out_of_fold([0, 1, 2], [FittedOn([5])] * 2)
    with pytest.raises(ConfigError, match="folds: has -1, but there are 2 models"):
        assert_out_of_fold([0, 1, -1], [FittedOn([5])] * 2)
    with pytest.raises(
        ConfigError, match=re.escape("folds: is float64 of shape (1,); give a fold for each window")
    ):
        assert_out_of_fold([0.5], [])


def test_leak_errors_name_twenty_windows_and_hold_all():
    error = LeakError("the scaler", "was fitted on all", range(25))
    assert "the scaler was fitted on all: 25 windows, 0, 1, 2, 3" in str(error)
    assert "18, 19 and 5 more. Fit it on the training windows of the fold alone, and" in str(error)
    assert (error.what, error.problem, error.known) == ("the scaler", "was fitted on all", list(range(25)))


# ---- the probe ---------------------------------------------------------------------------------------------------


def test_the_probe_recognises_runs_and_not_single_bars(windows):
    probe = MemorisingProbe(run=5).fit(windows[:2], ["a", "b"])
    strange = windows[2:6].copy()
    strange[0, 7:12] = windows[1, 3:8]
    strange[1, 7:11] = windows[1, 3:7]
    assert probe.recognises(strange).tolist() == [True, False, False, False]
    assert probe.predict_proba(strange)[:2].tolist() == [[0, 1], [0.5, 0.5]]
    assert probe.recognises(windows[:2]).all()


def test_the_probe_ignores_identical_bars(windows):
    flat = windows[:4].copy()
    flat[:, :10] = 0
    probe = MemorisingProbe().fit(flat[:2], [0, 1])
    # Ten zeros and the bar after them distinguish windows.
    assert not probe.recognises(flat[2:]).any()
    valid = np.ones((2, K), bool)
    same = flat[:2].copy()
    valid[:, 12:] = False
    padded = MemorisingProbe().fit(same, [0, 1], valid_mask=valid)
    other = windows[4:6].copy()
    other[:, 12:] = same[:, 12:]
    assert not padded.recognises(other).any()
    assert MemorisingProbe().fit(same, [0, 1]).recognises(other).all()
    assert not MemorisingProbe().fit(same, [0, 1]).recognises(other, valid).any()


def test_the_probe_takes_one_feature_and_short_windows(rng):
    X = rng.normal(size=(6, 3))
    assert MemorisingProbe().fit(X[:3], [0, 1, 0]).recognises(X).tolist() == [True] * 3 + [False] * 3
    with pytest.raises(
        ConfigError, match=re.escape("y: has only [0]; give at least two classes for the probe")
    ):
        MemorisingProbe().fit(X, [0] * 6)


# ---- baselines ---------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 8), st.integers(1, 3))
def test_pooling_equals_its_definition(seed, n, length, width):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, length, width))
    valid = rng.random((n, length)) < 0.6
    valid[np.arange(n), rng.integers(length, size=n)] = True
    hidden = np.where(valid[:, :, None], x, rng.choice([np.nan, np.inf, 1e30]))
    expected = [
        np.concatenate([w[v].mean(0), w[v].std(0), w[v].min(0), w[v].max(0), w[v][-1]])
        for w, v in zip(x, valid, strict=True)
    ]
    assert np.allclose(pool_features(hidden, valid), expected)
    if width == 1:
        assert np.array_equal(pool_features(hidden[:, :, 0], valid), pool_features(hidden, valid))


@pytest.mark.parametrize(
    ("x", "valid", "message"),
    [
        (np.zeros(3), None, "X: has the shape (3,); give windows as [n, K, D], or [n, K] of one feature"),
        (
            np.zeros((2, 3)),
            np.ones((2, 2), bool),
            "valid_mask: is bool of shape (2, 2); give True or False for each bar",
        ),
        (np.zeros((2, 3)), np.ones((2, 3)), "valid_mask: is float64 of shape (2, 3)"),
        (
            np.zeros((2, 2)),
            np.array([[True, True], [False, False]]),
            "valid_mask: leaves window 1 without a bar; leave that",
        ),
        (
            np.array([[0, np.inf]]),
            None,
            "X: is inf at bar 1 of window 0, feature 0; give finite values, or hide the bar",
        ),
    ],
)
def test_wrong_pooling_arguments_are_refused(x, valid, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        pool_features(x, valid)


def test_majority_class_and_mean_span_are_predicted():
    X, y, spans = np.zeros((5, 3, 1)), ["b", "a", "b", "b", "a"], [[0, 1], [1, 2], [-1, -1], [0, 1], [1, 1]]
    majority = MajorityClass().fit(X, y)
    assert majority.predict(X[:2]).tolist() == ["b", "b"]
    assert majority.predict_proba(X[:1]).tolist() == [[0.4, 0.6]]
    # The means are 0.5 and 1.25; halves go up.
    assert MeanSpan().fit(X, y, spans).predict_spans(X[:2]).tolist() == [[1, 1]] * 2
    message = "spans: contains no span; give the first and last bar of at least one window"
    for estimator in (MeanSpan(), StratifiedGuess()):
        with pytest.raises(ConfigError, match=message):
            estimator.fit(X, y, [[-1, -1]] * 5).predict_spans(X)
    with pytest.raises(ConfigError, match=message):
        StratifiedGuess().fit(X, y).predict_spans(X)


def test_guesses_have_the_shares_of_training():
    X, y = np.zeros((10, 3, 1)), np.repeat(["a", "b"], [3, 7])
    spans = np.stack([np.arange(10), np.arange(10) + 1], axis=1)
    spans[0] = -1
    guess = StratifiedGuess(seed=3).fit(X, y, spans)
    many = np.zeros((20_000, 3, 1))
    assert (guess.predict(many) == "a").mean() == pytest.approx(0.3, abs=0.02)
    drawn, times = np.unique(guess.predict_spans(many), axis=0, return_counts=True)
    assert drawn.tolist() == spans[1:].tolist()
    assert times == pytest.approx(20_000 / 9, rel=0.1)
    assert np.array_equal(guess.predict(many), StratifiedGuess(seed=3).fit(X, y, spans).predict(many))
    assert not np.array_equal(guess.predict(many), StratifiedGuess(seed=4).fit(X, y, spans).predict(many))


def test_pooled_logistic_regression_learns_what_pooling_shows(rng):
    y = rng.permutation(np.arange(200) % 2)
    X = rng.normal(size=(200, 30, 2))
    X[:, 10:18, 1] += 1.5 * y[:, None]
    # The fit does not depend on the features' units.
    models = [PooledLogisticRegression().fit(scale * X[:100], y[:100]) for scale in (1, 1_000)]
    assert models[0].score(X[100:], y[100:]) > 0.85
    assert np.allclose(models[0].predict_proba(X), models[1].predict_proba(1_000 * X), atol=1e-3)
    rare = y & (rng.random(200) < 0.2)
    plain, balanced = (PooledLogisticRegression(class_weight=w).fit(X, rare) for w in (None, "balanced"))
    assert balanced.predict(X).sum() > plain.predict(X).sum()
    assert PooledLogisticRegression().fit(X, np.ones(200, int)).predict_proba(X[:2]).tolist() == [[1], [1]]
