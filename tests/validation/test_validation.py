"""Cross-validation: out-of-fold predictions are out of fold for any members, windows and processes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from joblib import delayed, parallel_config
from labelled import make_windows
from validated import Memoriser, jade, of_lengths

import moola
from moola.devices.ranks import in_order
from moola.errors import (
    ConfigError,
    LeakError,
    SharedBarsError,
)
from moola.estimators import make_member
from moola.evaluation import Predictions
from moola.evaluation.leaks import FittedOn, MemorisingProbe
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
    ensemble,
    purged_folds,
    seen_windows,
    stack,
)

# One process makes what is made once per process.
pytestmark = pytest.mark.xdist_group("validation")


def test_a_memorising_model_recognises_no_test_window(windows: LabelledWindows) -> None:
    found = cross_validate(windows, {"memory": Memoriser()}, repeats=2)
    for said in found.predictions("memory"):
        assert said.probabilities is not None
        assert (said.probabilities == 0.5).all()


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


# Python 3.12 and later warn of every fork in a process with threads.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("backend", ["threading", "multiprocessing"])
def test_joblib_backends_give_the_same_bits_and_report(windows: LabelledWindows, backend: str) -> None:
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
        ConfigError, match="predictions: have no folds, so it is unknown whether they are out of fold"
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


def test_members_can_have_other_features(windows: LabelledWindows) -> None:
    silent = replace(windows, X=np.zeros_like(windows.X))
    members = {"sees": make_member("regression"), "blind": make_member("regression")}
    found = cross_validate(windows, members, other_windows={"blind": silent})
    sees, blind = (found.predictions(name)[0].probabilities for name in members)
    assert sees is not None
    assert blind is not None
    assert np.ptp(blind[:, 1]) < 0.2 < np.ptp(sees[:, 1])


class Recogniser(MemorisingProbe):
    """Fails on a window that shares bars with one that it was fitted on."""

    def predict_proba(self, X: np.ndarray, valid_mask: np.ndarray | None = None) -> np.ndarray:
        known = self.recognises(X, valid_mask)
        assert not known.any(), f"recognises {known.sum()} of {len(known)}"
        return super().predict_proba(X, valid_mask)


@pytest.mark.parametrize("run", [cross_validate, stack])
@pytest.mark.parametrize("own_groups", [True, False])
def test_longer_windows_of_a_member_are_purged(
    market: Path, run: Callable[..., CrossValidation], own_groups: bool
) -> None:
    short, long = of_lengths(market, 30, 105)
    assert len(np.unique(short.groups)) == 60
    if not own_groups:
        # Groups as in hand-made windows: purging must be enough.
        long = replace(long, groups=short.groups)
    members = {"short": make_member("regression"), "long": Recogniser()}
    found = run(short, members, folds=4, other_windows={"long": long}, seed=3)
    for train, test in found.splits[0]:
        assert_no_shared_bars(long.starts, long.ends, train, test)
    assert found.truth.n_groups == (20 if own_groups else 60)
    assert np.array_equal(found.windows.label_starts, long.starts)
    assert np.array_equal(found.windows.starts, short.starts)


@pytest.mark.parametrize("run", [cross_validate, stack])
def test_splits_that_leak_into_longer_windows_are_refused(
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


def test_longer_windows_count_for_embargoes_and_seen_bars(market: Path, tmp_path: Path) -> None:
    short, long = of_lengths(market, 30, 105)
    both = together(short, {"a": long})
    for train, test in purged_folds(both, 4, seed=0, embargo=200):
        after = long.starts[train][:, None] - long.ends[test]
        assert not ((after > 0) & (after <= 200)).any()
    times = moola.FeatureStore.open(market).timestamps
    # Bars before the first short window that both its long window and that of the second label contain.
    learned = SeenBars({"SIM1": [(int(times[long.starts[0]]), int(times[short.starts[0] - 1]))]})
    write_record(tmp_path / SEEN_BARS, learned.record())
    assert not seen_windows(tmp_path, short, market).any()
    assert np.flatnonzero(seen_windows(tmp_path, both, market)).tolist() == [0, 1]
    both.save(tmp_path / "both.safetensors")
    assert LabelledWindows.load(tmp_path / "both.safetensors").reach == 105
    # Splits are unchanged if the own window is the longest.
    assert together(long, {"a": short}).reach is None


def test_pre_cut_windows_are_kept_apart_by_the_groups_of_all_members() -> None:
    windows = make_windows(of_store=False)
    pairs = replace(windows, groups=np.arange(40) // 2)
    members = {"one": make_member("regression"), "two": make_member("regression")}
    found = cross_validate(windows, members, other_windows={"two": pairs})
    for train, test in found.splits[0]:
        assert not set(train // 2) & set(test // 2)


def test_windows_of_another_store_count_for_shared_bars(market: Path) -> None:
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


def test_an_encoder_is_compared_with_scratch(windows: LabelledWindows) -> None:
    config = load_config("jade_compact", ["model.architecture.hidden_size=8"])
    encoder = new_model(config.model, 2, seed=9).encoder
    seen = np.arange(40) < 10
    found = cross_validate(windows, {"jade": jade(encoder=encoder)}, folds=2, seen=seen)
    assert list(found.members) == ["jade", "jade from scratch"]
    evaluation = assess(found, "jade")
    assert "jade from scratch" in evaluation.differences
    assert {name: apart.windows for name, apart in evaluation.apart.items()} == {"unseen": 30, "seen": 10}


class NoEstimator:
    pass


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda w: cross_validate(w, {}), "members: is empty; give at least one model"),
        (
            lambda w: cross_validate(w, {"a": NoEstimator()}),
            "members: a is not a scikit-learn estimator; give one",
        ),
        (
            lambda w: cross_validate(w, {"a": Memoriser()}, other_windows={"b": w}),
            "other_windows: has 'b', which is not a member; give a member's name",
        ),
        (
            lambda w: cross_validate(w, {"a": Memoriser()}, other_windows={"a": make_windows(seed=1)}),
            "other_windows: of a are not the same windows with the same labels; import one file of labels with each",
        ),
        (
            lambda w: cross_validate(
                w, {"a": Memoriser()}, other_windows={"a": replace(w, window_length=20, spans=w.spans - 4)}
            ),
            "other_windows: of a have 20 bars and the others 24, so spans are counted from different bars; import "
            "both with the same --window-length",
        ),
        (
            lambda w: cross_validate(w, {"a": Memoriser()}, other_windows={"a": replace(w, store_id="")}),
            "other_windows: of a mixes windows of a store with pre-cut windows, so their shared bars are "
            "unknown; import both by reference to a store, or both raw",
        ),
        (
            lambda w: cross_validate(w, {"a": Memoriser()}, other_windows={"a": replace(w, ends=w.ends + 1)}),
            "other_windows: of a end at other rows: their store holds other bars, so shared bars cannot be "
            "counted; build both stores from the same bars",
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
            "members: has one named 'stack', which is the stack's own name; rename it",
        ),
        (
            lambda w: ensemble(cross_validate(w, {"a": Memoriser()})),
            "repeats: is 1, which leaves nothing to average; cross-validate with --repeats 2 or more",
        ),
    ],
)
def test_wrong_arguments_are_refused(
    windows: LabelledWindows, run: Callable[[Any], object], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        run(windows)
