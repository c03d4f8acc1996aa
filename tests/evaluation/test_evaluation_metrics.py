"""Scores compared with scikit-learn and with their definitions, window by window; calibration; refusals."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss

from moola.errors import ConfigError
from moola.evaluation import Predictions, Truth, scores
from moola.evaluation.calibration import (
    TemperatureScaling,
    calibration_error_if_calibrated,
    reliability_curve,
)
from moola.evaluation.metrics import METRICS, calibration_bins, span_iou

K = 20


@st.composite
def scored(draw):
    """Labels and predictions of a few windows. Classes may be missing, and there are ties and windows without
    a span."""
    classes = draw(st.integers(2, 4))
    n = draw(st.integers(1, 25))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    raw = rng.integers(0, 4, size=(n, classes)) + 1e-3 * draw(st.booleans())
    raw[raw.sum(axis=1) == 0] = 1
    spans = [np.sort(rng.integers(0, K, size=(n, 2)), axis=1) for _ in range(2)]
    for side in spans:
        side[rng.random(n) < 0.3] = -1
    truth = Truth(rng.integers(classes, size=n), classes=range(classes), spans=spans[0])
    return truth, Predictions(raw / raw.sum(axis=1, keepdims=True), spans[1])


@settings(deadline=None)
@given(scored())
def test_class_scores_equal_scikit_learn(case):
    truth, said = case
    found = scores(truth, said)
    chosen = said.probabilities.argmax(axis=1)
    assert found["macro_f1"] == pytest.approx(f1_score(truth.y, chosen, average="macro"))
    with warnings.catch_warnings():
        # Predicted classes that do not occur do not count.
        warnings.simplefilter("ignore")
        assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth.y, chosen))
        theirs = log_loss(truth.y, said.probabilities, labels=range(len(truth.classes)))
    assert found["log_loss"] == pytest.approx(theirs)


@settings(deadline=None)
@given(scored())
def test_calibration_error_equals_its_definition(case):
    truth, said = case
    expected = 0.0
    right = said.probabilities.argmax(axis=1) == truth.y
    confidence = said.probabilities.max(axis=1)
    for m in range(15):
        inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert scores(truth, said)["calibration_error"] == pytest.approx(expected, abs=1e-12)
    curve = reliability_curve(truth, said)
    there = curve.count > 0
    gaps = np.abs(curve.accuracy - curve.confidence)[there]
    assert curve.count.sum() == len(truth)
    assert (gaps * curve.count[there]).sum() / len(truth) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(scored())
def test_span_scores_equal_their_definitions(case):
    truth, said = case
    overlaps, hits, centers, lengths = [], [], [], []
    for (s, e), (a, b) in zip(truth.spans.tolist(), said.spans.tolist(), strict=True):
        if s == -1:
            continue
        true, found = set(range(s, e + 1)), set(range(a, b + 1)) if a >= 0 else set()
        overlaps.append(len(true & found) / len(true | found))
        hits.append(a >= 0 and abs(s - a) <= 3 and abs(e - b) <= 3)
        if found:
            centers.append(abs((s + e) / 2 - (a + b) / 2))
            lengths.append(abs(len(true) - len(found)))
    found = scores(truth, said)
    for name, values in [
        ("span_iou", overlaps),
        ("span_hits", hits),
        ("center_error", centers),
        ("length_error", lengths),
    ]:
        assert found[name] == pytest.approx(np.mean(values) if values else np.nan, nan_ok=True), name


def test_a_span_end_within_three_bars_is_a_hit():
    truth = Truth([0, 0, 0], spans=[[10, 15]] * 3)
    said = Predictions(spans=[[7, 18], [6, 15], [10, 19]])
    assert METRICS["span_hits"].statistics(truth, said)[:, 0].tolist() == [1, 0, 0]
    assert span_iou(np.array([[-1, -1]]), np.array([[-1, -1]])).tolist() == [0]


def test_bins_are_closed_above():
    edges = np.array([0, 1 / 15, 1 / 15 + 1e-9, 14 / 15, 14 / 15 + 1e-9, 1])
    assert calibration_bins(edges).tolist() == [0, 0, 1, 13, 14, 14]


def test_missing_predictions_are_not_scored():
    truth = Truth(["up", "down"], spans=[[0, 3], [-1, -1]])
    of_classes, of_spans = Predictions([[1, 0], [0, 1]]), Predictions(spans=[[0, 3], [0, 3]])
    assert np.isnan(scores(truth, of_classes)["span_iou"])
    assert np.isnan(scores(truth, of_spans)["macro_f1"])
    assert np.isnan(scores(Truth([0, 1]), of_spans)["span_iou"])
    assert np.isnan(scores(Truth([0, 1], spans=[[-1, -1]] * 2), of_spans)["span_hits"])


def test_a_true_class_with_probability_0_costs_36_nats():
    found = scores(Truth([0], classes=[0, 1]), Predictions([[0.0, 1.0]]))
    assert found["log_loss"] == pytest.approx(36.04, abs=0.01)


# ---- calibration -------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(temperature=st.floats(0.2, 8), classes=st.integers(2, 4), seed=st.integers(0, 2**32))
def test_temperature_is_recovered(temperature, classes, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, size=(20_000, classes))
    p = softmax(logits, axis=1)
    y = (p.cumsum(axis=1) < rng.random((len(p), 1))).sum(axis=1).clip(max=classes - 1)
    scaling = TemperatureScaling().fit(temperature * logits, y)
    assert scaling.temperature == pytest.approx(temperature, rel=0.1)
    assert scaling.probabilities(temperature * logits).argmax(axis=1).tolist() == p.argmax(axis=1).tolist()


def test_temperature_minimises_the_log_loss():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, size=(174, 2))
    y = np.where(rng.random(174) < 0.4, logits.argmax(axis=1), rng.integers(2, size=174))
    scaling = TemperatureScaling().fit(logits, y)
    truth = Truth(y)

    def loss(temperature: float) -> float:
        return scores(truth, Predictions(TemperatureScaling(temperature).probabilities(logits)))["log_loss"]

    at = scaling.temperature
    assert loss(at) < min(loss(at * 1.01), loss(at / 1.01), loss(1))


def test_temperature_stays_within_its_bounds():
    always_right = TemperatureScaling().fit([[1.0, 0.0], [0.0, 1.0]], [0, 1])
    assert always_right.temperature == pytest.approx(0.05, rel=1e-3)
    always_wrong = TemperatureScaling().fit([[1.0, 0.0], [0.0, 1.0]], [1, 0])
    assert always_wrong.temperature == pytest.approx(100, rel=1e-3)
    assert TemperatureScaling().fit([[2.0, 2.0], [0.5, 0.5]], [0, 1]).temperature == 1
    # A constant per window makes no difference, even a large one.
    shifted = TemperatureScaling().fit([[1e4, 1e4 - 2], [0.0, 2.0], [2.0, 0.0]], [0, 1, 1])
    plain = TemperatureScaling().fit([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]], [0, 1, 1])
    assert shifted.temperature == pytest.approx(plain.temperature, rel=1e-4)


def test_chance_calibration_error_comes_from_labels_drawn_from_the_probabilities():
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1, 1], size=174)
    said = Predictions(p)
    errors = []
    for _ in range(400):
        y = (p.cumsum(axis=1) < rng.random((174, 1))).sum(axis=1).clip(max=2)
        errors.append(scores(Truth(y, classes=range(3)), said)["calibration_error"])
    luck = calibration_error_if_calibrated(said, seed=1)
    assert luck.value == pytest.approx(np.mean(errors), rel=0.05)
    assert (luck.low, luck.high) == pytest.approx(tuple(np.quantile(errors, [0.025, 0.975])), rel=0.15)
    assert (
        calibration_error_if_calibrated(said, seed=1) == luck != calibration_error_if_calibrated(said, seed=2)
    )


# ---- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Truth([]), "y: has the shape (0,); give one label per window, [n], and at least one"),
        (lambda: Truth([0.5, 1.0]), "y: is of type float64; give labels as whole numbers or strings"),
        (lambda: Truth(np.array([1, "a"], object)), "y: mixes types of labels"),
        (
            lambda: Truth([0, 2], classes=[0, 1]),
            "y: has the label 2, which is not among classes; add it there",
        ),
        (lambda: Truth([0], classes=[0, 0]), "classes: are [0, 0]; give each label once"),
        (
            lambda: Truth([0], spans=[0, 3]),
            "spans: has the shape (2,); give first and last bar per window, [1, 2]",
        ),
        (lambda: Truth([0], spans=[[0.0, 3.0]]), "spans: is of type float64; give whole bar numbers"),
        (
            lambda: Truth([0], spans=[[5, 4]]),
            "spans: has 5 to 4 for window 0; give first and last bar, counted",
        ),
        (lambda: Truth([0], spans=[[-1, 4]]), "spans: has -1 to 4 for window 0"),
        (
            lambda: Truth([0, 1], groups=[0]),
            "groups: has the shape (1,) for 2 windows; give one value per window",
        ),
        (lambda: Truth([0, 1], groups=[[0], [1]]), "groups: has the shape (2, 1); give one name per window"),
        (
            lambda: Truth([0, 1], groups=np.array([0, "a"], object)),
            "groups: cannot be compared with each other; give one name per window",
        ),
        (
            lambda: Truth([0, 1], seen=[0, 1]),
            "seen: is int64 of shape (2,); give True or False per window, [n]",
        ),
        (lambda: Predictions(), "probabilities: and spans are both missing; give at least one of them"),
        (
            lambda: Predictions([0.5]),
            "probabilities: has the shape (1,); give one per window and class, [n, C]",
        ),
        (
            lambda: Predictions([[1, 0], [2.5, -1.5]]),
            "probabilities: of window 1 are [2.5, -1.5]; give numbers",
        ),
        (lambda: Predictions([[np.nan, 1]]), "that sum to 1 (softmax of logits)"),
        (
            lambda: Predictions([[1, 0]], folds=[0.5]),
            "folds: is float64 of shape (1,); give whole numbers, [n]",
        ),
        (
            lambda: scores(Truth([0, 1]), Predictions([[1, 0]])),
            "predictions: are of 1 windows; give one for each of the 2 labelled",
        ),
        (
            lambda: scores(Truth(["a", "b"]), Predictions([[1], [1]])),
            "probabilities: are of 1 classes; give a column for each of the 2 of the labels (a, b)",
        ),
        (lambda: TemperatureScaling(0), "temperature: 0 is not above 0; give 1 to change nothing"),
        (
            lambda: TemperatureScaling().fit([1.0], [0]),
            "logits: has the shape (1,); give one per window and class",
        ),
        (
            lambda: TemperatureScaling().fit([[1.0, np.inf]], [0]),
            "logits: of window 0 are [1.0, inf]; give finite numbers",
        ),
        (
            lambda: TemperatureScaling().fit([[1.0, 0.0]], [2]),
            "y: has the shape (1,) for logits (1, 2); give a class from 0 to 1 for each",
        ),
        (
            lambda: calibration_error_if_calibrated(Predictions(spans=[[0, 1]]), seed=0),
            "probabilities: are missing; only a model that predicts classes can be calibrated",
        ),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        make()


def test_labels_of_any_kind_become_numbers():
    truth = Truth(["up", "down", "up"], groups=["d2", "d1", "d2"])
    assert truth.classes.tolist() == ["down", "up"]
    assert (truth.y.tolist(), truth.groups.tolist(), truth.n_groups) == ([1, 0, 1], [1, 0, 1], 2)
    assert Truth([7, 3], classes=[7, 3, 5]).y.tolist() == [0, 1]
    assert repr(truth) == "<Truth of 3 windows in 2 groups: down, up>"
    part = truth.take([True, False, True])
    assert (part.classes.tolist(), part.n_groups) == (["down", "up"], 1)


def test_import_brings_nothing_heavy():
    code = (
        "import sys, moola.evaluation; "
        "print([name for name in ('sklearn', 'matplotlib', 'torch', 'scipy') if name in sys.modules]); "
        "from moola.evaluation import evaluate, out_of_fold, permutation_test; import moola.evaluation.figures; "
        "print('torch' in sys.modules, 'matplotlib.pyplot' in sys.modules, 'pandas' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.splitlines() == ["[]", "False False False"], result.stderr
