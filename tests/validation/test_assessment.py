"""Ensembles, calibration, dropout and the report on a cross-validated model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from validated import jade, of_market

import moola
from moola.errors import (
    ConfigError,
    RunError,
)
from moola.estimators import make_member
from moola.evaluation.calibration import TemperatureScaling
from moola.labels import LabelledWindows, together
from moola.runs.directory import SEEN_BARS, write_record
from moola.validation import (
    CrossValidation,
    assess,
    cross_validate,
    dropout_spread,
    ensemble,
    seen_windows,
)
from moola.validation.assessment import (
    baselines_of,
    dropout_sentence,
    kept_permutation_tests,
    temperature_of,
    write_assessment,
)
from moola.validation.ensembles import mean_spans
from moola.validation.permutation import (
    PermutationResult,
    permutation_test_of,
)

# One process makes what is made once per process.
pytestmark = pytest.mark.xdist_group("validation")


def test_an_ensemble_is_the_mean_of_models_that_have_not_seen_the_window(found: CrossValidation) -> None:
    both = ensemble(found)
    assert set(both.members) == {*found.members, "regression ensemble", "jade_compact ensemble"}
    one = both.members["regression ensemble"][0]
    p = [said.probabilities for said in found.predictions("regression")]
    assert np.allclose(one.predictions.probabilities, np.mean(p, axis=0))  # type: ignore[arg-type]
    for window in range(40):
        fitted = one.fitted_on[one.predictions.folds[window]]  # type: ignore[index]
        assert window not in fitted.windows
        own = [r.fitted_on[r.predictions.folds[window]] for r in found.members["regression"]]  # type: ignore[index]
        assert fitted == own[0] | own[1]
    evaluation = assess(both, "jade_compact ensemble")
    assert {"regression", "jade_compact", "mean span"} <= set(evaluation.differences)
    assert (
        "jade_compact ensemble is the mean of 2 models per window, and baselines and other members are single "
        "models, except regression ensemble: its gain over single models may be due to averaging only, and "
        "the folds are not paired"
    ) in evaluation.notes
    assert assess(both, "regression").notes == [
        "regression ensemble, jade_compact ensemble: the mean of 2 models per window, compared with single models of "
        "regression; its gain may be due to averaging only, and the folds are not paired"
    ]
    assert assess(found, "regression").notes == []
    assert set(evaluation.calibrated) == {"log_loss", "calibration_error"}


def test_calibrated_scores_use_temperatures_of_other_folds(found: CrossValidation) -> None:
    evaluation = assess(found, "regression")
    y, losses = found.truth.y, []
    for said in found.predictions("regression"):
        assert said.probabilities is not None
        assert said.folds is not None
        logits = np.log(said.probabilities)
        for fold in range(5):
            rest, mine = said.folds != fold, said.folds == fold
            p = TemperatureScaling().fit(logits[rest], y[rest]).probabilities(logits[mine])
            losses += (-np.log(p[np.arange(mine.sum()), y[mine]])).tolist()
    assert evaluation.calibrated["log_loss"].value == pytest.approx(np.mean(losses))


def test_spans_are_averaged() -> None:
    spans = [
        [[2, 9], [-1, -1], [4, 8], [1, 2]],
        [[3, 10], [-1, -1], [-1, -1], [3, 6]],
        [[30, 40], [5, 6], [6, 9], [2, 9]],
    ]
    assert mean_spans(np.array(spans)).tolist() == [[3, 10], [-1, -1], [5, 9], [2, 6]]  # type: ignore[arg-type]


def test_dropout_gives_a_spread(windows: LabelledWindows) -> None:
    classifier = jade().fit(windows.X, windows.y, valid_mask=windows.valid_mask)
    before = classifier.predict_proba(windows.X, windows.valid_mask)
    spreads = [
        dropout_spread(classifier, windows.X, windows.valid_mask, seed=seed, draws=5) for seed in (1, 1, 2)
    ]
    assert spreads[0].mean.shape == spreads[0].deviation.shape == (40, 2)
    assert (spreads[0].deviation > 0).all()
    assert np.array_equal(spreads[0].deviation, spreads[1].deviation)
    assert not np.array_equal(spreads[0].deviation, spreads[2].deviation)
    assert np.array_equal(classifier.predict_proba(windows.X, windows.valid_mask), before)
    with pytest.raises(ConfigError, match="draws: 1 is out of range; give a whole number from 2 to"):
        dropout_spread(classifier, windows.X, seed=0, draws=1)
    trees = make_member("trees").fit(windows.X, windows.y)
    with pytest.raises(
        ConfigError, match="classifier: has no dropout to draw from; give a network that was trained"
    ):
        dropout_spread(trees, windows.X, seed=0)


def test_windows_seen_by_an_encoder_are_found(market: Path, tmp_path: Path) -> None:
    windows = of_market(market)
    with moola.FeatureStore.open(market) as store:
        times = store.timestamps
    # Up to the first bar of the eleventh window.
    write_record(tmp_path / SEEN_BARS, {"SIM1": [[int(times[0]), int(times[windows.starts[10]])]]})
    seen = seen_windows(tmp_path, windows, market)
    assert seen.tolist() == [True] * 11 + [False] * 69
    assert np.array_equal(seen_windows(tmp_path / "best.safetensors", windows, market), seen)
    # Pre-cut windows may hold their own times.
    said: list[str] = []
    raw = replace(windows, store_id="", first_times=times[windows.starts])
    assert np.array_equal(seen_windows(tmp_path, raw, say=said.append), seen)
    assert not said
    assert not seen_windows(tmp_path, replace(raw, first_times=None), say=said.append).any()
    assert said == [
        "the times of these windows are unknown: the encoder may have been pre-trained on bars of any of these "
        "windows: treat all scores as scores of seen windows"
    ]
    unnamed = replace(raw, symbols=np.full(80, ""))
    assert not seen_windows(tmp_path, unnamed, say=said.append).any()
    assert said[1].startswith(
        "the encoder may have been pre-trained on bars of 22 of 80 windows, which count as unse"
    )
    # The longest of several lengths counts.
    shorter = replace(raw, first_times=raw.times)
    both = seen_windows(tmp_path, together(shorter, {"a": raw}))
    assert np.array_equal(both, seen)
    assert not np.array_equal(seen_windows(tmp_path, shorter), seen)
    with pytest.raises(
        ConfigError, match="store: is missing; it gives the windows' times, and so which the encoder"
    ):
        seen_windows(tmp_path, windows, None)
    with pytest.raises(RunError, match=r"there is no learned.json"):
        seen_windows(tmp_path / "none" / "best.safetensors", windows, market)


def test_an_assessment_is_written_and_drawn(found: CrossValidation, tmp_path: Path) -> None:
    tested = permutation_test_of(
        found, "regression", {"regression": make_member("regression")}, permutations=5
    )
    baselines = baselines_of(found, seed=0)
    assert len(baselines["majority class"]) == 2
    evaluations = {
        name: assess(found, name, baselines=baselines, tested=tested if name == "regression" else None)
        for name in found.members
    }
    paths = write_assessment(tmp_path, found, evaluations)
    assert sorted(path.name for path in paths) == [
        "evaluation.json",
        "jade_compact-confusion.png",
        "jade_compact-reliability.png",
        "jade_compact-spans.png",
        "regression-confusion.png",
        "regression-null-macro_f1.png",
        "regression-reliability.png",
    ]
    for path in paths[1:]:
        assert imread(path).std() > 0.01
    record = json.loads(paths[0].read_text())["models"]
    spread = record["jade_compact"]["mean_dropout_spread"]
    assert spread > 0
    assert dropout_sentence(found, "jade_compact") == (
        f"dropout: the probability of the predicted class varies by {spread:.3f} (standard deviation over 20 draws "
        "of dropout, mean over windows)"
    )
    assert dropout_sentence(found, "regression") is None
    assert record["regression"]["mean_dropout_spread"] is None
    assert record["regression"]["temperature"] == temperature_of(found, "regression")
    assert record["regression"]["differences"]["majority class"]["macro_f1"]["shown"]
    with pytest.raises(ConfigError, match="model: 'other' was not cross-validated here"):
        write_assessment(tmp_path, found, {"other": evaluations["regression"]})
    with pytest.raises(
        ConfigError, match="model: 'other' is not a member; give one of regression, jade_compact"
    ):
        assess(found, "other")


def test_results_of_other_models_are_kept(found: CrossValidation, tmp_path: Path) -> None:
    baselines = baselines_of(found, seed=0)
    estimators = {"regression": make_member("regression")}
    tested = permutation_test_of(found, "regression", estimators, permutations=3)
    png = tmp_path / "regression-null-macro_f1.png"
    path = tmp_path / "evaluation.json"

    def write(name: str, tested: PermutationResult | None) -> dict[str, Any]:
        write_assessment(tmp_path, found, {name: assess(found, name, baselines=baselines, tested=tested)})
        models: dict[str, Any] = json.loads(path.read_text())["models"]
        return models

    first = write("regression", tested)["regression"]
    both = write("jade_compact", None)
    assert both["regression"] == first
    assert list(both) == ["regression", "jade_compact"]
    # The shuffles can be read again, NaN included. They are gone if they are removed.
    kept = kept_permutation_tests(tmp_path, ["regression", "jade_compact", "other"])
    assert list(kept) == ["regression"]
    assert write("regression", kept["regression"])["regression"] == first
    assert png.exists()
    assert write("regression", None)["regression"]["null"] == {}
    assert not png.exists()
    assert kept_permutation_tests(tmp_path, ["regression"]) == {}
    assert kept_permutation_tests(tmp_path / "nowhere", ["regression"]) == {}


def test_models_with_similar_names_have_their_own_pictures(windows: LabelledWindows, tmp_path: Path) -> None:
    names = ["a b", "a-b", "A B"]
    members = {name: make_member("regression") for name in names}
    found = cross_validate(windows, members, folds=2)
    write_assessment(tmp_path, found, {name: assess(found, name, baselines={}) for name in names})
    drawn = sorted(path.name for path in tmp_path.glob("*-confusion.png"))
    assert drawn == ["A-B-3-confusion.png", "a-b-2-confusion.png", "a-b-confusion.png"]
    # Each keeps its own, regardless of which are evaluated.
    before = (tmp_path / "a-b-confusion.png").read_bytes()
    write_assessment(tmp_path, found, {"a-b": assess(found, "a-b", baselines={})})
    assert (tmp_path / "a-b-confusion.png").read_bytes() == before
