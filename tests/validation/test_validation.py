"""Cross-validation, ensembles and stacks: what is out of fold is, and what it is said to show, it shows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import delayed, parallel_config
from labelled import make_windows
from matplotlib.image import imread
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from typer.testing import CliRunner

import moola
from moola.cli import app
from moola.devices.ranks import in_order
from moola.errors import (
    ConfigError,
    LabelError,
    LeakError,
    MoolaError,
    RunError,
    SharedBarsError,
    SplitError,
    StaleStoreError,
)
from moola.estimators import make_member
from moola.evaluation import Predictions, Truth, out_of_fold, scores
from moola.evaluation.calibration import TemperatureScaling
from moola.evaluation.leaks import FittedOn, MemorisingProbe, assert_blind_to_test
from moola.evaluation.permutation import permute_groups
from moola.folds.shared_bars import assert_no_shared_bars
from moola.labels import LabelledWindows, read_labels, together
from moola.models import load_config
from moola.runs.directory import SEEN_BARS, write_record
from moola.runs.seen_bars import SeenBars
from moola.training.new_model import new_model
from moola.validation import (
    CrossValidation,
    MetaLearner,
    OutOfFold,
    assess,
    cross_validate,
    dropout_spread,
    ensemble,
    purged_folds,
    seen_windows,
    stack,
)
from moola.validation.assessment import (
    baselines_of,
    dropout_sentence,
    kept_permutation_tests,
    temperature_of,
    write_assessment,
)
from moola.validation.cross_validation import with_scratch
from moola.validation.ensembles import mean_spans
from moola.validation.permutation import (
    DEAR_PERMUTATIONS,
    PermutationResult,
    frozen,
    is_dear,
    permutation_test_of,
    permutation_tests,
)
from moola.validation.records import beside, relabelled, truth_of

# What a module makes once, one process makes.
pytestmark = pytest.mark.xdist_group("validation")

JADE: dict[str, Any] = {"hidden_size": 8, "epochs": 1, "augmentation": False, "device": "cpu"}


def jade(**others: Any) -> Any:
    return make_member("jade_compact", **JADE | others)


class Memoriser(ClassifierMixin, BaseEstimator):
    """Is sure of the label of a window that it was fitted on, and knows nothing of any other."""

    def fit(self, X: np.ndarray, y: np.ndarray, valid_mask: np.ndarray) -> Memoriser:
        self.classes_ = np.unique(y)
        self.known_ = {window.tobytes(): label for window, label in zip(X, y, strict=True)}
        return self

    def predict_proba(self, X: np.ndarray, valid_mask: np.ndarray) -> np.ndarray:
        known = [self.known_.get(window.tobytes()) for window in X]
        return np.array([[0.5, 0.5] if label is None else self.classes_ == label for label in known], float)


@pytest.fixture(scope="module")
def windows() -> LabelledWindows:
    return make_windows(40)


@pytest.fixture(scope="module")
def found(windows: LabelledWindows) -> CrossValidation:
    members = {"regression": make_member("regression"), "jade_compact": jade()}
    return cross_validate(windows, members, repeats=2, seed=1)


# Folds


@settings(max_examples=40, deadline=None)
@given(step=st.integers(3, 40), embargo=st.integers(0, 60), seed=st.integers(0, 99), data=st.data())
def test_no_fold_trains_on_bars_that_it_tests(
    step: int, embargo: int, seed: int, data: st.DataObject
) -> None:
    # Groups as import-labels would not give them: purging alone must do.
    windows = make_windows(60, bars=12, step=step)
    repeat = data.draw(st.integers(0, 5))
    try:
        folds = purged_folds(windows, 4, seed=seed, repeat=repeat, embargo=embargo)
    except SplitError:
        return
    assert np.array_equal(np.sort(np.concatenate([test for _, test in folds])), np.arange(60))
    for train, test in folds:
        assert_no_shared_bars(windows.starts, windows.ends, train, test)
        after = windows.starts[train][:, None] - windows.ends[test]
        assert not ((after > 0) & (after <= embargo)).any()
        # And no more is purged than that.
        near = (windows.starts[:, None] <= windows.ends[test] + embargo) & (
            windows.ends[:, None] >= windows.starts[test]
        )
        assert set(np.flatnonzero(~near.any(axis=1))) == set(train.tolist())


def test_folds_are_stratified_grouped_and_repeated() -> None:
    windows = make_windows(60, groups=np.repeat(np.arange(30), 2))
    repeats = [purged_folds(windows, 5, seed=3, repeat=repeat) for repeat in (0, 0, 1)]
    for train, test in repeats[0]:
        assert not set(windows.groups[train]) & set(windows.groups[test])
        assert abs(windows.y[test].mean() - 0.5) <= 0.2
    tests = [[test.tolist() for _, test in folds] for folds in repeats]
    assert tests[0] == tests[1] != tests[2]
    assert tests[0] != [test.tolist() for _, test in purged_folds(windows, 5, seed=4)]


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two symbols with bars at the same times."""
    folder = tmp_path_factory.mktemp("market")
    moola.make_bars(folder / "bars.parquet", 5_000, symbols=2)
    moola.build_features(folder / "bars.parquet", folder / "store", feature_set="ohlc4")
    return folder / "store"


def of_market(market: Path, **others: Any) -> LabelledWindows:
    """Forty windows of each symbol, at the same times."""
    with moola.FeatureStore.open(market) as store:
        first = next(segment.first_row for segment in store.segments if segment.symbol == "SIM2")
        starts = np.concatenate([300 + 40 * np.arange(40), first + 300 + 40 * np.arange(40)])
        fields: dict[str, Any] = {
            "store_id": store.id,
            "symbols": np.repeat(["SIM1", "SIM2"], 40),
            "starts": starts,
            "ends": starts + 23,
            "times": store.timestamps[starts + 23],
        }
    return make_windows(80, **fields | others)


def test_windows_of_several_symbols_are_purged_in_time(market: Path) -> None:
    windows = of_market(market)
    for train, test in purged_folds(windows, 5, seed=0, store=market, embargo=3):
        assert not np.isin(test % 40, train % 40).any()
        with moola.FeatureStore.open(market) as store:
            assert_no_shared_bars(windows.starts, windows.ends, train, test, times=store.timestamps)


def test_windows_of_several_symbols_at_one_time_are_one_group(market: Path, tmp_path: Path) -> None:
    """As folds, the bootstrap and the null have it, and as finetune has it."""
    with moola.FeatureStore.open(market) as store:
        first = next(segment.first_row for segment in store.segments if segment.symbol == "SIM2")
        times = store.timestamps
        rows = 300 + 60 * np.arange(30)
        rows = np.concatenate([rows, first + rows + 7])
        labels = pa.table({"window_end": rows, "class": ["a", "b"] * 30})
        windows = read_labels(labels, store, window_length=24)
        apart = (times[windows.ends[:30]] - times[windows.ends[30:]]) // 60_000_000_000
        assert (np.abs(apart) < 24).all(), "this market has both symbols at the same times"
    assert windows.groups.tolist() == [*range(30), *range(30)]
    assert "overlap: 60 windows share bars, or their times, with others, in 30 groups" in "\n".join(
        windows.report()
    )
    members = {"one": make_member("regression"), "two": make_member("regression")}
    for found in (
        cross_validate(windows, members, store=market),
        stack(windows, members, inner_folds=3, store=market),
    ):
        assert found.truth.n_groups == 30
        for train, test in found.splits[0]:
            assert not set(train % 30) & set(test % 30)
    assert CrossValidation.load(found.save(tmp_path / "kept")).truth.n_groups == 30
    order = permute_groups(found.truth.groups, np.random.default_rng(0))
    assert (order[:30] == order[30:] - 30).all()


@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [
        (make_windows, {"folds": 1}, ConfigError, "folds: 1 is not a number of folds; give 2 or more"),
        (
            lambda: make_windows(8),
            {},
            LabelError,
            "2 classes",
        ),
        (
            lambda: make_windows(groups=np.arange(40) // 10),
            {},
            ConfigError,
            "folds: 5 are more than the 4 groups of windows that share bars or their times; give 4 or fewer",
        ),
        (
            lambda: make_windows(bars=24, step=2),
            {"embargo": 100},
            SplitError,
            "fold 1 of 5 has no window of class 'none' to train on: windows that share bars stay together, and those "
            "near what is tested are purged. Give more windows of this class from other days, fewer folds, or a "
            "smaller embargo",
        ),
        (
            lambda: make_windows(of_store=False),
            {"embargo": 1},
            ConfigError,
            "embargo: needs the places of windows, and these were cut beforehand; give 0",
        ),
        (
            lambda: make_windows(of_store=False),
            {"store": "store"},
            ConfigError,
            "store: cannot be combined with pre-cut windows; leave it out",
        ),
        (
            lambda: make_windows(symbols=np.array(["A", "B"] * 20)),
            {},
            ConfigError,
            "store: is missing; windows of 2 symbols can only be compared in time, so give the store that was labelled",
        ),
    ],
)
def test_folds_that_cannot_be(
    make: Callable[[], LabelledWindows], options: dict[str, Any], error: type[MoolaError], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        purged_folds(make(), **{"folds": 5, "seed": 0} | options)


def test_another_store_is_refused(market: Path) -> None:
    with pytest.raises(StaleStoreError):
        purged_folds(make_windows(), seed=0, store=market)
    with pytest.raises(ConfigError, match=r"^store: is not the one that was labelled; give that, or import"):
        purged_folds(make_windows(), seed=0, store=moola.FeatureStore.open(market))


# Out of fold


def test_a_model_that_remembers_recognises_nothing(windows: LabelledWindows) -> None:
    found = cross_validate(windows, {"memory": Memoriser()}, repeats=2)
    for said in found.predictions("memory"):
        assert said.probabilities is not None
        assert (said.probabilities == 0.5).all()


def test_a_stack_learns_that_who_remembers_knows_nothing(windows: LabelledWindows) -> None:
    members = {"memory": Memoriser(), "regression": make_member("regression")}
    found = stack(windows, members, folds=4, inner_folds=3, seed=2)
    memory, stacked, alone = (found.predictions(name)[0] for name in ("memory", "stack", "regression"))
    assert memory.probabilities is not None
    assert stacked.probabilities is not None
    assert alone.probabilities is not None
    assert (memory.probabilities == 0.5).all()
    # What remembers would be trusted alone, had it been asked within the fold.
    order = np.argsort(alone.probabilities[:, 1])
    assert np.corrcoef(stacked.probabilities[order, 1], np.arange(40))[0, 1] > 0.7


def test_a_stack_is_blind_to_what_it_tests(windows: LabelledWindows) -> None:
    members = {"trees": make_member("trees", trees=5), "regression": make_member("regression")}

    def fit_predict(X: np.ndarray, truth: Truth, train: np.ndarray, test: np.ndarray) -> Predictions:
        changed = replace(relabelled(windows, truth), X=X)
        splits = [[(train, test), (test, train)]]
        said = stack(changed, members, inner_folds=3, splits=splits).predictions("stack")[0]
        return said.take(test)

    numbers = np.arange(40)
    assert_blind_to_test(fit_predict, windows.X, truth_of(windows), numbers[:26], numbers[26:], seed=0)


def test_the_same_seed_gives_the_same_bits_in_any_number_of_processes(windows: LabelledWindows) -> None:
    members = {
        "jade_compact": jade(),
        "convolution": make_member("convolution", channels=4, blocks=2, epochs=2),
        "trees": make_member("trees", trees=5),
    }
    one, two = (cross_validate(windows, members, folds=3, seed=5, n_jobs=jobs) for jobs in (1, 2))
    for name in members:
        mine, theirs = one.members[name][0], two.members[name][0]
        assert np.array_equal(mine.predictions.probabilities, theirs.predictions.probabilities)
        assert np.array_equal(mine.predictions.folds, theirs.predictions.folds)
        assert (mine.spread is None) == (name == "trees")
        if mine.spread is not None:
            assert np.array_equal(mine.spread, theirs.spread)
            assert (mine.spread > 0).all()


# Python from 3.12 on warns of every fork beside threads.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("backend", ["threading", "multiprocessing"])
def test_backends_of_joblib_give_the_same_bits_and_report(windows: LabelledWindows, backend: str) -> None:
    members = {"jade_compact": jade(), "regression": make_member("regression")}
    here = cross_validate(windows, members, folds=2, seed=5)
    told: list[tuple[int, int]] = []
    with parallel_config(backend=backend, n_jobs=2):
        there = cross_validate(windows, members, folds=2, seed=5, report=lambda *done: told.append(done))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for name in members:
        mine, theirs = here.predictions(name)[0], there.predictions(name)[0]
        assert np.array_equal(mine.probabilities, theirs.probabilities)


def test_results_come_one_by_one_where_the_backend_can() -> None:
    events: list[str] = []
    with parallel_config(backend="threading", n_jobs=1):
        for result in in_order((delayed(events.append)(f"made {i}") for i in range(2)), None):
            events.append(f"taken {result}")
    assert events == ["made 0", "taken None", "made 1", "taken None"]


def test_repeats_have_other_folds_and_seeds(found: CrossValidation) -> None:
    one, two = found.members["jade_compact"]
    assert not np.array_equal(one.predictions.folds, two.predictions.folds)
    assert not np.allclose(one.predictions.probabilities, two.predictions.probabilities)
    logits = one.logits
    assert logits is not None
    assert np.allclose(np.exp(logits), one.predictions.probabilities)


def test_predictions_within_the_fold_are_refused(windows: LabelledWindows) -> None:
    p, folds = np.full((4, 2), 0.5), [0, 0, 1, 1]
    good = [FittedOn([2, 3]), FittedOn([0, 1])]
    out = OutOfFold(Predictions(p, folds=folds), tuple(good))
    with pytest.raises(
        LeakError, match="the model of fold 1 was fitted on windows that it is scored on: 1 window, 2"
    ):
        OutOfFold(Predictions(p, folds=folds), (good[0], FittedOn([0, 1, 2])))
    with pytest.raises(
        ConfigError, match="predictions: lack their folds, so it is unknown whether they are out of fold"
    ):
        OutOfFold(Predictions(p), tuple(good))
    y = np.array([0, 1, 0, 1])
    MetaLearner().fit({"one": out}, y)
    with pytest.raises(LeakError, match="under a stack that is tested on them, was fitted on windows"):
        MetaLearner().fit({"one": out}, y, outer_test=[0])


def test_splits_that_leak_are_refused(windows: LabelledWindows) -> None:
    numbers = np.arange(40)
    mixed = [[(numbers, numbers[:20]), (numbers[:20], numbers[20:])]]
    for run in (cross_validate, stack):
        members = {"a": make_member("regression"), "b": make_member("trees")}
        with pytest.raises(LeakError, match="fold 0 trains on windows of groups that it tests"):
            run(windows, members, splits=mixed)


def test_other_features_of_the_same_windows(windows: LabelledWindows) -> None:
    silent = replace(windows, X=np.zeros_like(windows.X))
    members = {"sees": make_member("regression"), "blind": make_member("regression")}
    found = cross_validate(windows, members, other_windows={"blind": silent})
    sees, blind = (found.predictions(name)[0].probabilities for name in members)
    assert sees is not None
    assert blind is not None
    assert np.ptp(blind[:, 1]) < 0.2 < np.ptp(sees[:, 1])


class Recogniser(MemorisingProbe):
    """Fails where it is asked about a window that shares bars with one that it was fitted on."""

    def predict_proba(self, X: np.ndarray, valid_mask: np.ndarray | None = None) -> np.ndarray:
        known = self.recognises(X, valid_mask)
        assert not known.any(), f"recognises {known.sum()} of {len(known)}"
        return super().predict_proba(X, valid_mask)


def of_lengths(market: Path, *lengths: int) -> list[LabelledWindows]:
    """Threes of labels 40 bars apart, of one symbol: windows of 30 bars share none, those of 105 do."""
    ends = 300 + (220 * np.arange(20)[:, None] + [0, 40, 80]).ravel()
    labels = pa.table({"window_end": ends, "class": np.random.default_rng(0).permutation(["a", "b"] * 30)})
    return [read_labels(labels, market, window_length=length) for length in lengths]


@pytest.mark.parametrize("run", [cross_validate, stack])
@pytest.mark.parametrize("own_groups", [True, False])
def test_longer_windows_of_a_member_are_kept_apart_too(
    market: Path, run: Callable[..., CrossValidation], own_groups: bool
) -> None:
    short, long = of_lengths(market, 30, 105)
    assert len(np.unique(short.groups)) == 60
    if not own_groups:
        # As hand-made windows could have them: purging alone must do.
        long = replace(long, groups=short.groups)
    members = {"short": make_member("regression"), "long": Recogniser()}
    found = run(short, members, folds=4, other_windows={"long": long}, seed=3)
    for train, test in found.splits[0]:
        assert_no_shared_bars(long.starts, long.ends, train, test)
    assert found.truth.n_groups == (20 if own_groups else 60)
    assert np.array_equal(found.windows.label_starts, long.starts)
    assert np.array_equal(found.windows.starts, short.starts)


@pytest.mark.parametrize("run", [cross_validate, stack])
def test_splits_that_leak_to_longer_windows_are_refused(
    market: Path, run: Callable[..., CrossValidation]
) -> None:
    short, long = of_lengths(market, 30, 105)
    splits = [purged_folds(short, 4, seed=3)]
    members = {"short": make_member("regression"), "long": Recogniser()}
    run(short, {"short": members["short"], "again": members["short"]}, splits=splits)
    with pytest.raises(LeakError, match="fold 0 trains on windows of groups that it tests"):
        run(short, members, splits=splits, other_windows={"long": long})
    long = replace(long, groups=short.groups)
    with pytest.raises(SharedBarsError, match="share bars"):
        run(short, members, splits=splits, other_windows={"long": long})


def test_longer_windows_count_for_embargoes_and_what_an_encoder_has_seen(
    market: Path, tmp_path: Path
) -> None:
    short, long = of_lengths(market, 30, 105)
    both = together(short, {"a": long})
    for train, test in purged_folds(both, 4, seed=0, embargo=200):
        after = long.starts[train][:, None] - long.ends[test]
        assert not ((after > 0) & (after <= 200)).any()
    times = moola.FeatureStore.open(market).timestamps
    # Bars before the first short window, which its long one has and that of the second label.
    learned = SeenBars({"SIM1": [(int(times[long.starts[0]]), int(times[short.starts[0] - 1]))]})
    write_record(tmp_path / SEEN_BARS, learned.record())
    assert not seen_windows(tmp_path, short, market).any()
    assert np.flatnonzero(seen_windows(tmp_path, both, market)).tolist() == [0, 1]
    both.save(tmp_path / "both.safetensors")
    assert LabelledWindows.load(tmp_path / "both.safetensors").reach == 105
    # Those of which the longest is the own are as they were.
    assert together(long, {"a": short}).reach is None


def test_windows_that_were_cut_beforehand_are_kept_apart_by_the_groups_of_all() -> None:
    windows = make_windows(of_store=False)
    pairs = replace(windows, groups=np.arange(40) // 2)
    members = {"one": make_member("regression"), "two": make_member("regression")}
    found = cross_validate(windows, members, other_windows={"two": pairs})
    for train, test in found.splits[0]:
        assert not set(train // 2) & set(test // 2)


def test_features_of_another_store_of_the_same_bars(market: Path) -> None:
    moola.build_features(market.parent / "bars.parquet", market.parent / "other", feature_set="relativity10")
    labels = pa.table({"window_end": 300 + 40 * np.arange(60), "class": ["a", "b"] * 30})
    one, other = (
        read_labels(labels, store, window_length=length)
        for store, length in ((market, 30), (market.parent / "other", 50))
    )
    assert one.store_id != other.store_id
    assert together(one, {"a": other}).reach == 50
    with pytest.raises(ConfigError, match="folds: 5 are more than the 1 groups of windows that share bars"):
        cross_validate(one, {"a": Memoriser()}, other_windows={"a": other})


def test_an_encoder_stands_beside_scratch(windows: LabelledWindows) -> None:
    config = load_config("jade_compact", ["model.architecture.hidden_size=8"])
    encoder = new_model(config.model, 2, seed=9).encoder
    seen = np.arange(40) < 10
    found = cross_validate(windows, {"jade": jade(encoder=encoder)}, folds=2, seen=seen)
    assert list(found.members) == ["jade", "jade from scratch"]
    evaluation = assess(found, "jade")
    assert "jade from scratch" in evaluation.differences
    assert {name: apart.windows for name, apart in evaluation.apart.items()} == {"unseen": 30, "seen": 10}


def test_a_stack_with_an_encoder_stands_beside_scratch(windows: LabelledWindows) -> None:
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
    # Shuffles cost the members' fits, and none of the twin, which is a model of its own.
    told: list[str] = []
    everyone, _ = with_scratch(members, None)
    permutation_tests(found, ["stack"], everyone, permutations=1, report=told.append)
    assert told == ["shuffling labels for stack: 1 times, 24 fits"]


class NoEstimator:
    pass


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda w: cross_validate(w, {}), "members: is empty; give at least one model"),
        (
            lambda w: cross_validate(w, {"a": NoEstimator()}),
            "members: a is no estimator of scikit-learn's manner; give one",
        ),
        (
            lambda w: cross_validate(w, {"a": Memoriser()}, other_windows={"b": w}),
            "other_windows: has 'b', which is no member; give a member's name",
        ),
        (
            lambda w: cross_validate(w, {"a": Memoriser()}, other_windows={"a": make_windows(seed=1)}),
            "other_windows: of a are not the same windows with the same labels; import one file of labels with each",
        ),
        (
            lambda w: cross_validate(
                w, {"a": Memoriser()}, other_windows={"a": replace(w, window_length=20, spans=w.spans - 4)}
            ),
            "other_windows: of a have 20 bars and the others 24, so that spans are counted from different bars; import "
            "both with the same --window-length",
        ),
        (
            lambda w: cross_validate(w, {"a": Memoriser()}, other_windows={"a": replace(w, store_id="")}),
            "other_windows: of a mixes windows of a store with windows that were cut beforehand, whose shared bars are "
            "unknown; import both by reference to a store, or both raw",
        ),
        (
            lambda w: cross_validate(w, {"a": Memoriser()}, other_windows={"a": replace(w, ends=w.ends + 1)}),
            "other_windows: of a end at other rows: their store holds other bars, and which they share cannot be "
            "counted; build both stores of the same bars",
        ),
        *(
            (
                lambda w, run=run: run(replace(w, y=w.y * 0), {"a": Memoriser(), "b": Memoriser()}),
                "labels: 'none' is the only class; label windows of at least two, such as none",
            )
            for run in (cross_validate, stack)
        ),
        (
            lambda w: stack(w, {"a": Memoriser()}),
            "members: are 1, which leaves nothing to stack; give two or more",
        ),
        (
            lambda w: stack(w, {"a": Memoriser(), "stack": Memoriser()}),
            "members: has one called 'stack', as the stack itself is; call it otherwise",
        ),
        (
            lambda w: ensemble(cross_validate(w, {"a": Memoriser()})),
            "repeats: is 1, which leaves nothing to average; cross-validate with --repeats 2 or more",
        ),
    ],
)
def test_asked_wrongly(windows: LabelledWindows, run: Callable[[Any], object], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        run(windows)


def test_a_meta_learner_asked_wrongly() -> None:
    folds, fitted = [0, 0, 1, 1], (FittedOn([2, 3]), FittedOn([0, 1]))
    y = np.array([0, 1, 0, 1])
    p = OutOfFold(Predictions(np.full((4, 2), 0.5), folds=folds), fitted)
    points = OutOfFold(Predictions(spans=[[0, 1]] * 4, folds=folds), fitted)
    with pytest.raises(
        ConfigError, match="members: two gives no probabilities, so it cannot be stacked; leave it out"
    ):
        MetaLearner().fit({"one": p, "two": points}, y)
    with pytest.raises(ConfigError, match="members: have predicted 4 windows, not 3; give those of y"):
        MetaLearner().fit({"one": p}, y[:3])
    with pytest.raises(
        ConfigError, match="members: lack one, which the stack was fitted on; give all of its members"
    ):
        MetaLearner().fit({"one": p}, y).predict_proba({})


# Kept


def test_what_is_kept_is_what_there_was(found: CrossValidation, tmp_path: Path) -> None:
    directory = found.save(tmp_path / "cv")
    again = CrossValidation.load(directory)
    assert again.settings == found.settings
    for name, several in found.members.items():
        for one, other in zip(several, again.members[name], strict=True):
            assert np.array_equal(one.predictions.probabilities, other.predictions.probabilities)
            assert one.fitted_on == other.fitted_on
            for mine, theirs in (
                (one.predictions.spans, other.predictions.spans),
                (one.spread, other.spread),
            ):
                assert np.array_equal(mine, theirs) if mine is not None else theirs is None
    table = pq.read_table(directory / "predictions.parquet")
    assert table.num_rows == 2 * 2 * 40
    row = table.slice(41, 1).to_pylist()[0]
    assert (row["model"], row["repeat"], row["window"], row["symbol"]) == ("regression", 1, 1, "ES")
    assert row["class"] == found.windows.classes[found.windows.y[1]]
    assert row["window_end"].value if hasattr(row["window_end"], "value") else row["window_end"]
    with pytest.raises(RunError, match=r"something stands there already. Choose another --output"):
        found.save(directory)
    with pytest.raises(RunError, match=r"is not a directory. Choose another --output"):
        found.save(directory / "predictions.parquet")


def test_a_directory_that_is_none_or_damaged(found: CrossValidation, tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"is no cross-validation: there is no cross_validation.json. Give the directory"
    ):
        CrossValidation.load(tmp_path)
    directory = found.save(tmp_path / "cv")
    path = directory / "cross_validation.json"
    record = json.loads(path.read_text())

    def load_with(**changes: Any) -> None:
        path.write_text(json.dumps(record | changes))
        CrossValidation.load(directory)

    load_with()
    with pytest.raises(RunError, match=r"is of format 9, not 1. Make it again"):
        load_with(format_version=9)
    with pytest.raises(RunError, match=r"is damaged: .*Restore it from a copy, or make it again"):
        load_with(members={"another": record["members"]["regression"]})
    # What claims another provenance than it had.
    known = FittedOn(np.arange(40)).record()
    with pytest.raises(LeakError, match="the model of fold 0 was fitted on windows that it is scored on"):
        load_with(members={"regression": [{"fitted_on": [known] * 5, "seconds": 1.0}] * 2})


# Ensembles


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
        "jade_compact ensemble is the mean of 2 models a window, and baselines and members beside it are single "
        "models; of as many, only regression ensemble: what it gains over single ones may be the averaging alone, and "
        "the folds are not paired"
    ) in evaluation.notes
    assert assess(both, "regression").notes == [
        "regression ensemble, jade_compact ensemble: the mean of 2 models a window, beside the single ones of "
        "regression; what they gain may be the averaging alone, and the folds are not paired"
    ]
    assert assess(found, "regression").notes == []
    assert set(evaluation.calibrated) == {"log_loss", "calibration_error"}


def test_what_calibration_makes_of_a_model_is_of_other_folds(found: CrossValidation) -> None:
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


def test_mean_spans() -> None:
    spans = [
        [[2, 9], [-1, -1], [4, 8], [1, 2]],
        [[3, 10], [-1, -1], [-1, -1], [3, 6]],
        [[30, 40], [5, 6], [6, 9], [2, 9]],
    ]
    assert mean_spans(np.array(spans)).tolist() == [[3, 10], [-1, -1], [5, 9], [2, 6]]  # type: ignore[arg-type]


# Doubt


def test_dropout_spread(windows: LabelledWindows) -> None:
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


def test_windows_that_an_encoder_has_seen(market: Path, tmp_path: Path) -> None:
    windows = of_market(market)
    with moola.FeatureStore.open(market) as store:
        times = store.timestamps
    # Up to the first bar of the eleventh window.
    write_record(tmp_path / SEEN_BARS, {"SIM1": [[int(times[0]), int(times[windows.starts[10]])]]})
    seen = seen_windows(tmp_path, windows, market)
    assert seen.tolist() == [True] * 11 + [False] * 69
    assert np.array_equal(seen_windows(tmp_path / "best.safetensors", windows, market), seen)
    # Windows that were cut beforehand may hold their own times.
    said: list[str] = []
    raw = replace(windows, store_id="", first_times=times[windows.starts])
    assert np.array_equal(seen_windows(tmp_path, raw, say=said.append), seen)
    assert not said
    assert not seen_windows(tmp_path, replace(raw, first_times=None), say=said.append).any()
    assert said == [
        "the places of these windows are unknown: the encoder may have been pre-trained on bars of any of these "
        "windows: take all scores for those of windows that were seen"
    ]
    unnamed = replace(raw, symbols=np.full(80, ""))
    assert not seen_windows(tmp_path, unnamed, say=said.append).any()
    assert said[1].startswith(
        "the encoder may have been pre-trained on bars of 22 of 80 windows, which count as unse"
    )
    # Of several lengths, the longest counts.
    shorter = replace(raw, first_times=raw.times)
    both = seen_windows(tmp_path, together(shorter, {"a": raw}))
    assert np.array_equal(both, seen)
    assert not np.array_equal(seen_windows(tmp_path, shorter), seen)
    with pytest.raises(
        ConfigError, match="store: is missing; it says when windows begin, and so which the encoder"
    ):
        seen_windows(tmp_path, windows, None)
    with pytest.raises(RunError, match=r"there is no learned.json"):
        seen_windows(tmp_path / "none" / "best.safetensors", windows, market)


# Luck


def test_luck_of_a_cheap_model_and_of_a_network(found: CrossValidation) -> None:
    estimators = {"regression": make_member("regression"), "jade_compact": jade()}
    cheap = permutation_test_of(found, "regression", estimators, permutations=19, seed=1)
    own = assess(found, "regression", tested=cheap)
    assert cheap.permutation["macro_f1"].p_value == 1 / 20
    assert len(cheap.permutation["macro_f1"].scores) == 19
    assert re.fullmatch(
        r"chance is what regression gives, as the mean over 2 repeats, cross-validated with 19 shuffles of the labels: "
        r"200 fits in \d+ s",
        cheap.note,
    )
    assert cheap.note in own.sentences()
    # The number that p belongs to is the one that stands beside it.
    assert cheap.permutation["macro_f1"].value == pytest.approx(own.scores["macro_f1"].value)
    assert own.columns[:5] == ["", "regression", "over 2 repeats", "chance", "p"]

    dear = permutation_test_of(found, "jade_compact", estimators, permutations=2)
    assert re.fullmatch(
        r"chance and p are of jade_compact with heads alone on frozen embeddings, as the mean over 2 repeats, which is "
        r"another model than the one scored here: it is set among its own scores with shuffled labels \(networks "
        r"trained whole cost more: --whole\). Cross-validated with 2 shuffles of the labels: 30 fits in \d+ s",
        dear.note,
    )
    with pytest.raises(
        ConfigError, match="estimators: lacks regression; give the model that was cross-validated"
    ):
        permutation_test_of(found, "regression", {})


def test_heads_alone_are_set_among_heads_alone(found: CrossValidation) -> None:
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
    # Whoever reads the table, a sentence or the record is told, and has both numbers.
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


def test_labels_that_say_nothing_are_not_called_better_than_luck(windows: LabelledWindows) -> None:
    order = np.random.default_rng(1).permutation(40)
    shuffled = replace(windows, y=windows.y[order], spans=windows.spans[order])
    estimators = {
        "jade_compact": make_member("jade_compact", hidden_size=8, epochs=8, lr=3e-3, seed=1, device="cpu")
    }
    found = cross_validate(shuffled, estimators, folds=2, seed=1)
    tested = permutation_test_of(found, "jade_compact", estimators, permutations=19, seed=1)
    # The whole network is better than all that heads alone make of 19 shuffles: it is another model, and no more.
    whole = _first(found, "jade_compact")
    assert any(
        replace(permutation, value=whole[name]).p_value == 1 / 20
        for name, permutation in tested.permutation.items()
    )
    for name in ("macro_f1", "balanced_accuracy", "log_loss", "span_iou"):
        assert tested.permutation[name].p_value > 0.05
        assert "not shown to be better than with shuffled labels" in str(tested.permutation[name])


def test_an_ensemble_has_a_null_of_its_own(found: CrossValidation) -> None:
    both = ensemble(found)
    estimators = {"regression": make_member("regression")}
    told: list[str] = []
    names = ["regression", "regression ensemble"]
    results = permutation_tests(both, names, estimators, permutations=4, report=told.append)
    assert told == ["shuffling labels for regression and regression ensemble: 4 times, 50 fits"]
    for name in names:
        evaluation = assess(both, name, tested=results[name])
        for metric in ("macro_f1", "log_loss"):
            permutation = results[name].permutation[metric]
            assert permutation.value == pytest.approx(evaluation.scores[metric].value)
            assert len(permutation.scores) == 4
    assert (
        results[names[0]].permutation["log_loss"].scores != results[names[1]].permutation["log_loss"].scores
    )
    # Of the mean, on the same shuffle, by whoever does it.
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


def test_luck_of_a_stack(windows: LabelledWindows) -> None:
    members = {"trees": make_member("trees", trees=5), "regression": make_member("regression")}
    found = stack(windows, members, folds=2, inner_folds=2)
    tested = permutation_test_of(found, "stack", members, permutations=3)
    assert tested.permutation["macro_f1"].value == _first(found, "stack")["macro_f1"]
    assert "3 shuffles of the labels: 48 fits" in tested.note


def test_frozen_embeddings_are_of_the_encoder_that_there_is(windows: LabelledWindows) -> None:
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


# The report


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
        f"dropout: the probability of the class that it says varies by {spread:.3f} (standard deviation over 20 draws "
        "of its units, mean over windows)"
    )
    assert dropout_sentence(found, "regression") is None
    assert record["regression"]["mean_dropout_spread"] is None
    assert record["regression"]["temperature"] == temperature_of(found, "regression")
    assert record["regression"]["differences"]["majority class"]["macro_f1"]["shown"]
    with pytest.raises(ConfigError, match="model: 'other' was not cross-validated here"):
        write_assessment(tmp_path, found, {"other": evaluations["regression"]})
    with pytest.raises(
        ConfigError, match="model: 'other' is not among them; give one of regression, jade_compact"
    ):
        assess(found, "other")


def test_what_was_found_of_other_models_stays(found: CrossValidation, tmp_path: Path) -> None:
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
    # What was shuffled can be read again, with what is no number; and is no more where it is taken away.
    kept = kept_permutation_tests(tmp_path, ["regression", "jade_compact", "other"])
    assert list(kept) == ["regression"]
    assert write("regression", kept["regression"])["regression"] == first
    assert png.exists()
    assert write("regression", None)["regression"]["null"] == {}
    assert not png.exists()
    assert kept_permutation_tests(tmp_path, ["regression"]) == {}
    assert kept_permutation_tests(tmp_path / "nowhere", ["regression"]) == {}


def test_models_of_like_names_have_pictures_of_their_own(windows: LabelledWindows, tmp_path: Path) -> None:
    names = ["a b", "a-b", "A B"]
    members = {name: make_member("regression") for name in names}
    found = cross_validate(windows, members, folds=2)
    write_assessment(tmp_path, found, {name: assess(found, name, baselines={}) for name in names})
    drawn = sorted(path.name for path in tmp_path.glob("*-confusion.png"))
    assert drawn == ["A-B-3-confusion.png", "a-b-2-confusion.png", "a-b-confusion.png"]
    # Each keeps its own, whichever of them are evaluated.
    before = (tmp_path / "a-b-confusion.png").read_bytes()
    write_assessment(tmp_path, found, {"a-b": assess(found, "a-b", baselines={})})
    assert (tmp_path / "a-b-confusion.png").read_bytes() == before


def test_cross_validations_side_by_side(found: CrossValidation, windows: LabelledWindows) -> None:
    trees = cross_validate(windows, {"trees": make_member("trees", trees=5)}, repeats=2, seed=1)
    both = beside(found, {"other": trees})
    assert list(both.members) == ["regression", "jade_compact", "trees (other)"]
    assert "trees (other)" in assess(both, "regression").differences
    # On windows of its own a member is called as one of another home would be.
    with pytest.raises(
        ConfigError,
        match=r"against: other has a model that would be called 'trees \(other\)', as one that there is already; give "
        "its directory another name",
    ):
        beside(both, {"other": trees})
    # What the encoder of either has seen is seen.
    mine, theirs = np.arange(40) < 10, np.arange(40) % 4 == 0
    known = {
        name: replace(one, truth=truth_of(windows, seen))
        for name, one, seen in (("mine", found, mine), ("theirs", trees, theirs))
    }
    for one, other, seen in (("mine", trees, mine), ("mine", known["theirs"], mine | theirs)):
        np.testing.assert_array_equal(beside(known[one], {"other": other}).truth.seen, seen)
    together = beside(found, {"other": known["theirs"]})
    assert assess(together, "regression").apart["seen"].windows == theirs.sum()
    assert not found.truth.seen.any()
    with pytest.raises(
        ConfigError, match="against: other has other folds; cross-validate both with the same --folds"
    ):
        beside(found, {"other": cross_validate(windows, {"a": Memoriser()}, repeats=2, seed=2)})
    with pytest.raises(
        ConfigError, match="against: other is of other labels; cross-validate both on the same file"
    ):
        beside(found, {"other": cross_validate(make_windows(seed=5), {"a": Memoriser()}, repeats=2, seed=1)})


# The commands


def run(*args: object) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def labels(windows: LabelledWindows, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "L.safetensors"
    windows.save(path)
    return path


def test_the_commands(labels: Path, tmp_path: Path) -> None:
    cv, averaged, stacked = (tmp_path / name for name in ("cv", "ensemble", "stack"))
    quick = ("--member", "regression", "--member", f"trees={labels}", "--set", "trees.trees=5", "--jobs", 1)
    quick = (*quick, "--permutations", 2)
    ran = run("cross-validate", "--labels", labels, "--output", cv, *quick, "--folds", 3, "--repeats", 2)
    assert ran.exit_code == 0, ran.output
    for text in (
        "windows     40 in 40 groups",
        "folds       3, 2 times",
        "macro-F1",
        "against majority class: better in macro-F1 (+0.",
        "; each fold by a temperature fitted on the others",
        "chance is what boosted_trees (L) gives, as the mean over 2 repeats, cross-validated with 2",
        "not shown to be better than with shuffled labels (",
    ):
        assert text in ran.stdout
    assert "shuffling labels for regression: 2 times, 18 fits …" in ran.stderr
    assert (cv / "boosted_trees-L-null-macro_f1.png").exists()
    # A line a baseline that has classes, and none of the other member.
    assert ran.stdout.count("against ") == 2 * 3
    assert "against boosted_trees (L)" not in ran.stdout
    kept = json.loads((cv / "evaluation.json").read_text())["models"]
    assert "boosted_trees (L)" in kept["regression"]["differences"]
    assert any("between regression and boosted_trees (L)" in line for line in kept["regression"]["sentences"])
    assert set(kept["regression"]["calibrated"]) == {"log_loss", "calibration_error"}
    record = json.loads((cv / "cross_validation.json").read_text())
    assert record["settings"]["members"]["boosted_trees (L)"]["parameters"] == {"seed": 17, "trees": 5}

    ran = run("ensemble", cv, "--output", averaged, "--jobs", 1, "--permutations", 2, "--json")
    assert ran.exit_code == 0, ran.output
    permutation = json.loads(ran.stdout)["models"]["regression ensemble"]["null"]
    assert len(permutation["macro_f1"]["scores"]) == 2

    ran = run("stack", "--labels", labels, "--output", stacked, *quick, "--folds", 2, "--inner-folds", 2)
    assert ran.exit_code == 0, ran.output
    assert "against majority class: better in macro-F1" in ran.stdout
    assert "chance is what stack gives, cross-validated with 2 shuffles" in ran.stdout

    ran = run("evaluate", stacked, "--model", "stack", "--permutations", 2, "--jobs", 1)
    assert ran.exit_code == 0, ran.output
    assert "chance is what stack gives, cross-validated with 2 shuffles of the labels: 36 fits" in ran.stdout

    other = tmp_path / "other"
    arguments = ("--labels", labels, "--member", "kernels", "--set", "kernels.kernels=50", "--jobs", 1)
    arguments = (*arguments, "--permutations", 0)
    assert run("cross-validate", *arguments, "--output", other, "--folds", 3, "--repeats", 2).exit_code == 0
    arguments = ("--against", other, "--permutations", 0, "--jobs", 1, "--json")
    ran = run("evaluate", cv, "--model", "regression", *arguments)
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert "against rocket (other): " in run("evaluate", cv, *arguments[:-1]).stdout
    # Nothing was shuffled anew, and nothing that was is lost; nor is the other model.
    assert found["models"]["regression"]["null"] == kept["regression"]["null"]
    now = json.loads((cv / "evaluation.json").read_text())["models"]
    assert now["boosted_trees (L)"]["scores"] == kept["boosted_trees (L)"]["scores"]
    assert "rocket (other)" in found["models"]["regression"]["differences"]
    assert found["files"] == [
        "evaluation.json",
        "regression-reliability.png",
        "regression-confusion.png",
        "regression-null-macro_f1.png",
    ]


def regressions(labels: Path, output: Path, *args: object) -> Any:
    members = ("--labels", labels, "--member", "regression", "--folds", 2, "--jobs", 1)
    return run("cross-validate", *members, "--output", output, *args)


def test_cross_validations_of_one_name_are_told_apart(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("r", "a/r", "b/r", "c"):
        assert regressions(labels, Path(name), "--permutations", 0).exit_code == 0
    evaluate = ("evaluate", "c", "--permutations", 0, "--jobs", 1, "--json")
    ran = run(*evaluate, "--against", "a/r", "--against", "b/r", "--against", "r")
    differences = json.loads(ran.stdout)["models"]["regression"]["differences"]
    assert {"regression (a/r)", "regression (b/r)", "regression (r)"} <= set(differences)
    assert (
        "regression (r)"
        in json.loads(run(*evaluate, "--against", "b/r").stdout)["models"]["regression"]["differences"]
    )
    for again in (("--against", "a/r", "--against", "./a/r"), ("--against", tmp_path / "c")):
        ran = run(*evaluate[:-1], *again)
        assert ran.exit_code == 2
        assert (
            ran.stderr == f"error: --against: {again[-1]} is given twice; give each cross-validation once\n"
        )


def test_members_are_found_from_another_directory(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(labels.parent)
    ran = regressions(
        Path(labels.name), tmp_path / "cv", "--member", f"trees={labels.name}", "--permutations", 0
    )
    assert ran.exit_code == 0, ran.output
    monkeypatch.chdir(tmp_path)
    ran = run("evaluate", "cv", "--model", "regression", "--permutations", 1, "--jobs", 1)
    assert ran.exit_code == 0, ran.output


def test_labels_that_cannot_be_shuffled_are_told(windows: LabelledWindows, tmp_path: Path) -> None:
    # Groups of 1, 2, … and 8 windows: none can exchange its labels with another.
    sizes = np.repeat(np.arange(8), np.arange(1, 9))
    replace(windows.take(np.arange(36)), groups=sizes).save(tmp_path / "L.safetensors")
    ran = regressions(tmp_path / "L.safetensors", tmp_path / "cv")
    assert ran.exit_code == 0, ran.output
    assert "labels were not shuffled: groups: are 8, no two of one size" in ran.stdout
    # What was made in Python has not said how.
    cross_validate(windows, {"a": make_member("regression")}, folds=2).save(tmp_path / "made")
    ran = run("evaluate", tmp_path / "made", "--jobs", 1)
    assert ran.exit_code == 0, ran.output
    assert (
        "labels were not shuffled: the cross-validation does not record how this model was made" in ran.stdout
    )


def test_runs_have_no_labels_to_shuffle(tmp_path: Path) -> None:
    ran = run("ensemble", tmp_path, tmp_path, "--output", tmp_path / "both", "--permutations", 5)
    assert ran.exit_code == 2
    assert ran.stderr == (
        "error: --permutations: are of a cross-validation, and runs are combined without any fit; leave them out\n"
    )
    assert not (tmp_path / "both").exists()


@pytest.mark.parametrize("command", ["cross-validate", "stack", "ensemble"])
def test_what_stands_there_is_refused_before_any_fit(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def never(*args: object, **options: object) -> None:
        raise AssertionError("fitted, or loaded")

    for name in ("cross_validate", "stack", "ensemble"):
        monkeypatch.setattr(f"moola.validation.{name}", never)
    (tmp_path / "file").write_text("mine")
    args = (tmp_path,) if command == "ensemble" else ("--labels", labels)
    ran = run(command, *args, "--output", tmp_path)
    assert ran.exit_code == 1
    assert ran.stderr == f"error: {tmp_path}: something stands there already. Choose another --output\n"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--member", "forest"), "error: --member: 'forest' is not a kind of model; give one of jade"),
        (
            ("--member", "trees", "--member", "trees"),
            "error: --member: boosted_trees is given twice; give each once",
        ),
        (("--member", "trees", "--set", "trees"), "error: --set: 'trees' is not KIND.KEY=VALUE, such as"),
        (
            ("--member", "trees", "--set", "jade.lr=1"),
            "error: --set: 'jade.lr=1' is of no member; give one of boosted_trees",
        ),
        (
            ("--member", "trees", "--set", "trees.x=1"),
            "error: --member: boosted_trees has no parameter 'x'; give some of",
        ),
        (
            ("--member", "trees", "--encoder", "run"),
            "error: --encoder: is of no use to these members; add jade or",
        ),
    ],
)
def test_commands_asked_wrongly(labels: Path, tmp_path: Path, args: tuple[str, ...], message: str) -> None:
    ran = run("cross-validate", "--labels", labels, "--output", tmp_path / "out", *args)
    assert ran.exit_code == 2
    assert ran.stderr.startswith(message)
    assert not (tmp_path / "out").exists()
