"""A whole evaluation: the comparisons with a model, the sentences about it, and its pictures."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from scipy.special import softmax
from sklearn.model_selection import StratifiedGroupKFold

from moola.errors import ConfigError
from moola.evaluation import Predictions, Truth, evaluate, out_of_fold, permutation_test, scores
from moola.evaluation.baselines import PooledLogisticRegression, baseline_predictions
from moola.evaluation.calibration import cross_fitted
from moola.evaluation.figures import (
    confusion_matrix,
    permutation_histogram,
    reliability_diagram,
    save_png,
    spans_against_truth,
)
from moola.evaluation.intervals import Difference, Interval, Resamples
from moola.evaluation.metrics import METRICS
from moola.evaluation.permutation import PermutationTest

# One process makes the evaluation for all tests.
pytestmark = pytest.mark.xdist_group("evaluation")

N, K = 120, 30


@pytest.fixture(scope="module")
def market():
    """Windows in groups of one or two. Half of them hide a ramp that pooling detects. A model finds spans."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(N) % 2)
    starts = rng.integers(0, K - 8, size=N)
    spans = np.stack([starts, starts + 7], axis=1)
    X = rng.normal(size=(N, K, 2))
    for window in np.flatnonzero(y):
        X[window, starts[window] : starts[window] + 8, 0] += np.linspace(0.5, 3, 8)
    groups = np.concatenate([np.repeat(np.arange(30), 2), np.arange(30, 90)])
    truth = Truth(np.array(["none", "ramp"])[y], spans=spans, groups=groups, seen=np.arange(N) < 30)
    splits = list(StratifiedGroupKFold(5, shuffle=True, random_state=0).split(X, truth.y, groups))
    baselines = baseline_predictions(X, truth, splits, seed=0)
    found = np.sort(np.clip(spans + rng.integers(-4, 5, size=(N, 2)), 0, K - 1), axis=1)
    regression = baselines["pooled logistic regression"][0]
    model = Predictions(regression.probabilities, found, folds=regression.folds)
    return X, truth, splits, baselines, model


@pytest.fixture(scope="module")
def permutation(market):
    X, truth, splits, _, _ = market

    def score(labels: Truth) -> dict[str, float]:
        return scores(labels, out_of_fold(PooledLogisticRegression(), X, labels, splits))

    return permutation_test(score, truth, seed=1, permutations=25)


@pytest.fixture(scope="module")
def evaluation(market, permutation):
    _, truth, _, baselines, model = market
    return evaluate(truth, model, model="jade_compact", baselines=baselines, permutation=permutation, seed=3)


def test_every_baseline_is_compared_with_the_model(evaluation):
    assert list(evaluation.baselines) == [
        "majority class",
        "stratified guessing",
        "mean span",
        "pooled logistic regression",
    ]
    beaten = evaluation.differences["majority class"]["macro_f1"]
    assert beaten.better
    assert evaluation.differences["mean span"]["span_hits"].better
    assert evaluation.scores["macro_f1"].value > 0.8
    # With balanced classes, chance is a half.
    assert evaluation.baselines["stratified guessing"]["macro_f1"].value == pytest.approx(0.5, abs=0.05)
    assert evaluation.baselines["majority class"]["balanced_accuracy"].value == pytest.approx(0.5, abs=0.05)
    assert evaluation.permutation["macro_f1"].p_value == 1 / 26


def test_the_table_of_scores_is_complete(evaluation):
    assert evaluation.columns == [
        "",
        "jade_compact",
        "unseen",
        "seen",
        "permuted",
        "p",
        *evaluation.baselines,
    ]
    rows = {row[0]: row[1:] for row in evaluation.rows()}
    assert all(len(row) == len(evaluation.columns) - 1 for row in rows.values())
    assert re.fullmatch(r"0\.\d{3} \(0\.\d{3} to [01]\.\d{3}\)", rows["macro-F1"][0])
    assert rows["macro-F1"][4] == "0.038"
    # The same predictions as the baseline: no difference shown. It has no spans, and the mean span no classes.
    assert rows["macro-F1"][-1].endswith(" ≈")
    assert rows["span IoU"][-1] == rows["macro-F1"][-2] == "–"
    assert not rows["macro-F1"][5].endswith("≈")
    assert rows["span IoU"][3:5] == ["–", "–"]
    assert "span hits ±3" in rows


def test_the_evaluation_is_summarised_in_sentences(evaluation):
    said = evaluation.sentences()
    assert (
        said[0]
        == "30 of 120 windows have bars that the encoder was pre-trained on; seen and unseen windows are scored "
        "separately"
    )
    assert re.fullmatch(
        r"calibration error: 0\.0\d\d \(0\.0\d\d to 0\.\d{3}\) if every probability were right", said[1]
    )
    assert any(
        re.match("macro-F1: jade_compact is better than majority class: difference 0", line) for line in said
    )
    assert any(
        line.startswith("macro-F1: no difference shown between jade_compact and pooled logistic regression")
        for line in said
    )
    assert any(line.startswith("macro-F1: ") and "better than with shuffled labels" in line for line in said)
    assert not any("nan" in line or "cannot be compared" in line for line in said)


def test_the_summary_has_a_line_for_each_baseline(evaluation):
    lines = evaluation.summary()
    against = [line for line in lines if line.startswith("against ")]
    assert [line.partition(":")[0] for line in against] == [
        f"against {name}" for name in evaluation.baselines
    ]
    regression = evaluation.differences["pooled logistic regression"]
    # The same predictions as the baseline.
    assert against[-1] == (
        "against pooled logistic regression: no difference shown in macro-F1, balanced accuracy, log loss, "
        "calibration error"
    )
    assert not any(difference.shown for difference in regression.values())
    assert re.match(
        r"against majority class: better in macro-F1 \(\+0\.\d{3} \[\+0\.\d{3}, \+0\.\d{3}\]\), balanced acc",
        against[0],
    )
    # A lower loss is better, and the difference is below 0.
    assert re.search(r"log loss \(−\d+\.\d{3} \[−\d+\.\d{3}, −\d+\.\d{3}\]\)", against[0])
    # All other sentences are there too, and no comparison that was not requested.
    sentences = evaluation.sentences()
    assert [line for line in lines if not line.startswith("against ")] == [
        line for line in sentences if "difference" not in line
    ]
    alone = evaluation.summary(["majority class"])
    assert [line for line in alone if line.startswith("against ")] == against[:1]
    worse = Difference("macro_f1", "jade_compact", "x", Interval(-0.1, -0.2, -0.05))
    made = replace(evaluation, differences={"x": {"macro_f1": worse}})
    assert "against x: worse in macro-F1 (−0.100 [−0.200, −0.050])" in made.summary()


def test_calibration_by_other_folds_is_reported_with_the_scores(market):
    _, truth, _, _, model = market
    sure = np.log(model.probabilities) * 8
    said = Predictions(softmax(sure, axis=1), folds=model.folds)
    better = Predictions(cross_fitted(sure, truth.y, model.folds))
    evaluation = evaluate(truth, said, model="m", baselines={}, calibrated=better, seed=0, resamples=200)
    assert list(evaluation.calibrated) == ["log_loss", "calibration_error"]
    after = evaluation.calibrated["log_loss"]
    assert after.value == scores(truth, better)["log_loss"] < evaluation.scores["log_loss"].value / 2
    assert after.low < after.value < after.high
    line = next(line for line in evaluation.sentences() if line.startswith("calibrated"))
    assert line == (
        f"calibrated: log loss {evaluation.scores['log_loss'].value:.3f} → {after}, calibration error "
        f"{evaluation.scores['calibration_error'].value:.3f} → {evaluation.calibrated['calibration_error']}; each fold "
        "by a temperature fitted on the others"
    )
    assert line in evaluation.summary()
    assert evaluation.record()["calibrated"]["log_loss"]["value"] == after.value
    # Without any there is no sentence.
    assert evaluate(truth, said, model="m", baselines={}, seed=0, resamples=50).calibrated == {}


def test_calibration_of_a_fold_does_not_use_its_labels(market):
    _, truth, _, _, model = market
    logits = 5 * np.log(model.probabilities)
    before = cross_fitted(logits, truth.y, model.folds)
    mine = model.folds == 2
    after = cross_fitted(logits, np.where(mine, 1 - truth.y, truth.y), model.folds)
    assert np.array_equal(before[mine], after[mine])
    assert not np.allclose(before[~mine], after[~mine])
    with pytest.raises(ConfigError, match="folds: is only one, so no other fold can calibrate it; give 2 or"):
        cross_fitted(logits, truth.y, np.zeros(N, np.int64))


def test_seen_and_unseen_are_scored_apart(evaluation, market):
    _, truth, _, _, model = market
    assert list(evaluation.apart) == ["unseen", "seen"]
    assert [(part.windows, part.groups) for part in evaluation.apart.values()] == [(90, 75), (30, 15)]
    for name, rows in (("unseen", ~truth.seen), ("seen", truth.seen)):
        alone = scores(truth.take(rows), model.take(rows))
        assert evaluation.apart[name].scores["macro_f1"].value == pytest.approx(alone["macro_f1"])


def test_the_record_is_json(evaluation):
    record = json.loads(json.dumps(evaluation.record(), allow_nan=False))
    assert record["classes"] == {"none": 60, "ramp": 60}
    assert record["scores"]["macro_f1"]["value"] == evaluation.scores["macro_f1"].value
    assert record["over_repeats"]["macro_f1"]["low"] is None
    assert record["null"]["macro_f1"]["p_value"] == 1 / 26
    assert len(record["null"]["macro_f1"]["scores"]) == 25
    assert record["null"]["span_iou"]["p_value"] is None
    assert record["differences"]["majority class"]["macro_f1"]["shown"] is True
    assert record["baselines"]["mean span"]["macro_f1"]["value"] is None


def test_repeats_have_an_interval_of_their_own(market):
    _, truth, _, baselines, model = market
    worse = Predictions(model.probabilities[::-1], model.spans, folds=model.folds)
    evaluation = evaluate(truth, [model, worse, model], model="m", baselines=baselines, seed=0, resamples=200)
    assert evaluation.repeats == 3
    for name in ("macro_f1", "span_iou"):
        each = [scores(truth, repeat)[name] for repeat in (model, worse, model)]
        assert (
            evaluation.scores[name].value
            == evaluation.over_repeats[name].value
            == pytest.approx(np.mean(each))
        )
    over = evaluation.over_repeats
    assert over["macro_f1"].high - over["macro_f1"].low > over["span_iou"].high - over["span_iou"].low == 0
    assert evaluation.columns == ["", "m", "over 3 repeats", "unseen", "seen", *baselines]
    assert evaluation.rows()[0][1:3] == [str(evaluation.scores["macro_f1"]), str(over["macro_f1"])]


def test_an_interval_over_repeats_holds_only_possible_scores(market):
    _, truth, _, _, model = market
    opposite = Predictions(model.probabilities[:, ::-1], model.spans, folds=model.folds)
    evaluation = evaluate(truth, [model, opposite], model="m", baselines={}, seed=0, resamples=50)
    for name in ("macro_f1", "balanced_accuracy", "calibration_error"):
        over = evaluation.over_repeats[name]
        assert (over.low, over.high) == (0, 1)
        assert 0 < over.value < 1
    loss = evaluation.over_repeats["log_loss"]
    assert loss.low == 0
    assert loss.high > 1


def test_models_scored_on_the_same_resamples_have_the_same_numbers(market, monkeypatch):
    _, truth, _, baselines, model = market
    other = Predictions(model.probabilities[::-1], model.spans, folds=model.folds)
    shared = Resamples(truth, seed=4, resamples=300)
    scored = []
    draws = Resamples._draws

    def counted(self, metric, repeats):
        scored.append(metric.name)
        return draws(self, metric, repeats)

    monkeypatch.setattr(Resamples, "_draws", counted)
    for said in (model, other):
        beside = baselines | {"another": other if said is model else model}
        alone = evaluate(truth, said, model="m", baselines=beside, seed=4, resamples=300)
        asked = len(scored)
        together = evaluate(truth, said, model="m", baselines=beside, seed=4, resamples=shared)
        assert together.record() == alone.record()
        again = len(scored) - asked
    # For the second model and its baselines, only seen and unseen windows are left to draw.
    assert again == 2 * len(METRICS)


def test_few_groups_and_few_label_orders_give_notes():
    y = np.array([0, 0, 1, 1, 0, 1, 1])
    truth = Truth(y, groups=[0, 0, 1, 1, 2, 2, 2], seen=[False] * 4 + [True] * 3)
    said = Predictions(np.eye(2)[y])
    permutation = permutation_test(lambda labels: scores(labels, said), truth, seed=0, permutations=10)
    evaluation = evaluate(truth, said, model="m", baselines={}, permutation=permutation, seed=0)
    assert evaluation.notes == [
        "3 groups are few: the intervals may be too narrow",
        "3 of 7 windows have bars that the encoder was pre-trained on; seen and unseen windows are scored separately",
        "whole groups can exchange their labels in 2 orders only: no p-value can be below 0.50",
        "43% of the windows are in groups of a unique size, and kept their labels in every shuffle: the scores on "
        "shuffled labels look better than they are",
    ]
    # The seen windows are one group: a score, and no interval.
    assert str(evaluation.apart["seen"].scores["macro_f1"]) == "1.000"


def test_a_model_of_spans_only_is_evaluated(market):
    _, truth, _, baselines, model = market
    said = Predictions(spans=model.spans)
    evaluation = evaluate(truth, said, model="m", baselines={"mean span": baselines["mean span"]}, seed=0)
    assert evaluation.calibration_error_if_calibrated is None
    assert [row[0] for row in evaluation.rows()] == [
        "span IoU",
        "span hits ±3",
        "center error, bars",
        "length error, bars",
    ]
    everything_seen = Truth(truth.y, spans=truth.spans, seen=[True] * N)
    assert list(evaluate(everything_seen, said, model="m", baselines={}, seed=0).apart) == ["seen"]


def test_one_class_cannot_be_evaluated():
    truth = Truth(["up"] * 4, classes=["none", "up"])
    said = Predictions(np.tile([0.1, 0.9], (4, 1)))
    with pytest.raises(
        ConfigError, match="y: has one class, up; give windows of at least two classes to score"
    ):
        evaluate(truth, said, model="m", baselines={}, seed=0)
    spans = Predictions(spans=[[0, 3]] * 4)
    of_spans = Truth(["up"] * 4, spans=[[0, 3]] * 4)
    assert evaluate(of_spans, spans, model="m", baselines={}, seed=0).scores["span_hits"].value == 1


def test_a_class_in_few_groups_gives_a_warning():
    y = np.repeat([1, 0], [3, 397])
    said = Predictions(np.tile([0.9, 0.1], (400, 1)))
    found = evaluate(Truth(y), said, model="m", baselines={}, seed=0, resamples=50)
    assert found.notes == [
        "class 1 is in 3 groups only: the intervals of macro-F1 and balanced accuracy may be much narrower than they "
        "should be"
    ]


def test_evaluate_refuses_wrong_arguments(market):
    _, truth, _, baselines, model = market
    with pytest.raises(
        ConfigError, match="predictions: are of 119 windows; give one for each of the 120 labelled"
    ):
        evaluate(truth, model.take(np.arange(119)), model="m", baselines={}, seed=0)
    other = Predictions(model.probabilities, folds=(model.folds + 1) % 5)
    with pytest.raises(ConfigError, match="folds: differ between m and majority class"):
        evaluate(truth, other, model="m", baselines=baselines, seed=0)


# ---- pictures ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(market, permutation, tmp_path_factory):
    _, truth, _, _, model = market
    folder = tmp_path_factory.mktemp("pictures")
    named = Truth(truth.y, classes=[0, 1])
    named.classes = np.array(["consolidation before news", "expansion to the upside"])
    # It finds no span in every third window.
    blind = np.where((np.arange(N) % 3 == 0)[:, None], -1, model.spans)
    figures = {
        "reliability": reliability_diagram(truth, model, title="jade_compact"),
        "confusion": confusion_matrix(truth, model, title="jade_compact"),
        "confusion of long names": confusion_matrix(named, model, title="jade_compact, repeat 1 of 5"),
        "spans": spans_against_truth(truth, model, K, title="jade_compact"),
        "spans unseen": spans_against_truth(truth, Predictions(model.probabilities, blind), K),
        "null": permutation_histogram(permutation["macro_f1"], title="regression"),
        "null of one score": permutation_histogram(
            PermutationTest("span_hits", 0.0, (0.0,) * 20, 1.0, "with heads alone on frozen embeddings"),
            title="jade_compact",
        ),
    }
    return {name: (figure, save_png(figure, folder / f"{name}.png")) for name, figure in figures.items()}


@pytest.mark.parametrize(
    "name",
    [
        "reliability",
        "confusion",
        "confusion of long names",
        "spans",
        "spans unseen",
        "null",
        "null of one score",
    ],
)
def test_pictures_are_pngs_with_nothing_cut_off(pictures, name):
    _, path = pictures[name]
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    pixels = imread(path)[:, :, :3]
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 1).all()
    # The picture is not empty, and has colour.
    assert 0.01 < (pixels < 1).any(axis=2).mean() < 0.7
    assert (pixels.max(axis=2) - pixels.min(axis=2) > 0.2).any()


def texts(figure: Figure) -> str:
    return "\n".join(
        text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text"))
    )


def test_pictures_show_their_scores(pictures, market, permutation):
    _, truth, _, _, model = market
    found = scores(truth, model)
    assert f"calibration error {found['calibration_error']:.3f}, 120 windows" in texts(
        pictures["reliability"][0]
    )
    confusion = texts(pictures["confusion"][0])
    said = model.probabilities.argmax(axis=1)
    for true in (0, 1):
        right = int(((truth.y == true) & (said == true)).sum())
        assert f"{right}\n{right / 60:.0%}" in confusion
    assert f"macro-F1 {found['macro_f1']:.3f}" in confusion
    assert f"{found['span_hits']:.0%} hits, IoU {found['span_iou']:.2f}" in texts(pictures["spans"][0])
    assert "regression\n25 shuffles of whole groups: p = 0.038" in texts(pictures["null"][0])
    for name in ("reliability", "confusion", "spans"):
        assert "jade_compact\n" in texts(pictures[name][0])
    # Hits count all spans, including those without a predicted span.
    few = scores(truth, Predictions(spans=np.where((np.arange(N) % 3 == 0)[:, None], -1, model.spans)))
    assert (
        f"120 spans (40 of them without a predicted span, not drawn): {few['span_hits']:.0%} hits"
        in texts(pictures["spans unseen"][0])
    )
    alike = pictures["null of one score"][0]
    assert "jade_compact, with heads alone on frozen embeddings\n20 shuffles" in texts(alike)
    assert "true labels, 0.000" in texts(alike)


def test_class_names_do_not_overlap_in_pictures(pictures):
    figure, _ = pictures["confusion of long names"]
    for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
        one, two = (label.get_window_extent() for label in axis.get_ticklabels())
        assert not one.overlaps(two)


def test_equal_shuffle_scores_are_drawn_as_a_narrow_bar(pictures):
    axes = pictures["null of one score"][0].axes[0]
    band, bar = axes.patches
    assert 0.005 <= bar.get_width() < 0.05
    assert bar.get_height() == 20
    assert 0.01 <= band.get_width() < 0.05
    assert bar.get_x() + bar.get_width() / 2 == pytest.approx(0)
    low, high = axes.get_xlim()
    assert high - low == pytest.approx(0.2)


def test_counts_are_whole_numbers(pictures):
    _, lower = pictures["reliability"][0].axes
    ticks = lower.get_yticks()
    assert (ticks == np.round(ticks)).all()


def test_pictures_show_every_window(pictures, market):
    _, truth, _, _, model = market
    first, _ = pictures["spans"][0].axes
    offsets = np.concatenate([dots.get_offsets() for dots in first.collections[1:]])
    assert sorted(map(tuple, offsets)) == sorted(zip(truth.spans[:, 0], model.spans[:, 0], strict=True))
    bars = pictures["null"][0].axes[0].patches
    assert sum(bar.get_height() for bar in bars[1:]) == 25


def test_pictures_of_nothing_are_refused(market):
    _, truth, _, _, model = market
    of_spans, of_classes = Predictions(spans=model.spans), Predictions(model.probabilities)
    for draw, message in [
        (lambda: reliability_diagram(truth, of_spans), "probabilities: are missing; only a model that"),
        (
            lambda: confusion_matrix(truth, of_spans),
            "probabilities: are missing; a confusion matrix needs a model",
        ),
        (
            lambda: spans_against_truth(truth, of_classes, K),
            "spans: are missing; give both true and predicted",
        ),
        (
            lambda: permutation_histogram(PermutationTest("span_iou", float("nan"), (float("nan"),), 1.0)),
            "null: has no span IoU to draw; give the permutation test of a score that exists",
        ),
    ]:
        with pytest.raises(ConfigError, match=re.escape(message)):
            draw()
