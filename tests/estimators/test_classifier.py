"""Jade as a scikit-learn classifier: its contract, what it learns, and what must not affect it."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import parallel_config
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
    train_test_split,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import moola
from moola import JadeClassifier
from moola.errors import ConfigError, FeatureMismatchError, MoolaError
from moola.models import FeatureIdentity, Jade, load_config, load_encoder, most_likely_spans
from moola.models.weights import Origin, save_weights
from moola.settings.models import Architecture, ModelConfig
from moola.validation.permutation import frozen

K = 24
QUICK: dict[str, Any] = {"hidden_size": 8, "epochs": 2, "lr": 1e-2, "augmentation": False}

# Each check that cannot hold, and why.
EXCEPTIONS = {
    "check_sample_weight_equivalence_on_dense_data": "training is by batches in a random order, and a window that "
    "stands there twice is in other batches than one of weight 2; that weight 0 leaves a window out is tested here",
}


@parametrize_with_checks(
    [JadeClassifier(hidden_size=16, epochs=5, lr=1e-2, augmentation=False)],
    expected_failed_checks=lambda _: EXCEPTIONS,
)
def test_the_classifier_passes_scikit_learns_checks(estimator: BaseEstimator, check: Any) -> None:
    check(estimator)


# Data


def ramps(seed: int, n: int = 174, *, bars: int = 60, anywhere: bool = False) -> tuple[np.ndarray, ...]:
    """Windows of four Gaussian features, and spans. Half of the windows hide a ramp of 8 bars in one feature;
    the spans are those of the ramps."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, bars, 4)).astype(np.float32)
    y = rng.permutation(np.arange(n) % 2)
    spans = np.full((n, 2), -1)
    for i in np.flatnonzero(y):
        first = rng.integers(0, bars - 7)
        X[i, first : first + 8, rng.integers(4) if anywhere else 0] += np.linspace(0.5, 3, 8)
        spans[i] = first, first + 7
    return X, y, spans


def small(n: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return ramps(seed, n, bars=K)


# Learning


@pytest.mark.parametrize("seed", [0, 1])
def test_a_ramp_among_noise_is_learned_from_174_windows(seed: int) -> None:
    X, y, _ = ramps(seed)
    classifier = JadeClassifier(hidden_size=16, epochs=25, lr=3e-3, seed=seed, augmentation=False)
    assert classifier.fit(X, y).score(*ramps(seed + 100, 1000)[:2]) > 0.87


@pytest.mark.long
@pytest.mark.parametrize(("anywhere", "least"), [(False, 0.87), (True, 0.7)])
@pytest.mark.parametrize("seed", [10, 11, 12])
def test_ramps_are_learned_over_folds(seed: int, anywhere: bool, least: float) -> None:
    """If the feature also differs between windows, 139 windows teach less about each feature."""
    X, y, _ = ramps(seed, anywhere=anywhere)
    classifier = JadeClassifier(hidden_size=16, epochs=25, lr=3e-3, seed=seed)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    assert cross_val_score(classifier, X, y, cv=folds).mean() > least


def test_a_span_is_predicted_only_for_classes_with_spans() -> None:
    rng = np.random.default_rng(0)
    X, y = 0.1 * rng.standard_normal((60, K, 2)).astype(np.float32), np.arange(60) % 2
    spans = np.full((60, 2), -1)
    for i in np.flatnonzero(y):
        first = rng.integers(0, K - 8)
        spans[i] = first, first + 7
        X[i, first : first + 8, 0] += 1
        X[i, first:, 1] += 1
    classifier = JadeClassifier(
        hidden_size=24,
        epochs=60,
        lr=1e-2,
        augmentation=False,
        settings=[f"model.architecture.{name}_dropout=0" for name in ("input", "recurrent", "dense")],
    )
    found = classifier.fit(X, y, spans=spans).predict_spans(X)
    assert found.dtype == np.int64
    assert (classifier.predict(X) == y).all()
    assert (found[y == 0] == -1).all()
    assert (np.abs(found - spans).max(axis=1) <= 3).mean() > 0.9
    assert ((found[y == 1] >= 0) & (found[y == 1] < K)).all()


def test_a_classifier_fitted_without_spans_predicts_none() -> None:
    X, y, _ = small()
    classifier = JadeClassifier(**QUICK).fit(X, y)
    assert (classifier.predict_spans(X) == -1).all()
    assert list(classifier.result_.epochs[0].losses) == ["type"]


def test_balanced_classes_weigh_the_same() -> None:
    """From windows without information about their class, a model learns the class frequencies."""
    X, y = np.random.default_rng(0).standard_normal((60, K, 2)), np.arange(60) % 5 == 0
    parameters = QUICK | {"hidden_size": 16, "epochs": 15}
    share = [
        JadeClassifier(**parameters, class_weight=weight).fit(X, y).predict_proba(X)[:, 1]
        for weight in (None, "balanced", {False: 60 / 2 / 48, True: 60 / 2 / 12})
    ]
    assert share[0].mean() == pytest.approx(0.2, abs=0.1)
    assert share[1].mean() == pytest.approx(0.5, abs=0.1)
    np.testing.assert_allclose(share[1], share[2], atol=1e-5)


# Invariances


def test_padding_that_the_mask_hides_changes_no_logit() -> None:
    X, y, spans = small()
    classifier = JadeClassifier(**QUICK).fit(X, y, spans=spans)
    padded = np.full((len(X), K + 9, 4), np.nan, np.float32)
    padded[:, 4 : 4 + K] = X
    mask = np.zeros(padded.shape[:2], np.bool_)
    mask[:, 4 : 4 + K] = True
    expected = classifier.predict_logits(X)
    np.testing.assert_allclose(classifier.predict_logits(padded, mask), expected, rtol=1e-5, atol=1e-6)
    other = np.where(mask[..., None], padded, 1e30)
    np.testing.assert_array_equal(
        classifier.predict_logits(padded, valid_mask=mask), classifier.predict_logits(other, valid_mask=mask)
    )
    # And the fit does not change either.
    one, two = (JadeClassifier(**QUICK).fit(windows, y, valid_mask=mask) for windows in (padded, other))
    np.testing.assert_array_equal(one.predict_logits(X), two.predict_logits(X))


@pytest.mark.parametrize("position", [False, True])
@pytest.mark.parametrize("span_head", [False, True])
def test_padding_moves_a_span_along_and_changes_nothing_else(position: bool, span_head: bool) -> None:
    X, y, spans = small()
    settings = [f"model.architecture.use_position={position}", f"model.architecture.span_head={span_head}"]
    # Dropout draws depend on the number of bars, including hidden ones.
    settings += [f"model.architecture.{name}_dropout=0" for name in ("input", "recurrent", "dense")]
    classifier = JadeClassifier(**QUICK, settings=settings).fit(X, y, spans=spans)
    expected = classifier.predict_spans(X)
    assert (expected >= 0).any()
    for before, after in ((0, 10), (10, 0), (3, 7)):
        padded = np.full((len(X), before + K + after, 4), np.nan, np.float32)
        padded[:, before : before + K] = X
        mask = np.isfinite(padded[..., 0])
        there = np.where(expected >= 0, expected + before, -1)
        assert np.array_equal(classifier.predict_spans(padded, mask), there)
        logits = classifier.predict_logits(padded, mask)
        np.testing.assert_allclose(logits, classifier.predict_logits(X), rtol=1e-5, atol=1e-6)
        # The fit on padded windows and their spans is the same as well.
        moved = np.where(spans >= 0, spans + before, -1)
        again = JadeClassifier(**QUICK, settings=settings).fit(padded, y, spans=moved, valid_mask=mask)
        np.testing.assert_allclose(
            again.predict_logits(X), classifier.predict_logits(X), rtol=1e-3, atol=1e-4
        )


def test_a_hidden_span_is_not_learned() -> None:
    X, y, spans = small()
    mask = np.ones(X.shape[:2], np.bool_)
    mask[:, :4] = False
    hidden = np.where(spans >= 0, [0, 3], -1)
    classifier = JadeClassifier(**QUICK).fit(X, y, spans=hidden, valid_mask=mask)
    assert list(classifier.result_.epochs[0].losses) == ["type"]
    shown = np.where(spans >= 0, [0, 4], -1)
    assert list(JadeClassifier(**QUICK).fit(X, y, spans=shown, valid_mask=mask).result_.epochs[0].losses) == [
        "type",
        "pointer",
    ]


def test_two_dimensions_are_one_feature() -> None:
    X, y, _ = small()
    flat, deep = JadeClassifier(**QUICK).fit(X[..., 0], y), JadeClassifier(**QUICK).fit(X[..., :1], y)
    np.testing.assert_array_equal(flat.predict_proba(X[..., 0]), deep.predict_proba(X[..., :1]))
    assert (flat.n_features_in_, deep.n_features_in_) == (K, 1)
    mask = np.ones((len(X), K), np.bool_)
    mask[:, :3] = False
    holes = np.where(mask, X[..., 0], np.nan)
    np.testing.assert_array_equal(flat.predict_proba(holes, mask), deep.predict_proba(X[..., :1], mask))


@pytest.mark.parametrize("masked", [False, True])
def test_columns_in_another_order_are_refused(masked: bool) -> None:
    X, y, _ = small()
    frame = pd.DataFrame(X[..., 0], columns=[f"bar{i}" for i in range(K)])
    mask = np.ones(frame.shape, np.bool_)
    mask[:, :3] = False
    more = {"valid_mask": mask} if masked else {}
    fitted = JadeClassifier(**QUICK).fit(frame, y, **more)
    assert fitted.feature_names_in_.tolist() == frame.columns.tolist()
    plain = JadeClassifier(**QUICK).fit(frame.to_numpy(), y, **more)
    np.testing.assert_array_equal(
        fitted.predict_logits(frame, **more), plain.predict_logits(X[..., 0], **more)
    )
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(frame[frame.columns[::-1]], **more)


def test_only_windows_of_three_dimensions_may_have_another_length() -> None:
    X, y, _ = small()
    deep = JadeClassifier(**QUICK).fit(X, y)
    assert deep.predict(X[:, :11]).shape == (len(X),)
    flat = JadeClassifier(**QUICK).fit(X[..., 0], y)
    with pytest.raises(ValueError, match="X has 11 features, but JadeClassifier is expecting 24 features"):
        flat.predict(X[:, :11, 0])
    assert flat.predict(X[:, :11, :1]).shape == (len(X),)
    with pytest.raises(ConfigError, match=r"X: has two dimensions, the model was fitted on three"):
        deep.predict(X[..., 0])


def test_weight_0_equals_leaving_a_window_out() -> None:
    X, y, spans = small(30)
    y = np.where(np.arange(30) < 3, 7, y)
    weight = np.where(np.arange(30) < 6, 0.0, 1.5)
    weighted = JadeClassifier(**QUICK).fit(X, y, spans=spans, sample_weight=weight)
    without = JadeClassifier(**QUICK).fit(X[6:], y[6:], spans=spans[6:])
    assert weighted.classes_.tolist() == [0, 1]
    np.testing.assert_array_equal(weighted.predict_logits(X), without.predict_logits(X))


def test_a_seed_fixes_every_bit_and_nothing_global_changes() -> None:
    X, y, spans = small()
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    numpy_state = np.random.get_state()
    quick = QUICK | {"augmentation": None}
    logits = [JadeClassifier(**quick, seed=seed).fit(X, y, spans).predict_logits(X) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(logits[0], logits[1])
    assert not np.array_equal(logits[0], logits[2])
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpy_state, strict=True))


# Use as an estimator


@pytest.mark.parametrize("labels", [np.array(["rise", "fall"]), np.array([True, False]), np.array([7, -2])])
def test_labels_may_be_of_any_type(labels: np.ndarray) -> None:
    X, y, _ = small()
    classifier = JadeClassifier(**QUICK).fit(X, labels[y])
    assert classifier.classes_.tolist() == sorted(labels.tolist())
    assert classifier.predict(X).dtype == labels.dtype
    assert set(classifier.predict(X)) <= set(labels.tolist())


def test_the_classifier_is_cloned_pickled_and_searched_over() -> None:
    X, y, _ = small()
    classifier = JadeClassifier(**QUICK, model="jade", settings=["training.finetune.weight_decay=0.01"])
    assert clone(classifier).get_params() == classifier.get_params()
    fitted = classifier.fit(X, y)
    assert fitted.model_.architecture.input_dropout == load_config("jade").model.architecture.input_dropout
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_logits(X), fitted.predict_logits(X))
    search = GridSearchCV(JadeClassifier(**QUICK), {"hidden_size": [4, 8]}, cv=2).fit(X, y)
    assert search.best_estimator_.model_.encoder.hidden_size == search.best_params_["hidden_size"]


def test_the_classifier_works_in_pipelines_and_cross_validation() -> None:
    X, y, _ = small()
    pipeline = make_pipeline(StandardScaler(), JadeClassifier(**QUICK))
    assert cross_val_score(pipeline, X[..., 0], y, cv=2).shape == (2,)


def test_parallel_folds_equal_sequential_folds() -> None:
    X, y, _ = small(60)
    threads, state = torch.get_num_threads(), torch.get_rng_state()

    def logits(jobs: int) -> list[np.ndarray]:
        with parallel_config(backend="threading", n_jobs=jobs):
            folds = cross_validate(JadeClassifier(**QUICK), X, y, cv=6, return_estimator=True)
        return [estimator.predict_logits(X) for estimator in folds["estimator"]]

    np.testing.assert_array_equal(logits(1), logits(3))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_an_inner_validation_chooses_the_epoch() -> None:
    X, y, spans = small(40)
    classifier = JadeClassifier(**QUICK | {"epochs": 4}, validation_fraction=0.25).fit(X, y, spans=spans)
    losses = [record.validation_loss for record in classifier.result_.epochs]
    assert classifier.result_.best_epoch == int(np.argmin(losses))
    X[np.isin(np.arange(40), [0, 1])] += 1
    assert JadeClassifier(**QUICK).fit(X, y).result_.epochs[0].validation_loss is None


def test_the_span_head_of_a_configuration_is_trained() -> None:
    X, y, spans = small()
    settings = ["model.architecture.span_head=true"]
    classifier = JadeClassifier(**QUICK, settings=settings).fit(X, y, spans=spans)
    assert list(classifier.result_.epochs[0].losses) == ["type", "pointer", "span"]
    with torch.no_grad():
        logits = classifier.model_(torch.from_numpy(X)).span_logits
    spans = classifier.predict_spans(X)
    there = spans[:, 0] >= 0
    assert there.any()
    assert np.array_equal(spans[there], most_likely_spans(logits).numpy()[there])


# Encoders


IDENTITY = FeatureIdentity("ohlc4", {"atr_period": 10}, ("open", "high", "low", "close"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    encoder = Jade(4, hidden_size=8).encoder
    origin = Origin("pretrain", ModelConfig(architecture=Architecture(hidden_size=8)), IDENTITY, K)
    tensors = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    save_weights(folder / "best.safetensors", tensors, origin.record())
    return folder


@pytest.mark.parametrize(
    ("freeze", "frozen"), [(None, False), ("always", True), ("none", False), (1, False), (2, True)]
)
def test_an_encoder_is_frozen_as_configured(run: Path, freeze: Any, frozen: bool) -> None:
    X, y, spans = small()
    classifier = JadeClassifier(**QUICK, encoder=run, features=IDENTITY, freeze=freeze)
    encoder = clone(classifier).fit(X, y, spans=spans).model_.encoder
    before = load_encoder(run).state_dict()
    unchanged = [torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items()]
    assert all(unchanged) == frozen
    assert encoder.origin.features == IDENTITY


def test_nothing_is_frozen_without_an_encoder() -> None:
    X, y, _ = small()
    result = JadeClassifier(**QUICK, freeze="always").fit(X, y).result_
    assert {record.frozen for record in result.epochs} == {0}


def test_a_loaded_encoder_equals_its_run(run: Path) -> None:
    X, y, _ = small()
    loaded, named = (JadeClassifier(**QUICK, encoder=given) for given in (load_encoder(run), run))
    logits = [classifier.fit(X, y).predict_logits(X) for classifier in (loaded, named, clone(loaded))]
    np.testing.assert_array_equal(logits[0], logits[1])
    np.testing.assert_array_equal(logits[0], logits[2])


def test_an_encoder_of_other_features_is_refused(run: Path) -> None:
    X, y, _ = small()
    others = FeatureIdentity("ohlc4", {"atr_period": 14}, IDENTITY.columns)
    with pytest.raises(
        FeatureMismatchError, match="X was built with atr_period 14, the weights were trained with"
    ):
        JadeClassifier(**QUICK, encoder=run, features=others).fit(X, y)
    with pytest.raises(ConfigError, match="encoder: was pre-trained on 4 features, the windows have 3"):
        JadeClassifier(**QUICK, encoder=run).fit(X[..., :3], y)
    with pytest.raises(ConfigError, match="hidden_size: is 64 in the model and 8 in the encoder"):
        JadeClassifier(encoder=run).fit(X, y)


# Kept columns


def test_kept_columns_are_scaled_by_the_training_windows() -> None:
    X, y, _ = small()
    X[..., 3] = 1e6 * (X[..., 3] + 7)
    valid = np.ones(X.shape[:2], np.bool_)
    valid[:, :3] = False
    classifier = JadeClassifier(**QUICK, kept_columns=1, validation_fraction=0.25)
    encoder = classifier.fit(X, y, valid_mask=valid).model_.encoder
    train, _ = train_test_split(np.arange(len(y)), test_size=0.25, random_state=0, stratify=y)
    bars = X[train, 3:, 3].astype(np.float64)
    assert encoder.shift.tolist() == pytest.approx([0, 0, 0, bars.mean()], rel=1e-6)
    assert encoder.scale.tolist() == pytest.approx([1, 1, 1, bars.std()], rel=1e-6)


def test_predictions_do_not_depend_on_the_unit_of_a_kept_column(run: Path) -> None:
    X, y, _ = small()
    other = X.copy()
    other[..., 3] = 1e3 * X[..., 3] + 2e3
    for classifier in (
        JadeClassifier(**QUICK, kept_columns=1),
        # Heads on a randomly initialised encoder.
        frozen(JadeClassifier(**QUICK, kept_columns=1), 4),
    ):
        said, again = (clone(classifier).fit(x, y).predict_proba(x) for x in (X, other))
        np.testing.assert_allclose(said, again, atol=1e-3)
        unscaled = clone(classifier).set_params(kept_columns=0).fit(other, y).predict_proba(other)
        assert np.abs(said - unscaled).max() > 0.01
    # A loaded encoder stays as it was trained.
    encoder = JadeClassifier(**QUICK, encoder=run, kept_columns=1).fit(X, y).model_.encoder
    assert not encoder.shift.any()


# Refusals


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"X": np.zeros((20, 0, 4))},
            "X: is of shape [20, 0, 4], without bars; give [n, K, D], at least one of each",
        ),
        (
            {"X": np.zeros((20, 0, 4)), "valid_mask": np.zeros((20, 0), bool)},
            "X: is of shape [20, 0, 4], without bars",
        ),
        ({"X": np.zeros((20, K, 0))}, f"X: is of shape [20, {K}, 0], without features; give [n, K, D]"),
        ({"X": np.zeros((20, 2, 2, 2))}, "X: has 4 dimensions; give [n, K, D], or [n, K] for one feature"),
        ({"y": np.zeros(20)}, "y: has one class, 0.0; give windows of at least two classes"),
        ({"y": np.arange(19) % 2}, "y: has 19 rows for 20 windows; give one for each"),
        (
            {"spans": np.zeros((20, 3), int)},
            "spans: is int64 of shape [20, 3]; give whole numbers of shape [20, 2]",
        ),
        ({"spans": np.zeros((20, 2))}, "spans: is float64 of shape [20, 2]; give whole numbers"),
        (
            {"spans": [[5, 4]] * 20},
            "spans: is 5 to 4 for window 0; give first and last bar, from 0 to 23, or −1",
        ),
        ({"spans": [[-1, -1]] * 19 + [[20, 24]]}, "spans: is 20 to 24 for window 19"),
        ({"spans": [[-1, 3]] * 20}, "spans: is -1 to 3 for window 0"),
        (
            {"valid_mask": np.ones((20, 3), bool)},
            "valid_mask: is bool of shape [20, 3]; give bool of shape [20, 24]",
        ),
        ({"valid_mask": np.ones((20, K))}, "valid_mask: is float64 of shape [20, 24]"),
        (
            {"valid_mask": np.zeros((20, K), bool)},
            "valid_mask: hides every bar of window 0; leave the window out",
        ),
        (
            {"sample_weight": np.zeros(20)},
            "sample_weight: is zero for all windows; give some a positive weight",
        ),
        ({"sample_weight": -np.ones(20)}, "sample_weight: is -1 for window 0; give weights of 0 or more"),
        ({"sample_weight": np.ones(3)}, "sample_weight: has 3 rows for 20 windows; give one for each"),
        (
            {"sample_weight": np.ones((20, 1))},
            "sample_weight: has 2 dimensions; give one number for each window, [n]",
        ),
    ],
)
def test_wrong_arguments_are_refused(change: dict[str, Any], words: str) -> None:
    X, y, _ = small()
    with pytest.raises(ConfigError, match=re.escape(words)):
        JadeClassifier(**QUICK).fit(**{"X": X, "y": y} | change)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"model": "jede"}, "model: 'jede' is neither a file nor one of jade, jade_compact"),
        ({"hidden_size": 1}, "model.architecture.hidden_size: input should be greater than or equal to 2"),
        ({"epochs": 0}, "training.finetune.epochs: input should be greater than or equal to 1"),
        ({"lr": -1.0}, "training.finetune.lr: input should be greater than 0"),
        ({"seed": -1}, "seed: -1 is out of range; give a whole number from 0"),
        ({"device": "abacus"}, "device: 'abacus' is not a device; give auto, cpu or cuda"),
        (
            {"settings": "a=b"},
            "settings: 'a=b' is not a list of strings; give each as 'training.finetune.weight_d",
        ),
        ({"settings": [3]}, "settings: [3] is not a list of strings"),
        ({"epochs": "3"}, "epochs: '3' is of type str; give a whole number"),
        ({"epochs": True}, "epochs: True is of type bool; give a whole number"),
        ({"epochs": 2.0}, "epochs: 2.0 is of type float; give a whole number"),
        ({"hidden_size": 8.5}, "hidden_size: 8.5 is of type float; give a whole number"),
        ({"batch_size": [4]}, "batch_size: [4] is of type list; give a whole number"),
        ({"lr": "1e-3"}, "lr: '1e-3' is of type str; give a number"),
        ({"augmentation": "no"}, "augmentation: 'no' is of type str; give True or False"),
        ({"augmentation": 0}, "augmentation: 0 is of type int; give True or False"),
        (
            {"class_weight": "foo"},
            "class_weight: 'foo' is not a class weight; give 'balanced' or a mapping of classes",
        ),
        (
            {"class_weight": [1, 2]},
            "class_weight: [1, 2] is not a class weight; give 'balanced' or a mapping",
        ),
        (
            {"validation_fraction": 2},
            "validation_fraction: 2 is not a share; give a number from 0 to less than 1",
        ),
        ({"validation_fraction": None}, "validation_fraction: None is of type NoneType; give a number"),
        ({"kept_columns": -1}, "kept_columns: -1 is out of range; give a whole number from 0"),
        ({"kept_columns": 5}, "kept_columns: is 5 of 4 features; give how many are kept columns"),
        ({"settings": ["training.finetune.leer=1"]}, "training.finetune.leer: there is no such parameter"),
    ],
)
def test_parameters_are_checked_by_fit(parameters: dict[str, Any], words: str) -> None:
    X, y, _ = small()
    classifier = JadeClassifier(**QUICK | parameters)
    with pytest.raises(MoolaError, match=re.escape(words)):
        classifier.fit(X, y)


def test_numpy_numbers_are_accepted() -> None:
    X, y, _ = small()
    parameters: dict[str, Any] = {"hidden_size": np.int64(8), "epochs": np.int32(2), "lr": np.float64(1e-2)}
    one = JadeClassifier(**parameters, augmentation=np.False_).fit(X, y)
    np.testing.assert_array_equal(one.predict_logits(X), JadeClassifier(**QUICK).fit(X, y).predict_logits(X))


def test_windows_of_other_features_are_refused() -> None:
    X, y, _ = small()
    classifier = JadeClassifier(**QUICK).fit(X, y)
    with pytest.raises(
        ConfigError, match="X: has 3 features, the model was fitted on 4; give the same features"
    ):
        classifier.predict(X[..., :3])


def test_the_error_without_torch_names_the_package() -> None:
    code = "import sys; sys.modules['torch'] = None; import moola; moola.JadeClassifier"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert "ImportError: models need torch, which is not installed here: `pip install" in result.stderr


def test_the_classifier_is_exported_by_moola() -> None:
    assert "JadeClassifier" in moola.__all__
